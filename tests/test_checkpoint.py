"""A run that was stopped goes on from its checkpoint and ends as if nothing had happened, to the last bit."""

import json
import pkgutil
import shutil
import signal
import threading

import pytest
import torch
from checkpoint_runs import CELL, EVERY, SHORT, TOYS, checkpoint_in, curve_of, dies, finished, killed, left, run
from safetensors import safe_open

import seqbench
from seqbench.errors import Interrupted
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.training import CHECKPOINT

pytestmark = pytest.mark.usefixtures("short")


PAIRS = [  # every task at every budget, and both models with each of them
    (task, ("lstm", "transformer")[(i + j) % 2], budget)
    for i, task in enumerate(TOYS)
    for j, budget in enumerate(("quick", "standard", "full"))
]


@pytest.mark.parametrize(("task", "model", "budget"), PAIRS)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, undisturbed, task, model, budget):
    """Every checkpoint is gone on from once; at `full` also those of checks where nothing got better."""
    cell, every = {"task": task, "model": model, "budget": budget}, EVERY[budget]
    expected = undisturbed(**cell)
    steps = expected["counts"][0]
    assert 3 * every < steps < 198 if budget == "full" else steps == SHORT[budget].steps
    for check in range(every, steps, every):  # killed at the first step after it, or some steps later
        reported = killed(tmp_path, check + 1 + check % 3, **cell)
        assert reported[0] == check - every + 1 and list(Store(tmp_path).records(RunRecord)) == []
    outcome, reported = finished(tmp_path, **cell)
    assert reported == list(range(steps - every + 1, steps + 1))
    assert left(outcome) == expected and outcome.record.cost.interrupted
    assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]


@pytest.mark.parametrize("model", ["gru", "bilstm"])
def test_a_regularised_run_that_was_killed_ends_as_one_that_was_not(tmp_path, undisturbed, model):
    """All masks come from one generator, whose state is kept; of two layers and directions, beside dropout."""
    cell = {"model": model, "dropout": 0.0, "recurrent_dropout": 0.3, "zoneout": (0.2,), "max_norm": 0.7}
    expected = undisturbed(**cell)
    assert expected["metrics"] != undisturbed(**{**cell, "zoneout": ()})["metrics"]
    for check in (10, 30):
        killed(tmp_path, check + 2, **cell)
    outcome, reported = finished(tmp_path, **cell)
    assert reported[0] == 31 and left(outcome) == expected


MOMENTS = [  # which call of what dies, and the check that the next run goes on from
    ("report", 1, 0),
    ("report", 9, 0),
    ("report", 10, 0),  # the check itself comes after the report of its step
    ("report", 11, 10),
    ("report", 20, 10),
    ("report", 60, 50),
    ("seqbench.training.evaluate", 1, 0),
    ("seqbench.training.evaluate", 3, 20),
    ("seqbench.training.to_safetensors", 1, 0),
    ("seqbench.training.to_safetensors", 4, 30),
    ("seqbench.experiment._Run.finish", 1, 60),
    ("seqbench.experiment.to_safetensors", 1, 60),
    ("seqbench.jobs.store.Store.publish", 1, 60),
]


@pytest.mark.parametrize(("what", "call", "check"), MOMENTS)
def test_whatever_a_kill_interrupts_the_end_is_the_same(tmp_path, undisturbed, monkeypatch, what, call, check):
    if what == "report":
        killed(tmp_path, call)
    else:
        with monkeypatch.context() as patch:
            dies(patch, what, call)
            killed(tmp_path, None)
    assert len(list(tmp_path.rglob("*.safetensors"))) == (check > 0) and not list(tmp_path.rglob(".tmp-*"))
    before = torch.get_rng_state()
    outcome, reported = finished(tmp_path)
    assert reported == list(range(check + 1, 61))
    assert left(outcome) == undisturbed()
    assert outcome.record.cost.interrupted == (check > 0)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's


def test_a_run_killed_when_its_patience_has_just_run_out_trains_no_more(tmp_path, undisturbed, monkeypatch):
    expected = undisturbed(budget="full")
    with monkeypatch.context() as patch:
        dies(patch, "seqbench.experiment._Run.finish", 1)
        assert len(killed(tmp_path, None, budget="full")) == expected["counts"][0] < 198
    outcome, reported = finished(tmp_path, budget="full")
    assert reported == [] and left(outcome) == expected and outcome.record.cost.interrupted


def pressed(times=1):
    """Ctrl-C."""
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def stopped(out, at, says, times=1, **config):
    """Run up to the report of step ``at``, at which Ctrl-C is pressed."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=says):
        run(out, lambda step, loss: pressed(times) if step == at else None, **config)
    assert signal.getsignal(signal.SIGINT) is handler and not list(out.rglob(".tmp-*"))


@pytest.mark.parametrize("budget", ["quick", "standard", "full"])
@pytest.mark.parametrize("task", TOYS)
def test_ctrl_c_at_any_step_keeps_that_step_and_the_losses_since_the_check(tmp_path, undisturbed, task, budget):
    """Numbers and curve are those of an undisturbed run, wherever it was stopped, and however often."""
    cell = {"task": task, "model": "lstm", "budget": budget}
    last = 0
    for at in (1, 4, 9, 10, 13, 18, 19):
        stopped(tmp_path, at, rf"interrupted at step {at} of \d+; .* The same command goes on from there\.$", **cell)
        with safe_open(checkpoint_in(tmp_path), "pt") as file:
            counts = json.loads(file.metadata()["counts"])
        assert counts["fit"]["steps"] == counts["fit"]["saved"] == at > last
        assert counts["losses"] == at % EVERY[budget]
        last = at
    lines, steps = [], []
    outcome, reported = finished(tmp_path, say=lines.append, begin=lambda *given: steps.append(given), **cell)
    assert reported[0] == 20 and left(outcome) == undisturbed(**cell) and outcome.record.cost.interrupted
    total = SHORT[budget].steps
    assert f"going on from step 19 of {total}" in lines and steps == [(total, 19)]


def test_ctrl_c_while_validation_is_read_or_at_the_last_step_is_not_lost(tmp_path, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        presses(patch, "seqbench.training.evaluate", 3)
        with pytest.raises(Interrupted, match=r"step 30 of 60.*from there"):
            run(tmp_path)
    stopped(tmp_path, 60, "step 60 of 60.*from there")
    outcome, reported = finished(tmp_path)
    assert reported == [] and left(outcome) == undisturbed()


@pytest.mark.parametrize("share", [float("inf"), 0.0])
def test_ctrl_c_after_training_says_from_where_the_command_goes_on(tmp_path, undisturbed, monkeypatch, share):
    monkeypatch.setattr("seqbench.training.CHECKPOINT_SHARE", share)
    stopped(tmp_path, 37, "step 37")
    says = "interrupted at step 60 of 60; .* goes on " + ("from there" if share else "from step 37")
    with monkeypatch.context() as patch:
        presses(patch, "seqbench.experiment._Run.finish", 1)
        with pytest.raises(Interrupted, match=says):
            run(tmp_path)
    outcome, reported = finished(tmp_path)
    assert reported == ([] if share else list(range(38, 61))) and left(outcome) == undisturbed()


def presses(patch, target, call):
    """Ctrl-C in the ``call``-th call of the function ``target``."""
    where, _, name = target.rpartition(".")
    owner, calls = pkgutil.resolve_name(where), []
    function = getattr(owner, name)

    def pressing(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            pressed()
        return function(*args, **kwargs)

    patch.setattr(owner, name, pressing)


def test_a_second_ctrl_c_does_not_wait_for_the_step(tmp_path, undisturbed):
    stopped(tmp_path, 37, "step 37 of 60; .* goes on from step 30", times=2)
    outcome, reported = finished(tmp_path)
    assert reported[0] == 31 and left(outcome) == undisturbed()


def test_ctrl_c_at_smoke_keeps_nothing_and_promises_nothing(tmp_path, undisturbed):
    stopped(tmp_path, 13, "interrupted at step 13 of 20; .* The same command starts again", budget="smoke")
    assert list(tmp_path.rglob("*")) == []
    outcome, reported = finished(tmp_path, budget="smoke")
    assert reported == list(range(1, 21)) and left(outcome) == undisturbed(budget="smoke")


def test_where_ctrl_c_is_ignored_or_in_a_thread_its_handler_stays(tmp_path):
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        reported = []
        run(tmp_path / "ignored", lambda step, loss: (reported.append(step), pressed()), budget="smoke")
        assert reported == list(range(1, 21)) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, ignored)
    seen = []
    report = lambda step, loss: seen.append(signal.getsignal(signal.SIGINT))  # noqa: E731
    thread = threading.Thread(target=run, args=(tmp_path / "thread", report), kwargs={"budget": "smoke"})
    thread.start()
    thread.join()
    assert set(seen) == {ignored} and len(seen) == 20


@pytest.mark.parametrize(("write", "expected"), [(0.005, 6), (0.15, 4), (0.55, 1), (2.0, 1)])
def test_checkpoints_take_less_than_a_hundredth_of_the_time(tmp_path, monkeypatch, write, expected):
    """A clock by which a step takes a second and a checkpoint ``write`` seconds."""
    monkeypatch.setattr("seqbench.training.CHECKPOINT_SHARE", 0.01)
    monkeypatch.setattr("seqbench.training.FIRST_WRITE", (0.09, 1e12))
    laps, saves = [], []

    def lap(clock):
        seconds, laps[:] = (laps or [1.0])[0], []
        return seconds, 0.0

    def save(checkpoint, tensors, counts):
        saves.append(counts["fit"]["steps"])
        laps[:] = [write]

    monkeypatch.setattr("seqbench.training._Clock.lap", lap)
    monkeypatch.setattr("seqbench.training.Checkpoint.save", save)
    run(tmp_path, report=lambda step, loss: None)
    assert len(saves) == expected and saves[0] == 10
    assert write * (len(saves) - 1) <= 0.01 * 66  # the first could not be known


def test_points_of_the_curve_carry_the_seconds_of_training_over_all_starts(tmp_path, monkeypatch):
    """With a clock that says one second a lap, and a lap a step; what validation takes does not count."""
    monkeypatch.setattr("seqbench.training._Clock.lap", lambda clock: (1.0, 0.5))
    killed(tmp_path, 27)
    stopped(tmp_path, 33, "step 33")
    outcome, _ = finished(tmp_path)
    assert [(point["step"], point["seconds"]) for point in curve_of(outcome)] == [
        (10 * i, 10.0 * i) for i in range(1, 7)
    ]
    monkeypatch.undo()
    outcome = run(tmp_path / "real", budget="smoke")
    seconds = [point["seconds"] for point in curve_of(outcome)]
    assert seconds == sorted(seconds) and seconds[0] > 0 and seconds[-1] == outcome.record.cost.train_seconds


def test_seconds_of_all_starts_are_counted_and_each_step_once(tmp_path, monkeypatch):
    """With a clock that says one second (and half a second of computing) a lap, and a lap a step."""
    monkeypatch.setattr("seqbench.training._Clock.lap", lambda clock: (1.0, 0.5))
    for at in (15, 27, 58):
        killed(tmp_path, at)
    outcome, reported = finished(tmp_path)
    cost = outcome.record.cost
    assert len(reported) == 10 and cost.interrupted
    assert (cost.steps, cost.train_seconds, cost.cpu_seconds) == (60, 60.0, 30.0)
    assert cost.samples_per_second == 16.0 and 6.0 < cost.eval_seconds < 60.0
    assert cost.peak_memory_bytes > 0


def test_smoke_leaves_no_checkpoint_and_starts_again(tmp_path, undisturbed):
    killed(tmp_path, 16, budget="smoke")
    assert list(tmp_path.rglob("*")) == []
    outcome, reported = finished(tmp_path, budget="smoke")
    assert reported == list(range(1, 21)) and not outcome.record.cost.interrupted
    assert left(outcome) == undisturbed(budget="smoke")


def test_force_starts_anew(tmp_path, undisturbed):
    killed(tmp_path, 35)
    assert killed(tmp_path, 5, force=True)[0] == 1
    assert not list(tmp_path.rglob(CHECKPOINT))
    killed(tmp_path, 35)
    outcome, reported = finished(tmp_path, force=True)
    assert reported[0] == 1 and not outcome.record.cost.interrupted and left(outcome) == undisturbed()
    assert killed(tmp_path, 35, force=True)[0] == 1  # and with a result that stands
    assert run(tmp_path).stored
    again, reported = finished(tmp_path, force=True)
    assert reported[0] == 1 and again.folder.name == "run-2" and left(again) == undisturbed()


def test_a_forced_run_that_was_interrupted_goes_on_with_force_alone(tmp_path, undisturbed):
    for number in (1, 2, 3):  # without a result, and with one
        stopped(tmp_path, 37, r"step 37 of 60; .* The same command goes on from there\.$", force=True)
        assert killed(tmp_path, 45, force=True)[0] == 38
        outcome, reported = finished(tmp_path, force=True)
        assert reported[0] == 41 and outcome.record.cost.interrupted and left(outcome) == undisturbed()
        assert outcome.folder.name == f"run-{number}" and not list(tmp_path.rglob(CHECKPOINT))
    killed(tmp_path, 35, force=True)
    path = checkpoint_in(tmp_path)
    kept = path.read_bytes()
    assert finished(tmp_path, force=True)[1][0] == 31
    path.write_bytes(kept)  # of the run that stands now
    assert finished(tmp_path, force=True)[1][0] == 1


@pytest.mark.parametrize("grid", [False, True])
def test_a_stored_result_needs_no_checkpoint(tmp_path, monkeypatch, grid):
    def again():
        if not grid:
            return run(tmp_path).stored
        options = {name: value for name, value in CELL.items() if name not in ("task", "model")}
        return seqbench.run(CELL["task"], [CELL["model"]], **options, learning_rate=0.03, out=tmp_path, progress=False)

    run(tmp_path)
    killed(tmp_path, 35, force=True)
    with monkeypatch.context() as patch:
        dies(patch, "pathlib.Path.unlink", 1, PermissionError(13, "read-only"))
        assert again()
    assert checkpoint_in(tmp_path)
    assert again() and not list(tmp_path.rglob(CHECKPOINT))
    assert len(list(tmp_path.rglob("record.json"))) == 1


def test_a_checkpoint_is_no_run(tmp_path):
    killed(tmp_path)
    path = checkpoint_in(tmp_path)
    store = Store(tmp_path)
    assert list(store.records(RunRecord)) == [] and store.runs(path.parent) == []
    outcome = run(tmp_path, seed=1)
    assert [folder for _, folder in store.records(RunRecord)] == [outcome.folder]
    shutil.copy(path, outcome.folder.parent)
    assert [folder for _, folder in store.records(RunRecord)] == store.runs(outcome.folder.parent) == [outcome.folder]
    assert run(tmp_path, seed=1).stored


def test_a_run_that_failed_leaves_no_checkpoint_and_is_tried_from_the_start(tmp_path, undisturbed):
    def crash(step, loss):
        if step == 25:
            raise RuntimeError("no such luck")

    assert run(tmp_path, crash).record.status == "error"
    assert not list(tmp_path.rglob(CHECKPOINT))
    outcome, reported = finished(tmp_path)
    assert reported[0] == 1 and not outcome.record.cost.interrupted
    assert outcome.folder.name == "run-2" and left(outcome) == undisturbed()

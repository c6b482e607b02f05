"""A long run that was killed goes on from its checkpoint and ends as if nothing had happened, to the last bit."""

import shutil

import pytest
import torch
from checkpoint_runs import EVERY, TOYS, checkpoint_in, dies, finished, killed, left, run

from seqbench.errors import Interrupted
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.training import CHECKPOINT

pytestmark = pytest.mark.usefixtures("short")


@pytest.mark.parametrize("budget", ["standard", "full"])
@pytest.mark.parametrize("model", ["lstm", "transformer"])
@pytest.mark.parametrize("task", TOYS)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, undisturbed, task, model, budget):
    """Every checkpoint is gone on from once; at `full` also those of checks where nothing got better."""
    cell, every = {"task": task, "model": model, "budget": budget}, EVERY[budget]
    expected = undisturbed(**cell)
    steps = expected["counts"][0]
    assert steps == 60 if budget == "standard" else 3 * every < steps < 198
    for check in range(every, steps, every):  # killed at the first step after it, or some steps later
        reported = killed(tmp_path, check + 1 + check % 3, **cell)
        assert reported[0] == check - every + 1 and list(Store(tmp_path).records(RunRecord)) == []
    outcome, reported = finished(tmp_path, **cell)
    assert reported == list(range(steps - every + 1, steps + 1))
    assert left(outcome) == expected and outcome.record.cost.interrupted
    assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]


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


def test_ctrl_c_keeps_the_checkpoint(tmp_path, undisturbed):
    def interrupt(step, loss):
        if step == 37:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="step 37 of 60"):
        run(tmp_path, interrupt)
    outcome, reported = finished(tmp_path)
    assert reported[0] == 31 and left(outcome) == undisturbed()


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


@pytest.mark.parametrize("budget", ["smoke", "quick"])
def test_short_budgets_leave_no_checkpoint_and_start_again(tmp_path, undisturbed, budget):
    killed(tmp_path, 16, budget=budget)
    assert list(tmp_path.rglob("*")) == []
    outcome, reported = finished(tmp_path, budget=budget)
    assert reported == list(range(1, 21)) and not outcome.record.cost.interrupted
    assert left(outcome) == undisturbed(budget=budget)


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

"""A long run that was killed goes on from its checkpoint and ends as if nothing had happened, to the last bit."""

import json
import multiprocessing
import pickle
import pkgutil
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

from seqbench.cell import run_cell
from seqbench.checkpoint import CHECKPOINT, Checkpoint
from seqbench.config import RunConfig
from seqbench.errors import Interrupted
from seqbench.plan import Listener
from seqbench.registry import TASKS
from seqbench.store import Store
from seqbench.task import Budget

TOYS = ["toy-first", "toy-wave", "toy-text"]
SHORT = {
    "smoke": Budget(steps=20, batch_size=16, evaluations=4),
    "quick": Budget(steps=20, batch_size=16, evaluations=4),
    "standard": Budget(steps=60, batch_size=16, evaluations=6),
    "full": Budget(steps=198, batch_size=16, evaluations=22, patience=2),
}
EVERY = {"standard": 10, "full": 9}  # steps from one check to the next
RATES = {"full": 1.0}  # it warms up over 1000 steps
CELL = {"task": "toy-first", "model": "lstm", "budget": "standard", "hidden": (16,), "layers": 2, "dropout": 0.3}


class Killed(BaseException):
    """What nothing catches, so that a run ends wherever it is."""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for task in TOYS:
        for name, budget in SHORT.items():
            monkeypatch.setitem(TASKS.get(task).budgets, name, budget)


def run(out, report=lambda step, loss: None, force=False, **config):
    rate = RATES.get(config.get("budget"), 0.03)
    chosen = RunConfig(**{**CELL, "learning_rate": rate, **config})
    return run_cell(chosen, Store(out), force=force, listener=Listener(report=report))


def killed(out, at=15, **config):
    """Run up to the report of step ``at``; returns the steps that were reported."""
    steps = []

    def report(step, loss):
        steps.append(step)
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        run(out, report, **config)
    return steps


def finished(out, **config):
    """The run's outcome and the steps that were reported."""
    steps = []
    return run(out, lambda step, loss: steps.append(step), **config), steps


def checkpoint_in(out):
    (path,) = out.rglob(CHECKPOINT)
    return path


def left(outcome):
    """All of a run that must be the same again."""
    record, folder = outcome.record, outcome.folder
    found = {name: getattr(record, name) for name in ("key", "status", "metrics", "primary", "baselines", "skill")}
    cost = record.cost
    rates = cost.samples_per_second, cost.tokens_per_second
    found["counts"] = cost.steps, *(round(rate * cost.train_seconds) for rate in rates)
    found["files"] = sorted(path.name for path in folder.iterdir())
    for name in ("curve.jsonl", "model.safetensors", "leave-one-out.npy", "sample.txt"):
        found[name] = (folder / name).read_bytes() if name in found["files"] else None
    with np.load(folder / "predictions.npz") as kept:
        found |= {name: (kept[name].dtype, kept[name].shape, kept[name].tobytes()) for name in kept.files}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """``undisturbed(task=..., model=...)`` is what that cell leaves where nothing goes wrong."""
    made = {}

    def find(**config):
        key = tuple(sorted(config.items()))
        if key not in made:
            outcome = run(tmp_path_factory.mktemp("undisturbed"), **config)
            assert outcome.record.status == "ok" and not outcome.record.cost.interrupted
            assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]
            made[key] = left(outcome)
        return made[key]

    return find


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
        assert reported[0] == check - every + 1 and list(Store(tmp_path).records()) == []
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
    ("seqbench.train.evaluate", 1, 0),
    ("seqbench.train.evaluate", 3, 20),
    ("seqbench.checkpoint.to_safetensors", 1, 0),
    ("seqbench.checkpoint.to_safetensors", 4, 30),
    ("seqbench.outcome.Writer.finish", 1, 60),
    ("seqbench.outcome.to_safetensors", 1, 60),
    ("seqbench.store.Store.publish", 1, 60),
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


def dies(patch, target, call, error=Killed):
    """The ``call``-th call of the function ``target`` raises ``error``."""
    where, _, name = target.rpartition(".")
    owner, calls = pkgutil.resolve_name(where), []
    function = getattr(owner, name)

    def dying(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise error
        return function(*args, **kwargs)

    patch.setattr(owner, name, dying)


def test_a_run_killed_when_its_patience_has_just_run_out_trains_no_more(tmp_path, undisturbed, monkeypatch):
    expected = undisturbed(budget="full")
    with monkeypatch.context() as patch:
        dies(patch, "seqbench.outcome.Writer.finish", 1)
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
    monkeypatch.setattr("seqbench.train._Clock.lap", lambda clock: (1.0, 0.5))
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
    assert list(store.records()) == [] and store.runs(path.parent) == []
    outcome = run(tmp_path, seed=1)
    assert [folder for _, folder in store.records()] == [outcome.folder]
    shutil.copy(path, outcome.folder.parent)
    assert [folder for _, folder in store.records()] == store.runs(outcome.folder.parent) == [outcome.folder]
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


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_its_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def flipped_in_the_weights(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def flipped_in_the_counts(path):
    content = path.read_bytes()
    assert content.count(rb"\"steps\": 10,") == 1
    path.write_bytes(content.replace(rb"\"steps\": 10,", rb"\"steps\": 11,"))


def of_another_seed(path):
    out = path.parents[4]
    killed(out / "other", seed=1)
    shutil.copy(checkpoint_in(out / "other"), path)


def of_a_model_that_is_as_large(path):
    out = path.parents[4]
    killed(out / "other", learning_rate=0.02)
    shutil.copy(checkpoint_in(out / "other"), path)


def of_other_contents(path):
    save_file({"model.weight": torch.zeros(3)}, path)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def a_pickle(path):
    path.write_bytes(pickle.dumps(Trap()))


def a_pickle_of_torch(path):
    torch.save({"model": Trap()}, path)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        without_its_last_byte,
        empty,
        gone,
        flipped_in_the_weights,
        flipped_in_the_counts,
        of_another_seed,
        of_a_model_that_is_as_large,
        of_other_contents,
        a_pickle,
        a_pickle_of_torch,
    ],
)
def test_a_checkpoint_that_is_not_what_was_saved_is_not_used(tmp_path, undisturbed, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    killed(out)
    damage(checkpoint_in(out))
    outcome, reported = finished(out)
    assert reported[0] == 1 and not outcome.record.cost.interrupted
    assert left(outcome) == undisturbed()
    assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("what", "other"), [("torch.__version__", "9.0.0"), ("device_name", lambda device: "an abacus")]
)
def test_a_checkpoint_of_another_torch_or_machine_is_not_used(tmp_path, undisturbed, monkeypatch, what, other):
    with monkeypatch.context() as patch:
        patch.setattr(f"seqbench.checkpoint.{what}", other)
        killed(tmp_path)
        assert killed(tmp_path)[0] == 11  # there it would be
    outcome, reported = finished(tmp_path)
    assert reported[0] == 1 and not outcome.record.cost.interrupted and left(outcome) == undisturbed()


@pytest.fixture
def small(tmp_path):
    """A checkpoint of a few numbers."""
    checkpoint = Checkpoint(tmp_path / "cell" / CHECKPOINT, "key", torch.device("cpu"))
    tensors = {"model.a": torch.randn(3, 2), "best.a": torch.zeros(0, 4), "count.0": torch.tensor(7.0)}
    tensors |= {
        "model.half": torch.randn(3).bfloat16(),
        "model.odd": torch.randn(4, 3).T,
        "model.is": torch.ones(2) > 0,
    }
    counts = {
        "fit": {"steps": 20, "train_seconds": 0.1 + 0.2, "curve": [{"step": 10, "val": 1e-17}]},
        "best": [None, 1],
    }
    checkpoint.save(tensors, counts)
    return checkpoint, tensors, counts


def test_what_is_loaded_is_what_was_saved_and_the_generator_goes_on(small):
    checkpoint, tensors, counts = small
    drawn = torch.rand(5)
    found = checkpoint.load()
    assert torch.equal(torch.rand(5), drawn)
    with checkpoint.path.open("r+b") as file:  # the very file that was read, not one in its place
        file.write(bytes(checkpoint.path.stat().st_size))
    assert found[1] == counts and found[0].keys() == tensors.keys()
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)
    assert all(found[0][name].dtype == tensors[name].dtype for name in tensors)
    assert [path.name for path in checkpoint.path.parent.iterdir()] == [CHECKPOINT]
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


def test_no_flipped_bit_changes_what_is_loaded(small):
    """Many of the header, where the counts are, and some others; the caller's generator is not touched."""
    checkpoint, tensors, counts = small
    content, before = checkpoint.path.read_bytes(), torch.get_rng_state()
    header = 8 + int.from_bytes(content[:8], "little")
    rest = random.Random(0).sample(range(8 * header, 8 * len(content)), 200)
    shape = 8 * content.index(b"[0,4]")  # of a tensor without elements, which any other shape would fit as well
    for bit in [*range(0, 8 * header, 11), *range(shape, shape + 40), *rest]:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        checkpoint.path.write_bytes(changed)
        found = checkpoint.load()
        if found is None:
            assert torch.equal(torch.get_rng_state(), before), bit
        else:  # a bit that means nothing, a blank say
            assert bit < 8 * header and found[1] == counts and found[0].keys() == tensors.keys(), bit
            assert all(torch.equal(found[0][name], tensors[name]) for name in tensors), bit


def test_a_checkpoint_is_safetensors_and_json_alone(tmp_path):
    killed(tmp_path)
    path = checkpoint_in(tmp_path)
    with safetensors.safe_open(path, "pt") as file:
        about = file.metadata()
    assert about.keys() == {"mark", "counts", "sha256"}
    counts = json.loads(about["counts"])
    assert counts["fit"]["steps"] == 10 and [point["step"] for point in counts["fit"]["curve"]] == [10]
    names = {name.partition(".")[0] for name in load_file(path)}
    assert names == {"model", "best", "mean", "square", "count", "generator"}


def test_a_save_that_fails_leaves_the_one_before(small, monkeypatch):
    checkpoint, tensors, counts = small
    content = checkpoint.path.read_bytes()
    for target in ("os.fsync", "pathlib.Path.replace", "seqbench.checkpoint.to_safetensors"):
        with monkeypatch.context() as patch:
            dies(patch, target, 1, OSError(28, "No space left on device"))
            with pytest.raises(OSError, match="No space left"):
                checkpoint.save(tensors, {})
        assert [path.name for path in checkpoint.path.parent.iterdir()] == [CHECKPOINT]
    assert checkpoint.path.read_bytes() == content and checkpoint.load()[1] == counts


def test_what_a_killed_run_has_left_lying_is_in_nobodys_way(tmp_path, undisturbed):
    killed(tmp_path)
    path = checkpoint_in(tmp_path)
    (path.parent / ".tmp-abc").write_bytes(path.read_bytes()[:999])
    (path.parent / ".tmp-xyz").mkdir()
    (path.parent / ".tmp-xyz" / "curve.jsonl").write_text("{")
    outcome, reported = finished(tmp_path)
    assert reported[0] == 11 and left(outcome) == undisturbed()
    assert [folder for _, folder in Store(tmp_path).records()] == [outcome.folder]


def test_a_folder_that_cannot_be_written_is_not_the_models_failure(tmp_path):
    def block(step, loss):
        if step == 10:
            (cell,) = tmp_path.glob("*/*/*")
            shutil.rmtree(cell)
            cell.write_text("in the way")

    with pytest.raises(OSError, match="exists"):
        run(tmp_path, block)
    assert list(Store(tmp_path).records()) == []


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(tmp_path, undisturbed):
    """A file system that the first checkpoint fits on and a second beside it does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or mount(disk, "size=3m"):
        pytest.skip("no small file system can be mounted here")
    cell = {"hidden": (128,), "layers": 1}
    try:
        with pytest.raises(OSError, match="No space left on device"):
            run(disk / "out", **cell)
        path = checkpoint_in(disk)
        assert [found for found in disk.rglob("*") if found.is_file()] == [path] and path.stat().st_size / 2**20 > 1.5
        assert mount(disk, "remount,size=30m") == 0
        outcome, reported = finished(disk / "out", **cell)
        assert reported[0] == 11 and left(outcome) == undisturbed(**cell)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mount(disk, options):
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True).returncode


def saved(out):
    """What tells one checkpoint in ``out`` from the next."""
    try:
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob(CHECKPOINT)]
    except OSError:  # removed at this moment
        return []


def kill(process, out, within):
    """SIGKILL up to ``within`` seconds after ``process`` has saved a checkpoint (or has ended)."""
    before, end = saved(out), time.monotonic() + 100
    while saved(out) == before and process.exitcode is None and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(random.uniform(0, within))
    process.kill()
    process.join()


def test_a_command_killed_at_random_moments_ends_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.undo()  # the budgets as another process has them
    cell = {**CELL, "hidden": (32,), "learning_rate": 0.03}
    named = {name: ",".join(map(str, value)) if name == "hidden" else value for name, value in cell.items()}
    words = [sys.executable, str(ROOT / "run_bench.py"), "--plugin", str(ROOT / "tests" / "toys.py")]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]
    expected, out = left(run(tmp_path / "undisturbed", **cell)), tmp_path / "out"
    for _ in range(2):
        process = Command([*words, f"--out={out}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill(process, out, 0.3)
    stood = len(list(Store(out).records()))  # were this machine so fast
    done = subprocess.run([*words, f"--out={out}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome = run(out, **cell)
    assert outcome.stored and left(outcome) == expected
    assert stood or outcome.record.cost.interrupted


class Command(subprocess.Popen):
    """With the words of `multiprocessing`."""

    exitcode = property(subprocess.Popen.poll)
    join = subprocess.Popen.wait


@pytest.mark.skipif(torch.cuda.is_available(), reason="autograd does not survive a fork where there is a GPU")
@pytest.mark.parametrize("budget", ["standard", "full"])
def test_a_process_killed_many_times_ends_with_the_same_numbers(tmp_path, undisturbed, budget):
    """Kills within a step's time or two of a save: in it, before it, after it."""
    cell, context = {"task": "toy-wave", "model": "transformer", "budget": budget}, multiprocessing.get_context("fork")
    expected, kills = undisturbed(**cell), 0
    while not list(Store(tmp_path).records()) and kills < 12:
        process = context.Process(target=run, args=(tmp_path,), kwargs=cell)
        process.start()
        kill(process, tmp_path, 0.02)
        kills += 1
    outcome, _ = finished(tmp_path, **cell)
    assert left(outcome) == expected and (outcome.record.cost.interrupted or kills == 1)
    left_lying = {path.name.partition("-")[0] for path in outcome.folder.parent.iterdir()}
    assert left_lying <= {"run", ".tmp", CHECKPOINT}

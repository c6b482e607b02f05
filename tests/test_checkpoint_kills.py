"""Processes killed at random moments, folders in the way, full disks: only what came after the last save is lost."""

import multiprocessing
import random
import shutil
import subprocess
import sys
import time

import pytest
import torch
from checkpoint_runs import CELL, checkpoint_in, finished, killed, left, run
from conftest import ROOT

from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.training import CHECKPOINT

pytestmark = pytest.mark.usefixtures("short")


def test_what_a_killed_run_has_left_lying_is_in_nobodys_way(tmp_path, undisturbed):
    killed(tmp_path)
    path = checkpoint_in(tmp_path)
    (path.parent / ".tmp-abc").write_bytes(path.read_bytes()[:999])
    (path.parent / ".tmp-xyz").mkdir()
    (path.parent / ".tmp-xyz" / "curve.jsonl").write_text("{")
    outcome, reported = finished(tmp_path)
    assert reported[0] == 11 and left(outcome) == undisturbed()
    assert [folder for _, folder in Store(tmp_path).records(RunRecord)] == [outcome.folder]


def test_a_folder_that_cannot_be_written_is_not_the_models_failure(tmp_path):
    def block(step, loss):
        if step == 10:
            (cell,) = tmp_path.glob("*/*/*")
            shutil.rmtree(cell)
            cell.write_text("in the way")

    with pytest.raises(OSError, match="exists"):
        run(tmp_path, block)
    assert list(Store(tmp_path).records(RunRecord)) == []


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
    stood = len(list(Store(out).records(RunRecord)))  # were this machine so fast
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
    while not list(Store(tmp_path).records(RunRecord)) and kills < 12:
        process = context.Process(target=run, args=(tmp_path,), kwargs=cell)
        process.start()
        kill(process, tmp_path, 0.02)
        kills += 1
    outcome, _ = finished(tmp_path, **cell)
    assert left(outcome) == expected and (outcome.record.cost.interrupted or kills == 1)
    left_lying = {path.name.partition("-")[0] for path in outcome.folder.parent.iterdir()}
    assert left_lying <= {"run", ".tmp", CHECKPOINT}

"""Grids through the real command line: what they survive, what they leave, and that they end with the same board."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from board_records import board
from conftest import ROOT
from safetensors import safe_open

import seqbench
from seqbench.cli.run import GridOptions
from seqbench.jobs.pool import LAST_SECONDS, LocalProcesses
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.rates import RATES, chosen_rate, next_trials
from seqbench.training import CHECKPOINT

TOYS, BROKEN = ROOT / "tests" / "toys.py", ROOT / "tests" / "broken_models.py"
SMALL = ("--plugin", TOYS, "--budget", "smoke", "--hidden", "8", "--jobs", "2")


def records(out):
    return [record for record, _ in Store(out).records(RunRecord)]


def quality(out):
    return board([Path(out)], "markdown", "quality", Path(out))


def started(*words, cwd):
    command = [sys.executable, str(ROOT / "run_bench.py"), *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers(out):
    """Processes of cells that write into ``out``, from what the system knows of them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, folder = (path / "cmdline").read_bytes(), (path / "cwd").resolve()
        except OSError:
            continue
        if b"seqbench.jobs.pool" in command and folder == Path(out).parent.resolve():
            found.append(int(path.name))
    return found


def test_a_grid_leaves_a_record_of_every_cell_and_is_extended_by_what_is_new(cli, tmp_path):
    first = cli("--task", "toy-wave,toy-text", "--model", "rnn,bilstm", *SMALL, "--out", "out")
    assert first.returncode == 0, first.stderr
    assert "grid: 4 cells, 0 with results, 4 to run, 2 at once" in first.stderr
    assert "4 of 4 cells, 0 failed" in first.stderr and "1 not applicable" in first.stdout
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    more = cli("--task", "toy-wave", "--model", "rnn,gru,bilstm", "--seeds", "2", *SMALL, "--out", "out")
    assert "grid: 6 cells, 2 with results, 4 to run" in more.stderr and more.returncode == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(records(tmp_path / "out")) == 8


def test_a_cell_of_a_grid_is_the_cell_that_runs_alone(cli, tmp_path):
    cli("--task", "toy-first", "--model", "lstm,gru", *SMALL, "--out", "grid")
    for model in ("lstm", "gru"):
        seqbench.run("toy-first", model, budget="smoke", hidden=(8,), out=tmp_path / "alone")
    for one, other in zip(records(tmp_path / "grid"), records(tmp_path / "alone"), strict=True):
        assert (one.key, one.metrics, one.baselines) == (other.key, other.metrics, other.baselines)


def test_a_grid_that_is_killed_twenty_times_ends_with_the_board_of_an_undisturbed_one(tmp_path):
    """SIGKILL at random moments, while the grid is extended seed by seed."""
    dice = random.Random(0)
    models, kills, seeds = ("rnn", "gru"), 20, 8
    known: set[str] = set()

    def grid(n_seeds):
        words = ("--task", "toy-wave", "--model", ",".join(models), "--seeds", n_seeds, *SMALL, "--out", "out")
        return started(*words, cwd=tmp_path)

    for kill in range(kills):
        with grid(1 + kill * seeds // kills) as process:
            time.sleep(dice.uniform(0.5, 4.5))
            process.send_signal(signal.SIGKILL)
        found = records(tmp_path / "out")  # each of them is read and validated: none is torn
        for _, folder in Store(tmp_path / "out").records(RunRecord):
            with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
                assert len(arrays["prediction"]) == len(arrays["target"])
        assert known <= {record.key for record in found}  # and nothing is lost
        known = {record.key for record in found}
    with grid(seeds) as process:
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    for model in models:
        for seed in range(seeds):
            seqbench.run("toy-wave", model, budget="smoke", hidden=(8,), seed=seed, out=tmp_path / "undisturbed")
    assert len(records(tmp_path / "out")) == len(models) * seeds
    assert quality(tmp_path / "out") == quality(tmp_path / "undisturbed")
    assert not list((tmp_path / "out").glob("*/*/*/run-2"))


def awaited(process, out, pattern, count):
    """Wait until a grid has written ``count`` files or folders of a name."""
    end = time.monotonic() + 200
    while len(list(out.glob(f"*/*/*/{pattern}"))) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def test_a_grid_that_ctrl_c_ends_goes_on_from_the_steps_of_its_cells(tmp_path, cli):
    """Its workers leave their checkpoints before they end, which is before they would be killed."""
    words = ("--plugin", BROKEN, "--plugin", TOYS, "--task", "toy-wave", "--model", "slow", "--seeds", 2)
    words = (*words, "--budget", "standard", "--jobs", 2, "--out")
    with started(*words, "out", cwd=tmp_path) as process:
        awaited(process, tmp_path / "out", CHECKPOINT, 2)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in output, output
    assert output.splitlines()[-1].startswith("seqbench: interrupted; ") and workers(tmp_path / "out") == []
    assert records(tmp_path / "out") == []
    steps = [kept_steps(path) for path in (tmp_path / "out").rglob(CHECKPOINT)]
    assert len(steps) == 2 and any(step % 40 for step in steps)  # not only those of checks
    done = cli(*words, "out")
    assert done.returncode == 0, done.stderr
    assert sorted(map(int, re.findall(r"going on from step (\d+) of 400", done.stderr))) == sorted(steps)
    assert cli(*words, "undisturbed").returncode == 0
    for one, other in zip(records(tmp_path / "out"), records(tmp_path / "undisturbed"), strict=True):
        assert (one.key, one.metrics) == (other.key, other.metrics)
        assert one.cost.interrupted and not other.cost.interrupted


def kept_steps(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["counts"])["fit"]["steps"]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_grid_whose_cells_hang(tmp_path, times):
    """Such cells are killed some seconds later, or at once when Ctrl-C is pressed again."""
    words = ("--plugin", BROKEN, "--plugin", TOYS, "--task", "toy-wave", "--model", "hangs", "--seeds", 2)
    with started(*words, "--budget", "smoke", "--jobs", 2, "--out", "out", cwd=tmp_path) as process:
        awaited(process, tmp_path / "out", ".tmp-*", 2)
        time.sleep(1.0)
        for _ in range(times):
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        output = process.communicate(timeout=60)[0]
    took = time.monotonic() - begun
    assert process.returncode == 130 and "Traceback" not in output, output
    assert workers(tmp_path / "out") == [] and took < LAST_SECONDS * (2.0 if times == 1 else 0.9)
    assert not list((tmp_path / "out").rglob("record.json"))


def test_cells_do_not_outlive_their_grid(tmp_path):
    words = ("--plugin", BROKEN, "--task", "toy-wave", "--model", "hangs,rnn", *SMALL, "--out", "out")
    with started(*words, cwd=tmp_path) as process:
        end = time.monotonic() + 120
        while not workers(tmp_path / "out") and time.monotonic() < end:
            time.sleep(0.05)
        assert workers(tmp_path / "out")
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while workers(tmp_path / "out") and time.monotonic() < end:
        time.sleep(0.05)
    assert workers(tmp_path / "out") == []


def test_whatever_befalls_a_cell_becomes_its_record_and_the_rest_goes_on(cli, tmp_path):
    words = ("--plugin", BROKEN, "--task", "toy-wave", *SMALL, "--out", "out", "--model")
    done = cli(*words, "killed,leaves,crashes,starves,rnn")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    found = {record.model.name: record for record in records(tmp_path / "out")}
    assert {name: record.status for name, record in found.items()} == {
        "killed": "error",
        "leaves": "error",
        "crashes": "error",
        "starves": "oom",
        "rnn": "ok",
    }
    assert "SIGKILL" in found["killed"].reason
    assert found["leaves"].reason == "its process ended with exit code 0 and left no record: so long"
    assert "5 of 5 cells, 4 failed" in done.stderr
    for name in set(found) - {"rnn"}:
        assert f"failed  toy-wave {name} seed 0: {found[name].status}" in done.stdout
    for path in re.findall(r"see (\S+)", done.stdout):
        assert (tmp_path / path).is_file()
    again = cli(*words, "crashes,rnn")
    assert "2 cells, 1 with results, 1 to run" in again.stderr
    assert [path.name for path in sorted((tmp_path / "out/toy-wave/crashes").glob("*/run-*"))] == ["run-1", "run-2"]


def test_a_cell_that_takes_too_long_is_ended_and_the_rest_goes_on(cli, tmp_path):
    """The limit counts from the start of a process, so it leaves room to import torch."""
    words = ("--plugin", BROKEN, "--task", "toy-wave", *SMALL, "--out", "out", "--model", "hangs,rnn")
    done = cli(*words, "--time-limit", 15)
    found = {record.model.name: record for record in records(tmp_path / "out")}
    assert done.returncode == 1 and {name: record.status for name, record in found.items()} == {
        "hangs": "timeout",
        "rnn": "ok",
    }
    assert "time limit of 15 s" in found["hangs"].reason


def test_two_grids_at_once_leave_one_record_a_cell(tmp_path):
    words = ("--task", "toy-wave,toy-first", "--model", "rnn,gru", *SMALL, "--out", "out")
    both = [started(*words, cwd=tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(list((tmp_path / "out").glob("*/*/*/run-*"))) == len(records(tmp_path / "out")) == 4
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_the_learning_rate_is_chosen_on_validation_at_seed_0(cli, tmp_path):
    words = ("--task", "toy-wave", "--model", "rnn", "--seeds", 2, "--tune-learning-rate", *SMALL, "--out", "out")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "out")
    tried = [(record.seed, record.config["learning_rate"], record.metrics["val"]["rmse"]) for record in found]
    first = [rate for seed, rate, _ in tried if seed == 0]
    best = chosen_rate(tried, "lower")
    assert {*RATES} <= {*first} and not next_trials(tried, "lower")
    assert best in [rate for seed, rate, _ in tried if seed == 1]
    assert "0 to run" in cli(*words).stderr


def test_a_dry_run_shows_cells_and_times_and_runs_none(cli, tmp_path):
    done = cli("--task", "toy-wave", "--model", "rnn,gru", "--seeds", 3, *SMALL, "--dry-run", "--out", "out")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| toy-wave")]
    assert len(rows) == 6 and all(re.search(r"to run +\| +\d+ s", row) for row in rows)
    assert re.search(r"6 cells, 6 to run: about .+ one after the other, .+ with --jobs 2", done.stdout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--task", "dna,wether", "--model", "rnn"), "did you mean weather"),
        (("--task", "dna", "--model", "rnn,"), "unknown model ''"),
        (("--task", "dna", "--model", "all", "--seeds", "0"), "--seeds 0 is out of range"),
        (("--task", "dna", "--model", "all", "--jobs", "0"), "--jobs 0 is out of range"),
        (("--task", "dna", "--model", "all", "--time-limit", "0"), "--time-limit 0 is out of range"),
        (("--task", "dna", "--model", "all", "--plot"), "leaderboard --plot draws"),
        (("--task", "dna", "--model", "rnn", "--tune-learning-rate", "--learning-rate", "1"), "leave --learning-rate"),
        (("--task", "dna,stock", "--model", "rnn", "--option", "ticker=IBM"), "option"),
    ],
)
def test_a_wrong_grid_is_one_sentence(cli, tmp_path, words, sentence):
    done = cli(*words, "--out", "out")
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_future_record_stops_a_grid_before_it_starts(cli, tmp_path):
    words = ("--task", "toy-wave", "--model", "rnn,gru", *SMALL, "--out", "out")
    cli(*words)
    path = next((tmp_path / "out").glob("toy-wave/rnn/*/run-1/record.json"))
    good = path.read_text()
    for bad, sentence in (
        (good.replace('"schema_version": 4', '"schema_version": 5'), "reads up to 4: update it"),
        (good.replace('"name": "toy-wave"', '"name": "toy-first"'), "has been altered"),
        (good[: len(good) // 2], "not valid JSON"),
    ):
        path.write_text(bad)
        done = cli(*words)
        assert done.returncode == 2 and sentence in done.stderr.splitlines()[-1] and path.read_text() == bad


def test_a_full_disk_ends_a_grid_without_loss_and_it_goes_on_when_there_is_room(cli, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    try:
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no small file system can be mounted here")
    except FileNotFoundError:
        pytest.skip("no small file system can be mounted here")
    try:
        words = ("--task", "toy-first", "--model", "rnn,gru", "--seeds", 6, *SMALL, "--out", disk / "out")
        done = cli(*words)
        assert done.returncode == 1 and "No space left on device" in done.stderr.splitlines()[-1], done.stderr
        kept = {record.key for record in records(disk / "out")}
        assert 0 < len(kept) < 12 and not list(disk.rglob("checkpoint*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert cli(*words).returncode == 0
        assert kept < {record.key for record in records(disk / "out")} and len(records(disk / "out")) == 12
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_every_job_has_a_gpu_of_its_own_where_there_are_enough(monkeypatch):
    executor = LocalProcesses(slots=3, gpus=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [executor._environment(slot, 1)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [executor._environment(slot, 1)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["5", "7"]
    assert "CUDA_VISIBLE_DEVICES" not in {
        name for name in LocalProcesses(slots=1)._environment(0, 1) if name not in os.environ
    }


def test_the_leaderboard_command_prints_or_writes_a_board(cli, tmp_path):
    cli("--task", "toy-wave", "--model", "rnn,gru", "--seeds", 2, *SMALL, "--out", "out")
    for words in (("--format", "json"), ("--format", "csv"), ("--columns", "quality"), ()):
        printed = cli("leaderboard", "out", *words)
        assert printed.returncode == 0 and "toy-wave" in printed.stdout
        written = cli("leaderboard", "out", *words, "--out", "page")
        assert written.stdout == "page\n" and (tmp_path / "page").read_text() == printed.stdout
    toys = ("--plugin", TOYS)  # without the task no figure is verified
    assert cli("leaderboard", "out", "--columns", "quality", *toys).stdout == quality(tmp_path / "out")
    nothing = cli("leaderboard", "none")
    assert nothing.returncode == 2 and "none" in nothing.stderr and nothing.stderr.count("\n") == 1


def test_grid_options_refuse_what_no_grid_could_use():
    with pytest.raises(seqbench.UserError, match="--seeds"):
        GridOptions(seeds=10_001)
    with pytest.raises(seqbench.UserError, match="--time-limit"):
        GridOptions(time_limit=float("nan"))

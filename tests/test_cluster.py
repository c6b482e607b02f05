"""Grids, tuning and probes on a Ray cluster of nodes on this machine, which have no disk in common with the driver.

Nodes are killed, the driver is, Ctrl-C is pressed: what comes out is what the same command gives on this machine.
"""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import venv
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from board_records import board
from conftest import ROOT
from ray_nodes import LOOPBACK, processes

import seqbench
from seqbench import registry
from seqbench.config import Placement
from seqbench.errors import UserError
from seqbench.experiment import Grid, cluster_of, run_grid
from seqbench.files.kinds import chosen_task
from seqbench.jobs.cluster import PATIENCE, RayTasks
from seqbench.jobs.node import read_frame
from seqbench.jobs.pool import Event
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.probes import PROBES, Request
from seqbench.probes.shared.measuring import measure_all, plan_jobs
from seqbench.training import CHECKPOINT
from seqbench.tuning import run_studies, searches

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
TOYS = ROOT / "tests" / "toys.py"
SLOW = """
import seqbench, torch
from waiting import wait

class Slow(seqbench.Mixer):
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def state_size(self, length):
        return 0

    def forward(self, x, lengths=None):
        if self.training:
            wait(self.seconds)
        return self.map(x)

@seqbench.register_model("patient")
class Patient(Slow):
    seconds = 0.01

@seqbench.register_model("sleepy")
class Sleepy(Slow):
    seconds = 1000.0
"""


class Nodes:
    """The cluster, with the caches of its nodes in ``folder``."""

    def __init__(self, folder, hidden):
        self.folder, self.count = folder, 0
        command = [sys.executable, str(ROOT / "tests" / "ray_nodes.py"), json.dumps([str(path) for path in hidden])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        self.address, self.hidden = json.loads(self.process.stdout.readline())

    def add(self, cpus, gpus=0):
        """Number and cache of a new node."""
        number, self.count = self.count, self.count + 1
        cache = self.folder / f"node{number}"
        self._ask("add", {"cpus": cpus, "gpus": gpus, "cache": str(cache)})
        return number, cache

    def kill(self, number):
        self._ask("kill", number)

    def cells(self):
        """Processes of cells that run on any node."""
        found = []
        for pid in (pid for number in range(self.count) for pid in processes(self.folder / f"node{number}")):
            with suppress(OSError):
                if b"seqbench.jobs.pool" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of whoever starts grids."""
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, driver, cache):
    cache.mkdir(exist_ok=True)
    made = Nodes(tmp_path_factory.mktemp("nodes"), [driver, cache, ROOT / "seqbench", ROOT / "tasks", ROOT / "tests"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOOPBACK.items():
            patch.setenv(name, value)
        made.add(cpus=2, gpus=1)
        yield made
        made.process.stdin.close()
        made.process.wait(60)
        made.process.stdout.close()


def take_back(path):
    """Have this process forget a plug-in."""
    for known, name in registry.registered_by(path):
        known.remove(name)
    del registry._loaded[path.resolve()]


@pytest.fixture(scope="module")
def plugins(driver):
    """Files of plug-ins, which this process has loaded: the toys, and one whose models take long, with its helper."""
    path = driver / "slow.py"
    path.write_text(SLOW)
    (driver / "waiting.py").write_text("import time\n\ndef wait(seconds):\n    time.sleep(seconds)\n")
    seqbench.load_plugin(path)
    yield [TOYS, path]
    take_back(path)


@pytest.fixture(scope="module")
def cluster(nodes, plugins):
    """Connected, for cells on CPUs."""
    place = Placement(executor="ray", address=nodes.address)
    with cluster_of(place, device="cpu", threads=1, jobs=None, plugins=plugins, say=print) as connected:
        yield connected


def records(out):
    return [record for record, _ in Store(out).records(RunRecord)]


def awaited(condition, seconds=200):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


class Said(seqbench.Listener):
    """Remembers lines, of all jobs."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


# --- on the cluster --------------------------------------------------------------------------------------------------


@needs_ray
def test_a_grid_on_two_nodes_of_which_one_is_killed_gives_the_board_of_a_local_one(
    nodes, cluster, driver, monkeypatch, capfd
):
    """The data is a file of the user's, which lies where no node can read it."""
    monkeypatch.chdir(driver)
    rng = np.random.default_rng(0)
    rows = [f"{np.sin(i / 3) + rng.normal(0, 0.1):.4f}" for i in range(600)]
    Path("waves.csv").write_text("\n".join(["height", *rows]) + "\n")
    task, config = chosen_task("", seqbench.RunConfig(
        data="waves.csv", target="height", horizon=3, model="rnn", hidden=(8,), epochs=70, batch_size=32, device="cpu"
    ))  # fmt: skip
    number, cache = nodes.add(cpus=1)
    assert awaited(lambda: cluster.wait(0.1) is None and cluster.slots == 3)
    killed, said = [], Said()

    def kill():
        """The new node, when something of what runs there was brought to where another one can go on from it."""

        def kept():
            there = {path.parent.name for path in cache.glob(f"cluster/.tmp-*/*/*/*/{CHECKPOINT}")}
            return there & {path.parent.name for path in Path("out").glob(f"*/*/*/{CHECKPOINT}")}

        killed.extend(awaited(kept))
        nodes.kill(number)

    killer = threading.Thread(target=kill)
    killer.start()
    grid = Grid(dataclasses.replace(config, task=task), [task], ["rnn"], Store("out"), seeds=3, tune=False)
    outcomes = run_grid(grid, said, executor=cluster)
    killer.join()
    printed = capfd.readouterr()
    lost = [line for line in said.lines if line.endswith("lost, because its node was lost; it is run again")]
    assert killed and lost and any("going on from step" in line for line in said.lines), said.lines
    assert [outcome.record.status for outcome in outcomes] == ["ok"] * 3
    assert "raylet" not in printed.err + printed.out  # nothing of what Ray prints
    words = {"data": "waves.csv", "target": "height", "horizon": 3, "model": "rnn", "hidden": (8,), "device": "cpu"}
    seqbench.run(**words, epochs=70, batch_size=32, seeds=3, progress=False, out="here")
    assert board([Path("out")], "csv", "quality", Path("out")) == board([Path("here")], "csv", "quality", Path("here"))
    assert [path.name for path in Path("out").glob("*/*/*/*")] == ["run-1"] * 3  # each once, and no checkpoint is left
    one, other = ({path.name for path in Path(out).glob("*/*/*/run-1/*")} for out in ("out", "here"))
    assert one == other and not list(Path("out").glob(".tmp-*"))
    one, other = ({record.environment.git_commit for record in records(out)} for out in ("out", "here"))
    assert one == other
    assert len(nodes.cells()) <= 2  # the nurseries of the node that is left


@needs_ray
def test_a_driver_that_is_interrupted_or_killed_leaves_nothing_behind_and_cells_go_on_from_their_steps(
    nodes, cluster, driver, plugins
):
    words = [sys.executable, str(ROOT / "run_bench.py"), "--plugin", str(TOYS), "--plugin", "slow.py", "--task"]
    words += ["toy-wave", "--model", "patient", "--seeds", "2", "--budget", "standard", "--device", "cpu"]
    words += ["--executor", "ray", "--address", nodes.address, "--jobs", "1", "--out", "more"]

    def ended(until, how):
        """What a driver says that is ended by a signal."""
        before = nodes.cells()
        process = subprocess.Popen(words, cwd=driver, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert awaited(lambda: until() or process.poll() is not None) and process.poll() is None
        process.send_signal(how)
        output = process.communicate(timeout=100)[0]
        assert awaited(lambda: set(nodes.cells()) <= set(before)), "cells go on"
        return process.returncode, output

    code, output = ended(lambda: list(driver.glob(f"more/*/*/*/{CHECKPOINT}")), signal.SIGINT)
    assert code == 130 and output.splitlines()[-1].startswith("seqbench: interrupted; ") and "Traceback" not in output
    assert not records(driver / "more") and not list((driver / "more").glob(".tmp-*"))
    code, output = ended(lambda: records(driver / "more"), signal.SIGKILL)
    assert code == -signal.SIGKILL and re.search(r"going on from step \d+ of 400", output), output
    config, said = seqbench.RunConfig(task="toy-wave", model="patient", budget="standard", device="cpu"), Said()
    grid = Grid(config, ["toy-wave"], ["patient"], Store(driver / "more"), seeds=2, tune=False)
    one, other = run_grid(grid, said, plugins=plugins, executor=cluster)
    assert one.stored and not other.stored and other.record.status == "ok"
    assert not list((driver / "more").rglob(".tmp-*")) and not list((driver / "more").rglob(CHECKPOINT))


@needs_ray
def test_tuning_probes_and_time_limits_are_those_of_this_machine(nodes, cluster, plugins, tmp_path):
    config = seqbench.RunConfig(task="toy-wave", model="rnn", budget="smoke", device="cpu")

    def trials(name, executor=None):
        """What a study comes to."""
        about = {"trials": 2, "seeds": 1, "wave": 2, "prune": False}
        found = searches(config, ["toy-wave"], ["rnn"], ["random"], tmp_path / name, print, **about)
        (study,) = run_studies(found, seqbench.Listener(), plugins=plugins, executor=executor)
        return [dataclasses.replace(trial, seconds=0.0) for trial in study.trials]

    def measured(probe, name, on=None):
        request = Request(model="rnn", budget="smoke", device="cpu")
        jobs = plan_jobs(probe, request, PROBES.get(probe).Options(), ["rnn"])
        outcomes = measure_all(jobs, Store(tmp_path / name), plugins=plugins, cluster=on)
        assert [outcome.record.status for outcome in outcomes] == ["ok"] * len(jobs)
        return [outcome.record.result for outcome in outcomes]

    grid = Grid(config, ["toy-wave"], ["sleepy"], Store(tmp_path / "late"), seeds=1, tune=False)
    (late,) = run_grid(grid, seqbench.Listener(), limit=2.0, plugins=plugins, executor=cluster)
    assert (late.record.status, late.record.reason) == ("timeout", "took longer than the time limit of 2 s")
    assert trials("far", cluster) == trials("near")  # the node is free again
    assert measured("copy", "far", cluster) == measured("copy", "near")
    assert measured("parallel", "far", cluster)  # reads a clock, with the node to itself


@needs_ray
def test_cells_share_a_gpu(nodes, driver, tmp_path, capfd):
    """The GPU is one that Ray counts; the cells, which all see it at once, find at last that it is none."""
    cache = nodes.folder / "node0"
    meeting = tmp_path / "meeting.py"
    meeting.write_text(
        "import os, pathlib, sys, time\nimport seqbench\n"
        f"if os.environ.get('SEQBENCH_CACHE', '').startswith({str(cache)!r}):\n"
        "    place = pathlib.Path(os.environ['SEQBENCH_CACHE'])\n"
        "    (place / f'here-{os.getpid()}').touch()\n"
        "    end = time.monotonic() + 100\n"
        "    while len(list(place.glob('here-*'))) < 2 and time.monotonic() < end:\n"
        "        time.sleep(0.05)\n"
        "    n = len(list(place.glob('here-*')))\n"
        "    print(n, 'at once on', os.environ.get('CUDA_VISIBLE_DEVICES'), file=sys.stderr)\n"
        "@seqbench.register_model('meeting')\n"
        "class Meeting(seqbench.Mixer):\n"
        "    pass\n"
    )
    seqbench.load_plugin(meeting)
    try:
        words = {"budget": "smoke", "seeds": 2, "executor": "ray", "address": nodes.address, "gpus_per_cell": 0.5}
        results = seqbench.run("toy-wave", "rnn", **words, out=driver / "cards")
        assert [(result.status, result.environment.device) for result in results] == [("error", "cuda")] * 2
        assert "2 to run, 2 at once" in capfd.readouterr().err
        tails = [path.read_text() for path in (driver / "cards").rglob("traceback.txt")]
        assert tails == ["2 at once on 0\n"] * 2
    finally:
        take_back(meeting)


# --- without one -----------------------------------------------------------------------------------------------------


class Script:
    """An executor that tells of each job, whenever it is started, what comes next in its script."""

    slots = 1

    def __init__(self, *starts):
        self.starts, self.events, self.started = list(starts), [], 0

    def start(self, job, message):
        self.started += 1
        self.events = [Event(job, kind, values) for kind, *values in (self.starts.pop(0) if self.starts else [])]

    def wait(self, seconds):
        return self.events.pop(0) if self.events else None

    def stop(self, job):
        raise AssertionError("nothing takes too long")

    def close(self):
        return []


def one_cell(store, executor, *, seed=0, force=False, listener=None):
    config = seqbench.RunConfig(task="toy-wave", model="rnn", budget="smoke", hidden=(8,), seed=seed, device="cpu")
    grid = Grid(config, ["toy-wave"], ["rnn"], store, seeds=1, tune=False)
    (outcome,) = run_grid(grid, listener or seqbench.Listener(), force=force, executor=executor)
    return outcome.record


def came_back(tmp_path, name, seed=0):
    """A folder with what a cell leaves, as a node sends it."""
    result = seqbench.run(
        "toy-wave", "rnn", budget="smoke", hidden=(8,), seed=seed, device="cpu", out=tmp_path / f"of {name}"
    )
    return result.folder.rename(tmp_path / name)


LOST = ("lost", "its node was lost")
OF_NO_RECORD = {"nan": "NaN", "surrogate": '"\\ud800"'}  # in JSON


def test_a_job_is_run_again_three_times_and_published_once(tmp_path):
    folder, said, store = came_back(tmp_path, "back"), Said(), Store(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    executor = Script([LOST], [("placed",), ("begin", 6, 0), LOST], [LOST],
                      [("placed",), ("brought", str(folder)), ("ended", 0, "")])  # fmt: skip
    assert one_cell(store, executor, listener=said).status == "ok" and executor.started == 4
    assert sum("it is run again" in line for line in said.lines) == 3
    (run,) = (tmp_path / "out").glob("*/*/*/run-*")
    assert {path.name for path in run.iterdir()} == names and len(records(tmp_path / "out")) == 1


def test_a_job_that_is_lost_again_and_again_has_a_record_that_says_so(tmp_path):
    executor = Script(*[[LOST]] * 9)
    record = one_cell(Store(tmp_path), executor)
    assert (record.status, record.reason) == ("error", "lost 4 times, at last because its node was lost")
    assert executor.started == 4


def test_what_is_kept_lies_beside_the_runs_until_one_is_brought(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / CHECKPOINT).write_bytes(b"steps")
    store = Store(tmp_path / "out")
    one_cell(store, Script([("placed",), ("kept", str(tmp_path / "kept")), ("ended", 1, "broke")]))
    (path,) = (tmp_path / "out").glob(f"*/*/*/{CHECKPOINT}")
    assert path.read_bytes() == b"steps"
    back = Script([("placed",), ("brought", str(came_back(tmp_path, "back"))), ("ended", 0, "")])
    assert one_cell(store, back).status == "ok" and not path.exists()


def test_what_was_brought_before_its_node_was_lost_stands_and_is_not_run_again(tmp_path):
    store = Store(tmp_path / "out")
    for number, name in enumerate(("first", "second"), start=1):
        script = Script([("placed",), ("brought", str(came_back(tmp_path, name))), LOST])
        assert one_cell(store, script, force=number == 2).status == "ok" and script.started == 1
        assert len(list((tmp_path / "out").glob("*/*/*/run-*"))) == number


@pytest.mark.parametrize("wrong", ["other", "altered", "nan", "surrogate", "damaged", "missing"])
def test_what_comes_back_is_published_only_if_it_is_the_record_of_the_job(tmp_path, wrong):
    folder = came_back(tmp_path, "back", seed=int(wrong == "other"))
    path = folder / "record.json"
    if wrong == "altered":
        path.write_text(path.read_text().replace('"smoke"', '"quick"'))
    elif wrong in ("nan", "surrogate"):
        path.write_text(path.read_text().replace('"options": {', f'"options": {{"x": {OF_NO_RECORD[wrong]}, ', 1))
    elif wrong == "damaged":
        path.write_bytes(path.read_bytes()[:100] + b"\xff")
    elif wrong == "missing":
        path.unlink()
    script = Script([("placed",), ("brought", str(folder)), ("ended", 0, "")])
    record = one_cell(Store(tmp_path / "out"), script)
    said = {"other": "record of another job", "altered": "has been altered", "damaged": "invalid start byte",
            "missing": "No such file"}  # fmt: skip
    assert record.status == "error" and said.get(wrong, "is not a valid record") in record.reason


def test_memory_that_ran_out_elsewhere_is_told_as_that(tmp_path):
    record = one_cell(Store(tmp_path), Script([("placed",), ("starved",), ("ended", -9, "")]))
    assert record.status == "oom" and "because memory ran out" in record.reason


def test_a_forced_run_is_published_beside_the_one_that_is_there(tmp_path):
    store = Store(tmp_path / "out")
    for number, name in enumerate(("first", "second"), start=1):
        script = Script([("placed",), ("brought", str(came_back(tmp_path, name))), ("ended", 0, "")])
        assert one_cell(store, script, force=number == 2).status == "ok"
        assert len(list((tmp_path / "out").glob("*/*/*/run-*"))) == number


def test_it_is_said_once_that_there_is_no_room(monkeypatch):
    said = []
    tasks = ray_tasks(monkeypatch, [(4, 1)], gpus=0.5, say=said.append)
    tasks._running = {"a": None, "b": None}
    tasks._waiting = dict.fromkeys("ab", time.monotonic() - PATIENCE + 5)
    tasks._tell_patience()
    assert not said
    tasks._waiting = dict.fromkeys("ab", time.monotonic() - PATIENCE - 5)
    for _ in range(3):
        tasks._tell_patience()
    assert said == ["no node of the cluster has 1 CPU and 0.5 GPUs free: waiting for one"]


PLACED = """
import sys
from pathlib import Path
from seqbench.disk import cache_root
from seqbench.jobs.node import Parcel, _base, _place, packed_folder

source = Path(sys.argv[1])
source.mkdir()
(source / "inside").mkdir()
(source / "inside" / "a").write_text("1")
fetched = []

def place(sha256):
    pack = packed_folder(source)
    _place(Parcel("cached", "set/data", sha256), lambda: fetched.append(sha256) or pack)
    return (cache_root() / "set" / "data" / "inside" / "a").read_text()

_base()
assert place("x") == place("x") == "1" and packed_folder(source) == packed_folder(source)
(source / "inside" / "a").write_text("2")
assert place("y") == "2" and place("x") == "2" and fetched == ["x", "y", "x"]
assert [path.name for path in (cache_root() / "set").iterdir()] == ["data"]
assert str(cache_root()) == sys.argv[2] + "/cluster/cache"
"""


def test_data_is_unpacked_once_and_makes_way_for_another(tmp_path):
    words = [sys.executable, "-c", PLACED, str(tmp_path / "source"), str(tmp_path / "node")]
    subprocess.run(words, check=True, env={**os.environ, "SEQBENCH_CACHE": str(tmp_path / "node")})


def frame(events, piece=b""):
    return json.dumps(events).encode() + b"\n" + piece


def test_frames_are_read_and_what_steers_a_terminal_is_left_out():
    events, piece = read_frame(
        frame([["step", 3, 0.5], ["say", "a\x1b[2Jb\n"], ["piece", "kept", "a.txt", 0]], b"\n1\n")
    )
    assert events == [("step", (3, 0.5)), ("say", ("a?[2Jb\n",)), ("piece", ("kept", "a.txt", 0))] and piece == b"\n1\n"


@pytest.mark.parametrize(
    "wrong",
    [
        None, "text", b"", b"{}", b"[1]", b"[[]]", b"\xff", b"[" * 100_000, frame([["shout", "a"]]),
        frame([["step", "3", 1]]), frame([["say"]]), frame([["say", 1]]), frame([[["say"], "a"]]),
        frame([["piece", "kept", "../a", 0]]),
        frame([["piece", "kept", ".hidden", 0]]), frame([["piece", "kept", "a/b", 0]]),
        frame([["piece", "elsewhere", "a", 0]]), frame([["ended", 0]]), frame([["nodes", []]]),
    ],
    ids=lambda wrong: repr(wrong)[:30],
)  # fmt: skip
def test_what_is_no_frame_is_refused(wrong):
    with pytest.raises(ValueError):
        read_frame(wrong)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--address", "head:6379"), "--address is for --executor ray: give that, too, or leave it out."),
        (("--gpus-per-cell", "0.5"), "--gpus-per-cell is for --executor ray"),
        (("--executor", "ray"), "--executor ray needs the cluster: give --address HOST:PORT"),
        (("--executor", "slurm"), "unknown executor 'slurm': there are local, ray."),
        (("--executor", "ray", "--address", "auto", "--gpus-per-cell", "2"), "--gpus-per-cell 2 is out of range"),
        (("--executor", "ray", "--address", "auto", "--jobs", "0"), "--jobs 0 is out of range"),
    ],
)
@pytest.mark.parametrize("command", [("run", "--task", "toy-wave", "--model", "rnn"), ("claims",), ("probe", "cost")])
def test_options_that_make_no_sense_are_one_sentence(here, tmp_path, command, words, sentence):
    done = here(*command, *words, "--out", "out")
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@needs_ray
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("head", "write HOST:PORT"),
        ("head:99999", "write HOST:PORT"),
        ("ray://head:10001", "ray:// is for Ray's client"),
        ("$(touch me):1", "write HOST:PORT"),
        ("127.0.0.1:9", "no Ray cluster answers there"),
        ("a..b:6379", "no Ray cluster answers there"),
    ],
)
def test_an_address_at_which_no_cluster_is_is_one_sentence(here, tmp_path, address, sentence):
    done = here(
        "run", "--task", "toy-wave", "--model", "rnn", "--executor", "ray", "--address", address, "--out", "out"
    )
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_ray_one_sentence_says_how_to_install_it(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    for folder in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for path in folder.iterdir():  # all but Ray; .pth files would lead to where it may be
            if path.name.split("-")[0] != "ray" and path.suffix != ".pth" and not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    words = ["run", "--task", "dna", "--model", "rnn", "--executor", "ray", "--address", "auto", "--out", "out"]
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", ROOT / "run_bench.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    wanted = "seqbench: --executor ray needs Ray, which is not installed: pip install 'seqbench[ray]'.\n"
    assert (done.returncode, done.stderr) == (2, wanted) and not (tmp_path / "out").exists()


def ray_tasks(monkeypatch, nodes, **options):
    """An executor that knows of ``nodes``, and is not connected."""
    monkeypatch.setattr("seqbench.jobs.cluster._check_ray", lambda: None)
    made = RayTasks("auto", **options)
    made._nodes = [(str(i), float(cpus), float(gpus)) for i, (cpus, gpus) in enumerate(nodes)]
    made._choose_device()
    made._check_room()
    return made


@pytest.mark.parametrize(
    ("nodes", "options", "device", "room"),
    [
        ([(8, 0), (3, 0)], {}, "cpu", 11),
        ([(8, 0), (3, 0)], {"threads": 2}, "cpu", 5),
        ([(8, 0), (4, 2)], {}, "cuda", 2),
        ([(8, 0), (4, 2)], {"gpus": 0.3}, "cuda", 4),
        ([(16, 2)], {"gpus": 0.1}, "cuda", 16),
        ([(8, 0), (4, 2)], {"device": "cpu"}, "cpu", 12),
        ([(8, 2)], {"gpus": 0.25, "jobs": 3}, "cuda", 8),
    ],
)
def test_room_is_counted_by_cpus_and_shares_of_gpus(monkeypatch, nodes, options, device, room):
    tasks = ray_tasks(monkeypatch, nodes, **options)
    assert (tasks.device, tasks.room(), tasks.slots) == (device, room, options.get("jobs", room))


@pytest.mark.parametrize(
    ("nodes", "options", "sentence"),
    [
        ([(8, 0)], {"device": "cuda"}, "no node of the cluster has a GPU: take --device cpu."),
        ([(8, 1)], {"device": "mps"}, "--device mps is of this machine"),
        ([(8, 1)], {"device": "cpu", "gpus": 0.5}, "--gpus-per-cell is a share of a GPU, and --device cpu takes none"),
        ([(8, 0)], {"gpus": 0.5}, "finds none in this cluster"),
        ([(2, 0)], {"threads": 4}, "no node of the cluster has 4 CPUs for a cell"),
        ([(0, 1)], {}, "no node of the cluster has 1 CPU and 1 GPUs for a cell"),
    ],
)
def test_what_a_cluster_has_not_is_one_sentence(monkeypatch, nodes, options, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        ray_tasks(monkeypatch, nodes, **options)

"""Processes forked from a nursery are as fresh ones: streams, environment, signals; nothing outlives its starter."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from conftest import ROOT

from seqbench.jobs.job import Job
from seqbench.jobs.pool import LocalProcesses

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")

KIND = """
import json, os, random, signal, sys, time
import numpy as np
import torch

IMPORTED = os.getpid()

def run_spec(spec, store, *, force, listener):
    print("to nobody")
    sys.stderr.write("to the end of its stderr\\n")
    listener.say(json.dumps({
        "pid": os.getpid(), "imported": IMPORTED, "group": os.getpgid(0), "session": os.getsid(0),
        "threads": os.environ.get("OMP_NUM_THREADS"), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "random": [random.random(), float(np.random.rand())], "torch": torch.initial_seed(), "arguments": len(sys.argv),
        "plugin": "planted" in sys.modules, "compiled": "torch._dynamo" in sys.modules,
        "nice": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "open": len(os.listdir("/proc/self/fd")),
    }))
    what = spec["what"]
    if what == "orphans" and not os.fork():  # whose streams the child holds open
        time.sleep(600)
    if what in ("killed", "orphans"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raises":
        raise ValueError("as it was told")
    if what == "leaves":
        sys.exit(7)
    if what == "hangs":
        while True:
            time.sleep(0.1)
"""


@dataclass(frozen=True)
class Spec:
    what: str
    threads: int = 1
    name = "a job"
    seed = 0


@pytest.fixture
def kind(tmp_path, monkeypatch):
    (tmp_path / "kind_of_job.py").write_text(KIND)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "kind_of_job"


@pytest.fixture
def executor():
    made = LocalProcesses(2, many=True)
    yield made
    made.close()


def start(executor, kind, number, what):
    job = Job(kind, Spec(what), str(number))
    message = {"kind": kind, "spec": {"what": what}, "out": "out", "plugins": [], "force": False}
    executor.start(job, json.dumps(message))
    return job


def heard(executor, ends=1, says=0):
    """What jobs tell of themselves, and how they end, by key."""
    said, ended, end = {}, {}, time.monotonic() + 60
    while (len(ended) < ends or len(said) < says) and time.monotonic() < end:
        event = executor.wait(0.1)
        if event and event.kind == "say":
            said[event.job.key] = json.loads(event.values[0])
        if event and event.kind == "ended":
            ended[event.job.key] = event.values
    return said, ended


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids):
    end = time.monotonic() + 20
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(runs, pids))


def test_what_is_forked_is_as_a_fresh_process(kind, executor, monkeypatch):
    monkeypatch.setattr(executor, "gpus", 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for number in range(2):
        start(executor, kind, number, "works")
    said, ended = heard(executor, 2)
    assert ended == {
        "0": (0, "to nobody\nto the end of its stderr\n"),
        "1": (0, "to nobody\nto the end of its stderr\n"),
    }
    one, other = said["0"], said["1"]
    assert one["imported"] == other["imported"] not in (one["pid"], other["pid"], os.getpid())
    assert one["pid"] == one["group"] == one["session"] != other["pid"]
    assert (one["threads"], {one["gpu"], other["gpu"]}, one["arguments"]) == ("1", {"0", "1"}, 2)
    assert all(mine != others for mine, others in zip(one["random"], other["random"], strict=True))
    assert one["torch"] != other["torch"] and one["nice"] and not one["compiled"] and one["open"] < 8
    fresh = LocalProcesses(1)
    start(fresh, kind, 2, "works")
    (alone,) = heard(fresh)[0].values()
    assert alone["imported"] == alone["pid"]
    assert {**alone, "open": 0} == {
        **one, "open": 0,
        **{name: alone[name] for name in ("pid", "imported", "group", "session", "random", "torch", "gpu")},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("what", "code", "last"),
    [
        ("killed", -9, "to the end"),
        ("orphans", -9, "to the end"),
        ("raises", 1, "ValueError: as it was told"),
        ("leaves", 7, "to the end"),
    ],
)
def test_how_a_forked_process_ends_is_told_as_that_of_a_fresh_one(kind, executor, what, code, last):
    for number in range(2):
        start(executor, kind, number, what)
    (one, other) = heard(executor, 2)[1].values()  # also where something that it has started does not end
    assert one[0] == other[0] == code and one[1].splitlines()[-1].startswith(last)


def test_a_job_is_stopped_with_what_it_has_started_also_before_it_is_born(kind, executor):
    early = start(executor, kind, 0, "hangs")
    executor.stop(early)
    late = start(executor, kind, 1, "hangs")
    said, ended = heard(executor, 1, says=1)
    executor.stop(late)
    ended |= heard(executor)[1]
    assert {key: code for key, (code, _) in ended.items()} == {"0": -signal.SIGKILL, "1": -signal.SIGKILL}
    assert gone(*(one["pid"] for one in said.values()))


def test_a_nursery_that_is_killed_takes_its_jobs_with_it_and_the_next_has_another(kind, executor):
    start(executor, kind, 0, "hangs")
    start(executor, kind, 1, "hangs")
    said, _ = heard(executor, 0, says=2)
    nursery = said["0"]["imported"]
    os.kill(nursery, signal.SIGKILL)
    _, ended = heard(executor, 2)
    assert {code for code, _ in ended.values()} == {-signal.SIGKILL}
    assert gone(nursery, said["0"]["pid"], said["1"]["pid"])
    start(executor, kind, 2, "works")
    said, ended = heard(executor)
    assert ended["2"][0] == 0 and said["2"]["imported"] != nursery


def test_nothing_outlives_a_starter_that_is_killed_not_even_before_a_job_is_born(kind, tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(tmp_path)!r}]
from test_nursery import *
executor = LocalProcesses(2, many=True)
for number in range(2):
    start(executor, {kind!r}, number, "hangs")
nursery, = executor._nurseries.values()
print(nursery._process.pid, flush=True)
said, _ = heard(executor, 0, says=2)
print(*(one["pid"] for one in said.values()), flush=True)
time.sleep(60)
"""
    for early in (True, False):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            pids = [int(process.stdout.readline())]
            pids += [] if early else map(int, process.stdout.readline().split())
            assert all(map(runs, pids))
            process.kill()
        assert gone(*pids)


def test_close_leaves_nothing_even_while_the_nursery_imports(kind):
    executor = LocalProcesses(2, many=True)
    start(executor, kind, 0, "hangs")
    (nursery,) = executor._nurseries.values()
    begun = time.monotonic()
    executor.close()
    assert not runs(nursery._process.pid) and time.monotonic() - begun < 4
    start(executor, kind, 1, "hangs")
    said, _ = heard(executor, 0, says=1)
    executor.close()
    assert not runs(said["1"]["pid"]) and not runs(said["1"]["imported"])


def test_every_job_has_a_fresh_process_where_that_is_asked_for(kind, monkeypatch):
    monkeypatch.setenv("SEQBENCH_FORK", "0")
    executor = LocalProcesses(2, many=True)
    start(executor, kind, 0, "works")
    (one,) = heard(executor)[0].values()
    assert one["imported"] == one["pid"]


def test_where_what_is_imported_has_threads_every_job_starts_a_fresh_python(tmp_path, kind, executor):
    source = KIND.replace(
        "IMPORTED =",
        "import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nIMPORTED =",
    )
    (tmp_path / "kind_of_job.py").write_text(source)
    start(executor, kind, 0, "works")
    start(executor, kind, 1, "killed")
    said, ended = heard(executor, 2)
    assert ended["0"][0] == 0 and ended["1"][0] == -9 and said["0"]["imported"] == said["0"]["pid"]

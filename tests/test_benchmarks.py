"""The timing suite: which benchmarks it has, and that one runs from anywhere, without the tests around it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from seqbench.models.mixer import MODELS
from seqbench.task import TASKS

SUITE = ROOT / "tests" / "benchmarks"
PLUGIN = """
import torch
from seqbench import Mixer, register_model

@register_model("threes")
class Threes(Mixer):
    '''A layer whose width is a multiple of three.'''
    width_multiple = 3
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)
    def forward(self, x, lengths=None):
        return self.map(x)
    def state_size(self, length):
        return 0
"""


def pytest_on(folder, *words, cwd, **environment):
    """The suite in ``folder`` as one runs it who has only that."""
    command = [sys.executable, "-m", "pytest", "-q", str(folder), f"--confcutdir={folder}", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *words], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def nodes():
    """The names of all benchmarks."""
    done = pytest_on(SUITE, "--collect-only", "-o", "addopts=", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^\S*?(test_\w+\.py::\S+)$", done.stdout, flags=re.MULTILINE)


def test_every_model_and_task_has_its_benchmarks(nodes):
    assert len(nodes) == len(set(nodes))
    models = {
        f"test_models.py::test_{step}_step[{entry.name}-{size}]"
        for entry in MODELS.entries()
        if entry.origin.startswith("seqbench.")
        for step in ("training", "inference")
        for size in ("small", "real")
    }
    tasks = {
        f"test_data.py::test_prepare[{entry.name}]"
        for entry in TASKS.entries()
        if entry.origin.startswith("seqbench.")  # not the toys of these tests
    }
    assert models | tasks <= set(nodes)
    others = {"test_start.py::test_run", "test_board.py::test_load", "test_harness.py::test_fit[dna-lstm]"}
    assert others <= set(nodes)


def test_a_copy_elsewhere_times_a_plug_in(tmp_path):
    copy = shutil.copytree(SUITE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "threes.py").write_text(PLUGIN)
    chosen = {"SEQBENCH_BENCH_PLUGINS": str(tmp_path / "threes.py"), "SEQBENCH_BENCH_MODELS": "rnn,threes"}
    words = ("-k", "training_step and small", "-W", "error", "--benchmark-json", "out.json")
    done = pytest_on(copy, *words, cwd=tmp_path, **chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["machine_info"]["device_name"] and found["machine_info"]["torch"]
    assert found["machine_info"]["seqbench_file"] == str(ROOT / "seqbench" / "__init__.py")
    assert [one["name"] for one in found["benchmarks"]] == [
        "test_training_step[rnn-small]",
        "test_training_step[threes-small]",
    ]
    for one in found["benchmarks"]:
        assert one["group"] == "training" and one["stats"]["rounds"] >= 5
        assert one["extra_info"]["device"] in ("cpu", "cuda") and one["extra_info"]["peak_memory_bytes"] > 0
        assert 0 < one["extra_info"]["cpu_seconds"] < 1


def test_the_clock_of_a_device_adds_up_the_times_between_its_events(monkeypatch):
    spec = importlib.util.spec_from_file_location("conftest_of_benchmarks", SUITE / "conftest.py")
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    moments = iter([5.0, 1005.0, 1005.25])

    class Event:
        def __init__(self, enable_timing):
            self.at, self.reached = None, False

        def record(self):
            self.at = next(moments)

        def synchronize(self):
            self.reached = True

        def elapsed_time(self, later):
            assert self.reached and later.reached
            return later.at - self.at  # milliseconds

    monkeypatch.setattr("torch.cuda.Event", Event)
    clock = suite.DeviceClock()
    assert [clock(), clock(), clock()] == [0.0, 1.0, 1.00025]

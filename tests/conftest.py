"""Fixtures: a cache of its own for the whole session, the toy tasks, and the command line as a user has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# before torch and BLAS are imported, here and in every process started: workers side by side must not fight for cores
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # for the toys; tests are not a package
pytest.register_assert_rewrite("board_records", "gate_files", "checkpoint_runs", "hub_server", "reader_files")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory, worker_id):
    """Prepared data goes to a folder of this session's, shared by its workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "cache"
    os.environ["SEQBENCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def toys(cache):
    """The toy tasks, registered."""
    import seqbench

    seqbench.load_plugin(ROOT / "tests" / "toys.py")


FITTING = ("test_fault_the_threshold_comes_from_validation", "test_sentiment_and_textgen")


def pytest_collection_modifyitems(items):
    """Two workers begin with half of the tests each, and what fits baselines for minutes comes first in either.

    What needs them later finds them in the cache; both workers would fit the same ones at once otherwise.
    """
    named = {item.originalname: item for item in items if getattr(item, "originalname", "") in FITTING}
    if len(named) == len(FITTING):
        for name, place in zip(FITTING, (0, len(items) // 2), strict=True):
            items.remove(named[name])
            items.insert(place, named[name])


@pytest.fixture(scope="session")
def preloaded(cache):
    """A process that has imported torch, to fork commands from; None where that can't be done."""
    if sys.platform != "linux":
        yield None
        return
    from preloaded import Preloaded

    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def cli(tmp_path, preloaded):
    """``cli("--task", ...)`` runs run_bench.py in an empty folder; stdout, stderr and returncode come back.

    In a process of its own, which has imported torch already unless it is to be ``fresh``.
    """
    from preloaded import FRESH

    def run(*words, cwd=tmp_path, env=None, timeout=300, fresh=preloaded is None):
        words, environment = [*map(str, words)], {**os.environ, **(env or {})}
        if not fresh and not any(name.startswith(FRESH) for name in env or {}):
            return preloaded.run(words, cwd, environment, timeout)
        command = [sys.executable, str(ROOT / "run_bench.py"), *words]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """As `cli`, in this process: torch is imported already, and nothing is tested of how a process ends."""
    from seqbench.cli import main

    def run(*words):
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    return run


@pytest.fixture
def few_trees(monkeypatch):
    """Baselines of forests and convolutions that are fitted at once; for tests with a cache of their own."""
    from seqbench.baselines import forecast, windows

    monkeypatch.setattr(forecast, "TREES", 10)
    monkeypatch.setattr(windows, "ROUNDS", (5, 10))
    monkeypatch.setattr(windows, "CONVOLUTIONS", (84, 84))


@pytest.fixture
def short(monkeypatch):
    """Budgets of the toys that end within a second."""
    from checkpoint_runs import shorten

    shorten(monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """``undisturbed(task=..., model=...)`` is what that cell leaves where nothing goes wrong, run once a module."""
    from checkpoint_runs import Undisturbed

    return Undisturbed(tmp_path_factory)

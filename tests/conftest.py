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


@pytest.fixture
def cli(tmp_path):
    """``cli("--task", ...)`` runs run_bench.py in an empty folder; stdout, stderr and returncode come back."""

    def run(*words, cwd=tmp_path, env=None, timeout=300):
        return subprocess.run(
            [sys.executable, str(ROOT / "run_bench.py"), *map(str, words)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

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
def short(monkeypatch):
    """Budgets of the toys that end within a second."""
    from checkpoint_runs import shorten

    shorten(monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """``undisturbed(task=..., model=...)`` is what that cell leaves where nothing goes wrong, run once a module."""
    from checkpoint_runs import Undisturbed

    return Undisturbed(tmp_path_factory)

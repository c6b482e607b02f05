"""The process of a command: closed streams, no terminal, the umask, and Ctrl-C at moments that are not the work's."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import ROOT

import seqbench
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.prepare import prepare

BENCH = str(ROOT / "run_bench.py")
TOY = ("--plugin", str(ROOT / "tests" / "toys.py"), "--task", "toy-wave", "--budget", "smoke", "--hidden", "8")


def shell(line, *words, cwd, env=None):
    """Run ``line`` in a shell, where ``"$@"`` is run_bench.py with ``words``."""
    command = ["sh", "-c", line, "sh", sys.executable, BENCH, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def statuses(out):
    return [record.status for record, _ in Store(out).records(RunRecord)]


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_open_streams(tmp_path, closed):
    done = shell(f'"$@" {closed}', *TOY, "--model", "gru", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path / "out") == ["ok"]
    assert ("gru (this run)" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert ("training for" in done.stderr) == ("2>&-" not in closed)


def test_a_grid_and_a_mistake_need_no_open_streams_either(tmp_path):
    done = shell('"$@" <&- >&- 2>&-', *TOY, "--model", "rnn,gru", "--jobs", 2, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0 and statuses(tmp_path / "out") == ["ok", "ok"]
    done = shell('"$@" 2>&-', *TOY, "--model", "gur", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""


def test_a_run_needs_no_home_and_no_terminal(tmp_path):
    """With the few variables that cron gives; the cache is named so that none is made outside of the tests."""
    env = {"SEQBENCH_CACHE": os.environ["SEQBENCH_CACHE"]}
    done = shell('"$@"', *TOY, "--model", "rnn,gru", "--jobs", 2, "--out", "out", cwd=tmp_path, env=env)
    assert done.returncode == 0 and statuses(tmp_path / "out") == ["ok", "ok"], done.stderr


def test_what_is_written_to_a_closed_standard_error_goes_into_no_file(tmp_path):
    """Without a stand-in the first file that is opened has the number 2, which C code writes to."""
    code = (
        "import os, subprocess, sys; from seqbench.process import complete_streams; complete_streams()\n"
        "file = open('precious', 'w'); assert file.fileno() > 2, file.fileno()\n"
        "os.write(2, b'a warning'); print('shown', file=sys.stderr, flush=True); assert sys.stdin.read() == ''\n"
        "subprocess.run([sys.executable, '-c', 'import os; os.write(2, b\"a child\")'], check=True)\n"
        "file.write('kept')\n"
    )
    line = f"exec '{sys.executable}' -c \"$1\" <&- 2>&-"
    done = subprocess.run(["sh", "-c", line, "sh", code], cwd=tmp_path, timeout=60)
    assert done.returncode == 0 and (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize(("umask", "file", "folder"), [("077", 0o600, 0o700), ("002", 0o664, 0o775)])
def test_files_and_folders_follow_the_umask(tmp_path, umask, file, folder):
    env = {**os.environ, "SEQBENCH_CACHE": str(tmp_path / "cache")}
    for words in (
        (*TOY, "--model", "rnn", "--out", "out"),
        ("leaderboard", "out", "--out", "board.md"),
        (*TOY, "--model", "rnn,gru", "--jobs", 2, "--out", "out"),  # and what worker processes write
    ):
        done = shell(f'umask {umask}; "$@"', *words, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
    found = list(tmp_path.rglob("*"))
    assert {path.name for path in found} >= {"out", "cache", "board.md", "run-1", "record.json", "model.safetensors"}
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


def pressed(words, cwd, ready, wait=0.0, again=()):
    """Start a command and press Ctrl-C ``wait`` seconds after a line of its stderr holds ``ready``.

    And once more after each of the seconds ``again``.
    """
    running = subprocess.Popen(
        [*map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background of a shell, Ctrl-C is ignored by inheritance
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert any(ready in line for line in running.stderr)
    time.sleep(wait)
    running.send_signal(signal.SIGINT)
    for seconds in again:
        time.sleep(seconds)
        running.send_signal(signal.SIGINT)
    return running.communicate(timeout=60)[1], running.returncode


def without_traceback(rest, code):
    assert not any(word in rest for word in ("Traceback", "Exception ignored", "unexpected", "Fatal")), rest
    said = [line for line in rest.splitlines() if not line.startswith(("grid:", "toy-wave"))]
    assert code in (0, 130) and len(said) <= 1, (code, rest)


@pytest.mark.parametrize("module", ["seqbench.cli", "torch", "numpy", "sklearn.linear_model", "pandas"])
def test_ctrl_c_in_an_import_ends_the_process_without_a_traceback(tmp_path, module):
    """Whatever the package makes of it: here the press comes at the first module that ``module`` itself imports."""
    code = f"""
import builtins, signal, sys
sys.argv = ["seqbench", *{[*TOY, "--model", "rnn"]!r}]
from seqbench.process import interrupt_cleanly
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupt_cleanly()
whole, presses = builtins.__import__, []
def press(name, *rest, **named):
    if {module!r} in sys.modules and not presses:
        presses.append(name)
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            print("it could have been swallowed")
    return whole(name, *rest, **named)
builtins.__import__ = press
import {module}
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "seqbench: interrupted\n")


@pytest.mark.parametrize("module", ["seqbench.errors", "seqbench.cli.common", "torch.functional", "seqbench.jobs.pool"])
def test_ctrl_c_while_a_command_starts_is_one_sentence(tmp_path, module):
    """Python tells what it has imported, and Ctrl-C is pressed when it has come to ``module``."""
    words = [sys.executable, "-X", "importtime", BENCH, *TOY, "--model", "rnn,gru", "--jobs", 2]
    rest, code = pressed(words, tmp_path, f" {module}\n")
    rest = "".join(line for line in rest.splitlines(keepends=True) if not line.startswith("import time:"))
    without_traceback(rest, code)
    assert code == 130 and rest.startswith("seqbench: interrupted")


def test_ctrl_c_in_the_first_moments_leaves_no_traceback(tmp_path):
    """When Python has come to the package, and that has not come to anything."""
    for module in ("seqbench", "seqbench.__main__"):
        words = [sys.executable, "-X", "importtime", BENCH, *TOY, "--model", "rnn"]
        rest, code = pressed(words, tmp_path, f" {module}\n")
        rest = "".join(line for line in rest.splitlines(keepends=True) if not line.startswith("import time:"))
        assert code in (-signal.SIGINT, 130) and rest in ("", "seqbench: interrupted\n"), (code, rest)


LONG = ("--plugin", str(ROOT / "tests" / "toys.py"), "--task", "toy-first", "--budget", "full", "--hidden", "64")


@pytest.mark.parametrize(
    ("words", "ready", "again"),
    [
        (("--model", "gru"), "training for", (0.01, 0.0, 0.1)),
        (("--model", "gru,rnn", "--jobs", "2"), "to run", (0.0, 0.01)),
    ],
)
def test_ctrl_c_again_and_again_leaves_no_traceback(tmp_path, words, ready, again):
    rest, code = pressed([sys.executable, BENCH, *LONG, *words, "--out", "out"], tmp_path, ready, 0.0, again)
    without_traceback("".join(line for line in rest.splitlines(keepends=True) if "toy-first" not in line), code)
    assert code == 130 and statuses(tmp_path / "out") == []


def test_ctrl_c_in_a_single_run_with_a_process_of_its_own_says_where_it_was(tmp_path):
    """A model from a plug-in has one. The same command goes on from there, as with a built-in model."""
    words = [sys.executable, BENCH, *LONG, "--plugin", str(ROOT / "tests" / "broken_models.py"), "--model", "slow"]
    rest, code = pressed([*words, "--out", "out"], tmp_path, "training for", 0.2)
    without_traceback("".join(line for line in rest.splitlines(keepends=True) if "toy-first" not in line), code)
    (said,) = (line for line in rest.splitlines() if line.startswith("seqbench:"))
    assert re.fullmatch(r"seqbench: interrupted at step \d+ of .* The same command goes on from there\.", said)
    assert len(list((tmp_path / "out").rglob("checkpoint.safetensors"))) == 1


def test_runs_in_threads_have_the_figures_of_runs_one_after_the_other(tmp_path):
    """Torch's generators and its number of threads belong to the process: runs take turns."""
    about = {"budget": "smoke", "hidden": 8, "dropout": 0.3, "progress": False}

    def run(where, seed):
        return seqbench.run("toy-wave", "gru", seed=seed, out=tmp_path / where, **about).metrics

    alone = [run("alone", seed) for seed in range(3)]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(run, ["together"] * 3, range(3)))
    assert together == alone and torch.get_num_threads() == threads


def test_a_cache_whose_path_holds_two_colons_is_a_folder_like_others(tmp_path, monkeypatch):
    """Two of them would be a chain of file systems."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "c::d" / "cache"))
    prepared = prepare("toy-wave", {})
    assert prepared.folder.is_relative_to(tmp_path / "c::d" / "cache") and (prepared.folder / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["c::d"]
    assert stat.S_IMODE(prepared.folder.stat().st_mode) == stat.S_IMODE((prepared.folder / "train").stat().st_mode)
    monkeypatch.undo()
    usual = prepare("toy-wave", {})
    assert np.array_equal(prepared.data.train.truth().targets, usual.data.train.truth().targets)


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.1, 0.3])
def test_ctrl_c_at_the_end_of_a_grid_leaves_no_traceback(tmp_path, wait):
    words = [sys.executable, BENCH, *TOY, "--model", "rnn,gru", "--jobs", 2, "--out", "out"]
    without_traceback(*pressed(words, tmp_path, "2 of 2 cells", wait))
    assert statuses(tmp_path / "out") == ["ok", "ok"]


def test_ctrl_c_when_all_is_done_ends_nothing_and_shows_nothing(tmp_path):
    """While the interpreter shuts down, and in a destructor, where what is raised could only be printed."""
    code = """
import atexit, signal, sys, time
import seqbench.cli
from seqbench.__main__ import command
signal.signal(signal.SIGINT, signal.default_int_handler)
class Left:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def main():
    try:
        left = Left()
        del left
        time.sleep(10)
    except KeyboardInterrupt:
        print("heard")
    return 0
seqbench.cli.main = main
atexit.register(signal.raise_signal, signal.SIGINT)
sys.exit(command())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")

"""What a user sees while jobs go on: one time left that adds up, clocks that tick, phases; plain lines elsewhere."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT
from terminal import run_bench

from seqbench.jobs import progress
from seqbench.jobs.job import Job
from seqbench.jobs.progress import Terminal, _drawn

TOYS = ROOT / "tests" / "toys.py"
LSTM = ("--task", "weather", "--model", "lstm", "--hidden", "8")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def job(name, task="toy"):
    spec = SimpleNamespace(name=name, alike=(task, name), place=(task,), budget="smoke", seed=0, threads=1)
    return Job("seqbench.experiment", spec, name)


def ended(done, status="ok"):
    record = SimpleNamespace(status=status, headline="")
    return SimpleNamespace(job=done, record=record, folder=None, stored=False)


def test_time_left_counts_validation_and_what_is_left_after_a_checkpoint(clock):
    """Steps of .1 s and a pause of 5 s after every hundredth: 150 s in all."""
    terminal = Terminal(title="one")
    terminal.begin(1000)
    for step in range(1, 506):
        clock.now += 0.1 + 5.0 * (step % 100 == 1 and step > 1)
        if step % 5 == 0:
            terminal.step(step, 0.5)
    assert terminal.single.left() == pytest.approx(49.5 + 25, rel=0.05)
    resumed = Terminal(title="one")
    resumed.begin(2000, 812)
    assert resumed.single.left() is None  # nothing is known yet of how long a step takes
    clock.now += 10
    resumed.step(912, 0.5)
    assert resumed.single.left() == pytest.approx(0.1 * (2000 - 912))
    clock.now += 4
    assert resumed.single.left() == pytest.approx(0.1 * (2000 - 912) - 4)  # it goes on without an event


def test_a_grid_has_one_time_left_that_its_slots_can_keep(clock):
    jobs = [job(f"cell {i}") for i in range(5)]
    terminal = Terminal(2)
    terminal.planned(jobs, [])
    assert terminal.left() is None
    lines = [terminal.started(one) for one in jobs[:2]]
    for line in lines:
        line.begin(100)
    clock.now += 10
    lines[0].step(1, 0.5)
    clock.now += 10
    lines[0].step(50, 0.5)
    assert terminal.left() == pytest.approx(20 + 40 + 40)  # 40 s each, of which two cells have done half
    clock.now += 20
    terminal.ended(ended(jobs[0]))  # 40 s; the other one is as far as that
    terminal.started(jobs[2])
    assert terminal.left() == pytest.approx(80)  # third and fourth side by side, then the fifth
    drawn = list(terminal.drawn(100))
    assert len(drawn) == 3 and drawn[0].startswith("grid") and "1/5 cells" in drawn[0]
    assert "about 80 s left" in drawn[0] and not any("left" in line for line in drawn[1:])
    clock.now += 7
    assert "0:47" in next(iter(terminal.drawn(100)))  # the clock goes on without an event


@pytest.mark.parametrize("width", [30, 40, 60, 80, 160])
@pytest.mark.parametrize("done", [0.3, "validation"])
def test_a_loss_is_never_squeezed(width, done):
    figures = {"steps": " 812/2000", "loss": "loss 0.1234 ", "clock": " 0:45", "left": " 1:20 left"}
    line = _drawn("weather transformer", done, figures, width, "#-")
    assert "loss 0.1234" in line and len(line) <= width
    assert ("#" in line) == (width >= 80 and done == 0.3)
    assert width < 60 or " 812/2000" in line


def steps_on(screens):
    """(step, elapsed, left or phase) of the screens that show a single job."""
    found = []
    for lines in screens:
        for line in lines[-1:]:
            if match := re.search(
                r"weather lstm .*?(\d+)/(\d+) +loss \d+\.\d+ +(\d+:\d\d)(?: +(\d+:\d\d) left)?", line
            ):
                found.append(match.groups())
            elif match := re.search(r"weather lstm +(validation|testing|baselines|writing) +loss \d+\.\d+", line):
                found.append(match[1])
    return found


@pytest.fixture(scope="module")
def prepared(cache):
    """The data of weather with its baselines, so that no test waits for it."""
    command = [sys.executable, str(ROOT / "run_bench.py"), "data", "prepare", "weather"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_single_run_in_a_terminal(tmp_path, prepared, columns):
    shown = run_bench(*LSTM, cwd=tmp_path, columns=columns, lines=40, watch=True)
    assert shown.code == 0, shown.text
    live = [line for lines in shown.screens for line in lines if re.search("loss \\d", line)]
    assert live and all(re.search(r"loss \d+\.\d{4}", line) for line in live)
    assert not any("loss" in line for line in shown.lines)  # it is gone at the end
    assert shown.raw.count(b"\x1b[?25l") == shown.raw.count(b"\x1b[?25h") == 1
    if columns == 80:
        found = steps_on(shown.screens)
        full = [one for one in found if not isinstance(one, str) and one[0] == one[1]]
        assert full == []  # no full bar that stands still
        assert {"validation", "testing", "baselines", "writing"} & {one for one in found if isinstance(one, str)}
        assert any(one[3] for one in found if not isinstance(one, str))


def test_a_grid_in_a_terminal(tmp_path):
    words = ("--plugin", TOYS, "--task", "toy-first", "--model", "rnn,gru", "--hidden", "8", "--jobs", 2)
    shown = run_bench(*words, cwd=tmp_path, lines=40, watch=True)
    assert shown.code == 0, shown.text
    lines = [line for screen in shown.screens for line in screen if re.match("grid .* cells", line)]
    clocks = {re.search(r"failed +(\d+:\d\d)", line)[1] for line in lines if "cells  0 failed" in line}
    assert len(clocks) >= 3  # seconds in which processes only start, too
    assert any(re.search(r"about \d+ s left", line) for line in lines)
    cells = [line for screen in shown.screens for line in screen if re.match(r"toy-first \w+ seed 0.*\d:\d\d", line)]
    assert cells and not any("left" in line for line in cells)
    assert any(re.search(r"grid: 2 of 2 cells, 0 failed after \d+ s", line) for line in shown.lines)


def test_ctrl_c_leaves_the_terminal_in_order(tmp_path, prepared):
    shown = run_bench(*LSTM, "--budget", "standard", cwd=tmp_path, lines=40, interrupt="/5000")
    assert shown.code == 130 and "interrupted at step" in shown.lines[-2] + shown.lines[-1]
    assert shown.raw.rindex(b"\x1b[?25h") > shown.raw.rindex(b"\x1b[?25l") and "loss" not in shown.text


def test_a_dumb_terminal_gets_plain_lines(tmp_path, prepared):
    shown = run_bench(*LSTM, "--budget", "smoke", cwd=tmp_path, env={"TERM": "dumb"})
    assert "weather lstm: training for 40 steps" in shown.text and b"\x1b" not in shown.raw


@pytest.mark.parametrize("close", ["2>&-", "2>/dev/full"])
def test_a_closed_or_full_stderr_does_not_end_a_run(tmp_path, close):
    words = f"'{sys.executable}' '{ROOT / 'run_bench.py'}' --plugin '{TOYS}' --task toy-wave --model gru --budget smoke"
    done = subprocess.run(
        f"{words} {close}", shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert done.returncode == 0 and "gru (this run)" in done.stdout


class Broken:
    """A terminal that has gone."""

    def isatty(self):
        return True

    def write(self, text=""):
        raise BrokenPipeError

    flush = fileno = write


def test_a_terminal_that_goes_away_does_not_end_a_run(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Broken())
    with Terminal(title="one") as terminal:
        terminal.say("a line")
        terminal.begin(3)
        terminal.step(1, 0.5)
        terminal.say("another")
        terminal.phase("testing")

"""What a user sees on stderr while jobs go on: lines that are drawn anew on a terminal, now and then a plain line
elsewhere.

On a terminal every running job has a line with its bar, its steps, its loss and its clock; clocks go on between events
because a thread of rich's draws the lines. One time left is shown: of the single job, or of the whole grid.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from seqbench.jobs import FINE
from seqbench.jobs.job import Job, Listener, Outcome
from seqbench.report.terminal import in_terminal, wrapped
from seqbench.report.text import counted, duration, short

if TYPE_CHECKING:  # --help answers before it is imported
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

__all__ = ["Terminal"]

ALONE, AMONG = 15.0, 60.0  # seconds between plain lines about a running job: a single one, or one of many
PER_SECOND = 4  # times that live lines are drawn
LEAST_BAR, MOST_BAR = 6, 40
LEAST_NAME = 8
DROPPED = ("clock", "steps", "failed", "left")  # figures that a narrow terminal does without, in this order
Figures = dict[str, str]  # by what they are


class Terminal(Listener):
    """Shows how jobs go, up to ``slots`` at once; a context manager, so that the terminal is left in order.

    With a ``title`` it shows a single job under that name, and neither plans nor ends.
    """

    def __init__(self, slots: int = 1, title: str = "") -> None:
        self.title = title
        self.slots = slots
        self.stream = sys.stderr
        self.live = in_terminal(self.stream) and os.environ.get("TERM") not in ("dumb", "unknown")
        self.done = self.failed = self.total = 0
        self.begun: float | None = None  # when jobs were planned first
        self.waiting: list[Job] = []
        self.spent: dict[tuple[str, ...], list[float]] = {}  # seconds that jobs took, by what they are alike in
        self.lines: dict[str, _Line] = {}
        self.single = _Line(self, title, ALONE)
        self.display: Live | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.display is not None:
            self.display.stop()
            self.display = None
            if self.begun is not None:
                self.write(f"{self._state()} after {duration(time.monotonic() - self.begun)}")

    def write(self, line: str) -> None:
        """A line that stays."""
        if self.display is not None:
            console = self.display.console
            console.print(wrapped(line, console.width), markup=False, highlight=False, soft_wrap=True)
        elif self.stream is not None:
            with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
                print(line, file=self.stream, flush=True)

    def say(self, line: str) -> None:
        """With the title where there is one."""
        self.single.say(line) if self.title else self.write(line)

    def begin(self, steps: int, done: int = 0) -> None:
        """Of the single job."""
        if not self.live and not done:
            self.say(f"training for {steps} steps")
        self.single.begin(steps, done)
        self._show()

    def step(self, step: int, loss: float = 0.0) -> None:
        """Of the single job."""
        self.single.step(step, loss)

    def phase(self, name: str) -> None:
        """Of the single job."""
        self.single.phase(name)

    def planned(self, jobs: Sequence[Job], stored: Sequence[Outcome]) -> None:
        """Say what is to be done."""
        if self.title:
            return
        self.waiting = list(jobs)
        self.done, self.total = len(stored), len(stored) + len(jobs)
        self.write(
            f"grid: {counted(self.total, 'cell')}, {len(stored)} with results, {len(jobs)} to run, {self.slots} at once"
        )
        if jobs:
            self.begun = self.begun or time.monotonic()
            self._show()

    def started(self, job: Job) -> Listener:
        """A line for it; the single job has its own."""
        if self.title:
            return self
        line = self.lines[job.key] = _Line(self, job.spec.name, AMONG, job)
        self._forget(job)
        return line

    def ended(self, outcome: Outcome) -> None:
        """Say how, and how much is left."""
        if self.title:
            return
        job, record = outcome.job, outcome.record
        line = self.lines.pop(job.key, None)
        took = " (by another grid)"
        if line is not None:
            seconds = time.monotonic() - line.begun
            self.spent.setdefault(job.spec.alike, []).append(seconds)
            took = f" in {duration(seconds)}"
        self._forget(job)
        self.done += 1
        self.failed += record.status not in FINE
        headline = f", {record.headline}" if record.headline else ""
        self.write(f"{job.spec.name}: {record.status}{took}{headline}")
        if not self.live:
            left = self.left()
            self.write(self._state() + ("" if left is None else f", about {duration(left)} left"))

    def left(self) -> float | None:
        """Seconds until all jobs are done if each takes what those like it took, and slots are never idle."""
        now = time.monotonic()
        lines = [line for line in list(self.lines.values()) if line.job is not None]
        waiting = list(self.waiting)
        known = {alike: list(seconds) for alike, seconds in self.spent.items()}
        for line in lines:  # while none like it has ended, one that runs tells
            own = line.left()
            if own is not None and line.job and line.job.spec.alike not in self.spent:
                known.setdefault(line.job.spec.alike, []).append(now - line.begun + own)
        everything = [seconds for spent in known.values() for seconds in spent]
        if not everything or not (waiting or lines):
            return None

        def usual(job: Job) -> float:
            """As those alike, else as all of its task, else as all."""
            alike = job.spec.alike
            general = [seconds for other, spent in known.items() if other[0] == alike[0] for seconds in spent]
            seconds = known.get(alike) or general or everything
            return sum(seconds) / len(seconds)

        running = [max(0.0, usual(line.job) - (now - line.begun)) for line in lines if line.job]
        ends = running + [0.0] * max(0, self.slots - len(running))
        heapq.heapify(ends)
        for job in waiting:
            heapq.heappush(ends, heapq.heappop(ends) + usual(job))
        return max(ends)

    def _forget(self, job: Job) -> None:
        self.waiting = [other for other in self.waiting if other is not job]

    def _state(self) -> str:
        return f"grid: {self.done} of {counted(self.total, 'cell')}, {self.failed} failed"

    def _show(self) -> None:
        """Begin to draw live lines."""
        if not self.live or self.display is not None:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=cast(IO[str], _Steady(self.stream)))
        settings: dict[str, Any] = {"refresh_per_second": PER_SECOND, "transient": True, "redirect_stdout": False}
        self.display = Live(self, console=console, **settings)
        self.display.start()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The live lines, each as wide as the terminal at most."""
        from rich.text import Text

        room = options.max_width - 3  # a terminal writes ^C behind a line; one that wraps then would be left there
        for line in self.drawn(room, ascii_only=options.ascii_only):
            yield Text(line, no_wrap=True, overflow="crop")

    def drawn(self, width: int, *, ascii_only: bool = False) -> Iterator[str]:
        """The live lines as text."""
        marks = "#-" if ascii_only else "━─"
        if self.title:
            yield _drawn(*self.single.cells(), width, marks)
            return
        now, left = time.monotonic(), self.left()
        figures = {"cells": f"{self.done}/{self.total} cells", "failed": f"{self.failed} failed"}
        if self.begun is not None:
            figures["clock"] = _clock(now - self.begun)
        if left is not None:
            figures["left"] = f"about {duration(left)} left"
        lines = [line.cells() for line in list(self.lines.values())]
        partly = sum(done for _, done, _ in lines if not isinstance(done, str))
        share = (self.done + partly) / self.total if self.total else 0.0
        longest = max((len(name) for name, *_ in lines), default=0)
        yield _drawn("grid".ljust(longest), share, figures, width, marks)
        for name, done, cells in lines:
            yield _drawn(name.ljust(longest), done, cells, width, marks)


class _Line(Listener):
    """One running job: its step, its phase and its clock."""

    def __init__(self, terminal: Terminal, name: str, every: float, job: Job | None = None) -> None:
        self.terminal, self.name, self.every, self.job = terminal, name, every, job
        self.begun = self.said = self.reported = time.monotonic()
        self.steps = self.at = 0
        self.loss = 0.0
        self.doing = "starting"
        self.first: tuple[int, float] | None = None  # a step and when it was done, from which speed is counted

    def say(self, line: str) -> None:
        self.terminal.write(f"{self.name}: {line}")

    def begin(self, steps: int, done: int = 0) -> None:
        now = time.monotonic()
        if self.job is None:
            self.begun = now
        self.steps, self.at, self.doing = steps, done, ""
        self.first, self.reported = (done, now), now

    def step(self, step: int, loss: float = 0.0) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (0, self.reported)
        self.at, self.loss, self.reported = step, loss, now
        self.doing = "validation" if step == self.steps and loss else ""  # the last step is followed by one
        if self.terminal.live:
            return
        if now - self.said >= self.every or (self.job is None and step == self.steps):
            self.said = now
            left = self.left() if self.job is None else None  # a grid has one time left, for all
            ending = "" if left is None else f", {duration(left)} left"
            self.say(f"step {step} of {self.steps}, loss {loss:.4f}{ending}")

    def phase(self, name: str) -> None:
        self.doing = name

    def left(self) -> float | None:
        """Seconds that the steps will take at the speed so far, pauses for validation included."""
        if self.first is None or self.at <= self.first[0]:
            return 0.0 if self.steps and self.at == self.steps else None
        rate = (self.reported - self.first[1]) / (self.at - self.first[0])
        return max(0.0, rate * (self.steps - self.at) - (time.monotonic() - self.reported))

    def cells(self) -> tuple[str, float | str, Figures]:
        """Its name; how far it is, or what it is doing instead of steps; and figures, of columns that don't move."""
        figures = {}
        if self.steps and not self.doing:
            figures["steps"] = f"{self.at}/{self.steps}".rjust(2 * len(f"{self.steps}") + 1)
        if self.loss:
            figures["loss"] = f"loss {self.loss:.4g}" if abs(self.loss) >= 1000 else f"loss {self.loss:<7.4f}"
        figures["clock"] = _clock(time.monotonic() - self.begun).rjust(5)
        left = self.left() if self.job is None and not self.doing else None
        if left is not None:
            figures["left"] = f"{_clock(left).rjust(5)} left"
        return self.name, self.doing or (self.at / self.steps if self.steps else 0.0), figures


class _Steady:
    """A stream that may be closed or lose its reader: what can't be written is dropped, and the work goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _clock(seconds: float) -> str:
    """``0:07``, ``12:40``, ``3:05:00``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _drawn(name: str, done: float | str, figures: Figures, width: int, marks: str) -> str:
    """One live line. Where ``width`` is too little the bar goes first, then the name gets shorter, then figures go; a
    loss is always whole.
    """
    kept = dict(figures)
    for left_out in ("", *DROPPED):
        kept.pop(left_out, "")
        shown = "  ".join(kept.values())
        room = width - len(name) - len(shown) - 4
        if isinstance(done, str):
            middle = done.ljust(min(room, MOST_BAR))
        else:
            size = min(room, MOST_BAR)
            full = round(done * size)
            middle = marks[0] * full + marks[1] * (size - full) if size >= LEAST_BAR else ""
        over = sum(len(part) + 2 for part in (name, middle, shown) if part) - 2 - width
        least = min(LEAST_NAME, len(name))
        if len(name) - over >= least:
            break
    else:  # not even so
        over, middle = over - len(middle) - 2, ""
    name = name if over <= 0 else short(name, max(least, len(name) - over))
    return "  ".join(filter(None, (name, middle, shown)))

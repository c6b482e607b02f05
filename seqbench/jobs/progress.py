"""What a user sees on stderr while jobs go on: live bars on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Never

from tqdm import tqdm

from seqbench.jobs import FINE
from seqbench.jobs.job import Job, Listener, Outcome
from seqbench.report.text import duration

__all__ = ["Terminal"]

ALONE, AMONG = 15.0, 60.0  # seconds between plain lines about a running job: a single one, or one of many


class Terminal(Listener):
    """Shows how jobs go, up to ``slots`` at once; a context manager, so that the terminal is left in order.

    With a ``title`` it shows a single job under that name, and neither plans nor ends.
    """

    def __init__(self, slots: int = 1, title: str = "") -> None:
        self.title = title
        self.slots = slots
        self.live = sys.stderr.isatty()
        self.done = self.failed = self.total = 0
        self.waiting: list[Job] = []
        self.spent: dict[tuple[str, ...], list[float]] = {}  # seconds that jobs took, by what they are alike in
        self.lines: dict[str, _Line] = {}
        self.free = list(range(1, slots + 1))
        self.bar: tqdm[Never] | None = None
        self.single = _Line(self, title, 0, ALONE)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in (*self.lines.values(), self.single):
            line.close()
        if self.bar is not None:
            self.bar.close()

    def write(self, line: str) -> None:
        """A line that stays."""
        with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
            if self.live:
                tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """With the title where there is one."""
        self.single.say(line) if self.title else self.write(line)

    def begin(self, steps: int, done: int = 0) -> None:
        """Of the single job."""
        if not self.live and not done:
            self.say(f"training for {steps} steps")
        self.single.begin(steps, done)

    def step(self, step: int, loss: float = 0.0) -> None:
        """Of the single job."""
        self.single.step(step, loss)

    def planned(self, jobs: Sequence[Job], stored: Sequence[Outcome]) -> None:
        """Say what is to be done."""
        self.waiting = list(jobs)
        self.done, self.total = len(stored), len(stored) + len(jobs)
        self.write(f"grid: {self.total} cells, {len(stored)} with results, {len(jobs)} to run, {self.slots} at once")
        if self.live and jobs:
            self.bar = tqdm(
                total=self.total, initial=self.done, desc="grid", unit="cell", dynamic_ncols=True, position=0
            )

    def started(self, job: Job) -> Listener:
        """A line for it."""
        line = self.lines[job.key] = _Line(self, job.spec.name, self.free.pop(0), AMONG, job)
        if self.live:
            line.begin(0)
        self._forget(job)
        return line

    def ended(self, outcome: Outcome) -> None:
        """Say how, and how much is left."""
        job, record = outcome.job, outcome.record
        line = self.lines.pop(job.key, None)
        took = " (by another grid)"
        if line is not None:
            line.close()
            self.free = sorted([*self.free, line.place])
            seconds = time.monotonic() - line.begun
            self.spent.setdefault(job.spec.alike, []).append(seconds)
            took = f" in {duration(seconds)}"
        self._forget(job)
        self.done += 1
        self.failed += record.status not in FINE
        headline = f", {record.headline}" if record.headline else ""
        self.write(f"{job.spec.name}: {record.status}{took}{headline}")
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.failed} failed{self._left()}", refresh=False)
            self.bar.update(1)
        else:
            self.write(f"grid: {self.done} of {self.total} cells, {self.failed} failed{self._left()}")

    def _forget(self, job: Job) -> None:
        self.waiting = [other for other in self.waiting if other is not job]

    def _left(self) -> str:
        """How long the rest will take if jobs go on as those alike, else as all of their task, else as all have."""
        everything = [seconds for spent in self.spent.values() for seconds in spent]
        if not everything or not (self.waiting or self.lines):
            return ""

        def usual(job: Job) -> float:
            alike = job.spec.alike
            general = [seconds for other, spent in self.spent.items() if other[0] == alike[0] for seconds in spent]
            known = self.spent.get(alike) or general or everything
            return sum(known) / len(known)

        now = time.monotonic()
        running = [max(0.0, usual(line.job) - (now - line.begun)) for line in self.lines.values() if line.job]
        rest = (sum(map(usual, self.waiting)) + sum(running)) / self.slots
        return f", about {duration(max([rest, *running]))} left"


class _Line(Listener):
    """One running job: its step and, on a terminal, its bar."""

    def __init__(self, terminal: Terminal, name: str, place: int, every: float, job: Job | None = None) -> None:
        self.terminal, self.name, self.place, self.every, self.job = terminal, name, place, every, job
        self.begun = self.since = self.said = time.monotonic()
        self.steps = self.first = 0
        self.bar: tqdm[Never] | None = None

    def say(self, line: str) -> None:
        self.terminal.write(f"{self.name}: {line}")

    def begin(self, steps: int, done: int = 0) -> None:
        self.steps, self.first, self.since = steps, done, time.monotonic()
        if self.terminal.live:
            self.close()
            self.bar = tqdm(
                total=steps or None,
                initial=done,
                desc=self.name,
                unit="step",
                dynamic_ncols=True,
                position=self.place,
                leave=False,
            )

    def step(self, step: int, loss: float = 0.0) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.said >= self.every or (self.job is None and step == self.steps):
            self.said = now
            left = duration((now - self.since) / max(1, step - self.first) * (self.steps - step))
            self.say(f"step {step} of {self.steps}, loss {loss:.4f}, {left} left")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

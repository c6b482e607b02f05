"""What a user sees while a run goes on, on stderr: a live bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Never

from tqdm import tqdm

from seqbench.experiment import Listener
from seqbench.jobs.pool import Event, Work
from seqbench.jobs.record import FINE, Kept

__all__ = ["GridProgress", "Progress", "duration"]

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal


class Progress:
    """Context manager whose ``listener`` a run reports to."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.live = sys.stderr.isatty()
        self.bar: tqdm[Never] | None = None
        self.steps = 0
        self.since = self.said = time.monotonic()
        self.listener = Listener(say=self._say, begin=self._begin, report=self._report)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the run goes on
            print(f"{self.title}: {line}", file=sys.stderr, flush=True)

    def _begin(self, steps: int) -> None:
        self.steps, self.since = steps, time.monotonic()
        if self.live:
            self.bar = tqdm(total=steps, desc=self.title, unit="step", dynamic_ncols=True, leave=False)
        else:
            self._say(f"training for {steps} steps")

    def _report(self, step: int, loss: float) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.said >= PLAIN_EVERY or step == self.steps:
            self.said = now
            left = (now - self.since) / step * (self.steps - step)
            self._say(f"step {step} of {self.steps}, loss {loss:.4f}, {left:.0f} s left")


PLAIN_EVERY = 60.0  # seconds between lines about running cells where there is no terminal


def duration(seconds: float) -> str:
    """As a person would say it: ``40 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class _Line:
    """A running cell: its step and, on a terminal, its bar."""

    def __init__(self, cell: Work[Any], bar: tqdm[Never] | None) -> None:
        self.cell, self.bar = cell, bar
        self.begun = self.said = time.monotonic()
        self.step, self.steps, self.loss = 0, 0, 0.0


class GridProgress:
    """A `grid.Watcher`; a context manager, so that the terminal is left in order.

    ``seconds`` holds what cells are thought to take, by kind; what they do take replaces it.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.live = sys.stderr.isatty()
        self.done = self.failed = self.total = 0
        self.waiting: list[Work[Any]] = []
        self.spent: dict[tuple[str, ...], list[float]] = {}
        self.lines: dict[str, _Line] = {}
        self.free = list(range(1, slots + 1))
        self.bar: tqdm[Never] | None = None

    def __enter__(self) -> GridProgress:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in [*(line.bar for line in self.lines.values()), self.bar]:
            if bar is not None:
                bar.close()

    def say(self, line: str) -> None:
        """A line that stays."""
        with contextlib.suppress(OSError):  # whoever read this may have gone; the grid goes on
            if self.live:
                tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def planned(self, cells: Sequence[Work[Any]], stored: Sequence[tuple[Work[Any], Kept]]) -> None:
        """Say what is to be done."""
        self.waiting = list(cells)
        self.done, self.total = len(stored), len(stored) + len(cells)
        self.say(f"grid: {self.total} cells, {len(stored)} with results, {len(cells)} to run, {self.slots} at once")
        if self.live and cells:
            self.bar = tqdm(
                total=self.total, initial=self.done, desc="grid", unit="cell", dynamic_ncols=True, position=0
            )

    def started(self, cell: Work[Any]) -> None:
        """A line for it."""
        bar = None
        if self.live:
            bar = tqdm(desc=cell.name, unit="step", dynamic_ncols=True, position=self.free.pop(0), leave=False)
        self.lines[cell.key] = _Line(cell, bar)
        self.waiting = [other for other in self.waiting if other is not cell]

    def heard(self, cell: Work[Any], event: Event) -> None:
        """Show it."""
        line = self.lines[cell.key]
        if event.kind == "say":
            self.say(f"{cell.name}: {event.values[0]}")
        elif event.kind == "begin":
            line.steps = event.values[0]
            if line.bar is not None:
                line.bar.reset(total=line.steps)
        elif event.kind == "step":
            line.step, line.loss = event.values
            if line.bar is not None:
                line.bar.set_postfix_str(f"loss {line.loss:.4f}", refresh=False)
                line.bar.update(line.step - line.bar.n)
            elif time.monotonic() - line.said >= PLAIN_EVERY:
                line.said = time.monotonic()
                self.say(f"  {cell.name}: step {line.step} of {line.steps}, loss {line.loss:.4f}")

    def ended(self, cell: Work[Any], record: Kept, folder: object) -> None:
        """Say how, and how much is left."""
        line = self.lines.pop(cell.key, None)
        if line is not None:
            self.spent.setdefault(cell.kind, []).append(time.monotonic() - line.begun)
            if line.bar is not None:
                self.free.append(-line.bar.pos)
                self.free.sort()
                line.bar.close()
        self.waiting = [other for other in self.waiting if other is not cell]
        self.done += 1
        self.failed += record.status not in FINE
        took = f" in {duration(self.spent[cell.kind][-1])}" if line is not None else " (by another grid)"
        self.say(f"{cell.name}: {record.status}{took}, {record.headline}")
        state = f"{self.done} of {self.total} cells, {self.failed} failed{self._left()}"
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.failed} failed{self._left()}", refresh=False)
            self.bar.update(1)
        else:
            self.say(f"grid: {state}")

    def _left(self) -> str:
        """How long the rest will take if cells go on as those of their kind, else of their task, else all have."""
        everything = [seconds for spent in self.spent.values() for seconds in spent]
        if not everything or not (self.waiting or self.lines):
            return ""

        def usual(cell: Work[Any]) -> float:
            task = [s for kind, spent in self.spent.items() if kind[0] == cell.kind[0] for s in spent]
            found = self.spent.get(cell.kind) or task or everything
            return sum(found) / len(found)

        now = time.monotonic()
        running = [max(0.0, usual(line.cell) - (now - line.begun)) for line in self.lines.values()]
        rest = (sum(map(usual, self.waiting)) + sum(running)) / self.slots
        return f", about {duration(max([rest, *running]))} left"

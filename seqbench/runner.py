"""Running many cells, each in a process of its own, so that every one of them gets a record. No torch.

A cell is keyed by content and its record appears whole or not at all, so what was killed is simply run again: what has
a record is skipped, the rest is run. What a cell computes is none of the runner's business: runs of tasks and cases of
probes go through it alike.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from seqbench.executor import Event, Executor, Job
from seqbench.kept import DONE, Kept
from seqbench.store import KeptStore

__all__ = ["TIME_LIMITS", "Runner", "Watcher", "Work"]

TIME_LIMITS = {"smoke": 600.0, "quick": 7_200.0, "standard": 86_400.0, "full": 604_800.0}  # seconds a cell

K = TypeVar("K", bound=Kept)
K_co = TypeVar("K_co", bound=Kept, covariant=True)


class Work(Protocol[K_co]):
    """A cell that can be run: what it is called, the key of its record, and the folder of its runs."""

    @property
    def name(self) -> str:
        """What a reader tells it by."""

    @property
    def kind(self) -> tuple[str, ...]:
        """What it shares with cells that take about as long."""

    @property
    def key(self) -> str:
        """Of its content."""

    @property
    def folder(self) -> Path:
        """Where its runs lie."""

    def job(self, root: Path, plugins: tuple[Path, ...], *, force: bool) -> Job:
        """What another process needs to run it."""

    def failed(self, status: Any, reason: str) -> K_co:
        """Its record if its process left none."""


W = TypeVar("W", bound=Work[Any])


class Watcher(Protocol):
    """Who is told how a grid goes on."""

    def planned(self, cells: Sequence[Work[Any]], stored: Sequence[tuple[Work[Any], Kept]]) -> None:
        """``cells`` are to run; ``stored`` have their records."""

    def started(self, cell: Work[Any]) -> None:
        """A process was started."""

    def heard(self, cell: Work[Any], event: Event) -> None:
        """A running cell said something."""

    def ended(self, cell: Work[Any], record: Kept, folder: Path) -> None:
        """A cell has its record."""


@dataclass
class _Running:
    cell: Work[Any]
    job: Job
    before: Path | None  # the newest run when it was started
    memory_kills: int | None = field(default_factory=lambda: _memory_kills())
    started: float = field(default_factory=time.monotonic)
    refused: str = ""
    late: bool = False


class Runner(Generic[W, K]):
    """Runs cells on an executor and sees to it that each of them gets a record, whatever becomes of its process."""

    def __init__(
        self,
        store: KeptStore[K],
        executor: Executor,
        watcher: Watcher,
        limit: float,
        plugins: tuple[Path, ...] = (),
        *,
        force: bool = False,
    ) -> None:
        self.store, self.executor, self.watcher, self.limit = store, executor, watcher, limit
        self.plugins, self.force = plugins, force
        self._running: dict[str, _Running] = {}

    def run(self, cells: Sequence[W]) -> list[tuple[W, K, Path]]:
        """Run those that have no final record; returns all with theirs.

        Raises:
            OSError: a record could not be written; running cells are ended, and what has a record keeps it.
        """
        cells = list({cell.key: cell for cell in cells}.values())
        stored = [] if self.force else [(cell, found[0]) for cell in cells if (found := self._final(cell))]
        done = {cell.key for cell, _ in stored}
        waiting = deque(cell for cell in cells if cell.key not in done)
        self.watcher.planned(tuple(waiting), stored)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.executor.slots:
                    self._start(waiting.popleft())
                if self._running:
                    self._listen()
        finally:
            self.executor.close()
        return [(cell, *found) for cell in cells if (found := self._result(cell))]

    def _result(self, cell: Work[K]) -> tuple[K, Path] | None:
        return self.store.find(cell.folder, cell.key)

    def _final(self, cell: Work[K]) -> tuple[K, Path] | None:
        found = self._result(cell)
        return found if found and found[0].status in DONE else None

    def _start(self, cell: Work[K]) -> None:
        found = self._result(cell)
        if found and found[0].status in DONE and not self.force:  # another grid was faster
            self.watcher.ended(cell, *found)
            return
        job = cell.job(self.store.root, self.plugins, force=self.force)
        self._running[job.name] = _Running(cell, job, found[1] if found else None)
        self.executor.start(job)
        self.watcher.started(cell)

    def _listen(self) -> None:
        """Wait for one event, at most a second, and see to it."""
        for running in self._running.values():
            if not running.late and time.monotonic() - running.started > self.limit:
                running.late = True
                self.executor.stop(running.job)
        event = self.executor.wait(1.0)
        if event is None:
            return
        running = self._running[event.job.name]
        if event.kind == "unsaved":
            raise OSError(f"{running.cell.name}: {event.values[0]}")
        if event.kind == "refused":
            running.refused = event.values[0]
        if event.kind != "ended":
            self.watcher.heard(running.cell, event)
            return
        del self._running[event.job.name]
        found = self._result(running.cell)
        if found is None or found[1] == running.before:
            found = self._failed(running, *event.values)
        self.watcher.ended(running.cell, *found)

    def _failed(self, running: _Running, code: int, tail: str) -> tuple[K, Path]:
        """The record of a cell whose process left none."""
        record = running.cell.failed(*self._why(running, code, tail))
        with self.store.writing(running.cell.folder) as folder:
            (folder / "traceback.txt").write_text(tail or "nothing was written to stderr\n", encoding="utf-8")
            return self.store.publish(folder, running.cell.folder, record, again=running.before is not None)

    def _why(self, running: _Running, code: int, tail: str) -> tuple[str, str]:
        """Status and reason of a process that ended with ``code`` and left no record."""
        if running.late:
            return "timeout", f"took longer than the time limit of {self.limit:g} s"
        if running.refused:
            return "error", running.refused
        last = (tail.strip().splitlines() or ["it wrote nothing"])[-1].strip()
        if code < 0:
            name = str(-code)
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
            if name == "SIGKILL" and running.memory_kills != _memory_kills():
                return "oom", "the system killed its process (SIGKILL) because memory ran out"
            return "error", f"its process was ended by {name}: {last}"
        return "error", f"its process ended with exit code {code} and left no record: {last}"


def _memory_kills() -> int | None:
    """How many processes the system has killed because memory ran out, where it tells."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None

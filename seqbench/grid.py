"""Many cells: which there are, which of them are still to be run, and running those, each in a process of its own.

A grid keeps no state but the store. A cell is keyed by content, its record appears whole or not at all, so a grid that
was killed is simply run again: what has a record is skipped, the rest is run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from seqbench.cell import DONE
from seqbench.config import RunConfig
from seqbench.executor import Event, Executor, Job
from seqbench.outcome import Writer
from seqbench.plan import Plan, plan
from seqbench.prepare import Prepared, fit_baselines, prepare
from seqbench.record import Record
from seqbench.registry import Registry
from seqbench.store import Store

__all__ = ["TIME_LIMITS", "Cell", "Grid", "Runner", "Watcher", "chosen_names"]

TIME_LIMITS = {"smoke": 600.0, "quick": 7_200.0, "standard": 86_400.0, "full": 604_800.0}  # seconds a cell


def chosen_names(text: str, registry: Registry[Any]) -> tuple[str, ...]:
    """``"all"`` or ``"dna,stock"`` to registered names, each once; an unknown one is answered with the nearest."""
    if text == "all":
        return tuple(registry.names())
    return tuple(dict.fromkeys(registry.entry(name.strip()).name for name in text.split(",")))


@dataclass(frozen=True)
class Cell:
    """A planned cell and the folder of its runs."""

    plan: Plan
    folder: Path

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        config = self.plan.config
        return f"{config.task} {config.model} seed {config.seed}, rate {config.learning_rate:g}"

    @property
    def kind(self) -> tuple[str, str]:
        """What it shares with cells that take about as long."""
        return self.plan.config.task, self.plan.config.model


class Grid:
    """Cells of every task, model and seed; data is prepared once a task.

    Raises:
        UserError: for a name, option or value that can't be used; before anything is run.
    """

    def __init__(self, base: RunConfig, tasks: Sequence[str], models: Sequence[str], store: Store) -> None:
        self.base, self.tasks, self.models, self.store = base, tuple(tasks), tuple(models), store
        self._prepared: dict[str, Prepared] = {}

    def prepare(self, say: Callable[[str], None], *, baselines: bool = True) -> None:
        """Build what all cells of a task share, so that no two of them build it at once."""
        for task in self.tasks:
            config = dataclasses.replace(self.base, task=task, model=self.models[0])
            self._prepared[task] = prepare(task, config.task_options, config.source, say, config.data)
            if baselines:
                fit_baselines(self._prepared[task], lambda line, task=task: say(f"{task}: {line}"))  # type: ignore[misc]

    def cell(self, task: str, model: str, seed: int, learning_rate: float | None = None) -> Cell:
        """One of them; the learning rate is the configuration's unless it is given."""
        config = dataclasses.replace(self.base, task=task, model=model, seed=seed)
        if learning_rate is not None:
            config = dataclasses.replace(config, learning_rate=learning_rate)
        found = plan(config, prepared=self._prepared[task])
        name = found.prepared.spec.name
        return Cell(found, self.store.cell(name, found.model.name, config.budget, seed, found.key))

    def result(self, cell: Cell) -> tuple[Record, Path] | None:
        """The record of ``cell``, if it has one."""
        return self.store.find(cell.folder, cell.plan.key)


class Watcher(Protocol):
    """Who is told how a grid goes on."""

    def planned(self, cells: Sequence[Cell], stored: Sequence[tuple[Cell, Record]]) -> None:
        """``cells`` are to run; ``stored`` have their records."""

    def started(self, cell: Cell) -> None:
        """A process was started."""

    def heard(self, cell: Cell, event: Event) -> None:
        """A running cell said something."""

    def ended(self, cell: Cell, record: Record, folder: Path) -> None:
        """A cell has its record."""


@dataclass
class _Running:
    cell: Cell
    job: Job
    before: Path | None  # the newest run when it was started
    memory_kills: int | None = field(default_factory=lambda: _memory_kills())
    started: float = field(default_factory=time.monotonic)
    refused: str = ""
    late: bool = False


class Runner:
    """Runs cells on an executor and sees to it that each of them gets a record, whatever becomes of its process."""

    def __init__(
        self,
        grid: Grid,
        executor: Executor,
        watcher: Watcher,
        limit: float,
        plugins: tuple[Path, ...] = (),
        *,
        force: bool = False,
    ) -> None:
        self.grid, self.executor, self.watcher, self.limit = grid, executor, watcher, limit
        self.plugins, self.force = plugins, force
        self._running: dict[str, _Running] = {}

    def run(self, cells: Sequence[Cell]) -> list[tuple[Cell, Record, Path]]:
        """Run those that have no final record; returns all with theirs.

        Raises:
            OSError: a record could not be written; running cells are ended, and what has a record keeps it.
        """
        cells = list({cell.plan.key: cell for cell in cells}.values())
        stored = [] if self.force else [(cell, found[0]) for cell in cells if (found := self._final(cell))]
        done = {cell.plan.key for cell, _ in stored}
        waiting = deque(cell for cell in cells if cell.plan.key not in done)
        self.watcher.planned(tuple(waiting), stored)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.executor.slots:
                    self._start(waiting.popleft())
                if self._running:
                    self._listen()
        finally:
            self.executor.close()
        return [(cell, *found) for cell in cells if (found := self.grid.result(cell))]

    def _final(self, cell: Cell) -> tuple[Record, Path] | None:
        found = self.grid.result(cell)
        return found if found and found[0].status in DONE else None

    def _start(self, cell: Cell) -> None:
        found = self.grid.result(cell)
        if found and found[0].status in DONE and not self.force:  # another grid was faster
            self.watcher.ended(cell, *found)
            return
        job = Job(cell.plan.key, cell.plan.config, self.grid.store.root, self.plugins, self.force)
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
        found = self.grid.result(running.cell)
        if found is None or found[1] == running.before:
            found = self._failed(running, *event.values)
        self.watcher.ended(running.cell, *found)

    def _failed(self, running: _Running, code: int, tail: str) -> tuple[Record, Path]:
        """The record of a cell whose process left none."""
        cell_plan, store = running.cell.plan, self.grid.store
        status, reason = self._why(running, code, tail)
        record = Writer(cell_plan, lambda line: None).record(status, reason)
        with store.writing(running.cell.folder) as folder:
            (folder / "traceback.txt").write_text(tail or "nothing was written to stderr\n", encoding="utf-8")
            return store.publish(folder, running.cell.folder, record, again=running.before is not None)

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

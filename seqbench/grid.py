"""Many cells of tasks and models: which there are, and what is known of them. A grid keeps no state but the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqbench.config import RunConfig
from seqbench.executor import Job
from seqbench.outcome import Writer
from seqbench.plan import Plan, plan
from seqbench.prepare import Prepared, fit_baselines, prepare
from seqbench.record import Record
from seqbench.registry import Registry
from seqbench.store import Store

__all__ = ["Cell", "Grid", "chosen_names"]


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

    @property
    def key(self) -> str:
        """Of its content."""
        return self.plan.key

    def job(self, root: Path, plugins: tuple[Path, ...], *, force: bool) -> Job:
        """What another process needs to run it."""
        config = self.plan.config
        return Job(self.key, "run", dataclasses.asdict(config), config.threads, root, plugins, force)

    def failed(self, status: Any, reason: str) -> Record:
        """Its record if its process left none."""
        return Writer(self.plan, lambda line: None).record(status, reason)


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

"""Records to groups of comparable cells. No torch.

Only cells of the same task (version, code, options, source, data), budget, device type and configuration, apart from
seed and learning rate, may stand in one table. Of every record no more is kept than a table needs, so that ten
thousand fit into memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError
from seqbench.jobs.record import Cost, Environment, Primary, Record, TaskInfo
from seqbench.jobs.store import LEFT_OUT, RECORD, Store

__all__ = ["Baseline", "Cell", "Group", "ModelId", "collect"]

Array = npt.NDArray[np.float64]
VARIED = ("seed", "learning_rate")  # what cells of one group may differ in


class ModelId(NamedTuple):
    """Which model; ``code`` is the SHA-256 of a plug-in's file, "" for what is installed."""

    name: str
    version: int
    code: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What a board needs of one record. ``val`` and ``test`` are the primary figure's, None unless the cell is ok.

    ``folder`` is absolute. ``left_out`` is (G,), the test figure without each test group in turn; None where the
    record lacks it.
    """

    key: str
    folder: Path
    model: ModelId
    rate: float
    seed: int
    status: str
    reason: str | None
    hidden: tuple[int, ...]
    params: int | None
    val: float | None
    test: float | None
    skill: float | None
    left_out: Array | None
    cost: Cost | None
    environment: Environment
    finished: str


@dataclass(slots=True)
class Baseline:
    """A baseline's test figure, its (G,) figures without each test group, and the range that records gave it."""

    value: float
    left_out: Array | None
    least: float
    most: float


@dataclass
class Group:
    """Comparable cells by key; ``config`` is what they share. ``primary`` is None as long as no cell was ok."""

    task: TaskInfo
    budget: str
    device: str
    config: dict[str, Any]
    primary: Primary | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)

    @property
    def n_groups(self) -> int:
        """G, the number of test groups that most of the records were left without in turn; 0 if none says."""
        sizes = Counter(len(cell.left_out) for cell in self.cells.values() if cell.left_out is not None)
        return max(sizes, key=lambda size: (sizes[size], size), default=0)


def collect(roots: Sequence[Path]) -> list[Group]:
    """Read every record under ``roots``; of a cell that several hold the one that finished last counts.

    Raises:
        UserError: there are none, or one is damaged, altered, moved, or from a newer seqbench.
    """
    groups: dict[str, Group] = {}
    environments: dict[Environment, Environment] = {}
    for root in roots:
        store, home = Store(root), Path(root).resolve()
        for record, folder in store.records():
            _check(record, folder, store)
            task = record.task.model_dump(exclude={"kind", "n_train", "n_val", "n_test", "sequence_length"})
            config = {name: value for name, value in record.config.items() if name not in VARIED}
            identity = json.dumps([task, config, record.environment.device], sort_keys=True)
            group = groups.setdefault(identity, Group(record.task, record.budget, record.environment.device, config))
            old = group.cells.get(record.key)
            if old is not None and old.finished >= record.finished:
                continue
            rows = _left_out(record, folder) if record.status == "ok" else None
            environment = environments.setdefault(record.environment, record.environment)
            group.cells[record.key] = _cell(record, home.joinpath(*folder.parts[-4:]), rows, environment)
            _note_primary(group, record, folder)
            _note_baselines(group, record, rows)
    if not groups:
        where = " or ".join(map(str, roots))
        raise UserError(f"no records in {where}: run some first, or name their directory.")
    return list(groups.values())


def _check(record: Record, folder: Path, store: Store) -> None:
    """Refuse a record that is not where it belongs or contradicts itself: somebody moved or edited it.

    The key holds what was asked of the cell (`Record.content_key`), so everything else is held against that.
    """
    place = store.cell(record.task.name, record.model.name, record.budget, record.seed, record.key)
    if folder.parent != place:
        raise UserError(f"{folder / RECORD} has been moved or edited: it belongs in {place}.")
    config, primary, test = record.config, record.primary, record.metrics.get("test", {})
    hidden, params = config.get("hidden"), config.get("params")
    good = {
        "seed": record.seed == config.get("seed"),
        "budget": record.budget == config.get("budget"),
        "threads": record.environment.threads == config.get("threads"),
        "backbone": record.model.backbone == config.get("backbone"),
        "learning rate": isinstance(config.get("learning_rate"), (int, float)),
        "steps": isinstance(config.get("steps"), int),
        "width": (isinstance(hidden, list) and all(isinstance(one, int) for one in hidden)) != isinstance(params, int),
        "status": (record.status == "ok") == (primary is not None) and (record.cost is not None or primary is None),
        "primary": primary is None or test.get(primary.name) == primary.value,
        "validation": primary is None or primary.name in record.metrics.get("val", {}),
        "reference": primary is None or primary.reference is None or primary.reference in record.baselines,
    }
    for name, right in good.items():
        if not right:
            raise UserError(f"{folder / RECORD} has been altered: its {name} contradicts the rest of it.")


def _left_out(record: Record, folder: Path) -> Array | None:
    """(1 + baselines, G) figures without each test group; None in runs from before they were kept."""
    path = folder / LEFT_OUT
    try:
        with path.open("rb") as file:  # np.load would take a zip archive too
            rows: Array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged header can end in almost any
        raise UserError(f"{path} can't be read: {error}. Run the cell again with --force.") from None
    if rows.ndim != 2 or len(rows) != 1 + len(record.baselines) or rows.dtype != np.float64:
        raise UserError(f"{path} does not fit its record: run the cell again with --force.")
    return rows


def _row(rows: Array | None, i: int) -> Array | None:
    """A copy, as a view would keep all rows alive; None where a figure without some group does not exist."""
    return rows[i].copy() if rows is not None and np.isfinite(rows[i]).all() else None


def _cell(record: Record, folder: Path, rows: Array | None, environment: Environment) -> Cell:
    primary, model = record.primary, record.model
    return Cell(
        key=record.key,
        folder=folder,
        model=ModelId(model.name, model.version, model.code_sha256 or ""),
        rate=float(record.config["learning_rate"]),
        seed=record.seed,
        status=record.status,
        reason=record.reason,
        hidden=model.hidden,
        params=model.params,
        val=record.metrics["val"][primary.name] if primary else None,
        test=primary.value if primary else None,
        skill=record.skill,
        left_out=_row(rows, 0),
        cost=record.cost,
        environment=environment,
        finished=record.finished,
    )


def _note_primary(group: Group, record: Record, folder: Path) -> None:
    """The group's metric; records from before `reference` and `perfect` were kept take them from the others."""
    new, old = record.primary, group.primary
    if new is None:
        return
    if old is None or old.perfect is None:
        group.primary = new
    if old is not None:
        same = [(p.name, p.direction, p.unit) for p in (old, new)]
        ends = {(p.reference, p.perfect) for p in (old, new) if p.perfect is not None}
        if same[0] != same[1] or len(ends) > 1:
            raise UserError(f"{folder / RECORD} has been altered: others of this task have another primary metric.")


def _note_baselines(group: Group, record: Record, rows: Array | None) -> None:
    for i, (name, value) in enumerate(record.baselines.items()):
        known = group.baselines.get(name)
        if known is None:
            known = group.baselines[name] = Baseline(value, None, value, value)
        known.least, known.most = min(known.least, value), max(known.most, value)
        if known.left_out is None and rows is not None:
            known.value, known.left_out = value, _row(rows, 1 + i)

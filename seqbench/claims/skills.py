"""Whether one model is as good as another on real tasks, from the records of a board. No torch."""

from __future__ import annotations

import math
from pathlib import Path

from seqbench.board import read_tables
from seqbench.board.compare import Sure
from seqbench.board.table import Row, Table
from seqbench.claims.memory import FEW, SEEDS
from seqbench.claims.verdict import Condition
from seqbench.stats import Interval

__all__ = ["skill_conditions"]

TRACK, BUDGETS = "equal width", ("full", "standard", "quick")  # the most thorough that the board has
UNKNOWN = Interval(math.nan, math.nan, math.nan)


def skill_conditions(board: Path, model: str, other: str, margin: float) -> list[Condition]:
    """The skill of ``model`` minus that of ``other`` on each task of the usual tables under ``board``.

    ``model`` is not inferior where the interval lies above -``margin``. Of each task the most thorough budget counts
    that has both. A task on which one of the two is incomplete is undecided, and says so.
    """
    tables = [table for table in _tables(board) if _row(table, model) and _row(table, other)]
    best: dict[str, Table] = {}
    for table in sorted(tables, key=lambda table: BUDGETS.index(table.group.budget)):
        best.setdefault(table.group.task.name, table)
    return [_condition(best[task], model, other, margin) for task in sorted(best)]


def _tables(board: Path) -> list[Table]:
    if not any(board.glob("*/*/*/run-*")):
        return []
    usual = [table for table in read_tables([board]) if not table.variant and not table.setting]
    return [table for table in usual if table.track.startswith(TRACK) and table.group.budget in BUDGETS]


def _row(table: Table, model: str) -> Row | None:
    """The row of a registered model; a baseline may have the same name."""
    rows = [row for row in table.rows if row.entrant is not None and row.entrant.model.name == model]
    return rows[0] if len(rows) == 1 else None


def _condition(table: Table, model: str, other: str, margin: float) -> Condition:
    task, budget = table.group.task.name, table.group.budget
    rows = [row for row in (_row(table, model), _row(table, other)) if row is not None]
    axes, region = (
        {"measure": f"skill on {task} ({budget})", "backend": "", "batch": "", "length": ""},
        f"at least -{margin:g}",
    )
    where = [
        row.entrant.cells[seed].folder
        for row in rows
        if row.entrant
        for seed in table.seeds
        if seed in row.entrant.cells
    ]
    one, two = (row.figures for row in rows)
    if one is None or two is None:
        states = ", ".join(f"{row.label} {row.state(table.seeds)}" for row in rows)
        return Condition(axes, UNKNOWN, "of skill", None, region, where, f"{task}: {states}")
    sure = Sure.of(one.minus(two))
    figure = Interval(sure.value, sure.low, sure.high)
    known = Condition.of(axes, figure, "of skill", (-margin, math.inf), region, where)
    return known.if_known(len(table.seeds) >= SEEDS, FEW)

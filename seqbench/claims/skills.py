"""Whether one model is as good as another on real tasks, from the records of a board. No torch."""

from __future__ import annotations

import math
from pathlib import Path

from seqbench.claims.verdict import Condition
from seqbench.leaderboard import read_tables
from seqbench.leaderboard.compare import Sure
from seqbench.leaderboard.table import Row, Table
from seqbench.stats import Interval

__all__ = ["skill_conditions"]

TRACK = "equal width"


def skill_conditions(board: Path, model: str, other: str, margin: float) -> list[Condition]:
    """The skill of ``model`` minus that of ``other`` on each task of the usual tables under ``board``; not inferior by
    ``margin``."""
    if not any(board.glob("*/*/*/run-*")):
        return []
    found = []
    for table in read_tables([board]):
        rows = {row.label: row for row in table.rows}
        one, two = rows.get(model), rows.get(other)
        if not table.track.startswith(TRACK) or table.variant or one is None or two is None:
            continue
        if one.figures is None or two.figures is None:
            continue
        sure = Sure.of(one.figures.minus(two.figures))
        figure = Interval(sure.value, sure.low, sure.high)
        axes = {"measure": f"skill on {table.group.task.name}", "backend": ""}
        where = _folders(table, one, two)
        found.append(Condition.of(axes, figure, "of skill", (-margin, math.inf), f"at least -{margin:g}", where))
    return found


def _folders(table: Table, *rows: Row) -> list[Path]:
    return [
        row.entrant.cells[seed].folder
        for row in rows
        if row.entrant
        for seed in table.seeds
        if seed in row.entrant.cells
    ]

"""The board in short: of every table its ranks, scores and significant differences, for a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from seqbench.board.compare import BoardTable, Entrant, Overview, OverviewRow, Row, overviews
from seqbench.board.page import BETTER
from seqbench.report.text import NONE, decimals, listed, open_ranks, with_reach
from seqbench.stats import Interval

__all__ = ["short_board"]


def short_board(tables: Sequence[BoardTable]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Headings, headers and rows: the overviews over tasks first, then every table."""
    return [
        *((overview.heading, *_overview(overview)) for overview in overviews(tables)),
        *((table.title, *_table(table)) for table in tables),
    ]


def _overview(overview: Overview) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            open_ranks(row.ranks),
            row.label,
            _figure(row.mean_skill, 3) if row.mean_skill else _lacks(overview, row),
            ", ".join(overview.comparison.better_than(row.label)),
        ]
        for row in overview.rows
    ]
    return ["rank", "model", "mean skill", BETTER], rows


def _lacks(overview: Overview, row: OverviewRow) -> str:
    """The tasks that keep a model from a mean."""
    parts = zip(overview.tasks, row.skills, row.states, strict=True)
    return "lacks " + listed([f"{task} ({state})" for task, skill, state in parts if skill is None])


def _table(table: BoardTable) -> tuple[list[str], list[list[str]]]:
    means = [row.metric for row in table.rows if row.metric is not None]
    places = decimals([mean.value for mean in means], [(mean.high - mean.low) / 2 for mean in means])
    measure = table.measure
    unit = f" ({measure.unit})" if measure.unit else ""
    score = f"{measure.metric}{unit}, {measure.direction} is better" if measure.metric else "score"
    rows = [
        [
            open_ranks(row.ranks) if isinstance(row, Entrant) else "",
            row.label if isinstance(row, Entrant) else f"{row.label} (baseline)",
            _score(row, places),
            ", ".join(table.better_than(row.label)),
        ]
        for row in table.rows
    ]
    return ["rank", "model", score, BETTER], rows


def _score(row: Row, places: int) -> str:
    """The figure; of a model that lacks a run, how far its seeds got instead."""
    if row.metric is None and isinstance(row, Entrant):
        return row.state
    return _figure(row.metric, places)


def _figure(interval: Interval | None, places: int) -> str:
    return NONE if interval is None else with_reach(interval.value, (interval.high - interval.low) / 2, places)

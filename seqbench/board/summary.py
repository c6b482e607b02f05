"""The board in short: of every table its ranks, scores and significant differences, for a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seqbench.board.compare import BoardTable, Entrant, Overview, OverviewRow, overviews
from seqbench.board.page import BETTER
from seqbench.report.text import NONE, decimals, open_ranks, short, with_reach
from seqbench.stats import Interval

__all__ = ["ShortTable", "short_board"]

ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


class ShortTable(NamedTuple):
    """One table of a short board: texts, without markup."""

    heading: str
    headers: list[str]
    rows: list[list[str]]


def short_board(tables: Sequence[BoardTable]) -> list[ShortTable]:
    """What matters most, for a terminal: rank, model, score, and which models it is significantly better than.

    First the overviews with the mean skill, then the ``tables``, in which the strongest baseline has its place. A
    score has its 95% interval, and an arrow to where it is better, which nobody knows if no run was ok; where a model
    lacks a score, what became of its runs stands there.
    """
    return [*map(_short_overview, overviews(tables)), *map(_short_table, tables)]


def _short_overview(overview: Overview) -> ShortTable:
    rows = [
        [
            open_ranks(row.ranks),
            short(row.label),
            _figure(row.mean_skill, 3) if row.mean_skill else _without_mean(overview, row),
            ", ".join(overview.comparison.better_than(row.label)),
        ]
        for row in overview.rows
    ]
    return ShortTable(overview.heading, ["rank", "model", "mean skill", BETTER], rows)


def _without_mean(overview: Overview, row: OverviewRow) -> str:
    """The tasks that ``row`` is incomplete in, and what became of it there."""
    parts = zip(overview.tasks, row.skills, row.states, strict=True)
    return "no mean: " + ", ".join(f"{task} {state}" for task, skill, state in parts if skill is None)


def _short_table(table: BoardTable) -> ShortTable:
    means = [row.metric for row in table.rows if row.metric is not None]
    places = decimals([mean.value for mean in means], [_reach(mean) for mean in means])
    unit = f" ({short(table.measure.unit)})" if table.measure.unit else ""
    score = f"{short(table.measure.metric or 'figure')}{unit}{ARROWS[table.measure.direction]}"
    rows = []
    for row in table.rows:
        model = isinstance(row, Entrant)
        if not model and row.label != table.strongest:
            continue
        rows.append(
            [
                open_ranks(row.ranks) if model else "",
                short(row.label) + ("" if model else " (baseline)"),
                row.state if isinstance(row, Entrant) and row.metric is None else _figure(row.metric, places),
                ", ".join(table.better_than(row.label)),
            ]
        )
    return ShortTable(table.title, ["rank", "model", score, BETTER], rows)


def _reach(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _figure(interval: Interval | None, places: int) -> str:
    return NONE if interval is None else with_reach(interval.value, _reach(interval), places)

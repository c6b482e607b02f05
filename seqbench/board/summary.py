"""The board in short: of every table its ranks, scores and significant differences, for a terminal or a notebook.

And what came out of runs, before anything is compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from seqbench.board.compare import BoardTable, Entrant, Overview, OverviewRow, make_tables, overviews
from seqbench.board.frame import Result, results_of
from seqbench.board.page import BETTER
from seqbench.report.text import NONE, Section, decimals, open_ranks, short, with_interval
from seqbench.stats import Interval

__all__ = ["ShortTable", "short_board", "short_runs"]

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
    return NONE if interval is None else with_interval(interval, places)


def short_runs(results: pd.DataFrame) -> Section:
    """What came out of the rows of `load_results`: a row for runs that differ in the seed only, in their order.

    It has the mean over seeds with the interval of the board, where all runs went well; where it lacks one, it says
    why. Where runs of a task differ in what tells tables of the board apart, this has a column.
    """
    tables = {table.conditions.conditions: table for table in make_tables(results)}
    alike: dict[tuple[str, float, str], list[Result]] = {}
    for run in results_of(results):
        label = next(row.label for row in tables[run.conditions].models if _is_of(row, run))
        alike.setdefault((run.conditions, run.learning_rate, label), []).append(run)
    apart = {key: _apart(table, tables.values()) for key, table in tables.items()}
    several = len({(conditions, label) for conditions, _, label in alike}) < len(alike)
    rows = []
    for (conditions, rate, label), runs in alike.items():
        row = next(row for row in tables[conditions].models if row.label == label)
        cells = _run_cells(runs, row if row.rate == rate else None)
        rows.append([tables[conditions].name, label, apart[conditions] or NONE, f"{rate:g}", *cells])
    headers = ["task", "model", "conditions", "learning rate", "seeds ok", "test figure, mean over seeds", "skill",
               "train s", ""]  # fmt: skip
    needed = {2: any(apart.values()), 3: several, 8: any(row[8] for row in rows)}
    kept = [i for i in range(len(headers)) if needed.get(i, True)]
    caveats = dict.fromkeys(line for table in tables.values() for line in table.caveats())
    return Section("", [headers[i] for i in kept], [[row[i] for i in kept] for row in rows], list(caveats))


def _is_of(row: Entrant, run: Result) -> bool:
    """Whether it is the model of ``run``, in the same version."""
    own, other = ((one.model, one.model_version, one.model_code_sha256) for one in (row.first, run))
    return own == other


def _apart(table: BoardTable, tables: Iterable[BoardTable]) -> str:
    """In what it differs from others of its task."""
    others = [other.setting_parts for other in tables if other.name == table.name]
    return ", ".join(part for part in table.setting_parts if not all(part in other for other in others))


def _run_cells(runs: Sequence[Result], row: Entrant | None) -> list[str]:
    """Cells of runs that differ in the seed: how many were ok, means, seconds, and what is to be said of them.

    ``row`` is what the board has of them; None of runs at a learning rate that it did not take.
    """
    states = [run.outcome for run in runs]
    said = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states) if state != "ok"]
    seconds = [run.train_seconds for run in runs if run.train_seconds is not None]
    figure = skill = NONE
    if not said:
        score = row.metric if row else None
        if score is None:
            said = [f"no interval: {f'seeds {row.state}' if row else 'a trial of the learning rate'}"]
        score = score or _plain_mean([run.value for run in runs])
        places = decimals([score.value], [_reach(score)])
        figure = f"{runs[0].metric} {_figure(score, places)} {runs[0].unit or ''}".strip()
        skill = _figure((row and row.skill) or _plain_mean([run.skill for run in runs]), 3)
    time = f"{statistics.mean(seconds):,.1f}" if seconds else NONE
    return [f"{states.count('ok')}/{len(runs)}", figure, skill, time, ", ".join(said)]


def _plain_mean(values: Sequence[float | None]) -> Interval:
    known = [value for value in values if value is not None]
    return Interval(statistics.mean(known) if known else math.nan, math.nan, math.nan)

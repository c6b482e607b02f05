"""Mean skill across tasks, only over models that have every cell of every task. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqbench.board.compare import Comparison, Sure, compare, pairs
from seqbench.board.table import Row, Table
from seqbench.stats import Estimate

__all__ = ["Overview", "OverviewRow", "overviews"]


@dataclass(frozen=True)
class OverviewRow:
    """A model: ``skill`` is its mean over the tasks, None unless it is complete in every one of them.

    ``rows`` has its row in each task's table, None where it has no record there.
    """

    label: str
    skill: Sure | None
    rows: list[Row | None]
    ranks: tuple[int, int, int] | None


@dataclass(frozen=True)
class Overview:
    """Tables of one setting, one a task, and what they say together."""

    tables: list[Table]
    rows: list[OverviewRow]
    comparison: Comparison

    @property
    def title(self) -> str:
        """Budget, track, and in what the setting differs from the usual one."""
        first = self.tables[0]
        return " · ".join((first.group.budget, first.track, *first.setting, *first.variant))

    @property
    def heading(self) -> str:
        """What the overview stands under on the page."""
        return f"Overview · {self.title}"

    def better_than(self, label: str) -> list[str]:
        """Models that ``label`` is significantly better than, in the overview's order."""
        found = [one for one in self.comparison.differences if one.better == label]
        losers = {one.second if one.first == label else one.first for one in found}
        return [row.label for row in self.rows if row.label in losers]


def overviews(tables: Sequence[Table]) -> list[Overview]:
    """One for each setting in which at least two tasks have tables that differ alike from their usual ones."""
    alike: dict[tuple[str, ...], list[Table]] = {}
    for table in tables:
        key = (table.group.budget, table.track, str(table.setting), str(table.variant))
        alike.setdefault(key, []).append(table)
    return [_overview(found) for found in alike.values() if len(found) > 1]


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The mean of K independent estimates; degrees of freedom by Welch and Satterthwaite.

    For many parts these are right: of comparisons at .005 without a difference .004 to .008 are significant. That of
    `Estimate`, made for two unequal parts, would hide nearly everything (.0000 to .001).
    """
    K = len(parts)
    seeds = sum(part.seed_variance for part in parts) / K**2
    test = sum(part.test_variance for part in parts) / K**2
    squares = [part.seed_variance + part.test_variance for part in parts]
    total = sum(square * square / part.df for square, part in zip(squares, parts, strict=True)) / K**4
    variance = (seeds + test) * (seeds + test)  # a power would raise where this is infinite, and df then NaN
    df = variance / total if total > 0 else (math.inf if total == 0 else math.nan)
    return Estimate(sum(part.value for part in parts) / K, seeds, test, df)


def _overview(tables: list[Table]) -> Overview:
    by_label = [{row.label: row for row in table.rows if row.entrant is not None} for table in tables]
    names = sorted({label for rows in by_label for label in rows})
    found = {label: [rows.get(label) for rows in by_label] for label in names}
    skills = {
        label: [row.figures for row in rows if row is not None and row.figures is not None]
        for label, rows in found.items()
    }
    skills = {label: parts for label, parts in skills.items() if len(parts) == len(tables)}
    means = {label: mean_of([part.estimate() for part in parts]) for label, parts in skills.items()}
    models = sorted(means, key=lambda label: (-means[label].value, label))

    def difference(a: str, b: str) -> Estimate:
        return mean_of([one.minus(other).estimate() for one, other in zip(skills[a], skills[b], strict=True)])

    values = {label: mean.value for label, mean in means.items()}
    comparison = compare(models, values, pairs(models, difference, 1), 1)
    order = [*models, *(label for label in names if label not in means)]
    rows = [OverviewRow(label, _sure(means.get(label)), found[label], comparison.ranks.get(label)) for label in order]
    return Overview(tables, rows, comparison)


def _sure(mean: Estimate | None) -> Sure | None:
    if mean is None:
        return None
    interval = mean.interval()
    return Sure(mean, interval.low, interval.high)

"""Which differences are real: intervals, pairs of models, models against the strongest baseline. No torch.

Everything rests on `Figures`: a value a seed, and the same without each test group. Of two models the same seeds and
test groups are compared (paired), and adjusted p-values hold for the family: all pairs of one table, or all models
against its strongest baseline (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.stats import Estimate, detectable, estimate, holm, rank_intervals

__all__ = ["ALPHA", "Comparison", "Difference", "Figures", "Sure", "against", "compare", "competition_ranks", "pairs"]

Array = npt.NDArray[np.float64]
ALPHA = 0.05


class Figures(NamedTuple):
    """(S,) a figure of each seed and (S, G) the same without each test group; G is 0 where records lack that."""

    values: Array
    left_out: Array

    def minus(self, other: Figures) -> Figures:
        """Their paired differences; ``other`` may hold one row, as a baseline does."""
        if self.left_out.shape[1] != other.left_out.shape[1]:
            return Figures(self.values - other.values, np.empty((len(self.values), 0)))
        return Figures(self.values - other.values, self.left_out - other.left_out)

    def estimate(self) -> Estimate:
        """Their mean and how sure it is."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return estimate(self.values, self.left_out)
        except OverflowError:  # a figure beyond all bounds has no interval
            return Estimate(float(np.mean(self.values)), math.nan, math.nan, math.nan)


class Sure(NamedTuple):
    """A mean with its 95% interval: over seeds and test examples, or over test examples only if there is one seed."""

    estimate: Estimate
    low: float
    high: float

    @property
    def value(self) -> float:
        """The mean."""
        return self.estimate.value

    @classmethod
    def of(cls, figures: Figures) -> Sure:
        """NaN limits where the records don't hold what an interval needs."""
        found = figures.estimate()
        one_seed = len(figures.values) == 1
        interval = found.test_interval(figures.left_out.shape[1]) if one_seed else found.interval()
        return cls(found, interval.low, interval.high)


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second``, and ``adjusted``, Holm's p-value within its family; NaN with one seed."""

    first: str
    second: str
    sure: Sure
    p: float
    adjusted: float
    sign: int  # 1: higher is better, -1: lower is

    @property
    def better(self) -> str | None:
        """Which of the two is significantly better, if one is."""
        if not self.adjusted <= ALPHA:  # NaN is never
            return None
        return self.first if self.sign * self.sure.value > 0 else self.second


@dataclass(frozen=True)
class Comparison:
    """All pairs of the complete models; ``least`` is the smallest difference that would have been found (NaN: none).

    ``ranks`` gives each model its rank and the ranks that the significant differences leave open.
    """

    differences: list[Difference]
    least: float
    ranks: dict[str, tuple[int, int, int]]


def compare(models: Sequence[str], means: Mapping[str, float], found: list[Difference], sign: int) -> Comparison:
    """Ranks of ``models`` by their ``means`` (ties share one) and what the differences ``found`` between them say."""
    place = {model: i for i, model in enumerate(models)}
    better = []
    for difference in found:
        winner = difference.better
        if winner is not None:
            loser = difference.second if winner == difference.first else difference.first
            better.append((place[winner], place[loser]))
    open_ranks = rank_intervals(len(models), better)
    ranks = competition_ranks([sign * means[model] for model in models])
    return Comparison(found, _least(found), {model: (ranks[i], *open_ranks[i]) for i, model in enumerate(models)})


def pairs(models: Sequence[str], difference: Callable[[str, str], Estimate | Figures], sign: int) -> list[Difference]:
    """Every pair of ``models``, Holm-adjusted as one family; ``difference`` gives that of two of them."""
    return _family([(a, b, difference(a, b)) for a, b in combinations(models, 2)], sign)


def against(models: Mapping[str, Figures], name: str, baseline: Figures, sign: int) -> list[Difference]:
    """Each of ``models`` against one baseline, which no seed moves: a family of its own."""
    return _family([(model, name, figures.minus(baseline)) for model, figures in models.items()], sign)


def competition_ranks(scores: Sequence[float]) -> list[int]:
    """1 + the number of higher scores, so that ties share a rank and the next is skipped."""
    return [1 + sum(other > score for other in scores) for score in scores]


def _family(found: list[tuple[str, str, Estimate | Figures]], sign: int) -> list[Difference]:
    sure = [Sure.of(it) if isinstance(it, Figures) else Sure(it, *it.interval()[1:]) for _, _, it in found]
    p_values = [one.estimate.p_value() for one in sure]
    rows = zip(found, sure, p_values, holm(p_values), strict=True)
    return [Difference(a, b, one, p, adjusted, sign) for (a, b, _), one, p, adjusted in rows]


def _least(found: list[Difference]) -> float:
    """For the pair whose standard error is the median (the larger middle one of an even number)."""
    known = [one.sure.estimate for one in found if not math.isnan(one.sure.estimate.error)]
    if not known:
        return math.nan
    middle = sorted(known, key=lambda one: one.error)[len(known) // 2]
    return detectable(middle.error, middle.df, len(found))

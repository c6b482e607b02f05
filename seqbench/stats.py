"""How sure a figure is. Pure functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Estimate",
    "Interval",
    "detectable",
    "estimate",
    "few_groups",
    "holm",
    "jackknife_interval",
    "leave_one_out",
    "over_seeds",
    "rank_intervals",
    "rank_test",
    "ratio_interval",
    "share_difference",
    "share_interval",
    "t_quantile",
    "within_share",
]

Array = npt.NDArray[Any]
MOST_GROUPS = 200  # more than this adds time, not accuracy, to a jackknife
FEW_GROUPS = 5  # of fewer, an interval by Student's t is wide, and its own width hardly known
ENOUGH_SEEDS = 5  # of fewer a tiny variance by chance is too frequent for the test set to add degrees of freedom


class Interval(NamedTuple):
    """A figure with its interval; ``low`` and ``high`` are NaN where it can't be told."""

    value: float
    low: float
    high: float


def jackknife_interval(
    statistic: Callable[[Array], float], groups: Array, level: float = 0.95, *, share: bool = False
) -> Interval:
    """Interval of ``statistic`` over the test examples of one trained model, by leaving out a group at a time.

    Examples of one group are not independent, so whole groups are left out (the delete-one jackknife over clusters;
    Efron and Stein 1981). It says how much the figure would vary over other test sets of this kind, not over seeds.

    Args:
        statistic: from the indices (n,) of the examples that are kept to the figure.
        groups: (N,) group of each example; beyond 200 groups neighbours in sorted order are merged.
        level: coverage of the interval, from Student's t with (groups - 1) degrees of freedom.
        share: ``statistic`` lies between 0 and 1, and the interval must too (`within_share`).
    """
    value = statistic(np.arange(len(groups)))
    left_out = leave_one_out(statistic, groups)
    n_groups = len(left_out)
    if n_groups < 2:
        return Interval(value, math.nan, math.nan)
    variance = (n_groups - 1) / n_groups * np.sum((left_out - left_out.mean()) ** 2)
    reach = t_quantile(0.5 + level / 2, n_groups - 1) * math.sqrt(variance)
    interval = Interval(value, value - reach, value + reach)
    return within_share(interval, math.sqrt(variance), n_groups, level) if share else interval


def within_share(interval: Interval, error: float, groups: int, level: float = 0.95) -> Interval:
    """``interval`` of a share, which has the standard error ``error`` over ``groups`` groups, within 0 and 1.

    From Student's t it reaches beyond 1 where nearly all is right, and is empty where all is: leaving out a group then
    changes nothing. There it is made as wide as the exact interval of a proportion (Clopper and Pearson 1934) for as
    many independent examples as have this error (Korn and Graubard 1998, for samples by cluster), and for as many as
    there are groups where no group differs: of G groups without a mistake the lower end is ((1 - level) / 2)^(1 / G).
    Unlike these authors' it is cut at 0 and 1, and taken only where the other fails. Of 200 test examples of which 99%
    are right that of Student's t holds the truth in .86 of cases, this in .99 and more.
    """
    value, low, high = interval
    fits = low >= 0 and high <= 1 and not (low == high and value in (0, 1))
    if fits or math.isnan(low) or not 0 <= value <= 1:
        return interval
    from scipy.special import betaincinv

    n = value * (1 - value) / error**2 if 0 < value < 1 else float(groups)  # as in error = sqrt(value (1 - value) / n)
    hits, tail = value * n, (1 - level) / 2
    least = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    most = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Interval(value, max(0.0, min(low, least)), min(1.0, max(high, most)))


def few_groups(count: int) -> str:
    """The warning that a test with ``count`` independent groups deserves; "" where there are enough."""
    if count >= FEW_GROUPS:
        return ""
    groups = f"{count} independent group{'' if count == 1 else 's'}"
    return f"WARNING: the test has {groups} only: a figure from it is hardly more than an anecdote."


def leave_one_out(statistic: Callable[[Array], float], groups: Array) -> Array:
    """(G,) ``statistic`` without each of the G groups in turn, which every later interval is computed from.

    Means over seeds and differences between models have as their leave-one-out figures the means and differences of
    these, so they need no predictions any more. Empty where there is one group only.
    """
    everything = np.arange(len(groups))
    _, codes = np.unique(groups, return_inverse=True)
    n_groups = int(codes.max()) + 1
    if n_groups > MOST_GROUPS:
        codes = codes * MOST_GROUPS // n_groups
        n_groups = MOST_GROUPS
    if n_groups < 2:
        return np.empty(0)
    return np.array([statistic(everything[codes != group]) for group in range(n_groups)])


class Estimate(NamedTuple):
    """A mean over S seeds, or a difference of two, and how sure it is over seeds and test examples together.

    Seeds and test examples are crossed, not nested: every seed is scored on the same test set. So the variance is the
    sum of two parts, ``seed_variance`` = s^2 / S and ``test_variance``, the jackknife variance over the groups of the
    test set of the mean over seeds. What one seed gets on one example only is in both: the error is on the wide side.
    ``seed_variance`` is NaN for one seed, ``test_variance`` for a test set of one group.

    ``df`` are the harmonic mean of the parts' degrees of freedom, weighted by the parts. Welch's and Satterthwaite's,
    weighted by the parts' squares, leap up where few seeds differ little by chance and the test set adds a little: of
    families of ten comparisons without any difference .09 then hold a significant one, with these and five seeds at
    most .055. Of fewer than five seeds even these leap up (two seeds, whose variance is 30 times that of the test set:
    p < .0001 in .017 of comparisons without a difference), so there they are at most S - 1.
    """

    value: float
    seed_variance: float
    test_variance: float
    df: float

    @property
    def error(self) -> float:
        """Standard error; NaN unless both parts are known."""
        return math.sqrt(self.seed_variance + self.test_variance)

    def interval(self, level: float = 0.95) -> Interval:
        """From Student's t; NaN limits unless both parts of the variance are known."""
        reach = t_quantile(0.5 + level / 2, self.df) * self.error
        return Interval(self.value, self.value - reach, self.value + reach)

    def test_interval(self, groups: int, level: float = 0.95) -> Interval:
        """Over test examples only, of which there are ``groups`` groups: all that one seed can tell."""
        reach = t_quantile(0.5 + level / 2, groups - 1) * math.sqrt(self.test_variance)
        return Interval(self.value, self.value - reach, self.value + reach)

    def p_value(self) -> float:
        """Two-sided, of a true value of zero; NaN unless both parts of the variance are known."""
        from scipy.special import stdtr

        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.value == 0)
        return float(2 * stdtr(self.df, -abs(self.value) / self.error))


def estimate(values: Array, left_out: Array) -> Estimate:
    """The mean of ``values`` (S,), one per seed; ``left_out`` (S, G) are their figures without each test group.

    For a difference of two models both hold the differences, seed by seed: the shared test set and, a little, the
    shared seed pair them.
    """
    n_seeds, n_groups = left_out.shape
    seeds = float(np.var(values, ddof=1)) / n_seeds if n_seeds > 1 else math.nan
    mean = left_out.mean(axis=0)
    test = (n_groups - 1) / n_groups * float(np.sum((mean - mean.mean()) ** 2)) if n_groups > 1 else math.nan
    total = seeds / max(1, n_seeds - 1) + test / max(1, n_groups - 1)
    df = (seeds + test) / total if total > 0 else (math.inf if total == 0 else math.nan)
    if 1 < n_seeds < ENOUGH_SEEDS:
        df = min(df, n_seeds - 1)  # NaN stays NaN
    return Estimate(float(np.mean(values)), seeds, test, df)


def over_seeds(values: Iterable[float | None]) -> Interval:
    """Mean and 95% interval by Student's t over seeds; NaN if one is missing, as a mean of the rest would flatter."""
    known: Array = np.array(list(values), dtype=float)  # None is NaN
    spread = float(known.var(ddof=1)) / len(known) if len(known) > 1 else math.nan
    return Estimate(float(known.mean()), spread, 0.0, len(known) - 1.0).interval()


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of one family (Holm 1979): those at most alpha are wrong in alpha of all families at most.

    NaN stays NaN, and counts as a comparison all the same.
    """
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        if not math.isnan(p_values[i]):
            highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
            adjusted[i] = highest
    return adjusted


def rank_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of the hypothesis that both samples come from one distribution (Mann and Whitney 1947).

    It is exact where no value occurs twice. With ties, which count half, it is a little too large. Nothing is assumed
    of the distribution, so that one process that was disturbed counts no more than its rank. From 7 values on each side
    it can fall below .002, from 8 to 1.6e-4.

    Raises:
        ValueError: a sample is empty.
    """
    n, m = len(first), len(second)
    if not n or not m:
        raise ValueError("a rank test needs a value in each sample")
    a, b = np.asarray(first)[:, None], np.asarray(second)[None, :]
    u = float(np.sum(a < b) + 0.5 * np.sum(a == b))
    rarest = math.ceil(min(u, n * m - u))
    return min(1.0, 2.0 * float(_rank_distribution(n, m)[: rarest + 1].sum()))


def ratio_interval(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Interval:
    """How many times as large ``second`` is: the median of all ratios of a value to one of ``first``, with the interval
    of the ratios that `rank_test` does not reject at 1 - ``level`` (Hodges and Lehmann 1963, on logarithms).

    All values must be above zero. ``low`` and ``high`` are NaN where there are too few values for such an interval.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    ratios = np.sort((b[:, None] / a[None, :]).ravel())
    below = np.cumsum(_rank_distribution(len(a), len(b))) <= (1 - level) / 2
    left_out = int(below.sum())  # so many ratios at each end
    value = float(np.exp(np.median(np.log(ratios))))
    if not left_out:
        return Interval(value, math.nan, math.nan)
    return Interval(value, float(ratios[left_out - 1]), float(ratios[-left_out]))


@functools.cache
def _rank_distribution(n: int, m: int) -> Array:
    """Probability of each value 0, 1, ..., n m of U, the number of pairs in which the first is less.

    The generating function of the counts is the product of (1 - q^(m + i)) / (1 - q^i) for i = 1, ..., n; in exact
    whole numbers, as these grow beyond what floats hold exactly.
    """
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    total = sum(counts)
    return np.array([count / total for count in counts])


def detectable(error: float, df: float, comparisons: int = 1, alpha: float = 0.05, power: float = 0.8) -> float:
    """The least true difference that is found with probability ``power`` if its standard error is ``error``.

    For the first of m comparisons (Bonferroni's, Holm's first step), from the noncentral t distribution. The usual sum
    t_(1 - alpha / 2m) + t_power takes the error as known; for m = 10 it promises .80 and keeps .73 with 5 seeds.
    """
    from scipy.special import nctdtrinc

    limit = t_quantile(1 - alpha / (2 * comparisons), df)
    if math.isinf(df):
        return (limit + t_quantile(power, df)) * error
    return float(nctdtrinc(df, 1 - power, limit)) * error


def t_quantile(probability: float, df: float) -> float:
    """Student's t; the normal distribution's for infinitely many degrees of freedom."""
    from scipy.special import ndtri, stdtrit  # scipy.stats takes half a second to import

    return float(ndtri(probability) if math.isinf(df) else stdtrit(df, probability))


def share_difference(one: tuple[int, int], other: tuple[int, int]) -> Interval:
    """The difference of two independent shares, each (how many, of how many), with its 95% interval.

    Newcombe's (1998, method 10), from Wilson's intervals of both: right for few cases and at shares of 0 and 1.
    """
    (p, low_p, high_p), (q, low_q, high_q) = (share_interval(*share) for share in (one, other))
    below, above = math.hypot(p - low_p, high_q - q), math.hypot(high_p - p, q - low_q)
    return Interval(p - q, p - q - below, p - q + above)


def share_interval(count: int, n: int) -> Interval:
    """A share, ``count`` of ``n``, with its 95% interval (Wilson 1927)."""
    z = t_quantile(0.975, math.inf) ** 2 / n
    p = count / n
    half = math.sqrt(z * p * (1 - p) + z * z / 4)
    return Interval(p, (p + z / 2 - half) / (1 + z), (p + z / 2 + half) / (1 + z))


def rank_intervals(size: int, better: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(best, worst) rank of each of ``size`` models, given the pairs (i, j) where i is significantly better than j.

    From 1 + the number that are better to ``size`` - the number that are worse.
    """
    best, worst = [1] * size, [size] * size
    for i, j in better:
        best[j] += 1
        worst[i] -= 1
    return list(zip(best, worst, strict=True))

"""How sure a figure is. Pure functions; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "jackknife_interval", "leave_one_out"]

Array = npt.NDArray[Any]
MOST_GROUPS = 200  # more than this adds time, not accuracy, to a jackknife


class Interval(NamedTuple):
    """A figure with its interval; ``low`` and ``high`` are NaN where it can't be told."""

    value: float
    low: float
    high: float


def jackknife_interval(statistic: Callable[[Array], float], groups: Array, level: float = 0.95) -> Interval:
    """Interval of ``statistic`` over the test examples of one trained model, by leaving out a group at a time.

    Examples of one group are not independent, so whole groups are left out (the delete-one jackknife over clusters;
    Efron and Stein 1981). It says how much the figure would vary over other test sets of this kind, not over seeds.

    Args:
        statistic: from the indices (n,) of the examples that are kept to the figure.
        groups: (N,) group of each example; beyond 200 groups neighbours in sorted order are merged.
        level: coverage of the interval, from Student's t with (groups - 1) degrees of freedom.
    """
    from scipy.stats import t as student  # half a second, needed only when a table is printed

    value = statistic(np.arange(len(groups)))
    left_out = leave_one_out(statistic, groups)
    n_groups = len(left_out)
    if n_groups < 2:
        return Interval(value, math.nan, math.nan)
    variance = (n_groups - 1) / n_groups * np.sum((left_out - left_out.mean()) ** 2)
    reach = float(student.ppf(0.5 + level / 2, n_groups - 1)) * math.sqrt(variance)
    return Interval(value, value - reach, value + reach)


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

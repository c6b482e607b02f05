"""Where the ticks of an axis stand, and what stands at them: the same in every renderer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from seqbench.report.chart import Axis, Scale

__all__ = ["ticks"]

STEPS = (1.0, 2.0, 2.5, 5.0)  # and their tenfolds: from one tick to the next


def ticks(axis: Axis, low: float, high: float, most: int = 7) -> list[tuple[float, str]]:
    """At least three labelled ticks from ``low`` to ``high``, and no more than ``most`` where that can be.

    ```
    ticks(Axis(), 0, 1, 6)                    -> 0.0, 0.2, 0.4, 0.6, 0.8, 1.0
    ticks(Axis(scale="log2"), 8, 64)          -> 8, 16, 32, 64
    ticks(Axis(scale="log10"), 0.01, 100, 5)  -> 0.01, 0.1, 1, 10, 100
    ```
    """
    low, high = sorted((low, high))
    if axis.ticks is not None:
        return [(value, text) for value, text in axis.ticks if low <= value <= high]
    choices = [] if axis.scale == "linear" else [found for found in _powers(axis.scale, low, high) if len(found) >= 3]
    texts_of = _logarithmic if choices else _linear
    choices = choices or _even(low, high)  # a short logarithmic axis, too
    values = next((values for values in choices if len(values) <= most), choices[-1])
    return list(zip(values, texts_of(values), strict=True))


def _even(low: float, high: float) -> list[list[float]]:
    """Round values equally far apart, three at least, from many to few."""
    slack = 1e-9 * (high - low)
    power = 10.0 ** math.floor(math.log10(high - low))
    choices = []
    for step in (part * power * scale for scale in (0.01, 0.1, 1.0) for part in STEPS):
        first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
        if 3 <= last - first + 1 <= 1000:
            choices.append([float(f"{place * step:.12g}") for place in range(first, last + 1)])
    return choices


def _powers(scale: Scale, low: float, high: float) -> list[list[float]]:
    """Ticks of a logarithmic axis: some multiples of powers, all powers, every second one, every third one ..."""
    base = 2 if scale == "log2" else 10
    first, last = math.log(low, base) - 1e-9, math.log(high, base) + 1e-9
    powers = range(math.floor(first), math.ceil(last) + 1)
    steps = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5)) if base == 10 and len(powers) < 12 else ()
    choices = [[step * 10.0**power for power in powers for step in parts] for parts in steps]
    choices += [[float(base) ** power for power in powers if power % stride == 0] for stride in range(1, len(powers))]
    return [[value for value in values if first <= math.log(value, base) <= last] for values in choices]


def _linear(values: Sequence[float]) -> list[str]:
    """With as many decimals as all need; with an exponent if all are below .001, or one is beyond 1e7."""
    size, gap = max(map(abs, values)), min(after - before for before, after in pairwise(values))
    if 1e-3 <= size < 1e7:
        needed = (p for p in range(12) if all(abs(round(value, p) - value) <= gap / 1000 for value in values))
        decimals = next(needed, 12)
        return [f"{value:z,.{decimals}f}" for value in values]
    digits = math.ceil(math.log10(size / gap)) + 2
    return [_without_zeros(f"{0 if abs(value) < gap / 1000 else value:.{digits}g}") for value in values]


def _logarithmic(values: Sequence[float]) -> list[str]:
    """Each with as many digits as it needs."""
    return [_without_zeros(f"{value:,.7g}") for value in values]


def _without_zeros(text: str) -> str:
    """``1e-9`` for ``1e-09``."""
    return re.sub(r"e\+?(-?)0*", r"e\1", text)

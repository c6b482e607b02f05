"""What is made of the log norms of Jacobians: medians, slopes, half-life, falls, explosions, Lyapunov exponents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.probes.jacobian import FLOOR

__all__ = ["line", "lyapunov", "number", "summary"]

Array = npt.NDArray[np.float64]
NEAR, FAR = 100, 200  # distances to which slopes are taken
EXPLODED = math.log(10.0)
MOST_POINTS = 512  # of a curve in a record


def summary(norms: Mapping[int, Array], state: Array | None) -> dict[str, Any]:
    """What a record holds of log norms (T, B) of input Jacobians, by length T, and of state Jacobians at the longest.

    Norms are natural logarithms, None where zero or too large for double precision:

    - ``k`` the distances at which curves are given, all of them up to 512;
    - ``input``: median over samples and quartiles; ``state``: median, or None; ``explosion``: share of samples with
      |J_k| > 10 |J_1|, and ``explosion_most``, its greatest value;
    - ``slope`` per step by least squares over ``slope_range`` = [1, at most 100], ``half_life`` in steps, None unless
      the slope is negative, and ``slope_far`` over ``slope_far_range`` = [1, at most 200];
    - ``fall``: log10 of |J_1| / |J_k| at k = ``fall_at``, 100 or T - 1; where J_k can't be told from zero at least
      that much (``fall_is_least``);
    - ``lyapunov`` per step; ``by_length``: norms at k = 1 and k = T - 1, and the mean norm over k >= 1.
    """
    T = max(norms)
    logs = norms[T]
    middle, low, high = (_quantile(logs, q) for q in (0.5, 0.25, 0.75))
    exploded: Array = (logs > EXPLODED + logs[1]).mean(axis=1)  # of zero norms: false
    exploded[:1] = 0.0
    slope, near = line(middle, NEAR)
    far, beyond = line(middle, FAR)
    kept = _distances(T)
    most = float(exploded.max())
    return {
        "k": kept,
        "input": {"log_norm": _listed(middle, kept), "low": _listed(low, kept), "high": _listed(high, kept)},
        "explosion": [round(float(exploded[k]), 4) for k in kept],
        "explosion_most": round(most, 4),
        "state": None if state is None else {"log_norm": _listed(_quantile(state, 0.5), kept)},
        "lyapunov": None if state is None else number(lyapunov(state)),
        "slope": number(slope),
        "slope_range": near,
        "half_life": number(math.log(2.0) / -slope) if slope is not None and slope < 0 else None,
        "slope_far": number(far),
        "slope_far_range": beyond,
        **_fall(middle),
        "by_length": [_at_length(length, one) for length, one in sorted(norms.items())],
    }


def line(curve: Array, most: int) -> tuple[float | None, list[int] | None]:
    """Slope by least squares of ``curve`` (T,) from k = 1 to ``most`` or its last k before one that is not finite.

    Returns:
        The slope and its [first, last] k; None and None where fewer than two points are there.
    """
    finite = np.isfinite(curve[1 : most + 1])
    last = len(finite) if finite.all() else int(finite.argmin())
    if last < 2:
        return None, None
    k = np.arange(1.0, last + 1) - (last + 1) / 2
    return float(k @ curve[1 : last + 1] / (k @ k)), [1, last]


def lyapunov(state: Array) -> float | None:
    """Leading Lyapunov exponent, natural log per step: the growth of the rescaled product of one-step Jacobians.

    From log norms (T, B), backwards from the last step: over the middle half of the steps, so that neither the state's
    way from zero nor the product's turn towards its leading direction counts; median over samples. The norm of a
    product of all directions leaves nothing to the luck of a starting vector. None where the product becomes zero.
    """
    T = len(state)
    first, last = T // 4, T - 1 - T // 4
    with np.errstate(invalid="ignore"):
        growth = float(np.median((state[last] - state[first]) / (last - first)))
    return growth if math.isfinite(growth) else None


def _fall(curve: Array) -> dict[str, Any]:
    k = min(NEAR, len(curve) - 1)
    first, there = float(curve[1]), float(curve[k])
    lost = there == -math.inf
    if not math.isfinite(first) or there == math.inf:
        return {"fall": None, "fall_at": None, "fall_is_least": False}
    fall = (first - (FLOOR if lost else there)) / math.log(10.0)
    return {"fall": number(fall), "fall_at": k, "fall_is_least": lost}


def _at_length(length: int, logs: Array) -> dict[str, Any]:
    middle = _quantile(logs, 0.5)
    peak = middle[1:].max()
    mean = peak + math.log(np.exp(middle[1:] - peak).mean()) if math.isfinite(peak) else peak
    return {"length": length, "last": number(middle[-1]), "first": number(middle[1]), "mean": number(mean)}


def _quantile(logs: Array, q: float) -> Array:
    """Over samples, (T, B) to (T,); infinite between a finite and an infinite one."""
    found: Array = np.quantile(np.clip(logs, -1e9, 1e9), q, axis=1)
    return np.where(np.abs(found) < 1e6, found, np.copysign(math.inf, found))


def _distances(length: int) -> list[int]:
    if length <= MOST_POINTS:
        return list(range(length))
    half = MOST_POINTS // 2
    return [*range(half), *np.linspace(half, length - 1, half).round().astype(int).tolist()]


def number(value: float | None) -> float | None:
    """Rounded to six decimals; None where there is no finite number."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _listed(curve: Array, kept: Sequence[int]) -> list[float | None]:
    return [round(float(curve[k]), 4) if math.isfinite(curve[k]) else None for k in kept]

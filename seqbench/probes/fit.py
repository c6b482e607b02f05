"""What times say about a model: t = a + s T + w B T + q B T^2, with all four not negative. Pure functions; no torch.

a is what a step costs however small (the launch), s the serial time of each step of the sequence, which no batch
shares, w the work of each step of each sequence, q that of each pair of steps. Everything grows with T; only s > 0 is
the limit that recurrence sets. B* = s / w is the batch at which the work takes as long as the serial part.

Errors of times are relative, so rows are divided by the time (scipy's non-negative least squares), then once more by
the first fit's prediction, as dividing by what is noisy favours times that are short by chance.

Two bootstraps give an interval each, and the wider end of either counts: over repeats (the clock's noise, and drift
that a repeat shares) and over the residuals of shapes. The four terms are not the whole truth, as caches and kernels
change with the shape, and repeats know nothing of that: where a shape is off by 8% in every repeat, nominal 95%
intervals over repeats hold the truth in 30% of simulations, over residuals in about 90%. (Drawing whole shapes instead
covers no better, and loses sight of s in samples without the shapes that tell it from q.) Residuals are stretched for
the degrees of freedom that the fit takes and for Student's t.

The fit is trusted if it predicts shapes that it was not fitted to, one left out at a time, to within 15% (root mean
square).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.stats import Estimate, Interval

__all__ = ["NAMES", "TRUSTED", "fit_times", "geometric", "predict"]

Array = npt.NDArray[np.float64]
NAMES = ("a", "s", "w", "q")
TRUSTED = 0.15  # greatest held-out residual
SAMPLES = 400  # of each bootstrap
LEAST = 0.05  # of a prediction that a drawn residual leaves
LEVEL = 0.95


def fit_times(shapes: Sequence[Sequence[int]], seconds: npt.ArrayLike, seed: int = 0) -> dict[str, Any] | None:
    """Fit the four terms to times of a step, medians over repeats.

    Args:
        shapes: (S, 2) batch and length.
        seconds: (S, R) times, R repeats of each shape.
        seed: of the bootstraps.

    Returns:
        ``a``, ``s``, ``w``, ``q`` (seconds) and ``hidden_batch``, each [value, low, high] with None for what is
        without bound; ``residual``: median and root mean square of (predicted - t) / t of shapes left out;
        ``trusted``. None if the shapes can't tell the terms apart.
    """
    times = np.asarray(seconds, dtype=np.float64)
    terms = _terms(shapes)
    n_shapes, n_repeats = times.shape
    if n_shapes <= len(NAMES) or np.linalg.matrix_rank(terms / np.abs(terms).max(axis=0)) < len(NAMES):
        return None
    middle = np.median(times, axis=1)
    value = _solve(terms, middle)
    rng = np.random.default_rng([seed, 1])
    over_repeats = [
        _solve(terms, np.median(times[:, rng.integers(n_repeats, size=n_repeats)], axis=1)) for _ in range(SAMPLES)
    ]
    predicted = terms @ value
    residuals = (middle / predicted - 1) * _stretch(n_shapes)
    residuals -= residuals.mean()
    over_shapes = [
        _solve(terms, predicted * np.maximum(LEAST, 1 + residuals[rng.integers(n_shapes, size=n_shapes)]))
        for _ in range(SAMPLES)
    ]
    both = np.array([over_repeats, over_shapes])  # (2, samples, 4)
    found: dict[str, Any] = {}
    for j, name in enumerate(NAMES):
        found[name] = _interval(value[j], both[:, :, j])
    found["hidden_batch"] = _interval(_ratio(value), np.apply_along_axis(_ratio, 2, both))
    held_out = _held_out(terms, middle)
    spread = math.sqrt(float(np.mean(held_out**2)))
    found["residual"] = [float(f"{x:.3g}") for x in (np.median(np.abs(held_out)), spread)]
    found["trusted"] = spread <= TRUSTED
    return found


def predict(fit: dict[str, Any], shapes: Sequence[Sequence[int]]) -> Array:
    """(S,) seconds that ``fit`` says."""
    found: Array = _terms(shapes) @ np.array([fit[name][0] for name in NAMES])
    return found


def geometric(values: npt.ArrayLike, level: float = LEVEL) -> Interval:
    """Geometric mean of (R,) positive ratios, one a repeat, with Student's interval on their logarithms.

    The limits are NaN for one repeat.
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    n = len(logs)
    variance = float(np.var(logs, ddof=1)) / n if n > 1 else math.nan
    return Interval(
        *(math.exp(x) for x in Estimate(float(logs.mean()), variance, 0.0, max(1.0, n - 1)).interval(level))
    )


def _terms(shapes: Sequence[Sequence[int]]) -> Array:
    batch, length = np.asarray(shapes, dtype=np.float64).T
    return np.stack([np.ones_like(length), length, batch * length, batch * length**2], axis=1)


def _solve(terms: Array, times: Array) -> Array:
    """(4,) coefficients, none negative, of least relative error."""
    from scipy.optimize import nnls

    scale = terms.max(axis=0)
    columns, by = terms / scale, times
    for _ in range(2):
        coefficients: Array = nnls(columns / by[:, None], times / by)[0]
        by = np.maximum(columns @ coefficients, 0.3 * times)  # a prediction near zero must not rule the second pass
    found: Array = coefficients / scale
    return found


def _stretch(n_shapes: int) -> float:
    """What makes residuals of a fit as wide as errors, and a normal quantile Student's."""
    from scipy.special import ndtri, stdtrit

    free, tail = n_shapes - len(NAMES), 0.5 + LEVEL / 2
    return math.sqrt(n_shapes / free) * float(stdtrit(free, tail) / ndtri(tail))


def _ratio(coefficients: Array) -> float:
    """B* = s / w; infinite where only s is, and 0 where nothing is serial."""
    s, w = coefficients[1], coefficients[2]
    if s <= 0:
        return 0.0
    return float(s / w) if w > 0 else math.inf


def _interval(value: float, samples: Array) -> list[float | None]:
    """The value and the wider end of either bootstrap, (2, samples); None where there is no bound."""
    tail = (1 - LEVEL) / 2
    # `lower` and `higher` never mix an infinite sample with a finite one
    low = min(np.quantile(samples, tail, axis=1, method="lower"))
    high = max(np.quantile(samples, 1 - tail, axis=1, method="higher"))
    return [float(f"{x:.4g}") if math.isfinite(x) else None for x in (value, min(low, value), max(high, value))]


def _held_out(terms: Array, times: Array) -> Array:
    """(S,) relative residual of each shape, predicted from the others."""
    found = []
    for i in range(len(times)):
        rest = np.arange(len(times)) != i
        found.append(float(terms[i] @ _solve(terms[rest], times[rest])) / times[i] - 1)
    return np.array(found)

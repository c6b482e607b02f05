"""What the probes that read a clock share once it has been read: what is counted, ratios, and a fit of times to terms.

The fit is t = a + s T + w B T + q B T^2, no term negative. a is what a step costs however small (the launch), s the
serial time of each step of the sequence, which no batch shares, w the work of each step of each sequence, q that of
each pair of steps. Everything grows with T; only s > 0 is the limit that recurrence sets. B* = s / w is the batch at
which the work takes as long as the serial part.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.probes import ProbeSpec
from seqbench.report.chart import Axis, Dash, Line, Look
from seqbench.report.text import NONE, interval_text
from seqbench.stats import Estimate, Interval

Array = npt.NDArray[np.float64]
Term = Literal["a", "s", "w", "q"]
Bounds = tuple[float | None, float | None, float | None]  # value, low and high; None where there is no bound
TRUSTED = 0.15  # greatest held-out residual
SAMPLES = 400  # of each bootstrap
LEAST = 0.05  # of a prediction that a drawn residual leaves
LEVEL = 0.95
SHORTEST = 32  # steps of the shortest sequences
LENGTHS = Axis("length T, steps", "log2")
CELLS: dict[Term, tuple[str, float]] = {  # of each term the head of its column, and the unit over seconds
    "a": ("a, µs", 1e6),
    "s": ("s, µs per step", 1e6),
    "w": ("w, µs per token", 1e6),
    "q": ("q, ns per pair", 1e9),
}


def lengths_to(longest: int) -> list[int]:
    """``longest`` and its halves down to 32, three lengths at least; ascending."""
    lengths = [longest]
    while lengths[-1] >= 2 * SHORTEST or len(lengths) < 3:
        lengths.append(lengths[-1] // 2)
    return lengths[::-1]


class StepSeconds(NamedTuple):
    """Seconds of one step: on the wall, and between two events on the device (None but on CUDA)."""

    wall: float
    event: float | None


def walls(readings: Iterable[StepSeconds]) -> list[float]:
    """Seconds on the wall, rounded before use, so that all else can be computed from the record again."""
    return [significant(reading.wall) for reading in readings]


def events(readings: Iterable[StepSeconds]) -> float:
    """Median of the seconds between events on the device, rounded likewise."""
    return significant(float(np.median([reading.event for reading in readings if reading.event is not None])))


@dataclass(frozen=True)
class LayerCounts:
    """What is counted of a layer, not timed.

    Attributes:
        width: of the layer.
        params: trainable parameters of what is timed, the mixer and the readout.
        params_mixer: those of the mixer alone.
        flops_per_token: floating-point operations of its forward pass; None for a plug-in that can't be counted.
        state_size: floats that it carries in each sequence.
    """

    width: int
    params: int
    params_mixer: int
    flops_per_token: float | None
    state_size: int


@dataclass(frozen=True)
class TimeFit:
    """The fit t = a + s T + w B T + q B T^2.

    Attributes:
        a, s, w, q: seconds.
        hidden_batch: B* = s / w.
        residual: median and root mean square of (predicted - t) / t of shapes that were left out.
        trusted: whether the latter is small enough.
    """

    a: Bounds
    s: Bounds
    w: Bounds
    q: Bounds
    hidden_batch: Bounds
    residual: tuple[float, float]
    trusted: bool


def fit_times(shapes: Sequence[Sequence[int]], seconds: npt.ArrayLike, seed: int = 0) -> TimeFit | None:
    """Fit the four terms to times of a step, medians over repeats.

    Args:
        shapes: (S, 2) batch and length.
        seconds: (S, R) times, R repeats of each shape.
        seed: of the bootstraps.

    Returns:
        None if the shapes can't tell the terms apart.
    """
    from scipy.special import ndtri, stdtrit

    times = np.asarray(seconds, dtype=np.float64)
    batch, length = np.asarray(shapes, dtype=np.float64).T
    terms = np.stack([np.ones_like(length), length, batch * length, batch * length**2], axis=1)
    (n_shapes, n_repeats), n_terms = times.shape, terms.shape[1]
    if n_shapes <= n_terms or np.linalg.matrix_rank(terms / terms.max(axis=0)) < n_terms:
        return None
    middle = np.median(times, axis=1)
    value = _solve(terms, middle)
    rng = np.random.default_rng([seed, 1])
    over_repeats = [
        _solve(terms, np.median(times[:, rng.integers(n_repeats, size=n_repeats)], axis=1)) for _ in range(SAMPLES)
    ]
    predicted, free, tail = terms @ value, n_shapes - n_terms, 0.5 + LEVEL / 2
    residuals = (middle / predicted - 1) * (math.sqrt(n_shapes / free) * float(stdtrit(free, tail) / ndtri(tail)))
    residuals -= residuals.mean()
    over_shapes = [
        _solve(terms, predicted * np.maximum(LEAST, 1 + residuals[rng.integers(n_shapes, size=n_shapes)]))
        for _ in range(SAMPLES)
    ]
    both = np.array([over_repeats, over_shapes])  # (2, samples, 4)
    a, s, w, q = (_interval(value[j], both[:, :, j]) for j in range(n_terms))
    hidden_batch = _interval(_ratio(value), np.apply_along_axis(_ratio, 2, both))
    others = [_solve(np.delete(terms, i, axis=0), np.delete(middle, i)) for i in range(n_shapes)]
    held_out = np.sum(terms * others, axis=1) / middle - 1
    error = math.sqrt(float(np.mean(held_out**2)))
    residual = significant(float(np.median(np.abs(held_out))), 3), significant(error, 3)
    return TimeFit(a, s, w, q, hidden_batch, residual, error <= TRUSTED)


def geometric(values: npt.ArrayLike) -> Interval:
    """Geometric mean of (..., R) positive ratios, R of them repeats, with Student's interval over the repeats.

    The interval is that of the mean of (R,) logarithms, means over all else; its limits are NaN for one repeat.
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    logs = logs.reshape(-1, logs.shape[-1]).mean(axis=0)
    n = len(logs)
    variance = float(np.var(logs, ddof=1)) / n if n > 1 else math.nan
    return Interval(*map(math.exp, Estimate(float(logs.mean()), variance, 0.0, max(1.0, n - 1)).interval(LEVEL)))


def spread(values: npt.ArrayLike) -> Interval:
    """Median, least and greatest."""
    return Interval(*np.quantile(np.asarray(values, dtype=np.float64), (0.5, 0.0, 1.0)).tolist())


def band(lengths: Sequence[int], values: npt.ArrayLike, look: Look, label: str = "", dash: Dash = "solid") -> Line:
    """A line of the medians of ``values`` (T, R) over repeats, with a band from the least to the greatest."""
    middle, low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.5, 0.0, 1.0), axis=1).tolist()
    return Line(lengths, middle, look, low, high, label, dash, marked=True)


def significant(value: float, digits: int = 4) -> float:
    """``value`` with so many significant digits, as records hold it."""
    return float(f"{value:.{digits}g}")


def as_recorded(interval: Interval) -> Interval:
    """``interval`` rounded as records hold it."""
    return Interval(*map(significant, interval))


def open_interval(bounds: Bounds, scale: float = 1.0) -> Interval:
    """``bounds`` times ``scale``; one that is not there is infinite."""
    return Interval(*(math.inf if x is None else scale * x for x in bounds))


def fit_cells(fit: TimeFit | None, terms: Sequence[Term]) -> dict[str, str]:
    """What a row of a table shows of ``fit``, by heads of columns."""
    heads = [*(CELLS[term][0] for term in terms), "B* = s/w", "held out"]
    if fit is None:
        return dict.fromkeys(heads, NONE)
    figures = [*(open_interval(getattr(fit, term), CELLS[term][1]) for term in terms), open_interval(fit.hidden_batch)]
    held_out = f"{fit.residual[1]:.1%}" + ("" if fit.trusted else " (not trusted)")
    return dict(zip(heads, [*map(interval_text, figures), held_out], strict=True))


def machine_text(spec: ProbeSpec) -> str:
    """``width 128, cpu, 1 thread``: what was timed, and where."""
    threads = f", {spec.threads} thread{'s' if spec.threads > 1 else ''}" if spec.device == "cpu" else ""
    return f"width {spec.options['hidden']}, {spec.device}{threads}"


def _solve(terms: Array, times: Array) -> Array:
    """(4,) coefficients, none negative, of least relative error."""
    from scipy.optimize import nnls

    scale = terms.max(axis=0)
    columns, by = terms / scale, times
    for _ in range(2):
        coefficients: Array = nnls(columns / by[:, None], times / by)[0]
        by = np.maximum(columns @ coefficients, 0.3 * times)  # a prediction near zero must not rule the second pass
    solution: Array = coefficients / scale
    return solution


def _ratio(coefficients: Array) -> float:
    """B* = s / w; infinite where only s is, and 0 where nothing is serial."""
    s, w = coefficients[1], coefficients[2]
    if s <= 0:
        return 0.0
    return float(s / w) if w > 0 else math.inf


def _interval(value: float, samples: Array) -> Bounds:
    """The value and the wider end of either bootstrap, (2, samples); None where there is no bound."""
    tail = (1 - LEVEL) / 2
    # `lower` and `higher` never mix an infinite sample with a finite one
    low = min(np.quantile(samples, tail, axis=1, method="lower"))
    high = max(np.quantile(samples, 1 - tail, axis=1, method="higher"))
    rounded = [significant(x) if math.isfinite(x) else None for x in (value, min(low, value), max(high, value))]
    return rounded[0], rounded[1], rounded[2]

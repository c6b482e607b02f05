"""Baselines for `forecast`, in the scaled units of the targets: naive ones, ridge regression, boosting on lags.

All return forecasts as values of the target, whether the task's own windows are relative or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.baselines.boosting import OneThread
from seqbench.data import TaskData, Windows
from seqbench.errors import NotApplicable

__all__ = ["boosting_lags", "drift", "persistence", "ridge", "ridge_relative", "seasonal_naive", "target_ridge"]

Array = npt.NDArray[Any]
MOST_COLUMNS = 2000  # of a flattened window: their products fill a matrix of as many rows
MOST_ROWS = 50_000  # training windows, evenly spread; more of them say little that is new
PENALTIES = tuple(10.0**power for power in range(-1, 6))


@register_baseline("persistence", kind="forecast")
def persistence(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The last observed value, at every step ahead."""

    def predict(split: Any) -> Array:
        forecast: Array = np.repeat(split.last, split.horizon, axis=1)
        return forecast

    return predict


@register_baseline("drift", kind="forecast")
def drift(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The last observed value, and from there the training windows' mean change a step."""
    change = (train.target_series[train.starts + train.lookback + train.horizon - 1] - train.last[:, 0]).mean(axis=0)

    def predict(split: Any) -> Array:
        steps = np.arange(1, split.horizon + 1)[:, None] / train.horizon
        forecast: Array = split.last + change * steps
        return forecast

    return predict


@register_baseline("seasonal-naive", kind="forecast")
def seasonal_naive(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The value one season (24 hours, say) before the step that is forecast, or the latest of that phase."""
    season = _season(data)
    if not season:
        raise NotApplicable("no season is known")
    if (_reach(train) < season).all() and (_reach(val) < season).all():
        raise NotApplicable("no window has a whole season before it")

    def predict(split: Any) -> Array:
        return _a_season_before(split, season, np.arange(split.horizon))

    return predict


def _season(data: TaskData) -> int:
    """Steps after which the series is expected to repeat itself; 0: none."""
    return int(data.fitted.get("season", 0))


def _reach(split: Windows) -> Array:
    """(N,) rows of the series that each window knows, with those before its own that no hole parts from it."""
    earlier = split.meta.get("earlier")
    return np.full(len(split), split.lookback) if earlier is None else np.asarray(earlier) + split.lookback


def _a_season_before(split: Windows, season: int, ahead: Array) -> Array:
    """(N, len(ahead), C) for each of the steps ``ahead`` (from 0) the latest value that was seen at the same phase.

    Where nothing that far back is known it is the last value.
    """
    back = season * (ahead // season + 1) - ahead  # rows before the first that is forecast
    at = (split.starts + split.lookback)[:, None] - np.where(back <= _reach(split)[:, None], back, 1)
    values: Array = split.target_series[at]
    return values


def _flatten(inputs: Array) -> Array:
    """(n, T * D + 1): windows as rows with a one for the constant; of large ones the last steps, the first columns."""
    steps = max(1, MOST_COLUMNS // inputs.shape[2])
    rows = inputs[:, -steps:, :MOST_COLUMNS].reshape(len(inputs), -1).astype(np.float64)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _in_chunks(split: Windows, every: int = 1, size: int = 2048) -> list[Array]:
    rows = np.arange(0, len(split), every)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _fit_ridge(train: Windows, val: Windows, seen: Callable[[Windows], Windows], channels: slice) -> Predict:
    """Ridge regression on windows as ``seen``, of their columns ``channels``; its penalty is chosen on ``val``.

    The normal equations are summed up, so that the windows are never all in memory, and solved for every penalty at
    once by their eigenvectors: scikit-learn's `Ridge` would want all rows.
    """
    given = seen(train)
    gram: Any = 0.0
    cross: Any = 0.0
    for indices in _in_chunks(given, -(-len(given) // MOST_ROWS)):
        batch = given[indices]
        rows, targets = _flatten(batch.inputs[:, :, channels]), batch.targets.reshape(len(indices), -1)
        gram, cross = gram + rows.T @ rows, cross + rows.T @ targets.astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    projected = vectors.T @ cross
    fits = [vectors @ (projected / (np.maximum(values, 0.0) + penalty)[:, None]) for penalty in PENALTIES]
    errors, held = np.zeros(len(fits)), seen(val)
    for indices in _in_chunks(held):
        batch = held[indices]
        rows, targets = _flatten(batch.inputs[:, :, channels]), batch.targets.reshape(len(indices), -1)
        errors += [np.square(rows @ weights - targets).sum() for weights in fits]
    weights, shape = fits[int(errors.argmin())], given[[0]].targets.shape[1:]

    def predict(split: Any) -> Array:
        held = seen(split)
        parts = [_flatten(held[i].inputs[:, :, channels]) @ weights for i in _in_chunks(held)]
        return held.collect(np.concatenate(parts).reshape(-1, *shape))

    return predict


def _absolute(split: Windows) -> Windows:
    return dataclasses.replace(split, relative=0.0)


def _relative(split: Windows) -> Windows:
    return dataclasses.replace(split, relative=1.0)


@register_baseline("ridge", kind="forecast")
def ridge(train: Windows, val: Windows, data: TaskData) -> Predict:
    """Ridge regression from the flattened window to all steps ahead; its penalty is chosen on the validation split."""
    return _fit_ridge(train, val, _absolute, slice(None))


@register_baseline("ridge-relative", kind="forecast")
def ridge_relative(train: Windows, val: Windows, data: TaskData) -> Predict:
    """Ridge regression on windows with the target's last value taken off inputs and targets."""
    return _fit_ridge(train, val, _relative, slice(None))


@register_baseline("target-ridge", kind="forecast")
def target_ridge(train: Windows, val: Windows, data: TaskData) -> Predict:
    """Ridge regression from the target's own past alone, with its last value taken off."""
    channels = train.target_series.shape[1]
    if train.series.shape[1] == channels:
        raise NotApplicable("nothing but the target is read")
    return _fit_ridge(train, val, _relative, slice(channels))


LAGS = (1, 2, 3, 6, 12)  # steps before the last value
MOST_CHANNELS = 30  # whose last value is read
MOST_PAIRS = 40_000  # of a window and a step ahead, to fit on; a quarter of them to choose on
MOST_PREDICTED = 600_000  # pairs; where there are more, steps ahead are left out and interpolated
TREES = 150


@register_baseline("boosting-lags", kind="forecast")
def boosting_lags(train: Windows, val: Windows, data: TaskData) -> Predict:
    """Gradient boosting on lags, seasonal lags and the step ahead; the number of trees is chosen on validation."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    season = _season(data)
    rng = np.random.default_rng(0)
    inputs, targets = _pairs(train, season, rng, MOST_PAIRS)
    held, truth = _pairs(val, season, rng, MOST_PAIRS // 4)
    fits = []
    for channel in range(targets.shape[1]):
        about = {"learning_rate": 0.1, "early_stopping": False, "random_state": 0}
        fit = OneThread(HistGradientBoostingRegressor(max_iter=TREES, **about)).fit(inputs, targets[:, channel])
        errors = [float(np.mean((found - truth[:, channel]) ** 2)) for found in fit.staged_predict(held)]
        best = int(np.argmin(errors)) + 1
        if best < TREES:  # the same trees again, as many as help
            fit = OneThread(HistGradientBoostingRegressor(max_iter=best, **about)).fit(inputs, targets[:, channel])
        fits.append(fit)

    def predict(split: Any) -> Array:
        ahead = _few_steps(split)
        every = np.arange(split.horizon)
        parts = []
        for indices in _in_chunks(split):
            rows = _lags(split, indices, ahead, season)
            found = np.stack([fit.predict(rows).reshape(len(indices), -1) for fit in fits], axis=2)
            parts.append(found if len(ahead) == split.horizon else _interpolated(found, ahead, every))
        forecast: Array = np.concatenate(parts) + split.last
        return forecast

    return predict


def _few_steps(split: Windows) -> Array:
    """The steps ahead (from 0) that are predicted, all if that does not take too long."""
    most = max(2, MOST_PREDICTED // len(split))
    return np.unique(np.linspace(0, split.horizon - 1, min(split.horizon, most)).round().astype(np.int64))


def _interpolated(found: Array, ahead: Array, every: Array) -> Array:
    """(n, len(ahead), C) to (n, len(every), C), in straight lines."""
    right = np.clip(np.searchsorted(ahead, every), 1, len(ahead) - 1)
    weight = ((every - ahead[right - 1]) / (ahead[right] - ahead[right - 1]))[None, :, None]
    values: Array = found[:, right - 1] * (1 - weight) + found[:, right] * weight
    return values


def _pairs(split: Windows, season: int, rng: np.random.Generator, most: int) -> tuple[Array, Array]:
    """Features and targets of windows and steps ahead, drawn at random."""
    steps = min(split.horizon, 6)
    rows = np.sort(rng.permutation(len(split))[: max(1, most // steps)])
    ahead = rng.integers(0, split.horizon, (len(rows), steps)) if split.horizon > steps else np.arange(steps)[None]
    inputs, targets = [], []
    for at in range(0, len(rows), 2048):
        some = rows[at : at + 2048]
        when = np.broadcast_to(ahead if len(ahead) == 1 else ahead[at : at + 2048], (len(some), steps))
        inputs.append(_lags(split, some, when, season))
        wanted = split.target_series[(split.starts[some] + split.lookback)[:, None] + when] - split.last[some]
        targets.append(wanted.reshape(len(some) * steps, -1))
    return np.concatenate(inputs), np.concatenate(targets)


def _lags(split: Windows, indices: Array, ahead: Array, season: int) -> Array:
    """(n * h, F) float32: what each of the windows ``indices`` (n,) tells of its steps ``ahead``, (h,) or (n, h).

    The target's lags, mean and seasonal lags are relative to its last value; phase and step ahead are numbers.
    """
    end = split.starts[indices] + split.lookback  # the first row that is forecast
    last = split.target_series[end - 1]
    past = split.target_series[split.starts[indices][:, None] + np.arange(split.lookback)]
    lags = [past[:, -1 - lag] - last for lag in LAGS if lag < split.lookback]
    spread = [past.mean(axis=1) - last, past.std(axis=1)]
    window = np.concatenate([*lags, *spread, split.series[end - 1][:, :MOST_CHANNELS]], axis=1)
    n, h = len(indices), np.broadcast_to(ahead, (len(indices), ahead.shape[-1])).shape[1]
    ahead = np.broadcast_to(ahead, (n, h))
    of_step = [ahead[:, :, None] + 1.0]
    if season:
        chosen = dataclasses.replace(
            split, starts=split.starts[indices], meta={name: rows[indices] for name, rows in split.meta.items()}
        )
        for seasons in (0, 1):
            back = season * (ahead // season + 1 + seasons) - ahead
            at = end[:, None] - np.where(back <= _reach(chosen)[:, None], back, 1)
            of_step.append(split.target_series[at] - last[:, None])
        if "phase" in chosen.meta:
            of_step.append(((chosen.meta["phase"][:, None] + 1 + ahead) % season)[:, :, None])
    repeated = np.broadcast_to(window[:, None], (n, h, window.shape[1]))
    rows = np.concatenate([repeated, *of_step], axis=2)
    return rows.reshape(n * h, -1).astype(np.float32)

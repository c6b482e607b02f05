"""Baselines for `forecast`, in the scaled units of the targets: persistence, seasonal naive, ridge regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.data import TaskData, Windows
from seqbench.metrics import rmse

__all__ = ["drift", "persistence", "ridge", "seasonal_naive"]

Array = npt.NDArray[Any]
MOST_COLUMNS = 4000  # of a flattened window: their products fill a matrix of as many rows
MOST_ROWS = 100_000  # training windows, evenly spread; more of them say little that is new
PENALTIES = tuple(10.0**power for power in range(-1, 6))


@register_baseline("persistence", kind="forecast")
def persistence(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The last observed value, at every step ahead."""

    def predict(split: Any) -> Array:
        last = split.target_series[split.starts + split.lookback - 1]
        forecast: Array = np.repeat(last[:, None], split.horizon, axis=1)
        return forecast

    return predict


@register_baseline("drift", kind="forecast")
def drift(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The last observed value, and from there the training stretch's mean change a step."""
    series = train.target_series
    change = (series[-1] - series[0]) / (len(series) - 1)

    def predict(split: Any) -> Array:
        last = split.target_series[split.starts + split.lookback - 1]
        forecast: Array = last[:, None] + change * np.arange(1, split.horizon + 1)[:, None]
        return forecast

    return predict


@register_baseline("seasonal-naive", kind="forecast")
def seasonal_naive(train: Windows, val: Windows, data: TaskData) -> Predict:
    """The value one day (24 steps) before the step that is forecast."""

    def predict(split: Any) -> Array:
        ahead = np.arange(split.horizon)
        days = ahead // 24 + 1  # the latest same hour that lies in the past
        at = split.starts[:, None] + split.lookback + ahead - 24 * days
        forecast: Array = split.target_series[at]
        return forecast

    return predict


def _flatten(split: Windows, indices: Array) -> Array:
    """(n, T * D + 1): windows (of very large ones the last steps) as rows with a one for the constant."""
    inputs = split[indices].inputs
    steps = max(1, MOST_COLUMNS // inputs.shape[2])
    rows = inputs[:, -steps:].reshape(len(indices), -1).astype(np.float64)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _in_chunks(split: Windows, every: int = 1, size: int = 2048) -> list[Array]:
    rows = np.arange(0, len(split), every)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


@register_baseline("ridge", kind="forecast")
def ridge(train: Windows, val: Windows, data: TaskData) -> Predict:
    """Ridge regression from the flattened window to all steps ahead; its penalty is chosen on the validation split."""
    gram: Any = 0.0
    cross: Any = 0.0
    for indices in _in_chunks(
        train, -(-len(train) // MOST_ROWS)
    ):  # normal equations, so that the windows are never all in memory
        rows = _flatten(train, indices)
        targets = train[indices].targets.reshape(len(indices), -1).astype(np.float64)
        gram, cross = gram + rows.T @ rows, cross + rows.T @ targets
    values, vectors = np.linalg.eigh(gram)
    projected = vectors.T @ cross
    shape = train[[0]].targets.shape[1:]

    def with_penalty(penalty: float) -> Predict:
        weights = vectors @ (projected / (np.maximum(values, 0.0) + penalty)[:, None])

        def predict(split: Any) -> Array:
            return np.concatenate([_flatten(split, i) @ weights for i in _in_chunks(split)]).reshape(-1, *shape)

        return predict

    fits = [with_penalty(penalty) for penalty in PENALTIES]
    truth = val.truth().targets
    return min(fits, key=lambda predict: rmse(predict(val), truth))

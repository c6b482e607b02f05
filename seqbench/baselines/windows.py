"""Baselines for `classify` over windows of measurements: what each window's statistics tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.data import Segments, TaskData

__all__ = ["lda", "statistics", "window_logistic"]

Array = npt.NDArray[Any]
MOST = 30_000  # training windows; they overlap, so more of them say little that is new
PENALTIES = (0.1, 1.0, 10.0, 100.0)


def statistics(split: Segments, indices: Array | None = None) -> Array:
    """(N, 4 D): mean, deviation, last value and rise of each measurement over the windows ``indices`` (or all)."""
    indices = np.arange(len(split)) if indices is None else indices
    parts = []
    for at in range(0, len(indices), 4096):  # so that the windows are never all in memory
        window = split[indices[at : at + 4096]].inputs
        last, first = window[:, -1], window[:, 0]
        parts.append(np.concatenate([window.mean(axis=1), window.std(axis=1), last, last - first], axis=1))
    return np.concatenate(parts)


def _thinned(train: Segments) -> Array:
    return np.arange(0, len(train), max(1, -(-len(train) // MOST)))


def _probabilities(fit: Any, scale: Any, n_classes: int) -> Predict:
    def predict(split: Any) -> Array:
        # columns of classes absent from training stay at probability 0
        probabilities = np.zeros((len(split), n_classes))
        probabilities[:, fit.classes_] = fit.predict_proba(scale(statistics(split)))
        return probabilities

    return predict


def _scaler(values: Array) -> Any:
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return lambda rows: (rows - mean) / deviation


@register_baseline("lda", kind="classify")
def lda(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Linear discriminant analysis of the windows' statistics, with the covariance shrunk after Ledoit and Wolf."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows = _thinned(train)
    values = statistics(train, rows)
    scale = _scaler(values)
    fit = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(scale(values), train.targets[rows])
    return _probabilities(fit, scale, len(data.classes))


@register_baseline("window-logistic", kind="classify")
def window_logistic(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Multinomial logistic regression on the windows' statistics; its penalty is chosen on the validation split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    rows, held = _thinned(train), _thinned(val)
    values = statistics(train, rows)
    scale = _scaler(values)
    inputs, held_out = scale(values), scale(statistics(val, held))
    fits = [LogisticRegression(C=c, max_iter=3000).fit(inputs, train.targets[rows]) for c in PENALTIES]
    best = max(fits, key=lambda fit: float(f1_score(val.targets[held], fit.predict(held_out), average="macro")))
    return _probabilities(best, scale, len(data.classes))

"""Baselines for `tag`: the most frequent label, and what a step and its neighbours tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, logistic_fits, register_baseline
from seqbench.data import CONTEXT, Tagged, TaskData

__all__ = ["step_logistic", "step_majority"]

Array = npt.NDArray[Any]
AROUND = (-5, -2, -1, 0, 1, 2, 5)  # steps that are read beside each step
MOST = 50_000  # training steps, evenly spread
PENALTIES = (0.1, 1.0, 10.0)


@register_baseline("step-majority", kind="tag")
def step_majority(train: Tagged, val: Tagged, data: TaskData) -> Predict:
    """Every step has the label that is most frequent in training."""
    shares = np.bincount(train.truth().targets, minlength=len(data.classes)) / train.n_scored
    return lambda split: np.tile(shares, (split.n_scored, 1))


def _neighbourhoods(split: Tagged) -> tuple[Array, Array]:
    """(M, F) of every step that counts the values there and around, as far as its window reaches; and its label."""
    batch = split[np.arange(len(split))]
    at = np.arange(split.lookback)
    near = [batch.inputs[:, np.clip(at + by, 0, split.lookback - 1)] for by in AROUND]
    scored = batch.targets != CONTEXT
    return np.concatenate(near, axis=2)[scored], batch.targets[scored]


@register_baseline("step-logistic", kind="tag")
def step_logistic(train: Tagged, val: Tagged, data: TaskData) -> Predict:
    """Logistic regression on a step and those up to five before and after it; its penalty is chosen on validation."""
    rows, labels = _neighbourhoods(train)
    held, truth = _neighbourhoods(val)
    every = -(-len(rows) // MOST)
    fits = logistic_fits(rows[::every], labels[::every], PENALTIES, 2000)
    best = max(fits, key=lambda fit: float(fit.score(held, truth)))

    def predict(split: Any) -> Array:
        # columns of classes absent from training stay at probability 0
        probabilities = np.zeros((split.n_scored, len(data.classes)))
        probabilities[:, best.classes_] = best.predict_proba(_neighbourhoods(split)[0])
        return probabilities

    return predict

"""Metrics as pure functions over numpy arrays. N examples, K classes, H steps ahead, C channels.

One that can't be told from the examples at hand is NaN, never a number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["accuracy", "average_precision", "bits_per_character", "f1_scores", "macro_f1", "mae", "relative_to", "rmse"]

Array = npt.NDArray[Any]


def accuracy(predicted: Array, target: Array) -> float:
    """Share of the N predicted labels that are right."""
    return float(np.mean(predicted == target))


def f1_scores(predicted: Array, target: Array, n_classes: int) -> Array:
    """(K,) 2 TP / (2 TP + FP + FN) of each class; NaN of one neither present nor predicted."""
    hits = np.bincount(target[predicted == target], minlength=n_classes)
    either = np.bincount(predicted, minlength=n_classes) + np.bincount(target, minlength=n_classes)
    scores: Array = np.where(either > 0, 2.0 * hits / np.maximum(either, 1), np.nan)
    return scores


def macro_f1(predicted: Array, target: Array, n_classes: int) -> float:
    """Mean of `f1_scores` over the classes that are present or predicted, as scikit-learn has it."""
    return float(np.nanmean(f1_scores(predicted, target, n_classes)))


def average_precision(score: Array, positive: Array) -> float:
    """Area under the precision-recall curve as the step sum of precision over recall (no interpolation).

    ``score`` (N,) ranks the examples, ``positive`` (N,) is true for the class in question; tied scores form one step.
    A ranking at random reaches the class's prevalence. NaN where no example is positive.
    """
    if not positive.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = hits[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(precision * np.diff(hits, prepend=0)) / hits[-1])


def rmse(predicted: Array, target: Array) -> float:
    """Root of the mean squared error over all entries, in the unit of the inputs."""
    return float(np.sqrt(np.mean((predicted.astype(np.float64) - target) ** 2)))


def relative_to(error: float, reference: float) -> float:
    """``error`` over that of a reference; NaN where the reference makes none, as on a target that never changes."""
    return error / reference if reference > 1e-12 else math.nan


def mae(predicted: Array, target: Array) -> float:
    """Mean absolute error over all entries, in the unit of the inputs."""
    return float(np.mean(np.abs(predicted.astype(np.float64) - target)))


def bits_per_character(nats: Array, characters: Array) -> float:
    """Summed losses in nats over summed characters, in bits."""
    return float(np.sum(nats, dtype=np.float64) / np.sum(characters) / math.log(2))

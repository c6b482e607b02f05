"""Metrics as pure functions over numpy arrays. N examples, K classes, H steps ahead, C channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["accuracy", "average_precision", "bits_per_character", "macro_f1", "mae", "rmse"]

Array = npt.NDArray[Any]


def accuracy(predicted: Array, target: Array) -> float:
    """Share of the N predicted labels that are right."""
    return float(np.mean(predicted == target))


def macro_f1(predicted: Array, target: Array, n_classes: int) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN); a class neither present nor predicted counts 0."""
    scores = []
    for label in range(n_classes):
        hits = np.sum((predicted == label) & (target == label))
        either = np.sum(predicted == label) + np.sum(target == label)
        scores.append(2.0 * hits / either if either else 0.0)
    return float(np.mean(scores))


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


def mae(predicted: Array, target: Array) -> float:
    """Mean absolute error over all entries, in the unit of the inputs."""
    return float(np.mean(np.abs(predicted.astype(np.float64) - target)))


def bits_per_character(nats: Array, characters: Array) -> float:
    """Summed losses in nats over summed characters, in bits."""
    return float(np.sum(nats, dtype=np.float64) / np.sum(characters) / math.log(2))

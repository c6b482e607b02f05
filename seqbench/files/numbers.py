"""Numbers as what is predicted, one for each example: read, scaled by the training split, and scored in their units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import TaskData, Truth
from seqbench.errors import UserError
from seqbench.metrics import mae, rmse
from seqbench.readers.archives import shown
from seqbench.task import Metric

__all__ = ["NUMBER_METRICS", "as_numbers", "score_numbers", "with_numbers"]

Array = npt.NDArray[Any]
UNITS = "units of the target"
NUMBER_METRICS = (Metric("rmse", "lower", UNITS), Metric("mae", "lower", UNITS))


def as_numbers(cells: Sequence[str], column: str, where: Callable[[int], str]) -> Array:
    """(N,) float64 of ``cells``; raises `UserError` for one that is no finite number, and says ``where`` it stands."""
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell)
        except ValueError:
            values[i] = math.nan
        if not math.isfinite(values[i]):
            raise UserError(f"{where(i)}: {shown(cell)} in {shown(column, 60)} is no number: --kind regress needs one.")
    return values


def with_numbers(data: TaskData, column: str) -> TaskData:
    """``data``, whose targets (N,) are numbers as they are, with targets scaled by the training split's.

    Raises:
        UserError: all training targets are the same.
    """
    training = np.asarray(getattr(data.train, "targets"), dtype=np.float64)  # noqa: B009  # every split here has them
    offset, scale = float(training.mean()), float(training.std())
    if not scale > 1e-9 * abs(offset):
        raise UserError(f"{shown(column, 60)} is {offset:g} throughout training: there is nothing to predict.")

    def scaled(split: Any) -> Any:
        targets = ((np.asarray(split.targets, dtype=np.float64) - offset) / scale).astype(np.float32)
        meta = {**split.meta, "scale": np.full(len(split), scale)}
        return dataclasses.replace(split, targets=targets, meta=meta)

    fitted = {**data.fitted, "offset": offset, "scale": scale}
    train, val, test = map(scaled, data.splits.values())
    return dataclasses.replace(data, train=train, val=val, test=test, fitted=fitted)


def score_numbers(predictions: Array, truth: Truth) -> dict[str, float]:
    """Errors in the target's own units from scaled numbers (N,); of runs also over the last window of each."""
    error = (predictions.astype(np.float64) - truth.targets) * truth.meta["scale"]
    zero = np.zeros_like(error)
    scores = {"rmse": rmse(error, zero), "mae": mae(error, zero)}
    if "last" in truth.meta:
        last = truth.meta["last"] > 0
        scores["rmse_at_end"] = rmse(error[last], zero[last]) if last.any() else math.nan
    return scores

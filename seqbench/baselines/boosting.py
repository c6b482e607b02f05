"""Gradient-boosted trees on one thread: their figures are then the same whatever the machine, and where other work
keeps the cores busy, threads that wait for each other take many times as long as one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

__all__ = ["OneThread"]

Array = npt.NDArray[Any]


class OneThread:
    """A scikit-learn estimator whose OpenMP loops run on one thread, in fitting and in predicting."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @staticmethod
    def _limit() -> Any:
        from threadpoolctl import threadpool_limits  # scikit-learn, which has it, is loaded by now

        return threadpool_limits(limits=1, user_api="openmp")

    def fit(self, rows: Array, targets: Array) -> OneThread:
        """Fit it."""
        with self._limit():
            self.estimator.fit(rows, targets)
        return self

    def predict(self, rows: Array) -> Array:
        """As the estimator does."""
        with self._limit():
            predicted: Array = self.estimator.predict(rows)
            return predicted

    def staged_predict(self, rows: Array) -> Iterator[Array]:
        """What it predicts after each round."""
        with self._limit():
            yield from self.estimator.staged_predict(rows)

    def staged_predict_proba(self, rows: Array) -> Iterator[Array]:
        """The probabilities after each round."""
        with self._limit():
            yield from self.estimator.staged_predict_proba(rows)

    @property
    def classes_(self) -> Array:
        """The labels of the columns of probabilities."""
        labels: Array = self.estimator.classes_
        return labels

"""The learning rate of a model on a task: of the same few values for all models, the best on validation at seed 0."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RATES", "TRIAL_SEED", "best_rate"]

RATES = (1e-3, 3e-3, 1e-2)
TRIAL_SEED = 0


def best_rate(trials: Iterable[tuple[int, float, float | None]], direction: str) -> float | None:
    """The learning rate of the best of one model's ``trials`` (seed, rate, figure on validation) at seed 0.

    The test split has no say. A rate whose run has no figure is not chosen; of equally good ones the lowest is; None if
    no run at seed 0 has one.
    """
    sign = 1.0 if direction == "lower" else -1.0
    ranked = [(sign * value, rate) for seed, rate, value in trials if seed == TRIAL_SEED and value is not None]
    return min(ranked)[1] if ranked else None

"""Which of the learning rates tried is a model's: the one that does best on validation; the test has no say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

__all__ = ["RATES", "TRIAL_SEED", "chosen_rate"]

RATES = (1e-3, 3e-3, 1e-2)  # tried where no learning rate is given
TRIAL_SEED = 0  # the seed that every rate is tried at


def chosen_rate(
    trials: Iterable[tuple[int, float, float | None]], direction: Literal["higher", "lower"]
) -> float | None:
    """The best learning rate of one model's ``trials`` at seed 0; of equally good ones the lowest.

    Args:
        trials: (seed, learning rate, validation figure) of each run; no figure where the run failed.
        direction: whether a higher or a lower figure is better.

    Returns:
        None where no run at seed 0 has a figure.
    """
    sign = -1.0 if direction == "higher" else 1.0
    scores = [(sign * value, rate) for seed, rate, value in trials if seed == TRIAL_SEED and value is not None]
    return min(scores)[1] if scores else None

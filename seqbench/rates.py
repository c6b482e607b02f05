"""Which of the learning rates tried is a model's, told by validation alone; the test has no say.

The search begins in the middle of `LADDER` and goes on past an edge until the best has been tried from both sides. One
run is no measure of noise: where the second best is a lower rate, both are tried at a second seed, and the higher is
taken only if it does better there, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = ["LADDER", "RATES", "SECOND_SEED", "TRIAL_SEED", "Trial", "chosen_rate", "next_trials"]

LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # rates that may be tried, where none is given
RATES = LADDER[2:5]  # those that always are
TRIAL_SEED = 0  # the seed that every rate is tried at
SECOND_SEED = 1  # the one at which a higher rate must be better, too

Trial = tuple[int, float, float | None]  # seed, learning rate, figure on validation; no figure where the run failed
Direction = Literal["higher", "lower"]


def _ranked(trials: Iterable[Trial], direction: Direction, seed: int) -> list[tuple[float, float]]:
    """(figure, rate) of what went well at ``seed``, lower being better; the best first, of equals the lowest rate."""
    sign = -1.0 if direction == "higher" else 1.0
    return sorted((sign * value, rate) for at, rate, value in trials if at == seed and value is not None)


def chosen_rate(trials: Iterable[Trial], direction: Direction) -> float | None:
    """The best learning rate of one model's ``trials`` at seed 0; of what noise can't tell apart the lower.

    Args:
        trials: of one model.
        direction: whether a higher or a lower figure is better.

    Returns:
        None where no run at seed 0 has a figure.
    """
    trials = list(trials)
    ranked = _ranked(trials, direction, TRIAL_SEED)
    if not ranked:
        return None
    best = ranked[0][1]
    again = {rate: figure for figure, rate in _ranked(trials, direction, SECOND_SEED)}
    rival = _lower_rival(ranked)
    return rival if rival in again and best in again and again[rival] <= again[best] else best


def _lower_rival(ranked: Sequence[tuple[float, float]]) -> float | None:
    """The second best rate, if it is lower than the best."""
    best, second = [rate for _, rate in ranked[:2]] if len(ranked) > 1 else (0.0, 0.0)
    return second if second < best else None


def next_trials(trials: Iterable[Trial], direction: Direction, *, twice: bool = True) -> list[tuple[int, float]]:
    """What must be tried before `chosen_rate` of ``trials`` stands: (seed, learning rate) of each; nothing if it does.

    Args:
        trials: of one model.
        direction: whether a higher or a lower figure is better.
        twice: whether the second seed may be asked.
    """
    trials = list(trials)
    tried = {rate for seed, rate, _ in trials if seed == TRIAL_SEED}
    if missing := [rate for rate in RATES if rate not in tried]:
        return [(TRIAL_SEED, rate) for rate in missing]
    ranked = _ranked(trials, direction, TRIAL_SEED)
    # where every rate failed, lower ones may not
    around = _beside(ranked[0][1]) if ranked else [rate for rate in LADDER if rate < min(tried)][-1:]
    if missing := [rate for rate in around if rate not in tried]:
        return [(TRIAL_SEED, rate) for rate in missing]
    rival = _lower_rival(ranked)
    again = {rate for seed, rate, _ in trials if seed == SECOND_SEED}
    pair = [rival, ranked[0][1]] if rival is not None and twice else []
    return [(SECOND_SEED, rate) for rate in pair if rate not in again]


def _beside(rate: float) -> list[float]:
    """The rates next to ``rate`` on the ladder."""
    return [*[one for one in LADDER if one < rate][-1:], *[one for one in LADDER if one > rate][:1]]

"""Non-neural rows that stand beside every model.

A baseline is a function ``fit(train, val, data) -> predict``, where ``predict(split)`` returns what a model's head
would for that split, as `Split.collect` leaves it: class probabilities (N, K), scaled forecasts (N, H, C), or losses in
nats per block of text. So models and baselines are scored by the very same function.

Where a baseline has nothing to say about a data set (positions, where no two sequences are equally long), ``fit``
raises `NotApplicable` with the reason, and the row is left out there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import Split, TaskData
from seqbench.errors import NotApplicable
from seqbench.registry import Registry

__all__ = ["BASELINES", "Baseline", "NotApplicable", "register_baseline"]

Array = npt.NDArray[Any]
Predict = Callable[[Split], Array]
Fit = Callable[[Any, Any, TaskData], Predict]
BASELINES: Registry[Baseline] = Registry("baseline", "seqbench.baselines", "seqbench.tasks")


@dataclass(frozen=True)
class Baseline:
    """A registered baseline: its kind of task and how it is fitted (on ``train``; ``val`` chooses settings)."""

    name: str
    kind: str
    description: str
    fit: Fit


def register_baseline(name: str, *, kind: str) -> Callable[[Fit], Fit]:
    """Register the decorated ``fit(train, val, data)``; the first line of its docstring describes it."""

    def decorate(fit: Fit) -> Fit:
        description = (fit.__doc__ or "").strip().partition("\n")[0]
        BASELINES.add(name, Baseline(name, kind, description, fit), module=fit.__module__)
        return fit

    return decorate


def one_hot(tokens: Array, n_tokens: int) -> Array:
    """(N, T) tokens to (N, T * n_tokens) zeros and ones, float32."""
    return np.eye(n_tokens, dtype=np.float32)[tokens].reshape(len(tokens), -1)


def spread_out(values: Array, columns: Array, n_classes: int) -> Array:
    """(N, K) of values that were fitted for some ``columns`` only: classes absent from training stay at 0."""
    wide = np.zeros((len(values), n_classes))
    wide[:, columns] = values
    return wide


def softmax(scores: Array) -> Array:
    """(N, K) scores to probabilities, without overflow."""
    unnormalised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = unnormalised / unnormalised.sum(axis=1, keepdims=True)
    return shares


def logistic_fits(inputs: Any, targets: Array, penalties: Sequence[float], steps: int) -> list[Any]:
    """Multinomial logistic regressions, one for each of ``penalties``, which grow weaker.

    Each begins where the last one ended: from zero a weak penalty takes many times as long (minutes for those of
    `fault`, which take 25 s of a core so), and ends at the same weights but for the solver's tolerance.
    """
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(max_iter=steps, warm_start=True)
    return [copy.deepcopy(fit.set_params(C=penalty).fit(inputs, targets)) for penalty in penalties]


def best_sharpness(scores: Array, targets: Array) -> float:
    """The factor on (N, K) scores whose softmax gives held-out ``targets`` (N,) the most probability.

    Scores of a support vector machine, say, order the classes well and are no log-probabilities.
    """

    def surprise(factor: float) -> float:
        chances = softmax(factor * scores)[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(chances, 1e-12)).mean())

    return min((2.0**power for power in range(-4, 8)), key=surprise)

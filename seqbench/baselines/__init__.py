"""Non-neural rows that stand beside every model.

A baseline is a function ``fit(train, val, data) -> predict``, where ``predict(split)`` returns what a model's head
would for that split, as `Split.collect` leaves it: class probabilities (N, K), scaled forecasts (N, H, C), or losses in
nats per block of text. So models and baselines are scored by the very same function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import Split, TaskData
from seqbench.registry import Registry

__all__ = ["BASELINES", "Baseline", "register_baseline"]

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

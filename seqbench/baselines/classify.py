"""Baselines for `classify`: the majority class, weight matrices over positions, logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, one_hot, register_baseline
from seqbench.data import Rows, TaskData

__all__ = ["logistic", "majority", "pwm", "pwm2"]

Array = npt.NDArray[Any]


def _prior(train: Rows, data: TaskData) -> Array:
    return np.bincount(train.targets, minlength=len(data.classes)) / len(train)


@register_baseline("majority", kind="classify")
def majority(train: Rows, val: Rows, data: TaskData) -> Predict:
    """Every example gets the class frequencies of the training split."""
    prior = _prior(train, data)
    return lambda split: np.tile(prior, (len(split), 1))


def _fit_weights(symbols: Array, targets: Array, n_symbols: int, n_classes: int) -> Array:
    """log P(symbol | class, position) with one pseudo-count: (K, T, n_symbols)."""
    counts = np.ones((n_classes, symbols.shape[1], n_symbols))
    for label in range(n_classes):
        rows = symbols[targets == label]
        for position in range(symbols.shape[1]):
            counts[label, position] += np.bincount(rows[:, position], minlength=n_symbols)
    log_shares: Array = np.log(counts / counts.sum(axis=2, keepdims=True))
    return log_shares


def _posterior(log_joint: Array) -> Array:
    """(N, K) log joint probabilities to posteriors, without overflow."""
    unnormalised = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    posterior: Array = unnormalised / unnormalised.sum(axis=1, keepdims=True)
    return posterior


def _sum_weights(weights: Array, symbols: Array) -> Array:
    """(N, K): the weights (K, T, n_symbols) of each row's symbols, summed over positions."""
    positions = np.arange(symbols.shape[1])
    return np.stack([table[positions, symbols].sum(axis=1) for table in weights], axis=1)


@register_baseline("pwm", kind="classify")
def pwm(train: Rows, val: Rows, data: TaskData) -> Predict:
    """Position weight matrix: symbols independent given class and position (Staden 1984)."""
    n_symbols, n_classes = len(data.vocabulary), len(data.classes)
    weights = _fit_weights(train.inputs, train.targets, n_symbols, n_classes)
    prior = np.log(_prior(train, data))
    return lambda split: _posterior(prior + _sum_weights(weights, split.arrays()["inputs"]))


@register_baseline("pwm2", kind="classify")
def pwm2(train: Rows, val: Rows, data: TaskData) -> Predict:
    """Dinucleotide weight matrix: each symbol given the one before it, by class and position (Zhang and Marr 1993)."""
    n_symbols, n_classes = len(data.vocabulary), len(data.classes)

    def pairs(tokens: Array) -> Array:
        wide = tokens.astype(np.int64)
        dinucleotides: Array = wide[:, :-1] * n_symbols + wide[:, 1:]
        return dinucleotides

    joint = _fit_weights(pairs(train.inputs), train.targets, n_symbols**2, n_classes)
    single = _fit_weights(train.inputs, train.targets, n_symbols, n_classes)
    by_first = joint.reshape(n_classes, -1, n_symbols, n_symbols)
    conditional = by_first - np.logaddexp.reduce(by_first, axis=3, keepdims=True)
    conditional = conditional.reshape(joint.shape)
    prior = np.log(_prior(train, data))

    def predict(split: Any) -> Array:
        tokens = split.arrays()["inputs"]
        first = _sum_weights(single[:, :1], tokens[:, :1])
        return _posterior(prior + first + _sum_weights(conditional, pairs(tokens)))

    return predict


@register_baseline("logistic", kind="classify")
def logistic(train: Rows, val: Rows, data: TaskData) -> Predict:
    """Multinomial logistic regression on the one-hot sequence; its penalty is chosen on the validation split."""
    from sklearn.linear_model import LogisticRegression

    n_symbols = len(data.vocabulary)
    inputs, held_out = one_hot(train.inputs, n_symbols), one_hot(val.inputs, n_symbols)
    fits = [LogisticRegression(C=c, max_iter=300).fit(inputs, train.targets) for c in (0.01, 0.1, 1.0)]
    best = max(fits, key=lambda fit: float(fit.score(held_out, val.targets)))

    def predict(split: Any) -> Array:
        # columns of classes absent from training stay at probability 0
        probabilities = np.zeros((len(split), len(data.classes)))
        probabilities[:, best.classes_] = best.predict_proba(one_hot(split.arrays()["inputs"], n_symbols))
        return probabilities

    return predict

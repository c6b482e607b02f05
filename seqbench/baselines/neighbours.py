"""Baselines for `tag` over sequences: what a symbol and the sixteen around it tell of the label in the middle.

Windows of 17 residues are what the structure of proteins was predicted from before there were recurrent networks:
information theory (Garnier, Osguthorpe and Robson 1978; Garnier, Gibrat and Robson 1996) and the first networks (Qian
and Sejnowski 1988). Beyond the ends of a sequence the symbol is padding.
"""

from __future__ import annotations

from itertools import combinations, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import NotApplicable, Predict, register_baseline, softmax, spread_out
from seqbench.baselines.boosting import OneThread
from seqbench.baselines.windows import boosting_rounds
from seqbench.data import CONTEXT, RaggedTags, TaskData

__all__ = ["SIDE", "gor", "gor_pairs", "neighbours", "neighbours_boosting", "neighbours_logistic", "step_symbol"]

Array = npt.NDArray[Any]
SIDE = 8  # steps that are read on either side
OFFSETS = np.arange(-SIDE, SIDE + 1)
MOST_CELLS = 6e7  # numbers in the table that a regression is fitted to
MOST_STEPS = 200_000  # training steps that a regression or trees see
MOST_HELD = 50_000  # validation steps that rounds are chosen on
CHUNK = 100_000  # steps whose windows are in memory together


def _scored(split: RaggedTags) -> tuple[Array, Array, Array]:
    """Of the steps that count the place in the series, how many steps precede them in their example, and follow."""
    example, step = split.places()
    at = np.asarray(split.starts)[example] + step
    counts = np.asarray(split.labels)[at] != CONTEXT
    rest = np.asarray(split.row_lengths)[example] - 1 - step
    return at[counts], step[counts], rest[counts]


def neighbours(split: RaggedTags, rows: Array | None = None) -> Array:
    """(M, 17) symbols, or (M, 17, D) features, around each of the steps that count, or of ``rows`` among them."""
    at, before, after = _scored(split)
    if rows is not None:
        at, before, after = at[rows], before[rows], after[rows]
    series = np.asarray(split.series)
    windows = np.zeros((len(at), len(OFFSETS), *series.shape[1:]), dtype=series.dtype)
    for i, offset in enumerate(OFFSETS.tolist()):
        inside = (before >= -offset) & (after >= offset)
        windows[inside, i] = series[at[inside] + offset]
    return windows


def _need_symbols(split: RaggedTags) -> None:
    if split.series.ndim > 1:
        raise NotApplicable("it counts symbols, and these steps are measurements")


@register_baseline("step-symbol", kind="tag")
def step_symbol(train: RaggedTags, val: RaggedTags, data: TaskData) -> Predict:
    """Each symbol by itself has the label that is most frequent with it in training."""
    _need_symbols(train)
    counts = np.ones((len(data.vocabulary), len(data.classes)))
    at, _, _ = _scored(train)
    np.add.at(counts, (train.series[at], train.labels[at]), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)

    def predict(split: Any) -> Array:
        chosen: Array = shares[split.series[_scored(split)[0]]]
        return chosen

    return predict


def _counts(train: RaggedTags, data: TaskData) -> tuple[Array, Array, Array]:
    """(17, V, K) how often a label goes with a symbol at each offset, one more than was seen; windows and labels."""
    _need_symbols(train)
    windows, labels = neighbours(train), train.truth().targets
    size, n_classes = len(data.vocabulary), len(data.classes)
    counts = [
        np.bincount(column * np.int64(n_classes) + labels, minlength=size * n_classes).reshape(size, n_classes) + 1.0
        for column in windows.T
    ]
    return np.stack(counts), windows, labels


def _information(counts: Array) -> Array:
    """(17, V, K) log P(label | symbol at the offset) / P(label)."""
    prior = counts.sum(axis=(0, 1)) / counts.sum()
    information: Array = np.log(counts / counts.sum(axis=2, keepdims=True) / prior)
    return information


def _summed(table: Array, windows: Array) -> Array:
    """(M, K) the entries of ``table`` (17, V, K) for the symbols of each window, added up."""
    total = np.zeros((len(windows), table.shape[2]))
    for rows, column in zip(table, windows.T, strict=True):
        total += rows[column]
    return total


@register_baseline("gor", kind="tag")
def gor(train: RaggedTags, val: RaggedTags, data: TaskData) -> Predict:
    """Information that each of 17 symbols around a step gives of its label, added up (Garnier et al. 1978)."""
    counts, _, _ = _counts(train, data)
    information = _information(counts)
    prior = np.log(counts.sum(axis=(0, 1)) / counts.sum())

    def predict(split: Any) -> Array:
        return softmax(_summed(information, neighbours(split)) + prior)

    return predict


def _odds(counts: Array) -> Array:
    """(..., K) log of the count of each label over that of all others."""
    odds: Array = np.log(counts) - np.log(counts.sum(axis=-1, keepdims=True) - counts)
    return odds


@register_baseline("gor-pairs", kind="tag")
def gor_pairs(train: RaggedTags, val: RaggedTags, data: TaskData) -> Predict:
    """Information of all 136 pairs of 17 symbols, less what is counted twice (GOR IV, Garnier et al. 1996)."""
    counts, windows, labels = _counts(train, data)
    size, n_classes = len(data.vocabulary), len(data.classes)
    share = counts.sum(axis=(0, 1)) / counts.sum()
    pairs = list(combinations(range(len(OFFSETS)), 2))
    tables = []
    for first, second in pairs:
        cells = (windows[:, first].astype(np.int64) * size + windows[:, second]) * n_classes + labels
        seen = np.bincount(cells, minlength=size * size * n_classes).reshape(size * size, n_classes)
        tables.append(_odds(seen + n_classes * share).astype(np.float32))  # a pair that was never seen says nothing
    single = _odds(counts)
    width = len(OFFSETS)

    def predict(split: Any) -> Array:
        around = neighbours(split)
        total = -(width - 2) / width * _summed(single, around)
        for (first, second), table in zip(pairs, tables, strict=True):
            total += 2 / width * table[around[:, first].astype(np.int64) * size + around[:, second]]
        chances = 1 / (1 + np.exp(-total))
        shares: Array = chances / chances.sum(axis=1, keepdims=True)
        return shares

    return predict


def _thin(count: int, most: int) -> Array:
    """Numbers below ``count``, ``most`` of them at most, evenly spread."""
    return np.arange(0, count, max(1, -(-count // most)))


def _one_hot(windows: Array, size: int, scale: float) -> Any:
    """Symbols as a sparse matrix of zeros and ones (M, 17 V); features laid side by side (M, 17 D), scaled."""
    if windows.ndim == 3:
        return windows.reshape(len(windows), -1) * np.float32(scale)
    from scipy.sparse import csr_matrix

    columns = windows + size * np.arange(windows.shape[1])
    row_ends = np.arange(0, columns.size + 1, columns.shape[1])
    ones = np.ones(columns.size, dtype=np.float32)
    return csr_matrix((ones, columns.ravel(), row_ends), shape=(len(windows), size * windows.shape[1]))


def _in_parts(split: RaggedTags, predict: Any) -> Array:
    """(M, K): what ``predict`` makes of windows, which are never all in memory."""
    count = split.n_scored
    parts = [predict(neighbours(split, np.arange(at, min(at + CHUNK, count))), split) for at in range(0, count, CHUNK)]
    return np.concatenate(parts)


@register_baseline("neighbours-logistic", kind="tag")
def neighbours_logistic(train: RaggedTags, val: RaggedTags, data: TaskData) -> Predict:
    """Multinomial logistic regression on the 17 symbols (or the features) around each step."""
    from sklearn.linear_model import LogisticRegression

    dense = train.series.shape[1] * len(OFFSETS) if train.series.ndim > 1 else 0
    rows = _thin(train.n_scored, int(min(MOST_STEPS, MOST_CELLS / dense)) if dense else MOST_STEPS)
    size, n_classes = len(data.vocabulary), len(data.classes)
    inputs = _one_hot(neighbours(train, rows), size, train.scale)
    fit = LogisticRegression(max_iter=200, tol=1e-3).fit(inputs, train.truth().targets[rows])

    def predict(windows: Array, split: RaggedTags) -> Array:
        return spread_out(fit.predict_proba(_one_hot(windows, size, split.scale)), fit.classes_, n_classes)

    return lambda split: _in_parts(split, predict)  # type: ignore[arg-type]  # it is of the kind of train


@register_baseline("neighbours-boosting", kind="tag")
def neighbours_boosting(train: RaggedTags, val: RaggedTags, data: TaskData) -> Predict:
    """Gradient-boosted trees on what `gor` adds up, 17 times one number a label; their number is chosen on validation.

    Of steps with features the trees read those of the 17 around.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    n_classes = len(data.classes)
    information = None if train.series.ndim > 1 else _information(_counts(train, data)[0])

    def columns(windows: Array) -> Array:
        if information is None:
            return windows.reshape(len(windows), -1)
        each = [rows[column] for rows, column in zip(information, windows.T, strict=True)]
        return np.concatenate(each, axis=1).astype(np.float32)

    rows, held = _thin(train.n_scored, MOST_STEPS), _thin(val.n_scored, MOST_HELD)
    width = columns(neighbours(train, rows[:1])).shape[1]
    rows = _thin(train.n_scored, int(min(MOST_STEPS, MOST_CELLS / width)))
    fit = OneThread(
        HistGradientBoostingClassifier(
            max_iter=boosting_rounds(len(rows) * width, n_classes),
            learning_rate=0.15,
            max_leaf_nodes=31,
            max_bins=63,
            early_stopping=False,
            random_state=0,
        )
    ).fit(columns(neighbours(train, rows)), train.truth().targets[rows])
    truth = val.truth().targets[held]
    scores = [np.mean(guess == truth) for guess in fit.staged_predict(columns(neighbours(val, held)))]
    n_rounds = int(np.argmax(scores)) + 1

    def predict(windows: Array, split: RaggedTags) -> Array:
        rounds = fit.staged_predict_proba(columns(windows))
        return spread_out(next(islice(rounds, n_rounds - 1, None)), fit.classes_, n_classes)

    return lambda split: _in_parts(split, predict)  # type: ignore[arg-type]  # it is of the kind of train

"""Baselines for `classify` over windows of measurements: what each window's statistics or its shapes tell."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import (
    NotApplicable,
    Predict,
    best_sharpness,
    logistic_fits,
    register_baseline,
    softmax,
    spread_out,
)
from seqbench.baselines.boosting import OneThread
from seqbench.data import Segments, Split, TaskData

__all__ = [
    "Convolutions",
    "boosting_rounds",
    "lda",
    "more_statistics",
    "random_convolutions",
    "readings",
    "scaler",
    "statistics",
    "thinned",
    "window_boosting",
    "window_logistic",
]

Array = npt.NDArray[Any]
Part = Callable[[Array], list[Array]]
MOST = 30_000  # training windows; they overlap, so more of them say little that is new
PENALTIES = (0.1, 1.0, 10.0, 100.0)
CHUNK = 2**22  # readings gathered at once
MOST_STATISTICS = 400  # columns; where there are more, the four plain statistics of each measurement have to do
BOOSTING_WORK = 4.5e9  # rows x columns x trees: about 20 s of one core
ROUNDS = 25, 100


def readings(split: Any, indices: Array) -> Array:
    """(n, T, D) measurements of the examples ``indices``; rows that are shorter are stretched to T.

    Raises:
        NotApplicable: the examples are tokens.
    """
    batch = split[indices]
    if batch.inputs.ndim == 2 and batch.inputs.dtype.kind in "iu":
        raise NotApplicable("it reads measurements, and these examples are symbols")
    inputs = batch.inputs if batch.inputs.ndim == 3 else batch.inputs[:, :, None]
    if batch.lengths is None:
        return np.asarray(inputs)
    # padding would pass for measurements: the real steps stand as often as it takes instead
    share = np.linspace(0.0, 1.0, inputs.shape[1])
    steps = np.rint(share * (np.asarray(batch.lengths)[:, None] - 1)).astype(np.int64)
    stretched: Array = inputs[np.arange(len(inputs))[:, None], steps]
    return stretched


def _in_parts(split: Any, indices: Array | None, describe: Part) -> Array:
    """(N, F): the columns that ``describe`` makes of windows (n, T, D), which are never all in memory."""
    indices = np.arange(len(split)) if indices is None else indices
    first = readings(split, indices[:1])
    size = max(1, CHUNK // max(1, first[0].size))
    parts = [describe(readings(split, indices[at : at + size])) for at in range(0, len(indices), size)]
    rows = np.concatenate([np.concatenate(part, axis=1) for part in parts])
    if split.lengths is None:
        return rows
    return np.concatenate([rows, np.asarray(split.lengths)[indices][:, None]], axis=1)


def _plain(window: Array) -> list[Array]:
    last, first = window[:, -1], window[:, 0]
    return [window.mean(axis=1), window.std(axis=1), last, last - first]


def _more(window: Array) -> list[Array]:
    time = np.linspace(-1.0, 1.0, window.shape[1], dtype=np.float32)
    slope = np.einsum("ntd,t->nd", window, time) / max(1e-9, float((time**2).sum()))
    change = np.abs(np.diff(window, axis=1, prepend=window[:, :1])).mean(axis=1)
    return [*_plain(window), window.min(axis=1), window.max(axis=1), slope, change]


def statistics(split: Any, indices: Array | None = None) -> Array:
    """(N, 4 D): mean, deviation, last value and rise of each measurement over the windows ``indices`` (or all).

    Where rows differ in length, how long each is stands in a last column.
    """
    return _in_parts(split, indices, _plain)


def more_statistics(split: Any, indices: Array | None = None) -> Array:
    """(N, 8 D): `statistics` and the least and largest value, the slope and how much it changes from step to step.

    Only `statistics` where there are too many measurements for eight columns of each.
    """
    wide = 8 * readings(split, np.arange(1)).shape[2] > MOST_STATISTICS
    return _in_parts(split, indices, _plain if wide else _more)


def thinned(split: Split, most: int = MOST) -> Array:
    """Indices of ``most`` examples at most, evenly spread."""
    return np.arange(0, len(split), max(1, -(-len(split) // most)))


def _probabilities(fit: Any, scale: Any, n_classes: int) -> Predict:
    return lambda split: spread_out(fit.predict_proba(scale(statistics(split))), fit.classes_, n_classes)


def scaler(values: Array) -> Callable[[Array], Array]:
    """To a mean of 0 and a deviation of 1 over ``values``."""
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return lambda rows: (rows - mean) / deviation


def _macro_f1(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro"))


@register_baseline("lda", kind="classify")
def lda(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Linear discriminant analysis of the windows' statistics, with the covariance shrunk after Ledoit and Wolf."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows = thinned(train)
    values = statistics(train, rows)
    scale = scaler(values)
    fit = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(scale(values), train.targets[rows])
    return _probabilities(fit, scale, len(data.classes))


@register_baseline("window-logistic", kind="classify")
def window_logistic(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Multinomial logistic regression on the windows' statistics; its penalty is chosen on the validation split."""
    rows, held = thinned(train), thinned(val)
    values = statistics(train, rows)
    scale = scaler(values)
    inputs, held_out = scale(values), scale(statistics(val, held))
    fits = logistic_fits(inputs, train.targets[rows], PENALTIES, 3000)
    best = max(fits, key=lambda fit: _macro_f1(val.targets[held], fit.predict(held_out)))
    return _probabilities(best, scale, len(data.classes))


def boosting_rounds(cells: int, trees: int = 1) -> int:
    """Rounds of boosting that take about 20 s on ``cells`` values, with so many trees in each round."""
    return int(np.clip(BOOSTING_WORK / max(1, cells * trees), *ROUNDS))


@register_baseline("window-boosting", kind="classify")
def window_boosting(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Gradient-boosted trees on the windows' statistics; the number of trees is chosen on the validation split."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    n_classes = len(data.classes)
    trees = n_classes if n_classes > 2 else 1
    columns = more_statistics(train, np.arange(1)).shape[1]
    rows = thinned(train, int(np.clip(BOOSTING_WORK / (ROUNDS[0] * trees * columns), 1000, MOST)))
    held = thinned(val, MOST // 3)
    values, labels = more_statistics(train, rows), train.targets[rows]
    # bins by rank see no deviation, so nothing is scaled
    fit = OneThread(
        HistGradientBoostingClassifier(
            max_iter=boosting_rounds(values.size, trees),
            max_leaf_nodes=15,
            max_bins=63,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
    ).fit(values, labels)
    guesses = fit.staged_predict(more_statistics(val, held))
    scores = [_macro_f1(val.targets[held], guess) for guess in guesses]
    n_rounds = int(np.argmax(scores)) + 1

    def predict(split: Any) -> Array:
        rounds = fit.staged_predict_proba(more_statistics(split))
        return spread_out(next(islice(rounds, n_rounds - 1, None)), fit.classes_, n_classes)

    return predict


# ---- random convolutions --------------------------------------------------------------------------------------------

TAPS = 9
KERNELS = np.array(list(combinations(range(TAPS), 3)))  # where the weight is 2; it is -1 at the other six
BIASES = 3  # of each convolution
CONVOLUTIONS = len(KERNELS), 504  # six rounds of all kernels
CONVOLUTION_WORK = 2e9  # steps x convolutions: about 40 s of one core
SAMPLE = 64  # training windows that biases are taken from
BATCH = 512  # windows at once: what is worked on stays in the processor's cache
GOLDEN = (5**0.5 - 1) / 2
SHRINKAGES = (1e-4, 1e-3, 1e-2, 0.1, 0.5)


class Convolutions:
    """MiniRocket's features, fewer of them: of each convolution, the share of steps at which it exceeds a bias.

    Kernels have nine taps with weights of -1 and 2 that sum to 0, so that they see shapes and not levels; they are
    spread out by a random dilation and read the sum of a few random measurements. Biases are quantiles of what training
    windows give. Dempster, Schmidt and Webb (2021) have 10,000 features; these are 1,500 at most.
    """

    def __init__(self, windows: Array, n: int, rng: np.random.Generator) -> None:
        _, steps, width = windows.shape
        deviation = windows.std(axis=(0, 1))
        self.scale = np.where(deviation > 0, 1.0 / np.where(deviation > 0, deviation, 1.0), 0.0).astype(np.float32)
        sample = self._series(windows[rng.integers(0, len(windows), SAMPLE)])
        farthest, most = np.log2((steps - 1) / (TAPS - 1)), np.log2(min(width, TAPS) + 1)
        quantiles = (np.arange(1, n * BIASES + 1) * GOLDEN % 1).reshape(n, BIASES)
        self.plan: list[tuple[Array, int, Array, bool]] = []
        self.biases = np.empty((n, BIASES), dtype=np.float32)
        for i in range(n):
            dilation = int(2 ** rng.uniform(0, farthest))
            measurements = rng.choice(width, size=int(2 ** rng.uniform(0, most)), replace=False)
            padded = bool((i + i // len(KERNELS)) % 2)
            self.plan.append((KERNELS[i % len(KERNELS)], dilation, measurements, padded))
            self.biases[i] = np.quantile(self._convolve(sample, *self.plan[i]), quantiles[i])

    def _series(self, windows: Array) -> Array:
        """(D, T, n), so that every step is one stretch of memory."""
        return np.ascontiguousarray((windows * self.scale).astype(np.float32).transpose(2, 1, 0))

    @staticmethod
    def _convolve(series: Array, kernel: Array, dilation: int, measurements: Array, padded: bool) -> Array:
        """(T', n): what the kernel gives at each step; beyond the ends there are zeros, or only whole kernels count."""
        summed = series[measurements].sum(axis=0) if len(measurements) > 1 else series[measurements[0]]
        if padded:
            ends = np.zeros((TAPS // 2 * dilation, summed.shape[1]), dtype=summed.dtype)
            summed = np.concatenate([ends, summed, ends])
        steps = len(summed) - (TAPS - 1) * dilation
        taps = [summed[i * dilation : i * dilation + steps] for i in range(TAPS)]
        out: Array = taps[kernel[0]] + taps[kernel[1]]
        out += taps[kernel[2]]
        out *= 3.0  # of which the sum of all nine takes one back
        for tap in taps:
            out -= tap
        return out

    def __call__(self, windows: Array) -> Array:
        """(n, F) float32 shares."""
        shares = np.empty((len(windows), self.biases.size), dtype=np.float32)
        for at in range(0, len(windows), BATCH):
            series = self._series(windows[at : at + BATCH])
            for i, (plan, biases) in enumerate(zip(self.plan, self.biases, strict=True)):
                out = self._convolve(series, *plan)
                kind = np.uint8 if len(out) < 256 else np.uint32
                for j, bias in enumerate(biases):
                    above = np.add.reduce((out > bias).view(np.uint8), axis=0, dtype=kind)
                    shares[at : at + BATCH, i * BIASES + j] = above / np.float32(len(out))
        return shares


def _discriminant(values: Array, labels: Array, n_classes: int) -> Callable[[float], tuple[Array, Array]]:
    """Weights and constants of a linear discriminant analysis by shrinkage of the covariance.

    scikit-learn's decomposes the covariance for each shrinkage anew, which takes a hundred times as long.
    """
    counts = np.bincount(labels, minlength=n_classes)
    means = np.stack(
        [values[labels == k].mean(axis=0) if counts[k] else np.zeros(values.shape[1]) for k in range(n_classes)]
    )
    rest = values - means[labels].astype(values.dtype)
    covariance = (rest.T @ rest).astype(np.float64) / len(values)
    level = np.trace(covariance) / len(covariance) + 1e-12
    prior = np.log(np.maximum(counts, 1e-12) / len(labels))  # a class absent from training has next to none

    def solve(shrinkage: float) -> tuple[Array, Array]:
        weights = np.linalg.solve((1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance)), means.T)
        return weights, prior - 0.5 * (means.T * weights).sum(axis=0)

    return solve


@register_baseline("random-convolutions", kind="classify")
def random_convolutions(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Up to 1,500 random convolutions (after MiniRocket) and the windows' statistics, then linear discriminants.

    The shrinkage of their covariance is chosen on the validation split.
    """
    rows, held = thinned(train), thinned(val)
    steps = readings(train, rows[:1]).shape[1]
    if steps < TAPS:
        raise NotApplicable(f"its kernels read {TAPS} steps, and the windows have {steps}")
    work = steps * (len(rows) + sum(len(split) for split in (data.val, data.test)))
    most = int(np.clip(CONVOLUTION_WORK / work, *CONVOLUTIONS))
    rng = np.random.default_rng(0)
    some = rng.choice(rows, size=min(len(rows), 1000), replace=False)
    transform = Convolutions(readings(train, some), most, rng)

    def features(split: Any, indices: Array | None = None) -> Array:
        shapes = _in_parts(split, indices, lambda window: [transform(window)])
        return np.concatenate([shapes, statistics(split, indices)], axis=1).astype(np.float32)

    values = features(train, rows)
    scale = scaler(values)
    solve = _discriminant(scale(values), train.targets[rows], len(data.classes))
    held_out, truth = scale(features(val, held)), val.targets[held]
    fits = [solve(shrinkage) for shrinkage in SHRINKAGES]
    weights, constants = max(fits, key=lambda fit: _macro_f1(truth, (held_out @ fit[0] + fit[1]).argmax(axis=1)))
    sharpness = best_sharpness(held_out @ weights + constants, truth)
    return lambda split: softmax(sharpness * (scale(features(split)) @ weights + constants))

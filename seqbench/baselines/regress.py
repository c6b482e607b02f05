"""Baselines for `regress`, in the scaled units of the targets: the mean, the last value, ridge, boosted trees."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import NotApplicable, Predict, register_baseline
from seqbench.baselines.boosting import OneThread
from seqbench.baselines.ngrams import LONGEST_KMER, Counts
from seqbench.baselines.positions import MOST_SYMBOLS, as_ragged
from seqbench.baselines.windows import MOST, boosting_rounds, more_statistics, readings, scaler, thinned
from seqbench.data import Segments, TaskData
from seqbench.metrics import rmse

__all__ = ["last_value", "mean", "ngram_ridge", "window_regression_boosting", "window_ridge"]

Array = npt.NDArray[Any]
PENALTIES = tuple(10.0**power for power in range(-2, 7))
TEXT_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@register_baseline("mean", kind="regress")
def mean(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Every example gets the mean of the training targets."""
    middle = float(np.mean(train.targets, dtype=np.float64))
    return lambda split: np.full(len(split), middle)


@register_baseline("last-value", kind="regress")
def last_value(train: Segments, val: Segments, data: TaskData) -> Predict:
    """The last value of the target's own column, where it is among the inputs."""
    column = data.fitted.get("target_feature")
    if column is None:
        raise NotApplicable("the target of the row before is not read (--option past=true, where it is known by then)")

    def predict(split: Any) -> Array:
        parts = [readings(split, rows)[:, -1, column] for rows in np.array_split(np.arange(len(split)), 64)]
        last = np.concatenate(parts).astype(np.float64)
        if "mean" in data.fitted:  # inputs are scaled column by column, the target by itself
            last = last * data.fitted["deviation"][column] + data.fitted["mean"][column]
            last = (last - data.fitted["offset"]) / data.fitted["scale"]
        return last

    return predict


@register_baseline("window-ridge", kind="regress")
def window_ridge(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Ridge regression on the windows' statistics; its penalty is chosen on the validation split."""
    from sklearn.linear_model import Ridge

    rows, held = thinned(train), thinned(val)
    values = more_statistics(train, rows).astype(np.float64)
    scale = scaler(values)
    inputs, held_out = scale(values), scale(more_statistics(val, held))
    fits = [Ridge(alpha=penalty).fit(inputs, train.targets[rows]) for penalty in PENALTIES]
    best = min(fits, key=lambda fit: rmse(fit.predict(held_out), val.targets[held]))
    return lambda split: best.predict(scale(more_statistics(split)))


@register_baseline("window-regression-boosting", kind="regress")
def window_regression_boosting(train: Segments, val: Segments, data: TaskData) -> Predict:
    """Gradient-boosted trees on the windows' statistics; the number of trees is chosen on the validation split."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows, held = thinned(train, MOST), thinned(val)
    values = more_statistics(train, rows)
    fit = OneThread(
        HistGradientBoostingRegressor(
            max_iter=boosting_rounds(values.size),
            max_leaf_nodes=15,
            max_bins=63,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
    ).fit(values, train.targets[rows])
    guesses = fit.staged_predict(more_statistics(val, held))
    n_rounds = int(np.argmin([rmse(guess, val.targets[held]) for guess in guesses])) + 1

    def predict(split: Any) -> Array:
        guesses = fit.staged_predict(more_statistics(split))
        found: Array = next(islice(guesses, n_rounds - 1, None))
        return found

    return predict


@register_baseline("ngram-ridge", kind="regress")
def ngram_ridge(train: Any, val: Any, data: TaskData) -> Predict:
    """Ridge regression on which symbols stand together: pairs of words, or up to 6 letters in a row.

    Its penalty is chosen on the validation split.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import Ridge

    if not data.vocabulary:
        raise NotApplicable("it reads symbols, and these examples are measurements")
    longest = LONGEST_KMER if len(data.vocabulary) <= MOST_SYMBOLS else 2
    counts = Counts(as_ragged(train), len(data.vocabulary), tuple(range(1, longest + 1)))
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts(as_ragged(train)))
    inputs, held_out = (weigh.transform(counts(as_ragged(split))) for split in (train, val))
    fits = [Ridge(alpha=penalty, random_state=0).fit(inputs, train.targets) for penalty in TEXT_PENALTIES]
    best = min(fits, key=lambda fit: rmse(fit.predict(held_out), val.targets))
    return lambda split: best.predict(weigh.transform(counts(as_ragged(split))))

"""Baselines against hand-worked figures and reference implementations."""

import dataclasses
import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from seqbench import Rows, Stream, TaskData, Windows
from seqbench.baselines import classify, forecast, generate
from seqbench.errors import NotApplicable


def rows_of(texts, labels):
    inputs = np.array([["ACGT".index(letter) for letter in text] for text in texts], dtype=np.uint8)
    return Rows(inputs, np.array(labels), np.arange(len(labels)))


def classify_data():
    train = rows_of(["AC", "AC", "AG", "TT"], [0, 0, 0, 1])
    return TaskData(train, train, train, {}, vocabulary=tuple("ACGT"), classes=("x", "y"))


def test_majority_is_the_class_frequencies():
    data = classify_data()
    assert classify.majority(data.train, data.val, data)(data.test)[0].tolist() == [0.75, 0.25]


def test_weight_matrices_by_hand():
    data = classify_data()
    # one pseudo-count: P(A first | x) = 4/7, P(C second | x) = 3/7; class y: 1/5 and 1/5; priors 3/4 and 1/4
    joint = np.array([0.75 * 4 / 7 * 3 / 7, 0.25 * 1 / 5 * 1 / 5])
    assert classify.pwm(data.train, data.val, data)(data.test)[0] == pytest.approx(joint / joint.sum())
    # pairs: P(C | A, x) = (2 + 1) / (3 + 4), P(C | A, y) = 1/4
    joint = np.array([0.75 * 4 / 7 * 3 / 7, 0.25 * 1 / 5 * 1 / 4])
    assert classify.pwm2(data.train, data.val, data)(data.test)[0] == pytest.approx(joint / joint.sum())


def test_logistic_regression_learns_what_one_position_tells():
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 4, (400, 6)).astype(np.uint8)
    split = Rows(inputs, (inputs[:, 2] > 1).astype(int), np.arange(400))
    data = TaskData(split, split, split, {}, vocabulary=tuple("ACGT"), classes=("x", "y"))
    probability = classify.logistic(split, split, data)(split)
    assert (probability.argmax(axis=1) == split.targets).all()
    assert probability.sum(axis=1) == pytest.approx(np.ones(400))


def windows(n=300, seed=0, **about):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, 2)).cumsum(axis=0).astype(np.float32)
    return Windows(series, series[:, :1], np.arange(n - 60), 30, 26, np.arange(n - 60), **about)


def data_of(split, season=0):
    return TaskData(split, split, split, {}, fitted={"season": season})


@pytest.mark.parametrize("relative", [0.0, 3.0])
def test_persistence_drift_and_seasonal_naive_by_hand(relative):
    split = windows(relative=relative)
    data = data_of(split, 24)
    last = forecast.persistence(split, split, data)(split)
    assert (last[5] == split.series[34, 0]).all()
    change = np.mean(split.series[split.starts + 55, 0] - split.series[split.starts + 29, 0])
    assert forecast.drift(split, split, data)(split)[5, :, 0] == pytest.approx(
        split.series[34, 0] + change * np.arange(1, 27) / 26, abs=1e-5
    )
    day = forecast.seasonal_naive(split, split, data)(split)
    assert day[5, 0, 0] == split.series[35 - 24, 0] and day[5, 23, 0] == split.series[35 + 23 - 24, 0]
    assert day[5, 25, 0] == split.series[35 + 25 - 48, 0]  # never a value from the future


def test_a_long_season_is_looked_up_before_the_window_where_that_is_known():
    split = windows(meta={"earlier": np.arange(240)})
    found = forecast.seasonal_naive(split, split, data_of(split, 50))(split)
    assert found[30, 0, 0] == split.series[60 - 50, 0] and found[30, 25, 0] == split.series[85 - 50, 0]
    assert (found[5] == split.series[34, 0]).sum() >= 15  # where the series has not begun it is the last value
    for season, known in ((0, 0), (50, 0)):  # no season, or no window that knows one
        with pytest.raises(NotApplicable):
            split = windows(meta={"earlier": np.full(240, known)})
            forecast.seasonal_naive(split, split, data_of(split, season))


@pytest.mark.parametrize(
    ("baseline", "relative", "columns"), [("ridge", 0, 2), ("ridge_relative", 1, 2), ("target_ridge", 1, 1)]
)
@pytest.mark.parametrize("task", [0.0, 3.0])
def test_ridge_equals_the_library_whatever_the_task_is_relative_to(monkeypatch, baseline, relative, columns, task):
    monkeypatch.setattr(forecast, "PENALTIES", (10.0,))
    train, test = windows(relative=task), windows(seed=1, relative=task)
    ours = getattr(forecast, baseline)(train, test, None)(test)
    rows, targets, last = [], [], []
    for split in (train, test):
        values = np.lib.stride_tricks.sliding_window_view(split.series.astype(float), 30, axis=0)
        values = values.transpose(0, 2, 1)[: len(split), :, :columns].copy()  # (N, T, D)
        last.append(values[:, -1:, 0].copy())
        values[:, :, 0] -= relative * last[-1]
        rows.append(np.c_[values.reshape(len(split), -1), np.ones(len(split))])
        targets.append(split.truth().targets[:, :, 0] - relative * last[-1])
    theirs = Ridge(alpha=10.0, fit_intercept=False).fit(rows[0], targets[0]).predict(rows[1]) + relative * last[1]
    assert ours[:, :, 0] == pytest.approx(theirs, abs=1e-3)


def test_ridge_chooses_its_penalty_on_validation():
    train, val = windows(), windows(seed=1)
    errors = {}
    for penalty in forecast.PENALTIES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forecast, "PENALTIES", (penalty,))
            found = forecast.ridge(train, val, None)(val)
        errors[penalty] = float(np.square(found - val.truth().targets).mean())
    best = forecast.ridge(train, val, None)(val)
    assert np.square(best - val.truth().targets).mean() == pytest.approx(min(errors.values()))


def test_the_target_alone_is_no_row_where_nothing_else_is_read():
    split = windows()
    alone = dataclasses.replace(split, series=split.series[:, :1])
    with pytest.raises(NotApplicable):
        forecast.target_ridge(alone, alone, None)


def test_boosting_learns_a_season_that_a_line_can_not(monkeypatch):
    """A saw tooth of 12 steps, half of them flat, over a level that drifts; more steps ahead than are predicted."""
    monkeypatch.setattr(forecast, "TREES", 30)
    monkeypatch.setattr(forecast, "MOST_PREDICTED", 4000)
    splits = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wave = np.maximum(np.arange(500) % 12 - 5, 0) + np.cumsum(rng.normal(size=500)) * 0.05
        series = wave[:, None].astype(np.float32)
        meta = {"phase": (np.arange(440) + 29) % 12, "earlier": np.arange(440)}
        splits.append(Windows(series, series, np.arange(440), 30, 18, np.arange(440), meta=meta))
    train, val, test = splits
    data = TaskData(train, val, test, {}, fitted={"season": 12})
    found = forecast.boosting_lags(train, val, data)(test)
    assert found.shape == test.truth().targets.shape and np.isfinite(found).all()
    naive = forecast.persistence(train, val, data)(test)
    error, reference = (np.square(each - test.truth().targets).mean() for each in (found, naive))
    assert error < 0.5 * reference


def stream_of(text, symbols="abcd "):
    return Stream.evaluation(np.array([symbols.index(letter) for letter in text], dtype=np.uint8), 1)


def text_data(train="abcd bdca abcd abcd bdca " * 40, held_out="bdca abcd " * 20):
    parts = stream_of(train), stream_of(held_out)
    return TaskData(parts[0], parts[1], parts[1], {}, vocabulary=tuple("abcd "))


def test_unigram_by_hand():
    data = text_data("aab ", "ba")
    # counts with one each: a 3, b 2, c 1, d 1, space 2, of 9; only the second character is scored
    assert generate.unigram(data.train, data.val, data)(data.test).sum() == pytest.approx(-math.log(3 / 9))


def test_compressors_charge_what_the_text_adds():
    import bz2
    import lzma

    data = text_data()
    train, test = ("".join("abcd "[token] for token in split.tokens).encode() for split in (data.train, data.test))
    for baseline, compress in ((generate.bzip2, bz2.compress), (generate.xz, lambda t: lzma.compress(t, preset=9))):
        bits = 8 * (len(compress(train + test)) - len(compress(train)))
        found = baseline(data.train, data.val, data)(data.test)
        assert found.sum() / math.log(2) == pytest.approx(bits) and len(found) == len(data.test.truth())


def test_kneser_ney_is_a_probability_and_follows_its_text():
    data = text_data()
    vocabulary = len(data.vocabulary)
    # every continuation of a seen and an unseen context: probabilities sum to one
    for context in ("abc", "ddd"):
        total = 0.0
        for letter in "abcd ":
            both = [stream_of(text) for text in (context + letter, context)]
            sums = [generate.kneser_ney(data.train, data.val, data)(stream).sum() for stream in both]
            total += math.exp(sums[1] - sums[0])
        assert total == pytest.approx(1.0)
    bits = generate.kneser_ney(data.train, data.val, data)(data.test).sum() / math.log(2) / (len(data.test.tokens) - 1)
    assert bits < 0.5 < math.log2(vocabulary)  # the text is nearly certain given four letters; a bigram is not


def test_kneser_ney_counts_contexts_not_occurrences_for_lower_orders():
    """'d' stands often but only ever after 'c': after an unseen context it is no likelier than rarer letters that stand
    after many (the point of Kneser and Ney 1995)."""
    train = "ab ba b a " + "cd" * 300 + " ab a b"
    frequency = {letter: train.count(letter) for letter in "ab d"}
    data = text_data(train, "ab ba " * 10)
    model = generate.kneser_ney(data.train, data.val, data)
    after_unseen = {x: math.exp(model(stream_of("dd")).sum() - model(stream_of("dd" + x)).sum()) for x in "ab d"}
    assert frequency["d"] > 50 * frequency["a"]
    assert after_unseen["d"] < 1.5 * after_unseen["a"]


def test_kneser_ney_leaves_no_symbol_without_probability():
    data = text_data("abababababababab", "ab")
    assert np.isfinite(generate.kneser_ney(data.train, data.val, data)(stream_of("addcc ba"))).all()

"""Baselines against hand-worked figures and reference implementations."""

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from seqbench import Rows, Stream, TaskData, Windows
from seqbench.baselines import classify, forecast, generate


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


def windows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, 2)).cumsum(axis=0).astype(np.float32)
    return Windows(series, series[:, :1], np.arange(n - 60), 30, 26, np.arange(n - 60))


def test_persistence_and_seasonal_naive_by_hand():
    split = windows()
    last = forecast.persistence(split, split, None)(split)
    assert (last[5] == split.series[34, 0]).all()
    day = forecast.seasonal_naive(split, split, None)(split)
    assert day[5, 0, 0] == split.series[35 - 24, 0] and day[5, 23, 0] == split.series[35 + 23 - 24, 0]
    assert day[5, 25, 0] == split.series[35 + 25 - 48, 0]  # never a value from the future


def test_ridge_equals_the_library(monkeypatch):
    monkeypatch.setattr(forecast, "PENALTIES", (10.0,))
    train, test = windows(), windows(seed=1)
    ours = forecast.ridge(train, test, None)(test)
    rows = [np.c_[s[np.arange(len(s))].inputs.reshape(len(s), -1), np.ones(len(s))] for s in (train, test)]
    theirs = Ridge(alpha=10.0, fit_intercept=False).fit(rows[0].astype(float), train.truth().targets[:, :, 0])
    assert ours[:, :, 0] == pytest.approx(theirs.predict(rows[1].astype(float)), abs=1e-4)


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

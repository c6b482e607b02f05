"""Metrics and intervals, worked out by hand and against the libraries."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, f1_score

from seqbench import metrics
from seqbench.stats import jackknife_interval


def test_accuracy_and_macro_f1_by_hand():
    target = np.array([0, 0, 1, 1, 2])
    predicted = np.array([0, 1, 1, 1, 0])
    assert metrics.accuracy(predicted, target) == pytest.approx(3 / 5)
    # F1 of class 0: 2*1/(2+2), class 1: 2*2/(3+2), class 2: 0
    assert metrics.macro_f1(predicted, target, 3) == pytest.approx((0.5 + 0.8 + 0.0) / 3)


def test_macro_f1_and_average_precision_equal_the_library():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    assert metrics.macro_f1(predicted, target, 4) == pytest.approx(f1_score(target, predicted, average="macro"))
    score = np.round(rng.random(500), 1)  # many ties
    assert metrics.average_precision(score, target == 1) == pytest.approx(average_precision_score(target == 1, score))


def test_average_precision_by_hand():
    # ranked: hit, miss, hit: precision 1 at recall 1/2, 2/3 at recall 1
    assert metrics.average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])) == pytest.approx(5 / 6)
    assert math.isnan(metrics.average_precision(np.array([0.5]), np.array([False])))


def test_errors_and_bits_by_hand():
    assert metrics.rmse(np.array([1.0, 3.0]), np.array([0.0, 0.0])) == pytest.approx(math.sqrt(5))
    assert metrics.mae(np.array([1.0, -3.0]), np.array([0.0, 0.0])) == pytest.approx(2)
    assert metrics.bits_per_character(np.array([math.log(2) * 3, math.log(2)]), np.array([1, 1])) == pytest.approx(2)


def test_the_jackknife_of_a_mean_is_the_textbook_interval():
    values = np.random.default_rng(0).normal(size=40)
    found = jackknife_interval(lambda kept: values[kept].mean(), np.arange(40))
    reach = student.ppf(0.975, 39) * values.std(ddof=1) / math.sqrt(40)
    assert found == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach))


def test_intervals_cover_as_often_as_they_say_when_groups_are_alike_inside():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 10)
    hits = {"by group": 0, "as if independent": 0}
    for _ in range(400):
        values = rng.normal(size=20)[groups] + rng.normal(size=200)
        for name, of in (("by group", groups), ("as if independent", np.arange(200))):
            found = jackknife_interval(lambda kept: values[kept].mean(), of)  # noqa: B023 - called at once
            hits[name] += found.low <= 0.0 <= found.high
    assert 0.92 <= hits["by group"] / 400 <= 0.98
    assert hits["as if independent"] / 400 < 0.75  # what the groups are for


def test_more_groups_than_needed_are_merged_and_one_group_has_no_interval():
    values = np.random.default_rng(0).normal(size=5000)
    many = jackknife_interval(lambda kept: values[kept].mean(), np.arange(5000))
    assert many.high - many.low == pytest.approx(2 * 1.96 / math.sqrt(5000), rel=0.2)
    assert math.isnan(jackknife_interval(lambda kept: 1.0, np.zeros(10)).low)

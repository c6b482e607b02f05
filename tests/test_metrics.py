"""Metrics and intervals, worked out by hand and against the libraries."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, f1_score

from seqbench import metrics
from seqbench.data import Truth
from seqbench.files.texts import score_labels
from seqbench.stats import Interval, jackknife_interval, within_share


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


def test_macro_f1_is_over_the_classes_that_are_there_or_predicted():
    """As scikit-learn has it: a class that the model knows and neither split nor predictions hold counts nowhere."""
    rng = np.random.default_rng(1)
    for known in ([0, 1], [1, 3], [2], [0, 2, 3]):
        target, predicted = rng.choice(known, 60), rng.choice([*known, 0], 60)
        assert metrics.macro_f1(predicted, target, 5) == pytest.approx(f1_score(target, predicted, average="macro"))
        assert metrics.macro_f1(target, target, 5) == 1
    assert np.isnan(metrics.f1_scores(np.array([1]), np.array([1]), 3)).tolist() == [True, False, True]


def test_what_cannot_be_told_is_no_number():
    assert math.isnan(metrics.relative_to(0.0, 0.0)) and metrics.relative_to(1.0, 2.0) == 0.5
    truth = Truth(np.zeros(4, dtype=int), np.arange(4), {})
    scores = score_labels(np.eye(2)[[0, 0, 0, 1]], truth)
    assert scores["accuracy"] == 0.75 and math.isnan(scores["macro_f1"])  # one class only


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


def test_an_interval_of_a_share_is_exact_where_all_or_none_is_right():
    for hits, groups in ((90, 90), (0, 10)):
        right = np.arange(groups) < hits
        found = jackknife_interval(lambda kept: right[kept].mean(), np.arange(groups), share=True)  # noqa: B023
        exact = binomtest(hits, groups).proportion_ci()
        assert found == pytest.approx((hits / groups, exact.low, exact.high))
    assert found.low == 0 and found.high == pytest.approx(0.3085, abs=1e-4)  # 1 - .025^(1 / 10)


def test_an_interval_of_a_share_is_left_alone_where_it_fits_and_lies_within_0_and_1_elsewhere():
    assert within_share(Interval(0.8, 0.7, 0.9), 0.05, 90) == Interval(0.8, 0.7, 0.9)
    assert within_share(Interval(0.85, 0.2147, 1.485), 0.05, 0) == Interval(0.85, 0.2147, 1.0)  # of two seeds
    assert within_share(Interval(2.0, 1.0, 3.0), 0.5, 9) == Interval(2.0, 1.0, 3.0)  # no share
    assert math.isnan(within_share(Interval(1.0, math.nan, math.nan), 0.0, 1).low)
    for value in np.linspace(0, 1, 23):
        for error in (1e-9, 0.01, 0.3, 3.0):
            found = within_share(Interval(value, value - 2 * error, value + 2 * error), error, 12)
            assert 0 <= found.low <= value <= found.high <= 1 and found.low < found.high


@pytest.mark.parametrize("right", [0.97, 0.99, 0.999])
def test_intervals_of_shares_near_1_cover_as_often_as_they_say(right):
    """Student's t holds the truth in .94, .58 and .08 of such cases."""
    rng, hits = np.random.default_rng(2), 0
    for n_right in rng.binomial(90, right, 300):
        seen = np.arange(90) < n_right
        found = jackknife_interval(lambda kept: seen[kept].mean(), np.arange(90), share=True)  # noqa: B023
        hits += found.low <= right <= found.high
    assert hits / 300 >= 0.95

"""How sure a figure is: against scipy, worked out by hand, and as often right as it says in simulations.

The simulated score of seed s on example e is a mean + a_s + b_e + noise_se, with b_e alike inside groups; the figure
of a seed is the mean of its scores. ``seed``, ``test`` and ``noise`` are the three's parts of the variance of the mean
over seeds.
"""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from seqbench.stats import (
    Estimate,
    detectable,
    estimate,
    holm,
    leave_one_out,
    rank_intervals,
    rank_test,
    ratio_interval,
    share_difference,
)

SIZES = np.tile([2, 4, 6, 8], 10)  # of the groups, which are not alike
GROUPS = np.repeat(np.arange(len(SIZES)), SIZES)
TIMES = 2000
REGIMES = {"seeds": (1.0, 0.1), "examples": (0.02, 1.0), "alike": (1.0, 1.0)}  # seed and test


def example_effects(rng, test):
    """(N,) half from the group, half from the example itself; their mean has variance ``test``."""
    n = len(GROUPS)
    unit = ((SIZES**2).sum() + n) / n**2
    return math.sqrt(test / unit) * (rng.normal(size=len(SIZES))[GROUPS] + rng.normal(size=n))


def simulated_scores(rng, effects, seed, noise=0.0, seeds=5):
    """(S, N) of a model whose true mean is 0."""
    of_seeds = math.sqrt(seed * seeds) * rng.normal(size=(seeds, 1))
    return of_seeds + effects + math.sqrt(noise * seeds * len(GROUPS)) * rng.normal(size=(seeds, len(GROUPS)))


def figures(scores):
    """(S,) means of (S, N) scores, and (S, G) without each group: `leave_one_out` of a mean, without its loop."""
    sums = np.add.reduceat(scores, np.cumsum(SIZES) - SIZES, axis=1)
    total = sums.sum(axis=1, keepdims=True)
    return scores.mean(axis=1), (total - sums) / (len(GROUPS) - SIZES)


@cache
def simulated(seed, test, noise):
    rng = np.random.default_rng(0)
    return [estimate(*figures(simulated_scores(rng, example_effects(rng, test), seed, noise))) for _ in range(TIMES)]


def coverage(intervals):
    return float(np.mean([found.low <= 0 <= found.high for found in intervals]))


def at_most(share, times=TIMES):
    """The largest share of ``times`` that a true ``share`` reaches in all but one of a thousand simulations."""
    return reference.binom.ppf(0.999, times, share) / times


def at_least(share, times=TIMES):
    return reference.binom.ppf(0.001, times, share) / times


# --- against scipy and by hand ---


def test_with_seeds_alike_it_is_the_one_sample_t_interval_over_examples():
    scores = np.random.default_rng(0).normal(0.3, 1, size=40)
    left_out = leave_one_out(lambda kept: scores[kept].mean(), np.arange(40))
    found = estimate(np.full(5, scores.mean()), np.tile(left_out, (5, 1)))
    textbook = reference.ttest_1samp(scores, 0)
    assert found.value == pytest.approx(scores.mean())
    assert found.error == pytest.approx(reference.sem(scores))
    assert found.df == pytest.approx(39)
    for level in (0.95, 0.8):
        assert found.interval(level)[1:] == pytest.approx(tuple(textbook.confidence_interval(level)))
        assert found.test_interval(40, level) == pytest.approx(found.interval(level))
    assert found.p_value() == pytest.approx(textbook.pvalue)


def test_with_examples_alike_it_is_the_one_sample_t_interval_over_seeds():
    values = np.array([0.31, -0.12, 0.55, 0.40, 0.02])
    found = estimate(values, np.tile(values[:, None], 7))  # no group makes a difference
    textbook = reference.ttest_1samp(values, 0)
    assert (found.test_variance, found.df) == (pytest.approx(0), pytest.approx(4))
    assert found.error == pytest.approx(reference.sem(values))
    assert found.interval()[1:] == pytest.approx(tuple(textbook.confidence_interval(0.95)))
    assert found.p_value() == pytest.approx(textbook.pvalue)


def test_both_parts_add_up_and_share_their_degrees_of_freedom_by_hand():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # s^2 = 2.5, over 5 seeds 0.5
    # over seeds the groups' figures are 2, 3 and 4: 2/3 * (1 + 0 + 1) = 4/3; one seed is far more uneven than that
    left_out = np.tile([2.0, 3.0, 4.0], (5, 1)) + np.outer([9, -9, 0, 4, -4], [1, 0, -1])
    found = estimate(values, left_out)
    assert found[:3] == pytest.approx((3, 1 / 2, 4 / 3))
    # (1/2 + 4/3) / ((1/2) / 4 + (4/3) / 2) = 11/6 / (19/24)
    assert found.df == pytest.approx(44 / 19)
    assert found.error == pytest.approx(math.sqrt(11 / 6))
    reach = reference.t.ppf(0.975, 44 / 19) * math.sqrt(11 / 6)
    assert found.interval() == pytest.approx((3, 3 - reach, 3 + reach))
    assert found.p_value() == pytest.approx(2 * reference.t.sf(3 / math.sqrt(11 / 6), 44 / 19))
    reach = reference.t.ppf(0.975, 2) * math.sqrt(4 / 3)
    assert found.test_interval(3) == pytest.approx((3, 3 - reach, 3 + reach))


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_with_fewer_than_five_seeds_the_test_set_adds_no_degrees_of_freedom(seeds):
    left_out = np.tile(np.arange(40.0), (seeds, 1))
    assert estimate(np.linspace(0, 1e-6, seeds), left_out).df == seeds - 1  # the seeds are alike by chance, perhaps
    assert estimate(np.zeros(seeds), left_out).df == seeds - 1
    assert estimate(np.arange(5.0) / 1e6, np.tile(np.arange(40.0), (5, 1))).df > 38


def test_leaving_out_unequal_groups_equals_the_closed_form_of_a_mean():
    scores = np.random.default_rng(0).normal(size=(5, len(GROUPS)))
    direct = [leave_one_out(lambda kept, row=row: row[kept].mean(), GROUPS) for row in scores]
    assert figures(scores)[1] == pytest.approx(np.array(direct))


def test_groups_are_left_out_in_the_order_of_their_names_wherever_they_lie():
    left_out = leave_one_out(lambda kept: kept.sum(), np.array(["b", "a", "c", "a"]))
    assert left_out.tolist() == [0 + 2, 1 + 2 + 3, 0 + 1 + 3]
    assert leave_one_out(lambda kept: 1.0, np.zeros(4)).shape == (0,)


def test_beyond_200_groups_neighbours_are_left_out_together_and_each_example_once():
    kept = []
    leave_one_out(lambda indices: kept.append(indices) or 0.0, np.arange(500))
    gone = [np.setdiff1d(np.arange(500), indices) for indices in kept]
    assert len(gone) == 200
    assert np.concatenate(gone).tolist() == list(range(500))
    assert {len(indices) for indices in gone} == {2, 3}


def test_differences_pair_what_the_test_set_and_the_seeds_share_and_change_only_sign_the_other_way():
    rng = np.random.default_rng(0)
    shared = 10 * rng.normal(size=len(GROUPS)) + 10 * rng.normal(size=(5, 1))
    own = rng.normal(size=(5, len(GROUPS)))
    a, b = figures(shared + own), figures(shared)
    there = estimate(a[0] - b[0], a[1] - b[1])
    back = estimate(b[0] - a[0], b[1] - a[1])
    assert there == pytest.approx(estimate(*figures(own)))
    assert there.error < estimate(*a).error / 10
    assert back.value == -there.value
    assert back[1:] == there[1:]
    assert back.p_value() == there.p_value()
    assert back.interval()[1:] == pytest.approx((-there.interval().high, -there.interval().low))


def test_holm_by_hand():
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which can't be less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6, 0.02]) == pytest.approx([0.8, 0.8, 0.06])
    assert holm([0.7, 0.9]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_an_unknown_p_value_stays_unknown_and_counts_as_a_comparison():
    assert holm([math.nan, 0.01, math.nan, 0.02]) == pytest.approx([math.nan, 0.04, math.nan, 0.06], nan_ok=True)
    assert all(math.isnan(p) for p in holm([math.nan, math.nan]))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02, 0.03, math.nan]), max_size=6))
@example([0.02, 0.02, 0.01, 0.01])
def test_holm_is_the_closed_test_of_bonferronis(p_values):
    # one hypothesis falls where Bonferroni's test rejects every set of hypotheses that holds it
    known = [1.0 if math.isnan(p) else p for p in p_values]
    sets = [s for size in range(1, len(known) + 1) for s in itertools.combinations(range(len(known)), size)]
    closed = [
        math.nan if math.isnan(p) else max(min(1.0, len(s) * min(known[j] for j in s)) for s in sets if i in s)
        for i, p in enumerate(p_values)
    ]
    assert holm(p_values) == pytest.approx(closed, nan_ok=True)


def test_the_least_detectable_difference_is_the_noncentral_ts():
    # of the paired difference with SD 1, for the first of 10 comparisons; the protocol's sum has 2.92 and 1.45
    for seeds, expected in ((5, 3.16), (10, 1.48)):
        found = detectable(1 / math.sqrt(seeds), seeds - 1, comparisons=10)
        limit = reference.t.ppf(1 - 0.025 / 10, seeds - 1)
        assert reference.nct.sf(limit, seeds - 1, found * math.sqrt(seeds)) == pytest.approx(0.8, abs=1e-6)
        assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("df", "library"), [(3.7, reference.t(3.7)), (math.inf, reference.norm)])
def test_quantiles_equal_the_librarys(df, library):
    if math.isinf(df):  # 2.8 standard errors, as every textbook has it
        assert detectable(2.0, df) == pytest.approx(2 * (library.ppf(0.975) + library.ppf(0.8)))
        found = detectable(2.0, df, comparisons=6, alpha=0.1, power=0.9)
        assert found == pytest.approx(2 * (library.ppf(1 - 0.1 / 12) + library.ppf(0.9)))
    interval = Estimate(1.0, 3.0, 1.0, df).interval(0.9)
    assert interval == pytest.approx((1, 1 - 2 * library.ppf(0.95), 1 + 2 * library.ppf(0.95)))
    assert Estimate(-3.0, 3.0, 1.0, df).p_value() == pytest.approx(2 * library.sf(1.5))


def test_rank_intervals_by_hand():
    # 0 beats all others, 1 beats 3; nothing is known of 2 against 1 or 3
    assert rank_intervals(4, [(0, 1), (0, 2), (0, 3), (1, 3)]) == [(1, 1), (2, 3), (2, 4), (3, 4)]
    assert rank_intervals(3, []) == [(1, 3)] * 3
    assert rank_intervals(3, iter([(2, 1), (1, 0), (2, 0)])) == [(3, 3), (2, 2), (1, 1)]


# --- where little or nothing can be told ---


def test_one_seed_tells_about_test_examples_only():
    found = estimate(np.array([2.0]), np.array([[1.0, 2.0, 3.0]]))
    assert math.isnan(found.seed_variance)
    assert math.isnan(found.p_value())
    assert found.interval() == pytest.approx((2, math.nan, math.nan), nan_ok=True)
    reach = reference.t.ppf(0.975, 2) * math.sqrt(4 / 3)
    assert found.test_interval(3) == pytest.approx((2, 2 - reach, 2 + reach))


@pytest.mark.parametrize("groups", [0, 1])  # `leave_one_out` gives none where there is one group
def test_one_group_tells_nothing(groups):
    found = estimate(np.array([1.0, 2.0, 3.0]), np.ones((3, groups)))
    assert found[:2] == pytest.approx((2, 1 / 3))
    assert math.isnan(found.p_value())
    assert found.interval() == pytest.approx((2, math.nan, math.nan), nan_ok=True)
    assert found.test_interval(1) == pytest.approx((2, math.nan, math.nan), nan_ok=True)


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.5, 0.0), (-0.5, 0.0)])
def test_without_any_variation_the_figure_is_certain(value, p):
    found = estimate(np.full(5, value), np.full((5, 8), value))
    assert found.interval() == (value, value, value)
    assert found.p_value() == p


# --- as often right as they say ---


@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_cover_as_often_as_they_say_with_five_seeds(regime):
    # 2,000 simulations tell a coverage to within 0.0049, one standard error: the band is four of them either side
    assert 0.93 <= coverage([found.interval() for found in simulated(*REGIMES[regime], 0.02)]) <= 0.97


def test_intervals_over_seeds_only_or_test_examples_only_cover_too_seldom():
    seeds_only, examples_only = {}, {}
    for regime, parts in REGIMES.items():
        found = simulated(*parts, 0.02)
        seeds_only[regime] = coverage([one._replace(test_variance=0.0, df=4.0).interval() for one in found])
        examples_only[regime] = coverage([one.test_interval(len(SIZES)) for one in found])
    assert seeds_only["examples"] < 0.6 and seeds_only["alike"] < 0.92
    assert examples_only["seeds"] < 0.6 and examples_only["alike"] < 0.92


def test_what_a_seed_gets_on_one_example_only_never_makes_an_interval_too_narrow():
    # such noise is in the seeds' variance as well as in the groups': counted twice, so the error is on the wide side
    assert coverage([found.interval() for found in simulated(0.05, 0.05, 1.0)]) >= 0.95


# In the first, where test examples add a little to few seeds, a chance small s^2 would raise Welch's degrees of freedom
# from 4 to 40, and 0.09 of families would be found different.
@pytest.mark.parametrize("regime", ["seeds", "examples", "alike"])
def test_a_against_a_is_found_different_in_a_twentieth_of_families_at_most(regime):
    rng = np.random.default_rng(1)
    seed, test = REGIMES[regime]
    least, single = [], []
    for _ in range(TIMES):
        hard = example_effects(rng, 4.0)  # examples are easy or hard for all
        models = [figures(simulated_scores(rng, hard + example_effects(rng, test), seed, 0.02)) for _ in range(5)]
        pairs = itertools.combinations(models, 2)
        p_values = [estimate(a - b, without_a - without_b).p_value() for (a, without_a), (b, without_b) in pairs]
        least.append(min(holm(p_values)))
        single.append(min(p_values))
    assert np.mean(np.array(least) <= 0.05) <= at_most(0.05)
    assert np.mean(np.array(single) <= 0.05) > 0.15  # what Holm is for


@pytest.mark.parametrize("seeds", [2, 3, 4])
@pytest.mark.parametrize("share", [30, 1, 1 / 30])  # variance over seeds, in those over test groups
def test_few_seeds_find_no_more_differences_than_they_say_where_there_are_none(seeds, share):
    rng, times = np.random.default_rng(3), 4000
    p_values = np.empty(times)
    for i in range(times):
        values = math.sqrt(share * seeds) * rng.normal(size=(seeds, 1))
        p_values[i] = estimate(*_of_equal_groups(values + math.sqrt(20) * rng.normal(size=20))).p_value()
    for p in (0.05, 0.005, 0.0005):
        assert np.mean(p_values < p) <= at_most(p, times)


def _of_equal_groups(scores):
    return scores.mean(axis=1), (scores.sum(axis=1, keepdims=True) - scores) / (scores.shape[1] - 1)


@pytest.mark.parametrize(
    ("seeds", "comparisons", "seed", "test"),
    [(5, 1, 1.0, 1.0), (10, 10, 1.0, 1.0), (10, 10, 1.0, 0.0), (5, 10, 1.0, 0.0)],
)
def test_a_difference_of_the_least_detectable_size_is_found_in_about_four_of_five_simulations(
    seeds, comparisons, seed, test
):
    rng = np.random.default_rng(2)
    error = math.sqrt(seed + test)
    df = (seed + test) / (seed / (seeds - 1) + test / (len(SIZES) - 1))
    difference = detectable(error, df, comparisons)
    found = 0
    for _ in range(TIMES):
        scores = difference + simulated_scores(rng, example_effects(rng, test), seed, seeds=seeds)
        found += estimate(*figures(scores)).p_value() <= 0.05 / comparisons
    # exact for one part; with two of equal size the degrees of freedom that are estimated cost a little power
    assert at_least(0.8 if not test else 0.7) <= found / TIMES <= at_most(0.8)


@pytest.mark.parametrize(("n", "m"), [(8, 8), (7, 12), (3, 2), (1, 1), (16, 16)])
def test_the_rank_test_is_scipys_and_agrees_with_its_interval(n, m):
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(n * m)
    inside = 0
    for _ in range(200):
        first, second = np.exp(rng.normal(size=n)), np.exp(rng.normal(size=m))
        p = rank_test(first, second)
        assert p == pytest.approx(mannwhitneyu(first, second, method="exact").pvalue)
        value, low, high = ratio_interval(first, second)
        if math.isnan(low):
            assert 2 / math.comb(n + m, n) > 0.05
            continue
        assert low <= value <= high
        assert (p <= 0.05) == (not low <= 1 <= high)
        inside += low <= 1 <= high
    assert inside == 0 or inside >= 180


def test_the_rank_test_by_hand():
    assert rank_test([1, 2], [3, 4]) == pytest.approx(2 / 6)  # the rarest of six orders, on both sides
    assert rank_test([1, 4], [2, 3]) == 1
    assert rank_test([5] * 8, [5] * 8) == 1  # ties count half
    assert rank_test(range(7), range(10, 17)) < 0.002 < rank_test(range(6), range(10, 16))
    with pytest.raises(ValueError, match="each sample"):
        rank_test([], [1.0])


def test_the_ratio_is_the_median_of_all_ratios():
    assert ratio_interval([1, 2], [2, 8]).value == pytest.approx(math.sqrt(2 * 4))  # of 1, 2, 4 and 8
    value, low, high = ratio_interval([1.0] * 8, [1.5] * 8)
    assert (value, low, high) == pytest.approx((1.5, 1.5, 1.5))


def test_the_difference_of_two_shares_has_newcombes_interval():
    # Newcombe 1998, table II: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20
    for one, other, low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ):
        found = share_difference(one, other)
        assert found.value == pytest.approx(one[0] / one[1] - other[0] / other[1])
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)

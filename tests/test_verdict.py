"""Verdicts follow from intervals by rule."""

import dataclasses
import itertools
import math

import pytest

from seqbench.claims.rules import Claim, Condition, Verdict, judge, within
from seqbench.report.text import interval_text, rounded
from seqbench.stats import Interval

NAN, INF = math.nan, math.inf


def condition(low, high, bounds=(0.0, 20.0), **axes):
    return Condition.of(axes, Interval((low + high) / 2, low, high), "steps", bounds)


@pytest.mark.parametrize(
    ("figure", "bounds", "side"),
    [
        ((12, 8, 16), (0, 20), True),
        ((20, 20, 20), (0, 20), True),
        ((40, 21, 64), (0, 20), False),
        ((18, 16, 24), (0, 20), None),
        ((320, 320, INF), (0, 20), False),
        ((16, 16, INF), (0, 20), None),
        ((4, NAN, NAN), (0, 20), None),
        ((0.5, 0.4, 0.6), (0.7, INF), False),
        ((9, 8, INF), (2, INF), True),
    ],
)
def test_an_interval_lies_inside_outside_or_neither(figure, bounds, side):
    assert within(Interval(*figure), *bounds) is side


@pytest.mark.parametrize(
    ("bounds", "words"),
    [((0, 20), "at most 20"), ((2, INF), "at least 2"), ((-0.02, INF), "at least -0.02"), ((3.2, 4.8), "3.2 to 4.8"),
     ((0.75, 0.75), "exactly 0.75"), ((0, 0), "exactly 0")],
)  # fmt: skip
def test_a_condition_names_its_region(bounds, words):
    assert condition(1, 2, bounds).region == words


def test_the_verdicts():
    inside, outside, neither = condition(5, 10), condition(30, 40), condition(15, 25)
    assert judge([]) == Verdict("not measured")
    assert judge([inside, inside]) == Verdict("supported")
    assert judge([outside]) == Verdict("refuted")
    assert judge([inside, neither]) == judge([outside, neither]) == judge([neither]) == Verdict("inconclusive")
    assert judge([inside, outside, neither]).word == "depends"


def test_a_few_undecided_are_named_and_do_not_undo_what_the_others_agree_on():
    yes = [condition(5, 10, model=model, start=start) for model in ("rnn", "lstm") for start in ("0", "1")]
    no = [condition(30, 40, model=model, start="0") for model in ("rnn", "lstm")]
    open_one = condition(15, 25, model="gru", start="0")
    assert str(judge([*yes, open_one])) == "supported but for gru, 0"
    assert str(judge([*no, open_one])) == "refuted but for gru"  # what all share is not named
    other = condition(15, 25, model="gru", start="1")
    assert judge([*yes, open_one, other]).but_for == ("gru, 0", "gru, 1")  # two of six
    assert str(judge([*yes[:3], open_one, other])) == "inconclusive"  # two of five
    assert judge([*yes, open_one, *no]).word == "depends"


def test_the_verdict_names_the_fewest_axes_that_decide():
    conditions = [
        condition(*((5, 10) if regime == "cold" else (80, INF)), regime=regime, problem=problem)
        for regime, problem in itertools.product(("cold", "staged"), ("recall", "adding"))
    ]
    assert str(judge(conditions)) == "depends on regime"
    both = [
        condition(*((5, 10) if (regime, problem) == ("cold", "recall") else (80, 90)), regime=regime, problem=problem)
        for regime, problem in itertools.product(("cold", "staged"), ("recall", "adding"))
    ]
    assert str(judge(both)) == "depends on regime and problem"
    # what was decided can't tell which of two it is
    pair = [condition(5, 10, regime="cold", problem="adding"), condition(30, 40, regime="staged", problem="recall")]
    assert str(judge([*pair, condition(15, 25, regime="staged", problem="adding")])) == "depends on regime or problem"
    # an axis that some lack is named only where no other tells
    counts, times = condition(4, 4, (3, 5), measure="FLOPs", backend=""), {"measure": "time", "backend": "kernel"}
    assert str(judge([counts, condition(1, 2, (3, 5), **times)])) == "depends on measure"
    loop = condition(3.5, 4.5, (3, 5), measure="time", backend="loop")
    assert str(judge([counts, condition(1, 2, (3, 5), **times), loop])) == "depends on backend"
    # axes that do not tell them apart are not named
    assert str(judge([condition(5, 10, regime="cold"), condition(30, 40, regime="cold")])) == "depends"
    # what is undecided does not hide the axis that decides the rest
    assert str(judge([*conditions, condition(15, 25, regime="cold", problem="copy")])) == "depends on regime"


def test_what_rests_on_few_seeds_decides_nothing_and_says_so():
    assert condition(5, 10).if_seeds(5).inside is True
    few = condition(5, 10).if_known(True, "unseen").if_seeds(4)
    assert few.inside is None and few.note == "fewer than 5 seeds: no verdict from it"


def test_what_is_no_test_decides_nothing_and_says_why():
    none = condition(30, 40).if_tested(False, "the net is too weak")
    assert none.inside is None and none.note == "the net is too weak" and not none.tested
    assert condition(5, 10).if_tested(True, "unseen") == condition(5, 10)
    assert judge([condition(5, 10), none]) == Verdict("supported")
    assert judge([none, none]) == Verdict("not tested")


def test_a_claim_has_the_verdict_of_its_conditions_and_no_other():
    claim = Claim("a", "b", "c", "d", [condition(5, 10)])
    assert claim.verdict == Verdict("supported")
    with pytest.raises(AttributeError):
        claim.verdict = Verdict("refuted")
    assert dataclasses.replace(claim, lacks="a record").verdict == Verdict("incomplete")
    assert dataclasses.replace(claim, conditions=[], lacks="a record").verdict == Verdict("not measured")


def test_figures_as_text():
    assert [rounded(x) for x in (0.0, 3.0, 12.34, 131584.0, 0.01234, INF, NAN)] == [
        "0", "3", "12.3", "131,584", "0.0123", "∞", "?"
    ]  # fmt: skip
    assert interval_text(Interval(12, 8, 16), "steps") == "12 steps (8 to 16)"
    assert interval_text(Interval(320, 320, INF), "steps", at_least=True) == "at least 320 steps"
    assert interval_text(Interval(4, 4, INF), "pairs") == "4 pairs (4 and more)"  # the median of seeds that failed
    assert interval_text(Interval(INF, 8, INF), "times") == "more than 8 times"
    assert interval_text(Interval(NAN, NAN, NAN)) == "unknown" and rounded(-0.0) == "0"
    assert interval_text(Interval(4, 4, 4), "times") == "4 times"

"""Verdicts follow from intervals by rule."""

import itertools
import math

import pytest

from seqbench.claims.claim import Claim, short
from seqbench.claims.verdict import Condition, Verdict, judge, within
from seqbench.report.text import rounded
from seqbench.stats import Interval

NAN, INF = math.nan, math.inf


def condition(low, high, bounds=(0.0, 20.0), **axes):
    return Condition.of(axes, Interval((low + high) / 2, low, high), "steps", bounds, "at most 20", ())


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


def test_the_four_verdicts():
    inside, outside, neither = condition(5, 10), condition(30, 40), condition(15, 25)
    assert judge([]) == Verdict("not measured")
    assert judge([inside, inside]) == Verdict("supported")
    assert judge([outside]) == Verdict("refuted")
    assert judge([inside, neither]) == judge([outside, neither]) == judge([neither]) == Verdict("inconclusive")
    assert judge([inside, outside, neither]).word == "depends"


def test_the_verdict_names_the_fewest_axes_that_decide():
    found = [
        condition(*((5, 10) if regime == "cold" else (80, INF)), regime=regime, problem=problem)
        for regime, problem in itertools.product(("cold", "staged"), ("recall", "adding"))
    ]
    assert str(judge(found)) == "depends on regime"
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
    assert str(judge([*found, condition(15, 25, regime="cold", problem="copy")])) == "depends on regime"


def test_a_claim_has_the_verdict_of_its_conditions_and_no_other():
    claim = Claim(1, "a", "b", "c", "d", [condition(5, 10)])
    assert claim.verdict == Verdict("supported")
    with pytest.raises(AttributeError):
        claim.verdict = Verdict("refuted")


def test_figures_as_text():
    assert [rounded(x) for x in (0.0, 3.0, 12.34, 131584.0, 0.01234, INF, NAN)] == [
        "0", "3", "12.3", "131,584", "0.0123", "∞", "?"
    ]  # fmt: skip
    assert short(Interval(12, 8, 16), "steps") == "12 steps (8 to 16)"
    assert short(Interval(320, 320, INF), "steps", at_least=True) == "at least 320 steps"
    assert short(Interval(4, 4, INF), "pairs") == "4 pairs (4 and more)"  # the median of seeds that failed beyond
    assert short(Interval(INF, 8, INF), "times") == "more than 8 times"
    assert short(Interval(NAN, NAN, NAN)) == "unknown" and rounded(-0.0) == "0"
    assert short(Interval(4, 4, 4), "times") == "4 times"

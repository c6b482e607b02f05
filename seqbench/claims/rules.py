"""Claims, their conditions, and the rule that makes a verdict of figures with intervals: nobody types one in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from seqbench.stats import Interval

__all__ = ["NOT_MEASURED", "SEEDS", "UNKNOWN", "Aside", "Claim", "Condition", "Verdict", "judge", "within"]

SEEDS = 5  # fewer decide nothing
UNKNOWN = Interval(math.nan, math.nan, math.nan)
NOT_MEASURED = "Not measured."


@dataclass(frozen=True)
class Condition:
    """One figure, measured under stated conditions.

    Attributes:
        axes: name to value of what may differ between the conditions of a claim.
        figure: value with its interval; infinite where a ladder ended, NaN where nothing is known.
        unit: what it is a number of.
        inside: whether the interval lies wholly inside the region that the claim names; False: wholly outside; None:
            neither.
        region: that region, in words.
        records: folders of the records behind the figure.
        note: what a reader must know beside it.
        regions: that region as intervals on the figure's scale, for the picture; none where it is not one.
        at_least: whether the value is a lower bound only.
        tested: whether the figure can tell anything of the sentence; if not, it decides nothing, and the note says why.
    """

    axes: Mapping[str, str]
    figure: Interval
    unit: str
    inside: bool | None
    region: str
    records: Sequence[Path] = ()
    note: str = ""
    regions: Sequence[tuple[float, float]] = ()
    at_least: bool = False
    tested: bool = True

    @classmethod
    def of(
        cls, axes: Mapping[str, str], figure: Interval, unit: str, bounds: tuple[float, float], **rest: Any
    ) -> Condition:
        """The usual one, whose region is the interval ``bounds``; ``rest``: records, note and at_least."""
        return cls(axes, figure, unit, within(figure, *bounds), _words(*bounds), regions=(bounds,), **rest)

    def if_known(self, known: bool, why: str) -> Condition:
        """Itself, or undecided for the reason ``why`` where its interval can't be trusted."""
        return self if known else replace(self, inside=None, note="; ".join(filter(None, (self.note, why))))

    def if_tested(self, tested: bool, why: str) -> Condition:
        """Itself, or no test of the sentence for the reason ``why``."""
        return self.if_known(tested, why) if tested else replace(self.if_known(False, why), tested=False)

    def if_seeds(self, seeds: int) -> Condition:
        """Itself, or undecided where it rests on too few seeds."""
        return self.if_known(seeds >= SEEDS, f"fewer than {SEEDS} seeds: no verdict from it")


def within(figure: Interval, low: float = -math.inf, high: float = math.inf) -> bool | None:
    """Whether the interval lies in [low, high] (True), clear of it (False), or neither (None, as for NaN)."""
    if low <= figure.low and figure.high <= high:
        return True
    return False if figure.high < low or figure.low > high else None


def _words(low: float, high: float) -> str:
    """An interval as a region's name; what it is a number of can't be negative, unless the interval says so."""
    if math.isinf(high):
        return f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    if low == high:
        return f"exactly {low:g}"
    return f"{low:g} to {high:g}" if low else f"at most {high:g}"


@dataclass(frozen=True)
class Verdict:
    """What the conditions say together.

    Attributes:
        word: supported, refuted, depends, inconclusive, incomplete, not tested or not measured.
        on: the axes that decide; of several choices, which what was decided can't tell apart, each.
        but_for: names of the undecided few, where the others agree.
    """

    word: str
    on: tuple[tuple[str, ...], ...] = ()
    but_for: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As the ledger says it."""
        if self.but_for:
            return f"{self.word} but for {'; '.join(self.but_for)}"
        return f"depends on {' or '.join(map(' and '.join, self.on))}" if self.on else self.word


MOST = Fraction(2, 3)  # of the conditions must lie on one side, the others undecided, for a verdict but for these


def judge(conditions: Sequence[Condition]) -> Verdict:
    """All inside: supported. All outside: refuted. Some inside and some outside: depends on what tells them apart.

    At least two thirds on one side and none on the other: supported, or refuted, but for the undecided. Else
    inconclusive. What was no test decides nothing, and where there was none: not tested.
    """
    if not conditions:
        return Verdict("not measured")
    conditions = [condition for condition in conditions if condition.tested]
    if not conditions:
        return Verdict("not tested")
    sides = Counter(condition.inside for condition in conditions)
    if sides[True] and sides[False]:
        return Verdict("depends", _deciding(conditions))
    undecided = tuple(_name(condition, conditions) for condition in conditions if condition.inside is None)
    if Fraction(len(undecided), len(conditions)) > 1 - MOST:
        return Verdict("inconclusive")
    return Verdict("supported" if sides[True] else "refuted", but_for=undecided)


def _name(condition: Condition, conditions: Sequence[Condition]) -> str:
    """Its values on the axes on which ``conditions`` differ."""
    differ = [axis for axis in condition.axes if len({one.axes.get(axis) for one in conditions}) > 1]
    return ", ".join(condition.axes[axis] for axis in differ if condition.axes[axis])


def _deciding(conditions: Sequence[Condition]) -> tuple[tuple[str, ...], ...]:
    """The fewest axes that tell the conditions inside from those outside, every such choice; none if none does."""
    decided = [condition for condition in conditions if condition.inside is not None]
    names = dict.fromkeys(name for condition in decided for name in condition.axes)
    for size in range(1, len(names) + 1):
        choices = []
        for axes in combinations(names, size):
            places = [tuple(condition.axes.get(name) for name in axes) for condition in decided]
            sides = {(place, condition.inside) for place, condition in zip(places, decided, strict=True)}
            if len(sides) == len(set(places)):  # conditions alike on these axes lie on the same side
                choices.append((axes, all(map(all, places))))
        if choices:  # rather those of axes that mean something everywhere: parameters have no backend
            return tuple(axes for axes, everywhere in choices if everywhere) or tuple(axes for axes, _ in choices)
    return ()


class Aside(NamedTuple):
    """A sentence (Markdown) on which no verdict rests, with the folders of the records behind it."""

    text: str
    records: Sequence[Path] = ()


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        sentence: what the texts say.
        source: where.
        method: how it was measured, and the region in which it is true.
        statement: what came out, in a sentence that can be quoted without the rest.
        conditions: the figures that the verdict follows from.
        beside: by heading, what else was measured, which the verdict does not rest on.
        lacks: what is missing of what the verdict needs, which then is not given.
        caution: why the verdict must not be relied on yet, which is said wherever it stands.
        number: given by `register_claim`.
    """

    sentence: str
    source: str
    method: str
    statement: str
    conditions: Sequence[Condition]
    beside: Mapping[str, Sequence[Aside]] = field(default_factory=dict)
    lacks: str = ""
    caution: str = ""
    number: int = 0

    @property
    def verdict(self) -> Verdict:
        """By rule, from all the figures or not at all."""
        return Verdict("incomplete") if self.lacks and self.conditions else judge(self.conditions)

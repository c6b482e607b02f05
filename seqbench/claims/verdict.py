"""From figures with intervals to a verdict, by rule: nobody types one in. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from seqbench.stats import Interval

__all__ = ["Condition", "Verdict", "judge", "within"]


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
        at_least: whether the value is a lower bound only.
        regions: that region as intervals on the figure's scale, for the picture; none where it is not one.
    """

    axes: Mapping[str, str]
    figure: Interval
    unit: str
    inside: bool | None
    region: str
    records: Sequence[Path] = field(default=())
    note: str = ""
    regions: tuple[tuple[float, float], ...] = ()
    at_least: bool = False

    @classmethod
    def of(
        cls,
        axes: Mapping[str, str],
        figure: Interval,
        unit: str,
        bounds: tuple[float, float],
        region: str,
        records: Sequence[Path],
        note: str = "",
        at_least: bool = False,
    ) -> Condition:
        """The usual one, whose region is an interval."""
        return cls(axes, figure, unit, within(figure, *bounds), region, records, note, (bounds,), at_least)

    def if_known(self, known: bool, why: str) -> Condition:
        """Itself, or undecided for the reason ``why`` where its interval can't be trusted."""
        return self if known else replace(self, inside=None, note="; ".join(filter(None, (self.note, why))))


@dataclass(frozen=True)
class Verdict:
    """What the conditions say together.

    Attributes:
        word: supported, refuted, depends, inconclusive, incomplete or not measured.
        on: the axes that decide; of several choices, which what was decided can't tell apart, each.
    """

    word: str
    on: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        """As the ledger says it."""
        return f"depends on {' or '.join(map(' and '.join, self.on))}" if self.on else self.word


def within(figure: Interval, low: float = -math.inf, high: float = math.inf) -> bool | None:
    """Whether the interval lies in [low, high] (True), clear of it (False), or neither (None, as for NaN)."""
    if math.isnan(figure.low) or math.isnan(figure.high):
        return None
    if low <= figure.low and figure.high <= high:
        return True
    return False if figure.high < low or figure.low > high else None


def judge(conditions: Sequence[Condition]) -> Verdict:
    """All inside: supported. All outside: refuted. Some inside and some outside: depends. Else inconclusive."""
    sides = [condition.inside for condition in conditions]
    if not sides:
        return Verdict("not measured")
    if all(side is True for side in sides):
        return Verdict("supported")
    if all(side is False for side in sides):
        return Verdict("refuted")
    if True in sides and False in sides:
        return Verdict("depends", _deciding(conditions))
    return Verdict("inconclusive")


def _deciding(conditions: Sequence[Condition]) -> tuple[tuple[str, ...], ...]:
    """The fewest axes that tell the conditions inside from those outside, every such choice; none if none does."""
    decided = [condition for condition in conditions if condition.inside is not None]
    names = [
        name
        for name in dict.fromkeys(name for condition in decided for name in condition.axes)
        if len({condition.axes.get(name) for condition in decided}) > 1
    ]
    for size in range(1, len(names) + 1):
        choices = tuple(chosen for chosen in combinations(names, size) if _tells(chosen, decided))
        if choices:  # first of axes that mean something everywhere: parameters have no backend
            return tuple(chosen for chosen in choices if _means(chosen, decided)) or choices
    return ()


def _means(axes: Sequence[str], decided: Sequence[Condition]) -> bool:
    return all(condition.axes.get(name) for condition in decided for name in axes)


def _tells(axes: Sequence[str], decided: Sequence[Condition]) -> bool:
    """Whether conditions alike on ``axes`` lie on the same side."""
    sides: dict[tuple[str | None, ...], set[bool | None]] = {}
    for condition in decided:
        sides.setdefault(tuple(condition.axes.get(name) for name in axes), set()).add(condition.inside)
    return all(len(found) == 1 for found in sides.values())

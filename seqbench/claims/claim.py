"""A claim, what was measured of it, and figures as its sentences say them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seqbench.claims.verdict import Condition, Verdict, judge
from seqbench.probes import Found
from seqbench.stats import Interval

__all__ = ["Aside", "Asides", "Claim", "figure_text", "machine", "number", "rounded"]


class Aside(NamedTuple):
    """A sentence (Markdown) with the folders of the records behind it."""

    text: str
    records: Sequence[Path] = ()


class Asides(NamedTuple):
    """What is said beside a claim's figures and no verdict rests on."""

    heading: str
    lines: Sequence[Aside]


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        sentence: what the texts say.
        source: where.
        method: how it was measured, and the region in which it is true.
        statement: what came out, in a sentence that can be quoted without the rest.
        conditions: the figures that the verdict follows from.
        beside: what else was measured, which the verdict does not rest on.
        lacks: what has not been measured of what the verdict needs, which then is not given.
    """

    number: int
    sentence: str
    source: str
    method: str
    statement: str
    conditions: Sequence[Condition]
    beside: Sequence[Asides] = field(default=())
    lacks: str = ""

    @property
    def verdict(self) -> Verdict:
        """By rule, from all the figures or not at all."""
        return Verdict("incomplete") if self.lacks and self.conditions else judge(self.conditions)


def rounded(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent where one can do without."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if math.isnan(value):
        return "?"
    if value and abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:z,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(figure: Interval, digits: int = 3, *, at_least: bool = False) -> str:
    """The value alone, as a lower bound where it is one; ``more than 4`` where only that is known."""
    if math.isnan(figure.value) or math.isinf(figure.value):
        return "unknown" if math.isnan(figure.low) else f"more than {rounded(figure.low, digits)}"
    return f"{'at least ' if at_least else ''}{rounded(figure.value, digits)}"


def figure_text(figure: Interval, unit: str = "", digits: int = 3, *, at_least: bool = False) -> str:
    """``12 steps (8 to 16)``, or the value alone where it is exact or has no interval."""
    unit = f" {unit}" if unit else ""
    value = f"{number(figure, digits, at_least=at_least)}{unit}"
    known = math.isfinite(figure.value) and not (math.isnan(figure.low) or math.isnan(figure.high))
    bound = at_least and figure.low == figure.value and math.isinf(figure.high)
    if not known or figure.low == figure.high or bound:
        return value
    high = f"to {rounded(figure.high, digits)}" if not math.isinf(figure.high) else "and more"
    return f"{value} ({rounded(figure.low, digits)} {high})"


def machine(one: Found) -> str:
    """``width 128, cpu, 1 thread``: where a case was timed."""
    case = one.case
    threads = f", {case.threads} thread{'s' if case.threads > 1 else ''}" if case.device == "cpu" else ""
    return f"width {case.options['hidden']}, {case.device}{threads}"

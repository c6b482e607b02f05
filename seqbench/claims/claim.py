"""A claim, what was measured of it, and figures as its sentences say them. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seqbench.claims.verdict import Condition, Verdict, judge
from seqbench.probes import Found

__all__ = ["Aside", "Asides", "Claim", "machine"]


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


def machine(one: Found) -> str:
    """``width 128, cpu, 1 thread``: where a case was timed."""
    case = one.case
    threads = f", {case.threads} thread{'s' if case.threads > 1 else ''}" if case.device == "cpu" else ""
    return f"width {case.options['hidden']}, {case.device}{threads}"

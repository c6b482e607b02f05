"""What is drawn, as data: a `Chart` is panels of marks on axes, with notes below. Nothing here draws; a renderer does
(`report.draw`), and another one needs no other change. No torch, no matplotlib.

How a model looks is decided here, once for every picture: `look_of`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = [
    "DARK",
    "GREY",
    "Axis",
    "Bars",
    "Chart",
    "Line",
    "Look",
    "Mark",
    "Matrix",
    "Panel",
    "Points",
    "Region",
    "Rule",
    "look_of",
]

# Okabe and Ito's colours for all eyes, those too pale on white darkened until their contrast is 3:1
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#b3588a", "#a06b00", "#2a84b8", "#882255", "#666633")
MARKERS = "osD^vPX"
DARK, GREY = "#333333", "#6b6b6b"
SALT = 25  # such that the models that come with seqbench differ in colour and in marker


class Look(NamedTuple):
    """Colour and marker; each alone tells the models that come with seqbench apart."""

    colour: str
    marker: str = "o"


NEUTRAL = Look(DARK)


def look_of(model: str) -> Look:
    """The look of ``model`` in every picture: by its name alone, whatever else is drawn beside it."""
    place = zlib.crc32(f"{SALT}{model}".encode())
    return Look(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])


@dataclass(frozen=True)
class Axis:
    """Attributes:
    label: what it measures, with the unit.
    scale: linear, or logarithmic with base 2 or 10.
    limits: least and greatest value shown; None: what the marks need.
    ticks: (value, text) where the renderer should not choose; at least three.
    """

    label: str = ""
    scale: Literal["linear", "log2", "log10"] = "linear"
    limits: tuple[float, float] | None = None
    ticks: Sequence[tuple[float, str]] | None = None


@dataclass(frozen=True)
class Points:
    """Marks at (x, y), each with an interval where ``low`` and ``high`` are given.

    Attributes:
        low, high: ends of the intervals, absolute values on the axis ``along``; NaN: unknown, infinite: open, drawn as
            an arrow to the edge of the panel.
        label: in the legend; the same label is shown once a chart.
        hollow: drawn as an outline.
        small: a detail, such as a single seed.
        marker: instead of the look's.
    """

    x: Sequence[float]
    y: Sequence[float]
    look: Look = NEUTRAL
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    along: Literal["x", "y"] = "y"
    label: str = ""
    hollow: bool = False
    small: bool = False
    marker: str | None = None


@dataclass(frozen=True)
class Line:
    """A line through (x, y) with a band from ``low`` to ``high`` where they are given; NaN leaves a gap.

    Attributes:
        dash: kind of line.
        marked: with the look's marker at every point.
        faint: one of many.
        steps: horizontal from each point to the next.
    """

    x: Sequence[float]
    y: Sequence[float]
    look: Look = NEUTRAL
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    label: str = ""
    dash: Literal["solid", "dashed", "dotted", "dashdot"] = "solid"
    marked: bool = False
    faint: bool = False
    steps: bool = False


@dataclass(frozen=True)
class Rule:
    """A straight line across the whole panel at ``at`` of the axis ``axis``, named in the panel.

    ``strong`` ones are dark, others grey. A rule does not widen the axis: one that lies beyond is named at the edge,
    with an arrow.
    """

    at: float
    name: str = ""
    axis: Literal["x", "y"] = "y"
    strong: bool = False


@dataclass(frozen=True)
class Region:
    """A shaded span of the axis ``axis``; infinite ends reach to the edge.

    Attributes:
        rows: only these places of the other axis (from, to).
        label: in the legend.
    """

    low: float
    high: float
    axis: Literal["x", "y"] = "x"
    rows: tuple[float, float] | None = None
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars of ``heights`` at the places 0, 1, ... named ``names``; several of one panel stand side by side."""

    names: Sequence[str]
    heights: Sequence[float]
    look: Look = NEUTRAL
    label: str = ""
    across: bool = False  # from left to right, the first name on top


@dataclass(frozen=True)
class Matrix:
    """Values by row and column as shades from ``least`` to ``most``.

    ``diverging`` shades have two colours with white halfway; ``texts`` stand in the cells.
    """

    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    least: float = 0.0
    most: float = 1.0
    texts: Sequence[Sequence[str]] | None = None
    diverging: bool = False
    label: str = ""


Mark = Points | Line | Rule | Region | Bars | Matrix


@dataclass(frozen=True)
class Panel:
    """Marks on two axes.

    Attributes:
        rows: names of the places 0, 1, ... on the y axis, the first on top, where it counts nothing.
        faded: names of ``rows`` that are greyed.
        weight: height (of panels one above the other) relative to the others.
        note: a line within the panel, for what it leaves out.
    """

    title: str
    marks: Sequence[Mark]
    x: Axis = Axis()
    y: Axis = Axis()
    rows: Sequence[str] = ()
    faded: Sequence[str] = ()
    weight: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture: ``columns`` of panels, each from top to bottom.

    Attributes:
        title: the first line.
        subtitle: a smaller one below it.
        notes: sentences below the panels that say how to read them.
    """

    title: str
    columns: Sequence[Sequence[Panel]]
    subtitle: str = ""
    notes: Sequence[str] = field(default=())

    @property
    def panels(self) -> list[Panel]:
        """All panels, column by column."""
        return [panel for column in self.columns for panel in column]

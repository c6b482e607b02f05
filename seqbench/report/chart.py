"""What is drawn, as data: a `Chart` is panels of marks on axes, with notes below. Nothing here draws; a renderer does
(`report.draw`), and another one needs no other change.

How a model looks is decided here, once for every picture (`look_of`), and so is what an axis shows (`limits`, `ticks`).
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

__all__ = [
    "COLOURS",
    "DARK",
    "GREY",
    "MARKERS",
    "NEUTRAL",
    "Axis",
    "Bars",
    "Chart",
    "Dash",
    "Line",
    "Look",
    "Mark",
    "Matrix",
    "Panel",
    "Points",
    "Region",
    "Rule",
    "contrast",
    "dashes_of",
    "drawable",
    "limits",
    "look_of",
    "pale",
    "places",
    "ticks",
]

# Okabe and Ito's colours for all eyes, those too pale on white darkened until their contrast is 3:1
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#b3588a", "#a06b00", "#2a84b8", "#882255", "#666633")
MARKERS = "osD^vPX"
DARK, GREY = "#333333", "#6b6b6b"
SALT = 3188  # such that the models that come with seqbench differ in colour and in marker
BOUND = 1e100  # values beyond it are not drawn
TINY = 1e-280  # values below it count as zero
Scale = Literal["linear", "log2", "log10"]
Way = Literal["x", "y"]
Dash = Literal["solid", "dashed", "dotted", "dashdot"]


class Look(NamedTuple):
    """Colour and marker; each alone tells the models that come with seqbench apart."""

    colour: str
    marker: str = "o"


NEUTRAL = Look(DARK)


def look_of(model: str) -> Look:
    """The look of ``model`` in every picture: by its name alone, whatever else is drawn beside it."""
    place = zlib.crc32(f"{SALT}{model}".encode())
    return Look(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])


def dashes_of(models: Mapping[str, str]) -> dict[str, Dash]:
    """A kind of line for each label, given each label's model: those of one model share a colour and differ in it."""
    kinds: tuple[Dash, ...] = get_args(Dash)
    count: Counter[str] = Counter()
    dashes = {}
    for label, model in models.items():
        dashes[label] = kinds[count[model] % len(kinds)]
        count[model] += 1
    return dashes


@dataclass(frozen=True)
class Axis:
    """Attributes:
    label: what it measures, with the unit.
    scale: linear, or logarithmic with base 2 or 10.
    limits: least and greatest value shown; None: what the marks need.
    ticks: (value, text) where the renderer should not choose; at least three.
    """

    label: str = ""
    scale: Scale = "linear"
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
    along: Way = "y"
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
    dash: Dash = "solid"
    marked: bool = False
    faint: bool = False
    steps: bool = False


@dataclass(frozen=True)
class Rule:
    """A straight line across the whole panel at ``at`` of the axis ``axis``, named in the panel.

    ``strong`` ones are dark, others grey. One that lies beyond the axis is named at the edge, with an arrow.

    Attributes:
        widen: the axis reaches to the rule never, always, or if it is near: the other marks keep 45% of the axis.
    """

    at: float
    name: str = ""
    axis: Way = "y"
    strong: bool = False
    widen: Literal["never", "near", "always"] = "never"


@dataclass(frozen=True)
class Region:
    """A shaded span of the axis ``axis``; infinite ends reach to the edge.

    Attributes:
        rows: only these places of the other axis (from, to).
        label: in the legend.
    """

    low: float
    high: float
    axis: Way = "x"
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
        weight: height (of panels one above the other) relative to the others; one with names of rows is as high as
            these need, times its weight.
        note: a line below the title, for what the panel leaves out.
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
        aligned: the first panels of all columns are equally high, and so are the second ones, and so on.
        widths: of the columns, relative to each other; all alike where none are given.
    """

    title: str
    columns: Sequence[Sequence[Panel]]
    subtitle: str = ""
    notes: Sequence[str] = field(default=())
    aligned: bool = False
    widths: Sequence[float] = ()

    @property
    def panels(self) -> list[Panel]:
        """All panels, column by column."""
        return [panel for column in self.columns for panel in column]

    def legend(self) -> dict[str, list[Mark]]:
        """Each label once, in the order of the chart, with all marks that bear it."""
        entries: dict[str, list[Mark]] = {}
        for panel in self.panels:
            for mark in panel.marks:
                if not isinstance(mark, Rule | Matrix) and mark.label:
                    entries.setdefault(mark.label, []).append(mark)
        return entries


def contrast(colour: str, background: str = "#ffffff") -> float:
    """Ratio of the luminances of two colours ``#rrggbb``, from 1 to 21 (Web Content Accessibility Guidelines 2.1)."""
    lighter, darker = sorted((_luminance(colour), _luminance(background)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def pale(colour: str, least: float = 3.0) -> str:
    """The palest mixture of ``colour`` with white whose contrast to white is ``least``."""
    channels = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    mixtures = ["#" + "".join(f"{c + (255 - c) * share // 100:02x}" for c in channels) for share in range(100)]
    return next((mixture for mixture in reversed(mixtures) if contrast(mixture) >= least), colour)


def drawable(value: float, scale: Scale = "linear") -> bool:
    """Whether an axis has a place for ``value``: not for NaN, infinity, what is huge, or 0 where it is logarithmic."""
    return abs(value) < BOUND and (scale == "linear" or value > TINY)


def places(panel: Panel, way: Way) -> Sequence[str]:
    """Names of the places 0, 1, ... on an axis that counts nothing; empty where it is numeric."""
    if way == "y" and panel.rows:
        return panel.rows
    for mark in panel.marks:
        if isinstance(mark, Matrix):
            return mark.columns if way == "x" else mark.rows
        if isinstance(mark, Bars) and mark.across == (way == "y"):
            return mark.names
    return ()


def limits(panel: Panel, way: Way) -> tuple[float, float] | None:
    """What an axis of ``panel`` shows, from left to right or from bottom to top; None if there is nothing to show."""
    axis = panel.x if way == "x" else panel.y
    if names := places(panel, way):
        return (-0.5, len(names) - 0.5) if way == "x" else (len(names) - 0.5, -0.5)
    values = [value for mark in panel.marks for value in _values(mark, way) if drawable(value, axis.scale)]
    if not values:
        return None
    forth, back = _scaling(axis.scale)
    if axis.limits is not None and all(drawable(end, axis.scale) for end in axis.limits):
        low, high = map(forth, sorted(axis.limits))
        room = 0.0
    else:
        values += [0.0 for mark in panel.marks if isinstance(mark, Bars)]
        low, high = forth(min(values)), forth(max(values))
        rules = [mark for mark in panel.marks if isinstance(mark, Rule) and mark.axis == way]
        low, high = _with_rules(rules, axis.scale, low, high)
        room = 0.06 * (high - low)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # alike
        size = max(abs(low), abs(high))
        room = 1.0 if axis.scale != "linear" else 0.05 * size if size > TINY else 0.05
    stands = any(isinstance(mark, Bars) for mark in panel.marks)  # bars begin at the edge
    return (
        back(low) if stands and low == 0 else back(low - room),
        back(high) if stands and high == 0 and low < 0 else back(high + room),
    )


def _scaling(scale: Scale) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """To the places of an axis that are equally far apart, and back."""
    if scale == "linear":
        return (lambda value: value), (lambda place: place)
    return math.log10, lambda place: 10.0**place


def _with_rules(rules: Iterable[Rule], scale: Scale, low: float, high: float) -> tuple[float, float]:
    """The span of the marks, widened to those ``rules`` that ask for it."""
    span, most = (low, high), (high - low) / 0.45
    for rule in rules:
        if rule.widen != "never" and drawable(rule.at, scale):
            at = _scaling(scale)[0](rule.at)
            wide = min(span[0], at), max(span[1], at)
            if rule.widen == "always" or wide[1] - wide[0] <= most:
                span = wide
    return span


def _values(mark: Mark, way: Way) -> list[float]:
    """What an axis must span for ``mark`` to be seen whole."""
    if isinstance(mark, Points | Line):
        values = mark.x if way == "x" else mark.y
        along = mark.along if isinstance(mark, Points) else "y"
        intervals = [ends for ends in (mark.low, mark.high) if ends is not None and way == along]
        return [*values, *(end for ends in intervals for end in ends)]
    if isinstance(mark, Region):
        return [mark.low, mark.high] if way == mark.axis else []
    if isinstance(mark, Bars):
        return list(mark.heights)
    return []


def ticks(axis: Axis, low: float, high: float, most: int = 7) -> list[tuple[float, str]]:
    """At least three labelled ticks from ``low`` to ``high``, and no more than ``most`` where that can be.

    ```
    ticks(Axis(), 0, 1, 6)                    -> 0.0, 0.2, 0.4, 0.6, 0.8, 1.0
    ticks(Axis(scale="log2"), 8, 64)          -> 8, 16, 32, 64
    ticks(Axis(scale="log10"), 0.01, 100, 5)  -> 0.01, 0.1, 1, 10, 100
    ```
    """
    low, high = sorted((low, high))
    if axis.ticks is not None:
        return [(value, text) for value, text in axis.ticks if low <= value <= high]
    choices = [_linear_ticks(low, high, i) for i in range(-12, 8)] if axis.scale == "linear" else []
    if axis.scale == "log2":
        choices = _powers(2.0, low, high)
    if axis.scale == "log10":
        choices = [_multiples(steps, low, high) for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5))]
        choices += _powers(10.0, low, high)
    choices = [values for values in choices if len(values) >= 3]
    if not choices:  # a short stretch of a logarithmic axis
        return ticks(Axis(), low, high, most)
    values = next((values for values in choices if len(values) <= most), choices[-1])
    return list(zip(values, _tick_texts(values, axis.scale), strict=True))


def _linear_ticks(low: float, high: float, size: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten; the greater ``size``, the fewer."""
    tens, place = divmod(size, 4)
    exponent = math.floor(math.log10(high - low)) + tens
    step = (1, 2, 2.5, 5)[place]
    slack = 1e-9
    unit = step * 10.0**exponent
    first, last = math.ceil(low / unit - slack), math.floor(high / unit + slack)
    return [i * unit for i in range(first, last + 1)] if last - first < 100 else []


def _powers(base: float, low: float, high: float) -> list[list[float]]:
    """All powers of ``base``, every second one, every third one ..."""
    first = math.ceil(math.log(low, base) - 1e-9)
    last = math.floor(math.log(high, base) + 1e-9)
    strides = range(1, max(2, last - first))
    return [[base**i for i in range(first, last + 1) if i % stride == 0] for stride in strides]


def _multiples(steps: Sequence[float], low: float, high: float) -> list[float]:
    """``steps`` times powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if len(powers) > 10:
        return []
    values = (step * 10.0**power for power in powers for step in steps)
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _tick_texts(values: Sequence[float], scale: Scale) -> list[str]:
    """With as many decimals as all need on a linear axis, as each needs on a logarithmic one."""
    if scale != "linear":
        return [_tick_text(value, [value], 1e-6 * value) for value in values]
    gap = min(after - before for before, after in pairwise(values))
    return [_tick_text(value, values, 1e-3 * gap) for value in values]


def _tick_text(value: float, column: Sequence[float], slack: float) -> str:
    """``value`` as exact as ``slack`` with the decimals that ``column`` needs; with an exponent beyond .001 and 1e7."""
    size = max(map(abs, column))
    if 1e-3 * (1 - 1e-9) <= size < 1e7:
        needed = (p for p in range(12) if all(abs(round(each, p) - each) <= slack for each in column))
        return f"{value:z,.{next(needed, 12)}f}"
    if abs(value) <= slack:
        return "0"
    digits = next((p for p in range(16) if abs(float(f"{value:.{p}e}") - value) <= slack), 16)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"

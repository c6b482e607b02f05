"""What is drawn, as data: a `Chart` is panels of marks on axes, with notes below. Nothing here draws; a renderer does
(`report.draw`, `report.svg`), and another one needs no other change.

How a model looks is decided here, once for every picture (`look_of`), and so is what an axis shows (`limits`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NamedTuple, get_args

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
    "chart_data",
    "chart_of",
    "contrast",
    "dashes_of",
    "drawable",
    "limits",
    "look_of",
    "places",
    "scaling",
]

# Okabe and Ito's colours for all eyes, those too pale on white darkened until their contrast is 3:1
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#b3588a", "#a06b00", "#2a84b8", "#882255", "#666633")
MARKERS = "osD^vPX"
DARK, GREY = "#333333", "#6b6b6b"
# such that of the models that come with seqbench no two look alike, and the five usual ones differ in colour and in
# marker, each as in pictures that were published before there were others
SALT = 168_094_007
BOUND = 1e100  # values beyond it are not drawn
TINY = 1e-280  # values below it count as zero
Scale = Literal["linear", "log2", "log10"]
Way = Literal["x", "y"]
Dash = Literal["solid", "dashed", "dotted", "dashdot"]


class Look(NamedTuple):
    """Colour and marker: together they tell the models that come with seqbench apart, each alone the usual ones.

    ``of`` is the model whose look it is, for renderers that can bring out one of them.
    """

    colour: str
    marker: str = "o"
    of: str = ""


NEUTRAL = Look(DARK)


def look_of(model: str) -> Look:
    """The look of ``model`` in every picture: by its name alone, whatever else is drawn beside it."""
    place = zlib.crc32(f"{SALT}{model}".encode())
    return Look(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], model)


def dashes_of(models: Mapping[str, str]) -> dict[str, Dash]:
    """A kind of line for each label, given each label's model: those of one model share a colour and differ in it."""
    kinds: tuple[Dash, ...] = get_args(Dash)
    owners = list(models.values())
    return {label: kinds[owners[:i].count(owners[i]) % len(kinds)] for i, label in enumerate(models)}


@dataclass(frozen=True)
class Axis:
    """What an axis measures, and how it is shown.

    Attributes:
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
        names: what each point is, for renderers that tell it of a point that is pointed at.
        opens: the records behind each point, paths in lines, for renderers that can show them.
        of: the models that are compared, where their look does not say it.
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
    names: Sequence[str] = ()
    opens: Sequence[str] = ()
    of: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """A line through (x, y) with a band from ``low`` to ``high`` where they are given; NaN leaves a gap.

    Attributes:
        dash: kind of line.
        marked: with the look's marker at every point.
        faint: thin, as one of many.
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
    """A shaded span of the x axis, named ``label`` in the legend; infinite ends reach to the edge.

    Attributes:
        rows: only these places of the y axis (from, to).
    """

    low: float
    high: float
    rows: tuple[float, float] | None = None
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars of ``heights`` at the places 0, 1, ... named ``names``; those of several marks stand side by side."""

    names: Sequence[str]
    heights: Sequence[float]
    look: Look = NEUTRAL
    label: str = ""


@dataclass(frozen=True)
class Matrix:
    """Values by row and column as shades from ``least`` to ``most``; where ``least`` is negative, in two colours.

    Attributes:
        texts: stand in the cells, if they fit.
        label: of the scale of shades.
    """

    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    least: float = 0.0
    most: float = 1.0
    texts: Sequence[Sequence[str]] = ()
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
        about: what the panel shows, in a sentence, for renderers that have room for it.
    """

    title: str
    marks: Sequence[Mark]
    x: Axis = Axis()
    y: Axis = Axis()
    rows: Sequence[str] = ()
    faded: Sequence[str] = ()
    weight: float = 1.0
    note: str = ""
    about: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture: ``columns`` of panels, each from top to bottom.

    Attributes:
        title: the first line.
        subtitle: a smaller one below it.
        notes: sentences below the panels that say how to read them.
        aligned: the first panels of all columns are equally high, and so are the second ones, and so on.
    """

    title: str
    columns: Sequence[Sequence[Panel]]
    subtitle: str = ""
    notes: Sequence[str] = ()
    aligned: bool = False

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


def chart_data(chart: Chart) -> dict[str, Any]:
    """``chart`` as JSON holds it, numbers to seven digits; one that is not finite stands there as a text."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.7g}") if math.isfinite(value) else str(value)
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, Look):
            return list(value)
        if is_dataclass(value):
            usual = {field.name: field.default for field in fields(value)}
            facts = {name: fact for name, fact in vars(value).items() if fact != usual[name]}
            kind = {"mark": type(value).__name__} if isinstance(value, Mark) else {}
            return kind | {name: plain(fact) for name, fact in facts.items()}
        return [plain(item) for item in value]

    data: dict[str, Any] = plain(chart)
    return data


NUMBERS = ("x", "y", "low", "high", "limits", "rows", "heights", "at", "least", "most", "values", "ticks")


def chart_of(data: Mapping[str, Any]) -> Chart:
    """The chart that `chart_data` made ``data`` of.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is no such data.
    """
    kinds = {kind.__name__: kind for kind in get_args(Mark)}

    def mark_of(facts: Mapping[str, Any]) -> Mark:
        kind = kinds[facts["mark"]]
        counted = [name for name in NUMBERS if not (kind is Matrix and name == "rows")]  # its rows have names
        known = {name: _numbers(fact) if name in counted else fact for name, fact in facts.items() if name != "mark"}
        if "look" in known:
            known["look"] = Look(*known["look"])
        mark: Mark = kind(**known)
        return mark

    def panel_of(facts: Mapping[str, Any]) -> Panel:
        axes = {way: Axis(**{k: _numbers(fact) if k in NUMBERS else fact for k, fact in facts[way].items()})
                for way in ("x", "y") if way in facts}  # fmt: skip
        return Panel(**{**facts, "marks": [mark_of(mark) for mark in facts["marks"]], **axes})

    columns = [[panel_of(panel) for panel in column] for column in data["columns"]]
    return Chart(**{**data, "columns": columns})


def _numbers(value: Any) -> Any:
    """Texts of numbers that are not finite as numbers, however deep; other texts, as of ticks and rows, as they are."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def contrast(colour: str, background: str = "#ffffff") -> float:
    """Ratio of the luminances of two colours ``#rrggbb``, from 1 to 21 (Web Content Accessibility Guidelines 2.1)."""
    lighter, darker = sorted((_luminance(colour), _luminance(background)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


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
        if isinstance(mark, Bars) and way == "x":
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
    if axis.limits is not None and all(drawable(end, axis.scale) for end in axis.limits):
        if axis.limits[1] - axis.limits[0] > 1e-9 * abs(axis.limits[1]):
            return axis.limits
        values = list(axis.limits)
    forth, back = scaling(axis.scale)
    bars = any(isinstance(mark, Bars) for mark in panel.marks)  # which begin at 0, at the edge of the panel
    values += [0.0] if bars else []
    low, high = _with_rules(panel, way, forth(min(values)), forth(max(values)))
    room, size = 0.06 * (high - low), max(abs(low), abs(high))
    if high - low <= max(TINY, 1e-9 * size):  # alike
        room = 1.0 if axis.scale != "linear" else 0.05 * size if size > TINY else 0.05
    return (
        0.0 if bars and low == 0 else back(low - room),
        0.0 if bars and high == 0 and low < 0 else back(high + room),
    )


def scaling(scale: Scale) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """To the places of an axis that are equally far apart, and back."""
    if scale == "linear":
        return (lambda value: value), (lambda place: place)
    return math.log10, lambda place: 10.0**place


def _with_rules(panel: Panel, way: Way, low: float, high: float) -> tuple[float, float]:
    """The span of the marks, widened to those rules that ask for it; all as places of the scale."""
    scale, most = (panel.x if way == "x" else panel.y).scale, (high - low) / 0.45
    for rule in panel.marks:
        if isinstance(rule, Rule) and rule.axis == way and rule.widen != "never" and drawable(rule.at, scale):
            at = scaling(scale)[0](rule.at)
            wide = min(low, at), max(high, at)
            if rule.widen == "always" or wide[1] - wide[0] <= most:
                low, high = wide
    return low, high


def _values(mark: Mark, way: Way) -> list[float]:
    """What an axis must span for ``mark`` to be seen whole."""
    if isinstance(mark, Points | Line):
        values = mark.x if way == "x" else mark.y
        along = mark.along if isinstance(mark, Points) else "y"
        intervals = [ends for ends in (mark.low, mark.high) if ends is not None and way == along]
        return [*values, *(end for ends in intervals for end in ends)]
    if isinstance(mark, Region):
        return [mark.low, mark.high] if way == "x" else []
    if isinstance(mark, Bars):
        return list(mark.heights)
    return []

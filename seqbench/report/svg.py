"""Draws a `Chart` as SVG for a page: a picture for each panel, with colours and fonts left to the page's style.

A point says what it is when it is pointed at (``<title>``), and names the records behind it (``data-open``) and the
models that it is of (``data-of``) for the page's script. Widths of texts are estimated, on the safe side, since nobody
knows the reader's font.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any, NamedTuple

from seqbench.report.chart import (
    COLOURS,
    DARK,
    GREY,
    Axis,
    Bars,
    Chart,
    Line,
    Look,
    Mark,
    Matrix,
    Panel,
    Points,
    Region,
    Rule,
    Way,
    drawable,
    limits,
    places,
    scaling,
)
from seqbench.report.text import format_value, short
from seqbench.report.ticks import ticks

__all__ = ["Drawing", "Drawn", "Key", "drawn_chart"]

WIDTH = 440.0  # units of a picture, which at that width are pixels
TEXT = 12.0  # of a text's height, as the page's style has it
LINE = 16.0  # from one line of text to the next
GAP = 6.0
ROW = 24.0  # of a row with a name
VALUES = 230.0  # of a panel with values on both axes
NAME = 205.0  # of the longest name beside a row
BESIDE = 130.0  # of the longest name of a rule
MOST_HITS = 80  # points of a line that say what they are; more would lie on each other
THIN, NARROW, WIDE = "ijl.,:;|!'", "trfI()[]{}- /", "mwMW@%→←"
CLASSES = {colour: f"c{i}" for i, colour in enumerate(COLOURS)} | {DARK: "ink", GREY: "grey"}
SHAPES = {  # steps around the middle, of a marker that is 2 wide
    "s": "m -.9 -.9 h 1.8 v 1.8 h -1.8 z",
    "D": "m 0 -1.2 l 1.2 1.2 -1.2 1.2 -1.2 -1.2 z",
    "^": "m 0 -1.15 l 1.15 2.1 h -2.3 z",
    "v": "m 0 1.15 l 1.15 -2.1 h -2.3 z",
    "<": "m -1.15 0 l 2.1 1.15 v -2.3 z",
    ">": "m 1.15 0 l -2.1 1.15 v -2.3 z",
    "P": "m -.4 -1.2 h .8 v .8 h .8 v .8 h -.8 v .8 h -.8 v -.8 h -.8 v -.8 h .8 z",
    "X": "m -1.1 -.5 l .5 -.5 .6 .5 .6 -.5 .5 .5 -.5 .5 .5 .5 -.5 .5 -.6 -.5 -.6 .5 -.5 -.5 .5 -.5 z",
    "x": "m -.9 -.9 l 1.8 1.8 m 0 -1.8 l -1.8 1.8",
    "|": "m 0 -1.6 v 3.2",
    "_": "m -1.6 0 h 3.2",
}


class Drawing(NamedTuple):
    """A panel's picture, with what the page says above it (see `Panel`); ``svg`` is markup, the others are texts."""

    title: str
    about: str
    note: str
    svg: str


class Key(NamedTuple):
    """An entry of a legend; ``svg`` is markup."""

    label: str
    of: Sequence[str]
    svg: str


class Drawn(NamedTuple):
    """A chart as a page shows it: pictures of its panels, column by column, legend, and what stands around them."""

    title: str
    subtitle: str
    keys: Sequence[Key]
    panels: Sequence[Drawing]
    notes: Sequence[str]


def drawn_chart(chart: Chart, tokens: Mapping[str, str] | None = None) -> Drawn:
    """``chart`` with its panels as SVG; the notes name those that have nothing to draw.

    Args:
        tokens: by the path of a record, what opens it in the page.
    """
    drawn = [(panel, _svg(panel, tokens or {})) for panel in chart.panels]
    panels = [Drawing(panel.title, panel.about, panel.note, svg) for panel, svg in drawn if svg]
    said = [f"Not drawn, without figures: {panel.title}." for panel, svg in drawn if not svg]
    keys = [
        Key(label, next((_of(mark) for mark in marks if _of(mark)), ()), _key(marks))
        for label, marks in chart.legend().items()
    ]
    return Drawn(chart.title, chart.subtitle, keys, panels, [*chart.notes, *said])


def _key(marks: Sequence[Mark]) -> str:
    """One sample of each kind of mark, on top of each other."""
    parts: list[str] = []
    for kind, mark in {type(mark): mark for mark in reversed(marks)}.items():
        if kind is Region:
            parts.insert(0, '<rect class="region" x="2" y="1" width="20" height="12"/>')
        elif isinstance(mark, Bars):
            parts.append(f'<rect class="bar {_class(mark.look)}" x="4" y="2" width="16" height="10"/>')
        elif isinstance(mark, Line):
            parts.append(f'<path class="line {mark.dash} {_class(mark.look)}" d="M1 7h22"/>')
            parts += [_marker(12, 7, mark.look, 3.5, mark.look.marker)] if mark.marked else []
        elif isinstance(mark, Points):
            parts.append(_marker(12, 7, mark.look, 3 if mark.small else 4.5, mark.marker, mark.hollow or mark.small))
    return f'<svg class="key" viewBox="0 0 24 14" width="24" height="14" aria-hidden="true">{"".join(parts)}</svg>'


# ---- texts and numbers --------------------------------------------------------------------------------------------


def _width(text: str) -> float:
    """About as many units as ``text`` takes."""
    wide = (
        0.33 if c in THIN else 0.42 if c in NARROW else 0.97 if c in WIDE else 0.7 if c.isupper() else 0.62
        for c in text
    )
    return TEXT * sum(wide)


def _cut(text: str, most: float) -> str:
    """The middle left out until it is about ``most`` units wide."""
    line = short(text, 300)
    while len(line) > 6 and _width(line) > most:
        line = short(line, max(6, min(len(line) - 1, int(len(line) * most / _width(line)))))
    return line


def _lines(text: str, most: float) -> list[str]:
    """Words in lines of at most ``most`` units; one with a wide gap, whose ends belong to two sides, stays whole."""
    lines: list[str] = []
    for paragraph in filter(None, text.split("\n")):
        if "   " in paragraph:
            lines.append(paragraph)
            continue
        line = ""
        for word in paragraph.split():
            if line and _width(f"{line} {word}") > most:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        lines.append(line)
    return lines


def _n(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0").replace("-0.0", "0")


def _text(x: float, y: float, text: str, side: str = "", more: str = "") -> str:
    """``side``: start (usual), mid or end."""
    name = f' class="{side}"' if side else ""
    return f'<text{name} x="{_n(x)}" y="{_n(y)}"{more}>{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


# ---- the frame of a panel -----------------------------------------------------------------------------------------


@dataclass
class Frame:
    """A panel and where its marks lie.

    Attributes:
        xlim, ylim: what its axes show.
        left, right, top, bottom: edges of the marks' area in units from the upper left corner.
        tokens: see `drawn_chart`.
    """

    panel: Panel
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float
    tokens: Mapping[str, str]

    def x(self, value: float) -> float:
        """Units from the left of a value; of one beyond the axis, its edge."""
        return self.left + _share(value, self.panel.x, self.xlim) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Units from the top."""
        return self.bottom - _share(value, self.panel.y, self.ylim) * (self.bottom - self.top)

    def told(self, value: float, way: Way, low: float = math.nan, high: float = math.nan) -> str:
        """A value in words: what its axis measures, and its interval if there is one."""
        names = places(self.panel, way)
        if names:
            return str(names[min(len(names) - 1, max(0, round(value)))])
        axis = self.panel.x if way == "x" else self.panel.y
        label = " ".join(line for line in axis.label.split("\n") if not line.startswith("←"))
        label = label.split(", ")[0].removesuffix(" (logarithmic)")
        interval = "" if math.isnan(low) or math.isnan(high) else f" ({format_value(low)} to {format_value(high)})"
        return f"{label}: {format_value(value)}{interval}" if label else f"{format_value(value)}{interval}"

    def beyond(self, value: float, way: Way) -> int:
        """-1 or 1 where a value lies below or above what the axis shows."""
        span = self.xlim if way == "x" else self.ylim
        return -1 if value < min(span) else int(value > max(span))


def _share(value: float, axis: Axis, span: tuple[float, float]) -> float:
    """Where a value stands from 0 to 1 within its axis."""
    forth, _ = scaling(axis.scale)
    low, high = map(forth, span)
    return (forth(min(max(value, min(span)), max(span))) - low) / (high - low)


def _svg(panel: Panel, tokens: Mapping[str, str]) -> str:
    """The picture, empty where there is nothing to draw."""
    xlim, ylim = limits(panel, "x"), limits(panel, "y")
    if xlim is None or ylim is None:
        return ""
    names = places(panel, "y")
    matrix = next((mark for mark in panel.marks if isinstance(mark, Matrix)), None)
    row = 1.5 * ROW if matrix and matrix.texts else ROW
    height = max(60.0, len(names) * row if names else VALUES * panel.weight)
    yticks = _y_ticks(panel, ylim, height)
    left = GAP + max((_width(text) for _, text in yticks), default=0)
    sides = _named_rules(panel, "y", ylim)
    right = WIDTH - max([10.0, *(14 + _width(name) for _, name in sides)])
    above = _named_rules(panel, "x", xlim)
    label = _lines(panel.y.label, WIDTH)
    top = LINE * (len(label) + len(above)) + 10
    frame = Frame(panel, xlim, ylim, left, right, top, top + height, tokens)
    xticks, leaning = _x_ticks(frame)
    under = max((0.64 * _width(text) for _, text in xticks), default=0) + 6 if leaning else LINE
    below = _lines(panel.x.label, WIDTH if sides else WIDTH - 20)
    total = frame.bottom + 4 + under + LINE * len(below) + GAP
    parts = [
        *(_text(0, TEXT + LINE * i, line, "label") for i, line in enumerate(label)),
        *_axes(frame, xticks, yticks, leaning),
        *(part for mark in panel.marks for part in DRAWERS[type(mark)](frame, mark)),
        *_rule_names(frame, above, sides),
        *_x_label(frame, below, frame.bottom + 4 + under),
    ]
    about = escape(f"{' '.join(panel.title.split())}. {panel.note}".strip(), quote=True)
    box = f"0 0 {_n(WIDTH)} {_n(total)}"
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{about}">{"".join(parts)}</svg>'


def _y_ticks(panel: Panel, span: tuple[float, float], height: float) -> list[tuple[float, str]]:
    names = places(panel, "y")
    if names:
        every = math.ceil(LINE * len(names) / height)
        return [(float(i), _cut(names[i], NAME)) for i in range(0, len(names), every)]
    return ticks(panel.y, *span, max(3, min(7, int(height / 34))))


def _x_ticks(frame: Frame) -> tuple[list[tuple[float, str]], bool]:
    """As many as fit beside each other; leaning where that is too few, as for long names."""
    names, axis = places(frame.panel, "x"), frame.panel.x
    shown: list[tuple[float, str]] = []
    for most in (len(names),) if names else range(8, 2, -1):
        shown = [(float(i), short(name)) for i, name in enumerate(names)] or ticks(axis, *frame.xlim, most)
        shown = shown[:: math.ceil(len(shown) / most)] if axis.ticks and shown else shown
        at = [frame.x(value) for value, _ in shown]
        wide = [_width(text) for _, text in shown]
        if all(at[i + 1] - at[i] >= (wide[i] + wide[i + 1]) / 2 + GAP for i in range(len(at) - 1)):
            return shown, False
    every = math.ceil(LINE * len(names) / (frame.right - frame.left)) if names else 1
    return [(value, _cut(text, 100)) for value, text in shown[::every]], True


def _axes(
    frame: Frame, xticks: Sequence[tuple[float, str]], yticks: Sequence[tuple[float, str]], leaning: bool
) -> Iterator[str]:
    """Grid, ticks, and the two lines."""
    panel, grid = frame.panel, []
    for value, text in yticks:
        y = frame.y(value)
        grid += [] if places(panel, "y") else [f"M{_n(frame.left)} {_n(y)}H{_n(frame.right)}"]
        faded = bool(panel.faded) and text in {_cut(name, NAME) for name in panel.faded}
        yield _text(frame.left - GAP, y + 4, text, "end faded" if faded else "end")
    for value, text in xticks:
        x = frame.x(value)
        grid += [] if places(panel, "x") else [f"M{_n(x)} {_n(frame.top)}V{_n(frame.bottom)}"]
        if leaning:
            turn = f' transform="rotate(-40 {_n(x)} {_n(frame.bottom + 14)})"'
            yield _text(x, frame.bottom + 14, text, "end", turn)
        else:
            yield _text(x, frame.bottom + 4 + TEXT, text, "mid")
    yield f'<path class="grid" d="{"".join(grid)}"/>' if grid else ""
    corner = f"M{_n(frame.left)} {_n(frame.top)}V{_n(frame.bottom)}H{_n(frame.right)}"
    yield f'<path class="axis" d="{corner}"/>'


def _x_label(frame: Frame, lines: Sequence[str], top: float) -> Iterator[str]:
    """Below the ticks; a line of two ends has one at each side."""
    for i, line in enumerate(lines):
        y = top + TEXT + LINE * i
        first, *rest = [part.strip() for part in line.split("   ") if part.strip()]
        if rest:
            yield _text(frame.left, y, first, "label") + _text(frame.right, y, rest[-1], "end label")
        else:
            middle = (frame.left + frame.right) / 2
            reach = min(middle, WIDTH - middle)
            yield _text(middle, y, first, "mid label") if _width(first) / 2 <= reach else _text(0, y, first, "label")


def _named_rules(panel: Panel, way: Way, span: tuple[float, float]) -> list[tuple[Rule, str]]:
    """The named rules on an axis; an arrow tells where one lies that is beyond the axis."""
    back, forth = ("← ", "→ ") if way == "x" else ("↓ ", "↑ ")
    named = []
    for rule in panel.marks:
        if isinstance(rule, Rule) and rule.axis == way and rule.name and not math.isnan(rule.at):
            arrow = back if rule.at < min(span) else forth if rule.at > max(span) else ""
            named.append((rule, _cut(arrow + rule.name, BESIDE)))
    return named


def _rule_names(frame: Frame, above: Sequence[tuple[Rule, str]], sides: Sequence[tuple[Rule, str]]) -> Iterator[str]:
    """Names above the marks, in lines, and to the right of them, moved apart."""
    for i, (rule, name) in enumerate(above):
        at = (frame.x(rule.at) - frame.left) / (frame.right - frame.left)
        side = "" if at < 1 / 3 else "end" if at > 2 / 3 else "mid"
        yield _text(frame.x(rule.at), frame.top - 5 - LINE * i, name, f"{side} {'label' if rule.strong else 'faded'}")
    at_all = sorted(((frame.y(rule.at), name, rule) for rule, name in sides), key=lambda each: each[0])
    moved = [at for at, _, _ in at_all]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + LINE - 2)
    limit = max(frame.bottom, frame.top + LINE * len(moved))
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - LINE + 2
    for (at, name, rule), y in zip(at_all, moved, strict=True):
        yield f'<path class="leader" d="M{_n(frame.right)} {_n(at)}L{_n(frame.right + 10)} {_n(y)}"/>'
        yield _text(frame.right + 13, y + 4, name, "label" if rule.strong else "faded")


# ---- marks --------------------------------------------------------------------------------------------------------


def _class(look: Look) -> str:
    return CLASSES.get(look.colour, "ink")


def _marker(
    x: float,
    y: float,
    look: Look,
    size: float,
    shape: str | None = None,
    hollow: bool = False,
    more: str = "",
    title: str = "",
) -> str:
    """``more``: attributes; ``title``: markup inside."""
    shape = shape or look.marker
    name = f'class="point {_class(look)}{" hollow" if hollow else ""}{" bare" if shape in "|_x" else ""}"{more}'
    if shape not in SHAPES:
        return f'<circle {name} cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}">{title}</circle>'
    return f'<path {name} d="M{_n(x)} {_n(y)}{_scaled(shape, size)}">{title}</path>'


@cache
def _scaled(shape: str, size: float) -> str:
    """The path of a marker at its size, as short as it can be written: a page may have thousands."""
    words = (word if word.isalpha() else _n(float(word) * size) for word in SHAPES[shape].split())
    return re.sub(r" ?([a-z]) ?| (?=-)", r"\1", " ".join(words))


def _of(mark: Mark) -> Sequence[str]:
    """The models that a mark is of."""
    if isinstance(mark, Points) and mark.of:
        return mark.of
    return [mark.look.of] if isinstance(mark, Points | Line | Bars) and mark.look.of else []


def _group(mark: Mark, parts: Sequence[str]) -> str:
    """A mark, with the models that it is of, which the page can bring out."""
    of = "\n".join(_of(mark))
    about = f' data-of="{escape(of)}"' if of else ""
    return f"<g{about}>{''.join(parts)}</g>" if parts else ""


def _points(frame: Frame, mark: Points) -> Iterator[str]:
    """Those beyond the edge are arrows at the edge."""
    parts: list[str] = []
    for i, (x, y) in enumerate(zip(mark.x, mark.y, strict=True)):
        if not (drawable(x, frame.panel.x.scale) and drawable(y, frame.panel.y.scale)):
            continue
        shape = mark.marker
        for side, arrows in ((frame.beyond(x, "x"), "<>"), (frame.beyond(y, "y"), "v^")):
            shape = arrows[side > 0] if side else shape
        size, hollow = (2.6, True) if mark.small else (4.6, mark.hollow)
        parts += _interval(frame, mark, i)
        opens, title = _opening(frame, mark, i), _title(_told_point(frame, mark, i))
        parts.append(_marker(frame.x(x), frame.y(y), mark.look, size, shape, hollow, opens, title))
    yield _group(mark, parts)


def _told_point(frame: Frame, mark: Points, i: int) -> str:
    """What a point says: its name, and where it stands."""
    low, high = (math.nan if ends is None else ends[i] for ends in (mark.low, mark.high))
    name = mark.names[i] if mark.names else " ".join((mark.label or ", ".join(_of(mark))).split())
    x = frame.told(mark.x[i], "x", low, high) if mark.along == "x" else frame.told(mark.x[i], "x")
    y = frame.told(mark.y[i], "y", low, high) if mark.along == "y" else frame.told(mark.y[i], "y")
    return f"{name}: {x}, {y}" if name else f"{x}, {y}"


def _opening(frame: Frame, mark: Points, i: int) -> str:
    """The attribute that names the records behind a point, as far as the page has them."""
    paths = mark.opens[i].split("\n") if mark.opens else []
    known = [frame.tokens[path] for path in paths if path in frame.tokens]
    return f' data-open="{escape(" ".join(known))}"' if known else ""


def _interval(frame: Frame, mark: Points, i: int) -> list[str]:
    """A line to both ends, with an arrow where it goes on beyond the edge."""
    if mark.low is None or mark.high is None:
        return []
    way, at = (mark.along, frame.x if mark.along == "x" else frame.y)
    value = (mark.x if way == "x" else mark.y)[i]
    beside = frame.y(mark.y[i]) if way == "x" else frame.x(mark.x[i])
    path, arrows = "", []
    for end, arrow in ((mark.low[i], "<v"), (mark.high[i], ">^")):
        if math.isnan(end):
            continue
        from_, to = _n(at(value)), at(end)
        path += f"M{from_} {_n(beside)}H{_n(to)}" if way == "x" else f"M{_n(beside)} {from_}V{_n(to)}"
        if frame.beyond(end, way):
            x, y = (to, beside) if way == "x" else (beside, to)
            arrows.append(_marker(x, y, mark.look, 3.2, arrow[way == "y"]))
        elif abs(to - at(value)) > 1:
            cap = f"M{_n(to)} {_n(beside - 3)}v6" if way == "x" else f"M{_n(beside - 3)} {_n(to)}h6"
            path += cap
    return [f'<path class="interval {_class(mark.look)}" d="{path}"/>', *arrows] if path else []


def _line(frame: Frame, mark: Line) -> Iterator[str]:
    xs, ys = frame.panel.x.scale, frame.panel.y.scale
    kept = [i for i, x in enumerate(mark.x) if drawable(x, xs)]
    parts, path, gap = _band(frame, mark, kept), "", True
    for i in kept:
        if not drawable(mark.y[i], ys):
            gap = True
            continue
        x, y = _n(frame.x(mark.x[i])), _n(frame.y(mark.y[i]))
        path += f"M{x} {y}" if gap else f"H{x}V{y}" if mark.steps else f"L{x} {y}"
        gap = False
    named = " ".join(mark.label.split()) or ", ".join(_of(mark))
    kind = f"{mark.dash}{' faint' if mark.faint else ''} {_class(mark.look)}"
    parts.append(f'<path class="line {kind}" d="{path}">{_title(named)}</path>')
    good = [i for i in kept if drawable(mark.y[i], ys)]
    if not mark.faint and (mark.marked or len(good) <= MOST_HITS):
        parts += [_vertex(frame, mark, i, named) for i in good]
    yield _group(mark, parts)


def _vertex(frame: Frame, mark: Line, i: int, named: str) -> str:
    """A point of a line, seen or not, that says what it is."""
    ends = () if mark.low is None or mark.high is None else (mark.low[i], mark.high[i])
    about = f"{frame.told(mark.x[i], 'x')}, {frame.told(mark.y[i], 'y', *ends)}"
    title, x, y = _title(f"{named}: {about}" if named else about), frame.x(mark.x[i]), frame.y(mark.y[i])
    if mark.marked:
        return _marker(x, y, mark.look, 3, title=title)
    return f'<circle class="hit" cx="{_n(x)}" cy="{_n(y)}" r="7">{title}</circle>'


def _band(frame: Frame, mark: Line, kept: Sequence[int]) -> list[str]:
    """Between the ends of the intervals; what lies beyond the axis is cut."""
    if mark.low is None or mark.high is None:
        return []
    shown = [i for i in kept if not (math.isnan(mark.low[i]) or math.isnan(mark.high[i]))]
    there = [(frame.x(mark.x[i]), frame.y(mark.low[i])) for i in shown]
    back = [(frame.x(mark.x[i]), frame.y(mark.high[i])) for i in reversed(shown)]
    path = "L".join(f"{_n(x)} {_n(y)}" for x, y in (*there, *back))
    return [f'<path class="band {_class(mark.look)}" d="M{path}z"/>'] if len(shown) > 1 else []


def _rule(frame: Frame, rule: Rule) -> Iterator[str]:
    axis = frame.panel.x if rule.axis == "x" else frame.panel.y
    if drawable(rule.at, axis.scale) and not frame.beyond(rule.at, rule.axis):
        across = (
            f"M{_n(frame.x(rule.at))} {_n(frame.top)}V{_n(frame.bottom)}"
            if rule.axis == "x"
            else f"M{_n(frame.left)} {_n(frame.y(rule.at))}H{_n(frame.right)}"
        )
        yield f'<path class="rule{" strong" if rule.strong else ""}" d="{across}">{_title(rule.name)}</path>'


def _region(frame: Frame, region: Region) -> Iterator[str]:
    least = min(frame.xlim)
    low = frame.x(region.low if drawable(region.low, frame.panel.x.scale) else least)
    high = frame.x(min(region.high, max(frame.xlim)))
    rows = region.rows or frame.ylim
    top, bottom = sorted((frame.y(rows[0]), frame.y(rows[1])))
    box = f'x="{_n(low)}" y="{_n(top)}" width="{_n(max(0.0, high - low))}" height="{_n(bottom - top)}"'
    yield f'<rect class="region" {box}>{_title(region.label)}</rect>'


def _bars(frame: Frame, mark: Bars) -> Iterator[str]:
    beside = [each for each in frame.panel.marks if isinstance(each, Bars)]
    thick = 0.8 / len(beside)
    place = next(i for i, each in enumerate(beside) if each is mark)
    parts = []
    for i, height in enumerate(mark.heights):
        if drawable(height):
            middle = i + thick * (place - (len(beside) - 1) / 2)
            left, right = frame.x(middle - thick / 2), frame.x(middle + thick / 2)
            top, bottom = sorted((frame.y(height), frame.y(0.0)))
            named = f"{mark.label}, " if mark.label else ""
            box = f'x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}"'
            title = _title(f"{named}{mark.names[i]}: {format_value(height)}")
            parts.append(f'<rect class="bar {_class(mark.look)}" {box}>{title}</rect>')
    yield _group(mark, parts)


def _matrix(frame: Frame, mark: Matrix) -> Iterator[str]:
    """Cells whose shade is how opaque they are; texts where they fit."""
    wide = (frame.right - frame.left) / len(mark.columns)
    high = (frame.bottom - frame.top) / len(mark.rows)
    texts = [line for row in mark.texts for text in row for line in text.split("\n")]
    fits = max((_width(text) for text in texts), default=math.inf) <= wide
    most = max(abs(mark.least), abs(mark.most)) if mark.least < 0 else mark.most - mark.least
    for i, row in enumerate(mark.values):
        for j, value in enumerate(row):
            share = 0.0 if math.isnan(value) else (value if mark.least < 0 else value - mark.least) / (most or 1.0)
            shade = min(1.0, abs(share) if mark.least < 0 else max(0.0, share))
            kind = "none" if math.isnan(value) else "minus" if share < 0 and mark.least < 0 else "plus"
            x, y = frame.left + wide * j, frame.top + high * i
            told = mark.texts[i][j].replace("\n", ", ") if mark.texts else format_value(value)
            about = _title(f"{mark.rows[i]}, {mark.columns[j]}: {told}" + (f" ({mark.label})" if mark.label else ""))
            box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(wide)}" height="{_n(high)}"'
            yield f'<rect class="cell {kind}" {box} fill-opacity="{shade:.2f}">{about}</rect>'
            if mark.texts and fits:
                lines = mark.texts[i][j].split("\n")
                first = y + high / 2 + 4 - (len(lines) - 1) * 7
                side = "mid deep" if shade > 0.55 else "mid"
                yield "".join(_text(x + wide / 2, first + 14 * k, line, side) for k, line in enumerate(lines))


DRAWERS: dict[type, Callable[[Frame, Any], Iterator[str]]] = {
    Points: _points,
    Line: _line,
    Rule: _rule,
    Region: _region,
    Bars: _bars,
    Matrix: _matrix,
}

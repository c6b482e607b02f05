"""Draws a `Chart` with matplotlib into a file. This is the only module that imports matplotlib, which is optional.

Colours, markers, what an axis shows and where its ticks stand are decided in `report.chart`. All sizes here are in
inches and follow from the texts, which are measured: nothing overlaps, no text is below 9 points, and the same chart
gives the same file byte for byte with the same matplotlib.
"""

from __future__ import annotations

import importlib.util
import math
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.report import chart as charts
from seqbench.report.chart import (
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
    contrast,
    drawable,
    pale,
    places,
    ticks,
)
from seqbench.report.text import short

__all__ = ["draw", "need_matplotlib"]

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
SMALL, PANEL_TITLE, SUBTITLE, TITLE = 9.0, 10.0, 10.0, 13.0  # points
STYLE: Any = {
    "font.size": SMALL,
    "text.parse_math": False,  # a record's words are no formulas
    "svg.fonttype": "none",  # text that can be searched and copied
    "pdf.fonttype": 42,
    "svg.hashsalt": "seqbench",
}
LEADING = 1.3  # from one line of text to the next, of its size
GAP = 0.08  # inches between a text and what stands beside it
EDGE = 0.12  # inches around the whole picture
ROW = 0.3  # inches of a row with a name
VALUES = 2.5  # inches of a panel with values on both axes
LONG = 2.4  # inches of the longest name beside a row
FILL, GRID = "#ececec", "#e6e6e6"
DASHES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
LINE_MARKERS = "|_x+1234"  # matplotlib's markers that have no inside


def need_matplotlib(what: str = "--plot") -> None:
    """Refuse to draw where matplotlib is missing.

    Raises:
        UserError: ``what`` needs matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"{what} needs matplotlib: pip install 'seqbench[plot]'")


def draw(chart: Chart, path: Path) -> Path:
    """Draw ``chart`` into ``path`` (.png, .svg or .pdf) and return it. An older file is replaced in one step.

    Raises:
        UserError: another suffix, no matplotlib, or ``path`` can't be written.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path.name} must end in .png, .svg or .pdf.")
    need_matplotlib("a picture")
    import matplotlib  # half a second

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # a user's own settings must not change the picture
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph")  # words in a script that the font lacks
        figure = _figure(chart)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(
                path, lambda file: figure.savefig(file, format=path.suffix[1:], metadata=FORMATS[path.suffix], dpi=120)
            )
        except OSError as error:
            raise UserError(f"{path} can't be written ({error.strerror}): no partial file was left.") from None
    return path


# ---- texts --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _width(text: str, size: float = SMALL) -> float:
    """Inches of one line."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    wide, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return 1.03 * float(wide) / 72


def _widest(texts: Sequence[str], size: float = SMALL) -> float:
    return max((_width(text, size) for text in texts), default=0.0)


def _high(lines: float, size: float = SMALL) -> float:
    """Inches of so many lines."""
    return lines * LEADING * size / 72


def _shortened(text: str, most: float, size: float = SMALL) -> str:
    """The middle left out until it is no wider than ``most`` inches."""
    line = short(text, 300)
    while len(line) > 8 and _width(line, size) > most:
        line = short(line, max(8, min(len(line) - 1, int(len(line) * most / _width(line, size)) + 1)))
    return line


def _wrapped(text: str, most: float, size: float = SMALL) -> list[str]:
    """Lines no wider than ``most`` inches."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        count = max(8, int(2 * most / _width("n", size)))
        while count > 8 and _widest(textwrap.wrap(paragraph, count), size) > most:
            count -= 1 if count < 60 else 3
        lines += textwrap.wrap(paragraph, count)
    return lines


# ---- the layout: what stands around the marks of each panel, and how much room that needs -------------------------


@dataclass
class Box:
    """A panel with all that stands around its marks.

    Attributes:
        xlim, ylim: what its axes show.
        xticks, yticks: places and texts.
        upright: the texts of the x axis stand upright, for want of room.
        title, note, xlabel, ylabel: lines of text.
        left, right, top, bottom: inches around the marks.
        width, height: inches of the marks' own area.
        levels: of the rules on the x axis, whose names stand above the marks: how many lines of names are above.
    """

    panel: Panel
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    yticks: list[tuple[float, str]]
    height: float
    left: float
    right: float
    ylabel: list[str]
    title: Sequence[str] = ()
    note: Sequence[str] = ()
    xlabel: Sequence[str] = ()
    xticks: Sequence[tuple[float, str]] = ()
    upright: bool = False
    levels: Sequence[int] = ()
    top: float = 0.0
    bottom: float = 0.0
    width: float = 0.0

    def place(self, value: float, way: charts.Way) -> float:
        """Where ``value`` stands, from 0 to 1 within the axis."""
        axis, (low, high) = (self.panel.x, self.xlim) if way == "x" else (self.panel.y, self.ylim)
        if axis.scale != "linear":
            value, low, high = (math.log(v) if v > 0 else -math.inf for v in (value, low, high))
        return (value - low) / (high - low)

    @property
    def flexible(self) -> bool:
        """Whether it can be made higher: rows with names would only be farther apart."""
        return not places(self.panel, "y")

    @property
    def below(self) -> float:
        """Inches of the texts below the x axis."""
        texts = [text for _, text in self.xticks]
        return _widest(texts) if self.upright else _high(1 + max((text.count("\n") for text in texts), default=0))


def _box(panel: Panel, column_width: float) -> Box | None:
    """What doesn't depend on its neighbours; None for a panel with nothing to draw."""
    xlim, ylim = charts.limits(panel, "x"), charts.limits(panel, "y")
    if xlim is None or ylim is None:
        return None
    names = places(panel, "y")
    matrix = next((mark for mark in panel.marks if isinstance(mark, Matrix)), None)
    height = panel.weight * (
        VALUES if not names else len(names) * (ROW if not matrix or not matrix.texts else 1.4 * ROW)
    )
    if matrix:
        height = max(height, 1.5)
    sides = [rule for rule in panel.marks if isinstance(rule, Rule) and rule.axis == "y" and rule.name]
    height = max(height, _high(len(sides)), 2 * ROW if names else 1.2)
    ylabel = _wrapped(panel.y.label, max(height, 1.2)) if panel.y.label else []
    if names:
        every = max(1, math.ceil(_high(1) / (height / len(names))))
        most = min(LONG, 0.4 * column_width)
        yticks = [(float(i), _shortened(name, most)) for i, name in enumerate(names) if i % every == 0]
    else:
        yticks = ticks(panel.y, *ylim, max(3, min(7, int(height / 0.3))))
    left = _widest([text for _, text in yticks]) + GAP + (_high(len(ylabel)) + GAP if ylabel else 0)
    right = 0.2
    if sides:
        right = 0.3 + _widest([_rule_name(rule, ylim, 0.3 * column_width) for rule in sides])
    if matrix and _has_scale(matrix):
        right = 0.45 + _widest([text for _, text in _shade_ticks(matrix)]) + (_high(1) + GAP if matrix.label else 0)
    return Box(panel, xlim, ylim, yticks, height, left, right, ylabel)


def _has_scale(matrix: Matrix) -> bool:
    return not matrix.texts or bool(matrix.label)


def _shade_ticks(matrix: Matrix) -> list[tuple[float, str]]:
    return ticks(Axis(), matrix.least, matrix.most, 5)


def _rule_name(rule: Rule, span: tuple[float, float], most: float) -> str:
    low, high = sorted(span)
    arrows = ("← ", "→ ") if rule.axis == "x" else ("↓ ", "↑ ")
    arrow = arrows[0] if rule.at < low else arrows[1] if rule.at > high else ""
    return _shortened(arrow + rule.name, most)


def _complete(box: Box, column_width: float) -> None:
    """What depends on how wide its marks' area is."""
    panel = box.panel
    box.width = column_width - box.left - box.right
    box.title = _wrapped(panel.title, column_width, PANEL_TITLE) if panel.title else []
    box.note = _wrapped(panel.note, column_width) if panel.note else []
    box.xlabel = _wrapped(panel.x.label, min(column_width, box.width + 0.8)) if panel.x.label else []
    names = places(panel, "x")
    box.xticks, box.upright = _named_ticks(names, box.width) if names else _x_ticks(panel.x, box)
    above = [rule for rule in panel.marks if isinstance(rule, Rule) and rule.axis == "x" and rule.name]
    box.levels = _levels(box, above)
    box.bottom = GAP + box.below + _high(len(box.xlabel)) + 2.5 * GAP
    box.top = _high(len(box.title), PANEL_TITLE) + _high(len(box.note)) + _high(max(box.levels, default=-1) + 1) + GAP


def _named_ticks(names: Sequence[str], width: float) -> tuple[list[tuple[float, str]], bool]:
    """Names side by side, in two lines or upright where they are too long, only some where even that is too narrow."""
    room = width / len(names)
    if _widest([short(name) for name in names]) + GAP <= room:
        return [(float(i), short(name)) for i, name in enumerate(names)], False
    broken = [_wrapped(short(name), room - GAP) for name in names]
    if max(map(len, broken)) <= 2 and _widest([line for lines in broken for line in lines]) + GAP <= room:
        return [(float(i), "\n".join(lines)) for i, lines in enumerate(broken)], False
    every = max(1, math.ceil(_high(1) / room))
    return [(float(i), _shortened(name, 1.4)) for i, name in enumerate(names) if i % every == 0], True


def _x_ticks(axis: Axis, box: Box) -> tuple[list[tuple[float, str]], bool]:
    """As many as fit beside each other."""
    for most in range(8, 2, -1):
        found = ticks(axis, *box.xlim, most)
        if axis.ticks is not None:
            found = found[:: max(1, math.ceil(len(found) / most))]
        if _apart([(box.place(value, "x") * box.width, _width(text)) for value, text in found]):
            return found, False
    return found, True


def _apart(texts: Sequence[tuple[float, float]]) -> bool:
    """Whether texts, each with its middle and its width, leave gaps between them."""
    return all(after - before >= (one + other) / 2 + GAP for (before, one), (after, other) in pairwise(sorted(texts)))


def _levels(box: Box, rules: Sequence[Rule]) -> list[int]:
    """In which line above the marks each rule's name stands, such that none overlap; 0 is the lowest."""
    levels: list[int] = []
    taken: list[tuple[int, float, float]] = []
    for rule in rules:
        middle, half = _name_place(box, rule)
        level = 0
        while any(line == level and abs(middle - at) < half + other + GAP for line, at, other in taken):
            level += 1
        levels.append(level)
        taken.append((level, middle, half))
    return levels


def _name_place(box: Box, rule: Rule) -> tuple[float, float]:
    """Middle of the name of a rule on the x axis, in inches from the left of the marks, and half its width."""
    half = _width(_rule_name(rule, box.xlim, box.width)) / 2
    at = min(1.0, max(0.0, box.place(rule.at, "x"))) * box.width
    return min(max(at, half), max(half, box.width - half)), half


def _columns(chart: Chart, width: float) -> tuple[list[list[Box]], list[float], list[str]]:
    """Panels by column, the widths of the columns, and what is said of panels with nothing to draw."""
    columns = [column for column in chart.columns if column]
    shares = chart.widths if len(chart.widths) == len(columns) else [1.0] * len(columns)
    room = width - 2 * EDGE - 2 * EDGE * (len(columns) - 1)
    wide = [room * share / sum(shares) for share in shares]
    boxes = [[(panel, _box(panel, w)) for panel in column] for column, w in zip(columns, wide, strict=True)]
    empty = [panel for column in boxes for panel, box in column if box is None]
    said = [f"Not drawn, without figures: {panel.title}{f' ({panel.note})' if panel.note else ''}." for panel in empty]
    filled = []
    for column, column_width in zip(boxes, wide, strict=True):
        kept = [box for _, box in column if box is not None]
        left, right = max((box.left for box in kept), default=0.0), max((box.right for box in kept), default=0.0)
        for box in kept:
            box.left, box.right = left, right
            _complete(box, column_width)
        filled.append(kept)
    _even_out(filled, chart.aligned)
    return filled, wide, said


def _even_out(columns: Sequence[Sequence[Box]], aligned: bool) -> None:
    """Columns, or the panels that stand side by side, are made equally high."""
    if aligned:
        for i in range(max(map(len, columns), default=0)):
            row = [column[i] for column in columns if i < len(column)]
            for name in ("top", "bottom", "height"):
                most = max(getattr(box, name) for box in row)
                for box in row:
                    setattr(box, name, most)
        return
    highest = max((_total(column) for column in columns), default=0.0)
    for column in columns:
        elastic = [box for box in column if box.flexible]
        spare = highest - _total(column)
        if elastic:
            stretch = 1 + spare / sum(box.height for box in elastic)
            for box in elastic:
                box.height *= stretch
        elif column:
            stretch = min(1.6, 1 + spare / sum(box.height for box in column))
            for box in column:
                box.height *= stretch


def _total(column: Sequence[Box]) -> float:
    return sum(box.top + box.height + box.bottom for box in column)


def _figure(chart: Chart) -> Any:
    from matplotlib.figure import Figure

    width = 5.0 + 3.5 * max(1, len([column for column in chart.columns if column]))
    columns, wide, said = _columns(chart, width)
    head = _wrapped(chart.title, width - 2 * EDGE, TITLE)
    subtitle = _wrapped(chart.subtitle, width - 2 * EDGE, SUBTITLE) if chart.subtitle else []
    notes = [line for note in (*chart.notes, *said) for line in _wrapped(note, width - 2 * EDGE)]
    legend = chart.legend()
    keys, key_columns = _key_rows(list(legend), width - 2 * EDGE)
    above = EDGE + _high(len(head), TITLE) + _high(len(subtitle), SUBTITLE) + GAP
    below = EDGE + _high(len(notes)) + (_high(1.2) * keys + 2 * GAP if keys else 0)
    height = above + max((_total(column) for column in columns), default=0.0) + below
    figure = Figure(figsize=(width, height))
    page = _Page(figure, width, height)
    page.lines(EDGE, EDGE, head, TITLE, DARK)
    page.lines(EDGE, EDGE + _high(len(head), TITLE), subtitle, SUBTITLE, DARK)
    page.lines(EDGE, height - EDGE - _high(len(notes)), notes, SMALL, DARK)
    left = EDGE
    for column, column_width in zip(columns, wide, strict=True):
        top = above
        for box in column:
            _draw_box(page, box, left, top)
            top += box.top + box.height + box.bottom
        left += column_width + 2 * EDGE
    if legend:
        figure.legend(
            handles=[_key(label, marks) for label, marks in legend.items()],
            loc="lower left", bbox_to_anchor=(EDGE / width, (EDGE + _high(len(notes)) + GAP) / height),
            ncols=key_columns, frameon=False, fontsize=SMALL, borderaxespad=0, borderpad=0, labelspacing=0.35,
            columnspacing=1.6, handlelength=2.2, handletextpad=0.7,
        )  # fmt: skip
    return figure


class _Page:
    """A figure that is written on in inches from its upper left corner."""

    def __init__(self, figure: Any, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        edges = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(tuple(round(edge, 6) for edge in edges))

    def text(self, left: float, top: float, text: str, size: float = SMALL, **style: Any) -> None:
        style = {"color": DARK, "va": "top", **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, fontsize=size, **style)

    def lines(self, left: float, top: float, lines: Sequence[str], size: float, colour: str) -> None:
        for i, line in enumerate(lines):
            self.text(left, top + _high(i, size), line, size, color=colour)


def _key_rows(labels: Sequence[str], room: float) -> tuple[int, int]:
    """Rows and columns of a legend that is as wide as ``room`` allows."""
    for columns in range(len(labels), 0, -1):
        fewer, rest = divmod(len(labels), columns)  # the first `rest` columns hold one label more
        starts = [i * fewer + min(i, rest) for i in range(columns + 1)]
        widths = [0.6 + _widest(labels[start:end]) for start, end in pairwise(starts)]
        if sum(widths) <= room or columns == 1:
            return math.ceil(len(labels) / columns), columns
    return 0, 1


def _key(label: str, marks: Sequence[Mark]) -> Any:
    """The legend's entry of all marks that bear ``label``."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    first = marks[0]
    if isinstance(first, Region):
        return Patch(facecolor=FILL, edgecolor=GREY, linewidth=0.6, label=label)
    if isinstance(first, Bars):
        return Patch(color=first.look.colour, label=label)
    style: dict[str, Any] = {"linestyle": "none"}
    for mark in marks:
        if isinstance(mark, Line):
            style |= _line_style(mark)
            style |= _marker_style(mark.look, 4.5) if mark.marked else {}
    for mark in marks:
        if isinstance(mark, Points):
            style |= _points_style(mark)
            style |= (
                {"linestyle": "-", "linewidth": 1.3} if mark.low is not None and style["linestyle"] == "none" else {}
            )
    return Line2D([], [], label=label, **style)


# ---- marks --------------------------------------------------------------------------------------------------------


def _draw_box(page: _Page, box: Box, left: float, top: float) -> None:
    """All of a panel whose upper left corner is at ``left`` and ``top``."""
    panel = box.panel
    page.lines(left, top, box.title, PANEL_TITLE, DARK)
    page.lines(left, top + _high(len(box.title), PANEL_TITLE), box.note, SMALL, GREY)
    at_left, at_top = left + box.left, top + box.top
    axes = page.axes(at_left, at_top, box.width, box.height)
    for way, axis in (("x", panel.x), ("y", panel.y)):
        if axis.scale != "linear":
            getattr(axes, f"set_{way}scale")("log", base=2 if axis.scale == "log2" else 10)
    axes.set(xlim=box.xlim, ylim=box.ylim)
    _draw_ticks(axes, box)
    sizes = _sizes(box)
    bars = [mark for mark in panel.marks if isinstance(mark, Bars)]
    for i, mark in enumerate(panel.marks):
        if isinstance(mark, Points):
            _draw_points(axes, box, mark, sizes.get(i, []))
        elif isinstance(mark, Line):
            _draw_line(axes, box, mark)
        elif isinstance(mark, Rule):
            _draw_rule(axes, box, mark)
        elif isinstance(mark, Region):
            _draw_region(axes, box, mark)
        elif isinstance(mark, Bars):
            _draw_bars(axes, mark, bars.index(mark), len(bars))
        else:
            _draw_matrix(page, axes, box, mark, at_left, at_top)
    axes.set(xlim=box.xlim, ylim=box.ylim)
    _name_rules(page, box, at_left, at_top)
    for i, line in enumerate(box.xlabel):
        page.text(at_left + box.width / 2, at_top + box.height + GAP + box.below + _high(i) + 0.02, line, ha="center")
    beside = at_left - _widest([text for _, text in box.yticks]) - 2 * GAP - _high(len(box.ylabel))
    for i, line in enumerate(box.ylabel):
        page.text(beside + _high(i), at_top + box.height / 2, line, ha="left", va="center", rotation=90)


def _draw_ticks(axes: Any, box: Box) -> None:
    panel = box.panel
    axes.set_xticks([value for value, _ in box.xticks], [text for _, text in box.xticks])
    axes.set_yticks([value for value, _ in box.yticks], [text for _, text in box.yticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks([], minor=True)
    for way in ("x", "y"):
        named = bool(places(panel, "x" if way == "x" else "y"))
        axes.tick_params(axis=way, labelsize=SMALL, labelcolor=DARK, color=GREY, pad=3, length=0 if named else 3)
        if not named:
            axes.grid(axis=way, color=GRID, linewidth=0.6, zorder=0)
    if box.upright:
        axes.tick_params(axis="x", rotation=90)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    faded = set(panel.faded)
    for label, (place, _) in zip(axes.get_yticklabels(), box.yticks, strict=True):
        if faded and panel.rows[int(place)] in faded:
            label.set_color(GREY)


def _marker_style(look: Look, size: float, *, marker: str | None = None, hollow: bool = False) -> dict[str, Any]:
    shape = marker or look.marker
    bare = shape in LINE_MARKERS
    return {
        "marker": shape,
        "markersize": 2 * size if bare and shape in "|_" else size,
        "markeredgewidth": 2.0 if bare else 1.1,
        "markeredgecolor": look.colour,
        "markerfacecolor": "white" if hollow else look.colour,
        "color": look.colour,
    }


def _points_style(mark: Points, size: float | None = None) -> dict[str, Any]:
    size = size or (3.6 if mark.small else 6.5)
    return _marker_style(mark.look, size, marker=mark.marker, hollow=mark.hollow or mark.small) | (
        {"markeredgewidth": 0.8} if mark.small else {}
    )


def _line_style(mark: Line) -> dict[str, Any]:
    return {
        "linestyle": DASHES[mark.dash],
        "linewidth": 0.8 if mark.faint else 1.5,
        "color": pale(mark.look.colour) if mark.faint else mark.look.colour,
    }


def _sizes(box: Box) -> dict[int, list[float]]:
    """Of each mark the sizes of its points: one that would hide another is drawn smaller, on top of it."""
    sizes: dict[int, list[float]] = {}
    taken: list[tuple[float, float]] = []
    for i, mark in enumerate(box.panel.marks):
        if not isinstance(mark, Points) or mark.small:
            continue
        for x, y in zip(mark.x, mark.y, strict=True):
            at = (math.nan, math.nan)
            if drawable(x, box.panel.x.scale) and drawable(y, box.panel.y.scale):
                at = box.place(x, "x") * box.width, box.place(y, "y") * box.height
            hidden = sum(math.dist(at, other) < 0.06 for other in taken)
            taken.append(at)
            sizes.setdefault(i, []).append(max(2.5, 6.5 - 2 * hidden))
    return sizes


def _draw_points(axes: Any, box: Box, mark: Points, sizes: Sequence[float]) -> None:
    """Those beyond the edge, and intervals that go on beyond it, are shown by an arrow at the edge."""
    scales = box.panel.x.scale, box.panel.y.scale
    plain: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(zip(mark.x, mark.y, strict=True)):
        if not (drawable(x, scales[0]) and drawable(y, scales[1])):
            continue
        across, up = box.place(x, "x"), box.place(y, "y")
        if mark.low is not None and mark.high is not None:
            _draw_interval(axes, box, mark, i)
        if not (-1e-9 <= across <= 1 + 1e-9 and -1e-9 <= up <= 1 + 1e-9):
            arrow = "<" if across < 0 else ">" if across > 1 else "v" if up < 0 else "^"
            at = min(1.0, max(0.0, across)), min(1.0, max(0.0, up))
            axes.plot(*at, transform=axes.transAxes, clip_on=False, zorder=4,
                      **_marker_style(mark.look, 4.5, marker=arrow))  # fmt: skip
        elif mark.small:
            plain.append((x, y))
        else:
            axes.plot([x], [y], linestyle="none", zorder=4, clip_on=False, **_points_style(mark, sizes[i]))
    if plain:
        style = _points_style(mark)
        axes.plot(*zip(*plain, strict=True), linestyle="none", zorder=3, clip_on=False, **style)


def _draw_interval(axes: Any, box: Box, mark: Points, i: int) -> None:
    assert mark.low is not None and mark.high is not None
    along_x = mark.along == "x"
    edges = sorted(box.xlim if along_x else box.ylim)
    middle, beside = (mark.x[i], mark.y[i]) if along_x else (mark.y[i], mark.x[i])
    style = {"color": mark.look.colour, "zorder": 3, "markersize": 5, "markeredgewidth": 1.1, "solid_capstyle": "butt"}
    for end, side in ((mark.low[i], 0), (mark.high[i], 1)):
        if math.isnan(end):
            continue
        cut = min(max(end, edges[0]), edges[1])
        start = min(max(middle, edges[0]), edges[1])
        if start == cut == end:
            continue
        ends = ([start, cut], [beside, beside]) if along_x else ([beside, beside], [start, cut])
        cap = ("|" if along_x else "_") if cut == end else "<>"[side] if along_x else "v^"[side]
        axes.plot(*ends, linewidth=1.3, marker=cap, markevery=[1], clip_on=False, **style)


def _draw_line(axes: Any, box: Box, mark: Line) -> None:
    scale = box.panel.y.scale
    points = [
        (x, y if drawable(y, scale) else math.nan)
        for x, y in zip(mark.x, mark.y, strict=True)
        if drawable(x, box.panel.x.scale)
    ]
    if mark.low is not None and mark.high is not None:
        rows = [
            (x, max(low, min(box.ylim)), min(high, max(box.ylim)))
            for x, low, high in zip(mark.x, mark.low, mark.high, strict=True)
        ]
        axes.fill_between(*zip(*rows, strict=True), color=mark.look.colour, alpha=0.16, linewidth=0, zorder=1,
                          step="post" if mark.steps else None)  # fmt: skip
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    style = _line_style(mark) | (_marker_style(mark.look, 4.5) if mark.marked else {})
    alone = [i for i in range(len(ys)) if all(math.isnan(y) for y in (*ys[max(0, i - 1) : i], *ys[i + 1 : i + 2]))]
    if alone and not mark.marked:  # a point between gaps would not be seen
        style |= {"marker": ".", "markevery": alone}
    axes.plot(xs, ys, drawstyle="steps-post" if mark.steps else "default", zorder=2 if mark.faint else 2.5, **style)


def _draw_rule(axes: Any, box: Box, rule: Rule) -> None:
    scale = box.panel.x.scale if rule.axis == "x" else box.panel.y.scale
    if not drawable(rule.at, scale) or not 0 <= box.place(rule.at, rule.axis) <= 1:
        return
    style: dict[str, Any] = {"color": DARK, "linewidth": 1.1} if rule.strong else {"color": GREY, "linewidth": 1.0}
    line = axes.axvline if rule.axis == "x" else axes.axhline
    line(rule.at, linestyle="-" if rule.strong else ":", zorder=1.5, **style)


def _name_rules(page: _Page, box: Box, left: float, top: float) -> None:
    """Names to the right of the marks, moved apart, and above them, in lines."""
    named = [mark for mark in box.panel.marks if isinstance(mark, Rule) and mark.name]
    named = [rule for rule in named if not math.isnan(rule.at)]
    sides = sorted((rule for rule in named if rule.axis == "y"), key=lambda rule: box.place(rule.at, "y"))
    places_ = [box.place(rule.at, "y") for rule in sides]
    shown = _spread([min(1.0, max(0.0, place)) for place in places_], _high(1) / box.height)
    for rule, place, at in zip(sides, places_, shown, strict=True):
        colour = DARK if rule.strong else GREY
        middle = top + (1 - at) * box.height
        page.text(left + box.width + 0.2, middle, _rule_name(rule, box.ylim, box.right - 0.3 + 0.02), va="center",
                  color=colour)  # fmt: skip
        if 0 <= place <= 1:
            _leader(page, left + box.width, top + (1 - place) * box.height, middle, colour)
    above = [rule for rule in named if rule.axis == "x"]
    for rule, level in zip(above, box.levels, strict=False):
        at, _ = _name_place(box, rule)
        page.text(left + at, top - 0.02 - _high(level), _rule_name(rule, box.xlim, box.width), va="bottom", ha="center",
                  color=DARK if rule.strong else GREY)  # fmt: skip


def _leader(page: _Page, left: float, from_top: float, to_top: float, colour: str) -> None:
    from matplotlib.lines import Line2D

    xs = [left / page.width, (left + 0.17) / page.width]
    ys = [1 - from_top / page.height, 1 - to_top / page.height]
    page.figure.add_artist(Line2D(xs, ys, color=colour, linewidth=0.7))


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved as little as keeps them ``gap`` apart, within 0 and 1 if they fit."""
    moved = list(wanted)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    limit = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def _draw_region(axes: Any, box: Box, region: Region) -> None:
    from matplotlib.patches import Rectangle

    edges = sorted(box.xlim if region.axis == "x" else box.ylim)
    low, high = (min(max(end, edges[0]), edges[1]) for end in (region.low, region.high))
    other = sorted(box.ylim if region.axis == "x" else box.xlim)
    first, last = region.rows or other
    corner, size = (low, first), (high - low, last - first)
    if region.axis == "y":
        corner, size = corner[::-1], size[::-1]
    axes.add_patch(Rectangle(corner, *size, facecolor=FILL, linewidth=0, zorder=0.5))
    for end in (region.low, region.high):
        if edges[0] <= end <= edges[1]:
            ends = ([end, end], [first, last]) if region.axis == "x" else ([first, last], [end, end])
            axes.plot(*ends, color=GREY, linewidth=0.6, zorder=0.6)


def _draw_bars(axes: Any, mark: Bars, place: int, count: int) -> None:
    thick = 0.8 / count
    at = [i + thick * (place - (count - 1) / 2) for i in range(len(mark.heights))]
    heights = [height if drawable(height) else 0.0 for height in mark.heights]
    (axes.barh if mark.across else axes.bar)(at, heights, thick, color=mark.look.colour, zorder=2)


def _draw_matrix(page: _Page, axes: Any, box: Box, mark: Matrix, left: float, top: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    ends = ("#0072b2", "#ffffff", "#d55e00") if mark.diverging else ("#ffffff", "#2a84b8", "#08306b")
    shades = LinearSegmentedColormap.from_list("shades", ends).with_extremes(bad="#dddddd")
    style: dict[str, Any] = {"cmap": shades, "vmin": mark.least, "vmax": mark.most, "interpolation": "nearest"}
    image = axes.imshow(mark.values, aspect="auto", **style)
    if mark.texts is not None:
        high, wide = box.height / len(mark.rows), box.width / len(mark.columns)
        lines = [text.split("\n") for row in mark.texts for text in row]
        if max(map(_widest, lines)) <= wide and _high(max(map(len, lines))) <= high:
            for i, row in enumerate(mark.texts):
                for j, text in enumerate(row):
                    back = _hex(image.to_rgba(mark.values[i][j]))
                    colour = max((DARK, "#ffffff"), key=lambda colour, back=back: contrast(colour, back))  # type: ignore[misc]
                    axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    if _has_scale(mark):
        scale = page.axes(left + box.width + 0.15, top, 0.14, box.height)
        steps = [[mark.least + (mark.most - mark.least) * i / 255] for i in range(256)]
        scale.imshow(steps, aspect="auto", origin="lower", extent=(0, 1, mark.least, mark.most), **style)
        scale.set_xticks([])
        for spine in scale.spines.values():
            spine.set_visible(False)
        scale.set_yticks(*zip(*_shade_ticks(mark), strict=True))
        scale.tick_params(axis="y", labelsize=SMALL, labelcolor=DARK, left=False, labelleft=False, right=True,
                          labelright=True, color=GREY, pad=3, length=3)  # fmt: skip
        if mark.label:
            at = left + box.width + box.right - _high(1)
            page.text(at, top + box.height / 2, mark.label, ha="left", va="center", rotation=90)


def _hex(rgba: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * float(channel)):02x}" for channel in rgba[:3])

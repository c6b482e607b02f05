"""Draws a `Chart` with matplotlib into a file. This is the only module that imports matplotlib, which is optional.

Colours, markers and what an axis shows are decided in `report.chart`, where its ticks stand in `report.ticks`. All
sizes here are in inches and follow from the texts, which are measured: nothing overlaps, no text is below 9 points, and
the same chart gives the same file byte for byte with the same matplotlib.
"""

from __future__ import annotations

import importlib.util
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.report.chart import (
    DARK,
    GREY,
    Bars,
    Chart,
    Line,
    Look,
    Matrix,
    Panel,
    Points,
    Region,
    Rule,
    Way,
    contrast,
    drawable,
    limits,
    places,
    scaling,
)
from seqbench.report.text import short
from seqbench.report.ticks import ticks

__all__ = ["draw", "need_matplotlib"]

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
SMALL, MEDIUM, LARGE = 9.0, 10.0, 13.0  # points
STYLE: Any = {
    "font.size": SMALL,
    "text.parse_math": False,  # a record's words are no formulas
    "svg.fonttype": "none",  # text that can be searched and copied
    "pdf.fonttype": 42,
    "svg.hashsalt": "seqbench",
    "axes.unicode_minus": False,
    "text.color": DARK,
    "axes.labelcolor": DARK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "legend.labelspacing": 0.35,
    "legend.columnspacing": 1.6,
    "legend.handlelength": 2.2,
    "legend.handletextpad": 0.7,
}
LEADING = 1.3  # from one line of text to the next, of its size
GAP = 0.08  # inches between a text and what stands beside it
EDGE = 0.12  # inches around the whole picture
ASIDE = 0.2  # inches from a panel's marks to what is written to the right of them
ROW = 0.3  # inches of a row with a name
VALUES = 2.5  # inches of a panel with values on both axes
LONG = 2.4  # inches of the longest name beside a row
SCALE = 1.0  # inches of a matrix's scale with its ticks and label
FILL = "#ececec"
DASHES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
BARE = "|_x"  # markers that have no inside


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
    """Inches of the longest line."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    lines = (text_to_path.get_text_width_height_descent(line, font, ismath=False) for line in text.split("\n"))
    return 1.03 * max(float(wide) for wide, _, _ in lines) / 72


def _height(text: str, size: float = SMALL) -> float:
    """Inches of all lines."""
    return (text.count("\n") + 1) * LEADING * size / 72 if text else 0.0


LINE = _height("a line")


def _shortened(text: str, most: float) -> str:
    """The middle left out until it is no wider than ``most`` inches."""
    line = short(text, 300)
    while len(line) > 8 and _width(line) > most:
        line = short(line, max(8, min(len(line) - 1, int(len(line) * most / _width(line)) + 1)))
    return line


def _wrapped(text: str, most: float, size: float = SMALL) -> str:
    """Lines no wider than ``most`` inches."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        count = max(8, int(2 * most / _width("n", size)))
        while count > 8 and _width(textwrap.fill(paragraph, count), size) > most:
            count -= 1 if count < 60 else 3
        lines += textwrap.wrap(paragraph, count)
    return "\n".join(lines)


# ---- the layout: what stands around the marks of each panel, and how much room that needs -------------------------


@dataclass
class Box:
    """A panel with all that stands around its marks.

    Attributes:
        xlim, ylim: what its axes show.
        xticks, yticks: places and texts.
        upright: the texts of the x axis stand upright, for want of room.
        title, note, xlabel, ylabel: texts in lines.
        above: names of the rules on the x axis, each in a line of its own above the marks; sides: of those on the y
            axis, to the right of the marks.
        width, height: inches of the marks' own area; left, right, top, bottom: inches around it.
        taken: places in inches of the points that have been drawn.
    """

    panel: Panel
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    yticks: list[tuple[float, str]]
    ylabel: str
    sides: list[tuple[Rule, str]]
    height: float
    left: float
    right: float
    width: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    title: str = ""
    note: str = ""
    xlabel: str = ""
    xticks: Sequence[tuple[float, str]] = ()
    upright: bool = False
    above: Sequence[tuple[Rule, str]] = ()
    taken: list[tuple[float, float]] = field(default_factory=list)

    def place(self, value: float, way: Way) -> float:
        """Where ``value`` stands, from 0 to 1 within the axis; beyond it, at its edge."""
        axis, span = (self.panel.x, self.xlim) if way == "x" else (self.panel.y, self.ylim)
        forth, _ = scaling(axis.scale)
        low, high = map(forth, span)
        return (forth(min(max(value, min(span)), max(span))) - low) / (high - low)

    @property
    def total(self) -> float:
        """Inches from the title to the label of the x axis."""
        return self.top + self.height + self.bottom


def _box(panel: Panel, column_width: float) -> Box | None:
    """What doesn't depend on its neighbours; None for a panel with nothing to draw."""
    xlim, ylim = limits(panel, "x"), limits(panel, "y")
    if xlim is None or ylim is None:
        return None
    names = places(panel, "y")
    matrix = next((mark for mark in panel.marks if isinstance(mark, Matrix)), None)
    sides = _rule_names(panel, "y", ylim, 0.3 * column_width)
    row = ROW * (1.4 if matrix and matrix.texts else 1.0)
    height = panel.weight * (len(names) * row if names else VALUES)
    height = max(height, LINE * len(sides), 1.5 if matrix else 2 * ROW if names else 1.2)
    ylabel = _wrapped(panel.y.label, max(height, 1.2))
    if names:
        every, most = math.ceil(LINE * len(names) / height), min(LONG, 0.4 * column_width)
        yticks = [(float(i), _shortened(names[i], most)) for i in range(0, len(names), every)]
    else:
        yticks = ticks(panel.y, *ylim, max(3, min(7, int(height / 0.3))))
    left = max(_width(text) for _, text in yticks) + GAP + (_height(ylabel) + GAP if ylabel else 0)
    right = SCALE if matrix else ASIDE + max((0.1 + _width(name) for _, name in sides), default=0.0)
    return Box(panel, xlim, ylim, yticks, ylabel, sides, height, left, right)


def _rule_names(panel: Panel, way: Way, span: tuple[float, float], most: float) -> list[tuple[Rule, str]]:
    """The named rules on an axis, with their names; an arrow tells where one lies that is beyond the axis."""
    rules = [rule for rule in panel.marks if isinstance(rule, Rule) and rule.axis == way and rule.name]
    back, forth = ("← ", "→ ") if way == "x" else ("↓ ", "↑ ")
    arrows = [back if rule.at < min(span) else forth if rule.at > max(span) else "" for rule in rules]
    named = [(rule, _shortened(arrow + rule.name, most)) for rule, arrow in zip(rules, arrows, strict=True)]
    return [(rule, name) for rule, name in named if not math.isnan(rule.at)]


def _fit(box: Box, column_width: float, left: float, right: float) -> None:
    """What depends on how wide its marks' area is."""
    panel = box.panel
    box.left, box.right, box.width = left, right, column_width - left - right
    box.title, box.note = _wrapped(panel.title, column_width, MEDIUM), _wrapped(panel.note, column_width)
    box.xlabel = _wrapped(panel.x.label, min(column_width, box.width + 0.8))
    box.xticks, box.upright = _x_ticks(box)
    box.above = _rule_names(panel, "x", box.xlim, 0.6 * box.width)
    texts = max(_width(text) for _, text in box.xticks) if box.upright else LINE
    box.bottom = GAP + texts + _height(box.xlabel) + 2.5 * GAP
    box.top = _height(box.title, MEDIUM) + _height(box.note) + LINE * len(box.above) + GAP


def _x_ticks(box: Box) -> tuple[list[tuple[float, str]], bool]:
    """As many as fit beside each other; upright where that is too few, as for long names."""
    names, axis = places(box.panel, "x"), box.panel.x
    for most in (len(names),) if names else range(8, 2, -1):
        shown = [(float(i), short(name)) for i, name in enumerate(names)] or ticks(axis, *box.xlim, most)
        shown = shown[:: math.ceil(len(shown) / most)] if axis.ticks else shown
        at = [box.place(value, "x") * box.width for value, _ in shown]
        wide = [_width(text) for _, text in shown]
        if all(at[i + 1] - at[i] >= (wide[i] + wide[i + 1]) / 2 + GAP for i in range(len(at) - 1)):
            return shown, False
    every = math.ceil(LINE * len(names) / box.width) if names else 1
    return [(value, _shortened(text, 1.4)) for value, text in shown[::every]], True


def _columns(chart: Chart, column_width: float) -> tuple[list[list[Box]], list[str]]:
    """Panels by column, and what is said of those with nothing to draw."""
    columns, said = [], []
    for column in chart.columns:
        boxes = [(panel, _box(panel, column_width)) for panel in column]
        said += [
            f"Not drawn, without figures: {panel.title}{f' ({panel.note})' if panel.note else ''}."
            for panel, box in boxes
            if box is None
        ]
        filled = [box for _, box in boxes if box is not None]
        for box in filled:
            _fit(box, column_width, max(box.left for box in filled), max(box.right for box in filled))
        columns.append(filled)
    _even_out(columns, chart.aligned)
    return columns, said


def _even_out(columns: Sequence[Sequence[Box]], aligned: bool) -> None:
    """Columns, or the panels that stand side by side, are made equally high."""
    if aligned:
        for row in zip_longest(*columns):
            boxes = [box for box in row if box is not None]
            for box in boxes:
                box.top, box.bottom = max(each.top for each in boxes), max(each.bottom for each in boxes)
                box.height = max(each.height for each in boxes)
        return
    totals = [sum(box.total for box in column) for column in columns]
    for column, total in zip(columns, totals, strict=True):
        elastic = [box for box in column if not places(box.panel, "y")]
        most = math.inf if elastic else 1.6  # names would only be farther apart
        stretch = 1 + (max(totals) - total) / max(1.0, sum(box.height for box in elastic or column))
        for box in elastic or column:
            box.height *= min(most, stretch)


def _figure(chart: Chart) -> Any:
    from matplotlib.figure import Figure

    count = max(1, sum(map(bool, chart.columns)))
    width = 5.0 + 3.5 * count
    room = width - 2 * EDGE
    columns, said = _columns(chart, width / count - 2 * EDGE)
    title, subtitle = _wrapped(chart.title, room, LARGE), _wrapped(chart.subtitle, room, MEDIUM)
    notes = "\n".join(_wrapped(note, room) for note in (*chart.notes, *said))
    above = EDGE + _height(title, LARGE) + _height(subtitle, MEDIUM) + GAP
    labels = list(chart.legend())
    widths = [0.65 + _width(label) for label in labels]
    keys = len(labels) if sum(widths) <= room else max(1, int(room / max(widths)))  # columns of the legend
    below = EDGE + _height(notes) + (1.2 * LINE * math.ceil(len(labels) / keys) + 2 * GAP if labels else 0)
    height = above + max((sum(box.total for box in column) for column in columns), default=0.0) + below
    figure: Any = Figure(figsize=(width, height))
    _write(figure, EDGE, EDGE, title, LARGE)
    _write(figure, EDGE, EDGE + _height(title, LARGE), subtitle, MEDIUM)
    _write(figure, EDGE, height - EDGE - _height(notes), notes)
    handles: dict[str, dict[type, Any]] = {label: {} for label in labels}  # by kind of mark
    for i, column in enumerate(column for column in columns if column):
        top = above
        for box in column:
            _draw_box(figure, box, EDGE + i * width / count, top, handles)
            top += box.total
    shown = {label: tuple(parts.values()) for label, parts in handles.items() if parts}
    if shown:
        corner = EDGE / width, (EDGE + _height(notes) + GAP) / height
        figure.legend(list(shown.values()), list(shown), ncols=keys, loc="lower left", bbox_to_anchor=corner)
    return figure


def _write(figure: Any, left: float, top: float, text: str, size: float = SMALL, colour: str = DARK) -> None:
    """Lines of text whose upper left corner is at so many inches."""
    width, height = figure.get_size_inches()
    if text:
        style: dict[str, Any] = {"fontsize": size, "color": colour, "va": "top", "linespacing": 1.3}
        figure.text(left / width, 1 - top / height, text, **style)


# ---- marks --------------------------------------------------------------------------------------------------------


def _draw_box(figure: Any, box: Box, left: float, top: float, handles: dict[str, dict[type, Any]]) -> None:
    """All of a panel whose upper left corner is at ``left`` and ``top``; adds to the ``handles`` of the legend."""
    panel, (width, height) = box.panel, figure.get_size_inches()
    _write(figure, left, top, box.title, MEDIUM)
    _write(figure, left, top + _height(box.title, MEDIUM), box.note, colour=GREY)
    bottom = height - top - box.top - box.height
    edges = (left + box.left) / width, bottom / height, box.width / width, box.height / height
    axes = figure.add_axes(tuple(round(edge, 6) for edge in edges))
    _draw_axes(axes, box)
    for mark in panel.marks:
        handle = DRAWERS[type(mark)](axes, box, mark)
        if handle is not None:
            handles.get(mark.label, {}).setdefault(type(mark), handle)  # type: ignore[union-attr]
    _name_rules(axes, box)


def _draw_axes(axes: Any, box: Box) -> None:
    """Scales, ticks and labels."""
    axes.set(xlabel=box.xlabel, ylabel=box.ylabel)
    for way, scale, span, shown, named in (
        ("x", box.panel.x.scale, box.xlim, box.xticks, places(box.panel, "x")),
        ("y", box.panel.y.scale, box.ylim, box.yticks, places(box.panel, "y")),
    ):
        values, texts = zip(*shown, strict=True)
        axes.set(**{f"{way}scale": "linear" if scale == "linear" else "log", f"{way}lim": span})
        axes.set(**{f"{way}ticks": values, f"{way}ticklabels": texts})
        if named:
            axes.tick_params(axis=way, length=0)
        else:
            axes.grid(axis=way)
    axes.minorticks_off()
    axes.tick_params(axis="x", rotation=90 if box.upright else 0)
    for label, (place, _) in zip(axes.get_yticklabels(), box.yticks, strict=True):
        if box.panel.faded and box.panel.rows[int(place)] in box.panel.faded:
            label.set_color(GREY)


def _marker(look: Look, size: float, shape: str = "", *, hollow: bool = False) -> dict[str, Any]:
    shape = shape or look.marker
    return {
        "marker": shape,
        "markersize": 2 * size if shape in "|_" else size,
        "markeredgewidth": 2.0 if shape in BARE else 0.8 if size < 4 else 1.1,
        "markeredgecolor": look.colour,
        "markerfacecolor": "white" if hollow else look.colour,
        "color": look.colour,
    }


def _draw_points(axes: Any, box: Box, mark: Points) -> Any:
    """Those beyond the edge are shown by an arrow at the edge; one that would hide another is smaller, on top of it."""
    from matplotlib.lines import Line2D

    scales = box.panel.x.scale, box.panel.y.scale
    shown = [i for i, x in enumerate(mark.x) if drawable(x, scales[0]) and drawable(mark.y[i], scales[1])]
    if mark.low is not None and mark.high is not None:
        _draw_intervals(axes, mark, shown)
    groups: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for i in shown:
        x, y = mark.x[i], mark.y[i]
        at = box.place(x, "x"), box.place(y, "y")
        shape, size = mark.marker or mark.look.marker, 3.6
        for value, span, arrows in ((x, box.xlim, "<>"), (y, box.ylim, "v^")):
            shape = arrows[0] if value < min(span) else arrows[1] if value > max(span) else shape
        if not mark.small:
            inches = at[0] * box.width, at[1] * box.height
            size = max(2.5, 6.5 - 2 * sum(math.dist(inches, other) < 0.06 for other in box.taken))
            box.taken.append(inches)
        groups.setdefault((shape, size), []).append(at)
    style: dict[str, Any] = {"linestyle": "none", "clip_on": False, "zorder": 3 if mark.small else 4}
    style["transform"] = axes.transAxes
    hollow = mark.hollow or mark.small
    for (shape, size), at_all in groups.items():
        axes.plot(*zip(*at_all, strict=True), **style, **_marker(mark.look, size, shape, hollow=hollow))
    marker = _marker(mark.look, 3.6 if mark.small else 6.5, mark.marker or "", hollow=hollow)
    return Line2D([], [], linestyle="none" if mark.low is None else "-", linewidth=1.3, **marker)


def _draw_intervals(axes: Any, mark: Points, shown: Sequence[int]) -> None:
    """Lines to both ends; one that goes on beyond the edge of the panel has an arrow there."""
    along_x = mark.along == "x"
    edges = sorted(axes.get_xlim() if along_x else axes.get_ylim())
    values, beside = (_array(part)[shown] for part in ((mark.x, mark.y) if along_x else (mark.y, mark.x)))
    starts = np.clip(values, edges[0], edges[1])
    style: dict[str, Any] = {"color": mark.look.colour, "zorder": 3, "clip_on": False}
    for part, arrow in zip((mark.low, mark.high), "<>" if along_x else "v^", strict=True):
        ends = _array(part)[shown]
        cut = np.clip(ends, edges[0], edges[1])
        (axes.hlines if along_x else axes.vlines)(beside, starts, cut, linewidth=1.3, **style)
        within = cut == ends
        for cap, at in (("|" if along_x else "_", within & (cut != starts)), (arrow, ~within & ~np.isnan(ends))):
            ways = (cut[at], beside[at]) if along_x else (beside[at], cut[at])
            axes.plot(*ways, linestyle="none", marker=cap, markersize=5, markeredgewidth=1.1, **style)


def _array(values: Sequence[float] | None) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=float)


def _draw_line(axes: Any, box: Box, mark: Line) -> Any:
    shown = [drawable(x, box.panel.x.scale) for x in mark.x]
    xs = _array(mark.x)[shown]
    ys = np.array([y if drawable(y, box.panel.y.scale) else math.nan for y in mark.y], dtype=float)[shown]
    if mark.low is not None and mark.high is not None:
        low, high = (np.clip(_array(ends)[shown], min(box.ylim), max(box.ylim)) for ends in (mark.low, mark.high))
        axes.fill_between(xs, low, high, color=mark.look.colour, alpha=0.16, linewidth=0, zorder=1)
    style: dict[str, Any] = {
        "linestyle": DASHES[mark.dash],
        "linewidth": 0.8 if mark.faint else 1.5,
        "color": mark.look.colour,
        "drawstyle": "steps-post" if mark.steps else "default",
    }
    seen = np.pad(np.isfinite(ys), 1)
    alone = seen[1:-1] & ~seen[:-2] & ~seen[2:]
    if mark.marked:
        style |= _marker(mark.look, 4.5)
    elif alone.any():  # points between gaps would not be seen
        axes.plot(xs[alone], ys[alone], ".", color=mark.look.colour)
    return axes.plot(xs, ys, zorder=2 if mark.faint else 2.5, **style)[0]


def _draw_rule(axes: Any, box: Box, rule: Rule) -> None:
    if drawable(rule.at, (box.panel.x if rule.axis == "x" else box.panel.y).scale):
        style: dict[str, Any] = {"color": DARK, "linewidth": 1.1} if rule.strong else {"color": GREY, "linewidth": 1.0}
        line = axes.axvline if rule.axis == "x" else axes.axhline
        line(rule.at, linestyle="-" if rule.strong else ":", zorder=1.5, **style)


def _name_rules(axes: Any, box: Box) -> None:
    """Names to the right of the marks, moved apart, and above them, in lines."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": SMALL}
    for i, (rule, name) in enumerate(box.above):
        at = box.place(rule.at, "x")
        side = "left" if at < 1 / 3 else "right" if at > 2 / 3 else "center"
        axes.annotate(name, (at, 1), (0, 2 + 72 * LINE * i), ha=side, color=DARK if rule.strong else GREY, **style)
    sides = sorted((box.place(rule.at, "y"), name, DARK if rule.strong else GREY) for rule, name in box.sides)
    shown = _spread([at for at, _, _ in sides], LINE / box.height)
    for (at, name, colour), moved in zip(sides, shown, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
        beside = 72 * ASIDE, 72 * (moved - at) * box.height
        axes.annotate(name, (1, at), beside, va="center", color=colour, arrowprops=leader, **style)


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


def _draw_region(axes: Any, box: Box, region: Region) -> Any:
    from matplotlib.patches import Patch

    low, high = np.clip((region.low, region.high), *box.xlim)
    rows = region.rows or box.ylim
    axes.fill_betweenx(rows, low, high, color=FILL, linewidth=0, zorder=0.5)
    ends = [end for end in (region.low, region.high) if low <= end <= high]
    axes.vlines(ends, *rows, color=GREY, linewidth=0.6, zorder=0.6)
    return Patch(facecolor=FILL, edgecolor=GREY, linewidth=0.6)


def _draw_bars(axes: Any, box: Box, mark: Bars) -> Any:
    beside = [each for each in box.panel.marks if isinstance(each, Bars)]
    thick = 0.8 / len(beside)
    at = [i + thick * (beside.index(mark) - (len(beside) - 1) / 2) for i in range(len(mark.heights))]
    heights = [height if drawable(height) else 0.0 for height in mark.heights]
    return axes.bar(at, heights, thick, color=mark.look.colour, zorder=2)


def _draw_matrix(axes: Any, box: Box, mark: Matrix) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ends = ("#0072b2", "#ffffff", "#d55e00") if mark.least < 0 else ("#ffffff", "#2a84b8", "#08306b")
    shades = LinearSegmentedColormap.from_list("shades", ends).with_extremes(bad="#dddddd")
    style: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(mark.values, cmap=shades, vmin=mark.least, vmax=mark.most, **style)
    texts = [text for row in mark.texts for text in row]
    wide, high = box.width / len(mark.columns), box.height / len(mark.rows)
    if all(_width(text) <= wide and _height(text) <= high for text in texts):
        for i, row in enumerate(mark.texts):
            for j, text in enumerate(row):
                back = to_hex(image.to_rgba(mark.values[i][j]))
                colour = DARK if contrast(DARK, back) > contrast("#ffffff", back) else "#ffffff"
                axes.text(j, i, text, ha="center", va="center", color=colour)
    scale = axes.figure.colorbar(image, cax=axes.inset_axes((1 + 0.15 / box.width, 0, 0.14 / box.width, 1)))
    scale.set_label(mark.label)
    scale.outline.set_visible(False)


DRAWERS: dict[type, Callable[[Any, Box, Any], Any]] = {  # each returns what the legend shows, if anything
    Points: _draw_points,
    Line: _draw_line,
    Rule: _draw_rule,
    Region: _draw_region,
    Bars: _draw_bars,
    Matrix: _draw_matrix,
}

"""Draws a `Chart` with matplotlib into a file. This is the only module that imports matplotlib, which is optional.

Colours, markers, what an axis shows and where its ticks stand are decided in `report.chart`. All sizes here are in
inches and follow from the texts, which are measured: nothing overlaps, no text is below 9 points, and the same chart
gives the same file byte for byte with the same matplotlib.
"""

from __future__ import annotations

import importlib.util
import math
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.report.chart import (
    DARK,
    GREY,
    Axis,
    Bars,
    Chart,
    Line,
    Look,
    Matrix,
    Panel,
    Points,
    Region,
    Rule,
    Scale,
    Way,
    contrast,
    drawable,
    limits,
    pale,
    places,
    scaling,
)
from seqbench.report.text import short

__all__ = ["draw", "need_matplotlib", "ticks"]

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
}
LEADING = 1.3  # from one line of text to the next, of its size
GAP = 0.08  # inches between a text and what stands beside it
EDGE = 0.12  # inches around the whole picture
ASIDE = 0.2  # inches from a panel's marks to what is written to the right of them
ROW = 0.3  # inches of a row with a name
VALUES = 2.5  # inches of a panel with values on both axes
LONG = 2.4  # inches of the longest name beside a row
FILL, GRID = "#ececec", "#e6e6e6"
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


def ticks(axis: Axis, low: float, high: float, most: int = 7) -> list[tuple[float, str]]:
    """At least three labelled ticks from ``low`` to ``high``, and no more than ``most`` where that can be.

    ```
    ticks(Axis(), 0, 1, 6)                    -> 0.0, 0.2, 0.4, 0.6, 0.8, 1.0
    ticks(Axis(scale="log2"), 8, 64)          -> 8, 16, 32, 64
    ticks(Axis(scale="log10"), 0.01, 100, 5)  -> 0.01, 0.1, 1, 10, 100
    ```
    """
    from matplotlib.ticker import MaxNLocator

    low, high = sorted((low, high))
    if axis.ticks is not None:
        return [(value, text) for value, text in axis.ticks if low <= value <= high]
    choices = [] if axis.scale == "linear" else [found for found in _powers(axis.scale, low, high) if len(found) >= 3]
    texts_of = _logarithmic if choices else _linear
    if not choices:  # a short logarithmic axis, too
        slack = 1e-9 * (high - low)
        for count in (most, most - 1):
            found = MaxNLocator(count, steps=(1, 2, 2.5, 5, 10), min_n_ticks=3).tick_values(low, high)
            choices.append([value for value in found.tolist() if low - slack <= value <= high + slack])
    values = next((values for values in choices if len(values) <= most), choices[-1])
    return list(zip(values, texts_of(values), strict=True))


def _powers(scale: Scale, low: float, high: float) -> list[list[float]]:
    """Ticks of a logarithmic axis: some multiples of powers, all powers, every second one, every third one ..."""
    base = 2 if scale == "log2" else 10
    first, last = math.log(low, base) - 1e-9, math.log(high, base) + 1e-9
    powers = range(math.floor(first), math.ceil(last) + 1)
    steps = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5)) if base == 10 and len(powers) < 12 else ()
    choices = [[step * 10.0**power for power in powers for step in parts] for parts in steps]
    choices += [[float(base) ** power for power in powers if power % stride == 0] for stride in range(1, len(powers))]
    return [[value for value in values if first <= math.log(value, base) <= last] for values in choices]


def _linear(values: Sequence[float]) -> list[str]:
    """With as many decimals as all need; with an exponent if all are below .001, or one is beyond 1e7."""
    size, gap = max(map(abs, values)), min(after - before for before, after in pairwise(values))
    if 1e-3 <= size < 1e7:
        needed = (p for p in range(12) if all(abs(round(value, p) - value) <= gap / 1000 for value in values))
        decimals = next(needed, 12)
        return [f"{value:z,.{decimals}f}" for value in values]
    digits = math.ceil(math.log10(size / gap)) + 2
    return [_without_zeros(f"{0 if abs(value) < gap / 1000 else value:.{digits}g}") for value in values]


def _logarithmic(values: Sequence[float]) -> list[str]:
    """Each with as many digits as it needs."""
    return [_without_zeros(f"{value:,.7g}") for value in values]


def _without_zeros(text: str) -> str:
    """``1e-9`` for ``1e-09``."""
    return re.sub(r"e\+?(-?)0*", r"e\1", text)


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
    names, matrix = places(panel, "y"), _matrix(panel)
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
    right = ASIDE + max((0.1 + _width(name) for _, name in sides), default=0.0)
    if matrix and _has_scale(matrix):
        right = 2 * ASIDE + max(_width(text) for _, text in _scale_ticks(matrix)) + GAP + _height(matrix.label)
    return Box(panel, xlim, ylim, yticks, ylabel, sides, height, left, right)


def _matrix(panel: Panel) -> Matrix | None:
    return next((mark for mark in panel.marks if isinstance(mark, Matrix)), None)


def _has_scale(matrix: Matrix) -> bool:
    return not matrix.texts or bool(matrix.label)


def _scale_ticks(matrix: Matrix) -> list[tuple[float, str]]:
    return ticks(Axis(), matrix.least, matrix.most, 5)


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
        elastic = [box for box in column if not places(box.panel, "y")] or column  # names would only be farther apart
        stretch = 1 + (max(totals) - total) / max(1.0, sum(box.height for box in elastic))
        for box in elastic:
            box.height *= min(1.6, stretch)


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
    keys = _key_columns(labels, room)
    below = EDGE + _height(notes) + (1.2 * LINE * math.ceil(len(labels) / keys) + 2 * GAP if labels else 0)
    height = above + max((sum(box.total for box in column) for column in columns), default=0.0) + below
    figure = Figure(figsize=(width, height))
    _write(figure, EDGE, EDGE, title, LARGE)
    _write(figure, EDGE, EDGE + _height(title, LARGE), subtitle, MEDIUM)
    _write(figure, EDGE, height - EDGE - _height(notes), notes)
    handles: dict[str, dict[type, Any]] = {label: {} for label in labels}
    for i, column in enumerate(column for column in columns if column):
        top = above
        for box in column:
            _draw_box(figure, box, EDGE + i * width / count, top, handles)
            top += box.total
    handles = {label: parts for label, parts in handles.items() if parts}
    if handles:
        figure.legend(
            [tuple(parts.values()) for parts in handles.values()], list(handles),
            loc="lower left", bbox_to_anchor=(EDGE / width, (EDGE + _height(notes) + GAP) / height),
            ncols=keys, frameon=False, fontsize=SMALL, borderaxespad=0, borderpad=0, labelspacing=0.35,
            columnspacing=1.6, handlelength=2.2, handletextpad=0.7,
        )  # fmt: skip
    return figure


def _write(figure: Any, left: float, top: float, text: str, size: float = SMALL, colour: str = DARK) -> None:
    """Lines of text whose upper left corner is at so many inches."""
    width, height = figure.get_size_inches()
    if text:
        style: dict[str, Any] = {"fontsize": size, "color": colour, "va": "top", "linespacing": 1.3}
        figure.text(left / width, 1 - top / height, text, **style)


def _key_columns(labels: Sequence[str], room: float) -> int:
    """Columns of a legend that is as wide as ``room`` allows."""
    for columns in range(len(labels), 1, -1):
        fewer, rest = divmod(len(labels), columns)  # the first `rest` columns hold one label more
        starts = [i * fewer + min(i, rest) for i in range(columns + 1)]
        if sum(0.6 + max(map(_width, labels[start:end])) for start, end in pairwise(starts)) <= room:
            return columns
    return 1


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
    bars = [mark for mark in panel.marks if isinstance(mark, Bars)]
    taken: list[tuple[float, float]] = []
    for mark in panel.marks:
        handle = None
        if isinstance(mark, Points):
            handle = _draw_points(axes, box, mark, taken)
        elif isinstance(mark, Line):
            handle = _draw_line(axes, box, mark)
        elif isinstance(mark, Rule):
            _draw_rule(axes, box, mark)
        elif isinstance(mark, Region):
            handle = _draw_region(axes, mark)
        elif isinstance(mark, Bars):
            handle = _draw_bars(axes, mark, bars.index(mark), len(bars))
        else:
            _draw_matrix(axes, box, mark)
        if handle is not None and mark.label:
            handles[mark.label].setdefault(type(mark), handle)
    _name_rules(axes, box)


def _draw_axes(axes: Any, box: Box) -> None:
    """Scales, ticks and labels."""
    for way, axis, span, shown in (
        ("x", box.panel.x, box.xlim, box.xticks),
        ("y", box.panel.y, box.ylim, box.yticks),
    ):
        named = bool(places(box.panel, way))
        if axis.scale != "linear":
            axes.set(**{f"{way}scale": "log"})
        axes.set(**{f"{way}lim": span})
        ticks_of = axes.xaxis if way == "x" else axes.yaxis
        ticks_of.set_ticks([value for value, _ in shown], [text for _, text in shown])
        ticks_of.set_ticks([], minor=True)
        axes.tick_params(axis=way, labelsize=SMALL, labelcolor=DARK, color=GREY, pad=3, length=0 if named else 3)
        if not named:
            axes.grid(axis=way, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", rotation=90 if box.upright else 0)
    axes.set_xlabel(box.xlabel, color=DARK, labelpad=2)
    axes.set_ylabel(box.ylabel, color=DARK, labelpad=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
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


def _draw_points(axes: Any, box: Box, mark: Points, taken: list[tuple[float, float]]) -> Any:
    """Those beyond the edge are shown by an arrow at the edge; one that would hide another is smaller, on top of it.

    Args:
        taken: places in inches of the points that have been drawn in this panel, which those of ``mark`` join.
    """
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
            size = max(2.5, 6.5 - 2 * sum(math.dist(inches, other) < 0.06 for other in taken))
            taken.append(inches)
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
    starts = np.clip(values, *edges)
    style: dict[str, Any] = {"color": mark.look.colour, "zorder": 3, "clip_on": False}
    for ends, arrow in (
        (_array(mark.low)[shown], "<" if along_x else "v"),
        (_array(mark.high)[shown], ">" if along_x else "^"),
    ):
        cut = np.clip(ends, *edges)
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
        low, high = (np.clip(_array(ends)[shown], *sorted(box.ylim)) for ends in (mark.low, mark.high))
        axes.fill_between(xs, low, high, color=mark.look.colour, alpha=0.16, linewidth=0, zorder=1)
    style: dict[str, Any] = {
        "linestyle": DASHES[mark.dash],
        "linewidth": 0.8 if mark.faint else 1.5,
        "color": pale(mark.look.colour) if mark.faint else mark.look.colour,
        "drawstyle": "steps-post" if mark.steps else "default",
    }
    seen = np.pad(np.isfinite(ys), 1)
    alone = seen[1:-1] & ~seen[:-2] & ~seen[2:]
    if mark.marked:
        style |= _marker(mark.look, 4.5)
    elif alone.any():  # points between gaps would not be seen
        axes.plot(xs[alone], ys[alone], ".", color=style["color"])
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


def _draw_region(axes: Any, region: Region) -> Any:
    from matplotlib.patches import Patch

    low, high = np.clip((region.low, region.high), *sorted(axes.get_xlim()))
    rows = region.rows or axes.get_ylim()
    axes.fill_betweenx(rows, low, high, color=FILL, linewidth=0, zorder=0.5)
    ends = [end for end in (region.low, region.high) if low <= end <= high]
    axes.vlines(ends, *rows, color=GREY, linewidth=0.6, zorder=0.6)
    return Patch(facecolor=FILL, edgecolor=GREY, linewidth=0.6)


def _draw_bars(axes: Any, mark: Bars, place: int, count: int) -> Any:
    thick = 0.8 / count
    at = [i + thick * (place - (count - 1) / 2) for i in range(len(mark.heights))]
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
    if _has_scale(mark):
        beside = axes.inset_axes((1 + 0.15 / box.width, 0, 0.14 / box.width, 1))
        scale = axes.figure.colorbar(image, cax=beside)
        scale.outline.set_visible(False)
        values, names = zip(*_scale_ticks(mark), strict=True)
        scale.set_ticks(values, labels=names)
        scale.minorticks_off()
        scale.set_label(mark.label, color=DARK)
        beside.tick_params(labelcolor=DARK, color=GREY, pad=3, length=3)

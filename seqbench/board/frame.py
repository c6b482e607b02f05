"""What the board's figures share: looks of models, titles, legends and notes, marks with intervals. No torch.

Nothing of matplotlib is imported at the top, as it is optional.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from seqbench.board.table import Table
from seqbench.report.text import short

__all__ = [
    "BOUND",
    "COLOURS",
    "DARK",
    "GREY",
    "MARKERS",
    "PALE",
    "Look",
    "finish",
    "folded",
    "halves",
    "limits",
    "looks",
    "metric_name",
    "model_keys",
    "whisker",
]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#666633")  # for all eyes
MARKERS = "osD^vPX"
GREY, DARK, PALE = "#767676", "#333333", "#bbbbbb"
BOUND = 1e100  # figures beyond it can't be drawn
WIDTH = 12.5  # inches


class Look(NamedTuple):
    """How a model is drawn in every figure of a board; shape and colour both tell it."""

    colour: str
    marker: str


def looks(tables: Iterable[Table]) -> dict[str, Look]:
    """One for each model of ``tables``: 56 that differ."""
    names = sorted({row.label for table in tables for row in table.rows if row.entrant is not None})
    return {name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def folded(text: str, most: int) -> str:
    """Text in lines of at most so many characters."""
    return "\n".join(textwrap.wrap(text, most))


def metric_name(it: Table) -> str:
    """The metric, with its unit."""
    primary = it.group.primary
    if primary is None:
        return "figure"
    return short(primary.name) + (f" ({short(primary.unit)})" if primary.unit else "")


def limits(values: Iterable[float], margin: float = 0.06) -> tuple[float, float] | None:
    """What an axis must span to show all of ``values`` that can be drawn; None if none can."""
    shown = [value for value in values if abs(value) < BOUND]  # NaN is not
    if not shown:
        return None
    low, high = min(shown), max(shown)
    room = margin * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def whisker(axes: Any, x: float, y: float, reach: float, *, vertical: bool = False, **style: Any) -> None:
    """A mark with its interval, or without one where that is unknown."""
    if not (abs(x) < BOUND and abs(y) < BOUND):
        return
    known = {"yerr" if vertical else "xerr": [reach]} if reach < BOUND else {}
    axes.errorbar([x], [y], **known, linestyle="none", capsize=2.5, **style)


def model_keys(it: Table, known: Mapping[str, Look]) -> list[Any]:
    """Legend of a table's models that have any result; those without a mean are dotted, as their curves are."""
    from matplotlib.lines import Line2D

    keys = []
    for row in it.rows:
        if row.entrant is None or not any(cell.status == "ok" for cell in row.entrant.cells.values()):
            continue
        look, whole = known[row.label], row.metric is not None
        label = short(row.label) + ("" if whole else ", single runs")
        style: dict[str, Any] = {"ms": 6} if whole else {"ms": 4, "linestyle": ":", "markeredgewidth": 0, "alpha": 0.7}
        keys.append(Line2D([], [], color=look.colour, marker=look.marker, label=label, **style))
    if sum(row.entrant is not None and row.metric is not None for row in it.rows) > 1:
        keys.append(Line2D([], [], color=DARK, linewidth=1, alpha=0.7, label="best mean for the cost (Pareto front)"))
    if it.strongest is not None:
        keys.append(Line2D([], [], color=DARK, linewidth=1.1, linestyle="--", label="strongest baseline"))
    return keys


def halves(height: float) -> tuple[Any, Any, Any]:
    """A figure and its left and right half."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=120, layout="constrained")
    halves = figure.add_gridspec(1, 2)
    return figure, halves[0], halves[1]


def finish(figure: Any, title: str, handles: Sequence[Any], notes: Sequence[str]) -> None:
    """The title above the panels, legend and notes below them, and the panels in between."""
    width, height = figure.get_size_inches()
    heads = [line for part in title.split("\n") for line in textwrap.wrap(part, 150)]
    feet = [line for note in notes for line in textwrap.wrap(note, 220)]
    columns = _columns([len(handle.get_label()) for handle in handles], width - 0.5)
    keys = math.ceil(len(handles) / columns)
    for i, line in enumerate(heads):
        figure.text(0.01, 1 - (0.12 + 0.2 * i) / height, line, va="top", fontsize=9 if i else 12, color=DARK)
    for i, line in enumerate(reversed(feet)):
        figure.text(0.01, (0.1 + 0.16 * i) / height, line, va="bottom", fontsize=7.5, color=DARK)
    notes_height = 0.1 + 0.16 * len(feet)
    if handles:
        figure.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.5, notes_height / height), ncols=columns,
            frameon=False, fontsize=8.5, borderaxespad=0.2,
        )  # fmt: skip
    foot, head = notes_height + 0.22 * keys + 0.1, 0.22 + 0.2 * len(heads)
    figure.get_layout_engine().set(rect=(0.005, foot / height, 0.99, 1 - (foot + head) / height))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:  # the layout's solver gives a last digit that changes from run to run
        axes.set_position([round(float(edge), 6) for edge in axes.get_position().bounds])


def _columns(lengths: Sequence[int], width: float) -> int:
    """The most columns of a legend, with labels of so many characters, that ``width`` inches hold."""
    for columns in range(len(lengths), 1, -1):
        fewer, rest = divmod(len(lengths), columns)  # the first `rest` columns hold one label more
        starts = [i * fewer + min(i, rest) for i in range(columns + 1)]
        widest = [max(lengths[start:end]) for start, end in pairwise(starts)]
        if sum(0.65 + 0.07 * length for length in widest) <= width:
            return columns
    return 1

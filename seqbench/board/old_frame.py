"""What the probes' old pictures are drawn with; goes when they are charts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#666633")  # for all eyes
MARKERS = "osD^vPX"
GREY, DARK, PALE = "#767676", "#333333", "#bbbbbb"
BOUND = 1e100  # figures beyond it can't be drawn
WIDTH = 12.5  # inches


class Look(NamedTuple):
    """How a model is drawn in every figure of a board; shape and colour both tell it."""

    colour: str
    marker: str


def folded(text: str, most: int) -> str:
    """Text in lines of at most so many characters."""
    return "\n".join(textwrap.wrap(text, most))


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

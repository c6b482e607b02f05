"""The claims in one picture: every figure with its interval, beside the region in which its sentence is true."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbench.board.frame import GREY
from seqbench.claims.claim import Claim
from seqbench.claims.verdict import Condition
from seqbench.report.text import short

__all__ = ["draw_claims"]

SIDES = {True: "#009e73", False: "#d55e00", None: GREY}
SAID = {True: "inside: the sentence is true there", False: "outside: it is false there", None: "undecided"}
REGION = "#e2f3ec"
ROW, HEAD, FOOT = 0.19, 0.5, 0.45  # inches: of a figure, above a claim, below the figures of one unit


def draw_claims(claims: Sequence[Claim], path: Path) -> Path:
    """Draw all that has figures to ``path``, in two columns; figures of different units get scales of their own."""
    from matplotlib.figure import Figure

    columns = _columns([it for it in claims if it.conditions])
    height = max(sum(map(_height, column)) for column in columns) + 0.5
    figure = Figure(figsize=(15, height), dpi=110)
    for side, column in enumerate(columns):
        top = height - 0.1
        for it in column:
            title = textwrap.shorten(f"{it.number}. {it.sentence}", 95)
            figure.text(0.01 + 0.5 * side, (top - 0.08) / height, f"{title}\n{it.verdict}", va="top", fontsize=8.5)
            top -= HEAD
            for rows in _by_unit(it):
                size = len(rows) * ROW
                _panel(figure.add_axes((0.19 + 0.5 * side, (top - size) / height, 0.29, size / height)), rows)
                top -= size + FOOT
    _legend(figure)
    figure.savefig(path)
    return path


def _by_unit(it: Claim) -> list[list[Condition]]:
    found: dict[str, list[Condition]] = {}
    for condition in it.conditions:
        found.setdefault(condition.unit, []).append(condition)
    return list(found.values())


def _height(it: Claim) -> float:
    return HEAD + sum(len(rows) * ROW + FOOT for rows in _by_unit(it))


def _columns(claims: Sequence[Claim]) -> list[list[Claim]]:
    """In order, cut where the longer column is shortest."""
    cuts = [(list(claims[:at]), list(claims[at:])) for at in range(1, len(claims) + 1)]
    return list(min(cuts, key=lambda cut: max(sum(map(_height, column)) for column in cut)))


def _panel(axes: Any, rows: Sequence[Condition]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low, high, logarithmic = _scale(rows)
    axes.set_xscale("log" if logarithmic else "linear")
    axes.set_xlim(low, high)
    for y, condition in enumerate(rows):
        for region in condition.regions:
            left, right = (min(max(bound, low), high) for bound in region)
            axes.barh(y, right - left, left=left, height=0.9, color=REGION, linewidth=0, zorder=0)
        _mark(axes, condition, y, low, high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_label(condition) for condition in rows], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(rows[0].unit, fontsize=7.5, labelpad=1)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)


def _mark(axes: Any, it: Condition, y: int, low: float, high: float) -> None:
    colour = SIDES[it.inside]
    if math.isnan(it.figure.value):
        return
    if not math.isnan(it.figure.low):
        ends = max(it.figure.low, low), min(it.figure.high, high)
        axes.plot(ends, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
        if it.figure.high > high:  # no end was found
            axes.plot([high], [y], marker=">", color=colour, markersize=5, clip_on=False)
    axes.plot([it.figure.value], [y], marker="o", color=colour, markersize=4.5, clip_on=False)


def _scale(rows: Sequence[Condition]) -> tuple[float, float, bool]:
    """Limits that show all that is finite, and whether they are far enough apart for logarithms."""
    ends = [
        x for it in rows for x in (*it.figure, *(end for region in it.regions for end in region)) if math.isfinite(x)
    ]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    values = [x for it in rows for x in it.figure if math.isfinite(x)]
    positive = [x for x in ends if x > 0]
    if values and min(values) > 0 and positive and max(positive) / min(positive) > 8:
        return min(positive) / 1.3, max(positive) * 1.6, True
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room, False


def _label(it: Condition) -> str:
    """The values of its axes; of bare numbers also what they count."""
    words = (value if not value[0].isdigit() else f"{name} {value}" for name, value in it.axes.items() if value)
    return short(", ".join(words), 58)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Line2D([], [], color=SIDES[side], marker="o", markersize=4.5, linewidth=1.6, label=SAID[side])
        for side in (True, False, None)
    ]
    keys.append(Patch(color=REGION, label="where the sentence is true"))
    figure.legend(handles=keys, loc="lower center", ncols=4, frameon=False, fontsize=8.5, bbox_to_anchor=(0.5, 0.0))

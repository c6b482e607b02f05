"""What the figures and tables of both probes that read a clock share. No torch; matplotlib is optional."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from seqbench.board.frame import COLOURS, DARK, GREY, MARKERS, Look
from seqbench.report.text import NONE, short

__all__ = ["between", "keys", "length_axis", "model_looks", "nothing", "pick", "plain_log", "spread"]


def model_looks(names: Iterable[str]) -> dict[str, Look]:
    """Colour and shape of each model, the same in every panel."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(sorted(set(names)))
    }


def keys(known: dict[str, Look]) -> list[Any]:
    """A legend's lines."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=look.colour, marker=look.marker, ms=5, label=short(name)) for name, look in known.items()
    ]


def pick(shapes: Sequence[Sequence[int]], batch: int) -> list[tuple[int, int]]:
    """(place, length) of all shapes of one batch size, by length."""
    return sorted(((i, length) for i, (b, length) in enumerate(shapes) if b == batch), key=lambda one: one[1])


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2, ordered[0], ordered[-1]


def length_axis(axes: Any, lengths: Sequence[int]) -> None:
    """A logarithmic axis of lengths, each labelled."""
    axes.set_xscale("log")
    axes.set_xticks(list(lengths), [f"{length:,}" for length in lengths], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)


def plain_log(axes: Any) -> None:
    """A logarithmic vertical axis with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", labelsize=8)


def nothing(axes: Any, text: str) -> None:
    """A panel without anything to show says so."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(DARK)
        side.set_linewidth(0.3)


def between(three: Sequence[float | None] | None, pattern: str = ".3g", scale: float = 1.0) -> str:
    """``2.71 [2.6, 2.8]``; a bound that is not there is infinite."""
    if three is None:
        return NONE
    value, low, high = ("inf" if x is None else format(scale * x, pattern) for x in three)
    return f"{value} [{low}, {high}]"

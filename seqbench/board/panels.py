"""Panels of the board's figures that show models one by one: figure against cost, and learning curves. No torch.

Axes are matplotlib's, made by `plots`; nothing of it is imported at the top, as it is optional. What a panel leaves out
it says, in the panel or by the sentences that it returns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from seqbench.board.collect import Array, Cell
from seqbench.board.frame import BOUND, DARK, GREY, Look, folded, limits, metric_name, whisker
from seqbench.board.table import Row, Table
from seqbench.errors import UserError
from seqbench.report.text import listed, short

__all__ = ["draw_cost", "draw_curves"]

CURVE = "curve.jsonl"


def draw_cost(axes: Any, it: Table, known: Mapping[str, Look]) -> list[str]:
    """Metric against training seconds of a run: means with intervals, seeds as dots, the Pareto front, baselines."""
    models = [row for row in it.rows if row.entrant is not None]
    seeds = {row.label: _seed_points(it, row) for row in models}
    placed = {
        row.label: (row.costs.seconds, row.metric.value)
        for row in models
        if row.metric and row.costs and row.costs.seconds is not None and abs(row.metric.value) < BOUND
    }
    _seconds(axes, [x for points in seeds.values() for x, _ in points], it)
    ends = (end for row in models if row.label in placed and row.metric for end in row.metric[1:])
    span = limits([*ends, *(y for points in seeds.values() for _, y in points)], 0.08)
    if span is None:
        axes.text(0.5, 0.5, "no run has a figure", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
    else:
        axes.set_ylim(_with_strongest(it, span))
        _marks(axes, models, seeds, placed, known)
        _front(axes, list(placed.values()), it.sign)
        _baselines(axes, it)
    axes.set_ylabel(folded(f"test {metric_name(it)}", 42))
    axes.set_title("Metric against cost: mean with 95% interval, seeds as dots", fontsize=9, loc="left")
    unplaced = [row.label for row in models if row.metric is not None and row.label not in placed]
    return [f"{listed(unplaced)} ran elsewhere: no cost to compare."] if unplaced else []


def _marks(
    axes: Any,
    models: Sequence[Row],
    seeds: Mapping[str, Sequence[tuple[float, float]]],
    placed: Mapping[str, tuple[float, float]],
    known: Mapping[str, Look],
) -> None:
    """Means and seeds; a mean that would hide another is drawn smaller, on top of it."""
    taken: list[Array] = []
    for row in models:
        look = known[row.label]
        dots = np.array(seeds[row.label]).reshape(-1, 2)
        axes.scatter(*dots.T, s=12, color=look.colour, marker=look.marker, alpha=0.35, linewidths=0, zorder=2)
        if row.label in placed and row.metric is not None:
            place = axes.transLimits.transform(axes.transScale.transform(placed[row.label]))  # of the axes' size
            hidden = sum(bool((np.abs(place - other) < (0.015, 0.03)).all()) for other in taken)
            taken.append(place)
            size = max(2.0, 7.5 - 2.5 * hidden)
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": size, "elinewidth": size / 5}
            whisker(axes, *placed[row.label], (row.metric.high - row.metric.low) / 2, vertical=True, zorder=4, **style)


def _seed_points(it: Table, row: Row) -> list[tuple[float, float]]:
    """Seconds and figure of every run that has both."""
    cells = row.entrant.cells.values() if row.entrant else ()
    found = [(it.basis.seconds(cell) if it.basis else None, cell.test) for cell in cells]
    return [(x, y) for x, y in found if x is not None and y is not None and abs(y) < BOUND]


def _seconds(axes: Any, values: Sequence[float], it: Table) -> None:
    """The axis of costs: logarithmic where some model takes at least three times as long as another."""
    kind = "CPU seconds" if it.basis and it.basis.cpu else "wall-clock seconds"
    axes.set_xlabel(f"{kind} in training, mean of a run")
    span = limits(values, 0.08)
    if span is None:
        return
    low, high = min(values), max(values)
    if low <= 0 or high < 3 * low:
        axes.set_xlim(span)
        return
    axes.set_xscale("log")
    room = (high / low) ** 0.08
    axes.set_xlim(low / room, high * room)
    axes.set_xlabel(f"{kind} in training, mean of a run (logarithmic)")
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low / room <= tick <= high * room]
        if len(ticks) <= 8:
            break
    axes.set_xticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _with_strongest(it: Table, span: tuple[float, float]) -> tuple[float, float]:
    """``span`` widened to the strongest baseline, unless the models would fill less than half of it."""
    low, high = span
    value = it.group.baselines[it.strongest].value if it.strongest is not None else math.nan
    room = 0.06 * (high - low)
    wide = min(low, value - room), max(high, value + room)
    return wide if wide[1] - wide[0] <= 2.2 * (high - low) else span  # NaN: the comparison fails


def _front(axes: Any, points: Sequence[tuple[float, float]], sign: int) -> None:
    """The best mean that each cost buys, as a step line to the right edge."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not front or sign * y > sign * front[-1][1]:
            front.append((x, y))
    if len(points) > 1:
        edge = axes.get_xlim()[1]
        ends = [*front, (edge, front[-1][1])]
        axes.step(*zip(*ends, strict=True), where="post", color=DARK, linewidth=1, alpha=0.7, zorder=1)


def _baselines(axes: Any, it: Table) -> None:
    """Lines with their names in the right margin; those beyond the axis are named at its ends with an arrow."""
    low, high = axes.get_ylim()
    found = sorted((baseline.value, name) for name, baseline in it.group.baselines.items())
    places = [(value - low) / (high - low) for value, _ in found]
    shown = _spread([min(1.0, max(0.0, place)) for place in places], 0.062)
    for (value, name), place, label in zip(found, places, shown, strict=True):
        strongest, inside = name == it.strongest, 0 <= place <= 1
        colour = DARK if strongest else GREY
        arrow = "" if inside else "↑ " if place > 1 else "↓ "
        text = f"{arrow}{short(name)} {_four_digits(value)}"
        axes.text(1.035, label, text, transform=axes.transAxes, va="center", fontsize=7, color=colour, clip_on=False)
        if inside:
            axes.axhline(value, color=colour, linewidth=1.1 if strongest else 0.8, zorder=0.5,
                         linestyle="--" if strongest else ":")  # fmt: skip
            axes.plot([1, 1.03], [place, label], transform=axes.transAxes, color=colour, linewidth=0.6, clip_on=False)


def _four_digits(value: float) -> str:
    return f"{value:#.4g}".rstrip(".") if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending ``places`` moved as little as keeps them ``gap`` apart, within 0 and 1 if they fit."""
    found = list(places)
    for i, (before, place) in enumerate(pairwise(places), 1):
        found[i] = max(place, found[i - 1] + gap, before)
    limit = 1.0
    for i in reversed(range(len(found))):
        found[i] = min(found[i], limit)
        limit = found[i] - gap
    return found


def draw_curves(axes: Any, it: Table, known: Mapping[str, Look]) -> list[str]:
    """Validation figure against optimiser step: the mean over seeds and their range; single seeds where one failed."""
    axes.set(xlabel="optimiser step", ylabel=folded(f"validation {metric_name(it)}", 42))
    axes.set_title("Learning curves: mean of the seeds, band from least to greatest", fontsize=9, loc="left")
    drawn: list[tuple[float, float]] = []
    uneven = False
    for row in it.rows:
        curves = _curves(it, row)
        if not curves:
            continue
        look = known[row.label]
        drawn += [(step, value) for curve in curves for step, value in curve.items()]
        if row.metric is None:
            for curve in curves:
                axes.plot(list(curve), list(curve.values()), color=look.colour, linewidth=0.8, linestyle=":")
            continue
        uneven |= len({tuple(curve) for curve in curves}) > 1
        _band(axes, curves, look)
    if not drawn:
        axes.text(0.5, 0.5, "no learning curve", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return []
    axes.set_xlim(0, 1.03 * max(step for step, _ in drawn))
    _curve_limits(axes, drawn)
    return (
        ["Mean curves end where the first of the seeds stopped; their bands go on over the others."] if uneven else []
    )


def _curves(it: Table, row: Row) -> list[dict[int, float]]:
    """Step to figure of every run with a result; runs without one leave no curve."""
    if row.entrant is None or it.group.primary is None:
        return []
    cells = [cell for cell in row.entrant.cells.values() if cell.status == "ok"]
    found = [_curve(cell, f"val_{it.group.primary.name}") for cell in cells]
    return [curve for curve in found if curve]


def _curve(cell: Cell, key: str) -> dict[int, float]:
    path = cell.folder / CURVE
    try:
        points = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {int(point["step"]): float(point[key]) for point in points}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None
    return {step: value for step, value in sorted(found.items()) if abs(value) < BOUND}


def _band(axes: Any, curves: Sequence[Mapping[int, float]], look: Look) -> None:
    steps = sorted(set().union(*curves))
    values: Array = np.array([[curve.get(step, math.nan) for step in steps] for curve in curves])
    mean = values.mean(axis=0)  # NaN where any seed has stopped
    axes.fill_between(
        steps, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=look.colour, alpha=0.13, linewidth=0
    )
    axes.plot(steps, mean, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.3)


def _curve_limits(axes: Any, drawn: Sequence[tuple[float, float]]) -> None:
    """Nine tenths of the second half of training, and of all the rest as much as leaves that some third of the axis."""
    last = max(step for step, _ in drawn)
    late = limits(np.quantile([value for step, value in drawn if step >= last / 2], (0.05, 0.95)), 0.15)
    full = limits(value for _, value in drawn)
    assert late is not None and full is not None
    room = late[1] - late[0]
    low, high = max(full[0], late[0] - 2 * room), min(full[1], late[1] + 2 * room)
    axes.set_ylim(low, high)
    for arrow, side, place, count in (
        ("↓", "below", 0.03, sum(value < low for _, value in drawn)),
        ("↑", "above", 0.97, sum(value > high for _, value in drawn)),
    ):
        if count:
            text = f"{arrow} checks of single runs {side} this axis: {count}"
            axes.text(0.98, place, text, transform=axes.transAxes, ha="right", fontsize=7, color=GREY,
                      va="bottom" if side == "below" else "top")  # fmt: skip

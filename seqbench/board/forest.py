"""Panels of the board's figures that compare: forests of differences, and mean skill across tasks. No torch.

A difference is turned so that right always means the first is better, whatever the direction of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seqbench.board.compare import Comparison, Difference, Sure
from seqbench.board.frame import DARK, GREY, MARKERS, PALE, Look, folded, limits, whisker
from seqbench.board.overview import Overview, OverviewRow
from seqbench.board.table import Row
from seqbench.report.text import short

__all__ = ["Block", "baseline_block", "draw_forests", "draw_skills", "pairs_block"]

MOST_PAIRS = 45  # of ten models; more than that nobody reads
LEAST_SKILL = -1.0  # lower ones of single tasks are named, not drawn


class Block(NamedTuple):
    """Differences of one family with a label each, who is ``first`` and ``second`` in them, and the ``least`` found."""

    heading: str
    differences: list[Difference]
    labels: list[str]
    first: str
    second: str
    least: float = math.nan


def draw_forests(place: Any, blocks: Sequence[Block], known: Mapping[str, Look], what: str) -> None:
    """Forests of ``blocks``, one above the other at ``place``, on one scale unless that would squash either."""
    if not blocks:
        axes = place.subgridspec(1, 1).subplots()
        axes.text(0.5, 0.5, "nothing to compare:\nfewer than two complete models", ha="center", color=GREY)
        axes.set_axis_off()
        return
    spans = [_limits(block) for block in blocks]
    whole = min(low for low, _ in spans), max(high for _, high in spans)
    alike = all(whole[1] - whole[0] <= 1.6 * (high - low) for low, high in spans)
    grid = place.subgridspec(len(blocks), 1, height_ratios=[len(block.differences) + 1 for block in blocks])
    for axes, block, span in zip(grid.subplots(squeeze=False).flat, blocks, spans, strict=True):
        _forest(axes, block, known, whole if alike else span)
        other = "" if alike or block is blocks[0] else " (another scale)"
        axes.set_title(folded(block.heading + other, 75), fontsize=9, loc="left")
        axes.set_xlabel(f"← {block.second} is better          {block.first} is better →\n{folded(what, 85)}")
        axes.locator_params(axis="x", nbins=7)


def pairs_block(comparison: Comparison) -> Block:
    """All pairs, or, of too many to read, those of the best model."""
    found, best = comparison.differences, next(iter(comparison.ranks), "")
    shown = found if len(found) <= MOST_PAIRS else [one for one in found if best in (one.first, one.second)]
    heading = "Pairs of models, with 95% intervals"
    if len(shown) < len(found):
        heading = f"{short(best)} and each other model, with 95% intervals (of {len(found)} pairs)"
    labels = [f"{short(one.first)} - {short(one.second)}" for one in shown]
    return Block(heading, shown, labels, "first", "second", comparison.least)


def baseline_block(differences: list[Difference]) -> Block:
    """Each model against the strongest baseline."""
    name = short(differences[0].second) if differences else ""
    heading = f"Against the strongest baseline, {name}"
    return Block(heading, differences, [short(one.first) for one in differences], "model", name)


def _forest(axes: Any, block: Block, known: Mapping[str, Look], span: tuple[float, float]) -> None:
    """A line for each difference, the first on top; real ones filled in the colour of the better, others hollow grey.

    On both sides of zero those smaller than the smallest that would have been found are shaded.
    """
    differences = block.differences
    if math.isfinite(block.least):
        axes.axvspan(-block.least, block.least, color="#f0f0f0", linewidth=0, zorder=0)
    axes.axvline(0, color=DARK, linewidth=1, zorder=1)
    for i, one in enumerate(differences):
        look = known.get(one.better or "", Look(DARK if one.better else GREY, "o"))
        style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 6 if one.better else 5}
        style |= {} if one.better else {"mfc": "white", "elinewidth": 1}
        whisker(axes, one.sign * one.sure.value, i, _reach(one.sure), zorder=3, **style)
    axes.set_yticks(range(len(differences)), block.labels, fontsize=8)
    for text, one in zip(axes.get_yticklabels(), differences, strict=True):
        text.set_color("black" if one.better else GREY)
    axes.set(ylim=(len(differences) - 0.4, -0.6), xlim=span)
    axes.tick_params(axis="y", length=0)


def _limits(block: Block) -> tuple[float, float]:
    """The span of all intervals, zero, and the band of ``least``."""
    ends = [one.sign * end for one in block.differences for end in one.sure[1:]]
    values = [one.sign * one.sure.value for one in block.differences]
    return limits([0.0, -block.least, block.least, *values, *ends]) or (-1.0, 1.0)


def draw_skills(axes: Any, it: Overview, known: Mapping[str, Look]) -> list[str]:
    """Mean skill with interval, single tasks small beside it; incomplete models below a line, without a mean."""
    shapes = {table.group.task.name: MARKERS[i % len(MARKERS)] for i, table in enumerate(it.tables)}
    whole = [row for row in it.rows if row.skill is not None]
    part = [row for row in it.rows if row.skill is None]
    beyond: list[str] = []
    for i, row in enumerate([*whole, *part]):
        look, y = known[row.label], i + (0.5 if row.skill is None else 0)
        for (task, shape), one in zip(shapes.items(), row.rows, strict=True):
            value = _skill(one)
            if value < LEAST_SKILL:
                beyond.append(f"{row.label} has {value:.3g} on {task}")
            elif math.isfinite(value):
                axes.scatter(
                    [value], [y + 0.2], s=20, marker=shape, facecolors="none", edgecolors=look.colour, zorder=2
                )
        if row.skill is not None:
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 6, "zorder": 3}
            whisker(axes, row.skill.value, y - 0.12, _reach(row.skill), **style)
    _skill_axes(axes, it, whole, part)
    for task, shape in shapes.items():
        axes.scatter([], [], s=20, marker=shape, facecolors="none", edgecolors=GREY, label=task)
    return [f"Beyond the axis: {'; '.join(beyond)}."] if beyond else []


def _skill_axes(axes: Any, it: Overview, whole: Sequence[OverviewRow], part: Sequence[OverviewRow]) -> None:
    names = [short(row.label) for row in whole] + [f"({short(row.label)})" for row in part]
    places = [*range(len(whole)), *(len(whole) + 0.5 + i for i in range(len(part)))]
    axes.set_yticks(places, names)
    for text in axes.get_yticklabels()[len(whole) :]:
        text.set_color(GREY)
    if part:
        axes.axhline(len(whole) - 0.15, color=PALE, linewidth=1, linestyle="--")
        axes.text(1, len(whole) - 0.1, "incomplete: no mean, no rank", transform=axes.get_yaxis_transform(), fontsize=7,
                  color=GREY, ha="right", va="top")  # fmt: skip
    tasks = [_skill(one) for row in it.rows for one in row.rows]
    means = [value for row in whole if row.skill for value in (row.skill.value, *row.skill[1:])]
    span = limits([0.0, *(value for value in tasks if value >= LEAST_SKILL), *means], 0.05) or (-1.0, 1.0)
    axes.axvline(0, color=DARK, linewidth=1, zorder=1)
    axes.set(
        xlim=span, ylim=(places[-1] + 0.6, -0.6), xlabel="skill: 0 is each task's reference baseline, 1 is perfect"
    )
    axes.tick_params(axis="y", length=0)


def _skill(row: Row | None) -> float:
    return math.nan if row is None or row.skill is None else row.skill.value


def _reach(sure: Sure) -> float:
    return (sure.high - sure.low) / 2

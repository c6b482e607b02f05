"""The picture of `probe memory`: edges of every seed, and scores against length with the line of no memory. No torch.

Nothing of matplotlib is imported at the top, as it is optional.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqbench.board.frame import COLOURS, DARK, GREY, MARKERS, Look, finish
from seqbench.probes import Found
from seqbench.probes.memory_view import MEANING, SOLVED, EdgeRow, Result, edges
from seqbench.report.text import short

__all__ = ["draw_edges"]

LOWEST = -0.12  # of the scores that are drawn where they are
LINES = ("-", "--", ":", "-.")


def draw_edges(found: Sequence[Found], path: Path) -> Path:
    """For each problem a panel of edges, seeds as marks, and panels of scores against length, cold and staged."""
    from matplotlib.figure import Figure

    rows = edges(found)
    problems = [[row for row in rows if row.place == place] for place in dict.fromkeys(row.place for row in rows)]
    styles = _styles(rows)
    heights = [1.5 + 0.45 * len({row.label for row in here}) for here in problems] or [1.5]
    figure = Figure(figsize=(12.5, 1.6 + sum(heights)), dpi=120, layout="constrained")
    grid = figure.add_gridspec(len(heights), 3, width_ratios=(1.35, 1, 1), height_ratios=heights)
    for i, here in enumerate(problems):
        name = here[0].problem
        cold, staged = ([row for row in here if row.regime == regime] for regime in MEANING)
        where = ", ".join(word for word in here[0].place if word)
        _draw_edges(figure.add_subplot(grid[i, 0]), here, styles, f"{where}: edge of every seed")
        _draw_scores(figure.add_subplot(grid[i, 1]), cold, styles, _cold_curve, f"{name}, cold: score at each length")
        title = f"{name}, staged: score at untrained lengths"
        _draw_scores(figure.add_subplot(grid[i, 2]), staged, styles, _untrained_curve, title)
    notes = [
        "Edge: the longest length with every tested one up to it solved. The line goes from the least last pass to the "
        "greatest first fail of the seeds, with an arrow where a ladder ended before a net failed: the edge may lie "
        f"anywhere beyond.{_coverages(rows)}",
        "Scores: 0 is a net without memory, 1 is perfect; a line for every seed: of fresh nets at each length (cold), "
        f"of one net from the last length that it solved (staged). Scores below {LOWEST} are drawn there.",
    ]
    title = "How long a lag is learned (cold) and how long it can be held once taught (staged)"
    finish(figure, title, _keys(rows, styles), notes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _coverages(rows: Sequence[EdgeRow]) -> str:
    shares = sorted({(len(row.edges), row.coverage) for row in rows if len(row.edges) > 1})
    words = ", ".join(f"{share:.1%} ({seeds} seeds)" for seeds, share in shares)
    return f" It covers the median edge with {words}." if words else ""


class _Style(NamedTuple):
    look: Look
    line: Any  # as matplotlib has it


def _styles(rows: Sequence[EdgeRow]) -> dict[str, _Style]:
    """Of each label: a colour and shape by model, a kind of line by initialisation."""
    models = sorted({row.model for row in rows})
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        own = lines.setdefault(row.model, {})
        own.setdefault(row.label, LINES[len(own) % len(LINES)])
    looks = {name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(models)}
    return {label: _Style(looks[model], line) for model in models for label, line in lines[model].items()}


def _keys(rows: Sequence[EdgeRow], styles: Mapping[str, _Style]) -> list[Any]:
    from matplotlib.lines import Line2D

    keys: list[Any] = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=line, label=short(label), ms=6)
        for label, (look, line) in styles.items()
    ]
    for regime, meaning in MEANING.items():
        if any(row.regime == regime for row in rows):
            style: dict[str, Any] = {
                "marker": "o",
                "mfc": DARK if regime == "cold" else "white",
                "linestyle": "none",
                "ms": 6,
            }
            label = f"a seed, {regime} ({meaning})"
            keys.append(Line2D([], [], color=DARK, label=label, **style))
    keys.append(Line2D([], [], color=DARK, marker="|", ms=10, mew=2.5, linestyle="none", label="median of the seeds"))
    if not all(all(row.monotone) for row in rows):
        keys.append(Line2D([], [], color=DARK, marker="x", linestyle="none", ms=5, label="solved longer ones, too"))
    return keys


def _draw_edges(axes: Any, rows: Sequence[EdgeRow], styles: Mapping[str, _Style], title: str) -> None:
    """A line for each model and initialisation: cold above, filled; staged below, hollow."""
    labels = list(dict.fromkeys(row.label for row in rows))
    tested = [rung["length"] for row in rows for result in row.results for rung in result["rungs"]]
    none, last = min(tested) / 2, max(tested)  # where an edge of 0 stands on an axis that has no 0
    aside = {"cold": -0.22, "staged": 0.22} if len({row.regime for row in rows}) > 1 else {}
    for row in rows:
        look, y = styles[row.label].look, labels.index(row.label) + aside.get(row.regime, 0)
        own: dict[str, Any] = {"color": look.colour, "linestyle": "none"}
        end = last * 1.5 if row.high is None else row.high
        axes.plot([row.low or none, end], [y, y], color=look.colour, linewidth=1, alpha=0.6, zorder=1)
        axes.plot([end], [y], marker=">" if row.high is None else "|", ms=5, zorder=1, **own)
        axes.plot([row.median or none], [y], marker="|", ms=13, mew=2.5, alpha=0.6, zorder=2, **own)
        middle = (len(row.edges) - 1) / 2
        for i, (edge, monotone) in enumerate(zip(row.edges, row.monotone, strict=True)):
            apart = 0.13 * (i - middle) / max(1, middle)
            axes.plot([edge or none], [y + apart], marker=look.marker if monotone else "x", ms=4.5, zorder=3,
                      mfc=look.colour if row.regime == "cold" else "white", mew=0.8, **own)  # fmt: skip
    _length_axis(axes, none, last * 1.7, none)
    axes.set_yticks(range(len(labels)), [short(label) for label in labels], fontsize=8)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.set_xlabel(f"edge, in {rows[0].axis} (logarithmic)")
    axes.set_title(title, fontsize=9, loc="left")


def _length_axis(axes: Any, low: float, high: float, none: float | None = None) -> None:
    """Powers of two, and ``none`` at its place."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 1.3, high)
    powers = range(math.ceil(math.log2(low) - 0.4), math.floor(math.log2(high)) + 1)
    kept = [2**i for i in powers][:: max(1, math.ceil(len(powers) / 9))]
    ticks: list[tuple[float, str]] = [(tick, f"{tick:,}") for tick in kept]
    ticks = [(none, "none"), *(it for it in ticks if it[0] > 1.4 * none)] if none is not None else ticks
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.set_xticks([], minor=True)


Curve = list[tuple[int, float]]


def _cold_curve(result: Result) -> Curve:
    """The best attempt at each length."""
    best: dict[int, float] = {}
    for rung in result["rungs"]:
        score = LOWEST if rung["score"] is None else rung["score"]
        best[rung["length"]] = max(score, best.get(rung["length"], -math.inf))
    return sorted(best.items())


def _untrained_curve(result: Result) -> Curve:
    """From the last length that was solved to those never trained on."""
    start = [(rung["length"], rung["score"]) for rung in result["rungs"]
             if rung["solved"] and rung["length"] == result["edge"]]  # fmt: skip
    return start + [(it["length"], LOWEST if it["score"] is None else it["score"]) for it in result["beyond"]]


def _draw_scores(
    axes: Any, rows: Sequence[EdgeRow], styles: Mapping[str, _Style], curve: Callable[[Result], Curve], title: str
) -> None:
    """A line for every seed, with the lines of no memory and of what counts as solved."""
    axes.set_title(title, fontsize=9, loc="left")
    curves = [(styles[row.label], curve(result)) for row in rows for result in row.results]
    lengths = [length for _, points in curves for length, _ in points]
    if not lengths:
        text = "no length was solved" if rows else "not measured"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    for (look, line), points in curves:
        xs, ys = [length for length, _ in points], [max(LOWEST, score) for _, score in points]
        axes.plot(xs, ys, color=look.colour, marker=look.marker, ms=3, lw=1, linestyle=line, alpha=0.65, zorder=3)
    right = axes.get_yaxis_transform()
    for place, text in ((SOLVED, "solved: .9"), (0.0, f"no memory ({rows[0].memoryless})")):
        axes.axhline(place, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.text(0.015, place - 0.015, text, transform=right, fontsize=6.5, color=GREY, va="top")
    axes.set_ylim(LOWEST - 0.05, 1.05)
    _length_axis(axes, min(lengths), max(lengths) * 1.3)
    axes.set_xlabel(f"length, in {rows[0].axis} (logarithmic)")
    axes.set_ylabel("normalised score")

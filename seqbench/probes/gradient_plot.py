"""The picture of `probe gradient`: all models against distance, before and after training. No torch.

Nothing of matplotlib is imported at the top, as it is optional.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.board.frame import COLOURS, DARK, GREY, MARKERS, Look, finish
from seqbench.probes import Found
from seqbench.probes.gradient_view import NEAR, VANISHED, Summary, labels, remarks, summaries, taught
from seqbench.report.text import short

__all__ = ["draw"]

Array = npt.NDArray[np.float64]
DECADE = math.log(10.0)
LOWEST, HIGHEST = -16.0, 8.0  # decades that an axis shows: below, sums in double precision would not notice
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
NOTE = (
    "Frobenius norm of each sample's Jacobian, exact, in double precision; the median over samples of its logarithm. "
)
PALE = 0.4  # opacity of the start where training is shown beside it
WHEN = {"start": "At the start", "trained": "After training on recall in stages"}


class Drawn(NamedTuple):
    """One line: what it shows, its name, and how it is drawn."""

    it: Summary
    label: str
    look: Look
    line: Literal["-", "--", ":", "-."]
    opacity: float


def draw(found: Sequence[Found], path: Path) -> Path:
    """Draw to ``path``: input Jacobians at each time, state Jacobians, and the first input's against T."""
    from matplotlib.figure import Figure

    its = summaries(found)
    drawn = _looks(its)
    whens = [when for when in WHEN if any(it.when == when for it in its)]
    figure = Figure(figsize=(12.5, 9.8), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.3, 1))
    for i, when in enumerate(whens):
        axes = figure.add_subplot(grid[0, i] if len(whens) > 1 else grid[0, :])
        _draw_input(axes, [one for one in drawn if one.it.when == when], when)
    which = "trained (pale: at the start)" if len(whens) > 1 else WHEN[whens[0]].lower()
    _draw_state(figure.add_subplot(grid[1, 0]), drawn, which)
    _draw_lengths(figure.add_subplot(grid[1, 1]), drawn, which)
    finish(figure, _title(its), _keys(drawn), [NOTE + f"Recall: score, {taught(its)} steps, 0 guessing, 1 all right."])
    figure.savefig(path)
    return path


def _looks(its: Sequence[Summary]) -> list[Drawn]:
    """A colour for each model and a line style for each of its variants; pale at the start if there is more."""
    names = labels(its)
    models = sorted({it.model for it in its})
    variants = {
        model: list(dict.fromkeys(n for it, n in zip(its, names, strict=True) if it.model == model)) for model in models
    }
    both = len({it.when for it in its}) > 1
    found = []
    for it, name in zip(its, names, strict=True):
        i, j = models.index(it.model), variants[it.model].index(name)
        look = Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        found.append(Drawn(it, name, look, LINES[j % len(LINES)], PALE if both and it.when == "start" else 1.0))
    return found


def _curves(one: Drawn, where: str, relative_to: int) -> tuple[list[int], Array]:
    """Distances, and (S, K) log10 norms of all seeds relative to k = ``relative_to``; NaN where there is none."""
    found = [result for case in one.it.found if (result := case.result)[where] is not None]
    if not found:
        return [], np.empty((0, 0))
    logs = np.array([result[where]["log_norm"] for result in found], dtype=float)
    curves = (logs - logs[:, [relative_to]]) / DECADE
    return found[0]["k"][relative_to:], curves[:, relative_to:]


def _draw_input(axes: Any, drawn: Sequence[Drawn], when: str) -> None:
    _lines(axes, [one._replace(opacity=1.0) for one in drawn], "input", 1)
    axes.set_title(WHEN[when], fontsize=10, loc="left")
    axes.set_ylabel("input Jacobian, log10 |J_k| / |J_1| (decades)")
    axes.set_xlabel("distance k from the last step back to the input (steps)")


def _draw_state(axes: Any, drawn: Sequence[Drawn], which: str) -> None:
    _lines(axes, drawn, "state", 0)
    axes.set_title(f"State Jacobian, {which}", fontsize=9, loc="left")
    axes.set_ylabel("log10 |ds_T / ds_(T-k)|,\nrelative to k = 0 (decades)")
    axes.set_xlabel("distance k (steps)")
    if not any(case.result["state"] for one in drawn for case in one.it.found):
        axes.text(0.5, 0.5, "no model with a state of fixed size", transform=axes.transAxes, ha="center", color=GREY)


def _lines(axes: Any, drawn: Sequence[Drawn], where: str, first: int) -> None:
    """Medians over seeds from k = ``first``, and bands from least to greatest."""
    low, high = -VANISHED - 1, 1.0
    leaving: list[tuple[Drawn, float, int, int]] = []
    for one in drawn:
        k, curves = _curves(one, where, first)
        if not k:
            continue
        middle = np.median(curves, axis=0)
        axes.plot(k, middle, color=one.look.colour, linestyle=one.line, linewidth=1.5, alpha=one.opacity, zorder=3)
        axes.fill_between(k, curves.min(axis=0), curves.max(axis=0), color=one.look.colour, linewidth=0,
                          alpha=0.15 * one.opacity)  # fmt: skip
        seen = np.flatnonzero(np.isfinite(middle))
        if not len(seen):
            continue
        low, high = min(low, float(middle[seen].min())), max(high, float(middle[seen].max()))
        outside = np.flatnonzero((middle < LOWEST) | (middle > HIGHEST))
        if len(outside) and not LOWEST <= middle[seen[-1]] <= HIGHEST:
            leaving.append((one, float(middle[seen[-1]]), k[int(outside[0])], k[int(seen[-1])]))
    axes.set_ylim(max(low - 0.5, LOWEST), min(high + 0.5, HIGHEST))
    _name_leaving(axes, leaving)
    axes.axhline(0, color=DARK, linewidth=0.8, zorder=1)
    bottom, top = axes.get_ylim()
    for value, name, side in ((-VANISHED, "1,000-fold weaker", "right"), (VANISHED, "1,000-fold stronger", "left")):
        if bottom < value < top - 0.08 * (top - bottom):
            axes.axhline(value, color=GREY, linewidth=1, linestyle="--", zorder=1)
            axes.text(0.99 if side == "right" else 0.01, value, name, transform=axes.get_yaxis_transform(), ha=side,
                      va="bottom", fontsize=7.5, color=GREY)  # fmt: skip
    if axes.get_xlim()[1] > NEAR:
        axes.axvline(NEAR, color=GREY, linewidth=0.8, linestyle=":", zorder=1)


def _name_leaving(axes: Any, leaving: Sequence[tuple[Drawn, float, int, int]]) -> None:
    """To the right of where a line leaves the axis: where it ends; those that leave late end near the axis."""
    left, right = axes.get_xlim()
    early = [leaves for leaves in leaving if leaves[2] < left + 0.7 * (right - left)]
    for i, (one, value, gone, last) in enumerate(sorted(early, key=lambda leaves: -leaves[2])):
        height = 0.02 + 0.05 * i if value < 0 else 0.93 - 0.05 * i
        axes.text((gone - left) / (right - left) + 0.03, height, f"to 10^{value:.0f} at k = {last}",
                  transform=axes.transAxes, va="bottom", fontsize=7.5, zorder=4, alpha=max(0.6, one.opacity),
                  color=one.look.colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip


def _draw_lengths(axes: Any, drawn: Sequence[Drawn], which: str) -> None:
    """The norm at the first input against T, with a line that falls as 1/T does."""
    lowest, lengths = 0.0, set[int]()
    for one in drawn:
        points = [case.result["by_length"] for case in one.it.found]
        steps = [point["length"] for point in points[0]]
        values = np.array([[point["last"] for point in of] for of in points], dtype=float) / DECADE
        middle = np.median(values, axis=0)
        axes.plot(steps, middle, color=one.look.colour, linestyle=one.line, marker=one.look.marker, markersize=5,
                  linewidth=1.3, alpha=one.opacity)  # fmt: skip
        lowest = min([lowest, *middle[np.isfinite(middle)].tolist()])
        lengths |= set(steps)
    ticks = np.array(sorted(lengths))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(length) for length in ticks])
    axes.set_xticks([], minor=True)
    thin = -np.log10(ticks / ticks[0])
    axes.plot(ticks, thin, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(max(lowest - 0.5, LOWEST), None)
    axes.set_title(f"Jacobian of the first input, {which}", fontsize=9, loc="left")
    axes.set_ylabel("log10 |J_(T-1)| (decades)")
    axes.set_xlabel("length of the sequence T (steps, logarithmic)")


def _keys(drawn: Sequence[Drawn]) -> list[Any]:
    """A key for each model and variant, with what the trained net knows over all T steps."""
    from matplotlib.lines import Line2D

    names: dict[str, str] = {}
    for one in drawn:
        score, steps = one.it.score_at_length.value, one.it.options["length"]
        knows = f": recall {score:.2f} over {steps} steps" if math.isfinite(score) else ""
        names[one.label] = names.get(one.label, "") or knows
    looks = {one.label: one for one in drawn}
    keys = [
        Line2D([], [], color=one.look.colour, linestyle=one.line, marker=one.look.marker, ms=5,
               label=short(name) + names[name])
        for name, one in looks.items()
    ]  # fmt: skip
    return [*keys, Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="falling as 1/T does (last panel)")]


def _title(its: Sequence[Summary]) -> str:
    widths, lengths, samples = (
        ", ".join(map(str, sorted({it.options[name] for it in its}))) for name in ("hidden", "length", "samples")
    )
    seeds = max(len(it.found) for it in its)
    many = f"{seeds} seeds: median, band from least to greatest" if seeds > 1 else "1 seed"
    lines = [
        "How far gradients reach: the last output differentiated by the input k steps before",
        f"width {widths}, {lengths} steps, {samples} sequences a seed, {many}",
        *remarks(its, labels(its)),
    ]
    return "\n".join(lines)

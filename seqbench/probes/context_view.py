"""The picture of `probe context`. No torch, and nothing of matplotlib at the top, as it is optional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from seqbench.board.frame import COLOURS, DARK, GREY, MARKERS, WIDTH, Look, finish, limits, whisker
from seqbench.probes import Found
from seqbench.probes.context_far import KINDS
from seqbench.probes.context_stats import TOLERANCES, effective_context, excess_curve, perturbation_excess
from seqbench.probes.context_table import Group, change_when_masked, groups_of, metric_interval
from seqbench.report.text import short
from seqbench.stats import Interval

__all__ = ["draw_context"]

LEAST, MOST = 1e-3, 3.0  # excess loss that is drawn
HEIGHTS = {"text": 4.3, "far": 3.1, "inputs": 3.7}  # inches


def draw_context(found: Sequence[Found], path: Path) -> Path:
    """Draw ``found`` to ``path``: for each task of text two rows of panels, for each other task one."""
    from matplotlib.figure import Figure

    text, inputs = groups_of(found, "text"), groups_of(found, "inputs")
    known = _looks([*text, *inputs])
    rows = []
    for _, members in groupby(text, lambda group: group.task):
        groups = list(members)
        rows.append(("text", groups))
        if any(perturbation_excess(group.results) for group in groups):
            rows.append(("far", groups))
    rows += [("inputs", list(members)) for _, members in groupby(inputs, lambda group: group.task)]
    heights = [HEIGHTS[what] for what, _ in rows]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.0), dpi=120, layout="constrained")
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    panels = {"text": _draw_text, "far": _draw_far, "inputs": _draw_inputs}
    for i, (what, groups) in enumerate(rows):
        panels[what](grid[i], groups, known)
    finish(figure, "Effective context on real data", _keys(known), _notes(text, inputs))
    figure.savefig(path)
    return path


def _looks(groups: Sequence[Group]) -> dict[str, Look]:
    names = sorted({group.label for group in groups})
    return {name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _keys(known: Mapping[str, Look]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=look.colour, marker=look.marker, ms=6, label=short(name)) for name, look in known.items()
    ]


def _notes(text: Sequence[Group], inputs: Sequence[Group]) -> list[str]:
    notes = []
    if text:
        notes.append(
            "Excess loss is over the least loss at any k, each k read from zero state; bands and whiskers: 95% over "
            f"seeds and blocks of text. Below {LEAST:.1%} nothing is drawn."
        )
        limited = sorted({group.label for group in text if group.results[0]["limit"] is not None})
        if limited:
            notes.append(
                f"{', '.join(limited)}: read at most at the length trained on (the state grows with the length)."
            )
    if any(perturbation_excess(group.results) for group in text):
        notes.append(
            "Dropping takes what is beyond k away; a swap puts another passage of the text there, shuffles keep its "
            "words or letters: what a shuffle costs beyond a swap is the shock of strange text, not information."
        )
    if inputs:
        notes.append("Lengths are trained for anew; whiskers: 95% over seeds and test groups, where seeds are several.")
    return notes


# --- text ---


def _draw_text(place: Any, groups: Sequence[Group], known: Mapping[str, Look]) -> None:
    axes, forest = place.subgridspec(1, 2, width_ratios=[1.7, 1]).subplots()
    _excess_axes(axes, groups)
    for group in groups:
        look, curve = known[group.label], excess_curve(group.results)
        shown = [(k, one) for k, one in zip(curve.ks, curve.excess, strict=True) if one.value >= LEAST]
        ks = [k for k, _ in shown]
        axes.fill_between(
            ks,
            [max(one.low, LEAST / 10) for _, one in shown],
            [one.high for _, one in shown],
            color=look.colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(ks, [one.value for _, one in shown], color=look.colour, marker=look.marker, ms=4.5, linewidth=1.3)
    _draw_contexts(forest, groups, known)


def _excess_axes(axes: Any, groups: Sequence[Group]) -> None:
    longest = max(group.results[0]["ks"][-1] for group in groups)
    axes.set(xscale="log", yscale="log", xlim=(0.9, 1.1 * longest), ylim=(LEAST, MOST))
    ticks = [2**i for i in range(longest.bit_length())]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axes.set_xticks([], minor=True)
    shares = [share for share in (0.001, 0.01, 0.1, 1.0) if LEAST <= share <= MOST]
    axes.set_yticks(shares, [f"{100 * share:g}%" for share in shares])
    for tolerance in TOLERANCES:
        axes.axhline(tolerance, color=GREY, linewidth=0.8, linestyle="--", zorder=0.5)
        axes.text(0.95, tolerance, f"{100 * tolerance:g}%", fontsize=7, color=GREY, va="bottom")
    for length in sorted({group.length for group in groups}):
        axes.axvline(length, color=DARK, linewidth=0.9, linestyle=":", zorder=0.5)
        axes.text(length, 0.985, f" T = {length} ", transform=axes.get_xaxis_transform(), fontsize=8, color=DARK,
                  ha="right" if length > longest / 2 else "left", va="top")  # fmt: skip
    axes.set(xlabel="k: characters read before the one that is scored", ylabel="excess loss")
    axes.set_title(f"{groups[0].task}: loss after k characters, over the least", fontsize=9, loc="left")


def _draw_contexts(axes: Any, groups: Sequence[Group], known: Mapping[str, Look]) -> None:
    """k* at 1% with its interval, large; at .5% and 2% small beside it."""
    ends = []
    for i, group in enumerate(groups):
        look = known[group.label]
        for tolerance, shift in zip(sorted(TOLERANCES), (0.24, 0.0, -0.24), strict=True):
            found = effective_context(group.results, tolerance)
            high = group.results[0]["ks"][-1] if math.isinf(found.high) else found.high
            ends += [found.value, found.low, high]
            if math.isinf(found.high):  # nothing says that more would not help
                axes.plot([high], [i + shift], color=look.colour, marker=">", ms=4, clip_on=False)
            axes.plot([found.low, high], [i + shift] * 2, color=look.colour, linewidth=1.6 if not shift else 0.8)
            axes.plot([found.value], [i + shift], color=look.colour, marker=look.marker, ms=4 if shift else 7)
            label, size, colour = f"  {found.value:,.0f} at {100 * tolerance:g}%", *((7, GREY) if shift else (8, DARK))
            axes.text(high, i + shift, label, fontsize=size, color=colour, va="center")
    low, high = min(ends), max(ends)
    axes.set(xscale="log", xlim=(low / 1.3, high * (high / low) ** 0.5 * 1.6), ylim=(len(groups) - 0.5, -0.5))
    ticks = [2**i for i in range(16) if low / 1.3 <= 2**i <= 2 * high]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(groups)), [short(group.label) for group in groups])
    axes.tick_params(axis="y", length=0)
    per_word = groups[0].results[0]["chars_per_word"]
    words = "" if per_word is None else f"  (a word has {per_word:.2f})"
    axes.set_xlabel(f"effective context k*, characters{words}")
    axes.set_title("Effective context at three tolerances, 95% intervals", fontsize=9, loc="left")


def _draw_far(place: Any, groups: Sequence[Group], known: Mapping[str, Look]) -> None:
    """A panel for each kind of change, on one scale."""
    changed = {group.label: perturbation_excess(group.results) for group in groups}
    kinds = [kind for kind in KINDS if any(kind in found for found in changed.values())]
    panels = place.subgridspec(1, len(kinds)).subplots(sharey=True, squeeze=False)[0]
    window = next(
        iter(next(group.results[0]["perturbed"] for group in groups if group.results[0]["perturbed"])["intact"])
    )
    ks = sorted({k for found in changed.values() for distances in found.values() for k in distances})
    everything = [one for found in changed.values() for distances in found.values() for one in distances.values()]
    span = limits([0.0, *(100 * end for one in everything for end in one)]) or (-1.0, 1.0)
    for axes, kind in zip(panels, kinds, strict=True):
        axes.axhline(0, color=DARK, linewidth=1, zorder=0.5)
        for i, (label, found) in enumerate(changed.items()):
            look, shift = known[label], 0.09 * (i - (len(changed) - 1) / 2)
            points = [(ks.index(k) + shift, one) for k, one in found.get(kind, {}).items()]
            axes.plot(
                [x for x, _ in points],
                [100 * one.value for _, one in points],
                color=look.colour,
                linewidth=1,
                alpha=0.6,
            )
            for x, one in points:
                _mark(axes, x, Interval(*(100 * end for end in one)), look)
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set(xlim=(-0.5, len(ks) - 0.5), ylim=span, xlabel="k: characters left as they are")
        verb = {"drop": "dropped", "swap": "another passage"}.get(kind, f"{kind.split()[-1]} shuffled")
        axes.set_title(f"Beyond k: {verb}", fontsize=9, loc="left")
    panels[0].set_ylabel(f"excess loss (%) over\n{window} intact characters")


# --- other inputs ---


def _draw_inputs(place: Any, groups: Sequence[Group], known: Mapping[str, Look]) -> None:
    left, right = place.subgridspec(1, 2).subplots()
    first = groups[0].results[0]
    unit = f" ({first['unit']})" if first["unit"] else ""
    lengths = sorted({group.length for group in groups})
    references = {group.length: group.results[0]["reference_value"] for group in groups}
    left.plot(lengths, [references[t] for t in lengths], color=GREY, linestyle="--", linewidth=1)
    name = short(first["reference"])
    left.text(1.01, references[lengths[-1]], name, fontsize=7.5, color=GREY, transform=left.get_yaxis_transform(),
              va="center")  # fmt: skip
    labels = list(dict.fromkeys(group.label for group in groups))
    for i, label in enumerate(labels):
        shift = 1.012 ** (i - (len(labels) - 1) / 2)  # so that whiskers stand side by side
        own = [group for group in groups if group.label == label]
        look, points = known[label], [(shift * group.length, metric_interval(group)) for group in own]
        left.plot([t for t, _ in points], [one.value for _, one in points], color=look.colour, linewidth=1.3)
        for t, one in points:
            _mark(left, t, one, look)
        changes = {shift * k: one for k, one in change_when_masked(own[-1]).items()}
        right.plot(list(changes), [one.value for one in changes.values()], color=look.colour, linewidth=1.3)
        for k, one in changes.items():
            _mark(right, k, one, look)
    for axes, ticks in (
        (left, lengths),
        (right, sorted({int(m["k"]) for g in groups for m in g.results[0]["masks"] or []})),
    ):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
    left.set(xlabel="length of the input, in steps", ylabel=f"test {first['metric']}{unit}")
    left.set_title(
        f"{groups[0].task}: trained on shorter inputs ({first['direction']} is better)", fontsize=9, loc="left"
    )
    right.axhline(0, color=DARK, linewidth=1, zorder=0.5)
    where = "the last steps" if first["anchor"] == "end" else "the steps on each side of the centre"
    right.set(xlabel=f"k: {where} that stay as they are", ylabel=f"change of {first['metric']}{unit}")
    right.set_title(f"Trained on {lengths[-1]}: what lies beyond k is another example's", fontsize=9, loc="left")


def _mark(axes: Any, x: float, one: Interval, look: Look) -> None:
    reach = (one.high - one.low) / 2
    if math.isnan(reach):
        axes.plot([x], [one.value], color=look.colour, marker=look.marker, ms=5)
    else:
        middle = (one.high + one.low) / 2
        whisker(axes, x, middle, reach, vertical=True, color=look.colour, marker="", elinewidth=1)
        axes.plot([x], [one.value], color=look.colour, marker=look.marker, ms=5)

"""The table of `probe context`, and what to make of it. No torch."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from seqbench.probes import Found
from seqbench.probes.context_stats import (
    TOLERANCES,
    carried_excess,
    effective_context,
    perturbation_excess,
    reference_distance,
)
from seqbench.report.text import listed
from seqbench.stats import Interval, estimate

__all__ = ["Group", "change_when_masked", "context_table", "groups_of", "metric_interval"]

Results = Sequence[Mapping[str, Any]]


class Group(NamedTuple):
    """Results of one model on one task with the same options, seeds together; ``label`` tells groups apart.

    ``training`` is what the case's options have of that name.
    """

    task: str
    what: str
    model: str
    label: str
    length: int
    training: Mapping[str, Any]
    results: list[dict[str, Any]]


def groups_of(found: Sequence[Found], what: str) -> list[Group]:
    """All groups of one ``what`` ("text" or "inputs"), by task, model and length."""

    def key(one: Found) -> tuple[str, str, int, str]:
        about = one.case.options
        return str(about["task"]), one.case.models[0], int(about["length"]), json.dumps(about, sort_keys=True)

    chosen = sorted((one for one in found if one.result["what"] == what), key=lambda one: (key(one), one.case.seed))
    groups = []
    for (task, model, length, _), members in groupby(chosen, key):
        cases = list(members)
        results, training = [dict(one.result) for one in cases], cases[0].case.options["training"]
        groups.append(Group(task, what, model, model, length, training, results))
    return [group._replace(label=_label(group, groups)) for group in groups]


def _label(group: Group, groups: Sequence[Group]) -> str:
    """The model's name, with what tells it from others of the same model on that task."""
    others = [one for one in groups if (one.task, one.model) == (group.task, group.model)]
    words = [group.model]
    if len({one.results[0]["width"] for one in others}) > 1:
        words.append(f"width {group.results[0]['width']}")
    if group.what == "text" and len({one.length for one in others}) > 1:
        words.append(f"T {group.length}")
    if len({_steps(one) for one in others}) > 1:
        words.append(f"{_steps(group):,} steps")
    return ", ".join(words)


def _steps(group: Group) -> int:
    """Of training."""
    return int(group.training["steps"])


def context_table(found: Sequence[Found]) -> str:
    """One table a task, each with sentences below it."""
    parts: list[str] = []
    for _, members in groupby(groups_of(found, "text"), lambda group: group.task):
        parts += _text_parts(list(members))
    for _, members in groupby(groups_of(found, "inputs"), lambda group: group.task):
        parts += _input_parts(list(members))
    return "\n\n".join(parts)


# --- text ---


def _text_parts(groups: Sequence[Group]) -> Iterator[str]:
    first = groups[0].results[0]
    per_word = first["chars_per_word"]
    rows = []
    for group in groups:
        contexts = {tolerance: effective_context(group.results, tolerance) for tolerance in TOLERANCES}
        middle, carried = contexts[0.01], carried_excess(group.results)
        rows.append(
            {
                "model": group.label,
                "seeds": len(group.results),
                f"test {first['unit'] or first['metric']}": f"{_mean(group.results, 'test'):.3f}",
                **{f"k* at {tolerance:.1%}": _span(found) for tolerance, found in contexts.items()},
                "words at 1.0%": "-" if per_word is None else _span(Interval(*(end / per_word for end in middle))),
                "longest": group.results[0]["ks"][-1],
                "carried": "-" if carried is None else f"{carried.value:+.2%}",
            }
        )
    title = (
        f"{groups[0].task}: effective context in characters [95% interval over seeds and text], "
        f"models trained on {', '.join(map(str, sorted({group.length for group in groups})))} characters at a time"
    )
    yield f"{title}\n{tabulate(rows, headers='keys', disable_numparse=True)}\n{_lines(_text_notes(groups))}"
    changed = {group.label: perturbation_excess(group.results) for group in groups}
    if any(changed.values()):
        yield _perturbation_table(groups, changed)


def _text_notes(groups: Sequence[Group]) -> Iterator[str]:
    first = groups[0].results[0]
    yield (
        "k* is the least number of characters, read from zero state, after which the loss stays within .5%, 1% or 2% "
        "of the least loss at any number; longest is the most that were tried."
    )
    yield f"{sum(first['counts']):,} characters of the test text are scored, in {first['blocks']} blocks."
    if first["chars_per_word"] is not None:
        yield f"A word has {first['chars_per_word']:.2f} characters here, its space included."
    yield (
        "carried is the loss with a state carried over the text so far, against that least loss; "
        "- where the state grows with the text."
    )
    yield from _doubts(groups)


def _doubts(groups: Sequence[Group]) -> Iterator[str]:
    """What a reader must know before trusting the figures of some models."""
    limited = [group for group in groups if group.results[0]["limit"] is not None]
    beyond = [group for group in groups if group not in limited and group.results[0]["ks"][-1] > group.length]
    few = [group for group in groups if len(group.results) < 2]
    for chosen, sentence in (
        (limited, "read at most the characters of a training window here: their state grows with the text."),
        (beyond, "read more characters here than in any training window."),
        (few, "measured with one seed: intervals are over the text alone."),
    ):
        if chosen:
            yield f"{listed([group.label for group in chosen])} {sentence}"
    for group in groups:
        best, excess = reference_distance(group.results)
        if excess > min(TOLERANCES):
            longest = group.results[0]["ks"][-1]
            yield (
                f"{group.label} gets worse beyond {best} characters, by {excess:.1%} at {longest}: "
                f"its reference is the loss at {best}."
            )


def _perturbation_table(groups: Sequence[Group], changed: Mapping[str, Mapping[str, Mapping[int, Interval]]]) -> str:
    rows = []
    for label, kinds in changed.items():
        for k in sorted({k for distances in kinds.values() for k in distances}):
            cells = {name: _percent(distances.get(k)) for name, distances in kinds.items()}
            rows.append({"model": label, "beyond k": k, **cells})
    window = ", ".join(sorted({k for group in groups for k in (group.results[0]["perturbed"] or {}).get("intact", {})}))
    title = f"{groups[0].task}: excess loss with what lies beyond k characters changed, in a window of {window}"
    return f"{title}\n{tabulate(rows, headers='keys', disable_numparse=True)}"


def _mean(results: Results, key: str) -> float:
    return float(np.mean([result[key] for result in results]))


def _span(found: Interval) -> str:
    high = "more" if math.isinf(found.high) else f"{found.high:.3g}"
    return f"{found.value:.3g} [{found.low:.3g}, {high}]"


def _percent(found: Interval | None) -> str:
    return "-" if found is None else f"{found.value:+.1%} [{found.low:+.1%}, {found.high:+.1%}]"


def _lines(sentences: Iterator[str]) -> str:
    return "\n".join(line for sentence in sentences for line in textwrap.wrap(sentence, 120))


# --- other inputs ---


def metric_interval(group: Group) -> Interval:
    """The mean over seeds of the metric, with its interval over seeds and test groups; NaN limits from one seed."""
    return _estimated([(one["value"], one["left_out"]) for one in group.results])


def change_when_masked(group: Group) -> dict[int, Interval]:
    """By k: how much the metric changes when inputs farther than k are those of another example."""
    found: dict[int, Interval] = {}
    if any(not one["masks"] for one in group.results):
        return found
    for i, mask in enumerate(group.results[0]["masks"]):
        pairs = []
        for one in group.results:
            there = one["masks"][i]
            without = np.subtract(there["left_out"], one["left_out"])
            pairs.append((float(np.mean(there["values"])) - one["value"], without))
        found[int(mask["k"])] = _estimated(pairs)
    return found


def _estimated(pairs: Sequence[tuple[float, Any]]) -> Interval:
    return estimate(np.array([value for value, _ in pairs]), np.array([left for _, left in pairs])).interval()


def _input_parts(groups: Sequence[Group]) -> Iterator[str]:
    first = groups[0].results[0]
    lengths = sorted({group.length for group in groups})
    labels = list(dict.fromkeys(group.label for group in groups))
    rows = []
    for label in labels:
        own = {group.length: group for group in groups if group.label == label}
        cells = {f"T = {length}": _reach(metric_interval(own[length])) if length in own else "-" for length in lengths}
        rows.append({"model": label, "seeds": max(len(group.results) for group in own.values()), **cells})
    references = {group.length: group.results[0]["reference_value"] for group in groups}
    rows.append({"model": first["reference"], "seeds": "-", **{f"T = {t}": f"{references[t]:.4g}" for t in lengths}})
    unit = f" ({first['unit']})" if first["unit"] else ""
    title = (
        f"{groups[0].task}: test {first['metric']}{unit}, {first['direction']} is better, by the length of the input"
    )
    common = all(one["common"] for group in groups for one in group.results)
    same = "on the same test examples" if common else "each length on its own test examples"
    yield (
        f"{title}\n{tabulate(rows, headers='keys', disable_numparse=True)}\n"
        f"Trained and tested at each length, {same}; ± is half the 95% interval over seeds and test groups."
    )
    yield from _masked_parts(groups, first)


def _masked_parts(groups: Sequence[Group], first: Mapping[str, Any]) -> Iterator[str]:
    masked = {group.label: found for group in groups if (found := change_when_masked(group))}
    if not masked:
        return
    rows = [
        {"model": label, **{f"k = {k}": _reach(one, "+") for k, one in found.items()}}
        for label, found in masked.items()
    ]
    title = (
        f"{groups[0].task}: change of {first['metric']} when inputs farther than k from the {first['anchor']} are "
        f"another example's (T = {max(group.length for group in groups)})"
    )
    yield f"{title}\n{tabulate(rows, headers='keys', disable_numparse=True)}"


def _reach(found: Interval, sign: str = "") -> str:
    reach = (found.high - found.low) / 2
    return f"{found.value:{sign}.4g}" + ("" if math.isnan(reach) else f" ± {reach:.2g}")

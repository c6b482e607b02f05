"""Edges of memory, all seeds together: as rows for whoever computes with them, and as a table. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any, NamedTuple

from tabulate import tabulate

from seqbench.probes import Found
from seqbench.report.text import NONE

__all__ = ["MEANING", "Beyond", "EdgeRow", "edges", "edges_table"]

SOLVED = 0.9
MEANING = {"cold": "learnable", "staged": "retainable"}
Result = Mapping[str, Any]


class Beyond(NamedTuple):
    """Untrained lengths ``factor`` times each seed's edge: of ``seeds`` tested, ``held`` still solved it."""

    factor: int
    seeds: int
    held: int
    median: float | None


@dataclass(frozen=True)
class EdgeRow:
    """All seeds of one model with one initialisation on one problem in one regime.

    Attributes:
        model, initialisation, problem, regime, width, params, device, budget: of the cases.
        axis: what lengths count, ``steps`` or ``pairs``.
        setting: whatever else was asked for that is not usual, in words.
        memoryless: who scores 0.
        results: of each seed.
        edges: of each seed the longest length with every tested one up to it solved; 0: none.
        at_least: of each seed, whether its ladder ended there, so that the edge may lie anywhere beyond.
        monotone: of each seed, whether no length beyond one that failed was solved.
        median: of the edges, the lower of two middle ones.
        median_at_least: whether the median is a lower bound only.
        low, high: least last pass and greatest first fail; None where some seed's ladder ended before it failed.
        coverage: probability that the median edge of all seeds there could be lies from ``low`` to ``high``: all n
            seeds fall on one side of it with 2 / 2^n.
        beyond: lengths longer than those trained on.
    """

    model: str
    initialisation: str
    problem: str
    regime: str
    width: int
    params: int
    device: str
    budget: str
    axis: str
    setting: str
    memoryless: str
    results: tuple[Result, ...]
    edges: tuple[int, ...]
    at_least: tuple[bool, ...]
    monotone: tuple[bool, ...]
    median: int
    median_at_least: bool
    low: int
    high: int | None
    coverage: float
    beyond: tuple[Beyond, ...]

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What rows must share to be compared: problem, setting, budget and device."""
        return self.problem, self.setting, self.budget, self.device

    @property
    def label(self) -> str:
        """Model and initialisation."""
        return self.model if self.initialisation == "default" else f"{self.model} {self.initialisation}"


def edges(found: Iterable[Found]) -> list[EdgeRow]:
    """A row for every model, initialisation, problem and regime of ``found``, in the order of their first case.

    Cases are put together where all but the seed is the same: their options, device and budget.
    """
    groups: dict[str, list[Found]] = {}
    for one in found:
        case = one.case
        same = json.dumps([case.models, case.options, case.device, case.budget], sort_keys=True)
        groups.setdefault(same, []).append(one)
    return [_row(sorted(group, key=lambda one: one.case.seed)) for group in groups.values()]


def _row(group: Sequence[Found]) -> EdgeRow:
    case, results = group[0].case, tuple(one.result for one in group)
    found = [result["edge"] for result in results]
    # one whose ladder ended counts as longer than an equal one that failed beyond
    order = sorted((result["edge"], bool(result["at_least"])) for result in results)
    middle, more = order[(len(order) - 1) // 2]  # of an even number the lower one: a length that was tried
    fails = [result["first_fail"] for result in results]
    own = {name: results[0][name] for name in ("problem", "regime", "initialisation", "width", "params", "axis")}
    return EdgeRow(
        **own,
        model=case.models[0],
        device=case.device,
        budget=case.budget,
        setting=_setting(case.options),
        memoryless=results[0]["memoryless"],
        results=results,
        edges=tuple(found),
        at_least=tuple(result["at_least"] for result in results),
        monotone=tuple(result["monotone"] for result in results),
        median=middle,
        median_at_least=more,
        low=min(found),
        high=None if None in fails else max(fails),
        coverage=1 - 2.0 ** (1 - len(found)),
        beyond=tuple(_beyond(results)),
    )


def _setting(options: Mapping[str, Any]) -> str:
    """What of the options is not usual."""
    words = [f"{options['layers']} layers"] if options["layers"] > 1 else []
    words += [f"{options['backbone']} backbone"] if options["backbone"] != "bare" else []
    return ", ".join([*words, *(["blank distractors"] if options["blank"] else [])])


def _beyond(results: Sequence[Result]) -> Iterable[Beyond]:
    tested: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        for one in result["beyond"]:
            tested.setdefault(one["length"] // result["edge"], []).append(one)
    for factor, group in sorted(tested.items()):
        scores = [one["score"] for one in group]
        held = sum(one["low"] is not None and one["low"] >= SOLVED for one in group)
        yield Beyond(factor, len(group), held, None if None in scores else median(scores))


def edges_table(found: Sequence[Found]) -> str:
    """Edges of every seed, their median and range, and how many seeds held untrained lengths; then how to read it."""
    rows = edges(found)
    if not rows:
        return "Nothing was measured."
    blocks = []
    for _, group in groupby(sorted(rows, key=_block), key=_block):
        block = list(group)
        first = block[0]
        setting = "".join(f", {words}" for words in (first.setting, first.budget, first.device) if words)
        lag = MEANING[first.regime] + (" lag" if first.axis == "steps" else " number")
        heading = f"{first.problem}, {first.regime}{setting}: {lag} in {first.axis} (score 0 is {first.memoryless})"
        blocks.append(f"{heading}\n{tabulate([_cells(row) for row in block], headers='keys', disable_numparse=True)}")
    return "\n\n".join([*blocks, "\n".join(filter(None, (_sums(rows), _reading(rows))))])


def _block(row: EdgeRow) -> tuple[str, ...]:
    return (*row.place, row.regime)


def _cells(row: EdgeRow) -> dict[str, str]:
    cells = {
        "model": row.model,
        "initialisation": row.initialisation,
        "width": str(row.width),
        "parameters": f"{row.params:,}",
        "edge of each seed": " ".join(map(_edge, row.edges, row.at_least, row.monotone)),
        "median": _edge(row.median, row.median_at_least),
        "range": f"{row.low} to {'?' if row.high is None else row.high}"
        + (f" ({row.coverage:.1%})" if len(row.edges) > 1 else ""),
    }
    if row.regime == "staged":
        cells["seeds that hold more"] = ", ".join(f"{it.factor}x {it.held}/{it.seeds}" for it in row.beyond) or NONE
    return cells


def _edge(value: float, at_least: bool, monotone: bool = True) -> str:
    return f"{'>=' if at_least else ''}{value:g}{'' if monotone else '!'}"


def _sums(rows: Sequence[EdgeRow]) -> str:
    """A line for each that was measured in both regimes."""
    staged = {(row.label, row.width, *row.place): row for row in rows if row.regime == "staged"}
    lines = []
    for row in rows:
        other = staged.get((row.label, row.width, *row.place))
        if row.regime == "cold" and other is not None:
            lines.append(
                f"{row.label} on {row.problem}: {_words(row)} {row.axis} from cold, {_words(other)} taught in stages."
            )
    return "\n".join([*lines, ""]) if lines else ""


def _words(row: EdgeRow) -> str:
    return f"{'at least ' if row.median_at_least else ''}{row.median:g}" if row.median else "none"


def _reading(rows: Sequence[EdgeRow]) -> str:
    lines = [
        "An edge is the longest length with every tested one up to it solved (the 95% interval of the score at .9 or",
        "above; 0: none). Cold: a fresh net for each length, what training finds. Staged: one net through growing",
        "lengths, what the state can hold; beyond its edge the net is tried on 2, 4 and 8 times that, untrained. The",
        "range goes from the least last pass to the greatest first fail; beside it the probability that it covers the",
        "median edge.",
    ]
    if any(any(row.at_least) for row in rows):
        lines.append(">= : the ladder ended there, the edge may lie anywhere beyond (in a range: ?).")
    if not all(all(row.monotone) for row in rows):
        lines.append("! : a longer length was solved after a shorter one had failed.")
    return "\n".join(lines)

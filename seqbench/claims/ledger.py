"""The ledger as a page (CLAIMS.md) and as data (claims.json). No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqbench.claims.claim import Claim
from seqbench.claims.verdict import Condition
from seqbench.report.text import escape, interval_text, link, relative, table

__all__ = ["render_json", "render_markdown"]

SIDES = {True: "inside", False: "outside", None: "undecided"}
INTRODUCTION = """\
What texts say of recurrent networks, and what came out when it was measured. A verdict follows from the intervals by
one rule: *supported* where all of them lie in the region that the sentence names, *refuted* where none touches it,
*depends on* where some lie in it and some clear of it, *inconclusive* where they don't tell; *incomplete* where
something that was to be measured has no result. *Depends on* names the fewest columns that tell the rows inside from
those outside; others may matter, too. The page is written by `run_bench.py claims` and never by hand; what
was measured links to its records."""


def render_markdown(
    claims: Sequence[Claim], conditions: Sequence[str], base: Path, plots: Mapping[str, Path] | None = None
) -> str:
    """The page; links are relative to ``base``, ``plots`` are pictures by title."""
    rows = [(str(it.number), it.sentence, it.statement, f"**{it.verdict}**") for it in claims]
    lines = ["# Eight sentences about recurrent networks, measured", "", INTRODUCTION, ""]
    headers = ["", "the texts say", "measured here", "verdict"]
    lines += table(headers, rows, headers)
    lines += ["", *(f"- {line}" for line in conditions), ""]
    for title, path in (plots or {}).items():
        lines += [f"![{escape(title)}]({relative(path, base)})", ""]
    for it in claims:
        lines += _section(it, base)
    return "\n".join(lines).rstrip() + "\n"


def _section(it: Claim, base: Path) -> list[str]:
    lacks = f" It lacks: {it.lacks}." if it.lacks else ""
    lines = [f"## {it.number}. {it.sentence}", "", f"{it.statement} Verdict: **{it.verdict}**.{lacks}", ""]
    lines += [f"Said by: {it.source}", "", f"Measured: {it.method}", ""]
    if it.conditions:
        axes = list(dict.fromkeys(name for condition in it.conditions for name in condition.axes))
        headers = [*axes, "figure (interval)", "the sentence is true for", "it lies", "records"]
        lines += [*table(headers, [_row(condition, axes, base) for condition in it.conditions], headers), ""]
        notes = dict.fromkeys(condition.note for condition in it.conditions if condition.note)
        lines += [*(f"- {escape(note)}" for note in notes), *([""] if notes else [])]
    for heading, asides in it.beside:
        if asides:
            said = (f"- {text}{f' [{links}]' if (links := _links(records, base)) else ''}" for text, records in asides)
            lines += [*([heading, ""] if heading else []), *said, ""]
    return lines


def _links(records: Sequence[Path], base: Path) -> str:
    return " ".join(link(str(i), path / "record.json", base) for i, path in enumerate(records, start=1))


def _row(it: Condition, axes: Sequence[str], base: Path) -> list[str]:
    known = [it.axes.get(name, "") for name in axes]
    return [
        *map(escape, known),
        interval_text(it.figure, it.unit, at_least=it.at_least),
        escape(it.region),
        SIDES[it.inside],
        _links(it.records, base),
    ]


def render_json(claims: Sequence[Claim], conditions: Sequence[str], base: Path) -> str:
    """The same as data; what is infinite or unknown is null."""
    content = {"conditions": list(conditions), "claims": [_claim(it, base) for it in claims]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _claim(it: Claim, base: Path) -> dict[str, Any]:
    found = {name: getattr(it, name) for name in ("number", "sentence", "source", "method", "statement", "lacks")}
    conditions = [_condition(condition, base) for condition in it.conditions]
    beside = [
        {"heading": heading, "lines": [{"text": text, "records": _relative(records, base)} for text, records in asides]}
        for heading, asides in it.beside
    ]
    verdict = {"verdict": it.verdict.word, "depends_on": [list(axes) for axes in it.verdict.on]}
    return {**found, **verdict, "conditions": conditions, "beside": beside}


def _relative(records: Sequence[Path], base: Path) -> list[str]:
    return [relative(path / "record.json", base) for path in records]


def _condition(it: Condition, base: Path) -> dict[str, Any]:
    limits = {name: _finite(getattr(it.figure, name)) for name in ("value", "low", "high")}
    said = {"unit": it.unit, "region": it.region, "inside": it.inside, "at_least": it.at_least, "note": it.note}
    return {"axes": dict(it.axes), **limits, **said, "records": _relative(it.records, base)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

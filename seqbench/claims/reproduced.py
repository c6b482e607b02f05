"""The page of published tables that were measured again: each figure of a paper, ours with its interval, the verdict.

What was measured are the records of the probe `published` that lie where the ledger is written; `ledger` writes the
page beside its own. A verdict follows by rule from the interval, as the probe has it; nobody types one in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.probes import PROBES, Measured, ProbeSpec
from seqbench.probes.published import EXPERIMENTS, PublishedResult, PublishedRow, rows_of
from seqbench.report.text import NONE, counted, escape, interval_text, link, listed, relative, rounded, table

__all__ = ["published_again", "reproduced_page"]

PROBE = "published"
INTRODUCTION = """\
Tables of papers, and what came out when their experiments were made again. *Same*: the published figure lies within the
95% interval over seeds, rounding allowed for. *Different*: it does not. *Other data*: the experiment is theirs and the
data is not, so only the order of the models can be compared. Nets have the papers' sizes; the optimiser is Adam with
one learning rate for all, and steps are those of the budget, so a loss that still falls at the last check is that of
the budget. The page is written by `run_bench.py claims` and never by hand."""


def published_again(store: Store) -> list[Measured[PublishedResult]]:
    """The results of the probe that ``store`` holds."""
    from seqbench.probes.shared.measuring import read_result  # torch

    return [
        Measured(ProbeSpec.from_json(record.case), read_result(record), folder)
        for record, folder in store.records(ProbeRecord)
        if record.probe.name == PROBE and record.result is not None
    ]


def reproduced_page(measured: Sequence[Measured[PublishedResult]], base: Path, picture: Path | None) -> str:
    """The page; links are relative to ``base``."""
    rows = rows_of(measured)
    told = [row for row in rows if row.verdict in ("same", "different")]
    same = sum(row.verdict == "same" for row in told)
    lines = ["# Published tables, measured again", "", INTRODUCTION, ""]
    lines += [f"Of {counted(len(told), 'figure')} that can be compared, {same} came out the same.", ""]
    if picture is not None:
        lines += [f"![{escape(PROBES.get(PROBE).chart(measured).title)}]({relative(picture, base)})", ""]
    for name in EXPERIMENTS:
        here = [row for row in rows if row.results[0].experiment == name]
        lines += [*_section(here, base)] if here else []
    return "\n".join(lines).rstrip() + "\n"


def _section(rows: Sequence[PublishedRow], base: Path) -> Iterator[str]:
    experiment = rows[0].experiment
    yield from (f"## {experiment.title[:1].upper()}{experiment.title[1:]}", "", f"Published: {experiment.source}", "")
    headers = ["model", "parameters", "steps", "seeds", experiment.figure, "published", "verdict", "records"]
    cells = [
        [
            row.model,
            f"{row.results[0].params:,}",
            f"{max(result.steps for result in row.results):,}",
            str(len(row.results)),
            NONE if math.isnan(row.figure.value) else interval_text(row.figure),
            NONE if row.found is None else rounded(row.found.value) + (f" ({row.found.of})" if row.found.of else ""),
            row.verdict or "not in the paper",
            " ".join(link(str(i), folder / "record.json", base) for i, folder in enumerate(row.folders, start=1)),
        ]
        for row in rows
    ]
    yield from (*table(headers, cells, [headers[0], *headers[5:]]), "")
    memoryless = rows[0].results[0].memoryless
    if memoryless is not None:
        yield from (f"- a net that holds nothing has a loss of {rounded(memoryless)}", "")
    if not experiment.same_data:
        yield from (f"- {_order(rows)}", "")


def _order(rows: Sequence[PublishedRow]) -> str:
    """From the worst to the best of those that the paper has, here and there."""
    known = [(row.model, row.found.value, row.figure.value) for row in rows if row.found is not None]
    theirs = [model for model, *_ in sorted(known, key=lambda one: one[1])]
    ours = [model for model, *_ in sorted(known, key=lambda one: one[2])]
    agree = "the same here" if theirs == ours else f"here {listed(ours)}"
    return f"from the worst to the best: {listed(theirs)} in the paper, {agree}"

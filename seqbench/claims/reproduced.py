"""The page of published tables that were measured again: each figure of a paper, ours with its interval, the verdict.

What was measured are the records of the probe `published` that lie where the ledger is written; `ledger` writes the
page beside its own. A verdict follows by rule from the interval, as the probe has it; nobody types one in.
"""

from __future__ import annotations

import itertools
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
95% interval over seeds, rounding allowed for; a wide interval says so of many figures. *Different*: it does not.
*Can't tell*: fewer than five seeds. *Other data*: the experiment is theirs and the data is not, so only the order of
the models can be compared. The optimiser is Adam with one learning rate for all, and steps are those of the budget, so
a loss that still falls at the last check is that of the budget; what else differs stands below each table. The page is
written by `run_bench.py claims` and never by hand."""


def published_again(store: Store) -> list[Measured[PublishedResult]]:
    """The results of the probe that ``store`` holds, without those that only show that it runs."""
    from seqbench.probes.shared.measuring import read_result  # torch

    return [
        Measured(ProbeSpec.from_json(record.case), read_result(record), folder)
        for record, folder in store.records(ProbeRecord)
        if record.probe.name == PROBE and record.result is not None and record.case.get("budget") != "smoke"
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
        yield f"- A net that holds nothing has a loss of {rounded(memoryless)}."
    yield f"- {experiment.differs}"
    yield from (f"- {text}" for text in ([] if experiment.same_data else _order(rows)))
    yield ""


def _order(rows: Sequence[PublishedRow]) -> Iterator[str]:
    """Of each two that the paper has, which is better here; nothing of those whose intervals overlap."""
    known = sorted((row for row in rows if row.found is not None), key=lambda row: row.found.value if row.found else 0)
    agree, against, open_ = [], [], []
    for worse, better in itertools.combinations(known, 2):
        pair = f"{better.model} over {worse.model}"
        if better.figure.low > worse.figure.high:
            agree.append(pair)
        elif worse.figure.low > better.figure.high:
            against.append(pair)
        else:
            open_.append(pair)
    for pairs, words in ((agree, "come out here"), (against, "are the other way round"), (open_, "can't be told")):
        if pairs:
            yield f"Of the paper's orders {words}: {listed(pairs)}."

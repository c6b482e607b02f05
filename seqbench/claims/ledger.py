"""The ledger: what is measured for it, and what is written of that: CLAIMS.md, claims.json and pictures.

The pictures are written as data, too (charts.json), for the page of the board.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seqbench.board import BoardTable, load_results, make_tables
from seqbench.board.html import CHARTS, CLAIMS_DATA
from seqbench.claims import Evidence, all_claims
from seqbench.claims.names import ATTENTION, COMPARED, GRU, LSTM, RNN, TEXT
from seqbench.claims.reproduced import published_again, reproduced_page
from seqbench.claims.rules import Claim, Condition
from seqbench.disk import replace_file
from seqbench.jobs import FINE
from seqbench.jobs.job import Job, Outcome
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.probes import PROBES, ProbeSpec, Request
from seqbench.report.chart import GREY, Axis, Chart, Look, Mark, Panel, Points, Region, chart_data
from seqbench.report.draw import draw
from seqbench.report.text import escape, interval_text, link, listed, relative, table

__all__ = ["Size", "plan", "read_board", "write"]

Size = Literal["smoke", "quick", "standard"]
PAIRS_PARAMS = {"smoke": 10_000, "quick": 20_000, "standard": 80_000}  # of the nets that are asked for pairs
STARTS = "default,orthogonal,forget-bias-0,forget-bias-3"  # of the nets whose memory is measured
LONGER = {"quick": (12_000,)}  # steps of further trainings of the LSTM: how much text it uses is a matter of that, too


# --- what is measured ------------------------------------------------------------------------------------------------


def plan(budget: Size, device: str) -> list[Job]:
    """All measurements on a device type, each once; what claims need first comes first."""
    from seqbench.probes.shared.measuring import job_of  # torch

    smoke = budget == "smoke"
    problems = "recall" if smoke else "recall,adding"
    pairs = {"problem": "selective", "regime": "staged", "params": PAIRS_PARAMS[budget]}
    parts: list[tuple[str, Sequence[str], Mapping[str, Any], int | None]] = [  # probe, models, options and seeds
        ("memory", (RNN, LSTM), {"problem": problems, "initialisation": STARTS}, None),
        ("memory", (GRU, ATTENTION), {"problem": problems}, None),
        ("memory", COMPARED, pairs, None if smoke else 6),
        ("gradient", COMPARED, {}, None),
        *(("context", (LSTM,), {"task": TEXT, "steps": steps}, None) for steps in (None, *LONGER.get(budget, ()))),
        ("context", (RNN, GRU, ATTENTION), {"task": TEXT}, 1 if smoke else 2),
        *(("cost", COMPARED, {"backend": backend}, None) for backend in ("kernel", "loop")),
        ("parallel", COMPARED, {}, None),
    ]
    jobs: dict[str, Job] = {}
    for name, models, options, seeds in parts:
        probe, request = PROBES.get(name), Request(model=",".join(models), budget=budget, seeds=seeds)
        for spec in probe.plan(request, probe.Options(**options), models, device):
            job = job_of(spec)
            jobs.setdefault(job.key, job)
    return list(jobs.values())


def read_board(board: Path) -> list[BoardTable]:
    """The tables of the records under ``board``, of which there may be none.

    Raises:
        UserError: a record is damaged: to be known before hours of work.
    """
    if not any(board.glob(f"{RunRecord.PATTERN}/run-*")):
        return []
    return make_tables(load_results(board))


# --- what is written -------------------------------------------------------------------------------------------------


def write(jobs: Sequence[Job], outcomes: Sequence[Outcome], budget: str, out: Path, board: Path) -> list[Path]:
    """Write the page, the data and the pictures into ``out``; return their paths.

    Args:
        jobs: what was planned.
        outcomes: those of them that have a record.
        budget: of the plan.
        board: a directory of records of models trained on tasks.
    """
    from seqbench.probes.shared.measuring import measured  # torch

    base = out.resolve()
    done = measured(replace(outcome, folder=outcome.folder.resolve()) for outcome in outcomes)
    fine = {outcome.job.key for outcome in outcomes if outcome.record.status in FINE}
    missing = [job.spec for job in jobs if job.key not in fine and isinstance(job.spec, ProbeSpec)]
    tables = read_board(board.resolve())
    usual = [table for table in tables if not table.variant and not table.setting]
    evidence = Evidence(done, missing, usual, [table for table in tables if table not in usual])
    claims, conditions = all_claims(evidence), _conditions(outcomes, len(jobs), budget)
    charts = dict(_charts(claims, evidence, base))
    drawn = importlib.util.find_spec("matplotlib") is not None
    plots = {base / "plots" / f"{name}.png": chart for name, chart in charts.items() if drawn}
    again = _write_reproduced(out, base, drawn)
    page, data, pictures = out / "CLAIMS.md", out / CLAIMS_DATA, out / CHARTS
    replace_file(page, lambda file: file.write(render_markdown(claims, conditions, base, plots).encode()))
    replace_file(data, lambda file: file.write(render_json(claims, conditions, base).encode()))
    content = json.dumps({name: chart_data(chart) for name, chart in charts.items()}, allow_nan=False)
    replace_file(pictures, lambda file: file.write(f"{content}\n".encode()))
    return [page, data, pictures, *(draw(chart, path) for path, chart in plots.items()), *again]


def _write_reproduced(out: Path, base: Path, drawn: bool) -> list[Path]:
    """The page of published tables and its picture, where the probe has left records in ``out``."""
    found = published_again(Store(base))
    if not found:
        return []
    page, picture = out / "REPRODUCED.md", base / "plots" / "probe-published.png"
    text = reproduced_page(found, base, picture if drawn else None)
    replace_file(page, lambda file: file.write(text.encode()))
    return [page, *([draw(PROBES.get(found[0].spec.probe).chart(found), picture)] if drawn else [])]


def _conditions(outcomes: Sequence[Outcome], planned: int, budget: str) -> list[str]:
    """Budget, machines, versions, and what did not end well."""
    environments = [outcome.record.environment for outcome in outcomes]
    where = Counter((it.device_name, it.threads, it.torch, it.seqbench) for it in environments)
    lines = [f"budget {budget}: {len(outcomes)} of {planned} measurements have a record"]
    lines += [
        f"{count} on {device}, {threads} CPU thread{'s' if threads > 1 else ''}, torch {torch}, seqbench {version}"
        for (device, threads, torch, version), count in sorted(where.items())
    ]
    old = sum(outcome.record.key != outcome.job.key for outcome in outcomes)
    if old:
        lines.append(
            f"{old} with an older version of the models or the probe; `claims` without --report measures those again"
        )
    states = Counter(outcome.record.status for outcome in outcomes if outcome.record.status != "ok")
    if states:
        counts = [f"{count} {state.replace('_', ' ')}" for state, count in sorted(states.items())]
        lines.append(f"of these {listed(counts)}")
    return lines


# --- the page --------------------------------------------------------------------------------------------------------

INTRODUCTION = """\
What texts say of recurrent networks, and what came out when it was measured. Every figure has an interval, and a
verdict follows from the intervals by one rule. *Supported*: all of them lie in the region that the sentence names.
*Refuted*: none touches that region. *Depends on*: some lie in it and some clear of it; the columns named are the fewest
that tell these rows from those, and others may matter, too. *Supported (refuted) but for*: at least two thirds lie
there (clear of it), and the rows named are undecided. *Inconclusive*: fewer do, the intervals are too wide to tell.
*Not tested*: what was measured could tell nothing of the sentence, for the reason below its table. *Incomplete*:
something that was to be measured has no result. The page is written by `run_bench.py claims` and never by
hand; what was measured links to its records."""


def render_markdown(
    claims: Sequence[Claim], conditions: Sequence[str], base: Path, charts: Mapping[Path, Chart] | None = None
) -> str:
    """The page; links are relative to ``base``; ``charts`` by the path of their picture."""
    headers = ["", "the texts say", "measured here", "verdict"]
    rows = [(str(claim.number), claim.sentence, claim.statement, _verdict(claim)) for claim in claims]
    lines = ["# What texts say of recurrent networks, measured", "", INTRODUCTION, "", *table(headers, rows, headers)]
    lines += ["", *(f"- {line}" for line in conditions), ""]
    for path, chart in (charts or {}).items():
        lines += [f"![{escape(chart.title)}]({relative(path, base)})", ""]
    return "\n".join([*lines, *(line for claim in claims for line in _section(claim, base))]).rstrip() + "\n"


def _verdict(claim: Claim) -> str:
    return f"**{claim.verdict}**" + (f"; {escape(claim.caution)}" if claim.caution else "")


def _section(claim: Claim, base: Path) -> Iterator[str]:
    lacks = f" Without a result: {claim.lacks}." if claim.lacks else ""
    yield from (f"## {claim.number}. {claim.sentence}", "", f"{claim.statement} Verdict: {_verdict(claim)}.{lacks}", "")
    yield from (f"Said by: {claim.source}", "", f"Measured: {claim.method}", "")
    if claim.conditions:
        axes = list(dict.fromkeys(name for condition in claim.conditions for name in condition.axes))
        headers = [*axes, "figure (interval)", "the sentence is true for", "it lies", "records"]
        rows = [
            [
                *(escape(condition.axes.get(name, "")) for name in axes),
                interval_text(condition.figure, condition.unit, at_least=condition.at_least),
                escape(condition.region),
                SIDES[condition.inside].word if condition.tested else NOT_TESTED,
                _links(condition.records, base),
            ]
            for condition in claim.conditions
        ]
        yield from (*table(headers, rows, headers), "")
    notes = dict.fromkeys(condition.note for condition in claim.conditions if condition.note)
    if notes:
        yield from (*(f"- {escape(note)}" for note in notes), "")
    for heading, asides in claim.beside.items():
        if asides:
            yield from (heading, "", *(f"- {text} [{_links(records, base)}]" for text, records in asides), "")


def _links(records: Sequence[Path], base: Path) -> str:
    return " ".join(link(str(i), path / "record.json", base) for i, path in enumerate(records, start=1))


# --- the data --------------------------------------------------------------------------------------------------------


def render_json(claims: Sequence[Claim], conditions: Sequence[str], base: Path) -> str:
    """The same as data; what is infinite or unknown is null."""

    def links(folders: Sequence[Path]) -> list[str]:
        return [relative(folder / "record.json", base) for folder in folders]

    def plain(condition: Condition) -> dict[str, Any]:
        figure = {name: x if math.isfinite(x) else None for name, x in condition.figure._asdict().items()}
        facts = {name: fact for name, fact in vars(condition).items() if name not in ("figure", "regions")}
        return {**facts, **figure, "records": links(condition.records)}

    rows = [
        {
            "number": claim.number,
            **vars(claim),
            "verdict": claim.verdict.word,
            "depends_on": claim.verdict.on,
            "but_for": claim.verdict.but_for,
            "conditions": [plain(condition) for condition in claim.conditions],
            "beside": [
                {"heading": heading, "lines": [{"text": text, "records": links(folders)} for text, folders in asides]}
                for heading, asides in claim.beside.items()
            ],
        }
        for claim in claims
    ]
    content = {"conditions": conditions, "claims": rows}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# --- the picture -----------------------------------------------------------------------------------------------------

HEAD = 4  # rows that a panel's title and axis take


class Side(NamedTuple):
    """How figures on one side of a region are named and drawn."""

    word: str
    meaning: str
    look: Look


NOT_TESTED = "not tested"
SIDES = {
    True: Side("inside", ": the sentence is true there", Look("#00855f", "o")),
    False: Side("outside", ": it is false there", Look("#d55e00", "X")),
    None: Side("undecided", "", Look(GREY, "D")),
}


def _charts(claims: Sequence[Claim], evidence: Evidence, base: Path) -> Iterator[tuple[str, Chart]]:
    """By name of the picture, one of the claims and one of each probe."""
    yield "claims", claims_chart(claims, base)
    for name in dict.fromkeys(one.spec.probe for one in evidence.measured):
        yield f"probe-{name}", PROBES.get(name).chart(evidence.of(name))


def claims_chart(claims: Sequence[Claim], base: Path = Path()) -> Chart:
    """Every figure with its interval, beside the region in which its sentence is true; two columns of claims.

    Paths of the records behind a figure are relative to ``base``.
    """
    panels = [list(_panels(claim, base)) for claim in claims if claim.conditions]
    heights = [sum(len(panel.rows) + HEAD for panel in group) for group in panels]
    cut = min(range(len(panels) + 1), key=lambda at: max(sum(heights[:at]), sum(heights[at:])))
    columns = [[panel for group in groups for panel in group] for groups in (panels[:cut], panels[cut:])]
    note = "An arrow: the interval is open, or ends beyond the panel. A verdict follows from all of a claim's rows."
    return Chart("All claims, figure by figure", [column for column in columns if column], notes=[note])


def _panels(claim: Claim, base: Path) -> Iterator[Panel]:
    """A panel for each unit of the figures; what all its rows share is named below it, and sizes as in 16 x 256."""
    title, notes = f"{claim.number}. {claim.sentence}\nVerdict: {claim.verdict}", [claim.caution]
    for unit in dict.fromkeys(condition.unit for condition in claim.conditions):
        conditions = [condition for condition in claim.conditions if condition.unit == unit]
        shared: list[str] = []
        words: list[str] = []
        sizes: list[str] = []
        for name in conditions[0].axes:
            values = [condition.axes[name] for condition in conditions]
            if len(set(values)) == 1 < len(values):
                shared += [f"{name}: {values[0]}"] if values[0] else []
            else:
                (sizes if any(value.replace(",", "").isdecimal() for value in values) else words).append(name)
        rows = []
        for axes in (condition.axes for condition in conditions):
            size = " x ".join(axes[name] for name in sizes if axes[name])
            rows.append(", ".join(filter(None, [*(axes[name] for name in words), size])))
        axis = Axis(", ".join([*shared, unit.removeprefix("of ")]), _scale(conditions))
        note = "; ".join(filter(None, [*notes, " x ".join(sizes)]))
        yield Panel(title, list(_marks(conditions, base)), axis, rows=rows, note=note)
        title, notes = f"{claim.number}, continued", []


def _marks(conditions: Sequence[Condition], base: Path) -> Iterator[Mark]:
    for y, condition in enumerate(conditions):
        for low, high in condition.regions:
            yield Region(low, high, rows=(y - 0.5, y + 0.5), label="where the sentence is true")
    for inside, side in SIDES.items():
        rows = [(y, *one.figure, _paths(one, base)) for y, one in enumerate(conditions) if one.inside is inside]
        if rows:
            places, values, lows, highs, opens = zip(*rows, strict=True)
            label = f"{side.word}{side.meaning}"
            yield Points(values, places, side.look, lows, highs, along="x", label=label, opens=opens)


def _paths(condition: Condition, base: Path) -> str:
    return "\n".join(relative(folder / "record.json", base) for folder in condition.records)


def _scale(conditions: Sequence[Condition]) -> Literal["linear", "log10"]:
    """Logarithmic where all figures are above 0 and far apart."""
    values = [value for condition in conditions for value in condition.figure]
    ends = [*values, *(end for condition in conditions for region in condition.regions for end in region)]
    positive = [end for end in ends if 0 < end < math.inf]
    wide = bool(positive) and max(positive) / min(positive) > 8
    return "log10" if wide and not any(value <= 0 for value in values) else "linear"

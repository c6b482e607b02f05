"""The ledger: what is measured for it, and what is written of that: CLAIMS.md, claims.json and pictures."""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seqbench.board import BoardTable, load_results, make_tables
from seqbench.claims import Evidence, all_claims
from seqbench.claims.names import ATTENTION, COMPARED, GRU, LSTM, RNN, TEXT
from seqbench.claims.rules import Claim, Condition
from seqbench.disk import replace_file
from seqbench.jobs import FINE
from seqbench.jobs.job import Job, Outcome
from seqbench.jobs.record import RunRecord
from seqbench.probes import PROBES, ProbeSpec, Request
from seqbench.report.chart import GREY, Axis, Chart, Look, Mark, Panel, Points, Region
from seqbench.report.text import escape, interval_text, link, listed, relative, table

__all__ = ["Size", "plan", "read_board", "write"]

Size = Literal["smoke", "quick", "standard"]
PAIRS_PARAMS = {"smoke": 10_000, "quick": 20_000, "standard": 80_000}  # of the nets that are asked for pairs
LONGER = {"quick": 12_000}  # steps of a second training of the LSTM: how much text it uses is a matter of that, too


# --- what is measured ------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One command's worth of measurements: a probe, of whom, and what it is asked."""

    probe: str
    models: Sequence[str]
    options: Mapping[str, Any] = {}
    seeds: int | None = None


def _parts(budget: Size) -> list[_Part]:
    """All that the ledger rests on; what claims need first comes first."""
    smoke = budget == "smoke"
    problems = "recall" if smoke else "recall,adding"
    pairs = {"problem": "selective", "regime": "staged", "params": PAIRS_PARAMS[budget]}
    return [
        _Part("memory", (RNN, LSTM), {"problem": problems, "initialisation": "all"}),
        _Part("memory", (GRU, ATTENTION), {"problem": problems}),
        _Part("memory", COMPARED, pairs, seeds=None if smoke else 6),
        _Part("gradient", COMPARED),
        _Part("context", (LSTM,), {"task": TEXT}),
        *([_Part("context", (LSTM,), {"task": TEXT, "steps": LONGER[budget]})] if budget in LONGER else []),
        _Part("context", (RNN, GRU, ATTENTION), {"task": TEXT}, seeds=1 if smoke else 2),
        _Part("cost", COMPARED),
        _Part("parallel", COMPARED),
    ]


def plan(budget: Size, device: str) -> list[Job]:
    """All measurements on a device type, each once; see `probes.shared.measuring` on how to run them."""
    from seqbench.probes.shared.measuring import job_of  # torch

    jobs: dict[str, Job] = {}
    for part in _parts(budget):
        probe = PROBES.get(part.probe)
        request = Request(model=",".join(part.models), budget=budget, seeds=part.seeds)
        for spec in probe.plan(request, probe.Options(**part.options), part.models, device):
            job = job_of(spec)
            jobs.setdefault(job.key, job)
    return list(jobs.values())


def read_board(board: Path) -> list[BoardTable]:
    """The usual tables of the records under ``board``, of which there may be none.

    Raises:
        UserError: a record is damaged: to be known before hours of work.
    """
    if not any(board.glob(f"{RunRecord.PATTERN}/run-*")):
        return []
    return [it for it in make_tables(load_results(board)) if not it.variant and not it.setting]


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
    evidence = Evidence(done, missing, read_board(board.resolve()))
    claims, conditions = all_claims(evidence), _conditions(outcomes, len(jobs), budget)
    data, page = out / "claims.json", out / "CLAIMS.md"
    _write(data, render_json(claims, conditions, base))
    _write(page, render_markdown(claims, conditions, base))  # there, whatever becomes of the pictures
    pictures = _pictures(claims, evidence, base / "plots")
    _write(page, render_markdown(claims, conditions, base, pictures))
    return [page, data, *pictures.values()]


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))


def _conditions(outcomes: Sequence[Outcome], planned: int, budget: str) -> list[str]:
    """Budget, machines, versions, and what did not end well."""
    environments = [outcome.record.environment for outcome in outcomes]
    where = Counter((it.device_name, it.threads, it.torch, it.seqbench) for it in environments)
    lines = [f"budget {budget}: {len(outcomes)} of {planned} measurements have a record"]
    lines += [
        f"{count} on {device}, {threads} CPU thread{'s' if threads > 1 else ''}, torch {torch}, seqbench {version}"
        for (device, threads, torch, version), count in sorted(where.items())
    ]
    states = Counter(outcome.record.status for outcome in outcomes if outcome.record.status != "ok")
    if states:
        counts = [f"{count} {state.replace('_', ' ')}" for state, count in sorted(states.items())]
        lines.append(f"of these {listed(counts)}")
    return lines


def _pictures(claims: Sequence[Claim], evidence: Evidence, folder: Path) -> dict[str, Path]:
    """By title, one of the claims and one of each probe; none where there is nothing to draw with."""
    if importlib.util.find_spec("matplotlib") is None:
        return {}
    from seqbench.report.draw import draw

    pictures = {"All claims, figure by figure": draw(claims_chart(claims), folder / "claims.png")}
    for name in dict.fromkeys(one.spec.probe for one in evidence.measured):
        chart = PROBES.get(name).chart(evidence.of(name))
        pictures[f"The {name} probe"] = draw(chart, folder / f"probe-{name}.png")
    return pictures


# --- the page --------------------------------------------------------------------------------------------------------

SIDES = {True: "inside", False: "outside", None: "undecided"}
INTRODUCTION = """\
What texts say of recurrent networks, and what came out when it was measured. Every figure has an interval, and a
verdict follows from the intervals by one rule. *Supported*: all of them lie in the region that the sentence names.
*Refuted*: none touches that region. *Depends on*: some lie in it and some clear of it; the columns named are the fewest
that tell these rows from those, and others may matter, too. *Inconclusive*: the intervals are too wide to tell.
*Incomplete*: something that was to be measured has no result. The page is written by `run_bench.py claims` and never by
hand; what was measured links to its records."""


def render_markdown(
    claims: Sequence[Claim], conditions: Sequence[str], base: Path, pictures: Mapping[str, Path] | None = None
) -> str:
    """The page; links are relative to ``base``, ``pictures`` are by title."""
    headers = ["", "the texts say", "measured here", "verdict"]
    rows = [(str(claim.number), claim.sentence, claim.statement, _verdict(claim)) for claim in claims]
    lines = ["# What texts say of recurrent networks, measured", "", INTRODUCTION, "", *table(headers, rows, headers)]
    lines += ["", *(f"- {line}" for line in conditions), ""]
    for title, path in (pictures or {}).items():
        lines += [f"![{escape(title)}]({relative(path, base)})", ""]
    for claim in claims:
        lines += _section(claim, base)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(claim: Claim) -> str:
    return f"**{claim.verdict}**" + (f"; {escape(claim.caution)}" if claim.caution else "")


def _section(claim: Claim, base: Path) -> list[str]:
    lacks = f" Without a result: {claim.lacks}." if claim.lacks else ""
    lines = [f"## {claim.number}. {claim.sentence}", "", f"{claim.statement} Verdict: {_verdict(claim)}.{lacks}", ""]
    lines += [f"Said by: {claim.source}", "", f"Measured: {claim.method}", ""]
    if claim.conditions:
        axes = list(dict.fromkeys(name for condition in claim.conditions for name in condition.axes))
        headers = [*axes, "figure (interval)", "the sentence is true for", "it lies", "records"]
        lines += [*table(headers, [_row(condition, axes, base) for condition in claim.conditions], headers), ""]
        notes = dict.fromkeys(condition.note for condition in claim.conditions if condition.note)
        lines += [*(f"- {escape(note)}" for note in notes), *([""] if notes else [])]
    for heading, asides in claim.beside.items():
        if asides:
            said = (f"- {text}{f' [{links}]' if (links := _links(records, base)) else ''}" for text, records in asides)
            lines += [*([heading, ""] if heading else []), *said, ""]
    return lines


def _row(condition: Condition, axes: Sequence[str], base: Path) -> list[str]:
    return [
        *(escape(condition.axes.get(name, "")) for name in axes),
        interval_text(condition.figure, condition.unit, at_least=condition.at_least),
        escape(condition.region),
        SIDES[condition.inside],
        _links(condition.records, base),
    ]


def _links(records: Sequence[Path], base: Path) -> str:
    return " ".join(link(str(i), path / "record.json", base) for i, path in enumerate(records, start=1))


# --- the data --------------------------------------------------------------------------------------------------------


def render_json(claims: Sequence[Claim], conditions: Sequence[str], base: Path) -> str:
    """The same as data; what is infinite or unknown is null."""

    def relatives(records: Sequence[Path]) -> list[str]:
        return [relative(path / "record.json", base) for path in records]

    def condition_json(condition: Condition) -> dict[str, Any]:
        limits = {name: x if math.isfinite(x) else None for name, x in condition.figure._asdict().items()}
        facts = {name: getattr(condition, name) for name in ("unit", "region", "inside", "at_least", "note")}
        return {"axes": dict(condition.axes), **limits, **facts, "records": relatives(condition.records)}

    def claim_json(claim: Claim) -> dict[str, Any]:
        texts = ("number", "sentence", "source", "method", "statement", "lacks", "caution")
        return {
            **{name: getattr(claim, name) for name in texts},
            "verdict": claim.verdict.word,
            "depends_on": [list(axes) for axes in claim.verdict.on],
            "conditions": [condition_json(condition) for condition in claim.conditions],
            "beside": [
                {"heading": heading, "lines": [{"text": a.text, "records": relatives(a.records)} for a in asides]}
                for heading, asides in claim.beside.items()
            ],
        }

    content = {"conditions": list(conditions), "claims": [claim_json(claim) for claim in claims]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# --- the picture -----------------------------------------------------------------------------------------------------

LOOKS = {True: Look("#00855f", "o"), False: Look("#d55e00", "X"), None: Look(GREY, "D")}
SAID = {True: "inside: the sentence is true there", False: "outside: it is false there", None: "undecided"}
HEAD = 4  # rows that a panel's title and axis take


def claims_chart(claims: Sequence[Claim]) -> Chart:
    """Every figure with its interval, beside the region in which its sentence is true; two columns of claims."""
    panels = [_panels(claim) for claim in claims if claim.conditions]
    heights = [sum(len(panel.rows) + HEAD for panel in group) for group in panels]
    cut = min(range(len(panels) + 1), key=lambda at: max(sum(heights[:at]), sum(heights[at:])))
    columns = [[panel for group in groups for panel in group] for groups in (panels[:cut], panels[cut:])]
    return Chart(
        "All claims, figure by figure",
        [column for column in columns if column],
        notes=[
            "An arrow: the interval is open, or ends beyond the panel. A verdict follows from all of a claim's rows."
        ],
    )


def _panels(claim: Claim) -> list[Panel]:
    """A panel for each unit of the figures; axes with one value for all of these are said below it."""
    panels: list[Panel] = []
    for unit in dict.fromkeys(condition.unit for condition in claim.conditions):
        conditions = [condition for condition in claim.conditions if condition.unit == unit]
        values = {
            name: list(dict.fromkeys(condition.axes[name] for condition in conditions)) for name in conditions[0].axes
        }
        varied = [name for name in values if len(values[name]) > 1] or list(values)
        sizes = [name for name in varied if all(value.replace(",", "").isdecimal() for value in values[name] if value)]
        alike = [f"{name}: {values[name][0]}, " for name in values if name not in varied and values[name][0]]
        title, notes = f"{claim.number}, continued", [" x ".join(sizes)] if sizes else []
        if not panels:
            title = f"{claim.number}. {claim.sentence}\nVerdict: {claim.verdict}"
            notes = [claim.caution, *notes]
        axis = _axis(conditions, f"{''.join(alike)}{unit.removeprefix('of ')}")
        rows = [_label(condition, varied, sizes) for condition in conditions]
        panels.append(Panel(title, _marks(conditions), axis, rows=rows, note="; ".join(filter(None, notes))))
    return panels


def _label(condition: Condition, names: Sequence[str], sizes: Sequence[str]) -> str:
    """``training time, kernel, 1 x 32``."""
    words = [condition.axes[name] for name in names if name not in sizes]
    words.append(" x ".join(condition.axes[name] for name in sizes if condition.axes[name]))
    return ", ".join(filter(None, words))


def _marks(conditions: Sequence[Condition]) -> list[Mark]:
    marks: list[Mark] = []
    for y, condition in enumerate(conditions):
        for low, high in condition.regions:
            marks.append(Region(low, high, rows=(y - 0.5, y + 0.5), label="where the sentence is true"))
    for side, look in LOOKS.items():
        places = [float(y) for y, condition in enumerate(conditions) if condition.inside is side]
        figures = [conditions[int(y)].figure for y in places]
        if figures:
            values, lows, highs = zip(*figures, strict=True)
            marks.append(Points(values, places, look, lows, highs, along="x", label=SAID[side]))
    return marks


def _axis(conditions: Sequence[Condition], label: str) -> Axis:
    """Logarithmic where all figures are above 0 and far apart."""
    values = [value for condition in conditions for value in condition.figure]
    ends = [*values, *(end for condition in conditions for region in condition.regions for end in region)]
    positive = [end for end in ends if 0 < end < math.inf]
    wide = bool(positive) and max(positive) / min(positive) > 8
    return Axis(label, "log10" if wide and not any(value <= 0 for value in values) else "linear")

"""Claims 1 and 8: how far back, measured on made-up problems, and what attention costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from seqbench.claims import Evidence, register_claim
from seqbench.claims.cost import SideBySide, timed_at_width
from seqbench.claims.names import ATTENTION, GRU, LSTM, RNN, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.probes.memory import EdgeRow, edges
from seqbench.probes.shared.fits import machine_text, open_interval
from seqbench.report.text import interval_text, listed
from seqbench.stats import Interval

__all__ = ["attention_lifts", "edge_text", "rnn_memory"]

RNN_REACH = 20  # steps: twice what texts say is still what they say
TWICE = 2.0
LAG, SOLVED_LAG = 10, 100  # steps: what recurrent nets of 1997 failed beyond, and what an LSTM solved
REGIMES = {"cold": "if a fresh net learns each length", "staged": "if one net is taught growing lengths"}
NOT_MONOTONE = "some seed solved a longer length after it had failed at a shorter one"


@register_claim(1, needs={"memory": (RNN,)})
def rnn_memory(evidence: Evidence) -> Claim:
    """Edges of all initialisations; the statement is about the usual one."""
    known = edges(evidence.of("memory"))
    rows = [row for row in known if row.model == RNN and row.problem in ("recall", "adding")]
    said = []
    for regime, words in REGIMES.items():
        usual = _usual([row for row in rows if row.regime == regime])
        said += [f"{listed([f'{edge_text(row)} in {row.problem}' for row in usual])} {words}"] if usual else []
    widths = listed([str(width) for width in sorted({row.width for row in rows})])
    return Claim(
        "A plain RNN remembers no more than about 10 steps.",
        "Bengio, Simard and Frasconi 1994; Hochreiter and Schmidhuber 1997 (lags of 10 and more)",
        "the longest lag that each seed's ladder reached without a failure, on recall of one of 8 symbols across noise "
        "and on the adding problem; cold: a fresh net for each length; staged: one net whose lengths double; "
        f"{RNN_REACH} steps are allowed for about 10",
        f"A plain RNN of width {widths} bridges {', and '.join(said)} ({_spread(rows[0])})." if said else NOT_MEASURED,
        [_reach(row) for row in rows],
        {
            "": [Aside(_meaning(row)) for row in rows[:1]],
            "Against published results:": list(_published([row for row in known if row.regime == "cold"])),
        },
    )


def _usual(rows: Sequence[EdgeRow]) -> list[EdgeRow]:
    """Of each model and problem the row with the usual start, which is the first."""
    first: dict[tuple[str, str], EdgeRow] = {}
    for row in rows:
        first.setdefault((row.model, row.problem), row)
    return list(first.values())


def _reach(row: EdgeRow) -> Condition:
    return Condition.of(
        {"regime": row.regime, "problem": row.problem, "initialisation": row.initialisation},
        _interval(row),
        "steps",
        (0.0, RNN_REACH),
        row.folders,
        "" if all(row.monotone) else f"{row.label}, {row.problem} {row.regime}: {NOT_MONOTONE}",
        at_least=row.median_at_least,
    ).if_seeds(len(row.edges))


def _interval(row: EdgeRow) -> Interval:
    """Median edge, least last pass and greatest first fail; infinite where a ladder ended before it failed."""
    return Interval(row.median, row.low, math.inf if row.high is None else row.high)


def edge_text(row: EdgeRow) -> str:
    """``12 steps (8 to 16)``, or that no length was learned."""
    text = interval_text(_interval(row), row.axis, at_least=row.median_at_least)
    return text if row.median else text.replace("0", "no", 1)


def _spread(row: EdgeRow) -> str:
    seeds = len(row.edges)
    return (
        f"{f'medians of {seeds} seeds' if seeds > 1 else '1 seed'} with the usual start; intervals from the shortest "
        "length that a seed passed last to the longest that one failed first"
    )


def _meaning(row: EdgeRow) -> str:
    return (
        "An edge is the median of the seeds' (of an even number the lower of the middle two); its interval goes from "
        "the shortest length that a seed passed last to the longest that one failed first. With "
        f"{len(row.edges)} seeds it covers the median of all seeds there could be with {row.coverage:.1%}."
    )


def _published(cold: Sequence[EdgeRow]) -> Iterator[Aside]:
    """How the edges from cold compare with published ones, and what differs."""
    nets = [row for row in cold if row.model == RNN]
    if nets:
        said = "; ".join(f"{row.problem} {row.initialisation} {edge_text(row)}" for row in nets)
        text = f"Fully recurrent nets fail beyond lags of {LAG} (Hochreiter and Schmidhuber 1997). Here, cold: {said}."
        further = [f"{row.problem} {row.initialisation}" for row in nets if row.low > LAG]
        if further:
            text += (
                f" Further in {', '.join(further)}: what differs is the optimiser (Adam with clipped gradients), the "
                f"width ({nets[0].width} units) and the start; adding asks for a sum to be passed on, recall for one "
                "of 8 symbols."
            )
        yield _about(nets, text)
    gates = sorted((row for row in cold if (row.model, row.problem) == (LSTM, "recall")), key=lambda row: -row.median)
    if gates:
        said = "; ".join(f"{row.initialisation} {edge_text(row)}" for row in gates)
        text = (
            f"LSTM solves lag {SOLVED_LAG} (the same; Gers et al. 2000 and Jozefowicz et al. 2015 on its forget gate). "
            f"Here, recall from cold: {said}."
        )
        if gates[0].low < SOLVED_LAG:
            steps = max(int(count) for one in gates[0].measured for count in one.spec.options["steps"])
            text += f" Each length had {steps:,} training steps here; longer training was not tried."
        yield _about(gates, text)
    adding = {row.model: row for row in _usual(cold) if row.problem == "adding"}
    if {GRU, LSTM, RNN} <= set(adding):
        compared = [adding[model] for model in (GRU, LSTM, RNN)]
        said = ", ".join(f"{model_title(row.model)} {edge_text(row)}" for row in compared)
        text = (
            "On the adding problem Bai, Kolter and Koltun 2018 find GRU before LSTM before RNN (which does not leave "
            "the constant guess at T = 200). Here, the longest that each learns from cold with its default start: "
            f"{said}."
        )
        if all(row.median_at_least for row in compared[:2]):
            text += " The ladder ended before it could tell the first two apart."
        yield _about(compared, text)


def _about(rows: Sequence[EdgeRow], text: str) -> Aside:
    return Aside(text, [folder for row in rows for folder in row.folders])


@register_claim(8, needs={"memory": (LSTM, ATTENTION), "cost": ()})
def attention_lifts(evidence: Evidence) -> Claim:
    """Pairs held at equal parameters; the price is shown beside them."""
    known = edges(evidence.of("memory"))
    timings = timed_at_width(evidence.of("cost"), ATTENTION, LSTM)
    rows = {row.model: row for row in known if row.problem == "selective" and row.regime == "staged"}
    conditions, statement = [], NOT_MEASURED
    if ATTENTION in rows and LSTM in rows:
        attention, lstm = rows[ATTENTION], rows[LSTM]
        ratio = _ratio(attention, lstm)
        condition = Condition.of(
            {"problem": "selective recall", "regime": "staged"},
            ratio,
            "times",
            (TWICE, math.inf),
            [*attention.folders, *lstm.folders],
            at_least=math.isinf(ratio.high),
        )
        conditions = [condition.if_seeds(min(len(attention.edges), len(lstm.edges)))]
        statement = (
            f"A Transformer layer of {attention.params:,} parameters holds {_pairs(attention)} key-value pairs, an "
            f"LSTM of {lstm.params:,} holds {_pairs(lstm)}{_carried(timings)}."
        )
    others = [
        Aside(f"{model_title(model)} of {row.params:,} parameters: {_pairs(row)}", row.folders)
        for model, row in rows.items()
        if model not in (ATTENTION, LSTM)
    ]
    return Claim(
        "Attention lifts the memory limit, at a price.",
        "Bahdanau, Cho and Bengio 2015; Vaswani et al. 2017",
        "the most key-value pairs of which any one can be asked for after all have been read once, one layer each, "
        "equal parameters, taught in stages; the ratio's interval sets the least of one against the most of the other; "
        "the price is shown and not judged",
        statement,
        conditions,
        {
            "Pairs that others of about the same size hold:": others,
            "Seeds that still recall at lengths never taught, times the longest of each:": _beyond(known),
            "What attention costs:": list(_price(timings)),
        },
    )


def _ratio(one: EdgeRow, other: EdgeRow) -> Interval:
    """Edge over edge; where a ladder ended only the bound that this leaves, which is then the value, too.

    The least of ``one`` over the greatest of ``other``, and the other way round.
    """
    a, b = _interval(one), _interval(other)
    if math.isinf(b.high):
        return UNKNOWN
    low = a.low / b.high
    if math.isinf(a.high) or not b.low:
        return Interval(low, low, math.inf)
    return Interval(a.value / b.value, low, a.high / b.low)


def _pairs(row: EdgeRow) -> str:
    return interval_text(_interval(row), at_least=row.median_at_least) if row.median else "none"


def _beyond(rows: Sequence[EdgeRow]) -> list[Aside]:
    """How recall goes at lengths longer than those taught."""
    said = []
    for row in rows:
        if row.model in (ATTENTION, LSTM) and (row.problem, row.regime) == ("recall", "staged") and row.beyond:
            tested = ", ".join(f"{one.held} of {one.seeds} at {one.factor} times" for one in row.beyond)
            said.append(Aside(f"{model_title(row.model)} ({row.initialisation}): {tested}", row.folders))
    return said


def _carried(timings: Sequence[SideBySide]) -> str:
    """``; after 256 steps it carries 65,536 floats, an LSTM of that width 256``, or nothing."""
    for one in timings:
        mine, other = (one.result.models[model].state_size for model in (ATTENTION, LSTM))
        if mine and other:
            at, width = one.result.counted_at, one.spec.options["hidden"]
            return f"; at width {width} it carries {mine:,} floats after {at} steps, an LSTM {other:,}"
    return ""


def _price(timings: Sequence[SideBySide]) -> Iterator[Aside]:
    """The square in the time, and how time, memory and state grow."""
    for one in timings:
        if one.result.backend != "kernel":
            continue
        fit = one.result.fit[ATTENTION]["train"]
        if fit is not None and fit.trusted:
            q = open_interval(fit.q, 1e9)
            known = f"Each pair of positions in a sequence adds {interval_text(q, 'ns')} to a training step"
            unknown = "No square of the length could be told from 0 in a training step's time."
            yield Aside(f"{known} ({machine_text(one.spec)})." if q.low > 0 else unknown, [one.folder])
        yield from _growth(one)


def _growth(one: SideBySide) -> Iterator[Aside]:
    """Exponents of time and memory between the longest two lengths at the largest batch that has them."""
    result = one.result
    shapes = [tuple(shape) for shape in result.shapes]
    longest = max(length for _, length in shapes)
    batch = max(b for b, length in shapes if length == longest)
    ends = sorted(length for b, length in shapes if b == batch)[-2:]
    if len(ends) < 2:
        return
    i, j = (shapes.index((batch, length)) for length in ends)

    def power(ratio: float) -> str:
        return f"{math.log(ratio) / math.log(ends[1] / ends[0]):.2f}"

    said = []
    for model in (ATTENTION, LSTM):
        seconds = np.median(np.asarray(result.seconds[model]["train"], dtype=float), axis=1)
        text = f"{model_title(model)}: time grows with the length to the power {power(seconds[j] / seconds[i])}"
        before, after = result.peak_bytes[model][i], result.peak_bytes[model][j]
        text += f", memory to the power {power(after / before)}" if before and after else ""
        floats = result.models[model].state_size
        said.append(text + (f", and {floats:,} floats are carried at {result.counted_at} steps" if floats else ""))
    yield Aside(f"From {ends[0]:,} to {ends[1]:,} steps at batch {batch}: {'; '.join(said)}.", [one.folder])

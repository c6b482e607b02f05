"""Claims 1 and 8: how far back, measured on made-up problems, and what attention costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from seqbench.claims import Evidence, register_claim
from seqbench.claims.cost import SideBySide, timed
from seqbench.claims.names import ATTENTION, GRU, LSTM, RNN, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.probes.memory import EdgeRow, edges
from seqbench.probes.shared.fits import machine_text, open_interval
from seqbench.report.text import interval_text, listed
from seqbench.stats import Interval, share_difference

__all__ = ["attention_lifts", "edge_text", "rnn_memory"]

RNN_REACH = 20  # steps: twice what texts say is still what they say
TWICE = 2.0
BEYOND = (2, 4)  # times the longest length that was taught
LAG, SOLVED_LAG = 10, 100  # steps: what recurrent nets of 1997 failed beyond, and what an LSTM solved
REGIMES = {"cold": "if a fresh net learns each length", "staged": "if one net is taught growing lengths"}
STILL_RISING = (
    "the score at the first failure still rose when its steps were over: an edge of the budget, not a limit of the net"
)
NOT_MONOTONE = "some seed solved a longer length after it had failed at a shorter one"


@register_claim(1, needs={"memory": (RNN,)})
def rnn_memory(evidence: Evidence) -> Claim:
    """Edges of all initialisations; the statement is about the usual one."""
    known = edges(evidence.of("memory"))
    rows = [row for row in known if row.model == RNN and row.problem in ("recall", "adding")]
    return Claim(
        "A plain RNN remembers no more than about 10 steps.",
        "Bengio, Simard and Frasconi 1994; Hochreiter and Schmidhuber 1997 (lags of 10 and more)",
        "the longest lag that each seed's ladder reached without a failure, on recall of one of 8 symbols across noise "
        "and on the adding problem; cold: a fresh net for each length; staged: one net whose lengths double; "
        f"{RNN_REACH} steps are allowed for about 10; a figure is the median of the seeds', of an even number the "
        f"lower of the middle two{_coverage(rows[0]) if rows else ''}",
        _statement(rows) if rows else NOT_MEASURED,
        [_reach(row) for row in rows],
        {"Against published results:": list(_published([row for row in known if row.regime == "cold"]))},
    )


def _statement(rows: Sequence[EdgeRow]) -> str:
    reaches = []
    for regime, words in REGIMES.items():
        usual = [f"{edge_text(row)} in {row.problem}" for row in _usual(rows) if row.regime == regime]
        reaches += [f"{listed(usual)} {words}"] if usual else []
    seeds, widths = len(rows[0].edges), listed([str(width) for width in sorted({row.width for row in rows})])
    return (
        f"A plain RNN of width {widths} bridges {', and '.join(reaches)} ("
        f"{f'medians of {seeds} seeds' if seeds > 1 else '1 seed'} with the usual start; intervals from the shortest "
        "length that a seed passed last to the longest that one failed first)."
    )


def _coverage(row: EdgeRow) -> str:
    return f"; with {len(row.edges)} seeds its interval covers the median of all there could be with {row.coverage:.1%}"


def _usual(rows: Sequence[EdgeRow]) -> list[EdgeRow]:
    """Of each model, problem and regime the row with the usual start, which is the first."""
    first: dict[tuple[str, str, str], EdgeRow] = {}
    for row in rows:
        first.setdefault((row.model, row.problem, row.regime), row)
    return list(first.values())


def _note(row: EdgeRow) -> str:
    """What a reader must know of an edge."""
    about = f"{row.label}, {row.problem} {row.regime}: "
    rising = sum(row.rising)
    notes = [] if all(row.monotone) else [NOT_MONOTONE]
    notes += [f"in {rising} of {len(row.rising)} seeds {STILL_RISING}"] if rising else []
    return about + "; ".join(notes) if notes else ""


def _reach(row: EdgeRow) -> Condition:
    return Condition.of(
        {"regime": row.regime, "problem": row.problem, "initialisation": row.initialisation},
        _interval(row),
        "steps",
        (0.0, RNN_REACH),
        records=row.folders,
        note=_note(row),
        at_least=row.median_at_least,
    ).if_seeds(len(row.edges))


def _interval(row: EdgeRow) -> Interval:
    """Median edge, least last pass and greatest first fail.

    Infinite where a ladder ended before it failed, or a score still rose where it did: more training may go further.
    """
    return Interval(row.median, row.low, math.inf if row.high is None or any(row.rising) else row.high)


def edge_text(row: EdgeRow) -> str:
    """``12 steps (8 to 16)``, or that no length was learned."""
    text = interval_text(_interval(row), row.axis, at_least=row.median_at_least)
    return text if row.median else text.replace("0", "no", 1)


def _published(cold: Sequence[EdgeRow]) -> Iterator[Aside]:
    """How the edges from cold compare with published ones, and what differs."""
    if nets := [row for row in cold if row.model == RNN]:
        text = (
            f"Fully recurrent nets fail beyond lags of {LAG} (Hochreiter and Schmidhuber 1997). Here, cold: "
            f"{'; '.join(f'{row.problem} {row.initialisation} {edge_text(row)}' for row in nets)}."
        )
        if further := [f"{row.problem} {row.initialisation}" for row in nets if row.low > LAG]:
            text += (
                f" Further in {', '.join(further)}: what differs is the optimiser (Adam with clipped gradients), the "
                f"width ({nets[0].width} units) and the start; adding asks for a sum to be passed on, recall for one "
                "of 8 symbols."
            )
        yield Aside(text, _folders(nets))
    if gates := sorted((row for row in cold if (row.model, row.problem) == (LSTM, "recall")), key=lambda r: -r.median):
        text = (
            f"LSTM solves lag {SOLVED_LAG} (the same; Gers et al. 2000 and Jozefowicz et al. 2015 on its forget gate). "
            f"Here, recall from cold: {'; '.join(f'{row.initialisation} {edge_text(row)}' for row in gates)}."
        )
        if gates[0].low < SOLVED_LAG:
            steps = max(int(count) for one in gates[0].measured for count in one.spec.options["steps"])
            text += f" Each length had {steps:,} training steps here; longer training was not tried."
        yield Aside(text, _folders(gates))
    adding = {row.model: row for row in _usual(cold) if row.problem == "adding"}
    if {GRU, LSTM, RNN} <= set(adding):
        compared = [adding[model] for model in (GRU, LSTM, RNN)]
        text = (
            "On the adding problem Bai, Kolter and Koltun 2018 find GRU before LSTM before RNN (which does not leave "
            "the constant guess at T = 200). Here, the longest that each learns from cold with its default start: "
            f"{', '.join(f'{model_title(row.model)} {edge_text(row)}' for row in compared)}."
        )
        if all(row.median_at_least for row in compared[:2]):
            text += " The ladder ended before it could tell the first two apart."
        yield Aside(text, _folders(compared))


def _folders(rows: Sequence[EdgeRow]) -> list[Path]:
    return [folder for row in rows for folder in row.folders]


@register_claim(8, needs={"memory": (LSTM, ATTENTION), "cost": ()})
def attention_lifts(evidence: Evidence) -> Claim:
    """Pairs held at equal parameters, after each number of steps, and lengths never taught; the price beside them."""
    known = edges(evidence.of("memory"))
    timings = [one for one in timed(evidence, ATTENTION, LSTM) if one.result.backend == "kernel"]
    pairs = _by_training([row for row in known if (row.axis, row.regime) == ("pairs", "staged")])
    beyond = _usual([row for row in known if (row.problem, row.regime) == ("recall", "staged")])
    held = [(rows[ATTENTION], rows[LSTM]) for rows in pairs if {ATTENTION, LSTM} <= {*rows}]
    return Claim(
        "Attention lifts the memory limit, at a price.",
        "Bahdanau, Cho and Bengio 2015; Vaswani et al. 2017",
        "the most key-value pairs of which any one can be asked for after all have been read once, one layer each, "
        "equal parameters, taught in stages; the ratio's interval sets the least of one against the most of the other; "
        "and of nets taught recall in stages the share of seeds that still recall at twice and at four times the "
        "longest length taught, attention's minus the LSTM's (interval by Newcombe 1998): lifted if it is not below; "
        "the price is shown and not judged",
        _pairs_statement(held, timings) if held else NOT_MEASURED,
        [*(_holds_more(attention, lstm) for attention, lstm in held), *_goes_on(beyond)],
        {
            "Pairs that others of about the same size hold:": [
                Aside(
                    f"{model_title(model)} of {row.params:,} parameters, {row.problem} recall, {row.steps:,} steps for "
                    f"each number: {edge_text(row)}",
                    row.folders,
                )
                for rows in pairs
                for model, row in rows.items()
                if model not in (ATTENTION, LSTM)
            ],
            "Seeds that still recall at lengths never taught, times the longest of each:": [
                Aside(
                    f"{model_title(row.model)} ({row.initialisation}): "
                    + ", ".join(f"{at.held} of {at.seeds} at {at.factor} times" for at in row.beyond),
                    row.folders,
                )
                for row in known
                if row.beyond and row.model in (ATTENTION, LSTM) and (row.problem, row.regime) == ("recall", "staged")
            ],
            "What attention costs:": [Aside(text, [one.folder]) for one in timings for text in _price(one)],
        },
    )


def _by_training(rows: Sequence[EdgeRow]) -> list[dict[str, EdgeRow]]:
    """By model, of each problem and number of training steps, the usual problem and the fewest steps first."""
    groups: dict[tuple[str, int], dict[str, EdgeRow]] = {}
    for row in sorted(rows, key=lambda row: (row.problem != "selective", row.problem, row.steps)):
        groups.setdefault((row.problem, row.steps), {}).setdefault(row.model, row)
    return list(groups.values())


def _pairs_statement(held: Sequence[tuple[EdgeRow, EdgeRow]], timings: Sequence[SideBySide]) -> str:
    """What both hold after each number of steps."""
    (attention, lstm), *more = held

    def how(row: EdgeRow) -> str:
        return f"({row.problem} recall, at most {row.steps:,} steps for each number)"

    text = (
        f"A Transformer layer of {attention.params:,} parameters holds {edge_text(attention)} of key and value, an "
        f"LSTM of {lstm.params:,} holds {edge_text(lstm)} {how(attention)}"
    )
    text += "".join(f"; {edge_text(one)} and {edge_text(other)} {how(one)}" for one, other in more)
    return text + (_carried(timings[0]) if timings else "") + "."


def _holds_more(attention: EdgeRow, lstm: EdgeRow) -> Condition:
    """At least twice as many pairs."""
    ratio = _ratio(attention, lstm)
    condition = Condition.of(
        {"measure": f"pairs of {attention.problem} recall", "steps": f"{attention.steps:,}"},
        ratio,
        "times",
        (TWICE, math.inf),
        records=_folders([attention, lstm]),
        at_least=math.isinf(ratio.high),
    )
    return condition.if_seeds(min(len(attention.edges), len(lstm.edges)))


def _goes_on(rows: Sequence[EdgeRow]) -> Iterator[Condition]:
    """At lengths that were never taught no fewer seeds."""
    named = {row.model: row for row in rows}
    if not {ATTENTION, LSTM} <= {*named}:
        return
    attention, lstm = named[ATTENTION], named[LSTM]
    others = {at.factor: at for at in lstm.beyond}
    for at in attention.beyond:
        other = others.get(at.factor)
        if at.factor in BEYOND and other is not None:
            condition = Condition.of(
                {"measure": f"recall at {at.factor} times the length taught", "steps": ""},
                share_difference((at.held, at.seeds), (other.held, other.seeds)),
                "of seeds",
                (0.0, math.inf),
                records=_folders([attention, lstm]),
            )
            yield condition.if_seeds(min(at.seeds, other.seeds))


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


def _carried(one: SideBySide) -> str:
    """``; at width 128 it carries 65,536 floats after 256 steps, an LSTM 256``."""
    mine, other = (one.result.models[model].state_size for model in (ATTENTION, LSTM))
    at, width = one.result.counted_at, one.spec.options["hidden"]
    return f"; at width {width} it carries {mine:,} floats after {at} steps, an LSTM {other:,}"


def _price(one: SideBySide) -> Iterator[str]:
    """The square in a training step's time; and the exponents of time and memory between the longest two lengths, at
    the largest batch that has them.
    """
    result, fit = one.result, one.result.fit[ATTENTION]["train"]
    if fit is not None and fit.trusted:
        q = open_interval(fit.q, 1e9)
        adds = f"Each pair of positions in a sequence adds {interval_text(q, 'ns')} to a training step"
        nothing = "No square of the length could be told from 0 in a training step's time."
        yield f"{adds} ({machine_text(one.spec)})." if q.low > 0 else nothing
    shapes = [tuple(shape) for shape in result.shapes]
    longest = max(length for _, length in shapes)
    batch = max(b for b, length in shapes if length == longest)
    ends = sorted(length for b, length in shapes if b == batch)[-2:]
    before, after = (shapes.index((batch, length)) for length in (ends[0], ends[-1]))
    if before == after:
        return

    def power(ratio: float) -> str:
        return f"to the power {math.log(ratio) / math.log(ends[1] / ends[0]):.2f}"

    grows = []
    for model in (ATTENTION, LSTM):
        seconds = np.median(np.asarray(result.seconds[model]["train"], dtype=float), axis=1)
        text = f"{model_title(model)}: time grows with the length {power(seconds[after] / seconds[before])}"
        small, large = (result.peak_bytes[model][at] for at in (before, after))
        text += f", memory {power(large / small)}" if small and large else ""
        floats = result.models[model].state_size
        grows.append(f"{text}, and {floats:,} floats are carried at {result.counted_at} steps")
    yield f"From {ends[0]:,} to {ends[1]:,} steps at batch {batch}: {'; '.join(grows)}."

"""Claims 1 and 8: how far back, measured on made-up problems. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from seqbench.claims.claim import Aside, Asides, Claim
from seqbench.claims.names import ATTENTION, LSTM, RNN, title
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.probes.memory_view import EdgeRow, edges
from seqbench.report.text import interval_text, listed
from seqbench.stats import Interval

__all__ = ["FEW", "SEEDS", "attention_lifts", "edge_text", "folders", "rnn_memory"]

RNN_REACH = 20  # steps: twice what texts say is still what they say
TWICE = 2.0
SURE = 0.9  # least coverage of an edge's interval, and 5 seeds for it
SEEDS = 5
REGIMES = {"cold": "if it learns from cold", "staged": "if it is taught in stages"}
EDGES = (
    "An edge is the median of the seeds' (of an even number the lower of the middle two); its interval goes from the "
    "least length that a seed last passed to the greatest that one first failed at. With {seeds} seeds it covers the "
    "median of all seeds there could be with {coverage:.1%}."
)
FEW = f"fewer than {SEEDS} seeds: no verdict from it"
NOT_MONOTONE = "some seed solved a longer length after it had failed at a shorter one"


def edge_interval(row: EdgeRow) -> Interval:
    """Median edge, least last pass and greatest first fail; infinite where a ladder ended before it failed."""
    return Interval(row.median, row.low, math.inf if row.high is None else row.high)


def folders(found: Sequence[Found], row: EdgeRow) -> list[Path]:
    """The records behind ``row``."""
    return [one.folder for one in found if any(one.result is result for result in row.results)]


def _words(row: EdgeRow) -> dict[str, str]:
    return {"regime": row.regime, "problem": row.problem, "initialisation": row.initialisation}


def rnn_memory(found: Sequence[Found]) -> Claim:
    """Claim 1."""
    rows = [row for row in edges(found) if row.model == RNN and row.problem in ("recall", "adding")]
    conditions = [
        Condition.of(
            _words(row),
            edge_interval(row),
            "steps",
            (0.0, RNN_REACH),
            f"at most {RNN_REACH} steps",
            folders(found, row),
            "" if all(row.monotone) else f"{row.label}, {row.problem} {row.regime}: {NOT_MONOTONE}",
            row.median_at_least,
        ).if_known(row.coverage >= SURE, FEW)
        for row in rows
    ]
    said = [f"{_reached(rows, regime)} {words}" for regime, words in REGIMES.items() if _of(rows, regime)]
    return Claim(
        1,
        "A plain RNN remembers no more than about 10 steps.",
        "Bengio, Simard and Frasconi 1994; Hochreiter and Schmidhuber 1997 (lags of 10 and more)",
        "the longest lag that each seed's ladder reached without a failure, on recall of one of 8 symbols across "
        "noise and on the adding problem; cold: a fresh net for each length; staged: one net whose lengths double; "
        f"{RNN_REACH} steps are allowed for about 10",
        f"A plain RNN of width {_widths(rows)} bridges {', and '.join(said)} ({_place(rows[0])})."
        if said
        else "Not measured.",
        conditions,
        [Asides("", [Aside(EDGES.format(seeds=len(rows[0].edges), coverage=rows[0].coverage))])] if rows else [],
    )


def _of(rows: Sequence[EdgeRow], regime: str) -> list[EdgeRow]:
    """Those of a regime with the usual start, which is each problem's first."""
    first: dict[str, EdgeRow] = {}
    for row in rows:
        if row.regime == regime:
            first.setdefault(row.problem, row)
    return list(first.values())


def _reached(rows: Sequence[EdgeRow], regime: str) -> str:
    """``6 steps (6 to 8) in recall and 32 steps (32 to 48) in adding``: medians of seeds with the usual start."""
    return listed([f"{edge_text(row)} in {row.problem}" for row in _of(rows, regime)])


def _place(row: EdgeRow) -> str:
    seeds = len(row.edges)
    of = f"the median of {seeds} seed{'s' if seeds > 1 else ''}"
    return f"with its usual start; {of}, from the least last pass to the greatest first fail"


def _widths(rows: Sequence[EdgeRow]) -> str:
    return listed([str(width) for width in sorted({row.width for row in rows})])


def attention_lifts(found: Sequence[Found], costs: Sequence[Aside], carried: str = "") -> Claim:
    """Claim 8; ``costs`` are sentences on what it takes, ``carried`` the end of one, from other probes."""
    rows = {row.model: row for row in edges(found) if row.problem == "selective" and row.regime == "staged"}
    conditions, statement = [], "Not measured."
    if ATTENTION in rows and LSTM in rows:
        attention, lstm = rows[ATTENTION], rows[LSTM]
        ratio = _ratio(attention, lstm)
        where = [*folders(found, attention), *folders(found, lstm)]
        axes, region = {"problem": "selective recall", "regime": "staged"}, f"at least {TWICE:g} times the LSTM's"
        known = min(attention.coverage, lstm.coverage) >= SURE
        least = math.isinf(ratio.high)
        one = Condition.of(axes, ratio, "times", (TWICE, math.inf), region, where, "", least)
        conditions = [one.if_known(known, FEW)]
        statement = (
            f"A Transformer layer of {attention.params:,} parameters holds {_pairs(attention)} key-value pairs, an "
            f"LSTM of {lstm.params:,} holds {_pairs(lstm)}{carried}."
        )
    extra = [
        Aside(f"{title(model)} of {row.params:,} parameters: {_pairs(row)}", folders(found, row))
        for model, row in rows.items()
        if model not in (ATTENTION, LSTM)
    ]
    return Claim(
        8,
        "Attention lifts the memory limit, at a price.",
        "Bahdanau, Cho and Bengio 2015; Vaswani et al. 2017",
        "the most key-value pairs of which any one can be asked for after all have been read once, one layer each, "
        "equal parameters, taught in stages; the ratio's interval sets the least of one against the most of the other; "
        "the price is shown and not judged",
        statement,
        conditions,
        [
            Asides("Pairs that others of about the same size hold:", extra),
            Asides("Seeds that still recall at lengths never taught, times the longest of each:", _beyond(found)),
            Asides("What attention costs:", costs),
        ],
    )


def _ratio(one: EdgeRow, other: EdgeRow) -> Interval:
    """Edge over edge; where a ladder ended only the bound that this leaves, which is then the value, too.

    The least of ``one`` over the greatest of ``other``, and the other way round.
    """
    a, b = edge_interval(one), edge_interval(other)
    if math.isinf(b.high):
        return Interval(math.nan, math.nan, math.nan)
    low = a.low / b.high
    return (
        Interval(low, low, math.inf)
        if math.isinf(a.high) or not b.low
        else Interval(a.value / b.value, low, a.high / b.low)
    )


def _pairs(row: EdgeRow) -> str:
    return interval_text(edge_interval(row), at_least=row.median_at_least) if row.median else "none"


def _beyond(found: Sequence[Found]) -> list[Aside]:
    """How recall goes at lengths longer than those taught."""
    said = []
    for row in edges(found):
        if row.model in (ATTENTION, LSTM) and (row.problem, row.regime) == ("recall", "staged") and row.beyond:
            tested = ", ".join(f"{one.held} of {one.seeds} at {one.factor} times" for one in row.beyond)
            said.append(Aside(f"{title(row.model)} ({row.initialisation}): {tested}", folders(found, row)))
    return said


def edge_text(row: EdgeRow) -> str:
    """``12 steps (8 to 16)``, or that no length was learned."""
    text = interval_text(edge_interval(row), row.axis, at_least=row.median_at_least)
    return text if row.median else text.replace("0", "no", 1)

"""Claims 1 and 8: how far back, measured on made-up problems. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from seqbench.claims.claim import Claim, figure_text, number, rounded
from seqbench.claims.names import ATTENTION, GRU, LSTM, RNN, title
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import listed
from seqbench.probes import Found
from seqbench.probes.memory_view import EdgeRow, edges
from seqbench.stats import Interval

__all__ = ["FEW", "SEEDS", "attention_lifts", "edge_interval", "published", "rnn_memory"]

RNN_REACH = 20  # steps: twice what texts say is still what they say
TWICE = 2.0
SURE = 0.9  # least coverage of an edge's interval, and 5 seeds for it
SEEDS = 5
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
    said = [f"{_regime(regime)} {_range(rows, regime)}" for regime in ("cold", "staged") if _of(rows, regime)]
    return Claim(
        1,
        "A plain RNN remembers no more than about 10 steps.",
        "Bengio, Simard and Frasconi 1994; Hochreiter and Schmidhuber 1997 (lags of 10 and more)",
        "the longest lag that each seed's ladder reached without a failure, on recall of one of 8 symbols across "
        "noise and on the adding problem; cold: a fresh net for each length; staged: one net whose lengths double",
        f"A plain RNN of width {_widths(rows)} {' and '.join(said)}." if said else "Not measured.",
        conditions,
        ["The interval of an edge goes from the least length that a seed last passed to the greatest that one first "
         "failed at; with 6 seeds it covers the median of all seeds with 96.9%."] if rows else [],
    )  # fmt: skip


def _of(rows: Sequence[EdgeRow], regime: str) -> list[EdgeRow]:
    return [row for row in rows if row.regime == regime]


def _regime(regime: str) -> str:
    return {"cold": "learns lags of", "staged": "taught in stages holds on for"}[regime]


def _range(rows: Sequence[EdgeRow], regime: str) -> str:
    """``8 to 16 steps``: the least and the greatest median of the conditions."""
    found = sorted((row.median, row.median_at_least) for row in _of(rows, regime))
    low, high = found[0][0], found[-1][0]
    bounds = [more for median, more in found if median == high]
    if low == high:
        return f"{'at least ' if all(bounds) else ''}{rounded(high)} steps"
    return f"{rounded(low)} to {rounded(high)} steps{' or more' if any(bounds) else ''}"


def _widths(rows: Sequence[EdgeRow]) -> str:
    return listed([str(width) for width in sorted({row.width for row in rows})])


def attention_lifts(found: Sequence[Found], costs: Sequence[str]) -> Claim:
    """Claim 8; ``costs`` are sentences on what it takes, from other probes."""
    rows = {row.model: row for row in edges(found) if row.problem == "selective" and row.regime == "staged"}
    conditions, statement = [], "Not measured."
    if ATTENTION in rows and LSTM in rows:
        attention, lstm = rows[ATTENTION], rows[LSTM]
        high, low = edge_interval(attention), edge_interval(lstm)
        ratio = Interval(_share(high.value, low.value), _share(high.low, low.high), _share(high.high, low.low))
        where = [*folders(found, attention), *folders(found, lstm)]
        axes, region = {"problem": "selective recall", "regime": "staged"}, f"at least {TWICE:g} times the LSTM's"
        known = min(attention.coverage, lstm.coverage) >= SURE
        one = Condition.of(axes, ratio, "times", (TWICE, math.inf), region, where, "", attention.median_at_least)
        conditions = [one.if_known(known, FEW)]
        statement = (
            f"At about {lstm.params:,} parameters a Transformer layer holds {_pairs(attention)} key-value pairs and "
            f"an LSTM {_pairs(lstm)}."
        )
    extra = [f"{title(model)} {_pairs(row)}" for model, row in rows.items() if model not in (ATTENTION, LSTM)]
    return Claim(
        8,
        "Attention lifts the memory limit, at a price.",
        "Bahdanau, Cho and Bengio 2015; Vaswani et al. 2017",
        "the most key-value pairs of which any one can be asked for after all have been read once, one layer each, "
        "equal parameters, taught in stages; the ratio's interval sets the least of one against the most of the other",
        statement,
        conditions,
        [*([f"Others at the same size: {', '.join(extra)}."] if extra else []), *_beyond(found), *costs],
    )


def _pairs(row: EdgeRow) -> str:
    return number(edge_interval(row), at_least=row.median_at_least) if row.median else "none"


def _beyond(found: Sequence[Found]) -> list[str]:
    """How recall goes at lengths longer than those taught."""
    said = []
    for row in edges(found):
        if row.model in (ATTENTION, LSTM) and (row.problem, row.regime) == ("recall", "staged") and row.beyond:
            tested = ", ".join(f"{one.factor} times {one.held} of {one.seeds}" for one in row.beyond)
            said.append(f"{title(row.model)} ({row.initialisation}) {tested}")
    return [f"Seeds that still recall at lengths never taught: {'; '.join(said)}."] if said else []


def _share(a: float, b: float) -> float:
    """a / b, where infinity over infinity tells nothing."""
    if b == 0:
        return math.nan if a == 0 else math.inf
    return math.nan if math.isinf(a) and math.isinf(b) else a / b


def published(found: Sequence[Found]) -> list[str]:
    """How edges compare with what was published, each with figures."""
    rows = edges(found)
    cold = {(row.model, row.initialisation, row.problem): row for row in rows if row.regime == "cold"}
    lines = []
    nets = [row for (model, _, _), row in cold.items() if model == RNN]
    if nets:
        said = "; ".join(f"{row.problem} {row.initialisation} {_edge_words(row)}" for row in nets)
        lines.append(
            f"Fully recurrent nets fail beyond lags of 10 (Hochreiter and Schmidhuber 1997). Here, cold: {said}."
        )
    best = sorted((row for (model, _, problem), row in cold.items() if model == LSTM and problem == "recall"),
                  key=lambda row: -row.median)  # fmt: skip
    if best:
        said = "; ".join(f"{row.initialisation} {_edge_words(row)}" for row in best)
        lines.append(
            "LSTM solves lag 100 (the same; Gers et al. 2000 and Jozefowicz et al. 2015 on its forget gate). Here, "
            f"recall from cold: {said}."
        )
    order = {model: [row for (name, _, problem), row in cold.items() if (name, problem) == (model, "adding")]
             for model in (GRU, LSTM, RNN)}  # fmt: skip
    if all(order.values()):
        said = ", ".join(f"{title(model)} {_edge_words(rows[0])}"
                         for model, rows in order.items())  # fmt: skip
        lines.append(
            "On the adding problem Bai, Kolter and Koltun 2018 find GRU before LSTM before RNN (which does not leave "
            "the constant guess at T = 200). Here, the longest that each learns from cold with its default start: "
            f"{said}."
        )
    return lines


def _edge_words(row: EdgeRow) -> str:
    return figure_text(edge_interval(row), "steps", at_least=row.median_at_least)

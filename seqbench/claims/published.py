"""How what was measured compares with what was published, by how much, and what differs. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqbench.claims.claim import Aside
from seqbench.claims.memory import edge_text, folders
from seqbench.claims.names import GRU, LSTM, RNN, title
from seqbench.probes import Found
from seqbench.probes.memory_view import EdgeRow, edges

__all__ = ["HEADING", "published_context", "published_lags"]

LAG, SOLVED_LAG = 10, 100  # steps: what recurrent nets of 1997 failed beyond, and what an LSTM solved
HEADING = "Against published results:"


def published_lags(found: Sequence[Found]) -> list[Aside]:
    """Lines on cases of the memory probe."""
    cold = [row for row in edges(found) if row.regime == "cold"]
    return [*_fully_recurrent(found, cold), *_lag_100(found, cold), *_adding(found, cold)]


def _fully_recurrent(found: Sequence[Found], cold: Sequence[EdgeRow]) -> Iterator[Aside]:
    nets = [row for row in cold if row.model == RNN]
    said = "; ".join(f"{row.problem} {row.initialisation} {edge_text(row)}" for row in nets)
    text = f"Fully recurrent nets fail beyond lags of {LAG} (Hochreiter and Schmidhuber 1997). Here, cold: {said}."
    further = [f"{row.problem} {row.initialisation}" for row in nets if row.low > LAG]
    if further:
        text += (
            f" Further in {', '.join(further)}: what differs is the optimiser (Adam with clipped gradients), the "
            f"width ({nets[0].width} units) and the start; adding asks for a sum to be passed on, recall for one of 8 "
            "symbols."
        )
    if nets:
        yield _aside(found, text, nets)


def _lag_100(found: Sequence[Found], cold: Sequence[EdgeRow]) -> Iterator[Aside]:
    mine = [row for row in cold if (row.model, row.problem) == (LSTM, "recall")]
    best = sorted(mine, key=lambda row: -row.median)
    if best:
        said = "; ".join(f"{row.initialisation} {edge_text(row)}" for row in best)
        text = (
            f"LSTM solves lag {SOLVED_LAG} (the same; Gers et al. 2000 and Jozefowicz et al. 2015 on its forget gate). "
            f"Here, recall from cold: {said}."
        )
        if best[0].low < SOLVED_LAG:
            text += f" Each length had {_steps(found, best[0]):,} training steps here; longer training was not tried."
        yield _aside(found, text, best)


def _adding(found: Sequence[Found], cold: Sequence[EdgeRow]) -> Iterator[Aside]:
    first = {
        model: [row for row in cold if (row.model, row.problem) == (model, "adding")] for model in (GRU, LSTM, RNN)
    }
    if all(first.values()):
        rows = [mine[0] for mine in first.values()]
        said = ", ".join(f"{title(row.model)} {edge_text(row)}" for row in rows)
        text = (
            "On the adding problem Bai, Kolter and Koltun 2018 find GRU before LSTM before RNN (which does not leave "
            "the constant guess at T = 200). Here, the longest that each learns from cold with its default start: "
            f"{said}."
        )
        if all(row.median_at_least for row in rows[:2]):
            text += " The ladder ended before it could tell the first two apart."
        yield _aside(found, text, rows)


def published_context(texts: Sequence[Found]) -> list[Aside]:
    """Lines on the LSTM's cases of the context probe."""
    mine = [one for one in texts if one.case.models == (LSTM,)]
    if not mine:
        return []
    steps = max(one.case.options["training"]["steps"] for one in mine)
    words = (
        "Khandelwal et al. 2018 find about 200 words. Their nets have three layers of 1,150 units, read words, and "
        f"were trained until they improved no more; these have {mine[0].result['width']} units, read characters, and "
        f"were trained for {steps:,} steps at most: what holds for one says little of the other."
    )
    return [Aside(words, [one.folder for one in mine])]


def _steps(found: Sequence[Found], row: EdgeRow) -> int:
    cases = (one.case for one in found if any(one.result is result for result in row.results))
    return max(int(steps) for case in cases for steps in case.options["steps"])


def _aside(found: Sequence[Found], text: str, rows: Sequence[EdgeRow]) -> Aside:
    return Aside(text, [folder for row in rows for folder in folders(found, row)])

"""Claim 2: how much of its text a trained LSTM uses, and what the same cell does on made-up problems. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from seqbench.claims.claim import Aside, Asides, Claim
from seqbench.claims.memory import FEW, SEEDS, edge_text, folders
from seqbench.claims.names import LSTM, MODELS, TEXT_TITLE, title
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.probes.context_stats import effective_context, still_falls
from seqbench.probes.memory_view import edges
from seqbench.report.text import interval_text, rounded
from seqbench.stats import Interval

__all__ = ["lstm_context"]

CONTEXT = (150.0, 400.0)
REGION = f"{CONTEXT[0]:.0f} to {CONTEXT[1]:.0f}"
TOLERANCES = (0.005, 0.01, 0.02)
BOUND = "the windows of training are not twice as long: no verdict from it"


def lstm_context(texts: Sequence[Found], found: Sequence[Found]) -> Claim:
    """``texts`` are cases of the context probe, ``found`` those of the memory probe."""
    conditions, said = [], []
    for training, mine in _by_training([one for one in texts if one.case.models == (LSTM,)]):
        figures = list(_figures(mine))
        for step, unit, size in figures:
            conditions.append(_condition(mine, training, step, unit, size))
        uses = " or ".join(_used(mine, size, unit) for _, unit, size in figures)
        said.append(f"{uses} after {training} ({_quality(mine)})")
    first = next((one.result for one in texts if one.case.models == (LSTM,)), None)
    return Claim(
        2,
        "An LSTM's effective memory is about 200 to 300 steps.",
        "Khandelwal et al. 2018 (about 200 words, of a far larger model); texts since, often without saying of what",
        "the least number of characters before a target at which the loss is within 1% of that with all of them, and "
        "stays so; zero state before them; interval by bootstrap over seeds and over blocks of text. A step is a word "
        "in the source and a character to this net, so the sentence is tested twice",
        "Not measured."
        if first is None
        else f"An LSTM of {first['params']:,} parameters, trained on windows of {first['length']} characters"
        f"{_as_words(first)} of {TEXT_TITLE}, gains no more than 1% of its loss from what lies further back than "
        f"{'; '.join(said)}.",
        conditions,
        [
            Asides("Characters used, by the loss that may be lost:", _others(texts)),
            Asides(
                "The same cell on made-up problems, where the figure is a matter of how it starts and is taught:",
                _edges_beside(found),
            ),
        ],
    )


def _figures(mine: Sequence[Found]) -> Iterator[tuple[str, str, float]]:
    """What a step may be, the unit's name and its size in characters; words only of a text that has spaces."""
    per_word = mine[0].result["chars_per_word"]
    if per_word is not None:
        yield "a word", "words", per_word
    yield "a character", "characters", 1.0


def _as_words(result: Mapping[str, Any]) -> str:
    per_word = result["chars_per_word"]
    return "" if per_word is None else f" ({result['length'] / per_word:.0f} words)"


def _context(mine: Sequence[Found], size: float = 1.0, share: float = 0.01) -> Interval:
    return Interval(*(end / size for end in effective_context([one.result for one in mine], share)))


def _used(mine: Sequence[Found], size: float, unit: str, share: float = 0.01) -> str:
    falls = still_falls([one.result for one in mine], share)
    return interval_text(_context(mine, size, share), unit, at_least=falls)


def _condition(mine: Sequence[Found], training: str, step: str, unit: str, size: float) -> Condition:
    """Undecided where it ends before the region and the windows of training may be why."""
    axes, figure = {"training": training, "what a step is": step}, _context(mine, size)
    records, falls = [one.folder for one in mine], still_falls([one.result for one in mine])
    known = Condition.of(axes, figure, unit, CONTEXT, REGION, records, at_least=falls)
    bounded = mine[0].result["length"] / size / 2 <= figure.high < CONTEXT[0]
    return known.if_known(len(mine) >= SEEDS, FEW).if_known(not bounded, BOUND)


def _by_training(found: Sequence[Found]) -> list[tuple[str, list[Found]]]:
    """Cases by the number of training steps, fewest first."""
    groups: dict[tuple[int, int], list[Found]] = {}
    for one in found:
        training = one.case.options["training"]
        groups.setdefault((training["steps"], training["batch_size"]), []).append(one)
    return [(f"{steps:,} steps of {batch} windows", groups[steps, batch]) for steps, batch in sorted(groups)]


def _quality(found: Sequence[Found]) -> str:
    return f"{rounded(mean(one.result['test'] for one in found))} bits per character"


def _others(texts: Sequence[Found]) -> list[Aside]:
    """At other tolerances, and of other models."""
    lines = []
    for model in MODELS:
        for training, mine in _by_training([one for one in texts if one.case.models == (model,)]):
            said = [f"{_used(mine, 1.0, '', share)} at {share:.1%}" for share in TOLERANCES]
            limit = mine[0].result["limit"]
            words = [title(model), training, f"{len(mine)} seed{'s' if len(mine) > 1 else ''}", _quality(mine)]
            words += [f"reads {limit:,} at most"] if limit is not None else []
            lines.append(Aside(f"{', '.join(words)}: {', '.join(said)}", [one.folder for one in mine]))
    return lines


def _edges_beside(found: Sequence[Found]) -> list[Aside]:
    rows = [row for row in edges(found) if row.model == LSTM and row.axis == "steps"]
    return [
        Aside(f"{row.problem}, {row.regime}, {row.initialisation}: {edge_text(row)}", folders(found, row))
        for row in sorted(rows, key=lambda row: (row.problem, row.regime, row.initialisation))
    ]

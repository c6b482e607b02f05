"""Claim 2: how much of its text a trained LSTM uses, and what the same cell does on made-up problems. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from seqbench.claims.claim import Claim, figure_text, rounded
from seqbench.claims.memory import FEW, SEEDS, edge_interval
from seqbench.claims.names import LSTM, MODELS, title
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import table
from seqbench.probes import Found
from seqbench.probes.context_stats import effective_context, effective_words
from seqbench.probes.memory_view import edges

__all__ = ["lstm_context"]

CONTEXT = (150.0, 400.0)
TOLERANCES = (0.005, 0.01, 0.02)


def lstm_context(texts: Sequence[Found], found: Sequence[Found]) -> Claim:
    """``texts`` are cases of the context probe, ``found`` those of the memory probe."""
    conditions, said = [], []
    for training, mine in _by_training([one for one in texts if one.case.models == (LSTM,)]):
        results, where = [one.result for one in mine], [one.folder for one in mine]
        figures = {"words": effective_words(results), "characters": effective_context(results)}
        conditions += [
            Condition.of({"training": training, "counted in": unit}, figure, unit, CONTEXT, REGION, where).if_known(
                len(mine) >= SEEDS, FEW
            )
            for unit, figure in figures.items()
            if figure is not None
        ]
        uses = " or ".join(figure_text(figure, unit) for unit, figure in figures.items() if figure is not None)
        said.append(f"{uses} after {training} ({_quality(mine)})")
    first = next((one.result for one in texts if one.case.models == (LSTM,)), None)
    return Claim(
        2,
        "An LSTM's effective memory is about 200 to 300 steps.",
        "Khandelwal et al. 2018 (about 200 words, of a far larger model); texts since, often without saying of what",
        "the least number of characters before a target at which the loss is within 1% of that with all of them, and "
        "stays so; zero state before them; interval by crossed bootstrap over seeds and blocks of text",
        "Not measured."
        if first is None
        else f"An LSTM of {first['params']:,} parameters, trained to write text on windows of {first['length']} "
        f"characters, uses {'; '.join(said)}.",
        conditions,
        [*_others(texts), *_edges_beside(found)],
    )


REGION = f"{CONTEXT[0]:.0f} to {CONTEXT[1]:.0f}"


def _by_training(found: Sequence[Found]) -> list[tuple[str, list[Found]]]:
    """Cases by the number of training steps, fewest first."""
    groups: dict[tuple[int, int], list[Found]] = {}
    for one in found:
        training = one.case.options["training"]
        groups.setdefault((training["steps"], training["batch_size"]), []).append(one)
    return [(f"{steps:,} steps of {batch} windows", groups[steps, batch]) for steps, batch in sorted(groups)]


def _quality(found: Sequence[Found]) -> str:
    return f"{rounded(mean(one.result['test'] for one in found))} bits per character"


def _others(texts: Sequence[Found]) -> list[str]:
    """At other tolerances, and of other models."""
    lines = []
    for model in MODELS:
        for training, mine in _by_training([one for one in texts if one.case.models == (model,)]):
            results = [one.result for one in mine]
            said = [f"{figure_text(effective_context(results, share))} at {share:.1%}" for share in TOLERANCES]
            lines.append(f"- {title(model)}, {training}, {_quality(mine)}: {', '.join(said)}")
    return ["Characters used, by the loss that may be lost:", "\n".join(lines)] if lines else []


def _edges_beside(found: Sequence[Found]) -> list[str]:
    rows = [row for row in edges(found) if row.model == LSTM and row.axis == "steps"]
    if not rows:
        return []
    cells = [(row.initialisation, row.problem, row.regime, figure_text(edge_interval(row), "steps")) for row in rows]
    headers = ["initialisation", "problem", "regime", "edge (least pass to greatest fail)"]
    return [
        "The same cell on made-up problems, where the figure is a matter of how it starts and how it is taught:",
        "\n".join(table(headers, sorted(cells), headers)),
    ]

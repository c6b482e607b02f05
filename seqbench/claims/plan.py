"""Which cases the ledger rests on, by budget. No torch until they are planned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from seqbench.claims.names import ATTENTION, GRU, LSTM, MODELS, RNN, TEXT
from seqbench.probes import Case, Request, get_probe
from seqbench.probes.options import ContextOptions, CostOptions, GradientOptions, MemoryOptions, ParallelOptions

__all__ = ["Part", "Size", "parts", "plan"]

Size = Literal["smoke", "quick", "standard"]
PAIRS_PARAMS = {"smoke": 10_000, "quick": 20_000, "standard": 80_000}  # of the nets that are asked for pairs
LONGER = {"quick": 12_000}  # steps of a second training of the LSTM: how much text it uses is a matter of that, too


class Part(NamedTuple):
    """One command's worth of cases: a probe, what it is asked, and of whom."""

    probe: str
    models: tuple[str, ...]
    options: Any
    seeds: int | None = None


def parts(budget: Size) -> list[Part]:
    """The ledger's cases; what claims need first comes first."""
    pairs = MemoryOptions(problem="selective", regime="staged", params=PAIRS_PARAMS[budget])
    steps = "recall" if budget == "smoke" else "recall,adding"
    return [
        Part("memory", (RNN, LSTM), MemoryOptions(problem=steps, initialisation="all")),
        Part("memory", (GRU, ATTENTION), MemoryOptions(problem=steps)),
        Part("memory", MODELS, pairs, None if budget == "smoke" else 6),
        Part("gradient", MODELS, GradientOptions()),
        Part("context", (LSTM,), ContextOptions(task=TEXT)),
        *([Part("context", (LSTM,), ContextOptions(task=TEXT, steps=LONGER[budget]))] if budget in LONGER else []),
        Part("context", (RNN, GRU, ATTENTION), ContextOptions(task=TEXT), 1 if budget == "smoke" else 2),
        Part("cost", MODELS, CostOptions()),
        Part("parallel", MODELS, ParallelOptions()),
    ]


def plan(budget: Size, device: str) -> list[Case]:
    """All cases on a device type, each once."""
    return list({str(case.to_json()): case for case in _cases(budget, device)}.values())


def _cases(budget: Size, device: str) -> Iterator[Case]:
    for part in parts(budget):
        request = Request(model=",".join(part.models), budget=budget, seeds=part.seeds)
        yield from get_probe(part.probe).cases(request, part.options, part.models, device)

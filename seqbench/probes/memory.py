"""How long a model remembers, as two figures: the lag that it learns from cold, and the lag that it can be taught.

Cold: a fresh net for each length 4, 8, 16, ...; it measures what gradient descent finds across a lag (the learnable
lag). Staged: one net whose lengths double from 5, each drawn from [L/2, L]; it measures what the state can hold (the
retainable lag). Either alone misleads: a plain RNN fails at 10 or 20 steps from cold and holds hundreds once taught.
Lengths are steps, or pairs to hold (`problems.Selective`), which double from 2 in both regimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seqbench.device import CUDNN_LONGEST
from seqbench.models.backbone import SequenceModel, count_parameters
from seqbench.probes import Case, Found, Request, Told
from seqbench.probes.memory_plan import net_of, plans_of, problem_of
from seqbench.probes.memory_plot import draw_edges
from seqbench.probes.memory_view import edges_table
from seqbench.probes.options import MemoryOptions
from seqbench.probes.shared.problems import Problem
from seqbench.probes.shared.training import Trained, assess, passed_untrained, train

__all__ = ["PROBE", "Edge", "Memory", "edge_of"]

RETRY = 1 / 3  # of the learning rate
FAILURES = 2  # rungs, after which a cold ladder ends
BEYOND, BEYOND_SEQUENCES = (2, 4, 8), 512


class Edge(NamedTuple):
    """The longest length with every tested one up to it solved (0: none), the shortest that failed, and whether none
    longer than that was solved."""

    edge: int
    first_fail: int | None
    monotone: bool


def edge_of(rungs: Sequence[Mapping[str, Any]]) -> Edge:
    """The edge of one seed, from all its attempts (``length``, ``solved``); any of a length's attempts may solve it."""
    solved = {rung["length"] for rung in rungs if rung["solved"]}
    first_fail = min((rung["length"] for rung in rungs if rung["length"] not in solved), default=None)
    below = [length for length in solved if first_fail is None or length < first_fail]
    return Edge(max(below, default=0), first_fail, len(below) == len(solved))


@dataclass(frozen=True)
class Memory:
    """The probe."""

    name = "memory"
    version = 1
    options = MemoryOptions
    timed = False

    def cases(self, request: Request, options: MemoryOptions, models: Sequence[str], device: str) -> list[Case]:
        """Seeds outermost; see `seqbench.probes.Probe`."""
        plans = plans_of(request, options, models, device)
        return [
            Case(self.name, (plan.model,), seed, request.budget, device, request.threads, plan.options)
            for i, seed in enumerate(request.all_seeds(max(plan.seeds for plan in plans)))
            for plan in plans
            if i < plan.seeds
        ]

    def measure(self, case: Case, told: Told) -> dict[str, Any]:
        """Every attempt of every rung, and the edge; see `seqbench.probes.Probe`."""
        plan = case.options
        problem = problem_of(plan)
        params = count_parameters(_fresh(case)[0])
        told.begin(len(plan["lengths"]))
        rungs, beyond = (_cold if plan["regime"] == "cold" else _staged)(case, told)
        edge, last = edge_of(rungs), plan["lengths"][-1]
        return {
            **{name: plan[name] for name in ("problem", "regime", "initialisation", "width")},
            "axis": problem.axis,
            "params": params,
            "chance": problem.chance(last),
            "memoryless": problem.memoryless,
            "rungs": rungs,
            **edge._asdict(),
            "at_least": edge.edge == last,
            "beyond": beyond,
        }

    def headline(self, case: Case, result: Mapping[str, Any]) -> str:
        """For example ``recall cold: at least 128 steps``."""
        fail = result["first_fail"]
        most = f"at least {result['edge']}" if result["at_least"] else f"{result['edge']}, not {fail}"
        return f"{result['problem']} {result['regime']}: {most} {result['axis']}"

    def table(self, found: Sequence[Found]) -> str:
        """See `memory_view.edges_table`."""
        return edges_table(found)

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """See `memory_view.draw_edges`."""
        return draw_edges(found, path)


def _fresh(case: Case, length: int = 0, attempt: int = 1) -> tuple[SequenceModel, torch.Generator]:
    """A net and a generator of data that depend on the seed, the length and the attempt, not on what ran before."""
    device = torch.device(case.device)
    of_weights, of_data = np.random.SeedSequence([case.seed, length, attempt]).generate_state(2).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(of_weights)
        net = net_of(case.models[0], case.options)
    return net.to(device), torch.Generator(device).manual_seed(of_data)


Climbed = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # the rungs, and the lengths beyond


def _cold(case: Case, told: Told) -> Climbed:
    """A fresh net for each rung until two have failed, then one more rung between the edge and the first failure."""
    rungs: list[dict[str, Any]] = []
    problem, rate, steps = problem_of(case.options), case.options["learning_rate"], case.options["steps"][0]

    def solves(length: int) -> bool:
        for attempt, factor in enumerate((1.0, RETRY), 1):
            net, generator = _fresh(case, length, attempt)
            found = train(net, problem, length, generator, learning_rate=factor * rate, steps=steps)
            rungs.append(_rung(found, attempt))
            if found.solved:
                return True
        return False

    failed = 0
    for i, length in enumerate(case.options["lengths"], 1):
        failed += not solves(length)
        told.report(i, 0.0)
        if failed == FAILURES:
            break
    edge, first_fail, _ = edge_of(rungs)
    if edge and first_fail is not None and first_fail - edge > 1:
        solves((edge + first_fail) // 2)
    return rungs, []


def _staged(case: Case, told: Told) -> Climbed:
    """One net through all stages until one fails; then, as it was after the last it solved, on lengths beyond.

    A stage that the net passes as it is counts as solved in 0 steps, and a failed one is tried once more from where it
    began, as cold ones are. Without either, the edge measures the training and not the state: a plain RNN that had
    learned 40 steps and held 320 untrained lost it all in training on 80.
    """
    problem, plan = problem_of(case.options), case.options
    net, generator = _fresh(case)
    rungs, solved = [], 0
    for i, (length, steps) in enumerate(zip(plan["lengths"], plan["steps"], strict=True), 1):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        for attempt, found in enumerate(_stage(net, problem, length, generator, plan["learning_rate"], steps), 1):
            rungs.append(_rung(found, attempt))
            if found.solved:
                solved = length
                break
            net.load_state_dict(before)
        told.report(i, 0.0)
        if solved < length:
            break
    return rungs, _beyond(case, net, generator, solved) if solved else []


def _stage(
    net: SequenceModel, problem: Problem, length: int, generator: torch.Generator, rate: float, steps: int
) -> Iterator[Trained]:
    """The net as it is, if it passes; else after training at ``rate``, then at a third of it."""
    as_it_is = passed_untrained(net, problem, length, generator)
    if as_it_is is not None:
        yield as_it_is
        return
    lengths = max(problem.least, length // 2), length
    for factor in (1.0, RETRY):
        yield train(net, problem, lengths, generator, learning_rate=factor * rate, steps=steps)


def _beyond(case: Case, net: SequenceModel, generator: torch.Generator, solved: int) -> list[dict[str, Any]]:
    """Scores at 2, 4 and 8 times the last length that was solved."""
    problem, found = problem_of(case.options), []
    for length in (factor * solved for factor in BEYOND if _can_go(case, problem, factor * solved)):
        score = assess(net, problem, length, generator, BEYOND_SEQUENCES)
        value, low = (None, None) if score is None else (round(score.value, 6), round(score.low, 6))
        found.append({"length": length, "score": value, "low": low})
    return found


def _can_go(case: Case, problem: Problem, length: int) -> bool:
    """Whether the net has room for as many pairs, and the device runs as many steps."""
    largest = case.options["largest"]
    return (largest is None or length <= largest) and (case.device != "cuda" or problem.steps(length) <= CUDNN_LONGEST)


def _rung(found: Trained, attempt: int) -> dict[str, Any]:
    """One attempt, as JSON holds it."""
    score, low = (None if value is None else round(value, 6) for value in (found.score, found.low))
    own = {name: getattr(found, name) for name in ("length", "learning_rate", "steps", "solved", "diverged")}
    return {**own, "attempt": attempt, "score": score, "low": low}


PROBE = Memory()

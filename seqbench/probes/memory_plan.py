"""What `probe memory` will measure: problems, ladders and efforts by budget, resolved into what decides a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from seqbench.device import CUDNN_LONGEST
from seqbench.errors import UserError, nearest
from seqbench.models.backbone import SequenceModel, check_widths
from seqbench.models.mixer import MODELS
from seqbench.probes import Request
from seqbench.probes.options import MemoryOptions
from seqbench.probes.shared.nets import build_net, check_fits, check_length, width_of_size
from seqbench.probes.shared.problems import PROBLEMS, Problem, make_problem
from seqbench.probes.shared.training import BATCH, LEARNING_RATE, STAGE_STEPS, stage_lengths

__all__ = ["BUDGETS", "Effort", "Plan", "net_of", "plans_of", "problem_of"]

REGIMES = ("cold", "staged")
FIRST = {"cold": 4, "staged": 5}  # steps; doubled from rung to rung
FIRST_PAIRS = 2


class Effort(NamedTuple):
    """What a budget spends on a problem: seeds, longest of each regime (the most pairs in both), steps of a rung.

    ``regimes`` are those measured where both are asked for.
    """

    seeds: int
    cold: int
    staged: int
    steps: int
    regimes: tuple[str, ...] = REGIMES


WIDTHS = {"smoke": 32, "quick": 64, "standard": 128}
BUDGETS = {
    "smoke": {
        "recall": Effort(1, 16, 10, 125),
        "adding": Effort(1, 8, 5, 200),
        "copy": Effort(1, 4, 5, 50),
        "selective": Effort(1, 4, 4, 150),
    },
    "quick": {
        "recall": Effort(6, 128, 320, 600),
        "adding": Effort(6, 128, 320, 1_500),
        "copy": Effort(3, 16, 40, 4_000, ("staged",)),  # an LSTM takes 4,000 steps for T = 5, too long for a ladder
        "selective": Effort(6, 16, 16, 2_000),
    },
    "standard": {
        "recall": Effort(6, 1_024, 1_024, 3_000),
        "adding": Effort(6, 1_024, 1_024, 3_000),
        "copy": Effort(6, 1_024, 1_024, 6_000),
        "selective": Effort(6, 32, 32, 3_000),
    },
}
USUAL = {"smoke": ("recall",)}  # problems of a budget where they are not all


def _named(asked: str | None, usual: Sequence[str], known: Sequence[str], noun: str) -> list[str]:
    """Names of ``known`` that were asked for: with commas, ``all``, or None for the usual."""
    if asked is None:
        return list(usual)
    names = list(known) if asked == "all" else list(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in known:
            raise UserError(nearest(name, known, noun))
    return names


def _initialisations(asked: str, models: Sequence[str]) -> dict[str, list[str]]:
    """Those to measure of each model: a name that a model lacks is left out, unless none or the only model has it."""
    own = {model: MODELS.get(model).mixer.initialisations for model in models}
    every = list(dict.fromkeys(name for names in own.values() for name in names))
    wanted = _named(asked, every, ["default", *every], "initialisation") if asked != "all" else every
    return {
        model: list(
            dict.fromkeys(names[0] if name == "default" else name for name in wanted if name in ("default", *names))
        )
        for model, names in own.items()
    }


class Plan(NamedTuple):
    """The cases of one model: the first so many seeds, and what decides the result, as JSON holds it."""

    model: str
    seeds: int
    options: dict[str, Any]


def plans_of(request: Request, options: MemoryOptions, models: Sequence[str], device: str) -> list[Plan]:
    """All that was asked for; of a model that sees later steps one case, whose record says why it can't be measured.

    Raises:
        UserError: for what does not exist, or does not fit.
    """
    efforts = BUDGETS[request.budget]
    names = _named(options.problem, USUAL.get(request.budget, tuple(efforts)), tuple(efforts), "problem")
    starts = _initialisations(options.initialisation, models)
    found = []
    for model in models:
        causal = MODELS.get(model).mixer.can_be_causal
        own = [
            Plan(model, (request.seeds or efforts[name].seeds) if causal else 1, {**plan, "initialisation": start})
            for name in names
            for regime in (efforts[name].regimes if options.regime == "both" else (options.regime,))
            for plan in (_plan(request, options, model, name, regime),)
            for start in (starts[model] if causal else MODELS.get(model).mixer.initialisations)
        ]
        found += own if causal else own[:1]
    _check(found, device)
    return found


def _plan(request: Request, options: MemoryOptions, model: str, name: str, regime: str) -> dict[str, Any]:
    """What decides the result, but for the initialisation."""
    effort = BUDGETS[request.budget][name]
    pairs = PROBLEMS[name].axis == "pairs"
    asked = options.pairs if pairs else options.longest
    longest = (effort.cold if regime == "cold" else effort.staged) if asked is None else asked
    check_length(longest, "--pairs" if pairs else "--longest", PROBLEMS[name].least)
    lengths = stage_lengths(longest, FIRST_PAIRS if pairs else FIRST[regime])
    plan: dict[str, Any] = {
        "problem": name,
        "regime": regime,
        "width": options.hidden or WIDTHS[request.budget],
        "layers": options.layers,
        "backbone": options.backbone,
        "blank": options.blank and name == "recall",
        "largest": longest if pairs else None,
        "lengths": lengths,
        # but for the first stage, in which the problem itself must be learned, a stage only stretches what is there
        "steps": [effort.steps] + [effort.steps if regime == "cold" or pairs else STAGE_STEPS] * (len(lengths) - 1),
        "learning_rate": LEARNING_RATE,
    }
    if options.params is not None and MODELS.get(model).mixer.can_be_causal:
        shape = problem_of(plan).shape
        plan["width"] = width_of_size(options.params, model, shape, layers=options.layers, backbone=options.backbone)
    check_widths(model, (plan["width"],))
    return plan


def _check(plans: Sequence[Plan], device: str) -> None:
    """Refuse lengths that the device can't run or hold, before any work."""
    longest: dict[tuple[str, str], Plan] = {}
    for plan in plans:
        if MODELS.get(plan.model).mixer.can_be_causal:
            key = (plan.model, plan.options["problem"])
            longest[key] = max(longest.get(key, plan), plan, key=lambda it: it.options["lengths"][-1])
    for model, _, own in longest.values():
        problem, length, option = problem_of(own), own["lengths"][-1], "--pairs" if own["largest"] else "--longest"
        if device == "cuda" and problem.steps(length) > CUDNN_LONGEST:
            raise UserError(
                f"{option} {length}: CUDA runs at most {CUDNN_LONGEST:,} steps: take less, or --device cpu."
            )
        check_fits(partial(net_of, model, own), problem.shape, BATCH, length, device, option)


def problem_of(plan: Mapping[str, Any]) -> Problem:
    """The problem that the options of a case name."""
    return make_problem(plan["problem"], blank=plan["blank"], largest=plan["largest"])


def net_of(model: str, plan: Mapping[str, Any]) -> SequenceModel:
    """A new net as ``plan`` says, its weights from torch's generator."""
    return build_net(
        model,
        problem_of(plan).shape,
        plan["width"],
        layers=plan["layers"],
        backbone=plan["backbone"],
        initialisation=plan["initialisation"],
    )

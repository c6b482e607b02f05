"""`probe gradient`: how the influence of an input on the last output shrinks or grows with its distance.

J_k = dh_T / de_(T-k) for k = 0 ... T-1 (see `jacobian`), at the start and after training on recall in stages, on recall
sequences in both cases. Each sample's norm comes first, then the median of the log norms: the mean of vectors would let
samples cancel each other. Curves start at k = 1: J_0 lacks the recurrence, and holds the skip of a residual backbone.
Vanishing is not forgetting, so a trained net's record also says how well it answers at T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator

from seqbench.errors import UserError, nearest
from seqbench.models.backbone import SequenceModel, check_widths
from seqbench.models.mixer import MODELS
from seqbench.probes import Case, Found, Request, Told
from seqbench.probes.gradient_curves import number, summary
from seqbench.probes.gradient_plot import draw
from seqbench.probes.gradient_view import headline, table
from seqbench.probes.jacobian import double_copy, input_log_norms, no_state, state_log_norms
from seqbench.probes.options import GradientOptions
from seqbench.probes.shared.nets import build_net, check_fits, check_length
from seqbench.probes.shared.problems import Recall
from seqbench.probes.shared.training import assess, stage_lengths, train_in_stages
from seqbench.training import Diverged

__all__ = ["PROBE", "Gradient"]

PROBLEM = Recall()


class Budget(NamedTuple):
    """Sizes of a budget; training is in stages of lengths up to ``longest``, of ``steps`` steps at most each."""

    hidden: int
    length: int
    samples: int
    seeds: int
    longest: int
    steps: int


BUDGETS = {
    "smoke": Budget(16, 32, 4, 1, 5, 100),
    "quick": Budget(64, 200, 16, 6, 40, 300),
    "standard": Budget(128, 512, 16, 6, 320, 300),
}


class Gradient:
    """The probe."""

    name, version, options, timed = "gradient", 1, GradientOptions, False

    def cases(self, request: Request, options: GradientOptions, models: Sequence[str], device: str) -> list[Case]:
        """For each seed, model and initialisation one at the start and one trained, or the one asked for."""
        budget = BUDGETS[request.budget]
        seeds = request.all_seeds(budget.seeds)
        whens = ["start", "trained"] if options.when == "both" else [options.when]
        plans: list[tuple[str, dict[str, Any], range]] = []
        for model in models:
            sizes = _sizes(options, budget, model, device)
            own = [
                {"when": when, "initialisation": initialisation, **sizes, **_training(when, budget)}
                for initialisation in _initialisations(options.initialisation, model, models)
                for when in whens
            ]
            # a model that sees the future is refused in measuring, for which once is enough
            whole = MODELS.get(model).mixer.can_be_causal
            plans += [(model, about, seeds if whole else seeds[:1]) for about in (own if whole else own[:1])]
        return [
            Case(self.name, (model,), seed, request.budget, device, request.threads, about)
            for seed in seeds
            for model, about, its_seeds in plans
            if seed in its_seeds
        ]

    def measure(self, case: Case, told: Told) -> dict[str, Any]:
        """One net's Jacobians; `gradient_curves.summary` says what is in the result."""
        about = case.options
        T, trained = about["length"], None
        net = build_net(
            case.models[0], PROBLEM.shape, about["hidden"],
            layers=about["layers"], backbone=about["backbone"], initialisation=about["initialisation"],
        ).to(case.device)  # fmt: skip
        # streams of their own: neither that of the weights, nor one for both training and measuring
        teacher, drawn = (Generator(case.device).manual_seed((part << 32) + case.seed) for part in (1, 2))
        if about["when"] == "trained":
            trained = _train(net, about["stages"], about["steps"], T, teacher)
        double = double_copy(net, "cpu" if case.device == "mps" else case.device)
        samples = {length: _inputs(double, about["samples"], length, drawn) for length in _lengths(T)}
        norms = {length: input_log_norms(double, inputs).cpu().numpy() for length, inputs in samples.items()}
        reason = no_state(double, T)
        state = state_log_norms(double, samples[T]).cpu().numpy() if reason is None else None
        size = sum(p.numel() for p in double.parameters())
        kept = {name: about[name] for name in ("when", "initialisation", "samples", "length")}
        return {**kept, "width": about["hidden"], "params": size, **summary(norms, state), "state_reason": reason,
                "trained": trained}  # fmt: skip

    def headline(self, case: Case, result: Mapping[str, Any]) -> str:
        """Half-life and fall."""
        return headline(result)

    def table(self, found: Sequence[Found]) -> str:
        """Seeds together, and what to make of it."""
        return table(found)

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """All models in one picture."""
        return draw(found, path)


def _training(when: str, budget: Budget) -> dict[str, Any]:
    trained = when == "trained"
    return {"stages": stage_lengths(budget.longest) if trained else [], "steps": budget.steps if trained else 0}


def _lengths(longest: int) -> list[int]:
    return sorted({max(2, longest // part) for part in (1, 2, 4, 8)})


def _sizes(options: GradientOptions, budget: Budget, model: str, device: str) -> dict[str, Any]:
    """Width, layers, backbone, length and samples, found to be possible for ``model``."""
    multiple = MODELS.get(model).mixer.width_multiple
    hidden = options.hidden or -(-budget.hidden // multiple) * multiple  # the budget's, or the next that it can have
    length = budget.length if options.length is None else options.length
    samples = options.samples or budget.samples
    check_length(length, least=PROBLEM.steps(PROBLEM.least))
    check_widths(model, (hidden,))

    def net() -> SequenceModel:
        return build_net(model, PROBLEM.shape, hidden, layers=options.layers, backbone=options.backbone).double()

    check_fits(net, PROBLEM.shape, samples, length, device)
    return {
        "hidden": hidden,
        "layers": options.layers,
        "backbone": options.backbone,
        "length": length,
        "samples": samples,
    }


def _initialisations(asked: str, model: str, models: Sequence[str]) -> list[str]:
    """Those of ``asked`` that ``model`` has; an unknown name is refused if no model has it."""
    of = {name: MODELS.get(name).mixer.initialisations for name in models}
    names = [name.strip() for name in asked.split(",")]
    known = {"default", "all", *(name for has in of.values() for name in has)}
    for name in names:
        if name not in known:
            raise UserError(nearest(name, known, "initialisation"))
    if "all" in names:
        return list(of[model])
    return [name for name in of[model] if name in names or ("default" in names and name == of[model][0])]


def _inputs(net: SequenceModel, samples: int, length: int, generator: Generator) -> torch.Tensor:
    """(B, T) recall sequences of ``length`` steps, where ``net`` is."""
    inputs, _ = PROBLEM.draw(samples, length - 1, generator, generator.device)
    return inputs.to(next(net.parameters()).device)


def _train(net: SequenceModel, stages: list[int], steps: int, length: int, generator: Generator) -> dict[str, Any]:
    """Train in stages; scores are 0 for guessing and 1 for all right, ``length`` is the last stage's."""
    ran = list(train_in_stages(net, PROBLEM, stages, generator, steps=steps))
    there = assess(net, PROBLEM, length - 1, generator)
    if ran and ran[-1].diverged:
        raise Diverged(f"training diverged at length {ran[-1].length}")
    return {
        "length": ran[-1].length if ran else None,
        "solved": max((one.length for one in ran if one.solved), default=None),
        "score": number(ran[-1].score) if ran else None,
        "score_at_measured_length": None if there is None else number(there.value),
    }


PROBE = Gradient()

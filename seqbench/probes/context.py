"""`probe context`: how far back models trained on real data use their input.

For tasks of kind `generate` a case trains a model and scores characters of the test text after exactly k others
(`context_text`), and with what lies beyond k shuffled, swapped or dropped (`context_far`). For other kinds with an
option ``sequence_length`` a case trains on one input length, and at the longest also tests with far inputs swapped
(`context_inputs`). The data is each task's embedded one; one mixer layer in the bare backbone.

Result of `generate` (losses in nats, six digits):
    task, kind, what ("text"), length (T trained at), ks [K], blocks (G), counts [G], sums [G][K]: summed losses of the
    targets of a block after exactly k characters; carried {sums [G], counts [G]} with a state carried over the text, or
    None for a model whose state grows; limit: T for such a model, which reads no more than that, else None;
    chars_per_word (None without spaces); perturbed {kind: {k: {sums [permutations][blocks], counts [blocks]}}} with
    "intact" at the whole window, or None; metric, unit, test (primary metric); params; width.

Result of other kinds:
    task, kind, what ("inputs"), length, metric, unit, direction, value, left_out (the value without each test group),
    reference, reference_value (the reference baseline's), examples (scored), common (whether they are those of the
    longest length), anchor, masks [{k, values [permutations], left_out}] at the longest length else None, masks_why,
    params, width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqbench.data.splits import Stream
from seqbench.errors import UserError
from seqbench.models.backbone import SequenceModel, build, check_widths
from seqbench.models.heads import HEADS, Shape
from seqbench.models.mixer import MODELS
from seqbench.prepare import Prepared, prepare
from seqbench.probes import Case, Found, Request, Told
from seqbench.probes.context_fit import training_options
from seqbench.probes.context_inputs import measure_inputs
from seqbench.probes.context_stats import effective_context
from seqbench.probes.context_text import measure_text, place_targets
from seqbench.probes.options import ContextOptions
from seqbench.probes.shared.nets import check_fits
from seqbench.task import TASKS, TaskSpec, parse_options

__all__ = ["PROBE", "ContextProbe"]

TEXT = "generate"
LENGTH = {"smoke": 64, "quick": 512, "standard": 512}
TARGETS = {"smoke": 200, "quick": 5_000, "standard": 5_000}
LONGEST = {"smoke": 128, "quick": 2_048, "standard": 2_048}
PERTURBED = {"smoke": 100, "quick": 300, "standard": 1_000}  # targets
NEAR = {"smoke": (4, 16), "quick": (4, 16, 64), "standard": (4, 16, 64, 256)}  # characters that stay as they are
SEEDS = {TEXT: {"smoke": 1, "quick": 5, "standard": 5}, "": {"smoke": 1, "quick": 3, "standard": 5}}
SHARES = {"smoke": (1 / 2, 1), "quick": (1 / 3, 1 / 2, 1), "standard": (1 / 4, 1 / 3, 1 / 2, 1, 2, 3)}


class ContextProbe:
    """See the module."""

    name = "context"
    version = 1
    options: type[Any] = ContextOptions
    timed = False

    def cases(self, request: Request, options: Any, models: Sequence[str], device: str) -> list[Case]:
        """One a seed, task and model for text; for other kinds one for each input length too.

        Raises:
            UserError: a task that has no input to shorten, lengths that it refuses or that do not fit into memory.
        """
        names = TASKS.names() if options.task is None else [word.strip() for word in options.task.split(",")]
        specs = [TASKS.get(name) for name in names]
        if options.task is None:
            specs = [spec for spec in specs if spec.kind == TEXT]
        groups = []
        for spec in specs:
            if "sequence_length" not in {item.name for item in dataclasses.fields(spec.options)}:
                raise UserError(f"task {spec.name} has no option sequence_length, so its context can't be measured.")
            about = [*(_text if spec.kind == TEXT else _inputs)(spec, request.budget, options, models, device)]
            seeds = request.all_seeds(SEEDS.get(spec.kind, SEEDS[""])[request.budget])
            groups += [
                (model, seed, one) for seed in seeds for model, one in about if _wanted(spec, model, one, seed, seeds)
            ]
        groups.sort(key=lambda group: group[1])
        return [
            Case(self.name, (model,), seed, request.budget, device, request.threads, one) for model, seed, one in groups
        ]

    def measure(self, case: Case, told: Told) -> dict[str, Any]:
        """See the module for what comes back."""
        return measure_text(case, told) if case.options["what"] == "text" else measure_inputs(case, told)

    def headline(self, case: Case, result: Mapping[str, Any]) -> str:
        """The effective context at 1%, or the metric at this length."""
        if result["what"] == "text":
            found = effective_context([result])
            return f"{result['metric']} {result['test']:.4g}, effective context {found.value:.0f} characters"
        return f"{result['metric']} {result['value']:.4g} at length {result['length']}"

    def table(self, found: Sequence[Found]) -> str:
        """Effective contexts with intervals, losses under perturbation, and metrics by input length."""
        from seqbench.probes.context_table import context_table

        return context_table(found)

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """Excess loss against k, perturbations, and metrics against input length."""
        from seqbench.probes.context_view import draw_context

        return draw_context(found, path)


def _wanted(spec: TaskSpec, model: str, about: Mapping[str, Any], seed: int, seeds: range) -> bool:
    """Not for every seed what can't be measured: once is enough to say why."""
    sees_ahead = HEADS.get(spec.kind).causal and not MODELS.get(model).mixer.can_be_causal
    return seed == seeds[0] or not (sees_ahead or "refused" in about)


def _text(
    spec: TaskSpec, budget: str, options: Any, models: Sequence[str], device: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    length = LENGTH[budget] if options.sequence_length is None else options.sequence_length
    targets, longest = options.targets or TARGETS[budget], options.longest or LONGEST[budget]
    prepared = prepare(spec.name, {"sequence_length": length})
    test = prepared.data.test
    if not isinstance(test, Stream):
        raise UserError(f"task {spec.name} holds no stream of text, so its context can't be measured.")
    perturb = budget != "smoke" if options.perturb is None else options.perturb
    training = training_options(prepared, budget, options, length)
    place_targets(min(len(test.tokens), training["text"] or len(test.tokens)), targets, longest)
    chosen = {"targets": targets, "longest": longest, "near": list(NEAR[budget]) if perturb else []}
    chosen["perturbed"] = PERTURBED[budget] if perturb else 0
    for model in models:
        _check_model(prepared, model, training, device, length, "--sequence-length")
        yield model, {"task": spec.name, "what": "text", "length": length, **chosen, **training}


def _inputs(
    spec: TaskSpec, budget: str, options: Any, models: Sequence[str], device: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    usual = int(spec.options().sequence_length)
    asked = options.lengths and sorted({int(word) for word in options.lengths.split(",")})
    lengths = asked or sorted({int(usual * share) for share in SHARES[budget]})
    refused = {length: why for length in lengths if (why := _refusal(spec, length))}
    allowed = [length for length in lengths if length not in refused]
    if not allowed:
        raise UserError(f"no length is left for {spec.name}: {next(iter(refused.values()))}")
    prepared = prepare(spec.name, {"sequence_length": allowed[-1]})
    anchor = options.anchor or ("end" if spec.kind == "forecast" else "centre")
    training = training_options(prepared, budget, options, allowed[-1])
    chosen = {"longest": allowed[-1], "anchor": anchor, **training}
    for model in models:
        _check_model(prepared, model, training, device, allowed[-1], "--lengths")
        for length in allowed:
            yield model, {"task": spec.name, "what": "inputs", "length": length, **chosen}
        for length, why in refused.items() if asked else ():
            refusal = {"sentence": why}
            yield model, {"task": spec.name, "what": "inputs", "length": length, "refused": refusal, **chosen}


def _refusal(spec: TaskSpec, length: int) -> str | None:
    """The sentence with which the task's options refuse a length."""
    try:
        parse_options(spec, {"sequence_length": length})
    except UserError as error:
        return str(error)
    return None


def _check_model(
    prepared: Prepared, model: str, training: Mapping[str, Any], device: str, length: int, option: str
) -> None:
    """Refuse widths that the model can't have and lengths whose training does not fit into memory."""
    kind, data, width = prepared.spec.kind, prepared.data, training["hidden"]
    check_widths(model, (width,))
    shape = Shape(len(data.vocabulary), len(data.features), (1,))

    def net() -> SequenceModel:
        return build(model, kind, data, (width,))

    if not HEADS.get(kind).causal or MODELS.get(model).mixer.can_be_causal:
        check_fits(net, shape, training["training"]["batch_size"], length, device, option)


PROBE = ContextProbe()

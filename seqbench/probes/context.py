"""`probe context`: how far back models that are trained on real data use their input.

Of a text (tasks of kind `generate`) characters are scored after exactly k others, read from zero state; what lies
beyond a few k is also dropped, shuffled, or swapped for another passage (after Khandelwal et al. 2018, who shuffled and
dropped the words of a trained language model's context). So are words, where an option of the task makes them what is
read: ``--option unit=word``. A net that predicts the text no better than an n-gram model is said to be no witness. On
other tasks that have an option ``sequence_length`` a model
is trained on each of several lengths of the input, and at the longest also tested with everything farther than k from
an anchor taken from another example.

The data is each task's embedded one; the model is one mixer layer in the bare backbone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from seqbench.baselines.generate import NGRAMS
from seqbench.config import parse_options_text
from seqbench.data import BLOCK, Rows, Segments, Split, Stream, Truth, Windows, unit_of
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.options import MODEL, TRAINING, WHAT, Flag, Parameter, Range, Texts, Width, check_options
from seqbench.probes import Measured, Probe, ProbeSpec, Request, register_probe, seeds_together
from seqbench.report.chart import GREY, Axis, Chart, Dash, Line, Look, Mark, Panel, Points, Rule, dashes_of, look_of
from seqbench.report.text import NONE, aligned_table, interval_text, listed, or_dash, rounded, short
from seqbench.stats import Estimate, Interval, estimate
from seqbench.task import TASKS, Budget, TaskSpec, parse_options

if TYPE_CHECKING:
    from seqbench.experiment import Experiment
    from seqbench.models.backbone import SequenceModel
    from seqbench.prepare import Prepared

__all__ = ["TOLERANCES", "ContextResult", "InputsResult", "TextResult", "effective_context", "still_falls"]

Array = npt.NDArray[Any]
N = TypeVar("N", float, Sequence[float])
TOLERANCES = (0.005, 0.01, 0.02)  # of the perplexity a word, for the effective context


@dataclass(frozen=True)
class ContextOptions:
    """Options of `probe context`; None stands for what the budget says."""

    task: Annotated[str | None, Parameter(group=WHAT, metavar="NAME")] = None
    """Task whose models are measured, several with commas; by default every task of kind generate."""
    option: Annotated[Texts, Parameter(group=WHAT, metavar="NAME=VALUE")] = ()
    """generate: an option of the task, as unit=word; may be given again. All counts are of words then."""
    sequence_length: Annotated[int | None, Parameter(metavar="T")] = None
    """generate: characters of a training window; by default 512 (smoke: 64), of words 128 (32)."""
    targets: Annotated[int | None, Range(ge=2, le=10_000_000), Parameter(metavar="N")] = None
    """generate: least number of characters of the test text that are scored; by default 5,000 (smoke: 200)."""
    longest: Annotated[int | None, Range(ge=1, le=32_767), Parameter(metavar="K")] = None
    """generate: most characters read before each; by default 2,048 (smoke: 128), of words 1,024 (64)."""
    perturb: Annotated[bool | None, Parameter(negative="--no-perturb")] = None
    """generate: also shuffle or replace what lies beyond some distances; by default yes (smoke: no)."""
    lengths: Annotated[str | None, Parameter(metavar="T[,T...]")] = None
    """Other kinds: input lengths, each trained for; by default shares and multiples of the task's that it allows."""
    anchor: Literal["end", "centre"] | None = None
    """Other kinds: from where distance is counted; by default the end (forecast) or the centre (else)."""
    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the one mixer layer; by default 128 (smoke: 32)."""
    steps: Annotated[int | None, Range(ge=1, le=10_000_000), Parameter(group=TRAINING, metavar="N")] = None
    """Optimiser steps; by default the task's (smoke: 20; quick on text: twice as many, of fewer characters)."""
    learning_rate: Annotated[float | None, Range(gt=0, lt=math.inf), Parameter(group=TRAINING, metavar="X")] = None
    """Peak learning rate; by default the task's."""
    dropout: Annotated[float | None, Range(ge=0, lt=1), Parameter(group=TRAINING, metavar="X")] = None
    """Share of values dropped after the mixer layer in training; by default the task's."""
    carry_state: Annotated[Flag, Parameter(group=TRAINING)] = False
    """generate: train on the text in order, going on with the state of the window before, as `run --carry-state`."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; what a task allows is asked of the task."""
        check_options(self)
        parse_options_text(self.option)
        if self.lengths is not None and not all(word.strip().isdecimal() for word in self.lengths.split(",")):
            raise UserError(f"--lengths {self.lengths} is not a list of lengths: write it like 24,48,72.")


@dataclass(frozen=True)
class Summed(Generic[N]):
    """Nats of targets in each of G blocks of text: ``sums`` (G,), or (P, G) after P permutations; ``counts`` (G,)."""

    sums: Sequence[N]
    counts: Sequence[int]


@dataclass(frozen=True)
class OfModel:
    """What both kinds of result have.

    Attributes:
        task, kind: name and kind of the task.
        length: T, steps of an input in training.
        metric, unit: the task's primary metric.
        params, width: of the model.
    """

    task: str
    kind: str
    length: int
    metric: str
    unit: str
    params: int
    width: int


@dataclass(frozen=True)
class TextResult(OfModel):
    """What one model made of a text. Losses are in nats, with six significant digits.

    Attributes:
        ks: (K,) numbers of symbols (characters, or words) after which targets are scored.
        blocks: G, into how many stretches the text is cut.
        counts, sums: (G,) targets of each block, and (G, K) their losses after exactly k characters, summed.
        carried: the same with a state that is carried over the text; None for a model whose state grows.
        limit: T for a model whose state grows, which is read at most at T symbols; None for others.
        chars_per_word: of the whole test text; None where it has no spaces, or is read in words.
        perturbed: by kind of change and k: losses with what lies beyond k changed, "intact" at the whole window.
        test: the metric on the whole test text.
        symbol: what is read at a step, character or word.
        ngrams: the metric of the n-gram model on the same text; None where it was not fitted.
    """

    what: Literal["text"]
    ks: Sequence[int]
    blocks: int
    counts: Sequence[int]
    sums: Sequence[Sequence[float]]
    carried: Summed[float] | None
    limit: int | None
    chars_per_word: float | None
    perturbed: Mapping[str, Mapping[str, Summed[Sequence[float]]]] | None
    test: float
    symbol: str = "character"
    ngrams: float | None = None

    @property
    def symbols(self) -> str:
        """Several of what is read."""
        return f"{self.symbol}s"


@dataclass(frozen=True)
class Mask:
    """The metric with inputs farther than ``k`` swapped: once for each permutation, and without each test group."""

    k: int
    values: Sequence[float]
    left_out: Sequence[float]


@dataclass(frozen=True)
class InputsResult(OfModel):
    """What one model made of inputs of one length.

    Attributes:
        direction: of the metric.
        value, left_out: the metric on the test split, and without each test group.
        reference, reference_value: the task's reference baseline, and its value.
        examples, common: how many are scored, and whether they are those that the longest length has, too.
        anchor: end or centre, from where distance is counted.
        masks, masks_why: at the longest length: with far inputs swapped, or why there is nothing to swap; else None.
    """

    what: Literal["inputs"]
    direction: str
    value: float
    left_out: Sequence[float]
    reference: str
    reference_value: float
    examples: int
    common: bool
    anchor: str
    masks: Sequence[Mask] | None
    masks_why: str | None


ContextResult = TextResult | InputsResult


@register_probe("context")
class ContextProbe(Probe[ContextResult]):
    """How much of its real input a trained model uses."""

    Options = ContextOptions
    Result: ClassVar[Any] = ContextResult
    version = 2  # since contexts are told by perplexity a word

    def plan(self, request: Request, options: Any, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """One for each seed, task and model; for other kinds than text one for each length of the input, too.

        Raises:
            UserError: a task that has no input to shorten, lengths that it refuses or that do not fit into memory.
        """
        planned: list[ProbeSpec] = []
        for task in _tasks(options.task):
            propose, seeds = (_text_variants, TEXT_SEEDS) if task.kind == TEXT else (_inputs_variants, INPUTS_SEEDS)
            prepared, variants = propose(task, request.budget, options)
            for model in models:
                may_see = _check_model(prepared, model, variants[0], device)
                for variant in variants:
                    specs = self.specs(request, device, model, variant, seeds[request.budget])
                    # what no seed can measure is planned once, to say why
                    planned += specs if may_see and "refused" not in variant else specs[:1]
        return sorted(planned, key=lambda spec: spec.seed)

    def measure(self, spec: ProbeSpec, listener: Listener) -> ContextResult:
        """Train the model of ``spec`` and test it with less input than there is.

        Raises:
            NotApplicable: the task refuses the length, or the model sees what the task is to predict.
            Diverged: a loss is not finite.
        """
        if "refused" in spec.options:
            raise NotApplicable(spec.options["refused"]["sentence"])
        experiment, model = _train(spec, listener)
        if spec.options["what"] == "text":
            return _measure_text(spec, experiment, model, listener)
        return _measure_inputs(spec, experiment, model, listener)

    def headline(self, result: ContextResult) -> str:
        """The effective context at 1%, or the metric at this length."""
        if isinstance(result, TextResult):
            context = effective_context([result]).value
            return f"{result.metric} {rounded(result.test, 4)}, effective context {context:.0f} {result.symbols}"
        return f"{result.metric} {rounded(result.value, 4)} at length {result.length}"

    def table(self, measured: Sequence[Measured[ContextResult]]) -> str:
        """One table for each task, with sentences below it, and one of what changing far input does."""
        parts: list[str] = []
        for groups in _by_task(measured):
            parts += _text_tables(groups) if groups[0].first.kind == TEXT else _inputs_tables(groups)
        return "\n\n".join(parts)

    def chart(self, measured: Sequence[Measured[ContextResult]]) -> Chart:
        """Excess perplexity against k, effective contexts and changed text; metrics against the length of the input."""
        panels: list[Panel] = []
        for groups in _by_task(measured):
            panels += (
                _text_panels(groups)
                if groups[0].first.kind == TEXT
                else [sheet.panel() for sheet in _input_sheets(groups)]
            )
        columns = [panels[::2], panels[1::2]]  # so that they are read row by row
        notes = [*_notes([group for groups in _by_task(measured) for group in groups])]
        return Chart("Effective context on real data", columns, notes=notes, aligned=True)


# ---- plan: what is trained and scored -----------------------------------------------------------------------------

TEXT = "generate"  # the kind of task
TEXT_SEEDS = {"smoke": 1, "quick": 5, "standard": 5}
INPUTS_SEEDS = {"smoke": 1, "quick": 3, "standard": 5}
HIDDEN = {"smoke": 32, "quick": 128, "standard": 128}
LENGTH = {
    "character": {"smoke": 64, "quick": 512, "standard": 512},
    "word": {"smoke": 32, "quick": 128, "standard": 128},
}
TARGETS = {"smoke": 200, "quick": 5_000, "standard": 5_000}
LONGEST = {
    "character": {"smoke": 128, "quick": 2_048, "standard": 2_048},
    "word": {"smoke": 64, "quick": 1_024, "standard": 1_024},
}
PERTURBED = {"smoke": 100, "quick": 300, "standard": 1_000}  # targets
NEAR = {"smoke": (4, 16), "quick": (4, 16, 64), "standard": (4, 16, 64, 256)}  # symbols that stay as they are
SHARES = {"smoke": (1 / 2, 1), "quick": (1 / 3, 1 / 2, 1), "standard": (1 / 4, 1 / 3, 1 / 2, 1, 2, 3)}
SMOKE = {"steps": 20, "evaluations": 1}
SMOKE_TEXT = 20_000  # symbols of validation and test text: reading all of it would take longer than training


def _tasks(names: str | None) -> Iterator[TaskSpec]:
    """The tasks asked for; every task of text where none is."""
    for name in TASKS.names() if names is None else names.split(","):
        task = TASKS.get(name.strip())
        if names is None and task.kind != TEXT:
            continue
        if "sequence_length" not in {item.name for item in dataclasses.fields(task.options)}:
            raise UserError(f"task {task.name} has no option sequence_length, so its context can't be measured.")
        yield task


def _text_variants(task: TaskSpec, budget: str, options: ContextOptions) -> tuple[Prepared, list[dict[str, Any]]]:
    """The data, and the options of the one measurement of each model."""
    from seqbench.prepare import prepare

    given = parse_options_text(options.option)
    symbol = unit_of(prepare(task.name, given).data.fitted) if given else "character"
    length = LENGTH[symbol][budget] if options.sequence_length is None else options.sequence_length
    targets, longest = options.targets or TARGETS[budget], options.longest or LONGEST[symbol][budget]
    prepared = prepare(task.name, {"sequence_length": length, **given})
    test = prepared.data.test
    if not isinstance(test, Stream):
        raise UserError(f"task {task.name} holds no stream of text, so its context can't be measured.")
    perturb = budget != "smoke" if options.perturb is None else options.perturb
    training = _training_options(prepared, budget, options, length)
    place_targets(min(len(test.tokens), training["text"] or len(test.tokens)), targets, longest)
    chosen = {"task": task.name, "what": "text", "length": length, "targets": targets, "longest": longest}
    chosen |= {"option": ",".join(options.option)} if options.option else {}
    chosen |= {"carry_state": True} if options.carry_state else {}
    changes = {"near": list(NEAR[budget]) if perturb else [], "perturbed": PERTURBED[budget] if perturb else 0}
    return prepared, [{**chosen, **changes, **training}]


def _inputs_variants(task: TaskSpec, budget: str, options: ContextOptions) -> tuple[Prepared, list[dict[str, Any]]]:
    """The data at the longest length, and the options of a measurement at each; none that the user names is dropped."""
    from seqbench.prepare import prepare

    if options.option:
        raise UserError(f"--option is for tasks of kind {TEXT} here, and {task.name} is of kind {task.kind}.")
    if options.carry_state:
        raise UserError(f"--carry-state is for tasks of kind {TEXT}, and {task.name} is of kind {task.kind}.")
    usual = int(task.options().sequence_length)
    asked = options.lengths and sorted({int(word) for word in options.lengths.split(",")})
    lengths = asked or sorted({int(usual * share) for share in SHARES[budget]})
    refused = {}
    for length in lengths:
        try:
            parse_options(task, {"sequence_length": length})
        except UserError as error:
            refused[length] = str(error)
    allowed = [length for length in lengths if length not in refused]
    if not allowed:
        raise UserError(f"no length is left for {task.name}: {next(iter(refused.values()))}")
    prepared = prepare(task.name, {"sequence_length": allowed[-1]})
    anchor = options.anchor or ("end" if task.kind == "forecast" else "centre")
    shared = {"longest": allowed[-1], "anchor": anchor, **_training_options(prepared, budget, options, allowed[-1])}
    chosen: list[dict[str, Any]] = [{"length": length} for length in allowed]
    chosen += [{"length": length, "refused": {"sentence": refused[length]}} for length in refused if asked]
    return prepared, [{"task": task.name, "what": "inputs", **one, **shared} for one in chosen]


def _training_options(prepared: Prepared, budget: str, options: ContextOptions, length: int) -> dict[str, Any]:
    """All that decides how a model is trained at ``length`` but the model and the seed, as JSON has it.

    Batches of long windows of text are smaller than the task's. At `smoke` a step holds as many characters as the
    task's does; at `quick` half as many, for twice the steps: few updates on long windows learn little (an LSTM of
    width 128 on a Bible reached 2.23 bits after 1,500 steps of 8 windows of 512, 2.05 after 5,000 of 4). At `standard`,
    which is for a GPU, batch and steps are the task's.
    """
    task = prepared.spec
    training = {**dataclasses.asdict(task.budgets[budget]), **dataclasses.asdict(task.training)}
    if budget == "smoke":
        training |= SMOKE
    if task.kind == TEXT and budget != "standard":
        times, usual = (2 if budget == "quick" else 1), int(task.options().sequence_length)
        training["batch_size"] = max(1, training["batch_size"] * usual // (times * length))
        training["steps"] *= times
    asked = {name: getattr(options, name) for name in ("steps", "learning_rate", "dropout")}
    training |= {name: value for name, value in asked.items() if value is not None}
    training["evaluations"] = min(training["evaluations"], training["steps"])
    return {
        "hidden": options.hidden or HIDDEN[budget],
        "training": training,
        "text": max(SMOKE_TEXT, 4 * length) if budget == "smoke" and task.kind == TEXT else None,
        "data": {
            "version": task.version,
            "code_sha256": TASKS.entry(task.name).code,
            "data_sha256": prepared.data_sha256,
        },
    }


def _check_model(prepared: Prepared, model: str, chosen: Mapping[str, Any], device: str) -> bool:
    """Whether ``model`` can be kept from seeing what the task is to predict.

    Raises:
        UserError: a width that the model can't have, or a length whose training does not fit into memory.
    """
    from seqbench.models.backbone import build, check_carries, check_widths, shape_of
    from seqbench.models.heads import HEADS
    from seqbench.models.mixer import MODELS
    from seqbench.probes.shared.nets import check_fits

    kind, widths, length = prepared.spec.kind, (chosen["hidden"],), prepared.options["sequence_length"]
    check_widths(model, widths)
    if "carry_state" in chosen:
        check_carries(model, kind)
    if HEADS.get(kind).causal and not MODELS.get(model).mixer.can_be_causal:
        return False
    shape, batch = shape_of(kind, prepared.data), chosen["training"]["batch_size"]
    option = "--sequence-length" if kind == TEXT else "--lengths"
    check_fits(lambda: build(model, kind, shape, widths), shape, batch, length, device, option)
    return True


# ---- measure: a trained model -------------------------------------------------------------------------------------


def _train(spec: ProbeSpec, listener: Listener) -> tuple[Experiment, SequenceModel]:
    """The model of ``spec`` in the state that did best on validation, trained as `run` trains it; nothing is stored.

    Raises:
        NotApplicable: the model sees what the task is to predict.
        Diverged: a loss is not finite.
    """
    from seqbench.config import RunConfig
    from seqbench.experiment import build_model, check_sees_no_future, resolve
    from seqbench.training import fit

    training = spec.options["training"]
    config = RunConfig(
        task=spec.options["task"],
        model=spec.models[0],
        budget=spec.budget,  # type: ignore[arg-type]  # one of the names that `Request` allows
        seed=spec.seed,
        sequence_length=spec.options["length"],
        option=_given(spec),
        hidden=(spec.options["hidden"],),
        device=spec.device,  # type: ignore[arg-type]  # the name of a device that is there
        threads=spec.threads,
        carry_state=spec.options.get("carry_state", False),
        **{name: training[name] for name in ("learning_rate", "weight_decay", "dropout")},
    )
    experiment = resolve(config, listener)
    budget = Budget(**{item.name: training[item.name] for item in dataclasses.fields(Budget)})
    data, most = experiment.data, spec.options["text"]
    if most is not None:
        assert isinstance(data.val, Stream) and isinstance(data.test, Stream)
        val, test = (Stream.evaluation(part.tokens[:most], part.window) for part in (data.val, data.test))
        data = replace(data, val=val, test=test)
    experiment = replace(experiment, budget=budget, prepared=replace(experiment.prepared, data=data))
    model = build_model(experiment).to(experiment.device)
    check_sees_no_future(model, data, 8)
    listener.begin(budget.steps)
    fit(model, experiment.prepared.spec, data, experiment.config, budget, listener.step)
    check_sees_no_future(model, data)
    return experiment, model.eval()


def _given(spec: ProbeSpec) -> tuple[str, ...]:
    """Options of the task that the user gave."""
    return tuple(spec.options["option"].split(",")) if "option" in spec.options else ()


def _shared_fields(spec: ProbeSpec, task: TaskSpec, model: SequenceModel) -> dict[str, Any]:
    """The fields of `OfModel`."""
    from seqbench.models.backbone import count_parameters

    named = {"task": task.name, "kind": task.kind, "metric": task.primary.name, "unit": task.primary.unit}
    sizes = {"length": spec.options["length"], "width": spec.options["hidden"], "params": count_parameters(model)}
    return {**named, **sizes}


def _six_digits(value: Any) -> Any:
    """Six significant digits of a number, or of each in an array."""
    return [_six_digits(part) for part in value] if np.ndim(value) else float(f"{value:.6g}")


# ---- measure: text ------------------------------------------------------------------------------------------------
#
# What is said of characters here holds of words, where the text is read word by word.
#
# The loss of character t after exactly k others needs a pass from zero state at t - k. Targets stand at every s-th
# character, so that a pass from each s-th character serves every k that s divides: it predicts one target after s
# characters, the next after 2 s ... That costs as many passes as there are targets, not one for each target and k, and
# the figures are the very same (the protocol asks for single passes and k = 1, 2, 4, ...; those between, 3, 6, 12, ...,
# are nearly free).
#
# A model whose state grows with the length (attention) is read at most at the length it was trained at: beyond it its
# positions are new to it, which is a question of its own, and its cost is quadratic.

MOST_BLOCKS = 80  # more would fill records, not sharpen intervals
CHUNK = 1 << 17  # characters that are read at once: their states fit into any memory
OUTPUTS = 1 << 25  # numbers that come out at once, so that those of a large vocabulary do
STRETCH = 1 << 15  # characters of a pass with carried state
WINDOW = 1024  # characters before a target of which the farther ones are perturbed
PERMUTATIONS = 3
FAR_BLOCKS = 25
KINDS = {  # of changes to what is far, in words
    "drop": "is dropped",
    "swap": "is another passage",
    "shuffle words": "has its words shuffled",
    "shuffle characters": "has its characters shuffled",
}
TEXT_SEED = 4  # of all changes, which are the same for every model and seed: the test text is


def place_targets(length: int, targets: int, longest: int) -> Array:
    """(N,) places of at least ``targets`` characters, evenly over a text of ``length`` after its first ``longest``.

    Their distance is a power of two, so there are at most twice as many.

    Raises:
        UserError: less than two blocks of text would be left, or fewer characters than ``targets``.
    """
    most = length - 2 * BLOCK
    if most < 1:
        raise UserError(f"a test text of {length:,} characters is too short for two blocks of {BLOCK:,}.")
    if longest > most:
        raise UserError(f"--longest {longest} leaves too little of a test text of {length:,}: take at most {most}.")
    span = length - longest
    if targets > span:
        raise UserError(f"--targets {targets} is more than the test text has: take at most {span:,}.")
    return np.arange(longest, length, 1 << ((span // targets).bit_length() - 1))


def text_distances(longest: int, stride: int) -> list[int]:
    """k = 1, 2, 4, ... up to ``longest``, and between them 3, 6, 12, ... where that costs next to nothing."""
    powers = [1 << j for j in range(longest.bit_length())]
    between_them = [3 * k for k in powers if 3 * k <= longest and (3 * k <= 2 * stride or 3 * k % stride == 0)]
    return sorted({*powers, *between_them, longest})


def _measure_text(spec: ProbeSpec, experiment: Experiment, model: SequenceModel, listener: Listener) -> TextResult:
    """Score the targets of the test text after every k."""
    from seqbench.training import evaluate

    about, task, data, length = spec.options, experiment.prepared.spec, experiment.data, spec.options["length"]
    assert isinstance(data.test, Stream)
    tokens = data.test.tokens
    at = place_targets(len(tokens), about["targets"], about["longest"])
    grows = model.state_size(2 * length) > model.state_size(length)
    ks = [k for k in text_distances(about["longest"], int(at[1] - at[0])) if k <= length or not grows]
    blocks = min(MOST_BLOCKS, len(at), (len(tokens) - about["longest"]) // BLOCK)
    symbol = unit_of(data.fitted)
    listener.say(f"scoring {len(at):,} {symbol}s after {ks[0]} to {ks[-1]} others")
    by_k = _summed(truncated_losses(model, tokens, at, ks).T, blocks)
    space = np.array([one.isspace() for one in data.vocabulary]) if symbol == "character" else None
    words = 0 if space is None else word_count(tokens, space)
    return TextResult(
        **_shared_fields(spec, task, model),
        what="text",
        ks=ks,
        blocks=blocks,
        counts=by_k.counts,
        sums=np.transpose(by_k.sums).tolist(),
        carried=None if grows else _summed(carried_losses(model, tokens, at), blocks),
        limit=length if grows else None,
        chars_per_word=_six_digits(len(tokens) / words) if words > 1 else None,
        perturbed=_perturbed(model, tokens, at, space, about),
        test=_six_digits(evaluate(model, task, data.test, experiment.config)[task.primary.name]),
        symbol=symbol,
        ngrams=_ngrams(experiment.prepared, listener) if about["text"] is None else None,
    )


def _ngrams(prepared: Prepared, listener: Listener) -> float | None:
    """The metric of the n-gram model on the test text; None where it is none of the task's baselines."""
    from seqbench.prepare import fit_baselines

    if NGRAMS not in prepared.spec.baselines:
        return None
    alone = replace(prepared, spec=replace(prepared.spec, baselines=(NGRAMS,)))
    value: float = fit_baselines(alone, listener.say)[NGRAMS]["test"][prepared.spec.primary.name]
    return float(_six_digits(value))


def truncated_losses(model: SequenceModel, tokens: Array, at: Array, ks: Sequence[int]) -> Array:
    """(N, K) nats of the targets ``at`` (N,) of a text (L,) after exactly k characters, read from zero state."""
    stride = int(at[1] - at[0])
    nats = np.empty((len(at), len(ks)))
    shared = [k for k in ks if k % stride == 0]
    for together in filter(None, [shared, *([k] for k in ks if k % stride)]):
        longest = max(together)
        later = (longest - np.array(together)) // stride  # passes between those of the longest k and of this one
        passes = _passes(tokens, at[0] - longest, stride, len(at) + later.max(), longest)
        rows = np.arange(len(at))[:, None] + later
        after = np.take_along_axis(losses_after(model, passes, together), rows, axis=0)
        nats[:, [ks.index(k) for k in together]] = after
    return nats


def carried_losses(model: SequenceModel, tokens: Array, at: Array) -> Array:
    """(N,) nats of the targets ``at`` with a state carried over as much as stands before the first, up to `STRETCH`."""
    first = int(at[0])
    span = len(tokens) - first
    n_passes = -(-span // max(1, STRETCH - first))
    scored = -(-span // n_passes)
    passes = _passes(tokens, 0, scored, n_passes, first + scored - 1)
    nats: Array = losses_after(model, passes, range(first, first + scored)).ravel()
    return nats.take(at - first)


def _passes(tokens: Array, first: int, stride: int, number: int, length: int) -> Array:
    """(number, length + 1) stretches of a text from ``first``, ``first + stride``, ... on: a view, as it may be large.

    Past its end stands its last character, which no target's output sees.
    """
    stretches: Array = sliding_window_view(np.pad(tokens, (0, length), mode="edge"), length + 1)
    return stretches[first::stride][:number]


def losses_after(model: SequenceModel, passes: Array, ks: Sequence[int]) -> Array:
    """(N, K) nats of the symbols ``passes[:, k]`` of stretches of text (N, T + 1) after the k before them."""
    import torch
    import torch.nn.functional as F

    device, at_once = next(model.parameters()).device, max(1, CHUNK // (passes.shape[1] - 1))
    nats, after = np.empty((len(passes), len(ks))), [k - 1 for k in ks]
    for i in range(0, len(passes), at_once):
        symbols = torch.from_numpy(passes[i : i + at_once].astype(np.int64)).to(device)
        some = max(1, OUTPUTS // (len(symbols) * model.shape.outputs[0]))
        with torch.no_grad():
            read = model.read(symbols[:, :-1])[:, after]
            for j in range(0, len(ks), some):
                outputs, targets = model.head(read[:, j : j + some], None).float(), symbols[:, ks[j : j + some]]
                losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
                nats[i : i + at_once, j : j + some] = losses.double().cpu().numpy().reshape(len(symbols), -1)
    return nats


def _summed(nats: Array, blocks: int) -> Summed[Any]:
    """Of targets' nats (..., N), block by block."""
    of_block = np.arange(nats.shape[-1]) * blocks // nats.shape[-1]
    sums = np.add.reduceat(nats, np.searchsorted(of_block, np.arange(blocks)), axis=-1)
    return Summed(_six_digits(sums), np.bincount(of_block).tolist())


def word_count(tokens: Array, space: Array) -> int:
    """Runs of symbols that are no space; ``space`` (V,) says which separate words."""
    inside = ~space[tokens]
    return int(np.sum(inside[1:] & ~inside[:-1]) + inside[0])


# ---- measure: far text that is changed ----------------------------------------------------------------------------
#
# Dropping it takes both its content and its presence; a shuffle leaves its letters, or words, and takes their order; a
# swap leaves ordinary text that has nothing to do with the target. What shuffles cost and a swap does not is the shock
# of strange text.


def _perturbed(
    model: SequenceModel, tokens: Array, at: Array, space: Array | None, about: Mapping[str, Any]
) -> dict[str, dict[str, Summed[Sequence[float]]]] | None:
    """Losses of some of the targets ``at``, with and without what lies farther than k in a window changed."""
    window = min(WINDOW, about["length"])
    near = [k for k in about["near"] if k < window]
    if not near:
        return None
    at = at[:: max(1, len(at) // about["perturbed"])]
    at = at[at >= window]
    nats: dict[str, dict[str, list[Array]]] = {}
    for kind, k, passes in perturbed_passes(tokens, at, window, near, space):
        losses = losses_after(model, passes, [passes.shape[1] - 1])[:, 0]
        nats.setdefault(kind, {}).setdefault(str(k), []).append(losses)
    blocks = min(FAR_BLOCKS, len(at))
    return {
        kind: {k: _summed(np.array(permuted), blocks) for k, permuted in by_k.items()} for kind, by_k in nats.items()
    }


def perturbed_passes(
    tokens: Array, at: Array, window: int, near: Sequence[int], space: Array | None
) -> Iterator[tuple[str, int, Array]]:
    """For targets ``at`` (N,) of a text (L,): kind of change, k and stretches (N, <= window + 1) that end with them.

    First ``intact`` with k = ``window``; then each of `KINDS` for each k of ``near``, as many times as there are
    `PERMUTATIONS` (``drop`` once): the last k symbols before a target stay. ``space`` (V,) says which symbols separate
    words, and without any words are not shuffled; None says that each is a word.
    """
    whole = tokens[at[:, None] + np.arange(-window, 1)]
    yield "intact", window, whole
    for k in near:
        far, close = whole[:, : window - k], whole[:, window - k :]
        yield "drop", k, close
        for i in range(PERMUTATIONS):
            rng = np.random.default_rng([TEXT_SEED, k, i])
            kind = "shuffle words" if space is None else "shuffle characters"
            yield kind, k, np.hstack([rng.permuted(far, axis=1), close])
            if space is not None and space[tokens].any():
                yield "shuffle words", k, np.hstack([shuffle_words(far, space, rng), close])
            yield "swap", k, np.hstack([swap_passages(tokens, at, window, window - k, rng), close])


def shuffle_words(rows: Array, space: Array, rng: np.random.Generator) -> Array:
    """Each row (N, M) with its words, each with the space after it, in an order of its own."""
    starts = np.zeros(rows.shape, dtype=np.int64)
    starts[:, 1:] = space[rows[:, :-1]] & ~space[rows[:, 1:]]
    word = starts.cumsum(axis=1)
    places = np.argsort(rng.random(rows.shape), axis=1)  # one for each word; the rest are not used
    order = np.argsort(np.take_along_axis(places, word, axis=1), axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def swap_passages(tokens: Array, at: Array, window: int, length: int, rng: np.random.Generator) -> Array:
    """(N, length) passages that touch no target's own ``window``; needs a text of over four windows."""
    starts = rng.integers(0, len(tokens) - length + 1, len(at))
    while (touching := (starts < at + 1) & (starts + length > at - window)).any():
        starts[touching] = rng.integers(0, len(tokens) - length + 1, int(touching.sum()))
    passages: Array = tokens[starts[:, None] + np.arange(length)]
    return passages


# ---- measure: other inputs ----------------------------------------------------------------------------------------
#
# A longer input leaves fewer places for windows in a series, so every length is scored on those test examples that the
# longest has too. Of the model trained at the longest length, the inputs farther than k from the anchor are replaced by
# those of another test example at the same places: that keeps what such inputs look like, which zeros would not.

INPUTS_SEED = 5  # of the permutations, which are the same for every model and seed
PART = 4096  # examples whose inputs are put together at once


def _measure_inputs(spec: ProbeSpec, experiment: Experiment, model: SequenceModel, listener: Listener) -> InputsResult:
    """Score the common test examples; at the longest length also with far inputs swapped."""
    from seqbench.baselines import BASELINES
    from seqbench.prepare import prepare
    from seqbench.training import predict_split

    about, prepared, config, data = spec.options, experiment.prepared, experiment.config, experiment.data
    task, longest = prepared.spec, {**prepared.options, "sequence_length": about["longest"]}
    common = common_examples(data.test, prepare(task.name, longest, prepared.source).data.test)
    scored = np.arange(len(data.test)) if common is None else common
    constants = task.calibrated(predict_split(model, data.val, config), data.val.truth())
    truth = data.test.truth().with_constants(constants)
    value, left_out = _scores(task, predict_split(model, data.test, config)[scored], truth[scored])
    baseline = BASELINES.get(task.references[0]).fit(data.train, data.val, data)(data.test)
    masks, why = None, None
    if about["length"] == about["longest"] and data.test.lengths is not None:
        why = "inputs vary in length, so they have no common places to swap"
    elif about["length"] == about["longest"]:
        listener.say("testing with far inputs of other examples")
        masks = _masked(experiment, model, truth, about["anchor"])
    return InputsResult(
        **_shared_fields(spec, task, model),
        what="inputs",
        direction=task.primary.direction,
        value=value,
        left_out=left_out,
        reference=task.references[0],
        reference_value=_six_digits(task.score(baseline[scored], truth[scored])[task.primary.name]),
        examples=len(scored),
        common=common is not None,
        anchor=about["anchor"],
        masks=masks,
        masks_why=why,
    )


def common_examples(test: Split, other: Split) -> Array | None:
    """Indices of the examples of ``test`` that ``other``, made with longer inputs, has too; None if it can't be told.

    Windows and segments are the same example where they end at the same step of the same series and have the same
    target; other examples by their number, if they all have the same targets.
    """
    mine, theirs = test.truth().targets, other.truth().targets
    if isinstance(test, Windows | Segments) and isinstance(other, Windows | Segments):
        ends, their_ends = test.starts + test.lookback, other.starts + other.lookback
        _, common, same = np.intersect1d(ends, their_ends, return_indices=True)
        return common if len(common) == len(other) and np.array_equal(mine[common], theirs[same]) else None
    return np.arange(len(test)) if np.array_equal(mine, theirs) else None


def mask_distances(length: int, anchor: str) -> list[int]:
    """A few k: shares of what can be kept on one side of the anchor."""
    reach = length if anchor == "end" else length // 2
    return sorted({max(1, round(reach * share)) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)} - {reach})


def swapped(inputs: Array, others: Array, k: int, anchor: str) -> Array:
    """Inputs (B, T) or (B, T, D) but for the last k steps, or k on each side of the centre, taken from ``others``."""
    length = inputs.shape[1]
    steps = np.arange(length)
    near = steps >= length - k if anchor == "end" else np.abs(2 * steps - (length - 1)) < 2 * k
    return np.where(near.reshape(1, -1, *[1] * (inputs.ndim - 2)), inputs, others)


def _masked(experiment: Experiment, model: SequenceModel, truth: Truth, anchor: str) -> list[Mask]:
    """For each k the metric, once for each permutation, and without each group, permutations averaged."""
    from seqbench.training import predict_split

    test, n, masks = experiment.data.test, len(truth), []
    for k in mask_distances(test.sequence_length, anchor):
        scores = []
        for i in range(PERMUTATIONS):
            order = np.random.default_rng([INPUTS_SEED, k, i]).permutation(n)
            other = np.empty(n, dtype=np.int64)
            other[order] = np.roll(order, 1)  # one cycle: nobody is its own other
            parts = []
            for here in np.split(np.arange(n), range(PART, n, PART)):
                inputs = swapped(np.asarray(test[here].inputs), np.asarray(test[other[here]].inputs), k, anchor)
                rows = Rows(inputs, truth.targets[here], truth.groups[here])
                parts.append(predict_split(model, rows, experiment.config))
            scores.append(_scores(experiment.prepared.spec, np.concatenate(parts), truth))
        values, left_out = zip(*scores, strict=True)
        masks.append(Mask(k, [*values], _six_digits(np.mean(left_out, axis=0))))
    return masks


def _scores(task: TaskSpec, predictions: Array, truth: Truth) -> tuple[float, list[float]]:
    """The primary metric, and without each group of examples."""
    value = task.score(predictions, truth)[task.primary.name]
    return _six_digits(value), _six_digits(task.leave_one_out(predictions, truth))


# ---- figures over several seeds -----------------------------------------------------------------------------------
#
# Seeds and stretches of text are crossed: every seed is scored on the same targets. So seeds and blocks of text are
# drawn apart from each other, 2,000 times each; the variances of the two bootstraps, each with its n / (n - 1), add up
# to that of `seqbench.stats.Estimate`, and the interval is its Student's t. The 2.5% and 97.5% points of drawing both
# at once (the pigeonhole bootstrap; Owen 2007) cover .83 where five seeds differ and the blocks hardly do; these cover
# .95. What is a length is taken as its logarithm. One seed tells nothing of others: its intervals are over text only.

DRAWS = 2000


def effective_context(results: Sequence[TextResult], tolerance: float = 0.01, draws: int = DRAWS) -> Interval:
    """Characters beyond which a model gains no more than ``tolerance`` of its perplexity, with its 95% interval.

    The least k such that the perplexity a word (Khandelwal et al. 2018; a character, where the text has no words) is at
    most ``tolerance`` above the reference at k and all longer ones, the excess linear in log k between the k that were
    measured. The reference is the least at any k, usually the longest k's. A model that gets worse on contexts longer
    than it can use (`reference_distance`) is measured up to the longest k at which it is within ``tolerance`` of its
    best.

    Where it still falls by more than that at the longest k, or the interval reaches it, the upper limit is infinite:
    nothing says that a longer context would not help. ``results`` are those of the seeds of one model.

    Raises:
        ValueError: no results, or some that differ in k or in blocks.
    """
    ks, sums, counts = _stacked(results)
    word = _word(results)
    (log,) = _intervals(
        lambda losses: np.log(least_context(losses, ks, tolerance, word))[..., None], sums, counts, draws
    )
    value, low, high = (min(max(math.exp(end), ks[0]), ks[-1]) for end in log)
    return Interval(value, low, math.inf if still_falls(results, tolerance) or high >= ks[-1] else high)


def still_falls(results: Sequence[TextResult], tolerance: float = 0.01) -> bool:
    """Whether the last step to the longest k still gains more than ``tolerance``: `effective_context` is a lower bound.

    Not so where the loss was least before: there a longer context does harm.
    """
    losses = _mean_losses(results)
    if len(losses) < 2:
        return True
    return bool(losses.argmin() == len(losses) - 1 and excess_of(losses[-2], losses[-1], _word(results)) > tolerance)


def is_too_weak(results: Sequence[TextResult]) -> bool:
    """Whether nets predict the text no better than n-grams do, where that is known: then they are no witnesses."""
    ngrams = results[0].ngrams
    return ngrams is not None and mean(result.test for result in results) >= ngrams


def _word(results: Sequence[TextResult]) -> float:
    """Characters of what perplexity is told of: a word, or a character where there are no words."""
    return results[0].chars_per_word or 1.0


def excess_of(losses: npt.ArrayLike, reference: npt.ArrayLike, word: float) -> Array:
    """By what share the perplexity a word at ``losses`` is above that at ``reference``: exp(word (l - r)) - 1.

    Losses are nats a character, and a word has ``word`` of these.
    """
    excess: Array = np.expm1(word * (np.asarray(losses) - np.asarray(reference)))
    return excess


def _mean_losses(results: Sequence[TextResult]) -> Array:
    """(K,) over all seeds and targets."""
    _, sums, counts = _stacked(results)
    mean_losses: Array = sums.sum(axis=(0, 1)) / (len(results) * counts.sum())
    return mean_losses


def least_context(losses: Array, ks: Sequence[int], tolerance: float, word: float) -> Array:
    """(...) the least k of `effective_context` for mean losses (..., K)."""
    excess = excess_of(losses, losses.min(axis=-1, keepdims=True), word)
    log, places = np.log(ks), np.arange(len(ks))
    enough = excess <= tolerance
    end = np.where(enough, places, -1).max(axis=-1, keepdims=True)  # beyond it the model fails
    last = np.where(~enough & (places < end), places, -1).max(axis=-1, keepdims=True)  # the last that is too short
    with np.errstate(divide="ignore", invalid="ignore"):  # between equal losses, where nothing is crossed
        share = (excess[..., :-1] - tolerance) / (excess[..., :-1] - excess[..., 1:])
    crossed = np.concatenate([np.full_like(excess[..., :1], log[0]), log[:-1] + share * np.diff(log)], axis=-1)
    least: Array = np.exp(np.take_along_axis(crossed, last + 1, axis=-1)[..., 0])
    return least


def reference_distance(results: Sequence[TextResult]) -> tuple[int, float]:
    """The k of the least loss, and by what share the perplexity after the longest k is above that there."""
    losses = _mean_losses(results)
    return results[0].ks[int(losses.argmin())], float(excess_of(losses[-1], losses.min(), _word(results)))


def excess_curve(results: Sequence[TextResult]) -> dict[int, Interval]:
    """By k: by what share the perplexity is above the least at any k."""
    ks, sums, counts = _stacked(results)
    # each draw against its own best k would make the excess at the best of all one-sided
    best = ks.index(reference_distance(results)[0])
    word = _word(results)
    curve = _intervals(lambda losses: excess_of(losses, losses[..., [best]], word), sums, counts)
    return dict(zip(ks, curve, strict=True))


def carried_excess(results: Sequence[TextResult]) -> Interval | None:
    """By what share the perplexity with carried state is above the least at any k; None where no state was carried."""
    carried = [result.carried.sums for result in results if result.carried is not None]
    if len(carried) < len(results):
        return None
    _, sums, counts = _stacked(results)
    together, word = np.concatenate([sums, np.array(carried)[:, :, None]], axis=2), _word(results)
    (interval,) = _intervals(
        lambda losses: excess_of(losses[..., [-1]], losses[..., :-1].min(axis=-1, keepdims=True), word),
        together,
        counts,
    )
    return interval


def perturbation_excess(results: Sequence[TextResult]) -> dict[str, dict[int, Interval]]:
    """By kind of change and k: by what share the perplexity is above that of the intact window; empty if none was made.

    Losses of the permutations are averaged.
    """
    perturbed = [result.perturbed for result in results if result.perturbed]
    if len(perturbed) < len(results):
        return {}
    ((window, intact),) = perturbed[0]["intact"].items()
    word = _word(results)

    def excess(kind: str, k: str) -> Interval:
        both = [[changes["intact"][window].sums, changes[kind][k].sums] for changes in perturbed]
        sums = np.array([[np.mean(permuted, axis=0) for permuted in pair] for pair in both])
        counts = np.array(intact.counts, dtype=float)
        change = _intervals(
            lambda losses: excess_of(losses[..., [1]], losses[..., [0]], word), sums.swapaxes(1, 2), counts
        )
        return change[0]

    return {kind: {int(k): excess(kind, k) for k in by_k} for kind, by_k in perturbed[0].items() if kind != "intact"}


def mean_metric(results: Sequence[InputsResult]) -> Interval:
    """The mean over seeds of the metric, with its interval over seeds and test groups; NaN limits from one seed."""
    values, left_out = zip(*((result.value, result.left_out) for result in results), strict=True)
    return estimate(np.array(values), np.array(left_out)).interval()


def masked_change(results: Sequence[InputsResult]) -> dict[int, Interval]:
    """By k: how much the metric changes when inputs farther than k are those of another example."""
    masks = [result.masks for result in results if result.masks]
    if len(masks) < len(results):
        return {}
    changes = {}
    for of_seeds in zip(*masks, strict=True):
        values = np.subtract([np.mean(mask.values) for mask in of_seeds], [result.value for result in results])
        left_out = np.subtract([mask.left_out for mask in of_seeds], [result.left_out for result in results])
        changes[of_seeds[0].k] = estimate(values, left_out).interval()
    return changes


def _stacked(results: Sequence[TextResult]) -> tuple[list[int], Array, Array]:
    """The common k, (S, G, K) sums of nats and the (G,) counts that all seeds share."""
    if not results:
        raise ValueError("no results")
    first = results[0]
    if any(other.ks != first.ks or other.counts != first.counts for other in results):
        raise ValueError("results with other distances or other blocks can't be put together")
    return list(first.ks), np.array([result.sums for result in results]), np.array(first.counts, dtype=float)


def _intervals(statistic: Callable[[Array], Array], sums: Array, counts: Array, draws: int = DRAWS) -> list[Interval]:
    """Of each entry of ``statistic``, which maps mean losses (..., K) to (..., M), from sums (S, G, K), counts (G,)."""
    n_seeds, n_blocks, _ = sums.shape
    rng, variances = np.random.default_rng(0), []
    for of_each, targets in ((sums.sum(axis=1), np.full(n_seeds, counts.sum())), (sums.sum(axis=0), n_seeds * counts)):
        n = len(targets)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)  # how often each of n is drawn of n
        values = statistic(drawn @ of_each / (drawn @ targets)[:, None])
        variances.append(np.var(values, axis=0, ddof=1) * n / max(1, n - 1))
    intervals = []
    for value, a, b in zip(statistic(sums.sum(axis=(0, 1)) / (n_seeds * counts.sum())), *variances, strict=True):
        total = a / max(1, n_seeds - 1) + b / max(1, n_blocks - 1)
        alike = total < 1e-24  # in every seed and block: what is left is rounding
        found = Estimate(float(value), 0.0, 0.0, math.inf) if alike else Estimate(float(value), a, b, (a + b) / total)
        intervals.append(found.interval())
    return intervals


# ---- table --------------------------------------------------------------------------------------------------------

R = TypeVar("R", TextResult, InputsResult)


class _Group(NamedTuple, Generic[R]):
    """Results of one model on one task with the same options, seeds together; ``label`` tells groups apart."""

    model: str
    steps: int  # of training
    results: list[R]
    label: str = ""
    dash: Dash = "solid"

    @property
    def first(self) -> R:
        """What does not vary with the seed may be read from it."""
        return self.results[0]

    @property
    def subject(self) -> tuple[str, str]:
        """What is in one table: the task, and what is read of its text."""
        return self.first.task, self.first.symbol if isinstance(self.first, TextResult) else ""

    @property
    def words(self) -> tuple[str, str, str]:
        """What may tell it from others of the same model; inputs of several lengths stand side by side instead."""
        length = f"T {self.first.length}" if self.first.kind == TEXT else ""
        return f"width {self.first.width}", length, f"{self.steps:,} steps"


def _by_task(measured: Iterable[Measured[ContextResult]]) -> list[list[_Group[Any]]]:
    """Of each task, texts first, its groups by model, width, steps and length; characters and words apart."""
    groups: list[_Group[Any]] = []
    for seeds in seeds_together(measured):
        spec, results = seeds[0].spec, [one.result for one in seeds]
        groups.append(_Group(spec.models[0], spec.options["training"]["steps"], results))
    groups.sort(key=lambda it: (it.first.kind != TEXT, it.subject, it.model, it.first.width, it.steps, it.first.length))
    labels = []
    for group in groups:
        alike = [other.words for other in groups if (other.subject, other.model) == (group.subject, group.model)]
        words = [word for word, *others in zip(group.words, *alike, strict=True) if len(set(others)) > 1]
        labels.append(group.model + (f" ({', '.join(words)})" if words else ""))
    dashes = dashes_of({label: group.model for label, group in zip(labels, groups, strict=True)})
    groups = [group._replace(label=label, dash=dashes[label]) for label, group in zip(labels, groups, strict=True)]
    return [list(own) for _, own in groupby(groups, lambda group: group.subject)]


class _Sheet(NamedTuple):
    """Figures of several groups, each by k or T and with its interval: what a table and a panel show."""

    title: str
    curves: list[tuple[_Group[Any], dict[int, Interval]]]
    symbol: str
    x: str  # what the symbol stands for
    y: Axis
    marks: Sequence[Mark] = (Rule(0.0, strong=True),)

    @property
    def places(self) -> list[int]:
        """All k, or T, that some group has a figure at."""
        return sorted({place for _, figures in self.curves for place in figures})

    def rows(self, sign: str = "") -> list[dict[str, str]]:
        """A row for each group; ``sign`` as in Python's formats."""
        return [
            {"model": group.label, "seeds": str(len(group.results))}
            | {f"{self.symbol} = {place}": _with_half(figures.get(place), sign) for place in self.places}
            for group, figures in self.curves
        ]

    def panel(self) -> Panel:
        """Groups side by side so that their intervals can be told apart."""
        places, marks = self.places, list(self.marks)
        step = min((after / before for before, after in pairwise(places)), default=1.0)
        for i, (group, figures) in enumerate(self.curves):
            shift = step ** (0.08 * (i - (len(self.curves) - 1) / 2))
            at, (values, low, high) = [shift * place for place in figures], zip(*figures.values(), strict=True)
            look, label = look_of(group.model), group.label
            marks.append(Line(at, values, look, label=label, dash=group.dash))
            marks.append(Points(at, values, look, low, high, label=label))
        ticks = [(place, str(place)) for place in places] if len(places) >= 3 else None
        return Panel(self.title, marks, Axis(f"{self.symbol}: {self.x}", "log2", ticks=ticks), self.y)


def _input_sheets(groups: Sequence[_Group[InputsResult]]) -> list[_Sheet]:
    """Of one task: the metric by the length of the input, and how it changes when far inputs are swapped."""
    first, longest = groups[0].first, max(group.first.length for group in groups)
    unit = f" ({first.unit})" if first.unit else ""
    by_label = [list(own) for _, own in groupby(groups, lambda group: group.label)]
    references = dict(sorted((group.first.length, group.first.reference_value) for group in groups))
    name = f"{short(first.reference)} (baseline)"
    metrics = _Sheet(
        f"{first.task}: test {first.metric}{unit}, {first.direction} is better",
        [(own[-1], {group.first.length: mean_metric(group.results) for group in own}) for own in by_label],
        "T",
        "length of the input in steps",
        Axis(f"test {first.metric}{unit}"),
        [Line([*references], [*references.values()], Look(GREY), label=name, dash="dashed")],
    )
    changes = _Sheet(
        f"{first.task}, T = {longest}: change of {first.metric} when what lies beyond k is another example's",
        [(own[-1], change) for own in by_label if (change := masked_change(own[-1].results))],
        "k",
        {"end": "the last steps", "centre": "the steps on each side of the centre"}[first.anchor] + " left as they are",
        Axis(f"change of {first.metric}{unit}"),
    )
    return [metrics, changes] if changes.curves else [metrics]


def _text_tables(groups: Sequence[_Group[TextResult]]) -> Iterator[str]:
    """Of one task: effective contexts with sentences, and what far text that is changed costs."""
    first, rows = groups[0].first, []
    spaced = first.chars_per_word is not None
    figure = first.metric if first.symbol == "word" else first.unit or first.metric
    for group in groups:
        contexts = {tolerance: effective_context(group.results, tolerance) for tolerance in TOLERANCES}
        words = _scaled(contexts[0.01], 1 / (first.chars_per_word or math.nan))
        ngrams = group.first.ngrams
        carried = carried_excess(group.results)
        rows.append(
            {
                "model": group.label,
                "seeds": str(len(group.results)),
                f"test {figure}": f"{mean(result.test for result in group.results):.3f}",
                **({} if ngrams is None else {"n-grams": f"{ngrams:.3f}"}),
                **{f"k* at {tolerance:.1%}": interval_text(figure) for tolerance, figure in contexts.items()},
                **({} if first.symbol == "word" else {"words at 1.0%": interval_text(words) if spaced else NONE}),
                "longest": str(group.first.ks[-1]),
                "carried": or_dash(carried and carried.value, "+z.2%"),
            }
        )
    lengths = ", ".join(map(str, sorted({group.first.length for group in groups})))
    title = (
        f"{first.task}: effective context in {first.symbols} (with its 95% interval over seeds and text), models "
        f"trained on {lengths} {first.symbols} at a time"
    )
    yield _table(title, rows, _text_notes(groups))
    changed = [
        {"model": group.label, "beyond k": str(k), **{kind: _percent(by_k[k]) for kind, by_k in changes.items()}}
        for group in groups
        if (changes := perturbation_excess(group.results))
        for k in changes["drop"]
    ]
    if changed:
        window = ", ".join(sorted({k for group in groups for k in (group.first.perturbed or {}).get("intact", {})}))
        title = (
            f"{first.task}: excess perplexity a {_unit_word(first)} with what lies beyond k {first.symbols} changed, "
            f"in a window of {window}"
        )
        yield _table(title, changed)


def _text_notes(groups: Sequence[_Group[TextResult]]) -> Iterator[str]:
    """How to read the table, and what to know before one trusts the figures of some models."""
    first = groups[0].first
    yield (
        f"k* is the least number of {first.symbols}, read from zero state, after which the perplexity a "
        f"{_unit_word(first)} stays within 0.5%, 1% or 2% of the least at any number; longest is the largest number "
        "that was tried."
    )
    yield f"{sum(first.counts):,} {first.symbols} of the test text are scored, in {first.blocks} blocks."
    if first.chars_per_word is not None:
        yield f"A word has {first.chars_per_word:.2f} characters here, its space included."
    yield (
        "carried is the perplexity with a state carried over the text so far, against that least one; a state that "
        "grows with the text is not carried."
    )
    yield from _doubts(groups)
    for group in groups:
        best, excess = reference_distance(group.results)
        if excess > min(TOLERANCES):
            beyond = f"{best} {first.symbols}, by {excess:.1%} at {group.first.ks[-1]}"
            yield f"{group.label} gets worse beyond {beyond}: its reference is the loss at {best}."


def _unit_word(first: TextResult) -> str:
    """What perplexity is told of."""
    return first.symbol if first.chars_per_word is None else "word"


def _doubts(groups: Sequence[_Group[TextResult]]) -> Iterator[str]:
    """What sets some models apart from others in the same table or picture."""
    noun = groups[0].first.symbols if groups else ""
    for sentence, doubtful in {
        f"read at most the {noun} of a training window here: their state grows with the text.": [
            group.label for group in groups if group.first.limit is not None
        ],
        f"read more {noun} here than in any training window.": [
            group.label for group in groups if group.first.limit is None and group.first.ks[-1] > group.first.length
        ],
        "measured with one seed: intervals are over the text alone.": [
            group.label for group in groups if len(group.results) < 2
        ],
        "no better than an n-gram model, which reads a few steps: how far back they read says little.": [
            group.label for group in groups if is_too_weak(group.results)
        ],
    }.items():
        if doubtful:
            yield f"{listed([*dict.fromkeys(doubtful)])} {sentence}"


def _inputs_tables(groups: Sequence[_Group[InputsResult]]) -> Iterator[str]:
    """Of one task: the metric by length, and how it changes when far inputs are swapped."""
    metrics, *changes = _input_sheets(groups)
    references = {f"T = {group.first.length}": rounded(group.first.reference_value, 4) for group in groups}
    rows = [*metrics.rows(), {"model": groups[0].first.reference, "seeds": NONE, **references}]
    common = all(result.common for group in groups for result in group.results)
    note = (
        f"Trained and tested at each length, {'on the same' if common else 'each on its own'} test examples; "
        "± is half the 95% interval over seeds and test groups."
    )
    yield _table(f"{metrics.title} (T: {metrics.x})", rows, [note])
    for sheet in changes:
        yield _table(f"{sheet.title} (k: {sheet.x})", sheet.rows("+"))


def _table(title: str, rows: Sequence[Mapping[str, str]], notes: Iterable[str] = ()) -> str:
    return "\n\n".join(part for part in (title, aligned_table(rows), "\n".join(notes)) if part)


def _scaled(figure: Interval, factor: float) -> Interval:
    return Interval(*(factor * end for end in figure))


def _percent(figure: Interval) -> str:
    """``+1.2% (+0.9% to +1.5%)``."""
    return "{:+z.1%} ({:+z.1%} to {:+z.1%})".format(*figure)


def _with_half(figure: Interval | None, sign: str) -> str:
    """The value, and half its interval where there is one."""
    if figure is None:
        return NONE
    half = (figure.high - figure.low) / 2
    return format(figure.value, f"{sign}.4g") + ("" if math.isnan(half) else f" ± {rounded(half, 2)}")


# ---- chart --------------------------------------------------------------------------------------------------------

LEAST, MOST = 1e-3, 1e2  # excess perplexity that is drawn


def _text_panels(groups: Sequence[_Group[TextResult]]) -> Iterator[Panel]:
    """Of one task: excess perplexity by k, effective contexts, and a panel for each kind of change to far text."""
    yield _excess_panel(groups)
    yield _contexts_panel(groups)
    changes = [(group, perturbation_excess(group.results)) for group in groups]
    ends = [100 * end for _, kinds in changes for by_k in kinds.values() for figure in by_k.values() for end in figure]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.06 * (high - low) or 1.0
    axis = Axis(f"excess perplexity a {_unit_word(groups[0].first)} (%)", limits=(low - room, high + room))
    for kind, words in KINDS.items():
        own = [(group, kinds[kind]) for group, kinds in changes if kind in kinds]
        curves = [(group, {k: _scaled(figure, 100) for k, figure in by_k.items()}) for group, by_k in own]
        if curves:
            title = f"{groups[0].first.task}: what lies beyond k {words}"
            yield _Sheet(title, curves, "k", f"{groups[0].first.symbols} left as they are", axis).panel()


def _excess_panel(groups: Sequence[_Group[TextResult]]) -> Panel:
    """Excess perplexity by k, with bands."""
    longest, lengths = max(group.first.ks[-1] for group in groups), {group.first.length for group in groups}
    marks: list[Mark] = [Rule(tolerance, f"{tolerance:.1%}") for tolerance in TOLERANCES]
    marks += [Rule(length, f"T = {length}", "x", strong=True) for length in sorted(lengths)]
    for group in groups:
        curve = {k: excess for k, excess in excess_curve(group.results).items() if excess.value >= LEAST}
        if curve:
            values, low, high = zip(*curve.values(), strict=True)
            look = look_of(group.model)
            marks.append(Line([*curve], values, look, low, high, group.label, group.dash, marked=True))
    first = groups[0].first
    return Panel(
        f"{first.task}: perplexity a {_unit_word(first)} after k {first.symbols}, over the least",
        marks,
        Axis(f"k: {first.symbols} read before the one that is scored", "log2", (0.9, 1.1 * longest)),
        Axis(
            "excess perplexity",
            "log10",
            (LEAST, MOST),
            [(share, f"{100 * share:g}%") for share in (0.001, 0.01, 0.1, 1, 10)],
        ),
        weight=1.4,
    )


def _contexts_panel(groups: Sequence[_Group[TextResult]]) -> Panel:
    """Effective contexts: k* at 1% large; at 2% and 0.5% small, above and below it."""
    marks, rows = [], []
    for i, group in enumerate(groups):
        look = look_of(group.model)
        for tolerance, shift in zip(TOLERANCES, (0.24, 0.0, -0.24), strict=True):
            value, low, high = effective_context(group.results, tolerance)
            marks.append(Points([value], [i + shift], look, [low], [high], "x", small=shift != 0))
            rows += [] if shift else [f"{group.label}: {rounded(value)}"]
    first = groups[0].first
    words = "" if first.chars_per_word is None else f" (a word has {first.chars_per_word:.2f})"
    axis = Axis(f"k*: effective context in {first.symbols}{words}", "log2")
    return Panel(f"{first.task}: effective context with 95% intervals", marks, axis, rows=rows)


def _notes(groups: Sequence[_Group[Any]]) -> Iterator[str]:
    """How to read the chart."""
    texts = [group for group in groups if group.first.kind == TEXT]
    if texts:
        yield (
            "Excess is over the least perplexity at any k, each k read from zero state; bands and intervals: 95% over "
            f"seeds and blocks of text. Below {LEAST:.1%} nothing is drawn. Effective context: the large mark is k* at "
            "1%, which stands beside the name; the small ones are k* at 2% (above) and at 0.5% (below)."
        )
    yield from _doubts(texts)
    if any(group.first.perturbed for group in texts):
        yield (
            "Dropping takes what is beyond k away; a swap puts another passage of the text there, shuffles keep its "
            "words or letters: what a shuffle costs beyond a swap is the shock of strange text, not information."
        )
    if len(texts) < len(groups):
        yield "Each length is trained for anew; intervals: 95% over seeds and test groups, if there are several seeds."
    for why in sorted({group.first.masks_why for group in groups if group.first.kind != TEXT} - {None}):
        yield f"No far inputs are swapped: {why}."

"""`probe cost`: what a layer costs. Parameters, FLOPs and state by counting; seconds and bytes by measuring.

One measurement times all chosen models side by side in one process, as ratios count only within one backend, device,
type of number and thread count. `kernel` is a model's forward by torch's own layers, `fast` by this package's kernels
where it has them (`seqbench.models.kernels`), `loop` its step form in a Python loop; they are never compared. Timed
are forward alone (no gradients, evaluation mode) and a training step without its optimiser (gradients cleared, forward,
backward to the embedded inputs), on (B, T, width) inputs that are already embedded, with a readout of the last step
(`shared.timing`).

At equal parameters every model has the width at which its layer has nearest to as many parameters as the reference's at
``hidden``. Times are fitted by t = a + s T + w B T + q B T^2 (`shared.fits`); ratios to the reference are geometric
means over shapes, one per repeat, with Student's interval over repeats. A `standard` run also times layers of width 8,
whose work is next to nothing: a floor under the serial time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from tabulate import tabulate

from seqbench.errors import UserError
from seqbench.jobs.job import Listener
from seqbench.options import MODEL, Count, Parameter, Range, Width, check_options
from seqbench.probes import Measured, Probe, ProbeSpec, Request, register_probe
from seqbench.probes.shared import fits
from seqbench.probes.shared.fits import (
    LENGTHS,
    LayerCounts,
    StepSeconds,
    TimeFit,
    geometric,
    lengths_to,
    machine_text,
    walls,
)
from seqbench.report.chart import Axis, Chart, Line, Panel, Points, Rule, look_of
from seqbench.report.text import NONE, interval_text, or_dash, rounded
from seqbench.stats import Interval

if TYPE_CHECKING:
    from seqbench.probes.shared.timing import Readings, Steps, Timed

__all__ = ["CostOptions", "CostProbe", "CostResult", "CudaCostResult", "Kind"]

Kind = Literal["forward", "train"]
T = TypeVar("T")
ByModel = Mapping[str, Mapping[Kind, T]]
KINDS: tuple[Kind, Kind] = ("forward", "train")
LOOP_LONGEST = 256  # steps of a loop in Python
COUNTED_LONGEST = 256  # steps at which FLOPs and state are counted
FLOOR_WIDTH = 8  # of the serial floor
TEXTBOOK = 4.0  # an LSTM's weights over a plain RNN's, and by many a text its cost
TRACKS = {"width": "equal width", "params": "equal parameters"}


@dataclass(frozen=True)
class CostOptions:
    """Options of `probe cost`; None stands for what the budget says."""

    backend: Literal["kernel", "fast", "loop"] | None = None
    """torch's own layers, this package's kernels, or the step form in a Python loop; by default all."""
    track: Literal["width", "params"] | None = None
    """Compare at equal width or at equal parameters; by default both (fast and loop at equal width only)."""
    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width, at equal parameters the reference's; by default 128 (smoke: 32)."""
    longest: Annotated[int | None, Parameter(metavar="T")] = None
    """Steps of the longest sequences; by default 64, 2048 or 4096, by budget; the loop stops at 256."""
    tokens: Annotated[Count, Range(ge=1, le=10**9)] = None
    """Most tokens of a batch, batch size times length; by default 512, 32,768 or 262,144, by budget."""
    repeats: Annotated[int | None, Range(ge=2, le=100), Parameter(metavar="R")] = None
    """How often everything is timed, in a new order: 3, 7 or 10 times by budget; one alone would have no interval."""
    reference: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Model that the others are divided by; by default the recurrent one with the fewest parameters at equal width."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the machine later."""
        check_options(self)


@dataclass(frozen=True)
class WidthTimes:
    """Seconds of a step at one width, one per repeat, and ``params`` as in `LayerCounts`."""

    forward: Sequence[float]
    train: Sequence[float]
    params: int


@dataclass(frozen=True)
class TimeRatios:
    """A model's time over the reference's: geometric means over all shapes, and ``by_shape`` in the order of these."""

    forward: Interval
    train: Interval
    by_shape: Mapping[Kind, Sequence[Interval]]


@dataclass(frozen=True)
class CostResult:
    """What one measurement gives.

    Attributes:
        backend, track, reference, repeats: as asked.
        shapes: batch and length.
        counted_at: steps at which FLOPs and state are counted.
        models: what is counted, by model.
        seconds: of a step, by model and kind; for each shape one per repeat.
        widths: by width and model, at ``width_shape``.
        fit: by model and kind; None where the shapes can't tell the terms apart.
        ratios: to the reference, by model.
        peak_bytes: of a training step at each shape, beyond weights and inputs; None where it was not measured.
        dtype: type of number.
    """

    backend: str
    track: str
    reference: str
    shapes: Sequence[tuple[int, int]]
    repeats: int
    counted_at: int
    models: Mapping[str, LayerCounts]
    seconds: ByModel[Sequence[Sequence[float]]]
    widths: Mapping[str, Mapping[str, WidthTimes]]
    width_shape: tuple[int, int] | None
    fit: ByModel[TimeFit | None]
    ratios: Mapping[str, TimeRatios]
    peak_bytes: Mapping[str, Sequence[int | None]]
    dtype: str


@dataclass(frozen=True)
class CudaCostResult(CostResult):
    """On CUDA also ``event_seconds``: by model and kind the median, for each shape, of the device's own clock."""

    event_seconds: ByModel[Sequence[float]]


class CostBudget(NamedTuple):
    """What is timed where the user does not say."""

    hidden: int
    longest: int
    tokens: int
    repeats: int
    batches: tuple[int, ...]
    widths: tuple[int, ...]
    width_shape: tuple[int, int]


BATCHES, WIDTHS = (1, 4, 16, 64, 256), (32, 64, 128, 256, 512)
COST_BUDGETS = {
    "smoke": CostBudget(32, 64, 512, 3, (1, 4, 16), (16, 32), (4, 32)),
    "quick": CostBudget(128, 2048, 32_768, 7, BATCHES, WIDTHS, (16, 128)),
    "standard": CostBudget(128, 4096, 262_144, 10, (*BATCHES, 1024), (*WIDTHS, 1024), (64, 256)),
}


@register_probe("cost")
class CostProbe(Probe[CostResult]):
    """What a layer costs: parameters, FLOPs, state, time and memory, side by side."""

    timed = True
    Options = CostOptions
    Result = CudaCostResult | CostResult  # told apart by their keys

    def plan(self, request: Request, options: CostOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """One measurement for each backend and track, all models in it; and one for each model that has no loop."""
        from seqbench.models.mixer import MODELS
        from seqbench.probes.shared.timing import can_have, check_lengths, check_nets, loops

        usual = COST_BUDGETS[request.budget]
        hidden = options.hidden or usual.hidden
        longest = usual.longest if options.longest is None else options.longest
        tokens = options.tokens or max(usual.tokens, longest)
        check_lengths(longest, tokens)
        preferred = options.reference and MODELS.entry(options.reference).name
        chosen = [*models, preferred] if preferred and preferred not in models else list(models)
        check_nets(chosen, hidden, _full_batch(grid(usual.batches, longest, tokens)), longest, device)
        specs = []
        for backend, track, width in _wanted(options, request.budget, hidden):
            loop = backend == "loop"
            together = [name for name in chosen if can_have(name, width) and not (loop and not loops(name))]
            alone = [[name] for name in models if loop and not loops(name)]  # the record says that it has no loop
            for group in filter(None, [together, *alone]):
                reference, widths = _compared(track, group, width, preferred)
                resolved = {
                    "backend": backend,
                    "track": track,
                    "hidden": width,
                    "shapes": grid(usual.batches, min(longest, LOOP_LONGEST) if loop else longest, tokens),
                    "repeats": options.repeats or usual.repeats,
                    "widths": list(usual.widths) if (backend, track, width) == ("kernel", "width", hidden) else [],
                    "width_shape": list(usual.width_shape),
                    "reference": reference,
                    "model_widths": widths,
                }
                where = request.seed, request.budget, device, request.threads
                specs.append(ProbeSpec(self.name, tuple(group), *where, resolved))
        return specs

    def measure(self, spec: ProbeSpec, listener: Listener) -> CostResult:
        """Time all models of ``spec``."""
        import torch

        from seqbench.probes.shared.timing import Timed, can_have, side_by_side

        asked, device = spec.options, torch.device(spec.device)
        shapes = [(batch, length) for batch, length in asked["shapes"]]
        batch, length = asked["width_shape"]
        nets = {name: Timed(name, asked["model_widths"][name], asked["backend"], device) for name in spec.models}
        by_width = {
            width: {name: Timed(name, width, "kernel", device) for name in spec.models if can_have(name, width)}
            for width in asked["widths"]
        }
        places = [(nets, shape) for shape in shapes] + [(those, (batch, length)) for those in by_width.values()]
        readings = side_by_side(places, _steps, asked["repeats"], spec.seed, device, listener)
        at_shapes, at_widths = readings[: len(shapes)], readings[len(shapes) :]
        seconds = _by_model(at_shapes, walls)
        widths = {
            str(width): {
                name: WidthTimes(**{kind: walls(reading[name][kind]) for kind in KINDS}, params=net.params)
                for name, net in those.items()
            }
            for (width, those), reading in zip(by_width.items(), at_widths, strict=True)
        }
        counted_at = min(COUNTED_LONGEST, max(length for _, length in shapes))
        profiled = {shape for shape in shapes if device.type == "cuda" or shape[0] == _full_batch(shapes)}
        result = CostResult(
            **{name: asked[name] for name in ("backend", "track", "reference", "repeats")},
            shapes=shapes,
            counted_at=counted_at,
            models={name: net.counts(counted_at) for name, net in nets.items()},
            seconds=seconds,
            widths=widths,
            width_shape=(batch, length) if widths else None,
            fit={
                name: {kind: fits.fit_times(shapes, times, spec.seed) for kind, times in kinds.items()}
                for name, kinds in seconds.items()
            },
            ratios=_ratios(seconds, asked["reference"]),
            peak_bytes={
                # on a CPU, where the profiler takes about 1 ms per step, at one batch only
                name: [net.peak_bytes(*shape) if shape in profiled else None for shape in shapes]
                for name, net in nets.items()
            },
            dtype="float32",
        )
        if device.type != "cuda":
            return result
        return CudaCostResult(**vars(result), event_seconds=_by_model(at_shapes, fits.events))

    def headline(self, result: CostResult) -> str:
        """Training time as a multiple of the reference's."""
        ratios = [f"{name} {ratio.train.value:.2f}x" for name, ratio in result.ratios.items()]
        if not ratios:
            return "nothing to compare with"
        return f"training time over {result.reference}'s: {', '.join(ratios)}"

    def table(self, measured: Sequence[Measured[CostResult]]) -> str:
        """Counts, ratios and fits."""
        return "\n\n".join(map(_table, measured))

    def chart(self, measured: Sequence[Measured[CostResult]]) -> Chart:
        """For each measurement a column: time against length, ratios, memory against length."""
        columns = [[_times_panel(one), _ratios_panel(one.result), _memory_panel(one.result)] for one in measured]
        notes = [
            "A training step without its optimiser: gradients cleared, forward, backward. Time against length: medians "
            "over repeats, bands from the least to the greatest.",
            "Ratios: geometric means of times over all shapes with 95% intervals over repeats; filled: training step, "
            "hollow: forward alone.",
            "Times belong to one backend, device, type of number and thread count; kernel and loop are not to be "
            "compared.",
        ]
        return Chart("What a layer costs", columns, notes=notes, aligned=True)


# ---- what is planned ----------------------------------------------------------------------------------------------


def grid(batches: Sequence[int], longest: int, tokens: int) -> list[list[int]]:
    """All [B, T] of at most so many tokens."""
    return [[batch, length] for batch in batches for length in lengths_to(longest) if batch * length <= tokens]


def _full_batch(shapes: Sequence[Sequence[int]]) -> int:
    """The largest batch that has every length."""
    lengths = {length for _, length in shapes}
    return max(batch for batch, _ in shapes if {t for b, t in shapes if b == batch} == lengths)


def _wanted(options: CostOptions, budget: str, hidden: int) -> list[tuple[str, str, int]]:
    """Backend, track and width of each measurement; all but torch's at equal parameters only if asked for."""
    backends = [options.backend] if options.backend else ["kernel", "fast", "loop"]
    tracks = [options.track] if options.track else ["width", "params"]
    pairs = list(itertools.product(backends, tracks))
    wanted = [(*pair, hidden) for pair in pairs if pair[0] == "kernel" or pair[1] == "width" or len(pairs) == 1]
    if budget == "standard" and options.hidden is None and ("kernel", "width", hidden) in wanted:
        wanted.append(("kernel", "width", FLOOR_WIDTH))
    return wanted


def _compared(track: str, models: Sequence[str], hidden: int, preferred: str | None) -> tuple[str, dict[str, int]]:
    """The reference, which is ``preferred`` or the plainest recurrent one of ``models``; and every model's width.

    Raises:
        UserError: a model can't have as few parameters as the reference.
    """
    from seqbench.probes.shared.timing import loops, mixer_parameters, width_of

    recurrent = [name for name in models if loops(name)] or models
    plainest = min(recurrent, key=lambda name: (mixer_parameters(name, hidden), len(name), name))  # rnn, not mingru
    reference = preferred if preferred is not None and preferred in models else plainest
    if track == "width":
        return reference, dict.fromkeys(models, hidden)
    params = mixer_parameters(reference, hidden)
    try:
        return reference, {name: width_of(params, name) for name in models}
    except UserError:
        raise UserError(
            f"--hidden {hidden}: {reference} then has {params:,} parameters, and some model can't have so few: take a "
            f"greater --hidden, or --track width."
        ) from None


# ---- what is measured ---------------------------------------------------------------------------------------------


def _steps(place: tuple[Mapping[str, Timed], tuple[int, int]]) -> Steps:
    nets, shape = place
    return {name: net.steps(*shape) for name, net in nets.items()}


def _by_model(readings: Sequence[Readings], figure: Callable[[list[StepSeconds]], T]) -> ByModel[list[T]]:
    """``figure`` of the readings at every shape, by model and kind."""
    models = readings[0]
    return {name: {kind: [figure(reading[name][kind]) for reading in readings] for kind in KINDS} for name in models}


def _ratios(seconds: ByModel[list[list[float]]], reference: str) -> dict[str, TimeRatios]:
    """Of each model but the reference: time over the reference's, paired by repeat and shape."""
    ratios = {}
    for name in (name for name in seconds if name != reference):
        pairs = {kind: np.array(seconds[name][kind]) / np.array(seconds[reference][kind]) for kind in KINDS}  # (S, R)
        forward, train = (fits.as_recorded(geometric(pairs[kind])) for kind in KINDS)
        by_shape = {kind: [fits.as_recorded(geometric(ratio)) for ratio in pairs[kind]] for kind in KINDS}
        ratios[name] = TimeRatios(forward, train, by_shape)
    return ratios


# ---- the table ----------------------------------------------------------------------------------------------------


def _table(one: Measured[CostResult]) -> str:
    result = one.result
    rows = [_row(name, result) for name in sorted(result.models, key=lambda name: _ratio(name, result))]
    lines = [
        f"Cost: {_title(one)}, {result.repeats} repeats",
        tabulate(rows, headers="keys", tablefmt="github"),
        f"Times are ratios: geometric means over {len(result.shapes)} shapes, with 95% intervals over repeats. FLOPs "
        f"(forward, per token) and state (floats) at {result.counted_at} steps.",
    ]
    if result.width_shape is not None:
        batch, length = result.width_shape
        medians = {
            width: {name: rounded(1e3 * float(np.median(times.train))) for name, times in of.items()}
            for width, of in result.widths.items()
        }
        cells = [
            {"model": name, **{width: medians[width].get(name, NONE) for width in medians}} for name in result.models
        ]
        lines += [
            "",
            f"Training step by width, ms (batch {batch}, length {length}):",
            tabulate(cells, headers="keys", tablefmt="github"),
        ]
    fitted = [
        {"model": name, "step": kind} | fits.fit_cells(fit, ("a", "s", "w", "q"))
        for name, kinds in result.fit.items()
        for kind, fit in kinds.items()
        if fit is not None
    ]
    if fitted:
        lines += ["", tabulate(fitted, headers="keys", tablefmt="github"), _reading(result)]
    return "\n".join(lines)


def _title(one: Measured[CostResult]) -> str:
    result = one.result
    return f"{result.backend} at {TRACKS[result.track]}, reference {result.reference} of {machine_text(one.spec)}"


def _row(name: str, result: CostResult) -> dict[str, str]:
    counts, base = result.models[name], result.models[result.reference]
    ratio = result.ratios.get(name)
    return {
        "model": name + ("" if ratio else " (reference)"),
        "width": str(counts.width),
        "parameters": f"{counts.params_mixer:,} ({counts.params_mixer / max(1, base.params_mixer):.2f}x)",
        "FLOPs": or_dash(counts.flops_per_token, ",.0f"),
        "state": f"{counts.state_size:,}",
        "forward time": interval_text(ratio.forward) if ratio else "1",
        "training time": interval_text(ratio.train) if ratio else "1",
    }


def _ratio(name: str, result: CostResult) -> float:
    return result.ratios[name].train.value if name in result.ratios else 1.0


def _reading(result: CostResult) -> str:
    """What the fits say of the serial part."""
    serial, free, unsure = "a serial part in training", "none to be seen", "can't be told (held-out residual above 15%)"
    names: dict[str, list[str]] = {serial: [], free: [], unsure: []}
    for name, kinds in result.fit.items():
        fit = kinds["train"]
        names[unsure if fit is None or not fit.trusted else serial if fit.s[1] else free].append(name)
    said = "; ".join(f"{verdict}: {', '.join(those)}" for verdict, those in names.items() if those)
    return f"t = a + s T + w B T + q B T^2; {said}."


# ---- the chart ----------------------------------------------------------------------------------------------------


def _at_full_batch(result: CostResult) -> tuple[int, list[tuple[int, int]]]:
    """The largest batch that has every length; lengths with the places of their shapes, ascending."""
    batch = _full_batch(result.shapes)
    return batch, sorted((length, i) for i, (b, length) in enumerate(result.shapes) if b == batch)


def _times_panel(one: Measured[CostResult]) -> Panel:
    batch, places = _at_full_batch(one.result)
    lengths = [length for length, _ in places]
    marks = [
        fits.band(lengths, [1e3 * np.array(kinds["train"][i]) for _, i in places], look_of(name), name)
        for name, kinds in one.result.seconds.items()
    ]
    return Panel(_title(one), marks, LENGTHS, Axis(f"ms per training step, batch {batch}", "log10"))


def _ratios_panel(result: CostResult) -> Panel:
    names = sorted(result.ratios, key=lambda name: _ratio(name, result))
    points = []
    for i, name in enumerate(names):
        for (value, low, high), shift in ((result.ratios[name].train, -0.2), (result.ratios[name].forward, 0.2)):
            points.append(Points([value], [i + shift], look_of(name), [low], [high], "x", hollow=shift > 0))
    base = result.models[result.reference]
    for label, marker, what in (("parameters", "|", "params_mixer"), ("FLOPs", "x", "flops_per_token")):
        counts = [(getattr(result.models[name], what), i) for i, name in enumerate(names)]
        known = [(count / getattr(base, what), i) for count, i in counts if count and getattr(base, what)]
        if known:
            ratios, rows = zip(*known, strict=True)
            points.append(Points(ratios, rows, label=f"{label}, over the reference's", marker=marker))
    most = max([TEXTBOOK, *(end for mark in points for end in mark.high or mark.x)])
    return Panel(
        "Ratios to the reference",
        [Rule(1.0, axis="x", strong=True), Rule(TEXTBOOK, f"textbook: {TEXTBOOK:g}x", axis="x"), *points],
        Axis(f"times {result.reference}'s", limits=(0.0, 1.1 * most)),
        rows=names,
        weight=1.6,
        note="" if names else "nothing to compare with",
    )


def _memory_panel(result: CostResult) -> Panel:
    batch, places = _at_full_batch(result)
    marks = []
    for name, sizes in result.peak_bytes.items():
        known = {length: size / 2**20 for length, i in places if (size := sizes[i])}
        if known:
            marks.append(Line(list(known), list(known.values()), look_of(name), label=name, marked=True))
    return Panel(
        "Memory of a training step beyond weights and inputs",
        marks,
        LENGTHS,
        Axis(f"peak MiB, batch {batch}", "log10"),
        note="" if marks else "the device does not tell",
    )

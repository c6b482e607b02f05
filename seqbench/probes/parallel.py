"""`probe parallel`: what recurrence leaves of a machine, as tokens per second at a constant number of tokens per batch.

The length T grows and the batch B = N / T shrinks, so the work of a recurrent layer stays the same and only its
dependence on order grows: T steps one after the other, each on B rows. A layer without that limit keeps its speed,
until the square of the length weighs. All models are timed side by side in one process, a training step without its
optimiser, on embedded inputs (`shared.timing`); so is one matrix product in every repeat, whose rate is the machine's
peak. With two numbers of tokens or more, t = a + s T + w B T + q B T^2 (`shared.fits`) tells the serial time s from the
square q.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import numpy as np
from tabulate import tabulate

from seqbench.jobs.job import Listener
from seqbench.options import COMMAS, MODEL, Parameter, Range, Width, check_options
from seqbench.probes import Measured, Probe, ProbeSpec, Request, register_probe
from seqbench.probes.shared import fits
from seqbench.probes.shared.fits import LENGTHS, LayerCounts, TimeFit, machine_text, open_interval, significant, walls
from seqbench.report.chart import Axis, Chart, Dash, Line, Panel, Rule, look_of
from seqbench.report.text import interval_text, or_dash, rounded
from seqbench.stats import Interval

if TYPE_CHECKING:
    import torch

    from seqbench.probes.shared.timing import Step, Steps

__all__ = ["CudaParallelResult", "Parallel", "ParallelOptions", "ParallelResult"]

BACKWARD_AND_FORWARD = 3  # a backward pass costs two forward passes
FALL = 0.8  # of the speed: the rule for "falls by a fifth at least"


@dataclass(frozen=True)
class ParallelOptions:
    """Options of `probe parallel`; None stands for what the budget says."""

    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width; by default 128 (smoke: 32)."""
    tokens: Annotated[tuple[Annotated[int, Range(ge=1, le=10**9)], ...] | None, COMMAS] = None
    """Tokens of a batch, which stay the same while the length grows, two or more with commas, so that serial time and
    the square of the length can be told apart; by default 256,512 or 2048,8192 or 32768,131072, by budget."""
    longest: Annotated[int | None, Parameter(metavar="T")] = None
    """Steps of the longest sequences; by default 128, 1024 or 4096, by budget."""
    repeats: Annotated[int | None, Range(ge=2, le=100), Parameter(metavar="R")] = None
    """How often everything is timed, in a new order: 3, 11 or 11 times by budget; one alone would have no interval."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the machine later."""
        check_options(self)


@dataclass(frozen=True)
class ParallelResult:
    """What one measurement gives. Numbers of tokens N per batch are keys, as text.

    Attributes:
        tokens: the numbers of tokens per batch.
        lengths: of the sequences, ascending.
        shapes: batch and length, by tokens, then by lengths; the batch is N / T rounded down.
        models: what is counted, by model.
        counted_at: steps at which FLOPs and state are counted.
        peak_size: rows of the square matrices that were multiplied.
        peak_flops: FLOPs per second of that product: median, least and greatest over repeats.
        seconds: of a training step, by model and N; for each length one per repeat.
        tokens_per_second: by model and N, medians for each length.
        change: of these from the shortest to the longest, by model and N: geometric mean of ratios within repeats.
        fit: by model over all N; None with one N.
        share: of the peak, by model and N, for each length; None where FLOPs can't be counted.
        repeats: as asked.
        dtype: type of number.
    """

    tokens: Sequence[int]
    lengths: Sequence[int]
    shapes: Sequence[tuple[int, int]]
    models: Mapping[str, LayerCounts]
    counted_at: int
    peak_size: int
    peak_flops: Interval
    seconds: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
    tokens_per_second: Mapping[str, Mapping[str, Sequence[float]]]
    change: Mapping[str, Mapping[str, Interval]]
    fit: Mapping[str, TimeFit | None]
    share: Mapping[str, Mapping[str, Sequence[float | None]]]
    repeats: int
    dtype: str


@dataclass(frozen=True)
class CudaParallelResult(ParallelResult):
    """On CUDA also ``event_seconds``: by model the median, for each shape, of the device's own clock."""

    event_seconds: Mapping[str, Sequence[float]]


class ParallelBudget(NamedTuple):
    """What is timed where the user does not say; ``product``: rows and columns of the matrices."""

    hidden: int
    tokens: tuple[int, ...]
    longest: int
    repeats: int
    product: int


PARALLEL_BUDGETS = {
    "smoke": ParallelBudget(32, (256, 512), 128, 3, 256),
    "quick": ParallelBudget(128, (2_048, 8_192), 1_024, 11, 1_024),
    "standard": ParallelBudget(128, (32_768, 131_072), 4_096, 11, 8_192),
}


@register_probe("parallel")
class Parallel(Probe[ParallelResult]):
    """What recurrence leaves of a machine: speed at a constant number of tokens per batch, as sequences grow."""

    timed = True
    Options = ParallelOptions
    Result = CudaParallelResult | ParallelResult  # told apart by their keys

    def plan(self, request: Request, options: ParallelOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """One measurement, with all models in it."""
        from seqbench.probes.shared.timing import check_lengths, check_nets

        usual = PARALLEL_BUDGETS[request.budget]
        hidden = options.hidden or usual.hidden
        tokens = sorted(set(usual.tokens if options.tokens is None else options.tokens))
        longest = min(usual.longest, tokens[0]) if options.longest is None else options.longest
        check_lengths(longest, tokens[0])
        check_nets(models, hidden, tokens[-1] // longest, longest, device)
        resolved = {
            "hidden": hidden,
            "tokens": tokens,
            "lengths": fits.lengths_to(longest),
            "repeats": options.repeats or usual.repeats,
            "product": usual.product if device != "cpu" else min(usual.product, PARALLEL_BUDGETS["quick"].product),
        }
        return [ProbeSpec(self.name, tuple(models), request.seed, request.budget, device, request.threads, resolved)]

    def measure(self, spec: ProbeSpec, listener: Listener) -> ParallelResult:
        """Time all models and the matrix product."""
        import torch

        from seqbench.probes.shared.timing import Timed, side_by_side

        asked, device = spec.options, torch.device(spec.device)
        tokens, lengths, size = asked["tokens"], asked["lengths"], asked["product"]
        nets = {name: Timed(name, asked["hidden"], "kernel", device) for name in spec.models}
        shapes = [(n // length, length) for n in tokens for length in lengths]
        product = {"": {"product": _product(size, device)}}

        def steps(shape: tuple[int, int] | None) -> Steps:
            return product if shape is None else {n: {"train": net.steps(*shape)["train"]} for n, net in nets.items()}

        *readings, products = side_by_side([*shapes, None], steps, asked["repeats"], spec.seed, device, listener)
        peaks = 2 * size**3 / np.array(walls(products[""]["product"]))  # (R,) FLOPs per second
        seconds = {name: [walls(reading[name]["train"]) for reading in readings] for name in nets}
        sizes = np.array([batch * length for batch, length in shapes])[:, None]
        speeds = {name: sizes / np.array(times) for name, times in seconds.items()}  # (S, R) tokens per second

        def by_tokens(values: Sequence[Any]) -> dict[str, Any]:
            """Those of all shapes, parted by their numbers of tokens."""
            return {str(n): list(values[i * len(lengths) : (i + 1) * len(lengths)]) for i, n in enumerate(tokens)}

        def shares(name: str) -> list[float | None]:
            """For each shape the rate over the peak of the same repeat; None where FLOPs can't be counted."""
            flops = [nets[name].flops(length) for _, length in shapes]
            work = np.array([[math.nan if count is None else BACKWARD_AND_FORWARD * count] for count in flops])
            batches = np.array(shapes)[:, :1]
            medians = np.median(batches * work / np.array(seconds[name]) / peaks, axis=1).tolist()
            return [None if math.isnan(share) else significant(share) for share in medians]

        result = ParallelResult(
            tokens=tokens,
            lengths=lengths,
            shapes=shapes,
            models={name: net.counts(lengths[-1]) for name, net in nets.items()},
            counted_at=lengths[-1],
            peak_size=size,
            peak_flops=fits.as_recorded(fits.spread(peaks)),
            seconds={name: by_tokens(times) for name, times in seconds.items()},
            tokens_per_second={
                name: by_tokens([*map(significant, np.median(of, axis=1).tolist())]) for name, of in speeds.items()
            },
            change={
                name: {n: fits.as_recorded(fits.geometric(part[-1] / part[0])) for n, part in by_tokens(of).items()}
                for name, of in speeds.items()
            },
            fit={name: fits.fit_times(shapes, times, spec.seed) for name, times in seconds.items()},
            share={name: by_tokens(shares(name)) for name in nets},
            repeats=asked["repeats"],
            dtype="float32",
        )
        if device.type != "cuda":
            return result
        event_seconds = {name: [fits.events(reading[name]["train"]) for reading in readings] for name in nets}
        return CudaParallelResult(**vars(result), event_seconds=event_seconds)

    def headline(self, result: ParallelResult) -> str:
        """The change of speed from the shortest to the longest sequences."""
        n, first, last = result.tokens[0], result.lengths[0], result.lengths[-1]
        changes = [f"{name} {of[str(n)].value:.2f}x" for name, of in result.change.items()]
        return f"tokens/s from T={first} to {last} at {n:,} a batch: {', '.join(changes)}"

    def table(self, measured: Sequence[Measured[ParallelResult]]) -> str:
        """Speeds, serial times and shares of the peak."""
        return "\n\n".join(map(_table, measured))

    def chart(self, measured: Sequence[Measured[ParallelResult]]) -> Chart:
        """Speed, serial share and share of the peak, each against length; a row for each measurement."""
        columns = [[panel(one) for one in measured] for panel in (_speed_panel, _serial_panel, _share_panel)]
        notes = [
            "A training step without its optimiser: gradients cleared, forward, backward. Speed: medians over repeats, "
            "bands from the least to the greatest. The batch shrinks as the length grows.",
            "Serial share: s T / t of the fit t = a + s T + w B T + q B T^2; band: 95% interval of s.",
            "Share of peak: FLOPs of a training step (three forward passes) per second, over those of a matrix product "
            "timed in the same run. Of masked attention all T^2 pairs are counted, those that a kernel skips too.",
        ]
        return Chart("Speed at a constant number of tokens per batch", columns, notes=notes, aligned=True)


# ---- what is measured ---------------------------------------------------------------------------------------------


def _product(size: int, device: torch.device) -> Step:
    """A product of two square matrices into a third, in single precision."""
    import torch

    a, b, c = (torch.ones(size, size, device=device) for _ in range(3))

    def product() -> None:
        with torch.no_grad():
            torch.mm(a, b, out=c)

    return product


# ---- the table ----------------------------------------------------------------------------------------------------


def _table(one: Measured[ParallelResult]) -> str:
    result = one.result
    first, last = result.lengths[0], result.lengths[-1]
    rows = [
        {
            "model": name,
            "tokens per batch": f"{n:,}",
            f"tokens/s at T={first}": f"{(speeds := result.tokens_per_second[name][str(n)])[0]:,.0f}",
            f"at T={last}": f"{speeds[-1]:,.0f}",
            "change": interval_text(result.change[name][str(n)]),
            f"share of peak at T={first}": or_dash((shares := result.share[name][str(n)])[0], ".0%"),
            f"at T={last} ": or_dash(shares[-1], ".0%"),
        }
        | fits.fit_cells(result.fit[name], ("s",))
        for name in result.models
        for n in result.tokens
    ]
    peak = interval_text(Interval(*(rate / 1e9 for rate in result.peak_flops)))
    return "\n".join(
        [
            f"Parallelism: training at a constant number of tokens per batch, {machine_text(one.spec)}, "
            f"{result.repeats} repeats",
            tabulate(rows, headers="keys", tablefmt="github"),
            f"change: tokens/s at T={last} over T={first}, 95% interval over repeats.",
            f"Peak: {peak} GFLOP/s (median, least to greatest), a product of matrices, {result.peak_size} wide, in the "
            "same run.",
            *(f"{name}: {_speed_verdict(result, name)}; {_cause(fit)}." for name, fit in result.fit.items()),
        ]
    )


def _speed_verdict(result: ParallelResult, name: str) -> str:
    falls = [change.high <= FALL for change in result.change[name].values()]
    if not any(falls):
        return "no loss of a fifth is certain"
    return f"loses a fifth of its speed or more{'' if all(falls) else ' at some numbers of tokens'}"


def _cause(fit: TimeFit | None) -> str:
    """Whether the serial time is why."""
    if fit is None:
        return "one number of tokens can't tell serial time from the square of the length"
    if not fit.trusted:
        return "its times do not follow the four terms, so no cause is given"
    serial = "steps have a serial time" if fit.s[1] else "no serial time to be seen"
    return serial + (", the work grows with the square of the length" if fit.q[1] else "")


# ---- the chart ----------------------------------------------------------------------------------------------------


def _dash(result: ParallelResult, n: int | str) -> Dash:
    dashes: tuple[Dash, ...] = get_args(Dash)
    return dashes[result.tokens.index(int(n)) % len(dashes)]


def _speed_panel(one: Measured[ParallelResult]) -> Panel:
    result = one.result
    marks = [Line([], [], label=f"{n:,} tokens per batch", dash=_dash(result, n)) for n in result.tokens]
    for name, by_tokens in result.seconds.items():
        for n, seconds in by_tokens.items():
            sizes = np.array([int(n) // length * length for length in result.lengths])[:, None]
            dash = _dash(result, n)
            label = name if dash == "solid" else ""
            marks.append(fits.band(result.lengths, sizes / np.array(seconds), look_of(name), label, dash))
    return Panel(f"Speed, {machine_text(one.spec)}", marks, LENGTHS, Axis("tokens per second, training", "log10"))


def _serial_panel(one: Measured[ParallelResult]) -> Panel:
    """Share of the step's time that the fit calls serial; fits that are not trusted are left out and named."""
    result = one.result
    largest, lengths = max(result.tokens), np.array(result.lengths)
    marks, left_out = [], []
    for name, fit in result.fit.items():
        if fit is None or not fit.trusted:
            left_out.append(name)
            continue
        times = np.median(result.seconds[name][str(largest)], axis=1)
        value, low, high = (np.minimum(1.0, s * lengths / times).tolist() for s in open_interval(fit.s))
        marks.append(Line(result.lengths, value, look_of(name), low, high, dash=_dash(result, largest), marked=True))
    return Panel(
        f"Serial share at {largest:,} tokens per batch",
        marks,
        LENGTHS,
        Axis("serial share of a step", limits=(-0.03, 1.03)),
        note=f"no trusted fit: {', '.join(left_out)}" if left_out else "",
    )


def _share_panel(one: Measured[ParallelResult]) -> Panel:
    result = one.result
    marks = []
    for name, by_tokens in result.share.items():
        for n, shares in by_tokens.items():
            known = [math.nan if share is None else share for share in shares]
            marks.append(Line(result.lengths, known, look_of(name), dash=_dash(result, n), marked=True))
    return Panel(
        f"Share of the peak, {rounded(result.peak_flops.value / 1e9)} GFLOP/s in float32",
        [*marks, Rule(1.0, "matrix product", strong=True, widen="always")],
        LENGTHS,
        Axis("share of the machine's peak"),
    )

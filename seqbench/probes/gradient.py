"""How the influence of an input on the last output shrinks or grows with its distance, by exact Jacobians.

J_k = dh_T / de_(T-k) for k = 0 ... T-1, h the last output and e the embedded inputs, at the start and after training on
recall in stages, on recall sequences in both cases. Beside it the Jacobian of the last state by each earlier one, of
which Bengio, Simard and Frasconi 1994 and Pascanu, Mikolov and Bengio 2013 (section 2.1) speak; training sees the
input's. Each sample's norm comes first, then the median of the log norms: the mean of vectors would let samples cancel
each other. Curves start at k = 1: J_0 lacks the recurrence, and holds the skip of a residual backbone. Vanishing is not
forgetting, so a trained net's record also says how well it answers at T steps.

Norms in records are natural logarithms; what is shown of them is in decades (log10), slopes and exponents stay natural.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.errors import Diverged
from seqbench.jobs.job import Listener
from seqbench.options import MODEL, Parameter, Range, Width
from seqbench.probes import Measured, NetOptions, Probe, ProbeSpec, Request, SeedGroup, register_probe, seeds_together
from seqbench.probes.shared import SOLVED
from seqbench.report.chart import Axis, Chart, Dash, Line, Mark, Panel, Rule, dashes_of, look_of
from seqbench.report.text import NONE, aligned_table, interval_text, listed, short, with_reach
from seqbench.stats import Interval, over_seeds

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

    from seqbench.models.backbone import SequenceModel

__all__ = ["Gradient", "GradientOptions", "GradientResult", "Summary", "behaviour", "summaries", "taught"]

Array = npt.NDArray[np.float64]
NEAR, FAR = 100, 200  # distances to which slopes are taken
VANISHED = 3.0  # decades by which a norm has fallen at NEAR that counts as vanished


@dataclass(frozen=True)
class GradientOptions(NetOptions):
    """Options of `probe gradient`; None stands for what the budget says."""

    when: Literal["start", "trained", "both"] = "both"
    """Before training, after training on recall in stages, or both."""
    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the layers; by default 16, 64 or 128, by budget."""
    length: Annotated[int | None, Parameter(metavar="T")] = None
    """Steps of the sequences, and so the greatest distance; by default 32, 200 or 512, by budget."""
    samples: Annotated[int | None, Range(ge=1, le=10_000), Parameter(metavar="N")] = None
    """Sequences, each with Jacobians of its own; by default 4 or 16, by budget."""


Curve = tuple[float | None, ...]  # natural logarithms by distance; None: zero, or too large for double precision


@dataclass(frozen=True)
class InputCurve:
    """Norms of input Jacobians: median over samples, and quartiles."""

    log_norm: Curve
    low: Curve
    high: Curve


@dataclass(frozen=True)
class StateCurve:
    """Norms of state Jacobians: median over samples."""

    log_norm: Curve


@dataclass(frozen=True)
class AtLength:
    """Log norms of input Jacobians of sequences of ``length`` steps: at k = T - 1, at k = 1, and the mean of k >= 1."""

    length: int
    last: float | None
    first: float | None
    mean: float | None


@dataclass(frozen=True)
class RecallScores:
    """How well a trained net recalls: 0 is guessing, 1 all right.

    Attributes:
        length: the longest trained on.
        solved: the longest of those that it solved.
        score: at ``length``.
        score_at_measured_length: over as many steps as Jacobians are measured, on which it was not trained.
    """

    length: int | None
    solved: int | None
    score: float | None
    score_at_measured_length: float | None


@dataclass(frozen=True)
class Jacobians:
    """What is made of the Jacobians of one net.

    Attributes:
        k: the distances at which curves are given, all of them up to 512.
        input: of inputs.
        explosion: share of samples with |J_k| > 10 |J_1|.
        explosion_most: its greatest value.
        state: of states, None where there are none.
        lyapunov: leading Lyapunov exponent, natural log per step.
        slope: of the log norm per step by least squares over ``slope_range``.
        slope_range: [1, at most 100].
        half_life: in steps; None unless the slope is negative.
        slope_far, slope_far_range: likewise over [1, at most 200].
        fall: log10 of |J_1| / |J_k| at k = ``fall_at``; where J_k can't be told from zero at least that much.
        fall_at: 100 or T - 1.
        fall_is_least: J_k can't be told from zero there.
        by_length: of sequences of several lengths.
    """

    k: tuple[int, ...]
    input: InputCurve
    explosion: tuple[float, ...]
    explosion_most: float
    state: StateCurve | None
    lyapunov: float | None
    slope: float | None
    slope_range: tuple[int, int] | None
    half_life: float | None
    slope_far: float | None
    slope_far_range: tuple[int, int] | None
    fall: float | None
    fall_at: int | None
    fall_is_least: bool
    by_length: tuple[AtLength, ...]


@dataclass(frozen=True)
class GradientResult(Jacobians):
    """What one measurement gives.

    Attributes:
        when, initialisation, samples, length, width: as in `GradientSetting`.
        params: parameters of the net.
        state_reason: why there are no state Jacobians; None where there are.
        trained: None at the start.
    """

    when: str
    initialisation: str
    samples: int
    length: int
    width: int
    params: int
    state_reason: str | None
    trained: RecallScores | None


# ---- plan ---------------------------------------------------------------------------------------------------------


class GradientBudget(NamedTuple):
    """Sizes of a budget; training is in stages of lengths up to ``longest``, of ``steps`` steps at most each."""

    hidden: int
    length: int
    samples: int
    seeds: int
    longest: int
    steps: int


BUDGETS = {
    "smoke": GradientBudget(16, 32, 4, 1, 5, 100),
    "quick": GradientBudget(64, 200, 16, 6, 40, 300),
    "standard": GradientBudget(128, 512, 16, 6, 320, 300),
}


@dataclass(frozen=True)
class GradientSetting:
    """All that decides a result but model, seed and machine.

    Attributes:
        when: ``start`` or ``trained``.
        initialisation, hidden, layers, backbone: of the net.
        length: steps T of the sequences.
        samples: sequences.
        stages: lengths of recall that it is trained on, none at the start.
        steps: of each stage, the most that training takes.
    """

    when: str
    initialisation: str
    hidden: int
    layers: int
    backbone: str
    length: int
    samples: int
    stages: list[int]
    steps: int

    def net(self, model: str, *, double: bool = False) -> SequenceModel:
        """A new net of ``model``, its weights from torch's generator."""
        from seqbench.probes.shared.nets import build_net
        from seqbench.probes.shared.problems import Recall

        options = {name: getattr(self, name) for name in ("layers", "backbone", "initialisation")}
        net = build_net(model, Recall().shape, self.hidden, **options)
        return net.double() if double else net


# ---- measure: the Jacobians ---------------------------------------------------------------------------------------

# ln of the smallest norm that is still exact: a part of it that is smaller by the precision is a normal number, too
FLOOR = math.log(sys.float_info.min / sys.float_info.epsilon)
ENTRIES = 1 << 24  # of the state Jacobians that are worked on together


def double_copy(net: SequenceModel, device: torch.device | str) -> SequenceModel:
    """A copy of ``net`` in double precision and evaluation mode, whose weights need no gradient."""
    return copy.deepcopy(net).to(device).double().eval().requires_grad_(False)


def last_output(net: SequenceModel, embedded: Tensor) -> Tensor:
    """(B, H) what the head reads at the last step, from (B, T, D) embedded inputs: after the last norm, if any."""
    y = net.mix(embedded, None)
    h: Tensor = (net.norms[-1](y) if net.residual else y)[:, -1]
    return h


def input_log_norms(net: SequenceModel, inputs: Tensor) -> Tensor:
    """(T, B) log Frobenius norms of J_k = dh_T / de_(T-k), k = 0 first; h is `last_output`, e the embedded input.

    By one vector-Jacobian product for each of the H outputs, summed over the batch, as samples do not touch each
    other. Minus infinity where nothing is left that can be told from zero (`FLOOR`), infinity where it overflows.

    Args:
        net: a `double_copy`.
        inputs: (B, T) tokens or (B, T, D) features.
    """
    import torch

    embedded = net.embed(inputs).detach().requires_grad_()
    squared = embedded.new_full(embedded.shape[:2], -math.inf)
    # cuDNN differentiates recurrent layers in training mode only
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        h = last_output(net, embedded)
        for i in range(h.shape[1] if h.requires_grad else 0):
            (row,) = torch.autograd.grad(h[:, i].sum(), embedded, retain_graph=True, materialize_grads=True)
            squared = torch.logaddexp(squared, 2 * _log_norm(row, (2,)))
    norms: Tensor = squared / 2
    return norms.masked_fill(norms < FLOOR, -math.inf).flip(1).T


def _log_norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Log Euclidean norm over ``dims``, whose squares must not underflow; infinite where ``x`` is not finite."""
    largest = x.abs().amax(dims, keepdim=True)
    scale = largest.where((largest > 0) & largest.isfinite(), largest.new_ones(()))
    norms = (x / scale).square().sum(dims).log() / 2 + scale.log().squeeze(dims)
    return norms.masked_fill(norms.isnan(), math.inf)


def no_state(net: SequenceModel, length: int) -> str | None:
    """Why there is no state Jacobian of ``net``; None if there is one."""
    if not net.steps:
        return "it offers no step form"
    if net.state_size(1) != net.state_size(2 * length):
        return "its state grows with the length"
    reals = _reals(net.initial_state(2))
    if not reals:
        return "it carries no state"
    if any(part.shape[:1] != (2,) for part in reals):
        return "its state does not have one row per sequence"
    return None


def state_log_norms(net: SequenceModel, inputs: Tensor) -> Tensor:
    """(T, B) log Frobenius norms of ds_T / ds_(T-k), k = 0 first, s all that all layers carry from step to step.

    The product is taken from the last step backwards and rescaled to norm 1 at every step, so it neither underflows nor
    overflows; minus infinity where it is exactly zero.

    Args:
        net: a `double_copy` without a reason in `no_state`.
        inputs: (B, T) tokens or (B, T, D) features.
    """
    import torch

    size = sum(part[0].numel() for part in _reals(net.initial_state(1)))
    together = max(1, ENTRIES // (size * size))
    return torch.cat([_state_log_norms(net, part, size) for part in torch.split(inputs, together)], dim=1)


def _state_log_norms(net: SequenceModel, inputs: Tensor, size: int) -> Tensor:
    import torch

    B, T = inputs.shape[:2]
    states = [net.initial_state(B)]
    with torch.no_grad():
        for t in range(T - 1):
            states.append(net.step(inputs[:, t], states[-1])[1])
    like = next(net.parameters())
    product = torch.eye(size, dtype=like.dtype, device=like.device)[:, None].repeat(1, B, 1)  # (S, B, S)
    norms = [product.new_full((B,), math.log(size) / 2)]
    product = product / math.sqrt(size)
    for t in range(T - 1, 0, -1):  # from ds_T / ds_(t+1) to ds_T / ds_t
        product = _times_step(net, inputs[:, t], states[t], product)
        grown = _log_norm(product, (0, 2))
        norms.append(norms[-1] + grown)
        product = product / grown.exp().where(grown.isfinite(), grown.new_ones(()))[:, None]
    return torch.stack(norms)


def _times_step(net: SequenceModel, x_t: Tensor, state: Any, product: Tensor) -> Tensor:
    """``product`` (S, B, S) times the Jacobian of one step from ``state``; each of its S rows is run as a sequence."""
    import torch
    from torch.utils._pytree import tree_map_only

    S, B = product.shape[:2]

    def repeat(part: Tensor) -> Tensor:
        return part.repeat(S, *[1] * (part.ndim - 1)) if part.ndim else part

    rows = tree_map_only(torch.Tensor, repeat, state)
    before = [part.requires_grad_() for part in _reals(rows)]
    with torch.enable_grad():
        after = _reals(net.step(repeat(x_t), rows)[1])
    pieces = torch.split(product, [part[0].numel() for part in after], dim=2)
    reached = [
        (part, piece.reshape(part.shape)) for part, piece in zip(after, pieces, strict=True) if part.requires_grad
    ]
    if not reached:
        return torch.zeros_like(product)
    outputs, cotangents = zip(*reached, strict=True)
    gradients = torch.autograd.grad(outputs, before, cotangents, materialize_grads=True)
    return torch.cat([gradient.reshape(S, B, -1) for gradient in gradients], dim=2)


def _reals(state: Any) -> list[Tensor]:
    """The tensors of real numbers in a state, however nested; counters and the like have no derivative."""
    import torch
    from torch.utils._pytree import tree_leaves

    return [part for part in tree_leaves(state) if isinstance(part, torch.Tensor) and part.is_floating_point()]


# ---- measure: what is made of their norms -------------------------------------------------------------------------

EXPLODED = math.log(10.0)
MOST_POINTS = 512  # of a curve in a record


def jacobians(norms: Mapping[int, Array], state: Array | None) -> Jacobians:
    """From log norms (T, B) of input Jacobians, by length T, and of state Jacobians at the longest."""
    T = max(norms)
    logs = norms[T]
    middle, low, high = (_quantile(logs, q) for q in (0.5, 0.25, 0.75))
    exploded: Array = (logs > EXPLODED + logs[1]).mean(axis=1)  # of zero norms: false
    exploded[:1] = 0.0
    slope, near = line(middle, NEAR)
    far, beyond = line(middle, FAR)
    fall, fall_at, fall_is_least = _fall(middle)
    kept = _distances(T)
    return Jacobians(
        k=tuple(kept),
        input=InputCurve(_listed(middle, kept), _listed(low, kept), _listed(high, kept)),
        explosion=tuple(round(float(exploded[k]), 4) for k in kept),
        explosion_most=round(float(exploded.max()), 4),
        state=None if state is None else StateCurve(_listed(_quantile(state, 0.5), kept)),
        lyapunov=None if state is None else _number(lyapunov(state)),
        slope=_number(slope),
        slope_range=near,
        half_life=_number(_half_life(slope)),
        slope_far=_number(far),
        slope_far_range=beyond,
        fall=fall,
        fall_at=fall_at,
        fall_is_least=fall_is_least,
        by_length=tuple(_at_length(length, logs) for length, logs in sorted(norms.items())),
    )


def line(curve: Array, most: int) -> tuple[float | None, tuple[int, int] | None]:
    """Slope by least squares of ``curve`` (T,) from k = 1 to ``most`` or its last k before one that is not finite.

    Returns:
        The slope and its first and last k; None and None where fewer than two points are there.
    """
    finite = np.isfinite(curve[1 : most + 1])
    last = len(finite) if finite.all() else int(finite.argmin())
    if last < 2:
        return None, None
    k = np.arange(1.0, last + 1) - (last + 1) / 2
    return float(k @ curve[1 : last + 1] / (k @ k)), (1, last)


def lyapunov(state: Array) -> float:
    """Leading Lyapunov exponent, natural log per step: the growth of the rescaled product of one-step Jacobians.

    From log norms (T, B), backwards from the last step: over the middle half of the steps, so that neither the state's
    way from zero nor the product's turn towards its leading direction counts; median over samples. The norm of a
    product of all directions leaves nothing to the luck of a starting vector.
    Not finite where the product becomes zero.
    """
    T = len(state)
    first, last = T // 4, T - 1 - T // 4
    with np.errstate(invalid="ignore"):
        return float(np.median((state[last] - state[first]) / (last - first)))


def _fall(curve: Array) -> tuple[float | None, int | None, bool]:
    """``fall``, ``fall_at`` and ``fall_is_least`` of `Jacobians`."""
    k = min(NEAR, len(curve) - 1)
    first, there = float(curve[1]), float(curve[k])
    lost = there == -math.inf
    if not math.isfinite(first) or there == math.inf:
        return None, None, False
    return _number((first - (FLOOR if lost else there)) / math.log(10.0)), k, lost


def _half_life(slope: float | None) -> float:
    """In steps; NaN where there is no slope."""
    if slope is None or math.isnan(slope):
        return math.nan
    return math.log(2.0) / -slope if slope < 0 else math.inf


def _at_length(length: int, logs: Array) -> AtLength:
    middle = _quantile(logs, 0.5)
    mean = float(np.logaddexp.reduce(middle[1:])) - math.log(length - 1)
    return AtLength(length, last=_number(middle[-1]), first=_number(middle[1]), mean=_number(mean))


def _quantile(logs: Array, q: float) -> Array:
    """Over samples, (T, B) to (T,); infinite between a finite and an infinite one."""
    values: Array = np.quantile(np.clip(logs, -1e9, 1e9), q, axis=1)
    return np.where(np.abs(values) < 1e6, values, np.copysign(math.inf, values))


def _distances(length: int) -> list[int]:
    if length <= MOST_POINTS:
        return list(range(length))
    half = MOST_POINTS // 2
    return [*range(half), *np.linspace(half, length - 1, half).round().astype(int).tolist()]


def _number(value: float | None) -> float | None:
    """Rounded to six decimals; None where there is no finite number."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _listed(curve: Array, kept: Sequence[int]) -> Curve:
    return tuple(round(float(curve[k]), 4) if math.isfinite(curve[k]) else None for k in kept)


def _train(net: SequenceModel, setting: GradientSetting, generator: Generator) -> RecallScores:
    """Train on recall in stages."""
    from seqbench.probes.shared.problems import Recall
    from seqbench.probes.shared.training import assess, train_in_stages

    problem = Recall()
    stages = list(train_in_stages(net, problem, setting.stages, generator, steps=setting.steps))
    there = assess(net, problem, setting.length - 1, generator)
    last = stages[-1]
    if last.diverged:
        raise Diverged(f"training diverged at length {last.length}")
    return RecallScores(
        length=last.length,
        solved=max((stage.length for stage in stages if stage.solved), default=None),
        score=_number(last.score),
        score_at_measured_length=None if there is None else _number(there.value),
    )


# ---- seeds together -----------------------------------------------------------------------------------------------

FLAT, FLAT_TO = math.log(10.0) / 1000, 199  # slopes that count as none, and how far they must have been followed
VARIED = ("hidden", "layers", "backbone", "length", "samples")  # named where they differ


@dataclass(frozen=True)
class Summary(SeedGroup[GradientResult]):
    """All seeds of one model, initialisation and time of measuring, else alike.

    Intervals are Student's over seeds, 95%; NaN where a seed has no figure, their ends also where there is one seed.

    Attributes:
        label: the model, its initialisation unless that has no name of its own, and what tells it from others shown.
        slope, slope_far, fall, fall_at, lyapunov: as in `Jacobians`.
        slope_far_to: the last k of ``slope_far``, the least of the seeds'; 0 where one has no slope.
        half_life: ln 2 / -slope in steps; infinite where the slope is not negative.
        fall_is_least: some seed's norm is zero there, so that its fall is that to the least measurable norm.
        explosion: share of samples with |J_k| > 10 |J_1|, at the k where it is greatest.
        score_at_length: on recall over the measured T steps, which it was not trained on; NaN at the start.
        dash: its lines, which tell those of one model apart.
    """

    label: str
    slope: Interval
    slope_far: Interval
    slope_far_to: int
    half_life: Interval
    fall: Interval
    fall_at: int | None
    fall_is_least: bool
    explosion: Interval
    lyapunov: Interval
    score_at_length: Interval
    dash: Dash = "solid"

    @property
    def setting(self) -> GradientSetting:
        """How it was measured."""
        return GradientSetting(**self.measured[0].spec.options)


def summaries(measured: Iterable[Measured[GradientResult]]) -> list[Summary]:
    """Measurements that differ in their seed only taken together, in order of appearance."""
    groups = seeds_together(measured)
    options = [group[0].spec.options for group in groups]
    varied = [name for name in VARIED if len({each[name] for each in options}) > 1]
    rows = [_summary(group, varied) for group in groups]
    dashes = dashes_of({row.label: row.model for row in rows})
    return [replace(row, dash=dashes[row.label]) for row in rows]


def _summary(group: Sequence[Measured[GradientResult]], varied: Sequence[str]) -> Summary:
    spec, results = group[0].spec, [one.result for one in group]
    start = spec.options["initialisation"]
    words = [start] * (start != "default") + [f"{name} {spec.options[name]}" for name in varied]
    slope = over_seeds(result.slope for result in results)
    return Summary(
        group,
        label=spec.models[0] + (f" ({', '.join(words)})" if words else ""),
        slope=slope,
        slope_far=over_seeds(result.slope_far for result in results),
        slope_far_to=min(result.slope_far_range[1] if result.slope_far_range else 0 for result in results),
        half_life=Interval(*map(_half_life, slope)),
        fall=over_seeds(result.fall for result in results),
        fall_at=next((result.fall_at for result in results if result.fall_at is not None), None),
        fall_is_least=any(result.fall_is_least for result in results),
        explosion=over_seeds(result.explosion_most for result in results),
        lyapunov=over_seeds(result.lyapunov for result in results),
        score_at_length=over_seeds(each.trained.score_at_measured_length if each.trained else None for each in results),
    )


def behaviour(summary: Summary) -> str:
    """By the rule of the ledger, which takes intervals over seeds: all of them must be on one side.

    - ``vanishes``: slope below 0, and the norm falls 1,000-fold at least from k = 1 to 100;
    - ``explodes``: likewise upwards;
    - ``neither``: slope between -ln 10 / 1000 and ln 10 / 1000 per step up to k = 199 at least (1,000-fold in 3,000);
    - ``in between``: anything else; ``unknown``: no intervals.
    """
    slope, fall, far = summary.slope, summary.fall, summary.slope_far
    if math.isnan(slope.low) or math.isnan(fall.low):
        return "unknown"
    if slope.high < 0 and fall.low >= VANISHED:
        return "vanishes"
    if slope.low > 0 and fall.high <= -VANISHED:
        return "explodes"
    if summary.slope_far_to >= FLAT_TO and far.low > -FLAT and far.high < FLAT:
        return "neither"
    return "in between"


def taught(rows: Sequence[Summary]) -> str:
    """On what length of recall trained nets were trained."""
    longest = sorted({max(row.setting.stages) for row in rows if row.setting.stages})
    return f"trained on at most {' or '.join(map(str, longest))}" if longest else "none trained"


def _fold(decades: float) -> str:
    """``down 250-fold``, ``up 10^12-fold``, ``level``."""
    size = abs(decades)
    if size < 0.1:
        return "level"
    times = f"10^{size:.0f}" if size >= 6 else f"{float(f'{10**size:.2g}'):,.6g}"
    return f"{'down' if decades > 0 else 'up'} {times}-fold"


# ---- table --------------------------------------------------------------------------------------------------------

READING = """
J_k is the Jacobian of the last output by the input k steps before, |J_k| its Frobenius norm, the median over
samples; means over seeds with 95% intervals. Slope: of ln |J_k| from k = 1 to 100 at most; half-life: ln 2 /
-slope, in steps; fall: log10 |J_1| / |J_k|, so 3 is 1,000-fold; explodes: share of samples with |J_k| > 10
|J_1| at the worst k; Lyapunov: leading exponent of the state, natural log per step; recall: score of the
trained net over that many steps, {taught}, 0 is guessing and 1 all right."""


def _shown(figure: Interval, places: int) -> str:
    return with_reach(figure.value, figure.high - figure.value, places)


def _reasons(rows: Sequence[Summary]) -> list[str]:
    """Why some have no Lyapunov exponent, and what it means if such a curve rises."""
    reasons = {row.label: row.results[0].state_reason for row in rows}
    lines = [
        f"No state Jacobian for {listed([label for label, other in reasons.items() if other == reason])}: {reason}."
        for reason in dict.fromkeys(filter(None, reasons.values()))
    ]
    if any(reasons[row.label] and row.explosion.value > 0 for row in rows):
        lines.append("Where such a model's |J_k| rises it looks there: that is no product of many steps.")
    return lines


def _remarks(rows: Sequence[Summary]) -> list[str]:
    """Where a net answers right over T steps though its gradient has vanished long before."""
    sayings = [
        f"{row.label} scores {row.score_at_length.value:.2f} on recall over {row.setting.length} steps, with |J| "
        f"{_fold(row.fall.value)} from k = 1 to {row.fall_at}"
        for row in rows
        if row.score_at_length.value >= SOLVED and row.fall.value >= VANISHED
    ]
    return [f"Vanishing is not forgetting: {'; '.join(sayings)}."] if sayings else []


# ---- chart --------------------------------------------------------------------------------------------------------

DECADE = math.log(10.0)
LOWEST, HIGHEST = -16.0, 8.0  # decades that an axis shows: below, sums in double precision would not notice
WHEN = {"start": "At the start", "trained": "After training on recall in stages"}


def _lines(
    rows: Sequence[Summary], points: Callable[[GradientResult], Iterable[tuple[int, float | None]]], *, relative: bool
) -> list[Line]:
    """Of each of ``rows`` that has any: the median over seeds, and a band from least to greatest, in decades.

    ``points`` are (x, natural logarithm) of one seed; ``relative`` ones are divided by the first.
    """
    lines = []
    for row in rows:
        curves: Array = np.array([list(points(result)) for result in row.results], dtype=float)  # None is NaN
        if not curves.size:
            continue
        x, logs = curves[0, :, 0].astype(int).tolist(), curves[:, :, 1] / DECADE
        logs = logs - logs[:, :1] if relative else logs
        middle, low, high = (of_seeds(logs, axis=0).tolist() for of_seeds in (np.median, np.min, np.max))
        if np.isfinite(middle).any():
            band = {"low": low, "high": high} if len(logs) > 1 else {}
            look, label = look_of(row.model), short(row.label)
            lines.append(Line(x, middle, look, label=label, dash=row.dash, marked=not relative, **band))
    return lines


def _distance_panel(title: str, name: str, first: int, way: str, lines: Sequence[Line]) -> Panel | None:
    """Jacobians ``name`` relative to that at k = ``first``; the note says where a line goes on beyond the panel."""
    if not lines:
        return None
    leaving = []
    for line in lines:
        k, end = [point for point in zip(line.x, line.y, strict=True) if math.isfinite(point[1])][-1]
        if not LOWEST <= end <= HIGHEST:
            leaving.append(f"{line.label} goes on to 10^{end:.0f} at k = {k}")
    low, high = limits = _span(lines, -VANISHED - 1, 1.0)
    rules = {-VANISHED: "1,000-fold weaker", VANISHED: "1,000-fold stronger"}
    marks: list[Mark] = [*lines, *(Rule(at, words) for at, words in rules.items() if low < at < high)]
    marks += [Rule(0.0, strong=True)]
    marks += [Rule(NEAR, axis="x")] if max(line.x[-1] for line in lines) > NEAR else []
    y = Axis(f"log10 |{name}_k| / |{name}_{first}| (decades)", limits=limits)
    return Panel(title, marks, Axis(f"distance k {way}(steps)"), y, note="; ".join(leaving))


def _length_panel(lines: Sequence[Line]) -> Panel | None:
    """The norm at the first input against T, with a line that falls as 1/T does."""
    if not lines:
        return None
    lengths = sorted({length for line in lines for length in line.x})
    thin = Line(lengths, [-math.log10(T / lengths[0]) for T in lengths], label="falling as 1/T does", dash="dashed")
    ticks = [(T, f"{T}") for T in lengths]
    x = Axis("length T of the sequence (steps, logarithmic)", "log2", ticks=ticks)
    y = Axis("log10 |J_(T-1)| (decades)", limits=_span(lines, 0.0, 0.0))
    return Panel("Jacobian of the first input", [*lines, thin], x, y)


def _span(lines: Sequence[Line], low: float, high: float) -> tuple[float, float]:
    """Decades from ``low`` to ``high`` and as far as the lines go, but for what lies beyond all sense."""
    seen = [value for line in lines for value in line.y if math.isfinite(value)]
    return max(min([low, *seen]) - 0.5, LOWEST), min(max([high, *seen]) + 0.5, HIGHEST)


# ---- the probe ----------------------------------------------------------------------------------------------------


@register_probe("gradient")
class Gradient(Probe[GradientResult]):
    """How gradients shrink or grow with distance."""

    Options = GradientOptions
    Result = GradientResult

    def plan(self, request: Request, options: GradientOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """For each seed, model and initialisation one at the start and one trained, or the one asked for."""
        from seqbench.models.backbone import check_widths
        from seqbench.models.mixer import MODELS
        from seqbench.probes.shared.nets import check_fits, check_length, initialisations, seeds_outermost
        from seqbench.probes.shared.problems import Recall
        from seqbench.probes.shared.training import stage_lengths

        budget, problem = BUDGETS[request.budget], Recall()
        length = budget.length if options.length is None else options.length
        samples = options.samples or budget.samples
        check_length(length, least=problem.steps(problem.least))
        training = {"start": ([], 0), "trained": (stage_lengths(budget.longest), budget.steps)}
        specs: list[ProbeSpec] = []
        for model, starts in initialisations(options.initialisation, models).items():
            multiple = MODELS.get(model).mixer.width_multiple
            hidden = options.hidden or -(-budget.hidden // multiple) * multiple  # the budget's, or the next that can be
            check_widths(model, (hidden,))
            settings = [
                GradientSetting(when, start, hidden, options.layers, options.backbone, length, samples, *training[when])
                for start in starts
                for when in (WHEN if options.when == "both" else (options.when,))
            ]
            if settings:
                net = partial(settings[0].net, model, double=True)
                check_fits(net, problem.shape, samples, length, device)
            specs += [spec for each in settings for spec in self.specs(request, device, model, each, budget.seeds)]
        return seeds_outermost(specs)

    def measure(self, spec: ProbeSpec, listener: Listener) -> GradientResult:
        """One net's Jacobians."""
        from torch import Generator

        from seqbench.probes.shared.problems import Recall

        setting = GradientSetting(**spec.options)
        T, problem = setting.length, Recall()
        net = setting.net(spec.models[0]).to(spec.device)
        # streams of their own: neither that of the weights, nor one for both training and measuring
        teacher, drawn = (Generator(spec.device).manual_seed((part << 32) + spec.seed) for part in (1, 2))
        trained = _train(net, setting, teacher) if setting.when == "trained" else None
        double = double_copy(net, "cpu" if spec.device == "mps" else spec.device)
        samples: dict[int, Tensor] = {}
        for length in sorted({max(2, T // part) for part in (1, 2, 4, 8)}):
            inputs, _ = problem.draw(setting.samples, length - 1, drawn, drawn.device)
            samples[length] = inputs.to(next(double.parameters()).device)
        norms = {length: input_log_norms(double, inputs).cpu().numpy() for length, inputs in samples.items()}
        reason = no_state(double, T)
        state = state_log_norms(double, samples[T]).cpu().numpy() if reason is None else None
        return GradientResult(
            **vars(jacobians(norms, state)),
            **{name: spec.options[name] for name in ("when", "initialisation", "samples", "length")},
            width=setting.hidden,
            params=sum(p.numel() for p in double.parameters()),
            state_reason=reason,
            trained=trained,
        )

    def headline(self, result: GradientResult) -> str:
        """Half-life and fall."""
        if result.slope is None:
            return "no gradient beyond its own step"
        words = [f"slope {result.slope:+.3g} a step"]
        if result.half_life is not None:
            words.append(f"half-life {result.half_life:.3g} steps")
        if result.fall is not None:
            words.append(f"{_fold(result.fall)} by k = {result.fall_at}")
        if result.trained and result.trained.score_at_measured_length is not None:
            words.append(f"recall {result.trained.score_at_measured_length:.2f} at {result.length} steps")
        return ", ".join(words)

    def table(self, measured: Sequence[Measured[GradientResult]]) -> str:
        """A line for each model, initialisation and time, what the columns mean, what vanishing does not mean."""
        rows = summaries(measured)
        reach = max((row.fall_at for row in rows if row.fall_at is not None), default=NEAR)
        lengths = " or ".join(map(str, sorted({row.setting.length for row in rows})))
        cells = [
            {
                "model": row.label,
                "when": row.setting.when,
                "seeds": str(len(row.measured)),
                "slope per step": _shown(row.slope, 4),
                "half-life": "never" if row.half_life.value == math.inf else interval_text(row.half_life),
                f"fall to k={reach}": ("≥ " if row.fall_is_least else "") + _shown(row.fall, 1),
                "explodes": _shown(row.explosion, 2),
                "Lyapunov": _shown(row.lyapunov, 3),
                "so it": behaviour(row) if len(row.measured) > 1 else NONE,
                f"recall at {lengths}": _shown(row.score_at_length, 2) if row.setting.when == "trained" else "",
            }
            for row in rows
        ]
        return "\n".join(
            [aligned_table(cells), READING.format(taught=taught(rows)), *_reasons(rows)]
            + [f"\n{words}" for words in _remarks(rows)]
        )

    def chart(self, measured: Sequence[Measured[GradientResult]]) -> Chart:
        """A column before and one after training: input Jacobians, state Jacobians, the first input's against T."""
        rows = summaries(measured)
        columns = []
        for when, words in WHEN.items():
            here = [row for row in rows if row.setting.when == when]
            inputs = _lines(here, lambda one: zip(one.k[1:], one.input.log_norm[1:], strict=True), relative=True)
            states = _lines(
                here, lambda one: zip(one.k, one.state.log_norm, strict=True) if one.state else (), relative=True
            )
            firsts = _lines(here, lambda one: ((at.length, at.last) for at in one.by_length), relative=False)
            panels = [
                _distance_panel(f"{words}: input Jacobian", "J", 1, "from the last step back to the input ", inputs),
                _distance_panel("State Jacobian S_k = ds_T / ds_(T-k)", "S", 0, "", states),
                _length_panel(firsts),
            ]
            columns.append([panel for panel in panels if panel is not None])
        sizes = {name: ", ".join(map(str, sorted({getattr(row.setting, name) for row in rows}))) for name in VARIED}
        seeds = max(len(row.measured) for row in rows)
        many = f"{seeds} seeds: median, band from least to greatest" if seeds > 1 else "1 seed"
        scored = [row for row in rows if math.isfinite(row.score_at_length.value)]
        scores = ", ".join(f"{row.label} {row.score_at_length.value:.2f}" for row in scored)
        known = f"Recall over {sizes['length']} steps, {taught(rows)} (0 guessing, 1 all right): {scores}."
        notes = [
            "Frobenius norm of each sample's Jacobian, exact, in double precision; the median over samples of its "
            "logarithm. A decade is a factor of 10.",
            *([known] if scores else []),
            *_remarks(rows),
            *_reasons(rows),
        ]
        return Chart(
            "How far gradients reach: the last output differentiated by the input k steps before",
            [column for column in columns if column],
            f"width {sizes['hidden']}, {sizes['length']} steps, {sizes['samples']} sequences per seed, {many}",
            notes,
            aligned=True,
        )

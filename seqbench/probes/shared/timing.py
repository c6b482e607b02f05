"""Measuring a step: several models side by side in one process, in a new order in every repeat; and what is timed.

A machine's speed drifts by more than models differ, so models are compared only with what ran beside them: all of them
at one shape, one right after the other, before the next shape; shapes and models in an order that is drawn anew in
every repeat. One call before each reading is dropped, as the model before has taken the caches, unless a single step
takes so long that this is nothing to it. Nothing is synchronised or counted inside a reading, and garbage is collected
between repeats only.

What is timed is one mixer between inputs that are already embedded, (B, T, d), and a readout of the last step, so that
the mixer makes up nearly all of it; the gradient reaches the inputs, as it would reach an embedding. A mixer that sees
the future is timed as it is, with a head that lets it. `bare` backbone, one layer, no dropout.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seqbench.device import synchronize
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.models.backbone import SequenceModel, check_widths, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import nearest_width
from seqbench.probes.shared.fits import LayerCounts, StepSeconds
from seqbench.probes.shared.nets import Readout, check_fits, check_length

__all__ = [
    "Step",
    "Steps",
    "Timed",
    "check_lengths",
    "check_nets",
    "flops",
    "flops_at",
    "loops",
    "mixer_parameters",
    "orders",
    "peak_bytes",
    "read_clock",
    "side_by_side",
    "timed_net",
    "width_of",
]

LEAST = 2e-3  # seconds that a reading lasts at least: 10,000 times the clock's grain
LONG = 25e-3  # seconds of a step beside which refilling the caches, a millisecond at most, is nothing
SHAPE = Shape(tokens=0, features=1, outputs=(10,))
COUNTED_AT = (2, 4, 8)  # steps, from which the FLOPs of any length are found
Step = Callable[[], object]
Steps = Mapping[str, Mapping[str, Step]]  # what to time at one shape: model -> kind -> one step
Place = TypeVar("Place")


# ---- the clock ----------------------------------------------------------------------------------------------------


def read_clock(step: Step, times: int, device: torch.device) -> StepSeconds:
    """Run ``step`` so many times between two looks at the clock, and divide."""
    first = last = None
    synchronize(device)
    if device.type == "cuda":
        event: Any = torch.cuda.Event  # which has no types
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record()
    started = time.perf_counter()
    for _ in range(times):
        step()
    if last is not None:
        last.record()
    synchronize(device)
    wall = (time.perf_counter() - started) / times
    # milliseconds
    return StepSeconds(wall, first.elapsed_time(last) / 1e3 / times if first is not None and last is not None else None)


def side_by_side(
    places: Sequence[Place],
    make: Callable[[Place], Steps],
    repeats: int,
    seed: int,
    device: torch.device,
    listener: Listener,
) -> list[dict[str, dict[str, list[StepSeconds]]]]:
    """Time what ``make`` gives at every place (a shape, say), ``repeats`` times.

    Returns:
        For each place, model and kind the readings in the order of the repeats.
    """
    plans: dict[tuple[int, str, str], tuple[int, bool]] = {}
    readings: list[dict[str, dict[str, list[StepSeconds]]]] = []
    listener.begin((repeats + 1) * len(places))
    with _no_collection():
        for i, place in enumerate(places):
            steps = make(place)
            for name, kinds in steps.items():
                for kind, step in kinds.items():
                    plans[i, name, kind] = _plan(step, device)
            readings.append({name: {kind: [] for kind in kinds} for name, kinds in steps.items()})
            listener.step(i + 1)
        rng = np.random.default_rng([seed, 0])
        for repeat in range(repeats):
            gc.collect()
            for done, (i, names) in enumerate(orders([list(models) for models in readings], rng)):
                steps = make(places[i])
                for name in names:
                    for kind, step in steps[name].items():
                        times, warm = plans[i, name, kind]
                        if warm:
                            step()
                        readings[i][name][kind].append(read_clock(step, times, device))
                listener.step((repeat + 1) * len(places) + done + 1)
    return readings


def orders(names: Sequence[Sequence[str]], rng: np.random.Generator) -> list[tuple[int, list[str]]]:
    """The order of one repeat: the places shuffled, and at each of them its names."""
    return [(int(i), [names[i][j] for j in rng.permutation(len(names[i]))]) for i in rng.permutation(len(names))]


def _plan(step: Step, device: torch.device) -> tuple[int, bool]:
    """How often ``step`` must run for a reading to last, and whether to warm up before; the first call is dropped."""
    step()
    times = 1
    while (spent := read_clock(step, times, device).wall * times) < LEAST:
        times = max(times + 1, math.ceil(1.2 * times * LEAST / max(spent, LEAST / 100)))
    return times, spent < LONG * times


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection at times of its own choosing."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ---- what is refused ----------------------------------------------------------------------------------------------


def check_lengths(longest: int, tokens: int) -> None:
    """Refuse a longest length without halves, and one of which ``tokens`` hold no sequence."""
    check_length(longest, "--longest", least=4)
    if tokens < longest:
        raise UserError(f"--tokens {tokens} is less than one sequence of --longest {longest}: give more.")


def check_nets(models: Iterable[str], hidden: int, batch: int, longest: int, device: str) -> None:
    """Refuse a width that a model can't have, and a longest length at which a training step would not fit."""
    for model in models:
        check_widths(model, (hidden,))
        check_fits(partial(timed_net, model, hidden), SHAPE, batch, longest, device, "--longest")


# ---- what is timed and counted ------------------------------------------------------------------------------------


class _ReadoutOfAll(Readout):
    """The same after mixers that see later steps."""

    causal = False


def timed_net(model: str, width: int) -> SequenceModel:
    """A net of ``model``; its weights are drawn from torch's generator.

    Raises:
        UserError: no such model, or a width that its mixer can't have.
    """
    mixer = MODELS.get(model).mixer
    check_widths(model, (width,))
    return SequenceModel(mixer, Readout if mixer.can_be_causal else _ReadoutOfAll, SHAPE, (width,))


def loops(model: str) -> bool:
    """Whether ``model`` has a step form with a state that does not grow."""
    mixer = MODELS.get(model).mixer
    if mixer.step is Mixer.step:
        return False
    width = 8 * mixer.width_multiple
    with torch.device("meta"):
        layer = mixer(width, width, mixer.can_be_causal)
    return layer.state_size(2) == layer.state_size(1_000)


def mixer_parameters(model: str, width: int) -> int:
    """Trainable parameters of the mixer alone, from ``width`` to ``width``."""
    mixer = MODELS.get(model).mixer
    with torch.device("meta"):
        return count_parameters(mixer(width, width, mixer.can_be_causal))


def width_of(params: int, model: str) -> int:
    """The width at which the mixer of ``model`` has nearest to ``params`` parameters."""
    multiple = MODELS.get(model).mixer.width_multiple
    return nearest_width(params, model, lambda width: mixer_parameters(model, width), multiple)


def flops(mixer: Mixer, length: int) -> int | None:
    """Floating-point operations of the mixer alone for one sequence, forward; a backward pass costs twice that.

    As in `seqbench.models.sizing`: counted on the meta device, two for each multiply-add, element-wise work left out;
    of attention all T^2 pairs, masked or not. None for a plug-in that can't run there.
    """
    try:
        shadow = copy.deepcopy(mixer).to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shadow(torch.zeros(1, length, mixer.d_in, device="meta"), None)
    except Exception:  # whatever a user's own layer does with values that are not there
        return None
    return int(counter.get_total_flops())


def flops_at(mixer: Mixer) -> Callable[[int], int | None]:
    """`flops` of ``mixer`` as a function of the length.

    The counter takes milliseconds per step, so it counts short sequences, and a parabola goes on from there: products
    over time and over pairs of steps grow so. A mixer that is not on its own parabola is counted at every length.
    """
    (a, b, c), between = COUNTED_AT, (COUNTED_AT[1] + COUNTED_AT[2]) // 2
    counts = [flops(mixer, length) for length in (*COUNTED_AT, between)]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return lambda length: None
    first, second = Fraction(known[1] - known[0], b - a), Fraction(known[2] - known[1], c - b)
    bend = (second - first) / (c - a)

    def parabola(length: int) -> int:
        return round(known[0] + (length - a) * (first + (length - b) * bend))

    return parabola if parabola(between) == known[3] else partial(flops, mixer)


class Timed:
    """A net on its device, with steps to time at any shape.

    The ``kernel`` backend is the mixer's own forward; ``loop`` its step form in a Python loop, with autograd.
    """

    def __init__(self, model: str, width: int, backend: str, device: torch.device) -> None:
        if backend == "loop" and not loops(model):
            raise NotApplicable(f"{model} has no step form with a state of fixed size, so there is no loop to time")
        self.net = timed_net(model, width).to(device)
        (mixer,) = self.net.layers
        assert isinstance(mixer, Mixer)
        self.mixer, self.loop, self.device = mixer, backend == "loop", device
        self.parameters = [*mixer.parameters(), *self.net.head.parameters()]
        self._inputs = torch.empty(0, device=device)

    @property
    def params(self) -> int:
        """Trainable parameters of mixer and readout."""
        return count_parameters(self.mixer) + count_parameters(self.net.head)

    @cached_property
    def flops(self) -> Callable[[int], int | None]:
        """FLOPs of the mixer as a function of the length (`flops_at`)."""
        return flops_at(self.mixer)

    def counts(self, length: int) -> LayerCounts:
        """What is counted; state and FLOPs at ``length`` steps."""
        counted = self.flops(length)
        return LayerCounts(
            width=self.net.widths[0],
            params=self.params,
            params_mixer=count_parameters(self.mixer),
            flops_per_token=None if counted is None else round(counted / length, 1),
            state_size=self.mixer.state_size(length),
        )

    def inputs(self, batch: int, length: int) -> Tensor:
        """(B, T, d) from N(0, 1), a leaf; the same numbers for all shapes as far as they go."""
        size = batch * length * self.mixer.d_in
        if self._inputs.numel() < size:
            drawn = torch.randn(size, generator=torch.Generator().manual_seed(0))
            self._inputs = drawn.to(self.device)
        return self._inputs[:size].view(batch, length, self.mixer.d_in).detach().requires_grad_()

    def output(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, 10)."""
        y = self._last_step(x) if self.loop else self.net.mix(x, None)
        output: Tensor = self.net.head(y, None)
        return output

    def _last_step(self, x: Tensor) -> Tensor:
        state = self.mixer.initial_state(len(x))
        for x_t in x.unbind(1):  # indexing by step would give each gradient the size of all
            y, state = self.mixer.step(x_t, state)
        return y[:, None]

    def steps(self, batch: int, length: int) -> dict[str, Step]:
        """``forward`` alone, without gradients, and ``train``: zero_grad, forward, backward; no optimiser."""
        x = self.inputs(batch, length)

        def forward() -> None:
            self.net.eval()
            with torch.no_grad():
                self.output(x)

        def train() -> None:
            self.net.train()
            self.clear(x)
            torch.autograd.backward(self.output(x).sum())

        return {"forward": forward, "train": train}

    def clear(self, *inputs: Tensor) -> None:
        """Forget all gradients."""
        for p in (*self.parameters, *inputs):
            p.grad = None


# ---- memory -------------------------------------------------------------------------------------------------------


def peak_bytes(step: Step, device: torch.device) -> int | None:
    """Most bytes that ``step`` held at a time beyond what was there before it; None where no allocator tells.

    CUDA's allocator keeps the figure. On a CPU torch's profiler lists every allocation and release of tensors, in
    order; the peak of their running sum is exact, but what a library takes past torch's allocator is not in it. Nothing
    that was there before ``step`` may be released in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    return _listed(step) if device.type == "cpu" else None


def _listed(step: Step) -> int | None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its beginning and end go to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    try:
        records = profile.kineto_results.events()
        changes = [(e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]"]
    except AttributeError:  # not a documented interface
        return None
    held = most = 0
    for _, size in sorted(changes, key=lambda change: change[0]):
        held += size
        most = max(most, held)
    return most

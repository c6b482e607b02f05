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

import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from seqbench.device import synchronize
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.models.backbone import SequenceModel, check_widths, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import count_flops, nearest_width
from seqbench.probes.shared.fits import LayerCounts, StepSeconds
from seqbench.probes.shared.nets import Readout, check_fits, check_length

__all__ = ["Readings", "Step", "Steps", "Timed", "can_have", "check_lengths", "check_nets", "side_by_side", "width_of"]

LEAST = 2e-3  # seconds that a reading lasts at least: 10,000 times the clock's grain
LONG = 25e-3  # seconds of a step beside which refilling the caches, a millisecond at most, is nothing
SHAPE = Shape(tokens=0, features=1, outputs=(10,))
Step = Callable[[], object]
Steps = Mapping[str, Mapping[str, Step]]  # what to time at one shape: model -> kind -> one step
Readings = dict[str, dict[str, list[StepSeconds]]]  # at one shape: model -> kind -> one for each repeat
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
) -> list[Readings]:
    """Time what ``make`` gives at every place (a shape, say), ``repeats`` times; the readings of each place."""
    listener.begin((repeats + 1) * len(places))
    gc.collect()
    gc.disable()
    try:
        plans = []
        for i, place in enumerate(places):
            steps = make(place)
            plans.append({name: {kind: _plan(kinds[kind], device) for kind in kinds} for name, kinds in steps.items()})
            listener.step(i + 1)
        readings: list[Readings] = [
            {name: {kind: [] for kind in kinds} for name, kinds in plan.items()} for plan in plans
        ]
        rng = np.random.default_rng([seed, 0])
        for repeat in range(1, repeats + 1):
            gc.collect()
            for done, (i, names) in enumerate(orders([list(plan) for plan in plans], rng), 1):
                steps = make(places[i])
                for name in names:
                    for kind, step in steps[name].items():
                        times, warm = plans[i][name][kind]
                        if warm:
                            step()
                        readings[i][name][kind].append(read_clock(step, times, device))
                listener.step(repeat * len(places) + done)
    finally:
        gc.enable()
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


def can_have(model: str, width: int) -> bool:
    """Whether the mixer of ``model`` can have ``width``."""
    return width % MODELS.get(model).mixer.width_multiple == 0


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
    """`count_flops` of the mixer alone for one sequence, forward."""
    return count_flops(mixer, torch.zeros(1, length, mixer.d_in, device="meta"))


def flops_at(mixer: Mixer) -> Callable[[int], int | None]:
    """`flops` of ``mixer`` as a function of the length.

    The counter takes milliseconds per step, so it counts short sequences, and a parabola goes on from there: products
    over time and over pairs of steps grow so. A mixer that is not on its own parabola is counted at every length.
    """
    counts = [count for length in (2, 3, 4, 6) if (count := flops(mixer, length)) is not None]
    if len(counts) < 4:
        return lambda length: None
    at_two, at_three, at_four, at_six = counts
    slope, bend = at_three - at_two, at_four - 2 * at_three + at_two

    def parabola(length: int) -> int:
        steps = length - 2
        return at_two + steps * slope + steps * (steps - 1) // 2 * bend

    return parabola if parabola(6) == at_six else partial(flops, mixer)


class Timed:
    """A net on its device, with steps to time at any shape.

    The ``kernel`` backend is the mixer's forward by torch's own layers, ``fast`` by this package's kernels where it has
    some, ``loop`` its step form in a Python loop, with autograd.
    """

    def __init__(self, model: str, width: int, backend: str, device: torch.device) -> None:
        if backend == "loop" and not loops(model):
            raise NotApplicable(f"{model} has no step form with a state of fixed size, so there is no loop to time")
        self.net = timed_net(model, width).to(device)
        self.net.use_kernel("fast" if backend == "fast" else "torch")
        (mixer,) = self.net.layers
        assert isinstance(mixer, Mixer)
        self.mixer, self.loop, self.device = mixer, backend == "loop", device
        self.parameters = [*mixer.parameters(), *self.net.head.parameters()]
        self.params = count_parameters(mixer) + count_parameters(self.net.head)
        self._inputs = torch.empty(0, device=device)

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
        if self.loop:
            state = self.mixer.initial_state(len(x))
            for x_t in x.unbind(1):  # indexing by step would give each gradient the size of all
                y, state = self.mixer.step(x_t, state)
            y = y[:, None]
        else:
            y = self.net.mix(x, None)
        output: Tensor = self.net.head(y, None)
        return output

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

    def peak_bytes(self, batch: int, length: int) -> int | None:
        """`peak_bytes` of a training step, gradients of weights and inputs included."""
        step = self.steps(batch, length)["train"]
        self.clear()
        return peak_bytes(step, self.device)


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
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its beginning and end go to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    try:
        records = profile.kineto_results.events()
        changes = sorted((e.start_ns(), i, e.nbytes()) for i, e in enumerate(records) if e.name() == "[memory]")
    except AttributeError:  # not a documented interface
        return None
    return max(accumulate((int(size) for *_, size in changes), initial=0))

"""The nets that are timed: one mixer between embedded inputs and a readout of the last step.

What is timed starts at the embedded inputs (B, T, d), so that the mixer makes up nearly all of it; the gradient reaches
them, as it would reach an embedding. A mixer that sees the future is timed as it is, with a head that lets it: nothing
is carried here. `bare` backbone, one layer, no dropout.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seqbench.errors import NotApplicable
from seqbench.models.backbone import SequenceModel, check_widths, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import nearest_width
from seqbench.probes.shared.nets import Readout
from seqbench.probes.timing import Step

__all__ = ["Timed", "facts", "flops", "flops_at", "loops", "mixer_parameters", "timed_net", "width_of"]

SHAPE = Shape(tokens=0, features=1, outputs=(10,))
COUNTED_AT = (2, 4, 8)  # steps, from which the FLOPs of any length are found


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


def mixer_of_net(net: SequenceModel) -> Mixer:
    """Its one layer."""
    (mixer,) = net.layers
    assert isinstance(mixer, Mixer)
    return mixer


def loops(model: str) -> bool:
    """Whether ``model`` has a step form with a state that does not grow."""
    mixer = MODELS.get(model).mixer
    if mixer.step is Mixer.step:
        return False
    with torch.device("meta"):
        layer = mixer(8 * mixer.width_multiple, 8 * mixer.width_multiple, mixer.can_be_causal)
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

    As in `seqbench.models.sizing`: counted on the meta device, two a multiply-add, element-wise work left out; of
    attention all T^2 pairs, masked or not. None for a plug-in that can't run there.
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

    The counter takes milliseconds a step, so it counts short sequences, and a parabola goes on from there: products
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


def net_parameters(net: SequenceModel) -> int:
    """Trainable parameters of what is timed: the mixer and the readout."""
    return count_parameters(mixer_of_net(net)) + count_parameters(net.head)


def facts(net: SequenceModel, length: int, counted: int | None) -> dict[str, Any]:
    """What is counted, not timed; state and FLOPs, which are ``counted``, at ``length`` steps.

    ``params`` are those of the timed net (mixer and readout), ``params_mixer`` of the mixer alone, ``flops_per_token``
    of its forward pass, ``state_size`` floats a sequence.
    """
    mixer = mixer_of_net(net)
    return {
        "width": net.widths[0],
        "params": net_parameters(net),
        "params_mixer": count_parameters(mixer),
        "flops_per_token": None if counted is None else round(counted / length, 1),
        "state_size": mixer.state_size(length),
    }


class Timed:
    """A net on its device, with steps to time at any shape.

    The ``kernel`` backend is the mixer's own forward; ``loop`` its step form in a Python loop, with autograd.
    """

    def __init__(self, model: str, width: int, backend: str, device: torch.device) -> None:
        if backend == "loop" and not loops(model):
            raise NotApplicable(f"{model} has no step form with a state of fixed size, so there is no loop to time")
        self.net = timed_net(model, width).to(device)
        self.mixer, self.loop, self.device = mixer_of_net(self.net), backend == "loop", device
        self.parameters = [*self.mixer.parameters(), *self.net.head.parameters()]
        self._inputs = torch.empty(0, device=device)

    @property
    def params(self) -> int:
        """Trainable parameters of mixer and readout."""
        return net_parameters(self.net)

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

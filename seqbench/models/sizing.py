"""Choosing a width by the number of parameters, for any registered model, and counting FLOPs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seqbench.errors import UserError
from seqbench.models.backbone import SequenceModel, build, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS

__all__ = ["count_flops", "flops_per_sample", "nearest_width", "width_for"]

WIDEST = 1 << 16


def width_for(params: int, model: str, kind: str, shape: Shape, layers: int, backbone: str) -> int:
    """The width (all ``layers`` alike) whose parameter count is nearest to ``params``.

    Raises:
        UserError: even the narrowest model has more.
    """

    def count(width: int) -> int:
        return count_parameters(build(model, kind, shape, (width,) * layers, backbone=backbone))

    return nearest_width(params, model, count, MODELS.get(model).mixer.width_multiple)


def nearest_width(params: int, model: str, count_at: Callable[[int], int], multiple: int) -> int:
    """The multiple of ``multiple`` at which ``count_at``, a rising function, comes nearest to ``params``.

    Raises:
        UserError: even the narrowest has more.
    """

    def count(units: int) -> int:
        with torch.device("meta"):  # shapes only: no memory, no time
            return count_at(units * multiple)

    low, high = 1, 2
    if count(low) > params:
        raise UserError(f"--params {params}: the narrowest {model} for this task has {count(low)} parameters.")
    while count(high) < params:
        low, high = high, 2 * high
        if high * multiple > WIDEST:
            raise UserError(f"--params {params} is more than a {model} of width {WIDEST} has.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= params else (low, middle)
    return multiple * min((low, high), key=lambda units: abs(count(units) - params))


def flops_per_sample(model: SequenceModel, length: int) -> int | None:
    """`count_flops` of one forward pass over one sequence of ``length`` steps."""
    return count_flops(model, model.shape.example(1, length, "meta"))


def count_flops(module: nn.Module, inputs: Tensor) -> int | None:
    """Floating-point operations of ``module(inputs, None)``, with ``inputs`` on the meta device.

    A backward pass costs twice as many. Counted by torch's own counter on the meta device, where the recurrent kernels
    fall apart into matrix products: two operations for each multiply-add, element-wise work left out (as is usual), all
    T^2 pairs of attention, masked or not. None for a plug-in that can't run there: on a real device fused kernels would
    go uncounted.
    """
    try:
        shadow = copy.deepcopy(module).to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shadow(inputs, None)
    except Exception:  # whatever a user's own layer does with values that are not there
        return None
    return int(counter.get_total_flops())

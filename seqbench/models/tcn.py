"""The temporal convolutional network, TCN (Bai, Kolter and Koltun 2018, "An empirical evaluation of generic
convolutional and recurrent networks for sequence modeling"): residual blocks of causal convolutions, wider and wider.

One layer here is all of its blocks, since a single one sees a few steps only. Each convolution is two products, of
which the second is added at its distance; inside, step comes before batch, so that a shift copies nothing. As in the
paper the weights are normalised; its dropout within a block is left to the backbone, which has it after the layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqbench.models.mixer import Mixer, register_model, starts, widened

__all__ = ["TCN"]

DILATIONS = (1, 2, 4, 8, 16, 32, 64)  # one block each


class _Convolved(torch.autograd.Function):
    """relu(W x_t + V x_(t-d) + b) over (T, B, D), with its backward pass by hand: no copy of what is shifted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, v: Tensor, b: Tensor, back: int) -> Tensor:
        y = torch.addmm(b, x.flatten(0, 1), w.t()).view(*x.shape[:2], len(w))
        if back < len(x):
            y[back:].flatten(0, 1).addmm_(x[:-back].flatten(0, 1), v.t())
        y.relu_()
        ctx.save_for_backward(x, w, v, y)
        ctx.back = back
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w, v, y = ctx.saved_tensors
        back: int = ctx.back
        d = (dy * (y > 0)).contiguous()
        flat = d.flatten(0, 1)
        dx, dv = flat.mm(w).view(x.shape), torch.zeros_like(v)
        if back < len(x):
            later = d[back:].flatten(0, 1)
            dx[:-back].flatten(0, 1).addmm_(later, v)
            torch.mm(later.t(), x[:-back].flatten(0, 1), out=dv)
        return dx, flat.t().mm(x.flatten(0, 1)), dv, flat.sum(0), None


class _Convolution(nn.Module):
    """y_t = relu(W_0 x_(t-d) + W_1 x_t + b), each output's weights with a length of their own (Salimans and Kingma)."""

    def __init__(self, d_in: int, d_out: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        bound = 1 / math.sqrt(2 * d_in)
        self.direction = nn.Parameter(torch.empty(d_out, 2 * d_in).uniform_(-bound, bound))
        self.length = nn.Parameter(torch.empty(d_out, 1))
        self.bias = nn.Parameter(torch.empty(d_out).uniform_(-bound, bound))
        if starts(self.length):
            with torch.no_grad():
                self.length.copy_(self.direction.norm(dim=1, keepdim=True))

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Those of the earlier step and those of the later."""
        weight = self.direction * self.length * self.direction.square().sum(1, keepdim=True).pow(-0.5)
        earlier, later = weight.chunk(2, dim=1)
        return earlier, later

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, d_in) to (T, B, d_out); before the first step stand zeros."""
        earlier, later = self._weights()
        if x.is_meta:  # the products, which alone count
            return F.linear(x, later) if self.dilation >= len(x) else F.linear(x, later) + self._shifted(x, earlier)
        if torch.compiler.is_exporting():  # whatever the length
            before = F.pad(x, (0, 0, 0, 0, self.dilation, 0))[: x.shape[0]]
            return F.relu(F.linear(x, later, self.bias) + F.linear(before, earlier))
        with torch.autocast(x.device.type, enabled=False):  # it adds to what it has, in one type
            y: Tensor = _Convolved.apply(x, later, earlier, self.bias, self.dilation)  # type: ignore[no-untyped-call]
        return y

    def _shifted(self, x: Tensor, weight: Tensor) -> Tensor:
        before = x.new_zeros(self.dilation, x.shape[1], len(weight))
        return torch.cat([before, F.linear(x[: -self.dilation], weight)])

    def step(self, x_t: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """From (B, d_in) and the inputs before, (B, steps, d_in), the oldest first."""
        earlier, later = self._weights()
        y = F.relu(F.linear(x_t, later, self.bias) + F.linear(cache[:, 0], earlier))
        return y, torch.cat([cache[:, 1:], x_t[:, None]], dim=1)


@register_model("tcn")
class TCN(Mixer):
    """Temporal convolutional network: 7 residual blocks of dilated causal convolutions, which see 255 steps.

    Each block adds relu(conv(relu(conv(x)))) to x and takes the relu of the sum; convolutions read 2 steps, 1, 2, 4 ...
    64 apart. So a step sees itself and the 254 before it, whatever the length; two layers see 509. Its state is the
    cache of those inputs that later steps will read. Initialisation: torch's own for convolutions.
    """

    traceable = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not
        self.enter = nn.Identity() if d_in == d_out else nn.Linear(d_in, d_out)  # of the first skip
        widths = [d_in, *[d_out] * (2 * len(DILATIONS) - 1)]
        self.convolutions = nn.ModuleList(
            _Convolution(width, d_out, DILATIONS[i // 2]) for i, width in enumerate(widths)
        )

    def _blocks(self) -> list[tuple[_Convolution, _Convolution]]:
        every = [part for part in self.convolutions if isinstance(part, _Convolution)]
        return list(zip(every[::2], every[1::2], strict=True))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # padding comes after the real steps and can't reach them
        x = widened(x).transpose(0, 1).contiguous()
        for i, (first, second) in enumerate(self._blocks()):
            skip = x if i else self.enter(x)
            x = F.relu(skip + second(first(x)))
        return x.transpose(0, 1)

    def state_size(self, length: int) -> int:
        """The inputs that its convolutions reach back to, of which those before the first are zeros."""
        return sum(part.dilation * (part.direction.shape[1] // 2) for block in self._blocks() for part in block)

    def initial_state(self, batch: int) -> list[Tensor]:
        return [
            part.bias.new_zeros(batch, part.dilation, part.direction.shape[1] // 2)
            for block in self._blocks()
            for part in block
        ]

    def step(self, x_t: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        x, following = x_t, []
        for i, (first, second) in enumerate(self._blocks()):
            skip = x if i else self.enter(x)
            y, after_first = first.step(x, state[2 * i])
            y, after_second = second.step(y, state[2 * i + 1])
            x = F.relu(skip + y)
            following += [after_first, after_second]
        return x, following

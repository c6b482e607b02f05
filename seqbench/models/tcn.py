"""The temporal convolutional network, TCN (Bai, Kolter and Koltun 2018, "An empirical evaluation of generic
convolutional and recurrent networks for sequence modeling"): residual blocks of causal convolutions, wider and wider.

One layer here is all of its blocks, since a single one sees a few steps only. Each convolution is one product with
the shifted inputs side by side, which on a CPU takes less time than torch's own. As in the paper the weights are
normalised; its dropout within a block is left to the backbone, which has it after the layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.mixer import Mixer, register_model, starts

__all__ = ["TCN"]

KERNEL = 2  # steps that one convolution reads
DILATIONS = (1, 2, 4, 8, 16, 32, 64)  # one block each


class _Convolution(nn.Module):
    """y_t = relu(W_0 x_(t-d) + W_1 x_t + b), each output's weights with a length of their own (Salimans and Kingma)."""

    def __init__(self, d_in: int, d_out: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        bound = 1 / math.sqrt(KERNEL * d_in)
        self.direction = nn.Parameter(torch.empty(d_out, KERNEL * d_in).uniform_(-bound, bound))
        self.length = nn.Parameter(torch.empty(d_out, 1))
        self.bias = nn.Parameter(torch.empty(d_out).uniform_(-bound, bound))
        if starts(self.length):
            with torch.no_grad():
                self.length.copy_(self.direction.norm(dim=1, keepdim=True))

    def _apply_to(self, taps: list[Tensor]) -> Tensor:
        """Of the inputs that one output reads, the oldest first."""
        weight = self.direction * self.length * self.direction.square().sum(1, keepdim=True).pow(-0.5)
        return F.relu(F.linear(torch.cat(taps, dim=-1), weight, self.bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_in) to (B, T, d_out); before the first step stand zeros."""
        B, T, D = x.shape
        back = (KERNEL - 1) * self.dilation
        padded = torch.cat([x.new_zeros(B, back, D), x], dim=1)
        return self._apply_to([padded[:, at : at + T] for at in range(0, back + 1, self.dilation)])

    def step(self, x_t: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """From (B, d_in) and the inputs before, (B, steps, d_in), the oldest first."""
        window = torch.cat([cache, x_t[:, None]], dim=1)
        return self._apply_to(list(window[:, :: self.dilation].unbind(1))), window[:, 1:]


@register_model("tcn")
class TCN(Mixer):
    """Temporal convolutional network: 7 residual blocks of dilated causal convolutions, which see 255 steps.

    Each block adds relu(conv(relu(conv(x)))) to x and takes the relu of the sum; convolutions read 2 steps, 1, 2, 4 ...
    64 apart. So a step sees itself and the 254 before it, whatever the length; two layers see 509. Its state is the
    cache of those inputs that later steps will read. Initialisation: torch's own for convolutions.
    """

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
        for i, (first, second) in enumerate(self._blocks()):
            skip = x if i else self.enter(x)
            x = F.relu(skip + second(first(x)))
        return x

    def state_size(self, length: int) -> int:
        """All inputs so far, until there are more than its convolutions reach back."""
        return sum(
            min(length, (KERNEL - 1) * part.dilation) * (part.direction.shape[1] // KERNEL)
            for block in self._blocks()
            for part in block
        )

    def initial_state(self, batch: int) -> list[Tensor]:
        return [
            part.bias.new_zeros(batch, (KERNEL - 1) * part.dilation, part.direction.shape[1] // KERNEL)
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

"""xLSTM's sLSTM (Beck et al. 2024, "xLSTM: extended long short-term memory"): an LSTM with exponential gates, a
normaliser beside its cell, and heads that do not see each other's state. No form of it runs many steps at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.mixer import Mixer, register_model, starts, widened

__all__ = ["SLSTM"]

HEADS = 4
NOTHING = -1e30  # the logarithm of the weight of all before the first step


@register_model("slstm")
class SLSTM(Mixer):
    """xLSTM's sLSTM: exponential input gates with a normaliser and a stabiliser; recurrent within each of 4 heads.

    Equations 8 to 17 of the paper: c_t = f_t c_(t-1) + i_t tanh(z_t), n_t = f_t n_(t-1) + i_t, h_t = sigmoid(o_t) c_t /
    n_t, with i = exp and f = sigmoid of W x_t + R h_(t-1) + b; the exponents are taken less the largest of the steps so
    far, m. The output is h, normalised in each head as in the paper's block, whose convolution and feed-forward part
    are left out. Initialisation: biases of f from 3 to 6 over the units of a head, R uniform in +-1 / sqrt(units of a
    head), the rest torch's own.
    """

    width_multiple = 2 * HEADS  # one unit a head could not be normalised
    carries = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not
        self.units = d_out // HEADS
        self.map = nn.Linear(d_in, 4 * d_out)  # for each head z, i, f and o of its units
        self.recurrent = nn.Parameter(torch.empty(HEADS, self.units, 4 * self.units))
        self.scale = nn.Parameter(torch.ones(d_out))
        if starts(*self.parameters()):
            nn.init.uniform_(self.recurrent, -(self.units**-0.5), self.units**-0.5)
            with torch.no_grad():
                self.map.bias.view(HEADS, 4, self.units)[:, 2] = torch.linspace(3.0, 6.0, self.units)

    def _update(self, gates: Tensor, state: tuple[Tensor, ...], *, fixed: bool) -> tuple[Tensor, ...]:
        """h, c, n and m from the pre-activations (heads, B, 4 units) and c, n and m before, (heads, B, units) each.

        ``fixed``: no gradient through m, on which h does not depend.
        """
        c, n, m = state
        z, i, f, o = gates.chunk(4, dim=-1)
        kept = m - F.softplus(-f)
        most = torch.maximum(kept, i)
        if fixed:
            most = most.detach()
        keep, add = (kept - most).exp(), (i - most).exp()
        c = keep * c + add * torch.tanh(z)
        n = keep * n + add
        return torch.sigmoid(o) * c / n, c, n, most

    def _leave(self, h: Tensor) -> Tensor:
        """From (..., heads, units) to (..., d_out)."""
        return F.layer_norm(h, h.shape[-1:]).flatten(-2) * self.scale

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # padding comes after the real steps and can't reach them
        B, T, _ = x.shape
        if x.is_meta:  # the products of all steps at once, which alone count
            torch.bmm(self.map(x).new_empty(HEADS, T * B, self.units), self.recurrent)
            return self._leave(x.new_empty(B, T, HEADS, self.units))
        return self.forward_from(x, self.initial_state(B))[0]

    def forward_from(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        B, T, _ = x.shape
        mapped = widened(self.map(x)).view(B, T, HEADS, -1).permute(1, 2, 0, 3)
        h, *rest = (part.transpose(0, 1) for part in state)
        states = []
        for gates in mapped.contiguous().unbind(0):
            h, *rest = self._update(torch.baddbmm(gates, h, self.recurrent), tuple(rest), fixed=True)
            states.append(h)
        after = tuple(part.transpose(0, 1) for part in (h, *rest))
        return self._leave(torch.stack(states).permute(2, 0, 1, 3)), after

    def state_size(self, length: int) -> int:
        return 4 * self.d_out  # h, c, n and m

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        zeros = self.scale.new_zeros(batch, HEADS, self.units)
        return zeros, zeros, zeros, zeros + NOTHING

    def step(self, x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, *rest = (part.transpose(0, 1) for part in state)
        gates = widened(self.map(x_t)).view(x_t.shape[0], HEADS, -1).transpose(0, 1)
        following = self._update(torch.baddbmm(gates, h, self.recurrent), tuple(rest), fixed=False)
        after = tuple(part.transpose(0, 1) for part in following)
        return self._leave(after[0]), after

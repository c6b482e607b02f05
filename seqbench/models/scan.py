"""Recurrent layers that are linear in their state, h_t = a_t h_(t-1) + b_t with coefficients that the input alone
decides, so that all steps can be found at once: minGRU and minLSTM (Feng et al. 2024, "Were RNNs all we needed?") and
the linear recurrent unit, LRU (Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences").

`scan` is that recurrence with a backward pass by hand. Each layer is what its paper puts between the norm and the skip
of a block, which the residual backbone has; `--backbone residual` is thus nearer to the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqbench.models.mixer import Mixer, register_model, repeated, starts, widened

__all__ = ["LRU", "MinGRU", "MinLSTM", "begun", "looped", "scan"]

SMALL, LONG = 4096, 64  # numbers of a step on a CPU below which calling it costs more than doing it, and steps that pay


def scan(a: Tensor, b: Tensor) -> Tensor:
    """(B, T, ...) states h_t = a_t h_(t-1) + b_t from a state of 0; real or complex, ``a`` may be spread to ``b``.

    On a CPU the steps run one after the other where each is enough work; where it is not, those of sqrt(T) blocks run
    beside each other. Elsewhere it takes log2(T) operations over all steps (Hillis and Steele 1986). A second
    derivative is refused.
    """
    if torch.compiler.is_exporting():
        return _exported(a, b)
    states: Tensor = _Scan.apply(a, b)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return states


def _exported(a: Tensor, b: Tensor) -> Tensor:
    """`scan` as one loop of any length; what is complex goes through it as two real numbers."""
    if b.is_complex():
        parts = _exported_complex(a, b)
        return torch.complex(*parts.chunk(2, dim=-1))

    def step(h: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h = now[0] * h + now[1]
        return h, h

    return repeated(step, torch.zeros_like(b[:, 0]), (a.expand_as(b), b))


def _exported_complex(a: Tensor, b: Tensor) -> Tensor:
    """(B, T, 2 D) the real parts of the states (B, T, D), then the imaginary ones."""

    def step(h: tuple[Tensor, Tensor], now: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (x, y), (a_x, a_y, b_x, b_y) = h, now
        h = a_x * x - a_y * y + b_x, a_x * y + a_y * x + b_y
        return h, torch.cat(h, dim=-1)

    x, y = b.real, b.imag
    zeros = torch.zeros_like(x[:, 0])
    return repeated(step, (zeros, zeros), (a.real.expand_as(x), a.imag.expand_as(x), x, y))


def looped(a: Tensor, b: Tensor) -> Tensor:
    """`scan` as autograd would have it, with every step on the tape: what it is measured against."""
    h, states = torch.zeros_like(b[:, 0]), []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, dim=1)


def begun(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """``b`` such that a scan of it from a state of 0 is that of (B, T, ...) ``b`` from the state ``h`` (B, ...)."""
    first = a.expand_as(b)[:, :1] * h[:, None]
    return torch.cat([b[:, :1] + first, b[:, 1:]], dim=1)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        if b.is_meta:  # it has no product to count
            return b.new_empty(b.shape)
        h = _steps(a.expand_as(b), b)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, Tensor]:
        a, h = ctx.saved_tensors
        # of h_t from outside and through h_(t+1): the same recurrence, from the last step to the first
        db = _steps(a.conj().resolve_conj().expand_as(h), dh, back=True)
        if not ctx.needs_input_grad[0]:
            return None, db
        da = torch.empty_like(db)
        da[:, 0] = 0
        torch.mul(db[:, 1:], h[:, :-1].conj(), out=da[:, 1:])
        return da.sum_to_size(a.shape), db


def _steps(a: Tensor, b: Tensor, *, back: bool = False) -> Tensor:
    """h_t = a_t h_(t-1) + b_t, or ``back``: h_t = a_(t+1) h_(t+1) + b_t."""
    if b.device.type != "cpu":
        return _from_the_end(_doubled, a, b) if back else _doubled(a, b)
    if b.numel() < SMALL * b.shape[1] and b.shape[1] >= LONG:
        return _from_the_end(_in_blocks, a, b) if back else _in_blocks(a, b)
    h = torch.empty(b.shape, dtype=b.dtype)
    rows = [a.unbind(1), b.unbind(1), h.unbind(1)]
    if back:
        rows = [rows[0][:0:-1], rows[1][::-1], rows[2][::-1]]
    else:
        rows[0] = rows[0][1:]
    before = rows[2][0].copy_(rows[1][0])
    for a_t, b_t, h_t in zip(rows[0], rows[1][1:], rows[2][1:], strict=True):
        before = torch.addcmul(b_t, a_t, before, out=h_t)
    return h


def _doubled(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t: each pass lets every step see twice as many before it."""
    reach, length = 1, b.shape[1]
    while reach < length:
        b = torch.cat([b[:, :reach], torch.addcmul(b[:, reach:], a[:, reach:], b[:, :-reach])], dim=1)
        if 2 * reach < length:
            a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], dim=1)
        reach *= 2
    return b


def _in_blocks(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t: all blocks from a state of 0, beside each other; then what each hands to the next."""
    length = b.shape[1]
    size = math.isqrt(length)
    more = -length % size
    if more:
        a, b = (torch.cat([x, x.new_zeros(b[:, :more].shape)], dim=1) for x in (a, b))
    a, b = (x.view(len(x), x.shape[1] // size, size, *x.shape[2:]) for x in (a, b))
    h, products = torch.empty(b.shape, dtype=b.dtype), torch.empty(b.shape, dtype=b.dtype)
    before, product = h[:, :, 0].copy_(b[:, :, 0]), products[:, :, 0].copy_(a[:, :, 0])
    rows = (x.unbind(2)[1:] for x in (a, b, h, products))
    for a_k, b_k, h_k, product_k in zip(*rows, strict=True):
        before = torch.addcmul(b_k, a_k, before, out=h_k)
        product = torch.mul(a_k, product, out=product_k)
    ends = [before[:, 0]]
    for end, kept in zip(before.unbind(1)[1:-1], product.unbind(1)[1:-1], strict=True):
        ends.append(torch.addcmul(end, kept, ends[-1]))
    h[:, 1:].addcmul_(products[:, 1:], torch.stack(ends, dim=1).unsqueeze(2))
    return h.flatten(1, 2)[:, :length]


def _from_the_end(way: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_(t+1) h_(t+1) + b_t."""
    following = torch.cat([a[:, 1:], a.new_zeros(a[:, :1].shape)], dim=1)
    return way(following.flip(1), b.flip(1)).flip(1)


class _Minimal(Mixer):
    """Common part of the minimal cells: the gates see the input only, so their coefficients need no state."""

    carries = True
    traceable = True
    gates: int
    keeps: int  # which gate keeps the state
    bias: float  # at which it starts

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not
        self.map = nn.Linear(d_in, self.gates * d_out)
        with torch.no_grad():
            self.map.bias[self.keeps * d_out : (self.keeps + 1) * d_out].fill_(self.bias)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., d_in) to a and b (..., d_out) of h_t = a_t h_(t-1) + b_t."""
        raise TypeError(f"{type(self).__name__} must define coefficients(x)")

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return scan(*self.coefficients(x))

    def forward_from(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.coefficients(x)
        states = scan(a, begun(a, b, state))
        return states, states[:, -1]

    def loop(self, x: Tensor) -> Tensor:
        """`forward` as the cell is written down, step by step."""
        state, outputs = self.initial_state(len(x)), []
        for x_t in x.unbind(1):
            y, state = self.step(x_t, state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    def state_size(self, length: int) -> int:
        return self.d_out

    def initial_state(self, batch: int) -> Tensor:
        return self.map.weight.new_zeros(batch, self.d_out)

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.coefficients(x_t)
        h = a * state + b
        return h, h


def _candidate(x: Tensor) -> Tensor:
    """The papers' g: x + 1/2 where x >= 0, sigmoid(x) elsewhere, so that the state stays positive."""
    above = F.relu(x)
    return above + torch.sigmoid(x - above)


@register_model("mingru")
class MinGRU(_Minimal):
    """minGRU: a GRU whose gate sees the input only, read by a scan.

    h_t = (1 - z_t) h_(t-1) + z_t g(W_h x_t + b_h), z_t = sigmoid(W_z x_t + b_z), in the form without logarithms.
    Initialisation: torch's own, but for b_z at -1, so that it begins by keeping its state, as the GRU does here.
    """

    gates, keeps, bias = 2, 0, -1.0

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, h = widened(self.map(x)).chunk(2, dim=-1)
        z = torch.sigmoid(z)
        return 1 - z, z * _candidate(h)


@register_model("minlstm", version=2)  # since f' can't be 0/0
class MinLSTM(_Minimal):
    """minLSTM: an LSTM whose gates see the input only and sum to one, read by a scan.

    h_t = f'_t h_(t-1) + i'_t g(W_h x_t + b_h), f' = f / (f + i), i' = i / (f + i), the gates f and i sigmoids of linear
    maps of x_t, in the form without logarithms of the state; f' is sigmoid(log f - log i), which no gates near zero
    make 0/0. Initialisation: torch's own, forget bias 1.
    """

    gates, keeps, bias = 3, 0, 1.0

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f, i, h = widened(self.map(x)).chunk(3, dim=-1)
        a = torch.sigmoid(F.softplus(-i) - F.softplus(-f))
        return a, (1 - a) * _candidate(h)


@register_model("lru")
class LRU(Mixer):
    """Linear recurrent unit: a complex diagonal recurrence, then GELU and a gated linear unit.

    x_t = lambda x_(t-1) + gamma (B u_t), y_t = Re(C x_t) + D u_t, output (W y' + b) sigmoid(V y' + c) with
    y' = gelu(y_t); lambda = exp(-exp(nu) + i exp(theta)), d_out of them. u is the input, through a linear map where its
    width is not d_out. Initialisation, as in the paper: lambda uniform in area on the ring between the radii .9 and
    .999 (its lemma 3.2), gamma = sqrt(1 - |lambda|^2), then learned; B normal with variance 1 / (2 d_out), C with
    1 / d_out, D with 1; the rest torch's own.
    """

    traceable = True
    RADII = (0.9, 0.999)
    carries = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)
        self.enter = nn.Identity() if d_in == d_out else nn.Linear(d_in, d_out)
        self.nu, self.theta, self.gamma = (nn.Parameter(torch.empty(d_out)) for _ in range(3))
        self.write = nn.Linear(d_out, 2 * d_out, bias=False)  # the real parts of B, then the imaginary ones
        self.read = nn.Linear(2 * d_out, d_out, bias=False)  # C, of which only the real part is read
        self.through = nn.Parameter(torch.empty(d_out))  # D
        self.leave = nn.Linear(d_out, 2 * d_out)
        if starts(*self.parameters()):
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        low, high = (radius**2 for radius in self.RADII)
        squared = low + (high - low) * torch.rand(self.d_out)  # |lambda|^2
        self.nu.copy_((-squared.log() / 2).log())
        self.theta.copy_((2 * math.pi * torch.rand(self.d_out)).log())
        self.gamma.copy_((1 - squared).log() / 2)
        self.write.weight.normal_(std=(2 * self.d_out) ** -0.5)
        self.read.weight.normal_(std=self.d_out**-0.5)
        self.through.normal_()

    def _writes(self, u: Tensor) -> Tensor:
        """gamma (B u), complex."""
        real, imaginary = (widened(self.write(u)) * self.gamma.exp().repeat(2)).chunk(2, dim=-1)
        return torch.complex(real, imaginary)

    def _decay(self) -> Tensor:
        """(d_out,) lambda."""
        return torch.polar((-self.nu.exp()).exp(), self.theta.exp())

    def _reads(self, real: Tensor, imaginary: Tensor, u: Tensor) -> Tensor:
        """The output from the real and imaginary parts of the states."""
        y = self.read(torch.cat([real, imaginary], dim=-1)) + self.through * u
        left: Tensor = self.leave(F.gelu(y))
        value, gate = left.chunk(2, dim=-1)
        return value * torch.sigmoid(gate)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        u = self.enter(x)
        if x.is_meta:  # its products alone count
            real, imaginary = self.write(u).chunk(2, dim=-1)
            return self._reads(real, imaginary, u)
        states = scan(self._decay(), self._writes(u))
        return self._reads(states.real, states.imag, u)

    def forward_from(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        u, decay = self.enter(x), self._decay()
        states = scan(decay, begun(decay, self._writes(u), torch.complex(*state)))
        return self._reads(states.real, states.imag, u), (states.real[:, -1], states.imag[:, -1])

    def state_size(self, length: int) -> int:
        return 2 * self.d_out

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        zeros = self.nu.new_zeros(batch, self.d_out)
        return zeros, zeros

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        u = self.enter(x_t)
        h = self._decay() * torch.complex(*state) + self._writes(u)
        return self._reads(h.real, h.imag, u), (h.real, h.imag)

"""Layers whose memory is a matrix: each head adds outer products of keys and values to it, lets it decay by one factor
per step, and reads it with a query. Mamba-2 (Dao and Gu 2024, "Transformers are SSMs"), xLSTM's mLSTM (Beck et al.
2024, "xLSTM: extended long short-term memory") and gated DeltaNet (Yang et al. 2024, "Gated delta networks").

All three run in chunks of 64 steps: within one as products of matrices, over all pairs of its steps; from one to the
next the memory is carried (the SSD form of Dao and Gu). Of the blocks that the papers describe they leave the norm and
the skip around the layer to the residual backbone. Shapes below are (B, heads, chunks, steps, width).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqbench.models.mixer import Mixer, register_model, starts, widened
from seqbench.models.scan import begun, scan

__all__ = ["MLSTM", "GatedDeltaNet", "Mamba2"]

CHUNK = 64
HEADS = 4
STATE = 32  # rows of Mamba-2's memory, which the paper calls N
WINDOW = 4  # steps that the short convolutions read
EPSILON = 1e-6


# ---- in chunks ----------------------------------------------------------------------------------------------------


def _in_chunks(x: Tensor) -> Tensor:
    """(B, T, heads, width) to (B, heads, chunks, steps, width), filled up with zeros."""
    B, T, heads, width = x.shape
    steps = min(CHUNK, T)
    more = -T % steps
    if more:
        x = torch.cat([x, x.new_zeros(B, more, heads, width)], dim=1)
    return x.view(B, (T + more) // steps, steps, heads, width).permute(0, 3, 1, 2, 4)


def _in_a_row(x: Tensor, length: int) -> Tensor:
    """(B, heads, chunks, steps, width) to (B, T, heads, width)."""
    return x.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length]


def _running(x: Tensor) -> Tensor:
    """Running sum over the last dimension: `torch.cumsum` is not deterministic on a GPU."""
    reach = 1
    while reach < x.shape[-1]:
        x = torch.cat([x[..., :reach], x[..., reach:] + x[..., :-reach]], dim=-1)
        reach *= 2
    return x


def _log_weights(total: Tensor) -> Tensor:
    """(..., t, s) the log share of what is written at s that is left at t; minus infinity where s is after t."""
    at = torch.arange(total.shape[-1], device=total.device)
    difference = total[..., :, None] - total[..., None, :]
    return difference.masked_fill(at[None, :] > at[:, None], -math.inf)


# A layer that goes on from a memory (B, heads, rows, columns) that was carried gives it as ``start``, and is told the
# one after the last step; a layer that starts from nothing is told none. What fills up the last chunk changes neither:
# it writes keys of 0 and keeps all that was there.


def _before(keep: Tensor, added: Tensor, start: Tensor | None) -> Tensor:
    """The memory (B, heads, chunks, rows, columns) before each chunk, of which each keeps a share and adds to."""
    shares, by_chunk = keep.transpose(1, 2)[:, :-1, :, None, None], widened(added).transpose(1, 2)[:, :-1]
    if start is None:
        after = scan(shares, by_chunk)
        return torch.cat([after.new_zeros(after[:, :1].shape), after], dim=1).transpose(1, 2)
    after = scan(shares, begun(shares, by_chunk, start)) if by_chunk.shape[1] else by_chunk
    return torch.cat([start[:, None], after], dim=1).transpose(1, 2)


def _after(keep: Tensor, added: Tensor, memory: Tensor) -> Tensor:
    """The memory after the last chunk, from those before each."""
    return keep[:, :, -1, None, None] * memory[:, :, -1] + added[:, :, -1]


def _decayed(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """y_t = q_t S_t with S_t = exp(decay_t) S_(t-1) + k_t v_t^T, (.., steps, width) each and (.., steps)."""
    total = _running(decay)
    y = ((q @ k.mT) * _log_weights(total).exp()) @ v
    if total.shape[2] == 1 and start is None:  # nothing was written before
        return y, None
    left = (total[..., -1:] - total).exp()[..., None]  # of what is written at each step at the end of the chunk
    keep, added = total[..., -1].exp(), (k * left).mT @ v
    memory = _before(keep, added, start)
    y = y + (q * total.exp()[..., None]) @ memory
    return y, None if start is None else _after(keep, added, memory)


def _stabilised(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, write: Tensor, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """`_decayed` with writes of weight exp(write_t), over max(|q_t n_t|, 1), n the sum of keys of the same weights.

    All exponents are taken less the largest of the steps so far, m, as the paper's equation 15 does for the sLSTM. The
    result does not depend on m, so that no gradient goes through it. A memory that is carried has n as its last column,
    is less its m, too, and comes with it.
    """
    total = _running(decay)
    logs = _log_weights(total) + write[..., None, :]
    at_end = total[..., -1:] - total + write
    with torch.no_grad():
        before, after = _maxima(total[..., -1], at_end.amax(-1), None if start is None else start[1])
        m = torch.maximum(logs.amax(-1), total + before[..., None])
    scores = (q @ k.mT) * (logs - m[..., None]).exp()
    v = torch.cat([v, v.new_ones((*v.shape[:-1], 1))], dim=-1)  # the last column is n
    y = widened(scores @ v)
    end = None
    if total.shape[2] > 1 or start is not None:
        carried = (total + before[..., None] - m).exp()[..., None]
        keep, added = (total[..., -1] + before - after).exp(), (k * (at_end - after[..., None]).exp()[..., None]).mT @ v
        memory = _before(keep, added, None if start is None else start[0])
        y = y + (q * carried) @ memory
        end = None if start is None else (_after(keep, added, memory), after[..., -1])
    return y[..., :-1] / torch.maximum(y[..., -1:].abs(), _least(m)[..., None]), end


def _least(m: Tensor) -> Tensor:
    """exp(-m), what the paper's 1 is less m, but not 0: a query of 0, as in the padding of a chunk, reads 0."""
    return (-m).exp() + torch.finfo(m.dtype).tiny


def _maxima(total: Tensor, largest: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """m before and after each chunk (B, heads, chunks), ``start`` or 0 before the first."""
    m = total.new_zeros(total.shape[:-1]) if start is None else start
    maxima = [m]
    for kept, new in zip(total.unbind(-1), largest.unbind(-1), strict=True):
        m = torch.maximum(m + kept, new)
        maxima.append(m)
    together = torch.stack(maxima, dim=-1)
    return together[..., :-1], together[..., 1:]


def _delta(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """y_t = q_t S_t, S_t = exp(decay_t) S_(t-1) + k_t w_t^T, w_t = rate_t (v_t - exp(decay_t) S_(t-1)^T k_t).

    Within a chunk the w of all steps solve one triangular system (the WY form of the paper's section 3.3).
    """
    total = _running(decay)
    weights = _log_weights(total).exp()
    rate = rate[..., None]
    system = widened(k @ k.mT) * weights * rate  # its diagonal counts as one
    scores, wanted = (q @ k.mT) * weights, rate * v
    if total.shape[2] == 1 and start is None:  # no key was there before
        alone: Tensor = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        return scores @ alone, None
    wanted = torch.cat([wanted, rate * total.exp()[..., None] * k], dim=-1)
    solved = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    new, seen = torch.split(solved, [v.shape[-1], k.shape[-1]], dim=-1)
    carried = q * total.exp()[..., None]
    left, keep = k * (total[..., -1:] - total).exp()[..., None], total[..., -1].exp()[..., None, None]
    outputs, memory = [], v.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]) if start is None else start
    parts = [part.unbind(2) for part in (new, seen, scores, carried, left, keep)]
    for new_c, seen_c, scores_c, carried_c, left_c, keep_c in zip(*parts, strict=True):
        w = new_c - seen_c @ memory
        outputs.append(scores_c @ w + carried_c @ memory)
        memory = keep_c * memory + left_c.mT @ w
    return torch.stack(outputs, dim=2), memory


# ---- parts --------------------------------------------------------------------------------------------------------


class _Shifted(torch.autograd.Function):
    """b + sum of w_j x_(t-j); by hand, since autograd would fill a tensor of zeros for every shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = torch.addcmul(bias, x, weight[-1])
        for back in range(1, min(WINDOW, x.shape[1])):
            y[:, back:].addcmul_(x[:, :-back], weight[-1 - back])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        dx, dweight = dy * weight[-1], torch.zeros_like(weight)
        dweight[-1] = (dy * x).sum((0, 1))
        for back in range(1, min(WINDOW, x.shape[1])):
            dx[:, :-back].addcmul_(dy[:, back:], weight[-1 - back])
            dweight[-1 - back] = (dy[:, back:] * x[:, :-back]).sum((0, 1))
        return dx, dweight, dy.sum((0, 1))


class _ShortConvolution(nn.Module):
    """y_t = silu(b + sum of w_j x_(t-j)) over the last 4 steps, each channel by itself; torch's own initialisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        bound = WINDOW**-0.5
        self.weight = nn.Parameter(torch.empty(WINDOW, channels).uniform_(-bound, bound))  # the oldest step first
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, channels) to the same."""
        if x.is_meta:  # it has no product to count
            return x
        mixed: Tensor = _Shifted.apply(widened(x), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return F.silu(mixed)

    def forward_from(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, channels) and the last inputs before it (B, 3, channels) to the same."""
        longer = torch.cat([cache, widened(x)], dim=1)
        mixed: Tensor = self(longer)
        return mixed[:, WINDOW - 1 :], longer[:, 1 - WINDOW :]

    def initial_state(self, batch: int) -> Tensor:
        """The inputs before the first."""
        return self.weight.new_zeros(batch, WINDOW - 1, self.weight.shape[1])

    def step(self, x_t: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """From (B, channels) and the last inputs (B, 3, channels)."""
        window = torch.cat([cache, widened(x_t)[:, None]], dim=1)
        return F.silu(self.bias + (window * self.weight).sum(1)), window[:, 1:]


def _by_head(x: Tensor) -> Tensor:
    """(..., d) to (..., heads, d / heads)."""
    return x.reshape(*x.shape[:-1], HEADS, -1)


def _root_mean_square(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` over the root of the mean of its squares (Zhang and Sennrich 2019), times ``weight``."""
    return x * (x.pow(2).mean(dim=-1, keepdim=True) + EPSILON).pow(-0.5) * weight


@torch.no_grad()
def _start_decays(bias: nn.Parameter, log_rate: nn.Parameter) -> None:
    """Step sizes softplus(bias) between .001 and .1, even in their logarithm; rates even between 1 and 16."""
    if starts(bias, log_rate):
        size = torch.exp(torch.rand(bias.shape) * math.log(100.0) + math.log(0.001))
        bias.copy_(size + torch.log(-torch.expm1(-size)))
        log_rate.copy_((1 + 15 * torch.rand(log_rate.shape)).log())


# ---- the layers ---------------------------------------------------------------------------------------------------


@register_model("mamba2")
class Mamba2(Mixer):
    """Mamba-2: a memory of 32 rows that decays by one factor per head and step, between short convolution and gate.

    z, x, B, C, dt = W u; x, B and C through a causal convolution of 4 steps and silu; with dt = softplus(dt + bias)
    S_t = exp(-dt exp(A)) S_(t-1) + B_t (dt x_t)^T, y_t = C_t S_t + D x_t; output V norm(y silu(z)). Inside it is 2
    d_out wide, as in the paper, in 4 heads that share B and C; the paper's memory has 64 rows or more. Initialisation,
    as in its code: exp(A) uniform between 1 and 16, dt between .001 and .1, D and the norm's weights 1, the rest
    torch's own.
    """

    width_multiple = 2
    carries = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not
        self.inner = 2 * d_out
        self.enter = nn.Linear(d_in, 2 * self.inner + 2 * STATE + HEADS, bias=False)
        self.convolution = _ShortConvolution(self.inner + 2 * STATE)
        self.step_size, self.log_rate = (nn.Parameter(torch.empty(HEADS)) for _ in range(2))
        _start_decays(self.step_size, self.log_rate)
        self.through = nn.Parameter(torch.ones(HEADS, 1))
        self.scale = nn.Parameter(torch.ones(self.inner))
        self.leave = nn.Linear(self.inner, d_out, bias=False)

    def _split(self, u: Tensor) -> tuple[Tensor, ...]:
        """The gate, what the convolution reads, and the step sizes."""
        return torch.split(self.enter(u), [self.inner, self.inner + 2 * STATE, HEADS], dim=-1)

    def _parts(self, mixed: Tensor, dt: Tensor) -> tuple[Tensor, ...]:
        """x (..., heads, width), B and C (..., rows), the step sizes and the log decays (..., heads)."""
        x, b, c = torch.split(mixed, [self.inner, STATE, STATE], dim=-1)
        size = F.softplus(widened(dt) + self.step_size)
        return _by_head(x), b, c, size, -size * self.log_rate.exp()

    def _leave(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        read = (y + self.through * x).flatten(-2)
        output: Tensor = self.leave(_root_mean_square(read * F.silu(z), self.scale))
        return output

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # padding comes after the real steps and can't reach them
        z, mixed, dt = self._split(x)
        return self._over(z, self.convolution(mixed), dt)[0]

    def forward_from(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        z, mixed, dt = self._split(x)
        mixed, cache = self.convolution.forward_from(mixed, state[1])
        y, memory = self._over(z, mixed, dt, state[0])
        return y, (memory, cache)

    def _over(self, z: Tensor, mixed: Tensor, dt: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, b, c, size, decay = self._parts(mixed, dt)
        b, c = (_in_chunks(part[:, :, None]) for part in (b, c))
        y, after = _decayed(c, b, _in_chunks(x * size[..., None]), _in_chunks(decay[..., None])[..., 0], start)
        return self._leave(_in_a_row(y, x.shape[1]), x, z), after

    def state_size(self, length: int) -> int:
        return STATE * self.inner + (WINDOW - 1) * (self.inner + 2 * STATE)

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        memory = self.scale.new_zeros(batch, HEADS, STATE, self.inner // HEADS)
        return memory, self.convolution.initial_state(batch)

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        memory, cache = state
        z, mixed, dt = self._split(x_t)
        mixed, cache = self.convolution.step(mixed, cache)
        x, b, c, size, decay = self._parts(mixed, dt)
        written = b[:, None, :, None] * (x * size[..., None])[:, :, None]
        memory = decay.exp()[..., None, None] * memory + written
        y = (c[:, None, None] @ memory)[:, :, 0]
        return self._leave(y, x, z), (memory, cache)


@register_model("mlstm")
class MLSTM(Mixer):
    """xLSTM's mLSTM: a matrix memory with exponential input gates, normalised and stabilised.

    Equations 19 to 27 of the paper: C_t = f_t C_(t-1) + i_t v_t k_t^T, n_t = f_t n_(t-1) + i_t k_t,
    h_t = o_t norm(C_t q_t / max(|n_t q_t|, 1)), i = exp and f = sigmoid of one linear map of x_t per head, o = sigmoid
    of one per unit, in 4 heads; the norm is that of each head, as in the paper's block, whose projections, convolution
    and second gate are left out. Initialisation, as in its code: the gates of a head see nothing yet, biases of f from
    3 to 6 over the heads, of i normal with deviation .1; the rest torch's own.
    """

    width_multiple = 2 * HEADS  # one unit a head could not be normalised
    carries = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)
        self.map = nn.Linear(d_in, 4 * d_out)  # q, k, v, o
        self.gates = nn.Linear(d_in, 2 * HEADS)  # i, f
        self.scale = nn.Parameter(torch.ones(d_out))
        if starts(*self.parameters()):
            with torch.no_grad():
                self.gates.weight.zero_()
                self.gates.bias[:HEADS].normal_(std=0.1)
                self.gates.bias[HEADS:].copy_(torch.linspace(3.0, 6.0, HEADS))

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """q, k and v (..., heads, width), o (..., d_out), log i and log f (..., heads)."""
        q, k, v, o = widened(self.map(x)).chunk(4, dim=-1)
        q, k, v = (_by_head(part) for part in (q, k, v))
        i, f = widened(self.gates(x)).chunk(2, dim=-1)
        return q, k * k.shape[-1] ** -0.5, v, torch.sigmoid(o), i, -F.softplus(-f)

    def _leave(self, h: Tensor, o: Tensor) -> Tensor:
        return o * (F.layer_norm(h, h.shape[-1:]).flatten(-2) * self.scale)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._over(x)[0]

    def forward_from(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Any]:
        c, n, m = state
        y, end = self._over(x, (torch.cat([c, n[..., None]], dim=-1), m))
        assert end is not None
        return y, (end[0][..., :-1], end[0][..., -1], end[1])

    def _over(
        self, x: Tensor, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        q, k, v, o, i, f = self._parts(x)
        i, f = (_in_chunks(gate[..., None])[..., 0] for gate in (i, f))
        h, end = _stabilised(_in_chunks(q), _in_chunks(k), _in_chunks(v), f, i, start)
        return self._leave(_in_a_row(h, x.shape[1]), o), end

    def state_size(self, length: int) -> int:
        head = self.d_out // HEADS
        return HEADS * (head * head + head + 1)  # C, n and m of each

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        head = self.d_out // HEADS
        zeros = self.scale.new_zeros(batch, HEADS, head * head + head + 1)
        c, n, m = torch.split(zeros, [head * head, head, 1], dim=-1)
        return c.reshape(batch, HEADS, head, head), n, m[..., 0]

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        c, n, m = state
        q, k, v, o, i, f = self._parts(x_t)
        most = torch.maximum(f + m, i)
        keep, add = (f + m - most).exp()[..., None], (i - most).exp()[..., None]
        n = keep * n + add * k
        c = keep[..., None] * c + (add * k)[..., None] * v[:, :, None]
        size = torch.maximum((q * n).sum(-1).abs(), _least(most))
        h = (q[:, :, None] @ c)[:, :, 0] / size[..., None]
        return self._leave(h, o), (c, n, most)


@register_model("deltanet", aliases=("gated-deltanet",))
class GatedDeltaNet(Mixer):
    """Gated DeltaNet: a matrix memory that decays and in which a write replaces what its key held.

    q, k, v = linear maps of x through a causal convolution of 4 steps and silu, q and k of length 1;
    S_t = a_t S_(t-1) (I - b_t k_t k_t^T) + b_t v_t k_t^T, a = exp(-exp(A) softplus(w x + bias)), b = sigmoid(w' x),
    output V (norm(S_t q_t) silu(W x)), in 4 heads, the norm that of each head. Keys and values are as wide as a head,
    where the paper has values of twice the width. Initialisation: A, bias and norm as in Mamba-2, the rest torch's own.
    """

    width_multiple = 2 * HEADS
    carries = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)
        self.enter = nn.Linear(d_in, 4 * d_out + 2 * HEADS, bias=False)  # q, k, v, gate, then a and b
        self.convolution = _ShortConvolution(3 * d_out)
        self.step_size, self.log_rate = (nn.Parameter(torch.empty(HEADS)) for _ in range(2))
        _start_decays(self.step_size, self.log_rate)
        self.scale = nn.Parameter(torch.ones(d_out // HEADS))
        self.leave = nn.Linear(d_out, d_out, bias=False)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the convolution reads, the output's gate, and what decides log decays and rates."""
        return torch.split(self.enter(x), [3 * self.d_out, self.d_out, 2 * HEADS], dim=-1)

    def _parts(self, mixed: Tensor, gates: Tensor) -> tuple[Tensor, ...]:
        """q, k and v (..., heads, width), log decays and rates (..., heads)."""
        q, k, v = (_by_head(part) for part in mixed.chunk(3, dim=-1))
        q, k = (part * (part.pow(2).sum(dim=-1, keepdim=True) + EPSILON).pow(-0.5) for part in (q, k))
        a, b = widened(gates).chunk(2, dim=-1)
        return q, k, v, -self.log_rate.exp() * F.softplus(a + self.step_size), torch.sigmoid(b)

    def _leave(self, y: Tensor, gate: Tensor) -> Tensor:
        output: Tensor = self.leave(_root_mean_square(y, self.scale).flatten(-2) * F.silu(gate))
        return output

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        mixed, gate, gates = self._split(x)
        return self._over(self.convolution(mixed), gate, gates)[0]

    def forward_from(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        mixed, gate, gates = self._split(x)
        mixed, cache = self.convolution.forward_from(mixed, state[1])
        y, memory = self._over(mixed, gate, gates, state[0])
        return y, (memory, cache)

    def _over(
        self, mixed: Tensor, gate: Tensor, gates: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v, decay, rate = self._parts(mixed, gates)
        decay, rate = (_in_chunks(part[..., None])[..., 0] for part in (decay, rate))
        y, after = _delta(_in_chunks(q), _in_chunks(k), _in_chunks(v), decay, rate, start)
        return self._leave(_in_a_row(y, mixed.shape[1]), gate), after

    def state_size(self, length: int) -> int:
        return self.d_out * (self.d_out // HEADS) + 3 * (WINDOW - 1) * self.d_out

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        head = self.d_out // HEADS
        return self.scale.new_zeros(batch, HEADS, head, head), self.convolution.initial_state(batch)

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        memory, cache = state
        mixed, gate, gates = self._split(x_t)
        mixed, cache = self.convolution.step(mixed, cache)
        q, k, v, decay, rate = self._parts(mixed, gates)
        kept = decay.exp()[..., None, None] * memory
        w = rate[..., None] * (v - (k[:, :, None] @ kept)[:, :, 0])
        memory = kept + k[..., None] * w[:, :, None]
        return self._leave((q[:, :, None] @ memory)[:, :, 0], gate), (memory, cache)

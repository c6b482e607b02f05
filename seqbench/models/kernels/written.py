"""The cells in torch, with the backward pass by hand: for every device and number type, and where nothing is built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqbench.models.kernels.sequence import Stretch

__all__ = ["Written"]


class Written:
    """The engine in torch. What needs no recurrence is computed for all steps at once."""

    name = "written"
    cached_bytes = 2**40  # all steps in one call: each call costs more than the cache saves

    def multiple(self, dtype: torch.dtype) -> int:
        """Any width will do."""
        return 1

    def pack(self, weights: Tensor) -> Tensor:
        """(N, K) to (K, N)."""
        return weights.t().contiguous()

    def forward(self, stretch: Stretch) -> None:
        """Fill the states and gates of ``stretch``."""
        if stretch.table is not None and stretch.symbols is not None:
            torch.index_select(stretch.table, 0, stretch.symbols.flatten(), out=stretch.gates.flatten(0, 1))
        FORWARD[stretch.cell](stretch)

    def backward(self, stretch: Stretch) -> None:
        """Fill the gradients of the gates of ``stretch``, and take the carried ones to its beginning."""
        BACKWARD[stretch.cell](stretch)

    def scatter(self, sums: Tensor, symbols: Tensor, rows: Tensor) -> None:
        """Add each of ``rows`` (n, N) to the row of ``sums`` (symbols, N) that its symbol names."""
        if len(sums) <= 256:  # as a product, which is fast everywhere
            chosen = torch.nn.functional.one_hot(symbols, len(sums)).to(rows.dtype)
            sums.addmm_(chosen.t(), rows)
        else:
            sums.index_add_(0, symbols, rows)


def _parts(gates: Tensor, width: int) -> list[Tensor]:
    """The gates that lie side by side in the last dimension."""
    return [gates[..., at : at + width] for at in range(0, gates.shape[-1], width)]


def _order(stretch: Stretch) -> range:
    """Indices of the steps as they are run."""
    steps = range(len(stretch.h))
    return steps if stretch.order > 0 else steps[::-1]


def _ended(stretch: Stretch) -> list[Tensor] | None:
    """For each step, in the order of memory, (batch, 1) true where it is padding that is run before the real steps."""
    if stretch.lengths is None:
        return None
    lo = stretch.first - len(stretch.h) + 1
    steps = torch.arange(lo, stretch.first + 1, device=stretch.h.device)
    return list((steps[:, None] >= stretch.lengths).unsqueeze(2).unbind(0))


def _rnn_forward(s: Stretch) -> None:
    gates, h, before, ended = s.gates.unbind(0), s.h.unbind(0), s.h0, _ended(s)
    for t in _order(s):
        torch.addmm(gates[t], before, s.packed, out=h[t]).tanh_()
        if ended:
            h[t].masked_fill_(ended[t], 0.0)
        before = h[t]


def _rnn_backward(s: Stretch) -> None:
    assert s.dh is not None and s.dgates is not None and s.d is not None
    slope = torch.addcmul(torch.ones((), dtype=s.h.dtype, device=s.h.device), s.h, s.h, value=-1)
    _zero_ended(s, slope)
    dh, dgates, slopes = s.dh.unbind(0), s.dgates.unbind(0), slope.unbind(0)
    for t in reversed(_order(s)):
        torch.add(s.d, dh[t], out=dgates[t]).mul_(slopes[t])
        torch.mm(dgates[t], s.packed, out=s.d)


def _zero_ended(s: Stretch, *slopes: Tensor) -> None:
    """No gradient through the padding that is run before the real steps."""
    ended = _ended(s)
    for slope in slopes if ended else ():
        slope.masked_fill_(torch.stack(ended or []), 0.0)


def _lstm_forward(s: Stretch) -> None:
    assert s.c is not None
    H = s.h.shape[2]
    gates, h, c, ended = s.gates.unbind(0), s.h.unbind(0), s.c.unbind(0), _ended(s)
    gi, gf, gu, go = (part.unbind(0) for part in _parts(s.gates, H))
    both = s.gates[:, :, : 2 * H].unbind(0)
    pi, pf, po = (None, None, None) if s.bias is None else _parts(s.bias, H)
    before, cell = s.h0, s.c0
    for t in _order(s):
        torch.addmm(gates[t], before, s.packed, out=gates[t])
        if pi is not None and pf is not None:
            gi[t].addcmul_(pi, cell)
            gf[t].addcmul_(pf, cell)
        both[t].sigmoid_()
        torch.mul(gi[t], gu[t].tanh_(), out=c[t]).addcmul_(gf[t], cell)
        if po is not None:
            go[t].addcmul_(po, c[t])
        if ended:
            c[t].masked_fill_(ended[t], 0.0)
        torch.tanh(c[t], out=h[t]).mul_(go[t].sigmoid_())
        before, cell = h[t], c[t]


def _lstm_backward(s: Stretch) -> None:
    assert s.c is not None and s.dh is not None and s.dgates is not None and s.d is not None and s.dc is not None
    H = s.h.shape[2]
    i, f, u, o = _parts(s.gates, H)
    cells = torch.cat([s.c[1:], s.c0[None]] if s.order < 0 else [s.c0[None], s.c[:-1]])
    th = s.c.tanh()
    # what each gradient is multiplied by, all steps at once: of the cell for i, f and u, of the state for o
    slope_i, slope_f, slope_u = u * i * (1 - i), cells * f * (1 - f), i * (1 - u * u)
    slope_o, through, keep = th * o * (1 - o), o * (1 - th * th), f.clone()
    _zero_ended(s, slope_i, slope_f, slope_u, slope_o, through, keep)
    pi, pf, po = (None, None, None) if s.bias is None else _parts(s.bias, H)
    rows = [x.unbind(0) for x in (s.dh, s.dgates, slope_i, slope_f, slope_u, slope_o, through, keep)]
    di, df, du, do = (part.unbind(0) for part in _parts(s.dgates, H))
    for t in reversed(_order(s)):
        dh, dgates, ki, kf, ku, ko, a, k = (row[t] for row in rows)
        d = s.d.add_(dh)
        torch.mul(d, ko, out=do[t])
        dc = s.dc.addcmul_(d, a)
        if po is not None:
            dc.addcmul_(do[t], po)
        torch.mul(dc, ki, out=di[t])
        torch.mul(dc, kf, out=df[t])
        torch.mul(dc, ku, out=du[t])
        dc.mul_(k)
        if pi is not None and pf is not None:
            dc.addcmul_(di[t], pi).addcmul_(df[t], pf)
        torch.mm(dgates, s.packed, out=s.d)


def _gru_forward(s: Stretch) -> None:
    assert s.extra is not None and s.bias is not None
    H, ended = s.h.shape[2], _ended(s)
    n, _, z = (part.unbind(0) for part in _parts(s.gates, H))
    r, rz = s.gates[:, :, H : 2 * H].unbind(0), s.gates[:, :, H:].unbind(0)
    m, h, before = s.extra.unbind(0), s.h.unbind(0), s.h0
    for_gates, for_candidate = s.packed[:, : 2 * H].contiguous(), s.packed[:, 2 * H :].contiguous()
    for t in _order(s):
        torch.addmm(rz[t], before, for_gates, out=rz[t]).sigmoid_()
        torch.addmm(s.bias, before, for_candidate, out=m[t])
        n[t].addcmul_(r[t], m[t]).tanh_()
        torch.lerp(n[t], before, z[t], out=h[t])
        if ended:
            h[t].masked_fill_(ended[t], 0.0)
        before = h[t]


def _gru_backward(s: Stretch) -> None:
    assert s.extra is not None and s.dh is not None and s.dgates is not None and s.d is not None
    H = s.h.shape[2]
    n, r, z = _parts(s.gates, H)
    before = torch.cat([s.h[1:], s.h0[None]] if s.order < 0 else [s.h0[None], s.h[:-1]])
    slopes = torch.empty_like(s.dgates).view(*s.h.shape[:2], 4, H)  # of n, r, z and U_n h + b
    slope_n = torch.mul(1 - z, 1 - n * n, out=slopes[:, :, 0])
    torch.mul(slope_n * s.extra, r * (1 - r), out=slopes[:, :, 1])
    torch.mul(before - n, z * (1 - z), out=slopes[:, :, 2])
    torch.mul(slope_n, r, out=slopes[:, :, 3])
    keep = z.clone()
    _zero_ended(s, slopes.flatten(2), keep)
    rows = [x.unbind(0) for x in (s.dh, s.dgates.view(*s.h.shape[:2], 4, H), s.dgates[:, :, H:], slopes, keep)]
    for t in reversed(_order(s)):
        dh, dgates, back, k, kept = (row[t] for row in rows)
        d = s.d.add_(dh)
        torch.mul(d[:, None], k, out=dgates)
        torch.addmm(d.mul_(kept), back, s.packed, out=s.d)


Step = Callable[[Stretch], None]
FORWARD: dict[str, Step] = {"rnn": _rnn_forward, "lstm": _lstm_forward, "gru": _gru_forward}
BACKWARD: dict[str, Step] = {"rnn": _rnn_backward, "lstm": _lstm_backward, "gru": _gru_backward}

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


def _kept(s: Stretch, keeps: Tensor | None, share: float) -> Tensor | None:
    """The share of its last value that each unit keeps at each step, to broadcast with (steps, batch, width); or None.

    With 0 and 1 `torch.lerp` gives the new value or the last one to the last bit.
    """
    if keeps is not None:
        return keeps.to(s.h.dtype)
    return s.h.new_full((len(s.h), 1, 1), share) if share > 0 else None


def _seen(s: Stretch, before: Tensor) -> Tensor:
    """The state as the recurrent product reads it."""
    return before if s.seen is None else torch.mul(before, s.seen, out=s.spare)


def _carry(s: Stretch, dgates: Tensor, kept: Tensor | None) -> None:
    """To ``d``, which is carried to the step before: through the recurrent product, and what is ``kept`` beside it."""
    assert s.d is not None
    if s.seen is not None:
        through = torch.mm(dgates, s.packed, out=s.spare).mul_(s.seen)
        s.d.copy_(through) if kept is None else torch.add(through, kept, out=s.d)
    elif kept is not None:
        torch.addmm(kept, dgates, s.packed, out=s.d)
    else:
        torch.mm(dgates, s.packed, out=s.d)


def _rnn_forward(s: Stretch) -> None:
    gates, h, before, ended = s.gates.unbind(0), s.h.unbind(0), s.h0, _ended(s)
    kept = _kept(s, s.keeps_h, s.share_h)
    for t in _order(s):
        new = torch.addmm(gates[t], _seen(s, before), s.packed, out=h[t] if kept is None else gates[t]).tanh_()
        if kept is not None:
            torch.lerp(new, before, kept[t], out=h[t])
        if ended:
            h[t].masked_fill_(ended[t], 0.0)
        before = h[t]


def _rnn_backward(s: Stretch) -> None:
    assert s.dh is not None and s.dgates is not None and s.d is not None
    kept = _kept(s, s.keeps_h, s.share_h)
    new = s.h if kept is None else s.gates
    slope = torch.addcmul(torch.ones((), dtype=s.h.dtype, device=s.h.device), new, new, value=-1)
    if kept is not None:
        slope.mul_(1 - kept)
        kept = kept.expand_as(slope).clone()
        _zero_ended(s, kept)
    _zero_ended(s, slope)
    dh, dgates, slopes = s.dh.unbind(0), s.dgates.unbind(0), slope.unbind(0)
    for t in reversed(_order(s)):
        d = torch.add(s.d, dh[t], out=dgates[t])
        rest = None if kept is None else d * kept[t]
        d.mul_(slopes[t])
        _carry(s, d, rest)


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
    kept_h, kept_c = _kept(s, s.keeps_h, s.share_h), _kept(s, s.keeps_c, s.share_c)
    for t in _order(s):
        torch.addmm(gates[t], _seen(s, before), s.packed, out=gates[t])
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
        if kept_h is not None:
            torch.lerp(h[t], before, kept_h[t], out=h[t])
        if kept_c is not None:
            torch.lerp(c[t], cell, kept_c[t], out=c[t])
        before, cell = h[t], c[t]


def _lstm_backward(s: Stretch) -> None:
    assert s.c is not None and s.dh is not None and s.dgates is not None and s.d is not None and s.dc is not None
    H = s.h.shape[2]
    i, f, u, o = _parts(s.gates, H)
    cells = torch.cat([s.c[1:], s.c0[None]] if s.order < 0 else [s.c0[None], s.c[:-1]])
    kept_h, kept_c = _kept(s, s.keeps_h, s.share_h), _kept(s, s.keeps_c, s.share_c)
    # not the cell that was kept, but the one that the state came from
    th = (s.c if kept_c is None else torch.addcmul(f * cells, i, u)).tanh()
    # what each gradient is multiplied by, all steps at once: of the cell for i, f and u, of the state for o
    slope_i, slope_f, slope_u = u * i * (1 - i), cells * f * (1 - f), i * (1 - u * u)
    slope_o, through, keep = th * o * (1 - o), o * (1 - th * th), f.clone()
    kept_h, kept_c = (None if kept is None else kept.expand_as(th).clone() for kept in (kept_h, kept_c))
    if kept_h is not None:  # of what comes from outside and from the step after, only the new state hands on
        slope_o, through = slope_o * (1 - kept_h), through * (1 - kept_h)
    _zero_ended(s, slope_i, slope_f, slope_u, slope_o, through, keep, *(k for k in (kept_h, kept_c) if k is not None))
    pi, pf, po = (None, None, None) if s.bias is None else _parts(s.bias, H)
    rows = [x.unbind(0) for x in (s.dh, s.dgates, slope_i, slope_f, slope_u, slope_o, through, keep)]
    di, df, du, do = (part.unbind(0) for part in _parts(s.dgates, H))
    for t in reversed(_order(s)):
        dh, dgates, ki, kf, ku, ko, a, k = (row[t] for row in rows)
        d = s.d.add_(dh)
        torch.mul(d, ko, out=do[t])
        below = None if kept_c is None else s.dc * kept_c[t]  # past the step
        dc = (s.dc if below is None else s.dc.sub_(below)).addcmul_(d, a)
        if po is not None:
            dc.addcmul_(do[t], po)
        torch.mul(dc, ki, out=di[t])
        torch.mul(dc, kf, out=df[t])
        torch.mul(dc, ku, out=du[t])
        dc.mul_(k)
        if pi is not None and pf is not None:
            dc.addcmul_(di[t], pi).addcmul_(df[t], pf)
        if below is not None:
            dc.add_(below)
        _carry(s, dgates, None if kept_h is None else d * kept_h[t])


def _gru_forward(s: Stretch) -> None:
    assert s.extra is not None and s.bias is not None
    H, ended = s.h.shape[2], _ended(s)
    n, _, z = (part.unbind(0) for part in _parts(s.gates, H))
    r, rz = s.gates[:, :, H : 2 * H].unbind(0), s.gates[:, :, H:].unbind(0)
    m, h, before = s.extra.unbind(0), s.h.unbind(0), s.h0
    for_gates, for_candidate = s.packed[:, : 2 * H].contiguous(), s.packed[:, 2 * H :].contiguous()
    kept = _kept(s, s.keeps_h, s.share_h)
    for t in _order(s):
        seen = _seen(s, before)
        torch.addmm(rz[t], seen, for_gates, out=rz[t]).sigmoid_()
        torch.addmm(s.bias, seen, for_candidate, out=m[t])
        n[t].addcmul_(r[t], m[t]).tanh_()
        torch.lerp(n[t], before, z[t], out=h[t])
        if kept is not None:
            torch.lerp(h[t], before, kept[t], out=h[t])
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
    keep, kept = z.clone(), _kept(s, s.keeps_h, s.share_h)
    if kept is not None:
        slopes.mul_((1 - kept)[:, :, None])
        keep = keep * (1 - kept) + kept
    _zero_ended(s, slopes.flatten(2), keep)
    rows = [x.unbind(0) for x in (s.dh, s.dgates.view(*s.h.shape[:2], 4, H), s.dgates[:, :, H:], slopes, keep)]
    for t in reversed(_order(s)):
        dh, dgates, back, k, share = (row[t] for row in rows)
        d = s.d.add_(dh)
        torch.mul(d[:, None], k, out=dgates)
        _carry(s, back, d.mul_(share))


Step = Callable[[Stretch], None]
FORWARD: dict[str, Step] = {"rnn": _rnn_forward, "lstm": _lstm_forward, "gru": _gru_forward}
BACKWARD: dict[str, Step] = {"rnn": _rnn_backward, "lstm": _lstm_backward, "gru": _gru_backward}

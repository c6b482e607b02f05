"""A recurrent layer over a whole sequence, with a backward pass written by hand (backpropagation through time; Werbos
1990), for engines that run some steps of a cell: `compiled.Compiled` in C and `written.Written` in torch.

Inside, step comes before batch. The gradients of weights are products over many steps at once, beside the recurrence
and right after it, while the gradients of the gates that it left are in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["GATES", "Engine", "Masks", "Plan", "Stretch", "states_and_cell"]

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
BACK = {"gru": 4}  # gates whose gradients are told apart, where that is more


@dataclass
class Stretch:
    """Consecutive steps of a cell. Arrays by step are in the order of memory, (steps, batch, ...).

    Attributes:
        cell: rnn, lstm or gru.
        order: 1 if the steps are run as they lie, -1 if from the last to the first.
        first: index in the whole sequence of the step that is run first.
        lengths: (batch,) real steps of rows that are read from the last step on: until then their state stays 0.
        gates: pre-activations, then gates: rnn one, lstm i f g o, gru n r z, side by side.
        table, symbols: the pre-activations of each symbol, and the symbols by step, in place of those in ``gates``.
        packed: recurrent weights, from `Engine.pack`; those of the backward pass in `Engine.backward`.
        bias: gru: (width,) of the candidate's recurrent part; lstm: None or (3 width,) peepholes of i, f and o.
        h0, c0: states before the step that is run first.
        h, c, extra: states, and of the gru U_n h + b.
        dh: gradients of ``h`` from outside.
        dgates: gradients of the pre-activations, of the gru n, r, z and U_n h + b.
        d, dc: gradients of the states that are carried to the steps that were run before.
        seen, keeps_h, keeps_c, share_h, share_c: as `Masks` has them, of these steps.
        spare: (batch, width) for the engine's own use, where there is ``seen``.
    """

    cell: str
    order: int
    first: int
    lengths: Tensor | None
    gates: Tensor
    packed: Tensor
    bias: Tensor | None
    h0: Tensor
    c0: Tensor
    h: Tensor
    c: Tensor | None
    extra: Tensor | None
    table: Tensor | None = None
    symbols: Tensor | None = None
    dh: Tensor | None = None
    dgates: Tensor | None = None
    d: Tensor | None = None
    dc: Tensor | None = None
    seen: Tensor | None = None
    spare: Tensor | None = None
    keeps_h: Tensor | None = None
    keeps_c: Tensor | None = None
    share_h: float = 0.0
    share_c: float = 0.0


class Engine(Protocol):
    """What runs a cell for some steps."""

    @property
    def name(self) -> str:
        """As records hold it."""

    @property
    def cached_bytes(self) -> int:
        """What the steps of one call should write at most."""

    def multiple(self, dtype: torch.dtype) -> int:
        """What the width must be a multiple of."""

    def pack(self, weights: Tensor) -> Tensor:
        """(N, K) weights as it wants them for products with (.., K)."""

    def forward(self, stretch: Stretch) -> None:
        """Fill ``gates``, ``h``, ``c`` and ``extra``."""

    def backward(self, stretch: Stretch) -> None:
        """Fill ``dgates``; ``d`` and ``dc`` come from the steps after and go to those before."""

    def scatter(self, sums: Tensor, symbols: Tensor, rows: Tensor) -> None:
        """Add each of ``rows`` (n, N) to the row of ``sums`` (symbols, N) that its symbol names."""


@dataclass(frozen=True)
class Masks:
    """What regularises a layer in one pass over a batch; by default nothing does.

    Attributes:
        seen: recurrent dropout (Gal and Ghahramani 2016): (B, H) factors of the state as the recurrent product reads
            it, the same at all steps.
        keeps_h, keeps_c: zoneout (Krueger et al. 2016): (T, B, H) true where a unit keeps its last state or cell.
        share_h, share_c: where these are None, the share of its last state and cell that every unit keeps, beside
            1 - share of the new one: what zoneout gives on average.
    """

    seen: Tensor | None = None
    keeps_h: Tensor | None = None
    keeps_c: Tensor | None = None
    share_h: float = 0.0
    share_c: float = 0.0

    @property
    def zoned(self) -> bool:
        """Whether a state is anything but the new one."""
        return self.keeps_h is not None or self.keeps_c is not None or self.share_h > 0 or self.share_c > 0

    def padded(self, width: int) -> Masks:
        """For units up to ``width``; those that are added are 0 at all steps, whatever they keep."""

        def wide(mask: Tensor | None) -> Tensor | None:
            if mask is None or mask.shape[-1] == width:
                return mask
            return torch.nn.functional.pad(mask, (0, width - mask.shape[-1]))

        return replace(self, seen=wide(self.seen), keeps_h=wide(self.keeps_h), keeps_c=wide(self.keeps_c))


@dataclass(frozen=True)
class Plan:
    """How a layer is run; all that is not differentiated.

    ``symbols`` (T, B): then the inputs are a table (symbols, gates x width) of pre-activations, biases included.
    ``start``: states and cells (B, width) before the first step, which no gradient reaches; 0 by default.
    """

    engine: Engine
    cell: str
    reverse: bool = False
    lengths: Tensor | None = None
    symbols: Tensor | None = None
    masks: Masks = Masks()  # as wide as the padded weights
    start: tuple[Tensor, Tensor] | None = None  # as wide, too


def states_and_cell(
    plan: Plan, inputs: Tensor, weights: Tensor | None, bias: Tensor | None, recurrent: Tensor, extra: Tensor | None
) -> tuple[Tensor, Tensor]:
    """States (T, B, H), and the cell (B, H) after the step that is run last, without a gradient; empty without cells.

    Args:
        plan: what to run.
        inputs: (T, B, D), or a table where ``plan.symbols`` are given.
        weights: (gates x H, D), of the gru in the order n, r, z; None with a table.
        bias: (gates x H,); None with a table.
        recurrent: (gates x H, H), of the gru in the order r, z, n.
        extra: gru: (H,) bias of U_n h; lstm: peepholes (3 H,) or None.
    """
    both: tuple[Tensor, Tensor] = _Sequence.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        plan, torch.is_grad_enabled(), inputs, weights, bias, recurrent, extra
    )
    return both


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        tracked: bool,
        inputs: Tensor,
        weights: Tensor | None,
        bias: Tensor | None,
        recurrent: Tensor,
        extra: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        kept = tracked and any(ctx.needs_input_grad)
        layer = _Layer(plan, inputs, recurrent, extra)
        layer.allocate(inputs, kept=kept)
        packed = plan.engine.pack(recurrent)
        for lo, hi in layer.chunks():
            stretch = layer.stretch(lo, hi, packed)
            if weights is not None and bias is not None:
                torch.addmm(bias, inputs[lo:hi].flatten(0, 1), weights.t(), out=stretch.gates.flatten(0, 1))
            else:
                stretch.table = inputs
            plan.engine.forward(stretch)
        if kept:
            # all through here: an output that the context itself held would hold the context, and neither would go
            ctx.plan = plan
            ctx.save_for_backward(inputs, weights, recurrent, extra, layer.h, layer.c, layer.m, layer.gates)
        cell = layer.h.new_empty(0) if layer.c is None else layer.c[0 if plan.reverse else -1].clone()
        ctx.mark_non_differentiable(cell)
        return layer.h, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weights, recurrent, extra, *kept = ctx.saved_tensors
        plan: Plan = ctx.plan
        layer, dh = _Layer(plan, inputs, recurrent, extra), dh.contiguous()
        layer.h, layer.c, layer.m, layer.gates = kept
        sums = _Sums(layer, inputs, weights, recurrent, wanted=ctx.needs_input_grad[2])
        packed = plan.engine.pack(recurrent.t())
        d, dc = layer.zeros.clone(), layer.zeros.clone()
        dgates = dh.new_empty(layer.chunk, layer.batch, BACK.get(plan.cell, layer.gates_wide) * layer.width)
        for lo, hi in reversed(layer.chunks()):
            stretch = layer.stretch(lo, hi, packed)
            stretch.dh, stretch.dgates, stretch.d, stretch.dc = dh[lo:hi], dgates[: hi - lo], d, dc
            plan.engine.backward(stretch)
            sums.add(stretch, lo, hi)
        return None, None, sums.inputs, sums.weights, sums.bias, sums.recurrent, sums.extra


class _Layer:
    """The states and gates of all steps, cut into stretches."""

    h: Tensor
    c: Tensor | None
    m: Tensor | None
    gates: Tensor

    def __init__(self, plan: Plan, inputs: Tensor, recurrent: Tensor, extra: Tensor | None) -> None:
        self.plan, self.bias = plan, extra
        self.width, self.gates_wide = recurrent.shape[1], GATES[plan.cell]
        self.steps, self.batch = (inputs if plan.symbols is None else plan.symbols).shape[:2]
        columns = inputs.shape[2] if plan.symbols is None else 0
        written = (BACK.get(plan.cell, self.gates_wide) + 2) * self.width + columns  # numbers a step and row
        most = plan.engine.cached_bytes // (inputs.element_size() * max(1, self.batch) * written)
        self.chunk = max(1, min(self.steps, most))
        self.zeros = inputs.new_zeros(self.batch, self.width)
        self.h0, self.c0 = plan.start or (self.zeros, self.zeros)
        self.spare = torch.empty_like(self.zeros) if plan.masks.seen is not None else self.zeros

    def allocate(self, inputs: Tensor, *, kept: bool) -> None:
        """Room for a forward pass; of the gates for one stretch only, where no backward pass reads them."""
        self.h = inputs.new_empty(self.steps, self.batch, self.width)
        self.c = torch.empty_like(self.h) if self.plan.cell == "lstm" else None
        self.m = torch.empty_like(self.h) if self.plan.cell == "gru" else None
        # the gate of a plain RNN is its state, so it need not be kept
        whole = kept and (self.plan.cell != "rnn" or self.plan.masks.zoned)
        self.gates = inputs.new_empty(self.steps if whole else self.chunk, self.batch, self.gates_wide * self.width)

    def chunks(self) -> list[tuple[int, int]]:
        """Steps lo to hi of each stretch, in the order in which they are run."""
        bounds = [(lo, min(lo + self.chunk, self.steps)) for lo in range(0, self.steps, self.chunk)]
        return bounds[::-1] if self.plan.reverse else bounds

    def stretch(self, lo: int, hi: int, packed: Tensor) -> Stretch:
        """Steps ``lo`` to ``hi``."""
        reverse, masks = self.plan.reverse, self.plan.masks
        before = hi if reverse else lo - 1  # the step whose states come before
        inside = 0 <= before < self.steps
        return Stretch(
            cell=self.plan.cell,
            order=-1 if reverse else 1,
            first=hi - 1 if reverse else lo,
            lengths=self.plan.lengths if reverse else None,
            gates=self.gates[lo:hi] if len(self.gates) == self.steps else self.gates[: hi - lo],
            packed=packed,
            bias=self.bias,
            h0=self.h[before] if inside else self.h0,
            c0=self.c[before] if inside and self.c is not None else self.c0,
            h=self.h[lo:hi],
            c=None if self.c is None else self.c[lo:hi],
            extra=None if self.m is None else self.m[lo:hi],
            symbols=None if self.plan.symbols is None else self.plan.symbols[lo:hi],
            seen=masks.seen,
            spare=None if masks.seen is None else self.spare,
            keeps_h=None if masks.keeps_h is None else masks.keeps_h[lo:hi],
            keeps_c=None if masks.keeps_c is None else masks.keeps_c[lo:hi],
            share_h=masks.share_h,
            share_c=masks.share_c,
        )


class _Sums:
    """The gradients of weights and inputs, added up stretch by stretch."""

    def __init__(
        self, layer: _Layer, inputs: Tensor, weights: Tensor | None, recurrent: Tensor, *, wanted: bool
    ) -> None:
        self.layer, self.x, self.w = layer, inputs, weights
        self.inputs: Tensor | None = None
        self.weights = self.bias = self.extra = None
        if weights is None:
            self.inputs = torch.zeros_like(inputs)
        else:
            self.inputs = torch.empty_like(inputs) if wanted else None
            self.weights, self.bias = torch.zeros_like(weights), inputs.new_zeros(len(weights))
        self.recurrent = torch.zeros_like(recurrent)
        if layer.bias is not None:
            self.extra = torch.zeros_like(layer.bias)

    def add(self, stretch: Stretch, lo: int, hi: int) -> None:
        """The steps ``lo`` to ``hi``."""
        layer, plan, H = self.layer, self.layer.plan, self.layer.width
        assert stretch.dgates is not None
        dgates = stretch.dgates.flatten(0, 1)
        seen = dgates[:, : layer.gates_wide * H]  # what came from the inputs
        back = dgates[:, -layer.gates_wide * H :]  # and what from the state
        if self.w is None:
            assert self.inputs is not None and stretch.symbols is not None
            plan.engine.scatter(self.inputs, stretch.symbols.flatten(), seen)
        else:
            assert self.weights is not None and self.bias is not None
            self.weights.addmm_(seen.t(), self.x[lo:hi].flatten(0, 1))
            self.bias += seen.sum(0)
            if self.inputs is not None:
                torch.mm(seen, self.w, out=self.inputs[lo:hi].flatten(0, 1))
        # states before each step; before the step that is run first they are 0, or what was given
        if plan.start is not None:
            whole = layer.h[lo:hi]
            before = torch.cat([whole[1:], stretch.h0[None]] if plan.reverse else [stretch.h0[None], whole[:-1]])
            after = back
        elif plan.reverse:
            before, after = layer.h[lo + 1 : hi + 1], back[: (min(hi, layer.steps - 1) - lo) * layer.batch]
        else:
            first = max(lo, 1)
            before, after = layer.h[first - 1 : hi - 1], back[(first - lo) * layer.batch :]
        if plan.masks.seen is not None:
            before = before * plan.masks.seen
        self.recurrent.addmm_(after.t(), before.flatten(0, 1))
        if plan.cell == "gru":
            assert self.extra is not None
            self.extra += dgates[:, -H:].sum(0)
        elif self.extra is not None:
            self._add_peepholes(stretch)

    def _add_peepholes(self, stretch: Stretch) -> None:
        """Input and forget gate saw the cell before the step, the output gate the one after (Gers et al. 2002)."""
        assert stretch.dgates is not None and stretch.c is not None and self.extra is not None
        i, f, _, o = stretch.dgates.view(*stretch.h.shape[:2], 4, self.layer.width).unbind(2)
        rest, edge = (stretch.c[1:], stretch.c0[None]) if stretch.order < 0 else (stretch.c[:-1], stretch.c0[None])
        before = torch.cat([rest, edge] if stretch.order < 0 else [edge, rest])
        after = stretch.c
        if self.layer.plan.masks.zoned:  # the new cell, whatever was kept of the last one
            gates = stretch.gates.view(*stretch.h.shape[:2], 4, self.layer.width).unbind(2)
            after = gates[1] * before + gates[0] * gates[2]
        self.extra += torch.cat([(gate * cell).sum((0, 1)) for gate, cell in ((i, before), (f, before), (o, after))])

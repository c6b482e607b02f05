"""A recurrent layer of torch.nn, run by one of the kernels: torch's own, the one in C, or the one written in torch."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.kernels.choice import is_faster
from seqbench.models.kernels.compiled import Compiled, check_symbols, library
from seqbench.models.kernels.sequence import GATES, Engine, Masks, Plan, states_and_cell
from seqbench.models.kernels.used import note_kernel
from seqbench.models.kernels.written import Written

__all__ = [
    "Layer",
    "Peepholes",
    "Weights",
    "engine_for",
    "over_steps",
    "over_steps_from",
    "over_symbols",
    "over_symbols_from",
    "regular_engine",
    "slower_note",
    "weights_of",
]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # as torch.nn names them


class Peepholes(nn.LSTM):
    """A layer of nn.LSTM whose gates see the cell, too (Gers and Schmidhuber 2000; torch has none).

    ``peepholes`` (3 H,) are the weights of i and f, which see the cell before the step, and of o, which sees the one
    after it. `forward` runs step by step: what is left where no kernel does.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out, batch_first=True)
        self.peepholes = nn.Parameter(torch.empty(3 * d_out).uniform_(-(d_out**-0.5), d_out**-0.5))

    def update(self, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """States h and c (B, H) from the pre-activations (B, 4 H) of i, f, g and o, and from the cell before."""
        i, f, g, o = gates.chunk(4, dim=1)
        to_i, to_f, to_o = self.peepholes.chunk(3)
        c_next = torch.sigmoid(f + to_f * c) * c + torch.sigmoid(i + to_i * c) * torch.tanh(g)
        return torch.sigmoid(o + to_o * c_next) * torch.tanh(c_next), c_next

    def forward(  # type: ignore[override]  # no sequence in it is packed
        self, x: Tensor, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, D) to (B, T, H), and the last states; both from ``start`` and at the end (1, B, H), as in torch.nn."""
        if x.is_meta:  # its products are those of the plain cell
            output: tuple[Tensor, tuple[Tensor, Tensor]] = super().forward(x)
            return output
        w, u, b, b_state = (getattr(self, f"{name}_l0") for name in WEIGHTS)
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if start is None else (start[0][0], start[1][0])
        states = []
        for gates in F.linear(x, w, b + b_state).unbind(1):
            h, c = self.update(gates + F.linear(h, u), c)
            states.append(h)
        return torch.stack(states, dim=1), (h[None], c[None])


Layer = nn.RNN | nn.LSTM | nn.GRU
PLAIN = Masks()
CELLS: dict[type[nn.Module], str] = {nn.RNN: "rnn", nn.LSTM: "lstm", nn.GRU: "gru", Peepholes: "lstm"}


def cell_of(layer: Layer) -> str:
    """rnn, lstm or gru."""
    return CELLS[type(layer)]


@functools.cache
def _on_cpu() -> Engine:
    found = library()
    return Written() if found is None else Compiled(*found)


def engine_for(layer: Layer, like: Tensor, shape: torch.Size, choice: str, *, folded: bool = False) -> Engine | None:
    """What runs ``layer`` if not torch's own kernel; that one for what only it can do.

    Args:
        layer: the weights.
        like: a tensor of the inputs' device and type.
        shape: batch and length.
        choice: auto, torch or fast.
        folded: whether the inputs come as they are before they are embedded.
    """
    if like.is_meta:
        return None
    engine = None
    if choice != "torch" and like.dtype in (torch.float32, torch.float64) and _is_plain(layer):
        engine = _engine(layer, like, shape, choice, folded=folded)
    if engine is not None or not folded:  # what is not folded after all asks once more
        note_kernel("torch" if engine is None else engine.name)
    return engine


def _engine(layer: Layer, like: Tensor, shape: torch.Size, choice: str, *, folded: bool) -> Engine | None:
    """`engine_for` where the layer and the type of number allow any."""
    kind = like.device.type
    if torch.is_autocast_enabled(kind):
        return None
    alone = isinstance(layer, Peepholes)  # without a kernel of torch's to compare with: a loop is always slower
    if kind != "cpu":
        return Written() if alone or choice == "fast" else None
    engine = _on_cpu()
    if alone:
        return engine
    name = engine.name.partition(" ")[0]
    sizes, gradient = (max(1, shape[0]), layer.hidden_size), like.requires_grad
    faster = is_faster(name, cell_of(layer), *sizes, folded=folded, gradient=gradient)
    return engine if choice == "fast" or faster else None


def regular_engine(layer: Layer, like: Tensor, choice: str) -> Engine:
    """What runs ``layer`` with `Masks`, which torch's own kernels don't know: torch's operations where these are asked
    for or the device is no CPU.

    Raises:
        TypeError: a layer that only torch's own kernel can run.
    """
    if not _is_plain(layer):
        raise TypeError(f"{type(layer).__name__} is no layer that recurrent dropout and zoneout can be applied in")
    engine = Written() if choice == "torch" or like.device.type != "cpu" else _on_cpu()
    note_kernel(engine.name)
    return engine


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is one layer of torch's own, of the usual cell in one direction, with biases."""
    if type(layer) not in CELLS or not isinstance(layer, nn.RNNBase) or not layer.batch_first:
        return False
    usual = layer.num_layers == 1 and layer.bias and not layer.bidirectional and not layer.proj_size
    return bool(usual) and getattr(layer, "nonlinearity", "tanh") == "tanh"


def slower_note(device: torch.device, choice: str) -> str | None:
    """What to tell a user whose recurrent layers run without the kernels in C."""
    if choice == "torch" or device.type != "cpu" or library() is not None:
        return None
    return (
        "the kernels in C were not built for this version, so recurrent layers are slower: install seqbench again "
        "where there is a C compiler (pip install -e .)"
    )


class Weights(NamedTuple):
    """A layer's weights as `sequence.states_and_cell` wants them: gates in its order, widths padded with zeros."""

    inputs: Tensor
    bias: Tensor
    recurrent: Tensor
    extra: Tensor | None


def weights_of(layer: Layer, engine: Engine) -> Weights:
    """Of ``layer`` for ``engine``; gradients flow back through it."""
    w, u, b, b_state = (getattr(layer, f"{name}_l0") for name in WEIGHTS)
    cell, H = cell_of(layer), layer.hidden_size
    wide = -(-H // engine.multiple(w.dtype)) * engine.multiple(w.dtype)
    extra: Tensor | None = layer.peepholes if isinstance(layer, Peepholes) else None
    if cell == "gru":  # from r, z, n to n, r, z, as their gradients lie
        extra = b_state[2 * H :]
        b = torch.cat([b[2 * H :], b[: 2 * H] + b_state[: 2 * H]])
        w = torch.cat([w[2 * H :], w[: 2 * H]])
    else:
        b = b + b_state
    if wide > H:
        gates, more = GATES[cell], wide - H
        w = F.pad(w.unflatten(0, (gates, H)), (0, 0, 0, more)).flatten(0, 1)
        u = F.pad(u.unflatten(0, (gates, H)), (0, more, 0, more)).flatten(0, 1)
        b = F.pad(b.unflatten(0, (gates, H)), (0, more)).flatten()
        if extra is not None:
            extra = F.pad(extra.view(-1, H), (0, more)).flatten()
    return Weights(w, b, u, extra)


def over_steps(
    layer: Layer,
    engine: Engine,
    x: Tensor,
    weights: Weights,
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    masks: Masks = PLAIN,
) -> Tensor:
    """(B, T, D) to (B, T, H); ``reverse``, ``lengths`` and ``masks`` as `Plan` has them."""
    plan = Plan(engine, cell_of(layer), reverse, _counts(lengths), None, masks.padded(weights.recurrent.shape[1]))
    return _over(layer, plan, x.transpose(0, 1).contiguous(), weights)[0]


def over_symbols(
    layer: Layer,
    engine: Engine,
    symbols: Tensor,
    table: Tensor,
    weights: Weights,
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    masks: Masks = PLAIN,
) -> Tensor:
    """`over_steps` of ``table[symbols]``, (B, T) and (V, D), of which only the V rows are multiplied by weights.

    Raises:
        IndexError: a symbol has no row in the table.
    """
    check_symbols(symbols, table)
    wide = masks.padded(weights.recurrent.shape[1])
    plan = Plan(engine, cell_of(layer), reverse, _counts(lengths), _counts(symbols.t()), wide)
    projected = torch.addmm(weights.bias, table, weights.inputs.t())
    return _cut(layer, states_and_cell(plan, projected, None, None, weights.recurrent, weights.extra))[0]


def over_steps_from(
    layer: Layer, engine: Engine, x: Tensor, weights: Weights, start: tuple[Tensor, Tensor], masks: Masks = PLAIN
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`over_steps` from the states and cells ``start`` (B, H), and those after the last step; no gradient reaches them.

    Of a cell without cells they are whatever was given.
    """
    plan = _plan_from(layer, engine, weights, start, masks)
    return _ends(_over(layer, plan, x.transpose(0, 1).contiguous(), weights), start)


def over_symbols_from(
    layer: Layer,
    engine: Engine,
    symbols: Tensor,
    table: Tensor,
    weights: Weights,
    start: tuple[Tensor, Tensor],
    masks: Masks = PLAIN,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`over_symbols` as `over_steps_from` is `over_steps`."""
    check_symbols(symbols, table)
    plan = replace(_plan_from(layer, engine, weights, start, masks), symbols=_counts(symbols.t()))
    projected = torch.addmm(weights.bias, table, weights.inputs.t())
    both = states_and_cell(plan, projected, None, None, weights.recurrent, weights.extra)
    return _ends(_cut(layer, both), start)


def _plan_from(layer: Layer, engine: Engine, weights: Weights, start: tuple[Tensor, Tensor], masks: Masks) -> Plan:
    """How the layer is run from ``start``, as wide as its padded weights."""
    wide, dtype = weights.recurrent.shape[1], weights.recurrent.dtype
    more = wide - layer.hidden_size
    h, c = (F.pad(state.detach().to(dtype), (0, more)).contiguous() for state in start)
    return Plan(engine, cell_of(layer), masks=masks.padded(wide), start=(h, c))


def _ends(both: tuple[Tensor, Tensor], start: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """All states, and the state and cell after the last step; of a cell without cells what it began with."""
    y, cell = both
    return y, (y[:, -1].detach(), cell if len(cell) else start[1])


def _over(layer: Layer, plan: Plan, by_step: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """`_cut` of a run over inputs (T, B, D)."""
    w, b, u, extra = weights
    return _cut(layer, states_and_cell(plan, by_step, w, b, u, extra))


def _cut(layer: Layer, both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """States (B, T, H), and the cell (B, H) after the step that was run last, without the width that was added."""
    (states, cell), H = both, layer.hidden_size
    return states[:, :, :H].transpose(0, 1), cell[..., :H]


def _counts(numbers: Tensor | None) -> Tensor | None:
    """As C reads whole numbers: of 64 bits, one after the other."""
    return None if numbers is None else numbers.to(torch.int64).contiguous()

"""A Transformer layer and dropout in C (`fused.c`), float on the CPU, with a backward pass of their own.

Torch is left the products for the gradients of weights. The scales and shifts of the first two norms are multiplied
into the weights that follow, so what is kept for the backward pass of a norm is its plain output.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.models.kernels.compiled import Compiled, check_symbols, library

__all__ = ["LayerWeights", "Sequences", "drop", "fused", "fused_name", "transformer_layer"]

VERSION = 1  # of fused.c, raised with every change there: what was built before is left alone
LONG, POINTER = ctypes.c_long, ctypes.c_void_p


@functools.cache
def _handle() -> ctypes.CDLL | None:
    found = library()
    try:
        return found[1] if found is not None and found[1].fused_version() == VERSION else None
    except AttributeError:  # built before there was a fused.c
        return None


def fused_name() -> str:
    """As records hold it."""
    found = library()
    return f"c {found[0]}" if found else "torch"


def fused(*tensors: Tensor, choice: str = "auto") -> bool:
    """Whether ``tensors`` are for the functions below: float on a CPU, not under autocast, and these are there."""
    return (
        choice != "torch"
        and all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
        and _handle() is not None
    )


class LayerWeights(NamedTuple):
    """Of a pre-norm layer: scales and shifts of its three norms, weights (out, in) and biases."""

    scale1: Tensor
    shift1: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    merge: Tensor
    merge_bias: Tensor
    scale2: Tensor
    shift2: Tensor
    widen: Tensor
    widen_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor
    scale3: Tensor
    shift3: Tensor


@dataclass(frozen=True)
class Sequences:
    """What else a layer is told.

    Attributes:
        angles: cosines and sines (T, d / 2) of the rotation.
        lengths: (B,) steps that are looked at; None for all.
        symbols: (B, T) rows of a table that is given in place of the (B, T, D) that they stand for.
    """

    batch: int
    steps: int
    heads: int
    causal: bool
    angles: tuple[Tensor, Tensor]
    lengths: Tensor | None = None
    symbols: Tensor | None = None


def transformer_layer(x: Tensor, weights: LayerWeights, sequences: Sequences) -> Tensor:
    """x (B, T, D), or a table (V, D) of which ``sequences.symbols`` names a row for each step, to (B, T, D).

    Raises:
        IndexError: a symbol has no row in the table.
    """
    if sequences.symbols is not None:
        check_symbols(sequences.symbols, x)
    lengths, symbols = (
        None if tensor is None else tensor.to(torch.int64).contiguous()
        for tensor in (sequences.lengths, sequences.symbols)
    )
    plan = _Plan(sequences, lengths, symbols, torch.is_grad_enabled())
    y: Tensor = _Layer.apply(plan, x.flatten(0, -2), *weights)  # type: ignore[no-untyped-call]
    return y.view(sequences.batch, sequences.steps, y.shape[1])


class _Plan(NamedTuple):
    sequences: Sequences
    lengths: Tensor | None
    symbols: Tensor | None
    keep: bool  # what the backward pass needs

    def call(self, n: int, sizes: tuple[int, int], **arrays: Tensor | None) -> _Call:
        """For n rows of a width and feed-forward width; ``arrays`` must live until the call has returned."""
        s = self.sequences
        call = _Call(n=n, D=sizes[0], F=sizes[1], heads=s.heads, batch=s.batch, steps=s.steps, causal=s.causal)
        for name, tensor in {**arrays, "cosines": s.angles[0], "sines": s.angles[1], "lengths": self.lengths}.items():
            assert tensor is None or tensor.is_contiguous()
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call


class _Call(ctypes.Structure):
    """`Layer` of fused.c."""

    _fields_ = (
        *((name, LONG) for name in ("n", "D", "F", "heads", "batch", "steps", "causal")),
        *((name, POINTER) for name in ("lengths", "symbols", "cosines", "sines")),
        *((name, POINTER) for name in ("w_qkv", "b_qkv", "w_merge", "b_merge", "w_widen", "b_widen", "w_narrow")),
        *((name, POINTER) for name in ("b_narrow", "scale", "shift", "x", "normed1", "inverse1", "qkv", "mixed")),
        *((name, POINTER) for name in ("log_sums", "normed2", "inverse2", "feed", "slope", "normed3", "inverse3", "y")),
        *((name, POINTER) for name in ("dy", "d3", "dfeed", "d2", "dmixed", "dqkv", "dx", "sums", "packed")),
        ("failed", ctypes.c_int),
    )


def _function(name: str) -> Any:
    function = getattr(_handle(), name)
    function.restype = None
    return function


def _run(name: str, call: _Call) -> None:
    function = _function(f"layer_{name}")
    function(ctypes.byref(call), LONG(torch.get_num_threads()))
    if call.failed:
        raise MemoryError("a Transformer layer found no memory to work in")


def _size(name: str, *of: int) -> int:
    function = getattr(_handle(), name)
    function.restype = LONG
    return int(function(*map(LONG, of)))


class _Layer(torch.autograd.Function):
    """Nothing that the backward pass reads is written again, so that it may run more than once."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, *given: Tensor) -> Tensor:
        x, w = x.contiguous(), LayerWeights(*(tensor.contiguous() for tensor in given))
        (n, D), F, N = x.shape, len(w.widen), plan.sequences.batch * plan.sequences.steps
        first = _enter(plan, x, w)
        mixed, log_sums = x.new_empty(N, D), x.new_empty(N, plan.sequences.heads)
        second = {"qkv": first.pop("qkv"), "mixed": mixed, "log_sums": log_sums, "symbols": plan.symbols}
        _run("attention_forward", plan.call(N, (D, F), **second))
        y, third = _leave(plan, x, mixed, w)
        if plan.keep:
            kept = {**first, **second, **third}
            ctx.plan, ctx.rows, ctx.names = plan, n, tuple(kept)
            ctx.save_for_backward(*given, *kept.values())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        w = LayerWeights(*(tensor.contiguous() for tensor in ctx.saved_tensors[: len(LayerWeights._fields)]))
        kept = dict(zip(ctx.names, ctx.saved_tensors[len(w) :], strict=True))
        d2, dmixed, gradients = _leave_back(plan, dy.contiguous(), w, kept)
        D, F = w.narrow.shape
        dqkv = dy.new_empty(len(dy), 3 * D)
        read = {name: kept[name] for name in ("qkv", "mixed", "log_sums", "symbols")}
        call = plan.call(len(dy), (D, F), **read, dmixed=dmixed, dqkv=dqkv)
        _run("attention_backward", call)
        if plan.symbols is not None:
            dqkv, d2 = (_by_symbol(rows, plan.symbols, ctx.rows) for rows in (dqkv, d2))
        dx, more = _enter_back(plan, dqkv, d2, w, kept)
        gradients |= more
        return None, dx, *(gradients[name] for name in LayerWeights._fields)


def _enter(plan: _Plan, x: Tensor, w: LayerWeights) -> dict[str, Tensor]:
    """From x (n, D) to the first norm and queries, keys and values."""
    (n, D), F = x.shape, len(w.widen)
    made = {"normed1": x.new_empty(n, D), "inverse1": x.new_empty(n), "qkv": x.new_empty(n, 3 * D)}
    weight, bias = _fold(w.qkv, w.qkv_bias, w.scale1, w.shift1)
    packed = torch.empty(_size("layer_room", D, F))
    _run("enter_forward", plan.call(n, (D, F), x=x, w_qkv=weight, b_qkv=bias, packed=packed, **made))
    return made


def _enter_back(
    plan: _Plan, dqkv: Tensor, d2: Tensor, w: LayerWeights, kept: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    (n, D), F = d2.shape, len(w.widen)
    dx, sums = torch.empty_like(d2), d2.new_empty(_size("layer_blocks", n), 3 * D)
    weight, packed = w.qkv * w.scale1, torch.empty(_size("layer_room", D, F))
    read = {"w_qkv": weight, "normed1": kept["normed1"], "inverse1": kept["inverse1"], "d2": d2, "dqkv": dqkv}
    _run("enter_backward", plan.call(n, (D, F), dx=dx, sums=sums, packed=packed, **read))
    dbias = sums.sum(0)
    dqkv_weight, dscale, dshift = _unfold(dqkv.t() @ kept["normed1"], dbias, w.qkv, w.scale1, w.shift1)
    return dx, {"scale1": dscale, "shift1": dshift, "qkv": dqkv_weight, "qkv_bias": dbias}


def _leave(plan: _Plan, x: Tensor, mixed: Tensor, w: LayerWeights) -> tuple[Tensor, dict[str, Tensor]]:
    """From what attention gave (N, D) to the output, and what its backward pass reads."""
    (N, D), F = mixed.shape, len(w.widen)
    made: dict[str, Tensor] = {}
    if plan.keep:
        made = {name: x.new_empty(N, D) for name in ("normed2", "normed3")}
        made |= {name: x.new_empty(N) for name in ("inverse2", "inverse3")}
        made |= {name: x.new_empty(N, F) for name in ("feed", "slope")}
    y, packed = x.new_empty(N, D), torch.empty(_size("layer_room", D, F))
    widen, bias = _fold(w.widen, w.widen_bias, w.scale2, w.shift2)
    weights = {"w_merge": w.merge, "b_merge": w.merge_bias, "w_widen": widen, "b_widen": bias}
    weights |= {"w_narrow": w.narrow, "b_narrow": w.narrow_bias, "scale": w.scale3, "shift": w.shift3}
    read = {"x": x, "mixed": mixed, "symbols": plan.symbols}
    _run("leave_forward", plan.call(N, (D, F), y=y, packed=packed, **read, **weights, **made))
    return y, made


def _leave_back(
    plan: _Plan, dy: Tensor, w: LayerWeights, kept: dict[str, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    (N, D), F = dy.shape, len(w.widen)
    to = {name: dy.new_empty(N, D) for name in ("d3", "d2", "dmixed")} | {"dfeed": dy.new_empty(N, F)}
    sums, packed = dy.new_empty(_size("layer_blocks", N), 4 * D + F), torch.empty(_size("layer_room", D, F))
    weights = {"w_merge": w.merge, "w_widen": w.widen * w.scale2, "w_narrow": w.narrow, "scale": w.scale3}
    read = {name: kept[name] for name in ("normed2", "inverse2", "slope", "normed3", "inverse3")}
    _run("leave_backward", plan.call(N, (D, F), dy=dy, sums=sums, packed=packed, **weights, **read, **to))
    names = ("scale3", "shift3", "narrow_bias", "merge_bias", "widen_bias")
    gradients = dict(zip(names, torch.split(sums.sum(0), [D, D, D, D, F]), strict=True))
    product = to["dfeed"].t() @ kept["normed2"]
    dwiden, dscale, dshift = _unfold(product, gradients["widen_bias"], w.widen, w.scale2, w.shift2)
    gradients |= {"widen": dwiden, "scale2": dscale, "shift2": dshift}
    gradients |= {"narrow": to["d3"].t() @ kept["feed"], "merge": to["d2"].t() @ kept["mixed"]}
    return to["d2"], to["dmixed"], gradients


def _fold(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias (out, in), (out,) that do to a plain norm what they did to scale * norm + shift."""
    return weight * scale, torch.addmv(bias, weight, shift)


def _unfold(product: Tensor, dbias: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
    """Gradients of weight, scale and shift from those of weight * scale and bias + weight @ shift."""
    return torch.addcmul(torch.outer(dbias, shift), product, scale), (product * weight).sum(0), weight.t() @ dbias


def _by_symbol(rows: Tensor, symbols: Tensor, n: int) -> Tensor:
    """(n, D): the sums of the (N, D) rows of each symbol."""
    sums, found = rows.new_zeros(n, rows.shape[1]), library()
    assert found is not None
    Compiled(*found).scatter(sums, symbols, rows)
    return sums


def drop(x: Tensor, words: Tensor, least: int, scale: float) -> Tensor:
    """x times ``scale`` where the word of 16 bits is ``least`` or more, else 0; NaN stays NaN."""
    dropped: Tensor = _Drop.apply(x, words, least, scale)  # type: ignore[no-untyped-call]
    return dropped


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, words: Tensor, least: int, scale: float) -> Tensor:
        ctx.save_for_backward(words)
        ctx.least, ctx.scale = least, scale
        return _dropped(x, words, least, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _dropped(gradient, ctx.saved_tensors[0], ctx.least, ctx.scale), None, None, None


def _dropped(x: Tensor, words: Tensor, least: int, scale: float) -> Tensor:
    x, words = x.contiguous(), words.contiguous()
    y = torch.empty_like(x)
    sizes = (LONG(x.numel()), LONG(least), ctypes.c_float(scale))
    where = (POINTER(x.data_ptr()), POINTER(words.data_ptr()))
    _function("drop_values")(*where, *sizes, POINTER(y.data_ptr()), LONG(torch.get_num_threads()))
    return y

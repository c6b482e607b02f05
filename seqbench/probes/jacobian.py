"""Exact Jacobians over time: of the last output by each input, and of the last state by each earlier state.

Both in double precision and evaluation mode, by vector-Jacobian products; each sample has its own Jacobian and norm.
Logarithms are natural. Bengio, Simard and Frasconi 1994 and Pascanu, Mikolov and Bengio 2013 (section 2.1) speak of the
state's Jacobian; training sees the input's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from seqbench.models.backbone import SequenceModel

__all__ = ["FLOOR", "double_copy", "input_log_norms", "last_output", "no_state", "state_log_norms"]

# ln of the smallest norm that is still exact: a part of it that is smaller by the precision is a normal number, too
FLOOR = math.log(torch.finfo(torch.double).tiny / torch.finfo(torch.double).eps)
ENTRIES = 1 << 24  # of the state Jacobians that are worked on together


def double_copy(net: SequenceModel, device: torch.device | str) -> SequenceModel:
    """A copy of ``net`` in double precision and evaluation mode, whose weights need no gradient."""
    return copy.deepcopy(net).to(device, torch.double).eval().requires_grad_(False)


def last_output(net: SequenceModel, embedded: Tensor) -> Tensor:
    """(B, H) what the head reads at the last step, from (B, T, D) embedded inputs: after the last norm, if any."""
    y = net.mix(embedded, None)
    h: Tensor = (net.norms[-1](y) if net.residual else y)[:, -1]
    return h


def input_log_norms(net: SequenceModel, inputs: Tensor) -> Tensor:
    """(T, B) log Frobenius norms of J_k = dh_T / de_(T-k), k = 0 first; h is `last_output`, e the embedded input.

    By one vector-Jacobian product for each of the H outputs, summed over the batch, as samples do not touch each
    other. Minus infinity where nothing is left that can be told from zero (`FLOOR`), infinity where it overflows.

    Args:
        net: a `double_copy`.
        inputs: (B, T) tokens or (B, T, D) features.
    """
    embedded = net.embed(inputs).detach().requires_grad_()
    squared = embedded.new_full(embedded.shape[:2], -math.inf)
    # cuDNN differentiates recurrent layers in training mode only
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        h = last_output(net, embedded)
        for i in range(h.shape[1] if h.requires_grad else 0):
            (row,) = torch.autograd.grad(h[:, i].sum(), embedded, retain_graph=True, materialize_grads=True)
            squared = torch.logaddexp(squared, 2 * _log_norm(row, (2,)))
    norms: Tensor = squared.div(2).nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
    return norms.masked_fill(norms < FLOOR, -math.inf).flip(1).T


def _log_norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Log Euclidean norm over ``dims``, whose squares must not underflow."""
    largest = x.abs().amax(dims, keepdim=True)
    scale = largest.where((largest > 0) & largest.isfinite(), torch.ones_like(largest))
    return (x / scale).square().sum(dims).log() / 2 + scale.log().squeeze(dims)


def no_state(net: SequenceModel, length: int) -> str | None:
    """Why there is no state Jacobian of ``net``; None if there is one."""
    if not net.steps:
        return "it offers no step form"
    if net.state_size(1) != net.state_size(2 * length):
        return "its state grows with the length"
    leaves = list(_leaves(net.initial_state(2)))
    if not leaves:
        return "it carries no state"
    if any(leaf.shape[:1] != (2,) for leaf in leaves):
        return "its state does not have one row a sequence"
    return None


def state_log_norms(net: SequenceModel, inputs: Tensor) -> Tensor:
    """(T, B) log Frobenius norms of ds_T / ds_(T-k), k = 0 first, s all that all layers carry from step to step.

    The product is taken from the last step backwards and rescaled to norm 1 at every step, so it neither underflows nor
    overflows; minus infinity where it is exactly zero.

    Args:
        net: a `double_copy` without a reason in `no_state`.
        inputs: (B, T) tokens or (B, T, D) features.
    """
    size = sum(leaf[0].numel() for leaf in _leaves(net.initial_state(1)))
    together = max(1, ENTRIES // (size * size))
    return torch.cat([_state_log_norms(net, part) for part in torch.split(inputs, together)], dim=1)


def _state_log_norms(net: SequenceModel, inputs: Tensor) -> Tensor:
    B, T = inputs.shape[:2]
    states = [net.initial_state(B)]
    with torch.no_grad():
        for t in range(T - 1):
            states.append(net.step(inputs[:, t], states[-1])[1])
    size = sum(leaf[0].numel() for leaf in _leaves(states[0]))
    like = next(net.parameters())
    product = torch.eye(size, dtype=like.dtype, device=like.device)[:, None].repeat(1, B, 1)  # (S, B, S)
    norms = [product.new_full((B,), math.log(size) / 2)]
    product = product / math.sqrt(size)
    for t in range(T - 1, 0, -1):  # from ds_T / ds_(t+1) to ds_T / ds_t
        product = _times_step(net, inputs[:, t], states[t], product)
        grown = _log_norm(product, (0, 2)).nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        norms.append(norms[-1] + grown)
        product = product / grown.exp().where(grown.isfinite(), torch.ones_like(grown))[:, None]
    return torch.stack(norms)


def _times_step(net: SequenceModel, x_t: Tensor, state: Any, product: Tensor) -> Tensor:
    """``product`` (S, B, S) times the Jacobian of one step from ``state``; each of its S rows is run as a sequence."""
    S, B = product.shape[:2]
    leaves = [_repeat(leaf, S).requires_grad_() for leaf in _leaves(state)]
    source = iter(leaves)
    rows = _rebuilt(state, lambda leaf: next(source) if leaf.is_floating_point() else _repeat(leaf, S))
    with torch.enable_grad():
        after = list(_leaves(net.step(_repeat(x_t, S), rows)[1]))
    pieces = torch.split(product, [leaf[0].numel() for leaf in after], dim=2)
    reached = [
        (leaf, piece.reshape(leaf.shape)) for leaf, piece in zip(after, pieces, strict=True) if leaf.requires_grad
    ]
    if not reached:
        return torch.zeros_like(product)
    outputs, cotangents = zip(*reached, strict=True)
    found = torch.autograd.grad(outputs, leaves, cotangents, materialize_grads=True)
    return torch.cat([gradient.reshape(S, B, -1) for gradient in found], dim=2)


def _repeat(leaf: Tensor, times: int) -> Tensor:
    return leaf.repeat(times, *[1] * (leaf.ndim - 1)) if leaf.ndim else leaf


def _leaves(state: Any) -> Iterator[Tensor]:
    """The tensors of real numbers in a state, however nested; counters and the like have no derivative."""
    if isinstance(state, Tensor):
        yield from (state,) if state.is_floating_point() else ()
    elif isinstance(state, (tuple, list)):
        for part in state:
            yield from _leaves(part)


def _rebuilt(state: Any, of: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(state, Tensor):
        return of(state)
    if not isinstance(state, (tuple, list)):
        return state
    parts: Iterable[Any] = [_rebuilt(part, of) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)

"""A small Transformer layer as a mixer (Vaswani et al. 2017), in its pre-norm form (Xiong et al. 2020) with rotary
positions (Su et al. 2021): x + attention(norm(x)), then x + feed-forward(norm(x)), and a last norm.

It holds its feed-forward part, norms and skips itself, so that in the `bare` backbone it is the layer that the papers
describe, but for a feed-forward part of twice the width, not four times: so it has the LSTM's 8 d^2 weights at equal
width, and the comparison at equal width is nearly one at equal parameters. Initialisation: torch's own for linear
layers, the two projections that write to the skip scaled down by sqrt(2) (two writes a layer; Radford et al. 2019).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.kernels.fused import LayerWeights, Sequences, fused, fused_name, transformer_layer
from seqbench.models.kernels.used import note_kernel
from seqbench.models.mixer import Embedded, Mixer, real_steps, register_model

__all__ = ["Transformer", "rotate"]

HEADS = 4
WIDEN = 2  # feed-forward width over layer width
BASE = 10_000.0  # of the rotary frequencies
EPSILON = 1e-5  # of the norms, torch's own; fused.c has it, too


def rotate(x: Tensor, first: int = 0) -> Tensor:
    """Rotary positions for (B, heads, T, d): pairs (i, i + d/2) turned by (first + t) / BASE^(2i/d)."""
    if torch.compiler.is_exporting():  # what writes into its outputs has no name in a graph, and lengths no value
        cos, sin = _angles.__wrapped__(*x.shape[-2:], first, x.device, x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    rotated: Tensor = _Rotation.apply(x, *_angles(*x.shape[-2:], first, x.device, x.dtype))  # type: ignore[no-untyped-call]
    return rotated


@functools.lru_cache(maxsize=16)
def _angles(length: int, d: int, first: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, d / 2)."""
    with torch.inference_mode(False):  # what is made in that mode could not be used in training later
        frequency = BASE ** (-torch.arange(0, d, 2, device=device, dtype=torch.float32) / d)
        angle = torch.arange(first, first + length, device=device, dtype=torch.float32)[:, None] * frequency
        return angle.cos().to(dtype), angle.sin().to(dtype)


class _Rotation(torch.autograd.Function):
    """Its own backward, the turn back: autograd would make and keep a dozen tensors of the size of ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1.0), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    turned = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    a, b = x.chunk(2, dim=-1)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(a, cos, out=left).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=right).addcmul_(a, sin, value=sign)
    return turned


@register_model("transformer", version=2, aliases=("attention",))
class Transformer(Mixer):
    """Pre-norm Transformer layer: 4 heads, rotary positions, feed-forward 2x; its state is the cache of all steps."""

    traceable = True
    width_multiple = 2 * HEADS  # rotary positions pair up the entries of a head

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal)
        self.enter = nn.Identity() if d_in == d_out else nn.Linear(d_in, d_out)
        self.norm_attention, self.norm_feed, self.norm_out = (nn.LayerNorm(d_out) for _ in range(3))
        self.qkv = nn.Linear(d_out, 3 * d_out)
        self.merge = nn.Linear(d_out, d_out)
        self.widen = nn.Linear(d_out, WIDEN * d_out)
        self.narrow = nn.Linear(WIDEN * d_out, d_out)
        with torch.no_grad():
            for writer in (self.merge, self.narrow):
                writer.weight.div_(math.sqrt(2.0))

    def _heads(self, x: Tensor, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) to queries, keys and values (B, heads, T, D / heads), the first two rotated."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        return rotate(q, first), rotate(k, first), v

    def _feed(self, x: Tensor) -> Tensor:
        x = x + self.narrow(F.gelu(self.widen(self.norm_feed(x))))
        normed: Tensor = self.norm_out(x)
        return normed

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.enter(x)
        B, T, D = x.shape
        if self._is_fused(x):
            return transformer_layer(x, self._weights(), self._sequences(x.shape, lengths))
        q, k, v = self._heads(self.norm_attention(x))
        # a causal step never looks at the padding, which comes after it
        mask = None if lengths is None or self.causal else real_steps(lengths, T)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        x = x + self.merge(mixed.transpose(1, 2).reshape(B, T, D))
        return self._feed(x)

    def forward_embedded(self, embedded: Embedded, lengths: Tensor | None = None) -> Tensor:
        symbols, table, bias = embedded
        if bias is None and self._is_fused(table):  # norms and projects V rows, not B * T
            sequences = self._sequences(symbols.shape, lengths, symbols)
            return transformer_layer(self.enter(table), self._weights(), sequences)
        return self.forward(embedded.values(), lengths)

    def _is_fused(self, x: Tensor) -> bool:
        """Whether the layer in C does what this one does; noted for records."""
        norms = (self.norm_attention, self.norm_feed, self.norm_out)
        linear = (self.qkv, self.merge, self.widen, self.narrow)
        as_built = (
            type(self)._heads is Transformer._heads
            and type(self)._feed is Transformer._feed
            and all(type(norm) is nn.LayerNorm and norm.eps == EPSILON for norm in norms)
            and all(type(part) is nn.Linear and not part._forward_hooks for part in linear)
        )
        here = as_built and fused(x, self.qkv.weight, choice=self.choice)
        if not x.is_meta:
            note_kernel(fused_name() if here else "torch")
        return here

    def _weights(self) -> LayerWeights:
        first, second, last = self.norm_attention, self.norm_feed, self.norm_out
        attention = (self.qkv.weight, self.qkv.bias, self.merge.weight, self.merge.bias)
        feed = (self.widen.weight, self.widen.bias, self.narrow.weight, self.narrow.bias)
        norms = ((norm.weight, norm.bias) for norm in (first, second, last))
        (scale1, shift1), (scale2, shift2), (scale3, shift3) = norms
        return LayerWeights(scale1, shift1, *attention, scale2, shift2, *feed, scale3, shift3)

    def _sequences(self, shape: torch.Size, lengths: Tensor | None, symbols: Tensor | None = None) -> Sequences:
        B, T = shape[:2]
        angles = _angles(T, self.d_out // HEADS, 0, self.qkv.weight.device, self.qkv.weight.dtype)
        # a causal step never looks at the padding, which comes after it
        return Sequences(B, T, HEADS, self.causal, angles, None if self.causal else lengths, symbols)

    def state_size(self, length: int) -> int:
        return 2 * self.d_out * length

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        empty = self.qkv.weight.new_zeros(batch, HEADS, 0, self.d_out // HEADS)
        return empty, empty

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        keys, values = state
        x = self.enter(x_t)[:, None]
        q, k, v = self._heads(self.norm_attention(x), first=keys.shape[2])
        keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        mixed = F.scaled_dot_product_attention(q, keys, values)
        x = x + self.merge(mixed.transpose(1, 2).reshape(x.shape))
        return self._feed(x)[:, 0], (keys, values)

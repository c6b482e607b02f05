"""Dropout (Srivastava et al. 2014) whose mask costs little on a CPU, where torch's own takes up to a third of a step.

Two random bytes a value are enough to say whether it is dropped. They come from a generator of the model's own (SFC64,
Doty-Humphrey's small fast chaotic generator, in numpy), which starts from torch's generator, so from the seed of the
run, and whose state is part of a checkpoint. Recurrent dropout and zoneout draw from it, too. On other devices it is
torch's dropout and torch's generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.kernels.fused import drop, fused

__all__ = ["Chance", "Dropout"]

LEVELS = 2**16  # a share is rounded to one in so many


class _Masked(torch.autograd.Function):
    """x times a mask that needs no gradient; the mask alone is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class Chance:
    """Random words and masks; on a CPU from a generator whose state can be kept."""

    def __init__(self) -> None:
        self._bits: np.random.SFC64 | None = None  # made at the first mask, so that initialisation draws as it would

    def words(self, shape: torch.Size) -> Tensor:
        """``shape`` of int16, each value as likely as any, on the CPU."""
        if self._bits is None:
            self._bits = np.random.SFC64(int(torch.randint(2**62, ()).item()))
        size = shape.numel()
        return torch.from_numpy(self._bits.random_raw((size + 3) // 4).view(np.int16))[:size].view(shape)

    def mask(self, shape: tuple[int, ...], share: float, device: torch.device) -> Tensor:
        """``shape`` of bool on ``device``, true with probability ``share`` to one in 65,536."""
        if device.type != "cpu":
            return torch.rand(shape, device=device) < share
        return self.words(torch.Size(shape)) < least_kept(share)

    def state(self) -> Tensor | None:
        """The generator's, as int64; None before the first mask."""
        if self._bits is None:
            return None
        words: np.ndarray[Any, Any] = self._bits.state["state"]["state"]
        return torch.from_numpy(words.view(np.int64).copy())

    def restore(self, state: Tensor) -> None:
        """Go on from what `state` gave."""
        self._bits = self._bits or np.random.SFC64(0)
        whole = self._bits.state
        whole["state"]["state"] = state.cpu().numpy().view(np.uint64).copy()
        self._bits.state = whole


def least_kept(share: float) -> int:
    """Of `Chance.words` the least that is not among the lowest ``share``, of which some are always kept."""
    return min(LEVELS - 1, round(share * LEVELS)) - LEVELS // 2


class Dropout(nn.Module):
    """In training each value is 0 with probability ``share``, else divided by 1 - ``share``, which keeps the mean.

    A call may name a share of its own, so that several layers draw from one generator.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.chance = share, Chance()

    def extra_repr(self) -> str:
        return f"share={self.share}"

    def forward(self, x: Tensor, share: float | None = None) -> Tensor:
        share = self.share if share is None else share
        if not self.training or share == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, share)
        if fused(x):
            return drop(x, self.chance.words(x.shape), *_how(share))
        masked: Tensor = _Masked.apply(x, self.mask(x.shape, x.dtype, share))  # type: ignore[no-untyped-call]
        return masked

    def mask(self, shape: torch.Size, dtype: torch.dtype, share: float | None = None) -> Tensor:
        """The next mask of ``shape`` on the CPU."""
        least, scale = _how(self.share if share is None else share)
        return (self.chance.words(shape) >= least).to(dtype).mul_(scale)

    def state(self) -> Tensor | None:
        """The generator's, as int64; None before the first mask."""
        return self.chance.state()

    def restore(self, state: Tensor) -> None:
        """Go on from what `state` gave."""
        self.chance.restore(state)


def _how(share: float) -> tuple[int, float]:
    """The least word of a value that is kept, and what it is multiplied by."""
    least = least_kept(share)
    return least, LEVELS / (LEVELS // 2 - least)

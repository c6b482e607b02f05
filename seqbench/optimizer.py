"""AdamW (Loshchilov and Hutter 2019) around torch's own fused update.

The update is torch's; what is ours is the bookkeeping. torch's optimiser class imports the whole compiler when it is
first used, which takes longer than a `smoke` run's training: 1.5 s in every process, and a grid has one a cell.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["AdamW"]


class AdamW:
    """Betas (0.9, 0.999), epsilon 1e-8; the learning rate is given at every step.

    Equal to ``torch.optim.AdamW(fused=True)`` to the last bit. Parameters without a gradient are left alone.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.fused = all(p.device.type in ("cpu", "cuda") for p in self.parameters)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        # torch wants the count of steps beside the parameters where the update is fused, on the host elsewhere
        self.steps = [torch.zeros((), device=p.device if self.fused else "cpu") for p in self.parameters]

    def state(self) -> dict[str, list[Tensor]]:
        """What it remembers, a tensor for each parameter."""
        return {"mean": self.means, "square": self.squares, "count": self.steps}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every parameter by its gradient."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        adamw(
            [self.parameters[i] for i in used],
            [grad for p in self.parameters if (grad := p.grad) is not None],
            [self.means[i] for i in used],
            [self.squares[i] for i in used],
            [],
            [self.steps[i] for i in used],
            foreach=False,
            fused=self.fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

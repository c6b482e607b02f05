"""The head of `classify`: one label for a whole sequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data.splits import Batch
from seqbench.heads import Head, register_head
from seqbench.models.mixer import real_steps
from seqbench.task import Reading, TaskData

__all__ = ["ClassifyHead"]


@register_head("classify")
class ClassifyHead(Head):
    """Reads the mean over the n real steps, times sqrt(n), and the last real step: (B, 2 d_in) to (B, K) logits.

    The last step asks a recurrent model to carry what it found; the mean gives every model a way that does not depend
    on distance. Both together are what most published classifiers use one of. The factor keeps the mean of n
    independent steps as large as one of them: without it what a single step says would be n times fainter than what
    the last step says, and would be learned late.
    """

    def __init__(self, d_in: int, data: TaskData) -> None:
        super().__init__(d_in, data)
        self.out = nn.Linear(2 * d_in, len(data.classes))

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            pooled, last = y.sum(dim=1) / math.sqrt(y.shape[1]), y[:, -1]
        else:
            real = real_steps(lengths, y.shape[1])[:, :, None]
            # where, not a product: NaN times 0 in the padding would still be NaN
            pooled = torch.where(real, y, 0.0).sum(dim=1) / lengths[:, None].to(y.dtype).sqrt()
            last = y[torch.arange(len(y), device=y.device), lengths - 1]
        logits: Tensor = self.out(torch.cat([pooled, last], dim=1))
        return logits

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output.float(), batch.targets)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """Class probabilities (B, K)."""
        return output.float().softmax(dim=1)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """The most probable label, and the probability of each."""
        best = np.array(reading.classes)[predictions.argmax(axis=1)]
        return {"label": best, **{f"p_{name}": predictions[:, i] for i, name in enumerate(reading.classes)}}

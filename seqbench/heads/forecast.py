"""The head of `forecast`: all steps ahead at once, from the last observed step."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data.splits import Batch
from seqbench.heads import Head, register_head
from seqbench.task import Reading, TaskData

__all__ = ["ForecastHead"]


@register_head("forecast")
class ForecastHead(Head):
    """Reads the last step: (B, d_in) to (B, H, C) in the scaled units of the targets; trained on squared error."""

    def __init__(self, d_in: int, data: TaskData) -> None:
        super().__init__(d_in, data)
        self.shape = data.train[[0]].targets.shape[1:]
        self.out = nn.Linear(d_in, self.shape[0] * self.shape[1])

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        ahead: Tensor = self.out(y[:, -1]).unflatten(1, self.shape)
        return ahead

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(output.float(), batch.targets)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        return output.float()

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """``step_1`` ... for each step ahead, in the target's units (``step_1_2`` is the second channel's)."""
        values = reading.fitted["offset"] + reading.fitted["scale"] * predictions.astype("float64")
        found = {}
        for step in range(values.shape[1]):
            for channel in range(values.shape[2]):
                found[f"step_{step + 1}" + (f"_{channel + 1}" if channel else "")] = values[:, step, channel]
        return found

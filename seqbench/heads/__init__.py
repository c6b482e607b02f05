"""What a model predicts: one head a kind of task. Every module here is found by the kind registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy.typing as npt
from torch import Tensor, nn

from seqbench.errors import UserError
from seqbench.registry import HEADS

if TYPE_CHECKING:
    import numpy as np

    from seqbench.data.splits import Batch
    from seqbench.models.backbone import SequenceModel
    from seqbench.task import Reading, TaskData

__all__ = ["Head", "register_head"]

H = TypeVar("H", bound="type[Head]")


class Head(nn.Module):
    """From the last mixer's output (B, T, d_in) to predictions of one kind.

    Attributes:
        causal: whether the kind predicts what later steps show, so that only causal models may be scored.
    """

    causal: ClassVar[bool] = False

    def __init__(self, d_in: int, data: TaskData) -> None:
        super().__init__()
        self.d_in = d_in

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, d_in) to raw outputs."""
        raise TypeError(f"{type(self).__name__} must define forward(y, lengths)")

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Scalar training loss, a mean over all scored targets of the batch."""
        raise TypeError(f"{type(self).__name__} must define loss(output, batch)")

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """What is kept of each example, (B, ...), before `Split.collect`."""
        raise TypeError(f"{type(self).__name__} must define predict(output, batch)")

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """Predictions of new rows (N, ...), as `Split.collect` leaves them, as named columns in natural units."""
        raise UserError("this kind of task has no predictions that a table could hold.")

    @staticmethod
    def sample(model: SequenceModel, data: TaskData, generator: np.random.Generator) -> Sample | None:
        """Something the trained model makes up, for the reader; None for kinds that make nothing up."""
        return None


class Sample:
    """A text that a model made up, and figures about it."""

    def __init__(self, text: str, metrics: dict[str, float]) -> None:
        self.text, self.metrics = text, metrics


def register_head(kind: str) -> Callable[[H], H]:
    """Register the decorated `Head` for tasks of ``kind``."""

    def decorate(head: H) -> H:
        HEADS.add(kind, head)
        return head

    return decorate

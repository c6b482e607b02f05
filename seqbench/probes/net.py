"""The networks that probes measure: a registered mixer in the usual backbone, with a head that pools nothing.

The head of `classify` also reads a mean over all steps, which would hand it the first symbol; here it reads the last
step alone, or each step by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqbench.data.splits import TaskData
from seqbench.errors import NotApplicable, UserError, nearest
from seqbench.models.backbone import SequenceModel, check_widths, count_parameters
from seqbench.models.heads import Head
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import nearest_width

__all__ = ["Shape", "build_net", "mixer_of", "width_of_size"]


@dataclass(frozen=True)
class Shape:
    """What goes in and what comes out.

    Attributes:
        tokens: size of the vocabulary of (B, T) inputs; 0 for features.
        features: D of (B, T, D) inputs; 0 for tokens.
        outputs: K of the output.
        every_step: (B, T, K) outputs, not (B, K) after the last step.
    """

    tokens: int
    features: int
    outputs: int
    every_step: bool = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the tokens."""
        return tuple(map(str, range(self.tokens)))

    def example(self, batch: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        """Inputs of this shape: (B, T) tokens 0 or (B, T, D) zeros."""
        if self.tokens:
            return torch.zeros(batch, length, dtype=torch.long, device=device)
        return torch.zeros(batch, length, self.features, device=device)


class _Data:
    """What `SequenceModel` asks its data for."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.vocabulary, self.features = shape, shape.vocabulary, tuple(map(str, range(shape.features)))


class _Readout(Head):
    """A linear map of the last step (B, K), or of every step (B, T, K); causal, as the state is what is measured."""

    causal = True

    def __init__(self, d_in: int, data: Any) -> None:
        super().__init__(d_in, data)
        self.every_step = data.shape.every_step
        self.out = nn.Linear(d_in, data.shape.outputs)

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        output: Tensor = self.out(y if self.every_step else y[:, -1])
        return output


def mixer_of(model: str, initialisation: str | None = None) -> type[Mixer]:
    """The mixer class of ``model``, for a causal net.

    Raises:
        NotApplicable: it sees later steps.
        UserError: no such model, or no such initialisation of it.
    """
    mixer = MODELS.get(model).mixer
    if initialisation is not None and initialisation not in mixer.initialisations:
        raise UserError(nearest(initialisation, mixer.initialisations, f"initialisation of {model}"))
    if not mixer.can_be_causal:
        raise NotApplicable(f"{model} sees later steps, so nothing need be carried from step to step")
    return mixer


def build_net(
    model: str,
    shape: Shape,
    width: int,
    *,
    layers: int = 1,
    backbone: str = "bare",
    initialisation: str | None = None,
) -> SequenceModel:
    """A causal net of ``model``; its weights are drawn from torch's generator.

    Raises:
        NotApplicable: the model sees later steps.
        UserError: no such model or initialisation, or a width that the mixer can't have.
    """
    mixer = mixer_of(model, initialisation)
    check_widths(model, (width,))
    net = SequenceModel(mixer, _Readout, cast(TaskData, _Data(shape)), (width,) * layers, 0.0, backbone)
    if initialisation is not None and initialisation != mixer.initialisations[0]:
        for layer in net.layers:
            assert isinstance(layer, Mixer)
            layer.initialise(initialisation)
    return net


def width_of_size(params: int, model: str, shape: Shape, *, layers: int = 1, backbone: str = "bare") -> int:
    """The width at which ``model`` has nearest to ``params`` parameters, embedding and head included.

    Raises:
        UserError: even the narrowest has more.
    """
    multiple = mixer_of(model).width_multiple

    def count(width: int) -> int:
        return count_parameters(build_net(model, shape, width, layers=layers, backbone=backbone))

    return nearest_width(params, model, count, multiple)

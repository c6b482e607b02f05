"""What a model predicts: a head for each kind of task, and the `Shape` of what goes into a model and what comes out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data import CONTEXT, Batch, Reading, Stream, TaskData, text_of, unit_of
from seqbench.errors import UserError
from seqbench.models.mixer import real_steps
from seqbench.registry import Registry

__all__ = [
    "HEADS",
    "ClassifyHead",
    "ForecastHead",
    "GenerateHead",
    "Head",
    "PooledHead",
    "RegressHead",
    "Sample",
    "Shape",
    "StepHead",
    "TagHead",
    "generate",
    "register_head",
    "verbatim_share",
]

H = TypeVar("H", bound="type[Head]")
HEADS: Registry[type[Head]] = Registry("kind", "seqbench.models")


@dataclass(frozen=True)
class Shape:
    """What goes into a model and what comes out.

    Attributes:
        tokens: size of the vocabulary of (B, T) inputs; 0 for features.
        features: D of (B, T, D) inputs; 0 for tokens.
        outputs: sizes of one output: (K,) classes, (H, C) steps ahead and channels, (V,) symbols.
        every_step: whether there is an output for every step, not one for the whole sequence.
    """

    tokens: int
    features: int
    outputs: tuple[int, ...]
    every_step: bool = False

    def example(self, batch: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        """Inputs of this shape: (B, T) tokens 0 or (B, T, D) zeros."""
        if self.tokens:
            return torch.zeros(batch, length, dtype=torch.long, device=device)
        return torch.zeros(batch, length, self.features, device=device)


class Stepping(Protocol):
    """What drawing a text symbol by symbol asks of a model (`backbone.SequenceModel`)."""

    @property
    def steps(self) -> bool:
        """Whether it has a step form."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """(B, T) tokens to (B, T, V) logits."""

    def initial_state(self, batch: int) -> list[Any]:
        """Before the first step."""

    def step(self, inputs_t: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """(B,) tokens to (B, V) logits and the next state."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights, which lie on its device."""


class Head(nn.Module):
    """From the last mixer's output (B, T, d_in) to predictions of one kind.

    Attributes:
        causal: whether the kind predicts what later steps show, so that only causal models may be scored.
        every_step: whether it has an output for every step.
        last_only: whether it reads step T of the padded sequence and no other.
        frame: what stands around the mixers for this kind where that is not the `SequenceModel` of all others.
        options: fields of `RunConfig` that this frame takes and others don't.
        in_order: whether examples are windows of one long text, so that a state can be carried from one to the next.
        refusal: why a ``model`` that can't be causal may not be scored on a ``kind`` that needs it.
        telling: what `told` gives, and its dimensions, for those who read an exported model.
    """

    causal: ClassVar[bool] = False
    every_step: ClassVar[bool] = False
    last_only: ClassVar[bool] = False
    frame: ClassVar[type[Any] | None] = None
    options: ClassVar[tuple[str, ...]] = ()
    in_order: ClassVar[bool] = False
    refusal: ClassVar[str] = "{model} sees later steps, and a {kind} task is to predict them"
    telling: ClassVar[str] = "the output of the head"
    out: nn.Module

    def __init__(self, d_in: int, shape: Shape) -> None:
        super().__init__()
        self.d_in = d_in

    def deepen(self, widths: tuple[int, ...]) -> None:
        """Put dense layers of ``widths``, each with ReLU, before the output layer ``out``, which is made anew.

        Raises:
            UserError: the head has no such layer.
        """
        last = getattr(self, "out", None)
        if not isinstance(last, nn.Linear):
            raise UserError(f"--dense: {type(self).__name__} has no output layer to put layers before; leave it out.")
        sizes = (last.in_features, *widths)
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.out = nn.Sequential(*layers, nn.Linear(sizes[-1], last.out_features))

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        """Sizes of one output for ``data``, as `Shape` has them."""
        raise TypeError("a Head must define outputs(data)")

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, d_in) to raw outputs."""
        raise TypeError(f"{type(self).__name__} must define forward(y, lengths)")

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Scalar training loss, a mean over all scored targets of the batch."""
        raise TypeError(f"{type(self).__name__} must define loss(output, batch)")

    def told(self, output: Tensor) -> Tensor:
        """What a model tells of inputs whose targets nobody knows, from the raw outputs."""
        return output.float()

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """What is kept of each example, (B, ...), before `Split.collect`."""
        raise TypeError(f"{type(self).__name__} must define predict(output, batch)")

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """Predictions of new rows (N, ...), as `Split.collect` leaves them, as named columns in natural units."""
        raise UserError("this kind of task has no predictions that a table could hold.")

    @staticmethod
    def sample(model: Stepping, data: TaskData, generator: np.random.Generator) -> Sample | None:
        """Something the trained model makes up, for the reader; None for kinds that make nothing up."""
        return None


class Sample:
    """A text that a model made up, figures about it, and files by name that say more of it, as JSON has them."""

    def __init__(self, text: str, metrics: dict[str, float], files: Mapping[str, Any] | None = None) -> None:
        self.text, self.metrics, self.files = text, metrics, files or {}


def register_head(kind: str) -> Callable[[H], H]:
    """Register the decorated `Head` for tasks of ``kind``."""

    def decorate(head: H) -> H:
        HEADS.add(kind, head)
        return head

    return decorate


class PooledHead(Head):
    """Reads the mean over the n real steps, times sqrt(n), and the last real step: (B, T, d_in) to (B, 2 d_in).

    The last step asks a recurrent model to carry what it found; the mean gives every model a way that does not depend
    on distance. Both together are what most published classifiers use one of. The factor keeps the mean of n
    independent steps as large as one of them: without it what a single step says would be n times fainter than what
    the last step says, and would be learned late.
    """

    def __init__(self, d_in: int, shape: Shape) -> None:
        super().__init__(d_in, shape)
        self.out = nn.Linear(2 * d_in, shape.outputs[0])

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            pooled, last = y.sum(dim=1) / math.sqrt(y.shape[1]), y[:, -1]
        else:
            real = real_steps(lengths, y.shape[1])[:, :, None]
            # where, not a product: NaN times 0 in the padding would still be NaN
            pooled = torch.where(real, y, 0.0).sum(dim=1) / lengths[:, None].to(y.dtype).sqrt()
            last = y[torch.arange(y.shape[0], device=y.device), lengths - 1]
        outputs: Tensor = self.out(torch.cat([pooled, last], dim=1))
        return outputs


@register_head("classify")
class ClassifyHead(PooledHead):
    """One label for the whole sequence: (B, K) logits, trained on cross-entropy."""

    telling = "the probability of each class (batch, classes)"

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return (len(data.classes),)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output.float(), batch.targets)

    def told(self, output: Tensor) -> Tensor:
        """Class probabilities (B, K)."""
        return output.float().softmax(dim=1)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """Class probabilities (B, K)."""
        return self.told(output)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """The most probable label, and the probability of each."""
        best = np.array(reading.classes)[predictions.argmax(axis=1)]
        return {"label": best, **{f"p_{name}": predictions[:, i] for i, name in enumerate(reading.classes)}}


@register_head("regress")
class RegressHead(PooledHead):
    """One number for the whole sequence, (B, 1) in the scaled units of the targets; trained on squared error."""

    telling = "the number (batch,), in the scaled units of the targets"

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return (1,)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(output.float()[:, 0], batch.targets)

    def told(self, output: Tensor) -> Tensor:
        """(B,) scaled numbers."""
        return output.float()[:, 0]

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """(B,) scaled numbers."""
        return self.told(output)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """The number, in the target's units."""
        return {"value": reading.fitted["offset"] + reading.fitted["scale"] * predictions.astype("float64")}


class StepHead(Head):
    """Reads every step by itself: (B, T, d_in) to (B, T, K)."""

    every_step = True

    def __init__(self, d_in: int, shape: Shape) -> None:
        super().__init__(d_in, shape)
        self.out = nn.Linear(d_in, shape.outputs[0])

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        logits: Tensor = self.out(y)
        return logits


@register_head("tag")
class TagHead(StepHead):
    """One label for every step, (B, T, d_in) to (B, T, K) logits, which may look both ways; below 0 is context."""

    telling = "the probability of each class at each step (batch, length, classes)"

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return (len(data.classes),)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output.float().flatten(0, 1), batch.targets.flatten(), ignore_index=CONTEXT)

    def told(self, output: Tensor) -> Tensor:
        """Class probabilities (B, T, K)."""
        return output.float().softmax(dim=2)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """Class probabilities (B, T, K)."""
        return self.told(output)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """The most probable label of each step, and the probability of each."""
        return ClassifyHead.columns(predictions, reading)


@register_head("forecast")
class ForecastHead(Head):
    """Reads the last step: (B, d_in) to (B, H, C) in the scaled units of the targets; trained on squared error."""

    last_only = True
    telling = "the values ahead (batch, horizon, channels), in the scaled units of the targets"

    def __init__(self, d_in: int, shape: Shape) -> None:
        super().__init__(d_in, shape)
        self.sizes = shape.outputs
        self.out = nn.Linear(d_in, math.prod(self.sizes))

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return tuple(data.train[[0]].targets.shape[1:])

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        ahead: Tensor = self.out(y[:, -1]).unflatten(1, self.sizes)
        return ahead

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(output.float(), batch.targets)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        return self.told(output)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """``step_1`` ... for each step ahead, in the target's units (``step_1_2`` is the second channel's)."""
        values = reading.fitted["offset"] + reading.fitted["scale"] * predictions.astype("float64")
        columns = {}
        for step in range(values.shape[1]):
            for channel in range(values.shape[2]):
                columns[f"step_{step + 1}" + (f"_{channel + 1}" if channel else "")] = values[:, step, channel]
        return columns


SAMPLE_LENGTH = {"character": 300, "word": 80}
TEMPERATURE = 0.8
REPEAT = 30  # characters in a row that count as a verbatim repeat


@register_head("generate")
class GenerateHead(StepHead):
    """(B, T, d_in) to (B, T, V) logits of the symbol after each step; a model that sees it may not be scored."""

    causal = True
    in_order = True
    telling = "the log-probability, in nats, of each symbol after each step (batch, length, symbols)"

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return (len(data.vocabulary),)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output.float().flatten(0, 1), batch.targets.flatten())

    def told(self, output: Tensor) -> Tensor:
        """Log-probabilities (B, T, V)."""
        return output.float().log_softmax(dim=2)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """Losses in nats (B, T), zero where a target is context only."""
        nats = F.cross_entropy(output.float().flatten(0, 1), batch.targets.flatten(), reduction="none")
        nats = nats.view(batch.targets.shape)
        if batch.skip is None:
            return nats
        scored = torch.arange(nats.shape[1], device=nats.device) >= batch.skip[:, None]
        return torch.where(scored, nats, 0.0)

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """How many bits each block of 2,048 characters, or words, costs the model."""
        return {"bits": predictions / math.log(2)}

    @staticmethod
    def sample(model: Stepping, data: TaskData, generator: np.random.Generator) -> Sample | None:
        """300 characters, or 80 words, that go on from a piece of the validation text."""
        assert isinstance(data.val, Stream) and isinstance(data.train, Stream)
        context = min(data.val.window, len(data.val.tokens) - 1)
        start = int(generator.integers(len(data.val.tokens) - context))
        prompt = data.val.tokens[start : start + context]
        unit = unit_of(data.fitted)
        made = generate(model, prompt, SAMPLE_LENGTH[unit], data.val.window, generator)
        text, training = (text_of(tokens, data.vocabulary, unit) for tokens in (made, data.train.tokens))
        return Sample(text, {"verbatim_share": verbatim_share(text, training)})


@torch.no_grad()
def generate(
    model: Stepping, prompt: np.ndarray, length: int, window: int, generator: np.random.Generator
) -> np.ndarray:
    """``length`` symbols after ``prompt``, drawn one by one at temperature 0.8.

    As when text is scored, each is drawn with ``window / 2`` to ``window`` symbols of context, so that no model is used
    beyond the lengths that it was trained on. Models with a step form carry their state; others read the
    context anew for every symbol.
    """
    text = [int(token) for token in prompt]
    half = max(1, window // 2)
    for made in range(length):
        if made % half == 0:
            start = max(0, len(text) - half)
            logits, state = _read(model, text[start:])
        elif model.steps:
            logits, state = model.step(_tokens(model, text[-1:]), state)
        else:
            logits, state = _read(model, text[start:])
        probability = (logits[0].cpu().double() / TEMPERATURE).softmax(dim=0).numpy()
        text.append(int(generator.choice(len(probability), p=probability / probability.sum())))
    return np.array(text[len(prompt) :])


def _tokens(model: Stepping, tokens: list[int]) -> Tensor:
    return torch.tensor(tokens, device=next(model.parameters()).device)


def _read(model: Stepping, text: list[int]) -> tuple[Tensor, list[Any]]:
    """Logits (1, V) after ``text``, and the state there if the model has a step form."""
    if not model.steps:
        return model(_tokens(model, text)[None])[:, -1], []
    state = model.initial_state(1)
    for token in text:
        logits, state = model.step(_tokens(model, [token]), state)
    return logits, state


def verbatim_share(text: str, training: str) -> float:
    """Share of the 30-character pieces of ``text`` that stand in ``training`` word for word."""
    pieces = [text[at : at + REPEAT] for at in range(len(text) - REPEAT + 1)]
    return sum(piece in training for piece in pieces) / len(pieces)

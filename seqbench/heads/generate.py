"""The head of `generate`: the next symbol at every step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data import Batch, Stream
from seqbench.heads import Head, Sample, register_head
from seqbench.models.backbone import SequenceModel
from seqbench.task import Reading, TaskData

__all__ = ["GenerateHead", "generate", "verbatim_share"]

SAMPLE_LENGTH = 300
TEMPERATURE = 0.8
REPEAT = 30  # characters in a row that count as a verbatim repeat


@register_head("generate")
class GenerateHead(Head):
    """(B, T, d_in) to (B, T, V) logits of the symbol after each step; a model that sees it may not be scored."""

    causal = True

    def __init__(self, d_in: int, data: TaskData) -> None:
        super().__init__(d_in, data)
        self.out = nn.Linear(d_in, len(data.vocabulary))

    def forward(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        logits: Tensor = self.out(y)
        return logits

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(output.float().flatten(0, 1), batch.targets.flatten())

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
        """How many bits each block of 2,048 characters costs the model."""
        return {"bits": predictions / math.log(2)}

    @staticmethod
    def sample(model: SequenceModel, data: TaskData, generator: np.random.Generator) -> Sample | None:
        """300 characters that go on from a piece of the validation text."""
        assert isinstance(data.val, Stream) and isinstance(data.train, Stream)
        context = min(data.val.window, len(data.val.tokens) - 1)
        start = int(generator.integers(len(data.val.tokens) - context))
        prompt = data.val.tokens[start : start + context]
        made = generate(model, prompt, SAMPLE_LENGTH, data.val.window, generator)
        text, training = ("".join(data.vocabulary[token] for token in tokens) for tokens in (made, data.train.tokens))
        return Sample(text, {"verbatim_share": verbatim_share(text, training)})


@torch.no_grad()
def generate(
    model: SequenceModel, prompt: np.ndarray, length: int, window: int, generator: np.random.Generator
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


def _tokens(model: SequenceModel, tokens: list[int]) -> Tensor:
    return torch.tensor(tokens, device=next(model.parameters()).device)


def _read(model: SequenceModel, text: list[int]) -> tuple[Tensor, list[Any]]:
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

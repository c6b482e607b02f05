"""A text as a stream of characters, read in windows: the shape of data that `generate` tasks have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data.splits import Batch, Split
from seqbench.errors import UserError
from seqbench.task import Truth

__all__ = ["BLOCK", "Stream"]

Array = npt.NDArray[Any]
BLOCK = 2048  # characters over which the loss of generated text is summed


def _check_length(tokens: Array, window: int) -> None:
    if len(tokens) <= window:
        raise UserError(f"a text of {len(tokens)} characters is too short for windows of {window}: shorten them.")


@dataclass(frozen=True, eq=False)
class Stream(Split):
    """A text as tokens (L,), read in windows of T: window i predicts ``targets[s+1 : s+T+1]`` from ``tokens[s : s+T]``.

    For evaluation the windows overlap by half and ``skip`` says how many leading targets of each are context only, so
    that every character is scored exactly once and after at least T/2 others (see `evaluation`).
    """

    tokens: Array
    starts: Array
    window: int
    skip: Array | None = None
    permuted: Array | None = None

    @classmethod
    def training(cls, tokens: Array, window: int, stride: int) -> Stream:
        """Windows at every ``stride``-th character, all targets counted."""
        _check_length(tokens, window)
        return cls(tokens, np.arange(0, len(tokens) - window, stride), window)

    @classmethod
    def evaluation(cls, tokens: Array, window: int) -> Stream:
        """Windows with stride T/2, each character but the very first scored exactly once."""
        _check_length(tokens, window)
        last = len(tokens) - window - 1
        starts = np.unique(np.append(np.arange(0, last + 1, max(1, window // 2)), last))
        ends = starts + window
        skip = np.append(0, ends[:-1] - starts[1:])
        return cls(tokens, starts, window, skip)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sequence_length(self) -> int:
        return self.window

    @property
    def n_scored(self) -> int:
        return len(self.tokens) - 1

    @property
    def groups(self) -> Array:
        """Each window its own group: the splits are contiguous stretches of one text."""
        return np.arange(len(self.starts))

    def arrays(self) -> dict[str, Array]:
        found = {
            "tokens": self.tokens,
            "targets": self.tokens if self.permuted is None else self.permuted,
            "starts": self.starts,
            "offsets": np.arange(self.window),
        }
        return found if self.skip is None else {**found, "skip": self.skip}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        at = arrays["starts"][indices][:, None] + arrays["offsets"]
        skip = arrays["skip"][indices] if "skip" in arrays else None
        return Batch(arrays["tokens"][at], None, arrays["targets"][at + 1], skip)

    def truth(self) -> Truth:
        """Blocks of 2,048 characters: the target is the number of characters scored in each."""
        counts = np.bincount((np.arange(1, len(self.tokens)) - 1) // BLOCK)
        return Truth(counts, np.arange(len(counts)))

    def collect(self, predictions: Array) -> Array:
        """Losses of every window's targets (N, T), skipped ones zero, summed into the blocks of `truth`."""
        at = self.starts[:, None] + np.arange(self.window)
        return np.bincount((at // BLOCK).ravel(), weights=predictions.ravel().astype(np.float64))

    def shuffled(self, generator: np.random.Generator) -> Stream:
        return replace(self, permuted=self.tokens[generator.permutation(len(self.tokens))])

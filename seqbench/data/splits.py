"""The three shapes that a split's data can have: rows, windows over a series, and a stream of characters.

A split names the arrays it gathers batches from, and `gather` indexes them with plain operators, so that the very same
function serves numpy arrays here and torch tensors on a device in the engine. Shapes: B examples in a batch, T steps,
D features, N examples in the split, L steps in the whole series, H steps and C channels predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError
from seqbench.task import Truth

__all__ = ["BLOCK", "Batch", "Rows", "Split", "Stream", "Windows"]

Array = npt.NDArray[Any]
BLOCK = 2048  # characters over which the loss of generated text is summed


class Batch(NamedTuple):
    """One batch, as numpy arrays or torch tensors.

    Attributes:
        inputs: (B, T) tokens or (B, T, D) features.
        lengths: (B,) real steps of each row, or None where all T are real.
        targets: classify (B,); tag, generate (B, T); forecast (B, H, C).
        skip: (B,) leading targets that only serve as context and are not scored, or None.
    """

    inputs: Any
    lengths: Any = None
    targets: Any = None
    skip: Any = None


@dataclass(frozen=True, eq=False)
class Split:
    """Common part: ``groups`` (N,) must not straddle splits, ``meta`` is what the score needs beside the targets."""

    def __len__(self) -> int:
        raise TypeError("a Split is one of Rows, Windows, Stream")

    def arrays(self) -> dict[str, Array]:
        """The arrays that `gather` reads."""
        raise TypeError("a Split is one of Rows, Windows, Stream")

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """The batch of the examples ``indices`` (B,), by plain indexing."""
        raise TypeError("a Split is one of Rows, Windows, Stream")

    def __getitem__(self, indices: Any) -> Batch:
        return self.gather(self.arrays(), np.asarray(indices))

    @property
    def n_scored(self) -> int:
        """How many predictions a score over the whole split counts."""
        return len(self)

    @property
    def sequence_length(self) -> int:
        """T, the longest input."""
        raise TypeError("a Split is one of Rows, Windows, Stream")

    @property
    def lengths(self) -> Array | None:
        """(N,) real steps of each example, or None where they are all alike."""
        return None

    def truth(self) -> Truth:
        """What the predictions of all examples, in order, are scored against."""
        raise TypeError("a Split is one of Rows, Windows, Stream")

    def collect(self, predictions: Array) -> Array:
        """Per-example outputs (N, ...) as `truth` has them."""
        return predictions

    def shuffled(self, generator: np.random.Generator) -> Split:
        """The same inputs with permuted targets: a control, from which nothing can be learned."""
        raise TypeError("a Split is one of Rows, Windows, Stream")


@dataclass(frozen=True, eq=False)
class Rows(Split):
    """Examples that stand by themselves: inputs (N, T) or (N, T, D), targets (N, ...), optional lengths (N,)."""

    inputs: Array
    targets: Array
    groups: Array
    row_lengths: Array | None = None
    meta: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def arrays(self) -> dict[str, Array]:
        found = {"inputs": self.inputs, "targets": self.targets}
        return found if self.row_lengths is None else {**found, "lengths": self.row_lengths}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        lengths = arrays["lengths"][indices] if "lengths" in arrays else None
        return Batch(arrays["inputs"][indices], lengths, arrays["targets"][indices])

    @property
    def sequence_length(self) -> int:
        return int(self.inputs.shape[1])

    @property
    def lengths(self) -> Array | None:
        return self.row_lengths

    def truth(self) -> Truth:
        return Truth(np.asarray(self.targets), np.asarray(self.groups), self.meta)

    def shuffled(self, generator: np.random.Generator) -> Rows:
        return replace(self, targets=self.targets[generator.permutation(len(self))])


@dataclass(frozen=True, eq=False)
class Windows(Split):
    """Windows over a series: the series and where each window starts, gathered a batch at a time, never stored.

    Window i reads ``series[starts[i] : starts[i] + lookback]`` and predicts the ``horizon`` rows of ``target_series``
    that follow. A split holds its own stretch of the series, so no window can reach into another split.
    """

    series: Array
    target_series: Array
    starts: Array
    lookback: int
    horizon: int
    groups: Array
    meta: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sequence_length(self) -> int:
        return self.lookback

    def arrays(self) -> dict[str, Array]:
        return {
            "series": self.series,
            "target_series": self.target_series,
            "starts": self.starts,
            "past": np.arange(self.lookback),
            "future": np.arange(self.lookback, self.lookback + self.horizon),
        }

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        starts = arrays["starts"][indices][:, None]
        return Batch(
            arrays["series"][starts + arrays["past"]], None, arrays["target_series"][starts + arrays["future"]]
        )

    def truth(self) -> Truth:
        targets = self.target_series[self.starts[:, None] + np.arange(self.lookback, self.lookback + self.horizon)]
        return Truth(targets, np.asarray(self.groups), self.meta)

    def shuffled(self, generator: np.random.Generator) -> Windows:
        return replace(self, target_series=self.target_series[generator.permutation(len(self.target_series))])


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

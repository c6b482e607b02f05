"""The shapes of data: a split is rows, ragged rows, pairs of sentences, windows or segments of a series, or a stream of
text (`Split`); three of them and what a reader must know about them are a prepared data set (`TaskData`).

A split names the arrays it gathers batches from, and `gather` indexes them with plain operators, so that the very same
function serves numpy arrays here and torch tensors in `seqbench.training`, which decides what stands together in a
batch. Shapes: B examples in a batch, T steps, D features, N examples in the split, L steps in the whole series, H steps
and C channels predicted.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError

__all__ = [
    "BEGIN",
    "BLOCK",
    "CONTEXT",
    "END",
    "LINE",
    "PREDICTIONS",
    "Batch",
    "InOrder",
    "NewRows",
    "Pairs",
    "Ragged",
    "RaggedTags",
    "Reading",
    "Rows",
    "Segments",
    "Split",
    "Stream",
    "Tagged",
    "TaskData",
    "Truth",
    "Windows",
    "read_predictions",
    "text_of",
    "text_rows",
    "texts_of",
    "unit_of",
]

Array = npt.NDArray[Any]
PREDICTIONS = "predictions.npz"  # beside the record of a run
STRETCHES = 32  # into which a text is cut that is scored in order: rows of a batch, enough to be fast
LONG_STRETCH = 8  # windows that a stretch has at least
BLOCK = 2048  # characters, or words, over which the loss of generated text is summed
MOST_COUNTED = 4096  # windows that the size of usual changes is told from
LINE = "\n"  # the word that stands for the end of a line, where a text is read word by word
CLOSING, OPENING = (
    frozenset(",.;:!?)]}%\u2019\u201d\u2026"),
    frozenset("([{\u201c\u2018"),
)  # signs without a space before and after them
CONTEXT = -1  # in place of a label: a step that a window reads and another one is scored on
BEGIN, END = 2, 3  # tokens that stand before and after a sentence that is written; 0 is padding, 1 what is not known


class Batch(NamedTuple):
    """One batch, as numpy arrays or torch tensors.

    Attributes:
        inputs: (B, T) tokens or (B, T, D) features.
        lengths: (B,) real steps of each row, or None where all T are real.
        targets: classify, regress (B,); tag, generate (B, T); forecast (B, H, C); translate (B, S), 0 after the end.
        skip: (B,) leading targets that only serve as context and are not scored, or None.
        places: (B,) where in the text each row begins, of a text that is read in order (`InOrder`); else None.
    """

    inputs: Any
    lengths: Any = None
    targets: Any = None
    skip: Any = None
    places: Any = None


@dataclass(frozen=True, eq=False)
class Truth:
    """What predictions are scored against: ``targets`` and ``groups`` with one row per example, and ``meta``.

    ``meta`` holds further arrays with one row per example (onset, time, scale): all that a score may need. It is stored
    beside the predictions, so that a board can compute intervals without the data.
    """

    targets: Array
    groups: Array
    meta: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def with_constants(self, constants: Mapping[str, float]) -> Truth:
        """The same with each of ``constants`` as a further array of ``meta``, one row per example."""
        more = {name: np.full(len(self), value) for name, value in constants.items()}
        return Truth(self.targets, self.groups, {**self.meta, **more})

    def __getitem__(self, index: Any) -> Truth:
        return Truth(self.targets[index], self.groups[index], {name: rows[index] for name, rows in self.meta.items()})


@dataclass(frozen=True, eq=False)
class Split:
    """Common part: ``groups`` (N,) must not straddle splits, ``meta`` is what the score needs beside the targets."""

    def __len__(self) -> int:
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")

    def arrays(self) -> dict[str, Array]:
        """The arrays that `gather` reads."""
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """The batch of the examples ``indices`` (B,), by plain indexing."""
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")

    def __getitem__(self, indices: Any) -> Batch:
        return self.gather(self.arrays(), np.asarray(indices))

    @property
    def n_scored(self) -> int:
        """How many predictions a score over the whole split counts."""
        return len(self)

    @property
    def sequence_length(self) -> int:
        """T, the longest input."""
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")

    @property
    def lengths(self) -> Array | None:
        """(N,) real steps of each example, or None where they are all alike."""
        return None

    @property
    def target_steps(self) -> Array | None:
        """(N,) real steps of each target, or None where all targets have one shape."""
        return None

    @property
    def sizes(self) -> Array | None:
        """(N,) what examples of one batch shall be alike in, or None where they all are."""
        return self.lengths

    def truth(self) -> Truth:
        """What the predictions of all examples, in order, are scored against."""
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")

    def collect(self, predictions: Array) -> Array:
        """Per-example outputs (N, ...) as `truth` has them."""
        return predictions

    def shuffled(self, generator: np.random.Generator) -> Split:
        """The same inputs with permuted targets: a control, from which nothing can be learned."""
        raise TypeError("a Split is one of Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream")


class Labelled(Split):
    """Common part of splits that hold one target for each example; the fields are declared where they are ordered."""

    targets: Array
    groups: Array
    meta: Mapping[str, Array]

    def truth(self) -> Truth:
        return Truth(np.asarray(self.targets), np.asarray(self.groups), self.meta)

    def shuffled(self, generator: np.random.Generator) -> Self:
        changes: dict[str, Any] = {"targets": self.targets[generator.permutation(len(self))]}
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Rows(Labelled):
    """Examples that stand by themselves: inputs (N, T) or (N, T, D), targets (N, ...), optional lengths (N,)."""

    inputs: Array
    targets: Array
    groups: Array
    row_lengths: Array | None = None
    meta: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def arrays(self) -> dict[str, Array]:
        arrays = {"inputs": self.inputs, "targets": self.targets}
        return arrays if self.row_lengths is None else {**arrays, "lengths": self.row_lengths}

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


class _Uneven:
    """Common part of splits whose examples lie end to end, each with its own length."""

    starts: Array
    row_lengths: Array

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sequence_length(self) -> int:
        return int(self.row_lengths.max())

    @property
    def lengths(self) -> Array | None:
        return self.row_lengths


@dataclass(frozen=True, eq=False)
class Ragged(_Uneven, Labelled):
    """Token sequences of very different lengths, end to end in ``tokens`` (L,) and padded a batch at a time.

    Example i is ``tokens[starts[i] : starts[i] + row_lengths[i]]``; targets and groups (N,). Rows as long as the
    longest would take its length for every one. Token 0 is padding.
    """

    tokens: Array
    starts: Array
    row_lengths: Array
    targets: Array
    groups: Array
    meta: Mapping[str, Array] = field(default_factory=dict)

    def arrays(self) -> dict[str, Array]:
        return {
            "tokens": self.tokens,
            "starts": self.starts,
            "lengths": self.row_lengths,
            "targets": self.targets,
            "steps": np.arange(self.sequence_length),
        }

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """Whoever knows the longest of ``indices`` passes that many ``steps``; else rows are as long as the longest."""
        lengths = arrays["lengths"][indices]
        tokens = _padded(arrays["tokens"], arrays["starts"][indices], lengths, arrays["steps"])
        return Batch(tokens, lengths, arrays["targets"][indices])


def _padded(tokens: Any, starts: Any, lengths: Any, steps: Any) -> Any:
    """(B, T) the tokens of each row, 0 after its end; arrays or tensors."""
    real = steps < lengths[:, None]
    return tokens[(starts[:, None] + steps) * real] * real


def text_rows(texts: Sequence[str]) -> Array:
    """(N, W) uint8: ``texts`` in UTF-8, filled up with zeros."""
    encoded = [text.encode() for text in texts]
    rows = np.zeros((len(encoded), max(1, *map(len, encoded)) if encoded else 1), dtype=np.uint8)
    for row, line in zip(rows, encoded, strict=True):
        row[: len(line)] = np.frombuffer(line, dtype=np.uint8)
    return rows


def texts_of(rows: Array) -> list[str]:
    """The texts of `text_rows`."""
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows.astype(np.uint8)]


@dataclass(frozen=True, eq=False)
class Pairs(_Uneven, Split):
    """Sentences and their translations as tokens, all end to end in ``tokens`` (L,), padded a batch at a time.

    Sentence i is ``tokens[starts[i] : starts[i] + row_lengths[i]]``, its translation
    ``tokens[target_starts[i] : target_starts[i] + target_lengths[i]]`` with `END` as its last. It is scored as text:
    what is written is put together of ``symbols``, as sources are for methods that read words.

    Attributes:
        targets: (N, W) uint8, the translations as `text_rows` has them.
        symbols: (V, W) uint8, what each token stands for, likewise; those that stand for nothing are empty.
        groups: (N,) near-duplicates on either side share one.
    """

    tokens: Array
    starts: Array
    row_lengths: Array
    target_starts: Array
    target_lengths: Array
    targets: Array
    symbols: Array
    groups: Array
    meta: Mapping[str, Array] = field(default_factory=dict)

    def arrays(self) -> dict[str, Array]:
        return {
            "tokens": self.tokens,
            "starts": self.starts,
            "lengths": self.row_lengths,
            "steps": np.arange(self.sequence_length),
            "target_starts": self.target_starts,
            "target_lengths": self.target_lengths,
            "target_steps": np.arange(int(self.target_lengths.max())),
        }

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """Whoever knows the longest of ``indices`` passes that many ``steps`` and ``target_steps``."""
        lengths, written = arrays["lengths"][indices], arrays["target_lengths"][indices]
        inputs = _padded(arrays["tokens"], arrays["starts"][indices], lengths, arrays["steps"])
        targets = _padded(arrays["tokens"], arrays["target_starts"][indices], written, arrays["target_steps"])
        return Batch(inputs, lengths, targets)

    @property
    def target_steps(self) -> Array | None:
        return self.target_lengths

    @property
    def sizes(self) -> Array | None:
        """By what is written, which takes most of the time, and then by what is read."""
        sizes: Array = self.target_lengths * (1 + self.sequence_length) + self.row_lengths
        return sizes

    def sources(self) -> list[str]:
        """The sentences that are read, put together of their tokens."""
        return texts_of(self.collect(self[np.arange(len(self))].inputs))

    def truth(self) -> Truth:
        """With the steps of each source as ``source_length``."""
        return Truth(
            np.asarray(self.targets), np.asarray(self.groups), {**self.meta, "source_length": self.row_lengths}
        )

    def collect(self, predictions: Array) -> Array:
        """Tokens (N, T), 0 where nothing stands, as texts (N, W)."""
        if not len(predictions):
            return np.zeros((0, 1), dtype=np.uint8)
        letters = [self.symbols[row[row > 0]].ravel() for row in predictions]
        return text_rows([row[row > 0].tobytes().decode(errors="replace").strip() for row in letters])

    def shuffled(self, generator: np.random.Generator) -> Pairs:
        order = generator.permutation(len(self))
        names = ("target_starts", "target_lengths", "targets")
        changes: dict[str, Any] = {name: getattr(self, name)[order] for name in names}
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Windows(Split):
    """Windows over a series: the series and where each window starts, gathered a batch at a time, never stored.

    Window i reads ``series[starts[i] : starts[i] + lookback]`` and predicts the ``horizon`` rows of ``target_series``
    that follow. A split holds its own stretch of the series, so no window can reach into another split.

    Where ``relative`` is not 0, a window is read and predicted relative to the last value that it saw of the target:
    that value is taken off the first C columns of the inputs, which are the target's, and off the targets, and what is
    left is divided by ``relative``, the size of usual changes (`change`). `collect` undoes both, so that truth, scores
    and baselines know nothing of it. A series that drifts has left the range of its training stretch by the time of the
    test, and its changes have not.
    """

    series: Array
    target_series: Array
    starts: Array
    lookback: int
    horizon: int
    groups: Array
    meta: Mapping[str, Array] = field(default_factory=dict)
    relative: float = 0.0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sequence_length(self) -> int:
        return self.lookback

    @property
    def last(self) -> Array:
        """(N, 1, C) the last value of the target that each window saw."""
        last: Array = self.target_series[self.starts + self.lookback - 1][:, None]
        return last

    @property
    def change(self) -> float:
        """How far the targets are from the last value seen, as the root of their mean square; 1 if not at all."""
        few = np.arange(0, len(self), -(-len(self) // MOST_COUNTED))
        ahead = self.target_series[self.starts[few, None] + np.arange(self.lookback, self.lookback + self.horizon)]
        size = float(np.sqrt(np.mean((ahead.astype(np.float64) - self.last[few]) ** 2)))
        return size if size > 0 else 1.0

    def arrays(self) -> dict[str, Array]:
        arrays = {
            "series": self.series,
            "target_series": self.target_series,
            "starts": self.starts,
            "past": np.arange(self.lookback),
            "future": np.arange(self.lookback, self.lookback + self.horizon),
        }
        if self.relative:
            arrays["unit"] = np.full(self.target_series.shape[1], self.relative, dtype=self.target_series.dtype)
        return arrays

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        starts = arrays["starts"][indices][:, None]
        inputs, targets = arrays["series"][starts + arrays["past"]], arrays["target_series"][starts + arrays["future"]]
        if "unit" in arrays:
            unit = arrays["unit"]
            own = inputs[:, :, : len(unit)]
            inputs[:, :, : len(unit)] = (own - own[:, -1:]) / unit
            targets = (targets - arrays["target_series"][starts + arrays["past"][-1]]) / unit
        return Batch(inputs, None, targets)

    def collect(self, predictions: Array) -> Array:
        """Forecasts as values of the target, whatever they were relative to."""
        return predictions * self.relative + self.last if self.relative else predictions

    def truth(self) -> Truth:
        targets = self.target_series[self.starts[:, None] + np.arange(self.lookback, self.lookback + self.horizon)]
        return Truth(targets, np.asarray(self.groups), self.meta)

    def shuffled(self, generator: np.random.Generator) -> Windows:
        return replace(self, target_series=self.target_series[generator.permutation(len(self.target_series))])


@dataclass(frozen=True, eq=False)
class Segments(Labelled):
    """Labelled windows over one or more series laid end to end: gathered a batch at a time, never stored.

    Window i is ``series[starts[i] : starts[i] + lookback]`` with the target ``targets[i]``; whoever makes the starts
    sees to it that no window reaches from one series into the next. Where some series are shorter than the window,
    ``row_lengths`` (N,) says how many steps each really has; the others are zeros.
    """

    series: Array
    starts: Array
    lookback: int
    targets: Array
    groups: Array
    row_lengths: Array | None = None
    meta: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def arrays(self) -> dict[str, Array]:
        arrays = {
            "series": self.series,
            "starts": self.starts,
            "targets": self.targets,
        }
        if self.row_lengths is None:
            return {**arrays, "past": np.arange(self.lookback)}
        return {**arrays, "lengths": self.row_lengths, "steps": np.arange(self.lookback)}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """Where lengths vary, whoever knows the longest of ``indices`` passes that many ``steps``."""
        starts, targets = arrays["starts"][indices][:, None], arrays["targets"][indices]
        if "lengths" not in arrays:
            return Batch(arrays["series"][starts + arrays["past"]], None, targets)
        lengths = arrays["lengths"][indices]
        real = arrays["steps"] < lengths[:, None]
        return Batch(arrays["series"][starts + arrays["steps"] * real] * real[:, :, None], lengths, targets)

    @property
    def sequence_length(self) -> int:
        return self.lookback

    @property
    def lengths(self) -> Array | None:
        return self.row_lengths


@dataclass(frozen=True, eq=False)
class Tagged(Split):
    """Windows over series laid end to end with a label for every step, each of which is scored once.

    Window i is ``series[starts[i] : starts[i] + lookback]``; its first ``skip[i]`` labels are those of the window
    before and serve as context (`CONTEXT`), as steps do whose label is not known.

    Attributes:
        series, labels: (L, D) and (L,).
        groups: (N,) of the windows.
    """

    series: Array
    labels: Array
    starts: Array
    lookback: int
    skip: Array
    groups: Array

    def __len__(self) -> int:
        return len(self.starts)

    def arrays(self) -> dict[str, Array]:
        return {
            "series": self.series,
            "labels": self.labels,
            "starts": self.starts,
            "skip": self.skip,
            "offsets": np.arange(self.lookback),
        }

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        at = arrays["starts"][indices][:, None] + arrays["offsets"]
        context = arrays["offsets"] < arrays["skip"][indices][:, None]
        labels = arrays["labels"][at]
        return Batch(arrays["series"][at], None, labels * ~context + CONTEXT * context)

    @property
    def n_scored(self) -> int:
        return int(self._scored().sum())

    @property
    def sequence_length(self) -> int:
        return self.lookback

    def _scored(self) -> Array:
        """(N, T) which steps count."""
        offsets = np.arange(self.lookback)
        scored: Array = (offsets >= self.skip[:, None]) & (self.labels[self.starts[:, None] + offsets] != CONTEXT)
        return scored

    def truth(self) -> Truth:
        """The steps of all windows that count, in order."""
        scored = self._scored()
        at = self.starts[:, None] + np.arange(self.lookback)
        groups = np.broadcast_to(np.asarray(self.groups)[:, None], at.shape)
        return Truth(np.asarray(self.labels)[at[scored]], groups[scored])

    def collect(self, predictions: Array) -> Array:
        return predictions[self._scored()]

    def shuffled(self, generator: np.random.Generator) -> Tagged:
        return replace(self, labels=self.labels[generator.permutation(len(self.labels))])


@dataclass(frozen=True, eq=False)
class RaggedTags(_Uneven, Split):
    """Sequences of very different lengths, end to end, with a label for every step; padded a batch at a time.

    Example i is ``series[starts[i] : starts[i] + row_lengths[i]]``: tokens (L,), of which 0 is padding, or features
    (L, D), which may be small integers to be multiplied by ``scale``. A step with the label `CONTEXT` is read and not
    scored. A sequence that is longer than a model reads is cut into several examples.

    Attributes:
        labels: (L,) of all steps.
        groups: (N,) of the examples.
        rows, offsets: (N,) which sequence each example is of, and the step of it that it begins with. Both are in
            ``meta`` of the truth, step by step, for scores that ask what stands side by side.
    """

    series: Array
    labels: Array
    starts: Array
    row_lengths: Array
    groups: Array
    rows: Array
    offsets: Array
    scale: float = 1.0

    def arrays(self) -> dict[str, Array]:
        arrays = {
            "series": self.series,
            "labels": self.labels,
            "starts": self.starts,
            "lengths": self.row_lengths,
            "steps": np.arange(self.sequence_length),
        }
        return arrays if self.series.ndim == 1 else {**arrays, "scale": np.full(1, self.scale, dtype=np.float32)}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """Whoever knows the longest of ``indices`` passes that many ``steps``; else rows are as long as the longest."""
        lengths = arrays["lengths"][indices]
        real = arrays["steps"] < lengths[:, None]
        at = (arrays["starts"][indices][:, None] + arrays["steps"]) * real
        inputs, labels = arrays["series"][at], arrays["labels"][at]
        inputs = inputs * real[:, :, None] * arrays["scale"] if "scale" in arrays else inputs * real
        return Batch(inputs, lengths, labels * real + CONTEXT * ~real)

    @property
    def n_scored(self) -> int:
        return int((self.labels != CONTEXT).sum())

    def places(self) -> tuple[Array, Array]:
        """(L,) the example and the step of it that each step of the series is, in the order of the examples."""
        example = np.repeat(np.arange(len(self)), self.row_lengths)
        step = np.arange(len(example)) - np.repeat(np.cumsum(self.row_lengths) - self.row_lengths, self.row_lengths)
        return example, step

    def truth(self) -> Truth:
        """The steps of all examples that count, in order."""
        example, step = self.places()
        labels = np.asarray(self.labels)[np.asarray(self.starts)[example] + step]
        scored = labels != CONTEXT
        example, step = example[scored], step[scored]
        meta = {"row": np.asarray(self.rows)[example], "step": np.asarray(self.offsets)[example] + step}
        return Truth(labels[scored].astype(np.int64), np.asarray(self.groups)[example], meta)

    def collect(self, predictions: Array) -> Array:
        """Outputs (N, T, ...) of every step as those of the steps that count (M, ...)."""
        example, step = self.places()
        scored = np.asarray(self.labels)[np.asarray(self.starts)[example] + step] != CONTEXT
        counted: Array = predictions[example[scored], step[scored]]
        return counted

    def shuffled(self, generator: np.random.Generator) -> RaggedTags:
        known = np.flatnonzero(self.labels != CONTEXT)
        labels = np.array(self.labels)
        labels[known] = labels[generator.permutation(known)]
        return replace(self, labels=labels)


def unit_of(fitted: Mapping[str, Any]) -> str:
    """What one token of a text is by the ``fitted`` figures of its data: a character or a word."""
    return str(fitted.get("unit", "character"))


def text_of(tokens: Iterable[int], vocabulary: Sequence[str], unit: str) -> str:
    """The text that ``tokens`` stand for: characters as they are, words with spaces where signs allow them."""
    symbols = [vocabulary[token] for token in tokens]
    if unit == "character":
        return "".join(symbols)
    pieces, tight = [], True
    for word in symbols:
        pieces.append(word if tight or word == LINE or word[0] in CLOSING else f" {word}")
        tight = word == LINE or word[-1] in OPENING
    return "".join(pieces)


def _check_length(tokens: Array, window: int) -> None:
    if len(tokens) <= window:
        raise UserError(
            f"a text of {len(tokens)} characters, or words, is too short for windows of {window}: shorten them."
        )


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
        arrays = {
            "tokens": self.tokens,
            "targets": self.tokens if self.permuted is None else self.permuted,
            "starts": self.starts,
            "offsets": np.arange(self.window),
        }
        return arrays if self.skip is None else {**arrays, "skip": self.skip}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        at = arrays["starts"][indices][:, None] + arrays["offsets"]
        skip = arrays["skip"][indices] if "skip" in arrays else None
        return Batch(arrays["tokens"][at], None, arrays["targets"][at + 1], skip)

    def truth(self) -> Truth:
        """Blocks of 2,048 characters, or words: the target is the number of these that are scored in each."""
        counts = np.bincount((np.arange(1, len(self.tokens)) - 1) // BLOCK)
        return Truth(counts, np.arange(len(counts)))

    def collect(self, predictions: Array) -> Array:
        """Losses of every window's targets (N, T), skipped ones zero, summed into the blocks of `truth`."""
        at = self.starts[:, None] + np.arange(self.window)
        return np.bincount((at // BLOCK).ravel(), weights=predictions.ravel().astype(np.float64))

    def shuffled(self, generator: np.random.Generator) -> Stream:
        return replace(self, permuted=self.tokens[generator.permutation(len(self.tokens))])

    def in_order(self) -> InOrder:
        """The same text to be trained on window after window, each of which goes on where the one before it ended.

        The text breaks where no window of this split reaches across.
        """
        starts = np.unique(self.starts)
        breaks = np.flatnonzero(np.diff(starts) > self.window)
        first, last = starts[np.append(0, breaks + 1)], starts[np.append(breaks, len(starts) - 1)]
        runs = np.stack([first, last + self.window], axis=1)
        return InOrder(self.tokens, windows_of(runs, self.window), self.window, None, self.permuted, runs)

    def in_stretches(self) -> Stream:
        """An evaluation's text in a few long windows, to be read in order: each target but the first is scored once.

        Each stretch but the first reads one usual window of what comes before it, so that whatever is scored has at
        least the context that `evaluation` gives it.
        """
        scored, context = len(self.tokens) - 1, self.window
        number = max(1, min(STRETCHES, scored // (LONG_STRETCH * context)))
        length = -(-(scored + (number - 1) * context) // number)
        starts = np.arange(number) * (scored - length) // max(1, number - 1)
        return replace(self, starts=starts, window=length, skip=np.append(0, starts[:-1] + length - starts[1:]))


def windows_of(runs: Array, window: int, phase: int = 0) -> Array:
    """(N,) where windows begin that follow each other in each of ``runs`` (R, 2), the first ``phase`` after its start.

    A run ends with the last token that is predicted.
    """
    rows = [np.arange(first + phase, last - window + 1, window) for first, last in runs]
    return np.concatenate(rows)


@dataclass(frozen=True, eq=False)
class InOrder(Stream):
    """A text to train on in order: rows of a batch are streams, and each goes on where it ended in the batch before.

    Examples are named by the places where they begin; ``starts`` are those of one pass, of which `len` tells the
    number. ``runs`` (R, 2): where each unbroken stretch of the text begins, and the last token that it predicts.
    """

    runs: Array = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    def arrays(self) -> dict[str, Array]:
        return {name: array for name, array in super().arrays().items() if name != "starts"}

    @staticmethod
    def gather(arrays: Mapping[str, Any], indices: Any) -> Batch:
        """The windows that begin at ``indices`` (B,)."""
        at = indices[:, None] + arrays["offsets"]
        return Batch(arrays["tokens"][at], None, arrays["targets"][at + 1], None, indices)

    def check_rows(self, rows: int) -> None:
        """Raise `UserError` where some of so many ``rows`` would have one window alone: nothing could be carried."""
        if len(self) < 2 * rows:
            raise UserError(
                f"--carry-state cuts the training text into as many streams as a batch has rows, {rows}, and it has "
                f"{len(self)} windows of {self.window}: take a smaller --batch-size or --sequence-length."
            )

    def passes(self, rows: int, generator: np.random.Generator) -> Iterator[Array]:
        """Endless batches of places (``rows``,): in each pass every row reads its own stretch of the text in order.

        A pass begins some steps into the text, drawn anew, so that windows end elsewhere each time. So is which of the
        last windows are left out where they are no whole step.
        """
        self.check_rows(rows)
        while True:
            places = windows_of(self.runs, self.window, int(generator.integers(self.window)))
            if len(places) < 2 * rows:
                places = self.starts
            steps = len(places) // rows
            first = int(generator.integers(len(places) - steps * rows + 1))
            yield from places[first : first + steps * rows].reshape(rows, steps).T


@dataclass(frozen=True)
class Reading:
    """What a trained model must know to read new rows as it read those it was trained on.

    Attributes:
        vocabulary, features, classes: as in `TaskData`.
        fitted: figures of the training split (means, deviations, limits), as JSON can hold them.
    """

    vocabulary: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    fitted: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NewRows:
    """Rows to predict: a split whose targets are blanks, and columns that name each of its examples."""

    split: Split
    columns: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class TaskData:
    """A prepared data set: three splits and what a reader or a head must know about them.

    Attributes:
        sources: file name to SHA-256 of everything that was read.
        vocabulary: token names by index, for tasks over tokens (index 0 is padding where lengths vary).
        features: column names of (B, T, D) inputs.
        classes: label names by index, for `classify` and `tag`.
        notes: sentences on how the data was split, cleaned and imputed, with the counts.
        fitted: what else new rows must be read with: figures of the training split, as JSON can hold them.
    """

    train: Split
    val: Split
    test: Split
    sources: Mapping[str, str]
    vocabulary: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        """What is kept beside a trained model."""
        return Reading(self.vocabulary, self.features, self.classes, self.fitted)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def read_predictions(folder: Path) -> tuple[Array, Truth]:
    """Predictions and truth of every test example, from ``predictions.npz`` (never a pickle)."""
    path = folder / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as kept:
            meta = {name.removeprefix("meta_"): kept[name] for name in kept.files if name.startswith("meta_")}
            return kept["prediction"], Truth(kept["target"], kept["group"], meta)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None

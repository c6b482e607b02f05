"""A user's labelled DNA as the data of a `classify` task: FASTA, GenBank, or a table with sequence and label columns.

What is alike may not stand on both sides of a split: sequences whose sets of 12-base pieces are near-duplicates stay
together, and validation or test sequences are left out if one that is trained on holds their 20 central bases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Ragged, Reading, TaskData
from seqbench.errors import UserError
from seqbench.files.columns import TableOptions
from seqbench.files.near import near_groups
from seqbench.files.numbers import NUMBER_METRICS, as_numbers, score_numbers, with_numbers
from seqbench.files.splitting import check_shares, published_split, split_groups, split_groups_regress
from seqbench.files.texts import (
    LABEL_METRICS,
    OWN,
    PAD,
    case_note,
    check_one_column,
    class_shares_note,
    columns_notes,
    none_note,
    number_classes,
    repeats_note,
    score_labels,
)
from seqbench.readers.archives import shown, suffix_of
from seqbench.readers.sequences import Sequence as Record
from seqbench.readers.sequences import SequenceColumns, read_sequences, sequences_of
from seqbench.readers.tables import SUFFIXES, read_table
from seqbench.task import Source

__all__ = ["VARIANT", "SequenceOptions", "build_sequences", "encode_sequences", "leave_out_known"]

Array = npt.NDArray[Any]
LETTERS = (PAD, *"ACGTN")
PIECE = 12  # bases whose sets are compared for near-duplicates
CORE = 20  # bases around the centre that tell a window from all others


@dataclass(frozen=True)
class SequenceOptions:
    """Options of a file of labelled sequences.

    Attributes:
        features, target: of a table the columns with the sequences and their classes.
        group: a column, or a word of FASTA headers (``gene=...``), whose values never straddle splits.
        split: the same with the words train, val and test, where a publisher has fixed the splits.
        numbers_as_classes: take each of many different numbers as a class.
        missing: marks of a missing label, with commas.
    """

    sequence_length: int = 1000
    features: str = "sequence"
    target: str = "label"
    group: str = ""
    split: str = ""
    val: float = 0.15
    test: float = 0.15
    numbers_as_classes: bool = False
    missing: str = ""

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)
        if not 1 <= self.sequence_length <= 1_000_000:
            raise UserError(f"--sequence-length must be from 1 to 1,000,000 bases, not {self.sequence_length}.")

    @property
    def columns(self) -> SequenceColumns:
        """Where letters, label and the rest stand."""
        also = tuple(filter(None, (self.group, self.split)))
        return SequenceColumns(self.features, self.target, also, TableOptions(missing=self.missing).form)


def centre(letters: str, longest: int) -> str:
    """At most ``longest`` letters around the middle."""
    first = max(0, (len(letters) - longest) // 2)
    return letters[first : first + longest]


def _ragged(sequences: Sequence[str], labels: Array, groups: Array, meta: Mapping[str, Array] | None = None) -> Ragged:
    index = np.zeros(256, dtype=np.uint8)
    index[[ord(letter) for letter in LETTERS[1:]]] = np.arange(1, len(LETTERS))
    lengths = np.array([len(letters) for letters in sequences], dtype=np.int64)
    tokens = index[np.frombuffer("".join(sequences).encode(), dtype=np.uint8)]
    return Ragged(tokens, np.append(0, np.cumsum(lengths)[:-1]), lengths, labels, groups, meta=meta or {})


def leave_out_known(
    sequences: Sequence[str], indices: dict[str, Array], published: bool = False
) -> tuple[dict[str, Array], str]:
    """Without the validation and test sequences whose central bases a training sequence holds, and a note on them.

    A ``published`` test stays whole: there training and validation lose the sequences that hold what is scored.
    """
    if published:
        return _leave_out_scored(sequences, indices)
    known = {core for i in indices["train"] for core in _pieces(sequences[i])}
    kept, dropped = dict(indices), {}
    for part in ("val", "test"):
        fresh = np.array([_core(sequences[i]) not in known for i in indices[part]], dtype=bool)
        kept[part], dropped[part] = indices[part][fresh], int((~fresh).sum())
        known |= {core for i in kept[part] for core in _pieces(sequences[i])}
    return kept, (
        f"{dropped['val']} validation and {dropped['test']} test sequences are left out because the {CORE} bases "
        "around their centre stand in one that is trained or validated on."
    )


def _leave_out_scored(sequences: Sequence[str], indices: dict[str, Array]) -> tuple[dict[str, Array], str]:
    scored = {_core(sequences[i]) for i in indices["test"]}
    kept, dropped = dict(indices), {}
    for part in ("val", "train"):
        fresh = np.array([scored.isdisjoint(_pieces(sequences[i])) for i in indices[part]], dtype=bool)
        kept[part], dropped[part] = indices[part][fresh], int((~fresh).sum())
        scored |= {_core(sequences[i]) for i in kept[part]}
    return kept, (
        f"{dropped['train']} training and {dropped['val']} validation sequences are left out because they hold the "
        f"{CORE} bases around the centre of one that tests (or, for training, validates)."
    )


def _core(letters: str) -> str:
    """The bases around the centre; those of a stretch that nobody knows are its own."""
    core = centre(letters, CORE)
    return core if 2 * core.count("N") <= len(core) else f"unknown in {letters}"


def _pieces(letters: str) -> set[str]:
    return {letters[at : at + CORE] for at in range(max(1, len(letters) - CORE + 1))}


def build_sequences(
    sequences: Sequence[str],
    labels: Array,
    groups: Array,
    classes: tuple[str, ...],
    indices: dict[str, Array],
    sources: Any,
    notes: tuple[str, ...],
    published: bool = False,
    at: Array | None = None,
) -> TaskData:
    """Letters as tokens; of a sequence that is too long the middle was taken before.

    ``at`` (N,) tells where in its file each stands, the first as 0, where that is worth knowing.
    """
    kept, left_out = leave_out_known(sequences, indices, published)
    for part, rows in kept.items():
        absent = sorted(set(range(len(classes))) - set(labels[rows].tolist()))
        if absent and (part == "train" or not published):
            raise UserError(
                f"class {classes[absent[0]]!r} has no {part} sequence left once those that training holds too are "
                "gone: bring sequences that differ more."
            )
    meta = {} if at is None else {"test": {"row": at[kept["test"]]}}
    train, val, test = (
        _ragged([sequences[i] for i in rows], labels[rows], groups[rows], meta.get(part)) for part, rows in kept.items()
    )
    return TaskData(train, val, test, sources, vocabulary=LETTERS, classes=classes, notes=(*notes, left_out))


def load(source: Source, options: SequenceOptions) -> TaskData:
    """The user's sequences, near-duplicates on one side."""
    return _load(source, options, lambda names, _: number_classes(names, options.target, options.numbers_as_classes))


def _load_numbers(source: Source, options: SequenceOptions) -> TaskData:
    """The same with a number for each sequence."""

    def read(names: list[str], where: Callable[[int], str]) -> tuple[Array, tuple[str, ...]]:
        return as_numbers(names, options.target, where), ()

    return with_numbers(_load(source, options, read), options.target)


Read = Callable[[list[str], Callable[[int], str]], tuple[Array, tuple[str, ...]]]


def _load(source: Source, options: SequenceOptions, read_labels: Read) -> TaskData:
    """``read_labels`` gives the classes (N,) of labels and their names, or numbers and none."""
    files = [path for path in (source.file, source.files.get("test")) if path]
    if len(files) > 1 and options.split:
        raise UserError("--test and split are two ways to split: give one.")
    notes: list[str] = []
    read = [_read(path, options, notes if path == source.file else [], fixed=len(files) > 1) for path in files]
    in_test = np.repeat(np.arange(len(read)), list(map(len, read)))
    everything = [record for records in read for record in records]
    labelled = np.array([record.label is not None for record in everything])
    if not labelled.any():
        raise UserError(
            f"line {everything[0].line}: sequence {shown(everything[0].name)} has no label, and no other has one: "
            f"write {options.target}=NAME in every header, or name a table's column of labels."
        )
    records = [record for record in everything if record.label is not None]
    at = np.concatenate([np.arange(len(one)) for one in read])[labelled]
    names = [str(record.label) for record in records]

    def where(i: int) -> str:
        return f"line {records[i].line}"

    labels, classes = read_labels(names, where)
    sequences = [centre(record.letters, options.sequence_length) for record in records]
    notes += [f"{int((~labelled).sum()):,} sequences without a label are left out."] if not labelled.all() else []
    groups = _groups(records, sequences, options, notes)
    published = bool(options.split) or len(files) > 1
    if published:
        parts = ["test" if tests else "train" for tests in in_test[labelled]]
        parts = [record.also[-1] for record in records] if options.split else parts
        said_by = f"column {shown(options.split, 60)}" if options.split else "the two files"
        indices, said = published_split(parts, said_by, groups, options.val, labels if classes else None, where)
        notes += said
    elif classes:
        indices = split_groups(groups, labels, classes, (options.val, options.test), where, notes=notes)
    else:
        indices = split_groups_regress(groups, labels, (options.val, options.test), notes=notes)
    n_cut = sum(len(record.letters) > options.sequence_length for record in records)
    n_masked = sum(2 * letters.count("N") > len(letters) for letters in sequences)
    notes += [
        f"{n_cut:,} are cut to the {options.sequence_length:,} bases in their middle.",
        *(none_note(classes) if suffix_of(source.file) in SUFFIXES else []),
        *([*case_note(classes), class_shares_note(labels, classes, indices)] if classes else []),
        *repeats_note(sequences, names, "sequence"),
        *([f"{n_masked:,} sequences are N for more than half of their bases."] if n_masked else []),
    ]
    return build_sequences(sequences, labels, groups, classes, indices, source.hashes, tuple(notes), published, at)


def _read(path: Path, options: SequenceOptions, notes: list[str], *, fixed: bool) -> list[Record]:
    """The sequences in a file; of a table, sentences on its columns go to ``notes``."""
    if suffix_of(path) not in SUFFIXES:
        return read_sequences(path, options.columns)
    table = read_table(path, form=options.columns.form)
    check_one_column(table, options.features, "sequences")
    records = sequences_of(table, options.columns)
    read, named = [options.features, options.target], [options.group, options.split]
    notes += columns_notes(table, read, named, fixed=fixed or bool(options.split))
    return records


def _groups(records: Sequence[Any], sequences: Sequence[str], options: SequenceOptions, notes: list[str]) -> Array:
    """(N,) what stays together: what the user says, else near-duplicates; a sentence on it goes to ``notes``."""
    if not options.group:
        groups = near_groups(sequences, piece=PIECE, by_words=False, notes=notes)
        kind = "groups of near-duplicates and single ones"
    else:
        named = [record.also[0] for record in records]
        if "" in named:
            line = records[named.index("")].line
            raise UserError(f"line {line}: no {shown(options.group, 60)} is told of the sequence.")
        groups, kind = np.unique(named, return_inverse=True)[1], f"values of {options.group}"
    notes.append(f"{len(sequences):,} sequences in {int(groups.max()) + 1:,} {kind}, each whole in one split.")
    return groups


def encode_sequences(source: Source, options: SequenceOptions, reading: Reading) -> NewRows:
    """New sequences, without labels."""
    records = read_sequences(source.file, SequenceColumns(getattr(options, "features", "sequence")))
    blank = np.zeros(len(records), dtype=np.int64)
    rows = _ragged([centre(record.letters, options.sequence_length) for record in records], blank, blank)
    return NewRows(rows, {"sequence": np.array([record.name for record in records])})


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_sequences,
    "options": SequenceOptions,
    "metrics": LABEL_METRICS,
    "score": score_labels,
    "description": "classes of the user's own DNA sequences",
    "split": (
        "by groups of near-duplicates, class by class, or as published; no test sequence shares its 20 central bases "
        "with training"
    ),
    "baselines": ("majority", "kmers", "positions", "positions-kmers", "position-boosting"),
    "reference": "majority",
}
NUMBERS: dict[str, Any] = {
    **VARIANT,
    "load": _load_numbers,
    "metrics": NUMBER_METRICS,
    "score": score_numbers,
    "description": "a number for each of the user's own DNA sequences",
    "baselines": ("mean", "ngram-ridge"),
    "reference": "mean",
}

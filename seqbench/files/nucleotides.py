"""A user's labelled DNA as the data of a `classify` task: FASTA, GenBank, or a table with sequence and label columns.

What is alike may not stand on both sides of a split: sequences whose sets of 12-base pieces are near-duplicates stay
together, and validation or test sequences are left out if one that is trained on holds their 20 central bases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Ragged, Reading, TaskData
from seqbench.errors import UserError
from seqbench.files.near import near_groups
from seqbench.files.splitting import check_shares, split_groups
from seqbench.files.texts import LABEL_METRICS, OWN, PAD, score_labels
from seqbench.readers.sequences import read_sequences
from seqbench.task import Source

__all__ = ["VARIANT", "SequenceOptions", "build_sequences", "encode_sequences", "leave_out_known"]

Array = npt.NDArray[Any]
LETTERS = (PAD, *"ACGTN")
PIECE = 12  # bases whose sets are compared for near-duplicates
CORE = 20  # bases around the centre that tell a window from all others


@dataclass(frozen=True)
class SequenceOptions:
    """Options of a file of labelled sequences."""

    sequence_length: int = 1000
    val: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)
        if not 1 <= self.sequence_length <= 1_000_000:
            raise UserError(f"--sequence-length must be from 1 to 1,000,000 bases, not {self.sequence_length}.")


def centre(letters: str, longest: int) -> str:
    """At most ``longest`` letters around the middle."""
    first = max(0, (len(letters) - longest) // 2)
    return letters[first : first + longest]


def _ragged(sequences: Sequence[str], labels: Array, groups: Array) -> Ragged:
    index = np.zeros(256, dtype=np.uint8)
    index[[ord(letter) for letter in LETTERS[1:]]] = np.arange(1, len(LETTERS))
    lengths = np.array([len(letters) for letters in sequences], dtype=np.int64)
    tokens = index[np.frombuffer("".join(sequences).encode(), dtype=np.uint8)]
    return Ragged(tokens, np.append(0, np.cumsum(lengths)[:-1]), lengths, labels, groups)


def leave_out_known(sequences: Sequence[str], indices: dict[str, Array]) -> tuple[dict[str, Array], str]:
    """Without the validation and test sequences whose central bases a training sequence holds, and a note on them."""
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


def _core(letters: str) -> str:
    return centre(letters, CORE)


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
) -> TaskData:
    """Letters as tokens; of a sequence that is too long the middle was taken before."""
    kept, left_out = leave_out_known(sequences, indices)
    for part, rows in kept.items():
        absent = sorted(set(range(len(classes))) - set(labels[rows].tolist()))
        if absent:
            raise UserError(
                f"class {classes[absent[0]]!r} has no {part} sequence left once those that training holds too are "
                "gone: bring sequences that differ more."
            )
    train, val, test = (_ragged([sequences[i] for i in rows], labels[rows], groups[rows]) for rows in kept.values())
    return TaskData(train, val, test, sources, vocabulary=LETTERS, classes=classes, notes=(*notes, left_out))


def load(source: Source, options: SequenceOptions) -> TaskData:
    """The user's sequences, near-duplicates on one side."""
    records = read_sequences(source.file)
    for record in records:
        if record.label is None:
            raise UserError(
                f"line {record.line}: sequence {record.name!r} has no label; write label=NAME in its header."
            )
    names, labels = np.unique([str(record.label) for record in records], return_inverse=True)
    sequences = [centre(record.letters, options.sequence_length) for record in records]
    groups = near_groups(sequences, piece=PIECE, by_words=False)
    where = _where(records)
    indices = split_groups(groups, labels, names.tolist(), (options.val, options.test), where)
    n_cut = sum(len(record.letters) > options.sequence_length for record in records)
    notes = (
        f"{len(records):,} sequences in {int(groups.max()) + 1:,} groups of near-duplicates and single ones.",
        f"{n_cut:,} are cut to the {options.sequence_length:,} bases in their middle.",
    )
    return build_sequences(sequences, labels, groups, tuple(names.tolist()), indices, source.hashes, notes)


def _where(records: Sequence[Any]) -> Callable[[int], str]:
    return lambda i: f"line {records[i].line}"


def encode_sequences(source: Source, options: SequenceOptions, reading: Reading) -> NewRows:
    """New sequences, without labels."""
    records = read_sequences(source.file)
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
    "split": "by groups of near-duplicates, class by class; no test sequence shares its 20 central bases with training",
    "baselines": ("majority", "kmers", "positions", "positions-kmers", "position-boosting"),
    "reference": "majority",
}

"""Proteins with a label for every residue: a user's own file as a `tag` task, and what all tasks of the kind share.

A file is FASTA, in which every record is followed by a second one of the same name with the labels, or a table with a
column of sequences and one of labels, each as long as its sequence. Labels are the eight states of DSSP (Kabsch and
Sander 1983) or the three classes that they are taken together to: H, G and I are helix, E and B strand, all else coil.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import CONTEXT, NewRows, RaggedTags, Reading, TaskData, Truth
from seqbench.errors import UserError
from seqbench.files.columns import CellOptions
from seqbench.files.near import near_groups
from seqbench.files.splitting import check_shares, published_split, split_groups_regress
from seqbench.files.texts import OWN, PAD, check_one_column, class_shares_note, columns_notes
from seqbench.metrics import accuracy, recalls, segment_overlap
from seqbench.readers.archives import CONTROL, OwnFile, one_form, open_own, shown, suffix_of, survey
from seqbench.readers.sequences import FASTA
from seqbench.readers.tables import SUFFIXES, read_table
from seqbench.task import Metric, Source

__all__ = [
    "AMINO_ACIDS",
    "BASELINES",
    "CLASSES",
    "METRICS",
    "VARIANT",
    "VOCABULARY",
    "Chains",
    "class_numbers",
    "encode_chains",
    "score_residues",
    "tagged_data",
    "tokens_of",
]

Array = npt.NDArray[Any]
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
ANY = "X"  # any residue; so are read the codes of those that are rare, or that are two (IUPAC-IUB 1984)
RARE = "BJOUZ"
VOCABULARY = (PAD, *AMINO_ACIDS, ANY)
CLASSES = ("helix", "strand", "coil")
OF_LETTER = {**dict.fromkeys("HGI", 0), **dict.fromkeys("EB", 1), **dict.fromkeys("CTSPL-.~", 2)}
UNKNOWN = "?"  # in place of a label: nobody knows it, so it is not scored
PIECE = 5  # residues whose sets are compared for near-duplicates
SHARED = re.compile(r"[:_|](sequence|seq|secstr|dssp|labels?|ss[38]?)\Z", re.IGNORECASE)  # after a name in two records
MAX_LENGTH = 100_000  # residues

METRICS = (
    Metric("q3", "higher", "", share=True),
    Metric("sov", "higher", "", headline=True, share=True),
    *(Metric(f"recall_{name}", "higher", "", share=True) for name in CLASSES),
)
BASELINES = ("step-majority", "step-symbol", "gor", "gor-pairs", "neighbours-logistic", "neighbours-boosting")


def score_residues(predictions: Array, truth: Truth) -> dict[str, float]:
    """From class probabilities (M, 3): Q3, segment overlap, and of each class the share that is found.

    Q3 is the share of residues in the right class. Segments do not reach over the end of a chain, nor over a residue
    that is not scored.
    """
    labels, targets = predictions.argmax(axis=1), truth.targets
    row, step = truth.meta["row"], truth.meta["step"]
    if not ((row[1:] > row[:-1]) | (row[1:] == row[:-1]) & (step[1:] > step[:-1])).all():
        order = np.lexsort((step, row))
        labels, targets, row, step = labels[order], targets[order], row[order], step[order]
    beside = (row[1:] == row[:-1]) & (step[1:] == step[:-1] + 1)
    return {
        "q3": accuracy(labels, targets),
        "sov": segment_overlap(labels, targets, np.append(True, ~beside)),
        **{
            f"recall_{name}": float(share)
            for name, share in zip(CLASSES, recalls(labels, targets, len(CLASSES)), strict=True)
        },
    }


def _table(letters: Mapping[str, int], default: int) -> Array:
    numbers = np.full(256, default, dtype=np.int8)
    for letter, number in letters.items():
        numbers[[ord(letter), ord(letter.lower())]] = number
    return numbers


_TOKENS = _table(
    {**{name: i for i, name in enumerate(VOCABULARY[1:], 1)}, **dict.fromkeys(RARE, len(AMINO_ACIDS) + 1)}, 0
)
_LABELS = _table({**OF_LETTER, UNKNOWN: CONTEXT}, -2)


def tokens_of(sequence: str) -> Array:
    """(T,) uint8 of amino acids; 0 where a letter is none."""
    tokens: Array = _TOKENS[np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)].astype(np.uint8)
    return tokens


def class_numbers(labels: str) -> Array:
    """(T,) int8: 0 helix, 1 strand, 2 coil, `CONTEXT` where it is not known; -2 where a letter is no label."""
    numbers: Array = _LABELS[np.frombuffer(labels.encode("latin-1", "replace"), dtype=np.uint8)]
    return numbers


@dataclass(frozen=True, eq=False)
class Chains:
    """Chains with a label for every residue: tokens (T,) or features (T, D), labels (T,), and each chain's group."""

    inputs: Sequence[Array]
    labels: Sequence[Array]
    groups: Array
    scale: float = 1.0

    def split(self, rows: Array, longest: int, numbers: Array | None = None) -> RaggedTags:
        """The chains ``rows`` as a split; longer ones are cut into pieces of ``longest`` residues, side by side.

        ``numbers`` (N,) are what the score calls each chain: where it stands in its file; by default in the split.
        """
        lengths = np.array([len(self.labels[i]) for i in rows], dtype=np.int64)
        pieces = -(-lengths // longest)
        of = np.repeat(np.arange(len(rows)), pieces)
        offsets = (np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * longest
        called = np.arange(len(rows)) if numbers is None else numbers[rows]
        return RaggedTags(
            series=np.concatenate([self.inputs[i] for i in rows]),
            labels=np.concatenate([self.labels[i] for i in rows]),
            starts=(np.cumsum(lengths) - lengths)[of] + offsets,
            row_lengths=np.minimum(lengths[of] - offsets, longest),
            groups=np.asarray(self.groups)[rows][of],
            rows=called[of],
            offsets=offsets,
            scale=self.scale,
        )


# --- a user's file ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResidueOptions:
    """Options of a file of proteins with a label for every residue.

    Attributes:
        sequence_length: residues that are read at a time; longer chains are cut into pieces.
        features, target: of a table the columns with the sequences and their labels.
        group: a column, or a word of FASTA headers (``family=...``), whose values never straddle splits.
        split: the same with the words train, val and test, where a publisher has fixed the splits.
        missing: marks of missing labels in a table, with commas.
    """

    sequence_length: int = 1000
    features: str = "sequence"
    target: str = "label"
    group: str = ""
    split: str = ""
    val: float = 0.15
    test: float = 0.15
    missing: str = ""

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)
        if not 1 <= self.sequence_length <= MAX_LENGTH:
            raise UserError(f"--sequence-length must be from 1 to {MAX_LENGTH:,} residues, not {self.sequence_length}.")


@dataclass(frozen=True)
class _Record:
    """A chain: its ``name``, letters and labels ("" where there are none), and ``where`` it is, for the user."""

    name: str
    letters: str
    labels: str
    where: str
    group: str = ""
    part: str = ""


def _fasta(own: OwnFile) -> Iterator[tuple[int, str, str, list[tuple[int, str]]]]:
    """The line, name, header and numbered lines of letters of each record."""
    header: tuple[int, str, str] | None = None
    lines: list[tuple[int, str]] = []
    with own.text() as text:
        for number, line in enumerate(text, start=1):
            line = line.strip()
            if re.search(CONTROL, line):
                raise UserError(f"{own.name}, line {number}: it holds a control character.")
            if line.startswith(">"):
                if header:
                    yield *header, lines
                name = one_form((line[1:].split() or [""])[0])
                header, lines = (number, name, one_form(line[1:])), []
            elif line:
                if header is None:
                    raise UserError(f"{own.name}, line {number}: no FASTA: a line that begins with > must come first.")
                lines.append((number, "".join(line.split())))
    if header is None:
        raise UserError(f"{own.name} holds no record: is it FASTA?")
    yield *header, lines


def _stem(name: str) -> str:
    """A name without the word that tells a sequence from its labels."""
    return SHARED.sub("", name)


def _word(header: str, key: str, where: str) -> str:
    """The value of ``key=`` in a FASTA header."""
    if not key:
        return ""
    match = re.search(rf"(?<![^\s|;,]){re.escape(key)}=(\S+)", header)
    if match is None:
        raise UserError(f"{where}: the header has no {shown(key + '=', 60)}, which the other options ask for.")
    return match[1]


def _check_letters(numbers: Array, wrong: int, letters: str, place: str, name: str, what: str) -> None:
    """Raise `UserError` for the first letter whose number is ``wrong``."""
    at = np.flatnonzero(numbers == wrong)
    if len(at):
        raise UserError(f"{place}: {shown(letters[at[0]])} at position {at[0] + 1} of {shown(name)} is no {what}.")


NO_RESIDUE = "amino acid (one of ACDEFGHIKLMNPQRSTVWY, or X for any)"
NO_LABEL = "label (DSSP's H G I E B T S, or C or - for coil, ? where it is not known)"


def _checked(record: _Record, file: str) -> _Record:
    """``record`` if every letter of it is known and there is a label for each residue."""
    place = f"{file}, {record.where}"
    if not record.letters:
        raise UserError(f"{place}: the sequence {shown(record.name)} has length 0.")
    if len(record.letters) > MAX_LENGTH:
        raise UserError(f"{place}: {shown(record.name)} has {len(record.letters):,} residues, over {MAX_LENGTH:,}.")
    _check_letters(tokens_of(record.letters), 0, record.letters, place, record.name, NO_RESIDUE)
    if record.labels:
        _check_letters(class_numbers(record.labels), -2, record.labels, place, record.name, NO_LABEL)
        if len(record.labels) != len(record.letters):
            raise UserError(
                f"{place}: {shown(record.name)} has {len(record.letters):,} residues and {len(record.labels):,} labels:"
                " each residue needs one."
            )
    return record


def _read_fasta(path: Path, options: ResidueOptions) -> list[_Record]:
    """Every two records are one chain: its sequence and its labels."""
    with open_own(path) as own:
        survey(own)
        records = list(_fasta(own))
        found = []
        for first, second in itertools.zip_longest(records[::2], records[1::2]):
            line, name, header, lines = first
            where = f"line {line}"
            if second is None or _stem(second[1]) != _stem(name):
                after = "the file ends" if second is None else f"{shown(second[1])} comes"
                raise UserError(
                    f"{own.name}, {where}: after {shown(name)} {after}: each sequence must be followed by a record of "
                    "the same name with its labels."
                )
            letters, labels = ("".join(text for _, text in each) for each in (lines, second[3]))
            if not labels:
                raise UserError(f"{own.name}, line {second[0]}: {shown(name)} has no labels.")
            given = (_word(header, key, f"{own.name}, {where}") for key in (options.group, options.split))
            found.append(_checked(_Record(_stem(name), letters, labels, where, *given), own.name))
        return found


def _read_rows(path: Path, options: ResidueOptions, notes: list[str], *, fixed: bool) -> list[_Record]:
    """The rows of a table that have labels; sentences on its columns, and on what is left out, go to ``notes``."""
    table = read_table(path, form=CellOptions(missing=options.missing).form)
    check_one_column(table, options.features, "sequences")
    table.require(*filter(None, (options.features, options.target, options.group, options.split)))
    marks = {mark.strip() for mark in options.missing.split(",")}
    letters = ["".join(cell.split()) for cell in table.texts(options.features, allow_empty=True)]
    labels = ["".join(cell.split()) for cell in table.texts(options.target, allow_empty=True)]
    also = [table.labels(name) if name else [""] * len(table) for name in (options.group, options.split)]
    found = []
    for i, row in enumerate(zip(letters, labels, *also, strict=True)):
        sequence, tags, group, part = row
        if tags and tags not in marks:
            found.append(_checked(_Record(table.where(i), sequence, tags, table.where(i), group, part), table.file))
    if not found:
        raise UserError(f"{table.file}: column {shown(options.target, 60)} has no labels.")
    notes += columns_notes(table, [options.features, options.target], [options.group, options.split], fixed=fixed)
    if len(found) < len(table):
        notes.append(f"{len(table) - len(found):,} of {len(table):,} rows are left out: they have no labels.")
    return found


def _read(path: Path, options: ResidueOptions, notes: list[str], *, fixed: bool) -> list[_Record]:
    suffix = suffix_of(path)
    if suffix in FASTA:
        return _read_fasta(path, options)
    if suffix in SUFFIXES:
        return _read_rows(path, options, notes, fixed=fixed)
    raise UserError(
        f"{path.name} holds no labelled sequences by its name: it must end in one of {', '.join(FASTA + SUFFIXES)}."
    )


def load(source: Source, options: ResidueOptions) -> TaskData:
    """The user's chains, near-duplicates and what shares a group on one side."""
    files = [path for path in (source.file, source.files.get("test")) if path]
    if len(files) > 1 and options.split:
        raise UserError("--test and split are two ways to split: give one.")
    notes: list[str] = []
    fixed = bool(options.split) or len(files) > 1
    read = [_read(path, options, notes if path == source.file else [], fixed=fixed) for path in files]
    records = [record for rows in read for record in rows]
    in_test = np.repeat(np.arange(len(read)), list(map(len, read)))
    numbers = np.concatenate([np.arange(len(rows)) for rows in read])
    chains = Chains(
        [tokens_of(record.letters) for record in records],
        [class_numbers(record.labels) for record in records],
        _groups(records, options, notes),
    )
    indices = _indices(records, chains, options, in_test, fixed=fixed, notes=notes)
    splits = {part: chains.split(rows, options.sequence_length, numbers) for part, rows in indices.items()}
    return tagged_data(splits, chains, source.hashes, options.sequence_length, notes)


def _groups(records: Sequence[_Record], options: ResidueOptions, notes: list[str]) -> Array:
    """(N,) what stays together: what the user says, else near-duplicates; sentences on it go to ``notes``."""
    if options.group:
        groups: Array = np.unique([record.group for record in records], return_inverse=True)[1]
        kind = f"values of {options.group}"
    else:
        letters = [record.letters.upper() for record in records]
        groups, kind = near_groups(letters, piece=PIECE, by_words=False, notes=notes), "groups of near-duplicates"
        notes.append(
            "only near-duplicates are kept together: chains that are related more distantly may be in two splits; "
            "--group names clusters of yours."
        )
    notes.append(f"{len(records):,} chains in {int(groups.max()) + 1:,} {kind}, each whole in one split.")
    return groups


def _indices(
    records: Sequence[_Record],
    chains: Chains,
    options: ResidueOptions,
    in_test: Array,
    *,
    fixed: bool,
    notes: list[str],
) -> dict[str, Array]:
    if not fixed:
        helix = np.array([np.mean(labels == 0) for labels in chains.labels])
        return split_groups_regress(chains.groups, helix, (options.val, options.test), notes=notes)
    parts = [record.part for record in records] if options.split else ["test" if one else "train" for one in in_test]
    said_by = shown(options.split, 60) if options.split else "the two files"
    indices, said = published_split(parts, said_by, chains.groups, options.val, None, lambda i: records[i].where)
    notes += said
    return indices


def tagged_data(
    splits: Mapping[str, RaggedTags],
    chains: Chains,
    sources: Mapping[str, str],
    longest: int,
    notes: Sequence[str],
    features: tuple[str, ...] = (),
) -> TaskData:
    """The three splits with what is to be told of them; without names of ``features`` steps are amino acids.

    Raises:
        UserError: a class is absent from training, or a split has no known label.
    """
    scored = {part: split.truth().targets for part, split in splits.items()}
    for part, labels in scored.items():
        absent = [name for i, name in enumerate(CLASSES) if not (labels == i).any()]
        if not len(labels) or (part == "train" and absent):
            what = f"of class {absent[0]!r}" if len(labels) else "with a known label"
            raise UserError(f"there is no residue {what} in the {part} split: bring more chains.")
    stops = np.cumsum([len(labels) for labels in scored.values()])
    places = {
        part: np.arange(stop - len(labels), stop) for (part, labels), stop in zip(scored.items(), stops, strict=True)
    }
    n_unknown = sum(int((labels == CONTEXT).sum()) for labels in chains.labels)
    n_cut = sum(len(labels) > longest for labels in chains.labels)
    told = (
        *notes,
        *([f"{n_unknown:,} residues without a known label are read and not scored."] if n_unknown else []),
        *([f"{n_cut:,} chains are longer than {longest:,} residues and read in pieces."] if n_cut else []),
        class_shares_note(np.concatenate(list(scored.values())), CLASSES, places),
    )
    vocabulary = () if features else VOCABULARY
    train, val, test = (splits[part] for part in ("train", "val", "test"))
    return TaskData(train, val, test, sources, vocabulary=vocabulary, features=features, classes=CLASSES, notes=told)


def encode_chains(source: Source, options: Any, reading: Reading) -> NewRows:
    """New chains: one prediction for each residue. Records of labels, if there are any, are not read."""
    if reading.features:
        raise UserError("this model reads profiles, which a file of sequences has not: train one with inputs=sequence.")
    path, suffix = source.file, suffix_of(source.file)
    if suffix in SUFFIXES:
        table = read_table(path)
        cells = table.texts(getattr(options, "features", "sequence"))
        records = [_Record(table.where(i), "".join(cell.split()), "", table.where(i)) for i, cell in enumerate(cells)]
        file = table.file
    elif suffix in FASTA:
        records, file = _unlabelled(path)
    else:
        raise UserError(f"{path.name} holds no sequences by its name: it must end in one of {FASTA + SUFFIXES}.")
    records = [_checked(record, file) for record in records]
    tokens = [tokens_of(record.letters) for record in records]
    chains = Chains(tokens, [np.zeros(len(one), dtype=np.int8) for one in tokens], np.arange(len(records)))
    split = chains.split(np.arange(len(records)), options.sequence_length)
    place = split.truth().meta
    return NewRows(
        split,
        {
            "sequence": np.array([record.name for record in records])[place["row"]],
            "residue": place["step"] + 1,
            "letter": np.array(list("".join(record.letters for record in records))),
        },
    )


def _unlabelled(path: Path) -> tuple[list[_Record], str]:
    """The sequences of a FASTA file, and its name."""
    records: list[_Record] = []
    with open_own(path) as own:
        survey(own)
        for line, name, _, lines in _fasta(own):
            if records and _stem(name) == records[-1].name and not records[-1].labels:
                records[-1] = replace(records[-1], labels=UNKNOWN)  # its labels, which are not looked at
                continue
            records.append(_Record(_stem(name), "".join(text for _, text in lines), "", f"line {line}"))
        return [replace(record, labels="") for record in records], own.name


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_chains,
    "options": ResidueOptions,
    "metrics": METRICS,
    "score": score_residues,
    "description": "helix, strand or coil for every residue of the user's own proteins",
    "split": "by groups of near-duplicates, with like shares of helix, or as published",
    "baselines": BASELINES,
    "reference": "step-majority",
}

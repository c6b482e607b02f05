"""Nucleotide sequences that the user brings: FASTA, GenBank, or a table with a column ``sequence``.

A label, which all may lack, is ``label=donor`` or ``label="two words"``: in FASTA anywhere in the header; in GenBank
the source feature's qualifier ``/label`` or ``/note="label=donor"``, else the DEFINITION, else the COMMENT; in a table
the column ``label``. What else is told of a sequence, as the split it belongs to, stands in the same way in a FASTA
header (``split=test``) or in a column. Letters are IUPAC's (Cornish-Bowden 1985, Nucleic Acids Res. 13:3021) in
either case: U is read as T, since an RNA is its gene in another alphabet, and the codes for several bases (R Y S W K M
B D H V) as N.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from seqbench.errors import UserError
from seqbench.readers.archives import CONTROL, OwnFile, one_form, open_own, shown, suffix_of, survey
from seqbench.readers.cells import present
from seqbench.readers.tables import SUFFIXES, Format, Table, read_table

__all__ = ["MAX_LENGTH", "Sequence", "SequenceColumns", "read_sequences", "sequences_of"]

MAX_LENGTH = 1_000_000
FASTA = (".fasta", ".fa", ".fas", ".fna", ".ffn")
GENBANK = (".gb", ".gbk", ".genbank")
NO_BASE = re.compile(
    "[^ACGTURYSWKMBDHVN]", re.ASCII | re.IGNORECASE
)  # ASCII: beyond it some letters have its upper case
READ_AS = str.maketrans("URYSWKMBDHV", "T" + 10 * "N")


@dataclass(frozen=True)
class Sequence:
    """One sequence, its ``letters`` among A C G T N; ``line`` is where its record begins (in Parquet its row).

    ``also`` is what was asked for beside the label, in that order; "" where it isn't told.
    """

    name: str
    letters: str
    label: str | None
    line: int
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class SequenceColumns:
    """Columns of a table, and words before ``=`` in a FASTA header, that hold letters, label and what else is asked."""

    letters: str = "sequence"
    label: str = "label"
    also: tuple[str, ...] = ()
    form: Format = field(default_factory=Format)


def read_sequences(path: Path, columns: SequenceColumns = SequenceColumns()) -> list[Sequence]:
    """All sequences in ``path``, in the file's order."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return sequences_of(read_table(path, form=columns.form), columns)
    with open_own(path) as own:
        if suffix not in FASTA + GENBANK:
            known = ", ".join(FASTA + GENBANK + SUFFIXES)
            raise UserError(f"{own.name} holds no sequences by its name: it must end in one of {known}.")
        survey(own)
        if suffix in GENBANK and columns.also:
            raise UserError(f"{own.name}: GenBank tells no {columns.also[0]!r} of a sequence: write a table or FASTA.")
        sequences = list(_fasta(own, columns) if suffix in FASTA else _genbank(own))
        if not sequences:
            raise UserError(f"{own.name} holds no record: is it {'FASTA' if suffix in FASTA else 'GenBank'}?")
        return sequences


def _starts(own: OwnFile, mark: str) -> list[int]:
    """The lines on which records begin."""
    with own.text() as text:
        return [number for number, line in enumerate(text, start=1) if line.startswith(mark)]


def _bio(module: str, own: OwnFile) -> Any:
    try:
        return importlib.import_module(f"Bio.{module}")
    except ImportError:
        raise UserError(f"{own.name} is read by biopython, which is missing: pip install 'seqbench[data]'") from None


def _fasta(own: OwnFile, columns: SequenceColumns) -> Iterator[Sequence]:
    parse = _bio("SeqIO.FastaIO", own).SimpleFastaParser
    with own.text() as text:
        first = next(((number, line) for number, line in enumerate(text, start=1) if line.strip()), None)
    if first and not first[1].startswith(">"):
        raise UserError(f"{own.name}, line {first[0]}: no FASTA: a line that begins with > must come first.")
    starts = _starts(own, ">")
    with own.text() as text:
        for line, (header, raw) in zip(starts, parse(text), strict=True):
            name = _printable(own, line, (header.split() or [""])[0])
            letters = _letters(own.name, f"line {line}", name, raw, partial(_line_of, own, line))
            label = _label(own, line, header, key=columns.label)
            also = tuple(_label(own, line, header, key=key) or "" for key in columns.also)
            yield Sequence(name, letters, label, line, also)


def _genbank(own: OwnFile) -> Iterator[Sequence]:
    parse = _bio("SeqIO", own).parse
    starts = _starts(own, "LOCUS       ")
    n_read = 0
    with own.text() as text, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Biopython warns of every departure from the format
        for sign in ("Premature end", "Expected sequence length"):  # and of a file that was cut off
            warnings.filterwarnings("error", sign)
        records = parse(text, "genbank")
        while True:
            line = starts[min(n_read, len(starts) - 1)] if starts else 1
            try:
                record = next(records, None)
                if record is None:
                    break
                raw = str(record.seq)
            except UserError:
                raise
            except Exception as error:  # over damaged records Biopython raises nearly anything
                raise UserError(
                    f"{own.name}, line {line}: Biopython can't read the GenBank record that begins here, or it has no "
                    f"sequence ({shown(error, 60)})."
                ) from None
            n_read += 1
            letters = _letters(own.name, f"line {line}", record.name, raw, partial(_line_of, own, line))
            yield Sequence(record.name, letters, _genbank_label(own, line, record), line)
    if n_read != len(starts):
        raise UserError(f"{own.name}, line {line}: a GenBank record that begins or ends amid another: is a // missing?")


def sequences_of(table: Table, columns: SequenceColumns) -> list[Sequence]:
    """Those of a table's rows; white space between blocks of bases is none of them."""
    texts = table.texts(columns.letters, allow_empty=True)
    labelled = columns.label in table.names or columns.label != "label"  # a column that was named must be there
    cells = table.labels(columns.label, allow_empty=True) if labelled else [""] * len(table)
    labels = present(cells, classes=True)
    also = [table.labels(name, allow_empty=True) for name in columns.also]
    sequences = []
    for i, (raw, label) in enumerate(zip(texts, labels, strict=True)):
        place = f"{table.where(i)}, column {shown(columns.letters, 60)}"
        letters = _letters(table.file, place, table.where(i), "".join(raw.split()))
        told = tuple(column[i] for column in also)
        sequences.append(Sequence(table.where(i), letters, label or None, table.line(i), told))
    return sequences


def _letters(file: str, place: str, name: str, raw: str, place_of: Callable[[int], str] | None = None) -> str:
    """``raw`` in upper case and five letters; ``place_of`` says where in the file its letter at an index is."""
    if not raw:
        raise UserError(f"{file}, {place}: the sequence {shown(name)} has length 0.")
    if len(raw) > MAX_LENGTH:
        raise UserError(f"{file}, {place}: the sequence {shown(name)} has {len(raw):,} letters, over {MAX_LENGTH:,}.")
    if wrong := NO_BASE.search(raw):
        at = wrong.start()
        place = place_of(at) if place_of else place
        raise UserError(
            f"{file}, {place}: {shown(raw[at])} at position {at + 1} of the sequence {shown(name)} is no nucleotide "
            "(A, C, G, T, U or an IUPAC code such as N)."
        )
    return raw.upper().translate(READ_AS)


def _label(own: OwnFile, line: int, text: str, strip: str = "", key: str = "label") -> str | None:
    match = _key_pattern(key).search(text)
    if not match:
        return None
    label = next((group for group in match.groups() if group is not None), "").rstrip(strip).strip()
    if not label:
        raise UserError(f"{own.name}, line {line}: {key}= has no value, or its quote isn't closed.")
    return _printable(own, line, label)


def _printable(own: OwnFile, line: int, text: str) -> str:
    if re.search(CONTROL, text):
        raise UserError(f"{own.name}, line {line}: {shown(text)} holds a control character.")
    return one_form(text)


@functools.cache
def _key_pattern(key: str) -> re.Pattern[str]:
    return re.compile(rf"""(?<![^\s|;,]){re.escape(key)}=(?:"([^"]*)"|'([^']*)'|([^\s"']\S*)?)""")


def _genbank_label(own: OwnFile, line: int, record: Any) -> str | None:
    for feature in record.features:
        if feature.type == "source":
            if named := feature.qualifiers.get("label"):
                return _label(own, line, f'label="{named[0]}"')
            for note in feature.qualifiers.get("note", ()):
                if label := _label(own, line, note):
                    return label
    for text in (record.description, str(record.annotations.get("comment", ""))):
        if label := _label(own, line, text, strip=".;,"):  # both are prose
            return label
    return None


def _line_of(own: OwnFile, start: int, at: int) -> str:
    """The line with the letter ``at`` of the record that begins on line ``start``; looked for only to be told."""
    genbank = own.suffix in GENBANK
    inside = not genbank
    with own.text() as text:
        for number, line in enumerate(itertools.islice(text, start, None), start=start + 1):
            if inside:
                at -= len(line[10 * genbank :].rstrip().replace(" ", ""))
                if at < 0:
                    return f"line {number}"
            inside = inside or line.startswith("ORIGIN")
    return f"line {start}"

"""Plain text that the user brings: the whole of it, the records of a CSV, the objects of a JSON or JSON Lines file.

All goes through `opening.survey` first, so what is read here is UTF-8 and of bounded size. Lines are numbered as an
editor does: a record with line breaks inside quotes is named by the line where it begins. A CSV without quotes and
blank lines is read by pyarrow; any other, and one that pyarrow refuses, by Python's csv module, which knows its lines.
Cells become texts in Arrow columns, a batch at a time, and no type is guessed.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import json
import re
from array import array
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.csv

from seqbench.data.opening import OwnFile, open_own, shown, survey
from seqbench.errors import UserError

__all__ = ["MAX_ROWS", "Columns", "checked_names", "read_csv", "read_json", "read_text", "require"]

Row = TypeVar("Row")
MAX_ROWS = 50_000_000
MAX_COLUMNS = 10_000
BATCH = 16_384  # rows that are Python objects at one time

MAX_CHARACTERS = 2**30
MAX_FIELD = 2**26  # characters
WHY_CSV = {
    "unexpected end of data": "a quote that opens in this record is never closed",
    "field larger than field limit": "a field is far too long, as where a quote is never closed",
    "expected after": "more follows a closing quote: inside quotes a quote is written twice",
}


class Columns(NamedTuple):
    """What a table is made of: ``lines`` holds the line of each row; without it they are counted from ``first``."""

    data: pa.Table
    unit: str
    first: int = 1
    lines: Sequence[int] | None = None
    nested: Mapping[str, int] = MappingProxyType(
        {}
    )  # columns of JSON that hold lists or objects, and in which row first


def read_text(path: Path) -> str:
    """The whole text of ``path``, its lines ended by a line feed alone."""
    with open_own(path) as own:
        return _text(own)


def _text(own: OwnFile) -> str:
    survey(own, by_lines=False)
    parts, count = [], 0
    with own.text() as text:
        while part := text.read(2**20):
            parts.append(part)
            count += len(part)
            if count > MAX_CHARACTERS:
                raise UserError(f"{own.name} has more than {MAX_CHARACTERS:,} characters: split it.")
    if not any(part.strip() for part in parts):
        raise UserError(f"{own.name} is empty: it holds nothing but white space.")
    return "".join(parts)


def _csv_header(own: OwnFile) -> tuple[str, int, list[str]]:
    """The mark between fields (in .tsv a tab, else a comma or what the header has for it), its line, its fields."""
    marks = "\t" if own.suffix == ".tsv" else ",;\t"
    found = []
    for mark in marks:
        with contextlib.suppress(UserError), contextlib.closing(_csv_records(own, mark)) as records:
            found.append((mark, *next(records, (1, []))))
            if len(found[-1][2]) > 1:
                return found[-1]
    return found[0] if found else (marks[0], *next(_csv_records(own, marks[0])))  # the error of the first mark


def _csv_records(own: OwnFile, delimiter: str) -> Generator[tuple[int, list[str]]]:
    """Line number and fields of every record, the header too; blank lines are left out."""
    before = csv.field_size_limit(MAX_FIELD)  # one for the whole process, so it is put back
    line = 1
    try:
        with own.text(newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
    except csv.Error as error:
        why = next((why for told, why in WHY_CSV.items() if told in str(error)), str(error))
        raise UserError(f"{own.name}, line {line}: {why}.") from None
    finally:
        csv.field_size_limit(before)


class _Refused(ValueError):
    """What JSON's grammar lets pass and a table can't take."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {shown(twice)} is there twice")
    return found


def _number(text: str) -> str:
    """A decimal's text; 1.0 becomes 1, so that a class counted in floats has the name of one counted in integers."""
    return text.removesuffix(".0")


def _constant(text: str) -> None:
    raise _Refused(f"{text} is no JSON number: write null where a value is missing")


# numbers stay text, as in a CSV: none is rounded, and a table's column is parsed as a whole when it is asked for
DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=str, parse_float=_number, parse_constant=_constant)
SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _decode(text: str, start: int, own: OwnFile, line: int) -> tuple[dict[str, Any], int]:
    """The object that begins at ``start``, and where the text goes on after it."""
    at = _skip(text, start)
    try:
        value, end = DECODER.raw_decode(text, at)
        if text.find("\\u", at, end) >= 0:
            json.dumps(value, ensure_ascii=False).encode()  # an escaped half of a surrogate pair is no character
    except json.JSONDecodeError as error:
        line += text.count("\n", start, error.pos)
        raise UserError(f"{own.name}, line {line}: no valid JSON ({error.msg}).") from None
    except _Refused as error:
        raise UserError(f"{own.name}, line {line}: {error}.") from None
    except UnicodeEncodeError:
        raise UserError(f"{own.name}, line {line}: an escape that is half of a character (a lone surrogate).") from None
    except RecursionError:
        raise UserError(f"{own.name}, line {line}: nested too deeply.") from None
    if not isinstance(value, dict) or not value:
        raise UserError(f"{own.name}, line {line}: {shown(text[at:end])} where an object with keys and values must be.")
    return value, _skip(text, end)


def _json_objects(own: OwnFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object, one a line of .jsonl and .ndjson, one an element of the list in .json.

    Numbers come as text, true, false and null as Python's, and lists and objects as they are.
    """
    if own.suffix == ".json":
        yield from _listed(own)
        return
    survey(own)
    with own.text(newline="\n") as text:
        for line, row in enumerate(map(str.rstrip, text), start=1):
            if row:
                value, end = _decode(row, 0, own, line)
                if end < len(row):
                    raise UserError(f"{own.name}, line {line}: more follows the object: write one a line.")
                yield line, value


def _listed(own: OwnFile) -> Iterator[tuple[int, dict[str, Any]]]:
    text = _text(own)
    at = _skip(text, 0)
    line = 1 + text.count("\n", 0, at)
    if text[at : at + 1] != "[":
        raise UserError(f"{own.name}, line {line}: no list of objects [{{...}}, ...]; for one a line use .jsonl.")
    more = _skip(text, at + 1)
    if text[more : more + 1] == "]":
        at, mark = more, "]"
    else:
        mark = ","
    while mark == ",":
        start = _skip(text, at + 1)
        line += text.count("\n", at, start)
        value, at = _decode(text, start, own, line)
        yield line, value
        line += text.count("\n", start, at)
        mark = text[at : at + 1]
    if mark != "]" or text[at + 1 :].strip():
        raise UserError(f"{own.name}, line {line}: no valid JSON (a comma or the list's end should be here).")


def require(file: str, wanted: Collection[str], names: Sequence[str]) -> None:
    """Refuse ``file`` if columns that are ``wanted`` aren't among its ``names``: all of them in one sentence."""
    absent = [name for name in dict.fromkeys(wanted) if name not in names]
    if not absent:
        return
    close = [match for name in absent for match in difflib.get_close_matches(name, names, n=1, cutoff=0.5)]
    few = (name if name.isprintable() and len(name) <= 40 else shown(name, 40) for name in names[:20])
    has = ", ".join(few) + ", ..." * (len(names) > 20)
    raise UserError(
        f"{file} has no column{'s' * (len(absent) > 1)} {', '.join(shown(name, 60) for name in absent)}: "
        + (f"did you mean {', '.join(map(shown, dict.fromkeys(close)))}? " if close else "")
        + f"{'I' if close else 'i'}t has: {has}."
    )


def checked_names(own: OwnFile, where: str, names: list[str], columns: Collection[str] | None) -> list[str]:
    """Those of ``names`` to be read."""
    if len(names) > MAX_COLUMNS:
        raise UserError(f"{own.name}{where}: more than {MAX_COLUMNS:,} columns.")
    if "" in names:
        raise UserError(f"{own.name}{where}: column {names.index('') + 1} has no name (is it an index of pandas?).")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{own.name}{where}: two columns are named {shown(twice, 60)}.")
    require(own.name, columns or (), names)
    return [name for name in names if columns is None or name in columns]


def _collect(
    own: OwnFile, records: Iterator[tuple[int, Row]], table_of: Callable[[Sequence[Row]], pa.Table]
) -> tuple[pa.Table, str, int, Sequence[int]]:
    """All rows, only a batch at a time as Python objects, and their lines."""
    lines, tables = array("q"), []
    while batch := list(itertools.islice(records, BATCH)):
        numbers, rows = zip(*batch, strict=True)
        lines.extend(numbers)
        tables.append(table_of(rows))
        if len(lines) > MAX_ROWS:
            raise UserError(f"{own.name} has more than {MAX_ROWS:,} rows: split it.")
    data = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    return data, "line", 1, lines


def read_csv(own: OwnFile, columns: Collection[str] | None) -> Columns:
    """The rows of a CSV or TSV file below its header."""
    simple = survey(own)
    mark, line, header = _csv_header(own)
    names = [name.strip() for name in header]
    if not names:
        raise UserError(f"{own.name} is empty: it has no header.")
    wanted = dict.fromkeys(checked_names(own, f", line {line}", names, columns), pa.string())
    if simple:
        try:
            data = pa.csv.read_csv(
                own.stream(),
                pa.csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1, block_size=2**24),
                pa.csv.ParseOptions(delimiter=mark, quote_char=False),
                pa.csv.ConvertOptions(column_types=wanted, include_columns=list(wanted)),
            )
            if data.num_rows > MAX_ROWS:
                raise UserError(f"{own.name} has more than {MAX_ROWS:,} rows: split it.")
            return Columns(data, "line", first=2)
        except pa.ArrowInvalid:
            pass  # the slow pass finds the line, or that a line is only too long for a block

    def fitting() -> Iterator[tuple[int, list[str]]]:
        for line, fields in itertools.islice(_csv_records(own, mark), 1, None):
            if len(fields) == len(names):
                yield line, fields
            elif len(fields) > 1 or fields[0].strip():
                raise UserError(f"{own.name}, line {line}: {len(fields)} fields where the header has {len(names)}.")

    def table_of(rows: Sequence[list[str]]) -> pa.Table:
        cells = zip(names, zip(*rows, strict=True), strict=True)
        return pa.table({name: pa.array(column, pa.string()) for name, column in cells if name in wanted})

    return Columns(*_collect(own, fitting(), table_of))


def read_json(own: OwnFile, columns: Collection[str] | None) -> Columns:
    """The rows of a JSON or JSON Lines file, numbers as text too; a key that a row lacks is null there."""
    names: dict[str, None] = {}  # in the order in which they are met
    nested: dict[str, int] = {}
    n_rows = 0

    def cell(name: str, value: Any, i: int) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list | dict):
            nested.setdefault(name, n_rows + i)
            return None
        return cast("str | None", value)

    def column(name: str, rows: Sequence[dict[str, Any]]) -> pa.Array:
        values = [row.get(name) for row in rows]
        try:
            return pa.array(values, pa.string())
        except pa.ArrowException:  # not texts and null alone
            return pa.array([cell(name, value, i) for i, value in enumerate(values)], pa.string())

    def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
        nonlocal n_rows
        for row in rows:
            names.update(dict.fromkeys(row))
        checked_names(own, "", list(names), None)
        found = {name: column(name, rows) for name in (names if columns is None else columns)}  # absent ones are null
        n_rows += len(rows)
        return pa.table(found)

    data, _, _, lines = _collect(own, _json_objects(own), table_of)
    require(own.name, columns or (), list(names))
    return Columns(data, "row", 1, None, nested) if own.suffix == ".json" else Columns(data, "line", 1, lines, nested)

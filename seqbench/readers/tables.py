"""Plain text that the user brings: the whole of it, the records of a CSV, the objects of a JSON or JSON Lines file.

All goes through `opening.survey` first, so what is read here is UTF-8 and of bounded size. Lines are numbered as an
editor does: a record with line breaks inside quotes is named by the line where it begins. A CSV without quotes and
blank lines is read by pyarrow; any other, and one that pyarrow refuses, by Python's csv module, which knows its lines.
Cells become texts in Arrow columns, a batch at a time. What a column holds is decided when it is asked for: numbers by
`seqbench.readers.cells`, times by `seqbench.readers.dates`; what isn't plain is told in `Table.remarks`.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import functools
import itertools
import json
import re
from array import array
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from seqbench.errors import UserError
from seqbench.readers.archives import BLANK, CONTROL, LIMIT, OwnFile, one_form, open_own, shown, survey
from seqbench.readers.cells import (
    Format,
    Unreadable,
    as_float,
    count_suspects,
    decimal_mark,
    first_failing,
    without_marks,
)
from seqbench.readers.dates import FIRST, casts, continuous, read_times, times_of_numbers, to_array

__all__ = [
    "MAX_ROWS",
    "Columns",
    "Format",
    "Table",
    "check_increasing",
    "checked_names",
    "read_csv",
    "read_json",
    "read_table",
    "read_text",
    "require",
]

Row = TypeVar("Row")
MAX_ROWS = 50_000_000
MAX_COLUMNS = 10_000
BATCH = 16_384  # rows that are Python objects at one time

UNNAMED = "Unnamed: 0"  # as pandas calls an index that it wrote without a name and reads again
SAID = re.compile(r'"?sep=([,;|\t])"?', re.IGNORECASE)
MAX_SAID = 100  # characters of a line that may say it
MAX_CHARACTERS = 2**30
MAX_FIELD = 2**26  # characters
WHY_CSV = {
    "unexpected end of data": "a quote that opens in this record is never closed",
    "field larger than field limit": "a field is far too long, as where a quote is never closed",
    "expected after": "more follows a closing quote: inside quotes a quote is written twice",
}


class Columns(NamedTuple):
    """What a table is made of: ``lines`` holds the line of each row; without it they are counted from ``first``.

    ``nested`` are columns of JSON that hold lists or objects, and in which row first; ``delimiter`` is what stands
    between the cells of a CSV.
    """

    data: pa.Table
    unit: str
    first: int = 1
    lines: Sequence[int] | None = None
    nested: Mapping[str, int] = MappingProxyType({})
    delimiter: str = ""
    remarks: tuple[str, ...] = ()


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


def _said_mark(own: OwnFile) -> str:
    """The mark between fields that the first line says, as in "sep=;", which spreadsheets read and write; else ""."""
    with own.text() as text:
        match = SAID.fullmatch(text.readline(MAX_SAID).rstrip("\r\n "))
    return match.group(1) if match else ""


def _csv_header(own: OwnFile, said: str) -> tuple[str, int, list[str]]:
    """The mark between fields (``said`` above the header, in .tsv a tab, else what gives the most), line and fields."""
    marks = said or ("\t" if own.suffix == ".tsv" else ",;\t")
    headers = []
    for mark in marks:
        with contextlib.suppress(UserError), contextlib.closing(_csv_records(own, mark, bool(said))) as records:
            headers.append((mark, *next(records, (1, []))))
    if headers:
        return max(headers, key=lambda header: len(header[2]))
    return (marks[0], *next(_csv_records(own, marks[0], bool(said))))  # the error of the first mark


def _yahoo_header(own: OwnFile, mark: str, names: list[str]) -> tuple[list[str], int]:
    """The names, and how many records are above the rows: three where yfinance wrote the tickers and "Date" below."""
    if names[:1] in (["Price"], [UNNAMED]):
        with contextlib.closing(_csv_records(own, mark)) as records:
            below = [fields for _, fields in itertools.islice(records, 1, 3)]
        if [fields[0] for fields in below] in (["Ticker", "Date"], ["Ticker", "Datetime"]) and not any(below[1][1:]):
            return [below[1][0], *names[1:]], 3
    return names, 1


def _csv_records(own: OwnFile, delimiter: str, said: bool = False) -> Generator[tuple[int, list[str]]]:
    """Line number and fields of every record, the header too; blank lines and the first, if it ``said`` the mark, not.

    Lines are counted as an editor does.
    """
    before = csv.field_size_limit(MAX_FIELD)  # one for the whole process, so it is put back
    line = 1
    try:
        with own.text(newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for fields in reader:
                if fields and not (said and line == 1):
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
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {shown(twice)} is there twice")
    return members


def _number(text: str) -> str:
    """A decimal's text; 1.0 becomes 1, so that a class counted in floats has the name of one counted in integers."""
    return text.removesuffix(".0")


def _constant(text: str) -> None:
    raise _Refused(f"{text} is no JSON number: write null where a value is missing")


# numbers stay text, as in a CSV: none is rounded, and a table's column is parsed as a whole when it is asked for
DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=str, parse_float=_number, parse_constant=_constant)
SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    return space.end() if space else at


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
    there = set(names)
    absent = [name for name in dict.fromkeys(wanted) if name not in there]
    if not absent:
        return
    close = [match for name in absent[:20] for match in difflib.get_close_matches(name, names, n=1, cutoff=0.5)]
    few = (name if name.isprintable() and len(name) <= 40 else shown(name, 40) for name in names[:20])
    has = ", ".join(few) + ", ..." * (len(names) > 20)
    raise UserError(
        f"{file} has no column{'s' * (len(absent) > 1)} {', '.join(shown(name, 60) for name in absent)}: "
        + (f"did you mean {', '.join(map(shown, dict.fromkeys(close)))}? " if close else "")
        + f"{'I' if close else 'i'}t has: {has}."
    )


def checked_names(own: OwnFile, where: str, names: Sequence[str]) -> list[str]:
    """The columns' ``names`` as they are compared; `UserError` for those that can't be told apart."""
    if len(names) > MAX_COLUMNS:
        raise UserError(f"{own.name}{where}: more than {MAX_COLUMNS:,} columns.")
    cleaned = [one_form(name) for name in names]
    for i, name in enumerate(cleaned, start=1):
        if not name:
            raise UserError(f"{own.name}{where}: column {i} has no name: give it one.")
        if re.search(CONTROL, name):
            raise UserError(f"{own.name}{where}: the name of column {i}, {shown(name)}, holds a control character.")
    first: dict[str, int] = {}
    for i, name in enumerate(cleaned):
        other = cleaned[first.setdefault(name.lower(), i)]
        if first[name.lower()] == i:
            continue
        raise UserError(
            f"{own.name}{where}: two columns are named {shown(name, 60)}: rename one."
            if other == name
            else f"{own.name}{where}: columns {shown(other, 60)} and {shown(name, 60)} differ in upper and lower "
            "case only: rename one."
        )
    return cleaned


def _chosen(own: OwnFile, names: Sequence[str], columns: Collection[str] | None) -> list[str]:
    """Those of ``names`` that are among ``columns``, which must be there."""
    if columns is None:
        return list(names)
    wanted = {one_form(name) for name in columns}
    require(own.name, [one_form(name) for name in columns], names)
    return [name for name in names if name in wanted]


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
    said = _said_mark(own)
    mark, line, header = _csv_header(own, said)
    if not any(name.strip() for name in header):
        raise UserError(f"{own.name} is empty: it has no header.")
    names, n_header = _yahoo_header(own, mark, [header[0] if one_form(header[0]) else UNNAMED, *header[1:]])
    n_named = len(names)
    while n_named > 1 and not one_form(names[n_named - 1]):
        n_named -= 1
    names = checked_names(own, f", line {line}", names[:n_named])
    nameless = [f"\x00{i}" for i in range(n_named, len(header))]  # behind the last name, as where lines end in a comma
    wanted = dict.fromkeys([*_chosen(own, names, columns), *nameless], pa.string())
    names += nameless
    read = _read_simple(own, mark, names, wanted, n_header + bool(said)) if simple else None
    if read is None:
        records = itertools.islice(_csv_records(own, mark, bool(said)), n_header, None)
        read = Columns(*_collect(own, _fitting(own, records, len(names)), lambda rows: _texts(names, wanted, rows)))
    return _without_empty_ends(own, read, nameless, columns)._replace(delimiter=mark)


def _read_simple(
    own: OwnFile, mark: str, names: list[str], wanted: Mapping[str, pa.DataType], n_header: int
) -> Columns | None:
    """A CSV without quotes and blank lines; None where the slow pass must find the line that is wrong, or too long."""
    try:
        data = pa.csv.read_csv(
            own.stream(),
            pa.csv.ReadOptions(use_threads=False, column_names=names, skip_rows=n_header, block_size=2**24),
            pa.csv.ParseOptions(delimiter=mark, quote_char=False),
            pa.csv.ConvertOptions(column_types=wanted, include_columns=list(wanted)),
        )
    except pa.ArrowInvalid:
        return None
    if data.num_rows > MAX_ROWS:
        raise UserError(f"{own.name} has more than {MAX_ROWS:,} rows: split it.")
    return Columns(data, "line", first=n_header + 1)


def _fitting(own: OwnFile, records: Iterator[tuple[int, list[str]]], n_columns: int) -> Iterator[tuple[int, list[str]]]:
    for line, fields in records:
        if len(fields) == n_columns:
            yield line, fields
        elif len(fields) > 1 or fields[0].strip():
            raise UserError(f"{own.name}, line {line}: {len(fields)} fields where the header has {n_columns}.")


def _texts(names: Sequence[str], wanted: Collection[str], rows: Sequence[list[str]]) -> pa.Table:
    cells = zip(names, zip(*rows, strict=True), strict=True)
    return pa.table({name: pa.array(column, pa.string()) for name, column in cells if name in wanted})


def _without_empty_ends(
    own: OwnFile, read: Columns, nameless: Sequence[str], columns: Collection[str] | None
) -> Columns:
    """Without columns that have neither name nor cell, and rows at the end that have no cell, as sheets leave them."""
    data, remarks = read.data, []
    for name in nameless if data.num_rows else ():
        at = pc.index(pc.equal(pc.utf8_trim_whitespace(data[name]), ""), False).as_py()
        if at >= 0:
            where = f"line {read.lines[at] if read.lines else at + read.first}"
            raise UserError(
                f"{own.name}, {where}: a cell, {shown(data[name][at].as_py())}, in a column without a name."
            )
    if nameless:
        data = data.drop_columns(list(nameless)) if data.num_columns else data
        remarks.append(f"{len(nameless)} empty columns without a name are left out")
    if columns is None and data.num_columns > 1 and data.num_rows and _blank_from(data, data.num_rows - 1):
        filled = [pc.not_equal(pc.utf8_trim_whitespace(column), "") for column in data.columns]
        any_filled = filled[0]
        for column in filled[1:]:
            any_filled = pc.or_(any_filled, column)
        rows = np.flatnonzero(to_array(any_filled))
        n_rows = int(rows[-1]) + 1 if len(rows) else data.num_rows
        if n_rows < data.num_rows:
            remarks.append(f"{data.num_rows - n_rows:,} empty rows at the end are left out")
            data = data.slice(0, n_rows)
    return read._replace(data=data, remarks=tuple(remarks))


def _blank_from(data: pa.Table, row: int) -> bool:
    return all(not (cell or "").strip() for cell in data.slice(row, 1).to_pylist()[0].values())


def read_json(own: OwnFile, columns: Collection[str] | None) -> Columns:
    """The rows of a JSON or JSON Lines file, numbers as text too; a key that a row lacks is null there."""
    names: dict[str, None] = {}  # in the order in which they are met
    nested: dict[str, int] = {}
    wanted = None if columns is None else {one_form(name) for name in columns}
    n_rows = 0

    def cell(name: str, value: Any, i: int) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list | dict):
            nested.setdefault(one_form(name), n_rows + i)
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
        cleaned = checked_names(own, "", list(names))
        chosen = (name for name, clean in zip(names, cleaned, strict=True) if wanted is None or clean in wanted)
        cells = {one_form(name): column(name, rows) for name in chosen}
        n_rows += len(rows)
        return pa.table(cells or {"": pa.nulls(len(rows))})

    data, _, _, lines = _collect(own, _json_objects(own), table_of)
    if columns is not None and names:
        data = data.select(_chosen(own, [one_form(name) for name in names], columns))
    by_row = own.suffix == ".json"
    return Columns(data, "row" if by_row else "line", 1, None if by_row else lines, nested)


Array = npt.NDArray[Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PARQUET_BATCH = 1024  # rows; the texts of a batch must stay below 2 GiB
PLAIN = Format()
LARGEST = 1e30  # absolute value of a number


def _too_large(values: Array) -> Array:
    """Beyond what can be trained on: scaled values become single precision, and their squares are summed."""
    too_large: Array = np.abs(values) > LARGEST
    return too_large


class Table:
    """The rows of the user's ``file``; columns are parsed when asked for, as ``form`` says.

    What isn't written in the plainest way is told: `remarks` has a sentence for each column that was read and is so.
    """

    def __init__(self, file: str, columns: Columns, form: Format = PLAIN) -> None:
        self.file = file
        self.form = form
        self._data, self._unit, self._first, self._lines, self._nested, self._delimiter, told = columns
        self._told = dict.fromkeys(("", one) for one in told)  # column and what is told of it, in order
        self._places = {name: i for i, name in enumerate(self._data.column_names)}
        self._kept: dict[str, tuple[pa.ChunkedArray, str] | Unreadable] = {}  # numbers that took time to read

    def __len__(self) -> int:
        return int(self._data.num_rows)

    @property
    def names(self) -> list[str]:
        """The columns, in the file's order."""
        return list(self._places)

    def line(self, i: int) -> int:
        """Where row ``i`` (from 0) begins: its line in CSV and JSON Lines, its number (from 1) in JSON and Parquet."""
        return self._lines[i] if self._lines is not None else i + self._first

    def where(self, i: int) -> str:
        """The same as words: "line 7" or "row 7"."""
        return f"{self._unit} {self.line(i)}"

    def bad(self, i: int, name: str, what: str) -> UserError:
        """The error that says ``what`` is wrong in row ``i`` of column ``name``."""
        return UserError(f"{self.file}, {self.where(i)}, column {shown(name, 60)}: {what}.")

    def require(self, *names: str) -> None:
        """All that are absent of the columns ``names``, in one error."""
        require(self.file, list(map(one_form, names)), self.names)

    def texts(self, name: str, allow_empty: bool = False) -> list[str]:
        """A column as texts; missing or blank ones are refused, or come as "" where ``allow_empty``."""
        values: list[str] = self._cells_as_text(name).to_pylist()
        if not allow_empty:
            for i, value in enumerate(values):
                if not value.strip():
                    raise self.bad(i, name, "it is empty")
        return values

    def labels(self, name: str, allow_empty: bool = False) -> list[str]:
        """A column as names of classes, in composed Unicode and on one line; 1.0 is "1", booleans "true" and "false".

        Missing or blank ones are refused, or come as "" where ``allow_empty``. Two columns with a comma between, as
        `times` takes them, have their texts joined by a space.
        """
        if parts := self._pair(name):
            return [" ".join(pair) for pair in zip(*map(self.labels, parts), strict=True)]
        texts = self._cells_as_text(name)
        if (at := pc.index(pc.match_substring_regex(texts, CONTROL), True).as_py()) >= 0:
            raise self.bad(at, name, f"{shown(texts[at].as_py())} holds a control character")
        if not pc.all(pc.string_is_ascii(texts)).as_py():
            texts = pc.utf8_normalize(pc.replace_substring(texts, "\ufeff", ""), "NFC")
        texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, BLANK, " "))
        if not allow_empty and (at := pc.index(texts, "").as_py()) >= 0:
            raise self.bad(at, name, "it is empty")
        labels: list[str] = texts.to_pylist()
        return labels

    def numbers(self, name: str, missing: bool = False) -> Array:
        """A column as float64 (rows,). Empty cells, null, NaN, NA and such are refused, or NaN where ``missing``."""
        try:
            column, remark = self._floats(name)
        except Unreadable as error:
            raise self.bad(error.at, name, ": ".join(filter(None, (error.why, error.advice)))) from None
        except TypeError:
            kind = self._column(name).type
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {kind} and not numbers.") from None
        values = to_array(column.fill_null(np.nan))
        checks = (np.isinf, "is not finite"), (_too_large, "is too large"), (np.isnan, "where a number must be")
        for wrong, what in checks:
            if (wrong is not np.isnan or not missing) and (bad := wrong(values)).any():
                at = int(bad.argmax())
                text = self._column(name)[at].as_py()
                nothing = text is None or (isinstance(text, str) and not text.strip())
                raise self.bad(at, name, f"{'nothing' if nothing else shown(text)} {what}")
        self._remark(name, remark)
        return values

    def times(self, name: str) -> Array:
        """A column as datetime64[ns] (rows,), UTC where zones are given; plain numbers are float64. None is missing.

        ``name`` may be that of two columns with a comma between, of the date and of the time of day. Local times in
        which an hour comes twice each autumn are those of winter all year.
        """
        column = self._joined(name, *parts) if (parts := self._pair(name)) else self._column(name)
        try:
            times, remark = self._read_times(column)
        except Unreadable as error:
            why = ": ".join(filter(None, (error.why.replace(FIRST, self.where(0)), error.advice)))
            raise self.bad(error.at, name, why) from None
        except TypeError:
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {column.type} and not numbers.") from None
        if times.dtype.kind == "f":
            for wrong, what in ((np.isinf, "is not finite"), (np.isnan, "where a number must be")):
                if (bad := wrong(times)).any():
                    at = int(bad.argmax())
                    raise self.bad(at, name, f"{shown(column[at].as_py())} {what}")
        times, twice = continuous(times)
        if twice >= 0:
            hour = f"an hour comes twice at {self.where(twice)}, as clocks go back in autumn: times are those of winter"
            remark = "; ".join(filter(None, (remark, hour)))
        self._remark(name, remark)
        return times

    def holds_times(self, name: str) -> bool:
        """Whether a column holds dates, even such that could be read in two ways; plain numbers may be anything."""
        self.require(name)
        try:
            column = self._column(name)
        except UserError:  # lists or objects
            return False
        if not pa.types.is_string(column.type):
            return bool(pa.types.is_timestamp(column.type) or pa.types.is_date(column.type))
        try:
            return self._read_times(column)[0].dtype.kind == "M"
        except Unreadable as error:
            return bool(error.advice)

    def _read_times(self, column: pa.ChunkedArray) -> tuple[Array, str]:
        kind = column.type
        is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        if pa.types.is_string(kind):
            column = pc.utf8_trim_whitespace(column)
            missing = pc.equal(column, "").fill_null(True)
        else:
            missing = pc.is_null(column, nan_is_null=False)
        if (at := pc.index(missing, True).as_py()) >= 0:
            raise Unreadable(at, "a time is missing")
        if pa.types.is_integer(kind) and "%" in self.form.date_format:
            column = column.cast(pa.string())
            kind = column.type
        if pa.types.is_string(kind):
            return read_times(column, self.form)
        if not is_time:
            if pa.types.is_boolean(kind):
                raise TypeError
            return times_of_numbers(self._as_floats(column) if not pa.types.is_integer(kind) else column)
        finest = pa.timestamp("ns", "UTC" if getattr(kind, "tz", None) else None)
        try:
            return to_array(column.cast(finest).cast(pa.timestamp("ns"))), ""
        except pa.ArrowInvalid:  # too far for Python to print
            at = first_failing(lambda part: casts(part, finest), column)
            raise Unreadable(at, "a time outside the years 1678 to 2261") from None

    def _pair(self, name: str) -> list[str]:
        """The two columns that ``name`` means, "Date,Time" for one; none if it is a column itself."""
        parts = [one_form(part) for part in name.split(",")]
        if "," not in name or one_form(name) in self._places:
            return []
        if len(parts) != 2:
            raise UserError(f"{self.file}: a time stands in one column or in two, not in {shown(name, 60)}.")
        self.require(*parts)
        return parts

    def _joined(self, name: str, date: str, clock: str) -> pa.ChunkedArray:
        """Date and time of day as one text; a time of day may be a whole number, of hours or as in 1730."""
        column = self._column(date)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.date32())
        dates = pc.utf8_trim_whitespace(column.cast(pa.string()))
        hours = pc.utf8_trim_whitespace(self._as_text(clock))
        for part, cells in ((date, dates), (clock, hours)):
            if (at := pc.index(pc.equal(cells, "").fill_null(True), True).as_py()) >= 0:
                raise self.bad(at, part, "a time is missing")
        if _all_match(hours, r"^\d{1,4}$"):
            numbers = to_array(hours.cast(pa.int64()))
            if numbers.max() <= 24:
                hours = pc.binary_join_element_wise(hours, "00", ":")
            else:
                minutes = np.char.zfill((numbers % 100).astype(str), 2)
                hours = pa.chunked_array([np.char.add(np.char.add((numbers // 100).astype(str), ":"), minutes)])
            self._remark(name, f"{numbers[0]} is read as {hours[0].as_py()} o'clock")
        return pa.chunked_array([pc.binary_join_element_wise(dates.combine_chunks(), hours.combine_chunks(), " ")])

    def not_numbers(self, name: str) -> str | None:
        """Why a column is no column of numbers, in words such as "13 of 1,200 cells are no numbers, such as 'x'"."""
        try:
            column, _ = self._floats(name)
        except Unreadable as error:
            why = error.why
            if error.count:
                cell = shown(self._column(name)[error.at].as_py().strip())
                are = "cells are no numbers" if error.count > 1 else "cells is no number"
                why = f"{error.count:,} of {len(self):,} {are}, such as {cell}"
            return ": ".join(filter(None, (why, error.advice)))
        except TypeError:
            return f"it holds {self._column(name).type}"
        except UserError:
            return "it holds lists or objects"
        return "it holds no number" if pc.all(pc.is_null(column, nan_is_null=True)).as_py() else None

    def suspects(self, name: str) -> dict[str, int]:
        """Values of a column of numbers that look like marks for "missing", such as -9999, and how often they occur."""
        try:
            column, _ = self._floats(name)
        except (Unreadable, TypeError):
            return {}
        return count_suspects(to_array(column.fill_null(np.nan)))

    def numeric_columns(self, except_: Collection[str] = ()) -> list[str]:
        """The columns whose every cell is a number or missing, and one at least a number."""
        return [name for name in self.names if name not in except_ and self.not_numbers(name) is None]

    def _floats(self, name: str) -> tuple[pa.ChunkedArray, str]:
        """A column as float64, null where a number is missing, and how it was understood."""
        name = one_form(name)
        if name not in self._kept:
            column = self._column(name)
            if not pa.types.is_string(column.type):
                return self._as_floats(column), "True and False are read as 1 and 0" * pa.types.is_boolean(column.type)
            try:
                read = as_float(column, self.form, self._file_mark)
            except Unreadable as error:
                self._kept[name] = error
            else:
                if not read[1]:
                    return read
                self._kept[name] = read
        kept = self._kept[name]
        if isinstance(kept, Unreadable):
            raise kept
        return kept

    @functools.cached_property
    def _file_mark(self) -> str:
        return decimal_mark(self._data.columns) if self._delimiter == ";" else ""

    def _as_floats(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """What holds numbers by its type as float64; TypeError for what holds none."""
        kind = column.type
        if pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise TypeError
        # an integer beyond 2**53 may be rounded, as it is in a text
        return without_marks(column.cast(pa.float64(), safe=False), self.form)

    @property
    def remarks(self) -> list[str]:
        """How the file and its columns were understood, those that have been read until now."""
        return self.remarks_on({name for name, _ in self._told})

    def remarks_on(self, names: Collection[str]) -> list[str]:
        """The same of the file and the columns ``names`` alone; a pair such as "Date,Time" is a name."""
        wanted = set(map(one_form, names))
        return [
            f"column {shown(name, 60)}: {what}." if name else f"{what}."
            for name, what in self._told
            if not name or name in wanted
        ]

    def _remark(self, name: str, what: str) -> None:
        if what:
            self._told[one_form(name), what] = None

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of simple values, in its own type."""
        name = one_form(name)
        if name not in self._places:
            self.require(name)
        if name in self._nested:
            raise self.bad(self._nested[name], name, "a list or an object where text or a number must be")
        column = self._data.column(self._places[name])
        if pa.types.is_nested(column.type):
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {shown(column.type)}, not text or numbers.")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
            column = column.cast(pa.string())
        return column

    def _cells_as_text(self, name: str) -> pa.ChunkedArray:
        """Texts, "" where one is null or a mark for what is missing."""
        texts = self._as_text(name).fill_null("")
        if not self.form.missing:
            return texts
        marks = pa.array([text.strip().lower() for text in self.form.missing], texts.type)
        return pc.if_else(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=marks), "", texts)

    def _as_text(self, name: str) -> pa.ChunkedArray:
        column = self._column(name)
        kind = column.type
        if pa.types.is_floating(kind):
            column = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
            column = pc.if_else(pc.is_nan(column), None, column)
            whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
            integers = pc.if_else(whole, column, 0).cast(pa.int64())
            return pc.if_else(whole, integers.cast(pa.string()), column.cast(pa.string()))
        try:
            return column.cast(pa.string())
        except pa.ArrowException:
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {shown(kind, 40)} and not text.") from None


def _all_match(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py())


def check_increasing(times: Array, table: Table, name: str, groups: Sequence[str] | Array | None = None) -> None:
    """Refuse times (rows,) of column ``name`` that don't grow from row to row, within each of ``groups`` (rows,)."""
    order = None if groups is None else np.argsort(codes := _codes(groups), kind="stable")
    ordered = times if order is None else times[order]
    wrong = ordered[1:] <= ordered[:-1]
    if order is not None:
        wrong &= codes[order][1:] == codes[order][:-1]
    places = np.flatnonzero(wrong)
    if not len(places):
        return
    before, at = min(
        ((int(i), int(i) + 1) for i in places[:1])
        if order is None
        else zip(order[places], order[places + 1], strict=True),
        key=lambda pair: pair[1],
    )
    place = table.where(int(before))
    if times[at] == times[before]:
        what = f"repeats the time of {place}: keep one row for each time"
    else:
        what = f"comes after the later {_time_text(times[before])} of {place}: sort the rows by time"
    raise table.bad(int(at), name, f"{_time_text(times[at])} {what}")


def _codes(groups: Sequence[str] | Array) -> Array:
    return np.asarray(pa.array(groups).dictionary_encode().indices)


def _time_text(time: Any) -> str:
    return str(np.datetime_as_string(time, unit="auto")) if isinstance(time, np.datetime64) else f"{time:.15g}"


def read_table(path: Path, columns: Collection[str] | None = None, form: Format = PLAIN) -> Table:
    """The table in ``path``, written as ``form`` says; of it only ``columns``, which must be there, if given."""
    with open_own(path) as own:
        if own.suffix not in SUFFIXES:
            raise UserError(f"{own.name} is no table by its name: it must end in one of {', '.join(SUFFIXES)}.")
        read = {".csv": read_csv, ".tsv": read_csv, ".parquet": _read_parquet}.get(own.suffix, read_json)
        table = Table(own.name, read(own, columns or None), form)
    if not len(table):
        raise UserError(f"{own.name} has no rows{' below its header' if read is read_csv else ''}.")
    return table


def _read_parquet(own: OwnFile, columns: Collection[str] | None) -> Columns:
    batches: list[pa.RecordBatch] = []
    try:
        file = pa.parquet.ParquetFile(own.at_random())
        if file.metadata.num_rows > MAX_ROWS:
            raise UserError(f"{own.name} has more than {MAX_ROWS:,} rows: split it.")
        given = file.schema_arrow.names
        cleaned = checked_names(own, "", given)
        chosen = set(_chosen(own, cleaned, columns))
        wanted = [name for name, clean in zip(given, cleaned, strict=True) if clean in chosen]
        size = 0
        for batch in file.iter_batches(PARQUET_BATCH, columns=wanted if columns else None):
            batch.validate(full=True)  # texts that are no UTF-8, for one
            batches.append(batch)
            size += batch.nbytes
            if size > LIMIT:
                raise UserError(f"{own.name} unpacks to more than {LIMIT / 2**30:.3g} GiB: split it.")
        data = pa.Table.from_batches(batches, None if batches else pa.schema([]))
        data = data.rename_columns([one_form(name) for name in data.column_names])
    except UserError:
        raise
    except Exception as error:  # over damaged bytes pyarrow raises nearly anything
        why = "is encrypted: decrypt it first" if "encrypt" in str(error) else "is damaged or no Parquet file"
        raise UserError(f"{own.name} {why} ({type(error).__name__}).") from None
    return Columns(data, "row")

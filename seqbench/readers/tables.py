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
from dataclasses import dataclass
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
from seqbench.readers.archives import LIMIT, OwnFile, open_own, shown, survey

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

MAX_CHARACTERS = 2**30
MAX_FIELD = 2**26  # characters
WHY_CSV = {
    "unexpected end of data": "a quote that opens in this record is never closed",
    "field larger than field limit": "a field is far too long, as where a quote is never closed",
    "expected after": "more follows a closing quote: inside quotes a quote is written twice",
}


@dataclass(frozen=True)
class Format:
    """How the cells of a file are written, where the user had to say it.

    ``date_format``: as strptime takes it, or the words day-first and month-first; ``missing``: further marks for a
    value that is missing, texts or numbers; ``decimal``: "," or ".", the mark before decimals.
    """

    date_format: str = ""
    missing: tuple[str, ...] = ()
    decimal: str = ""


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
    headers = []
    for mark in marks:
        with contextlib.suppress(UserError), contextlib.closing(_csv_records(own, mark)) as records:
            headers.append((mark, *next(records, (1, []))))
            if len(headers[-1][2]) > 1:
                return headers[-1]
    return headers[0] if headers else (marks[0], *next(_csv_records(own, marks[0])))  # the error of the first mark


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
        columns_of = {
            name: column(name, rows) for name in (names if columns is None else columns)
        }  # absent ones are null
        n_rows += len(rows)
        return pa.table(columns_of)

    data, _, _, lines = _collect(own, _json_objects(own), table_of)
    require(own.name, columns or (), list(names))
    return Columns(data, "row", 1, None, nested) if own.suffix == ".json" else Columns(data, "line", 1, lines, nested)


Array = npt.NDArray[Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PARQUET_BATCH = 1024  # rows; the texts of a batch must stay below 2 GiB
MISSING = ("", "na", "n/a", "nan", "null", "none")  # in columns of numbers, in any case
LARGEST = 1e30  # absolute value of a number
NAIVE, ZONED = pa.timestamp("ns"), pa.timestamp("ns", "UTC")


def _too_large(values: Array) -> Array:
    """Beyond what can be trained on: scaled values become single precision, and their squares are summed."""
    too_large: Array = np.abs(values) > LARGEST
    return too_large


class Table:
    """The rows of the user's ``file``; columns are parsed when asked for."""

    def __init__(self, file: str, columns: Columns, form: Format = Format()) -> None:  # it is frozen
        self.file = file
        self.form = form
        self.remarks: list[str] = []  # sentences on how cells were understood, for the notes of a data set
        self._data, self._unit, self._first, self._lines, self._nested = columns

    def __len__(self) -> int:
        return int(self._data.num_rows)

    @property
    def names(self) -> list[str]:
        """The columns, in the file's order."""
        return list(self._data.column_names)

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
        require(self.file, names, self.names)

    def texts(self, name: str, allow_empty: bool = False) -> list[str]:
        """A column as texts; missing or blank ones are refused, or come as "" where ``allow_empty``."""
        values: list[str] = self._as_text(name).fill_null("").to_pylist()
        if not allow_empty:
            for i, value in enumerate(values):
                if not value.strip():
                    raise self.bad(i, name, "it is empty")
        return values

    def labels(self, name: str) -> list[str]:
        """A column as names of classes: no white space around; 1.0 is "1", booleans "true" and "false"."""
        return [text.strip() for text in self.texts(name)]

    def numbers(self, name: str, missing: bool = False) -> Array:
        """A column as float64 (rows,). Empty cells, null, NaN, NA and such are refused, or NaN where ``missing``."""
        column = self._column(name)
        try:
            values = _numpy(_as_float(column).fill_null(np.nan))
        except pa.ArrowInvalid:
            column = _blanked(column)
            at = _first_that_is_no(pa.float64(), column)
            text = column[at].as_py()
            comma = ": use a decimal point" if text.count(",") == 1 else ""
            raise self.bad(at, name, f"{shown(text)} is no number{comma}") from None
        except TypeError:
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {column.type} and not numbers.") from None
        checks = (np.isinf, "is not finite"), (_too_large, "is too large"), (np.isnan, "where a number must be")
        for wrong, what in checks:
            if (wrong is not np.isnan or not missing) and (bad := wrong(values)).any():
                at = int(bad.argmax())
                text = column[at].as_py()
                raise self.bad(at, name, f"{'nothing' if text in (None, '') else shown(text)} {what}")
        return values

    def times(self, name: str) -> Array:
        """A column as datetime64[ns] (rows,), UTC where zones are given; plain numbers are float64. None is missing."""
        column = self._column(name)
        kind = column.type
        if pa.types.is_string(kind):
            column = pc.utf8_trim_whitespace(column)
            missing = pc.equal(column, "").fill_null(True)
            kind = next((kind for kind in (pa.float64(), NAIVE, ZONED) if _casts(column[:1], kind)), NAIVE)
        else:
            missing = pc.is_null(column)
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                kind = ZONED if getattr(kind, "tz", None) else NAIVE
        if (at := pc.index(missing, True).as_py()) >= 0:
            raise self.bad(at, name, "a time is missing")
        if kind not in (NAIVE, ZONED):
            return self.numbers(name)
        try:
            return _numpy(column.cast(kind).cast(NAIVE))
        except pa.ArrowInvalid:
            at = _first_that_is_no(kind, column)
            value, other = column[at : at + 1], NAIVE if kind == ZONED else ZONED
        what = "is no time: write 2013-01-31, 2013-01-31T14:00 or plain numbers"
        if not pa.types.is_string(column.type):
            raise self.bad(at, name, "a time outside the years 1678 to 2261") from None  # too far for Python to print
        if _casts(value, other):
            what = (
                f"{'lacks' if kind == ZONED else 'has'} a time zone, other than {self.where(0)}: give all or none one"
            )
        elif _casts(value, pa.timestamp("s")) or _casts(value, pa.timestamp("s", "UTC")):
            what = "is outside the years 1678 to 2261"
        raise self.bad(at, name, f"{shown(value[0].as_py())} {what}")

    def not_numbers(self, name: str) -> str | None:
        """Why a column is no column of numbers, in words such as "13 of 1,200 cells are no numbers, such as '?'"."""
        try:
            values = self.numbers(name, missing=True)
        except UserError as error:
            return str(error).rstrip(".")
        return "it holds no number" if np.isnan(values).all() else None

    def suspects(self, name: str) -> dict[str, int]:
        """Values of a column of numbers that look like marks for "missing", and how often they occur."""
        self.require(name)
        return {}

    def numeric_columns(self, except_: Collection[str] = ()) -> list[str]:
        """The columns whose every cell is a number or missing, and one at least a number."""
        numeric = []
        for name in self.names:
            if name not in except_ and name not in self._nested:
                try:
                    values = _as_float(self._column(name))
                except (TypeError, UserError, pa.ArrowInvalid):
                    continue
                if not pc.all(pc.is_null(values, nan_is_null=True)).as_py():
                    numeric.append(name)
        return numeric

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of simple values, in its own type."""
        self.require(name)
        if name in self._nested:
            raise self.bad(self._nested[name], name, "a list or an object where text or a number must be")
        column = self._data.column(name)
        if pa.types.is_nested(column.type):
            raise UserError(f"{self.file}: column {shown(name, 60)} holds {shown(column.type)}, not text or numbers.")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
            column = column.cast(pa.string())
        return column

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


def _numpy(column: pa.ChunkedArray) -> Array:
    return np.concatenate([chunk.to_numpy() for chunk in column.chunks])


def _blanked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of numbers without white space around them, null where one says that none is there."""
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(pc.utf8_lower(column), value_set=pa.array(MISSING, column.type)), None, column)


def _as_float(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """ArrowInvalid for texts that are no numbers, TypeError for what is neither."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False)  # an integer beyond 2**53 may be rounded, as it is in a text
    if not pa.types.is_string(kind):
        raise TypeError
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return _blanked(column).cast(pa.float64())


def _casts(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowException:
        return False
    return True


def _first_that_is_no(kind: pa.DataType, column: pa.ChunkedArray) -> int:
    """The first row that can't be cast, by halving: pyarrow doesn't say which one it was."""
    start, count = 0, len(column)
    while count > 1:
        half = count // 2
        if _casts(column.slice(start, half), kind):
            start, count = start + half, count - half
        else:
            count = half
    return start


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
    what = (
        f"{_time_text(times[at])} repeats the time"
        if times[at] == times[before]
        else (f"{_time_text(times[at])} comes after the later {_time_text(times[before])}")
    )
    raise table.bad(int(at), name, f"{what} of {table.where(int(before))}: sort the rows and keep one for each time")


def _codes(groups: Sequence[str] | Array) -> Array:
    return np.asarray(pa.array(groups).dictionary_encode().indices)


def _time_text(time: Any) -> str:
    return str(np.datetime_as_string(time, unit="auto")) if isinstance(time, np.datetime64) else f"{time:.15g}"


def read_table(path: Path, columns: Collection[str] | None = None, form: Format = Format()) -> Table:
    """The table in ``path``; of it only ``columns``, which must be there, where they are given; cells as in ``form``."""
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
        wanted = checked_names(own, "", file.schema_arrow.names, columns)
        size = 0
        for batch in file.iter_batches(PARQUET_BATCH, columns=wanted if columns else None):
            batch.validate(full=True)  # texts that are no UTF-8, for one
            batches.append(batch)
            size += batch.nbytes
            if size > LIMIT:
                raise UserError(f"{own.name} unpacks to more than {LIMIT / 2**30:.3g} GiB: split it.")
        data = pa.Table.from_batches(batches, None if batches else pa.schema([]))
    except UserError:
        raise
    except Exception as error:  # over damaged bytes pyarrow raises nearly anything
        why = "is encrypted: decrypt it first" if "encrypt" in str(error) else "is damaged or no Parquet file"
        raise UserError(f"{own.name} {why} ({type(error).__name__}).") from None
    return Columns(data, "row")

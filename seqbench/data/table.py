"""Tables that the user brings: CSV and TSV with a header, JSON Lines, JSON, Parquet, plain or packed (see `opening`).

No type is guessed: the cells of text formats stay text ("007", "NA") until a column is asked for as texts, labels,
numbers or times, and whatever can't be that is named by its line and column. Parquet keeps its types. Everything is
held once, as Arrow columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from seqbench.data.opening import LIMIT, OwnFile, open_own, shown
from seqbench.data.plain import MAX_ROWS, Columns, checked_names, read_csv, read_json, require
from seqbench.errors import UserError

__all__ = ["Table", "check_increasing", "read_table"]

Array = npt.NDArray[Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PARQUET_BATCH = 1024  # rows; the texts of a batch must stay below 2 GiB
MISSING = ("", "na", "n/a", "nan", "null", "none")  # in columns of numbers, in any case
LARGEST = 1e30  # absolute value of a number
NAIVE, ZONED = pa.timestamp("ns"), pa.timestamp("ns", "UTC")


def _too_large(values: Array) -> Array:
    """Beyond what can be trained on: scaled values become single precision, and their squares are summed."""
    found: Array = np.abs(values) > LARGEST
    return found


class Table:
    """The rows of the user's ``file``; columns are parsed when asked for."""

    def __init__(self, file: str, columns: Columns) -> None:
        self.file = file
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
            if (wrong is not np.isnan or not missing) and (found := wrong(values)).any():
                at = int(found.argmax())
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

    def numeric_columns(self, except_: Collection[str] = ()) -> list[str]:
        """The columns whose every cell is a number or missing, and one at least a number."""
        found = []
        for name in self.names:
            if name not in except_ and name not in self._nested:
                try:
                    values = _as_float(self._column(name))
                except (TypeError, UserError, pa.ArrowInvalid):
                    continue
                if not pc.all(pc.is_null(values, nan_is_null=True)).as_py():
                    found.append(name)
        return found

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


def read_table(path: Path, columns: Collection[str] | None = None) -> Table:
    """The table in ``path``; of it only ``columns``, which must be there, where they are given."""
    with open_own(path) as own:
        if own.suffix not in SUFFIXES:
            raise UserError(f"{own.name} is no table by its name: it must end in one of {', '.join(SUFFIXES)}.")
        read = {".csv": read_csv, ".tsv": read_csv, ".parquet": _read_parquet}.get(own.suffix, read_json)
        table = Table(own.name, read(own, columns or None))
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

"""Columns of texts as numbers. How a column is written is decided from all its cells, never from one at a time.

Read without a word: what Python's ``float`` takes. Read, and told in a remark: decimal commas and marks between
thousands where a cell of the column settles which is which (``1,5`` or ``1,257,000``), a currency sign or % in every
cell, True and False, and `UNSURE` marks for what is missing. A column that could be read in two ways (``1,257``) is
refused, and both readings are named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqbench.errors import UserError
from seqbench.readers.archives import shown

__all__ = [
    "DIRECTIVES",
    "Format",
    "Unreadable",
    "as_float",
    "count_suspects",
    "decimal_mark",
    "first_failing",
    "present",
    "without_marks",
]

Array = npt.NDArray[Any]
MISSING = ("", "na", "n/a", "#n/a", "#na", "<na>", "n.a.", "nan", "-nan", "null", "none")  # in any case
UNSURE = ("?", "-", "--", ".", "..", "*")  # missing where nearly all other cells are numbers, which is then told
A_CLASS = 0.05  # share of the labels from which "none" is a class and no missing one
TRUTHS = ("true", "false")
SIGNS = "$€£¥%"
GAPS = " \u00a0\u2009\u202f'\u2019"  # between thousands
MARKS = (-1.0, -99.0, -99.9, -200.0, -999.0, -999.9, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0, 1e20, -1e20)
DISTINCT = 10  # values that a column must have before its -1 can look like a mark

EXPONENT = r"(?:[eE][+-]?\d+)?$"
POINT = rf"^[+-]?(?:(?:[1-9]\d{{0,2}}(?:,\d{{3}})+|\d+)(?:\.\d*)?|\.\d+){EXPONENT}"
COMMA = rf"^[+-]?(?:(?:[1-9]\d{{0,2}}(?:\.\d{{3}})+|\d+)(?:,\d*)?|,\d+){EXPONENT}"
SPACED = rf"^[+-]?[1-9]\d{{0,2}}(?:[{GAPS}]\d{{3}})+(?:[.,]\d*)?$"

DECIMALS = r"^[+-]?(?:\d+[{0}](?:\d\d?|\d{{4,}})|(?:0|\d{{4,}})?[{0}]\d+)$"  # a mark that isn't between thousands
UNKNOWN, SAMPLE = ";", 1000  # rows of a column that tell the decimal mark of a file

NAME = r"[A-Za-z]{3,9}\.?"
DIRECTIVES = {  # of strptime, as regular expressions; the group of each has its letter as its name
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "b": NAME,
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{1,2}",
    "S": r"\d{1,2}",
    "f": r"\d{1,9}",
    "p": r"[AaPp]\.?[Mm]\.?",
    "z": r"Z|UTC|GMT|[+-]\d{2}:?\d{2}",
    "j": r"\d{1,3}",
}
WORDS = ("day-first", "month-first")


@dataclass(frozen=True)
class Format:
    """How the cells of a file are written, where the user had to say it.

    ``date_format``: as strptime takes it, of the date alone or with its time, or the words day-first and month-first;
    ``missing``: further marks for a value that is missing, texts or numbers; ``decimal``: "," or ".", the mark before
    decimals, in columns that could be read either way.
    """

    date_format: str = ""
    missing: tuple[str, ...] = ()
    decimal: str = ""

    def __post_init__(self) -> None:
        if self.decimal not in ("", ",", "."):
            raise UserError(f"--decimal {shown(self.decimal)} must be a comma or a point: --decimal , or --decimal .")
        if self.date_format and self.date_format not in WORDS:
            self._check_date_format()

    def _check_date_format(self) -> None:
        said = f"--date-format {shown(self.date_format)}"
        used = re.findall("%(.)", self.date_format.replace("%%", ""))
        unknown = sorted({letter for letter in used if letter not in (*DIRECTIVES, *"BaAFTR")})
        if unknown or not used:
            what = f"has %{unknown[0]}, which isn't known here" if unknown else "has no %"
            raise UserError(f"{said} {what}: write it as in %d/%m/%Y, %m/%d/%Y %H:%M, %d.%m.%y or %d %b %Y.")
        names = [{"B": "b"}.get(letter, letter) for letter in "".join(used).replace("F", "Ymd").replace("T", "HMS")]
        if len(set(names)) < len(names):
            raise UserError(f"{said} says the same thing twice: write it as in %d/%m/%Y.")
        if not {"Y", "y"} & set(names):
            raise UserError(f"{said} has no year (%Y, or %y with two digits): write it as in %d/%m/%Y.")
        if not {"m", "b", "j"} & set(names):
            raise UserError(f"{said} has no month (%m, or %b as a word): write it as in %d/%m/%Y.")

    @property
    def marks(self) -> list[float]:
        """Those of ``missing`` that are numbers."""
        numbers = []
        for text in self.missing:
            try:
                numbers.append(float(text.replace(",", ".")))
            except ValueError:
                continue
        return numbers


class Unreadable(ValueError):
    """What stands in row ``at`` of a column can't be read; ``why`` is the rest of the sentence about it.

    ``count`` cells are so, if that was counted, and ``advice`` says what to do.
    """

    def __init__(self, at: int, why: str, count: int = 0, advice: str = "") -> None:
        super().__init__(why)
        self.at, self.why, self.count, self.advice = at, why, count, advice


def present(texts: Iterable[str], *, classes: bool = False) -> list[str]:
    """``texts``, "" where one is a word for what is missing.

    Of ``classes``, none is one where it stands in more than a few cells and not beside numbers: that there is nothing
    is a finding.
    """
    every = list(texts)
    plain = [text.strip().lower() for text in every]
    kept = classes and plain.count("none") >= A_CLASS * len(every) and any(_is_word(text) for text in set(plain))
    return [
        text if word not in MISSING or (kept and word == "none") else ""
        for text, word in zip(every, plain, strict=True)
    ]


def _is_word(text: str) -> bool:
    """Whether it is there, and no number."""
    try:
        float(text)
    except ValueError:
        return text not in MISSING
    return False


def without_marks(values: pa.ChunkedArray, form: Format) -> pa.ChunkedArray:
    """Numbers, null where they are one of the marks for what is missing."""
    if not form.marks:
        return values
    return pc.if_else(pc.is_in(values, value_set=pa.array(form.marks, pa.float64())), None, values)


def as_float(column: pa.ChunkedArray, form: Format, file_mark: str) -> tuple[pa.ChunkedArray, str]:
    """Texts as float64, null where nothing is there, and a remark on how they were understood, "" where all is plain.

    ``file_mark``: of a file with semicolons between cells, the decimal mark that `decimal_mark` finds in it; else "".
    Where it is the comma, or unknown, 1,257 has a decimal comma, since that is what semicolons are for.
    """
    if not form.missing and form.decimal != "," and not file_mark:
        try:
            return column.cast(pa.float64()), ""
        except pa.ArrowInvalid:
            pass
    column = pc.utf8_trim_whitespace(column)
    nothing = pa.array([*MISSING, *(text.strip().lower() for text in form.missing)], pa.string())
    cells = pc.if_else(pc.is_in(pc.utf8_lower(column), value_set=nothing), None, column)
    values, remark = _understood(cells, form, file_mark)
    return without_marks(values, form), remark


def _understood(cells: pa.ChunkedArray, form: Format, file_mark: str) -> tuple[pa.ChunkedArray, str]:
    if form.decimal != "," and not file_mark:
        try:
            return cells.cast(pa.float64()), ""
        except pa.ArrowInvalid:
            pass
    if _all(pc.is_in(pc.utf8_lower(cells), value_set=pa.array(TRUTHS)), cells) and cells.null_count < len(cells):
        true = pc.equal(pc.utf8_lower(cells), TRUTHS[0])
        return true.cast(pa.int8()).cast(pa.float64()), "True and False are read as 1 and 0"
    unsure = pc.fill_null(pc.is_in(cells, value_set=pa.array(UNSURE)), False)
    count, told = _sum(unsure), ""
    if count and 2 * count <= len(cells) - cells.null_count:
        marks = pc.unique(pc.filter(cells, unsure)).to_pylist()
        are = "cell {} is" if count == 1 else "cells {} are"
        told = f"{count:,} {are.format(' and '.join(map(repr, marks)))} read as missing"
        cells = pc.if_else(unsure, None, cells)
    values, remark = _with_marks(cells, form, file_mark)
    return values, "; ".join(filter(None, (remark, told)))


def _with_marks(cells: pa.ChunkedArray, form: Format, file_mark: str) -> tuple[pa.ChunkedArray, str]:
    """Texts of numbers with currency signs, decimal commas and marks between thousands."""
    bare = _without_signs(cells)
    bare = pc.replace_substring(bare, "\u2212", "-")
    spaced = pc.match_substring_regex(bare, SPACED)
    if pc.any(spaced).as_py():
        bare = pc.if_else(spaced, pc.replace_substring_regex(bare, f"[{GAPS}]", ""), bare)
    decimal = _decimal(cells, bare, form, file_mark)
    thousands = "." if decimal == "," else ","
    plain = pc.replace_substring(bare, thousands, "")
    if decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    values = plain.cast(pa.float64())
    changed = pc.fill_null(pc.not_equal(plain, cells), False)
    if (at := pc.index(changed, True).as_py()) < 0:
        return values, ""
    at = max(at, pc.index(_longest(cells, changed), True).as_py())
    return values, f"{shown(cells[at].as_py())} is read as {values[at].as_py():.15g}"


def _longest(cells: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which cells are the longest, and so the best examples, of those ``among``."""
    lengths = pc.if_else(among, pc.utf8_length(cells), 0)
    return pc.equal(lengths, pc.max(lengths))


def _without_signs(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without the sign that all cells have: before the number a currency's, behind it that or %."""
    n = len(cells) - cells.null_count
    for sign in SIGNS:
        if n and _sum(pc.match_substring(cells, sign)) == n:
            if sign != "%":
                cells = pc.replace_substring_regex(cells, rf"^([+-]?)\s*[{sign}]\s*", r"\1")
            return pc.replace_substring_regex(cells, rf"\s*[{sign}]$", "")
    return cells


def _decimal(cells: pa.ChunkedArray, bare: pa.ChunkedArray, form: Format, file_mark: str) -> str:
    """The decimal mark, a point or a comma; `Unreadable` where it can't be told, or cells are no numbers."""
    point, comma = (pc.match_substring_regex(bare, pattern) for pattern in (POINT, COMMA))
    fits = {".": _all(point, bare), ",": _all(comma, bare)}
    if not any(fits.values()):
        raise _no_numbers(cells, point, comma)
    if not all(fits.values()):
        return "." if fits["."] else ","
    if form.decimal:
        return form.decimal
    commas = pc.fill_null(pc.match_substring(bare, ","), False)
    points = pc.fill_null(pc.match_substring(bare, "."), False)
    if not _sum(commas) and (file_mark in ("", ".") or not _sum(points)):  # only points, as programs write them
        return "."
    if file_mark == "," or (file_mark == UNKNOWN and _sum(commas)):
        return ","
    at = pc.index(pc.or_(commas, points), True).as_py()
    text = bare[at].as_py()
    both = f"{text.replace(',', '').replace('.', '')} or {text.replace(',', '.')}"
    raise Unreadable(at, f"{shown(cells[at].as_py())} may be {both}", advice="give --decimal . or --decimal ,")


def decimal_mark(columns: Iterable[pa.ChunkedArray]) -> str:
    """Which decimal mark texts between semicolons have, where any of them settles it; else `UNKNOWN`."""
    seen = set()
    for cells in columns:
        cells = pc.utf8_trim_whitespace(cells.slice(0, SAMPLE))
        seen |= {mark for mark in ".," if pc.any(pc.match_substring_regex(cells, DECIMALS.format(mark))).as_py()}
    return seen.pop() if len(seen) == 1 else UNKNOWN


def _no_numbers(cells: pa.ChunkedArray, point: pa.ChunkedArray, comma: pa.ChunkedArray) -> Unreadable:
    n = len(cells) - cells.null_count
    neither = pc.invert(pc.or_(point, comma))
    count = _sum(neither)
    if not count:  # some with a decimal point, some with a comma
        wrong = pc.invert(point if _sum(point) >= _sum(comma) else comma)
        at = pc.index(pc.fill_null(wrong, False), True).as_py()
        hint = "use a decimal point" if _sum(point) >= _sum(comma) else "use a decimal comma"
        return Unreadable(at, f"{shown(cells[at].as_py())} is no number", _sum(wrong), f"{hint}, as in other cells")
    at = pc.index(pc.fill_null(neither, False), True).as_py()
    text = cells[at].as_py()
    kinds = pc.unique(pc.filter(cells, pc.fill_null(neither, False)))
    advice = ""
    if len(kinds) == 1 and re.fullmatch(r"[^\d\W]{1,20}|\W{1,5}", text) and (n > 2 * count or text in UNSURE):
        advice = f"if it stands for a missing value, give --missing {shlex.quote(text)}"
    return Unreadable(at, f"{shown(text)} is no number", count, advice)


def _sum(truths: pa.ChunkedArray) -> int:
    return int(pc.sum(truths).as_py() or 0)


def _all(truths: pa.ChunkedArray, cells: pa.ChunkedArray) -> bool:
    """Whether all are true but those of empty cells."""
    return bool(_sum(pc.and_(truths, pc.is_valid(cells))) == len(cells) - cells.null_count)


def count_suspects(values: Array) -> dict[str, int]:
    """Of numbers (N,) with NaN: repeated ones like -9999 that lie far outside all others, and their counts.

    A column's least and greatest value are looked at, then those that are left: -9999 and -999 may both be there. A
    mark lies further from the others than these from each other; one of -99 and less need only be below what is
    otherwise never negative.
    """
    rest = values[np.isfinite(values)]
    found: dict[str, int] = {}
    while len(rest):
        low, high = float(rest.min()), float(rest.max())
        for value in (low, high):
            others = rest[rest != value]
            count = len(rest) - len(others)
            if value in MARKS and count > 1 and len(others) and _is_far(value, others):
                found[f"{value:.15g}"] = count
                rest = others
                break
        else:
            break
    return found


def _is_far(value: float, others: Array) -> bool:
    low, high = float(others.min()), float(others.max())
    if value in MARKS and value <= -99.0 and low >= 0.0:
        return True
    if value == -1.0 and (low < 0.0 or bool((others == np.round(others)).all()) or len(np.unique(others)) < DISTINCT):
        return False  # among whole numbers -1 is one more of them
    if high == low and abs(value) < 99.0:
        return False
    return bool(min(abs(value - low), abs(value - high)) > high - low)


def first_failing(works: Callable[[pa.ChunkedArray], bool], column: pa.ChunkedArray) -> int:
    """The first row for which ``works`` is false, by halving: pyarrow doesn't say which one it was."""
    start, count = 0, len(column)
    while count > 1:
        half = count // 2
        if works(column.slice(start, half)):
            start, count = start + half, count - half
        else:
            count = half
    return start

"""Columns of texts and numbers as times. How a column is written is decided from all its cells.

Dates: ISO 8601; day, month and year with / . or - between them, in either order if a cell of the column or the regular
step of one reading settles it; names of months; years of four digits alone, or all digits in a row. Numbers are plain
counts, but seconds, milli-, micro- and nanoseconds since 1970 (`EPOCHS`) are times. Local times in which the hour of
autumn comes twice are put on one continuous clock (`continuous`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqbench.readers.archives import shown
from seqbench.readers.cells import DIRECTIVES, Format, Unreadable, first_failing

__all__ = ["FIRST", "casts", "continuous", "hours_between", "read_times", "times_of_numbers", "to_array"]

Array = npt.NDArray[Any]
NAIVE, ZONED = pa.timestamp("ns"), pa.timestamp("ns", "UTC")
EPOCHS = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}  # least number of each: September 2001
LAST_EPOCH = 4.1  # times the least: the year 2099
COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
YEARS = 1900, 2100  # of dates that are only digits
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
HOUR = 3_600_000_000_000  # nanoseconds
CLOCK = (  # what may follow a date
    r"(?:(?:[ T,]+|:)(?P<H>\d{1,2})(?:[:.h](?P<M>\d{2})(?:[:.](?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?"
    r"(?: ?(?P<p>[AaPp]\.?[Mm]\.?))?)?"
)
ZONE = r"(?: ?(?P<z>Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
BEGINS = (  # how a first cell begins, and how its date is written; \1 of each is the mark between the parts
    (r"\d{4}([-/. ])\d{1,2}\1\d{1,2}(?!\d)", "%Y{0}%m{0}%d"),
    (r"\d{4}([-/.])\d{1,2}$", "%Y{0}%m"),
    (r"\d{1,2}([/.-])\d{4}$", "%m{0}%Y"),
    (r"\d{4}([-/. ])[A-Za-z]{3,9}\1\d{1,2}(?!\d)", "%Y{0}%b{0}%d"),
    (r"\d{1,2}([-/. ])[A-Za-z]{3,9}\.?\1\d{4}", "%d{0}%b{0}%Y"),
    (r"[A-Za-z]{3,9}\.?( )\d{1,2}, \d{4}", "%b %d, %Y"),
    (r"[A-Za-z]{3,9}\.?( )\d{1,2} \d{4}", "%b %d %Y"),
    (r"[A-Za-z]{3,9}\.?([-/. ])\d{4}$", "%b{0}%Y"),
    (r"()\d{8}T\d{6}Z?$", "%Y%m%dT%H%M%S"),
    (r"()\d{8}T\d{4}Z?$", "%Y%m%dT%H%M"),
    (r"()\d{8}(?:[ T].*)?$", "%Y%m%d"),
)
WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,? )?"
EITHER = re.compile(r"\d{1,2}([-/. ])\d{1,2}\1(\d{4}|\d{2})(?!\d)")  # day or month first
FIRST = "{first}"  # stands in a sentence for the place of the first row
NO_TIME = "is no time: write 2013-01-31, 2013-01-31T14:00 or plain numbers"


def read_times(cells: pa.ChunkedArray, form: Format) -> tuple[Array, str]:
    """Texts, trimmed and none missing, as datetime64[ns] or as float64, and a remark on how they were understood."""
    first = cells[0].as_py()
    if form.date_format and "%" in form.date_format:
        return _by_format(cells, form.date_format, None), ""
    if casts(cells[:1], pa.float64()):
        return times_of_numbers(cells)
    kind = next((kind for kind in (NAIVE, ZONED) if casts(cells[:1], kind)), None)
    if kind is not None:
        return _iso(cells, kind), ""
    for begin, written in BEGINS:
        if match := re.match(WEEKDAY + begin, first):
            return _by_format(cells, written.format(match.group(1)), first), ""
    if match := EITHER.match(first):
        return _day_or_month_first(cells, match.group(1), len(match.group(2)) == 2, form.date_format)
    if match := re.match(rf"{WEEKDAY}\d{{1,2}}([-/. ])[A-Za-z]{{3,9}}\.?\1\d{{2}}(?!\d)", first):
        raise _two_digits(0, first, (f"%d{match.group(1)}%b{match.group(1)}%y",))
    raise Unreadable(0, f"{shown(first)} {NO_TIME}, or give --date-format, as in --date-format %d/%m/%Y")


def times_of_numbers(column: pa.ChunkedArray) -> tuple[Array, str]:
    """Numbers, or texts of numbers, none missing: times since 1970, or dates of digits in a row, or plain float64."""
    try:
        numbers = to_array(column.cast(pa.float64(), safe=False))
    except pa.ArrowInvalid:
        at = first_failing(lambda part: casts(part, pa.float64()), column)
        raise Unreadable(at, f"{shown(column[at].as_py())} is no number, as the first of the column is") from None
    whole = bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())
    if whole and (written := COMPACT.get(len(f"{abs(numbers[0]):.0f}"))):
        texts = pa.chunked_array([pa.array([f"{number:.0f}" for number in numbers[:1]])])
        if _compact_date(texts, written):
            texts = pa.chunked_array([pa.array(np.char.mod("%d", numbers.astype(np.int64)))])
            if (times := _compact_date(texts, written)) is not None:
                return times, f"{shown(column[0].as_py())} is read as {_shown_time(times[0])}"
    for unit, least in EPOCHS.items():
        if np.isfinite(numbers).all() and numbers.min() >= least and numbers.max() < LAST_EPOCH * least:
            times = _since_1970(column, numbers, unit)
            return times, f"{shown(column[0].as_py())} is read as {unit} since 1970, so as {_shown_time(times[0])} UTC"
    return numbers, ""


def _compact_date(texts: pa.ChunkedArray, written: str) -> Array | None:
    if _sum(pc.equal(pc.utf8_length(texts), len(texts[0].as_py()))) < len(texts):
        return None
    try:
        times = _by_format(texts, written, None)
    except Unreadable:
        return None
    years = times.astype("datetime64[Y]").astype(int) + 1970
    return times if years.min() >= YEARS[0] and years.max() < YEARS[1] else None


def _since_1970(column: pa.ChunkedArray, numbers: Array, unit: str) -> Array:
    try:
        return to_array(column.cast(pa.int64())).astype(f"datetime64[{unit}]").astype("datetime64[ns]")
    except pa.ArrowInvalid:  # with decimals
        nanoseconds = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[unit]
        whole = np.floor(numbers)
        parts = whole.astype(np.int64) * nanoseconds + np.round((numbers - whole) * nanoseconds).astype(np.int64)
        return parts.astype("datetime64[ns]")


def _iso(cells: pa.ChunkedArray, kind: pa.DataType) -> Array:
    try:
        return to_array(cells.cast(kind).cast(NAIVE))
    except pa.ArrowInvalid:
        pass
    try:
        return _by_format(cells, "%Y-%m-%d", None)  # an hour of one digit, say, or 24:00
    except Unreadable:
        at = first_failing(lambda part: casts(part, kind), cells)
    value, other = cells[at : at + 1], NAIVE if kind == ZONED else ZONED
    what = NO_TIME
    if casts(value, other):
        what = f"{'lacks' if kind == ZONED else 'has'} a time zone, other than {FIRST}: give all or none one"
    elif casts(value, pa.timestamp("s")) or casts(value, pa.timestamp("s", "UTC")):
        what = "is outside the years 1678 to 2261"
    raise Unreadable(at, f"{shown(value[0].as_py())} {what}")


def _pattern(written: str) -> str:
    """A strptime format as a regular expression; the time of day may follow where it has none."""
    written = written.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S").replace("%R", "%H:%M")
    parts, used = [], set()
    for literal, letter in re.findall(r"([^%]*)(?:%(.))?", written):
        parts.append(re.sub(r"\\? +", " +", re.escape(literal)))
        letter = {"B": "b"}.get(letter, letter)
        if letter in DIRECTIVES:
            parts.append(f"(?P<{letter}>{DIRECTIVES[letter]})")
            used.add(letter)
        elif letter in ("a", "A"):
            parts.append("[A-Za-z]{3,9}\\.?")
        elif letter == "%":
            parts.append("%")
    clock = "" if used & {"H", "I"} else CLOCK
    weekday = "" if "%a" in written.lower() else WEEKDAY
    return f"^{weekday}{''.join(parts)}{clock}{'' if 'z' in used else ZONE}$"


def _fields(cells: pa.ChunkedArray, pattern: str) -> dict[str, pa.Array] | int:
    """What each group of ``pattern`` matched in each cell, or the first cell that doesn't match."""
    extracted = pc.extract_regex(cells, pattern).combine_chunks()
    if extracted.null_count:
        return int(pc.index(pc.is_null(extracted), True).as_py())
    return {field.name: extracted.field(i) for i, field in enumerate(extracted.type)}


def _by_format(cells: pa.ChunkedArray, written: str, first: str | None) -> Array:
    fields = _fields(cells, _pattern(written))
    if isinstance(fields, int):
        like = f"is no time as {shown(first)} is" if first else f"is not as --date-format {written} says"
        raise Unreadable(fields, f"{shown(cells[fields].as_py())} {like}")
    return _assembled(cells, fields)


def _assembled(cells: pa.ChunkedArray, fields: dict[str, pa.Array]) -> Array:
    """Times from their parts; `Unreadable` where there is no such day or hour."""

    def whole(letter: str, otherwise: int) -> Array:
        if letter not in fields:
            return np.full(len(cells), otherwise, dtype=np.int64)
        texts = fields[letter]
        filled = pc.if_else(pc.equal(texts, ""), str(otherwise), texts)
        numbers: Array = filled.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return numbers

    def check(right: Array, what: str) -> None:
        if not right.all():
            at = int(np.argmin(right))
            raise Unreadable(at, f"{shown(cells[at].as_py())} {what}")

    year = whole("Y", 0) if "Y" in fields else (whole("y", 0) + 2000 - 100 * (whole("y", 0) > 68))
    month = _months(cells, fields["b"]) if "b" in fields else whole("m", 1)
    day = whole("j", 1) if "j" in fields else whole("d", 1)
    check((year >= 1678) & (year <= 2261), "is outside the years 1678 to 2261")
    check((month >= 1) & (month <= 12), "is no date: there is no such month")
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    dates = months.astype("datetime64[D]") + (day - 1)
    same = dates.astype("datetime64[Y]") == months.astype("datetime64[Y]")
    check((day >= 1) & (same if "j" in fields else dates.astype("datetime64[M]") == months), "is no date: no such day")
    hour, minute, second = whole("I", 0) if "I" in fields else whole("H", 0), whole("M", 0), whole("S", 0)
    if "p" in fields and _sum(pc.not_equal(fields["p"], "")):
        given = _as_array(pc.not_equal(fields["p"], ""))
        check(~given | ((hour >= 1) & (hour <= 12)), "is no time: AM or PM goes with the hours 1 to 12")
        late = _as_array(pc.equal(pc.utf8_lower(pc.utf8_slice_codeunits(fields["p"], 0, 1)), "p"))
        hour = np.where(given, hour % 12 + 12 * late, hour)
    right = (minute < 60) & (second < 60) & ((hour < 24) | ((hour == 24) & (minute == 0) & (second == 0)))
    check(right, "is no time of day")
    clock = ((hour * 60 + minute) * 60 + second) * 1_000_000_000
    if "f" in fields:
        clock = clock + pc.utf8_rpad(fields["f"], 9, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
    if "z" in fields:
        clock = clock - _offsets(cells, fields["z"])
    times: Array = dates.astype("datetime64[ns]") + clock.astype("timedelta64[ns]")
    return times


def _months(cells: pa.ChunkedArray, names: pa.Array) -> Array:
    known = pc.index_in(pc.utf8_slice_codeunits(pc.utf8_lower(names), 0, 3), value_set=pa.array(MONTHS))
    if known.null_count:
        at = int(pc.index(pc.is_null(known), True).as_py())
        raise Unreadable(at, f"{shown(cells[at].as_py())} is no date: months have English names, such as Jan")
    numbers: Array = known.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return numbers


def _offsets(cells: pa.ChunkedArray, zones: pa.Array) -> Array:
    """Nanoseconds that clocks are ahead of UTC; all cells or none must have a zone."""
    given = _as_array(pc.not_equal(zones, ""))
    if given.any() and not given.all():
        at = int(np.argmax(given != given[0]))
        what = "lacks" if given[0] else "has"
        raise Unreadable(at, f"{shown(cells[at].as_py())} {what} a time zone, other than {FIRST}: give all or none one")
    encoded = zones.dictionary_encode()
    minutes = []
    for zone in encoded.dictionary.to_pylist():
        digits = zone.lstrip("+-").replace(":", "")
        size = 60 * int(digits[:2]) + int(digits[2:]) if digits.isdigit() else 0
        minutes.append(-size if zone.startswith("-") else size)
    ahead: Array = np.array(minutes, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
    return ahead * 60_000_000_000


def _two_digits(at: int, text: str, written: tuple[str, ...]) -> Unreadable:
    advice = " or ".join(f"--date-format {one}" for one in written)
    return Unreadable(at, f"{shown(text)} has a year of two digits", advice=f"give {advice}")


def _day_or_month_first(cells: pa.ChunkedArray, mark: str, two_digits: bool, said: str) -> tuple[Array, str]:
    """Dates such as 03/04/2025, in the order that is said, or that the column settles."""
    orders = {"day-first": f"%d{mark}%m{mark}%Y", "month-first": f"%m{mark}%d{mark}%Y"}
    if two_digits:
        orders = {name: written.replace("Y", "y") for name, written in orders.items()}
    if said:
        return _by_format(cells, orders[said], cells[0].as_py()), ""
    fields = _fields(cells, _pattern(orders["day-first"]))
    if isinstance(fields, int):
        raise Unreadable(fields, f"{shown(cells[fields].as_py())} is no time as {shown(cells[0].as_py())} is")
    first, second = (np.asarray(fields[letter].cast(pa.int64())) for letter in ("d", "m"))
    possible = {"day-first": int(second.max()) <= 12, "month-first": int(first.max()) <= 12}
    if not any(possible.values()):
        raise _in_both_orders(cells, first, second)
    left = [name for name, fits in possible.items() if fits]
    if two_digits:
        at = int(np.argmax(np.maximum(first, second))) if len(left) == 1 else 0
        raise _two_digits(at, cells[at].as_py(), tuple(orders[name] for name in left))
    exchanged = {**fields, "d": fields["m"], "m": fields["d"]}
    read = {name: _assembled(cells, fields if name == "day-first" else exchanged) for name in left}
    if len(left) == 2:
        if (read["day-first"] == read["month-first"]).all():
            return read["day-first"], ""
        left = _settled(read)
        if not left:
            raise _could_be_both(cells, read, orders)
    times = read[left[0]]
    at = int(np.argmax(np.maximum(first, second)))
    return (
        times,
        f"{shown(cells[at].as_py())} is read as {_shown_time(times[at])}, so with the {left[0].split('-')[0]} first",
    )


def _settled(read: dict[str, Array]) -> list[str]:
    """The order that the steps settle, if they do: the other goes back and forth, or jumps from midnight to midnight.

    Days and months alone settle nothing: the first of each month and twelve days in a row are written alike.
    """
    growing = [name for name, times in read.items() if _grows(times)]
    if len(growing) == 1:
        return growing if _is_regular(read[growing[0]]) else []
    even = [name for name in growing if len(set(np.diff(read[name]).tolist())) == 1]
    hours = hours_between(read[even[0]]) if len(even) == 1 else None
    return even if hours is not None and hours < 24 else []


def _in_both_orders(cells: pa.ChunkedArray, first: Array, second: Array) -> Unreadable:
    if (both := (first > 12) & (second > 12)).any():
        at = int(both.argmax())
        return Unreadable(at, f"{shown(cells[at].as_py())} is no date: no month is 13 or more")
    day_first = (first > 12).argmax() < (second > 12).argmax()
    at, other = (int((part > 12).argmax()) for part in ((second, first) if day_first else (first, second)))
    order = "day" if day_first else "month"
    return Unreadable(
        at, f"{shown(cells[at].as_py())} can't be read as {shown(cells[other].as_py())} is, with the {order} first"
    )


def _could_be_both(cells: pa.ChunkedArray, read: dict[str, Array], orders: dict[str, str]) -> Unreadable:
    at = int(np.argmax(read["day-first"] != read["month-first"]))
    day, month = (read[name][at].astype("datetime64[s]").item() for name in ("day-first", "month-first"))
    advice = " or ".join(f"--date-format {_quoted(written)}" for written in orders.values())
    both = f"{day.day} {day.strftime('%B')} or {month.strftime('%B')} {month.day}"
    return Unreadable(at, f"{shown(cells[at].as_py())} may be {both}", advice=f"give {advice}")


def _quoted(written: str) -> str:
    return f"'{written}'" if " " in written else written


def _grows(times: Array) -> bool:
    steps = np.diff(times)
    zero = np.timedelta64(0, "ns")
    return bool(len(steps) and ((steps > zero).all() or (steps < zero).all()))


def _is_regular(times: Array) -> bool:
    """Whether most steps of times are alike."""
    if len(times) < 3:
        return False
    steps = np.abs(np.diff(times).astype(np.int64))
    usual = np.median(steps)
    return bool(np.mean(np.abs(steps - usual) <= 0.2 * usual) >= 0.6)


def continuous(times: Array) -> tuple[Array, int]:
    """Local times (L,) on one clock, that of winter, and the first row of an hour that comes twice, -1 if none does.

    In autumn clocks go back an hour on a Sunday night, so a step there is an hour too short. Times after it are those
    of winter; those before it are an hour ahead, back to the night in spring in whose step an hour is missing, or to
    the beginning if that is less than eight months before. Where that doesn't explain every step that isn't forward,
    times stay as they are.
    """
    if len(times) < 4 or times.dtype.kind != "M":
        return times, -1
    if times[0] > times[-1]:
        turned, at = continuous(times[::-1])
        return turned[::-1], len(times) - 1 - at if at >= 0 else -1
    steps = np.diff(times.astype(np.int64))
    usual = int(np.median(steps))
    back = np.flatnonzero(steps <= 0) + 1
    if not 0 < usual <= HOUR or not len(back) or (steps[back - 1] != usual - HOUR).any():
        return times, -1
    if (
        not _at_night(times[back], (3, 4, 5, 9, 10, 11)).all()
        or (np.diff(times[back]) < np.timedelta64(300, "D")).any()
    ):
        return times, -1
    forward = np.flatnonzero(steps == usual + HOUR) + 1
    forward = forward[_at_night(times[forward], (2, 3, 4, 8, 9, 10, 11))]
    ahead = np.zeros(len(times), dtype=np.int64)
    for start, end in zip((0, *back), back, strict=False):
        spring = forward[(forward > start) & (forward < end)]
        if len(spring) == 1:
            ahead[spring[0] : end] = HOUR
        elif not len(spring) and times[end] - times[start] < np.timedelta64(243, "D"):
            ahead[start:end] = HOUR
        else:
            return times, -1
    spring = forward[forward > back[-1]]
    ahead[spring[0] if len(spring) == 1 else len(times) :] = HOUR
    on_one_clock = times - ahead.astype("timedelta64[ns]")
    return (on_one_clock, int(back[0])) if _grows(on_one_clock) else (times, -1)


def _at_night(times: Array, months: tuple[int, ...]) -> Array:
    """Whether it is a Sunday before five o'clock in one of ``months``."""
    days = times.astype("datetime64[D]")
    month = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
    sunday = (days.astype(np.int64) + 4) % 7 == 0
    night: Array = sunday & (times - days < np.timedelta64(5, "h")) & np.isin(month, months)
    return night


def hours_between(times: Array) -> float | None:
    """The usual step of times (L,) in hours; None where they are plain numbers, or only one."""
    if times.dtype.kind != "M" or len(times) < 2:
        return None
    return float(np.median(np.abs(np.diff(times).astype(np.int64)))) / HOUR


def _shown_time(time: Any) -> str:
    return str(np.datetime_as_string(time, unit="auto"))


def casts(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether every cell of ``column`` can be of another ``kind``."""
    try:
        column.cast(kind)
    except pa.ArrowException:
        return False
    return True


def to_array(column: pa.ChunkedArray) -> Array:
    """(rows,) of a column without nulls."""
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks])


def _as_array(truths: pa.Array) -> Array:
    array: Array = truths.to_numpy(zero_copy_only=False)
    return array


def _sum(truths: pa.ChunkedArray) -> int:
    return int(pc.sum(truths).as_py() or 0)

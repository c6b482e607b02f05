"""A user's series as the data of a `forecast` task: CSV or Parquet with a time column and a target column.

Every other column of numbers is read too. Windows are gathered from the series, so a million rows stay a million rows.
Several series may stand in one file (``series``): all are split at the same times and scaled alike, so that a model can
forecast one that it has never seen, and no window reaches from one into another. Nor does any window span a hole in
time, or touch a gap of the target.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqbench.data import NewRows, Reading, TaskData, Truth, Windows
from seqbench.errors import UserError
from seqbench.files.columns import TableOptions, chosen_columns, left_out_note, named_columns, read_note
from seqbench.files.runs import TIMES, Scale
from seqbench.files.splitting import borders, parts_by_word
from seqbench.files.texts import OWN
from seqbench.metrics import mae, rmse
from seqbench.readers.archives import shown
from seqbench.readers.tables import Table, check_increasing, read_table
from seqbench.task import Metric, Source

__all__ = ["VARIANT", "Series", "SeriesOptions", "WindowOptions", "build", "columns_of", "encode_series", "find_time"]

Array = npt.NDArray[Any]
MOST_SCORED = 20_000  # windows of validation and of test each: enough for any interval, and a million would take hours
NEARLY = 1e-6  # of the usual step: what decimals may lose
HOLE = 1.5  # times the usual step
MOST_HOLES = 0.1  # of all steps; where more are long, there is no usual one
MOST_TIMES = 0.8  # different ones, as a share of the rows, where these may be of several series
LEAST_EACH = 3  # rows of a series, on average
MOST_KEYS = 6  # columns of which pairs are tried as the names of series
CLOCKS = ("time", "hour", "hr", "time of day", "time_of_day", "clock")
CLOCK = re.compile(r"\d{1,2}[:.h]\d{2}([:.]\d{2}([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?")
FAR = 10.0  # training deviations: what lies beyond is told
SHORTER = ((48, 16), (36, 12), (24, 8), (18, 6), (12, 4), (6, 2), (3, 1), (1, 1))  # windows to try where none fits
DAY = 86_400.0  # seconds
UNITS = {"year": 365 * DAY, "month": 28 * DAY, "day": DAY, "hour": 3600.0, "minute": 60.0}
LONGEST_REST = 5 * DAY  # a weekend with holidays on both sides


@dataclass(frozen=True)
class WindowOptions:
    """Options of windows over a series."""

    sequence_length: int = 72
    horizon: int = 24
    season: int = 0
    val: float = 0.15
    test: float = 0.15
    relative: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 65_535:
            raise UserError(f"--sequence-length must be from 1 to 65,535 steps, not {self.sequence_length}.")
        if not 1 <= self.horizon <= 10_000:
            raise UserError(f"--horizon {self.horizon} must be from 1 to 10,000 steps.")
        if not 0 <= self.season <= 1_000_000:
            raise UserError(f"--season {self.season} must be a number of steps, or 0 to tell it from the time step.")

    @property
    def window(self) -> int:
        """Rows that a window reads and predicts."""
        return self.sequence_length + self.horizon


@dataclass(frozen=True)
class SeriesOptions(TableOptions, WindowOptions):
    """Options of a file with a series.

    Attributes:
        series: the column that tells several of them apart.
        split: the column that says train, validation or test, as it was published.
    """

    time: str = ""
    series: str = ""
    split: str = ""


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Errors in the target's own units, over all steps ahead."""
    error = (predictions.astype(np.float64) - truth.targets) * truth.meta["scale"][:, None, None]
    zero = np.zeros_like(error)
    return {"rmse": rmse(error, zero), "mae": mae(error, zero)}


def find_time(table: Table, column: str) -> str:
    """The column of times: the one that was named (or two), the first with a usual name, or the only one that can be.

    Raises:
        UserError: none of these is there.
    """
    if column:
        return column
    usual = [name for name in table.names if name.strip().lower() in TIMES]
    able = usual or [name for name in table.names if table.holds_times(name)]
    if not usual and len(able) != 1:
        names = ", ".join(shown(name, 40) for name in (able or table.names)[:20])
        raise UserError(f"which column holds the times? Give --time COLUMN; there are: {names}.")
    return able[0]


def _time_of(table: Table, options: SeriesOptions) -> str:
    """As `find_time`, but "" where no column can be the time: rows are one step each then.

    Raises:
        UserError: it can't be told.
    """
    usual = any(name.strip().lower() in TIMES for name in table.names)
    if options.time or usual or any(table.holds_times(name) for name in table.names):
        return find_time(table, options.time)
    asked = (options.features, options.drop, options.series, options.split)
    other = {options.target}.union(*(named_columns(table, names) for names in asked))
    may = [shown(name, 40) for name in table.names if name not in other and _goes_one_way(table, name)]
    if may:
        raise UserError(
            f"which column holds the times? {', '.join(may[:20])} may, as the numbers go one way: give --time COLUMN, "
            "or, of one that holds none, name it in --features or --drop: rows are then taken as one step each."
        )
    return ""


def _goes_one_way(table: Table, name: str) -> bool:
    """Whether numbers grow or fall from row to row, other than by counting the rows."""
    if table.not_numbers(name) is not None:
        return False
    steps = np.diff(table.numbers(name, missing=True))
    if not len(steps) or (steps[0] > 0 and np.allclose(steps, steps[0], rtol=NEARLY, atol=0.0)):
        return False
    return bool((steps > 0).all() or (steps < 0).all())


def columns_of(table: Table, time: str, target: str) -> list[str]:
    """All columns of numbers but the time, the target first."""
    _check_target(table, {time}, target)
    return [target, *(name for name in table.numeric_columns(except_={time}) if name != target)]


def _check_target(table: Table, named: set[str], target: str) -> None:
    if not target:
        numeric = ", ".join(shown(name, 40) for name in table.numeric_columns(except_=named)[:20])
        raise UserError(f"what is to be predicted? Give --target COLUMN; numbers stand in: {numeric or 'no column'}.")
    table.numbers(target, missing=True)  # complains of what is no number there


@dataclass(frozen=True, eq=False)
class Series:
    """Times (L,), values (L, C) with NaN where they are missing, the columns' names, and where row i came from.

    Times are dates, or numbers; whole ones (of integer type) where rows are counted as there is no column of times.
    ``members`` (L,) tells several series apart; the rows of each follow one another, and grow in time.
    """

    times: Array
    values: Array
    columns: list[str]
    where: Callable[[int], str]
    members: Array | None = None

    @property
    def counted(self) -> bool:
        """Whether rows are one step each, for want of times."""
        return bool(self.times.dtype.kind == "i")

    @property
    def starts_member(self) -> Array:
        """(L,) whether a row is the first of its series."""
        first = np.zeros(len(self.values), dtype=bool)
        first[:1] = True
        if self.members is not None:
            first[1:] = self.members[1:] != self.members[:-1]
        return first

    def filled(self) -> tuple[Array, Array]:
        """Values with gaps holding the last value of the same series before them, and where the gaps were."""
        gaps = np.isnan(self.values)
        if not gaps.any():
            return self.values, gaps
        rows = np.arange(len(gaps))
        last = np.maximum.accumulate(np.where(gaps, 0, rows[:, None]), axis=0)
        first = np.maximum.accumulate(np.where(self.starts_member, rows, 0))
        values = np.take_along_axis(self.values, last, axis=0)
        values[last < first[:, None]] = np.nan  # of another series
        return values, gaps

    def with_columns(self, kept: list[int]) -> Series:
        """The same with some of its columns."""
        return Series(self.times, self.values[:, kept], [self.columns[i] for i in kept], self.where, self.members)


@dataclass(frozen=True, eq=False)
class SeriesRows:
    """The user's rows in order: the series, the names of each row (time and, of several, the series), and remarks.

    ``words`` is what a column says of the split of each row.
    """

    series: Series
    names: dict[str, Array]
    notes: tuple[str, ...]
    words: list[str] | None = None


def _read(
    path: Path, options: SeriesOptions, columns: list[str] | None = None, counted: bool | None = None
) -> SeriesRows:
    """The rows of a file; ``columns`` and ``counted`` (rows are one step each) where the training file settled them."""
    table = read_table(path, form=options.form)
    training = columns is None  # which needs no names of rows
    time = _time_of(table, options) if counted is None else "" if counted else find_time(table, options.time)
    stamps, keys = named_columns(table, time), named_columns(table, options.series)
    named = {*stamps, *keys, *(named_columns(table, options.split) if training else ())}
    _check_named(table, options, named)
    left_out: Mapping[str, str] = {}
    members = _members(table, keys)
    times = table.times(time) if time else _counted(len(table), members)
    order, turned = _in_order(times, members, table, time, keys, options.target)
    if not time and training:
        turned = (
            "there is no column of times: rows are taken as one step each (--season N where they repeat themselves).",
        )
    if columns is None:
        _check_target(table, named, options.target)
        chosen = chosen_columns(
            table, target=options.target, features=options.features, drop=options.drop, named=named, runs=members
        )
        columns, left_out = chosen.names, chosen.left_out
    values = np.stack([table.numbers(name, missing=True)[order] for name in columns], axis=1)
    members = None if members is None else members[order]
    series = Series(times[order], values, columns, lambda i: table.where(int(order[i])), members)
    names = {} if training else _row_names(table, time, stamps, keys, order)
    if keys and not training:
        names[options.series.replace(",", "/")] = _joined(table, keys, "/")[order]
    understood = table.remarks_on([time, *columns])
    notes = (*turned, *understood, *_suspects(table, columns, options), *left_out_note(left_out))
    words = None
    if training and options.split:
        said = table.labels(options.split)
        words = [said[i] for i in order.tolist()]
    return SeriesRows(series, names, notes, words)


def _check_named(table: Table, options: SeriesOptions, named: set[str]) -> None:
    """Refuse a target that another option names."""
    if options.target in named:
        raise UserError(f"--target {shown(options.target, 60)} is also the column of times or series: name another.")
    if options.target and options.target in named_columns(table, options.drop):
        raise UserError(f"--drop names {shown(options.target, 60)}, which is the target: take it out of --drop.")


def _counted(n: int, members: Array | None) -> Array:
    """(n,) the number of each row, within its series."""
    rows = np.arange(n)
    if members is None:
        return rows
    order = np.argsort(members, kind="stable")
    first = np.append(True, np.diff(members[order]) != 0)
    counts = np.empty(n, dtype=np.int64)
    counts[order] = rows - np.maximum.accumulate(np.where(first, rows, 0))
    return counts


def _row_names(table: Table, time: str, stamps: list[str], keys: list[str], order: Array) -> dict[str, Array]:
    """What rows are called by: their times, or their numbers where there are none."""
    if time:
        return {time.replace(",", " "): _joined(table, stamps, " ")[order]}
    return {"row" if "row" not in keys else "row number": (order + 1).astype(str)}


def _joined(table: Table, names: list[str], mark: str) -> Array:
    """(rows,) what a row is called by, of one column or several."""
    columns = [table.labels(name) for name in names]
    return np.array(columns[0] if len(columns) == 1 else [mark.join(each) for each in zip(*columns, strict=True)])


def _members(table: Table, keys: list[str]) -> Array | None:
    """(rows,) number of each row's series, in the order in which they are met; None for one series."""
    if not keys:
        return None
    return np.asarray(pa.array(_joined(table, keys, "/")).dictionary_encode().indices).astype(np.int64)


def _in_order(
    times: Array, members: Array | None, table: Table, time: str, keys: list[str], target: str
) -> tuple[Array, tuple[str, ...]]:
    """The rows series by series in order of time, and a note if the file had them newest first."""
    rows = np.arange(len(times))
    order = rows if members is None else np.argsort(members, kind="stable")
    within = np.ones(len(times) - 1, dtype=bool) if members is None else members[order][1:] == members[order][:-1]
    ordered = times[order]
    if (ordered[1:] > ordered[:-1])[within].all():
        return order, ()
    if (ordered[1:] < ordered[:-1])[within].all():
        turned = rows[::-1] if members is None else np.lexsort((times, members))
        return turned, ("the rows are sorted newest first: they are read the other way round.",)
    try:
        check_increasing(times, table, time, members)
    except UserError:
        distinct = len(np.unique(times))
        if keys or distinct >= MOST_TIMES * len(times):  # one that is there twice by mistake is another thing
            raise
        advice = _telling(table, times, time, target) or (
            f"{len(times):,} rows have {distinct:,} different ones: if they are several series, give the column that "
            "tells them apart, --series COLUMN (or two, --series A,B); if the time of day stands in a column of its "
            "own, --time DATE,CLOCK; else keep one row for each time"
        )
        raise UserError(f"{table.file}: times repeat, {advice}.") from None
    raise AssertionError("times grow after all")


def _telling(table: Table, times: Array, time: str, target: str) -> str | None:
    """What tells rows of the same time apart: a time of day, or one or two columns with names of series; else None."""
    others = [name for name in table.names if name not in (target, *named_columns(table, time)) and "," not in name]
    if clock := _clock(table, time, others):
        pair = f"{time},{clock}"
        return f"and column {shown(clock, 60)} holds times of day: give --time {shlex.quote(pair)}"
    codes: dict[str, Array] = {}
    for name in others:
        if not _may_name(table, name):
            continue
        try:
            numbers = np.asarray(pa.array(table.labels(name)).dictionary_encode().indices).astype(np.int64)
        except UserError:
            continue
        if 0 < numbers.max() < len(times) / LEAST_EACH:
            if _apart(numbers, times):
                key = shlex.quote(name)
                return (
                    f"once for each value of column {shown(name, 60)}: if these are several series, give --series {key}"
                )
            codes[name] = numbers
    pairs = {}
    for one, other in itertools.combinations(sorted(codes, key=lambda name: int(codes[name].max()))[:MOST_KEYS], 2):
        both = codes[one] * (int(codes[other].max()) + 1) + codes[other]
        distinct, numbers = np.unique(both, return_inverse=True)
        if len(distinct) <= len(times) / LEAST_EACH and _apart(numbers, times):
            pairs[f"{one},{other}"] = len(distinct)
    if not pairs:
        return None
    fewest = min(pairs, key=lambda pair: pairs[pair])
    one, _, other = fewest.partition(",")
    return (
        f"once for each pair of columns {shown(one, 60)} and {shown(other, 60)}: if these are several series, give "
        f"--series {shlex.quote(fewest)}"
    )


def _apart(codes: Array, times: Array) -> bool:
    """Whether times go one way within the rows of each code."""
    order = np.argsort(codes, kind="stable")
    steps = np.diff(times[order]).astype(np.float64)[np.diff(codes[order]) == 0]
    return bool((steps > 0).all() or (steps < 0).all())


def _clock(table: Table, time: str, others: list[str]) -> str | None:
    """A column of times of day with which dates that repeat go one way; None if there is none."""
    if "," in time or table.times(time).dtype.kind != "M":
        return None
    for name in others:
        named = name.strip().lower() in CLOCKS
        try:
            if not named and not CLOCK.fullmatch(table.labels(name)[0]):
                continue
            if _apart(np.zeros(len(table), dtype=np.int64), table.times(f"{time},{name}")):
                return name
        except UserError:
            continue
    return None


def _may_name(table: Table, name: str) -> bool:
    """Whether a column's cells can be names: texts, or whole numbers."""
    if table.not_numbers(name) is not None:
        return True
    values = table.numbers(name, missing=True)
    return bool((values == np.round(values)).all())


def _suspects(table: Table, columns: list[str], options: SeriesOptions) -> tuple[str, ...]:
    """A warning for each column with numbers that look like a mark for "missing"."""
    notes = []
    for name in columns:
        for value, count in table.suspects(name).items():
            mark = ",".join(filter(None, (options.missing, value)))
            notes.append(
                f"{count:,} values of {shown(name, 40)} are {value}, which looks like a mark for a missing one: if it "
                f"is, give --missing {mark}."
            )
    return tuple(notes)


def load(source: Source, options: SeriesOptions) -> TaskData:
    """Windows over the user's series, split by time or as published, scaled by the training stretch."""
    rows = _read(source.file, options)
    if "test" in source.files:
        return _with_test(rows, source, options)
    if rows.words is None:
        return build(rows.series, options, source, notes=rows.notes)
    by = f"column {shown(options.split, 60)}"
    part = parts_by_word(rows.words, by, rows.series.where)
    cuts = _published_cuts(rows.series, part, options.val, by)
    return build(rows.series, options, source, cuts, (f"the split is that of {by}.", *rows.notes))


def _published_cuts(given: Series, part: Array, val: float, by: str) -> tuple[Any, Any]:
    """The times at which validation and test begin; where no row validates, the last of the training rows do."""
    times = given.times
    test = times[part == 2].min()
    training = np.sort(times[part == 0])
    begins = times[part == 1].min() if (part == 1).any() else training[round(len(training) * (1 - val))]
    wrong = np.flatnonzero(part != np.where(times >= test, 2, np.where((times >= begins) & (part != 0), 1, 0)))
    if len(wrong) or not training[0] < begins < test:
        place = given.where(int(wrong[0]) if len(wrong) else 0)
        raise UserError(
            f"by {by} the parts do not follow each other in time, as in {place}: forecasts are trained on the first "
            "part, validated on the next and tested on the last."
        )
    return begins, test


def _with_test(rows: SeriesRows, source: Source, options: SeriesOptions) -> TaskData:
    """The test is a second file, which goes on where the first ends."""
    if options.split or options.series:
        other = "--split" if options.split else "--series"
        raise UserError(f"--test does not go with {other}: write both files into one, with a column for --split.")
    given = rows.series
    read = _read(source.files["test"], options, given.columns, given.counted)
    later = read.series
    if given.counted:
        later = dataclasses.replace(later, times=later.times + len(given.times))
    if not later.times[0] > given.times[-1]:
        raise UserError("the file of --test must begin after the other ends: forecasts are tested on what comes later.")
    n = len(given.times)
    both = Series(
        np.concatenate([given.times, later.times]),
        np.concatenate([given.values, later.values]),
        given.columns,
        lambda i: given.where(i) if i < n else f"{later.where(i - n)} of the file of --test",
    )
    cuts = given.times[round(n * (1 - options.val))], later.times[0]
    of_test = (f"of the file of --test: {note}" for note in read.notes)
    return build(both, options, source, cuts, ("the test is the file of --test.", *rows.notes, *of_test))


@dataclass(frozen=True, eq=False)
class Steps:
    """The time steps between rows.

    Attributes:
        usual: in seconds, or in whatever the times count.
        dated: whether they are seconds.
        after_hole: (L,) whether a hole in time lies before a row.
        rests: whether some steps are long by the calendar: nights or weekends without rows.
        even: whether there is a usual step at all.
        season: steps after which the series may be expected to repeat itself; 0 if the time step does not tell.
        uneven: how many steps are neither as long as the usual one, nor holes, nor long by the calendar.
    """

    usual: float
    dated: bool
    after_hole: Array
    rests: bool
    even: bool
    season: int
    uneven: int

    @classmethod
    def of(cls, given: Series) -> Steps:
        """Steps longer than usual are holes, unless the calendar makes them or they are as frequent as others."""
        dated = given.times.dtype.kind == "M"
        within = ~given.starts_member[1:]
        steps = np.diff(given.times).astype(np.float64) / (1e9 if dated else 1.0)
        usual = float(np.median(steps[within])) if within.any() else 1.0
        long = within & (steps > HOLE * usual)
        rests = _rests(given.times, steps, long, usual) if dated else np.zeros_like(long)
        holes = long & ~rests
        even = bool(holes.sum() <= MOST_HOLES * max(1, within.sum()))
        season = _season(given.times, usual, bool(rests.any())) if dated and even else 0
        uneven = int((within & ~rests & ~holes & ~_as_usual(given.times, steps, within, usual)).sum())
        return cls(usual, dated, np.append(False, holes & even), bool(rests.any()), even, season, uneven)

    @property
    def text(self) -> str:
        """The usual step in words."""
        if not self.dated:
            return f"{self.usual:g}"
        for noun, seconds in UNITS.items():
            count = self.usual / seconds
            if count >= 1 and (count == round(count) or seconds >= 28 * DAY):
                return f"{count:.0f} {noun}{'s' if round(count) > 1 else ''}"
        return f"{self.usual:g} seconds"


def _as_usual(times: Array, steps: Array, within: Array, usual: float) -> Array:
    """(L - 1,) which steps are as long as the usual one: months and years by the calendar, decimals nearly."""
    same: Array = np.abs(steps - usual) <= NEARLY * usual
    if times.dtype.kind == "M" and usual >= UNITS["month"]:
        months = np.diff(times.astype("datetime64[M]").astype(np.int64))
        same |= months == np.median(months[within])
    return same


def _rests(times: Array, steps: Array, long: Array, usual: float) -> Array:
    """(L - 1,) long steps that come with the calendar: after closing time or Friday as a rule, and few days long."""
    if usual > 1.1 * DAY or not long.any():
        return np.zeros_like(long)
    daily = usual > 0.9 * DAY
    stamps = times.astype("datetime64[s]").astype(np.int64)
    place = stamps // int(DAY) % 7 if daily else stamps % int(DAY)

    def as_a_rule(key: Array) -> Array:
        _, which, counts = np.unique(key, return_inverse=True, return_counts=True)
        always: Array = (np.bincount(which, weights=long) / counts >= 0.5) & (counts >= 3)
        return always[which]

    ruled = long & (as_a_rule(place[:-1]) | as_a_rule(place[1:]))
    short_enough = steps <= LONGEST_REST
    rests: Array = (long if daily and ruled.any() else ruled) & short_enough  # a holiday is no hole in trading days
    return rests


def _season(times: Array, usual: float, rests: bool) -> int:
    """Steps of a day, of the week, or of the year."""
    if usual < 0.9 * DAY:
        if rests:
            return int(np.median(np.unique(times.astype("datetime64[D]"), return_counts=True)[1]))
        steps = DAY / usual
        return round(steps) if steps <= 1440 and steps == round(steps) else 0
    known = ((0.9, 1.1, 5 if rests else 7), (6.5, 7.5, 52), (27.0, 32.0, 12), (89.0, 93.0, 4))
    return next((season for low, high, season in known if low * DAY <= usual <= high * DAY), 0)


def build(
    given: Series,
    options: WindowOptions,
    source: Source,
    cuts: tuple[Any, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> TaskData:
    """Three stretches of time, scaled by the first.

    Args:
        cuts: the times at which validation and test begin; by default such that they get their shares of the rows.
        notes: what is to be told of how ``given`` was read.

    Raises:
        UserError: a stretch is too short for a window, or the target does not change in training.
    """
    cuts = cuts or _cuts(given, options)
    part = (given.times >= cuts[0]).astype(np.int64) + (given.times >= cuts[1])
    given, constant = _changing(given, part == 0)
    steps = Steps.of(given)
    season = _checked_season(given, part, options, steps)
    scale = _scale(given.values[part == 0])
    values, gaps = given.filled()
    flagged = np.asarray(gaps[part == 0].any(axis=0))
    flagged[0] = False  # no window touches a gap of the target
    series = _features(values, gaps, scale, flagged)
    cutter = _Cutter(given, options, part, gaps[:, 0], steps, season)
    train, val, test = (cutter.windows(series, i, float(scale.deviation[0])) for i in range(3))
    relative = train.change if options.relative else 0.0
    train, val, test = (dataclasses.replace(split, relative=relative) for split in (train, val, test))
    target = {"offset": float(scale.mean[0]), "scale": float(scale.deviation[0]), "relative": relative}
    columns = given.columns
    told = (
        read_note(columns),
        *cutter.notes(val, test),
        *_missing_note(gaps, flagged),
        *constant,
        *_far_note(series[part == 2], columns),
        *notes,
    )
    return TaskData(
        *(train, val, test),
        sources=source.hashes,
        features=(*columns, *(f"no_{name}" for name, flag in zip(columns, flagged, strict=True) if flag)),
        notes=told,
        fitted={
            **{**scale.fitted, "columns": columns, "flagged": flagged.tolist(), "season": season, **target},
            **({"counted": True} if given.counted else {}),
        },
    )


def _cuts(given: Series, options: WindowOptions) -> tuple[Any, Any]:
    """The times at which validation and test begin."""
    ordered = given.times if given.members is None else np.sort(given.times)
    _, val, test, _ = borders(len(ordered), (options.val, options.test))
    return ordered[min(val, len(ordered) - 1)], ordered[min(test, len(ordered) - 1)]


def _changing(given: Series, training: Array) -> tuple[Series, tuple[str, ...]]:
    """Without the columns that never change in training: no model can learn what they say later."""
    known = given.values[training]
    low, high = _known_range(known)
    if not low[0] < high[0]:
        raise UserError(f"column {given.columns[0]!r} is constant in the training part: there is nothing to predict.")
    kept = [i for i in range(len(given.columns)) if low[i] < high[i]]
    names = [shown(name, 40) for i, name in enumerate(given.columns) if i not in kept]
    if not names:
        return given, ()
    return given.with_columns(kept), (
        f"{', '.join(names[:12])} never change{'s' * (len(names) == 1)} in the training part and "
        f"{'is' if len(names) == 1 else 'are'} left out.",
    )


def _known_range(values: Array) -> tuple[Array, Array]:
    """The least and the greatest of each column's known values; of none infinity and its negative."""
    gaps = np.isnan(values)
    low = np.where(gaps, np.inf, values).min(axis=0, initial=np.inf)
    return low, np.where(gaps, -np.inf, values).max(axis=0, initial=-np.inf)


def _checked_season(given: Series, part: Array, options: WindowOptions, steps: Steps) -> int:
    """The season that was given or that the time step tells, if the training stretch holds it twice; else 0."""
    members = np.zeros(len(part), dtype=np.int64) if given.members is None else given.members
    longest = int(np.bincount(members[part == 0]).max(initial=0))
    if options.season > longest // 2:
        raise UserError(
            f"--season {options.season} is too long: the training part has {longest:,} rows, and must hold it twice."
        )
    season = options.season or steps.season
    return season if 1 < season <= longest // 2 else 0


def _scale(training: Array) -> Scale:
    """Mean and deviation of what is known of each column."""
    scales = [Scale.of(column[~np.isnan(column)][:, None]) for column in training.T]
    return Scale(np.concatenate([s.mean for s in scales]), np.concatenate([s.deviation for s in scales]))


def _features(values: Array, gaps: Array, scale: Scale, flagged: Array) -> Array:
    """(L, D) float32: scaled values, 0 where nothing came before a gap, and a flag for each column that has gaps."""
    series = scale(values)
    series[np.isnan(series)] = 0.0
    return np.concatenate([series, gaps[:, flagged].astype(np.float32)], axis=1)


def _in_one_run(first: Array, gap: Array, length: int) -> tuple[Array, Array]:
    """Which windows of ``length`` rows lie in one run of rows, and which of these touch no gap; by their first row.

    Args:
        first: (L,) whether a row begins a run.
        gap: (L,) whether the target is missing there.
    """
    runs, gaps = np.cumsum(first), np.append(0, np.cumsum(gap))
    n = max(0, len(first) - length + 1)
    one: Array = runs[:n] == runs[length - 1 : length - 1 + n]
    whole: Array = one & (gaps[length : length + n] == gaps[:n])
    return one, whole


class _Cutter:
    """The windows of each stretch, and the count of those that can't be."""

    def __init__(
        self, given: Series, options: WindowOptions, part: Array, gap: Array, steps: Steps, season: int
    ) -> None:
        self.given, self.options, self.part, self.gap = given, options, part, gap
        self.steps, self.season = steps, season
        self.spanning = self.touching = 0
        self.read = np.zeros(0 if given.members is None else int(given.members.max()) + 1, dtype=bool)
        self.ranks = np.arange(len(part)) if given.members is None else np.unique(given.times, return_inverse=True)[1]

    def _stretch(self, part: int) -> tuple[Array, Array, Array]:
        """The rows of a stretch; whether each begins a series, and whether it follows a hole."""
        at = np.flatnonzero(self.part == part)
        member, after_hole = self.given.starts_member[at].copy(), self.steps.after_hole[at]
        member[:1] = True
        if self.given.members is not None:  # the first of a series within this stretch
            member[1:] |= self.given.members[at][1:] != self.given.members[at][:-1]
        return at, member, after_hole

    def windows(self, series: Array, part: int, scale: float) -> Windows:
        """Those of stretch ``part``; all of the training stretch, else at most `MOST_SCORED`, evenly spread."""
        at, member, after_hole = self._stretch(part)
        length = self.options.window
        possible, _ = _in_one_run(member, np.zeros(len(at)), length)
        one, whole = _in_one_run(member | after_hole, self.gap[at], length)
        self.spanning += int((possible & ~one).sum())
        self.touching += int((one & ~whole).sum())
        starts = np.flatnonzero(whole)
        if not len(starts):
            raise self._none(possible, one)
        if self.given.members is not None:
            self.read[self.given.members[at[starts]]] = True  # which series have a window
        starts = starts[:: 1 if part == 0 else -(-len(starts) // MOST_SCORED)]
        begins = np.maximum.accumulate(np.where(member | after_hole, np.arange(len(at)), 0))
        meta: dict[str, Array] = {
            "scale": np.full(len(starts), scale, dtype=np.float32),
            "earlier": starts - begins[starts],
        }
        if self.season:
            meta["phase"] = self._phases(at[starts] + self.options.sequence_length - 1)
        held = series[at]
        ranks = self.ranks[at]
        return Windows(
            series=held,
            target_series=held[:, :1],
            starts=starts,
            lookback=self.options.sequence_length,
            horizon=self.options.horizon,
            # windows further apart than their length share no step; those of several series at one time stay together
            groups=(ranks[starts] - ranks.min()) // length,
            meta=meta,
        )

    def _phases(self, rows: Array) -> Array:
        """Where in the season each row stands; by time where that can be told, else by count."""
        if self.steps.dated and not self.steps.rests and self.steps.usual < 8 * DAY:
            since = (self.given.times[rows] - self.given.times.min()).astype(np.float64) / 1e9
            ranks = np.round(since / self.steps.usual).astype(np.int64)
        else:
            ranks = self.ranks[rows]
        phases: Array = ranks % self.season
        return phases

    def _none(self, possible: Array, one: Array) -> UserError:
        """Why a stretch has no window, and figures with which each has some."""
        options = self.options
        windows = f"windows of {options.sequence_length} + {options.horizon} steps"
        fits = self._fitting()
        advice = f"--sequence-length {fits[0]} --horizon {fits[1]} would fit" if fits else ""
        if not possible.any():
            rows = f"{len(self.part):,} rows"
            if len(self.read):
                rows += f" of {len(self.read):,} series"
            return UserError(f"{rows} are too few for three splits with {windows}: {advice or 'bring more rows'}.")
        why = "touches a missing value of the target" if one.any() else "spans a hole in time"
        return UserError(
            f"of the {windows} each {why} in one of the three splits: {advice + ', or ' if advice else ''}fill what is "
            "missing in a way that you can answer for."
        )

    def _fitting(self) -> tuple[int, int] | None:
        """Shorter windows, of which each split has some: about as many as each has steps, or at least one."""
        h, past = self.options.horizon, self.options.sequence_length
        asked = [(k * h, h) for k in (3, 2, 1)] if h != WindowOptions.horizon else []
        tries = [pair for pair in (*asked, *SHORTER) if sum(pair) < past + h and pair[0] <= past and pair[1] <= h]
        fewest = {pair: min(self._count(part, sum(pair)) for part in range(3)) for pair in tries}
        enough = [pair for pair in tries if fewest[pair] >= sum(pair) / 2] or [pair for pair in tries if fewest[pair]]
        return enough[0] if enough else None

    def _count(self, part: int, length: int) -> int:
        """How many windows of ``length`` rows a stretch has."""
        at, member, after_hole = self._stretch(part)
        _, whole = _in_one_run(member | after_hole, self.gap[at], length)
        return int(whole.sum())

    def notes(self, val: Windows, test: Windows) -> tuple[str, ...]:
        """What was split where, and what was left out."""
        given, steps = self.given, self.steps
        rows = [int(np.flatnonzero(self.part == i)[0]) for i in (1, 2)]
        several = given.members is not None
        where = [
            _time_text(given.times[self.part == i].min()) if several else given.where(row)
            for i, row in zip((1, 2), rows, strict=True)
        ]
        notes = [f"validation begins at {where[0]}, test at {where[1]}; no window crosses a border."]
        if given.members is not None:
            notes.append(
                f"{len(np.unique(given.members)):,} series, split at the same times and scaled alike; no window "
                "reaches from one into another."
            )
            if lost := int((~self.read).sum()):
                notes.append(
                    f"{lost:,} of the {len(self.read):,} series {'are' if lost > 1 else 'is'} too short: without "
                    f"{self.options.window:,} rows on end in any of the three splits, they give no window and are left "
                    "out."
                )
        notes += _steps_note(given, steps)
        if self.spanning:
            holes = int(steps.after_hole.sum())
            notes.append(
                f"{holes:,} hole{'s' * (holes > 1)} in time (steps of more than {HOLE} times the usual one): "
                f"{self.spanning:,} windows that would span one are left out."
            )
        if self.gap.any():
            notes.append(
                f"{int(self.gap.sum()):,} values of the target are missing: {self.touching:,} windows that touch one "
                "are left out."
            )
        if self.season:
            source = "as given" if self.options.season else f"from the time step of {steps.text}"
            notes.append(f"the season is {self.season:,} steps, {source} (--season N for another).")
        if self.options.relative:
            notes.append("forecasts are relative to the last value of the target (--option relative=false: absolute).")
        notes.append(
            f"{len(val):,} validation and {len(test):,} test windows are scored, evenly spread if there are more."
        )
        return tuple(notes)


def _steps_note(given: Series, steps: Steps) -> list[str]:
    if given.counted:
        return []
    if not steps.even:
        return ["the time steps vary, and none is the usual one; windows count rows, not time."]
    if steps.uneven:
        within = len(given.times) - int(given.starts_member.sum())
        return [
            f"{steps.uneven:,} of {within:,} time steps are not as long as the usual one ({steps.text}); windows count "
            "rows, not time."
        ]
    rests = "nights or weekends" if steps.usual < 0.9 * DAY else "weekends or holidays"
    but = [f"{rests} without rows"] * steps.rests + ["holes"] * bool(steps.after_hole.any())
    return [f"each row is {steps.text} after the one before it{', but for ' * bool(but)}{' and '.join(but)}."]


def _missing_note(gaps: Array, flagged: Array) -> list[str]:
    """How gaps of other columns than the target are filled; those that training has none of have no flag."""
    plain = ~flagged
    plain[0] = False
    notes = []
    for columns, ending in ((flagged, ", with a flag"), (plain, "; training has none there, so there is no flag")):
        if missing := int(gaps[:, columns].sum()):
            notes.append(f"{missing:,} missing values of other columns hold the last value before them{ending}.")
    return notes


def _far_note(test: Array, columns: list[str]) -> tuple[str, ...]:
    """Which columns are in the test far from what they were in training."""
    far = (np.abs(test[:, : len(columns)]) > FAR).sum(axis=0)
    told = [f"{count:,} of {shown(name, 40)}" for name, count in zip(columns, far, strict=True) if count]
    if not told:
        return ()
    return (
        f"test values more than {FAR:g} training deviations from the training mean: {', '.join(told[:12])}; no model "
        "has learned what they mean.",
    )


def _time_text(time: Any) -> str:
    if isinstance(time, np.integer):
        return f"row {time + 1} of each series"
    return str(np.datetime_as_string(time, unit="s")) if isinstance(time, np.datetime64) else f"{time:.15g}"


def encode_series(source: Source, options: SeriesOptions, reading: Reading) -> NewRows:
    """New stretches: a forecast after every window without hole and gap, the last beyond the end of the series."""
    rows = _read(source.file, options, reading.fitted["columns"], bool(reading.fitted.get("counted")))
    values, gaps = rows.series.filled()
    series = _features(values, gaps, Scale.from_reading(reading), np.array(reading.fitted["flagged"]))
    past = options.sequence_length
    first = rows.series.starts_member | Steps.of(rows.series).after_hole
    one, whole = _in_one_run(first, gaps[:, 0], past)
    starts = np.flatnonzero(whole)
    if not len(starts):
        if len(series) < past:
            raise UserError(f"{len(series)} rows are fewer than the window of {past} the model reads.")
        why = "each touches a missing value of the target" if one.any() else "each spans a hole in time"
        raise UserError(f"the model reads windows of {past} rows, and {why}: bring more rows.")
    ends = starts + past - 1
    # blanks beyond the end stand where the targets of the last windows would
    series = np.concatenate([series, np.zeros((options.horizon, series.shape[1]), dtype=np.float32)])
    about: dict[str, Any] = {"groups": np.zeros(len(starts)), "relative": reading.fitted["relative"]}
    windows = Windows(series, series[:, :1], starts, past, options.horizon, **about)
    return NewRows(windows, {name: labels[ends] for name, labels in rows.names.items()})


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_series,
    "options": SeriesOptions,
    "metrics": (Metric("rmse", "lower", "units of the target"), Metric("mae", "lower", "units of the target")),
    "score": score,
    "description": "the user's own series, some steps ahead",
    "split": "by time: the first part trains, the next validates, the last tests; no window across a border",
    "baselines": (
        *("persistence", "seasonal-naive", "drift"),
        *("ridge", "ridge-relative", "target-ridge", "boosting-lags"),
    ),
    "reference": ("persistence", "seasonal-naive", "drift"),
}

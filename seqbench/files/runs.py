"""A user's runs of a machine (or of anything else that is measured over time) as data: a long table, a row a sample.

Each row has the run that it belongs to, what is to be predicted then, and measurements. Runs may differ in length; they
stay whole, so that a model is always scored on runs that it has seen nothing of. A table without runs is one long
series, split by time. What is predicted is a label (`classify`) or a number (`regress`) at the end of a window, or a
label for every step (`tag`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import CONTEXT, NewRows, Reading, Segments, Tagged, TaskData
from seqbench.errors import UserError
from seqbench.files.columns import TableOptions, chosen_columns, left_out_note, named_columns, read_note
from seqbench.files.numbers import NUMBER_METRICS, score_numbers, with_numbers
from seqbench.files.splitting import (
    borders,
    check_shares,
    parts_by_word,
    published_split,
    split_groups,
    split_groups_regress,
)
from seqbench.files.texts import LABEL_METRICS, OWN, class_shares_note, number_classes, score_labels
from seqbench.readers.archives import shown
from seqbench.readers.cells import present
from seqbench.readers.tables import Table, read_table
from seqbench.task import Metric, Source

__all__ = [
    "NUMBERS",
    "RUN_NAMES",
    "TAGS",
    "TIMES",
    "VARIANT",
    "NumberOptions",
    "RunOptions",
    "Scale",
    "cut",
    "encode_runs",
    "usual_runs",
    "window_starts",
]

Array = npt.NDArray[Any]
TIMES = ("time", "date", "timestamp", "datetime", "ds", "day", "hour", "step", "sample")
BEFORE = " one row before"
RUN_NAMES = (
    *("run", "run_id", "runid", "unit", "unit_id", "unit_nr", "unit_number", "engine", "engine_id", "trial", "session"),
    *("simulationrun", "simulation_run", "machine", "machine_id", "subject", "subject_id", "episode", "batch_id"),
)


@dataclass(frozen=True)
class RunOptions(TableOptions):
    """Options of a file of labelled runs; ``run`` may name several columns, as in run=faultNumber,simulationRun."""

    target: str = "label"
    sequence_length: int = 20
    run: str = ""
    time: str = ""
    group: str = ""
    split: str = ""
    numbers_as_classes: bool = False
    val: float = 0.15
    test: float = 0.25

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)
        if not 1 <= self.sequence_length <= 100_000:
            raise UserError(f"--sequence-length must be from 1 to 100,000 samples, not {self.sequence_length}.")


@dataclass(frozen=True)
class NumberOptions(RunOptions):
    """Options of a file of runs with a number to predict.

    ``past`` reads the target of the row before, too: for a number that is known by then, as a laboratory's value is.
    """

    target: str = ""
    sequence_length: int = 30
    past: bool = False


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each measurement over the training rows."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> Scale:
        """A measurement that never moves keeps its deviation of 0 out of the way."""
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 1e-9 * np.abs(values).max(axis=0), deviation, 1.0))

    @classmethod
    def from_reading(cls, reading: Reading) -> Scale:
        """What a trained model was scaled by."""
        return cls(np.array(reading.fitted["mean"]), np.array(reading.fitted["deviation"]))

    def __call__(self, values: Array) -> Array:
        """(L, D) float32."""
        scaled: Array = ((values - self.mean) / self.deviation).astype(np.float32)
        return scaled

    @property
    def fitted(self) -> dict[str, list[float]]:
        """As JSON can hold it."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}


def window_starts(runs: Array, lookback: int) -> Array:
    """Starts of all windows of ``lookback`` rows within one run; ``runs`` (L,), the rows of a run in a row."""
    last = np.arange(lookback - 1, len(runs))
    starts: Array = last[runs[last] == runs[last - lookback + 1]] - lookback + 1
    return starts


def cut(
    series: Array, runs: Array, starts: Array, lookback: int, labels: Array, meta: Mapping[str, Array] | None = None
) -> Segments:
    """The windows at ``starts`` with just the rows that they read; groups are the runs."""
    kept = np.isin(runs, runs[starts])
    place = np.cumsum(kept) - 1
    ends = starts + lookback - 1
    return Segments(series[kept], place[starts], lookback, labels[ends], runs[starts], meta=meta or {})


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Runs:
    """One table, its rows in order run by run.

    Attributes:
        rows: (L,) which row of the table each is.
        runs: (L,) the number of its run, rising by one from run to run.
        names: of the runs; one, empty, where the table is one series.
        named: the columns that say which run and when.
        notes: on how they were put in order.
    """

    table: Table
    rows: Array
    runs: Array
    names: list[str]
    named: list[str]
    notes: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether it is one series and not runs."""
        return len(self.names) == 1

    def where(self, i: int) -> str:
        """Where row ``i`` of this order stands in the file."""
        return self.table.where(int(self.rows[i]))

    def values(self, names: Sequence[str]) -> Array:
        """(L, D) float64 of the columns of numbers ``names``, NaN where a value is missing.

        A name that ends in `BEFORE` is a column one row earlier in the same run.
        """
        values = np.empty((len(self.rows), len(names)))
        for i, name in enumerate(names):
            earlier = name.endswith(BEFORE) and name not in self.table.names
            column = self.table.numbers(name.removesuffix(BEFORE) if earlier else name, missing=True)[self.rows]
            if earlier:
                column = np.where(np.diff(self.runs, prepend=-1) == 0, np.roll(column, 1), np.nan)
            values[:, i] = column
        return values

    def labels(self, name: str, allow_empty: bool = False) -> list[str]:
        """A column of texts in this order."""
        known = self.table.labels(name, allow_empty=allow_empty)
        return [known[i] for i in self.rows.tolist()]


def _read(path: Any, options: RunOptions) -> _Runs:
    table = read_table(path, form=options.form)
    columns = _run_columns(table, options)
    times = [options.time] if options.time else []
    if not columns:
        if not times:
            raise UserError(
                "which column tells the runs apart? Give --run COLUMN, or --time COLUMN where all rows are one series; "
                f"there are: {', '.join(table.names)}."
            )
        one = np.zeros(len(table), dtype=np.int64)
        order, notes = _by_time(table, options.time, one)
        return _Runs(table, order, one, [""], [*_parts(options.time)], notes)
    keys = [table.labels(name) for name in columns]
    each = keys[0] if len(keys) == 1 else ["/".join(key) for key in zip(*keys, strict=True)]
    names, first, runs = np.unique(each, return_index=True, return_inverse=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(names))
    runs = rank[runs]
    order, notes = np.argsort(runs, kind="stable"), ()
    if times:
        order, notes = _by_time(table, options.time, runs)
    elif len(back := np.flatnonzero(np.diff(runs) < 0)):
        raise UserError(
            f"{table.where(int(back[0]) + 1)}: the rows of a run must follow each other; sort by {', '.join(columns)}, "
            "or give --time COLUMN."
        )
    named = [*columns, *_parts(options.time)]
    return _Runs(table, order, runs[order], names[np.argsort(first)].tolist(), named, notes)


def _by_time(table: Table, column: str, runs: Array) -> tuple[Array, tuple[str, ...]]:
    """The rows run by run in order of time, and a note if the file has them in another."""
    times = table.times(column)
    order = np.lexsort((times, runs))
    ordered = times[order]
    twice = np.flatnonzero((ordered[1:] == ordered[:-1]) & (np.diff(runs[order]) == 0))
    if len(twice):
        before, at = order[twice[0]], order[twice[0] + 1]
        raise table.bad(int(at), column, f"the time is that of {table.where(int(before))}: keep one of the two rows")
    if (order == np.argsort(runs, kind="stable")).all():
        return order, ()
    return order, (f"rows are put in order of {column}, which is not that of the file.",)


def _parts(columns: str) -> list[str]:
    return [part.strip() for part in columns.split(",") if part.strip()]


def _run_columns(table: Table, options: RunOptions) -> list[str]:
    """Those that tell runs apart: the ones named, or one with a usual name where no times are named either."""
    if options.run:
        return named_columns(table, options.run)
    usual = usual_runs(table)
    return usual[:1] if "run" in usual or not options.time else []


def usual_runs(table: Table) -> list[str]:
    """The columns whose names say that they tell runs apart."""
    return [name for name in table.names if name.lower().replace(" ", "_") in RUN_NAMES]


def _times_of(table: Table) -> list[str]:
    """Columns that would tell how late it is."""
    return [name for name in table.names if name.lower() in TIMES]


# --- features --------------------------------------------------------------------------------------------------------


def _filled(values: Array, runs: Array) -> tuple[Array, Array]:
    """Gaps hold the last value before them in the same run; and where they were."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values, gaps
    at = np.arange(len(values))[:, None]
    first = np.searchsorted(runs, runs)[:, None]  # the first row of each row's run
    last = np.maximum.accumulate(np.where(gaps, -1, at), axis=0)
    filled = np.where(last >= first, np.take_along_axis(values, np.maximum(last, 0), axis=0), np.nan)
    return filled, gaps


def _constant(values: Array, names: Sequence[str]) -> dict[str, str]:
    """The columns that never change in the training rows, and what to say of them."""
    left_out = {}
    for name, column in zip(names, values.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known):
            left_out[name] = "empty in the training part"
        elif np.ptp(known) <= 1e-9 * np.abs(known).max():
            left_out[name] = f"{known[0]:g} throughout the training part"
    return left_out


@dataclass(frozen=True, eq=False)
class _Features:
    """What a model reads of each row, and how new rows are read alike."""

    names: list[str]
    scale: Scale
    flagged: list[bool]

    @classmethod
    def of(cls, values: Array, names: list[str]) -> _Features:
        """From training rows (L, D), NaN where a value is missing."""
        gaps = np.isnan(values)
        mean = np.nanmean(values, axis=0)
        scale = Scale.of(np.where(gaps, mean, values))
        return cls(names, scale, np.atleast_1d(gaps.any(axis=0)).tolist())

    @classmethod
    def from_reading(cls, reading: Reading) -> _Features:
        """As a trained model read them."""
        names = list(reading.fitted.get("columns", reading.features))  # without gaps, all are columns of the file
        return cls(names, Scale.from_reading(reading), list(reading.fitted.get("flagged", [False] * len(names))))

    def __call__(self, values: Array, runs: Array) -> Array:
        """(L, D + flags) float32: scaled, the mean where nothing came before a gap, and a flag for each with gaps."""
        filled, gaps = _filled(values, runs)
        scaled = np.nan_to_num(self.scale(filled), nan=0.0)
        return np.concatenate([scaled, gaps[:, self.flagged].astype(np.float32)], axis=1)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Those of the flags, too."""
        return (*self.names, *(f"no_{name}" for name, flag in zip(self.names, self.flagged, strict=True) if flag))

    @property
    def fitted(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**self.scale.fitted, "columns": self.names, "flagged": self.flagged}


# --- windows and splits ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows within runs: where each begins, how many rows it really has, and its last row."""

    starts: Array
    lengths: Array
    lookback: int

    @property
    def ends(self) -> Array:
        """(N,) the last row of each."""
        ends: Array = self.starts + self.lengths - 1
        return ends

    def __getitem__(self, kept: Array) -> _Windows:
        return _Windows(self.starts[kept], self.lengths[kept], self.lookback)


def _windows(runs: Array, lookback: int) -> _Windows:
    """All windows of ``lookback`` rows within one run; of a run that is shorter, all of it."""
    first = np.searchsorted(runs, runs)
    at = np.arange(len(runs))
    last = np.searchsorted(runs, runs, side="right") - 1
    full = at - first + 1 >= lookback
    whole = (at == last) & (last - first + 1 < lookback)
    ends = at[full | whole]
    starts = np.maximum(first[ends], ends - lookback + 1)
    return _Windows(starts, ends - starts + 1, lookback)


def _stretches(n: int, shares: tuple[float, float]) -> Array:
    """(n,) number of the stretch of each row of one series: training, validation, test."""
    return np.repeat(np.arange(3), np.diff(borders(n, shares)))


@dataclass(frozen=True, eq=False)
class _Set:
    """Rows of one table or of two (the second is the test), ready to be cut into windows.

    Attributes:
        part: (L,) the split of each row of one series, 0 to 2; None of runs.
        words: the split that is published for each row, and ``said_by`` what says so.
    """

    first: _Runs
    second: _Runs | None
    runs: Array
    groups: Array
    part: Array | None
    words: list[str] | None
    said_by: str
    notes: list[str]

    def values(self, names: Sequence[str]) -> Array:
        """(L, D) numbers of both tables, NaN where one is missing."""
        return np.concatenate([one.values(names) for one in self.tables])

    def texts(self, name: str) -> list[str]:
        """A column of both tables, "" where nothing is."""
        return [text for one in self.tables for text in one.labels(name, allow_empty=True)]

    @property
    def rows(self) -> Array:
        """(L,) which row of its file each is, from 0."""
        return np.concatenate([one.rows for one in self.tables])

    @property
    def tables(self) -> list[_Runs]:
        """One or both."""
        return [self.first, self.second] if self.second else [self.first]

    def part_of(self, parts: Mapping[str, _Windows]) -> Array:
        """(L,) whether a test window reads a row."""
        return _rows_of(parts["test"], len(self.runs))

    def where(self, i: int) -> str:
        """Where row ``i`` stands."""
        n = len(self.first.runs)
        if i >= n and self.second:
            return f"{self.second.table.file}, {self.second.where(i - n)}"
        return self.first.where(i)


def _set(source: Source, options: RunOptions) -> _Set:
    first = _read(source.file, options)
    second = _read(source.files["test"], options) if "test" in source.files else None
    if second is not None and options.split:
        raise UserError("--test and --split are two ways to split: give one.")
    runs = first.runs if second is None else np.concatenate([first.runs, second.runs + len(first.names)])
    words = _words(first, second, options)
    said_by = f"column {shown(options.split, 60)}" if options.split else "the two files"
    part, notes = None, [note for one in (first, second) if one for note in one.notes]
    if first.single:
        if options.group:
            raise UserError(
                f"--group {options.group} needs runs, and without --run all rows are one series, split by time: give "
                f"--run {options.group} if its values are series of their own."
            )
        part = (
            _stretches(len(runs), (options.val, options.test)) if words is None else _by_word(words, said_by, options)
        )
        # no window reaches over a border, be it of a split or of a run of the test file
        runs = np.cumsum((np.diff(part, prepend=part[0]) != 0) | (np.diff(runs, prepend=runs[0]) != 0))
        how = (
            "the first part trains, the next validates, the last tests" if words is None else f"split as {said_by} say"
        )
        notes.append(f"one series: {how}.")
    if second is not None and first.single:
        _check_apart(first, second, options)
    groups = runs
    if options.group:
        labels = first.labels(options.group) + (second.labels(options.group) if second else [])
        groups = _together(runs, np.unique(labels, return_inverse=True)[1])
    if second is not None and not first.single:
        groups = _together(groups, _same_content(first, second, runs))
    return _Set(first, second, runs, groups, part, words, said_by, notes)


def _together(runs: Array, groups: Array) -> Array:
    """(L,) one number for all rows that a run or a group holds together, directly or through others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = int(runs.max()) + 1
    edges = coo_matrix((np.ones(len(runs)), (runs, n + groups)), shape=(n + int(groups.max()) + 1,) * 2)
    joined: Array = connected_components(edges, directed=False)[1][runs]
    return joined


def _same_content(first: _Runs, second: _Runs, runs: Array) -> Array:
    """(L,) one number for all rows of runs that hold the same numbers: a test run may be in the training file, too."""
    columns = [name for name in first.table.names if name in second.table.names and name not in first.named]
    numbers = [name for name in columns if all(one.table.not_numbers(name) is None for one in (first, second))]
    values = np.concatenate([first.values(numbers), second.values(numbers)])
    cuts = np.flatnonzero(np.diff(runs)) + 1
    known: dict[bytes, int] = {}
    each = [known.setdefault(rows.tobytes(), len(known)) for rows in np.split(values, cuts)]
    return np.repeat(each, np.diff([0, *cuts, len(runs)]))


def _check_apart(first: _Runs, second: _Runs, options: RunOptions) -> None:
    """Refuse a test file that holds rows of the one series that trains: by their times, or else as a whole."""
    if options.time:
        shared = len(np.intersect1d(first.table.times(options.time), second.table.times(options.time)))
        what = f"{shared:,} times"
    else:
        both = np.concatenate([first.runs, second.runs + len(first.names)])
        each = _same_content(first, second, both)
        shared = int((each[len(first.runs) :] == each[0]).sum())
        what = f"{shared:,} rows"
    if shared:
        raise UserError(f"{what} of --test are in the other file, too: a test must hold rows that train no model.")


def _words(first: _Runs, second: _Runs | None, options: RunOptions) -> list[str] | None:
    """The split that a column or the two files say of each row."""
    if second is not None:
        return ["train"] * len(first.runs) + ["test"] * len(second.runs)
    if not options.split:
        return None
    words = first.labels(options.split)
    part = np.unique(words, return_inverse=True)[1]
    mixed = np.flatnonzero((np.diff(part) != 0) & (np.diff(first.runs) == 0))
    if len(mixed) and not first.single:
        raise UserError(f"{first.where(int(mixed[0]) + 1)}: a run changes its split midway: runs stay whole.")
    return words


def _by_word(words: Sequence[str], said_by: str, options: RunOptions) -> Array:
    """(L,) the split of each row of one series; where none validates, the last part of training does."""
    part = parts_by_word(words, said_by, lambda i: f"row {i + 1} in order of time")
    if 1 not in part:
        training = np.flatnonzero(part == 0)
        part[training[round(len(training) * (1 - options.val)) :]] = 1
    return part


def _split_windows(
    data: _Set, windows: _Windows, targets: Array, classes: Sequence[str], options: RunOptions
) -> dict[str, Array]:
    """Indices of windows by split; ``targets`` (N,) are classes, or numbers where there are none."""
    if data.part is not None:
        part = data.part[windows.ends]
        parts = {name: np.flatnonzero(part == i) for i, name in enumerate(PARTS)}
        for name, rows in parts.items():
            if not len(rows):
                raise UserError(f"no window lies in the {name} part: shorten --sequence-length, or bring more rows.")
        return parts
    groups, shares = data.groups[windows.ends], (options.val, options.test)
    noun = f"value of {options.group}" if options.group else "run"

    def where(i: int) -> str:
        return data.where(int(windows.ends[i]))

    if data.words is not None:
        words = [data.words[i] for i in windows.ends.tolist()]
        parts, said = published_split(words, data.said_by, groups, options.val, targets if classes else None, where)
        data.notes.extend(said)
        return parts
    if classes:
        return split_groups(groups, targets, classes, shares, where, noun, data.notes)
    return split_groups_regress(groups, targets, shares, noun, data.notes)


PARTS = ("train", "val", "test")


# --- what the kinds have in common -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Ready:
    """Everything but the targets: scaled rows, windows by split, and what to tell of it."""

    data: _Set
    series: Array
    features: _Features
    parts: dict[str, _Windows]
    notes: tuple[str, ...]


def _ready(
    data: _Set,
    windows: _Windows,
    targets: Array,
    classes: Sequence[str],
    options: RunOptions,
    named: Sequence[str],
    earlier: Sequence[str] = (),
) -> _Ready:
    """``targets`` (L,) of all rows; windows are split, rows scaled by those that training windows read.

    ``earlier`` are columns that are read of the row before, in front of the others.
    """
    table = data.first.table
    known = data.first.rows
    if options.target in named_columns(table, options.drop):
        raise UserError(f"column {shown(options.target, 60)} is the target and is to be dropped: name it once.")
    chosen = chosen_columns(
        table,
        features=options.features,
        drop=options.drop,
        named=[*named, *([] if options.features else _times_of(table))],
        runs=_in_file_order(data.first.runs, known),
        labels=_in_file_order(targets[: len(known)], known),
    )
    if data.second is not None:
        data.second.table.require(*chosen.names)
    rows = _split_windows(data, windows, targets[windows.ends], classes, options)
    parts = {name: windows[at] for name, at in rows.items()}
    training = _rows_of(parts["train"], len(targets))
    able = [*(name + BEFORE for name in earlier), *chosen.names]
    values = data.values(able)
    constant = {} if options.features else _constant(values[training], able)
    kept = [i for i, name in enumerate(able) if name not in constant]
    names = [able[i] for i in kept]
    if not names:
        raise UserError(
            "no column of numbers is left, so there is nothing to read: "
            + ("; ".join(f"{name}: {why}" for name, why in {**chosen.left_out, **constant}.items()) or "there is none")
            + ". Name those to read by --features."
        )
    values = values[:, kept]
    features = _Features.of(values[training], names)
    own = [name for name in names if name in table.names]
    late = {} if options.features else dict.fromkeys(_times_of(table), "a time: it would tell how late it is")
    notes = (
        *data.notes,
        read_note(names),
        *left_out_note({**late, **chosen.left_out, **constant}),
        *_missing_note(values, features.flagged),
        *[note for one in data.tables for note in _suspects_note(one.table, own)],
        *_far_note(features, values, data.part_of(parts)),
        *table.remarks_on([*own, *named]),
    )
    return _Ready(data, features(values, data.runs), features, parts, notes)


def _in_file_order(values: Array, rows: Array) -> Array:
    """Per row of the file what is known in the order of runs."""
    ordered = np.empty_like(values)
    ordered[rows] = values
    return ordered


def _rows_of(windows: _Windows, n: int) -> Array:
    """(n,) which rows ``windows`` read."""
    change = np.zeros(n + 1, dtype=np.int64)
    np.add.at(change, windows.starts, 1)
    np.add.at(change, windows.ends + 1, -1)
    read: Array = np.cumsum(change)[:-1] > 0
    return read


def _missing_note(values: Array, flagged: Sequence[bool]) -> tuple[str, ...]:
    gaps = int(np.isnan(values).sum())
    flag = ", with a flag" if any(flagged) else ""
    return (f"{gaps:,} missing values hold the last one before them in their run{flag}.",) if gaps else ()


FAR = 10  # deviations of the training rows


def _far_note(features: _Features, values: Array, test: Array) -> tuple[str, ...]:
    """On values of the test that lie far from all that a model has seen."""
    far = (np.abs(features.scale(values[test])) > FAR).sum(axis=0)
    places = [f"{count:,} of {name}" for name, count in zip(features.names, far.tolist(), strict=True) if count]
    if not places:
        return ()
    return (f"WARNING: of the test lie more than {FAR} training deviations from the mean: {', '.join(places[:5])}.",)


def _suspects_note(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """A warning of values that look like marks for what is missing."""
    found = {name: table.suspects(name) for name in names}
    marks = {mark for values in found.values() for mark in values}
    if not marks:
        return ()
    places = [
        f"{count} times {mark} in {name}" for name, values in found.items() for mark, count in list(values.items())[:1]
    ]
    return (
        f"WARNING: {table.file}: {', '.join(places[:5])} looks like a missing value and is read as a number; "
        f"--missing={min(marks)} says it is one.",
    )


def _sizes_note(data: _Set, parts: Mapping[str, _Windows]) -> str:
    counts = [len(np.unique(data.runs[windows.starts])) for windows in parts.values()]
    lengths = np.bincount(data.runs)
    return (
        f"{len(lengths):,} runs of {lengths.min():,} to {lengths.max():,} samples; train, validation and test hold "
        f"{counts[0]}, {counts[1]} and {counts[2]}, whole."
    )


def _short_note(windows: _Windows) -> tuple[str, ...]:
    short = int((windows.lengths < windows.lookback).sum())
    if short == len(windows.lengths):
        return (f"all runs are shorter than {windows.lookback} samples: each is read as it is, once.",)
    return (f"{short} runs are shorter than {windows.lookback} samples and read as they are.",) if short else ()


def _segments(ready: _Ready, part: str, targets: Array, meta: Mapping[str, Array] | None = None) -> Segments:
    """The windows of a split with just the rows that they read; groups are what must not straddle splits."""
    windows = ready.parts[part]
    read = _rows_of(windows, len(ready.series))
    place = np.cumsum(read) - 1
    uneven = any((one.lengths < one.lookback).any() for one in ready.parts.values())  # all splits are alike in this
    ends = windows.ends
    return Segments(
        series=ready.series[read],
        starts=place[windows.starts],
        lookback=windows.lookback,
        targets=targets[ends],
        groups=_groups_of(ready.data, windows),
        row_lengths=windows.lengths if uneven else None,
        meta={**(meta or {}), "row": ready.data.rows[ends]},
    )


def _groups_of(data: _Set, windows: _Windows) -> Array:
    """(N,) groups of windows; of one series, blocks so long that windows of different ones share hardly a row."""
    if len(np.unique(data.runs)) <= len(PARTS) and data.part is not None and data.first.single:
        return windows.starts // (2 * windows.lookback)
    return data.groups[windows.ends]


# --- classify --------------------------------------------------------------------------------------------------------


def load(source: Source, options: RunOptions) -> TaskData:
    """Windows over the user's runs with the label of their last row, split by run, scaled by the training runs."""
    data = _set(source, options)
    labels, classes = _labels(data, options)
    windows = _windows(data.runs, options.sequence_length)
    known = labels[windows.ends] != CONTEXT
    n_unknown, windows = int((~known).sum()), windows[known]
    named = [*data.first.named, options.target, *_given(options.group, options.split)]
    ready = _ready(data, windows, labels, classes, options, named)
    _check_classes(labels[ready.parts["train"].ends], classes)
    splits = {part: _segments(ready, part, labels) for part in PARTS}
    notes = (
        *([] if data.first.single else [_sizes_note(data, ready.parts)]),
        *_short_note(windows),
        *_unknown_note(n_unknown, options.target),
        class_shares_note(np.maximum(labels, 0), classes, {part: one.ends for part, one in ready.parts.items()}),
        *ready.notes,
        "a window is labelled by its last sample; measurements are scaled by the training rows.",
    )
    about: dict[str, Any] = {"features": ready.features.all_names, "classes": classes, "notes": notes}
    train, val, test = splits.values()
    return TaskData(train, val, test, source.hashes, fitted=ready.features.fitted, **about)


def _labels(data: _Set, options: RunOptions) -> tuple[Array, tuple[str, ...]]:
    """(L,) class numbers, `CONTEXT` where a label is missing, and the names of the classes."""
    texts = present(data.texts(options.target), classes=True)
    known = np.array([bool(text) for text in texts])
    if not known.any():
        raise UserError(f"column {shown(options.target, 60)} has no label.")
    labels = np.full(len(texts), CONTEXT)
    names = [text for text in texts if text]
    labels[known], classes = number_classes(names, options.target, options.numbers_as_classes)
    return labels, classes


def _unknown_note(count: int, target: str) -> tuple[str, ...]:
    return (f"{count:,} windows end where {target} is missing and are left out.",) if count else ()


def _given(*names: str) -> list[str]:
    return [name for name in names if name]


def _check_classes(training: Array, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise UserError(f"there is one class only ({classes[0]}): a classifier needs at least two.")
    absent = sorted(set(range(len(classes))) - set(training.tolist()))
    if len(absent) > len(classes) - 2:
        raise UserError(f"class {classes[absent[0]]!r} does not occur in the training part: bring more rows of it.")


def encode_runs(source: Source, options: RunOptions, reading: Reading) -> NewRows:
    """New runs, without labels: one prediction for each window, named by its run and its last row."""
    new = _read(source.file, options)
    features = _Features.from_reading(reading)
    series = features(new.values(features.names), new.runs)
    windows = _windows(new.runs, options.sequence_length)
    lengths = windows.lengths if (windows.lengths < windows.lookback).any() else None
    columns = {"row": new.rows[windows.ends] + 1}
    if not new.single or new.names[0]:
        columns = {"run": np.array(new.names)[new.runs[windows.ends]], **columns}
    blank = np.zeros(len(windows.starts), dtype=np.float32 if "offset" in reading.fitted else np.int64)
    groups = new.runs[windows.ends]
    return NewRows(Segments(series, windows.starts, windows.lookback, blank, groups, lengths), columns)


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_runs,
    "options": RunOptions,
    "metrics": LABEL_METRICS,
    "score": score_labels,
    "description": "the state of the user's own machine from windows of its measurements",
    "split": "by run, class by class; one series by time; or as published",
    "baselines": ("majority", "lda", "window-logistic", "window-boosting", "random-convolutions"),
    "reference": "majority",
}


# --- regress ---------------------------------------------------------------------------------------------------------


def load_numbers(source: Source, options: NumberOptions) -> TaskData:
    """Windows with the number of their last row; where a run has one number throughout, its last window only."""
    data = _set(source, options)
    if not options.target:
        numbers = ", ".join(chosen_columns(data.first.table, named=data.first.named).names)
        raise UserError(f"what is to be predicted? Give --target COLUMN; numbers stand in: {numbers or 'no column'}.")
    targets = data.values([options.target])[:, 0]
    windows = _windows(data.runs, options.sequence_length)
    per_run = not data.first.single and _one_a_run(targets, data.runs)
    last = np.append(np.diff(data.runs) != 0, True)
    if per_run and options.past:
        raise UserError(f"each run has one {options.target}, which the row before would tell: leave past out.")
    if per_run:
        windows = windows[last[windows.ends]]
    known = ~np.isnan(targets[windows.ends])
    n_unknown, windows = int((~known).sum()), windows[known]
    if not len(windows.starts):
        raise UserError(f"column {options.target!r} has no number at the end of any window.")
    named = [*data.first.named, options.target, *_given(options.group, options.split)]
    ready = _ready(data, windows, targets, (), options, named, [options.target] if options.past else ())
    splits = {}
    for part, mine in ready.parts.items():
        splits[part] = _segments(ready, part, targets, {"last": last[mine.ends].astype(np.int64)})
    notes = (
        *([] if data.first.single else [_sizes_note(data, ready.parts)]),
        *_short_note(windows),
        *_unknown_note(n_unknown, options.target),
        *ready.notes,
        f"each run has one {options.target}: its last window is read."
        if per_run
        else f"a window is to tell {options.target} of its last sample.",
    )
    fitted = {**ready.features.fitted, **({"target_feature": 0} if options.past else {})}
    about: dict[str, Any] = {"features": ready.features.all_names, "notes": notes, "fitted": fitted}
    train, val, test = splits.values()
    return with_numbers(TaskData(train, val, test, source.hashes, **about), options.target)


def _one_a_run(targets: Array, runs: Array) -> bool:
    """Whether the number never changes within a run, in runs of several rows."""
    same = np.diff(runs) == 0
    steps = np.diff(targets)[same]
    return bool(len(steps)) and bool((steps == 0).all())


NUMBERS: dict[str, Any] = {
    **OWN,
    "load": load_numbers,
    "encode": encode_runs,
    "options": NumberOptions,
    "metrics": (*NUMBER_METRICS, Metric("rmse_at_end", "lower", NUMBER_METRICS[0].unit)),
    "score": score_numbers,
    "description": "a number at the end of a window of the user's own measurements",
    "split": "by run; one series by time; or as published",
    "baselines": ("mean", "last-value", "window-ridge", "window-regression-boosting"),
    "reference": "mean",
}


# --- tag -------------------------------------------------------------------------------------------------------------


def load_tags(source: Source, options: RunOptions) -> TaskData:
    """Windows in which every step has a label; each step is scored once."""
    data = _set(source, options)
    labels, classes = _labels(data, options)
    windows, skip = _tiles(data.runs, options.sequence_length)
    if not len(windows.starts):
        raise UserError(f"no run has {options.sequence_length} samples: shorten --sequence-length.")
    named = [*data.first.named, options.target, *_given(options.group, options.split)]
    ready = _ready(data, windows, labels, (), options, named)
    splits = {part: _tagged(ready, part, labels, windows, skip) for part in PARTS}
    scored = {part: split.truth().targets for part, split in splits.items()}
    _check_classes(scored["train"], classes)
    stops = np.cumsum([len(rows) for rows in scored.values()])
    places = {part: np.arange(stop - len(scored[part]), stop) for part, stop in zip(PARTS, stops, strict=True)}
    unknown = int((labels == CONTEXT).sum())
    left_out = len(np.unique(data.runs)) - len(np.unique(data.runs[windows.starts]))
    notes = (
        *([] if data.first.single else [_sizes_note(data, ready.parts)]),
        f"{left_out} runs are shorter than {options.sequence_length} samples and left out.",
        *([f"{unknown:,} steps without a label are read and not scored."] if unknown else []),
        class_shares_note(np.concatenate(list(scored.values())), classes, places),
        *ready.notes,
        "every step has a label and is scored once; a model may read the steps after it.",
    )
    about: dict[str, Any] = {"features": ready.features.all_names, "classes": classes, "notes": notes}
    train, val, test = splits.values()
    return TaskData(train, val, test, source.hashes, fitted=ready.features.fitted, **about)


def _tiles(runs: Array, lookback: int) -> tuple[_Windows, Array]:
    """Windows side by side within each run, the last one moved back to fit, and how many of its steps came before."""
    starts: list[int] = []
    skip: list[int] = []
    edges = np.flatnonzero(np.diff(runs, prepend=-1, append=runs[-1] + 1))
    for begin, end in itertools.pairwise(edges.tolist()):
        whole = range(begin, end - lookback + 1, lookback)
        starts += whole
        skip += [0] * len(whole)
        rest = (end - begin) % lookback
        if rest and len(whole):
            starts.append(end - lookback)
            skip.append(lookback - rest)
    first = np.array(starts, dtype=np.int64)
    return _Windows(first, np.full(len(first), lookback), lookback), np.array(skip, dtype=np.int64)


def _tagged(ready: _Ready, part: str, labels: Array, windows: _Windows, skip: Array) -> Tagged:
    mine = ready.parts[part]
    read = _rows_of(mine, len(ready.series))
    place = np.cumsum(read) - 1
    mine_skip = skip[np.searchsorted(windows.starts, mine.starts)]
    groups = _groups_of(ready.data, mine)
    return Tagged(ready.series[read], labels[read], place[mine.starts], mine.lookback, mine_skip, groups)


def encode_tags(source: Source, options: RunOptions, reading: Reading) -> NewRows:
    """New runs, without labels: one prediction for each of their steps."""
    new = _read(source.file, options)
    features = _Features.from_reading(reading)
    series = features(new.values(features.names), new.runs)
    windows, skip = _tiles(new.runs, options.sequence_length)
    if not len(windows.starts):
        raise UserError(f"no run has the {options.sequence_length} samples that the model reads at a time.")
    blank = np.zeros(len(series), dtype=np.int64)
    tagged = Tagged(series, blank, windows.starts, windows.lookback, skip, new.runs[windows.starts])
    at = (windows.starts[:, None] + np.arange(windows.lookback))[np.arange(windows.lookback) >= skip[:, None]]
    return NewRows(tagged, {"run": np.array(new.names)[new.runs[at]], "row": new.rows[at] + 1})


TAGS: dict[str, Any] = {
    **VARIANT,
    "load": load_tags,
    "encode": encode_tags,
    "description": "a label for every step of the user's own measurements",
    "baselines": ("step-majority", "step-logistic"),
    "reference": "step-majority",
}

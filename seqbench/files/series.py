"""A user's series as the data of a `forecast` task: CSV or Parquet with a time column and a target column.

Every other column of numbers is read too. Windows are gathered from the series, so a million rows stay a million rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Reading, TaskData, Truth, Windows
from seqbench.errors import UserError
from seqbench.files.runs import TIMES, Scale
from seqbench.files.splitting import borders
from seqbench.files.texts import OWN
from seqbench.metrics import mae, rmse
from seqbench.readers.tables import Table, check_increasing, read_table
from seqbench.task import Metric, Source

__all__ = ["VARIANT", "Series", "SeriesOptions", "build", "columns_of", "encode_series", "find_time"]

Array = npt.NDArray[Any]
MOST_SCORED = 20_000  # windows of validation and of test each: enough for any interval, and a million would take hours


@dataclass(frozen=True)
class SeriesOptions:
    """Options of a file with a series."""

    target: str = ""
    time: str = ""
    sequence_length: int = 72
    horizon: int = 24
    val: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 65_535:
            raise UserError(f"--sequence-length must be from 1 to 65,535 steps, not {self.sequence_length}.")
        if not 1 <= self.horizon <= 10_000:
            raise UserError(f"--option horizon={self.horizon} must be from 1 to 10,000 steps.")


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Errors in the target's own units, over all steps ahead."""
    error = (predictions.astype(np.float64) - truth.targets) * truth.meta["scale"][:, None, None]
    zero = np.zeros_like(error)
    return {"rmse": rmse(error, zero), "mae": mae(error, zero)}


def find_time(table: Table, column: str) -> str:
    """The column of times: the one that was named, or the first with a usual name."""
    if column:
        return column
    usual = [name for name in table.names if name.lower() in TIMES]
    if not usual:
        raise UserError(
            f"which column holds the times? Give --option time=COLUMN; there are: {', '.join(table.names)}."
        )
    return usual[0]


def columns_of(table: Table, time: str, target: str) -> list[str]:
    """The columns that are read, the target first."""
    numeric = table.numeric_columns(except_={time})
    if not target:
        raise UserError(
            f"what is to be predicted? Give --target COLUMN; numbers stand in: {', '.join(numeric) or 'no column'}."
        )
    table.numbers(target)  # complains of what is missing or no number there
    return [target, *(name for name in numeric if name != target)]


@dataclass(frozen=True, eq=False)
class Series:
    """Times (L,), values (L, C) with NaN where they are missing, the columns' names, and where row i came from."""

    times: Array
    values: Array
    columns: list[str]
    where: Callable[[int], str]

    def filled(self) -> tuple[Array, Array]:
        """Values with gaps holding the last value before them, and where the gaps were."""
        gaps = np.isnan(self.values)
        last = np.maximum.accumulate(np.where(gaps, 0, np.arange(len(gaps))[:, None]), axis=0)
        return np.take_along_axis(self.values, last, axis=0), gaps


def _read(source: Source, options: SeriesOptions, columns: list[str] | None = None) -> tuple[Table, Series]:
    table = read_table(source.file)
    time = find_time(table, options.time)
    times = table.times(time)
    check_increasing(times, table, time)
    columns = columns or columns_of(table, time, options.target)
    values = np.empty((len(table), len(columns)))
    for i, name in enumerate(columns):
        values[:, i] = table.numbers(name, missing=i > 0)
    return table, Series(times, values, columns, table.where)


def load(source: Source, options: SeriesOptions) -> TaskData:
    """Windows over the user's series, split by time, scaled by the training stretch."""
    table, given = _read(source, options)
    unread = sorted(set(table.names) - {*given.columns, find_time(table, options.time)})
    data = build(given, options, source)
    note = f"not read, because not all of it is numbers: {', '.join(unread)}."
    return dataclasses.replace(data, notes=(*data.notes, note)) if unread else data


def build(given: Series, options: SeriesOptions, source: Source) -> TaskData:
    """Three stretches of a series, scaled by the first; gaps of the target, if any, are filled as others are."""
    columns = given.columns
    cuts = borders(len(given.values), (options.val, options.test))
    needed = options.sequence_length + options.horizon
    if min(b - a for a, b in itertools.pairwise(cuts)) < needed:
        raise UserError(
            f"{len(given.values):,} rows are too few for three splits with windows of {options.sequence_length} + "
            f"{options.horizon} steps: shorten --sequence-length or --option horizon, or bring more rows."
        )
    scale = _scale(given.values[: cuts[1]], columns)
    values, gaps = given.filled()
    flagged = np.asarray(gaps[: cuts[1]].any(axis=0))
    series = _features(values, gaps, scale, flagged)
    train, val, test = (
        _windows(series[a:b], options, float(scale.deviation[0]), thin=i > 0)
        for i, (a, b) in enumerate(itertools.pairwise(cuts))
    )
    target = {"offset": float(scale.mean[0]), "scale": float(scale.deviation[0])}
    return TaskData(
        *(train, val, test),
        sources=source.hashes,
        features=(*columns, *(f"no_{name}" for name, flag in zip(columns, flagged, strict=True) if flag)),
        notes=_notes(given, cuts, gaps, val, test),
        fitted={**scale.fitted, "columns": columns, "flagged": flagged.tolist(), **target},
    )


def _scale(training: Array, columns: list[str]) -> Scale:
    """Mean and deviation of what is known of each column."""
    known = [column[~np.isnan(column)] for column in training.T]
    if not len(known[0]) or np.ptp(known[0]) == 0:
        raise UserError(f"column {columns[0]!r} is constant in the training part: there is nothing to predict.")
    scales = [Scale.of(column[:, None]) if len(column) else Scale(np.zeros(1), np.ones(1)) for column in known]
    return Scale(np.concatenate([s.mean for s in scales]), np.concatenate([s.deviation for s in scales]))


def _features(values: Array, gaps: Array, scale: Scale, flagged: Array) -> Array:
    """(L, D) float32: scaled values, 0 where nothing came before a gap, and a flag for each column that has gaps."""
    series = scale(values)
    series[np.isnan(series)] = 0.0
    return np.concatenate([series, gaps[:, flagged].astype(np.float32)], axis=1)


def _windows(series: Array, options: SeriesOptions, scale: float, *, thin: bool) -> Windows:
    n = len(series) - options.sequence_length - options.horizon + 1
    starts = np.arange(0, n, -(-n // MOST_SCORED) if thin else 1)
    block = options.sequence_length + options.horizon  # windows further apart than this share no step
    return Windows(
        series=series,
        target_series=series[:, :1],
        starts=starts,
        lookback=options.sequence_length,
        horizon=options.horizon,
        groups=starts // block,
        meta={"scale": np.full(len(starts), scale, dtype=np.float32)},
    )


def _notes(given: Series, cuts: tuple[int, ...], gaps: Array, val: Windows, test: Windows) -> tuple[str, ...]:
    steps = np.diff(given.times).astype(np.float64)
    uneven = int((steps != np.median(steps)).sum())
    return (
        f"validation begins at {given.where(cuts[1])}, test at {given.where(cuts[2])}; no window crosses a border.",
        f"{uneven:,} of {len(steps):,} time steps are not as long as the usual one; windows count rows, not time.",
        f"{int(gaps.sum()):,} missing values hold the last one before them, with a flag ({int(gaps[:, 0].sum()):,} of "
        "them are the target's).",
        f"{len(val):,} validation and {len(test):,} test windows are scored, evenly spread if there are more.",
    )


def encode_series(source: Source, options: SeriesOptions, reading: Reading) -> NewRows:
    """A new stretch of the series: a forecast after every window, the last one beyond the end of the file."""
    table, given = _read(source, options, reading.fitted["columns"])
    time = find_time(table, options.time)
    values, gaps = given.filled()
    series = _features(values, gaps, Scale.from_reading(reading), np.array(reading.fitted["flagged"]))
    n = len(series) - options.sequence_length + 1
    if n < 1:
        raise UserError(f"{len(series)} rows are fewer than the window of {options.sequence_length} the model reads.")
    ends = np.arange(n) + options.sequence_length - 1
    # blanks beyond the end stand where the targets of the last windows would
    series = np.concatenate([series, np.zeros((options.horizon, series.shape[1]), dtype=np.float32)])
    windows = Windows(series, series[:, :1], np.arange(n), options.sequence_length, options.horizon, np.zeros(n))
    return NewRows(windows, {time: np.array(table.labels(time))[ends]})


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_series,
    "options": SeriesOptions,
    "metrics": (Metric("rmse", "lower", "units of the target"), Metric("mae", "lower", "units of the target")),
    "score": score,
    "description": "the user's own series, some steps ahead",
    "split": "by time: the first part trains, the next validates, the last tests; no window across a border",
    "baselines": ("persistence", "drift", "ridge"),
    "reference": "persistence",
}

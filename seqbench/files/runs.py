"""A user's labelled runs of a machine as the data of a `classify` task: a long CSV or Parquet file with a run column.

Each row is one sample: the run it belongs to, its label then, and the measurements. A window of samples is labelled by
its last one. Runs stay whole, so a model is always scored on runs that it has seen nothing of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import NewRows, Reading, Segments, TaskData
from seqbench.errors import UserError
from seqbench.files.splitting import split_groups
from seqbench.files.texts import LABEL_METRICS, OWN, read_labels, score_labels
from seqbench.readers.tables import Table, check_increasing, read_table
from seqbench.task import Source

__all__ = ["TIMES", "VARIANT", "RunOptions", "Scale", "cut", "encode_runs", "window_starts"]

Array = npt.NDArray[Any]
TIMES = ("time", "date", "timestamp", "datetime", "ds", "day", "hour", "step", "sample")


@dataclass(frozen=True)
class RunOptions:
    """Options of a file of labelled runs; ``run`` may name several columns, as in run=faultNumber,simulationRun."""

    sequence_length: int = 20
    run: str = "run"
    label: str = "label"
    time: str = ""
    val: float = 0.15
    test: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 100_000:
            raise UserError(f"--sequence-length must be from 1 to 100,000 samples, not {self.sequence_length}.")


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


def _read(source: Source, options: RunOptions) -> tuple[Table, Array, list[str]]:
    """The table, the run number of each row (in the order of the file), and the run names."""
    table = read_table(source.file)
    keys = [table.labels(name) for name in options.run.split(",")]
    each = keys[0] if len(keys) == 1 else ["/".join(key) for key in zip(*keys, strict=True)]
    names, first, runs = np.unique(each, return_index=True, return_inverse=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(names))
    runs = rank[runs]
    back = np.flatnonzero(np.diff(runs) < 0)
    if len(back):
        raise UserError(
            f"{table.where(int(back[0]) + 1)}: the rows of a run must follow each other; sort by {options.run}."
        )
    if options.time:
        check_increasing(table.times(options.time), table, options.time, runs)
    return table, runs, names[np.argsort(first)].tolist()


def load(source: Source, options: RunOptions) -> TaskData:
    """Windows over the user's runs, split by run, scaled by the training runs."""
    table, runs, names = _read(source, options)
    labels, classes = read_labels(table, options.label)
    named = {*options.run.split(","), options.label, *([options.time] if options.time else [])}
    named |= {name for name in table.names if name.lower() in TIMES}  # would tell how late it is
    features = table.numeric_columns(except_=named)
    if not features:
        raise UserError(f"no column of numbers is left beside {', '.join(sorted(named))}: there is nothing to read.")
    values = np.stack([table.numbers(name) for name in features], axis=1)
    starts = window_starts(runs, options.sequence_length)
    _check_any(starts, options)
    ends = starts + options.sequence_length - 1
    shares = options.val, options.test
    parts = split_groups(runs[ends], labels[ends], classes, shares, lambda i: table.where(int(ends[i])), noun="run")
    runs_of = {part: np.unique(runs[starts[rows]]) for part, rows in parts.items()}
    scale = Scale.of(values[np.isin(runs, runs_of["train"])])
    series = scale(values)
    splits = {part: cut(series, runs, starts[rows], options.sequence_length, labels) for part, rows in parts.items()}
    short = len(names) - len(np.unique(runs[starts]))
    notes = (
        f"{len(names):,} runs of {np.bincount(runs).min():,} to {np.bincount(runs).max():,} samples; train, "
        f"validation and test hold {len(runs_of['train'])}, {len(runs_of['val'])} and {len(runs_of['test'])}, whole.",
        f"{short} runs are shorter than {options.sequence_length} samples and left out.",
        f"read are {', '.join(features)}; columns of times and of texts are not.",
        "a window is labelled by its last sample; measurements are scaled by the training runs.",
    )
    about: dict[str, Any] = {"features": tuple(features), "classes": classes, "notes": notes, "fitted": scale.fitted}
    return TaskData(splits["train"], splits["val"], splits["test"], source.hashes, **about)


def _check_any(starts: Array, options: RunOptions) -> None:
    if not len(starts):
        raise UserError(f"no run has {options.sequence_length} samples, the length of a window (--sequence-length).")


def cut(
    series: Array, runs: Array, starts: Array, lookback: int, labels: Array, meta: Mapping[str, Array] | None = None
) -> Segments:
    """The windows at ``starts`` with just the rows that they read; groups are the runs."""
    kept = np.isin(runs, runs[starts])
    place = np.cumsum(kept) - 1
    ends = starts + lookback - 1
    return Segments(series[kept], place[starts], lookback, labels[ends], runs[starts], meta or {})


def encode_runs(source: Source, options: RunOptions, reading: Reading) -> NewRows:
    """New runs, without labels: one prediction for each window, named by its run and its last row."""
    table, runs, names = _read(source, options)
    values = np.stack([table.numbers(name) for name in reading.features], axis=1)
    starts = window_starts(runs, options.sequence_length)
    _check_any(starts, options)
    series = Scale.from_reading(reading)(values)
    ends = starts + options.sequence_length - 1
    blank = np.zeros(len(starts), dtype=np.int64)
    columns = {"run": np.array(names)[runs[ends]], "row": ends + 1}
    return NewRows(Segments(series, starts, options.sequence_length, blank, runs[ends]), columns)


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_runs,
    "options": RunOptions,
    "metrics": LABEL_METRICS,
    "score": score_labels,
    "description": "the state of the user's own machine from windows of its measurements",
    "split": "by run, class by class",
    "baselines": ("majority", "lda", "window-logistic", "window-boosting", "random-convolutions"),
    "reference": "majority",
}

"""Records as a DataFrame, one row per record: what tables, differences and pictures are made from.

Every record is read once and held against what its key vouches for, and its figures against the predictions beside it
where these are kept; one that was altered, moved or damaged is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqbench.board.bundle import directories_of
from seqbench.board.verify import check_baselines, left_out_of, verified
from seqbench.errors import UserError, nearest
from seqbench.jobs.record import Primary, RunRecord, hash_of
from seqbench.jobs.store import RECORD, Store
from seqbench.report.text import short

__all__ = [
    "Array",
    "Conditions",
    "Result",
    "chosen_results",
    "frame_of",
    "load_results",
    "results_of",
]

Array = npt.NDArray[np.float64]
VARIED = ("seed", "learning_rate")  # what records of one table may differ in, beside the model
FROM_TASK = ("steps", "batch_size", "evaluations", "patience", "dropout", "weight_decay")  # defaults are each task's
TRACK = ("hidden", "params", "budget")
TYPES = {  # of columns, by the annotation of a field; others hold objects
    "int": "int64",
    "int | None": "Int64",
    "float": "float64",
    "float | None": "float64",
    "bool | None": "boolean",
}


@dataclass(frozen=True)
class Conditions:
    """What all records of a table share; `load_results` says what each column holds."""

    task: str
    task_version: int
    task_code_sha256: str | None
    kind: str
    source: str
    options: dict[str, Any]
    data_sha256: str
    n_train: int
    n_val: int
    n_test: int
    budget: str
    device: str
    threads: int
    precision: str | None
    config: dict[str, Any]
    conditions: str
    dataset: str | None

    @property
    def data_name(self) -> str:
        """What the data set is called: a user's own by its name, others by their task."""
        return self.dataset or self.task

    @property
    def track(self) -> str:
        """`equal width` or `equal parameters`, with the figure that is equal."""
        params, hidden = self.config.get("params"), self.config.get("hidden") or ()
        return f"equal parameters ({params:,})" if params else f"equal width (hidden {', '.join(map(str, hidden))})"

    @property
    def control(self) -> str | None:
        """The control that these models were trained as, if it is one."""
        name = self.config.get("control", "none")
        return None if name == "none" else str(name)

    def setting(self) -> dict[str, Any]:
        """The part that means the same on every task, apart from budget, track and control."""
        apart = (*FROM_TASK, *TRACK, "control")
        config = {name: value for name, value in self.config.items() if name not in apart}
        return {**config, "device": self.device}

    def variant(self) -> dict[str, Any]:
        """The part that is each task's own."""
        return {
            **{name: self.config.get(name) for name in FROM_TASK},
            **{f"option {name}": value for name, value in self.options.items()},
            "task version": self.task_version,
            "task code": (self.task_code_sha256 or "installed")[:12],
            "source": self.source,
            "data": self.data_sha256[:12],
        }


@dataclass(frozen=True)
class Result(Conditions):
    """One record: the columns of `load_results`, None where nothing is known."""

    model: str
    model_version: int
    model_code_sha256: str | None
    hidden: str
    layers: int
    backbone: str
    params: int | None
    seed: int
    learning_rate: float
    status: str
    reason: str | None
    metric: str | None
    direction: Literal["higher", "lower"] | None
    unit: str | None
    value: float | None
    validation: float | None
    skill: float | None
    reference: str | None
    perfect: float | None
    share: bool | None
    left_out: Array | None
    baselines: dict[str, float | None]
    baselines_left_out: Array | None
    steps: int | None
    train_seconds: float | None
    cpu_seconds: float | None
    eval_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    interrupted: bool | None
    device_name: str
    python: str
    torch: str
    seqbench: str
    git_commit: str | None
    git_dirty: bool | None
    finished: str
    verified: bool | None
    bundle: str | None
    record: str
    key: str

    @property
    def folder(self) -> Path:
        """Where the record lies."""
        return Path(self.record).parent

    @property
    def outcome(self) -> str:
        """The status; of a run that went well and has a score that can't be told, that."""
        return "score not known" if self.status == "ok" and self.value is None else self.status


def load_results(results: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Every record under one directory or several, or in bundles of `submit`, as a DataFrame, one row per record.

    Of a record that several directories hold the one that finished last counts. Text columns hold None where nothing
    is known, numbers NaN or NA. Rows with the same ``conditions`` are comparable: they differ in the model, the seed
    and the learning rate only.

    ======================================================  ===========================================================
    column                                                  what it holds
    ======================================================  ===========================================================
    task, task_version, kind, source                        which problem, and where its data came from
    dataset                                                 what a user calls a set of their own
    model, model_version, hidden, layers, backbone          which model; ``hidden`` is written as for ``--hidden``
    budget, seed, learning_rate                             how it was trained
    status, reason                                          how it ended; ``ok`` or why there is no figure
    metric, direction, unit, value                          the primary metric and its figure on the test split
    validation                                              the same metric on the validation split
    skill                                                   0 at the baseline ``reference``, 1 at the value ``perfect``
    share                                                   whether ``value`` lies between 0 and 1; None if not kept
    params, steps                                           trained parameters; optimiser steps
    train_seconds, cpu_seconds                              in training: by the clock; computed by the process
    eval_seconds                                            seconds in evaluation
    tokens_per_second                                       time steps of the data in training, per second by the clock
    peak_memory_bytes                                       bytes
    interrupted                                             whether the run was interrupted and resumed
    device, device_name, threads, precision                 where it ran
    python, torch, seqbench, git_commit, git_dirty          versions
    finished                                                ISO 8601, UTC
    verified                                                whether ``value`` was computed again from the predictions
    bundle                                                  path of the bundle that it came in, if it did
    record, key                                             path of the record; SHA-256 of what decides the result
    conditions                                              the same text for comparable records
    n_train, n_val, n_test, data_sha256                     examples of each split, SHA-256 of the data
    task_code_sha256, model_code_sha256                     SHA-256 of a plug-in's file
    options, config                                         dict: of the task; of training, without what is varied
    baselines                                               dict: test figure of each baseline
    left_out                                                (G,) ``value`` without each of the G groups of test examples
    baselines_left_out                                      (B, G) the same of each baseline
    ======================================================  ===========================================================

    Raises:
        UserError: there are no records, or one is damaged, altered, moved, or from a newer seqbench, or a bundle holds
            one that its predictions do not bear out.
    """
    folders = _directories(results)
    frame = _frame(
        (record, folder, bundle)
        for root, bundle in directories_of(folders)
        for record, folder in Store(root).records(RunRecord)
    )
    if frame.empty:
        where = " or ".join(map(str, folders))
        raise UserError(f"no records in {where}: run some first, or name their directory.")
    return frame


def _directories(results: Any) -> list[str | Path]:
    """``results`` as a list; raises `UserError` for what names no directory."""
    several = isinstance(results, Iterable) and not isinstance(results, (str, bytes, Mapping, pd.DataFrame))
    folders = list(results) if several else [results]
    for folder in folders or [results]:
        if not isinstance(folder, (str, Path)) or "\0" in str(folder):
            raise UserError(f"{short(repr(folder), 60)} is no directory: take the path of one, or a list of paths.")
    return folders


def frame_of(runs: Iterable[tuple[RunRecord, Path]]) -> pd.DataFrame:
    """`load_results` of records that were read already, each with the folder that it lies in.

    Raises:
        UserError: one was altered or moved.
    """
    return _frame((record, folder, None) for record, folder in runs)


def _frame(runs: Iterable[tuple[RunRecord, Path, Path | None]]) -> pd.DataFrame:
    """`frame_of`, of each record also the bundle that it came in."""
    rows: dict[tuple[Path | None, str], Result] = {}
    primaries: dict[str, Primary] = {}
    for record, folder, bundle in runs:
        root = folder.parents[3]  # of task, model, cell and run
        _check(record, folder, Store(root))
        place = bundle, record.key
        if place in rows and rows[place].finished >= record.finished:
            continue
        row = _result(record, folder, root.resolve().joinpath(*folder.parts[-4:]) / RECORD)
        _check_primary(record.primary, primaries, row.conditions, folder)
        rows[place] = row if bundle is None else replace(row, bundle=str(bundle.resolve()))
    types = {column.name: TYPES[str(column.type)] for column in fields(Result) if column.type in TYPES}
    columns = [column.name for column in fields(Result)]
    return pd.DataFrame([vars(row) for row in rows.values()], columns=columns, dtype=object).astype(types)


def chosen_results(results: pd.DataFrame, **names: str | None) -> pd.DataFrame:
    """The rows of `load_results` with these names, as in ``chosen_results(results, model="gru,lstm", budget="quick")``.

    Args:
        names: by column, one name or several with commas; None or ``all`` takes every row.

    Raises:
        UserError: a name that no row has, answered with the nearest of those that there are; or nothing is left.
    """
    wanted = {column: text for column, text in names.items() if text not in (None, "all")}
    kept = results
    for column, text in wanted.items():
        known = sorted(set(results[column]))
        chosen = [name.strip() for name in str(text).split(",")]
        for name in chosen:
            if name not in known:
                raise UserError(nearest(name, known, column).removesuffix(".") + " in these records.")
        kept = kept[kept[column].isin(chosen)]
    if kept.empty:
        raise UserError(f"no record has {' and '.join(f'{column} {text}' for column, text in wanted.items())}.")
    return kept


def results_of(frame: pd.DataFrame) -> list[Result]:
    """The rows of a frame with the columns of `load_results`."""
    cells = frame[[column.name for column in fields(Result)]].astype(object)
    return [Result(*row) for row in cells.where(cells.notna(), None).itertuples(index=False, name=None)]


def _result(record: RunRecord, folder: Path, path: Path) -> Result:
    """The columns of a record: the fields of its parts, some under another name, and what is computed from them."""
    task, model, primary, device = record.task, record.model, record.primary, record.environment.device
    config = {name: value for name, value in record.config.items() if name not in VARIED}
    apart = {"kind", "n_train", "n_val", "n_test", "sequence_length", "dataset", "test_file", "about"}
    about = task.model_dump(exclude=apart)
    left_out, baselines_left_out = left_out_of(record, folder)
    check_baselines(record, baselines_left_out, folder)
    columns: dict[str, Any] = dict(record)
    for part in (task, model, primary, record.cost, record.environment):
        columns |= dict(part or {})
    columns |= {
        "task": task.name,
        "task_version": task.version,
        "task_code_sha256": task.code_sha256,
        "model": model.name,
        "model_version": model.version,
        "model_code_sha256": model.code_sha256,
        "hidden": ",".join(map(str, model.hidden)),
        "learning_rate": float(record.config["learning_rate"]),
        "precision": config.get("precision"),
        "config": config,
        "conditions": hash_of({"task": about, "config": config, "device": device})[:16],
        "metric": primary.name if primary else None,
        "validation": record.metrics["val"][primary.name] if primary else None,
        "left_out": left_out,
        "baselines_left_out": baselines_left_out,
        "verified": verified(record, folder),
        "record": str(path),
    }
    known: dict[str, Any] = {column.name: columns.get(column.name) for column in fields(Result)}
    return Result(**known)


def _check(record: RunRecord, folder: Path, store: Store) -> None:
    """Refuse a record that is not where it belongs or contradicts itself: somebody moved or edited it.

    The key holds what was asked of the run (`RunRecord.content_key`), so everything else is held against that.
    """
    place = store.folder(record.place, record.budget, record.seed, record.key)
    if folder.parent != place:
        raise UserError(f"{folder / RECORD} has been moved or edited: it belongs in {place}.")
    config, primary, test = record.config, record.primary, record.metrics.get("test", {})
    hidden, params = config.get("hidden"), config.get("params")
    consistent = {
        "seed": record.seed == config.get("seed"),
        "budget": record.budget == config.get("budget"),
        "threads": record.environment.threads == config.get("threads"),
        "backbone": record.model.backbone == config.get("backbone"),
        "learning rate": isinstance(config.get("learning_rate"), (int, float)),
        "steps": isinstance(config.get("steps"), int),
        "width": (isinstance(hidden, list) and all(isinstance(width, int) for width in hidden))
        != isinstance(params, int),
        "status": (record.status == "ok") == (primary is not None) and (record.cost is not None or primary is None),
        "primary": primary is None or test.get(primary.name) == primary.value,
        "validation": primary is None or primary.name in record.metrics.get("val", {}),
        "reference": primary is None or primary.reference is None or primary.reference in record.baselines,
    }
    for name, good in consistent.items():
        if not good:
            raise UserError(f"{folder / RECORD} has been altered: its {name} contradicts the rest of it.")


def _check_primary(primary: Primary | None, primaries: dict[str, Primary], conditions: str, folder: Path) -> None:
    """Comparable records have one primary metric; those from before `reference` and `perfect` were kept lack these."""
    if primary is None:
        return
    known = primaries.setdefault(conditions, primary)
    if known.perfect is None:
        primaries[conditions] = primary
    kinds = {(each.name, each.direction, each.unit) for each in (known, primary)}
    ends = {(each.reference, each.perfect) for each in (known, primary) if each.perfect is not None}
    if len(kinds) > 1 or len(ends) > 1:
        raise UserError(f"{folder / RECORD} has been altered: others of this task have another primary metric.")

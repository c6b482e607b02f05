"""Records as a DataFrame, one row per record: what tables, differences and pictures are made from.

Every record is read once and held against what its key vouches for; one that was altered, moved or damaged is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqbench.errors import UserError
from seqbench.jobs.record import Primary, RunRecord, hash_of
from seqbench.jobs.store import LEFT_OUT, RECORD, Store

__all__ = ["Array", "load_results"]

Array = npt.NDArray[np.float64]
VARIED = ("seed", "learning_rate")  # what records of one table may differ in, beside the model
COSTS = (
    "steps", "train_seconds", "cpu_seconds", "eval_seconds", "tokens_per_second", "peak_memory_bytes", "interrupted"
)  # fmt: skip
TYPES = {
    **dict.fromkeys(("value", "validation", "skill", "perfect", "learning_rate"), "float64"),
    **dict.fromkeys(("train_seconds", "cpu_seconds", "eval_seconds", "tokens_per_second"), "float64"),
    **dict.fromkeys(("params", "steps", "peak_memory_bytes"), "Int64"),  # missing where a run failed
    **dict.fromkeys(("task_version", "model_version", "layers", "seed", "threads"), "int64"),
    **dict.fromkeys(("n_train", "n_val", "n_test"), "int64"),
    **dict.fromkeys(("interrupted", "git_dirty"), "boolean"),
}


def load_results(results: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Every record under one directory or several as a DataFrame, one row per record.

    Of a record that several directories hold the one that finished last counts. Text columns hold None where nothing
    is known, numbers NaN or NA. Rows with the same ``conditions`` are comparable: they differ in the model, the seed
    and the learning rate only.

    ======================================================  ===========================================================
    column                                                  what it holds
    ======================================================  ===========================================================
    task, task_version, kind, source                        which problem, and where its data came from
    model, model_version, hidden, layers, backbone          which model; ``hidden`` is written as for ``--hidden``
    budget, seed, learning_rate                             how it was trained
    status, reason                                          how it ended; ``ok`` or why there is no figure
    metric, direction, unit, value                          the primary metric and its figure on the test split
    validation                                              the same metric on the validation split
    skill                                                   0 at the baseline ``reference``, 1 at the value ``perfect``
    params, steps                                           trained parameters; optimiser steps
    train_seconds, cpu_seconds                              in training: by the clock; computed by the process
    eval_seconds                                            seconds in evaluation
    tokens_per_second                                       time steps of the data in training, per second by the clock
    peak_memory_bytes                                       bytes
    interrupted                                             whether the run was interrupted and resumed
    device, device_name, threads, precision                 where it ran
    python, torch, seqbench, git_commit, git_dirty          versions
    finished                                                ISO 8601, UTC
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
        UserError: there are no records, or one is damaged, altered, moved, or from a newer seqbench.
    """
    folders = [results] if isinstance(results, (str, Path)) else list(results)
    rows: dict[str, dict[str, Any]] = {}
    primaries: dict[str, Primary] = {}
    shared: dict[str, Any] = {}
    for root in folders:
        store, home = Store(root), Path(root).resolve()
        for record, folder in store.records(RunRecord):
            _check(record, folder, store)
            known = rows.get(record.key)
            if known is not None and known["finished"] >= record.finished:
                continue
            row = _row(record, home.joinpath(*folder.parts[-4:]) / RECORD, shared)
            _check_primary(record.primary, primaries, row["conditions"], folder)
            row["left_out"], row["baselines_left_out"] = _left_out(record, folder, row["conditions"], shared)
            rows[record.key] = row
    if not rows:
        where = " or ".join(map(str, folders))
        raise UserError(f"no records in {where}: run some first, or name their directory.")
    return pd.DataFrame(list(rows.values()), dtype=object).astype(TYPES)


def _row(record: RunRecord, path: Path, shared: dict[str, Any]) -> dict[str, Any]:
    """The columns of one record; ``shared`` keeps one copy of what many records hold alike."""
    task, model, primary, environment = record.task, record.model, record.primary, record.environment
    config = {name: value for name, value in record.config.items() if name not in VARIED}
    about = task.model_dump(exclude={"kind", "n_train", "n_val", "n_test", "sequence_length"})
    conditions = hash_of({"task": about, "config": config, "device": environment.device})[:16]
    cost = record.cost.model_dump() if record.cost else {}
    return {
        "task": task.name,
        "task_version": task.version,
        "kind": task.kind,
        "source": task.source,
        "model": model.name,
        "model_version": model.version,
        "hidden": ",".join(map(str, model.hidden)),
        "layers": model.layers,
        "backbone": model.backbone,
        "budget": record.budget,
        "seed": record.seed,
        "learning_rate": float(record.config["learning_rate"]),
        "status": record.status,
        "reason": record.reason,
        "metric": primary.name if primary else None,
        "direction": primary.direction if primary else None,
        "unit": primary.unit if primary else None,
        "value": primary.value if primary else None,
        "validation": record.metrics["val"][primary.name] if primary else None,
        "skill": record.skill,
        "reference": primary.reference if primary else None,
        "perfect": primary.perfect if primary else None,
        "params": model.params,
        **{name: cost.get(name) for name in COSTS},
        "device": environment.device,
        "device_name": environment.device_name,
        "threads": environment.threads,
        "precision": config.get("precision"),
        **environment.model_dump(include={"python", "torch", "seqbench", "git_commit", "git_dirty"}),
        "finished": record.finished,
        "record": str(path),
        "key": record.key,
        "conditions": conditions,
        "n_train": task.n_train,
        "n_val": task.n_val,
        "n_test": task.n_test,
        "data_sha256": task.data_sha256,
        "task_code_sha256": task.code_sha256,
        "model_code_sha256": model.code_sha256,
        "options": shared.setdefault(f"options {conditions}", task.options),
        "config": shared.setdefault(f"config {conditions}", config),
        "baselines": record.baselines,
    }


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


def _left_out(
    record: RunRecord, folder: Path, conditions: str, shared: dict[str, Any]
) -> tuple[Array, Array] | tuple[None, None]:
    """(G,) and (B, G) figures without each test group, of the model and its baselines.

    None in runs without a figure, and in those from before they were kept.
    """
    path = folder / LEFT_OUT
    if record.status != "ok":
        return None, None
    try:
        with path.open("rb") as file:  # np.load would take a zip archive too
            rows: Array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None, None
    except Exception as error:  # a damaged header can end in almost any
        raise UserError(f"{path} can't be read: {error}. Run the cell again with --force.") from None
    if rows.ndim != 2 or len(rows) != 1 + len(record.baselines) or rows.dtype != np.float64:
        raise UserError(f"{path} does not fit its record: run the cell again with --force.")
    baselines = shared.setdefault(f"baselines {conditions}", rows[1:].copy())
    if not np.array_equal(baselines, rows[1:], equal_nan=True):
        baselines = rows[1:].copy()
    return rows[0].copy(), baselines

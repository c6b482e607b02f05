"""What a tracker of experiments is told of a record: settings, figures, the learning curve, and how the run ended.

Names follow what they are: ``curve/val_accuracy`` is a figure by step; ``test/accuracy``, ``val/accuracy``, ``skill``,
``baseline/majority`` and ``cost/train_seconds`` are those of the whole run. What can't be told has no figure, and its
name stands in ``not known``. A run that did not end well is there, too, as one that failed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seqbench.board.frame import load_results
from seqbench.errors import UserError
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store

__all__ = ["ENDS", "Ending", "Point", "TrackedRun", "safe_name", "tracked_runs"]

FORMAT = 3  # of what is told; raised when that changes, so that what was exported before is exported again
CURVE = "curve.jsonl"

Ending = Literal["finished", "failed", "killed"]
ENDS: dict[str, Ending] = {"ok": "finished", "timeout": "killed", "pruned": "killed"}  # all others failed


@dataclass(frozen=True)
class Point:
    """One check of the learning curve: the step, when it was in seconds since 1970, and the figures by name."""

    step: int
    time: float
    figures: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker has it.

    Attributes:
        id: 16 letters and digits, the same for the same run.
        digest: SHA-256 of all that is told of it.
        place: folders that it may lie in, of safe names.
        group: the data that it was trained on, a safe name.
        name: the run among others of its group.
        ending: how it ended, in the few words that trackers have; `about` has the status and the reason.
        started, ended: seconds since 1970.
        settings: what was asked for; numbers, texts and truth values.
        figures: of the whole run.
        step: the last that was trained.
        curve: in the order of steps.
        about: where it ran and what became of it, as texts.
        record: the whole record as JSON.
    """

    id: str
    digest: str
    place: tuple[str, ...]
    group: str
    name: str
    ending: Ending
    started: float
    ended: float
    settings: Mapping[str, float | str | bool]
    figures: Mapping[str, float]
    step: int
    curve: Sequence[Point]
    about: Mapping[str, str]
    record: str


def tracked_runs(results: Iterable[Path]) -> list[TrackedRun]:
    """Every run in directories of records, or in bundles, as the leaderboard reads them.

    Raises:
        UserError: there are none, one is damaged or was altered, or a curve is damaged.
    """
    rows = load_results(list(results))[["record", "bundle"]]
    return [_tracked(Path(path).parent, None if pd.isna(bundle) else str(bundle)) for path, bundle in rows.to_numpy()]


def safe_name(text: str) -> str:
    """``text`` as a name that no path and no tracker stumbles over: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:64] or "unnamed"


def _tracked(folder: Path, bundle: str | None) -> TrackedRun:
    record = Store.read(folder)
    assert isinstance(record, RunRecord)  # the board has read it
    text = record.to_json()
    lines = _lines(folder)
    theirs = "" if bundle is None else f"{safe_name(Path(bundle).stem)}-{_content(bundle)[:8]}"
    figures, unknown = _figures(record)
    started, ended = (datetime.fromisoformat(moment).timestamp() for moment in (record.started, record.finished))
    ended = max(started, ended)
    # seconds of a curve are those of training over all starts of a run, and the record's start is the last one
    begun = min(started, ended - max((_seconds(raw, folder) for raw in lines), default=0.0))
    curve = [_point(raw, begun, folder) for raw in lines]
    steps = record.cost.steps if record.cost else max((point.step for point in curve), default=0)
    cell = f"{record.budget}-seed{record.seed}-{record.key[:12]}"
    names = [record.model.name, record.budget, f"seed {record.seed}", record.key[:8]]
    return TrackedRun(
        id=_hash(theirs, record.key)[:16],
        digest=_hash(str(FORMAT), theirs, text, *map(str, lines)),
        place=(*([theirs] if theirs else []), *record.place, cell),
        group=safe_name(record.task.dataset or record.task.name),
        name=" ".join([*names, *([f"[{theirs}]"] if theirs else [])]),
        ending=ENDS.get(record.status, "failed"),
        started=begun,
        ended=ended,
        settings=_settings(record),
        figures=figures,
        step=steps,
        curve=curve,
        about=_about(record, unknown, theirs),
        record=text,
    )


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _content(bundle: str) -> str:
    """The hash of a file: two of the same name are two."""
    return hashlib.sha256(Path(bundle).read_bytes()).hexdigest()


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The points of the curve as they were kept; none where a run ended before the first."""
    path = folder / CURVE
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is damaged: run the cell again with --force.") from None


def _seconds(raw: Mapping[str, Any], folder: Path) -> float:
    """Of training, without the reading of validation."""
    try:
        seconds = float(raw.get("seconds") or 0.0)
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"{folder / CURVE} is damaged: run the cell again with --force.")
    return seconds


def _point(raw: Mapping[str, Any], begun: float, folder: Path) -> Point:
    seconds = _seconds(raw, folder)
    try:
        known = {f"curve/{name}": float(value) for name, value in raw.items() if name != "step" and value is not None}
        step = int(raw["step"])
        if not all(map(math.isfinite, known.values())):
            raise ValueError
        return Point(step, begun + seconds, known)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(f"{folder / CURVE} is damaged: run the cell again with --force.") from None


def _settings(record: RunRecord) -> dict[str, float | str | bool]:
    """What was asked for: the task with its options, the model, and the resolved configuration."""
    task, model = record.task, record.model
    asked: dict[str, Any] = {
        "task": task.name,
        "task_version": task.version,
        "kind": task.kind,
        "source": task.source,
        "data_sha256": task.data_sha256,
        **{f"n_{part}": getattr(task, f"n_{part}") for part in ("train", "val", "test")},
        "sequence_length": task.sequence_length,
        **{f"option/{name}": value for name, value in task.options.items()},
        "model": model.name,
        "model_version": model.version,
        "parameters": model.params,
        "state_size": model.state_size,
        "causal": model.causal,
        **record.config,
        "hidden": list(model.hidden),
        "layers": model.layers,
        "budget": record.budget,
        "seed": record.seed,
    }
    return {name: plain for name, value in asked.items() if (plain := _plain(value)) is not None}


def _plain(value: Any) -> float | str | bool | None:
    """A setting as trackers can hold it; several values become a text with commas."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)


def _figures(record: RunRecord) -> tuple[dict[str, float], list[str]]:
    """Those of the whole run, and the names of those that can't be told."""
    primary, cost = record.primary, record.cost
    told: dict[str, Any] = {
        f"{part}/{name}": value for part, scores in record.metrics.items() for name, value in scores.items()
    }
    if primary is not None:
        told |= {"primary": primary.value, "skill": record.skill}
    told |= {f"baseline/{name}": value for name, value in record.baselines.items()}
    told |= {f"cost/{name}": value for name, value in (cost.model_dump() if cost else {}).items() if value is not None}
    return {name: float(value) for name, value in told.items() if value is not None}, [
        name for name, value in told.items() if value is None
    ]


def _about(record: RunRecord, unknown: Sequence[str], theirs: str) -> dict[str, str]:
    primary = record.primary
    told: Iterator[tuple[str, Any]] = iter(
        [
            ("status", record.status),
            ("reason", record.reason),
            ("primary", primary and primary.name),
            ("direction", primary and primary.direction),
            ("unit", primary and primary.unit),
            ("reference", primary and primary.reference),
            ("not known", ", ".join(unknown)),
            ("bundle", theirs),
            ("key", record.key),
            ("started", record.started),
            ("finished", record.finished),
            *((f"environment/{name}", value) for name, value in record.environment.model_dump().items()),
        ]
    )
    return {name: str(value) for name, value in told if value not in (None, "")}

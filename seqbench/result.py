"""The end of a run, as a reader wants it: the metric with its interval, the baselines beside it, and what it cost."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from seqbench.data.splits import Truth
from seqbench.errors import UserError
from seqbench.jobs.record import Record
from seqbench.stats import Interval, jackknife_interval
from seqbench.task import TASKS, TaskSpec

if TYPE_CHECKING:  # torch, which reading a record does not need
    from seqbench.experiment import Outcome

__all__ = ["format_value", "metric_interval", "primary_interval", "read_predictions", "show_result"]


def read_predictions(folder: Path) -> tuple[np.ndarray, Truth]:
    """Predictions and truth of every test example, from ``predictions.npz`` (never a pickle)."""
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            meta = {name.removeprefix("meta_"): kept[name] for name in kept.files if name.startswith("meta_")}
            return kept["prediction"], Truth(kept["target"], kept["group"], meta)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError(
            f"{folder / 'predictions.npz'} is missing or damaged: run the cell again with --force."
        ) from None


def primary_interval(spec: TaskSpec, predictions: np.ndarray, truth: Truth) -> Interval:
    """95% interval of the task's primary metric over the groups of the test split."""
    return metric_interval(spec, spec.primary.name, predictions, truth)


def metric_interval(spec: TaskSpec, metric: str, predictions: np.ndarray, truth: Truth) -> Interval:
    """95% interval of one of the task's metrics over the groups of the test split."""
    return jackknife_interval(lambda kept: spec.score(predictions[kept], truth[kept])[metric], truth.groups)


def format_value(value: float) -> str:
    """Four significant figures, without an exponent where one can do without."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def show_result(outcome: Outcome) -> None:
    """Print the record of one cell."""
    record = outcome.record
    state = f"stored result of {record.finished}, {_code(record)} (--force runs it again)" if outcome.stored else "done"
    control = "" if record.config["control"] == "none" else f" · CONTROL {record.config['control']}"
    about = f"{record.task.name} v{record.task.version} · {record.model.name} · {record.budget} · seed {record.seed}"
    print(f"{about} · {record.environment.device}{control}: {state}\n")
    if record.status == "ok":
        _show_figures(record, outcome.folder)
    else:
        print(f"status  {record.status}: {record.reason}")
    print(f"record  {outcome.folder / 'record.json'}")


def _code(record: Record) -> str:
    """Which seqbench made the record: figures of another version need not be those of this one."""
    commit = record.environment.git_commit
    dirty = " with changes" if record.environment.git_dirty else ""
    return f"seqbench {record.environment.seqbench}" + (f" at {commit[:9]}{dirty}" if commit else "")


def _show_figures(record: Record, folder: Path) -> None:
    spec = TASKS.get(record.task.name).at(record.task.source)
    assert record.primary is not None and record.cost is not None
    predictions, truth = read_predictions(folder)
    interval = primary_interval(spec, predictions, truth)
    reference = record.baselines[spec.reference]
    rows: list[tuple[str, float, Interval | None]] = [
        (f"{record.model.name} (this run)", record.primary.value, interval)
    ]
    rows += [(name, value, None) for name, value in record.baselines.items()]
    rows.sort(key=lambda row: row[1], reverse=spec.primary.direction == "higher")
    unit = f" ({spec.primary.unit})" if spec.primary.unit else ""
    table = [
        (
            name,
            format_value(value),
            f"{format_value(within.low)} to {format_value(within.high)}" if within else "",
            f"{spec.skill(value, reference) + 0.0:.3f}",  # no -0.000
        )
        for name, value, within in rows
    ]
    better = f"{spec.primary.direction} is better"
    print(
        tabulate(
            table,
            headers=["", f"test {spec.primary.name}{unit}, {better}", "95% interval", f"skill over {spec.reference}"],
            tablefmt="github",
            disable_numparse=True,
        )
    )
    test = record.metrics["test"]
    others = {name: value for name, value in test.items() if name not in (spec.primary.name, "n_scored")}
    headlines = {m.name: metric_interval(spec, m.name, predictions, truth) for m in spec.metrics[1:] if m.headline}
    for name, found in headlines.items():
        print(
            f"\n{name}: {format_value(others.pop(name))} ({format_value(found.low)} to {format_value(found.high)})",
            end="",
        )
    if others:
        print("\nalso    " + ", ".join(f"{name} {format_value(value)}" for name, value in others.items()))
    print(f"\nscored  {test['n_scored']:,.0f} predictions; the interval is over test groups, not over seeds")
    _show_cost(record)
    if (folder / "sample.txt").is_file():
        print("sample  " + (folder / "sample.txt").read_text(encoding="utf-8").replace("\n", "\n        "))


def _show_cost(record: Record) -> None:
    cost = record.cost
    assert cost is not None and record.model.params is not None
    flops = "FLOPs not counted" if cost.flops_per_sample is None else f"{cost.flops_per_sample / 1e6:.3g} MFLOP"
    width = ",".join(map(str, record.model.hidden))
    print(f"model   {record.model.params:,} parameters, width {width}, {record.model.state_size:,} floats of state")
    print(
        f"cost    {cost.train_seconds:.1f} s for {cost.steps:,} steps, {cost.tokens_per_second:,.0f} tokens/s, "
        f"{flops} a sample forward, peak {cost.peak_memory_bytes / 2**20:,.0f} MiB"
    )

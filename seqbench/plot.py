"""The picture of one run: the learning curve, and the test predictions as its kind of task is best seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqbench.data.splits import Truth
from seqbench.jobs.record import Record
from seqbench.metrics import bits_per_character
from seqbench.result import format_value, read_predictions
from seqbench.task import TASKS, TaskSpec

__all__ = ["draw"]

Panel = Callable[[Any, TaskSpec, np.ndarray, Truth, Path], None]
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#767676"


def draw(record: Record, folder: Path) -> Path:
    """Write ``plot.png`` beside the record in ``folder`` and return its path."""
    from matplotlib.figure import Figure  # optional, and half a second to import

    spec = TASKS.get(record.task.name).at(record.task.source)
    predictions, truth = read_predictions(folder)
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    curve, panel = figure.subplots(1, 2)
    _learning_curve(curve, record, spec, folder)
    PANELS.get(record.task.kind, _nothing)(panel, spec, predictions, truth, folder)
    figure.suptitle(f"{record.task.name} · {record.model.name} · {record.budget} · seed {record.seed}")
    path = folder / "plot.png"
    figure.savefig(path)
    return path


def _learning_curve(axes: Any, record: Record, spec: TaskSpec, folder: Path) -> None:
    points = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    name, unit = spec.primary.name, f" ({spec.primary.unit})" if spec.primary.unit else ""
    steps = [point["step"] for point in points]
    axes.plot(steps, [point[f"val_{name}"] for point in points], "o-", color=BLUE, label="validation")
    assert record.primary is not None
    axes.axhline(
        record.primary.value, color=BLUE, linestyle=":", label=f"test, best state: {format_value(record.primary.value)}"
    )
    styles = ("--", "-.", (0, (1, 2)), (0, (5, 1)))
    for i, (baseline, value) in enumerate(record.baselines.items()):
        axes.axhline(
            value,
            color=GREY,
            linestyle=styles[i % len(styles)],
            linewidth=1,
            label=f"{baseline}, test: {format_value(value)}",
        )
    shown = [point[f"val_{name}"] for point in points] + [record.primary.value, *record.baselines.values()]
    margin = 0.06 * (max(shown) - min(shown) or 1.0)
    axes.set(xlim=(0, 1.03 * max(steps)), ylim=(min(shown) - margin, max(shown) + margin))
    axes.set(xlabel="optimiser step", ylabel=name + unit, title=f"{spec.primary.direction} is better")
    axes.legend(fontsize=7)


def _confusion(axes: Any, spec: TaskSpec, predictions: np.ndarray, truth: Truth, folder: Path) -> None:
    names = json.loads((folder / "model.json").read_text(encoding="utf-8"))["classes"]
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (truth.targets, predictions.argmax(axis=1)), 1)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        axes.text(j, i, f"{counts[i, j]:,}\n{share[i, j]:.1%}", ha="center", va="center",
                  color="white" if share[i, j] > 0.5 else "black", fontsize=8)  # fmt: skip
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="predicted", ylabel="true", title="test")
    axes.set_xticklabels(names)
    axes.set_yticklabels(names)


def _forecast(axes: Any, spec: TaskSpec, predictions: np.ndarray, truth: Truth, folder: Path) -> None:
    """The median and the worst test window by squared error, so that not only pretty ones are shown."""
    error = ((predictions - truth.targets) ** 2).mean(axis=(1, 2))
    order = np.argsort(error)
    ahead = np.arange(1, predictions.shape[1] + 1)
    for name, index, colour in (("median", order[len(order) // 2], BLUE), ("worst", order[-1], ORANGE)):
        axes.plot(ahead, truth.targets[index, :, 0], color=colour, label=f"{name} window: truth")
        axes.plot(ahead, predictions[index, :, 0], "--", color=colour, label=f"{name} window: forecast")
    axes.set(xlabel="steps ahead", ylabel="target, scaled by training mean and deviation", title="test")
    axes.legend(fontsize=7)


def _text(axes: Any, spec: TaskSpec, predictions: np.ndarray, truth: Truth, folder: Path) -> None:
    bits = [bits_per_character(predictions[[i]], truth.targets[[i]]) for i in range(len(truth))]
    axes.plot(truth.groups, bits, color=BLUE, linewidth=1)
    axes.set(xlabel="block of 2,048 test characters", ylabel="bits per character", title="test")


def _nothing(axes: Any, spec: TaskSpec, predictions: np.ndarray, truth: Truth, folder: Path) -> None:
    axes.set_axis_off()


PANELS: dict[str, Panel] = {"classify": _confusion, "forecast": _forecast, "generate": _text}

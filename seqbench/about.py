"""What prepared data holds, as a careful person asks: origin, split, sizes, balance, ranges, an example, baselines."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import (
    Pairs,
    RaggedTags,
    Segments,
    Split,
    Stream,
    Tagged,
    TaskData,
    Windows,
    text_of,
    texts_of,
    unit_of,
)
from seqbench.prepare import Prepared, baselines_not_applicable
from seqbench.report.text import format_value
from seqbench.task import TaskSpec

__all__ = ["about_data_of", "about_prepared", "baselines_about", "first_symbols", "natural_targets"]

Array = npt.NDArray[np.float64]
Scores = dict[str, dict[str, dict[str, float]]]
MOST_METRICS = 6  # of each baseline, in a table that fits a terminal
WIDTH = 110  # of an example


def about_prepared(prepared: Prepared, baselines: Scores) -> dict[str, Any]:
    """What the data holds: origin, split, sizes, balance or ranges, an example, and its baselines' scores."""
    return {**about_data_of(prepared), **baselines_about(prepared, baselines)}


def about_data_of(prepared: Prepared) -> dict[str, Any]:
    """What is known before any baseline is fitted."""
    spec, data = prepared.spec, prepared.data
    return {
        "task": spec.name,
        "version": spec.version,
        "kind": spec.kind,
        "description": spec.description,
        "source": prepared.source,
        "sources": list(spec.sources),
        "options": prepared.options,
        "licence": spec.licence,
        "citation": spec.citation,
        "SHA-256": dict(data.sources),
        "split": spec.split,
        "notes": list(data.notes),
        "sizes": _sizes(data.splits),
        "classes": _balance(prepared) if data.classes else [],
        "features": _ranges(prepared) if data.features else [],
        "vocabulary": list(data.vocabulary),
        "example": _example(prepared),
    }


def baselines_about(prepared: Prepared, baselines: Scores) -> dict[str, Any]:
    """The baselines' scores, and why others of the task have none."""
    return {
        "baselines": _scores(prepared.spec, baselines),
        "not applicable": baselines_not_applicable(prepared),
    }


def _sizes(splits: dict[str, Split]) -> list[dict[str, Any]]:
    rows = []
    for name, split in splits.items():
        lengths = split.lengths if split.lengths is not None else np.array([split.sequence_length])
        counts = {
            "split": name,
            "examples": len(split),
            "scored": split.n_scored,
            "groups": len(np.unique(split.truth().groups)),
            "shortest": int(lengths.min()),
            "median length": int(np.median(lengths)),
            "longest": int(lengths.max()),
            "missing values": _missing(split),
        }
        rows.append(counts)
    return rows


def _missing(split: Split) -> int:
    """NaNs in what a model reads or is scored against."""
    arrays = (array for array in split.arrays().values() if np.issubdtype(array.dtype, np.floating))
    return sum(int(np.isnan(array).sum()) for array in arrays)


def _balance(prepared: Prepared) -> list[dict[str, Any]]:
    classes = prepared.data.classes
    rows: list[dict[str, Any]] = [{"class": name} for name in classes]
    for part, split in prepared.data.splits.items():
        shares = np.bincount(split.truth().targets, minlength=len(classes)) / split.n_scored
        for row, share in zip(rows, shares, strict=True):
            row[part] = float(share)
    return rows


def _natural(data: TaskData, values: npt.NDArray[Any]) -> Array:
    """(..., D) features as they were before scaling, from what a model reads.

    A task that scales keeps the mean and the deviation of its first features in ``fitted``; the others (flags, say)
    are read as they stand.
    """
    natural = values.astype(np.float64)
    mean, deviation = (np.array(data.fitted.get(name, ())) for name in ("mean", "deviation"))
    natural[..., : len(mean)] = natural[..., : len(mean)] * deviation + mean
    return natural


def natural_targets(data: TaskData, targets: npt.NDArray[Any]) -> Array:
    """Targets of a forecast as they were before scaling."""
    return np.asarray(targets.astype(np.float64) * data.fitted.get("scale", 1.0) + data.fitted.get("offset", 0.0))


def _inputs(data: TaskData, split: Split) -> Array:
    """(L, D) the steps of a split with features, before scaling."""
    arrays = split.arrays()
    steps: npt.NDArray[Any] = arrays["series"] if "series" in arrays else arrays["inputs"]
    if "scale" in arrays:
        steps = steps * arrays["scale"]
    return _natural(data, steps.reshape(-1, steps.shape[-1]))


def _ranges(prepared: Prepared) -> list[dict[str, Any]]:
    """Each feature before scaling: training mean, deviation and limits, and how far the test lies from them."""
    train, test = _inputs(prepared.data, prepared.data.train), _inputs(prepared.data, prepared.data.test)
    rows = []
    for i, name in enumerate(prepared.data.features):
        column, spread = train[:, i], train[:, i].std()
        figures = {"mean": column.mean(), "deviation": spread, "least": column.min(), "most": column.max()}
        figures["test mean"] = test[:, i].mean()
        small = 1e-6 * max(spread, np.abs(column).max())  # what is left of a zero after scaling and back
        clean = {what: 0.0 if abs(figure) < small else float(figure) for what, figure in figures.items()}
        rows.append({"feature": name, **clean})
    return rows


def first_symbols(vocabulary: tuple[str, ...]) -> str:
    """As many symbols as a line holds, those that can't be seen quoted."""
    shown = " ".join(symbol if symbol.isprintable() and symbol != " " else repr(symbol) for symbol in vocabulary[:60])
    return shown if len(shown) <= WIDTH else shown[:WIDTH].rsplit(" ", 1)[0] + " ..."


def _example(prepared: Prepared) -> str:
    """The first training example, as its kind of data is best read."""
    data, train = prepared.data, prepared.data.train
    batch = train[[0]]
    if isinstance(train, Stream):
        return repr(text_of(batch.inputs[0][:WIDTH], data.vocabulary, unit_of(data.fitted))[:WIDTH])
    if isinstance(train, Pairs):
        source = texts_of(train.collect(batch.inputs))[0]
        return f"{source} -> {texts_of(train.targets[:1])[0]}"
    if isinstance(train, Windows):
        batch = dataclasses.replace(train, relative=0.0)[[0]]
        ahead = ", ".join(map(format_value, natural_targets(data, batch.targets[0, :, 0][:6])))
        return f"last of {train.lookback} steps: {_step(data, batch.inputs[0, -1])}; target begins {ahead}"
    label = _target(prepared, batch.targets[0])
    length = int(train.lengths[0]) if train.lengths is not None else batch.inputs.shape[1]
    if data.vocabulary:
        separator = "" if all(len(symbol) == 1 for symbol in data.vocabulary[2:]) else " "
        text = separator.join(data.vocabulary[token] for token in batch.inputs[0, :length])
        if isinstance(train, RaggedTags):
            label = _tags(data, batch.targets[0, :length])
        return f"{text if len(text) <= 4 * WIDTH else text[: 4 * WIDTH] + ' ...'} -> {label}"
    noun = "last" if isinstance(train, Segments | Tagged | RaggedTags) else "first"
    return f"{length} steps, the {noun} {_step(data, batch.inputs[0, length - 1 if noun == 'last' else 0])} -> {label}"


def _target(prepared: Prepared, target: npt.NDArray[Any]) -> str:
    """A label, that of the last of several steps, or a number in its own units."""
    data = prepared.data
    if data.classes:
        return data.classes[int(np.ravel(target)[-1])]
    return format_value(float(natural_targets(data, np.asarray(target))))


def _tags(data: TaskData, targets: npt.NDArray[Any]) -> str:
    """Labels of all steps by their first letters, where these tell them apart, a point where one is not known."""
    letters = [name[0] for name in data.classes]
    if len(set(letters)) < len(letters):
        return " ".join(data.classes[label] if label >= 0 else "." for label in targets[: WIDTH // 4])
    text = "".join(letters[label] if label >= 0 else "." for label in targets)
    return text if len(text) <= 4 * WIDTH else text[: 4 * WIDTH] + " ..."


def _step(data: TaskData, values: npt.NDArray[Any]) -> str:
    natural = [0.0 if abs(value) < 1e-6 else value for value in _natural(data, values)]
    pairs = [f"{name} {format_value(value)}" for name, value in zip(data.features, natural, strict=True)]
    return ", ".join(pairs[:8]) + (f" and {len(pairs) - 8} more" if len(pairs) > 8 else "")


def _scores(spec: TaskSpec, baselines: Scores) -> list[dict[str, Any]]:
    """Validation and test of the primary metric, then the test's other metrics, one row per baseline."""
    primary, others = spec.primary, spec.metrics[1:MOST_METRICS]
    unit = f" ({primary.unit})" if primary.unit else ""
    rows, reference = [], spec.reference_of(baselines)
    for name, scores in baselines.items():
        row: dict[str, Any] = {"baseline": name + (" (skill 0)" if name == reference else "")}
        row |= {f"val {primary.name}{unit}": float(scores["val"][primary.name])}
        row |= {f"test {primary.name}": float(scores["test"][primary.name])}
        rows.append(row | {metric.name: float(scores["test"][metric.name]) for metric in others})
    return rows

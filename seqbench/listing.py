"""`list` and `data show`: what there is, and what a careful person asks of a data set. Only models need torch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from tabulate import tabulate

from seqbench.config import parse_options_text
from seqbench.data.splits import Rows, Split, Stream, Windows
from seqbench.prepare import Prepared, fit_baselines, prepare
from seqbench.registry import BASELINES, MODELS, TASKS
from seqbench.result import format_value
from seqbench.task import BUDGETS

__all__ = ["show_data", "show_lists"]


def _tasks() -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "version": spec.version,
            "kind": spec.kind,
            "metric": spec.primary.name,
            "reference": spec.reference,
            "baselines": list(spec.baselines),
            "options": {item.name: item.default for item in dataclasses.fields(spec.options)},
            "licence": spec.licence,
            "description": spec.description,
            "from": entry.origin,
        }
        for entry in TASKS.entries()
        for spec in [entry.value]
    ]


def _models() -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "version": entry.value.version,
            "aliases": list(entry.aliases),
            "can_be_causal": entry.value.mixer.can_be_causal,
            "description": entry.value.description,
            "from": entry.origin,
        }
        for entry in MODELS.entries()
    ]


def _baselines() -> list[dict[str, Any]]:
    return [
        {"name": entry.name, "kind": entry.value.kind, "description": entry.value.description, "from": entry.origin}
        for entry in BASELINES.entries()
    ]


def _budgets() -> list[dict[str, Any]]:
    return [
        {"task": spec.name, "budget": name, **dataclasses.asdict(spec.budgets[name])}
        for spec in (entry.value for entry in TASKS.entries())
        for name in BUDGETS
    ]


ONLY_JSON = {"version", "licence", "reference", "can_be_causal", "aliases"}  # would not fit a terminal
LISTS = {"tasks": _tasks, "models": _models, "baselines": _baselines, "budgets": _budgets}


def show_lists(what: str, *, as_json: bool) -> None:
    """Print one list, or all four."""
    chosen = {name: make() for name, make in LISTS.items() if what in ("all", name)}
    if as_json:
        print(json.dumps(chosen, indent=2, ensure_ascii=False))
        return
    for name, rows in chosen.items():
        shown = [{key: _cell(value) for key, value in row.items() if key not in ONLY_JSON} for row in rows]
        # numbers and truth values are text by now: tabulate must not read them again ("False" would become True)
        print(f"{name}\n{tabulate(shown, headers='keys', maxcolwidths=44, disable_numparse=True)}\n")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def show_data(task: str, option: tuple[str, ...]) -> None:
    """Print what the data of ``task`` holds."""
    prepared = prepare(task, dict(parse_options_text(option)))
    spec, data = prepared.spec, prepared.data
    options = ", ".join(f"{name}={value}" for name, value in prepared.options.items())
    facts = {
        "task": f"{spec.name} v{spec.version} ({spec.kind}): {spec.description}",
        "options": options or "none",
        "licence": spec.licence,
        "citation": spec.citation,
        **{f"SHA-256 of {name}": digest for name, digest in data.sources.items()},
        "split": spec.split,
    }
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print("\n".join(f"- {note}" for note in data.notes))
    print("\n" + tabulate(_sizes(data.splits), headers="keys", tablefmt="github", intfmt=","))
    if data.classes:
        print("\n" + tabulate(_balance(prepared), headers="keys", tablefmt="github", floatfmt=".1%"))
    print(f"\nexample: {_example(prepared)}")
    primary = spec.primary
    rows = [
        (
            name + (" (skill 0)" if name == spec.reference else ""),
            *(format_value(scores[part][primary.name]) for part in scores),
        )
        for name, scores in fit_baselines(prepared).items()
    ]
    unit = f" ({primary.unit})" if primary.unit else ""
    print(
        "\n"
        + tabulate(rows, headers=[f"{primary.name}{unit}", "val", "test"], tablefmt="github", disable_numparse=True)
    )


def _sizes(splits: dict[str, Split]) -> list[dict[str, Any]]:
    rows = []
    for name, split in splits.items():
        lengths = split.lengths if split.lengths is not None else np.array([split.sequence_length])
        rows.append(
            {
                "split": name,
                "examples": len(split),
                "scored": split.n_scored,
                "groups": len(np.unique(split.truth().groups)),
                "shortest": int(lengths.min()),
                "median length": int(np.median(lengths)),
                "longest": int(lengths.max()),
                "missing values": _missing(split),
            }
        )
    return rows


def _missing(split: Split) -> int:
    """NaNs in what a model reads or is scored against."""
    arrays = (array for array in split.arrays().values() if np.issubdtype(array.dtype, np.floating))
    return sum(int(np.isnan(array).sum()) for array in arrays)


def _balance(prepared: Prepared) -> list[dict[str, Any]]:
    classes = prepared.data.classes
    rows: list[dict[str, Any]] = [{"class": name} for name in classes]
    for part, split in prepared.data.splits.items():
        shares = np.bincount(split.truth().targets, minlength=len(classes)) / len(split)
        for row, share in zip(rows, shares, strict=True):
            row[part] = share
    return rows


def _example(prepared: Prepared) -> str:
    """The first training example, as its kind of data is best read."""
    data, train = prepared.data, prepared.data.train
    batch = train[[0]]
    if isinstance(train, Stream):
        return repr("".join(data.vocabulary[token] for token in batch.inputs[0][:120]))
    if isinstance(train, Windows):
        last = dict(zip(data.features, (round(float(value), 2) for value in batch.inputs[0, -1]), strict=False))
        ahead = ", ".join(f"{value:.2f}" for value in batch.targets[0, :, 0][:6])
        return f"last of {train.lookback} steps, scaled: {last}; target begins {ahead}"
    assert isinstance(train, Rows)
    label = data.classes[int(batch.targets[0])] if data.classes else str(batch.targets[0])
    length = int(train.lengths[0]) if train.lengths is not None else batch.inputs.shape[1]
    if data.vocabulary:
        separator = "" if all(len(symbol) == 1 for symbol in data.vocabulary) else " "
        return separator.join(data.vocabulary[token] for token in batch.inputs[0, :length]) + f" -> {label}"
    first = dict(zip(data.features, (round(float(value), 2) for value in batch.inputs[0, 0]), strict=False))
    return f"{length} steps, the first {first} -> {label}"

"""`list`: what there is. Only models need torch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tabulate import tabulate

from seqbench.baselines import BASELINES
from seqbench.models.mixer import MODELS
from seqbench.task import BUDGETS, TASKS

__all__ = ["show_lists"]


def _tasks() -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "version": spec.version,
            "kind": spec.kind,
            "metric": spec.primary.name,
            "reference": spec.reference,
            "baselines": list(spec.baselines),
            "sources": list(spec.sources),
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


ONLY_JSON = {"version", "licence", "reference", "sources", "can_be_causal", "aliases"}  # would not fit a terminal
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
        print(f"{name}\n{tabulate(shown, headers='keys', maxcolwidths=30, disable_numparse=True)}\n")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

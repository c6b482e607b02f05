"""`list`: what there is. Only models need torch; each list imports what it needs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from seqbench.cli.common import Common, Flag
from seqbench.report.terminal import print_table
from seqbench.report.text import NONE

__all__ = ["COMMAND", "List"]


def _tasks() -> list[dict[str, Any]]:
    from seqbench.task import TASKS

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
    from seqbench.models.mixer import MODELS  # torch, which the other lists do not need

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
    from seqbench.baselines import BASELINES

    return [
        {"name": entry.name, "kind": entry.value.kind, "description": entry.value.description, "from": entry.origin}
        for entry in BASELINES.entries()
    ]


def _budgets() -> list[dict[str, Any]]:
    from seqbench.task import BUDGETS, TASKS

    return [
        {"task": spec.name, "budget": name, **dataclasses.asdict(spec.budgets[name])}
        for spec in (entry.value for entry in TASKS.entries())
        for name in BUDGETS
    ]


ONLY_JSON = {"version", "licence", "reference", "sources", "can_be_causal", "aliases"}  # would not fit a terminal
LISTS = {"tasks": _tasks, "models": _models, "baselines": _baselines, "budgets": _budgets}


@dataclass(frozen=True)
class List:
    """List tasks, models, baselines and budgets."""

    what: tyro.conf.Positional[Literal["all", "tasks", "models", "baselines", "budgets"]] = "all"
    """Which."""
    json: Flag = False
    """As JSON."""
    common: Annotated[Common, tyro.conf.arg(name="")] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print one list, or all four."""
        chosen = {name: make() for name, make in LISTS.items() if self.what in ("all", name)}
        if self.json:
            print(json.dumps(chosen, indent=2, ensure_ascii=False))
            return 0
        for name, rows in chosen.items():
            built_in = all(str(row.get("from", "seqbench.")).startswith("seqbench.") for row in rows)
            left_out = {*ONLY_JSON, "from"} if built_in else ONLY_JSON
            shown = [{key: _cell(value) for key, value in row.items() if key not in left_out} for row in rows]
            print(name)
            print_table(list(shown[0]) if shown else [], [list(row.values()) for row in shown])
            print()
        return 0


COMMAND = List


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if value is None:
        return NONE
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

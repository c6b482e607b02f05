"""`list`: what there is. Each list imports what it needs.

Importing a model imports torch, which takes longer than all else here. So built-in models are read from their source;
a test holds that against what they register. Where a plug-in has brought torch, the registry is asked.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from seqbench.cli.common import FLAT, Common, show_json
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
            "reference": " or ".join(spec.references),
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
    from importlib.metadata import entry_points  # slow to import, and --help needs none

    if MIXER not in sys.modules and not entry_points(group="seqbench.models"):
        try:
            return sorted(_models_in_source(), key=lambda row: str(row["name"]))
        except ValueError:  # a model that is registered in another way than the built-in ones are
            pass
    from seqbench.models.mixer import MODELS

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


def _models_in_source() -> Iterator[dict[str, Any]]:
    """The classes that the modules of `seqbench.models` decorate with ``register_model``, as the registry has them.

    Raises:
        ValueError: what a decorator or a class says is no literal.
    """
    from seqbench import models

    files = sorted(Path(models.__path__[0]).glob("*.py"))
    nodes = [(file, node) for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    classes = {node.name: node for _, node in nodes if isinstance(node, ast.ClassDef)}
    for file, node in nodes:
        for call in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            if not (isinstance(call, ast.Call) and ast.unparse(call.func).endswith("register_model")):
                continue
            assert isinstance(node, ast.ClassDef)
            named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            (name,) = [*map(ast.literal_eval, call.args), *([named["name"]] if "name" in named else [])]
            yield {
                "name": name,
                "version": named.get("version", 1),
                "aliases": list(named.get("aliases", ())),
                "can_be_causal": _class_attribute(node, "can_be_causal", classes),
                "description": (ast.get_docstring(node) or "").strip().partition("\n")[0],
                "from": f"{models.__name__}.{file.stem}",
            }


def _class_attribute(node: ast.ClassDef, name: str, classes: Mapping[str, ast.ClassDef]) -> Any:
    """The value that a class, or the first of its bases that does, gives ``name``."""
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if value is not None and any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return ast.literal_eval(value)
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    for base in bases:
        return _class_attribute(base, name, classes)
    raise ValueError(f"{node.name} has no {name}")


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


def _recipes() -> list[dict[str, Any]]:
    from seqbench.task import recipes

    return [
        {
            "name": name,
            "task": spec.name,
            "kind": spec.kind,
            "settings": dict(recipe.settings),
            "smoke": dict(recipe.smoke),
            "departures": list(recipe.departures),
            "source": recipe.source,
            "description": recipe.about,
        }
        for name, (recipe, spec) in sorted(recipes().items())
    ]


MIXER = "seqbench.models.mixer"  # what imports torch
ONLY_JSON = {
    "version",
    "licence",
    "reference",
    "sources",
    "can_be_causal",
    "aliases",
    "settings",
    "smoke",
    "departures",
}  # would not fit a terminal
LISTS = {"tasks": _tasks, "models": _models, "baselines": _baselines, "budgets": _budgets, "recipes": _recipes}


@dataclass(frozen=True, kw_only=True)
class List:
    """List tasks, models, baselines, budgets and documented recipes."""

    what: Literal["all", "tasks", "models", "baselines", "budgets", "recipes"] = field(default="all", kw_only=False)
    """Which."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print one list, or all five."""
        chosen = {name: make() for name, make in LISTS.items() if self.what in ("all", name)}
        if self.common.json:
            show_json(chosen)
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

"""What groups are called: their track, and in what they differ from the usual ones. No torch.

A group's conditions fall into two parts. The *setting* (budget, track, device, precision, threads ...) means the same
on every task, so that groups of one setting make an overview across tasks. The *variant* (data, options, and what each
task's own defaults decide: steps, dropout ...) tells groups of one task apart. Of each the one with most records is
the usual one, and the others say how they differ from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from seqbench.board.collect import Group, ModelId
from seqbench.task import BUDGETS

__all__ = ["labels", "order", "settings", "track", "variants"]

FROM_TASK = ("steps", "batch_size", "evaluations", "patience", "dropout", "weight_decay")  # defaults are each task's
TRACK = ("hidden", "params", "budget")
Facts = dict[str, Any]


def track(group: Group) -> str:
    """`equal width` or `equal parameters`, with the figure that is equal."""
    params, hidden = group.config.get("params"), group.config.get("hidden") or ()
    return f"equal parameters ({params:,})" if params else f"equal width (hidden {', '.join(map(str, hidden))})"


def order(group: Group) -> tuple[Any, ...]:
    """Sort key of tables: budget, equal width before equal parameters, task, then the rest of the conditions."""
    budget = BUDGETS.index(group.budget) if group.budget in BUDGETS else len(BUDGETS)
    params, hidden = group.config.get("params") or 0, list(group.config.get("hidden") or ())
    rest = json.dumps([_setting(group), _variant(group)], sort_keys=True)
    return budget, group.budget, params > 0, params, hidden, group.task.name, rest


def settings(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Of each group, how its setting differs from the usual one of its budget and track."""
    found = _differences(groups, lambda group: (group.budget, track(group)), _setting)
    return [(*_control(group, said), *said) for group, said in zip(groups, found, strict=True)]


def variants(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Of each group, how its data and training differ from the usual ones of its task in that setting."""

    def alike(group: Group) -> tuple[str, ...]:
        return group.task.name, group.budget, track(group), _canonical(_setting(group))

    return _differences(groups, alike, _variant)


def labels(models: Iterable[ModelId], taken: Iterable[str] = ()) -> dict[ModelId, str]:
    """A name for each model: with its version or the hash of its code only where the name alone would not tell.

    ``taken`` are names of baselines; a model of such a name is called one.
    """
    baselines = set(taken)
    found = set(models)
    names = Counter(model.name for model in found)
    versions = Counter(model[:2] for model in found)
    return {
        model: model.name
        + (" (model)" if model.name in baselines else "")
        + (f" v{model.version}" if names[model.name] > 1 else "")
        + (f" code {model.code[:8] or 'installed'}" if versions[model[:2]] > 1 else "")
        for model in found
    }


def _control(group: Group, said: tuple[str, ...]) -> tuple[str, ...]:
    """A control is named even where it is the usual thing."""
    name = _said("control", group.config.get("control", "none"))
    return (name,) if name != "control none" and name not in said else ()


def _setting(group: Group) -> Facts:
    config = {name: value for name, value in group.config.items() if name not in (*FROM_TASK, *TRACK)}
    return {**config, "device": group.device}


def _variant(group: Group) -> Facts:
    task = group.task
    return {
        **{name: group.config.get(name) for name in FROM_TASK},
        **{f"option {name}": value for name, value in task.options.items()},
        "task version": task.version,
        "task code": (task.code_sha256 or "installed")[:12],
        "source": task.source,
        "data": task.data_sha256[:12],
    }


def _canonical(facts: Facts) -> str:
    return json.dumps(facts, sort_keys=True)


def _differences(
    groups: Sequence[Group], alike: Callable[[Group], tuple[str, ...]], facts: Callable[[Group], Facts]
) -> list[tuple[str, ...]]:
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for group in groups:
        counts.setdefault(alike(group), Counter())[_canonical(facts(group))] += len(group.cells)
    found = []
    for group in groups:
        seen = counts[alike(group)]
        usual, mine = json.loads(min(seen, key=lambda text: (-seen[text], text))), facts(group)
        names = sorted(name for name in {**usual, **mine} if usual.get(name) != mine.get(name))
        found.append(tuple(_said(name, mine.get(name)) for name in names))
    return found


def _said(name: str, value: Any) -> str:
    if name == "control" and value != "none":
        return f"CONTROL {value}"
    return f"no {name}" if value is None else f"{name} {value}"

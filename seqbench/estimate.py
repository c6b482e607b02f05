"""How long cells will take: from what like ones took, else from a few steps of training."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from seqbench.cell import build_model
from seqbench.device import device_name, settings
from seqbench.errors import NotApplicable, UserError
from seqbench.grid import Cell
from seqbench.models.backbone import check_causal
from seqbench.record import Record
from seqbench.store import Store
from seqbench.train import Diverged, fit

__all__ = ["estimate_seconds"]

STEPS = 4


def estimate_seconds(
    cells: Iterable[Cell], store: Store, say: Callable[[str], None] = lambda line: None
) -> dict[str, float]:
    """Seconds that each of ``cells`` will take, by key; the process's start is counted.

    Records of the same task, model, width and budget on the same device tell it best; where there is none, the model is
    trained for a few steps and reads the validation split once. A cell that fails then is taken to fail at once.
    """
    known: dict[tuple[object, ...], list[float]] = {}
    for record, _ in store.records():
        if record.cost is not None:
            spent = record.cost.train_seconds + record.cost.eval_seconds + record.cost.data_seconds
            known.setdefault(_like(record), []).append(spent)
    medians = {like: statistics.median(seconds) for like, seconds in known.items()}
    start, found = _process_start(), {}
    for cell in cells:
        like = _like(cell)
        if like not in medians:
            say(f"timing {cell.plan.config.task} {cell.plan.config.model}")
            medians[like] = _measure(cell)
        found[cell.key] = start + medians[like]
    return found


def _like(one: Record | Cell) -> tuple[object, ...]:
    """What decides how long it takes."""
    if isinstance(one, Record):
        task, model, config, device = one.task.name, one.model.name, one.config, one.environment.device_name
    else:
        plan = one.plan
        task, model, config, device = plan.config.task, plan.model.name, plan.resolved, device_name(plan.device)
    kept = {
        name: config.get(name) for name in ("hidden", "params", "layers", "backbone", "steps", "batch_size", "threads")
    }
    return task, model, device, *(str(value) for value in kept.values())


def _measure(cell: Cell) -> float:
    plan = cell.plan
    short = dataclasses.replace(plan.budget, steps=STEPS, evaluations=1)
    started = time.perf_counter()
    try:
        with settings(plan.device, plan.config):
            model = build_model(plan).to(plan.device)
            if type(model.head).causal:
                check_causal(model, plan.prepared.data, length=8)
            done = fit(model, plan.prepared.spec, plan.data, plan.config, short)
    except (NotApplicable, Diverged, UserError, RuntimeError, MemoryError):
        return time.perf_counter() - started
    evaluations = plan.budget.evaluations + 2  # validation and test once more at the end
    return done.train_seconds / STEPS * plan.budget.steps + done.eval_seconds * evaluations


def _process_start() -> float:
    """Seconds until a fresh process has imported what a cell needs."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import seqbench.cell"], check=False, capture_output=True)
    return time.perf_counter() - started

"""What a cell will do: its configuration resolved against the task, the data, the device, and the key of its result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqbench.config import RunConfig
from seqbench.device import CUDNN_LONGEST, resolve_device
from seqbench.environment import git_state
from seqbench.errors import UserError
from seqbench.models.backbone import check_widths
from seqbench.models.mixer import ModelSpec
from seqbench.prepare import Prepared, prepare
from seqbench.record import cell_key
from seqbench.registry import MODELS, TASKS
from seqbench.task import Budget, TaskData, parse_options
from seqbench.train import Report

__all__ = ["Listener", "Plan", "plan"]


@dataclass
class Listener:
    """Who hears of progress: lines of text, the number of steps when training starts, and steps with their loss."""

    say: Callable[[str], None] = lambda line: None
    begin: Callable[[int], None] = lambda steps: None
    report: Report = lambda step, loss: None


@dataclass(frozen=True)
class Plan:
    """A cell whose configuration is resolved and found to be possible."""

    config: RunConfig
    prepared: Prepared
    model: ModelSpec
    budget: Budget
    device: torch.device
    resolved: dict[str, Any]
    key: str
    data_seconds: float
    git: tuple[str | None, bool | None]

    @property
    def data(self) -> TaskData:
        """The prepared data, with permuted training targets under the control."""
        data = self.prepared.data
        if self.config.control == "none":
            return data
        generator = np.random.default_rng([self.config.seed, 1])
        return dataclasses.replace(data, train=data.train.shuffled(generator))


def plan(
    config: RunConfig,
    listener: Listener | None = None,
    ready: Callable[[], None] = lambda: None,
    prepared: Prepared | None = None,
) -> Plan:
    """Resolve ``config``: names, options, data, device, and the key under which the result is stored.

    ``ready`` is called when all that needs no data is found to be right, before data is prepared; ``prepared`` is the
    data where the caller has it already.

    Raises:
        UserError: for anything that could not run.
    """
    listener = listener or Listener()
    git = git_state()  # now: the checkout may change while the cell runs
    model = MODELS.get(config.model)
    parse_options(TASKS.get(config.task).at(config.source), config.task_options)
    if config.params is None:
        check_widths(config.model, config.widths)
    device = resolve_device(config)
    ready()
    started = time.perf_counter()
    if prepared is None:
        prepared = prepare(config.task, config.task_options, config.source, listener.say, config.data)
    data_seconds = time.perf_counter() - started
    usual = dataclasses.asdict(prepared.spec.training)
    config = dataclasses.replace(config, **{name: usual[name] for name in usual if getattr(config, name) is None})
    budget = prepared.spec.budgets[config.budget]
    if device.type == "cuda" and prepared.data.train.sequence_length > CUDNN_LONGEST:
        raise UserError(f"sequences of more than {CUDNN_LONGEST} steps do not run on CUDA: take --device cpu.")
    resolved = _resolve(config, budget)
    task = {
        "name": prepared.spec.name,
        "version": prepared.spec.version,
        "code_sha256": TASKS.entry(config.task).code,
        "options": prepared.options,
        "source": prepared.source,
        "data_sha256": prepared.data_sha256,
    }
    named = {"name": model.name, "version": model.version, "code_sha256": MODELS.entry(config.model).code}
    key = cell_key(task, named, resolved, device.type)
    return Plan(config, prepared, model, budget, device, resolved, key, data_seconds, git)


def _resolve(config: RunConfig, budget: Budget) -> dict[str, Any]:
    """What decides the result, apart from task, model and device, as JSON has it."""
    elsewhere = {"task", "model", "option", "sequence_length", "target", "source", "data", "device"}
    chosen = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    chosen = {name: value for name, value in chosen.items() if name not in elsewhere}
    chosen["hidden"] = None if config.params else list(config.widths)
    chosen["layers"] = config.n_layers
    return {**chosen, **dataclasses.asdict(budget)}

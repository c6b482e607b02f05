"""Long runs made short, ended anywhere, and what they leave."""

import json
import pkgutil

import numpy as np
import pytest

from seqbench.config import RunConfig
from seqbench.experiment import run_cell
from seqbench.jobs.job import Listener
from seqbench.jobs.store import Store
from seqbench.task import TASKS, Budget
from seqbench.training import CHECKPOINT

TOYS = ["toy-first", "toy-wave", "toy-text"]
SHORT = {
    "smoke": Budget(steps=20, batch_size=16, evaluations=4),
    "quick": Budget(steps=20, batch_size=16, evaluations=4),
    "standard": Budget(steps=60, batch_size=16, evaluations=6),
    "full": Budget(steps=198, batch_size=16, evaluations=22, patience=2),
}
EVERY = {"quick": 5, "standard": 10, "full": 9}  # steps from one check to the next
RATES = {"full": 1.0}  # it warms up over 1000 steps
CELL = {"task": "toy-first", "model": "lstm", "budget": "standard", "hidden": (16,), "layers": 2, "dropout": 0.3}


class Killed(BaseException):
    """What nothing catches, so that a run ends wherever it is."""


def run(out, report=lambda step, loss: None, force=False, say=None, begin=None, **config):
    rate = RATES.get(config.get("budget"), 0.03)
    chosen = RunConfig(**{**CELL, "learning_rate": rate, **config})
    listener = Listener()
    listener.step = report
    listener.say, listener.begin = say or listener.say, begin or listener.begin
    return run_cell(chosen, Store(out), force=force, listener=listener)


def killed(out, at=15, **config):
    """Run up to the report of step ``at``; returns the steps that were reported."""
    steps = []

    def report(step, loss):
        steps.append(step)
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        run(out, report, **config)
    return steps


def finished(out, **config):
    """The run's outcome and the steps that were reported."""
    steps = []
    return run(out, lambda step, loss: steps.append(step), **config), steps


def checkpoint_in(out):
    (path,) = out.rglob(CHECKPOINT)
    return path


def left(outcome):
    """All of a run that must be the same again."""
    record, folder = outcome.record, outcome.folder
    found = {name: getattr(record, name) for name in ("key", "status", "metrics", "primary", "baselines", "skill")}
    cost = record.cost
    rates = cost.samples_per_second, cost.tokens_per_second
    found["counts"] = cost.steps, *(round(rate * cost.train_seconds) for rate in rates)
    found["files"] = sorted(path.name for path in folder.iterdir())
    for name in ("model.safetensors", "leave-one-out.npy", "sample.txt"):
        found[name] = (folder / name).read_bytes() if name in found["files"] else None
    found["curve"] = curve_of(outcome)
    for point in found["curve"]:
        del point["seconds"]  # a clock's
    with np.load(folder / "predictions.npz") as kept:
        found |= {name: (kept[name].dtype, kept[name].shape, kept[name].tobytes()) for name in kept.files}
    return found


def curve_of(outcome):
    """The points of its learning curve; JSON keeps every bit of a number."""
    return [json.loads(line) for line in (outcome.folder / "curve.jsonl").read_text().splitlines()]


def shorten(monkeypatch):
    """Budgets of the toys that end within a second, with a checkpoint at every check whatever it costs."""
    monkeypatch.setattr("seqbench.training.CHECKPOINT_SHARE", float("inf"))
    for task in (*TOYS, "toy-pairs"):
        for name, budget in SHORT.items():
            monkeypatch.setitem(TASKS.get(task).budgets, name, budget)


class Undisturbed:
    """``undisturbed(task=..., model=...)`` is what that cell leaves where nothing goes wrong."""

    def __init__(self, folders):
        self.folders, self.made = folders, {}

    def __call__(self, **config):
        key = tuple(sorted(config.items()))
        if key not in self.made:
            outcome = run(self.folders.mktemp("undisturbed"), **config)
            assert outcome.record.status == "ok" and not outcome.record.cost.interrupted
            assert [path.name for path in outcome.folder.parent.iterdir()] == ["run-1"]
            self.made[key] = left(outcome)
        return self.made[key]


def dies(patch, target, call, error=Killed):
    """The ``call``-th call of the function ``target`` raises ``error``."""
    where, _, name = target.rpartition(".")
    owner, calls = pkgutil.resolve_name(where), []
    function = getattr(owner, name)

    def dying(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise error
        return function(*args, **kwargs)

    patch.setattr(owner, name, dying)

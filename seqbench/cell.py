"""One cell from its configuration to its record: what `run` and `seqbench.run` do.

The order matters: everything that can be refused is refused before anything is written, the output directory is probed
before training, and the test split is read once, after it.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from seqbench.config import RunConfig
from seqbench.data.splits import Split
from seqbench.device import CUDNN_LONGEST, device_name, peak_memory, reset_peak_memory, resolve_device, settings
from seqbench.environment import git_state, seqbench_version
from seqbench.errors import NotApplicable, UserError
from seqbench.models.backbone import SequenceModel, build, check_causal, count_parameters
from seqbench.models.mixer import ModelSpec
from seqbench.models.sizing import flops_per_sample, width_for
from seqbench.prepare import Prepared, fit_baselines, prepare
from seqbench.record import SCHEMA_VERSION, Cost, Environment, ModelInfo, Primary, Record, TaskInfo, cell_key
from seqbench.registry import MODELS
from seqbench.store import Store
from seqbench.task import Budget, TaskData
from seqbench.train import Diverged, Fit, Report, fit, predict

__all__ = ["Listener", "Outcome", "Plan", "plan", "run_cell"]


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

    @property
    def data(self) -> TaskData:
        """The prepared data, with permuted training targets under the control."""
        data = self.prepared.data
        if self.config.control == "none":
            return data
        generator = np.random.default_rng([self.config.seed, 1])
        return dataclasses.replace(data, train=data.train.shuffled(generator))


@dataclass(frozen=True)
class Outcome:
    """A record, the folder it lies in, whether it was there before, and what was made up on the way, if anything."""

    record: Record
    folder: Path
    stored: bool


def plan(config: RunConfig, listener: Listener | None = None) -> Plan:
    """Resolve ``config``: names, options, data, device, and the key under which the result is stored.

    Raises:
        UserError: for anything that could not run.
    """
    listener = listener or Listener()
    model = MODELS.get(config.model)
    device = resolve_device(config)
    started = time.perf_counter()
    prepared = prepare(config.task, config.task_options, config.source, listener.say)
    data_seconds = time.perf_counter() - started
    budget = prepared.spec.budgets[config.budget]
    if device.type == "cuda" and prepared.data.train.sequence_length > CUDNN_LONGEST:
        raise UserError(f"sequences of more than {CUDNN_LONGEST} steps do not run on CUDA: take --device cpu.")
    resolved = _resolve(config, budget)
    task = {
        "name": prepared.spec.name,
        "version": prepared.spec.version,
        "options": prepared.options,
        "source": prepared.source,
        "data_sha256": prepared.data_sha256,
    }
    key = cell_key(task, {"name": model.name, "version": model.version}, resolved, device.type)
    return Plan(config, prepared, model, budget, device, resolved, key, data_seconds)


def _resolve(config: RunConfig, budget: Budget) -> dict[str, Any]:
    """What decides the result, apart from task, model and device, as JSON has it."""
    elsewhere = {"task", "model", "option", "sequence_length", "source", "device"}
    chosen = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    chosen = {name: value for name, value in chosen.items() if name not in elsewhere}
    chosen["hidden"] = None if config.params else list(config.widths)
    chosen["layers"] = config.n_layers
    return {**chosen, **dataclasses.asdict(budget)}


def run_cell(config: RunConfig, store: Store, *, force: bool = False, listener: Listener | None = None) -> Outcome:
    """Run one cell, or find its stored result; a run that fails leaves a record that says how.

    Raises:
        UserError: the configuration can't run, or the store can't be written; nothing is written then.
        Interrupted: Ctrl-C; nothing is written then.
    """
    listener = listener or Listener()
    cell_plan = plan(config, listener)
    cell = store.cell(cell_plan.prepared.spec.name, cell_plan.model.name, config.budget, config.seed, cell_plan.key)
    found = None if force else store.find(cell, cell_plan.key)
    if found:
        return Outcome(*found, stored=True)
    started = _now()
    with settings(cell_plan.device, config):
        try:
            model: SequenceModel | None = _build(cell_plan)  # refuses what can't be built before anything is written
            reason = None
        except NotApplicable as error:
            model, reason = None, str(error)
        store.probe()
        baselines = fit_baselines(cell_plan.prepared, listener.say)
        with store.writing(cell) as folder:
            writer = _Writer(cell_plan, {name: scores["test"] for name, scores in baselines.items()}, started)
            if model is None:
                record = writer.record("not_applicable", reason)
            else:
                record = _attempt(cell_plan, model, folder, listener, writer)
            return Outcome(*store.publish(folder, cell, record, again=force), stored=False)


def _build(cell_plan: Plan) -> SequenceModel:
    config, data, kind = cell_plan.config, cell_plan.prepared.data, cell_plan.prepared.spec.kind
    widths = config.widths
    if config.params is not None:
        width = width_for(config.params, cell_plan.model.name, kind, data, config.n_layers, config.backbone)
        widths = (width,) * config.n_layers
    model = build(cell_plan.model.name, kind, data, widths, config.dropout, config.backbone)
    if type(model.head).causal:
        check_causal(model, data)
    return model


def _attempt(plan: Plan, model: SequenceModel, folder: Path, listener: Listener, writer: _Writer) -> Record:
    """Train and test ``model``; whatever goes wrong with it becomes the record's status and reason."""
    try:
        reset_peak_memory(plan.device)
        model.to(plan.device)
        listener.begin(plan.budget.steps)
        done = fit(model, plan.prepared.spec, plan.data, plan.config, plan.budget, listener.report)
        return writer.finish(model, done, folder)
    except Diverged as error:
        return writer.record("diverged", str(error), model)
    except (UserError, OSError):
        raise  # the disk, say: not the model's failure
    except Exception as error:
        if _out_of_memory(error):
            return writer.record("oom", str(error).splitlines()[0], model)
        where = traceback.extract_tb(error.__traceback__)[-1]
        (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return writer.record("error", reason, model)


class _Writer:
    """Turns what happened into a record and the files beside it."""

    def __init__(self, plan: Plan, baselines: dict[str, dict[str, float]], started: str) -> None:
        self.plan, self.started = plan, started
        primary = plan.prepared.spec.primary.name
        self.baselines = {name: scores[primary] for name, scores in baselines.items()}

    def finish(self, model: SequenceModel, done: Fit, folder: Path) -> Record:
        """Read validation and test with the best state, and write curve, predictions and weights into ``folder``."""
        spec, data, config = self.plan.prepared.spec, self.plan.prepared.data, self.plan.config
        head = model.head
        made = type(head).sample(model.eval(), data, np.random.default_rng([config.seed, 2]))
        metrics, begun = {}, time.perf_counter()
        for part in ("val", "test"):
            split: Split = data.splits[part]
            predictions, truth = predict(model, split, config), split.truth()
            metrics[part] = {**spec.score(predictions, truth), "n_scored": float(split.n_scored)}
        done.eval_seconds += time.perf_counter() - begun
        if made is not None:
            metrics["test"] |= made.metrics
            (folder / "sample.txt").write_text(made.text, encoding="utf-8")
        meta: dict[str, Any] = {f"meta_{name}": rows for name, rows in truth.meta.items()}
        with (folder / "predictions.npz").open("wb") as file:
            np.savez_compressed(file, prediction=_small(predictions), target=truth.targets, group=truth.groups, **meta)
        lines = (json.dumps(point, allow_nan=False) + "\n" for point in done.curve)
        (folder / "curve.jsonl").write_text("".join(lines), encoding="utf-8")
        weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(weights, folder / "model.safetensors")
        reading = {"vocabulary": data.vocabulary, "features": data.features, "classes": data.classes}
        (folder / "model.json").write_text(json.dumps(reading, ensure_ascii=False), encoding="utf-8")
        return self.record("ok", None, model, metrics, self._cost(model, done))

    def _cost(self, model: SequenceModel, done: Fit) -> Cost:
        data = self.plan.prepared.data
        seconds = max(done.train_seconds, 1e-9)
        return Cost(
            train_seconds=done.train_seconds,
            steps=done.steps,
            samples_per_second=done.samples / seconds,
            tokens_per_second=done.tokens / seconds,
            flops_per_sample=flops_per_sample(model, data, data.train.sequence_length),
            peak_memory_bytes=peak_memory(self.plan.device),
            data_seconds=self.plan.data_seconds,
            eval_seconds=done.eval_seconds,
            interrupted=False,
        )

    def record(
        self,
        status: Any,
        reason: str | None,
        model: SequenceModel | None = None,
        metrics: Any = None,
        cost: Cost | None = None,
    ) -> Record:
        """The record of this cell with whatever is known."""
        plan = self.plan
        spec, data, config = plan.prepared.spec, plan.prepared.data, plan.config
        primary = skill = None
        if metrics:
            value = metrics["test"][spec.primary.name]
            primary = Primary(**{**dataclasses.asdict(spec.primary), "value": value})
            skill = spec.skill(value, self.baselines[spec.reference])
        length = data.train.sequence_length
        commit, dirty = git_state()
        return Record(
            schema_version=SCHEMA_VERSION,
            key=plan.key,
            status=status,
            reason=reason,
            task=TaskInfo(
                name=spec.name,
                version=spec.version,
                kind=spec.kind,
                options=plan.prepared.options,
                source=plan.prepared.source,
                data_sha256=plan.prepared.data_sha256,
                n_train=len(data.train),
                n_val=len(data.val),
                n_test=len(data.test),
                sequence_length=length,
            ),
            model=ModelInfo(
                name=plan.model.name,
                version=plan.model.version,
                hidden=model.widths if model else config.widths,
                layers=config.n_layers,
                params=count_parameters(model) if model else None,
                state_size=model.state_size(length) if model else None,
                causal=plan.model.mixer.can_be_causal,
                backbone=config.backbone,
            ),
            config=plan.resolved,
            seed=config.seed,
            budget=config.budget,
            metrics=metrics or {},
            primary=primary,
            baselines=self.baselines,
            skill=skill,
            cost=cost,
            environment=Environment(
                device=plan.device.type,
                device_name=device_name(plan.device),
                threads=config.threads,
                python=platform.python_version(),
                torch=torch.__version__,
                cuda=torch.version.cuda,
                seqbench=seqbench_version(),
                git_commit=commit,
                git_dirty=dirty,
            ),
            started=self.started,
            finished=_now(),
        )


def _out_of_memory(error: Exception) -> bool:
    """Memory ran out, on whichever device: torch has no class of its own for the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _small(predictions: np.ndarray) -> np.ndarray:
    """Predictions in single precision: half the size, and more digits than any metric needs."""
    return predictions.astype(np.float32) if predictions.dtype == np.float64 else predictions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

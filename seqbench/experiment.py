"""What a record says of an exception that ended a cell."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from seqbench.config import RunConfig
from seqbench.data.splits import Split, TaskData
from seqbench.device import CUDNN_LONGEST, device_name, resolve_device, settings
from seqbench.environment import git_state, seqbench_version
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.pool import Job
from seqbench.jobs.record import DONE, SCHEMA_VERSION, Cost, Environment, ModelInfo, Primary, Record, TaskInfo, cell_key
from seqbench.jobs.store import LEFT_OUT, Store
from seqbench.models.backbone import SequenceModel, build, check_causal, check_widths, count_parameters
from seqbench.models.mixer import MODELS, ModelSpec
from seqbench.models.sizing import flops_per_sample, width_for
from seqbench.prepare import Prepared, baselines_left_out, fit_baselines, prepare
from seqbench.registry import Registry
from seqbench.task import TASKS, Budget, parse_options
from seqbench.training import CHECKPOINT, Checkpoint, Diverged, Fit, Report, fit, predict

__all__ = [
    "Cell",
    "Grid",
    "Listener",
    "Outcome",
    "Plan",
    "RATES",
    "TRIAL_SEED",
    "Writer",
    "best_rate",
    "build_model",
    "chosen_names",
    "estimate_seconds",
    "failure",
    "now",
    "plan",
    "run",
    "run_cell",
]


def failure(error: Exception) -> tuple[str, str]:
    """Status and reason."""
    if isinstance(error, NotApplicable):
        return "not_applicable", str(error)
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if _out_of_memory(error):
        return "oom", _first_line(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return "error", f"{type(error).__name__}: {_first_line(error)} ({place})"


def _out_of_memory(error: Exception) -> bool:
    """Memory ran out, on whichever device; the CPU allocator, cuDNN and cuBLAS have no class of their own for it."""
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in str(error) for sign in signs)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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


class Writer:
    """Turns what happened into a record and the files beside it."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.say, self.started = plan, say, now()

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Primary test figures; fitted, if need be, after training, so that they don't weigh on its peak memory."""
        scores = fit_baselines(self.plan.prepared, self.say)
        return {name: parts["test"][self.plan.prepared.spec.primary.name] for name, parts in scores.items()}

    def finish(self, model: SequenceModel, done: Fit, folder: Path) -> Record:
        """Read validation and test with the best state, and write curve, predictions and weights into ``folder``."""
        spec, data, config = self.plan.prepared.spec, self.plan.prepared.data, self.plan.config
        constants: dict[str, float] = {}
        metrics, begun = {}, time.perf_counter()
        for part in ("val", "test"):
            split: Split = data.splits[part]
            predictions, truth = predict(model, split, config), split.truth()
            constants = constants if part == "test" else spec.calibrated(predictions, truth)
            truth = truth.with_constants(constants)
            metrics[part] = {**spec.score(predictions, truth), "n_scored": float(split.n_scored)}
        done.eval_seconds += time.perf_counter() - begun
        made = type(model.head).sample(model.eval(), data, np.random.default_rng([config.seed, 2]))
        if made is not None:
            metrics["test"] |= made.metrics
            (folder / "sample.txt").write_text(made.text, encoding="utf-8")
        meta: dict[str, Any] = {f"meta_{name}": rows for name, rows in truth.meta.items()}
        with (folder / "predictions.npz").open("wb") as file:
            np.savez_compressed(file, prediction=_small(predictions), target=truth.targets, group=truth.groups, **meta)
        rows: list[Any] = [spec.leave_one_out(predictions, truth), *baselines_left_out(self.plan.prepared, self.say)]
        np.save(folder / LEFT_OUT, np.stack(rows), allow_pickle=False)
        lines = (json.dumps(point, allow_nan=False) + "\n" for point in done.curve)
        (folder / "curve.jsonl").write_text("".join(lines), encoding="utf-8")
        weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        # not save_file: its error for a full disk is no OSError and would pass for the model's
        (folder / "model.safetensors").write_bytes(to_safetensors(weights))
        reading = json.dumps(dataclasses.asdict(data.reading), ensure_ascii=False, allow_nan=False)
        (folder / "model.json").write_text(reading, encoding="utf-8")
        return self.record("ok", None, model, metrics, self._cost(model, done))

    def _cost(self, model: SequenceModel, done: Fit) -> Cost:
        data = self.plan.prepared.data
        seconds = max(done.train_seconds, 1e-9)
        return Cost(
            train_seconds=done.train_seconds,
            cpu_seconds=done.cpu_seconds,
            steps=done.steps,
            samples_per_second=done.samples / seconds,
            tokens_per_second=done.tokens / seconds,
            flops_per_sample=flops_per_sample(model, data, data.train.sequence_length),
            peak_memory_bytes=done.peak_memory,
            data_seconds=self.plan.data_seconds,
            eval_seconds=done.eval_seconds,
            interrupted=done.resumed,
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
            about = spec.primary
            primary = Primary(
                name=about.name,
                value=value,
                direction=about.direction,
                unit=about.unit,
                reference=spec.reference,
                perfect=spec.perfect,
            )
            skill = spec.skill(value, self.baselines[spec.reference])
        length = data.train.sequence_length
        return Record(
            schema_version=SCHEMA_VERSION,
            key=plan.key,
            status=status,
            reason=reason,
            task=self._task(),
            model=ModelInfo(
                name=plan.model.name,
                version=plan.model.version,
                code_sha256=MODELS.entry(plan.model.name).code,
                hidden=model.widths if model else config.widths,
                layers=config.n_layers,
                params=count_parameters(model) if model else None,
                state_size=model.state_size(length) if model else None,
                causal=model.causal if model else False,
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
            environment=self._environment(),
            started=self.started,
            finished=now(),
        )

    def _task(self) -> TaskInfo:
        plan = self.plan
        spec, data = plan.prepared.spec, plan.prepared.data
        return TaskInfo(
            name=spec.name,
            version=spec.version,
            code_sha256=TASKS.entry(spec.name).code,
            kind=spec.kind,
            options=plan.prepared.options,
            source=plan.prepared.source,
            data_sha256=plan.prepared.data_sha256,
            n_train=len(data.train),
            n_val=len(data.val),
            n_test=len(data.test),
            sequence_length=data.train.sequence_length,
        )

    def _environment(self) -> Environment:
        plan = self.plan
        return Environment(
            device=plan.device.type,
            device_name=device_name(plan.device),
            threads=plan.config.threads,
            python=platform.python_version(),
            torch=torch.__version__,
            cuda=torch.version.cuda,
            seqbench=seqbench_version(),
            git_commit=plan.git[0],
            git_dirty=plan.git[1],
        )


def _small(predictions: np.ndarray) -> np.ndarray:
    """Predictions in single precision: half the size, and more digits than any metric needs."""
    return predictions.astype(np.float32) if predictions.dtype == np.float64 else predictions


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


RESUMED = ("standard", "full")  # budgets long enough to go on where they were; the others start again


@dataclass(frozen=True)
class Outcome:
    """A record, the folder it lies in, and whether it was there before."""

    record: Record
    folder: Path
    stored: bool


def run_cell(config: RunConfig, store: Store, *, force: bool = False, listener: Listener | None = None) -> Outcome:
    """Run one cell, or find its stored result; a run that fails leaves a record that says how.

    Raises:
        UserError: the configuration can't run, or the store can't be written; nothing is written then.
        Interrupted: Ctrl-C; nothing is written then.
    """
    listener = listener or Listener()
    # a store that is there may be read-only and still hold the result
    cell_plan = plan(config, listener, ready=lambda: None if store.root.is_dir() else store.probe())
    cell = store.cell(cell_plan.prepared.spec.name, cell_plan.model.name, config.budget, config.seed, cell_plan.key)
    found = store.find(cell, cell_plan.key)
    if found and found[0].status in DONE and not force:
        return Outcome(*found, stored=True)
    with settings(cell_plan.device, cell_plan.config):
        writer = Writer(cell_plan, listener.say)
        model, record = _built(cell_plan, writer)
        store.probe()
        checkpoint = Checkpoint(cell / CHECKPOINT, cell_plan.key, cell_plan.device)
        if force:
            checkpoint.remove()
        with store.writing(cell) as folder:
            if model is not None:
                record = _attempt(cell_plan, model, folder, listener, writer, checkpoint)
            assert record is not None
            outcome = Outcome(*store.publish(folder, cell, record, again=found is not None), stored=False)
            checkpoint.remove()
            return outcome


def _built(cell_plan: Plan, writer: Writer) -> tuple[SequenceModel | None, Record | None]:
    """The model on its device, or the record that says why there is none."""
    try:
        return build_model(cell_plan).to(cell_plan.device), None
    except (UserError, OSError):
        raise
    except Exception as error:
        return None, _failed(error, writer)


def build_model(cell_plan: Plan) -> SequenceModel:
    """The untrained model of ``cell_plan``; raises `UserError` if none is as small as its ``params``."""
    config, data, kind = cell_plan.config, cell_plan.prepared.data, cell_plan.prepared.spec.kind
    widths = config.widths
    if config.params is not None:
        width = width_for(config.params, cell_plan.model.name, kind, data, config.n_layers, config.backbone)
        widths = (width,) * config.n_layers
    return build(cell_plan.model.name, kind, data, widths, config.dropout or 0.0, config.backbone)


def _attempt(
    plan: Plan, model: SequenceModel, folder: Path, listener: Listener, writer: Writer, checkpoint: Checkpoint
) -> Record:
    """Train and test ``model``; whatever goes wrong with it becomes the record's status and reason."""
    resumed = checkpoint if plan.config.budget in RESUMED else None
    data, causal = plan.prepared.data, type(model.head).causal
    try:
        if causal:  # a quick refusal
            check_causal(model, data, length=8)
        listener.begin(plan.budget.steps)
        done = fit(model, plan.prepared.spec, plan.data, plan.config, plan.budget, listener.report, resumed)
        if causal:  # once more, over the whole length: what training has put to use
            check_causal(model, data, data.train.sequence_length)
        return writer.finish(model, done, folder)
    except (UserError, OSError):
        raise  # the disk, say: not the model's failure
    except Exception as error:
        record = _failed(error, writer, model)
        if record.status == "error":
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return record


def _failed(error: Exception, writer: Writer, model: SequenceModel | None = None) -> Record:
    """The record of a cell that ended with ``error``."""
    return writer.record(*failure(error), model)


RATES = (1e-3, 3e-3, 1e-2)
TRIAL_SEED = 0


def best_rate(records: Iterable[Record]) -> float | None:
    """The learning rate of the best of one model's ``records`` at seed 0 by the primary metric on validation.

    The test split has no say. A rate whose run failed is not chosen, of equally good ones the lowest is; None if there
    is no run at seed 0 that ended well.
    """
    found = []
    for record in records:
        if record.seed == TRIAL_SEED and record.status == "ok" and record.primary is not None:
            value = record.metrics["val"][record.primary.name]
            worse = value if record.primary.direction == "lower" else -value
            found.append((worse, float(record.config["learning_rate"])))
    return min(found)[1] if found else None


def chosen_names(text: str, registry: Registry[Any]) -> tuple[str, ...]:
    """``"all"`` or ``"dna,stock"`` to registered names, each once; an unknown one is answered with the nearest."""
    if text == "all":
        return tuple(registry.names())
    return tuple(dict.fromkeys(registry.entry(name.strip()).name for name in text.split(",")))


@dataclass(frozen=True)
class Cell:
    """A planned cell and the folder of its runs."""

    plan: Plan
    folder: Path

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        config = self.plan.config
        return f"{config.task} {config.model} seed {config.seed}, rate {config.learning_rate:g}"

    @property
    def kind(self) -> tuple[str, str]:
        """What it shares with cells that take about as long."""
        return self.plan.config.task, self.plan.config.model

    @property
    def key(self) -> str:
        """Of its content."""
        return self.plan.key

    def job(self, root: Path, plugins: tuple[Path, ...], *, force: bool) -> Job:
        """What another process needs to run it."""
        config = self.plan.config
        return Job(self.key, "run", dataclasses.asdict(config), config.threads, root, plugins, force)

    def failed(self, status: Any, reason: str) -> Record:
        """Its record if its process left none."""
        return Writer(self.plan, lambda line: None).record(status, reason)


class Grid:
    """Cells of every task, model and seed; data is prepared once a task.

    Raises:
        UserError: for a name, option or value that can't be used; before anything is run.
    """

    def __init__(self, base: RunConfig, tasks: Sequence[str], models: Sequence[str], store: Store) -> None:
        self.base, self.tasks, self.models, self.store = base, tuple(tasks), tuple(models), store
        self._prepared: dict[str, Prepared] = {}

    def prepare(self, say: Callable[[str], None], *, baselines: bool = True) -> None:
        """Build what all cells of a task share, so that no two of them build it at once."""
        for task in self.tasks:
            config = dataclasses.replace(self.base, task=task, model=self.models[0])
            self._prepared[task] = prepare(task, config.task_options, config.source, say, config.data)
            if baselines:
                fit_baselines(self._prepared[task], lambda line, task=task: say(f"{task}: {line}"))  # type: ignore[misc]

    def cell(self, task: str, model: str, seed: int, learning_rate: float | None = None) -> Cell:
        """One of them; the learning rate is the configuration's unless it is given."""
        config = dataclasses.replace(self.base, task=task, model=model, seed=seed)
        if learning_rate is not None:
            config = dataclasses.replace(config, learning_rate=learning_rate)
        found = plan(config, prepared=self._prepared[task])
        name = found.prepared.spec.name
        return Cell(found, self.store.cell(name, found.model.name, config.budget, seed, found.key))

    def result(self, cell: Cell) -> tuple[Record, Path] | None:
        """The record of ``cell``, if it has one."""
        return self.store.find(cell.folder, cell.plan.key)


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
    subprocess.run([sys.executable, "-c", "import seqbench.experiment"], check=False, capture_output=True)
    return time.perf_counter() - started


def run(task: str, model: str, *, out: str | Path = "results/local", force: bool = False, **config: Any) -> Record:
    """Train ``model`` on ``task`` and return the record; a stored result of the same command is returned at once.

    Args:
        out: directory of the records.
        force: run again even if there is a result; the old record stays beside the new one.
        config: any field of `RunConfig`, such as ``budget="smoke"``, ``hidden=(128, 64)`` or ``seed=1``.

    Raises:
        UserError: an unknown name, or a value that can't be used; nothing is written then.
    """
    return run_cell(RunConfig(task=task, model=model, **config), Store(out), force=force).record

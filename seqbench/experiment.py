"""Training one model on one task, from its configuration to its record; and grids of many, as sources of jobs.

The order matters: everything that can be refused is refused before anything is written, the output directory is tried
before training, and the test split is read once, after it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from seqbench.config import ADDED, FRAME_OPTIONS, DataOptions, Placement, RunConfig
from seqbench.data import InOrder, Split, Stream, TaskData
from seqbench.device import (
    CUDNN_LONGEST,
    denormals_flushed,
    device_name,
    is_here,
    resolve_device,
    resolved_for_others,
    settings,
)
from seqbench.environment import git_state, package_version, seqbench_version
from seqbench.errors import Interrupted, UserError
from seqbench.jobs.cluster import RayTasks
from seqbench.jobs.estimates import run_rate
from seqbench.jobs.job import FAILURES, Job, Listener, Outcome, status_of
from seqbench.jobs.pool import TIME_LIMITS, Executor, LocalProcesses, run_jobs
from seqbench.jobs.record import (
    READING_SHA256,
    SCHEMA_VERSION,
    Cost,
    DataInfo,
    Environment,
    ModelInfo,
    Primary,
    Record,
    RunRecord,
    Status,
    TaskInfo,
    now,
    run_key,
)
from seqbench.jobs.store import LEFT_OUT, Store
from seqbench.models.backbone import (
    SequenceModel,
    build,
    check_carries,
    check_causal,
    check_embedding,
    check_frame_options,
    check_regularisers,
    check_widths,
    count_parameters,
    shape_of,
)
from seqbench.models.heads import HEADS
from seqbench.models.kernels.layer import slower_note
from seqbench.models.kernels.used import forget_kernels, used_kernels
from seqbench.models.mixer import MODELS, ModelSpec, Regularisers
from seqbench.models.sizing import flops_per_sample, width_for
from seqbench.options import Device
from seqbench.prepare import Prepared, baselines_left_out, fit_baselines, prepare
from seqbench.rates import RATES, SECOND_SEED, Trial, chosen_rate, next_trials
from seqbench.task import TASKS, Budget, TaskSpec, changed_of, check_recipe, parse_options, recipe_of
from seqbench.training import CHECKPOINT, Checkpoint, Fit, Stop, fit, interrupted, own_copy, predict_split

__all__ = [
    "Experiment",
    "Grid",
    "about_data",
    "build_model",
    "check_sees_no_future",
    "cluster_of",
    "environment_of",
    "estimate_seconds",
    "lasting_processes",
    "rate_of",
    "resolve",
    "run_apart",
    "run_cell",
    "run_grid",
    "run_jobs_of",
    "run_spec",
    "run_stoppable",
]

UNKEPT = ("smoke",)  # budgets that are over before a checkpoint is worth writing: what was interrupted starts again


@dataclass(frozen=True)
class Experiment:
    """A configuration that is resolved against task, data and device, and found to be possible.

    Attributes:
        config: with the task's own training settings where the user gave none.
        budget: the task's steps and batch size at ``config.budget``.
        resolved: what decides the result, apart from task, model and device, as the record holds it.
        job: how it is run and stored.
        data_seconds: what preparing the data took.
        git: commit and state of the checkout when it was resolved; that may change while it runs.
        codes: SHA-256 of the user's own code of task and model, None for what is installed; as they were then, too.
    """

    config: RunConfig
    prepared: Prepared
    model: ModelSpec
    budget: Budget
    device: torch.device
    resolved: dict[str, Any]
    job: Job
    data_seconds: float
    git: tuple[str | None, bool | None]
    codes: tuple[str | None, str | None]

    @property
    def named(self) -> dict[str, dict[str, Any]]:
        """Which ``task``, with its options and data, and which ``model``, as JSON has it."""
        return _named(self.prepared, self.model, self.codes)

    @property
    def can_be_scored(self) -> bool:
        """Whether the model can honestly be scored: not where it would see what it is to predict."""
        return self.model.mixer.can_be_causal or not HEADS.get(self.prepared.spec.kind).causal

    @property
    def data(self) -> TaskData:
        """The prepared data: permuted targets under the control, its text in order where a state is carried."""
        data = self.prepared.data
        if self.config.control != "none":
            generator = np.random.default_rng([self.config.seed, 1])
            data = dataclasses.replace(data, train=data.train.shuffled(generator))
        return _ordered(data, self.config)


def resolve(
    config: RunConfig,
    listener: Listener | None = None,
    ready: Callable[[], None] = lambda: None,
    prepared: Prepared | None = None,
) -> Experiment:
    """Resolve ``config``: names, options, data, device, and the key under which the result is stored.

    ``ready`` is called when all that needs no data is found to be right, before data is prepared; ``prepared`` is the
    data where the caller has it already.

    Raises:
        UserError: for anything that could not run.
    """
    listener = listener or Listener()
    git = git_state()
    model = MODELS.get(config.model)
    asked = TASKS.get(config.task).at(config.source)
    check_recipe(config.recipe, asked)
    parse_options(asked, config.task_options)
    if config.params is None:
        check_widths(config.model, config.widths)
    check_regularisers(config.model, Regularisers.of(dataclasses.asdict(config)))
    check_frame_options(asked.kind, _frame_options(config))
    if config.carry_state:
        check_carries(config.model, asked.kind)
    device = resolve_device(config)
    ready()
    started = time.perf_counter()
    if prepared is None:
        prepared = prepare(config.task, config.task_options, config.source, listener.say, config.data, config.test)
    data_seconds = time.perf_counter() - started
    spec = prepared.spec
    usual = dataclasses.asdict(spec.training)
    if config.optimizer == "adam":
        usual["weight_decay"] = 0.0  # the task's is meant for AdamW, where it does something else
    chosen = {name: usual[name] for name in usual if getattr(config, name) is None}
    config = dataclasses.replace(config, task=spec.name, model=model.name, **chosen)
    check_embedding(config.embedding, len(prepared.data.vocabulary))
    train = _ordered(prepared.data, config).train
    budget, short = _budget(config, spec, len(train))
    if isinstance(train, InOrder):
        train.check_rows(budget.batch_size)
    if device.type == "cuda" and prepared.data.train.sequence_length > CUDNN_LONGEST:
        raise UserError(f"sequences of more than {CUDNN_LONGEST} steps do not run on CUDA: take --device cpu.")
    resolved = {**_resolved(config, budget), **_about_recipe(config, short)}
    codes = TASKS.entry(spec.name).code, MODELS.entry(model.name).code
    named = _named(prepared, model, codes)
    key = run_key(named["task"], named["model"], resolved, device.type)
    own = tuple((name, path) for name in ("data", "test") if (path := getattr(config, name)) is not None)
    job = Job(__name__, config, key, files=own, cached=prepared.cached)
    return Experiment(config, prepared, model, budget, device, resolved, job, data_seconds, git, codes)


def _ordered(data: TaskData, config: RunConfig) -> TaskData:
    """``data``, its training text window after window where the state is carried from one to the next."""
    if not config.carry_state:
        return data
    if not all(isinstance(split, Stream) for split in data.splits.values()):
        raise UserError("--carry-state needs a text in one piece, and this task has none: leave it out.")
    assert isinstance(data.train, Stream)
    return dataclasses.replace(data, train=data.train.in_order())


def _named(prepared: Prepared, model: ModelSpec, codes: tuple[str | None, str | None]) -> dict[str, dict[str, Any]]:
    """Which task and which model, as keys hold them."""
    spec = prepared.spec
    task = {
        "name": spec.name,
        "version": spec.version,
        "code_sha256": codes[0],
        "options": prepared.options,
        "source": prepared.source,
        "data_sha256": prepared.data_sha256,
    }
    return {"task": task, "model": {"name": model.name, "version": model.version, "code_sha256": codes[1]}}


def _budget(config: RunConfig, spec: TaskSpec, n_train: int) -> tuple[Budget, list[str]]:
    """How much training: the task's, or what the user says; and in words what the budget `smoke` cut short of that."""
    usual = spec.budgets[config.budget]
    if config.batch_size is not None:
        usual = usual.in_batches_of(config.batch_size)
    patience = usual.patience if config.patience is None else config.patience
    budget = dataclasses.replace(usual, patience=patience)
    if config.epochs is None:
        return budget, []
    steps = math.ceil(config.epochs * n_train / min(budget.batch_size, n_train))
    if config.budget == "smoke" and steps > usual.steps:
        return budget, [f"{usual.steps:,} of {steps:,} steps"]
    return dataclasses.replace(budget, steps=steps, evaluations=config.epochs), []


def _about_recipe(config: RunConfig, short: list[str]) -> dict[str, Any]:
    """What the record says of a recipe: which settings the user changed, and what the budget `smoke` cut short."""
    if config.recipe is not None and config.budget == "smoke":
        recipe, _ = recipe_of(config.recipe)
        smaller = {name: value for name, value in recipe.smoke.items() if getattr(config, name) == value}
        full = {name: _listed(recipe.settings[name]) for name in smaller}
        short = [*short, *(f"{name} {_listed(value)} for {full[name]}" for name, value in smaller.items())]
    about = {"recipe_changed": list(changed_of(config)), "cut_short": short}
    return {name: value for name, value in about.items() if value}


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _resolved(config: RunConfig, budget: Budget) -> dict[str, Any]:
    """What decides the result, apart from task, model and device, as JSON has it."""
    elsewhere = {"task", "model", "device", *(item.name for item in dataclasses.fields(DataOptions))}
    elsewhere |= {
        item.name
        for item in dataclasses.fields(config)
        if item.name in ADDED and getattr(config, item.name) == item.default
    }
    chosen = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    chosen = {name: value for name, value in chosen.items() if name not in elsewhere}
    chosen = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}
    chosen["hidden"] = None if config.params else list(config.widths)
    chosen["layers"] = config.n_layers
    if config.carry_state:
        chosen["scored"] = "in order, with the state carried"  # validation and test, too
    return {**chosen, **dataclasses.asdict(budget)}


def run_spec(spec: dict[str, Any], store: Store, *, force: bool, listener: Listener) -> None:
    """Run what another process has resolved; see `jobs.job.Job`."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
    _cell(RunConfig(**values), store, force=force, listener=listener)


def run_cell(config: RunConfig, store: Store, *, force: bool = False, listener: Listener | None = None) -> Outcome:
    """Run one cell, or find its stored result; a run that fails leaves a record that says how.

    Raises:
        UserError: the configuration can't run, or the store can't be written; nothing is written then.
        Interrupted: Ctrl-C; nothing is written then.
    """
    store.sweep()
    listener = listener or Listener()
    _tell_slower(config, listener)
    return _cell(config, store, force=force, listener=listener)


def _tell_slower(config: RunConfig, listener: Listener) -> None:
    """Say once if the kernels in C are not there."""
    if note := slower_note(resolve_device(config), config.kernel):
        listener.say(note)


def run_stoppable(config: RunConfig, store: Store, stop: Stop, listener: Listener) -> Outcome:
    """Run one cell that ``stop`` may end early, which its record says then: ``pruned``, with a curve and no figures.

    What has a final record is not run again. A record of what was stopped is not final: whoever runs the cell without
    ``stop`` gets all of it.
    """
    return _cell(config, store, force=False, listener=listener, stop=stop)


def _cell(config: RunConfig, store: Store, *, force: bool, listener: Listener, stop: Stop | None = None) -> Outcome:
    """`run_cell` of one of many."""
    # a store that is there may be read-only and still hold the result
    experiment = resolve(config, listener, ready=lambda: None if store.root.is_dir() else store.check_writable())
    path = store.folder_of(experiment.job) / CHECKPOINT
    again = bool(store.runs(path.parent))  # before it is looked for: another worker may be as far as this one
    known = store.final(experiment.job)
    if known and not force:
        _remove_left(path)
        _tell_name(known, config, listener)
        return known
    with settings(experiment.device, experiment.config):
        running = _Run(experiment, listener, stop)
        model, record = running.build()
        store.check_writable()
        number = store.number_after(store.runs(path.parent))
        # that of a forced run is gone on from by the next forced one alone, as long as no other run was published
        checkpoint = Checkpoint(path, experiment.job.key, experiment.device, f"forced run {number}" if force else "")
        if force and not checkpoint.is_own():
            checkpoint.remove()

        def work(folder: Path) -> Record:
            return record or running.attempt(model, folder, checkpoint)

        outcome = store.keep(experiment.job, work, again=again)
        _remove_left(path)
        return outcome


def run_apart(
    config: RunConfig, store: Store, *, plugins: Sequence[Path], force: bool = False, listener: Listener | None = None
) -> Outcome:
    """`run_cell` in a process of its own, so that a model which takes that down leaves a record, too.

    Args:
        plugins: files that the process loads first.
    """
    listener = listener or Listener()
    store.sweep()
    experiment = resolve(config, listener, ready=lambda: None if store.root.is_dir() else store.check_writable())
    known = store.final(experiment.job)
    if known and not force:
        _tell_name(known, config, listener)
    else:
        _check_params(experiment)
        store.check_writable()
        executor = LocalProcesses(1, _gpus(config), echo=True)

        def failed(job: Job, status: Status, reason: str) -> Record:
            return _Run(experiment, listener).record(status, reason)

        (known,) = run_jobs(
            [experiment.job], store, executor, failed, listener, limit=math.inf, plugins=plugins, force=force
        )
    _remove_left(store.folder_of(experiment.job) / CHECKPOINT)
    return known


def _tell_name(known: Outcome, config: RunConfig, listener: Listener) -> None:
    """Say that a stored result keeps its name where the user gives their data another one."""
    name = _dataset_of(known)
    if config.dataset is not None and name is not None and name != config.dataset:
        listener.say(f"stored under the name {name}; --force runs it again under the new one")


def _dataset_of(outcome: Outcome) -> str | None:
    assert isinstance(outcome.record, RunRecord)
    return outcome.record.task.dataset


def _gpus(config: RunConfig) -> int:
    """How many of them processes may use."""
    return torch.cuda.device_count() if config.device in ("auto", "cuda") else 0


def _remove_left(path: Path) -> None:
    """Remove a checkpoint that a record has made useless, if it can be: the store may be read-only."""
    with contextlib.suppress(OSError):
        path.unlink()


def build_model(experiment: Experiment) -> SequenceModel:
    """The untrained model of ``experiment``; raises `UserError` if none is as small as its ``params``."""
    config, kind = experiment.config, experiment.prepared.spec.kind
    shape, widths = shape_of(kind, experiment.prepared.data), config.widths
    form: dict[str, Any] = {
        "embedding": config.embedding,
        "dense": config.dense or (),
        "options": _frame_options(config),
    }
    if config.params is not None:
        width = width_for(config.params, config.model, kind, shape, config.n_layers, config.backbone, **form)
        widths = (width,) * config.n_layers
    form["regularisers"] = Regularisers.of(dataclasses.asdict(config))
    return build(config.model, kind, shape, widths, config.dropout or 0.0, config.backbone, config.kernel, **form)


def _frame_options(config: RunConfig) -> dict[str, Any]:
    """Of `FRAME_OPTIONS` those that are not as by default."""
    usual = {item.name: item.default for item in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in FRAME_OPTIONS if getattr(config, name) != usual[name]}


def _check_params(experiment: Experiment) -> None:
    """Raise `UserError` if no width has about as many parameters as asked for; other failures are the run's."""
    if experiment.config.params is not None:
        try:
            with torch.device("meta"):
                build_model(experiment)
        except UserError:
            raise
        except FAILURES:
            return


def check_sees_no_future(model: SequenceModel, data: TaskData, length: int | None = None) -> None:
    """Raise `NotApplicable` if ``model`` is to predict what comes and sees it: in ``length`` steps of ``data``, or all.

    Before training, on a few steps, this refuses early; after it, over the whole length, it also finds what only the
    trained weights use.
    """
    if type(model.head).causal:
        check_causal(model, data.train[[0]].inputs[:, : length or data.train.sequence_length])


def environment_of(
    device: torch.device,
    threads: int,
    git: tuple[str | None, bool | None] | None = None,
    kernel: str | None = None,
) -> Environment:
    """Where something runs, as records hold it."""
    commit, dirty = git or git_state()
    return Environment(
        device=device.type,
        device_name=device_name(device),
        threads=threads,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        seqbench=seqbench_version(),
        git_commit=commit,
        git_dirty=dirty,
        numpy=package_version("numpy"),
        scikit_learn=package_version("scikit-learn"),
        os=platform.platform(),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        kernel=kernel,
        flush_denormal=denormals_flushed(),
    )


class _Run:
    """One run of an experiment, and what it leaves: the record, and the curve, predictions and weights beside it."""

    def __init__(self, experiment: Experiment, listener: Listener, stop: Stop | None = None) -> None:
        self.experiment, self.listener, self.stop, self.started = experiment, listener, stop, now()
        self.kernel: str | None = None  # what has run the layers in training

    def build(self) -> tuple[SequenceModel, None] | tuple[None, RunRecord]:
        """The model on its device, or the record that says why there is none."""
        try:
            return build_model(self.experiment).to(self.experiment.device), None
        except (UserError, OSError):
            raise
        except FAILURES as error:
            return None, self.record(*status_of(error))

    def attempt(self, model: SequenceModel | None, folder: Path, checkpoint: Checkpoint) -> RunRecord:
        """Train and test ``model``; whatever goes wrong with it becomes the record's status and reason."""
        assert model is not None
        experiment, data = self.experiment, self.experiment.prepared.data
        kept = None if experiment.config.budget in UNKEPT else checkpoint
        if short := experiment.resolved.get("cut_short"):
            self.listener.say(f"cut short by the budget smoke: {'; '.join(short)}")
        done: Fit | None = None
        try:
            check_sees_no_future(model, data, 8)
            forget_kernels()
            done = fit(
                model,
                experiment.prepared.spec,
                experiment.data,
                experiment.config,
                experiment.budget,
                self.listener.step,
                kept,
                self.begin,
                self.listener.say,
                stop=self.stop,
            )
            self.kernel = used_kernels()
            if done.stopped:
                _write_curve(folder, done)
                return self.record("pruned", done.stopped, model, cost=self._cost(model, done))
            check_sees_no_future(model, data)
            return self.finish(model, done, folder)
        except KeyboardInterrupt as error:
            if done is None or isinstance(error, Interrupted):
                raise
            raise interrupted(done, experiment.budget.steps) from None
        except (UserError, OSError):
            raise  # the disk, say: not the model's failure
        except FAILURES as error:
            record = self.record(*status_of(error), model)
            if record.status == "error":
                _write_trace(folder, traceback.format_exc())
            return record

    def begin(self, step: int) -> None:
        """Tell that training begins, or that it goes on from ``step``."""
        steps = self.experiment.budget.steps
        if step:
            self.listener.say(f"going on from step {step} of {steps}")
            self.listener.begin(steps, step)
        else:
            self.listener.begin(steps)

    @cached_property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """The baselines'; fitted, if need be, after training, so that they don't weigh on its peak memory."""
        return fit_baselines(self.experiment.prepared, self.listener.say)

    @property
    def baselines(self) -> dict[str, float | None]:
        """Primary test figures."""
        name = self.experiment.prepared.spec.primary.name
        return _told({baseline: parts["test"][name] for baseline, parts in self.scores.items()})

    def finish(self, model: SequenceModel, done: Fit, folder: Path) -> RunRecord:
        """Read validation and test with the best state, and write curve, predictions and weights into ``folder``."""
        prepared, config = self.experiment.prepared, self.experiment.config
        spec, data = prepared.spec, prepared.data
        constants: dict[str, float] = {}
        metrics, begun = {}, time.perf_counter()
        for part in ("val", "test"):
            self.listener.phase({"val": "validation", "test": "testing"}[part])
            split: Split = data.splits[part]
            predictions, truth = predict_split(model, split, config), split.truth()
            constants = constants if part == "test" else spec.calibrated(predictions, truth)
            truth = truth.with_constants(constants)
            metrics[part] = {**spec.score(predictions, truth), "n_scored": float(split.n_scored)}
        done.eval_seconds += time.perf_counter() - begun
        made = type(model.head).sample(model.eval(), data, np.random.default_rng([config.seed, 2]))
        if made is not None:
            metrics["test"] |= made.metrics
            (folder / "sample.txt").write_text(made.text, encoding="utf-8")
            for name, content in made.files.items():
                (folder / name).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        meta: dict[str, Any] = {f"meta_{name}": rows for name, rows in truth.meta.items()}
        with (folder / "predictions.npz").open("wb") as file:
            np.savez_compressed(file, prediction=_small(predictions), target=truth.targets, group=truth.groups, **meta)
        self.listener.phase("baselines")
        rows: list[Any] = [spec.leave_one_out(predictions, truth), *baselines_left_out(prepared, self.listener.say)]
        self.listener.phase("writing")
        np.save(folder / LEFT_OUT, np.stack(rows), allow_pickle=False)
        _write_curve(folder, done)
        weights = {name: own_copy(tensor) for name, tensor in model.state_dict().items()}
        # not save_file: its error for a full disk is no OSError and would pass for the model's
        reading = json.dumps(dataclasses.asdict(data.reading), ensure_ascii=False, allow_nan=False).encode()
        about = {READING_SHA256: hashlib.sha256(reading).hexdigest()}
        (folder / "model.safetensors").write_bytes(to_safetensors(weights, about))
        (folder / "model.json").write_bytes(reading)
        record = self.record("ok", None, model, metrics, self._cost(model, done))
        if not done.graph:
            return record
        kernel = f"{record.environment.kernel or 'torch'}, CUDA graph"  # in the record, not in its key
        return record.model_copy(update={"environment": record.environment.model_copy(update={"kernel": kernel})})

    def _cost(self, model: SequenceModel, done: Fit) -> Cost:
        seconds = max(done.train_seconds, 1e-9)
        return Cost(
            train_seconds=done.train_seconds,
            cpu_seconds=done.cpu_seconds,
            steps=done.steps,
            samples_per_second=done.samples / seconds,
            tokens_per_second=done.tokens / seconds,
            flops_per_sample=flops_per_sample(model, self.experiment.prepared.data.train.sequence_length),
            peak_memory_bytes=done.peak_memory,
            data_seconds=self.experiment.data_seconds,
            eval_seconds=done.eval_seconds,
            interrupted=done.resumed,
        )

    def record(
        self,
        status: Status,
        reason: str | None,
        model: SequenceModel | None = None,
        metrics: Any = None,
        cost: Cost | None = None,
    ) -> RunRecord:
        """The record of this run with whatever is known."""
        experiment = self.experiment
        spec, config = experiment.prepared.spec, experiment.config
        primary = skill = None
        if metrics:
            reference = spec.reference_of(self.scores)
            metrics = {part: _told(figures) for part, figures in metrics.items()}
            about, value = spec.primary, metrics["test"][spec.primary.name]
            primary = Primary(
                name=about.name,
                value=value,
                direction=about.direction,
                unit=about.unit,
                reference=reference,
                perfect=spec.perfect,
                share=about.share,
            )
            skill = math.nan if value is None else spec.skill(value, self.scores[reference]["test"][about.name])
            skill = skill if math.isfinite(skill) else None  # not known
        return RunRecord(
            schema_version=SCHEMA_VERSION,
            key=experiment.job.key,
            status=status,
            reason=reason,
            task=self._task(),
            model=ModelInfo(
                name=experiment.model.name,
                version=experiment.model.version,
                code_sha256=experiment.codes[1],
                hidden=model.widths if model else config.widths,
                layers=config.n_layers,
                params=count_parameters(model) if model else None,
                state_size=self._state_size(model, ended_well=status == "ok"),
                causal=model.causal if model else False,
                backbone=config.backbone,
            ),
            config=experiment.resolved,
            seed=config.seed,
            budget=config.budget,
            metrics=metrics or {},
            primary=primary,
            baselines=self.baselines,
            skill=skill,
            cost=cost,
            environment=environment_of(experiment.device, config.threads, experiment.git, self.kernel),
            started=self.started,
            finished=now(),
        )

    def _state_size(self, model: SequenceModel | None, *, ended_well: bool) -> int | None:
        """Unknown in a run that failed if the model can't tell it, which may be why it failed."""
        if model is None:
            return None
        try:
            return model.state_size(self.experiment.prepared.data.train.sequence_length)
        except FAILURES:
            if ended_well:
                raise
            return None

    def _task(self) -> TaskInfo:
        prepared = self.experiment.prepared
        spec, data = prepared.spec, prepared.data
        return TaskInfo(
            name=spec.name,
            version=spec.version,
            code_sha256=self.experiment.codes[0],
            kind=spec.kind,
            options=prepared.options,
            source=prepared.source,
            data_sha256=prepared.data_sha256,
            n_train=len(data.train),
            n_val=len(data.val),
            n_test=len(data.test),
            sequence_length=data.train.sequence_length,
            dataset=self.experiment.config.data_name,
            test_file=self.experiment.config.test is not None,
            about=about_data(data),
        )


def about_data(data: TaskData) -> DataInfo:
    """What is told of prepared data, as records hold it."""
    shares = {
        part: np.bincount(split.truth().targets, minlength=len(data.classes)) / max(1, split.n_scored)
        for part, split in data.splits.items()
        if data.classes
    }
    classes = {name: {part: float(rows[i]) for part, rows in shares.items()} for i, name in enumerate(data.classes)}
    splits: dict[str, Any] = data.splits
    groups = {part: len(np.unique(split.groups)) for part, split in splits.items()}
    info: dict[str, Any] = {"notes": data.notes, "features": data.features, "classes": classes, "groups": groups}
    return DataInfo(**info)


def _write_curve(folder: Path, done: Fit) -> None:
    lines = (json.dumps(_told(point), allow_nan=False) + "\n" for point in done.curve)
    (folder / "curve.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_trace(folder: Path, trace: str) -> None:
    """Beside the record; half a surrogate in a message must not keep the rest from being written."""
    (folder / "traceback.txt").write_text(trace, encoding="utf-8", errors="backslashreplace")


def _told(figures: dict[str, float]) -> dict[str, float | None]:
    """``figures`` as records hold them: None for a score that can't be told."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _small(predictions: np.ndarray) -> np.ndarray:
    """Predictions in single precision: half the size, and more digits than any metric needs."""
    return predictions.astype(np.float32) if predictions.dtype == np.float64 else predictions


class Grid:
    """Experiments with every task, model and seed; data is prepared once for each task. No state but the store.

    ``chosen``: settings of a task and model that stand in place of those of ``base``.

    Raises:
        UserError: for a name, option or value that can't be used; before anything is run.
    """

    def __init__(
        self,
        base: RunConfig,
        tasks: Sequence[str],
        models: Sequence[str],
        store: Store,
        *,
        seeds: int,
        tune: bool,
        chosen: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    ) -> None:
        if tune and base.learning_rate is not None:
            raise UserError("--tune-learning-rate finds the rate itself: leave --learning-rate out.")
        self.base, self.tasks, self.models, self.store = base, tuple(tasks), tuple(models), store
        for task in self.tasks if base.recipe else ():
            check_recipe(base.recipe, TASKS.get(task).at(base.source))
        self.seeds, self.tune, self.chosen = seeds, tune, chosen or {}
        self._prepared: dict[str, Prepared] = {}
        self._experiments: dict[str, Experiment] = {}
        self._widths: set[tuple[str, str]] = set()

    def prepare(self, say: Callable[[str], None], *, baselines: bool = True) -> None:
        """Build what all experiments on a task share, so that no two of them build it at once."""
        for task in self.tasks:
            config = dataclasses.replace(self.base, task=task, model=self.models[0])
            self._prepared[task] = prepare(task, config.task_options, config.source, say, config.data, config.test)
            if baselines:
                name = config.data_name or task
                fit_baselines(self._prepared[task], lambda line, name=name: say(f"{name}: {line}"))  # type: ignore[misc]

    def trials(self) -> list[Experiment]:
        """Those that learning rates are chosen by, as far as the store's records tell; none unless the grid tunes them.

        Once these have records there may be more: see `rates`.
        """
        pairs = [(task, model) for task in self.tasks for model in self.models if self.tune]
        return [experiment for task, model in pairs for experiment in self._search(task, model)[0]]

    def cells(self) -> list[Experiment]:
        """Those of the grid itself, seed by seed, so that a grid that is cut off has whole seeds."""
        rates = {(task, model): self._rate(task, model) for task in self.tasks for model in self.models}
        return [
            self._experiment(task, model, seed, rates[task, model])
            for task in self.tasks
            for seed in self._seeds
            for model in self.models
        ]

    @property
    def _seeds(self) -> range:
        return range(self.base.seed, self.base.seed + self.seeds)

    def failed(self, job: Job, status: Status, reason: str) -> RunRecord:
        """The record of one of its jobs whose process left none."""
        return _Run(self._experiments[job.key], Listener()).record(status, reason)

    def experiment_of(self, job: Job) -> Experiment:
        """What ``job`` of this grid runs."""
        return self._experiments[job.key]

    def _experiment(self, task: str, model: str, seed: int, learning_rate: float | None) -> Experiment:
        chosen = self.chosen.get((task, model), {})
        config = dataclasses.replace(self.base, task=task, model=model, seed=seed, **chosen)
        if learning_rate is not None:
            config = dataclasses.replace(config, learning_rate=learning_rate)
        experiment = resolve(config, prepared=self._prepared[task])
        if (task, model) not in self._widths:
            _check_params(experiment)
            self._widths.add((task, model))
        return self._experiments.setdefault(experiment.job.key, experiment)

    def _search(self, task: str, model: str) -> tuple[list[Experiment], list[Trial]]:
        """The trials of ``model`` on ``task`` up to those that have no record yet, and what the records say."""
        asked: list[Experiment] = []
        known: list[Trial] = []
        # a second seed that is none of the grid's would stand in the board's table alone
        twice = SECOND_SEED in self._seeds
        while more := next_trials(known, self._prepared[task].spec.primary.direction, twice=twice):
            asked += (new := [self._experiment(task, model, seed, rate) for seed, rate in more])
            records = [outcome.record for one in new if (outcome := self.store.find(one.job))]
            known += [_trial(record) for record in records if isinstance(record, RunRecord)]
            if len(records) < len(new):
                break
        return asked, known

    def _rate(self, task: str, model: str) -> float | None:
        """The best of the trials; where all of them failed, the first, so that the failure is seen with every seed."""
        if not self.tune:
            return None
        return chosen_rate(self._search(task, model)[1], self._prepared[task].spec.primary.direction) or RATES[0]


def run_grid(
    grid: Grid,
    listener: Listener,
    *,
    jobs: int | None = None,
    limit: float | None = None,
    plugins: Sequence[Path] = (),
    force: bool = False,
    here: bool = False,
    executor: Executor | None = None,
) -> list[Outcome]:
    """Run what has no final record yet, the trials of learning rates first; returns all outcomes in the grid's order.

    Args:
        jobs: how many cells run at once, each in a process of its own; 1 unless it is said.
        limit: seconds after which a cell is ended; by default `TIME_LIMITS` of the budget.
        plugins: files that each process loads first.
        force: run again what has a record, too.
        here: run the cells one after the other in this process, without a time limit, instead.
        executor: where processes run; None: on this machine.

    Raises:
        UserError: the store can't be written, or an option that can't be used; before anything is run.
        OSError: a record could not be written; what has a record keeps it.
    """
    grid.store.check_writable()
    grid.store.sweep()
    _tell_slower(grid.base, listener)
    grid.prepare(listener.say)
    outcomes: dict[str, Outcome] = {}
    limit = limit or TIME_LIMITS[grid.base.budget]
    for stage in (grid.trials, grid.cells):
        while todo := [experiment.job for experiment in stage() if experiment.job.key not in outcomes]:
            if here:
                done = _run_here(grid, todo, listener, force=force)
            else:
                where = executor or LocalProcesses(jobs or 1, _gpus(grid.base), many=len(todo) > 1)
                done = run_jobs(
                    todo, grid.store, where, grid.failed, listener, limit=limit, plugins=plugins, force=force
                )
            for outcome in done:
                if outcome.stored:
                    _remove_left(outcome.folder.parent / CHECKPOINT)
            for outcome in {_dataset_of(one): one for one in done if one.stored}.values():  # each name once
                _tell_name(outcome, grid.base, listener)
            outcomes |= {outcome.job.key: outcome for outcome in done}
    return list(outcomes.values())


@contextlib.contextmanager
def cluster_of(
    place: Placement,
    *,
    device: Device,
    threads: int,
    jobs: int | None,
    plugins: Sequence[Path],
    say: Callable[[str], None],
) -> Iterator[RayTasks | None]:
    """The cluster that ``place`` names, connected, for ``jobs`` at once; None where processes run on this machine.

    Inside, `resolve` is for the cluster's nodes, and whatever is resolved must ask for the executor's ``device``.

    Raises:
        UserError: there is no such cluster, or it has not what is asked for.
    """
    if place.here:
        yield None
        return
    assert place.address is not None
    gpus = place.gpus_per_cell
    with (
        RayTasks(
            place.address, jobs=jobs, threads=threads, device=device, gpus=gpus, plugins=plugins, say=say
        ) as tasks,
        resolved_for_others(tasks.device),
    ):
        yield tasks


@contextlib.contextmanager
def lasting_processes(config: RunConfig, slots: int | None) -> Iterator[LocalProcesses]:
    """Processes for several calls of `run_jobs_of`; on the way out they are ended."""
    executor = LocalProcesses(slots or 1, _gpus(config), many=True, lasting=True)
    try:
        yield executor
    finally:
        executor.shut()


def run_jobs_of(
    experiments: Mapping[str, Experiment],
    jobs: Sequence[Job],
    store: Store,
    executor: Executor,
    listener: Listener,
    *,
    limit: float | None = None,
    plugins: Sequence[Path] = (),
) -> list[Outcome]:
    """Run ``jobs`` of ``experiments``, which are named by the jobs' keys; the jobs may be of another kind than theirs.

    ``limit`` and ``plugins`` are those of `run_grid`, as is what is raised.
    """

    def failed(job: Job, status: Status, reason: str) -> Record:
        return _Run(experiments[job.key], Listener()).record(status, reason)

    limit = limit or TIME_LIMITS[jobs[0].spec.budget]
    return run_jobs(jobs, store, executor, failed, listener, limit=limit, plugins=plugins)


def _run_here(grid: Grid, todo: Sequence[Job], listener: Listener, *, force: bool) -> list[Outcome]:
    """`run_jobs` without processes: for models that only this one knows."""
    jobs = list({job.key: job for job in todo}.values())
    outcomes = {} if force else {job.key: known for job in jobs if (known := grid.store.final(job))}
    waiting = [job for job in jobs if job.key not in outcomes]
    listener.planned(tuple(waiting), tuple(outcomes.values()))
    for job in waiting:
        outcomes[job.key] = _attempt_here(grid, job, listener.started(job), force=force)
        listener.ended(outcomes[job.key])
    return [outcomes[job.key] for job in jobs]


def _attempt_here(grid: Grid, job: Job, listener: Listener, *, force: bool) -> Outcome:
    """One cell; whatever goes wrong with it becomes its record, and the grid goes on."""
    try:
        return _cell(grid.experiment_of(job).config, grid.store, force=force, listener=listener)
    except OSError:
        raise  # the disk, say: not the cell's failure
    except FAILURES as error:
        why: tuple[Status, str] = ("error", str(error)) if isinstance(error, UserError) else status_of(error)
        trace = traceback.format_exc()

    def work(folder: Path) -> Record:
        _write_trace(folder, trace)
        return grid.failed(job, *why)

    return grid.store.keep(job, work)


def _trial(record: RunRecord) -> tuple[int, float, float | None]:
    """Seed, learning rate, and the primary figure on validation; None unless the run ended well."""
    value = record.metrics["val"][record.primary.name] if record.status == "ok" and record.primary else None
    return record.seed, float(record.config["learning_rate"]), value


STEPS = 4  # of training from which a run's time is estimated
START = 2.0  # seconds until a fresh process has imported what a run needs


def estimate_seconds(
    experiments: Iterable[Experiment], store: Store, say: Callable[[str], None] = lambda line: None
) -> dict[str, float]:
    """Seconds that each of ``experiments`` will take, by key; the start of a process is counted once.

    Those on a device that this machine has not are left out, unless their like has a record.

    Records of the same task, model, width and budget on the same device tell it best, then the table of `estimates`,
    which knows built-in models on shipped data on one core of a CPU. Of others the model is trained for a few steps and
    reads the validation split once. One that fails then is taken to fail at once.
    """
    spent: dict[tuple[object, ...], list[float]] = {}
    for record, _ in store.records(RunRecord):
        if record.cost is not None:
            seconds = record.cost.train_seconds + record.cost.eval_seconds + record.cost.data_seconds
            spent.setdefault(_like(record), []).append(seconds)
    medians = {like: statistics.median(seconds) for like, seconds in spent.items()}
    start, estimates = START, dict[str, float]()
    for experiment in experiments:
        like = _like(experiment)
        if like not in medians and not is_here(experiment.device):
            continue
        if like not in medians:
            known = _from_table(experiment)
            if known is None:
                say(f"timing {experiment.config.task} {experiment.config.model}, of which no rate is known")
                known = _measure(experiment)
            medians[like] = known
        estimates[experiment.job.key] = start + medians[like]
        start = 0.0
    return estimates


def _like(one: RunRecord | Experiment) -> tuple[object, ...]:
    """What decides how long it takes."""
    if isinstance(one, RunRecord):
        place, config, device, options = one.place, one.config, one.environment.device_name, one.task.options
    else:
        place, config, device, options = one.config.place, one.resolved, device_name(one.device), one.prepared.options
    sizes = ("hidden", "params", "layers", "backbone", "embedding", "dense", "steps", "batch_size")
    names = (*sizes, "threads", "carry_state")
    return *place, device, json.dumps(options, sort_keys=True), *(str(config.get(name)) for name in names)


def _from_table(experiment: Experiment) -> float | None:
    """Seconds by the table of measured rates; None for what it does not know. What is refused takes none."""
    if not experiment.can_be_scored:
        return 0.0
    config, budget, data = experiment.config, experiment.budget, experiment.prepared.data
    another = experiment.prepared.options.keys() & experiment.prepared.spec.forms.keys()  # words for characters
    usual = config.threads == 1 and not config.carry_state and not another
    if experiment.device.type != "cpu" or not usual or experiment.prepared.source != "embedded":
        return None
    rate = run_rate(experiment.prepared.spec.name, experiment.model.name, budget.batch_size)
    flops = None if rate is None or any(experiment.codes) else _batch_flops(experiment)
    if rate is None or flops is None:
        return None
    step, read = rate.scaled(flops)
    last = 1 + data.test.n_scored / data.val.n_scored  # validation and test once more at the end
    return rate.beside + step * budget.steps + read * (budget.evaluations + last)


def _batch_flops(experiment: Experiment) -> float | None:
    """Of a forward pass over a batch; None where that can't be counted, or the model is refused."""
    try:
        with torch.device("meta"):
            model = build_model(experiment)
        flops = flops_per_sample(model, experiment.prepared.data.train.sequence_length)
    except FAILURES:
        return None
    return None if flops is None else float(flops) * experiment.budget.batch_size


def rate_of(experiment: Experiment) -> tuple[float, float, float] | None:
    """Seconds of a training step and of reading validation, and FLOPs of a batch, measured; None if it can't be run."""
    flops = _batch_flops(experiment)
    try:
        step, read = _timed(experiment, 2 * STEPS)
    except FAILURES:
        return None
    return None if flops is None else (step, read, flops)


def _measure(experiment: Experiment) -> float:
    started = time.perf_counter()
    try:
        step, read = _timed(experiment, STEPS)
    except FAILURES:
        return time.perf_counter() - started
    return step * experiment.budget.steps + read * (experiment.budget.evaluations + 2)  # both splits at the end


def _timed(experiment: Experiment, steps: int) -> tuple[float, float]:
    """Seconds of a training step and of reading validation."""
    short = dataclasses.replace(experiment.budget, steps=steps, evaluations=1)
    with settings(experiment.device, experiment.config):
        model = build_model(experiment).to(experiment.device)
        check_sees_no_future(model, experiment.prepared.data, 8)
        done = fit(model, experiment.prepared.spec, experiment.data, experiment.config, short)
    return done.train_seconds / steps, done.eval_seconds

"""Measurements of probes as jobs: planned, run, recorded, and read again."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from seqbench.device import resolve_device, settings
from seqbench.errors import UserError
from seqbench.experiment import environment_of
from seqbench.jobs.cluster import RayTasks
from seqbench.jobs.job import FAILURES, Job, Listener, Outcome, status_of
from seqbench.jobs.pool import TIME_LIMITS, Executor, LocalProcesses, run_jobs
from seqbench.jobs.progress import Terminal
from seqbench.jobs.record import (
    SCHEMA_VERSION,
    Environment,
    MeasuredModel,
    ProbeInfo,
    ProbeRecord,
    Status,
    now,
    probe_key,
)
from seqbench.jobs.store import Store
from seqbench.models.kernels.used import forget_kernels, used_kernels
from seqbench.models.mixer import MODELS
from seqbench.probes import PROBES, Measured, ProbeSpec, Request
from seqbench.probes.shared.nets import check_mixer

__all__ = [
    "failed",
    "find_older",
    "job_of",
    "measure",
    "measure_all",
    "measured",
    "plan_jobs",
    "read_result",
    "run_spec",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def plan_jobs(probe: str, request: Request, options: Any, models: Sequence[str]) -> list[Job]:
    """The measurements of ``probe``, each once, after every model is held to the contract of its layer.

    Raises:
        UserError: a layer that breaks the contract, or what can't be measured.
    """
    for model in models:
        check_mixer(model)
    specs = PROBES.get(probe).plan(request, options, models, resolve_device(request).type)
    if not specs:
        raise UserError("there is nothing to measure with these options.")
    return list({job.key: job for job in map(job_of, specs)}.values())


def job_of(spec: ProbeSpec) -> Job:
    """``spec`` under its key; raises `UserError` for an unknown probe or model."""
    models = [model.model_dump() for model in _models(spec)]
    return Job(__name__, spec, probe_key(_info(spec).model_dump(), models, spec.to_json()))


def find_older(job: Job, store: Store) -> Outcome | None:
    """The newest record of what ``job`` measures by an older version of its models or its probe, as that of ``job``.

    A version goes up when figures change at all, by a digit of rounding, say; the record says which it was.
    """
    spec = _spec(job)
    models, info = [model.model_dump() for model in _models(spec)], _info(spec)
    newest = max(model["version"] for model in models)
    for probe, version in product(range(info.version, 0, -1), range(newest, 0, -1)):
        older = [{**model, "version": min(model["version"], version)} for model in models]
        key = probe_key({**info.model_dump(), "version": probe}, older, spec.to_json())
        if key != job.key and (found := store.find(dataclasses.replace(job, key=key))):
            return dataclasses.replace(found, job=job)
    return None


def _info(spec: ProbeSpec) -> ProbeInfo:
    return ProbeInfo(name=spec.probe, version=PROBES.get(spec.probe).version)


def _models(spec: ProbeSpec) -> tuple[MeasuredModel, ...]:
    entries = [MODELS.entry(name) for name in spec.models]
    return tuple(MeasuredModel(name=e.name, version=e.value.version, code_sha256=e.code) for e in entries)


def run_spec(spec: dict[str, Any], store: Store, *, force: bool, listener: Listener) -> None:
    """Measure what another process has planned; see `jobs.job.Job`."""
    measure(job_of(ProbeSpec.from_json(spec)), store, force=force, listener=listener)


def measure(job: Job, store: Store, *, force: bool = False, listener: Listener | None = None) -> Outcome:
    """Measure ``job``, or find its stored record; a failure leaves a record that says how.

    Raises:
        UserError: the store can't be written; nothing is written then.
    """
    known = store.final(job)
    if known and not force:
        return known
    store.check_writable()
    return store.keep(job, lambda folder: _attempt(job, folder, listener or Listener()))


def _attempt(job: Job, folder: Path, listener: Listener) -> ProbeRecord:
    spec, started, clock = _spec(job), now(), time.perf_counter()
    try:
        with settings(torch.device(spec.device), spec):
            forget_kernels()
            result = PROBES.get(spec.probe).measure(spec, listener)
            where = environment_of(torch.device(spec.device), spec.threads, kernel=used_kernels())
        return _record(job, "ok", None, started, time.perf_counter() - clock, result, where)
    except FAILURES as error:
        if isinstance(error, OSError) and error.errno in FULL:  # the disk's failure, not the model's
            raise
        status, reason = ("error", str(error)) if isinstance(error, UserError) else status_of(error)
        if status == "error":
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        return _record(job, status, reason, started, time.perf_counter() - clock)


def failed(job: Job, status: Status, reason: str) -> ProbeRecord:
    """The record of a job whose process left none."""
    return _record(job, status, reason, now(), 0.0)


def _record(
    job: Job,
    status: Any,
    reason: str | None,
    started: str,
    seconds: float,
    result: Any = None,
    where: Environment | None = None,
) -> ProbeRecord:
    """The record of ``job`` with whatever is known."""
    spec = _spec(job)
    probe = PROBES.get(spec.probe)
    return ProbeRecord(
        schema_version=SCHEMA_VERSION,
        key=job.key,
        status=status,
        reason=reason,
        probe=_info(spec),
        models=_models(spec),
        case=spec.to_json(),
        # as JSON has it, without tuples; what is no number for JSON is a mistake in the probe
        result=None if result is None else json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False)),
        summary="" if result is None else probe.headline(result),
        seconds=round(seconds, 3),
        environment=where or environment_of(torch.device(spec.device), spec.threads),
        started=started,
        finished=now(),
    )


def _spec(job: Job) -> ProbeSpec:
    assert isinstance(job.spec, ProbeSpec)
    return job.spec


@functools.cache
def _reader(probe: str) -> TypeAdapter[Any]:
    return TypeAdapter(PROBES.get(probe).Result)


def read_result(record: ProbeRecord) -> Any:
    """The result of ``record`` as its probe's own dataclass; raises `UserError` if it is not one."""
    try:
        return _reader(record.probe.name).validate_python(record.result)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"a record of probe {record.probe.name} has no valid result: {where}: {first['msg']}."
        ) from None


def measured(outcomes: Iterable[Outcome]) -> list[Measured[Any]]:
    """Those of ``outcomes`` that have a result."""
    return [
        Measured(_spec(outcome.job), read_result(outcome.record), outcome.folder)
        for outcome in outcomes
        if isinstance(outcome.record, ProbeRecord) and outcome.record.result is not None
    ]


def measure_all(
    jobs: Sequence[Job],
    store: Store,
    slots: int = 1,
    *,
    limit: float | None = None,
    plugins: Sequence[Path] = (),
    force: bool = False,
    cluster: RayTasks | None = None,
) -> list[Outcome]:
    """Measure what has no final record: here, one after the other, or in processes where there are several ``slots`` or
    a ``cluster``.

    Those that read a clock come last and run alone, in a process of their own if the others do; on a cluster one has a
    node to itself, which is the same for all. ``limit`` seconds end a process; by default the budget's.
    """
    if force or any(store.final(job) is None for job in jobs):
        store.check_writable()  # a store that is there may be read-only and still hold all results
    if slots == 1 and cluster is None:
        with Terminal(1) as terminal:
            return _measure_here(jobs, store, terminal, force=force)
    outcomes: list[Outcome] = []
    timed = {job.key for job in jobs if PROBES.get(_spec(job).probe).timed}
    for part, at_once in (
        ([job for job in jobs if job.key not in timed], slots),
        ([job for job in jobs if job.key in timed], 1),
    ):
        if part:
            seconds = limit or TIME_LIMITS[part[0].spec.budget]
            with _executor(part, at_once, cluster) as executor, Terminal(executor.slots) as terminal:
                outcomes += run_jobs(
                    part, store, executor, failed, terminal, limit=seconds, plugins=plugins, force=force
                )
    return outcomes


@contextlib.contextmanager
def _executor(part: Sequence[Job], at_once: int, cluster: RayTasks | None) -> Iterator[Executor]:
    """Where ``part`` of the measurements runs, ``at_once`` on this machine."""
    if cluster is None:
        gpus = torch.cuda.device_count() if _spec(part[0]).device == "cuda" else 0
        yield LocalProcesses(at_once, gpus, many=len(part) > 1)
        return
    with cluster.alone() if PROBES.get(_spec(part[0]).probe).timed else contextlib.nullcontext():
        yield cluster


def _measure_here(jobs: Sequence[Job], store: Store, listener: Listener, *, force: bool) -> list[Outcome]:
    known = {} if force else {job.key: final for job in jobs if (final := store.final(job))}
    listener.planned([job for job in jobs if job.key not in known], list(known.values()))
    outcomes = []
    for job in jobs:
        outcome = known.get(job.key)
        if outcome is None:
            outcome = measure(job, store, force=force, listener=listener.started(job))
            listener.ended(outcome)
        outcomes.append(outcome)
    return outcomes

"""What a probe must keep: a plan that can be gone on with, results that survive their record, a table and a picture.

The probe is planned and measured at ``smoke`` with the plainest of the built-in models, in a store of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbench.checks import Broken, NotChecked, register_check
from seqbench.checks.models import plain_model
from seqbench.jobs.job import Job, Outcome
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.probes import PROBES, Measured, Probe, ProbeSpec, Request
from seqbench.probes.shared.measuring import measure, measured, plan_jobs
from seqbench.report.chart import Chart
from seqbench.report.draw import draw, need_matplotlib
from seqbench.report.text import counted, listed

__all__ = ["Subject"]


class Subject:
    """The probe called ``name``; inside a ``with`` it has a folder for records."""

    def __init__(self, name: str) -> None:
        self.probe: Probe[Any] = PROBES.get(name)

    def __enter__(self) -> Subject:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    @functools.cached_property
    def model(self) -> str:
        """What is measured."""
        return plain_model()

    def plan(self, seed: int = 0) -> list[Job]:
        """What ``probe NAME --budget smoke`` would measure."""
        request = Request(model=self.model, budget="smoke", seed=seed, seeds=1, device="cpu")
        return plan_jobs(self.probe.name, request, self.probe.Options(), [self.model])

    @functools.cached_property
    def jobs(self) -> list[Job]:
        """Planned once."""
        return self.plan()

    @functools.cached_property
    def outcomes(self) -> list[Outcome]:
        """Measured once."""
        return [measure(job, Store(self.folder / "first")) for job in self.jobs]

    @functools.cached_property
    def measurements(self) -> Sequence[Measured[Any]]:
        """As they are read from the records."""
        return measured(self.outcomes)


@register_check("probe", "description", "it says what it measures; Options and Result are frozen dataclasses")
def _description(subject: Subject) -> str:
    probe = subject.probe
    first = (probe.__doc__ or "").strip().partition("\n")[0]
    if not first or probe.__doc__ == Probe.__doc__:
        raise Broken("its class has no docstring: say in its first line what it measures.")
    results = getattr(probe, "Result", None)
    if results is None:
        raise Broken("it names no Result: a frozen dataclass of what measure returns.")
    for name, kind in (
        ("Options", probe.Options),
        *(("Result", one) for one in getattr(results, "__args__", (results,))),
    ):
        params = getattr(kind, "__dataclass_params__", None)
        if params is None or not params.frozen:
            raise Broken(f"{name} is no frozen dataclass: write @dataclass(frozen=True) above it.")
    unset = [one.name for one in dataclasses.fields(probe.Options) if one.default is dataclasses.MISSING]
    if unset:
        raise Broken(f"the options {listed(unset)} have no default: give them one.")
    return first


@register_check(
    "probe", "plan", "plan gives measurements that another process can make, the same each time", first=True
)
def _plan(subject: Subject) -> str:
    jobs = subject.jobs
    for job in jobs:
        spec = job.spec
        assert isinstance(spec, ProbeSpec)
        if spec.probe != subject.probe.name:
            raise Broken(
                f"a ProbeSpec is of the probe {spec.probe!r}: name it {subject.probe.name!r}, as self.specs does."
            )
        again = ProbeSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))
        if again != spec:
            raise Broken(
                f"its options {dict(spec.options)} are {dict(again.options)} when they come back from JSON: put in "
                "numbers, texts, lists and dicts only."
            )
    keys, again_keys = [job.key for job in jobs], [job.key for job in subject.plan()]
    if keys != again_keys:
        raise Broken("planned twice it gives other measurements, so none could be found again: draw nothing in plan.")
    if set(keys) & {job.key for job in subject.plan(seed=1)}:
        raise NotChecked(f"{counted(len(jobs), 'measurement')}; of another seed they are the same.")
    return f"{counted(len(jobs), 'measurement')} of {subject.model} at smoke"


@register_check("probe", "measure", "measure gives a Result of numbers and texts", first=True)
def _measure(subject: Subject) -> str:
    failed = [outcome.record for outcome in subject.outcomes if outcome.record.status != "ok"]
    if failed:
        raise Broken(f"{failed[0].status} at {len(failed)} of {len(subject.outcomes)}: {failed[0].reason}.")
    first = subject.measurements[0]
    kinds = getattr(subject.probe.Result, "__args__", (subject.probe.Result,))
    if not isinstance(first.result, tuple(kinds)):
        raise Broken(f"it gives a {type(first.result).__name__}, not a {kinds[0].__name__}.")
    return counted(len(subject.measurements), "result")


@register_check("probe", "record", "a result that is read from its record is the one that was measured")
def _record(subject: Subject) -> str:
    for outcome, one in zip(subject.outcomes, subject.measurements, strict=True):
        assert isinstance(outcome.record, ProbeRecord)
        kept, read = outcome.record.result, json.loads(json.dumps(dataclasses.asdict(one.result)))
        if kept != read:
            differ = [name for name in read if kept is None or kept.get(name) != read[name]]
            raise Broken(f"{listed(differ)} of the result is another when it is read: say its type in Result.")
    sizes = [len(json.dumps(dataclasses.asdict(one.result))) for one in subject.measurements]
    return f"up to {max(sizes):,} characters of JSON"


@register_check("probe", "repeatable", "the same seed gives the same figures")
def _repeatable(subject: Subject) -> str:
    if subject.probe.timed:
        raise NotChecked("it reads a clock, as timed = True says.")
    second = measure(subject.jobs[0], Store(subject.folder / "second")).record
    first = subject.outcomes[0].record
    assert isinstance(first, ProbeRecord) and isinstance(second, ProbeRecord)
    if second.result != first.result:
        differ = [name for name in first.result or {} if (second.result or {}).get(name) != (first.result or {})[name]]
        raise Broken(
            f"{listed(differ)} of the result differs when it is measured again: draw from a generator that spec.seed "
            "starts, or say timed = True if it reads a clock."
        )
    return "measured twice, to the last bit"


@register_check("probe", "table", "table gives a text that names the model, of all results and of one")
def _table(subject: Subject) -> str:
    for some in (subject.measurements, subject.measurements[:1]):
        text = subject.probe.table(some)
        if not isinstance(text, str) or subject.model not in text:
            raise Broken(
                f"the table names no {subject.model}, which was measured: give a text with a row for each model."
            )
    return f"{counted(len(text.splitlines()), 'line')}"


@register_check("probe", "chart", "chart gives a Chart that can be drawn, of all results and of one")
def _chart(subject: Subject) -> str:
    for some in (subject.measurements, subject.measurements[:1]):
        chart = subject.probe.chart(some)
        if not isinstance(chart, Chart):
            raise Broken(f"it gives a {type(chart).__name__}: return a seqbench.Chart.")
        need_matplotlib("drawing the chart")
        draw(chart, subject.folder / "chart.png")
    return "drawn"


@register_check("probe", "headline", "headline, if there is one, is one line")
def _headline(subject: Subject) -> str:
    text = subject.probe.headline(subject.measurements[0].result)
    if not isinstance(text, str) or "\n" in text:
        raise Broken(f"it gives {text!r}: return a few words.")
    if not text:
        raise NotChecked("it gives none.")
    return text

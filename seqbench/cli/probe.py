"""`probe NAME`: measure one limit of models, print the table and draw the picture."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from seqbench.cli.common import (
    FLAT,
    Common,
    Out,
    Picture,
    draw_picture,
    outcome_data,
    picture_place,
    show_json,
    speaker,
)
from seqbench.cli.run import evidence
from seqbench.config import Placement
from seqbench.errors import UserError
from seqbench.jobs import DONE, FINE
from seqbench.jobs.estimates import case_seconds
from seqbench.options import OUTPUT, AtOnce, Flag, Parameter, TimeLimit, check_options
from seqbench.probes import PROBES, Probe, Request
from seqbench.report.terminal import print_path, print_table, print_text
from seqbench.report.text import counted, duration

if TYPE_CHECKING:  # --help answers before any of these is imported
    from seqbench.jobs.cluster import RayTasks
    from seqbench.jobs.job import Outcome

__all__ = ["ProbeCommand", "ProbeRun", "group"]


@dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """How a probe's measurements are run and where their records go."""

    out: Out = Path("results/local")
    """Directory of the records."""
    jobs: AtOnce = None
    """Cases that run at once, each in a process of its own; by default 1, which runs here, on a cluster as many as it
    has room for. What reads a clock runs alone."""
    time_limit: TimeLimit = None
    """Seconds after which a case in a process of its own (--jobs 2 or more) is ended; by default by budget: 10 minutes,
    2 hours, a day."""
    force: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Measure again even if there is a stored record; the old one stays beside the new one."""
    dry_run: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Show the cases, and measure none."""
    plot: Picture = None
    """Where to draw the result (.png, .svg or .html); by default probes/NAME.png under --out."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        check_options(self)
        picture_place(self.plot, Path("probe.png"))


@dataclass(frozen=True, kw_only=True)
class ProbeCommand:
    """What the commands of all probes share; each adds its probe and the options of that."""

    request: Annotated[Request, FLAT] = field(default_factory=Request)
    run: Annotated[ProbeRun, FLAT] = field(default_factory=ProbeRun)
    place: Annotated[Placement, FLAT] = field(default_factory=Placement)
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.run.time_limit is not None and self.run.jobs in (None, 1) and self.place.here:
            raise UserError("--time-limit ends processes, and --jobs 1 starts none: give --jobs 2 as well.")

    def __call__(self) -> int:
        """Measure what has no record yet, print the table and draw the picture; 1 if a case failed."""
        from seqbench.experiment import cluster_of
        from seqbench.models.mixer import MODELS

        request, plugins = self.request, self.common.plugin
        MODELS.chosen(request.model)  # a wrong one is found before a cluster is asked
        needs: dict[str, Any] = {"device": request.device, "threads": request.threads, "jobs": self.run.jobs}
        with cluster_of(self.place, **needs, plugins=plugins, say=speaker("ray")) as cluster:
            return self._measure(cluster)

    def _measure(self, cluster: RayTasks | None) -> int:
        from seqbench.jobs.store import Store
        from seqbench.models.mixer import MODELS
        from seqbench.probes.shared.measuring import measure_all, measured, plan_jobs

        probe: Probe[Any] = PROBES.get(type(self).__name__)
        options = getattr(self, "options")  # noqa: B009 - each command adds its own
        store, run = Store(self.run.out), self.run
        request = self.request if cluster is None else dataclasses.replace(self.request, device=cluster.device)
        jobs = plan_jobs(probe.name, request, options, MODELS.chosen(request.model))
        if run.dry_run:
            states = [known.record.status if (known := store.final(job)) else "to run" for job in jobs]
            plan = [
                {
                    "case": job.spec.name,
                    "state": state,
                    "seconds": case_seconds(job.spec) if state == "to run" else None,
                }
                for job, state in zip(jobs, states, strict=True)
            ]
            show_json(plan) if self.common.json else _show_plan(plan)
            return 0
        limit, plugins = run.time_limit, self.common.plugin
        outcomes = measure_all(
            jobs, store, run.jobs or 1, limit=limit, plugins=plugins, force=run.force, cluster=cluster
        )
        measurements = measured(outcomes)
        usual = store.root / "probes" / f"{probe.name}.png"
        place = picture_place(run.plot, usual) or usual
        said = _draw(probe, measurements, place) if measurements else ("", "")
        if self.common.json:
            show_json([outcome_data(outcome) for outcome in outcomes])
        else:
            if measurements:
                print_text(f"{probe.table(measurements)}\n")
                print_path(*said)
            _show_end(outcomes)
        return 0 if all(outcome.record.status in FINE for outcome in outcomes) else 1


def _draw(probe: Probe[Any], measurements: Sequence[Any], path: Path) -> tuple[str, Path | str]:
    """Draw the picture; where it is, or why there is none."""
    from seqbench.report.draw import need_matplotlib

    try:
        if path.suffix != ".html":
            need_matplotlib()
    except UserError as error:
        return "no picture: ", str(error)
    return "plot    ", draw_picture(probe.chart(measurements), path)


def group(word: str) -> dict[str, type[Any]]:
    """A command for every probe, or for the one called ``word``: the shared fields and its own options."""
    commands: dict[str, type[Any]] = {}
    for entry in [PROBES.entry(word)] if not word.startswith("-") else PROBES.entries():
        options = entry.value.Options
        own = ("options", Annotated[options, FLAT], field(default_factory=options))
        command = dataclasses.make_dataclass(entry.name, [own], bases=(ProbeCommand,), frozen=True, kw_only=True)
        command.__module__ = __name__  # that of make_dataclass would pass for a built-in type
        for cls in (options, command):  # no texts: those of a base class name what its own module has imported
            if "__init__" in vars(cls):
                vars(cls)["__init__"].__annotations__ = get_type_hints(cls, include_extras=True)
        command.__doc__ = (entry.value.__doc__ or "").strip().partition("\n")[0]
        commands[entry.name] = command
    return commands


def _show_plan(plan: Sequence[dict[str, Any]]) -> None:
    cells = ["" if row["seconds"] is None else duration(row["seconds"]) for row in plan]
    print_table(
        ["case", "state", "about"], [[row["case"], row["state"], cell] for row, cell in zip(plan, cells, strict=True)]
    )
    to_run = [row["seconds"] for row in plan if row["state"] == "to run"]
    time = f": about {duration(sum(to_run))} one after the other" if to_run and None not in to_run else ""
    print_text(f"\n{counted(len(plan), 'case')}, {len(to_run)} to run{time}")


def _show_end(outcomes: Sequence[Outcome]) -> None:
    """Print what has no result, and where the records are."""
    reasons = Counter(
        (f"{outcome.job.spec.place[-1]}: {outcome.record.status}", outcome.record.reason or "")
        for outcome in outcomes
        if outcome.record.status != "ok"
    )
    for (who, why), count in reasons.items():
        print_text(f"{who}{f' ({count} cases)' if count > 1 else ''}: {why}")
    failed = [outcome for outcome in outcomes if outcome.record.status not in FINE]
    for outcome in failed:
        print(f"failed  {outcome.job.spec.name}: see {evidence(outcome)}", file=sys.stderr)
    if any(outcome.record.status not in DONE for outcome in outcomes):
        print("failed cases are tried again by the same command", file=sys.stderr)
    if any(outcome.record.status == "diverged" for outcome in outcomes):
        print("what diverged would do so again: --force measures it all the same", file=sys.stderr)
    if outcomes:
        print_path("records ", outcomes[0].folder.parent.parent.parent)

"""`claims`: measure what the ledger of documented limits needs, and write it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from seqbench.cli.common import FLAT, Common, Out, show_json, speaker
from seqbench.config import Placement
from seqbench.errors import UserError
from seqbench.jobs import FINE
from seqbench.jobs.estimates import case_seconds
from seqbench.options import MACHINE, OUTPUT, WHAT, AtOnce, Device, Flag, Parameter, check_options
from seqbench.probes import PROBES
from seqbench.report.terminal import print_table, print_text
from seqbench.report.text import counted, duration

if TYPE_CHECKING:  # --help answers before any of these is imported
    from seqbench.jobs.cluster import RayTasks
    from seqbench.jobs.job import Job
    from seqbench.jobs.store import Store

__all__ = ["COMMAND", "Claims"]

BOARD = Path("results/board")
USUAL = 2  # cases at once on this machine


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Measure what textbooks say of recurrent networks, and write the ledger: CLAIMS.md, claims.json, plots."""

    budget: Annotated[Literal["smoke", "quick", "standard"], Parameter(group=WHAT)] = "quick"
    """How thorough: seconds, hours of two CPU cores (--dry-run tells how many), or as the protocol has it on a GPU."""
    out: Out = Path("results/local")
    """Directory of the records; the ledger goes there, too."""
    board: Annotated[Path, Parameter(group=WHAT, metavar="DIR")] = BOARD
    """Directory of task records, from which skills are compared."""
    jobs: AtOnce = None
    """Cases that run at once, each in a process of its own; by default 2, on a cluster as many as it has room for. What
    reads a clock runs alone."""
    device: Annotated[Device, Parameter(group=MACHINE)] = "auto"
    """Device to measure on."""
    report: Annotated[Flag, Parameter(group=WHAT)] = False
    """Measure nothing: write the ledger from the records that are there."""
    dry_run: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Show the cases, and run none."""
    place: Annotated[Placement, FLAT] = field(default_factory=Placement)
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what no ledger could use."""
        check_options(self)
        if self.board != BOARD and not self.board.is_dir():
            raise UserError(f"--board {self.board}: no such directory of task records.")

    def __call__(self) -> int:
        """Measure what has no record yet and write; 1 if a case failed."""
        if self.report and not self.place.here:
            raise UserError("--report measures nothing: leave --executor ray out.")
        from seqbench.experiment import cluster_of

        needs: dict[str, Any] = {"device": self.device, "threads": 1, "jobs": self.jobs}
        with cluster_of(self.place, **needs, plugins=self.common.plugin, say=speaker("ray")) as cluster:
            return self._measure(cluster)

    def _measure(self, cluster: RayTasks | None) -> int:
        from seqbench.claims import ledger
        from seqbench.device import resolve_device
        from seqbench.jobs.store import Store
        from seqbench.probes import Request
        from seqbench.probes.shared.measuring import find_older, measure_all

        store = Store(self.out)
        device = self.device if cluster is None else cluster.device
        jobs = ledger.plan(self.budget, resolve_device(Request(device=device)).type)
        if self.dry_run:
            waiting = [job for job in jobs if store.final(job) is None]
            plan, at_once = _plan(jobs, store), (self.jobs or USUAL) if cluster is None else cluster.slots
            show_json(plan) if self.common.json else _show_plan(plan, waiting, at_once)
            return 0
        if self.report:
            outcomes = [known for job in jobs if (known := store.find(job) or find_older(job, store))]
            if not outcomes:
                raise UserError(
                    f"{self.out} holds none of the {len(jobs)} records of budget {self.budget}: leave --report out."
                )
        else:
            ledger.read_board(self.board)  # one that can't be read is found before hours of work
            outcomes = measure_all(jobs, store, self.jobs or USUAL, plugins=self.common.plugin, cluster=cluster)
        written = ledger.write(jobs, outcomes, self.budget, self.out, self.board)
        failed = [outcome for outcome in outcomes if outcome.record.status not in FINE]
        if self.common.json:
            show_json(json.loads((self.out / "claims.json").read_text(encoding="utf-8")))
            return 1 if failed else 0
        for path in written:
            print(path)
        for outcome in failed:
            print_text(f"failed  {outcome.job.spec.name}: {outcome.record.status}: {outcome.record.reason}")
        return 1 if failed else 0


COMMAND = Claims


def _plan(jobs: Sequence[Job], store: Store) -> list[dict[str, Any]]:
    """How many cases there are of each probe and state, and the seconds that those to run take one after the other.

    None where no time of such a case is known.
    """
    states = [(job, known.record.status if (known := store.find(job)) else "to run") for job in jobs]
    counts = Counter((job.spec.alike[0], state) for job, state in states)
    to_run = {
        probe: [job for job, state in states if (job.spec.alike[0], state) == (probe, "to run")] for probe, _ in counts
    }
    return [
        {
            "probe": probe,
            "state": state,
            "cases": count,
            "seconds": _seconds(to_run[probe]) if state == "to run" else 0.0,
        }
        for (probe, state), count in counts.items()
    ]


def _seconds(jobs: Sequence[Job]) -> float | None:
    """Of all ``jobs``, one after the other."""
    each = [case_seconds(job.spec) for job in jobs]
    return None if None in each else sum(seconds or 0.0 for seconds in each)


def _show_plan(plan: Sequence[dict[str, Any]], waiting: Sequence[Job], at_once: int) -> None:
    """The cases, and how long each claim and all of them together would take."""
    from seqbench.claims import NEEDS, Evidence, all_claims

    rows = [[row["probe"], row["state"], str(row["cases"]), _about(row["seconds"])] for row in plan]
    print_table(["probe", "state", "cases", "about"], rows)
    to_run = sum(row["cases"] for row in plan if row["state"] == "to run")
    print()
    lines = [
        [str(claim.number), claim.sentence, _about(_seconds(_needed(NEEDS[claim.number], waiting)))]
        for claim in all_claims(Evidence())
    ]
    print_table(["claim", "sentence", "about"], lines)
    alone = [job for job in waiting if PROBES.get(job.spec.alike[0]).timed]
    beside = _seconds([job for job in waiting if job not in alone])
    clock = _seconds(alone)
    said = f"\n{counted(sum(row['cases'] for row in plan), 'case')}, {to_run} to run"
    if to_run:
        known = None if beside is None or clock is None else beside / at_once + clock
        said += f": about {_about(known)} with --jobs {at_once}" if known is not None else ": how long is not known"
    print_text(said)
    print_text("claims share cases, so that all take less than the sum of each")


def _needed(needs: Mapping[str, Sequence[str]], jobs: Sequence[Job]) -> list[Job]:
    """Those of ``jobs`` that a claim rests on."""
    return [
        job
        for job in jobs
        for models in [needs.get(job.spec.alike[0])]
        if models is not None and (not models or not set(models).isdisjoint(job.spec.alike))
    ]


def _about(seconds: float | None) -> str:
    return "not known" if seconds is None else duration(seconds) if seconds else ""

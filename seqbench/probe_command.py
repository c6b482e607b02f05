"""The command `probe`: which cases it plans, runs, and what it shows at the end."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from seqbench.device import resolve_device
from seqbench.errors import UserError
from seqbench.experiment import Listener, chosen_names
from seqbench.jobs.pool import TIME_LIMITS, Event, LocalProcesses, Runner
from seqbench.jobs.progress import GridProgress
from seqbench.jobs.record import DONE, FINE
from seqbench.models.mixer import MODELS
from seqbench.probe_options import ProbeRun
from seqbench.probes import Case, Found, Probe, Request, get_probe
from seqbench.probes.record import ProbeRecord, ProbeStore
from seqbench.probes.run import CaseWork, run_case
from seqbench.probes.shared.nets import check_mixer

__all__ = ["measured", "plan_cases", "run_cases", "run_probe"]

Done = list[tuple[CaseWork, ProbeRecord, Path]]


def run_probe(name: str, request: Request, options: Any, run: ProbeRun, plugins: Sequence[Path] = ()) -> int:
    """Measure what has no record yet, print the table and draw the picture; 1 if a case failed."""
    probe, store = get_probe(name), ProbeStore(run.out)
    works = [CaseWork.of(case, store) for case in plan_cases(probe, request, options)]
    if run.dry_run:
        return _show_plan(works, store)
    done = run_cases(works, store, run, plugins)
    found = measured(done)
    if found:
        print(probe.table(found))
        path = run.plot or store.root / f"{name}.png"
        if importlib.util.find_spec("matplotlib") is None:
            print("\nno picture: it needs matplotlib: pip install 'seqbench[plot]'")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"\nplot    {probe.draw(found, path)}")
    return _show_end(done)


def plan_cases(probe: Probe, request: Request, options: Any) -> list[Case]:
    """The cases, each once, after every model is held to the contract of its layer.

    Raises:
        UserError: an unknown model, a layer that breaks the contract, or what can't be measured.
    """
    models, device = chosen_names(request.model, MODELS), resolve_device(request).type
    for model in models:
        check_mixer(model)
    cases = probe.cases(request, options, models, device)
    if not cases:
        raise UserError("there is nothing to measure with these options.")
    return list({str(case.to_json()): case for case in cases}.values())


def run_cases(works: Sequence[CaseWork], store: ProbeStore, run: ProbeRun, plugins: Sequence[Path] = ()) -> Done:
    """Run what has no final record: here, one after the other, or in processes where --jobs asks for several.

    Cases that read a clock come last and run alone, in a process of their own if the others do.
    """
    if run.force or any(_final(work, store) is None for work in works):
        store.probe()  # a store that is there may be read-only and still hold all results
    if run.jobs == 1:
        with GridProgress(1) as progress:
            return _run_here(works, store, progress, force=run.force)
    done: Done = []
    calm = [work for work in works if not get_probe(work.case.probe).timed]
    timed = [work for work in works if get_probe(work.case.probe).timed]
    for part, jobs in ((calm, run.jobs), (timed, 1)):
        if part:
            gpus = torch.cuda.device_count() if part[0].case.device == "cuda" else 0
            with GridProgress(jobs) as progress:
                limit = run.time_limit or TIME_LIMITS[part[0].case.budget]
                files = tuple(path.resolve() for path in plugins)
                runner: Runner[CaseWork, ProbeRecord] = Runner(
                    store, LocalProcesses(jobs, gpus), progress, limit, files, force=run.force
                )
                done += runner.run(part)
    return done


def _run_here(works: Sequence[CaseWork], store: ProbeStore, progress: GridProgress, *, force: bool) -> Done:
    known = {} if force else {work.key: found for work in works if (found := _final(work, store))}
    progress.planned(
        [work for work in works if work.key not in known],
        [(work, known[work.key][0]) for work in works if work.key in known],
    )
    done: Done = []
    for work in works:
        found = known.get(work.key)
        if found is None:
            progress.started(work)
            found = run_case(work.case, store, force=force, listener=_listener(work, store, progress))
            progress.ended(work, *found)
        done.append((work, *found))
    return done


def _final(work: CaseWork, store: ProbeStore) -> tuple[ProbeRecord, Path] | None:
    found = store.find(work.folder, work.key)
    return found if found and found[0].status in DONE else None


def _listener(work: CaseWork, store: ProbeStore, progress: GridProgress) -> Listener:
    """Passes on what a case says as if it came from a process."""
    job = work.job(store.root, (), force=False)

    def tell(kind: str) -> Callable[..., None]:
        return lambda *values: progress.heard(work, Event(job, kind, values))

    return Listener(say=tell("say"), begin=tell("begin"), report=tell("step"))


def measured(done: Done) -> list[Found]:
    """The cases that have a result."""
    return [Found(record.read_case(), record.result, folder) for _, record, folder in done if record.result is not None]


def _show_plan(works: Sequence[CaseWork], store: ProbeStore) -> int:
    rows = [(work.name, found[0].status if (found := _final(work, store)) else "to run") for work in works]
    print(tabulate(rows, headers=["case", "state"], tablefmt="github"))
    print(f"\n{len(rows)} cases, {sum(state == 'to run' for _, state in rows)} to run")
    return 0


def _show_end(done: Done) -> int:
    """Print what has no result, and where the records are."""
    reasons: dict[tuple[str, str], int] = {}
    for work, record, _ in done:
        if record.status != "ok":
            line = f"{', '.join(work.case.models)}: {record.status}", record.reason or ""
            reasons[line] = reasons.get(line, 0) + 1
    for (who, why), count in reasons.items():
        print(f"{who}{f' ({count} cases)' if count > 1 else ''}: {why}")
    failed = [(work, folder) for work, record, folder in done if record.status not in FINE]
    for work, folder in failed:
        trace = folder / "traceback.txt"
        print(f"failed  {work.name}: see {trace if trace.is_file() else folder / 'record.json'}", file=sys.stderr)
    if any(record.status not in DONE for _, record, _ in done):
        print("failed cases are tried again by the same command", file=sys.stderr)
    if any(record.status == "diverged" for _, record, _ in done):
        print("what diverged would do so again: --force measures it all the same", file=sys.stderr)
    if done:
        print(f"records {done[0][2].parent.parent.parent}")
    return 1 if failed else 0

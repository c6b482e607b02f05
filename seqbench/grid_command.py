"""The command `run` for more than one cell: what it plans, runs, and says at the end."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from seqbench.config import RunConfig
from seqbench.errors import UserError
from seqbench.experiment import RATES, TRIAL_SEED, Cell, Grid, best_rate, chosen_names, estimate_seconds
from seqbench.grid_options import GridOptions
from seqbench.jobs.pool import TIME_LIMITS, LocalProcesses, Runner
from seqbench.jobs.progress import GridProgress, duration
from seqbench.jobs.record import FINE, Record
from seqbench.jobs.store import Store
from seqbench.models.mixer import MODELS
from seqbench.result import format_value
from seqbench.task import TASKS

__all__ = ["run_grid"]


def run_grid(
    config: RunConfig, options: GridOptions, out: Path, plugins: Sequence[Path] = (), *, force: bool = False
) -> int:
    """Run what has no result yet; 1 if a cell failed."""
    if options.tune_learning_rate and config.learning_rate is not None:
        raise UserError("--tune-learning-rate finds the rate itself: leave --learning-rate out.")
    store = Store(out)
    grid = Grid(config, chosen_names(config.task, TASKS), chosen_names(config.model, MODELS), store)
    if options.dry_run:
        return _show_plan(grid, options)
    store.probe()
    limit = options.time_limit or TIME_LIMITS[config.budget]
    gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    with GridProgress(options.jobs) as progress:
        grid.prepare(progress.say)
        executor = LocalProcesses(options.jobs, gpus)
        runner: Runner[Cell, Record] = Runner(
            store, executor, progress, limit, tuple(path.resolve() for path in plugins), force=force
        )
        done: dict[str, tuple[Cell, Record, Path]] = {}
        for stage in (_trials, _cells):
            cells = [cell for cell in stage(grid, options) if cell.key not in done]
            if cells:
                done |= {found[0].plan.key: found for found in runner.run(cells)}
    return _show_end(list(done.values()), out)


def _trials(grid: Grid, options: GridOptions) -> list[Cell]:
    """The cells that learning rates are chosen by."""
    if not options.tune_learning_rate:
        return []
    pairs = [(task, model) for task in grid.tasks for model in grid.models]
    return [grid.cell(task, model, TRIAL_SEED, rate) for task, model in pairs for rate in RATES]


def _cells(grid: Grid, options: GridOptions) -> list[Cell]:
    """The cells of the grid itself, seed by seed, so that a grid that is cut off has whole seeds."""
    seeds = range(grid.base.seed, grid.base.seed + options.seeds)
    rates = {(task, model): _rate(grid, task, model, options) for task in grid.tasks for model in grid.models}
    return [
        grid.cell(task, model, seed, rates[task, model])
        for task in grid.tasks
        for seed in seeds
        for model in grid.models
    ]


def _rate(grid: Grid, task: str, model: str, options: GridOptions) -> float | None:
    """The best of the trials; where all of them failed, the first, so that the failure is seen with every seed."""
    if not options.tune_learning_rate:
        return None
    found = [grid.result(grid.cell(task, model, TRIAL_SEED, rate)) for rate in RATES]
    return best_rate(one[0] for one in found if one) or RATES[0]


def _show_plan(grid: Grid, options: GridOptions) -> int:
    """Print the cells with what each will take."""
    with GridProgress(options.jobs) as progress:
        grid.prepare(progress.say, baselines=False)
        cells = list({cell.key: cell for cell in [*_trials(grid, options), *_cells(grid, options)]}.values())
        results = {cell.key: grid.result(cell) for cell in cells}
        to_run = [cell for cell in cells if not (found := results[cell.key]) or found[0].status not in FINE]
        seconds = estimate_seconds(to_run, grid.store, progress.say)
    rows = []
    for cell in cells:
        config, found = cell.plan.config, results[cell.key]
        state = found[0].status if found else "to run"
        time = f"{seconds[cell.key]:.0f} s" if cell.key in seconds else ""
        rows.append((config.task, config.model, config.seed, f"{config.learning_rate:g}", state, time))
    print(tabulate(rows, headers=["task", "model", "seed", "learning rate", "state", "about"], tablefmt="github"))
    total = sum(seconds.values())
    print(f"\n{len(cells)} cells, {len(to_run)} to run: about {duration(total)} one after the other", end="")
    print(f", {duration(total / options.jobs)} with --jobs {options.jobs}" if options.jobs > 1 else "")
    if options.tune_learning_rate:
        print("seeds are shown at the rate that is best so far; the trials may choose another")
    return 0


def _show_end(done: list[tuple[Cell, Record, Path]], out: Path) -> int:
    """Print what came out, what failed, and how to see why."""
    kinds: dict[tuple[str, ...], list[Record]] = {}
    for cell, record, _ in done:
        rate = f"{cell.plan.config.learning_rate:g}"
        kinds.setdefault((record.task.name, record.model.name, rate), []).append(record)
    rows = []
    for kind, records in kinds.items():
        values = [record.primary.value for record in records if record.primary]
        name = next((record.primary.name for record in records if record.primary), "")
        states = [record.status for record in records]
        bad = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state != "ok")
        mean = format_value(statistics.mean(values)) if len(values) == len(records) else "-"
        rows.append((*kind, f"{len(values)}/{len(records)}", f"{name} {mean}".strip(), bad))
    print(tabulate(rows, headers=["task", "model", "rate", "ok", "mean over seeds", ""], tablefmt="github"))
    failed = [(record, folder) for _, record, folder in done if record.status not in FINE]
    for record, folder in failed:
        print(f"\nfailed  {record.task.name} {record.model.name} seed {record.seed}: {record.status}: {record.reason}")
        trace = folder / "traceback.txt"
        print(f"        see {trace if trace.is_file() else folder / 'record.json'}", end="")
    if failed:
        print("\n\nfailed cells are tried again by the same command")
    print(f"\nboard   python run_bench.py leaderboard {shlex.quote(str(out))}")
    return 1 if failed else 0

"""The commands that train or prepare: from parsed options to what the user sees."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from seqbench.cell import run_cell
from seqbench.config import RunConfig, parse_options_text
from seqbench.errors import UserError
from seqbench.prepare import fit_baselines, prepare
from seqbench.progress import Progress
from seqbench.registry import TASKS
from seqbench.result import show_result
from seqbench.store import Store

__all__ = ["prepare_data", "run"]


def run(config: RunConfig, out: Path, *, force: bool = False, plot: bool = False) -> int:
    """Run one cell and print its result; 1 if it failed."""
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install 'seqbench[plot]'")
    with Progress(f"{config.task} {config.model}") as progress:
        outcome = run_cell(config, Store(out), force=force, listener=progress.listener)
    show_result(outcome)
    if plot and outcome.record.status == "ok":
        from seqbench.plot import draw

        print(f"plot    {draw(outcome.record, outcome.folder)}")
    return 0 if outcome.record.status in ("ok", "not_applicable") else 1


def prepare_data(task: str, option: tuple[str, ...]) -> None:
    """Build the caches of one task, or of all, and fit their baselines."""
    from tqdm import tqdm

    names = TASKS.names() if task == "all" else [TASKS.entry(task).name]
    for name in tqdm(names, desc="prepare", unit="task", disable=not sys.stderr.isatty(), leave=False):
        listener = Progress(name).listener
        prepared = prepare(name, dict(parse_options_text(option)), say=listener.say)
        baselines = fit_baselines(prepared, listener.say)
        print(f"{name}: ready, {len(prepared.data.train):,} training examples, {len(baselines)} baselines")

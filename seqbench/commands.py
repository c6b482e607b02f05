"""The commands that use models: from parsed options to what the user sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqbench.cli_pictures import run_chart
from seqbench.config import RunConfig
from seqbench.errors import UserError
from seqbench.experiment import run_cell
from seqbench.grid_options import GridOptions, is_grid
from seqbench.jobs.progress import Progress
from seqbench.jobs.store import Store
from seqbench.report.draw import draw, need_matplotlib
from seqbench.result import show_result

__all__ = ["predict", "run"]


def run(
    config: RunConfig,
    options: GridOptions,
    out: Path,
    plugins: Sequence[Path] = (),
    *,
    force: bool = False,
    plot: bool = False,
) -> int:
    """Run one cell here and print its result, or a grid of them; 1 if one failed."""
    if is_grid(config, options):
        if plot:
            raise UserError("--plot draws a single run; leaderboard --plots draws what a grid has left.")
        from seqbench.grid_command import run_grid

        return run_grid(config, options, out, plugins, force=force)
    if plot:
        need_matplotlib()
    with Progress(f"{config.task} {config.model}") as progress:
        outcome = run_cell(config, Store(out), force=force, listener=progress.listener)
    show_result(outcome)
    if plot and outcome.record.status == "ok":
        chart = run_chart(outcome.record, outcome.folder)
        print(f"plot    {draw(chart, outcome.folder / 'plot.png')}")
    return 0 if outcome.record.status in ("ok", "not_applicable") else 1


def predict(record: Path, file: Path, out: Path) -> None:
    """Write the predictions for ``file`` and say where."""
    from seqbench.predict import predict_file

    path, rows = predict_file(record, file, out)
    print(f"{rows:,} predictions: {path}")

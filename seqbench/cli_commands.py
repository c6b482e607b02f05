"""The commands around runs and records, as dataclasses: fields become options, their docstrings become ``--help``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqbench.config import RunConfig
from seqbench.grid_options import GridOptions

__all__ = ["Leaderboard", "List", "Plugins", "Predict", "Run"]

Plugins = tyro.conf.UseAppendAction[tuple[Path, ...]]


@dataclass(frozen=True)
class Run:
    """Train models on tasks and leave a record of each run (`run` may be left out)."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    grid: Annotated[GridOptions, tyro.conf.arg(name="")] = field(default_factory=GridOptions)
    out: Path = Path("results/local")
    """Directory of the records."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run again even if there is a stored result; the old record stays beside the new one."""
    plot: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw the learning curve and the predictions beside the record."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Run it; 1 if the cell failed."""
        from seqbench.commands import run

        return run(self.config, self.grid, self.out, self.plugin, force=self.force, plot=self.plot)


@dataclass(frozen=True)
class List:
    """List tasks, models, baselines and budgets."""

    what: tyro.conf.Positional[Literal["all", "tasks", "models", "baselines", "budgets"]] = "all"
    """Which."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """As JSON."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Print the lists."""
        from seqbench.listing import show_lists

        show_lists(self.what, as_json=self.json)
        return 0


@dataclass(frozen=True)
class Predict:
    """Apply a trained model to new rows and write a table of its predictions."""

    record: tyro.conf.Positional[Path]
    """The record.json of a run, or its folder."""
    file: tyro.conf.Positional[Path]
    """New rows, in the form that the task reads with --data; labels are not needed."""
    out: Path = Path("predictions.csv")
    """Where to write: .csv or .parquet."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Write it."""
        from seqbench.commands import predict

        predict(self.record, self.file, self.out)
        return 0


@dataclass(frozen=True)
class Leaderboard:
    """Turn records into a board: which models are better, how sure that is, and what they cost."""

    results: tyro.conf.Positional[tuple[Path, ...]] = (Path("results/local"),)
    """Directories of records."""
    format: Literal["markdown", "json", "csv"] = "markdown"
    """A page to read, or data."""
    columns: Literal["all", "quality"] = "all"
    """Everything, or only what depends on neither the machine nor the moment."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write, with links relative to it; by default the board is printed."""
    plots: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Draw every table into this directory, too."""
    plot_format: Literal["png", "svg"] = "png"
    """Kind of picture."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Print or write it."""
        from seqbench.data_commands import leaderboard

        leaderboard(self.results, self.format, self.columns, self.out, self.plots, self.plot_format)
        return 0

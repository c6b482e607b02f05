"""The commands about data, as dataclasses; see `seqbench.cli_commands`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqbench.cli_commands import Plugins

__all__ = ["Data", "DataFetch", "DataPrepare", "DataShow"]

Options = tyro.conf.UseAppendAction[tuple[str, ...]]
File = Annotated[str | None, tyro.conf.arg(metavar="FILE")]
Column = Annotated[str | None, tyro.conf.arg(metavar="COLUMN")]


@dataclass(frozen=True)
class DataShow:
    """Show what a task's data holds: sizes, balance, an example, licence, hash, split, baselines."""

    task: tyro.conf.Positional[str]
    """Task; see `list tasks`."""
    option: Options = ()
    """An option of the task as name=value; may be given again."""
    source: Literal["embedded", "hub", "path"] = "embedded"
    """Where the data comes from: with the package, the canonical set (see `data fetch`), or your own file."""
    data: File = None
    """Your own file instead of the task's data; says --source path."""
    target: Column = None
    """Short for --option target=COLUMN."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the data into this file, too."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Print it."""
        from seqbench.data_commands import show

        show(self.task, (*self.option, *_target(self.target)), self.source, self.data, self.plot)
        return 0


@dataclass(frozen=True)
class DataPrepare:
    """Build the cache of a task's data and fit its baselines, so that the first run starts at once."""

    task: tyro.conf.Positional[str] = "all"
    """Task, or all."""
    option: Options = ()
    """An option of the task as name=value; may be given again."""
    source: Literal["embedded", "hub", "path"] = "embedded"
    """Where the data comes from."""
    data: File = None
    """Your own file instead of the task's data; says --source path."""
    target: Column = None
    """Short for --option target=COLUMN."""
    baselines: Annotated[bool, tyro.conf.FlagCreatePairsOff] = True
    """Fit the baselines, too, which takes longer than all else."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Build and fit."""
        from seqbench.data_commands import prepare_data

        option = (*self.option, *_target(self.target))
        prepare_data(self.task, option, self.source, self.data, baselines=self.baselines)
        return 0


@dataclass(frozen=True)
class DataFetch:
    """Download the canonical set of a task, for --source hub; nothing else ever does."""

    task: tyro.conf.Positional[str]
    """Task; see `list tasks`."""
    option: Options = ()
    """An option of the task as name=value, as ticker=IBM; may be given again."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Download again what is there already."""
    plugin: Plugins = ()
    """A Python file that registers a task or a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Download it."""
        from seqbench.data_commands import fetch

        fetch(self.task, self.option, force=self.force)
        return 0


def _target(column: str | None) -> tuple[str, ...]:
    return () if column is None else (f"target={column}",)


class Data(DataShow):
    """Show what a task's data holds (`data show`), build its cache (`prepare`), or get a canonical set (`fetch`)."""

"""The command line. Options are the fields of the dataclasses below and of `RunConfig`; tyro turns them into a parser.

Nothing heavy is imported before a command runs, so that ``--help`` and mistakes answer at once. Every mistake is one
sentence on stderr. Exit codes: 0 done, 1 a cell failed, 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqbench.config import RunConfig
from seqbench.errors import UserError
from seqbench.grid_options import GridOptions

__all__ = ["main"]

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


Command = Run | List | Predict | Leaderboard | DataShow | DataPrepare | DataFetch
COMMANDS: dict[str, Callable[..., Command]] = {"run": Run, "list": List, "predict": Predict, "leaderboard": Leaderboard}
DATA_COMMANDS: dict[str, Callable[..., Command]] = {"show": DataShow, "prepare": DataPrepare, "fetch": DataFetch}
DESCRIPTION = (
    "Train sequence models on real data and measure them. Exit codes: 0 done, 1 a cell failed, 2 wrong command."
)


def parse(argv: Sequence[str], prog: str) -> Command:
    """The command that ``argv`` asks for; raises `UserError` for a wrong one, SystemExit(0) after --help."""
    words = list(argv)
    if words[:1] and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words.insert(0, "run")
    if words[:1] == ["data"]:
        words, prog, commands = words[1:], f"{prog} data", DATA_COMMANDS
    else:
        commands = {**COMMANDS, "data": Data}
    if not words:
        words = ["--help"]
    elif words[0] not in commands and not words[0].startswith("-"):
        from seqbench.errors import nearest

        raise UserError(nearest(words[0], commands, "command"))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                commands, args=words, prog=prog, description=DESCRIPTION
            )
            return command
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UserError(_sentence(complaint.getvalue(), f"{prog} {words[0]}")) from None


def _sentence(complaint: str, prog: str) -> str:
    """One sentence out of the box that tyro draws around what it did not understand."""
    lines = [re.sub(r"[╭╮╰╯│─]+", " ", line).strip() for line in complaint.splitlines()[1:]]
    blank = lines.index("") if "" in lines else len(lines)  # a rule ends the complaint and begins the advice
    text = " ".join(lines[:blank]) or "the command can't be understood"
    advice = [word for line in lines[blank:] for word in line.split()[:1] if word.startswith("--")]
    if "Unrecognized" in text and advice:
        text += f": did you mean {' or '.join(dict.fromkeys(advice))}?"
    if text.startswith("Missing from"):
        text = f"missing: {', '.join(re.findall(r'(?<= )--[a-z-]+', text)) or 'the name of a task'}"
    choices = re.search(r"invalid choice '([^']*)'.*Expected one of \((.*)\)", text)
    if choices:
        close = difflib.get_close_matches(choices[1], re.findall(r"'([^']*)'", choices[2]), n=1)
        text += f" Did you mean {close[0]}?" if close else ""
    return f"{text.rstrip('. ')}{'' if text.endswith('?') else '.'} See {prog} --help."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    prog = Path(sys.argv[0]).name if argv is None else "seqbench"
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):  # a console that can't show a letter must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        command = parse(words, prog)
        if command.plugin:
            from seqbench.registry import load_plugin

            for path in command.plugin:
                load_plugin(path)
        return command()
    except UserError as error:
        code, message = 2, str(error)
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt as error:
        code, message = (
            130,
            f"{str(error) or 'interrupted'}; records that stand are kept. The same command goes on from there.",
        )
    except BrokenPipeError:  # the reader of a pipe has gone; it needs no more
        sys.stdout = None
        return 0
    except OSError as error:  # a full disk, a folder that vanished: ours is whole or not there
        where = f" ({error.filename})" if error.filename else ""
        code, message = 1, f"{error.strerror or error}{where}; nothing torn was left. Mend that and run it again."
        if debug:
            raise
    except Exception as error:
        code, message = 1, f"unexpected {type(error).__name__}: {error}. Add --debug for the traceback, and report it."
        if debug:
            raise
    message = " ".join(message.split())  # one line, whatever a library wrote
    print(f"seqbench: {message}", file=sys.stderr)  # noqa: T201 - this is where a command talks to its user
    return code

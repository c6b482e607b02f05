"""What several commands share: their options, and how they speak while they work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group

from seqbench.errors import UserError
from seqbench.options import DATA, OUTPUT, Flag, Parameter, Texts

__all__ = ["AUTO", "FLAT", "Common", "DataOptions", "Out", "Picture", "picture_place", "speaker"]

FLAT = Parameter(name="*")  # of a dataclass whose fields are options of the command itself
Out = Annotated[Path, Parameter(group=OUTPUT, metavar="DIR")]
Picture = Annotated[Path | None, Parameter(group=OUTPUT, metavar="[FILE]")]
AUTO = "auto"  # a --plot without a place
PICTURES = (".png", ".svg")


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    plugin: Annotated[tuple[Path, ...], Parameter(group=Group("Every command", sort_key=8), metavar="FILE")] = ()
    """A Python file that registers a task, a model, a baseline or a probe; may be given again."""
    debug: Annotated[Flag, Parameter(group=Group("Every command", sort_key=8))] = False
    """Show tracebacks."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data of a task is meant."""

    option: Annotated[Texts, Parameter(group=DATA, metavar="NAME=VALUE")] = ()
    """An option of the task; may be given again."""
    source: Annotated[Literal["embedded", "hub", "path"], Parameter(group=DATA)] = "embedded"
    """Where the data comes from: with the package, the canonical set (see `data fetch`), or your own file."""
    data: Annotated[str | None, Parameter(group=DATA, metavar="FILE")] = None
    """Your own file instead of the task's data; says --source path."""
    target: Annotated[str | None, Parameter(group=DATA, metavar="COLUMN")] = None
    """Short for --option target=COLUMN."""


def picture_place(given: Path | None, usual: Path) -> Path | None:
    """Where ``--plot [FILE]`` wants a picture: None if it was not given, ``usual`` if no file was named.

    Raises:
        UserError: the file's name says no kind of picture.
    """
    if given is None:
        return None
    path = usual if str(given) == AUTO else given
    if path.suffix not in PICTURES:
        raise UserError(f"--plot {path}: the file's name must end in .png or .svg.")
    return path


def speaker(title: str) -> Callable[[str], None]:
    """Prints lines of progress on stderr."""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
            print(f"{title}: {line}", file=sys.stderr, flush=True)

    return say

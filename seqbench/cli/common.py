"""What several commands share: their options, and how they speak while they work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seqbench.errors import UserError

__all__ = ["Column", "Common", "File", "Flag", "Options", "check_range", "speaker"]

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
File = Annotated[str | None, tyro.conf.arg(metavar="FILE")]
Column = Annotated[str | None, tyro.conf.arg(metavar="COLUMN")]
Options = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers a task, a model, a baseline or a probe."""
    debug: Flag = False
    """Show tracebacks."""


def check_range(option: str, value: float | None, least: float, most: float) -> None:
    """Raise `UserError` unless ``value`` is None or lies between the two, ends included."""
    if value is not None and not least <= value <= most:
        raise UserError(f"--{option} {value:g} is out of range: take {least:g} to {most:g}.")


def check_time_limit(seconds: float | None) -> None:
    """Raise `UserError` unless ``seconds`` is None or a number above 0."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UserError(f"--time-limit {seconds:g} is out of range: take a number of seconds above 0.")


def speaker(title: str) -> Callable[[str], None]:
    """Prints lines of progress on stderr."""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
            print(f"{title}: {line}", file=sys.stderr, flush=True)

    return say

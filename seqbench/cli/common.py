"""What several commands share: their options, and how they speak while they work."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group

from seqbench.errors import UserError
from seqbench.options import OUTPUT, Flag, Parameter

if TYPE_CHECKING:  # --help answers before it is imported
    from seqbench.jobs.job import Outcome
    from seqbench.report.chart import Chart

__all__ = [
    "AUTO",
    "FLAT",
    "Common",
    "Out",
    "Picture",
    "draw_picture",
    "outcome_data",
    "picture_place",
    "show_json",
    "speaker",
]

FLAT = Parameter(name="*")  # of a dataclass whose fields are options of the command itself
Out = Annotated[Path, Parameter(group=OUTPUT, metavar="DIR")]
Picture = Annotated[Path | None, Parameter(group=OUTPUT, metavar="[FILE]")]
AUTO = "auto"  # a --plot without a place
EVERY = Group("Every command", sort_key=8)
PICTURES = (".png", ".svg", ".html")


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    json: Annotated[Flag, Parameter(group=EVERY)] = False
    """Print the result as JSON, and nothing else."""
    plugin: Annotated[tuple[Path, ...], Parameter(group=EVERY, metavar="FILE")] = ()
    """A Python file that registers a task, a model, a baseline or a probe; may be given again."""
    debug: Annotated[Flag, Parameter(group=EVERY)] = False
    """Show tracebacks."""


def picture_place(given: Path | None, usual: Path) -> Path | None:
    """Where ``--plot [FILE]`` wants a picture: None if it was not given, ``usual`` if no file was named.

    Raises:
        UserError: the file's name says no kind of picture, or what draws it is missing.
    """
    if given is None:
        return None
    path = usual if str(given) == AUTO else given
    if path.is_dir():
        raise UserError(f"--plot {path} is a folder: name a file that ends in .png, .svg or .html.")
    if path.suffix not in PICTURES:
        raise UserError(f"--plot {path}: the file's name must end in .png, .svg or .html.")
    if path.suffix != ".html":
        from seqbench.report.draw import need_matplotlib

        need_matplotlib()
    return path


def draw_picture(chart: Chart, path: Path, facts: Callable[[], Mapping[str, Any]] = dict) -> Path:
    """Draw ``chart`` into ``path`` by its ending; a page has ``facts`` as tables below it."""
    if path.suffix == ".html":
        from seqbench.report.html import chart_page, fact_sections

        return chart_page(chart, path, fact_sections(facts()))
    from seqbench.report.draw import draw

    return draw(chart, path)


def show_json(value: Any) -> None:
    """Print ``value``; what is not a finite number becomes null, a path its text."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON can hold, however deep."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """The record of a run or a measurement as JSON has it, and the folder that it lies in."""
    return {**json.loads(outcome.record.to_json()), "folder": str(outcome.folder)}


def speaker(title: str) -> Callable[[str], None]:
    """Prints lines of progress on stderr."""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
            print(f"{title}: {line}", file=sys.stderr, flush=True)

    return say

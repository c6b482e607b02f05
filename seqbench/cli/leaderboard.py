"""`leaderboard`: from records to a board: a page, data, and pictures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seqbench.cli.common import Common
from seqbench.disk import replace_file
from seqbench.errors import UserError

__all__ = ["COMMAND", "Leaderboard"]


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
    common: Annotated[Common, tyro.conf.arg(name="")] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print or write it, and draw it if asked to."""
        from seqbench.board import load_results, make_tables
        from seqbench.board.page import render

        tables, drawn = make_tables(load_results(self.results)), {}
        if self.plots is not None:
            from seqbench.board.charts import draw_board

            drawn = draw_board(tables, self.plots, self.plot_format)
        text = render(tables, self.format, self.columns, self.out.parent if self.out else Path(), drawn)
        if self.out is None:
            sys.stdout.write(text)
        else:
            try:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self.out, lambda file: file.write(text.encode()))
            except OSError as error:
                raise UserError(f"{self.out} can't be written ({error.strerror}): choose another --out.") from None
            print(self.out)
        for path in drawn.values():
            print(path, file=sys.stderr if self.out is None else sys.stdout)
        return 0


COMMAND = Leaderboard

"""`leaderboard`: from records to a board: a page, data, and pictures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from seqbench.cli.common import AUTO, FLAT, Common
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.options import OUTPUT, Parameter

__all__ = ["COMMAND", "Leaderboard"]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Turn records into a board: which models are better, how sure that is, and what they cost."""

    results: tuple[Path, ...] = field(default=(Path("results/local"),), kw_only=False)
    """Directories of records."""
    format: Annotated[Literal["markdown", "json", "csv"], Parameter(group=OUTPUT)] = "markdown"
    """A page to read, or data."""
    columns: Annotated[Literal["all", "quality"], Parameter(group=OUTPUT)] = "all"
    """Everything, or only what depends on neither the machine nor the moment."""
    out: Annotated[Path | None, Parameter(group=OUTPUT, metavar="FILE")] = None
    """File to write, with links relative to it; by default the board is printed."""
    plot: Annotated[Path | None, Parameter(group=OUTPUT, metavar="[DIR]")] = None
    """Draw every table into this directory, too; by default plots, beside --out."""
    plot_format: Annotated[Literal["png", "svg"], Parameter(group=OUTPUT)] = "png"
    """Kind of picture."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print or write it, and draw it if asked to."""
        from seqbench.board import load_results, make_tables
        from seqbench.board.page import render

        tables, drawn = make_tables(load_results(self.results)), {}
        if self.plot is not None:
            from seqbench.board.charts import draw_board

            beside = self.out.parent if self.out else Path()
            drawn = draw_board(tables, beside / "plots" if str(self.plot) == AUTO else self.plot, self.plot_format)
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

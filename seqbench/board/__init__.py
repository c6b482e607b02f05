"""Records to a board that says how sure it is: a page for readers, data for programs, charts.

`frame` reads records into a DataFrame, `compare` makes tables from it, `page` writes them and `charts` pictures them.
The statistics are `seqbench.stats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seqbench.board.compare import BoardTable, make_tables, overviews, paired_skill
from seqbench.board.frame import load_results
from seqbench.board.page import Columns, Format, render

__all__ = [
    "BoardTable",
    "board",
    "load_results",
    "make_tables",
    "overviews",
    "paired_skill",
    "render",
]


def board(
    results: str | Path | Sequence[str | Path],
    fmt: Format = "markdown",
    columns: Columns = "all",
    base: Path = Path(),
    plots: Mapping[str, Path] | None = None,
) -> str:
    """The board of all records under ``results``.

    Args:
        results: a directory of records, or several; see `load_results`.
        columns: `quality` leaves out all that depends on the machine or the moment, so that two runs of one grid give
            the same text byte for byte.
        base: the directory that the text will be written into; links to records are relative to it.
        plots: pictures by heading, as `charts.draw_board` gives them, for the Markdown page with `all` columns.

    Raises:
        UserError: there are no records, or one is damaged, altered, moved, or from a newer seqbench.
    """
    return render(make_tables(load_results(results)), fmt, columns, base, plots)

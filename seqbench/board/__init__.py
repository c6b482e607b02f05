"""Records to a board that says how sure it is: markdown for readers, JSON and CSV for programs. No torch.

`collect` reads records into groups of comparable cells, `choice` takes each model at the learning rate that validation
chose, `table` and `overview` rank and compare, `markdown` and `data` write, `plots` draws. The statistics are
`seqbench.stats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from seqbench.board.collect import collect
from seqbench.board.data import render_csv, render_json
from seqbench.board.markdown import Columns, render_markdown
from seqbench.board.naming import labels, order, settings, variants
from seqbench.board.overview import Overview, overviews
from seqbench.board.table import Row, Table, make_table

__all__ = ["Overview", "Row", "Table", "board", "overviews", "read_tables"]


def board(
    roots: Sequence[Path],
    fmt: Literal["markdown", "json", "csv"] = "markdown",
    columns: Columns = "all",
    base: Path = Path(),
    plots: Mapping[str, Path] | None = None,
) -> str:
    """The board of all records under ``roots``.

    Args:
        roots: directories of records; of a cell that several hold the one that finished last counts.
        columns: `quality` leaves out all that depends on the machine or the moment, so that two runs of one grid give
            the same text byte for byte.
        base: the directory that the text will be written into; links to records are relative to it.
        plots: figures by heading, as `plots.draw_board` gives them, for the markdown page with `all` columns.

    Raises:
        UserError: there are no records, or one is damaged, altered, moved, or from a newer seqbench.
    """
    tables = read_tables(roots)
    quality = columns == "quality"
    if fmt == "csv":
        return render_csv(tables, quality=quality, base=base)
    if fmt == "json":
        return render_json(tables, overviews(tables), quality=quality, base=base)
    return render_markdown(tables, overviews(tables), columns, base, plots)


def read_tables(roots: Sequence[Path]) -> list[Table]:
    """One table for each group of comparable records under ``roots``: by budget, track and task."""
    groups = sorted(collect(roots), key=order)
    models = (cell.model for group in groups for cell in group.cells.values())
    names = labels(models, (name for group in groups for name in group.baselines))
    found = zip(groups, settings(groups), variants(groups), strict=True)
    return [make_table(group, names, setting, variant) for group, setting, variant in found]

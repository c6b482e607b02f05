"""Records to a board that says how sure it is: a page for readers, data for programs, charts.

`frame` reads records into a DataFrame, `compare` makes tables from it, `page` writes them, `summary` shows them, and
single runs, in short and `charts` pictures them.
The statistics are `seqbench.stats`.
"""

from seqbench.board.compare import (
    BoardTable,
    PairedSkill,
    make_tables,
    mean_pairings,
    overviews,
    paired_skill,
    pairings,
)
from seqbench.board.frame import chosen_results, frame_of, load_results
from seqbench.board.page import render
from seqbench.board.summary import short_board, short_runs

__all__ = [
    "BoardTable",
    "PairedSkill",
    "chosen_results",
    "frame_of",
    "load_results",
    "make_tables",
    "mean_pairings",
    "overviews",
    "paired_skill",
    "pairings",
    "render",
    "short_board",
    "short_runs",
]

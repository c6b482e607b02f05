"""Records to a board that says how sure it is: a page for readers, data for programs, charts.

`frame` reads records into a DataFrame, `compare` makes tables from it, `page` writes them and `charts` pictures them.
The statistics are `seqbench.stats`.
"""

from seqbench.board.compare import BoardTable, make_tables, overviews, paired_skill
from seqbench.board.frame import chosen_results, load_results
from seqbench.board.page import render, short_board

__all__ = [
    "BoardTable",
    "chosen_results",
    "load_results",
    "make_tables",
    "overviews",
    "paired_skill",
    "render",
    "short_board",
]

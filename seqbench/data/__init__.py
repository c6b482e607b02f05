"""What tasks share: the shapes of data, and the files that come with the package or with another."""

from seqbench.data.splits import (
    Batch,
    NewRows,
    Ragged,
    Reading,
    Rows,
    Segments,
    Split,
    Stream,
    TaskData,
    Truth,
    Windows,
)
from seqbench.disk import distribution_file, shipped_file

__all__ = [
    "Batch",
    "NewRows",
    "Ragged",
    "Reading",
    "Rows",
    "Segments",
    "Split",
    "Stream",
    "TaskData",
    "Truth",
    "Windows",
    "distribution_file",
    "shipped_file",
]

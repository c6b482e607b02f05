"""What tasks share: splits, packaged files, windows over series, the cache of prepared data."""

from seqbench.data.files import distribution_file, shipped_file
from seqbench.data.splits import Batch, Rows, Split, Stream, Windows

__all__ = ["Batch", "Rows", "Split", "Stream", "Windows", "distribution_file", "shipped_file"]

"""What tasks share: splits, packaged files, windows over series, the cache of prepared data."""

from seqbench.data.files import distribution_file, shipped_file
from seqbench.data.splits import Batch, Ragged, Rows, Segments, Split, Windows
from seqbench.data.stream import Stream

__all__ = ["Batch", "Ragged", "Rows", "Segments", "Split", "Stream", "Windows", "distribution_file", "shipped_file"]

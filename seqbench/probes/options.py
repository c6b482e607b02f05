"""What a user may ask of each probe, as frozen dataclasses: the command line is made of them. No torch.

None stands for what the budget says.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqbench.config import Count, Widths  # noqa: F401  (types of command line options)

__all__ = ["ContextOptions", "CostOptions", "GradientOptions", "MemoryOptions", "ParallelOptions"]


@dataclass(frozen=True)
class MemoryOptions:
    """Options of `probe memory`."""


@dataclass(frozen=True)
class GradientOptions:
    """Options of `probe gradient`."""


@dataclass(frozen=True)
class CostOptions:
    """Options of `probe cost`."""


@dataclass(frozen=True)
class ParallelOptions:
    """Options of `probe parallel`."""


@dataclass(frozen=True)
class ContextOptions:
    """Options of `probe context`."""

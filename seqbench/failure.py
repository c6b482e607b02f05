"""What a record says of an exception that ended a cell."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from seqbench.errors import NotApplicable
from seqbench.train import Diverged

__all__ = ["failure"]


def failure(error: Exception) -> tuple[str, str]:
    """Status and reason."""
    if isinstance(error, NotApplicable):
        return "not_applicable", str(error)
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if _out_of_memory(error):
        return "oom", _first_line(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return "error", f"{type(error).__name__}: {_first_line(error)} ({place})"


def _out_of_memory(error: Exception) -> bool:
    """Memory ran out, on whichever device; the CPU allocator, cuDNN and cuBLAS have no class of their own for it."""
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in str(error) for sign in signs)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

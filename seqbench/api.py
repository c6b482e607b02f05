"""`seqbench.run`: the command `run` from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqbench.cell import run_cell
from seqbench.config import RunConfig
from seqbench.record import Record
from seqbench.store import Store

__all__ = ["run"]


def run(task: str, model: str, *, out: str | Path = "results/local", force: bool = False, **config: Any) -> Record:
    """Train ``model`` on ``task`` and return the record; a stored result of the same command is returned at once.

    Args:
        out: directory of the records.
        force: run again even if there is a result; the old record stays beside the new one.
        config: any field of `RunConfig`, such as ``budget="smoke"``, ``hidden=(128, 64)`` or ``seed=1``.

    Raises:
        UserError: an unknown name, or a value that can't be used; nothing is written then.
    """
    return run_cell(RunConfig(task=task, model=model, **config), Store(out), force=force).record

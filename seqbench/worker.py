"""The process of one cell of a grid: reads a job from standard input, runs it, tells how it goes as lines of JSON.

What counts is the record in the store; the lines are for the one who watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

__all__ = ["main"]


def main() -> int:
    """Exit code: 0 when the record stands, 2 when there was nothing to run, 1 when it could not be written."""
    lines, tell = sys.stdin, _teller()
    job = json.loads(lines.readline())
    threading.Thread(target=_die_with_parent, args=(lines,), daemon=True).start()
    from seqbench.cell import run_cell  # imports torch; by now it is watched who waits for this process
    from seqbench.config import RunConfig
    from seqbench.errors import UserError
    from seqbench.plan import Listener
    from seqbench.registry import load_plugin
    from seqbench.store import Store

    listener = Listener(
        say=lambda line: tell("say", line),
        begin=lambda steps: tell("begin", steps),
        report=lambda step, loss: tell("step", step, loss),
    )
    try:
        for path in job["plugins"]:
            load_plugin(path)
        config: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in job["config"].items()
        }
        run_cell(RunConfig(**config), Store(Path(job["out"])), force=job["force"], listener=listener)
    except UserError as error:
        tell("refused", str(error))
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        tell("unsaved", f"{error.strerror or error}{where}")
        return 1
    return 0


class _Teller:
    """Writes a line at a time; where nobody listens any more the run ends anyhow."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, kind: str, *values: Any) -> None:
        with contextlib.suppress(OSError):
            self.stream.write(json.dumps([kind, *values]) + "\n")
            self.stream.flush()


def _teller() -> _Teller:
    """Standard output is kept for the lines alone: whatever else is printed goes to standard error."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return _Teller(kept)


def _die_with_parent(lines: TextIO) -> None:
    """Standard input ends when the process that started this one has gone, however that ended."""
    lines.read()
    os._exit(3)

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
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from seqbench.plan import Listener

__all__ = ["main"]


def main() -> int:
    """Exit code: 0 when the record stands, 2 when there was nothing to run, 1 when it could not be written."""
    lines, tell = sys.stdin, _teller()
    job = json.loads(lines.readline())
    threading.Thread(target=_die_with_parent, args=(lines,), daemon=True).start()
    from seqbench.errors import UserError
    from seqbench.plan import Listener  # imports torch; by now it is watched who waits for this process
    from seqbench.registry import load_plugin

    listener = Listener(
        say=lambda line: tell("say", line),
        begin=lambda steps: tell("begin", steps),
        report=lambda step, loss: tell("step", step, loss),
    )
    try:
        for path in job["plugins"]:
            load_plugin(path)
        KINDS[job["kind"]](job["content"], Path(job["out"]), job["force"], listener)
    except UserError as error:
        tell("refused", str(error))
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        tell("unsaved", f"{error.strerror or error}{where}")
        return 1
    return 0


def _run(content: dict[str, Any], out: Path, force: bool, listener: Listener) -> None:
    """A cell of a task and a model."""
    from seqbench.cell import run_cell
    from seqbench.config import RunConfig
    from seqbench.store import Store

    config: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    run_cell(RunConfig(**config), Store(out), force=force, listener=listener)


def _probe(content: dict[str, Any], out: Path, force: bool, listener: Listener) -> None:
    """A case of a probe."""
    from seqbench.probes import Case
    from seqbench.probes.run import ProbeStore, run_case

    run_case(Case.from_json(content), ProbeStore(out), force=force, listener=listener)


KINDS = {"run": _run, "probe": _probe}


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

"""Where the cells of a grid run. An executor starts jobs and tells what becomes of them; results lie in the store.

Here is the one for this machine; one for a cluster offers the same four things.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

__all__ = ["Event", "Executor", "Job", "LocalProcesses"]

# the worker finds modules where this process finds them, and never in the folder that a user happens to stand in
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from seqbench.worker import main; sys.exit(main())"
TAIL = 2000  # characters of what a process wrote to stderr that are kept


@dataclass(frozen=True)
class Job:
    """One cell to run: its name in this grid, and all that another process needs.

    ``kind`` says which function of `seqbench.worker` takes ``content``, which JSON can hold.
    """

    name: str
    kind: str
    content: dict[str, Any]
    threads: int
    out: Path
    plugins: tuple[Path, ...] = ()
    force: bool = False

    def to_json(self) -> str:
        """One line."""
        content = {
            "kind": self.kind,
            "content": self.content,
            "out": str(self.out),
            "plugins": [str(path) for path in self.plugins],
            "force": self.force,
        }
        return json.dumps(content)


@dataclass(frozen=True)
class Event:
    """What is heard of a job.

    ``say`` (a line), ``begin`` (steps), ``step`` (its number and the loss), ``refused`` (why it can't run), ``unsaved``
    (why nothing could be written), and at last ``ended`` (exit code, end of stderr).
    """

    job: Job
    kind: str
    values: tuple[Any, ...]


class Executor(Protocol):
    """Runs up to ``slots`` jobs at once."""

    slots: int

    def start(self, job: Job) -> None:
        """Start ``job``; there must be a free slot."""

    def wait(self, seconds: float) -> Event | None:
        """The next event of any job, or None after ``seconds`` without one."""

    def stop(self, job: Job) -> None:
        """End ``job`` at once; its ``ended`` still comes."""

    def close(self) -> None:
        """End all jobs."""


class LocalProcesses:
    """A process of its own for each job, so that whatever befalls it stays there.

    A process dies with the one that started it, whatever kills that: it watches its standard input, which ends then.
    ``gpus`` are spread over the slots.
    """

    def __init__(self, slots: int, gpus: int = 0) -> None:
        self.slots = slots
        self.gpus = gpus
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: dict[str, tuple[subprocess.Popen[str], int]] = {}

    def start(self, job: Job) -> None:
        """Start a fresh Python; nothing is shared with this one."""
        slot = min(set(range(self.slots)) - {slot for _, slot in self._running.values()})
        words = [sys.executable, "-P", "-c", START, json.dumps(sys.path)]
        complaint = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by _follow
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaint,
            text=True,
            encoding="utf-8",
            env=self._environment(slot, job.threads),
            start_new_session=True,  # Ctrl-C is for the grid, which then ends its workers
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and `ended` will say so
            process.stdin.write(job.to_json() + "\n")
            process.stdin.flush()
        self._running[job.name] = process, slot
        threading.Thread(target=self._follow, args=(job, process, complaint), daemon=True).start()

    def _environment(self, slot: int, threads: int) -> dict[str, str]:
        """This process's, with as many threads as the cell is to have, and a GPU of the slot's own."""
        found = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if self.gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self.gpus)))).split(",")
            found["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
        return found

    def _follow(self, job: Job, process: subprocess.Popen[str], complaint: IO[str]) -> None:
        """In a thread: pass on what the process says, and how it ended."""
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError):  # a line cut off by a kill
                kind, *values = json.loads(line)
                self._events.put(Event(job, kind, tuple(values)))
        code = process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        complaint.seek(0)
        tail = complaint.read()[-TAIL:]
        complaint.close()
        self._events.put(Event(job, "ended", (code, tail)))

    def wait(self, seconds: float) -> Event | None:
        """From any process."""
        try:
            event = self._events.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if event.kind == "ended":
            self._running.pop(event.job.name, None)
        return event

    def stop(self, job: Job) -> None:
        """SIGKILL, to the process and whatever it has started."""
        if job.name in self._running:
            _kill(self._running[job.name][0])

    def close(self) -> None:
        """Kill what runs and wait until it has gone."""
        for process, _ in self._running.values():
            _kill(process)
        end = time.monotonic() + 10
        while self._running and time.monotonic() < end:
            self.wait(0.1)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)

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
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, Protocol, TextIO, TypeVar

from seqbench.jobs.record import DONE, Kept
from seqbench.jobs.store import KeptStore

if TYPE_CHECKING:
    from seqbench.experiment import Listener

__all__ = ["Event", "Executor", "Job", "LocalProcesses", "Runner", "TIME_LIMITS", "Watcher", "Work", "main"]

# the worker finds modules where this process finds them, and never in the folder that a user happens to stand in
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from seqbench.jobs.pool import main; sys.exit(main())"
TAIL = 2000  # characters of what a process wrote to stderr that are kept


@dataclass(frozen=True)
class Job:
    """One cell to run: its name in this grid, and all that another process needs.

    ``kind`` says which function of `seqbench.jobs.pool` takes ``content``, which JSON can hold.
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


TIME_LIMITS = {"smoke": 600.0, "quick": 7_200.0, "standard": 86_400.0, "full": 604_800.0}  # seconds a cell

K = TypeVar("K", bound=Kept)
K_co = TypeVar("K_co", bound=Kept, covariant=True)


class Work(Protocol[K_co]):
    """A cell that can be run: what it is called, the key of its record, and the folder of its runs."""

    @property
    def name(self) -> str:
        """What a reader tells it by."""

    @property
    def kind(self) -> tuple[str, ...]:
        """What it shares with cells that take about as long."""

    @property
    def key(self) -> str:
        """Of its content."""

    @property
    def folder(self) -> Path:
        """Where its runs lie."""

    def job(self, root: Path, plugins: tuple[Path, ...], *, force: bool) -> Job:
        """What another process needs to run it."""

    def failed(self, status: Any, reason: str) -> K_co:
        """Its record if its process left none."""


W = TypeVar("W", bound=Work[Any])


class Watcher(Protocol):
    """Who is told how a grid goes on."""

    def planned(self, cells: Sequence[Work[Any]], stored: Sequence[tuple[Work[Any], Kept]]) -> None:
        """``cells`` are to run; ``stored`` have their records."""

    def started(self, cell: Work[Any]) -> None:
        """A process was started."""

    def heard(self, cell: Work[Any], event: Event) -> None:
        """A running cell said something."""

    def ended(self, cell: Work[Any], record: Kept, folder: Path) -> None:
        """A cell has its record."""


@dataclass
class _Running:
    cell: Work[Any]
    job: Job
    before: Path | None  # the newest run when it was started
    memory_kills: int | None = field(default_factory=lambda: _memory_kills())
    started: float = field(default_factory=time.monotonic)
    refused: str = ""
    late: bool = False


class Runner(Generic[W, K]):
    """Runs cells on an executor and sees to it that each of them gets a record, whatever becomes of its process."""

    def __init__(
        self,
        store: KeptStore[K],
        executor: Executor,
        watcher: Watcher,
        limit: float,
        plugins: tuple[Path, ...] = (),
        *,
        force: bool = False,
    ) -> None:
        self.store, self.executor, self.watcher, self.limit = store, executor, watcher, limit
        self.plugins, self.force = plugins, force
        self._running: dict[str, _Running] = {}

    def run(self, cells: Sequence[W]) -> list[tuple[W, K, Path]]:
        """Run those that have no final record; returns all with theirs.

        Raises:
            OSError: a record could not be written; running cells are ended, and what has a record keeps it.
        """
        cells = list({cell.key: cell for cell in cells}.values())
        stored = [] if self.force else [(cell, found[0]) for cell in cells if (found := self._final(cell))]
        done = {cell.key for cell, _ in stored}
        waiting = deque(cell for cell in cells if cell.key not in done)
        self.watcher.planned(tuple(waiting), stored)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.executor.slots:
                    self._start(waiting.popleft())
                if self._running:
                    self._listen()
        finally:
            self.executor.close()
        return [(cell, *found) for cell in cells if (found := self._result(cell))]

    def _result(self, cell: Work[K]) -> tuple[K, Path] | None:
        return self.store.find(cell.folder, cell.key)

    def _final(self, cell: Work[K]) -> tuple[K, Path] | None:
        found = self._result(cell)
        return found if found and found[0].status in DONE else None

    def _start(self, cell: Work[K]) -> None:
        found = self._result(cell)
        if found and found[0].status in DONE and not self.force:  # another grid was faster
            self.watcher.ended(cell, *found)
            return
        job = cell.job(self.store.root, self.plugins, force=self.force)
        self._running[job.name] = _Running(cell, job, found[1] if found else None)
        self.executor.start(job)
        self.watcher.started(cell)

    def _listen(self) -> None:
        """Wait for one event, at most a second, and see to it."""
        for running in self._running.values():
            if not running.late and time.monotonic() - running.started > self.limit:
                running.late = True
                self.executor.stop(running.job)
        event = self.executor.wait(1.0)
        if event is None:
            return
        running = self._running[event.job.name]
        if event.kind == "unsaved":
            raise OSError(f"{running.cell.name}: {event.values[0]}")
        if event.kind == "refused":
            running.refused = event.values[0]
        if event.kind != "ended":
            self.watcher.heard(running.cell, event)
            return
        del self._running[event.job.name]
        found = self._result(running.cell)
        if found is None or found[1] == running.before:
            found = self._failed(running, *event.values)
        self.watcher.ended(running.cell, *found)

    def _failed(self, running: _Running, code: int, tail: str) -> tuple[K, Path]:
        """The record of a cell whose process left none."""
        record = running.cell.failed(*self._why(running, code, tail))
        with self.store.writing(running.cell.folder) as folder:
            (folder / "traceback.txt").write_text(tail or "nothing was written to stderr\n", encoding="utf-8")
            return self.store.publish(folder, running.cell.folder, record, again=running.before is not None)

    def _why(self, running: _Running, code: int, tail: str) -> tuple[str, str]:
        """Status and reason of a process that ended with ``code`` and left no record."""
        if running.late:
            return "timeout", f"took longer than the time limit of {self.limit:g} s"
        if running.refused:
            return "error", running.refused
        last = (tail.strip().splitlines() or ["it wrote nothing"])[-1].strip()
        if code < 0:
            name = str(-code)
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
            if name == "SIGKILL" and running.memory_kills != _memory_kills():
                return "oom", "the system killed its process (SIGKILL) because memory ran out"
            return "error", f"its process was ended by {name}: {last}"
        return "error", f"its process ended with exit code {code} and left no record: {last}"


def _memory_kills() -> int | None:
    """How many processes the system has killed because memory ran out, where it tells."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def main() -> int:
    """Exit code: 0 when the record stands, 2 when there was nothing to run, 1 when it could not be written."""
    lines, tell = sys.stdin, _teller()
    job = json.loads(lines.readline())
    threading.Thread(target=_die_with_parent, args=(lines,), daemon=True).start()
    from seqbench.errors import UserError
    from seqbench.experiment import Listener  # imports torch; by now it is watched who waits for this process
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
    from seqbench.config import RunConfig
    from seqbench.experiment import run_cell
    from seqbench.jobs.store import Store

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

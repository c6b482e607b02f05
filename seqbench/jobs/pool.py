"""Running many jobs, each in a process of its own, so that every one of them gets a record whatever becomes of it.

A job is keyed by content and its record appears whole or not at all, so what was killed is simply run again: what has a
record is skipped, the rest is run (`run_jobs`). An `Executor` starts jobs somewhere and tells what becomes of them;
results lie in the store. `LocalProcesses` is the one for this machine, and `main` what its processes do; one for a
cluster offers the same four things.
"""

from __future__ import annotations

import contextlib
import importlib
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from seqbench.errors import Interrupted, UserError
from seqbench.jobs.job import Job, Listener, Outcome
from seqbench.jobs.record import Record, Status
from seqbench.jobs.store import Store
from seqbench.process import INTERRUPTED, interrupt_cleanly
from seqbench.registry import load_plugin

__all__ = ["TIME_LIMITS", "Event", "Executor", "LocalProcesses", "main", "run_jobs"]

TIME_LIMITS = {"smoke": 600.0, "quick": 7_200.0, "standard": 86_400.0, "full": 604_800.0}  # seconds for one job

# A worker finds modules where its parent finds them, never in the folder that a user happens to stand in. The package's
# own path matters where it is not installed: a checkout's run_bench.py adds the folder of the tasks to it.
START = (
    "import json, sys; path, package = json.loads(sys.argv[1]); sys.path[:] = path; import seqbench; "
    "seqbench.__path__[:] = package; from seqbench.jobs.pool import main; sys.exit(main())"
)
LAST_SECONDS = 5.0  # for a process that is to end: a checkpoint is written within a step and less than a second
TAIL = 2000  # characters of what a process wrote to stderr that are kept


@dataclass(frozen=True)
class Event:
    """What is heard of a job.

    ``say`` (a line), ``begin`` (steps, and how many are done), ``step`` (its number and the loss), ``phase`` (what
    comes after the steps), ``printed`` (a line of its own, where these are passed on), ``refused`` (why it can't run),
    ``unsaved`` (why nothing could be written), ``interrupted`` (where it was), and at last ``ended`` (exit code, end
    of stderr).
    """

    job: Job
    kind: str
    values: tuple[Any, ...]


class Executor(Protocol):
    """Runs up to ``slots`` jobs at once."""

    slots: int

    def start(self, job: Job, message: str) -> None:
        """Start a process for ``job`` that reads ``message``, one line, as `main` does; there must be a free slot."""

    def wait(self, seconds: float) -> Event | None:
        """The next event of any job, or None after ``seconds`` without one."""

    def stop(self, job: Job) -> None:
        """End ``job`` at once; its ``ended`` still comes."""

    def close(self) -> list[Event]:
        """End all jobs, which are given a few seconds to leave what they can go on from; what is heard of them then."""


def run_jobs(
    jobs: Sequence[Job],
    store: Store,
    executor: Executor,
    failed: Callable[[Job, Status, str], Record],
    listener: Listener,
    *,
    limit: float,
    plugins: Sequence[Path] = (),
    force: bool = False,
) -> list[Outcome]:
    """Run those of ``jobs`` that have no final record; returns all with their records.

    Args:
        failed: the record of a job whose process left none, from its status and the reason.
        limit: seconds after which a job is ended.
        plugins: files that each process loads first.
        force: run again what has a record, too.

    Raises:
        OSError: a record could not be written; running jobs are ended, and what has a record keeps it.
        Interrupted: Ctrl-C; of a single job it says where that was.
    """
    return _Run(store, executor, failed, listener, limit, plugins, force).all(jobs)


@dataclass
class _Running:
    job: Job
    listener: Listener
    before: Path | None  # the newest run when it was started
    memory_kills: int | None = field(default_factory=lambda: _memory_kills())
    started: float = field(default_factory=time.monotonic)
    refused: str = ""
    late: bool = False


@dataclass
class _Run:
    """One call of `run_jobs`."""

    store: Store
    executor: Executor
    failed: Callable[[Job, Status, str], Record]
    listener: Listener
    limit: float
    plugins: Sequence[Path]
    force: bool
    running: dict[str, _Running] = field(default_factory=dict)
    done: dict[str, Outcome] = field(default_factory=dict)

    def all(self, jobs: Sequence[Job]) -> list[Outcome]:
        jobs = list({job.key: job for job in jobs}.values())
        stored = {} if self.force else {job.key: known for job in jobs if (known := self.store.final(job))}
        self.done |= stored
        waiting = deque(job for job in jobs if job.key not in stored)
        self.listener.planned(tuple(waiting), tuple(stored.values()))
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.executor.slots:
                    self._start(waiting.popleft())
                if self.running:
                    self._listen()
        except KeyboardInterrupt:
            words = [str(event.values[0]) for event in self.executor.close() if event.kind == "interrupted"]
            if len(jobs) == 1 and any(words):
                raise Interrupted(words[0]) from None
            raise
        finally:
            self.executor.close()
        return [self.done[job.key] for job in jobs]

    def _start(self, job: Job) -> None:
        known = self.store.find(job)
        if not self.force and (final := self.store.final(job)):  # another grid was faster
            self.done[job.key] = final
            self.listener.ended(final)
            return
        message = {
            "kind": job.kind,
            "spec": job.spec.to_json(),
            "out": str(self.store.root),
            "plugins": [str(path.resolve()) for path in self.plugins],
            "force": self.force,
        }
        self.executor.start(job, json.dumps(message))
        self.running[job.key] = _Running(job, self.listener.started(job), known.folder if known else None)

    def _listen(self) -> None:
        """Wait for one event, at most a second, and see to it."""
        for running in self.running.values():
            if not running.late and time.monotonic() - running.started > self.limit:
                running.late = True
                self.executor.stop(running.job)
        event = self.executor.wait(1.0)
        if event is None:
            return
        running = self.running[event.job.key]
        if event.kind == "unsaved":
            raise OSError(f"{event.job.spec.name}: {event.values[0]}")
        if event.kind == "refused":
            running.refused = event.values[0]
        elif event.kind == "printed":
            running.listener.say(event.values[0])
        elif event.kind in ("say", "begin", "step", "phase"):
            getattr(running.listener, event.kind)(*event.values)
        elif event.kind == "ended":
            del self.running[event.job.key]
            outcome = self.done[event.job.key] = self._outcome(running, *event.values)
            self.listener.ended(outcome)

    def _outcome(self, running: _Running, code: int, tail: str) -> Outcome:
        """The record that the process left, or one that says why there is none."""
        known = self.store.find(running.job)
        if known is not None and known.folder != running.before:
            return Outcome(known.job, known.record, known.folder)

        def work(folder: Path) -> Record:
            (folder / "traceback.txt").write_text(tail or "nothing was written to stderr\n", encoding="utf-8")
            return self.failed(running.job, *self._why(running, code, tail))

        return self.store.keep(running.job, work)

    def _why(self, running: _Running, code: int, tail: str) -> tuple[Status, str]:
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


class LocalProcesses:
    """A process of its own for each job, so that whatever befalls it stays there.

    A process ends with the one that started it, whatever kills that: it watches its standard input, which ends then.
    ``gpus`` are spread over the slots. With ``echo`` lines that a job prints are heard as events, too.
    """

    def __init__(self, slots: int, gpus: int = 0, *, echo: bool = False) -> None:
        self.slots = slots
        self.gpus = gpus
        self.echo = echo
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: dict[str, tuple[subprocess.Popen[str], int]] = {}

    def start(self, job: Job, message: str) -> None:
        """Start a fresh Python; nothing is shared with this one."""
        slot = min(set(range(self.slots)) - {slot for _, slot in self._running.values()})
        paths = json.dumps([sys.path, list(importlib.import_module("seqbench").__path__)])
        complaint = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by _follow
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self.echo else complaint,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=self._environment(slot, job.spec.threads),
            start_new_session=True,  # Ctrl-C is for the grid, which then ends its workers
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and `ended` will say so
            process.stdin.write(message + "\n")
            process.stdin.flush()
        self._running[job.key] = process, slot
        threading.Thread(target=self._follow, args=(job, process, complaint), daemon=True).start()

    def _environment(self, slot: int, threads: int) -> dict[str, str]:
        """This process's, with as many threads as the job is to have, and a GPU of the slot's own."""
        variables = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if self.gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self.gpus)))).split(",")
            variables["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
        return variables

    def _listen_to(self, job: Job, stream: TextIO, complaint: IO[bytes]) -> None:
        """In a thread: pass on and keep what the process prints."""
        for line in stream:
            complaint.write(line.encode("utf-8", errors="replace"))
            self._events.put(Event(job, "printed", (line.rstrip(),)))

    def _follow(self, job: Job, process: subprocess.Popen[str], complaint: IO[bytes]) -> None:
        """In a thread: pass on what the process says, and how it ended."""
        assert process.stdout is not None and process.stdin is not None
        listening = threading.Thread(target=self._listen_to, args=(job, process.stderr, complaint), daemon=True)
        if self.echo:
            listening.start()
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError):  # a line cut off by a kill
                kind, *values = json.loads(line)
                self._events.put(Event(job, kind, tuple(values)))
        code = process.wait()
        if self.echo and process.stderr is not None:
            listening.join(1.0)  # what it has started may live on and hold the stream open
            process.stderr.close() if not listening.is_alive() else None
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        complaint.seek(0)
        tail = complaint.read().decode("utf-8", errors="replace")[-TAIL:]
        complaint.close()
        self._events.put(Event(job, "ended", (code, tail)))

    def wait(self, seconds: float) -> Event | None:
        """From any process."""
        try:
            event = self._events.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if event.kind == "ended":
            self._running.pop(event.job.key, None)
        return event

    def stop(self, job: Job) -> None:
        """SIGKILL, to the process and whatever it has started."""
        if job.key in self._running:
            _kill(self._running[job.key][0])

    def close(self) -> list[Event]:
        """Ask what runs to end, kill what is still there some seconds later, and wait until it has gone."""
        heard: list[Event] = []
        try:
            for process, _ in self._running.values():
                assert process.stdin is not None
                with contextlib.suppress(OSError):
                    process.stdin.close()
            heard += self._wait_for_all(LAST_SECONDS)
        finally:  # Ctrl-C again: at once
            for process, _ in self._running.values():
                _kill(process)
            self._wait_for_all(10.0)
        return heard

    def _wait_for_all(self, seconds: float) -> list[Event]:
        end, heard = time.monotonic() + seconds, []
        while self._running and time.monotonic() < end:
            event = self.wait(0.1)
            heard += [event] if event else []
        return heard


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def main() -> int:
    """What a process does: read one job from standard input, run it, tell how it goes as lines of JSON.

    Exit code: 0 when the record stands, 2 when there was nothing to run, 1 when it could not be written, 130 when it
    was asked to end.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's background ignores Ctrl-C
    interrupt_cleanly()
    teller = _Teller()
    message = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        module = importlib.import_module(message["kind"])  # imports torch; by now it is watched who waits for this
        for path in message["plugins"]:
            load_plugin(path)
        module.run_spec(message["spec"], Store(message["out"]), force=message["force"], listener=teller)
    except UserError as error:
        teller.tell("refused", str(error))
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        teller.tell("unsaved", f"{error.strerror or error}{where}")
        return 1
    except KeyboardInterrupt as error:
        teller.tell("interrupted", str(error))
        return INTERRUPTED
    return 0


class _Teller(Listener):
    """Writes a line at a time to what was standard output; whatever else is printed goes to standard error.

    Where nobody listens any more the run ends anyhow.
    """

    def __init__(self) -> None:
        self.stream: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def tell(self, kind: str, *values: Any) -> None:
        with contextlib.suppress(OSError):
            self.stream.write(json.dumps([kind, *values]) + "\n")
            self.stream.flush()

    def say(self, line: str) -> None:
        self.tell("say", line)

    def begin(self, steps: int, done: int = 0) -> None:
        self.tell("begin", steps, done)

    def step(self, step: int, loss: float = 0.0) -> None:
        self.tell("step", step, loss)

    def phase(self, name: str) -> None:
        self.tell("phase", name)


def _end_with_parent() -> None:
    """Standard input ends when the process that started this one has gone or wants its end.

    What Ctrl-C does then lets training leave a checkpoint; whatever goes on after that is cut off.
    """
    while os.read(0, 4096):  # not sys.stdin: a thread that waits there can break the end of the interpreter
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(LAST_SECONDS)
    os._exit(3)

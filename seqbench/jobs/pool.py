"""Running many jobs, each in a process of its own, so that every one of them gets a record whatever becomes of it.

A job is keyed by content and its record appears whole or not at all, so what was killed is simply run again: what has a
record is skipped, the rest is run (`run_jobs`). An `Executor` starts jobs somewhere and tells what becomes of them;
results lie in the store. `LocalProcesses` is the one for this machine, and `main` what its processes do;
`cluster.RayTasks` starts the same processes on the nodes of a cluster. Order, time limits, what is tried again, what is
published and what is written of a failure are the same for both: they are here.

A fresh Python spends more time on importing torch than many a job on its work. So where there are many jobs, the
processes are forked from one that has imported it and done nothing else: the nursery. It has no threads, no device and
no data, and what it forks is a process as a fresh one is, with its own session, streams and environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from seqbench.disk import TEMPORARY
from seqbench.errors import Interrupted, UserError
from seqbench.jobs.job import Job, Listener, Outcome
from seqbench.jobs.record import Record, Status
from seqbench.jobs.store import RECORD, Store
from seqbench.process import INTERRUPTED, interrupt_cleanly
from seqbench.registry import load_plugin
from seqbench.report.text import counted

__all__ = ["TIME_LIMITS", "Event", "Executor", "LocalProcesses", "fresh_python", "main", "run_jobs"]

TIME_LIMITS = {"smoke": 600.0, "quick": 7_200.0, "standard": 86_400.0, "full": 604_800.0}  # seconds for one job

# A worker finds modules where its parent finds them, never in the folder that a user happens to stand in. The package's
# own path matters where it is not installed: a checkout's run_bench.py adds the folder of the tasks to it.
START = (
    "import json, sys; path, package = json.loads(sys.argv[1]); sys.path[:] = path; import seqbench; "
    "seqbench.__path__[:] = package; from seqbench.jobs.%s import main; sys.exit(main())"
)
LAST_SECONDS = 5.0  # for a process that is to end: a checkpoint is written within a step and less than a second
FORK = "SEQBENCH_FORK"  # variable of the environment: 0 has every job start a fresh Python
TAIL = 2000  # characters of what a process wrote to stderr that are kept
LOSSES = 3  # times that a job is run again because the machine that it ran on was lost


@dataclass(frozen=True)
class Event:
    """What is heard of a job.

    ``placed`` (it runs from now on), ``say`` (a line), ``begin`` (steps, and how many are done), ``step`` (its number
    and the loss), ``phase`` (what comes after the steps), ``printed`` (a line of its own, where these are passed on),
    ``refused`` (why it can't run), ``unsaved`` (why nothing could be written), ``interrupted`` (where it was),
    ``starved`` (the system killed it because memory ran out), and at last ``ended`` (exit code, end of stderr).

    Of a job whose process does not write into the store itself, also ``kept`` (a folder of files from which another
    process can go on), ``brought`` (a folder with the record and what belongs to it), and, in place of ``ended``,
    ``lost`` (why nobody will ever hear how it ended).
    """

    job: Job
    kind: str
    values: tuple[Any, ...]


class Executor(Protocol):
    """Runs up to ``slots`` jobs at once; their number may change as machines come and go."""

    @property
    def slots(self) -> int:
        """At least 1."""

    def start(self, job: Job, message: str) -> None:
        """Have a process started for ``job`` that reads ``message``, one line, as `main` does, at once or when there is
        room; there must be a free slot.
        """

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
    before: Path | None  # the newest run when it was started
    listener: Listener = field(default_factory=Listener)  # of the user's from when it is placed
    placed: float = math.inf
    refused: str = ""
    starved: bool = False
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
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[str, _Running] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    done: dict[str, Outcome] = field(default_factory=dict)

    def all(self, jobs: Sequence[Job]) -> list[Outcome]:
        jobs = list({job.key: job for job in jobs}.values())
        stored = {} if self.force else {job.key: known for job in jobs if (known := self.store.final(job))}
        self.done |= stored
        self.waiting.extend(job for job in jobs if job.key not in stored)
        self.listener.planned(tuple(self.waiting), tuple(stored.values()))
        with contextlib.suppress(OSError):  # so that no process finds it removed by another's test of it
            self.store.root.mkdir(parents=True, exist_ok=True)
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.executor.slots:
                    self._start(self.waiting.popleft())
                if self.running:
                    self._listen()
        except KeyboardInterrupt:
            words = [str(event.values[0]) for event in self.executor.close() if event.kind == "interrupted"]
            if len(jobs) == 1 and any(words):
                raise Interrupted(words[0]) from None
            raise
        finally:
            self.executor.close()
            with contextlib.suppress(OSError):  # unless something was written
                self.store.root.rmdir()
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
        self.running[job.key] = _Running(job, known.folder if known else None)

    def _listen(self) -> None:
        """Wait for one event, at most a second, and see to it."""
        for running in self.running.values():
            if not running.late and time.monotonic() - running.placed > self.limit:
                running.late = True
                self.executor.stop(running.job)
        event = self.executor.wait(1.0)
        if event is None:
            return
        running = self.running[event.job.key]
        if event.kind in ("say", "begin", "step", "phase"):
            getattr(running.listener, event.kind)(*event.values)
        elif event.kind in ("ended", "lost"):
            del self.running[event.job.key]
            known = self.store.find(running.job) if event.kind == "lost" else None
            stands = known is not None and known.folder != running.before  # it was brought before its node was lost
            if event.kind == "lost" and not running.late and not stands and self._again(running, event.values[0]):
                return
            code, tail = event.values if event.kind == "ended" else (1, event.values[0])
            outcome = self.done[event.job.key] = self._outcome(running, code, tail)
            self.listener.ended(outcome)
        else:
            self._note(running, event)

    def _note(self, running: _Running, event: Event) -> None:
        """What is not for the user as it comes."""
        if event.kind == "unsaved":
            raise OSError(f"{event.job.spec.name}: {event.values[0]}")
        if event.kind == "placed":
            running.placed, running.listener = time.monotonic(), self.listener.started(running.job)
        elif event.kind == "printed":
            running.listener.say(event.values[0])
        elif event.kind == "refused":
            running.refused = event.values[0]
        elif event.kind == "starved":
            running.starved = True
        elif event.kind == "kept":
            home = self.store.folder_of(running.job)
            home.mkdir(parents=True, exist_ok=True)
            for path in Path(event.values[0]).iterdir():
                path.replace(home / path.name)
        elif event.kind == "brought":
            running.refused = self._take(running, Path(event.values[0])) or running.refused

    def _take(self, running: _Running, folder: Path) -> str:
        """Publish what a process elsewhere has left in ``folder``; why not, if it is no record of its job.

        A job that was lost and run again is published once: nothing is heard of the first any more.
        """
        try:
            record = Record.from_json((folder / RECORD).read_text(encoding="utf-8"), "what came back")
        except (UserError, FileNotFoundError, UnicodeDecodeError) as error:
            return str(error)
        if record.key != running.job.key:
            return "what came back is the record of another job"

        def work(own: Path) -> Record:
            for path in folder.iterdir():
                path.replace(own / path.name)
            return record

        self.store.keep(running.job, work, again=running.before is not None)
        home = self.store.folder_of(running.job)
        for path in home.iterdir():  # from what was kept nobody will go on
            if path.is_file() and not path.name.startswith(TEMPORARY):
                path.unlink()
        return ""

    def _again(self, running: _Running, why: str) -> bool:
        """Put a job that was lost back in its place, unless that was so too often."""
        self.losses[running.job.key] += 1
        if self.losses[running.job.key] > LOSSES:
            running.refused = f"lost {counted(self.losses[running.job.key], 'time')}, at last because {why}"
            return False
        self.listener.say(f"{running.job.spec.name}: lost, because {why}; it is run again")
        self.waiting.appendleft(running.job)
        return True

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
            if running.starved:
                return "oom", f"the system killed its process ({name}) because memory ran out"
            return "error", f"its process was ended by {name}: {last}"
        return "error", f"its process ended with exit code {code} and left no record: {last}"


def _memory_kills() -> int | None:
    """How many processes the system has killed because memory ran out, where it tells."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def fresh_python(module: str) -> list[str]:
    """The words that start a Python which runs ``main`` of that module of this package."""
    paths = json.dumps([sys.path, list(importlib.import_module("seqbench").__path__)])
    return [sys.executable, "-P", "-c", START % module, paths]


class LocalProcesses:
    """A process of its own for each job, so that whatever befalls it stays there.

    A process ends with the one that started it, whatever kills that: it watches its standard input, which ends then.
    ``gpus`` are spread over the slots. With ``echo`` lines that a job prints are heard as events, too. With ``many``
    jobs to come the processes are forked from a nursery, where that is safe. A ``lasting`` one can run more jobs after
    `close`, from the same nursery, until `shut` ends it.
    """

    def __init__(
        self, slots: int, gpus: int = 0, *, echo: bool = False, many: bool = False, lasting: bool = False
    ) -> None:
        self.slots = slots
        self.gpus = gpus
        self.echo = echo
        self.lasting = lasting
        self._forks = many and sys.platform == "linux" and os.environ.get(FORK) != "0"
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: dict[str, tuple[subprocess.Popen[str] | _Forked, int]] = {}
        self._nurseries: dict[tuple[str, ...], _Nursery] = {}

    def start(self, job: Job, message: str) -> None:
        """Start a process that shares nothing with this one."""
        slot = min(set(range(self.slots)) - {slot for _, slot in self._running.values()})
        words = fresh_python("pool")
        complaint = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by _follow
        environment = self._environment(slot, job.spec.threads)
        forked = self._fork(job, words, environment, complaint) if self._forks else None
        process = forked or subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self.echo else complaint,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            start_new_session=True,  # Ctrl-C is for the grid, which then ends its workers
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and `ended` will say so
            process.stdin.write(message + "\n")
            process.stdin.flush()
        self._running[job.key] = process, slot
        self._events.put(Event(job, "placed", ()))
        threading.Thread(target=self._follow, args=(job, process, complaint), daemon=True).start()

    def _fork(self, job: Job, words: list[str], environment: dict[str, str], complaint: IO[bytes]) -> _Forked | None:
        """A process from the nursery for such jobs, which is started if need be; None if that can't be."""
        like = job.kind, *words, str(job.spec.threads)  # BLAS reads its number of threads when it is loaded
        with contextlib.suppress(OSError):
            if like not in self._nurseries or not self._nurseries[like].alive:
                self._nurseries[like] = _Nursery([*words, job.kind], environment)
            return self._nurseries[like].fork(environment, None if self.echo else complaint)
        return None

    def _environment(self, slot: int, threads: int) -> dict[str, str]:
        """This process's, with as many threads as the job is to have, and a GPU of the slot's own."""
        variables = {"OMP_NUM_THREADS": str(threads), **os.environ}
        if self.gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self.gpus)))).split(",")
            variables["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
        return variables

    def _listen_to(self, job: Job, stream: IO[str], complaint: IO[bytes]) -> None:
        """In a thread: pass on and keep what the process prints."""
        for line in stream:
            complaint.write(line.encode("utf-8", errors="replace"))
            self._events.put(Event(job, "printed", (line.rstrip(),)))

    def _follow(self, job: Job, process: subprocess.Popen[str] | _Forked, complaint: IO[bytes]) -> None:
        """In a thread: pass on what the process says, and how it ended."""
        assert process.stdout is not None and process.stdin is not None
        memory_kills = _memory_kills()
        listening = threading.Thread(target=self._listen_to, args=(job, process.stderr, complaint), daemon=True)
        if self.echo:
            listening.start()
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError):  # a line cut off by a kill
                kind, *values = json.loads(line)
                self._events.put(Event(job, kind, tuple(values)))
        code = process.wait()
        if code == -signal.SIGKILL and memory_kills != _memory_kills():
            self._events.put(Event(job, "starved", ()))
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
            for nursery in self._nurseries.values():
                if not self.lasting:
                    nursery.stop_importing()
            for process, _ in self._running.values():
                assert process.stdin is not None
                with contextlib.suppress(OSError):
                    process.stdin.close()
            heard += self._wait_for_all(LAST_SECONDS)
        finally:  # Ctrl-C again: at once
            for process, _ in self._running.values():
                _kill(process)
            self._wait_for_all(10.0)
            while self._nurseries and not self.lasting:
                self._nurseries.popitem()[1].close()
        return heard

    def shut(self) -> None:
        """Close a lasting one for good."""
        self.lasting = False
        self.close()

    def _wait_for_all(self, seconds: float) -> list[Event]:
        end, heard = time.monotonic() + seconds, []
        while self._running and time.monotonic() < end:
            event = self.wait(0.1)
            heard += [event] if event else []
        return heard


def _kill(process: subprocess.Popen[str] | _Forked) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.name == "nt" or isinstance(process, _Forked):
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


class _Forked:
    """A process that a nursery forks, with the part of `subprocess.Popen` that is needed of it."""

    def __init__(self, stdin: IO[str], stdout: IO[str], stderr: IO[str] | None) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._lock = threading.Lock()
        self._pid: int | None = None  # while there is such a process
        self._killed = False
        self._code = 0
        self._gone = threading.Event()

    def born(self, pid: int) -> None:
        """The nursery has forked it."""
        with self._lock:
            self._pid = pid
        if self._killed:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to the process and whatever it has started; at its birth where that is still to come."""
        self._killed = True
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._pid is not None:
                os.killpg(self._pid, signal.SIGKILL)

    def ended(self, code: int) -> None:
        """The nursery has seen its end, as an exit code or a negative signal."""
        with self._lock:
            self._pid = None
        self._code = code
        self._gone.set()

    def wait(self) -> int:
        """Its exit code, or a negative signal."""
        self._gone.wait()
        return self._code


class _Nursery:
    """A process that has imported the module of a ``kind`` of jobs and forks itself for each of them.

    What it forks ends with this process, whose pipe is its standard input. When the nursery ends before them, however
    that comes, they are killed, for nobody could tell any more how they ended.
    """

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.alive = True
        self._environment = environment
        self._ready = False
        self._lock = threading.Lock()
        self._children: dict[int, _Forked] = {}
        self._number = 0
        self._line, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(
                words,
                stdin=its_end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def fork(self, environment: dict[str, str], stderr: IO[bytes] | None) -> _Forked:
        """A new process; ``stderr`` is a file for what it writes there, or None for a pipe.

        Raises:
            OSError: the nursery has gone.
        """
        names = environment.keys() | self._environment.keys()
        changes = {
            name: environment.get(name) for name in names if environment.get(name) != self._environment.get(name)
        }
        with contextlib.ExitStack() as its_ends:
            inward, outward, errors = os.pipe(), os.pipe(), os.pipe() if stderr is None else None
            ends = [inward[0], outward[1], *(errors or ())[1:]]
            for end in ends:
                its_ends.callback(os.close, end)
            readers = [open(ours[0], encoding="utf-8", errors="replace") for ours in (outward, errors) if ours]  # noqa: SIM115
            child = _Forked(open(inward[1], "w", encoding="utf-8"), readers[0], readers[1] if errors else None)  # noqa: SIM115
            with self._lock:
                try:
                    if not self.alive:
                        raise BrokenPipeError
                    streams = ends if stderr is None else [*ends, stderr.fileno()]
                    socket.send_fds(self._line, [json.dumps([self._number, changes]).encode()], streams)
                except OSError:
                    for stream in (child.stdin, *readers):
                        stream.close()
                    raise
                self._children[self._number] = child
                self._number += 1
            return child

    def _listen(self) -> None:
        """In a thread: what the nursery tells of the processes it forks."""
        while heard := self._hear():
            what, *values = json.loads(heard)
            if what == "ready":
                self._ready = True
                continue
            with self._lock:
                child = self._children[values[0]] if what == "born" else self._children.pop(values[0])
            child.born(values[1]) if what == "born" else child.ended(values[1])
        with self._lock:
            self.alive = False
            orphans, self._children = list(self._children.values()), {}
        for child in orphans:
            child.kill()
            child.ended(-signal.SIGKILL)
        self._process.wait()
        self._line.close()

    def _hear(self) -> bytes:
        """A message; nothing when the nursery has gone."""
        try:
            return self._line.recv(4096)
        except OSError:
            return b""

    def stop_importing(self) -> None:
        """End it at once if it has not come to fork anything."""
        if not self._ready:
            self._process.kill()

    def close(self) -> None:
        """End it; it ends by itself when its line does."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        self._listening.join(10.0)


def _nurse(kind: str) -> None:
    """In a nursery: import the module ``kind``, and fork for each message; returns in what is forked only.

    A message is a number and changes to the environment, with three streams. Told are the process of that number and
    how it ended. Standard input is the line to the process that started this one; the nursery ends with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = socket.socket(fileno=os.dup(0))
    with contextlib.suppress(Exception):  # what is forked will say so
        importlib.import_module(kind)
    gc.collect()
    gc.freeze()  # so that what is forked shares it for long
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    children: dict[int, int] = {}
    line.send(json.dumps(["ready"]).encode())
    while True:
        ready, _, _ = select.select([line.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            for pid in list(children):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                with contextlib.suppress(OSError):  # what it has started would hold its streams open, unheard
                    os.killpg(pid, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                line.send(json.dumps(["ended", children.pop(pid), code]).encode())
        if line.fileno() not in ready:
            continue
        message, streams, _, _ = socket.recv_fds(line, 1 << 18, 3)
        if not message or _hung_up(line):
            os._exit(0)
        number, changes = json.loads(message)
        try:
            # what was imported may have started threads, which a fork would lose
            pid = _fork() if len(list(Path("/proc/self/task").iterdir())) == 1 else _start_fresh(changes, streams)
        except OSError as error:  # there is no memory for one more, say
            os.write(streams[2], f"{error}\n".encode())
            line.send(json.dumps(["ended", number, 1]).encode())
            for stream in streams:
                os.close(stream)
            continue
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for stream, place in zip(streams, range(3), strict=True):
                os.dup2(stream, place)
            for end in (*streams, wake, waker, line.detach()):
                os.close(end)
            _become_fresh(changes)
            return
        for stream in streams:
            os.close(stream)
        children[pid] = number
        line.send(json.dumps(["born", number, pid]).encode())


def _hung_up(line: socket.socket) -> bool:
    """Whether nobody is at the other end any more."""
    poll = select.poll()
    poll.register(line, select.POLLRDHUP)
    return bool(poll.poll(0))


def _fork() -> int:
    """As `os.fork`, when the process has a session of its own: from then on it can be killed with all it starts."""
    told, teller = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
    else:
        os.close(teller)
        os.read(told, 1)
        os.close(told)
        return pid
    os.close(told)
    os.close(teller)
    return 0


def _start_fresh(changes: dict[str, str | None], streams: Sequence[int]) -> int:
    """A fresh Python in place of a fork."""
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    places = [(os.POSIX_SPAWN_DUP2, stream, place) for place, stream in enumerate(streams)]
    words = [sys.executable, "-P", "-c", START % "pool", sys.argv[1]]
    return os.posix_spawn(sys.executable, words, environment, file_actions=places, setsid=True)


def _become_fresh(changes: dict[str, str | None]) -> None:
    """What a fresh process has of its own: its environment, and random numbers that nobody else draws."""
    for name, value in changes.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # Python's own generator does so by itself
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    del sys.argv[2:]


def main() -> int:
    """What a process does: read one job from standard input, run it, tell how it goes as lines of JSON.

    Exit code: 0 when the record stands, 2 when there was nothing to run, 1 when it could not be written, 130 when it
    was asked to end. In a nursery, which names the kind of its jobs, that is what it forks for each of them.
    """
    if sys.argv[2:]:
        _nurse(sys.argv[2])
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

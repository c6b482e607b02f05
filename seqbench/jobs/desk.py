"""The process that speaks with Ray in the name of a grid, which runs beside it.

Ray prints to whatever stands on standard output, ends its process where it loses the cluster, and reads objects of
Python's that others made. So the grid does not load it: this process does, hears assignments as lines of JSON on
standard input, and tells what comes of them as lines of JSON on standard output. It ends when the grid does.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqbench.jobs.node import Assignment, Parcel, packed_folder, printable_text, read_frame, run_there

__all__ = ["main"]

TICK = 0.05  # seconds between two looks at what has come in
LOOK = 2.0  # seconds between two looks at which nodes there are
LAST_SECONDS = 10.0  # for tasks that are to end
AHEAD = 16  # frames of a task that wait to be read, at most
Tell = Callable[..., None]


@dataclass
class _Attempt:
    """A job that a task of the cluster runs."""

    key: str
    frames: Any  # Ray's generator of references
    into: Path  # the folder in which files are put together
    folders: dict[str, Path] = field(default_factory=dict)  # where what comes back is put together
    stopped: bool = False
    killed_at: float = math.inf  # when it is, if it has not ended before
    placed: bool = False


class _Desk:
    """Starts tasks, and tells of each what its frames say."""

    def __init__(self, ray: Any, tell: Tell) -> None:
        self.ray, self.tell = ray, tell
        # what is to be run again is decided elsewhere: a task that Ray ran again would tell its story twice
        options = {"num_returns": "streaming", "max_retries": 0, "_generator_backpressure_num_objects": AHEAD}
        self.task = ray.remote(**options)(run_there)
        self.attempts: dict[str, _Attempt] = {}
        self.sent: dict[Any, tuple[str, Any]] = {}  # hash and reference of the bytes of parcels
        self.numbers = itertools.count()

    def start(self, asked: Mapping[str, Any]) -> None:
        """Have the job of an assignment run, with what it needs of this machine's files."""
        assignment = Assignment.from_json(json.dumps(asked["assignment"]))
        try:
            parcels = [*self._cached(asked["cached"]), *self._files(asked["files"]), *self._kept(asked["kept"])]
        except OSError as error:
            self.tell("event", assignment.key, "refused", f"{error.filename} can't be read ({error.strerror})")
            self.tell("event", assignment.key, "ended", 2, "")
            return
        assignment = replace(assignment, parcels=[parcel for parcel, _ in parcels])
        where: Any = "SPREAD"
        if asked["node"] is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            where = NodeAffinitySchedulingStrategy(asked["node"], soft=False)
        task = self.task.options(num_cpus=asked["cpus"], num_gpus=asked["gpus"], scheduling_strategy=where)
        frames = task.remote(assignment.to_json(), [reference for _, reference in parcels])
        self.attempts[assignment.key] = _Attempt(assignment.key, frames, Path(asked["into"]))

    def _parcel(self, like: Any, parcel: Parcel, read: Callable[[], bytes]) -> tuple[Parcel, Any]:
        """``parcel`` with the hash of its bytes, and their reference; bytes ``like`` others are not sent again."""
        if like not in self.sent:
            content = read()
            self.sent[like] = hashlib.sha256(content).hexdigest(), self.ray.put(content)
        sha256, reference = self.sent[like]
        return replace(parcel, sha256=sha256), reference

    def _cached(self, folders: list[list[str]]) -> list[tuple[Parcel, Any]]:
        found = []
        for name, place in folders:
            folder = Path(place)
            if folder.is_dir():
                like = tuple((path, _state(path)) for path in sorted(folder.rglob("*")) if path.is_file())
                parcel = Parcel("cached", name, "")
                found.append(self._parcel((folder, like), parcel, lambda folder=folder: packed_folder(folder)))  # type: ignore[misc]
        return found

    def _files(self, files: list[list[str]]) -> list[tuple[Parcel, Any]]:
        found = []
        for name, said, place in files:
            path = Path(place)
            parcel = Parcel("file", path.name, "", field=name, path=said)
            found.append(self._parcel((path, _state(path)), parcel, path.read_bytes))
        return found

    def _kept(self, paths: list[str]) -> list[tuple[Parcel, Any]]:
        found = []
        for path in map(Path, paths):
            with contextlib.suppress(FileNotFoundError):  # another process has come to the end of the run
                content = path.read_bytes()
                found.append((Parcel("kept", path.name, ""), self.ray.put(content)))
        return found

    def stop(self, key: str) -> None:
        """End a job: its node kills its process with whatever that has started; a node that does not is told to go."""
        if key in self.attempts:
            attempt = self.attempts[key]
            attempt.stopped, attempt.killed_at = True, time.monotonic() + LAST_SECONDS
            self._cancel(attempt, force=False)

    def _cancel(self, attempt: _Attempt, *, force: bool) -> None:
        with contextlib.suppress(Exception):  # it may have ended this moment
            self.ray.cancel(attempt.frames, force=force)

    def end_all(self) -> None:
        """End all jobs, and wait until their nodes have: what they have kept was brought already."""
        for force, seconds in ((False, LAST_SECONDS), (True, LAST_SECONDS)):
            for attempt in self.attempts.values():
                self._cancel(attempt, force=force)
            ends = [attempt.frames.completed() for attempt in self.attempts.values()]
            if ends and len(self.ray.wait(ends, num_returns=len(ends), timeout=seconds)[0]) == len(ends):
                break
        for attempt in self.attempts.values():
            self._forget(attempt)
        self.attempts.clear()

    def listen(self) -> None:
        """See to what has come in."""
        for attempt in self.attempts.values():
            if time.monotonic() > attempt.killed_at:
                attempt.killed_at = math.inf
                self._cancel(attempt, force=True)
        frames = {attempt.frames: attempt for attempt in self.attempts.values()}
        ready, _ = self.ray.wait(list(frames), num_returns=1, timeout=TICK)
        if ready and len(frames) > 1:
            ready, _ = self.ray.wait(list(frames), num_returns=len(frames), timeout=0)
        for one in ready:
            attempt = frames[one]
            try:
                events, piece = read_frame(self.ray.get(next(one)))
            except Exception as error:
                self._end(attempt, *_why(error, attempt))
                continue
            self._hear(attempt, events, piece)

    def _hear(self, attempt: _Attempt, events: list[tuple[str, tuple[Any, ...]]], piece: bytes) -> None:
        try:
            for kind, values in events:
                if kind == "piece":
                    where, name, at = values
                    self._write(attempt, where, name, at, piece)
                elif kind in ("kept", "brought"):
                    self.tell("event", attempt.key, kind, str(attempt.folders.pop(kind)))
                elif kind == "unfit":
                    advice = "install it there, or take the node out of the cluster"
                    self.tell("fatal", f"a node of the cluster can't run cells: {values[0]}; {advice}.")
                elif kind in ("ended", "lost"):
                    self._end(attempt, (kind, *values))
                    return
                else:
                    attempt.placed |= kind == "placed"
                    self.tell("event", attempt.key, kind, *values)
        except OSError as error:
            self.tell("event", attempt.key, "unsaved", f"{error.strerror or error}")
        except (KeyError, ValueError) as error:  # pieces that make no file
            self._end(attempt, ("lost", f"what its node sent is damaged ({error})"))

    def _write(self, attempt: _Attempt, where: str, name: str, at: int, piece: bytes) -> None:
        if where not in attempt.folders:
            attempt.folders[where] = attempt.into / str(next(self.numbers))
            attempt.folders[where].mkdir(parents=True)
        path = attempt.folders[where] / name
        if at != (path.stat().st_size if at and path.is_file() else 0):
            raise ValueError(f"a part of {name} is missing")
        with path.open("ab" if at else "wb") as file:
            file.write(piece)

    def _end(self, attempt: _Attempt, *events: tuple[Any, ...]) -> None:
        self._forget(attempt)
        self.attempts.pop(attempt.key, None)
        for kind, *values in events:
            if kind == "fatal":
                self.tell(kind, *values)
            else:
                self.tell("event", attempt.key, kind, *values)

    def _forget(self, attempt: _Attempt) -> None:
        for folder in attempt.folders.values():
            shutil.rmtree(folder, ignore_errors=True)

    def nodes(self) -> list[list[Any]]:
        """Of each that is alive: its name for Ray, CPUs and GPUs."""
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        return [[node["NodeID"], *(node["Resources"].get(what, 0.0) for what in ("CPU", "GPU"))] for node in alive]


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def _why(error: Exception, attempt: _Attempt) -> list[tuple[Any, ...]]:
    """What is to be told where no more frames of ``attempt`` will come."""
    from ray import exceptions

    if attempt.stopped:
        return [("ended", -signal.SIGKILL, "stopped")]
    if isinstance(error, exceptions.OutOfMemoryError):
        return [("starved",), ("ended", -signal.SIGKILL, "Ray ended it because the memory of its node ran out")]
    if isinstance(error, exceptions.RuntimeEnvSetupError):
        return [("fatal", f"the code could not be sent to a node of the cluster: {_first(error)}.")]
    if isinstance(error, exceptions.RayTaskError):  # it never came to run anything: the code can't be imported there
        return [("fatal", f"a node of the cluster can't run cells: {_last(error)}.")]
    if isinstance(error, ValueError):
        return [("lost", f"what its node sent is damaged ({error})")]
    if isinstance(error, StopIteration):
        return [("lost", "its node sent no end")]
    if isinstance(error, (exceptions.NodeDiedError, exceptions.WorkerCrashedError, exceptions.LocalRayletDiedError)):
        return [("lost", "its node was lost")]
    return [("lost", f"its node was lost ({type(error).__name__})")]


def _no_cluster(address: str, error: Exception) -> str:
    """One sentence on why Ray did not connect."""
    if address == "auto" and isinstance(error, ConnectionError):
        return "--address auto: this machine belongs to no Ray cluster; docs/cluster.md says how it joins one."
    why = printable_text(" ".join(str(error).split())[:400]).rstrip(".") or type(error).__name__
    return f"--address {address}: {why}."


def _first(error: Exception) -> str:
    return printable_text((str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")


def _last(error: Exception) -> str:
    return printable_text((str(error).strip().splitlines() or [type(error).__name__])[-1]).rstrip(".")


def main() -> int:
    """Connect, tell which nodes there are, and work at the desk until standard input ends.

    The first line says which cluster (``address``), and where the code lies that is to travel (``package``).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints

    def tell(*words: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more, and standard input ends, too
            stream.write(json.dumps(words) + "\n")
            stream.flush()

    asked = json.loads(sys.stdin.readline())
    try:
        import ray

        ray.init(
            address=asked["address"],
            runtime_env={"working_dir": asked["package"]},
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except Exception as error:
        tell("fatal", _no_cluster(asked["address"], error))
        return 1
    desk = _Desk(ray, tell)
    try:
        _work(desk)
    except Exception as error:  # of this process or its machine, if the cluster is there
        tell("fatal", f"the process that speaks with Ray could not go on ({type(error).__name__}: {_first(error)}).")
        return 1
    desk.end_all()
    ray.shutdown()
    return 0


def _work(desk: _Desk) -> None:
    """Until standard input ends."""
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    looked, nodes = 0.0, list[list[Any]]()
    while True:
        if time.monotonic() - looked > LOOK:
            looked = time.monotonic()
            if nodes != (now := desk.nodes()):
                nodes = now
                desk.tell("nodes", nodes)
        with contextlib.suppress(queue.Empty):
            while line := commands.get(timeout=0 if desk.attempts else TICK):
                what, value = json.loads(line)
                if what == "start":
                    desk.start(value)
                elif what == "stop":
                    desk.stop(value)
                else:
                    desk.end_all()
                    desk.tell("closed")
            return
        if desk.attempts:
            desk.listen()


def _read(commands: queue.SimpleQueue[str]) -> None:
    """In a thread: an empty line at last."""
    while line := sys.stdin.readline():
        commands.put(line)
    commands.put("")

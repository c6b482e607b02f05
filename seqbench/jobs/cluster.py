"""Jobs as tasks of a Ray cluster that is there: an `Executor` beside `pool.LocalProcesses`.

Every job takes the CPUs and the share of a GPU that it needs, and runs on whichever node has them, in a process as on
this machine (`node`). Nodes share no disk with this machine. The package, the tasks and the plug-ins travel as Ray's
runtime environment, prepared data and the user's own files as objects, once to each node; records and what belongs to
them come back, are held to their form, and are published here, by the pool, like any other.

A cluster trusts its members: whoever reaches its port can run code on every node of it, this machine included. What a
node says of a job is checked all the same, and Ray itself is loaded by a process beside this one (`desk`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from seqbench.disk import cache_root, sweep, temporary_folder
from seqbench.environment import TRAVELLED, package_version, travel_note
from seqbench.errors import UserError
from seqbench.jobs.job import Job
from seqbench.jobs.node import PACKAGES, Assignment, is_file_name
from seqbench.jobs.pool import Event, fresh_python
from seqbench.jobs.store import Store
from seqbench.registry import plugin_files

__all__ = ["RayTasks"]

ANSWER = 5.0  # seconds for a cluster's port to answer
CONNECT = 90.0  # seconds for Ray to connect
ENDING = 30.0  # seconds for all tasks to end
PATIENCE = 30.0  # seconds without room for any cell after which that is said
ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})\Z")
PLUGINS = "seqbench_plugins"  # the folder that they travel in
START_ONE = "docs/cluster.md says how one is started"
# of the process at the desk: nothing is reported, and no warning printed
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONWARNINGS": "ignore"}


class RayTasks:
    """Runs jobs on the cluster at ``address``; a context manager, which connects.

    Args:
        address: HOST:PORT, or auto for the cluster that this machine belongs to.
        jobs: how many run at once at most; None: as many as the cluster has room for.
        threads: CPUs that a job takes, by which room is counted.
        device: auto (cuda where the cluster has a GPU), cpu or cuda.
        gpus: share of a GPU that a job takes; None: a whole one, on cuda.
        plugins: files that jobs load first.
        say: hears what a user is to know of the cluster.

    Attributes:
        device: cpu or cuda: on which all jobs are to run.
        gpus: share of a GPU that each takes.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it has no room for any job.
    """

    def __init__(
        self,
        address: str,
        *,
        jobs: int | None = None,
        threads: int = 1,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        gpus: float | None = None,
        plugins: Sequence[Path] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        _check_ray()
        _check_address(address)
        self.address, self.jobs, self.say, self.threads = address, jobs, say, threads
        self.device, self._share = device, gpus
        self.gpus = 0.0
        self._plugins = [path.resolve() for path in plugins]
        self._nodes: list[tuple[str, float, float]] = []  # each that is alive: Ray's name for it, CPUs, GPUs
        self._running: dict[str, Job] = {}
        self._waiting: dict[str, float] = {}  # jobs that run nowhere yet, and since when
        self._into: Path | None = None
        self._alone = False
        self._node: str | None = None  # that of jobs that run alone

    def __enter__(self) -> RayTasks:
        with contextlib.ExitStack() as stack:
            package = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "package"
            self._places = _stage(package, self._plugins)
            self._line = _Line({"address": self.address, "package": str(package)})
            stack.callback(self._line.close)
            self._look_around()
            self._choose_device()
            self._check_room()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _look_around(self) -> None:
        """Wait until it is known which nodes there are."""
        end = time.monotonic() + CONNECT
        while not self._nodes:
            told = self._line.hear(end - time.monotonic())
            if told is None:
                raise UserError(f"no Ray cluster answers at {self.address}: {START_ONE}.")
            self._see_to(told)

    def _choose_device(self) -> None:
        """Settle on one for all jobs: a key says of which device its result is."""
        some = any(gpus for _, _, gpus in self._nodes)
        if self.device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {self.device} is of this machine: on a cluster take cpu, cuda or auto.")
        if self.device == "auto":
            self.device = "cuda" if some else "cpu"
        if self.device == "cuda" and not some:
            raise UserError("no node of the cluster has a GPU: take --device cpu.")
        if self.device == "cpu" and self._share is not None:
            why = "takes none" if some else "finds none in this cluster"
            raise UserError(f"--gpus-per-cell is a share of a GPU, and --device cpu {why}: leave one of them out.")
        self.gpus = (self._share or 1.0) if self.device == "cuda" else 0.0

    def _check_room(self) -> None:
        if not self.room():
            raise UserError(f"no node of the cluster has {self._needs()} for a cell: add one, or ask for less.")

    def _needs(self) -> str:
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.threads} CPU{'s' * (self.threads > 1)}{gpus}"

    def room(self) -> int:
        """How many jobs the nodes that are alive can run at once if nobody else uses them."""
        return sum(self._fitting(cpus, gpus) for _, cpus, gpus in self._nodes)

    def _fitting(self, cpus: float, gpus: float) -> int:
        by_cpu = int(cpus // self.threads)
        return min(by_cpu, int(gpus / self.gpus + 1e-9)) if self.gpus else by_cpu

    @property
    def slots(self) -> int:
        """As asked, or as many as there is room for now."""
        return 1 if self._alone else self.jobs or max(1, self.room())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """In it jobs run one at a time, and each has all CPUs of its node: for what reads a clock. It is the same node
        for all, as long as that is there.
        """
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    def start(self, job: Job, message: str) -> None:
        """Have it run where there is room, as `Executor.start` says."""
        asked = json.loads(message)
        store = Store(Path(asked["out"]).absolute())  # the desk may stand elsewhere
        home = store.folder_of(job)
        assignment = Assignment(
            kind=asked["kind"],
            spec=asked["spec"],
            key=job.key,
            home=home.relative_to(store.root).as_posix(),
            threads=job.spec.threads,
            plugins=[self._places[path] for path in asked["plugins"]],
            versions={name: package_version(name) for name in PACKAGES},
            force=asked["force"],
        )
        node, cpus, gpus = None, float(job.spec.threads), self.gpus
        if self._alone:
            node, cpus, gpus = self._quiet_node()
        if self._into is None:
            sweep(store.root)
            self._into = temporary_folder(store.root)
        self._line.send(
            "start",
            {
                "assignment": asdict(assignment),
                "cached": [[_name(folder), str(folder.absolute())] for folder in job.cached],
                "files": [[name, path, str(Path(path).absolute())] for name, path in job.files],
                "kept": [str(path) for path in _kept(home)],
                "into": str(self._into),
                "cpus": cpus,
                "gpus": gpus,
                "node": node,
            },
        )
        self._running[job.key] = job
        self._waiting[job.key] = time.monotonic()

    def _quiet_node(self) -> tuple[str | None, float, float]:
        """Where a job runs alone, and all that this node has but for whole GPUs that it does not need."""
        fitting = {name: (cpus, gpus) for name, cpus, gpus in self._nodes if self._fitting(cpus, gpus)}
        if self._node not in fitting:
            self._node = max(fitting, key=lambda name: (fitting[name], name), default=None)
        cpus = fitting[self._node][0] if self._node is not None else float(self.threads)
        return self._node, cpus, 1.0 if self.gpus else 0.0

    def wait(self, seconds: float) -> Event | None:
        """Of any job; raises `UserError` where the cluster is lost, or can't run anything."""
        end = time.monotonic() + seconds
        while (told := self._line.hear(end - time.monotonic())) is not None:
            event = self._see_to(told)
            if event is not None:
                return event
        self._tell_patience()
        return None

    def _see_to(self, told: Sequence[Any]) -> Event | None:
        what, *values = told
        if what == "fatal":
            raise UserError(values[0])
        if what == "nodes":
            self._nodes = [(name, cpus, gpus) for name, cpus, gpus in values[0]]
        if what != "event" or values[0] not in self._running:
            return None
        key, kind, *values = values
        job = self._running[key]
        self._waiting.pop(key, None)
        if kind in ("ended", "lost"):
            del self._running[key]
        return Event(job, kind, tuple(values))

    def _tell_patience(self) -> None:
        """Say so, once, where nothing runs and nothing begins to."""
        if self._waiting.keys() == self._running.keys() and self._waiting:
            since = max(self._waiting.values())
            if time.monotonic() - since > PATIENCE:
                self._waiting = dict.fromkeys(self._waiting, float("inf"))
                whole = "a whole node is asked for, and none is free: waiting for one"  # what reads a clock runs alone
                self.say(whole if self._alone else f"no node of the cluster has {self._needs()} free: waiting for one")

    def stop(self, job: Job) -> None:
        """With the process and whatever it has started."""
        self._line.send("stop", job.key)

    def close(self) -> list[Event]:
        """End all tasks, and wait until their nodes have; nothing more is heard of them."""
        try:
            if self._running:
                self._line.send("close", None)
                end = time.monotonic() + ENDING
                while (told := self._line.hear(end - time.monotonic())) is not None and told[0] not in _LAST:
                    continue
                if told is None:  # what it tells of these jobs later would be taken for that of others
                    self._line.kill()
        except KeyboardInterrupt:  # once more: a cluster ends the tasks of whoever has gone
            self._line.kill()
            raise
        finally:
            self._running.clear()
            self._waiting.clear()
            if self._into is not None:
                shutil.rmtree(self._into, ignore_errors=True)
                self._into = None
        return []


_LAST = ("closed", "fatal")


class _Line:
    """The process at the desk: what is said to it, and what it tells."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self._told: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            fresh_python("desk"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, **SETTINGS},
            start_new_session=True,  # Ctrl-C is for the grid
        )
        self._write(json.dumps(first))
        threading.Thread(target=self._listen, daemon=True).start()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has gone, as will be heard
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def send(self, what: str, value: Any) -> None:
        """One line."""
        self._write(json.dumps([what, value]))

    def _listen(self) -> None:
        """In a thread."""
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed, or a line cut off by a kill
            for line in self._process.stdout:
                self._told.put(json.loads(line))
        lost = "the Ray cluster was lost: start it again and repeat the command, which goes on from what has a record."
        self._told.put(["fatal", lost])

    def hear(self, seconds: float) -> list[Any] | None:
        """What it tells next, or None after ``seconds``."""
        try:
            return self._told.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def close(self) -> None:
        """End it, and what runs for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            if self._process.poll() is None:
                self.kill()
            self._process.wait()
            self._process.stdout.close()


def _check_ray() -> None:
    """Raise `UserError` where it is not installed."""
    if (spec := importlib.util.find_spec("ray")) is None or spec.origin is None:
        raise UserError("--executor ray needs Ray, which is not installed: pip install 'seqbench[ray]'.")


def _check_address(address: str) -> None:
    """Raise `UserError` for what is no address of a cluster, or one at which nobody answers."""
    if address == "auto":
        return
    known = ADDRESS.match(address)
    if known is None or int(known["port"]) > 65_535:
        more = " (ray:// is for Ray's client, which this is not)" if address.startswith("ray://") else ""
        raise UserError(f"--address {address} is no cluster's: write HOST:PORT, such as head:6379, or auto{more}.")
    try:
        socket.create_connection((known["host"].strip("[]"), int(known["port"])), timeout=ANSWER).close()
    except (OSError, UnicodeError) as error:  # the latter: no name that a machine can have
        why = getattr(error, "strerror", None) or "no answer"
        raise UserError(f"--address {address}: no Ray cluster answers there ({why}): {START_ONE}.") from None


def _stage(package: Path, plugins: Sequence[Path]) -> dict[str, str]:
    """A copy of all code that is to travel; returns the places of plug-ins in it, by their paths here."""
    without = shutil.ignore_patterns("__pycache__", "*.pyc")
    inside = package / "seqbench"
    shutil.copytree(importlib.import_module("seqbench").__path__[0], inside, ignore=without)
    tasks = importlib.util.find_spec("seqbench.tasks")  # a folder beside the package, in a checkout
    assert tasks is not None and tasks.submodule_search_locations
    shutil.copytree(tasks.submodule_search_locations[0], inside / "tasks", ignore=without, dirs_exist_ok=True)
    (inside / TRAVELLED).write_text(travel_note(), encoding="utf-8")
    folders = {folder: f"{PLUGINS}/{i}" for i, folder in enumerate(dict.fromkeys(path.parent for path in plugins))}
    places = {}
    for path in plugins:
        for name, file in plugin_files(path).items():
            copy = package / folders[path.parent] / name
            if file.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        places[str(path)] = f"{folders[path.parent]}/{path.name}"
    return places


def _name(folder: Path) -> str:
    """Of a folder in the cache, wherever that lies."""
    return folder.relative_to(cache_root()).as_posix()


def _kept(home: Path) -> list[Path]:
    """What an earlier run has left beside the runs of a job, to be gone on from."""
    if not home.is_dir():
        return []
    return [path for path in sorted(home.iterdir()) if path.is_file() and is_file_name(path.name)]

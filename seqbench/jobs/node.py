"""What a task of a cluster does on the node where it runs: a process for the job, as on any machine, and its results
sent back.

The node shares no disk with the machine that the grid was started on. It is told what to run (`Assignment`) and given
parcels: prepared data, files of the user's own, and what an earlier run of the job has left to go on from. All of it
lies in one folder of the node's cache, apart from what others prepare there; data and files stay. The process writes
into a store in a temporary folder, and what it leaves comes back in frames: a line of JSON with events, and behind it
bytes of a file. Frames are no objects of Python's, and whoever receives one holds it to its form (`read_frame`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import platform
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seqbench.disk import OCCUPIED, cache_root, replace_file, sweep, temporary_folder
from seqbench.environment import package_version
from seqbench.jobs.job import Job
from seqbench.jobs.pool import Event, LocalProcesses
from seqbench.jobs.store import RECORD, Store

__all__ = [
    "PACKAGES",
    "Assignment",
    "Parcel",
    "is_file_name",
    "packed_folder",
    "printable_text",
    "read_frame",
    "run_there",
]

PACKAGES = ("torch", "numpy", "scikit-learn", "scipy", "safetensors", "pyarrow")  # that a node must have
TRAVELLED_IN = Path(__file__).parents[2]  # on a node: what was sent to it
WHEN = (1980, 1, 1, 0, 0, 0)  # of all that is packed, so that the same files make the same pack
PIECE = 4 * 2**20  # bytes of a file in a frame
SAID = 0.25  # seconds between two frames of events, at least
KEPT = 5.0, 100.0  # seconds between two copies of what is kept, at least; and times what sending one took
LONGEST = 2000  # characters of a text in an event
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z")
# what a node may say, and of which types
SHAPES: dict[str, tuple[type | tuple[type, ...], ...]] = {
    "placed": (),
    "say": (str,),
    "begin": (int, int),
    "step": (int, (int, float)),
    "phase": (str,),
    "refused": (str,),
    "starved": (),
    "ended": (int, str),
    "lost": (str,),
    "unfit": (str,),  # the node can run no job at all
    "piece": (str, str, int),  # where it belongs, kept or brought, the file's name, and the place in it of its bytes
    "kept": (),
    "brought": (),
}


@dataclass(frozen=True)
class Parcel:
    """Bytes that travel with an assignment.

    Attributes:
        kind: ``cached``, the pack of a folder of the cache; ``file``, one of the user's own; ``kept``, one that an
            earlier run of the job has left.
        name: of the folder in the cache, or of the file.
        sha256: of the bytes.
        field: of the spec that names the file, and ``path``, what it says there.
    """

    kind: str
    name: str
    sha256: str
    field: str = ""
    path: str = ""


@dataclass(frozen=True)
class Assignment:
    """A job as a node is told of it.

    Attributes:
        home: the folder of its runs below a store's root.
        plugins: files, by their places beside the package.
        versions: of `PACKAGES` on the machine that the grid was started on.
        parcels: in the order in which their bytes come.
    """

    kind: str
    spec: Mapping[str, Any]
    key: str
    home: str
    threads: int
    plugins: Sequence[str]
    versions: Mapping[str, str | None]
    force: bool
    parcels: Sequence[Parcel] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The reverse of `to_json`."""
        raw = json.loads(text)
        return cls(**{**raw, "parcels": [Parcel(**parcel) for parcel in raw["parcels"]]})


# --- frames ----------------------------------------------------------------------------------------------------------


def is_file_name(name: str) -> bool:
    """Whether a file of a job may be called so where it is written: it leads into no other folder and is not hidden."""
    return FILE.match(name) is not None


def _frame(events: Sequence[Sequence[Any]], piece: bytes = b"") -> bytes:
    return json.dumps(events).encode() + b"\n" + piece


def read_frame(data: object) -> tuple[list[tuple[str, tuple[Any, ...]]], bytes]:
    """The events of a frame, and the bytes behind them.

    Raises:
        ValueError: it is none, or holds what no node may say.
    """
    if not isinstance(data, bytes):
        raise ValueError("a node sent no bytes")
    line, _, piece = data.partition(b"\n")
    try:
        raw = json.loads(line)
    except RecursionError:
        raise ValueError("a node sent no events") from None
    if not isinstance(raw, list) or not all(isinstance(event, list) and event for event in raw):
        raise ValueError("a node sent no events")
    events = []
    for kind, *values in raw:
        shape = SHAPES.get(kind) if isinstance(kind, str) else None
        if shape is None or len(shape) != len(values) or not all(map(isinstance, values, shape)):
            raise ValueError(f"a node sent an event {str(kind)[:20]!r} of no known form")
        if kind == "piece" and not (values[0] in ("kept", "brought") and is_file_name(values[1])):
            raise ValueError(f"a node sent a file called {values[1][:100]!r}")
        events.append((kind, tuple(printable_text(value) if isinstance(value, str) else value for value in values)))
    return events, piece


def printable_text(text: str) -> str:
    """The end of ``text``, without what steers a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[-LONGEST:])


def packed_folder(folder: Path) -> bytes:
    """All files of ``folder``, as `_place` takes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), WHEN), path.read_bytes())
    return buffer.getvalue()


# --- on the node -----------------------------------------------------------------------------------------------------


def run_there(assignment: str, references: Sequence[Any]) -> Iterator[bytes]:
    """Run the job of ``assignment`` in a process here; yields frames, at last one that says how it ended.

    ``references`` are those of the parcels' bytes, which are fetched when they are needed.
    """
    try:
        yield from _run(Assignment.from_json(assignment), references)
    except Exception as error:  # of the node, not of the job: its disk is full, say
        yield _frame([["lost", f"{platform.node()} could not run it ({type(error).__name__}: {error})"]])


def _run(assignment: Assignment, references: Sequence[Any]) -> Iterator[bytes]:
    missing, others = _differences(assignment.versions)
    if missing:
        yield _frame([["unfit", f"{platform.node()} lacks {', '.join(missing)}"]])
        return
    base = _base()
    base.mkdir(parents=True, exist_ok=True)
    sweep(base)
    work = temporary_folder(base)
    processes, job = _processes(), Job(assignment.kind, _Threads(assignment.threads), assignment.key)
    try:
        places = _unpack(assignment, references, work)
        message = {
            "kind": assignment.kind,
            "spec": _with_places(assignment.spec, places),
            "out": str(work),
            "plugins": [str(TRAVELLED_IN / plugin) for plugin in assignment.plugins],
            "force": assignment.force,
        }
        processes.start(job, json.dumps(message))
        yield from _follow(processes, work / assignment.home, others)
    finally:
        processes.stop(job)  # where the node's worker was told to stop in the midst of it
        processes.close()
        shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True)
class _Threads:
    """As much of a spec as a process is started by."""

    threads: int
    name: str = ""
    alike: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    budget: str = ""
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {}


@functools.cache
def _base() -> Path:
    """The folder of this node for cells of clusters. In it is the cache that their processes use."""
    base = cache_root().absolute() / "cluster"
    os.environ["SEQBENCH_CACHE"] = str(base / "cache")
    return base


@functools.cache
def _processes() -> LocalProcesses:
    """One at a time, from a nursery that lasts as long as the node's worker does."""
    return LocalProcesses(1, many=True, lasting=True)


@functools.cache
def _told() -> set[str]:
    """What this worker has said already."""
    return set()


def _differences(versions: Mapping[str, str | None]) -> tuple[list[str], str]:
    """Packages that are missing here, and a line on those that are here in other versions; said once."""
    here = {name: package_version(name) for name in versions}
    missing = [name for name, version in here.items() if version is None]
    others = [
        f"{name} {here[name]} for {version}"
        for name, version in versions.items()
        if version and (here[name] or "").partition("+")[0] != version.partition("+")[0]
    ]
    line = f"{platform.node()} has {', '.join(others)}: its last digits may differ" if others else ""
    if line in _told():
        return missing, ""
    _told().add(line)
    return missing, line


def _with_places(spec: Any, places: Mapping[tuple[str, str], str]) -> Any:
    """``spec`` with the places that the user's own files have here, however deep in it they are named."""
    if isinstance(spec, Mapping):
        return {
            name: places[name, value]
            if isinstance(value, str) and (name, value) in places
            else _with_places(value, places)
            for name, value in spec.items()
        }
    return spec


def _unpack(assignment: Assignment, references: Sequence[Any], work: Path) -> dict[tuple[str, str], str]:
    """Put parcels into their places; returns those of the user's own files, by field and the path that it names."""
    import ray

    places = {}
    for parcel, reference in zip(assignment.parcels, references, strict=True):

        def fetch(reference: Any = reference) -> bytes:
            return bytes(ray.get(reference))

        if parcel.kind == "cached":
            _place(parcel, fetch)
        elif parcel.kind == "file":
            path = _base() / "files" / parcel.sha256 / parcel.name
            _write(path, fetch)
            places[parcel.field, parcel.path] = str(path)
        else:
            _write(work / assignment.home / parcel.name, fetch)
    return places


def _write(path: Path, fetch: Callable[[], bytes]) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(fetch()))


def _place(parcel: Parcel, fetch: Callable[[], bytes]) -> None:
    """Bring a folder of the cache to what it was where the parcel was packed, unless that was done before.

    One from another machine, of the same name and not quite the same, makes way.
    """
    folder, mark = cache_root() / parcel.name, _base() / "has" / parcel.name / parcel.sha256
    if folder.is_dir() and mark.is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    new, old = temporary_folder(folder.parent), temporary_folder(folder.parent)
    try:
        with zipfile.ZipFile(io.BytesIO(fetch())) as archive:
            archive.extractall(new)
        if folder.is_dir() and mark.is_file():  # another worker of this node was faster
            return
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if error.errno not in OCCUPIED:  # else another worker was, this very moment
            raise
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(mark.parent, ignore_errors=True)
    _write(mark, bytes)


def _follow(processes: LocalProcesses, home: Path, line: str) -> Iterator[bytes]:
    """Frames of what the process says and keeps, and at last of what it has left."""
    said: list[list[Any]] = []
    last: list[list[Any]] = [["say", line]] if line else []
    unsaved, due, kept = "", 0.0, _Kept(home)
    while not last or last[-1][0] != "ended":
        event = processes.wait(SAID)
        if event is not None:
            unsaved = event.values[0] if event.kind == "unsaved" else unsaved
            _add(event, last if event.kind == "ended" else said)
        if said and time.monotonic() >= due:
            yield _frame(said)
            said, due = [], time.monotonic() + SAID
        yield from kept.frames()
    if unsaved:  # by this node's disk, not by that of the store
        last = [["lost", f"{platform.node()} could not write: {unsaved}"]]
    elif (run := _newest(home)) is not None:
        yield from _pieces("brought", [path for path in sorted(run.iterdir()) if path.is_file()])
    yield _frame([*said, *last])


def _add(event: Event, said: list[list[Any]]) -> None:
    """Of many steps in a row only the last is worth sending."""
    if event.kind not in SHAPES:
        return
    if event.kind == "step" and said and said[-1][0] == "step":
        said.pop()
    said.append([event.kind, *event.values])


def _newest(home: Path) -> Path | None:
    runs = Store.runs(home)
    return runs[-1] if runs and (runs[-1] / RECORD).is_file() else None


def _pieces(where: str, paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            at, content = 0, None
            while content is None or len(content) == PIECE:
                content = file.read(PIECE)
                yield _frame([["piece", where, path.name, at]], content)
                at += len(content)
    yield _frame([[where]])


class _Kept:
    """What a process leaves beside its runs in ``home`` to be gone on from, sent whenever it has changed; not so often
    that sending it takes more than a hundredth of the time.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.due = home, 0.0
        self.sent: dict[str, tuple[int, int]] = self._now()

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        with contextlib.suppress(OSError):
            for path in self.home.iterdir():
                if path.is_file() and is_file_name(path.name):
                    about = path.stat()
                    found[path.name] = about.st_mtime_ns, about.st_size
        return found

    def frames(self) -> Iterator[bytes]:
        """Frames with the files that have changed, if it is time for it."""
        begun = time.monotonic()
        if begun < self.due:
            return
        now = self._now()
        changed = [self.home / name for name in now if self.sent.get(name) != now[name]]
        if changed:
            try:
                yield from _pieces("kept", changed)
            except FileNotFoundError:  # the run has ended, and nobody will go on from it
                return
        self.sent = now
        least, times = KEPT
        self.due = begun + max(least, times * (time.monotonic() - begun)) if changed else begun + SAID

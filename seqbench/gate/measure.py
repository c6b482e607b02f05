"""Measure two revisions of a repository beside each other: installed apart, benchmarks in turns, one machine.

Each benchmark runs in processes of its own: base, head, head, base, base, head ... so that what disturbs the machine
for a while disturbs both alike. Where eight on each side leave it open, or say that it is slower, more are measured.
Both are measured by the benchmarks of the head, as by one ruler: these are put in the place of the base's own, so that
each side finds its own code. What only the base's own benchmarks have is named.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.gate.revisions import SHOWN, Installed, Order, Say
from seqbench.gate.timings import Timings, read_file, read_side
from seqbench.gate.verdict import Change, compare_times, is_skipped, look_alike, ordered, renamed
from seqbench.report.text import counted, short

__all__ = ["MOST", "measure_times", "run_grid_of"]

MOST = 24  # processes on each side, usually at most
PATIENCE = 600.0  # seconds after which one process is given up
START = 300.0  # seconds for a worker to collect its benchmarks
TRAINING = 3600.0  # seconds after which the grid of one side is given up


# --- a worker --------------------------------------------------------------------------------------------------------


class _Gone(Exception):
    """A worker has ended that nobody told to."""


class _Worker:
    """The process of one side that has collected the benchmarks; a context. It starts at once, and `wait` waits."""

    def __init__(self, side: Installed, folder: Path, order: Order, foreign: Sequence[Path], log: IO[bytes]) -> None:
        self.side = side
        self.nodes: list[str] = []
        self.errors: dict[str, str] = {}
        self._work = Path(tempfile.mkdtemp(dir=side.tree.parent))
        self._log = log
        self._heard = b""
        self._child = 0  # the process that measures, while there is one
        self._begin = functools.partial(_start, side, folder, order, foreign, self._work, log)
        self._process, self._requests, self._answers = self._begin()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self) -> None:
        """Until it has collected; several that were started at once do so side by side.

        Raises:
            UserError: pytest could not, whatever the reason, or it found code that is not this side's.
        """
        self._heard = b""
        ready = self._hear(START)
        if ready is None:
            raise UserError(f"pytest could not collect the benchmarks of the {self._name}: {_tail(self._log)}")
        if ready["foreign"]:
            raise UserError(
                f"the {self._name} would measure {short(ready['foreign'], SHOWN)}, which is not its own: install the "
                "project that the benchmarks import from the repository itself, or put its pyproject.toml at the root."
            )
        self.nodes, self.errors = ready["nodes"], ready["errors"]
        self._forks = ready["forks"]
        self._fresh = True

    @property
    def _name(self) -> str:
        return self.side.tree.parent.name

    def _close(self) -> None:
        if self._child:
            _kill_group(self._child)
            self._child = 0
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            _kill_group(self._process.pid)
            self._process.wait()
        os.close(self._answers)

    def restart(self) -> None:
        """Start it afresh; `wait` waits."""
        self._close()
        self._process, self._requests, self._answers = self._begin()

    def _again(self) -> None:
        self.restart()
        self.wait()

    def measure(self, node: str) -> tuple[dict[str, Any] | None, str]:
        """What pytest-benchmark writes of one benchmark in a process of its own, and why it failed, if it did.

        Raises:
            UserError: its worker ended twice, as where there is too little memory.
        """
        try:
            return self._measured(node)
        except _Gone:
            self._again()
        try:
            return self._measured(node)
        except _Gone:
            raise UserError(f"the {self._name}'s pytest ended twice at {node}: is there enough memory?") from None

    def _measured(self, node: str) -> tuple[dict[str, Any] | None, str]:
        if not self._fresh and not self._forks:
            self._again()
        self._fresh = False
        result, status = self._work / "result.json", self._work / "status.json"
        for file in (result, status):
            file.unlink(missing_ok=True)
        asked = {"nodes": [node], "json": str(result), "status": str(status)}
        try:
            print(json.dumps(asked), file=self._requests, flush=True)
        except OSError:
            raise _Gone from None
        ended = self._forked_ended() if self._forks else self._itself_ended()
        if not status.is_file():
            return None, ended
        errors = json.loads(status.read_text(encoding="utf-8"))
        if errors:
            return None, next(iter(errors.values()))
        try:
            read_file(result)
        except UserError as error:
            return None, str(error).replace(str(result), "its result")
        raw: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return (raw, "") if raw["benchmarks"] else (None, "it measured nothing")

    def _forked_ended(self) -> str:
        born = self._hear(PATIENCE)
        if born is None:
            raise _Gone
        self._child = born["born"]
        ended = self._hear(PATIENCE)
        _kill_group(self._child)  # and what it may have left behind
        self._child = 0
        if ended is None:
            if self._hear(10) is None:
                raise _Gone
            return f"it took more than {PATIENCE:.0f} s"
        return _ending(ended["ended"])

    def _itself_ended(self) -> str:
        try:
            return _ending(self._process.wait(PATIENCE))
        except subprocess.TimeoutExpired:
            _kill_group(self._process.pid)
            return f"it took more than {PATIENCE:.0f} s"

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None where none comes."""
        until = time.monotonic() + seconds
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._answers, 1 << 16) if ready else b""
            if not part:
                return None
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _start(
    side: Installed, folder: Path, order: Order, foreign: Sequence[Path], work: Path, log: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[str], int]:
    """pytest with the worker's plug-in, where requests go, and the descriptor that answers come from."""
    from seqbench.gate import worker  # imports pytest, which is not there everywhere

    ours, theirs = os.pipe(), os.pipe()  # answers, requests
    plugins = work / "plugin"
    plugins.mkdir(exist_ok=True)
    shutil.copy(worker.__file__, plugins / "seqbench_gate_worker.py")
    words = ["-p", "seqbench_gate_worker", "-p", "no:cacheprovider", "--benchmark-only", "--benchmark-disable-gc"]
    words += ["--continue-on-collection-errors", f"--benchmark-json={work / 'unused.json'}", "-q", "-o", "addopts="]
    words += [f"--basetemp={work / 'tmp'}", f"--rootdir={folder}", f"--confcutdir={folder}", str(folder)]
    if order.benchmarks is None:  # what surrounds an installed package is no configuration
        (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        words += ["-c", str(work / "pytest.ini")]
    environment = replace(side, path=(*side.path, plugins)).environment(
        **{worker.PIPES: f"{theirs[0]},{ours[1]}", worker.FOREIGN: os.pathsep.join(map(str, foreign))},
        SEQBENCH_BENCH_MODELS=",".join(order.models),
        SEQBENCH_BENCH_PLUGINS=str(side.tree / order.plugin) if order.plugin else "",
        SEQBENCH_GATE="1",
        PYTORCH_NVML_BASED_CUDA_CHECK="1",  # that there is a GPU can be told without using it, which no fork survives
    )
    process = subprocess.Popen(
        [str(side.python), "-P", "-m", "pytest", *words],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(theirs[0], ours[1]),
        start_new_session=True,
    )
    os.close(theirs[0])
    os.close(ours[1])
    return process, os.fdopen(theirs[1], "w", encoding="utf-8"), ours[0]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"


def _tail(log: IO[bytes]) -> str:
    """The last lines that pytest wrote."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return short(" ".join(lines[-3:]), SHOWN) or "it said nothing"


# --- times -----------------------------------------------------------------------------------------------------------


def measure_times(
    repository: Path, sides: tuple[Installed, Installed], order: Order, out: Path, say: Say
) -> list[Change]:
    """Every benchmark on both sides, compared; the files of pytest-benchmark are in ``out``/base and ``out``/head.

    Raises:
        UserError: benchmarks can't be collected, or a side would not run its own code.
    """
    lacks = [name for name in ("pytest", "pytest_benchmark") if find_spec(name) is None]
    if lacks and any(side.python == Path(sys.executable) for side in sides):
        raise UserError("regress run needs pytest and pytest-benchmark: pip install 'seqbench[gate]'.")
    own, folders = _benchmarks(repository, sides, order, out, say)
    foreign = [_foreign(repository, sides, i) for i in (0, 1)]
    with contextlib.ExitStack() as stack:
        workers = []
        for i, side in enumerate(sides):
            log = stack.enter_context((out / f"{side.tree.parent.name}.log").open("w+b"))
            workers.append(stack.enter_context(_Worker(side, folders[i], order, foreign[i], log)))
        for each in workers:
            each.wait()
        run = _Run(workers, order, out, say)
        run.all()
    changes = run.changes(own)
    if not any(change.before is not None and change.after is not None for change in changes):
        changes.append(Change("time", "all benchmarks", "", verdict="not told", note="none ran on both sides"))
    return changes


def _benchmarks(
    repository: Path, sides: tuple[Installed, Installed], order: Order, out: Path, say: Say
) -> tuple[set[str] | None, list[Path]]:
    """The names of the base's own benchmarks, None where these are the head's; and the folders that measure.

    The head's benchmarks take the place of the base's.
    """
    if order.benchmarks is None:
        return None, [_own_benchmarks()] * 2
    base, head = (side.tree / order.benchmarks for side in sides)
    names: set[str] | None = set()
    if base.is_dir() and _same_files(base, head):
        names = None
    elif base.is_dir():
        names = _names_of(sides[0], base, order, _foreign(repository, sides, 0), out, say)
        shutil.rmtree(base)
    if names is not None:
        shutil.copytree(head, base, symlinks=True)
    return names, [base, head]


def _foreign(repository: Path, sides: Sequence[Installed], side: int) -> list[Path]:
    """Folders whose code one side must not import: the other side's, and the repository itself."""
    others = [sides[1 - side].tree.parent]
    if not others[0].is_relative_to(repository.resolve()):  # as where temporary files are kept in it
        others.append(repository.resolve())
    return others


def _own_benchmarks() -> Path:
    """Those that come with seqbench: in a wheel beside its modules, in a checkout among its tests."""
    package = Path(__file__).resolve().parents[1]
    return next((f for f in (package / "benchmarks", package.parent / "tests" / "benchmarks") if f.is_dir()), package)


def _names_of(side: Installed, folder: Path, order: Order, foreign: Sequence[Path], out: Path, say: Say) -> set[str]:
    """What benchmarks the base has of its own; none where they can't be collected any more, which is said."""
    try:
        with (out / "base-own.log").open("w+b") as log, _Worker(side, folder, order, foreign, log) as found:
            found.wait()
            return set(_chosen(found.nodes, order))
    except UserError as error:
        say(f"what the base's own benchmarks are called is not known: {error}")
        return set()


def _same_files(first: Path, second: Path) -> bool:
    """Whether both folders hold the same files."""
    files = [{file.relative_to(one).as_posix() for file in one.rglob("*") if file.is_file()} for one in (first, second)]
    names = [sorted(name for name in each if "__pycache__" not in name) for each in files]
    return names[0] == names[1] and not any(filecmp.cmpfiles(first, second, names[0], shallow=False)[1:])


def _chosen(nodes: Sequence[str], order: Order) -> list[str]:
    return [node for node in nodes if not order.only or any(part in node for part in order.only)]


class _Run:
    """Benchmarks in turns, as many processes as it takes."""

    def __init__(self, workers: Sequence[_Worker], order: Order, out: Path, say: Say) -> None:
        self._workers = workers
        self._order = order
        self._say = say
        self._folders = [out / "base", out / "head"]
        self._files: list[dict[int, dict[str, Any]]] = [{}, {}]  # of each side, by the number of the process
        self._counts: dict[str, int] = {}
        self._lasted: dict[str, float] = {}  # seconds that a benchmark's turns took
        self._failures: tuple[dict[str, str], dict[str, str]] = (dict(workers[0].errors), dict(workers[1].errors))
        self._nodes = _chosen(list(dict.fromkeys([*workers[1].nodes, *workers[0].nodes])), order)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        if not self._nodes and not any(self._failures):
            raise UserError("no benchmark fits: see what there is with pytest --collect-only.")

    def all(self) -> None:
        """Some of every benchmark, then more of those that are still open."""
        for at, node in enumerate(self._nodes, 1):
            self._turns(node)
            self._say(f"{at}/{len(self._nodes)} {self._told(node)} ({self._lasted[node]:.0f} s)")
        while again := [node for node in self._open() if self._has_time(node)]:
            # what is forked shares the layout of memory, which can make a side faster by luck: others get another one
            for each in self._workers:
                each.restart()
            for each in self._workers:
                each.wait()
            for node in filter(self._has_time, again):
                self._turns(node)
                self._say(f"again {self._told(node)}")
        if left := self._open():
            self._say(f"the time is over: {counted(len(left), 'benchmark')} not measured again")

    def _has_time(self, node: str) -> bool:
        """Whether its turns would be over in time."""
        return time.monotonic() + self._lasted[node] < self._order.until

    def changes(self, own: set[str] | None) -> list[Change]:
        """All of them, compared; ``own`` are the names of the base's own benchmarks, None where they are the head's."""
        nodes = [set(_chosen(each.nodes, self._order)) for each in self._workers]
        had = nodes[0] if own is None else own
        sides = self._sides()
        new = {name: sample for name, sample in sides[1].samples.items() if name not in had}
        called = renamed(had - set(self._nodes), new)
        failures = (self._failures[0] if own is None else self._of_the_base(own), self._failures[1])
        changes = []
        for change in compare_times(*sides, self._order.limits, failures):
            if change.verdict == "new" and change.name in self._failures[0] and change.name in had:
                change = replace(change, verdict="not told")  # the base has it, and yet it has no figures
            if change.name in called and change.verdict not in ("new", "failed"):
                change = replace(change, note=", ".join(filter(None, (f"was {called[change.name]}", change.note))))
            changes.append(change)
        gone = (had - set(self._nodes) - set(called.values())) | (nodes[0] - nodes[1]) & set(self._nodes)
        gone -= sides[0].samples.keys()  # these have been compared
        changes = [change for change in changes if change.verdict != "missing" or not self._broken(change.name)]
        gone = {name for name in gone if not self._broken(name)}
        hints = {name: look_alike(name, list(new)) for name in sorted(gone)}
        return changes + [
            Change("time", name, "", verdict="missing", note=hint or "the head does not have it")
            for name, hint in hints.items()
        ]

    def _broken(self, name: str) -> bool:
        """Whether its whole file can't be collected in the head, which is said once."""
        return name.partition("::")[0] in self._failures[1]

    def _of_the_base(self, own: set[str]) -> dict[str, str]:
        """What failed in the base, without what the head's benchmarks, which run there, broke or skip themselves."""
        base, head = self._failures
        broken = {name for name, why in head.items() if name in base and (name in own or not is_skipped(why))}
        return {name: why for name, why in base.items() if name not in broken}

    def _sides(self) -> tuple[Timings, Timings]:
        base, head = (read_side(folder) for folder in self._folders)
        return base, head

    def _open(self) -> list[str]:
        """Benchmarks of which more processes may change the verdict: too noisy, or said to be slower; these first.

        What looks slower, but not surely so, gets twice as many: on a busy machine it takes them to be sure.
        """
        most: dict[str, int] = {}  # in the order of the ratios, worst first
        for change in ordered(compare_times(*self._sides(), self._order.limits)):
            if change.verdict in ("open", "slower", "more memory"):
                unsure = change.verdict == "open" and change.ratio >= self._order.limits.factor
                most[change.name] = max(most.get(change.name, 0), 2 * MOST if unsure else MOST, self._order.processes)
        more = self._order.processes
        return [node for node in most if node in self._counts and self._counts[node] + more <= most[node]]

    def _turns(self, node: str) -> None:
        """base, head, head, base ...: as many of each as the order says, if the head does not fail."""
        done, started = self._counts.get(node, 0), time.monotonic()
        for number in range(done, done + self._order.processes):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                if node in self._failures[side] or node in self._failures[1] or node not in self._workers[side].nodes:
                    continue  # what fails in the head needs no times
                raw, why = self._workers[side].measure(node)
                if raw is None:
                    self._failures[side][node] = short(why, SHOWN)
                else:
                    self._keep(side, number, raw)
        self._counts[node] = done + self._order.processes
        self._lasted[node] = time.monotonic() - started

    def _keep(self, side: int, number: int, raw: dict[str, Any]) -> None:
        """Put what one process measured beside what others of the same number did."""
        whole = self._files[side].setdefault(number, raw)
        if whole is not raw:
            whole["benchmarks"] += raw["benchmarks"]
        text = json.dumps(whole, indent=1, allow_nan=False)
        replace_file(self._folders[side] / f"process-{number + 1:02d}.json", lambda file: file.write(text.encode()))

    def _told(self, node: str) -> str:
        """How it stands."""
        for side, name in ((1, "head"), (0, "base")):
            if node in self._failures[side]:
                return f"{short(node, SHOWN)}: fails in the {name}: {self._failures[side][node]}"
        kept = [Timings({node: side.samples[node]}) for side in self._sides() if node in side.samples]
        if len(kept) < 2:
            return f"{short(node, SHOWN)}: only one side has it"
        change = compare_times(kept[0], kept[1], self._order.limits)[0]
        return f"{short(node, SHOWN)}: {change.verdict}, ratio {change.ratio:.3f}"


# --- quality ---------------------------------------------------------------------------------------------------------


def run_grid_of(
    sides: Sequence[Installed], order: Order, words: Sequence[str], outs: Sequence[Path], jobs: int = 1
) -> list[str]:
    """Train a grid with the seqbench of each of ``sides``: ``words`` are options of `run`; records go to ``outs``.

    Each prepares its data anew, in a cache of its own: a shared one would hide a change in how data is read. Where
    there are ``jobs`` enough both train at once, each with its share of these: no clock is read, and what takes one
    core, such as the baselines, both do at once. What went wrong on each side is returned.
    """
    at_once = len(sides) if jobs >= len(sides) else 1
    words = [*words, "--device", "cpu", "--jobs", str(max(1, jobs // at_once))]
    wrong = []
    for first in range(0, len(sides), at_once):
        with contextlib.ExitStack() as stack:
            pairs = list(zip(sides, outs, strict=True))[first : first + at_once]
            started = [stack.enter_context(_Training(side, order, words, out)) for side, out in pairs]
            wrong += [training.wrong() for training in started]
    return wrong


class _Training:
    """The process that trains the grid of one side; a context, at whose end it is no more."""

    def __init__(self, side: Installed, order: Order, words: Sequence[str], out: Path) -> None:
        command = [str(side.python), "-P", "-m", "seqbench", "run", *words, "--out", str(out)]
        if order.plugin is not None:
            command += ["--plugin", str(side.tree / order.plugin)]
        room = side.tree.parent
        self._out = out
        self._log = (room / "training.log").open("w+b")
        self._process = subprocess.Popen(
            command,
            cwd=room,
            env=side.environment(SEQBENCH_CACHE=str(room / "cache")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> _Training:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # it ends its own processes, which have groups of their own
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        _kill_group(self._process.pid)
        self._process.wait()
        self._log.close()

    def wrong(self) -> str:
        """Waits for its end. What went wrong, in a sentence; cells that failed have left records that say so."""
        try:
            code = self._process.wait(TRAINING)
        except subprocess.TimeoutExpired:
            return f"it took more than {TRAINING:.0f} s"
        if code in (0, 1) and any(self._out.rglob("record.json")):
            return ""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        last = [line for line in lines if line.strip()][-1:]
        return short(" ".join(last), SHOWN) or _ending(code)

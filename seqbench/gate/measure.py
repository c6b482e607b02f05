"""Measure two revisions of a repository beside each other: installed apart, benchmarks in turns, one machine.

Each benchmark runs in processes of its own: base, head, head, base, base, head ... so that what disturbs the machine
for a while disturbs both alike. Where eight on each side leave it open, or say that it is slower, more are measured.
Both are measured by the benchmarks of the head, as by one ruler; what only the base's own benchmarks have is named.
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
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.gate import worker
from seqbench.gate.page import Revision
from seqbench.gate.timings import Side, parse_json, read_side
from seqbench.gate.verdict import Accepted, Change, Limits, compare_times

__all__ = ["Places", "Plan", "accepted_in", "measure_times", "places", "revisions", "run_grid_of", "workroom"]

ROUND, MOST = 8, 24  # processes on each side at first, and at most
PATIENCE = 600.0  # seconds after which one process is given up
START = 300.0  # seconds for a worker to collect its benchmarks
TRAILER = "Regress-Accepted"
TOOLS = ("pytest", "pytest-benchmark")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        benchmarks: their folder, relative to the repository; None: those that come with seqbench.
        models, plugin: the models to measure by these, and the user's file (relative to the repository) that has them.
        only: parts of names of the benchmarks to run; empty: all.
        processes: on each side, at first.
    """

    benchmarks: Path | None
    models: tuple[str, ...] = ()
    plugin: Path | None = None
    only: tuple[str, ...] = ()
    processes: int = ROUND
    limits: Limits = field(default_factory=Limits)


# --- revisions -------------------------------------------------------------------------------------------------------


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {words[0]}: {' '.join(done.stderr.split()) or 'failed'}.")
    return done.stdout.strip()


def revisions(repository: Path, base: str, head: str | None) -> tuple[Revision, Revision]:
    """Both sides; ``head`` None is the working tree as it is.

    The base is where the head's branch left it: what was done there since is not the head's doing.

    Raises:
        UserError: one of them is no commit of ``repository``.
    """
    commits = [_commit(repository, name) for name in (base, head or "HEAD")]
    fork = _git(repository, "merge-base", *commits) if _related(repository, *commits) else commits[0]
    old, new = commits[0] if fork == commits[1] else fork, commits[1]
    name = base if old == commits[0] else f"where the head left {base}"
    changed = head is None and bool(_git(repository, "status", "--porcelain"))
    times = [_git(repository, "show", "-s", "--format=%cI", commit) for commit in (old, new)]
    return Revision(name, old, times[0]), Revision(head or "working tree", new, times[1], changed)


def _commit(repository: Path, name: str) -> str:
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except UserError:
        raise UserError(
            f"{name!r} is no commit of this repository: give a branch, a tag or a hash (CI must fetch all history)."
        ) from None


def _related(repository: Path, *commits: str) -> bool:
    return subprocess.run(["git", "-C", str(repository), "merge-base", *commits], capture_output=True).returncode == 0


def accepted_in(repository: Path, base: Revision, head: Revision) -> list[Accepted]:
    """What the commits between both say is wanted, each in a line ``Regress-Accepted: PATTERN up to X: reason``."""
    form = f"--format=%(trailers:key={TRAILER},valueonly,unfold)"
    lines = _git(repository, "log", form, f"{base.commit}..{head.commit}").splitlines()
    return [Accepted.parse(line) for line in lines if line.strip()]


# --- trees and packages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """One side on disk: its files, what stands on Python's path, and the Python that runs it."""

    tree: Path
    path: tuple[Path, ...]
    python: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for a process of this side."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SEQBENCH_BENCH"))}
        paths = os.pathsep.join(map(str, self.path))
        return {**kept, "PYTHONPATH": paths, "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1", **more}


def places(repository: Path, sides: Sequence[Revision], work: Path, say: Say) -> tuple[Places, Places]:
    """Write the files of both revisions below ``work`` and install what they hold, each beside the other.

    Raises:
        UserError: a revision can't be installed; the sentence has pip's last words.
    """
    trees = []
    for name, side in zip(("base", "head"), sides, strict=True):
        tree = work / name / "tree"
        tree.mkdir(parents=True)
        _export(repository, side, tree)
        trees.append(tree)
    pins = [_pins(tree) for tree in trees]
    apart = pins[0] != pins[1]
    if apart:
        say("the two sides need different packages: each gets an environment of its own")
    base, head = (_installed(tree, apart=apart, say=say) for tree in trees)
    return base, head


def _export(repository: Path, side: Revision, tree: Path) -> None:
    """The files of a commit, or of the working tree without what git ignores."""
    if side.name == "working tree":
        names = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in filter(None, names):
            source, target = repository / name, tree / name
            if source.is_file():  # not one that was deleted
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        return
    with tempfile.TemporaryFile() as packed:
        subprocess.run(["git", "-C", str(repository), "archive", str(side.commit)], stdout=packed, check=True)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(tree, filter="data")


def _pins(tree: Path) -> list[str]:
    """The packages that a revision needs: the lines of its lock file, or what pyproject.toml asks for."""
    lock, project = tree / "requirements.txt", tree / "pyproject.toml"
    if lock.is_file():
        lines = (line.partition(" #")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
        return sorted(line for line in lines if line and not line.startswith("#"))
    if project.is_file():
        try:
            about = tomllib.loads(project.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"pyproject.toml can't be read: {error}.") from None
        return sorted(about.get("project", {}).get("dependencies", []))
    return []


def _installed(tree: Path, *, apart: bool, say: Say) -> Places:
    """The side whose files are in ``tree``; a project is installed, other files are found where they are."""
    side, python = tree.parent.name, Path(sys.executable)
    if apart:
        say(f"{side}: installing its packages")
        python = _environment(tree)
    if not any((tree / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return Places(tree, (tree,), python)
    site = tree.parent / "site"
    say(f"{side}: installing")
    _pip(python, side, "--no-deps", "--target", str(site), str(tree))
    return Places(tree, (site,), python)


def _environment(tree: Path) -> Path:
    """A fresh environment with the packages that the revision in ``tree`` needs, and those that measure; its Python."""
    home = tree.parent / "env"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    lock, whole = tree / "requirements.txt", tree / "requirements-dev.txt"
    wanted = [("-r", str(file)) for file in (whole, lock) if file.is_file()][:1]
    _pip(python, tree.parent.name, *(wanted[0] if wanted else (str(tree),)), *TOOLS)
    return python


def _pip(python: Path, side: str, *words: str) -> None:
    """Raises `UserError` with pip's last words."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise UserError(f"the {side} can't be installed: {' '.join(last) or 'pip failed'}.")


# --- a worker --------------------------------------------------------------------------------------------------------


class _Worker:
    """The process of one side that has collected the benchmarks; a context."""

    def __init__(self, side: Places, folder: Path, plan: Plan, work: Path, log: IO[bytes]) -> None:
        self.nodes: list[str] = []
        self.errors: dict[str, str] = {}
        self._begin = functools.partial(_start, side, folder, plan, work, log)
        self._work = work
        self._log = log
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
            UserError: pytest could not, whatever the reason.
        """
        self._heard = b""
        ready = self._hear(START)
        if ready is None:
            raise UserError(f"pytest could not collect the benchmarks: {_tail(self._log)}")
        self.nodes, self.errors = ready["nodes"], ready["errors"]
        self.seqbench: str | None = ready["seqbench"]
        self._forks = ready["forks"]
        self._fresh = True

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            _kill_group(self._process.pid)
            self._process.wait()
        os.close(self._answers)

    def measure(self, node: str) -> tuple[dict[str, Any] | None, str]:
        """What pytest-benchmark writes of one benchmark in a process of its own, and why it failed, if it did."""
        if not self._fresh and not self._forks:
            self._close()
            self._process, self._requests, self._answers = self._begin()
            self.wait()
        self._fresh = False
        result, status = self._work / "result.json", self._work / "status.json"
        for file in (result, status):
            file.unlink(missing_ok=True)
        asked = {"nodes": [node], "json": str(result), "status": str(status)}
        try:
            print(json.dumps(asked), file=self._requests, flush=True)
        except OSError:
            return None, "its process has gone"
        ended = self._forked_ended() if self._forks else self._itself_ended()
        if not status.is_file():
            return None, ended
        errors = json.loads(status.read_text(encoding="utf-8"))
        if errors:
            return None, next(iter(errors.values()))
        raw = parse_json(result) if result.is_file() and result.stat().st_size else {}
        return (raw, "") if raw.get("benchmarks") else (None, "it measured nothing (was it skipped?)")

    def _forked_ended(self) -> str:
        born = self._hear(PATIENCE)
        if born is None:
            return "its process has gone"
        ended = self._hear(PATIENCE)
        if ended is None:
            _kill_group(born["born"])
            self._hear(10)
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
    side: Places, folder: Path, plan: Plan, work: Path, log: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[str], int]:
    """pytest with the worker's plug-in, where requests go, and the descriptor that answers come from."""
    ours, theirs = os.pipe(), os.pipe()  # answers, requests
    plugins = work / "plugin"
    plugins.mkdir(exist_ok=True)
    shutil.copy(worker.__file__, plugins / "seqbench_gate_worker.py")
    words = ["-p", "seqbench_gate_worker", "-p", "no:cacheprovider", "--benchmark-only", "--benchmark-disable-gc"]
    words += ["--continue-on-collection-errors", f"--benchmark-json={work / 'unused.json'}", "-q"]
    words += [f"--rootdir={folder}", f"--confcutdir={folder}", str(folder)]
    if plan.benchmarks is None:  # what surrounds an installed package is no configuration
        (work / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
        words += ["-c", str(work / "pytest.ini")]
    environment = Places(side.tree, (*side.path, plugins), side.python).environment(
        **{worker.PIPES: f"{theirs[0]},{ours[1]}"},
        SEQBENCH_BENCH_MODELS=",".join(plan.models),
        SEQBENCH_BENCH_PLUGINS=str(side.tree / plan.plugin) if plan.plugin else "",
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
    return " ".join(" ".join(lines[-3:]).split()) or "it said nothing"


# --- times -----------------------------------------------------------------------------------------------------------


def measure_times(sides: tuple[Places, Places], plan: Plan, out: Path, work: Path, say: Say) -> list[Change]:
    """Every benchmark on both sides, compared; the files of pytest-benchmark are in ``out``/base and ``out``/head.

    Raises:
        UserError: benchmarks can't be collected, or a side does not run its own revision of seqbench.
    """
    folder = _benchmarks(sides[1], plan)
    if any(side.python == Path(sys.executable) and find_spec("pytest_benchmark") is None for side in sides):
        raise UserError("regress run needs pytest and pytest-benchmark: pip install 'seqbench[gate]'.")
    with contextlib.ExitStack() as stack:
        workers = []
        for name, side in zip(("base", "head"), sides, strict=True):
            room = work / name / "work"
            room.mkdir(exist_ok=True)
            log = stack.enter_context((out / f"{name}.log").open("w+b"))
            workers.append(stack.enter_context(_Worker(side, folder, plan, room, log)))
        for found, side in zip(workers, sides, strict=True):
            found.wait()
            _check_origin(found, side)
        run = _Run(workers, plan, out, say)
        run.all()
    vanished = _only_in_base(sides, plan, folder, work, out) - set(run.nodes)
    return [
        *run.changes(),
        *(Change("time", node, "", verdict="missing", note="the base has it") for node in sorted(vanished)),
    ]


def _benchmarks(head: Places, plan: Plan) -> Path:
    """The folder with what measures."""
    folder = head.tree / plan.benchmarks if plan.benchmarks is not None else _own_benchmarks()
    if not folder.is_dir():
        raise UserError(f"there are no benchmarks in {plan.benchmarks}: name their folder with --benchmarks.")
    return folder


def _own_benchmarks() -> Path:
    """Those that come with seqbench: in a wheel beside its modules, in a checkout among its tests."""
    package = Path(__file__).resolve().parents[1]
    return next((f for f in (package / "benchmarks", package.parent / "tests" / "benchmarks") if f.is_dir()), package)


def _check_origin(found: _Worker, side: Places) -> None:
    """A side that measured the package of another would compare it with itself."""
    installed = [path / "seqbench" for path in side.path if (path / "seqbench").is_dir()]
    if installed and found.seqbench and not Path(found.seqbench).resolve().is_relative_to(installed[0].resolve()):
        raise UserError(
            f"{side.tree.parent.name} would measure {found.seqbench}, not its own revision: unset PYTHONPATH."
        )


def _only_in_base(sides: tuple[Places, Places], plan: Plan, folder: Path, work: Path, out: Path) -> set[str]:
    """What the base's own benchmarks are, where they differ from the head's."""
    if plan.benchmarks is None:
        return set()
    own = sides[0].tree / plan.benchmarks
    if not own.is_dir() or _same_files(own, folder):
        return set()
    room = work / "base" / "own"
    room.mkdir(exist_ok=True)
    with (out / "base.log").open("w+b") as log, _Worker(sides[0], own, plan, room, log) as found:
        found.wait()
        return set(_chosen(found.nodes, plan))


def _same_files(first: Path, second: Path) -> bool:
    """Whether both folders hold the same Python files."""
    names = [sorted(file.relative_to(one).as_posix() for file in one.rglob("*.py")) for one in (first, second)]
    return names[0] == names[1] and not any(filecmp.cmpfiles(first, second, names[0], shallow=False)[1:])


def _chosen(nodes: Sequence[str], plan: Plan) -> list[str]:
    return [node for node in nodes if not plan.only or any(part in node for part in plan.only)]


class _Run:
    """Benchmarks in turns, as many processes as it takes."""

    def __init__(self, workers: Sequence[_Worker], plan: Plan, out: Path, say: Say) -> None:
        self._workers = workers
        self._plan = plan
        self._say = say
        self._folders = [out / "base", out / "head"]
        self._files: list[dict[int, dict[str, Any]]] = [{}, {}]  # of each side, by the number of the process
        self._counts: dict[str, int] = {}
        self.failures: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.nodes = _chosen(list(dict.fromkeys([*workers[1].nodes, *workers[0].nodes])), plan)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        for found, failed in zip(workers, self.failures, strict=True):
            for place, why in found.errors.items():
                failed[place] = why
        if not self.nodes and not any(self.failures):
            raise UserError("no benchmark fits: see what there is with pytest --collect-only.")

    def all(self) -> None:
        """Some of every benchmark, then more of those that are still open."""
        for at, node in enumerate(self.nodes, 1):
            started = time.monotonic()
            self._turns(node)
            self._say(f"{at}/{len(self.nodes)} {node}: {self._told(node)} ({time.monotonic() - started:.0f} s)")
        while again := self._open():
            for node in again:
                self._turns(node)
                self._say(f"again {node}: {self._told(node)}")

    def changes(self) -> list[Change]:
        """All of them, compared."""
        base, head = self._sides()
        return compare_times(base, head, self._plan.limits, self.failures)

    def _sides(self) -> tuple[Side, Side]:
        base, head = (read_side(folder) for folder in self._folders)
        return base, head

    def _open(self) -> list[str]:
        """Benchmarks of which more processes may change the verdict: too noisy, or said to be slower."""
        wanted = {change.name for change in self.changes() if change.verdict in ("open", "slower", "more memory")}
        return [node for node in self.nodes if node in wanted and self._counts[node] + self._plan.processes <= MOST]

    def _turns(self, node: str) -> None:
        """base, head, head, base ...: as many of each as the plan says, if neither fails."""
        done = self._counts.get(node, 0)
        for number in range(done, done + self._plan.processes):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                if node in self.failures[side] or node in self.failures[1]:
                    continue  # what fails in the head needs no times
                if node not in self._workers[side].nodes:
                    self.failures[side][node] = "there is no such benchmark"
                    continue
                raw, why = self._workers[side].measure(node)
                if raw is None:
                    self.failures[side][node] = why
                else:
                    self._keep(side, number, raw)
        self._counts[node] = done + self._plan.processes

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
            if node in self.failures[side]:
                return f"fails in the {name}: {self.failures[side][node]}"
        base, head = self._sides()
        kept = [Side({node: side.samples[node]}, side.devices) for side in (base, head) if node in side.samples]
        if len(kept) < 2:
            return "no figures"
        change = compare_times(kept[0], kept[1], self._plan.limits)[0]
        return f"{change.verdict}, ratio {change.ratio:.3f}"


# --- quality ---------------------------------------------------------------------------------------------------------


def run_grid_of(side: Places, plan: Plan, tasks: str, models: str, seeds: int, out: Path, work: Path, jobs: int) -> str:
    """Train the small grid with one side's seqbench; records go to ``out``. What went wrong, or nothing.

    Each side prepares its data anew, in a cache of its own: a shared one would hide a change in how data is read.
    """
    words = ["run", "--task", tasks, "--model", models, "--seeds", str(seeds), "--budget", "smoke", "--device", "cpu"]
    words += ["--jobs", str(jobs), "--out", str(out)]
    if plan.plugin is not None:
        words += ["--plugin", str(side.tree / plan.plugin)]
    done = subprocess.run(
        [str(side.python), "-P", "-m", "seqbench", *words],
        cwd=work,
        env=side.environment(SEQBENCH_CACHE=str(work / side.tree.parent.name / "cache")),
        capture_output=True,
        text=True,
    )
    if done.returncode in (0, 1) and any(out.rglob("record.json")):
        return ""  # cells that failed have left records that say so
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    return " ".join(last) or f"exit code {done.returncode}"


@contextlib.contextmanager
def workroom() -> Iterator[Path]:
    """A temporary folder for trees and packages."""
    with tempfile.TemporaryDirectory(prefix="seqbench-regress-") as folder:
        yield Path(folder)

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
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from seqbench.disk import replace_file
from seqbench.environment import seqbench_version
from seqbench.errors import UserError
from seqbench.gate import worker
from seqbench.gate.page import Revision
from seqbench.gate.timings import Timings, read_file, read_side
from seqbench.gate.verdict import Accepted, Change, Limits, compare_times, is_skipped, look_alike, renamed
from seqbench.report.text import short

__all__ = [
    "Installed",
    "Order",
    "accepted_in",
    "install_both",
    "measure_times",
    "revisions",
    "run_grid_of",
    "workroom",
]  # fmt: skip

ROUND, MOST = 8, 24  # processes on each side at first, and usually at most
PATIENCE = 600.0  # seconds after which one process is given up
START = 300.0  # seconds for a worker to collect its benchmarks
TRAILER = "Regress-Accepted"
TOOLS = ("pytest>=8", "pytest-benchmark>=5.2")
PIP_SAYS = (
    r"\s*(note:|hint:|error: subprocess|\[end of output|[^\w\s\[(]+ )"  # around what matters, in boxes and arrows
)
TRAINING = 3600.0  # seconds after which the grid of one side is given up
SHOWN = 200  # characters of what a stranger's program said
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
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


def _git(repository: Path, *words: str, **variables: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, **variables},
    )
    if done.returncode:
        raise UserError(f"git {words[0]}: {short(done.stderr, SHOWN) or 'failed'}.")
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
    if fork == new != old:
        name += ", which is later than the head"
    elif not _related(repository, *commits):
        name += ", which has no history in common with the head (is this a shallow clone?)"
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


def accepted_in(repository: Path, base: Revision, head: Revision) -> tuple[list[Accepted], list[str]]:
    """What the commits between both say is wanted, each in a line ``Regress-Accepted: PATTERN up to X: reason``; and
    what is said of such lines that accept nothing.
    """
    form = f"--format=%x00%h%x00%(trailers:key={TRAILER},valueonly,unfold)"
    words = _git(repository, "log", form, f"{base.commit}..{head.commit}").split("\0")[1:]
    wanted, wrong = [], []
    for commit, text in zip(words[::2], words[1::2], strict=True):
        for line in filter(str.strip, text.splitlines()):
            try:
                wanted.append(Accepted.parse(line))
            except UserError as error:
                wrong.append(f"Commit {commit}: {error}")
    return wanted, wrong


# --- trees and packages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """One side on disk: its files, what stands on Python's path, and the Python that runs it."""

    tree: Path
    path: tuple[Path, ...]
    python: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for a process of this side."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SEQBENCH_BENCH"))}
        paths = os.pathsep.join(map(str, self.path))
        alone = {"PYTHONNOUSERSITE": "1"} if self.python != Path(sys.executable) else {}
        return {**kept, **alone, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}

    @property
    def is_seqbench(self) -> bool:
        """Whether the revision is one of seqbench itself."""
        return any((path / "seqbench" / "__init__.py").is_file() for path in (*self.path, self.tree))


def install_both(
    repository: Path, sides: Sequence[Revision], order: Order, work: Path, say: Say
) -> tuple[Installed, Installed]:
    """Write the files of both revisions below ``work`` and install what they hold, each beside the other.

    Raises:
        UserError: a revision lacks what is to be measured, or can't be installed; the sentence has pip's last words.
    """
    trees = []
    for name, side in zip(("base", "head"), sides, strict=True):
        tree = work / name / "tree"
        tree.mkdir(parents=True)
        _export(repository, side, tree)
        trees.append(tree)
    _check_files(trees, order)
    needs = [_needs(tree) for tree in trees]
    apart = needs[0] != needs[1]
    if apart:
        say("the two sides need different packages: each gets an environment of its own")
    base, head = (_installed(tree, apart=apart, say=say) for tree in trees)
    return base, head


def _check_files(trees: Sequence[Path], order: Order) -> None:
    """Before anything is installed."""
    if order.benchmarks is not None and order.processes:
        folder = trees[1] / order.benchmarks
        if folder.is_file():
            raise UserError(f"{order.benchmarks} is a file: name its folder, and the benchmark with --only.")
        if not folder.is_dir():
            raise UserError(f"there are no benchmarks in {order.benchmarks}: name their folder with --benchmarks.")
    for tree in trees:
        if order.plugin is not None and not (tree / order.plugin).is_file():
            raise UserError(f"the {tree.parent.name} has no {order.plugin}: there is nothing to compare.")


def _export(repository: Path, side: Revision, tree: Path) -> None:
    """The files of a commit, or of the working tree without what git ignores. Those of submodules are left out."""
    if side.name != "working tree":
        index = {"GIT_INDEX_FILE": str(tree.parent / "index")}  # not `git archive`, which may leave out tests
        _git(repository, "read-tree", str(side.commit), **index)
        _git(repository, "checkout-index", "--all", f"--prefix={tree}/", **index)
        return
    names = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        source, target = repository / name, tree / name
        if source.is_file() or source.is_symlink():  # neither deleted nor a submodule
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _pins(file: Path, above: tuple[Path, ...] = ()) -> list[str]:
    """The packages that a lock file asks for, with those of the files that it names; ``above`` are those it is named
    in.
    """
    if not file.is_file() or file in above:
        return []
    pins = []
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.partition(" #")[0].split()
        if len(words) == 2 and words[0] in ("-r", "-c", "--requirement", "--constraint"):
            pins += _pins((file.parent / words[1]).resolve(), (*above, file))
        elif words and not words[0].startswith("#"):
            pins.append(" ".join(words))
    return sorted(pins)


def _project(tree: Path) -> dict[str, Any]:
    """What pyproject.toml says; nothing where there is none."""
    file = tree / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"the {tree.parent.name}'s pyproject.toml can't be read: {error}.") from None


def _needs(tree: Path) -> list[str]:
    """The packages that a revision needs: the lines of its lock file, or what pyproject.toml asks for."""
    return _pins((tree / "requirements.txt").resolve()) or sorted(
        _project(tree).get("project", {}).get("dependencies", [])
    )


def _installed(tree: Path, *, apart: bool, say: Say) -> Installed:
    """The side whose files are in ``tree``; a project is installed, other files are found where they are."""
    side, python = tree.parent.name, Path(sys.executable)
    if apart:
        say(f"{side}: installing its packages")
        python = _environment(tree)
    project = _project(tree)
    if not ({"project", "build-system"} & project.keys() or (tree / "setup.py").is_file()):
        return Installed(tree, (tree,), python)  # a pyproject.toml may configure tools only
    site = tree.parent / "site"
    say(f"{side}: installing")
    _pip(python, tree, "--no-deps", "--target", str(site), str(tree))
    return Installed(tree, (site,), python)


def _environment(tree: Path) -> Path:
    """A fresh environment with the packages that the revision in ``tree`` needs, and those that measure; its Python."""
    home = tree.parent / "env"
    done = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"no environment could be made: {short(done.stdout + done.stderr, SHOWN)}.")
    python = home / "bin" / "python"
    files = [name for name in ("requirements-dev.txt", "requirements.txt") if (tree / name).is_file()][:1]
    own = _project(tree).get("project", {}).get("name") == "seqbench"
    _pip(python, tree, *(("-r", *files) if files else (str(tree),)), *TOOLS, *(() if own else (_this_seqbench(),)))
    return python


def _this_seqbench() -> str:
    """What pip is to install to have the seqbench that runs here."""
    checkout = Path(__file__).resolve().parents[2]
    return str(checkout) if (checkout / "pyproject.toml").is_file() else f"seqbench=={seqbench_version()}"


def _pip(python: Path, tree: Path, *words: str) -> None:
    """Raises `UserError` with the line of pip that says what is wrong."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    # there is no history to take a version from; what pip leaves behind when it is killed goes away with the rest
    variables = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": "0", "TMPDIR": str(tree.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=variables)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not re.match(PIP_SAYS, line)]
        raise UserError(
            f"the {tree.parent.name} can't be installed: {short(' '.join(lines[-3:]), SHOWN) or 'pip failed'}"
        )


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
    if any(side.python == Path(sys.executable) and find_spec("pytest_benchmark") is None for side in sides):
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
        self._failures: tuple[dict[str, str], dict[str, str]] = (dict(workers[0].errors), dict(workers[1].errors))
        self._nodes = _chosen(list(dict.fromkeys([*workers[1].nodes, *workers[0].nodes])), order)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        if not self._nodes and not any(self._failures):
            raise UserError("no benchmark fits: see what there is with pytest --collect-only.")

    def all(self) -> None:
        """Some of every benchmark, then more of those that are still open."""
        for at, node in enumerate(self._nodes, 1):
            started = time.monotonic()
            self._turns(node)
            self._say(f"{at}/{len(self._nodes)} {self._told(node)} ({time.monotonic() - started:.0f} s)")
        while again := self._open():
            # what is forked shares the layout of memory, which can make a side faster by luck: others get another one
            for each in self._workers:
                each.restart()
            for each in self._workers:
                each.wait()
            for node in again:
                self._turns(node)
                self._say(f"again {self._told(node)}")

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
        """Benchmarks of which more processes may change the verdict: too noisy, or said to be slower.

        What looks slower, but not surely so, gets twice as many: on a busy machine it takes them to be sure.
        """
        most: dict[str, int] = {}
        for change in compare_times(*self._sides(), self._order.limits):
            if change.verdict in ("open", "slower", "more memory"):
                unsure = change.verdict == "open" and change.ratio >= self._order.limits.factor
                most[change.name] = max(most.get(change.name, 0), 2 * MOST if unsure else MOST, self._order.processes)
        more = self._order.processes
        return [node for node in self._nodes if node in most and self._counts[node] + more <= most[node]]

    def _turns(self, node: str) -> None:
        """base, head, head, base ...: as many of each as the order says, if the head does not fail."""
        done = self._counts.get(node, 0)
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


def run_grid_of(side: Installed, order: Order, words: Sequence[str], out: Path) -> str:
    """Train a grid with one side's seqbench: ``words`` are options of `run`; records go to ``out``. What went wrong.

    Each side prepares its data anew, in a cache of its own: a shared one would hide a change in how data is read.
    """
    command = [str(side.python), "-P", "-m", "seqbench", "run", *words, "--device", "cpu", "--out", str(out)]
    if order.plugin is not None:
        command += ["--plugin", str(side.tree / order.plugin)]
    room = side.tree.parent
    try:
        done = subprocess.run(
            command,
            cwd=room,
            env=side.environment(SEQBENCH_CACHE=str(room / "cache")),
            capture_output=True,
            text=True,
            timeout=TRAINING,
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {TRAINING:.0f} s"
    if done.returncode in (0, 1) and any(out.rglob("record.json")):
        return ""  # cells that failed have left records that say so
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    return short(" ".join(last), SHOWN) or f"exit code {done.returncode}"


@contextlib.contextmanager
def workroom() -> Iterator[Path]:
    """A temporary folder for trees and packages, which goes away when this is asked to end, too."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with tempfile.TemporaryDirectory(prefix="seqbench-regress-") as folder:
            yield Path(folder).resolve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

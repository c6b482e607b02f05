"""Two revisions of a repository, each with its files and packages in folders of its own: what `measure` works on."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqbench.environment import seqbench_version
from seqbench.errors import UserError
from seqbench.gate.page import Revision
from seqbench.gate.verdict import Accepted, Limits
from seqbench.report.text import short

__all__ = ["SHOWN", "Installed", "Order", "Say", "accepted_in", "install_both", "revisions", "workroom"]

TRAILER = "Regress-Accepted"
TOOLS = ("pytest>=8", "pytest-benchmark>=5.2")
PIP_SAYS = (
    r"\s*(note:|hint:|error: subprocess|\[end of output|[^\w\s\[(]+ )"  # around what matters, in boxes and arrows
)
ROUND = 8  # processes on each side at first
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
        until: when, by `time.monotonic`, nothing is measured again any more that these leave open.
    """

    benchmarks: Path | None
    models: tuple[str, ...] = ()
    plugin: Path | None = None
    only: tuple[str, ...] = ()
    processes: int = ROUND
    limits: Limits = field(default_factory=Limits)
    until: float = math.inf


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

"""Files that are read are whole and unaltered; files that are written appear in one step or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, Any

from seqbench.errors import UserError

__all__ = [
    "OCCUPIED",
    "TEMPORARY",
    "cache_root",
    "distribution_file",
    "replace_file",
    "sha256",
    "shipped_file",
    "sweep",
    "temporary_folder",
]

TEMPORARY = ".tmp-"  # what names of temporary files and folders begin with
STALE = 7 * 24 * 3600  # seconds after which one is surely abandoned, whoever made it
OWNED = re.compile(r"\.tmp-([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{16}\Z")  # machine, process, when that started

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES)  # renaming onto a folder that is there; the last on Windows


def cache_root() -> Path:
    """``$SEQBENCH_CACHE``, else the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("SEQBENCH_CACHE") or platformdirs.user_cache_dir("seqbench", appauthor=False))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_file(directory: Path, name: str, expected: str) -> Path:
    """The file ``name`` that seqbench ships in ``directory``, after its SHA-256 is found to be ``expected``."""
    path = directory / name
    if not path.is_file():
        raise UserError(f"the shipped file {name} is missing: reinstall seqbench.")
    if sha256(path) != expected:
        raise UserError(f"the shipped file {name} is not the one that was published: reinstall seqbench.")
    return path


def distribution_file(package: str, version: str, name: str, expected: str) -> Path:
    """The file ``name`` inside the installed ``package``, without importing it, if version and SHA-256 are right."""
    wanted = f"pip install {package}=={version}"
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise UserError(f"package {package} is not installed: {wanted}") from None
    if installed.version != version:
        raise UserError(f"package {package} is version {installed.version}, not {version}: {wanted}")
    path = Path(str(installed.locate_file(name)))
    if not path.is_file() or sha256(path) != expected:
        raise UserError(f"{name} of package {package} {version} is missing or altered: {wanted} --force-reinstall")
    return path


def replace_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` write a file under a temporary name and rename it to ``path``: it is never seen half-written."""
    temporary = path.parent / _unused()
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_folder(parent: Path, prefix: str = TEMPORARY) -> Path:
    """A new folder in ``parent``; who may read it follows the umask, as it shall when it gets its own name."""
    folder = parent / _unused(prefix)
    folder.mkdir()
    return folder


def sweep(folder: Path) -> None:
    """Remove temporary files and folders in ``folder`` that nobody will finish: of processes that have gone.

    On a disk that several machines share only those that a process of this one has made are known to be such; others,
    and where the system does not tell its processes apart, must be a week old.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            made = OWNED.match(left.name)
            ours = made is not None and made[1] == _machine()
            if (ours and made and not _runs(int(made[2]), made[3])) or time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _unused(prefix: str = TEMPORARY) -> str:
    """A name that nobody else has, and that says who made it. `tempfile` makes private ones whatever the umask is."""
    pid = os.getpid()
    return f"{prefix}{_machine() or '0' * 8}-{pid}-{_start_of(pid) or 0}-{os.urandom(8).hex()}"


@functools.cache
def _machine() -> str | None:
    """Tells machines, their starts, and containers whose processes don't see each other apart; None where it can't."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        text = f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
        return hashlib.sha256(text.encode()).hexdigest()[:8]
    except (OSError, ValueError):
        return None


def _start_of(pid: int) -> str | None:
    """When a process was started, in ticks of the system since its own start; empty if it has ended."""
    try:
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return "" if state in "ZX" else fields[18]
    except (OSError, ValueError, IndexError):
        return None


def _runs(pid: int, start: str) -> bool:
    """Whether that process is alive; in doubt it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return _start_of(pid) in (start, None)

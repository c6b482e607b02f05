"""Files that are read are whole and unaltered; files that are written appear in one step or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, Any

from seqbench.errors import UserError

__all__ = ["OCCUPIED", "distribution_file", "replace_file", "sha256", "shipped_file", "temporary_folder"]

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES)  # renaming onto a folder that is there; the last on Windows


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
    temporary = path.parent / _unused(".tmp-")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_folder(parent: Path, prefix: str) -> Path:
    """A new folder in ``parent``; who may read it follows the umask, as it shall when it gets its own name."""
    folder = parent / _unused(prefix)
    folder.mkdir()
    return folder


def _unused(prefix: str) -> str:
    """A name that nobody else has. Those that `tempfile` makes are private whatever the umask is."""
    return prefix + os.urandom(8).hex()

"""A folder for each run, which appears whole, is left alone while its record is the same, and is replaced when not."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from seqbench.disk import sweep, temporary_folder
from seqbench.errors import UserError
from seqbench.export.tracked import TrackedRun

__all__ = ["check_out", "is_there", "replaced"]

MARK = "seqbench.sha256"  # in the folder of a run: what is told of it


def check_out(out: Path) -> None:
    """Make ``out``, and clear it of what a run of this that was killed has left.

    Raises:
        UserError: it can't be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        sweep(out)
        temporary_folder(out).rmdir()
    except OSError as error:
        raise UserError(f"--out {out} can't be written ({error.strerror}): choose another folder.") from None


def is_there(folder: Path, run: TrackedRun) -> bool:
    """Whether ``folder`` holds just what is told of ``run``."""
    try:
        return (folder / MARK).read_text(encoding="ascii") == run.digest
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def replaced(folder: Path, run: TrackedRun, out: Path) -> Iterator[Path]:
    """A new folder to write in, which takes the place of ``folder``, below ``out``, at the end.

    Raises:
        UserError: what stands there was not written by this.
    """
    if folder.exists() and not (folder / MARK).is_file():
        raise UserError(f"{folder} is there and no run that was exported: choose another --out, or move it away.")
    new = temporary_folder(out)
    try:
        yield new
        (new / MARK).write_text(run.digest, encoding="ascii")
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            old = temporary_folder(out)
            folder.replace(old / folder.name)
            new.replace(folder)
            shutil.rmtree(old)
        else:
            new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)

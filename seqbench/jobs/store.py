"""A directory of records: ``<root>/<task>/<model>/<budget>-seed<seed>-<key>/run-<n>/record.json``. No torch.

A run is written into a hidden temporary folder, every file flushed to the disk, and renamed in one step to ``run-<n>``
with a number that is free. So whatever moment a process dies at, a run is either all there or not there, nothing is
ever overwritten, and of two workers on one cell one finds the other's run in its place. The newest run counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

from seqbench.errors import UserError
from seqbench.jobs.record import Kept, Record
from seqbench.registry import check_name

__all__ = ["KeptStore", "LEFT_OUT", "RECORD", "Store"]

RECORD = "record.json"
LEFT_OUT = "leave-one-out.npy"  # primary test figure without each group; rows: the model, then its baselines
RUN = re.compile(r"run-([0-9]{1,6})\Z")
STALE = 7 * 24 * 3600  # seconds after which a temporary folder is surely an abandoned one


K = TypeVar("K", bound=Kept)


class KeptStore(Generic[K]):
    """Records of one kind under ``root``."""

    record: ClassVar[type[Kept]]

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def probe(self) -> None:
        """Write and remove a small file, so that an unwritable directory is found before training.

        Folders made for it are removed again.

        Raises:
            UserError: it can't be created or written.
        """
        new = [path for path in (self.root, *self.root.parents) if not path.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                file.write(b"seqbench")
                file.flush()
                os.fsync(file.fileno())
            for path in new:
                with contextlib.suppress(OSError):  # another worker may be using it by now
                    path.rmdir()
        except OSError as error:
            raise UserError(
                f"--out {self.root} can't be written ({error.strerror}): choose another directory."
            ) from None

    def cell(self, task: str, model: str, budget: str, seed: int, key: str) -> Path:
        """The folder of one cell; all parts are checked, so that no path leaves the root."""
        for name, noun in ((task, "task"), (model, "model"), (budget, "budget")):
            check_name(name, noun)
        return self.root / task / model / f"{budget}-seed{int(seed)}-{key[:12]}"

    def find(self, cell: Path, key: str) -> tuple[K, Path] | None:
        """The newest run's record in ``cell`` and its folder, if there is one; a damaged one is an error."""
        runs = self.runs(cell)
        if not runs:
            return None
        try:
            record = self.read(runs[-1])
        except UserError as error:
            raise UserError(f"{error} Move {runs[-1]} away and run again.") from None
        if record.key != key:
            raise UserError(f"{runs[-1] / RECORD} belongs to another cell: move it away.")
        return record, runs[-1]

    @staticmethod
    def runs(cell: Path) -> list[Path]:
        """The cell's run folders, oldest first."""
        found = [(int(match[1]), path) for path in cell.glob("run-*") if (match := RUN.match(path.name))]
        return [path for _, path in sorted(found)]

    @classmethod
    def read(cls, run: Path) -> K:
        """The validated record of a run folder."""
        try:
            text = (run / RECORD).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{run / RECORD} can't be read: {error}.") from None
        return cast(K, cls.record.from_json(text, str(run / RECORD)))

    def records(self) -> Iterator[tuple[K, Path]]:
        """The newest record of every cell, in a fixed order."""
        for cell in sorted({path.parent for path in self.root.glob("*/*/*/run-*")}):
            runs = self.runs(cell)
            if runs:
                yield self.read(runs[-1]), runs[-1]

    @contextlib.contextmanager
    def writing(self, cell: Path) -> Iterator[Path]:
        """A temporary folder beside the runs of ``cell``; removed on the way out, so what is to stay is published."""
        folder = _temporary_folder(cell)
        _sweep(cell)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in (cell, cell.parent, cell.parent.parent):  # leave no empty folders behind
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def publish(self, folder: Path, cell: Path, record: K, *, again: bool = False) -> tuple[K, Path]:
        """Put ``record`` into ``folder`` and make it the newest run of ``cell``, in one step.

        Unless ``again``, a run that another worker has published meanwhile stands, and is returned instead.
        """
        (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
        for path in folder.iterdir():
            _sync(path)
        folder.chmod(0o755)  # mkdtemp makes folders private
        _sync(folder)
        while True:
            runs = self.runs(cell)
            if runs and not again:
                return self.read(runs[-1]), runs[-1]
            number = 1 + (int(runs[-1].name.removeprefix("run-")) if runs else 0)
            target = cell / f"run-{number}"
            try:
                folder.rename(target)  # fails if another worker's run stands there: never an overwrite
            except OSError:
                if not target.exists():
                    raise
                continue
            _sync(cell)
            return record, target


class Store(KeptStore[Record]):
    """Records of cells."""

    record = Record


def _temporary_folder(cell: Path) -> Path:
    for attempt in range(100):
        try:
            cell.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=".tmp-", dir=cell))
        except FileNotFoundError:  # another worker was just removing the folders because they were empty
            if attempt == 99:
                raise
    raise AssertionError("unreachable")


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows can't open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(cell: Path) -> None:
    """Remove temporary folders and files that a killed process left long ago."""
    for left in cell.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()

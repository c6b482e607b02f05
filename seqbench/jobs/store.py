"""A directory of records: ``<root>/<task>/<model>/<budget>-seed<seed>-<key>/run-<n>/record.json``.

Those of probes lie below ``<root>/probes/<probe>/<model>/``. A run is written into a hidden temporary folder, every
file flushed to the disk, and renamed in one step to ``run-<n>`` with a number that is free. So whatever moment a
process dies at, a run is either all there or not there, nothing is ever overwritten, and of two workers on one job one
finds the other's run in its place. The newest run counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from seqbench.disk import TEMPORARY, sweep, temporary_folder
from seqbench.errors import UserError
from seqbench.jobs import DONE
from seqbench.jobs.job import Job, Outcome
from seqbench.jobs.record import ProbeRecord, Record, RunRecord
from seqbench.registry import check_name

__all__ = ["LEFT_OUT", "RECORD", "Store"]

RECORD = "record.json"
LEFT_OUT = "leave-one-out.npy"  # primary test figure without each group; rows: the model, then its baselines
RUN = re.compile(r"run-([0-9]{1,6})\Z")

R = TypeVar("R", bound=Record)


class Store:
    """Records of every kind under ``root``."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def check_writable(self) -> None:
        """Write and remove a small file, so that an unwritable directory is found before hours of work.

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

    def folder(self, place: tuple[str, ...], budget: str, seed: int, key: str) -> Path:
        """Where the runs of one job lie; all parts are checked, so that no path leaves the root."""
        for name in (*place, budget):
            check_name(name, "folder")
        return self.root.joinpath(*place, f"{budget}-seed{int(seed)}-{key[:12]}")

    def folder_of(self, job: Job) -> Path:
        """Where the runs of ``job`` lie."""
        return self.folder(job.spec.place, job.spec.budget, job.spec.seed, job.key)

    def find(self, job: Job) -> Outcome | None:
        """The newest run's record of ``job``, if there is one; a damaged one is an error."""
        runs = self.runs(self.folder_of(job))
        if not runs:
            return None
        try:
            record = self.read(runs[-1])
        except UserError as error:
            raise UserError(f"{error} Move {runs[-1]} away and run again.") from None
        if record.key != job.key:
            raise UserError(f"{runs[-1] / RECORD} belongs to another job: move it away.")
        return Outcome(job, record, runs[-1], stored=True)

    def final(self, job: Job) -> Outcome | None:
        """The record of ``job`` if running it again would give the same."""
        known = self.find(job)
        return known if known and known.record.status in DONE else None

    @staticmethod
    def runs(folder: Path) -> list[Path]:
        """The run folders in one job's ``folder``, oldest first."""
        numbered = [(int(match[1]), path) for path in folder.glob("run-*") if (match := RUN.match(path.name))]
        return [path for _, path in sorted(numbered)]

    @staticmethod
    def number_after(runs: list[Path]) -> int:
        """The number of the run that follows on ``runs``, which are in order."""
        return 1 + (int(runs[-1].name.removeprefix("run-")) if runs else 0)

    @staticmethod
    def read(run: Path) -> Record:
        """The validated record of a run folder.

        Raises:
            UserError: there is none, or it is damaged or can't be read.
        """
        try:
            text = (run / RECORD).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{run / RECORD} can't be read: it is not there. Name a run's folder, like run-1."
            ) from None
        except OSError as error:
            raise UserError(f"{run / RECORD} can't be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise UserError(f"{run / RECORD} can't be read: it is not text in UTF-8.") from None
        return Record.from_json(text, str(run / RECORD))

    def records(self, kind: type[R]) -> Iterator[tuple[R, Path]]:
        """The newest record of every job of one kind with its folder, in a fixed order."""
        for folder in sorted({path.parent for path in self.root.glob(f"{kind.PATTERN}/run-*")}):
            runs = self.runs(folder)
            if runs:
                record = self.read(runs[-1])
                if not isinstance(record, kind):
                    raise UserError(f"{runs[-1] / RECORD} is of another kind than its place: move it away.")
                yield record, runs[-1]

    def keep(self, job: Job, work: Callable[[Path], Record], *, again: bool | None = None) -> Outcome:
        """Do ``work`` in a new folder and publish the record that it returns as the newest run of ``job``.

        Of two workers on one job that had no run before, the later finds the other's record in its place. ``again``:
        whether it had one when it was decided to work; by default now.
        """
        again = bool(self.runs(self.folder_of(job))) if again is None else again
        with self.writing(self.folder_of(job)) as folder:
            return self.publish(folder, job, work(folder), again=again)

    @contextlib.contextmanager
    def writing(self, home: Path) -> Iterator[Path]:
        """A temporary folder beside the runs in ``home``; removed on the way out, so what is to stay is published."""
        folder = _temporary_folder(home)
        sweep(home)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._remove_empty(home)

    def sweep(self) -> None:
        """Remove what processes have left that were killed while they wrote a run; never that of one that is alive."""
        sweep(self.root)  # what came back from a cluster lies here until it is published
        for kind in (RunRecord, ProbeRecord):
            for home in {left.parent for left in self.root.glob(f"{kind.PATTERN}/{TEMPORARY}*")}:
                sweep(home)
                self._remove_empty(home)

    def _remove_empty(self, home: Path) -> None:
        """Leave no empty folders behind."""
        parents = [home, *home.parents]
        for parent in parents[: parents.index(self.root)]:
            with contextlib.suppress(OSError):
                parent.rmdir()

    def publish(self, folder: Path, job: Job, record: Record, *, again: bool = False) -> Outcome:
        """Put ``record`` into ``folder`` and make it the newest run of ``job``, in one step.

        Unless ``again``, a run that another worker has published meanwhile stands, and is returned instead.
        """
        (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
        for path in folder.iterdir():
            _sync(path)
        _sync(folder)
        home = self.folder_of(job)
        while True:
            runs = self.runs(home)
            if runs and not again:
                return Outcome(job, self.read(runs[-1]), runs[-1])
            target = home / f"run-{self.number_after(runs)}"
            try:
                folder.rename(target)  # fails if another worker's run stands there: never an overwrite
            except OSError:
                if not target.exists():
                    raise
                continue
            _sync(home)
            return Outcome(job, record, target)


def _temporary_folder(home: Path) -> Path:
    for attempt in range(100):
        try:
            home.mkdir(parents=True, exist_ok=True)
            return temporary_folder(home)
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

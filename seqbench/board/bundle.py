"""Records of others: packed into one file with what verifies them, and read back only if every figure is right.

A bundle is a zip file of a manifest and, for each record, the files beside it: record, curve, predictions, and figures
without each test group. Who reads it scores the predictions anew against the test set of their own copy of the data, so
a record that says something else is refused, with the figure that differs. What can't be told from a test set is on
trust: that the predictions are the model's, the figures of validation, thresholds that were set there, sizes and costs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.board.verify import check_figure, check_stored, left_out_of
from seqbench.data import PREDICTIONS, Truth, read_predictions
from seqbench.disk import cache_root, replace_file, sha256, temporary_folder
from seqbench.environment import seqbench_version
from seqbench.errors import UserError
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import LEFT_OUT, RECORD, Store
from seqbench.prepare import Prepared, baselines_left_out, fit_baselines, prepare
from seqbench.readers.archives import title
from seqbench.task import TASKS

__all__ = ["SUFFIX", "directories_of", "is_bundle", "pack", "unpacked"]

SUFFIX = ".zip"
MANIFEST = "bundle.json"
FORMAT = 1
FILES = (RECORD, "curve.jsonl", PREDICTIONS, LEFT_OUT)
PLACE = re.compile(r"(?:[\w.+-]+/){3}run-[1-9][0-9]{0,5}/(?:" + "|".join(map(re.escape, FILES)) + ")")
MOST_FILES, MOST_BYTES = 100_000, 2 * 2**30  # in a bundle, unpacked
WHEN = (1980, 1, 1, 0, 0, 0)  # of all that is packed, so that the same records make the same file
CHANCE = 0.01  # of a figure: baselines that are fitted come out a little different with other versions of libraries

Say = Callable[[str], None]
Array = npt.NDArray[Any]


# --- packing ---------------------------------------------------------------------------------------------------------


def pack(records: Sequence[Path], out: Path, say: Say = lambda line: None) -> int:
    """Write a bundle of the records in the folders ``records``, each held to what a reader will ask; how many.

    Raises:
        UserError: there are none, one can't be verified, or ``out`` can't be written.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"--out {out.name} must end in {SUFFIX}.")
    found = {folder: record for path in records for record, folder in _runs(path)}
    if not found:
        raise UserError(f"no records in {' or '.join(map(str, records))}: run some first, or name their directory.")
    checker, files = _Checker(say), dict[str, bytes]()
    for folder, record in found.items():
        checker.check(record, folder)
        for name in FILES:
            if (folder / name).is_file():
                files["/".join((*folder.parts[-4:], name))] = (folder / name).read_bytes()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = {"seqbench_bundle": FORMAT, "seqbench": seqbench_version(), "records": len(found), "files": hashes}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, lambda file: _zip({MANIFEST: json.dumps(manifest, indent=1).encode(), **files}, file))
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
    return len(found)


def _runs(path: Path) -> Iterator[tuple[RunRecord, Path]]:
    """The runs that ``path`` names, with their folders: a record, its folder, or a directory of records."""
    if path.name == RECORD and path.is_file():
        path = path.parent
    path = path.resolve()
    if not (path / RECORD).is_file():
        yield from Store(path).records(RunRecord)
    elif isinstance(record := Store(path.parents[3]).read(path), RunRecord):
        yield record, path
    else:
        raise UserError(f"{path / RECORD} is no record of a run: `submit` takes those of models on tasks.")


def _zip(files: dict[str, bytes], file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, WHEN), data, zipfile.ZIP_DEFLATED)


# --- reading ---------------------------------------------------------------------------------------------------------


def is_bundle(path: Path) -> bool:
    """Whether ``path`` names a bundle and not a directory of records."""
    return path.suffix == SUFFIX and not path.is_dir()


def unpacked(bundle: Path, say: Say = lambda line: None) -> Path:
    """The directory of records that ``bundle`` holds, in the cache; all of them were found to be right just now.

    Raises:
        UserError: it can't be read, holds what no bundle does, or a figure is not that of its predictions.
    """
    try:
        place = cache_root() / "bundles" / sha256(bundle)
    except OSError as error:
        raise UserError(f"{bundle} can't be read ({error.strerror}).") from None
    if not place.is_dir():
        _extract_into(place, bundle)
    checker = _Checker(say)
    for record, run in Store(place).records(RunRecord):
        try:
            checker.check(record, run)
        except UserError as error:
            told = str(error).replace(f"{place}{os.sep}", "")
            raise UserError(f"{title(bundle)} is refused: {told}") from None
    return place


def _extract_into(place: Path, bundle: Path) -> None:
    """Make the folder ``place``, which appears whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_folder(place.parent)
    try:
        _extract(bundle, folder)
        folder.replace(place)
    except OSError:
        if not place.is_dir():  # another process may have been faster
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(bundle: Path, folder: Path) -> None:
    """Write the files of ``bundle`` below ``folder``: those that a bundle has, as its manifest says they are."""
    name = title(bundle)
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = {member.filename: member for member in archive.infolist()}
            hashes = _manifest(archive, members, name)
            for path, digest in hashes.items():
                data = archive.read(members[path])
                if hashlib.sha256(data).hexdigest() != digest:
                    raise UserError(f"{name}: {path} is not what its manifest says: get the bundle again.")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
        raise UserError(f"{name} is damaged, or no bundle of `submit` ({error}).") from None


def _manifest(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, str]:
    """SHA-256 of each file by its path; raises `UserError` for anything that does not belong into a bundle."""
    if len(archive.infolist()) > MOST_FILES or sum(member.file_size for member in members.values()) > MOST_BYTES:
        raise UserError(f"{name} unpacks to more than {MOST_BYTES // 2**30} GiB or {MOST_FILES:,} files: too much.")
    if len(members) < len(archive.infolist()):
        raise UserError(f"{name} holds two files of one name: it was not made by `submit`.")
    try:
        manifest = json.loads(archive.read(MANIFEST))
        version, hashes = manifest["seqbench_bundle"], dict(manifest["files"])
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{name} has no {MANIFEST} that can be read: it was not made by `submit`.") from None
    if version != FORMAT:
        raise UserError(f"{name} is of another form ({version}) than this seqbench reads ({FORMAT}): update seqbench.")
    strange = [path for path in {*members, *hashes} - {MANIFEST} if not PLACE.fullmatch(path) or ".." in path]
    strange += sorted({*members} - {MANIFEST} ^ {*hashes})
    if strange:
        raise UserError(f"{name} holds {strange[0]!r}, which no bundle has: it was not made by `submit`.")
    return {str(path): str(digest) for path, digest in hashes.items()}


# --- checking --------------------------------------------------------------------------------------------------------


class _Checker:
    """Holds records to the reader's own copy of the data, which is prepared once for each task."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._prepared: dict[tuple[str, str], Prepared] = {}

    def check(self, record: RunRecord, folder: Path) -> None:
        """Raise `UserError` unless every figure of ``record`` follows from its predictions and the data."""
        check_stored(record, folder)
        if record.status != "ok":
            return
        where, task = f"{folder / RECORD}", record.task
        if task.source != "embedded" or task.code_sha256 is not None:
            raise UserError(f"{where}: only tasks whose data comes with seqbench can be checked by everybody.")
        if TASKS.get(task.name).version != task.version:
            raise UserError(f"{where} is of version {task.version} of {task.name}, which this seqbench has not.")
        prepared = self._data(record)
        if prepared.data_sha256 != task.data_sha256:
            raise UserError(f"{where} was made with other data than comes with seqbench.")
        if not (folder / PREDICTIONS).is_file():
            raise UserError(f"{where} has no predictions beside it: run the cell again with --force.")
        predictions, told = read_predictions(folder)
        truth = prepared.data.test.truth()
        if not (_alike(told.targets, truth.targets) and _alike(told.groups, truth.groups)):
            raise UserError(f"{folder / PREDICTIONS}: its targets are not those of the test split of {task.name}.")
        spec = prepared.spec
        truth = Truth(truth.targets, truth.groups, {**told.meta, **truth.meta})  # thresholds are the run's own
        for name, value in spec.score(predictions, truth).items():
            check_figure(name, record.metrics["test"].get(name), value, folder)
        own, _ = left_out_of(record, folder)
        computed = spec.leave_one_out(predictions, truth)
        if own is None or not np.allclose(own, computed, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise UserError(
                f"{folder / LEFT_OUT}: its figures without each test group are not those of its predictions."
            )
        self._check_baselines(record, prepared, folder)

    def _check_baselines(self, record: RunRecord, prepared: Prepared, folder: Path) -> None:
        """What skill is told by, and the baselines, which are fitted here, too: all of them and no others."""
        spec, where = prepared.spec, f"{folder / RECORD}"
        scores, primary = fit_baselines(prepared, self.say), record.primary
        metric = spec.primary
        usual = (metric.name, metric.direction, metric.unit, spec.perfect, spec.reference_of(scores))
        if primary is None or usual != (
            primary.name, primary.direction, primary.unit, primary.perfect, primary.reference
        ):  # fmt: skip
            raise UserError(
                f"{where}: it is not told by {metric.name} and its skill over {usual[-1]}, as all others are."
            )
        if {*record.baselines} != {*scores}:
            odd = sorted({*record.baselines} ^ {*scores})[0]
            whose = "which is none of the task's" if odd in record.baselines else "which is not there"
            raise UserError(f"{where}: its baselines differ from the task's in {odd}, {whose}.")
        _, left_out = left_out_of(record, folder)
        rows = dict(zip(scores, baselines_left_out(prepared, self.say), strict=True))
        for (name, value), told in zip(record.baselines.items(), [] if left_out is None else left_out, strict=True):
            known = scores[name]["test"][metric.name]
            if not _near(math.nan if value is None else value, known):
                raise UserError(f"{where}: its baseline {name} is {value}, and {known:g} here.")
            if not _near(told, rows[name]):
                raise UserError(f"{folder / LEFT_OUT}: the figures of baseline {name} are others here.")

    def _data(self, record: RunRecord) -> Prepared:
        options = json.dumps(record.task.options, sort_keys=True)
        key = record.task.name, options
        if key not in self._prepared:
            self._prepared[key] = prepare(record.task.name, dict(record.task.options), "embedded", self.say)
        return self._prepared[key]


def _near(told: npt.ArrayLike, own: npt.ArrayLike) -> bool:
    """Whether figures differ by no more than other versions of libraries explain."""
    return np.shape(told) == np.shape(own) and bool(np.allclose(told, own, rtol=CHANCE, atol=1e-6, equal_nan=True))


def _alike(told: Array, own: Array) -> bool:
    """Whether arrays are the same, but for the single precision that predictions are kept in."""
    if told.shape != own.shape or told.dtype.kind != own.dtype.kind:
        return False
    return bool(np.allclose(told, own, rtol=1e-6, atol=0) if own.dtype.kind == "f" else np.array_equal(told, own))


def directories_of(results: Iterable[str | Path], say: Say = lambda line: None) -> Iterator[tuple[Path, Path | None]]:
    """Each of ``results`` as a directory of records, and the bundle that it came from, if it did."""
    for one in results:
        path = Path(one)
        yield (unpacked(path, say), path) if is_bundle(path) else (path, None)

"""A task's data, prepared and cached, and its baselines, fitted once and kept beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqbench.baselines import BASELINES, Baseline
from seqbench.data.cache import cache_root, fingerprint, load_or_build
from seqbench.data.splits import TaskData
from seqbench.disk import replace_file, sha256
from seqbench.environment import seqbench_version
from seqbench.errors import UserError
from seqbench.readers.archives import suffix_of, unchanged
from seqbench.readers.downloads import fetched
from seqbench.task import TASKS, Source, TaskSpec, parse_options

__all__ = ["Prepared", "baselines_left_out", "download_folder", "fit_baselines", "prepare"]

Say = Callable[[str], None]
Scores = dict[str, dict[str, float]]  # "val" and "test" to metrics
MAKERS = ("data", "files")  # packages that make the prepared data


@dataclass(frozen=True)
class Prepared:
    """Prepared data with its resolved options and the folder it is cached in."""

    spec: TaskSpec
    data: TaskData
    options: dict[str, Any]
    source: str
    folder: Path

    @property
    def data_sha256(self) -> str:
        """The hash of the file read, or of the names and hashes of several."""
        hashes = dict(self.data.sources)
        if len(hashes) == 1:
            return next(iter(hashes.values()))
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def prepare(
    task: str,
    given: dict[str, Any],
    source: str = "embedded",
    say: Say = lambda line: None,
    data: str | Path | None = None,
) -> Prepared:
    """The data of ``task`` with the options ``given``, from the cache or built into it; ``data`` is the user's file.

    Raises:
        UserError: for a source, option or file that can't be used; nothing is left in the cache then.
    """
    spec = TASKS.get(task).at(source)
    options = parse_options(spec, given)
    chosen = dataclasses.asdict(options)
    found = find_source(spec, source, options, data)
    # an edited task file is prepared anew, and so is everything when what it is made of changes
    code = _code(spec.load, spec.module) + _makers()
    mark = fingerprint(
        task=spec.name,
        version=spec.version,
        options=chosen,
        source=source,
        suffixes=sorted(suffix_of(path) for path in found.files.values()),  # they decide how a file is read
        hashes=dict(found.hashes),
        code=code,
        seqbench=seqbench_version(),
    )
    folder = cache_root() / f"{spec.name}-{mark}"

    def build() -> TaskData:
        say(f"preparing the data of {spec.name} (once)")
        with _watched(found):
            return spec.load(found, options)

    return Prepared(spec, load_or_build(folder, build), chosen, source, folder)


def find_source(spec: TaskSpec, source: str, options: Any, data: str | Path | None) -> Source:
    """What to read for ``source``, with its hashes."""
    if source == "path":
        if data is None:
            raise UserError("--source path needs the file: give --data FILE.")
        with unchanged(Path(data)) as digest:
            return Source(source, {"file": Path(data)}, {"file": digest})
    if source == "hub" and spec.fetch is not None:
        files = fetched(download_folder(spec, options), spec.name)
        return Source(source, files, {name: sha256(path) for name, path in files.items()})
    return Source(source)


@contextlib.contextmanager
def _watched(source: Source) -> Iterator[None]:
    """Raise `UserError` if the user's file is no longer, or does not stay, what was hashed."""
    if source.name != "path":
        yield
        return
    with unchanged(source.file) as digest:
        if digest != source.hashes["file"]:
            raise UserError(f"{source.file.name} changed while it was read: run it again when it is finished.")
        yield


def download_folder(spec: TaskSpec, options: Any) -> Path:
    """Where the canonical set of ``spec`` lies once it is fetched."""
    assert spec.fetch is not None
    return cache_root() / "fetched" / f"{spec.name}-{fingerprint(**spec.fetch(options).identity)}"


def fit_baselines(prepared: Prepared, say: Say = lambda line: None) -> dict[str, Scores]:
    """Scores of the task's baselines on validation and test, by name; fitted on first use."""
    return {name: kept["scores"] for name, kept in _fitted(prepared, say).items()}


def baselines_left_out(prepared: Prepared, say: Say = lambda line: None) -> list[list[float]]:
    """For each baseline, in the order of `fit_baselines`: G times its primary test figure without one group."""
    return [kept["left_out"] for kept in _fitted(prepared, say).values()]


def _fitted(prepared: Prepared, say: Say) -> dict[str, dict[str, Any]]:
    """What is kept of each baseline."""
    found = {}
    for name in prepared.spec.baselines:
        baseline = BASELINES.get(name)
        code = _code(baseline.fit, "seqbench.baselines", "seqbench.metrics", "seqbench.stats", prepared.spec.module)
        path = prepared.folder.parent / f"{prepared.folder.name}.baselines" / f"{name}.json"
        kept = _stored(path, code)
        if kept is None:
            say(f"fitting baseline {name} (once)")
            kept = _fit(prepared, baseline, path, code)
        found[name] = kept
    return found


def _fit(prepared: Prepared, baseline: Baseline, path: Path, code: str) -> dict[str, Any]:
    """Fit, score on validation and test, and keep scores and predictions at ``path``."""
    predict = baseline.fit(prepared.data.train, prepared.data.val, prepared.data)
    predictions = {part: predict(prepared.data.splits[part]) for part in ("val", "test")}
    truths = {part: prepared.data.splits[part].truth() for part in predictions}
    constants = prepared.spec.calibrated(predictions["val"], truths["val"])
    scores = {
        part: prepared.spec.score(rows, truths[part].with_constants(constants)) for part, rows in predictions.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(predictions)
    replace_file(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    truth = truths["test"].with_constants(constants)
    left_out = prepared.spec.leave_one_out(predictions["test"], truth).tolist()
    kept = {"code": code, "scores": scores, "left_out": left_out}
    text = json.dumps(kept)  # a figure without a group may be NaN, which Python reads again
    replace_file(path, lambda file: file.write(text.encode()))
    return kept


def _code(function: Callable[..., Any], *modules: str) -> str:
    """Hash of the source that ``function`` stands in (its own, if that was typed into a shell) and of ``modules``."""
    try:
        own = inspect.getsource(sys.modules[function.__module__])
    except (KeyError, OSError, TypeError):
        own = function.__code__.co_code.hex() + repr(function.__code__.co_consts)
    others = [inspect.getsource(sys.modules[name]) for name in modules if hasattr(sys.modules.get(name), "__file__")]
    return hashlib.sha256("\0".join([own, *others]).encode()).hexdigest()


@functools.cache
def _makers() -> str:
    """Hash of the packages that prepared data is made with."""
    here = Path(__file__).parent
    sources = (path.read_bytes() for name in MAKERS for path in sorted((here / name).glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def _stored(path: Path, code: str) -> dict[str, Any] | None:
    """What is kept at ``path`` if they were made by the same code and can be read."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept if kept["code"] == code and {"scores", "left_out"} <= set(kept) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

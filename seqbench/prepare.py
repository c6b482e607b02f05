"""A task's data, prepared and cached, and its baselines, fitted once and kept beside it.

Prepared data lies in a folder of the user's cache: a `datasets.DatasetDict` of Arrow files and a manifest with their
hashes. Building imports `datasets`; reading maps the files with pyarrow alone, which starts ten times faster. A split
is a table with one row per example (``train``); what is as long as the series and not as the examples is a second one
(``train.series``), and what has another length one by itself (``train.symbols``). A folder appears under its
fingerprint in one rename, so two builders can't mix; one whose hashes are not those of its manifest is set aside and
built again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import BASELINES, Baseline
from seqbench.data import Pairs, Ragged, RaggedTags, Rows, Segments, Split, Stream, Tagged, TaskData, Windows
from seqbench.disk import OCCUPIED, cache_root, replace_file, sha256, sweep, temporary_folder
from seqbench.environment import seqbench_version
from seqbench.errors import NotApplicable, UserError
from seqbench.readers.archives import suffix_of, unchanged
from seqbench.readers.downloads import fetched
from seqbench.task import ADDED_OPTION, TASKS, Source, TaskSpec, parse_options

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = [
    "Prepared",
    "baselines_left_out",
    "baselines_not_applicable",
    "download_folder",
    "fingerprint",
    "fit_baselines",
    "load_or_build",
    "prepare",
]

Array = npt.NDArray[Any]
MANIFEST = "manifest.json"
FORMAT = 2  # of the manifest; a change makes old caches be built again
SPLITS = {cls.__name__: cls for cls in (Rows, Ragged, Pairs, Windows, Segments, Tagged, RaggedTags, Stream)}
INFO = ("vocabulary", "features", "classes", "notes", "fitted")


Say = Callable[[str], None]
Scores = dict[str, dict[str, float]]  # "val" and "test" to metrics
MAKERS = ("data.py", "files/*.py", "readers/*.py")  # what makes the prepared data
FITTERS = ("baselines/*.py", "metrics.py", "stats.py")  # what baselines are made and scored with


@dataclass(frozen=True)
class Prepared:
    """Prepared data with its resolved options and the folder it is cached in."""

    spec: TaskSpec
    data: TaskData
    options: dict[str, Any]
    source: str
    folder: Path
    fetched: Path | None = None  # the folder of the canonical set that it was made of

    @property
    def baselines_folder(self) -> Path:
        """What is kept of each baseline."""
        return self.folder.parent / f"{self.folder.name}.baselines"

    @property
    def cached(self) -> tuple[Path, ...]:
        """Folders of the cache from which another machine has the same data without preparing it."""
        return tuple(folder for folder in (self.folder, self.baselines_folder, self.fetched) if folder is not None)

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
    test: str | Path | None = None,
) -> Prepared:
    """The data of ``task`` with the options ``given``, from the cache or built into it.

    ``data`` is the user's file, ``test`` a second one that is the test set.

    Raises:
        UserError: for a source, option or file that can't be used; nothing is left in the cache then.
    """
    spec = TASKS.get(task).at(source)
    options = parse_options(spec, given)
    spec, chosen = spec.formed(options), _said(options)
    origin = find_source(spec, source, options, data, test)
    # an edited task file is prepared anew, and so is everything when what it is made of changes
    code = _code(spec.load, spec.module) + _made_by(MAKERS) + (TASKS.entry(task).code or "")
    mark = fingerprint(
        task=spec.name,
        version=spec.version,
        options=chosen,
        source=source,
        suffixes=sorted(suffix_of(path) for path in origin.files.values()),  # they decide how a file is read
        hashes=dict(origin.hashes),
        code=code,
        seqbench=seqbench_version(),
    )
    folder = cache_root() / f"{spec.name}-{mark}"

    def build() -> TaskData:
        say(f"preparing the data of {spec.name} (once)")
        with _watched(origin):
            return spec.load(origin, options)

    fetched_to = download_folder(spec, options) if source == "hub" and spec.fetch is not None else None
    return Prepared(spec, load_or_build(folder, build), chosen, source, folder, fetched_to)


def _said(options: Any) -> dict[str, Any]:
    """``options`` by name, without those of metadata `ADDED_OPTION` that say nothing: keys of old records stay so."""
    fields = {item.name: item for item in dataclasses.fields(options)}
    said: dict[str, Any] = dataclasses.asdict(options)
    quiet = {name for name, item in fields.items() if item.metadata == ADDED_OPTION and said[name] == item.default}
    return {name: value for name, value in said.items() if name not in quiet}


def find_source(
    spec: TaskSpec, source: str, options: Any, data: str | Path | None, test: str | Path | None = None
) -> Source:
    """What to read for ``source``, with its hashes."""
    if source == "path":
        if data is None:
            raise UserError("--source path needs the file: give --data FILE.")
        files = {"file": Path(data)} if test is None else {"file": Path(data), "test": Path(test)}
        hashes = {}
        for name, path in files.items():
            with unchanged(path) as hashes[name]:
                pass
        return Source(source, files, hashes)
    if source == "hub" and spec.fetch is not None:
        files = fetched(download_folder(spec, options), spec.name)
        return Source(source, files, {name: sha256(path) for name, path in files.items()})
    return Source(source)


@contextlib.contextmanager
def _watched(source: Source) -> Iterator[None]:
    """Raise `UserError` if a file of the user's is no longer, or does not stay, what was hashed."""
    with contextlib.ExitStack() as stack:
        for name, path in source.files.items() if source.name == "path" else ():
            if stack.enter_context(unchanged(path)) != source.hashes[name]:
                raise UserError(f"{path.name} changed while it was read: run it again when it is finished.")
        yield


def download_folder(spec: TaskSpec, options: Any) -> Path:
    """Where the canonical set of ``spec`` lies once it is fetched."""
    assert spec.fetch is not None
    return cache_root() / "fetched" / f"{spec.name}-{fingerprint(**spec.fetch(options).identity)}"


def fit_baselines(prepared: Prepared, say: Say = lambda line: None) -> dict[str, Scores]:
    """Scores of the task's baselines on validation and test, by name; fitted on first use.

    Those that can't be fitted to these data are left out: `baselines_not_applicable` says why.
    """
    return {name: kept["scores"] for name, kept in _fitted(prepared, say).items()}


def baselines_not_applicable(prepared: Prepared, say: Say = lambda line: None) -> dict[str, str]:
    """Why baselines of the task are left out of `fit_baselines`, by name."""
    everything = _everything(prepared, say).items()
    return {name: kept["not_applicable"] for name, kept in everything if "not_applicable" in kept}


def baselines_left_out(prepared: Prepared, say: Say = lambda line: None) -> list[list[float]]:
    """For each baseline, in the order of `fit_baselines`: G times its primary test figure without one group."""
    return [kept["left_out"] for kept in _fitted(prepared, say).values()]


def _fitted(prepared: Prepared, say: Say) -> dict[str, dict[str, Any]]:
    """What is kept of each baseline that these data can have."""
    return {name: kept for name, kept in _everything(prepared, say).items() if "scores" in kept}


def _everything(prepared: Prepared, say: Say) -> dict[str, dict[str, Any]]:
    """What is kept of each baseline."""
    fitted = {}
    for name in prepared.spec.baselines:
        entry = BASELINES.entry(name)
        baseline = entry.value
        code = _code(baseline.fit, prepared.spec.module) + _made_by(FITTERS) + (entry.code or "")
        path = prepared.baselines_folder / f"{name}.json"
        kept = _stored(path, code)
        if kept is None:
            say(f"fitting baseline {name} (once)")
            kept = _fit(prepared, baseline, path, code)
            if "not_applicable" in kept:
                say(f"baseline {name} is left out: {kept['not_applicable']}")
        fitted[name] = kept
    return fitted


def _fit(prepared: Prepared, baseline: Baseline, path: Path, code: str) -> dict[str, Any]:
    """Fit, score on validation and test, and keep scores and predictions at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            # libraries warn of what a small or odd data set does to a fit; the scores tell
            warnings.simplefilter("ignore")
            predict = baseline.fit(prepared.data.train, prepared.data.val, prepared.data)
    except NotApplicable as error:
        return _keep(path, {"code": code, "not_applicable": str(error)})
    predictions = {part: predict(prepared.data.splits[part]) for part in ("val", "test")}
    truths = {part: prepared.data.splits[part].truth() for part in predictions}
    constants = prepared.spec.calibrated(predictions["val"], truths["val"])
    scores = {
        part: prepared.spec.score(rows, truths[part].with_constants(constants)) for part, rows in predictions.items()
    }
    sweep(path.parent)
    arrays: dict[str, Any] = dict(predictions)
    replace_file(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    truth = truths["test"].with_constants(constants)
    left_out = prepared.spec.leave_one_out(predictions["test"], truth).tolist()
    return _keep(path, {"code": code, "scores": scores, "left_out": left_out})


def _keep(path: Path, kept: dict[str, Any]) -> dict[str, Any]:
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
def _made_by(patterns: tuple[str, ...]) -> str:
    """Hash of the files of seqbench that ``patterns`` name."""
    sources = (path.read_bytes() for pattern in patterns for path in sorted(Path(__file__).parent.glob(pattern)))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def _stored(path: Path, code: str) -> dict[str, Any] | None:
    """What is kept at ``path`` if they were made by the same code and can be read."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = "not_applicable" in kept or {"scores", "left_out"} <= set(kept)
        return kept if kept["code"] == code and whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(**inputs: Any) -> str:
    """Hex digest of everything that decides what is prepared."""
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_or_build(folder: Path, build: Callable[[], TaskData]) -> TaskData:
    """The data in ``folder``; built there first if it is missing or damaged."""
    if folder.is_dir():
        cached = _read(folder)
        if cached is not None:
            return cached
        _set_aside(folder)
    data = build()
    try:
        _publish(data, folder)
    except OSError as error:
        raise UserError(
            f"the cache {folder.parent} can't be written ({error.strerror}): set SEQBENCH_CACHE to another directory."
        ) from None
    built = _read(folder)
    if built is None:
        raise UserError(f"the cache {folder} was damaged as soon as it was written: is the disk full or failing?")
    return built


def _set_aside(folder: Path) -> None:
    """Out of the way of a rebuild, and still there to be looked at; only the last damaged one is kept."""
    damaged = folder.with_name(folder.name + ".damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # another process found the damage first
        folder.rename(damaged)


def _publish(data: TaskData, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    temporary = temporary_folder(folder.parent)
    try:
        _write(data, temporary)
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in OCCUPIED:  # else another process has built the same meanwhile
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fields(split: Split) -> dict[str, Array]:
    """All arrays of a split by name, ``meta`` flattened."""
    fields = {}
    for item in dataclasses.fields(split):
        value = getattr(split, item.name)
        if isinstance(value, np.ndarray):
            fields[item.name] = value
        elif isinstance(value, Mapping):
            fields.update({f"{item.name}.{name}": np.asarray(rows) for name, rows in value.items()})
    return fields


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """HF_HUB_OFFLINE is read at import; afterwards it says again what the user wishes, which `fetch` must know."""
    ours = "HF_HUB_OFFLINE" not in os.environ
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        yield
    finally:
        if ours:
            os.environ.pop("HF_HUB_OFFLINE", None)


def _write(data: TaskData, folder: Path) -> None:
    with _offline():  # nothing here needs the hub; must stand before the import
        import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    tables: dict[str, dict[str, pa.Array]] = {}
    described = {}
    for name, split in data.splits.items():
        fields, lengths = {}, dict[str, int]()
        for field, array in _fields(split).items():
            table = name if len(array) == len(split) else f"{name}.series"
            if len(array) != lengths.setdefault(table, len(array)):
                table = f"{name}.{field}"
            tables.setdefault(table, {})[field] = _to_arrow(array)
            fields[field] = {"table": table, "shape": array.shape[1:]}
        constants = {
            item.name: getattr(split, item.name)
            for item in dataclasses.fields(split)
            if isinstance(getattr(split, item.name), int | float)
        }
        described[name] = {"class": type(split).__name__, "fields": fields, "constants": constants}
    saved = {name: datasets.Dataset(datasets.table.InMemoryTable(pa.table(table))) for name, table in tables.items()}
    _save(datasets.DatasetDict(saved), folder)
    manifest = {
        "splits": described,
        "sources": dict(data.sources),
        "info": {name: getattr(data, name) for name in INFO},
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.arrow"))},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _save(tables: datasets.DatasetDict, folder: Path) -> None:
    """Into ``folder``; by way of another where its path holds ``::``, which `datasets` takes for a chain of URLs."""
    if "::" not in str(folder):
        tables.save_to_disk(folder)
        return
    with tempfile.TemporaryDirectory() as plain:
        tables.save_to_disk(Path(plain) / "data")
        shutil.copytree(Path(plain) / "data", folder, dirs_exist_ok=True)


def _to_arrow(array: Array) -> pa.Array:
    import pyarrow as pa

    if array.dtype.kind not in "iuf":
        raise TypeError(f"prepared data is numbers, not {array.dtype}")
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))


def _read(folder: Path) -> TaskData | None:
    """The data in ``folder``, or None if anything about it is not as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if any(sha256(folder / name) != expected for name, expected in manifest["files"].items()):
            return None
        train, val, test = (_read_split(folder, manifest["splits"][name]) for name in ("train", "val", "test"))
        info: dict[str, Any] = {
            name: tuple(values) if isinstance(values, list) else values for name, values in manifest["info"].items()
        }
        return TaskData(train, val, test, manifest["sources"], **info)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_split(folder: Path, about: dict[str, Any]) -> Split:
    import pyarrow as pa

    tables = {}
    for table in {field["table"] for field in about["fields"].values()}:
        files = sorted((folder / table).glob("*.arrow"))
        tables[table] = pa.concat_tables(pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files)
    values: dict[str, Any] = dict(about["constants"])
    for name, field in about["fields"].items():
        array = _from_arrow(tables[field["table"]].column(name), tuple(field["shape"]))
        if name.startswith("meta."):
            values.setdefault("meta", {})[name.removeprefix("meta.")] = array
        else:
            values[name] = array
    return SPLITS[about["class"]](**values)


def _from_arrow(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Array:
    arrays = [_values(chunk.flatten() if shape else chunk) for chunk in column.chunks]
    flat = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return flat.reshape(-1, *shape)


def _values(chunk: pa.Array) -> Array:
    """The numbers of a column without nulls, in place: pyarrow's own way there would import pandas."""
    values = np.frombuffer(chunk.buffers()[-1], dtype=chunk.type.to_pandas_dtype())
    return values[chunk.offset : chunk.offset + len(chunk)]

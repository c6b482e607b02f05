"""Prepared data on disk: a `datasets.DatasetDict` of Arrow files and a manifest with their hashes.

Building imports `datasets`; reading maps the files with pyarrow alone, which starts ten times faster. A split is a
table with a row an example (``train``); what is as long as the series and not as the examples is a second one
(``train.series``). A folder appears under its fingerprint in one rename, so two builders can't mix; one whose hashes
are not those of its manifest is set aside and built again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.data.splits import Ragged, Rows, Segments, Split, Stream, TaskData, Windows
from seqbench.disk import OCCUPIED, sha256
from seqbench.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["cache_root", "fingerprint", "load_or_build"]

Array = npt.NDArray[Any]
MANIFEST = "manifest.json"
FORMAT = 2  # of the manifest; a change makes old caches be built again
SPLITS = {cls.__name__: cls for cls in (Rows, Ragged, Windows, Segments, Stream)}
INFO = ("vocabulary", "features", "classes", "notes", "fitted")


def cache_root() -> Path:
    """``$SEQBENCH_CACHE``, else the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("SEQBENCH_CACHE") or platformdirs.user_cache_dir("seqbench", appauthor=False))


def fingerprint(**inputs: Any) -> str:
    """Hex digest of everything that decides what is prepared."""
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_or_build(folder: Path, build: Callable[[], TaskData]) -> TaskData:
    """The data in ``folder``; built there first if it is missing or damaged."""
    if folder.is_dir():
        found = _read(folder)
        if found is not None:
            return found
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
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        _write(data, temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in OCCUPIED:  # else another process has built the same meanwhile
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fields(split: Split) -> dict[str, Array]:
    """All arrays of a split by name, ``meta`` flattened."""
    found = {}
    for item in dataclasses.fields(split):
        value = getattr(split, item.name)
        if isinstance(value, np.ndarray):
            found[item.name] = value
        elif isinstance(value, Mapping):
            found.update({f"{item.name}.{name}": np.asarray(rows) for name, rows in value.items()})
    return found


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
        fields = {}
        for field, array in _fields(split).items():
            table = name if len(array) == len(split) else f"{name}.series"
            tables.setdefault(table, {})[field] = _to_arrow(array)
            fields[field] = {"table": table, "shape": array.shape[1:]}
        constants = {
            item.name: getattr(split, item.name)
            for item in dataclasses.fields(split)
            if isinstance(getattr(split, item.name), int)
        }
        described[name] = {"class": type(split).__name__, "fields": fields, "constants": constants}
    saved = {name: datasets.Dataset(datasets.table.InMemoryTable(pa.table(table))) for name, table in tables.items()}
    datasets.DatasetDict(saved).save_to_disk(folder)
    manifest = {
        "splits": described,
        "sources": dict(data.sources),
        "info": {name: getattr(data, name) for name in INFO},
        "files": {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.arrow"))},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


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

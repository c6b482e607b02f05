"""`predict RECORD FILE`: a saved model on new rows.

Nothing that is read is trusted: the record is validated, the weights are safetensors of the very shapes that the
record's model has, and the file must hold what the model was trained to read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqbench.cli.common import FLAT, Common, show_json
from seqbench.disk import replace_file
from seqbench.errors import Diverged, UserError
from seqbench.options import OUTPUT, Parameter
from seqbench.report.terminal import print_path

if TYPE_CHECKING:  # --help answers before any of these is imported
    import numpy.typing as npt

    from seqbench.data import NewRows, Reading
    from seqbench.jobs.record import RunRecord
    from seqbench.models.backbone import SequenceModel
    from seqbench.task import TaskSpec

    Columns = dict[str, npt.NDArray[Any]]

__all__ = ["COMMAND", "Predict", "predict_file"]

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Apply a trained model to new rows and write a table of its predictions."""

    record: Path = field(kw_only=False)
    """The record.json of a run, or its folder."""
    file: Path = field(kw_only=False)
    """New rows, in the form that the task reads with --data; labels are not needed."""
    out: Annotated[Path, Parameter(group=OUTPUT, metavar="FILE")] = Path("predictions.csv")
    """Where to write: .csv or .parquet."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Write it and say where."""
        path, rows = predict_file(self.record, self.file, self.out)
        if self.common.json:
            show_json({"out": path, "predictions": rows})
        else:
            print_path(f"{rows:,} predictions: ", path)
        return 0


COMMAND = Predict


def predict_file(record: Path, file: Path, out: Path) -> tuple[Path, int]:
    """Apply the model of ``record`` (a record.json, or its folder) to ``file``; where the table is, and its rows.

    Raises:
        UserError: the record has no model, the file is not what it reads, or ``out`` is no .csv or .parquet.
    """
    from seqbench.jobs.record import RunRecord
    from seqbench.jobs.store import Store
    from seqbench.readers.archives import unchanged
    from seqbench.task import Source, parse_options

    if out.suffix not in FORMATS:
        raise UserError(f"--out {out.name} must end in .csv or .parquet.")
    if out.resolve() == file.resolve():
        raise UserError("--out is the file that is read: choose another name.")
    folder = record.parent if record.name == "record.json" else record
    trained = Store.read(folder)
    if not isinstance(trained, RunRecord):
        raise UserError(f"{folder} holds a measurement of a probe: there is no trained model in it.")
    spec = _spec(trained)
    reading = _reading(folder)
    options = parse_options(spec, trained.task.options)
    assert spec.encode is not None
    with unchanged(file) as digest:
        new = spec.encode(Source("path", {"file": file}, {"file": digest}), options, reading)
    columns = _predict(trained, spec, folder, reading, new)
    both = sorted(set(new.columns) & set(columns))
    if both:
        raise UserError(f"the file's column {both[0]!r} has the name of a column of predictions: rename it.")
    try:
        _write({**new.columns, **columns}, out)
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
    return out, len(next(iter(columns.values())))


def _spec(record: RunRecord) -> TaskSpec:
    """The task of ``record``, if the model can still be used and the code is what it was."""
    if record.status != "ok":
        raise UserError(f"the record's status is {record.status}: it has no trained model.")
    from seqbench.models.mixer import MODELS
    from seqbench.task import TASKS

    task, model = TASKS.entry(record.task.name), MODELS.entry(record.model.name)
    for noun, entry, kept in (("task", task, record.task), ("model", model, record.model)):
        if (entry.value.version, entry.code) != (kept.version, kept.code_sha256):
            raise UserError(
                f"{noun} {kept.name} is not the one that was trained (its version or file differs): train it again."
            )
    spec = task.value.at(record.task.source)
    if spec.encode is None:
        raise UserError(f"task {spec.name} can't read new rows from a file.")
    return spec


def _reading(folder: Path) -> Reading:
    from seqbench.data import Reading

    try:
        kept = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        names = {name: tuple(map(str, kept[name])) for name in ("vocabulary", "features", "classes")}
        return Reading(**names, fitted=dict(kept["fitted"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / 'model.json'} is missing or damaged: train the model again with --force.") from None


def _predict(record: RunRecord, spec: TaskSpec, folder: Path, reading: Reading, new: NewRows) -> Columns:
    from seqbench.config import RunConfig
    from seqbench.data import TaskData
    from seqbench.device import resolve_device, settings
    from seqbench.models.backbone import build, shape_of
    from seqbench.training import predict

    config = RunConfig(task=record.task.name, model=record.model.name, hidden=record.model.hidden, threads=1)
    device = resolve_device(config)
    about: dict[str, Any] = {name: getattr(reading, name) for name in ("vocabulary", "features", "classes", "fitted")}
    shape = shape_of(spec.kind, TaskData(new.split, new.split, new.split, {}, **about))
    with settings(device, config):
        model = build(record.model.name, spec.kind, shape, record.model.hidden, backbone=record.model.backbone)
        _load_weights(model, folder)
        try:
            predictions = predict(model.to(device), new.split, config)
        except Diverged as error:
            raise UserError(f"the model fails on these rows: {error}.") from None
    return type(model.head).columns(predictions, reading)


def _load_weights(model: SequenceModel, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_safetensors

    path = folder / "model.safetensors"
    try:
        model.load_state_dict(from_safetensors(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError):
        raise UserError(f"{path} is missing, damaged or not this model's: train it again with --force.") from None


def _write(columns: Mapping[str, npt.NDArray[Any]], out: Path) -> None:
    """As one rename, so that a table is never seen half-written."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    def plain(values: npt.NDArray[Any]) -> Any:
        return values if values.dtype.kind in "iuf" else np.asarray(values, dtype=str).tolist()

    table = pa.table({name: plain(values) for name, values in columns.items()})
    write = pa.csv.write_csv if out.suffix == ".csv" else pa.parquet.write_table
    replace_file(out, lambda file: write(table, file))

"""What a trained model predicts: of the test split, as it was kept, and of new rows.

Nothing that is read is trusted: the record is validated, what the model must be read with is of the right types and
the one that was kept beside these weights, the weights are safetensors of the very shapes that the record's model has,
which is known before memory is taken for it, and the file must hold what the model was trained to read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from seqbench.config import FRAME_OPTIONS, RunConfig
from seqbench.data import NewRows, Reading, Split, TaskData, read_predictions, texts_of, unit_of
from seqbench.disk import cache_root
from seqbench.errors import Diverged, UserError
from seqbench.files.frames import FRAMES, frame_file
from seqbench.jobs.record import READING_SHA256, ReadingFile, RunRecord
from seqbench.jobs.store import RECORD, Store
from seqbench.readers.archives import unchanged
from seqbench.task import TASKS, Source, TaskSpec, parse_options

if TYPE_CHECKING:  # torch takes longer to import than all else here
    import pandas as pd

    from seqbench.models.backbone import SequenceModel
    from seqbench.models.heads import Shape

__all__ = ["Trained", "load_model", "predict_columns", "predicted_rows", "predicted_test"]

Array = npt.NDArray[Any]
Columns = dict[str, Array]
READING = "model.json"  # beside the record: what the model must be read with


def predicted_test(record: RunRecord, folder: Path) -> pd.DataFrame:
    """One row for each example (of generated text, for each block of it) of the test split.

    Labels come as ``label`` and ``p_<class>`` beside ``true``; forecasts as ``step_1`` ... beside ``true_1`` ...;
    numbers as ``value`` beside ``true``; a ``translation`` beside ``true`` and ``source``; of a text the ``bits`` that
    its ``characters``, or ``words``, cost. ``group`` tells which examples are not independent of each other, and
    ``row``, where it is known, which row of the file (of sequences the record) each is, the first as 0; of a residue
    ``step`` tells the place in it.

    Raises:
        UserError: the run did not end well, or its files are missing or damaged.
    """
    import pandas as pd

    from seqbench.models.heads import HEADS

    if record.status != "ok":
        raise UserError(f"the record's status is {record.status}: there are no predictions.")
    predictions, truth = read_predictions(folder)
    reading = _reading(folder, _Header.of(folder))
    head = HEADS.get(record.task.kind)
    if reading.classes:
        true = {"true": np.array(reading.classes)[truth.targets]}
    elif record.task.kind == "generate":
        true = {f"{unit_of(reading.fitted)}s": truth.targets}
    else:
        true = {
            "true" if name in ("value", "translation") else name.replace("step_", "true_"): values
            for name, values in head.columns(truth.targets, reading).items()
        }
    # records of earlier versions have none; a step of a sequence is told by both
    place = {name: truth.meta[name] for name in ("row", "step") if name in truth.meta}
    if "source" in truth.meta:
        true["source"] = np.array(texts_of(truth.meta["source"]))
    return pd.DataFrame({**head.columns(predictions, reading), **true, "group": truth.groups, **place})


def predicted_rows(record: Path, data: Path | pd.DataFrame, beam: int | None = None) -> pd.DataFrame:
    """`predict_columns` of a file or a DataFrame as a DataFrame."""
    import pandas as pd

    file = frame_file(data, cache_root() / FRAMES) if isinstance(data, pd.DataFrame) else data
    return pd.DataFrame(predict_columns(record, file, beam))


def predict_columns(record: Path, file: Path, beam: int | None = None) -> Columns:
    """Apply the model of ``record`` (a record.json, or its folder) to ``file``: what names each row, and predictions.

    ``beam`` translations are kept in mind while one is written, by default as many as in the run.

    Raises:
        UserError: the record has no model that can be read, or the file is not what it reads.
    """
    trained = Trained.of(record)
    spec, reading = trained.spec, trained.reading
    if spec.encode is None:
        raise UserError(f"task {spec.name} can't read new rows from a file.")
    if beam is not None:
        from seqbench.models.backbone import check_frame_options

        check_frame_options(spec.kind, {"beam": beam})
        config = {**trained.record.config, "beam": beam}
        trained = replace(trained, record=trained.record.model_copy(update={"config": config}))
    options = parse_options(spec, trained.record.task.options)
    with unchanged(file) as digest, trained.doubted():
        new = spec.encode(Source("path", {"file": file}, {"file": digest}), options, reading)
    with trained.doubted():
        columns = _predict(trained, new)
    both = sorted(set(new.columns) & set(columns))
    if both:
        raise UserError(f"the file's column {both[0]!r} has the name of a column of predictions: rename it.")
    return {**new.columns, **columns}


def _spec(record: RunRecord) -> TaskSpec:
    """The task of ``record``, if the model can still be used and the code is what it was."""
    if record.status != "ok":
        raise UserError(f"the record's status is {record.status}: it has no trained model.")
    from seqbench.models.mixer import MODELS

    task, model = TASKS.entry(record.task.name), MODELS.entry(record.model.name)
    for noun, entry, kept in (("task", task, record.task), ("model", model, record.model)):
        if (entry.value.version, entry.code) != (kept.version, kept.code_sha256):
            raise UserError(
                f"{noun} {kept.name} is not the one that was trained (its version or file differs): train it again."
            )
    return task.value.at(record.task.source).formed(record.task.options)


@dataclass(frozen=True)
class Trained:
    """A trained model as a run left it: everything but the weights is read and was found to belong together."""

    record: RunRecord
    spec: TaskSpec
    folder: Path
    header: _Header
    reading: Reading

    @classmethod
    def of(cls, record: Path) -> Trained:
        """Of a record.json, or its folder.

        Raises:
            UserError: it is not there, it is a probe's, the run did not end well, the code of its task or model has
                changed since, or a file beside it is missing, damaged or altered.
        """
        folder = record.parent if record.name == RECORD else record
        known = Store.read(folder)
        if not isinstance(known, RunRecord):
            raise UserError(f"{folder} holds a measurement of a probe: there is no trained model in it.")
        spec, header = _spec(known), _Header.of(folder)
        return cls(known, spec, folder, header, _reading(folder, header))

    @property
    def kept(self) -> str:
        """The text of model.json: what rows must be read with."""
        return (self.folder / READING).read_text(encoding="utf-8")

    def model(self, split: Split) -> SequenceModel:
        """The model, for rows of the form of ``split``."""
        from seqbench.models.backbone import shape_of

        about: dict[str, Any] = {
            name: getattr(self.reading, name) for name in ("vocabulary", "features", "classes", "fitted")
        }
        shape = shape_of(self.spec.kind, TaskData(split, split, split, {}, **about))
        return load_model(self.record, self.spec.kind, shape, self.header)

    @contextlib.contextmanager
    def doubted(self) -> Iterator[None]:
        """What goes wrong inside is the fault of model.json, where nothing says that it is as it was written."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            if self.header.reading_sha256 is not None:
                raise
            what = f"{type(error).__name__}: {error}"
            raise UserError(
                f"{self.folder / READING} can't be used to read these rows ({what}): train the model again with "
                "--force."
            ) from None


@dataclass(frozen=True)
class _Header:
    """What model.safetensors says of itself before a single weight is read.

    ``reading_sha256`` is of the model.json that was written with it; models of earlier versions have none.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    reading_sha256: str | None

    @classmethod
    def of(cls, folder: Path) -> _Header:
        path = folder / "model.safetensors"
        try:
            with safe_open(path, "pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
                return cls(path, shapes, (file.metadata() or {}).get(READING_SHA256))
        except (OSError, SafetensorError):
            raise cls(path, {}, None).unfit() from None

    def unfit(self) -> UserError:
        """It can't be used."""
        return UserError(f"{self.path} is missing, damaged or not this model's: train it again with --force.")

    def check(self, model: SequenceModel) -> None:
        """Raise `UserError` unless ``model`` has just these weights."""
        if {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} != self.shapes:
            raise self.unfit()

    def load(self, model: SequenceModel) -> None:
        """Put the weights into ``model``."""
        from safetensors.torch import load as from_safetensors

        self.check(model)
        try:
            model.load_state_dict(from_safetensors(self.path.read_bytes()))
        except (OSError, SafetensorError, RuntimeError):
            raise self.unfit() from None


class _Fitted(dict[str, Any]):
    """Figures of the training split by name; one that is not there is a sentence."""

    def __missing__(self, name: str) -> Any:
        raise UserError(f"model.json lacks {name!r} of what was fitted: train the model again with --force.")


def _reading(folder: Path, header: _Header) -> Reading:
    """What the rows must be read with, as it was kept with the weights."""
    path = folder / READING
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing: train the model again with --force.") from None
    if header.reading_sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise UserError(f"{path} has been altered since the model was trained: train it again with --force.")
    kept = ReadingFile.from_json(content, str(path))
    return Reading(kept.vocabulary, kept.features, kept.classes, _Fitted(kept.fitted))


def _predict(trained: Trained, new: NewRows) -> Columns:
    from seqbench.device import resolve_device, settings
    from seqbench.training import predict_split

    carry = bool(trained.record.config.get("carry_state"))  # a text is then read as validation and test were
    about = trained.record.task.name, trained.record.model.name
    config = RunConfig(task=about[0], model=about[1], threads=1, carry_state=carry)
    device = resolve_device(config)
    with settings(device, config):
        model = trained.model(new.split)
        try:
            predictions = predict_split(model.to(device), new.split, config)
        except Diverged as error:
            raise UserError(f"the model fails on these rows: {error}.") from None
    return type(model.head).columns(predictions, trained.reading)


def load_model(record: RunRecord, kind: str, shape: Shape, header: _Header) -> SequenceModel:
    """The trained model; one that is not that of the weights is refused before memory is taken for it."""
    import torch

    from seqbench.models.backbone import build
    from seqbench.models.mixer import Regularisers

    def made() -> SequenceModel:
        form: dict[str, Any] = {
            "embedding": record.config.get("embedding"),
            "dense": tuple(record.config.get("dense") or ()),
            "regularisers": Regularisers.of(record.config),
            "options": {name: record.config[name] for name in FRAME_OPTIONS if name in record.config},
        }
        return build(record.model.name, kind, shape, record.model.hidden, backbone=record.model.backbone, **form)

    try:
        with torch.device("meta"):
            empty = made()
    except (
        NotImplementedError,
        RuntimeError,
        TypeError,
    ):  # too large to count, or a user's own layer wants real memory
        if max(record.model.hidden) > max((size for shape in header.shapes.values() for size in shape), default=0):
            raise header.unfit() from None
    else:
        header.check(empty)
    model = made()
    header.load(model)
    return model

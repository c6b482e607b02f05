"""What a trained model predicted of the test split: as it was kept, and as a table in the data's own units."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.data import Reading, Truth
from seqbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from seqbench.jobs.record import RunRecord

__all__ = ["predicted_test", "read_predictions", "read_reading"]

Array = npt.NDArray[Any]


def read_predictions(folder: Path) -> tuple[Array, Truth]:
    """Predictions and truth of every test example, from ``predictions.npz`` (never a pickle)."""
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            meta = {name.removeprefix("meta_"): kept[name] for name in kept.files if name.startswith("meta_")}
            return kept["prediction"], Truth(kept["target"], kept["group"], meta)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None


def read_reading(folder: Path) -> Reading:
    """How a trained model reads rows, from ``model.json``."""
    try:
        kept = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        names = {name: tuple(map(str, kept[name])) for name in ("vocabulary", "features", "classes")}
        return Reading(**names, fitted=dict(kept["fitted"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / 'model.json'} is missing or damaged: train the model again with --force.") from None


def predicted_test(record: RunRecord, folder: Path) -> pd.DataFrame:
    """One row for each example (of generated text, for each block of characters) of the test split.

    Labels come as ``label`` and ``p_<class>`` beside ``true``; forecasts as ``step_1`` ... beside ``true_1`` ...;
    numbers as ``value`` beside ``true``; of a text the ``bits`` that its ``characters`` cost. ``group`` tells which
    examples are not independent of each other.

    Raises:
        UserError: the run did not end well, or its files are missing or damaged.
    """
    import pandas as pd

    from seqbench.models.heads import HEADS

    if record.status != "ok":
        raise UserError(f"the record's status is {record.status}: there are no predictions.")
    predictions, truth = read_predictions(folder)
    reading = read_reading(folder)
    head = HEADS.get(record.task.kind)
    if reading.classes:
        true = {"true": np.array(reading.classes)[truth.targets]}
    elif record.task.kind == "generate":
        true = {"characters": truth.targets}
    else:
        true = {
            "true" if name == "value" else name.replace("step_", "true_"): values
            for name, values in head.columns(truth.targets, reading).items()
        }
    return pd.DataFrame({**head.columns(predictions, reading), **true, "group": truth.groups})

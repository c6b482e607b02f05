"""The test predictions of a run, kept beside its record: what its figures can be computed from again."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from seqbench.errors import UserError

if TYPE_CHECKING:  # --help answers before it is imported
    import numpy as np

    from seqbench.data import Truth

__all__ = ["PREDICTIONS", "read_predictions"]

PREDICTIONS = "predictions.npz"


def read_predictions(folder: Path) -> tuple[np.ndarray, Truth]:
    """Predictions and truth of every test example, from ``predictions.npz`` (never a pickle)."""
    import numpy as np

    from seqbench.data import Truth

    path = folder / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as kept:
            meta = {name.removeprefix("meta_"): kept[name] for name in kept.files if name.startswith("meta_")}
            return kept["prediction"], Truth(kept["target"], kept["group"], meta)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None

"""Whether a record's figures are those of the files beside it: predictions, and figures without each test group."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbench.data import PREDICTIONS, read_predictions
from seqbench.errors import UserError
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import LEFT_OUT, RECORD
from seqbench.task import TASKS, TaskSpec

__all__ = ["check_baselines", "check_figure", "check_stored", "left_out_of", "verified"]

Array = npt.NDArray[np.float64]
CLOSE = 1e-5  # of a figure: predictions are kept in single precision, and another machine adds up in another order


def verified(record: RunRecord, folder: Path) -> bool | None:
    """Whether the test figures are those of the predictions beside the record; None where there are no figures.

    False where that can't be told: predictions are not kept, or this seqbench has the task in no such version.

    Raises:
        UserError: they are others.
    """
    primary = record.primary
    if primary is None:
        return None
    reference, perfect = record.baselines.get(primary.reference or ""), primary.perfect
    if None not in (record.skill, primary.value, reference, perfect) and perfect != reference:
        skill = (_or_nan(primary.value) - _or_nan(reference)) / (_or_nan(perfect) - _or_nan(reference))
        check_figure("skill", record.skill, skill, folder)
    spec = _spec_of(record) if (folder / PREDICTIONS).is_file() else None  # a board of others imports no task
    if spec is None:
        return False
    predictions, truth = read_predictions(folder)
    try:
        figures = spec.score(predictions, truth)
    except Exception as error:  # whatever a score makes of arrays that are not its task's
        raise UserError(f"{folder / PREDICTIONS} does not fit its record ({error}): run the cell again.") from None
    kept = record.metrics["test"]
    for name in figures.keys() & kept.keys():
        check_figure(name, kept[name], figures[name], folder)
    return primary.name in figures


def _spec_of(record: RunRecord) -> TaskSpec | None:
    """The task in the version of the record, if it is here."""
    try:
        entry = TASKS.entry(record.task.name)
        known = (entry.value.version, entry.code) == (record.task.version, record.task.code_sha256)
        return entry.value.at(record.task.source).formed(record.task.options) if known else None
    except UserError:
        return None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def check_figure(name: str, kept: float | None, computed: float, folder: Path) -> None:
    """Refuse a record that has another figure; one that can't be told is None there."""
    unknown = kept is None and math.isnan(computed)
    if not unknown and not math.isclose(_or_nan(kept), computed, rel_tol=CLOSE, abs_tol=CLOSE * 1e-3):
        raise UserError(
            f"{folder / RECORD} has been altered: its {name} is {_or_nan(kept):g}, but computed from what lies beside "
            f"it {computed:g}. Run the cell again with --force."
        )


# means, ratios of means, roots of either, and a power that rises with one
MEANS = ("accuracy", "rmse", "relative_rmse", "bits_per_character", "perplexity")


def check_baselines(record: RunRecord, left_out: Array | None, folder: Path) -> None:
    """Refuse a baseline's figure that its figures without each test group rule out.

    A mean over groups lies between the least and the greatest mean without one group, and so does a ratio of sums, and
    a root of either. A metric of a user's own need not.
    """
    primary = record.primary
    if left_out is None or left_out.shape[1] < 2 or primary is None:
        return
    if record.task.code_sha256 is not None or primary.name not in MEANS:
        return
    for (name, value), row in zip(record.baselines.items(), left_out, strict=True):
        if value is None or not np.isfinite(row).all():
            continue
        near = float(np.clip(value, row.min(), row.max()))
        if not math.isclose(value, near, rel_tol=CLOSE, abs_tol=CLOSE * 1e-3):
            raise UserError(
                f"{folder / RECORD} has been altered: its baseline {name} is {value:g}, but computed from what "
                f"lies beside it between {row.min():g} and {row.max():g}. Run the cell again with --force."
            )


def check_stored(record: RunRecord, folder: Path) -> None:
    """Refuse a record in ``folder`` whose figures are not those of the files beside it.

    Raises:
        UserError: somebody altered it, or what lies beside it.
    """
    verified(record, folder)
    check_baselines(record, left_out_of(record, folder)[1], folder)


def left_out_of(record: RunRecord, folder: Path) -> tuple[Array, Array] | tuple[None, None]:
    """(G,) and (B, G) figures without each test group, of the model and its baselines.

    None in runs without a figure, and in those from before they were kept.
    """
    path = folder / LEFT_OUT
    if record.status != "ok":
        return None, None
    try:
        with path.open("rb") as file:  # np.load would take a zip archive too
            rows: Array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        return None, None
    except Exception as error:  # a damaged header can end in almost any
        raise UserError(f"{path} can't be read: {error}. Run the cell again with --force.") from None
    if rows.ndim != 2 or len(rows) != 1 + len(record.baselines) or rows.dtype != np.float64:
        raise UserError(f"{path} does not fit its record: run the cell again with --force.")
    return rows[0], rows[1:]

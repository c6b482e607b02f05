"""Which columns of a user's table are read, and why the others are not.

A column is left out where reading it would mislead: one that only counts rows (it tells how far the file has come, and
files are most often sorted by what is to be predicted), one that says the target in other words, one that never
changes, and one that is not all numbers. Each is named with the reason, and ``features`` brings any of them back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqbench.errors import UserError
from seqbench.readers.archives import shown
from seqbench.readers.tables import Format, Table

__all__ = ["CellOptions", "Chosen", "TableOptions", "chosen_columns", "left_out_note", "named_columns", "read_note"]

Array = npt.NDArray[Any]
# what pandas, R and databases call a column that numbers the rows
INDEX = re.compile(
    r"(unnamed: \d+|index|__index_level_\d+__|level_\d+|id|_id|row_?(id|num|number|index)?|rownames?|#)\Z"
)
FEW_ROWS = 10  # of fewer rows anything may count
FEW_RUNS = 5  # and of fewer runs anything may go one way


class Chosen(NamedTuple):
    """The columns to read, the target first where it is one of them, and why each of the others is left out."""

    names: list[str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class CellOptions:
    """How the cells of a table are written.

    Attributes:
        date_format: how dates are written, as ``%d/%m/%Y``.
        missing: what stands where a value is missing, as ``?``; several with commas.
        decimal: ``,`` or ``.``: the mark before the decimals.
    """

    date_format: str = ""
    missing: str = ""
    decimal: str = ""

    @property
    def form(self) -> Format:
        """The same as readers take it."""
        marks = tuple(mark.strip() for mark in self.missing.split(",") if mark.strip())
        return Format(self.date_format, marks, self.decimal)


@dataclass(frozen=True)
class TableOptions(CellOptions):
    """What the options of every table have in common.

    Attributes:
        target: the column that is predicted.
        features: the columns that are read, with commas; empty: all that can be.
        drop: columns that are not read, with commas.
    """

    target: str = ""
    features: str = ""
    drop: str = ""


def named_columns(table: Table, text: str) -> list[str]:
    """The columns that ``text`` names, with commas between them; a column whose own name has a comma is one."""
    if text in table.names:
        return [text]
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    table.require(*names)
    return names


def chosen_columns(
    table: Table,
    *,
    target: str = "",
    features: str = "",
    drop: str = "",
    named: Collection[str] = (),
    runs: Array | None = None,
    labels: Array | None = None,
) -> Chosen:
    """The columns of numbers that are read.

    Args:
        target: a column that is read, too, and comes first; "" where it is not.
        features: the only ones that are read beside it, with commas; "" reads all that can be.
        drop: columns that are not read, with commas.
        named: columns that other options name (times, runs, labels): not read.
        runs: (rows,) number of the run of each row; None for one series.
        labels: (rows,) what is predicted of each row, as numbers; a column that says the same is left out.

    Raises:
        UserError: a column that is named is not there or holds no numbers.
    """
    dropped = named_columns(table, drop)
    first = [target] if target else []
    if features:
        return _asked_for(table, first, named_columns(table, features), [*named, *dropped])
    left_out = dict.fromkeys(dropped, "as asked")
    names = list(first)
    for name in table.names:
        if name in names or name in named or name in left_out:
            continue
        why = table.not_numbers(name) or _misleading(table, name, runs, labels)
        if why:
            left_out[name] = why
        else:
            names.append(name)
    return Chosen(names, left_out)


def _asked_for(table: Table, first: list[str], wanted: list[str], unwanted: Collection[str]) -> Chosen:
    """Just what the user named."""
    for name in wanted:
        if name in unwanted:
            raise UserError(f"column {shown(name, 60)} is to be read and is named by another option: name it once.")
        why = table.not_numbers(name)
        if why:
            raise UserError(f"{table.file}: column {shown(name, 60)} can't be read as numbers: {why}.")
    names = list(dict.fromkeys([*first, *wanted]))
    others = (name for name in table.names if name not in names and name not in unwanted)
    return Chosen(names, dict.fromkeys(others, "not asked for"))


def _misleading(table: Table, name: str, runs: Array | None, labels: Array | None) -> str | None:
    """Why a column of numbers should not be read; None if it should."""
    values = table.numbers(name, missing=True)
    known = values[~np.isnan(values)]
    if len(known) < FEW_ROWS:
        return None
    if np.ptp(known) == 0:
        return f"{known[0]:g} in every row"
    if labels is not None and (told := _tells(values, labels)):
        return told
    whole = bool((known == np.round(known)).all())
    if whole and INDEX.match(name.strip().lower()) and _numbers_rows(known):
        return "it numbers the rows"
    if len(known) == len(values):
        if _counts(values, runs):
            return "it counts the rows" + (" of each run" if runs is not None else "")
        if runs is not None and (told := _tells_runs(values, runs, whole=whole)):
            return told
    return None


def _tells_runs(values: Array, runs: Array, *, whole: bool) -> str | None:
    """Whether a column tells which run it is rather than what happens in it: files are most often sorted by what is to
    be predicted, and so are the numbers and the times of runs."""
    order = np.argsort(runs, kind="stable")
    first = np.flatnonzero(np.diff(runs[order], prepend=-1))
    if len(first) < FEW_RUNS:
        return None
    least, most = np.minimum.reduceat(values[order], first), np.maximum.reduceat(values[order], first)
    if (least[1:] > most[:-1]).all() or (most[1:] < least[:-1]).all():
        return "it goes one way from run to run, as a number or a time of runs does"
    if whole and (least == most).all() and len(np.unique(least)) == len(least):
        return "it numbers the runs"
    return None


def _numbers_rows(known: Array) -> bool:
    """Whether whole numbers are all different, or go one way."""
    return len(np.unique(known)) == len(known) or _one_way(known)


def _one_way(values: Array) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _counts(values: Array, runs: Array | None) -> bool:
    """Whether each row is the one before it plus the same step, within each run; there in whatever order rows stand."""
    if runs is not None:
        order = np.lexsort((values, runs))
        values, runs = values[order], runs[order]
    steps = np.diff(values)
    if runs is not None:
        steps = steps[np.diff(runs) == 0]
    return len(steps) > 1 and steps[0] != 0 and bool(np.allclose(steps, steps[0], rtol=1e-9, atol=0.0))


def _tells(values: Array, labels: Array) -> str | None:
    """Whether a column is the label in other words: as few values, each of which goes with one label only."""
    distinct, code = np.unique(np.nan_to_num(values, nan=np.inf), return_inverse=True)
    if labels.dtype.kind == "f":
        known = ~np.isnan(values)
        if known.sum() < FEW_ROWS or np.ptp(labels[known]) == 0:
            return None
        steps = np.diff(values[known][np.lexsort((values[known], labels[known]))])
        back = np.diff(values[known][np.lexsort((-values[known], labels[known]))])
        same = len(np.unique(values[known])) >= FEW_ROWS and bool((steps >= 0).all() or (back <= 0).all())
        return "it is the target in other numbers: it rises or falls with it, without exception" if same else None
    code, labels = code[labels >= 0], labels[labels >= 0]  # below 0 is what no one knows
    n_labels = len(np.unique(labels))
    if not n_labels <= len(distinct) <= min(2 * n_labels, len(values) // FEW_ROWS):
        return None
    pairs = np.unique(np.stack([code, labels]), axis=1).shape[1]
    return "each of its values goes with one label: it alone tells the label" if pairs == len(distinct) else None


def left_out_note(left_out: Mapping[str, str], most: int = 12) -> tuple[str, ...]:
    """One sentence on the columns that are not read, if there are any."""
    if not left_out:
        return ()
    parts = [f"{_plain(name)} ({why})" for name, why in left_out.items()]
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return (f"columns not read: {', '.join(parts[:most])}{more}; --features names those to read.",)


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) <= 40 else shown(name, 40)


def read_note(names: Sequence[str], most: int = 20) -> str:
    """One sentence on the columns that are read."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"columns read: {', '.join(map(_plain, names[:most]))}{more}."

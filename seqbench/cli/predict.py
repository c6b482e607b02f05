"""`predict RECORD FILE`: a saved model on new rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqbench.cli.common import FLAT, Common, show_json
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.options import MODEL, OUTPUT, Parameter, Range, check_options
from seqbench.report.terminal import print_path

if TYPE_CHECKING:  # --help answers before it is imported
    import numpy.typing as npt

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
    beam: Annotated[int | None, Range(ge=1, le=64), Parameter(group=MODEL, metavar="N")] = None
    """Translations that are kept in mind while one is written; by default as many as in the run."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what no model could use."""
        check_options(self)

    def __call__(self) -> int:
        """Write it and say where."""
        path, rows = predict_file(self.record, self.file, self.out, self.beam)
        if self.common.json:
            show_json({"out": path, "predictions": rows})
        else:
            print_path(f"{rows:,} predictions: ", path)
        return 0


COMMAND = Predict


def predict_file(record: Path, file: Path, out: Path, beam: int | None = None) -> tuple[Path, int]:
    """Write what `seqbench.predictions.predict_columns` gives to ``out``; where the table is, and its rows.

    Raises:
        UserError: as there, or ``out`` is no .csv or .parquet, or can't be written.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out.name} must end in .csv or .parquet.")
    if out.resolve() == file.resolve():
        raise UserError("--out is the file that is read: choose another name.")
    from seqbench.predictions import predict_columns

    columns = predict_columns(record, file, beam)
    try:
        _write(columns, out)
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
    return out, len(next(iter(columns.values())))


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

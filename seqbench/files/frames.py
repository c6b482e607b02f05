"""A DataFrame as a file: what is read, hashed and given to other processes is always a file of the user's."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.readers.archives import shown

__all__ = ["FRAMES", "frame_file"]

FRAMES = "frames"  # folder of the cache that holds them
NAME = "DataFrame.parquet"


def frame_file(frame: Any, folder: Path) -> Path:
    """A Parquet file in ``folder`` that holds the DataFrame ``frame``, in a folder with the hash of its content.

    An index that says something (times, names) becomes a column; one that only counts the rows does not.

    Raises:
        UserError: it has several levels of columns, or a column holds what no table of a file can.
        OSError: it can't be written.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if frame.columns.nlevels > 1:
        raise UserError("the DataFrame has several levels of columns: join their names into one.")
    frame = frame.rename(columns=str)
    if not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None):
        names = [name or _index_name(level, frame) for level, name in enumerate(frame.index.names)]
        frame = frame.reset_index(names=[str(name) for name in names])
    if len(set(frame.columns)) < len(frame.columns):
        raise UserError("two columns of the DataFrame have the same name: rename one.")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"the DataFrame can't be written as a table: {shown(why, 120)}: convert that column.") from None
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    content = buffer.getvalue()
    path = folder / hashlib.sha256(content).hexdigest() / NAME  # sentences call it by its name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(content))
    return path


def _index_name(level: int, frame: Any) -> str:
    """What an index without a name is called."""
    import pandas as pd

    values = frame.index.get_level_values(level)
    name = "time" if isinstance(values, pd.DatetimeIndex) else "index"
    return name if name not in frame.columns else f"{name}_{level}"

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
    frame = _with_times(frame.rename(columns=str))
    if not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None):
        names = [name or _index_name(level, frame) for level, name in enumerate(frame.index.names)]
        frame = frame.reset_index(names=[str(name) for name in names])
    if len(set(frame.columns)) < len(frame.columns):
        raise UserError("two columns of the DataFrame have the same name: rename one.")
    buffer = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), buffer)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _unwritable(frame, error) from None
    content = buffer.getvalue()
    path = folder / hashlib.sha256(content).hexdigest() / NAME  # sentences call it by its name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(content))
    return path


def _with_times(frame: Any) -> Any:
    """Periods, which are no type of a file, as the times at which they begin."""
    import pandas as pd

    if isinstance(frame.index, pd.PeriodIndex):
        frame = frame.set_axis(frame.index.to_timestamp())
    periods = [at for at, kind in enumerate(frame.dtypes) if isinstance(kind, pd.PeriodDtype)]
    return frame.assign(**{frame.columns[at]: frame.iloc[:, at].dt.to_timestamp() for at in periods})


def _unwritable(frame: Any, error: Exception) -> UserError:
    """The sentence on what can't be written, with the first column of ``frame`` that can't be."""
    import pyarrow as pa

    for name in frame.columns:
        try:
            name.encode()
            pa.Array.from_pandas(frame[name])
        except UnicodeEncodeError:
            return UserError(
                f"column {shown(name, 60)} of the DataFrame holds half a character, which no file can: clean the text "
                "with .str.encode('utf-8', 'replace').str.decode('utf-8')."
            )
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as own:
            kinds = sorted({type(value).__name__ for value in frame[name] if value is not None})
            what = f"holds {' and '.join(kinds[:4])}" if len(kinds) > 1 else shown(str(own).splitlines()[0], 120)
            return UserError(
                f"the DataFrame can't be written as a table: column {shown(name, 60)} {what}: convert it with "
                "astype(str) or pd.to_numeric."
            )
    return UserError(f"the DataFrame can't be written as a table: {shown(str(error).splitlines()[0], 120)}.")


def _index_name(level: int, frame: Any) -> str:
    """What an index without a name is called."""
    import pandas as pd

    values = frame.index.get_level_values(level)
    name = "time" if isinstance(values, pd.DatetimeIndex) else "index"
    return name if name not in frame.columns else f"{name}_{level}"

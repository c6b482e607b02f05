"""Which kernel is faster for a layer: looked up in a table that was measured once (`benchmarks/kernels.py`)."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import platform
from pathlib import Path
from typing import Any

__all__ = ["TABLE", "is_faster", "maker"]

NO_GRADIENT = 0.9  # of the time, at most, where the inputs need no gradient: a product of six that torch does not save
TABLE = Path(__file__).with_name("rates.json")


@functools.cache
def maker() -> str:
    """Who made the processor: on those of one maker the same libraries are fast."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("vendor_id"):
                return line.partition(":")[2].strip()
    return platform.machine()


@functools.cache
def _rows() -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Of this maker's processor, by cell and way to read."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    rows: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in table.get(maker(), {}).get("rows", ()):
        rows.setdefault((row["cell"], row["folded"]), []).append(row)
    return rows


@functools.cache
def is_faster(engine: str, cell: str, batch: int, width: int, *, folded: bool, gradient: bool = True) -> bool:
    """Whether ``engine``, c or written, takes less time than torch's own layer at the nearest shape in the table.

    ``gradient``: whether the inputs need one.

    True on processors of makers that nobody has measured: there the plain loops of torch's RNN and GRU are slow, too.
    """
    near = min(
        (row for row in _rows().get((cell, folded), ()) if engine in row["ms"]),
        key=lambda row: abs(math.log2(row["batch"] / batch)) + abs(math.log2(row["width"] / width)),
        default=None,
    )
    if near is None:
        return True
    share = 1.0 if gradient or folded else NO_GRADIENT
    return bool(share * near["ms"][engine] < near["ms"]["torch"])

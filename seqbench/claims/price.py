"""The price in claim 8: what attention takes in time and memory. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqbench.claims.claim import Aside, machine
from seqbench.claims.cost import cases_of, has
from seqbench.claims.names import ATTENTION, LSTM, title
from seqbench.probes import Found
from seqbench.report.text import interval_text
from seqbench.stats import Interval

__all__ = ["attention_price", "carried"]


def attention_price(cost: Sequence[Found]) -> list[Aside]:
    """What attention takes, as sentences: the square in time, and the floats it carries."""
    asides = []
    for one in cases_of(cost):
        if one.result["backend"] != "kernel" or not has(one, ATTENTION, LSTM):
            continue
        lines = []
        fit = (one.result["fit"].get(ATTENTION) or {}).get("train")
        if fit is not None and fit["trusted"]:
            q = Interval(*(math.inf if x is None else x * 1e9 for x in fit["q"]))
            lines.append(
                f"Each pair of positions in a sequence adds {interval_text(q, 'ns')} to a training step ({machine(one)})."
                if q.low > 0
                else "No square of the length could be told from 0 in a training step's time."
            )
        lines += _growth(one.result)
        asides += [Aside(line, [one.folder]) for line in lines]
    return asides


def _growth(result: Mapping[str, Any]) -> list[str]:
    """Exponents of time and memory between the longest two lengths at the largest batch that has them."""
    shapes = [tuple(shape) for shape in result["shapes"]]
    longest = max(length for _, length in shapes)
    batch = max(b for b, length in shapes if length == longest)
    ends = sorted((shape for shape in shapes if shape[0] == batch), key=lambda shape: shape[1])[-2:]
    if len(ends) < 2:
        return []
    i, j = (shapes.index(shape) for shape in ends)
    said = []
    for model in (ATTENTION, LSTM):
        seconds = np.median(np.asarray(result["seconds"][model]["train"], dtype=float), axis=1)
        text = f"{title(model)}: time grows with the length to the power {_power(seconds[j] / seconds[i], ends)}"
        peaks = result["peak_bytes"].get(model) or [None] * len(shapes)
        if peaks[i] and peaks[j]:
            text += f", memory to the power {_power(peaks[j] / peaks[i], ends)}"
        floats = result["models"][model].get("state_size")
        said.append(text + (f", and {floats:,} floats are carried at {result['counted_at']} steps" if floats else ""))
    return [f"From {ends[0][1]:,} to {ends[1][1]:,} steps at batch {batch}: {'; '.join(said)}."]


def _power(ratio: float, ends: Sequence[tuple[int, int]]) -> str:
    return f"{math.log(ratio) / math.log(ends[1][1] / ends[0][1]):.2f}"


def carried(cost: Sequence[Found]) -> str:
    """``; after 256 steps it carries 65,536 floats, an LSTM of that width 256``, or nothing."""
    for one in cases_of(cost):
        if has(one, ATTENTION, LSTM):
            mine, other = (one.result["models"][model].get("state_size") for model in (ATTENTION, LSTM))
            if mine and other:
                at, width = one.result["counted_at"], one.case.options["hidden"]
                return f"; at width {width} it carries {mine:,} floats after {at} steps, an LSTM {other:,}"
    return ""

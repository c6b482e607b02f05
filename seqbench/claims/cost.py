"""Claims 3, 4 and 7, and the price in claim 8: parameters, arithmetic and time. No torch but to count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqbench.claims.claim import Aside, Asides, Claim, figure_text, machine, rounded
from seqbench.claims.names import ATTENTION, GRU, LSTM, RNN, title
from seqbench.claims.skills import skill_conditions
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import listed
from seqbench.probes import Found
from seqbench.probes.fit import geometric
from seqbench.stats import Interval

__all__ = ["attention_price", "gru_lighter", "lstm_fourfold", "lstm_parameters"]

FOURFOLD = (3.2, 4.8)
EXACT = 1e-9
LIGHTER = {"parameters": 0.75, "FLOPs": 0.8, "time": 0.9}
MARGIN = 0.02  # of skill, within which GRU is not inferior
BACKENDS = {"kernel": "torch's kernel", "loop": "Python loop"}
WITH = {"Python loop": "a loop in Python"}
TIMES = {"train": "time of a training step", "forward": "time of a forward pass"}
SIZES = ((1, 1), (3, 5), (16, 64), (64, 128), (128, 128), (128, 64), (300, 256))


def _cost(found: Sequence[Found], track: str = "width") -> list[Found]:
    """Cases of a track at its greatest width: a narrow one is there for the serial floor only."""
    mine = [one for one in found if one.result["track"] == track]
    widest = max((one.case.options["hidden"] for one in mine), default=0)
    return [one for one in mine if one.case.options["hidden"] == widest]


def _has(one: Found, *models: str) -> bool:
    return all(model in one.result["models"] and model in one.result["seconds"] for model in models)


def _lengths(one: Found) -> list[int]:
    """The shortest and the longest that were timed."""
    lengths = sorted({length for _, length in one.result["shapes"]})
    return [lengths[0], lengths[-1]] if len(lengths) > 1 else lengths


def _batches(one: Found) -> list[int]:
    """Those that were timed at the shortest and at the longest length: else a length's figure would be a batch's."""
    at = [{batch for batch, steps in one.result["shapes"] if steps == length} for length in _lengths(one)]
    return sorted(set.intersection(*at))


def _time_ratio(one: Found, model: str, other: str, what: str, length: int | None = None) -> Interval:
    """Geometric mean of the ratio of times over batches (`_batches` at one length, or over all shapes), a figure a
    repeat, with Student's interval over repeats."""
    shapes, batches = one.result["shapes"], _batches(one)
    kept = [i for i, (b, steps) in enumerate(shapes) if length is None or (steps == length and b in batches)]
    a, b = (np.asarray(one.result["seconds"][name][what], dtype=float)[kept] for name in (model, other))
    return geometric(np.exp(np.log(a / b).mean(axis=0)))


def _exact(one: Found, model: str, other: str, what: str) -> Interval | None:
    counts = [one.result["models"][name].get(what) for name in (model, other)]
    if None in counts:
        return None
    ratio = counts[0] / counts[1]
    return Interval(ratio, ratio, ratio)


def _ratio_conditions(
    found: Sequence[Found], model: str, other: str, regions: Mapping[str, tuple[float, float]]
) -> list[Condition]:
    """Parameters and FLOPs, which are exact, and times of each backend, of ``model`` over ``other`` at equal width."""
    conditions, width = [], [one for one in _cost(found) if _has(one, model, other)]
    for name, key in (("parameters", "params_mixer"), ("FLOPs", "flops_per_token")):
        figure = _exact(width[0], model, other, key) if width else None
        if figure is not None:
            low, high = regions[name]
            axes, bounds = {"measure": name, "backend": "", "length": ""}, (low - EXACT, high + EXACT)
            conditions.append(Condition.of(axes, figure, "times", bounds, _region(low, high), [width[0].folder]))
    cells = [(one, what, length) for one in width for what in TIMES for length in _lengths(one)]
    for one, what, length in cells:
        backend = str(one.result["backend"])
        axes = {"measure": TIMES[what], "backend": BACKENDS.get(backend, backend), "length": f"{length:,}"}
        figure, region = _time_ratio(one, model, other, what, length), _region(*regions["time"])
        note = f"{BACKENDS.get(backend, backend)}: batches of {listed([str(batch) for batch in _batches(one)])}"
        conditions.append(Condition.of(axes, figure, "times", regions["time"], region, [one.folder], note))
    return conditions


def _region(low: float, high: float) -> str:
    if low == high:
        return f"exactly {low:g}"
    return f"at most {high:g}" if low <= 0 else f"{low:g} to {high:g}"


def lstm_fourfold(found: Sequence[Found]) -> Claim:
    """Claim 3."""
    regions = dict.fromkeys(("parameters", "FLOPs", "time"), FOURFOLD)
    conditions = _ratio_conditions(found, LSTM, RNN, regions)
    return Claim(
        3,
        "An LSTM costs four times a plain RNN.",
        "textbooks and courses, from its four gates against one layer",
        "at equal width: parameters and floating-point operations counted, milliseconds measured side by side in one "
        "process, order shuffled in every repeat, as the geometric mean of the ratio over the batches that were timed "
        "at the shortest and at the longest length, at each of the two; the interval is over repeats, ratios are "
        "within one backend only",
        _times_statement("an LSTM", "a plain RNN", conditions, found),
        conditions,
        _equal_parameters(found, LSTM, RNN),
    )


def _times_statement(one: str, other: str, conditions: Sequence[Condition], found: Sequence[Found]) -> str:
    """``An LSTM has 4 times the parameters ... of a plain RNN of the same width; its training step takes ...``."""
    if not conditions:
        return "Not measured."
    counts = [f"{rounded(c.figure.value)} times the {c.axes['measure']}" for c in conditions if not c.axes["backend"]]
    said: list[str] = []
    for backend in dict.fromkeys(c.axes["backend"] for c in conditions if c.axes["backend"]):
        mine = [c for c in conditions if c.axes["backend"] == backend and c.axes["measure"] == TIMES["train"]]
        unit = "" if said else "times as long"  # once is enough
        ends = [f"{figure_text(c.figure, unit, 2)} at {c.axes['length']} steps" for c in mine]
        said.append(f"{' and '.join(ends)} with {WITH.get(backend, backend)}")
    text = (
        f"{one} has {listed(counts)} of {other} of the same width; its training step takes {', '.join(said)} "
        f"({machine(_cost(found)[0])})."
    )
    return text[:1].upper() + text[1:]


def _equal_parameters(found: Sequence[Found], model: str, other: str) -> list[Asides]:
    """Over all shapes."""
    said = [
        Aside(f"{words}: {figure_text(_time_ratio(one, model, other, what), 'times')}", [one.folder])
        for one in _cost(found, "params")
        if _has(one, model, other)
        for what, words in TIMES.items()
    ]
    return [Asides("At equal parameters, over all lengths and batches:", said)]


def lstm_parameters() -> Claim:
    """Claim 4; counted here and now, of the registered mixer itself."""
    from seqbench.registry import MODELS

    mixer = MODELS.get(LSTM).mixer
    off: dict[str, list[float]] = {"one a gate": [], "PyTorch's two a gate": []}
    for d, h in SIZES:
        tensors = list(mixer(d, h, True).parameters())
        count, bias = sum(p.numel() for p in tensors), max(p.numel() for p in tensors if p.ndim == 1)
        for biases, found in zip(off, (count - bias, count), strict=True):
            off[biases].append(found - 4 * (d + h + 1) * h)
    conditions = [
        Condition.of(
            {"biases": biases},
            Interval(max(found, key=abs), min(found), max(found)),
            "parameters off",
            (0, 0),
            "none off",
            (),
        )
        for biases, found in off.items()
    ]
    d, h = 128, 128
    formula, count = 4 * (d + h + 1) * h, sum(p.numel() for p in mixer(d, h, True).parameters())
    return Claim(
        4,
        "LSTM parameters = 4 x (input + hidden + 1) x hidden.",
        "textbooks; Gers, Schmidhuber and Cummins 2000 for the cell with a forget gate",
        f"the registered layer's parameters counted at {len(SIZES)} pairs of input and hidden size, "
        f"{SIZES[0]} to {SIZES[-1]}, less the formula; PyTorch keeps two bias vectors, of which one is redundant",
        f"The formula counts one bias for each gate; PyTorch keeps two, so an LSTM of 128 inputs and 128 units has "
        f"{count:,} parameters, {count - formula:,} more than the {formula:,} of the formula.",
        conditions,
    )


def gru_lighter(found: Sequence[Found], board: Path) -> Claim:
    """Claim 7; skills come from the records under ``board``."""
    regions = {
        "parameters": (LIGHTER["parameters"],) * 2,
        "FLOPs": (0.0, LIGHTER["FLOPs"]),
        "time": (0.0, LIGHTER["time"]),
    }
    conditions = _ratio_conditions(found, GRU, LSTM, regions)
    skills = skill_conditions(board, GRU, LSTM, MARGIN)
    sides = [condition.inside for condition in skills]
    more = f" Its skill is not inferior by {MARGIN:g} on {sides.count(True)} of {len(sides)} tasks" if skills else ""
    more += f", inferior on {sides.count(False)}." if skills else ""
    return Claim(
        7,
        "The GRU is the lighter LSTM, as good at less cost.",
        "Cho et al. 2014; Chung et al. 2014",
        "at equal width: parameters and floating-point operations counted, times side by side as for claim 3, and "
        f"skill on the board's tasks, paired over seeds and test examples, not inferior by {MARGIN:g}",
        _times_statement("a GRU", "an LSTM", conditions, found) + more,
        [*conditions, *skills],
        _equal_parameters(found, GRU, LSTM),
        lacks="" if skills else "no records of tasks to compare skills in",
    )


def attention_price(cost: Sequence[Found]) -> list[Aside]:
    """What attention takes, as sentences: the square in time, and the floats it carries."""
    asides = []
    for one in _cost(cost):
        if one.result["backend"] != "kernel" or not _has(one, ATTENTION, LSTM):
            continue
        lines = []
        fit = (one.result["fit"].get(ATTENTION) or {}).get("train")
        if fit is not None and fit["trusted"]:
            q = Interval(*(math.inf if x is None else x * 1e12 for x in fit["q"]))
            lines.append(
                f"A training step's time holds a square of the length: {figure_text(q, 'ps')} for each pair of steps."
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

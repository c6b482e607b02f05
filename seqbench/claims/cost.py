"""Claims 3 and 7: parameters, arithmetic and time. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seqbench.claims.claim import Aside, Asides, Claim, machine
from seqbench.claims.names import GRU, LSTM, RNN, title
from seqbench.claims.skills import skill_conditions
from seqbench.claims.verdict import Condition
from seqbench.probes import Found
from seqbench.probes.fit import geometric
from seqbench.report.text import interval_text, listed, rounded
from seqbench.stats import Interval

__all__ = ["MARGIN", "cases_of", "gru_lighter", "has", "lstm_fourfold"]

FOURFOLD = (3.2, 4.8)
EXACT = 1e-9
LIGHTER = {"parameters": 0.75, "FLOPs": 0.8, "time": 0.9}
MARGIN = 0.02  # of skill, within which GRU is not inferior
BACKENDS = {"kernel": "torch's kernel", "loop": "Python loop"}
NO_SHAPE = {"backend": "", "batch": "", "length": ""}
WITH = {"Python loop": "a loop in Python"}
TIMES = {"train": "training time", "forward": "forward time"}


def cases_of(found: Sequence[Found], track: str = "width") -> list[Found]:
    """Cases of a track at its greatest width: a narrow one is there for the serial floor only."""
    mine = [one for one in found if one.result["track"] == track]
    widest = max((one.case.options["hidden"] for one in mine), default=0)
    return [one for one in mine if one.case.options["hidden"] == widest]


def has(one: Found, *models: str) -> bool:
    """Whether all of ``models`` were timed in that case."""
    return all(model in one.result["models"] and model in one.result["seconds"] for model in models)


def _corners(one: Found) -> list[tuple[int, int]]:
    """(batch, length): the smallest and the largest batch, each at the shortest and the longest length it was timed at.

    A mean over shapes would hide that the ratio is a matter of the batch.
    """
    lengths: dict[int, list[int]] = {}
    for batch, length in one.result["shapes"]:
        lengths.setdefault(batch, []).append(length)
    ends = ((batch, end(lengths[batch])) for batch in (min(lengths), max(lengths)) for end in (min, max))
    return list(dict.fromkeys(ends))


def _time_ratio(one: Found, model: str, other: str, what: str, shape: tuple[int, int] | None = None) -> Interval:
    """Ratio of times at one shape, or its geometric mean over all, with Student's interval over repeats."""
    kept = [i for i, it in enumerate(one.result["shapes"]) if shape is None or tuple(it) == shape]
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
    conditions, width = [], [one for one in cases_of(found) if has(one, model, other)]
    for name, key in (("parameters", "params_mixer"), ("FLOPs", "flops_per_token")):
        figure = _exact(width[0], model, other, key) if width else None
        if figure is not None:
            low, high = regions[name]
            axes, bounds = {"measure": name, **NO_SHAPE}, (low - EXACT, high + EXACT)
            conditions.append(Condition.of(axes, figure, "times", bounds, _region(low, high), [width[0].folder]))
    cells = [(one, what, shape) for one in width for what in TIMES for shape in _corners(one)]
    for one, what, shape in cells:
        backend = BACKENDS.get(one.result["backend"], str(one.result["backend"]))
        batch, length = (f"{size:,}" for size in shape)
        axes = {"measure": TIMES[what], "backend": backend, "batch": batch, "length": length}
        figure, region = _time_ratio(one, model, other, what, shape), _region(*regions["time"])
        conditions.append(Condition.of(axes, figure, "times", regions["time"], region, [one.folder]))
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
        "process, order shuffled in every repeat, at the smallest and the largest batch, each at its shortest and its "
        "longest length; the interval of the ratio is over repeats, ratios are within one backend only",
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
        ordered = sorted(mine, key=lambda c: c.figure.value)
        least, most = ordered[0], ordered[-1]
        unit = "" if said else "times as long"  # once is enough
        said.append(f"{_at(least, unit)} to {_at(most, unit)} with {WITH.get(backend, backend)}")
    text = (
        f"{one} has {listed(counts)} of {other} of the same width; its training step takes from "
        f"{', and from '.join(said)} ({machine(cases_of(found)[0])})."
    )
    return text[:1].upper() + text[1:]


def _at(it: Condition, unit: str) -> str:
    steps = f"at batch {it.axes['batch']} and {it.axes['length']} steps"
    return f"{interval_text(it.figure, unit, 2)} {steps}"


def _equal_parameters(found: Sequence[Found], model: str, other: str) -> list[Asides]:
    """Over all shapes."""
    said = []
    for one, what in ((one, what) for one in cases_of(found, "params") if has(one, model, other) for what in TIMES):
        ratio = interval_text(_time_ratio(one, model, other, what), "times")
        said.append(Aside(f"{TIMES[what]}, {_sizes(one, model, other)}: {ratio}", [one.folder]))
    heading = f"{title(model)} over {title(other)} at equal parameters, mean over all lengths and batches:"
    return [Asides(heading, said)]


def _sizes(one: Found, *models: str) -> str:
    counts = [f"{one.result['models'][model]['params_mixer']:,}" for model in models]
    return f"{' and '.join(counts)} parameters, {BACKENDS.get(one.result['backend'], one.result['backend'])}"


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
        f"skill on the board's tasks, paired over seeds and test examples, not inferior by {MARGIN:g}; lighter is "
        f"exactly {LIGHTER['parameters']:g} of the parameters, {LIGHTER['FLOPs']:g} of the FLOPs and "
        f"{LIGHTER['time']:g} of the time at most",
        _times_statement("a GRU", "an LSTM", conditions, found) + more,
        [*conditions, *skills],
        _equal_parameters(found, GRU, LSTM),
        lacks="" if skills else "no records of tasks to compare skills in",
    )

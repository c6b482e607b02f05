"""Claims 3 and 7: parameters, arithmetic and time. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seqbench.claims.claim import Aside, Asides, Claim, figure_text, machine, rounded
from seqbench.claims.names import GRU, LSTM, RNN
from seqbench.claims.skills import skill_conditions
from seqbench.claims.verdict import Condition
from seqbench.leaderboard.text import listed
from seqbench.probes import Found
from seqbench.probes.fit import geometric
from seqbench.stats import Interval

__all__ = ["MARGIN", "cases_of", "gru_lighter", "has", "lstm_fourfold"]

FOURFOLD = (3.2, 4.8)
EXACT = 1e-9
LIGHTER = {"parameters": 0.75, "FLOPs": 0.8, "time": 0.9}
MARGIN = 0.02  # of skill, within which GRU is not inferior
BACKENDS = {"kernel": "torch's kernel", "loop": "Python loop"}
WITH = {"Python loop": "a loop in Python"}
TIMES = {"train": "time of a training step", "forward": "time of a forward pass"}


def cases_of(found: Sequence[Found], track: str = "width") -> list[Found]:
    """Cases of a track at its greatest width: a narrow one is there for the serial floor only."""
    mine = [one for one in found if one.result["track"] == track]
    widest = max((one.case.options["hidden"] for one in mine), default=0)
    return [one for one in mine if one.case.options["hidden"] == widest]


def has(one: Found, *models: str) -> bool:
    """Whether all of ``models`` were timed in that case."""
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
    conditions, width = [], [one for one in cases_of(found) if has(one, model, other)]
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
        f"({machine(cases_of(found)[0])})."
    )
    return text[:1].upper() + text[1:]


def _equal_parameters(found: Sequence[Found], model: str, other: str) -> list[Asides]:
    """Over all shapes."""
    said = [
        Aside(f"{words}: {figure_text(_time_ratio(one, model, other, what), 'times')}", [one.folder])
        for one in cases_of(found, "params")
        if has(one, model, other)
        for what, words in TIMES.items()
    ]
    return [Asides("At equal parameters, over all lengths and batches:", said)]


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

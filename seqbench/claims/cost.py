"""Claims 3 and 7: parameters, arithmetic, time, and skill on the board."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from seqbench.board import BoardTable, paired_skill
from seqbench.claims import Evidence, register_claim
from seqbench.claims.names import GRU, LSTM, RNN, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.probes import Measured
from seqbench.probes.cost import CostResult, Kind
from seqbench.probes.shared.fits import geometric, machine_text
from seqbench.report.text import interval_text, listed, rounded
from seqbench.stats import Interval

__all__ = ["SideBySide", "gru_lighter", "lstm_fourfold", "skill_conditions", "timed_at_width"]


SideBySide = Measured[CostResult]

FOURFOLD = (3.2, 4.8)
LIGHTER = {"parameters": (0.75, 0.75), "FLOPs": (0.0, 0.8), "time": (0.0, 0.9)}
MARGIN = 0.02  # of skill, within which GRU is not inferior
BACKENDS = {"kernel": "torch's kernel", "loop": "a loop in Python"}
TIMES: dict[Kind, str] = {"train": "training time", "forward": "forward time"}
NO_SHAPE = {"backend": "", "batch": "", "length": ""}
THOROUGH = ("full", "standard", "quick")  # budgets of the board, the best first


@register_claim(3, needs={"cost": ()})
def lstm_fourfold(evidence: Evidence) -> Claim:
    """LSTM over plain RNN."""
    timings = timed_at_width(evidence.of("cost"), LSTM, RNN)
    conditions = _ratios(timings, LSTM, RNN, dict.fromkeys(("parameters", "FLOPs", "time"), FOURFOLD))
    return Claim(
        "An LSTM costs four times a plain RNN.",
        "textbooks and courses, from its four gates against one layer",
        "at equal width: parameters and floating-point operations counted, milliseconds measured side by side in one "
        "process, order shuffled in every repeat, at the smallest and the largest batch, each at its shortest and its "
        "longest length; the interval of the ratio is over repeats; ratios are within one backend, torch's kernel or a "
        "loop in Python",
        _statement(timings[0], LSTM, RNN, conditions) if timings else NOT_MEASURED,
        conditions,
        _at_equal_parameters(evidence, LSTM, RNN),
    )


@register_claim(7, needs={"cost": ()})
def gru_lighter(evidence: Evidence) -> Claim:
    """GRU over LSTM, in what it costs and in what it can do."""
    timings = timed_at_width(evidence.of("cost"), GRU, LSTM)
    conditions = _ratios(timings, GRU, LSTM, LIGHTER)
    skills = skill_conditions(evidence.tables, GRU, LSTM)
    sides = [condition.inside for condition in skills]
    statement = _statement(timings[0], GRU, LSTM, conditions) if timings else NOT_MEASURED
    if skills:
        statement += (
            f" Its skill is not inferior by {MARGIN:g} on {sides.count(True)} of {len(sides)} tasks, inferior on "
            f"{sides.count(False)}."
        )
    exactly, flops, time = (LIGHTER[name][1] for name in LIGHTER)
    return Claim(
        "The GRU is the lighter LSTM, as good at less cost.",
        "Cho et al. 2014; Chung et al. 2014",
        "at equal width: parameters and floating-point operations counted, times side by side as for claim 3, and "
        f"skill on the board's tasks, paired over seeds and test examples, not inferior by {MARGIN:g}; lighter is "
        f"exactly {exactly:g} of the parameters, {flops:g} of the FLOPs and {time:g} of the time at most",
        statement,
        [*conditions, *skills],
        _at_equal_parameters(evidence, GRU, LSTM),
        "" if skills else "no records of tasks to compare skills in",
    )


# --- parameters, arithmetic and time ---------------------------------------------------------------------------------


def timed_at_width(measured: Sequence[SideBySide], *models: str, track: str = "width") -> list[SideBySide]:
    """Those of a track that timed ``models``, at the greatest width: a narrow one is there for the serial floor."""
    timings = [one for one in measured if one.result.track == track]
    widest = max((one.spec.options["hidden"] for one in timings), default=0)
    return [one for one in timings if one.spec.options["hidden"] == widest and set(models) <= set(one.result.seconds)]


def _ratios(
    timings: Sequence[SideBySide], model: str, other: str, regions: Mapping[str, tuple[float, float]]
) -> list[Condition]:
    """Parameters and FLOPs, which are exact, and times of each backend, of ``model`` over ``other``."""
    conditions = []
    for one in timings[:1]:
        mine, others = one.result.models[model], one.result.models[other]
        counts: dict[str, tuple[float, float]] = {"parameters": (mine.params_mixer, others.params_mixer)}
        if mine.flops_per_token and others.flops_per_token:
            counts["FLOPs"] = mine.flops_per_token, others.flops_per_token
        for name, (count, of) in counts.items():
            ratio = Interval(count / of, count / of, count / of)
            axes = {"measure": name, **NO_SHAPE}
            conditions.append(Condition.of(axes, ratio, "times", regions[name], [one.folder]))
    for one in timings:
        for what, words in TIMES.items():
            for batch, length in _corners(one):
                ratio = _time_ratio(one, model, other, what, (batch, length))
                axes = {"measure": words, "backend": one.result.backend, "batch": f"{batch:,}", "length": f"{length:,}"}
                conditions.append(Condition.of(axes, ratio, "times", regions["time"], [one.folder]))
    return conditions


def _corners(one: SideBySide) -> list[tuple[int, int]]:
    """(batch, length): the smallest and the largest batch, each at the shortest and the longest length it was timed at.

    A mean over shapes would hide that the ratio is a matter of the batch.
    """
    lengths: dict[int, list[int]] = {}
    for batch, length in one.result.shapes:
        lengths.setdefault(batch, []).append(length)
    ends = ((batch, end(lengths[batch])) for batch in (min(lengths), max(lengths)) for end in (min, max))
    return list(dict.fromkeys(ends))


def _time_ratio(one: SideBySide, model: str, other: str, what: Kind, shape: tuple[int, int] | None = None) -> Interval:
    """Ratio of times at one shape, or its geometric mean over all, with Student's interval over repeats."""
    kept = [i for i, timed in enumerate(one.result.shapes) if shape in (None, tuple(timed))]
    mine, others = (np.asarray(one.result.seconds[name][what], dtype=float)[kept] for name in (model, other))
    return geometric(np.exp(np.log(mine / others).mean(axis=0)))


def _statement(one: SideBySide, model: str, other: str, conditions: Sequence[Condition]) -> str:
    """``An LSTM has 4 times the parameters ... of a plain RNN of the same width; its training step takes ...``."""
    counts = [f"{rounded(c.figure.value)} times the {c.axes['measure']}" for c in conditions if not c.axes["backend"]]
    said: list[str] = []
    for backend in dict.fromkeys(c.axes["backend"] for c in conditions if c.axes["backend"]):
        times = [c for c in conditions if c.axes["backend"] == backend and c.axes["measure"] == TIMES["train"]]
        times.sort(key=lambda condition: condition.figure.value)
        unit = "" if said else "times as long"  # once is enough
        said.append(f"{_at(times[0], unit)} to {_at(times[-1], unit)} with {BACKENDS.get(backend, backend)}")
    name, reference = (model_title(of, article=True) for of in (model, other))
    return (
        f"{name[:1].upper()}{name[1:]} has {listed(counts)} of {reference} of the same width; its training step takes "
        f"from {', and from '.join(said)} ({machine_text(one.spec)})."
    )


def _at(condition: Condition, unit: str) -> str:
    figure, axes = interval_text(condition.figure, unit, 2), condition.axes
    return f"{figure} at batch {axes['batch']} and {axes['length']} steps"


def _at_equal_parameters(evidence: Evidence, model: str, other: str) -> dict[str, list[Aside]]:
    said = []
    for one in timed_at_width(evidence.of("cost"), model, other, track="params"):
        sizes = " and ".join(f"{one.result.models[name].params_mixer:,}" for name in (model, other))
        backend = BACKENDS.get(one.result.backend, one.result.backend)
        for what, words in TIMES.items():
            ratio = interval_text(_time_ratio(one, model, other, what), "times")
            said.append(Aside(f"{words}, {sizes} parameters, {backend}: {ratio}", [one.folder]))
    pair = f"{model_title(model)} over {model_title(other)}"
    return {f"{pair} at equal parameters, mean over all lengths and batches:": said}


# --- skill -----------------------------------------------------------------------------------------------------------


def skill_conditions(tables: Sequence[BoardTable], model: str, other: str, margin: float = MARGIN) -> list[Condition]:
    """The skill of ``model`` minus that of ``other`` on each task, at equal width.

    ``model`` is not inferior where the interval lies above -``margin``. Of each task the most thorough budget counts
    that has both. A task on which one of the two is incomplete is undecided, and says so.
    """
    conditions: dict[str, Condition] = {}
    usable = [it for it in tables if it.conditions.track.startswith("equal width") and it.conditions.budget in THOROUGH]
    for table in sorted(usable, key=lambda table: THOROUGH.index(table.conditions.budget)):
        task, paired = table.conditions.task, paired_skill(table, model, other)
        if paired and task not in conditions:
            known = paired.difference is not None
            conditions[task] = Condition.of(
                {"measure": f"skill on {task} ({table.conditions.budget})", **NO_SHAPE},
                paired.difference or UNKNOWN,
                "of skill",
                (-margin, math.inf),
                paired.folders,
                "" if known else f"{task}: {paired.states}",
            )
            if known:
                conditions[task] = conditions[task].if_seeds(len(paired.seeds))
    return [conditions[task] for task in sorted(conditions)]

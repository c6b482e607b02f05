"""Claims 3, 4 and 7: parameters, arithmetic, time, and skill on the board."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from seqbench.board import BoardTable, PairedSkill, paired_skill
from seqbench.claims import Evidence, public, register_claim
from seqbench.claims.names import GRU, LSTM, RNN, THOROUGH, model_title
from seqbench.claims.rules import NOT_MEASURED, UNKNOWN, Aside, Claim, Condition
from seqbench.probes import Measured
from seqbench.probes.cost import CostResult, Kind
from seqbench.probes.shared.fits import geometric, machine_text
from seqbench.report.text import interval_text, listed, rounded
from seqbench.stats import Interval

__all__ = ["SideBySide", "gru_lighter", "lstm_fourfold", "lstm_parameters", "skill_conditions", "timed"]

SideBySide = Measured[CostResult]
Regions = Mapping[str, tuple[float, float]]  # by measure

TIMES: dict[Kind, str] = {"train": "training time", "forward": "forward time"}
LIGHTER = {"parameters": (0.75, 0.75), "FLOPs": (0.0, 0.8), **dict.fromkeys(TIMES.values(), (0.0, 0.9))}
FOURFOLD = dict.fromkeys(LIGHTER, (3.2, 4.8))
MARGIN = 0.02  # of skill, within which GRU is not inferior; at most half of what the best model has
BACKENDS = {"kernel": "torch's kernel", "loop": "a loop in Python"}
NO_SHAPE = {"backend": "", "batch": "", "length": ""}
SIZES = ((128, 128), (1, 1), (3, 5), (16, 64), (64, 128), (128, 64), (300, 256))  # inputs and units, an example first


@register_claim(3, needs={"cost": ()})
def lstm_fourfold(evidence: Evidence) -> Claim:
    """LSTM over plain RNN."""
    return Claim(
        "An LSTM costs four times a plain RNN.",
        "textbooks and courses, from its four gates against one layer",
        "at equal width: parameters and floating-point operations counted, milliseconds measured side by side in one "
        "process, order shuffled in every repeat, at the smallest and the largest batch, each at its shortest and its "
        "longest length; the interval of the ratio is over repeats; ratios are within one backend, torch's kernel or a "
        "loop in Python",
        *_compared(evidence, LSTM, RNN, FOURFOLD),
        _at_equal_parameters(evidence, LSTM, RNN),
    )


@register_claim(4)
def lstm_parameters(evidence: Evidence) -> Claim:
    """Counted here and now, of the registered mixer itself."""
    from seqbench.models.mixer import MODELS

    off: dict[str, list[int]] = {"one per gate": [], "PyTorch's two per gate": []}  # biases
    for d, h in SIZES:
        tensors = list(MODELS.get(LSTM).mixer(d, h, True).parameters())
        whole, bias = sum(p.numel() for p in tensors), max(p.numel() for p in tensors if p.ndim == 1)
        for counted, count in zip(off.values(), (whole - bias, whole), strict=True):
            counted.append(count - _formula(d, h))
    (d, h), formula, more = SIZES[0], _formula(*SIZES[0]), off["PyTorch's two per gate"][0]
    return Claim(
        "LSTM parameters = 4 x (input + hidden + 1) x hidden.",
        "textbooks; Gers, Schmidhuber and Cummins 2000 for the cell with a forget gate",
        f"the registered layer's parameters counted at {len(SIZES)} pairs of input and hidden size, "
        f"{min(SIZES)} to {max(SIZES)}, less the formula; PyTorch keeps two bias vectors, of which one is redundant",
        f"The formula counts one bias for each gate; PyTorch keeps two, so an LSTM of {d} inputs and {h} units has "
        f"{formula + more:,} parameters, {more:,} more than the {formula:,} of the formula.",
        [
            Condition.of(
                {"biases": biases},
                Interval(max(counted, key=abs), min(counted), max(counted)),
                "parameters off",
                (0, 0),
                note=f"{biases}: the interval goes from the least to the greatest of the {len(SIZES)} pairs",
            )
            for biases, counted in off.items()
        ],
    )


def _formula(d: int, h: int) -> int:
    return 4 * (d + h + 1) * h


@register_claim(7, needs={"cost": ()})
def gru_lighter(evidence: Evidence) -> Claim:
    """GRU over LSTM, in what it costs and in what it can do."""
    statement, conditions = _compared(evidence, GRU, LSTM, LIGHTER)
    skills = skill_conditions(evidence.tables, GRU, LSTM)
    sides = [condition.inside for condition in skills if condition.tested]
    if skills:
        silent = len(skills) - len(sides)
        statement += (
            f" Its skill is not inferior by {MARGIN:g} on {sides.count(True)} of {len(skills)} tasks, inferior on "
            f"{sides.count(False)}" + (f"; {silent} can't tell." if silent else ".")
        )
    parameters, flops, time, _ = (most for _, most in LIGHTER.values())
    return Claim(
        "The GRU is the lighter LSTM, as good at less cost.",
        "Cho et al. 2014; Chung et al. 2014",
        "at equal width: parameters and floating-point operations counted, times side by side as for claim 3, and "
        f"skill on the board's tasks, paired over seeds and test examples, not inferior by {MARGIN:g} (or half of "
        "the best model's skill, if that is less) where a difference of that size would be found, or where it is at "
        "least as good with its whole interval; lighter is "
        f"exactly {parameters:g} of the parameters, {flops:g} of the FLOPs and {time:g} of the time at most",
        statement,
        [*conditions, *skills],
        _at_equal_parameters(evidence, GRU, LSTM),
        "" if skills else "no records of tasks to compare skills in",
    )


# --- parameters, arithmetic and time ---------------------------------------------------------------------------------


def timed(evidence: Evidence, *models: str, track: str = "width") -> list[SideBySide]:
    """Those of a track that timed ``models``, at the greatest width: a narrow one is there for the serial floor."""
    timings = [one for one in evidence.of("cost") if one.result.track == track]
    widest = max((one.spec.options["hidden"] for one in timings), default=0)
    return [one for one in timings if one.spec.options["hidden"] == widest and set(models) <= set(one.result.seconds)]


def _compared(evidence: Evidence, model: str, other: str, regions: Regions) -> tuple[str, list[Condition]]:
    """What ``model`` costs over ``other``, in words and in figures."""
    timings = timed(evidence, model, other)
    if not timings:
        return NOT_MEASURED, []
    conditions = list(_ratios(timings, model, other, regions))
    counts = [f"{rounded(c.figure.value)} times the {c.axes['measure']}" for c in conditions if not c.axes["backend"]]
    takes: list[str] = []
    for backend in dict.fromkeys(one.result.backend for one in timings):
        times = [c for c in conditions if (c.axes["backend"], c.axes["measure"]) == (backend, TIMES["train"])]
        times.sort(key=lambda condition: condition.figure.value)
        unit = "" if takes else "times as long"  # once is enough
        ends = [
            f"{interval_text(end.figure, unit, 2)} at batch {end.axes['batch']} and {end.axes['length']} steps"
            for end in (times[0], times[-1])
        ]
        takes.append(f"from {' to '.join(ends)} with {BACKENDS[backend]}")
    name, whom = model_title(model, article=True), model_title(other, article=True)
    statement = (
        f"{name[:1].upper()}{name[1:]} has {listed(counts)} of {whom} of the same width; its training step takes "
        f"{', and '.join(takes)} ({machine_text(timings[0].spec)})."
    )
    return statement, conditions


def _ratios(timings: Sequence[SideBySide], model: str, other: str, regions: Regions) -> Iterator[Condition]:
    """Parameters and FLOPs, which are exact, and times of each backend."""

    def condition(one: SideBySide, measure: str, ratio: Interval, **shape: str) -> Condition:
        axes = {"measure": measure, **NO_SHAPE, **shape}
        return Condition.of(axes, ratio, "times", regions[measure], records=[one.folder])

    first = timings[0]
    counts = {name: first.result.models[name] for name in (model, other)}
    ratio = counts[model].params_mixer / counts[other].params_mixer
    yield condition(first, "parameters", Interval(ratio, ratio, ratio))
    if (mine := counts[model].flops_per_token) and (others := counts[other].flops_per_token):
        yield condition(first, "FLOPs", Interval(mine / others, mine / others, mine / others))
    for one in timings:
        for kind, words in TIMES.items():
            for batch, length in _corners(one.result.shapes):
                shape = {"backend": one.result.backend, "batch": f"{batch:,}", "length": f"{length:,}"}
                yield condition(one, words, _time_ratio(one, kind, model, other, (batch, length)), **shape)


def _corners(shapes: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """(batch, length): the smallest and the largest batch, each at the shortest and the longest length it was timed at.

    A mean over shapes would hide that the ratio is a matter of the batch.
    """
    ordered = sorted((batch, length) for batch, length in shapes)
    ends = [[shape for shape in ordered if shape[0] == batch] for batch in (ordered[0][0], ordered[-1][0])]
    return list(dict.fromkeys(at_end for end in ends for at_end in (end[0], end[-1])))


def _time_ratio(one: SideBySide, kind: Kind, model: str, other: str, shape: tuple[int, int] | None = None) -> Interval:
    """Ratio of times at one shape, or its geometric mean over all, with Student's interval over repeats."""
    kept = [i for i, timed_at in enumerate(one.result.shapes) if shape in (None, tuple(timed_at))]
    mine, others = (np.asarray(one.result.seconds[name][kind], dtype=float)[kept] for name in (model, other))
    return geometric(np.exp(np.log(mine / others).mean(axis=0)))


def _at_equal_parameters(evidence: Evidence, model: str, other: str) -> dict[str, list[Aside]]:
    asides = []
    for one in timed(evidence, model, other, track="params"):
        sizes = " and ".join(f"{one.result.models[name].params_mixer:,}" for name in (model, other))
        backend = BACKENDS[one.result.backend]
        for kind, words in TIMES.items():
            ratio = interval_text(_time_ratio(one, kind, model, other), "times")
            asides.append(Aside(f"{words}, {sizes} parameters, {backend}: {ratio}", [one.folder]))
    names = f"{model_title(model)} over {model_title(other)}"
    return {f"{names} at equal parameters, mean over all lengths and batches:": asides}


# --- skill -----------------------------------------------------------------------------------------------------------


def skill_conditions(tables: Sequence[BoardTable], model: str, other: str) -> list[Condition]:
    """The skill of ``model`` minus that of ``other`` on each task, at equal width.

    ``model`` is not inferior where the interval lies above minus the margin: `MARGIN`, or half of the best model's
    skill if that is less. A task on which so small a difference would not be found can't tell, unless ``model`` is
    plainly worse there, or at least as good. Of each task the most thorough budget counts that has both. A task on
    which one of the two is incomplete is undecided, and says so.
    """
    conditions: dict[str, Condition] = {}
    for budget in THOROUGH:
        for table in public(tables):
            about = table.conditions
            if about.budget != budget or about.task in conditions or not about.track.startswith("equal width"):
                continue
            if paired := paired_skill(table, model, other):
                conditions[about.task] = _not_inferior(paired, about.task, budget)
    return [conditions[task] for task in sorted(conditions)]


def _not_inferior(paired: PairedSkill, task: str, budget: str) -> Condition:
    """One task's condition of `skill_conditions`."""
    margin = MARGIN if math.isnan(paired.lead) else max(0.0, min(MARGIN, paired.lead / 2))
    condition = Condition.of(
        {"measure": f"skill on {task} ({budget})", **NO_SHAPE},
        paired.difference or UNKNOWN,
        "of skill",
        (-margin, math.inf),
        records=paired.folders,
    )
    condition = condition.if_known(paired.difference is not None, f"{task}: {paired.states}")
    condition = condition.if_seeds(len(paired.seeds))
    told = condition.inside is False or condition.figure.low >= 0  # worse, or at least as good
    if told or math.isnan(paired.least):
        return condition
    least = rounded(paired.least, 2)
    why = f"{task}: differences under {least} would not be found here, the margin is {rounded(margin, 2)}"
    return condition.if_tested(paired.least < margin, why)

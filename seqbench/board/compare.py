"""From records to tables: who is compared with whom, at which learning rate, and which differences are significant.

Runs of the same conditions (`Conditions`) make one table. Each model stands in it at the learning rate that validation
chose (`Entrant`); the test is never asked. Everything said about a model rests on `Figures`: a value of each seed, and
the same without each group of test examples. Of two models the same seeds and test groups are compared (paired), and
adjusted p-values hold for a family: all pairs of one table, or all models against its strongest baseline (Holm 1979).

Conditions fall into two parts. The *setting* (budget, track, device, precision, threads ...) means the same on every
task, so that tables of one setting make an `Overview` across tasks. The *variant* (data, options, and what each task's
own defaults decide: steps, dropout ...) tells tables of one task apart. Of each the one with most records is the usual
one, and the others say how they differ from it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from seqbench.board.frame import Array
from seqbench.rates import TRIAL_SEED, chosen_rate
from seqbench.stats import Estimate, Interval, detectable, estimate, holm, rank_intervals
from seqbench.task import BUDGETS

__all__ = [
    "BoardTable",
    "Comparison",
    "Difference",
    "Entrant",
    "Overview",
    "OverviewRow",
    "PairedSkill",
    "Result",
    "Row",
    "make_tables",
    "overviews",
    "paired_skill",
]

ALPHA = 0.05
FROM_TASK = ("steps", "batch_size", "evaluations", "patience", "dropout", "weight_decay")  # defaults are each task's
TRACK = ("hidden", "params", "budget")
T = TypeVar("T")
Ranks = tuple[int, int, int]  # the rank, and the least and greatest one that the significant differences leave open


# --- what a table is made of -----------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """What a table ranks by, None where no run was ok; skill is 0 at the baseline ``reference``, 1 at ``perfect``."""

    metric: str | None
    unit: str | None
    direction: Literal["higher", "lower"] | None
    reference: str | None
    perfect: float | None

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return -1 if self.direction == "lower" else 1


@dataclass(frozen=True, slots=True)
class Result:
    """One record, as far as a table needs it: columns of `load_results`, None where nothing is known.

    ``label`` is the model's name in all tables.
    """

    label: str
    record: str
    model: str
    model_version: int
    model_code_sha256: str | None
    seed: int
    learning_rate: float
    status: str
    reason: str | None
    hidden: str
    params: int | None
    metric: str | None
    unit: str | None
    direction: Literal["higher", "lower"] | None
    reference: str | None
    perfect: float | None
    value: float | None
    validation: float | None
    skill: float | None
    left_out: Array | None
    baselines: dict[str, float]
    baselines_left_out: Array | None
    train_seconds: float | None
    cpu_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    interrupted: bool | None
    device_name: str
    python: str
    torch: str
    seqbench: str
    git_commit: str | None
    git_dirty: bool | None
    finished: str

    @property
    def folder(self) -> Path:
        """Where the record lies."""
        return Path(self.record).parent


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all results of a table share; sizes are those of the first record."""

    task: str
    task_version: int
    task_code_sha256: str | None
    kind: str
    options: dict[str, Any]
    source: str
    data_sha256: str
    n_train: int
    n_val: int
    n_test: int
    budget: str
    device: str
    config: dict[str, Any]

    @property
    def track(self) -> str:
        """`equal width` or `equal parameters`, with the figure that is equal."""
        params, hidden = self.config.get("params"), self.config.get("hidden") or ()
        return f"equal parameters ({params:,})" if params else f"equal width (hidden {', '.join(map(str, hidden))})"

    @property
    def control(self) -> str | None:
        """The control that these models were trained as, if it is one."""
        name = self.config.get("control", "none")
        return None if name == "none" else str(name)

    def setting(self) -> dict[str, Any]:
        """The part that means the same on every task, apart from budget, track and control."""
        apart = (*FROM_TASK, *TRACK, "control")
        config = {name: value for name, value in self.config.items() if name not in apart}
        return {**config, "device": self.device}

    def variant(self) -> dict[str, Any]:
        """The part that is each task's own."""
        return {
            **{name: self.config.get(name) for name in FROM_TASK},
            **{f"option {name}": value for name, value in self.options.items()},
            "task version": self.task_version,
            "task code": (self.task_code_sha256 or "installed")[:12],
            "source": self.source,
            "data": self.data_sha256[:12],
        }


@dataclass(slots=True)
class BaselineResult:
    """A baseline's test figure, its (G,) figures without each test group, and the range that records gave it."""

    value: float
    left_out: Array | None
    least: float
    most: float

    @property
    def uneven(self) -> bool:
        """Whether records disagree about it, which another version of seqbench may have made."""
        return self.most - self.least > 1e-6 * max(abs(self.most), abs(self.least))


class _Group(NamedTuple):
    """Comparable results, in the order in which they were read."""

    conditions: Conditions
    results: list[Result]


def _groups(frame: pd.DataFrame) -> list[_Group]:
    """One for each table, as tables are ordered: by budget, equal width before equal parameters, task, the rest."""
    frame = frame.assign(label=_labels(frame))
    firsts = frame.drop_duplicates("conditions")
    groups = {
        key: _Group(shared, []) for key, shared in zip(firsts["conditions"], _typed(Conditions, firsts), strict=True)
    }
    for key, result in zip(frame["conditions"], _typed(Result, frame), strict=True):
        groups[key].results.append(result)

    def order(group: _Group) -> tuple[Any, ...]:
        shared = group.conditions
        budget = BUDGETS.index(shared.budget) if shared.budget in BUDGETS else len(BUDGETS)
        params, hidden = shared.config.get("params") or 0, list(shared.config.get("hidden") or ())
        rest = _canonical([shared.control, shared.setting(), shared.variant()])
        return budget, shared.budget, params > 0, params, hidden, shared.task, rest

    return sorted(groups.values(), key=order)


def _typed(kind: type[T], frame: pd.DataFrame) -> list[T]:
    """One ``kind``, a dataclass whose fields are columns, for each row; what is missing is None."""
    columns = [frame[column.name].astype(object) for column in fields(kind)]  # type: ignore[arg-type]
    return [kind(*row) for row in zip(*(column.where(column.notna(), None) for column in columns), strict=True)]


def _measure(results: Sequence[Result]) -> Measure:
    """That of the runs that were ok; records from before `perfect` was kept take it from the others."""
    known = sorted(
        (result for result in results if result.metric is not None), key=lambda result: result.perfect is None
    )
    first = known[0] if known else None
    return Measure(*(getattr(first, name, None) for name in Measure._fields))


def _baselines(results: Sequence[Result]) -> dict[str, BaselineResult]:
    """Of each baseline the first figure that comes with its leave-one-out figures, else the first."""
    baselines: dict[str, BaselineResult] = {}
    for result in results:
        for i, (name, value) in enumerate(result.baselines.items()):
            known = baselines.setdefault(name, BaselineResult(value, None, value, value))
            known.least, known.most = min(known.least, value), max(known.most, value)
            if known.left_out is None and result.baselines_left_out is not None:
                known.value, known.left_out = value, _finite(result.baselines_left_out[i])
    return baselines


def _finite(row: Array | None) -> Array | None:
    """None where a figure without some group does not exist."""
    return row if row is not None and np.isfinite(row).all() else None


# --- the learning rate -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entrant:
    """A model at its learning rate: results by seed. ``trials`` has every rate tried, with its result at seed 0 if any.

    ``others`` is the number of results that are neither: further seeds at rates that were not taken.
    """

    rate: float
    results: dict[int, Result]
    trials: dict[float, Result | None]
    others: int

    @property
    def not_applicable(self) -> str | None:
        """Why the model can't honestly be scored, if it can't."""
        if any(result.status != "not_applicable" for result in self.results.values()):
            return None
        return self.first.reason or "no reason given"

    @property
    def first(self) -> Result:
        """One that knows the number of parameters, if there is one."""
        return min(self.results.values(), key=lambda result: result.params is None)

    def complete(self, seeds: tuple[int, ...]) -> bool:
        """Whether every one of ``seeds`` has a figure."""
        return bool(seeds) and all(seed in self.results and self.results[seed].status == "ok" for seed in seeds)

    def state(self, seeds: tuple[int, ...]) -> str:
        """``5/5``, ``4/5 (1 diverged)``, or ``not applicable``."""
        if self.not_applicable:
            return "not applicable"
        bad = Counter(self.results[seed].status if seed in self.results else "missing" for seed in seeds)
        done = bad.pop("ok", 0)
        why = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(bad.items()))
        return f"{done}/{len(seeds)}" + (f" ({why})" if why else "")


def _entrants(results: Sequence[Result], measure: Measure) -> dict[str, Entrant]:
    """Each model of a table by its label."""
    models: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.label, result.learning_rate, result.seed)):
        models.setdefault(result.label, []).append(result)
    return {label: _entrant(runs, measure) for label, runs in models.items()}


def _entrant(results: Sequence[Result], measure: Measure) -> Entrant:
    """From the ``results`` of one model, sorted by learning rate and seed."""
    trials = ((result.seed, result.learning_rate, result.validation) for result in results)
    counts = Counter(result.learning_rate for result in results)
    rate = chosen_rate(trials, measure.direction or "lower")
    if rate is None:  # no run at seed 0 went well: the rate with most runs
        rate = min(counts, key=lambda rate: (-counts[rate], rate))
    first = {result.learning_rate: result for result in results if result.seed == TRIAL_SEED}
    return Entrant(
        rate=rate,
        results={result.seed: result for result in results if result.learning_rate == rate},
        trials={tried: first.get(tried) for tried in counts},
        others=sum(result.learning_rate != rate and result.seed != TRIAL_SEED for result in results),
    )


# --- figures and differences -----------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """(S,) a figure of each seed and (S, G) the same without each test group; G is 0 where records lack that."""

    values: Array
    left_out: Array

    @classmethod
    def of(cls, values: Sequence[float | None], left_out: Sequence[Array | None], n_groups: int) -> Figures:
        """From a figure and a (G,) row of each seed; G is 0 where any row is missing or was made of other groups."""
        rows = [row for row in map(_finite, left_out) if row is not None and len(row) == n_groups]
        stacked = np.stack(rows) if len(rows) == len(left_out) else np.empty((len(left_out), 0))
        return cls(np.array([math.nan if value is None else value for value in values]), stacked)

    def minus(self, other: Figures) -> Figures:
        """Their paired differences; ``other`` may hold one row, as a baseline does."""
        values = self.values - other.values
        if self.left_out.shape[1] != other.left_out.shape[1]:
            return Figures(values, np.empty((len(values), 0)))
        return Figures(values, self.left_out - other.left_out)

    def skill(self, reference: Figures, perfect: float) -> Figures:
        """0 at the baseline ``reference``, 1 at ``perfect``; without a test group the reference is too."""
        values = _scaled(self.values, reference.values, perfect)
        if self.left_out.shape[1] != reference.left_out.shape[1]:
            return Figures(values, np.empty((len(values), 0)))
        return Figures(values, _scaled(self.left_out, reference.left_out, perfect))

    def estimate(self) -> Estimate:
        """Their mean and how sure it is."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return estimate(self.values, self.left_out)
        except OverflowError:  # a figure beyond all bounds has no interval
            return Estimate(float(np.mean(self.values)), math.nan, math.nan, math.nan)


def _scaled(values: Array, reference: Array, perfect: float) -> Array:
    span = np.broadcast_to(perfect - reference, values.shape)
    exact = (values == perfect).astype(float)  # as `TaskSpec.skill` has it where the reference is perfect
    scaled: Array = np.divide(values - reference, span, out=exact, where=span != 0)
    return scaled


def _sure(figures: Figures) -> tuple[Estimate, Interval]:
    """Mean and 95% interval, over seeds and test examples, or over test examples only if there is one seed."""
    mean = figures.estimate()
    one_seed = len(figures.values) == 1
    return mean, mean.test_interval(figures.left_out.shape[1]) if one_seed else mean.interval()


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second``, with its 95% interval. ``p_adjusted`` is Holm's, of its family; NaN with one seed."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    better: str | None  # which of the two is significantly better, if one is

    @property
    def worse(self) -> str | None:
        """The other one."""
        return {self.first: self.second, self.second: self.first, None: None}[self.better]


@dataclass(frozen=True)
class Comparison:
    """All pairs of the complete models; ``least`` is the smallest difference that would have been found (NaN: none)."""

    differences: list[Difference]
    least: float
    ranks: dict[str, Ranks]


def _compare(
    means: Mapping[str, float], difference: Callable[[str, str], tuple[Estimate, Interval]], sign: int
) -> Comparison:
    """Ranks of models by their ``means`` (ties share one), and every pair of them as one family."""
    models = sorted(means, key=lambda label: (-sign * means[label], label))
    pairs = [(a, b, *difference(a, b)) for a, b in combinations(models, 2)]
    differences = _family(pairs, sign)
    place = {model: i for i, model in enumerate(models)}
    better = [(place[pair.better], place[pair.worse]) for pair in differences if pair.better and pair.worse]
    open_ranks = rank_intervals(len(models), better)
    ranks = {model: 1 + sum(sign * other > sign * means[model] for other in means.values()) for model in models}
    known = sorted((mean for _, _, mean, _ in pairs if not math.isnan(mean.error)), key=lambda mean: mean.error)
    middle = known[len(known) // 2] if known else None  # the larger one of an even number
    least = detectable(middle.error, middle.df, len(pairs)) if middle else math.nan
    return Comparison(differences, least, {model: (ranks[model], *open_ranks[place[model]]) for model in models})


def _family(pairs: Sequence[tuple[str, str, Estimate, Interval]], sign: int) -> list[Difference]:
    p_values = [estimate.p_value() for _, _, estimate, _ in pairs]
    differences = []
    for (a, b, _, interval), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        better = (a if sign * interval.value > 0 else b) if adjusted <= ALPHA else None  # NaN is never
        differences.append(Difference(a, b, *interval, p, adjusted, better))
    return differences


def _beaten(label: str, differences: Iterable[Difference], rows: Iterable[Row | OverviewRow]) -> list[str]:
    losers = {pair.worse for pair in differences if pair.better == label}
    return [row.label for row in rows if row.label in losers]


# --- costs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Basis:
    """What a table's costs are: of which device, in which seconds, and how many runs are on others or were resumed.

    ``seconds`` are `cpu`, those that the process computed for, where every run has them and used one thread: other work
    on the machine lengthens them far less.
    """

    device_name: str | None = None
    seconds: Literal["cpu", "wall-clock"] = "wall-clock"
    runs_on_other_devices: int = 0
    runs_interrupted: int = 0

    def seconds_of(self, result: Result | None) -> float | None:
        """Training seconds of one run, if it counts here."""
        if result is None or result.device_name != self.device_name:
            return None
        return result.cpu_seconds if self.seconds == "cpu" else result.train_seconds


@dataclass(frozen=True)
class Costs:
    """Of one model: mean seconds of a run, tokens per second over all runs, the largest peak of memory, and its tuning.

    ``tuning_seconds`` are those of the other learning rates tried; None where none was tried here. They are a lower
    bound unless ``tuning_seconds_are_all``: failed trials leave no cost, and those on another device don't count.
    """

    train_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    tuning_seconds: float | None
    tuning_seconds_are_all: bool


def _basis(entrants: Sequence[Entrant], conditions: Conditions) -> Basis:
    """The device that most of the chosen runs used."""
    chosen = [run for entrant in entrants for run in entrant.results.values() if run.train_seconds is not None]
    if not chosen:
        return Basis()
    names = Counter(result.device_name for result in chosen)
    name = min(names, key=lambda device: (-names[device], device))
    tried = [run for entrant in entrants for run in entrant.trials.values() if run and run.train_seconds is not None]
    here = {run.record: run for run in (*chosen, *tried) if run.device_name == name}.values()
    single = conditions.device == "cpu" and conditions.config.get("threads") == 1
    cpu = single and all(result.cpu_seconds is not None for result in here)
    interrupted = sum(bool(result.interrupted) for result in here)
    return Basis(name, "cpu" if cpu else "wall-clock", len(chosen) - names[name], interrupted)


def _costs(entrant: Entrant, basis: Basis) -> Costs:
    """The model's costs on the table's device."""
    runs = [(seconds, run) for run in entrant.results.values() if (seconds := basis.seconds_of(run)) is not None]
    total = sum(seconds for seconds, _ in runs)
    tokens = sum((run.tokens_per_second or 0) * (run.train_seconds or 0) for _, run in runs)
    others = [run for rate, run in entrant.trials.items() if rate != entrant.rate and basis.device_name]
    tuning = [seconds for run in others if (seconds := basis.seconds_of(run)) is not None]
    return Costs(
        train_seconds=total / len(runs) if runs else None,
        tokens_per_second=tokens / total if total > 0 else None,
        peak_memory_bytes=max((run.peak_memory_bytes or 0 for _, run in runs), default=None),
        tuning_seconds=sum(tuning) if others else None,
        tuning_seconds_are_all=len(tuning) == len(others),
    )


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A model or, without an ``entrant``, a baseline. Only complete models have figures and ranks.

    ``metric`` and ``skill`` are means over the seeds with 95% intervals; ``skills`` are one of each seed.
    """

    label: str
    entrant: Entrant | None
    metric: Interval | None
    skill: Interval | None
    skills: Figures | None = None
    ranks: Ranks | None = None
    costs: Costs | None = None


@dataclass(frozen=True)
class BoardTable:
    """Models ranked, with the baselines among them, and which of the differences are significant.

    ``setting`` and ``variant`` say in what its conditions differ from the usual ones. ``strongest`` is the baseline
    with the best test figure, if there is one; ``against`` compares each model with it. ``n_groups`` is the number of
    groups of test examples that intervals are computed from.
    """

    conditions: Conditions
    setting: tuple[str, ...]
    variant: tuple[str, ...]
    measure: Measure
    baselines: dict[str, BaselineResult]
    n_results: int
    n_groups: int
    seeds: tuple[int, ...]
    rows: list[Row]
    comparison: Comparison
    strongest: str | None
    against: list[Difference]
    basis: Basis

    @property
    def title(self) -> str:
        """Task, budget, track, and in what the table differs from the usual one of these."""
        about = self.conditions
        return " · ".join((about.task, about.budget, about.track, *self.setting, *self.variant))

    @property
    def models(self) -> list[tuple[Row, Entrant]]:
        """Rows that are models."""
        return [(row, row.entrant) for row in self.rows if row.entrant is not None]

    def better_than(self, label: str) -> list[str]:
        """Rows that the row ``label`` is significantly better than, in the table's order."""
        return _beaten(label, (*self.comparison.differences, *self.against), self.rows)

    def caveats(self) -> list[str]:
        """What the intervals of the models lack, if they do."""
        shown = [interval for row, _ in self.models for interval in (row.metric, row.skill) if interval]
        said = []
        if shown and len(self.seeds) == 1:
            said.append("One seed only: intervals are over test examples and leave out how much training varies.")
        if any(math.isnan(interval.low) for interval in shown):
            said.append(
                "Where no interval stands, records are too old to hold what it takes: run them again with --force."
            )
        return said

    def state(self, row: Row | None) -> str:
        """How far the seeds of ``row`` got; see `Entrant.state`."""
        return "not run" if row is None else row.entrant.state(self.seeds) if row.entrant else ""


def make_tables(results: pd.DataFrame) -> list[BoardTable]:
    """One table for each set of comparable rows of `load_results`: by budget, track and task."""
    groups = _groups(results)
    return [_table(*group, *names) for group, names in zip(groups, _names(groups), strict=True)]


def _table(
    conditions: Conditions, results: list[Result], setting: tuple[str, ...], variant: tuple[str, ...]
) -> BoardTable:
    """Choose learning rates, rank the complete models, and compare them."""
    measure, baselines = _measure(results), _baselines(results)
    entrants = _entrants(results, measure)
    scored = [entrant for entrant in entrants.values() if not entrant.not_applicable]
    seeds = tuple(sorted({seed for entrant in scored for seed in entrant.results}))
    sizes = Counter(len(row) for result in results if (row := _finite(result.left_out)) is not None)
    n_groups = max(sizes, key=lambda size: (sizes[size], size), default=0)  # as most of the records have it
    runs = {
        label: [entrant.results[seed] for seed in seeds]
        for label, entrant in entrants.items()
        if entrant.complete(seeds)
    }
    figures, skills = _figures(runs, baselines, measure, n_groups)
    values, skill = ({label: _sure(each)[1] for label, each in known.items()} for known in (figures, skills))
    comparison = _compare(
        {label: values[label].value for label in runs},
        lambda first, second: _sure(figures[first].minus(figures[second])),
        measure.sign,
    )
    strongest = min(baselines, key=lambda name: (-measure.sign * baselines[name].value, name), default=None)
    tested = [(label, strongest, *_sure(figures[label].minus(figures[strongest]))) for label in runs if strongest]
    basis = _basis(list(entrants.values()), conditions)
    rows = [Row(name, None, values[name], skill.get(name)) for name in baselines]
    for label, entrant in entrants.items():
        ranks, costs = comparison.ranks.get(label), _costs(entrant, basis)
        rows.append(Row(label, entrant, values.get(label), skill.get(label), skills.get(label), ranks, costs))
    return BoardTable(
        conditions=conditions,
        setting=setting,
        variant=variant,
        measure=measure,
        baselines=baselines,
        n_results=len(results),
        n_groups=n_groups,
        seeds=seeds,
        rows=sorted(rows, key=lambda row: _place(row, measure.sign)),
        comparison=comparison,
        strongest=strongest,
        against=_family(tested, measure.sign),
        basis=basis,
    )


def _figures(
    runs: Mapping[str, Sequence[Result]], baselines: Mapping[str, BaselineResult], measure: Measure, n_groups: int
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """Of complete models and of baselines: the metric, and the skill as far as it is known."""
    figures = {
        name: Figures.of([baseline.value], [baseline.left_out], n_groups) for name, baseline in baselines.items()
    }
    for label, results in runs.items():
        figures[label] = Figures.of([run.value for run in results], [run.left_out for run in results], n_groups)
    if measure.reference is not None and measure.perfect is not None:
        reference, perfect = figures[measure.reference], measure.perfect
        return figures, {label: each.skill(reference, perfect) for label, each in figures.items()}
    # records from before `perfect` was kept give their skill, without a part for the test examples
    skills = {label: Figures.of([run.skill for run in known], [None] * len(known), 0) for label, known in runs.items()}
    return figures, skills


def _place(row: Row, sign: int) -> tuple[int, float, bool, str]:
    """By value; a model before a baseline of the same value; then the incomplete and the not applicable."""
    if row.metric is not None:
        return 0, -sign * row.metric.value, row.entrant is None, row.label
    applicable = row.entrant is not None and not row.entrant.not_applicable
    return 1 if applicable else 2, 0.0, False, row.label


# --- overviews -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverviewRow:
    """A model: ``skill`` is its mean over the tasks, None unless it is complete in every one of them.

    ``rows`` has its row in each task's table, None where it has no record there.
    """

    label: str
    skill: Interval | None
    rows: list[Row | None]
    ranks: Ranks | None


@dataclass(frozen=True)
class Overview:
    """Tables of one setting, one of each task, and what they say together."""

    tables: list[BoardTable]
    rows: list[OverviewRow]
    comparison: Comparison

    @property
    def title(self) -> str:
        """Budget, track, and in what the setting differs from the usual one."""
        first = self.tables[0]
        return " · ".join((first.conditions.budget, first.conditions.track, *first.setting, *first.variant))

    @property
    def heading(self) -> str:
        """What the overview stands under on the page."""
        return f"Overview · {self.title}"

    def better_than(self, label: str) -> list[str]:
        """Models that ``label`` is significantly better than, in the overview's order."""
        return _beaten(label, self.comparison.differences, self.rows)


def overviews(tables: Sequence[BoardTable]) -> list[Overview]:
    """One for each setting in which at least two tasks have tables that differ alike from their usual ones."""
    alike: dict[tuple[object, ...], list[BoardTable]] = {}
    for table in tables:
        key = table.conditions.budget, table.conditions.track, table.setting, table.variant
        alike.setdefault(key, []).append(table)
    return [_overview(part) for part in alike.values() if len(part) > 1]


def _overview(tables: list[BoardTable]) -> Overview:
    by_label = [{row.label: row for row, _ in table.models} for table in tables]
    names = sorted({label for rows in by_label for label in rows})
    rows = {label: [known.get(label) for known in by_label] for label in names}
    parts = {label: [row.skills for row in rows[label] if row and row.skills is not None] for label in names}
    complete = {label: skills for label, skills in parts.items() if len(skills) == len(tables)}
    means = {label: _mean(skills) for label, skills in complete.items()}

    def difference(a: str, b: str) -> tuple[Estimate, Interval]:
        mean = _mean([own.minus(other) for own, other in zip(complete[a], complete[b], strict=True)])
        return mean, mean.interval()

    comparison = _compare({label: mean.value for label, mean in means.items()}, difference, 1)
    order = [*comparison.ranks, *(label for label in names if label not in means)]
    shown = {label: mean.interval() for label, mean in means.items()}
    ranks = comparison.ranks
    return Overview(
        tables, [OverviewRow(label, shown.get(label), rows[label], ranks.get(label)) for label in order], comparison
    )


def _mean(figures: Sequence[Figures]) -> Estimate:
    """The mean of K independent means; degrees of freedom by Welch and Satterthwaite.

    For many parts these are right: of comparisons at .005 without a difference .004 to .008 are significant. That of
    `Estimate`, made for two unequal parts, would hide nearly everything (.0000 to .001).
    """
    parts = [each.estimate() for each in figures]
    K = len(parts)
    seeds = sum(part.seed_variance for part in parts) / K**2
    test = sum(part.test_variance for part in parts) / K**2
    squares = [part.seed_variance + part.test_variance for part in parts]
    total = sum(square * square / part.df for square, part in zip(squares, parts, strict=True)) / K**4
    variance = (seeds + test) * (seeds + test)  # a power would raise where this is infinite, and df then NaN
    df = variance / total if total > 0 else (math.inf if total == 0 else math.nan)
    return Estimate(sum(part.value for part in parts) / K, seeds, test, df)


@dataclass(frozen=True)
class PairedSkill:
    """The skill of one model minus that of another on one task; None unless both are complete, as ``states`` says."""

    difference: Interval | None
    seeds: tuple[int, ...]
    folders: list[Path]
    states: str


def paired_skill(table: BoardTable, model: str, other: str) -> PairedSkill | None:
    """Of two registered models, over the same seeds and test examples; None where either is not in ``table`` once."""
    named = [[pair for pair in table.models if pair[1].first.model == name] for name in (model, other)]
    if any(len(pairs) != 1 for pairs in named):  # none, or several versions
        return None
    (first, _), (second, _) = rows = [pairs[0] for pairs in named]
    folders = [known.results[seed].folder for _, known in rows for seed in table.seeds if seed in known.results]
    states = ", ".join(f"{row.label} {table.state(row)}" for row, _ in rows)
    if first.skills is None or second.skills is None:
        return PairedSkill(None, table.seeds, folders, states)
    return PairedSkill(_sure(first.skills.minus(second.skills))[1], table.seeds, folders, states)


# --- names -----------------------------------------------------------------------------------------------------------


def _labels(frame: pd.DataFrame) -> list[str]:
    """Of each row the model's name: with its version or the hash of its code only where the name would not tell."""
    rows = list(zip(frame["model"], frame["model_version"], frame["model_code_sha256"], strict=True))
    baselines = {name for known in frame["baselines"] for name in known}
    names, versions = (Counter(model[:size] for model in set(rows)) for size in (1, 2))
    return [
        name
        + (" (model)" if name in baselines else "")
        + (f" v{version}" if names[name,] > 1 else "")
        + (f" code {code[:8] if code else 'installed'}" if versions[name, version] > 1 else "")
        for name, version, code in rows
    ]


def _names(groups: Sequence[_Group]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Of each group, in what its setting differs from the usual one of its budget and track, and its variant from the
    usual one of its task in that setting. A control is always named.
    """
    conditions = [group.conditions for group in groups]
    facts = [shared.setting() for shared in conditions]
    tracks = [(shared.budget, shared.track, shared.control) for shared in conditions]
    tasks = [
        (shared.task, *track, _canonical(mine)) for shared, track, mine in zip(conditions, tracks, facts, strict=True)
    ]
    controls = [(f"CONTROL {shared.control}",) if shared.control else () for shared in conditions]
    settings = [(*a, *b) for a, b in zip(controls, _unusual(groups, tracks, facts), strict=True)]
    return list(zip(settings, _unusual(groups, tasks, [shared.variant() for shared in conditions]), strict=True))


def _unusual(
    groups: Sequence[_Group], alike: Sequence[tuple[object, ...]], facts: Sequence[dict[str, Any]]
) -> list[tuple[str, ...]]:
    """Of each group, the facts in which it differs from those that most records of the groups ``alike`` have."""
    counts: dict[tuple[object, ...], Counter[str]] = {}
    for group, key, mine in zip(groups, alike, facts, strict=True):
        counts.setdefault(key, Counter())[_canonical(mine)] += len(group.results)
    told = []
    for key, mine in zip(alike, facts, strict=True):
        usual = json.loads(min(counts[key], key=lambda text: (-counts[key][text], text)))
        names = sorted(name for name in {**usual, **mine} if usual.get(name) != mine.get(name))
        told.append(tuple(f"no {name}" if mine.get(name) is None else f"{name} {mine[name]}" for name in names))
    return told


def _canonical(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True)

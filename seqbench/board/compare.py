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
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from seqbench.board.frame import Array
from seqbench.rates import TRIAL_SEED, best_rate
from seqbench.stats import Estimate, Interval, detectable, estimate, holm, rank_intervals
from seqbench.task import BUDGETS

__all__ = [
    "BaselineResult",
    "Basis",
    "BoardTable",
    "Comparison",
    "Conditions",
    "Costs",
    "Difference",
    "Entrant",
    "Figures",
    "Measure",
    "ModelId",
    "Overview",
    "OverviewRow",
    "PairedSkill",
    "Result",
    "Row",
    "Sure",
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


class ModelId(NamedTuple):
    """Which model; ``code`` is the SHA-256 of a plug-in's file, "" for what is installed."""

    name: str
    version: int
    code: str


class Measure(NamedTuple):
    """The metric that a table ranks by; skill is 0 at the baseline ``reference`` and 1 at ``perfect``."""

    name: str
    direction: Literal["higher", "lower"]
    unit: str
    reference: str | None
    perfect: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One record, as far as a table needs it: columns of `load_results`, None where nothing is known."""

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
    direction: Literal["higher", "lower"]
    unit: str
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
    def identity(self) -> ModelId:
        """Which model it is of."""
        return ModelId(self.model, self.model_version, self.model_code_sha256 or "")

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


@dataclass
class _Group:
    """Comparable results, in the order in which they were read."""

    conditions: Conditions
    results: list[Result] = field(default_factory=list)

    @property
    def measure(self) -> Measure | None:
        """None as long as no run was ok; records from before `perfect` was kept take it from the others."""
        known = [result for result in self.results if result.metric is not None]
        if not known:
            return None
        best = next((result for result in known if result.perfect is not None), known[-1])
        return Measure(best.metric or "", best.direction, best.unit, best.reference, best.perfect)

    @property
    def baselines(self) -> dict[str, BaselineResult]:
        """Of each baseline the first figure that comes with its leave-one-out figures, else the first."""
        baselines: dict[str, BaselineResult] = {}
        for result in self.results:
            for i, (name, value) in enumerate(result.baselines.items()):
                known = baselines.setdefault(name, BaselineResult(value, None, value, value))
                known.least, known.most = min(known.least, value), max(known.most, value)
                if known.left_out is None and result.baselines_left_out is not None:
                    known.value, known.left_out = value, _finite(result.baselines_left_out[i])
        return baselines

    @property
    def n_groups(self) -> int:
        """G, the number of test groups that most of the records were left without in turn; 0 if none says."""
        sizes = Counter(len(row) for result in self.results if (row := _finite(result.left_out)) is not None)
        return max(sizes, key=lambda size: (sizes[size], size), default=0)


def _finite(row: Array | None) -> Array | None:
    """None where a figure without some group does not exist."""
    return row if row is not None and np.isfinite(row).all() else None


def _groups(frame: pd.DataFrame) -> list[_Group]:
    """Rows of a table each, as tables are ordered: by budget, equal width before equal parameters, task, the rest."""
    firsts = frame.drop_duplicates("conditions")
    groups = dict(zip(firsts["conditions"], map(_Group, _typed(Conditions, firsts)), strict=True))
    for conditions, result in zip(frame["conditions"], _typed(Result, frame), strict=True):
        groups[conditions].results.append(result)

    def order(group: _Group) -> tuple[Any, ...]:
        it = group.conditions
        budget = BUDGETS.index(it.budget) if it.budget in BUDGETS else len(BUDGETS)
        params, hidden = it.config.get("params") or 0, list(it.config.get("hidden") or ())
        rest = _canonical([it.control, it.setting(), it.variant()])
        return budget, it.budget, params > 0, params, hidden, it.task, rest

    return sorted(groups.values(), key=order)


def _typed(kind: type[T], frame: pd.DataFrame) -> list[T]:
    """One ``kind``, a dataclass whose fields are columns, for each row; what is missing is None."""
    columns = [frame[one.name].astype(object) for one in fields(kind)]  # type: ignore[arg-type]
    return [kind(*row) for row in zip(*(column.where(column.notna(), None) for column in columns), strict=True)]


# --- the learning rate -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entrant:
    """A model at its learning rate: results by seed. ``trials`` has every rate tried, with its result at seed 0 if any.

    ``others`` is the number of results that are neither: further seeds at rates that were not taken.
    """

    model: ModelId
    rate: float
    results: dict[int, Result]
    trials: dict[float, Result | None]
    others: int

    @property
    def not_applicable(self) -> str | None:
        """Why the model can't honestly be scored, if it can't."""
        if any(result.status != "not_applicable" for result in self.results.values()):
            return None
        return next(iter(self.results.values())).reason or "no reason given"

    @property
    def sized(self) -> Result | None:
        """The first result that knows the number of parameters."""
        return next((result for result in self.results.values() if result.params is not None), None)

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


def _entrants(results: Sequence[Result], measure: Measure | None) -> list[Entrant]:
    """One for each model, sorted by model."""
    models: dict[ModelId, list[Result]] = {}
    for result in results:
        models.setdefault(result.identity, []).append(result)
    return [_entrant(model, models[model], measure) for model in sorted(models)]


def _entrant(model: ModelId, results: Sequence[Result], measure: Measure | None) -> Entrant:
    trials = [(result.seed, result.learning_rate, result.validation) for result in results]
    counts = Counter(result.learning_rate for result in results)
    rate = best_rate(trials, measure.direction if measure else "lower")
    if rate is None:  # no run at seed 0 went well: the rate with most runs
        rate = min(counts, key=lambda rate: (-counts[rate], rate))
    first = {result.learning_rate: result for result in results if result.seed == TRIAL_SEED}
    chosen = sorted((result for result in results if result.learning_rate == rate), key=lambda result: result.seed)
    return Entrant(
        model=model,
        rate=rate,
        results={result.seed: result for result in chosen},
        trials={tried: first.get(tried) for tried in sorted(counts)},
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


class Sure(NamedTuple):
    """A mean with its 95% interval: over seeds and test examples, or over test examples only if there is one seed."""

    estimate: Estimate
    low: float
    high: float

    @property
    def value(self) -> float:
        """The mean."""
        return self.estimate.value

    @property
    def reach(self) -> float:
        """Half of the interval; NaN where it is unknown."""
        return (self.high - self.low) / 2

    @classmethod
    def of(cls, figures: Figures | Estimate) -> Sure:
        """NaN limits where the records don't hold what an interval needs."""
        if isinstance(figures, Estimate):
            return cls(figures, *figures.interval()[1:])
        mean = figures.estimate()
        one_seed = len(figures.values) == 1
        return cls(mean, *(mean.test_interval(figures.left_out.shape[1]) if one_seed else mean.interval())[1:])


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second``, and ``adjusted``, Holm's p-value within its family; NaN with one seed."""

    first: str
    second: str
    sure: Sure
    p: float
    adjusted: float
    sign: int  # 1: higher is better, -1: lower is

    @property
    def better(self) -> str | None:
        """Which of the two is significantly better, if one is."""
        if not self.adjusted <= ALPHA:  # NaN is never
            return None
        return self.first if self.sign * self.sure.value > 0 else self.second

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


def _compare(means: Mapping[str, float], difference: Callable[[str, str], Figures | Estimate], sign: int) -> Comparison:
    """Ranks of models by their ``means`` (ties share one), and every pair of them as one family."""
    models = sorted(means, key=lambda label: (-sign * means[label], label))
    differences = _family([(a, b, difference(a, b)) for a, b in combinations(models, 2)], sign)
    place = {model: i for i, model in enumerate(models)}
    better = [(place[one.better], place[one.worse]) for one in differences if one.better and one.worse]
    open_ranks = rank_intervals(len(models), better)
    ranks = {model: 1 + sum(sign * other > sign * means[model] for other in means.values()) for model in models}
    known = sorted((one.sure.estimate for one in differences if not math.isnan(one.sure.estimate.error)), key=_error)
    middle = known[len(known) // 2] if known else None  # the larger one of an even number
    least = detectable(middle.error, middle.df, len(differences)) if middle else math.nan
    return Comparison(differences, least, {model: (ranks[model], *open_ranks[place[model]]) for model in models})


def _error(one: Estimate) -> float:
    return one.error


def _family(found: Sequence[tuple[str, str, Figures | Estimate]], sign: int) -> list[Difference]:
    sure = [Sure.of(figures) for _, _, figures in found]
    p_values = [one.estimate.p_value() for one in sure]
    rows = zip(found, sure, p_values, holm(p_values), strict=True)
    return [Difference(a, b, one, p, adjusted, sign) for (a, b, _), one, p, adjusted in rows]


def _beaten(label: str, differences: Iterable[Difference], rows: Iterable[Row | OverviewRow]) -> list[str]:
    losers = {one.worse for one in differences if one.better == label}
    return [row.label for row in rows if row.label in losers]


# --- costs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Basis:
    """What a table's costs are: of which device, in which seconds, and how many runs had to be left out.

    ``cpu``: seconds that the process computed for, which other work on the machine lengthens far less than the
    wall-clock; only where every run has them and used one thread.
    """

    device_name: str
    cpu: bool
    others: int  # runs on other devices
    interrupted: int

    def seconds(self, result: Result) -> float | None:
        """Training seconds of one run, if it counts here."""
        if result.device_name != self.device_name:
            return None
        return result.cpu_seconds if self.cpu else result.train_seconds


@dataclass(frozen=True)
class Costs:
    """Of one model: mean seconds a run, tokens a second over all runs, the largest peak of memory, and its tuning.

    ``tuning`` is the seconds of the other learning rates tried; None where none was tried here. It is a lower bound
    unless ``tuning_known``: failed trials leave no cost, and those on another device don't count.
    """

    seconds: float | None = None
    tokens_per_second: float | None = None
    memory: int | None = None
    tuning: float | None = None
    tuning_known: bool = True


def _basis(entrants: Sequence[Entrant], conditions: Conditions) -> Basis | None:
    """The device that most of the chosen runs used; None where none has a cost."""
    chosen = [one for entrant in entrants for one in entrant.results.values() if one.train_seconds is not None]
    if not chosen:
        return None
    names = Counter(result.device_name for result in chosen)
    name = min(names, key=lambda one: (-names[one], one))
    tried = [one for entrant in entrants for one in entrant.trials.values() if one and one.train_seconds is not None]
    here = {one.record: one for one in (*chosen, *tried) if one.device_name == name}.values()
    single = conditions.device == "cpu" and conditions.config.get("threads") == 1
    cpu = single and all(result.cpu_seconds is not None for result in here)
    return Basis(name, cpu, len(chosen) - names[name], sum(bool(result.interrupted) for result in here))


def _costs(entrant: Entrant, basis: Basis | None) -> Costs:
    """The model's costs on the table's device."""
    if basis is None:
        return Costs()
    runs = [(seconds, one) for one in entrant.results.values() if (seconds := basis.seconds(one)) is not None]
    total = sum(seconds for seconds, _ in runs)
    tokens = sum((one.tokens_per_second or 0) * (one.train_seconds or 0) for _, one in runs)
    others = [one for rate, one in entrant.trials.items() if rate != entrant.rate]
    tuning = [seconds for one in others if one is not None and (seconds := basis.seconds(one)) is not None]
    return Costs(
        seconds=total / len(runs) if runs else None,
        tokens_per_second=tokens / total if total > 0 else None,
        memory=max((one.peak_memory_bytes or 0 for _, one in runs), default=None),
        tuning=sum(tuning) if others else None,
        tuning_known=len(tuning) == len(others),
    )


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A model or, without an ``entrant``, a baseline. Only complete models have figures and ranks.

    ``metric`` and ``skill`` are means over the seeds; ``figures`` are of the skill, one value of each seed.
    """

    label: str
    entrant: Entrant | None
    metric: Sure | None
    skill: Sure | None
    figures: Figures | None = None
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
    measure: Measure | None
    baselines: dict[str, BaselineResult]
    n_results: int
    n_groups: int
    seeds: tuple[int, ...]
    rows: list[Row]
    comparison: Comparison
    strongest: str | None
    against: list[Difference]
    basis: Basis | None

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return _sign(self.measure)

    @property
    def title(self) -> str:
        """Task, budget, track, and in what the table differs from the usual one of these."""
        about = self.conditions
        return " · ".join((about.task, about.budget, about.track, *self.setting, *self.variant))

    @property
    def models(self) -> list[Row]:
        """Rows that are models."""
        return [row for row in self.rows if row.entrant is not None]

    def better_than(self, label: str) -> list[str]:
        """Rows that the row ``label`` is significantly better than, in the table's order."""
        return _beaten(label, (*self.comparison.differences, *self.against), self.rows)

    def state(self, row: Row | None) -> str:
        """How far the seeds of ``row`` got."""
        return "not run" if row is None else row.entrant.state(self.seeds) if row.entrant else ""


def make_tables(results: pd.DataFrame) -> list[BoardTable]:
    """One table for each set of comparable rows of `load_results`: by budget, track and task."""
    groups = _groups(results)
    labels = _labels(groups)
    return [_table(*about, labels) for about in zip(groups, _settings(groups), _variants(groups), strict=True)]


def _table(
    group: _Group, setting: tuple[str, ...], variant: tuple[str, ...], labels: Mapping[ModelId, str]
) -> BoardTable:
    """Choose learning rates, rank the complete models, and compare them."""
    measure, baselines, n_groups = group.measure, group.baselines, group.n_groups
    sign, entrants = _sign(measure), _entrants(group.results, measure)
    seeds = tuple(sorted({seed for entrant in entrants if not entrant.not_applicable for seed in entrant.results}))
    basis = _basis(entrants, group.conditions)
    complete = {labels[entrant.model]: entrant for entrant in entrants if entrant.complete(seeds)}
    figures = {label: _figures(entrant, seeds, n_groups) for label, entrant in complete.items()}
    naive = {name: Figures.of([one.value], [one.left_out], n_groups) for name, one in baselines.items()}
    skills = {label: _skill(figures[label], entrant, seeds, measure, naive) for label, entrant in complete.items()}
    metrics = {label: Sure.of(one) for label, one in figures.items()}
    means = {label: sure.value for label, sure in metrics.items()}
    comparison = _compare(means, lambda a, b: figures[a].minus(figures[b]), sign)
    rows = [
        Row(label, entrant, metrics.get(label), Sure.of(skills[label]) if label in skills else None,
            skills.get(label), comparison.ranks.get(label), _costs(entrant, basis))
        for entrant in entrants for label in [labels[entrant.model]]
    ]  # fmt: skip
    for name, one in naive.items():
        known = measure is not None and measure.perfect is not None and measure.reference is not None
        rows.append(Row(name, None, Sure.of(one), Sure.of(_skill(one, None, (), measure, naive)) if known else None))
    strongest = min(baselines, key=lambda name: (-sign * baselines[name].value, name), default=None)
    tested = [(label, strongest, one.minus(naive[strongest])) for label, one in figures.items() if strongest]
    rows.sort(key=lambda row: _place(row, sign))
    return BoardTable(
        group.conditions, setting, variant, measure, baselines, len(group.results), n_groups, seeds, rows,
        comparison, strongest, _family(tested, sign), basis,
    )  # fmt: skip


def _sign(measure: Measure | None) -> int:
    return -1 if measure and measure.direction == "lower" else 1


def _place(row: Row, sign: int) -> tuple[int, float, bool, str]:
    """By value; a model before a baseline of the same value; then the incomplete and the not applicable."""
    if row.metric is not None:
        return 0, -sign * row.metric.value, row.entrant is None, row.label
    applicable = row.entrant is not None and not row.entrant.not_applicable
    return 1 if applicable else 2, 0.0, False, row.label


def _figures(entrant: Entrant, seeds: Sequence[int], n_groups: int) -> Figures:
    results = [entrant.results[seed] for seed in seeds]
    return Figures.of([result.value for result in results], [result.left_out for result in results], n_groups)


def _skill(
    figures: Figures,
    entrant: Entrant | None,
    seeds: Sequence[int],
    measure: Measure | None,
    baselines: Mapping[str, Figures],
) -> Figures:
    """Skill of each seed; records from before `perfect` was kept give theirs, without a part for the test examples."""
    if measure is None or measure.perfect is None or measure.reference is None:
        skills = [entrant.results[seed].skill for seed in seeds] if entrant else []
        return Figures.of(skills, [None] * len(skills), 0)
    return figures.skill(baselines[measure.reference], measure.perfect)


# --- overviews -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverviewRow:
    """A model: ``skill`` is its mean over the tasks, None unless it is complete in every one of them.

    ``rows`` has its row in each task's table, None where it has no record there.
    """

    label: str
    skill: Sure | None
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
    by_label = [{row.label: row for row in table.models} for table in tables]
    names = sorted({label for rows in by_label for label in rows})
    rows = {label: [known.get(label) for known in by_label] for label in names}
    parts = {label: [row.figures for row in rows[label] if row and row.figures is not None] for label in names}
    complete = {label: figures for label, figures in parts.items() if len(figures) == len(tables)}
    means = {label: _mean(figures) for label, figures in complete.items()}
    values = {label: mean.value for label, mean in means.items()}

    def difference(a: str, b: str) -> Estimate:
        return _mean([one.minus(other) for one, other in zip(complete[a], complete[b], strict=True)])

    comparison = _compare(values, difference, 1)
    order = [*comparison.ranks, *(label for label in names if label not in means)]
    shown = {label: Sure.of(mean) for label, mean in means.items()}
    ranks = comparison.ranks
    return Overview(tables, [OverviewRow(one, shown.get(one), rows[one], ranks.get(one)) for one in order], comparison)


def _mean(figures: Sequence[Figures]) -> Estimate:
    """The mean of K independent means; degrees of freedom by Welch and Satterthwaite.

    For many parts these are right: of comparisons at .005 without a difference .004 to .008 are significant. That of
    `Estimate`, made for two unequal parts, would hide nearly everything (.0000 to .001).
    """
    parts = [one.estimate() for one in figures]
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
    rows = []
    for name in (model, other):
        named = [row for row in table.models if row.entrant and row.entrant.model.name == name]
        if len(named) != 1:  # versions of one model, or none
            return None
        rows += named
    results = [row.entrant.results for row in rows if row.entrant]
    folders = [known[seed].folder for known in results for seed in table.seeds if seed in known]
    states = ", ".join(f"{row.label} {table.state(row)}" for row in rows)
    one, two = (row.figures for row in rows)
    if one is None or two is None:
        return PairedSkill(None, table.seeds, folders, states)
    sure = Sure.of(one.minus(two))
    return PairedSkill(Interval(sure.value, sure.low, sure.high), table.seeds, folders, states)


# --- names -----------------------------------------------------------------------------------------------------------


def _labels(groups: Iterable[_Group]) -> dict[ModelId, str]:
    """A name for each model: with its version or the hash of its code only where the name alone would not tell."""
    results = [result for group in groups for result in group.results]
    models = {result.identity for result in results}
    baselines = {name for result in results for name in result.baselines}
    names = Counter(model.name for model in models)
    versions = Counter(model[:2] for model in models)
    return {
        model: model.name
        + (" (model)" if model.name in baselines else "")
        + (f" v{model.version}" if names[model.name] > 1 else "")
        + (f" code {model.code[:8] or 'installed'}" if versions[model[:2]] > 1 else "")
        for model in models
    }


def _settings(groups: Sequence[_Group]) -> list[tuple[str, ...]]:
    """Of each group, how its setting differs from the usual one of its budget and track; a control is always named."""
    conditions = [group.conditions for group in groups]
    unusual = _unusual(groups, [(it.budget, it.track, it.control) for it in conditions], Conditions.setting)
    return [(*_control(it), *said) for it, said in zip(conditions, unusual, strict=True)]


def _variants(groups: Sequence[_Group]) -> list[tuple[str, ...]]:
    """Of each group, how its data and training differ from the usual ones of its task in that setting."""
    conditions = [group.conditions for group in groups]
    alike = [(it.task, it.budget, it.track, it.control, _canonical(it.setting())) for it in conditions]
    return _unusual(groups, alike, Conditions.variant)


def _unusual(
    groups: Sequence[_Group], alike: Sequence[tuple[object, ...]], facts_of: Callable[[Conditions], dict[str, Any]]
) -> list[tuple[str, ...]]:
    """Of each group, the facts in which it differs from those that most records of the groups ``alike`` have."""
    facts = [facts_of(group.conditions) for group in groups]
    counts: dict[tuple[object, ...], Counter[str]] = {}
    for group, key, mine in zip(groups, alike, facts, strict=True):
        counts.setdefault(key, Counter())[_canonical(mine)] += len(group.results)
    told = []
    for key, mine in zip(alike, facts, strict=True):
        usual = json.loads(min(counts[key], key=lambda text: (-counts[key][text], text)))
        names = sorted(name for name in {**usual, **mine} if usual.get(name) != mine.get(name))
        told.append(tuple(f"no {name}" if mine.get(name) is None else f"{name} {mine[name]}" for name in names))
    return told


def _control(conditions: Conditions) -> tuple[str, ...]:
    return (f"CONTROL {conditions.control}",) if conditions.control else ()


def _canonical(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True)

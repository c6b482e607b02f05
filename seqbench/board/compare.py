"""From records to tables: who is compared with whom, at which learning rate, and which differences are significant.

Runs of the same conditions (`Conditions`) make one table. Each model stands in it at the learning rate that validation
chose (`Entrant`); the test is never asked. Everything said about a model rests on its *figures*: an array (S, 1 + G)
with a row for each of S seeds, first the seed's figure, then the same without each of G groups of test examples; G is
0 where records lack that. Of two models the same seeds and test groups are compared (paired), and adjusted p-values
hold for a family: all pairs of one table, or all models against its strongest baseline (Holm 1979).

Conditions fall into two parts. The *setting* (budget, track, device, precision, threads ...) means the same on every
task, so that tables of one setting make an `Overview` across tasks. The *variant* (data, options, and what each task's
own defaults decide: steps, dropout ...) tells tables of one task apart. Of each the one with most records is the usual
one, and the others say how they differ from it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np
import pandas as pd

from seqbench.board.frame import Array, Conditions, Result, results_of
from seqbench.errors import UserError
from seqbench.rates import TRIAL_SEED, chosen_rate
from seqbench.stats import Estimate, Interval, detectable, estimate, few_groups, holm, rank_intervals, within_share
from seqbench.task import BUDGETS

__all__ = [
    "BoardTable",
    "Comparison",
    "Difference",
    "Entrant",
    "MeanPairing",
    "Overview",
    "OverviewRow",
    "Pairing",
    "Row",
    "make_tables",
    "mean_pairings",
    "overviews",
    "paired_skill",
    "pairings",
]

ALPHA = 0.05
Figures = Mapping[str, Sequence[Array]]  # of each model on each task; a table has one
# of a model: name, version, SHA-256 of its code, and the bundle that it came in
Version = tuple[str, int, str | None, str | None]
Ranks = tuple[int, int, int]  # the rank, and the least and greatest one that the significant differences leave open


# --- figures and differences -----------------------------------------------------------------------------------------


def _figures(values: Iterable[float | None], left_out: Sequence[Array | None], n_groups: int) -> Array:
    """(S, 1 + G) from a figure and a (G,) row of each seed; G is 0 where a row is missing or made of other groups."""
    column = np.array([[math.nan if value is None else value] for value in values])
    rows = [row for row in left_out if _finite(row) and len(row) == n_groups]
    return np.hstack([column, np.stack(rows)]) if len(rows) == len(left_out) else column


def _finite(row: Array | None) -> TypeGuard[Array]:
    """False where records lack it, or a figure without some group does not exist."""
    return row is not None and bool(np.isfinite(row).all())


def _alike(figures: Array, others: Array) -> tuple[Array, Array]:
    """Without the columns of test groups unless both have the same ones."""
    size = figures.shape[1] if figures.shape[1] == others.shape[1] else 1
    return figures[:, :size], others[:, :size]


def _difference(figures: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """Paired, on each task; ``others`` may have one row, as a baseline has."""
    return [np.subtract(*_alike(own, other)) for own, other in zip(figures, others, strict=True)]


def _skill(figures: Array, reference: Array, perfect: float) -> Array:
    """0 at the baseline ``reference``, 1 at ``perfect``; without a test group the reference is too."""
    figures, reference = _alike(figures, reference)
    span = np.broadcast_to(perfect - reference, figures.shape)
    unknown = np.full(figures.shape, math.nan)  # as `TaskSpec.skill` has it where the reference is perfect
    skill: Array = np.divide(figures - reference, span, out=unknown, where=span != 0)
    return skill


def _estimate(figures: Array) -> Estimate:
    """Their mean and how sure it is."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return estimate(figures[:, 0], figures[:, 1:])
    except OverflowError:  # a figure beyond all bounds has no interval
        return Estimate(float(np.mean(figures[:, 0])), math.nan, math.nan, math.nan)


def _mean(figures: Sequence[Array]) -> tuple[Estimate, Interval]:
    """The mean over seeds and K tasks, with its 95% interval: over test examples only if there is one task and seed.

    Of several tasks the degrees of freedom are Welch's and Satterthwaite's. For many parts these are right: of
    comparisons at .005 without a difference .004 to .008 are significant. That of `Estimate`, made for two unequal
    parts, would hide nearly everything (.0000 to .001).
    """
    parts = [_estimate(part) for part in figures]
    K = len(parts)
    if K == 1:
        n_seeds, columns = figures[0].shape
        return parts[0], parts[0].test_interval(columns - 1) if n_seeds == 1 else parts[0].interval()
    seeds = sum(part.seed_variance for part in parts) / K**2
    test = sum(part.test_variance for part in parts) / K**2
    squares = [part.seed_variance + part.test_variance for part in parts]
    total = sum(square * square / part.df for square, part in zip(squares, parts, strict=True)) / K**4
    variance = (seeds + test) * (seeds + test)  # a power would raise where this is infinite, and df then NaN
    df = variance / total if total > 0 else (math.inf if total == 0 else math.nan)
    mean = Estimate(sum(part.value for part in parts) / K, seeds, test, df)
    return mean, mean.interval()


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
    """All pairs of the complete models; ``least`` is the smallest difference that would have been found (NaN: none).

    ``ranks`` has the models from the first to the last.
    """

    differences: list[Difference]
    least: float
    ranks: dict[str, Ranks]

    def better_than(self, label: str) -> list[str]:
        """Models that ``label`` is significantly better than, by rank."""
        losers = {pair.worse for pair in self.differences if pair.better == label}
        return [model for model in self.ranks if model in losers]


def _compare(figures: Figures, sign: int) -> Comparison:
    """Ranks of models by their means (ties share one), and every pair of them as one family."""
    means = {label: _mean(parts)[0].value for label, parts in figures.items()}
    models = sorted(means, key=lambda label: (-sign * means[label], label))
    differences, estimates = _family(figures, list(combinations(models, 2)), sign)
    place = {model: i for i, model in enumerate(models)}
    better = [(place[pair.better], place[pair.worse]) for pair in differences if pair.better and pair.worse]
    ranks = {
        model: (1 + sum(sign * other > sign * means[model] for other in means.values()), *left_open)
        for model, left_open in zip(models, rank_intervals(len(models), better), strict=True)
    }
    known = sorted((each for each in estimates if not math.isnan(each.error)), key=lambda each: each.error)
    middle = known[len(known) // 2] if known else None  # the larger one of an even number
    least = detectable(middle.error, middle.df, len(differences)) if middle else math.nan
    return Comparison(differences, least, ranks)


def _family(figures: Figures, pairs: Sequence[tuple[str, str]], sign: int) -> tuple[list[Difference], list[Estimate]]:
    """The differences of the ``pairs`` of labels, and the estimates that they come from."""
    means = [_mean(_difference(figures[first], figures[second])) for first, second in pairs]
    estimates = [mean for mean, _ in means]
    p_values = [mean.p_value() for mean in estimates]
    differences = []
    for (first, second), (_, interval), p, adjusted in zip(pairs, means, p_values, holm(p_values), strict=True):
        winner = first if sign * interval.value > 0 else second
        better = winner if adjusted <= ALPHA else None  # NaN is never
        differences.append(Difference(first, second, *interval, p, adjusted, better))
    return differences, estimates


# --- what a table is made of -----------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """What a table ranks by, None where no run was ok; skill is 0 at the baseline ``reference``, 1 at ``perfect``."""

    metric: str | None
    unit: str | None
    direction: Literal["higher", "lower"] | None
    reference: str | None
    perfect: float | None
    share: bool | None

    @property
    def is_share(self) -> bool:
        """Whether figures lie within 0 and 1; of records that don't say, those without a unit of which 1 is perfect."""
        return bool(self.perfect == 1 and self.unit == "" if self.share is None else self.share)

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is; 0 where no run was ok, so that nobody knows."""
        return {"higher": 1, "lower": -1, None: 0}[self.direction]


def _measure(results: Sequence[Result]) -> Measure:
    """That of the runs that were ok; records from before `perfect` was kept take it from the others."""
    ok = [result for result in results if result.metric is not None]
    first = min(ok, key=lambda result: result.perfect is None, default=None)
    return Measure(*(getattr(first, name, None) for name in Measure._fields))


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's test figure, its (G,) figures without each test group, and whether records disagree about it.

    These disagree where another version of seqbench made some of them.
    """

    value: float
    left_out: Array | None
    uneven: bool


def _baselines(results: Sequence[Result]) -> dict[str, BaselineResult]:
    """Of each baseline the first figure that comes with its leave-one-out figures, else the first."""
    known: dict[str, list[tuple[float, Array | None]]] = {}  # without figures that can't be told
    for result in results:
        rows = [None] * len(result.baselines) if result.baselines_left_out is None else result.baselines_left_out
        for (name, value), row in zip(result.baselines.items(), rows, strict=True):
            if value is not None:
                known.setdefault(name, []).append((value, row if _finite(row) else None))
    baselines = {}
    for name, figures in known.items():
        value, left_out = min(figures, key=lambda figure: figure[1] is None)
        least, most = min(value for value, _ in figures), max(value for value, _ in figures)
        uneven = most - least > 1e-6 * max(abs(most), abs(least))
        baselines[name] = BaselineResult(value, left_out, uneven)
    return baselines


@dataclass(frozen=True)
class Row:
    """A baseline or, as an `Entrant`, a model: means over the seeds with 95% intervals.

    Incomplete models have neither these nor ranks, baselines have no ranks.
    """

    label: str
    metric: Interval | None = None
    skill: Interval | None = None
    ranks: Ranks | None = None


@dataclass(frozen=True, kw_only=True)
class Entrant(Row):
    """A model at its learning rate ``rate``.

    Attributes:
        results: those at ``rate``, by seed.
        trials: every rate tried, with its result at seed 0 if any.
        others: results that are neither: further seeds at rates that were not taken.
        seeds: those of the table, all of which a model needs for a rank.
        skills: figures of skill; None unless the model is complete.
    """

    rate: float
    results: dict[int, Result]
    trials: dict[float, Result | None]
    others: list[Result]
    seeds: tuple[int, ...] = ()
    skills: Array | None = None

    @property
    def at_edge(self) -> bool:
        """Whether the rate is the lowest or highest of several that were tried: a better one may lie beyond it."""
        return len(self.trials) > 1 and self.rate in (min(self.trials), max(self.trials))

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

    @property
    def state(self) -> str:
        """``5/5``, ``4/5 (1 diverged)``, or ``not applicable``."""
        if self.not_applicable:
            return "not applicable"
        bad = Counter(self.results[seed].outcome if seed in self.results else "missing" for seed in self.seeds)
        done = bad.pop("ok", 0)
        why = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(bad.items()))
        return f"{done}/{len(self.seeds)}" + (f" ({why})" if why else "")


def _entrants(results: Sequence[Result], labels: Mapping[Version, str], measure: Measure) -> list[Entrant]:
    """The models of a table by label, each at its learning rate, without what the other ones decide."""
    models: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda run: (labels[_version(run)], run.learning_rate, run.seed)):
        models.setdefault(labels[_version(result)], []).append(result)
    entrants = []
    for label, runs in models.items():
        counts = Counter(run.learning_rate for run in runs)
        rate = chosen_rate(
            [(run.seed, run.learning_rate, run.validation) for run in runs], measure.direction or "lower"
        )
        if rate is None:  # no run at seed 0 went well: the rate with most runs
            rate = min(counts, key=lambda tried: (-counts[tried], tried))
        first = {run.learning_rate: run for run in runs if run.seed == TRIAL_SEED}
        entrants.append(
            Entrant(
                label=label,
                rate=rate,
                results={run.seed: run for run in runs if run.learning_rate == rate},
                trials={tried: first.get(tried) for tried in counts},
                others=[run for run in runs if run.learning_rate != rate and run.seed != TRIAL_SEED],
            )
        )
    return entrants


# --- costs -----------------------------------------------------------------------------------------------------------


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

    def costs(self, entrant: Entrant) -> Costs:
        """Those of one model."""
        runs = [(seconds, run) for run in entrant.results.values() if (seconds := self.seconds_of(run)) is not None]
        total = sum(seconds for seconds, _ in runs)
        tokens = sum((run.tokens_per_second or 0) * (run.train_seconds or 0) for _, run in runs)
        others = [run for rate, run in entrant.trials.items() if rate != entrant.rate and self.device_name]
        tuning = [seconds for run in others if (seconds := self.seconds_of(run)) is not None]
        return Costs(
            train_seconds=total / len(runs) if runs else None,
            tokens_per_second=tokens / total if total > 0 else None,
            peak_memory_bytes=max((run.peak_memory_bytes or 0 for _, run in runs), default=None),
            tuning_seconds=sum(tuning) if others else None,
            tuning_seconds_are_all=len(tuning) == len(others),
        )


def _basis(entrants: Sequence[Entrant]) -> Basis:
    """The device that most of the chosen runs used."""
    chosen = [run for entrant in entrants for run in entrant.results.values() if run.train_seconds is not None]
    if not chosen:
        return Basis()
    names = Counter(result.device_name for result in chosen)
    name = min(names, key=lambda device: (-names[device], device))
    tried = [run for entrant in entrants for run in entrant.trials.values() if run and run.train_seconds is not None]
    here = {run.record: run for run in (*chosen, *tried) if run.device_name == name}.values()
    cpu = all(run.device == "cpu" and run.threads == 1 and run.cpu_seconds is not None for run in here)
    interrupted = sum(bool(run.interrupted) for run in here)
    return Basis(name, "cpu" if cpu else "wall-clock", len(chosen) - names[name], interrupted)


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoardTable:
    """Models ranked, with the baselines among them, and which of the differences are significant.

    ``name`` is what the data set is called, with its task where others are called the same; ``setting`` and ``variant``
    say in what its conditions differ from the usual ones; sizes are those of the first
    record. ``strongest`` is the baseline with the best test figure, None if there is none, or no run was ok, which says
    what is better; ``against`` compares each model with it. ``n_groups`` is the number of groups of test examples that
    intervals are computed from.
    """

    conditions: Conditions
    name: str
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
        """Data set, budget, track, and in what the table differs from the usual one of these."""
        return f"{self.name} · {self.setting_title}"

    @property
    def setting_title(self) -> str:
        """Budget, track, and in what it differs from the usual table of these."""
        return " · ".join(self.setting_parts)

    @property
    def setting_parts(self) -> tuple[str, ...]:
        """What `setting_title` puts together."""
        return (self.conditions.budget, self.conditions.track, *self.setting, *self.variant)

    @property
    def alike(self) -> tuple[object, ...]:
        """What it shares with the tables of other tasks that an overview puts together."""
        return self.conditions.budget, self.conditions.track, self.setting, self.variant

    @property
    def models(self) -> list[Entrant]:
        """Rows that are models."""
        return [row for row in self.rows if isinstance(row, Entrant)]

    def better_than(self, label: str) -> list[str]:
        """Rows that the row ``label`` is significantly better than, in the table's order."""
        losers = {pair.worse for pair in (*self.comparison.differences, *self.against) if pair.better == label}
        return [row.label for row in self.rows if row.label in losers]

    def caveats(self) -> list[str]:
        """What the intervals of the models lack, if they do."""
        shown = [interval for row in self.models for interval in (row.metric, row.skill) if interval]
        said = []
        if any(run.outcome != run.status for row in self.models for run in row.results.values()):
            said.append(
                f"A score is not known where {self.measure.metric} can't be told from the test: its target never "
                "changes, or it has one class only."
            )
        elif self.measure.perfect is not None and any(row.metric and not row.skill for row in self.models):
            said.append(
                f"Skill is not known: on this test {self.measure.reference} is as good as can be, or can't be scored, "
                "so that nothing can be told over it."
            )
        everything = [row.metric for row in self.rows if row.metric and math.isfinite(row.metric.low)]
        if any(abs(high - value - (value - low)) > 1e-9 for value, low, high in everything):
            said.append("In brackets stand the ends of 95% intervals that as ± would reach beyond 0 or 1.")
        if shown and len(self.seeds) == 1:
            said.append("One seed only: intervals are over test examples and leave out how much training varies.")
        if any(math.isnan(interval.low) for interval in shown):
            said.append(self._without_interval())
        elif shown and self.conditions.source == "path" and (warning := few_groups(self.n_groups)):
            said.append(warning)
        return said

    def _without_interval(self) -> str:
        """Why intervals lack: records from before what it takes was kept, or a test that has too little of it."""
        left_out = [run.left_out for row in self.models if row.metric for run in row.results.values()]
        if None in (sizes := {None if row is None else len(row) for row in left_out}) or len(sizes) > 1:
            return "Where no interval stands, records are too old to hold what it takes: run them again with --force."
        if self.n_groups < 2 and 0 in sizes:
            return (
                "Where no interval stands, the test has too few independent groups to tell one (1): bring more data, "
                "or shorten --horizon or --sequence-length."
            )
        return (
            "Where no interval stands, the figure can't be told without one of the independent groups of the test: "
            "bring more data."
        )


def make_tables(results: pd.DataFrame) -> list[BoardTable]:
    """One table for each set of comparable rows of `load_results`: by budget, track and task."""
    rows = results_of(results)
    labels = _labels(rows)
    groups: dict[str, list[Result]] = {}
    for row in rows:
        groups.setdefault(row.conditions, []).append(row)
    ordered = sorted(map(_renamed, groups.values()), key=_order)
    return [_table(group, labels, *names) for group, names in zip(ordered, _names(ordered), strict=True)]


def _renamed(results: list[Result]) -> list[Result]:
    """Records of one data set that a user called differently, all with the newest name."""
    newest = max(results, key=lambda run: run.finished).dataset
    return [run if run.dataset == newest else replace(run, dataset=newest) for run in results]


def _table(
    results: list[Result],
    labels: Mapping[Version, str],
    name: str,
    setting: tuple[str, ...],
    variant: tuple[str, ...],
) -> BoardTable:
    """Choose learning rates, rank the complete models, and compare them."""
    measure, baselines = _measure(results), _baselines(results)
    entrants = _entrants(results, labels, measure)
    seeds = tuple(sorted({seed for entrant in entrants if not entrant.not_applicable for seed in entrant.results}))
    sizes = Counter(len(result.left_out) for result in results if _finite(result.left_out))
    n_groups = max(sizes, key=lambda size: (sizes[size], size), default=0)  # as most of the records have it
    complete = {
        entrant.label: [entrant.results[seed] for seed in seeds]
        for entrant in entrants
        if seeds and all(seed in entrant.results and entrant.results[seed].outcome == "ok" for seed in seeds)
    }
    figures = _all_figures(complete, baselines, n_groups)
    skills = _skills(complete, figures, measure)
    skill = {label: _mean([own])[1] for label, own in skills.items()}
    metric = {label: _interval(own, measure) for label, own in figures.items()}
    parts = {label: [own] for label, own in figures.items()}
    comparison = _compare({label: parts[label] for label in complete}, measure.sign)
    known = baselines if measure.sign else {}
    strongest = min(known, key=lambda name: (-measure.sign * known[name].value, name), default=None)
    against, _ = _family(parts, [(label, strongest) for label in complete if strongest], measure.sign)
    rows = [
        *(Row(name, metric[name], skill.get(name)) for name in baselines),
        *(
            replace(
                entrant,
                metric=metric.get(entrant.label),
                skill=skill.get(entrant.label),
                seeds=seeds,
                skills=skills.get(entrant.label),
                ranks=comparison.ranks.get(entrant.label),
            )
            for entrant in entrants
        ),
    ]
    return BoardTable(
        conditions=results[0],
        name=name,
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
        against=against,
        basis=_basis(entrants),
    )


def _all_figures(
    runs: Mapping[str, Sequence[Result]], baselines: Mapping[str, BaselineResult], n_groups: int
) -> dict[str, Array]:
    """Of each baseline, one row, and of each model in ``runs``, a row for each run."""
    figures = {name: _figures([known.value], [known.left_out], n_groups) for name, known in baselines.items()}
    for label, known in runs.items():
        figures[label] = _figures([run.value for run in known], [run.left_out for run in known], n_groups)
    return figures


def _skills(runs: Mapping[str, Sequence[Result]], figures: Mapping[str, Array], measure: Measure) -> dict[str, Array]:
    """Of complete models and of baselines, as far as it is known."""
    if measure.reference is not None and measure.perfect is not None:
        if measure.reference not in figures:  # its own score can't be told
            return {}
        reference, perfect = figures[measure.reference], measure.perfect
        skills = {label: _skill(own, reference, perfect) for label, own in figures.items()}
        # that over a reference without an error can't be told; nor without a group in which alone it makes one
        whole = {label: own if np.isfinite(own).all() else own[:, :1] for label, own in skills.items()}
        return {label: own for label, own in whole.items() if np.isfinite(own).all()}
    # records from before `perfect` was kept give their skill, without a part for the test examples
    return {label: _figures([run.skill for run in known], [None] * len(known), 0) for label, known in runs.items()}


def _interval(figures: Array, measure: Measure) -> Interval:
    """The mean of a model's or a baseline's figures; that of a share lies within 0 and 1."""
    mean, interval = _mean([figures])
    if not measure.is_share:
        return interval
    error = math.sqrt(mean.test_variance) if len(figures) == 1 else mean.error
    return within_share(interval, error, figures.shape[1] - 1)


def _place(row: Row, sign: int) -> tuple[int, float, bool, str]:
    """By value; a model before a baseline of the same value; then the incomplete and the not applicable."""
    if row.metric is not None:
        return 0, -sign * row.metric.value, not isinstance(row, Entrant), row.label
    return 1 if isinstance(row, Entrant) and not row.not_applicable else 2, 0.0, False, row.label


# --- overviews -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverviewRow:
    """A model: its mean skill over the tasks, None unless it is complete in every one of them.

    ``skills`` and ``states`` are of each task: its skill there, and how far its seeds got.
    """

    label: str
    ranks: Ranks | None
    mean_skill: Interval | None
    skills: list[Interval | None]
    states: list[str]


@dataclass(frozen=True)
class Overview:
    """Tables of one setting, one of each task, and what they say together."""

    tables: list[BoardTable]
    rows: list[OverviewRow]
    comparison: Comparison

    @property
    def title(self) -> str:
        """Budget, track, and in what the setting differs from the usual one."""
        return self.tables[0].setting_title

    @property
    def heading(self) -> str:
        """What the overview stands under on the page."""
        return f"Overview · {self.title}"

    @property
    def tasks(self) -> list[str]:
        """Their names."""
        return [table.conditions.task for table in self.tables]


def overviews(tables: Sequence[BoardTable]) -> list[Overview]:
    """One for each setting in which at least two tasks have tables that differ alike from their usual ones.

    A user's own data sets are no part of it: a mean over them would be one over whatever happened to be tried.
    """
    alike: dict[tuple[object, ...], list[BoardTable]] = {}
    for table in tables:
        if table.conditions.source == "path":
            continue
        alike.setdefault(table.alike, []).append(table)
    return [_overview(part) for part in alike.values() if len(part) > 1]


def _overview(tables: list[BoardTable]) -> Overview:
    by_label = [{row.label: row for row in table.models} for table in tables]
    names = sorted({label for rows in by_label for label in rows})
    figures = {}
    for label in names:
        skills = [rows[label].skills for rows in by_label if label in rows]
        complete = [known for known in skills if known is not None]
        if len(complete) == len(tables):
            figures[label] = complete
    comparison = _compare(figures, 1)
    rows = []
    for label in [*comparison.ranks, *(label for label in names if label not in figures)]:
        parts = [known.get(label) for known in by_label]
        rows.append(
            OverviewRow(
                label=label,
                ranks=comparison.ranks.get(label),
                mean_skill=_mean(figures[label])[1] if label in figures else None,
                skills=[part.skill if part else None for part in parts],
                states=[_state(part) for part in parts],
            )
        )
    return Overview(tables, rows, comparison)


def _state(row: Entrant | None) -> str:
    """How far a model got on one task."""
    if row is None:
        return "not run"
    return row.state if row.metric is None or row.skill is not None else "skill not known"


# --- two models ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedSkill:
    """The skill of one model minus that of another on one task; None unless both are complete, as ``states`` says.

    ``least`` is the least true difference that is found with 80% power, ``lead`` the best model's skill on the task,
    which is how far it is ahead of the reference; NaN where that is not known.
    """

    difference: Interval | None
    seeds: tuple[int, ...]
    folders: list[Path]
    states: str
    least: float
    lead: float


def paired_skill(table: BoardTable, model: str, other: str) -> PairedSkill | None:
    """Of two registered models, over the same seeds and test examples; None where either is not in ``table`` once."""
    own = [row for row in table.models if row.first.bundle is None]
    named = [[row for row in own if row.first.model == name] for name in (model, other)]
    if any(len(rows) != 1 for rows in named):  # none, or several versions
        return None
    first, second = (rows[0] for rows in named)
    folders = [row.results[seed].folder for row in (first, second) for seed in table.seeds if seed in row.results]
    difference, least = None, math.nan
    if first.skills is not None and second.skills is not None:
        mean, difference = _mean(_difference([first.skills], [second.skills]))
        least = math.nan if math.isnan(mean.error) else detectable(mean.error, mean.df)
    lead = max((row.skill.value for row in table.models if row.skill is not None), default=math.nan)
    states = ", ".join(f"{row.label} {row.state}" for row in (first, second))
    return PairedSkill(difference, table.seeds, folders, states, least, lead)


@dataclass(frozen=True)
class Pairing:
    """Two models in one table, compared over the ``seeds`` that both have.

    Attributes:
        values: mean of each over these seeds, in the table's metric.
        difference: of the metric, the first model minus the second; None where a run of either was not ok or no seed is
            common. ``p_adjusted`` is Holm's over all tables that are compared.
        skill: (S, 1 + G) the same difference in skill; None where that is not known.
        least: the least true difference that is found with 80% power; NaN where there is no p-value.
        states: how far the seeds of each got.
        not_applicable: one of them can't honestly be scored here.
        unpaired: by label, how many seeds only this one has.
    """

    table: BoardTable
    seeds: tuple[int, ...]
    values: tuple[float, float] | None
    difference: Difference | None
    skill: Array | None
    least: float
    states: str
    not_applicable: bool
    unpaired: dict[str, int]


@dataclass(frozen=True)
class MeanPairing:
    """The difference of two models in mean skill over tasks, each task counted alike; None if they lack one of them."""

    title: str
    tasks: tuple[str, ...]
    difference: Difference | None
    least: float


def pairings(tables: Sequence[BoardTable], model: str, other: str) -> list[Pairing]:
    """Two registered models in each table that has both; the p-values of all tables are one family.

    Seeds that only one of them has are left out. A run that failed is not: it leaves the table without a difference.

    Raises:
        UserError: a table has several versions of one of them.
    """
    both = [
        (table, first, second)
        for table in tables
        if (first := _only(table, model)) is not None and (second := _only(table, other)) is not None
    ]
    figures = [_paired_figures(*each) for each in both]
    compared = [metric for metric, _ in figures if metric is not None]
    differences = _one_by_one(
        [[_difference([metric[0]], [metric[1]])[0]] for metric in compared],
        model,
        other,
        [table.measure.sign for (table, _, _), (metric, _) in zip(both, figures, strict=True) if metric is not None],
    )
    found = []
    for (table, first, second), (metric, skill) in zip(both, figures, strict=True):
        difference, least = next(differences) if metric is not None else (None, math.nan)
        found.append(
            Pairing(
                table=table,
                seeds=_common(first, second),
                values=(float(metric[0][:, 0].mean()), float(metric[1][:, 0].mean())) if metric else None,
                difference=difference,
                skill=skill,
                least=least,
                states=", ".join(f"{row.label} {row.state}" for row in (first, second)),
                not_applicable=bool(first.not_applicable or second.not_applicable),
                unpaired={
                    row.label: count
                    for row in (first, second)
                    if (count := len(row.results) - len(_common(first, second)))
                },
            )
        )
    return found


def mean_pairings(pairs: Sequence[Pairing], model: str, other: str) -> list[MeanPairing]:
    """Of each setting in which at least two tasks have both models, leaving out tasks that are not applicable."""
    groups: dict[tuple[object, ...], list[Pairing]] = {}
    for pair in pairs:
        if not pair.not_applicable and pair.table.conditions.source != "path":
            groups.setdefault(pair.table.alike, []).append(pair)
    several = [group for group in groups.values() if len(group) > 1]
    skills = [[pair.skill for pair in group if pair.skill is not None] for group in several]
    whole = [len(known) == len(group) for known, group in zip(skills, several, strict=True)]
    complete = [known for known, good in zip(skills, whole, strict=True) if good]
    differences = _one_by_one(complete, model, other, [1] * len(complete))
    found = []
    for group, good in zip(several, whole, strict=True):
        difference, least = next(differences) if good else (None, math.nan)
        tasks = tuple(pair.table.conditions.task for pair in group)
        found.append(MeanPairing(group[0].table.setting_title, tasks, difference, least))
    return found


def _only(table: BoardTable, model: str) -> Entrant | None:
    rows = [row for row in table.models if row.first.model == model]
    if len(rows) > 1:
        versions = ", ".join(row.label for row in rows)
        raise UserError(f"{table.title} has several versions of {model} ({versions}): keep the rows of one.")
    return rows[0] if rows else None


def _common(first: Entrant, second: Entrant) -> tuple[int, ...]:
    return tuple(sorted(first.results.keys() & second.results.keys()))


def _paired_figures(
    table: BoardTable, first: Entrant, second: Entrant
) -> tuple[tuple[Array, Array] | None, Array | None]:
    """Figures of both models over their common seeds, and the differences in skill, as far as there are any."""
    seeds = _common(first, second)
    everything = [*first.results.values(), *second.results.values()]
    if not seeds or any(run.outcome != "ok" for run in everything):
        return None, None
    runs = {row.label: [row.results[seed] for seed in seeds] for row in (first, second)}
    figures = _all_figures(runs, table.baselines, table.n_groups)
    skills = _skills(runs, figures, table.measure)
    named = [skills[label] for label in (first.label, second.label) if label in skills]
    skill = _difference([named[0]], [named[1]])[0] if len(named) == 2 else None
    return (figures[first.label], figures[second.label]), skill


def _one_by_one(
    parts: Sequence[Sequence[Array]], model: str, other: str, signs: Sequence[int]
) -> Iterator[tuple[Difference, float]]:
    """The mean of each list of paired differences, one family, with the least one that would have been found."""
    means = [_mean(part) for part in parts]
    p_values = [mean.p_value() for mean, _ in means]
    for (mean, interval), p, adjusted, sign in zip(means, p_values, holm(p_values), signs, strict=True):
        winner = model if sign * interval.value > 0 else other
        better = winner if adjusted <= ALPHA else None  # NaN is never
        least = math.nan if math.isnan(mean.error) else detectable(mean.error, mean.df, len(means))
        yield Difference(model, other, *interval, p, adjusted, better), least


# --- names -----------------------------------------------------------------------------------------------------------


def _version(result: Result) -> Version:
    return result.model, result.model_version, result.model_code_sha256, result.bundle


def _labels(results: Sequence[Result]) -> dict[Version, str]:
    """Each model's name: with its version or the hash of its code only where the name would not tell, and with the name
    of the bundle that it came in.
    """
    models = set(map(_version, results))
    baselines = {name for result in results for name in result.baselines}
    codes = {model[:3] for model in models}
    names, versions = Counter(name for name, _, _ in codes), Counter(code[:2] for code in codes)
    bundles = _bundle_names({bundle for *_, bundle in models if bundle is not None})
    return {
        (name, version, code, bundle): name
        + (" (model)" if name in baselines else "")
        + (f" v{version}" if names[name] > 1 else "")
        + (f" code {code[:8] if code else 'installed'}" if versions[name, version] > 1 else "")
        + (f" [{bundles[bundle]}]" if bundle is not None else "")
        for name, version, code, bundle in models
    }


def _bundle_names(bundles: set[str]) -> dict[str, str]:
    """What each bundle is called: its file's name, with a number where several have the same."""
    named: dict[str, str] = {}
    for bundle in sorted(bundles):
        name = Path(bundle).stem
        alike = sum(Path(other).stem == name for other in named)
        named[bundle] = f"{name} {alike + 1}" if alike else name
    return named


def _order(group: Sequence[Result]) -> tuple[object, ...]:
    """By budget, equal width before equal parameters, task, the rest."""
    first = group[0]
    budget = BUDGETS.index(first.budget) if first.budget in BUDGETS else len(BUDGETS)
    params, hidden = first.config.get("params") or 0, list(first.config.get("hidden") or ())
    rest = _canonical([first.control, first.setting(), first.variant()])
    return budget, first.budget, params > 0, params, hidden, first.data_name, rest


def _names(groups: Sequence[Sequence[Result]]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Of each group, what its data set is called; in what its setting differs from the usual one of its budget and
    track, and its variant from the usual one of its task in that setting. A control is always named.
    """

    def track(shared: Conditions) -> tuple[object, ...]:
        return shared.budget, shared.track, shared.control

    controls = [(f"CONTROL {group[0].control}",) if group[0].control else () for group in groups]
    settings = _unusual(groups, track, Conditions.setting)
    variants = _unusual(
        groups,
        lambda shared: (shared.task, shared.dataset, *track(shared), _canonical(shared.setting())),
        Conditions.variant,
    )
    everything: list[Conditions] = [group[0] for group in groups]
    return [
        (_own_name(shared, everything), (*control, *setting), _with_data(variant, shared, everything))
        for shared, control, setting, variant in zip(everything, controls, settings, variants, strict=True)
    ]


def _own_name(shared: Conditions, everything: Sequence[Conditions]) -> str:
    """What the data set is called; a user's own with its task where another one is called the same."""
    alike = [other for other in everything if other.data_name == shared.data_name]
    if shared.dataset is None or all((other.task, other.source) == (shared.task, shared.source) for other in alike):
        return shared.data_name
    tasks = {other.task for other in alike}
    return f"{shared.data_name} ({shared.task if len(tasks) > 1 else 'own data'})"


def _with_data(variant: tuple[str, ...], shared: Conditions, everything: Sequence[Conditions]) -> tuple[str, ...]:
    """``variant`` with the hash of the data on every one of a user's own data sets of one name and task, not on all
    but one: none of them is the usual one.
    """
    named = f"data {shared.variant()['data']}"
    alike = {one.data_sha256 for one in everything if (one.task, one.dataset) == (shared.task, shared.dataset)}
    return variant if shared.dataset is None or len(alike) < 2 or named in variant else (*variant, named)


def _unusual(
    groups: Sequence[Sequence[Result]],
    alike: Callable[[Conditions], tuple[object, ...]],
    facts: Callable[[Conditions], dict[str, Any]],
) -> list[tuple[str, ...]]:
    """Of each group, the facts in which it differs from those that most records of the groups ``alike`` have."""
    counts: dict[tuple[object, ...], Counter[str]] = {}
    for first, *others in groups:
        counts.setdefault(alike(first), Counter())[_canonical(facts(first))] += 1 + len(others)
    told = []
    for first, *_ in groups:
        count, mine = counts[alike(first)], facts(first)
        usual = json.loads(min(count, key=lambda text: (-count[text], _facts_given(text), text)))
        names = sorted(name for name in {**usual, **mine} if usual.get(name) != mine.get(name))
        told.append(tuple(f"{name} by default" if mine.get(name) is None else f"{name} {mine[name]}" for name in names))
    return told


def _facts_given(text: str) -> int:
    """How many facts a JSON object names: of equally frequent ones that with the fewest is the usual one."""
    return sum(value is not None for value in json.loads(text).values())


def _canonical(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True)

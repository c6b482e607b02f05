"""Tuning: the width, learning rate, dropout and batch size that suit a model on a task, told by validation alone.

A study is one method with one seed on one model and task: a row of trials. Every trial is an ordinary cell, whose
record lies in a store of its own (``tuning/records`` below the folder of results, where no board finds it); beside it,
in ``tuning/studies``, a study keeps Optuna's journal of the trials that have ended. What is tried next follows from
these alone, so a study that was killed goes on as if it had not been, and one whose journal is lost is made again from
the records without training anything. Only figures on the validation split are read; what a record says of the test
has no say.

Trials come in waves: those of one wave are chosen from the results before it, and run at once or one after the other.
So the same seed gives the same trials, however many processes run them.

Methods: ``tpe`` is Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) after 8 random trials, all its
parameters together, trials of the same wave counted as bad ones; ``random`` draws each trial alone (Bergstra and Bengio
2012); ``grid`` and ``doubling`` say themselves what they do (`grid_points`, `doubling_points`). Trial n of ``random``
and of the first eight of ``tpe`` is the same cell in studies of one seed, and trained once.

Pruning is successive halving as trials come (Li et al. 2020), by thirds: a trial ends where validation is read and its
best figure so far is not among the best third of those that the trials before its wave had there, once 4 of them got so
far. Its record has the status ``pruned``, a curve and a cost, and no figures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqbench.config import RunConfig
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.experiment import (
    Experiment,
    estimate_seconds,
    lasting_processes,
    resolve,
    run_jobs_of,
    run_stoppable,
)
from seqbench.jobs.job import Job, Listener, Outcome
from seqbench.jobs.pool import Executor
from seqbench.jobs.record import RunRecord, hash_of
from seqbench.jobs.store import Store
from seqbench.models.mixer import MODELS
from seqbench.prepare import Prepared, fit_baselines, prepare
from seqbench.report.text import listed
from seqbench.task import BUDGETS, Metric

__all__ = [
    "SPACE",
    "Search",
    "Study",
    "Trial",
    "Tuned",
    "best_so_far",
    "doubling_points",
    "estimate_studies",
    "grid_points",
    "importances",
    "kept_studies",
    "need_optuna",
    "run_spec",
    "run_studies",
    "searches",
    "tuned_values",
]

FIRST = 8  # random trials before TPE: two waves of four
LEAST = 4  # trials that must have got so far before one is pruned there
THIRD = 3  # one in so many goes on
EDGE = 0.1  # of a range: what lies nearer to its end counts as at the edge
Values = Mapping[str, Any]  # settings of a `RunConfig` by name, a width as the number it is


@dataclass(frozen=True)
class Tuned:
    """A setting that is tuned, and its range.

    Attributes:
        name: field of `RunConfig`.
        scale: ``linear``; ``log``; or ``doubled``: only low, 2 low, 4 low, ... up to high.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log", "doubled"] = "linear"

    @property
    def doublings(self) -> int:
        """How often ``low`` can be doubled."""
        return int(math.log2(self.high / self.low) + 1e-9)

    def value(self, inner: float) -> float:
        """The setting for what Optuna's distribution gave: four digits, so that it can be typed."""
        return int(self.low * 2 ** round(inner)) if self.scale == "doubled" else float(f"{inner:.4g}")

    def inner(self, value: float) -> float:
        """What Optuna's distribution would have given: the reverse of `value`."""
        return round(math.log2(value / self.low)) if self.scale == "doubled" else value

    def share(self, value: float) -> float:
        """How far ``value`` lies from the low end, as a share of the range; of its logarithm unless it is linear."""
        if self.scale == "linear":
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.0

    def levels(self, count: int) -> list[float]:
        """The middles of ``count`` equal parts of the range; of doubled settings the lower one of two that are near."""
        middles = [(i + 0.5) / count for i in range(count)]
        if self.scale == "doubled":
            return [self.value(math.ceil(middle * (self.doublings + 1)) - 1) for middle in middles]
        if self.scale == "log":
            return [self.value(self.low * (self.high / self.low) ** middle) for middle in middles]
        return [self.value(self.low + (self.high - self.low) * middle) for middle in middles]

    def after(self, value: float) -> float | None:
        """Twice ``value``, or the end of the range where that is nearer; None at the end."""
        top = self.low * 2**self.doublings if self.scale == "doubled" else self.high
        return None if value >= top else self.value(self.inner(min(2 * value, top)))

    def place(self, value: float) -> str:
        """Where in the range ``value`` fell, in words."""
        if self.share(value) <= EDGE:
            return "at the lower edge"
        return "at the upper edge" if self.share(value) >= 1 - EDGE else "inside"


# The documented ranges, in the order in which `doubling` goes through them
SPACE = (
    Tuned("learning_rate", 1e-4, 1e-2, "log"),
    Tuned("hidden", 64, 512, "doubled"),
    Tuned("batch_size", 32, 256, "doubled"),
    Tuned("dropout", 0.2, 0.5),
)


def _space_of(config: RunConfig) -> tuple[Tuned, ...]:
    """What of `SPACE` is tuned: what ``config`` leaves open; widths are multiples of what the model's layers need.

    Raises:
        UserError: nothing is left to tune.
    """
    fixed = {item.name for item in dataclasses.fields(config) if getattr(config, item.name) is not None}
    fixed |= {"hidden"} if config.params is not None else set()
    multiple = MODELS.get(config.model).mixer.width_multiple
    space = [one for one in SPACE if one.name not in fixed]
    for i, one in enumerate(space):
        if one.name == "hidden":
            low = multiple * math.ceil(one.low / multiple)
            if low > one.high:
                raise UserError(
                    f"{config.model} has no width from {one.low:g} to {one.high:g}: give one with --hidden."
                )
            space[i] = dataclasses.replace(one, low=low, high=low * 2 ** int(math.log2(one.high / low)))
    if not space:
        raise UserError("nothing is left to tune: leave out one of --hidden, --learning-rate, --dropout, --batch-size.")
    return tuple(one for one in space if one.high > one.low)


def _settings_of(values: Values) -> dict[str, Any]:
    """``values`` as `RunConfig` takes them."""
    return {name: (int(value),) if name == "hidden" else value for name, value in values.items()}


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        values: of what was tuned.
        state: ``complete``, ``pruned``, or how the run failed.
        figure: on validation: of a complete trial its record's, of a pruned one the best when it ended; None: failed.
        seconds: training and evaluation took.
        checks: the best figure so far whenever validation was read.
        key: of its record.
    """

    number: int
    values: Values
    state: str
    figure: float | None
    seconds: float
    checks: tuple[float, ...]
    key: str
    reason: str | None = None


# --- what is tried next ----------------------------------------------------------------------------------------------


def grid_points(space: Sequence[Tuned], trials: int, seed: int) -> list[dict[str, float]]:
    """A full grid of at most ``trials`` points, in random order.

    As many levels as fit: one of each parameter at first, then, in the order of ``space``, again and again one more of
    each as long as the grid stays within ``trials`` (a doubled parameter has no more than its doublings). Levels are
    the middles of equal parts of a range, on its logarithm where it is logarithmic or doubled (`Tuned.levels`).
    """
    counts, most = [1] * len(space), [one.doublings + 1 if one.scale == "doubled" else trials for one in space]
    grows = True
    while grows:
        grows = False
        for i in range(len(space)):
            more = math.prod(counts) // counts[i] * (counts[i] + 1)
            if counts[i] < most[i] and more <= trials:
                counts[i], grows = counts[i] + 1, True
    points = list(product(*(one.levels(count) for one, count in zip(space, counts, strict=True))))
    order = np.random.default_rng([seed, 3]).permutation(len(points))
    return [dict(zip((one.name for one in space), points[i], strict=True)) for i in order]


def doubling_points(
    space: Sequence[Tuned], better: Callable[[float, float], bool]
) -> Generator[dict[str, float], float | None, None]:
    """Start small, and double one thing at a time while validation improves.

    The first point is the low end of every range. Then, in the order of ``space``, each parameter is doubled (at last
    set to the end of its range) as long as that is better than the best so far; the first step that is not is taken
    back, and the next parameter's turn comes. Rounds go on until one improves nothing; no point is tried twice. It is
    sent the figure of each point, None where there is none.
    """
    best: dict[str, float] = {one.name: one.low for one in space}
    figure, improved = (yield best), True
    tried = [best]
    while improved:
        improved = False
        for one in space:
            while (after := one.after(best[one.name])) is not None and (
                point := {**best, one.name: after}
            ) not in tried:
                tried.append(point)
                new = yield point
                if new is None or not (figure is None or better(new, figure)):
                    break
                best, figure, improved = point, new, True


def _doubled(space: Sequence[Tuned], told: Sequence[Trial], metric: Metric) -> list[dict[str, float]]:
    """The next point after ``told``, if there is one."""
    points = doubling_points(space, metric.better)
    try:
        point = next(points)
        for trial in told:
            point = points.send(trial.figure if trial.state == "complete" else None)
    except StopIteration:
        return []
    return [point]


def need_optuna() -> Any:
    """Optuna; raises `UserError` where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("tune needs Optuna, which is not installed: pip install 'seqbench[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _distributions(space: Sequence[Tuned]) -> dict[str, Any]:
    optuna = need_optuna()
    whole, real = optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution
    return {
        one.name: whole(0, one.doublings) if one.scale == "doubled" else real(one.low, one.high, log=one.scale == "log")
        for one in space
    }


def _frozen(space: Sequence[Tuned], trial: Trial) -> Any:
    """``trial`` as Optuna keeps it. What failed because of its settings counts as the worst, what broke not at all."""
    optuna = need_optuna()
    states = optuna.trial.TrialState
    state = {"complete": states.COMPLETE, "error": states.FAIL, "not_applicable": states.FAIL}.get(
        trial.state, states.PRUNED
    )
    about = dataclasses.asdict(trial)
    return optuna.trial.create_trial(
        state=state,
        value=trial.figure if state == states.COMPLETE else None,
        params={one.name: one.inner(trial.values[one.name]) for one in space},
        distributions=_distributions(space),
        user_attrs={name: about[name] for name in ("values", "state", "figure", "seconds", "key", "reason")},
        intermediate_values=dict(enumerate(trial.checks)),
    )


def _thawed(frozen: Any) -> Trial:
    """The reverse of `_frozen`."""
    checks = tuple(value for _, value in sorted(frozen.intermediate_values.items()))
    return Trial(number=frozen.number, checks=checks, **frozen.user_attrs)


def _asked(
    space: Sequence[Tuned], told: Sequence[Trial], numbers: Iterable[int], method: str, seed: int, direction: str
) -> list[dict[str, float]]:
    """What Optuna's sampler suggests for the trials of ``numbers`` after those ``told``.

    The sampler is made anew for each from the study's seed and its number: what it says depends on nothing else.
    """
    optuna = need_optuna()
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    for trial in told:
        study.add_trial(_frozen(space, trial))
    points = []
    for number in numbers:
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():  # Optuna 4 calls two of these experimental, which are usual in 5
            warnings.simplefilter("ignore")
            study.sampler = (
                optuna.samplers.TPESampler(seed=own, n_startup_trials=FIRST, multivariate=True, constant_liar=True)
                if method == "tpe"
                else optuna.samplers.RandomSampler(seed=own)
            )
        asked = study.ask(_distributions(space)).params
        points.append({one.name: one.value(asked[one.name]) for one in space})
    return points


# --- one trial -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stop:
    """Ends a trial that is worse than its bar at a check: ``bars`` are those of all checks but the last, or None."""

    bars: tuple[float | None, ...]
    metric: str
    direction: Literal["higher", "lower"]

    def at(self, checks: Sequence[float]) -> int | None:
        """The first of ``checks``, the best figures so far, that is worse than its bar."""
        better = Metric(self.metric, self.direction, "").better
        for i, (figure, bar) in enumerate(zip(checks, self.bars, strict=False)):
            if bar is not None and better(bar, figure):
                return i
        return None

    def __call__(self, curve: Sequence[Mapping[str, float]]) -> str | None:
        checks = _checks(curve, self.metric, self.direction)
        at = self.at(checks)
        if at is None:
            return None
        figure, bar = checks[at], self.bars[at]
        return f"validation {self.metric} {figure:.4g} at check {at + 1} is worse than {bar:.4g}, not in the best third"


def _checks(curve: Sequence[Mapping[str, float | None]], metric: str, direction: str) -> list[float]:
    """The best figure so far at each point of ``curve``; nothing where one can't be told."""
    figures = [point[f"val_{metric}"] for point in curve]
    known = [figure for figure in figures if figure is not None and math.isfinite(figure)]
    return list(accumulate(known, max if direction == "higher" else min)) if len(known) == len(figures) else []


@dataclass(frozen=True)
class _TrialSpec:
    """A trial as a job: the cell of ``config``, which ``stop`` may end early. Its key is the cell's own."""

    config: RunConfig
    stop: _Stop

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def alike(self) -> tuple[str, ...]:
        return self.config.alike

    @property
    def place(self) -> tuple[str, ...]:
        return self.config.place

    @property
    def budget(self) -> str:
        return self.config.budget

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def threads(self) -> int:
        return self.config.threads

    def to_json(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "stop": dataclasses.asdict(self.stop)}


def run_spec(spec: dict[str, Any], store: Store, *, force: bool, listener: Listener) -> None:
    """Run the trial that another process has resolved; see `jobs.job.Job`."""
    config: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in spec["config"].items()
    }
    stop = _Stop(**{**spec["stop"], "bars": tuple(spec["stop"]["bars"])})
    run_stoppable(RunConfig(**config), store, stop, listener)


@dataclass(frozen=True)
class _Pending:
    """A trial that is to run."""

    number: int
    values: Values
    experiment: Experiment
    stop: _Stop

    @property
    def job(self) -> Job:
        spec = _TrialSpec(self.experiment.config, self.stop)
        return dataclasses.replace(self.experiment.job, kind=__name__, spec=spec)

    def judged(self, outcome: Outcome | None) -> Trial | None:
        """What its record says, if that is enough: one of a trial that other bars had ended before these do is not.

        A record of the whole cell is read as far as these bars let it go, so that it matters to no study whether
        another one, or a plain run, has trained the cell.
        """
        if outcome is None:
            return None
        record, metric = outcome.record, self.stop.metric
        assert isinstance(record, RunRecord)
        spent = record.cost.train_seconds + record.cost.eval_seconds if record.cost else 0.0
        curve = _curve(outcome.folder) if record.status in ("ok", "pruned") else []
        checks = _checks(curve, metric, self.stop.direction)

        def trial(state: str, figure: float | None, seconds: float, reason: str | None) -> Trial:
            return Trial(self.number, self.values, state, figure, seconds, tuple(checks), record.key, reason)

        at = self.stop.at(checks)
        if at is not None:
            reason, share = self.stop(curve[: at + 1]), (at + 1) / len(checks)
            checks = checks[: at + 1]
            return trial("pruned", checks[-1], spent * share, reason)
        if record.status == "pruned":
            return None
        figure = record.metrics["val"][metric] if record.status == "ok" else None
        if figure is not None:
            return trial("complete", figure, spent, None)
        return trial(record.status if record.status != "ok" else "error", None, spent, record.reason or "no figure")


def _curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curve.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged: move {folder} away and run again.") from None


# --- studies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """A study as ``study.json`` holds it, for whoever reads.

    Attributes:
        problem: what all studies that can be compared share: task, model, device, budget, settings, space, pruning.
        wanted: trials asked for.
        trials: that have ended.
    """

    problem: Mapping[str, Any]
    method: str
    seed: int
    wanted: int
    metric: str
    direction: Literal["higher", "lower"]
    unit: str
    trials: tuple[Trial, ...]

    @property
    def space(self) -> tuple[Tuned, ...]:
        """What was tuned."""
        return tuple(Tuned(**one) for one in self.problem["space"])

    @property
    def names(self) -> tuple[str, str]:
        """Of task and model."""
        return self.problem["task"]["name"], self.problem["model"]["name"]

    @property
    def seconds(self) -> float:
        """What all trials took, one after the other."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The complete trial that did best on validation, of equally good ones the first."""
        sign = -1.0 if self.direction == "higher" else 1.0
        known = [one for one in self.trials if one.state == "complete" and one.figure is not None]
        return min(known, key=lambda one: (sign * (one.figure or 0.0), one.number), default=None)

    @classmethod
    def read(cls, path: Path) -> Study:
        """Of a ``study.json``; raises `UserError` where it can't be read."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            trials = tuple(Trial(**{**one, "checks": tuple(one["checks"])}) for one in raw["trials"])
            return cls(**{**raw, "trials": trials})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}): remove it and run tune again.") from None


class Search:
    """A study that is going on.

    Raises:
        UserError: the model can't be scored on the task, or an option that can't be used.
    """

    def __init__(
        self, config: RunConfig, method: str, trials: int, wave: int, root: Path, prepared: Prepared, *, prune: bool
    ) -> None:
        self.config, self.method, self.wanted, self.prepared = config, method, trials, prepared
        self.wave = 1 if method == "doubling" else wave
        self.space, self.metric = _space_of(config), prepared.spec.primary
        first = resolve(_smallest(config), prepared=prepared)
        if not first.can_be_scored:
            raise UserError(f"{config.model} sees what it is to predict on {config.task}: choose another model.")
        self.checks = first.budget.evaluations if prune else 1
        names = {one.name for one in self.space}
        own = names | {"seed", "budget", *({"steps"} if "batch_size" in names else ())}
        self.problem: dict[str, Any] = {
            **first.named,
            "device": first.device.type,
            "budget": config.budget,
            "settings": {name: value for name, value in first.resolved.items() if name not in own},
            "space": [dataclasses.asdict(one) for one in self.space],
            "prune": prune,
        }
        about = {"method": method, "seed": config.seed, "wave": self.wave, **self.problem}
        key = hash_of({**about, "trials": trials if method == "grid" else None})
        name = f"{method}-{config.budget}-seed{config.seed}-{key[:12]}"
        self.folder = _studies(root) / config.task / config.model / name
        self.store = Store(root / "tuning" / "records")

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        task = self.config.data_name or self.config.task
        return f"{task} {self.config.model} {self.method} seed {self.config.seed}"

    def _experiment(self, values: Values) -> Experiment:
        return resolve(dataclasses.replace(self.config, **_settings_of(values)), prepared=self.prepared)

    @cached_property
    def _journal(self) -> Any:
        """Optuna's study in its journal. A last line that a kill has cut off is removed first."""
        optuna = need_optuna()
        path = self.folder / "journal.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and not (text := path.read_bytes()).endswith(b"\n") and text:
            whole = text[: text.rfind(b"\n") + 1]
            replace_file(path, lambda file: file.write(whole))
        direction = {"higher": "maximize", "lower": "minimize"}[self.metric.direction]
        try:
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
            return optuna.create_study(
                study_name=self.folder.name,
                storage=storage,
                direction=direction,
                sampler=optuna.samplers.RandomSampler(seed=0),
                load_if_exists=True,
            )
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}): remove it; the records of its trials are kept.") from None

    @property
    def told(self) -> list[Trial]:
        """The trials that have ended, in order."""
        return [_thawed(frozen) for frozen in self._journal.get_trials(deepcopy=False)]

    def pending(self) -> list[_Pending]:
        """The trials of the next wave, without those that have ended; none when the study has all."""
        told = self.told
        start = len(told) // self.wave * self.wave
        before = told[:start]
        numbers = range(start, min(start + self.wave, self.wanted))
        points = list(zip(numbers, self._points(before, numbers), strict=False))
        bars, found = self._bars(before), list[_Pending]()
        for number, values in points:
            if number >= len(told):
                experiment = self._experiment(values)
                own = (
                    bars if experiment.budget.steps >= self.checks else ()
                )  # with fewer steps, validation is read less
                stop = _Stop(own, self.metric.name, self.metric.direction)
                found.append(_Pending(number, values, experiment, stop))
        return found

    def _points(self, before: Sequence[Trial], numbers: range) -> list[dict[str, float]]:
        if not numbers:
            return []
        seed = self.config.seed
        if self.method == "grid":
            return list(islice(grid_points(self.space, self.wanted, seed), numbers.start, numbers.stop))
        if self.method == "doubling":
            return _doubled(self.space, before, self.metric)
        direction = {"higher": "maximize", "lower": "minimize"}[self.metric.direction]
        return _asked(self.space, before, numbers, self.method, seed, direction)

    def _bars(self, before: Sequence[Trial]) -> tuple[float | None, ...]:
        """At each check but the last the worst of the best third that got so far; None where they are too few."""
        bars: list[float | None] = []
        for check in range(self.checks - 1):
            reached = [
                trial.checks[min(check, len(trial.checks) - 1)]
                for trial in before
                if trial.checks and (trial.state == "complete" or check < len(trial.checks))
            ]
            reached.sort(reverse=self.metric.direction == "higher")
            bars.append(reached[math.ceil(len(reached) / THIRD) - 1] if len(reached) >= LEAST else None)
        return tuple(bars)

    def tell(self, trial: Trial) -> None:
        """Write it into the journal, unless another process has."""
        if trial.number == len(self._journal.get_trials(deepcopy=False)):
            self._journal.add_trial(_frozen(self.space, trial))

    def study(self) -> Study:
        """As it stands."""
        return Study(
            problem=self.problem,
            method=self.method,
            seed=self.config.seed,
            wanted=self.wanted,
            metric=self.metric.name,
            direction=self.metric.direction,
            unit=self.metric.unit,
            trials=tuple(self.told),
        )

    def write(self) -> None:
        """Replace ``study.json``, which readers need no Optuna for."""
        text = json.dumps(dataclasses.asdict(self.study()), indent=1, allow_nan=False) + "\n"
        replace_file(self.folder / "study.json", lambda file: file.write(text.encode()))


def _studies(root: Path) -> Path:
    return root / "tuning" / "studies"


def searches(
    config: RunConfig,
    tasks: Sequence[str],
    models: Sequence[str],
    methods: Sequence[str],
    root: Path,
    say: Callable[[str], None],
    *,
    trials: int,
    seeds: int,
    wave: int,
    prune: bool,
    baselines: bool = True,
) -> list[Search]:
    """A study of every task, model, method and seed. Of several pairs those that can't be scored are said and left out.

    Args:
        baselines: fit those of the tasks, too, so that no two trials do it at once.

    Raises:
        UserError: for a name or option that can't be used, or if no pair is left.
    """
    need_optuna()
    for model in models:
        _space_of(dataclasses.replace(config, task=tasks[0], model=model))
    found: list[Search] = []
    for task in tasks:
        base = dataclasses.replace(config, task=task, model=models[0])
        prepared = prepare(task, base.task_options, base.source, say, base.data, base.test)
        for model in models:
            one = dataclasses.replace(base, model=model)
            if len(tasks) * len(models) > 1 and not resolve(_smallest(one), prepared=prepared).can_be_scored:
                say(f"{task} {model} is left out: {model} sees what it is to predict there")
                continue
            for method, seed in product(methods, range(config.seed, config.seed + seeds)):
                seeded = dataclasses.replace(one, seed=seed)
                found.append(Search(seeded, method, trials, wave, root, prepared, prune=prune))
        if baselines:
            fit_baselines(prepared, say)
    if not found:
        raise UserError("none of these models can be scored on these tasks: choose others.")
    return found


def _smallest(config: RunConfig) -> RunConfig:
    """``config`` with the low end of every range that it leaves open."""
    return dataclasses.replace(config, **_settings_of({one.name: one.low for one in _space_of(config)}))


class _ValidationOnly(Listener):
    """Passes on what it hears, but for figures on the test split, which nobody who tunes should see."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def say(self, line: str) -> None:
        self.listener.say(line)

    def planned(self, jobs: Sequence[Job], stored: Sequence[Outcome]) -> None:
        self.listener.planned(jobs, stored)

    def started(self, job: Job) -> Listener:
        return self.listener.started(job)

    def ended(self, outcome: Outcome) -> None:
        record = outcome.record
        if isinstance(record, RunRecord) and record.primary is not None:
            name = record.primary.name
            value = record.metrics["val"][name]
            reason = f"validation {name} {'not known' if value is None else f'{value:.4g}'}"
            record = record.model_copy(update={"primary": None, "reason": reason})
        self.listener.ended(dataclasses.replace(outcome, record=record))


def run_studies(
    found: Sequence[Search],
    listener: Listener,
    *,
    jobs: int | None = None,
    limit: float | None = None,
    plugins: Sequence[Path] = (),
    executor: Executor | None = None,
) -> list[Study]:
    """Run every study to its end, a wave of each at a time, ``jobs`` trials at once; all that is known is kept.

    Args:
        limit: seconds after which a trial is ended, as `run_grid` has it.
        plugins: files that each process loads first.
        executor: where processes run; None: on this machine.

    Raises:
        UserError: the folder of results can't be written.
        OSError: a record could not be written; what has a record keeps it.
    """
    store, heard = found[0].store, _ValidationOnly(listener)
    store.check_writable()
    store.sweep()
    with contextlib.nullcontext(executor) if executor else lasting_processes(found[0].config, jobs) as where:
        while waves := [(search, wave) for search in found if (wave := search.pending())]:
            for search, wave in waves:
                numbers = f"{wave[0].number + 1} to {wave[-1].number + 1}" if len(wave) > 1 else f"{wave[0].number + 1}"
                listener.say(f"{search.name}: trial {numbers} of {search.wanted}")

            def run(todo: Sequence[_Pending]) -> None:
                experiments = {one.experiment.job.key: one.experiment for one in todo}
                cells = [one.job for one in todo]
                run_jobs_of(experiments, cells, store, where, heard, limit=limit, plugins=plugins)

            ended = _ended([one for _, wave in waves for one in wave], store, run)
            for search, wave in waves:
                for one in wave:
                    search.tell(ended[id(one)])
                search.write()
    for search in found:
        search.write()
    return [search.study() for search in found]


def _ended(wave: Sequence[_Pending], store: Store, run: Callable[[Sequence[_Pending]], None]) -> dict[int, Trial]:
    """Each of ``wave``, ended. Two may be one cell with other bars: where the first run is not enough, again."""
    ended: dict[int, Trial] = {}
    while True:
        for one in wave:
            if id(one) not in ended and (trial := one.judged(store.find(one.job))) is not None:
                ended[id(one)] = trial
        waiting = [one for one in wave if id(one) not in ended]
        if not waiting:
            return ended
        cells = {one.experiment.job.key: one for one in reversed(waiting)}.values()
        # the longest first, so that no process is left with one at the end
        run(sorted(cells, key=lambda one: (-one.experiment.config.widths[0], -one.experiment.budget.steps)))


def estimate_studies(found: Sequence[Search], say: Callable[[str], None]) -> float | None:
    """Seconds that all trials would take one after the other if each were random and none pruned: an upper bound; None
    where that is not known.
    """
    experiments: list[Experiment] = []
    for search in found:
        points = _asked(search.space, [], range(search.wanted), "random", search.config.seed, "minimize")
        experiments += [search._experiment(point) for point in points]
    seconds = estimate_seconds(experiments, found[0].store, say)
    known = [seconds.get(one.job.key) for one in experiments]
    return None if None in known else sum(one or 0.0 for one in known)


# --- what came out ---------------------------------------------------------------------------------------------------


def kept_studies(root: Path) -> list[Study]:
    """Every study below ``root``, the folder of results, in a fixed order."""
    return [Study.read(path) for path in sorted(_studies(root).glob("*/*/*/study.json"))]


def best_so_far(study: Study) -> tuple[list[float], list[float]]:
    """Seconds spent after each trial, one after the other, and the best figure of a complete trial until then.

    Trials before the first complete one are left out.
    """
    costs, figures = [], []
    best: float | None = None
    for trial, cost in zip(study.trials, accumulate(trial.seconds for trial in study.trials), strict=True):
        if trial.state == "complete" and trial.figure is not None:
            both = [trial.figure] if best is None else [trial.figure, best]
            best = max(both) if study.direction == "higher" else min(both)
        if best is not None:
            costs.append(cost)
            figures.append(best)
    return costs, figures


def importances(studies: Sequence[Study]) -> dict[str, float]:
    """How much of the figure's variance each parameter explains alone (fANOVA, Hutter et al. 2014), the largest first.

    What is left of 1 they explain together, or not at all. A parameter that was searched on a logarithmic scale is
    weighed on it. Over the trials of all ``studies``, which share their problem, each once; a pruned one counts with
    the figure that it had when it was ended. Without parameters that had one value only; empty with fewer than 4 trials
    or where all figures are alike.
    """
    optuna, space = need_optuna(), studies[0].space
    told = (trial for study in studies for trial in study.trials if trial.figure is not None)
    known = list({(trial.key, *sorted(trial.values.items())): trial for trial in told}.values())
    if len(known) < LEAST or len({trial.figure for trial in known}) < 2:
        return {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kinds = _distributions(space)
    logarithmic = [name for name, kind in kinds.items() if getattr(kind, "log", False)]
    for name in logarithmic:
        ends = math.log(kinds[name].low), math.log(kinds[name].high)
        kinds[name] = optuna.distributions.FloatDistribution(*ends)
    for trial in known:
        inner = {one.name: one.inner(trial.values[one.name]) for one in space}
        inner |= {name: math.log(inner[name]) for name in logarithmic}
        study.add_trial(optuna.trial.create_trial(value=trial.figure, params=inner, distributions=kinds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    varied = {one.name for one in space if len({trial.values[one.name] for trial in known}) > 1}
    return {name: float(share) for name, share in shares.items() if name in varied}


OF_THE_RUN = (  # settings in which a run may differ from the study whose values it takes
    *("seed", "budget", "steps", "evaluations", "patience", "batch_size", "threads", "kernel", "precision"),
)


def tuned_values(config: RunConfig, root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The settings that did best on validation in the studies below ``root`` of the task and model of ``config``.

    Studies of the same budget come first; where there is none, those of the most thorough one. Nothing for a pair that
    can't be scored.

    Raises:
        UserError: there is no such study with a complete trial, ``config`` gives a setting that was tuned, or another
            setting than those studies had.
    """
    left_open: dict[str, Any] = dict.fromkeys((one.name for one in SPACE), None)
    experiment = resolve(_smallest(dataclasses.replace(config, params=None, **left_open)))
    if not experiment.can_be_scored:
        return {}
    about = f"{config.model} on {config.data_name or config.task}"
    found = [study for study in kept_studies(root) if study.best is not None]
    found = [study for study in found if {what: study.problem[what] for what in experiment.named} == experiment.named]
    if not found:
        raise UserError(
            f"--tuned: {root} holds no finished trial of {about}: run tune with the same task, model and --out first."
        )
    for name in {one.name for study in found for one in study.space}:
        if getattr(config, name) is not None or (name == "hidden" and config.params is not None):
            option = "params" if name == "hidden" and config.hidden is None else name.replace("_", "-")
            raise UserError(f"--tuned sets {name.replace('_', ' ')}: leave --{option} out.")
    others = [_other_settings(study, config, experiment.prepared) for study in found]
    found = [study for study, other in zip(found, others, strict=True) if not other]
    if not found:
        raise UserError(f"--tuned: the studies of {about} in {root} had another {listed(others[0])}: give the same.")
    best, study = _best_of(found, config.budget)
    shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in best.values.items())
    which = f"trial {best.number + 1} of {study.method} with seed {study.seed} at {study.problem['budget']}"
    say(f"{about}: {shown}, of {which}")
    return _settings_of(best.values)


def _other_settings(study: Study, config: RunConfig, prepared: Prepared) -> list[str]:
    """Names of what ``study`` held fixed and a run of ``config`` with its best values would have otherwise.

    Other budgets have batches, patience and precision of their own; at the study's these are its settings, too.
    """
    assert study.best is not None
    own = resolve(dataclasses.replace(config, **_settings_of(study.best.values)), prepared=prepared).resolved
    tuned = {one.name for one in study.space}
    same = study.problem["budget"] == config.budget
    free = set(OF_THE_RUN) - ({"batch_size", "patience", "precision"} - tuned if same else set())
    fixed = {name: value for name, value in study.problem["settings"].items() if name not in free}
    return [name.replace("_", " ") for name, value in fixed.items() if own.get(name) != value]


def _best_of(found: Sequence[Study], budget: str) -> tuple[Trial, Study]:
    """The best trial, and its study: of those at ``budget``, or else at the most thorough one that there is."""
    budgets = [study.problem["budget"] for study in found]
    chosen = budget if budget in budgets else max(budgets, key=BUDGETS.index)
    sign = -1.0 if found[0].direction == "higher" else 1.0
    bests = [(best, study) for study in found if study.problem["budget"] == chosen and (best := study.best)]
    return min(bests, key=lambda pair: (sign * (pair[0].figure or 0.0), pair[1].method, pair[1].seed))

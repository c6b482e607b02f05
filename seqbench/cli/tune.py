"""`tune`: find the width, learning rate, dropout and batch size that suit a model on a task, and show what mattered."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqbench.cli.common import AUTO, FLAT, Common, Out, Picture, draw_picture, picture_place, show_json, speaker
from seqbench.config import METHODS, Placement, RunConfig, TuneOptions
from seqbench.errors import UserError
from seqbench.options import OUTPUT, Flag, Parameter
from seqbench.report.chart import COLOURS, MARKERS, Axis, Bars, Chart, Line, Look, Mark, Panel, Points
from seqbench.report.terminal import print_path, print_table, print_text
from seqbench.report.text import NONE, counted, duration, listed, with_interval

if TYPE_CHECKING:  # --help answers before any of these is imported
    from seqbench.jobs.pool import Executor
    from seqbench.tuning import Search, Study, Trial, Tuned

__all__ = ["COMMAND", "Tune", "study_chart"]

LOOKS = {method: Look(COLOURS[i], MARKERS[i]) for i, method in enumerate(METHODS)}
PLACES = 4  # decimals of figures beside each other


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Find the width, learning rate, dropout and batch size that do best on validation; what is given stays fixed."""

    config: Annotated[RunConfig, FLAT]
    options: Annotated[TuneOptions, FLAT] = field(default_factory=TuneOptions)
    place: Annotated[Placement, FLAT] = field(default_factory=Placement)
    dry_run: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Show the studies and how long they would take at most, and run none."""
    out: Out = Path("results/local")
    """Directory of results; studies and the records of trials lie in its folder `tuning`."""
    plot: Picture = None
    """Draw what mattered, and the best figure so far against cost; by default below `tuning` in --out."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Run what has not ended; 1 if a study has no complete trial."""
        if self.config.data is not None:
            from seqbench.files.kinds import chosen_task

            task, config = chosen_task(self.config.task, self.config, speaker("data"))
            chosen = dataclasses.replace(config, task=task)
            if chosen != self.config:
                return dataclasses.replace(self, config=chosen)()
        picture_place(self.plot, Path("plot.png"))
        self._names()  # a wrong one is found before a cluster is asked
        from seqbench.experiment import cluster_of

        config, plugins = self.config, self.common.plugin
        needs: dict[str, Any] = {"device": config.device, "threads": config.threads, "jobs": self.options.jobs}
        with cluster_of(self.place, **needs, plugins=plugins, say=speaker("ray")) as cluster:
            found = self._searches(config if cluster is None else dataclasses.replace(config, device=cluster.device))
            several = len({(one.config.task, one.config.model) for one in found}) > 1
            if self.plot is not None and str(self.plot) != AUTO and several:
                raise UserError("--plot FILE is one picture, and these would be several: leave FILE out.")
            if self.dry_run:
                return self._show_plan(found, (self.options.jobs or 1) if cluster is None else cluster.slots)
            studies = self._run(found, cluster)
        problems = _by_problem(self.out, studies)
        if self.common.json:
            show_json([_data(study) for study in studies])
        else:
            self._show(studies, problems)
        self._draw(problems)
        return 0 if all(study.best for study in studies) else 1

    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of tasks and models."""
        from seqbench.models.mixer import MODELS
        from seqbench.task import TASKS

        return TASKS.chosen(self.config.task), MODELS.chosen(self.config.model)

    def _searches(self, config: RunConfig) -> list[Search]:
        from seqbench.tuning import searches

        (tasks, models), options = self._names(), self.options
        return searches(
            config,
            tasks,
            models,
            options.methods,
            self.out,
            speaker("tune"),
            trials=options.trials,
            seeds=options.seeds,
            wave=options.wave,
            prune=not options.no_pruning,
            baselines=not self.dry_run,
        )

    def _run(self, found: Sequence[Search], cluster: Executor | None) -> list[Study]:
        from seqbench.jobs.progress import Terminal
        from seqbench.tuning import run_studies

        options, plugins = self.options, self.common.plugin
        with Terminal((options.jobs or 1) if cluster is None else cluster.slots) as terminal:
            return run_studies(
                found, terminal, jobs=options.jobs, limit=options.time_limit, plugins=plugins, executor=cluster
            )

    def _show_plan(self, found: Sequence[Search], at_once: int) -> int:
        from seqbench.tuning import estimate_studies

        seconds = estimate_studies(found, speaker("tune"))
        trials = sum(search.wanted for search in found)
        if self.common.json:
            studies = [{"study": search.name, "trials": search.wanted} for search in found]
            show_json({"studies": studies, "trials": trials, "seconds": seconds})
            return 0
        print_table(["study", "trials"], [[search.name, str(search.wanted)] for search in found])
        if seconds is None:
            about = "how long is not known, as this machine has no such device"
        else:
            each = f", {duration(seconds / at_once)} with --jobs {at_once}" if at_once > 1 else ""
            about = f"about {duration(seconds)} one after the other{each}"
        print_text(f"\n{counted(len(found), 'study').replace('studys', 'studies')} of {trials} trials: {about}, if all")
        print_text("are random and none is pruned")
        return 0

    def _show(self, studies: Sequence[Study], problems: Sequence[Sequence[Study]]) -> None:
        if len(studies) == 1:
            _show_trials(studies[0])
        for problem in problems:
            if len(problem) > 1 or len(studies) > 1:
                _show_studies(problem)
            _show_methods(problem)
            _show_places(problem)
        for study in studies:
            if study.best is None:
                print_text(f"\n{_name(study)}: no trial ended well; {_reasons(study)}")
        tasks, models = ({study.names[i] for study in studies} for i in (0, 1))
        names = f"--task {','.join(sorted(tasks))} --model {','.join(sorted(models))}"
        print()
        print_path("records ", self.out / "tuning" / "records")
        print_path("use it  ", f"python run_bench.py run {names} --tuned --out {shlex.quote(str(self.out))}")

    def _draw(self, problems: Sequence[Sequence[Study]]) -> None:
        """One picture of each problem."""
        if self.plot is None:
            return
        for problem in problems:
            name = "-".join((*problem[0].names, problem[0].problem["budget"]))
            place = picture_place(self.plot, self.out / "tuning" / f"{name}.png")
            assert place is not None
            path = draw_picture(study_chart(problem), place)
            if not self.common.json:
                print_path("plot    ", path)


COMMAND = Tune


def _by_problem(out: Path, studies: Sequence[Study]) -> list[list[Study]]:
    """The studies that share a problem with one of ``studies``, with those that lie in ``out`` from before."""
    from seqbench.tuning import kept_studies

    order = {method: i for i, method in enumerate(METHODS)}
    kept = sorted(kept_studies(out), key=lambda study: (order.get(study.method, len(order)), study.seed))
    problems = list({str(study.problem): study.problem for study in studies}.values())
    return [[study for study in kept if study.problem == problem and study.trials] for problem in problems]


def _data(study: Study) -> dict[str, Any]:
    best = study.best
    return {
        **dataclasses.asdict(study),
        "best": best and dataclasses.asdict(best),
        "seconds": study.seconds,
        "best_places": {one.name: one.place(best.values[one.name]) for one in study.space} if best else {},
    }


def _name(study: Study) -> str:
    return f"{' '.join(study.names)} {study.method} seed {study.seed}"


def _reasons(study: Study) -> str:
    counts = Counter(trial.reason or trial.state for trial in study.trials)
    return "; ".join(f"{reason} ({count})" for reason, count in counts.most_common(3))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.{PLACES}f}"


def _show_trials(study: Study) -> None:
    names = [one.name for one in study.space]
    headers = ["trial", *map(_words, names), f"validation {study.metric}", "seconds", "how it ended"]
    best = study.best
    rows = [
        [
            str(trial.number + 1),
            *(f"{trial.values[name]:g}" for name in names),
            _figure(trial.figure),
            f"{trial.seconds:.1f}",
            _ending(trial) + (", best" if trial is best else ""),
        ]
        for trial in study.trials
    ]
    print_text(f"{_name(study)} · {study.problem['budget']}\n")
    print_table(headers, rows)
    if study.method == "grid" and len(study.trials) < study.wanted:
        print_text(f"\nthe largest grid within {study.wanted} trials has {len(study.trials)} points")
    if study.method == "doubling" and len(study.trials) < study.wanted:
        print_text(f"\ndoubling improved nothing more after {counted(len(study.trials), 'trial')} of {study.wanted}")
    states = Counter(trial.state for trial in study.trials)
    shown = listed([f"{count} {state}" for state, count in states.items()])
    took = f"{duration(study.seconds)} of training and evaluation"
    print_text(f"\n{counted(len(study.trials), 'trial')}, {shown}: {took}")


def _ending(trial: Trial) -> str:
    if trial.state == "pruned":
        return f"pruned at check {len(trial.checks)}"
    return trial.state


def _show_studies(problem: Sequence[Study]) -> None:
    first = problem[0]
    names = [one.name for one in first.space]
    headers = ["method", "seed", "trials", "pruned", f"best validation {first.metric}", *map(_words, names), "seconds"]
    rows = []
    for study in problem:
        best = study.best
        values = [f"{best.values[name]:g}" if best else NONE for name in names]
        pruned = sum(trial.state == "pruned" for trial in study.trials)
        about = [
            study.method,
            str(study.seed),
            str(len(study.trials)),
            str(pruned),
            _figure(best.figure if best else None),
        ]
        rows.append([*about, *values, f"{study.seconds:.0f}"])
    print_text(f"\n{' '.join(first.names)} · {first.problem['budget']}: the studies\n")
    print_table(headers, rows)


def _show_methods(problem: Sequence[Study]) -> None:
    """Each method's mean over seeds, and its difference to random search, paired by seed, where there are both."""
    from seqbench.stats import over_seeds

    methods = _bests(problem)
    if len(methods) < 2:
        return
    first, rows = problem[0], []
    for method, figures in methods.items():
        pairs = [figures[seed] - other for seed, other in methods.get("random", {}).items() if seed in figures]
        difference = NONE
        if method != "random" and pairs:
            interval = over_seeds(pairs)
            told = len(pairs) > 1 and (interval.low > 0 or interval.high < 0)
            difference = with_interval(interval, PLACES) + ("" if told else ", no difference is shown")
        seconds = [study.seconds for study in problem if study.method == method]
        mean = with_interval(over_seeds(list(figures.values())), PLACES)
        rows.append([method, str(len(figures)), mean, difference, f"{sum(seconds) / len(seconds):.0f}"])
    print_text("\nthe methods, means over seeds with 95% intervals\n")
    print_table(["method", "seeds", f"best validation {first.metric}", "less random's, by seed", "seconds"], rows)


def _bests(problem: Sequence[Study]) -> dict[str, dict[int, float]]:
    """By method and seed; of several studies of both the last one's."""
    bests: dict[str, dict[int, float]] = {}
    for study in problem:
        if study.best is not None and study.best.figure is not None:
            bests.setdefault(study.method, {})[study.seed] = study.best.figure
    return bests


def _show_places(problem: Sequence[Study]) -> None:
    """Where the best values fell in the documented ranges, and how much each parameter mattered."""
    from seqbench.tuning import importances

    known = [(study, best) for study in problem if (best := study.best) is not None]
    if not known:
        return
    sign = -1.0 if known[0][0].direction == "higher" else 1.0
    study, best = min(known, key=lambda pair: sign * (pair[1].figure or 0.0))
    shares, space = importances(problem), study.space
    several = len(known) > 1
    headers = ["parameter", "range", "best", "where", *(["in all studies"] if several else []), "importance"]
    rows = []
    for one in space:
        places = Counter(one.place(other.values[one.name]) for _, other in known)
        everywhere = ", ".join(f"{count} {place}" for place, count in sorted(places.items()))
        value, share = best.values[one.name], shares.get(one.name)
        cells = [_words(one.name), f"{one.low:g} to {one.high:g}{_scaled(one)}", f"{value:g}", one.place(value)]
        rows.append([*cells, *([everywhere] if several else []), NONE if share is None else f"{share:.2f}"])
    print_text(f"\n{_name(study)}, trial {best.number + 1}: the best, {study.metric} {_figure(best.figure)}\n")
    print_table(headers, rows)
    edges = [_words(one.name) for one in space if "edge" in one.place(best.values[one.name])]
    if edges:
        print_text(f"\nat the edge of the documented range: {listed(edges)}; what lies beyond was not tried")
    print_text(
        "importance: share of the variance of validation figures that a setting explains alone (fANOVA), pruned trials "
        "as they were then; what is left of 1 settings explain together, or not at all"
    )


def _scaled(one: Tuned) -> str:
    return {"linear": "", "log": ", logarithmic", "doubled": ", doubled"}[one.scale]


def study_chart(problem: Sequence[Study]) -> Chart:
    """What mattered, and the best figure so far against cost for each method, over its seeds."""
    from seqbench.tuning import importances

    first = problem[0]
    shares = importances(problem)
    progress = [mark for method in METHODS for mark in _progress([one for one in problem if one.method == method])]
    unit = f" ({first.unit})" if first.unit else ""
    panels = [
        Panel(
            "Best so far against cost",
            progress,
            Axis("seconds of training and evaluation, one trial after the other"),
            Axis(f"best validation {first.metric}{unit}"),
        )
    ]
    columns = [panels]
    if shares:
        bars = Bars([_words(name) for name in shares], list(shares.values()), Look(COLOURS[0]))
        columns.append(
            [Panel("What mattered", [bars], Axis(), Axis("share of the variance that it explains alone (fANOVA)"))]
        )
    seeds = max(Counter(study.method for study in problem).values())
    notes = [f"{first.metric}: {first.direction} is better. Pruned trials count in the cost, never as the best."]
    if seeds > 1:
        notes.append("Lines are means over seeds where all studies of a method have a figure; bands 95% intervals.")
    trials = counted(sum(len(study.trials) for study in problem), "trial")
    about = f"{' '.join(first.names)} · {first.problem['budget']} · {trials}"
    return Chart(f"Tuning {about}", columns, notes=notes)


def _progress(studies: Sequence[Study]) -> list[Mark]:
    """The line of one method: steps of a single study, else the mean with its interval at each cost."""
    from seqbench.stats import over_seeds
    from seqbench.tuning import best_so_far

    lines = [line for study in studies if (line := best_so_far(study))[0]]
    if not lines:
        return []
    method = studies[0].method
    look = LOOKS[method]
    if len(lines) == 1:
        costs, figures = lines[0]
        return [Line(costs, figures, look, label=method, steps=True, marked=True)]
    start, end = max(costs[0] for costs, _ in lines), max(costs[-1] for costs, _ in lines)
    places = [start, *sorted({cost for costs, _ in lines for cost in costs if start < cost <= end})]
    means = [over_seeds([_at(costs, figures, place) for costs, figures in lines]) for place in places]
    values, lows, highs = zip(*means, strict=True)
    last = Points([places[-1]], [values[-1]], look)
    return [Line(places, values, look, low=lows, high=highs, label=method, steps=True), last]


def _at(costs: Sequence[float], figures: Sequence[float], cost: float) -> float:
    """The best so far when ``cost`` was spent; of a study that has ended its last."""
    return [figure for spent, figure in zip(costs, figures, strict=True) if spent <= cost][-1]

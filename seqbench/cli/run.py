"""`run`: train models on tasks, one here and now or a grid of them, and show what came out: text, table and picture."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqbench.cli.common import (
    AUTO,
    FLAT,
    Common,
    Out,
    Picture,
    draw_picture,
    outcome_data,
    picture_place,
    show_json,
    speaker,
)
from seqbench.config import GridOptions, Placement, RunConfig
from seqbench.errors import UserError
from seqbench.jobs import DONE, FINE
from seqbench.options import OUTPUT, TRAINING, WHAT, Flag, Parameter
from seqbench.report.chart import COLOURS, DARK, Axis, Chart, Line, Look, Matrix, Panel, Points, Rule, look_of
from seqbench.report.terminal import print_path, print_table, print_text
from seqbench.report.text import counted, duration, format_value

if TYPE_CHECKING:  # --help answers before any of these is imported
    import numpy as np

    from seqbench.data import Truth
    from seqbench.experiment import Grid
    from seqbench.jobs.job import Outcome
    from seqbench.jobs.record import RunRecord
    from seqbench.stats import Interval
    from seqbench.task import TaskSpec

__all__ = ["COMMAND", "Run", "metric_interval", "run_chart", "show_result"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train models on tasks and leave a record of each run (`run` may be left out)."""

    config: Annotated[RunConfig, FLAT]
    grid: Annotated[GridOptions, FLAT] = field(default_factory=GridOptions)
    place: Annotated[Placement, FLAT] = field(default_factory=Placement)
    dry_run: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Show the cells and how long they would take, and run none."""
    out: Out = Path("results/local")
    """Directory of the records."""
    plot: Picture = None
    """Draw the learning curve and the predictions; by default beside the record."""
    tuned: Annotated[Path | None, Parameter(group=TRAINING, metavar="[DIR]")] = None
    """Take the settings that `tune` has found best on validation; by default those below --out."""
    settings: Annotated[Path | None, Parameter(name="--config", group=WHAT, metavar="FILE.toml")] = None
    """Take options from this file; those of the command line come first. `config RECORD` writes one."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Run it; 1 if a cell failed."""
        if self.config.data is not None:
            from seqbench.files.kinds import chosen_task

            task, config = chosen_task(self.config.task, self.config, speaker("data"))
            chosen = dataclasses.replace(config, task=task)
            if chosen != self.config:
                return dataclasses.replace(self, config=chosen)()
        if self.tuned is not None and self.grid.tune_learning_rate:
            raise UserError("--tuned sets the learning rate: leave --tune-learning-rate out.")
        several = any(name == "all" or "," in name for name in (self.config.task, self.config.model))
        plain = dataclasses.replace(self.grid, jobs=None, force=False) == GridOptions() and self.grid.jobs in (None, 1)
        if several or self.dry_run or not plain or not self.place.here:
            return self._run_grid()
        return self._run_one()

    def _tuned(self, config: RunConfig) -> dict[str, Any]:
        """The settings that `tune` has found for the task and model of ``config``; none unless they are asked for."""
        if self.tuned is None:
            return {}
        from seqbench.tuning import tuned_values

        return tuned_values(config, self.out if str(self.tuned) == AUTO else self.tuned, speaker("tuned"))

    def _run_one(self) -> int:
        if settings := self._tuned(self.config):
            return dataclasses.replace(self, config=dataclasses.replace(self.config, **settings), tuned=None)._run_one()
        from seqbench.experiment import run_apart, run_cell
        from seqbench.jobs.progress import Terminal
        from seqbench.jobs.store import Store
        from seqbench.models.mixer import MODELS

        picture_place(self.plot, Path("plot.png"))
        with Terminal(title=f"{self.config.data_name or self.config.task} {self.config.model}") as terminal:
            store, force, plugins = Store(self.out), self.grid.force, self.common.plugin
            # a model of the user's may take its process down; --debug leaves it here, where a debugger reaches it
            if MODELS.entry(self.config.model).apart and not self.common.debug:
                outcome = run_apart(self.config, store, plugins=plugins, force=force, listener=terminal)
            else:
                outcome = run_cell(self.config, store, force=force, listener=terminal)
        record = _run_record(outcome)
        if outcome.stored:
            from seqbench.board.verify import check_stored

            check_stored(record, outcome.folder)
        show_json([outcome_data(outcome)]) if self.common.json else show_result(outcome)
        picture = picture_place(self.plot, outcome.folder / "plot.png")
        if picture is not None and record.status == "ok":
            path = draw_picture(run_chart(record, outcome.folder), picture, lambda: outcome_data(outcome))
            if not self.common.json:
                print_path("plot    ", path)
        return 0 if record.status in FINE else 1

    def _run_grid(self) -> int:
        """Run what has no result yet; 1 if a cell failed."""
        from seqbench.experiment import cluster_of, run_grid
        from seqbench.jobs.progress import Terminal

        picture_place(self.plot, Path("plot.png"))
        if self.plot is not None and not self.dry_run:
            raise UserError("--plot draws a single run; leaderboard --plot draws what a grid has left.")
        config, options, limit, plugins = self.config, self.grid, self.grid.time_limit, self.common.plugin
        needs: dict[str, Any] = {"device": config.device, "threads": config.threads, "jobs": options.jobs}
        self._names()  # a wrong one is found before a cluster is asked
        with cluster_of(self.place, **needs, plugins=plugins, say=speaker("ray")) as cluster:
            grid = self._grid(config if cluster is None else dataclasses.replace(config, device=cluster.device))
            at_once = (options.jobs or 1) if cluster is None else cluster.slots
            with Terminal(at_once) as terminal:
                if self.dry_run:
                    grid.prepare(terminal.say, baselines=False)
                    plan = _plan(grid, terminal.say)
                    show_json(plan) if self.common.json else _show_plan(plan, options, at_once)
                    return 0
                outcomes = run_grid(
                    grid,
                    terminal,
                    jobs=options.jobs,
                    limit=limit,
                    plugins=plugins,
                    force=options.force,
                    executor=cluster,
                )
        if self.common.json:
            show_json([outcome_data(outcome) for outcome in outcomes])
        else:
            _show_end(outcomes, self.out)
        return 0 if all(outcome.record.status in FINE for outcome in outcomes) else 1

    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of tasks and models."""
        from seqbench.models.mixer import MODELS
        from seqbench.task import TASKS

        return TASKS.chosen(self.config.task), MODELS.chosen(self.config.model)

    def _grid(self, config: RunConfig) -> Grid:
        """All cells, of which ``config`` is the pattern."""
        from seqbench.experiment import Grid
        from seqbench.jobs.store import Store

        (tasks, models), options = self._names(), self.grid
        pairs = [(task, model) for task in tasks for model in models]
        chosen = {pair: self._tuned(dataclasses.replace(config, task=pair[0], model=pair[1])) for pair in pairs}
        tune, store = options.tune_learning_rate, Store(self.out)
        return Grid(config, tasks, models, store, seeds=options.seeds, tune=tune, chosen=chosen)


COMMAND = Run


def _plan(grid: Grid, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The cells of ``grid``, and the seconds that each which is to run will take."""
    from seqbench.experiment import estimate_seconds

    experiments = list({one.job.key: one for one in [*grid.trials(), *grid.cells()]}.values())
    known = {one.job.key: grid.store.find(one.job) for one in experiments}
    states = {key: outcome.record.status if outcome else "to run" for key, outcome in known.items()}
    to_run = [one for one in experiments if states[one.job.key] not in DONE]
    seconds = estimate_seconds(to_run, grid.store, say)
    return [
        {
            **{name: getattr(one.config, name) for name in ("task", "model", "seed", "learning_rate")},
            "state": states[one.job.key],
            "seconds": seconds.get(one.job.key),
        }
        for one in experiments
    ]


def _show_plan(plan: Sequence[dict[str, Any]], options: GridOptions, at_once: int) -> None:
    headers = ["task", "model", "seed", "learning rate", "state", "about"]
    rows = []
    for row in plan:
        time = "" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        rows.append([row["task"], row["model"], str(row["seed"]), f"{row['learning_rate']:g}", row["state"], time])
    print_table(headers, rows)
    to_run = [row["seconds"] for row in plan if row["state"] not in DONE]
    about = f"{counted(len(rows), 'cell')}, {len(to_run)} to run: "
    if None in to_run:
        about += "how long is not known, as this machine has no such device"
    else:
        about += f"about {duration(sum(to_run))} one after the other"
        about += f", {duration(sum(to_run) / at_once)} with --jobs {at_once}" if at_once > 1 else ""
    print_text(f"\n{about}")
    if options.tune_learning_rate:
        print_text(
            "seeds are shown at the rate that is best so far; the trials may choose another, and go on beyond an edge"
        )


def _show_end(outcomes: Sequence[Outcome], out: Path) -> None:
    """Print what came out of a grid, what failed, and how to see why."""
    from seqbench.board import frame_of, short_runs

    table = short_runs(frame_of((_run_record(outcome), outcome.folder.resolve()) for outcome in outcomes))
    print_table(table.headers, table.rows)
    for note in table.notes:
        print_text(note)
    for note in dict.fromkeys(note for outcome in outcomes for note in _leaks(_run_record(outcome))):
        print_text(f"\n{note}")
    failed = [outcome for outcome in outcomes if outcome.record.status not in FINE]
    for outcome in failed:
        record = _run_record(outcome)
        about = f"{record.task.name} {record.model.name} seed {record.seed}"
        print_text(f"\nfailed  {about}: {record.status}: {record.reason}")
        print_path("        see ", evidence(outcome))
    if failed:
        print_text("\nfailed cells are tried again by the same command")
    print()
    print_path("board   ", f"python run_bench.py leaderboard {shlex.quote(str(out))}")


def evidence(outcome: Outcome) -> Path:
    """What tells most of a failure."""
    trace = outcome.folder / "traceback.txt"
    return trace if trace.is_file() else outcome.folder / "record.json"


def _run_record(outcome: Outcome) -> RunRecord:
    from seqbench.jobs.record import RunRecord

    assert isinstance(outcome.record, RunRecord)
    return outcome.record


def metric_interval(spec: TaskSpec, metric: str, predictions: np.ndarray, truth: Truth) -> Interval:
    """95% interval of one of the task's metrics over the groups of the test split."""
    from seqbench.stats import jackknife_interval

    share = next((known.share for known in spec.metrics if known.name == metric), False)
    return jackknife_interval(
        lambda kept: spec.score(predictions[kept], truth[kept])[metric], truth.groups, share=share
    )


def show_result(outcome: Outcome) -> RunRecord:
    """Print what one run gave: the metric with its interval, the baselines beside it, and what it cost."""
    record = _run_record(outcome)
    state = f"stored result of {record.finished}, {_code(record)} (--force runs it again)" if outcome.stored else "done"
    control = "" if record.config["control"] == "none" else f" · CONTROL {record.config['control']}"
    about = f"{_named(record)} v{record.task.version} · {record.model.name} · {record.budget} · seed {record.seed}"
    print_text(f"{about} · {record.environment.device}{control}: {state}\n")
    if record.status == "ok":
        _show_figures(record, outcome.folder)
    else:
        print_text(f"status  {record.status}: {record.reason}")
    _show_recipe(record)
    _show_data(record)
    print_path("record  ", outcome.folder / "record.json")
    return record


def _show_recipe(record: RunRecord) -> None:
    """Which documented configuration it was, what of it the user changed, and what the budget cut short."""
    name, changed = record.config.get("recipe"), record.config.get("recipe_changed")
    if name is not None:
        print_text(f"recipe  {name}, {'but for ' + ', '.join(changed) if changed else 'as documented'}")
    if short := record.config.get("cut_short"):
        print_text(f"        CUT SHORT by the budget smoke: {'; '.join(short)}")


def _named(record: RunRecord) -> str:
    """What the data is called, with the task where that is not the name."""
    return f"{record.task.dataset} ({record.task.name})" if record.task.dataset else record.task.name


def _leaks(record: RunRecord) -> list[str]:
    """What an option has let through from the test, in words."""
    return [note for note in (record.task.about.notes if record.task.about else ()) if note.startswith("LEAK")]


def _show_data(record: RunRecord) -> None:
    """What was read of the user's own file and how it was split: a figure is worth what its data is."""
    from seqbench.stats import few_groups

    about = record.task.about
    if record.task.source != "path" or about is None:
        for note in _leaks(record):
            print_text(f"\n{note}\n")
        return
    sizes = dict(zip(about.groups, (record.task.n_train, record.task.n_val, record.task.n_test), strict=True))
    counts = [f"{part} {n:,} in {counted(about.groups[part], 'group')}" for part, n in sizes.items()]
    print_text(f"\ndata    {record.task.dataset}: {', '.join(counts)}")
    for note in (*about.notes, few_groups(about.groups["test"])):
        if note:
            print_text(f"        {note}")


def _code(record: RunRecord) -> str:
    """Which seqbench made the record: figures of another version need not be those of this one."""
    commit = record.environment.git_commit
    dirty = " with changes" if record.environment.git_dirty else ""
    return f"seqbench {record.environment.seqbench}" + (f" at {commit[:9]}{dirty}" if commit else "")


def _show_figures(record: RunRecord, folder: Path) -> None:
    from seqbench.data import read_predictions
    from seqbench.task import TASKS

    spec = TASKS.get(record.task.name).at(record.task.source).formed(record.task.options)

    predictions, truth = read_predictions(folder)
    _show_scores(record, spec, metric_interval(spec, spec.primary.name, predictions, truth))
    test = record.metrics["test"]
    others = {name: value for name, value in test.items() if name not in (spec.primary.name, "n_scored")}
    for metric in spec.metrics[1:]:
        if metric.headline:
            interval = metric_interval(spec, metric.name, predictions, truth)
            print_text(f"\n{metric.name}: {_shown(others.pop(metric.name))} ({_ends(interval)})")
    if others:
        print_text("\nalso    " + ", ".join(f"{name} {_shown(value)}" for name, value in others.items()))
    print_text(f"\nscored  {test['n_scored']:,.0f} predictions; the interval is over test groups, not over seeds")
    _show_cost(record)
    if (folder / "sample.txt").is_file():
        print_text("sample  " + (folder / "sample.txt").read_text(encoding="utf-8").replace("\n", "\n        "))


def _show_scores(record: RunRecord, spec: TaskSpec, interval: Interval) -> None:
    """The table of the run and the baselines, the best first."""
    assert record.primary is not None
    named = record.primary.reference or spec.references[0]
    reference = record.baselines[named]
    own = f"{record.model.name} (this run)"
    rows: list[tuple[str, float | None, str]] = [(own, record.primary.value, _ends(interval))]
    rows += [(name, value, "") for name, value in record.baselines.items()]
    sign = -1 if spec.primary.direction == "higher" else 1
    rows.sort(key=lambda row: math.inf if row[1] is None else sign * row[1])
    unit = f" ({spec.primary.unit})" if spec.primary.unit else ""
    headers = [
        "",
        f"test {spec.primary.name}{unit}, {spec.primary.direction} is better",
        "95% interval",
        f"skill over {named}",
    ]
    cells = [
        (name, _shown(value), ends, "not known" if math.isnan(skill) else f"{skill + 0.0:.3f}")  # no -0.000
        for name, value, ends in rows
        for skill in [math.nan if value is None or reference is None else spec.skill(value, reference)]
    ]
    print_table(headers, cells, numbers="left")
    if record.primary.value is None:
        print_text(
            f"\n{spec.primary.name} can't be told from this test: its target never changes, or it has one class only"
        )
    elif record.skill is None:
        print_text(f"\nno skill can be told over {named}: on this test it is as good as can be, or can't be scored")


def _shown(value: float | None) -> str:
    return "not known" if value is None else format_value(value)


def _ends(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "not known"
    return f"{format_value(interval.low)} to {format_value(interval.high)}"


def _show_cost(record: RunRecord) -> None:
    cost = record.cost
    assert cost is not None and record.model.params is not None
    flops = "FLOPs not counted" if cost.flops_per_sample is None else f"{cost.flops_per_sample / 1e6:.3g} MFLOP"
    width = ",".join(map(str, record.model.hidden))
    print_text(
        f"model   {record.model.params:,} parameters, width {width}, {record.model.state_size:,} floats of state"
    )
    print_text(
        f"cost    {cost.train_seconds:.1f} s for {cost.steps:,} steps, {cost.tokens_per_second:,.0f} tokens/s, "
        f"{flops} a sample forward, peak {cost.peak_memory_bytes / 2**20:,.0f} MiB"
    )


def run_chart(record: RunRecord, folder: Path) -> Chart:
    """The learning curve, and the test predictions as their kind of task is best seen.

    Args:
        folder: holds the record and the files of its run.

    Raises:
        UserError: the predictions are missing or damaged.
    """
    from seqbench.data import read_predictions
    from seqbench.task import TASKS

    spec = TASKS.get(record.task.name).at(record.task.source).formed(record.task.options)
    columns = [[_learning_curve(record, spec, folder)]]
    if record.task.kind in TEST_PANELS:
        predictions, truth = read_predictions(folder)
        shown = TEST_PANELS[record.task.kind](predictions, truth, folder)
        columns.append(shown if isinstance(shown, list) else [shown])
        if record.task.kind == "tag" and "step" in truth.meta:
            for column, panel in zip(columns, _along(predictions, truth, folder), strict=True):
                column.append(panel)
    about = f"{_named(record)} · {record.model.name} · {record.budget} · seed {record.seed}"
    return Chart(about, columns, f"{spec.primary.name}: {spec.primary.direction} is better")


def _learning_curve(record: RunRecord, spec: TaskSpec, folder: Path) -> Panel:
    assert record.primary is not None
    points = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    name, unit = spec.primary.name, f" ({spec.primary.unit})" if spec.primary.unit else ""
    steps, values = [point["step"] for point in points], [_or_nan(point[f"val_{name}"]) for point in points]
    figures = {"this run": record.primary.value, **record.baselines}
    rules = [
        Rule(value, f"{whose} {format_value(value)}", strong=whose == "this run", widen="always")
        for whose, value in figures.items()
        if value is not None
    ]
    return Panel(
        "Learning curve",
        [Line(steps, values, look_of(record.model.name), label="validation", marked=True), *rules],
        Axis("optimiser step", limits=(0, 1.03 * max(steps))),
        Axis(name + unit),
        note="Lines across are figures on the test split: of this run's best state, and of the baselines.",
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _confusion(predictions: np.ndarray, truth: Truth, folder: Path) -> Panel:
    import numpy as np

    names = json.loads((folder / "model.json").read_text(encoding="utf-8"))["classes"]
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (truth.targets, predictions.argmax(axis=1)), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    texts = [[f"{counts[i, j]:,}\n{shares[i, j]:.1%}" for j in range(len(names))] for i in range(len(names))]
    matrix = Matrix(shares.tolist(), names, names, texts=texts, label="share of those of the true class")
    return Panel("Test: which classes are taken for which", [matrix], Axis("predicted"), Axis("true"))


def _along(predictions: np.ndarray, truth: Truth, folder: Path) -> list[Panel]:
    """The test sequences with the median and the lowest share of right labels, so that not only pretty ones are shown:
    what is true and what is predicted, step by step."""
    import numpy as np

    names = json.loads((folder / "model.json").read_text(encoding="utf-8"))["classes"]
    row, step = truth.meta["row"], truth.meta["step"]
    guess = predictions.argmax(axis=1)
    sizes = np.bincount(row)
    right = np.bincount(row, weights=guess == truth.targets)[sizes > 0] / sizes[sizes > 0]
    order = np.flatnonzero(sizes)[np.argsort(right, kind="stable")]
    panels = []
    for what, chosen in (("median", order[len(order) // 2]), ("lowest", order[0])):
        mine = np.flatnonzero(row == chosen)
        mine = mine[np.argsort(step[mine], kind="stable")]
        marks = [
            _levels(step[mine] + 1, len(names) - 1 - labels[mine] + shift, look, label)
            for labels, shift, look, label in (
                (truth.targets, 0.12, Look(DARK), "true"),
                (guess, -0.12, Look(COLOURS[0]), "predicted"),
            )
        ]
        share = f"{float(np.mean(guess[mine] == truth.targets[mine])):.1%}"
        panels.append(
            Panel(
                f"Test: the sequence with the {what} share of right labels, {share}",
                marks,
                Axis("step"),
                Axis(
                    limits=(-0.5, len(names) - 0.5),
                    ticks=[(len(names) - 1 - i, name) for i, name in enumerate(names)] if len(names) > 2 else None,
                ),
            )
        )
    return panels


def _levels(steps: np.ndarray, heights: np.ndarray, look: Look, label: str) -> Line:
    """A level line for every stretch of equal heights, with gaps between them."""
    x: list[float] = []
    y: list[float] = []
    for at, height in zip(steps.tolist(), heights.tolist(), strict=True):
        if y and y[-1] == height and x[-1] == at - 0.5:
            x[-1] = at + 0.5
        else:
            x += [at - 0.5, at - 0.5, at + 0.5]
            y += [math.nan, height, height]
    return Line(x, y, look, label=label)


MOST_POINTS = 2000  # more can't be told apart


def _numbers(predictions: np.ndarray, truth: Truth, folder: Path) -> Panel:
    """Each test example as a point, in the target's own units; what lies on the diagonal is right."""
    import numpy as np

    fitted = json.loads((folder / "model.json").read_text(encoding="utf-8"))["fitted"]
    step = math.ceil(len(truth) / MOST_POINTS)
    kept = np.arange(0, len(truth), step)
    both = [
        fitted.get("offset", 0.0) + fitted.get("scale", 1.0) * rows[kept].astype(float)
        for rows in (truth.targets, predictions)
    ]
    ends = [float(min(rows.min() for rows in both)), float(max(rows.max() for rows in both))]
    points = Points(both[0].tolist(), both[1].tolist(), Look(COLOURS[0]), small=True)
    note = f"One in {step} of the {len(truth):,} examples is drawn." if step > 1 else ""
    return Panel(
        "Test: what is predicted for each true number",
        [Line(ends, ends, Look(DARK), dash="dashed", label="right"), points],
        Axis("true"),
        Axis("predicted"),
        note=note,
    )


def _forecast(predictions: np.ndarray, truth: Truth, folder: Path) -> Panel:
    """The median and the worst test window by squared error, so that not only pretty ones are shown."""
    import numpy as np

    order = np.argsort(((predictions - truth.targets) ** 2).mean(axis=(1, 2)))
    ahead = list(range(1, predictions.shape[1] + 1))
    marks = []
    for name, index, colour in (("median", order[len(order) // 2], COLOURS[0]), ("worst", order[-1], COLOURS[1])):
        for what, windows, dash in (("truth", truth.targets, "solid"), ("forecast", predictions, "dashed")):
            values = windows[index, :, 0].tolist()
            marks.append(Line(ahead, values, Look(colour), label=f"{name} window: {what}", dash=dash))  # type: ignore[arg-type]
    label = "target, scaled by training mean and deviation"
    return Panel("Test: the windows with the median and the greatest error", marks, Axis("steps ahead"), Axis(label))


def _bits(predictions: np.ndarray, truth: Truth, folder: Path) -> Panel:
    from seqbench.data import unit_of
    from seqbench.metrics import bits_per_character

    unit = unit_of(json.loads((folder / "model.json").read_text(encoding="utf-8"))["fitted"])
    bits = [bits_per_character(predictions[[i]], truth.targets[[i]]) for i in range(len(truth))]
    line = Line(truth.groups.tolist(), bits, Look(COLOURS[0]))
    return Panel("Test: how well each block is predicted", [line], Axis(f"block of 2,048 test {unit}s"),
                 Axis(f"bits per {unit}"))  # fmt: skip


LENGTHS = (0, 8, 12, 16, 20, 25, 30, 40, 10_000)  # pieces of a source: after each begins the next group of sentences


def _translations(predictions: np.ndarray, truth: Truth, folder: Path) -> list[Panel]:
    """How good translations are by the length of the source, and what one of them looked back at, if it could."""
    import numpy as np

    from seqbench.metrics import translation_counts
    from seqbench.stats import jackknife_interval

    counts, sizes = translation_counts(predictions, truth.targets), truth.meta["source_length"]
    x, intervals = [], []
    for least, most in itertools.pairwise(LENGTHS):
        rows = np.flatnonzero((sizes > least) & (sizes <= most))
        if len(np.unique(truth.groups[rows])) > 1:
            x.append(float(sizes[rows].mean()))
            intervals.append(jackknife_interval(functools.partial(_bleu_of, counts[rows]), truth.groups[rows]))
    value, low, high = ([one[i] for one in intervals] for i in range(3))
    marks: list[Line | Points] = [
        Line(x, value, Look(COLOURS[0])),
        Points(x, value, Look(COLOURS[0]), low=low, high=high),
    ]
    axes = Axis("pieces of the source", limits=(0, 1.05 * max(x, default=1.0))), Axis("BLEU")
    panels = [Panel("Test: how well sentences of each length are translated", marks, *axes)]
    file = folder / "alignment.json"
    if file.is_file():
        shown = json.loads(file.read_text(encoding="utf-8"))
        names = [[f"{i + 1} {piece}" for i, piece in enumerate(shown[side])] for side in ("source", "written")]
        columns = [[row[j] for row in shown["weights"]] for j in range(len(names[0]))]
        matrix = Matrix(columns, names[0], names[1], label="share of attention")
        panels.append(
            Panel(
                "Test: which pieces of a source each written piece looks back at",
                [matrix],
                Axis("written"),
                Axis("source"),
            )
        )
    return panels


def _bleu_of(counts: np.ndarray, kept: np.ndarray) -> float:
    from seqbench.metrics import bleu

    return bleu(counts[kept].sum(axis=0))


TEST_PANELS: dict[str, Callable[[np.ndarray, Truth, Path], Panel | list[Panel]]] = {
    "classify": _confusion,
    "forecast": _forecast,
    "generate": _bits,
    "regress": _numbers,
    "tag": _confusion,
    "translate": _translations,
}

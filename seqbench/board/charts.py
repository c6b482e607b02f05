"""The board's pictures as charts, one of each table and one of each overview.

A difference is turned so that right always means the first is better, whatever the direction of the metric.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from seqbench.board.compare import BoardTable, Comparison, Difference, Overview, OverviewRow, overviews
from seqbench.board.frame import Array, Result
from seqbench.errors import UserError
from seqbench.report.chart import (
    DARK,
    GREY,
    MARKERS,
    Axis,
    Chart,
    Line,
    Look,
    Mark,
    Matrix,
    Panel,
    Points,
    Region,
    Rule,
    drawable,
    limits,
    look_of,
)
from seqbench.report.text import listed, rounded, short

__all__ = ["Picture", "draw_board", "more_of_overview", "more_of_table", "pictures"]

CURVE = "curve.jsonl"
MOST_NAME = 100  # characters of a file's name
MOST_PAIRS = 45  # of ten models; more than that nobody reads
OF_TASKS = f"{MARKERS}<>|"  # markers of single tasks, which have one colour
LEAST_SKILL = -1.0  # lower ones of single tasks are named, not drawn


class Picture(NamedTuple):
    """A chart, the heading that it belongs under on the page, and the name of its file without the suffix."""

    heading: str
    name: str
    chart: Chart


def draw_board(tables: Sequence[BoardTable], folder: Path, fmt: Literal["png", "svg"] = "png") -> dict[str, Path]:
    """Draw the pictures of ``tables`` into ``folder``; old files of a name are replaced.

    Returns:
        Of each picture the heading that it belongs under, as the page has it, and its file.

    Raises:
        UserError: a learning curve is missing or damaged, or ``folder`` can't be written.
    """
    from seqbench.report.draw import draw

    drawn = pictures(tables)
    return {picture.heading: draw(picture.chart, folder / f"{picture.name}.{fmt}") for picture in drawn}


def pictures(tables: Sequence[BoardTable]) -> list[Picture]:
    """One of each overview and each table, unless there is nothing to be shown.

    A name says what the heading does: ``<task>-<budget>-width<hidden>`` or ``-params<count>``, and in what the
    conditions differ from the usual ones.

    Raises:
        UserError: a learning curve is missing or damaged.
    """
    shown = [
        (each.heading, _file_stem("overview", each.tables[0]), _overview_chart(each)) for each in overviews(tables)
    ]
    shown += [(table.title, _file_stem(table.name, table), _table_chart(table)) for table in tables]
    names = _unlike([name for _, name, _ in shown])
    return [
        Picture(heading, name, chart) for (heading, _, chart), name in zip(shown, names, strict=True) if chart.panels
    ]


def _file_stem(what: str, table: BoardTable) -> str:
    """Letters, digits, dashes and underscores only."""
    params, hidden = table.conditions.config.get("params"), table.conditions.config.get("hidden") or ()
    width = f"params{params}" if params else f"width{'_'.join(map(str, hidden))}"
    about = "-".join((what, table.conditions.budget, width, *table.setting, *table.variant))
    return re.sub(r"[^a-z0-9_]+", "-", about.lower()).strip("-")[:MOST_NAME]


def _unlike(names: Sequence[str]) -> list[str]:
    """Of those that are the same the later ones are numbered."""
    counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return [f"{name}~{count}" if count > 1 else name for name, count in zip(names, counts, strict=True)]


# --- the picture of a table ------------------------------------------------------------------------------------------


class _About(TypedDict, total=False):
    """What a page can tell of points; see `Points`."""

    of: Sequence[str]
    names: Sequence[str]
    opens: Sequence[str]


def _opening(runs: Iterable[Result]) -> list[str]:
    """Of one point that stands for all of these runs."""
    return ["\n".join(run.record for run in runs)]


Part = tuple[list[Panel], list[str]]  # of a picture: panels, none of which is empty, and the notes that they need


def _table_chart(table: BoardTable) -> Chart:
    """Figure against cost and learning curves on the left, differences on the right."""
    measure, name = table.measure, _metric_name(table)
    order = [row.label for row in table.rows].index
    against = sorted(table.against, key=lambda pair: order(pair.first))
    records = {row.label: [run.record for run in row.results.values()] for row in table.models}
    turned = "\n(lower is better: sign turned)" if measure.sign < 0 else ""
    what = f"difference of test {name}{turned}"
    forests, how_to_read = _differences(table.comparison, against, measure.sign, what, records)
    cost, cost_notes = _cost(table)
    curves, curve_notes = _learning(table)
    unranked = [f"{row.label} {row.state}" for row in table.models if row.metric is None]
    notes = [
        *([f"Not ranked, without a mean: {'; '.join(unranked)}."] if unranked else []),
        *table.caveats(),
        *cost_notes,
        *curve_notes,
        *how_to_read,
    ]
    better = f", {measure.direction} is better" if measure.direction else ""
    about = f"test {name}{better} · seeds: {len(table.seeds)}"
    return Chart(table.title, [column for column in ([*cost, *curves], forests) if column], about, notes)


def _metric_name(table: BoardTable) -> str:
    """The metric, with its unit."""
    return short(table.measure.metric or "figure") + (f" ({short(table.measure.unit)})" if table.measure.unit else "")


def _cost(table: BoardTable) -> Part:
    """Metric against training seconds of a run: seeds, means with intervals, the Pareto front, baselines."""
    marks: list[Mark] = []
    seconds: list[float] = []
    for row in table.models:
        runs = [(table.basis.seconds_of(run), run.value, run) for run in row.results.values()]
        points = [(x, y, run) for x, y, run in runs if x is not None and y is not None and drawable(y)]
        if points:
            xs, ys, shown = zip(*points, strict=True)
            told: _About = {"opens": [run.record for run in shown]}
            told["names"] = [f"{row.label}, seed {run.seed}" for run in shown]
            marks.append(Points(xs, ys, look_of(row.label), small=True, **told))
            seconds += xs
    if not marks:
        return [], []
    means, unplaced = [], []
    for row in table.models:
        x, mean = table.basis.costs(row).train_seconds, row.metric
        if mean and x is not None and drawable(mean.value):
            means.append((x, mean.value))
            ends = [mean.low], [mean.high]
            opens = _opening(row.results.values())
            marks.append(Points([x], [mean.value], look_of(row.label), *ends, label=short(row.label), opens=opens))
        elif mean:
            unplaced.append(row.label)
    marks += _front(means, table.measure.sign, max(seconds))
    for name, baseline in table.baselines.items():
        strongest, text = name == table.strongest, f"{short(name)} {rounded(baseline.value, 4)}"
        marks.append(Rule(baseline.value, text, strong=strongest, widen="near" if strongest else "never"))
    kind = "CPU seconds" if table.basis.seconds == "cpu" else "wall-clock seconds"
    logarithmic = 0 < 3 * min(seconds) <= max(seconds)
    label = f"{kind} in training, mean of a run" + (" (logarithmic)" if logarithmic else "")
    title = "Metric against cost: mean with 95% interval, seeds as small marks"
    cost = Axis(label, "log10" if logarithmic else "linear")
    notes = [f"{listed(unplaced)} ran elsewhere: no cost to compare."] if unplaced else []
    if table.strongest:
        notes.append(f"Lines across the panel: baselines; solid is the strongest, {table.strongest}.")
    better = {1: "Higher", -1: "Lower"}.get(table.measure.sign, "Higher")
    about = f"{better} is better, and further left is cheaper. The step line is the best that a cost buys."
    return [Panel(title, marks, cost, Axis(f"test {_metric_name(table)}"), about=about)], notes


def _front(means: Sequence[tuple[float, float]], sign: int, edge: float) -> list[Line]:
    """The best mean that each cost buys, as steps that end at the greatest cost."""
    if len(means) < 2:
        return []
    front: list[tuple[float, float]] = []
    for x, y in sorted(means, key=lambda point: (point[0], -sign * point[1])):
        if not front or sign * y > sign * front[-1][1]:
            front.append((x, y))
    xs, ys = zip(*front, (max(edge, front[-1][0]), front[-1][1]), strict=True)
    return [Line(xs, ys, Look(DARK), faint=True, steps=True, label="best mean for the cost (Pareto front)")]


def _learning(table: BoardTable) -> Part:
    """Validation figure by optimiser step: the mean over seeds and their range; single seeds where one failed."""
    marks: list[Mark] = []
    drawn: list[tuple[float, float]] = []
    uneven = False
    for row in table.models:
        good = [result for result in row.results.values() if result.status == "ok"]
        curves = [curve for result in good if (curve := _curve(result, f"val_{table.measure.metric}"))]
        drawn += [point for curve in curves for point in curve.items()]
        look, label = look_of(row.label), short(row.label)
        if row.metric is None:
            label += ", single runs"
            lines = [(list(curve), list(curve.values())) for curve in curves]
            marks += [Line(*line, look, dash="dotted", faint=True, label=label) for line in lines]
        elif curves:
            uneven |= len({tuple(curve) for curve in curves}) > 1
            steps = sorted(set().union(*curves))
            values: Array = np.array([[curve.get(step, math.nan) for step in steps] for curve in curves])
            low, high, mean = np.nanmin(values, axis=0), np.nanmax(values, axis=0), values.mean(axis=0)
            marks.append(Line(steps, mean.tolist(), look, low.tolist(), high.tolist(), label, marked=True))
    if not marks:
        return [], []
    limits, note = _focus(drawn)
    title = "Learning curves: mean of the seeds, band from least to greatest"
    y = Axis(f"validation {_metric_name(table)}", limits=limits)
    notes = ["Mean curves end where the first seed stopped; their bands go on over the others."] if uneven else []
    about = "How validation went during training: the test has no say in it."
    return [Panel(title, marks, Axis("optimiser step"), y, note=note, about=about)], notes


def _curve(result: Result, key: str) -> dict[int, float]:
    """Step to figure, as far as it can be drawn."""
    path = result.folder / CURVE
    try:
        points = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        curve = {int(point["step"]): float(math.nan if point[key] is None else point[key]) for point in points}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None
    return {step: value for step, value in sorted(curve.items()) if drawable(value)}


def _focus(drawn: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], str]:
    """Limits that show nine tenths of the second half of training, and of the rest as much as leaves that a third.

    Also how many of the ``drawn`` (step, value) lie beyond them.
    """
    last, values = max(step for step, _ in drawn), [value for _, value in drawn]
    least, most = np.quantile([value for step, value in drawn if step >= last / 2], (0.05, 0.95)).tolist()
    room = 1.5 * (most - least) or 0.1 * abs(most) or 0.1
    margin = 0.05 * room
    low, high = max(min(values) - margin, least - 2 * room), min(max(values) + margin, most + 2 * room)
    beyond = {"below": sum(value < low for value in values), "above": sum(value > high for value in values)}
    said = [f"checks of single runs {side} this axis: {count}" for side, count in beyond.items() if count]
    return (low, high), "; ".join(said)


# --- what a page for a browser shows beside ---------------------------------------------------------------------------


def more_of_table(table: BoardTable) -> Chart | None:
    """Rank against steps: who was ahead when, by the mean validation figure of all seeds; None without curves.

    Only steps that every ranked model was checked at are compared.

    Raises:
        UserError: a learning curve is missing or damaged.
    """
    ranked = [row for row in table.models if row.metric is not None]
    curves = {row.label: [_curve(run, f"val_{table.measure.metric}") for run in row.results.values()] for row in ranked}
    steps = sorted(set.intersection(*(set(curve) for own in curves.values() for curve in own))) if curves else []
    if len(ranked) < 2 or len(steps) < 2:
        return None
    means = {label: [statistics.fmean(curve[step] for curve in own) for step in steps] for label, own in curves.items()}
    sign = table.measure.sign
    ranks = {
        label: [sum(sign * other[i] > sign * value for other in means.values()) for i, value in enumerate(own)]
        for label, own in means.items()
    }
    marks = [
        Line(steps, [float(rank) for rank in own], look_of(label), label=short(label), marked=True)
        for label, own in ranks.items()
    ]
    rows = [str(place + 1) for place in range(len(ranked))]
    title = "Rank against steps: who was ahead when"
    about = (
        f"By the mean validation {_metric_name(table)} of the seeds, significant or not: lines that cross say that the "
    )
    about += "order depends on how long one trains."
    panel = Panel(title, marks, Axis("optimiser step"), Axis("rank"), rows=rows, about=about)
    return Chart(table.title, [[panel]])


def more_of_overview(overview: Overview) -> Chart | None:
    """Skill of each model on each task; None where nothing is known."""
    rows = [row for row in overview.rows if any(row.skills)]
    if not rows:
        return None
    values = [[skill.value if skill else math.nan for skill in row.skills] for row in rows]
    texts = [["–" if math.isnan(value) else f"{value:z.2f}" for value in row] for row in values]  # noqa: RUF001
    names = [short(row.label) for row in rows]
    matrix = Matrix(values, names, overview.tasks, texts=texts, label="skill: 0 the reference, 1 perfect")
    about = (
        "The stronger the shade, the better. 0 is each task's reference baseline, 1 is perfect; below 0 there is none."
    )
    return Chart(overview.heading, [[Panel("Skill on each task", [matrix], about=about)]])


# --- differences -----------------------------------------------------------------------------------------------------


def _differences(
    comparison: Comparison,
    against: Sequence[Difference],
    sign: int,
    what: str,
    records: Mapping[str, Sequence[str]],
) -> Part:
    """All pairs, or, of too many to read, those of the best model; and each model against the strongest baseline.

    The panels have one scale, unless that would squash one.
    """
    pairs, best = comparison.differences, next(iter(comparison.ranks), "")
    title = "Pairs of models, with 95% intervals"
    if len(pairs) > MOST_PAIRS:
        title = f"{short(best)} and each other model, with 95% intervals (of {len(pairs)} pairs)"
        pairs = [pair for pair in pairs if best in (pair.first, pair.second)]
    panels = [_forest(title, pairs, sign, what, records, least=comparison.least)] if pairs else []
    if against:
        baseline = against[0].second
        title = f"Against the strongest baseline, {short(baseline)}"
        panels.append(_forest(title, against, sign, what, records, baseline=baseline))
    spans = [limits(panel, "x") or (-1.0, 1.0) for panel in panels]
    whole = min((low for low, _ in spans), default=0.0), max((high for _, high in spans), default=0.0)
    if all(whole[1] - whole[0] <= 1.6 * (high - low) for low, high in spans):
        panels = [replace(panel, x=replace(panel.x, limits=whole)) for panel in panels]
    else:
        panels[1] = replace(panels[1], title=panels[1].title + " (another scale)")
    return panels, _how_to_read([*comparison.differences, *against], comparison.least)


def _forest(
    title: str,
    differences: Sequence[Difference],
    sign: int,
    what: str,
    records: Mapping[str, Sequence[str]],
    *,
    least: float = math.nan,
    baseline: str = "",
) -> Panel:
    """A row of each difference: significant ones filled in the look of the better, others hollow and grey.

    On both sides of zero those smaller than the smallest that would have been found are shaded.
    """
    marks: list[Mark] = [Region(-least, least)] if least > 0 and drawable(least) else []
    marks.append(Rule(0.0, axis="x", strong=True, widen="always"))
    names = [short(pair.first) + ("" if baseline else f" - {short(pair.second)}") for pair in differences]
    for i, pair in enumerate(differences):
        look = Look(GREY) if pair.better is None else Look(DARK) if pair.better == baseline else look_of(pair.better)
        low, high = sorted((sign * pair.low, sign * pair.high))
        value = sign * pair.difference
        pair_of = [label for label in (pair.first, pair.second) if label in records]
        told: _About = {"of": pair_of, "opens": ["\n".join(path for label in pair_of for path in records[label])]}
        marks.append(Points([value], [i], look, [low], [high], along="x", hollow=pair.better is None, **told))
    faded = [name for name, pair in zip(names, differences, strict=True) if pair.better is None]
    second, first = (short(baseline), "model") if baseline else ("second", "first")
    x = Axis(f"← {second} is better          {first} is better →\n{what}")
    about = "Filled: significant, with the mark of the better one. Hollow: the two can't be told apart."
    return Panel(title, marks, x, rows=names, faded=faded, about=about)


def _how_to_read(differences: Sequence[Difference], least: float) -> list[str]:
    """Which differences are significant, and what the band of those too small to be found is."""
    if not differences:
        return ["Nothing to compare: fewer than two complete models."]
    if all(math.isnan(pair.p_adjusted) for pair in differences):
        return ["No p-values, so no difference is shown to be significant."]
    notes = [
        "Filled differences are significant (Holm: at most a 5% risk of any false one in a panel), hollow ones are not."
    ]
    if any(pair.better is None and (pair.low > 0 or pair.high < 0) for pair in differences):
        notes[0] += " Each interval stands for itself: it may miss zero where the difference is not significant."
    if least > 0 and drawable(least):
        band = f"Grey band: ±{least:.2g}, the smallest true difference found with 80% power"
        notes.append(f"{band}; smaller ones may be missed.")
    return notes


# --- the picture of an overview --------------------------------------------------------------------------------------


def _overview_chart(overview: Overview) -> Chart:
    """Mean skill across tasks on the left, differences of it on the right."""
    by_task = [
        {row.label: [run.record for run in row.results.values()] for row in table.models} for table in overview.tables
    ]
    records = {row.label: [path for own in by_task for path in own.get(row.label, ())] for row in overview.rows}
    forests, how_to_read = _differences(overview.comparison, [], 1, "difference of mean skill", records)
    skills, notes = _skills(overview, by_task, records)
    about = f"mean skill over {len(overview.tables)} tasks, each counted alike; higher is better"
    return Chart(overview.heading, [column for column in (skills, forests) if column], about, [*notes, *how_to_read])


def _skills(
    overview: Overview, by_task: Sequence[Mapping[str, Sequence[str]]], records: Mapping[str, Sequence[str]]
) -> Part:
    """Means with intervals, single tasks small below them; incomplete models come last, without a mean.

    Notes say what these lack, which means have no interval, and what lies beyond the axis.
    """
    marks: list[Mark] = [Rule(0.0, axis="x", strong=True)]
    for i, row in enumerate(overview.rows):
        if mean := row.mean_skill:
            ends, opens = ([mean.low], [mean.high]), ["\n".join(records[row.label])]
            marks.append(Points([mean.value], [i - 0.12], look_of(row.label), *ends, along="x", opens=opens))
    values = [[skill.value if skill else math.nan for skill in row.skills] for row in overview.rows]
    for k, task in enumerate(overview.tasks):
        shown = [
            (own[k], i + 0.2, "\n".join(by_task[k].get(overview.rows[i].label, ())))
            for i, own in enumerate(values)
            if own[k] >= LEAST_SKILL and drawable(own[k])
        ]
        if shown:
            xs, ys, behind = zip(*shown, strict=True)
            marks.append(Points(xs, ys, Look(GREY, OF_TASKS[k % len(OF_TASKS)]), label=task, small=True, opens=behind))
    complete = [row for row in overview.rows if row.mean_skill is not None]
    lacking = [row for row in overview.rows if row.mean_skill is None]
    notes = []
    if lacking:
        said = [f"{row.label} ({listed(_missing(overview, row))})" for row in lacking]
        notes.append(f"Not ranked, without a mean: {'; '.join(said)}.")
    if any(row.mean_skill and not math.isfinite(row.mean_skill.low) for row in complete):
        notes.append("Where no interval stands, there is one seed only, or records lack their leave-one-out figures.")
    beyond = [
        f"{row.label} has {rounded(value)} on {task}"
        for row, own in zip(overview.rows, values, strict=True)
        for value, task in zip(own, overview.tasks, strict=True)
        if value < LEAST_SKILL
    ]
    if beyond:
        notes.append(f"Beyond the axis: {'; '.join(beyond)}.")
    if not any(isinstance(mark, Points) for mark in marks):
        return [], notes
    faded = [f"({short(row.label)})" for row in lacking]
    panel = Panel(
        "Mean skill with 95% interval; single tasks small below it",
        marks,
        Axis("skill: 0 is each task's reference baseline, 1 is perfect"),
        rows=[*(short(row.label) for row in complete), *faded],
        faded=faded,
        note="in brackets: incomplete, no mean and no rank" if lacking else "",
        about="Each large mark is a model over all tasks; the small ones below it show how uneven the tasks are.",
    )
    return [panel], notes


def _missing(overview: Overview, row: OverviewRow) -> list[str]:
    """The tasks on which a model has no skill, and how far it got there."""
    parts = zip(overview.tasks, row.skills, row.states, strict=True)
    return [f"{task} {state}" for task, skill, state in parts if skill is None]

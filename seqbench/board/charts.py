"""The board's pictures as charts, one of each table and one of each overview.

A difference is turned so that right always means the first is better, whatever the direction of the metric.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from seqbench.board.compare import BoardTable, Comparison, Difference, Entrant, Overview, Result, Row, overviews
from seqbench.board.frame import Array
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
    Panel,
    Points,
    Region,
    Rule,
    drawable,
    limits,
    look_of,
)
from seqbench.report.text import format_value, listed, rounded, short
from seqbench.stats import Interval

__all__ = ["Picture", "draw_board", "picture_files", "pictures"]

CURVE = "curve.jsonl"
MOST_NAME = 100  # characters of a file's name
MOST_PAIRS = 45  # of ten models; more than that nobody reads
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


def picture_files(tables: Sequence[BoardTable], folder: Path, fmt: Literal["png", "svg"] = "png") -> dict[str, Path]:
    """What `draw_board` returns, without drawing."""
    return {picture.heading: folder / f"{picture.name}.{fmt}" for picture in pictures(tables)}


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
    shown += [(table.title, _file_stem(table.conditions.task, table), _table_chart(table)) for table in tables]
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


def _table_chart(table: BoardTable) -> Chart:
    """Figure against cost and learning curves on the left, differences on the right; no panel is empty."""
    measure, name = table.measure, _metric_name(table)
    order = [row.label for row in table.rows].index
    against = sorted(table.against, key=lambda pair: order(pair.first))
    turned = "\n(lower is better: sign turned)" if measure.sign < 0 else ""
    forests = _forests([_pairs(table.comparison, measure.sign), _against(against, measure.sign)],
                       f"difference of test {name}{turned}")  # fmt: skip
    curves, uneven = _curves_panel(table)
    cost = _cost_panel(table)
    left = [panel for panel in (cost, curves) if panel.marks]
    about = f"test {name}, {measure.direction} is better · seeds: {len(table.seeds)}"
    unranked = [f"{row.label} {table.state(row)}" for row, _ in table.models if row.metric is None]
    notes = [
        *([f"Not ranked, without a mean: {'; '.join(unranked)}."] if unranked else []),
        *table.caveats(),
        *(_cost_notes(table) if cost.marks else []),
        *(["Mean curves end where the first seed stopped; their bands go on over the others."] if uneven else []),
        *_difference_notes(forests, table.comparison, against),
    ]
    return Chart(table.title, [column for column in (left, forests) if column], about, notes)


def _metric_name(table: BoardTable) -> str:
    """The metric, with its unit."""
    return short(table.measure.metric or "figure") + (f" ({short(table.measure.unit)})" if table.measure.unit else "")


def _means(table: BoardTable) -> dict[str, tuple[float, Interval]]:
    """Seconds and figure of every model that has both."""
    return {
        row.label: (row.costs.train_seconds, row.metric)
        for row, _ in table.models
        if row.metric and row.costs and row.costs.train_seconds is not None and drawable(row.metric.value)
    }


def _cost_panel(table: BoardTable) -> Panel:
    """Metric against training seconds of a run: seeds, means with intervals, the Pareto front, baselines."""
    marks: list[Mark] = []
    seconds: list[float] = []
    for row, entrant in table.models:
        runs = [(table.basis.seconds_of(run), run.value) for run in entrant.results.values()]
        points = [(x, y) for x, y in runs if x is not None and y is not None and drawable(y)]
        if points:
            xs, ys = zip(*points, strict=True)
            marks.append(Points(xs, ys, look_of(row.label), small=True))
            seconds += xs
    if not marks:
        return Panel("", [])
    means = _means(table)
    for label, (x, mean) in means.items():
        marks.append(Points([x], [mean.value], look_of(label), [mean.low], [mean.high], label=short(label)))
    marks += _front([(x, mean.value) for x, mean in means.values()], table.measure.sign, max(seconds))
    for name, baseline in table.baselines.items():
        strongest, text = name == table.strongest, f"{short(name)} {format_value(baseline.value)}"
        marks.append(Rule(baseline.value, text, strong=strongest, widen="near" if strongest else "never"))
    kind = "CPU seconds" if table.basis.seconds == "cpu" else "wall-clock seconds"
    cost = Axis(f"{kind} in training, mean of a run")
    if 0 < 3 * min(seconds) <= max(seconds):
        cost = Axis(f"{cost.label} (logarithmic)", "log10")
    title = "Metric against cost: mean with 95% interval, seeds as small marks"
    return Panel(title, marks, cost, Axis(f"test {_metric_name(table)}"))


def _front(means: Sequence[tuple[float, float]], sign: int, edge: float) -> list[Line]:
    """The best mean that each cost buys, as steps that end at the greatest cost."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(means, key=lambda point: (point[0], -sign * point[1])):
        if not front or sign * y > sign * front[-1][1]:
            front.append((x, y))
    if len(means) < 2:
        return []
    xs, ys = zip(*front, (max(edge, front[-1][0]), front[-1][1]), strict=True)
    return [Line(xs, ys, Look(DARK), faint=True, steps=True, label="best mean for the cost (Pareto front)")]


def _cost_notes(table: BoardTable) -> list[str]:
    """Who has no place in the panel of costs, and what its lines are."""
    means = _means(table)
    unplaced = [row.label for row, _ in table.models if row.metric is not None and row.label not in means]
    notes = [f"{listed(unplaced)} ran elsewhere: no cost to compare."] if unplaced else []
    return notes + (
        [f"Lines across the panel: baselines; solid is the strongest, {table.strongest}."] if table.strongest else []
    )


def _curves_panel(table: BoardTable) -> tuple[Panel, bool]:
    """Validation figure by optimiser step: the mean over seeds and their range; single seeds where one failed.

    Also whether some seeds of a model stopped earlier than others.
    """
    marks: list[Mark] = []
    drawn: list[tuple[float, float]] = []
    uneven = False
    for row, entrant in table.models:
        curves = _curves(table, entrant)
        drawn += [point for curve in curves for point in curve.items()]
        look, label = look_of(row.label), short(row.label)
        if row.metric is None:
            label += ", single runs"
            marks += [Line(list(c), list(c.values()), look, dash="dotted", faint=True, label=label) for c in curves]
        elif curves:
            uneven |= len({tuple(curve) for curve in curves}) > 1
            steps = sorted(set().union(*curves))
            values: Array = np.array([[curve.get(step, math.nan) for step in steps] for curve in curves])
            low, high, mean = np.nanmin(values, axis=0), np.nanmax(values, axis=0), values.mean(axis=0)
            marks.append(Line(steps, mean.tolist(), look, low.tolist(), high.tolist(), label, marked=True))
    title = "Learning curves: mean of the seeds, band from least to greatest"
    panel = Panel(title, marks, Axis("optimiser step"), Axis(f"validation {_metric_name(table)}"))
    return _focused(panel, drawn) if drawn else panel, uneven


def _curves(table: BoardTable, entrant: Entrant) -> list[dict[int, float]]:
    """Step to figure of every run with a result; runs without one leave no curve."""
    results = [result for result in entrant.results.values() if result.status == "ok"]
    curves = [_curve(result, f"val_{table.measure.metric}") for result in results]
    return [curve for curve in curves if curve]


def _curve(result: Result, key: str) -> dict[int, float]:
    path = result.folder / CURVE
    try:
        points = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        curve = {int(point["step"]): float(point[key]) for point in points}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{path} is missing or damaged: run the cell again with --force.") from None
    return {step: value for step, value in sorted(curve.items()) if drawable(value)}


def _focused(panel: Panel, drawn: Sequence[tuple[float, float]]) -> Panel:
    """An axis that shows nine tenths of the second half of training, and of the rest as much as leaves that a third."""
    last, values = max(step for step, _ in drawn), [value for _, value in drawn]
    least, most = np.quantile([value for step, value in drawn if step >= last / 2], (0.05, 0.95)).tolist()
    room = 1.5 * (most - least) or 0.1 * abs(most) or 0.1
    margin = 0.05 * room
    low, high = max(min(values) - margin, least - 2 * room), min(max(values) + margin, most + 2 * room)
    beyond = {"below": sum(value < low for value in values), "above": sum(value > high for value in values)}
    said = [f"checks of single runs {side} this axis: {count}" for side, count in beyond.items() if count]
    return dataclasses.replace(panel, y=dataclasses.replace(panel.y, limits=(low, high)), note="; ".join(said))


# --- differences -----------------------------------------------------------------------------------------------------


def _forests(panels: Sequence[Panel], what: str) -> list[Panel]:
    """Panels of differences on one scale, unless that would squash one; those without any are left out."""
    panels = [panel for panel in panels if panel.rows]
    spans = [limits(panel, "x") or (-1.0, 1.0) for panel in panels]
    whole = min((low for low, _ in spans), default=0.0), max((high for _, high in spans), default=0.0)
    alike = all(whole[1] - whole[0] <= 1.6 * (high - low) for low, high in spans)
    scaled = []
    for i, panel in enumerate(panels):
        x = Axis(f"{panel.x.label}\n{what}", limits=whole if alike else None)
        scaled.append(
            dataclasses.replace(panel, title=panel.title + (" (another scale)" if i and not alike else ""), x=x)
        )
    return scaled


def _pairs(comparison: Comparison, sign: int) -> Panel:
    """All pairs, or, of too many to read, those of the best model."""
    differences, best = comparison.differences, next(iter(comparison.ranks), "")
    title = "Pairs of models, with 95% intervals"
    if len(differences) > MOST_PAIRS:
        title = f"{short(best)} and each other model, with 95% intervals (of {len(differences)} pairs)"
        differences = [pair for pair in differences if best in (pair.first, pair.second)]
    names = [f"{short(pair.first)} - {short(pair.second)}" for pair in differences]
    return _forest(title, differences, names, sign, least=comparison.least)


def _against(differences: Sequence[Difference], sign: int) -> Panel:
    """Each model against the strongest baseline."""
    baseline = differences[0].second if differences else ""
    title = f"Against the strongest baseline, {short(baseline)}"
    return _forest(title, differences, [short(pair.first) for pair in differences], sign, baseline=baseline)


def _forest(
    title: str, differences: Sequence[Difference], names: Sequence[str], sign: int, *, least: float = math.nan,
    baseline: str = "",
) -> Panel:  # fmt: skip
    """A row of each difference: significant ones filled in the look of the better, others hollow and grey.

    On both sides of zero those smaller than the smallest that would have been found are shaded.
    """
    marks: list[Mark] = [Region(-least, least)] if least > 0 and drawable(least) else []
    marks.append(Rule(0.0, axis="x", strong=True, widen="always"))
    for i, pair in enumerate(differences):
        look = Look(GREY) if pair.better is None else Look(DARK) if pair.better == baseline else look_of(pair.better)
        low, high = sorted((sign * pair.low, sign * pair.high))
        value = sign * pair.difference
        marks.append(Points([value], [i], look, [low], [high], along="x", hollow=pair.better is None))
    faded = [name for name, pair in zip(names, differences, strict=True) if pair.better is None]
    second, first = (short(baseline), "model") if baseline else ("second", "first")
    x = Axis(f"← {second} is better          {first} is better →")
    return Panel(title, marks, x, rows=names, faded=faded)


def _difference_notes(panels: Sequence[Panel], comparison: Comparison, against: Sequence[Difference] = ()) -> list[str]:
    """How to read the differences: which are significant, and the band of those too small to be found."""
    differences = [*comparison.differences, *against]
    if not panels:
        return ["Nothing to compare: fewer than two complete models."]
    if all(math.isnan(pair.p_adjusted) for pair in differences):
        return ["No p-values, so no difference is shown to be significant."]
    notes = [
        "Filled differences are significant (Holm: at most a 5% risk of any false one in a panel), hollow ones are not."
    ]
    if any(pair.better is None and (pair.low > 0 or pair.high < 0) for pair in differences):
        notes[0] += " Each interval stands for itself: it may miss zero where the difference is not significant."
    if comparison.least > 0 and drawable(comparison.least):
        least = f"{comparison.least:.2g}"
        notes.append(
            f"Grey band: ±{least}, the smallest true difference found with 80% power; smaller ones may be missed."
        )
    return notes


# --- the picture of an overview --------------------------------------------------------------------------------------


def _overview_chart(overview: Overview) -> Chart:
    """Mean skill across tasks on the left, differences of it on the right."""
    forests = _forests([_pairs(overview.comparison, 1)], "difference of mean skill")
    about = f"mean skill over {len(overview.tables)} tasks, each counted alike; higher is better"
    notes = [*_skill_notes(overview), *_difference_notes(forests, overview.comparison)]
    left = [panel for panel in [_skill_panel(overview)] if any(isinstance(mark, Points) for mark in panel.marks)]
    return Chart(overview.heading, [column for column in (left, forests) if column], about, notes)


def _skill_panel(overview: Overview) -> Panel:
    """Means with intervals, single tasks small below them; incomplete models come last, without a mean."""
    marks: list[Mark] = [Rule(0.0, axis="x", strong=True)]
    for i, row in enumerate(overview.rows):
        if row.skill is not None:
            mean = row.skill
            marks.append(Points([mean.value], [i - 0.12], look_of(row.label), [mean.low], [mean.high], along="x"))
    for k, table in enumerate(overview.tables):
        skills = [(_skill(row.rows[k]), i + 0.2) for i, row in enumerate(overview.rows)]
        shown = [(x, y) for x, y in skills if x >= LEAST_SKILL and drawable(x)]  # NaN is not
        if shown:
            look = Look(GREY, MARKERS[k % len(MARKERS)])
            xs, ys = zip(*shown, strict=True)
            marks.append(Points(xs, ys, look, label=table.conditions.task, small=True))
    incomplete = [f"({short(row.label)})" for row in overview.rows if row.skill is None]
    names = [short(row.label) for row in overview.rows if row.skill is not None] + incomplete
    return Panel(
        "Mean skill with 95% interval; single tasks small below it",
        marks,
        Axis("skill: 0 is each task's reference baseline, 1 is perfect"),
        rows=names,
        faded=incomplete,
        note="in brackets: incomplete, no mean and no rank" if incomplete else "",
    )


def _skill(row: Row | None) -> float:
    return math.nan if row is None or row.skill is None else row.skill.value


def _skill_notes(overview: Overview) -> list[str]:
    """What the incomplete models lack, which means have no interval, and what lies beyond the axis."""
    lines, beyond = [], []
    for row in overview.rows:
        parts = list(zip(overview.tables, row.rows, strict=True))
        beyond += [
            f"{row.label} has {rounded(_skill(part))} on {table.conditions.task}"
            for table, part in parts
            if _skill(part) < LEAST_SKILL
        ]
        if row.skill is None:
            missing = [
                f"{table.conditions.task} {table.state(part)}" for table, part in parts if not (part and part.skill)
            ]
            lines.append(f"{row.label} ({listed(missing)})")
    said = [f"Not ranked, without a mean: {'; '.join(lines)}."] if lines else []
    if any(row.skill is not None and not math.isfinite(row.skill.low) for row in overview.rows):
        said.append("Where no interval stands, there is one seed only, or records lack their leave-one-out figures.")
    return said + ([f"Beyond the axis: {'; '.join(beyond)}."] if beyond else [])

"""The board as a Markdown page for readers, and as JSON and CSV for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seqbench.board.compare import BoardTable, Comparison, Entrant, Overview, OverviewRow, Ranks, Row, overviews
from seqbench.board.frame import Result
from seqbench.config import ADDED
from seqbench.rates import TRIAL_SEED
from seqbench.report.text import (
    NONE,
    decimals,
    escape,
    link,
    listed,
    open_ranks,
    or_dash,
    relative,
    with_interval,
    with_reach,
)
from seqbench.report.text import table as table_lines
from seqbench.stats import Interval

__all__ = ["HOW_TO_READ", "Page", "overview_lines", "render"]

Json = dict[str, Any]
BETTER = "significantly better than"
LEFT = ("model", BETTER, "seeds")
ABOUT = ("task", "task_version", "task_code_sha256", "kind", "options", "source", "data_sha256", "n_test")
MODEL = ("model", "model_version", "model_code_sha256")
FLAT = (
    "rank", "rank_low", "rank_high", "row", "label", "model_version", "value", "value_low", "value_high", "skill",
    "skill_low", "skill_high", "better_than", "parameters", "hidden", "learning_rate", "learning_rates_tried", "seeds",
)  # fmt: skip
FLAT_COSTS = (
    "train_seconds", "tokens_per_second", "peak_memory_bytes", "tuning_seconds", "tuning_seconds_are_all",
    "cost_device", "records",
)  # fmt: skip
REPEATABLE = ("diverged", "not_applicable")  # their reasons tell nothing of the machine
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins like this a spreadsheet takes for a formula
MOST_VERSIONS = 6
HOW_TO_READ = """\
# Leaderboard

Made by `seqbench leaderboard` from {records:,} records; never edited by hand.

**A higher place alone means nothing: *significantly better than* says which differences are significant** (paired over
the same seeds and test examples; Holm: at most a 5% risk of any false one among a table's models, and as much against
its baseline). The range after a rank holds the ranks that these differences leave open. ± is a 95% interval over seeds
and test examples together; two of them may overlap and the difference still be significant, because models share the
test examples. Skill is 0 for the named reference and 1 for a perfect score. *Italic* rows are baselines: no seed moves
them, so their intervals are over test examples alone, and only the strongest of them is compared. A model that lacks a
seed has no mean and no rank.

**All figures belong to the budget in their heading** (`quick` is minutes of training): with more training the order of
the models may change.
"""


def not_verified(tables: Sequence[BoardTable]) -> str:
    """What must be said of figures that could not be computed again; empty if all were."""
    runs = [run for table in tables for row in table.models for run in row.results.values() if run.status == "ok"]
    doubtful = sum(not run.verified for run in runs)
    if not doubtful:
        return ""
    whose = "The figures of" if doubtful == len(runs) else f"Of {len(runs):,} runs the figures of {doubtful:,}"
    these = f"these {len(runs):,} runs" if doubtful == len(runs) else ""
    return (
        f"{whose} {these}".strip() + " are not verified: they stand as their records have them, because predictions "
        "to compute them from again are not kept beside these, or the task is not here in the same version."
    )


def only_models(models: str) -> str:
    """What must be said where only these ``models``, names with commas, are shown."""
    named = listed([name.strip() for name in models.split(",")])
    return f"Of the models only {named} {_are(named.split(' and '))} shown: ranks and differences are among these."


def render(
    tables: Sequence[BoardTable],
    fmt: Literal["markdown", "json", "csv"] = "markdown",
    columns: Literal["all", "quality"] = "all",
    base: Path = Path(),
    plots: Mapping[str, Path] | None = None,
    models: str = "",
) -> str:
    """The text of a board.

    Args:
        columns: `quality` leaves out all that depends on the machine or the moment, so that two runs of one grid give
            the same text byte for byte.
        base: the directory that the text will be written into; links to records are relative to it.
        plots: pictures by heading, as `charts.draw_board` gives them, for the Markdown page with `all` columns.
        models: the models that `frame.chosen_results` was asked for, if not all were taken: the text says so.
    """
    page = Page(columns == "quality", base.resolve(), plots or {}, models)
    return {"markdown": page.markdown, "json": page.json, "csv": page.csv}[fmt](tables)


@dataclass(frozen=True)
class Page:
    """What a text shows: only the ``quality`` columns or all, with links from the directory ``base``, and pictures."""

    quality: bool
    base: Path
    plots: Mapping[str, Path]
    models: str = ""

    def link(self, shown: str, result: Result) -> str:
        """``shown``, with a link to the record unless its path depends on the moment."""
        return shown if self.quality else link(shown, Path(result.bundle or result.record), self.base)

    # --- Markdown

    def markdown(self, tables: Sequence[BoardTable]) -> str:
        """How to read it, overviews, tables."""
        parts = [HOW_TO_READ.format(records=sum(table.n_results for table in tables))]
        parts += [f"{said}\n"] if (said := not_verified(tables)) else []
        parts += [f"**{escape(only_models(self.models))}**\n"] if self.models else []
        parts += [self.section(overview.heading, overview_lines(overview)) for overview in overviews(tables)]
        parts += [self.section(table.title, self.table(table)) for table in tables]
        return "\n".join(parts)

    def section(self, heading: str, lines: Sequence[str]) -> str:
        """A part of the page, with its picture below, which holds costs."""
        picture = None if self.quality else self.plots.get(heading)
        shown = [f"!{link(escape(heading), picture.resolve(), self.base)}", ""] if picture else []
        return "\n".join([f"## {escape(heading)}", "", *lines, *shown])

    def table(self, table: BoardTable) -> list[str]:
        """Conditions, the table, what it says, and the learning rates."""
        means = [row.metric for row in table.rows if row.metric is not None]
        places = decimals([mean.value for mean in means], [_reach(mean) for mean in means])
        cells = [self.cells(table, row, places) for row in table.rows]
        known = {name for row in cells for name, text in row.items() if text not in (NONE, "") or name == BETTER}
        names = [name for name in dict.fromkeys(chain(*cells)) if name in known]
        return [
            *_bullets(self.conditions(table)),
            "",
            *table_lines(names, ([row.get(name, "") for name in names] for row in cells), LEFT),
            "",
            *_bullets(self.sentences(table, places)),
            "",
            *self.rates(table, places),
        ]

    def cells(self, table: BoardTable, row: Row, places: int) -> dict[str, str]:
        """Column name to text; baselines have the first columns only."""
        measure, model = table.measure, isinstance(row, Entrant)
        figure = f"{escape(measure.metric)} {'↑' if measure.sign > 0 else '↓'}" if measure.metric else "figure"
        cells = {
            "rank": open_ranks(row.ranks) if model else "",
            "model": escape(row.label) if model else f"*{escape(row.label)}*",
            figure: _figure(row.metric, places),
            "skill": _figure(row.skill, 3),
            BETTER: escape(", ".join(table.better_than(row.label))),
        }
        if not isinstance(row, Entrant):
            return cells
        sized = row.first.params is not None and table.conditions.config.get("params")
        cells |= {
            "parameters": or_dash(row.first.params, ","),
            "hidden": row.first.hidden.replace(",", ", ") if sized else NONE,
        }
        if self.quality:
            return {**cells, "seeds": row.state}
        costs = table.basis.costs(row)
        tuning, memory = costs.tuning_seconds, costs.peak_memory_bytes
        links = [self.link(str(seed), result) for seed, result in row.results.items()]
        return {
            **cells,
            "train s": or_dash(costs.train_seconds, ",.1f"),
            "tuning s": ("" if costs.tuning_seconds_are_all or tuning is None else "≥ ") + or_dash(tuning, ",.1f"),
            "tokens/s": or_dash(costs.tokens_per_second, ",.0f"),
            "peak MiB": or_dash(None if memory is None else memory / 2**20, ",.0f"),
            "seeds": " ".join([f"{row.state}:", *links]),
        }

    def conditions(self, table: BoardTable) -> list[str]:
        """Lines above the table."""
        about, config, measure = table.conditions, table.conditions.config, table.measure
        code = f", code {about.task_code_sha256[:12]}" if about.task_code_sha256 else ""
        options = "".join(f", {name} {value}" for name, value in about.options.items() if value != "")
        examples = f"{about.n_train:,} training, {about.n_val:,} validation and {about.n_test:,} test examples"
        groups = f", these in {table.n_groups} groups for the intervals" if table.n_groups else ""
        unit = f" ({measure.unit})" if measure.unit else ""
        skill = f"; skill is 0 for {measure.reference}" if measure.reference is not None else ""
        skill += f" and 1 at {measure.perfect:g}" if measure.perfect is not None else ""
        metric = f"test {measure.metric}{unit}, {measure.direction} is better{skill}"
        patience = config.get("patience")
        stop = f", stopping after {patience} evaluations without a better one" if patience else ""
        training = f"{config['steps']:,} steps of {config.get('batch_size')} sequences{stop}"
        lines = [
            *_control(table),
            f"Task: {about.task} version {about.task_version}{code} ({about.kind}){options}; {examples}{groups}",
            f"Data: {f'{about.dataset}, ' if about.dataset else ''}{about.source}, SHA-256 {about.data_sha256[:12]}",
            f"Metric: {metric if measure.metric else 'none measured'}",
            f"Training: budget {about.budget}, {training}, dropout {config.get('dropout')}, "
            f"weight decay {config.get('weight_decay')}{_more_options(config)}",
            f"Models: {about.track}, {config.get('layers')} layer(s), {config.get('backbone')} backbone",
            f"Ran on: {about.device}, {about.precision}, {about.threads} thread(s)"
            + ("" if self.quality else f"; {_machines(table)}"),
        ]
        return [escape(line) + "." for line in lines]

    def sentences(self, table: BoardTable, places: int) -> Iterator[str]:
        """What stands below a table: what it shows, and what it leaves out."""
        unit = f" {escape(table.measure.unit)}" if table.measure.unit else ""
        significant, least = _comparison(table.comparison, unit, places)
        yield from (significant, _against_baseline(table), least, *table.caveats())
        for row in table.models:
            if row.not_applicable:
                yield f"Not applicable: {escape(row.label)}: {escape(row.not_applicable)}"
            failed = {seed: run for seed, run in row.results.items() if run.status != "ok" and not row.not_applicable}
            for seed, run in failed.items():
                told = not self.quality or run.status in REPEATABLE
                reason = f": {escape(run.reason or 'no reason given')}" if told else ""
                yield f"Failed: {escape(row.label)} {self.link(f'seed {seed}', run)} {escape(run.status)}{reason}"
        tuned = _tuned(table)
        rates = {row.rate for row in tuned}
        if tuned and all(len(row.trials) == 1 for row in tuned):  # else a table shows them
            each = ", ".join(f"{row.label} {row.rate:g}" for row in tuned)
            given = "given and not chosen among several"
            yield (
                f"Learning rate: {rates.pop():g}, {given}."
                if len(rates) == 1
                else f"Learning rates, {given}: {escape(each)}."
            )
        if others := [(row.label, run) for row in table.models for run in row.others]:
            where = [
                f"{escape(label)} {run.learning_rate:g} {self.link(f'seed {run.seed}', run)}" for label, run in others
            ]
            yield (
                f"{len(others)} further run(s), at learning rates that were not taken, are in no figure here: "
                f"{', '.join(where)}."
            )
        if any(row.first.bundle is not None for row in table.models):
            yield "Rows with a name in brackets are others': their predictions were scored anew here."
        if uneven := [name for name, baseline in table.baselines.items() if baseline.uneven]:
            yield escape(f"Records disagree about {listed(uneven)}: one of their figures is shown.")
        if not self.quality and table.basis.device_name is not None:
            yield f"Costs: {'; '.join(map(escape, _costs(table)))}."

    def rates(self, table: BoardTable, places: int) -> list[str]:
        """A table of the learning rates that were tried, with links to their records, where any model had several."""
        tuned = _tuned(table)
        if all(len(row.trials) < 2 for row in tuned):
            return []
        rates = sorted({rate for row in tuned for rate in row.trials})
        name = f"validation {escape(table.measure.metric)}" if table.measure.metric else "outcome"
        rows = []
        for row in tuned:
            shown = dict.fromkeys(rates, NONE)
            for rate, result in row.trials.items():
                outcome = "not run"
                if result is not None:
                    value = result.validation
                    figure = escape(result.status) if value is None else with_reach(value, math.nan, places)
                    outcome = self.link(figure, result)
                shown[rate] = outcome
            shown[row.rate] = f"**{shown[row.rate]}**" + (" (edge)" if row.at_edge else "")
            rows.append([escape(row.label), *shown.values()])
        head = f"Learning rates tried at seed {TRIAL_SEED}, with their {name}; "
        head += "the best on validation was taken (bold), the test had no say"
        head += "; (edge): a better one may lie beyond it:" if any(row.at_edge for row in tuned) else ":"
        return [head, "", *table_lines(["model", *(f"{rate:g}" for rate in rates)], rows, LEFT), ""]

    # --- JSON and CSV

    def json(self, tables: Sequence[BoardTable]) -> str:
        """Tables with the values of every seed, differences and records, then overviews; what isn't known is null."""
        content = {
            "columns": "quality" if self.quality else "all",
            **({"models": self.models} if self.models else {}),
            "tables": [self.table_data(table) for table in tables],
            "overviews": [_overview_data(overview) for overview in overviews(tables)],
        }
        return json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def csv(self, tables: Sequence[BoardTable]) -> str:
        """One line per row of a table, with the table's conditions repeated on it."""
        lines = [self.flat(table, row) for table in tables for row in table.rows]
        names = [*_about(tables[0]), *FLAT, *(() if self.quality else FLAT_COSTS)]
        cells = [[_plain(line.get(name)) for name in names] for line in lines]
        safe = [
            ["'" + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row]
            for row in cells
        ]
        return pd.DataFrame(safe, columns=names, dtype=object).to_csv(index=False, lineterminator="\n")

    def all_only(self, **columns: Any) -> Json:
        """Columns that depend on the machine or the moment."""
        return {} if self.quality else columns

    def record(self, result: Result | None) -> str | None:
        """Path of the record as seen from the page."""
        return None if result is None else relative(Path(result.bundle or result.record), self.base)

    def table_data(self, table: BoardTable) -> Json:
        """A table, as in JSON."""
        return {
            **_about(table),
            "seeds": table.seeds,
            **self.all_only(costs=table.basis),
            "rows": [self.row_data(table, row) for row in table.rows],
            "differences": table.comparison.differences,
            "smallest_detectable_difference": table.comparison.least,
            "strongest_baseline": table.strongest,
            "differences_from_strongest_baseline": table.against,
        }

    def row_data(self, table: BoardTable, row: Row) -> Json:
        """One row of a table, as in JSON."""
        about = {
            "label": row.label,
            "baseline": not isinstance(row, Entrant),
            **_ranks(row.ranks),
            "metric": row.metric,
            "skill": row.skill,
            "better_than": table.better_than(row.label),
        }
        if not isinstance(row, Entrant):
            return about
        first = row.first
        return {
            **about,
            **{name: getattr(first, name) for name in MODEL},
            "parameters": first.params,
            "hidden": None if first.params is None else [int(width) for width in first.hidden.split(",")],
            "not_applicable": row.not_applicable,
            "learning_rate": row.rate,
            "learning_rate_at_edge": row.at_edge,
            "learning_rates_tried": [
                {
                    "learning_rate": rate,
                    "status": result.status if result else None,
                    "validation": result.validation if result else None,
                    **self.all_only(record=self.record(result)),
                }
                for rate, result in row.trials.items()
            ],
            "runs_not_shown": len(row.others),
            "seeds": [self.seed_data(seed, row.results.get(seed)) for seed in sorted({*row.seeds, *row.results})],
            **self.all_only(**vars(table.basis.costs(row))),
        }

    def seed_data(self, seed: int, result: Result | None) -> Json:
        """One seed of a row, as in JSON."""
        if result is None:
            return {"seed": seed, "status": "missing"}
        about = {"seed": seed, "status": result.status, "value": result.value, "validation": result.validation}
        return about | self.all_only(reason=result.reason, record=self.record(result), finished=result.finished)

    def flat(self, table: BoardTable, row: Row) -> Json:
        """One line of CSV: what JSON has of the table and the row, with texts for what is nested there."""
        data = {**self.row_data(table, row), **_about(table)}
        for name in ("options", "config"):
            data[name] = json.dumps(data[name], sort_keys=True, ensure_ascii=False)
        for name, ends in (("value", row.metric), ("skill", row.skill)):
            data |= dict(zip((name, f"{name}_low", f"{name}_high"), ends or (None, None, None), strict=True))
        data |= {"row": "baseline", "better_than": "; ".join(data["better_than"])}
        if isinstance(row, Entrant):
            data |= {
                "row": "model",
                "hidden": " ".join(map(str, data["hidden"] or ())),
                "learning_rates_tried": " ".join(f"{rate:g}" for rate in row.trials),
                "seeds": row.state,
                "cost_device": table.basis.device_name,
                "records": "; ".join(self.record(run) or "" for run in row.results.values()),
            }
        return data


# --- sentences -------------------------------------------------------------------------------------------------------


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines if line]


def _figure(interval: Interval | None, places: int) -> str:
    return NONE if interval is None else with_interval(interval, places)


def _reach(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _more_options(config: Mapping[str, Any]) -> str:
    """A recipe and what else was asked for of training and model, which most runs do not have."""
    told = {name: config[name] for name in ADDED if name in config and name not in ("batch_size", "patience")}
    return "".join(f", {name} {value}" for name, value in told.items())


def _control(table: BoardTable) -> list[str]:
    name = table.conditions.control
    return [f"CONTROL {name}: these models were trained so that nothing true can be learned"] if name else []


def _machines(table: BoardTable) -> str:
    """Device names and versions of the runs that are shown."""
    versions: dict[str, set[str]] = {"": set(), "Python ": set(), "torch ": set(), "seqbench ": set()}
    for run in (run for row in table.models for run in row.results.values()):
        commit = f" at {run.git_commit[:9]}{' with changes' if run.git_dirty else ''}" if run.git_commit else ""
        texts = (run.device_name, run.python, run.torch, run.seqbench + commit)
        for known, text in zip(versions.values(), texts, strict=True):
            known.add(text)
    return "; ".join(
        name
        + ", ".join(sorted(known)[:MOST_VERSIONS])
        + (f" and {len(known) - MOST_VERSIONS} more" if len(known) > MOST_VERSIONS else "")
        for name, known in versions.items()
    )


def _comparison(comparison: Comparison, unit: str, places: int) -> tuple[str, str]:
    """Which of the ranked models is better than which, and the smallest detectable difference, or why there is none."""
    if len(comparison.ranks) < 2:
        return "", "Fewer than two models are complete: no two can be compared."
    if math.isnan(comparison.least):
        return "", (
            "No p-values, so no difference is shown to be significant: these need two seeds of every model at least, "
            "and the leave-one-out figures that records keep beside them."
        )
    count = len(comparison.differences)
    among = f", with {count} comparisons" if count > 1 else ""
    size = f"{comparison.least:,.{places}f}{unit}"
    least = f"Smallest true difference that is found with 80% power: {size} (between a typical pair{among})."
    winners: dict[tuple[str, ...], list[str]] = {}
    for model in comparison.ranks:
        winners.setdefault(tuple(comparison.better_than(model)), []).append(model)
    said = [
        f"{listed(names)} {_are(names)} better than {listed(beaten)}" for beaten, names in winners.items() if beaten
    ]
    if not said:
        return "**Significant differences**: none; no two models can be told apart.", least
    rest = any(pair.better is None for pair in comparison.differences)
    end = "no other pair can be told apart" if rest else "every pair is told apart"
    return f"**Significant differences**: {escape('; '.join(said))}; {end}.", least


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _against_baseline(table: BoardTable) -> str:
    """Which models are better and which worse than the strongest baseline, in one sentence."""
    order = [row.label for row in table.rows].index
    tested = sorted(
        (pair for pair in table.against if not math.isnan(pair.p_adjusted)), key=lambda pair: order(pair.first)
    )
    if not tested:
        return ""
    better = [pair.first for pair in tested if pair.better == pair.first]
    worse = [pair.first for pair in tested if pair.worse == pair.first]
    alike = [pair.first for pair in tested if pair.better is None]
    said = [f"{listed(names)} {_are(names)} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
    said += [f"{listed(alike)} can't be told from it"] if alike else []
    return f"**Against the strongest baseline**, {escape(table.strongest)}: {escape('; '.join(said))}."


def _tuned(table: BoardTable) -> list[Entrant]:
    """Models whose learning rate means something, by name."""
    return sorted((row for row in table.models if not row.not_applicable), key=lambda row: row.label)


def _costs(table: BoardTable) -> Iterator[str]:
    basis = table.basis
    kind = "CPU seconds of the process" if basis.seconds == "cpu" else "wall-clock seconds"
    yield f"train s: {kind} in training, mean of a run, and tokens/s by the same; peak MiB: the largest of the runs"
    if any(basis.costs(row).tuning_seconds is not None for row in table.models):
        yield f"tuning s: what the other learning rates took at seed {TRIAL_SEED} (≥ where a trial left no cost)"
    yield f"all on {basis.device_name}"
    if basis.runs_on_other_devices:
        yield f"{basis.runs_on_other_devices} run(s) on other devices are left out of the costs"
    if basis.runs_interrupted:
        yield f"{basis.runs_interrupted} run(s) were interrupted and resumed"


def overview_lines(overview: Overview) -> list[str]:
    """The table of models that are complete in every task, what it says, and what the others lack."""
    rows = [
        [
            open_ranks(row.ranks),
            escape(row.label),
            _figure(row.mean_skill, 3),
            escape(", ".join(overview.comparison.better_than(row.label))),
            *(_figure(skill, 3) for skill in row.skills),
        ]
        for row in overview.rows
        if row.mean_skill is not None
    ]
    names = ["rank", "model", "mean skill", BETTER, *map(escape, overview.tasks)]
    significant, least = _comparison(overview.comparison, " of mean skill", 3)
    mean = (
        f"The mean is of the skill on {listed(overview.tasks)}, each counted alike, of models that are complete in all."
    )
    incomplete = [
        f"Not ranked, without a mean: {escape(row.label)}: {_lacks(overview, row)}."
        for row in overview.rows
        if row.mean_skill is None
    ]
    return [
        *(line for control in _control(overview.tables[0]) for line in (f"- {escape(control)}.", "")),
        *(table_lines(names, rows, LEFT) if rows else ["No model is complete in all of these tasks."]),
        "",
        *_bullets([significant, mean, least, *incomplete]),
        "",
    ]


def _lacks(overview: Overview, row: OverviewRow) -> str:
    """What an incomplete model lacks, task by task, and the skill it has on the others."""
    parts = zip(overview.tasks, row.skills, row.states, strict=True)
    said = [f"{task} {with_reach(skill.value, math.nan, 3) if skill else state}" for task, skill, state in parts]
    return escape(listed(said))


# --- data ------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """What JSON holds: dataclasses and named tuples as dicts, floats to ten digits and NaN as null, however deep."""
    if isinstance(value, float):
        return float(f"{value:.10g}") + 0.0 if math.isfinite(value) else None
    if isinstance(value, Interval):
        value = value._asdict()
    elif is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _about(table: BoardTable) -> Json:
    """The conditions of a table, as in JSON and CSV."""
    about = table.conditions
    return {
        "title": table.title,
        **{name: getattr(about, name) for name in ABOUT},
        "n_groups": table.n_groups,
        "budget": about.budget,
        "track": about.track,
        "device": about.device,
        "config": about.config,
        **table.measure._asdict(),
    }


def _ranks(ranks: Ranks | None) -> Json:
    return dict(zip(("rank", "rank_low", "rank_high"), ranks or (None, None, None), strict=True))


def _overview_data(overview: Overview) -> Json:
    return {
        "title": overview.title,
        "tasks": overview.tasks,
        "rows": [
            {
                "label": row.label,
                **_ranks(row.ranks),
                "mean_skill": row.mean_skill,
                "better_than": overview.comparison.better_than(row.label),
                "skills": row.skills,
                "seeds": row.states,
            }
            for row in overview.rows
        ],
        "differences": overview.comparison.differences,
        "smallest_detectable_difference": overview.comparison.least,
    }

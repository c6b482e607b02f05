"""The board as a Markdown page for readers, and as JSON and CSV for programs.

With the columns `quality` nothing is said that depends on the machine or the moment, so that two runs of one grid give
the same text byte for byte.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqbench.board.compare import BoardTable, Comparison, Costs, Entrant, Overview, OverviewRow, Result, Row, overviews
from seqbench.rates import TRIAL_SEED
from seqbench.report.text import NONE, between, decimals, escape, link, listed, open_ranks, relative, with_reach
from seqbench.report.text import table as table_lines
from seqbench.stats import Interval

__all__ = ["Columns", "Format", "render"]

Columns = Literal["all", "quality"]
Format = Literal["markdown", "json", "csv"]
Json = dict[str, Any]
BETTER = "significantly better than"
LEFT = ("model", BETTER, "seeds")
COSTS = ("train s", "tuning s", "tokens/s", "peak MiB")
FLAT = (
    "rank", "rank_low", "rank_high", "row", "label", "model_version", "value", "value_low", "value_high", "skill",
    "skill_low", "skill_high", "better_than", "parameters", "hidden", "learning_rate", "learning_rates_tried", "seeds",
)  # fmt: skip
FLAT_COSTS = (
    "train_seconds", "tokens_per_second", "peak_memory_bytes", "tuning_seconds", "tuning_seconds_are_all",
    "cost_device", "records",
)  # fmt: skip
CONDITIONS = (
    "steps", "batch_size", "dropout", "weight_decay", "patience", "layers", "backbone", "precision", "threads"
)  # fmt: skip
REPEATABLE = ("diverged", "not_applicable")  # their reasons tell nothing of the machine
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


def render(
    tables: Sequence[BoardTable],
    fmt: Format = "markdown",
    columns: Columns = "all",
    base: Path = Path(),
    plots: Mapping[str, Path] | None = None,
) -> str:
    """The text of a board; see `board`."""
    page = _Page(columns == "quality", base.resolve(), plots or {})
    if fmt == "markdown":
        return page.markdown(tables)
    return page.csv(tables) if fmt == "csv" else page.json(tables)


@dataclass(frozen=True)
class _Page:
    """What a text shows: only the ``quality`` columns or all, with links from the directory ``base``, and pictures."""

    quality: bool
    base: Path
    plots: Mapping[str, Path]

    def link(self, shown: str, result: Result) -> str:
        """``shown``, with a link to the record unless its path depends on the moment."""
        return shown if self.quality else link(shown, Path(result.record), self.base)

    def picture(self, heading: str) -> list[str]:
        """Lines with the picture that belongs under ``heading``; pictures hold costs."""
        if self.quality or heading not in self.plots:
            return []
        return [f"!{link(escape(heading), self.plots[heading].resolve(), self.base)}", ""]

    # --- Markdown

    def markdown(self, tables: Sequence[BoardTable]) -> str:
        """How to read it, overviews, tables."""
        parts = [HOW_TO_READ.format(records=sum(table.n_results for table in tables))]
        parts += ["\n".join([*_overview(overview), *self.picture(overview.heading)]) for overview in overviews(tables)]
        parts += ["\n".join([*self.table(table), *self.picture(table.title)]) for table in tables]
        return "\n".join(parts)

    def table(self, table: BoardTable) -> list[str]:
        """Conditions, the table, what it says, and the learning rates."""
        means = [row.metric for row in table.rows if row.metric is not None]
        places = decimals([mean.value for mean in means], [_reach(mean) for mean in means])
        unit = f" {escape(table.measure.unit)}" if table.measure.unit else ""
        cells = [self.cells(table, row, places) for row in table.rows]
        names = [name for name in cells[0] if name == BETTER or any(row[name] not in (NONE, "") for row in cells)]
        return [
            f"## {escape(table.title)}",
            "",
            *_bullets(*self.conditions(table)),
            "",
            *table_lines(names, ([row[name] for name in names] for row in cells), LEFT),
            "",
            *_bullets(
                _differences(table.comparison),
                _against_baseline(table),
                _least(table.comparison, unit, places),
                *table.caveats(),
                *self.failures(table),
                _given_rates(table),
                _others(table),
                _disagreement(table),
                "" if self.quality else _costs(table),
            ),
            "",
            *self.rates(table, places),
        ]

    def cells(self, table: BoardTable, row: Row, places: int) -> dict[str, str]:
        """Column name to text."""
        entrant, arrow = row.entrant, "↑" if table.measure.sign > 0 else "↓"
        cells = {
            "rank": "" if entrant is None else open_ranks(row.ranks),
            "model": escape(row.label) if entrant else f"*{escape(row.label)}*",
            f"{escape(table.measure.metric)} {arrow}" if table.measure.metric else "figure": _sure(row.metric, places),
            "skill": _sure(row.skill, 3),
            BETTER: escape(", ".join(table.better_than(row.label))),
        }
        if entrant is None:
            return {**cells, **dict.fromkeys(("parameters", "hidden", *(() if self.quality else COSTS), "seeds"), "")}
        sized = entrant.first.params is not None and table.conditions.config.get("params")
        cells["parameters"] = between(entrant.first.params, ",")
        cells["hidden"] = entrant.first.hidden.replace(",", ", ") if sized else NONE
        if self.quality:
            return {**cells, "seeds": table.state(row)}
        links = [self.link(str(seed), result) for seed, result in entrant.results.items()]
        return {
            **cells,
            **(_cost_cells(row.costs) if row.costs else {}),
            "seeds": " ".join([f"{table.state(row)}:", *links]),
        }

    def conditions(self, table: BoardTable) -> list[str]:
        """Lines above the table."""
        about, config = table.conditions, table.conditions.config
        code = f", code {about.task_code_sha256[:12]}" if about.task_code_sha256 else ""
        options = "".join(f", {name} {value}" for name, value in about.options.items() if value != "")
        examples = f"{about.n_train:,} training, {about.n_val:,} validation and {about.n_test:,} test examples"
        groups = f", these in {table.n_groups} groups for the intervals" if table.n_groups else ""
        steps, batch, dropout, decay, patience, layers, backbone, precision, threads = map(config.get, CONDITIONS)
        stop = f", stopping after {patience} evaluations without a better one" if patience else ""
        lines = [
            *_control(table),
            f"Task: {about.task} version {about.task_version}{code} ({about.kind}){options}; {examples}{groups}",
            f"Data: {about.source}, SHA-256 {about.data_sha256[:12]}",
            _metric(table),
            f"Training: budget {about.budget}, {steps:,} steps of {batch} sequences{stop}, dropout {dropout}, "
            f"weight decay {decay}",
            f"Models: {about.track}, {layers} layer(s), {backbone} backbone",
            f"Ran on: {about.device}, {precision}, {threads} thread(s)"
            + ("" if self.quality else f"; {_machines(table)}"),
        ]
        return [escape(line) + "." for line in lines]

    def failures(self, table: BoardTable) -> list[str]:
        """A line for each model that can't be scored, and for each failed run."""
        lines = []
        for row, entrant in table.models:
            if entrant.not_applicable:
                lines.append(f"Not applicable: {escape(row.label)}: {escape(entrant.not_applicable)}")
                continue
            for seed, result in entrant.results.items():
                if result.status != "ok":
                    told = not self.quality or result.status in REPEATABLE
                    reason = f": {escape(result.reason or 'no reason given')}" if told else ""
                    run = self.link(f"seed {seed}", result)
                    lines.append(f"Failed: {escape(row.label)} {run} {escape(result.status)}{reason}")
        return lines

    def rates(self, table: BoardTable, places: int) -> list[str]:
        """A table of the learning rates that were tried, with links to their records, where any model had several."""
        entrants = _tuned(table)
        if all(len(entrant.trials) < 2 for entrant in entrants.values()):
            return []
        rates = sorted({rate for entrant in entrants.values() for rate in entrant.trials})
        name = f"validation {escape(table.measure.metric)}" if table.measure.metric else "outcome"
        rows = []
        for label, entrant in sorted(entrants.items()):
            shown = {}
            for rate, result in entrant.trials.items():
                outcome = "not run" if result is None else escape(result.status)
                if result is not None and result.validation is not None:
                    outcome = with_reach(result.validation, math.nan, places)
                outcome = outcome if result is None else self.link(outcome, result)
                shown[rate] = f"**{outcome}**" if rate == entrant.rate else outcome
            rows.append([escape(label), *(shown.get(rate, NONE) for rate in rates)])
        head = f"Learning rates tried at seed {TRIAL_SEED}, with their {name}; "
        head += "the best on validation was taken (bold), the test had no say:"
        return [head, "", *table_lines(["model", *(f"{rate:g}" for rate in rates)], rows, LEFT), ""]

    # --- JSON and CSV

    def json(self, tables: Sequence[BoardTable]) -> str:
        """Tables with the values of every seed, differences and records, then overviews; what isn't known is null."""
        content = {
            "columns": "quality" if self.quality else "all",
            "tables": [self.table_data(table) for table in tables],
            "overviews": [_overview_data(overview) for overview in overviews(tables)],
        }
        return json.dumps(_strict(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def csv(self, tables: Sequence[BoardTable]) -> str:
        """One line per row of a table, with the table's conditions repeated on it."""
        lines = [self.flat(table, row) for table in tables for row in table.rows]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in line.items()} for line in lines)
        return out.getvalue()

    def all_only(self, **columns: Any) -> Json:
        """Columns that depend on the machine or the moment."""
        return {} if self.quality else columns

    def record(self, result: Result | None) -> str | None:
        """Path of the record as seen from the page."""
        return None if result is None else relative(Path(result.record), self.base)

    def table_data(self, table: BoardTable) -> Json:
        return {
            **_about(table),
            "seeds": table.seeds,
            **self.all_only(costs=vars(table.basis)),
            "rows": [self.row_data(table, row) for row in table.rows],
            "differences": [vars(pair) for pair in table.comparison.differences],
            "smallest_detectable_difference": table.comparison.least,
            "strongest_baseline": table.strongest,
            "differences_from_strongest_baseline": [vars(pair) for pair in table.against],
        }

    def row_data(self, table: BoardTable, row: Row) -> Json:
        """One row of a table, as in JSON."""
        entrant = row.entrant
        about = {
            "label": row.label,
            "baseline": entrant is None,
            **_ranks(row),
            "metric": _interval(row.metric),
            "skill": _interval(row.skill),
            "better_than": table.better_than(row.label),
        }
        if entrant is None:
            return about
        first = entrant.first
        return {
            **about,
            "model": first.model,
            "model_version": first.model_version,
            "model_code_sha256": first.model_code_sha256,
            "parameters": first.params,
            "hidden": None if first.params is None else [int(width) for width in first.hidden.split(",")],
            "not_applicable": entrant.not_applicable,
            "learning_rate": entrant.rate,
            "learning_rates_tried": [
                {
                    "learning_rate": rate,
                    "status": result.status if result else None,
                    "validation": result.validation if result else None,
                    **self.all_only(record=self.record(result)),
                }
                for rate, result in entrant.trials.items()
            ],
            "runs_not_shown": entrant.others,
            "seeds": [self.seed_data(entrant, seed) for seed in sorted({*table.seeds, *entrant.results})],
            **self.all_only(**vars(row.costs)),
        }

    def seed_data(self, entrant: Entrant, seed: int) -> Json:
        """One seed of a row, as in JSON."""
        result = entrant.results.get(seed)
        if result is None:
            return {"seed": seed, "status": "missing"}
        about = {"seed": seed, "status": result.status, "value": result.value, "validation": result.validation}
        return about | self.all_only(reason=result.reason, record=self.record(result), finished=result.finished)

    def flat(self, table: BoardTable, row: Row) -> Json:
        """One line of CSV."""
        about, data, entrant = _about(table), self.row_data(table, row), row.entrant
        about |= {name: json.dumps(about[name], sort_keys=True, ensure_ascii=False) for name in ("options", "config")}
        for name, ends in (("value", row.metric), ("skill", row.skill)):
            data |= dict(zip((name, f"{name}_low", f"{name}_high"), ends or (None, None, None), strict=True))
        data |= {"row": "model" if entrant else "baseline", "better_than": "; ".join(data["better_than"])}
        data |= {"hidden": " ".join(map(str, data.get("hidden") or ())), "seeds": table.state(row)}
        data["learning_rates_tried"] = " ".join(f"{rate:g}" for rate in entrant.trials) if entrant else None
        data["cost_device"] = table.basis.device_name if entrant else None
        data["records"] = "; ".join(self.record(run) or "" for run in entrant.results.values()) if entrant else ""
        names = (*FLAT, *(() if self.quality else FLAT_COSTS))
        return about | {name: data.get(name) for name in names}


# --- sentences -------------------------------------------------------------------------------------------------------


def _bullets(*lines: str) -> list[str]:
    return [f"- {line}" for line in lines if line]


def _sure(interval: Interval | None, places: int) -> str:
    return NONE if interval is None else with_reach(interval.value, _reach(interval), places)


def _reach(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _control(table: BoardTable) -> list[str]:
    name = table.conditions.control
    return [f"CONTROL {name}: these models were trained so that nothing true can be learned"] if name else []


def _metric(table: BoardTable) -> str:
    name, unit, direction, reference, perfect = table.measure
    if name is None:
        return "Metric: none measured"
    skill = f"; skill is 0 for {reference}" if reference is not None else ""
    skill += f" and 1 at {perfect:g}" if perfect is not None else ""
    return f"Metric: test {name}{f' ({unit})' if unit else ''}, {direction} is better{skill}"


def _machines(table: BoardTable) -> str:
    """Device names and versions of the runs that are shown."""
    results = [result for _, entrant in table.models for result in entrant.results.values()]
    code = {
        run.seqbench + (f" at {run.git_commit[:9]}{' with changes' if run.git_dirty else ''}" if run.git_commit else "")
        for run in results
    }
    versions = {"": {run.device_name for run in results}, "Python ": {run.python for run in results}}
    versions |= {"torch ": {run.torch for run in results}, "seqbench ": code}
    return "; ".join(name + _some(values) for name, values in versions.items())


def _some(values: Iterable[str]) -> str:
    names = sorted(values)
    more = f" and {len(names) - MOST_VERSIONS} more" if len(names) > MOST_VERSIONS else ""
    return ", ".join(names[:MOST_VERSIONS]) + more


def _least(comparison: Comparison, unit: str, places: int) -> str:
    """The smallest detectable difference, or why there is none."""
    if len(comparison.ranks) < 2:
        return "Fewer than two models are complete: no two can be compared."
    if math.isnan(comparison.least):
        return (
            "No p-values, so no difference is shown to be significant: these need two seeds of every model at least, "
            "and the leave-one-out figures that records keep beside them."
        )
    count = len(comparison.differences)
    among = f", with {count} comparisons" if count > 1 else ""
    return (
        f"Smallest true difference that is found with 80% power: {comparison.least:,.{places}f}{unit} (between a "
        f"typical pair{among})."
    )


def _differences(comparison: Comparison) -> str:
    """Which of the ranked models is better than which, in one sentence."""
    models = list(comparison.ranks)
    if len(models) < 2 or math.isnan(comparison.least):
        return ""
    winners: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        beaten = {pair.worse for pair in comparison.differences if pair.better == model}
        if beaten:
            winners.setdefault(tuple(name for name in models if name in beaten), []).append(model)
    if not winners:
        return "**Significant differences**: none; no two models can be told apart."
    said = [f"{listed(names)} {_are(names)} better than {listed(beaten)}" for beaten, names in winners.items()]
    rest = any(pair.better is None for pair in comparison.differences)
    end = "no other pair can be told apart" if rest else "every pair is told apart"
    return f"**Significant differences**: {escape('; '.join(said))}; {end}."


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


def _tuned(table: BoardTable) -> dict[str, Entrant]:
    return {row.label: entrant for row, entrant in table.models if not entrant.not_applicable}


def _given_rates(table: BoardTable) -> str:
    """Each model's learning rate, where there was none to choose; else a table shows them."""
    entrants = _tuned(table)
    rates = {entrant.rate for entrant in entrants.values()}
    if not rates or any(len(entrant.trials) > 1 for entrant in entrants.values()):
        return ""
    if len(rates) == 1:
        return f"Learning rate: {rates.pop():g}, given and not chosen among several."
    said = ", ".join(f"{label} {entrants[label].rate:g}" for label in sorted(entrants))
    return f"Learning rates, given and not chosen among several: {escape(said)}."


def _others(table: BoardTable) -> str:
    """Runs that no row shows."""
    count = sum(entrant.others for _, entrant in table.models)
    return f"{count} further run(s), at learning rates that were not taken, are in no figure here." if count else ""


def _disagreement(table: BoardTable) -> str:
    uneven = [name for name, baseline in table.baselines.items() if baseline.uneven]
    return escape(f"Records disagree about {listed(uneven)}: one of their figures is shown.") if uneven else ""


def _costs(table: BoardTable) -> str:
    basis = table.basis
    if basis.device_name is None:
        return ""
    kind = "CPU seconds of the process" if basis.seconds == "cpu" else "wall-clock seconds"
    lines = [f"train s: {kind} in training, mean of a run, and tokens/s by the same; peak MiB: the largest of the runs"]
    if any(row.costs and row.costs.tuning_seconds is not None for row in table.rows):
        lines.append(
            f"tuning s: what the other learning rates took at seed {TRIAL_SEED} (≥ where a trial left no cost)"
        )
    lines.append(f"all on {basis.device_name}")
    if basis.runs_on_other_devices:
        lines.append(f"{basis.runs_on_other_devices} run(s) on other devices are left out of the costs")
    if basis.runs_interrupted:
        lines.append(f"{basis.runs_interrupted} run(s) were interrupted and resumed")
    return "Costs: " + escape("; ".join(lines) + ".")


def _cost_cells(costs: Costs) -> dict[str, str]:
    tuning, memory = costs.tuning_seconds, costs.peak_memory_bytes
    return {
        "train s": between(costs.train_seconds, ",.1f"),
        "tuning s": ("" if costs.tuning_seconds_are_all or tuning is None else "≥ ") + between(tuning, ",.1f"),
        "tokens/s": between(costs.tokens_per_second, ",.0f"),
        "peak MiB": between(None if memory is None else memory / 2**20, ",.0f"),
    }


def _overview(overview: Overview) -> list[str]:
    tasks = [table.conditions.task for table in overview.tables]
    names = ["rank", "model", "mean skill", BETTER, *map(escape, tasks)]
    rows = [
        [
            open_ranks(row.ranks),
            escape(row.label),
            _sure(row.skill, 3),
            escape(", ".join(overview.better_than(row.label))),
            *(_sure(part.skill if part else None, 3) for part in row.rows),
        ]
        for row in overview.rows
        if row.skill is not None
    ]
    control = [f"- {escape(line)}." for line in _control(overview.tables[0])]
    return [
        f"## {escape(overview.heading)}",
        "",
        *([*control, ""] if control else []),
        *(table_lines(names, rows, LEFT) if rows else ["No model is complete in all of these tasks."]),
        "",
        *_bullets(
            _differences(overview.comparison),
            f"The mean is of the skill on {listed(tasks)}, each counted alike, of models that are complete in all.",
            _least(overview.comparison, " of mean skill", 3),
            *(
                f"Not ranked, without a mean: {escape(row.label)}: {_lacks(overview, row)}."
                for row in overview.rows
                if row.skill is None
            ),
        ),
        "",
    ]


def _lacks(overview: Overview, row: OverviewRow) -> str:
    """What an incomplete model lacks, task by task, and the skill it has on the others."""
    said = []
    for table, part in zip(overview.tables, row.rows, strict=True):
        skill = part.skill if part else None
        said.append(f"{table.conditions.task} {with_reach(skill.value, math.nan, 3) if skill else table.state(part)}")
    return escape(listed(said))


# --- data ------------------------------------------------------------------------------------------------------------


def _strict(value: Any) -> Any:
    """Floats to ten digits and NaN to null, however deep."""
    if isinstance(value, float):
        return float(f"{value:.10g}") + 0.0 if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _strict(item) for name, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """A cell that a spreadsheet takes for text or a number, never for a formula."""
    value = _strict(value)
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _about(table: BoardTable) -> Json:
    about = table.conditions
    names = ("task", "task_version", "task_code_sha256", "kind", "options", "source", "data_sha256", "n_test")
    return {
        "title": table.title,
        **{name: getattr(about, name) for name in names},
        "n_groups": table.n_groups,
        "budget": about.budget,
        "track": about.track,
        "device": about.device,
        "config": about.config,
        **table.measure._asdict(),
    }


def _interval(interval: Interval | None) -> Json | None:
    return None if interval is None else interval._asdict()


def _ranks(row: Row | OverviewRow) -> Json:
    return dict(zip(("rank", "rank_low", "rank_high"), row.ranks or (None, None, None), strict=True))


def _overview_data(overview: Overview) -> Json:
    return {
        "title": overview.title,
        "tasks": [table.conditions.task for table in overview.tables],
        "rows": [
            {
                "label": row.label,
                **_ranks(row),
                "mean_skill": _interval(row.skill),
                "better_than": overview.better_than(row.label),
                "skills": [_interval(part.skill) if part else None for part in row.rows],
                "seeds": [table.state(part) for table, part in zip(overview.tables, row.rows, strict=True)],
            }
            for row in overview.rows
        ],
        "differences": [vars(pair) for pair in overview.comparison.differences],
        "smallest_detectable_difference": overview.comparison.least,
    }

"""The board as a Markdown page. No torch.

With the columns ``quality`` nothing is said that depends on the machine or the moment, so that two runs of one grid
give the same page byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from seqbench.board.compare import Sure
from seqbench.board.overview import Overview, OverviewRow
from seqbench.board.sentences import against_baseline, conditions, least, notes, real_differences
from seqbench.board.table import Row, Table
from seqbench.experiment import TRIAL_SEED
from seqbench.jobs.store import RECORD
from seqbench.report.text import NONE, between, decimals, escape, link, listed, open_ranks, table, with_reach

__all__ = ["Columns", "render_markdown"]

Columns = Literal["all", "quality"]
BETTER = "really better than"
LEFT = ("model", BETTER, "seeds")
HOW_TO_READ = """\
# Leaderboard

Made by `seqbench leaderboard` from {records:,} records; never edited by hand.

**A higher place alone means nothing: *really better than* says which differences are real** (paired over the same seeds
and test examples; Holm: at most a 5% risk of any false one among a table's models, and as much against its baseline).
The range after a rank holds the ranks that these differences leave open. ± is a 95% interval over seeds and test
examples together; two of them may overlap and the difference still be real, because models share the test examples.
Skill is 0 for the named reference and 1 for a perfect score. *Italic* rows are baselines: no seed moves them, so their
intervals are over test examples alone, and only the strongest of them is compared. A model that lacks a seed has no
mean and no rank.
"""


def render_markdown(
    tables: Sequence[Table],
    overviews: Sequence[Overview],
    columns: Columns = "all",
    base: Path = Path(),
    plots: Mapping[str, Path] | None = None,
) -> str:
    """The page; links in it are relative to the directory ``base`` that it will be written into.

    ``plots`` are figures by heading, as `plots.draw_board` gives them; they hold costs, so that the columns `quality`
    leave them out.
    """
    quality, base = columns == "quality", base.resolve()
    records = sum(len(it.group.cells) for it in tables)
    drawn = {} if quality or plots is None else {heading: path.resolve() for heading, path in plots.items()}
    parts = [HOW_TO_READ.format(records=records)]
    parts += ["\n".join([*_overview(it), *_plot(it.heading, drawn, base)]) for it in overviews]
    parts += ["\n".join([*_table(it, quality, base), *_plot(it.title, drawn, base)]) for it in tables]
    return "\n".join(parts)


def _plot(heading: str, drawn: Mapping[str, Path], base: Path) -> list[str]:
    return [f"!{link(escape(heading), drawn[heading], base)}", ""] if heading in drawn else []


def _table(it: Table, quality: bool, base: Path) -> list[str]:
    models = [row.label for row in it.rows if row.ranks is not None]
    metrics = [row.metric for row in it.rows if row.metric is not None]
    places = decimals([sure.value for sure in metrics], [_reach(sure) for sure in metrics])
    primary = it.group.primary
    unit = f" {escape(primary.unit)}" if primary and primary.unit else ""
    cells = [_cells(it, row, places, quality, base) for row in it.rows]
    names = [name for name in cells[0] if name == BETTER or any(row[name] not in (NONE, "") for row in cells)]
    return [
        f"## {escape(it.title)}",
        "",
        *_bullets(*conditions(it, quality)),
        "",
        *table(names, ([row[name] for name in names] for row in cells), LEFT),
        "",
        *_bullets(
            real_differences(it.comparison, models),
            against_baseline(it),
            least(it.comparison, unit, places, len(models)),
            *notes(it, quality, base),
        ),
        "",
        *_rates(it, places, quality, base),
    ]


def _cells(it: Table, row: Row, places: int, quality: bool, base: Path) -> dict[str, str]:
    """Column name to text."""
    primary, arrow = it.group.primary, "↑" if it.sign > 0 else "↓"
    cells = {
        "rank": "" if row.entrant is None else open_ranks(row.ranks),
        "model": escape(row.label) if row.entrant else f"*{escape(row.label)}*",
        f"{escape(primary.name)} {arrow}" if primary else "figure": _sure(row.metric, places),
        "skill": _sure(row.skill, 3),
        BETTER: escape(", ".join(it.better_than(row.label))),
    }
    if row.entrant is None:
        blank = ("parameters", "hidden", *(() if quality else ("train s", "tuning s", "tokens/s", "peak MiB")), "seeds")
        return {**cells, **dict.fromkeys(blank, "")}
    first = next((cell for cell in row.entrant.cells.values() if cell.params is not None), None)
    wanted = first if it.group.config.get("params") else None
    cells |= {
        "parameters": between(first.params if first else None, ","),
        "hidden": ", ".join(map(str, wanted.hidden)) if wanted else NONE,
    }
    if quality:
        return {**cells, "seeds": row.state(it.seeds)}
    return {**cells, **_costs(row), "seeds": _seeds(row, it.seeds, base)}


def _costs(row: Row) -> dict[str, str]:
    costs = row.costs
    if costs is None:
        return dict.fromkeys(("train s", "tuning s", "tokens/s", "peak MiB"), NONE)
    bound = "" if costs.tuning_known or costs.tuning is None else "≥ "
    return {
        "train s": between(costs.seconds, ",.1f"),
        "tuning s": bound + between(costs.tuning, ",.1f"),
        "tokens/s": between(costs.tokens_per_second, ",.0f"),
        "peak MiB": between(costs.memory and costs.memory / 2**20, ",.0f"),
    }


def _seeds(row: Row, seeds: tuple[int, ...], base: Path) -> str:
    """``5/5`` and a link to every record."""
    cells = row.entrant.cells if row.entrant else {}
    links = [link(str(seed), cell.folder / RECORD, base) for seed, cell in cells.items()]
    return " ".join([f"{row.state(seeds)}:", *links])


def _sure(sure: Sure | None, places: int) -> str:
    return NONE if sure is None else with_reach(sure.value, _reach(sure), places)


def _reach(sure: Sure) -> float:
    return (sure.high - sure.low) / 2


def _rates(it: Table, places: int, quality: bool, base: Path) -> list[str]:
    """A table of the learning rates that were tried, with links to their records, where any model had several."""
    tried = {row.label: row.entrant for row in it.rows if row.entrant and not row.entrant.not_applicable}
    rates = sorted({rate for one in tried.values() for rate in one.trials})
    if all(len(one.trials) < 2 for one in tried.values()):
        return []
    name = f"validation {escape(it.group.primary.name)}" if it.group.primary else "outcome"
    rows = []
    for label in sorted(tried):
        shown = {}
        for rate, cell in tried[label].trials.items():
            outcome = "not run"
            if cell is not None:
                outcome = escape(cell.status) if cell.val is None else with_reach(cell.val, math.nan, places)
            outcome = outcome if quality or cell is None else link(outcome, cell.folder / RECORD, base)
            shown[rate] = f"**{outcome}**" if rate == tried[label].rate else outcome
        rows.append([escape(label), *(shown.get(rate, NONE) for rate in rates)])
    return [
        f"Learning rates tried at seed {TRIAL_SEED}, with their {name}; the best was taken (bold), the test not asked:",
        "",
        *table(["model", *(f"{rate:g}" for rate in rates)], rows, LEFT),
        "",
    ]


def _overview(it: Overview) -> list[str]:
    tasks = [one.group.task.name for one in it.tables]
    models = [row.label for row in it.rows if row.ranks is not None]
    control = it.tables[0].group.config.get("control", "none")
    names = ["rank", "model", "mean skill", BETTER, *map(escape, tasks)]
    rows = [_overview_cells(it, row) for row in it.rows if row.skill is not None]
    lines = [f"## {escape(it.heading)}", ""]
    if control != "none":
        lines += [f"- CONTROL {escape(control)}: these models were trained so that nothing true can be learned.", ""]
    lines += table(names, rows, LEFT) if rows else ["No model is complete in all of these tasks."]
    missing = [
        f"Not ranked, without a mean: {escape(row.label)}: {_lacks(it, row)}." for row in it.rows if row.skill is None
    ]
    return [
        *lines,
        "",
        *_bullets(
            real_differences(it.comparison, models),
            f"The mean is of the skill on {listed(tasks)}, each counted alike, of models that are complete in all.",
            least(it.comparison, " of mean skill", 3, len(models)),
            *missing,
        ),
        "",
    ]


def _overview_cells(it: Overview, row: OverviewRow) -> list[str]:
    parts = [_sure(one.skill if one else None, 3) for one in row.rows]
    better = escape(", ".join(it.better_than(row.label)))
    return [open_ranks(row.ranks), escape(row.label), _sure(row.skill, 3), better, *parts]


def _lacks(it: Overview, row: OverviewRow) -> str:
    """What an incomplete model lacks, task by task, and the skill it has on the others."""
    said = []
    for one, found in zip(it.tables, row.rows, strict=True):
        if found is None:
            said.append(f"{one.group.task.name} not run")
        elif found.skill is None:
            said.append(f"{one.group.task.name} {found.state(one.seeds)}")
        else:
            said.append(f"{one.group.task.name} {with_reach(found.skill.value, math.nan, 3)}")
    return escape(listed(said))


def _bullets(*lines: str) -> list[str]:
    return [f"- {line}" for line in lines if line]

"""The board's figures, one a table and one an overview, as PNG or SVG. No torch.

The same records and the same matplotlib give the same files byte for byte: neither holds a date, and SVG's identifiers
are salted with a constant.
"""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from seqbench.board.compare import Sure
from seqbench.board.forest import Block, baseline_block, draw_forests, draw_skills, pairs_block
from seqbench.board.frame import Look, finish, halves, looks, metric_name, model_keys
from seqbench.board.overview import Overview, overviews
from seqbench.board.panels import draw_cost, draw_curves
from seqbench.board.table import Table
from seqbench.errors import UserError
from seqbench.report.text import listed

__all__ = ["draw_board", "figure_files"]

MOST_NAME = 100  # characters of a file's name
STYLE: Any = {
    "font.size": 8,
    "text.parse_math": False,  # a record's words are no formulas
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "seqbench",
}


def draw_board(tables: Sequence[Table], folder: Path, fmt: Literal["png", "svg"] = "png") -> dict[str, Path]:
    """Draw every table, and the overviews that they make together, into ``folder``; old files of a name are replaced.

    Returns:
        Of each figure the heading that it belongs under, as the page has it, and its file. Its name says what the
        heading does: `<task>-<budget>-width<hidden>.png` or `-params<count>`, and in what it differs from the usual.

    Raises:
        UserError: a learning curve is missing or damaged, or ``folder`` can't be written.
    """
    import matplotlib  # optional, and half a second to import

    known = looks(tables)
    drawn = figure_files(tables, folder, fmt)
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # a user's own settings must not change the figures
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph")  # words in a script that the font lacks
        for it, path in zip(_figures(tables), drawn.values(), strict=True):
            _save(_overview_figure(it, known) if isinstance(it, Overview) else _table_figure(it, known), path)
    return drawn


def figure_files(tables: Sequence[Table], folder: Path, fmt: Literal["png", "svg"] = "png") -> dict[str, Path]:
    """What `draw_board` returns, without drawing."""
    figures = _figures(tables)
    headings = [it.heading if isinstance(it, Overview) else it.title for it in figures]
    return {heading: folder / f"{name}.{fmt}" for heading, name in zip(headings, _names(figures), strict=True)}


def _figures(tables: Sequence[Table]) -> list[Overview | Table]:
    return [*overviews(tables), *tables]


def _save(figure: Any, path: Path) -> None:
    """In one step, so that no half of a picture is ever seen."""
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".plot-") as scratch:
            new = Path(scratch) / path.name
            figure.savefig(new, metadata=metadata)
            new.replace(path)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): choose another --plots.") from None


def _names(figures: Sequence[Overview | Table]) -> list[str]:
    """Unlike names of files, of letters, digits, dashes and underscores only."""
    names: list[str] = []
    for it in figures:
        first = it.tables[0] if isinstance(it, Overview) else it
        group, differs = first.group, (*first.setting, *first.variant)
        params, hidden = group.config.get("params"), group.config.get("hidden") or ()
        width = f"params{params}" if params else f"width{'_'.join(map(str, hidden))}"
        about = ("overview" if isinstance(it, Overview) else group.task.name, group.budget, width, *differs)
        name = re.sub(r"[^a-z0-9_]+", "-", "-".join(about).lower()).strip("-")[:MOST_NAME]
        count = sum(re.sub(r"~\d+$", "", other) == name for other in names)
        names.append(f"{name}~{count + 1}" if count else name)
    return names


def _table_figure(it: Table, known: Mapping[str, Look]) -> Any:
    place = {row.label: i for i, row in enumerate(it.rows)}
    against = sorted(it.against, key=lambda one: place[one.first])
    blocks = [pairs_block(it.comparison), baseline_block(against)]
    blocks = [block for block in blocks if block.differences]
    figure, left, right = halves(max(7.0, 1.8 + 0.25 * sum(3 + len(block.differences) for block in blocks)))
    cost, curves = left.subgridspec(2, 1).subplots()
    notes = [*draw_cost(cost, it, known), *draw_curves(curves, it, known)]
    what = f"difference of test {metric_name(it)}" + (", sign turned as lower is better" if it.sign < 0 else "")
    draw_forests(right, blocks, known, what)
    about = "no run has a figure"
    if it.group.primary:
        about = f"test {metric_name(it)}, {it.group.primary.direction} is better · seeds: {len(it.seeds)}"
    finish(figure, f"{it.title}\n{about}", model_keys(it, known), [*_runs(it), *notes, *_sureness(blocks)])
    return figure


def _overview_figure(it: Overview, known: Mapping[str, Look]) -> Any:
    blocks = [block for block in [pairs_block(it.comparison)] if block.differences]
    lines = max([0.45 * len(it.rows), *(0.25 * len(block.differences) for block in blocks)])
    figure, left, right = halves(max(4.2, 2.0 + lines))
    skills = left.subgridspec(1, 1).subplots()
    notes = draw_skills(skills, it, known)
    skills.set_title("Mean skill with 95% interval; single tasks small below it", fontsize=9, loc="left")
    draw_forests(right, blocks, known, "difference of mean skill")
    about = f"mean skill over {len(it.tables)} tasks, each counted alike; higher is better"
    handles, _ = skills.get_legend_handles_labels()
    finish(figure, f"{it.heading}\n{about}", handles, [*_lacks(it), *notes, *_sureness(blocks)])
    return figure


def _runs(it: Table) -> list[str]:
    """Models that are not ranked and why, and what one seed can't tell."""
    said = [f"{row.label} {row.state(it.seeds)}" for row in it.rows if row.entrant is not None and row.metric is None]
    lines = [f"Not ranked, without a mean: {'; '.join(said)}."] if said else []
    known = [row.metric for row in it.rows if row.entrant is not None and row.metric is not None]
    if known and len(it.seeds) == 1:
        lines.append("One seed only: intervals are over test examples alone and leave out how much training varies.")
    return lines + _without(known)


def _lacks(it: Overview) -> list[str]:
    """What the incomplete models lack, and which means have no interval."""
    lines = []
    for row in it.rows:
        if row.skill is None:
            found = zip(it.tables, row.rows, strict=True)
            missing = [
                f"{table.group.task.name} {one.state(table.seeds) if one else 'not run'}"
                for table, one in found
                if one is None or one.skill is None
            ]
            lines.append(f"{row.label} ({listed(missing)})")
    said = [f"Not ranked, without a mean: {'; '.join(lines)}."] if lines else []
    return said + _without([row.skill for row in it.rows if row.skill is not None])


def _without(known: Sequence[Sure]) -> list[str]:
    if all(math.isfinite(sure.low) for sure in known):
        return []
    return ["Where no interval stands, there is one seed only, or records lack their leave-one-out figures."]


def _sureness(blocks: Sequence[Block]) -> list[str]:
    """How to read the differences: which are real, and the band of those too small to be found."""
    found = [one for block in blocks for one in block.differences]
    if not found:
        return []
    if all(math.isnan(one.adjusted) for one in found):
        return ["No p-values, so no difference is shown to be real."]
    lines = [
        "Filled differences are real (Holm: at most a 5% risk of any false one in a panel), hollow ones not shown so."
    ]
    if any(one.better is None and (one.sure.low > 0 or one.sure.high < 0) for one in found):
        lines[0] += " Each interval is for itself: it may miss zero and the difference still not be real."
    least = next((block.least for block in blocks if math.isfinite(block.least)), None)
    if least is not None:
        lines.append(
            f"Grey band: ±{least:.2g}, the smallest true difference found with 80% power; smaller ones may be missed."
        )
    return lines

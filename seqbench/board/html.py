"""The board as a page for a browser: the tables and sentences of the other page, pictures that answer, and the records.

Whatever stands in it comes from `page` and `charts`. The ledger is read from the files that `claims` leaves beside the
records: ``claims.json``, and ``charts.json`` with its pictures as data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from seqbench.board.charts import more_of_overview, more_of_table, pictures
from seqbench.board.compare import BoardTable, Entrant, Overview, Row, overviews
from seqbench.board.page import BETTER, HOW_TO_READ, Page, not_verified, only_models, overview_lines
from seqbench.errors import UserError
from seqbench.report.chart import Chart, chart_of
from seqbench.report.html import PageRow, PageTable, inline, page, split_table
from seqbench.report.svg import drawn_chart
from seqbench.report.text import NONE, decimals, interval_text, relative
from seqbench.stats import Interval

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["CHARTS", "CLAIMS_DATA", "board_page"]

CLAIMS_DATA, CHARTS = "claims.json", "charts.json"
Records = list[tuple[str, Mapping[str, Any]]]


def board_page(
    tables: Sequence[BoardTable], results: pd.DataFrame, folders: Iterable[Path], base: Path = Path(), models: str = ""
) -> str:
    """The page of ``tables``, one file that needs no network.

    Args:
        results: the rows of `load_results` that the tables are made of, each of which the page can open.
        folders: where the records lie; the first of them that has a ledger gives it.
        base: the directory that the page will be written into; paths of records are shown relative to it.
        models: as in `page.render`.

    Raises:
        UserError: a learning curve or the ledger is missing or damaged.
    """
    base = base.resolve()
    kept = next((folder.resolve() for folder in folders if (folder / CLAIMS_DATA).is_file()), None)
    ledger = None if kept is None else _read_ledger(kept)
    paths = sorted(results["record"])
    if ledger is not None:
        paths += sorted({str(path) for path in ledger.records()} - set(paths))
    # what came in a bundle lies in the reader's cache, whose place is nobody's business
    bundled = {row.record: row.bundle for row in results.itertuples() if row.bundle is not None}
    records: Records = [
        (
            f"{Path(str(bundled[path])).name}: {'/'.join(Path(path).parts[-5:])}"
            if path in bundled
            else relative(Path(path), base),
            json.loads(Path(path).read_text("utf-8")),
        )
        for path in paths
    ]
    tokens = {path: str(i) for i, path in enumerate(paths)}
    tokens |= {quote(shown): str(i) for i, (shown, _) in enumerate(records)}
    writer = _Writer(Page(False, base, {}), tokens, {one.heading: (one.name, one.chart) for one in pictures(tables)})
    sections = [writer.overview(one, i) for i, one in enumerate(overviews(tables))]
    sections += [writer.table(table, len(sections) + i) for i, table in enumerate(tables)]
    _, made, *how_to_read, budget = HOW_TO_READ.format(records=sum(table.n_results for table in tables)).split("\n\n")
    introduction = [made, budget, not_verified(tables), f"**{only_models(models)}**" if models else ""]
    return page(
        "board.html",
        "seqbench leaderboard",
        records,
        introduction=[inline(" ".join(text.split())) for text in introduction if text],
        how_to_read=[inline(" ".join(text.split())) for text in how_to_read],
        models=sorted({row.label for table in tables for row in table.models}),
        sections=sections,
        ledger=None if ledger is None else ledger.shown(tokens),
    )


@dataclass(frozen=True)
class _Writer:
    """Sections of the page, as its template takes them.

    Attributes:
        page: what gives cells and sentences.
        tokens: by path or link, what opens a record.
        charts: by heading, a name for the address of the section, and its picture.
    """

    page: Page
    tokens: Mapping[str, str]
    charts: Mapping[str, tuple[str, Chart]]

    def section(self, heading: str, place: int, grid: PageTable, beside: Chart | None, **facts: Any) -> dict[str, Any]:
        """What every section has."""
        name, chart = self.charts.get(heading, (f"section-{place}", None))
        rest: dict[str, Any] = {"above": [], "more": [], "rates": None}
        charts = [one for one in (chart, beside) if one is not None]
        if len(charts) == 2:  # one row of pictures, with one legend
            first, second = charts
            columns = [*first.columns[:1], *second.columns, *first.columns[1:]]
            charts = [Chart(first.title, columns, first.subtitle, first.notes)]
        drawn = [drawn_chart(chart, self.tokens) for chart in charts]
        return rest | {"heading": heading, "anchor": name, "grid": grid, "charts": drawn} | facts

    def overview(self, overview: Overview, place: int) -> dict[str, Any]:
        """Mean skill over tasks."""
        lines = overview_lines(overview)
        told = [inline(line.removeprefix("- ")) for line in lines if line and not line.startswith("|")]
        if not any(line.startswith("|") for line in lines):
            return self.section(overview.heading, place, PageTable([], []), more_of_overview(overview), said=told)
        grid = split_table(lines)
        model = list(grid.headers).index("model")
        known = iter(row.label for row in overview.rows if row.mean_skill is not None)
        rows = [self.overview_row(overview, line, label) for line, label in zip(grid.rows, known, strict=True)]
        wrap = frozenset(i for i, name in enumerate(grid.headers) if name == BETTER)
        shown = PageTable(grid.headers, rows, frozenset({model}), wrap)
        return self.section(overview.heading, place, shown, more_of_overview(overview), said=told)

    def overview_row(self, overview: Overview, line: PageRow, label: str) -> PageRow:
        """Its figures open the runs on their task, the mean those on all."""
        runs = [
            [self.tokens[run.record] for row in table.models if row.label == label for run in row.results.values()]
            for table in overview.tables
        ]
        rank, _, mean, better, *skills = line.cells
        opening = [_opens(skill, own) for skill, own in zip(skills, runs, strict=True)]
        return PageRow([rank, _name(label), _opens(mean, [*chain(*runs)]), better, *opening], of=label)

    def table(self, table: BoardTable, place: int) -> dict[str, Any]:
        """One task under one set of conditions."""
        means = [row.metric for row in table.rows if row.metric is not None]
        places = decimals([mean.value for mean in means], [(mean.high - mean.low) / 2 for mean in means])
        cells = [self.page.cells(table, row, places) for row in table.rows]
        known = {name for row in cells for name, text in row.items() if text not in (NONE, "") or name == BETTER}
        names = [name for name in dict.fromkeys(chain(*cells)) if name in known]
        rows = [
            PageRow(
                [self.cell(row, name, text.get(name, "")) for name in names],
                "" if isinstance(row, Entrant) else "baseline",
                row.label if isinstance(row, Entrant) else "",
            )
            for row, text in zip(table.rows, cells, strict=True)
        ]
        left = frozenset(i for i, name in enumerate(names) if name in ("model", "seeds"))
        grid = PageTable(names, rows, left, frozenset({names.index(BETTER)}))
        head, *rates = [line for line in self.page.rates(table, places) if line] or [""]
        return self.section(
            table.title,
            place,
            grid,
            more_of_table(table),
            said=[inline(line, self.tokens) for line in self.page.sentences(table, places) if line],
            more=[inline(line) for line in self.page.conditions(table)],
            rates={"head": inline(head), "grid": split_table(rates, self.tokens)} if rates else None,
        )

    def cell(self, row: Row, name: str, text: str) -> Markup:
        """One cell: figures of a model open its records, its name brings it out in the pictures."""
        shown = inline(text, self.tokens)
        if not isinstance(row, Entrant) or not row.results:
            return shown
        if name == "model":
            return _name(row.label)
        runs = row.results
        if name == "seeds":
            about = f"{row.label}, seed {{}}"
            each = {str(seed): (self.tokens[run.record], about.format(seed)) for seed, run in runs.items()}
            return _buttons(f"{row.state}:", each)
        figure = name == "skill" or name.endswith(("↑", "↓"))
        return _opens(shown, [self.tokens[run.record] for run in runs.values()]) if figure and text != NONE else shown


def _name(label: str) -> Markup:
    from markupsafe import Markup

    return Markup('<button type="button" class="name" aria-pressed="false">{}</button>').format(label)


def _opens(shown: str, tokens: Sequence[str]) -> Markup:
    """A figure that opens the records behind it, if there are any."""
    from markupsafe import Markup, escape

    if not tokens:
        return escape(shown)
    return Markup('<button type="button" class="figure" data-open="{}">{}</button>').format(" ".join(tokens), shown)


def _buttons(text: str, each: Mapping[str, tuple[str, str]]) -> Markup:
    """A text, and a button for each record with what it says to those who can't see its place."""
    from markupsafe import Markup

    made = Markup('<button type="button" class="figure" data-open="{}" aria-label="{}">{}</button>')
    return Markup("{} {}").format(text, Markup(" ").join(made.format(*known, name) for name, known in each.items()))


# --- the ledger ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ledger:
    """The files of a ledger: where they lie, their content, and the charts."""

    folder: Path
    content: Mapping[str, Any]
    charts: Sequence[Chart]

    def path(self, target: str) -> Path | None:
        """The record that a link of the ledger leads to, if it lies in its folder."""
        path = (self.folder / target).resolve()
        good = path.name == "record.json" and path.is_relative_to(self.folder) and path.is_file()
        return path if good else None

    def targets(self) -> Iterator[str]:
        """All that it links to."""
        for claim in self.content["claims"]:
            lists = [condition["records"] for condition in claim["conditions"]]
            lists += [line["records"] for part in claim["beside"] for line in part["lines"]]
            yield from (target for targets in lists for target in targets)

    def records(self) -> Iterator[Path]:
        """Those of the targets that are there."""
        return filter(None, map(self.path, self.targets()))

    def shown(self, tokens: Mapping[str, str]) -> dict[str, Any]:
        """As the template takes it."""
        claims = self.content["claims"]
        own = {target: token for target in self.targets() for token in self.tokens([target], tokens)}
        rows = [
            PageRow([str(claim["number"]), claim["sentence"], inline(claim["statement"]), _verdict(claim)])
            for claim in claims
        ]
        headers = ["no.", "the texts say", "measured here", "verdict"]
        return {
            "introduction": (
                "What texts say of recurrent networks, and what came out when it was measured. A verdict follows from "
                "the intervals by one rule: supported, if all of them lie in the region that the sentence names; "
                "refuted, if none touches it; depends on, if some lie in it and some clear of it; but for, if a few "
                "rows are undecided; inconclusive, if the intervals are too wide to tell."
            ),
            "grid": PageTable(headers, rows, frozenset(range(4)), frozenset({1, 2, 3}), prose=True),
            "conditions": [inline(line) for line in self.content["conditions"]],
            "charts": [drawn_chart(chart, own) for chart in self.charts],
            "claims": [self.claim(claim, tokens) for claim in claims],
        }

    def claim(self, claim: Mapping[str, Any], tokens: Mapping[str, str]) -> dict[str, Any]:
        """One claim with its figures."""
        lacks = f" Without a result: {claim['lacks']}." if claim["lacks"] else ""
        lines = [
            inline(f"{claim['statement']} Verdict: **{_verdict(claim)}**.{lacks}"),
            inline(f"Said by: {claim['source']}"),
            inline(f"Measured: {claim['method']}"),
        ]
        notes = dict.fromkeys(condition["note"] for condition in claim["conditions"] if condition["note"])
        beside = [
            (inline(part["heading"]), [self.aside(line, tokens) for line in part["lines"]])
            for part in claim["beside"]
            if part["lines"]
        ]
        return {
            "heading": f"{claim['number']}. {claim['sentence']}",
            "lines": lines,
            "grid": self.conditions(claim["conditions"], tokens) if claim["conditions"] else None,
            "lists": [*([("", list(notes))] if notes else []), *beside],
        }

    def conditions(self, conditions: Sequence[Mapping[str, Any]], tokens: Mapping[str, str]) -> PageTable:
        """The figures that a verdict follows from, each with the records behind it."""
        axes = list(dict.fromkeys(name for condition in conditions for name in condition["axes"]))
        rows = []
        for condition in conditions:
            figure = interval_text(_interval(condition), condition["unit"], at_least=condition["at_least"])
            side = {True: "inside", False: "outside", None: "undecided"}[condition["inside"]]
            cells = [condition["axes"].get(name, "") for name in axes]
            cells += [_opens(figure, self.tokens(condition["records"], tokens)), condition["region"]]
            rows.append(PageRow([*cells, side if condition["tested"] else "not tested"]))
        headers = [*axes, "figure (interval)", "the sentence is true for", "it lies"]
        return PageTable(headers, rows, frozenset(range(len(headers))))

    def aside(self, line: Mapping[str, Any], tokens: Mapping[str, str]) -> Markup:
        """A sentence on which no verdict rests, with its records."""
        shown, known = inline(line["text"]), self.tokens(line["records"], tokens)
        return shown + " " + _opens("records", known) if known else shown

    def tokens(self, targets: Sequence[str], tokens: Mapping[str, str]) -> list[str]:
        """What opens the records that are linked to, as far as they are in the page."""
        return [tokens[str(path)] for target in targets if (path := self.path(target)) and str(path) in tokens]


def _read_ledger(folder: Path) -> _Ledger:
    """The ledger in a folder.

    Raises:
        UserError: one of its files is damaged.
    """
    try:
        content = json.loads((folder / CLAIMS_DATA).read_text(encoding="utf-8"))
        charts = folder / CHARTS
        drawn = json.loads(charts.read_text(encoding="utf-8")) if charts.is_file() else {}
        ledger = _Ledger(folder, content, [chart_of(chart) for chart in drawn.values()])
        ledger.shown({})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"the ledger in {folder} is damaged: write it again by `claims --report`.") from None
    return ledger


def _verdict(claim: Mapping[str, Any]) -> str:
    """As the ledger's own page says it."""
    word, on, but_for = claim["verdict"], claim["depends_on"], claim["but_for"]
    said = f"depends on {' or '.join(map(' and '.join, on))}" if on else word
    said = f"{word} but for {'; '.join(but_for)}" if but_for else said
    return said + (f"; {claim['caution']}" if claim["caution"] else "")


def _interval(condition: Mapping[str, Any]) -> Interval:
    """The figure: null stands for what is infinite, or not known at all."""
    value, low, high = (condition[name] for name in ("value", "low", "high"))
    open_end = math.nan if low is None else math.inf
    return Interval(*(open_end if end is None else float(end) for end in (value, low, high)))

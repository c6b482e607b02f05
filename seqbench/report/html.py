"""Pages for a browser: one file each, which loads nothing from elsewhere and needs no network.

The frame, its style and its script lie beside this module in ``page``. Jinja escapes whatever a template is given, and
the page's own policy lets no script run but that one: a record's words can't become markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.report.chart import Chart
from seqbench.report.svg import drawn_chart
from seqbench.report.text import NONE, Section, format_value

if TYPE_CHECKING:  # a program that writes no page does without it
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["PageRow", "PageTable", "chart_page", "fact_sections", "inline", "page", "split_table"]

FOLDER = Path(__file__).with_name("page")
DIGITS = 6  # of figures in a record that is shown
MOST_ITEMS = 400  # of a list in a record that is shown


class PageRow(NamedTuple):
    """A row of a `PageTable`: cells, texts or markup; the class of the row; the model that it is of."""

    cells: Sequence[str]
    kind: str = ""
    of: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of a page. ``left`` are the columns of words, ``wrap`` those that may take several lines.

    ``prose``: one of sentences, which takes all the room there is.
    """

    headers: Sequence[str]
    rows: Sequence[PageRow]
    left: frozenset[int] = frozenset()
    wrap: frozenset[int] = frozenset()
    prose: bool = False


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page(template: str, title: str, records: Sequence[tuple[str, Mapping[str, Any]]] = (), **facts: Any) -> str:
    """A page from one of the templates in ``page``.

    Args:
        records: what the page can open: where each lies, and its content.
        facts: what the template needs.
    """
    from markupsafe import Markup

    script = (FOLDER / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    dark = (FOLDER / "dark.css").read_text(encoding="utf-8")
    themes = f"@media screen {{ :root[data-theme=dark] {{\n{dark}}} }}\n"  # paper is light
    themes += f"@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{\n{dark}}} }}"
    style = (FOLDER / "style.css").read_text(encoding="utf-8").replace("/* dark */", themes)
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            brand="seqbench",
            style=Markup(style),
            script=Markup(script),
            digest=f"sha256-{digest}",
            records=Markup(_packed(records)),
            **facts,
        )
    )


def _save(text: str, path: Path) -> Path:
    """Write a page into ``path`` and return it. An older file is replaced in one step.

    Raises:
        UserError: ``path`` can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): no partial file was left.") from None
    return path


def chart_page(chart: Chart, path: Path, sections: Sequence[Section] = ()) -> Path:
    """Write the page of one chart, with tables below it, and return its path.

    Raises:
        UserError: ``path`` can't be written.
    """
    tables = [
        {
            "heading": section.heading,
            "grid": PageTable(
                section.headers, [PageRow(row) for row in section.rows], frozenset({0}), _sentences(section)
            ),
        }
        for section in sections
    ]
    return _save(page("chart.html", chart.title, chart=drawn_chart(chart), sections=tables), path)


def _sentences(section: Section) -> frozenset[int]:
    """The second column where there are two: of facts."""
    return frozenset() if section.headers else frozenset({1})


def fact_sections(facts: Mapping[str, Any]) -> list[Section]:
    """Nested facts, as of a record, as tables: rows and parts that have the same kinds of parts with a head, others
    without one, of a name and a fact.
    """
    tables, pairs, rest = [], [], []
    for name, value in facts.items():
        heading = name[:1].upper() + name[1:]
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            headers = list(dict.fromkeys(key for row in value for key in row))
            rows = [[_fact(key, row.get(key, "")) for key in headers] for row in value]
            tables.append(Section(heading, headers, rows))
        elif isinstance(value, Mapping) and value and all(isinstance(part, Mapping) for part in value.values()):
            names = list(dict.fromkeys(key for part in value.values() for key in part))
            rows = [[key, *(_fact(key, part.get(key, "")) for part in value.values())] for key in names]
            tables.append(Section(heading, ["", *value], rows))
        elif isinstance(value, Mapping) and value:
            pairs.append(Section(heading, [], [[key, _fact(key, part)] for key, part in value.items()]))
        elif value not in ([], {}, ""):
            rest.append([name, _fact(name, value)])
    return [*tables, *([Section("About", [], rest)] if rest else []), *pairs]


COUNTED = ("seed", "version", "year")  # numbers that count nothing


def _fact(name: str, value: Any) -> str:
    """A value as a page shows it."""
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: NONE}[value]
    if isinstance(value, int):
        return str(value) if any(word in name for word in COUNTED) else f"{value:,}"
    if isinstance(value, float):
        return format_value(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_fact(key, part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        apart = " " if any(str(part).endswith(".") for part in value) else ", "  # sentences
        return apart.join(_fact(name, part) for part in value) or "none"
    return str(value)


# ---- Markdown, as the other page has it ----------------------------------------------------------------------------


def inline(text: str, tokens: Mapping[str, str] | None = None) -> Markup:
    """A line of the Markdown that `report.text` writes, as markup: bold, italic, links to records, escaped characters.

    Args:
        tokens: by the target of a link, what opens the record in this page; other links become plain text.
    """
    from markupsafe import Markup

    def part(word: re.Match[str]) -> str:
        character, shown, target, bold, italic, code = word.groups()
        if character:
            return _safe(character)
        if shown is not None:
            token = (tokens or {}).get(target)
            inner = str(inline(shown))
            return (
                f'<button type="button" class="figure" data-open="{_safe(token)}">{inner}</button>' if token else inner
            )
        if code:
            return f"<code>{_safe(code)}</code>"
        return f"<strong>{inline(bold)}</strong>" if bold else f"<em>{inline(italic)}</em>"

    pattern = (
        r"\\([\\`*\[\]|~#$!_])|\[((?:[^\[\]\\]|\\.)*)\]\(([^)]*)\)|\*\*(.+?)(?<!\\)\*\*|\*((?:[^*\\]|\\.)+)\*|`([^`]+)`"
    )
    made, end = [], 0
    for word in re.finditer(pattern, text):
        made += [_safe(text[end : word.start()]), part(word)]
        end = word.end()
    return Markup("".join([*made, _safe(text[end:])]))


def _safe(text: str) -> str:
    """Escaped once, also where it is already."""
    return html.escape(html.unescape(text))


def split_table(lines: Iterable[str], tokens: Mapping[str, str] | None = None) -> PageTable:
    """A table of Markdown, as `report.text.table` writes it."""
    cells = [
        [inline(cell.strip(), tokens) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    return PageTable(cells[0], [PageRow(row) for row in cells[2:]], frozenset({0}))


# ---- records ---------------------------------------------------------------------------------------------------------


def _packed(records: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Records as JSON that may stand in a page: what occurs several times stands there once.

    A dict is ``[shape, values...]``, where ``shapes[shape]`` has its keys, a list is ``[-1, values...]``, and
    ``{r: i}`` stands for ``parts[i]``.
    """
    if not records:
        return json.dumps({"shapes": [], "parts": [], "records": []})
    texts: Counter[str] = Counter()
    plain = [(path, _rounded(record)) for path, record in records]
    for _, record in plain:
        for part in record.values():
            if isinstance(part, dict | list):
                texts[_compact(part)] += 1
    shapes: dict[tuple[str, ...], int] = {}
    parts: dict[str, int] = {}
    values: list[Any] = []

    def packed(value: Any) -> Any:
        if isinstance(value, dict):
            return [shapes.setdefault(tuple(value), len(shapes)), *map(packed, value.values())]
        return [-1, *map(packed, value)] if isinstance(value, list) else value

    def once(value: Any) -> Any:
        if not isinstance(value, dict | list) or texts[text := _compact(value)] < 2:
            return packed(value)
        if text not in parts:
            parts[text] = len(values)
            values.append(packed(value))
        return {"r": parts[text]}

    rows = []
    for path, record in plain:
        inner = [once(value) for value in record.values()]
        rows.append([path, [shapes.setdefault(tuple(record), len(shapes)), *inner]])
    content = {"shapes": list(map(list, shapes)), "parts": values, "records": rows}
    # within a page, a text must end no script and open no comment
    return _compact(content).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _rounded(value: Any) -> Any:
    """To the digits that a page shows; long lists only begin."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        more = [f"... and {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else []
        return [*map(_rounded, value[:MOST_ITEMS]), *more]
    return value

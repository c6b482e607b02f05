"""Figures and names as text: how many decimals, intervals, lists, links, what may stand in Markdown, and tables that
print themselves.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape_html
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:  # numpy, which --help does not need
    from seqbench.stats import Interval

__all__ = [
    "NONE",
    "Section",
    "Shown",
    "aligned_table",
    "counted",
    "decimals",
    "duration",
    "escape",
    "format_value",
    "interval_text",
    "link",
    "listed",
    "open_ranks",
    "or_dash",
    "relative",
    "rounded",
    "short",
    "table",
    "with_interval",
    "with_reach",
]

NONE = "–"  # noqa: RUF001 (a hyphen would read as a minus)
MOST = 300  # characters of a reason


def escape(text: object) -> str:
    """One line that Markdown and HTML show as it stands: a record's words must not become markup or a new cell."""
    line = _one_line(text)
    line = line if len(line) <= MOST else line[:MOST] + " ..."
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|~#$!])", r"\\\1", line)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)  # those within a word are harmless


def link(shown: str, path: Path, base: Path) -> str:
    """A Markdown link from a page in the directory ``base`` to ``path``, both absolute and without symbolic links."""
    return f"[{shown}]({quote(relative(path, base))})"


def relative(path: Path, base: Path) -> str:
    """``path`` as seen from ``base``, with forward slashes; as it stands if it is on another drive."""
    try:
        return os.path.relpath(path, base).replace(os.sep, "/")
    except ValueError:
        return path.as_posix()


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: Iterable[str] = ()) -> list[str]:
    """Lines of a GitHub table; columns are aligned to the right but for those named ``left``."""
    sides = set(left)
    rules = [":--" if name in sides else "--:" for name in headers]
    return ["| " + " | ".join(cells) + " |" for cells in (headers, rules, *rows)]


def aligned_table(rows: Iterable[Mapping[str, str]]) -> str:
    """A GitHub table that a terminal shows aligned, too; the keys of the first row are the headers."""
    from tabulate import tabulate

    return tabulate(list(rows), headers="keys", tablefmt="github", disable_numparse=True)


def decimals(values: Iterable[float], reaches: Iterable[float]) -> int:
    """Decimals that suit a column: four significant digits of its median value, one of its smallest interval.

    ```
    decimals([0.84, 0.80, 0.02], [0.01, 0.002]) -> 4        decimals([12345.0], [7.0]) -> 0
    ```
    """
    sizes = sorted(abs(value) for value in values if value and math.isfinite(value))
    noise = 1e-9 * sizes[-1] if sizes else 0.0  # an interval of rounding errors belongs to what can't vary
    narrow = [reach for reach in reaches if reach > noise and math.isfinite(reach)]
    wanted = [3 - math.floor(math.log10(sizes[len(sizes) // 2]))] if sizes else [3]
    wanted += [-math.floor(math.log10(min(narrow)))] if narrow else []
    return min(8, max(0, *wanted))


def with_reach(value: float, reach: float, places: int) -> str:
    """``0.848 ± 0.008`` with so many decimals: `decimals` of the column; the value alone where it can't vary."""
    if not math.isfinite(value):
        return NONE
    return f"{value:z,.{places}f}" + (
        f" ± {reach:,.{places}f}" if math.isfinite(reach) and round(reach, places) > 0 else ""
    )


def with_interval(interval: Interval, places: int) -> str:
    """`with_reach` of an interval that is as long on both sides; of another ``0.990 (0.952 to 1.000)``."""
    value, low, high = interval
    if math.isfinite(value) and abs((high - value) - (value - low)) > 0.5 * 10**-places:
        return f"{value:z,.{places}f} ({low:z,.{places}f} to {high:z,.{places}f})"
    return with_reach(value, (high - low) / 2, places)


def open_ranks(ranks: tuple[int, int, int] | None) -> str:
    """``1 (1 to 3)``: the rank, and those that the significant differences leave open."""
    if ranks is None:
        return NONE
    rank, best, worst = ranks
    return f"{rank} ({best} to {worst})" if best != worst else f"{rank}"


def or_dash(value: float | None, pattern: str) -> str:
    """``value`` by Python's format ``pattern``, or a dash where there is none: ``or_dash(1234.5, ",.0f") -> 1,234``."""
    return NONE if value is None else format(value, pattern)


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rounded(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, without an exponent where one can do without.

    ```
    rounded(12.34)       -> 12.3        rounded(131584.4)    -> 131,584   (digits before the point are all kept)
    rounded(0.84750, 4)  -> 0.8475      rounded(0.5, 4)      -> 0.5
    rounded(0.0000123)   -> 1.23e-05    rounded(math.inf)    -> ∞         rounded(math.nan) -> ?
    ```
    """
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if math.isnan(value):
        return "?"
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:z,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval_text(figure: Interval, unit: str = "", digits: int = 3, *, at_least: bool = False) -> str:
    """``12 steps (8 to 16)``: a value with its interval, both `rounded`.

    ```
    interval_text(Interval(12, 8, 16), "steps")             -> 12 steps (8 to 16)
    interval_text(Interval(12, 8, inf), "steps")            -> 12 steps (8 and more)
    interval_text(Interval(4, 4, 4), "times")               -> 4 times                (exact)
    interval_text(Interval(0.5, nan, nan))                  -> 0.5                    (nobody knows how exact)
    interval_text(Interval(320, 320, inf), at_least=True)   -> at least 320           (a lower bound)
    interval_text(Interval(inf, 8, inf), "times")           -> more than 8 times      (the value itself is not known)
    interval_text(Interval(nan, nan, nan))                  -> unknown
    ```
    """
    unit = f" {unit}" if unit else ""
    low, high = rounded(figure.low, digits), rounded(figure.high, digits)
    if not math.isfinite(figure.value):
        return f"unknown{unit}" if math.isnan(figure.low) else f"more than {low}{unit}"
    value = f"{'at least ' if at_least else ''}{rounded(figure.value, digits)}{unit}"
    exact = figure.low == figure.high or math.isnan(figure.low) or math.isnan(figure.high)
    bound = at_least and figure.low == figure.value and math.isinf(figure.high)
    if exact or bound:
        return value
    return f"{value} ({low} and more)" if math.isinf(figure.high) else f"{value} ({low} to {high})"


def format_value(value: float) -> str:
    """A value with four significant digits, as tables and pictures show it; ``-`` for NaN."""
    return "-" if math.isnan(value) else rounded(value, 4)


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """As a person would say it: ``40 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def short(text: object, most: int = 28) -> str:
    """One line of printable characters; of a long one the middle is left out, as names differ at their ends."""
    line = _one_line(text)
    return line if len(line) <= most else f"{line[: most - most // 2 - 3]}...{line[-(most // 2) :]}"


def _one_line(text: object) -> str:
    """Printable characters only: a record's words must not move the cursor of a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


class Section(NamedTuple):
    """A table with what stands above and below it."""

    heading: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Shown:
    """What prints as tables: as text in a terminal, as HTML in a notebook."""

    def sections(self) -> list[Section]:
        """What is shown, from the first table to the last."""
        raise TypeError(f"{type(self).__name__} must define sections()")

    def __str__(self) -> str:
        return "\n\n".join(map(_as_text, self.sections()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Asked for by notebooks."""
        return "\n".join(map(_as_html, self.sections()))


def _as_text(section: Section) -> str:
    from tabulate import tabulate

    rows = [list(map(_one_line, row)) for row in section.rows]
    table = tabulate(rows, headers=list(section.headers), tablefmt="github", disable_numparse=True)
    heading = [_one_line(section.heading), ""] if section.heading else []
    return "\n".join([*heading, table, *map(_one_line, section.notes)])


def _as_html(section: Section) -> str:
    """Names are escaped: a record's words must not become markup."""
    lines = [f"<p><b>{escape_html(_one_line(section.heading))}</b></p>"] if section.heading else []
    lines += ["<table>", _html_row("th", section.headers)]
    lines += [_html_row("td", row) for row in section.rows]
    return "\n".join([*lines, "</table>", *(f"<p>{escape_html(_one_line(note))}</p>" for note in section.notes)])


def _html_row(tag: str, cells: Sequence[str]) -> str:
    side = 'style="text-align: left"'
    return "<tr>" + "".join(f"<{tag} {side}>{escape_html(_one_line(cell))}</{tag}>" for cell in cells) + "</tr>"

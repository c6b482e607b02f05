"""Text and tables on standard output: laid out by rich for the width of a terminal, and plain elsewhere.

In a terminal words and figures stay whole: cells wrap between words; a table that is too wide for that is turned, so
that its rows are columns, and one that is too wide even then is shown row by row. Nothing is coloured, so it reads on
any background; headings are bold unless ``TERM=dumb``. In a file or a pipe tables are GitHub's, one row on each line,
however long.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # --help answers before it is imported
    from rich.console import Console

__all__ = ["in_terminal", "print_path", "print_table", "print_text", "wrapped"]

GAP = 2  # columns of the terminal between two of a table
RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+\s*$")  # the second line of a GitHub table
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?%?$")
FIGURE = re.compile(r"[-+≥>=<~ ]*[\d∞]")  # what follows may be a unit or an interval
PLAIN = re.compile(r"[-+≥>=<~ ]*[\d∞][^(]*$")  # figures that look best with their ends below each other
BLANK = ("", "-", "–", "?")  # noqa: RUF001 - the dash that stands for nothing
Rows = Sequence[Sequence[str]]


def in_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at ``stream``, which is None where it was closed before the start."""
    return stream is not None and stream.isatty()


def print_table(headers: Sequence[str], rows: Rows, *, numbers: str = "right") -> None:
    """Print a table; ``numbers`` is the side on which columns of numbers stand in a file or a pipe."""
    if not in_terminal(sys.stdout):
        print(_plain(headers, rows, numbers))
        return
    console = _console()
    lines = [_clean(headers), *map(_clean, rows)]
    turned = [list(line) for line in zip(*lines, strict=True)]
    for head, *body in (lines, turned):
        widths = _widths(head, body, console.width)
        if widths is not None:
            _print_columns(console, head, body, widths)
            return
    _print_blocks(*lines, width=console.width)


def print_text(text: str, *, fold: bool = False) -> None:
    """Print lines of text, wrapped in a terminal; GitHub tables among them are shown as `print_table` does.

    With ``fold`` a word that is longer than a line, such as a sequence of letters, is cut.
    """
    if not in_terminal(sys.stdout):
        print(text)
        return
    lines, width, i = _rejoined(text.split("\n")), _console().width, 0
    while i < len(lines):
        end = i + 1
        if lines[i].startswith("|") and RULE.match("".join(lines[end : end + 1])):
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            headers, _, *rows = [_cells(line) for line in lines[i:end]]
            if all(len(row) == len(headers) for row in rows):
                print_table(headers, rows)
            else:  # a bar within a cell
                print("\n".join(lines[i:end]))
        else:
            print(wrapped(lines[i], width, fold=fold))
        i = end


def _rejoined(lines: Sequence[str]) -> list[str]:
    """Lines of prose that a text was wrapped into at about 120 columns, as one again."""
    joined: list[str] = []
    last = ""
    for line in lines:
        own = re.match(r"$|\s|- |\|.*\|$", line)  # a paragraph, a bullet or a table begins
        if 90 <= len(last) <= 120 and not last.endswith((".", ":", "|")) and not own:
            joined[-1] += f" {line}"
        else:
            joined.append(line)
        last = line
    return joined


def print_path(label: str, path: object) -> None:
    """Print what may be copied after its label: never broken, on a line of its own if both don't fit on one."""
    line = f"{label}{path}"
    if in_terminal(sys.stdout) and len(line) > _console().width:
        line = f"{label.rstrip()}\n{path}"
    print(line)


def wrapped(line: str, width: int, *, fold: bool = False) -> str:
    """``line`` in lines of at most ``width``, indented as far as its text is after a bullet or a short label."""
    lead = re.match(r" *(- |[\w-]+ {2,})?", line)
    indent = " " * (len(lead[0]) if lead and len(lead[0]) <= width // 2 else 0)
    return "\n".join(
        textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=fold,
            break_on_hyphens=False,
        )
    )


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def _plain(headers: Sequence[str], rows: Rows, numbers: str) -> str:
    from tabulate import tabulate

    sides = ["left"] * len(headers)
    if numbers == "right":
        sides = ["right" if _all_match(NUMBER, [row[i] for row in rows]) else "left" for i in range(len(headers))]
    rows = [list(row) for row in rows]
    return tabulate(
        rows, headers=list(headers), tablefmt="github", disable_numparse=True, colalign=sides if rows else ()
    )


def _all_match(pattern: re.Pattern[str], cells: Sequence[str]) -> bool:
    """Whether all that is in a column matches, and anything is."""
    known = [cell for cell in cells if cell not in BLANK]
    return bool(known) and all(pattern.match(cell) for cell in known)


def _clean(cells: Sequence[str]) -> list[str]:
    """One line each, without characters that would steer the terminal."""
    return [" ".join("".join(c if c.isprintable() else " " for c in cell).split()) for cell in cells]


def _cells(line: str) -> list[str]:
    """Of a line of a GitHub table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def _widths(headers: Sequence[str], rows: Rows, width: int) -> list[int] | None:
    """Width of each column so that figures, or at least words, stay whole; None if not even words fit."""
    from rich.cells import cell_len

    columns = [[row[i] for row in rows] for i in range(len(headers))]
    together = [[header, *column] for header, column in zip(headers, columns, strict=True)]
    cells = [max(map(cell_len, column), default=0) for column in columns]
    most = [max(map(cell_len, column)) for column in together]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in together]
    whole = [
        max(least, cell) if _all_match(FIGURE, column) else least
        for least, cell, column in zip(words, cells, columns, strict=True)
    ]
    room = width - GAP * (len(headers) - 1)
    fits = [least for least in (whole, words) if sum(least) <= room]
    if not fits:
        return None
    widths = list(fits[0])
    for _ in range(room - sum(widths)):
        narrow = [i for i, wide in enumerate(widths) if wide < cells[i]]  # headings come last
        narrow = narrow or [i for i, wide in enumerate(widths) if wide < most[i]]
        if not narrow:
            break
        widths[max(narrow, key=lambda i: most[i] / widths[i])] += 1  # the one that needs most lines
    return widths


def _print_columns(console: Console, headers: Sequence[str], rows: Rows, widths: Sequence[int]) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    apart = any(cell_len(cell) > width for row in rows for cell, width in zip(row, widths, strict=True))
    style = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, GAP - 1, 0, 0)}
    table = Table(show_lines=apart, header_style="bold", **style)  # type: ignore[arg-type]
    for i, (header, width) in enumerate(zip(headers, widths, strict=True)):
        figures = _all_match(PLAIN, [row[i] for row in rows])
        # fold: an ellipsis would take wide letters off a line that merely ends with a space
        table.add_column(Text(header), width=width, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_blocks(headers: Sequence[str], *rows: Sequence[str], width: int) -> None:
    """A block for each row, a line for each of its cells."""
    for number, row in enumerate(rows):
        if number:
            print()
        for i, (header, cell) in enumerate(zip(headers, row, strict=True)):
            if cell:
                name = f"{header}: " if header else ""
                print(wrapped(f"{'  ' if i else ''}{name}{cell}", width, fold=True))

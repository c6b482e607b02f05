"""`leaderboard`: from records to a board: a short one in a terminal, a page, data, and pictures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from seqbench.cli.common import AUTO, FLAT, Common, show_json
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.options import OUTPUT, WHAT, Parameter
from seqbench.report.terminal import in_terminal, print_path, print_table, print_text

if TYPE_CHECKING:  # --help answers before it is imported
    import pandas as pd

    from seqbench.board import BoardTable

__all__ = ["COMMAND", "Leaderboard"]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Turn records into a board: which models are better, how sure that is, and what they cost."""

    results: tuple[Path, ...] = field(default=(Path("results/local"),), kw_only=False)
    """Directories of records."""
    task: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = "all"
    """Tasks to show, several with commas, or all."""
    model: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = "all"
    """Models to show, several with commas, or all; ranks and significant differences are then among these."""
    budget: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = "all"
    """Budgets to show, several with commas, or all."""
    format: Annotated[Literal["markdown", "html", "json", "csv"] | None, Parameter(group=OUTPUT)] = None
    """A page to read, one for a browser, or data; by default what --out ends in, and in a terminal a short board."""
    columns: Annotated[Literal["all", "quality"], Parameter(group=OUTPUT)] = "all"
    """Everything, or only what depends on neither the machine nor the moment."""
    out: Annotated[Path | None, Parameter(group=OUTPUT, metavar="FILE")] = None
    """File to write, with links relative to it; by default the board is printed."""
    plot: Annotated[Path | None, Parameter(group=OUTPUT, metavar="[DIR]")] = None
    """Draw every table into this directory, too; by default plots, beside --out."""
    plot_format: Annotated[Literal["png", "svg"], Parameter(group=OUTPUT)] = "png"
    """Kind of picture."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __post_init__(self) -> None:
        """Refuse what says two things."""
        if self.common.json and self.format not in (None, "json"):
            raise UserError(f"--json and --format {self.format} contradict each other: give one.")
        if self._format == "html" and self.columns != "all":
            raise UserError("the page for a browser holds the records, costs included: leave --columns out.")
        if self._format == "html" and self.out is None and sys.stdout.isatty():
            raise UserError("--format html makes a page for a browser: say where to with --out FILE.html.")

    def __call__(self) -> int:
        """Print or write it, and draw it if asked to."""
        from seqbench.board import chosen_results, load_results, make_tables

        results = load_results(self.results)
        results = chosen_results(results, task=self.task, model=self.model, budget=self.budget)
        tables, drawn = make_tables(results), {}
        if self.plot is not None:
            from seqbench.board.charts import draw_board

            beside = self.out.parent if self.out else Path()
            drawn = draw_board(tables, beside / "plots" if str(self.plot) == AUTO else self.plot, self.plot_format)
        if self._format == "html":
            self._browser_page(tables, results)
        elif self.out is not None:
            self._write(self._text(tables, drawn), self.out)
        elif self._format is None and self.columns == "all" and in_terminal(sys.stdout):
            self._show(tables)
        else:
            sys.stdout.write(self._text(tables, drawn))
        if self.out is not None and self.common.json:
            show_json({"out": self.out, "plots": list(drawn.values())})
            return 0
        for path in ([self.out] if self.out else []) + [*drawn.values()]:
            print(path, file=sys.stderr if self.out is None else sys.stdout)
        return 0

    @property
    def _format(self) -> Literal["markdown", "html", "json", "csv"] | None:
        if self.format is None and not self.common.json and self.out is not None and self.out.suffix == ".html":
            return "html"
        return "json" if self.common.json else self.format

    @property
    def _models(self) -> str:
        return "" if self.model == "all" else self.model

    def _browser_page(self, tables: Sequence[BoardTable], results: pd.DataFrame) -> None:
        from seqbench.board.html import board_page

        base = self.out.parent if self.out else Path()
        text = board_page(tables, results, self.results, base, self._models)
        if self.out is None:
            sys.stdout.write(text)
        else:
            self._write(text, self.out)

    def _text(self, tables: Sequence[BoardTable], drawn: dict[str, Path]) -> str:
        from seqbench.board import render

        assert self._format != "html"
        base = self.out.parent if self.out else Path()
        return render(tables, self._format or "markdown", self.columns, base, drawn, self._models)

    def _write(self, text: str, out: Path) -> None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            replace_file(out, lambda file: file.write(text.encode()))
        except OSError as error:
            raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None

    def _show(self, tables: Sequence[BoardTable]) -> None:
        """Print the short board, what its intervals lack, and how to get the page."""
        from seqbench.board import short_board
        from seqbench.board.page import not_verified, only_models

        for heading, headers, rows in short_board(tables):
            print_text(heading)
            print_table(headers, rows)
            print()
        print_text("↑ higher is better, ↓ lower is better; ± is half of the 95% interval")
        if self.model != "all":
            print_text(only_models(self.model))
        for caveat in dict.fromkeys(caveat for table in tables for caveat in table.caveats()):
            print_text(caveat)
        if said := not_verified(tables):
            print_text(said)
        asked = {"--task": self.task, "--model": self.model, "--budget": self.budget}
        chosen = [word for name, value in asked.items() if value != "all" for word in (name, value)]
        words = shlex.join([*map(str, self.results), *chosen, "--out", "board.md"])
        print_path("the whole page: ", f"python run_bench.py leaderboard {words}")


COMMAND = Leaderboard

"""The commands that look at data or at records, prepare or fetch data. No torch, so that they answer at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from seqbench.cli_pictures import data_chart
from seqbench.config import parse_options_text
from seqbench.disk import replace_file
from seqbench.errors import UserError
from seqbench.prepare import download_folder, fit_baselines, prepare
from seqbench.report.draw import draw, need_matplotlib
from seqbench.show import show_data
from seqbench.task import TASKS, parse_options

__all__ = ["fetch", "leaderboard", "prepare_data", "show"]


def speaker(title: str) -> Callable[[str], None]:
    """Prints lines of progress on stderr."""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # whoever read this may have gone; the work goes on
            print(f"{title}: {line}", file=sys.stderr, flush=True)

    return say


def show(task: str, option: tuple[str, ...], source: str, data: str | None, plot: Path | None) -> None:
    """Print what the data of ``task`` holds, and draw it if asked to."""
    if plot is not None:
        need_matplotlib()
    say = speaker(task)
    source = "path" if data is not None else source
    prepared = prepare(task, dict(parse_options_text(option)), source, say, data)
    show_data(prepared, fit_baselines(prepared, say))
    if plot is not None:
        print(f"\nplot: {draw(data_chart(prepared), plot)}")


def prepare_data(
    task: str, option: tuple[str, ...], source: str = "embedded", data: str | None = None, *, baselines: bool = True
) -> None:
    """Build the caches of one task, or of all, and fit their baselines."""
    from tqdm import tqdm

    names = TASKS.names() if task == "all" else [TASKS.entry(task).name]
    if len(names) > 1 and (data is not None or source != "embedded" or option):
        raise UserError("--data, --source and --option are one task's: name the task.")
    source = "path" if data is not None else source
    for name in tqdm(names, desc="prepare", unit="task", disable=not sys.stderr.isatty(), leave=False):
        say = speaker(name)
        prepared = prepare(name, dict(parse_options_text(option)), source, say, data)
        fitted = len(fit_baselines(prepared, say)) if baselines else 0
        print(f"{name}: ready, {len(prepared.data.train):,} training examples, {fitted} baselines")


def fetch(task: str, option: tuple[str, ...], *, force: bool = False) -> None:
    """Download the canonical set of ``task``."""
    spec = TASKS.get(task)
    if "hub" not in spec.sources:
        raise UserError(f"task {spec.name} has no set on the network; bring a file of your own with --data FILE.")
    spec = spec.at("hub")
    options = parse_options(spec, dict(parse_options_text(option)))
    assert spec.fetch is not None
    folder = download_folder(spec, options)
    spec.fetch(options).fetch(folder, speaker(spec.name), force=force)
    print(f"{spec.name}: fetched; use it with --source hub")


def leaderboard(
    results: Sequence[Path],
    fmt: Literal["markdown", "json", "csv"],
    columns: Literal["all", "quality"],
    out: Path | None,
    plots: Path | None,
    plot_format: Literal["png", "svg"],
) -> None:
    """Print the board of ``results``, or write it to ``out``, and draw it into ``plots`` if asked to."""
    from seqbench.board import load_results, make_tables, render

    tables = make_tables(load_results(results))
    drawn = {}
    if plots is not None:
        need_matplotlib()
        from seqbench.board.charts import draw_board

        drawn = draw_board(tables, plots, plot_format)
    text = render(tables, fmt, columns, out.parent if out else Path(), drawn)
    if out is None:
        sys.stdout.write(text)
    else:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            replace_file(out, lambda file: file.write(text.encode()))
        except OSError as error:
            raise UserError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
        print(out)
    for path in drawn.values():
        print(path, file=sys.stderr if out is None else sys.stdout)

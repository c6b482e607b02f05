"""`data show`, `data prepare`, `data fetch`: what a careful person asks of a data set, caches, and canonical sets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from seqbench.about import about_data_of, about_prepared, baselines_about, first_symbols, natural_targets
from seqbench.cli.common import FLAT, Common, Picture, draw_picture, picture_place, show_json, speaker
from seqbench.config import DataOptions, parse_options_text
from seqbench.data import Pairs, Segments, Split, Stream, Tagged, TaskData, Windows, unit_of
from seqbench.errors import UserError
from seqbench.files.kinds import chosen_task
from seqbench.options import DATA, OUTPUT, WHAT, Flag, Parameter, Texts
from seqbench.prepare import Prepared, download_folder, fit_baselines, prepare
from seqbench.report.chart import COLOURS, GREY, Axis, Bars, Chart, Line, Look, Matrix, Panel
from seqbench.report.terminal import print_path, print_table, print_text
from seqbench.report.text import format_value
from seqbench.task import TASKS, parse_options

__all__ = ["DataFetch", "DataPrepare", "DataShow", "data_chart", "group"]


@dataclass(frozen=True, kw_only=True)
class DataShow:
    """Show what a task's data holds: sizes, balance, an example, licence, hash, split, baselines."""

    task: Annotated[str, Parameter(group=WHAT)] = field(default="", kw_only=False)
    """Task; see `list tasks`. Not needed with --data."""
    which: Annotated[DataOptions, FLAT] = field(default_factory=DataOptions)
    plot: Picture = None
    """Draw the data, too; by default into data-TASK.png."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Print it, and draw it if asked to."""
        say = speaker(self.task or "data")
        task, which = _chosen(self.task, self.which, say)
        picture = picture_place(self.plot, Path(f"data-{task}.png"))
        prepared = _prepared(task, which, say)
        drawn = None
        if picture is not None:
            chart = data_chart(prepared, which.data_name)
            drawn = draw_picture(chart, picture, lambda: about_prepared(prepared, fit_baselines(prepared, say)))
        if self.common.json:
            show_json(about_prepared(prepared, fit_baselines(prepared, say)))
            return 0
        _show_data(prepared, about_data_of(prepared))
        sys.stdout.flush()  # some baselines take a minute
        _show_baselines(baselines_about(prepared, fit_baselines(prepared, say)))
        if drawn is not None:
            print()
            print_path("plot: ", drawn)
        return 0


@dataclass(frozen=True, kw_only=True)
class DataPrepare:
    """Build the cache of a task's data and fit its baselines, so that the first run starts at once."""

    task: Annotated[str, Parameter(group=WHAT)] = field(default="all", kw_only=False)
    """Task, or all."""
    which: Annotated[DataOptions, FLAT] = field(default_factory=DataOptions)
    baselines: Annotated[bool, Parameter(negative="--no-baselines", group=OUTPUT)] = True
    """Fit the baselines, too, which takes longer than all else."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Build and fit."""
        named, which = self.task, self.which
        if which.data is not None:
            named, which = _chosen("" if named == "all" else named, which, speaker("data"))
        names = TASKS.names() if named == "all" else [TASKS.entry(named).name]
        if len(names) > 1 and which != DataOptions():
            raise UserError("--data, --source and --option are one task's: name the task.")
        ready = []
        for name in names:
            say = speaker(name)
            prepared = _prepared(name, which, say)
            fitted = len(fit_baselines(prepared, say)) if self.baselines else 0
            ready.append({"task": name, "training examples": len(prepared.data.train), "baselines": fitted})
            if not self.common.json:
                print_text(f"{name}: ready, {len(prepared.data.train):,} training examples, {fitted} baselines")
        if self.common.json:
            show_json(ready)
        return 0


@dataclass(frozen=True, kw_only=True)
class DataFetch:
    """Download the canonical set of a task, for --source hub; nothing else ever does."""

    task: Annotated[str, Parameter(group=WHAT)] = field(kw_only=False)
    """Task; see `list tasks`."""
    option: Annotated[Texts, Parameter(group=DATA, metavar="NAME=VALUE")] = ()
    """An option of the task, as ticker=IBM; may be given again."""
    force: Annotated[Flag, Parameter(group=OUTPUT)] = False
    """Download again what is there already."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Download it."""
        spec = TASKS.get(self.task)
        if "hub" not in spec.sources:
            raise UserError(f"task {spec.name} has no set on the network; bring a file of your own with --data FILE.")
        spec = spec.at("hub")
        options = parse_options(spec, dict(parse_options_text(self.option)))
        assert spec.fetch is not None
        folder = download_folder(spec, options)
        spec.fetch(options).fetch(folder, speaker(spec.name), force=self.force)
        if self.common.json:
            show_json({"task": spec.name, "source": "hub", "folder": folder})
        else:
            print(f"{spec.name}: fetched; use it with --source hub")
        return 0


def group(word: str) -> dict[str, type[Any]]:
    """The commands, by their second word."""
    return {"show": DataShow, "prepare": DataPrepare, "fetch": DataFetch}


def _chosen(task: str, which: DataOptions, say: Callable[[str], None]) -> tuple[str, DataOptions]:
    """The task that is meant, that for the user's own file where none is named, and its options."""
    if which.data is None:
        if not task:
            raise UserError("which data? Name a task (see `list tasks`), or give a file of your own with --data FILE.")
        return task, which
    return chosen_task(task, which, say)


def _prepared(task: str, which: DataOptions, say: Callable[[str], None]) -> Prepared:
    source = "path" if which.data is not None else which.source
    return prepare(task, which.task_options, source, say, which.data, which.test)


Array = npt.NDArray[np.float64]
MOST_ROWS = 30  # features or classes


def _show_data(prepared: Prepared, about: dict[str, Any]) -> None:
    options = ", ".join(f"{name}={value}" for name, value in prepared.options.items() if value != "")
    print_text(f"task: {about['task']} v{about['version']} ({about['kind']}): {about['description']}")
    print_text(f"source: {about['source']} (there are: {', '.join(about['sources'])})")
    for name, fact in (("options", options or "none"), ("licence", about["licence"]), ("citation", about["citation"])):
        print_text(f"{name}: {fact}")
    for name, digest in about["SHA-256"].items():
        print_path(f"SHA-256 of {name}: ", digest)
    print_text(f"split: {about['split']}")
    print_text("\n".join(f"- {note}" for note in about["notes"]))
    _table(about["sizes"])
    _table(about["classes"], "{:.1%}".format)
    _table(about["features"])
    if about["vocabulary"]:
        symbols = prepared.data.vocabulary
        print_text(f"\nvocabulary: {len(symbols):,} symbols: {first_symbols(symbols)}")
    print_text(f"\nexample: {about['example']}", fold=True)


def _show_baselines(about: dict[str, Any]) -> None:
    _table(about["baselines"])
    for name, reason in about["not applicable"].items():
        print_text(f"baseline {name} is left out: {reason}.", fold=True)


def _table(rows: list[dict[str, Any]], figure: Callable[[float], str] = format_value) -> None:
    """Nothing where there are no rows."""
    shown, more = rows[:MOST_ROWS], len(rows) - MOST_ROWS

    def cell(value: str | int | float) -> str:
        return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else figure(value)

    if shown:
        print()
        print_table(list(shown[0]), [[*map(cell, row.values())] for row in shown])
    if more > 0:
        print(f"... and {more} more")


LOOKS = {"train": Look(GREY), "val": Look(COLOURS[0]), "test": Look(COLOURS[1])}
MOST_POINTS = 3000  # of a line; more can't be told apart
MOST_SYMBOLS = 30
MOST_SHARES = 6  # symbols of which the share is shown at every step
BINS = 60


def data_chart(prepared: Prepared, name: str | None = None) -> Chart:
    """Balance and lengths of what is classified, a series with its splits, or what a text is made of."""
    train = prepared.data.train
    if isinstance(train, Stream):
        noun = f"{unit_of(prepared.data.fitted)}s"
        panels = [_symbols(train, prepared.data.vocabulary, noun), _sizes_panel(prepared.data.splits, noun)]
    elif isinstance(train, Windows):
        panels = [_series(prepared.data), _histogram(prepared.data)]
    elif isinstance(train, Pairs):
        panels = [_lengths_panel(prepared), _written_panel(prepared.data.splits)]
    elif not prepared.data.classes:
        panels = [_numbers_panel(prepared.data)]
    elif isinstance(train, Segments):
        panels = [_balance_panel(prepared), _means(train, prepared)]
    elif isinstance(train, Tagged):
        panels = [_balance_panel(prepared)]
    else:
        panels = [_balance_panel(prepared), _lengths_panel(prepared)]
    title = f"{prepared.spec.name} · {prepared.source}" if name is None else f"{name} ({prepared.spec.name})"
    return Chart(title, [[panel] for panel in panels], prepared.spec.description)


def _label(part: str, split: Split) -> str:
    return f"{part}, {len(split):,} {'windows' if isinstance(split, Windows) else 'examples'}"


def _balance_panel(prepared: Prepared) -> Panel:
    classes = prepared.data.classes
    marks = []
    for part, split in prepared.data.splits.items():
        shares = np.bincount(split.truth().targets, minlength=len(classes)) / split.n_scored
        marks.append(Bars(classes, shares.tolist(), LOOKS[part], _label(part, split)))
    return Panel("Classes", marks, y=Axis("share of the examples"))


def _numbers_panel(data: TaskData) -> Panel:
    """How the numbers that are predicted are spread in each split."""
    values = {part: natural_targets(data, split.truth().targets) for part, split in data.splits.items()}
    together = np.concatenate(list(values.values()))
    low, high = float(together.min()), float(together.max())
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])
    marks = [_outline(part, data.splits[part], rows, edges) for part, rows in values.items()]
    return Panel("Numbers to predict", marks, Axis("target"), Axis("density"))


def _lengths_panel(prepared: Prepared) -> Panel:
    """How long the sequences are; where all are alike, how often each symbol stands at each step."""
    splits, vocabulary = prepared.data.splits, prepared.data.vocabulary
    if splits["train"].lengths is None:
        inputs = splits["train"].arrays()["inputs"]
        present = [symbol for symbol in range(len(vocabulary)) if (inputs == symbol).any()][:MOST_SHARES]
        shares = [(inputs == symbol).mean(axis=0).tolist() for symbol in present]
        lines = [
            Line(range(len(share)), share, Look(COLOURS[i]), label=vocabulary[symbol])
            for i, (symbol, share) in enumerate(zip(present, shares, strict=True))
        ]
        return Panel("Symbols by step", lines, Axis("step"), Axis("share of the training examples"))
    longest = max(int(np.asarray(split.lengths).max()) for split in splits.values())
    width = 1 + longest // BINS  # as many lengths in each bin
    edges = np.arange(0.5, longest + width, width)
    marks = [_outline(part, split, np.asarray(split.lengths), edges) for part, split in splits.items()]
    return Panel("Lengths", marks, Axis("steps"), Axis("density"))


def _written_panel(splits: Mapping[str, Split]) -> Panel:
    """How many pieces are written for each that is read."""
    ratios = {
        part: (split.target_lengths - 1) / split.row_lengths
        for part, split in splits.items()
        if isinstance(split, Pairs)
    }
    edges = np.linspace(0.0, 3.0, BINS + 1)
    marks = [_outline(part, splits[part], rows, edges) for part, rows in ratios.items()]
    return Panel("Pieces of a translation for each of its source", marks, Axis("ratio"), Axis("density"))


def _outline(part: str, split: Split, values: npt.NDArray[np.generic], edges: Array) -> Line:
    """A histogram as a line: of the values between the first and the last edge."""
    heights, _ = np.histogram(values, edges, density=True)
    return Line([edges[0], *edges], [0.0, *heights, 0.0], LOOKS[part], label=_label(part, split), steps=True)


def _targets(data: TaskData, split: Split) -> Array:
    assert isinstance(split, Windows)
    return natural_targets(data, split.target_series[:, 0])


def _series(data: TaskData) -> Panel:
    marks = []
    start = 0
    for part, split in data.splits.items():
        values = _targets(data, split)
        kept = np.arange(0, len(values), max(1, len(values) // MOST_POINTS))
        marks.append(Line((start + kept).tolist(), values[kept].tolist(), LOOKS[part], label=_label(part, split)))
        start += len(values)
    return Panel("Series", marks, Axis("step (series laid end to end)"), Axis("target"))


def _histogram(data: TaskData) -> Panel:
    together = np.concatenate([_targets(data, split) for split in data.splits.values()])
    low, high = np.quantile(together, (0.002, 0.998))  # one crash would squeeze the rest
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])
    marks = [_outline(part, split, _targets(data, split), edges) for part, split in data.splits.items()]
    title = "Values: does the test look like the training?"
    return Panel(title, marks, Axis("target"), Axis("density"))


def _means(train: Segments, prepared: Prepared) -> Panel:
    """Where each class has each measurement: what a linear model could see."""
    classes, features = prepared.data.classes, prepared.data.features
    last = train.series[train.starts + train.lookback - 1]
    means = [last[train.targets == label].mean(axis=0).tolist() for label in range(len(classes))]
    matrix = Matrix(means, classes, features, -3, 3, label="training deviations")
    return Panel("Mean of each measurement by class", [matrix])


def _symbols(train: Stream, vocabulary: Sequence[str], noun: str) -> Panel:
    shares = np.bincount(train.tokens, minlength=len(vocabulary)) / len(train.tokens)
    order = np.argsort(-shares)[:MOST_SYMBOLS]
    names = [repr(vocabulary[i])[1:-1].replace(" ", "space") for i in order]
    bars = Bars(names, shares[order].tolist(), LOOKS["train"])
    return Panel("Most frequent symbols, training", [bars], y=Axis(f"share of the {noun}"))


def _sizes_panel(splits: dict[str, Split], noun: str) -> Panel:
    bars = Bars(list(splits), [split.n_scored for split in splits.values()], LOOKS["train"])
    return Panel("Splits, in the order of the text", [bars], y=Axis(noun))

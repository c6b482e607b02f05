"""The pictures of one run and of one data set, as charts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbench.cli.run import read_predictions
from seqbench.data import Segments, Split, Stream, Windows
from seqbench.data.splits import Truth
from seqbench.jobs.record import RunRecord
from seqbench.metrics import bits_per_character
from seqbench.prepare import Prepared
from seqbench.report.chart import (
    COLOURS,
    GREY,
    Axis,
    Bars,
    Chart,
    Line,
    Look,
    Matrix,
    Panel,
    Rule,
    look_of,
)
from seqbench.report.text import rounded
from seqbench.task import TASKS, TaskSpec

__all__ = ["data_chart", "run_chart"]

Array = npt.NDArray[np.float64]
LOOKS = {"train": Look(GREY), "val": Look(COLOURS[0]), "test": Look(COLOURS[1])}
MOST_POINTS = 3000  # of a line; more can't be told apart
MOST_SYMBOLS = 30
MOST_SHARES = 6  # symbols of which the share is shown at every step
BINS = 60


# ---- one run ------------------------------------------------------------------------------------------------------


def run_chart(record: RunRecord, folder: Path) -> Chart:
    """The learning curve, and the test predictions as their kind of task is best seen.

    Args:
        folder: holds the record and the files of its run.

    Raises:
        UserError: the predictions are missing or damaged.
    """
    spec = TASKS.get(record.task.name).at(record.task.source)
    columns = [[_learning_curve(record, spec, folder)]]
    if record.task.kind in TEST_PANELS:
        predictions, truth = read_predictions(folder)
        columns.append([TEST_PANELS[record.task.kind](predictions, truth, folder)])
    about = f"{record.task.name} · {record.model.name} · {record.budget} · seed {record.seed}"
    return Chart(about, columns, f"{spec.primary.name}: {spec.primary.direction} is better")


def _learning_curve(record: RunRecord, spec: TaskSpec, folder: Path) -> Panel:
    assert record.primary is not None
    points = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    name, unit = spec.primary.name, f" ({spec.primary.unit})" if spec.primary.unit else ""
    steps, values = [point["step"] for point in points], [point[f"val_{name}"] for point in points]
    figures = {"this run": record.primary.value, **record.baselines}
    rules = [
        Rule(value, f"{whose} {rounded(value, 4)}", strong=whose == "this run", widen="always")
        for whose, value in figures.items()
    ]
    return Panel(
        "Learning curve",
        [Line(steps, values, look_of(record.model.name), label="validation", marked=True), *rules],
        Axis("optimiser step", limits=(0, 1.03 * max(steps))),
        Axis(name + unit),
        note="Lines across are figures on the test split: of this run's best state, and of the baselines.",
    )


def _confusion(predictions: Array, truth: Truth, folder: Path) -> Panel:
    names = json.loads((folder / "model.json").read_text(encoding="utf-8"))["classes"]
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (truth.targets, predictions.argmax(axis=1)), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    texts = [[f"{counts[i, j]:,}\n{shares[i, j]:.1%}" for j in range(len(names))] for i in range(len(names))]
    matrix = Matrix(shares.tolist(), names, names, texts=texts, label="share of the examples of the true class")
    return Panel("Test: which classes are taken for which", [matrix], Axis("predicted"), Axis("true"))


def _forecast(predictions: Array, truth: Truth, folder: Path) -> Panel:
    """The median and the worst test window by squared error, so that not only pretty ones are shown."""
    order = np.argsort(((predictions - truth.targets) ** 2).mean(axis=(1, 2)))
    ahead = list(range(1, predictions.shape[1] + 1))
    marks = []
    for name, index, colour in (("median", order[len(order) // 2], COLOURS[0]), ("worst", order[-1], COLOURS[1])):
        for what, windows, dash in (("truth", truth.targets, "solid"), ("forecast", predictions, "dashed")):
            values = windows[index, :, 0].tolist()
            marks.append(Line(ahead, values, Look(colour), label=f"{name} window: {what}", dash=dash))  # type: ignore[arg-type]
    label = "target, scaled by training mean and deviation"
    return Panel("Test: the windows with the median and the greatest error", marks, Axis("steps ahead"), Axis(label))


def _bits(predictions: Array, truth: Truth, folder: Path) -> Panel:
    bits = [bits_per_character(predictions[[i]], truth.targets[[i]]) for i in range(len(truth))]
    line = Line(truth.groups.tolist(), bits, Look(COLOURS[0]))
    return Panel("Test: how well each block is predicted", [line], Axis("block of 2,048 test characters"),
                 Axis("bits per character"))  # fmt: skip


TEST_PANELS: dict[str, Callable[[Array, Truth, Path], Panel]] = {
    "classify": _confusion,
    "forecast": _forecast,
    "generate": _bits,
}


# ---- a data set ---------------------------------------------------------------------------------------------------


def data_chart(prepared: Prepared) -> Chart:
    """Balance and lengths of what is classified, a series with its splits, or what a text is made of."""
    train = prepared.data.train
    if isinstance(train, Stream):
        panels = [_symbols(train, prepared.data.vocabulary), _sizes(prepared.data.splits)]
    elif isinstance(train, Windows):
        panels = [_series(prepared.data.splits), _histogram(prepared.data.splits)]
    elif isinstance(train, Segments):
        panels = [_balance(prepared), _means(train, prepared)]
    else:
        panels = [_balance(prepared), _lengths(prepared)]
    title = f"{prepared.spec.name} · {prepared.source}"
    return Chart(title, [[panel] for panel in panels], prepared.spec.description)


def _label(part: str, split: Split) -> str:
    return f"{part}, {len(split):,} {'windows' if isinstance(split, Windows) else 'examples'}"


def _balance(prepared: Prepared) -> Panel:
    classes = prepared.data.classes
    marks = []
    for part, split in prepared.data.splits.items():
        shares = np.bincount(split.truth().targets, minlength=len(classes)) / len(split)
        marks.append(Bars(classes, shares.tolist(), LOOKS[part], _label(part, split)))
    return Panel("Classes", marks, y=Axis("share of the examples"))


def _lengths(prepared: Prepared) -> Panel:
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


def _outline(part: str, split: Split, values: npt.NDArray[np.generic], edges: Array) -> Line:
    """A histogram as a line: of the values between the first and the last edge."""
    heights, _ = np.histogram(values, edges, density=True)
    return Line([edges[0], *edges], [0.0, *heights, 0.0], LOOKS[part], label=_label(part, split), steps=True)


def _targets(split: Split) -> Array:
    assert isinstance(split, Windows)
    return np.asarray(split.target_series[:, 0], dtype=np.float64)


def _series(splits: dict[str, Split]) -> Panel:
    marks = []
    start = 0
    for part, split in splits.items():
        values = _targets(split)
        kept = np.arange(0, len(values), max(1, len(values) // MOST_POINTS))
        marks.append(Line((start + kept).tolist(), values[kept].tolist(), LOOKS[part], label=_label(part, split)))
        start += len(values)
    return Panel("Series", marks, Axis("step (series laid end to end)"), Axis("target, as read"))


def _histogram(splits: dict[str, Split]) -> Panel:
    together = np.concatenate([_targets(split) for split in splits.values()])
    low, high = np.quantile(together, (0.002, 0.998))  # one crash would squeeze the rest
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])
    marks = [_outline(part, split, _targets(split), edges) for part, split in splits.items()]
    title = "Values: does the test look like the training?"
    return Panel(title, marks, Axis("target, as read"), Axis("density"))


def _means(train: Segments, prepared: Prepared) -> Panel:
    """Where each class has each measurement: what a linear model could see."""
    classes, features = prepared.data.classes, prepared.data.features
    last = train.series[train.starts + train.lookback - 1]
    means = [last[train.targets == label].mean(axis=0).tolist() for label in range(len(classes))]
    matrix = Matrix(means, classes, features, -3, 3, diverging=True, label="training deviations")
    return Panel("Mean of each measurement by class", [matrix])


def _symbols(train: Stream, vocabulary: Sequence[str]) -> Panel:
    shares = np.bincount(train.tokens, minlength=len(vocabulary)) / len(train.tokens)
    order = np.argsort(-shares)[:MOST_SYMBOLS]
    names = [repr(vocabulary[i])[1:-1].replace(" ", "space") for i in order]
    bars = Bars(names, shares[order].tolist(), LOOKS["train"])
    return Panel("Most frequent symbols, training", [bars], y=Axis("share of the characters"))


def _sizes(splits: dict[str, Split]) -> Panel:
    bars = Bars(list(splits), [split.n_scored for split in splits.values()], LOOKS["train"], across=True)
    return Panel("Splits, in the order of the text", [bars], Axis("characters"))

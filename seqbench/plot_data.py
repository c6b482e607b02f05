"""The picture of a data set: balance and lengths, or the series with its splits, or what the text is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seqbench.data import Segments, Split, Stream, Windows
from seqbench.errors import UserError
from seqbench.prepare import Prepared

__all__ = ["draw_data"]

COLOURS = {"train": "#767676", "val": "#0072b2", "test": "#d55e00"}
MOST_POINTS = 3000  # of a line; more can't be told apart
SYMBOLS = 30


def draw_data(prepared: Prepared, path: Path) -> Path:
    """Draw into ``path`` (.png, .svg or .pdf) and return it."""
    from matplotlib.figure import Figure  # optional, and half a second to import

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {path.name} must end in .png, .svg or .pdf.")
    figure = Figure(figsize=(11, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    train = prepared.data.train
    if isinstance(train, Stream):
        _symbols(left, prepared)
        _sizes(right, prepared)
    elif isinstance(train, Windows):
        _series(left, prepared)
        _histogram(right, prepared)
    else:
        _balance(left, prepared)
        (_runs if isinstance(train, Segments) else _lengths)(right, prepared)
    figure.suptitle(f"{prepared.spec.name} · {prepared.source}: {prepared.spec.description}", fontsize=10)
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): choose another --plot.") from None
    return path


def _balance(axes: Any, prepared: Prepared) -> None:
    classes, splits = prepared.data.classes, prepared.data.splits
    for i, (part, split) in enumerate(splits.items()):
        shares = np.bincount(split.truth().targets, minlength=len(classes)) / len(split)
        axes.bar(
            np.arange(len(classes)) + 0.27 * (i - 1), shares, 0.25, color=COLOURS[part], label=f"{part}, {len(split):,}"
        )
    axes.set(xticks=range(len(classes)), ylabel="share of the examples", title="classes")
    axes.set_xticklabels(classes, rotation=90 if max(map(len, classes)) > 3 and len(classes) > 6 else 0)
    axes.legend(fontsize=8)


def _lengths(axes: Any, prepared: Prepared) -> None:
    """How long the sequences are; where all are alike, how often each symbol stands at each place."""
    splits = prepared.data.splits
    if splits["train"].lengths is None:
        inputs, vocabulary = splits["train"].arrays()["inputs"], prepared.data.vocabulary
        for symbol in range(min(len(vocabulary), 6)):
            axes.plot((inputs == symbol).mean(axis=0), linewidth=1, label=vocabulary[symbol])
        axes.set(xlabel="step", ylabel="share of the training examples", title="symbols by step")
    else:
        longest = max(int(np.asarray(split.lengths).max()) for split in splits.values())
        edges = np.arange(0.5, longest + 1 + longest // 60, 1 + longest // 60)  # as many lengths in each bin
        for part, split in splits.items():
            axes.hist(split.lengths, bins=edges, density=True, histtype="step", color=COLOURS[part], label=part)
        axes.set(xlabel="steps", ylabel="density", title="lengths")
    axes.legend(fontsize=8)


def _targets(split: Split) -> np.ndarray:
    assert isinstance(split, Windows)
    return np.asarray(split.target_series[:, 0], dtype=np.float64)


def _series(axes: Any, prepared: Prepared) -> None:
    at = 0
    for part, split in prepared.data.splits.items():
        values = _targets(split)
        kept = np.arange(0, len(values), max(1, len(values) // MOST_POINTS))
        axes.plot(at + kept, values[kept], color=COLOURS[part], linewidth=0.6, label=f"{part}, {len(split):,} windows")
        at += len(values)
    axes.set(xlabel="step (series laid end to end)", ylabel="target, as read", title="series")
    axes.legend(fontsize=8)


def _histogram(axes: Any, prepared: Prepared) -> None:
    together = np.concatenate([_targets(split) for split in prepared.data.splits.values()])
    limits = tuple(float(value) for value in np.quantile(together, (0.002, 0.998)))  # one crash would squeeze the rest
    for part, split in prepared.data.splits.items():
        axes.hist(
            _targets(split), bins=60, range=limits, density=True, histtype="step", color=COLOURS[part], label=part
        )
    axes.set(xlabel="target, as read", ylabel="density", title="values: does the test look like the training?")
    axes.legend(fontsize=8)


def _runs(axes: Any, prepared: Prepared) -> None:
    """Where each class has each measurement, in training deviations: what a linear model could see."""
    train, classes, features = prepared.data.train, prepared.data.classes, prepared.data.features
    assert isinstance(train, Segments)
    last = train.series[train.starts + train.lookback - 1]
    means = np.stack([last[train.targets == label].mean(axis=0) for label in range(len(classes))])
    image = axes.imshow(means, cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
    every = max(1, len(features) // 12)
    axes.set(
        yticks=range(len(classes)), xticks=range(0, len(features), every), title="mean of each measurement by class"
    )
    axes.set_yticklabels(classes, fontsize=7)
    axes.set_xticklabels(features[::every], rotation=90, fontsize=7)
    axes.figure.colorbar(image, ax=axes, label="training deviations")


def _symbols(axes: Any, prepared: Prepared) -> None:
    train, vocabulary = prepared.data.train, prepared.data.vocabulary
    assert isinstance(train, Stream)
    counts = np.bincount(train.tokens, minlength=len(vocabulary)) / len(train.tokens)
    order = np.argsort(-counts)[:SYMBOLS]
    axes.bar(range(len(order)), counts[order], color=COLOURS["train"])
    axes.set(xticks=range(len(order)), ylabel="share of the characters", title="most frequent symbols, training")
    axes.set_xticklabels([repr(vocabulary[i])[1:-1].replace(" ", "space") for i in order], rotation=90, fontsize=7)


def _sizes(axes: Any, prepared: Prepared) -> None:
    splits = prepared.data.splits
    axes.barh(list(splits), [split.n_scored for split in splits.values()], color=list(COLOURS.values()))
    axes.invert_yaxis()
    axes.set(xlabel="characters", title="splits, in the order of the text")

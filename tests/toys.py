"""Small tasks made up for tests, one a kind: loaded as a plug-in is, so they use the way in that users have."""

from dataclasses import dataclass

import numpy as np

import seqbench
from seqbench.data import text_rows
from seqbench.metrics import accuracy, bits_per_character, bleu, rmse, translation_counts

BUDGETS = {
    "smoke": seqbench.Budget(steps=6, batch_size=16, evaluations=2),
    "quick": seqbench.Budget(steps=250, batch_size=32, evaluations=5),
    "standard": seqbench.Budget(steps=400, batch_size=32, evaluations=10),
    "full": seqbench.Budget(steps=5000, batch_size=32, evaluations=500, patience=3),
}
ABOUT = {
    "version": 1,
    "description": "made up for a test",
    "citation": "none",
    "licence": "MIT",
    "split": "independent draws",
    "budgets": BUDGETS,
}
SOURCES = {"toy": "0" * 64}


@dataclass(frozen=True)
class Options:
    sequence_length: int = 12
    twist: bool = False


def score_labels(predictions, truth):
    return {"accuracy": accuracy(predictions.argmax(axis=1), truth.targets)}


@seqbench.register_task(
    "toy-first",
    kind="classify",
    metrics=(seqbench.Metric("accuracy", "higher", ""),),
    baselines=("majority",),
    reference="majority",
    perfect=1.0,
    options=Options,
    score=score_labels,
    **ABOUT,
)
def first_symbol(source, options):
    """The label is the first symbol; lengths vary, and what stands in the padding would betray the label."""

    def rows(seed, n):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(2, options.sequence_length + 1, n)
        inputs = rng.integers(1, 4, (n, options.sequence_length)).astype(np.uint8)
        targets = inputs[:, 0].astype(np.int64) - 1
        inputs[np.arange(options.sequence_length) >= lengths[:, None]] = 0
        return seqbench.Rows(inputs, targets, np.arange(n) // 5, lengths)

    return seqbench.TaskData(
        rows(1, 600), rows(2, 100), rows(3, 200), SOURCES, vocabulary=("<pad>", "a", "b", "c"), classes=("A", "B", "C")
    )


def score_errors(predictions, truth):
    return {"rmse": rmse(predictions, truth.targets)}


@seqbench.register_task(
    "toy-wave",
    kind="forecast",
    metrics=(seqbench.Metric("rmse", "lower", "m"),),
    baselines=("persistence", "ridge"),
    reference="persistence",
    perfect=0.0,
    options=Options,
    score=score_errors,
    **ABOUT,
)
def wave(source, options):
    """A noisy sine of period 9; three steps ahead."""

    def windows(seed, n):
        rng = np.random.default_rng(seed)
        series = np.sin(2 * np.pi * np.arange(n) / 9) + 0.1 * rng.normal(size=n)
        series = series[:, None].astype(np.float32)
        starts = np.arange(n - options.sequence_length - 3 + 1)
        return seqbench.Windows(series, series, starts, options.sequence_length, 3, starts // 20)

    return seqbench.TaskData(windows(1, 500), windows(2, 150), windows(3, 200), SOURCES, features=("height",))


def score_text(predictions, truth):
    return {"bits_per_character": bits_per_character(predictions, truth.targets)}


@seqbench.register_task(
    "toy-text",
    kind="generate",
    metrics=(seqbench.Metric("bits_per_character", "lower", "bits"),),
    baselines=("unigram", "kneser-ney"),
    reference="unigram",
    perfect=0.0,
    options=Options,
    score=score_text,
    **ABOUT,
)
def text(source, options):
    """Words drawn from a list, so that what comes next is mostly told by the last few letters."""

    def tokens(seed, n):
        rng = np.random.default_rng(seed)
        words = "".join(rng.choice(["abcd ", "bdca ", "ccdb "], n))
        return np.array(["abcd ".index(letter) for letter in words], dtype=np.uint8)

    window = options.sequence_length
    return seqbench.TaskData(
        seqbench.Stream.training(tokens(1, 1000), window, 4),
        seqbench.Stream.evaluation(tokens(2, 300), window),
        seqbench.Stream.evaluation(tokens(3, 1700), window),
        SOURCES,
        vocabulary=tuple("abcd "),
    )


def score_pairs(predictions, truth):
    counts = translation_counts(predictions, truth.targets)
    long = truth.meta["source_length"] > 5
    return {"bleu": bleu(counts.sum(axis=0)), "bleu_long": bleu(counts[long].sum(axis=0))}


@seqbench.register_task(
    "toy-pairs",
    kind="translate",
    metrics=(seqbench.Metric("bleu", "higher", ""), seqbench.Metric("bleu_long", "higher", "")),
    baselines=("copy-source", "ibm1"),
    reference="copy-source",
    perfect=100.0,
    options=Options,
    score=score_pairs,
    **ABOUT,
)
def numbers(source, options):
    """Names of digits, spelled in capitals and backwards; lengths vary."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    vocabulary = (
        "<pad>",
        "<unknown>",
        "<begin>",
        "<end>",
        *(f" {n}" for n in names),
        *(f" {n.upper()}" for n in names),
    )
    symbols = text_rows(["", "", "", "", *vocabulary[4:]])

    def pairs(seed, n, first):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(4, options.sequence_length + 1, n)
        rows = [rng.integers(4, 14, length) for length in lengths]
        written = [[*(row[::-1] + 10), 3] for row in rows]
        tokens = np.concatenate([*rows, *written]).astype(np.int32)
        starts = np.append(0, np.cumsum([*lengths, *(lengths + 1)])[:-1])
        targets = text_rows(["".join(vocabulary[token] for token in row[:-1]).strip() for row in written])
        groups = first + np.arange(n)
        return seqbench.Pairs(tokens, starts[:n], lengths, starts[n:], lengths + 1, targets, symbols, groups)

    return seqbench.TaskData(pairs(1, 600, 0), pairs(2, 60, 600), pairs(3, 100, 700), SOURCES, vocabulary=vocabulary)

"""Baselines for `generate`: symbol frequencies, general compressors, and a Kneser-Ney n-gram model."""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.data import BLOCK, Stream, TaskData

__all__ = ["HIGHEST_ORDER", "NGRAMS", "blocks", "bzip2", "kneser_ney", "unigram", "xz"]

Array = npt.NDArray[Any]
NGRAMS = "kneser-ney"  # what nets must beat before it says something how far back they read
HIGHEST_ORDER = 8  # of Kneser-Ney
CODE_BITS = 63  # that an n-gram's code may take: eight characters of 7 bits, or four words of 14


def blocks(nats: Array) -> Array:
    """Losses of the characters (or words) 1, 2, ... of a stream, summed as `Stream.truth` has them."""
    return np.bincount(np.arange(len(nats)) // BLOCK, weights=nats)


@register_baseline("unigram", kind="generate")
def unigram(train: Stream, val: Stream, data: TaskData) -> Predict:
    """Every character, or word, by its frequency in the training text, whatever came before."""
    counts = np.bincount(train.tokens, minlength=len(data.vocabulary)) + 1.0
    nats = -np.log(counts / counts.sum())
    return lambda split: blocks(nats[split.arrays()["tokens"][1:]])


def _compressor(compress: Callable[[bytes], bytes], train: Stream, data: TaskData) -> Predict:
    """What ``compress`` needs for a text beyond what it needs for the training text before it.

    A compressor gives one total, not a figure per character: it is spread evenly, so it has no interval.
    """

    def as_bytes(tokens: Array) -> bytes:
        return "".join(data.vocabulary[token] for token in tokens).encode()

    before = as_bytes(train.tokens)
    alone = len(compress(before))

    def predict(split: Any) -> Array:
        bits = 8 * (len(compress(before + as_bytes(split.tokens))) - alone)
        counts = split.truth().targets
        nats: Array = bits * math.log(2) * counts / counts.sum()
        return nats

    return predict


@register_baseline("bzip2", kind="generate")
def bzip2(train: Stream, val: Stream, data: TaskData) -> Predict:
    """bzip2 -9, primed on the training text (of which its 900 kB blocks see the end only)."""
    return _compressor(lambda text: bz2.compress(text, 9), train, data)


@register_baseline("xz", kind="generate")
def xz(train: Stream, val: Stream, data: TaskData) -> Predict:
    """xz -9, primed on the training text (its dictionary holds all of a text up to 64 MB)."""
    return _compressor(lambda text: lzma.compress(text, preset=9), train, data)


@dataclass(frozen=True)
class _Level:
    """The k-grams of one order: sorted codes with discounted counts, and per context its total and back-off mass."""

    grams: Array
    discounted: Array
    contexts: Array
    totals: Array
    backoff: Array
    bits: int

    @classmethod
    def fit(cls, grams: Array, counts: Array, bits: int) -> _Level:
        n1, n2, n3, n4 = (max(1, int(np.sum(counts == c))) for c in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        # discounts of counts 1, 2 and 3 or more: Chen and Goodman 1999, equation 26
        discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        # in small texts they can leave (0, count]; with none at all an unseen symbol would have no probability left
        discounts = np.clip(discounts, 0.1, [0.1, 1, 2, 3])
        discount = discounts[np.minimum(counts, 3)]
        contexts, first = np.unique(grams >> bits, return_index=True)
        totals = np.add.reduceat(counts, first)
        backoff = np.add.reduceat(discount, first) / totals
        return cls(grams, counts - discount, contexts, totals, backoff, bits)

    def interpolate(self, codes: Array, lower: Array) -> Array:
        """P(symbol | context) for k-gram ``codes`` (n,), given the shorter contexts' probabilities ``lower`` (n,)."""
        at = np.minimum(np.searchsorted(self.contexts, codes >> self.bits), len(self.contexts) - 1)
        known = self.contexts[at] == codes >> self.bits
        gram = np.minimum(np.searchsorted(self.grams, codes), len(self.grams) - 1)
        seen = np.where(self.grams[gram] == codes, self.discounted[gram], 0.0)
        mixed: Array = np.where(known, seen / self.totals[at] + self.backoff[at] * lower, lower)
        return mixed


def _codes(tokens: Array, order: int, bits: int) -> Array:
    """The ``order``-gram that ends at each position, newest symbol lowest; as if the text began with symbol 0s."""
    padded = np.concatenate([np.zeros(order - 1, dtype=np.int64), tokens.astype(np.int64)])
    codes = np.zeros(len(tokens), dtype=np.int64)
    for back in range(order):
        codes |= padded[order - 1 - back : len(padded) - back] << (bits * back)
    return codes


@register_baseline(NGRAMS, kind="generate")
def kneser_ney(train: Stream, val: Stream, data: TaskData) -> Predict:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999), order up to 8, chosen on the validation split."""
    bits = max(1, (len(data.vocabulary) - 1).bit_length())  # a symbol's share of a code
    most = min(HIGHEST_ORDER, CODE_BITS // bits)
    raw = [np.unique(_codes(train.tokens, order, bits), return_counts=True) for order in range(1, most + 1)]
    highest = [_Level.fit(grams[0], grams[1], bits) for grams in raw]
    # lower orders count in how many different contexts a k-gram ends, not how often it occurs
    lower = []
    for order in range(1, most):
        longer = raw[order][0] & ((1 << (bits * order)) - 1)
        grams, counts = np.unique(longer, return_counts=True)
        lower.append(_Level.fit(grams, counts, bits))

    def nats(tokens: Array, order: int) -> Array:
        probability = np.full(len(tokens), 1.0 / len(data.vocabulary))
        for k in range(1, order):
            probability = lower[k - 1].interpolate(_codes(tokens, k, bits), probability)
        losses: Array = -np.log(highest[order - 1].interpolate(_codes(tokens, order, bits), probability))[1:]
        return losses

    best = min(range(2, most + 1), key=lambda order: float(nats(val.tokens, order).sum()))
    return lambda split: blocks(nats(split.arrays()["tokens"], best))

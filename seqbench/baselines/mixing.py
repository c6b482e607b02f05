"""A baseline for `generate`: context mixing, as the strongest compressors of text do it.

A character is told by a few yes-or-no decisions along a Huffman tree. Each is predicted from how it went after the same
last 0 to 8 characters and after the same one to three words, and a logistic mixing of these predictions, whose weights
depend on how much of the context is known, gives its probability (Mahoney 2005; PPM takes one order where this mixes).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.baselines.generate import blocks
from seqbench.data import Stream, TaskData

__all__ = ["context_mixing"]

Array = npt.NDArray[Any]
ORDERS = (0, 1, 2, 3, 4, 5, 6, 8)  # characters of context
WORDS = 3  # further contexts: the word so far, with no, one and two words before it
LONGEST_WORD = 16
MOST = 8_000_000  # characters of the training text that are counted: the last of it
TAIL = 100_000  # characters of it that weights are learned on, counted as if they were new
STRETCH = 400_000  # characters of a text after which what it has told by itself is forgotten, so that memory is bounded
TRIED = 50_000  # characters of the validation text that a setting is chosen on
RECENT = (1, 4, 16)  # how much an occurrence in the text itself counts, against one in the training text
EDGES = np.array([0, 1, 2, 3, 4, 5, 7, 10, 15, 25, 50, 100, 300, 1000, 10_000])  # of counts that are told apart
PRIOR = 8.0  # occurrences that the plain estimate of a pair of counts is worth
PULL = 20.0  # towards the weights of all contexts
LEAST = 12.0  # log odds beyond which no decision is certain
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class _Tree:
    """Huffman's tree: the place of each symbol among its leaves, and the decisions (first, middle, last leaf; side)."""

    def __init__(self, counts: Array) -> None:
        heap: list[tuple[float, int, Any, int]] = [(float(n), i, i, 1) for i, n in enumerate(counts)]
        heapq.heapify(heap)
        while len(heap) > 1:
            (a, _, left, n_left), (b, _, right, n_right) = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (a + b, len(counts) + len(heap), (left, right, n_left), n_left + n_right))
        self.place = np.zeros(len(counts), dtype=np.int64)
        paths: list[list[tuple[int, int, int, int]]] = [[] for _ in counts]
        todo: list[tuple[Any, int, int, list[tuple[int, int, int, int]]]] = [(heap[0][2], 0, len(counts), [])]
        while todo:
            node, low, high, path = todo.pop()
            if isinstance(node, int):
                self.place[node], paths[node] = low, path
                continue
            left, right, n_left = node
            middle = low + n_left
            todo.append((left, low, middle, [*path, (low, middle, high, 0)]))
            todo.append((right, middle, high, [*path, (low, middle, high, 1)]))
        self.lengths = np.array([len(path) for path in paths])
        self.first = np.cumsum(self.lengths) - self.lengths
        self.steps = np.array([step for path in paths for step in path], dtype=np.int64).reshape(-1, 4)

    def decisions(self, symbols: Array) -> tuple[Array, Array]:
        """For every decision that tells ``symbols`` apart: which of these it belongs to, and its row of `steps`."""
        lengths = self.lengths[symbols]
        owner = np.repeat(np.arange(len(symbols)), lengths)
        depth = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
        return owner, self.steps[self.first[symbols][owner] + depth]


def _stir(code: Array, more: Any) -> Array:
    product = (code + more) * GOLDEN
    stirred: Array = product ^ (product >> np.uint64(29))
    return stirred


def _shifted(values: Array, by: int) -> Array:
    """What stood ``by`` places before, 0 at the beginning."""
    past = np.zeros_like(values)
    past[by:] = values[: max(0, len(values) - by)]
    return past


def _contexts(tokens: Array, is_letter: Array) -> Iterator[Array]:
    """One after the other the contexts of every character, each (L,) hashes; they hold nothing of the character."""
    symbols, letters = tokens.astype(np.uint64) + np.uint64(1), is_letter[tokens]
    code = np.zeros(len(tokens), dtype=np.uint64)
    for order in range(max(ORDERS) + 1):
        if order in ORDERS:
            yield code
        code = _stir(code, _shifted(symbols, order + 1))
    word, length = np.zeros(len(tokens), dtype=np.uint64), np.zeros(len(tokens), dtype=np.int64)
    inside = np.ones(len(tokens), dtype=bool)
    for back in range(1, LONGEST_WORD + 1):
        inside &= _shifted(letters, back)
        word = np.where(inside, _stir(word, _shifted(symbols, back)), word)
        length += inside
    at = np.arange(len(tokens))
    last_letter = np.maximum.accumulate(np.where(letters, at, -1))
    end = last_letter[np.maximum(at - length - 1, 0)]  # of the word before
    after = np.minimum(end + 1, len(tokens) - 1)
    for n_words in range(WORDS):
        yield _stir(word, np.uint64(1000 + n_words))
        if n_words == 0:
            before = np.where((end >= 0) & (end < at - length), word[after], np.uint64(0))
        word = _stir(word, before if n_words == 0 else before[np.maximum(end, 0)])


class _Counts:
    """How often each symbol came after each context of one kind, as sorted codes of both."""

    def __init__(self, contexts: Array, places: Array, bits: int) -> None:
        self.bits = np.uint64(bits)
        self.codes = np.sort((contexts << self.bits) + places.astype(np.uint64))

    def __call__(self, contexts: Array, owner: Array, steps: Array) -> Array:
        """(2, M): how often each decision went to its left and to its right after its context."""
        base = contexts << self.bits
        known = self._find(base + (np.uint64(1) << self.bits) - np.uint64(1), "right") > self._find(base, "left")
        at = np.flatnonzero(known[owner])
        bounds = [base[owner[at]] + steps[at, i].astype(np.uint64) for i in range(3)]
        order = np.argsort(bounds[1])  # neighbours are found in memory that has just been read
        low, middle, high = (self._find(bound[order], "left") for bound in bounds)
        counts = np.zeros((2, len(owner)), dtype=np.float32)
        counts[0, at[order]], counts[1, at[order]] = middle - low, high - middle
        return counts

    def _find(self, codes: Array, side: Any) -> Array:
        return np.searchsorted(self.codes, codes, side=side)


def _so_far(contexts: Array, owner: Array, steps: Array, bits: int) -> Array:
    """(2, M): how often each decision has gone left and right after its context earlier in the same text."""
    codes = (contexts << np.uint64(bits))[owner] + steps[:, 1].astype(np.uint64)
    order = np.argsort(codes, kind="stable")
    first = np.diff(codes[order], prepend=codes[order[:1]] + np.uint64(1)) != 0
    start = np.maximum.accumulate(np.where(first, np.arange(len(codes)), 0))
    right = steps[order, 3]
    before = np.cumsum(right) - right
    counts = np.empty((2, len(codes)), dtype=np.float32)
    counts[1, order] = before - before[start]
    counts[0, order] = np.arange(len(codes)) - start - (before - before[start])
    return counts


def _log_odds(left: Array, right: Array) -> Array:
    odds: Array = np.log((right + 0.3) / (left + 0.3))
    return odds


def _cells(counts: Array) -> Array:
    left, right = (np.searchsorted(EDGES, side, side="right") - 1 for side in counts)
    cell: Array = left * len(EDGES) + right
    return cell


def _newton(rows: Array, went: Array, start: Array, pull: float) -> Array:
    """Weights of a logistic regression that is pulled towards ``start``."""

    def loss_of(weights: Array) -> float:
        z = rows @ weights.astype(np.float32)
        return float(np.logaddexp(0, np.where(went > 0, -z, z)).sum() + 0.5 * pull * ((weights - start) ** 2).sum())

    weights, loss = start, loss_of(start)
    for _ in range(12):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights.astype(np.float32), -30, 30)))
        gradient = rows.T @ (chance - went) + pull * (weights - start)
        curvature = (rows * np.maximum(chance * (1 - chance), 1e-6)[:, None]).T @ rows + pull * np.eye(len(weights))
        step, found = np.linalg.solve(curvature.astype(np.float64), gradient), np.inf
        for halved in range(8):  # a whole step can overshoot
            found = loss_of(weights - step / 2**halved)
            if found < loss:
                weights = weights - step / 2**halved
                break
        if not found < loss - 1e-6 * loss:
            break
        loss = found
    return weights


@dataclass(frozen=True)
class _Mixer:
    """What the counts of each context are worth: a table of log odds by pair of counts, and weights by set of contexts.

    A learned entry for a pair of counts tells, say, how sure one is after three of three (an indirect context model).
    """

    tables: list[Array]
    common: Array
    weights: dict[int, Array]

    @classmethod
    def fit(cls, counts: list[Array], went: Array) -> _Mixer:
        """``counts`` of each context (2, M), and which way the M decisions went."""
        tables = []
        for each in counts:
            cells, n_cells = _cells(each), len(EDGES) ** 2
            plain = np.bincount(cells, weights=1 / (1 + np.exp(-_log_odds(*each))), minlength=n_cells)
            n = np.bincount(cells, minlength=n_cells)
            chance = np.bincount(cells, weights=went, minlength=n_cells) + PRIOR * plain / np.maximum(n, 1)
            chance = np.clip(chance / (n + PRIOR), 1e-5, 1 - 1e-5)
            tables.append(np.where(n > 0, np.log(chance / (1 - chance)), 0.0).astype(np.float32))
        rows, kind = cls._inputs(counts, tables), cls._kind(counts)
        start = np.append(np.full(rows.shape[1] - 1, 0.1), 0.0)
        common = _newton(rows[::4], went[::4], start, 1.0)
        chosen = {int(k): _newton(rows[kind == k], went[kind == k], common, PULL) for k in np.unique(kind)}
        return cls(tables, common, chosen)

    @staticmethod
    def _inputs(counts: list[Array], tables: list[Array]) -> Array:
        """(M, 2 C + 1): of each context what the table and what the plain counts say, 0 where it is new."""
        rows = np.full((counts[0].shape[1], 2 * len(counts) + 1), 0.3, dtype=np.float32)
        for i, (each, table) in enumerate(zip(counts, tables, strict=True)):
            seen = each.sum(axis=0) > 0
            rows[:, 2 * i] = np.where(seen, table[_cells(each)], 0)
            rows[:, 2 * i + 1] = np.where(seen, _log_odds(*each), 0)
        return rows

    @staticmethod
    def _kind(counts: list[Array]) -> Array:
        """(M,) how many contexts of letters and of words are known, and how sure the longest of letters is."""
        seen = np.stack([each.sum(axis=0) > 0 for each in counts])
        letters, words = seen[1 : len(ORDERS)].sum(axis=0), seen[len(ORDERS) :].sum(axis=0)
        longest = np.stack(counts[: len(ORDERS)])[letters, :, np.arange(len(letters))]
        sure = np.where(longest.min(axis=1) == 0, np.minimum(longest.sum(axis=1), 3), 0).astype(np.int64)
        kind: Array = (letters * (WORDS + 1) + words) * 4 + sure
        return kind

    def __call__(self, counts: list[Array], went: Array) -> Array:
        """(M,) nats that the decisions cost."""
        rows, kind = self._inputs(counts, self.tables), self._kind(counts)
        z = rows @ self.common.astype(np.float32)
        for k in np.unique(kind):
            if int(k) in self.weights:
                z[kind == k] = rows[kind == k] @ self.weights[int(k)].astype(np.float32)
        z = np.clip(z, -LEAST, LEAST)
        nats: Array = np.logaddexp(0, np.where(went > 0, -z, z))
        return nats


class _Model:
    """Counts over the training text, and what they say about the decisions of any text."""

    def __init__(self, tokens: Array, vocabulary: tuple[str, ...]) -> None:
        self.tokens = tokens[-MOST:]
        self.bits = max(1, (len(vocabulary) - 1).bit_length())
        self.is_letter = np.array([symbol.isalpha() for symbol in vocabulary])
        self.tree = _Tree(np.bincount(self.tokens, minlength=len(vocabulary)) + 0.5)
        self.tail = max(1, min(TAIL, len(self.tokens) // 5))
        places = self.tree.place[self.tokens]
        self.counts: list[_Counts] = []
        self.learned: list[tuple[Array, Array]] = []
        owner, steps = self.tree.decisions(self.tokens[-self.tail :])
        self.tail_went = steps[:, 3].astype(np.float32)
        for contexts in _contexts(self.tokens, self.is_letter):
            self.counts.append(_Counts(contexts, places, self.bits))
            new = contexts[-self.tail :]
            own = _Counts(new, places[-self.tail :], self.bits)
            # as if the tail had not been counted
            before = self.counts[-1](new, owner, steps) - own(new, owner, steps)
            self.learned.append((before, _so_far(new, owner, steps, self.bits)))

    def mixer(self, recent: float) -> _Mixer:
        """Weights that are best for the tail, with ``recent`` as in `RECENT`."""
        return _Mixer.fit([before + recent * so_far for before, so_far in self.learned], self.tail_went)

    def nats(self, tokens: Array, mixer: _Mixer, recent: float) -> Array:
        """What each character but the first costs."""
        losses = []
        for at in range(1, len(tokens), STRETCH):
            first = max(0, at - 10 * LONGEST_WORD)
            piece = tokens[first : at + STRETCH]
            owner, steps = self.tree.decisions(piece[at - first :])
            counts = []
            for count, contexts in zip(self.counts, _contexts(piece, self.is_letter), strict=True):
                here = contexts[at - first :]
                counts.append(count(here, owner, steps) + recent * _so_far(here, owner, steps, self.bits))
            costs = mixer(counts, steps[:, 3].astype(np.float32))
            losses.append(np.bincount(owner, weights=costs, minlength=len(piece) - (at - first)))
        return np.concatenate(losses)


@register_baseline("context-mixing", kind="generate")
def context_mixing(train: Stream, val: Stream, data: TaskData) -> Predict:
    """Logistic mixing of the last 0 to 8 characters and 1 to 3 words, learning from the text as it reads it.

    So do compressors, whose figures it stands for: it has seen the training text and what came before each character of
    the text that is scored. A network sees its window alone. How much more recent occurrences count is chosen on the
    validation split.
    """
    model = _Model(np.asarray(train.tokens), data.vocabulary)
    tried = {recent: model.mixer(recent) for recent in RECENT}
    some = np.asarray(val.tokens[:TRIED])
    costs = {recent: float(model.nats(some, tried[recent], recent).sum()) for recent in RECENT}
    best = min(costs, key=lambda recent: costs[recent])
    model.learned.clear()
    return lambda split: blocks(model.nats(np.asarray(split.arrays()["tokens"]), tried[best], best))

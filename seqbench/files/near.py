"""Which texts are so alike that they may not stand on both sides of a split.

Near-duplicates are pairs whose sets of words, or of 5-character pieces, have a Jaccard similarity of at least 0.8, once
lower-cased and stripped of links, mentions and punctuation. Candidates come from MinHash values in bands (Broder
1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each is then checked exactly, so
that chance puts nothing together. A pair at exactly 0.8 is missed with probability 8e-6. Time grows with the number of
texts, not of pairs, however alike they are: among very many that are nearly alike the search is cut short, and says so.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.files.scripts import normal, pattern

__all__ = ["near_groups", "plain"]

Array = npt.NDArray[Any]
ALIKE = 0.8  # Jaccard similarity from which texts stay together
# (1 - 0.8 ** 8) ** 64 = 8e-6 of the pairs at 0.8 share no band; of those at 0.2, as common words make them, 2e-4 share
# one: with shorter bands most of the time would go into comparing texts that are not alike
BANDS, BAND = 64, 8
PIECE = 5  # characters in a piece
CHUNK = 1000  # texts hashed together
# Comparisons in vain of one text, in each way of comparing: so many at once, and so many more with every band. Of the
# built-in tweets none needs more than 63.
FREE, EACH = 200, 1
LOOKED_AT = 300  # members of a bucket that one text is held against
REMEMBERED = 2_000_000  # pairs compared in vain; when there are more, they are forgotten and may be compared again
MANY = 20  # texts in a bucket that are put in order first
# MARKS as `pattern` puts them in; one that follows no letter is punctuation
NOISE = r"https?:\S*|www\.\S+|@[\wMARKS]+|&\w+;|[^\w\sMARKS]|(?<![\wMARKS])[MARKS]+|_"


def plain(text: str) -> str:
    """Lower case, without links, mentions, entities and punctuation, single spaces."""
    text = normal(text).lower()
    return " ".join(pattern(NOISE, text).sub(" ", text).split())


def near_groups(
    texts: Sequence[str], *, piece: int = PIECE, by_words: bool = True, notes: list[str] | None = None
) -> Array:
    """(N,) a group number for each of N texts: near-duplicates share one, directly or through others.

    Texts of which nothing is left once they are plain stand alone, unless they are equal. DNA has no words and needs
    longer pieces: any long sequence holds nearly all of the 1,024 pieces of 5 bases. Where the search was cut short,
    as `_Search` does it, ``notes`` gets a sentence that says so.
    """
    index: dict[str, int] = {}  # equal texts are one from the start
    which = [index.setdefault(plain(text) or text, len(index)) for text in texts]
    distinct = list(index)
    union = _Union(len(distinct))
    cut_short = _join(_words(distinct), union) if by_words else np.zeros(len(distinct), dtype=bool)
    cut_short |= _join(_pieces(distinct, piece), union)
    if notes is not None and (n_cut := int(cut_short[which].sum())):
        notes.append(
            f"{n_cut:,} of {len(which):,} are each nearly alike with so many others that they were not compared with "
            "all of these, only with those that seemed most alike: some near-duplicates may stand in different splits."
        )
    roots = np.array([union.find(i) for i in range(len(distinct))])
    groups: Array = np.unique(roots[which], return_inverse=True)[1]
    return groups


@dataclass(frozen=True, eq=False)
class _Sets:
    """The hashed items (L,) uint32 of all texts end to end, and where each text's begin; none is empty."""

    items: Array
    starts: Array
    known: dict[int, Array] = field(default_factory=dict)  # sets that were compared

    def __getitem__(self, i: int) -> Array:
        """The set of text ``i``, sorted."""
        if i not in self.known:
            end = self.starts[i + 1] if i + 1 < len(self.starts) else len(self.items)
            self.known[i] = np.unique(self.items[self.starts[i] : end])
        return self.known[i]

    def alike(self, i: int, j: int) -> bool:
        """Whether their Jaccard similarity, computed exactly, is `ALIKE` at least."""
        a, b = self[i], self[j]
        if min(len(a), len(b)) < ALIKE * max(len(a), len(b)):
            return False
        merged = np.concatenate([a, b])
        merged.sort()
        both = int(np.count_nonzero(merged[1:] == merged[:-1]))
        return both >= ALIKE * (len(a) + len(b) - both)


def _words(texts: Sequence[str]) -> _Sets:
    rows = [[zlib.crc32(word.encode()) for word in text.split() or [text]] for text in texts]
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return _Sets(np.fromiter((item for row in rows for item in row), dtype=np.uint32), starts)


def _pieces(texts: Sequence[str], piece: int) -> _Sets:
    """All runs of ``piece`` characters; a shorter text is one run, filled up."""
    lengths = np.array([max(len(text), piece) for text in texts])
    starts = np.cumsum(np.append(0, lengths[:-1] - piece + 1))
    items = np.empty(int((lengths - piece + 1).sum()), dtype=np.uint32)
    for at in range(0, len(texts), CHUNK):  # so that code points and products are never those of all texts
        padded = [text.ljust(piece, "\0") for text in texts[at : at + CHUNK]]
        hashed = _hash_pieces("".join(padded), lengths[at : at + CHUNK], piece)
        items[starts[at] : starts[at] + len(hashed)] = hashed
    return _Sets(items, starts)


def _hash_pieces(text: str, lengths: Array, piece: int) -> Array:
    """Hashes of all runs of ``piece`` characters that lie inside one of the texts that ``text`` is made of."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    hashed = np.zeros(len(points) - piece + 1, dtype=np.uint32)
    for i in range(piece):  # a polynomial in an odd base, modulo 2^32
        hashed = hashed * np.uint32(0x9E3779B1) + points[i : i + len(hashed)]
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(0x85EBCA77)  # mixed, so that neighbours in the alphabet are none in the hash
    hashed ^= hashed >> np.uint32(13)
    inside = np.ones(len(points), dtype=bool)
    ends = np.cumsum(lengths)
    for i in range(1, piece):  # runs that begin near the end of a text reach into the next
        inside[ends - i] = False
    hashes: Array = hashed[inside[: len(hashed)]]
    return hashes


class _Union:
    """Disjoint sets of 0 .. n - 1."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = i = self.parent[self.parent[i]]
        return i

    def join(self, i: int, j: int) -> None:
        self.parent[max(i, j)] = min(i, j)


def _join(sets: _Sets, union: _Union) -> Array:
    """Join all texts in ``union`` whose sets are alike; (N,) whether a text was not compared with all that might be."""
    search = _Search(sets, union)
    for band, bucket in _buckets(sets):
        allowed = FREE + EACH * band
        groups: list[list[int]] = []  # the bucket's texts, by what is joined already; the last that grew comes last
        for i in bucket:
            groups = search.place(i, groups, allowed)
    return search.cut_short


class _Search:
    """Exact comparisons of texts that share a band, none made twice.

    Where a thousand texts are each nearly alike (letters by one form, amplicons of one gene), any two of them share a
    band, and comparing all pairs would take for ever. So a text is compared with ``allowed`` others in vain, then only
    with those that still have some left; `_buckets` puts the most alike side by side, so that these come first.
    """

    def __init__(self, sets: _Sets, union: _Union) -> None:
        self.sets, self.union = sets, union
        self.tries = [0] * len(sets.starts)  # comparisons in vain
        self.unlike: set[int] = set()  # pairs i * N + j with j < i
        self.cut_short = np.zeros(len(sets.starts), dtype=bool)

    def place(self, i: int, groups: list[list[int]], allowed: int) -> list[list[int]]:
        """``groups`` with ``i`` among them, joined with all that it is alike."""
        mine, others = [i], []
        steps = 0
        for members in reversed(groups):
            root, other = self.union.find(i), self.union.find(members[0])
            if root != other:
                for j in reversed(members):
                    steps += 1
                    if steps > LOOKED_AT:
                        self.cut_short[i] = True
                        break
                    if self._alike(i, j, allowed):
                        self.union.join(root, other)
                        root = other
                        break
            if root == other:
                mine = members + mine
            else:
                others.append(members)
        return [*reversed(others), mine]

    def _alike(self, i: int, j: int, allowed: int) -> bool:
        pair = max(i, j) * len(self.tries) + min(i, j)
        if pair in self.unlike:
            return False
        if self.tries[i] >= allowed and self.tries[j] >= allowed:
            self.cut_short[i] = self.cut_short[j] = True
            return False
        alike = self.sets.alike(i, j)
        if not alike:
            if len(self.unlike) >= REMEMBERED:
                self.unlike.clear()
            self.unlike.add(pair)
            self.tries[i] += 1
            self.tries[j] += 1
        return alike


def _buckets(sets: _Sets) -> Iterator[tuple[int, list[int]]]:
    """The band, and texts that agree in all its hashes; one bucket after the other, those of one text alone left out.

    A bucket of many is in the order of its hashes in the two bands before, so that the most alike are neighbours.
    """
    rng = np.random.default_rng(0)  # of the hash functions only; a fixed part of how data is split
    hashed = np.empty_like(sets.items)
    before: deque[Array] = deque(maxlen=2 * BAND)
    for band in range(BANDS):
        least = []
        key = np.zeros(len(sets.starts), dtype=np.uint64)
        for _ in range(BAND):
            factor, offset = (np.uint32(value) for value in rng.integers(1, 2**32, 2))
            np.multiply(sets.items, factor | np.uint32(1), out=hashed)
            np.add(hashed, offset, out=hashed)
            least.append(np.minimum.reduceat(hashed, sets.starts))
            key = key * np.uint64(0x9E3779B97F4A7C15) + least[-1]
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        sizes = np.diff(np.concatenate([[0], cuts, [len(order)]]))
        begins = np.append(0, cuts)[sizes > 1]
        for begin, size in zip(begins.tolist(), sizes[sizes > 1].tolist(), strict=True):
            bucket = order[begin : begin + size]
            if size > MANY and before:
                bucket = bucket[np.lexsort([column[bucket] for column in before])]
            yield band, bucket.tolist()
        before.extend(least)

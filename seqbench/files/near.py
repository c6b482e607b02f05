"""Which texts are so alike that they may not stand on both sides of a split.

Near-duplicates are pairs whose sets of words, or of 5-character pieces, have a Jaccard similarity of at least 0.8, once
lower-cased and stripped of links, mentions and punctuation. Candidates come from MinHash values in bands (Broder
1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each is then checked exactly, so
that chance puts nothing together. A pair at exactly 0.8 is missed with probability 8e-6.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["near_groups", "plain"]

Array = npt.NDArray[Any]
ALIKE = 0.8  # Jaccard similarity from which texts stay together
# (1 - 0.8 ** 8) ** 64 = 8e-6 of the pairs at 0.8 share no band; of those at 0.2, as common words make them, 2e-4 share
# one: with shorter bands most of the time would go into comparing texts that are not alike
BANDS, BAND = 64, 8
PIECE = 5  # characters in a piece
CHUNK = 1000  # texts hashed together
NOISE = re.compile(r"https?:\S*|www\.\S+|@\w+|&\w+;|[^\w\s]|_")


def plain(text: str) -> str:
    """Lower case, without links, mentions, entities and punctuation, single spaces."""
    return " ".join(NOISE.sub(" ", text.lower()).split())


def near_groups(texts: Sequence[str], *, piece: int = PIECE, by_words: bool = True) -> Array:
    """(N,) a group number for each of N texts: near-duplicates share one, directly or through others.

    Texts of which nothing is left once they are plain stand alone, unless they are equal. DNA has no words and needs
    longer pieces: any long sequence holds nearly all of the 1,024 pieces of 5 bases.
    """
    index: dict[str, int] = {}  # equal texts are one from the start
    which = [index.setdefault(plain(text) or text, len(index)) for text in texts]
    distinct = list(index)
    union = _Union(len(distinct))
    if by_words:
        _join(_words(distinct), union)
    _join(_pieces(distinct, piece), union)
    roots = np.array([union.find(i) for i in range(len(distinct))])
    groups: Array = np.unique(roots[which], return_inverse=True)[1]
    return groups


@dataclass(frozen=True, eq=False)
class _Sets:
    """The hashed items (L,) uint32 of all texts end to end, and where each text's begin; none is empty."""

    items: Array
    starts: Array

    def __getitem__(self, i: int) -> Array:
        end = self.starts[i + 1] if i + 1 < len(self.starts) else len(self.items)
        return np.unique(self.items[self.starts[i] : end])


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


def _join(sets: _Sets, union: _Union) -> None:
    """Join all texts in ``union`` whose sets are alike."""
    for bucket in _buckets(sets):
        joined: list[list[int]] = []  # the bucket's texts, by what is joined already
        for i in bucket:
            mine, others = [i], []
            for members in joined:
                root, other = union.find(i), union.find(members[0])
                if root == other or _any_alike(sets, i, members):
                    union.join(root, other)
                    mine = members + mine
                else:
                    others.append(members)
            joined = [*others, mine]


def _buckets(sets: _Sets) -> Iterator[list[int]]:
    """Texts that agree in all hashes of a band, one bucket after the other, those of one text alone left out."""
    rng = np.random.default_rng(0)  # of the hash functions only; a fixed part of how data is split
    hashed = np.empty_like(sets.items)
    for _ in range(BANDS):
        key = np.zeros(len(sets.starts), dtype=np.uint64)
        for _ in range(BAND):
            factor, offset = (np.uint32(value) for value in rng.integers(1, 2**32, 2))
            np.multiply(sets.items, factor | np.uint32(1), out=hashed)
            np.add(hashed, offset, out=hashed)
            key = key * np.uint64(0x9E3779B97F4A7C15) + np.minimum.reduceat(hashed, sets.starts)
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        sizes = np.diff(np.concatenate([[0], cuts, [len(order)]]))
        begins = np.append(0, cuts)[sizes > 1]
        for begin, size in zip(begins.tolist(), sizes[sizes > 1].tolist(), strict=True):
            yield order[begin : begin + size].tolist()


def _any_alike(sets: _Sets, i: int, members: Sequence[int]) -> bool:
    a = sets[i]
    for j in members:
        b = sets[j]
        both = len(np.intersect1d(a, b, assume_unique=True))
        if both >= ALIKE * (len(a) + len(b) - both):
            return True
    return False

"""Which texts are so alike that they may not stand on both sides of a split.

Near-duplicates are pairs whose sets of words, or of 5-character pieces, have a Jaccard similarity of at least 0.8, once
lower-cased and stripped of links, mentions and punctuation. Candidates come from MinHash signatures cut into bands
(Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), and each candidate pair is
then checked exactly, so that chance puts nothing together. A pair at exactly 0.8 is missed with probability 5e-8.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["near_groups", "plain"]

Array = npt.NDArray[Any]
ALIKE = 0.8  # Jaccard similarity from which texts stay together
BANDS, BAND = 32, 4  # (1 - 0.8 ** 4) ** 32 = 5e-8 of the pairs at 0.8 share no band
PIECE = 5  # characters in a piece
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
    union = _Union(len(index))
    if by_words:
        _join(list(index), lambda text: text.split() or [text], union)
    _join(list(index), lambda text: (text[at : at + piece] for at in range(max(1, len(text) - piece + 1))), union)
    roots = np.array([union.find(i) for i in range(len(index))])
    found: Array = np.unique(roots[which], return_inverse=True)[1]
    return found


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


def _join(texts: Sequence[str], pieces: Callable[[str], Iterable[str]], union: _Union) -> None:
    """Join all texts in ``union`` that are alike by their sets of ``pieces``."""
    sets = [np.unique(np.fromiter((zlib.crc32(p.encode()) for p in pieces(text)), dtype=np.uint64)) for text in texts]
    signatures = _signatures(sets)
    for band in range(BANDS):
        buckets: dict[bytes, list[list[int]]] = defaultdict(list)  # what shares the band, by what is joined already
        for i, key in enumerate(np.ascontiguousarray(signatures[:, band * BAND : (band + 1) * BAND])):
            bucket = buckets[key.tobytes()]
            mine = [i]
            others = []
            for members in bucket:
                root, other = union.find(i), union.find(members[0])
                if root == other or any(_alike(sets[i], sets[j]) for j in members):
                    union.join(root, other)
                    mine = members + mine
                else:
                    others.append(members)
            bucket[:] = [*others, mine]


def _signatures(sets: Sequence[Array]) -> Array:
    """(N, BANDS * BAND) uint32: the least value of each of as many hash functions over each set."""
    rng = np.random.default_rng(0)  # of the hash functions only; a fixed part of how data is split
    n_hashes = BANDS * BAND
    factors = rng.integers(1, 2**62, n_hashes, dtype=np.uint64) | np.uint64(1)
    offsets = rng.integers(0, 2**62, n_hashes, dtype=np.uint64)
    found = np.empty((len(sets), n_hashes), dtype=np.uint32)
    for i, items in enumerate(sets):
        least = np.full(n_hashes, np.iinfo(np.uint64).max, dtype=np.uint64)
        for at in range(0, len(items), 4096):  # a text of a million characters must not take a gigabyte
            hashes = items[at : at + 4096, None] * factors + offsets  # modulo 2^64; the high bits are mixed best
            least = np.minimum(least, hashes.min(axis=0))
        found[i] = least >> np.uint64(32)
    return found


def _alike(a: Array, b: Array) -> bool:
    if min(len(a), len(b)) < ALIKE * max(len(a), len(b)):
        return False
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both >= ALIKE * (len(a) + len(b) - both)

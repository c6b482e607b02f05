"""Words and characters as tokens, with a vocabulary from the training split only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PAD", "UNKNOWN", "characters", "encode", "make_vocabulary", "words"]

Array = npt.NDArray[Any]
Tokenise = Callable[[str], Sequence[str]]
PAD, UNKNOWN = "<pad>", "<unknown>"
# a link, a mention, a number, a word with what apostrophes and hyphens hold together, or a run of one other sign
WORD = re.compile(
    r"(?P<link>https?:\S*|www\.\S+)|(?P<mention>@\w+)|(?P<number>\d[\d.,:]*)"
    r"|[^\W\d_]+(?:[\u2019'-][^\W\d_]+)*|(?P<sign>[^\w\s])(?P=sign)*|\w+"
)


def words(text: str) -> list[str]:
    """Lower-case words and signs; links, mentions and numbers are each one token for all of their kind."""
    found = []
    for match in WORD.finditer(text.lower()):
        kind = match.lastgroup
        word = match[0][:3] if kind == "sign" else match[0]  # three of a sign are as loud as ten
        found.append(f"<{kind}>" if kind in ("link", "mention", "number") else word)
    return found


def characters(text: str) -> Sequence[str]:
    """The letters themselves."""
    return text


def make_vocabulary(texts: Iterable[str], tokenise: Tokenise, at_least: int, most: int) -> tuple[str, ...]:
    """`PAD`, `UNKNOWN` and the tokens that occur ``at_least`` times, the most frequent first, ``most`` at most."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenise(text))
    ranked = sorted((token for token, count in counts.items() if count >= at_least), key=lambda t: (-counts[t], t))
    return (PAD, UNKNOWN, *ranked[:most])


def encode(
    texts: Iterable[str], tokenise: Tokenise, vocabulary: Sequence[str], longest: int
) -> tuple[Array, Array, Array, int]:
    """Tokens (L,) of all texts end to end, their starts (N,), lengths (N,), and how many were cut to ``longest``.

    A text without any token is one `UNKNOWN`.
    """
    index = {token: i for i, token in enumerate(vocabulary)}
    kind = np.uint8 if len(vocabulary) <= 256 else np.int32  # torch gathers no uint16
    rows, n_cut = [], 0
    for text in texts:
        tokens = tokenise(text)
        n_cut += len(tokens) > longest
        rows.append(np.array([index.get(token, 1) for token in tokens[:longest]] or [1], dtype=kind))
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return np.concatenate(rows), np.append(0, np.cumsum(lengths)[:-1]), lengths, n_cut

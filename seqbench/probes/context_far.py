"""What lies far back, changed: shuffled by characters or words, replaced by another passage, or dropped. No torch.

Dropping it takes both its content and its presence; a shuffle leaves its letters, or words, and takes their order; a
swap leaves ordinary text that has nothing to do with the target (after Khandelwal et al. 2018, who shuffled and dropped
the words of a trained language model's context). What shuffles cost and a swap does not is the shock of strange text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "perturbed_inputs", "shuffle_characters", "shuffle_words", "swap_passages"]

Array = npt.NDArray[Any]
KINDS = ("drop", "swap", "shuffle words", "shuffle characters")
SEED = 4  # of all permutations, which are the same for every model and seed: the test text is


def perturbed_inputs(
    tokens: Array, at: Array, window: int, near: Sequence[int], permutations: int, space: Array
) -> Iterator[tuple[str, int, Array]]:
    """For targets ``at`` (N,) of a text (L,): name, k and inputs (N, <= window), as a model reads them.

    First ``intact`` with k = ``window``; then each of `KINDS` for each k of ``near``, as many times as there are
    ``permutations`` (``drop`` once): the last k characters before a target stay. ``space`` (V,) says which symbols
    separate words; without any, words are not shuffled.
    """
    whole = tokens[at[:, None] + np.arange(-window, 0)]
    yield "intact", window, whole
    for k in near:
        far, close = whole[:, : window - k], whole[:, window - k :]
        yield "drop", k, close
        for i in range(permutations):
            rng = np.random.default_rng([SEED, k, i])
            yield "shuffle characters", k, np.concatenate([shuffle_characters(far, rng), close], axis=1)
            if space[tokens].any():
                yield "shuffle words", k, np.concatenate([shuffle_words(far, space, rng), close], axis=1)
            yield "swap", k, np.concatenate([swap_passages(tokens, at, window, window - k, rng), close], axis=1)


def shuffle_characters(rows: Array, rng: np.random.Generator) -> Array:
    """Each row (N, M) in an order of its own."""
    return rng.permuted(rows, axis=1)


def shuffle_words(rows: Array, space: Array, rng: np.random.Generator) -> Array:
    """Each row (N, M) with its words, each with the space after it, in an order of its own."""
    starts = np.zeros(rows.shape, dtype=np.int64)
    starts[:, 1:] = space[rows[:, :-1]] & ~space[rows[:, 1:]]
    word = starts.cumsum(axis=1)
    places = np.argsort(rng.random(rows.shape), axis=1)  # one for each word; the rest are not used
    order = np.argsort(np.take_along_axis(places, word, axis=1), axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def swap_passages(tokens: Array, at: Array, window: int, length: int, rng: np.random.Generator) -> Array:
    """(N, length) passages that touch no target's own ``window``; needs a text of over four windows."""
    starts = rng.integers(0, len(tokens) - length + 1, len(at))
    while (touching := (starts < at + 1) & (starts + length > at - window)).any():
        starts[touching] = rng.integers(0, len(tokens) - length + 1, int(touching.sum()))
    found: Array = tokens[starts[:, None] + np.arange(length)]
    return found

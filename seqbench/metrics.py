"""Metrics as pure functions over numpy arrays. N examples, K classes, H steps ahead, C channels.

One that can't be told from the examples at hand is NaN, never a number. BLEU and chrF are sacrebleu's (Post 2018). Both
are told from sums over sentences of counts, so a test set without some of its sentences needs no second count.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # it takes as long to import as all else here
    from sacrebleu.metrics.bleu import BLEU

__all__ = [
    "accuracy",
    "average_precision",
    "bits_per_character",
    "bleu",
    "chrf",
    "f1_scores",
    "macro_f1",
    "mae",
    "recalls",
    "relative_to",
    "rmse",
    "segment_overlap",
    "translation_counts",
    "translation_signatures",
]

Array = npt.NDArray[Any]
WORD_ORDERS, LETTER_ORDERS = 4, 6  # longest n-grams of words in BLEU and of letters in chrF
RECALL = 2  # how many times as much as precision it counts in chrF
REMEMBERED = 2**15  # sentences whose counts are kept


def accuracy(predicted: Array, target: Array) -> float:
    """Share of the N predicted labels that are right."""
    return float(np.mean(predicted == target))


def f1_scores(predicted: Array, target: Array, n_classes: int) -> Array:
    """(K,) 2 TP / (2 TP + FP + FN) of each class; NaN of one neither present nor predicted."""
    hits = np.bincount(target[predicted == target], minlength=n_classes)
    either = np.bincount(predicted, minlength=n_classes) + np.bincount(target, minlength=n_classes)
    scores: Array = np.where(either > 0, 2.0 * hits / np.maximum(either, 1), np.nan)
    return scores


def macro_f1(predicted: Array, target: Array, n_classes: int) -> float:
    """Mean of `f1_scores` over the classes that are present or predicted, as scikit-learn has it."""
    return float(np.nanmean(f1_scores(predicted, target, n_classes)))


def recalls(predicted: Array, target: Array, n_classes: int) -> Array:
    """(K,) share of the examples of each class that are predicted as such; NaN of one that is not present."""
    hits = np.bincount(target[predicted == target], minlength=n_classes)
    present = np.bincount(target, minlength=n_classes)
    shares: Array = np.where(present > 0, hits / np.maximum(present, 1), np.nan)
    return shares


def segment_overlap(predicted: Array, target: Array, first: Array) -> float:
    """How well segments of equal labels are met, from 0 to 1: SOV of Zemla et al. (1999), equations 1 to 3.

    A segment is a stretch of steps of one sequence with one label. For every true segment s1 and every predicted one s2
    of the same label that share a step, (minov + delta) / maxov counts with the length of s1: minov is what they share,
    maxov what they cover together, and delta the least of maxov - minov, minov and half the length (rounded down) of
    each. True segments that meet none count as 0.

    Args:
        predicted, target: (N,) labels of sequences end to end.
        first: (N,) true where a sequence begins, which no segment reaches across.

    Source: Zemla, Venclovas, Fidelis, Rost, Proteins 34:220-223 (1999).
    """
    if not len(target):
        return math.nan
    true, guess = _segments(target, first), _segments(predicted, first)
    hit = predicted == target
    # two segments of one label share one stretch at most, so a pair is a run of hits within both
    begins = hit & (np.append(True, ~hit[:-1]) | _changes(true) | _changes(guess))
    shared = np.bincount(np.cumsum(begins)[hit] - 1)
    s1, s2 = true[begins], guess[begins]
    lengths, of_guess = np.bincount(true), np.bincount(guess)[s2]
    together = lengths[s1] + of_guess - shared
    delta = np.minimum.reduce([together - shared, shared, lengths[s1] // 2, of_guess // 2])
    missed = np.ones(len(lengths), dtype=bool)
    missed[s1] = False
    met = float(np.sum((shared + delta) / together * lengths[s1]))
    return met / float(lengths[s1].sum() + lengths[missed].sum())


def _changes(numbers: Array) -> Array:
    """(N,) where a number is not that before it."""
    changes: Array = np.append(True, numbers[1:] != numbers[:-1])
    return changes


def _segments(labels: Array, first: Array) -> Array:
    """(N,) the number of the segment that each step is in."""
    segments: Array = np.cumsum(_changes(labels) | first) - 1
    return segments


def average_precision(score: Array, positive: Array) -> float:
    """Area under the precision-recall curve as the step sum of precision over recall (no interpolation).

    ``score`` (N,) ranks the examples, ``positive`` (N,) is true for the class in question; tied scores form one step.
    A ranking at random reaches the class's prevalence. NaN where no example is positive.
    """
    if not positive.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = hits[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(precision * np.diff(hits, prepend=0)) / hits[-1])


def rmse(predicted: Array, target: Array) -> float:
    """Root of the mean squared error over all entries, in the unit of the inputs."""
    return float(np.sqrt(np.mean((predicted.astype(np.float64) - target) ** 2)))


def relative_to(error: float, reference: float) -> float:
    """``error`` over that of a reference; NaN where the reference makes none, as on a target that never changes."""
    return error / reference if reference > 1e-12 else math.nan


def mae(predicted: Array, target: Array) -> float:
    """Mean absolute error over all entries, in the unit of the inputs."""
    return float(np.mean(np.abs(predicted.astype(np.float64) - target)))


def bits_per_character(nats: Array, characters: Array) -> float:
    """Summed losses in nats over summed characters, in bits; so of any other symbols."""
    return float(np.sum(nats, dtype=np.float64) / np.sum(characters) / math.log(2))


def translation_counts(predicted: Array, target: Array) -> Array:
    """(N, 28) what `bleu` and `chrf` need to know of N translations, to be summed over sentences.

    Both are texts in UTF-8, (N, W) uint8 with zeros after the end. The counts of a sentence are the lengths in words of
    translation and target, the n-grams of 1 to 4 words that both share and those of the translation, then of each n
    from 1 to 6 the n-grams of letters in the translation, in the target and in both.
    """
    if not len(target):
        return np.zeros((0, 2 + 2 * WORD_ORDERS + 3 * LETTER_ORDERS), dtype=np.int64)
    pairs = zip(predicted.astype(np.uint8, copy=False), target.astype(np.uint8, copy=False), strict=True)
    return np.array([_sentence_counts(a.tobytes().rstrip(b"\0"), b.tobytes().rstrip(b"\0")) for a, b in pairs])


@functools.lru_cache(maxsize=REMEMBERED)
def _sentence_counts(predicted: bytes, target: bytes) -> tuple[int, ...]:
    ours, theirs = predicted.decode(errors="replace"), target.decode(errors="replace")
    words = _sacrebleu().corpus_score([ours], [[theirs]])
    letters: list[int] = []
    first, second = ("".join(text.split()) for text in (ours, theirs))
    for n in range(1, LETTER_ORDERS + 1):
        a, b = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (first, second))
        letters += [a.total() if b else 0, b.total(), sum(min(count, b[gram]) for gram, count in a.items())]
    return (words.sys_len, words.ref_len, *words.counts, *words.totals, *letters)


@functools.cache
def _sacrebleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)  # which is silent on sentences that look as if they were cut into words already


def bleu(counts: Array) -> float:
    """BLEU (Papineni et al. 2002) of a corpus from the sums (28,) of `translation_counts`, 0 to 100; NaN of none."""
    from sacrebleu.metrics.bleu import BLEU

    if not counts[1]:
        return math.nan
    shared, made = counts[2 : 2 + WORD_ORDERS].tolist(), counts[2 + WORD_ORDERS : 2 + 2 * WORD_ORDERS].tolist()
    return float(BLEU.compute_bleu(shared, made, int(counts[0]), int(counts[1]), smooth_method="exp").score)


def chrf(counts: Array) -> float:
    """chrF2 (Popovic 2015) of a corpus from the sums (28,) of `translation_counts`, 0 to 100; NaN of none.

    The F-score of the mean precision and the mean recall of n-grams of letters, over the n that both sides have.
    """
    made, there, shared = counts[2 + 2 * WORD_ORDERS :].reshape(LETTER_ORDERS, 3).T.astype(np.float64)
    if not there.any():
        return math.nan
    both = (made > 0) & (there > 0)
    if not both.any() or not shared.any():
        return 0.0
    precision, recall = float((shared[both] / made[both]).mean()), float((shared[both] / there[both]).mean())
    return 100 * (1 + RECALL**2) * precision * recall / (RECALL**2 * precision + recall)


def translation_signatures() -> tuple[str, str]:
    """sacrebleu's signatures of `bleu` and `chrf`, which say how and by which version they are told."""
    from sacrebleu.metrics.chrf import CHRF

    metrics = _sacrebleu(), CHRF(char_order=LETTER_ORDERS, beta=RECALL)
    for metric in metrics:
        metric.corpus_score(["a"], [["a"]])  # only then it knows of how many references
    ours, theirs = (str(metric.get_signature()) for metric in metrics)
    return ours, theirs

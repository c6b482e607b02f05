"""Baselines for `translate`: the source as it is, the most alike known sentence, and word for word by IBM's model 1."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.data import Pairs, Split, TaskData, text_rows, texts_of
from seqbench.metrics import bleu, translation_counts

__all__ = ["copy_source", "ibm1", "ibm1_bigram", "translation_memory"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
WORD = re.compile(r"\w+|[^\w\s]")
ROUNDS = 5  # of expectation maximisation
CANDIDATES = 8  # translations of a word between which the language model chooses
LEAST = 0.01  # probability of one that may be chosen
WEIGHTS = (0.25, 0.5, 1.0)  # of the language model
CHUNK = 500  # sentences that are looked up at once


def _translator(translate: Callable[[Sequence[str]], Sequence[str]]) -> Predict:
    """From sentences to texts as scores read them."""

    def predict(split: Split) -> npt.NDArray[np.uint8]:
        assert isinstance(split, Pairs)
        rows: npt.NDArray[np.uint8] = text_rows(translate(split.sources()))
        return rows

    return predict


@register_baseline("copy-source", kind="translate")
def copy_source(train: Pairs, val: Pairs, data: TaskData) -> Predict:
    """The source as it stands: what names, numbers and signs alone are worth."""
    return _translator(lambda sources: sources)


@register_baseline("translation-memory", kind="translate")
def translation_memory(train: Pairs, val: Pairs, data: TaskData) -> Predict:
    """The translation of the most alike training sentence, by tf-idf of words and of pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=WORD.pattern, ngram_range=(1, 2), sublinear_tf=True)
    known, targets = vectors.fit_transform(train.sources()), texts_of(train.targets)

    def translate(sources: Sequence[str]) -> list[str]:
        asked = vectors.transform(sources)
        best = [(asked[at : at + CHUNK] @ known.T).argmax(axis=1) for at in range(0, len(sources), CHUNK)]
        return [targets[i] for i in np.concatenate([np.asarray(part).ravel() for part in best])]

    return _translator(translate)


class _Words:
    """Words of one language by number."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.rows = [WORD.findall(text) for text in texts]
        self.names = sorted({word for row in self.rows for word in row})
        self.number = {word: i for i, word in enumerate(self.names)}

    def numbers(self) -> tuple[Indices, Indices]:
        """Of all texts end to end, and how many words each text has."""
        flat = np.array([self.number[word] for row in self.rows for word in row], dtype=np.int64)
        return flat, np.array([len(row) for row in self.rows])


class _Lexicon:
    """t(e | f), the probability that a word f is translated by e (Brown et al. 1993, model 1), from whole sentences.

    Fitted by five rounds of expectation maximisation from even probabilities; every source also holds an empty word,
    which explains what nothing else does.
    """

    def __init__(self, train: Pairs) -> None:
        self.source, self.target = _Words(train.sources()), _Words(texts_of(train.targets))
        (f, f_lengths), (e, e_lengths) = self.source.numbers(), self.target.numbers()
        empty = len(self.source.names)
        rows = [np.append(part, empty) for part in np.split(f, np.cumsum(f_lengths)[:-1])]
        # for every target word all words of its source, one after the other
        fs = np.concatenate([np.tile(row, n) for row, n in zip(rows, e_lengths.tolist(), strict=True)])
        widths = np.repeat(f_lengths + 1, e_lengths)
        cells, at = np.unique(fs * len(self.target.names) + np.repeat(e, widths), return_inverse=True)
        begins = np.append(0, np.cumsum(widths)[:-1])
        of = cells // len(self.target.names)  # the source word of each cell
        chance = np.ones(len(cells))
        for _ in range(ROUNDS):
            each = chance[at]
            expected = np.bincount(at, each / np.repeat(np.add.reduceat(each, begins), widths))
            chance = expected / np.bincount(of, expected)[of]
        order = np.lexsort((-chance, of))
        self.words, self.chances = (cells % len(self.target.names))[order], chance[order]
        self.begins = np.searchsorted(of[order], np.arange(empty + 1))
        self.best = functools.lru_cache(maxsize=None)(self._best)

    def _best(self, word: str, most: int) -> tuple[list[str], Array]:
        """The likeliest translations of ``word`` and their probabilities; one that is not known stays as it is."""
        f = self.source.number.get(word)
        if f is None:
            return [word], np.ones(1)
        part = slice(self.begins[f], min(self.begins[f] + most, self.begins[f + 1]))
        chances = self.chances[part]
        kept = max(1, int((chances >= LEAST).sum()))
        return [self.target.names[e] for e in self.words[part][:kept]], chances[:kept]


def _in_place(text: str, words: Sequence[str]) -> str:
    """``words``, one for each of ``text``, with spaces where they stand there."""
    made, end = "", 0
    for place, word in zip(WORD.finditer(text), words, strict=True):
        made += f" {word}" if place.start() > end else word
        end = place.end()
    return made


@register_baseline("ibm1", kind="translate")
def ibm1(train: Pairs, val: Pairs, data: TaskData) -> Predict:
    """Word for word, each by its likeliest translation (IBM model 1)."""
    lexicon = _Lexicon(train)

    def translate(sources: Sequence[str]) -> list[str]:
        return [_in_place(text, [lexicon.best(word, 1)[0][0] for word in WORD.findall(text)]) for text in sources]

    return _translator(translate)


class _Bigrams:
    """log p(word | the one before), of counts with absolute discounting (Ney et al. 1994), and each word's share."""

    discount = 0.75

    def __init__(self, words: _Words) -> None:
        self.number, n = words.number, len(words.names) + 1  # the last is the end of a sentence, before and after
        rows = [[n - 1, *(words.number[word] for word in row), n - 1] for row in words.rows]
        firsts = np.concatenate([row[:-1] for row in rows]).astype(np.int64)
        seconds = np.concatenate([row[1:] for row in rows]).astype(np.int64)
        self.size, self.shares = n, np.bincount(seconds, minlength=n) / len(seconds)
        self.keys, self.counts = np.unique(firsts * n + seconds, return_counts=True)
        self.before = np.bincount(firsts, minlength=n)
        self.followers = np.bincount(self.keys // n, minlength=n)

    def numbers(self, words: Sequence[str]) -> Indices:
        """-1 for those that are not known."""
        return np.array([self.number.get(word, -1) for word in words], dtype=np.int64)

    def logs(self, before: Indices, after: Indices) -> Array:
        """(A, B) of every pair."""
        keys = before[:, None] * self.size + after
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        counts = np.where((self.keys[at] == keys) & (before[:, None] >= 0) & (after >= 0), self.counts[at], 0)
        seen = np.maximum(self.before[before], 1)[:, None]
        share = np.where(after >= 0, self.shares[after], 0.0) + 1e-7
        backed = np.where(before >= 0, self.discount * self.followers[before] / seen[:, 0], 1.0)[:, None]
        logs: Array = np.log(np.maximum(counts - self.discount, 0) / seen + backed * share)
        return logs


@register_baseline("ibm1-bigram", kind="translate")
def ibm1_bigram(train: Pairs, val: Pairs, data: TaskData) -> Predict:
    """Word for word by IBM model 1 and a bigram language model of the target, whose weight is chosen on validation."""
    lexicon = _Lexicon(train)
    bigrams = _Bigrams(lexicon.target)
    end = np.array([bigrams.size - 1])

    def one(text: str, weight: float) -> str:
        """By Viterbi's algorithm over the candidates of each word."""
        before, total, paths = end, np.zeros(1), [[""]]
        for word in WORD.findall(text):
            names, chances = lexicon.best(word, CANDIDATES)
            after = bigrams.numbers(names)
            scores = total[:, None] + weight * bigrams.logs(before, after)
            best = scores.argmax(axis=0)
            paths = [[*paths[i], name] for i, name in zip(best.tolist(), names, strict=True)]
            before, total = after, scores[best, np.arange(len(names))] + np.log(chances)
        last = int((total[:, None] + weight * bigrams.logs(before, end)).argmax())
        return _in_place(text, paths[last][1:])

    def quality(weight: float) -> float:
        made = text_rows([one(text, weight) for text in val.sources()])
        return bleu(translation_counts(made, val.targets).sum(axis=0))

    chosen = max(WEIGHTS, key=quality)
    return _translator(lambda sources: [one(text, chosen) for text in sources])

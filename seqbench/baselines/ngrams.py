"""Baselines for `classify` over sequences of different lengths: linear models of which tokens stand together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import (
    NotApplicable,
    Predict,
    best_sharpness,
    logistic_fits,
    register_baseline,
    softmax,
    spread_out,
)
from seqbench.data import Ragged, TaskData

if TYPE_CHECKING:
    import scipy.sparse as sparse

__all__ = ["Counts", "Letters", "kmers", "tfidf", "tfidf_svm"]

Array = npt.NDArray[Any]
AT_LEAST = 2  # examples that an n-gram must stand in
LONGEST_KMER = 6
PENALTIES = (0.3, 1.0, 3.0, 10.0)
SVM_PENALTIES = (0.1, 0.2, 0.4)
WORD_ORDERS, LETTER_ORDERS = (1, 2, 3), (2, 3, 4, 5)
MOST_LETTERS = 8_000_000  # of all texts of a split: every one's first, so that memory is bounded
MOST_SYMBOLS = 4096  # letters told apart: five of them make one code


class Counts:
    """Counts of the n-grams, of all ``orders``, that stand in at least two training examples.

    Raises:
        NotApplicable: there are none.
    """

    def __init__(self, train: Ragged, n_tokens: int, orders: tuple[int, ...]) -> None:
        self.n_tokens, self.orders = n_tokens, orders
        self.known = []
        for order in orders:
            examples, codes = self._codes(train, order)
            pairs = np.sort(codes * len(train) + examples)  # np.unique hashes, which takes many times as long here
            once = pairs[np.diff(pairs, prepend=-1) != 0] // len(train)
            last = np.flatnonzero(np.diff(once, append=-1) != 0)
            self.known.append(once[last][np.diff(last, prepend=-1) >= AT_LEAST])
        if not any(map(len, self.known)):
            raise NotApplicable(f"no {AT_LEAST} training examples have anything in common")

    def _codes(self, split: Ragged, order: int) -> tuple[Array, Array]:
        """The example and the code of every n-gram of one order."""
        examples = np.repeat(np.arange(len(split)), np.maximum(0, split.row_lengths - order + 1))
        first = np.cumsum(np.append(0, np.maximum(0, split.row_lengths - order + 1)))[:-1]
        at = split.starts[examples] + np.arange(len(examples)) - first[examples]
        codes = np.zeros(len(at), dtype=np.int64)
        for i in range(order):
            codes = codes * self.n_tokens + split.tokens[at + i]
        return examples, codes

    def __call__(self, split: Ragged) -> sparse.csr_matrix:
        """(N, F) counts."""
        import scipy.sparse as sparse

        blocks = []
        for order, known in zip(self.orders, self.known, strict=True):
            examples, codes = self._codes(split, order)
            column = np.searchsorted(known, codes)
            hit = column < len(known)
            hit[hit] = known[column[hit]] == codes[hit]
            ones = np.ones(int(hit.sum()))
            blocks.append(sparse.coo_matrix((ones, (examples[hit], column[hit])), shape=(len(split), len(known))))
        return sparse.hstack(blocks).tocsr()


def _logistic(train: Ragged, val: Ragged, data: TaskData, counts: Counts, sublinear: bool) -> Predict:
    """TF-IDF weights, then multinomial logistic regression with the penalty that is best on validation."""
    from sklearn.feature_extraction.text import TfidfTransformer

    weigh = TfidfTransformer(sublinear_tf=sublinear).fit(counts(train))
    inputs, held_out = weigh.transform(counts(train)), weigh.transform(counts(val))
    fits = logistic_fits(inputs, train.targets, PENALTIES, 1000)
    best = max(fits, key=lambda fit: float(fit.score(held_out, val.targets)))

    def predict(split: Any) -> Array:
        return spread_out(best.predict_proba(weigh.transform(counts(split))), best.classes_, len(data.classes))

    return predict


@register_baseline("tfidf", kind="classify")
def tfidf(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """TF-IDF of words and pairs of words, then logistic regression."""
    return _logistic(train, val, data, Counts(train, len(data.vocabulary), (1, 2)), sublinear=True)


@register_baseline("kmers", kind="classify")
def kmers(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """Counts of 1 to 6 letters in a row (k-mers), then logistic regression: where they stand plays no part."""
    orders = tuple(range(1, LONGEST_KMER + 1))
    return _logistic(train, val, data, Counts(train, len(data.vocabulary), orders), sublinear=False)


def _unspaced(token: str) -> bool:
    """Whether this is one letter of a script that has no spaces between words: Thai, Lao, Burmese, Khmer, East Asian.

    Where a text is in these, the reader makes every letter a token, and they are put together again.
    """
    point = ord(token) if len(token) == 1 else 0
    return 0x0E00 <= point < 0x0F00 or 0x1000 <= point < 0x10A0 or 0x1780 <= point < 0x1800 or point >= 0x2E80


class Letters:
    """A text's letters, put together from its words again: a space before each.

    The loader has lower-cased the words and knows the frequent ones; the others are one letter of their own.
    """

    def __init__(self, train: Ragged, vocabulary: tuple[str, ...]) -> None:
        unknown = "\ue000"  # of the private use area, as no word has it
        spelled = ["" if i == 0 else unknown if i == 1 else token for i, token in enumerate(vocabulary)]
        self.lengths = np.array([len(token) for token in spelled], dtype=np.int64)
        self.first = np.cumsum(self.lengths) - self.lengths
        self.joined = np.array([_unspaced(token) for token in spelled])
        points = np.frombuffer("".join(spelled).encode("utf-32-le"), dtype=np.uint32)
        alphabet, letters = np.unique(points, return_inverse=True)
        often = np.repeat(np.bincount(train.tokens, minlength=len(spelled)), self.lengths)
        rank = np.empty(len(alphabet), dtype=np.int64)
        rank[np.argsort(-np.bincount(letters, weights=often), kind="stable")] = np.arange(len(alphabet))
        self.letters = np.minimum(rank[letters], MOST_SYMBOLS - 3) + 2  # 1 is a space
        self.n_symbols = int(self.letters.max()) + 1

    def __call__(self, split: Ragged) -> Ragged:
        """The same texts with letters as tokens."""
        begins = np.cumsum(split.row_lengths) - split.row_lengths
        tokens = split.tokens[np.repeat(split.starts - begins, split.row_lengths) + np.arange(split.row_lengths.sum())]
        spaces = np.ones(len(tokens), dtype=np.int64)
        spaces[1:] = ~(self.joined[tokens[1:]] & self.joined[tokens[:-1]])
        spaces[begins] = 1
        widths = spaces + self.lengths[tokens]
        ends = np.cumsum(widths)
        place = np.arange(ends[-1]) - np.repeat(ends - widths + spaces, widths)  # in its word; -1 is the space
        source = np.minimum(np.repeat(self.first[tokens], widths) + np.maximum(place, 0), len(self.letters) - 1)
        letters = np.where(place < 0, 1, self.letters[source])
        starts = (ends - widths)[begins]
        lengths = np.minimum(np.diff(np.append(starts, ends[-1])), max(1, MOST_LETTERS // len(split)))
        return replace(split, tokens=letters.astype(np.int32), starts=starts, row_lengths=lengths)


@register_baseline("tfidf-svm", kind="classify")
def tfidf_svm(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """TF-IDF of 1 to 3 words and of 2 to 5 letters in a row, then a linear support vector machine.

    Its penalty is chosen on the validation split, and so is how sharp the probabilities are. Words too rare to be
    known to the loader are not seen, nor are their letters.
    """
    import scipy.sparse as sparse
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.svm import LinearSVC

    spell = Letters(train, data.vocabulary)
    words = Counts(train, len(data.vocabulary), WORD_ORDERS)
    pieces = Counts(spell(train), spell.n_symbols, LETTER_ORDERS)
    counted = words(train), pieces(spell(train))
    weigh = [TfidfTransformer(sublinear_tf=True).fit(counts) for counts in counted]

    def features(split: Any) -> Any:
        blocks = weigh[0].transform(words(split)), weigh[1].transform(pieces(spell(split)))
        return sparse.hstack(blocks).tocsr()

    inputs, held_out = features(train), features(val)
    fits = [LinearSVC(C=c, random_state=0).fit(inputs, train.targets) for c in SVM_PENALTIES]
    best = max(fits, key=lambda fit: float(fit.score(held_out, val.targets)))

    def scores(rows: Any) -> Array:
        found: Array = best.decision_function(rows)
        return found if found.ndim == 2 else np.stack([-found, found], axis=1)

    known = np.isin(val.targets, best.classes_)
    sharpness = best_sharpness(scores(held_out)[known], np.searchsorted(best.classes_, val.targets[known]))

    def predict(split: Any) -> Array:
        return spread_out(softmax(sharpness * scores(features(split))), best.classes_, len(data.classes))

    return predict

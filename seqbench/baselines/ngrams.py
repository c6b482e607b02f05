"""Baselines for `classify` over sequences of different lengths: logistic regression on which tokens stand together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import Predict, register_baseline
from seqbench.data import Ragged, TaskData

if TYPE_CHECKING:
    import scipy.sparse as sparse

__all__ = ["kmers", "tfidf"]

Array = npt.NDArray[Any]
AT_LEAST = 2  # examples that an n-gram must stand in
LONGEST_KMER = 6
PENALTIES = (0.3, 1.0, 3.0, 10.0)


class _Counts:
    """Counts of the n-grams, of all ``orders``, that stand in at least two training examples."""

    def __init__(self, train: Ragged, n_tokens: int, orders: tuple[int, ...]) -> None:
        self.n_tokens, self.orders = n_tokens, orders
        self.known = []
        for order in orders:
            examples, codes = self._codes(train, order)
            pairs = np.sort(codes * len(train) + examples)  # np.unique hashes, which takes many times as long here
            once = pairs[np.diff(pairs, prepend=-1) != 0] // len(train)
            last = np.flatnonzero(np.diff(once, append=-1) != 0)
            self.known.append(once[last][np.diff(last, prepend=-1) >= AT_LEAST])

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


def _logistic(train: Ragged, val: Ragged, data: TaskData, counts: _Counts, sublinear: bool) -> Predict:
    """TF-IDF weights, then multinomial logistic regression with the penalty that is best on validation."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    weigh = TfidfTransformer(sublinear_tf=sublinear).fit(counts(train))
    inputs, held_out = weigh.transform(counts(train)), weigh.transform(counts(val))
    fits = [LogisticRegression(C=c, max_iter=1000).fit(inputs, train.targets) for c in PENALTIES]
    best = max(fits, key=lambda fit: float(fit.score(held_out, val.targets)))

    def predict(split: Any) -> Array:
        # columns of classes absent from training stay at probability 0
        probabilities = np.zeros((len(split), len(data.classes)))
        probabilities[:, best.classes_] = best.predict_proba(weigh.transform(counts(split)))
        return probabilities

    return predict


@register_baseline("tfidf", kind="classify")
def tfidf(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """TF-IDF of words and pairs of words, then logistic regression."""
    return _logistic(train, val, data, _Counts(train, len(data.vocabulary), (1, 2)), sublinear=True)


@register_baseline("kmers", kind="classify")
def kmers(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """Counts of 1 to 6 letters in a row (k-mers), then logistic regression: where they stand plays no part."""
    orders = tuple(range(1, LONGEST_KMER + 1))
    return _logistic(train, val, data, _Counts(train, len(data.vocabulary), orders), sublinear=False)

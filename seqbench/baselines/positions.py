"""Baselines for `classify` over sequences of about one length: what stands where.

Where sequences are cut around a site, a letter's place says more than which letters there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import NotApplicable, Predict, register_baseline, spread_out
from seqbench.baselines.boosting import OneThread
from seqbench.baselines.ngrams import LONGEST_KMER, Counts
from seqbench.baselines.windows import boosting_rounds
from seqbench.data import Ragged, Rows, Split, TaskData

if TYPE_CHECKING:
    import scipy.sparse as sparse

__all__ = ["aligned", "as_ragged", "position_boosting", "positions", "positions_kmers"]

Array = npt.NDArray[Any]
Lay = Callable[[Any], Array]
ALIKE = 0.1  # of the middle length: how far the lengths of nine in ten training sequences may reach
MOST_POSITIONS = 512  # of longer sequences the middle
MOST_SYMBOLS = 64  # more are words, and have no places
MOST_CELLS = 4_000_000  # positions of all training sequences; of more, evenly spread ones are read
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
ENDS = ("middle", "start", "end")


def aligned(train: Split, data: TaskData) -> dict[str, Lay]:
    """Ways to lay sequences side by side, each a function of a split that gives tokens (N, T), 0 beyond the ends.

    One way where all training sequences are equally long, else from their middle, start and end.

    Raises:
        NotApplicable: they differ too much in length, or are no letters.
    """
    if not isinstance(train, (Rows, Ragged)) or not 0 < len(data.vocabulary) <= MOST_SYMBOLS:
        raise NotApplicable("it reads letters at their places, and these examples have none")
    lengths = _lengths(train)
    middle, (low, high) = float(np.median(lengths)), np.quantile(lengths, (0.05, 0.95))
    if high - low > ALIKE * middle:
        raise NotApplicable(f"places mean little where sequences are {lengths.min():,} to {lengths.max():,} long")
    width = int(min(lengths.max(), MOST_POSITIONS))
    anchors = ENDS[:1] if lengths.min() == lengths.max() else ENDS
    return {anchor: partial(_lay, width=width, anchor=anchor) for anchor in anchors}


def _lengths(split: Any) -> Array:
    if split.lengths is not None:
        return np.asarray(split.lengths)
    return np.full(len(split), split.sequence_length)


def _lay(split: Any, width: int, anchor: str) -> Array:
    """(N, width) letters counted from one, so that 0 is beyond the ends."""
    lengths = _lengths(split)[:, None]
    spare = width - lengths
    shift = {"start": spare * 0, "middle": spare // 2, "end": spare}[anchor]
    at = np.arange(width) - shift
    inside = (at >= 0) & (at < lengths)
    if isinstance(split, Ragged):
        tokens = split.tokens[np.where(inside, split.starts[:, None] + at, 0)]
    else:
        tokens = np.take_along_axis(np.asarray(split.inputs), np.where(inside, at, 0), axis=1)
    laid: Array = np.where(inside, tokens.astype(np.int64) + 1, 0)
    return laid


def as_ragged(split: Any) -> Ragged:
    """Rows of tokens end to end, as those are whose lengths vary."""
    if isinstance(split, Ragged):
        return split
    n, width = split.inputs.shape
    about = {"targets": split.targets, "groups": split.groups}
    return Ragged(np.asarray(split.inputs).ravel(), np.arange(n) * width, _lengths(split), **about)


def _indicators(letters: Array, n_symbols: int) -> sparse.csr_matrix:
    """(N, F) zeros and ones: which letter stands at each position, and which two at it and the next."""
    import scipy.sparse as sparse

    n, width = letters.shape
    single = letters + np.arange(width) * n_symbols
    pairs = letters[:, :-1] * n_symbols + letters[:, 1:] + np.arange(width - 1) * n_symbols**2
    columns = np.concatenate([single, width * n_symbols + pairs], axis=1)
    n_columns = width * n_symbols + (width - 1) * n_symbols**2
    ones = np.ones(columns.size, dtype=np.float32)
    return sparse.csr_matrix((ones, columns.ravel(), np.arange(n + 1) * columns.shape[1]), shape=(n, n_columns))


def _some(train: Any, width: int) -> Array:
    """Training examples that are read: all, but for very many."""
    return np.arange(0, len(train), max(1, -(-len(train) * width // MOST_CELLS)))


def _best_logistic(
    features: Sequence[Callable[[Any], Any]], train: Any, val: Any, data: TaskData, rows: Array
) -> Predict:
    """Multinomial logistic regression on those ``features``, with that penalty, that are best on validation."""
    from sklearn.linear_model import LogisticRegression

    best, made, fit = -1.0, features[0], None
    for make in features:
        inputs, held_out = make(train)[rows], make(val)
        for penalty in PENALTIES:
            found = LogisticRegression(C=penalty, max_iter=300, tol=1e-3).fit(inputs, train.targets[rows])
            score = float(found.score(held_out, val.targets))
            if score > best:
                best, made, fit = score, make, found
    assert fit is not None
    return lambda split: spread_out(fit.predict_proba(made(split)), fit.classes_, len(data.classes))


@register_baseline("positions", kind="classify")
def positions(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """Logistic regression on which letter, and which two neighbours, stand at each position.

    Penalty, and the end that positions are counted from where lengths differ a little, are chosen on validation.
    """
    ways, n_symbols = aligned(train, data), len(data.vocabulary) + 1

    def where(split: Any, lay: Lay) -> Any:
        return _indicators(lay(split), n_symbols)

    features = [partial(where, lay=lay) for lay in ways.values()]
    rows = _some(train, min(train.sequence_length, MOST_POSITIONS))
    return _best_logistic(features, train, val, data, rows)


@register_baseline("positions-kmers", kind="classify")
def positions_kmers(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """Logistic regression on letters and neighbours at each position together with counts of 1 to 6 letters in a row.

    Settings are chosen as for `positions`.
    """
    import scipy.sparse as sparse
    from sklearn.feature_extraction.text import TfidfTransformer

    ways, n_symbols = aligned(train, data), len(data.vocabulary) + 1
    counts = Counts(as_ragged(train), len(data.vocabulary), tuple(range(1, LONGEST_KMER + 1)))
    weigh = TfidfTransformer().fit(counts(as_ragged(train)))

    def both(split: Any, lay: Lay) -> Any:
        where = _indicators(lay(split), n_symbols)
        # k-mers have in all the length of one position's indicator
        return sparse.hstack([where, weigh.transform(counts(as_ragged(split)))]).tocsr()

    features = [partial(both, lay=lay) for lay in ways.values()]
    rows = _some(train, min(train.sequence_length, MOST_POSITIONS))
    return _best_logistic(features, train, val, data, rows)


@register_baseline("position-boosting", kind="classify")
def position_boosting(train: Ragged, val: Ragged, data: TaskData) -> Predict:
    """Gradient-boosted trees on the letter at each position; the number of trees is chosen on the validation split.

    Positions are counted from the middle where lengths differ a little.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    lay = aligned(train, data)["middle"]
    n_classes = len(data.classes)
    rows = _some(train, min(train.sequence_length, MOST_POSITIONS))
    letters, labels = lay(train)[rows], train.targets[rows]
    fit = OneThread(
        HistGradientBoostingClassifier(
            max_iter=boosting_rounds(letters.size, n_classes if n_classes > 2 else 1),
            max_leaf_nodes=15,
            categorical_features=list(range(letters.shape[1])),
            early_stopping=False,
            random_state=0,
        )
    ).fit(letters, labels)
    scores = [float(np.mean(guess == val.targets)) for guess in fit.staged_predict(lay(val))]
    n_rounds = int(np.argmax(scores)) + 1

    def predict(split: Any) -> Array:
        rounds = fit.staged_predict_proba(lay(split))
        return spread_out(next(islice(rounds, n_rounds - 1, None)), fit.classes_, n_classes)

    return predict

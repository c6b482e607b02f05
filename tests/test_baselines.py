"""Baselines against hand-worked figures and reference implementations."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from seqbench import Ragged, Rows, Segments, Stream, TaskData, Windows
from seqbench.baselines import (
    NotApplicable,
    best_sharpness,
    classify,
    forecast,
    generate,
    mixing,
    ngrams,
    positions,
    regress,
)
from seqbench.baselines import windows as of_windows


def rows_of(texts, labels):
    inputs = np.array([["ACGT".index(letter) for letter in text] for text in texts], dtype=np.uint8)
    return Rows(inputs, np.array(labels), np.arange(len(labels)))


def classify_data():
    train = rows_of(["AC", "AC", "AG", "TT"], [0, 0, 0, 1])
    return TaskData(train, train, train, {}, vocabulary=tuple("ACGT"), classes=("x", "y"))


def test_majority_is_the_class_frequencies():
    data = classify_data()
    assert classify.majority(data.train, data.val, data)(data.test)[0].tolist() == [0.75, 0.25]


def test_weight_matrices_by_hand():
    data = classify_data()
    # one pseudo-count: P(A first | x) = 4/7, P(C second | x) = 3/7; class y: 1/5 and 1/5; priors 3/4 and 1/4
    joint = np.array([0.75 * 4 / 7 * 3 / 7, 0.25 * 1 / 5 * 1 / 5])
    assert classify.pwm(data.train, data.val, data)(data.test)[0] == pytest.approx(joint / joint.sum())
    # pairs: P(C | A, x) = (2 + 1) / (3 + 4), P(C | A, y) = 1/4
    joint = np.array([0.75 * 4 / 7 * 3 / 7, 0.25 * 1 / 5 * 1 / 4])
    assert classify.pwm2(data.train, data.val, data)(data.test)[0] == pytest.approx(joint / joint.sum())


def test_logistic_regression_learns_what_one_position_tells():
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 4, (400, 6)).astype(np.uint8)
    split = Rows(inputs, (inputs[:, 2] > 1).astype(int), np.arange(400))
    data = TaskData(split, split, split, {}, vocabulary=tuple("ACGT"), classes=("x", "y"))
    probability = classify.logistic(split, split, data)(split)
    assert (probability.argmax(axis=1) == split.targets).all()
    assert probability.sum(axis=1) == pytest.approx(np.ones(400))


def windows(n=300, seed=0, **about):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, 2)).cumsum(axis=0).astype(np.float32)
    return Windows(series, series[:, :1], np.arange(n - 60), 30, 26, np.arange(n - 60), **about)


def data_of(split, season=0):
    return TaskData(split, split, split, {}, fitted={"season": season})


@pytest.mark.parametrize("relative", [0.0, 3.0])
def test_persistence_drift_and_seasonal_naive_by_hand(relative):
    split = windows(relative=relative)
    data = data_of(split, 24)
    last = forecast.persistence(split, split, data)(split)
    assert (last[5] == split.series[34, 0]).all()
    change = np.mean(split.series[split.starts + 55, 0] - split.series[split.starts + 29, 0])
    assert forecast.drift(split, split, data)(split)[5, :, 0] == pytest.approx(
        split.series[34, 0] + change * np.arange(1, 27) / 26, abs=1e-5
    )
    day = forecast.seasonal_naive(split, split, data)(split)
    assert day[5, 0, 0] == split.series[35 - 24, 0] and day[5, 23, 0] == split.series[35 + 23 - 24, 0]
    assert day[5, 25, 0] == split.series[35 + 25 - 48, 0]  # never a value from the future


def test_a_long_season_is_looked_up_before_the_window_where_that_is_known():
    split = windows(meta={"earlier": np.arange(240)})
    found = forecast.seasonal_naive(split, split, data_of(split, 50))(split)
    assert found[30, 0, 0] == split.series[60 - 50, 0] and found[30, 25, 0] == split.series[85 - 50, 0]
    assert (found[5] == split.series[34, 0]).sum() >= 15  # where the series has not begun it is the last value
    for season, known in ((0, 0), (50, 0)):  # no season, or no window that knows one
        with pytest.raises(NotApplicable):
            split = windows(meta={"earlier": np.full(240, known)})
            forecast.seasonal_naive(split, split, data_of(split, season))


@pytest.mark.parametrize(
    ("baseline", "relative", "columns"), [("ridge", 0, 2), ("ridge_relative", 1, 2), ("target_ridge", 1, 1)]
)
@pytest.mark.parametrize("task", [0.0, 3.0])
def test_ridge_equals_the_library_whatever_the_task_is_relative_to(monkeypatch, baseline, relative, columns, task):
    monkeypatch.setattr(forecast, "PENALTIES", (10.0,))
    train, test = windows(relative=task), windows(seed=1, relative=task)
    ours = getattr(forecast, baseline)(train, test, None)(test)
    rows, targets, last = [], [], []
    for split in (train, test):
        values = np.lib.stride_tricks.sliding_window_view(split.series.astype(float), 30, axis=0)
        values = values.transpose(0, 2, 1)[: len(split), :, :columns].copy()  # (N, T, D)
        last.append(values[:, -1:, 0].copy())
        values[:, :, 0] -= relative * last[-1]
        rows.append(np.c_[values.reshape(len(split), -1), np.ones(len(split))])
        targets.append(split.truth().targets[:, :, 0] - relative * last[-1])
    theirs = Ridge(alpha=10.0, fit_intercept=False).fit(rows[0], targets[0]).predict(rows[1]) + relative * last[1]
    assert ours[:, :, 0] == pytest.approx(theirs, abs=1e-3)


def test_ridge_chooses_its_penalty_on_validation():
    train, val = windows(), windows(seed=1)
    errors = {}
    for penalty in forecast.PENALTIES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forecast, "PENALTIES", (penalty,))
            found = forecast.ridge(train, val, None)(val)
        errors[penalty] = float(np.square(found - val.truth().targets).mean())
    best = forecast.ridge(train, val, None)(val)
    assert np.square(best - val.truth().targets).mean() == pytest.approx(min(errors.values()))


def test_the_target_alone_is_no_row_where_nothing_else_is_read():
    split = windows()
    alone = replace(split, series=split.series[:, :1])
    with pytest.raises(NotApplicable):
        forecast.target_ridge(alone, alone, None)


def test_boosting_learns_a_season_that_a_line_can_not(monkeypatch):
    """A saw tooth of 12 steps, half of them flat, over a level that drifts; more steps ahead than are predicted."""
    monkeypatch.setattr(forecast, "TREES", 30)
    monkeypatch.setattr(forecast, "MOST_PREDICTED", 4000)
    splits = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wave = np.maximum(np.arange(500) % 12 - 5, 0) + np.cumsum(rng.normal(size=500)) * 0.05
        series = wave[:, None].astype(np.float32)
        meta = {"phase": (np.arange(440) + 29) % 12, "earlier": np.arange(440)}
        splits.append(Windows(series, series, np.arange(440), 30, 18, np.arange(440), meta=meta))
    train, val, test = splits
    data = TaskData(train, val, test, {}, fitted={"season": 12})
    found = forecast.boosting_lags(train, val, data)(test)
    assert found.shape == test.truth().targets.shape and np.isfinite(found).all()
    naive = forecast.persistence(train, val, data)(test)
    error, reference = (np.square(each - test.truth().targets).mean() for each in (found, naive))
    assert error < 0.5 * reference


def stream_of(text, symbols="abcd "):
    return Stream.evaluation(np.array([symbols.index(letter) for letter in text], dtype=np.uint8), 1)


def text_data(train="abcd bdca abcd abcd bdca " * 40, held_out="bdca abcd " * 20):
    parts = stream_of(train), stream_of(held_out)
    return TaskData(parts[0], parts[1], parts[1], {}, vocabulary=tuple("abcd "))


def test_unigram_by_hand():
    data = text_data("aab ", "ba")
    # counts with one each: a 3, b 2, c 1, d 1, space 2, of 9; only the second character is scored
    assert generate.unigram(data.train, data.val, data)(data.test).sum() == pytest.approx(-math.log(3 / 9))


def test_compressors_charge_what_the_text_adds():
    import bz2
    import lzma

    data = text_data()
    train, test = ("".join("abcd "[token] for token in split.tokens).encode() for split in (data.train, data.test))
    for baseline, compress in ((generate.bzip2, bz2.compress), (generate.xz, lambda t: lzma.compress(t, preset=9))):
        bits = 8 * (len(compress(train + test)) - len(compress(train)))
        found = baseline(data.train, data.val, data)(data.test)
        assert found.sum() / math.log(2) == pytest.approx(bits) and len(found) == len(data.test.truth())


def test_kneser_ney_is_a_probability_and_follows_its_text():
    data = text_data()
    vocabulary = len(data.vocabulary)
    # every continuation of a seen and an unseen context: probabilities sum to one
    for context in ("abc", "ddd"):
        total = 0.0
        for letter in "abcd ":
            both = [stream_of(text) for text in (context + letter, context)]
            sums = [generate.kneser_ney(data.train, data.val, data)(stream).sum() for stream in both]
            total += math.exp(sums[1] - sums[0])
        assert total == pytest.approx(1.0)
    bits = generate.kneser_ney(data.train, data.val, data)(data.test).sum() / math.log(2) / (len(data.test.tokens) - 1)
    assert bits < 0.5 < math.log2(vocabulary)  # the text is nearly certain given four letters; a bigram is not


def test_kneser_ney_counts_contexts_not_occurrences_for_lower_orders():
    """'d' stands often but only ever after 'c': after an unseen context it is no likelier than rarer letters that stand
    after many (the point of Kneser and Ney 1995)."""
    train = "ab ba b a " + "cd" * 300 + " ab a b"
    frequency = {letter: train.count(letter) for letter in "ab d"}
    data = text_data(train, "ab ba " * 10)
    model = generate.kneser_ney(data.train, data.val, data)
    after_unseen = {x: math.exp(model(stream_of("dd")).sum() - model(stream_of("dd" + x)).sum()) for x in "ab d"}
    assert frequency["d"] > 50 * frequency["a"]
    assert after_unseen["d"] < 1.5 * after_unseen["a"]


def test_kneser_ney_leaves_no_symbol_without_probability():
    data = text_data("abababababababab", "ab")
    assert np.isfinite(generate.kneser_ney(data.train, data.val, data)(stream_of("addcc ba"))).all()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """As few trees and convolutions as show what is to be shown."""
    monkeypatch.setattr(of_windows, "ROUNDS", (10, 20))
    monkeypatch.setattr(of_windows, "CONVOLUTIONS", (84, 168))


def shares_right(fit, data):
    found = fit(data.train, data.val, data)(data.test)
    assert found.shape == (len(data.test), len(data.classes)) and found.sum(axis=1) == pytest.approx(1.0)
    return float(np.mean(found.argmax(axis=1) == data.test.targets))


def shaped(n, seed, shuffle=False):
    """Windows of three measurements: a bump that falls and then rises, or the reverse, at any place, on any level."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    series = rng.normal(0, 0.3, (n, 40, 3)) + rng.normal(0, 1, (n, 1, 3))
    bump = np.sin(np.linspace(0, 2 * np.pi, 12))
    for i, (label, at) in enumerate(zip(labels, rng.integers(0, 28, n), strict=True)):
        series[i, at : at + 12, 1] += 2 * bump * (1 if label else -1)
    labels = rng.permutation(labels) if shuffle else labels
    return Segments(series.reshape(-1, 3).astype(np.float32), np.arange(n) * 40, 40, labels, np.arange(n))


def shaped_data(shuffle=False):
    parts = [shaped(n, seed, shuffle) for seed, n in enumerate((400, 150, 200))]
    return TaskData(*parts, {}, features=("a", "b", "c"), classes=("down", "up"))


def test_random_convolutions_see_a_shape_where_statistics_are_blind():
    data = shaped_data()
    assert (
        shares_right(of_windows.random_convolutions, data) > 0.9 > 0.8 > shares_right(of_windows.window_logistic, data)
    )


@pytest.mark.parametrize("fit", [of_windows.random_convolutions, of_windows.window_boosting])
def test_shuffled_labels_leave_a_guess_and_fits_repeat(fit):
    data = shaped_data(shuffle=True)
    assert 0.35 < shares_right(fit, data) < 0.65
    one, two = (fit(data.train, data.val, data)(data.test) for _ in range(2))
    assert (one == two).all()


def test_boosting_finds_what_no_line_divides():
    """Two measurements of the same sign, or not: no linear function of their means tells."""
    rng = np.random.default_rng(0)

    def part(n):
        level = rng.choice([-1.0, 1.0], (n, 1, 2))
        series = (level + rng.normal(0, 0.5, (n, 5, 2))).reshape(-1, 2).astype(np.float32)
        return Segments(series, np.arange(n) * 5, 5, (level.prod(axis=2)[:, 0] > 0).astype(int), np.arange(n))

    data = TaskData(part(400), part(100), part(200), {}, features=("a", "b"), classes=("x", "y"))
    assert shares_right(of_windows.window_boosting, data) > 0.95
    assert shares_right(of_windows.window_logistic, data) < 0.65


def test_convolutions_by_hand():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 40, 2)).astype(np.float32)
    made = of_windows.Convolutions(values, 84, np.random.default_rng(1))
    shares = made(values)
    for i in (0, 17, 83):
        kernel, dilation, measurements, padded = made.plan[i]
        weights = np.full(9, -1.0)
        weights[kernel] = 2.0
        spread = np.zeros(8 * dilation + 1)
        spread[::dilation] = weights
        summed = (values[3] * made.scale)[:, measurements].sum(axis=1)
        summed = np.pad(summed, 4 * dilation) if padded else summed
        found = np.correlate(summed, spread, mode="valid")
        assert shares[3, 3 * i : 3 * i + 3] == pytest.approx([np.mean(found > bias) for bias in made.biases[i]])


def test_discriminants_equal_the_library():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    values = rng.normal(size=(300, 6)) + np.eye(6)[labels] * 1.5
    weights, constants = of_windows._discriminant(values, labels, 3)(0.1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(values, labels)
    assert of_windows.softmax(values @ weights + constants) == pytest.approx(theirs.predict_proba(values), abs=1e-6)


def test_rows_of_different_lengths_are_read_without_their_padding():
    inputs = np.zeros((2, 10, 1), dtype=np.float32)
    inputs[0, :4, 0], inputs[1, :, 0] = 5.0, 7.0
    split = Rows(inputs, np.zeros(2, dtype=int), np.arange(2), row_lengths=np.array([4, 10]))
    assert of_windows.statistics(split).tolist() == [[5, 0, 5, 0, 4], [7, 0, 7, 0, 10]]
    assert of_windows.more_statistics(split)[:, 4:6].tolist() == [[5, 5], [7, 7]]


def ragged_of(texts, labels, vocabulary):
    rows = [[vocabulary.index(token) for token in text] for text in texts]
    lengths = np.array([len(row) for row in rows])
    tokens = np.array([token for row in rows for token in row], dtype=np.int32)
    return Ragged(tokens, np.cumsum(lengths) - lengths, lengths, np.array(labels), np.arange(len(labels)))


def test_letters_are_put_together_from_words():
    vocabulary = ("<pad>", "<unknown>", "good", "film", "\u597d", "\u7247", "!")
    split = ragged_of([["good", "film", "!"], ["\u597d", "\u7247", "good"], ["<unknown>"]], [0, 1, 0], vocabulary)
    letters = ngrams.Letters(split, vocabulary)
    spelled = letters(split)
    alphabet = {1: " "}
    for token, first, length in zip(vocabulary, letters.first, letters.lengths, strict=True):
        alphabet |= dict(zip(letters.letters[first : first + length].tolist(), token, strict=False))
    alphabet[int(letters.letters[letters.first[1]])] = "?"
    rows = [spelled[[i]].inputs[0][: spelled.row_lengths[i]] for i in range(3)]
    assert ["".join(alphabet[int(x)] for x in row) for row in rows] == [" good film !", " \u597d\u7247 good", " ?"]


def texts_data(shuffle=False):
    rng = np.random.default_rng(0)
    vocabulary = ("<pad>", "<unknown>", *(f"{stem}{end}" for stem in "abcdefghij" for end in ("ful", "less")))

    def part(n, known):
        labels = rng.integers(0, 2, n)
        # the end of the words tells; half of the words are new after training
        stems = [rng.choice(list(known), 6) for _ in labels]
        texts = [[f"{stem}{('ful', 'less')[y]}" for stem in row] for row, y in zip(stems, labels, strict=True)]
        return ragged_of(texts, rng.permutation(labels) if shuffle else labels, vocabulary)

    return TaskData(part(200, "abcde"), part(60, "ef"), part(100, "fghij"), {}, vocabulary, classes=("x", "y"))


def test_letters_tell_what_new_words_are_about():
    data = texts_data()
    assert shares_right(ngrams.tfidf_svm, data) > 0.95
    assert shares_right(ngrams.tfidf, data) < 0.7
    assert 0.3 < shares_right(ngrams.tfidf_svm, texts_data(shuffle=True)) < 0.7


def test_weights_of_words_and_letters_are_the_librarys():
    data = texts_data()
    texts = [" ".join(data.vocabulary[t] for t in data.train[[i]].inputs[0]) for i in range(len(data.train))]
    theirs = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), min_df=2, sublinear_tf=True).fit_transform(
        [f" {text}" for text in texts]
    )
    letters = ngrams.Letters(data.train, data.vocabulary)
    spelled = letters(data.train)
    counts = ngrams.Counts(spelled, letters.n_symbols, (2, 3, 4, 5))(spelled)
    from sklearn.feature_extraction.text import TfidfTransformer

    ours = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    assert ours.shape == theirs.shape and (ours @ ours.T).toarray() == pytest.approx((theirs @ theirs.T).toarray())


BASES = ("<pad>", *"ACGTN")


def splice_data(shuffle=False, vary=0):
    """A signal at a fixed place, or the same letters somewhere else."""
    rng = np.random.default_rng(0)

    def part(n):
        texts, labels = [], rng.integers(0, 2, n)
        for label in labels:
            text = rng.choice(list("ACGT"), 40 + (rng.integers(0, vary) if vary else 0))
            at = 18 if label else rng.choice([3, 8, 27, 30])
            text[at : at + 6] = list("GTAAGT")
            texts.append(text.tolist())
        return ragged_of(texts, rng.permutation(labels) if shuffle else labels, BASES)

    return TaskData(part(300), part(100), part(200), {}, BASES, classes=("decoy", "site"))


BY_PLACE = [positions.positions, positions.positions_kmers, positions.position_boosting]


@pytest.mark.parametrize("fit", BY_PLACE)
def test_places_tell_sites_from_decoys_and_kmers_do_not(fit):
    assert shares_right(fit, splice_data()) > 0.93
    assert 0.35 < shares_right(fit, splice_data(shuffle=True)) < 0.65


def test_kmers_alone_do_not_see_the_place():
    assert shares_right(ngrams.kmers, splice_data()) < 0.75


def test_lengths_that_differ_a_little_are_laid_side_by_side_from_the_best_end():
    data = splice_data(vary=4)
    assert set(positions.aligned(data.train, data)) == {"middle", "start", "end"}
    assert shares_right(positions.positions, data) > 0.93
    with pytest.raises(NotApplicable, match="40 to 79 long"):
        positions.positions(splice_data(vary=40).train, data.val, data)


def test_places_are_counted_from_each_end():
    split = ragged_of([list("ACG"), list("ACGTA")], [0, 1], BASES)
    laid = {end: positions._lay(split, 5, end)[0].tolist() for end in positions.ENDS}
    assert laid == {"middle": [0, 2, 3, 4, 0], "start": [2, 3, 4, 0, 0], "end": [0, 0, 2, 3, 4]}


def test_words_have_no_places():
    data = texts_data()
    many = replace(data, vocabulary=tuple(map(str, range(100))))
    for fit in BY_PLACE:
        with pytest.raises(NotApplicable):
            fit(many.train, many.val, many)
    with pytest.raises(NotApplicable):
        of_windows.window_boosting(classify_data().train, classify_data().val, classify_data())


def test_sharpness_makes_scores_as_sure_as_they_are_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    scores = np.eye(2)[np.where(rng.random(2000) < 0.8, labels, 1 - labels)]
    chance = math.exp(best_sharpness(scores, labels))
    assert chance / (1 + chance) == pytest.approx(0.8, abs=0.1)


def test_context_mixing_is_a_probability_and_learns_from_what_it_reads():
    data = text_data()
    model = mixing.context_mixing(data.train, data.val, data)
    for context in ("abc", "ddd"):
        alone = model(stream_of(context)).sum()
        chances = [math.exp(alone - model(stream_of(context + letter)).sum()) for letter in "abcd "]
        assert sum(chances) == pytest.approx(1.0, abs=1e-6)
    found = model(data.test)
    assert found.sum() / math.log(2) / (len(data.test.tokens) - 1) < 0.5 and len(found) == len(data.test.truth())
    # a phrase that the training text lacks costs less when it comes again
    costs = [model(stream_of("dacb" * n)).sum() for n in (1, 2, 3, 4)]
    assert costs[3] - costs[2] < 0.6 * (costs[1] - costs[0])


def test_context_mixing_does_not_see_the_character_that_it_predicts():
    data = text_data()
    model = mixing.context_mixing(data.train, data.val, data)
    rng = np.random.default_rng(0)
    noise = "".join(rng.choice(list("abcd "), 400))
    assert model(stream_of(noise)).sum() / 399 > 0.95 * math.log(5)  # which nothing can foretell


def test_counts_of_a_text_so_far_by_hand():
    contexts, owner = np.array([7, 7, 7, 9], dtype=np.uint64), np.arange(4)
    steps = np.array([[0, 1, 2, right] for right in (1, 0, 1, 1)])
    assert mixing._so_far(contexts, owner, steps, 3).tolist() == [[0, 0, 1, 0], [0, 1, 1, 0]]


def measured(n, seed, target_feature=0):
    """Windows of two measurements; the target is their difference at the end, in another unit."""
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, 8, 2)).cumsum(axis=1).astype(np.float32)
    natural = 3.0 * (series[:, -1, 0] - series[:, -1, 1]) + 10
    targets = ((natural - 10) / 3).astype(np.float32)
    return Segments(series.reshape(-1, 2), np.arange(n) * 8, 8, targets, np.arange(n))


def regress_data(**fitted):
    parts = [measured(n, seed) for seed, n in enumerate((300, 100, 100))]
    return TaskData(*parts, {}, features=("a", "b"), fitted={"offset": 10.0, "scale": 3.0, **fitted})


def error_of(fit, data):
    found = fit(data.train, data.val, data)(data.test)
    assert found.shape == (len(data.test),)
    return float(np.sqrt(np.mean((found - data.test.targets) ** 2)))


def test_regression_rows_learn_and_shuffled_targets_leave_the_mean():
    data = regress_data()
    usual = error_of(regress.mean, data)
    assert usual == pytest.approx(np.sqrt(np.mean((data.test.targets - data.train.targets.mean()) ** 2)), rel=1e-5)
    assert error_of(regress.window_ridge, data) < 0.05 * usual
    assert error_of(regress.window_regression_boosting, data) < 0.4 * usual
    mixed = [split.shuffled(np.random.default_rng(3)) for split in data.splits.values()]
    shuffled = TaskData(*mixed, {}, features=data.features, fitted=data.fitted)
    for fit in (regress.window_ridge, regress.window_regression_boosting):
        assert error_of(fit, shuffled) > 0.9 * error_of(regress.mean, shuffled)


def test_the_last_value_is_in_the_targets_unit():
    data = regress_data(target_feature=1, mean=[0.0, 4.0], deviation=[1.0, 2.0])
    found = regress.last_value(data.train, data.val, data)(data.test)
    last = data.test.series[data.test.starts + 7, 1]
    assert found == pytest.approx((last * 2 + 4 - 10) / 3, abs=1e-5)
    with pytest.raises(NotApplicable):
        regress.last_value(data.train, data.val, regress_data())


def test_ridge_reads_symbols_where_there_are_no_measurements():
    data = splice_data()
    pairs = [replace(split, targets=split.targets.astype(np.float32)) for split in data.splits.values()]
    numbers = TaskData(*pairs, {}, vocabulary=BASES)
    assert error_of(regress.ngram_ridge, numbers) < 1.05 * error_of(regress.mean, numbers)
    with pytest.raises(NotApplicable):
        regress.ngram_ridge(regress_data().train, regress_data().val, regress_data())
    with pytest.raises(NotApplicable):
        regress.window_ridge(numbers.train, numbers.val, replace(numbers))


def test_a_baseline_that_does_not_apply_is_left_out_and_data_show_says_why(here, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(rng.choice(list("ACGT"), rng.integers(30, 200)), label) for label in ("a", "b") * 60]
    text = "".join(f">s{i} label={label}\n{''.join(letters)}\n" for i, (letters, label) in enumerate(rows))
    (tmp_path / "dna.fasta").write_text(text)
    shown = here("data", "show", "dna", "--data", "dna.fasta")
    assert shown.returncode == 0 and "kmers" in shown.stdout
    assert "baseline positions is left out: places mean little where sequences are" in " ".join(shown.stdout.split())
    told = json.loads(here("data", "show", "dna", "--data", "dna.fasta", "--json").stdout)
    assert [row["baseline"] for row in told["baselines"]] == ["majority (skill 0)", "kmers"]
    assert set(told["not applicable"]) == {"positions", "positions-kmers", "position-boosting"}


def test_texts_without_anything_in_common_leave_the_rows_of_words_out():
    vocabulary = ("<pad>", "<unknown>", *"abcdef")
    split = ragged_of([["a"], ["b"], ["c"], ["d"]], [0, 1, 0, 1], vocabulary)
    data = TaskData(split, split, split, {}, vocabulary, classes=("x", "y"))
    for fit in (ngrams.tfidf, ngrams.tfidf_svm):
        with pytest.raises(NotApplicable):
            fit(split, split, data)


def test_a_dozen_characters_are_enough_for_context_mixing():
    data = text_data("ab cd ab cd ", "ab cd")
    assert np.isfinite(mixing.context_mixing(data.train, data.val, data)(stream_of("dcba ab"))).all()

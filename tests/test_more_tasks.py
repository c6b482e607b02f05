"""The honesty rules once more, checked independently on the data of sentiment, stock and fault."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sparse
import torch

from seqbench import Source
from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.files.near import near_groups
from seqbench.files.texts import words
from seqbench.models.backbone import build, shape_of
from seqbench.prepare import fit_baselines, prepare
from seqbench.task import TASKS, Budget
from seqbench.training import evaluate, fit

DATA = Path(__file__).resolve().parents[1] / "tasks" / "data"


class Lazy(dict):
    """Each task's data once it is asked for."""

    def __missing__(self, name):
        self[name] = prepare(name, {})
        return self[name]


@pytest.fixture(scope="module")
def prepared():
    return Lazy()


# sentiment ------------------------------------------------------------------------------------------------------------


def bare(text):
    """Written anew, so that the rule is not checked by the function that follows it."""
    text = re.sub(r"(https?:|www\.)\S*", " ", text.lower())
    text = re.sub(r"@\w+|&\w+;", " ", text)
    return tuple(re.findall(r"[^\W_]+", text))


@pytest.fixture(scope="module")
def tweets():
    """Texts and the split of each, as the task's loader deals them."""
    import seqbench.tasks.sentiment as module

    texts, labels, _ = module.read_tweets()
    indices = module.split_groups(near_groups(texts), labels, module.CLASSES, module.SHARES, str)
    return {part: [texts[i] for i in rows] for part, rows in indices.items()}


def test_sentiment_no_test_text_stands_in_training_once_it_is_bare(tweets):
    training = {bare(text) for text in tweets["train"]}
    assert not training & {bare(text) for part in ("val", "test") for text in tweets[part]}


def test_sentiment_splits_and_words_are_those_of_its_version(tweets):
    """How a user's texts are split and read may change; that of the built-in tweets would need another version."""
    digests = {
        part: hashlib.sha256("\n".join(" ".join(words(text)) for text in rows).encode()).hexdigest()[:16]
        for part, rows in tweets.items()
    }
    assert digests == {"train": "85d1a60baa52727f", "val": "c036ce2d60645c4e", "test": "88b0f4e5f8f05e02"}


def jaccard_above(left, right, least):
    """All pairs of sets with a Jaccard similarity of at least ``least``, without any hashing trick."""
    vocabulary = {item: i for i, item in enumerate(sorted({item for row in (*left, *right) for item in row}))}

    def matrix(rows):
        at = [(i, vocabulary[item]) for i, row in enumerate(rows) for item in row]
        ones = np.ones(len(at), dtype=np.int32)
        return sparse.csr_matrix((ones, np.array(at).T), shape=(len(rows), len(vocabulary)))

    a, b = matrix(left), matrix(right)
    found = 0
    sizes = np.asarray(b.sum(axis=1)).ravel()
    for at in range(0, a.shape[0], 500):
        both = (a[at : at + 500] @ b.T).tocoo()
        own = np.asarray(a[at : at + 500].sum(axis=1)).ravel()
        found += int((both.data >= least * (own[both.row] + sizes[both.col] - both.data)).sum())
    return found


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_sentiment_near_duplicates_stay_in_one_split(tweets, kind):
    """Pairs across the border, exactly; and the same check finds the pairs that a split at random would have."""

    def items(text):
        words = bare(text)
        joined = " ".join(words)
        return set(words) if kind == "words" else {joined[i : i + 5] for i in range(max(1, len(joined) - 4))}

    rows = {part: [items(text) for text in texts] for part, texts in tweets.items()}
    rng = np.random.default_rng(0)
    held = rows["val"] + rows["test"]
    some = [held[i] for i in rng.permutation(len(held))[:1500]]
    assert jaccard_above(some, rows["train"], 0.8) == 0
    everything = rows["train"] + held
    shuffled = [everything[i] for i in rng.permutation(len(everything))]
    assert jaccard_above(shuffled[:1500], shuffled[1500:], 0.8) > 20


def test_sentiment_knows_the_words_of_training_only(prepared, tweets):
    from seqbench.files.texts import words

    known = set(prepared["sentiment"].data.vocabulary[2:])
    training = {word for text in tweets["train"] for word in words(text)}
    assert known <= training and len(known) > 5000


def test_sentiment_classes_are_dealt_alike(prepared):
    shares = [np.bincount(split.targets) / len(split) for split in prepared["sentiment"].data.splits.values()]
    assert np.abs(np.array(shares) - shares[0]).max() < 0.02


# stock ----------------------------------------------------------------------------------------------------------------


def closes():
    table = pq.read_table(DATA / "stock.parquet", filters=[("ticker", "=", "AAPL")])
    return table["close"].to_numpy()


def test_stock_targets_are_the_next_log_returns_in_order(prepared):
    data, prices = prepared["stock"].data, closes()
    returns = np.diff(np.log(prices))
    scaled = np.concatenate([split.target_series[:, 0] for split in data.splits.values()])
    assert scaled * data.fitted["scale"] == pytest.approx(returns, abs=1e-6)
    for split in data.splits.values():
        actual = np.log(split.meta["next_close"] / split.meta["close"])
        assert split.truth().targets[:, 0, 0] * data.fitted["scale"] == pytest.approx(actual, abs=1e-6)
    assert len(data.train) + 60 == pytest.approx(0.7 * len(prices), abs=2)


def test_stock_scales_come_from_training_days():
    import seqbench.tasks.stock as module

    days = np.random.default_rng(0).uniform(10, 20, (900, 5))
    later = days.copy()
    later[700:] *= 3
    dates = np.arange(900)
    for recipe in (False, True):
        options = module.FileOptions(recipe=recipe)
        first, second = (module.build(rows, dates, options, {}) for rows in (days, later))
        assert first.fitted == second.fitted
        assert np.array_equal(first.train.series, second.train.series)
        assert not np.array_equal(first.test.series, second.test.series)


def test_stock_persistence_is_the_error_of_the_prices_themselves(prepared):
    scores = fit_baselines(prepared["stock"])["price-persistence"]["test"]
    prices = closes()
    error = np.diff(prices)[-len(prepared["stock"].data.test) :]
    assert scores["relative_rmse"] == 1.0
    assert scores["rmse_dollars"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert scores["r2_dollars"] > 0.98  # the splendid figure that means nothing


def test_stock_an_oracle_of_directions_needs_few_days_and_a_coin_needs_many(prepared):
    spec, truth = prepared["stock"].spec, prepared["stock"].data.test.truth()
    oracle = spec.score(np.sign(truth.targets) * 0.1, truth)
    assert oracle["direction"] > 0.98 and oracle["days_to_tell"] < 30
    coin = spec.score(np.random.default_rng(0).normal(size=truth.targets.shape), truth)
    assert coin["days_to_tell"] > 300 and coin["relative_rmse"] > 1.2


def recipe_score(days, dates, limits, monkeypatch):
    """Test scores of a small LSTM trained by the recipe, scaled by the limits of the first ``limits`` days."""
    import seqbench.tasks.stock as module

    honest = module.Scaling.of
    with monkeypatch.context() as patch:
        patch.setattr(module.Scaling, "of", lambda rows, recipe: honest(days[: limits or len(rows)], recipe))
        data = module.build(days, dates, module.FileOptions(recipe=True), {})
    spec = TASKS.get("stock")
    config = RunConfig(task="stock", model="lstm", hidden=32, learning_rate=5e-3, weight_decay=0.0, dropout=0.0)
    device = torch.device("cpu")
    with settings(device, config):
        model = build("lstm", "forecast", shape_of("forecast", data), (32,))
        fit(model, spec, data, config, Budget(300, 64, 3))
        return evaluate(model, spec, data.test, config)


def test_stock_what_the_leak_of_the_recipe_would_be_worth(monkeypatch):
    """Scaling by the limits of all days, as published recipes do, tells a model how far the price will go.

    Measured with this small LSTM: 29.6 dollars of error without the leak, 22.5 with it, a quarter less. Neither is
    near what copying yesterday's close gives (1.3), since AAPL rose to five times what it was in the training years.
    """
    table = pq.read_table(DATA / "stock.parquet", filters=[("ticker", "=", "AAPL")])
    days = np.stack(
        [table[name].to_numpy().astype(float) for name in ("open", "high", "low", "close", "volume")], axis=1
    )
    dates = np.array(table["date"].to_pylist())
    honest = recipe_score(days, dates, None, monkeypatch)
    leaking = recipe_score(days, dates, len(days), monkeypatch)
    assert leaking["rmse_dollars"] < 0.9 * honest["rmse_dollars"]
    assert 2.0 < leaking["relative_rmse"] < honest["relative_rmse"]


def test_stock_other_tickers(prepared):
    assert len(prepare("stock", {"ticker": "GOOG"}).data.train) < len(prepared["stock"].data.train)


# fault ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    table = pq.read_table(DATA / "fault.parquet")
    return {name: table[name].to_numpy().astype(int) for name in ("run", "class", "onset_step", "step")}


def test_fault_runs_stay_whole_and_every_class_is_everywhere(prepared, runs):
    data = prepared["fault"].data
    kind = dict(zip(runs["run"], runs["class"], strict=True))
    for part, expected in (("train", 24), ("val", 6), ("test", 10)):
        groups = np.unique(data.splits[part].groups)
        assert (np.bincount([kind[run] for run in groups]) == expected).all()


def test_fault_windows_lie_in_one_run_and_are_labelled_by_their_last_sample(prepared, runs):
    data = prepared["fault"].data
    first_row = {run: int(np.flatnonzero(runs["run"] == run)[0]) for run in np.unique(runs["run"])}
    values = np.concatenate([split.series for split in data.splits.values()])
    assert len(values) == len(runs["run"])
    for split in data.splits.values():
        assert (split.meta["step"] >= split.lookback - 1).all()
        rows = np.array([first_row[run] for run in split.groups]) + split.meta["step"]
        assert (runs["run"][rows] == split.groups).all()
        expected = np.where(split.meta["step"] >= runs["onset_step"][rows], runs["class"][rows], 0)
        assert (split.targets == expected).all()


def test_fault_is_scaled_by_training_runs_only(prepared):
    train, test = (prepared["fault"].data.splits[part].series.astype(np.float64) for part in ("train", "test"))
    moving = train.std(axis=0) > 0
    assert train.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert train.std(axis=0)[moving] == pytest.approx(1, abs=1e-5)
    assert np.abs(test.std(axis=0)[moving] - 1).max() > 0.005


def test_fault_delay_is_counted_from_the_onset_and_unnoticed_is_four_hours():
    import seqbench.tasks.fault as module

    from seqbench import Truth

    steps = np.tile(np.arange(20, 160), 2)
    onset = np.repeat([40, 60], 140)
    targets = np.where(steps >= onset, 5, 0)
    truth = Truth(targets, np.repeat([0, 1], 140), {"step": steps, "onset": onset, "threshold": np.full(280, 0.5)})
    predictions = np.zeros((280, 21))
    predictions[:, 0] = 1.0
    predictions[np.flatnonzero((truth.groups == 0) & (steps == 47))] = np.eye(21)[5]
    found = module.score(predictions, truth)
    assert found["detected"] == 0.5 and found["delay"] == (7 * 3 + 240) / 2 and found["false_alarms"] == 0.0
    predictions[np.flatnonzero((truth.groups == 1) & (steps == 30))] = np.eye(21)[5]  # before the onset: a false alarm
    after = module.score(predictions, truth)
    assert after["detected"] == 0.5 and after["false_alarms"] == pytest.approx(1 / (targets == 0).sum())


def test_fault_the_threshold_comes_from_validation(prepared):
    spec, data = prepared["fault"].spec, prepared["fault"].data
    rng = np.random.default_rng(0)
    noise = rng.dirichlet(np.ones(21), len(data.val))
    constants = spec.calibrated(noise, data.val.truth())
    alarms = spec.score(noise, data.val.truth().with_constants(constants))["false_alarms"]
    assert alarms == pytest.approx(0.001, abs=3e-4)
    scores = fit_baselines(prepared["fault"])
    for name in ("pca-monitor", "lda", "window-logistic"):
        assert scores[name]["val"]["false_alarms"] == pytest.approx(0.001, abs=3e-4)


def test_fault_the_hidden_three_are_hard_and_others_are_not(prepared):
    scores = {name: parts["test"] for name, parts in fit_baselines(prepared["fault"]).items()}
    for name in ("lda", "window-logistic"):
        assert min(scores[name][f"recall_{disturbance}"] for disturbance in (1, 2, 6, 7, 14)) > 0.8
        assert scores[name]["recall_15"] < 0.1  # which nothing finds
        assert scores[name]["macro_f1_detectable"] > scores[name]["macro_f1"]
    assert max(scores["lda"][f"recall_{disturbance}"] for disturbance in (3, 9)) < 0.1


def test_fault_readings_do_not_tell_how_late_it_is(prepared):
    """Disturbances come late in a run: a drift that all runs share would give them away. Normal runs have none."""
    from sklearn.linear_model import Ridge

    from seqbench.baselines.windows import statistics

    def normal(split):
        rows = np.flatnonzero(split.meta["onset"] >= 160)
        return statistics(split, rows), split.meta["step"][rows]

    data = prepared["fault"].data
    inputs, steps = normal(data.train)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    clock = Ridge(10).fit((inputs - mean) / deviation, steps)
    held, truth = normal(data.test)
    error = clock.predict((held - mean) / deviation) - truth
    assert 1 - np.mean(error**2) / truth.var() < 0.1


def test_metrics_of_each_task_are_those_that_its_score_gives(prepared):
    for name in ("fault", "sentiment", "stock"):
        spec, truth = prepared[name].spec, prepared[name].data.val.truth()
        shape = (len(truth), len(prepared[name].data.classes)) if spec.kind == "classify" else truth.targets.shape
        assert set(spec.score(np.full(shape, 0.1), truth)) == {metric.name for metric in spec.metrics}
    assert dataclasses.replace(Source(), name="hub").files == {}

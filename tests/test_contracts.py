"""The honesty rules, over every registered task, and the same rules checked independently on each built-in one."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqbench import Rows, Stream, Windows
from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.models.backbone import build
from seqbench.plan import plan
from seqbench.prepare import fit_baselines, prepare
from seqbench.registry import BASELINES, HEADS, TASKS
from seqbench.result import primary_interval
from seqbench.stats import jackknife_interval
from seqbench.task import BUDGETS, Budget, parse_options
from seqbench.train import evaluate, fit

BUILT_IN = ["dna", "textgen", "weather"]
TABLE = Path(__file__).resolve().parents[1] / "tasks" / "data" / "weather.parquet"
ALL = [*BUILT_IN, "toy-first", "toy-text", "toy-wave"]


@pytest.fixture(scope="module")
def prepared():
    return {name: prepare(name, {}) for name in ALL}


def test_the_three_tasks_are_registered():
    assert set(BUILT_IN) <= set(TASKS.names())


@pytest.mark.parametrize("name", ALL)
def test_a_task_describes_itself(name):
    spec = TASKS.get(name)
    assert spec.kind in HEADS.names() and set(BUDGETS) == set(spec.budgets)
    assert all(BASELINES.get(baseline).kind == spec.kind for baseline in spec.baselines)
    assert spec.description and spec.citation and spec.licence and spec.split and spec.version >= 1
    steps = [spec.budgets[budget].steps for budget in BUDGETS]
    assert steps == sorted(steps)


@pytest.mark.parametrize("name", ALL)
def test_the_data_fits_its_description(prepared, name):
    data, spec = prepared[name].data, prepared[name].spec
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in data.sources.values())
    for split in data.splits.values():
        batch = split[np.arange(min(64, len(split)))]
        assert np.isfinite(batch.inputs).all() and np.isfinite(batch.targets).all()
        if data.vocabulary:
            assert batch.inputs.max() < len(data.vocabulary)
        else:
            assert batch.inputs.shape[2] == len(data.features)
        if spec.kind == "classify":
            assert set(np.unique(split.truth().targets)) == set(range(len(data.classes)))
        truth = split.truth()
        assert len(truth) == len(truth.groups) and all(len(rows) == len(truth) for rows in truth.meta.values())


@pytest.mark.parametrize("name", ALL)
def test_loading_twice_gives_the_same_data(name):
    spec = TASKS.get(name)
    first, second = (spec.load("embedded", parse_options(spec, {})) for _ in range(2))
    for part in first.splits:
        for field, array in first.splits[part].arrays().items():
            assert np.array_equal(array, second.splits[part].arrays()[field])


@pytest.mark.parametrize("name", ["dna", "weather"])
def test_groups_stay_in_one_split(prepared, name):
    groups = [set(split.truth().groups.tolist()) for split in prepared[name].data.splits.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


@pytest.mark.parametrize("name", ALL)
def test_scoring_drops_nothing_and_perfect_predictions_are_perfect(prepared, name):
    spec, test = prepared[name].spec, prepared[name].data.test
    truth = test.truth()
    if spec.kind == "classify":
        best = np.eye(len(prepared[name].data.classes))[truth.targets]
    else:
        best = truth.targets if spec.kind == "forecast" else np.zeros(len(truth))
    assert spec.score(best, truth)[spec.primary.name] == pytest.approx(spec.perfect)
    assert test.n_scored == (truth.targets.sum() if isinstance(test, Stream) else len(truth))
    assert set(spec.score(best, truth)) == {metric.name for metric in spec.metrics}


@pytest.mark.parametrize("name", ALL)
def test_the_score_does_not_depend_on_the_order_of_the_examples(prepared, name):
    spec, truth = prepared[name].spec, prepared[name].data.test.truth()
    rng = np.random.default_rng(0)
    shape = (len(truth), len(prepared[name].data.classes)) if spec.kind == "classify" else truth.targets.shape
    predictions, order = rng.random(shape), rng.permutation(len(truth))
    before, after = spec.score(predictions, truth), spec.score(predictions[order], truth[order])
    assert after == pytest.approx(before)


@pytest.mark.parametrize("name", ALL)
def test_every_baseline_is_scored_and_beats_or_is_the_reference_somewhere(prepared, name):
    spec = prepared[name].spec
    values = {key: scores["test"][spec.primary.name] for key, scores in fit_baselines(prepared[name]).items()}
    assert set(values) == set(spec.baselines) and all(np.isfinite(list(values.values())))
    assert any(spec.primary.better(value, values[spec.reference]) for value in values.values()) or len(values) == 1


def best_constant(spec, truth):
    """The score of the constant that does best on the very split it is scored on, and its interval: no honest
    predictor that knows nothing of the inputs can be expected to beat it."""
    if spec.kind == "classify":
        shares = np.bincount(truth.targets) / len(truth)
        constant = np.tile(shares, (len(truth), 1))
    elif spec.kind == "forecast":
        constant = np.broadcast_to(truth.targets.mean(axis=0), truth.targets.shape)
    else:
        raise AssertionError(spec.kind)
    return jackknife_interval(lambda kept: spec.score(constant[kept], truth[kept])[spec.primary.name], truth.groups)


def best_constant_of_text(data):
    """Entropy of the test text's own symbol frequencies, block by block."""
    tokens = data.test.tokens[1:]
    shares = np.bincount(tokens, minlength=len(data.vocabulary)) / len(tokens)
    bits = -np.log2(np.where(shares > 0, shares, 1.0))[tokens]
    groups = np.arange(len(tokens)) // 2048
    return jackknife_interval(lambda kept: float(bits[kept].mean()), groups)


# steps, learning rate and width with which a GRU learns something of the true targets within seconds; not toy-first: of
# its inputs only the first symbol matters, and a guess for each of three symbols is right by luck too often
CONTROLS = {
    "dna": (250, 1e-2, 32),
    "textgen": (150, 1e-2, 32),
    "weather": (200, 1e-2, 16),
    "toy-text": (150, 1e-2, 16),
    "toy-wave": (150, 1e-2, 16),
}


def trained_score(name, control):
    """Test score of a small GRU after a few steps on true or on permuted targets."""
    steps, rate, width = CONTROLS[name]
    option = ("sequence_length=40",) if name == "dna" else ()
    planned = plan(
        RunConfig(task=name, model="gru", hidden=width, learning_rate=rate, dropout=0, control=control, option=option)
    )
    spec, data = planned.prepared.spec, planned.data
    with settings(planned.device, planned.config):
        model = build("gru", spec.kind, data, (width,))
        fit(model, spec, data, planned.config, Budget(steps, 64, 1))
        return evaluate(model, spec, data.test, planned.config)[spec.primary.name], data


@pytest.mark.parametrize("name", CONTROLS)
def test_permuted_targets_teach_nothing_where_true_ones_teach_something(name):
    """The control itself is under test: with true targets the same training does beat the best constant."""
    spec = TASKS.get(name)
    beats = {}
    for control in ("none", "shuffle-labels"):
        value, data = trained_score(name, control)
        constant = best_constant_of_text(data) if spec.kind == "generate" else best_constant(spec, data.test.truth())
        beats[control] = value > constant.high if spec.primary.direction == "higher" else value < constant.low
    assert beats == {"none": True, "shuffle-labels": False}


# dna ------------------------------------------------------------------------------------------------------------------


def letters(rows):
    return ["".join("ACGT"[base] for base in row) for row in rows]


def test_dna_shares_no_core_with_training_on_any_window():
    """Honesty rule 3 with plain strings, on the full windows of 400 bases."""
    data = prepare("dna", {"sequence_length": 400}).data
    training = letters(data.train.inputs)
    for part in ("val", "test"):
        cores = {text[190:210] for text in letters(data.splits[part].inputs)}
        assert not any(text[at : at + 20] in cores for text in training for at in range(381))


def test_dna_crops_keep_the_site_in_the_middle(prepared):
    short, long = prepared["dna"].data, prepare("dna", {"sequence_length": 400}).data
    assert np.array_equal(short.test.inputs, long.test.inputs[:, 160:240])
    middle = [text[39:41] for text in letters(short.train.inputs)]
    found = {
        label: {pair for pair, target in zip(middle, short.train.targets, strict=True) if target == i}
        for i, label in enumerate(short.classes)
    }
    assert found == {"donor": {"GT"}, "acceptor": {"AG"}, "neither": {"GT", "AG"}}


def test_dna_has_decoys_of_both_kinds_alike_in_every_split(prepared):
    for split in prepared["dna"].data.splits.values():
        shares = np.bincount(split.targets) / len(split)
        assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


# weather --------------------------------------------------------------------------------------------------------------


def weather_with(monkeypatch, change):
    """The weather task's data with ``change`` made to the shipped table."""
    spec = TASKS.get("weather")
    read = pd.read_parquet
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_parquet", lambda path: change(read(path)))
        return spec.load("embedded", parse_options(spec, {}))


@pytest.mark.parametrize("since", ["2013-09-11", "2013-11-06"])
def test_weather_training_knows_nothing_of_what_comes_later(monkeypatch, prepared, since):
    """Scrambling everything after a border changes no array before it: scales and fillings come from the past."""

    def scramble(table):
        later = table["time"] >= pd.Timestamp(since, tz="UTC")
        table.loc[later, ["temp", "dewp", "humid", "pressure", "wind_speed"]] *= 0.5
        return table

    changed = weather_with(monkeypatch, scramble)
    parts = ("train",) if since == "2013-09-11" else ("train", "val")
    for part in parts:
        for field, array in prepared["weather"].data.splits[part].arrays().items():
            assert np.array_equal(array, changed.splits[part].arrays()[field]), (part, field)
    assert not np.array_equal(prepared["weather"].data.test.series, changed.test.series)


def test_weather_inputs_hold_nothing_from_later_hours():
    """Changing one hour's report changes no input row of an earlier hour."""
    moment = pd.Timestamp("2013-03-05 12:00", tz="UTC")

    def change(table):
        at = (table["time"] == moment) & (table["origin"] == "EWR")
        table.loc[at, ["temp", "pressure"]] = np.nan
        return table

    from seqbench.tasks.weather import featurise, read_airport

    table = pd.read_parquet(TABLE)
    before, after = (featurise(read_airport(rows, "EWR"), "EWR") for rows in (table, change(table.copy())))
    index = int((moment - table["time"].min()).total_seconds() // 3600)
    assert np.flatnonzero((before != after).any(axis=1)).min() == index


def test_weather_windows_have_real_targets_and_stay_inside_their_airport(prepared):
    data = prepared["weather"].data
    for split in data.splits.values():
        assert isinstance(split, Windows)
        length = len(split.series) // 3
        last = split.starts + split.lookback + split.horizon - 1
        assert (split.starts // length == last // length).all()
        flags = split.series[:, data.features.index("no_report")]
        at = split.starts[:, None] + split.lookback + np.arange(split.horizon)
        assert len(np.unique(flags[at])) == 1  # every target hour has a report


def test_weather_is_in_celsius(prepared):
    """Persistence one hour ahead errs by what it does in the raw table."""
    scores = fit_baselines(prepared["weather"])["persistence"]["test"]
    table = pd.read_parquet(TABLE)
    late = table[table["time"] >= pd.Timestamp("2013-11-05", tz="UTC")]
    steps = late.sort_values(["origin", "time"]).groupby("origin")["temp"].diff().dropna() / 1.8
    assert scores["rmse_1h"] == pytest.approx(np.sqrt((steps**2).mean()), rel=0.05)


def test_weather_folds_move_back_in_time():
    ends = [prepare("weather", {"fold": fold}).data.test.meta["hour"].size for fold in (0, 1)]
    notes = [prepare("weather", {"fold": fold}).data.notes[0] for fold in (0, 1)]
    assert min(ends) > 3000 and notes[0] != notes[1] and "to 2013-11-04" in notes[1]


# textgen --------------------------------------------------------------------------------------------------------------


def test_textgen_splits_are_contiguous_and_in_order(prepared):
    from seqbench.tasks.textgen import read_text

    data = prepared["textgen"].data
    text = "".join(data.vocabulary[token] for split in data.splits.values() for token in split.tokens)
    assert text == read_text()
    assert len(data.train.tokens) == int(0.9 * len(text))


def test_textgen_takes_its_vocabulary_from_training_only(monkeypatch):
    import seqbench.tasks.textgen as module

    text = "abc " * 500
    monkeypatch.setattr(module, "read_text", lambda: text[:1900] + "z" * 100)
    data = module.load("embedded", module.Options(sequence_length=16))
    assert data.vocabulary == ("�", " ", "a", "b", "c")
    assert (data.test.tokens == 0).all() and "100 test characters" in data.notes[0]


def test_every_split_kind_is_covered(prepared):
    assert {type(prepared[name].data.train) for name in BUILT_IN} == {Rows, Stream, Windows}


def test_intervals_of_real_tasks_can_be_told(prepared):
    spec, truth = prepared["dna"].spec, prepared["dna"].data.test.truth()
    uniform = np.tile([0.3, 0.3, 0.4], (len(truth), 1))
    found = primary_interval(spec, uniform, truth)
    assert found.low < found.value < found.high < 0.6

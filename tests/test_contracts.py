"""The honesty rules, over every registered task, and the same rules checked independently on each built-in one."""

import re

import numpy as np
import pytest

from seqbench import Ragged, Rows, Segments, Source, Stream, Windows
from seqbench.baselines import BASELINES
from seqbench.cli.run import metric_interval
from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import resolve
from seqbench.models.backbone import build, shape_of
from seqbench.models.heads import HEADS
from seqbench.prepare import fit_baselines, prepare
from seqbench.stats import jackknife_interval
from seqbench.task import BUDGETS, TASKS, Budget, parse_options
from seqbench.training import evaluate, fit

BUILT_IN = ["dna", "fault", "sentiment", "stock", "textgen", "weather"]
ALL = [*BUILT_IN, "toy-first", "toy-text", "toy-wave"]


@pytest.fixture(scope="module")
def prepared():
    return {name: prepare(name, {}) for name in ALL}


def test_the_six_tasks_are_registered():
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
    first, second = (spec.load(Source(), parse_options(spec, {})) for _ in range(2))
    for part in first.splits:
        for field, array in first.splits[part].arrays().items():
            assert np.array_equal(array, second.splits[part].arrays()[field])


@pytest.mark.parametrize("name", ["dna", "fault", "sentiment", "stock", "weather"])
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
    assert spec.score(best, truth)[spec.primary.name] == pytest.approx(spec.perfect, abs=1e-6)
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
    spec, scores = prepared[name].spec, fit_baselines(prepared[name])
    values = {key: parts["test"][spec.primary.name] for key, parts in scores.items()}
    reference = values[spec.reference_of(scores)]
    assert set(values) == set(spec.baselines) and all(np.isfinite(list(values.values())))
    assert any(spec.primary.better(value, reference) for value in values.values()) or len(values) == 1


def control_metric(spec):
    """Macro-F1 punishes a constant more than a guess at random, so a control looks at the accuracy."""
    return "accuracy" if spec.primary.name == "macro_f1" else spec.primary.name


def best_constant(spec, split):
    """The score of the constant that does best on the very split it is scored on, and its interval: no honest
    predictor that knows nothing of the inputs can be expected to beat it. Where forecasts are relative to the last
    value, it is a constant change from there."""
    truth = split.truth()
    if spec.kind == "classify":
        shares = np.bincount(truth.targets) / len(truth)
        constant = np.tile(shares, (len(truth), 1))
    elif spec.kind == "forecast":
        known = split.last if split.relative else 0.0
        constant = known + np.broadcast_to((truth.targets - known).mean(axis=0), truth.targets.shape)
    else:
        raise AssertionError(spec.kind)
    metric = control_metric(spec)
    return jackknife_interval(lambda kept: spec.score(constant[kept], truth[kept])[metric], truth.groups)


def best_constant_of_text(data):
    """Entropy of the test text's own symbol frequencies, block by block."""
    tokens = data.test.tokens[1:]
    shares = np.bincount(tokens, minlength=len(data.vocabulary)) / len(tokens)
    bits = -np.log2(np.where(shares > 0, shares, 1.0))[tokens]
    groups = np.arange(len(tokens)) // 2048
    return jackknife_interval(lambda kept: float(bits[kept].mean()), groups)


# steps, learning rate and width with which a GRU learns something of the true targets within seconds; not toy-first: of
# its inputs only the first symbol matters, and a guess for each of three symbols is right by luck too often; not stock:
# its true targets teach nothing either, which is the point of it
CONTROLS = {
    "fault": (150, 1e-2, 32),
    "sentiment": (150, 1e-2, 32),
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
    planned = resolve(
        RunConfig(task=name, model="gru", hidden=width, learning_rate=rate, dropout=0, control=control, option=option)
    )
    spec, data = planned.prepared.spec, planned.data
    with settings(planned.device, planned.config):
        model = build("gru", spec.kind, shape_of(spec.kind, data), (width,))
        fit(model, spec, data, planned.config, Budget(steps, 64, 1))
        return evaluate(model, spec, data.test, planned.config)[control_metric(spec)], data


@pytest.mark.parametrize("name", CONTROLS)
def test_permuted_targets_teach_nothing_where_true_ones_teach_something(name):
    """The control itself is under test: with true targets the same training does beat the best constant."""
    spec = TASKS.get(name)
    beats = {}
    for control in ("none", "shuffle-labels"):
        value, data = trained_score(name, control)
        constant = best_constant_of_text(data) if spec.kind == "generate" else best_constant(spec, data.test)
        beats[control] = value > constant.high if spec.primary.direction == "higher" else value < constant.low
    assert beats == {"none": True, "shuffle-labels": False}


def test_every_split_kind_is_covered(prepared):
    assert {type(prepared[name].data.train) for name in BUILT_IN} == {Ragged, Rows, Segments, Stream, Windows}


def test_intervals_of_real_tasks_can_be_told(prepared):
    spec, truth = prepared["dna"].spec, prepared["dna"].data.test.truth()
    uniform = np.tile([0.3, 0.3, 0.4], (len(truth), 1))
    found = metric_interval(spec, spec.primary.name, uniform, truth)
    assert found.low < found.value < found.high < 0.6

"""The honesty rules, over every registered task, and the same rules checked independently on each built-in one."""

import numpy as np
import pytest

from seqbench import Pairs, Ragged, RaggedTags, Rows, Segments, Stream, Windows
from seqbench.checks import Broken, NotChecked, checks_of
from seqbench.checks.tasks import Subject
from seqbench.cli.run import metric_interval
from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import resolve
from seqbench.models.backbone import build, shape_of
from seqbench.prepare import prepare
from seqbench.stats import jackknife_interval
from seqbench.task import TASKS, Budget
from seqbench.training import evaluate, fit

BUILT_IN = ["dna", "fault", "protein", "sentiment", "stock", "textgen", "translation", "weather"]
FORMS = {"textgen in words": ("textgen", {"unit": "word"})}  # tasks with options that change what is measured
ALL = [*BUILT_IN, "toy-first", "toy-pairs", "toy-text", "toy-wave", *FORMS]


@pytest.fixture(scope="module")
def prepared():
    return {name: prepare(*FORMS.get(name, (name, {}))) for name in ALL}


def test_the_tasks_are_registered():
    assert set(BUILT_IN) <= set(TASKS.names())


@pytest.fixture(scope="module")
def subjects(prepared):
    """What the checks look at: the data as it comes out of the cache."""
    made = {name: Subject(*FORMS.get(name, (name,))) for name in ALL}
    for name, subject in made.items():
        subject.prepared, subject.data = prepared[name], prepared[name].data
    return made


def test_every_form_of_a_built_in_task_is_among_them():
    forms = {(name, option, value) for name in BUILT_IN for option, values in TASKS.get(name).forms.items()
             for value in values}  # fmt: skip
    assert forms == {(name, *pair) for name, given in FORMS.values() for pair in given.items()}


# rules that a task does not keep, and why
SPARED = {
    **{(toy, "groups"): "its splits number their groups anew" for toy in ("toy-first", "toy-wave")},
    ("toy-first", "no overlap"): "there are only so many sequences of three symbols",
    ("toy-text", "no overlap"): "there are only so many texts of three words",
}
CHECKS = [
    check for check in checks_of("task") if check.name not in ("loading", "cache", "training")
]  # others' tests do


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", ALL)
def test_a_task_keeps_the_rule(subjects, name, check):
    """The checks that `check FILE.py` makes of a user's task."""
    try:
        check.run(subjects[name])
    except NotChecked:
        return
    except Broken:
        assert (name, check.name) in SPARED
        return
    assert (name, check.name) not in SPARED


@pytest.mark.parametrize("name", ALL)
def test_some_naive_row_beats_or_is_the_reference(subjects, name):
    """Beyond the check, which a user's task with one simple row passes."""
    spec, scores = subjects[name].spec, subjects[name].baselines
    values = {key: parts["test"][spec.primary.name] for key, parts in scores.items()}
    reference = values[spec.reference_of(scores)]
    assert set(values) == set(spec.baselines)
    assert any(spec.primary.better(value, reference) for value in values.values()) or len(values) == 1


def control_metric(spec):
    """Macro-F1 punishes a constant more than a guess at random, so a control looks at the accuracy."""
    return "accuracy" if spec.primary.name == "macro_f1" else spec.primary.name


def best_constant(spec, split):
    """The score of the constant that does best on the very split it is scored on, and its interval: no honest
    predictor that knows nothing of the inputs can be expected to beat it. Where forecasts are relative to the last
    value, it is a constant change from there."""
    truth = split.truth()
    if spec.kind in ("classify", "tag"):
        shares = np.bincount(truth.targets) / len(truth)
        constant = np.tile(shares, (len(truth), 1))
    elif spec.kind == "forecast":
        known = split.last if split.relative else 0.0
        constant = known + np.broadcast_to((truth.targets - known).mean(axis=0), truth.targets.shape)
    elif spec.kind == "translate":
        some = [np.broadcast_to(row, truth.targets.shape) for row in truth.targets[:: len(truth) // 20]]
        constant = max(some, key=lambda rows: spec.score(rows, truth)[spec.primary.name])
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
# its true targets teach nothing either, which is the point of it; not protein: two of its classes are nearly equally
# frequent, so that which of them is guessed is a matter of luck (tests/test_protein.py looks at probabilities); not
# translation, which takes minutes
CONTROLS = {
    "fault": (150, 1e-2, 32),
    "sentiment": (150, 1e-2, 32),
    "dna": (250, 1e-2, 32),
    "textgen": (150, 1e-2, 32),
    "weather": (200, 1e-2, 16),
    "toy-pairs": (200, 1e-2, 48),
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
    assert {type(prepared[name].data.train) for name in BUILT_IN} == {
        Pairs,
        Ragged,
        RaggedTags,
        Rows,
        Segments,
        Stream,
        Windows,
    }


def test_intervals_of_real_tasks_can_be_told(prepared):
    spec, truth = prepared["dna"].spec, prepared["dna"].data.test.truth()
    uniform = np.tile([0.3, 0.3, 0.4], (len(truth), 1))
    found = metric_interval(spec, spec.primary.name, uniform, truth)
    assert found.low < found.value < found.high < 0.6

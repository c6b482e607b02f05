"""What is told of gradients over distance: curves summed up by hand, seeds taken together, whole runs."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from gradient_cases import CAUSAL, PROBE, measured, plan
from scipy import stats as reference

from seqbench.errors import NotApplicable, UserError
from seqbench.probes import Measured, ProbeSpec
from seqbench.probes.gradient import (
    BUDGETS,
    GradientResult,
    InputCurve,
    RecallScores,
    behaviour,
    jacobians,
    line,
    lyapunov,
    summaries,
)
from seqbench.report.draw import draw
from seqbench.stats import over_seeds

# --- summaries of curves and seeds, by hand ---


def test_explosion_fall_and_medians_by_hand():
    # four samples, T = 3: norms 1, then 1 2 4 8, then 10 times more, 10.1 times more, equal, zero
    logs = np.log(np.array([[1, 1, 1, 1], [1, 2, 4, 8], [10, 20.2, 4, 0.5]]))
    found = jacobians({3: logs}, None)
    assert found.explosion == (0.0, 0.0, 0.25)
    assert found.input.log_norm == pytest.approx([0, math.log(8) / 2, math.log(40) / 2], abs=1e-4)
    assert found.slope == pytest.approx(math.log(5) / 2, abs=1e-6)
    assert found.fall == pytest.approx(-math.log10(5) / 2, abs=1e-6)
    assert (found.fall_at, found.half_life) == (2, None)
    logs[2, 2:] = -math.inf  # the median lies between something and nothing
    assert jacobians({3: logs}, None).input.log_norm[2] is None


def test_slopes_stop_before_the_first_gap():
    curve = np.array([9.0, 5.0, 4.0, 3.0, -math.inf, 7.0])
    assert line(curve, 100) == (pytest.approx(-1.0), (1, 3))
    assert line(curve, 2) == (pytest.approx(-1.0), (1, 2))
    assert line(curve[:2], 100) == (None, None)
    assert line(np.array([0.0, -math.inf, 1.0]), 100) == (None, None)


def test_the_lyapunov_exponent_is_of_the_middle_half_and_the_median_sample():
    growth = np.full((40, 3), 5.0)
    growth[11:31] = [-1.0, -0.5, 3.0]
    assert lyapunov(growth.cumsum(axis=0)) == -0.5


def test_curves_of_long_sequences_are_thinned_in_the_record_only():
    logs = np.linspace(0, -5, 3000)[:, None].repeat(2, axis=1)
    found = jacobians({3000: logs}, logs)
    assert found.k[:256] == tuple(range(256)) and found.k[-1] == 2999 and len(found.k) == 512
    assert found.input.log_norm[-1] == -5.0
    assert found.slope == pytest.approx(-5 / 2999, abs=1e-6)
    noise = np.random.default_rng(0).normal(-100, 100, size=(3000, 2))
    assert len(json.dumps(asdict(jacobians({3000: noise}, noise)))) < 30_000


def found_of(slopes, falls, trained=None, when="start"):
    start, taught = plan(["rnn"], budget="quick", seeds=len(slopes))[:2]
    spec = taught if when == "trained" else start
    curves = jacobians({200: np.zeros((200, 2))}, None)
    known = replace(curves, slope_far_range=(1, 199), explosion_most=0.5)
    return [
        Measured(
            replace(spec, seed=seed),
            GradientResult(
                **vars(replace(known, slope=slope, slope_far=slope, fall=fall)),
                when=when, initialisation="default", samples=2, length=200, width=8, params=100, state_reason=None,
                trained=trained,
            ),
            None,
        )
        for seed, (slope, fall) in enumerate(zip(slopes, falls, strict=True))
    ]  # fmt: skip


def test_seeds_are_taken_together_with_students_interval():
    slopes = [-0.31, -0.12, -0.55, -0.40, -0.02]
    (row,) = summaries(found_of(slopes, [4.0] * 5))
    textbook = reference.ttest_1samp(slopes, 0)
    assert row.slope.value == pytest.approx(-0.28)
    assert row.slope[1:] == pytest.approx(tuple(textbook.confidence_interval(0.95)))
    assert row.half_life.value == pytest.approx(math.log(2) / 0.28)
    assert row.half_life.low == pytest.approx(math.log(2) / -row.slope.low)
    assert row.fall == (4.0, 4.0, 4.0)
    assert row.explosion.value == 0.5
    # a seed without a figure leaves no mean; one seed leaves no interval
    assert math.isnan(row.lyapunov.value) and math.isnan(over_seeds([1.0, None, 2.0]).value)
    assert over_seeds([1.0])[0] == 1.0 and math.isnan(over_seeds([1.0]).low)
    both = [*found_of(slopes, [4.0] * 5), *found_of(slopes, [4.0] * 5, when="trained")]
    assert [(row.setting.when, len(row.measured)) for row in summaries(both)] == [("start", 5), ("trained", 5)]


@pytest.mark.parametrize(
    ("slopes", "falls", "word"),
    [
        ([-0.1, -0.11, -0.12], [4.0, 4.2, 4.1], "vanishes"),
        ([-0.1, -0.11, -0.12], [2.0, 4.2, 4.1], "in between"),  # one seed's fall leaves 1,000-fold in doubt
        ([-0.1, 0.05, -0.12], [4.0, 4.2, 4.1], "in between"),
        ([0.1, 0.11, 0.12], [-4.0, -4.2, -4.1], "explodes"),
        ([0.1, 0.11, 0.12], [4.0, 4.2, 4.1], "in between"),
        ([0.0018, 0.0019, 0.0020], [0.1, 0.1, 0.1], "neither"),
        ([0.0023, 0.0024, 0.0025], [0.1, 0.1, 0.1], "in between"),  # ln 10 / 1000 = 0.0023
        ([0.0], [0.0], "unknown"),
    ],
)
def test_behaviour_by_the_rule(slopes, falls, word):
    assert behaviour(summaries(found_of(slopes, falls))[0]) == word


def test_a_net_that_answers_right_though_its_gradient_vanished_is_told_of():
    well = RecallScores(40, 40, 0.99, 0.98)
    text = PROBE.table(found_of([-0.2, -0.21], [7.0, 7.0], well, when="trained"))
    assert "Vanishing is not forgetting: rnn scores 0.98 on recall over 200 steps, with |J| down 10^7-fold" in text
    for falls, score in (([2.0, 2.0], 0.98), ([7.0, 7.0], 0.5)):
        text = PROBE.table(
            found_of([-0.2, -0.21], falls, replace(well, score_at_measured_length=score), when="trained")
        )
        assert "not forgetting" not in text


# --- what is planned, and whole runs ---


def test_specs_have_seeds_outermost_and_one_for_a_model_that_sees_the_future():
    specs = plan(["bilstm", "rnn"], seeds=2, initialisation="all")
    told = [(s.seed, s.models[0], s.options["initialisation"], s.options["when"]) for s in specs]
    rnn = [("rnn", name, when) for name in ("default", "orthogonal", "orthogonal-1.5") for when in ("start", "trained")]
    assert told == [(0, "bilstm", "default", "start"), *((seed, *one) for seed in (0, 1) for one in rnn)]
    with pytest.raises(NotApplicable, match="sees later steps"):
        measured(specs[0])


def test_specs_hold_all_that_decides_the_result():
    start, trained = plan(["lstm"], budget="quick", seeds=1)
    assert start.options == {
        "when": "start", "initialisation": "forget-bias-1", "hidden": 64, "layers": 1, "backbone": "bare",
        "length": 200, "samples": 16, "stages": [], "steps": 0,
    }  # fmt: skip
    assert trained.options == {**start.options, "when": "trained", "stages": [5, 10, 20, 40], "steps": 300}
    assert ProbeSpec.from_json(json.loads(json.dumps(trained.to_json()))) == trained
    assert len(plan(["lstm"], budget="quick")) == 2 * BUDGETS["quick"].seeds


def test_initialisations_are_taken_by_name_where_a_model_has_them():
    names = "orthogonal, forget-bias-3"
    found = [
        (spec.models[0], spec.options["initialisation"]) for spec in plan(CAUSAL, when="start", initialisation=names)
    ]
    assert found == [("lstm", "forget-bias-3"), ("rnn", "orthogonal")]
    both = [spec.options["initialisation"] for spec in plan(["rnn"], when="start", initialisation="default,orthogonal")]
    assert both == ["default", "orthogonal"]
    with pytest.raises(UserError, match="did you mean orthogonal"):
        plan(["rnn"], initialisation="orthogonl")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0}, "--length 0 is out of range: take 2 to"),
        ({"length": 1}, "--length 1 is out of range: take 2 to"),
        ({"length": 10_000_000}, "the largest that fits is"),
        ({"hidden": 12}, "must be a multiple of 8"),
        ({"hidden": 0}, "--hidden 0 is out of range"),
        ({"samples": 0}, "--samples 0 is out of range"),
        ({"layers": 0}, "--layers 0 is out of range"),
        ({"initialisation": ""}, "--initialisation is empty"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_work(options, sentence):
    with pytest.raises(UserError, match=sentence):
        plan(["transformer"], **options)


def test_all_models_run_and_again_give_the_same(tmp_path):
    specs = plan(CAUSAL)
    found = [measured(spec) for spec in specs]
    assert all(json.dumps(asdict(one.result), allow_nan=False) for one in found)
    assert measured(specs[3]).result == found[3].result
    for one in found:
        trained = one.result.trained
        assert (trained is None) == (one.spec.options["when"] == "start")
        if trained is not None:
            assert trained.length == 5
            assert trained.score > trained.score_at_measured_length >= -0.2
    before, after = (one.result.input.log_norm for one in found[:2])
    assert before != after
    text = PROBE.table(found)
    assert all(f"| {model}" in text for model in CAUSAL)
    chart = PROBE.chart(found)
    assert [[panel.title.partition(":")[0] for panel in column] for column in chart.columns] == [
        [when, "State Jacobian S_k = ds_T / ds_(T-k)", "Jacobian of the first input"]
        for when in ("At the start", "After training on recall in stages")
    ]
    assert sum("Recall over 32 steps" in note for note in chart.notes) == 1
    assert [len(column) for column in PROBE.chart(found[6:]).columns] == [2, 2]  # the transformer has no state
    for name in ("g.png", "g.svg"):
        assert draw(chart, tmp_path / name).stat().st_size > 10_000


def test_a_line_that_leaves_the_picture_says_where_it_goes():
    found = found_of([-1.0], [40.0])
    result = replace(found[0].result, input=InputCurve(*[tuple(-float(k) for k in range(200))] * 3))
    panel = PROBE.chart([replace(found[0], result=result)]).panels[0]
    assert panel.note == "rnn goes on to 10^-86 at k = 199"
    assert panel.y.limits == (-16.0, 1.5)


def test_a_stacked_residual_net_and_other_starts_run():
    found = [
        measured(spec)
        for spec in plan(["lstm", "transformer"], when="start", layers=2, backbone="residual", initialisation="all")
    ]
    assert len(found) == 4
    assert len({one.result.slope for one in found}) == 4
    assert found[0].result.state.log_norm[0] == pytest.approx(math.log(2 * 2 * 16) / 2, abs=1e-4)

"""Gradients over distance: against finite differences, against autograd's own Jacobians, and where theory knows them.

A linear recurrence h_t = A h_(t-1) + x_t with A = a times a rotation has J_k = A^k: its norm is a^k sqrt(H) exactly, so
its slope and its Lyapunov exponent are ln a, and its half-life is ln 2 / -ln a.
"""

import copy
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats as reference

from seqbench.device import settings
from seqbench.errors import NotApplicable, UserError
from seqbench.models.mixer import Mixer, register_model
from seqbench.plan import Listener
from seqbench.probes import Case, Found, Request
from seqbench.probes.gradient import BUDGETS, PROBE
from seqbench.probes.gradient_curves import line, lyapunov, summary
from seqbench.probes.gradient_view import behaviour, over_seeds, summaries
from seqbench.probes.jacobian import FLOOR, double_copy, input_log_norms, last_output, no_state, state_log_norms
from seqbench.probes.net import build_net
from seqbench.probes.options import GradientOptions
from seqbench.probes.problems import Recall
from seqbench.registry import MODELS

SHAPE = Recall().shape
CAUSAL = ["gru", "lstm", "rnn", "transformer"]
CARRYING = ["gru", "lstm", "rnn"]
STEP = 1e-5  # of central differences


class Linear(Mixer):
    """h_t = A h_(t-1) + x_t, A = ``factor`` times a rotation of each pair of neighbours by an angle of its own."""

    width_multiple = 2
    factor = 1.0

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        angle = torch.arange(1, d_out // 2 + 1, dtype=torch.double)
        blocks = [torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) for a in angle]
        self.matrix = torch.nn.Parameter(self.factor * torch.block_diag(*blocks).double())

    def forward(self, x, lengths=None):
        h, out = self.initial_state(len(x)), []
        for x_t in x.unbind(1):
            h = self.step(x_t, h)[0]
            out.append(h)
        return torch.stack(out, dim=1)

    def state_size(self, length):
        return self.d_out

    def initial_state(self, batch):
        return self.matrix.new_zeros(batch, self.d_out)

    def step(self, x_t, state):
        h = state @ self.matrix.to(x_t.dtype).T + x_t
        return h, h


class Copies(Mixer):
    """y_t = x_t, with a state that it never reads."""

    def forward(self, x, lengths=None):
        return 1.0 * x

    def state_size(self, length):
        return self.d_out

    def initial_state(self, batch):
        return torch.zeros(batch, self.d_out, dtype=torch.double)

    def step(self, x_t, state):
        return 1.0 * x_t, 1.0 * x_t


class Counts(Linear):
    """As `Linear`, but its state is nested and holds a count and a value that is passed on as it is."""

    factor = 0.9

    def state_size(self, length):
        return 2 * self.d_out + 1

    def initial_state(self, batch):
        h = super().initial_state(batch)
        return (h, [torch.zeros(batch, dtype=torch.long), h])

    def step(self, x_t, state):
        h, (count, kept) = state
        y = super().step(x_t, h)[0]
        return y, (y, [count + 1, kept])


FACTORS = {"vanishing": 0.9, "lasting": 1.0, "exploding": 1.1, "dying": 1e-3, "bursting": 1e3}


@pytest.fixture(scope="module", autouse=True)
def models():
    """The hand-made mixers under names, for this file only."""
    before = MODELS._snapshot()
    for name, factor in FACTORS.items():
        register_model(name)(type(name.capitalize(), (Linear,), {"factor": factor}))
    register_model("copies")(Copies)
    register_model("counts")(Counts)
    yield
    MODELS._restore(before)


def made(model, width=8, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_net(model, SHAPE, width, **options)


def tokens(batch, length, seed=1):
    return Recall().draw(batch, length - 1, torch.Generator().manual_seed(seed), "cpu")[0]


def plan(models, budget="smoke", seeds=None, **options):
    return PROBE.cases(Request(budget=budget, seeds=seeds), GradientOptions(**options), models, "cpu")


def measured(case):
    with settings(torch.device("cpu"), case):
        return Found(case, PROBE.measure(case, Listener()), None)


def known(model, **options):
    return measured(plan([model], when="start", **options)[0]).result


# --- the Jacobians are exact ---


@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("model", CAUSAL)
def test_input_jacobians_equal_central_differences(model, backbone):
    net = double_copy(made(model, layers=2, backbone=backbone), "cpu")
    inputs = tokens(batch=3, length=7)
    found = input_log_norms(net, inputs)
    with torch.no_grad():
        embedded = net.embed(inputs)
        expected = torch.zeros(7, 3, dtype=torch.double)
        for t in range(7):
            for d in range(8):
                ends = []
                for sign in (1, -1):
                    moved = embedded.clone()
                    moved[:, t, d] += sign * STEP
                    ends.append(last_output(net, moved))
                expected[6 - t] += ((ends[0] - ends[1]) / (2 * STEP)).square().sum(dim=1)
    assert found.exp().numpy() == pytest.approx(expected.sqrt().numpy(), rel=1e-6)


@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("model", CARRYING)
def test_state_jacobians_equal_central_differences(model, backbone):
    net = double_copy(made(model, layers=2, backbone=backbone), "cpu")
    inputs = tokens(batch=3, length=6)
    found = state_log_norms(net, inputs)

    def flat(state):
        return torch.cat([part for layer in state for part in (layer if isinstance(layer, tuple) else (layer,))], 1)

    def shaped(values):
        parts = iter(values.split(8, dim=1))
        return [(next(parts), next(parts)) if model == "lstm" else next(parts) for _ in range(2)]

    with torch.no_grad():
        states = [net.initial_state(3)]
        for t in range(6):
            states.append(net.step(inputs[:, t], states[-1])[1])
        for k in range(6):
            squares = torch.zeros(3, dtype=torch.double)
            for d in range(flat(states[0]).shape[1]):
                ends = []
                for sign in (1, -1):
                    moved = flat(states[6 - k]).clone()
                    moved[:, d] += sign * STEP
                    state = shaped(moved)
                    for t in range(6 - k, 6):
                        state = net.step(inputs[:, t], state)[1]
                    ends.append(flat(state))
                squares += ((ends[0] - ends[1]) / (2 * STEP)).square().sum(dim=1)
            assert found[k].exp().numpy() == pytest.approx(squares.sqrt().numpy(), rel=1e-6)


@pytest.mark.parametrize("backbone", ["bare", "residual"])
def test_the_last_output_is_what_the_head_reads(backbone):
    net, inputs, read = double_copy(made("gru", backbone=backbone), "cpu"), tokens(batch=3, length=7), []
    net.head.register_forward_pre_hook(lambda head, args: read.append(args[0][:, -1]))
    net(inputs)
    assert last_output(net, net.embed(inputs)).equal(read[0])


@pytest.mark.parametrize("model", CAUSAL)
def test_input_jacobians_equal_autograds_own(model):
    net = double_copy(made(model), "cpu")
    inputs = tokens(batch=2, length=20)
    embedded = net.embed(inputs).detach()
    whole = torch.autograd.functional.jacobian(lambda e: last_output(net, e), embedded)  # (B, H, B, T, D)
    assert not whole[0, :, 1].any() and not whole[1, :, 0].any()
    for b in range(2):
        expected = whole[b, :, b].square().sum(dim=(0, 2)).sqrt().flip(0)
        assert input_log_norms(net, inputs)[:, b].exp().numpy() == pytest.approx(expected.numpy(), rel=1e-10)


def test_norms_of_a_sample_do_not_depend_on_the_others_and_the_net_stays_as_it_was():
    net = made("lstm")
    before, inputs = copy.deepcopy(net.state_dict()), tokens(batch=4, length=12)
    double = double_copy(net, "cpu")
    for norms in (input_log_norms, state_log_norms):
        together = norms(double, inputs)
        alone = torch.cat([norms(double, inputs[i : i + 1]) for i in (3, 1)], dim=1)
        assert together[:, [3, 1]].numpy() == pytest.approx(alone.numpy(), rel=1e-12)
        assert len({round(value, 9) for value in together[5].tolist()}) == 4  # each its own
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(value.dtype == torch.float32 and value.equal(before[name]) for name, value in net.state_dict().items())


def test_a_nested_state_with_a_count_and_a_part_that_stays_is_differentiated_as_one():
    net = double_copy(made("counts"), "cpu")
    assert no_state(net, 10) is None
    k = np.arange(10)
    # 8 numbers shrink by 0.9 a step, 8 stay
    expected = np.log(8 * 0.81**k + 8) / 2
    assert state_log_norms(net, tokens(batch=2, length=10)).numpy() == pytest.approx(np.stack([expected] * 2, 1))


# --- where theory knows the answer ---


@pytest.mark.parametrize(
    ("model", "word"), [("vanishing", "vanishes"), ("exploding", "explodes"), ("lasting", "neither")]
)
def test_a_linear_recurrence_has_the_slope_half_life_and_exponent_of_its_matrix(model, word):
    rate = math.log(FACTORS[model])
    found = [measured(case) for case in plan([model], when="start", hidden=6, length=200, samples=2, seeds=2)]
    assert behaviour(summaries(found)[0]) == word
    result = found[0].result
    assert result["input"]["log_norm"] == pytest.approx([k * rate + math.log(6) / 2 for k in range(200)], abs=1e-3)
    assert result["state"]["log_norm"] == pytest.approx(result["input"]["log_norm"], abs=1e-3)
    assert result["input"]["low"] == result["input"]["high"]
    assert result["slope"] == pytest.approx(rate, abs=2e-6)
    assert result["slope_far"] == pytest.approx(rate, abs=2e-6)
    assert (result["slope_range"], result["slope_far_range"]) == ([1, 100], [1, 199])
    assert result["lyapunov"] == pytest.approx(rate, abs=2e-6)
    assert result["fall"] == pytest.approx(-99 * rate / math.log(10), abs=1e-4)
    assert result["fall_at"] == 100
    half = pytest.approx(math.log(2) / -rate, rel=1e-4) if model == "vanishing" else None
    assert result["half_life"] == half or abs(rate) == 0  # a slope of -1e-17 may have one
    assert result["explosion"] == [float(model == "exploding" and 1.1 ** (k - 1) > 10) for k in range(200)]
    for point in result["by_length"]:
        T = point["length"]
        assert point["last"] == pytest.approx((T - 1) * rate + math.log(6) / 2, abs=1e-4)
        mean = np.mean([math.exp(k * rate) for k in range(1, T)])
        assert point["mean"] == pytest.approx(math.log(mean) + math.log(6) / 2, abs=1e-4)


def test_what_double_precision_can_not_tell_from_zero_is_none_and_the_state_is_followed_further():
    result = known("dying", hidden=4, length=150, samples=2)
    rate = math.log(1e-3)
    last = math.floor((FLOOR - math.log(4) / 2) / rate)
    assert result["slope_range"] == [1, last] == [1, 97]
    assert result["input"]["log_norm"][98:] == [None] * 52
    assert result["slope"] == pytest.approx(rate)
    assert result["fall_is_least"] and result["fall_at"] == 100
    assert 3 * 96 <= result["fall"] <= 3 * 97
    assert result["lyapunov"] == pytest.approx(rate)
    assert result["state"]["log_norm"][-1] == pytest.approx(149 * rate + math.log(4) / 2)


def test_what_overflows_is_none_and_counts_as_exploded():
    result = known("bursting", hidden=4, length=150, samples=2)
    assert result["input"]["log_norm"][-1] is None
    assert result["explosion"][2:] == [1.0] * 148
    assert result["slope"] == pytest.approx(math.log(1e3))
    assert result["lyapunov"] == pytest.approx(math.log(1e3))
    assert json.dumps(result, allow_nan=False)


def test_a_mixer_that_copies_its_input_has_no_gradient_beyond_its_own_step(tmp_path):
    found = [measured(case) for case in plan(["copies"], when="start", seeds=2)]
    result = found[0].result
    assert result["input"]["log_norm"] == [pytest.approx(math.log(16) / 2, abs=1e-4), *[None] * 31]
    assert (result["slope"], result["slope_range"], result["half_life"]) == (None, None, None)
    assert (result["fall"], result["lyapunov"], result["explosion_most"]) == (None, None, 0.0)
    assert result["state"]["log_norm"][1:] == [None] * 31
    assert PROBE.headline(found[0].case, result) == "no gradient beyond its own step"
    assert behaviour(summaries(found)[0]) == "unknown"
    assert "copies" in PROBE.table(found)
    assert PROBE.draw(found, tmp_path / "g.png").stat().st_size > 10_000


def test_the_lyapunov_exponent_equals_that_of_householders_qr():
    net = double_copy(made("rnn", width=12), "cpu")
    weight = 4 * net.layers[0].kernel.weight_hh_l0.data  # strong enough to be chaotic
    net.layers[0].kernel.weight_hh_l0.data = weight
    inputs = tokens(batch=2, length=400)
    h, basis, logs = torch.zeros(2, 12, dtype=torch.double), torch.eye(12, dtype=torch.double).repeat(2, 1, 1), []
    for t in range(400):
        h = net.step(inputs[:, t], [h])[1][0]
        basis, r = torch.linalg.qr((1 - h.square())[:, :, None] * (weight @ basis))
        logs.append(r.diagonal(dim1=1, dim2=2).abs().log())
    found = lyapunov(state_log_norms(net, inputs).numpy())
    assert found > 0.05
    assert found == pytest.approx(float(torch.stack(logs)[100:300, :, 0].mean()), abs=0.02)


def test_attention_is_flat_in_distance_and_thins_with_length():
    result = known("transformer", hidden=32, length=256, samples=4)
    assert abs(result["slope"]) < 0.002
    assert result["state"] is None and result["lyapunov"] is None
    assert "grows" in result["state_reason"]
    lengths = [point["length"] for point in result["by_length"]]
    fitted = np.polyfit(np.log(lengths), [point["mean"] for point in result["by_length"]], 1)[0]
    assert fitted == pytest.approx(-1, abs=0.15)


# --- summaries of curves and seeds, by hand ---


def test_explosion_fall_and_medians_by_hand():
    # four samples, T = 3: norms 1, then 1 2 4 8, then 10 times more, 10.1 times more, equal, zero
    logs = np.log(np.array([[1, 1, 1, 1], [1, 2, 4, 8], [10, 20.2, 4, 0.5]]))
    found = summary({3: logs}, None)
    assert found["explosion"] == [0.0, 0.0, 0.25]
    assert found["input"]["log_norm"] == pytest.approx([0, math.log(8) / 2, math.log(40) / 2], abs=1e-4)
    assert found["slope"] == pytest.approx(math.log(5) / 2, abs=1e-6)
    assert found["fall"] == pytest.approx(-math.log10(5) / 2, abs=1e-6)
    assert (found["fall_at"], found["half_life"]) == (2, None)
    logs[2, 2:] = -math.inf  # the median lies between something and nothing
    assert summary({3: logs}, None)["input"]["log_norm"][2] is None


def test_slopes_stop_before_the_first_gap():
    curve = np.array([9.0, 5.0, 4.0, 3.0, -math.inf, 7.0])
    assert line(curve, 100) == (pytest.approx(-1.0), [1, 3])
    assert line(curve, 2) == (pytest.approx(-1.0), [1, 2])
    assert line(curve[:2], 100) == (None, None)
    assert line(np.array([0.0, -math.inf, 1.0]), 100) == (None, None)


def test_the_lyapunov_exponent_is_of_the_middle_half_and_the_median_sample():
    growth = np.full((40, 3), 5.0)
    growth[11:31] = [-1.0, -0.5, 3.0]
    assert lyapunov(growth.cumsum(axis=0)) == -0.5


def test_curves_of_long_sequences_are_thinned_in_the_record_only():
    logs = np.linspace(0, -5, 3000)[:, None].repeat(2, axis=1)
    found = summary({3000: logs}, logs)
    assert found["k"][:256] == list(range(256)) and found["k"][-1] == 2999 and len(found["k"]) == 512
    assert found["input"]["log_norm"][-1] == -5.0
    assert found["slope"] == pytest.approx(-5 / 2999, abs=1e-6)
    noise = np.random.default_rng(0).normal(-100, 100, size=(3000, 2))
    assert len(json.dumps(summary({3000: noise}, noise))) < 30_000


def case_of(seed, **options):
    about = {"when": "start", "initialisation": "default", "hidden": 8, "layers": 1, "backbone": "bare"}
    return Case(
        "gradient", ("rnn",), seed, "quick", "cpu", 1, {**about, "length": 200, "samples": 2, "stages": [], **options}
    )


def found_of(slopes, falls, trained=None, **options):
    base = {
        "slope_range": [1, 100], "slope_far_range": [1, 199], "fall_at": 100, "fall_is_least": False,
        "explosion_most": 0.5, "lyapunov": None, "trained": trained, "state_reason": None, "half_life": None,
    }  # fmt: skip
    results = [{**base, "slope": s, "slope_far": s, "fall": f} for s, f in zip(slopes, falls, strict=True)]
    return [Found(case_of(seed, **options), result, None) for seed, result in enumerate(results)]


def test_seeds_are_taken_together_with_students_interval():
    slopes = [-0.31, -0.12, -0.55, -0.40, -0.02]
    (it,) = summaries(found_of(slopes, [4.0] * 5))
    textbook = reference.ttest_1samp(slopes, 0)
    assert it.slope.value == pytest.approx(-0.28)
    assert it.slope[1:] == pytest.approx(tuple(textbook.confidence_interval(0.95)))
    assert it.half_life.value == pytest.approx(math.log(2) / 0.28)
    assert it.half_life.low == pytest.approx(math.log(2) / -it.slope.low)
    assert it.fall == (4.0, 4.0, 4.0)
    assert it.explosion.value == 0.5
    # a seed without a figure leaves no mean; one seed leaves no interval
    assert math.isnan(it.lyapunov.value) and math.isnan(over_seeds([1.0, None, 2.0]).value)
    assert over_seeds([1.0])[0] == 1.0 and math.isnan(over_seeds([1.0]).low)
    both = [*found_of(slopes, [4.0] * 5), *found_of(slopes, [4.0] * 5, when="trained")]
    assert [(one.when, len(one.found)) for one in summaries(both)] == [("start", 5), ("trained", 5)]


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
    well = {"length": 40, "score": 0.99, "score_at_measured_length": 0.98}
    text = PROBE.table(found_of([-0.2, -0.21], [7.0, 7.0], well, when="trained"))
    assert "Vanishing is not forgetting: rnn scores 0.98 on recall over 200 steps, with |J| down 10^7-fold" in text
    for falls, score in (([2.0, 2.0], 0.98), ([7.0, 7.0], 0.5)):
        text = PROBE.table(found_of([-0.2, -0.21], falls, {**well, "score_at_measured_length": score}, when="trained"))
        assert "not forgetting" not in text


# --- cases, and whole runs ---


def test_cases_have_seeds_outermost_and_one_for_a_model_that_sees_the_future():
    cases = plan(["bilstm", "rnn"], seeds=2, initialisation="all")
    told = [(c.seed, c.models[0], c.options["initialisation"], c.options["when"]) for c in cases]
    rnn = [("rnn", name, when) for name in ("default", "orthogonal") for when in ("start", "trained")]
    assert told == [(0, "bilstm", "default", "start"), *((seed, *one) for seed in (0, 1) for one in rnn)]
    with pytest.raises(NotApplicable, match="sees later steps"):
        measured(cases[0])


def test_cases_hold_all_that_decides_the_result():
    start, trained = plan(["lstm"], budget="quick", seeds=1)
    assert start.options == {
        "when": "start", "initialisation": "forget-bias-1", "hidden": 64, "layers": 1, "backbone": "bare",
        "length": 200, "samples": 16, "stages": [], "steps": 0,
    }  # fmt: skip
    assert trained.options == {**start.options, "when": "trained", "stages": [5, 10, 20, 40], "steps": 300}
    assert Case.from_json(json.loads(json.dumps(trained.to_json()))) == trained
    assert len(plan(["lstm"], budget="quick")) == 2 * BUDGETS["quick"].seeds


def test_initialisations_are_taken_by_name_where_a_model_has_them():
    names = "orthogonal, forget-bias-3"
    found = [(c.models[0], c.options["initialisation"]) for c in plan(CAUSAL, when="start", initialisation=names)]
    assert found == [("lstm", "forget-bias-3"), ("rnn", "orthogonal")]
    both = [c.options["initialisation"] for c in plan(["rnn"], when="start", initialisation="default,orthogonal")]
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
    cases = plan(CAUSAL)
    found = [measured(case) for case in cases]
    assert json.loads(json.dumps([one.result for one in found], allow_nan=False)) == [one.result for one in found]
    assert measured(cases[3]).result == found[3].result
    for one in found:
        trained = one.result["trained"]
        assert (trained is None) == (one.case.options["when"] == "start")
        if trained is not None:
            assert trained["length"] == 5
            assert trained["score"] > trained["score_at_measured_length"] >= -0.2
    before, after = (one.result["input"]["log_norm"] for one in found[:2])
    assert before != after
    text = PROBE.table(found)
    assert all(f"| {model}" in text for model in CAUSAL)
    for name in ("g.png", "g.svg"):
        assert PROBE.draw(found, tmp_path / name).stat().st_size > 10_000


def test_a_stacked_residual_net_and_other_starts_run():
    found = [
        measured(case)
        for case in plan(["lstm", "transformer"], when="start", layers=2, backbone="residual", initialisation="all")
    ]
    assert len(found) == 4
    assert len({one.result["slope"] for one in found}) == 4
    assert found[0].result["state"]["log_norm"][0] == pytest.approx(math.log(2 * 2 * 16) / 2, abs=1e-4)

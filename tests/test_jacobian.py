"""Gradients over distance: against finite differences, against autograd's own Jacobians, and where theory knows them.

A linear recurrence h_t = A h_(t-1) + x_t with A = a times a rotation has J_k = A^k: its norm is a^k sqrt(H) exactly, so
its slope and its Lyapunov exponent are ln a, and its half-life is ln 2 / -ln a.
"""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from gradient_cases import CAUSAL, PROBE, measured, plan
from torch.utils._pytree import tree_flatten, tree_unflatten

from seqbench.models.mixer import MODELS, Mixer, register_model
from seqbench.probes.gradient import (
    FLOOR,
    behaviour,
    double_copy,
    input_log_norms,
    last_output,
    lyapunov,
    no_state,
    state_log_norms,
    summaries,
)
from seqbench.probes.shared.nets import build_net
from seqbench.probes.shared.problems import Recall
from seqbench.report.draw import draw

SHAPE = Recall().shape
CARRYING = ["gru", "lstm", "rnn", "lru", "mlstm", "slstm"]
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
    mixers = {name: type(name.capitalize(), (Linear,), {"factor": factor}) for name, factor in FACTORS.items()}
    mixers |= {"copies": Copies, "counts": Counts}
    for name, mixer in mixers.items():
        register_model(name)(mixer)
    yield
    for name in mixers:
        MODELS.remove(name)


def made(model, width=8, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_net(model, SHAPE, width, **options)


def tokens(batch, length, seed=1):
    return Recall().draw(batch, length - 1, torch.Generator().manual_seed(seed), "cpu")[0]


def known(model, **options):
    return measured(plan([model], when="start", **options)[0]).result


# --- the Jacobians are exact ---


def norms_by_differences(function, at):
    """(B,) Frobenius norms of the Jacobian of ``function`` (B, ...) at each row of ``at`` (B, D)."""
    squares = torch.zeros(len(at), dtype=torch.double)
    for step in STEP * torch.eye(at.shape[1], dtype=torch.double):
        with torch.no_grad():
            slope = (function(at + step) - function(at - step)) / (2 * STEP)
        squares += slope.square().flatten(1).sum(dim=1)
    return squares.sqrt().numpy()


@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("model", CAUSAL)
def test_input_jacobians_equal_central_differences(model, backbone):
    net = double_copy(made(model, layers=2, backbone=backbone), "cpu")
    inputs = tokens(batch=3, length=7)
    found = input_log_norms(net, inputs)
    embedded = net.embed(inputs)
    for t in range(7):

        def last(e_t, t=t):
            return last_output(net, torch.cat([embedded[:, :t], e_t[:, None], embedded[:, t + 1 :]], dim=1))

        assert found[6 - t].exp().numpy() == pytest.approx(norms_by_differences(last, embedded[:, t]), rel=1e-6)


@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("model", CARRYING)
def test_state_jacobians_equal_central_differences(model, backbone):
    net = double_copy(made(model, layers=2, backbone=backbone), "cpu")
    inputs = tokens(batch=3, length=6)
    found = state_log_norms(net, inputs)

    def flat(state):
        return torch.cat([part.flatten(1) for part in tree_flatten(state)[0]], 1)

    def run(values, steps):
        parts, form = tree_flatten(net.initial_state(3))
        pieces = values.split([part[0].numel() for part in parts], dim=1)
        state = tree_unflatten([piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)], form)
        for t in steps:
            state = net.step(inputs[:, t], state)[1]
        return flat(state)

    at = flat(net.initial_state(3))
    for k in range(6, 0, -1):
        at = run(at, [6 - k])  # the state that k - 1 steps follow
        steps = range(7 - k, 6)
        expected = norms_by_differences(lambda values, steps=steps: run(values, steps), at)
        assert found[k - 1].exp().numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("backbone", ["bare", "residual"])
def test_the_last_output_is_what_the_head_reads(backbone):
    net, inputs, read = double_copy(made("gru", backbone=backbone), "cpu"), tokens(batch=3, length=7), []
    net.head.register_forward_pre_hook(lambda head, args: read.append(args[0][:, -1]))
    net(inputs)
    # not to the last bit: the net multiplies its embedding by the layer's weights first
    assert torch.allclose(last_output(net, net.embed(inputs)), read[0], rtol=0, atol=1e-12)


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


def test_a_state_that_is_too_large_has_no_jacobian_and_that_is_said():
    assert no_state(made("mamba2", width=16), 10) is None
    assert no_state(made("mamba2", width=64), 10) == "its state of 4,672 numbers is too large (at most 2,048)"
    assert no_state(made("tcn"), 10) is None  # what its convolutions look back at, and no more
    assert no_state(made("transformer"), 10) == "its state grows with the length"


# --- where theory knows the answer ---


@pytest.mark.parametrize(
    ("model", "word"), [("vanishing", "vanishes"), ("exploding", "explodes"), ("lasting", "neither")]
)
def test_a_linear_recurrence_has_the_slope_half_life_and_exponent_of_its_matrix(model, word):
    rate = math.log(FACTORS[model])
    found = [measured(spec) for spec in plan([model], when="start", hidden=6, length=200, samples=2, seeds=2)]
    assert behaviour(summaries(found)[0]) == word
    result = found[0].result
    assert result.input.log_norm == pytest.approx([k * rate + math.log(6) / 2 for k in range(200)], abs=1e-3)
    assert result.state.log_norm == pytest.approx(result.input.log_norm, abs=1e-3)
    assert result.input.low == result.input.high
    assert result.slope == pytest.approx(rate, abs=2e-6)
    assert result.slope_far == pytest.approx(rate, abs=2e-6)
    assert (result.slope_range, result.slope_far_range) == ((1, 100), (1, 199))
    assert result.lyapunov == pytest.approx(rate, abs=2e-6)
    assert result.fall == pytest.approx(-99 * rate / math.log(10), abs=1e-4)
    assert result.fall_at == 100
    half = pytest.approx(math.log(2) / -rate, rel=1e-4) if model == "vanishing" else None
    assert result.half_life == half or abs(rate) == 0  # a slope of -1e-17 may have one
    assert list(result.explosion) == [float(model == "exploding" and 1.1 ** (k - 1) > 10) for k in range(200)]
    for point in result.by_length:
        T = point.length
        assert point.last == pytest.approx((T - 1) * rate + math.log(6) / 2, abs=1e-4)
        mean = np.mean([math.exp(k * rate) for k in range(1, T)])
        assert point.mean == pytest.approx(math.log(mean) + math.log(6) / 2, abs=1e-4)


def test_what_double_precision_can_not_tell_from_zero_is_none_and_the_state_is_followed_further():
    result = known("dying", hidden=4, length=150, samples=2)
    rate = math.log(1e-3)
    last = math.floor((FLOOR - math.log(4) / 2) / rate)
    assert result.slope_range == (1, last) == (1, 97)
    assert result.input.log_norm[98:] == (None,) * 52
    assert result.slope == pytest.approx(rate)
    assert result.fall_is_least and result.fall_at == 100
    assert 3 * 96 <= result.fall <= 3 * 97
    assert result.lyapunov == pytest.approx(rate)
    assert result.state.log_norm[-1] == pytest.approx(149 * rate + math.log(4) / 2)


def test_what_overflows_is_none_and_counts_as_exploded():
    result = known("bursting", hidden=4, length=150, samples=2)
    assert result.input.log_norm[-1] is None
    assert result.explosion[2:] == (1.0,) * 148
    assert result.slope == pytest.approx(math.log(1e3))
    assert result.lyapunov == pytest.approx(math.log(1e3))
    assert json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_a_mixer_that_copies_its_input_has_no_gradient_beyond_its_own_step(tmp_path):
    found = [measured(spec) for spec in plan(["copies"], when="start", seeds=2)]
    result = found[0].result
    assert result.input.log_norm == (pytest.approx(math.log(16) / 2, abs=1e-4), *[None] * 31)
    assert (result.slope, result.slope_range, result.half_life) == (None, None, None)
    assert (result.fall, result.lyapunov, result.explosion_most) == (None, None, 0.0)
    assert result.state.log_norm[1:] == (None,) * 31
    assert PROBE.headline(result) == "no gradient beyond its own step"
    assert behaviour(summaries(found)[0]) == "unknown"
    assert "copies" in PROBE.table(found)
    assert draw(PROBE.chart(found), tmp_path / "g.png").stat().st_size > 10_000


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
    assert abs(result.slope) < 0.002
    assert result.state is None and result.lyapunov is None
    assert "grows" in result.state_reason
    lengths = [point.length for point in result.by_length]
    fitted = np.polyfit(np.log(lengths), [point.mean for point in result.by_length], 1)[0]
    assert fitted == pytest.approx(-1, abs=0.15)

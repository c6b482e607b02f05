"""What a layer costs: counts by formula and by hand, ratios of counted work, the order of runs, peak memory.

No test depends on how fast anything is: where times are compared, the clock counts operations.
"""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seqbench.errors import NotApplicable
from seqbench.jobs.job import Listener
from seqbench.models.backbone import count_parameters
from seqbench.models.mixer import MODELS, Mixer
from seqbench.probes.shared import timing
from seqbench.probes.shared.timing import (
    Timed,
    flops,
    flops_at,
    loops,
    mixer_parameters,
    orders,
    peak_bytes,
    side_by_side,
    timed_net,
    width_of,
)

CPU = torch.device("cpu")
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
SIZES = [(1, 1), (3, 5), (16, 16), (100, 128), (128, 100), (128, 128)]  # D and H
MODELS_ALL = ["bilstm", "gru", "lstm", "rnn", "transformer"]


def layer(model, d_in, d_out):
    mixer = MODELS.get(model).mixer
    return mixer(d_in, d_out, mixer.can_be_causal)


# --- counted ---


@pytest.mark.parametrize("size", SIZES)
def test_parameters_follow_the_formulas_with_one_bias_and_with_two(size):
    D, H = size
    for model, gates in GATES.items():
        mixer = layer(model, D, H)
        second = mixer.kernel.bias_hh_l0.numel()
        assert count_parameters(mixer) == gates * (D + H + 2) * H
        assert count_parameters(mixer) - second == gates * (D + H + 1) * H


def test_at_128_the_second_bias_is_512_more():
    assert mixer_parameters("lstm", 128) == 132_096 == 131_584 + 512
    assert mixer_parameters("gru", 128) / mixer_parameters("lstm", 128) == 0.75
    assert mixer_parameters("lstm", 128) / mixer_parameters("rnn", 128) == 4


@pytest.mark.parametrize("length", [1, 7, 33])
def test_flops_equal_the_products_worked_out_by_hand(length):
    D, H = 5, 16
    for model, gates in GATES.items():
        assert flops(layer(model, D, H), length) == length * 2 * gates * H * (D + H)
    # queries, keys, values 3 H^2, merge H^2, feed-forward 4 H^2; then scores and mixing, T H each, all pairs
    assert flops(layer("transformer", H, H), length) == length * (2 * 8 * H**2 + 2 * 2 * length * H)
    assert flops(layer("bilstm", D, H), length) == length * 2 * 2 * 4 * (H // 2) * (D + H // 2)


class Times(Mixer):
    """``work`` products a step, and one of all pairs of pairs of steps if ``cubic``."""

    work, cubic = 1, False

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out, bias=False)

    def state_size(self, length):
        return 0

    def forward(self, x, lengths=None):
        for _ in range(self.work):
            x = self.map(x)
        if self.cubic:
            pairs = torch.einsum("bid,bjd->bij", x, x)
            x = x + 0 * (pairs @ pairs).sum()
        return x


class Values(Times):
    """Looks at values, which the meta device has not."""

    def forward(self, x, lengths=None):
        return x * x.max().item()


@pytest.mark.parametrize("model", MODELS_ALL)
def test_flops_of_long_sequences_follow_from_short_ones(model):
    mixer = layer(model, 16, 16)
    assert [flops_at(mixer)(length) for length in (1, 44)] == [flops(mixer, length) for length in (1, 44)]


def test_flops_of_a_layer_off_every_parabola_are_counted_and_of_one_that_cannot_be_are_none():
    cubic = Times(4, 4, True)
    cubic.cubic = True
    assert flops_at(cubic)(40) == flops(cubic, 40) == 2 * 40 * 16 + 2 * 40**2 * 4 + 2 * 40**3
    assert flops_at(Values(4, 4, True))(40) is None


def test_a_layer_that_does_k_times_the_work_costs_k_times_as_much_by_a_clock_that_counts_it(monkeypatch):
    once, thrice = Times(8, 8, True), Times(8, 8, True)
    thrice.work = 3
    assert flops(thrice, 9) == 3 * flops(once, 9)
    counter = FlopCounterMode(display=False)

    class Clock:
        @staticmethod
        def perf_counter():
            return counter.get_total_flops() * 1e-9

    monkeypatch.setattr(timing, "time", Clock)
    monkeypatch.setattr(timing, "LEAST", 5e-6)  # a few steps of the one, fewer of the other

    def make(shape):
        x = torch.zeros(*shape, 8)
        return {name: {"forward": lambda mixer=mixer: mixer(x)} for name, mixer in models.items()}

    models = {"once": once, "thrice": thrice}
    with counter:
        readings = side_by_side([(2, 5), (3, 7)], make, 3, 0, CPU, Listener())
    for at, (batch, length) in zip(readings, [(2, 5), (3, 7)], strict=True):
        seconds = {name: [reading.wall for reading in at[name]["forward"]] for name in models}
        assert seconds["once"] == pytest.approx([2e-9 * batch * length * 64] * 3)
        assert seconds["thrice"] == pytest.approx([3 * x for x in seconds["once"]])


def test_at_equal_parameters_widths_are_within_two_percent():
    params = mixer_parameters("rnn", 128)
    widths = {name: width_of(params, name) for name in MODELS_ALL}
    assert widths["rnn"] == 128 and widths["lstm"] == 64
    for name, width in widths.items():
        assert abs(mixer_parameters(name, width) / params - 1) < 0.02, name


# --- the same function, however it is timed ---


@pytest.mark.parametrize("model", ["gru", "lstm", "rnn"])
def test_the_loop_gives_what_the_kernel_gives_and_its_gradients(model):
    results = []
    for backend in ("kernel", "loop"):
        torch.manual_seed(0)
        net = Timed(model, 12, backend, CPU)
        x = net.inputs(3, 20)
        output = net.output(x)
        output.sum().backward()
        results.append([output, x.grad, *(p.grad for p in net.parameters)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.abs().max() > 0
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_only_a_step_form_with_a_state_that_does_not_grow_is_a_loop():
    assert [name for name in MODELS_ALL if loops(name)] == ["gru", "lstm", "rnn"]
    with pytest.raises(NotApplicable, match="transformer has no step form with a state of fixed size"):
        Timed("transformer", 8, "loop", CPU)


def test_a_mixer_that_sees_the_future_is_timed_as_it_is():
    net = timed_net("bilstm", 8)
    assert not net.causal and timed_net("transformer", 8).causal
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 3:] += 1
    before, after = (net.mix(inputs, None)[:, 0] for inputs in (x, changed))
    assert not torch.allclose(before, after)  # the first step knows of the fourth


def test_a_training_step_leaves_the_same_gradients_each_time_and_a_forward_none():
    net = Timed("gru", 8, "kernel", CPU)
    steps = net.steps(2, 9)
    steps["forward"]()
    assert all(p.grad is None for p in net.parameters)
    steps["train"]()
    first = [p.grad.clone() for p in net.parameters]
    steps["train"]()
    assert all(torch.equal(a, p.grad) for a, p in zip(first, net.parameters, strict=True))


# --- order and memory ---


def test_the_order_of_models_and_shapes_is_another_in_every_repeat():
    rng = np.random.default_rng(0)
    names = [["a", "b", "c", "d", "e"]] * 4
    repeats = [orders(names, rng) for _ in range(20)]
    for order in repeats:
        assert sorted(place for place, _ in order) == [0, 1, 2, 3]
        assert all(sorted(models) == names[0] for _, models in order)
    assert len({str(order) for order in repeats}) == 20
    first = [dict(order)[0][0] for order in repeats]
    assert len(set(first)) == 5  # each is the first one now and then
    assert repeats[0] == orders(names, np.random.default_rng(0))


def test_all_models_are_run_at_a_shape_before_the_next_in_the_order_that_was_drawn(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.0)
    monkeypatch.setattr(timing, "LONG", 0.0)  # no warming up
    ran = []

    def make(place):
        return {name: {"step": lambda name=name: ran.append((place, name))} for name in "abc"}

    side_by_side(["x", "y"], make, 4, 7, CPU, Listener())
    ran = ran[2 * 2 * 3 :]  # after finding out how often each must run
    rng = np.random.default_rng([7, 0])
    expected = [("xy"[i], name) for _ in range(4) for i, names in orders([["a", "b", "c"]] * 2, rng) for name in names]
    assert ran == expected


def test_peak_memory_equals_allocations_that_are_known():
    def step():
        a = torch.empty(1_000_000)  # 4 MB
        b = torch.empty(500_000)  # 6 MB
        del a  # 2 MB
        c = torch.empty(750_000)  # 5 MB
        del b, c

    assert peak_bytes(step, CPU) == 6_000_000


def test_peak_memory_of_a_training_step_grows_with_the_length_and_holds_at_least_what_backward_needs():
    net = Timed("lstm", 16, "kernel", CPU)
    net.steps(4, 32)["train"]()
    peaks = [net.peak_bytes(4, length) for length in (32, 64, 128)]
    assert peaks[0] > 4 * 32 * 16 * 4 * 6  # four gates, h and c
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.05)

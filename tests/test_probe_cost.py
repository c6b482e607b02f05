"""What a layer costs, and what its order costs: counts by formula, ratios of counted work, real runs at small size.

No test depends on how fast anything is: where times are compared, the clock counts operations.
"""

import json
import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seqbench.errors import NotApplicable, UserError
from seqbench.models.backbone import count_parameters
from seqbench.models.mixer import Mixer
from seqbench.plan import Listener
from seqbench.probes import Found, Request, get_probe, timing
from seqbench.probes.cost import grid, lengths_to
from seqbench.probes.cost_memory import peak_bytes
from seqbench.probes.fit import geometric
from seqbench.probes.options import CostOptions, ParallelOptions
from seqbench.probes.timing import orders, side_by_side
from seqbench.probes.timing_net import Timed, flops, flops_at, loops, mixer_parameters, timed_net, width_of
from seqbench.registry import MODELS

CPU = torch.device("cpu")
SIZES = [(1, 1), (3, 5), (16, 16), (100, 128), (128, 100), (128, 128)]  # D and H
MODELS_ALL = ["bilstm", "gru", "lstm", "rnn", "transformer"]


def layer(model, d_in, d_out):
    mixer = MODELS.get(model).mixer
    return mixer(d_in, d_out, mixer.can_be_causal)


def measured(probe, options, models, budget="smoke"):
    case, *_ = get_probe(probe).cases(Request(budget=budget), options, models, "cpu")
    torch.manual_seed(0)
    result = get_probe(probe).measure(case, Listener())
    return Found(case, json.loads(json.dumps(result, allow_nan=False)), None)


@pytest.fixture(scope="module")
def kernel():
    return measured("cost", CostOptions(hidden=16, backend="kernel", track="width"), MODELS_ALL)


@pytest.fixture(scope="module")
def parallel():
    return measured("parallel", ParallelOptions(hidden=16, tokens=(64, 128), longest=32), MODELS_ALL)


# --- counted ---


@pytest.mark.parametrize("size", SIZES)
def test_parameters_follow_the_formulas_with_one_bias_and_with_two(size):
    D, H = size
    for model, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
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
    for model, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
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
        found = side_by_side([(2, 5), (3, 7)], make, 3, 0, CPU, Listener())
    for at, (batch, length) in zip(found, [(2, 5), (3, 7)], strict=True):
        seconds = {name: [one.wall for one in at[name]["forward"]] for name in models}
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
    nets = {}
    for backend in ("kernel", "loop"):
        torch.manual_seed(0)
        net = nets[backend] = Timed(model, 12, backend, CPU)
        x = net.inputs(3, 20)
        output = net.output(x)
        output.sum().backward()
        nets[backend] = output, x.grad, [p.grad for p in net.parameters]
    for ours, theirs in zip(*(([o, g, *ps]) for o, g, ps in nets.values()), strict=True):
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
    before, after = (net.mix(one, None)[:, 0] for one in (x, changed))
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
    peaks = []
    for length in (32, 64, 128):
        step = net.steps(4, length)["train"]
        step()
        net.clear()
        peaks.append(peak_bytes(net.steps(4, length)["train"], CPU))
    assert peaks[0] > 4 * 32 * 16 * 4 * 6  # four gates, h and c
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.05)


# --- whole cases ---


def test_a_case_holds_every_figure_and_its_ratios_follow_from_its_seconds(kernel):
    result = kernel.result
    assert set(result["models"]) == set(result["fit"]) == set(result["peak_bytes"]) == set(MODELS_ALL)
    assert result["reference"] == "rnn"
    for kinds in result["seconds"].values():
        for kind in ("forward", "train"):
            times = np.array(kinds[kind])
            assert times.shape == (len(result["shapes"]), result["repeats"])
            assert (times > 0).all()
    lstm, rnn = (np.array(result["seconds"][name]["train"]) for name in ("lstm", "rnn"))
    expected = geometric(np.exp(np.log(lstm / rnn).mean(axis=0)))
    assert result["ratios"]["lstm"]["train"] == pytest.approx(list(expected), rel=1e-3)
    assert result["ratios"]["lstm"]["by_shape"]["train"][2][0] == pytest.approx(
        geometric(lstm[2] / rnn[2])[0], rel=1e-3
    )
    assert result["models"]["lstm"]["params_mixer"] == 4 * (16 + 16 + 2) * 16
    assert result["models"]["lstm"]["params"] == 4 * (16 + 16 + 2) * 16 + 17 * 10
    assert result["models"]["transformer"]["state_size"] == 2 * 16 * result["counted_at"]
    assert set(result["widths"]) == {"16", "32"}
    assert len(result["widths"]["32"]["gru"]["train"]) == result["repeats"]


def test_memory_is_measured_at_one_batch_and_every_length(kernel):
    result = kernel.result
    for sizes in result["peak_bytes"].values():
        known = [shape for shape, size in zip(result["shapes"], sizes, strict=True) if size]
        assert known == [[4, 16], [4, 32], [4, 64]]


def test_cases_are_one_for_each_backend_and_track_and_say_what_has_no_loop():
    cases = get_probe("cost").cases(Request(budget="smoke"), CostOptions(), MODELS_ALL, "cpu")
    planned = [(case.options["backend"], case.options["track"], len(case.models)) for case in cases]
    assert planned[:3] == [("kernel", "width", 5), ("kernel", "params", 5), ("loop", "width", 3)]
    for case in cases[3:]:
        with pytest.raises(NotApplicable, match="has no step form"):
            get_probe("cost").measure(case, Listener())
    assert [case.models for case in cases[3:]] == [("bilstm",), ("transformer",)]
    assert cases[1].options["model_widths"]["rnn"] == 32 > cases[1].options["model_widths"]["lstm"]
    for case in cases:
        assert type(case).from_json(json.loads(json.dumps(case.to_json()))) == case


def test_the_reference_is_timed_beside_the_others_even_if_it_was_not_asked_for():
    (case,) = get_probe("cost").cases(
        Request(budget="smoke"), CostOptions(reference="elman", backend="kernel", track="params"), ["lstm"], "cpu"
    )
    assert case.models == ("lstm", "rnn") and case.options["reference"] == "rnn"
    (alone,) = get_probe("cost").cases(
        Request(budget="smoke"), CostOptions(backend="kernel", track="width"), ["lstm"], "cpu"
    )
    assert alone.models == ("lstm",) and alone.options["reference"] == "lstm"


def test_a_standard_run_has_a_serial_floor():
    cases = get_probe("cost").cases(Request(budget="standard"), CostOptions(), ["rnn", "lstm"], "cpu")
    assert [case.options["hidden"] for case in cases] == [128, 128, 128, 8]


def test_lengths_and_shapes():
    assert lengths_to(2048) == [32, 64, 128, 256, 512, 1024, 2048]
    assert lengths_to(100) == [25, 50, 100]
    assert lengths_to(4) == [1, 2, 4]
    quick = grid((1, 4, 16, 64, 256), 2048, 32_768)
    assert len(quick) == 29 and [16, 2048] in quick and [64, 1024] not in quick


@pytest.mark.parametrize(
    ("probe", "options", "sentence"),
    [
        ("cost", CostOptions(longest=0), "--longest 0 is out of range: take 4 to"),
        ("cost", CostOptions(longest=512, tokens=100), "--tokens 100 is less than one sequence"),
        ("cost", CostOptions(longest=1 << 24, hidden=512), "the largest that fits is"),
        ("cost", CostOptions(hidden=12), "the width of transformer must be a multiple of 8"),
        ("cost", CostOptions(reference="elmann"), "unknown model 'elmann'"),
        ("cost", CostOptions(hidden=8, track="params", reference="rnn"), "take a greater --hidden"),
        ("parallel", ParallelOptions(longest=0), "--longest 0 is out of range"),
        ("parallel", ParallelOptions(tokens=(64, 8), longest=32), "--tokens 8 is less than one sequence"),
        ("parallel", ParallelOptions(tokens=(1 << 24,), longest=1 << 24, hidden=512), "the largest that fits is"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_work(probe, options, sentence):
    with pytest.raises(UserError, match=sentence):
        get_probe(probe).cases(Request(budget="smoke"), options, MODELS_ALL, "cpu")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CostOptions(hidden=0), "--hidden 0"),
        (lambda: CostOptions(repeats=1), "one alone has no interval"),
        (lambda: CostOptions(tokens=0), "--tokens 0"),
        (lambda: ParallelOptions(tokens=(512, 0)), "--tokens 0"),
        (lambda: ParallelOptions(repeats=1000), "--repeats 1000"),
    ],
)
def test_options_out_of_range_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


# --- parallel ---


def test_speed_change_and_share_follow_from_the_seconds(parallel):
    result = parallel.result
    assert result["lengths"] == [8, 16, 32]
    assert result["shapes"] == [[8, 8], [4, 16], [2, 32], [16, 8], [8, 16], [4, 32]]
    times = np.array(result["seconds"]["lstm"]["128"])
    assert times.shape == (3, result["repeats"])
    assert result["tokens_per_second"]["lstm"]["128"] == pytest.approx(list(np.median(128 / times, axis=1)), rel=1e-3)
    assert result["change"]["lstm"]["128"] == pytest.approx(list(geometric(times[0] / times[-1])), rel=1e-3)
    least, most = result["peak_flops"][1:]
    work = 3 * 128 * 2 * 4 * 16 * 32  # forward and twice that backward; tokens; multiply-adds; gates; H (D + H)
    for share, spent in zip(result["share"]["lstm"]["128"], times, strict=True):
        assert work / spent.max() / most * 0.999 <= share <= work / spent.min() / least * 1.001
    assert set(result["fit"]) == set(MODELS_ALL) and result["fit"]["gru"] is not None


def test_one_number_of_tokens_gives_no_fit_and_the_table_says_why():
    found = measured("parallel", ParallelOptions(hidden=8, tokens=(64,), longest=32, repeats=2), ["gru"])
    assert found.result["fit"] == {"gru": None}
    assert "one number of tokens can't tell" in get_probe("parallel").table([found])


def test_a_batch_that_the_length_does_not_divide_is_rounded_down_and_counted_so():
    found = measured("parallel", ParallelOptions(hidden=8, tokens=(100,), longest=12, repeats=2), ["rnn"])
    assert found.result["shapes"] == [[33, 3], [16, 6], [8, 12]]
    times = np.array(found.result["seconds"]["rnn"]["100"])
    expected = np.median(np.array([[99], [96], [96]]) / times, axis=1)
    assert found.result["tokens_per_second"]["rnn"]["100"] == pytest.approx(list(expected), rel=1e-3)


# --- shown ---


def test_tables_name_every_model_and_draw_leaves_a_picture(kernel, parallel, tmp_path):
    for probe, found in (("cost", kernel), ("parallel", parallel)):
        table = get_probe(probe).table([found])
        assert all(name in table for name in MODELS_ALL)
        assert get_probe(probe).headline(found.case, found.result)
        path = get_probe(probe).draw([found, found], tmp_path / f"{probe}.svg")
        assert path.stat().st_size > 10_000
        assert get_probe(probe).draw([], tmp_path / "none.png").exists()


def test_verdicts_in_the_text_follow_the_fits(kernel, parallel):
    result = json.loads(json.dumps(kernel.result))
    fit = {"a": [1, 1, 1], "w": [1, 1, 1], "q": [0, 0, 0], "hidden_batch": [1, 1, None], "residual": [0.1, 0.1]}
    serial, free = ({**fit, "s": s, "trusted": True} for s in ([2e-6, 1e-6, 3e-6], [1e-6, 0.0, 2e-6]))
    result["fit"] = {name: {"forward": serial, "train": free} for name in MODELS_ALL}
    result["fit"]["gru"] = {"forward": free, "train": serial}
    result["fit"]["rnn"] = {"forward": free, "train": {**serial, "trusted": False}}
    text = get_probe("cost").table([Found(kernel.case, result, None)])
    assert "a serial part in training: gru;" in text
    assert "none to be seen: bilstm, lstm, transformer;" in text
    assert "above 15%): rnn." in text and "[1, inf]" in text

    result = json.loads(json.dumps(parallel.result))
    result["fit"] = dict.fromkeys(MODELS_ALL, free)
    result["fit"]["rnn"] = serial
    result["change"] = {name: {"64": [0.9, 0.85, 0.95], "128": [0.9, 0.7, 1.1]} for name in MODELS_ALL}
    result["change"]["rnn"] = {"64": [0.3, 0.2, 0.4], "128": [0.5, 0.3, 0.9]}
    text = get_probe("parallel").table([Found(parallel.case, result, None)])
    assert "rnn: loses a fifth of its speed or more at some numbers of tokens; steps have a serial time." in text
    assert "lstm: no loss of a fifth is certain; no serial time to be seen." in text


def test_significant_digits():
    assert timing.significant(0.00123456) == 0.001235
    assert math.isclose(timing.significant(123456.0), 123500.0)

"""The copy probe: a net that copies by construction makes no mistake, an untrained one guesses, and seeds add up."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import seqbench
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.models.mixer import MODELS
from seqbench.probes import Measured, Request
from seqbench.probes.copy import Copied, CopyCase, Copying, CopyOptions, CopyResult, copied_by
from seqbench.probes.shared.restarts import Schooling, Try
from seqbench.report.draw import draw

torch.set_num_threads(1)
PROBE = Copying()


class Delayed(seqbench.Mixer):
    """From the middle of the sequence on it says what came in its first half."""

    def state_size(self, length):
        return self.d_out * length

    def forward(self, x, lengths=None):
        half = x.shape[1] // 2
        return torch.cat([torch.zeros_like(x[:, : half + 1]), x[:, :half]], dim=1)


@pytest.fixture
def delayed():
    seqbench.register_model("delayed")(Delayed)
    yield
    MODELS.remove("delayed")


def plan(*models, budget="smoke", seeds=None, seed=0, **options):
    return PROBE.plan(Request(budget=budget, seeds=seeds, seed=seed), CopyOptions(**options), models, "cpu")


def test_a_net_that_copies_by_construction_makes_no_mistake(delayed):
    (spec,) = plan("delayed", hidden=9, longest=40)
    case = CopyCase(**spec.options)
    net = case.net("delayed")
    with torch.no_grad():
        net.embed.weight.copy_(torch.eye(9))
        net.embed.bias.zero_()
        net.head.out.weight.copy_(10 * torch.eye(9)[:8])
        net.head.out.bias.fill_(-5.0)
        assert copied_by(net, case, 0) == tuple(Copied(length, 8 * length, 0.0, 1.0) for length in (10, 20, 40))
        net.head.out.bias[0] = -15.0  # the first bit is always said to be 0
        for one in copied_by(net, case, 0):
            assert one.wrong == pytest.approx(one.length / 2, rel=0.1) and one.faultless < 0.1
        net.head.out.bias[0] = float("nan")
        assert copied_by(net, case, 0)[0] == Copied(10, 80, None, None)


def test_an_untrained_net_guesses():
    (spec,) = plan("ntm", params=6_000, longest=20)
    case = CopyCase(**spec.options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = case.net("ntm")
    for one in copied_by(net, case, 0):
        assert one.wrong == pytest.approx(one.bits / 2, rel=0.05) and one.faultless == 0


def test_models_have_about_as_many_parameters_and_the_controller_has_about_a_hundred_units():
    models = ["rnn", "lstm", "gru", "ntm", "transformer"]
    sizes = {}
    for spec in plan(*models, budget="quick", seeds=1):
        with torch.device("meta"):
            net = CopyCase(**spec.options).net(spec.models[0])
        sizes[spec.models[0]] = sum(p.numel() for p in net.parameters())
        assert spec.models[0] != "ntm" or spec.options["width"] == pytest.approx(100, abs=5)
    assert all(size == pytest.approx(100_000, rel=0.1) for size in sizes.values()), sizes


def test_a_measurement_is_the_same_again_and_json():
    (spec,) = plan("ntm", params=6_000, steps=3)
    assert spec.options["schooling"] == asdict(
        Schooling(1, 10, list(range(1, 11)), 3, 20, batch=16, learning_rate=2e-3, clip=50.0)
    )
    first, again = (PROBE.measure(spec, Listener()) for _ in range(2))
    assert first == again and json.dumps(asdict(first), allow_nan=False)
    assert [one.length for one in first.tested] == [10, 20, 40] and first.tries[0].ended == "steps"
    assert PROBE.headline(first).startswith("wrong bits: ") and " of 320" in PROBE.headline(first)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"longest": 9}, "--longest 9 is out of range"),
        ({"steps": 0}, "--steps 0 is out of range"),
        ({"hidden": 8, "params": 1000}, "can't both be given"),
        ({"params": 1}, "--params 1"),
        ({"initialisation": "even"}, "initialisation"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_work(asked, words):
    with pytest.raises(UserError, match=words):
        plan("ntm", **asked)


def test_one_that_sees_the_future_is_not_measured():
    (spec,) = plan("bilstm")
    with pytest.raises(NotApplicable, match="bilstm sees later steps"):
        PROBE.measure(spec, Listener())


# --- what a reader sees ---


def of_seed(model, seed, wrong, tries, start="focused"):
    options = {"initialisation": start} if model == "ntm" else {}
    (spec,) = plan(model, seeds=1, seed=seed, longest=20, **options)
    found = tuple(
        Copied(length, 8 * length, value, float(not value)) for length, value in zip((10, 20), wrong, strict=True)
    )
    return Measured(spec, CopyResult(start, 24, 9_990, 700, tries, found), Path())


@pytest.fixture(scope="module")
def some():
    solved = (Try(50, "errorless", 40, 1.0, 0.1, 20, (0.0, 0.9, 1.0)),)
    again = (Try(20, "stuck", 20, 0.1, 40.0, 20, (0.0, 0.1)), *solved)
    return [
        of_seed("ntm", 0, (0.0, 1.0), solved),
        of_seed("ntm", 1, (0.0, 2.0), again),
        of_seed("ntm", 2, (0.0, 6.0), solved),
        of_seed("lstm", 0, (3.0, 70.0), solved, "forget-bias-1"),
    ]


def test_seeds_add_up_to_a_mean_with_students_interval(some):
    text = PROBE.table(some)
    # mean 3, standard error sqrt(7 / 3), Student's t of two degrees of freedom 4.303; not below 0
    assert "3 (0 to 9.57)" in text and "| 0 1 0" in text
    assert "ntm, seed 1: 2 attempts (stuck after 20 steps, errorless after 50)" in text
    assert "100% (L = 10), 0% (L = 20)" in text and "| 70 " in text
    assert PROBE.table([]) == "Nothing was measured."


def test_the_picture_shows_what_was_measured(some, tmp_path):
    chart = PROBE.chart(some)
    shares, curves = chart.panels
    ntm, lstm = shares.marks[:2]
    assert list(ntm.x) == [10, 20] and list(ntm.y) == pytest.approx([0, 3 / 160])
    assert list(lstm.y) == pytest.approx([3 / 80, 70 / 160])
    assert sum(hasattr(mark, "faint") and mark.faint for mark in curves.marks) == 4  # a line for every seed
    assert draw(chart, tmp_path / "copy.png").stat().st_size > 10_000

"""The tracking probe: labels by brute force, an automaton built by hand that is always right, guessing at chance."""

import itertools
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
from seqbench.probes.shared.problems import Product
from seqbench.probes.shared.restarts import Try
from seqbench.probes.tracking import (
    Tracked,
    Tracking,
    TrackingCase,
    TrackingOptions,
    TrackingResult,
    accuracies,
    reached_by,
)
from seqbench.report.draw import draw

torch.set_num_threads(1)
PROBE = Tracking()


class Automaton(seqbench.Mixer):
    """The product of signs: of an input that is -1 for a swap and 1 for none, whether swaps so far are even."""

    horizon = 10**9  # steps after which it is lost

    def state_size(self, length):
        return 1

    def forward(self, x, lengths=None):
        sign = x[..., :1].sign().cumprod(dim=1)
        sign[:, self.horizon :] = 1.0
        return sign.expand_as(x)


class Lost(Automaton):
    """Says that all are even after 200 steps."""

    horizon = 200


@pytest.fixture
def automata():
    made = {"automaton": Automaton, "lost": Lost}
    for name, mixer in made.items():
        seqbench.register_model(name)(mixer)
    yield
    for name in made:
        MODELS.remove(name)


def plan(*models, budget="smoke", seeds=None, seed=0, **options):
    return PROBE.plan(Request(budget=budget, seeds=seeds, seed=seed), TrackingOptions(**options), models, "cpu")


def by_hand(model):
    """The net of ``model`` on parity that reads a swap as -1 and says 1 for odd."""
    (spec,) = plan(model, problem="parity", hidden=1)
    net = TrackingCase(**spec.options).net(model)
    with torch.no_grad():
        net.embed.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net.head.out.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net.head.out.bias.zero_()
    return net


# --- labels ---


@pytest.mark.parametrize("points", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 64, 65])
def test_labels_are_the_products_by_brute_force(points, length):
    problem = Product(points)
    inputs, targets = problem.draw(6, length, torch.Generator().manual_seed(points), "cpu")
    places = list(itertools.permutations(range(points)))
    assert inputs.shape == targets.shape == (6, length) and inputs.max() < len(places)
    for row, labels in zip(inputs.tolist(), targets.tolist(), strict=True):
        now = list(range(points))  # where each point is
        for symbol, label in zip(row, labels, strict=True):
            now = [places[symbol][point] for point in now]
            assert places[label] == tuple(now)


def test_parity_is_that_of_the_swaps_and_chances_are_told():
    inputs, targets = Product(2).draw(50, 40, torch.Generator().manual_seed(0), "cpu")
    assert torch.equal(targets, inputs.cumsum(dim=1) % 2)
    assert Product(2).chance(64) == 1 / 2 and Product(3).chance(64) == 1 / 6
    inputs, targets = Product(3).draw(2_000, 64, torch.Generator().manual_seed(0), "cpu")
    shares = torch.bincount(targets[:, -1], minlength=6) / 2_000
    assert torch.allclose(shares, torch.full((6,), 1 / 6), atol=0.03)
    products = Product(3).products
    assert (products != products.T).any()  # the order matters
    assert all(sorted(row) == list(range(6)) for row in products.tolist())


# --- the measuring path ---


def test_an_automaton_built_by_hand_is_right_at_every_length(automata):
    found = accuracies(by_hand("automaton"), Product(2), [64, 256, 2_048], 32, seed=0)
    assert found == [Tracked(64, 1.0), Tracked(256, 1.0), Tracked(2_048, 1.0)] and reached_by(found) == 2_048


def test_one_that_loses_the_state_after_200_steps_reaches_128(automata):
    found = accuracies(by_hand("lost"), Product(2), [64, 128, 256], 256, seed=0)
    assert found[1].accuracy == 1 and found[2].accuracy == pytest.approx(0.5, abs=0.1) and reached_by(found) == 128


@pytest.mark.parametrize(("problem", "chance"), [("parity", 1 / 2), ("s3", 1 / 6)])
def test_an_untrained_net_is_at_chance(problem, chance):
    (spec,) = plan("gru", problem=problem)
    case = TrackingCase(**spec.options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = case.net("gru")
    (found,) = accuracies(net, case.made(), [64], 512, seed=0)
    assert found.accuracy == pytest.approx(chance, abs=0.04) and reached_by([found]) == 0


@pytest.mark.parametrize(
    ("accuracies_of", "reached"),
    [([1.0, 0.95, 0.9], 256), ([1.0, 0.89, 1.0], 64), ([0.5, 1.0, 1.0], 0), ([0.9, None, None], 64), ([], 0)],
)
def test_what_is_reached_is_the_longest_length_without_one_before_it_that_failed(accuracies_of, reached):
    lengths = (64, 128, 256)[: len(accuracies_of)]
    assert reached_by(map(Tracked, lengths, accuracies_of)) == reached


def test_a_measurement_is_the_same_again_and_json():
    (spec,) = plan("rnn", problem="s3", steps=3)
    first, again = (PROBE.measure(spec, Listener()) for _ in range(2))
    assert first == again and json.dumps(asdict(first), allow_nan=False)
    assert [one.length for one in first.tested] == [64, 128, 256] and not first.at_least
    assert PROBE.headline(first) == "s3: reached 0 steps"


def test_every_model_is_planned_on_both_problems():
    specs = plan("rnn", "lstm", budget="quick")
    assert len(specs) == 2 * 2 * 3 and [spec.seed for spec in specs] == [0] * 4 + [1] * 4 + [2] * 4
    assert [spec.options["problem"] for spec in specs[:4]] == ["parity", "s3"] * 2
    assert specs[0].options["tested"] == [64, 128, 256, 512, 1_024, 2_048]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"problem": "s4"}, "did you mean s3"),
        ({"problem": "s3,"}, "--problem is empty"),
        ({"longest": 63}, "--longest 63 is out of range"),
        ({"steps": 0}, "--steps 0 is out of range"),
        ({"initialisation": "even"}, "initialisation"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_work(asked, words):
    with pytest.raises(UserError, match=words):
        plan("lstm", **asked)


def test_options_of_its_own_and_of_its_base_are_read_from_the_command_line(here):
    words = ("--steps", "3", "--backbone", "residual", "--layers", "2", "--longest", "64", "--problem", "s3")
    done = here("probe", "tracking", "--model", "lstm", "--budget", "smoke", *words, "--device", "cpu")
    assert done.returncode == 0 and "lstm, seed 0: 1 attempt (used up after 3 steps)" in done.stdout
    refused = here("probe", "copy", "--model", "lstm", "--hidden", "8", "--params", "10k")
    assert refused.returncode == 2 and "can't both be given" in refused.stderr


def test_one_that_sees_the_future_is_not_measured():
    first, *_ = plan("bilstm")
    with pytest.raises(NotApplicable, match="bilstm sees later steps"):
        PROBE.measure(first, Listener())


# --- what a reader sees ---


def of_seed(seed, accuracies_of, problem="parity", model="rnn"):
    (spec,) = plan(model, problem=problem, seeds=1, seed=seed)
    found = tuple(map(Tracked, (64, 128, 256), accuracies_of))
    tries = (Try(60, "steps", 40, 0.9, 0.2, 20, (0.0, 0.2, 0.9, 0.8)),)
    reached = reached_by(found)
    chance = {"parity": 1 / 2, "s3": 1 / 6}[problem]
    return Measured(
        spec, TrackingResult(problem, chance, "default", 32, 3_000, tries, found, reached, reached == 256), Path()
    )


@pytest.fixture(scope="module")
def some():
    return [
        of_seed(0, (1.0, 1.0, 0.95)),
        of_seed(1, (1.0, 0.95, 0.6)),
        of_seed(2, (0.7, 0.6, 0.55)),
        of_seed(0, (0.2, None, None), "s3", "lstm"),
    ]


def test_the_table_shows_every_seed_and_what_is_a_lower_bound(some):
    text = PROBE.table(some)
    assert ">=256 128 0" in text and "| 128 " in text  # the median of three
    assert "parity: accuracy of the last eight steps at each length (chance 0.500)" in text
    assert "s3: accuracy of the last eight steps at each length (chance 0.167)" in text
    assert "0.9 (0.47 to 1)" in text  # not beyond 1
    assert "rnn, seed 1: 1 attempt (used up after 60 steps), best state after 40 steps" in text
    assert PROBE.table([]) == "Nothing was measured."


def test_the_picture_has_a_column_for_each_problem(some, tmp_path):
    chart = PROBE.chart(some)
    assert [panel.title.partition(":")[0] for panel in chart.panels] == ["parity"] * 2 + ["s3"] * 2
    line = chart.panels[0].marks[0]
    assert list(line.x) == [64, 128, 256] and list(line.y) == pytest.approx([0.9, 0.85, 0.7])
    assert {mark.name: mark.at for mark in chart.panels[2].marks[1:]} == {"kept": 0.9, "guessing": 1 / 6}
    assert draw(chart, tmp_path / "tracking.png").stat().st_size > 10_000

"""The memory probe: nets whose memory is known come out with it, and edges of seeds add up as worked out by hand."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import seqbench
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.models.backbone import count_parameters
from seqbench.models.mixer import MODELS
from seqbench.probes import Measured, ProbeSpec, Request
from seqbench.probes.memory import BUDGETS, Ladder, Memory, MemoryOptions, MemoryResult, Rung, Untrained, edge_of, edges
from seqbench.probes.shared.nets import build_net, width_of_size
from seqbench.probes.shared.problems import Selective
from seqbench.probes.shared.training import train
from seqbench.report.chart import Points
from seqbench.report.draw import draw

torch.set_num_threads(1)
PROBE = Memory()
WINDOW = 12


class Held(seqbench.Mixer):
    """Says the first input at every step."""

    def state_size(self, length):
        return self.d_out

    def forward(self, x, lengths=None):
        return x[:, :1].expand_as(x)


class Cleared(Held):
    """Says the input of WINDOW steps ago, the first one until then."""

    def forward(self, x, lengths=None):
        return x[:, (torch.arange(x.shape[1]) - WINDOW).clamp(min=0)]


class Spoilt(Held):
    """Holds its first input, but not over 16 to 30 steps; training on those spoils it for good."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, lengths=None):
        fails = 16 <= x.shape[1] <= 30
        if fails and self.training:
            self.scale.data.zero_()
        return self.scale * (x if fails else x[:, :1].expand_as(x))


@pytest.fixture
def known_memories():
    made = {"held": Held, "cleared": Cleared, "spoilt": Spoilt}
    for name, mixer in made.items():
        seqbench.register_model(name)(mixer)
    yield
    for name in made:
        MODELS.remove(name)


def plan(*models, budget="smoke", seeds=None, seed=0, **options):
    return PROBE.plan(Request(budget=budget, seeds=seeds, seed=seed), MemoryOptions(**options), models, "cpu")


def measured(*models, **asked):
    """Results by model and regime, one seed each."""
    results = {}
    for spec in plan(*models, **asked):
        result = PROBE.measure(spec, Listener())
        assert json.dumps(asdict(result), allow_nan=False)
        results[spec.models[0], spec.options["regime"]] = result
    return results


# --- nets whose memory is known ---


def test_a_net_that_holds_its_first_input_for_ever_gets_at_least(known_memories):
    results = measured("held", longest=64)
    for regime, result in results.items():
        assert result.edge == 64 and result.at_least and result.first_fail is None, regime
        assert all(rung.solved and rung.attempt == 1 for rung in result.rungs)
        assert PROBE.headline(result).endswith("at least 64 steps")
    beyond = results["held", "staged"].beyond
    assert [one.length for one in beyond] == [128, 256, 512] and all(one.score == 1 for one in beyond)
    assert results["held", "cold"].beyond == ()


def test_a_net_that_is_cleared_after_w_steps_gets_exactly_w(known_memories):
    results = measured("cleared", longest=64)
    cold, staged = results["cleared", "cold"], results["cleared", "staged"]
    assert [rung.length for rung in cold.rungs] == [4, 8, 16, 16, 32, 32, 12]  # two failures, then in between
    assert (cold.edge, cold.first_fail, cold.monotone, cold.at_least) == (12, 16, True, False)
    assert all(abs(rung.score) < 0.1 for rung in cold.rungs if rung.length > 12)
    assert (staged.edge, staged.first_fail, staged.at_least) == (10, 20, False)
    assert [(one.length, one.low < 0.1) for one in staged.beyond] == [(20, True), (40, True), (80, True)]


def test_a_failed_rung_is_tried_again_at_a_third_of_the_learning_rate(known_memories):
    for result in measured("cleared", longest=16).values():
        tries = [rung for rung in result.rungs if rung.length == 16]
        assert [rung.attempt for rung in tries] == [1, 2]
        assert tries[1].learning_rate == pytest.approx(tries[0].learning_rate / 3)


def test_a_stage_that_the_net_passes_as_it_is_takes_no_steps(known_memories):
    rungs = measured("held", regime="staged", longest=20)["held", "staged"].rungs
    assert [rung.steps > 0 for rung in rungs] == [True, False, False]


def test_longer_lengths_are_tried_on_the_net_as_it_was_before_the_stage_that_failed(known_memories):
    result = measured("spoilt", regime="staged", longest=40)["spoilt", "staged"]
    assert (result.edge, result.first_fail) == (10, 20)
    assert [(one.length, one.score > 0.9) for one in result.beyond] == [(20, False), (40, True), (80, True)]


# --- what is known of trained nets ---


def test_an_rnn_taught_in_stages_goes_far_beyond_the_same_rnn_from_cold():
    results = measured("rnn", longest=40)
    cold, staged = results["rnn", "cold"], results["rnn", "staged"]
    assert 4 <= cold.edge <= 10 and cold.first_fail <= 16
    assert staged.edge == 40 and staged.at_least
    assert cold.params == staged.params and cold.width == staged.width == 32


def test_attention_solves_selective_recall_where_an_lstm_of_equal_parameters_does_not():
    problem, pairs, params = Selective(16), 4, 15_000
    found, sizes = {}, []
    for model in ("transformer", "lstm"):
        width = width_of_size(params, model, problem.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build_net(model, problem.shape, width)
        sizes.append(count_parameters(net))
        found[model] = train(net, problem, pairs, torch.Generator().manual_seed(0), steps=300)
    assert max(sizes) < 1.1 * min(sizes)
    assert found["transformer"].solved and found["transformer"].steps <= 150
    assert not found["lstm"].solved and found["lstm"].score < 0.3


# --- what decides a result ---


def test_a_result_depends_on_the_seed_and_on_nothing_that_ran_before():
    (spec,) = plan("gru", problem="adding", regime="cold", longest=5)
    first = PROBE.measure(spec, Listener())
    torch.rand(7)
    assert PROBE.measure(spec, Listener()) == first
    (other,) = plan("gru", problem="adding", regime="cold", longest=5, seed=1)
    assert PROBE.measure(other, Listener()).rungs != first.rungs
    (longer,) = plan("gru", problem="adding", regime="cold", longest=4)
    assert PROBE.measure(longer, Listener()).rungs == first.rungs[:1]


def test_the_initialisation_asked_for_is_the_one_measured():
    for spec in plan("lstm", initialisation="all", regime="cold"):
        net = Ladder(**spec.options).net("lstm")
        bias = float(spec.options["initialisation"][-1])
        gate = slice(32, 64)
        kernel = net.layers[0].kernel
        assert (kernel.bias_ih_l0[gate] == bias).all() and (kernel.bias_hh_l0[gate] == 0).all()


def test_a_model_that_sees_the_future_is_planned_once_and_says_why_not():
    planned = plan("bilstm", "rnn", budget="quick", seeds=2)
    (spec,) = [spec for spec in planned if spec.models == ("bilstm",)]
    assert len(planned) > 2
    with pytest.raises(NotApplicable, match="later steps"):
        PROBE.measure(spec, Listener())
    assert len(plan("bilstm", params=20_000, seeds=3)) == 1


# --- what is planned ---


def test_quick_is_what_the_protocol_says():
    planned = plan("rnn", "lstm", budget="quick")
    assert [spec.seed for spec in planned] == sorted(spec.seed for spec in planned)  # seeds outermost

    def some(**wanted):
        return [spec for spec in planned if wanted.items() <= {**spec.options, "model": spec.models[0]}.items()]

    for problem, steps in (("recall", 600), ("adding", 1500)):
        cold, staged = (some(model="rnn", problem=problem, regime=regime) for regime in ("cold", "staged"))
        assert [spec.seed for spec in cold] == [spec.seed for spec in staged] == list(range(6))
        assert cold[0].options["lengths"] == [4, 8, 16, 32, 64, 128] and set(cold[0].options["steps"]) == {steps}
        assert staged[0].options["lengths"] == [5, 10, 20, 40, 80, 160, 320]
        assert staged[0].options["steps"] == [steps] + [300] * 6
    assert {spec.options["width"] for spec in planned} == {64}
    pairs = some(model="rnn", problem="selective", regime="staged")
    assert pairs[0].options["lengths"] == [2, 4, 8, 16] and pairs[0].options["largest"] == 16
    assert all(ProbeSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec for spec in planned)
    assert BUDGETS["standard"]["recall"].cold == 1024


def test_options_choose_what_is_measured():
    def chosen(key, *models, **options):
        return [spec.options[key] for spec in plan(*models, **options)]

    assert chosen("problem", "rnn", problem="adding,copy", regime="cold") == ["adding", "copy"]
    assert set(chosen("problem", "rnn", problem="all")) == {"recall", "adding", "copy", "selective", "multi-query"}
    assert chosen("regime", "rnn") == ["cold", "staged"]
    assert chosen("initialisation", "rnn", regime="cold") == ["default"]
    assert chosen("initialisation", "lstm", "rnn", initialisation="orthogonal,forget-bias-3", regime="cold") == [
        "forget-bias-3", "orthogonal"]  # fmt: skip
    assert chosen("initialisation", "lstm", initialisation="default,forget-bias-3", regime="cold") == [
        "forget-bias-1", "forget-bias-3"]  # fmt: skip
    assert chosen("lengths", "rnn", longest=20) == [[4, 8, 16, 20], [5, 10, 20]]
    assert chosen("lengths", "rnn", problem="selective", pairs=6, regime="cold") == [[2, 4, 6]]
    assert chosen("blank", "rnn", problem="recall,adding", blank=True, regime="cold") == [True, False]
    (spec,) = plan("gru", params=5_000, regime="cold")
    assert count_parameters(Ladder(**spec.options).net("gru")) == pytest.approx(5_000, rel=0.1)
    (deep,) = plan("rnn", layers=2, backbone="residual", hidden=16, regime="cold")
    net = Ladder(**deep.options).net("rnn")
    assert len(net.layers) == 2 and net.residual


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"problem": "recal"}, "did you mean recall"),
        ({"problem": "recall,"}, "--problem is empty"),
        ({"initialisation": "orthogonal"}, "initialisation"),  # the only model lacks it
        ({"longest": 0}, "--longest 0 is out of range: take 1 to"),
        ({"longest": 1, "problem": "adding"}, "take 2 to"),
        ({"longest": 10**9}, "--longest"),
        ({"longest": 10**7}, "the largest that fits is"),
        ({"hidden": 0}, "--hidden 0 is out of range"),
        ({"hidden": 8, "params": 1000}, "can't both be given"),
        ({"params": 1}, "--params 1"),
        ({"pairs": 1}, "--pairs 1 is out of range"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_work(asked, words):
    with pytest.raises(UserError, match=words):
        plan("lstm", **asked)


def test_a_width_that_the_model_can_not_have_is_refused():
    with pytest.raises(UserError, match="multiple of 8"):
        plan("transformer", hidden=30)


# --- edges ---


def rung(length, solved, attempt=1, rises=False):
    score, low = (0.95, 0.93) if solved else (0.2, 0.1)
    return Rung(length, 3e-3, 100, solved, False, attempt, score, low, rises)


@pytest.mark.parametrize(
    "rungs, expected",
    [
        ([rung(4, True), rung(8, True)], (8, None, True)),
        ([rung(4, True), rung(8, False), rung(8, True, 2), rung(16, False), rung(16, False, 2)], (8, 16, True)),
        ([rung(4, False), rung(4, False, 2)], (0, 4, True)),
        ([rung(4, True), rung(8, False), rung(16, True), rung(6, True)], (6, 8, False)),
        ([rung(4, True), rung(8, False), rung(16, True), rung(6, False)], (4, 6, False)),
    ],
)
def test_an_edge_is_the_longest_with_all_up_to_it_solved(rungs, expected):
    assert edge_of(rungs) == expected
    assert edge_of(rungs[::-1]) == expected


def of_seed(seed, rungs, last, beyond=(), regime="cold"):
    (spec,) = plan("rnn", regime=regime, seeds=1, seed=seed, longest=last)
    edge = edge_of(rungs)
    result = MemoryResult(
        "recall", regime, "default", 32, "steps", 2920, 0.125, "guessing", tuple(rungs), *edge,
        at_least=edge.edge == last, beyond=tuple(beyond),
    )  # fmt: skip
    return Measured(spec, result, Path())


def test_seeds_add_up_to_a_median_and_a_range():
    up_to = {length: [rung(2**i, 2**i <= length) for i in range(2, 7) if 2**i <= 2 * length] for length in (4, 8, 16)}
    (row,) = edges([of_seed(seed, up_to[edge], 64) for seed, edge in enumerate([8, 4, 8, 16, 16, 4])])
    assert row.edges == (8, 4, 8, 16, 16, 4) and row.median == 8 and not row.median_at_least
    assert (row.low, row.high) == (4, 32)
    assert row.coverage == pytest.approx(0.96875)  # 1 - 2 (1/2)^6
    (three,) = edges([of_seed(seed, up_to[edge], 64) for seed, edge in enumerate([8, 16, 4])])
    assert three.coverage == 0.75 and three.median == 8


def test_an_edge_whose_score_still_rose_is_one_of_the_budget():
    rising = [rung(4, True), rung(8, False, rises=True), rung(8, False, 2), rung(16, False)]
    later = [rung(4, True), rung(8, False), rung(8, False, 2), rung(16, False, rises=True)]  # beyond the edge
    (row,) = edges([of_seed(0, rising, 64), of_seed(1, later, 64)])
    assert row.rising == (True, False)
    text = PROBE.table([of_seed(0, rising, 64), of_seed(1, later, 64)])
    assert "4^ 4 " in text and "of the budget, not of the model" in text
    assert "of the budget" not in PROBE.table([of_seed(1, later, 64)])


def test_more_steps_are_a_row_of_their_own_and_so_is_another_rate():
    (usual,) = plan("rnn", regime="staged", longest=20)
    (more,) = plan("rnn", regime="staged", longest=20, steps=7, learning_rate=0.01)
    assert usual.options["steps"][0] > 7 and usual.options["learning_rate"] == 0.003
    assert more.options["steps"] == [7, 7, 7] and more.options["learning_rate"] == 0.01
    result = of_seed(0, [rung(5, True), rung(10, False)], 20, regime="staged").result
    rows = edges([Measured(spec, result, Path()) for spec in (usual, more)])
    assert [row.place[1] for row in rows] == ["", "7 steps, learning rate 0.01"]


def test_a_ladder_that_ended_leaves_the_range_open():
    whole, part = [rung(4, True), rung(8, True)], [rung(4, True), rung(8, False)]
    (row,) = edges([of_seed(0, whole, 8), of_seed(1, whole, 8), of_seed(2, part, 8)])
    assert row.at_least == (True, True, False) and row.median == 8 and row.median_at_least
    assert (row.low, row.high) == (4, None)
    (other,) = edges([of_seed(0, whole, 8), of_seed(1, part, 8), of_seed(2, part, 8)])
    assert other.median == 4 and not other.median_at_least
    (even,) = edges([of_seed(0, whole, 8), of_seed(1, part, 8)])
    assert even.median == 4 and not even.median_at_least  # 6 was never tried


def test_other_options_and_regimes_are_rows_of_their_own():
    whole = [rung(4, True), rung(8, True)]
    rows = edges(
        [of_seed(0, whole, 8), of_seed(0, whole, 8, regime="staged"), of_seed(0, whole, 16), of_seed(1, whole, 8)]
    )
    assert [(row.regime, len(row.edges)) for row in rows] == [("cold", 2), ("staged", 1), ("cold", 1)]


def test_untrained_lengths_are_counted_by_their_multiple_of_the_edge():
    def beyond(edge, scores):
        return [Untrained(edge * 2**i, score, score and score - 0.02) for i, score in enumerate(scores, 1)]

    first = of_seed(0, [rung(5, True), rung(10, False)], 10, beyond(5, (0.99, 0.91, 0.5)), "staged")
    second = of_seed(1, [rung(5, True), rung(10, True)], 10, beyond(10, (0.95, 0.95, None)), "staged")
    (row,) = edges([first, second])
    assert row.beyond == ((2, 2, 2), (4, 2, 1), (8, 2, 0))


# --- what a reader sees ---


@pytest.fixture(scope="module")
def some():
    jump = [rung(4, True), rung(8, False), rung(16, True), rung(6, False)]
    whole = [rung(length, True) for length in (4, 8, 16)]
    beyond = [Untrained(20, 0.97, 0.95), Untrained(40, None, None)]
    staged = of_seed(0, [rung(5, True), rung(10, True), rung(16, False)], 16, beyond, "staged")
    return [of_seed(0, jump, 16), of_seed(1, whole, 16), of_seed(2, [rung(4, False), rung(8, False)], 16), staged]


def test_the_table_shows_every_seed_and_marks_what_is_unusual(some):
    text = PROBE.table(some)
    assert "4! >=16 0 " in text
    assert "0 to ? (75.0%)" in text
    assert "2x 1/1, 4x 0/1" in text
    assert "guessing" in text and "learnable lag" in text and "retainable lag" in text
    assert "rnn on recall: 4 steps from cold, 10 taught in stages." in text
    assert PROBE.table([]) == "Nothing was measured."


def test_the_picture_shows_what_was_measured(some, tmp_path):
    chart = PROBE.chart(some)
    assert [panel.title.partition(":")[0] for panel in chart.panels] == [
        "recall, smoke, cpu", "recall, cold", "recall, staged"]  # fmt: skip
    seeds, odd, median, *_ = chart.panels[0].marks
    assert sorted([*seeds.x, *odd.x]) == [2, 4, 16] and list(odd.x) == [4]  # 0 stands at half the shortest length
    assert (median.x, median.low, median.high) == ([4], [2], [float("inf")])
    assert any("also solved longer" in note for note in chart.notes)
    curves = [mark for mark in chart.panels[2].marks if hasattr(mark, "dash")]
    assert [(list(curve.x), list(curve.y)) for curve in curves] == [([10, 20, 40], [0.95, 0.97, -0.12])]
    assert len(PROBE.chart(some[2:3]).panels) == 2 and len(PROBE.chart(some[3:]).panels) == 2  # no empty ones
    assert draw(chart, tmp_path / "plots" / "all.png").stat().st_size > 10_000


def held(model, steps, edges, state):
    """Seeds of a model that was taught pairs with so many steps for each number; an edge of 16 is the last there is."""
    specs = plan(
        model,
        problem="selective",
        regime="staged",
        seeds=len(edges),
        steps=steps,
        pairs=16,
        budget="quick",
        params=20_000,
    )
    for spec, edge in zip(specs, edges, strict=True):
        rungs = tuple(rung(2**i, 2**i <= edge) for i in range(1, 5) if 2**i <= max(2, 2 * edge))
        yield Measured(
            spec,
            MemoryResult(
                "selective", "staged", "default", 64, "pairs", 20_000, 0.25, "guessing", rungs, *edge_of(rungs),
                at_least=edge == 16, beyond=(), state_size=state,
            ),
            Path(),
        )  # fmt: skip


def test_pairs_are_drawn_against_steps_and_against_the_state():
    few = [*held("lstm", 2_000, [0, 2, 2], 128), *held("transformer", 2_000, [16, 16, 16], 4_096)]
    assert not any("against" in panel.title for panel in PROBE.chart(few).panels)  # of one number of steps: no line
    more = [*few, *held("lstm", 8_000, [4, 4, 8], 128)]
    steps, states = [panel for panel in PROBE.chart(more).panels if "against" in panel.title]
    lstm = next(mark for mark in steps.marks if isinstance(mark, Points) and mark.label == "lstm")
    assert (list(lstm.x), list(lstm.y)) == ([2_000, 8_000], [2, 4])
    assert (list(lstm.low), list(lstm.high)) == ([1, 4], [4, 16])  # none held stands at 1
    assert {(mark.label, *mark.x, *mark.y) for mark in states.marks} == {("lstm", 128, 4), ("transformer", 4_096, 16)}
    assert "8,000" in states.title and steps.y.scale == states.y.scale == "log2"
    old = [replace(one, result=replace(one.result, state_size=None)) for one in more]
    assert not any("state" in panel.title for panel in PROBE.chart(old).panels)

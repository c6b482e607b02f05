"""What claims make of results: made-up ones, whose right answer is known."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seqbench.board import PairedSkill
from seqbench.claims import CLAIMS, Evidence, all_claims, register_claim
from seqbench.claims.context import lstm_context
from seqbench.claims.cost import _not_inferior, lstm_fourfold
from seqbench.claims.gradient import gradients_vanish
from seqbench.claims.memory import attention_lifts, rnn_memory
from seqbench.claims.rules import NOT_MEASURED, Claim
from seqbench.probes import Measured, ProbeSpec
from seqbench.probes.context import TextResult
from seqbench.probes.cost import CostResult
from seqbench.probes.gradient import GradientResult
from seqbench.probes.memory import MemoryResult, Rung, Untrained
from seqbench.probes.shared.fits import LayerCounts
from seqbench.stats import Interval

KS = [1, 8, 64, 512, 2048, 4096]


def made(kind, **known):
    """A result of which a claim reads what is ``known``."""
    needed = (field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING)
    return kind(**{**dict.fromkeys(needed), **known})


def measured(probe, models, seed, result, **options):
    spec = ProbeSpec(probe, tuple(models), seed, "quick", "cpu", 1, options)
    return Measured(spec, result, Path(f"{'-'.join(models)}{seed}"))


def reader(seed, losses, length=512, per_word=5.0, test=2.0):
    """An LSTM whose mean losses after ``KS`` characters are these."""
    rough = 1 + 0.001 * np.random.default_rng(seed).normal(size=(20, 1))
    result = made(
        TextResult, task="textgen", ks=KS, sums=(100 * rough * np.array(losses)).tolist(), counts=[100] * 20,
        chars_per_word=per_word, length=length, params=1000, width=8, test=test,
    )  # fmt: skip
    return measured("context", ["lstm"], seed, result, training={"steps": 100, "batch_size": 32})


def readers(losses, *rest):
    return [reader(seed, losses, *rest) for seed in range(5)]


def word_reader(seed, losses, test=80.0, ngrams=90.0):
    """The same net, as it reads words."""
    one = reader(seed, losses, 128, None, test)
    result = dataclasses.replace(one.result, symbol="word", ngrams=ngrams)
    return measured("context", ["lstm"], seed, result, option="unit=word", **one.spec.options)


def beside(ngrams):
    """The table of a board with this figure of n-grams."""
    baselines = {} if ngrams is None else {"kneser-ney": SimpleNamespace(value=ngrams)}
    return [SimpleNamespace(conditions=read_as(), baselines=baselines)]


def read_as(source="embedded", **options):
    return SimpleNamespace(task="textgen", source=source, options=options)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([3.0, 2.0, 2.0, 2.0, 2.0, 2.0], "refuted"),  # 8 characters, 1.6 words
        ([3.0, 2.6, 2.3, 2.0, 2.0, 2.0], "inconclusive"),  # 509 characters, 102 words: where the windows end
        ([3.0, 2.6, 2.01, 2.0, 2.0, 2.0], "inconclusive"),  # 341 characters, 68 words, likewise
        ([3.0, 2.9, 2.6, 2.0037, 2.0, 2.0], "depends on what a step is"),  # 960 characters, 190 words
    ],
)
def test_an_lstms_context_is_read_in_words_and_in_characters(losses, verdict):
    claim = lstm_context(Evidence(readers(losses), tables=beside(2.1)))
    assert [c.axes["what a step is"] for c in claim.conditions] == ["a word", "a character"]
    words, characters = (c.figure for c in claim.conditions)
    assert words.value == pytest.approx(characters.value / 5)
    assert str(claim.verdict) == verdict, claim.conditions


def test_what_the_windows_of_training_bound_is_no_verdict():
    losses = [3.0, 2.6, 2.01, 2.0, 2.0, 2.0]  # 341 characters: 68 words
    long, short = (
        lstm_context(Evidence(readers(losses, length), tables=beside(2.1))).conditions[0] for length in (1024, 512)
    )
    assert long.inside is False and short.inside is None and "windows of training" in short.note
    assert "gains no more than 1% of its perplexity a word" in lstm_context(Evidence([reader(0, losses)])).statement


def test_a_net_that_carried_its_state_is_not_bound_by_its_windows_and_has_a_sentence_of_its_own():
    losses = [3.0, 2.6, 2.01, 2.0, 2.0, 2.0]  # 341 characters: 68 words
    wide = []
    for one in readers(losses):
        result = dataclasses.replace(one.result, width=512, params=9_000)
        wide.append(measured("context", ["lstm"], one.spec.seed, result, carry_state=True, **one.spec.options))
    claim = lstm_context(Evidence([*readers(losses), *wide], tables=beside(2.1)))
    assert [(c.axes["width"], c.inside) for c in claim.conditions] == [
        ("8", None), ("8", True), ("512", False), ("512", True)
    ]  # fmt: skip
    assert claim.conditions[2].axes["training"].endswith(", the state carried from one to the next")
    assert "An LSTM of 1,000 parameters" in claim.statement and "An LSTM of 9,000 parameters" in claim.statement


def test_a_net_that_reads_words_is_a_test_of_its_own_by_its_own_n_grams():
    """Its k are words, and what the board has of characters is no measure of it."""
    far = [3.0, 2.9, 2.6, 2.02, 2.0, 2.0]  # 512 to 2,048 words
    for ngrams, inside in ((90.0, False), (70.0, None)):
        claim = lstm_context(Evidence([word_reader(seed, far, ngrams=ngrams) for seed in range(5)], tables=beside(2.1)))
        (condition,) = claim.conditions
        assert condition.axes == {"training": "100 steps of 32 windows of words", "what a step is": "a word"}
        assert condition.figure.value > 500 and condition.inside is inside, condition
        assert (inside is None) == ("a perplexity of 80 a word" in condition.note), condition.note
        assert "windows of 128 words of the King James Bible" in claim.statement
        assert {name for name, rows in claim.beside.items() if rows and "used" in name} == {
            "Words used, by the perplexity a word that may be lost:"
        }
    both = [*readers([3.0, 2.0, 2.0, 2.0, 2.0, 2.0]), *(word_reader(seed, far) for seed in range(5))]
    claim = lstm_context(Evidence(both, tables=beside(2.1)))
    assert len(claim.conditions) == 3 and claim.statement.count("An LSTM of") == 2
    assert str(claim.verdict).startswith("refuted")


@pytest.mark.parametrize(("ngrams", "tested"), [(1.74, False), (2.0, False), (2.1, True), (None, False)])
def test_a_net_that_n_grams_beat_is_no_test_of_its_kind(ngrams, tested):
    claim = lstm_context(Evidence(readers([3.0, 2.0, 2.0, 2.0, 2.0, 2.0]), tables=beside(ngrams)))
    assert str(claim.verdict) == ("refuted" if tested else "not tested")
    for condition in claim.conditions:
        assert condition.tested == tested
        if not tested:
            why = (
                "no figure of kneser-ney"
                if ngrams is None
                else f"(2 bits per character) than an n-gram model does (kneser-ney: {ngrams:g})"
            )
            assert why in condition.note
    better = readers([3.0, 2.0, 2.0, 2.0, 2.0, 2.0], 512, 5.0, 1.7)
    assert str(lstm_context(Evidence(better, tables=beside(1.74))).verdict) == "refuted"


def climber(
    model, seed, edge, fail, problem="selective", regime="staged", initialisation="default", axis="pairs", rises=False,
    steps=600, beyond=(),
):  # fmt: skip
    """One seed's ladder: it passed ``edge`` and failed at ``fail``, or ended."""
    rungs = () if fail is None else (Rung(fail, 0.01, 600, False, False, 1, 0.5, 0.4, rises),)
    result = made(
        MemoryResult, problem=problem, regime=regime, initialisation=initialisation, width=32, params=20_000, axis=axis,
        memoryless="guessing", edge=edge, first_fail=fail, at_least=fail is None, monotone=True, beyond=beyond,
        rungs=rungs,
    )  # fmt: skip
    options = {"problem": problem, "regime": regime, "width": 32, "layers": 1, "backbone": "bare", "blank": False,
               "largest": None, "lengths": [4, 8], "steps": [steps], "learning_rate": 0.01}  # fmt: skip
    return measured("memory", [model], seed, result, initialisation=initialisation, **options)


def pairs(model, *seeds):
    return [climber(model, seed, edge, fail) for seed, (edge, fail) in enumerate(seeds)]


def test_the_ratio_of_edges_is_no_more_than_what_the_ladders_tell():
    def compared(*ladders):
        claim = attention_lifts(Evidence([one for ladder in ladders for one in ladder]))
        return claim.conditions[0], claim.statement

    lstm, ended = pairs("lstm", *[(2, 4)] * 6), pairs("transformer", *[(16, None)] * 6)
    one, _ = compared(lstm, ended)
    assert (one.figure.value, one.figure.low, one.figure.high) == (4, 4, math.inf) and one.inside and one.at_least
    one, _ = compared(lstm, pairs("transformer", *[(8, 16)] * 6))
    assert tuple(one.figure) == (4, 2, 8) and one.inside and not one.at_least
    one, _ = compared(pairs("lstm", *[(16, None)] * 6), ended)
    assert math.isnan(one.figure.value) and one.inside is None
    one, _ = compared(lstm, pairs("transformer", *[(2, 4)] * 6))
    assert one.inside is None
    one, statement = compared(pairs("lstm", *[(0, 2)] * 6), ended)
    assert one.figure.low == 8 and "an LSTM of 20,000 holds no pairs" in statement


def test_pairs_are_compared_after_each_number_of_steps_and_at_lengths_never_taught():
    def ladder(model, edges, **about):
        return [climber(model, seed, *edge, **about) for seed, edge in enumerate(edges)]

    def recall(model, lows):
        beyond = tuple(Untrained(80 * 2**i, low, low) for i, low in enumerate(lows, 1))
        return ladder(model, [(80, 160)] * 6, problem="recall", axis="steps", beyond=beyond)

    known = [
        *ladder("lstm", [(2, 4)] * 6), *ladder("transformer", [(16, None)] * 6),
        *ladder("lstm", [(8, 16)] * 6, steps=9600), *ladder("transformer", [(16, None)] * 6, steps=9600),
        *ladder("gru", [(4, 8)] * 6, steps=9600),
        *recall("lstm", (1.0, 1.0, 1.0)), *recall("transformer", (0.95, 0.1, 0.1)),
    ]  # fmt: skip
    claim = attention_lifts(Evidence(known))
    told = {(c.axes["measure"], c.axes["steps"]): c for c in claim.conditions}
    assert [(*axes, c.inside) for axes, c in told.items()] == [
        ("pairs of selective recall", "600", True),
        ("pairs of selective recall", "9,600", None),  # one to two times as many
        ("recall at 2 times the length taught", "", None),  # 6 of 6 on both sides
        ("recall at 4 times the length taught", "", False),  # 0 of 6 against 6 of 6
    ]
    assert told["recall at 4 times the length taught", ""].figure.value == -1
    assert str(claim.verdict) == "depends on measure"
    assert "at least 16 pairs and 8 pairs (8 to 16) (selective recall, at most 9,600 steps" in claim.statement
    (aside,) = claim.beside["Pairs that others of about the same size hold:"]
    assert "GRU of 20,000 parameters, selective recall, 9,600 steps for each number: 4 pairs" in aside.text


def test_what_an_rnn_bridges_is_said_of_its_usual_start_with_the_seeds_range():
    def ladder(regime, initialisation, *seeds):
        return [climber("rnn", seed, *it, "recall", regime, initialisation, "steps") for seed, it in enumerate(seeds)]

    ladders = ladder("cold", "default", *[(6, 8)] * 5, (8, 12)) + ladder("cold", "orthogonal", *[(16, 24)] * 6)
    ladders += ladder("staged", "default", *[(10, 20)] * 3, *[(320, None)] * 3)
    claim = rnn_memory(Evidence(ladders))
    assert "bridges 6 steps (6 to 12) in recall if a fresh net learns each length" in claim.statement
    assert "and 10 steps (10 and more) in recall if one net is taught" in claim.statement  # a length that was tried
    assert [c.inside for c in claim.conditions] == [True, None, None] and str(claim.verdict) == "inconclusive"


def test_an_edge_whose_score_still_rose_has_no_upper_end():
    def told(rises):
        ladder = [climber("rnn", seed, 8, 16, "recall", "cold", axis="steps", rises=rises) for seed in range(6)]
        return rnn_memory(Evidence(ladder)).conditions[0]

    assert told(False).inside is True and told(False).note == ""
    assert told(True).inside is None and told(True).figure.high == math.inf
    assert "in 6 of 6 seeds the score at the first failure still rose" in told(True).note


def timed(seconds, shapes):
    """A measurement in which ``seconds`` maps a model to a function of batch and length."""
    models = {
        name: made(LayerCounts, params_mixer=100 * n, flops_per_token=10 * n, state_size=0)
        for n, name in enumerate(seconds, start=1)
    }
    wide = np.exp(0.01 * np.random.default_rng(0).normal(size=(len(shapes), 8)))
    times = {
        name: {what: (np.array([[of(*shape)] for shape in shapes]) * wide).tolist() for what in ("train", "forward")}
        for name, of in seconds.items()
    }
    result = made(CostResult, track="width", backend="kernel", models=models, seconds=times, shapes=shapes)
    return Evidence([measured("cost", seconds, 0, result, hidden=128)])


def test_a_batchs_ratio_is_not_taken_for_a_lengths():
    """Batches of 64 fit at 32 steps only: a ratio that grows with the batch must not seem to fall with the length."""
    shapes = [(1, 32), (16, 32), (64, 32), (1, 2048), (16, 2048)]
    claim = lstm_fourfold(timed({"rnn": lambda b, t: t, "lstm": lambda b, t: t * (4 if b == 64 else 2)}, shapes))
    times = [c for c in claim.conditions if c.axes["measure"] == "training time"]
    assert [(c.axes["batch"], c.axes["length"]) for c in times] == [("1", "32"), ("1", "2,048"), ("64", "32")]
    assert [c.figure.value for c in times] == pytest.approx([2.0, 2.0, 4.0])
    assert "from 2 times as long at batch 1" in claim.statement and "to 4 times as long at batch 64" in claim.statement


def test_one_shape_alone_is_said():
    claim = lstm_fourfold(timed({"rnn": lambda b, t: t, "lstm": lambda b, t: 2 * t}, [(1, 32)]))
    assert "from 2 times as long at batch 1 and 32 steps to 2 times" in claim.statement


@pytest.mark.parametrize(
    ("difference", "least", "lead", "tested", "inside"),
    [
        ((0.0, -0.01, 0.01), 0.015, 0.5, True, True),
        ((0.0, -0.01, 0.01), 0.05, 0.5, False, None),  # a difference of the margin would not be found
        ((0.0, -0.003, 0.003), 0.004, 0.006, False, None),  # nor one of half of what can be won at all
        ((0.0, -0.002, 0.002), 0.002, 0.006, True, True),
        ((-0.1, -0.12, -0.08), 0.05, 0.5, True, False),  # which is found all the same
        ((0.1, 0.08, 0.12), 0.05, 0.5, True, True),
        ((0.0, -0.03, 0.03), 0.015, 0.5, True, None),
    ],
)
def test_skill_is_not_inferior_only_where_the_task_could_tell(difference, least, lead, tested, inside):
    paired = PairedSkill(Interval(*difference), tuple(range(5)), [], "", least, lead)
    condition = _not_inferior(paired, "weather", "quick")
    assert (condition.tested, condition.inside) == (tested, inside)
    assert condition.regions == ((-min(0.02, lead / 2), math.inf),)
    assert tested or "would not be found here" in condition.note


def faller(model, seed, slope, fall, state=True):
    result = made(
        GradientResult, slope=slope, slope_range=(1, 100), slope_far=slope, slope_far_range=(1, 199), fall=fall,
        fall_at=100, fall_is_least=False, explosion_most=0.0, state={} if state else None,
    )  # fmt: skip
    options = {"when": "start", "initialisation": "default", "hidden": 64, "layers": 1, "backbone": "bare",
               "length": 200, "samples": 16, "stages": [], "steps": 0}  # fmt: skip
    return measured("gradient", [model], seed, result, **options)


def test_gradients_are_judged_where_a_state_is_multiplied():
    fallers = [faller("rnn", seed, -0.5 - 0.01 * seed, 21.0 + seed) for seed in range(5)]
    fallers += [faller("transformer", seed, 1e-5 * seed, 0.01 * seed, state=False) for seed in range(5)]
    claim = gradients_vanish(Evidence(fallers))
    assert [c.axes["model"] for c in claim.conditions] == ["rnn"] and str(claim.verdict) == "supported"
    assert (
        "vanishes in plain RNN (down 23)" in claim.statement and "in a Transformer layer, where no" in claim.statement
    )
    between = gradients_vanish(Evidence([faller("rnn", seed, -0.02, 1.0 + 0.01 * seed) for seed in range(5)]))
    assert between.conditions[0].inside is None and "neither true nor false" in between.conditions[0].note


def test_what_a_claim_needs_and_lacks_stands_with_it():
    specs = [climber(model, 0, 8, 16).spec for model in ("rnn", "rnn", "gru")]
    claims = {claim.number: claim for claim in all_claims(Evidence(missing=specs))}
    assert list(claims) == list(range(1, 11))
    assert claims[1].lacks == "2 measurements of the memory probe" and claims[8].lacks == ""
    assert claims[1].statement == NOT_MEASURED and str(claims[1].verdict) == "not measured"


def test_a_file_can_add_a_claim_of_its_own():
    def eleventh(evidence):
        return Claim("Eleven is a number.", "here", "counted", "It is.", [])

    register_claim(11, needs={"memory": ()})(eleventh)
    try:
        last = all_claims(Evidence(missing=[climber("mine", 0, 8, 16).spec]))[-1]
        assert last.number == 11 and last.lacks == "1 measurement of the memory probe"
    finally:
        CLAIMS.remove("11")

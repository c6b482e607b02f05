"""What claims make of results: made-up ones, whose right answer is known."""

import math
from pathlib import Path

import numpy as np
import pytest

from seqbench.claims.context import lstm_context
from seqbench.claims.cost import lstm_fourfold
from seqbench.claims.gradient import gradients_vanish
from seqbench.claims.memory import attention_lifts, rnn_memory
from seqbench.probes import Case, Found

KS = [1, 8, 64, 512, 2048, 4096]


def case(probe, models, seed, **options):
    return Case(probe, tuple(models), seed, "quick", "cpu", 1, options)


def reader(seed, losses, length=512, per_word=5.0):
    """An LSTM whose mean losses after ``KS`` characters are these."""
    rough = 1 + 0.001 * np.random.default_rng(seed).normal(size=(20, 1))
    result = {
        "ks": KS, "sums": (100 * rough * np.array(losses)).tolist(), "counts": [100] * 20, "chars_per_word": per_word,
        "length": length, "params": 1000, "limit": None, "test": 2.0,
    }  # fmt: skip
    training = {"steps": 100, "batch_size": 32}
    return Found(case("context", ["lstm"], seed, training=training), result, Path(f"lstm{seed}"))


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([3.0, 2.0, 2.0, 2.0, 2.0, 2.0], "refuted"),  # 8 characters, 1.6 words
        ([3.0, 2.6, 2.3, 2.0, 2.0, 2.0], "inconclusive"),  # 450 characters, 90 words: the windows end at 102
        ([3.0, 2.6, 2.1, 2.0, 2.0, 2.0], "inconclusive"),  # 340 characters, likewise
        ([3.0, 2.9, 2.6, 2.04, 2.0, 2.0], "depends on what a step is"),  # 1,000 characters, 200 words
    ],
)
def test_an_lstms_context_is_read_in_words_and_in_characters(losses, verdict):
    claim = lstm_context([reader(seed, losses) for seed in range(5)], [])
    assert [c.axes["what a step is"] for c in claim.conditions] == ["a word", "a character"]
    words, characters = (c.figure for c in claim.conditions)
    assert words.value == pytest.approx(characters.value / 5)
    assert str(claim.verdict) == verdict, claim.conditions


def test_what_the_windows_of_training_bound_is_no_verdict():
    losses = [3.0, 2.6, 2.1, 2.0, 2.0, 2.0]  # 340 characters: 68 words
    long, short = (
        lstm_context([reader(seed, losses, length) for seed in range(5)], []).conditions[0] for length in (1024, 512)
    )
    assert long.inside is False and short.inside is None and "windows of training" in short.note
    assert "gains no more than 1% of its loss" in lstm_context([reader(0, losses)], []).statement


def climber(model, seed, edge, fail, problem="selective", regime="staged", initialisation="default", axis="pairs"):
    """One seed's ladder: it passed ``edge`` and failed at ``fail``, or ended."""
    result = {
        "problem": problem, "regime": regime, "initialisation": initialisation, "width": 32, "params": 20_000,
        "axis": axis, "memoryless": "guessing", "edge": edge, "first_fail": fail, "at_least": fail is None,
        "monotone": True, "beyond": [],
    }  # fmt: skip
    options = {"layers": 1, "backbone": "bare", "blank": False, "problem": problem, "regime": regime}
    options["initialisation"] = initialisation
    return Found(case("memory", [model], seed, **options), result, Path(f"{model}{seed}"))


def pairs(model, *seeds):
    return [climber(model, seed, edge, fail) for seed, (edge, fail) in enumerate(seeds)]


def test_the_ratio_of_edges_is_no_more_than_what_the_ladders_tell():
    lstm, ended = pairs("lstm", *[(2, 4)] * 6), pairs("transformer", *[(16, None)] * 6)
    (one,) = attention_lifts([*lstm, *ended], []).conditions
    assert (one.figure.value, one.figure.low, one.figure.high) == (4, 4, math.inf) and one.inside and one.at_least
    (one,) = attention_lifts([*lstm, *pairs("transformer", *[(8, 16)] * 6)], []).conditions
    assert tuple(one.figure) == (4, 2, 8) and one.inside and not one.at_least
    (one,) = attention_lifts([*pairs("lstm", *[(16, None)] * 6), *ended], []).conditions
    assert math.isnan(one.figure.value) and one.inside is None
    (one,) = attention_lifts([*lstm, *pairs("transformer", *[(2, 4)] * 6)], []).conditions
    assert one.inside is None
    none = attention_lifts([*pairs("lstm", *[(0, 2)] * 6), *ended], [])
    assert none.conditions[0].figure.low == 8 and "an LSTM of 20,000 holds none" in none.statement


def test_what_an_rnn_bridges_is_said_of_its_usual_start_with_the_seeds_range():
    def ladder(regime, initialisation, *seeds):
        return [climber("rnn", seed, *it, "recall", regime, initialisation, "steps") for seed, it in enumerate(seeds)]

    found = ladder("cold", "default", *[(6, 8)] * 5, (8, 12)) + ladder("cold", "orthogonal", *[(16, 24)] * 6)
    found += ladder("staged", "default", *[(10, 20)] * 3, *[(320, None)] * 3)
    claim = rnn_memory(found)
    assert "bridges 6 steps (6 to 12) in recall if it learns from cold" in claim.statement
    assert "and 10 steps (10 and more) in recall if it is taught" in claim.statement  # no length that none was tried at
    assert [c.inside for c in claim.conditions] == [True, None, None] and str(claim.verdict) == "inconclusive"


def timed(seconds, shapes):
    """A case in which ``seconds`` maps a model to a function of batch and length."""
    models = {name: {"params_mixer": 100 * n, "flops_per_token": 10 * n} for n, name in enumerate(seconds, start=1)}
    wide = np.exp(0.01 * np.random.default_rng(0).normal(size=(len(shapes), 8)))
    times = {
        name: {what: (np.array([[of(*shape)] for shape in shapes]) * wide).tolist() for what in ("train", "forward")}
        for name, of in seconds.items()
    }
    result = {"track": "width", "backend": "kernel", "models": models, "seconds": times, "shapes": shapes}
    return Found(case("cost", seconds, 0, hidden=128), result, Path("cost"))


def test_a_batchs_ratio_is_not_taken_for_a_lengths():
    """Batches of 64 fit at 32 steps only: a ratio that grows with the batch must not seem to fall with the length."""
    shapes = [(1, 32), (16, 32), (64, 32), (1, 2048), (16, 2048)]
    found = timed({"rnn": lambda b, t: t, "lstm": lambda b, t: t * (4 if b == 64 else 2)}, shapes)
    claim = lstm_fourfold([found])
    times = [c for c in claim.conditions if c.axes["measure"] == "training time"]
    assert [(c.axes["batch"], c.axes["length"]) for c in times] == [("1", "32"), ("1", "2,048"), ("64", "32")]
    assert [c.figure.value for c in times] == pytest.approx([2.0, 2.0, 4.0])
    assert "from 2 times as long at batch 1" in claim.statement and "to 4 times as long at batch 64" in claim.statement


def test_one_shape_alone_is_said():
    found = timed({"rnn": lambda b, t: t, "lstm": lambda b, t: 2 * t}, [(1, 32)])
    assert "from 2 times as long at batch 1 and 32 steps to 2 times" in lstm_fourfold([found]).statement


def faller(model, seed, slope, fall, state=True):
    result = {
        "slope": slope, "slope_range": [1, 100], "slope_far": slope, "slope_far_range": [1, 199], "fall": fall,
        "fall_at": 100, "fall_is_least": False, "explosion_most": 0.0, "lyapunov": None, "trained": None,
        "state": {} if state else None, "state_reason": None, "half_life": None,
    }  # fmt: skip
    options = {"when": "start", "initialisation": "default", "hidden": 64, "layers": 1, "backbone": "bare",
               "length": 200, "samples": 16, "stages": []}  # fmt: skip
    return Found(case("gradient", [model], seed, **options), result, Path(f"{model}{seed}"))


def test_gradients_are_judged_where_a_state_is_multiplied():
    found = [faller("rnn", seed, -0.5 - 0.01 * seed, 21.0 + seed) for seed in range(5)]
    found += [faller("transformer", seed, 1e-5 * seed, 0.01 * seed, state=False) for seed in range(5)]
    claim = gradients_vanish(found)
    assert [c.axes["model"] for c in claim.conditions] == ["rnn"] and str(claim.verdict) == "supported"
    assert (
        "vanishes in plain RNN (down 23)" in claim.statement and "in a Transformer layer, where no" in claim.statement
    )
    between = gradients_vanish([faller("rnn", seed, -0.02, 1.0 + 0.01 * seed) for seed in range(5)])
    assert between.conditions[0].inside is None and "neither true nor false" in between.conditions[0].note

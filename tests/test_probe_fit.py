"""The fit of times: known terms come back, intervals hold them as often as they say, and what is no fit is not trusted.

Times are made up from four terms with 3% noise, as a machine's are; nothing is timed here.
"""

import numpy as np
import pytest
from scipy import stats as reference

from seqbench.probes.shared import fits
from seqbench.probes.shared.fits import fit_times, geometric

SHAPES = [(b, t) for b in (1, 4, 16, 64, 256) for t in (32, 64, 128, 256, 512, 1024, 2048) if b * t <= 32_768]
FEW = [(n // t, t) for n in (2_048, 8_192) for t in (32, 64, 128, 256, 512, 1024)]
RECURRENT = {"a": 2e-4, "s": 1.5e-4, "w": 1e-5, "q": 0.0}
ATTENTION = {"a": 2e-4, "s": 0.0, "w": 1e-5, "q": 2e-8}
ALL = {"a": 1e-3, "s": 2e-5, "w": 1e-5, "q": 1e-8}


def made_up(truth, shapes, seed=0, noise=0.03, misfit=0.0, repeats=7):
    """(S, R) seconds: the terms, off by ``misfit`` in all repeats of a shape and by ``noise`` in each."""
    rng = np.random.default_rng(seed)
    batch, length = np.array(shapes, dtype=float).T
    exact = truth["a"] + truth["s"] * length + truth["w"] * batch * length + truth["q"] * batch * length**2
    shape, each = rng.normal(size=(len(shapes), 1)), rng.normal(size=(len(shapes), repeats))
    return exact[:, None] * np.exp(misfit * shape + noise * each)


def holds(interval, value):
    return interval[1] <= value * 1.001 and value <= interval[2] * 1.001  # they are rounded to four digits


@pytest.mark.parametrize("truth", [RECURRENT, ATTENTION, ALL], ids=["recurrent", "attention", "all"])
@pytest.mark.parametrize("shapes", [SHAPES, FEW], ids=["grid", "constant"])
def test_known_terms_come_back_within_their_intervals(truth, shapes):
    fit = fit_times(shapes, made_up(truth, shapes))
    for name, value in truth.items():
        assert holds(getattr(fit, name), value), name
    assert fit.w[0] == pytest.approx(1e-5, rel=0.05)
    assert holds(fit.hidden_batch, truth["s"] / truth["w"])
    assert fit.trusted and fit.residual[1] < 0.06


def test_without_noise_the_terms_are_exact_and_predict_every_shape():
    fit = fit_times(SHAPES, made_up(ALL, SHAPES, noise=0.0))
    assert {name: getattr(fit, name)[0] for name in ALL} == pytest.approx(ALL, rel=1e-3)
    assert fit.hidden_batch == pytest.approx([2, 2, 2], rel=1e-3)
    assert fit.residual[1] < 1e-6


def test_only_what_is_serial_has_a_serial_time_and_only_attention_a_square():
    recurrent, attention = (fit_times(SHAPES, made_up(truth, SHAPES)) for truth in (RECURRENT, ATTENTION))
    assert recurrent.s[1] > 0 and recurrent.hidden_batch[1] > 10
    assert recurrent.q[1] == 0
    assert attention.q[1] > 0
    assert attention.s[1] == 0


@pytest.mark.parametrize(("shapes", "misfit"), [(FEW, 0.0), (SHAPES, 0.08)], ids=["noise", "misfit"])
def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch, shapes, misfit):
    monkeypatch.setattr(fits, "SAMPLES", 80)
    times = 100 if misfit else 200
    held = []
    for seed in range(times):
        fit = fit_times(shapes, made_up(ALL, shapes, seed, misfit=misfit), seed)
        held.append([holds(getattr(fit, name), value) for name, value in ALL.items()])
    each = np.mean(held, axis=0)
    # the wider of two intervals, so on the wide side where the four terms are the whole truth
    assert each.min() >= 0.86 and 0.90 <= each.mean() <= 0.995


def test_repeats_that_agree_do_not_make_a_misfit_certain():
    narrow = fit_times(SHAPES, made_up(RECURRENT, SHAPES, noise=0.0))
    misfit = fit_times(SHAPES, made_up(RECURRENT, SHAPES, noise=0.0, misfit=0.1))
    assert narrow.s[2] - narrow.s[1] < 1e-3 * RECURRENT["s"]
    assert misfit.s[2] - misfit.s[1] > 0.05 * RECURRENT["s"]


def test_noise_and_another_law_are_not_trusted():
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(size=(len(SHAPES), 7)))
    assert not fit_times(SHAPES, noise).trusted
    batch, length = np.array(SHAPES, dtype=float).T
    cubic = 1e-4 + 1e-9 * batch * length**3
    assert not fit_times(SHAPES, np.tile(cubic[:, None], 3)).trusted


def test_a_batch_that_nothing_hides_is_without_bound():
    only_serial = np.array([[1e-4 * length] * 3 for _, length in SHAPES])
    fit = fit_times(SHAPES, only_serial)
    assert fit.s[0] == pytest.approx(1e-4)
    assert fit.hidden_batch[2] is None or fit.hidden_batch[2] > 1e6


@pytest.mark.parametrize(
    "shapes",
    [
        [(2_048 // t, t) for t in (32, 64, 128, 256, 512, 1024)],  # one number of tokens: s and q look alike
        [(4, t) for t in (32, 64, 128, 256, 512, 1024)],  # one batch size: s and w do
        [(1, 32), (4, 32), (1, 64), (4, 64)],  # as many shapes as terms
    ],
    ids=["tokens", "batch", "few"],
)
def test_shapes_that_cannot_tell_the_terms_apart_give_no_fit(shapes):
    assert fit_times(shapes, made_up(ALL, shapes)) is None


def test_the_same_seed_gives_the_same_intervals():
    times = made_up(ALL, FEW)
    assert fit_times(FEW, times, seed=1) == fit_times(FEW, times, seed=1)
    assert fit_times(FEW, times, seed=1) != fit_times(FEW, times, seed=2)


def test_geometric_means_have_students_interval_on_their_logarithms():
    values = [2.0, 2.2, 1.9, 2.4, 2.1]
    mean = geometric(values)
    textbook = reference.ttest_1samp(np.log(values), 0).confidence_interval(0.95)
    assert mean.value == pytest.approx(reference.gmean(values))
    assert mean[1:] == pytest.approx(tuple(np.exp(textbook)))
    assert np.isnan(geometric([2.0])[1])

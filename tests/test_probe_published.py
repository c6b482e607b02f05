"""The probe of published experiments: its problems have the right answers, and a verdict follows from intervals."""

import math
import random
import re
from pathlib import Path

import pytest
import torch

from seqbench.claims.reproduced import published_again, reproduced_page
from seqbench.jobs.job import Listener
from seqbench.jobs.store import Store
from seqbench.probes import Measured, Request
from seqbench.probes.published import (
    EXPERIMENTS,
    Published,
    PublishedCase,
    PublishedOptions,
    PublishedResult,
    rows_of,
)
from seqbench.probes.shared.measuring import job_of, measure
from seqbench.probes.shared.problems import ENDED, REBER, Digits, Reber, make_problem

torch.set_num_threads(1)
PROBE = Published()


def plan(*models, budget="smoke", seeds=None, **options):
    return PROBE.plan(Request(budget=budget, seeds=seeds), PublishedOptions(**options), models, "cpu")


def test_reber_strings_end_as_they_began_and_name_what_may_follow():
    host, seen = random.Random(0), set()
    for _ in range(300):
        symbols, wanted = Reber.string(host)
        string = "".join(REBER[symbol] for symbol in symbols)
        following = "".join(REBER[target % 7] for target in wanted)
        assert string[0] == "B" and string[1:] + following[-1] == following and following[-1] == "E"
        assert string[1] in "TP" and string[-1] == string[1] and string[2] == "B" and string[-2] == "E"
        legal = [{REBER[i] for i in range(7) if target // 7 >> i & 1} for target in wanted]
        assert all(symbol in may for symbol, may in zip(following, legal, strict=True))
        assert legal[0] == {"T", "P"} and legal[-2] == {string[1]} and legal[-1] == {"E"}
        assert all(len(may) in (1, 2) for may in legal)
        seen.add(string)
    assert len(seen) > 50


def test_only_who_keeps_the_second_symbol_says_the_last_but_one():
    problem, generator = Reber(), torch.Generator().manual_seed(0)
    inputs, targets = problem.draw(64, 0, generator, "cpu")
    legal = (targets.div(7, rounding_mode="floor")[:, :, None] >> torch.arange(7)) & 1
    knows = legal.float()
    assert problem.score(knows, targets).eq(1).all()
    guesses = knows.clone()
    last = (targets != ENDED).sum(dim=1) - 2
    guesses[torch.arange(64), last] = 0.0
    guesses[torch.arange(64), last, REBER.index("T")] = 1.0
    right = problem.score(guesses, targets)
    assert torch.equal(right.bool(), inputs[:, 1] == REBER.index("T")) and 0.2 < right.mean() < 0.8
    known = torch.log_softmax(torch.where(legal.bool(), 0.0, -30.0), dim=2)
    assert problem.loss(known, targets) < math.log(2)  # one of two at most


def test_digits_of_the_test_are_not_trained_on_and_permuted_ones_are_the_same_pixels():
    plain, mixed = Digits.shipped(False, "cpu"), Digits.shipped(True, "cpu")
    assert plain.images.shape == (1797, 64, 1) and plain.train == 1437
    assert not torch.equal(plain.images, mixed.images) and torch.equal(plain.labels, mixed.labels)
    assert torch.equal(plain.images.sort(dim=1).values, mixed.images.sort(dim=1).values)
    generator = torch.Generator().manual_seed(0)
    ((images, labels),) = plain.tests(10_000, 64, generator)
    assert len(images) == 360 and labels.unique().tolist() == list(range(10))
    drawn, _ = plain.draw(5_000, 64, generator, "cpu")
    train = {tuple(row) for row in plain.images[:1437, :, 0].tolist()}
    assert {tuple(row) for row in drawn[:, :, 0].tolist()} <= train


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_experiment_is_measured_and_tabled(name, monkeypatch):
    monkeypatch.setattr("seqbench.probes.published.TESTED", 64)
    (spec,) = plan("gru", experiment=name)
    result = PROBE.measure(spec, Listener())
    assert result.experiment == name and result.steps == 4 and len(result.checks) == 4
    size = EXPERIMENTS[name].params
    assert not size or result.params == pytest.approx(size, rel=0.05)
    if EXPERIMENTS[name].figure == "loss":
        assert result.memoryless == pytest.approx(
            make_problem(EXPERIMENTS[name].problem).memoryless_loss(1000 if name == "copy" else 600)
        )
    table = PROBE.table([Measured(spec, result, Path())])
    assert EXPERIMENTS[name].title in table and "gru" in table


def test_markers_and_delimiters_stand_where_the_paper_has_them():
    generator = torch.Generator().manual_seed(0)
    inputs, sums = PublishedCase("adding", 8, 4).made("cpu").draw(4_000, 10, generator, "cpu")
    values, markers = inputs.unbind(dim=2)
    assert markers.sum(dim=1).eq(2).all() and torch.allclose((values * markers).sum(dim=1), sums)
    halves = markers[:, :5].sum(dim=1)
    assert all((halves == count).any() for count in (0, 1, 2))  # any two steps
    assert markers.mean(dim=0).sub(0.2).abs().max() < 0.03
    inputs, targets = PublishedCase("copy", 8, 4).made("cpu").draw(3, 30, generator, "cpu")
    assert inputs[:, -11:].eq(9).all() and inputs[:, 10:-11].eq(8).all() and targets[:, :-10].eq(8).all()
    assert torch.equal(inputs[:, :10], targets[:, -10:])


def row(name, model, *figures):
    specs = plan(model, experiment=name, seeds=len(figures))
    results = [PublishedResult(name, 8, 100, 4, figure, (), None) for figure in figures]
    measured = [Measured(spec, result, Path()) for spec, result in zip(specs, results, strict=True)]
    (made,) = rows_of(measured)
    return made


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (("copy", "lstm", 0.0203, 0.0204, 0.0205, 0.0204, 0.0204), "same"),
        (("copy", "lstm", 0.0204, 0.0204, 0.0204, 0.0204, 0.0204), "same"),
        (("copy", "lstm", 0.0190, 0.0191, 0.0192, 0.0191, 0.0191), "different"),
        (("copy", "lstm", 0.0204, 0.0204, 0.0204, 0.0204), "can't tell"),
        (("copy", "lstm", 0.0204, None, 0.0204, 0.0204, 0.0204), "can't tell"),
        (("adding", "gru", 1e-5, 5e-5, 2e-4, 5e-5, 5e-5), "same"),
        (("adding", "gru", 1e-3, 2e-3, 3e-3, 2e-3, 2e-3), "different"),
        (("reber", "lstm", 1.0, 1.0, 1.0, 1.0, 1.0), "same"),
        (("reber", "rnn", 1.0, 1.0, 1.0, 1.0, 1.0), "different"),
        (("pixels", "lstm", 0.87, 0.87, 0.88), "other data"),
        (("reber", "gru", 1.0, 1.0), ""),
    ],
)
def test_a_verdict_follows_from_the_interval(made, verdict):
    assert row(*made).verdict == verdict


def test_shares_of_trials_and_losses_have_intervals_of_their_kind():
    share = row("reber", "lstm", 1.0, 1.0, 1.0, 0.0).figure
    assert share.value == 0.75 and 0 < share.low < 0.4 and 0.9 < share.high < 1
    loss = row("adding", "gru", 1e-4, 1e-2).figure
    assert loss.value == pytest.approx(1e-3) and loss.low < 1e-4 and loss.high > 1e-2


def test_the_page_has_every_figure_its_verdict_and_its_records(tmp_path):
    store = Store(tmp_path)
    assert published_again(store) == []
    for budget in ("smoke", "quick"):
        request = Request(budget=budget, seeds=2)
        options = PublishedOptions(experiment="reber,pixels", steps=4)
        for spec in PROBE.plan(request, options, ["lstm", "rnn"], "cpu"):
            measure(job_of(spec), store)
    found = published_again(store)
    assert len(found) == 8 and {one.spec.budget for one in found} == {"quick"}
    page = reproduced_page(found, tmp_path, None)
    assert "## Embedded Reber grammar" in page and "Hochreiter and Schmidhuber 1997, table 1" in page
    assert "Of 0 figures that can be compared" in page and page.count("other data") == 2  # of two seeds
    assert "theirs have 276" in page and "of MNIST" in page and page.count("lstm over rnn") == 1
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) == 8 and all((tmp_path / target).is_file() for target in links)

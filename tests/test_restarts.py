"""Training that keeps the best state and begins anew by a rule: nets whose fate is known come out with it."""

from functools import partial

import pytest
import torch

import seqbench
from seqbench.errors import Diverged
from seqbench.jobs.job import Listener
from seqbench.models.mixer import MODELS
from seqbench.probes.shared.nets import build_net, fresh_net
from seqbench.probes.shared.problems import Recall
from seqbench.probes.shared.restarts import (
    MOST,
    Schooling,
    Try,
    curves_panel,
    labels_of,
    restarts_text,
    teach,
    tries_text,
)
from seqbench.probes.shared.training import assess
from seqbench.report.chart import look_of

torch.set_num_threads(1)
HOW = Schooling(4, 4, [4], steps=300, every=10, batch=32, learning_rate=0.03, clip=1.0)


class Held(seqbench.Mixer):
    """Says its first input at every step: all that recall needs, so that its readout learns it at once."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.scale, self.trained = torch.nn.Parameter(torch.ones(())), 0

    def state_size(self, length):
        return self.d_out

    def forward(self, x, lengths=None):
        self.trained += self.training
        return self.fate(x[:, :1].expand_as(x))

    def fate(self, y):
        return y


class Deaf(Held):
    """Hears nothing, so that it stays at guessing."""

    def fate(self, y):
        return 0 * self.scale * y


class Spoilt(Held):
    """Forgets it all after 60 steps of training."""

    def fate(self, y):
        return y if self.trained < 60 else 0 * self.scale * y


class Bursting(Held):
    """Gives what is no number from the 15th step of training on."""

    def fate(self, y):
        return y if self.trained < 15 else self.scale * y * float("nan")


class Broken(Held):
    """Gives what is no number."""

    def fate(self, y):
        return y * float("nan")


@pytest.fixture(autouse=True)
def fates():
    made = {"held": Held, "deaf": Deaf, "spoilt": Spoilt, "bursting": Bursting, "broken": Broken}
    for name, mixer in made.items():
        seqbench.register_model(name)(mixer)
    yield
    for name in made:
        MODELS.remove(name)


def taught(*models, how=HOW):
    """A net for each attempt; the last one again for all that follow."""

    def fresh(attempt):
        model = models[min(attempt, len(models)) - 1]
        return fresh_net(partial(build_net, model, Recall().shape, 32), "cpu", 5, attempt)

    return teach(fresh, Recall(), how, Listener())


def score(net):
    return assess(net, Recall(), 4, torch.Generator().manual_seed(1), 256).value


def test_a_net_that_is_stuck_after_a_third_of_the_steps_begins_anew_with_what_is_left():
    net, (first, second) = taught("deaf", "held")
    assert (first.ended, first.steps) == ("stuck", 100) and first.score < 0.5
    assert second.ended == "errorless" and second.score == 1 and second.steps <= 200
    assert second.checks[-10:] == (1.0,) * 10 and second.checks[-11] < 1  # ten in a row, and not before
    assert score(net) == 1
    stuck = taught("deaf")[1]
    assert [(one.ended, one.steps) for one in stuck] == [("stuck", 100), ("stuck", 100), ("steps", 100)]


def test_a_net_that_is_not_stuck_is_left_to_its_end():
    how = Schooling(**{**vars(HOW), "learning_rate": 0.1, "steps": 40})
    _, (only,) = taught("held", how=how)
    assert only.ended == "steps" and only.steps == 40 and only.checked_at == [0, 10, 20, 30, 40]
    assert len(only.checks) == 5 and only.score == max(only.checks)


def test_the_best_state_is_kept_and_not_the_last():
    net, (only,) = taught("spoilt", how=Schooling(**{**vars(HOW), "steps": 120}))
    assert only.ended == "steps" and only.checks[-1] < 0.5 < 0.9 < only.score and only.best_step < 70
    net.layers[0].trained = 0
    assert score(net) > 0.9


def test_what_diverges_begins_anew_four_times_at_most_and_its_best_state_counts():
    net, tries = taught("bursting")
    assert len(tries) == MOST and all((one.ended, one.steps) == ("diverged", 20) for one in tries)
    assert all(one.checks[-1] is None and one.score >= one.checks[0] for one in tries)
    net, (first, second) = taught("bursting", "held")
    assert (first.ended, second.ended) == ("diverged", "errorless") and score(net) == 1
    with pytest.raises(Diverged, match="new net"):
        taught("broken")


def test_the_same_seed_gives_the_same_attempts():
    once, again = taught("deaf", "lstm"), taught("deaf", "lstm")
    assert once[1] == again[1]
    for name, value in once[0].state_dict().items():
        assert torch.equal(value, again[0].state_dict()[name])


# --- what a reader sees ---

TRIES = (
    Try(1000, "stuck", 950, 0.4, 9.0, 500, (0.0, 0.3, 0.4)),
    Try(30, "diverged", 0, 0.0, 9.0, 500, (0.0, None)),
    Try(1450, "errorless", 1400, 1.0, 0.1, 500, (0.0, 0.5, 1.0, 1.0)),
)


def test_every_attempt_is_told():
    assert tries_text(TRIES) == (
        "3 attempts (stuck after 1,000 steps, diverged after 30, errorless after 1,450), best state after 1,400 steps "
        "into attempt 3, score 1"
    )
    assert tries_text(TRIES[:1]) == "1 attempt (stuck after 1,000 steps), best state after 950 steps, score 0.4"
    assert restarts_text([TRIES, TRIES[:1]]) == "2 0"


def test_an_initialisation_is_named_where_a_model_has_several():
    shown = [("ntm", "focused"), ("lstm", "forget-bias-1"), ("ntm", "uniform")]
    assert labels_of(shown) == ["ntm focused", "lstm", "ntm uniform"]


def test_curves_go_on_after_a_restart_with_a_gap():
    panel = curves_panel("training", [("ntm", look_of("ntm"), TRIES)])
    line = panel.marks[0]
    assert list(line.x) == [0, 500, 1000, 1000, 1000, 1030, 1030, 1030, 1530, 2030, 2480, 2480]
    assert [value == value for value in line.y] == [True] * 3 + [False, True, False, False] + [True] * 4 + [False]
    assert "a gap is a restart" in panel.note

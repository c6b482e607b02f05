"""Training on a made problem until it is solved: at one length, or in stages of growing lengths."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, variance
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from seqbench.jobs.job import Listener
from seqbench.models.backbone import SequenceModel
from seqbench.probes.shared import LEARNING_RATE, SOLVED
from seqbench.probes.shared.problems import CHECKED, Problem
from seqbench.stats import t_quantile
from seqbench.training import AdamW

__all__ = ["Attempt", "Score", "assess", "qualities_of", "rises", "stage_lengths", "train", "train_in_stages"]

BATCH = 64
CLIP = 1.0  # of the gradient's norm
EVERY = 25  # steps from check to check
TESTED = 2_048  # sequences of the test that decides; a check has `CHECKED`
FIRST_STAGE, STAGE_STEPS = 5, 300
QUANTILE = 1.959964  # of the normal distribution, for 95%


class Score(NamedTuple):
    """A normalised score (0 without memory, 1 perfect) and the lower end of its 95% interval."""

    value: float
    low: float


def score_of(problem: Problem, qualities: Tensor, length: int) -> Score:
    """Normalised mean of (N,) ``qualities`` of sequences of one ``length``.

    Shares get Wilson's interval (1927), with a sequence as one trial: for `Copy`, whose qualities are means of ten,
    that is on the wide side. Squared errors get the normal one. Both ends are normalised as the score is.
    """
    n, mean = len(qualities), float(qualities.double().mean())
    if problem.share:
        z = QUANTILE**2 / n
        low = (mean + z / 2 - math.sqrt(z * mean * (1 - mean) + z * z / 4)) / (1 + z)
    else:
        low = mean - QUANTILE * float(qualities.double().std()) / math.sqrt(n)
    chance = problem.chance(length)
    return Score((mean - chance) / (1 - chance), (low - chance) / (1 - chance))


@dataclass(frozen=True)
class Attempt:
    """What came of training on one length.

    Attributes:
        length: the longest trained on, where it was checked and tested.
        learning_rate: as used.
        steps: of the optimiser.
        checks: normalised score at each check, None where it was not finite.
        solved: whether it passed (see `train`).
        score: normalised, on the sequences of the last test; None where training diverged.
        low: lower end of its 95% interval.
        diverged: the loss was NaN or infinite.
    """

    length: int
    learning_rate: float
    steps: int
    checks: tuple[float | None, ...]
    solved: bool
    score: float | None
    low: float | None
    diverged: bool

    @property
    def rises(self) -> bool:
        """Whether it failed while its score still rose: what it lacked may have been training (`rises`)."""
        return not self.solved and rises(self.checks)

    @property
    def checked_at(self) -> tuple[int, ...]:
        """Of each check, how many steps the optimiser had taken."""
        return tuple(min(EVERY * i, self.steps) for i in range(1, len(self.checks) + 1))


def train(
    net: SequenceModel,
    problem: Problem,
    lengths: int | tuple[int, int],
    generator: Generator,
    *,
    learning_rate: float = LEARNING_RATE,
    steps: int = STAGE_STEPS,
    listener: Listener | None = None,
) -> Attempt:
    """Train ``net`` on fresh data until the greatest of ``lengths`` is solved, for ``steps`` steps at most.

    Solved: the lower end of the 95% interval of its normalised score at .9 or more on 2,048 fresh sequences. That test
    is made after two checks in a row (256 sequences, every 25 steps) with a score of .9; if it fails, training goes on,
    and two more checks must pass before the next. It is made after the last step whatever the checks say. Adam without
    weight decay (Kingma and Ba 2015), gradients clipped to norm 1.

    Args:
        net: in place, on the device of ``generator``.
        problem: what to learn.
        lengths: one, or the least and greatest, between which each batch's own is drawn uniformly.
        generator: everything random here comes from it.
        learning_rate: kept throughout.
        steps: the most to take.
        listener: hears of the steps at every check.
    """
    least, longest = (lengths, lengths) if isinstance(lengths, int) else lengths
    # lengths are drawn on the host: asking the device for one would wait for it at every step
    host = random.Random(generator.initial_seed())
    optimizer = AdamW(net.parameters(), weight_decay=0.0)
    checks: list[float | None] = []
    step, passed, tested, solved = 0, 0, None, False
    for step in range(1, steps + 1):
        net.train()
        inputs, targets = problem.draw(BATCH, host.randint(least, longest), generator, generator.device)
        loss = problem.loss(net(inputs, None), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(optimizer.parameters, CLIP)
        optimizer.step(learning_rate)
        if step % EVERY and step < steps:
            continue
        checked = assess(net, problem, longest, generator, CHECKED)
        if listener is not None:
            listener.step(step, loss.item())
        if checked is None or not math.isfinite(loss.item()):  # once it is not finite it stays so
            checks.append(None)
            tested = None
            break
        checks.append(checked.value)
        passed = passed + 1 if checked.value >= SOLVED else 0
        if passed >= 2 or step == steps:
            tested = assess(net, problem, longest, generator)
            solved = tested is not None and tested.low >= SOLVED
            if solved:
                break
            passed = 0
    score, low = tested or (None, None)
    return Attempt(longest, learning_rate, step, tuple(checks), solved, score, low, diverged=tested is None)


LATE = 8  # checks in each of the two stretches that are compared


def rises(checks: Sequence[float | None]) -> bool:
    """Whether the scores of the last eight ``checks`` are above those of the eight before, clear of their scatter.

    By Welch's test of two means, one-sided at 1%; never for fewer than sixteen checks, or where one was not finite.
    """
    finite = [check for check in checks if check is not None]
    if len(finite) < len(checks) or len(finite) < 2 * LATE:
        return False
    before, last = finite[-2 * LATE : -LATE], finite[-LATE:]
    gain = mean(last) - mean(before)
    a, b = variance(before), variance(last)
    spread = a + b
    if not spread:
        return gain > 0
    freedom = (LATE - 1) * spread**2 / (a**2 + b**2)
    return gain > t_quantile(0.99, freedom) * math.sqrt(spread / LATE)


def assess(
    net: SequenceModel, problem: Problem, length: int, generator: Generator, sequences: int = TESTED
) -> Score | None:
    """Score of ``net`` on fresh sequences of ``length``; None where an output is not finite."""
    qualities = qualities_of(net, problem, length, generator, sequences)
    return None if qualities is None else score_of(problem, qualities, length)


def qualities_of(
    net: SequenceModel, problem: Problem, length: int, generator: Generator, sequences: int
) -> Tensor | None:
    """(N,) `Problem.score` of each of so many fresh sequences, on the CPU; None where an output is not finite."""
    net.eval()
    qualities, finite = [], torch.ones((), dtype=torch.bool, device=generator.device)
    with torch.no_grad():
        for inputs, targets in problem.tests(sequences, length, generator):
            output = net(inputs, None)
            finite &= output.isfinite().all()
            qualities.append(problem.score(output, targets))
    return torch.cat(qualities).cpu() if finite else None


def stage_lengths(longest: int, first: int = FIRST_STAGE) -> list[int]:
    """5, 10, 20, ... and at last ``longest``, whatever it is."""
    return [first << j for j in range(64) if first << j < longest] + [longest]


def train_in_stages(
    net: SequenceModel, problem: Problem, stages: list[int], generator: Generator, *, steps: int = STAGE_STEPS
) -> Iterator[Attempt]:
    """Train ``net`` on each of ``stages`` in turn, lengths from half of it, weights kept; the first failure ends it."""
    for longest in stages:
        trained = train(net, problem, (max(problem.least, longest // 2), longest), generator, steps=steps)
        yield trained
        if not trained.solved:
            return


def passed_untrained(net: SequenceModel, problem: Problem, length: int, generator: Generator) -> Attempt | None:
    """``length`` as solved in 0 steps, if ``net`` passes the last test of `train` as it is; None if not."""
    checked = assess(net, problem, length, generator, CHECKED)
    if checked is None or checked.value < SOLVED:
        return None
    score = assess(net, problem, length, generator)
    if score is None or score.low < SOLVED:
        return None
    return Attempt(length, 0.0, 0, (checked.value,), True, *score, diverged=False)

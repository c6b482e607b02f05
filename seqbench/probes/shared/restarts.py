"""Training by which the probes `copy` and `tracking` teach any model: the best state is kept, and what is stuck begins
anew. Some nets train unsteadily: one seed is stuck where others solve the problem, and one that has solved it blows up.

The rule, which is the same for all models:

- Every so many steps the net is checked on sequences that are the same at every check. What counts in the end is the
  state with the highest score of all checks, and of equal ones that with the least loss.
- An attempt ends where ten checks in a row were without an error.
- It is given up where the loss is not finite any more, or where after a third of all steps no check has come half way
  from guessing to perfect.
- Then training begins anew, with new weights and new data, and with the steps that are left. So no restart is free.
  Four attempts at most are made, and each is in the record.

What this module shows needs no torch, which is imported where a net is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from seqbench.errors import Diverged
from seqbench.report.chart import Axis, Line, Look, Mark, Panel, Rule
from seqbench.report.text import NONE, counted, rounded

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from seqbench.jobs.job import Listener
    from seqbench.models.backbone import SequenceModel
    from seqbench.probes.shared.problems import Problem

__all__ = ["RULE", "Schooling", "Try", "curves_panel", "labels_of", "restarts_text", "teach", "tries_text"]

Ended = Literal["steps", "errorless", "stuck", "diverged"]
FLAWLESS = 10  # checks in a row, after which nothing is left to learn
PATIENCE = 1 / 3  # of all steps, after which an attempt must have come
HALF_WAY = 0.5  # from guessing to perfect
MOST = 4  # attempts
CHECKED = 32  # sequences of each length in a check
CHECK_SEED = 10_001  # beside a net's own numbers, so that checks share no sequence with the training or the test
RULE = (
    "Attempts: one that is not half way from guessing to perfect after a third of all steps (stuck), or whose loss is "
    "not finite (diverged), begins anew with new weights and the steps that are left; four at most. Of all checks of "
    "all attempts the best state is tested."
)


@dataclass(frozen=True)
class Schooling:
    """How a net is taught.

    Attributes:
        least, longest: lengths of sequences; each batch's own is drawn uniformly between them.
        checked: lengths of a check; its score is the mean over them.
        steps: of the optimiser, in all attempts together.
        every: so many of them lie between two checks.
        batch: sequences.
        learning_rate: of Adam (Kingma and Ba 2015), kept throughout.
        clip: greatest norm of a gradient.
    """

    least: int
    longest: int
    checked: Sequence[int]
    steps: int
    every: int
    batch: int
    learning_rate: float
    clip: float


@dataclass(frozen=True)
class Try:
    """One attempt.

    Attributes:
        steps: of the optimiser.
        ended: ``errorless``, ``steps`` (they were used up), ``stuck`` or ``diverged``.
        best_step: after which its best state was reached.
        score: normalised, of that state: 0 is guessing, 1 is perfect.
        loss: of that state.
        every: steps between two checks.
        checks: the score before the first step and at every check; None where an output or the loss was not finite.
    """

    steps: int
    ended: Ended
    best_step: int
    score: float
    loss: float
    every: int
    checks: tuple[float | None, ...]

    @property
    def checked_at(self) -> list[int]:
        """Of each check, how many steps the optimiser had taken."""
        return [min(self.every * i, self.steps) for i in range(len(self.checks))]


class _Check(NamedTuple):
    """Mean score and loss; compared in this order, and a smaller loss is better."""

    score: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        return self.score, -self.loss


def teach(
    fresh: Callable[[int], tuple[SequenceModel, Generator]],
    problem: Problem,
    schooling: Schooling,
    listener: Listener,
) -> tuple[SequenceModel, tuple[Try, ...]]:
    """A net in its best state, taught by the rule above, and all attempts.

    Args:
        fresh: from the number of an attempt (1, 2, ...) to a new net and a generator of data, both on one device.
        problem: what to learn.
        schooling: how.
        listener: hears of the steps of all attempts together.

    Raises:
        Diverged: the outputs of a new net are not finite.
    """
    tries: list[Try] = []
    best: tuple[tuple[float, float], SequenceModel, dict[str, Tensor]] | None = None
    left = schooling.steps
    listener.begin(left)
    while True:
        net, generator = fresh(len(tries) + 1)
        attempt = _Attempt(net, problem, schooling, generator, left, listener)
        tries.append(attempt.run())
        left -= tries[-1].steps
        if best is None or attempt.best.rank > best[0]:
            best = attempt.best.rank, net, attempt.state
        if tries[-1].ended in ("errorless", "steps") or not left or len(tries) == MOST:
            break
    _, net, state = best
    net.load_state_dict(state)
    return net, tuple(tries)


class _Attempt:
    """An attempt of ``left`` steps at most; ``best`` and ``state`` are those of its best check."""

    def __init__(
        self,
        net: SequenceModel,
        problem: Problem,
        schooling: Schooling,
        generator: Generator,
        left: int,
        listener: Listener,
    ) -> None:
        self.net, self.problem, self.schooling, self.generator = net, problem, schooling, generator
        self.left, self.listener = left, listener
        first = self.check()
        if first is None:
            raise Diverged("the outputs of a new net are not finite")
        self.best, self.best_step, self.state = first, 0, self.copied()
        self.checks: list[float | None] = [_short(first.score)]
        self.flawless = 0  # checks in a row

    def run(self) -> Try:
        """Train to the end of the attempt."""
        steps, ended = self._train()
        return Try(
            steps, ended, self.best_step, _short(self.best.score), _short(self.best.loss), self.schooling.every,
            tuple(self.checks),
        )  # fmt: skip

    def _train(self) -> tuple[int, Ended]:
        from torch import nn

        from seqbench.training import AdamW

        how, done = self.schooling, self.schooling.steps - self.left
        # lengths are drawn on the host: asking the device for one would wait for it at every step
        host = random.Random(self.generator.initial_seed())
        optimizer = AdamW(self.net.parameters(), weight_decay=0.0)
        for step in range(1, self.left + 1):
            self.net.train()
            length = host.randint(how.least, how.longest)
            inputs, targets = self.problem.draw(how.batch, length, self.generator, self.generator.device)
            loss = self.problem.loss(self.net(inputs, None), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(optimizer.parameters, how.clip)
            optimizer.step(how.learning_rate)
            if step % how.every and step < self.left:
                continue
            self.listener.step(done + step, loss.item())
            ended = self.judge(step, loss.item())
            if ended is not None:
                return step, ended
        return self.left, "steps"

    def judge(self, step: int, loss: float) -> Ended | None:
        """Check the net after ``step``; why the attempt ends here, or None."""
        found = self.check() if math.isfinite(loss) else None
        if found is None:  # once it is not finite it stays so
            self.checks.append(None)
            return "diverged"
        self.checks.append(_short(found.score))
        if found.rank > self.best.rank:
            self.best, self.best_step, self.state = found, step, self.copied()
        self.flawless = self.flawless + 1 if found.score == 1 else 0
        if self.flawless == FLAWLESS:
            return "errorless"
        waited = step >= PATIENCE * self.schooling.steps
        return "stuck" if waited and self.best.score < HALF_WAY and step < self.left else None

    def check(self) -> _Check | None:
        """On sequences that are the same at every check; None where an output is not finite."""
        import torch

        generator = torch.Generator(self.generator.device).manual_seed(CHECK_SEED)
        scores, losses = [], []
        self.net.eval()
        with torch.no_grad():
            for length in self.schooling.checked:
                inputs, targets = self.problem.draw(CHECKED, length, generator, generator.device)
                output, chance = self.net(inputs, None), self.problem.chance(length)
                quality = self.problem.score(output, targets).double().mean()
                scores.append((quality - chance) / (1 - chance))
                losses.append(self.problem.loss(output, targets).double())
        score, loss = (float(torch.stack(figures).mean()) for figures in (scores, losses))
        return _Check(score, loss) if math.isfinite(loss) else None

    def copied(self) -> dict[str, Tensor]:
        """The state of the net as it is now."""
        return {name: value.clone() for name, value in self.net.state_dict().items()}


def _short(value: float) -> float:
    """As it is recorded."""
    return round(value, 6)


# ---- what a reader sees -------------------------------------------------------------------------------------------


def labels_of(shown: Sequence[tuple[str, str]]) -> list[str]:
    """A label for each model and initialisation: the model alone, unless it is shown with several."""
    starts = {model: {start for other, start in shown if other == model} for model, _ in shown}
    return [model if len(starts[model]) == 1 else f"{model} {start}" for model, start in shown]


def tries_text(tries: Sequence[Try]) -> str:
    """``2 attempts (stuck after 1,000 steps, errorless after 1,450), best state 950 steps into attempt 2, score 1``."""
    words = {"steps": "used up", "errorless": "errorless", "stuck": "stuck", "diverged": "diverged"}
    ends = ", ".join(f"{words[one.ended]} after {one.steps:,}{'' if i else ' steps'}" for i, one in enumerate(tries))
    best = max(range(len(tries)), key=lambda i: (tries[i].score, -tries[i].loss))
    into = f" into attempt {best + 1}" if len(tries) > 1 else ""
    return (
        f"{counted(len(tries), 'attempt')} ({ends}), best state after {counted(tries[best].best_step, 'step')}{into}, "
        f"score {rounded(tries[best].score)}"
    )


def restarts_text(of_seeds: Iterable[Sequence[Try]]) -> str:
    """Restarts of each seed, as ``0 1 0``."""
    return " ".join(str(len(tries) - 1) for tries in of_seeds) or NONE


def curves_panel(title: str, curves: Sequence[tuple[str, Look, Sequence[Try]]]) -> Panel:
    """Scores of checks against the steps of all attempts: of each seed its label, look and attempts, with gaps between.

    A restart is a gap, and where a curve breaks off at a value that was not finite.
    """
    marks: list[Mark] = []
    for label, look, tries in curves:
        steps: list[float] = []
        scores: list[float] = []
        begun = 0
        for one in tries:
            steps += [begun + at for at in one.checked_at] + [begun + one.steps]
            scores += [math.nan if score is None else score for score in one.checks] + [math.nan]
            begun += one.steps
        marks.append(Line(steps, scores, look, label=label, faint=True))
    marks += [Rule(1.0, "perfect"), Rule(0.0, "guessing")]
    note = "every seed; a gap is a restart" if any(len(tries) > 1 for *_, tries in curves) else "every seed"
    return Panel(title, marks, Axis("steps of training"), Axis("normalised score", limits=(-0.15, 1.05)), note=note)

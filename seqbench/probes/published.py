"""Experiments of well-known papers, as far as they were told, beside what the papers found.

    reber             strings of the embedded Reber grammar, the next symbol at every step; a trial succeeds when every
                      symbol that may follow has a higher output than all that may not, on all of 256 test strings
                      (Hochreiter and Schmidhuber 1997, experiment 1)
    adding            the sum of two marked numbers among 600 (Bai, Kolter and Koltun 2018, section 5.2)
    copy              ten symbols to say again after 1,000 steps, each of the last eleven marked (the same)
    pixels, permuted  a digit from its pixels one by one, in rows or in a fixed order drawn at random (the same). Theirs
                      are the 784 of MNIST; here they are the 64 of scikit-learn's digits, so only the order of models
                      can be compared

What differs from the papers is the optimiser (Adam with clipped gradients; theirs was tuned for each model), the number
of training steps, which is the budget's, how a net is built (embedding, one layer, a linear read-out), and what each
experiment names (`Reported.differs`). So where a figure disagrees, the curve tells whether training was over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from seqbench.jobs.job import Listener
from seqbench.options import TRAINING, Count, Parameter, Range
from seqbench.probes import Measured, Probe, ProbeSpec, Request, SeedGroup, register_probe, seeds_together
from seqbench.report.chart import Axis, Chart, Line, Mark, Panel, Rule, look_of
from seqbench.report.text import NONE, aligned_table, interval_text, rounded
from seqbench.stats import Interval, over_seeds, share_interval

if TYPE_CHECKING:
    from torch import Generator

    from seqbench.models.backbone import SequenceModel
    from seqbench.probes.shared.problems import Problem

__all__ = ["EXPERIMENTS", "Published", "PublishedOptions", "PublishedResult", "PublishedRow", "Reported", "rows_of"]

Figure = Literal["loss", "accuracy", "successes"]
LEARNING_RATE, CLIP = 2e-3, 1.0
TESTED = 2_048  # made sequences of the last test; a check has an eighth
CHECKS = 20
BAI = "Bai, Kolter and Koltun 2018, table 1"
HOCHREITER = "Hochreiter and Schmidhuber 1997, table 1"
LEAST = 5  # seeds, below which an interval is too wide to say that a figure is the same
FRESH = "Every training sequence is new; theirs come from a set of {}."
DIGITS = "Images of 8 x 8 of scikit-learn's digits, 1,437 for training; theirs are 28 x 28 of MNIST, 60,000."


class Found(NamedTuple):
    """A figure of a paper: its value, half of its last digit, and what it is of, where that has another name."""

    value: float
    rounding: float
    of: str = ""


@dataclass(frozen=True)
class Reported:
    """One of them.

    Attributes:
        title: in a few words.
        source: the table with the figures.
        figure: what is compared: test loss, test accuracy, or the share of trials that succeeded.
        problem: of the module `problems`, or a set of digits.
        length: of its sequences.
        found: by model, what the paper has.
        batch: sequences of a training step.
        params: of each net, from which its width is found; 0 where ``widths`` has it.
        widths: by model.
        differs: from the paper, beside optimiser, steps and build.
        same_data: whether the figures may be compared, not only their order.
    """

    title: str
    source: str
    figure: Figure
    problem: str
    length: int
    found: Mapping[str, Found]
    differs: str
    batch: int = 32
    params: int = 0
    widths: Mapping[str, int] | None = None
    same_data: bool = True


EXPERIMENTS = {
    "reber": Reported(
        "embedded Reber grammar",
        HOCHREITER,
        "successes",
        "reber",
        0,
        {"lstm": Found(1.0, 0.005, "3 blocks of 2 cells"), "rnn": Found(0.0, 0.005, "Elman net")},
        "Nets have some 700 parameters; theirs have 276 (LSTM) and 435 (Elman net, whose gradient goes back one step, "
        "ours through all). Strings are new in training and in each of 20 checks, any of which may succeed; "
        "theirs come from 256, and both these and 256 others must be right.",
        batch=8,
        widths={"lstm": 8, "rnn": 15, "gru": 9},
    ),
    "adding": Reported(
        "adding problem, T = 600",
        BAI,
        "loss",
        "adding",
        600,
        {
            "rnn": Found(0.177, 5e-4),
            "lstm": Found(0.164, 5e-4),
            "gru": Found(5.3e-5, 5e-7),
            "tcn": Found(5.8e-5, 5e-7),
        },
        FRESH.format("50,000"),
        params=70_000,
    ),
    "copy": Reported(
        "copy memory, T = 1,000",
        BAI,
        "loss",
        "copy",
        1_000,
        {
            "rnn": Found(0.0202, 5e-5),
            "lstm": Found(0.0204, 5e-5),
            "gru": Found(0.0197, 5e-5),
            "tcn": Found(3.5e-5, 5e-7),
        },
        FRESH.format("10,000"),
        params=16_000,
    ),
    "pixels": Reported(
        "digits, pixel by pixel",
        BAI,
        "accuracy",
        "pixels",
        64,
        {"rnn": Found(0.215, 5e-4), "lstm": Found(0.872, 5e-4), "gru": Found(0.962, 5e-4), "tcn": Found(0.99, 5e-4)},
        DIGITS,
        params=70_000,
        same_data=False,
    ),
    "permuted": Reported(
        "digits, pixels in a random order",
        BAI,
        "accuracy",
        "permuted",
        64,
        {"rnn": Found(0.253, 5e-4), "lstm": Found(0.857, 5e-4), "gru": Found(0.873, 5e-4), "tcn": Found(0.972, 5e-4)},
        DIGITS,
        params=70_000,
        same_data=False,
    ),
}
STEPS = {
    "smoke": dict.fromkeys(EXPERIMENTS, 4),
    "quick": {"reber": 5_000, "adding": 4_000, "copy": 2_000, "pixels": 2_000, "permuted": 2_000},
    "standard": {"reber": 20_000, "adding": 16_000, "copy": 10_000, "pixels": 10_000, "permuted": 10_000},
}
SEEDS = {"smoke": 1, "quick": 5, "standard": 5}


@dataclass(frozen=True)
class PublishedOptions:
    """Options of `probe published`; None stands for what the budget says."""

    experiment: Annotated[str, Parameter(metavar="NAME")] = "all"
    """Reber, adding, copy, pixels or permuted, or several with commas."""
    steps: Annotated[Count | None, Range(ge=1, le=10**8), Parameter(group=TRAINING, metavar="N")] = None
    """Training steps; by default the budget's for each experiment."""


@dataclass(frozen=True)
class Seen:
    """The figure after so many steps, of a trial the share of strings without a mistake; None if it was not finite."""

    step: int
    figure: float | None


@dataclass(frozen=True)
class PublishedResult:
    """What one seed of one model gives in one experiment.

    Attributes:
        experiment: its name.
        width, params: of the net.
        steps: of training; fewer than planned where a trial succeeded or diverged.
        figure: of the last test; of a trial 1 or 0; None where it was not finite.
        checks: during training.
        memoryless: what a net that holds nothing gets; None where that is not known.
    """

    experiment: str
    width: int
    params: int
    steps: int
    figure: float | None
    checks: tuple[Seen, ...]
    memoryless: float | None


# ---- plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedCase:
    """All that decides a result but model, seed and machine."""

    experiment: str
    width: int
    steps: int

    def made(self, device: str) -> Problem:
        """What is to be learned."""
        from seqbench.probes.shared import problems

        name = EXPERIMENTS[self.experiment].problem
        if name == "reber":
            return problems.Reber()
        if name in ("pixels", "permuted"):
            return problems.Digits.shipped(name == "permuted", device)
        return problems.Adding(anywhere=True) if name == "adding" else problems.Copy(marked=True)


def _width(experiment: Reported, model: str, case: PublishedCase) -> int:
    """What the paper says, or what goes with its number of parameters; refuses what the model can't have."""
    from seqbench.models.backbone import check_widths
    from seqbench.models.mixer import MODELS
    from seqbench.probes.shared.nets import width_of_size

    mixer = MODELS.get(model).mixer
    width = 8 * mixer.width_multiple
    if experiment.params and mixer.can_be_causal:
        width = width_of_size(experiment.params, model, case.made("cpu").shape)
    elif experiment.widths:
        width = experiment.widths.get(model, width)
    check_widths(model, (width,))
    return width


# ---- measure ------------------------------------------------------------------------------------------------------


def tested(
    net: SequenceModel, problem: Problem, experiment: Reported, generator: Generator, sequences: int
) -> float | None:
    """The loss of ``net`` on fresh sequences, or on those that a set has for its test, or the share that is right; None
    where it is not finite.
    """
    import torch

    net.eval()
    losses, right, count = 0.0, 0.0, 0
    with torch.no_grad():
        for inputs, targets in problem.tests(sequences, experiment.length, generator):
            output = net(inputs, None)
            losses += float(problem.loss(output, targets)) * len(inputs)
            right += float(problem.score(output, targets).sum())
            count += len(inputs)
    figure = (losses if experiment.figure == "loss" else right) / count
    return figure if math.isfinite(losses) else None


# ---- seeds together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedRow(SeedGroup[PublishedResult]):
    """All seeds of one model in one experiment."""

    @property
    def experiment(self) -> Reported:
        """Which one."""
        return EXPERIMENTS[self.results[0].experiment]

    @property
    def found(self) -> Found | None:
        """What the paper has of this model."""
        return self.experiment.found.get(self.model)

    @property
    def figure(self) -> Interval:
        """Over seeds: of trials the share with Wilson's interval; of losses the geometric mean; NaN if one is lost."""
        figures = [result.figure for result in self.results]
        if self.experiment.figure == "successes" and None not in figures:
            return share_interval(round(sum(filter(None, figures))), len(figures))
        if self.experiment.figure == "loss" and all(figures):
            logs = over_seeds([math.log(figure) for figure in figures if figure])
            return Interval(*map(math.exp, logs))
        value, low, high = over_seeds(figures)
        return Interval(value, max(low, 0.0), min(high, 1.0))

    @property
    def verdict(self) -> str:
        """Same: the paper's figure lies within the interval, rounding allowed for; of few seeds nothing is said."""
        found, (value, low, high) = self.found, self.figure
        if found is None:
            return ""
        if not self.experiment.same_data:
            return "other data"
        if math.isnan(value) or math.isnan(low) or len(self.results) < LEAST:
            return "can't tell"
        return "same" if low - found.rounding <= found.value <= high + found.rounding else "different"


def rows_of(measured: Iterable[Measured[PublishedResult]]) -> list[PublishedRow]:
    """Seeds together, by experiment, models in the order of their first record."""
    rows = [PublishedRow(group) for group in seeds_together(measured)]
    order = list(EXPERIMENTS)
    return sorted(rows, key=lambda row: order.index(row.results[0].experiment))


def _cells(row: PublishedRow) -> dict[str, str]:
    first, found = row.results[0], row.found
    return {
        "experiment": row.experiment.title,
        "model": row.model,
        "parameters": f"{first.params:,}",
        "steps": f"{max(result.steps for result in row.results):,}",
        "seeds": str(len(row.results)),
        "figure": row.experiment.figure,
        "here": NONE if math.isnan(row.figure.value) else interval_text(row.figure),
        "published": NONE if found is None else rounded(found.value) + (f" ({found.of})" if found.of else ""),
        "verdict": row.verdict,
    }


READING = """Here: over seeds; of losses the geometric mean with Student's interval, of trials the share with Wilson's.
Same: the published figure lies within it (can't tell: fewer than 5 seeds). Other data: only the order of the models can
be compared."""


# ---- the probe ----------------------------------------------------------------------------------------------------


@register_probe("published")
class Published(Probe[PublishedResult]):
    """Do experiments of well-known papers come out again: Reber strings, adding, copying, digits pixel by pixel?"""

    Options = PublishedOptions
    Result = PublishedResult
    version = 2  # since markers and delimiters stand where the paper has them

    def plan(self, request: Request, options: PublishedOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """Every model in every experiment that is asked for, and every seed."""
        from seqbench.probes.shared.nets import pick_names, seeds_outermost

        specs: list[ProbeSpec] = []
        for name in pick_names(options.experiment, list(EXPERIMENTS), "experiment"):
            for model in models:
                steps = options.steps or STEPS[request.budget][name]
                width = _width(EXPERIMENTS[name], model, PublishedCase(name, 0, steps))
                case = PublishedCase(name, width, steps)
                specs += self.specs(request, device, model, asdict(case), SEEDS[request.budget])
        return seeds_outermost(specs)

    def measure(self, spec: ProbeSpec, listener: Listener) -> PublishedResult:
        """Train one net, and test it: at the end, or when a trial has succeeded."""
        from torch import nn

        from seqbench.models.backbone import count_parameters
        from seqbench.probes.shared.nets import build_net, fresh_net, generator_of
        from seqbench.training import AdamW

        case = PublishedCase(**spec.options)
        experiment, problem = EXPERIMENTS[case.experiment], case.made(spec.device)
        net, generator = fresh_net(lambda: build_net(spec.models[0], problem.shape, case.width), spec.device, spec.seed)
        optimizer = AdamW(net.parameters(), weight_decay=0.0)
        every, checks, step = max(1, case.steps // CHECKS), [], 0
        trial = experiment.figure == "successes"
        for step in range(1, case.steps + 1):
            net.train()
            inputs, targets = problem.draw(experiment.batch, experiment.length, generator, generator.device)
            loss = problem.loss(net(inputs, None), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(optimizer.parameters, CLIP)
            optimizer.step(LEARNING_RATE)
            if step % every and step < case.steps:
                continue
            listener.step(step, loss.item())
            seen = generator_of(spec.device, spec.seed, 1, step)
            checks.append(Seen(step, tested(net, problem, experiment, seen, TESTED // 8)))
            if checks[-1].figure is None or (trial and checks[-1].figure == 1.0):
                break
        last = tested(net, problem, experiment, generator_of(spec.device, spec.seed, 0, 0), TESTED)
        return PublishedResult(
            experiment=case.experiment,
            width=case.width,
            params=count_parameters(net),
            steps=step,
            figure=(None if checks[-1].figure is None else float(checks[-1].figure == 1.0)) if trial else last,
            checks=tuple(checks),
            memoryless=problem.memoryless_loss(experiment.length) if experiment.figure == "loss" else None,
        )

    def headline(self, result: PublishedResult) -> str:
        """For example ``adding: loss 0.00012``."""
        kind = EXPERIMENTS[result.experiment].figure
        return f"{result.experiment}: {kind} {NONE if result.figure is None else rounded(result.figure)}"

    def table(self, measured: Sequence[Measured[PublishedResult]]) -> str:
        """Ours beside the paper's, and whether they agree."""
        rows = rows_of(measured)
        return f"{aligned_table(map(_cells, rows))}\n\n{READING}" if rows else "Nothing was measured."

    def chart(self, measured: Sequence[Measured[PublishedResult]]) -> Chart:
        """For each experiment every seed's figure during training, and the paper's as a line."""
        rows = rows_of(measured)
        panels = []
        for title in dict.fromkeys(row.experiment.title for row in rows):
            here = [row for row in rows if row.experiment.title == title]
            marks: list[Mark] = []
            for row in here:
                for i, result in enumerate(row.results):
                    known = [check for check in result.checks if check.figure is not None]
                    steps, figures = [check.step for check in known], [check.figure or 0.0 for check in known]
                    marks.append(Line(steps, figures, look_of(row.model), label="" if i else row.model))
                if row.found is not None and row.experiment.same_data:
                    marks.append(Rule(row.found.value, f"{row.model}, published"))
            scale: Literal["linear", "log10"] = "log10" if here[0].experiment.figure == "loss" else "linear"
            panels.append(Panel(title, marks, Axis("training steps"), Axis(here[0].experiment.figure, scale)))
        return Chart("Published experiments, made again", [panels[i::2] for i in range(min(2, len(panels)))])

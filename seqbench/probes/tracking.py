"""How far a model goes on keeping track of a state that every step may change.

After every step the product of all permutations so far is to be named (the word problem of a group): of 2 points, which
is parity, and of 3 points, the group S3, in which the order matters. One of 2 or 6 things is carried, and no step may
be missed; nothing else has to be remembered. Models are taught on sequences of up to 64 steps and tested on 64, 128,
..., 2,048 by how many of the last eight steps are right.

A recurrent net whose state is not a linear function of the last one can learn both. One layer whose state is such a
function, with a real diagonal matrix, can't do either at all lengths unless that matrix may have negative entries, and
S3 not even then (Grazzi et al. 2025). Nor can one layer of attention do parity (Hahn 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from seqbench.jobs.job import Listener
from seqbench.options import MODEL, TRAINING, Parameter, Range, Width
from seqbench.probes import Measured, NetOptions, Probe, ProbeSpec, Request, SeedGroup, register_probe, seeds_together
from seqbench.probes.shared.restarts import (
    RULE,
    Schooling,
    Try,
    curves_panel,
    labels_of,
    restarts_text,
    teach,
    tries_text,
)
from seqbench.report.chart import Axis, Chart, Dash, Line, Mark, Panel, Rule, dashes_of, look_of
from seqbench.report.text import NONE, aligned_table, interval_text, short
from seqbench.stats import Interval, over_seeds

if TYPE_CHECKING:
    from seqbench.models.backbone import SequenceModel
    from seqbench.probes.shared.problems import Product

__all__ = ["Tracking", "TrackingOptions", "TrackingResult"]

POINTS = {"parity": 2, "s3": 3}  # the problems, and of how many points their permutations are
TAUGHT = 64  # steps of the longest sequences that are trained on
CHECKED = (8, 16, 32, 64)  # lengths of a check: a net that gets further bit by bit must not look stuck
KEPT = 0.9  # accuracy from which the state counts as kept
BATCH, LEARNING_RATE, CLIP = 64, 3e-3, 1.0


@dataclass(frozen=True)
class TrackingOptions(NetOptions):
    """Options of `probe tracking`; None stands for what the budget says."""

    problem: Annotated[str, Parameter(metavar="NAME")] = "all"
    """Parity, s3, or both with a comma."""
    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the layers; by default 64, and 32 in smoke."""
    longest: Annotated[int | None, Range(ge=TAUGHT, le=32_768), Parameter(metavar="L")] = None
    """Steps of the longest sequences of the test, which has 64, twice as many, and so on; by default 2,048, and 256 in
    smoke."""
    steps: Annotated[int | None, Range(ge=1, le=10**7), Parameter(group=TRAINING, metavar="N")] = None
    """Training steps of all attempts together; by default 60, 2,000 or 20,000, by budget."""


@dataclass(frozen=True)
class Tracked:
    """The test at one length: the share of the last eight steps that is right; None where an output was not finite."""

    length: int
    accuracy: float | None


@dataclass(frozen=True)
class TrackingResult:
    """What one seed of one model gives on one problem.

    Attributes:
        problem: ``parity`` or ``s3``.
        chance: accuracy of guessing.
        initialisation, width: of the net.
        params: trainable parameters of the net.
        tries: all attempts at training.
        tested: by length, ascending.
        reached: the longest length with an accuracy of .9 at every tested one up to it; 0: none.
        at_least: that is the longest that was tested, so that more may be reached.
    """

    problem: str
    chance: float
    initialisation: str
    width: int
    params: int
    tries: tuple[Try, ...]
    tested: tuple[Tracked, ...]
    reached: int
    at_least: bool


# ---- plan ---------------------------------------------------------------------------------------------------------


class TrackingEffort(NamedTuple):
    """What a budget spends: seeds, width, steps, steps between checks, length and number of sequences of the test."""

    seeds: int
    width: int
    steps: int
    every: int
    longest: int
    sequences: int


TRACKING_BUDGETS = {
    "smoke": TrackingEffort(1, 32, 60, 20, 256, 64),
    "quick": TrackingEffort(3, 64, 2_000, 50, 2_048, 256),
    "standard": TrackingEffort(6, 64, 20_000, 100, 2_048, 1_024),
}


@dataclass(frozen=True)
class TrackingCase:
    """All that decides a result but model, seed and machine.

    Attributes:
        problem: ``parity`` or ``s3``.
        width, layers, backbone, initialisation: of the net.
        tested: lengths.
        sequences: of each.
        schooling: fields of `Schooling`.
    """

    problem: str
    width: int
    layers: int
    backbone: str
    initialisation: str
    tested: list[int]
    sequences: int
    schooling: dict[str, Any]

    def made(self) -> Product:
        """The problem itself."""
        from seqbench.probes.shared.problems import Product

        return Product(POINTS[self.problem])

    def net(self, model: str) -> SequenceModel:
        """A new net of ``model``, its weights from torch's generator."""
        from seqbench.probes.shared.nets import build_net

        options = {name: getattr(self, name) for name in ("layers", "backbone", "initialisation")}
        return build_net(model, self.made().shape, self.width, **options)


# ---- measure ------------------------------------------------------------------------------------------------------


def accuracies(
    net: SequenceModel, problem: Product, lengths: Sequence[int], sequences: int, seed: int
) -> list[Tracked]:
    """The test of ``net``: so many fresh sequences of each length, which follow from ``seed`` alone."""
    from seqbench.probes.shared.nets import generator_of
    from seqbench.probes.shared.training import qualities_of

    device = str(next(net.parameters()).device)
    found = []
    for length in lengths:
        right = qualities_of(net, problem, length, generator_of(device, seed, 0, length), sequences)
        found.append(Tracked(length, None if right is None else round(float(right.double().mean()), 6)))
    return found


def reached_by(tested: Iterable[Tracked]) -> int:
    """The longest length with an accuracy of .9 at every tested one up to it; 0 where the first has less."""
    reached = 0
    for one in tested:
        if one.accuracy is None or one.accuracy < KEPT:
            break
        reached = one.length
    return reached


# ---- seeds together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrackingRow(SeedGroup[TrackingResult]):
    """All seeds of one model with one initialisation on one problem; ``label`` tells it from the others shown."""

    label: str

    @property
    def problem(self) -> str:
        """Its name."""
        return self.results[0].problem

    @property
    def lengths(self) -> list[int]:
        """Of the test."""
        return [one.length for one in self.results[0].tested]

    def accuracy(self, length: int) -> Interval:
        """At one length: the mean over seeds and its 95% interval, within 0 and 1."""
        found = [one.accuracy for result in self.results for one in result.tested if one.length == length]
        value, low, high = over_seeds(found)
        return Interval(value, max(low, 0.0), min(high, 1.0))

    @property
    def median(self) -> str:
        """Of the lengths reached, the lower of two middle ones; ``>=`` where it is a lower bound only."""
        order = sorted((result.reached, result.at_least) for result in self.results)
        return reached_text(*order[(len(order) - 1) // 2])


def _rows(measured: Iterable[Measured[TrackingResult]]) -> list[TrackingRow]:
    groups = seeds_together(measured)
    labels = labels_of([(group[0].spec.models[0], group[0].result.initialisation) for group in groups])
    return [TrackingRow(group, label) for group, label in zip(groups, labels, strict=True)]


# ---- table --------------------------------------------------------------------------------------------------------


def reached_text(reached: int, at_least: bool) -> str:
    """``512``, ``>=2048`` where no longer sequence was tested, ``0`` where not even the shortest was kept."""
    return f"{'>=' if at_least else ''}{reached}"


def _block(rows: Sequence[TrackingRow]) -> str:
    """A table of the models on one problem, under a heading, and every seed's attempts."""
    first = rows[0].results[0]
    attempts = "\n".join(
        f"{row.label}, seed {one.spec.seed}: {tries_text(one.result.tries)}." for row in rows for one in row.measured
    )
    heading = f"{first.problem}: accuracy of the last eight steps at each length (chance {first.chance:.3f})"
    return f"{heading}\n\n{aligned_table(map(_cells, rows))}\n\n{attempts}"


def _cells(row: TrackingRow) -> dict[str, str]:
    first = row.results[0]
    cells = {
        "model": row.label,
        "width": str(first.width),
        "parameters": f"{first.params:,}",
        "restarts": restarts_text(result.tries for result in row.results),
        "reached by each seed": " ".join(reached_text(result.reached, result.at_least) for result in row.results),
        "median": row.median,
    }
    for length in row.lengths:
        accuracy = row.accuracy(length)
        cells[f"T = {length}"] = NONE if math.isnan(accuracy.value) else interval_text(accuracy)
    return cells


READING = """Reached: the longest length with an accuracy of .9 at every tested one up to it (>=: none beyond was tried;
0: not even 64, where training ended). Accuracies: mean over seeds and 95% interval (Student's t over seeds)."""


# ---- chart --------------------------------------------------------------------------------------------------------


def _accuracy_panel(rows: Sequence[TrackingRow], dashes: dict[str, Dash]) -> Panel:
    """A line for each model, with the lines of chance and of what counts as kept."""
    marks: list[Mark] = []
    for row in rows:
        value, low, high = zip(*(row.accuracy(length) for length in row.lengths), strict=True)
        look, dash = look_of(row.model), dashes[row.label]
        marks.append(Line(row.lengths, value, look, low, high, label=short(row.label), dash=dash, marked=True))
    marks += [Rule(KEPT, "kept"), Rule(rows[0].results[0].chance, "guessing")]
    axes = Axis("length (steps, logarithmic)", "log2"), Axis("accuracy of the last 8 steps", limits=(-0.03, 1.05))
    return Panel(f"{rows[0].problem}: accuracy; bands: 95% over seeds", marks, *axes)


# ---- the probe ----------------------------------------------------------------------------------------------------


@register_probe("tracking")
class Tracking(Probe[TrackingResult]):
    """How far a model keeps track of a state that every step may change: parity, and products of permutations."""

    Options = TrackingOptions
    Result = TrackingResult

    def plan(self, request: Request, options: TrackingOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """Every model on every problem with every initialisation that is asked for, and every seed."""
        from seqbench.models.backbone import check_widths
        from seqbench.probes.shared.nets import initialisations, pick_names, seeds_outermost
        from seqbench.probes.shared.training import stage_lengths

        effort = TRACKING_BUDGETS[request.budget]
        schooling = Schooling(
            least=1,
            longest=TAUGHT,
            checked=list(CHECKED),
            steps=options.steps or effort.steps,
            every=effort.every,
            batch=BATCH,
            learning_rate=LEARNING_RATE,
            clip=CLIP,
        )
        specs: list[ProbeSpec] = []
        for model, starts in initialisations(options.initialisation, models).items():
            width = options.hidden or effort.width
            check_widths(model, (width,))
            for problem in pick_names(options.problem, list(POINTS), "problem"):
                for start in starts:
                    case = TrackingCase(
                        problem=problem,
                        width=width,
                        layers=options.layers,
                        backbone=options.backbone,
                        initialisation=start,
                        tested=stage_lengths(options.longest or effort.longest, TAUGHT),
                        sequences=effort.sequences,
                        schooling=asdict(schooling),
                    )
                    specs += self.specs(request, device, model, case, effort.seeds)
        return seeds_outermost(specs)

    def measure(self, spec: ProbeSpec, listener: Listener) -> TrackingResult:
        """Teach one net, and test its best state."""
        from seqbench.models.backbone import count_parameters
        from seqbench.probes.shared.nets import fresh_net

        case = TrackingCase(**spec.options)
        problem = case.made()
        fresh = partial(fresh_net, partial(case.net, spec.models[0]), spec.device, spec.seed)
        net, tries = teach(fresh, problem, Schooling(**case.schooling), listener)
        found = accuracies(net, problem, case.tested, case.sequences, spec.seed)
        reached = reached_by(found)
        return TrackingResult(
            problem=case.problem,
            chance=problem.chance(TAUGHT),
            initialisation=case.initialisation,
            width=case.width,
            params=count_parameters(net),
            tries=tries,
            tested=tuple(found),
            reached=reached,
            at_least=reached == case.tested[-1],
        )

    def headline(self, result: TrackingResult) -> str:
        """For example ``s3: reached >=2048 steps``."""
        return f"{result.problem}: reached {reached_text(result.reached, result.at_least)} steps"

    def table(self, measured: Sequence[Measured[TrackingResult]]) -> str:
        """For each problem the lengths reached and the accuracies, seeds together; every attempt; how to read it."""
        rows = _rows(measured)
        if not rows:
            return "Nothing was measured."
        blocks = [_block([row for row in rows if row.problem == problem]) for problem in _problems(rows)]
        return "\n\n".join([*blocks, f"{READING}\n{fill(RULE, 110)}"])

    def chart(self, measured: Sequence[Measured[TrackingResult]]) -> Chart:
        """For each problem a column: accuracy against length, and every seed's score while it was taught."""
        rows = _rows(measured)
        dashes = dashes_of({row.label: row.model for row in rows})
        columns = []
        for problem in _problems(rows):
            here = [row for row in rows if row.problem == problem]
            curves = [(short(row.label), look_of(row.model), result.tries) for row in here for result in row.results]
            taught = curves_panel(f"{problem}: mean score on 8, 16, 32 and 64 steps in training", curves)
            columns.append([_accuracy_panel(here, dashes), taught])
        title = f"Keeping track of a state, taught on up to {TAUGHT} steps"
        return Chart(title, columns, notes=[RULE], aligned=True)


def _problems(rows: Iterable[TrackingRow]) -> list[str]:
    """In the order of their first row."""
    return list(dict.fromkeys(row.problem for row in rows))

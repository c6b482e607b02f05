"""How well a model says again what it has read, and whether it does so beyond the lengths that it was taught.

The copy task of Graves et al. (2014, section 4.1): vectors of 8 random bits, a delimiter, then the vectors once more,
which nothing but the model's own state holds. All models are taught on lengths of 1 to 10, with as many parameters, the
same learning rate, clipping and rule of restarts (`shared.restarts`), and are tested on 10, 20 and 40 vectors. A model
that has learned how to copy, and not what to say after ten steps, goes on being right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from seqbench.errors import UserError
from seqbench.jobs.job import Listener
from seqbench.options import MODEL, TRAINING, Count, Parameter, Range, Width
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
from seqbench.report.chart import Axis, Chart, Line, Mark, Panel, Rule, dashes_of, look_of
from seqbench.report.text import NONE, aligned_table, interval_text, short
from seqbench.stats import Interval, over_seeds

if TYPE_CHECKING:
    from seqbench.models.backbone import SequenceModel

__all__ = ["CopyOptions", "CopyResult", "Copying"]

TAUGHT = 10  # vectors of the longest sequences that are trained on
BATCH, LEARNING_RATE, CLIP = 16, 2e-3, 50.0  # clipped is the gradient of the loss of a whole sequence


@dataclass(frozen=True)
class CopyOptions(NetOptions):
    """Options of `probe copy`; None stands for what the budget says."""

    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the layers, instead of a number of parameters."""
    params: Annotated[Count, Range(ge=1, le=10**12), Parameter(group=MODEL)] = None
    """Number of parameters, from which each model's width is found; by default 100k, and 10k in smoke."""
    longest: Annotated[int, Range(ge=TAUGHT, le=5_000), Parameter(metavar="L")] = 40
    """Vectors of the longest sequences of the test, which has 10, twice as many, and so on."""
    steps: Annotated[int | None, Range(ge=1, le=10**7), Parameter(group=TRAINING, metavar="N")] = None
    """Training steps of all attempts together; by default 60, 3,000 or 20,000, by budget."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured."""
        super().__post_init__()
        if self.hidden is not None and self.params is not None:
            raise UserError("--hidden and --params can't both be given: a width follows from a number of parameters.")


@dataclass(frozen=True)
class Copied:
    """What came of the test on sequences of one length.

    Attributes:
        length: vectors.
        bits: of a sequence.
        wrong: how many of them were wrong, mean over sequences; None where an output was not finite.
        faultless: share of the sequences without a wrong bit.
    """

    length: int
    bits: int
    wrong: float | None
    faultless: float | None


@dataclass(frozen=True)
class CopyResult:
    """What one seed of one model gives.

    Attributes:
        initialisation, width: of the net.
        params: trainable parameters of the net.
        state_size: floats that it carries after the longest sequence of the test.
        tries: all attempts at training.
        tested: by length, ascending.
    """

    initialisation: str
    width: int
    params: int
    state_size: int
    tries: tuple[Try, ...]
    tested: tuple[Copied, ...]


# ---- plan ---------------------------------------------------------------------------------------------------------


class CopyEffort(NamedTuple):
    """What a budget spends: seeds, parameters, steps, steps between checks, sequences of each length of the test."""

    seeds: int
    params: int
    steps: int
    every: int
    sequences: int


COPY_BUDGETS = {
    "smoke": CopyEffort(1, 10_000, 60, 20, 64),
    "quick": CopyEffort(3, 100_000, 3_000, 50, 256),
    "standard": CopyEffort(6, 100_000, 20_000, 100, 1_024),
}


@dataclass(frozen=True)
class CopyCase:
    """All that decides a result but model, seed and machine.

    Attributes:
        width, layers, backbone, initialisation: of the net.
        tested: lengths.
        sequences: of each.
        schooling: fields of `Schooling`.
    """

    width: int
    layers: int
    backbone: str
    initialisation: str
    tested: list[int]
    sequences: int
    schooling: dict[str, Any]

    def net(self, model: str) -> SequenceModel:
        """A new net of ``model``, its weights from torch's generator."""
        from seqbench.probes.shared.nets import build_net
        from seqbench.probes.shared.problems import Bits

        options = {name: getattr(self, name) for name in ("layers", "backbone", "initialisation")}
        return build_net(model, Bits().shape, self.width, **options)


def _width(options: CopyOptions, effort: CopyEffort, model: str) -> int:
    """What is asked for, or what goes with the number of parameters; refuses what the model can't have."""
    from seqbench.models.backbone import check_widths
    from seqbench.models.mixer import MODELS
    from seqbench.probes.shared.nets import width_of_size
    from seqbench.probes.shared.problems import Bits

    mixer = MODELS.get(model).mixer
    width = options.hidden
    if width is None:
        width = 8 * mixer.width_multiple  # of one that can't be measured anyway
        if mixer.can_be_causal:
            size = {"layers": options.layers, "backbone": options.backbone}
            width = width_of_size(options.params or effort.params, model, Bits().shape, **size)
    check_widths(model, (width,))
    return width


# ---- seeds together -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CopyRow(SeedGroup[CopyResult]):
    """All seeds of one model with one initialisation; ``label`` tells it from the others shown."""

    label: str

    def wrong(self, length: int) -> Interval:
        """Wrong bits of a sequence of ``length``: the mean over seeds and its 95% interval, neither below 0."""
        found = [one.wrong for result in self.results for one in result.tested if one.length == length]
        value, low, high = over_seeds(found)
        return Interval(value, max(low, 0.0), high)


def _rows(measured: Iterable[Measured[CopyResult]]) -> list[CopyRow]:
    groups = seeds_together(measured)
    labels = labels_of([(group[0].spec.models[0], group[0].result.initialisation) for group in groups])
    return [CopyRow(group, label) for group, label in zip(groups, labels, strict=True)]


def _cells(row: CopyRow) -> dict[str, str]:
    first = row.results[0]
    cells = {
        "model": row.label,
        "width": str(first.width),
        "parameters": f"{first.params:,}",
        "state": f"{first.state_size:,}",
        "seeds": str(len(row.results)),
        "restarts": restarts_text(result.tries for result in row.results),
    }
    for one in first.tested:
        wrong = row.wrong(one.length)
        cells[f"wrong of {one.bits} bits (L = {one.length})"] = (
            NONE if math.isnan(wrong.value) else interval_text(wrong)
        )
    return cells


def _attempts(row: CopyRow) -> Iterable[str]:
    """A line for each seed: its attempts, and how often the best state made no mistake."""
    for one in row.measured:
        shares = [NONE if at.faultless is None else f"{at.faultless:.0%} (L = {at.length})" for at in one.result.tested]
        yield (
            f"{row.label}, seed {one.spec.seed}: {tries_text(one.result.tries)}; sequences without a wrong bit: "
            f"{', '.join(shares)}."
        )


READING = """Wrong bits of a sequence: mean over seeds and 95% interval (Student's t over seeds); guessing gets half of
them wrong. State: floats carried after the longest sequence. Trained on 1 to 10 vectors of 8 bits; the best state of
each seed is that with the fewest wrong bits on those lengths, and no longer sequence has a say in anything."""


# ---- the probe ----------------------------------------------------------------------------------------------------


@register_probe("copy")
class Copying(Probe[CopyResult]):
    """How well a model says again what it has read, and whether on longer sequences than it was taught."""

    Options = CopyOptions
    Result = CopyResult

    def plan(self, request: Request, options: CopyOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """Every model with every initialisation that is asked for, and every seed."""
        from seqbench.probes.shared.nets import initialisations, seeds_outermost
        from seqbench.probes.shared.training import stage_lengths

        effort = COPY_BUDGETS[request.budget]
        schooling = Schooling(
            least=1,
            longest=TAUGHT,
            checked=list(range(1, TAUGHT + 1)),
            steps=options.steps or effort.steps,
            every=effort.every,
            batch=BATCH,
            learning_rate=LEARNING_RATE,
            clip=CLIP,
        )
        specs: list[ProbeSpec] = []
        for model, starts in initialisations(options.initialisation, models).items():
            for start in starts:
                case = CopyCase(
                    width=_width(options, effort, model),
                    layers=options.layers,
                    backbone=options.backbone,
                    initialisation=start,
                    tested=stage_lengths(options.longest, TAUGHT),
                    sequences=effort.sequences,
                    schooling=asdict(schooling),
                )
                specs += self.specs(request, device, model, case, effort.seeds)
        return seeds_outermost(specs)

    def measure(self, spec: ProbeSpec, listener: Listener) -> CopyResult:
        """Teach one net, and test its best state."""
        from seqbench.models.backbone import count_parameters
        from seqbench.probes.shared.nets import fresh_net
        from seqbench.probes.shared.problems import Bits

        case, problem = CopyCase(**spec.options), Bits()
        fresh = partial(fresh_net, partial(case.net, spec.models[0]), spec.device, spec.seed)
        net, tries = teach(fresh, problem, Schooling(**case.schooling), listener)
        return CopyResult(
            initialisation=case.initialisation,
            width=case.width,
            params=count_parameters(net),
            state_size=net.state_size(problem.steps(case.tested[-1])),
            tries=tries,
            tested=copied_by(net, case, spec.seed),
        )

    def headline(self, result: CopyResult) -> str:
        """For example ``wrong bits: 0.0 of 80, 0.2 of 160, 80.3 of 320``."""
        return "wrong bits: " + ", ".join(
            f"{NONE if one.wrong is None else format(one.wrong, '.1f')} of {one.bits}" for one in result.tested
        )

    def table(self, measured: Sequence[Measured[CopyResult]]) -> str:
        """Wrong bits at each length, seeds together; every attempt of every seed; how to read it."""
        rows = _rows(measured)
        if not rows:
            return "Nothing was measured."
        attempts = "\n".join(line for row in rows for line in _attempts(row))
        return "\n\n".join([aligned_table(map(_cells, rows)), attempts, f"{READING}\n{fill(RULE, 110)}"])

    def chart(self, measured: Sequence[Measured[CopyResult]]) -> Chart:
        """The share of wrong bits against length, and every seed's score while it was taught."""
        rows = _rows(measured)
        dashes = dashes_of({row.label: row.model for row in rows})
        marks: list[Mark] = []
        for row in rows:
            found = [(one, row.wrong(one.length)) for one in row.results[0].tested]
            value, low, high = ([figures[i] / one.bits for one, figures in found] for i in range(3))
            lengths = [one.length for one, _ in found]
            look = look_of(row.model)
            marks.append(
                Line(lengths, value, look, low, high, label=short(row.label), dash=dashes[row.label], marked=True)
            )
        marks += [Rule(0.5, "guessing"), Rule(float(TAUGHT), "longest in training", axis="x")]
        ticks = [(float(one.length), f"{one.length:,}") for one in rows[0].results[0].tested]
        across = Axis("vectors in a sequence (logarithmic)", "log2", ticks=ticks if len(ticks) > 2 else None)
        axes = across, Axis("share of wrong bits", limits=(-0.03, 0.58))
        shown = Panel("Wrong bits of the best state; bands: 95% over seeds", marks, *axes)
        curves = [(short(row.label), look_of(row.model), result.tries) for row in rows for result in row.results]
        taught = curves_panel("Training: the mean score on 1 to 10 vectors", curves)
        return Chart("Copying vectors of 8 bits, taught on 1 to 10 of them", [[shown], [taught]], notes=[RULE])


def copied_by(net: SequenceModel, case: CopyCase, seed: int) -> tuple[Copied, ...]:
    """The test of ``net``: fresh sequences of each length, which follow from ``seed`` alone."""
    from seqbench.probes.shared.nets import generator_of
    from seqbench.probes.shared.problems import WIDE, Bits
    from seqbench.probes.shared.training import qualities_of

    device = str(next(net.parameters()).device)
    found = []
    for length in case.tested:
        right = qualities_of(net, Bits(), length, generator_of(device, seed, 0, length), case.sequences)
        wrong, faultless = None, None
        if right is not None:
            wrong = round(float((1 - right.double()).mean()) * WIDE * length, 6)
            faultless = round(float((right == 1).double().mean()), 6)
        found.append(Copied(length, WIDE * length, wrong, faultless))
    return tuple(found)

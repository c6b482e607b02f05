"""How long a model remembers, as two figures: the lag that it learns from cold, and the lag that it can be taught.

Cold: a fresh net for each length 4, 8, 16, ...; it measures what gradient descent finds across a lag (the learnable
lag). Staged: one net whose lengths double from 5, each drawn from [L/2, L]; it measures what the state can hold (the
retainable lag). Either alone misleads: a plain RNN fails at 10 or 20 steps from cold and holds hundreds once taught.
Lengths are steps, or pairs to hold (`problems.Selective`), which double from 2 in both regimes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from seqbench.errors import UserError
from seqbench.jobs.job import Listener
from seqbench.options import MODEL, TRAINING, Count, Flag, Parameter, Range, Width
from seqbench.probes import Measured, NetOptions, Probe, ProbeSpec, Request, SeedGroup, register_probe, seeds_together
from seqbench.probes.shared import LEARNING_RATE, SOLVED
from seqbench.report.chart import Axis, Chart, Dash, Line, Mark, Panel, Points, Rule, dashes_of, look_of
from seqbench.report.text import NONE, aligned_table, short

if TYPE_CHECKING:
    from torch import Generator

    from seqbench.models.backbone import SequenceModel
    from seqbench.probes.shared.problems import Problem
    from seqbench.probes.shared.training import Attempt

__all__ = ["EdgeRow", "Ladder", "Memory", "MemoryOptions", "MemoryResult", "edges"]

MEANING = {"cold": "learnable", "staged": "retainable"}  # the regimes, and what each measures


@dataclass(frozen=True)
class MemoryOptions(NetOptions):
    """Options of `probe memory`; None stands for what the budget says."""

    problem: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Recall, adding, copy, selective or multi-query, or several with commas; by default all, in smoke recall."""
    regime: Literal["both", "cold", "staged"] = "both"
    """A fresh net for every length (learnable lag), one net through growing lengths (retainable lag), or both."""
    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the layers; by default 32, 64 or 128, by budget."""
    params: Annotated[Count, Range(ge=1, le=10**12), Parameter(group=MODEL)] = None
    """Number of parameters, from which each model's width is found, instead of --hidden."""
    longest: Annotated[int | None, Parameter(metavar="L")] = None
    """Steps at which both ladders end; by default the budget's: 128 cold and 320 staged in quick, 1024 in standard."""
    pairs: Annotated[int | None, Range(ge=2, le=65_536), Parameter(metavar="K")] = None
    """Most pairs of selective and multi-query recall, for which the net has room; by default 4, 16 or 32, by budget."""
    blank: Flag = False
    """Recall across steps of one token, not of noise."""
    steps: Annotated[Count | None, Range(ge=1, le=10**9), Parameter(group=TRAINING)] = None
    """Most training steps of each length; by default the budget's. Is an edge the model's, or that of its training?"""
    learning_rate: Annotated[float | None, Range(gt=0, le=10), Parameter(group=TRAINING)] = None
    """Learning rate of the first attempt at each length; a second one takes a third of it. By default .003."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the problem and the machine later."""
        super().__post_init__()
        if self.hidden is not None and self.params is not None:
            raise UserError("--hidden and --params can't both be given: a width follows from a number of parameters.")


@dataclass(frozen=True)
class Rung:
    """One attempt at a length; ``score`` and ``low`` are None where training diverged (see `training.Attempt`).

    Where it ``rises``, the score still rose when the steps were over: that is an edge of the budget, not of the model.
    """

    length: int
    learning_rate: float
    steps: int
    solved: bool
    diverged: bool
    attempt: int
    score: float | None
    low: float | None
    rises: bool = False


@dataclass(frozen=True)
class Untrained:
    """The score at a length longer than those trained on, and the lower end of its 95% interval."""

    length: int
    score: float | None
    low: float | None


@dataclass(frozen=True)
class MemoryResult:
    """What one climb of a ladder gives.

    Attributes:
        problem, regime, initialisation, width: as in `Ladder`.
        axis: what lengths count, ``steps`` or ``pairs``.
        params: trainable parameters of the net.
        chance: quality of a net without memory at the longest length.
        memoryless: who scores 0, in words.
        rungs: every attempt, in order.
        edge: the longest length with every tested one up to it solved; 0: none.
        first_fail: the shortest length that failed; None: none did.
        monotone: no length longer than ``first_fail`` was solved.
        at_least: the ladder ended at ``edge``, so that the edge may lie anywhere beyond.
        beyond: of a net taught in stages, scores at 2, 4 and 8 times the last length that it solved.
        state_size: floats that the net carries after a sequence of its edge, or of the first length where it solved
            none; None in records that are older than this figure.
    """

    problem: str
    regime: str
    initialisation: str
    width: int
    axis: str
    params: int
    chance: float
    memoryless: str
    rungs: tuple[Rung, ...]
    edge: int
    first_fail: int | None
    monotone: bool
    at_least: bool
    beyond: tuple[Untrained, ...]
    state_size: int | None = None


# ---- plan ---------------------------------------------------------------------------------------------------------


class Effort(NamedTuple):
    """What a budget spends on a problem: seeds, longest of each regime (the most pairs in both), steps of a rung.

    ``regimes`` are those measured where both are asked for.
    """

    seeds: int
    cold: int
    staged: int
    steps: int
    regimes: tuple[str, ...] = tuple(MEANING)


FIRST = {"cold": 4, "staged": 5}  # steps; doubled from rung to rung
FIRST_PAIRS = 2
WIDTHS = {"smoke": 32, "quick": 64, "standard": 128}
BUDGETS = {
    "smoke": {
        "recall": Effort(1, 16, 10, 125),
        "adding": Effort(1, 8, 5, 200),
        "copy": Effort(1, 4, 5, 50),
        "selective": Effort(1, 4, 4, 150),
        "multi-query": Effort(1, 4, 4, 150),
    },
    "quick": {
        "recall": Effort(6, 128, 320, 600),
        "adding": Effort(6, 128, 320, 1_500),
        "copy": Effort(3, 16, 40, 4_000, ("staged",)),  # an LSTM takes 4,000 steps for T = 5, too long for a ladder
        "selective": Effort(6, 16, 16, 2_000),
        "multi-query": Effort(6, 16, 16, 2_000),
    },
    "standard": {
        "recall": Effort(6, 1_024, 1_024, 3_000),
        "adding": Effort(6, 1_024, 1_024, 3_000),
        "copy": Effort(6, 1_024, 1_024, 6_000),
        "selective": Effort(6, 32, 32, 3_000),
        "multi-query": Effort(6, 32, 32, 3_000),
    },
}
USUAL = {"smoke": ["recall"]}  # problems of a budget where they are not all


@dataclass(frozen=True)
class Ladder:
    """All that decides a result but model, seed and machine: the problem, its lengths, the net and its training.

    Attributes:
        problem, blank, largest: what `problems.make_problem` takes; ``largest`` is None unless lengths are pairs.
        regime: ``cold`` or ``staged``.
        width, layers, backbone, initialisation: of the net.
        lengths: the rungs.
        steps: of each rung, the most that training takes.
        learning_rate: of the first attempt at each.
    """

    problem: str
    regime: str
    width: int
    layers: int
    backbone: str
    blank: bool
    largest: int | None
    lengths: list[int]
    steps: list[int]
    learning_rate: float
    initialisation: str

    def made(self) -> Problem:
        """The problem itself."""
        from seqbench.probes.shared.problems import make_problem

        return make_problem(self.problem, blank=self.blank, largest=self.largest)

    def net(self, model: str) -> SequenceModel:
        """A new net of ``model``, its weights from torch's generator."""
        from seqbench.probes.shared.nets import build_net

        options = {name: getattr(self, name) for name in ("layers", "backbone", "initialisation")}
        return build_net(model, self.made().shape, self.width, **options)


def _ladder(request: Request, options: MemoryOptions, model: str, name: str, regime: str, start: str) -> Ladder:
    """What was asked for; refuses lengths and widths that can't be."""
    from seqbench.models.backbone import check_widths
    from seqbench.models.mixer import MODELS
    from seqbench.probes.shared.nets import check_length, width_of_size
    from seqbench.probes.shared.problems import PROBLEMS
    from seqbench.probes.shared.training import STAGE_STEPS, stage_lengths

    effort, pairs = BUDGETS[request.budget][name], PROBLEMS[name].axis == "pairs"
    asked, option = (options.pairs, "--pairs") if pairs else (options.longest, "--longest")
    longest = (effort.cold if regime == "cold" else effort.staged) if asked is None else asked
    check_length(longest, option, PROBLEMS[name].least)
    lengths = stage_lengths(longest, FIRST_PAIRS if pairs else FIRST[regime])
    # but for the first stage, in which the problem itself must be learned, a stage only stretches what is there
    first = options.steps or effort.steps
    later = first if regime == "cold" or pairs or options.steps else STAGE_STEPS
    ladder = Ladder(
        problem=name,
        regime=regime,
        width=options.hidden or WIDTHS[request.budget],
        layers=options.layers,
        backbone=options.backbone,
        blank=options.blank and name == "recall",
        largest=longest if pairs else None,
        lengths=lengths,
        steps=[first] + [later] * (len(lengths) - 1),
        learning_rate=options.learning_rate or LEARNING_RATE,
        initialisation=start,
    )
    if options.params is not None and MODELS.get(model).mixer.can_be_causal:
        size = {"layers": options.layers, "backbone": options.backbone}
        ladder = replace(ladder, width=width_of_size(options.params, model, ladder.made().shape, **size))
    check_widths(model, (ladder.width,))
    return ladder


def _check_longest(model: str, ladders: Sequence[Ladder], device: str) -> None:
    """Refuse ladders whose last rung the device can't run or hold."""
    from seqbench.device import CUDNN_LONGEST
    from seqbench.probes.shared.nets import check_fits
    from seqbench.probes.shared.training import BATCH

    longest = {ladder.problem: ladder for ladder in sorted(ladders, key=lambda ladder: ladder.lengths[-1])}
    for ladder in longest.values():
        problem, length, option = ladder.made(), ladder.lengths[-1], "--pairs" if ladder.largest else "--longest"
        if device == "cuda" and problem.steps(length) > CUDNN_LONGEST:
            raise UserError(
                f"{option} {length}: CUDA runs at most {CUDNN_LONGEST:,} steps: take less, or --device cpu."
            )
        check_fits(partial(ladder.net, model), problem.shape, BATCH, length, device, option)


# ---- measure ------------------------------------------------------------------------------------------------------

RETRY = 1 / 3  # of the learning rate
FAILURES = 2  # rungs, after which a cold ladder ends
BEYOND, BEYOND_SEQUENCES = (2, 4, 8), 512


class Edge(NamedTuple):
    """As in `MemoryResult`."""

    edge: int
    first_fail: int | None
    monotone: bool


def edge_of(rungs: Sequence[Rung]) -> Edge:
    """The edge of one seed, from all its attempts; any of a length's attempts may solve it."""
    solved = {rung.length for rung in rungs if rung.solved}
    first_fail = min((rung.length for rung in rungs if rung.length not in solved), default=None)
    below = [length for length in solved if first_fail is None or length < first_fail]
    return Edge(max(below, default=0), first_fail, len(below) == len(solved))


class _Climb:
    """One seed on its ladder; ``rungs`` and ``beyond`` fill as it goes."""

    def __init__(self, spec: ProbeSpec, ladder: Ladder, listener: Listener) -> None:
        self.spec, self.ladder, self.problem, self.listener = spec, ladder, ladder.made(), listener
        self.rungs: list[Rung] = []
        self.beyond: list[Untrained] = []

    def fresh(self, length: int = 0, attempt: int = 1) -> tuple[SequenceModel, Generator]:
        """A net and a generator of data that depend on the seed, the length and the attempt, not on what ran before."""
        from seqbench.probes.shared.nets import fresh_net

        build = partial(self.ladder.net, self.spec.models[0])
        return fresh_net(build, self.spec.device, self.spec.seed, length, attempt)

    def note(self, trained: Attempt, attempt: int) -> bool:
        """Keep an attempt; whether it solved its length."""
        score, low = (None if value is None else round(value, 6) for value in (trained.score, trained.low))
        names = ("length", "learning_rate", "steps", "solved", "diverged", "rises")
        same = {name: getattr(trained, name) for name in names}
        self.rungs.append(Rung(**same, attempt=attempt, score=score, low=low))
        return trained.solved

    def cold(self) -> None:
        """A fresh net for each rung until two have failed, then one rung between the edge and the first failure."""
        failed = 0
        for i, length in enumerate(self.ladder.lengths, 1):
            failed += not self._solves(length)
            self.listener.step(i)
            if failed == FAILURES:
                break
        edge, first_fail, _ = edge_of(self.rungs)
        if edge and first_fail is not None and first_fail - edge > 1:
            self._solves((edge + first_fail) // 2)

    def _solves(self, length: int) -> bool:
        from seqbench.probes.shared.training import train

        for attempt, factor in enumerate((1.0, RETRY), 1):
            net, generator = self.fresh(length, attempt)
            rate, steps = factor * self.ladder.learning_rate, self.ladder.steps[0]
            if self.note(train(net, self.problem, length, generator, learning_rate=rate, steps=steps), attempt):
                return True
        return False

    def staged(self) -> None:
        """One net through all stages until one fails; then, as it was after the last it solved, on lengths beyond.

        A stage that the net passes as it is counts as solved in 0 steps, and a failed one is tried once more from where
        it began, as cold ones are. Without either, the edge measures the training and not the state: a plain RNN that
        had learned 40 steps and held 320 untrained lost it all in training on 80.
        """
        net, generator = self.fresh()
        solved = 0
        for i, (length, steps) in enumerate(zip(self.ladder.lengths, self.ladder.steps, strict=True), 1):
            before = {name: value.clone() for name, value in net.state_dict().items()}
            for attempt, trained in enumerate(self._stage(net, length, generator, steps), 1):
                if self.note(trained, attempt):
                    solved = length
                    break
                net.load_state_dict(before)
            self.listener.step(i)
            if solved < length:
                break
        if solved:
            self.beyond += self._scores_beyond(net, generator, solved)

    def _stage(self, net: SequenceModel, length: int, generator: Generator, steps: int) -> Iterator[Attempt]:
        """The net as it is, if it passes; else after training at the learning rate, then at a third of it."""
        from seqbench.probes.shared.training import passed_untrained, train

        as_it_is = passed_untrained(net, self.problem, length, generator)
        if as_it_is is not None:
            yield as_it_is
            return
        lengths = max(self.problem.least, length // 2), length
        for factor in (1.0, RETRY):
            rate = factor * self.ladder.learning_rate
            yield train(net, self.problem, lengths, generator, learning_rate=rate, steps=steps)

    def _scores_beyond(self, net: SequenceModel, generator: Generator, solved: int) -> Iterator[Untrained]:
        """At multiples of the last length that was solved, as far as the net has room and the device goes."""
        from seqbench.device import CUDNN_LONGEST
        from seqbench.probes.shared.training import assess

        largest = math.inf if self.ladder.largest is None else self.ladder.largest
        longest = CUDNN_LONGEST if self.spec.device == "cuda" else math.inf
        for length in (factor * solved for factor in BEYOND):
            if length <= largest and self.problem.steps(length) <= longest:
                score = assess(net, self.problem, length, generator, BEYOND_SEQUENCES)
                value, low = (None, None) if score is None else (round(score.value, 6), round(score.low, 6))
                yield Untrained(length, value, low)


# ---- seeds together -----------------------------------------------------------------------------------------------


class Beyond(NamedTuple):
    """Untrained lengths ``factor`` times each seed's edge: of ``seeds`` tested, ``held`` still solved it."""

    factor: int
    seeds: int
    held: int


@dataclass(frozen=True)
class EdgeRow(SeedGroup[MemoryResult]):
    """All seeds of one model with one initialisation on one problem in one regime.

    Attributes:
        initialisation, problem, regime, width, params, axis, memoryless: as in `MemoryResult`.
        place: what rows must share to be compared: problem, what is unusual of the net, budget and device.
        edges, at_least, monotone: of each seed, as in `MemoryResult`.
        median: of the edges, the lower of two middle ones.
        median_at_least: whether the median is a lower bound only.
        low, high: least last pass and greatest first fail; None where some seed's ladder ended before it failed.
        coverage: probability that the median edge of all seeds there could be lies from ``low`` to ``high``: all n
            seeds fall on one side of it with 2 / 2^n.
        beyond: lengths longer than those trained on.
        steps: most training steps of the first length.
        rising: of each seed, whether it failed first at a length whose score still rose when the steps were over.
    """

    initialisation: str
    problem: str
    regime: str
    width: int
    params: int
    axis: str
    memoryless: str
    place: tuple[str, str, str, str]
    edges: tuple[int, ...]
    at_least: tuple[bool, ...]
    monotone: tuple[bool, ...]
    median: int
    median_at_least: bool
    low: int
    high: int | None
    coverage: float
    beyond: tuple[Beyond, ...]
    steps: int
    rising: tuple[bool, ...]

    @property
    def label(self) -> str:
        """Model and initialisation."""
        return self.model if self.initialisation == "default" else f"{self.model} {self.initialisation}"


def edges(measured: Iterable[Measured[MemoryResult]]) -> list[EdgeRow]:
    """A row for every model, initialisation, problem and regime, in the order of their first measurement."""
    return [_row(group) for group in seeds_together(measured)]


def _row(group: Sequence[Measured[MemoryResult]]) -> EdgeRow:
    spec, results = group[0].spec, [one.result for one in group]
    ladder = Ladder(**spec.options)
    unusual = {
        f"{ladder.layers} layers": ladder.layers > 1,
        f"{ladder.backbone} backbone": ladder.backbone != "bare",
        "blank distractors": ladder.blank,
        f"{ladder.steps[0]:,} steps": ladder.steps[0] != BUDGETS[spec.budget][ladder.problem].steps,
        f"learning rate {ladder.learning_rate:g}": ladder.learning_rate != LEARNING_RATE,
    }
    # one whose ladder ended counts as longer than an equal one that failed beyond
    order = sorted((result.edge, result.at_least) for result in results)
    middle, more = order[(len(order) - 1) // 2]  # of an even number the lower one: a length that was tried
    fails = [result.first_fail for result in results if result.first_fail is not None]
    beyond = [(one.length // result.edge, one) for result in results for one in result.beyond]
    tested = Counter(factor for factor, _ in beyond)
    tested.update(dict.fromkeys(tested, sum(not result.edge for result in results)))  # who solved nothing holds nothing
    held = Counter(factor for factor, one in beyond if one.low is not None and one.low >= SOLVED)
    alike = ("initialisation", "problem", "regime", "width", "params", "axis", "memoryless")
    return EdgeRow(
        group,
        **{name: getattr(results[0], name) for name in alike},
        place=(ladder.problem, ", ".join(word for word in unusual if unusual[word]), spec.budget, spec.device),
        edges=tuple(result.edge for result in results),
        at_least=tuple(result.at_least for result in results),
        monotone=tuple(result.monotone for result in results),
        median=middle,
        median_at_least=more,
        low=order[0][0],
        high=max(fails) if len(fails) == len(results) else None,
        coverage=1 - 2.0 ** (1 - len(results)),
        beyond=tuple(Beyond(factor, tested[factor], held[factor]) for factor in sorted(tested)),
        steps=ladder.steps[0],
        rising=tuple(
            any(rung.rises for rung in result.rungs if rung.length == result.first_fail) for result in results
        ),
    )


# ---- table --------------------------------------------------------------------------------------------------------


def _block(rows: Sequence[EdgeRow]) -> str:
    """A table of what can be compared, under a heading."""
    first = rows[0]
    lag = MEANING[first.regime] + (" lag" if first.axis == "steps" else " number")
    words = ", ".join(filter(None, (first.problem, first.regime, *first.place[1:])))
    return f"{words}: {lag} in {first.axis} (score 0 is {first.memoryless})\n\n{aligned_table(map(_cells, rows))}"


def _cells(row: EdgeRow) -> dict[str, str]:
    shares = f" ({row.coverage:.1%})" if len(row.edges) > 1 else ""
    cells = {
        "model": row.model,
        "initialisation": row.initialisation,
        "width": str(row.width),
        "parameters": f"{row.params:,}",
        "edge of each seed": " ".join(map(_edge, row.edges, row.at_least, row.monotone, row.rising)),
        "median": _edge(row.median, row.median_at_least),
        "range": f"{row.low} to {'?' if row.high is None else row.high}{shares}",
    }
    if row.regime == "staged":
        held = (f"{beyond.factor}x {beyond.held}/{beyond.seeds}" for beyond in row.beyond)
        cells["seeds that hold more"] = ", ".join(held) or NONE
    return cells


def _edge(value: int, at_least: bool, monotone: bool = True, rising: bool = False) -> str:
    return f"{'>=' if at_least else ''}{value}{'' if monotone else '!'}{'^' if rising else ''}"


def _sums(rows: Sequence[EdgeRow]) -> str:
    """A line for each that was measured in both regimes."""

    def words(row: EdgeRow) -> str:
        return f"{'at least ' if row.median_at_least else ''}{row.median}" if row.median else "none"

    staged = {(row.label, row.width, *row.place): row for row in rows if row.regime == "staged"}
    pairs = [(row, staged.get((row.label, row.width, *row.place))) for row in rows if row.regime == "cold"]
    return "".join(
        f"{cold.label} on {cold.problem}: {words(cold)} {cold.axis} from cold, {words(taught)} taught in stages.\n"
        for cold, taught in pairs
        if taught is not None
    )


READING = """An edge is the longest length with every tested one up to it solved (the 95% interval of the score at .9 or
above; 0: none). Cold: a fresh net for each length, what training finds. Staged: one net through growing
lengths, what the state can hold; beyond its edge the net is tried on 2, 4 and 8 times that, untrained. The
range goes from the least last pass to the greatest first fail; beside it the probability that it covers the
median edge."""
OPEN = ">= : the ladder ended there, the edge may lie anywhere beyond (in a range: ?)."
ODD = "! : a longer length was solved after a shorter one had failed."
RISING = (
    "^ : the score at the next length still rose when its steps were over: an edge of the budget, not of the model "
    "(--steps)."
)


# ---- chart --------------------------------------------------------------------------------------------------------

LOWEST = -0.12  # of the scores that are drawn where they are
EDGE_NOTE = (
    "Edge: the longest length with every tested one up to it solved; cold (a fresh net for each length) above, filled; "
    "staged (one net through growing lengths) below, hollow. Large marks are medians of the seeds, small ones the "
    "seeds; the line goes from the least last pass to the greatest first fail, with an arrow where a ladder ended "
    "before a net failed, so that the edge may lie anywhere beyond."
)
SCORE_NOTE = (
    "Scores: 0 is a net without memory, 1 is perfect; a line for every seed: of fresh nets at each length (cold), of "
    f"one net from the last length that it solved (staged). Scores below {LOWEST} are drawn there."
)
ASIDE = {"cold": -0.2, "staged": 0.2}  # of a row: where the regimes stand if both were measured


def _edge_panel(rows: Sequence[EdgeRow], title: str) -> Panel:
    """A row for each model and initialisation: medians with their ranges, and every seed."""
    labels = list(dict.fromkeys(row.label for row in rows))
    tested = [rung.length for row in rows for result in row.results for rung in result.rungs]
    none, last = min(tested) / 2, max(tested)  # where an edge of 0 stands on an axis that has no 0
    aside = ASIDE if len({row.regime for row in rows}) > 1 else {}
    marks: list[Mark] = []
    for row in rows:
        look, y = look_of(row.model), labels.index(row.label) + aside.get(row.regime, 0.0)
        middle = (len(row.edges) - 1) / 2
        for usual, marker in ((True, None), (False, "x")):
            seeds = [
                (edge or none, y + 0.13 * (i - middle) / max(1.0, middle))
                for i, (edge, monotone) in enumerate(zip(row.edges, row.monotone, strict=True))
                if monotone == usual
            ]
            marks.append(Points([x for x, _ in seeds], [y for _, y in seeds], look, small=True, marker=marker))
        high = math.inf if row.high is None else row.high
        marks.append(
            Points([row.median or none], [y], look, [row.low or none], [high], "x", hollow=row.regime == "staged")
        )
    powers = range(math.ceil(math.log2(1.4 * none)), math.floor(math.log2(last * 1.7)) + 1)
    ticks = [(none, "none"), *((2.0**i, f"{2**i:,}") for i in powers)]
    axis = Axis(f"edge ({rows[0].axis}, logarithmic)", "log2", (none / 1.3, last * 1.7), ticks)
    return Panel(title, marks, axis, rows=[short(label) for label in labels], weight=1.7 if aside else 1.0)


def _pairs_panels(rows: Sequence[EdgeRow]) -> Iterator[Panel]:
    """Pairs that models hold against how long they were taught, and, taught longest, against what they carry.

    A model that holds none stands at 1, below the first number that is asked for.
    """
    taught = [row for row in rows if row.axis == "pairs" and row.regime == "staged"]
    for problem in dict.fromkeys(row.problem for row in taught):
        by_model: dict[str, list[EdgeRow]] = {}
        for row in sorted((row for row in taught if row.problem == problem), key=lambda row: row.steps):
            by_model.setdefault(row.label, []).append(row)
        if len({row.steps for group in by_model.values() for row in group}) < 2:
            continue
        axis = Axis("pairs held (logarithmic)", "log2")
        steps = [_held([(float(row.steps), row) for row in group], label) for label, group in by_model.items()]
        joined = [Line(at.x, at.y, at.look, label=at.label) for at in steps]
        title = f"{problem}, staged: pairs against training"
        yield Panel(title, [*joined, *steps], Axis("steps for each number", "log10"), axis)
        last = {label: group[-1] for label, group in by_model.items()}
        carried = {label: (float(size), row) for label, row in last.items() if (size := _carried(row)) is not None}
        if carried:
            most = max(row.steps for row in last.values())
            title = f"{problem}, staged: pairs against the state (up to {most:,} steps)"
            states = [_held([at], label) for label, at in carried.items()]
            yield Panel(title, states, Axis("floats carried at the edge", "log10"), axis)


def _held(at: Sequence[tuple[float, EdgeRow]], label: str) -> Points:
    """Medians with their ranges at each ``x``."""
    x, rows = zip(*at, strict=True)
    high = [math.inf if row.high is None else row.high for row in rows]
    medians, low = [max(1, row.median) for row in rows], [max(1, row.low) for row in rows]
    return Points(x, medians, look_of(rows[0].model), low, high, label=label)


def _carried(row: EdgeRow) -> int | None:
    """Floats, of the seed in the middle."""
    known = sorted(result.state_size for result in row.results if result.state_size is not None)
    return known[(len(known) - 1) // 2] if known else None


def _score_panel(rows: Sequence[EdgeRow], dashes: Mapping[str, Dash], title: str) -> Panel | None:
    """A line for every seed, with the lines of no memory and of what counts as solved; None without figures."""
    marks: list[Mark] = []
    for row in rows:
        look, label, dash = look_of(row.model), short(row.label), dashes[row.label]
        for lengths, scores in filter(all, map(_curve, row.results)):
            marks.append(Line(lengths, scores, look, label=label, dash=dash, marked=True, faint=True))
    if not marks:
        return None
    marks += [Rule(SOLVED, "solved"), Rule(0.0, "no memory")]
    axes = Axis(f"length ({rows[0].axis}, logarithmic)", "log2"), Axis("normalised score", limits=(LOWEST - 0.05, 1.05))
    return Panel(title, marks, *axes, note=f"score 0 is {rows[0].memoryless}")


def _curve(result: MemoryResult) -> tuple[list[int], list[float]]:
    """Lengths and the best score at each: of a cold ladder, or from the last stage solved to untrained ones."""
    last = [rung for rung in result.rungs if rung.solved and rung.length == result.edge]
    shown: Sequence[Rung | Untrained] = result.rungs if result.regime == "cold" else [*last, *result.beyond]
    best: dict[int, float] = {}
    for tried in shown:
        score = LOWEST if tried.score is None else tried.score
        best[tried.length] = max(score, best.get(tried.length, LOWEST))
    return sorted(best), [best[length] for length in sorted(best)]


# ---- the probe ----------------------------------------------------------------------------------------------------


@register_probe("memory")
class Memory(Probe[MemoryResult]):
    """How far back a model can learn to look, and can hold what it has seen."""

    Options = MemoryOptions
    Result = MemoryResult
    version = 2  # since the last test decides whatever the checks said

    def plan(self, request: Request, options: MemoryOptions, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """For each seed, model, problem, regime and initialisation a ladder."""
        from seqbench.models.mixer import MODELS
        from seqbench.probes.shared.nets import initialisations, pick_names, seeds_outermost

        efforts = BUDGETS[request.budget]
        problems = USUAL.get(request.budget, list(efforts))
        if options.problem is not None:
            problems = pick_names(options.problem, list(efforts), "problem")
        specs: list[ProbeSpec] = []
        for model, starts in initialisations(options.initialisation, models).items():
            ladders = [
                _ladder(request, options, model, problem, regime, start)
                for problem in problems
                for regime in (efforts[problem].regimes if options.regime == "both" else (options.regime,))
                for start in starts
            ]
            if MODELS.get(model).mixer.can_be_causal:
                _check_longest(model, ladders, device)
            for ladder in ladders:
                specs += self.specs(request, device, model, ladder, efforts[ladder.problem].seeds)
        return seeds_outermost(specs)

    def measure(self, spec: ProbeSpec, listener: Listener) -> MemoryResult:
        """Climb the ladder."""
        from seqbench.models.backbone import count_parameters

        ladder = Ladder(**spec.options)
        climb = _Climb(spec, ladder, listener)
        net = climb.fresh()[0]
        listener.begin(len(ladder.lengths))
        (climb.cold if ladder.regime == "cold" else climb.staged)()
        edge, last = edge_of(climb.rungs), ladder.lengths[-1]
        return MemoryResult(
            problem=ladder.problem,
            regime=ladder.regime,
            initialisation=ladder.initialisation,
            width=ladder.width,
            axis=climb.problem.axis,
            params=count_parameters(net),
            chance=climb.problem.chance(last),
            memoryless=climb.problem.memoryless,
            rungs=tuple(climb.rungs),
            **edge._asdict(),
            at_least=edge.edge == last,
            beyond=tuple(climb.beyond),
            state_size=net.state_size(climb.problem.steps(edge.edge or ladder.lengths[0])),
        )

    def headline(self, result: MemoryResult) -> str:
        """For example ``recall cold: at least 128 steps``."""
        reached = f"at least {result.edge}" if result.at_least else f"{result.edge}, not {result.first_fail}"
        return f"{result.problem} {result.regime}: {reached} {result.axis}"

    def table(self, measured: Sequence[Measured[MemoryResult]]) -> str:
        """Edges of every seed, their median and range, and how many seeds held untrained lengths; how to read it."""
        rows = edges(measured)
        if not rows:
            return "Nothing was measured."
        places = sorted({(*row.place, row.regime) for row in rows})
        blocks = [_block([row for row in rows if (*row.place, row.regime) == place]) for place in places]
        marks = {OPEN: any(any(row.at_least) for row in rows), ODD: not all(all(row.monotone) for row in rows)}
        marks[RISING] = any(any(row.rising) for row in rows)
        notes = [_sums(rows), READING, *(mark for mark, shown in marks.items() if shown)]
        return "\n\n".join([*blocks, "\n".join(filter(None, notes))])

    def chart(self, measured: Sequence[Measured[MemoryResult]]) -> Chart:
        """For each problem a column: edges, seeds as marks, and scores against length, cold and staged.

        Where pairs were held after several numbers of steps, one more: pairs against steps, and against the state.
        """
        rows = edges(measured)
        dashes = dashes_of({row.label: row.model for row in rows})
        columns = []
        for place in dict.fromkeys(row.place for row in rows):
            here = [row for row in rows if row.place == place]
            where = ", ".join(word for word in place if word)
            cold, staged = ([row for row in here if row.regime == regime] for regime in MEANING)
            panels = [
                _edge_panel(here, f"{where}: edge, the longest length solved"),
                _score_panel(cold, dashes, f"{place[0]}, cold: score at each length"),
                _score_panel(staged, dashes, f"{place[0]}, staged: score at untrained lengths"),
            ]
            columns.append([panel for panel in panels if panel is not None])
        columns += filter(None, [list(_pairs_panels(rows))])
        shares = sorted({(len(row.edges), row.coverage) for row in rows if len(row.edges) > 1})
        covered = ", ".join(f"{share:.1%} ({seeds} seeds)" for seeds, share in shares)
        notes = [EDGE_NOTE + (f" It covers the median edge with {covered}." if covered else ""), SCORE_NOTE]
        if not all(all(row.monotone) for row in rows):
            notes.append("A small x is the edge of a seed that also solved longer lengths, after one that failed.")
        title = "How long a lag is learned (cold) and how long it can be held once taught (staged)"
        return Chart(title, columns, notes=notes, aligned=True)

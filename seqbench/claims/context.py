"""Claim 2: how much of its text a trained LSTM uses, and what the same cell does on made-up problems."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from seqbench.board import BoardTable
from seqbench.claims import Evidence, register_claim
from seqbench.claims.memory import edge_text
from seqbench.claims.names import COMPARED, LSTM, NGRAMS, TEXT, TEXT_TITLE, model_title
from seqbench.claims.rules import NOT_MEASURED, Aside, Claim, Condition
from seqbench.probes import Measured
from seqbench.probes.context import TOLERANCES, TextResult, effective_context, still_falls
from seqbench.probes.memory import edges
from seqbench.report.text import interval_text, rounded
from seqbench.stats import Interval

__all__ = ["lstm_context"]

CONTEXT = (150.0, 400.0)
SHARE = 0.01  # of the loss that may be lost
BOUND = "the windows of training are not twice as long: no verdict from it"


class TrainedAlike:
    """All seeds of one model that were trained alike.

    Attributes:
        training, quality: how it was trained, and how well it predicts the test text, in words.
        bits: per character of the test text, mean over seeds.
        units: what a step may be, the unit's name, and its size in characters; words only of a text that has spaces.
        used: effective context in characters, and whether it is a lower bound only, by the loss that may be lost.
    """

    def __init__(self, measured: Sequence[Measured[TextResult]]) -> None:
        results, training = [one.result for one in measured], measured[0].spec.options["training"]
        self.first, self.steps, self.seeds = results[0], int(training["steps"]), len(results)
        self.folders = [one.folder for one in measured]
        self.training = f"{self.steps:,} steps of {training['batch_size']} windows"
        self.bits = mean(result.test for result in results)
        self.quality = f"{rounded(self.bits)} bits per character"
        size = self.first.chars_per_word
        self.units = [("a word", "words", size)] if size is not None else []
        self.units.append(("a character", "characters", 1.0))
        self.used = {share: (effective_context(results, share), still_falls(results, share)) for share in TOLERANCES}

    def context(self, size: float = 1.0, share: float = SHARE) -> tuple[Interval, bool]:
        """In units of ``size`` characters, and whether it is a lower bound only."""
        figure, falls = self.used[share]
        return Interval(*(end / size for end in figure)), falls

    def text(self, size: float = 1.0, unit: str = "", share: float = SHARE) -> str:
        """The same in words."""
        figure, falls = self.context(size, share)
        return interval_text(figure, unit, at_least=falls)


@register_claim(2, needs={"context": (LSTM,)})
def lstm_context(evidence: Evidence) -> Claim:
    """The LSTM's context on text, in words and in characters, after every training that was measured."""
    texts = [one for one in evidence.of("context") if isinstance(one.result, TextResult) and one.result.task == TEXT]
    nets = _by_training(texts, LSTM)
    ladders = [row for row in edges(evidence.of("memory")) if row.model == LSTM and row.axis == "steps"]
    return Claim(
        "An LSTM's effective memory is about 200 to 300 steps.",
        "Khandelwal et al. 2018 (about 200 words, of a far larger model); texts since, often without saying of what",
        "the least number of characters before a target at which the loss is within 1% of that with all of them, and "
        "stays so; zero state before them; interval by bootstrap over seeds and over blocks of text. A step is a word "
        "in the source and a character to this net, so the sentence is tested twice",
        _statement(nets) if nets else NOT_MEASURED,
        [_condition(net, *unit) for net in nets for unit in net.units],
        {
            "Characters used, by the loss that may be lost:": [
                _tolerances(model, net) for model in COMPARED for net in _by_training(texts, model)
            ],
            "The same cell on made-up problems, where the figure is a matter of how it starts and is taught:": [
                Aside(f"{row.problem}, {row.regime}, {row.initialisation}: {edge_text(row)}", row.folders)
                for row in sorted(ladders, key=lambda row: (row.problem, row.regime, row.initialisation))
            ],
            "Against published results:": [_published(nets)] if nets else [],
        },
        caution=_caution(nets, evidence.tables),
    )


def _by_training(texts: Sequence[Measured[TextResult]], model: str) -> list[TrainedAlike]:
    """Measurements of ``model`` by the number of training steps, fewest first."""
    groups: dict[tuple[int, int], list[Measured[TextResult]]] = {}
    for one in texts:
        if one.spec.models == (model,):
            training = one.spec.options["training"]
            groups.setdefault((training["steps"], training["batch_size"]), []).append(one)
    return [TrainedAlike(groups[key]) for key in sorted(groups)]


def _condition(net: TrainedAlike, step: str, unit: str, size: float) -> Condition:
    """Undecided where the context ends before the region and the windows of training may be why."""
    figure, falls = net.context(size)
    axes = {"training": net.training, "what a step is": step}
    known = Condition.of(axes, figure, unit, CONTEXT, net.folders, at_least=falls)
    bounded = net.first.length / size / 2 <= figure.high < CONTEXT[0]
    return known.if_seeds(net.seeds).if_known(not bounded, BOUND)


def _statement(nets: Sequence[TrainedAlike]) -> str:
    said = [
        f"{' or '.join(net.text(size, unit) for _, unit, size in net.units)} after {net.training} ({net.quality})"
        for net in nets
    ]
    first = nets[0].first
    words = "".join(f" ({first.length / size:.0f} {unit})" for _, unit, size in nets[0].units[:-1])
    return (
        f"An LSTM of {first.params:,} parameters, trained on windows of {first.length} characters{words} of "
        f"{TEXT_TITLE}, gains no more than {SHARE:.0%} of its loss from what lies further back than {'; '.join(said)}."
    )


def _caution(nets: Sequence[TrainedAlike], tables: Sequence[BoardTable]) -> str:
    """A net that predicts a text worse than n-grams do shows what it can't do, not what its kind can."""
    baselines = [table.baselines for table in tables if table.conditions.task == TEXT]
    known = [named[NGRAMS].value for named in baselines if NGRAMS in named]
    best = min(nets, key=lambda net: net.bits, default=None)
    if best is None or not known or best.bits <= max(known):
        return ""
    return (
        f"under review: the net of {best.first.params:,} parameters predicts this text worse ({best.quality}) than an "
        f"n-gram model does ({NGRAMS}: {rounded(max(known))}), so how far back it reads says little of LSTMs"
    )


def _tolerances(model: str, net: TrainedAlike) -> Aside:
    words = [model_title(model), net.training, f"{net.seeds} seed{'s' if net.seeds > 1 else ''}", net.quality]
    words += [f"reads {net.first.limit:,} at most"] if net.first.limit is not None else []
    used = ", ".join(f"{net.text(share=share)} at {share:.1%}" for share in TOLERANCES)
    return Aside(f"{', '.join(words)}: {used}", net.folders)


def _published(nets: Sequence[TrainedAlike]) -> Aside:
    text = (
        "Khandelwal et al. 2018 find about 200 words. Their nets have three layers of 1,150 units, read words, and "
        f"were trained until they improved no more; these have {nets[0].first.width} units, read characters, and were "
        f"trained for {max(net.steps for net in nets):,} steps at most: what holds for one says little of the other."
    )
    return Aside(text, [folder for net in nets for folder in net.folders])

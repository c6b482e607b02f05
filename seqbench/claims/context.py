"""Claim 2: how much of its text a trained LSTM uses, and what the same cell does on made-up problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from seqbench.baselines.generate import HIGHEST_ORDER, NGRAMS
from seqbench.board import BoardTable
from seqbench.claims import Evidence, register_claim
from seqbench.claims.memory import edge_text
from seqbench.claims.names import COMPARED, LSTM, TEXT, TEXT_TITLE, model_title
from seqbench.claims.rules import NOT_MEASURED, Aside, Claim, Condition
from seqbench.probes import Measured, seeds_together
from seqbench.probes.context import TOLERANCES, TextResult, effective_context, still_falls
from seqbench.probes.memory import edges
from seqbench.report.text import interval_text, listed, rounded
from seqbench.stats import Interval

__all__ = ["lstm_context"]

CONTEXT = (150.0, 400.0)
SHARE = 0.01  # of the perplexity a word that may be lost
MOST_READ = HIGHEST_ORDER - 1  # characters that n-grams of the highest order read
BOUND = "the windows of training are not twice as long: no verdict from it"


class TrainedAlike:
    """All seeds of one model that read the text after the same training.

    Attributes:
        first: the result of one of the seeds.
        training, quality: how it was trained, and how well it predicts the test text, in words.
        score: on the test text, mean over seeds: bits per character, or the perplexity a word.
        units: what a step may be: the unit's name by what it is called, and its size in what the net reads.
        used: effective context in what it reads, and whether it is a lower bound only, by the perplexity that may be
            lost.
    """

    def __init__(self, seeds: Sequence[Measured[TextResult]]) -> None:
        results, training = [one.result for one in seeds], seeds[0].spec.options["training"]
        self.model, self.first, self.seeds = seeds[0].spec.models[0], results[0], len(results)
        self.folders = [one.folder for one in seeds]
        self.steps = int(training["steps"])
        self.training = f"{self.steps:,} steps of {training['batch_size']} windows"
        self.carried = bool(seeds[0].spec.options.get("carry_state"))
        self.score = mean(result.test for result in results)
        self.quality = f"{rounded(self.score)} bits per character"
        self.units = [("a character", "characters", 1.0)]
        if self.first.symbol == "word":
            self.training += " of words"
            self.quality = f"a perplexity of {rounded(self.score)} a word"
            self.units = [("a word", "words", 1.0)]
        elif self.first.chars_per_word is not None:  # a text with spaces
            self.units.insert(0, ("a word", "words", self.first.chars_per_word))
        if self.carried:
            self.training += ", the state carried from one to the next"
        self.used = {share: (effective_context(results, share), still_falls(results, share)) for share in TOLERANCES}

    def text(self, size: float = 1.0, unit: str = "", share: float = SHARE) -> str:
        """The context in units of ``size`` of what the net reads, in words."""
        figure, falls = self.used[share]
        return interval_text(Interval(*(end / size for end in figure)), unit, at_least=falls)

    def condition(self, step: str, unit: str, size: float, ngrams: float | None, net: Mapping[str, str]) -> Condition:
        """Whether the context lies in the region; undecided where the windows of training may be why it ends before.

        ``net`` names what tells this net from others that are tested, too. No test where n-grams, which read a few
        steps, predict the text as well; ``ngrams`` is their figure on it where the measurement has none.
        """
        ngrams = ngrams if self.first.ngrams is None else self.first.ngrams
        characters, falls = self.used[SHARE]
        figure = Interval(*(end / size for end in characters))
        axes = {**net, "training": self.training, "what a step is": step}
        known = Condition.of(axes, figure, unit, CONTEXT, records=self.folders, at_least=falls)
        bounded = not self.carried and self.first.length / size / 2 <= figure.high < CONTEXT[0]
        tested = known.if_seeds(self.seeds).if_known(not bounded, BOUND)
        if ngrams is None:
            return tested.if_tested(
                False, f"no figure of {NGRAMS} is known that would show whether the net is good enough"
            )
        return tested.if_tested(self.score < ngrams, self.too_weak(ngrams))

    def too_weak(self, ngrams: float) -> str:
        """Why a net that n-grams beat is no witness for its kind."""
        most = f"{MOST_READ} characters" if self.first.symbol == "character" else "a few words"
        return (
            f"the net of {self.first.params:,} parameters predicts this text no better after {self.training} "
            f"({self.quality}) than an n-gram model does ({NGRAMS}: {rounded(ngrams)}), which reads "
            f"{most} at most: how far back it reads says little of LSTMs"
        )

    def aside(self) -> Aside:
        """How much it reads by each share of the perplexity that may be lost."""
        words = [model_title(self.model), self.training, f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"]
        words += [self.quality] + ([] if self.first.limit is None else [f"reads {self.first.limit:,} at most"])
        used = ", ".join(f"{self.text(share=share)} at {share:.1%}" for share in TOLERANCES)
        return Aside(f"{', '.join(words)}: {used}", self.folders)


@register_claim(2, needs={"context": (LSTM,)})
def lstm_context(evidence: Evidence) -> Claim:
    """The LSTM's context on text, in words and in characters, after every training that was measured."""
    texts = [one for one in evidence.of("context") if isinstance(one.result, TextResult) and one.result.task == TEXT]
    readers = sorted(map(TrainedAlike, seeds_together(texts)), key=lambda reader: reader.steps)
    lstms = [reader for reader in readers if reader.model == LSTM]
    by_symbol = {symbol: [it for it in readers if it.first.symbol == symbol] for symbol in ("character", "word")}
    ladders = [row for row in edges(evidence.of("memory")) if row.model == LSTM and row.axis == "steps"]
    ngrams = _ngrams(evidence.tables)
    ladders.sort(key=lambda row: (row.problem, row.regime, row.initialisation))
    return Claim(
        "An LSTM's effective memory is about 200 to 300 steps.",
        "Khandelwal et al. 2018 (about 200 words, of a far larger model); texts since, often without saying of what",
        "the least number of characters before a target at which the perplexity a word is within 1% of that with all "
        "of them, and stays so, as in the source; zero state before them; interval by bootstrap over seeds and over "
        "blocks of text. A step is a word in the source and a character to this net, so the sentence is tested twice; "
        "a net that predicts the text no better than n-grams do is no test",
        _statement(lstms) if lstms else NOT_MEASURED,
        [
            reader.condition(
                *unit,
                ngrams if reader.first.symbol == "character" else None,
                {"width": str(reader.first.width)} if len({one.first.width for one in lstms}) > 1 else {},
            )
            for reader in lstms
            for unit in reader.units
        ],
        {
            **{
                f"{symbol.title()}s used, by the perplexity a word that may be lost:": [
                    reader.aside() for model in COMPARED for reader in alike if reader.model == model
                ]
                for symbol, alike in by_symbol.items()
                if alike or symbol == "character"
            },
            "The same cell on made-up problems, where the figure is a matter of how it starts and is taught:": [
                Aside(f"{row.problem}, {row.regime}, {row.initialisation}: {edge_text(row)}", row.folders)
                for row in ladders
            ],
            "Against published results:": [_published(lstms)] if lstms else [],
        },
    )


def _statement(lstms: Sequence[TrainedAlike]) -> str:
    """A sentence on the nets of each size that read characters, and one on those that read words."""
    groups: dict[tuple[str, int], list[TrainedAlike]] = {}
    for reader in sorted(lstms, key=lambda reader: reader.first.symbol):
        groups.setdefault((reader.first.symbol, reader.first.params), []).append(reader)
    return " ".join(map(_sentence, groups.values()))


def _sentence(lstms: Sequence[TrainedAlike]) -> str:
    contexts = [
        f"{' or '.join(reader.text(size, unit) for _, unit, size in reader.units)} after {reader.training} "
        f"({reader.quality})"
        for reader in lstms
    ]
    first = lstms[0].first
    words = "" if first.chars_per_word is None else f" ({first.length / first.chars_per_word:.0f} words)"
    return (
        f"An LSTM of {first.params:,} parameters, trained on windows of {first.length} {first.symbols}{words} of "
        f"{TEXT_TITLE}, gains no more than {SHARE:.0%} of its perplexity a word from what lies further back than "
        f"{'; '.join(contexts)}."
    )


def _ngrams(tables: Sequence[BoardTable]) -> float | None:
    """Bits a character of the n-gram model on this text as it is shipped; None if no table has it."""
    shipped = [table for table in tables if table.conditions.task == TEXT and table.conditions.source == "embedded"]
    read = [table.baselines for table in shipped if "unit" not in table.conditions.options]
    return min((named[NGRAMS].value for named in read if NGRAMS in named), default=None)


def _published(lstms: Sequence[TrainedAlike]) -> Aside:
    symbols = listed(sorted({reader.first.symbols for reader in lstms}))
    widths = listed([str(width) for width in sorted({reader.first.width for reader in lstms})])
    text = (
        "Khandelwal et al. 2018 find about 200 words. Their nets have three layers of 1,150 units, read words, and "
        f"were trained until they improved no more; these have {widths} units, read {symbols}, and were "
        f"trained for {max(reader.steps for reader in lstms):,} steps at most: what holds for one says little of the "
        "other."
    )
    return Aside(text, [folder for reader in lstms for folder in reader.folders])

"""`probe context`: how far back models that are trained on real data use their input.

For tasks of kind `generate` a measurement trains a model and scores characters of the test text after exactly k others,
read from zero state. The effective context is the least k from which on the loss stays within 1% of the least loss at
any k. What lies beyond a few k is also dropped, shuffled, or swapped for another passage (after Khandelwal et al. 2018,
who shuffled and dropped the words of a trained language model's context).

For other kinds with an option ``sequence_length`` a measurement trains on one length of the input, and at the longest
length also tests with everything farther than k from an anchor taken from another example.

The data is each task's embedded one; the model is one mixer layer in the bare backbone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import tyro
from tabulate import tabulate

from seqbench.baselines import BASELINES
from seqbench.config import RunConfig
from seqbench.data.splits import BLOCK, Rows, Segments, Split, Stream, TaskData, Truth, Windows
from seqbench.errors import NotApplicable, UserError
from seqbench.jobs.job import Listener
from seqbench.prepare import Prepared, prepare
from seqbench.probes import Measured, Probe, ProbeSpec, Request, register_probe
from seqbench.report.chart import DARK, GREY, Axis, Chart, Line, Look, Mark, Panel, Points, Rule, look_of
from seqbench.report.text import between, format_value, interval_text, listed, rounded, short
from seqbench.stats import Estimate, Interval, estimate
from seqbench.task import TASKS, TaskSpec, parse_options

if TYPE_CHECKING:
    from seqbench.experiment import Experiment
    from seqbench.models.backbone import SequenceModel

__all__ = ["TOLERANCES", "Changed", "ContextOptions", "InputsResult", "Mask", "Summed", "TextResult"]

Array = npt.NDArray[Any]
TOLERANCES = (0.005, 0.01, 0.02)  # of the loss, for the effective context


@dataclass(frozen=True)
class ContextOptions:
    """Options of `probe context`; None stands for what the budget says."""

    task: str | None = None
    """Task whose models are measured, several with commas; by default every task of kind generate."""
    sequence_length: Annotated[int | None, tyro.conf.arg(metavar="T")] = None
    """generate: characters of a training window; by default 512 (smoke: 64)."""
    targets: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """generate: least number of characters of the test text that are scored; by default 5,000 (smoke: 200)."""
    longest: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """generate: most characters read before each; by default 2,048 (smoke: 128)."""
    perturb: bool | None = None
    """generate: also shuffle or replace what lies beyond some distances; by default yes (smoke: no)."""
    lengths: Annotated[str | None, tyro.conf.arg(metavar="T[,T...]")] = None
    """Other kinds: input lengths, each trained for; by default shares and multiples of the task's that it allows."""
    anchor: Literal["end", "centre"] | None = None
    """Other kinds: from where distance is counted; by default the end (forecast) or the centre (else)."""
    hidden: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Width of the one mixer layer; by default 128 (smoke: 32)."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Optimiser steps; by default the task's (smoke: 20; quick on text: twice as many, of fewer characters)."""
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Peak learning rate; by default the task's."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; what a task allows is asked of the task."""
        ranges = {"targets": (2, 10_000_000), "longest": (1, 32_767), "hidden": (1, 65_536), "steps": (1, 10_000_000)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UserError(f"--{name} {value} is out of range: take {least} to {most:,}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UserError(f"--learning-rate {self.learning_rate} is out of range: take a number above 0.")
        if self.lengths is not None and not all(word.strip().isdecimal() for word in self.lengths.split(",")):
            raise UserError(f"--lengths {self.lengths} is not a list of lengths: write it like 24,48,72.")


@dataclass(frozen=True)
class Summed:
    """Nats of the targets of each of G blocks of text, summed: ``sums`` (G,), and how many they are: ``counts`` (G,)."""

    sums: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True)
class Changed:
    """The same for each of P permutations: ``sums`` (P, G) and ``counts`` (G,)."""

    sums: Sequence[Sequence[float]]
    counts: Sequence[int]


@dataclass(frozen=True)
class TextResult:
    """What one model made of a text. Losses are in nats, with six significant digits.

    Attributes:
        length: T, characters of a training window.
        ks: (K,) numbers of characters after which targets are scored.
        blocks: G, into how many stretches the text is cut.
        counts, sums: (G,) targets of each block, and (G, K) their losses after exactly k characters, summed.
        carried: the same with a state that is carried over the text; None for a model whose state grows.
        limit: T for a model whose state grows, which is read at most at T characters; None for others.
        chars_per_word: of the whole test text; None where it has no spaces.
        perturbed: by kind of change and k: losses with what lies beyond k changed, "intact" at the whole window.
        metric, unit, test: the task's primary metric, its unit, and its value on the test text.
        params, width: of the model.
    """

    task: str
    kind: str
    what: Literal["text"]
    length: int
    ks: Sequence[int]
    blocks: int
    counts: Sequence[int]
    sums: Sequence[Sequence[float]]
    carried: Summed | None
    limit: int | None
    chars_per_word: float | None
    perturbed: Mapping[str, Mapping[str, Changed]] | None
    metric: str
    unit: str
    test: float
    params: int
    width: int


@dataclass(frozen=True)
class Mask:
    """The metric with inputs farther than ``k`` swapped: once for each permutation, and without each test group."""

    k: int
    values: Sequence[float]
    left_out: Sequence[float]


@dataclass(frozen=True)
class InputsResult:
    """What one model made of inputs of one length.

    Attributes:
        length: T, steps of the input.
        metric, unit, direction: the task's primary metric.
        value, left_out: its value on the test split, and without each test group.
        reference, reference_value: the task's reference baseline, and its value.
        examples, common: how many are scored, and whether they are those that the longest length has, too.
        anchor: end or centre, from where distance is counted.
        masks, masks_why: at the longest length: with far inputs swapped, or why there is nothing to swap; else None.
        params, width: of the model.
    """

    task: str
    kind: str
    what: Literal["inputs"]
    length: int
    metric: str
    unit: str
    direction: str
    value: float
    left_out: Sequence[float]
    reference: str
    reference_value: float
    examples: int
    common: bool
    anchor: str
    masks: Sequence[Mask] | None
    masks_why: str | None
    params: int
    width: int


Result = TextResult | InputsResult

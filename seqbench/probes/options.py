"""What a user may ask of each probe, as frozen dataclasses: the command line is made of them. No torch.

None stands for what the budget says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from seqbench.config import Count, Widths
from seqbench.errors import UserError

__all__ = ["ContextOptions", "CostOptions", "ParallelOptions"]


@dataclass(frozen=True)
class CostOptions:
    """Options of `probe cost`."""

    backend: Literal["kernel", "loop"] | None = None
    """The model's own forward, or its step form in a Python loop; by default both."""
    track: Literal["width", "params"] | None = None
    """Compare at equal width or at equal parameters; by default both (the loop at equal width only)."""
    hidden: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Width, at equal parameters the reference's; by default 128 (smoke: 32)."""
    longest: Annotated[int | None, tyro.conf.arg(metavar="T")] = None
    """Steps of the longest sequences; by default 64, 2048 or 4096, by budget; the loop stops at 256."""
    tokens: Count = None
    """Most tokens of a batch, batch size times length; by default 512, 32,768 or 262,144, by budget."""
    repeats: Annotated[int | None, tyro.conf.arg(metavar="R")] = None
    """How often everything is timed, in a new order; by default 3, 7 or 10, by budget."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Model that the others are divided by; by default the recurrent one with the fewest parameters at equal width."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the machine later."""
        _check_timing(self.hidden, self.repeats)
        if self.tokens is not None and not 1 <= self.tokens <= 10**9:
            raise UserError(f"--tokens {self.tokens} is out of range: take 1 to 1,000,000,000.")


@dataclass(frozen=True)
class ParallelOptions:
    """Options of `probe parallel`."""

    hidden: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Width; by default 128 (smoke: 32)."""
    tokens: Widths = None
    """Tokens of a batch, which stay the same while the length grows, two or more with commas, so that serial time and
    the square of the length can be told apart; by default 256,512 or 2048,8192 or 32768,131072, by budget."""
    longest: Annotated[int | None, tyro.conf.arg(metavar="T")] = None
    """Steps of the longest sequences; by default 128, 1024 or 4096, by budget."""
    repeats: Annotated[int | None, tyro.conf.arg(metavar="R")] = None
    """How often everything is timed, in a new order; by default 3, 11 or 11, by budget."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the machine later."""
        _check_timing(self.hidden, self.repeats)
        for tokens in self.tokens if self.tokens is not None else (1,):
            if not 1 <= tokens <= 10**9:
                raise UserError(f"--tokens {tokens} is out of range: take 1 to 1,000,000,000.")


@dataclass(frozen=True)
class ContextOptions:
    """Options of `probe context`."""

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
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise UserError(f"--learning-rate {self.learning_rate} is out of range: take a number above 0.")
        if self.lengths is not None and not all(word.strip().isdecimal() for word in self.lengths.split(",")):
            raise UserError(f"--lengths {self.lengths} is not a list of lengths: write it like 24,48,72.")


def _check_timing(hidden: int | None, repeats: int | None) -> None:
    """What the probes that read a clock have in common."""
    if hidden is not None and not 1 <= hidden <= 65_536:
        raise UserError(f"--hidden {hidden} is out of range: take 1 to 65536.")
    if repeats is not None and not 2 <= repeats <= 100:
        raise UserError(f"--repeats {repeats} is out of range: take 2 to 100, as one alone has no interval.")

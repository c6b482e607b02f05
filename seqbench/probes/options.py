"""What a user may ask of each probe, as frozen dataclasses: the command line is made of them. No torch.

None stands for what the budget says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from seqbench.errors import UserError

__all__ = ["ContextOptions"]


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

"""How cases of probes are run, whatever they measure. No torch: the command line is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seqbench.errors import UserError

__all__ = ["ProbeRun"]


@dataclass(frozen=True)
class ProbeRun:
    """How the cases of a probe are run and where their records go."""

    out: Path = Path("results/local")
    """Directory of the records."""
    jobs: int = 1
    """Cases that run at once, each in a process of its own; with 1 they run here. What reads a clock runs alone."""
    time_limit: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Seconds after which a case in a process of its own (--jobs 2 or more) is ended; by default by budget: 10 minutes,
    2 hours, a day."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure again even if there is a stored record; the old one stays beside the new one."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the cases, and measure none."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to draw the result (.png or .svg); by default probes/NAME.png under --out."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        if not 1 <= self.jobs <= 1_000:
            raise UserError(f"--jobs {self.jobs} is out of range: take 1 to 1000.")
        if self.time_limit is not None and not 0 < self.time_limit < float("inf"):
            raise UserError(f"--time-limit {self.time_limit:g} is out of range: take a number of seconds above 0.")
        if self.time_limit is not None and self.jobs == 1:
            raise UserError("--time-limit ends processes, and --jobs 1 starts none: give --jobs 2 as well.")
        if self.plot is not None and self.plot.suffix not in (".png", ".svg"):
            raise UserError(f"--plot {self.plot}: the file's name must end in .png or .svg.")

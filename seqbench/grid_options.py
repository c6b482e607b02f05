"""What `run` is told about many cells. No torch: the command line is made from it."""

from __future__ import annotations

import dataclasses

from seqbench.config import RunConfig
from seqbench.errors import UserError

__all__ = ["GridOptions", "is_grid"]


@dataclasses.dataclass(frozen=True)
class GridOptions:
    """How many cells, and how they are run."""

    seeds: int = 1
    """Number of seeds, counted from --seed."""
    jobs: int = 1
    """Cells that run at once, each in a process of its own."""
    time_limit: float | None = None
    """Seconds after which a cell is ended; by default by budget: 10 minutes, 2 hours, a day, a week."""
    tune_learning_rate: bool = False
    """Try each model at .001, .003 and .01 with seed 0, and go on with the best on validation."""
    dry_run: bool = False
    """Show the cells and how long they would take, and run none."""

    def __post_init__(self) -> None:
        """Refuse what no grid could use."""
        if not 1 <= self.seeds <= 10_000:
            raise UserError(f"--seeds {self.seeds} is out of range: take 1 to 10000.")
        if not 1 <= self.jobs <= 1_000:
            raise UserError(f"--jobs {self.jobs} is out of range: take 1 to 1000.")
        if self.time_limit is not None and not 0 < self.time_limit < float("inf"):
            raise UserError(f"--time-limit {self.time_limit:g} is out of range: take a number of seconds above 0.")


def is_grid(config: RunConfig, options: GridOptions) -> bool:
    """Whether this is more than one cell run here and now."""
    several = any(name == "all" or "," in name for name in (config.task, config.model))
    return several or dataclasses.replace(options, jobs=1) != GridOptions()

"""The commands that measure limits, as dataclasses; see `seqbench.cli_commands`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seqbench.cli_commands import Plugins
from seqbench.errors import UserError
from seqbench.probe_options import ProbeRun
from seqbench.probes import Request
from seqbench.probes.options import ContextOptions, CostOptions, GradientOptions, MemoryOptions, ParallelOptions

__all__ = ["PROBES", "Claims", "Probe"]

BOARD = Path("results/board")


@dataclass(frozen=True)
class _Probe:
    """What the commands of all probes share."""

    request: Annotated[Request, tyro.conf.arg(name="")] = field(default_factory=Request)
    run: Annotated[ProbeRun, tyro.conf.arg(name="")] = field(default_factory=ProbeRun)
    plugin: Plugins = ()
    """A Python file that registers a model."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __call__(self) -> int:
        """Measure; 1 if a case failed."""
        from seqbench.probe_command import run_probe

        name = type(self).__name__.lower()
        options = getattr(self, "options")  # noqa: B009 - each command adds its own
        return run_probe(name, self.request, options, self.run, self.plugin)


def _command(name: str, options: type[Any], about: str) -> Callable[..., Any]:
    """The command of one probe: the shared fields and its own options."""
    own = ("options", Annotated[options, tyro.conf.arg(name="")], field(default_factory=options))
    made = dataclasses.make_dataclass(name.capitalize(), [own], bases=(_Probe,), frozen=True)
    made.__doc__ = about
    return made


PROBES: dict[str, Callable[..., Any]] = {
    "memory": _command(
        "memory", MemoryOptions, "How far back a model can learn to look, and can hold what it has seen."
    ),
    "gradient": _command("gradient", GradientOptions, "How gradients shrink or grow with distance."),
    "cost": _command("cost", CostOptions, "Parameters, FLOPs, milliseconds and memory, side by side."),
    "parallel": _command("parallel", ParallelOptions, "What of a step is serial, and the batch that hides it."),
    "context": _command("context", ContextOptions, "How much of its real input a trained model uses."),
}


@dataclass(frozen=True)
class Probe:
    """Measure one limit of models: `probe memory`, `gradient`, `cost`, `parallel` or `context`."""

    which: tyro.conf.Positional[Literal["memory", "gradient", "cost", "parallel", "context"]]
    """Which limit; each has options of its own."""
    plugin: Plugins = ()
    """A Python file that registers a model."""

    def __call__(self) -> int:
        """Never reached: `seqbench.cli.parse` goes to the probe's own command."""
        raise AssertionError(self.which)


@dataclass(frozen=True)
class Claims:
    """Measure what textbooks say of recurrent networks, and write the ledger: CLAIMS.md, claims.json, plots."""

    budget: Literal["smoke", "quick", "standard"] = "quick"
    """How thorough: seconds, two and a half hours of two CPU cores, or as the protocol has it on a GPU."""
    out: Path = Path("results/local")
    """Directory of the records; the ledger goes there, too."""
    board: Path = BOARD
    """Directory of task records, from which skills are compared."""
    jobs: int = 2
    """Cases that run at once, each in a process of its own; what reads a clock runs alone."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to measure on."""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure nothing: write the ledger from the records that are there."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the cases, and run none."""
    plugin: Plugins = ()
    """A Python file to load first; the claims are about models of texts, and leave others out."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show tracebacks."""

    def __post_init__(self) -> None:
        """Refuse what no ledger could use."""
        if not 1 <= self.jobs <= 1_000:
            raise UserError(f"--jobs {self.jobs} is out of range: take 1 to 1000.")
        if self.board != BOARD and not self.board.is_dir():
            raise UserError(f"--board {self.board}: no such directory of task records.")

    def __call__(self) -> int:
        """Measure and write; 1 if a case failed."""
        from seqbench.claims_command import run_claims

        return run_claims(
            self.budget, self.out, self.board, self.jobs, self.device, self.plugin,
            report=self.report, dry_run=self.dry_run,
        )  # fmt: skip

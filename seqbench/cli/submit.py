"""`submit`: records in one file, with what verifies them, for somebody else's board."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from seqbench.cli.common import FLAT, Common, show_json, speaker
from seqbench.options import OUTPUT, Parameter
from seqbench.report.terminal import print_path
from seqbench.report.text import counted

__all__ = ["COMMAND", "Submit"]


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Pack records into one file that others can add to their board; every figure is verified, here and there."""

    records: tuple[Path, ...] = field(kw_only=False)
    """Directories of records, or single records."""
    out: Annotated[Path, Parameter(group=OUTPUT, metavar="FILE")] = Path("bundle.zip")
    """File to write, a .zip; it is what the rows are called by."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    def __call__(self) -> int:
        """Write it, and say what to do with it."""
        from seqbench.board.bundle import pack

        count = pack(self.records, self.out, speaker("submit"))
        if self.common.json:
            show_json({"out": self.out, "records": count})
        else:
            print_path(f"{counted(count, 'record')}, verified: ", self.out)
            print_path("see it on a board: ", f"python run_bench.py leaderboard results/board {self.out}")
        return 0


COMMAND = Submit

"""`check FILE.py`: does a model, a task or a probe of one's own keep the rules?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from seqbench.cli.common import FLAT, Common, show_json
from seqbench.options import TimeLimit, check_options
from seqbench.report.terminal import print_table, print_text
from seqbench.report.text import counted, listed

if TYPE_CHECKING:  # --help answers before it is imported
    from seqbench.checks import Finding

__all__ = ["COMMAND", "CheckFile"]


@dataclass(frozen=True, kw_only=True)
class CheckFile:
    """Hold a model, a task or a probe of your own to the rules, and say in plain words what is wrong."""

    file: Path = field(kw_only=False)
    """The Python file that registers it."""
    time_limit: TimeLimit = 120.0
    """Seconds after which a check is ended, and has failed."""
    common: Annotated[Common, FLAT] = field(default_factory=Common)

    loads_plugins = False  # the process that checks loads them

    def __post_init__(self) -> None:
        """Refuse what no check could use."""
        check_options(self)

    def __call__(self) -> int:
        """Print what every check found; 1 if one failed."""
        from seqbench.checks.running import check_file

        found = check_file(self.file, limit=self.time_limit or 120.0, plugins=self.common.plugin)
        failed = [finding for finding in found if finding.outcome == "failed"]
        if self.common.json:
            checks = [dataclasses.asdict(finding) for finding in found]
            show_json({"file": self.file, "failed": len(failed), "checks": checks})
        else:
            for kind, name in dict.fromkeys((finding.kind, finding.name) for finding in found):
                _show(f"{kind} {name}", [one for one in found if (one.kind, one.name) == (kind, name)])
        return 1 if failed else 0


COMMAND = CheckFile


def _show(title: str, found: Sequence[Finding]) -> None:
    """One thing: a row for each check, the rule and what was found of it; then what failed, once more."""
    print_text(f"{title}\n")
    rows = [[one.check, one.outcome, one.holds, one.found] for one in found]
    print_table(["check", "outcome", "rule", "found"], rows)
    failed = [one.check for one in found if one.outcome == "failed"]
    skipped = sum(one.outcome == "skipped" for one in found)
    end = f"{counted(len(failed), 'check')} failed: {listed(failed)}" if failed else "no check failed"
    print_text(f"\n{title}: {end}; {len(found) - len(failed) - skipped} ok, {skipped} skipped.\n")

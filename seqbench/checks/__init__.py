"""Checks: what a model, a task or a probe must keep, each in plain words, run over whatever a file registers.

A check is a function of its subject that returns what it found, or raises `Broken` (what was found, and what to do) or
`NotChecked` (why there is nothing to hold). Those of one kind of thing stand in one module, called after the kind, in
the order in which they run; the project's own tests run the same ones over everything that is built in. `running` runs
them over a user's file, in a process of its own.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqbench.errors import NotApplicable, UserError

__all__ = ["CHECKED", "Broken", "Check", "Finding", "NotChecked", "checks_of", "findings", "register_check"]

CHECKED = ("model", "task", "probe")  # kinds of things that there are checks for, each in a module of this package
FAILURES = (Exception, SystemExit, GeneratorExit)  # what an author's own code may end a check with

Outcome = Literal["ok", "failed", "skipped"]


class Broken(Exception):
    """What was found against the rule, with figures, and what to do."""


class NotChecked(Exception):
    """Why a check has nothing to hold here."""


@dataclass(frozen=True)
class Check:
    """One rule.

    Attributes:
        name: a word or two.
        holds: the rule in a sentence.
        run: from the subject to what was found; raises `Broken` or `NotChecked`.
        first: whether the others have no sense when it fails.
    """

    name: str
    holds: str
    run: Callable[[Any], str]
    first: bool = False


@dataclass(frozen=True)
class Finding:
    """What came of a check.

    Attributes:
        kind, name: of the subject, as "model" and "running-mean".
        check, holds: its name and its rule.
        outcome: ok, failed or skipped.
        found: what was found; of a failure with figures and what to do; of what was skipped the reason.
        seconds: that it took.
    """

    kind: str
    name: str
    check: str
    holds: str
    outcome: Outcome
    found: str
    seconds: float = 0.0


_checks: dict[str, list[Check]] = {kind: [] for kind in CHECKED}


def register_check(
    kind: str, name: str, holds: str, *, first: bool = False
) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
    """The decorated function of a subject of ``kind`` becomes the check ``name`` of the rule ``holds``."""

    def decorate(run: Callable[[Any], str]) -> Callable[[Any], str]:
        _checks[kind].append(Check(name, holds, run, first))
        return run

    return decorate


def checks_of(kind: str) -> Sequence[Check]:
    """All checks of a ``kind`` of thing, in the order in which they run."""
    importlib.import_module(f"{__name__}.{kind}s")
    return tuple(_checks[kind])


def findings(
    kind: str, name: str, begin: Callable[[Check], None] = lambda check: None, *, only: Sequence[str] = ()
) -> Iterator[Finding]:
    """Run the checks over what is registered as ``name``; ``begin`` hears of each before it starts.

    Args:
        only: names of checks; by default all.
    """
    lacking = ""
    with importlib.import_module(f"{__name__}.{kind}s").Subject(name) as subject:
        for check in checks_of(kind):
            if only and check.name not in only and not check.first:
                continue
            if lacking:
                yield Finding(kind, name, check.name, check.holds, "skipped", f"the check of {lacking} failed")
                continue
            begin(check)
            clock = time.perf_counter()
            outcome, found = _outcome(check, subject)
            yield Finding(kind, name, check.name, check.holds, outcome, found, round(time.perf_counter() - clock, 3))
            if outcome == "failed" and check.first:
                lacking = check.name


def _outcome(check: Check, subject: Any) -> tuple[Outcome, str]:
    """Whatever the author's code does, short of ending the process, is an outcome."""
    try:
        return "ok", check.run(subject)
    except (NotChecked, NotApplicable) as reason:
        return "skipped", str(reason)
    except (Broken, UserError) as error:
        return "failed", str(error)
    except FAILURES as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return (
            "failed",
            f"it ends with {type(error).__name__}: {first} ({Path(where.filename).name}, line {where.lineno})",
        )

"""Running the checks over a user's file, in a process of its own, so that whatever the file does there is a sentence.

The process is one of the pool's: it loads the file, says what it registers, and tells of each check before it starts
and when it has ended. One that dies, or takes longer than the limit, has failed the check that it was at; what the same
thing has left to check is skipped, and a new process goes on with what the file registers next.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqbench.checks import CHECKED, Check, Finding, checks_of, findings
from seqbench.errors import UserError
from seqbench.jobs.job import Job, Listener
from seqbench.jobs.pool import Event, LocalProcesses
from seqbench.jobs.store import Store
from seqbench.registry import load_plugin, registered_by

__all__ = ["CheckSpec", "check_file", "run_spec"]

LOADING = 60.0  # seconds that a file may take to load, at least: it may import a lot, on a machine with much to do


@dataclass(frozen=True)
class CheckSpec:
    """What one process checks: what ``file`` registers, but for what is ``done``, as ``("model", "leaky")``."""

    file: str
    done: tuple[tuple[str, str], ...] = ()
    budget: str = "smoke"
    seed: int = 0
    threads: int = 1

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        return f"check {Path(self.file).name}"

    @property
    def alike(self) -> tuple[str, ...]:
        """No other takes as long."""
        return (self.name,)

    @property
    def place(self) -> tuple[str, ...]:
        """It leaves no record."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def run_spec(spec: Mapping[str, Any], store: Store, *, force: bool, listener: Listener) -> None:
    """In the process: load the file, and tell of its checks as they go; see `jobs.job.Job`."""
    load_plugin(spec["file"])
    done = {tuple(pair) for pair in spec["done"]}
    registered = [(registry.noun, name) for registry, name in registered_by(spec["file"])]
    known = [pair for pair in registered if pair[0] in CHECKED]
    if not known:
        names = " and ".join(f"{noun} {name}" for noun, name in registered)
        raise UserError(
            f"--plugin {spec['file']} registers {names}, and there are checks for models, tasks and probes only: "
            "check the task that names it."
        )
    for kind in dict(known):
        checks_of(kind)  # imports what they need, which is no check's time
    listener.say(json.dumps({"what": "loaded", "known": known}))
    for kind, name in known:
        if (kind, name) in done:
            continue

        def begin(check: Check, kind: str = kind, name: str = name) -> None:
            listener.say(json.dumps({"what": "begin", "kind": kind, "name": name, "check": check.name}))

        for finding in findings(kind, name, begin):
            listener.say(json.dumps({"what": "found", **dataclasses.asdict(finding)}))


@dataclass
class _Heard:
    """What a process has told."""

    loaded: bool = False
    known: list[tuple[str, str]] = field(default_factory=list)  # kind and name of all that is to be checked
    at: tuple[str, str, str] | None = None  # kind and name of the thing, and the check that has begun
    since: float = field(default_factory=time.monotonic)
    found: list[Finding] = field(default_factory=list)
    refused: str = ""

    def is_late(self, limit: float) -> bool:
        """Whether the file, or the check that it is at, takes longer than it may."""
        return time.monotonic() - self.since > (limit if self.loaded else max(limit, LOADING))

    def take(self, event: Event) -> None:
        """One event, but for the last."""
        if event.kind == "refused":
            self.refused = str(event.values[0])
        if event.kind != "say":
            return
        self.since = time.monotonic()
        told = json.loads(event.values[0])
        what = told.pop("what")
        if what == "loaded":
            self.loaded, self.known = True, [(kind, name) for kind, name in told["known"]]
        elif what == "begin":
            self.at = told["kind"], told["name"], told["check"]
        else:
            self.at = None
            self.found.append(Finding(**told))


def check_file(file: Path, *, limit: float, plugins: Sequence[Path] = ()) -> list[Finding]:
    """Hold what ``file`` registers to the rules.

    Args:
        file: a Python file of the user's.
        limit: seconds after which a check is ended.
        plugins: files that are loaded first.

    Raises:
        UserError: the file can't be loaded, or registers nothing that there are checks for.
    """
    found: list[Finding] = []
    while True:
        done = tuple(dict.fromkeys((finding.kind, finding.name) for finding in found))
        heard, end = _run(Job(__name__, CheckSpec(str(file), done), f"check-{len(done)}"), limit, plugins)
        found += heard.found
        if heard.refused:
            raise UserError(heard.refused.removeprefix("--plugin "))
        if not heard.loaded and not done:
            raise UserError(f"{file} can't be loaded: {end or 'its process ended without a word'}.")
        if not end:
            return found
        if heard.at is None:  # between two checks, or while it was loaded once more
            raise UserError(f"{file} can't be checked: {end}.")
        found += _ended(*heard.at, end)
        if not {*heard.known} - {(finding.kind, finding.name) for finding in found}:
            return found


def _run(job: Job, limit: float, plugins: Sequence[Path]) -> tuple[_Heard, str]:
    """What a process tells, and how it ended where that was before it had told all."""
    executor, heard, late = LocalProcesses(1), _Heard(), False
    message = {
        "kind": job.kind,
        "spec": job.spec.to_json(),
        "out": "",
        "plugins": [str(path.resolve()) for path in plugins],
        "force": False,
    }
    try:
        executor.start(job, json.dumps(message))
        while True:
            event = executor.wait(0.2)
            if event is None:
                if not late and heard.is_late(limit):
                    late = True
                    executor.stop(job)
            elif event.kind == "ended":
                seconds = time.monotonic() - heard.since
                code, tail = event.values
                return heard, f"it was ended after {seconds:.0f} s" if late else _why(code, tail, heard)
            else:
                heard.take(event)
    finally:
        executor.close()


def _why(code: int, tail: str, heard: _Heard) -> str:
    """How a process ended; nothing if it did all that it was to do."""
    if (code == 0 and heard.loaded and heard.at is None) or heard.refused:
        return ""
    last = (tail.strip().splitlines() or ["it wrote nothing"])[-1].strip()
    if code < 0:
        names = {int(one): one.name for one in signal.Signals}
        return f"its process was ended by {names.get(-code, -code)} ({last})"
    return f"its process ended with exit code {code} ({last})"


def _ended(kind: str, name: str, at: str, end: str) -> list[Finding]:
    """The check ``at`` which a process ended, and those after it."""
    checks = list(checks_of(kind))
    place = [check.name for check in checks].index(at)
    failed, *others = checks[place:]
    advice = "call forward in a Python of your own to see where" if kind == "model" else "run it by itself to see where"
    return [
        Finding(kind, name, failed.name, failed.holds, "failed", f"{end}: {advice}."),
        *(
            Finding(kind, name, one.name, one.holds, "skipped", f"the check of {at} ended the process")
            for one in others
        ),
    ]

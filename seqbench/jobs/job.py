"""A job: one thing to compute, wholly resolved, under a key of all that decides its result; and who hears how it goes.

Every command that computes something makes jobs of it: a model trained on a task, a probe of a model. What a job
computes is its spec's business; running, storing, resuming and showing are the same for all (`pool`, `store`,
`progress`).
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from seqbench.errors import Diverged, NotApplicable

if TYPE_CHECKING:  # pydantic, which --help does not need
    from seqbench.jobs.record import Record, Status

__all__ = ["FAILURES", "Job", "Listener", "Outcome", "Spec", "status_of"]


# What a user's own code may end a run with. A plug-in that calls sys.exit fails like any other; Ctrl-C is no failure.
FAILURES = (Exception, SystemExit, GeneratorExit)


class Spec(Protocol):
    """What a job computes: a frozen dataclass that `to_json` turns into what JSON can hold."""

    @property
    def name(self) -> str:
        """What a reader tells it by."""

    @property
    def alike(self) -> tuple[str, ...]:
        """What it shares with jobs that take about as long, the most general first."""

    @property
    def place(self) -> tuple[str, ...]:
        """The folders below the store's root under which its runs lie."""

    @property
    def budget(self) -> str:
        """How thorough: smoke, quick, standard or full."""

    @property
    def seed(self) -> int:
        """Of all that is random."""

    @property
    def threads(self) -> int:
        """CPU threads that it uses."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, from which another process makes it again."""


@dataclass(frozen=True)
class Job:
    """One thing to compute.

    Attributes:
        kind: name of the module that runs such jobs, by its ``run_spec(spec, store, force=..., listener=...)``.
        spec: what it computes.
        key: SHA-256 of all that decides the result: the spec, the data, the code of plug-ins.
        files: files of the user's own, which another machine has not: fields of the spec, and the paths there.
        cached: folders of the cache that it reads, or will once they are there.
    """

    kind: str
    spec: Spec
    key: str
    files: tuple[tuple[str, str], ...] = ()
    cached: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A job with its record, the folder that this lies in, and whether it was there before."""

    job: Job
    record: Record
    folder: Path
    stored: bool = False


class Listener:
    """Hears how jobs go on. This one takes no notice; `progress.Terminal` shows it to a user."""

    def say(self, line: str) -> None:
        """A line of text."""

    def begin(self, steps: int, done: int = 0) -> None:
        """A job begins its ``steps`` steps, of which an earlier run of it has ``done`` some."""

    def step(self, step: int, loss: float = 0.0) -> None:
        """A job has done ``step`` of them."""

    def phase(self, name: str) -> None:
        """A job has done its steps and goes on with what ``name`` says."""

    def planned(self, jobs: Sequence[Job], stored: Sequence[Outcome]) -> None:
        """``jobs`` are to run; ``stored`` have their records."""

    def started(self, job: Job) -> Listener:
        """``job`` is running; what is returned hears of it alone."""
        return self

    def ended(self, outcome: Outcome) -> None:
        """A job has its record."""


def status_of(error: BaseException) -> tuple[Status, str]:
    """Status and reason of a job that ended with ``error``."""
    text = _encodable(str(error))
    first_line = (text.strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, NotApplicable):
        return "not_applicable", text
    if isinstance(error, Diverged):
        return "diverged", text
    if _out_of_memory(error):
        return "oom", first_line
    where = traceback.extract_tb(error.__traceback__)[-1]
    return "error", f"{type(error).__name__}: {first_line} ({Path(where.filename).name}, line {where.lineno})"


def _encodable(text: str) -> str:
    """``text`` as a file can hold it: half a surrogate, which a name on the disk may contain, becomes an escape."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _out_of_memory(error: BaseException) -> bool:
    """Memory ran out, on whichever device; the CPU allocator, cuDNN and cuBLAS have no class of their own for it."""
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")
    # torch's class by its name: reading records must not import torch
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & names) or any(sign in str(error) for sign in signs)

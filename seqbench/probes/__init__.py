"""Probes: measurements of a model without a task's figure of merit. No torch here.

A probe is a module of this package that ends in ``PROBE = ...``. It plans cases from what the user asked for, and
measures one case at a time; how cases are run, stored, resumed and reported is the same for all of them.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import tyro

from seqbench.errors import UserError, nearest

__all__ = ["NAMES", "Case", "Found", "Probe", "Request", "Told", "get_probe"]

NAMES = ("memory", "gradient", "cost", "parallel", "context")
Json = Any  # what JSON can hold: None, bool, int, float (finite), str, lists and dicts with string keys of those


@dataclass(frozen=True)
class Request:
    """What every probe is asked: of which models, how thoroughly, on what."""

    model: str = "all"
    """Model to measure, several with commas, or all: see `list models`."""
    budget: Literal["smoke", "quick", "standard"] = "quick"
    """How thorough: seconds, minutes on a CPU, or as the protocol has it on a GPU."""
    seed: int = 0
    """First seed; it decides initialisation and data."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of seeds; by default the budget's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to measure on."""
    threads: int = 1
    """CPU threads."""

    @property
    def precision(self) -> str:
        """Probes measure in single precision, or in double where they say so."""
        return "fp32"

    def __post_init__(self) -> None:
        """Refuse what no probe could use."""
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed} is out of range: take a whole number from 0 to 4294967295.")
        if self.seeds is not None and not 1 <= self.seeds <= 1_000:
            raise UserError(f"--seeds {self.seeds} is out of range: take 1 to 1000.")
        if not 1 <= self.threads <= 1_024:
            raise UserError(f"--threads {self.threads} is out of range: take 1 to 1024.")

    def all_seeds(self, usual: int) -> range:
        """The seeds to run where the budget says ``usual`` many."""
        return range(self.seed, self.seed + (usual if self.seeds is None else self.seeds))


@dataclass(frozen=True)
class Case:
    """One cell of a probe, wholly resolved: the unit that is run, stored under a key of its content, and resumed.

    Attributes:
        probe: name of the probe.
        models: names of the models; more than one where they are timed side by side.
        seed: decides initialisation and data.
        budget: smoke, quick or standard.
        device: device type.
        threads: CPU threads.
        options: all else that decides the result, as JSON holds it (lists, no tuples).
    """

    probe: str
    models: tuple[str, ...]
    seed: int
    budget: str
    device: str
    threads: int
    options: Mapping[str, Json]

    @property
    def name(self) -> str:
        """What a reader tells it by."""
        models = ", ".join(self.models) if len(self.models) < 3 else f"{len(self.models)} models"
        about = " ".join(str(value) for value in self.options.values() if isinstance(value, str))
        return f"{self.probe} {models} {about} seed {self.seed}"

    @property
    def precision(self) -> str:
        """As `Request` has it."""
        return "fp32"

    def to_json(self) -> dict[str, Json]:
        """As a JSON object."""
        return {**dataclasses.asdict(self), "models": list(self.models)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Json]) -> Case:
        """The reverse of `to_json`."""
        return cls(**{**raw, "models": tuple(raw["models"])})


@dataclass(frozen=True)
class Found:
    """A measured case: its result, and the folder of its record."""

    case: Case
    result: Mapping[str, Json]
    folder: Path


class Told(Protocol):
    """Who hears of a long measurement (`seqbench.experiment.Listener` is one)."""

    @property
    def say(self) -> Callable[[str], None]:
        """A line of text."""

    @property
    def begin(self) -> Callable[[int], None]:
        """The number of steps, when they start."""

    @property
    def report(self) -> Callable[[int, float], None]:
        """A step, and its loss or 0."""


class Probe(Protocol):
    """What a module of this package offers as ``PROBE``.

    Attributes:
        name: the module's.
        version: changes when results of the same case would.
        options: a frozen dataclass of what the user may ask for beyond `Request`, from `seqbench.probes.options`.
        timed: whether a case must have the machine to itself, because it reads a clock.
    """

    name: str
    version: int
    options: type[Any]
    timed: bool

    def cases(self, request: Request, options: Any, models: Sequence[str], device: str) -> list[Case]:
        """All cases for ``models`` on a device type, in the order to run them; seeds outermost where there are any.

        Raises:
            UserError: what is asked for can't be measured (a length of 0, say, or one that no memory holds, with the
                largest that fits); before anything is run.
        """

    def measure(self, case: Case, told: Told) -> dict[str, Json]:
        """Measure one case and return what JSON can hold.

        Called with torch's threads set and its generators seeded (`device.settings`). Deterministic on a CPU unless
        `timed`.

        Raises:
            NotApplicable: the model can't honestly be measured so; the record says why.
        """

    def headline(self, case: Case, result: Mapping[str, Json]) -> str:
        """The result in a few words, for a line of progress."""

    def table(self, found: Sequence[Found]) -> str:
        """What a reader sees at the end: a table of ``found``, seeds together, and what to make of it; plain text."""

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """Draw ``found``, all models in one picture, to ``path`` (.png or .svg)."""


def get_probe(name: str) -> Probe:
    """The probe called ``name``; an unknown name is answered with the nearest."""
    if name not in NAMES:
        raise UserError(nearest(name, NAMES, "probe"))
    probe: Probe = importlib.import_module(f"seqbench.probes.{name}").PROBE
    return probe

"""Probes: measurements of models without a task's figure of merit.

A probe is one file: what it plans, how it measures, the table and the chart. It registers a subclass of `Probe`; how
its measurements are run, stored, resumed and shown is the same for all of them (`measuring`). Built-in ones are found
by listing this package, a user's own comes in by ``--plugin``. A probe's file imports torch inside what measures, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from seqbench.jobs import probe_place
from seqbench.jobs.job import Listener
from seqbench.options import MACHINE, MODEL, WHAT, Device, Parameter, Range, Width, check_options
from seqbench.registry import Registry
from seqbench.report.chart import Chart

__all__ = [
    "PROBES",
    "Measured",
    "NetOptions",
    "NoProbeOptions",
    "Probe",
    "ProbeSpec",
    "Request",
    "SeedGroup",
    "register_probe",
    "seeds_together",
]

Json = Any  # what JSON can hold: None, bool, int, float (finite), str, lists and dicts with string keys of those
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every probe is asked: of which models, how thoroughly, on what."""

    model: Annotated[str, Parameter(group=WHAT, metavar="NAME")] = "all"
    """Model to measure, several with commas, or all: see `list models`."""
    budget: Annotated[Literal["smoke", "quick", "standard"], Parameter(group=WHAT)] = "quick"
    """How thorough: seconds, minutes on a CPU, or as the protocol has it on a GPU."""
    seed: Annotated[int, Range(ge=0, le=2**32 - 1), Parameter(group=WHAT, metavar="N")] = 0
    """First seed; it decides initialisation and data."""
    seeds: Annotated[int | None, Range(ge=1, le=1_000), Parameter(group=WHAT, metavar="N")] = None
    """Number of seeds; by default the budget's."""
    device: Annotated[Device, Parameter(group=MACHINE)] = "auto"
    """Device to measure on."""
    threads: Annotated[int, Range(ge=1, le=1_024), Parameter(group=MACHINE, metavar="N")] = 1
    """CPU threads."""

    @property
    def precision(self) -> str:
        """Probes measure in single precision, or in double where they say so."""
        return "fp32"

    def __post_init__(self) -> None:
        """Refuse what no probe could use."""
        check_options(self)

    def all_seeds(self, usual: int) -> range:
        """The seeds to run where the budget says ``usual`` many."""
        return range(self.seed, self.seed + (usual if self.seeds is None else self.seeds))


@dataclass(frozen=True)
class ProbeSpec:
    """One measurement, wholly resolved: the unit that is run, stored under a key of its content, and resumed.

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
        words = (value for value in self.options.values() if isinstance(value, str))
        return " ".join((self.probe, models, *words, f"seed {self.seed}"))

    @property
    def alike(self) -> tuple[str, ...]:
        """What it shares with measurements that take about as long."""
        words = (str(value) for value in self.options.values() if isinstance(value, str))
        return self.probe, *self.models, *words

    @property
    def place(self) -> tuple[str, ...]:
        """The folders below a store's root under which its runs lie."""
        return probe_place(self.probe, self.models)

    @property
    def precision(self) -> str:
        """As `Request` has it."""
        return "fp32"

    def to_json(self) -> dict[str, Json]:
        """As a JSON object."""
        return {**dataclasses.asdict(self), "models": list(self.models)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Json]) -> ProbeSpec:
        """The reverse of `to_json`."""
        return cls(**{**raw, "models": tuple(raw["models"])})


@dataclass(frozen=True)
class Measured(Generic[R]):
    """A measurement with its result, and the folder of its record."""

    spec: ProbeSpec
    result: R
    folder: Path


def seeds_together(measured: Iterable[Measured[R]]) -> list[list[Measured[R]]]:
    """Lists of what differs in nothing but the seed, in the order of their first; seeds ascending."""
    groups: dict[str, list[Measured[R]]] = {}
    for one in measured:
        spec = one.spec
        same = json.dumps([spec.models, spec.options, spec.device, spec.budget], sort_keys=True)
        groups.setdefault(same, []).append(one)
    return [sorted(group, key=lambda one: one.spec.seed) for group in groups.values()]


@dataclass(frozen=True)
class SeedGroup(Generic[R]):
    """Measurements that differ in nothing but the seed: a list of `seeds_together`, and what is made of it."""

    measured: Sequence[Measured[R]]

    @property
    def model(self) -> str:
        """Its name."""
        return self.measured[0].spec.models[0]

    @property
    def results(self) -> list[R]:
        """Of each seed."""
        return [one.result for one in self.measured]

    @property
    def folders(self) -> list[Path]:
        """Of each seed's record."""
        return [one.folder for one in self.measured]


@dataclass(frozen=True)
class NetOptions:
    """Options of a probe that builds its own nets; None stands for what the budget says."""

    hidden: Annotated[Width | None, Parameter(group=MODEL, metavar="N")] = None
    """Width of the layers; by default the budget's."""
    initialisation: Annotated[str, Parameter(group=MODEL, metavar="NAME")] = "default"
    """How weights start: each model's default, all that it has, or names with commas; who has none is left out."""
    layers: Annotated[int, Range(ge=1, le=1_000), Parameter(group=MODEL, metavar="N")] = 1
    """Number of mixer layers."""
    backbone: Annotated[Literal["bare", "residual"], Parameter(group=MODEL)] = "bare"
    """Stack the layers as they are, or wrap each in norm and skip."""

    def __post_init__(self) -> None:
        """Refuse what can't be measured; lengths are checked against the problem and the machine later."""
        check_options(self)


@dataclass(frozen=True)
class NoProbeOptions:
    """A probe without options of its own."""


class Probe(Generic[R]):
    """What a probe's file defines and registers with `register_probe`; the first line of its docstring describes it.

    Attributes:
        name: given by `register_probe`.
        version: changes when results of the same spec would.
        timed: whether a measurement must have the machine to itself, because it reads a clock.
        Options: a frozen dataclass of what the user may ask for beyond `Request`; each field has a docstring.
        Result: a frozen dataclass of what one measurement gives: numbers, texts, tuples, dicts with text keys, and
            dataclasses of those; what is not finite is None. The record holds it as JSON.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    timed: ClassVar[bool] = False
    Options: ClassVar[type[Any]] = NoProbeOptions
    Result: ClassVar[type[Any]]

    def plan(self, request: Request, options: Any, models: Sequence[str], device: str) -> list[ProbeSpec]:
        """All measurements of ``models`` on a device type, in the order to run them; seeds outermost if there are any.

        Raises:
            UserError: what is asked for can't be measured (a length of 0, say, or one that no memory holds, with the
                largest that fits); before anything is run.
        """
        raise TypeError(f"{type(self).__name__} must define plan(request, options, models, device)")

    def specs(self, request: Request, device: str, model: str, options: Any, seeds: int = 1) -> list[ProbeSpec]:
        """Measurements of ``model``, one for each seed: as many as ``request`` asks for, else ``seeds``.

        ``options`` are all else that decides the result: a mapping of what JSON holds, or a dataclass of that.
        """
        about = dict(options) if isinstance(options, Mapping) else dataclasses.asdict(options)
        return [
            ProbeSpec(self.name, (model,), seed, request.budget, device, request.threads, about)
            for seed in request.all_seeds(seeds)
        ]

    def measure(self, spec: ProbeSpec, listener: Listener) -> R:
        """Measure once.

        Called with torch's threads set and its generators seeded (`device.settings`). Deterministic on a CPU unless
        `timed`.

        Raises:
            NotApplicable: the model can't honestly be measured so; the record says why.
        """
        raise TypeError(f"{type(self).__name__} must define measure(spec, listener)")

    def headline(self, result: R) -> str:
        """The result in a few words, for a line of progress."""
        return ""

    def table(self, measured: Sequence[Measured[R]]) -> str:
        """What a reader sees at the end: a table, seeds together, and what to make of it; plain text."""
        raise TypeError(f"{type(self).__name__} must define table(measured)")

    def chart(self, measured: Sequence[Measured[R]]) -> Chart:
        """The picture, all models in it."""
        raise TypeError(f"{type(self).__name__} must define chart(measured)")


P = TypeVar("P", bound="type[Probe[Any]]")
PROBES: Registry[Probe[Any]] = Registry("probe", "seqbench.probes", group="seqbench.probes")


def register_probe(name: str) -> Callable[[P], P]:
    """Register the decorated `Probe` as ``probe NAME``."""

    def decorate(probe: P) -> P:
        probe.name = name
        PROBES.add(name, probe(), module=probe.__module__)
        return probe

    return decorate

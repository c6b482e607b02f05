"""Files of pytest-benchmark as samples: of each benchmark one figure per process, the median of its rounds.

Rounds of one process are not independent: they share its memory and its moment. So a process counts once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seqbench.errors import UserError
from seqbench.jobs.store import RECORD

__all__ = ["COMPARISON", "Timing", "Timings", "check_devices", "parse_json", "read_file", "read_side"]

COMPARISON = "regress.json"
OURS = (COMPARISON, RECORD)  # JSON that lies beside benchmarks and holds none
MEMORY = "peak_memory_bytes"  # in `extra_info`, as is the next
COMPUTED = "cpu_seconds"
FORMERLY = "formerly"
GROUP = "benchmarks"  # of those that name none
BOUND = 1e300  # no figure is as large


class _Part(BaseModel):
    """A part of a file; what else it holds is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Stats(_Part):
    median: float = Field(gt=0)


class _Benchmark(_Part):
    fullname: str = Field(min_length=1)
    group: str | None = None
    stats: _Stats
    extra_info: dict[str, Any] = {}


class _File(_Part):
    machine_info: dict[str, Any] = {}
    benchmarks: list[_Benchmark]


@dataclass
class Timing:
    """One benchmark on one side; the lists hold a figure per process.

    Attributes:
        seconds: the median round.
        memory: the most bytes that were in use; empty where that was not measured.
        computed: seconds that the process computed for in a round; empty where that was not measured.
        formerly: the name that the benchmark had before, if it says so.
    """

    name: str
    group: str
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)
    formerly: str | None = None


@dataclass
class Timings:
    """All benchmarks of one side by name, and the devices they were measured on."""

    samples: dict[str, Timing] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def add(self, file: _File) -> None:
        """One process."""
        if file.benchmarks:
            self.devices.add(_device(file.machine_info))
        for one in file.benchmarks:
            sample = self.samples.setdefault(one.fullname, Timing(one.fullname, one.group or GROUP))
            sample.seconds.append(one.stats.median)
            for key, figures in ((MEMORY, sample.memory), (COMPUTED, sample.computed)):
                figure = one.extra_info.get(key)
                if isinstance(figure, (int, float)) and 0 < figure < BOUND:
                    figures.append(float(figure))
            formerly = one.extra_info.get(FORMERLY)
            sample.formerly = formerly if isinstance(formerly, str) else sample.formerly


def read_side(path: Path) -> Timings:
    """All files of pytest-benchmark at or below ``path``.

    Raises:
        UserError: there is no such path, or a file that is empty, cut off, holds NaN or is of another kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or directory.")
    if (path / COMPARISON).is_file():
        raise UserError(f"{path} holds a whole comparison: name one side of it, such as {path / 'base'}.")
    side = Timings()
    for file in _files(path):
        side.add(read_file(file))
    return side


def _files(path: Path) -> Iterator[Path]:
    """Those named .json, in order; predictions and records lie in folders of their own kind."""
    if path.is_file():
        yield path
        return
    yield from sorted(file for file in path.rglob("*.json") if file.name not in OURS and not _of_a_record(file))


def _of_a_record(file: Path) -> bool:
    return (file.parent / RECORD).is_file()


def read_file(path: Path) -> _File:
    """One file of pytest-benchmark; raises `UserError` as `read_side` does."""
    raw = parse_json(path)
    if not isinstance(raw, dict) or "benchmarks" not in raw:
        raise UserError(f"{path} is no file of pytest-benchmark (it has no list of benchmarks): move it elsewhere.")
    try:
        return _File.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} can't be used: {place}: {first['msg']}. Measure again.") from None


def parse_json(path: Path) -> Any:
    """What the JSON file holds.

    Raises:
        UserError: it can't be read, is empty or cut off, or holds NaN, which is no JSON and no figure.
    """

    def refuse(word: str) -> None:
        raise UserError(f"{path} holds {word}, which is no figure: measure again.")

    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise UserError(f"{path} is empty: measure again.")
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged or cut off: it is not valid JSON. Measure again.") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from None


def _device(machine: dict[str, Any]) -> str:
    """What it was measured on, as far as the file says: seqbench's own name of a device, else the processor's."""
    cpu = machine.get("cpu")
    brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
    name = machine.get("device_name") or brand or machine.get("machine") or "unknown"
    return " ".join(str(name).split())


def check_devices(sides: Iterable[Timings], *, others: bool) -> str:
    """The device of all ``sides``; several are taken only if ``others`` are.

    Raises:
        UserError: they were measured on different devices, whose times can't be compared.
    """
    devices = sorted({device for side in sides for device in side.devices})
    if len(devices) > 1 and not others:
        raise UserError(
            f"these were measured on different devices ({'; '.join(devices)}), which differ more than most changes do: "
            "measure both on one, or add --other-device."
        )
    return ", ".join(devices)

"""How long jobs take, from a table of measured rates and from how fast this machine is beside the one that made it.

`rates.json` holds the seconds of a training step and of reading validation for each task and model, and the seconds of
each measurement of the ledger, on one core. `docs/examples/make_rates.py` makes it again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqbench.jobs.job import Spec

__all__ = ["RATES_FILE", "RunRate", "case_key", "case_seconds", "run_rate", "speed_of_machine"]

RATES_FILE = Path(__file__).with_name("rates.json")
REPEATS = 5


@dataclass(frozen=True)
class RunRate:
    """What one model takes on one task, at the width and batch size at which it was measured, on this machine.

    Attributes:
        step: seconds of a training step.
        read: seconds of reading the validation split.
        beside: seconds of all that is neither training nor evaluation, without the start of Python.
        flops: of a forward pass over a batch.
    """

    step: float
    read: float
    beside: float
    flops: float

    def scaled(self, flops: float) -> tuple[float, float]:
        """Seconds of a step and of reading validation where a forward pass over a batch takes ``flops``.

        More work takes longer in proportion; less work saves less, since each operation takes some time anyway.
        """
        ratio = flops / self.flops
        factor = ratio if ratio > 1 else ratio**0.5
        return self.step * factor, self.read * factor


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(RATES_FILE.read_text(encoding="utf-8"))
    return table


def run_rate(task: str, model: str, batch_size: int) -> RunRate | None:
    """The rate of ``model`` on the shipped data of ``task``; None where it was not measured."""
    rates = _table()["runs"].get(f"{task} {model}", {})
    if not rates:
        return None
    slow = _slowness()
    size = min(rates, key=lambda size: abs(int(size) - batch_size))
    step, read, flops = rates[size]
    return RunRate(step * slow, read * slow, _table()["beside"] * slow, flops)


def case_key(spec: Mapping[str, Any], *, loosely: bool = False) -> str:
    """What measurements of a probe that take equally long share, from their spec as JSON: all but the seed.

    ``loosely`` what those share that take about as long: probe, models, budget, device, and options that are words.
    """
    options = {name: value for name, value in spec["options"].items() if name != "data"}
    if loosely:
        options = {name: value for name, value in options.items() if isinstance(value, str)}
    about = json.dumps([spec["probe"], spec["models"], spec["budget"], spec["device"], options], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def case_seconds(spec: Spec) -> float | None:
    """What one measurement of a probe takes; None where none of its kind is in the table."""
    cases, about = _table()["cases"], spec.to_json()
    seconds = cases.get(case_key(about), cases.get(case_key(about, loosely=True)))
    return None if seconds is None else float(seconds) * _slowness()


@functools.cache
def _slowness() -> float:
    """How many times as long this machine takes as the one that made the table."""
    return statistics.geometric_mean(
        own / theirs for own, theirs in zip(speed_of_machine(), _table()["machine"], strict=True)
    )


def speed_of_machine() -> tuple[float, float]:
    """Seconds of CPU of some matrix products and of some element-wise work, on one core; takes a fifth of a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            square, rows = torch.ones(256, 256), torch.ones(64, 512)
            return _least(lambda: square @ square, 20), _least(lambda: torch.tanh(rows * 0.5) + rows, 100)
    finally:
        torch.set_num_threads(threads)


def _least(work: Callable[[], Any], times: int) -> float:
    """Of several measurements: what else the machine does can only add to it."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.process_time()
        for _ in range(times):
            work()
        seconds.append(time.process_time() - begun)
    return min(seconds)

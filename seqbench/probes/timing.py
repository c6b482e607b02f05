"""Reading the clock: several models side by side in one process, in a new order in every repeat.

A machine's speed drifts by more than models differ, so models are compared only with what ran beside them: all of them
at one shape, one right after the other, before the next shape; shapes and models in an order that is drawn anew in
every repeat. One call before each reading is dropped, as the model before has taken the caches, unless a single step
takes so long that this is nothing to it. Nothing is synchronised or counted inside a reading, and garbage is collected
between repeats only.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from seqbench.device import synchronize
from seqbench.probes import Told

__all__ = ["Jobs", "Reading", "Step", "orders", "read_clock", "side_by_side", "significant"]

LEAST = 2e-3  # seconds that a reading lasts at least: 10,000 times the clock's grain
LONG = 25e-3  # seconds of a step beside which refilling the caches, a millisecond at most, is nothing
Step = Callable[[], object]
Jobs = Mapping[str, Mapping[str, Step]]  # what to time at one shape: model -> kind -> one step
Place = TypeVar("Place")


class Reading(NamedTuple):
    """Seconds of one step: on the wall, and between two events on the device (None but on CUDA)."""

    wall: float
    event: float | None


def read_clock(step: Step, times: int, device: torch.device) -> Reading:
    """Run ``step`` so many times between two looks at the clock, and divide."""
    first = last = None
    synchronize(device)
    if device.type == "cuda":
        event: Any = torch.cuda.Event  # which has no types
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record()
    started = time.perf_counter()
    for _ in range(times):
        step()
    if last is not None:
        last.record()
    synchronize(device)
    wall = (time.perf_counter() - started) / times
    # milliseconds
    return Reading(wall, first.elapsed_time(last) / 1e3 / times if first is not None and last is not None else None)


def side_by_side(
    places: Sequence[Place],
    make: Callable[[Place], Jobs],
    repeats: int,
    seed: int,
    device: torch.device,
    told: Told,
) -> list[dict[str, dict[str, list[Reading]]]]:
    """Time what ``make`` gives at every place (a shape, say), ``repeats`` times.

    Returns:
        For each place, model and kind the readings in the order of the repeats.
    """
    plans: dict[tuple[int, str, str], tuple[int, bool]] = {}
    found: list[dict[str, dict[str, list[Reading]]]] = []
    told.begin((repeats + 1) * len(places))
    with _no_collection():
        for i, place in enumerate(places):
            jobs = make(place)
            for name, kinds in jobs.items():
                for kind, step in kinds.items():
                    plans[i, name, kind] = _plan(step, device)
            found.append({name: {kind: [] for kind in kinds} for name, kinds in jobs.items()})
            told.report(i + 1, 0.0)
        rng = np.random.default_rng([seed, 0])
        for repeat in range(repeats):
            gc.collect()
            for done, (i, names) in enumerate(orders([list(models) for models in found], rng)):
                jobs = make(places[i])
                for name in names:
                    for kind, step in jobs[name].items():
                        times, warm = plans[i, name, kind]
                        if warm:
                            step()
                        found[i][name][kind].append(read_clock(step, times, device))
                told.report((repeat + 1) * len(places) + done + 1, 0.0)
    return found


def orders(names: Sequence[Sequence[str]], rng: np.random.Generator) -> list[tuple[int, list[str]]]:
    """The order of one repeat: the places shuffled, and at each of them its names."""
    return [(int(i), [names[i][j] for j in rng.permutation(len(names[i]))]) for i in rng.permutation(len(names))]


def _plan(step: Step, device: torch.device) -> tuple[int, bool]:
    """How often ``step`` must run for a reading to last, and whether to warm up before; the first call is dropped."""
    step()
    times = 1
    while (spent := read_clock(step, times, device).wall * times) < LEAST:
        times = max(times + 1, math.ceil(1.2 * times * LEAST / max(spent, LEAST / 100)))
    return times, spent < LONG * times


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection at times of its own choosing."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def significant(value: float, digits: int = 4) -> float:
    """``value`` with so many significant digits, as records hold it."""
    return float(f"{value:.{digits}g}")

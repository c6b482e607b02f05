"""`probe cost`: what a layer costs. Parameters, FLOPs and state by counting; seconds and bytes by measuring.

One case times all chosen models side by side in one process, as ratios count only within one backend, device, type of
number and thread count. `kernel` is a model's own forward, `loop` its step form in a Python loop; the two are never
compared. Timed are forward alone (no gradients, evaluation mode) and a training step without its optimiser (gradients
cleared, forward, backward to the embedded inputs), on (B, T, width) inputs that are already embedded, with a readout of
the last step (`timing_net`).

At equal parameters every model has the width at which its layer has nearest to as many parameters as the reference's at
``hidden``. Times are fitted by t = a + s T + w B T + q B T^2 (`fit`); ratios to the reference are geometric means over
shapes, an average a repeat, with Student's interval over repeats. A `standard` run also times layers of width 8, whose
work is next to nothing: a floor under the serial time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seqbench.errors import UserError
from seqbench.models.backbone import check_widths
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS
from seqbench.probes import Case, Found, Request, Told
from seqbench.probes.cost_memory import peak_bytes
from seqbench.probes.cost_view import cost_headline, cost_table, draw_costs
from seqbench.probes.fit import fit_times, geometric
from seqbench.probes.options import CostOptions
from seqbench.probes.shared.nets import check_fits, check_length
from seqbench.probes.timing import Jobs, Reading, side_by_side, significant
from seqbench.probes.timing_net import Timed, facts, flops_at, loops, mixer_parameters, timed_net, width_of

__all__ = ["PROBE", "grid", "lengths_to"]

SHORTEST, LOOP_LONGEST = 32, 256
FLOOR = 8  # width of the serial floor
EMBEDDED = Shape(tokens=0, features=1, outputs=(1,))


class Budget(NamedTuple):
    """What is timed where the user does not say."""

    hidden: int
    longest: int
    tokens: int
    repeats: int
    batches: tuple[int, ...]
    widths: tuple[int, ...]
    width_shape: tuple[int, int]


BATCHES, WIDTHS = (1, 4, 16, 64, 256), (32, 64, 128, 256, 512)
BUDGETS = {
    "smoke": Budget(32, 64, 512, 3, (1, 4, 16), (16, 32), (4, 32)),
    "quick": Budget(128, 2048, 32_768, 7, BATCHES, WIDTHS, (16, 128)),
    "standard": Budget(128, 4096, 262_144, 10, (*BATCHES, 1024), (*WIDTHS, 1024), (64, 256)),
}


def lengths_to(longest: int) -> list[int]:
    """``longest`` and its halves down to 32, three lengths at least; ascending."""
    lengths = [longest]
    while lengths[-1] >= 2 * SHORTEST or len(lengths) < 3:
        lengths.append(lengths[-1] // 2)
    return lengths[::-1]


def grid(batches: Sequence[int], longest: int, tokens: int) -> list[list[int]]:
    """All [B, T] of at most so many tokens."""
    return [[batch, length] for batch in batches for length in lengths_to(longest) if batch * length <= tokens]


class Cost:
    """The probe: see the module."""

    name = "cost"
    version = 1
    options = CostOptions
    timed = True

    def cases(self, request: Request, options: CostOptions, models: Sequence[str], device: str) -> list[Case]:
        """One case for each backend and track, all models in it; and one for each model that has no loop."""
        usual = BUDGETS[request.budget]
        hidden = options.hidden or usual.hidden
        longest = usual.longest if options.longest is None else options.longest
        tokens = options.tokens or max(usual.tokens, longest)
        check_length(longest, "--longest", least=4)
        if tokens < longest:
            raise UserError(f"--tokens {tokens} is less than one sequence of --longest {longest}: give more.")
        chosen = list(models)
        if options.reference is not None and (name := MODELS.entry(options.reference).name) not in chosen:
            chosen.append(name)
        batch = max(b for b, t in grid(usual.batches, longest, tokens) if t == longest)
        for name in chosen:
            check_widths(name, (hidden,))
            check_fits(partial(timed_net, name, hidden), EMBEDDED, batch, longest, device, "--longest")
        wanted = [(backend, track, hidden) for backend, track in _tracks(options.backend, options.track)]
        if request.budget == "standard" and options.hidden is None and ("kernel", "width", hidden) in wanted:
            wanted.append(("kernel", "width", FLOOR))
        cases = []
        for backend, track, width in wanted:
            loop = backend == "loop"
            plan = {
                "backend": backend,
                "track": track,
                "hidden": width,
                "shapes": grid(usual.batches, min(longest, LOOP_LONGEST) if loop else longest, tokens),
                "repeats": options.repeats or usual.repeats,
                "widths": list(usual.widths) if (backend, track, width) == ("kernel", "width", hidden) else [],
                "width_shape": list(usual.width_shape),
            }
            able = [name for name in chosen if _can_be(name, width) and (not loop or loops(name))]
            without = [name for name in models if loop and not loops(name)]
            for group in ([able] if able else []) + [[name] for name in without]:
                reference = _reference(options.reference, group, width)
                each = _widths(track, group, width, reference)
                about = {**plan, "reference": reference, "model_widths": each}
                cases.append(
                    Case(self.name, tuple(group), request.seed, request.budget, device, request.threads, about)
                )
        return cases

    def measure(self, case: Case, told: Told) -> dict[str, Any]:
        """Time all models of ``case``; the keys of the result are in `cost_view`."""
        plan, device = case.options, torch.device(case.device)
        nets = {name: Timed(name, plan["model_widths"][name], plan["backend"], device) for name in case.models}
        by_width = {
            width: {name: Timed(name, width, "kernel", device) for name in case.models if _can_be(name, width)}
            for width in plan["widths"]
        }
        shapes, shape = plan["shapes"], plan["width_shape"]
        places = [(nets, *one) for one in shapes] + [(those, *shape) for those in by_width.values()]
        readings = side_by_side(places, _jobs, plan["repeats"], case.seed, device, told)
        mine = readings[: len(shapes)]
        seconds = {
            name: {kind: [_walls(reading[name][kind]) for reading in mine] for kind in ("forward", "train")}
            for name in case.models
        }
        result: dict[str, Any] = {name: plan[name] for name in ("backend", "track", "reference", "shapes", "repeats")}
        result["counted_at"] = counted_at = min(256, max(length for _, length in shapes))
        result["models"] = {
            name: facts(net.net, counted_at, flops_at(net.mixer)(counted_at)) for name, net in nets.items()
        }
        result["seconds"] = seconds
        if device.type == "cuda":
            result["event_seconds"] = {name: _events(name, mine) for name in case.models}
        result["widths"] = {
            str(width): {name: _at_width(those[name], reading[name]) for name in those}
            for (width, those), reading in zip(by_width.items(), readings[len(shapes) :], strict=True)
        }
        result["width_shape"] = shape if by_width else None
        result["fit"] = {
            name: {kind: fit_times(shapes, of, case.seed) for kind, of in kinds.items()}
            for name, kinds in seconds.items()
        }
        result["ratios"] = _ratios(seconds, plan["reference"])
        result["peak_bytes"] = {name: _peaks(net, shapes, device) for name, net in nets.items()}
        result["dtype"] = "float32"
        return result

    def headline(self, case: Case, result: Mapping[str, Any]) -> str:
        """Ratios of training time."""
        return cost_headline(result)

    def table(self, found: Sequence[Found]) -> str:
        """Counts, ratios and fits."""
        return cost_table(found)

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """Times, ratios and memory."""
        return draw_costs(found, path)


def _tracks(backend: str | None, track: str | None) -> list[tuple[str, str]]:
    """Backends and tracks to time; the loop at equal parameters only if asked for."""
    every = [("kernel", "width"), ("kernel", "params"), ("loop", "width"), ("loop", "params")]
    found = [(b, t) for b, t in every if backend in (None, b) and track in (None, t)]
    return found if track == "params" and backend is not None else [one for one in found if one != every[-1]]


def _can_be(model: str, width: int) -> bool:
    return width % MODELS.get(model).mixer.width_multiple == 0


def _reference(wanted: str | None, models: Sequence[str], hidden: int) -> str:
    """The model that others are divided by: the one asked for, or the plainest recurrent one of those there are."""
    if wanted is not None and (name := MODELS.entry(wanted).name) in models:
        return name
    recurrent = [name for name in models if loops(name)] or list(models)
    return min(recurrent, key=lambda name: (mixer_parameters(name, hidden), name))


def _widths(track: str, models: Sequence[str], hidden: int, reference: str) -> dict[str, int]:
    """Every model's width: the same, or the one with nearest to the reference's number of parameters."""
    if track == "width":
        return dict.fromkeys(models, hidden)
    params = mixer_parameters(reference, hidden)
    try:
        return {name: width_of(params, name) for name in models}
    except UserError:
        raise UserError(
            f"--hidden {hidden}: {reference} then has {params:,} parameters, and some model can't have so few: take a "
            f"greater --hidden, or --track width."
        ) from None


def _jobs(place: tuple[Mapping[str, Timed], int, int]) -> Jobs:
    nets, batch, length = place
    return {name: net.steps(batch, length) for name, net in nets.items()}


def _walls(readings: Sequence[Reading]) -> list[float]:
    """Rounded as the record holds them, so that all else can be computed from the record again."""
    return [significant(reading.wall) for reading in readings]


def _events(name: str, readings: Sequence[Mapping[str, Mapping[str, Sequence[Reading]]]]) -> dict[str, list[float]]:
    """Medians over repeats of the seconds between events on the device."""
    found: dict[str, list[float]] = {"forward": [], "train": []}
    for kind, medians in found.items():
        for reading in readings:
            events = [one.event for one in reading[name][kind] if one.event is not None]
            medians.append(significant(float(np.median(events))))
    return found


def _at_width(net: Timed, readings: Mapping[str, Sequence[Reading]]) -> dict[str, Any]:
    return {kind: _walls(of) for kind, of in readings.items()} | {"params": net.params}


def _ratios(seconds: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], reference: str) -> dict[str, Any]:
    """Of each model but the reference: time over the reference's, paired by repeat and shape."""
    found: dict[str, Any] = {}
    for name, kinds in seconds.items():
        if name == reference:
            continue
        found[name] = {"by_shape": {}}
        for kind, of in kinds.items():
            ratio = np.array(of) / np.array(seconds[reference][kind])  # (S, R)
            found[name][kind] = _three(np.exp(np.log(ratio).mean(axis=0)))
            found[name]["by_shape"][kind] = [_three(one) for one in ratio]
    return found


def _three(values: Any) -> list[float]:
    return [significant(x) for x in geometric(values)]


def _peaks(net: Timed, shapes: Sequence[Sequence[int]], device: torch.device) -> list[int | None]:
    """Of a training step at each shape. A CPU's profiler is slow, a millisecond or so a step: one batch size there."""
    everywhere = device.type == "cuda"
    lengths = {length for _, length in shapes}
    whole = max(b for b, _ in shapes if {t for batch, t in shapes if batch == b} == lengths)
    found: list[int | None] = []
    for batch, length in shapes:
        step = net.steps(batch, length)["train"]
        net.clear()
        found.append(peak_bytes(step, device) if everywhere or batch == whole else None)
    net.clear()
    return found


PROBE = Cost()

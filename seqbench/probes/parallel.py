"""`probe parallel`: what recurrence leaves of a machine, as tokens per second at a constant number of tokens per batch.

The length T grows and the batch B = N / T shrinks, so the work of a recurrent layer stays the same and only its
dependence on order grows: T steps one after the other, each on B rows. A layer without that limit keeps its speed,
until the square of the length weighs. All models are timed side by side in one process, a training step without its
optimiser, on embedded inputs (`timing_net`); so is one matrix product in every repeat, whose rate is the machine's
peak. With two numbers of tokens or more, t = a + s T + w B T + q B T^2 tells the serial time s from the square q.
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
from seqbench.probes import Case, Found, Request, Told
from seqbench.probes.cost import EMBEDDED, lengths_to
from seqbench.probes.fit import fit_times, geometric
from seqbench.probes.options import ParallelOptions
from seqbench.probes.parallel_view import draw_parallel, parallel_headline, parallel_table
from seqbench.probes.shared.nets import check_fits, check_length
from seqbench.probes.timing import Jobs, Reading, Step, side_by_side, significant
from seqbench.probes.timing_net import Timed, facts, flops_at, timed_net

__all__ = ["PROBE"]

TRAINING = 3  # a backward pass costs two forward passes


class Budget(NamedTuple):
    """What is timed where the user does not say; ``product``: rows and columns of the matrices."""

    hidden: int
    tokens: tuple[int, ...]
    longest: int
    repeats: int
    product: int


BUDGETS = {
    "smoke": Budget(32, (256, 512), 128, 3, 256),
    "quick": Budget(128, (2_048, 8_192), 1_024, 11, 1_024),
    "standard": Budget(128, (32_768, 131_072), 4_096, 11, 8_192),
}


class Parallel:
    """The probe: see the module."""

    name = "parallel"
    version = 1
    options = ParallelOptions
    timed = True

    def cases(self, request: Request, options: ParallelOptions, models: Sequence[str], device: str) -> list[Case]:
        """One case, with all models in it."""
        usual = BUDGETS[request.budget]
        hidden = options.hidden or usual.hidden
        tokens = sorted(set(usual.tokens if options.tokens is None else options.tokens))
        longest = min(usual.longest, tokens[0]) if options.longest is None else options.longest
        check_length(longest, "--longest", least=4)
        if tokens[0] < longest:
            raise UserError(f"--tokens {tokens[0]} is less than one sequence of --longest {longest}: give more.")
        for name in models:
            check_widths(name, (hidden,))
            check_fits(partial(timed_net, name, hidden), EMBEDDED, tokens[-1] // longest, longest, device, "--longest")
        plan = {
            "hidden": hidden,
            "tokens": tokens,
            "lengths": lengths_to(longest),
            "repeats": options.repeats or usual.repeats,
            "product": usual.product if device != "cpu" else min(usual.product, BUDGETS["quick"].product),
        }
        return [Case(self.name, tuple(models), request.seed, request.budget, device, request.threads, plan)]

    def measure(self, case: Case, told: Told) -> dict[str, Any]:
        """Time all models and the matrix product; the keys of the result are in `parallel_view`."""
        plan, device = case.options, torch.device(case.device)
        tokens, lengths = plan["tokens"], plan["lengths"]
        nets = {name: Timed(name, plan["hidden"], "kernel", device) for name in case.models}
        shapes = [(n // length, length) for n in tokens for length in lengths]  # B rounded down: shapes hold it
        product = {"": {"product": _product(plan["product"], device)}}

        def make(place: tuple[int, int] | None) -> Jobs:
            if place is None:
                return product
            return {name: {"train": net.steps(*place)["train"]} for name, net in nets.items()}

        readings = side_by_side([*shapes, None], make, plan["repeats"], case.seed, device, told)
        *timed, peak = readings
        rates = 2 * plan["product"] ** 3 / np.array(_walls(peak[""]["product"]))
        result: dict[str, Any] = {
            "tokens": tokens,
            "lengths": lengths,
            "shapes": [list(shape) for shape in shapes],
            "models": {},
            "counted_at": lengths[-1],
            "peak_size": plan["product"],
            "peak_flops": [significant(float(np.quantile(rates, x))) for x in (0.5, 0.0, 1.0)],
        }
        about: dict[str, dict[str, Any]] = {
            key: {} for key in ("seconds", "tokens_per_second", "change", "fit", "share", "event_seconds")
        }
        for name, net in nets.items():
            seconds = [_walls(one[name]["train"]) for one in timed]
            about["fit"][name] = fit_times(shapes, seconds, case.seed)
            count = flops_at(net.mixer)
            result["models"][name] = facts(net.net, lengths[-1], count(lengths[-1]))
            work = [_work(count(length), batch) for batch, length in shapes]
            for key in ("seconds", "tokens_per_second", "change", "share"):
                about[key][name] = {}
            for i, n in enumerate(tokens):
                mine = slice(i * len(lengths), (i + 1) * len(lengths))
                about["seconds"][name][str(n)] = seconds[mine]
                speed = np.array([b * t for b, t in shapes[mine]])[:, None] / np.array(seconds[mine])  # (T, R)
                about["tokens_per_second"][name][str(n)] = [significant(float(x)) for x in np.median(speed, axis=1)]
                about["change"][name][str(n)] = [significant(x) for x in geometric(speed[-1] / speed[0])]
                about["share"][name][str(n)] = _shares(work[mine], np.array(seconds[mine]), rates)
            if device.type == "cuda":
                about["event_seconds"][name] = [_event(one[name]["train"]) for one in timed]
        if device.type != "cuda":
            del about["event_seconds"]
        return {**result, **about, "repeats": plan["repeats"], "dtype": "float32"}

    def headline(self, case: Case, result: Mapping[str, Any]) -> str:
        """The change of speed from the shortest to the longest."""
        return parallel_headline(result)

    def table(self, found: Sequence[Found]) -> str:
        """Speeds, serial times and shares of the peak."""
        return parallel_table(found)

    def draw(self, found: Sequence[Found], path: Path) -> Path:
        """Speeds, serial shares and shares of the peak."""
        return draw_parallel(found, path)


def _product(size: int, device: torch.device) -> Step:
    """A product of two square matrices into a third, in single precision: two operations a multiply-add."""
    a, b, c = (torch.ones(size, size, device=device) for _ in range(3))

    def product() -> None:
        with torch.no_grad():
            torch.mm(a, b, out=c)

    return product


def _walls(readings: Sequence[Reading]) -> list[float]:
    return [significant(reading.wall) for reading in readings]


def _event(readings: Sequence[Reading]) -> float:
    return significant(float(np.median([reading.event for reading in readings if reading.event is not None])))


def _work(counted: int | None, batch: int) -> float | None:
    """FLOPs of a training step of the mixer, from those of one sequence forward."""
    return None if counted is None else float(TRAINING * batch * counted)


def _shares(work: Sequence[float | None], seconds: Any, rates: Any) -> list[float | None]:
    """For each length the median over repeats of the rate over that repeat's peak."""
    return [
        None if done is None else significant(float(np.median(done / spent / rates)))
        for done, spent in zip(work, seconds, strict=True)
    ]


PROBE = Parallel()

"""Times a training step of each mixer beside torch's own LSTM, and minGRU by its scan beside its loop.

    python benchmarks/successors.py [--rounds N] [--out FOLDER]

One layer, forward and backward, on one thread, all in one process: what is compared takes turns, in an order that is
turned round after every round, and the median of the rounds counts, in seconds of the processor. Two tables: every
causal model at a batch of 32, width 128 and lengths of 128 and 512 as a multiple of `torch.nn.LSTM`; and minGRU at a
length of 1,024 for several batches, by one `scan` over all steps, by the same recurrence with every step on autograd's
tape, and as a cell that is called once per step. It takes some minutes and should run on a machine that does nothing
else. With ``--out`` the figures go to ``successors.json`` in that folder, too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqbench.device import device_name, settings
from seqbench.models.mixer import MODELS
from seqbench.models.scan import MinGRU, looped
from seqbench.probes import Request

WIDTH, BATCH, LENGTHS = 128, 32, (128, 512)
LONG, BATCHES = 1024, (1, 8, 32)
Step = Callable[[], None]


def training(layer: nn.Module, forward: Callable[[Tensor], Tensor], batch: int, length: int) -> Step:
    """Forward and backward over (batch, length, WIDTH)."""
    x = torch.randn(batch, length, WIDTH, requires_grad=True)
    gradient = torch.randn(batch, length, WIDTH)

    def run() -> None:
        layer.zero_grad()
        x.grad = None
        forward(x).backward(gradient)

    return run


def seconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """The median time of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in steps.values():
        run()
    for i in range(rounds):
        for name in list(steps)[:: -1 if i % 2 else 1]:
            started = time.thread_time()
            steps[name]()
            times[name].append(time.thread_time() - started)
    return {name: statistics.median(spent) for name, spent in times.items()}


def beside_lstm(length: int, rounds: int) -> dict[str, float]:
    """Seconds of every causal model and of torch's LSTM, under ``nn.LSTM``."""
    torchs = nn.LSTM(WIDTH, WIDTH, batch_first=True)
    steps = {"nn.LSTM": training(torchs, lambda x: torchs(x)[0], BATCH, length)}
    for name in MODELS.names():
        kind = MODELS.get(name).mixer
        if kind.can_be_causal:
            layer = kind(WIDTH, WIDTH, causal=True)
            steps[name] = training(layer, layer, BATCH, length)
    return seconds(steps, rounds)


def by_scan_and_by_loop(batch: int, rounds: int) -> dict[str, float]:
    """Seconds of minGRU in its three ways."""
    cell = MinGRU(WIDTH, WIDTH, causal=True)
    ways = {"scan": cell, "tape": lambda x: looped(*cell.coefficients(x)), "cell": cell.loop}
    return seconds({name: training(cell, way, batch, LONG) for name, way in ways.items()}, rounds)


def tables(models: dict[int, dict[str, float]], ways: dict[int, dict[str, float]]) -> str:
    """Both, as Markdown."""
    heads = " | ".join(f"T {length}: ms | x nn.LSTM" for length in models)
    lines = [f"| model | {heads} |", "|---" * (1 + 2 * len(models)) + "|"]
    for name in models[LENGTHS[0]]:
        cells = [f"{1e3 * row[name]:.1f} | {row[name] / row['nn.LSTM']:.2f}" for row in models.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| batch | scan: us a token | tape | cell | tape / scan | cell / scan |", "|---" * 6 + "|"]
    for batch, row in ways.items():
        us = [1e6 * row[way] / (batch * LONG) for way in ("scan", "tape", "cell")]
        shown = " | ".join(f"{value:.3g}" for value in us)
        lines.append(f"| {batch} | {shown} | {us[1] / us[0]:.1f} | {us[2] / us[0]:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with settings(torch.device("cpu"), Request()):
        models = {length: beside_lstm(length, arguments.rounds) for length in LENGTHS}
        ways = {batch: by_scan_and_by_loop(batch, arguments.rounds) for batch in BATCHES}
    print(tables(models, ways))
    if arguments.out is not None:
        figures: dict[str, Any] = {
            "processor": device_name(torch.device("cpu")),
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "width": WIDTH,
            "models": {"batch": BATCH, "seconds": models},
            "mingru": {"length": LONG, "seconds": ways},
        }
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "successors.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

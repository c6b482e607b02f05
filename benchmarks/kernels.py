"""Times torch's own recurrent layers beside this package's kernels, for the table from which `--kernel auto` chooses.

    python benchmarks/kernels.py [--rounds N]

A training step of one layer (forward, backward), 64 steps long, for batches and widths that stand for those between.
"folded": the inputs are symbols of a small vocabulary, whose embedding is multiplied by the weights first. The kernels
take turns, round by round; the least time of each counts, in seconds of the processor with one thread. It takes about
four minutes and should run on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from seqbench.device import device_name, settings
from seqbench.models.kernels import choice
from seqbench.models.kernels.compiled import Compiled, library
from seqbench.models.kernels.layer import Layer, over_steps, over_symbols, weights_of
from seqbench.models.kernels.sequence import Engine
from seqbench.models.kernels.written import Written
from seqbench.probes import Request

LENGTH, SYMBOLS = 64, 32
BATCHES, WIDTHS = (1, 8, 32, 128), (32, 64, 128, 256, 512)
LAYERS: dict[str, type[Layer]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def step(layer: Layer, engine: Engine | None, batch: int, *, folded: bool) -> Callable[[], None]:
    """A training step of ``layer``, by ``engine`` or by torch."""
    width = layer.hidden_size
    gradient = torch.randn(batch, LENGTH, width)
    table = torch.randn(SYMBOLS, width, requires_grad=True)
    symbols = torch.randint(SYMBOLS, (batch, LENGTH))
    dense = torch.randn(batch, LENGTH, width, requires_grad=True)

    def forward() -> Tensor:
        x = nn.functional.embedding(symbols, table) if folded and engine is None else dense
        if engine is None:
            return layer(x)[0]  # type: ignore[no-any-return]
        weights = weights_of(layer, engine)
        if folded:
            return over_symbols(layer, engine, symbols, table, weights)
        return over_steps(layer, engine, x, weights)

    def run() -> None:
        layer.zero_grad()
        table.grad = dense.grad = None
        forward().backward(gradient)

    return run


def seconds(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The least time of each, in turns."""
    least: dict[str, float] = {}
    for run in steps.values():
        run()
    for _ in range(rounds):
        for name, run in steps.items():
            started = time.thread_time()
            run()
            spent = time.thread_time() - started
            least[name] = min(least.get(name, spent), spent)
    return least


def rows(engines: dict[str, Engine | None], rounds: int) -> Iterator[dict[str, object]]:
    """One for each cell, way to read, batch and width."""
    for cell, kind in LAYERS.items():
        for folded in (False, True):
            for batch in BATCHES:
                for width in WIDTHS:
                    layer = kind(width, width, batch_first=True)
                    steps = {name: step(layer, engine, batch, folded=folded) for name, engine in engines.items()}
                    times = {name: round(1e3 * spent, 4) for name, spent in seconds(steps, rounds).items()}
                    print(cell, "folded" if folded else "dense", batch, width, times, flush=True)
                    yield {"cell": cell, "folded": folded, "batch": batch, "width": width, "ms": times}


def main() -> None:
    """Measure, and replace the table of this processor's maker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=choice.TABLE)
    arguments = parser.parse_args()
    found = library()
    engines: dict[str, Engine | None] = {"torch": None, "written": Written()}
    if found is not None:
        engines["c"] = Compiled(*found)
    with settings(torch.device("cpu"), Request()):
        measured = list(rows(engines, arguments.rounds))
    table = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    table[choice.maker()] = {
        "processor": device_name(torch.device("cpu")),
        "library": found and found[0],
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "rows": measured,
    }
    text = json.dumps(table, indent=1).replace("\n    ", " ").replace("\n   }", " }")
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The process of one peer: it trains in blocks of steps, as it is asked to, and otherwise waits on a pipe.

``python -m benchmarks.peers.worker PEER FOLDER STARTED`` reads one JSON number of steps per line of standard input and
answers each with a line of JSON. STARTED is the clock (CLOCK_MONOTONIC, which all processes share) at which it was
started. Libraries write to standard output as they like: it is pointed at standard error before they are imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

from benchmarks.peers.problem import read

__all__ = ["PEERS", "Blocks", "Peer"]

# name, the module whose `make` builds it, and what `make` is told
PEERS = {
    "seqbench": ("with_seqbench", None),
    "seqbench-torch": ("with_seqbench", "torch"),  # seqbench, --kernel torch
    "torch": ("with_torch", None),
    "lightning": ("with_lightning", None),
    "keras-tensorflow": ("with_keras", "tensorflow"),
    "keras-jax": ("with_keras", "jax"),
}


class Peer(Protocol):
    """What every peer's module makes of a `Problem`."""

    about: str  # how it runs, in a few words

    def restore(self) -> None:
        """Set the weights to those of the problem."""

    def loss(self) -> float:
        """Of the first batch, in evaluation mode."""

    def train(self, blocks: Blocks) -> None:
        """Train in blocks of ``blocks.steps`` steps until `Blocks.end` says that it was enough."""


class Blocks:
    """Blocks of so many steps; the peer calls `begin` before the first one and `end` after each."""

    def __init__(self, steps: int, talk: Talk) -> None:
        self.steps, self.talk = steps, talk
        self.wanted = steps  # of the next block, which another round of training begins if it differs
        self.since = time.perf_counter()

    def begin(self) -> None:
        """The clock starts."""
        self.since = time.perf_counter()

    def end(self) -> bool:
        """The clock stops, the figures are told, and the next block is waited for: whether it is one of these."""
        seconds = time.perf_counter() - self.since
        self.wanted = self.talk.answer(steps=self.steps, seconds=seconds)
        self.begin()
        return self.wanted == self.steps


class Talk:
    """The two pipes, and the most memory that was taken so far, as a peer may reset the system's own mark."""

    def __init__(self) -> None:
        self.answers: IO[str] = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.peak = 0

    def watch(self) -> None:
        """Look at the system's mark."""
        with open("/proc/self/status", encoding="utf-8") as lines:
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        self.peak = max(self.peak, 1024 * kilobytes)

    def answer(self, **figures: Any) -> int:
        """Tell ``figures`` and wait for the number of steps that comes next; 0 is the end."""
        self.watch()
        print(json.dumps({**figures, "peak_memory": self.peak}), file=self.answers, flush=True)
        line = sys.stdin.readline()
        return int(line) if line else 0


class _First(Blocks):
    """One step, and back: nothing is told of it."""

    def end(self) -> bool:
        return False


def main() -> None:
    """Start the peer, train one step, compare the loss of the first weights, then serve blocks."""
    name, folder, started = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    talk = Talk()
    module, option = PEERS[name]
    row, problem = read(folder)
    peer: Peer = import_module(f"benchmarks.peers.{module}").make(row, problem, option)
    peer.restore()
    peer.train(_First(1, talk))
    start_up = time.monotonic() - started
    talk.watch()
    peer.restore()
    steps = talk.answer(start_up=start_up, loss=peer.loss(), about=peer.about)
    while steps:
        blocks = Blocks(steps, talk)
        talk.watch()
        peer.train(blocks)
        steps = blocks.wanted


if __name__ == "__main__":
    main()

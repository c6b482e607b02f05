"""seqbench itself: `seqbench.training.fit`, which pauses where it reports, with its clock stopped, and there waits."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.peers.problem import Own, Problem, own
from benchmarks.peers.rows import Row
from benchmarks.peers.worker import Blocks
from seqbench.device import settings
from seqbench.task import Budget
from seqbench.training import REPORTS, DeviceSplit, fit

CPU = torch.device("cpu")


class Ended(Exception):
    """Training was asked to stop."""


class Seqbench:
    """One net of seqbench's and the data as its tasks prepare them."""

    def __init__(self, made: Own, problem: Problem, about: str) -> None:
        self.made, self.problem, self.about = made, problem, about

    def restore(self) -> None:
        """The weights of the problem, which are seqbench's own."""
        weights = {name: torch.from_numpy(array) for name, array in self.problem.weights.items()}
        self.made.model.load_state_dict(weights)

    @torch.no_grad()
    def loss(self) -> float:
        """Of the first examples of the training split."""
        model = self.made.model.eval()
        with settings(CPU, self.made.config):
            batch = DeviceSplit(self.made.data.train, CPU)[np.arange(self.made.batch_size)]
            loss = float(model.head.loss(model(batch.inputs, batch.lengths), batch))
        model.train()
        return loss

    def train(self, blocks: Blocks) -> None:
        """`fit` for as many steps as make it report after each block."""
        made = self.made

        def report(step: int, loss: float) -> None:
            if not blocks.end():
                raise Ended

        budget = Budget(REPORTS * blocks.steps, made.batch_size, 1)
        try:
            with settings(CPU, made.config):
                fit(made.model, made.spec, made.data, made.config, budget, report, begin=lambda step: blocks.begin())
        except Ended:
            pass


def make(row: Row, problem: Problem, kernel: str | None) -> Seqbench:
    """With ``kernel``, if one is asked for: `RunConfig.kernel`."""
    made = own(row, problem.threads, kernel)
    return Seqbench(made, problem, f"kernel {kernel}" if kernel else "")

"""Lightning: the very module of `with_torch` in a Trainer that logs, keeps and shows nothing, fed by a DataLoader."""

from __future__ import annotations

import warnings
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.problem import Problem
from benchmarks.peers.rows import Row
from benchmarks.peers.with_torch import Net, loss_of, rename, tensors
from benchmarks.peers.worker import Blocks


class Module(lightning.LightningModule):
    """The net, its loss and its optimiser."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem, self.net = problem, Net(problem)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of one batch."""
        inputs, targets = batch
        return loss_of(self.problem, self.net(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As the bare loop's."""
        p = self.problem
        return torch.optim.AdamW(self.parameters(), lr=p.learning_rate, weight_decay=p.weight_decay, fused=True)


class Pause(lightning.Callback):
    """Ends a block after its steps."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.done = blocks, 0

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The first block begins."""
        self.blocks.begin()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """One step more."""
        self.done += 1
        if self.done % self.blocks.steps == 0 and not self.blocks.end():
            trainer.should_stop = True


class Lightning:
    """The module; every training has a Trainer of its own."""

    about = "AdamW(fused=True), DataLoader without workers"

    def __init__(self, problem: Problem) -> None:
        warnings.filterwarnings("ignore")  # that workers and checkpoints would be good to have
        torch.set_num_threads(problem.threads)
        torch.manual_seed(0)
        self.problem, self.module = problem, Module(problem)
        self.loader = DataLoader(
            TensorDataset(*tensors(problem)), batch_size=problem.batch_size, shuffle=True, drop_last=True
        )

    def restore(self) -> None:
        """The weights of the problem."""
        weights = {rename(name): torch.from_numpy(w) for name, w in self.problem.weights.items()}
        self.module.net.load_state_dict(weights)

    @torch.no_grad()
    def loss(self) -> float:
        """Of the first examples."""
        self.module.eval()
        inputs, targets = map(torch.from_numpy, self.problem.first_batch)
        loss = float(loss_of(self.problem, self.module.net(inputs), targets))
        self.module.train()
        return loss

    def train(self, blocks: Blocks) -> None:
        """`Trainer.fit`, which `Pause` ends."""
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            gradient_clip_val=self.problem.clip,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Pause(blocks)],
        )
        trainer.fit(self.module, self.loader)


def make(row: Row, problem: Problem, option: str | None) -> Lightning:
    """The peer."""
    return Lightning(problem)

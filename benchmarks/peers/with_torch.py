"""Bare PyTorch: torch.nn layers in a plain loop, with the fused AdamW, as someone who knows PyTorch would write it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.problem import Problem
from benchmarks.peers.rows import Row
from benchmarks.peers.worker import Blocks

__all__ = ["Net", "loss_of", "make", "tensors"]

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
HEADS = 4


class TransformerLayer(nn.Module):
    """Pre-norm attention with rotary positions, pre-norm feed-forward of twice the width, and a last norm."""

    def __init__(self, width: int, length: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm_attention, self.norm_feed, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        d = width // HEADS
        angle = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, d, 2) / d)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        """(B, heads, T, d) turned by the position."""
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(B, T, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=self.causal)
        x = x + self.merge(mixed.transpose(1, 2).reshape(B, T, D))
        x = x + self.narrow(F.gelu(self.widen(self.norm_feed(x))))
        return self.norm_out(x)


class Net(nn.Module):
    """The net of a `Problem`: (B, T) tokens or (B, T, D) features to what its last linear layer gives."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        p = problem
        self.kind, self.tokens = p.kind, p.tokens > 0
        self.embed: nn.Module = nn.Identity()
        if p.embeds:
            self.embed = nn.Embedding(p.tokens, p.widths[0]) if p.tokens else nn.Linear(p.features, p.widths[0])
        widths_in = (p.widths[0] if p.embeds else p.features, *p.widths[:-1])
        self.layers = nn.ModuleList(self._layer(p, *pair) for pair in zip(widths_in, p.widths, strict=True))
        self.dropout = nn.Dropout(p.dropout)
        self.out = nn.Linear(p.widths[-1] * (2 if p.kind == "classify" else 1), p.outputs)
        self.load_state_dict({rename(name): torch.from_numpy(w) for name, w in p.weights.items()})

    @staticmethod
    def _layer(p: Problem, d_in: int, d: int) -> nn.Module:
        if p.model == "transformer":
            return TransformerLayer(d, p.inputs.shape[1], p.causal)
        if p.model == "bilstm":
            return nn.LSTM(d_in, d // 2, batch_first=True, bidirectional=True)
        return CELLS[p.model](d_in, d, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Raw outputs: (B, K), or (B, T, V) where every step has one."""
        x = self.embed(x.long() if self.tokens else x)
        for i, layer in enumerate(self.layers):
            y = layer(x)
            y = y[0] if isinstance(y, tuple) else y
            if self.kind == "forecast" and i == len(self.layers) - 1:
                y = y[:, -1]  # all that is read
            x = self.dropout(y)
        if self.kind == "classify":
            x = torch.cat([x.sum(dim=1) / math.sqrt(x.shape[1]), x[:, -1]], dim=1)
        return self.out(x)


def rename(name: str) -> str:
    """The name in `Net` of what seqbench calls ``name``."""
    name = name.replace("head.out.", "out.").replace(".kernel.", ".").replace(".ahead.", ".")
    return name.replace(".back.", ".") + "_reverse" if ".back." in name else name


def loss_of(problem: Problem, output: Tensor, targets: Tensor) -> Tensor:
    """Squared error, or cross-entropy."""
    if problem.kind == "forecast":
        return F.mse_loss(output, targets.flatten(1))
    return F.cross_entropy(output.flatten(0, -2), targets.long().flatten())


def tensors(problem: Problem) -> tuple[Tensor, Tensor]:
    """All examples."""
    return torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)


class BareTorch:
    """A net and a loop over random batches, each example once an epoch."""

    about = "AdamW(fused=True)"

    def __init__(self, problem: Problem) -> None:
        torch.set_num_threads(problem.threads)
        torch.manual_seed(0)
        self.problem, self.net = problem, Net(problem)
        self.inputs, self.targets = tensors(problem)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=problem.learning_rate, weight_decay=problem.weight_decay, fused=True
        )
        self.order = torch.empty(0, dtype=torch.long)

    def restore(self) -> None:
        """The weights of the problem."""
        self.net.load_state_dict({rename(name): torch.from_numpy(w) for name, w in self.problem.weights.items()})

    @torch.no_grad()
    def loss(self) -> float:
        """Of the first examples."""
        self.net.eval()
        inputs, targets = map(torch.from_numpy, self.problem.first_batch)
        loss = float(loss_of(self.problem, self.net(inputs), targets))
        self.net.train()
        return loss

    def train(self, blocks: Blocks) -> None:
        """The plain loop."""
        going_on = True
        blocks.begin()
        while going_on:
            for _ in range(blocks.steps):
                self.step()
            going_on = blocks.end()

    def step(self) -> None:
        """One batch."""
        size = self.problem.batch_size
        if len(self.order) < size:
            self.order = torch.randperm(len(self.inputs))
        indices, self.order = self.order[:size], self.order[size:]
        loss = loss_of(self.problem, self.net(self.inputs[indices]), self.targets[indices])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.problem.clip)
        self.optimizer.step()


def make(row: Row, problem: Problem, option: str | None) -> BareTorch:
    """The peer."""
    return BareTorch(problem)

"""A layer that sees a window of its input and no more, and made-up texts."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seqbench.models.backbone import SequenceModel
from seqbench.models.heads import GenerateHead, Shape
from seqbench.models.mixer import Mixer

WINDOW, LAG = 6, 6


class Windowed(Mixer):
    """Output t is a random map of inputs t - 5 to t, and of nothing else."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = nn.Conv1d(d_in, d_out, WINDOW)

    def forward(self, x, lengths=None):
        return torch.tanh(self.map(F.pad(x.transpose(1, 2), (WINDOW - 1, 0)))).transpose(1, 2)

    def state_size(self, length):
        return self.d_in * (WINDOW - 1)


def net(mixer, symbols=8):
    """In double precision, so that losses can be compared one by one."""
    torch.manual_seed(0)
    return SequenceModel(mixer, GenerateHead, Shape(symbols, 0, (symbols,), True), (8,)).double().eval()


def text(length, symbols=8):
    return np.random.default_rng(0).integers(0, symbols, length)

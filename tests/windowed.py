"""A layer that sees a window of its input and no more, and made-up texts."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seqbench.models.backbone import SequenceModel
from seqbench.models.heads import GenerateHead
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


def net(mixer, seed=0, vocabulary="abcdefg "):
    class Data:
        pass

    data = Data()
    data.vocabulary, data.features = tuple(vocabulary), ()
    torch.manual_seed(seed)
    return SequenceModel(mixer, GenerateHead, data, (8,)).double().eval()


def text(length, seed=0, symbols=8):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, symbols, length))

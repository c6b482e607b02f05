"""A plug-in of layers that break the contract, each in its own way."""

import torch

import seqbench


class Linear(seqbench.Mixer):
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def state_size(self, length):
        return 0


@seqbench.register_model("shortens")
class Shortens(Linear):
    def forward(self, x, lengths=None):
        return self.map(x)[:, 1:]


@seqbench.register_model("not-a-number")
class NotANumber(Linear):
    def forward(self, x, lengths=None):
        return self.map(x) * float("nan")


@seqbench.register_model("peeks")
class Peeks(Linear):
    def forward(self, x, lengths=None):
        return self.map(x + x.roll(-1, dims=1))


@seqbench.register_model("peeks-unseen")
class PeeksUnseen(Linear):
    """Its look ahead has no derivative."""

    def forward(self, x, lengths=None):
        return self.map(x + x.roll(-1, dims=1).sign())


@seqbench.register_model("narrows")
class Narrows(Linear):
    def forward(self, x, lengths=None):
        return self.map(x)[:, :, 1:]


@seqbench.register_model("breaks")
class Breaks(Linear):
    def forward(self, x, lengths=None):
        raise RuntimeError("no such luck")

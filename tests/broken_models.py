"""A plug-in of models whose processes come to grief in training, each in its own way."""

import os
import signal
import time

import torch

import seqbench


class Broken(seqbench.Mixer):
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def state_size(self, length):
        return 0

    def forward(self, x, lengths=None):
        if self.training:
            self.come_to_grief()
        return self.map(x)


@seqbench.register_model("killed")
class Killed(Broken):
    def come_to_grief(self):
        os.kill(os.getpid(), signal.SIGKILL)


@seqbench.register_model("leaves")
class Leaves(Broken):
    def come_to_grief(self):
        print("so long", flush=True)
        os._exit(0)


@seqbench.register_model("crashes")
class Crashes(Broken):
    def come_to_grief(self):
        raise RuntimeError("no such luck")


@seqbench.register_model("starves")
class Starves(Broken):
    def come_to_grief(self):
        torch.empty(2**60)


@seqbench.register_model("hangs")
class Hangs(Broken):
    def come_to_grief(self):
        time.sleep(1000)


@seqbench.register_model("slow")
class Slow(Broken):
    def come_to_grief(self):
        time.sleep(0.02)

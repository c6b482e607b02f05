"""Cases of the gradient probe, as its tests plan and measure them."""

import torch

from seqbench.device import settings
from seqbench.experiment import Listener
from seqbench.probes import Found, Request
from seqbench.probes.gradient import PROBE
from seqbench.probes.options import GradientOptions

CAUSAL = ["gru", "lstm", "rnn", "transformer"]


def plan(models, budget="smoke", seeds=None, **options):
    return PROBE.cases(Request(budget=budget, seeds=seeds), GradientOptions(**options), models, "cpu")


def measured(case):
    with settings(torch.device("cpu"), case):
        return Found(case, PROBE.measure(case, Listener()), None)

"""Measurements of the gradient probe, as its tests plan and make them."""

import torch

from seqbench.device import settings
from seqbench.jobs.job import Listener
from seqbench.probes import Measured, Request
from seqbench.probes.gradient import Gradient, GradientOptions

PROBE = Gradient()
CAUSAL = ["gru", "lstm", "rnn", "transformer"]


def plan(models, budget="smoke", seeds=None, **options):
    return PROBE.plan(Request(budget=budget, seeds=seeds), GradientOptions(**options), models, "cpu")


def measured(spec):
    with settings(torch.device("cpu"), spec):
        return Measured(spec, PROBE.measure(spec, Listener()), None)

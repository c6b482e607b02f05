"""Layers with vanishing gradients against the same with others: `pytest tests/benchmarks -k denormals -s`.

Read at the last of many steps, the gradients of a layer with small recurrent weights end below the least normal
number. Some processors compute such numbers a hundred times more slowly; with these flushed to zero (`device.settings`)
both take the same time. The ratio of the medians, in turns, is printed and kept; 1.1 is what it should stay under.

It takes longer than the rest of the suite and is read by hand: two revisions are compared without it.
"""

import statistics
import time

import pytest

ROUNDS, BATCH, WIDTH = 7, 64, 128


def passes(layer, x, gradient):
    """Seconds of a forward and a backward pass."""
    layer.zero_grad()
    started = time.perf_counter()
    layer(x).backward(gradient)
    return time.perf_counter() - started


@pytest.mark.benchmark(group="denormals")
@pytest.mark.parametrize("length", [200, 1024])
@pytest.mark.parametrize("kernel", ["torch", "fast"])
@pytest.mark.parametrize("model", ["rnn", "lstm", "gru"])
def test_vanishing_gradients_cost_what_others_cost(benchmark, device, model, kernel, length):
    import torch

    from seqbench.models.mixer import MODELS

    layer = MODELS.get(model).mixer(WIDTH, WIDTH, True)
    layer.choice = kernel
    with torch.no_grad():
        for name, weights in layer.named_parameters():
            weights.mul_(0.5 if "hh" in name else 1.0)
    x = torch.randn(BATCH, length, WIDTH)
    everywhere = torch.randn(BATCH, length, WIDTH)
    last = torch.zeros_like(everywhere)
    last[:, -1] = everywhere[:, -1]
    times = {"last": [], "everywhere": []}
    for gradient in (last, everywhere):
        passes(layer, x, gradient)
    for i in range(ROUNDS):
        for name in ("last", "everywhere") if i % 2 else ("everywhere", "last"):
            times[name].append(passes(layer, x, {"last": last, "everywhere": everywhere}[name]))
    benchmark.pedantic(passes, (layer, x, last), rounds=1)
    ratio = statistics.median(times["last"]) / statistics.median(times["everywhere"])
    benchmark.extra_info["ratio"] = ratio
    print(f"\n{model} {kernel} T {length}: {statistics.median(times['last']) * 1e3:.1f} ms, {ratio:.3f} of the other")

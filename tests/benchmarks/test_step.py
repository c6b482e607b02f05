"""A training step against the bare loop's: `pytest tests/benchmarks --benchmark-only -s`.

Both run in this process on the same model and data, in turns whose order alternates, and the ratio of the medians is
printed and kept in the benchmark's `extra_info`. Nothing here decides a test: a busy machine must not fail one.
"""

import statistics
import time

import numpy as np
import pytest
import torch

from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import resolve
from seqbench.models.backbone import build, shape_of
from seqbench.task import Budget
from seqbench.training import fit

STEPS, ROUNDS = 20, 12
CASES = [("dna", "lstm"), ("weather", "gru"), ("textgen", "rnn"), ("dna", "transformer")]


def bare_loop(model, split, config, kind):
    """What one would write by hand: the same batches, loss, clipping and optimiser, and nothing else."""
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in split.arrays().items()}
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(split)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    started = time.perf_counter()
    for step in range(STEPS):
        indices = order[step * 32 : (step + 1) * 32]
        if kind == "classify":
            inputs, targets = arrays["inputs"][indices].long(), arrays["targets"][indices]
        elif kind == "forecast":
            at = arrays["starts"][indices][:, None]
            inputs, targets = arrays["series"][at + arrays["past"]], arrays["target_series"][at + arrays["future"]]
        else:
            at = arrays["starts"][indices][:, None] + arrays["offsets"]
            inputs, targets = arrays["tokens"][at].long(), arrays["tokens"][at + 1].long()
        output = model(inputs, None)
        if kind == "forecast":
            loss = torch.nn.functional.mse_loss(output, targets)
        else:
            loss = torch.nn.functional.cross_entropy(output.flatten(0, -2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
    return (time.perf_counter() - started) / STEPS


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_step_costs_what_the_bare_loop_costs(benchmark, monkeypatch, task, name):
    planned = resolve(RunConfig(task=task, model=name))
    config = planned.config
    spec, data = planned.prepared.spec, planned.data
    # the validation split is not part of a step
    monkeypatch.setattr("seqbench.training.evaluate", lambda *_: {spec.primary.name: 0.0})
    model = build(name, spec.kind, shape_of(spec.kind, data), (128,))

    def ours():
        return fit(model, spec, data, config, Budget(STEPS, 32, 1)).train_seconds / STEPS

    def theirs():
        return bare_loop(model, data.train, config, spec.kind)

    times = {ours: [], theirs: []}
    with settings(planned.device, config):
        ours(), theirs()
        for i in range(ROUNDS):
            for run in (ours, theirs) if i % 2 else (theirs, ours):
                times[run].append(run())
        benchmark.pedantic(ours, rounds=1)
    ratio = statistics.median(times[ours]) / statistics.median(times[theirs])
    low, high = np.percentile([a / b for a, b in zip(times[ours], times[theirs], strict=True)], [10, 90])
    benchmark.extra_info["ratio"] = ratio
    print(
        f"\n{task} {name}: {statistics.median(times[ours]) * 1e3:.2f} ms a step, {ratio:.3f} of the bare loop's "
        f"(80% of the {ROUNDS} pairs: {low:.3f} to {high:.3f})"
    )

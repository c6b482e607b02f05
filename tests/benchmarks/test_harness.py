"""Training through the harness (`seqbench.training.fit`) and in a bare PyTorch loop, on the same model and data.

Both take the same number of steps, which `extra_info` holds. The ratio of the two is what the harness costs: its
batches, learning rates, counts and clocks, and what it does once before and after the steps. Read it from the table of
the group, whose times stand side by side.
"""

import numpy as np
import pytest

STEPS, BATCH = 20, 32
CASES = {"dna-lstm": ("dna", "lstm"), "weather-gru": ("weather", "gru")}


@pytest.fixture
def case(request, device, monkeypatch):
    """The model on the device, what is planned for it, and its training data."""
    from seqbench.config import RunConfig
    from seqbench.experiment import resolve
    from seqbench.models.backbone import build, shape_of

    task, name = CASES[request.param]
    planned = resolve(RunConfig(task=task, model=name, device=device.type))
    spec = planned.prepared.spec
    # the validation split is not part of a step
    monkeypatch.setattr("seqbench.training.evaluate", lambda *_: {spec.primary.name: 0.0})
    # a short run reports after every step, and every report costs something; one of 2,000 steps after every tenth
    monkeypatch.setattr("seqbench.training.REPORTS", STEPS // 10, raising=False)
    return build(name, spec.kind, shape_of(spec.kind, planned.data), (128,)).to(device), planned


@pytest.mark.benchmark(group="harness")
@pytest.mark.parametrize("case", CASES, indirect=True)
def test_fit(benchmark, measure, case):
    from seqbench.task import Budget
    from seqbench.training import fit

    model, planned = case
    benchmark.extra_info["steps"] = STEPS
    budget = Budget(STEPS, BATCH, 1)
    measure(lambda: fit(model, planned.prepared.spec, planned.data, planned.config, budget), seconds=0.4)


@pytest.mark.benchmark(group="harness")
@pytest.mark.parametrize("case", CASES, indirect=True)
def test_bare_loop(benchmark, measure, case, device):
    import torch

    model, planned = case
    split, kind, config = planned.data.train, planned.prepared.spec.kind, planned.config
    arrays = {name: torch.from_numpy(np.array(array)).to(device) for name, array in split.arrays().items()}
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(split))).to(device)
    benchmark.extra_info["steps"] = STEPS

    def loop():
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
        for step in range(STEPS):
            inputs, targets = batch_of(arrays, kind, order[step * BATCH : (step + 1) * BATCH])
            output = model(inputs, None)
            if kind == "classify":
                loss = torch.nn.functional.cross_entropy(output, targets.long())
            else:
                loss = torch.nn.functional.mse_loss(output, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()

    model.train()
    measure(loop, seconds=0.4)


def batch_of(arrays, kind, indices):
    """Inputs and targets as one would gather them by hand."""
    if kind == "classify":
        return arrays["inputs"][indices].long(), arrays["targets"][indices]
    at = arrays["starts"][indices][:, None]
    return arrays["series"][at + arrays["past"]], arrays["target_series"][at + arrays["future"]]

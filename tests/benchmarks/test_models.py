"""A training step and an inference step of every registered model, on tokens drawn from one seed.

The step is written out here: what is timed is the model with its head, and not the harness (`test_harness.py`).
Plug-ins are timed like the built-in models.
"""

from typing import NamedTuple

import pytest


class Size(NamedTuple):
    """What a step works on; ``real`` has the length, the vocabulary and the classes of the task dna."""

    width: int
    batch: int
    length: int
    vocabulary: int = 4
    classes: int = 3


SIZES = {"small": Size(width=32, batch=8, length=32), "real": Size(width=128, batch=32, length=80)}


@pytest.fixture
def case(model_name, size, device):
    """The model on the device, and a batch of tokens and classes."""
    import torch

    from seqbench.data import Batch
    from seqbench.models.backbone import build
    from seqbench.models.heads import Shape
    from seqbench.models.mixer import MODELS

    sizes = SIZES[size]
    multiple = MODELS.get(model_name).mixer.width_multiple
    width = -(-sizes.width // multiple) * multiple  # a plug-in may have no such width: then the next one
    model = build(model_name, "classify", Shape(sizes.vocabulary, 0, (sizes.classes,)), (width,), dropout=0.1)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(sizes.vocabulary, (sizes.batch, sizes.length), generator=generator)
    targets = torch.randint(sizes.classes, (sizes.batch,), generator=generator)
    return model.to(device), Batch(tokens.to(device), None, targets.to(device))


@pytest.mark.benchmark(group="training")
@pytest.mark.parametrize("size", SIZES)
def test_training_step(measure, case):
    import torch

    model, batch = case
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step():
        loss = model.head.loss(model(batch.inputs, batch.lengths), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    model.train()
    measure(step)


@pytest.mark.benchmark(group="inference")
@pytest.mark.parametrize("size", SIZES)
def test_inference_step(measure, case):
    import torch

    model, batch = case
    model.eval()
    with torch.no_grad():
        measure(lambda: model.head.predict(model(batch.inputs, batch.lengths), batch))

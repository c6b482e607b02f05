"""A captured step: what it copies in, that preparing it changes nothing, and what becomes of one that can't be had.

No GPU is needed: what records a graph is replaced by functions that replay as one would, or fail as one might. With a
GPU `test_gpu.py` says the rest.
"""

import numpy as np
import pytest
import torch

from seqbench.config import RunConfig
from seqbench.experiment import resolve
from seqbench.models.backbone import build, shape_of
from seqbench.task import Budget
from seqbench.training import AdamW, CapturedStep, Carried, DeviceSplit, Losses, TrainingStep, capture, fit

BATCH = 8
RATES = [2.0**-7, 2.0**-9, 2.0**-8]  # a graph reads them in single precision, which holds these


CASES = {
    "toy-wave": ("toy-wave", "forecast", False),
    "toy-text": ("toy-text", "generate", False),
    "carried": ("toy-text", "generate", True),
}


@pytest.fixture(params=CASES)
def fresh(request):
    """``fresh()`` is the step of a new model, the same every time."""
    task, kind, carry = CASES[request.param]
    planned = resolve(RunConfig(task=task, model="gru", hidden=(8,), dropout=0.0, carry_state=carry))

    def make():
        torch.manual_seed(5)
        model = build("gru", kind, shape_of(kind, planned.data), (8,))
        return step_of(model, planned)

    return make


def step_of(model, planned):
    cpu = torch.device("cpu")
    optimizer = AdamW(model.parameters(), 0.01)
    carried = Carried(model, BATCH) if planned.config.carry_state else None
    return TrainingStep(model, DeviceSplit(planned.data.train, cpu), optimizer, Losses(cpu), planned.config, carried)


def train(step):
    """Three batches; where the state is carried, half of the rows go on in each, and half begin elsewhere."""
    for i, rate in enumerate(RATES):
        step(np.arange(i, i + BATCH) + 12 * i * (np.arange(BATCH) % 2), rate)
    return step


def same(one, other):
    pairs = zip(one.changed(), other.changed(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and one.losses.count == other.losses.count


def test_a_replayed_step_is_the_eager_step(fresh):
    lines = []
    captured = capture(fresh(), BATCH, lines.append, lambda captured: captured.run)
    assert isinstance(captured, CapturedStep) and lines == []
    train(captured)
    assert same(captured.step, train(fresh()))
    assert not same(captured.step, fresh())


def test_a_replay_reads_what_was_copied_into_the_same_memory(fresh):
    captured = CapturedStep(fresh(), 3)
    at = captured.words.data_ptr()
    captured.load(np.array([4, 0, 2]), 2.0**-7)
    assert captured.indices.tolist() == [4, 0, 2] and captured.rate.item() == 2.0**-7
    captured.load(np.array([1, 1, 5]), 3e-3)
    assert captured.indices.tolist() == [1, 1, 5] and captured.rate.item() == np.float32(3e-3)
    assert captured.words.data_ptr() == at == captured.indices.data_ptr()


def test_preparing_a_graph_changes_nothing(fresh):
    def record(captured):
        torch.rand(3)
        for _ in range(5):
            captured.run()
        return captured.run

    step, random = fresh(), torch.get_rng_state()
    capture(step, BATCH, lambda line: None, record)
    assert same(step, fresh()) and torch.equal(torch.get_rng_state(), random)


def test_where_a_graph_cannot_be_had_steps_are_eager_and_a_line_says_why(fresh):
    def record(captured):
        captured.run()
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    lines, step = [], fresh()
    assert capture(step, BATCH, lines.append, record) is step and same(step, fresh())
    (line,) = lines
    assert line.endswith("operation not permitted when stream is capturing") and "CUDA graph" in line
    assert same(train(step), train(fresh()))


@pytest.mark.parametrize("replay", [lambda: None, "half"], ids=["nothing", "half"])
def test_a_replay_that_does_something_else_is_not_used(fresh, replay):
    def record(captured):
        def half():
            captured.indices[: BATCH // 2] = 0
            captured.run()

        return half if replay == "half" else replay

    lines, step = [], fresh()
    assert capture(step, BATCH, lines.append, record) is step and same(step, fresh())
    assert "other gradients" in lines[0]


def test_a_layer_that_draws_its_masks_in_python_is_noticed(fresh):
    """A graph repeats the first mask for ever: here a replay that draws nothing anew stands for it."""
    step, masks = fresh(), np.random.default_rng(0)

    class Masked(torch.nn.Module):
        frozen = None

        def forward(self, x, lengths=None):
            mask = self.frozen
            if mask is None:
                mask = torch.from_numpy(masks.random(tuple(x.shape)) < 0.5)
            self.mask = mask
            return x * mask

    layer = Masked()
    step.model.dropout = layer

    def record(captured):
        captured.run()
        layer.frozen = layer.mask
        return captured.run

    assert capture(step, BATCH, lambda line: None, record) is step


def test_on_a_cpu_no_graph_is_tried():
    planned = resolve(RunConfig(task="toy-wave", model="gru", hidden=(8,)))
    model = build("gru", "forecast", shape_of("forecast", planned.data), (8,))
    lines = []
    done = fit(model, planned.prepared.spec, planned.data, planned.config, Budget(120, BATCH, 1), say=lines.append)
    assert not done.graph and lines == []

"""FLOPs are those of torch's own counter, without what that imports."""

import copy
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from test_models import BUILT_IN, labelled, text
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seqbench.models.backbone import build, shape_of
from seqbench.models.sizing import count_flops, flops_per_sample


def by_torch(module, inputs):
    shadow = copy.deepcopy(module).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(inputs, None)
    return counter.get_total_flops()


@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("length", [1, 37])
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models_have_the_flops_that_torch_counts(name, length, backbone):
    shape = shape_of("classify", labelled())
    model = build(name, "classify", shape, (16, 8), backbone=backbone)
    expected = by_torch(model, shape.example(1, length, "meta"))
    assert flops_per_sample(model, length) == expected > 0


def test_a_model_of_text_has_the_flops_that_torch_counts():
    shape = shape_of("generate", text())
    model = build("gru", "generate", shape, (24,))
    assert flops_per_sample(model, 16) == by_torch(model, shape.example(1, 16, "meta"))


class Layer(nn.Module):
    """What a user may build of: one of the parts below between two linear maps."""

    def __init__(self, part):
        super().__init__()
        self.part, self.linear = part, nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x, lengths=None):
        return self.linear(self.part(self.linear(x)) if isinstance(self.part, nn.Module) else self.part(self, x))


class Swapped(nn.Module):
    """What runs over the features in place of the steps, as a convolution does."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        y = self.part(x.transpose(1, 2))
        return (y[0] if isinstance(y, tuple) else y).transpose(1, 2)


def attention(layer, x):
    q = x.reshape(len(x), -1, 2, 4).transpose(1, 2)
    y = nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    return y.transpose(1, 2).reshape(x.shape)


def branches(layer, x):
    return torch.cond(layer.weight.sum() > 0, lambda y: y @ y.mT @ y, lambda y: y.clone(), (x,))


PARTS = {
    "convolution": Swapped(nn.Conv1d(8, 8, 3, padding=1, groups=2)),
    "transposed convolution": Swapped(nn.ConvTranspose1d(8, 8, 3, padding=1)),
    "attention": attention,
    "lstm of two ways with projections": Swapped(nn.LSTM(12, 12, 2, bidirectional=True, proj_size=6, batch_first=True)),
    "encoder layer": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "bilinear": lambda layer, x: nn.functional.bilinear(x, x, torch.ones(8, 8, 8, device=x.device)),
    "einsum": lambda layer, x: torch.einsum("btd,de,bse->bse", x, layer.weight, x),
    "products": lambda layer, x: (
        torch.baddbmm(x, x @ x.mT, x) + torch.matmul(x, layer.weight) + x[0].mv(layer.weight[0])[:, None]
    ),
    "loop": lambda layer, x: torch.stack([torch.addmm(step, step, layer.weight) for step in x.unbind(1)], 1),
    "fourier": lambda layer, x: torch.fft.irfft(torch.fft.rfft(x, dim=1), n=x.shape[1], dim=1),
    "cond": branches,
}


@pytest.mark.parametrize("name", PARTS)
def test_layers_of_users_have_the_flops_that_torch_counts(name):
    layer, inputs = Layer(PARTS[name]), torch.zeros(2, 12, 8, device="meta")
    assert count_flops(layer, inputs) == by_torch(layer, inputs) > 0


def test_what_can_not_run_without_values_has_no_flops():
    layer = Layer(lambda layer, x: x * x.sum().item())
    assert count_flops(layer, torch.zeros(1, 5, 8, device="meta")) is None


def test_a_whole_run_imports_no_compiler_and_nothing_else_that_is_heavy(tmp_path):
    """Baselines and data are made before, which may import what they need."""
    code = """
import sys
from pathlib import Path
from seqbench.config import RunConfig
from seqbench.experiment import run_cell
from seqbench.jobs.store import Store
from seqbench.registry import load_plugin
load_plugin(Path(sys.argv[2]))
heavy = {"torch._dynamo", "torch._inductor", "sympy", "networkx", "pandas", "sklearn", "scipy", "matplotlib"}
for task, backbone in (("toy-wave", "bare"), ("toy-first", "residual")):
    for model in MODELS:
        config = RunConfig(task=task, model=model, budget="smoke", hidden=8, backbone=backbone)
        record = run_cell(config, Store(Path(sys.argv[1]))).record
        assert record.status in ("ok", "not_applicable"), record.reason
        assert record.status != "ok" or record.cost.flops_per_sample > 0
print(*sorted(heavy & set(sys.modules)))
""".replace("MODELS", repr(BUILT_IN))
    for folder in ("first", "again"):
        words = [sys.executable, "-c", code, str(tmp_path / folder), str(ROOT / "tests" / "toys.py")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""

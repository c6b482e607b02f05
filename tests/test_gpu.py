"""The same promises on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import build, check_causal, shape_of
from seqbench.models.mixer import MODELS as REGISTERED
from seqbench.prepare import prepare
from seqbench.task import TASKS
from seqbench.training import predict_split

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
MODELS = ["bilstm", "gru", "lstm", "rnn", "transformer"]


def run(tmp_path, task, model, force=False, **config):
    chosen = RunConfig(task=task, model=model, device="cuda", **{"budget": "smoke", "hidden": (16,), **config})
    return run_cell(chosen, Store(tmp_path), force=force)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["toy-first", "toy-wave", "toy-text"])
def test_a_run_on_the_gpu_is_ok_and_repeats_itself(tmp_path, task, model):
    first = run(tmp_path, task, model, dropout=0.3, layers=2).record
    if first.status == "not_applicable":
        return
    again = run(tmp_path, task, model, force=True, dropout=0.3, layers=2).record
    assert first.status == "ok" and first.metrics == again.metrics
    assert first.environment.device == "cuda" and first.environment.device_name == torch.cuda.get_device_name()
    assert 0 < first.cost.peak_memory_bytes < 2**32


@pytest.mark.parametrize("model", MODELS)
def test_cpu_and_gpu_agree_on_the_same_weights(model):
    data = prepare("toy-first", {}).data
    config = RunConfig(task="toy-first", model=model)
    with settings(torch.device("cuda"), config):  # TF32 off
        built = build(model, "classify", shape_of("classify", data), (16,)).eval()
        on_cpu = predict_split(built, data.test, config)
        assert np.allclose(on_cpu, predict_split(built.cuda(), data.test, config), atol=1e-4)


@pytest.mark.parametrize("model", ["gru", "lstm", "rnn", "transformer"])
def test_causality_holds_on_the_gpu(model):
    data = prepare("toy-text", {}).data
    check_causal(build(model, "generate", shape_of("generate", data), (16,)).cuda(), data.train[[0]].inputs[:, :12])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_run(tmp_path, precision, model):
    assert run(tmp_path, "toy-first", model, precision=precision).record.status == "ok"


@pytest.mark.parametrize("model", ["bilstm", "gru", "lstm", "rnn"])
def test_bf16_is_bf16_in_recurrent_kernels(model):
    layer = REGISTERED.get(model).mixer(16, 16, True).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert layer(torch.randn(2, 5, 16, device="cuda")).dtype == torch.bfloat16


def test_out_of_memory_is_a_record(tmp_path):
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        record = run(tmp_path, "dna", "transformer", hidden=(8192,)).record
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert record.status == "oom" and record.cost is None
    assert TASKS.get("dna").name == record.task.name

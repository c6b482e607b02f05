"""The same promises on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch
from test_models import BUILT_IN, CAUSAL

from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import resolve, run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import build, check_causal, shape_of
from seqbench.models.mixer import MODELS, Regularisers
from seqbench.prepare import prepare
from seqbench.task import TASKS, Budget
from seqbench.training import Checkpoint, fit, predict_split

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def run(tmp_path, task, model, force=False, **config):
    chosen = RunConfig(task=task, model=model, device="cuda", **{"budget": "smoke", "hidden": (16,), **config})
    return run_cell(chosen, Store(tmp_path), force=force)


@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("task", ["toy-first", "toy-wave", "toy-text"])
def test_a_run_on_the_gpu_is_ok_and_repeats_itself(tmp_path, task, model):
    first = run(tmp_path, task, model, dropout=0.3, layers=2).record
    if first.status == "not_applicable":
        return
    again = run(tmp_path, task, model, force=True, dropout=0.3, layers=2).record
    assert first.status == "ok" and first.metrics == again.metrics
    assert first.environment.device == "cuda" and first.environment.device_name == torch.cuda.get_device_name()
    assert 0 < first.cost.peak_memory_bytes < 2**32


@pytest.mark.parametrize("model", BUILT_IN)
def test_cpu_and_gpu_agree_on_the_same_weights(model):
    data = prepare("toy-first", {}).data
    config = RunConfig(task="toy-first", model=model)
    with settings(torch.device("cuda"), config):  # TF32 off
        built = build(model, "classify", shape_of("classify", data), (16,)).eval()
        on_cpu = predict_split(built, data.test, config)
        assert np.allclose(on_cpu, predict_split(built.cuda(), data.test, config), atol=1e-4)


@pytest.mark.parametrize("model", CAUSAL)
def test_causality_holds_on_the_gpu(model):
    data = prepare("toy-text", {}).data
    check_causal(build(model, "generate", shape_of("generate", data), (16,)).cuda(), data.train[[0]].inputs[:, :12])


@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_run(tmp_path, precision, model):
    assert run(tmp_path, "toy-first", model, precision=precision).record.status == "ok"


@pytest.mark.parametrize("model", ["bilstm", "gru", "lstm", "rnn"])
def test_bf16_is_bf16_in_recurrent_kernels(model):
    layer = MODELS.get(model).mixer(16, 16, True).cuda()
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


STEPS = 120  # enough for a graph to be captured


class Sized:
    """The training of a cell by hand: the weights that it ends with, and whether a graph was used."""

    def __init__(self, task, model, graph=True, layer=None, checkpoint=None, report=lambda step, loss: None, **config):
        chosen = RunConfig(task=task, model=model, device="cuda", hidden=(32,), **{"dropout": 0.3, **config})
        planned = resolve(chosen)
        kind, device, self.lines = planned.prepared.spec.kind, torch.device("cuda"), []
        with settings(device, planned.config):
            built = build(
                model, kind, shape_of(kind, planned.data), chosen.widths, planned.config.dropout,
                regularisers=Regularisers.of(vars(chosen)),
            ).to(device)  # fmt: skip
            if layer is not None:
                built.layers[0] = layer(built.layers[0])
            budget = Budget(STEPS, 16, 4)
            self.fit = fit(
                built, planned.prepared.spec, planned.data, planned.config, budget, report, checkpoint,
                say=self.lines.append, graph=graph,
            )  # fmt: skip
        self.weights = {name: tensor.cpu() for name, tensor in built.state_dict().items()}
        self.losses = [point["train_loss"] for point in self.fit.curve]

    def same(self, other):
        return all(torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items())


FIXED = ["toy-wave", "toy-text"]  # where all sequences have one length


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("model", CAUSAL)
@pytest.mark.parametrize("task", FIXED)
def test_a_graph_trains_as_eager_steps_do_and_repeats_itself(task, model, precision):
    eager = Sized(task, model, graph=False, precision=precision)
    graph, again = (Sized(task, model, precision=precision) for _ in range(2))
    assert graph.lines == [] and graph.fit.graph and not eager.fit.graph
    assert graph.same(again) and graph.losses == again.losses
    assert graph.losses == pytest.approx(eager.losses, rel=0.05 if precision == "bf16" else 0.01)
    assert graph.fit.peak_memory <= 3 * eager.fit.peak_memory + 2**24


def test_a_graph_trains_to_the_last_bit_as_eager_steps_do():
    assert Sized("toy-text", "lstm").same(Sized("toy-text", "lstm", graph=False))


REGULAR = {"dropout": 0.0, "recurrent_dropout": 0.3, "max_norm": 0.8}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["gru", "lstm", "rnn"])
def test_a_regularised_model_trains_as_a_graph_and_repeats_itself(model, precision):
    chosen = {**REGULAR, "zoneout": (0.2, 0.1) if model == "lstm" else (0.2,), "precision": precision}
    graph, again = (Sized("toy-wave", model, **chosen) for _ in range(2))
    assert graph.lines == [] and graph.fit.graph and graph.same(again)
    assert graph.losses == pytest.approx(Sized("toy-wave", model, graph=False, **chosen).losses, rel=0.05)
    assert graph.losses != Sized("toy-wave", model, **{**chosen, "zoneout": ()}).losses


@pytest.mark.parametrize("model", ["bilstm", "gru", "lstm", "rnn"])
def test_a_regularised_run_on_the_gpu_is_ok_and_repeats_itself(tmp_path, model):
    """Of sequences of different lengths, so without a graph."""
    chosen = {**REGULAR, "zoneout": (0.2,), "layers": 2}
    first, again = (run(tmp_path, "toy-first", model, force=force, **chosen).record for force in (False, True))
    assert first.status == "ok" and first.metrics == again.metrics and "written" in first.environment.kernel


CARRY = [name for name in CAUSAL if MODELS.get(name).mixer.carries]


@pytest.mark.parametrize("model", CARRY)
def test_a_graph_carries_the_state_as_eager_steps_do_and_repeats_itself(model):
    """Over more than four passes, so that rows begin anew, too."""
    eager = Sized("toy-text", model, graph=False, carry_state=True)
    graph, again = (Sized("toy-text", model, carry_state=True) for _ in range(2))
    assert graph.lines == [] and graph.fit.graph and graph.same(again)
    assert graph.losses == pytest.approx(eager.losses, rel=0.01)
    assert graph.losses != Sized("toy-text", model).losses


@pytest.mark.parametrize("model", CARRY)
def test_a_run_that_carries_the_state_is_ok_on_the_gpu_and_near_that_on_the_cpu(tmp_path, model):
    record = run(tmp_path, "toy-text", model, carry_state=True, precision="bf16").record
    assert record.status == "ok"
    built = build(model, "generate", shape_of("generate", prepare("toy-text", {}).data), (16,)).eval()
    config, test = RunConfig(task="toy-text", model=model, carry_state=True), prepare("toy-text", {}).data.test
    with settings(torch.device("cuda"), config):
        assert np.allclose(predict_split(built, test, config), predict_split(built.cuda(), test, config), rtol=1e-4)


def test_masks_are_drawn_anew_in_every_replay():
    assert Sized("toy-wave", "gru").losses != Sized("toy-wave", "gru", dropout=0.0).losses


@pytest.mark.parametrize(("model", "carry"), [("lstm", False), ("transformer", False), ("lstm", True)])
def test_a_run_with_a_graph_goes_on_from_its_checkpoint_to_the_last_bit(tmp_path, monkeypatch, model, carry):
    monkeypatch.setattr("seqbench.training.CHECKPOINT_SHARE", 1e9)

    def stop(step, loss):
        if step == 75:
            raise ZeroDivisionError

    path = tmp_path / "checkpoint"
    with pytest.raises(ZeroDivisionError):
        Sized(
            "toy-text", model, checkpoint=Checkpoint(path, "key", torch.device("cuda")), report=stop, carry_state=carry
        )
    begun = Sized("toy-text", model, checkpoint=Checkpoint(path, "key", torch.device("cuda")), carry_state=carry)
    assert begun.fit.resumed and begun.fit.graph and begun.same(Sized("toy-text", model, carry_state=carry))


def test_lengths_that_vary_and_short_runs_take_no_graph(tmp_path):
    assert not Sized("toy-first", "gru").fit.graph
    assert run(tmp_path, "toy-wave", "gru").record.environment.kernel == "torch"


class Wrapped(torch.nn.Module):
    """A user's layer around another that does what a graph can't hold."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.causal = layer, layer.causal

    def forward(self, x, lengths=None):
        self.disturb(x)
        return self.layer(x, lengths)


class Asks(Wrapped):
    def disturb(self, x):
        x.sum().item()


class Waits(Wrapped):
    def disturb(self, x):
        torch.cuda.synchronize()


class Refuses(Wrapped):
    def disturb(self, x):
        if torch.cuda.is_current_stream_capturing():
            raise ValueError("no")


@pytest.mark.parametrize("layer", [Asks, Waits, Refuses])
def test_a_layer_that_cannot_be_captured_trains_eagerly(layer):
    """With dropout, so that torch's generator must be as it was."""
    tried, eager = Sized("toy-text", "gru", layer=layer), Sized("toy-text", "gru", layer=layer, graph=False)
    assert not tried.fit.graph and len(tried.lines) == 1 and tried.same(eager)
    assert Sized("toy-text", "gru").fit.graph  # the next one is not hurt

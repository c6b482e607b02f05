"""Recurrent dropout, zoneout and the constraint of norms: what defines each, and who is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import seqbench
from seqbench.cli.config import read_settings, settings_text
from seqbench.config import RunConfig
from seqbench.data import read_predictions
from seqbench.errors import UserError
from seqbench.experiment import resolve, run_cell
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.models.backbone import build, shape_of
from seqbench.models.dropout import Chance
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Regularisers
from seqbench.predictions import _Header, load_model
from seqbench.training import limit_norms, predict_split

RECURRENT = ["bilstm", "gru", "lstm", "rnn"]
CPU = torch.device("cpu")


def setup_function():
    torch.manual_seed(0)


def layer(model, width=20, d_in=3, **asked):
    """One regularised layer, and what it draws its masks from, which has drawn already."""
    torch.manual_seed(0)
    mixer, chance = MODELS.get(model).mixer(d_in, width, True), Chance()
    chance.mask((1,), 0.5, CPU)
    mixer.regularise(Regularisers(**asked), chance)
    return mixer, chance


def twin(chance):
    """What will draw the same."""
    other = Chance()
    other.restore(chance.state())
    return other


# ---- recurrent dropout ---------------------------------------------------------------------------------------------


def test_the_units_that_are_dropped_are_the_same_at_all_steps_and_others_in_each_sequence():
    """Each unit reads itself alone: one that is dropped never sees its past, another always does."""
    mixer, _ = layer("rnn", recurrent_dropout=0.4)
    with torch.no_grad():
        for p in mixer.parameters():
            p.zero_()
        mixer.kernel.bias_ih_l0.fill_(0.3)
        mixer.kernel.weight_hh_l0.copy_(torch.eye(20))
        states = mixer(torch.zeros(50, 9, 3))
    forgets = states[:, 1:] == states[:, :1]
    assert torch.equal(forgets.all(1), forgets.any(1))
    dropped = forgets.all(1)
    assert abs(dropped.double().mean() - 0.4) < 4 * (0.24 / 1000) ** 0.5
    assert not (dropped == dropped[:1]).all(1)[1:].any()
    others = states[:, 1][~dropped]  # what is let through counts for what is not
    assert torch.allclose(others, torch.tanh(0.3 + states[:, 0][~dropped] / 0.6))


@pytest.mark.parametrize("model", RECURRENT)
def test_with_recurrent_dropout_alone_evaluation_is_that_of_the_plain_layer(model):
    x = torch.randn(4, 9, 3)
    mixer, _ = layer(model, recurrent_dropout=0.4)
    torch.manual_seed(0)
    plain = MODELS.get(model).mixer(3, 20, True)
    assert not torch.equal(mixer(x), plain(x))
    assert torch.equal(mixer.eval()(x), plain.eval()(x))


# ---- zoneout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("kernel", ["torch", "fast"])
def test_exactly_the_units_of_the_mask_keep_their_state(model, kernel):
    mixer, chance = layer(model, zoneout=(0.3,))
    mixer.choice = kernel
    other = twin(chance)
    states = mixer(torch.randn(8, 30, 3)).transpose(0, 1)
    before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    keeps = other.mask(tuple(states.shape), 0.3, CPU)
    assert torch.equal(states == before, keeps) and abs(keeps.double().mean() - 0.3) < 4 * (0.21 / 4800) ** 0.5


def test_cells_and_states_have_masks_and_shares_of_their_own():
    """Cells alone: no state is kept; states alone: the cells are those of the plain layer."""
    x = torch.randn(8, 30, 3)
    cells, _ = layer("lstm", zoneout=(0.5, 0.0))
    states = cells(x)
    assert not (states[:, 1:] == states[:, :-1]).any()
    mixer, _ = layer("lstm", zoneout=(0.0, 0.5))
    with torch.no_grad():  # what a state does not reach, no mask of states can change
        mixer.kernel.weight_hh_l0.zero_()
    plain = MODELS.get("lstm").mixer(3, 20, True)
    plain.load_state_dict(mixer.state_dict())
    found, truth = mixer(x), plain(x)
    kept = found[:, 1:] == found[:, :-1]
    assert torch.allclose(found[:, 1:][~kept], truth[:, 1:][~kept], atol=1e-6) and 0.4 < kept.double().mean() < 0.6


@pytest.mark.parametrize("model", ["gru", "lstm", "rnn"])
def test_evaluation_is_the_mean_over_masks(model):
    """Exactly so over two steps where nothing recurrent is multiplied, so that states are sums of what was kept."""
    mixer, _ = layer(model, width=8, zoneout=(0.3,) if model != "lstm" else (0.0, 0.3))
    with torch.no_grad():
        mixer.kernel.weight_hh_l0.zero_()
        x = torch.randn(1, 2, 3)
        many = mixer(x.expand(40_000, 2, 3)).double()
        mean, error = many.mean(0), many.std(0) / 200
        assert ((mean - mixer.eval()(x)[0]).abs() < 5 * error).all()


@pytest.mark.parametrize("asked", [(0.3,), (0.3, 0.05), (0.0, 0.2)])
@pytest.mark.parametrize("model", ["gru", "lstm", "rnn"])
def test_a_step_in_evaluation_is_that_of_the_whole_sequence(model, asked):
    if model != "lstm":
        asked = asked[:1]
    mixer, _ = layer(model, zoneout=asked, recurrent_dropout=0.2)
    mixer.eval()
    x = torch.randn(5, 12, 3)
    state, outputs = mixer.initial_state(5), []
    for x_t in x.unbind(1):
        y, state = mixer.step(x_t, state)
        outputs.append(y)
    for choice in ("torch", "fast", "auto"):
        mixer.choice = choice
        assert torch.allclose(mixer(x), torch.stack(outputs, 1), atol=1e-6)


# ---- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", RECURRENT)
@pytest.mark.parametrize("tokens", [0, 6])
@pytest.mark.parametrize("backbone", ["bare", "residual"])
def test_a_regularised_model_is_the_same_on_every_kernel(model, tokens, backbone):
    shape = Shape(tokens=tokens, features=0 if tokens else 3, outputs=(4,))
    inputs = torch.randint(tokens, (5, 20)) if tokens else torch.randn(5, 20, 3)
    lengths, outputs = torch.tensor([20, 3, 11, 1, 20]), []
    for kernel in ("torch", "fast", "auto"):
        torch.manual_seed(0)
        asked = Regularisers(0.3, (0.2,))
        built = build(model, "classify", shape, (20, 20), 0.1, backbone, kernel, regularisers=asked)
        output = built(inputs, lengths)
        output.pow(2).sum().backward()
        outputs.append([output.detach(), *(p.grad for p in built.parameters() if p.grad is not None)])
    for other in outputs[1:]:
        for found, truth in zip(other, outputs[0], strict=True):
            assert (found - truth).abs().max() <= 1e-4 * truth.abs().max()


@pytest.mark.parametrize("model", RECURRENT)
def test_padding_changes_no_real_step_of_a_regularised_model(model):
    mixer, chance = layer(model, zoneout=(0.2,), recurrent_dropout=0.3)
    before, x, lengths = chance.state(), torch.randn(3, 9, 3), torch.tensor([9, 4, 1])
    other = torch.where((torch.arange(9) < lengths[:, None])[:, :, None], x, 7.0)
    first = mixer(x, lengths)
    chance.restore(before)
    again = mixer(other, lengths)
    for row, length in enumerate(lengths):
        assert torch.equal(first[row, :length], again[row, :length])


def test_a_stored_model_predicts_with_the_zoneout_that_it_was_trained_with(tmp_path):
    config = RunConfig(task="toy-first", model="lstm", budget="smoke", hidden=(16,), zoneout=(0.5, 0.05))
    outcome = run_cell(config, Store(tmp_path))
    assert outcome.record.config["zoneout"] == [0.5, 0.05] and "max_norm" not in outcome.record.config
    again = RunRecord.from_json((outcome.folder / "record.json").read_text())
    settings = tmp_path / "run.toml"
    settings.write_text(settings_text(again))
    assert read_settings(settings)["zoneout"] == "0.5,0.05"
    data = resolve(config).data
    shape = shape_of("classify", data)
    model = load_model(again, "classify", shape, _Header.of(outcome.folder)).eval()
    assert (model.layers[0].kept_c, model.layers[0].kept_h) == (0.5, 0.05)
    found = predict_split(model, data.test, config)
    assert np.allclose(found, read_predictions(outcome.folder)[0], atol=1e-6)


# ---- the constraint ------------------------------------------------------------------------------------------------


def test_rows_above_the_norm_are_scaled_down_and_others_keep_every_bit():
    weight = torch.randn(6, 5) * torch.tensor([0.1, 5.0, 0.2, 7.0, 0.0, 0.3])[:, None]
    kernel, nan = torch.randn(4, 2, 3), torch.full((1, 2), float("nan"))
    before = weight.clone(), kernel.clone()
    limit_norms([weight, kernel, nan], 1.0)
    small = before[0].norm(dim=1) <= 1
    assert small.sum() == 4 and torch.equal(weight[small], before[0][small])
    assert torch.allclose(weight[~small].norm(dim=1), torch.ones(2))
    assert torch.allclose(weight[~small] * before[0][~small].norm(dim=1)[:, None], before[0][~small])
    assert (kernel.flatten(1).norm(dim=1) <= 1 + 1e-6).all() and not torch.equal(kernel, before[1])
    assert nan.isnan().all()  # what diverges must be seen to


@pytest.mark.parametrize("model", [*RECURRENT, "transformer"])
def test_no_unit_of_a_trained_model_has_a_norm_above_it(tmp_path, model):
    def norms(**more):
        config = RunConfig(task="toy-wave", model=model, budget="smoke", hidden=16, learning_rate=0.05, **more)
        weights = load_file(run_cell(config, Store(tmp_path)).folder / "model.safetensors")
        layers = {name: value for name, value in weights.items() if name.startswith("layers.") and value.dim() > 1}
        return torch.cat([value.norm(dim=1) for value in layers.values()])

    free, limited = norms(), norms(max_norm=0.6)
    assert free.max() > 0.7 and limited.max() <= 0.6 * (1 + 1e-6)
    assert (limited < 0.59).any() and (limited > 0.599).any()


# ---- refusals, and what stays as it was ----------------------------------------------------------------------------


class Decays(seqbench.Mixer):
    """A user's own layer without any weight that is known to be a unit's."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal=True)
        self.decay = torch.nn.Parameter(torch.zeros(d_out, 4))

    def forward(self, x, lengths=None):
        return x * self.decay.sum(1)

    def state_size(self, length):
        return self.d_out


@pytest.mark.parametrize(
    ("model", "asked", "says"),
    [
        ("transformer", {"zoneout": (0.1,)}, "--zoneout is not for transformer: leave it out, or take one of bilstm"),
        ("transformer", {"recurrent_dropout": 0.1}, "--recurrent-dropout is not for transformer"),
        ("decays", {"zoneout": (0.1,)}, "--zoneout is not for decays"),
        ("decays", {"max_norm": 1.0}, "--max-norm is for the weights of units, and decays has none"),
        ("gru", {"zoneout": (0.1, 0.2)}, "gru, which has no cells: give one share"),
        ("lstm", {"zoneout": (0.1, 0.2, 0.3)}, "--zoneout takes one share, or two"),
        ("lstm", {"zoneout": (1.0,)}, "--zoneout 1 is out of range"),
        ("lstm", {"recurrent_dropout": 1.5}, "--recurrent-dropout 1.5 is out of range"),
        ("lstm", {"max_norm": -1}, "--max-norm -1 is out of range"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence_and_nothing_is_written(tmp_path, model, asked, says):
    seqbench.register_model("decays")(Decays)
    try:
        with pytest.raises(UserError, match=says):
            run_cell(RunConfig(task="toy-first", model=model, budget="smoke", hidden=16, **asked), Store(tmp_path))
    finally:
        MODELS.remove("decays")
    assert not list(tmp_path.rglob("record.json"))


def test_options_that_ask_for_nothing_are_in_no_key_and_no_record():
    plain = RunConfig(task="toy-wave", model="rnn", hidden=(16,), budget="smoke")
    none = dataclasses.replace(plain, recurrent_dropout=0, zoneout=(0.0, 0), max_norm=None)
    assert resolve(none).job.key == resolve(plain).job.key
    assert sorted(resolve(plain).resolved) == [  # as before there were such options: other keys find no old record
        *(
            "backbone",
            "batch_size",
            "budget",
            "clip",
            "control",
            "dropout",
            "evaluations",
            "hidden",
            "kernel",
            "layers",
        ),
        *("learning_rate", "params", "patience", "precision", "seed", "steps", "threads", "warmup", "weight_decay"),
    ]
    lstm = dataclasses.replace(plain, model="lstm", zoneout=0.1)
    assert resolve(lstm).job.key == resolve(dataclasses.replace(lstm, zoneout=(0.1, 0.1))).job.key

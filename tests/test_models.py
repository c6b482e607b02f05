"""Every model keeps the contract of a mixer; the standard cells equal torch.nn; sizes and FLOPs are right."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqbench import Rows, Stream, TaskData
from seqbench.errors import NotApplicable, UserError
from seqbench.models.backbone import SequenceModel, build, check_causal, count_parameters, shape_of
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import flops_per_sample, width_for

BUILT_IN = ["bilstm", "deltanet", "gru", "lru", "lstm", "mamba2", "mingru", "minlstm", "mlstm", "ntm",
            "peephole-lstm", "rnn", "slstm", "tcn", "transformer"]  # fmt: skip
CAUSAL = [name for name in BUILT_IN if name != "bilstm"]
BACKBONES = ["bare", "residual"]
TOLERANCE = 1e-12


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def labelled(n=6, length=7, symbols=5, classes=3):
    rng = np.random.default_rng(0)
    lengths = np.array([7, 1, 3, 7, 5, 2])[:n]
    rows = Rows(rng.integers(0, symbols, (n, length)), rng.integers(0, classes, n), np.arange(n), lengths)
    names = tuple("abcdefgh"[:symbols]), tuple("ABCDEFGH"[:classes])
    return TaskData(rows, rows, rows, {}, vocabulary=names[0], classes=names[1])


def text(n=200, window=16):
    stream = Stream.training(np.random.default_rng(0).integers(0, 6, n), window, 3)
    return TaskData(stream, stream, stream, {}, vocabulary=tuple("abcdef"))


def mixer(name, d_in=8, d_out=16, causal=False):
    return MODELS.get(name).mixer(d_in, d_out, causal).eval()


def test_the_models_are_registered():
    assert set(BUILT_IN) <= set(MODELS.names())


@pytest.mark.parametrize("name", BUILT_IN)
def test_output_has_the_shape_of_the_contract(name):
    layer = mixer(name)
    assert layer(torch.randn(3, 11, 8)).shape == (3, 11, 16)
    assert layer(torch.randn(1, 1, 8)).shape == (1, 1, 16)
    assert layer.state_size(11) >= 16


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_padding_changes_nothing(name, backbone):
    """A padded batch gives what the sequences give one by one, gradients too, whatever stands in the padding."""
    data = labelled()
    model = build(name, "classify", shape_of("classify", data), (16, 8), backbone=backbone).eval()
    batch = data.train[np.arange(6)]
    inputs, lengths = torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)
    together = model(inputs, lengths)
    alone = torch.cat([model(row[None, :length], None) for row, length in zip(inputs, lengths, strict=True)])
    assert torch.allclose(together, alone, atol=TOLERANCE)
    junk = inputs.clone()
    junk[torch.arange(7) >= lengths[:, None]] = 4
    assert torch.equal(model(junk, lengths), together)
    for output in (together, alone):
        model.zero_grad()
        output.square().sum().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        if output is together:
            first = gradients
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(first, gradients, strict=True))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_have_no_derivative_by_later_steps(name, backbone):
    check_causal(
        build(name, "generate", shape_of("generate", text()), (16, 16), backbone=backbone),
        text().train[[0]].inputs[:, :16],
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_sight_is_what_is_declared(name):
    """The last step is reached by every earlier one; earlier steps by later ones only where that is declared."""
    layer = mixer(name, causal=MODELS.get(name).mixer.can_be_causal)
    x = torch.randn(1, 6, 8, requires_grad=True)
    y = layer(x) * torch.randn(16)
    (by_last,) = torch.autograd.grad(y[:, -1].sum(), x, retain_graph=True)
    assert (by_last.abs().sum(dim=2) > 0).all()
    (by_first,) = torch.autograd.grad(y[:, 0].sum(), x)
    assert bool((by_first[:, 1:] != 0).any()) is (not MODELS.get(name).mixer.can_be_causal)


def test_a_model_that_is_causal_in_name_only_is_found_out():
    class Peeking(Mixer):
        def forward(self, x, lengths=None):
            return nn.functional.layer_norm(x.roll(-1, dims=1), x.shape[2:])  # its plain sum has no derivative

        def state_size(self, length):
            return 0

    from seqbench.models.heads import GenerateHead

    with pytest.raises(NotApplicable, match="up to step 0 depends on later steps"):
        check_causal(
            SequenceModel(Peeking, GenerateHead, shape_of("generate", text()), (8,)), text().train[[0]].inputs[:, :8]
        )


def test_a_model_that_sees_the_future_is_not_applicable_to_generation():
    with pytest.raises(NotApplicable, match="bilstm sees later steps"):
        build("bilstm", "generate", shape_of("generate", text()), (16,))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", CAUSAL)
def test_step_by_step_is_the_parallel_form(name, backbone):
    data = text()
    model = build(name, "generate", shape_of("generate", data), (16, 24), backbone=backbone).eval()
    inputs = torch.randint(6, (3, 20))
    state, outputs = model.initial_state(3), []
    for t in range(20):
        output, state = model.step(inputs[:, t], state)
        outputs.append(output)
    assert torch.allclose(torch.stack(outputs, dim=1), model(inputs), atol=1e-10)


@pytest.mark.parametrize("kernel", ["auto", "torch", "fast"])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_sequence_in_two_pieces_is_the_whole_one(name, kernel):
    layer = mixer(name, causal=True).eval()
    layer.choice = kernel
    x = torch.randn(3, 20, 8)
    first, state = layer.forward_from(x[:, :7], layer.initial_state(3))
    rest, _ = layer.forward_from(x[:, 7:], state)
    assert torch.allclose(torch.cat([first, rest], dim=1), layer(x), atol=1e-9)


@pytest.mark.parametrize(("name", "kernel"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_cells_equal_torch_forward_and_backward(name, kernel):
    """Our step form, unrolled, against torch's kernel with the same weights: outputs and all gradients."""
    ours, theirs = mixer(name), kernel(8, 16, batch_first=True)
    theirs.load_state_dict(ours.kernel.state_dict())
    x = torch.randn(4, 9, 8)
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    state, outputs = ours.initial_state(4), []
    for t in range(9):
        y, state = ours.step(ours_x[:, t], state)
        outputs.append(y)
    mine, other = torch.stack(outputs, dim=1), theirs(theirs_x)[0]
    assert torch.allclose(mine, other, atol=TOLERANCE)
    weight = torch.randn_like(mine)
    (mine * weight).sum().backward()
    (other * weight).sum().backward()
    assert torch.allclose(ours_x.grad, theirs_x.grad, atol=TOLERANCE)
    for a, b in zip(ours.kernel.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-11)


def test_bilstm_equals_torch_with_packed_sequences_forward_and_backward():
    ours = mixer("bilstm")
    theirs = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
    renamed = {f"{name}": p for name, p in ours.ahead.named_parameters()}
    renamed |= {f"{name}_reverse": p for name, p in ours.back.named_parameters()}
    theirs.load_state_dict({name: p.detach() for name, p in renamed.items()})
    lengths = torch.tensor([7, 1, 3, 7, 5, 2])
    x = torch.randn(6, 7, 8)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    other = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    real = (torch.arange(7) < lengths[:, None])[:, :, None]
    mine = torch.where(real, ours(x, lengths), 0.0)
    assert torch.allclose(mine, other, atol=TOLERANCE)
    weight = torch.randn_like(mine)
    (mine * weight).sum().backward()
    (other * weight).sum().backward()
    for name, p in theirs.named_parameters():
        assert torch.allclose(renamed[name].grad, p.grad, atol=1e-11)


def test_attention_equals_the_formula_written_out():
    """softmax(Q K^T / sqrt(d)) V with a causal mask, heads and rotary positions by complex numbers."""
    layer = mixer("transformer", d_in=16, causal=True)
    x = torch.randn(2, 5, 16)
    q, k, v = layer.qkv(layer.norm_attention(x)).view(2, 5, 3, 4, 4).unbind(2)
    turn = torch.exp(1j * torch.arange(5.0)[:, None] * 10_000.0 ** (-torch.arange(0, 4, 2) / 4))

    def rotated(z):
        turned = torch.complex(z[..., :2], z[..., 2:]) * turn[None, :, None]
        return torch.cat([turned.real, turned.imag], dim=-1)

    scores = torch.einsum("bthd,bshd->bhts", rotated(q), rotated(k)) / 2
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
    mixed = torch.einsum("bhts,bshd->bthd", scores.softmax(dim=-1), v).reshape(2, 5, 16)
    y = x + layer.merge(mixed)
    y = y + layer.narrow(nn.functional.gelu(layer.widen(layer.norm_feed(y))))
    assert torch.allclose(layer(x), layer.norm_out(y), atol=1e-6)  # positions are in single precision


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_gate_that_keeps_the_state_starts_at_a_bias_of_one(name):
    kernel = mixer(name).kernel
    total = kernel.bias_ih_l0 + kernel.bias_hh_l0
    assert torch.equal(total[16:32], torch.ones(16)) and not torch.equal(total[:16], torch.ones(16))


@pytest.mark.parametrize(("name", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_parameters_and_flops_by_formula(name, gates):
    data = labelled()
    model = build(name, "classify", shape_of("classify", data), (16, 8))
    layers = [(16, 16), (16, 8)]
    expected = 5 * 16 + sum(gates * (d * h + h * h + 2 * h) for d, h in layers) + (2 * 8 * 3 + 3)
    assert count_parameters(model) == expected
    length = 50
    products = sum(gates * 2 * (d * h + h * h) * length for d, h in layers) + 2 * (2 * 8 * 3)
    assert flops_per_sample(model, length) == products


def test_flops_of_attention_by_formula():
    data, T, D = labelled(), 50, 16
    linear = 2 * T * (3 * D * D + D * D + 4 * D * D)
    attention = 2 * 2 * T * T * D
    assert (
        flops_per_sample(build("transformer", "classify", shape_of("classify", data), (D,)), T)
        == linear + attention + 2 * 2 * D * 3
    )


def test_bilstm_has_the_flops_of_two_half_lstms():
    data, T, H = labelled(), 50, 8
    expected = 2 * 4 * 2 * (16 * H + H * H) * T + 2 * 2 * 16 * 3
    assert flops_per_sample(build("bilstm", "classify", shape_of("classify", data), (16,)), T) == expected


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", BUILT_IN)
def test_params_finds_the_nearest_width(name, layers):
    data = labelled()
    width = width_for(20_000, name, "classify", shape_of("classify", data), layers, "bare")
    step = MODELS.get(name).mixer.width_multiple
    errors = {
        w: abs(count_parameters(build(name, "classify", shape_of("classify", data), (w,) * layers)) - 20_000)
        for w in (width - step, width, width + step)
        if w > 0
    }
    assert min(errors, key=errors.get) == width


def test_params_too_small_and_widths_that_do_not_fit_are_refused():
    data = labelled()
    with pytest.raises(UserError, match=r"--params 3: the narrowest lstm for this task has \d+ parameters"):
        width_for(3, "lstm", "classify", shape_of("classify", data), 1, "bare")
    with pytest.raises(UserError, match="multiple of 8; take 96 or 104"):
        build("transformer", "classify", shape_of("classify", data), (100,))
    with pytest.raises(UserError, match="multiple of 2; take 2"):
        build("bilstm", "classify", shape_of("classify", data), (1,))

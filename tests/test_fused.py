"""The Transformer layer and dropout in C, against torch's own operations in double precision and in float."""

import contextlib
import ctypes
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seqbench.models.dropout import Dropout
from seqbench.models.kernels import compiled, fused
from seqbench.models.mixer import Embedded, real_steps
from seqbench.models.transformer import Transformer

FOLDER = Path(compiled.__file__).parent
NAMES = compiled.LIBRARIES.get(torch.backends.cpu.get_cpu_capability(), ("base",))
SHAPES = [  # width, batch, steps, causal, lengths
    (128, 3, 70, False, False),
    (128, 2, 33, True, False),
    (128, 5, 40, False, True),
    (8, 3, 1, False, False),
    (8, 1, 1, True, False),
    (24, 7, 35, True, True),
    (72, 1, 67, False, True),
    (40, 2, 129, True, False),
]


@pytest.fixture(params=NAMES)
def library(request, monkeypatch):
    """Each of the libraries that this processor can run."""
    for path in FOLDER.glob(f"_cells_{request.param}.*"):
        with contextlib.suppress(OSError, AttributeError):
            handle = ctypes.CDLL(str(path))
            if handle.fused_version() == fused.VERSION:
                monkeypatch.setattr(fused, "_handle", lambda handle=handle: handle)
                return handle
    pytest.skip(f"no library for {request.param} was built")


def layer(width, causal=False, choice="auto", spread=0.05):
    """One whose norms and biases are not what they are at first."""
    torch.manual_seed(width)
    mixer = Transformer(width, width, causal)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    mixer.choice = choice
    return mixer


def plain(mixer, dtype=torch.double):
    """The same in torch's own operations."""
    other = Transformer(mixer.d_in, mixer.d_out, mixer.causal).to(dtype)
    other.load_state_dict({name: value.to(dtype) for name, value in mixer.state_dict().items()})
    other.choice = "torch"
    return other


def results(mixer, x, lengths=None, weights=None):
    """The output at real steps, and the gradients of all that there is to differentiate by."""
    mixer.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = mixer(x, lengths)
    if lengths is not None:
        y = torch.where(real_steps(lengths, x.shape[1])[:, :, None], y, 0)
    (y * weights.to(y.dtype)).sum().backward()
    return {"output": y.detach(), "input": x.grad, **{name: p.grad for name, p in mixer.named_parameters()}}


def worst(ours, exact):
    """The largest difference, relative to the largest value of each."""
    return max(float((ours[name] - exact[name]).abs().max() / exact[name].abs().max()) for name in exact)


def inputs(width, batch, steps, lengths=False):
    torch.manual_seed(steps)
    x, weights = torch.randn(2, batch, steps, width)
    return x, torch.randint(1, steps + 1, (batch,)) if lengths else None, weights


@pytest.mark.parametrize(("width", "batch", "steps", "causal", "lengths"), SHAPES)
@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_a_layer_is_torchs(library, width, batch, steps, causal, lengths, spread):
    mixer = layer(width, causal, spread=spread)
    x, lengths, weights = inputs(width, batch, steps, lengths)
    exact = results(plain(mixer), x.double(), lengths, weights)
    torchs = worst(results(plain(mixer, torch.float), x, lengths, weights), exact)
    assert worst(results(mixer, x, lengths, weights), exact) < max(3e-6, 4 * torchs)


def test_the_layer_in_c_is_what_runs(library, monkeypatch):
    calls = []
    monkeypatch.setattr("seqbench.models.transformer.transformer_layer", lambda x, *_: calls.append(1) or x)
    x, _, _ = inputs(16, 2, 3)
    layer(16)(x)
    assert calls == [1]
    layer(16, choice="torch")(x)
    layer(16).double()(x.double())
    layer(16).to("meta")(x.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(16)(x)
    monkeypatch.setattr(fused, "_handle", lambda: None)
    layer(16)(x)
    assert calls == [1]


def test_an_input_may_lie_in_any_order(library):
    mixer = layer(16)
    x, _, weights = inputs(16, 4, 9)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    ours, same = results(mixer, turned, None, weights), results(mixer, x, None, weights)
    assert not turned.is_contiguous() and all((ours[name] == same[name]).all() for name in same)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_not_finite_is_seen(library, bad, causal):
    mixer = layer(16, causal)
    x, _, weights = inputs(16, 2, 40)
    x[1, 20, 3] = bad
    y = mixer(x)
    assert y[0].isfinite().all() and not y[1, 20:].isfinite().any()
    assert not results(mixer, x, None, weights)["qkv.weight"].isfinite().all()
    with torch.no_grad():
        mixer.widen.bias[2] = bad
    assert not mixer(inputs(16, 2, 40)[0]).isfinite().any()


def test_padding_is_never_read(library):
    mixer = layer(24)
    x, _, weights = inputs(24, 3, 37)
    lengths = torch.tensor([37, 1, 20])
    spoiled = torch.where(real_steps(lengths, 37)[:, :, None], x, 7.0)
    once, again = results(mixer, x, lengths, weights), results(mixer, spoiled, lengths, weights)
    assert (once["output"] == again["output"]).all()


def test_no_step_sees_a_later_one(library):
    x, _, _ = inputs(24, 2, 45)
    x.requires_grad_()
    y = layer(24, causal=True)(x)
    for step in (0, 7, 31, 32):
        (gradient,) = torch.autograd.grad(y[:, : step + 1].sum(), x, retain_graph=True)
        assert (gradient[:, step + 1 :] == 0).all() and gradient[:, step].any()


def test_results_are_the_same_again_and_on_two_threads(library):
    mixer = layer(32)
    x, lengths, weights = inputs(32, 9, 41, lengths=True)
    once, again = (results(mixer, x, lengths, weights) for _ in range(2))
    assert all((once[name] == again[name]).all() for name in once)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        more = results(mixer, x, lengths, weights)
    finally:
        torch.set_num_threads(threads)
    assert (once["output"] == more["output"]).all() and (once["input"] == more["input"]).all()
    assert worst(more, once) < 1e-5


def test_backward_may_run_twice_but_not_be_differentiated(library):
    mixer = layer(16)
    x, _, _ = inputs(16, 2, 5)
    x.requires_grad_()
    y = mixer(x).square().sum()
    (once,), (again,) = (torch.autograd.grad(y, x, retain_graph=True) for _ in range(2))
    assert (once == again).all()
    (slope,) = torch.autograd.grad(mixer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_evaluation_gives_what_training_gives(library):
    mixer = layer(16)
    x, _, _ = inputs(16, 2, 70)
    with torch.no_grad():
        untracked = mixer(x)
    assert (untracked == mixer(x)).all() and not untracked.requires_grad


@pytest.mark.parametrize("choice", ["auto", "torch"])
@pytest.mark.parametrize(("d_in", "causal"), [(24, True), (10, False)])
def test_symbols_give_what_their_embeddings_give(library, choice, d_in, causal):
    torch.manual_seed(0)
    mixer = Transformer(d_in, 24, causal)
    mixer.choice = choice
    symbols, lengths = torch.randint(5, (3, 37)), torch.tensor([37, 4, 20])
    weights = torch.randn(3, 37, 24) * real_steps(lengths, 37)[:, :, None]
    gathered = []
    for whole in (True, False):
        mixer.zero_grad()
        table = torch.linspace(-2, 2, 5 * d_in).sin().view(5, d_in).requires_grad_()
        y = (
            mixer(F.embedding(symbols, table), lengths)
            if whole
            else mixer.forward_embedded(Embedded(symbols, table, None), lengths)
        )
        (y * weights).sum().backward()
        found = {"output": (y * weights).detach(), "table": table.grad}
        gathered.append(found | {name: p.grad for name, p in mixer.named_parameters()})
    assert worst(gathered[1], gathered[0]) < 1e-5


def test_symbols_without_a_row_are_refused(library):
    with pytest.raises(IndexError, match="from 0 to 3"):
        layer(16).forward_embedded(Embedded(torch.tensor([[0, 4]]), torch.randn(4, 16), None))


def test_nothing_gives_nothing(library):
    assert layer(16)(torch.zeros(0, 4, 16)).shape == (0, 4, 16)
    assert layer(16)(torch.zeros(2, 0, 16)).shape == (2, 0, 16)


def test_a_row_without_real_steps_spoils_nothing(library):
    x, _, weights = inputs(16, 2, 5)
    found = results(layer(16), x, torch.tensor([0, 5]), weights)
    assert all(value.isfinite().all() for value in found.values())


def test_torchs_form_has_the_right_gradients():
    mixer = layer(8).double()
    x = torch.randn(2, 3, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mixer(x, torch.tensor([3, 2])), x)


def test_dropout_is_the_same_in_c_and_in_torch(library, monkeypatch):
    x = torch.randn(3, 50, 101).transpose(0, 1)
    x[4, 1, 7] = torch.nan
    outcomes = []
    for handle in (library, None):
        monkeypatch.setattr(fused, "_handle", lambda handle=handle: handle)
        torch.manual_seed(3)
        dropout, given = Dropout(0.3), x.detach().clone().requires_grad_()
        y = dropout(dropout(given))
        y.square().nansum().backward()
        outcomes.append((y.detach(), given.grad, dropout.state()))
    for ours, torchs in zip(*outcomes, strict=True):
        assert torch.equal(ours.nan_to_num(5.0), torchs.nan_to_num(5.0))
    y = outcomes[0][0]
    assert y[4, 1, 7].isnan() and 0.45 < float((y != 0).float().mean()) < 0.53

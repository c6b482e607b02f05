"""The recurrent kernels: each is torch's own layer, to rounding, at any shape; and is used only where it can be."""

import copy
import ctypes
import gc
import itertools
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seqbench.config import RunConfig
from seqbench.device import settings
from seqbench.experiment import run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import SequenceModel, build
from seqbench.models.heads import HEADS, Shape
from seqbench.models.kernels import choice, compiled, layer, sequence, written
from seqbench.models.mixer import MODELS, reverse_within
from seqbench.probes import Request

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
FOLDER = Path(compiled.__file__).parent
RUNS = {"base": (), "avx2": ("AVX2", "AVX512"), "avx512": ("AVX512",)}  # on what torch calls these


def engines():
    """All that this machine can run: every library that was built here, and the one in torch."""
    able = torch.backends.cpu.get_cpu_capability()
    found = {"written": written.Written()}
    for name, needs in RUNS.items():
        for path in sorted(FOLDER.glob(f"_cells_{name}.*")):
            if not needs or able in needs:
                found[name] = compiled.Compiled(name, ctypes.CDLL(str(path)))  # with threads of its own
    return found


FALSE = torch.zeros((), dtype=torch.bool)
ENGINES = engines()
if compiled.library() is not None:
    ENGINES["chosen"] = compiled.Compiled(*compiled.library())  # in the threads of torch's pool
SHAPES = [(5, 7, 3, 32), (3, 1, 3, 20), (1, 9, 4, 160), (13, 30, 6, 48), (32, 60, 5, 128), (7, 300, 2, 33)]
every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
every_cell = pytest.mark.parametrize("cell", LAYERS)


def setup_function():
    torch.manual_seed(0)


def gradients(forward, module, x, weight):
    """The output and all gradients of sum(weight * output), in double."""
    x = x.detach().clone().requires_grad_()
    module.zero_grad()
    output = forward(x)
    (output * weight.to(output.dtype)).sum().backward()
    return [t.detach().double() for t in (output, x.grad, *(p.grad for p in module.parameters()))]


def distance(found, truth):
    """The largest difference, relative to the largest entry of its tensor."""
    pairs = zip(found, truth, strict=True)
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).item() for a, b in pairs)


def torchs(module, x, lengths=None, reverse=False):
    """torch.nn's own forward, its padding zeroed where it is read backwards."""
    if not reverse:
        return module(x)[0]
    output = reverse_within(module(reverse_within(x, lengths))[0], lengths)
    if lengths is None:
        return output
    return output * (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]


def ours(module, engine, x, **how):
    return layer.over_steps(module, engine, x, layer.weights_of(module, engine), **how)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_libraries_were_built():
    """A source install with a compiler has them; without one all of this package runs, slower."""
    assert {"base", "written"} <= set(ENGINES)
    assert compiled.library() is not None


@every_engine
@every_cell
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_in_double_it_is_torchs_own(engine, cell, shape, reverse, threads, one_thread):
    B, T, D, H = shape
    torch.set_num_threads(threads)
    module = LAYERS[cell](D, H, batch_first=True).double()
    x, weight = torch.randn(B, T, D).double(), torch.randn(B, T, H).double()
    lengths = torch.randint(1, T + 1, (B,)) if reverse else None
    if lengths is not None:
        weight = weight * (torch.arange(T) < lengths[:, None])[:, :, None]
    truth = gradients(lambda x: torchs(module, x, lengths, reverse), module, x, weight)
    found = gradients(lambda x: ours(module, engine, x, reverse=reverse, lengths=lengths), module, x, weight)
    assert distance(found, truth) < 1e-12


@every_engine
@every_cell
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_from_a_given_state_it_is_torchs_own_and_says_where_it_ended(engine, cell, shape):
    B, T, D, H = shape
    module = LAYERS[cell](D, H, batch_first=True).double()
    x, weight = torch.randn(B, T, D).double(), torch.randn(B, T, H).double()
    start = torch.randn(B, H).double().tanh(), torch.randn(B, H).double()
    first = tuple(state[None] for state in start) if isinstance(module, torch.nn.LSTM) else start[0][None]
    ends = []

    def run(x):
        y, end = layer.over_steps_from(module, engine, x, layer.weights_of(module, engine), start)
        ends.append(end)
        return y

    assert (
        distance(gradients(run, module, x, weight), gradients(lambda x: module(x, first)[0], module, x, weight)) < 1e-12
    )
    _, end = module(x, first)
    h, c = end if isinstance(module, torch.nn.LSTM) else (end, start[1][None])
    assert distance(ends[0], (h[0].detach(), c[0].detach())) < 1e-12
    assert not any(state.requires_grad for state in ends[0])


@every_engine
@every_cell
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_single_it_is_as_near_the_truth_as_torch(engine, cell, shape):
    B, T, D, H = shape
    module = LAYERS[cell](D, H, batch_first=True)
    exact = copy.deepcopy(module).double()
    x, weight = torch.randn(B, T, D), torch.randn(B, T, H)
    truth = gradients(lambda x: exact(x)[0], exact, x.double(), weight)
    by_torch = gradients(lambda x: module(x)[0], module, x, weight)
    found = gradients(lambda x: ours(module, engine, x), module, x, weight)
    assert distance(found, truth) < 4 * distance(by_torch, truth) + 1e-6


@every_engine
@every_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_symbols_from_a_table_are_the_same_as_embedded(engine, cell, reverse):
    module = LAYERS[cell](6, 40, batch_first=True).double()
    table = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    symbols, weight = torch.randint(9, (4, 50)), torch.randn(4, 50, 40).double()
    symbols[:, 10:30] = 3  # one symbol many times
    leaves = [table, *module.parameters()]

    def of(output):
        return [output, *torch.autograd.grad((output * weight).sum(), leaves)]

    truth = of(torchs(module, table[symbols], reverse=reverse))
    weights = layer.weights_of(module, engine)
    found = of(layer.over_symbols(module, engine, symbols, table, weights, reverse=reverse))
    assert distance(found, truth) < 1e-12


@every_engine
@pytest.mark.parametrize("symbol", [-1, 9])
def test_a_symbol_without_a_row_is_refused(engine, symbol):
    module, table = nn.GRU(6, 32, batch_first=True), torch.randn(9, 6)
    with pytest.raises(IndexError, match="from 0 to 8"):
        layer.over_symbols(module, engine, torch.tensor([[0, symbol]]), table, layer.weights_of(module, engine))


@every_engine
@every_cell
def test_gradcheck(engine, cell):
    module = LAYERS[cell](3, 8, batch_first=True).double()
    names, leaves = zip(*module.named_parameters(), strict=True)

    def forward(x, *values):
        for name, value in zip(names, values, strict=True):
            setattr(stand_in, name, value)
        return ours(stand_in, engine, x)

    class StandIn:
        num_layers, hidden_size = 1, 8

    stand_in = StandIn()
    layer.CELLS[StandIn] = cell
    try:
        x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(forward, (x, *leaves))
    finally:
        del layer.CELLS[StandIn]


@every_engine
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("zoned", [False, True])
def test_peepholes_are_those_of_the_equations(engine, zoned, order):
    """Gers, Schraudolph and Schmidhuber 2002: input and forget gate see the cell before the step, output after."""
    T, B, D, H = 9, 4, 3, 32
    x, w, b, u, p = (
        torch.randn(*s, dtype=torch.float64).mul_(0.3).requires_grad_()
        for s in ((T, B, D), (4 * H, D), (4 * H,), (4 * H, H), (3 * H,))
    )
    masks = masks_of("zoneout", (B, T, D, H)) if zoned else sequence.Masks(share_h=0.0)
    h = c = x.new_zeros(B, H)
    pi, pf, po = p.split(H)
    states = [None] * T
    for t in range(T)[::order]:
        i, f, g, o = (x[t] @ w.t() + h @ u.t() + b).chunk(4, dim=1)
        i, f = torch.sigmoid(i + pi * c), torch.sigmoid(f + pf * c)
        new = f * c + i * torch.tanh(g)
        h = torch.where(masks.keeps_h[t] if zoned else FALSE, h, torch.sigmoid(o + po * new) * torch.tanh(new))
        c = torch.where(masks.keeps_c[t] if zoned else FALSE, c, new)
        states[t] = h
    plan = sequence.Plan(engine, "lstm", reverse=order < 0, masks=masks)
    found, _ = sequence.states_and_cell(plan, x, w, b, u, p)
    weight, leaves = torch.randn(T, B, H).double(), (x, w, b, u, p)
    truth = torch.autograd.grad((torch.stack(states) * weight).sum(), leaves)
    assert distance(torch.autograd.grad((found * weight).sum(), leaves), truth) < 1e-12


def cell_by_cell(cell, module, x, masks, lengths=None, reverse=False):
    """The equations, one step after the other: Gal and Ghahramani 2016, Krueger et al. 2016."""
    w, u, b, b_state = (p for _, p in sorted(module.named_parameters(), key=lambda item: ORDER.index(item[0])))
    h = c = x.new_zeros(len(x), u.shape[1])
    states = [None] * x.shape[1]
    for t in sorted(range(x.shape[1]), reverse=reverse):
        d_h, d_c = (
            share if keeps is None else keeps[t].to(x.dtype)
            for keeps, share in ((masks.keeps_h, masks.share_h), (masks.keeps_c, masks.share_c))
        )
        wx, uh = x[:, t] @ w.t() + b, (h if masks.seen is None else h * masks.seen) @ u.t() + b_state
        new_c = c
        if cell == "rnn":
            new = torch.tanh(wx + uh)
        elif cell == "lstm":
            i, f, g, o = (wx + uh).chunk(4, dim=1)
            new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            new = torch.sigmoid(o) * torch.tanh(new_c)
        else:
            (rx, zx, nx), (rh, zh, nh) = wx.chunk(3, dim=1), uh.chunk(3, dim=1)
            z = torch.sigmoid(zx + zh)
            new = (1 - z) * torch.tanh(nx + torch.sigmoid(rx + rh) * nh) + z * h
        h, c = d_h * h + (1 - d_h) * new, d_c * c + (1 - d_c) * new_c
        if lengths is not None:
            h, c = (torch.where((t < lengths)[:, None], state, 0.0) for state in (h, c))
        states[t] = h
    return torch.stack(states, dim=1)


ORDER = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def masks_of(kind, shape):
    B, T, _, H = shape
    seen = (torch.rand(B, H) > 0.3).double() / 0.7
    keeps_h, keeps_c = torch.rand(T, B, H) < 0.4, torch.rand(T, B, H) < 0.2
    return {
        "dropout": sequence.Masks(seen),
        "zoneout": sequence.Masks(None, keeps_h, keeps_c),
        "cells": sequence.Masks(None, None, keeps_c),
        "both": sequence.Masks(seen, keeps_h, keeps_c),
        "mean": sequence.Masks(share_h=0.3, share_c=0.1),
    }[kind]


@every_engine
@every_cell
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["dropout", "cells", "both", "mean"])
@pytest.mark.parametrize("shape", [(5, 7, 3, 20), (41, 12, 2, 100)], ids=str)
def test_regularised_it_is_the_equations_cell_by_cell(engine, cell, reverse, kind, shape):
    """The second shape in several calls of C, for what they write to stay in the cache."""
    B, T, D, H = shape
    module, masks = LAYERS[cell](D, H, batch_first=True).double(), masks_of(kind, shape)
    x, weight = torch.randn(B, T, D).double(), torch.randn(B, T, H).double()
    lengths = torch.randint(1, T + 1, (B,)) if reverse else None
    truth = gradients(lambda x: cell_by_cell(cell, module, x, masks, lengths, reverse), module, x, weight)
    found = gradients(
        lambda x: ours(module, engine, x, reverse=reverse, lengths=lengths, masks=masks), module, x, weight
    )
    assert distance(found, truth) < 1e-12


@every_engine
@every_cell
def test_regularised_symbols_from_a_table_are_the_same_as_embedded(engine, cell):
    module, masks = LAYERS[cell](6, 40, batch_first=True).double(), masks_of("both", (4, 50, 6, 40))
    table, weight = torch.randn(9, 6, dtype=torch.float64, requires_grad=True), torch.randn(4, 50, 40).double()
    symbols, leaves = torch.randint(9, (4, 50)), [table, *module.parameters()]

    def of(output):
        return [output, *torch.autograd.grad((output * weight).sum(), leaves)]

    found = layer.over_symbols(module, engine, symbols, table, layer.weights_of(module, engine), masks=masks)
    assert distance(of(found), of(cell_by_cell(cell, module, table[symbols], masks))) < 1e-12


@every_engine
@every_cell
def test_masks_that_mask_nothing_change_no_bit(engine, cell):
    module, (B, T, D, H) = LAYERS[cell](5, 64, batch_first=True), (30, 40, 5, 64)
    x, weight = torch.randn(B, T, D), torch.randn(B, T, H)
    none = torch.zeros(T, B, H, dtype=torch.bool)
    plain = gradients(lambda x: ours(module, engine, x), module, x, weight)
    for masks in (sequence.Masks(torch.ones(B, H)), sequence.Masks(None, none, none)):
        found = gradients(lambda x, masks=masks: ours(module, engine, x, masks=masks), module, x, weight)
        assert torch.equal(found[0], plain[0]) and distance(found, plain) < 1e-5


@every_engine
@every_cell
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_comes_through(engine, cell, value):
    """A run that diverges must be seen to: a clamp that swallows NaN would hide it."""
    module = LAYERS[cell](3, 32, batch_first=True)
    x = torch.randn(2, 5, 3)
    x[1, 2] = value
    with torch.no_grad():
        found, truth = ours(module, engine, x), module(x)[0]
    assert torch.equal(found.isnan(), truth.isnan())
    if value != value:
        assert found[1, 2:].isnan().all() and not found[0].isnan().any()


@every_engine
@every_cell
def test_large_pre_activations_saturate(engine, cell):
    module = LAYERS[cell](2, 32, batch_first=True)
    x = torch.randn(3, 6, 2) * 1e6
    with torch.no_grad():
        assert torch.allclose(ours(module, engine, x), module(x)[0], atol=1e-6)


@every_engine
@every_cell
def test_again_is_the_same_bit_for_bit_and_so_are_two_threads(engine, cell, one_thread):
    module = LAYERS[cell](5, 64, batch_first=True)
    x, weight = torch.randn(30, 40, 5), torch.randn(30, 40, 64)
    first = gradients(lambda x: ours(module, engine, x), module, x, weight)
    again = gradients(lambda x: ours(module, engine, x), module, x, weight)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if isinstance(engine, compiled.Compiled):  # rows are split over threads, sums are not
        torch.set_num_threads(2)
        with torch.no_grad():
            assert torch.equal(ours(module, engine, x).double(), first[0])


@every_engine
@every_cell
def test_a_backward_pass_may_run_twice(engine, cell):
    module = LAYERS[cell](3, 32, batch_first=True)
    x = torch.randn(2, 6, 3, requires_grad=True)
    loss = ours(module, engine, x).pow(2).sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (again,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, again)


@every_engine
@every_cell
def test_memory_is_free_as_soon_as_nobody_holds_the_output(engine, cell):
    """A cycle would keep it until garbage is collected: hundreds of MB, and every step in pages that are new."""
    module = LAYERS[cell](3, 32, batch_first=True)
    gc.collect()
    gc.disable()
    try:
        for backward in (False, True):
            states = ours(module, engine, torch.randn(2, 6, 3, requires_grad=True))
            held = weakref.ref(states._base if states._base is not None else states)
            if backward:
                states.sum().backward()
            assert held() is not None
            del states
            assert held() is None
    finally:
        gc.enable()


@every_engine
@every_cell
def test_an_empty_batch_gives_an_empty_output(engine, cell):
    module = LAYERS[cell](3, 32, batch_first=True)
    x = torch.zeros(0, 4, 3, requires_grad=True)
    states = ours(module, engine, x)
    states.sum().backward()
    assert states.shape == (0, 4, 32) and x.grad.shape == x.shape


@every_engine
def test_whole_numbers_of_any_type_are_read_as_they_are(engine):
    """C reads 64 bits, one after the other: two of 32 would be taken for one."""
    module, table = nn.LSTM(6, 32, batch_first=True), torch.randn(9, 6)
    symbols, lengths = torch.randint(9, (8, 5)), torch.tensor([5, 0, 1, 0, 3, 0, 2, 0, 5, 0, 4, 0, 5, 0, 1, 0])[::2]
    weights = layer.weights_of(module, engine)
    truth = layer.over_symbols(module, engine, symbols, table, weights, reverse=True, lengths=lengths.contiguous())
    for dtype in (torch.int32, torch.int16):
        narrow = symbols.to(dtype)
        found = layer.over_symbols(module, engine, narrow, table, weights, reverse=True, lengths=lengths)
        assert torch.equal(found, truth)
        some = ours(module, engine, table[symbols], reverse=True, lengths=lengths.to(dtype))
        assert torch.allclose(some, truth, atol=1e-6)


@every_engine
@every_cell
def test_without_gradients_little_is_kept(engine, cell, monkeypatch):
    seen = []
    allocate = sequence._Layer.allocate

    def watched(self, *arguments, kept):
        seen.append(kept)
        allocate(self, *arguments, kept=kept)

    monkeypatch.setattr(sequence._Layer, "allocate", watched)
    module, x = LAYERS[cell](3, 32, batch_first=True), torch.randn(2, 6, 3)
    with torch.no_grad():
        ours(module, engine, x)
    ours(module, engine, x)
    assert seen == [False, True]


@every_engine
@every_cell
def test_a_second_derivative_is_refused(engine, cell):
    """It would be wrong without a word: the backward pass in C is not tracked."""
    module, x = LAYERS[cell](3, 32, batch_first=True), torch.randn(2, 6, 3, requires_grad=True)
    (first,) = torch.autograd.grad(ours(module, engine, x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        first.square().sum().backward()


@every_engine
@every_cell
def test_inputs_and_gradients_of_any_layout(engine, cell):
    module = LAYERS[cell](4, 32, batch_first=True)
    x = torch.randn(6, 4, 5).permute(2, 0, 1)[:, ::2]  # strides of no usual kind
    truth = gradients(lambda x: module(x)[0], module, x, torch.ones(()))
    found = gradients(lambda x: ours(module, engine, x), module, x, torch.ones(()))  # an expanded gradient
    assert distance(found, truth) < 1e-5


# ---- through the models --------------------------------------------------------------------------------------------


def net(model, kernel, shape, **more):
    torch.manual_seed(0)
    return build(model, "classify", shape, (32,), kernel=kernel, **more)


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "bilstm", "peephole-lstm", "transformer"])
@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("tokens", [0, 6])
@pytest.mark.parametrize("padded", [False, True])
def test_a_model_is_the_same_on_every_kernel(model, backbone, tokens, padded):
    shape = Shape(tokens=tokens, features=0 if tokens else 3, outputs=(4,))
    inputs = torch.randint(tokens, (5, 20)) if tokens else torch.randn(5, 20, 3)
    lengths = torch.tensor([20, 3, 11, 1, 20]) if padded else None
    outputs = []
    for kernel in ("torch", "fast", "auto"):
        built = net(model, kernel, shape, backbone=backbone)
        output = built(inputs, lengths)
        output.pow(2).sum().backward()
        outputs.append([output.detach().double(), *(p.grad.double() for p in built.parameters() if p.grad is not None)])
    for other in outputs[1:]:
        assert distance(other, outputs[0]) < 1e-4


def used(monkeypatch, kernel, **settings):
    """Which of the two ways a model went: `ours` or torch's own."""
    calls = []
    original = sequence.states_and_cell
    monkeypatch.setattr(layer, "states_and_cell", lambda *a: calls.append("ours") or original(*a))
    shape = Shape(tokens=0, features=3, outputs=(4,))
    net("gru", kernel, shape)(torch.randn(4, 10, 3, **settings))
    return calls


def test_torch_is_torchs_own_layer(monkeypatch):
    assert used(monkeypatch, "torch") == []
    assert used(monkeypatch, "fast") == ["ours"]


@pytest.mark.parametrize("c", [1.0, 3.0])
def test_auto_takes_what_the_table_says_is_faster(monkeypatch, c):
    rows = [{"cell": "gru", "batch": 4, "width": 32, "ms": {"torch": 2.0, "c": c, "written": c}}]
    monkeypatch.setattr(choice, "_rows", lambda: {("gru", True): rows, ("gru", False): rows})
    choice.is_faster.cache_clear()
    try:
        assert used(monkeypatch, "auto") == (["ours"] if c < 2 else [])
    finally:
        choice.is_faster.cache_clear()


def test_the_nearest_shape_of_the_table_decides(monkeypatch):
    rows = [
        {"cell": "lstm", "folded": False, "batch": batch, "width": width, "ms": {"torch": 2.0, "c": c}}
        for batch, width, c in ((1, 32, 1.0), (128, 512, 3.0))
    ]
    monkeypatch.setattr(choice, "_rows", lambda: {("lstm", False): rows})
    choice.is_faster.cache_clear()
    try:
        assert choice.is_faster("c", "lstm", 2, 40, folded=False)
        assert not choice.is_faster("c", "lstm", 100, 400, folded=False)
        assert choice.is_faster("written", "lstm", 2, 40, folded=False)  # not in the table
        rows[1]["ms"]["c"] = 2.1
        choice.is_faster.cache_clear()
        assert not choice.is_faster("c", "lstm", 100, 400, folded=False)
        assert choice.is_faster("c", "lstm", 100, 400, folded=False, gradient=False)
    finally:
        choice.is_faster.cache_clear()


def test_the_shipped_table_has_every_cell():
    choice._rows.cache_clear()
    for table in json.loads(choice.TABLE.read_text()).values():
        cells = {(row["cell"], row["folded"]) for row in table["rows"]}
        assert cells == set(itertools.product(LAYERS, (True, False)))
        assert all(min(row["ms"].values()) > 0 for row in table["rows"])


def test_a_layer_that_torch_alone_can_run_is_left_to_it():
    x = torch.randn(2, 5, 3)
    usual = {"batch_first": True}
    kinds = ((nn.RNN, {"nonlinearity": "relu"}), (nn.GRU, {"num_layers": 2}), (nn.LSTM, {"proj_size": 4}))
    for odd in (nn.GRU(3, 8), *(kind(3, 8, **usual, **more) for kind, more in kinds)):
        assert layer.engine_for(odd, x, x.shape[:2], "fast") is None
    plain = nn.GRU(3, 8, batch_first=True)
    assert layer.engine_for(plain, x, x.shape[:2], "fast") is not None
    assert layer.engine_for(plain, x.to("meta"), x.shape[:2], "fast") is None
    assert layer.engine_for(plain, x.half(), x.shape[:2], "fast") is None
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.engine_for(plain, x, x.shape[:2], "fast") is None


def test_a_class_below_a_built_in_one_keeps_its_own_forward():
    """Inputs are folded only for the class that says how; one that changes `forward` is asked through that."""

    class Doubled(MODELS.get("gru").mixer):
        def forward(self, x, lengths=None):
            return 2 * super().forward(x, lengths)

    shape = Shape(tokens=5, features=0, outputs=(4,))
    torch.manual_seed(0)
    plain = SequenceModel(MODELS.get("gru").mixer, HEADS.get("tag"), shape, (16,))
    torch.manual_seed(0)
    doubled = SequenceModel(Doubled, HEADS.get("tag"), shape, (16,))
    tokens = torch.randint(5, (3, 12))
    bias = plain.head.out.bias
    assert torch.allclose(doubled(tokens) - bias, 2 * (plain(tokens) - bias), atol=1e-6)


def test_hooks_and_layers_that_a_user_has_changed_are_called():
    shape = Shape(tokens=5, features=0, outputs=(4,))
    tokens = torch.randint(5, (3, 12))
    for model in ("gru", "transformer"):
        for part in ("layers.0", "embed"):
            built, seen = net(model, "auto", shape), []
            built.get_submodule(part).register_forward_hook(lambda *_, seen=seen: seen.append(1))
            built(tokens)
            assert seen == [1]

    class Mine(nn.GRU):
        def forward(self, x):
            output, last = super().forward(x)
            return 2 * output, last

    built = net("gru", "auto", shape)
    plain = built(tokens)
    built.layers[0].kernel.__class__ = Mine
    assert not torch.allclose(built(tokens), plain)

    class Swish(MODELS.get("transformer").mixer):
        def _feed(self, x):
            return x + 1

    swish, x = Swish(32, 32, True), torch.randn(1, 3, 32)
    with_ours = swish(x)
    swish.choice = "torch"
    assert torch.equal(with_ours, swish(x))


def test_a_record_says_which_kernels_ran(tmp_path):
    def run(model, **more):
        config = RunConfig(task="toy-wave", model=model, budget="smoke", hidden=(128, 128), **more)
        return run_cell(config, Store(tmp_path)).record.environment

    ours, where = f"c {compiled.library()[0]}", run("gru")
    assert where.kernel == ours and where.flush_denormal
    assert run("gru", kernel="torch").kernel == "torch"
    assert run("lstm", kernel="fast").kernel == run("peephole-lstm").kernel == ours
    assert run("transformer").kernel == ours and run("transformer", kernel="torch").kernel == "torch"


def test_a_library_of_another_version_is_left_alone(monkeypatch):
    monkeypatch.setattr(compiled, "VERSION", compiled.VERSION + 1)
    compiled.library.cache_clear()
    try:
        assert compiled.library() is None
    finally:
        monkeypatch.undo()
        compiled.library.cache_clear()
        assert compiled.library() is not None


# ---- numbers below the least normal one ----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_denormal_numbers_count_as_zero_in_every_thread(threads, one_thread):
    small = torch.full((1_000_000,), 1e-39)
    torch.set_num_threads(2)
    (small * 2).sum()  # starts torch's threads, before they are told
    torch.set_flush_denormal(False)
    with settings(torch.device("cpu"), Request(threads=threads)):
        assert not (small * 0.5).view(torch.int32).count_nonzero()
        for engine in ENGINES.values():
            module = nn.RNN(1, 32, batch_first=True)
            with torch.no_grad():
                for p in module.parameters():
                    p.zero_()
                module.weight_ih_l0.fill_(1e-39)
                assert not ours(module, engine, torch.ones(64, 3, 1)).count_nonzero()
    assert (small * 2).count_nonzero() == len(small)


def test_gradients_that_vanish_end_at_zero():
    module = nn.RNN(4, 32, batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0.mul_(0.3)
    x = torch.randn(8, 400, 4, requires_grad=True)
    with settings(torch.device("cpu"), Request()):
        for forward in (lambda: module(x)[0], *(lambda e=e: ours(module, e, x) for e in ENGINES.values())):
            (gradient,) = torch.autograd.grad(forward()[:, -1].sum(), x)
            size = gradient.abs()
            assert size[:, -1].min() > 0 and not size[:, :50].count_nonzero()
            assert not ((size > 0) & (size < np.finfo(np.float32).tiny)).any()

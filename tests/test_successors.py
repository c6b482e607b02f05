"""The models beside the five usual ones: each is its paper's equations, written out here step by step and example by
example, forward and backward; the linear recurrence has the gradient that autograd finds.
"""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils.flop_counter import FlopCounterMode

from seqbench.models import matrix, scan, slstm
from seqbench.models.kernels import layer
from seqbench.models.mixer import MODELS
from seqbench.models.scan import LRU, MinGRU, MinLSTM, looped
from seqbench.models.sizing import count_flops
from seqbench.models.tcn import DILATIONS, TCN

D, H = 5, 16


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def gradients(forward, parameters, x):
    """The output and its gradients, weighted at random."""
    x = x.clone().requires_grad_()
    output = forward(x)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    return [output, *torch.autograd.grad((output * weight).sum(), [x, *parameters], allow_unused=True)]


def agree(mixer, reference, length, tolerance=1e-9):
    """``reference(x)``, (T, d_in) to (T, d_out), on each example; the last one is read from a padded batch."""
    x, parameters = torch.randn(3, length, mixer.d_in), list(mixer.parameters())
    lengths = torch.tensor([length, length, max(1, length - 3)])

    def alone(x):
        rows = [reference(row[:n]) for row, n in zip(x, lengths.tolist(), strict=True)]
        return torch.stack([torch.cat([row, row.new_zeros(length - len(row), mixer.d_out)]) for row in rows])

    def together(x):
        return mixer(x, lengths) * (torch.arange(length) < lengths[:, None])[:, :, None]

    truth = gradients(alone, parameters, x)
    found = gradients(together, parameters, x)
    assert truth[0].abs().max() > 0.01
    for a, b in zip(found, truth, strict=True):
        assert a is not None and (a - b).abs().max() <= tolerance * max(1.0, b.abs().max())


def linear(x, part):
    """A linear map, or none, of one step."""
    if isinstance(part, torch.nn.Identity):
        return x
    return part.weight @ x + (0 if part.bias is None else part.bias)


def softplus(x):
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


def silu(x):
    return x / (1 + torch.exp(-x))


# ---- the equations ------------------------------------------------------------------------------------------------


def peephole(m):
    w, u = m.kernel.weight_ih_l0.split(H), m.kernel.weight_hh_l0.split(H)
    b = (m.kernel.bias_ih_l0 + m.kernel.bias_hh_l0).split(H)
    pi, pf, po = m.kernel.peepholes.split(H)

    def run(x):
        h = c = torch.zeros(H)
        outputs = []
        for x_t in x:
            i = torch.sigmoid(w[0] @ x_t + u[0] @ h + pi * c + b[0])
            f = torch.sigmoid(w[1] @ x_t + u[1] @ h + pf * c + b[1])
            c = f * c + i * torch.tanh(w[2] @ x_t + u[2] @ h + b[2])
            h = torch.sigmoid(w[3] @ x_t + u[3] @ h + po * c + b[3]) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)

    return run


def g(x):
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def mingru(m):
    def run(x):
        h, outputs = torch.zeros(H), []
        for x_t in x:
            z, candidate = linear(x_t, m.map).split(H)
            z = torch.sigmoid(z)
            h = (1 - z) * h + z * g(candidate)
            outputs.append(h)
        return torch.stack(outputs)

    return run


def minlstm(m):
    def run(x):
        h, outputs = torch.zeros(H), []
        for x_t in x:
            f, i, candidate = linear(x_t, m.map).split(H)
            f, i = torch.sigmoid(f), torch.sigmoid(i)
            h = f / (f + i) * h + i / (f + i) * g(candidate)
            outputs.append(h)
        return torch.stack(outputs)

    return run


def lru(m):
    decay = torch.exp(torch.complex(-torch.exp(m.nu), torch.exp(m.theta)))
    b = torch.complex(m.write.weight[:H], m.write.weight[H:])
    c = torch.complex(m.read.weight[:, :H], -m.read.weight[:, H:])

    def run(x):
        state, outputs = torch.zeros(H, dtype=torch.complex128), []
        for x_t in x:
            u = linear(x_t, m.enter)
            state = decay * state + torch.exp(m.gamma) * (b @ u.to(b.dtype))
            y = (c @ state).real + m.through * u
            y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
            value, gate = linear(y, m.leave).split(H)
            outputs.append(value * torch.sigmoid(gate))
        return torch.stack(outputs)

    return run


def tcn(m):
    def convolved(x, part):
        w = part.length * part.direction / part.direction.norm(dim=1, keepdim=True)
        old, new = w.chunk(2, dim=1)
        rows = []
        for t in range(len(x)):
            y = new @ x[t] + part.bias
            rows.append(torch.relu(y + old @ x[t - part.dilation] if t >= part.dilation else y))
        return torch.stack(rows)

    def run(x):
        for block in range(len(DILATIONS)):
            skip = x if block else torch.stack([linear(x_t, m.enter) for x_t in x])
            x = torch.relu(skip + convolved(convolved(x, m.convolutions[2 * block]), m.convolutions[2 * block + 1]))
        return x

    return run


def mlstm(m):
    heads = matrix.HEADS

    def run(x):
        c, n, outputs = torch.zeros(heads, H // heads, H // heads), torch.zeros(heads, H // heads), []
        for x_t in x:
            q, k, v, o = linear(x_t, m.map).split(H)
            q, k, v = (part.view(heads, -1) for part in (q, k, v))
            k = k / math.sqrt(H // heads)
            i, f = linear(x_t, m.gates).split(heads)
            i, f = torch.exp(i), torch.sigmoid(f)
            c = f[:, None, None] * c + i[:, None, None] * torch.einsum("hv,hk->hvk", v, k)
            n = f[:, None] * n + i[:, None] * k
            read = torch.einsum("hvk,hk->hv", c, q)
            h = read / torch.einsum("hk,hk->h", n, q).abs().clamp(min=1.0)[:, None]
            h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            outputs.append(torch.sigmoid(o) * h.flatten() * m.scale)
        return torch.stack(outputs)

    return run


def slstm_steps(m):
    heads, units = slstm.HEADS, H // slstm.HEADS

    def run(x):
        h = c = n = torch.zeros(heads, units)
        outputs = []
        for x_t in x:
            gates = linear(x_t, m.map).view(heads, 4, units)
            gates = gates + torch.einsum("hu,hug->hg", h, m.recurrent).view(heads, 4, units)
            z, i, f, o = gates.unbind(1)
            i, f = torch.exp(i), torch.sigmoid(f)
            c, n = f * c + i * torch.tanh(z), f * n + i
            h = torch.sigmoid(o) * c / n
            normed = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            outputs.append(normed.flatten() * m.scale)
        return torch.stack(outputs)

    return run


def short(m, inputs, t):
    """The short convolution at step t."""
    y = m.convolution.bias.clone()
    for back in range(4):
        if t - back >= 0:
            y = y + m.convolution.weight[3 - back] * inputs[t - back]
    return silu(y)


def mamba2(m):
    heads, rows = matrix.HEADS, matrix.STATE

    def run(x):
        state, outputs = torch.zeros(heads, rows, 2 * H // heads), []
        z, inputs, dt = zip(*(linear(x_t, m.enter).split((2 * H, 2 * H + 2 * rows, heads)) for x_t in x), strict=True)
        for t in range(len(x)):
            u, b, c = short(m, inputs, t).split((2 * H, rows, rows))
            u, size = u.view(heads, -1), softplus(dt[t] + m.step_size)
            decay = torch.exp(-size * torch.exp(m.log_rate))
            state = decay[:, None, None] * state + torch.einsum("r,hp->hrp", b, size[:, None] * u)
            y = (torch.einsum("r,hrp->hp", c, state) + m.through * u).flatten() * silu(z[t])
            outputs.append(m.leave.weight @ (m.scale * y / torch.sqrt((y**2).mean() + 1e-6)))
        return torch.stack(outputs)

    return run


def deltanet(m):
    heads, width = matrix.HEADS, H // matrix.HEADS

    def run(x):
        state, outputs = torch.zeros(heads, width, width), []  # values by keys
        inputs, gate, gates = zip(*(linear(x_t, m.enter).split((3 * H, H, 2 * heads)) for x_t in x), strict=True)
        for t in range(len(x)):
            q, k, v = short(m, inputs, t).view(3, heads, width)
            q, k = (part / torch.sqrt((part**2).sum(1, keepdim=True) + 1e-6) for part in (q, k))
            a, b = gates[t].split(heads)
            a = torch.exp(-torch.exp(m.log_rate) * softplus(a + m.step_size))[:, None, None]
            b = torch.sigmoid(b)[:, None, None]
            forget = torch.eye(width) - b * torch.einsum("hk,hl->hkl", k, k)
            state = a * state @ forget + b * torch.einsum("hv,hk->hvk", v, k)
            y = torch.einsum("hvk,hk->hv", state, q)
            y = m.scale * y / torch.sqrt((y**2).mean(1, keepdim=True) + 1e-6)
            outputs.append(m.leave.weight @ (y.flatten() * silu(gate[t])))
        return torch.stack(outputs)

    return run


EQUATIONS = {
    "peephole-lstm": peephole,
    "mingru": mingru,
    "minlstm": minlstm,
    "lru": lru,
    "tcn": tcn,
    "mlstm": mlstm,
    "slstm": slstm_steps,
    "mamba2": mamba2,
    "deltanet": deltanet,
}


def fresh(name, d_in=D, d_out=H):
    """A mixer none of whose weights is where an error would not be seen."""
    mixer = MODELS.get(name).mixer(d_in, d_out, True)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return mixer


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("name", EQUATIONS)
def test_it_is_the_equations_of_its_paper(name, length):
    agree(mixer := fresh(name), EQUATIONS[name](mixer), length)


@pytest.mark.parametrize("name", ["mlstm", "mamba2", "deltanet"])
def test_chunks_are_the_equations_too(name, monkeypatch):
    """Whole chunks, one that is not full, and a memory that goes through several."""
    monkeypatch.setattr(matrix, "CHUNK", 4)
    for length in (4, 8, 15):
        agree(mixer := fresh(name), EQUATIONS[name](mixer), length)


@pytest.mark.parametrize("name", EQUATIONS)
def test_steps_are_the_whole_in_single_precision(name):
    torch.set_default_dtype(torch.float32)
    mixer, x, outputs = fresh(name), torch.randn(2, 150, D), []
    with torch.no_grad():
        state = mixer.initial_state(2)
        for x_t in x.unbind(1):
            y, state = mixer.step(x_t, state)
            outputs.append(y)
        assert torch.allclose(torch.stack(outputs, dim=1), mixer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_state_has_the_size_that_is_told(name):
    mixer = fresh(name)
    parts = mixer.initial_state(1)
    parts = [parts] if isinstance(parts, torch.Tensor) else parts
    assert sum(part.numel() for part in parts) == mixer.state_size(10_000)
    assert all(part.shape[0] == 1 for part in parts)


# ---- the recurrence h_t = a_t h_(t-1) + b_t -----------------------------------------------------------------------


def case(length, *, complex_numbers=False, spread=False):
    dtype = torch.complex128 if complex_numbers else torch.float64
    a = torch.randn(*((4,) if spread else (2, length, 4)), dtype=dtype) * 0.7
    return a.requires_grad_(), torch.randn(2, length, 4, dtype=dtype, requires_grad=True)


@pytest.fixture(params=["in turn", "in blocks", "doubled"])
def way(request, monkeypatch):
    """As on a CPU where steps are large, where they are small, and as on other devices."""
    monkeypatch.setattr(scan, "LONG", {"in turn": 10**9, "in blocks": 2}.get(request.param, 64))
    if request.param == "doubled":

        def steps(a, b, *, back=False):
            return scan._from_the_end(scan._doubled, a, b) if back else scan._doubled(a, b)

        monkeypatch.setattr(scan, "_steps", steps)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_the_scan_is_the_loop_with_its_gradients(way, length, complex_numbers, spread):
    a, b = case(length, complex_numbers=complex_numbers, spread=spread)
    weight = torch.randn(2, length, 4, dtype=a.dtype)
    results = []
    for run in (scan.scan, looped):
        h = run(a, b)
        loss = (h * weight).real.sum() if complex_numbers else (h * weight).sum()
        results.append([h, *torch.autograd.grad(loss, [a, b])])
    for found, truth in zip(*results, strict=True):
        assert found.shape == truth.shape and torch.allclose(found, truth, atol=1e-12)


def test_nothing_is_scanned_to_nothing():
    assert scan.scan(torch.zeros(0, 100, 3), torch.zeros(0, 100, 3)).shape == (0, 100, 3)


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_gradcheck(way, complex_numbers):
    assert gradcheck(scan.scan, case(5, complex_numbers=complex_numbers))


def test_a_second_derivative_of_the_scan_is_refused():
    a, b = case(5)
    (first,) = torch.autograd.grad(scan.scan(a, b).sum(), b, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        first.square().sum().backward()


@pytest.mark.parametrize("mixer", [MinGRU, MinLSTM])
def test_the_loop_of_the_minimal_cells_is_their_scan(mixer):
    cell, x = mixer(D, H, True), torch.randn(2, 9, D)
    for found, truth in zip(*(gradients(run, list(cell.parameters()), x) for run in (cell, cell.loop)), strict=True):
        assert torch.allclose(found, truth, atol=1e-12)


# ---- what each promises -------------------------------------------------------------------------------------------


def test_the_minimal_cells_begin_by_keeping_their_state():
    kept, _ = MinGRU(D, H, True).coefficients(torch.zeros(1, D))
    assert torch.allclose(kept, torch.tensor(1.0).sigmoid())
    kept, _ = MinLSTM(D, H, True).coefficients(torch.zeros(1, D))
    assert (kept > 0.5).all() and not torch.allclose(kept, kept[0, 0])


def test_the_lru_begins_on_its_ring():
    cell = LRU(D, 2000, True)
    radius, angle = cell._decay().abs(), cell._decay().angle()
    assert 0.9 <= radius.min() < 0.902 and 0.998 < radius.max() < 0.999
    assert (radius.square().mean() - (0.9**2 + 0.999**2) / 2).abs() < 0.005  # even in area
    assert angle.min() < -3 and angle.max() > 3 and angle.mean().abs() < 0.2
    assert torch.allclose(cell.gamma.exp().square() + radius.square(), torch.ones(2000))


def test_a_step_of_the_tcn_sees_255_steps():
    layer, x = TCN(3, 8, True), torch.rand(1, 300, 3, requires_grad=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.abs_()  # so that no relu is at rest
    (by_input,) = torch.autograd.grad(layer(x)[:, -1].sum(), x)
    seen = (by_input[0] != 0).any(dim=1)
    assert seen[45:].all() and not seen[:45].any()
    assert layer.state_size(1) == layer.state_size(256)


@pytest.mark.parametrize("name", ["mlstm", "slstm"])
@pytest.mark.parametrize("bias", [-200.0, 200.0])
def test_exponential_gates_stay_finite(name, bias):
    torch.set_default_dtype(torch.float32)
    mixer = fresh(name)
    gates = mixer.gates if name == "mlstm" else mixer.map
    with torch.no_grad():
        of_i = gates.bias[: matrix.HEADS] if name == "mlstm" else gates.bias.view(slstm.HEADS, 4, -1)[:, 1]
        of_i += bias
    x = torch.randn(2, 100, D, requires_grad=True)
    y = mixer(x)
    y.square().sum().backward()
    assert y.isfinite().all() and all(p.grad.isfinite().all() for p in mixer.parameters()) and x.grad.isfinite().all()


def test_the_short_convolution_has_the_gradient_of_its_sum():
    part = matrix._ShortConvolution(3)
    for length in (1, 3, 6):
        inputs = torch.randn(2, length, 3, requires_grad=True), part.weight, part.bias
        assert gradcheck(matrix._Shifted.apply, inputs)


def test_a_write_of_the_delta_rule_replaces_what_its_key_held():
    q = k = torch.nn.functional.normalize(torch.randn(1, 1, 1, 1, 4), dim=-1).expand(1, 1, 1, 6, 4)
    v, ones = torch.randn(1, 1, 1, 6, 4), torch.ones(1, 1, 1, 6)
    assert torch.allclose(matrix._delta(q, k, v, 0 * ones, ones)[0], v)  # whatever was written before
    assert not torch.allclose(matrix._decayed(q, k, v, 0 * ones)[0], v)


def test_peepholes_run_on_the_kernels_and_elsewhere_step_by_step():
    mixer, x = fresh("peephole-lstm"), torch.randn(2, 5, D)
    assert layer.engine_for(mixer.kernel, x, x.shape[:2], "auto").name.startswith(("c ", "written"))
    assert layer.engine_for(mixer.kernel, x, x.shape[:2], "torch") is None
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.engine_for(mixer.kernel, x.float(), x.shape[:2], "auto") is None
    fast = mixer(x)
    mixer.choice = "torch"
    assert torch.allclose(mixer(x), fast, atol=1e-12)


def test_flops_of_the_tcn_by_formula():
    """Torch's counter does not know products that are added in place."""
    seen = [(70 + max(0, 70 - dilation)) * H for dilation in DILATIONS]
    products = sum(2 * H * steps for steps in seen) - seen[0] * (H - D) + 70 * D * H  # and the first skip
    assert count_flops(TCN(D, H, True), torch.zeros(2, 70, D, device="meta")) == 2 * 2 * products


@pytest.mark.parametrize("name", sorted(EQUATIONS.keys() - {"tcn"}))
def test_flops_are_those_of_the_operations_that_run(name):
    """On a real device, where nothing is left out because shapes alone count."""
    mixer = MODELS.get(name).mixer(D, H, True)
    mixer.choice = "torch"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mixer(torch.randn(2, 70, D))
    assert count_flops(mixer, torch.zeros(2, 70, D, device="meta")) == counter.get_total_flops() > 0


@pytest.mark.parametrize("name", EQUATIONS)
def test_numbers_of_16_bits_come_near(name):
    torch.set_default_dtype(torch.float32)
    mixer, x = MODELS.get(name).mixer(D, H, True), torch.randn(2, 70, D)
    with torch.no_grad():
        full = mixer(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = mixer(x)
    assert (rough.float() - full).abs().mean() < 0.05 * full.abs().mean() + 0.01

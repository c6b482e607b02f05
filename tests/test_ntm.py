"""The neural Turing machine equals its paper's equations, its heads do as they are told, and it keeps finite."""

import math

import pytest
import torch
import torch.nn.functional as F

from seqbench.models.ntm import NeuralTuringMachine

torch.set_num_threads(1)
N, M, H, D = 32, 20, 6, 3  # slots, their size, width, inputs


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


def machine(scale=1.0):
    made = NeuralTuringMachine(D, H, causal=True)
    with torch.no_grad():
        made.steer.weight *= scale  # so that the heads have something to do
    return made


# --- the equations ---


def cosine(u, v):
    return torch.dot(u, v) / (u.norm() * v.norm() + 1e-8)


def looked(told, before, memory):
    """One head: equations 5 to 9 of Graves et al. (2014), slot by slot, from the 26 numbers that it is told."""
    key, beta, g = told[:M].tanh(), F.softplus(told[M]), torch.sigmoid(told[M + 1])
    shift, gamma = torch.softmax(told[M + 2 : M + 5], 0), 1 + F.softplus(told[M + 5])
    alike = [torch.exp(beta * cosine(key, memory[i])) for i in range(N)]
    content = [one / sum(alike) for one in alike]
    gated = [g * content[i] + (1 - g) * before[i] for i in range(N)]
    shifted = [sum(gated[(i - by) % N] * shift[by + 1] for by in (-1, 0, 1)) for i in range(N)]
    sharp = [(one + 1e-12) ** gamma for one in shifted]
    return torch.stack([one / sum(sharp) for one in sharp])


def by_the_equations(made, x):
    """(T, D) to (T, H) of one sequence."""
    cell, outputs = made.controller, []
    h, c, r = torch.zeros(H), torch.zeros(H), made.first_read.tanh()
    weights = [torch.softmax(made.first_weights[head], 0) for head in (0, 1)]
    memory = [torch.full((M,), 1e-6) for _ in range(N)]
    for x_t in x:
        gates = cell.weight_ih @ torch.cat([x_t, r]) + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
        i, f, g, o = gates.view(4, H)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        told = (made.steer.weight @ h + made.steer.bias).clamp(-20, 20)
        weights = [looked(told[head * (M + 6) :], weights[head], memory) for head in (0, 1)]
        erase, add = told[-2 * M : -M].sigmoid(), told[-M:].tanh()
        r = sum(weights[0][i] * memory[i] for i in range(N))  # equation 2
        memory = [memory[i] * (1 - weights[1][i] * erase) + weights[1][i] * add for i in range(N)]  # 3 and 4
        outputs.append(h + made.bring.weight @ r)
    return torch.stack(outputs)


@pytest.mark.parametrize("start", NeuralTuringMachine.initialisations)
def test_outputs_and_gradients_are_those_of_the_equations_written_out(start):
    made, x = machine(scale=20.0), torch.randn(2, 3, D)
    made.initialise(start)
    mine, theirs = made(x), torch.stack([by_the_equations(made, row) for row in x])
    assert torch.allclose(mine, theirs, atol=1e-12)
    weight = torch.randn_like(mine)
    ours = torch.autograd.grad((mine * weight).sum(), list(made.parameters()))
    reference = torch.autograd.grad((theirs * weight).sum(), list(made.parameters()))
    for (name, _), a, b in zip(made.named_parameters(), ours, reference, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10) and (a != 0).any(), name


# --- what the heads do ---


def told_to(shift, *, gate=-20.0, strength=0.0):
    """A machine whose heads are told the same at every step: to go by ``shift``, erase all, and write ones."""
    made = machine(scale=0.0)
    with torch.no_grad():
        made.steer.bias.zero_()
        of_heads = made.steer.bias[: 2 * (M + 6)].view(2, M + 6)
        of_heads[:, M], of_heads[:, M + 1], of_heads[:, M + 5] = strength, gate, 20.0
        of_heads[:, M + 2 : M + 5] = -20.0
        of_heads[:, M + 3 + shift] = 20.0
        made.steer.bias[2 * (M + 6) :] = 20.0
    return made


def states(made, steps):
    state = made.initial_state(2)
    for _ in range(steps):
        _, state = made.step(torch.zeros(2, D), state)
        yield state


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_heads_move_by_one_slot_and_come_round(shift):
    for t, state in enumerate(states(told_to(shift), N + 3), 1):
        assert (state.weights.argmax(dim=2) == shift * t % N).all()
        assert torch.allclose(state.weights.sum(dim=2), torch.ones(2, 2)) and (state.weights > -1e-12).all()
        assert state.weights.max(dim=2).values.min() > 0.999


def test_what_is_written_stands_in_the_slots_that_were_passed_and_is_read_from_there():
    *_, state = states(told_to(1), 5)
    written = state.memory.mean(dim=2)[0]
    assert torch.allclose(written[1:6], torch.ones(5), atol=1e-3) and written[6:].abs().max() < 1e-3
    assert state.read.abs().max() < 1e-3  # it reads before it writes, from a slot that was empty
    _, state = told_to(0).step(torch.zeros(2, D), state)
    assert torch.allclose(state.read, torch.ones(2, M), atol=1e-3)  # from slot 5, where both heads stand


def test_a_key_finds_its_slot_wherever_the_head_stood():
    made = told_to(0, gate=20.0, strength=20.0)
    state = made.initial_state(2)
    memory = torch.randn(2, N, M)
    with torch.no_grad():
        made.steer.bias[: M + 6][:M] = memory[0, 17].clamp(-0.9, 0.9).atanh()  # of the head that reads
    _, state = made.step(torch.zeros(2, D), state._replace(memory=memory.clamp(-0.9, 0.9)))
    assert state.weights[0, 0].argmax() == 17 and state.weights[0, 0, 17] > 0.999


def test_the_first_weights_are_on_one_slot_or_even():
    made = machine()
    weights = made.initial_state(3).weights
    assert weights.shape == (3, 2, N) and torch.allclose(weights[:, :, 0].max(), torch.tensor(1 / (1 + 31 / math.e**6)))
    made.initialise("uniform")
    assert torch.allclose(made.initial_state(1).weights, torch.full((1, 2, N), 1 / N))
    assert (made.initial_state(1).memory == 1e-6).all()


# --- sizes, and numbers that stay finite ---


def test_the_state_is_as_large_as_it_says_and_a_subclass_has_another_memory():
    class Large(NeuralTuringMachine):
        slots = 128

    for kind in (NeuralTuringMachine, Large):
        made = kind(D, H, causal=True)
        assert made.state_size(9) == sum(part.numel() for part in made.initial_state(3)) / 3
    assert made.initial_state(1).memory.shape == (1, 128, M)
    assert made(torch.randn(2, 4, D)).isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_gradients_are_finite_in_single_precision_over_a_hundred_steps(scale):
    torch.set_default_dtype(torch.float32)
    made = machine(scale)
    x = scale * torch.randn(4, 100, D)
    made(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


def test_it_runs_where_products_are_in_half_precision():
    torch.set_default_dtype(torch.float32)
    made, x = machine(), torch.randn(2, 7, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made(x)
    assert torch.allclose(output.float(), made(x), atol=0.05)

"""A neural Turing machine (Graves et al. 2014): an LSTM that reads and writes a memory of vectors, all differentiable.

An LSTM cell of width d_out, the controller, is given the input and what was read a step ago. Its output h_t says where
the two heads, one that reads and one that writes, look next, and what is erased and added there (equations 2 to 9). The
layer's output is h_t + W r_t: the linear map that follows any layer then makes of it any linear map of h_t and of what
was read, r_t. As in Collier and Beel (2018), the head reads before the memory is written, what the heads are told is
held to +-20, and the memory starts as a constant.

Where it deviates: the first weights of both heads, which are learned, start on one slot (a logit of 6 there, 0
elsewhere), not spread evenly (`uniform` has that). So the slots are used one after the other from the first step of
training on, and copying is found sooner and goes on working on longer sequences. Norms and logarithms are kept from 0
by a small constant, and the sharpened weights (equation 9) are made as a softmax, which neither overflows nor vanishes.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.mixer import Mixer, register_model

__all__ = ["NeuralTuringMachine"]

HEADS = 2  # the first reads, the second writes
SHIFTS = 3  # to the slot before, none, to the slot after
FOCUS = 6.0  # logit of the slot on which both heads begin: .93 of the weight where there are 32
EMPTY = 1e-6  # what every entry of the memory starts as
MOST = 20.0  # of the numbers that steer the heads
NORM, WEIGHT = 1e-8, 1e-12  # are added to products of norms and to weights, so that nothing is divided by 0


class _State(NamedTuple):
    """Controller output and cell (B, H), what was read (B, M), weights (B, 2, N) and memory (B, N, M)."""

    h: Tensor
    c: Tensor
    read: Tensor
    weights: Tensor
    memory: Tensor


class _Asked(NamedTuple):
    """What the controller tells its heads: keys (B, 2, M), numbers (B, 2, 1), shifts (B, 2, 3), vectors (B, 1, M)."""

    key: Tensor
    strength: Tensor
    gate: Tensor
    shift: Tensor
    sharpness: Tensor
    erase: Tensor
    add: Tensor


@register_model("ntm", aliases=("neural-turing-machine",))
class NeuralTuringMachine(Mixer):
    """Neural Turing machine: an LSTM with a memory of 32 slots of 20, one head that reads and one that writes.

    A subclass with other ``slots`` (N) and ``cell`` (M), the size of each, is a model of its own.
    """

    initialisations = ("focused", "uniform")  # of the heads' first weights
    carries = True
    slots: ClassVar[int] = 32
    cell: ClassVar[int] = 20

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not
        N, M = self.slots, self.cell
        self.controller = nn.LSTMCell(d_in + M, d_out)
        with torch.no_grad():  # the forget gate starts open, as that of the model `lstm`
            self.controller.bias_ih[d_out : 2 * d_out] = 1.0
            self.controller.bias_hh[d_out : 2 * d_out] = 0.0
        self.steer = nn.Linear(d_out, HEADS * (M + 3 + SHIFTS) + 2 * M)
        self.bring = nn.Linear(M, d_out, bias=False)
        self.first_read = nn.Parameter(0.05 * torch.randn(M))
        self.first_weights = nn.Parameter(torch.zeros(HEADS, N))
        self.initialise("focused")

    def initialise(self, name: str) -> None:
        with torch.no_grad():
            self.first_weights[:, 0] = FOCUS if name == "focused" else 0.0

    def state_size(self, length: int) -> int:
        return 2 * self.d_out + self.cell + HEADS * self.slots + self.slots * self.cell

    def initial_state(self, batch: int) -> _State:
        zeros = self.first_read.new_zeros(batch, self.d_out)
        memory = self.first_read.new_full((batch, self.slots, self.cell), EMPTY)
        weights = self.first_weights.softmax(dim=1).expand(batch, -1, -1)
        return _State(zeros, zeros, torch.tanh(self.first_read).expand(batch, -1), weights, memory)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # padding comes after the real steps and can't reach them
        return self.forward_from(x, self.initial_state(len(x)))[0]

    def forward_from(self, x: Tensor, state: _State) -> tuple[Tensor, _State]:
        _, state_weights = self._halves()
        outputs, reads = [], []
        for from_input in self._from_inputs(x).unbind(1):
            state = self._advance(from_input, state, state_weights)
            outputs.append(state.h)
            reads.append(state.read)
        brought: Tensor = self.bring(torch.stack(reads, dim=1))
        return torch.stack(outputs, dim=1) + brought, state

    def step(self, x_t: Tensor, state: _State) -> tuple[Tensor, _State]:
        state = self._advance(self._from_inputs(x_t), state, self._halves()[1])
        return state.h + self.bring(state.read), state

    def _halves(self) -> tuple[Tensor, Tensor]:
        """Weights of the controller's gates by which the inputs go, (4H, d_in), and what it carries, (4H, M + H)."""
        of_inputs, of_read = torch.split(self.controller.weight_ih, [self.d_in, self.cell], dim=1)
        return of_inputs, torch.cat([of_read, self.controller.weight_hh], dim=1)

    def _from_inputs(self, x: Tensor) -> Tensor:
        """(..., d_in) to (..., 4H), that part of the gates which depends on nothing before: for all steps at once."""
        return F.linear(x, self._halves()[0], self.controller.bias_ih + self.controller.bias_hh)

    def _advance(self, from_input: Tensor, state: _State, state_weights: Tensor) -> _State:
        h, c, read, weights, memory = state
        i, f, g, o = (from_input + F.linear(torch.cat([read, h], dim=1), state_weights)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        asked = self._asked(h)
        weights = _look(asked, weights, memory)
        reading, writing = weights.unbind(1)
        read = (reading[:, None] @ memory)[:, 0]  # equation 2
        where = writing[:, :, None]
        memory = memory + where * (asked.add - memory * asked.erase)  # equations 3 and 4
        return _State(h, c, read, weights, memory)

    def _asked(self, h: Tensor) -> _Asked:
        M = self.cell
        numbers = self.steer(h).clamp(-MOST, MOST)
        of_heads, erase, add = torch.split(numbers, [numbers.shape[1] - 2 * M, M, M], dim=1)
        parts = torch.split(of_heads.view(h.shape[0], HEADS, -1), [M, 1, 1, SHIFTS, 1], dim=2)
        key, strength, gate, shift, sharpness = parts
        return _Asked(
            key=torch.tanh(key),
            strength=F.softplus(strength),
            gate=torch.sigmoid(gate),
            shift=shift.softmax(dim=2),
            sharpness=1 + F.softplus(sharpness),
            erase=torch.sigmoid(erase)[:, None],
            add=torch.tanh(add)[:, None],
        )


def _look(asked: _Asked, weights: Tensor, memory: Tensor) -> Tensor:
    """Weights (B, 2, N) of both heads, from those of a step ago."""
    norms = asked.key.norm(dim=2, keepdim=True) * memory.norm(dim=2)[:, None]
    alike = asked.key @ memory.transpose(1, 2) / (norms + NORM)  # equation 6
    content = (asked.strength * alike).softmax(dim=2)  # equation 5
    gated = weights + asked.gate * (content - weights)  # equation 7
    back, stay, on = asked.shift.chunk(3, dim=2)
    shifted = back * gated.roll(-1, 2) + stay * gated + on * gated.roll(1, 2)  # equation 8
    return (asked.sharpness * torch.log(shifted + WEIGHT)).softmax(dim=2)  # equation 9

"""A user's own model, as the docs show it: a leaky average of what it reads."""

import torch

import seqbench


@seqbench.register_model("leaky")
class Leaky(seqbench.Mixer):
    """Leaky average: s_t = a s_{t-1} + (1 - a) W x_t, y_t = tanh(s_t), with a learned decay a for each unit."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal=True)
        self.map = torch.nn.Linear(d_in, d_out)
        self.decay = torch.nn.Parameter(torch.linspace(-2.0, 6.0, d_out))

    def state_size(self, length):
        return self.d_out

    def initial_state(self, batch):
        return self.decay.new_zeros(batch, self.d_out)

    def step(self, x_t, state):
        a = torch.sigmoid(self.decay)
        state = a * state + (1 - a) * self.map(x_t)
        return torch.tanh(state), state

    def forward(self, x, lengths=None):
        state, outputs = self.initial_state(len(x)), []
        for x_t in x.unbind(dim=1):
            y, state = self.step(x_t, state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

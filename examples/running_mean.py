"""A model of one's own: the mean of all steps so far. ``python run_bench.py check examples/running_mean.py``"""

import torch

import seqbench


@seqbench.register_model("running-mean")
class RunningMean(seqbench.Mixer):
    """Mean of all steps so far, after a linear map."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def forward(self, x, lengths=None):  # (B, T, d_in) -> (B, T, d_out); padding comes after the steps that it reads
        T = x.shape[1]
        past = torch.ones(T, T, device=x.device, dtype=x.dtype).tril()
        return past / past.sum(dim=1, keepdim=True) @ self.map(x)

    def state_size(self, length):  # floats carried from step to step: the sum of all steps, and how many there were
        return self.d_out + 1

    def initial_state(self, batch):
        return self.map.weight.new_zeros(batch, self.d_out + 1)

    def step(self, x_t, state):  # (B, d_in) and the state -> (B, d_out) and the next state; it need not be offered
        state = state + torch.nn.functional.pad(self.map(x_t), (0, 1), value=1.0)
        return state[:, :-1] / state[:, -1:], state

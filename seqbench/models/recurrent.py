"""The recurrent mixers: RNN (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997; forget gate Gers et al. 2000), BiLSTM
(Schuster and Paliwal 1997), GRU (Cho et al. 2014, with the reset gate applied after the product, as in cuDNN), and the
LSTM with peepholes (Gers and Schmidhuber 2000).

The weights are those of torch.nn's layers. The whole sequence runs in torch's own kernel (oneDNN or cuDNN) or in one of
`seqbench.models.kernels`, whichever is faster; `step` is the same update written out, for generation. Initialisation:
every weight and bias uniform in +-1/sqrt(d_out), torch's own, except that the gates that keep the state start open: the
LSTM's forget gate and the GRU's update gate at a bias of 1 (one of the two bias vectors holds it, the other holds 0
there; Jozefowicz et al. 2015, Tallec and Ollivier 2018).

Two regularisers act inside the recurrence, and then this package's kernels alone run the layer. Recurrent dropout: U is
applied to h_{t-1} times a mask, one for each sequence, layer and direction, the same for all gates and steps (Gal and
Ghahramani 2016, their LSTM with tied weights; of its two masks that of the state), divided by the share that it lets
through. Zoneout (Krueger et al. 2016): in training each unit keeps its last value with probability p, h_t = d h_{t-1} +
(1 - d) h'_t with d 1 or 0, and so do the cells of an LSTM, with masks of their own, where h'_t comes from the new cell,
taken or not; in evaluation d is p.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.models.dropout import Chance
from seqbench.models.kernels.layer import (
    Layer,
    Peepholes,
    engine_for,
    over_steps,
    over_steps_from,
    over_symbols,
    over_symbols_from,
    regular_engine,
    weights_of,
)
from seqbench.models.kernels.sequence import Engine, Masks
from seqbench.models.mixer import Embedded, Mixer, Regularisers, register_model, reverse_within

__all__ = ["GRU", "LSTM", "RNN", "BiLSTM", "PeepholeLSTM"]


def _torch(kernel: Layer, x: Tensor) -> Tensor:
    """``kernel(x)`` in the type that autocast asks for: left to itself, it would run cuDNN's cells in fp16, always."""
    if x.is_meta or isinstance(kernel, Peepholes) or not torch.is_autocast_enabled(x.device.type):
        output: Tensor = kernel(x)[0]
        return output
    dtype = torch.get_autocast_dtype(x.device.type)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    with torch.autocast(x.device.type, enabled=False):
        full = [getattr(kernel, name) for name in names]
        ends = list(itertools.accumulate(weight.numel() for weight in full[:-1]))
        # in one piece, as cuDNN wants them: cast one by one it would put them together in every call
        pieces = torch.cat([weight.flatten() for weight in full]).to(dtype).tensor_split(ends)
        weights = [piece.view_as(weight) for piece, weight in zip(pieces, full, strict=True)]
        zeros = x.new_zeros(1, len(x), kernel.hidden_size, dtype=dtype)
        shape = (weights, True, 1, 0.0, kernel.training, False, True)  # biases, layers, dropout, ..., batch first
        if isinstance(kernel, nn.LSTM):
            return torch.lstm(x.to(dtype), (zeros, zeros), *shape)[0]
        cell = torch.gru if isinstance(kernel, nn.GRU) else torch.rnn_tanh
        return cell(x.to(dtype), zeros, *shape)[0]


def _run(
    kernel: Layer,
    x: Tensor,
    choice: str,
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    masks: Masks | None = None,
) -> Tensor:
    """(B, T, D) to (B, T, H); ``reverse``: each row is read from its last real step to its first."""
    if masks is not None:
        own = regular_engine(kernel, x, choice)
        with torch.autocast(x.device.type, enabled=False):  # the kernels know single and double precision only
            weights = weights_of(kernel, own)
            x = x.to(weights.recurrent.dtype)
            return over_steps(kernel, own, x, weights, reverse=reverse, lengths=lengths, masks=masks)
    engine = engine_for(kernel, x, x.shape[:2], choice)
    if engine is not None:
        return over_steps(kernel, engine, x, weights_of(kernel, engine), reverse=reverse, lengths=lengths)
    if reverse:
        return reverse_within(_torch(kernel, reverse_within(x, lengths)), lengths)
    return _torch(kernel, x)


def _run_from(
    kernel: Layer, x: Tensor, start: tuple[Tensor, Tensor], choice: str, masks: Masks | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`_run` from states and cells (B, H), with those after the last step; of a cell without cells they are unused."""
    with torch.autocast(x.device.type, enabled=False):  # left to itself, it would run cuDNN's cells in fp16, always
        x = x.to(next(kernel.parameters()).dtype)
        engine = engine_for(kernel, x, x.shape[:2], choice) if masks is None else regular_engine(kernel, x, choice)
        if engine is not None:
            return over_steps_from(kernel, engine, x, weights_of(kernel, engine), start, masks or Masks())
        h, c = (state[None].detach().contiguous() for state in start)
        y, end = kernel(x, (h, c) if isinstance(kernel, nn.LSTM) else h)
    h, c = end if isinstance(kernel, nn.LSTM) else (end, c)
    return y, (h[0].detach(), c[0].detach())


def _run_embedded(
    kernel: Layer,
    embedded: Embedded,
    choice: str,
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    masks: Masks | None = None,
) -> Tensor:
    """`_run` of what is still to be embedded."""
    inputs, weight, bias = embedded
    engine = _folding_engine(kernel, embedded, choice, masks)
    if engine is None:
        return _run(kernel, embedded.values(), choice, reverse=reverse, lengths=lengths, masks=masks)
    weights, masks = weights_of(kernel, engine), masks or Masks()
    if bias is None:
        return over_symbols(kernel, engine, inputs, weight, weights, reverse=reverse, lengths=lengths, masks=masks)
    both = weights._replace(inputs=weights.inputs @ weight, bias=weights.bias + weights.inputs @ bias)
    return over_steps(kernel, engine, inputs, both, reverse=reverse, lengths=lengths, masks=masks)


def _folding_engine(kernel: Layer, embedded: Embedded, choice: str, masks: Masks | None) -> Engine | None:
    """What runs ``kernel`` with its own linear map multiplied by the embedding's; None if nothing does."""
    weight = embedded.weight
    if masks is None:
        return engine_for(kernel, weight, embedded.inputs.shape[:2], choice, folded=True)
    return None if torch.is_autocast_enabled(weight.device.type) else regular_engine(kernel, weight, choice)


def _run_embedded_from(
    kernel: Layer, embedded: Embedded, start: tuple[Tensor, Tensor], choice: str, masks: Masks | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`_run_from` of what is still to be embedded."""
    engine = _folding_engine(kernel, embedded, choice, masks) if embedded.bias is None else None
    if engine is None:
        return _run_from(kernel, embedded.values(), start, choice, masks)
    weights, symbols = weights_of(kernel, engine), embedded.inputs
    return over_symbols_from(kernel, engine, symbols, embedded.weight, weights, start, masks or Masks())


def _held(new: Tensor, last: Tensor, share: float) -> Tensor:
    """``new``, but for the ``share`` that zoneout keeps of the ``last`` on average."""
    return torch.lerp(new, last, share) if share > 0 else new


class _Regular(Mixer):
    """Common part of all recurrent layers: what regularises them."""

    regularisers = frozenset({"recurrent_dropout", "zoneout", "max_norm"})
    traceable = True  # where its kernel is
    dropped = 0.0  # share of the state that the recurrent product does not see in training
    kept_c = kept_h = 0.0  # probabilities of zoneout, of cells and states
    chance: Chance

    def regularise(self, regularisers: Regularisers, chance: Chance) -> None:
        self.dropped, self.chance = regularisers.recurrent_dropout, chance
        if regularisers.zoneout:
            self.kept_c, self.kept_h = regularisers.zoneout[0] * self.has_cells, regularisers.zoneout[-1]

    def _masks(self, kernel: Layer, like: Tensor, shape: torch.Size) -> Masks | None:
        """Of one pass of ``kernel`` over a batch of ``shape`` (B, T); None where nothing regularises it."""
        if like.is_meta or not (self.kept_c or self.kept_h or (self.training and self.dropped)):
            return None
        if not self.training:
            return Masks(share_h=self.kept_h, share_c=self.kept_c)
        (B, T), H, device = shape, kernel.hidden_size, like.device
        seen = keeps_h = keeps_c = None
        if self.dropped:
            dropped = self.chance.mask((B, H), self.dropped, device)
            seen = (~dropped).to(next(kernel.parameters()).dtype).div_(1 - self.dropped)
        if self.kept_h:
            keeps_h = self.chance.mask((T, B, H), self.kept_h, device)
        if self.kept_c:
            keeps_c = self.chance.mask((T, B, H), self.kept_c, device)
        return Masks(seen, keeps_h, keeps_c)


class _Recurrent(_Regular):
    """Common part of the one-directional cells: state (B, d_out), ``kernel`` a one-layer torch.nn recurrent module."""

    carries = True
    kernel: Layer

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal=True)  # by nature, whether asked to or not

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        # padding comes after the real steps and can't reach them
        return _run(self.kernel, x, self.choice, masks=self._masks(self.kernel, x, x.shape[:2]))

    def forward_embedded(self, embedded: Embedded, lengths: Tensor | None = None) -> Tensor:
        masks = self._masks(self.kernel, embedded.weight, embedded.inputs.shape[:2])
        return _run_embedded(self.kernel, embedded, self.choice, masks=masks)

    def forward_from(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        start = state if self.has_cells else (state, state)
        y, end = _run_from(self.kernel, x, start, self.choice, self._masks(self.kernel, x, x.shape[:2]))
        return y, end if self.has_cells else end[0]

    def forward_embedded_from(self, embedded: Embedded, state: Any) -> tuple[Tensor, Any]:
        start = state if self.has_cells else (state, state)
        masks = self._masks(self.kernel, embedded.weight, embedded.inputs.shape[:2])
        y, end = _run_embedded_from(self.kernel, embedded, start, self.choice, masks)
        return y, end if self.has_cells else end[0]

    def _weights(self) -> list[Tensor]:
        """W, U, b and b' as torch.nn names them."""
        return [getattr(self.kernel, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def state_size(self, length: int) -> int:
        return self.d_out

    def _zeros(self, batch: int) -> Tensor:
        return self._weights()[1].new_zeros(batch, self.d_out)

    def initial_state(self, batch: int) -> Tensor | tuple[Tensor, Tensor]:
        return self._zeros(batch)

    def _projections(self, x_t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """W x + b and U h + b', the gates side by side."""
        w, u, b, b_state = self._weights()
        return F.linear(x_t, w, b), F.linear(h, u, b_state)


@register_model("rnn", version=2, aliases=("elman",))
class RNN(_Recurrent):
    """Elman network: h_t = tanh(W x_t + U h_{t-1} + b)."""

    # of U: orthogonal (Saxe et al. 2014), and 1.5 times that, where gradients can explode; all else as by default
    initialisations = ("default", "orthogonal", "orthogonal-1.5")

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal)
        self.kernel = nn.RNN(d_in, d_out, batch_first=True)

    def initialise(self, name: str) -> None:
        if name != self.initialisations[0]:
            nn.init.orthogonal_(self._weights()[1], gain=float(name.partition("-")[2] or 1.0))

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        wx, uh = self._projections(x_t, state)
        h = _held(torch.tanh(wx + uh), state, self.kept_h)
        return h, h


def _keep_at_first(kernel: nn.LSTM | nn.GRU, bias: float = 1.0) -> None:
    """The bias of the gate that keeps the state: the second block in torch's order of both cells (i f g o; r z n)."""
    gate = slice(kernel.hidden_size, 2 * kernel.hidden_size)
    with torch.no_grad():
        for name, value in (("bias_ih_l0", bias), ("bias_hh_l0", 0.0)):
            getattr(kernel, name)[gate].fill_(value)


def _lstm(d_in: int, d_out: int) -> nn.LSTM:
    kernel = nn.LSTM(d_in, d_out, batch_first=True)
    _keep_at_first(kernel)
    return kernel


@register_model("lstm", version=2)
class LSTM(_Recurrent):
    """Long short-term memory with forget gate, forget bias 1."""

    initialisations = ("forget-bias-1", "forget-bias-0", "forget-bias-3")
    has_cells = True
    kernel: nn.LSTM

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal)
        self.kernel = _lstm(d_in, d_out)

    def initialise(self, name: str) -> None:
        _keep_at_first(self.kernel, float(name.rpartition("-")[2]))

    def state_size(self, length: int) -> int:
        return 2 * self.d_out

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        return self._zeros(batch), self._zeros(batch)

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        wx, uh = self._projections(x_t, h)
        i, f, g, o = (wx + uh).chunk(4, dim=1)
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = _held(torch.sigmoid(o) * torch.tanh(new), h, self.kept_h)
        return h, (h, _held(new, c, self.kept_c))


@register_model("peephole-lstm", aliases=("peephole",))
class PeepholeLSTM(LSTM):
    """LSTM whose gates see the cell state (peepholes), forget bias 1."""

    kernel: Peepholes

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        _Recurrent.__init__(self, d_in, d_out, causal)
        self.kernel = Peepholes(d_in, d_out)
        _keep_at_first(self.kernel)

    def step(self, x_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        wx, uh = self._projections(x_t, h)
        new_h, new_c = self.kernel.update(wx + uh, c)
        h = _held(new_h, h, self.kept_h)
        return h, (h, _held(new_c, c, self.kept_c))


@register_model("gru", version=2)
class GRU(_Recurrent):
    """Gated recurrent unit, reset gate after the recurrent product, update bias 1."""

    initialisations = ("update-bias-1", "update-bias-0")
    kernel: nn.GRU

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal)
        self.kernel = nn.GRU(d_in, d_out, batch_first=True)
        _keep_at_first(self.kernel)

    def initialise(self, name: str) -> None:
        _keep_at_first(self.kernel, float(name.rpartition("-")[2]))

    def step(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        wx, uh = self._projections(x_t, state)
        rx, zx, nx = wx.chunk(3, dim=1)
        rh, zh, nh = uh.chunk(3, dim=1)
        z = torch.sigmoid(zx + zh)
        n = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
        h = _held((1 - z) * n + z * state, state, self.kept_h)
        return h, h


@register_model("bilstm", version=2)
class BiLSTM(_Regular):
    """Two LSTMs of half the width, one reading backwards from the last real step; sees the future."""

    can_be_causal = False
    width_multiple = 2
    has_cells = True

    def __init__(self, d_in: int, d_out: int, causal: bool) -> None:
        super().__init__(d_in, d_out, causal)
        self.ahead = _lstm(d_in, d_out // 2)
        self.back = _lstm(d_in, d_out // 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        ahead, back = (self._masks(kernel, x, x.shape[:2]) for kernel in (self.ahead, self.back))
        first = _run(self.ahead, x, self.choice, masks=ahead)
        return torch.cat([first, _run(self.back, x, self.choice, reverse=True, lengths=lengths, masks=back)], dim=2)

    def forward_embedded(self, embedded: Embedded, lengths: Tensor | None = None) -> Tensor:
        like, shape = embedded.weight, embedded.inputs.shape[:2]
        ahead, back = (self._masks(kernel, like, shape) for kernel in (self.ahead, self.back))
        first = _run_embedded(self.ahead, embedded, self.choice, masks=ahead)
        last = _run_embedded(self.back, embedded, self.choice, reverse=True, lengths=lengths, masks=back)
        return torch.cat([first, last], dim=2)

    def state_size(self, length: int) -> int:
        return 2 * self.d_out  # (h, c) of d_out / 2 in each direction

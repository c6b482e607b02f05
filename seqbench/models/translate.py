"""Translating: a frame around any mixer that reads a sentence and writes another, piece by piece (kind `translate`).

Encoder and decoder (Sutskever, Vinyals and Le 2014; Cho et al. 2014): layers of one mixer read the source, layers of
the same mixer, causal, write the target. The encoder knows the whole source at every step: a mixer that can look both
ways does, of any other two read it, one from each end, each of half the width. What they end with goes through a linear
map and stands at the decoder's first step: a vector of one width, however long the source is. With ``attention`` dot
(Luong, Pham and Manning 2015, their general score, over sqrt(d) as in Vaswani et al. 2017, and their attentional vector
tanh(W [h; c])) every step of the decoder looks back at all steps of the encoder as well: at what the layers made of
each and at the piece itself (Gehring et al. 2017, who add the two); with none it has only what that vector holds.

The frame ``decoder`` has no encoder: source, a mark and target are one sequence for causal layers, as language models
read them. Its loss is over the target.

A layer norm stands behind both stacks, in the `bare` backbone, too: the small states that recurrent layers begin with
would else tell attention little, and the decoder would learn to write long before it looks back.

All pieces share one table, which also makes the scores of what is written next (Press and Wolf 2017), from vectors of
the embedding's width. Its entries start as N(0, 1 / width), and inputs are multiplied by sqrt(width), so that they have
the size that they have for other kinds. Dropout acts on the embedded pieces, after each layer and on what the scores
are made of. Training is teacher forcing on cross-entropy with a label smoothing of .1 (Szegedy et al. 2016).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench.data import BEGIN, END, Batch, Pairs, Reading, TaskData, texts_of
from seqbench.errors import Diverged
from seqbench.models.backbone import SequenceModel
from seqbench.models.heads import Head, Sample, Shape, Stepping, register_head
from seqbench.models.mixer import Mixer, real_steps, reverse_within

__all__ = ["ALIGNMENT", "TranslateHead", "Translator"]

SMOOTHING = 0.1  # of labels
MORE, LEAST = 1.5, 10  # a translation has at most so many pieces for each of the source, and so many beside
LENGTH_POWER = 1.0  # of a translation's length, by which its log-probability is divided where several are compared
ALIGNMENT = "alignment.json"  # beside the record: what the pieces of one translation looked back at
SHOWN = 3  # translations in a sample
SHOWN_LENGTH = 12, 30  # pieces of a source that is shown


class _Reader(nn.Module):
    """A layer of the encoder: (B, S, d_in) to (B, S, d_out), with the whole source in every step."""

    def __init__(self, mixer: type[Mixer], d_in: int, d_out: int) -> None:
        super().__init__()
        self.ahead, self.back = mixer(d_in, d_out, False), None
        half = d_out // 2 // mixer.width_multiple * mixer.width_multiple
        if self.ahead.causal and half:  # by nature, so a second one reads from the end
            self.ahead, self.back = mixer(d_in, d_out - half, False), mixer(d_in, half, False)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        ahead: Tensor = self.ahead(x, lengths)
        if self.back is None:
            return ahead
        back = reverse_within(self.back(reverse_within(x, lengths), lengths), lengths)
        return torch.cat([ahead, back], dim=2)

    def summary(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, d_out) what it ends with: each direction's last step, or the mean where each step has seen all."""
        if not self.ahead.causal:
            if lengths is None:
                return y.mean(dim=1)
            real = real_steps(lengths, y.shape[1])[:, :, None]
            return torch.where(real, y, 0.0).sum(dim=1) / lengths[:, None]
        split = self.ahead.d_out
        last = y[:, -1] if lengths is None else y[torch.arange(y.shape[0], device=y.device), lengths - 1]
        return torch.cat([last[:, :split], y[:, 0, split:]], dim=1)


class _Memory(NamedTuple):
    """What the encoder leaves of B sources: keys and values, (B, S, d) and (B, S, d + width), scores that shut out
    padding (B, 1, S), and the vector that the decoder begins from (B, width). Without attention there is only the last.
    """

    keys: Tensor | None
    values: Tensor | None
    shut: Tensor | None
    first: Tensor | None


class _State(NamedTuple):
    """Where the decoder stands: the memory, the states of its layers, and what was written, if it has no step form."""

    memory: _Memory
    layers: list[Any]
    written: Tensor | None


class Translator(SequenceModel):
    """``model(inputs, lengths, targets) -> (B, T, V)`` scores of each piece of ``targets``, given those before it.

    The layers that `SequenceModel` has are the decoder's.
    """

    def __init__(
        self,
        mixer: type[Mixer],
        head: type[Head],
        shape: Shape,
        widths: tuple[int, ...],
        dropout: float | tuple[float, ...] = 0.0,
        backbone: str = "bare",
        embedding: int | None = None,
        dense: tuple[int, ...] = (),
        *,
        frame: str = "encoder-decoder",
        attention: str | None = None,
        beam: int = 1,
    ) -> None:
        super().__init__(mixer, head, shape, widths, dropout, backbone, embedding, dense)
        self.beam, self.width = beam, self.table.embedding_dim
        nn.init.normal_(self.table.weight, std=self.width**-0.5)
        reads = frame == "encoder-decoder"
        sizes = zip((self.width, *widths[:-1]), widths, strict=True) if reads else ()
        self.readers = nn.ModuleList(_Reader(mixer, d_in, d_out) for d_in, d_out in sizes)
        befores = (self.width, *widths[:-1]) if self.residual and reads else ()
        self.reader_norms = nn.ModuleList(nn.LayerNorm(d) for d in befores)
        self.read_norm = nn.LayerNorm(widths[-1]) if self.readers else None
        self.write_norm = None if self.residual else nn.LayerNorm(widths[-1])  # that backbone has its own
        self.first = nn.Linear(widths[-1], self.width) if reads else None
        seen = widths[-1] + self.width  # of each step of the source: what the encoder makes of it, and the piece itself
        self.keys = nn.Linear(widths[-1], widths[-1], bias=False) if reads and attention != "none" else None
        self.combine = nn.Linear(widths[-1] + (0 if self.keys is None else seen), self.width)
        self.bias = nn.Parameter(torch.zeros(shape.outputs[0]))

    @property
    def table(self) -> nn.Embedding:
        """The vectors of all pieces."""
        assert isinstance(self.embed, nn.Embedding)
        return self.embed

    # --- what is scored ---------------------------------------------------------------------------------------------

    def forward(self, inputs: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Without ``targets`` the source stands for its own translation, for those who count operations."""
        return self._scores(self._written(inputs, lengths, inputs if targets is None else targets))

    writes = True

    def told(self, inputs: Tensor, lengths: Tensor | None = None, written: Tensor | None = None) -> Tensor:
        told: Tensor = self.head.told(self(inputs, lengths, written))
        return told

    def teach(self, batch: Batch) -> Tensor:
        """(M, V) the scores of the M real pieces of the targets, in order."""
        written = self._written(batch.inputs, batch.lengths, batch.targets)
        return self._scores(written[batch.targets > 0])

    def traced(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's own inputs, and its vectors, with the same pieces as the source."""
        tokens = inputs.long()
        embedded = self._read(tokens).detach().requires_grad_()
        memory = self._remember(tokens, None)
        return embedded, self._vectors(self._mixed(embedded), memory)

    def _read(self, tokens: Tensor) -> Tensor:
        """(..., width) embedded pieces."""
        embedded: Tensor = self.dropout(self.table(tokens) * math.sqrt(self.width), self.shares[0])
        return embedded

    def _scores(self, written: Tensor) -> Tensor:
        scores: Tensor = F.linear(self.dropout(written, self.shares[-1]), self.table.weight, self.bias)
        return scores

    def _mixed(self, x: Tensor) -> Tensor:
        """The decoder's layers over (B, T, width)."""
        mixed = self.mix(x, None)
        normed: Tensor = self.norms[-1](mixed) if self.write_norm is None else self.write_norm(mixed)
        return normed

    def _written(self, inputs: Tensor, lengths: Tensor | None, targets: Tensor) -> Tensor:
        """(B, T, width) what each piece of ``targets`` is told from: the source and the pieces before it."""
        before = F.pad(targets[:, :-1], (1, 0), value=BEGIN)
        if not self.readers:
            return self._in_a_row(inputs, lengths, before)
        memory = self._remember(inputs, lengths)
        x = self._read(before)
        assert memory.first is not None
        x = torch.cat([x[:, :1] + memory.first[:, None], x[:, 1:]], dim=1)
        return self._vectors(self._mixed(x), memory)

    def _in_a_row(self, inputs: Tensor, lengths: Tensor | None, before: Tensor) -> Tensor:
        """The same of the frame `decoder`: each row's target follows its source at once, padding stands behind both."""
        (B, S), T = inputs.shape, before.shape[1]
        if lengths is None:
            mixed = self._mixed(self._read(torch.cat([inputs, before], dim=1)))[:, S:]
            return self._vectors(mixed, None)
        steps, ends = torch.arange(S + T, device=inputs.device), lengths[:, None]
        both = torch.cat([inputs, before], dim=1)
        at = torch.where(steps < ends, steps, (steps - ends + S).clamp(max=S + T - 1))
        mixed = self._mixed(self._read(both.gather(1, at)))
        after = (ends + steps[:T])[:, :, None].expand(B, T, mixed.shape[2])
        return self._vectors(mixed.gather(1, after), None)

    def _remember(self, inputs: Tensor, lengths: Tensor | None) -> _Memory:
        """Read the sources (B, S)."""
        if self.first is None:
            return _Memory(None, None, None, None)
        pieces = x = self._read(inputs)
        reader = None
        for i, reader in enumerate(self.readers):
            y = reader(self.reader_norms[i](x) if self.residual else x, lengths)
            x = self._skip(i, x, y)
        assert isinstance(reader, _Reader) and self.read_norm is not None
        x = self.read_norm(x)
        first = self.first(reader.summary(x, lengths))
        if self.keys is None:
            return _Memory(None, None, None, first)
        shut = None
        if lengths is not None:
            shut = torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device)
            shut = shut.masked_fill(~real_steps(lengths, x.shape[1]), -math.inf)[:, None]
        return _Memory(self.keys(x), torch.cat([x, pieces], dim=2), shut, first)

    def _vectors(self, mixed: Tensor, memory: _Memory | None) -> Tensor:
        """(B, T, d) of the decoder to (B, T, width): with attention, together with what it looks back at."""
        if memory is not None and memory.values is not None:
            mixed = torch.cat([mixed, self._weights(mixed, memory) @ memory.values], dim=2)
        return torch.tanh(self.combine(mixed))

    @staticmethod
    def _weights(mixed: Tensor, memory: _Memory) -> Tensor:
        """(B, T, S) shares of attention."""
        assert memory.keys is not None
        scores = mixed @ memory.keys.transpose(1, 2) / math.sqrt(mixed.shape[2])
        shares: Tensor = (scores if memory.shut is None else scores + memory.shut).softmax(dim=2)
        return shares

    def alignment(self, inputs: Tensor, written: Tensor) -> Tensor | None:
        """(B, T, S) how much each piece of ``written`` looked at each of the sources; None without attention."""
        if self.keys is None:
            return None
        memory = self._remember(inputs, None)
        x = self._read(F.pad(written[:, :-1], (1, 0), value=BEGIN))
        assert memory.first is not None
        return self._weights(self._mixed(torch.cat([x[:, :1] + memory.first[:, None], x[:, 1:]], dim=1)), memory)

    # --- writing ----------------------------------------------------------------------------------------------------

    def answer(self, batch: Batch) -> Tensor:
        """(B, T) the pieces of the translations, 0 after their end; every one as long as it would be by itself."""
        inputs, lengths = batch.inputs, batch.lengths
        if lengths is None:
            lengths = torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
        write = self._greedy if self.beam == 1 else self._beam
        if self.readers:
            return write(inputs, lengths)
        # without an encoder all rows must have come to their targets at once, so those of one length go together
        made: Tensor = inputs.new_zeros(len(inputs), int(_limits(lengths).max()))
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            part = write(inputs[rows, :length], lengths[rows])
            made[rows, : part.shape[1]] = part
        return made

    def _start(self, inputs: Tensor, lengths: Tensor) -> _State:
        """Before the first piece."""
        memory = self._remember(inputs, lengths)
        if not self.steps:
            return _State(memory, [], inputs if not self.readers else inputs[:, :0])
        layers = self.initial_state(len(inputs))
        for tokens in inputs.unbind(1) if not self.readers else ():
            _, layers = self.mix_step(self._read(tokens), layers)
        return _State(memory, layers, None)

    def _next(self, tokens: Tensor, state: _State) -> tuple[Tensor, _State]:
        """(B, V) the scores of what follows ``tokens`` (B,), and where the decoder stands then."""
        memory, layers, written = state
        if written is None:
            x = self._read(tokens)
            x = x if memory.first is None else x + memory.first
            x, layers = self.mix_step(x, layers)
            mixed = (x if self.write_norm is None else self.write_norm(x))[:, None]
            state = _State(memory._replace(first=None), layers, None)
        else:
            written = torch.cat([written, tokens[:, None]], dim=1)
            x = self._read(written)
            if memory.first is not None:
                x = torch.cat([x[:, :1] + memory.first[:, None], x[:, 1:]], dim=1)
            mixed = self._mixed(x)[:, -1:]
            state = _State(memory, layers, written)
        return self._scores(self._vectors(mixed, memory)[:, 0]), state

    def _greedy(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The likeliest piece each time; sentences that have come to their end are left alone from then on."""
        limits = _limits(lengths)
        made = inputs.new_zeros(len(inputs), int(limits.max()))
        rows, state = torch.arange(len(inputs), device=inputs.device), self._start(inputs, lengths)
        tokens, told = torch.full_like(rows, BEGIN), inputs.new_zeros((), dtype=torch.float32)
        for t in range(made.shape[1]):
            scores, state = self._next(tokens, state)
            best, tokens = _allowed(scores).max(dim=1)
            told += best.float().sum()
            made[rows, t] = torch.where(tokens == END, 0, tokens)
            going = (tokens != END) & (t + 1 < limits[rows])
            if not going.any():
                break
            if not going.all():
                rows, tokens, state = rows[going], tokens[going], _taken(state, going)
        _check_finite(told)
        return made

    def _beam(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The best of ``beam`` translations that are written side by side, by log-probability for each piece."""
        (B, _), k, device = inputs.shape, self.beam, inputs.device
        rows, limits = torch.arange(B, device=device), _limits(lengths)
        state = _taken(self._start(inputs, lengths), rows.repeat_interleave(k))
        made = inputs.new_zeros(B, k, int(limits.max()))
        total = torch.full((B, k), -math.inf, device=device)
        total[:, 0] = 0.0  # all begin alike
        tokens, ended = torch.full((B, k), BEGIN, device=device), torch.zeros(B, k, dtype=torch.bool, device=device)
        for t in range(made.shape[2]):
            scores, state = self._next(tokens.flatten(), state)
            logs = _allowed(scores.float()).log_softmax(dim=1).view(B, k, -1)
            logs = logs.masked_fill(ended[:, :, None], -math.inf)
            logs[:, :, 0] = torch.where(ended, 0.0, -math.inf)  # after the end stands nothing, at no cost
            total, best = (total[:, :, None] + logs).flatten(1).topk(k, dim=1)
            of, tokens = best // logs.shape[2], best % logs.shape[2]
            made, ended = made.gather(1, of[:, :, None].expand_as(made)), ended.gather(1, of)
            made[:, :, t] = torch.where(tokens == END, 0, tokens)
            ended = ended | (tokens == END) | (t + 1 >= limits[:, None])
            if ended.all():
                break
            state = _taken(state, (rows[:, None] * k + of).flatten())
        _check_finite(total[:, 0])
        chosen = (total / ((made > 0).sum(dim=2) + 1.0) ** LENGTH_POWER).argmax(dim=1)
        return made[rows, chosen]

    # --- what it is -------------------------------------------------------------------------------------------------

    def mixers(self) -> list[Mixer]:
        readers = [part for reader in self.readers for part in reader.children() if isinstance(part, Mixer)]
        return [*readers, *super().mixers()]

    def state_size(self, length: int) -> int:
        """Of the decoder after ``length`` steps; with attention, also the encoder's steps of as long a source."""
        looked_at = 0 if self.keys is None else (2 * self.widths[-1] + self.width) * length
        return super().state_size(length) + looked_at


def _limits(lengths: Tensor) -> Tensor:
    """(B,) the most pieces of a translation."""
    return (MORE * lengths).long() + LEAST


def _allowed(scores: Tensor) -> Tensor:
    """``scores`` (B, V) without padding and the mark of the beginning, which no target holds."""
    scores[:, [0, BEGIN]] = -math.inf
    return scores


def _taken(state: Any, rows: Tensor) -> Any:
    """``state``, tensors (B, ...) in tuples and lists, of ``rows`` alone: numbers, or true where a row is kept."""
    if isinstance(state, Tensor):
        return state[rows]
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_taken(part, rows) for part in state))
    if isinstance(state, list | tuple):
        return type(state)(_taken(part, rows) for part in state)
    return state


def _check_finite(told: Tensor) -> None:
    if not torch.isfinite(told).all():  # the likeliest of NaN would still look like a piece
        raise Diverged("the predictions are not finite")


@register_head("translate")
class TranslateHead(Head):
    """Another sentence for each sentence, written piece by piece by a `Translator`; scored as text."""

    causal = True
    every_step = True
    frame = Translator
    options = ("frame", "attention", "beam")
    telling = "the log-probability, in nats, of each piece at each step of written (batch, pieces, vocabulary)"
    refusal = (
        "{model} sees later steps, so it can't be the decoder of a {kind} task, which writes piece by piece; in this "
        "frame the encoders of other models read the source from both ends, too"
    )

    @staticmethod
    def outputs(data: TaskData) -> tuple[int, ...]:
        return (len(data.vocabulary),)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """From the scores (M, V) of the real pieces."""
        return F.cross_entropy(output.float(), batch.targets[batch.targets > 0], label_smoothing=SMOOTHING)

    def told(self, output: Tensor) -> Tensor:
        return output.float().log_softmax(dim=2)

    def predict(self, output: Tensor, batch: Batch) -> Tensor:
        """(B, T) pieces."""
        return output

    @staticmethod
    def columns(predictions: npt.NDArray[Any], reading: Reading) -> dict[str, npt.NDArray[Any]]:
        """The translation."""
        return {"translation": np.array(texts_of(predictions), dtype=str)}

    @staticmethod
    def sample(model: Stepping, data: TaskData, generator: np.random.Generator) -> Sample | None:
        """Some test sentences as they were translated, and what the first one's pieces looked back at."""
        assert isinstance(model, Translator) and isinstance(data.test, Pairs)
        lengths = data.test.row_lengths
        fit = np.flatnonzero((lengths >= SHOWN_LENGTH[0]) & (lengths <= SHOWN_LENGTH[1]))
        order = generator.permutation(fit if len(fit) else len(data.test))[:SHOWN]
        lines, files = list[str](), dict[str, Any]()
        for i in order.tolist():
            batch = data.test[[i]]
            inputs = torch.from_numpy(batch.inputs[:, : lengths[i]]).long().to(next(model.parameters()).device)
            with torch.no_grad():
                written = model.answer(Batch(inputs))
                ended = F.pad(written[:, : int((written > 0).sum())], (0, 1), value=END)
                weights = model.alignment(inputs, ended)
            sides = data.test.collect(inputs.cpu().numpy()), data.test.collect(written.cpu().numpy())
            texts = [texts_of(side)[0] for side in (*sides, data.test.targets[[i]])]
            lines += [
                f"{name:11}  {text}" for name, text in zip(("source", "translation", "reference"), texts, strict=True)
            ]
            lines.append("")
            if weights is not None and not files:
                files[ALIGNMENT] = {
                    "source": [data.vocabulary[token] for token in inputs[0].tolist()],
                    "written": [data.vocabulary[token] for token in ended[0].tolist()],
                    "weights": [[round(share, 4) for share in row] for row in weights[0].cpu().tolist()],
                }
        return Sample("\n".join(lines[:-1]), {}, files)

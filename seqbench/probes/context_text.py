"""How far back a trained model of text uses what it has read: losses from truncated, carried and perturbed contexts.

The loss of character t after exactly k others needs a pass from zero state at t - k. Targets stand at every s-th
character, so that a pass from each s-th character serves every k that s divides: it predicts one target after s
characters, the next after 2 s ... That costs as many passes as there are targets, not one for each target and k, and
the figures are the very same (the protocol asks for single passes and k = 1, 2, 4, ...; those between, 3, 6, 12, ...,
are nearly free).

A model whose state grows with the length (attention) is read at most at the length it was trained at: beyond it its
positions are new to it, which is a question of its own, and its cost is quadratic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.data.splits import BLOCK, Stream, TaskData
from seqbench.errors import UserError
from seqbench.models.backbone import SequenceModel, count_parameters
from seqbench.probes import Case, Told
from seqbench.probes.context_far import perturbed_inputs
from seqbench.probes.context_fit import trained
from seqbench.training import evaluate

__all__ = ["Targets", "carried_losses", "measure_text", "place_targets", "text_distances", "truncated_losses"]

Array = npt.NDArray[Any]
MOST_BLOCKS = 80  # more would fill records, not sharpen intervals
CHUNK = 1 << 17  # characters in one pass: their outputs fit into any memory
STRETCH = 1 << 15  # characters of a pass with carried state
WINDOW = 1024  # characters before a target of which the farther ones are perturbed
PERMUTATIONS = 3
FAR_BLOCKS = 25


class Targets(NamedTuple):
    """The characters of a text that are scored: ``first``, ``first + stride``, ..., ``number`` of them."""

    first: int
    stride: int
    number: int

    @property
    def positions(self) -> Array:
        """(N,) where they stand."""
        return self.first + self.stride * np.arange(self.number)


def place_targets(length: int, targets: int, longest: int) -> Targets:
    """At least ``targets`` characters, evenly over a text of ``length`` after its first ``longest``.

    The stride is a power of two, so there are at most twice as many.

    Raises:
        UserError: less than two blocks of text would be left, or fewer characters than ``targets``.
    """
    most = length - 2 * BLOCK
    if most < 1:
        raise UserError(f"a test text of {length:,} characters is too short for two blocks of {BLOCK:,}.")
    if longest > most:
        raise UserError(f"--longest {longest} leaves too little of a test text of {length:,}: take at most {most}.")
    span = length - longest
    if targets > span:
        raise UserError(f"--targets {targets} is more than the test text has: take at most {span:,}.")
    stride = 1 << ((span // targets).bit_length() - 1)
    return Targets(longest, stride, -(-span // stride))


def text_distances(longest: int, stride: int) -> list[int]:
    """k = 1, 2, 4, ... up to ``longest``, and between them 3, 6, 12, ... where that costs next to nothing."""
    powers = [1 << j for j in range(longest.bit_length())]
    between = [3 * k for k in powers if 3 * k <= longest and (3 * k <= 2 * stride or 3 * k % stride == 0)]
    return sorted({*powers, *between, longest})


def measure_text(case: Case, told: Told) -> dict[str, Any]:
    """Train, and score the targets of the test text after every k; see `seqbench.probes.context` for the result."""
    chosen, data, model = trained(case, told)
    about, spec = case.options, chosen.prepared.spec
    assert isinstance(data.test, Stream)
    length, tokens = about["length"], torch.from_numpy(np.array(data.test.tokens)).long().to(chosen.device)
    targets = place_targets(len(tokens), about["targets"], about["longest"])
    grows = model.state_size(2 * length) > model.state_size(length)
    ks = [k for k in text_distances(about["longest"], targets.stride) if k <= length or not grows]
    blocks = min(MOST_BLOCKS, targets.number, (len(tokens) - targets.first) // BLOCK)
    of_block = np.arange(targets.number) * blocks // targets.number
    told.say(f"scoring {targets.number:,} characters after {ks[0]} to {ks[-1]} others")
    nats = truncated_losses(model, tokens, targets, ks)
    counts = np.bincount(of_block).tolist()
    carried = None if grows else carried_losses(model, tokens, targets)
    words = word_count(data.test.tokens, is_space(data))
    return {
        **{"task": spec.name, "kind": spec.kind, "what": about["what"], "length": length, "ks": ks},
        "blocks": blocks,
        "counts": counts,
        "sums": [[rounded(value) for value in row] for row in _block_sums(nats, of_block, blocks)],
        "carried": None if carried is None else {"sums": _sums(carried, of_block), "counts": counts},
        "limit": length if grows else None,
        "chars_per_word": rounded(len(tokens) / words) if words > 1 else None,
        "perturbed": _perturbed(model, data, tokens, targets, about),
        "metric": spec.primary.name,
        "unit": spec.primary.unit,
        "test": rounded(evaluate(model, spec, data.test, chosen.config)[spec.primary.name]),
        "params": count_parameters(model),
        "width": about["hidden"],
    }


@torch.no_grad()
def truncated_losses(model: SequenceModel, tokens: Tensor, targets: Targets, ks: list[int]) -> Array:
    """(N, K) nats of each target after exactly k characters, read from zero state; ``tokens`` is the text (L,)."""
    table = np.empty((targets.number, len(ks)))
    at = torch.from_numpy(targets.positions).to(tokens.device)
    shared = [k for k in ks if k % targets.stride == 0]
    for column, k in enumerate(ks):
        if k not in shared:
            offsets = torch.arange(-k, 0, device=tokens.device)
            for i in range(0, targets.number, _rows(k)):
                part = at[i : i + _rows(k)]
                table[i : i + len(part), column] = last_losses(model, tokens[part[:, None] + offsets], tokens[part])
    if shared:
        table[:, [ks.index(k) for k in shared]] = _shared_losses(model, tokens, targets, shared)
    return table


def _shared_losses(model: SequenceModel, tokens: Tensor, targets: Targets, ks: list[int]) -> Array:
    """The same where the stride divides all ``ks``: pass j predicts target j - (longest - k) / stride."""
    longest, first = max(ks), targets.first - max(ks)
    n_starts = targets.number + (longest - min(ks)) // targets.stride
    table = np.empty((targets.number, len(ks)))
    steps = torch.arange(longest, device=tokens.device)
    ends = torch.tensor(ks, device=tokens.device)
    for i in range(0, n_starts, _rows(longest)):
        j = np.arange(i, min(n_starts, i + _rows(longest)))
        starts = torch.from_numpy(first + j * targets.stride).to(tokens.device)[:, None]
        # past the end of the text stands its last character, which no scored output sees
        inputs = tokens[(starts + steps).clamp(max=len(tokens) - 1)]
        wanted = tokens[(starts + ends).clamp(max=len(tokens) - 1)]
        nats = _nats(model(inputs)[:, ends - 1], wanted)
        rows = j[:, None] - (longest - np.array(ks)) // targets.stride
        inside = (rows >= 0) & (rows < targets.number)
        table[rows[inside], np.nonzero(inside)[1]] = nats[inside]
    return table


@torch.no_grad()
def carried_losses(model: SequenceModel, tokens: Tensor, targets: Targets) -> Array:
    """(N,) nats of each target with a state carried over at least ``first`` and up to 32,768 characters."""
    span = len(tokens) - targets.first
    n_stretches = -(-span // max(1, STRETCH - targets.first))
    scored = -(-span // n_stretches)
    steps, at = torch.arange(targets.first + scored - 1, device=tokens.device), targets.positions
    nats = np.empty(targets.number)
    for i in range(0, n_stretches, _rows(len(steps))):
        begins = torch.arange(i, min(n_stretches, i + _rows(len(steps))), device=tokens.device)[:, None] * scored
        logits = model(tokens[(begins + steps).clamp(max=len(tokens) - 1)])
        stretch = (at - targets.first) // scored - i
        here = np.flatnonzero((stretch >= 0) & (stretch < len(begins)))
        places = torch.from_numpy(at[here] - (stretch[here] + i) * scored - 1).to(tokens.device)
        rows = torch.from_numpy(stretch[here]).to(tokens.device)
        nats[here] = _nats(logits[rows, places], tokens[torch.from_numpy(at[here]).to(tokens.device)])
    return nats


def _perturbed(
    model: SequenceModel, data: TaskData, tokens: Tensor, targets: Targets, about: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Sums of nats a block, with and without what lies farther than k in a window changed, for some of the targets."""
    window = min(WINDOW, about["length"])
    near = [k for k in about["near"] if k < window]
    if not near:
        return None
    at = targets.positions[:: max(1, targets.number // about["perturbed"])]
    at = at[at >= window]
    blocks = min(FAR_BLOCKS, len(at))
    of_block = np.arange(len(at)) * blocks // len(at)
    counts, expected = np.bincount(of_block).tolist(), tokens[torch.from_numpy(at).to(tokens.device)]
    found: dict[str, Any] = {}
    text = tokens.cpu().numpy()
    for name, k, inputs in perturbed_inputs(text, at, window, near, PERMUTATIONS, is_space(data)):
        rows, nats = _rows(inputs.shape[1]), np.empty(len(at))
        for i in range(0, len(at), rows):
            part = torch.from_numpy(inputs[i : i + rows]).long().to(tokens.device)
            nats[i : i + rows] = last_losses(model, part, expected[i : i + rows])
        kept = found.setdefault(name, {}).setdefault(str(k), {"sums": [], "counts": counts})
        kept["sums"].append(_sums(nats, of_block))
    return found


@torch.no_grad()
def last_losses(model: SequenceModel, inputs: Tensor, wanted: Tensor) -> Array:
    """(B,) nats of ``wanted`` (B,) after ``inputs`` (B, k)."""
    return _nats(model(inputs)[:, -1], wanted)


def _nats(logits: Tensor, wanted: Tensor) -> Array:
    nats = F.cross_entropy(logits.float().flatten(0, -2), wanted.flatten(), reduction="none").view(wanted.shape)
    found: Array = nats.double().cpu().numpy()
    return found


def _rows(length: int) -> int:
    return max(1, CHUNK // max(1, length))


def _block_sums(nats: Array, of_block: Array, blocks: int) -> Array:
    sums = np.zeros((blocks, nats.shape[1]))
    np.add.at(sums, of_block, nats)
    return sums


def _sums(nats: Array, of_block: Array) -> list[float]:
    return [rounded(value) for value in np.bincount(of_block, weights=nats)]


def rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def is_space(data: TaskData) -> Array:
    """(V,) whether a symbol separates words."""
    return np.array([symbol.isspace() for symbol in data.vocabulary])


def word_count(tokens: Array, space: Array) -> int:
    """Runs of symbols that are no space; 0 where nothing separates words."""
    inside = ~space[np.asarray(tokens)]
    if inside.all():
        return 0
    return int(np.sum(inside[1:] & ~inside[:-1]) + inside[0])

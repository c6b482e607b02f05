"""Claim 4: the formula of an LSTM's parameters."""

from __future__ import annotations

from seqbench.claims import Evidence, register_claim
from seqbench.claims.names import LSTM
from seqbench.claims.rules import Claim, Condition
from seqbench.stats import Interval

__all__ = ["lstm_parameters"]

SIZES = ((1, 1), (3, 5), (16, 64), (64, 128), (128, 128), (128, 64), (300, 256))
EXAMPLE = (128, 128)


@register_claim(4)
def lstm_parameters(evidence: Evidence) -> Claim:
    """Counted here and now, of the registered mixer itself."""
    from seqbench.models.mixer import MODELS

    counts: dict[tuple[int, int], tuple[int, int]] = {}  # with one bias for each gate, and with all that PyTorch has
    for d, h in SIZES:
        tensors = list(MODELS.get(LSTM).mixer(d, h, True).parameters())
        whole, bias = sum(p.numel() for p in tensors), max(p.numel() for p in tensors if p.ndim == 1)
        counts[d, h] = whole - bias, whole
    conditions = []
    for i, biases in enumerate(("one a gate", "PyTorch's two a gate")):
        off = [count[i] - _formula(*size) for size, count in counts.items()]
        note = f"{biases}: the interval goes from the least to the greatest of the {len(SIZES)} pairs"
        figure = Interval(max(off, key=abs), min(off), max(off))
        conditions.append(Condition.of({"biases": biases}, figure, "parameters off", (0, 0), (), note))
    count, formula = counts[EXAMPLE][1], _formula(*EXAMPLE)
    return Claim(
        "LSTM parameters = 4 x (input + hidden + 1) x hidden.",
        "textbooks; Gers, Schmidhuber and Cummins 2000 for the cell with a forget gate",
        f"the registered layer's parameters counted at {len(SIZES)} pairs of input and hidden size, "
        f"{SIZES[0]} to {SIZES[-1]}, less the formula; PyTorch keeps two bias vectors, of which one is redundant",
        f"The formula counts one bias for each gate; PyTorch keeps two, so an LSTM of {EXAMPLE[0]} inputs and "
        f"{EXAMPLE[1]} units has {count:,} parameters, {count - formula:,} more than the {formula:,} of the formula.",
        conditions,
    )


def _formula(d: int, h: int) -> int:
    return 4 * (d + h + 1) * h

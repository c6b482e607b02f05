"""Claim 4: the formula of an LSTM's parameters. No torch but to count."""

from __future__ import annotations

from seqbench.claims.claim import Claim
from seqbench.claims.names import LSTM
from seqbench.claims.verdict import Condition
from seqbench.stats import Interval

__all__ = ["lstm_parameters"]

SIZES = ((1, 1), (3, 5), (16, 64), (64, 128), (128, 128), (128, 64), (300, 256))


def lstm_parameters() -> Claim:
    """Claim 4; counted here and now, of the registered mixer itself."""
    from seqbench.models.mixer import MODELS

    mixer = MODELS.get(LSTM).mixer
    off: dict[str, list[float]] = {"one a gate": [], "PyTorch's two a gate": []}
    for d, h in SIZES:
        tensors = list(mixer(d, h, True).parameters())
        count, bias = sum(p.numel() for p in tensors), max(p.numel() for p in tensors if p.ndim == 1)
        for biases, found in zip(off, (count - bias, count), strict=True):
            off[biases].append(found - 4 * (d + h + 1) * h)
    conditions = [
        Condition.of(
            {"biases": biases},
            Interval(max(found, key=abs), min(found), max(found)),
            "parameters off",
            (0, 0),
            "none off",
            (),
            f"{biases}: the interval goes from the least to the greatest of the {len(SIZES)} pairs",
        )
        for biases, found in off.items()
    ]
    d, h = 128, 128
    formula, count = 4 * (d + h + 1) * h, sum(p.numel() for p in mixer(d, h, True).parameters())
    return Claim(
        4,
        "LSTM parameters = 4 x (input + hidden + 1) x hidden.",
        "textbooks; Gers, Schmidhuber and Cummins 2000 for the cell with a forget gate",
        f"the registered layer's parameters counted at {len(SIZES)} pairs of input and hidden size, "
        f"{SIZES[0]} to {SIZES[-1]}, less the formula; PyTorch keeps two bias vectors, of which one is redundant",
        f"The formula counts one bias for each gate; PyTorch keeps two, so an LSTM of 128 inputs and 128 units has "
        f"{count:,} parameters, {count - formula:,} more than the {formula:,} of the formula.",
        conditions,
    )

"""Data on the device: a split's arrays as tensors, and batches as index selections.

Small data is copied to the device once; a batch is then one gather there. Where lengths vary, a batch holds
sequences of like length and is cut to the longest, and the order of batches is shuffled, not the lengths within.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from seqbench.data.splits import Batch, Split

__all__ = ["DeviceSplit", "evaluation_order", "training_order"]

Indices = npt.NDArray[np.int64]
BUCKET = 50  # batches that are sorted by length together: enough to be alike, few enough to stay random


class DeviceSplit:
    """A split whose arrays lie on ``device``; ``split[indices]`` gathers a batch there."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self._gather = split.gather
        self._arrays = {name: _to_tensor(array).to(device) for name, array in split.arrays().items()}
        self._lengths = split.lengths

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, indices: Indices) -> Batch:
        """The batch of ``indices`` (B,), a numpy array; token inputs and class targets come as int64."""
        arrays, longest = self._arrays, None
        if self._lengths is not None:  # the longest is known on the host: no synchronisation to ask the device
            longest = int(self._lengths[indices].max())
            if "steps" in arrays:
                arrays = {**arrays, "steps": arrays["steps"][:longest]}
        batch = self._gather(arrays, torch.from_numpy(indices).to(self.device, non_blocking=True))
        return batch._replace(inputs=_wide(batch.inputs[:, :longest]), targets=_wide(batch.targets))


def _to_tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    """A tensor over the same memory: prepared data is mapped from the cache, and a copy would be a second one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # batches are only gathered
        return torch.from_numpy(np.asarray(array))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Small integers are stored; losses and embeddings want int64."""
    return x if x.is_floating_point() else x.long()


def training_order(split: Split, batch_size: int, generator: np.random.Generator) -> Iterator[Indices]:
    """Endless batches of ``batch_size`` indices: each example once an epoch, in a new random order every time."""
    n = len(split)
    batch_size = min(batch_size, n)
    rest = np.empty(0, dtype=np.int64)
    while True:
        order = np.concatenate([rest, generator.permutation(n)])
        whole = len(order) // batch_size * batch_size
        order, rest = order[:whole], order[whole:]  # what is left over opens the next epoch
        if split.lengths is not None:
            order = _bucketed(order, split.lengths, batch_size, generator)
        yield from order.reshape(-1, batch_size)


def _bucketed(
    order: Indices, lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> Indices:
    pool = batch_size * BUCKET
    pools = [order[at : at + pool] for at in range(0, len(order), pool)]
    batches = [part[np.argsort(lengths[part], kind="stable")].reshape(-1, batch_size) for part in pools]
    together = np.concatenate(batches)
    found: Indices = together[generator.permutation(len(together))].ravel()
    return found


def evaluation_order(split: Split, batch_size: int) -> Iterator[Indices]:
    """Every example exactly once, the last batch smaller; by length where lengths vary."""
    order = np.arange(len(split)) if split.lengths is None else np.argsort(split.lengths, kind="stable")
    for at in range(0, len(order), batch_size):
        yield order[at : at + batch_size]

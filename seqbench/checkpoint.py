"""Where a long run was: one safetensors file whose header holds the rest as JSON, replaced in one step.

It holds all that decides how training goes on (weights, the optimiser's moments, the best state so far, torch's
generators, the counts), so that a run that was killed ends with the numbers of one that was not, to the last bit on a
CPU. The order of batches needs no place in it: it is drawn again from the seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from seqbench.data.files import replace_file
from seqbench.device import device_name
from seqbench.environment import seqbench_version

__all__ = ["CHECKPOINT", "Checkpoint"]

CHECKPOINT = "checkpoint.safetensors"


class Checkpoint:
    """The checkpoint file of the cell ``key`` on ``device``; only one written by the same torch there is taken up."""

    def __init__(self, path: Path, key: str, device: torch.device) -> None:
        self.path, self.device = path, device
        self.mark = json.dumps([key, seqbench_version(), torch.__version__, device_name(device)])

    def save(self, tensors: dict[str, Tensor], counts: dict[str, Any]) -> None:
        """Replace the file; ``counts`` is whatever JSON can hold."""
        kept = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        generators = {"generator.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            generators["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        kept |= generators
        about = {"mark": self.mark, "counts": json.dumps(counts)}
        about["sha256"] = _digest(kept, about["counts"])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = to_safetensors(kept, about)
        replace_file(self.path, lambda file: file.write(data))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved last, and torch's generators set as they were; None if there is nothing that can be used."""
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError):
            return None
        if about.get("mark") != self.mark or about.get("sha256") != _digest(tensors, about.get("counts", "")):
            return None
        torch.set_rng_state(tensors.pop("generator.cpu"))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors.pop("generator.cuda"), self.device)
        # copies: what safetensors gives is mapped from the file, which goes away
        found = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
        return found, json.loads(about["counts"])

    def remove(self) -> None:
        """Once the record stands, or when training is to start anew."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def _digest(tensors: dict[str, Tensor], counts: str) -> str:
    """SHA-256 over all that is kept: safetensors notices a file that is cut off, not one with a wrong bit."""
    found = hashlib.sha256(counts.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()

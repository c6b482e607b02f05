"""Peak memory of one step, exact, from the allocator."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

__all__ = ["peak_bytes"]


def peak_bytes(step: Callable[[], object], device: torch.device) -> int | None:
    """Most bytes that ``step`` held at a time beyond what was there before it; None where no allocator tells.

    CUDA's allocator keeps the figure. On a CPU torch's profiler lists every allocation and release of tensors, in
    order; the peak of their running sum is exact, but what a library takes past torch's allocator is not in it. Nothing
    that was there before ``step`` may be released in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    return _listed(step) if device.type == "cpu" else None


def _listed(step: Callable[[], object]) -> int | None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its beginning and end go to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    try:
        events = profile.kineto_results.events()
        changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    except AttributeError:  # not a documented interface
        return None
    held = most = 0
    for _, size in sorted(changes, key=lambda change: change[0]):
        held += size
        most = max(most, held)
    return most

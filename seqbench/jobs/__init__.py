"""What is done and what is kept of it: jobs, the pool that runs them, their records and the store of these.

It knows no task, no model and no probe.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DONE", "FINE", "probe_place"]

DONE = ("ok", "not_applicable", "diverged")  # what would come out the same again; other failures are tried again
FINE = ("ok", "not_applicable", "pruned")


def probe_place(probe: str, models: Sequence[str]) -> tuple[str, ...]:
    """Folders below a store's root of what ``probe`` measured of ``models``, several where they are timed together."""
    return "probes", probe, models[0] if len(models) == 1 else "together"

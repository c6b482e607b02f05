"""Which kernels have run a layer since it was asked last, for records: a layer may choose by its shape."""

from __future__ import annotations

__all__ = ["forget_kernels", "note_kernel", "used_kernels"]

_NAMES: set[str] = set()


def note_kernel(name: str) -> None:
    """One ran: torch, written, or c and the instruction set that it was built for."""
    _NAMES.add(name)


def forget_kernels() -> None:
    """Begin anew."""
    _NAMES.clear()


def used_kernels() -> str | None:
    """The names, in the order of the alphabet; None if no layer that has a choice has run."""
    return " + ".join(sorted(_NAMES)) or None

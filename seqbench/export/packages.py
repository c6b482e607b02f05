"""Packages that only an export needs."""

from __future__ import annotations

import importlib.util

from seqbench.errors import UserError

__all__ = ["need"]


def need(extra: str, *packages: str) -> None:
    """Raise `UserError` unless all ``packages`` are installed, which ``seqbench[extra]`` brings."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--to {extra} needs {' and '.join(missing)}, not installed here: pip install 'seqbench[{extra}]'."
        )

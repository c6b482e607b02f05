"""The errors that a user can fix. Each carries one sentence that says what is wrong and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["Diverged", "Interrupted", "NotApplicable", "UserError", "nearest"]


class UserError(Exception):
    """The command, the input or the machine is not as it must be: exit code 2, nothing written."""


class NotApplicable(Exception):
    """The model cannot honestly be scored on the task (a model that sees the future, say); the record says why."""


class Diverged(Exception):
    """The loss, the score or a prediction is not a finite number."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run; the message says where it was. No `except Exception` may take it for a failure."""


def nearest(name: str, choices: Iterable[str], noun: str) -> str:
    """One sentence for an unknown ``name``: the closest of ``choices`` first, else all of them."""
    names = sorted(choices)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return f"unknown {noun} {name!r}: did you mean {' or '.join(close)}? There are: {', '.join(names)}."
    return f"unknown {noun} {name!r}: there are {', '.join(names) or 'none'}."

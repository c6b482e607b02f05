"""The errors that a user can fix. Each carries one sentence that says what is wrong and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["Diverged", "Interrupted", "NotApplicable", "UserError", "nearest", "unknown_option"]


class UserError(Exception):
    """The command, the input or the machine is not as it must be: exit code 2, nothing written."""


class NotApplicable(Exception):
    """A model, or a baseline, cannot honestly be scored on the task (one that sees the future, say); it says why."""


class Diverged(Exception):
    """The loss, the score or a prediction is not a finite number."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run; the message says where it was and goes on. No `except Exception` may take it for a failure."""


def nearest(name: str, choices: Iterable[str], noun: str) -> str:
    """One sentence for an unknown ``name``: the closest of ``choices`` first, else all of them."""
    names = sorted(choices)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return f"unknown {noun} {name!r}: did you mean {' or '.join(close)}? There are: {', '.join(names)}."
    return f"unknown {noun} {name!r}: there are {', '.join(names) or 'none'}."


FOREIGN = {  # options that other tools have, and what stands for them here
    "lr": "learning-rate",
    "max-lr": "learning-rate",
    "wd": "weight-decay",
    "hidden-size": "hidden",
    "hidden-dim": "hidden",
    "units": "hidden",
    "width": "hidden",
    "d-model": "hidden",
    "n-layers": "layers",
    "num-layers": "layers",
    "seq-len": "sequence-length",
    "seq-length": "sequence-length",
    "lookback": "sequence-length",
    "dataset": "task",
    "arch": "model",
    "grad-clip": "clip",
    "max-grad-norm": "clip",
    "output": "out",
    "output-dir": "out",
    "workers": "jobs",
    "num-workers": "jobs",
    "n-jobs": "jobs",
    "csv": "data",
    "file": "data",
    "bs": "batch-size",
}
FIXED = {  # options of other tools that nothing here stands for, and why
    "epochs": "training is counted in steps that are the same for every model: choose a budget "
    "(smoke, quick, standard or full)",
    "num-epochs": "epochs",
    "steps": "epochs",
    "max-steps": "epochs",
    "iterations": "epochs",
    "optimizer": "the optimiser is always AdamW; learning-rate and weight-decay set it",
    "gpu": "choose the device: {device} cuda",
    "gpus": "gpu",
    "cuda": "gpu",
    "cpu": "choose the device: {device} cpu",
}


def unknown_option(name: str, choices: Iterable[str], *, python: bool = False) -> str:
    """One sentence for an option that there is not: what stands for it here, else the nearest of ``choices``;
    in Python, where no --help lists them, all.

    Names come with or without dashes; with ``python`` they are shown as arguments (``learning_rate``), else as on the
    command line (``--learning-rate``).
    """

    def shown(plain: str) -> str:
        return plain.replace("-", "_") if python else f"--{plain}"

    plain = name.lstrip("-").replace("_", "-")
    known = sorted({choice.lstrip("-").replace("_", "-") for choice in choices})
    about = f"there is no option {name if name.startswith('-') else shown(plain)}"
    stands_for = FOREIGN.get(plain.lower())
    if stands_for in known:
        return f"{about}: it is called {shown(stands_for)} here."
    reason = FIXED.get(plain.lower())
    reason = FIXED.get(reason, reason) if reason else None
    if reason and "device" in known:
        return f"{about}: {reason.format(device=shown('device'))}."
    close = difflib.get_close_matches(plain.lower(), known, n=2, cutoff=0.6)
    if close:
        return f"{about}: did you mean {' or '.join(map(shown, close))}?"
    return f"{about}; there are {', '.join(map(shown, known))}." if python else f"{about}."

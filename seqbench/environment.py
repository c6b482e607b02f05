"""Where a cell ran: versions and the state of seqbench's own checkout.

Code that was sent to another machine has neither a distribution nor a checkout there: a file beside it, `TRAVELLED`,
says of which version and commit it is.
"""

from __future__ import annotations

import functools
import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["TRAVELLED", "git_state", "package_version", "seqbench_version", "travel_note"]

TRAVELLED = "travelled.json"


def travel_note() -> str:
    """What `TRAVELLED` is to hold beside a copy of this code."""
    return json.dumps({"version": seqbench_version(), "git": git_state()})


@functools.cache
def _travelled() -> dict[str, Any]:
    path = Path(__file__).with_name(TRAVELLED)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def seqbench_version() -> str:
    """The installed version, or ``0+source`` when it runs from a checkout that is not installed."""
    return str(_travelled().get("version") or package_version("seqbench") or "0+source")


def package_version(name: str) -> str | None:
    """The version of an installed package, which is not imported for it; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout that seqbench runs from, or (None, None) where it is installed from a wheel."""
    if note := _travelled():
        return tuple(note["git"])
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()

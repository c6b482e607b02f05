"""Canonical data sets, downloaded from the Hugging Face hub when the user asks for it and never otherwise.

A `HubFile` names one file at one commit; `fetch_hub` downloads all files of a set or none, and `fetched` finds them
again without a connection. What is there has a sidecar, ``fetched.json``, that says where each file came from, at
which commit, when, and its SHA-256; the folder appears by one rename, so it is whole or absent. Formats are those that
hold data only: no code from the hub is run, and no pickle read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from seqbench.data.files import OCCUPIED, sha256
from seqbench.data.hub import COMMIT, SHA256, Hub
from seqbench.errors import UserError

__all__ = ["HubFile", "check_online", "fetch_hub", "fetched", "publish", "sidecar"]

SIDECAR = "fetched.json"
FORMAT = 1  # of the sidecar; one of another format is fetched again
SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".txt")


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the hub.

    ``revision`` is a commit; None means that this project knows none: the first fetch asks which commit ``main`` is,
    and its sidecar holds later ones to it. ``sha256`` of the file is checked where it is known.
    """

    repo: str
    path: str
    revision: str | None
    sha256: str | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.repo, re.ASCII):
            raise ValueError(f"{self.repo!r} is no OWNER/NAME of a data set")
        if not re.fullmatch(r"\w[\w./+-]*", self.path, re.ASCII) or ".." in path.parts or path.suffix not in SUFFIXES:
            raise ValueError(f"{self.path!r} is no path inside a data set that ends in one of {', '.join(SUFFIXES)}")
        if self.name == SIDECAR:
            raise ValueError(f"{SIDECAR} is the name of what describes the files")
        if self.revision is not None and not COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision {self.revision!r} is no commit (40 hexadecimal digits)")
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is no SHA-256")

    @property
    def name(self) -> str:
        """What the file is called once it has been fetched."""
        return PurePosixPath(self.path).name


def check_online() -> None:
    """Raise `UserError` if the user has forbidden connections."""
    for name in ("SEQBENCH_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            raise UserError(f"{name} is set, so nothing is downloaded: unset it, or take --source embedded.")


def fetch_hub(
    files: Sequence[HubFile],
    folder: Path,
    say: Callable[[str], None],
    *,
    force: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Download ``files`` into ``folder``, all or none; what is there already and whole is kept unless ``force``."""
    if len({file.name for file in files}) != len(files) or not files:
        raise ValueError("a set needs files, each of another name")
    about = sidecar(folder)
    if about is not None and not force and _same(files, about["files"]):
        say(f"already fetched ({about['fetched_at']})")
        return
    check_online()
    hub = Hub(say, sleep)
    pinned = _pins(folder)

    def fill(temporary: Path) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        mains: dict[str, str] = {}  # so that all files of a set come from one commit
        for file in files:
            revision = file.revision or pinned.get((file.repo, file.path)) or mains.get(file.repo)
            if revision is None:
                revision = mains[file.repo] = hub.main(file.repo, temporary / ".main")
            size = hub.download(file.repo, file.path, revision, file.sha256, temporary / file.name)
            say(f"{file.name}: {size / 1e6:.1f} MB of {file.repo} at {revision[:8]}")
            found[file.name] = {"repo": file.repo, "path": file.path, "revision": revision}
        return {"files": found}

    try:
        publish(folder, fill)
    finally:
        hub.close()


def fetched(folder: Path, task: str) -> dict[str, Path]:
    """The files in ``folder`` by name, after their hashes are found to be those of the download; never downloads."""
    command = f"run `python run_bench.py data fetch {task}`"
    if not (folder / SIDECAR).is_file():
        raise UserError(
            f"the hub data of {task} has not been fetched: {command} on a machine with network, "
            "or take --source embedded."
        )
    about = sidecar(folder)
    if about is None:
        raise UserError(f"the fetched hub data of {task} is damaged: {command} again, or take --source embedded.")
    return {name: folder / name for name in about["files"]}


def sidecar(folder: Path) -> dict[str, Any] | None:
    """What ``fetched.json`` in ``folder`` says of its files; None if it or one of them is missing or altered."""
    try:
        about = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        whole = about["format"] == FORMAT and isinstance(about["fetched_at"], str) and len(about["files"]) > 0
        for name, file in about["files"].items():
            whole = whole and Path(name).name == name and sha256(folder / name) == file["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return about if whole else None


def publish(folder: Path, fill: Callable[[Path], dict[str, Any]]) -> None:
    """Let ``fill`` write files into a temporary folder, and make it ``folder`` by one rename.

    ``fill`` returns what the sidecar shall say: ``files`` (a mapping for each name) and whatever else is known.
    """
    before = sidecar(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-fetch-", dir=folder.parent))
        try:
            about = {"format": FORMAT, "fetched_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **fill(temporary)}
            for name, file in about["files"].items():
                file |= {"sha256": sha256(temporary / name), "bytes": (temporary / name).stat().st_size}
            text = json.dumps(about, indent=1, allow_nan=False)
            (temporary / SIDECAR).write_text(text, encoding="utf-8")
            temporary.chmod(0o755)
            _swap(temporary, folder, before)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the cache {folder.parent} can't be written ({error.strerror or error}): "
            "free some space or set SEQBENCH_CACHE to another directory."
        ) from None


def _swap(temporary: Path, folder: Path, before: dict[str, Any] | None) -> None:
    """Rename ``temporary`` to ``folder``, in place of what ``before`` describes, unless another fetch was faster."""
    for _ in range(10):
        try:
            temporary.rename(folder)
            return
        except OSError as error:  # not by looking whether it is there: another fetch may just have moved it aside
            if error.errno not in OCCUPIED:
                raise
        now = sidecar(folder)
        if now is not None and now != before:
            return
        aside = Path(tempfile.mkdtemp(prefix=".tmp-fetch-", dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):  # another fetch moved it first
            folder.rename(aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"{folder} is being replaced by others all the time")


def _sweep(parent: Path) -> None:
    """Remove what fetches that were killed more than a day ago have left."""
    for left in parent.glob(".tmp-fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 86400:
                shutil.rmtree(left, ignore_errors=True)


def _same(files: Sequence[HubFile], found: dict[str, dict[str, Any]]) -> bool:
    """Whether a sidecar's files are those that are asked for, at the commits that are asked for."""
    return set(found) == {file.name for file in files} and all(
        (found[file.name].get("repo"), found[file.name].get("path")) == (file.repo, file.path)
        and file.revision in (None, found[file.name].get("revision"))
        and file.sha256 in (None, found[file.name]["sha256"])
        for file in files
    )


def _pins(folder: Path) -> dict[tuple[str, str], str]:
    """The commits an earlier fetch has settled on; they hold even if its files are damaged."""
    try:
        files = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))["files"].values()
        return {(file["repo"], file["path"]): file["revision"] for file in files if COMMIT.fullmatch(file["revision"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}

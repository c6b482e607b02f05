"""A client of the Hugging Face hub for public data sets, which tries again where that can help.

It is requests alone and not huggingface_hub: that one reads HF_HUB_OFFLINE once, when it is imported (and the caches
need it set then), sleeps for as long as a server's Retry-After says, follows redirects to anywhere, and raises
exceptions of another HTTP library in each of its major versions. The addresses are the hub's own:
``/api/datasets/REPO/revision/main`` and ``/datasets/REPO/resolve/COMMIT/PATH``; ``HF_ENDPOINT`` names a mirror.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from seqbench.data.files import sha256
from seqbench.errors import UserError

__all__ = ["COMMIT", "SHA256", "Hub"]

HUB = "https://huggingface.co"
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds between the five tries
LONGEST_WAIT = 60.0  # a server that asks for more is not waited for: the user is told instead
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of a body
LARGEST = 2**31  # bytes; the sets are a hundredth of it, so more is a server gone wrong
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class _Again(Exception):
    """A try failed in a way that time may mend; ``wait`` seconds at least, if the server said so."""

    def __init__(self, what: str, advice: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.advice, self.wait = advice, wait


class Hub:
    """A connection to the hub; what it can't mend by trying again is a `UserError` that says what to do."""

    def __init__(self, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
        import requests

        self.say, self.sleep = say, sleep
        self.endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        self.host = urlsplit(self.endpoint).netloc
        if not self.endpoint.startswith(("https://", "http://")) or not self.host or "@" in self.host:
            raise UserError("HF_ENDPOINT is no address of a hub: set it to one like https://host, without a password.")
        self.session = requests.Session()
        self.session.auth = lambda request: request  # the sets are public: no password from .netrc goes along
        # the bytes as they are stored: their length and hash are checked
        self.session.headers.update({"User-Agent": "seqbench", "Accept-Encoding": "identity"})
        self.close = self.session.close

    def main(self, repo: str, scratch: Path) -> str:
        """The commit that ``main`` of ``repo`` is now."""
        self._persist(lambda: self._save(f"{self.endpoint}/api/datasets/{repo}/revision/main", scratch, repo))
        try:
            commit = str(json.loads(scratch.read_bytes())["sha"])
        except (ValueError, KeyError, TypeError):
            commit = ""
        scratch.unlink()
        if not COMMIT.fullmatch(commit):
            raise UserError(f"the hub did not say which commit of {repo} is current: try again later.")
        return commit

    def download(self, repo: str, path: str, revision: str, known: str | None, target: Path) -> int:
        """Save the file ``path`` of ``repo`` at the commit ``revision``; ``known`` is its SHA-256. Returns its size."""
        url = f"{self.endpoint}/datasets/{repo}/resolve/{revision}/{path}"
        told = self._persist(lambda: self._save(url, target, f"{path} of {repo}", known))
        served = told.get("x-repo-commit", revision)  # a mirror may leave it out
        if served != revision:
            raise UserError(f"{self.host} served {repo} at {served[:8]!r}, not {revision[:8]}: nothing was kept.")
        if known is not None and sha256(target) != known:
            raise UserError(
                f"{path} of {repo} is not the file that seqbench knows (its SHA-256 differs), so nothing "
                "was kept: update seqbench, or take --source embedded."
            )
        return target.stat().st_size

    def _persist(self, attempt: Callable[[], dict[str, str]]) -> dict[str, str]:
        """``attempt`` until it succeeds, with growing pauses, five times at most."""
        for pause in (*WAITS, None):
            try:
                return attempt()
            except _Again as failure:
                if pause is None or failure.wait > LONGEST_WAIT:
                    raise UserError(f"{failure}: {failure.advice}, or take --source embedded.") from None
                pause = max(pause, failure.wait)
                self.say(f"{failure}: trying again in {pause:g} s")
                self.sleep(pause)
        raise AssertionError("unreachable")

    def _save(self, url: str, target: Path, what: str, known: str | None = None) -> dict[str, str]:
        """One try: the body at ``url`` into ``target``, whole; returns the headers that the hub itself sent."""
        import requests

        try:
            answer, told = self._open(url, what)
            with answer:
                self._check_status(answer, what)
                self._copy(answer, target, what)
        except requests.exceptions.SSLError:
            raise UserError(f"{self.host} has no valid certificate: check the clock and the proxy.") from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            raise _Again(f"the download of {what} broke off", "check the connection and try again") from None
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            raise _Again(f"{self.host} can't be reached or fell silent", "go online and try again") from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise UserError(f"{self.host} gave an answer that makes no sense ({type(error).__name__}).") from None
        if (known is None or sha256(target) != known) and not _arrived(target, told):
            raise _Again(f"the download of {what} arrived damaged", "check the connection and try again")
        return told

    def _open(self, url: str, what: str) -> tuple[Any, dict[str, str]]:
        """The answer at the end of the redirects, and what the hub's own answers said of the file on the way.

        Large files lie on other hosts: https may lead to any https address; plain http, for mirrors, only to itself.
        """
        told: dict[str, str] = {}
        for _ in range(6):
            answer = self.session.get(url, stream=True, allow_redirects=False, timeout=TIMEOUT)
            if urlsplit(url).netloc == self.host:
                told |= {name.lower(): value for name, value in answer.headers.items()}
            if not answer.is_redirect:
                return answer, told
            answer.close()
            before, url = urlsplit(url), urljoin(url, answer.headers["location"])
            after = urlsplit(url)
            if after.scheme != before.scheme or (after.scheme != "https" and after.netloc != before.netloc):
                raise UserError(f"{self.host} sends the request for {what} to {url[:80]!r}: refused.")
        raise UserError(f"{self.host} sends the request for {what} in a circle: try again later.")

    def _check_status(self, answer: Any, what: str) -> None:
        status = answer.status_code
        if status == 429:
            wait = _wait(answer.headers)
            when = f"wait {wait:.0f} s" if wait else "wait some minutes"
            raise _Again(f"{self.host} limits how often it is asked (429)", f"{when} and try again", wait)
        if status >= 500 or status == 408:
            raise _Again(f"{self.host} answered with error {status}", "try again later", _wait(answer.headers))
        if status in (401, 403, 404, 410):  # the hub says 401 where a data set does not exist
            raise UserError(
                f"{self.host} has no {what} for everyone ({status}): it has moved or been closed, so update seqbench, "
                "or take --source embedded."
            )
        if status != 200:
            raise UserError(f"{self.host} answered with status {status} for {what}: try again later.")

    def _copy(self, answer: Any, target: Path, what: str) -> None:
        """The body into ``target``, as long as it was announced to be."""
        from tqdm import tqdm

        length = None if "content-encoding" in answer.headers else answer.headers.get("content-length")
        expected = int(length) if length else None
        size = 0
        bar = tqdm(total=expected, unit="B", unit_scale=True, leave=False, disable=None)  # None: on a terminal only
        with target.open("wb") as file, bar:
            for piece in answer.iter_content(1 << 18):
                size += file.write(piece)
                if size > LARGEST:
                    raise UserError(f"{what} is larger than any set of seqbench: nothing was kept.")
                bar.update(len(piece))
        if expected is not None and size != expected:
            raise _Again(f"the download of {what} broke off", "check the connection and try again")


def _arrived(target: Path, told: dict[str, str]) -> bool:
    """Whether a file is the one whose tag the hub told: the SHA-256 of a large one, the git blob of a small one."""
    tag = (told.get("x-linked-etag") or told.get("etag") or "").removeprefix("W/").strip('"')
    if SHA256.fullmatch(tag):
        return sha256(target) == tag
    if COMMIT.fullmatch(tag):
        body = target.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest() == tag
    return True


def _wait(headers: Any) -> float:
    """Seconds that an answer asks to wait: ``Retry-After`` (a number or a date), the hub's ``RateLimit``, or 0."""
    value = str(headers.get("retry-after", "")).strip()
    if value.isdecimal():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    reset = re.search(r"\bt=(\d+)", str(headers.get("ratelimit", "")))
    return float(reset[1]) if reset else 0.0

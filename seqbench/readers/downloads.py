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
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from seqbench.disk import OCCUPIED, sha256, temporary_folder
from seqbench.errors import UserError

__all__ = [
    "COMMIT",
    "SHA256",
    "Hub",
    "HubFile",
    "check_online",
    "check_ticker",
    "fetch_hub",
    "fetch_prices",
    "fetched",
    "publish",
    "sidecar",
]

HUB = "https://huggingface.co"
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds between the five tries
LONGEST_WAIT = 60.0  # a server that asks for more is not waited for: the user is told instead
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of a body
LARGEST = 2**31  # bytes; the sets are a hundredth of it, so more is a server gone wrong
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class _Again(Exception):
    """A try failed in a way that may pass with time; ``wait`` seconds at least, if the server said so."""

    def __init__(self, what: str, advice: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.advice, self.wait = advice, wait


class Hub:
    """A connection to the hub; what trying again does not help is a `UserError` that says what to do."""

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
        sources: dict[str, dict[str, Any]] = {}
        mains: dict[str, str] = {}  # so that all files of a set come from one commit
        for file in files:
            revision = file.revision or pinned.get((file.repo, file.path)) or mains.get(file.repo)
            if revision is None:
                revision = mains[file.repo] = hub.main(file.repo, temporary / ".main")
            size = hub.download(file.repo, file.path, revision, file.sha256, temporary / file.name)
            say(f"{file.name}: {size / 1e6:.1f} MB of {file.repo} at {revision[:8]}")
            sources[file.name] = {"repo": file.repo, "path": file.path, "revision": revision}
        return {"files": sources}

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
        temporary = temporary_folder(folder.parent, ".tmp-fetch-")
        try:
            about = {"format": FORMAT, "fetched_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **fill(temporary)}
            for name, file in about["files"].items():
                file |= {"sha256": sha256(temporary / name), "bytes": (temporary / name).stat().st_size}
            text = json.dumps(about, indent=1, allow_nan=False)
            (temporary / SIDECAR).write_text(text, encoding="utf-8")
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
        aside = temporary_folder(folder.parent, ".tmp-fetch-")
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


def _same(files: Sequence[HubFile], there: dict[str, dict[str, Any]]) -> bool:
    """Whether a sidecar's files are those that are asked for, at the commits that are asked for."""
    return set(there) == {file.name for file in files} and all(
        (there[file.name].get("repo"), there[file.name].get("path")) == (file.repo, file.path)
        and file.revision in (None, there[file.name].get("revision"))
        and file.sha256 in (None, there[file.name]["sha256"])
        for file in files
    )


def _pins(folder: Path) -> dict[tuple[str, str], str]:
    """The commits an earlier fetch has settled on; they hold even if its files are damaged."""
    try:
        files = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))["files"].values()
        return {(file["repo"], file["path"]): file["revision"] for file in files if COMMIT.fullmatch(file["revision"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


FILE = "prices.parquet"
PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
YAHOO_WAITS = (5.0, 15.0, 45.0)  # seconds between the four tries: Yahoo's limits last longer than a hiccup
TERMS = "Yahoo! Finance: for personal use; may not be redistributed"
OPTIONS: dict[str, Any] = {
    "actions": False,
    "threads": False,
    "ignore_tz": True,
    "group_by": "column",
    "auto_adjust": True,
    "back_adjust": False,
    "repair": False,
    "keepna": False,
    "progress": False,
    "interval": "1d",
    "prepost": False,
    "rounding": False,
    "timeout": 30,
    "multi_level_index": False,
}  # start and end stand for period, and a session is yfinance's own affair
REASONS = (  # in what yfinance raises or logs; what happened, what to do, and how often to try
    (r"429|rate.?limit|too many requests", "limits how often it is asked", "wait an hour and try again", 4),
    (
        r"curl: \(|dns|resolve|connect|timed? ?out|proxy|certificate|ssl",
        "can't be reached",
        "go online and try again",
        4,
    ),
    (r"delisted|not found|404|no data", "knows no prices of it for these days", "check the ticker and the dates", 2),
    (r"", "sent no prices", "check the ticker and the dates, or try again later", 4),
)


def check_ticker(ticker: str) -> str:
    """``ticker`` in capitals, if it can be one: it becomes part of a path and of an address."""
    name = ticker.upper()
    isin = r"[A-Z]{2}[A-Z0-9]{9}[0-9]"  # yfinance would look it up and answer under another name
    if not re.fullmatch(r"\^?[A-Z0-9][A-Z0-9.=-]{0,14}", name, re.ASCII) or re.fullmatch(isin, name):
        raise UserError(f"{ticker!r} is no ticker: it has at most 15 letters, digits, '.', '-', '=', as AAPL or BRK-B.")
    return name


def fetch_prices(
    ticker: str,
    start: str,
    end: str,
    folder: Path,
    say: Callable[[str], None],
    *,
    force: bool = False,
    download: Callable[..., Any] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Save ``ticker``'s days from ``start`` to ``end``, both included, as ``prices.parquet`` in ``folder``.

    Columns: date (date32), open, high, low, close (float64), volume (int64). What is there already for the same
    arguments and whole is kept unless ``force``. ``download`` is `yfinance.download` where none is given.
    """
    ticker, first, last = check_ticker(ticker), *_days(start, end)
    asked = {"ticker": ticker, "start": str(first), "end": str(last), "options": OPTIONS}
    about = sidecar(folder)
    if about is not None and not force and all(about.get(name) == value for name, value in asked.items()):
        say(f"already fetched ({about['fetched_at']})")
        return
    check_online()

    def fill(temporary: Path) -> dict[str, Any]:
        frame = _persist(download or _yfinance(), ticker, first, last, say, sleep)
        frame = _clean(_flat(frame, ticker), ticker, first, last, say)
        _save(frame, temporary / FILE)
        say(f"{ticker}: {len(frame):,} days, {frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d}")
        return {**asked, "yfinance": _version(), "terms": TERMS, "files": {FILE: {}}}

    publish(folder, fill)


def _days(start: str, end: str) -> tuple[date, date]:
    try:
        first, last = date.fromisoformat(start), date.fromisoformat(end)
    except ValueError:
        raise UserError(f"{start!r} to {end!r} are no dates: write them as 2010-01-01.") from None
    if not first < last < datetime.now(UTC).date():
        raise UserError(f"prices from {start} to {end}: the end must come after the start and before today.")
    return first, last


def _version() -> str | None:
    try:
        return version("yfinance")
    except PackageNotFoundError:  # a download of the caller's own
        return None


def _yfinance() -> Callable[..., Any]:
    try:
        with _quiet():
            import yfinance
    except ImportError:
        raise UserError("prices are fetched with yfinance, which is missing: pip install 'seqbench[data]'") from None
    download: Callable[..., Any] = yfinance.download
    return download


def _persist(
    download: Callable[..., Any],
    ticker: str,
    first: date,
    last: date,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Any:
    """The frame that ``download`` returns, once it returns one with rows."""
    for tries, pause in enumerate((*YAHOO_WAITS, 0.0), start=1):
        frame, reason = None, ""
        with _quiet() as lines:
            try:
                # yfinance takes the end for the first day that is not wanted
                frame = download(ticker, start=str(first), end=str(last + timedelta(days=1)), **OPTIONS)
            except TypeError as error:
                raise UserError(f"this version of yfinance is not known to seqbench ({error}).") from None
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
        if frame is not None and len(frame) > 0:
            return frame
        text = "\n".join([reason, *lines])
        what, advice, most = next(rest for pattern, *rest in REASONS if re.search(pattern, text, re.IGNORECASE))
        if tries == most:
            raise UserError(f"Yahoo {what} ({ticker}): {advice}, or take --source embedded.")
        say(f"Yahoo {what}: trying again in {pause:g} s")
        sleep(pause)
        _forget()
    raise AssertionError("unreachable")


def _forget() -> None:
    """Drop the answers yfinance remembers: it keeps failed ones too, and would never ask again."""
    with contextlib.suppress(ImportError, AttributeError):
        from yfinance.data import YfData

        YfData.cache_get.cache_clear()


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """The lines yfinance logs meanwhile; the user needs neither them nor its quarrels with pandas' next version."""
    lines: list[str] = []
    logger, handler = logging.getLogger("yfinance"), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    propagates, logger.propagate = logger.propagate, False
    others, logger.handlers = logger.handlers, [handler]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield lines
    finally:
        logger.propagate, logger.handlers = propagates, others


def _flat(frame: Any, ticker: str) -> Any:
    """The frame with one level of lower-case columns, whichever way round the levels of ``ticker`` and price are."""
    import pandas as pd

    if isinstance(frame.columns, pd.MultiIndex):
        levels = [{str(value).lower() for value in frame.columns.get_level_values(i)} for i in range(2)]
        prices = 0 if "close" in levels[0] else 1
        if ticker.lower() not in levels[1 - prices]:
            raise UserError(f"Yahoo's answer holds no prices of {ticker}: try again later.")
        names = frame.columns.get_level_values(1 - prices)
        frame = frame.loc[:, [str(name).lower() == ticker.lower() for name in names]]
        frame = frame.set_axis(frame.columns.get_level_values(prices), axis=1)
    frame = frame.set_axis([str(name).lower() for name in frame.columns], axis=1)
    missing = [name for name in COLUMNS if list(frame.columns).count(name) != 1]
    if missing or "adj close" in frame.columns:  # the latter stands beside prices that are not adjusted
        held = ", ".join(frame.columns)
        raise UserError(f"Yahoo's answer should hold {', '.join(COLUMNS)}, adjusted, but it holds {held}.")
    return frame[list(COLUMNS)]


def _clean(frame: Any, ticker: str, first: date, last: date, say: Callable[[str], None]) -> Any:
    """The days in order, each once, all numbers usable; empty and repeated rows are dropped and said to be."""
    import numpy as np
    import pandas as pd

    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.hasnans:
        raise UserError(f"Yahoo's answer for {ticker} has rows without a date: try again later.")
    try:
        frame = frame.astype("float64")
    except (TypeError, ValueError):
        raise UserError(f"Yahoo's answer for {ticker} holds what is no number: try again later.") from None
    frame = frame.set_axis(frame.index.tz_localize(None).normalize()).sort_index(kind="stable")
    frame = frame[(frame.index >= pd.Timestamp(first)) & (frame.index <= pd.Timestamp(last))]
    rows = len(frame)
    frame = frame[frame[list(PRICES)].notna().any(axis=1)]
    frame = frame[~frame.assign(day=frame.index).duplicated()]
    if len(frame) < rows:
        say(f"{ticker}: {rows - len(frame)} empty or repeated rows were dropped")
    if not len(frame):
        raise UserError(f"Yahoo has no prices of {ticker} from {first} to {last}: check the ticker and the dates.")
    faults = {
        "two different rows": frame.index.duplicated(),
        "a missing or infinite value": ~np.isfinite(frame.to_numpy()).all(axis=1),
        "a price of zero or less": (frame[list(PRICES)] <= 0).any(axis=1).to_numpy(),
        "a volume below zero": (frame["volume"] < 0).to_numpy(),
    }
    for what, where in faults.items():
        if where.any():
            day = frame.index[where.argmax()]
            raise UserError(
                f"Yahoo's prices of {ticker} have {what} on {day:%Y-%m-%d}: try again later or other dates."
            )
    return frame


def _save(frame: Any, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"date": pa.array(list(frame.index.date), pa.date32())}
    columns |= {name: pa.array(frame[name].to_numpy(), pa.float64()) for name in PRICES}
    columns["volume"] = pa.array(frame["volume"].round().to_numpy().astype("int64"), pa.int64())
    pq.write_table(pa.table(columns), path)

"""Daily prices from Yahoo through yfinance, downloaded when the user asks for them and never otherwise.

Prices are adjusted for splits and dividends (``auto_adjust=True``): open, high, low and close are scaled alike, so a
log return is what a holder earned. Every new dividend rescales all earlier prices, so two downloads differ in every
row: the sidecar's time and hash say which one a record belongs to. Yahoo's terms let nobody pass the data on: what is
fetched stays in the user's cache and never enters a repository, a package or a record.

yfinance swallows errors, logs them and returns an empty frame; its defaults and the shape of its columns have changed
between versions. So every option is passed, the log is read for the reason, and the frame is checked. It keeps cookies
and time zones in a cache folder of its own (py-yfinance).
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seqbench.data.fetch import check_online, publish, sidecar
from seqbench.errors import UserError

__all__ = ["check_ticker", "fetch_prices"]

FILE = "prices.parquet"
PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
WAITS = (5.0, 15.0, 45.0)  # seconds between the four tries: Yahoo's limits last longer than a hiccup
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
    for tries, pause in enumerate((*WAITS, 0.0), start=1):
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
        found = ", ".join(frame.columns)
        raise UserError(f"Yahoo's answer should hold {', '.join(COLUMNS)}, adjusted, but it holds {found}.")
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

"""Prices as yfinance returns them, in every shape and on a bad day, and from yfinance itself against loopback."""

import functools
import json
import re
import sys
from datetime import date, datetime
from zoneinfo import ZoneInfo

import hub_server
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hub_server import Answer

from seqbench.errors import UserError
from seqbench.readers.downloads import OPTIONS, check_ticker, fetch_prices, fetched, sidecar

hub = hub_server.hub  # the fixture


def prices(days=("2020-01-02", "2020-01-03", "2020-01-06"), **changes):
    """A frame as yfinance returns it without levels."""
    n = len(days)
    columns = {
        "Close": np.arange(n) + 10.5,
        "High": np.arange(n) + 11.0,
        "Low": np.arange(n) + 9.0,
        "Open": np.arange(n) + 10.0,
        "Volume": np.arange(n) + 1000,
    }
    return pd.DataFrame({**columns, **changes}, index=pd.DatetimeIndex(list(days), name="Date"))


def levels(frame, *, first):
    """``frame`` with the ticker as a second level, or as the first."""
    other = frame.assign(Volume=5)
    both = pd.concat({"AAPL": frame, "MSFT": other}, axis=1, names=["Ticker", "Price"])
    return both if first else both.swaplevel(axis=1).sort_index(axis=1)


class Yahoo:
    """A download that gives one answer after the other, and remembers how it was called."""

    def __init__(self, folder, *answers):
        self.folder, self.answers, self.calls, self.waits, self.said = folder, list(answers), [], [], []

    def download(self, *words, **options):
        self.calls.append((words, options))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fetch(self, ticker="aapl", start="2020-01-01", end="2020-01-06", **options):
        options.setdefault("download", self.download)
        fetch_prices(ticker, start, end, self.folder, self.said.append, sleep=self.waits.append, **options)
        return pq.read_table(fetched(self.folder, "stock")["prices.parquet"])


@pytest.fixture
def yahoo(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "SEQBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "hub").mkdir()
    return functools.partial(Yahoo, tmp_path / "hub" / "AAPL")


@pytest.mark.parametrize(
    "frame",
    [
        prices(),
        levels(prices(), first=True),
        levels(prices(), first=False),
        prices().iloc[::-1],
        prices().tz_localize("America/New_York"),
        prices().rename(columns=str.lower)[["volume", "open", "low", "high", "close"]],
        pd.concat([prices(), prices().iloc[:1]]),
        pd.concat([prices(), prices(["2020-01-07"])]),  # past the end
        pd.concat([prices(), prices(["2020-01-04"]) * np.nan]),  # a day without trade
        prices().assign(Dividends=0.0),
    ],
    ids=["flat", "ticker first", "ticker last", "backwards", "zone", "lower", "twice", "too far", "NaN", "more"],
)
def test_prices_of_every_shape(yahoo, frame):
    table = yahoo(frame).fetch()
    assert str(table.schema).startswith(
        "date: date32[day]\nopen: double\nhigh: double\nlow: double\nclose: double\nvol"
    )
    assert table.to_pydict() == {
        "date": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)],
        "open": [10, 11, 12],
        "high": [11, 12, 13],
        "low": [9, 10, 11],
        "close": [10.5, 11.5, 12.5],
        "volume": [1000, 1001, 1002],
    }


def test_prices_come_with_what_they_are(yahoo):
    user = yahoo(prices())
    user.fetch()
    ((words, options),) = user.calls
    assert words == ("AAPL",)
    assert options == {**OPTIONS, "start": "2020-01-01", "end": "2020-01-07"}  # yfinance leaves the end out
    assert options["auto_adjust"] is True
    about = sidecar(user.folder)
    assert (about["ticker"], about["start"], about["end"]) == ("AAPL", "2020-01-01", "2020-01-06")
    assert "redistributed" in about["terms"]
    assert about["options"] == OPTIONS
    assert set(about["files"]["prices.parquet"]) == {"sha256", "bytes"}
    user.fetch()
    assert len(user.calls) == 1
    user.fetch(force=True)
    user.fetch(start="2019-12-31")
    assert len(user.calls) == 3


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (prices().drop(columns="High"), "holds close, low, open, volume"),
        (prices().assign(**{"Adj Close": 1.0}), "adjusted"),
        (levels(prices(), first=True)[["MSFT"]], "no prices of AAPL"),
        (prices(Close=[1.0, np.nan, 2.0]), "a missing or infinite value on 2020-01-03"),
        (prices(Volume=[1.0, np.nan, 2.0]), "a missing or infinite value on 2020-01-03"),
        (prices(Open=[1.0, 2.0, np.inf]), "a missing or infinite value on 2020-01-06"),
        (prices(Low=[1.0, 0.0, 2.0]), "a price of zero or less on 2020-01-03"),
        (prices(Low=[1.0, 1.0, -2.0]), "a price of zero or less on 2020-01-06"),
        (prices(Volume=[1, -1, 1]), "a volume below zero on 2020-01-03"),
        (prices(Close=["a", "b", "c"]), "no number"),
        (pd.concat([prices(), prices().iloc[:1] * 2]), "two different rows on 2020-01-02"),
        (prices().reset_index(drop=True), "without a date"),
        (prices() * np.nan, "no prices of AAPL from 2020-01-01"),
        (prices(["1999-01-04"]), "no prices of AAPL from 2020-01-01"),
    ],
)
def test_prices_that_cannot_be_used(yahoo, frame, what):
    user = yahoo(frame)
    with pytest.raises(UserError, match=re.escape(what)) as caught:
        user.fetch()
    assert "\n" not in str(caught.value)
    assert list(user.folder.parent.iterdir()) == []


NOTHING = pd.DataFrame()


@pytest.mark.parametrize(
    ("answer", "what", "tries"),
    [
        (NOTHING, "sent no prices", 4),
        (None, "sent no prices", 4),
        (RuntimeError("YFRateLimitError('Too Many Requests')"), "wait an hour", 4),
        (OSError("Failed to perform, curl: (6) Could not resolve host"), "go online", 4),
        (ValueError("$AAPL: possibly delisted; no timezone found"), "check the ticker", 2),
    ],
)
def test_no_prices_for_ever(yahoo, answer, what, tries):
    user = yahoo(answer)
    with pytest.raises(UserError, match=what):
        user.fetch()
    assert len(user.calls) == tries
    assert user.waits == [5, 15, 45][: tries - 1]


def test_no_prices_at_first(yahoo):
    user = yahoo(NOTHING, OSError("timed out"), prices())
    assert len(user.fetch()) == 3
    assert user.waits == [5, 15]


def test_a_yfinance_that_takes_other_options(yahoo):
    with pytest.raises(UserError, match="version of yfinance"):
        yahoo(TypeError("download() got an unexpected keyword argument 'repair'")).fetch()


@pytest.mark.parametrize(
    "ticker", ["", ".", "..", "../A", "A/B", "A B", "A,B", "AAPL\n", "US0378331005", "A" * 16, "-A", "Ä"]
)
def test_tickers_that_cannot_be(yahoo, ticker):
    with pytest.raises(UserError, match="is no ticker"):
        yahoo(prices()).fetch(ticker)


def test_tickers_that_can_be():
    names = ["aapl", "BRK-B", "0700.HK", "^GSPC", "EURUSD=X", "RELIANCE.NS"]
    assert [check_ticker(name) for name in names] == [name.upper() for name in names]


@pytest.mark.parametrize(
    ("start", "end"),
    [("2020-02-30", "2021-01-01"), ("now", "2021-01-01"), ("2021-01-01", "2020-01-01"), ("2020-01-01", "2999-01-01")],
)
def test_days_that_cannot_be(yahoo, start, end):
    with pytest.raises(UserError, match=start):
        yahoo(prices()).fetch(start=start, end=end)


def chart():
    """What Yahoo's address for charts sends: three days of an hour in New York, and a dividend."""
    zone = ZoneInfo("America/New_York")
    days = [int(datetime(2020, 1, day, 9, 30, tzinfo=zone).timestamp()) for day in (2, 3, 6)]
    quote = {"open": [10, 11, 12], "high": [11, 12, 13], "low": [9, 10, 11], "close": [10, 11, 12], "volume": [7, 8, 9]}
    meta = {
        "symbol": "AAPL",
        "currency": "USD",
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EST",
        "gmtoffset": -18000,
        "instrumentType": "EQUITY",
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "firstTradeDate": days[0],
        "regularMarketTime": days[-1],
        "validRanges": ["1d", "max"],
    }
    indicators = {"quote": [quote], "adjclose": [{"adjclose": [5, 5.5, 12]}]}
    return {"chart": {"result": [{"meta": meta, "timestamp": days, "indicators": indicators}], "error": None}}


def test_the_real_yfinance(hub, yahoo, monkeypatch, tmp_path):
    """yfinance itself, with its addresses turned to loopback and no cookie fetched: errors, then prices."""
    yfinance = pytest.importorskip("yfinance")
    yfinance.set_tz_cache_location(str(tmp_path / "zones"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # its other addresses lead nowhere
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("base", "scrapers.history"):
        monkeypatch.setattr(sys.modules[f"yfinance.{name}"], "_BASE_URL_", hub.url)
    monkeypatch.setattr(yfinance.data.YfData, "_get_cookie_and_crumb", lambda *words: (None, "basic"))
    yfinance.data.YfData.cache_get.cache_clear()
    path = "/v8/finance/chart/AAPL"
    whole = hub.files[path] = Answer(body=json.dumps(chart()).encode(), headers={"Content-Type": "application/json"})
    # the time zone and no prices, which yfinance would remember; then a limit: it asks a second time by itself
    hub.troubles[path] = [whole, Answer(body=b"{}"), Answer(429), Answer(429)]
    user = yahoo()
    table = user.fetch(download=None)
    assert user.said[:-1] == [
        "Yahoo knows no prices of it for these days: trying again in 5 s",
        "Yahoo limits how often it is asked: trying again in 15 s",
    ]
    assert table.to_pydict() == {
        "date": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)],
        "open": [5, 5.5, 12],  # half of what was paid before the dividend: adjusted
        "high": [5.5, 6, 13],
        "low": [4.5, 5, 11],
        "close": [5, 5.5, 12],
        "volume": [7, 8, 9],
    }

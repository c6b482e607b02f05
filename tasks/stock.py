"""stock: tomorrow's log return from the last 60 days of prices and volume.

    input   60 days x 5 (open, high, low, close as log ratios to the close before; change of log volume), scaled
    target  log(close tomorrow / close today), scaled by the training stretch's deviation

Daily prices of AAPL (or IBM, MSFT, GOOG), March 2000 to March 2013, adjusted for splits and dividends
(tasks/data/SOURCES.md). Expect next to nothing: prices are close to a random walk, and a model that seems to do much
better than "tomorrow's close is today's" has most likely found a leak. So the primary metric is the error relative to
that persistence (1: no better), and the share of right directions stands beside that of always saying "up", with the
number of days that it would take to tell such an edge from luck.

Published figures are usually errors in dollars, or the R2 of prices: both look splendid for persistence, too, because
tomorrow's price is nearly today's. They are given here (`rmse_dollars`, `r2_dollars`), to be seen for what they are.
``--option recipe=true`` reproduces the usual recipe (a window of open, high, low, close and volume scaled
to 0..1, the next close as the target) with one correction: the limits come from the training stretch only, so later
prices lie beyond 1. It is scored in the recipe's own figures, too, and persistence beside it. ``--option scaler=all``
takes the correction back: the limits are those of all days, the test among them. That is a leak, kept so that it can
be measured what it is worth. ``--recipe lstm-stock`` is the network that documents train on these windows.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqbench.baselines import register_baseline
from seqbench.data import NewRows, Reading, TaskData, Truth, Windows
from seqbench.disk import shipped_file
from seqbench.errors import UserError
from seqbench.files.canonical import Prices
from seqbench.files.columns import CellOptions
from seqbench.files.series import find_time
from seqbench.files.splitting import borders
from seqbench.files.texts import OWN
from seqbench.metrics import mae, relative_to, rmse
from seqbench.readers.dates import hours_between
from seqbench.readers.tables import Table, check_increasing, read_table
from seqbench.task import ADDED_OPTION, Budget, Metric, Recipe, Source, Training, register_task

Array = npt.NDArray[Any]
FILE = "stock.parquet"
FILE_SHA256 = "1a0334fc8d780dfa0c800981fd10e6e75a53d603de4bacc60b3d6a0215564b55"
TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")
COLUMNS = ("open", "high", "low", "close", "volume")
ALIASES = {"close": ("closelast", "close/last", "last", "price"), "volume": ("vol",)}  # as Nasdaq and others name them
ADJUSTED = "adjclose", "adjustedclose", "closeadj"
DAILY = 20.0  # hours; the rows of a file of days are usually further apart
VALIDATION, TEST = 0.15, 0.15  # shares of all days
MONTH = 21  # trading days; the groups of the intervals
MOST_DAYS = 1e6  # reported where there is no edge at all
STILL = 1e-6  # log returns smaller than this are rounding, not a forecast
LEAK = (
    "LEAK: prices and volumes are scaled by all days, those of the test among them (scaler=all). It is there to "
    "measure what that is worth: no figure of such a run says how well a price can be predicted."
)
SURE = (1.96 + 0.84) ** 2  # of a two-sided test at 5% that finds the edge in 80% of cases


@dataclass(frozen=True)
class FileOptions:
    """Options of stock, whatever the prices."""

    sequence_length: int = 60
    recipe: bool = False
    validation: float = field(default=VALIDATION, metadata=ADDED_OPTION)
    scaler: str = field(default="train", metadata=ADDED_OPTION)

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1 - TEST:
            raise UserError(f"--option validation={self.validation:g} of stock must be above 0 and below {1 - TEST:g}.")
        if self.scaler not in ("train", "all"):
            raise UserError(f"--option scaler={self.scaler} of stock must be train, or all (a leak, to measure it).")
        if not 1 <= self.sequence_length <= 250:
            raise UserError(f"--sequence-length of stock must be from 1 to 250 days, not {self.sequence_length}.")


@dataclass(frozen=True)
class OwnOptions(CellOptions, FileOptions):
    """Options of stock with the user's own prices."""

    time: str = ""


@dataclass(frozen=True)
class Options(FileOptions):
    """Options of stock."""

    ticker: str = "AAPL"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ticker not in TICKERS:
            raise UserError(f"--option ticker={self.ticker} of stock must be one of {', '.join(TICKERS)}.")


@dataclass(frozen=True)
class YahooOptions(FileOptions):
    """Options of stock with prices from Yahoo."""

    ticker: str = "AAPL"
    start: str = "2010-01-01"
    end: str = "2023-12-31"


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Errors of the return relative to persistence, directions, and errors in dollars, over all days.

    NaN where prices never move in the stretch: none of them can be told there but the error in dollars.
    """
    close, actual = truth.meta["close"], truth.meta["next_close"]
    scale, offset = truth.meta["scale"], truth.meta["offset"]
    value = offset + scale * predictions[:, 0, 0].astype(np.float64)
    # in the recipe the value is a price, else a return; prices at or below 0 are cut to where a logarithm exists
    price = np.where(truth.meta["recipe"] > 0, np.maximum(value, 1e-3 * close), close * np.exp(np.clip(value, -5, 5)))
    expected, happened = np.log(price / close), np.log(actual / close)
    up = expected > STILL
    ahead = np.where(up == (happened > 0), 1.0, 0.0) - (happened > 0)  # +1: right where always-up is wrong
    edge, spread = float(ahead.mean()), float(ahead.std())
    days = SURE * (spread / edge) ** 2 if edge > 0 else MOST_DAYS  # what is behind always-up has no edge to tell
    moved = bool((happened != 0).any())  # where no price moved there is nothing to be right about
    figures = {
        "relative_rmse": relative_to(rmse(expected, happened), rmse(np.zeros_like(happened), happened)),
        "direction": float(np.mean(up == (happened > 0))) if moved else math.nan,
        "direction_edge": edge if moved else math.nan,
        "days_to_tell": min(days, MOST_DAYS) if moved else math.nan,
        "rmse_dollars": rmse(price, actual),
        "r2_dollars": _explained(price, actual) if moved else math.nan,
    }
    return {**figures, **_documented(price, close, actual, truth)} if (truth.meta["recipe"] > 0).any() else figures


def _explained(price: Array, actual: Array) -> float:
    """R2: the share of the variance of the prices that is explained; NaN where they do not vary."""
    varied = float(((actual - actual.mean()) ** 2).sum())
    return 1.0 - float(((price - actual) ** 2).sum()) / varied if varied > 0 else math.nan


def _documented(price: Array, close: Array, actual: Array, truth: Truth) -> dict[str, float]:
    """What documents report of the recipe, in dollars and in the scaled unit, and persistence's own beside each."""
    unit = truth.meta["scale"]
    figures = {"mae_dollars": mae(price, actual)}
    figures |= {"rmse_scaled": rmse(price / unit, actual / unit), "mae_scaled": mae(price / unit, actual / unit)}
    naive = {"rmse_dollars": rmse(close, actual), "mae_dollars": mae(close, actual)}
    naive |= {"r2_dollars": _explained(close, actual), "rmse_scaled": rmse(close / unit, actual / unit)}
    naive["mae_scaled"] = mae(close / unit, actual / unit)
    return {**figures, **{f"persistence_{name}": value for name, value in naive.items()}}


@dataclass(frozen=True)
class Scaling:
    """How features and target are scaled: ``(x - offset) / scale`` each, the target's figures last."""

    offset: Array
    scale: Array
    drift: float
    recipe: bool

    @classmethod
    def of(cls, days: Array, recipe: bool) -> Scaling:
        """From training days (L, 5): limits in the recipe, else means and deviations (the target is not centred)."""
        rows, returns = features(days, recipe), np.diff(np.log(days[:, 3]))
        if recipe:
            low, high = rows.min(axis=0), rows.max(axis=0)
            offset, scale = np.append(low, low[3]), np.append(high - low, high[3] - low[3])
        else:
            offset, scale = np.append(rows.mean(axis=0), 0.0), np.append(rows.std(axis=0), returns.std())
        return cls(offset, np.where(scale > 0, scale, 1.0), float(returns.mean()), recipe)

    def fitted(self) -> dict[str, Any]:
        """As JSON can hold it; ``offset`` and ``scale`` are the target's: forecasts are read in its units."""
        return {
            "offset": float(self.offset[-1]),
            "scale": float(self.scale[-1]),
            "mean": self.offset[:-1].tolist(),  # the features', by the names that `data show` undoes scaling by
            "deviation": self.scale[:-1].tolist(),
            "offsets": self.offset.tolist(),
            "scales": self.scale.tolist(),
            "drift": self.drift,
            "recipe": self.recipe,
        }

    @classmethod
    def from_reading(cls, reading: Reading) -> Scaling:
        """What a trained model was scaled by."""
        kept = reading.fitted
        return cls(np.array(kept["offsets"]), np.array(kept["scales"]), kept["drift"], kept["recipe"])


def features(days: Array, recipe: bool) -> Array:
    """(L, 5) unscaled: the five columns as they are, or log ratios to the day before (of which the first has none)."""
    if recipe:
        return days
    before = np.log(np.concatenate([days[:1, 3], days[:-1, 3]]))
    volume = np.log1p(days[:, 4])
    change = np.diff(volume, prepend=volume[:1])
    return np.concatenate([np.log(days[:, :4]) - before[:, None], change[:, None]], axis=1)


def make_windows(days: Array, first: int, last: int, scaling: Scaling, lookback: int) -> Windows:
    """Windows within the days [first, last), each with the close of the day after it as the target."""
    rows = (features(days, scaling.recipe) - scaling.offset[:-1]) / scaling.scale[:-1]
    closes = days[:, 3]
    target = closes if scaling.recipe else np.diff(np.log(closes), prepend=math.log(closes[0]))
    starts = np.arange(last - first - lookback)
    ends = first + starts + lookback  # the days that are predicted
    constant = {"scale": scaling.scale[-1], "offset": scaling.offset[-1], "recipe": float(scaling.recipe)}
    return Windows(
        series=rows[first:last].astype(np.float32),
        target_series=((target - scaling.offset[-1]) / scaling.scale[-1])[first:last, None].astype(np.float32),
        starts=starts,
        lookback=lookback,
        horizon=1,
        groups=ends // MONTH,
        meta={
            "close": closes[ends - 1],
            "next_close": closes[ends],
            **{name: np.full(len(starts), value) for name, value in constant.items()},
        },
    )


def build(days: Array, dates: Array, options: FileOptions, sources: Any) -> TaskData:
    """Three stretches of days, in order of time; the first day, which has no day before it, is left out."""
    cuts = tuple(cut + 1 for cut in borders(len(days) - 1, (options.validation, TEST)))
    if min(b - a for a, b in itertools.pairwise(cuts)) < options.sequence_length + 2:
        raise UserError(
            f"{len(days)} days are too few for three splits with windows of {options.sequence_length} days."
        )
    if not np.diff(days[: cuts[1], 3]).any():
        raise UserError(f"the price is {days[0, 3]:g} on every training day: there is nothing to predict.")
    scaling = Scaling.of(days[: cuts[1]], options.recipe)
    if options.scaler == "all":
        scaling = dataclasses.replace(Scaling.of(days, options.recipe), drift=scaling.drift)
    splits = [make_windows(days, a, b, scaling, options.sequence_length) for a, b in itertools.pairwise(cuts)]
    train, val, test = splits
    outside = np.mean(splits[2].series.max(axis=1) > 1.0) if options.recipe else 0.0
    recipe = (f"{outside:.0%} of the test days lie beyond the training limits that are scaled to 0..1.",)
    up = [float(np.mean(split.meta["next_close"] > split.meta["close"])) for split in splits]
    return TaskData(
        *(train, val, test),
        sources=sources,
        features=COLUMNS,
        notes=(
            f"{len(days):,} days from {dates[0]}; validation from {dates[cuts[1]]}, test from {dates[cuts[2]]} to "
            f"{dates[-1]}.",
            f"prices rose on {up[0]:.1%} of the training, {up[1]:.1%} of the validation, {up[2]:.1%} of the test days.",
            *(recipe if options.recipe else ()),
            *((LEAK,) if options.scaler == "all" else ()),
        ),
        fitted=scaling.fitted(),
    )


def _naive(data: TaskData, drift: float) -> Any:
    """Today's close, ``drift`` higher in logarithms, in the units of the target."""
    kept = data.fitted

    def predict(split: Any) -> Array:
        value = split.meta["close"] * math.exp(drift) if kept["recipe"] else np.full(len(split), drift)
        scaled: Array = ((value - kept["offset"]) / kept["scale"])[:, None, None]
        return scaled

    return predict


@register_baseline("price-persistence", kind="forecast")
def price_persistence(train: Windows, val: Windows, data: TaskData) -> Any:
    """Tomorrow's close is today's."""
    return _naive(data, 0.0)


@register_baseline("price-drift", kind="forecast")
def price_drift(train: Windows, val: Windows, data: TaskData) -> Any:
    """Tomorrow's close is today's and the mean return of the training stretch."""
    return _naive(data, data.fitted["drift"])


def _plain(name: str) -> str:
    """A column's name without case, spaces and marks: "Adj Close**" is adjclose."""
    return re.sub(r"[^a-z/]", "", name.lower())


def read_days(table: Table, time: str = "") -> tuple[Array, Array]:
    """Days (L, 5) and their dates, the oldest first, from a table with a date column and the five columns by name."""
    time = find_time(table, time)
    times = table.times(time)
    newest_first = len(times) > 1 and bool((times[1:] < times[:-1]).all())  # as Nasdaq's tables are
    if not newest_first:
        check_increasing(times, table, time)
    named = {_plain(name): name for name in table.names}
    columns = [
        next((named[alias] for alias in (name, *ALIASES.get(name, ())) if alias in named), name) for name in COLUMNS
    ]
    table.require(*columns)
    if (hours := hours_between(times)) is not None and hours < DAILY:
        raise UserError(
            f"{table.file}: its rows are {_spell(hours)} apart, and stock predicts the close of the next day. Give "
            f"--kind forecast --target {shlex.quote(columns[3])} instead of --task stock, or a file with a row for "
            "each day."
        )
    days = np.stack([table.numbers(name) for name in columns], axis=1)
    bad = np.flatnonzero((days[:, :4] <= 0).any(axis=1) | (days[:, 4] < 0))
    if len(bad):
        raise UserError(f"{table.where(int(bad[0]))}: prices must be above 0 and volumes at least 0.")
    adjusted = next((named[alias] for alias in ADJUSTED if alias in named), None)
    if adjusted is not None:
        closes = table.numbers(adjusted)
        if (at := int(np.argmax(closes <= 0))) or closes[0] <= 0:
            raise table.bad(
                at,
                adjusted,
                f"{closes[at]:g} where a price above 0 must be: correct it, or take the column out of the file",
            )
        days[:, :4] *= (closes / days[:, 3])[:, None]
    dates = np.array(table.labels(time))
    return (days[::-1].copy(), dates[::-1]) if newest_first else (days, dates)


def _spell(hours: float) -> str:
    return f"{hours:.3g} hours" if hours >= 1 else f"{60 * hours:.3g} minutes"


def load_file(source: Source, options: FileOptions) -> TaskData:
    """The user's prices, or those fetched."""
    days, dates, remarks = _from_file(next(iter(source.files.values())), options)
    data = build(days, dates, options, source.hashes)
    return dataclasses.replace(data, notes=(*data.notes, *remarks))


def _from_file(path: Path, options: FileOptions) -> tuple[Array, Array, list[str]]:
    own = options if isinstance(options, OwnOptions) else OwnOptions()  # of the shipped prices and Yahoo's none is said
    table = read_table(path, form=own.form)
    days, dates = read_days(table, own.time)
    return days, dates, table.remarks


def encode(source: Source, options: FileOptions, reading: Reading) -> NewRows:
    """New days: a forecast after every window, the last one beyond the end of the file."""
    days, dates, _ = _from_file(source.file, options)
    past = options.sequence_length
    if len(days) < past + 1:
        raise UserError(f"{len(days)} days are too few: the model reads {past}, and the day before them.")
    known = np.concatenate([days, days[-1:]])  # the day after the last stands blank
    windows = make_windows(known, 1, len(known), Scaling.from_reading(reading), past)
    return NewRows(windows, {"date": dates[windows.starts + past], "close": windows.meta["close"]})


LSTM_STOCK = Recipe(
    name="lstm-stock",
    about="LSTM 128, dropout .3, LSTM 64, dropout .3, dense 32 with ReLU, the next close from 60 days scaled to 0..1",
    source="documented recipe: two LSTM layers on windows of 60 days of open, high, low, close and volume",
    settings={
        "model": "lstm",
        "hidden": (128, 64),
        "embedding": 0,
        "dropout": 0.3,
        "dense": (32,),
        "backbone": "bare",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "clip": 1e9,
        "batch_size": 32,
        "epochs": 100,
        "patience": 10,
        "schedule": "plateau",
        "plateau_patience": 5,
        "option": ("sequence_length=60", "recipe=true", "validation=0.17"),
    },
    departures=(
        "the limits of the scaling come from the training days alone; --option scaler=all takes all, as documented",
        "validation is .2 of the days that are not the test's, in order of time, and so .17 of all",
        "early stopping and plateau watch the task's metric on validation and not the loss, which orders them alike "
        "but for the weight of dear days",
        "learning rate .001 and no gradient clipping, which the recipe does not mention: the usual of Adam",
        "initialisation is this package's (forget gate at 1), and the state that did best on validation is scored",
    ),
)
OF_FILE: dict[str, Any] = {"load": load_file, "options": FileOptions}


@register_task(
    "stock",
    version=1,
    kind="forecast",
    description="the next day's log return of a stock from 60 days of prices and volume (AAPL 2000-2013)",
    citation="daily prices of AAPL, GOOG, IBM and MSFT, 2000-2013; as in the package bokeh-sampledata 2026.1",
    licence="public domain (as stated by bokeh-sampledata)",
    split="by time: first 70% train, next 15% validation, last 15% test; no window across a border",
    metrics=(
        Metric("relative_rmse", "lower", "x persistence"),
        Metric("direction", "higher", "", headline=True, share=True),
        Metric("direction_edge", "higher", "over always-up", headline=True),
        Metric("days_to_tell", "lower", "days"),
        Metric("rmse_dollars", "lower", "dollars"),
        Metric("r2_dollars", "higher", ""),
    ),
    budgets={
        "smoke": Budget(steps=30, batch_size=64, evaluations=1),
        "quick": Budget(steps=400, batch_size=64, evaluations=10),
        "standard": Budget(steps=2000, batch_size=64, evaluations=40),
        "full": Budget(steps=20_000, batch_size=64, evaluations=200, patience=20),
    },
    training=Training(learning_rate=1e-3, weight_decay=0.1, dropout=0.3),
    baselines=("price-persistence", "price-drift", "ridge"),
    reference="price-persistence",
    perfect=0.0,
    options=Options,
    score=score,
    encode=encode,
    recipes=(LSTM_STOCK,),
    variants={
        "path": {
            **OWN,
            **OF_FILE,
            "options": OwnOptions,
            "description": "the next day's log return from the user's own daily prices",
        },
        "hub": {
            **OF_FILE,
            "options": YahooOptions,
            "fetch": lambda options: Prices(options.ticker, options.start, options.end),
            "citation": "daily prices from Yahoo Finance, through yfinance",
            "licence": "for personal use only; not to be redistributed (Yahoo's terms)",
        },
    },
)
def load(source: Source, options: Options) -> TaskData:
    """The shipped prices of one ticker."""
    table = pq.read_table(shipped_file(Path(__file__).parent / "data", FILE, FILE_SHA256))
    table = table.filter(pc.equal(table["ticker"], options.ticker))
    days = np.stack([table[name].to_numpy().astype(np.float64) for name in COLUMNS], axis=1)
    return build(days, np.array(table["date"].to_pylist()), options, {FILE: FILE_SHA256})

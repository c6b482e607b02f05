"""A user's own series: what is left out of it and said, seasons and holes, forecasts relative to the last value."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from seqbench import Source
from seqbench.baselines import forecast
from seqbench.data import Windows
from seqbench.errors import UserError
from seqbench.files.series import SeriesOptions, encode_series, load
from seqbench.task import TASKS
from seqbench.training import DeviceSplit

HOUR = np.timedelta64(1, "h")
SMALL = {"target": "load", "sequence_length": 24, "horizon": 6}


def hours(n=400, first="2020-01-01T00"):
    return np.datetime64(first, "h") + np.arange(n) * HOUR


def values(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return 20 + 5 * np.sin(np.arange(n) * 2 * np.pi / 24) + rng.normal(size=n)


def table(times, **columns):
    """CSV of times and columns; None is an empty cell."""
    rows = zip(times, *columns.values(), strict=True)
    lines = (",".join("" if cell is None else str(cell) for cell in row) for row in rows)
    return "\n".join([",".join(["time", *columns]), *lines]) + "\n"


@pytest.fixture
def read(tmp_path):
    """``read(text, **options)`` is the data of a file with that text."""

    def of(text, **options):
        path = tmp_path / "mine.csv"
        path.write_text(text)
        source = Source("path", {"file": path}, {"file": "0" * 64})
        return load(source, SeriesOptions(**{**SMALL, **options}))

    return of


def note(data, words):
    (one,) = [one for one in data.notes if words in one]
    return one


def seen(split):
    """(N, lookback + horizon) the rows of each window in the split's own series."""
    return split.starts[:, None] + np.arange(split.lookback + split.horizon)


# windows ------------------------------------------------------------------------------------------------------------


def relative_windows(n=80, relative=2.0, seed=0):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, 3)).cumsum(axis=0).astype(np.float32)
    return Windows(series, series[:, :1], np.arange(n - 12), 8, 4, np.arange(n - 12), relative=relative)


def test_relative_windows_take_off_the_last_value_and_collect_adds_it():
    split = relative_windows()
    plain = dataclasses.replace(split, relative=0.0)
    every = np.arange(len(split))
    batch, bare = split[every], plain[every]
    last = bare.inputs[:, -1:, :1]
    assert np.allclose(batch.inputs[:, :, :1], (bare.inputs[:, :, :1] - last) / 2)
    assert (batch.inputs[:, -1, 0] == 0).all()
    assert np.array_equal(batch.inputs[:, :, 1:], bare.inputs[:, :, 1:])  # other columns stay
    assert np.allclose(batch.targets, (bare.targets - last) / 2)
    assert np.allclose(split.collect(batch.targets), split.truth().targets, atol=1e-5)
    assert np.array_equal(split.truth().targets, plain.truth().targets)
    theirs = DeviceSplit(split, torch.device("cpu"))[every]
    assert np.array_equal(theirs.inputs.numpy(), batch.inputs) and np.array_equal(theirs.targets.numpy(), batch.targets)
    assert split.series[3, 0] == plain.series[3, 0]  # nothing was taken off the series itself


def test_the_size_of_changes_by_hand():
    series = np.array([[0.0], [1.0], [4.0], [4.0]])
    split = Windows(series, series, np.array([0, 1]), 1, 2, np.zeros(2))
    assert split.change == pytest.approx(np.sqrt((1 + 16 + 9 + 9) / 4))
    assert dataclasses.replace(split, target_series=np.ones((4, 1))).change == 1.0


@pytest.mark.parametrize("relative", [True, False])
def test_relative_forecasts_of_a_shifted_series_shift_as_much(tmp_path, relative):
    """A model that has seen a series at one level forecasts it at any other, if it reads it relative to the last."""
    from seqbench.config import RunConfig
    from seqbench.models.backbone import build as build_model
    from seqbench.models.backbone import shape_of
    from seqbench.training import predict_split

    path = tmp_path / "mine.csv"
    path.write_text(table(hours(), load=values()))
    source = Source("path", {"file": path}, {"file": "0" * 64})
    options = SeriesOptions(**SMALL, relative=relative)
    data = load(source, options)
    torch.manual_seed(0)
    model = build_model("gru", "forecast", shape_of("forecast", data), (8,), 0.0, "bare")
    config = RunConfig(task="weather", model="gru", hidden=(8,))

    def forecast(shift):
        path.write_text(table(hours(), load=values() + shift))
        new = encode_series(source, options, data.reading)
        return data.fitted["offset"] + data.fitted["scale"] * predict_split(model, new.split, config).astype(float)

    difference = forecast(300.0) - forecast(0.0)
    assert np.allclose(difference, 300.0, atol=1e-3) == relative


# gaps and holes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_no_window_touches_a_gap_or_spans_a_hole(read, seed):
    """Rows and cells lost at random: every window that is left stands for consecutive hours with a target."""
    rng = np.random.default_rng(seed)
    n = 1200
    kept = np.sort(rng.permutation(n)[: n - 3])
    load = np.arange(n) + 0.5  # the target tells the hour
    cells = [None if i in set(rng.integers(0, n, 3)) else value for i, value in enumerate(load)]
    other = [None if rng.random() < 0.05 else i % 7 for i in range(n)]
    pick = lambda column: [column[i] for i in kept]  # noqa: E731
    data = read(table(hours(n)[kept], load=pick(cells), other=pick(other)), relative=False)
    lost = 0
    for split in data.splits.values():
        scaled = split.target_series[seen(split)][:, :, 0].astype(float)
        hour = data.fitted["offset"] + data.fitted["scale"] * scaled
        assert np.allclose(np.diff(hour, axis=1), 1.0, atol=0.05)
        lost += len(split.series) - split.lookback - split.horizon + 1 - len(split)
    told = [int(one.split(":")[1].split()[0]) for one in data.notes if "left out" in one and "windows that" in one]
    assert sum(told) == lost > 0
    assert np.isfinite(data.train.series).all() and data.features == ("load", "other", "no_other")


def test_a_gap_or_hole_everywhere_is_one_sentence(read):
    cells = [None if i % 20 == 0 else value for i, value in enumerate(values())]
    with pytest.raises(UserError, match="each touches a missing value of the target"):
        read(table(hours(), load=cells))
    kept = [i for i in range(400) if i % 25]
    with pytest.raises(UserError, match="each spans a hole in time"):
        read(table(hours()[kept], load=values()[kept]))
    with pytest.raises(UserError, match="400 rows are too few"):
        read(table(hours(), load=values()), sequence_length=72)


def days(n=600):
    return np.datetime64("2015-01-01", "D") + np.arange(n)


def business_days(n=600):
    every = days(2 * n)
    kept = every[np.is_busday(every)]
    holidays = {np.datetime64(f"{year}-{day}") for year in (2015, 2016, 2017) for day in ("12-25", "07-03", "01-01")}
    return np.array([day for day in kept if day not in holidays])[:n]


def months(n=400):
    return (np.datetime64("1980-01", "M") + np.arange(n)).astype("datetime64[D]")


def sessions(n=600):
    """Hours from 9 to 15 of business days."""
    stamps = [day.astype("datetime64[h]") + hour * HOUR for day in business_days(n // 7 + 1) for hour in range(9, 16)]
    return np.array(stamps)[:n]


TIMES = {
    "half hours": (np.datetime64("2020-01-01T00:00", "m") + 30 * np.arange(600), 48),
    "minutes": (np.datetime64("2020-01-01T00:00", "m") + np.arange(600), 0),  # a day is longer than the file
    "days": (days(), 7),
    "business days": (business_days(), 5),
    "sessions": (sessions(), 7),
    "weeks": (np.datetime64("2000-01-03", "D") + 7 * np.arange(600), 52),
    "months": (months(), 12),
    "quarters": ((np.datetime64("1900-01", "M") + 3 * np.arange(400)).astype("datetime64[D]"), 4),
    "years": ((np.datetime64("1700-01", "Y") + np.arange(300)).astype("datetime64[D]"), 0),
    "counts": (np.arange(600), 0),
    "odd": (np.datetime64("2020-01-01T00:00:00", "s") + 7 * np.arange(600), 0),
}


@pytest.mark.parametrize("name", TIMES)
def test_the_calendar_makes_no_holes_and_tells_the_season(read, name):
    times, season = TIMES[name]
    data = read(table(times, load=values(len(times))))
    assert data.fitted["season"] == season
    assert not any("holes" in one for one in data.notes)
    assert sum(len(split) for split in data.splits.values()) == len(times) - 3 * 29


def test_a_month_that_is_lost_from_business_days_is_a_hole(read):
    times = business_days()
    kept = np.r_[0:300, 325:600]
    data = read(table(times[kept], load=values(600)[kept]))
    assert "1 hole in time" in note(data, "hole in time")
    assert sum(len(split) for split in data.splits.values()) == 575 - 3 * 29 - 29


def test_times_without_a_usual_step_are_counted_as_rows(read):
    rng = np.random.default_rng(0)
    times = np.datetime64("2020-01-01T00:00:00", "s") + np.cumsum(rng.integers(1, 90, 500))
    data = read(table(times, load=values(500)))
    assert "the time steps vary" in note(data, "windows count rows")
    assert sum(len(split) for split in data.splits.values()) == 500 - 3 * 29


def test_the_season_can_be_given(read):
    text = table(hours(), load=values())
    assert read(text, season=12).fitted["season"] == 12
    assert "as given" in note(read(text, season=12), "season")
    with pytest.raises(UserError, match="--season 200 is too long"):
        read(text, season=200)


# rows in order ------------------------------------------------------------------------------------------------------


def test_newest_first_is_turned_round(read):
    times, load = hours(), values()
    usual, turned = read(table(times, load=load)), read(table(times[::-1], load=load[::-1]))
    assert np.array_equal(usual.test.series, turned.test.series) and "newest first" in note(turned, "newest")
    assert "line 121" in note(turned, "validation begins")  # row 280 of 400, from the end of the file


def several(n=400, names=("north", "south", "east")):
    """Long CSV, hour by hour, of series with levels of their own."""
    lines = ["time,place,load,hum"]
    for i, time in enumerate(hours(n)):
        lines += [f"{time},{name},{1000 * k + i},{i % 5}" for k, name in enumerate(names)]
    return "\n".join(lines) + "\n"


def test_several_series_are_split_at_the_same_times_and_never_mixed(read):
    data = read(several(), series="place", relative=False)
    assert data.features == ("load", "hum") and "3 series" in note(data, "series, split")
    for part, split in data.splits.items():
        raw = data.fitted["offset"] + data.fitted["scale"] * split.target_series[seen(split)][:, :, 0].astype(float)
        assert np.allclose(np.diff(raw, axis=1), 1.0, atol=0.01)  # of one series, hour by hour
        hour = raw[:, 0] % 1000
        low, high = {"train": (0, 280), "val": (280, 340), "test": (340, 400)}[part]
        assert low - 0.1 <= hour.min() and hour.max() + 29 < high + 0.1
        groups = {group: set(np.round(hour[split.groups == group])) for group in set(split.groups.tolist())}
        assert all(len(one) <= 30 for one in groups.values())  # the same hours of all three
        assert len(split) == 3 * (high - low - 29)


def test_times_that_repeat_are_answered_with_the_column_that_tells_series_apart(read):
    with pytest.raises(UserError, match="give --series place") as error:
        read(several())
    advice = str(error.value).rstrip(".").rpartition("--series ")[2]
    assert len(read(several(), series=advice).train)
    twice = table(np.r_[hours(10), hours(400)], load=values(410))
    with pytest.raises(UserError, match="sort the rows by time"):
        read(twice)
    with pytest.raises(UserError, match=r"400 rows have 100 different ones.*--series A,B.*--time DATE,CLOCK"):
        read(table(np.repeat(hours(100), 4), load=values()))


def test_dates_that_repeat_are_answered_with_the_column_of_times_of_day(read):
    lines = ["Date;Time;load"]
    for time, value in zip(hours(), values(), strict=True):
        date, clock = str(time).split("T")
        year, month, day = date.split("-")
        lines.append(f"{day}/{month}/{year};{clock}:00:00;{value}")
    with pytest.raises(UserError, match="times of day: give --time Date,Time") as error:
        read("\n".join(lines) + "\n")
    data = read("\n".join(lines) + "\n", time=str(error.value).rstrip(".").rpartition("--time ")[2])
    assert note(data, "each row is 1 hour")


@pytest.mark.parametrize("newest_first", [False, True])
def test_times_that_repeat_are_answered_with_the_pair_that_tells_series_apart(read, newest_first):
    lines = []
    for store, item in ((1, "a"), (1, "b"), (2, "a"), (2, "b")):
        lines += [f"{time},{store},{item},{value},{int(value)}" for time, value in zip(hours(), values(), strict=True)]
    text = "\n".join(["time,store,item,load,whole", *(lines[::-1] if newest_first else lines)]) + "\n"
    with pytest.raises(UserError, match=r"pair of columns 'store' and 'item'.* give --series store,item"):
        read(text)
    assert "4 series" in note(read(text, series="store,item"), "series, split")


def test_series_that_are_too_short_are_counted(read):
    lines = several().splitlines()
    lines += [f"{time},{name},{i},1" for name in ("new", "newer") for i, time in enumerate(hours(20))]
    text = "\n".join(lines) + "\n"
    assert "2 of the 5 series are too short" in note(read(text, series="place"), "left out")
    assert not any("too short" in one for one in read(several(), series="place").notes)


def test_windows_that_do_not_fit_are_answered_with_figures_that_do(read):
    text = table(days(), load=values(600))
    asked = {"sequence_length": 72, "horizon": 24}
    with pytest.raises(UserError, match="--sequence-length 36 --horizon 12 would fit"):
        read(text, **asked)
    assert len(read(text, sequence_length=36, horizon=12).val) == 43
    with pytest.raises(UserError, match="--sequence-length 21 --horizon 7 would fit"):
        read(table(days(300), load=values(300)), sequence_length=72, horizon=7)
    with pytest.raises(UserError, match="bring more rows"):
        read(table(days(6), load=values(6)), **asked)
    cells = [None if i % 20 == 0 else value for i, value in enumerate(values())]
    with pytest.raises(UserError, match="--sequence-length 6 --horizon 6 would fit, or fill"):
        read(table(hours(), load=cells))
    assert len(read(table(hours(), load=cells), sequence_length=6).val)


def test_predict_reads_several_series_with_holes(tmp_path, read):
    data = read(several(), series="place")
    lines = several(60, ("west", "south")).splitlines()
    path = tmp_path / "new.csv"
    path.write_text("\n".join(lines[:61] + lines[71:]) + "\n")  # five hours of each are lost after the 30th
    options = SeriesOptions(**SMALL, series="place")
    new = encode_series(Source("path", {"file": path}, {"file": "0" * 64}), options, data.reading)
    assert list(new.columns) == ["time", "place"] and len(new.split) == 2 * (7 + 2)
    assert new.split.relative == data.train.relative
    assert np.isfinite(new.split[np.arange(len(new.split))].inputs).all()


# columns ------------------------------------------------------------------------------------------------------------


def test_a_sensor_that_begins_to_speak_after_training_is_left_out(read):
    aux = np.r_[np.zeros(300), 40_000 + values(100)]
    data = read(table(hours(), load=values(), aux=aux))
    assert data.features == ("load",) and "never changes in the training part" in note(data, "'aux'")
    jump = np.r_[values(300, 1), 40_000 + values(100)]
    data = read(table(hours(), load=values(), aux=jump))
    assert data.features == ("load", "aux") and "60 of 'aux'" in note(data, "training deviations")


def test_columns_are_named_or_dropped_and_why_is_said(read):
    text = table(hours(), load=values(), lead=values(seed=1), word=["a"] * 400)
    data = read(text)
    assert data.features == ("load", "lead") and "word (" in note(data, "not read")
    assert read(text, drop="lead").features == ("load",)
    assert read(text, features="lead").features == ("load", "lead")
    with pytest.raises(UserError, match="line 2, column 'word'"):
        read(text, target="word")
    with pytest.raises(UserError, match="also the column of times"):
        read(text, target="time")


def test_the_only_column_of_dates_is_the_time(read):
    text = table(hours(), load=values())
    assert len(read(text.replace("time,", "when,", 1)).train)
    grows = table(np.arange(400) ** 2, load=values()).replace("time,", "when,", 1)
    with pytest.raises(UserError, match=r"'when' may.* give --time COLUMN"):
        read(grows)
    assert read(grows, time="when").fitted.get("counted") is None and read(grows, drop="when").fitted["counted"]
    assert read(grows, features="when").features == ("load", "when")


def test_rows_without_times_are_one_step_each(tmp_path, read):
    load = values()
    text = "load\n" + "\n".join(map(str, load)) + "\n"
    data, timed = read(text), read(table(np.arange(400), load=load))
    assert note(data, "no column of times") and data.fitted["season"] == 0
    assert not any("each row is" in one or "holes" in one for one in data.notes)
    assert np.array_equal(data.test.series, timed.test.series) and "line 282" in note(data, "validation begins")
    assert read(text, season=24).fitted["season"] == 24
    words = ["part", *["train"] * 280, *["val"] * 60, *["test"] * 60]
    split = "\n".join(f"{line},{word}" for line, word in zip(text.split(), words, strict=True)) + "\n"
    assert np.array_equal(read(split, split="part").test.series, data.test.series)
    path = tmp_path / "new.csv"
    path.write_text(text)
    options = SeriesOptions(**SMALL)
    new = encode_series(Source("path", {"file": path}, {"file": "0" * 64}), options, data.reading)
    assert list(new.columns) == ["row"] and new.columns["row"][[0, -1]].tolist() == ["24", "400"]
    with pytest.raises(UserError, match="which column holds the times"):
        encode_series(Source("path", {"file": path}, {"file": "0" * 64}), options, timed.reading)
    later = tmp_path / "later.csv"
    later.write_text("load\n" + "\n".join(map(str, load[:50])) + "\n")
    both = load_both(path, later)
    assert "line 2 of the file of --test" in note(both, "validation begins") and len(both.test) == 50 - 29


def test_several_series_without_times_are_counted_each(read):
    lines = [line.partition(",")[2] for line in several().splitlines()]
    data, timed = read("\n".join(lines) + "\n", series="place"), read(several(), series="place")
    assert np.array_equal(data.test.series, timed.test.series)
    assert "validation begins at row 281 of each series" in note(data, "validation begins")


def load_both(first, second, **options):
    source = Source("path", {"file": first, "test": second}, {"file": "0" * 64, "test": "1" * 64})
    return load(source, SeriesOptions(**{**SMALL, **options}))


def test_what_is_odd_in_the_file_of_the_test_is_told(tmp_path):
    load, aux = values(), np.arange(400) % 7 + 0.5
    (tmp_path / "a.csv").write_text(table(hours()[:300], load=load[:300], aux=aux[:300]))
    later = [None if i < 3 else -9999 if i % 20 == 0 else value for i, value in enumerate(aux[300:])]
    (tmp_path / "b.csv").write_text(table(hours()[300:], load=load[300:], aux=later))
    data = load_both(tmp_path / "a.csv", tmp_path / "b.csv")
    assert note(data, "-9999").startswith("of the file of --test: 4 values of 'aux' are -9999")
    assert "3 missing values" in note(data, "last value before them") and data.features == ("load", "aux")
    assert "there is no flag" in note(data, "last value before them")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("months", "1 month"),
        ("quarters", "3 months"),
        ("years", "1 year"),
        ("business days", "1 day"),
        ("days", "1 day"),
    ],
)
def test_steps_by_the_calendar_are_even(read, name, words):
    times, _ = TIMES[name]
    said = note(read(table(times, load=values(len(times)))), "each row is")
    assert f"each row is {words} after" in said and ("weekends" in said) == (name == "business days")


def test_serial_days_with_decimals_are_even_and_shaken_ones_are_not(read):
    serial = 42_552 + np.arange(400) / 24
    assert note(read(table(serial, load=values())), "each row is 0.0416667 after")
    shaken = hours() + np.where(np.arange(400) % 10, 0, 5) * np.timedelta64(1, "m")
    assert "79 of 399 time steps" in note(read(table(shaken, load=values())), "windows count rows, not time")
    kept = np.delete(np.arange(400), 100)
    data = read(table(hours()[kept], load=values()[kept]))
    assert "but for holes" in note(data, "each row is 1 hour") and not any("count rows" in one for one in data.notes)


def test_the_target_is_not_dropped(read):
    with pytest.raises(UserError, match="--drop names 'load', which is the target"):
        read(table(hours(), load=values(), aux=values()), drop="aux,load")


# skill --------------------------------------------------------------------------------------------------------------


def test_the_reference_is_the_naive_row_that_does_best_on_validation():
    spec = TASKS.get("weather").at("path")
    scores = {name: {"val": {"rmse": value}} for name, value in (("persistence", 2.0), ("drift", 1.0), ("ridge", 0.5))}
    assert spec.reference_of(scores) == "drift"
    assert spec.reference_of({**scores, "seasonal-naive": {"val": {"rmse": 0.9}}}) == "seasonal-naive"
    assert np.isnan(spec.skill(1.0, 0.0)) and spec.skill(1.0, 2.0) == 0.5


def test_a_flat_target_in_the_test_has_no_skill(here, tmp_path, monkeypatch):
    """The naive row is right to the last digit there: nothing can be told by it, and nothing is."""
    monkeypatch.setattr(forecast, "TREES", 2)
    load = np.r_[values(300), np.full(100, 20.0)]
    (tmp_path / "mine.csv").write_text(table(hours(), load=load))
    options = [word for name in SMALL for word in ("--option", f"{name}={SMALL[name]}")]
    words = ["--task", "weather", "--data", "mine.csv", "--model", "rnn", "--hidden", "8", "--budget", "smoke"]
    done = here(*words, *options)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["baselines"][record["primary"]["reference"]] == 0.0
    assert record["skill"] is None and record["primary"]["value"] > 0

"""Prices as people download them: Yahoo's, Nasdaq's, the newest first, adjusted; and what is no table of days."""

import math
import re

import numpy as np
import pytest
import seqbench.tasks.stock as stock
from own_files import prices
from reader_files import told, write

from seqbench.data import Truth
from seqbench.errors import UserError
from seqbench.readers.tables import Format, read_table

HEADER, *ROWS = prices(200).splitlines()


def read(tmp_path, content, form=None):
    return stock.read_days(read_table(write(tmp_path / "p.csv", content), form=form or Format()))


def nasdaq():
    """Date,Close/Last,Volume,Open,High,Low as Nasdaq writes them: months first, dollars, the newest first."""
    lines = []
    for row in reversed(ROWS):
        date, opened, high, low, close, volume = row.split(",")
        year, month, day = date.split("-")
        lines.append(f'{month}/{day}/{year},${close},"{int(volume):,}",${opened},${high},${low}')
    return "\n".join(["Date,Close/Last,Volume,Open,High,Low", *lines]) + "\n"


def yahoo():
    """The three rows above the prices that yfinance writes."""
    rows = [",".join([d, c, h, low, o, v]) for d, o, h, low, c, v in (row.split(",") for row in ROWS)]
    return "\n".join(["Price,Close,High,Low,Open,Volume", "Ticker" + ",AAPL" * 5, "Date,,,,,", *rows]) + "\n"


def newest_first():
    return "\n".join([HEADER, *reversed(ROWS)]) + "\n"


@pytest.mark.parametrize("content", [nasdaq, yahoo, newest_first], ids=lambda content: content.__name__)
def test_prices_are_read_as_they_are_downloaded(tmp_path, content):
    form = Format(decimal=".")  # all volumes have four digits, as in 1,257
    days, dates = read(tmp_path, content(), form)
    expected, _ = read(tmp_path, prices(200))
    np.testing.assert_allclose(days, expected)
    assert len(dates) == len(days) and dates[0] in ("2015-01-01", "01/01/2015")


@pytest.mark.parametrize("name", ["Adj Close", "adjClose", "adj_close", "Adjusted Close", "ADJ. CLOSE**"])
def test_adjusted_closes_are_used_under_any_of_their_names(tmp_path, name):
    content = "\n".join([f"{HEADER},{name}", *(f"{row},{float(row.split(',')[4]) / 2:.6f}" for row in ROWS)])
    days, _ = read(tmp_path, content)
    expected, _ = read(tmp_path, prices(200))
    np.testing.assert_allclose(days[:, :4], expected[:, :4] / 2, rtol=1e-4)


@pytest.mark.parametrize(("at", "value"), [(0, 0), (0, -1), (150, 0), (199, -8.5)])
def test_an_adjusted_close_that_is_no_price_is_told(tmp_path, at, value):
    closes = [str(value) if i == at else row.split(",")[4] for i, row in enumerate(ROWS)]
    content = "\n".join([f"{HEADER},Adj Close", *(f"{row},{close}" for row, close in zip(ROWS, closes, strict=True))])
    told(
        tmp_path / "p.csv", lambda: read(tmp_path, content), f"line {at + 2}", "'Adj Close'", f"{value:g} where a price"
    )


@pytest.mark.parametrize(("step", "said"), [(60, "1 hours"), (5, "5 minutes"), (60 * 12, "12 hours")])
def test_bars_of_less_than_a_day_are_told(tmp_path, step, said):
    times = np.datetime64("2020-01-01T00:00") + np.arange(len(ROWS)) * np.timedelta64(step, "m")
    content = "\n".join([HEADER, *(f"{t},{row.split(',', 1)[1]}" for t, row in zip(times, ROWS, strict=True))])
    told(
        tmp_path / "p.csv", lambda: read(tmp_path, content), f"rows are {said} apart", "--kind forecast --target close"
    )


def test_bars_are_forecast_as_they_are_told_to_be(here, tmp_path):
    header, *rows = prices(700).splitlines()
    times = np.datetime64("2020-01-01T00:00") + np.arange(len(rows)) * np.timedelta64(1, "h")
    lines = [f"{time},{row.split(',', 1)[1]}" for time, row in zip(times, rows, strict=True)]
    write(tmp_path / "bars.csv", "\n".join([header.replace("close", "Close/Last"), *lines]))
    command = ["--data", "bars.csv", "--model", "rnn", "--budget", "smoke", "--hidden", "4"]
    asked = here("--task", "stock", *command)
    advice = re.search(r"Give (--kind forecast --target \S+)", asked.stderr.replace("\n", " "))
    assert asked.returncode == 2 and advice
    assert here(*advice[1].split(), *command).returncode == 0


def test_a_price_that_never_moves_in_training_is_told(tmp_path):
    flat = "\n".join([HEADER, *(f"{row.split(',')[0]},10,10,10,10,{1000 + i}" for i, row in enumerate(ROWS))])
    for recipe in (False, True):
        with pytest.raises(UserError, match="the price is 10 on every training day: there is nothing to predict"):
            stock.build(*read(tmp_path, flat), stock.FileOptions(sequence_length=5, recipe=recipe), {})


def test_scores_over_days_without_a_move_are_not_numbers():
    still = np.full(6, 10.0)
    meta = {"close": still, "next_close": still, "scale": np.ones(6), "offset": np.zeros(6), "recipe": np.zeros(6)}
    truth = Truth(np.zeros((6, 1, 1)), np.arange(6), meta)
    for forecast in (0.0, 0.01):
        scores = stock.score(np.full((6, 1, 1), forecast), truth)
        dollars = scores.pop("rmse_dollars")
        assert dollars == pytest.approx(10 * (math.exp(forecast) - 1)) and all(map(math.isnan, scores.values()))


def test_what_is_asked_of_a_file_of_prices_can_be_said(here, tmp_path):
    write(tmp_path / "p.csv", nasdaq())
    command = ["--task", "stock", "--model", "rnn", "--budget", "smoke", "--data", "p.csv", "--sequence-length", "5"]
    asked = here(*command)
    assert asked.returncode == 2 and "give --decimal . or --decimal ," in " ".join(asked.stderr.split())
    assert here(*command, "--decimal", ".").returncode == 0

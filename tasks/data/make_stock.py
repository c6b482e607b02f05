"""Make stock.parquet: daily prices of four American shares, 2000 to 2013, adjusted for splits and dividends.

Source: `bokeh_sampledata/_data/stocks.csv.gz` of the package `bokeh-sampledata==2026.1`, an extract of Quandl's WIKI
prices, which their publisher put in the public domain; SOURCES.md has licence and citation. Run by hand, with that
package installed: `python tasks/data/make_stock.py [--out FILE]`.

Columns, one row per share and trading day, sorted by ticker, then date; nothing is null:
    ticker                   string: AAPL, GOOG, IBM, MSFT
    date                     date32: the day of trading in New York
    open, high, low, close   float64, US dollars, adjusted: close is the source's adjusted close as it stands, the
                             others are the source's times adjusted close / close of the same day
    volume                   int64: shares traded, as counted on the day, not adjusted
    raw_close                float64, US dollars: the price really paid; raw_close / close is the adjustment

Prices stay float64: float32 would do for returns (its step is 6e-8 of the price), but it would save only 170 KB and the
shipped close would no longer be the source's.

Volume stays as it is. At a split by two the number of shares doubles and a price halves, so the count of shares traded
jumps while the trade in dollars need not: in the 60 days after the splits (AAPL 2000-06-21 and 2005-02-28, MSFT
2003-02-18) the median count is 1.3, 1.4 and 1.6 times that of the 60 days before. A factor for splits alone is not in
the source, which mixes dividends in. What needs none is volume * raw_close, the dollars traded: use that, or logarithms
of the volume relative to the last weeks'.

Traps: the adjustment is that of a snapshot of about 2018, so splits and dividends after the last row are in it, and the
last close is not the price paid either (AAPL 56.14 for 430.47). It moves whole stretches by a constant, and no return
but those across a split or a dividend. Adjusted prices of the past therefore know of later dividends: use ratios of
prices, or scale by values of the window itself. GOOG is today's GOOGL. The source's fifth share, FB, is left out: 196
days.
"""

import argparse
import gzip
import hashlib
from importlib.metadata import distribution
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]
import pyarrow.csv  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

PACKAGE = "bokeh-sampledata"
CSV = "bokeh_sampledata/_data/stocks.csv.gz"
SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")
PRICES = ("Open", "High", "Low", "Close", "Adj Close")


def source_file() -> Path:
    """The packaged file, its SHA-256 checked. Raises PackageNotFoundError or ValueError."""
    source = Path(str(distribution(PACKAGE).locate_file(CSV)))
    if hashlib.sha256(source.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{CSV} has not the SHA-256 of the file in {PACKAGE}==2026.1: install that version.")
    return source


def check(table: pa.Table) -> None:
    """Raise ValueError for a day twice or missing, a value not above 0, or a price outside the day's range."""
    if table.group_by(["ticker", "date"]).aggregate([]).num_rows != table.num_rows:
        raise ValueError("A share has two rows for one day: decide which to keep before shipping.")
    if sum(column.null_count for column in table.columns):
        raise ValueError("A value is missing.")
    if any(pc.min(column).as_py() <= 0 for column in table.columns[2:]):
        raise ValueError("A price or a volume is not above 0.")
    top = pc.max_element_wise(table["open"], table["close"])
    bottom = pc.min_element_wise(table["open"], table["close"])
    slack = 1 + 1e-12  # close is the source's own number, high and low are products: they may differ in the last digit
    inside = pc.and_(
        pc.less_equal(top, pc.multiply(table["high"], slack)), pc.less_equal(table["low"], pc.multiply(bottom, slack))
    )
    if not pc.all(inside).as_py():
        raise ValueError("An opening or closing price lies outside the day's range.")
    calendar = set(table["date"].to_pylist())
    for ticker in TICKERS:
        days = table.filter(pc.equal(table["ticker"], ticker))["date"].to_pylist()
        if len(days) != sum(day >= days[0] for day in calendar):
            raise ValueError(f"{ticker} has no row for a day on which another share was traded.")


def build() -> pa.Table:
    """The table of stock.parquet, checked."""
    types = {"Ticker": pa.string(), "Date": pa.date32(), "Volume": pa.int64()} | dict.fromkeys(PRICES, pa.float64())
    options = pa.csv.ConvertOptions(column_types=types, include_columns=list(types))
    with gzip.open(source_file()) as handle:
        table = pa.csv.read_csv(handle, convert_options=options)
    table = table.filter(pc.is_in(table["Ticker"], pa.array(TICKERS)))
    table = table.sort_by([("Ticker", "ascending"), ("Date", "ascending")]).combine_chunks()
    factor = pc.divide(table["Adj Close"], table["Close"])
    columns = {"ticker": table["Ticker"], "date": table["Date"]}
    columns |= {name.lower(): pc.multiply(table[name], factor) for name in PRICES[:3]}
    columns |= {"close": table["Adj Close"], "volume": table["Volume"], "raw_close": table["Close"]}
    made = pa.table(columns)
    check(made)
    return made


def report(table: pa.Table) -> None:
    """Print the rows, the span and the days of unusual adjustment of each share."""
    for ticker in TICKERS:
        rows = table.filter(pc.equal(table["ticker"], ticker))
        days, factor = rows["date"].to_pylist(), pc.divide(rows["close"], rows["raw_close"]).to_pylist()
        steps = {str(day): round(b / a, 3) for day, a, b in zip(days[1:], factor, factor[1:], strict=False)}
        print(
            f"{ticker}: {len(days):,} rows, {days[0]} to {days[-1]}, factor {factor[0]:.4f} to {factor[-1]:.4f};",
            end="",
        )
        print(f" changed by over 3%: { ({day: step for day, step in steps.items() if abs(step - 1) > 0.03}) }")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("stock.parquet"))
    out = parser.parse_args().out
    stock = build()
    report(stock)
    pq.write_table(stock, out, use_dictionary=["ticker"], compression="zstd", compression_level=22)
    print(f"{out.name}: {out.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")

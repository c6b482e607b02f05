"""How people write numbers and times: read where a column settles it, else refused with advice that works."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_files import told, write

from seqbench.errors import UserError
from seqbench.readers.tables import Format, check_increasing, read_table


def table(tmp_path, cells, form=None, name="a.csv", mark=","):
    """One column x of cells, beside a column of texts."""
    lines = "".join(f'"{cell}"{mark}t\n' for cell in cells)
    return read_table(write(tmp_path / name, f"x{mark}y\n{lines}"), form=form or Format())


@pytest.mark.parametrize(
    ("cells", "numbers", "remark"),
    [
        (["1,5", "2", "-0,25"], [1.5, 2, -0.25], "'-0,25' is read as -0.25"),
        (["0,189", "1,800"], [0.189, 1.8], "'0,189' is read as 0.189"),
        (["1.257,8", "3,25"], [1257.8, 3.25], "'1.257,8' is read as 1257.8"),
        (["1,257,000", "1,257"], [1257000, 1257], "'1,257,000' is read as 1257000"),
        (["1,257.5", "1,257"], [1257.5, 1257], "'1,257.5' is read as 1257.5"),
        (["1.257.000", "1.257"], [1257000, 1257], "'1.257.000' is read as 1257000"),
        (["1.257", "2.5"], [1.257, 2.5], ""),
        (["1 257 000", "12,5"], [1257000, 12.5], "'1 257 000' is read as 1257000"),
        (["1\u00a0257,5", "3"], [1257.5, 3], "is read as 1257.5"),
        (["$187.43", "$1,190.10"], [187.43, 1190.1], "'$1,190.10' is read as 1190.1"),
        (["-$5.5", "$2", ""], [-5.5, 2, np.nan], "'-$5.5' is read as -5.5"),
        (["2,5 €", "12 €"], [2.5, 12], "'2,5 €' is read as 2.5"),
        (["5%", "-2.5 %"], [5, -2.5], "'-2.5 %' is read as -2.5"),
        (["True", "FALSE", "true"], [1, 0, 1], "True and False are read as 1 and 0"),
        (["1.5", "?", "2", "3"], [1.5, np.nan, 2, 3], "1 cell '?' is read as missing"),
        (["1,5", "-", "2", "--", "3"], [1.5, np.nan, 2, np.nan, 3], "2 cells '-' and '--' are read as missing"),
        (["1.5", "#N/A", "<NA>", "n.a.", "NULL"], [1.5] + [np.nan] * 4, ""),
        (["\u22125", "3"], [-5, 3], "is read as -5"),
        (["1e5", "2"], [1e5, 2], ""),
    ],
)
def test_numbers_are_read_as_the_column_writes_them(tmp_path, cells, numbers, remark):
    found = table(tmp_path, cells)
    assert found.not_numbers("x") is None and found.numeric_columns() == ["x"] and found.remarks == []
    np.testing.assert_array_equal(found.numbers("x", missing=True), numbers)
    assert (remark in found.remarks[0]) if remark else found.remarks == []


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["1,5", "2.5", "3.5"], "1 of 3 cells is no number, such as '1,5': use a decimal point"),
        (["1", "a", "b"], "2 of 3 cells are no numbers, such as 'a'"),
        (["$5", "6", "7"], "1 of 3 cells is no number, such as '$5'"),
        (["$5", "€6"], "2 of 2 cells are no numbers"),
        (["5%", "0.05", "1"], "no number, such as '5%'"),
        (["True", "1", "2"], "no number, such as 'True'"),
        (["12,34,567", "1"], "no number, such as '12,34,567'"),
        (["1,25,7", "1"], "no number"),
        (["", "NA"], "it holds no number"),
    ],
)
def test_what_no_column_of_numbers_is_for(tmp_path, cells, why):
    found = table(tmp_path, cells)
    assert why in found.not_numbers("x") and found.numeric_columns() == []
    assert found.suspects("x") == {}


def test_between_semicolons_a_comma_is_a_decimal_comma(tmp_path):
    found = table(tmp_path, ["1,257", "3,125"], mark=";")
    assert found.numbers("x").tolist() == [1.257, 3.125] and "'1,257' is read as 1.257" in found.remarks[0]
    assert table(tmp_path, ["1,257", "1,257,000"], mark=";").numbers("x").tolist() == [1257, 1257000]


@pytest.mark.parametrize(
    ("other", "cell", "number"),
    [
        ("2,5", "1.257", 1257),
        ("0.5", "1.257", 1.257),
        ("12.5", "1,257", None),
        ("7", "1.257", None),
        ("7", "1,257", 1.257),
    ],
)
def test_between_semicolons_other_columns_tell_the_decimal_mark(tmp_path, other, cell, number):
    path = write(tmp_path / "a.csv", f"x;y\n{cell};{other}\n{cell};{other}\n")
    if number:
        assert read_table(path).numbers("x").tolist() == [number] * 2
        return
    told(path, lambda: read_table(path).numbers("x"), "may be 1257 or 1.257: give --decimal . or --decimal ,")
    assert read_table(path, form=Format(decimal=".")).numbers("x")[0] == float(cell.replace(",", ""))
    assert read_table(path, form=Format(decimal=",")).numbers("x")[0] == float(cell.replace(".", "").replace(",", "."))


ADVISED = [  # cells of a column, how it is asked for, and what each advice in the refusal gives
    (["1,257", "3,125"], "numbers", [[1257, 3125], [1.257, 3.125]]),
    (["1", "error", "2", "3"], "numbers", [[1, np.nan, 2, 3]]),
    (["?", "?", "3"], "numbers", [[np.nan, np.nan, 3]]),
    (["03/04/2025", "05/04/2025", "09/04/2025"], "times", [["2025-04-03"], ["2025-03-04"]]),
    (["01/01/2020", "02/01/2020", "03/01/2020"], "times", [["2020-01-01"], ["2020-01-01"]]),
    (["03-04-2025 14:00", "05-04-2025 02:30 PM"], "times", [["2025-04-03T14"], ["2025-03-04T14"]]),
    (["3.4.2025", "5.4.2025"], "times", [["2025-04-03"], ["2025-03-04"]]),
    (["03 04 2025", "05 04 2025"], "times", [["2025-04-03"], ["2025-03-04"]]),
    (["16/12/06", "17/12/06"], "times", [["2006-12-16"]]),
    (["03/18/25 5:00 PM", "03/19/25"], "times", [["2025-03-18T17"]]),
    (["03/04/25", "05/04/25"], "times", [["2025-04-03"], ["2025-03-04"]]),
    (["16-Dec-06", "17-Dec-06"], "times", [["2006-12-16"]]),
]
OPTION = re.compile(r"--(date-format|decimal|missing) ('[^']*'|\S+?)(?=\.?$| or )")


@pytest.mark.parametrize(("cells", "ask", "results"), ADVISED)
def test_advice_can_be_taken_as_it_is_written(tmp_path, cells, ask, results):
    """Each --option of the refusal, given with the same file, gives what it names."""
    more = {"missing": True} if ask == "numbers" else {}
    found = table(tmp_path, cells)
    said = told(tmp_path / "a.csv", lambda: getattr(found, ask)("x", **more), "line ", "column 'x'", "give --")
    advice = OPTION.findall(said)
    assert len(advice) == len(results), said
    for (option, value), expected in zip(advice, results, strict=True):
        value = value.strip("'")
        given = {option.replace("-", "_"): (value,) if option == "missing" else value}
        read = getattr(table(tmp_path, cells, Format(**given)), ask)("x", **more)
        if ask == "times":
            assert read[0] == np.datetime64(expected[0]), given
        else:
            np.testing.assert_array_equal(read, expected)


def test_both_readings_of_a_date_are_named(tmp_path):
    found = table(tmp_path, ["03/04/2025", "05/04/2025"])
    said = told(tmp_path / "a.csv", lambda: found.times("x"))
    assert said == (
        "a.csv, line 2, column 'x': '03/04/2025' may be 3 April or March 4: give --date-format %d/%m/%Y or "
        "--date-format %m/%d/%Y."
    )
    assert found.numeric_columns() == [] and found.holds_times("x") and not found.holds_times("y")


@pytest.mark.parametrize(
    ("cells", "first", "remark"),
    [
        (["16/12/2006", "17/12/2006"], "2006-12-16", "with the day first"),
        (["05/03/2025", "03/18/2025"], "2025-05-03", "with the month first"),
        (["03/03/2025", "04/04/2025"], "2025-03-03", ""),  # either way
        (["16.12.2006 17:24", "17.12.2006"], "2006-12-16T17:24", "'17.12.2006' is read as 2006-12-17"),
        (["1/2/2020", "2/2/2020", "3/2/2020", "1/3/2020", "2/3/2020"], "2020-02-01", "day first"),  # one reading grows
        (["3/2/2020 5:00 PM", "2/2/2020 5:00 PM", "1/2/2020 5:00 PM", "12/1/2020 5:00 PM"], "2020-02-03T17", "day"),
        (["2006/12/16", "2006/12/17"], "2006-12-16", ""),
        (["2006-12-16 9:05", "2006-12-16 10:05"], "2006-12-16T09:05", ""),
        (["2006-12-16 10:05", "2006-12-16 9:05"], "2006-12-16T10:05", ""),
        (["2006-12-16 24:00", "2006-12-17 01:00"], "2006-12-17", ""),
        (["2006-12-16 17:24:00 +01:00", "2006-12-16 17:25:00 +01:00"], "2006-12-16T16:24", ""),
        (["16/12/2006 12:30 AM", "16/12/2006 12:30 p.m."], "2006-12-16T00:30", "day first"),
        (["16/12/2006 17:24:00.25", "16/12/2006 18.24.00"], "2006-12-16T17:24:00.25", "day first"),
        (["1949-01", "1949-02"], "1949-01-01", ""),
        (["01/1949", "02/1949"], "1949-01-01", ""),
        (["Dec 31, 2023", "Jan 2, 2024"], "2023-12-31", ""),
        (["16 December 2006", "17 January 2007"], "2006-12-16", ""),
        (["16-Dec-2006 17:24", "17-Jan-2007"], "2006-12-16T17:24", ""),
        (["Sat, 16 Dec 2006 17:24:00 GMT", "17 Dec 2006 17:24:00 GMT"], "2006-12-16T17:24", ""),
        (["20061216", "20061217"], "2006-12-16", "'20061216' is read as 2006-12-16"),
        (["2006121617", "2006121618"], "2006-12-16T17", "is read as 2006-12-16T17"),
        (["20061216T1724", "20061216T1725"], "2006-12-16T17:24", ""),
        (["1166289840", "1166289841"], "2006-12-16T17:24", "s since 1970, so as 2006-12-16T17:24 UTC"),
        (["1166289840.5", "1166289841"], "2006-12-16T17:24:00.5", "s since 1970"),
        (["1166289840000", "1166289841000"], "2006-12-16T17:24", "ms since 1970"),
        (["1166289840000000", "1166289841000000"], "2006-12-16T17:24", "us since 1970"),
        (["1166289840000000001", "1166289841000000000"], "2006-12-16T17:24:00.000000001", "ns since 1970"),
    ],
)
def test_dates_are_read_as_the_column_writes_them(tmp_path, cells, first, remark):
    found = table(tmp_path, cells)
    times = found.times("x")
    assert times.dtype == "datetime64[ns]" and times[0] == np.datetime64(first) and found.holds_times("x")
    assert (remark in found.remarks[0]) if remark else found.remarks == []


@pytest.mark.parametrize(
    "cells", [["1", "2"], ["20061216", "20061232"], ["999999999", "1000000000"], ["5000000000", "1"]]
)
def test_other_numbers_stay_plain(tmp_path, cells):
    assert table(tmp_path, cells).times("x").tolist() == [float(cell) for cell in cells]


@pytest.mark.parametrize(
    ("cells", "form", "why"),
    [
        (["16/12/2006", "12/16/2006"], "", "'12/16/2006' can't be read as '16/12/2006' is, with the day first"),
        (["16/12/2006", "x"], "", "'x' is no time as '16/12/2006' is"),
        (["13/14/2006", "1/1/2006"], "", "'13/14/2006' is no date"),
        (["31/11/2006", "1/12/2006"], "", "'31/11/2006' is no date: no such day"),
        (["16/12/2006 25:00", "1/12/2006"], "", "no time of day"),
        (["16/12/2006 13:00 PM", "1/12/2006"], "", "AM or PM"),
        (["16 Dez 2006", "1 Jan 2007"], "", "English names"),
        (["16/12/2006 01:00Z", "17/12/2006 01:00"], "", "lacks a time zone"),
        (["16/12/1500", "17/12/1500"], "", "outside the years"),
        (["2006-12-16", "2006-12-17"], "%d/%m/%Y", "'2006-12-16' is not as --date-format %d/%m/%Y says"),
        (["yesterday", "today"], "", "'yesterday' is no time: write 2013-01-31"),
    ],
)
def test_what_is_no_date_is_told(tmp_path, cells, form, why):
    found = table(tmp_path, cells, Format(date_format=form))
    told(tmp_path / "a.csv", lambda: found.times("x"), "column 'x'", why)


@pytest.mark.parametrize(
    ("cells", "form", "first"),
    [
        (["03/04/2025 14:00"], "day-first", "2025-04-03T14"),
        (["03/04/2025"], "month-first", "2025-03-04"),
        (["03/04/25"], "day-first", "2025-04-03"),
        (["2025-04-03"], "day-first", "2025-04-03"),
        (["25.04.03 14h30"], "%y.%m.%d", "2025-04-03T14:30"),
        (["3. April 2025"], "%d. %B %Y", "2025-04-03"),
        (["200/2025"], "%j/%Y", "2025-07-19"),
        (["14:30 on 3/4/2025"], "%H:%M on %d/%m/%Y", "2025-04-03T14:30"),
        (["20250403"], "%Y%m%d", "2025-04-03"),
        (["03/04/70"], "%d/%m/%y", "1970-04-03"),
    ],
)
def test_a_format_that_is_given(tmp_path, cells, form, first):
    assert table(tmp_path, cells, Format(date_format=form)).times("x")[0] == np.datetime64(first)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"decimal": ";"}, "--decimal ';' must be a comma or a point"),
        ({"date_format": "dd/mm/yyyy"}, "has no %"),
        ({"date_format": "%d/%m"}, "no year"),
        ({"date_format": "%Y"}, "no month"),
        ({"date_format": "%Q%Y"}, "%Q"),
        ({"date_format": "%Y-%m-%y %m"}, "twice"),
    ],
)
def test_a_format_that_says_nothing_is_refused(given, why):
    with pytest.raises(UserError, match=re.escape(why)):
        Format(**given)


def test_values_that_are_named_are_missing(tmp_path):
    cells = ["1", "-9999", "-9999.0", "3", "bad"]
    found = table(tmp_path, cells, Format(missing=("-9999", "BAD")))
    np.testing.assert_array_equal(found.numbers("x", missing=True), [1, np.nan, np.nan, 3, np.nan])
    pq.write_table(pa.table({"x": [1, -9999, 3]}), tmp_path / "a.parquet")
    found = read_table(tmp_path / "a.parquet", form=Format(missing=("-9999",)))
    np.testing.assert_array_equal(found.numbers("x", missing=True), [1, np.nan, 3])
    told(tmp_path / "a.parquet", lambda: found.numbers("x"), "row 2", "'-9999' where a number must be")


@pytest.mark.parametrize(
    ("values", "suspects"),
    [
        ([20.5, 21.0, -9999, 19.2, -9999], {"-9999": 2}),
        ([20.5, 21.0, -9999, 19.2], {}),  # once
        ([20.5, -10.0, -99, 19.2, -99, -9999, -9999], {"-9999": 2, "-99": 2}),
        ([250, 999, 260, 999, 240], {"999": 2}),
        ([250, 999, 500, 999, 740, 998], {}),  # the greatest of what is there
        ([1200.0, -200, 3.5, -200], {"-200": 2}),  # below what is never negative
        ([-150, -200, -180, -200, 30.0], {}),
        ([0, 1, -1, -1, 2], {}),
        ([*np.linspace(0, 0.5, 20), -1, -1], {"-1": 2}),
        ([*np.linspace(0, 50, 20), -1, -1], {}),
        ([5, 5, 5, 5], {}),
        ([float("nan")] * 2, {}),
    ],
)
def test_marks_among_numbers_are_suspected(tmp_path, values, suspects):
    assert table(tmp_path, values).suspects("x") == suspects


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [
        (["16/12/2006", "16/12/2006"], ["17:24:00", "17:25:00"], "2006-12-16T17:24"),
        (["10/03/2004", "13/03/2004"], ["18.00.00", "19.00.00"], "2004-03-10T18"),
        (["2011-01-01", "2011-01-01"], ["0", "1"], "2011-01-01"),
        (["2011-01-01", "2011-01-01"], ["30", "1730"], "2011-01-01T00:30"),
        (["20110101", "20110101"], ["5:00 PM", "6:00 PM"], "2011-01-01T17"),
    ],
)
def test_date_and_time_may_stand_in_two_columns(tmp_path, date, clock, expected):
    rows = "".join(f"{a},{b},1\n" for a, b in zip(date, clock, strict=True))
    path = write(tmp_path / "a.csv", "Date,Time,x\n" + rows)
    found = read_table(path)
    assert found.times("Date,Time")[0] == np.datetime64(expected)
    assert found.labels("Date,Time")[0] == f"{date[0]} {clock[0]}"
    check_increasing(found.times("Date, Time"), found, "Date,Time")
    told(path, lambda: found.times("Date,Tim"), "no column 'Tim': did you mean 'Time'?")
    told(path, lambda: found.times("Date,Time,x"), "one column or in two")
    told(path, lambda: check_increasing(found.times("Date,Time")[::-1], found, "Date,Time"), "line 3")


def test_date_and_time_of_parquet_in_two_columns(tmp_path):
    columns = {"d": pa.array([0, 1], pa.date32()), "t": pa.array([3600, 7200], pa.time32("s")), "h": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = read_table(tmp_path / "a.parquet")
    for pair in ("d,t", "d,h"):
        assert found.times(pair).tolist() == [3_600_000_000_000, 93_600_000_000_000]


def test_hours_without_a_hole_settle_the_order_of_day_and_month(tmp_path):
    times = np.datetime64("2025-03-01T00", "ns") + np.arange(96) * np.timedelta64(1, "h")
    moments = times.astype("datetime64[s]").tolist()
    for written, order in (("%d/%m/%Y %H:%M", "day"), ("%m/%d/%Y %I %p", "month")):
        found = table(tmp_path, [moment.strftime(written) for moment in moments])
        np.testing.assert_array_equal(found.times("x"), times)
        assert f"with the {order} first" in found.remarks[0]
        holes = table(tmp_path, [moment.strftime(written) for moment in moments if moment.hour < 20])
        told(tmp_path / "a.csv", lambda holes=holes: holes.times("x"), "may be")


def local(start, end, step, zone):
    """Wall-clock times of a zone."""
    import pandas as pd

    return pd.date_range(start, end, freq=step, tz=zone).tz_localize(None)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        ("2019-01-01", "2021-12-31", "h"),
        ("2019-06-15", "2019-12-31", "h"),
        ("2019-10-01", "2020-05-30", "15min"),
        ("2018-11-20", "2019-11-20", "30min"),
    ],
)
def test_the_hour_that_comes_twice_is_read(tmp_path, zone, start, end, step):
    times = local(start, end, step, zone)
    turned = step == "30min"  # the newest first
    assert times.has_duplicates or zone == "Australia/Sydney"
    found = table(tmp_path, list(times[::-1] if turned else times))
    read = found.times("x")[:: -1 if turned else 1]
    if times.has_duplicates:
        assert set(np.diff(read)) == {np.diff(times[:2].to_numpy())[0]}
        assert "an hour comes twice at line" in found.remarks[0]
    else:
        np.testing.assert_array_equal(read, times.to_numpy())


def test_other_steps_back_are_still_refused(tmp_path):
    times = [str(time) for time in local("2019-10-20", "2019-11-20", "h", "Europe/Berlin")]
    for at in (20, 200):  # an hour comes twice on a day that isn't a Sunday
        broken = [*times[:at], times[at - 1], *times[at:]]
        found = table(tmp_path, broken)
        told(tmp_path / "a.csv", lambda found=found: check_increasing(found.times("x"), found, "x"), "repeats the time")


def test_sheets_and_downloads_are_read_as_they_come(tmp_path):
    air = (
        "Date;Time;CO(GT);T;;\n10/03/2004;18.00.00;2,6;13,6;;\n13/03/2004;19.00.00;-200;13,3;;\n"
        "14/03/2004;20.00.00;-200;11,9;;\n;;;;;\n;;;;;\n"
    )
    found = read_table(write(tmp_path / "air.csv", air))
    assert found.names == ["Date", "Time", "CO(GT)", "T"] and len(found) == 3
    assert found.numbers("CO(GT)").tolist() == [2.6, -200, -200] and found.suspects("CO(GT)") == {"-200": 2}
    assert found.remarks[:2] == [
        "2 empty columns without a name are left out.",
        "2 empty rows at the end are left out.",
    ]
    yahoo = "Price,Close,High\nTicker,AAPL,AAPL\nDate,,\n2010-01-04,6.4,6.5\n2010-01-05,6.5,6.6\n"
    for content in (yahoo, yahoo.replace("6.4", '"6.4"')):
        found = read_table(write(tmp_path / "yahoo.csv", content))
        assert found.names == ["Date", "Close", "High"] and found.where(0) == "line 4"
        assert found.numbers("Close").tolist() == [6.4, 6.5] and found.times("Date")[1] == np.datetime64("2010-01-05")
    found = read_table(write(tmp_path / "pandas.csv", ",a\n0,5\n1,6\n"))
    assert found.names == ["Unnamed: 0", "a"]
    found = read_table(write(tmp_path / "names.csv", "date;load, MW;temp\n2020;5;6\n"))
    assert found.names == ["date", "load, MW", "temp"]


def test_forms_of_a_name_and_of_a_label_are_one(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    path = write(
        tmp_path / "a.csv", f'{apart},"two\nlines",label\n1,2,{composed}\n3,4,{apart}\n5,6,"\ufeff{apart}\t"\n'
    )
    found = read_table(path, [composed, "two lines", "label"])
    assert found.names == [composed, "two lines", "label"] and found.labels("label") == [composed] * 3
    assert found.numbers(apart).tolist() == [1, 3, 5]
    found.require(apart)
    for suffix, content in ((".jsonl", f'{{"{apart}": 1, "b": [1]}}\n'), (".json", f'[{{"{apart}": 1}}]')):
        assert read_table(write(tmp_path / f"b{suffix}", content), [composed]).numbers(composed).tolist() == [1]
    pq.write_table(pa.table({apart: [1]}), tmp_path / "b.parquet")
    assert read_table(tmp_path / "b.parquet", [composed]).labels(apart) == ["1"]


@pytest.mark.parametrize("label", ["\x1b[31mred", "a\x07", "\u202eevil", "b\x9b0m"])
def test_no_control_character_comes_from_a_label(tmp_path, label):
    path = write(tmp_path / "a.csv", f"label,x\nfine,1\n{label},2\n")
    told(path, lambda: read_table(path).labels("label"), "line 3", "column 'label'", "control character")


def test_thousands_of_columns_take_no_more_than_seconds(tmp_path, monkeypatch):
    n = 9000
    row = ",".join(map(str, range(n)))
    path = write(tmp_path / "a.csv", ",".join(f"c{i}" for i in range(n)) + f"\n{row}\n{row}\n")
    looked = []
    monkeypatch.setattr(np, "concatenate", lambda parts, real=np.concatenate: looked.append(1) or real(parts))
    found = read_table(path, [f"c{i}" for i in range(n)])
    assert len(found.numeric_columns()) == n
    assert [found.numbers(name)[1] for name in found.names] == list(range(n))
    assert len(looked) < 3 * n

"""Reading text and tables that users bring: a bad file ends in one sentence; a good one comes back whole."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_files import packed_gz, told, write

from seqbench.errors import UserError
from seqbench.readers.tables import check_increasing, read_table, read_text


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", b"a,b\n1,2\n3,\xe9\n", ("line 3", "UTF-8", "0xE9")),
        ("a.csv", b"a,b\n1,2\n3,\xc3", ("line 3", "UTF-8")),
        ("a.csv", b"a,b\r\n1,2\r\n3,\x00\r\n", ("line 3", "NUL")),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), ("UTF-16",)),
        ("a.csv", "a,b\n1,2\n3\n4,5\n", ("line 3", "1 fields where the header has 2")),
        ("a.csv", "a,b\n1,2\n3,4,5\n", ("line 3", "3 fields")),
        ("a.csv", 'a,b\n"1\n1",2\n\n3\n', ("line 5", "1 fields")),
        ("a.csv", 'a,b\n1,2\n3,"4\n5,6\n', ("line 3", "never closed")),
        ("a.csv", 'a,b\n1,2\n3,"4"x\n5,6\n', ("line 3", "closing quote")),
        ("a.csv", 'a,b\n1,2\n"3', ("line 3", "never closed")),
        ("a.csv", '"a,b\n1,2\n', ("line 1", "never closed")),
        ("a.csv", "a,b,a\n1,2,3\n", ("line 1", "two columns are named 'a'")),
        ("a.csv", "a,,b\n1,2,3\n", ("line 1", "column 2 has no name")),
        ("a.csv", "a,\n1,\n2,3\n", ("line 3", "'3'", "a column without a name")),
        ("a.csv", ",Unnamed: 0\n1,2\n", ("line 1", "two columns are named 'Unnamed: 0'")),
        ("a.csv", "Load,load\n1,2\n", ("line 1", "'Load' and 'load' differ in upper and lower case only")),
        ("a.csv", "caf\u00e9,cafe\u0301\n1,2\n", ("line 1", "two columns are named")),
        ("a.csv", "a,\x1b[31mb\n1,2\n", ("line 1", "column 2", "control character")),
        ("a.jsonl", '{"a": 1, "A": 2}\n', ("'a' and 'A'",)),
        ("a.jsonl", '{"\\u0000": 1}\n', ("column 1", "control character")),
        ("a.csv", "a,b\n", ("no rows below its header",)),
        ("a.csv", "a,b", ("no rows below its header",)),
        ("a.csv", "\n\n", ("no header",)),
        ("a.tsv", "a\tb\n1,2\n", ("line 2", "1 fields")),
        ("a.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', ("line 2", "'a' is there twice")),
        ("a.jsonl", '{"a": 1}\n\n{"a": NaN}\n', ("line 3", "NaN", "null")),
        ("a.jsonl", '{"a": 1}\n{"a": -Infinity}\n', ("line 2", "Infinity")),
        ("a.jsonl", '{"a": 1}\n[1, 2]\n', ("line 2", "object")),
        ("a.jsonl", '{"a": 1}\n{}\n', ("line 2", "object")),
        ("a.jsonl", '{"a": 1}\n{"a": 1\n', ("line 2", "no valid JSON")),
        ("a.jsonl", '{"a": 1}\n{"a": 1} {"a": 2}\n', ("line 2", "more follows")),
        ("a.jsonl", '{"a": 1}\n{"a": ' + "[" * 100_000 + "\n", ("line 2", "too deeply")),
        ("a.jsonl", '{"a": 1}\n{"a": "\\ud800"}\n', ("line 2", "surrogate")),
        ("a.jsonl", '{"a": 1}\n{"": 1}\n', ("has no name",)),
        ("a.jsonl", "\n \n", ("no rows",)),
        ("a.ndjson", b'{"a": "\xff"}\n', ("line 1", "UTF-8")),
        ("a.json", '{"a": 1}', ("line 1", "no list of objects")),
        ("a.json", '[{"a": 1},\n {"a": 1}', ("line 2", "no valid JSON")),
        ("a.json", '[{"a": 1},\n\n 3]', ("line 3", "object")),
        ("a.json", '[{"a": 1}] x', ("line 1", "no valid JSON")),
        ("a.json", "[]", ("no rows",)),
        ("a.json", " ", ("white space",)),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", ("no Parquet file",)),
        ("a.parquet", b"a,b\n", ("no Parquet file",)),
        ("a.parquet.gz", packed_gz(b"PAR1"), ("no Parquet file",)),
    ],
)
def test_a_malformed_table_is_told_with_its_line(tmp_path, name, content, parts):
    told(write(tmp_path / name, content), lambda: read_table(tmp_path / name), *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"one\ntwo\n\xff", ("line 3", "UTF-8")),
        (b"one\r\rtwo\x00", ("line 3", "NUL")),
        (b" \n\t", ("white space",)),
        (b"\xef\xbb\xbf", ("empty",)),
        (b"", ("empty",)),
    ],
)
def test_a_malformed_text_is_told(tmp_path, content, parts):
    told(write(tmp_path / "a.txt", content), lambda: read_text(tmp_path / "a.txt"), *parts)


def test_a_text_is_read_with_one_kind_of_line_ends(tmp_path):
    path = write(tmp_path / "a.txt.gz", packed_gz("\ufeffgrün\r\nblau\rrot\n".encode()))
    assert read_text(path) == "grün\nblau\nrot\n"


def test_line_breaks_on_the_border_of_two_pieces(tmp_path):
    path = write(tmp_path / "a.txt", b"a" * (2**20 - 1) + b"\r\n" + b"a" * 2**20 + b"\xc3\xa9\n\xff")
    told(path, lambda: read_text(path), "line 3")


def test_missing_columns_are_named_together_with_the_nearest(tmp_path):
    path = write(tmp_path / "reviews.csv", "id,txt,label\n1,good,1\n")
    found = read_table(path)
    for call in (lambda: found.texts("text"), lambda: read_table(path, columns=["text"])):
        said = told(path, call)
        assert said == "reviews.csv has no column 'text': did you mean 'txt'? It has: id, txt, label."
    told(path, lambda: found.require("zzz", "txt", "qqq"), "no columns 'zzz', 'qqq': it has: id, txt, label.")
    write(tmp_path / "a.jsonl", '{"b": 1}\n')
    told(tmp_path / "a.jsonl", lambda: read_table(tmp_path / "a.jsonl", ["a"]), "no column 'a'")
    pq.write_table(pa.table({"b": [1]}), tmp_path / "a.parquet")
    told(tmp_path / "a.parquet", lambda: read_table(tmp_path / "a.parquet", ["a"]), "no column 'a'")


def test_only_the_columns_asked_for_are_read(tmp_path):
    write(tmp_path / "a.csv", "a,b,c\n1,2,3\n")
    write(tmp_path / "b.csv", 'a,b,c\n"1",2,3\n')
    write(tmp_path / "c.jsonl", '{"b": 2}\n' * 20_000 + '{"a": 1, "b": 2, "c": 3}\n')
    pq.write_table(pa.table({"a": [1], "b": [2], "c": [[3]]}), tmp_path / "d.parquet")
    for name in ("a.csv", "b.csv", "c.jsonl", "d.parquet"):
        found = read_table(tmp_path / name, ["a"])
        assert found.names == ["a"] and found.texts("a", allow_empty=True)[-1] == "1"
    assert len(read_table(tmp_path / "c.jsonl", ["a"])) == 20_001


def test_cells_stay_what_they_are(tmp_path):
    path = write(tmp_path / "a.csv", '\ufeff id ,text,n\n007,NA, 1 \n1.0,"a ""b"", c", 2\n')
    found = read_table(path)
    assert found.names == ["id", "text", "n"] and found.labels("id") == ["007", "1.0"]
    assert found.texts("text") == ["NA", 'a "b", c'] and found.texts("n") == [" 1 ", " 2"]
    assert found.labels("n") == ["1", "2"] and found.numbers("n").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n3,4\n", 'a,b\n"1",2\n3,4\n', "a;b\n1;2\n3;4\n", "a,b\r1,2\r3,4", "a,b\r\n1,2\r\n3,4\r\n\r\n"]
)
def test_dialects_of_csv(tmp_path, content):
    found = read_table(write(tmp_path / "a.csv", content))
    assert found.labels("a") == ["1", "3"] and found.labels("b") == ["2", "4"]
    assert [found.where(i) for i in range(2)] == ["line 2", "line 3"]


@pytest.mark.parametrize("quoted", ["b", '"b"'])
@pytest.mark.parametrize(
    ("first", "mark"), [("sep=;", ";"), ("sep=\t", "\t"), ("SEP=,", ","), ('"sep=\t"', "\t"), ("\ufeffsep=|", "|")]
)
def test_the_first_line_may_say_the_mark(tmp_path, first, mark, quoted):
    lines = ["name;n", "a;1", f"{quoted};2", "c;x"]
    path = tmp_path / "mine.csv"
    path.write_text("\r\n".join([first, *(line.replace(";", mark) for line in lines)]) + "\r\n", newline="")
    table = read_table(path)
    assert table.names == ["name", "n"] and table.labels("name") == ["a", "b", "c"]
    with pytest.raises(UserError, match="line 5, column 'n'"):
        table.numbers("n")
    path.write_text("sep=;\n")
    with pytest.raises(UserError, match="is empty"):
        read_table(path)


def test_a_line_longer_than_pyarrows_blocks_is_read(tmp_path):
    long = "x" * (2**24 + 5)
    assert read_table(write(tmp_path / "a.csv", f"a,b\n1,{long}\n2,y\n")).texts("b") == [long, "y"]


def test_rows_are_named_as_an_editor_numbers_them(tmp_path):
    found = read_table(write(tmp_path / "a.csv", '\na,b\n\n"x\n\ny",1\n   \nz,2\n'))
    assert [found.where(i) for i in range(2)] == ["line 4", "line 8"] and found.texts("a") == ["x\n\ny", "z"]
    found = read_table(write(tmp_path / "a.jsonl", '\n{"a": 1}\n\n{"a": 2}'))
    assert [found.where(i) for i in range(2)] == ["line 2", "line 4"]
    found = read_table(write(tmp_path / "a.json", '\n[\n{"a": 1},\n\n{"a": 2}]\n'))
    assert [found.where(i) for i in range(2)] == ["row 1", "row 2"]


def test_labels_are_the_same_in_all_formats(tmp_path):
    rows = [{"i": 1, "f": 1.0, "b": True, "s": "x", "n": None}, {"i": 2, "f": 0.5, "b": False, "s": "y", "n": None}]
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    write(tmp_path / "a.json", json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    encoded = {name: pa.array([row[name] for row in rows]).dictionary_encode() for name in "ifbs"}
    pq.write_table(pa.table(encoded), tmp_path / "b.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet", "b.parquet"):
        found = read_table(tmp_path / name)
        assert found.labels("i") == ["1", "2"] and found.labels("f") == ["1", "0.5"], name
        assert found.labels("b") == ["true", "false"] and found.labels("s") == ["x", "y"], name
        assert found.numeric_columns(except_=["f"]) == ["i", "b"], name
        assert found.numbers("b").tolist() == [1, 0] and "True and False are read as 1 and 0" in found.remarks[0]
        if name[0] == "a":
            told(tmp_path / name, lambda found=found: found.labels("n"), found.where(0), "'n'", "empty")
            assert found.texts("n", allow_empty=True) == ["", ""]
            assert np.isnan(found.numbers("n", missing=True)).all()


def test_nested_columns_are_told_when_asked_for(tmp_path):
    rows = [{"a": 1, "b": None}, {"a": 2, "b": [1]}, {"a": 3, "b": [2]}]
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    write(tmp_path / "a.json", json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name, where in (("a.jsonl", "line 2"), ("a.json", "row 2"), ("a.parquet", "list")):
        found = read_table(tmp_path / name)
        assert found.numbers("a").tolist() == [1, 2, 3] and found.numeric_columns() == ["a"]
        assert not found.holds_times("b") and "holds" in found.not_numbers("b")
        for ask in (found.texts, found.numbers, found.times, found.labels):
            told(tmp_path / name, lambda ask=ask: ask("b"), where, "'b'")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("abc", "'abc' is no number"),
        ("1,5", "use a decimal point"),
        ("1_000", "is no number"),
        ("0x10", "is no number"),
        ("inf", "not finite"),
        ("1e999", "not finite"),
        ("NaN", "'NaN' where a number must be"),
        ("NA", "'NA' where a number must be"),
        ("", "nothing where a number must be"),
        ("x" * 100, "'" + "x" * 30 + "...'"),
    ],
)
def test_what_is_no_number_is_told(tmp_path, bad, why):
    cells = ["1", "-2.5", "3e4", " 4 ", bad, "abc"[: 3 * (why[-9:] == "is no number")] or "6"]
    path = write(tmp_path / "a.csv", "id,x\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(cells)))
    found = read_table(path)
    told(path, lambda: found.numbers("x"), "line 6", "column 'x'", why)
    if "where a number must be" in why:
        values = found.numbers("x", missing=True)
        assert np.isnan(values[4]) and values[[0, 1, 2, 3, 5]].tolist() == [1, -2.5, 30000, 4, 6]
        assert found.numeric_columns() == ["id", "x"]
    else:
        told(path, lambda: found.numbers("x", missing=True), "line 6", "column 'x'", why)


def test_numbers_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {
        "f": pa.array([1.5, None, np.nan]),
        "h": pa.array(np.array([1, 2, 3], np.float16)),
        "d": pa.array(["1.25", "2", "3"]).cast(pa.decimal128(5, 2)),
        "u": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "inf": pa.array([1.0, -np.inf, 2.0]),
        "empty": pa.array([None, None, None], pa.float64()),
        "date": pa.array([0, 1, 2], pa.date32()),
        "bytes": pa.array([b"\xff", b"", b""]),
        "view": pa.array(["1", "2", "3"], pa.string_view()),
    }
    pq.write_table(pa.table(columns), path)
    found = read_table(path)
    assert found.numbers("f", missing=True)[0] == 1.5 and found.labels("h") == ["1", "2", "3"]
    assert found.numbers("d").tolist() == [1.25, 2, 3] and found.numbers("u")[2] == 2.0**64
    assert found.numbers("view").tolist() == [1, 2, 3] and found.labels("view") == ["1", "2", "3"]
    assert found.numeric_columns() == ["f", "h", "d", "u", "inf", "view"]
    told(path, lambda: found.numbers("f"), "row 2", "'f'", "nothing")
    told(path, lambda: found.numbers("inf", missing=True), "row 2", "'-inf' is not finite")
    told(path, lambda: found.numbers("date"), "'date'", "not numbers")
    told(path, lambda: found.numbers("bytes"), "'bytes'", "not numbers")
    told(path, lambda: found.texts("bytes"), "'bytes'", "not text")


def test_times_are_read_in_all_their_forms(tmp_path):
    def times(*cells):
        lines = "".join(f"{cell},1\n" for cell in cells)
        return read_table(write(tmp_path / "a.csv", "t,x\n" + lines)).times("t")

    day = np.datetime64("2020-01-31T00:00:00", "ns")
    hours = np.timedelta64(14, "h")
    assert times("2020-01-31", "2020-01-31T14:00", " 2020-01-31 14:00:00.5").tolist() == [
        moment.astype(int) for moment in (day, day + hours, day + hours + np.timedelta64(500, "ms"))
    ]
    zoned = times("2020-01-31T14:00Z", "2020-01-31T14:00:00+02:00")
    assert zoned.dtype == "datetime64[ns]" and zoned[0] == day + hours and zoned[0] - zoned[1] == np.timedelta64(2, "h")
    assert times("2019", "2020.5").tolist() == [2019, 2020.5]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["2020-01-01", "1/2/2020"], "'1/2/2020' is no time: write 2013-01-31"),
        (["2020-01-01", "2020-02-30"], "'2020-02-30' is no time"),
        (["2020-01-01", ""], "a time is missing"),
        (["2020-01-01", "2020-01-01T00:00Z"], "has a time zone, other than line 2"),
        (["2020-01-01T00:00Z", "2020-01-01"], "lacks a time zone"),
        (["2020-01-01", "0001-01-01"], "outside the years"),
        (["2020-01-01", "2020"], "'2020' is no time"),
        (["2020", "2020-01-01"], "'2020-01-01' is no number"),
        (["2020", "inf"], "not finite"),
        (["2020", "NaN"], "'NaN' where"),
    ],
)
def test_what_is_no_time_is_told(tmp_path, cells, why):
    path = write(tmp_path / "a.csv", "t,x\n" + "".join(f"{cell},1\n" for cell in cells))
    told(path, lambda: read_table(path).times("t"), "line 3", "column 't'", why)


def test_times_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {
        "date": pa.array([0, 1, 2], pa.date32()),
        "naive": pa.array([0, 1, 2], pa.timestamp("us")),
        "zoned": pa.array([0, 1, 2], pa.timestamp("s", "Europe/Paris")),
        "step": pa.array([3, 4, 5]),
        "null": pa.array([0, None, 2], pa.timestamp("ns")),
        "far": pa.array([0, 2**60, 2], pa.timestamp("us")),
        "flag": pa.array([True, False, True]),
    }
    pq.write_table(pa.table(columns), path)
    found = read_table(path)
    assert found.times("date")[1] == np.datetime64("1970-01-02") and found.times("naive")[1] == np.datetime64(1, "us")
    assert found.times("zoned")[1] == np.datetime64(1, "s") and found.times("step").tolist() == [3, 4, 5]
    told(path, lambda: found.times("null"), "row 2", "'null'", "missing")
    told(path, lambda: found.times("far"), "row 2", "'far'", "outside the years")
    told(path, lambda: found.times("flag"), "'flag'", "not numbers")


def test_times_out_of_order_or_duplicated_are_told(tmp_path):
    path = write(tmp_path / "a.csv", "t,g\n2020-01-01,a\n2020-01-01,b\n2020-01-03,a\n2020-01-02,b\n2020-01-02,a\n")
    found = read_table(path)
    times, groups = found.times("t"), found.labels("g")
    told(path, lambda: check_increasing(times, found, "t"), "line 3", "'t'", "2020-01-01 repeats", "line 2")
    told(path, lambda: check_increasing(times, found, "t", groups), "line 6", "2020-01-02", "2020-01-03 of line 4")
    check_increasing(times[:4], found, "t", groups[:4])
    check_increasing(times[:1], found, "t")
    told(path, lambda: check_increasing(np.array([1.0, 2, 1.5]), found, "t"), "line 4", "1.5 comes after the later 2")

"""Reading what users bring: a bad file ends in one sentence, whatever is bad about it; a good one comes back whole."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqbench.data import opening, plain, sequences, table
from seqbench.data.opening import open_own, suffix_of, unchanged
from seqbench.data.plain import read_text
from seqbench.data.sequences import read_sequences
from seqbench.data.table import check_increasing, read_table
from seqbench.errors import UserError


def packed_gz(content):
    """Without the time, which would make other test names in every second, and so in every worker."""
    return gzip.compress(content, mtime=0)


def told(path, call, *parts):
    """``call()`` ends in one sentence that names the file, but not its directory, and holds ``parts``."""
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert said.isprintable() and said.endswith((".", "?")), said
    assert path.name in said and str(path.parent) not in said, said
    for part in parts:
        assert part in said, said
    return said


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_any(path):
    """The whole of a file by its suffix, every column too, as a task would ask for it."""
    with unchanged(path):
        suffix = suffix_of(path)
        if suffix == ".txt":
            return read_text(path)
        if suffix not in table.SUFFIXES:
            return read_sequences(path)
        found = read_table(path)
        for ask in (found.texts, found.labels, found.numbers, found.times):
            for name in found.names:
                try:
                    answer = ask(name)
                except UserError as error:
                    assert str(error).isprintable() and path.name in str(error)
                else:
                    assert len(answer) == len(found)
        found.numeric_columns()
        return found


# --- opening ---------------------------------------------------------------------------------------------------------

TEXT = "time,x\n2020-01-01,1\n2020-01-02,2\n"


def tar_of(*members, mode="w"):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return held.getvalue()


def zip_of(*members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)  # with no time, as above
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


RAW = TEXT.encode()
PACKED = {
    "a.csv": RAW,
    "a.CSV.gz": packed_gz(RAW),
    "a.csv.bz2": bz2.compress(RAW),
    "a.csv.xz": lzma.compress(RAW),
    "a.csv.zip": zip_of(("folder/a.csv", RAW), ("__MACOSX/folder/._a.csv", b"attributes")),
    "a.zip": zip_of(("a.csv", RAW)),
    "a.csv.tar": tar_of(("a.csv", RAW)),
    "a.tar.gz": tar_of(("a.csv", RAW), mode="w:gz"),
    "a.csv.tgz": tar_of(("./a.csv", RAW), mode="w:gz"),
    "a.tar.xz": tar_of(("a.csv", RAW), mode="w:xz"),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_file_reads_the_same_however_it_is_packed(tmp_path, name):
    path = write(tmp_path / name, PACKED[name])
    assert suffix_of(path) == ".csv"
    found = read_table(path)
    assert found.names == ["time", "x"] and found.labels("x") == ["1", "2"]
    assert list(tmp_path.iterdir()) == [path], "nothing is extracted"


@pytest.mark.parametrize("name", [name for name in PACKED if name != "a.csv"])
def test_a_damaged_archive_is_told(tmp_path, name):
    whole = PACKED[name]
    for keep in (1, 520 if name.endswith(".tar") else len(whole) // 2):  # a tar is mostly filled up with zeros
        path = write(tmp_path / name, whole[:keep])
        told(path, lambda path=path: read_table(path))
    told(write(tmp_path / name, b"time,x\n" * 300), lambda: read_table(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.zip", zip_of(("../a.csv", RAW)), "leads outside"),
        ("a.zip", zip_of(("x/../../a.csv", RAW)), "leads outside"),
        ("a.zip", zip_of(("/tmp/a.csv", RAW)), "leads outside"),
        ("a.zip", zip_of(("..\\a.csv", RAW)), "leads outside"),
        ("a.zip", zip_of(("C:a.csv", RAW)), "leads outside"),
        ("a.tar", tar_of(("../a.csv", RAW)), "leads outside"),
        ("a.tgz", tar_of(("/a.csv", RAW), mode="w:gz"), "leads outside"),
        ("a.tar", tar_of(("a.csv", None)), "a link or a device"),
        ("a.zip", zip_of(("a.csv", RAW), ("b.csv", RAW)), "more than one file"),
        ("a.tar", tar_of(("a.csv", RAW), ("b.csv", RAW)), "more than one file"),
        ("a.zip", zip_of(), "no file"),
        ("a.tar", tar_of(), "no file"),
        ("a.csv.gz.gz", packed_gz(packed_gz(RAW)), "packed more than once"),
        ("a.csv.gz", packed_gz(b""), "is empty"),
        ("a.csv.bz2", bz2.compress(b"\xef\xbb\xbf"), "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.xlsx", b"PK", ".parquet"),
        ("a", b"x", ".parquet"),
    ],
)
def test_what_an_archive_may_not_hold_is_told(tmp_path, name, content, why):
    told(write(tmp_path / name, content), lambda: read_table(tmp_path / name), why)


def test_zip_symlinks_and_encrypted_zips_are_told(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.csv")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    told(path, lambda: read_table(path), "a link or a device")
    content = bytearray(PACKED["a.zip"])
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    told(write(path, bytes(content)), lambda: read_table(path), "encrypted")


def test_what_is_no_regular_file_is_told(tmp_path, monkeypatch):
    told(tmp_path / "no.csv", lambda: read_table(tmp_path / "no.csv"), "not there")
    (tmp_path / "folder.csv").mkdir()
    told(tmp_path / "folder.csv", lambda: read_table(tmp_path / "folder.csv"), "directory")
    os.mkfifo(tmp_path / "pipe.csv")
    told(tmp_path / "pipe.csv", lambda: read_table(tmp_path / "pipe.csv"), "no regular file")
    (tmp_path / "null.csv").symlink_to("/dev/zero")
    told(tmp_path / "null.csv", lambda: read_table(tmp_path / "null.csv"), "no regular file")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    told(tmp_path / "loop.csv", lambda: read_table(tmp_path / "loop.csv"), "can't be read")
    path = write(tmp_path / "a.csv", TEXT)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no permission stops
    told(path, lambda: read_table(path), "may not be read")


@pytest.mark.parametrize("pack", [packed_gz, bz2.compress, lzma.compress, lambda raw: zip_of(("a.csv", raw))])
def test_a_bomb_ends_in_a_sentence(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(opening, "LIMIT", 2**20)
    suffix = {packed_gz: "gz", bz2.compress: "bz2", lzma.compress: "xz"}.get(pack, "zip")
    path = write(tmp_path / f"bomb.csv.{suffix}", pack(b"a\n" * 2**20))
    told(path, lambda: read_table(path), "more than")
    path = write(tmp_path / f"bomb.txt.{suffix}", pack(b"a\n" * 2**20))
    told(path, lambda: read_text(path), "more than")
    monkeypatch.setattr(opening, "MEMORY_LIMIT", 2**10)
    path = write(tmp_path / f"bomb.parquet.{suffix}", pack(b"a\n" * 2**10))
    told(path, lambda: read_table(path), "more than")


def test_limits_of_rows_columns_lines_and_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "MAX_ROWS", 1)
    monkeypatch.setattr(table, "MAX_ROWS", 1)
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", 'a,b\n1,"2"\n1,2\n')
    write(tmp_path / "b.csv", "a,b\n1,2\n1,2\n")
    write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 1}\n')
    for name in ("a.parquet", "a.csv", "b.csv", "a.jsonl"):
        told(tmp_path / name, lambda name=name: read_table(tmp_path / name), "more than 1 rows")
    monkeypatch.setattr(plain, "MAX_COLUMNS", 1)
    told(tmp_path / "a.csv", lambda: read_table(tmp_path / "a.csv"), "line 1", "columns")
    monkeypatch.setattr(plain, "MAX_FIELD", 3)
    path = write(tmp_path / "c.csv", 'a\n1\n"long field"\n')
    told(path, lambda: read_table(path), "line 3", "too long")
    monkeypatch.setattr(opening, "MAX_LINE", 2**21)
    path = write(tmp_path / "d.csv", "a\n1\n" + "x" * 2**22)
    told(path, lambda: read_table(path), "line 3", "longer")
    monkeypatch.setattr(plain, "MAX_CHARACTERS", 8)
    path = write(tmp_path / "a.txt", "0123456789")
    told(path, lambda: read_text(path), "more than 8 characters")


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    path = write(tmp_path / "a.csv", TEXT)
    with unchanged(path) as digest:
        read_table(path)
    assert len(digest) == 64

    def append():
        with unchanged(path):
            write(path, TEXT + "2020-01-03,3\n")

    def touch():
        with unchanged(path):
            os.utime(path, ns=(1, 1))

    def break_it():
        with unchanged(path):
            write(path, b"\xff")
            read_table(path)

    def remove():
        with unchanged(path):
            path.unlink()

    for change in (append, touch, break_it, remove):
        told(path, change, "changed while it was read")
    write(path, TEXT + "x\n")
    with pytest.raises(UserError, match="line 4"), unchanged(path):
        read_table(path)


# --- text and tables -------------------------------------------------------------------------------------------------


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
        ("a.csv", ",a\n1,2\n", ("line 1", "column 1 has no name")),
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
        assert found.numeric_columns(except_=["f"]) == ["i"], name
        told(tmp_path / name, lambda found=found: found.numbers("b"), "'b'")
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


# --- sequences -------------------------------------------------------------------------------------------------------


def genbank(name="AB1", letters="acgtacgtacgtacgt", definition="A thing.", source="", comment=""):
    pieces = [letters[i : i + 10] for i in range(0, len(letters), 10)]
    rows = [f"{10 * i + 1:>9} {' '.join(pieces[i : i + 6])}" for i in range(0, len(pieces), 6)]
    return (
        f"LOCUS       {name:<16} {len(letters):>11} bp    DNA     linear   PLN 01-JAN-2020\n"
        f"DEFINITION  {definition}\n"
        f"ACCESSION   {name}\nVERSION     {name}.1\nKEYWORDS    .\nSOURCE      x\n  ORGANISM  x\n            x.\n"
        f"{'COMMENT     ' + comment + chr(10) if comment else ''}FEATURES             Location/Qualifiers\n"
        f"     source          1..{len(letters)}\n"
        f"{' ' * 21 + source + chr(10) if source else ''}"
        "ORIGIN\n" + "\n".join(rows) + "\n//\n"
    )


def test_fasta_is_read(tmp_path):
    path = write(
        tmp_path / "a.fa", '\n>s1 label=donor x\nacgu\nRYN\n\n>s1|label="two words"\nAC GT\r\n>s3 unlabel=x\nA\n'
    )
    first, second, third = read_sequences(path)
    assert first == sequences.Sequence("s1", "ACGTNNN", "donor", 2)
    assert (second.letters, second.label, second.line) == ("ACGT", "two words", 6)
    assert (third.name, third.label) == ("s3", None)


def test_genbank_is_read(tmp_path):
    text = (
        genbank("AB1", source='/note="label=donor"')
        + genbank("AB2", definition="Something, label=acceptor.")
        + genbank("AB3", comment='A comment with label="two words" in it.')
        + genbank("AB4", source='/label="neither"', letters="acgurykmn" * 5)
        + genbank("AB5")
    )
    found = read_sequences(write(tmp_path / "a.gb.gz", packed_gz(text.encode())))
    assert [one.label for one in found] == ["donor", "acceptor", "two words", "neither", None]
    assert [one.name for one in found] == ["AB1", "AB2", "AB3", "AB4", "AB5"]
    assert found[0].letters == "ACGT" * 4 and found[3].letters == "ACGTNNNNN" * 5
    lines = text.splitlines()
    assert all(lines[one.line - 1].startswith(f"LOCUS       {one.name}") for one in found)


def test_sequences_of_a_table_are_read(tmp_path):
    path = write(tmp_path / "a.csv", "sequence,label\nACGU,1\nnnn,2\n")
    assert [(one.letters, one.label, one.line) for one in read_sequences(path)] == [("ACGT", "1", 2), ("NNN", "2", 3)]
    assert read_sequences(write(tmp_path / "b.csv", "sequence\nA\n"))[0].label is None


TOO_LONG = "A" * 1_000_001


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.fa", ">s1\nACGT\nACXT\n", ("line 3", "'X' at position 7", "'s1'")),
        ("a.fa", ">s1\nAC\n>s2\nAC GT\nA-T\n", ("line 5", "'-' at position 6", "'s2'")),
        ("a.fa", ">s1\nAC\u017f\n", ("line 2", "position 3")),
        ("a.fa", ">s1\nACGT\n>s2\n>s3\nA\n", ("line 3", "'s2' has length 0")),
        ("a.fa", ">s1\nACGT\n>s2", ("line 3", "'s2' has length 0")),
        ("a.fa", f">s1\nA\n>s2\n{TOO_LONG}\n", ("line 3", "'s2' has 1,000,001 letters")),
        ("a.fa", "\nACGT\n>s1\nACGT\n", ("line 2", "begins with >")),
        ("a.fasta", "\n\n", ("no record",)),
        ("a.fa", ">s1 label=\nA\n", ("line 1", "label= has no value")),
        ("a.fa", '>s1\nA\n>s2 label="x\nA\n', ("line 3", "quote")),
        ("a.fna", b">s1\nA\xff\n", ("line 2", "UTF-8")),
        ("a.gb", genbank() + genbank("AB2", letters="acgt" * 8 + "acxt"), ("line 25", "'X' at position 35", "'AB2'")),
        ("a.gb", genbank() + genbank()[:-8], ("line 14", "GenBank")),
        ("a.gb", genbank()[:-3] + genbank(), ("GenBank",)),
        ("a.gb", genbank().replace(" bp ", "9bp "), ("line 1", "GenBank")),
        ("a.gb", genbank().replace("ORIGIN\n", "").replace("        1 acgtacgtac gtacgt\n", ""), ("line 1",)),
        ("a.gb", ">s1\nACGT\n", ("no record",)),
        ("a.csv", "sequence,label\nAC,1\nAXC,1\n", ("line 3", "'sequence'", "'X' at position 2")),
        ("a.csv", "sequence,label\nAC,1\n,1\n", ("line 3", "'sequence'", "length 0")),
        ("a.csv", f"sequence,label\nAC,1\n{TOO_LONG},1\n", ("line 3", "1,000,001")),
        ("a.csv", "sequence,label\nAC,1\nAC,\n", ("line 3", "'label'", "empty")),
        ("a.csv", "seq,label\nAC,1\n", ("no column 'sequence'", "did you mean 'seq'")),
        ("a.doc", "ACGT", (".fasta",)),
    ],
)
def test_a_malformed_sequence_is_told(tmp_path, name, content, parts):
    told(write(tmp_path / name, content), lambda: read_sequences(tmp_path / name), *parts)


# --- properties ------------------------------------------------------------------------------------------------------

FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NAME = CELL.map(str.strip).filter(bool)


@st.composite
def text_tables(draw):
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.tuples(*[CELL] * len(names)), min_size=1, max_size=6))
    return names, rows


@FEW
@given(text_tables(), st.sampled_from(["csv", "tsv", "csv.gz"]), st.sampled_from(["\n", "\r\n"]))
def test_any_table_of_texts_survives_csv(tmp_path, drawn, suffix, end):
    names, rows = drawn
    held = io.StringIO(newline="")
    csv.writer(held, "excel-tab" if suffix == "tsv" else "excel", quoting=csv.QUOTE_ALL, lineterminator=end).writerows(
        [names, *rows]
    )
    content = held.getvalue().encode()
    path = write(tmp_path / f"a.{suffix}", packed_gz(content) if suffix.endswith("gz") else content)
    found = read_table(path)
    assert found.names == names and len(found) == len(rows)
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        assert found.texts(name, allow_empty=True) == list(column)


@FEW
@given(text_tables(), st.sampled_from([".jsonl", ".json", ".parquet"]), st.booleans())
def test_any_table_of_texts_survives_json_and_parquet(tmp_path, drawn, suffix, ascii_only):
    names, rows = drawn
    path = tmp_path / f"a{suffix}"
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(objects, pa.schema([(name, pa.string()) for name in names])), path)
    elif suffix == ".json":
        write(path, json.dumps(objects, ensure_ascii=ascii_only, indent=1))
    else:
        write(path, "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in objects))
    found = read_table(path)
    assert found.names == names and len(found) == len(rows)
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        assert found.texts(name, allow_empty=True) == list(column)


@FEW
@given(
    st.lists(st.floats(-1e30, 1e30) | st.just(float("nan")), min_size=1, max_size=8),
    st.sampled_from([".csv", ".parquet"]),
)
def test_any_numbers_survive(tmp_path, values, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        write(path, "x\n" + "".join(f"{value!r}\n" for value in values))
    else:
        pq.write_table(pa.table({"x": values}), path)
    np.testing.assert_array_equal(read_table(path).numbers("x", missing=True), values)


ALL = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".fasta", ".gb", ".txt", ".csv.gz", ".csv.bz2"]
ALL += [".csv.xz", ".csv.zip", ".zip", ".tar", ".tar.gz", ".fa.tgz", ".parquet.gz"]


def survives(path):
    began = time.perf_counter()
    try:
        read_any(path)
    except UserError as error:
        assert str(error).isprintable() and str(path.parent) not in str(error), str(error)
    assert time.perf_counter() - began < 5, path.name


@settings(FEW, max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(ALL))
def test_random_bytes_end_in_a_sentence_or_in_data(tmp_path, content, suffix):
    survives(write(tmp_path / f"a{suffix}", content))


TOKENS = [
    '"',
    ",",
    "\n",
    "\r",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ":",
    "\\u",
    "1e9",
    "null",
    ">",
    "LOCUS       ",
    "//\n",
    "ORIGIN\n",
]


@settings(FEW, max_examples=300)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=3)), max_size=30), st.sampled_from(ALL[:9]))
def test_random_syntax_ends_in_a_sentence_or_in_data(tmp_path, tokens, suffix):
    survives(write(tmp_path / f"a{suffix}", "".join(tokens).encode(errors="surrogatepass")))


def good_files():
    rows = [
        {"time": f"2020-01-{i + 1:02d}T00:00Z", "x": i / 4, "text": f'"é", {i}\n', "label": i % 2} for i in range(20)
    ]
    held = io.StringIO(newline="")
    writer = csv.DictWriter(held, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    arrow = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), arrow)
    plain_csv = "".join(f"2020-01-{i + 1:02d},{i}.5,a\n" for i in range(20))
    found = {
        ".csv": held.getvalue().encode(),
        ".tsv": ("time,x,label\n" + plain_csv).replace(",", "\t").encode(),
        ".jsonl": "\n".join(map(json.dumps, rows)).encode(),
        ".json": json.dumps(rows, indent=1).encode(),
        ".parquet": arrow.getvalue(),
        ".fasta": "".join(f">s{i} label=donor\nACGTNRY\nACGU\n" for i in range(9)).encode(),
        ".gb": "".join(genbank(f"AB{i}", source='/note="label=a"') for i in range(3)).encode(),
        ".txt": "Zwölf Boxkämpfer jagen Viktor.\r\n".encode() * 9,
    }
    packed = {f"{suffix}.gz": packed_gz(content) for suffix, content in found.items()}
    packed |= {f"{suffix}.zip": zip_of((f"a{suffix}", content)) for suffix, content in found.items()}
    packed |= {".csv.tar": tar_of(("a.csv", found[".csv"])), ".txt.xz": lzma.compress(found[".txt"])}
    return found | packed


GOOD = good_files()


def mutate(content, rng):
    """``content`` after one to three accidents."""
    for _ in range(rng.randint(1, 3)):
        i, j = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        piece = content[i : min(j, i + 60)]
        k = rng.randrange(len(content) + 1)
        content = rng.choice(
            [
                content[:i],
                content[:i] + content[j:] if rng.random() < 0.3 else content[:i] + content[i + len(piece) :],
                content[:i] + piece + content[i:],
                content[:i] + bytes(rng.randrange(256) for _ in content[i : i + 1]) + content[i + 1 :],
                content[:i] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 9))) + content[i:],
                content[:k] + piece + content[k + len(piece) :],
                content[:i] + rng.choice([b"\0", b"\xff", b'"', b"\n", b"\r", b",", b"\xef\xbb\xbf"]) + content[i:],
            ]
        )
        if not content:
            break
    return content


@pytest.mark.parametrize("suffix", GOOD)
def test_mutated_files_end_in_a_sentence_or_in_data(tmp_path, suffix):
    read_any(write(tmp_path / f"good{suffix}", GOOD[suffix]))
    rng = random.Random(suffix)
    for i in range(40):
        survives(write(tmp_path / f"{i}{suffix}", mutate(GOOD[suffix], rng)))


def test_a_member_of_every_reader_closes_its_file(tmp_path):
    path = write(tmp_path / "a.csv", TEXT)
    with open_own(path) as own:
        stream = own.stream()
        assert stream.read(4) == b"time"
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(20):
        read_table(path)
    assert len(set(Path("/proc/self/fd").iterdir()) - before) < 3

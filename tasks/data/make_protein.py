"""Make protein.parquet, protein_profiles.parquet and protein_clusters.parquet: chains with their secondary structure.

Source: the structural database of ProMod3, `structure_db.dat` of Debian's package `promod3-data` 3.2.1+ds-6; SOURCES.md
has licence and citation. Run by hand: `apt-get download promod3-data`, `dpkg-deb -x promod3-data_*.deb FOLDER`, then
`python tasks/data/make_protein.py FOLDER [--out DIR]`. The clusters are read from protein_clusters.parquet; with
`--mmseqs PROGRAM` they are made anew (MMseqs2 14-7e284, Debian's package `mmseqs2`; about ten minutes on one core).

The database holds 21,119 stretches of chains of the PDB that are resolved without a gap. They are clustered by

    mmseqs easy-cluster --min-seq-id 0.25 -c 0.5 --cov-mode 1 -s 7

and of each cluster the representative is kept if it has 40 to 400 residues. The splits are dealt among the
representatives by SHA-256 of their names: 600 test, 600 validate, the rest trains. A cluster is a star around its
representative, so two representatives can still be alike: chains of validation and test are left out where a search
(`mmseqs easy-search -s 7.5`, E at most 0.001) aligns them with a chain that trains, or a test chain with one that
validates, at 25% identity over half of the shorter one. Such chains are in the table of clusters with the word
`alike`.

Columns:
    protein.parquet            chain (string, PDB entry, chain and number of the first residue), split (train, val or
                               test), sequence (string), dssp (string, as long as the sequence, of GHIEBTSC)
    protein_profiles.parquet   chain, profile (binary): of every residue 20 bytes, of the amino acids in the order of
                               ACDEFGHIKLMNPQRSTVWY, each round(7 sqrt(share)), where the shares are those in an
                               alignment of related sequences; in the order of protein.parquet
    protein_clusters.parquet   chain, representative (its row in this file), use (train, val, test, alike, or length
                               for a representative that is too short or long, or "" for a chain that is none)

Traps: lengths in the table of contents are of 16 bits; the offset of a chain counts residues from the start of all of
them. The profile comes from sequences alone; the database has a second one from structures (`freq_struct`), which
would give the answer away and is not read.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

FILE = "usr/share/promod3/loop_data/structure_db.dat"
SHA256 = "0f1c6e35a3f248fddd0c2c0da2c0d1145b502d4663fe8adb7239f27adad3301a"
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
HEADER = 73  # bytes before the table of contents: magic number, version, sizes of types
SHORTEST, LONGEST = 40, 400  # residues
HELD_OUT = 600  # chains of validation and of test
IDENTITY, COVERED = 0.25, 0.5
# what follows the table of contents: name, type, numbers per residue
PARTS = (
    ("sequence", "u1", 1), ("coordinates", "<u2", 12), ("dihedrals", "<i2", 2), ("accessibility", "<u2", 1),
    ("depth", "<u2", 1), ("dssp", "u1", 1), ("profile", "<i2", 20),
)  # fmt: skip
Array = npt.NDArray[np.generic]
Residues = npt.NDArray[np.uint8]


class Database(NamedTuple):
    """Chains by name, where each lies, and what is known of all residues, end to end."""

    names: list[str]
    starts: list[int]
    lengths: list[int]
    parts: dict[str, Array]

    def letters(self, part: str, chain: int) -> str:
        """``sequence`` or ``dssp`` of one chain."""
        rows = self.parts[part][self.starts[chain] : self.starts[chain] + self.lengths[chain]]
        return bytes(rows.tolist()).decode("ascii")


def read_database(path: Path) -> Database:
    """The database in its portable form, version 2. Raises ValueError where it is another file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    if digest.hexdigest() != SHA256:
        raise ValueError(f"{path} has not the SHA-256 of the file in promod3-data 3.2.1+ds-6.")
    memory = np.memmap(path, np.uint8, "r")
    raw = memory.data
    at = HEADER
    _, count = struct.unpack_from("<iQ", raw, at)
    at += 12
    names, starts, lengths = [], [], []
    for _ in range(count):
        words = []
        for _ in range(2):
            (size,) = struct.unpack_from("<I", raw, at)
            words.append(bytes(raw[at + 4 : at + 4 + size]).decode("ascii"))
            at += 4 + size
        start, length, number = struct.unpack_from("<IHH", raw, at)
        at += 20  # they are followed by the place of the chain in space
        names.append(f"{words[0]}_{words[1]}_{number}")
        starts.append(start)
        lengths.append(length)
    parts = {}
    for name, kind, width in PARTS:
        (residues,) = struct.unpack_from("<Q", raw, at)
        size = residues * width * np.dtype(kind).itemsize
        parts[name] = memory[at + 8 : at + 8 + size].view(kind).reshape(residues, width).squeeze()
        at += 8 + size
    return Database(names, starts, lengths, parts)


def write_fasta(database: Database, chains: list[int], path: Path) -> Path:
    """The ``chains`` under their numbers."""
    path.write_text("".join(f">{i}\n{database.letters('sequence', i)}\n" for i in chains), encoding="ascii")
    return path


def cluster(database: Database, mmseqs: str) -> list[int]:
    """The representative of every chain."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        everything = write_fasta(database, list(range(len(database.names))), folder / "all.fasta")
        options = ["--min-seq-id", str(IDENTITY), "-c", str(COVERED), "--cov-mode", "1", "-s", "7", "--threads", "1"]
        command: list[str | Path] = [mmseqs, "easy-cluster", everything, folder / "clusters", folder / "tmp", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        pairs = (line.split() for line in (folder / "clusters_cluster.tsv").read_text("ascii").splitlines())
        of = {int(member): int(representative) for representative, member in pairs}
    return [of[i] for i in range(len(database.names))]


def alike(database: Database, mmseqs: str, queries: list[int], targets: list[int]) -> set[int]:
    """Those of ``queries`` that align with one of ``targets`` at 25% identity over half of the shorter chain."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write_fasta(database, rows, folder / file) for rows, file in ((queries, "q.fa"), (targets, "t.fa"))]
        columns = "query,target,fident,qstart,qend,tstart,tend"
        options = ["-s", "7.5", "-e", "0.001", "--max-seqs", "1000", "--threads", "1", "--format-output", columns]
        command: list[str | Path] = [mmseqs, "easy-search", *files, folder / "hits.tsv", folder / "tmp", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = set()
        for line in (folder / "hits.tsv").read_text("ascii").splitlines():
            query, target, identity, *ends = line.split("\t")
            first, second = database.lengths[int(query)], database.lengths[int(target)]
            reach = [int(ends[1]) - int(ends[0]) + 1, int(ends[3]) - int(ends[2]) + 1]
            covered = reach[0] if first <= second else reach[1]
            if float(identity) >= IDENTITY and covered >= COVERED * min(first, second):
                found.add(int(query))
    return found


def deal(database: Database, mmseqs: str, of: list[int]) -> list[str]:
    """What every chain is used for."""
    use = [""] * len(of)
    fit = []
    for i in sorted(set(of)):
        use[i] = "length"
        if SHORTEST <= database.lengths[i] <= LONGEST:
            fit.append(i)
    fit.sort(key=lambda i: hashlib.sha256(database.names[i].encode()).hexdigest())
    test, val, train = fit[:HELD_OUT], fit[HELD_OUT : 2 * HELD_OUT], fit[2 * HELD_OUT :]
    for part, rows in (("test", test), ("val", val), ("train", train)):
        for i in rows:
            use[i] = part
    known = alike(database, mmseqs, val, train)
    kept = [i for i in val if i not in known]
    for i in known | alike(database, mmseqs, test, train + kept):
        use[i] = "alike"
    return use


def clusters_table(database: Database, mmseqs: str) -> pa.Table:
    """The table of protein_clusters.parquet."""
    of = cluster(database, mmseqs)
    columns = {
        "chain": pa.array(database.names, pa.string()),
        "representative": pa.array(of, pa.int32()),
        "use": pa.array(deal(database, mmseqs, of), pa.string()),
    }
    return pa.table(columns)


def chosen(database: Database, clusters: pa.Table) -> list[tuple[str, int]]:
    """(split, chain) of what is shipped: train, val, then test, each in the order of the database."""
    if clusters["chain"].to_pylist() != database.names:
        raise ValueError("the table of clusters is not of this database.")
    use = clusters["use"].to_pylist()
    return [(part, i) for part in ("train", "val", "test") for i, word in enumerate(use) if word == part]


def build(database: Database, rows: list[tuple[str, int]]) -> pa.Table:
    """The table of protein.parquet."""
    columns = {
        "chain": pa.array([database.names[i] for _, i in rows], pa.string()),
        "split": pa.array([part for part, _ in rows], pa.string()),
        "sequence": pa.array([database.letters("sequence", i) for _, i in rows], pa.string()),
        "dssp": pa.array([database.letters("dssp", i) for _, i in rows], pa.string()),
    }
    return pa.table(columns)


def profile(database: Database, chain: int) -> Residues:
    """(T, 20) of one chain, 0 to 7; some shares in the database are a little below 0 or above 1."""
    start = database.starts[chain]
    shares = np.clip(database.parts["profile"][start : start + database.lengths[chain]].astype(float) / 1e4, 0, 1)
    levels: Residues = np.rint(7 * np.sqrt(shares)).astype(np.uint8)
    return levels


def build_profiles(database: Database, rows: list[tuple[str, int]]) -> pa.Table:
    """The table of protein_profiles.parquet."""
    columns = {
        "chain": pa.array([database.names[i] for _, i in rows], pa.string()),
        "profile": pa.array([profile(database, i).tobytes() for _, i in rows], pa.binary()),
    }
    return pa.table(columns)


def write(table: pa.Table, path: Path, dictionary: list[str]) -> None:
    """With the strongest compression; a column in one page, so that zstd sees all of it."""
    options = {"compression": "zstd", "compression_level": 22, "data_page_size": 2**26, "write_batch_size": 2**21}
    pq.write_table(table, path, use_dictionary=dictionary, **options)
    print(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the package is unpacked")
    parser.add_argument("--mmseqs", help="the program MMseqs2, to make the clusters anew")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    source = read_database(given.folder / FILE)
    table_file = given.out / "protein_clusters.parquet"
    if given.mmseqs:
        write(clusters_table(source, given.mmseqs), table_file, ["use"])
    shipped = chosen(source, pq.read_table(table_file))
    write(build(source, shipped), given.out / "protein.parquet", ["split"])
    write(build_profiles(source, shipped), given.out / "protein_profiles.parquet", [])

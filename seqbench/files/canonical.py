"""The canonical sets that papers report on, fetched over the network before they are used (`data fetch TASK`).

Each is a set of fields that replace those of a task, as for a user's own file. Revisions are pinned, but for Yahoo's
prices, and hashes, but for those, Multi30k and NetSurfP-2.0. Test sets are those of the publishers; training examples
too alike to one of them are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqbench.data import CONTEXT, TaskData
from seqbench.errors import UserError
from seqbench.files import nucleotides, pairs, plain_text, residues, series, texts
from seqbench.files.near import near_groups
from seqbench.files.splitting import hold_out, published_split
from seqbench.readers.downloads import HubFile, fetch_hub, fetch_prices
from seqbench.readers.tables import Table, read_table
from seqbench.task import Metric, Source

__all__ = ["IMDB", "JENA", "MULTI30K", "NETSURF", "PROMOTERS", "WIKITEXT", "HubSet", "Prices"]

VAL = 0.15  # of the publishers' training examples


@dataclass(frozen=True)
class HubSet:
    """Files of a data set on the Hugging Face hub."""

    files: tuple[HubFile, ...]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Repository, path and revision of each file."""
        return {"files": [[file.repo, file.path, file.revision] for file in self.files]}

    def fetch(self, folder: Path, say: Callable[[str], None], *, force: bool = False) -> None:
        """Download them, all or none."""
        fetch_hub(self.files, folder, say, force=force)


def _set(repo: str, revision: str, files: Mapping[str, str]) -> HubSet:
    return HubSet(tuple(HubFile(repo, path, revision, digest) for path, digest in files.items()))


@dataclass(frozen=True)
class Prices:
    """Daily prices from Yahoo Finance."""

    ticker: str
    start: str
    end: str

    @property
    def identity(self) -> Mapping[str, Any]:
        """Ticker and dates."""
        return {"ticker": self.ticker, "start": self.start, "end": self.end}

    def fetch(self, folder: Path, say: Callable[[str], None], *, force: bool = False) -> None:
        """Download them."""
        fetch_prices(self.ticker, self.start, self.end, folder, say, force=force)


@dataclass(frozen=True)
class ImdbOptions:
    """Options of sentiment on the hub's set."""

    sequence_length: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 5000:
            raise UserError(f"--sequence-length must be from 1 to 5000 words, not {self.sequence_length}.")


IMDB_FILES = _set(
    "stanfordnlp/imdb",
    "e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    {
        "plain_text/train-00000-of-00001.parquet": "db47d16b5c297cc0dd625e519c81319c24c9149e70e8496de5475f6fa928342c",
        "plain_text/test-00000-of-00001.parquet": "b52e26e2f872d282ffac460bf9770b25ac6f102cda0e6ca7158df98c94e8b3da",
    },
)


def load_imdb(source: Source, options: ImdbOptions) -> TaskData:
    """Film reviews, negative or positive; validation is held out of the publishers' training half."""
    parts = [read_table(_file(source, part)) for part in ("train", "test")]
    reviews = [text for table in parts for text in table.texts("text")]
    labels = np.array([int(label) for table in parts for label in table.labels("label")])
    groups = near_groups(reviews)
    indices, note = hold_out(groups, len(parts[0]), VAL)
    labelled = texts.LabelledTexts(reviews, labels, groups, ("negative", "positive"), indices, [note])
    return texts.build(labelled, source, options.sequence_length, 20_000)


def _file(source: Source, part: str) -> Path:
    """The fetched file whose name begins with ``part``."""
    return next(path for name, path in source.files.items() if name.startswith(part))


IMDB: dict[str, Any] = {
    "load": load_imdb,
    "options": ImdbOptions,
    "fetch": lambda options: IMDB_FILES,
    "metrics": texts.LABEL_METRICS,
    "description": "is a film review negative or positive? (IMDb)",
    "citation": "A.L. Maas et al., Learning word vectors for sentiment analysis, ACL 2011; hub set stanfordnlp/imdb",
    "licence": "not stated by the publishers; for research",
    "split": "the publishers' 25,000 test reviews; 15% of their training reviews validate; near-duplicates on one side",
}


PROMOTER_FILES = _set(
    "katarinagresova/Genomic_Benchmarks_human_nontata_promoters",
    "e0003669df0a180c8570ebe091ed91f20fa080ec",
    {
        "data/train-00000-of-00001-aeb55728756a44ae.parquet": (
            "75e934078d6b880464c6a60f2e5ffd5b894204a11f32aac8c9607adcae625afa"
        ),
        "data/test-00000-of-00001-d7614d9116c62f44.parquet": (
            "baac2b635666547c56c6482d6c7dd53def995cdcc4acca367f980c82d15c9f39"
        ),
    },
)


def load_promoters(source: Source, options: nucleotides.SequenceOptions) -> TaskData:
    """Human promoters without a TATA box, and other stretches; 251 bases."""
    parts = [read_table(_file(source, part)) for part in ("train", "test")]
    sequences = [
        nucleotides.centre(text.upper(), options.sequence_length) for table in parts for text in table.texts("seq")
    ]
    labels = np.array([int(label) for table in parts for label in table.labels("label")])
    groups = near_groups(sequences, piece=nucleotides.PIECE, by_words=False)
    indices, note = hold_out(groups, len(parts[0]), VAL)
    classes = ("negative", "promoter")
    return nucleotides.build_sequences(sequences, labels, groups, classes, indices, source.hashes, (note,))


PROMOTERS: dict[str, Any] = {
    **nucleotides.VARIANT,
    "load": load_promoters,
    "fetch": lambda options: PROMOTER_FILES,
    "description": "human promoters without a TATA box against other sequences (Genomic Benchmarks)",
    "citation": "K. Gresova et al., Genomic benchmarks, BMC Genomic Data 24:25 (2023); human_nontata_promoters",
    "licence": "Apache-2.0 (Genomic Benchmarks)",
    "split": "the publishers' test set; 15% of their training set validates; shared 20 central bases are left out",
}


WIKITEXT_FILES = _set(
    "Salesforce/wikitext",
    "b08601e04326c79dfdd32d625aee71d232d685c3",
    {
        f"wikitext-2-raw-v1/{part}-00000-of-00001.parquet": digest
        for part, digest in (
            ("train", "e83889baabc497075506f91975be5fac0d45c5290b6b20582c8cd1e853d0c9f7"),
            ("validation", "204929b7ff9d6184953f867dedb860e40aa69c078fc1e54b3baaa8fb28511c4c"),
            ("test", "5f1bea067869d04849c0f975a2b29c4ff47d867f484f5010ea5e861eab246d91"),
        )
    },
)


def load_wikitext(source: Source, options: plain_text.StreamOptions) -> TaskData:
    """WikiText-2, raw: the publishers' three parts, line by line."""
    train, val, test = (
        "".join(read_table(_file(source, part)).texts("text", allow_empty=True))
        for part in ("train", "validation", "test")
    )
    notes = (f"{len(train):,}, {len(val):,} and {len(test):,} characters, split by article by the publishers.",)
    return plain_text.build((train, val, test), source.hashes, options, options.vocabulary, notes)


WIKITEXT: dict[str, Any] = {
    "load": load_wikitext,
    "options": plain_text.StreamOptions,
    "fetch": lambda options: WIKITEXT_FILES,
    "encode": plain_text.encode_text,
    "description": "next character of Wikipedia articles (WikiText-2, raw)",
    "forms": {
        "unit": {"word": {**plain_text.WORDS, "description": "next word of Wikipedia articles (WikiText-2, raw)"}}
    },
    "citation": "S. Merity et al., Pointer sentinel mixture models, ICLR 2017; hub set Salesforce/wikitext",
    "licence": "CC BY-SA 3.0 and GFDL (Wikipedia)",
    "split": "the publishers' three parts",
}


TEST_SETS = ("CB513", "TS115", "CASP12", "CASP13", "CASP14")
NETSURF_FILES = HubSet(
    tuple(
        HubFile("proteinea/secondary_structure_prediction", f"{name}.csv", "5d2e1b432e824bfa2888f52d3d12ed18a292c8ab")
        for name in ("training_hhblits", *TEST_SETS)
    )
)
MASKS = ("disorder", "cb513_mask")  # columns of numbers: a residue is scored where each that there is says 1


@dataclass(frozen=True)
class NetsurfOptions:
    """Options of protein on the hub's set.

    Attributes:
        sequence_length: residues that are read at a time; longer chains are cut into pieces.
        test_set: which of the published test sets is scored.
    """

    sequence_length: int = 1000
    test_set: str = "CB513"

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 5000:
            raise UserError(f"--sequence-length must be from 1 to 5000 residues, not {self.sequence_length}.")
        if self.test_set not in TEST_SETS:
            raise UserError(f"option test_set must be one of {', '.join(TEST_SETS)}, not {self.test_set!r}.")


def load_netsurf(source: Source, options: NetsurfOptions) -> TaskData:
    """The chains of NetSurfP-2.0 and one of its test sets; residues that are disordered or masked are not scored."""
    tables = [read_table(_file(source, name)) for name in ("training_hhblits", options.test_set)]
    letters, labels = [], []
    for table in tables:
        names = {name.strip(): name for name in table.names}
        letters += ["".join(cell.split()).upper() for cell in table.texts(names["input"])]
        labels += _masked(table, names)
    for i, (sequence, numbers) in enumerate(zip(letters, labels, strict=True)):
        if len(sequence) != len(numbers) or (numbers < CONTEXT).any() or not residues.tokens_of(sequence).all():
            raise UserError(f"chain {i + 1} of the set has letters that are none, or not as many labels as residues.")
    groups = near_groups(letters, piece=residues.PIECE, by_words=False)
    indices, note = hold_out(groups, len(tables[0]), VAL)
    chains = residues.Chains([residues.tokens_of(text) for text in letters], labels, groups)
    splits = {part: chains.split(rows, options.sequence_length) for part, rows in indices.items()}
    return residues.tagged_data(splits, chains, source.hashes, options.sequence_length, (note,))


def _masked(table: Table, names: Mapping[str, str]) -> list[Any]:
    """The labels of every chain, `CONTEXT` where one of the masks is 0."""
    rows = [residues.class_numbers("".join(cell.split())).copy() for cell in table.texts(names["dssp3"])]
    for mask in MASKS:
        for i, cell in enumerate(table.texts(names[mask], allow_empty=True) if mask in names else ()):
            known = np.array([float(word) > 0 for word in cell.split()], dtype=bool)
            if len(known) != len(rows[i]):
                raise UserError(f"{table.file}, {table.where(i)}: {mask} has not one number for each label.")
            rows[i][~known] = CONTEXT
    return rows


NETSURF: dict[str, Any] = {
    "load": load_netsurf,
    "options": NetsurfOptions,
    "fetch": lambda options: NETSURF_FILES,
    "description": "helix, strand or coil of every residue (NetSurfP-2.0; CB513, TS115 or CASP test sets)",
    "citation": "M.S. Klausen et al., NetSurfP-2.0, Proteins 87:520-527 (2019); hub set "
    "proteinea/secondary_structure_prediction",
    "licence": "not stated by the publishers; for research",
    "split": "the publishers' test set; 15% of their training chains validate; near-duplicates are left out",
}


JENA_FILES = _set(
    "thuml/Time-Series-Library",
    "2b66e59ee19dac8f6f19fb5d4997f289fdfea357",
    {"weather/weather.csv": "34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63"},
)


@dataclass(frozen=True)
class JenaOptions(series.WindowOptions):
    """Options of weather on the hub's set."""

    target: str = "T (degC)"
    time: str = "date"


def load_jena(source: Source, options: JenaOptions) -> TaskData:
    """Full hours of a year in Jena; the one time that occurs twice is kept once, and -9999 is a missing value."""
    table = read_table(next(iter(source.files.values())))
    times = table.times(options.time)
    kept = np.flatnonzero(
        (times.astype("datetime64[m]").astype(np.int64) % 60 == 0) & (np.diff(times, prepend=times[:1] - 1) > 0)
    )
    columns = series.columns_of(table, options.time, options.target)
    values = np.stack([table.numbers(name, missing=True)[kept] for name in columns], axis=1)
    values[values == -9999.0] = np.nan
    named = series.Series(times[kept], values, columns, lambda i: f"row {int(kept[i]) + 1}")
    return series.build(named, options, source)


JENA: dict[str, Any] = {
    **series.VARIANT,
    "load": load_jena,
    "options": JenaOptions,
    "fetch": lambda options: JENA_FILES,
    "encode": None,  # a file of the user's would need the same mending
    "metrics": (Metric("rmse", "lower", "C"), Metric("mae", "lower", "C")),
    "description": "temperature of the next 24 hours from the past 72, Jena 2020",
    "citation": "Max Planck Institute for Biogeochemistry, station Beutenberg, 2020; hub set thuml/Time-Series-Library",
    "licence": "CC BY 4.0 (hub set)",
}


MULTI30K_FILES = HubSet(
    tuple(
        HubFile("bentrevett/multi30k", f"{part}.jsonl", "37e118600232bb5298ca011a8a7e7a44e863c36a")
        for part in ("train", "val", "test")
    )
)


def load_multi30k(source: Source, options: pairs.PieceOptions) -> TaskData:
    """Captions of pictures, German and English: the publishers' three parts, as they are."""
    tables = {part: read_table(_file(source, part)) for part in ("train", "val", "test")}
    german, english = ([text for table in tables.values() for text in table.texts(name)] for name in ("de", "en"))
    parts = [part for part, table in tables.items() for _ in range(len(table))]
    groups = pairs.near_pairs(german, english)
    indices, notes = published_split(parts, "the publishers' files", groups, VAL)
    made = pairs.Sentences(german, english, groups, indices, ("de", "en"), notes)
    return pairs.build(made, source, options.sequence_length, options.pieces)


MULTI30K: dict[str, Any] = {
    "load": load_multi30k,
    "options": pairs.PieceOptions,
    "fetch": lambda options: MULTI30K_FILES,
    "description": "German to English: captions of pictures (Multi30k)",
    "citation": "D. Elliott et al., Multi30K: multilingual English-German image descriptions, 2016; "
    "hub set bentrevett/multi30k",
    "licence": "CC BY-NC-SA 4.0 (Multi30k's texts)",
    "split": "the publishers' three parts; training pairs too alike to one of another part are left out",
}

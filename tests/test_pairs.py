"""Sentences and their translations: shapes, scores, near-duplicates, pieces, the shipped task, and one's own file."""

import csv
import itertools
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

from seqbench.cli import main
from seqbench.data import END, Pairs, text_rows, texts_of
from seqbench.errors import UserError
from seqbench.files.pairs import Sentences, build, near_pairs, score_translations, split_pairs
from seqbench.metrics import bleu, chrf, translation_counts, translation_signatures
from seqbench.prepare import fit_baselines, prepare
from seqbench.stats import jackknife_interval
from seqbench.task import Source

WORDS = [
    "Der",
    "Hund",
    "liest",
    "ein",
    "Buch",
    ",",
    "weil",
    "es",
    "3",
    "Katzen",
    "gibt",
    ".",
    "\u00e4\u00df",
    "(10%)",
    "x-y",
]


def drawn(seed, n=60, longest=14):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(n)]


def nearly(texts, seed=1):
    """The same with some words changed, left out, or all of them."""
    rng = np.random.default_rng(seed)
    kept = [" ".join(word for word in text.split() if rng.random() < 0.8) for text in texts]
    return [text if i % 11 else "" for i, text in enumerate(kept)]


def test_texts_and_rows_are_one():
    texts = ["", "a", "\u00e4 \u4e2d!", "b" * 50]
    rows = text_rows(texts)
    assert rows.shape == (4, 50) and rows.dtype == np.uint8 and texts_of(rows) == texts
    assert texts_of(rows.astype(float)) == texts


def test_bleu_and_chrf_are_those_of_sacrebleu():
    targets, ours = drawn(0), nearly(drawn(0))
    counts = translation_counts(text_rows(ours), text_rows(targets))
    for rows in (slice(None), slice(0, 7), slice(3, 4), [5, 2, 5]):
        some = [np.array(texts)[rows].tolist() for texts in (ours, targets)]
        total = counts[rows].sum(axis=0)
        assert bleu(total) == pytest.approx(sacrebleu.corpus_bleu(some[0], [some[1]]).score, abs=1e-9)
        assert chrf(total) == pytest.approx(sacrebleu.corpus_chrf(some[0], [some[1]]).score, abs=1e-9)
    metrics = BLEU(), CHRF()
    for metric in metrics:
        metric.corpus_score(ours, [targets])
    assert translation_signatures() == tuple(str(metric.get_signature()) for metric in metrics)


def test_bleu_by_hand_and_where_there_is_nothing_to_tell():
    """Of "a b c d e" for "a b c d f": 4/5, 3/4, 2/3 and 1/2 of the n-grams are right, and no word is missing."""
    counts = translation_counts(text_rows(["a b c d e"]), text_rows(["a b c d f"])).sum(axis=0)
    assert bleu(counts) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert counts[:10].tolist() == [5, 5, 4, 3, 2, 1, 5, 4, 3, 2]
    none = translation_counts(text_rows([]), text_rows([])).sum(axis=0)
    assert math.isnan(bleu(none)) and math.isnan(chrf(none))
    silent = translation_counts(text_rows([""]), text_rows(["a b"])).sum(axis=0)
    assert bleu(silent) == chrf(silent) == 0.0


def test_intervals_leave_sentences_out_as_sacrebleu_would():
    targets, ours, groups = drawn(2, 40), nearly(drawn(2, 40)), np.arange(40) // 4
    counts = translation_counts(text_rows(ours), text_rows(targets))
    fast = jackknife_interval(lambda kept: bleu(counts[kept].sum(axis=0)), groups)
    slow = jackknife_interval(
        lambda kept: sacrebleu.corpus_bleu([ours[i] for i in kept], [[targets[i] for i in kept]]).score, groups
    )
    assert fast == pytest.approx(slow)


# --- which sentences stay together ------------------------------------------------------------------------------------


def runs_of(text):
    """Written anew, so that the rule is not checked by the function that follows it."""
    words = ["^", *("0" if word.isdigit() else word for word in re.findall(r"\w+|[^\w\s]", text.lower())), "$"]
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def alike(a, b):
    return len(a & b) >= 0.5 * len(a | b)


def test_near_duplicates_are_found_exactly():
    texts = [*drawn(3, 80, 8), *nearly(drawn(3, 80, 8))]
    others = drawn(4, len(texts), 9)
    groups = near_pairs(texts, others)
    linked = {i: {i} for i in range(len(texts))}
    for side in (texts, others):
        sets = [runs_of(text) for text in side]
        for i, j in itertools.combinations(range(len(side)), 2):
            if alike(sets[i], sets[j]) and linked[i] is not linked[j]:
                linked[i] |= linked[j]
                for member in linked[j]:
                    linked[member] = linked[i]
    expected = [min(linked[i]) for i in range(len(texts))]
    assert 5 < len(set(expected)) < len(texts) - 5
    assert all(
        (expected[i] == expected[j]) == (groups[i] == groups[j]) for i, j in itertools.combinations(range(160), 2)
    )


def test_numbers_tell_no_sentences_apart():
    groups = near_pairs(["Seite 1 von 20.", "Seite 17 von 3.", "Ganz anders ist das."], ["a b c", "d e f", "g h i"])
    assert groups[0] == groups[1] != groups[2]


def test_large_groups_train_and_others_are_drawn_whole():
    groups = np.concatenate([np.zeros(30, dtype=int), np.repeat(np.arange(1, 200), 2)])
    indices = split_pairs(groups, (20, 40))
    parts = {part: set(groups[rows].tolist()) for part, rows in indices.items()}
    assert (
        0 in parts["train"] and not parts["train"] & (parts["val"] | parts["test"]) and not parts["val"] & parts["test"]
    )
    assert 20 <= len(indices["val"]) <= 21 and 40 <= len(indices["test"]) <= 41
    assert sum(map(len, indices.values())) == len(groups)
    with pytest.raises(UserError, match="too few for a validation of 2"):
        split_pairs(np.zeros(40, dtype=int), (2, 2))


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A data set in which the test holds a letter that training lacks."""
    sources, targets = drawn(5, 200), [text.upper() for text in drawn(5, 200)]
    sources[195] = "Der \u017bubr liest ."
    indices = {"train": np.arange(150), "val": np.arange(150, 170), "test": np.arange(170, 200)}
    made = Sentences(sources, targets, np.arange(200), indices, ("de", "en"))
    return sources, targets, build(made, Source(hashes={"a": "0" * 64}), 100, 200)


def test_pieces_put_together_are_the_sentences(small):
    sources, targets, data = small
    assert data.train.sources() == sources[:150]
    assert data.test.sources()[25] == "Der \N{REPLACEMENT CHARACTER}ubr liest ."
    batch = data.test[np.arange(30)]
    assert texts_of(data.test.collect(np.where(batch.targets == END, 0, batch.targets))) == targets[170:]
    assert texts_of(data.test.truth().targets) == targets[170:]
    assert texts_of(data.test.truth().meta["source"]) == sources[170:]
    assert (batch.targets[np.arange(30), data.test.target_lengths - 1] == END).all()


def test_pieces_are_learnt_from_training_alone(small):
    sources, targets, data = small
    letters = set("".join(sources[:150] + targets[:150]).replace(" ", "\u2581"))
    assert {letter for piece in data.vocabulary[4:] for letter in piece} == letters
    assert all(not any(digit in piece for digit in "0123456789") or len(piece) == 1 for piece in data.vocabulary[4:])


def test_what_is_scored_is_the_whole_translation_however_short_the_pieces_are_cut():
    sources, targets = drawn(6, 60), drawn(7, 60)
    indices = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    made = Sentences(sources, targets, np.arange(60), indices, ("de", "en"))
    data = build(made, Source(hashes={"a": "0" * 64}), 5, 150)
    assert data.train.sequence_length == 5 and data.train.target_lengths.max() == 5
    assert texts_of(data.test.truth().targets) == targets[50:]
    assert any("are cut to their first 5 pieces" in note for note in data.notes)


def test_permuted_targets_are_other_sentences_translations(small):
    train = small[2].train
    other = train.shuffled(np.random.default_rng(0))
    assert other.sources() == train.sources()
    assert sorted(texts_of(other.targets)) == sorted(texts_of(train.targets)) and texts_of(other.targets) != texts_of(
        train.targets
    )
    for i in (0, 7):
        tokens = other[[i]].targets[0]
        assert texts_of(other.collect(tokens[None, : other.target_lengths[i] - 1])) == texts_of(other.targets[[i]])


def test_a_gap_in_what_was_written_is_no_letter(small):
    data = small[2]
    row = data.test[[0]].targets[0][:4]
    assert data.test.collect(np.array([[0, *row[:3], 0, 0]])).tolist() == data.test.collect(row[None, :3]).tolist()
    assert isinstance(data.test, Pairs) and len(data.test.collect(np.zeros((0, 3), dtype=int))) == 0


# --- the shipped task -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared():
    return prepare("translation", {})


def test_translation_has_no_near_duplicates_across_its_splits(prepared):
    """By an index of every run of three words; and the same search finds those that a split at random would have."""
    from seqbench.tasks.translation import read_sentences

    for side, texts in enumerate(read_sentences()):
        where = {text: i for i, text in enumerate(texts)}
        parts = {}
        for part, split in prepared.data.splits.items():
            own = split.sources() if side == 0 else texts_of(split.targets)
            parts[part] = [runs_of(text) for text in own]
            assert side == 0 or all(text in where for text in own)
        held = parts["val"] + parts["test"]
        assert neighbours(held[::8], parts["train"]) == 0 and neighbours(parts["val"], parts["test"]) == 0
        everything = [*parts["train"], *held]
        order = np.random.default_rng(0).permutation(len(everything))
        assert neighbours([everything[i] for i in order[:400]], [everything[i] for i in order[400:]]) > 20


def neighbours(some, others):
    """How many of ``some`` sets have one of ``others`` that is alike."""
    index = {}
    for i, runs in enumerate(others):
        for run in runs:
            index.setdefault(run, []).append(i)
    found = 0
    for runs in some:
        both = Counter(i for run in runs for i in index.get(run, ()))
        found += any(2 * n >= len(runs) + len(others[i]) - n for i, n in both.items())
    return found


def test_translation_is_split_as_its_version_says(prepared):
    sizes = {part: len(split) for part, split in prepared.data.splits.items()}
    assert sizes == {"train": 21_504, "val": 1_000, "test": 2_001}
    assert len(prepared.data.vocabulary) == 4_000
    assert prepared.data.train.sequence_length < 100  # so that none is cut


def test_translation_baselines_are_what_they_say(prepared):
    """A copy is scored as sacrebleu scores the sources; looking up and word for word are worth more."""
    scores = {name: parts["test"] for name, parts in fit_baselines(prepared).items()}
    test = prepared.data.test
    copied = sacrebleu.corpus_bleu(texts_of(test.truth().meta["source"]), [texts_of(test.targets)]).score
    assert scores["copy-source"]["bleu"] == pytest.approx(copied, abs=0.05)  # but for a letter that is not known
    assert 10 * copied > scores["translation-memory"]["bleu"] > 3 * copied
    assert scores["ibm1"]["chrf"] > scores["translation-memory"]["chrf"] + 10
    assert scores["ibm1-bigram"]["bleu"] > scores["ibm1"]["bleu"]


def test_long_sentences_are_scored_by_themselves(prepared):
    test = prepared.data.test
    truth = test.truth()
    half = np.where((test.row_lengths > 25)[:, None], 0, truth.targets)
    scores = score_translations(half, truth)
    assert scores["bleu_long"] == 0.0 < scores["bleu"]
    short = truth[test.row_lengths <= 25]
    assert math.isnan(score_translations(short.targets, short)["bleu_long"])


# --- a file of one's own ----------------------------------------------------------------------------------------------

VERBS = {"liest": "reads", "sieht": "sees", "sucht": "seeks", "malt": "paints", "kennt": "knows", "ruft": "calls"}
NAMES = [
    "Anna",
    "Bert",
    "Carla",
    "Dieter",
    "Emma",
    "Franz",
    "Gerda",
    "Hans",
    "Inge",
    "Jan",
    "Karl",
    "Lena",
    "Max",
    "Nora",
]
THINGS = {"Buch": "book", "Haus": "house", "Auto": "car", "Pferd": "horse", "Bild": "picture", "Schiff": "ship"}


def corpus(n=200):
    """Rows of two columns, German and English."""
    rng = np.random.default_rng(8)
    rows = []
    for _ in range(n):
        names = rng.choice(NAMES, 3, replace=False)
        verb, thing = str(rng.choice(list(VERBS))), str(rng.choice(list(THINGS)))
        rows.append(
            (f"{names[0]} {verb} das {thing} von {names[1]} und {names[2]}.",
             f"{names[0]} {VERBS[verb]} the {THINGS[thing]} of {names[1]} and {names[2]}.")
        )  # fmt: skip
    return rows


def tsv(rows=None, header="de\ten"):
    return "\n".join([header, *("\t".join(row) for row in rows or corpus())]) + "\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = ("--model", "gru", "--budget", "smoke", "--hidden", "8", "--option", "pieces=300")


def test_a_file_of_pairs_is_learnt_and_new_sentences_are_translated(own, capsys):
    (own / "pairs.tsv").write_text(tsv())
    assert main(["--data", "pairs.tsv", "--kind", "translate", *SMALL, "--plot"]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "sentences and their translations, so --kind translate" in said.err and "plot" in said.out
    (record,) = (own / "results").rglob("record.json")
    about = json.loads(record.read_text())
    assert about["task"]["name"] == "translate-text" and set(about["baselines"]) >= {"copy-source", "ibm1"}
    (own / "new.txt").write_text("Anna liest das Buch.\n\nMax sieht \u017b.\n")
    (own / "new.jsonl").write_text('{"de": "Anna liest das Buch.", "id": 3}\n')
    for file, rows in (("new.txt", ["1", "3"]), ("new.jsonl", ["1"]), ("pairs.tsv", None)):
        for more in ([], ["--beam", "3"]):
            assert main(["predict", str(record), file, "--out", "out.csv", *more]) == 0
            with open("out.csv", newline="") as table:
                found = list(csv.DictReader(table))
            assert list(found[0]) == ["row", "translation"]
            assert rows is None or [row["row"] for row in found] == rows


def test_predictions_of_the_test_are_texts_beside_the_true_ones(own):
    import seqbench

    (own / "pairs.tsv").write_text(tsv())
    run = seqbench.run(
        data="pairs.tsv", kind="translate", model="rnn", budget="smoke", hidden=8, pieces=300, progress=False
    )
    table = run.predictions
    assert list(table.columns) == ["translation", "true", "source", "group", "row"]
    rows = corpus()
    assert [(table.source[i], table.true[i]) for i in range(len(table))] == [rows[row] for row in table.row]
    assert list(seqbench.predict(run, "pairs.tsv", beam=2).columns) == ["row", "translation"]


def test_columns_a_published_split_and_a_test_file(own):
    rows = [f"{a}\t{b}\tx\t{'test' if i % 7 == 0 else 'train'}" for i, (a, b) in enumerate(corpus())]
    (own / "pairs.tsv").write_text("\n".join(["de\ten\tnote\tpart", *rows]) + "\n")
    given = {"features": "de", "target": "en", "split": "part", "pieces": 300}
    data = prepare("translate-text", given, "path", data=own / "pairs.tsv").data
    assert any("the split is that of column 'part'" in note for note in data.notes) and len(data.test) == 29
    (own / "test.tsv").write_text(tsv(corpus(20)))
    (own / "train.tsv").write_text(tsv())
    data = prepare("translate-text", {"pieces": 300}, "path", data=own / "train.tsv", test=own / "test.tsv").data
    assert len(data.test) == 20 and any("are left out because they share a group" in note for note in data.notes)


MISTAKES = [
    ("a.tsv", tsv(header="de\ten").replace("de\ten", "de\ten\tfr"), "line 2"),
    ("a.tsv", "de\ten\tfr\n" + "a\tb\tc\n" * 30, "--features COLUMN and --target COLUMN"),
    ("a.tsv", tsv(corpus(5)), "5 rows have both a sentence in 'de' and one in 'en': at least 20"),
    ("a.tsv", tsv([*corpus(), ("x" * 10_001, "y")]), "line 202"),
    ("a.tsv", tsv([("Das ist immer gleich.", "This is always the same.")] * 60), "not nearly alike"),
    ("a.tsv", tsv().encode() + b"caf\xe9\tb\n", "line 202"),
    ("a.txt", tsv(), "is no table by its name"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_file_that_can_not_be_used_is_answered_in_one_sentence(own, capsys, name, content, words):
    (own / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["--data", name, "--kind", "translate", *SMALL]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("seqbench:") and words in said[-1] and len([x for x in said if "seqbench:" in x]) == 1

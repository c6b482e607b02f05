"""A user's texts and sequences as data: what is left out and counted, whose split it is, and what is said of it."""

import re

import numpy as np
import pytest
from own_files import reviews, sequences

from seqbench.errors import UserError
from seqbench.files import nucleotides, plain_text, texts
from seqbench.task import Source


@pytest.fixture
def load(tmp_path):
    """``load(content, test=..., **options)`` of a CSV; of FASTA where it begins with >."""

    def call(content, test=None, **options):
        fasta = content.startswith(">")
        files = {}
        for name, text in (("file", content), ("test", test)):
            if text is not None:
                files[name] = tmp_path / f"{name}{'.fasta' if fasta else '.csv'}"
                files[name].write_text(text, encoding="utf-8")
        module, kind = (nucleotides, "SequenceOptions") if fasta or "sequence" in options else (texts, "TextOptions")
        options.pop("sequence", None)
        return module.load(Source("path", files), getattr(module, kind)(**options))

    return call


def said(data, *parts):
    for part in parts:
        assert any(part in note for note in data.notes), (part, data.notes)


def lengths(data):
    return [len(split) for split in data.splits.values()]


def with_column(content, name, values):
    header, *rows = content.splitlines()
    return "\n".join([f"{header},{name}", *(f"{row},{value}" for row, value in zip(rows, values, strict=True))]) + "\n"


def test_rows_without_text_or_label_are_left_out_and_counted(load):
    data = load(reviews() + ",pos\nfine,\nfine, \n")
    assert sum(lengths(data)) == 120
    said(data, "3 of 123 rows are left out: 1 without a text, 2 without a label", "classes: train neg 5")
    said(
        load(reviews() + "?,pos\nfine, N/K\n", missing="?,n/k"), "2 of 122 rows are left out: 1 without a text, 1 with"
    )
    repeated = reviews() + reviews().splitlines()[1] + "\n" + reviews().splitlines()[1].replace("neg", "pos") + "\n"
    said(load(repeated), "2 texts repeat one before, letter by letter, 1 of them with another label")


def test_words_for_what_is_missing_are_no_labels_and_no_texts(load):
    more = "fine,NA\nfine,null\nfine,n/a\nfine,None\nNaN,pos\n"
    data = load(reviews() + more)
    assert data.classes == ("neg", "pos")
    said(data, "5 of 125 rows are left out: 1 without a text, 4 without a label")
    nones = load(reviews().replace(",neg", ",none"))
    assert nones.classes == ("none", "pos")  # too many to be missing
    said(nones, "the label 'none' is read as a class: --missing none leaves its rows out")
    table = "sequence,label\n" + "".join(f"{s},{k}\n" for k, s in re.findall(r"label=(\w+)\n([ACGT]+)", sequences()))
    data = load(table + "ACGTACGT,NaN\n", sequence=True)
    said(data, "1 sequences without a label are left out")
    assert data.classes == ("none", "tata")
    numbers = with_column(reviews(), "stars", [i % 5 or "none" for i in range(120)])
    assert load(numbers, label="stars").classes == ("1", "2", "3", "4")


def test_what_is_not_plain_of_a_table_is_told(load):
    content = with_column(reviews(), "id", range(120))
    said(load(content), "columns read: text, label; not read: id.")
    words = ["train"] * 80 + ["dev"] * 15 + ["test"] * 25
    split = with_column(content, "my fold", words)
    said(
        load(split),
        "not read: id, my fold",
        "WARNING: column 'my fold' looks like a published split: give --split 'my fold'",
    )
    assert not any("WARNING" in note for note in load(split, split="my fold").notes)
    said(load(reviews().replace("neg", "Pos")), "WARNING: classes 'Pos' and 'pos' differ in case only")
    with pytest.raises(UserError, match="--features names 2 columns, and texts are read from one"):
        load(content, text="text,id")
    records = re.findall(r"label=(\w+)\n([ACGT]+)", sequences())
    rows = [f" {s[:9]} \t{s[9:]} ,{k},{i},{words[i]}" for i, (k, s) in enumerate(records)]
    table = "sequence,label,id,part\n" + "\n".join(rows) + "\n"
    data = load(table, sequence=True)  # blocks of bases, with white space between
    said(data, "columns read: sequence, label; not read: id, part.", "WARNING: column 'part' looks like")
    assert sum(lengths(data)) == 120
    with pytest.raises(UserError, match="sequences are read from one"):
        load(table, features="sequence,id", sequence=True)


def test_words_that_nobody_knows_are_a_warning(load):
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("abcdefgh"), 12)) + f",{'ab'[i % 2]}" for i in range(100)]
    said(load("text,label\n" + "\n".join(rows) + "\n"), "WARNING: no word of the test is known from training")


def test_a_test_file_that_holds_all_training_rows_is_refused(load):
    with pytest.raises(UserError, match="every training row is in the test file, too"):
        load(reviews(), reviews())


def test_forms_of_unicode_are_one_label_and_one_word(load):
    data = load(reviews().replace("neg", "caf\u00e9") + reviews().split("\n", 1)[1].replace("neg", "cafe\u0301"))
    assert data.classes == ("caf\u00e9", "pos")


def test_letters_of_scripts_without_spaces_are_words_and_this_is_said(load):
    rng = np.random.default_rng(0)
    rows = ("".join(rng.choice(list("这部电影很好看坏演员音乐故事"), 30)) + f",{'ab'[i % 2]}" for i in range(60))
    data = load("text,label\n" + "\n".join(rows) + "\n")
    said(data, "60 texts are in scripts without spaces")
    assert "电" in data.vocabulary and max(map(len, data.vocabulary[2:])) == 1


def test_hindi_sentences_are_no_near_duplicates(load):
    words = ["यह", "फिल्म", "किताब", "गाना", "बहुत", "अच्छी", "बुरी", "सुंदर", "थी", "है", "नहीं", "मुझे", "पसंद", "आया", "कहानी"]
    rng = np.random.default_rng(0)
    rows = (" ".join(rng.choice(words, 9, replace=False)) + f",{'ab'[i % 2]}" for i in range(60))
    data = load("text,label\n" + "\n".join(rows) + "\n")
    assert set(words) <= set(data.vocabulary)


def test_a_published_column_of_splits_is_kept(load):
    words = ["train"] * 80 + ["dev"] * 15 + ["test"] * 25
    data = load(with_column(reviews(), "fold", words), split="fold")
    assert lengths(data) == [77, 15, 25]
    said(
        data,
        "the split is that of column 'fold'",
        "3 training and 0 validation rows are left out",
        "; val neg ",
    )
    with pytest.raises(UserError, match="'tset' \\(line 121\\)"):
        load(with_column(reviews(), "fold", [*words[:-1], "tset"])[:-1] + "\n", split="fold")
    with pytest.raises(UserError, match="split and time are two ways"):
        texts.TextOptions(split="fold", time="day")


@pytest.mark.parametrize("make", [reviews, sequences])
def test_a_test_file_is_the_test(load, make):
    content = make().splitlines()
    header, body = (content[:1], content[1:]) if make is reviews else ([], content)
    cut = 90 if make is reviews else 180
    train, test = ("\n".join([*header, *rows]) + "\n" for rows in (body[:cut], body[cut:]))
    data = load(train, test)
    assert lengths(data)[2] == 30 and sum(lengths(data)) == 120
    leaking = load(train + "\n".join(body[cut : cut + 2 if make is sequences else cut + 1]) + "\n", test)
    assert lengths(leaking)[2] == 30 and sum(lengths(leaking)) == 120
    said(leaking, "1 training and 0 validation rows are left out")
    with pytest.raises(UserError, match="--test and split are two ways"):
        load(train, test, split="label")


def test_numbers_are_not_made_classes_without_a_word(load):
    content = with_column(reviews(), "RUL", [i // 4 for i in range(120)])
    with pytest.raises(UserError, match="column 'RUL' holds numbers, 30 different ones: give --kind regress"):
        load(content, label="RUL")
    assert len(load(content, label="RUL", numbers_as_classes=True).classes) == 30
    assert len(load(with_column(reviews(), "stars", [i % 5 for i in range(120)]), label="stars").classes) == 5


def test_sequences_are_read_from_named_columns_and_grouped_by_one(load):
    records = re.findall(r"label=(\w+)\n([ACGT]+)", sequences())
    rows = [f"{letters},{kind},g{i // 4}" for i, (kind, letters) in enumerate(records)]
    content = "dna,class,gene\n" + "\n".join(rows) + "\n"
    data = load(content, features="dna", target="class", group="gene", sequence=True)
    assert data.classes == ("none", "tata") and sum(lengths(data)) == 120
    assert sum(len(np.unique(split.groups)) for split in data.splits.values()) == 30
    said(data, "120 sequences in 30 values of gene")
    tagged = re.sub(r"(>s(\d+) .*)", lambda m: f"{m[1]} part={'test' if int(m[2]) >= 90 else 'train'}", sequences())
    assert lengths(load(tagged, split="part"))[2] == 30


def test_sequences_without_a_label_are_counted_and_masked_ones_are_told_of(load):
    masked = "".join(f">n{i} label={'ab'[i % 2]}\n{'ACGTTGCAAC'[i % 9 :] * 2}{'N' * 60}\n" for i in range(6))
    data = load(sequences() + ">last\nACGT\n" + masked.replace("=a", "=tata").replace("=b", "=none"))
    said(data, "1 sequences without a label are left out", "6 sequences are N for more than half")


def test_a_text_to_test_on_is_the_test(tmp_path):
    book, other = "the cat sat on the mat. " * 200, "a dog ate the hat. " * 60
    for name, text in (("a.txt", book), ("b.txt", other), ("c.txt", other + book[:1000])):
        (tmp_path / name).write_text(text)
    options = plain_text.StreamOptions(sequence_length=32, val=0.1)
    source = Source("path", {"file": tmp_path / "a.txt", "test": tmp_path / "b.txt"})
    data = plain_text.load(source, options)
    assert data.test.n_scored == len(other) - 1 and data.val.n_scored == 479
    assert not any("passages" in note for note in data.notes)
    leaking = plain_text.load(Source("path", {**source.files, "test": tmp_path / "c.txt"}), options)
    said(leaking, "9 of 21 passages of 100 characters of the test stand in the training text")

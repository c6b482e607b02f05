"""What honest splits of a user's file are made of: near-duplicates, groups, tokens, windows."""

import itertools
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbench.data import Ragged
from seqbench.errors import UserError
from seqbench.files import near
from seqbench.files.near import near_groups, plain
from seqbench.files.runs import window_starts
from seqbench.files.splitting import (
    borders,
    hold_out,
    published_split,
    split_groups,
    split_groups_regress,
    split_time,
)
from seqbench.files.texts import PAD, UNKNOWN, encode, make_vocabulary, words


def jaccard(a, b):
    return len(a & b) / len(a | b)


def pieces(text):
    text = plain(text) or text
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def word_set(text):
    text = plain(text) or text
    return set(text.split() or [text])


def exact_groups(texts):
    """The connected parts of the exact relation, from every pair."""
    sets = [(word_set(text), pieces(text)) for text in texts]
    parent = list(range(len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        if any(jaccard(a, b) >= 0.8 for a, b in zip(sets[i], sets[j], strict=True)):
            old, new = parent[j], parent[i]
            parent = [new if p == old else p for p in parent]
    return parent


def same_groups(groups, others):
    return len(set(groups)) == len(set(others)) == len(set(zip(groups, others, strict=True)))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join), min_size=2, max_size=25))
@settings(max_examples=80, deadline=None)
def test_near_groups_are_the_connected_parts_of_the_exact_relation(texts):
    """Against every pair compared exactly: what is alike is together, what no chain of likeness joins is apart."""
    assert same_groups(near_groups(texts).tolist(), exact_groups(texts))


def form_letters(n, own, rng, size=60):
    """Of one form with so many words of their own."""
    letters = [[f"word{i}" for i in range(size)] for _ in range(n)]
    for i, letter in enumerate(letters):
        for k, at in enumerate(rng.choice(size, own, replace=False)):
            letter[at] = f"own{i}x{k}"
    return [" ".join(letter) for letter in letters]


@pytest.mark.parametrize("own", [2, 6, 7, 9])  # all alike, about half of the pairs, few of them, none
def test_texts_by_one_form_are_grouped_exactly_as_long_as_they_are_not_too_many(own):
    texts = form_letters(90, own, np.random.default_rng(own))
    notes = []
    assert same_groups(near_groups(texts, notes=notes).tolist(), exact_groups(texts)) and not notes


def test_comparisons_grow_with_the_number_of_texts_not_of_pairs_and_a_note_says_what_that_costs(monkeypatch):
    rng = np.random.default_rng(0)
    copies = form_letters(20, 9, rng)
    texts = [*form_letters(300, 9, rng), *copies, *(text.replace("word5 ", "changed ") + " more" for text in copies)]
    compared = []
    monkeypatch.setattr(near, "FREE", 10)
    monkeypatch.setattr(near, "EACH", 1)
    exact = near._Sets.alike
    monkeypatch.setattr(near._Sets, "alike", lambda *pair: compared.append(pair[1:]) or exact(*pair))
    notes = []
    groups = near_groups(texts, notes=notes)
    most = near.FREE + near.EACH * near.BANDS
    assert len(compared) <= 2 * len(texts) * most < len(texts) * (len(texts) - 1)  # in two ways of comparing
    assert len(notes) == 1 and "nearly alike with so many others" in notes[0]
    assert (groups[300:320] == groups[320:]).all()  # what is much more alike than the rest is found all the same


def test_links_mentions_case_and_punctuation_make_no_difference():
    a = "RT @someone: LOVE this!!! http://t.co/abc &amp; more"
    assert plain(a) == plain("rt @other love this, https://t.co/xyz more") == "rt love this more"
    assert len(set(near_groups([a, "rt love this more", "something else altogether"]))) == 2
    assert len(set(near_groups(["!!!", "???", "!!!", ""]))) == 3  # nothing is left: alike only if equal


HINDI = ["यह फिल्म बहुत अच्छी थी", "यह किताब बहुत बुरी थी", "मुझे खाना पसंद नहीं आया", "वह गाना सुंदर है"]


def test_words_keep_the_marks_of_their_letters_in_every_script():
    # with vowels; a joiner within a word
    arabic = "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f \u0645\u06cc\u200c\u062e\u0648"
    for text in (*HINDI, "שָׁלוֹם עוֹלָם", arabic, "தமிழ் மொழி", "한국어 단어"):
        assert words(text) == plain(text).split() == unicodedata.normalize("NFC", text).split()
    assert len(set(near_groups(HINDI))) == len(HINDI)
    assert words("cafe\u0301") == words("caf\u00e9") and plain("cafe\u0301!") == plain("CAF\u00c9")
    assert plain("so \u2764\ufe0f good\ufe0f") == "so good\ufe0f"  # a mark that follows no letter is punctuation


def test_scripts_without_spaces_are_read_letter_by_letter():
    assert words("ดีมาก") == ["ดี", "ม", "า", "ก"]
    assert words("iPhone手机很好, 5") == ["iphone", "手", "机", "很", "好", ",", "<number>"]
    assert words("東京タワー") == list("東京タワー")


def test_long_sequences_are_compared_by_pieces_long_enough_to_tell_them_apart():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 3000)) for _ in range(6)]
    changed = sequences[0][:1500] + "ACGTAC" + sequences[0][1506:]
    groups = near_groups([*sequences, changed], piece=12, by_words=False)
    assert groups[0] == groups[-1] and len(set(groups)) == 6


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=60, max_size=300),
    st.sampled_from([(0.15, 0.15), (0.3, 0.1), (0.05, 0.5)]),
)
@settings(max_examples=60, deadline=None)
def test_groups_stay_whole_and_every_class_is_dealt(pairs, shares):
    groups = np.array([g for g, _ in pairs])
    first = {}
    labels = np.array([first.setdefault(g, label) for g, label in pairs])  # one label a group, as runs have
    try:
        found = split_groups(groups, labels, ("a", "b", "c"), shares, lambda i: f"line {i}")
    except UserError as error:
        n_groups = [len(set(groups[labels == label])) for label in range(3)]
        assert (min(n_groups) < 3 and "at least 3" in str(error)) or "no draw" in str(error)
        return
    together = np.sort(np.concatenate(list(found.values())))
    assert together.tolist() == list(range(len(pairs)))
    parts = [set(groups[rows]) for rows in found.values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert all(set(labels[rows]) == {0, 1, 2} for rows in found.values())


def test_splits_do_not_depend_on_anything_but_the_data():
    groups, labels = np.arange(200), np.arange(200) % 2
    first, second = (split_groups(groups, labels, ("a", "b"), (0.15, 0.15), str) for _ in range(2))
    assert all(np.array_equal(first[part], second[part]) for part in first)
    assert [len(rows) for rows in first.values()] == [140, 30, 30]


def test_a_group_larger_than_a_split_trains_and_is_told_of():
    rng = np.random.default_rng(0)
    groups, labels = np.where(rng.random(1000) < 0.8, 0, rng.integers(1, 41, 1000)), rng.integers(0, 2, 1000)
    notes = []
    found = split_groups(groups, labels, ("a", "b"), (0.15, 0.15), str, "user", notes)
    assert 0 in groups[found["train"]] and len(notes) == 1 and "largest user holds 78.8%" in notes[0]
    for rows in found.values():
        assert len(rows) > 90 and 0.4 < labels[rows].mean() < 0.6


@pytest.mark.parametrize("n_canned", [5, 12])
def test_repeated_texts_leave_the_splits_as_large_and_as_mixed_as_the_whole(n_canned):
    """A few replies of one class that recur a hundred times, beside single texts of two."""
    groups = np.concatenate([np.repeat(np.arange(n_canned), 600 // n_canned), np.arange(1000, 1400)])
    labels = np.concatenate([np.zeros(len(groups) - 400, dtype=int), np.arange(400) % 2])
    found = split_groups(groups, labels, ("neg", "pos"), (0.15, 0.15), str)
    for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert len(found[part]) == pytest.approx(share * len(groups), abs=15)
        assert labels[found[part]].mean() == pytest.approx(labels.mean(), abs=0.05)
    parts = [set(groups[rows]) for rows in found.values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=9, max_size=80),
    st.sampled_from([(0.15, 0.15), (0.3, 0.1)]),
)
@settings(max_examples=80, deadline=None)
def test_groups_of_several_classes_and_of_numbers_stay_whole(pairs, shares):
    groups, labels = np.array(pairs).T
    labels = np.unique(labels, return_inverse=True)[1]
    deals = [lambda: split_groups_regress(groups, np.arange(len(pairs)) % 7 - 2.5, shares)]
    if labels.max():
        deals.append(lambda: split_groups(groups, labels, "abc"[: labels.max() + 1], shares, str))
    for deal in deals:
        try:
            found = deal()
        except UserError as error:
            assert "at least 3 are needed" in str(error) or "no draw" in str(error)
            continue
        assert np.sort(np.concatenate(list(found.values()))).tolist() == list(range(len(pairs)))
        assert all(len(rows) for rows in found.values())
        parts = [set(groups[rows]) for rows in found.values()]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        again = deal()
        assert all(np.array_equal(found[part], again[part]) for part in found)


def test_splits_where_a_number_is_predicted_have_like_values():
    rng = np.random.default_rng(0)
    groups, values = np.repeat(np.arange(60), 10), np.repeat(rng.normal(size=60), 10)
    found = split_groups_regress(groups, values, (0.2, 0.2))
    assert [len(rows) for rows in found.values()] == [360, 120, 120]
    assert all(abs(values[rows].mean() - values.mean()) < 0.1 for rows in found.values())
    with pytest.raises(UserError, match="are 2 runs only"):
        split_groups_regress(np.arange(9) % 2, np.arange(9.0), (0.2, 0.2), "run")


def test_a_published_split_comes_out_as_published():
    words = ["Train", "train ", "VALID", "test", "training", "dev", "testing", "train"]
    groups = np.array([0, 1, 2, 3, 3, 3, 4, 2])  # row 4 trains and row 5 validates what row 3 tests; 7 trains 2's
    found, notes = published_split(words, "column 'split'", groups, 0.2)
    assert {part: rows.tolist() for part, rows in found.items()} == {"train": [0, 1], "val": [2], "test": [3, 6]}
    assert any("2 training and 1 validation rows are left out" in note for note in notes)
    labels = np.arange(100) % 2
    found, notes = published_split(["train"] * 80 + ["test"] * 20, "the two files", np.arange(100), 0.25, labels)
    assert [len(rows) for rows in found.values()] == [60, 20, 20] and labels[found["val"]].mean() == 0.5
    assert found["test"].tolist() == list(range(80, 100)) and "25% of the training rows are held out" in notes[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "tets", "test"], "no split: 'tets' (row 2)"),
        (["train", "", "test"], "no split: '' (row 2)"),
        (["train", "val"], "no row 'test'"),
        (["test", "val"], "no row 'train'"),
    ],
)
def test_words_that_name_no_split_are_named(words, said):
    with pytest.raises(UserError, match=re.escape(said)):
        published_split(words, "column 'split'", np.arange(len(words)), 0.2)


def test_a_test_that_holds_all_of_training_is_refused():
    with pytest.raises(UserError, match="every training row is in the test, too"):
        published_split(["train", "train", "test"], "column 'split'", np.zeros(3), 0.2)
    with pytest.raises(UserError, match="none can be held out"):
        published_split(["train", "train", "test"], "column 'split'", np.array([0, 0, 1]), 0.2)


def test_a_fixed_test_set_loses_nothing_and_training_loses_what_is_like_it():
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 2])
    found, note = hold_out(groups, 8, 0.2)
    assert found["test"].tolist() == [8, 9] and "2 training examples" in note
    assert sorted([*found["train"], *found["val"]]) == [0, 1, 3, 4, 5, 6]


def test_time_order():
    found = split_time(np.array([5, 1, 3, 2, 4, 4, 9, 8, 7, 6]), (0.2, 0.2))
    assert found["train"].tolist() == [1, 3, 2, 4, 5, 0] and found["test"].tolist() == [7, 6]
    with pytest.raises(UserError, match="too few different times"):
        split_time(np.zeros(10), (0.2, 0.2))
    assert borders(100, (0.15, 0.15)) == (0, 70, 85, 100)


def test_words_signs_and_kinds():
    text = "@Bob LOVED it!!!!! :) https://t.co/x costs $1,000 don't self-driving caf\u00e9"
    expected = [
        "<mention>",
        "loved",
        "it",
        "!!!",
        ":",
        ")",
        "<link>",
        "costs",
        "$",
        "<number>",
        "don't",
        "self-driving",
    ]
    assert words(text) == [*expected, "caf\u00e9"]


def test_vocabulary_and_encoding():
    vocabulary = make_vocabulary(["b a a", "c b", "d"], words, 2, 10)
    assert vocabulary == (PAD, UNKNOWN, "a", "b")
    tokens, starts, lengths, cut = encode(["a b z", "b", "", "a a a a"], words, vocabulary, 3)
    assert tokens.tolist() == [2, 3, 1, 3, 1, 2, 2, 2] and starts.tolist() == [0, 3, 4, 5]
    assert lengths.tolist() == [3, 1, 1, 3] and cut == 1
    rows = Ragged(tokens, starts, lengths, np.zeros(4), np.arange(4))[[1, 0]]
    assert rows.inputs.tolist() == [[3, 0, 0], [2, 3, 1]] and rows.lengths.tolist() == [1, 3]


def test_windows_never_reach_from_one_run_into_the_next():
    runs = np.repeat([0, 1, 2, 3], [5, 2, 3, 4])
    starts = window_starts(runs, 3)
    assert starts.tolist() == [0, 1, 2, 7, 10, 11]
    assert all(runs[start] == runs[start + 2] for start in starts)

"""Splits: what a batch holds, that every character is scored once, and that numpy and torch gather alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbench import Rows, Stream, Windows
from seqbench.data import BLOCK
from seqbench.errors import UserError
from seqbench.files.splitting import published_split, split_groups_regress
from seqbench.training import DeviceSplit, evaluation_order, training_order


@given(length=st.integers(5, 6000), window=st.integers(2, 200))
@settings(max_examples=60, deadline=None)
def test_every_character_is_scored_exactly_once_after_half_a_window(length, window):
    if length < window + 2:
        return
    stream = Stream.evaluation(np.arange(length), window)
    scored = np.zeros(length, dtype=int)
    for i in range(len(stream)):
        batch = stream[[i]]
        assert batch.targets[0, 0] == batch.inputs[0, 0] + 1
        counted = batch.targets[0, batch.skip[0] :]
        scored[counted] += 1
        if stream.starts[i] > 0:
            assert batch.skip[0] >= window - window // 2 - (window // 2 == 0)
    assert scored[0] == 0 and (scored[1:] == 1).all()


def test_losses_are_summed_into_blocks_of_2048_characters():
    n = 3 * BLOCK + 100
    stream = Stream.evaluation(np.zeros(n, dtype=np.uint8), 50)
    losses = np.ones((len(stream), 50))
    losses[np.arange(50) < stream.skip[:, None]] = 0.0
    assert stream.truth().targets.tolist() == [BLOCK, BLOCK, BLOCK, 99]
    assert stream.collect(losses).tolist() == stream.truth().targets.tolist()
    assert stream.n_scored == n - 1


def test_windows_predict_what_follows_them():
    series = np.arange(20.0)[:, None]
    windows = Windows(series, series * 10, np.array([0, 4]), lookback=3, horizon=2, groups=np.zeros(2))
    batch = windows[[1]]
    assert batch.inputs[0, :, 0].tolist() == [4, 5, 6]
    assert batch.targets[0, :, 0].tolist() == [70, 80]
    assert windows.truth().targets[:, :, 0].tolist() == [[30, 40], [70, 80]]


def splits():
    rng = np.random.default_rng(0)
    rows = Rows(
        rng.integers(0, 5, (30, 9), dtype=np.uint8), rng.integers(0, 3, 30), np.arange(30), np.arange(30) % 9 + 1
    )
    series = rng.normal(size=(60, 2)).astype(np.float32)
    windows = Windows(series, series[:, :1], np.arange(40), 8, 4, np.arange(40) // 7)
    return {"rows": rows, "windows": windows, "stream": Stream.evaluation(rng.integers(0, 9, 100), 10)}


@pytest.mark.parametrize("name", ["rows", "windows", "stream"])
def test_torch_gathers_what_numpy_gathers(name):
    split = splits()[name]
    indices = np.array([5, 0, 7])
    ours, theirs = split[indices], DeviceSplit(split, torch.device("cpu"))[indices]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            mine = mine[:, : other.shape[1]] if mine.ndim > 1 else mine  # cut to the longest of the batch
            assert np.array_equal(mine, other.numpy())


@pytest.mark.parametrize("name", ["rows", "windows", "stream"])
def test_shuffling_permutes_targets_and_nothing_else(name):
    split = splits()[name]
    shuffled = split.shuffled(np.random.default_rng(1))
    everything = np.arange(len(split))
    before, after = split[everything], shuffled[everything]
    assert np.array_equal(before.inputs, after.inputs)
    assert not np.array_equal(before.targets, after.targets)
    if name == "rows":
        assert sorted(before.targets) == sorted(after.targets)


def test_an_epoch_of_batches_holds_every_example_once():
    split = splits()["rows"]
    order = training_order(split, 8, np.random.default_rng(0))
    seen = np.concatenate([next(order) for _ in range(15)])  # 120 = 4 epochs of 30, whatever is left over included
    assert np.bincount(seen, minlength=30).tolist() == [4] * 30


def test_batches_hold_like_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 101, 4000)
    split = Rows(np.zeros((4000, 100), dtype=np.uint8), np.zeros(4000), np.arange(4000), lengths)
    order = training_order(split, 32, rng)
    batches = [lengths[next(order)] for _ in range(100)]
    assert np.mean([batch.max() - batch.min() for batch in batches]) < 5
    assert np.std([batch.mean() for batch in batches]) > 20  # and the batches themselves come in random order


def test_evaluation_drops_nothing():
    split = splits()["rows"]
    assert sorted(np.concatenate(list(evaluation_order(split, 7)))) == list(range(30))


def test_a_batch_larger_than_the_split_is_the_split():
    assert len(next(training_order(splits()["rows"], 1000, np.random.default_rng(0)))) == 30


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([60, 10, 10, 10, 10], "the largest value of site holds 60.0% of the rows, more than a split should: it is"),
        ([40, 40, 5, 5, 5, 5], "the largest values of site hold more of the rows than a split should: 40.0% whole in"),
    ],
)
def test_groups_larger_than_a_split_are_told_with_their_place(sizes, said):
    notes = []
    groups = np.repeat(np.arange(len(sizes)), sizes)
    found = split_groups_regress(groups, np.arange(100.0), (0.2, 0.2), "value of site", notes)
    assert notes[0].startswith(said)
    places = {"train": "training", "val": "validation", "test": "the test"}
    large = [group for group, size in enumerate(sizes) if size > 20]
    told = [next(place for part, place in places.items() if np.isin(group, groups[found[part]])) for group in large]
    assert all(f"whole in {place}" in notes[0] for place in told) and notes[0].count("whole in") == len(large)


def test_a_file_of_which_no_row_is_left_is_named_as_that():
    with pytest.raises(UserError, match="no row of the file of --test is left"):
        published_split(["train"] * 5, "the two files", np.arange(5), 0.2)
    with pytest.raises(UserError, match="no row of the first file is left"):
        published_split(["test"] * 5, "the two files", np.arange(5), 0.2)

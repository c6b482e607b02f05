"""Losses after so many characters, one by one, and far text that is changed."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from windowed import WINDOW, Windowed, net, text

from seqbench.errors import UserError
from seqbench.models.mixer import MODELS
from seqbench.probes import context
from seqbench.probes.context import (
    KINDS,
    carried_losses,
    losses_after,
    perturbed_passes,
    place_targets,
    shuffle_words,
    swap_passages,
    text_distances,
    truncated_losses,
    word_count,
)


def one_by_one(model, tokens, begin, t):
    tokens = torch.from_numpy(tokens)
    with torch.no_grad():
        return F.cross_entropy(model(tokens[None, begin:t])[0, -1].float(), tokens[t]).item()


# --- losses ---


@pytest.mark.parametrize("chunk", [1 << 17, 100])
@pytest.mark.parametrize(("length", "stride"), [(300, 8), (301, 8), (293, 1), (300, 128)])
def test_losses_equal_a_direct_computation_one_by_one(monkeypatch, chunk, length, stride):
    monkeypatch.setattr(context, "CHUNK", chunk)
    model, tokens = net(MODELS.get("gru").mixer), text(length)
    at, ks = np.arange(64, length, stride), text_distances(64, stride)
    table = truncated_losses(model, tokens, at, ks)
    assert table.shape == (len(at), len(ks))
    for i in {0, 1, len(at) // 2, len(at) - 1}:
        for k, value in zip(ks, table[i], strict=True):
            t = int(at[i])
            assert value == pytest.approx(one_by_one(model, tokens, t - k, t), abs=1e-6)


@pytest.mark.parametrize("stretch", [1 << 15, 150, 64])
def test_carried_losses_equal_one_pass_from_where_the_stretch_begins(monkeypatch, stretch):
    monkeypatch.setattr(context, "STRETCH", stretch)
    model, tokens, at = net(MODELS.get("lstm").mixer), text(500), np.arange(60, 500, 7)
    found = carried_losses(model, tokens, at)
    span = 500 - 60
    scored = -(-span // -(-span // max(1, stretch - 60)))
    for i, t in enumerate(at.tolist()):
        begin = (t - 60) // scored * scored
        assert t - begin >= 60  # no target with less than what the longest truncated one has
        assert found[i] == pytest.approx(one_by_one(model, tokens, begin, t), abs=1e-6)


def test_a_windowed_model_gains_nothing_from_beyond_its_window_and_everything_is_exact():
    model, tokens = net(Windowed), text(9000)
    at = place_targets(len(tokens), 300, 64)
    ks = text_distances(64, int(at[1] - at[0]))
    table, carried = truncated_losses(model, tokens, at, ks), carried_losses(model, tokens, at)
    enough = [i for i, k in enumerate(ks) if k >= WINDOW]
    assert np.ptp(table[:, enough], axis=1) == pytest.approx(0, abs=1e-6)
    assert carried == pytest.approx(table[:, -1], abs=1e-6)
    assert abs(table[:, ks.index(4)] - table[:, -1]).max() > 1e-3


def test_targets_have_all_their_predecessors_and_are_spread_over_whole_blocks():
    rng = np.random.default_rng(0)
    for _ in range(300):
        length = int(rng.integers(4200, 100_000))
        longest, wanted = int(rng.integers(1, length - 4096 + 1)), int(rng.integers(2, 1000))
        at = place_targets(length, wanted, longest)
        stride = int(at[1] - at[0])
        assert wanted <= len(at) < 2 * wanted + 2
        assert at.min() == longest and at.max() < length <= at.max() + stride
        assert (np.diff(at) == stride).all()
        blocks = min(context.MOST_BLOCKS, len(at), (length - longest) // 2048)
        summed = context._summed(np.ones(len(at)), blocks)
        counts = np.array(summed.counts)
        assert summed.sums == summed.counts
        assert blocks >= 2 and len(counts) == blocks and counts.max() - counts.min() <= 1
        ks = text_distances(longest, stride)
        assert ks == sorted(set(ks)) and ks[0] == 1 and ks[-1] == longest
        assert {1 << i for i in range(longest.bit_length())} <= set(ks)


def test_a_text_too_short_is_refused_with_what_fits():
    with pytest.raises(UserError, match="take at most 4404"):
        place_targets(8500, 100, 4405)
    place_targets(8500, 100, 4404)
    with pytest.raises(UserError, match="at most 4,096"):
        place_targets(8500, 5000, 4404)
    with pytest.raises(UserError, match="too short"):
        place_targets(4000, 10, 1)


# --- far text changed ---

SPACE = np.array([False] * 7 + [True])


def test_changes_leave_what_is_near_and_change_what_is_far_as_they_say():
    tokens = text(5000)
    at = np.arange(300, 5000, 50)
    seen = {}
    for name, k, passes in perturbed_passes(tokens, at, 256, [16, 64], SPACE):
        seen.setdefault((name, k), []).append(passes[:, :-1])
        near = np.stack([tokens[t - k : t + 1] for t in at])
        assert (passes[:, len(passes[0]) - k - 1 :] == near).all()
    assert {name for name, _ in seen} == {"intact", *KINDS}
    assert {len(several) for (name, _), several in seen.items() if name not in ("intact", "drop")} == {3}
    (whole,) = seen["intact", 256]
    for k in (16, 64):
        rest = whole[:, : 256 - k]
        for kind in ("shuffle characters", "shuffle words"):
            changed = [inputs[:, : 256 - k] for inputs in seen[kind, k]]
            for one in changed:
                assert (np.sort(one, axis=1) == np.sort(rest, axis=1)).all() and (one != rest).any(axis=1).all()
            assert (changed[0] != changed[1]).any()
        assert seen["drop", k][0].shape == (len(at), k)


def test_shuffled_words_are_the_words_that_were_there():
    tokens = np.array([[0, 1, 7, 2, 7, 7, 3, 4, 5, 7, 6, 6, 7]])
    rng, orders = np.random.default_rng(0), set()
    for _ in range(200):
        (row,) = shuffle_words(tokens, SPACE, rng)
        words, word = [], []
        for i, symbol in enumerate(row.tolist()):
            word.append(symbol)
            if symbol == 7 and (i + 1 == len(row) or row[i + 1] != 7):
                words.append(tuple(word))
                word = []
        assert sorted(words) == [(0, 1, 7), (2, 7, 7), (3, 4, 5, 7), (6, 6, 7)]
        orders.add(tuple(words))
    assert len(orders) == math.factorial(4)


def test_a_swapped_passage_is_text_from_elsewhere():
    tokens, at = np.arange(2000), np.arange(256, 2000, 10)  # every place has a symbol of its own
    for window, length in ((256, 240), (64, 1)):
        passages = swap_passages(tokens, at, window, length, np.random.default_rng(0))
        assert (np.diff(passages, axis=1) == 1).all()
        assert ((passages[:, -1] < at - window) | (passages[:, 0] > at)).all()


def test_changes_beyond_the_window_of_a_windowed_model_change_nothing():
    model, tokens = net(Windowed), text(5000)
    at = np.arange(300, 5000, 50)
    nats = {}
    for name, k, passes in perturbed_passes(tokens, at, 256, [4, 6], SPACE):
        found = losses_after(model, passes, [passes.shape[1] - 1])
        nats.setdefault((name, k), []).append(found)
    for (name, k), several in nats.items():
        for found in several:
            difference = abs(found - nats["intact", 256][0]).max()
            assert difference < 1e-6 if k >= WINDOW else difference > 1e-3, name


def test_words_are_counted_by_their_spaces():
    assert word_count(np.array([7, 0, 1, 7, 7, 2, 7]), SPACE) == 2
    assert word_count(np.array([0, 7, 1]), SPACE) == 2
    assert word_count(np.array([0, 1, 2]), SPACE) == 1

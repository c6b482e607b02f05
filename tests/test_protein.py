"""Sequences with a label for every step: their split, segment overlap, baselines; the proteins and files of such."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT
from own_files import chains_file

from seqbench import TaskData
from seqbench.baselines import NotApplicable, neighbours
from seqbench.cli import main
from seqbench.config import RunConfig
from seqbench.data import CONTEXT, Truth
from seqbench.device import settings
from seqbench.errors import UserError
from seqbench.experiment import resolve
from seqbench.files import residues
from seqbench.metrics import segment_overlap
from seqbench.models.backbone import build, shape_of
from seqbench.prepare import load_or_build, prepare
from seqbench.task import Budget
from seqbench.training import DeviceSplit, fit, predict_split

DATA = ROOT / "tasks" / "data"
LETTERS = "HEC"

# segment overlap ------------------------------------------------------------------------------------------------------


def sov(true, predicted):
    rows = [np.array([LETTERS.index(letter) for letter in text.replace(" ", "")]) for text in (true, predicted)]
    first = np.zeros(len(rows[0]), dtype=bool)
    first[[0, *np.cumsum([len(chain) for chain in true.split()])[:-1]]] = True
    return segment_overlap(rows[1], rows[0], first)


def test_segment_overlap_worked_out_by_hand():
    assert sov("CHHHHHHHHHHC", "CHHHHHHHHHHC") == 1.0
    # C: 1/3 of 1; H: minov 5, maxov 10, delta 2, so 7/10 of 10; C: 1/4 of 1; of 12
    assert sov("CHHHHHHHHHHC", "CCCHHHHHCCCC") == pytest.approx((1 / 3 + 7 + 1 / 4) / 12)
    # the helix meets five single residues, each 1/10 of 10 with delta 0, and so counts five times over: 52
    assert sov("CHHHHHHHHHHC", "CHCHCHCHCHCC") == pytest.approx((1 + 5 + 1 / 2) / 52)
    # a true segment that meets none counts as 0 with its length; one that is predicted and not there costs nothing
    assert sov("HHHHCCCC", "CCCCCCCC") == pytest.approx((4 + 2) / 8 * 4 / 8)
    assert sov("CCCCCCCC", "CCHHHCCC") == pytest.approx(((2 + 1) / 8 * 8 + (3 + 1) / 8 * 8) / 16)


def test_segments_do_not_reach_over_the_end_of_a_chain():
    assert sov("HHHH HHHH", "HHHH CCCC") == pytest.approx(4 / 8)
    assert sov("HHHHHHHH", "HHHHCCCC") == pytest.approx((4 + 2) / 8)
    assert math.isnan(segment_overlap(np.array([], int), np.array([], int), np.array([], bool)))


def segments(labels):
    found, start = [], 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i] != labels[start]:
            found.append((labels[start], start, i))
            start = i
    return found


def plain_sov(chains):
    """The definition once more, in loops over the segments of (true, predicted) chains."""
    total = size = 0
    for true, predicted in chains:
        for label, a, b in segments(true):
            met = [(c, d) for other, c, d in segments(predicted) if other == label and c < b and a < d]
            size += (b - a) * max(1, len(met))
            for c, d in met:
                minov, maxov = min(b, d) - max(a, c), max(b, d) - min(a, c)
                delta = min(maxov - minov, minov, (b - a) // 2, (d - c) // 2)
                total += (minov + delta) / maxov * (b - a)
    return total / size


def test_segment_overlap_is_that_of_a_plain_implementation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        chains = []
        for _ in range(rng.integers(1, 6)):
            true = np.repeat(rng.integers(0, 3, 12), rng.integers(1, 9, 12))
            noise = rng.random(len(true)) < rng.choice([0.05, 0.4])
            chains.append((true, np.where(noise, rng.integers(0, 3, len(true)), np.roll(true, rng.integers(0, 3)))))
        true, predicted = (np.concatenate(rows) for rows in zip(*chains, strict=True))
        first = np.zeros(len(true), dtype=bool)
        first[np.cumsum([0, *(len(one) for one, _ in chains[:-1])])] = True
        assert segment_overlap(predicted, true, first) == pytest.approx(plain_sov(chains), abs=1e-12)


def test_scores_by_hand_whatever_the_order():
    true, guess = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 2, 1, 2, 2, 0])
    truth = Truth(true, np.zeros(6), {"row": np.array([0, 0, 0, 1, 1, 1]), "step": np.array([4, 5, 6, 0, 1, 3])})
    found = residues.score_residues(np.eye(3)[guess], truth)
    assert found["q3"] == pytest.approx(4 / 6) and found["recall_helix"] == 0.5 and found["recall_strand"] == 1.0
    # segments: H of 2 met by 1 (1/2, delta 0), E of 1, C of 2 whole; step 3 is apart from step 1: C of 1, missed
    assert found["sov"] == pytest.approx((1 / 2 * 2 + 1 + 2 + 0) / 6)
    order = np.random.default_rng(0).permutation(6)
    assert residues.score_residues(np.eye(3)[guess][order], truth[order]) == pytest.approx(found)


# the split ------------------------------------------------------------------------------------------------------------


def made(lengths=(3, 7, 5), longest=4, features=0, seed=0):
    rng = np.random.default_rng(seed)
    shape = [(n, features) if features else (n,) for n in lengths]
    inputs = [rng.integers(1, 21, one).astype(np.uint8) for one in shape]
    labels = [rng.integers(0, 3, n).astype(np.int8) for n in lengths]
    labels[1][2] = CONTEXT
    chains = residues.Chains(inputs, labels, np.arange(len(lengths)) + 10, 0.5)
    return inputs, labels, chains.split(np.arange(len(lengths)), longest)


@pytest.mark.parametrize("features", [0, 4])
def test_long_sequences_are_cut_and_every_step_is_scored_once(features):
    inputs, labels, split = made(features=features)
    assert split.row_lengths.tolist() == [3, 4, 3, 4, 1] and split.rows.tolist() == [0, 1, 1, 2, 2]
    batch = split[np.array([2, 0])]
    scale = 0.5 if features else 1
    assert np.array_equal(batch.inputs[0, :3], inputs[1][4:] * scale) and not batch.inputs[0, 3:].any()
    assert batch.targets[0].tolist() == [*labels[1][4:], CONTEXT] and batch.lengths.tolist() == [3, 3]
    truth = split.truth()
    assert len(truth) == split.n_scored == 14
    together = np.concatenate(labels)
    assert np.array_equal(truth.targets, together[together != CONTEXT])
    assert truth.groups.tolist() == [10] * 3 + [11] * 6 + [12] * 5
    assert truth.meta["step"].tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6, 0, 1, 2, 3, 4]
    # what is collected of every step stands where the truth has it
    everything = split[np.arange(len(split))]
    steps = np.where(everything.targets == CONTEXT, 9, everything.targets)
    assert np.array_equal(split.collect(np.eye(10)[steps]).argmax(axis=1), truth.targets)


def test_batches_on_a_device_are_cut_to_their_longest():
    _, _, split = made(features=4)
    resident = DeviceSplit(split, torch.device("cpu"))
    for rows in (np.array([0, 4]), np.arange(5)):
        ours, theirs = resident[rows], split[rows]
        longest = split.row_lengths[rows].max()
        assert ours.inputs.shape == (len(rows), longest, 4) and ours.inputs.dtype == torch.float32
        assert np.array_equal(ours.inputs, theirs.inputs[:, :longest])
        assert np.array_equal(ours.targets, theirs.targets[:, :longest])


def test_permuted_labels_leave_inputs_and_unknown_steps_alone():
    _, _, split = made(lengths=(300, 200, 100), longest=400)
    other = split.shuffled(np.random.default_rng(0))
    assert other.series is split.series and (other.labels != split.labels).mean() > 0.4
    assert np.array_equal(other.labels == CONTEXT, split.labels == CONTEXT)
    assert np.array_equal(np.bincount(other.truth().targets), np.bincount(split.truth().targets))


def data_of(split, features=0):
    names = {"features": tuple("abcdefgh"[:features])} if features else {"vocabulary": residues.VOCABULARY}
    return TaskData(split, split, split, {}, classes=residues.CLASSES, **names)


@pytest.mark.parametrize("features", [0, 4])
def test_prepared_data_comes_back_and_padding_changes_nothing(tmp_path, features):
    _, _, split = made(lengths=(30, 7, 19, 2, 11), longest=13, features=features)
    data = load_or_build(tmp_path / "kept", lambda: data_of(split, features))
    for name, array in split.arrays().items():
        assert np.array_equal(array, data.train.arrays()[name]), name
    config = RunConfig(task="protein", model="bilstm")
    with settings(torch.device("cpu"), config):
        model = build("bilstm", "tag", shape_of("tag", data), (8,))
        together = predict_split(model, data.train, config)
        alone = []
        for i in range(len(split)):
            batch = DeviceSplit(split, torch.device("cpu"))[np.array([i])]
            with torch.no_grad():
                output = model.eval()(batch.inputs, batch.lengths).softmax(dim=2)
            alone.append(output[0][batch.targets[0] != CONTEXT])
    assert together == pytest.approx(torch.cat(alone).numpy(), abs=1e-5)


# baselines ------------------------------------------------------------------------------------------------------------


def planted(n=60, seed=0, shuffle=False, longest=400):
    """The label is told by the symbols four before and three after: helix where they are equal in kind."""
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(1, 21, rng.integers(40, 60)).astype(np.uint8) for _ in range(n)]
    labels = []
    for one in tokens:
        before, after = np.roll(one, 4) % 2, np.roll(one, -3) % 2
        before[:4], after[-3:] = 0, 0
        labels.append((before + after).astype(np.int8))
    split = residues.Chains(tokens, labels, np.arange(n)).split(np.arange(n), longest)
    return split.shuffled(rng) if shuffle else split


def test_windows_are_padded_at_the_ends_of_a_sequence_and_not_filled_from_the_next():
    inputs, _, split = made(lengths=(3, 20, 5), longest=400)
    windows = neighbours.neighbours(split)
    assert windows.shape == (27, 17)
    assert windows[0].tolist() == [0] * 8 + inputs[0].tolist() + [0] * 6
    at = 3 + 9 - 1  # step 9 of the second sequence, of which step 2 isn't scored
    assert windows[at].tolist() == inputs[1][1:18].tolist()
    assert neighbours.neighbours(split, np.array([at])).tolist() == windows[[at]].tolist()


def test_a_symbol_by_itself_and_gor_by_hand():
    tokens, labels = [np.array([1, 2, 1, 1], np.uint8)], [np.array([0, 2, 0, 1], np.int8)]
    split = residues.Chains(tokens, labels, np.zeros(1)).split(np.arange(1), 9)
    data = data_of(split)
    alone = neighbours.step_symbol(split, split, data)(split)
    assert alone[0] == pytest.approx(np.array([3, 2, 1]) / 6) and alone[1] == pytest.approx(np.array([1, 1, 2]) / 4)
    # summed by hand for the second step: P(k) times the product over the window of P(k | symbol there) / P(k)
    counts = np.ones((17, len(data.vocabulary), 3))
    for step in range(4):
        for i, offset in enumerate(range(-8, 9)):
            inside = 0 <= step + offset < 4
            counts[i, tokens[0][step + offset] if inside else 0, labels[0][step]] += 1
    prior = counts.sum(axis=(0, 1)) / counts.sum()
    joint = prior.copy()
    for i, offset in enumerate(range(-8, 9)):
        row = counts[i, tokens[0][1 + offset] if 0 <= 1 + offset < 4 else 0]
        joint *= row / row.sum() / prior
    assert neighbours.gor(split, split, data)(split)[1] == pytest.approx(joint / joint.sum())


ROWS = [neighbours.gor, neighbours.gor_pairs, neighbours.neighbours_logistic, neighbours.neighbours_boosting]


@pytest.mark.parametrize("fit", ROWS)
def test_neighbours_tell_a_planted_label_and_shuffled_ones_nothing(monkeypatch, fit):
    monkeypatch.setattr(neighbours, "boosting_rounds", lambda cells, trees: 15)
    n = 1500 if fit is neighbours.gor_pairs else 60  # pairs are many, and each must be seen
    train, test = planted(n), planted(seed=1)
    found = fit(train, train, data_of(train))(test)
    assert found.shape == (test.n_scored, 3) and found.sum(axis=1) == pytest.approx(1.0)
    right = np.mean(found.argmax(axis=1) == test.truth().targets)
    control = planted(n, shuffle=True)
    blind = np.mean(fit(control, control, data_of(train))(test).argmax(axis=1) == test.truth().targets)
    assert right > 0.75 and blind < 0.55


def test_what_stands_around_is_lost_where_sequences_are_cut_to_single_steps():
    whole, cut = planted(), planted(longest=1)
    right = []
    for split in (whole, cut):
        found = neighbours.gor(split, split, data_of(split))(split)
        right.append(np.mean(found.argmax(axis=1) == split.truth().targets))
    assert np.array_equal(whole.truth().targets, cut.truth().targets) and right[0] > 0.75 > 0.6 > right[1]


def test_features_are_read_by_the_rows_that_can():
    train, test = planted(), planted(seed=1)
    kinds = [TaskData(*(_with_features(split),) * 3, {}, features=tuple("ab"), classes=residues.CLASSES)
             for split in (train, test)]  # fmt: skip
    data, held = kinds
    for counting in (neighbours.step_symbol, neighbours.gor, neighbours.gor_pairs):
        with pytest.raises(NotApplicable, match="symbols"):
            counting(data.train, data.val, data)
    found = neighbours.neighbours_logistic(data.train, data.val, data)(held.test)
    assert np.mean(found.argmax(axis=1) == held.test.truth().targets) > 0.75


def _with_features(split):
    import dataclasses

    odd = split.series % 2
    return dataclasses.replace(split, series=np.stack([odd, 1 - odd], axis=1).astype(np.uint8), scale=0.5)


# a user's file --------------------------------------------------------------------------------------------------------


def read(tmp_path, content, name="own.fasta", **options):
    path = tmp_path / name
    path.write_text(content)
    return prepare("protein", options, "path", data=path).data


def test_a_file_of_records_is_read_as_it_is_written(tmp_path):
    data = read(tmp_path, ">a:sequence x\nMKV\nLW\n>a:secstr\nHGI\nEB\n>b\nmkbx\n>b\nTS-?\n" + chains_file(30))
    assert data.classes == residues.CLASSES
    chains = {}
    for split in data.splits.values():
        for i in range(len(split)):
            at = slice(split.starts[i], split.starts[i] + split.row_lengths[i])
            chains["".join(data.vocabulary[token] for token in split.series[at])] = split.labels[at].tolist()
    assert chains["MKVLW"] == [0, 0, 0, 1, 1] and chains["MKXX"] == [2, 2, 2, CONTEXT]
    assert any("1 residues without a known label" in note for note in data.notes)


def table_of(fasta):
    lines = fasta.split("\n")
    rows = [f"{letters},{labels}" for letters, labels in zip(lines[1::4], lines[3::4], strict=False)]
    return "seq,ss\n" + "\n".join(rows) + "\n"


def test_a_table_is_read_as_the_file_of_records(tmp_path):
    first = read(tmp_path, chains_file(30))
    second = read(tmp_path, table_of(chains_file(30)), "own.csv", features="seq", target="ss")
    for part, split in first.splits.items():
        assert np.array_equal(split.series, second.splits[part].series), part
        assert np.array_equal(split.labels, second.splits[part].labels), part


PAIR = ">a\nMKV\n>a\nHHC\n"
WRONG = [
    (PAIR + ">b\nMKVL\n>b\nHHC\n", "own.fasta", "line 5: 'b' has 4 residues and 3 labels"),
    (PAIR + ">b\nMKVL\n", "own.fasta", "line 5: after 'b' the file ends"),
    (PAIR + ">b\nMKVL\n>c\nHHCC\n", "own.fasta", "line 5: after 'b' 'c' comes"),
    (">a\n\n>a\nHHC\n", "own.fasta", "line 1: the sequence 'a' has length 0"),
    (">a\nMKV\n>a\n\n", "own.fasta", "line 3: 'a' has no labels"),
    (PAIR + ">b\nMK1L\n>b\nHHCC\n", "own.fasta", "line 5: '1' at position 3 of 'b' is no amino acid"),
    (PAIR + ">b\nMKVL\n>b\nHHWC\n", "own.fasta", "line 5: 'W' at position 3 of 'b' is no label"),
    ("MKV\n", "own.fasta", "line 1: no FASTA"),
    ("", "own.fasta", "empty"),
    (PAIR, "own.fasta", "at least 3 are needed"),
    (PAIR, "own.gb", "holds no labelled sequences by its name"),
    ("sequence,label\nMKV,HHC\nMKVL,HHC\n", "own.csv", "line 3: 'line 3' has 4 residues and 3 labels"),
    ("sequence,label\n,HHC\n", "own.csv", "length 0"),
    ("sequence,label\nMKV,\n", "own.csv", "has no labels"),
    ("sequence,other\nMKV,HHC\n", "own.csv", "'label'"),
]


@pytest.mark.parametrize(("content", "name", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path, content, name, words):
    with pytest.raises(UserError) as told:
        read(tmp_path, content, name)
    assert words in str(told.value) and str(told.value).isprintable()


def test_groups_and_published_splits_are_taken_at_their_word(tmp_path):
    lines = chains_file(30).replace(">", "> ").replace("> ", ">").split("\n")
    parts = ["train"] * 20 + ["val"] * 4 + ["test"] * 6
    headed = [
        f"{line} part={parts[i // 4]} family=f{i // 12}" if line.startswith(">") else line
        for i, line in enumerate(lines)
    ]
    data = read(tmp_path, "\n".join(headed), split="part")
    assert [len(split) for split in data.splits.values()] == [20, 4, 6]
    data = read(tmp_path, "\n".join(headed), group="family")
    groups = [set(split.groups.tolist()) for split in data.splits.values()]
    assert sum(map(len, groups)) == 10 == len(set.union(*groups))
    with pytest.raises(UserError, match="line 1: the header has no 'clan='"):
        read(tmp_path, "\n".join(headed), group="clan")


# the shipped chains ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    table = pq.read_table(DATA / "protein.parquet").to_pydict()
    return {
        part: [i for i, one in enumerate(table["split"]) if one == part] for part in ("train", "val", "test")
    }, table


def test_no_chain_of_one_split_is_in_the_cluster_of_another(shipped):
    rows, table = shipped
    clusters = pq.read_table(DATA / "protein_clusters.parquet").to_pydict()
    own = {
        name: (of, i) for i, (name, of) in enumerate(zip(clusters["chain"], clusters["representative"], strict=True))
    }
    assert all(own[name][0] == own[name][1] for name in table["chain"])  # each is the representative of its own
    assert len(set(table["chain"])) == len(table["chain"]) == sum(map(len, rows.values()))
    assert {part: len(of) for part, of in rows.items()} == {"train": 7681, "val": 528, "test": 537}


def test_hardly_a_piece_of_ten_residues_is_shared_between_splits(shipped):
    """Related chains share such pieces; of unrelated ones hardly any does. The same count finds copies."""
    rows, table = shipped

    def pieces(text):
        return {text[at : at + 10] for at in range(len(text) - 9)}

    known = set().union(*(pieces(table["sequence"][i]) for i in rows["train"]))
    for part in ("val", "test"):
        shares = [len(pieces(table["sequence"][i]) & known) / len(pieces(table["sequence"][i])) for i in rows[part]]
        assert np.mean(shares) < 0.002 and max(shares) < 0.2


@pytest.mark.parametrize("control", ["none", "shuffle-labels"])
def test_permuted_labels_teach_nothing_where_true_ones_do(control):
    """By the log-probability of the true class: two classes are nearly equally frequent, so Q3 is a matter of luck."""
    planned = resolve(RunConfig(task="protein", model="gru", hidden=32, learning_rate=1e-2, dropout=0, control=control))
    spec, data = planned.prepared.spec, planned.data
    with settings(planned.device, planned.config):
        model = build("gru", "tag", shape_of("tag", data), (32,))
        fit(model, spec, data, planned.config, Budget(50, 32, 1))
        chances = predict_split(model, data.test, planned.config)
    targets = data.test.truth().targets
    shares = np.bincount(targets) / len(targets)
    gained = np.log(chances[np.arange(len(targets)), targets]).mean() - shares @ np.log(shares)
    assert gained > 0.05 if control == "none" else gained < 1e-3


def test_predictions_of_a_file_are_those_of_the_test(tmp_path, monkeypatch, capsys, shipped):
    from seqbench.data import read_predictions

    monkeypatch.chdir(tmp_path)
    assert main(["--task", "protein", "--model", "gru", "--budget", "smoke", "--hidden", "8", "--out", "out"]) == 0
    (record,) = (tmp_path / "out").rglob("record.json")
    rows, table = shipped
    text = "".join(f">{table['chain'][i]}\n{table['sequence'][i]}\n" for i in rows["test"][:5])
    (tmp_path / "new.fasta").write_text(text)
    assert main(["predict", str(record.parent), "new.fasta", "--out", "out.parquet"]) == 0
    found = pq.read_table("out.parquet").to_pydict()
    stored, truth = read_predictions(record.parent)
    n = len(found["label"])
    assert found["p_helix"] == pytest.approx(stored[:n, 0], abs=1e-5) and truth.meta["row"][n - 1] == 4
    assert "".join(found["letter"]) == "".join(table["sequence"][i] for i in rows["test"][:5])
    assert found["residue"][0] == 1 and found["sequence"][-1] == table["chain"][rows["test"][4]]

"""The canonical sets' adapters on small local files of the same schema, put where `data fetch` would put them."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from seqbench.cli import main
from seqbench.prepare import download_folder, prepare
from seqbench.readers.downloads import publish
from seqbench.task import TASKS, parse_options

HUB = ["dna", "protein", "sentiment", "stock", "textgen", "translation", "weather"]


def imdb(part, n):
    rng = np.random.default_rng([1, n])
    words = np.array([f"word{i}" for i in range(400)])
    texts = [" ".join(rng.choice(words, 40)) + (" superb" if i % 2 else " dreadful") for i in range(n)]
    if part == "train":
        texts[3] = imdb("test", 60)["text"][5].as_py().upper()  # a test review that strayed into training
    return pa.table({"text": texts, "label": pa.array([i % 2 for i in range(n)], pa.int64())})


def promoters(part, n):
    rng = np.random.default_rng([2, n])
    letters = ["".join(rng.choice(list("ACGT"), 251)) for _ in range(n)]
    if part == "train":
        letters[7] = promoters("test", 60)["seq"][2].as_py()
    return pa.table({"seq": letters, "label": pa.array([i % 2 for i in range(n)], pa.int64())})


def wikitext(part, n):
    rng = np.random.default_rng([3, n])
    lines = [
        "",
        *(" = Title = \n" if i % 9 == 0 else " ".join(rng.choice(["a", "bc", "def"], 30)) + "\n" for i in range(n)),
    ]
    return pa.table({"text": lines})


def multi30k(part, n):
    rng = np.random.default_rng([6, n, len(part)])
    pairs = []
    for _ in range(n):
        drawn = ["".join(rng.choice(list("abcdef"), 4)) for _ in range(7)]
        pairs.append({"en": " ".join(drawn), "de": " ".join(word.upper() for word in drawn)})
    if part == "train":
        pairs[3] = multi30k("test", 60)[5]  # a test sentence that strayed into training
    return pairs


def jena():
    start = datetime.datetime(2020, 1, 1, 0, 10)
    times = [start + datetime.timedelta(minutes=10 * i) for i in range(6 * 24 * 60)]
    times[1000] = times[999]  # the hub's file holds one time twice
    rng = np.random.default_rng(4)
    temperature = rng.normal(10, 3, len(times))
    wind = rng.uniform(0, 5, len(times))
    wind[50:60] = -9999.0
    return pa.table(
        {"date": [f"{time:%Y-%m-%d %H:%M:%S}" for time in times], "T (degC)": temperature, "wv (m/s)": wind, "OT": wind}
    )


def prices():
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 600)))
    days = [datetime.date(2010, 1, 4) + datetime.timedelta(days=i) for i in range(600)]
    volume = pa.array(rng.integers(1000, 9999, 600))
    columns = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": volume}
    return pa.table({"date": pa.array(days, pa.date32()), **columns})


def netsurf(name, n):
    """As the hub has it: names of columns with spaces before them, a mask as numbers, and CB513 with one more."""
    rng = np.random.default_rng([6, n])
    letters = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)) for _ in range(n)]
    if name == "training_hhblits":
        letters[3] = netsurf("CB513", 60)["input"][5].as_py()  # a test chain that strayed into training
    labels = ["".join(rng.choice(list("HEC"), 60)) for _ in range(n)]
    known = " ".join(["0.0"] * 2 + ["1.0"] * 58)
    columns = {"input": letters, " dssp3": labels, " dssp8": labels, " disorder": [known] * n}
    if name == "CB513":
        columns[" cb513_mask"] = [" ".join(["1.0"] * 59 + ["0.0"])] * n
    return pa.table(columns)


def write(task, folder):
    """The files of ``task``'s canonical set, small, under their names."""
    make = {"sentiment": imdb, "dna": promoters, "textgen": wikitext}.get(task)
    files = {}
    if task == "weather":
        pa.csv.write_csv(jena(), folder / "weather.csv")
        return {"files": {"weather.csv": {}}}
    if task == "protein":
        for file in TASKS.get(task).at("hub").fetch(None).files:
            name = file.name.removesuffix(".csv")
            pa.csv.write_csv(netsurf(name, 200 if name == "training_hhblits" else 60), folder / file.name)
            files[file.name] = {}
        return {"files": files}
    if task == "stock":
        pq.write_table(prices(), folder / "prices.parquet")
        return {"files": {"prices.parquet": {}}}
    for file in TASKS.get(task).at("hub").fetch(None).files:
        if task == "translation":
            part = file.name.partition(".")[0]
            lines = (json.dumps(pair) + "\n" for pair in multi30k(part, 200 if part == "train" else 60))
            (folder / file.name).write_text("".join(lines))
            files[file.name] = {}
            continue
        part = file.name.split("-")[0]
        pq.write_table(make(part, 200 if part == "train" else 60), folder / file.name)
        files[file.name] = {}
    return {"files": files}


@pytest.fixture
def fetched(tmp_path, monkeypatch, few_trees):
    """``fetched(task)`` puts the small set where a download would be."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def put(task):
        spec = TASKS.get(task).at("hub")
        publish(download_folder(spec, parse_options(spec, {})), lambda folder: write(task, folder))

    return put


@pytest.mark.parametrize("task", HUB)
def test_a_fetched_set_is_trained_on_and_without_it_the_sentence_says_what_to_do(fetched, capsys, task):
    command = ["--task", task, "--source", "hub", "--model", "rnn", "--budget", "smoke", "--hidden", "8"]
    assert main(command) == 2
    assert f"data fetch {task}" in capsys.readouterr().err
    fetched(task)
    assert main(command) == 0, capsys.readouterr().err
    assert main(["data", "show", task, "--source", "hub"]) == 0
    shown = capsys.readouterr().out
    assert TASKS.get(task).at("hub").licence in shown and "SHA-256" in shown


def test_reviews_that_stand_in_the_test_are_not_trained_on(fetched):
    fetched("sentiment")
    data = prepare("sentiment", {}, "hub").data
    assert "1 training examples are left out" in data.notes[0]
    assert len(data.test) == 60 and len(data.train) + len(data.val) == 199
    assert data.classes == ("negative", "positive")


def test_promoters_that_stand_in_the_test_are_not_trained_on(fetched):
    fetched("dna")
    data = prepare("dna", {}, "hub").data
    assert "1 training examples are left out" in data.notes[0] and len(data.test) == 60
    assert data.train.sequence_length == 251 and data.vocabulary[1:5] == ("A", "C", "G", "T")


def test_chains_of_the_test_are_not_trained_on_and_masked_residues_not_scored(fetched):
    fetched("protein")
    data = prepare("protein", {}, "hub").data
    assert "1 training examples are left out" in data.notes[0] and len(data.test) == 60
    assert len(data.train) + len(data.val) == 199
    assert data.test.n_scored == 60 * 57 and data.val.n_scored == len(data.val) * 58
    other = prepare("protein", {"test_set": "TS115"}, "hub").data
    assert other.test.n_scored == 60 * 58


def test_pairs_that_stand_in_the_test_are_not_trained_on(fetched):
    fetched("translation")
    data = prepare("translation", {}, "hub").data
    assert any("1 training and" in note for note in data.notes)
    assert (len(data.train), len(data.val), len(data.test)) == (199, 60, 60)
    assert data.fitted["columns"] == ["de", "en"]


def test_jena_is_read_by_the_hour_with_its_faults_mended(fetched):
    fetched("weather")
    data = prepare("weather", {"sequence_length": 24}, "hub").data
    hours = sum(len(split.series) for split in data.splits.values())
    assert hours in (24 * 60 - 1, 24 * 60)
    assert data.features[:2] == ("T (degC)", "wv (m/s)") and "no_wv (m/s)" in data.features
    assert np.isfinite(data.train.series).all() and np.abs(data.train.series).max() < 10


def test_a_task_without_a_set_on_the_network_says_so(capsys):
    assert main(["data", "fetch", "fault"]) == 2
    assert "bring a file of your own" in capsys.readouterr().err
    assert main(["--task", "fault", "--model", "rnn", "--source", "hub"]) == 2
    assert "no source 'hub'" in capsys.readouterr().err


def test_fetching_is_refused_offline(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for task in HUB:
        assert main(["data", "fetch", task]) == 2
        assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))

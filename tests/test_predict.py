"""Models trained on the shipped data read a user's rows exactly as they read the test split."""

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from seqbench.cli import main
from seqbench.predictions import read_predictions
from seqbench.prepare import prepare

DATA = ROOT / "tasks" / "data"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """``model(task)`` trains a tiny one at smoke and gives its folder; ``predictions(file)`` come as rows."""
    monkeypatch.chdir(tmp_path)

    def train(task, *words):
        command = ["--task", task, "--model", "gru", "--budget", "smoke", "--hidden", "8", "--out", "out", *words]
        assert main(command) == 0
        (record,) = (tmp_path / "out").rglob("record.json")
        return record.parent

    return train


def rows_of(folder, file):
    assert main(["predict", str(folder), str(file), "--out", "out.csv"]) == 0
    with open("out.csv", newline="") as table:
        return list(csv.DictReader(table))


def test_weather(model):
    folder = model("weather")
    stored, _ = read_predictions(folder)
    table = pd.read_parquet(DATA / "weather.parquet")
    late = table[(table["origin"] == "JFK") & (table["time"] >= pd.Timestamp("2013-11-01", tz="UTC"))]
    late.assign(time=late["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv("jfk.csv", index=False)
    found = rows_of(folder, "jfk.csv")
    fitted = prepare("weather", {}).data.fitted
    stored = stored[:, :, 0] * fitted["scale"] + fitted["offset"]
    assert {row["origin"] for row in found} == {"JFK"} and found[-1]["time"].startswith("2013-12-30 23")
    written = np.array([[float(row[f"step_{step}"]) for step in range(1, 25)] for row in found])
    near = [np.abs(written - row).max(axis=1).min() for row in stored[1400:2400:97]]  # windows of the second airport
    assert max(near) < 0.01


def test_stock(model):
    folder = model("stock")
    stored, truth = read_predictions(folder)
    table = pq.read_table(DATA / "stock.parquet", filters=[("ticker", "=", "AAPL")])
    pa.csv.write_csv(table.select(["date", "open", "high", "low", "close", "volume"]), "aapl.csv")
    found = rows_of(folder, "aapl.csv")
    assert found[-1]["date"] == "2013-03-01"
    written = np.array([float(row["step_1"]) for row in found])[-len(stored) - 1 : -1]  # the last has no tomorrow
    assert written == pytest.approx(stored[:, 0, 0] * truth.meta["scale"], abs=1e-6)


def test_fault(model):
    folder = model("fault")
    stored, truth = read_predictions(folder)
    table = pq.read_table(DATA / "fault.parquet")
    scale = json.loads(table.schema.metadata[b"seqbench_scale"])
    chosen = table.filter(pa.compute.equal(table["run"], int(truth.groups[-1])))
    columns = {name: chosen[name].to_numpy() * about["scale"] + about["offset"] for name, about in scale.items()}
    pa.csv.write_csv(pa.table({"run": chosen["run"], **columns}), "run.csv")
    found = rows_of(folder, "run.csv")
    written = np.array([float(row["p_normal"]) for row in found])
    assert written == pytest.approx(stored[truth.groups == truth.groups[-1], 0], abs=1e-3)


def test_dna(model):
    folder = model("dna", "--sequence-length", "40")
    data = prepare("dna", {"sequence_length": 80}).data
    lines = ["".join("ACGT"[base] for base in row) for row in data.test.inputs[:50]]
    with open("sites.fa", "w") as file:
        file.writelines(f">s{i}\n{letters}\n" for i, letters in enumerate(lines))
    found = rows_of(folder, "sites.fa")
    short = prepare("dna", {"sequence_length": 40}).data.test.inputs
    at = [int(np.flatnonzero((short == row[20:60]).all(axis=1))[0]) for row in data.test.inputs[:50]]
    stored = read_predictions(folder)[0][at]
    assert np.array([float(row["p_donor"]) for row in found]) == pytest.approx(stored[:, 0], abs=1e-5)


def test_sentiment_and_textgen(model, tmp_path):
    folder = model("sentiment")
    (tmp_path / "new.jsonl").write_text('{"text": "I love it"}\n{"text": "\\ud83d\\ude00"}\n')
    assert [row["label"] in ("negative", "neutral", "positive") for row in rows_of(folder, "new.jsonl")] == [True, True]
    (tmp_path / "out").rename(tmp_path / "old")
    folder = model("textgen")
    (tmp_path / "new.txt").write_text("And God said, Let there be light: and there was light. " * 60)
    found = rows_of(folder, "new.txt")
    assert sum(int(row["characters"]) for row in found) == 55 * 60 - 1
    assert all(1 < float(row["bits"]) / int(row["characters"]) < 9 for row in found)


@pytest.mark.parametrize(
    ("task", "name", "content", "words"),
    [
        ("dna", "short.fa", ">s\nACGT\n", "must be 80 bases or more"),
        ("dna", "n.fa", f">s\n{'ACGTN' * 20}\n", "of A, C, G and T"),
        ("weather", "w.csv", "origin,time,temp\nBOS,2013-01-01T00,3\n", "no column"),
        ("stock", "s.csv", "date,open,high,low,close,volume\n2013-01-01,1,1,1,1,1\n", "too few"),
        ("textgen", "t.txt", "", "empty"),
    ],
)
def test_rows_that_the_model_can_not_read(model, tmp_path, capsys, task, name, content, words):
    folder = model(task)
    (tmp_path / name).write_text(content)
    assert main(["predict", str(folder), name]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "predictions.csv").exists()

"""Models trained on the shipped data read a user's rows exactly as they read the test split."""

import csv
import json
import os
import shutil
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from safetensors.torch import load, save
from torch import Tensor

from seqbench.cli import main
from seqbench.data import read_predictions
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


def edited(path, change):
    """The JSON of ``path``, changed in place."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    change(kept)
    path.write_text(json.dumps(kept), encoding="utf-8")


def forgotten(folder):
    """As models of earlier versions are: nothing vouches for their model.json."""
    path = folder / "model.safetensors"
    path.write_bytes(save(load(path.read_bytes())))


NESTED = '{"vocabulary": [], "features": [], "classes": [], "fitted": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}"


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory):
    """The folder of a small model of the stock task, and a file that it reads."""
    out = tmp_path_factory.mktemp("forecaster")
    words = ["--task", "stock", "--model", "gru", "--budget", "smoke", "--hidden", "8", "--out", str(out / "out")]
    assert main(words) == 0
    table = pq.read_table(DATA / "stock.parquet", filters=[("ticker", "=", "AAPL")])
    pa.csv.write_csv(table.select(["date", "open", "high", "low", "close", "volume"]), out / "new.csv")
    (record,) = out.rglob("record.json")
    return record.parent, out / "new.csv"


@pytest.fixture
def spoilt(forecaster, tmp_path, capsys):
    """``spoilt(change)`` changes what a copy of the model must be read with; what predict then says."""

    def said(change, name="model.json", old=True):
        folder = tmp_path / "out" / "stock" / "gru" / "cell" / "run-1"
        shutil.copytree(forecaster[0], folder, dirs_exist_ok=True)
        if old:
            forgotten(folder)
        path = folder / name
        path.write_text(change) if isinstance(change, str) else edited(path, change)
        capsys.readouterr()
        code = main(["predict", str(folder), str(forecaster[1]), "--out", str(tmp_path / "out.csv")])
        assert code == 2 and not (tmp_path / "out.csv").exists()
        (line,) = capsys.readouterr().err.splitlines()
        assert "unexpected" not in line and name in line.replace("model.safetensors", name), line
        return line

    return said


@pytest.mark.parametrize("field", ["vocabulary", "features", "classes", "fitted"])
def test_what_a_model_must_be_read_with_is_validated(spoilt, field):
    assert f"{field}: Field required" in spoilt(lambda kept: kept.pop(field))
    for value in (None, 3, "text", [1, [2]], {"a": {}} if field != "fitted" else [], [["a"]]):
        assert f"is damaged: {field}" in spoilt(lambda kept, value=value: kept.update({field: value}))
    assert "has been altered" in spoilt(lambda kept: kept.update({field: "text"}), old=False)


@pytest.mark.parametrize("name", ["offset", "scale", "mean", "deviation", "offsets", "scales", "drift", "recipe"])
def test_figures_that_a_model_must_be_read_with_are_validated(spoilt, name):
    def change(kept, value):
        kept["fitted"][name] = value

    if name not in ("mean", "deviation"):
        assert f"lacks '{name}'" in spoilt(lambda kept: kept["fitted"].pop(name))
    assert "should be a finite number" in spoilt(lambda kept: change(kept, float("nan")))
    if name in ("offset", "scale", "mean", "deviation"):
        assert f"fitted.{name} must be a" in spoilt(lambda kept: change(kept, "text"))
        assert f"fitted.{name} must be a" in spoilt(lambda kept: change(kept, {"a": 1}))
    if name == "mean":
        assert "must be of one length" in spoilt(lambda kept: change(kept, [1.0]))
        assert "99 values for 5 features" in spoilt(lambda kept: change(kept, [1.0] * 99))
    if name in ("offsets", "scales"):
        for value in ("text", [1.0], {"a": 1}, [["a"]]):
            assert "can't be used to read these rows" in spoilt(lambda kept, value=value: change(kept, value))
    assert "has been altered" in spoilt(lambda kept: change(kept, 0.5), old=False)


def test_no_json_or_json_too_deep_is_one_sentence(spoilt):
    for text in ("", "{", "[]", "null", '"text"', NESTED):
        assert "is damaged" in spoilt(text)


@pytest.mark.parametrize("hidden", [[9], [10**6], [10**12], [10**30], [8, 8], [8] * 20_000])
def test_a_width_that_is_not_that_of_the_weights_takes_no_memory(spoilt, hidden, monkeypatch):
    """It is refused by the header of the weights, before a model of that width is made."""
    monkeypatch.setattr(Tensor, "normal_", None)
    assert "not this model's" in spoilt(lambda kept: kept["model"].update(hidden=hidden), "record.json", old=False)


@pytest.mark.parametrize("hidden", [[], [0], [-8], ["eight"], [8.5], 8, None, [[8]]])
def test_a_width_that_is_none_is_no_record(spoilt, hidden):
    said = spoilt(lambda kept: kept["model"].update(hidden=hidden), "record.json", old=False)
    assert "not a valid record: model.hidden" in said


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("name", ["pred.csv", "pred.parquet"])
def test_predictions_follow_the_umask(forecaster, tmp_path, umask, mode, name):
    before = os.umask(umask)
    try:
        assert main(["predict", *map(str, forecaster), "--out", str(tmp_path / name)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode

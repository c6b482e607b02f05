"""The DataFrame of records: what it holds, that each record is read once, and records that nobody must believe."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from board_records import board, changed, grid, model, signed, write
from conftest import ROOT

import seqbench
from seqbench.cli.leaderboard import Leaderboard
from seqbench.errors import UserError
from seqbench.jobs.store import LEFT_OUT, RECORD, Store
from seqbench.task import TASKS


def test_there_is_one_row_per_record_for_groupby(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.7})
    model(tmp_path, "gamma", [0.8, None], config__hidden=[64, 32], model__hidden=[64, 32])
    frame = seqbench.load_results(tmp_path)
    assert len(frame) == 8 and frame["key"].is_unique
    means = frame.groupby("model")["value"].mean()
    assert means.to_dict() == pytest.approx({"alpha": 0.9, "beta": 0.7, "gamma": 0.8})
    assert frame.groupby(["task", "model", "hidden"])["skill"].max()["toy", "gamma", "64,32"] == pytest.approx(0.6)
    assert frame.groupby("conditions", sort=False)["model"].unique().map(set).tolist() == [{"alpha", "beta"}, {"gamma"}]
    first = frame.iloc[0]
    assert (first.task, first.kind, first.metric, first.direction, first.unit) == (
        "toy", "classify", "accuracy", "higher", "",
    )  # fmt: skip
    assert (first.cpu_seconds, first.peak_memory_bytes, first.params) == (10.0, 2**20 * 300, 12345)
    assert first.baselines == {"majority": 0.5, "tfidf": 0.75} and first.left_out.shape == (4,)
    assert Path(first.record).is_absolute() and Path(first.record).is_file() and first.record.endswith(RECORD)


def test_what_a_failed_run_lacks_is_missing_and_its_columns_keep_their_types(tmp_path):
    model(tmp_path, "alpha", [0.8, None])
    frame = seqbench.load_results([tmp_path])
    failed = frame[frame["status"] == "diverged"].iloc[0]
    assert failed.reason == "loss is nan" and failed.metric is None and failed.left_out is None
    for name in ("value", "validation", "skill", "steps", "train_seconds", "peak_memory_bytes", "interrupted"):
        assert pd.isna(failed[name]), name
    types = {name: str(frame[name].dtype) for name in ("seed", "value", "train_seconds", "params", "steps")}
    assert types == {
        "seed": "int64", "value": "float64", "train_seconds": "float64", "params": "Int64", "steps": "Int64"
    }  # fmt: skip


def test_every_record_is_read_once_for_page_and_pictures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.7})
    opened, open_file = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **given: opened.append(self) or open_file(self, *args, **given)
    )
    assert Leaderboard((tmp_path / "records",), out=tmp_path / "page.md", plot=tmp_path / "plots")() == 0
    for name in (RECORD, LEFT_OUT, "curve.jsonl"):
        paths = [path for path in opened if path.name == name]
        assert len(paths) == len(set(paths)) == 6, name


def edit(folder, **changes):
    return changed(json.loads((folder / RECORD).read_text()), changes)


@pytest.mark.parametrize(
    ("changes", "resign", "says"),
    [
        ({"task__name": "dna"}, False, "altered"),
        ({"task__name": "dna"}, True, "moved or edited"),
        ({"config__seed": 7}, False, "altered"),
        ({"seed": 7}, False, "moved or edited"),
        ({"schema_version": 5}, False, "schema version 5.*update"),
        ({"primary__value": 0.99}, False, "altered: its primary"),
        ({"primary__reference": "nobody"}, False, "altered: its reference"),
        ({"environment__threads": 4}, False, "altered: its threads"),
        ({"status": "diverged"}, False, "altered: its status"),
        ({"metrics__val": {}}, False, "altered: its validation"),
        ({"baselines": {"majority": 0.5}}, False, "does not fit its record"),
        ({"baselines__tfidf": 0.6}, False, "altered: its baseline tfidf is 0.6"),
    ],
)
def test_altered_records_are_refused(tmp_path, changes, resign, says):
    grid(tmp_path, {"alpha": 0.9})
    folder = write(tmp_path, "beta")
    raw = edit(folder, **changes)
    (folder / RECORD).write_text(json.dumps(signed(raw) if resign else raw))
    for fmt in ("markdown", "json", "csv"):
        with pytest.raises(UserError, match=says):
            board([tmp_path], fmt)


def test_another_primary_metric_of_the_same_task_is_refused(tmp_path):
    write(tmp_path)
    folder = write(tmp_path, "beta", 0, 0.9)
    (folder / RECORD).write_text(json.dumps(edit(folder, primary__direction="lower")))
    with pytest.raises(UserError, match="another primary metric"):
        board([tmp_path])


@pytest.mark.parametrize("place", ["toy/beta", "other/alpha", "toy/alpha"])
def test_a_moved_record_is_refused(tmp_path, place):
    folder = write(tmp_path)
    cell = folder.parent
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    name = cell.name if place != "toy/alpha" else cell.name.replace("seed0", "seed1")
    shutil.move(cell, tmp_path / place / name)
    with pytest.raises(UserError, match="moved or edited: it belongs in"):
        board([tmp_path])


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_damaged_record_is_an_error_and_never_skipped(tmp_path, content):
    grid(tmp_path, {"alpha": 0.9})
    folder = write(tmp_path, "beta")
    (folder / RECORD).unlink()
    if content is not None:
        (folder / RECORD).write_text(content)
    with pytest.raises(UserError, match=RECORD):
        board([tmp_path])


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", 100, 140, (b"<f8", b"<f4"), (b"(3, 4)", b"(9**9,"), (b"{", b"(")]
)
def test_damaged_leave_one_out_figures_are_an_error(tmp_path, content):
    file = write(tmp_path) / LEFT_OUT
    whole = file.read_bytes()
    if isinstance(content, tuple):
        content = whole.replace(*content, 1)
    file.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(UserError, match=LEFT_OUT):
        board([tmp_path])


def test_pickled_leave_one_out_figures_are_never_loaded(tmp_path):
    np.save(write(tmp_path) / LEFT_OUT, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=LEFT_OUT):
        board([tmp_path])


def test_nothing_at_all_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no records in .*nothing: run some first"):
        board([tmp_path / "nothing"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store with a run of each toy task, with its predictions."""
    from seqbench.config import RunConfig
    from seqbench.experiment import run_cell

    out = tmp_path_factory.mktemp("runs")
    for task in ("toy-first", "toy-wave", "toy-text"):
        run_cell(RunConfig(task=task, model="rnn", hidden=(8,), budget="smoke"), Store(out))
    return out


def test_figures_are_computed_from_the_predictions_again(runs):
    frame = seqbench.load_results(runs)
    assert len(frame) == 3 and frame["verified"].tolist() == [True] * 3
    assert "not verified" not in board([runs])


@pytest.mark.parametrize("task", ["toy-first", "toy-wave", "toy-text"])
def test_figures_edited_consistently_everywhere_in_a_record_are_refused(runs, tmp_path, task):
    shutil.copytree(runs, tmp_path / "runs")
    (folder,) = (path.parent for path in (tmp_path / "runs" / task).rglob(RECORD))
    raw = json.loads((folder / RECORD).read_text())
    name, value = raw["primary"]["name"], raw["primary"]["value"] * 0.99
    reference, perfect = raw["baselines"][raw["primary"]["reference"]], raw["primary"]["perfect"]
    changes = {"primary__value": value, f"metrics__test__{name}": value}
    changes["skill"] = (value - reference) / (perfect - reference)
    (folder / RECORD).write_text(json.dumps(edit(folder, **changes)))
    with pytest.raises(UserError, match=f"altered: its {name} is .* but computed"):
        board([tmp_path / "runs"])
    (folder / "predictions.npz").unlink()
    frame = seqbench.load_results(tmp_path / "runs").set_index("task")["verified"]
    assert not frame[task] and frame.sum() == 2
    said = board([tmp_path / "runs"])
    assert "Of 3 runs the figures of 1 are not verified" in said
    (folder / RECORD).write_text(json.dumps(edit(folder, skill=0.99)))
    with pytest.raises(UserError, match="altered: its skill"):
        board([tmp_path / "runs"])


def test_predictions_that_are_not_those_of_the_record_are_one_sentence(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    first, wave = (next((tmp_path / "runs" / task).rglob("predictions.npz")) for task in ("toy-first", "toy-wave"))
    wave.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=r"does not fit its record|altered"):
        board([tmp_path / "runs"])
    wave.write_bytes(b"PK")
    with pytest.raises(UserError, match="missing or damaged"):
        board([tmp_path / "runs"])


def test_a_task_in_another_version_or_from_elsewhere_verifies_nothing(runs, monkeypatch):
    entry = TASKS._entries["toy-wave"]
    monkeypatch.setitem(
        TASKS._entries, "toy-wave", replace(entry, value=replace(entry.value, version=entry.value.version + 1))
    )
    monkeypatch.delitem(TASKS._aliases, "toy-text")
    frame = seqbench.load_results(runs).set_index("task")["verified"]
    assert frame.to_dict() == {"toy-first": True, "toy-wave": False, "toy-text": False}


def test_figures_are_computed_again_without_torch(runs):
    code = (
        "import sys; from seqbench import load_plugin, load_results; "
        f"load_plugin({str(ROOT / 'tests' / 'toys.py')!r}); frame = load_results({str(runs)!r}); "
        "assert frame['verified'].all() and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

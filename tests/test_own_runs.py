"""Runs of one's own: what must not be read, what must not straddle a split, and what is said of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqbench.baselines import BASELINES
from seqbench.config import DataOptions
from seqbench.errors import UserError
from seqbench.files.kinds import chosen_task
from seqbench.files.runs import NumberOptions
from seqbench.prepare import prepare
from seqbench.task import TASKS, Source


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def prepared(frame, task="classify-series", test=None, **options):
    """The data of a frame as a file."""
    frame.to_csv("d.csv", index=False)
    if test is not None:
        test.to_csv("t.csv", index=False)
    options = {"target": "state", "sequence_length": 5, **options}
    return prepare(task, options, "path", data="d.csv", test=None if test is None else "t.csv").data


def noise(n=24, samples=20, seed=0, **columns):
    """Runs of noise, sorted by a state that nothing tells; ``columns`` map (run, step) to further columns."""
    rng, rows = np.random.default_rng(seed), []
    for run in range(n):
        for step in range(samples):
            more = {name: of(run, step) for name, of in columns.items()}
            rows.append({"run": f"r{run}", "state": "ab"[run >= n // 2], "vib": rng.normal(), **more})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (lambda run, step: 1000 + run, "from run to run"),  # a serial number
        (lambda run, step: 1.7e9 + 977.3 * run + 1.1 * step + 0.01 * (step % 3), "from run to run"),  # a clock
        (lambda run, step: -(50 * run + step % 7), "from run to run"),
        (lambda run, step: (run * 7919) % 1013, "it numbers the runs"),
        (lambda run, step: step + 1, "counts the rows of each run"),
        (lambda run, step: (step * 7) % 20, "counts the rows of each run"),  # in another order
        (lambda run, step: int(run >= 12), "alone tells the label"),
        (lambda run, step: 3.5, "in every row"),
    ],
    ids=["serial", "clock", "backwards", "id", "count", "shuffled count", "copy", "constant"],
)
def test_a_column_that_says_where_a_row_stands_is_left_out(of, why):
    data = prepared(noise(other=of))
    assert data.features == ("vib",)
    (note,) = [note for note in data.notes if note.startswith("columns not read")]
    assert "other (" in note and why in note
    kept = prepared(noise(other=of), features="vib,other") if why != "in every row" else None
    assert kept is None or kept.features == ("vib", "other")  # the advice can be taken


def test_measurements_are_read(tmp_path):
    rng = np.random.default_rng(3)
    setting = rng.normal(size=24)  # of each run, in no order
    data = prepared(noise(temperature=lambda run, step: 20 + step**0.5 + run % 5, setting=lambda run, _: setting[run]))
    assert data.features == ("vib", "temperature", "setting")


@pytest.mark.parametrize("of", [lambda left: left**2, lambda left: np.minimum(left, 12), lambda left: 3 - 2 * left])
def test_the_target_in_other_numbers_is_left_out(of):
    left = np.tile(np.arange(20)[::-1], 24)
    frame = noise().assign(left=left, other=of(left)).drop(columns="state")
    data = prepared(frame, "regress-series", target="left")
    assert data.features == ("vib",) and any("other (it is the target in other numbers" in note for note in data.notes)


def test_a_group_that_changes_within_runs_joins_them():
    """No row stands on both sides."""
    frame = noise(30, 40)
    frame["state"] = np.where(np.arange(len(frame)) // 40 % 2, "a", "b")
    frame["operator"] = [f"o{run // 3}" if step < 20 else f"p{run // 3}" for run in range(30) for step in range(40)]
    data = prepared(frame, group="operator")
    rows = {part: {tuple(row) for row in split.series[:, 0:1].tolist()} for part, split in data.splits.items()}
    assert not (rows["train"] & rows["test"] or rows["train"] & rows["val"] or rows["val"] & rows["test"])
    assert sum(len(np.unique(split.groups)) for split in data.splits.values()) == 10


def test_a_group_without_runs_is_refused_with_advice_that_works():
    frame = noise(6, 60).assign(time=np.arange(360)).rename(columns={"run": "room"})
    frame["state"] = np.where(np.arange(360) % 3 == 0, "a", "b")
    with pytest.raises(UserError, match="--run room"):
        prepared(frame, time="time", group="room")
    assert prepared(frame, time="time", run="room").classes == ("a", "b")


def test_runs_of_the_test_file_train_nothing():
    frame = noise(20).assign(state=lambda rows: np.where(rows["run"].str[1:].astype(int) % 2, "a", "b"))
    half = frame[frame["run"].str[1:].astype(int) >= 14]
    data = prepared(frame, test=half)
    assert any("left out because they share a group" in note for note in data.notes)
    assert len(data.test) == 6 * 16 and len(data.train) + len(data.val) == 14 * 16
    series = noise(1, 300).assign(time=np.arange(300), state=["ab"[i % 2] for i in range(300)])
    with pytest.raises(UserError, match="times of --test are in the other file, too"):
        prepared(series, test=series[200:], run="", time="time")


def test_what_is_odd_in_the_test_file_is_told():
    frame = noise(20).assign(state=lambda rows: np.where(rows["run"].str[1:].astype(int) % 2, "a", "b"))
    later = noise(6, seed=9).assign(run=lambda rows: "t" + rows["run"], state="a")
    later.loc[[3, 50], "vib"] = -9999.0
    told = " ".join(prepared(frame, test=later).notes)
    assert "WARNING: of the test lie more than 10 training deviations from the mean: 2 of vib" in told
    assert "--missing=-9999" in told
    assert "WARNING: of the test" not in " ".join(prepared(frame, test=later, missing="-9999").notes)


def test_rows_come_in_order_of_time():
    frame = noise().assign(t=lambda rows: rows.groupby("run").cumcount())
    frame["state"] = np.where(frame["run"].str[1:].astype(int) % 2, "a", "b")
    straight = prepared(frame, time="t")
    mixed = prepared(pd.concat([rows[::-1] for _, rows in frame.groupby("run", sort=False)]), time="t")
    assert np.array_equal(straight.train.series, mixed.train.series)
    assert any("rows are put in order of t" in note for note in mixed.notes)
    with pytest.raises(UserError, match=r"line 482, column .t.: the time is that of line 2: keep one"):
        prepared(pd.concat([frame, frame[:1]]), time="t")


def test_labels_that_are_missing_are_left_out_and_counted():
    frame = noise().assign(state=lambda rows: np.where(rows["run"].str[1:].astype(int) % 2, "a", "b"))
    frame.loc[::10, "state"] = None
    data = prepared(frame)
    assert any(note.startswith("24 windows end where state is missing") for note in data.notes)
    tags = prepared(frame, "tag-series")
    assert any("48 steps without a label are read and not scored" in note for note in tags.notes)
    assert sum(split.n_scored for split in tags.splits.values()) == 24 * 20 - 48


def test_a_label_between_the_ends_of_tiles_counts():
    frame = noise().assign(state=["peak" if i % 5 == 2 else "low" for i in range(480)])
    data = prepared(frame, "tag-series")
    assert data.classes == ("low", "peak") and any("peak 20.0%" in note for note in data.notes)


@pytest.mark.parametrize(
    ("columns", "target", "task"),
    [
        ({"date": pd.date_range("2024-01-01", periods=60), "count": np.arange(60) % 7}, "count", "forecast-series"),
        ({"date": pd.date_range("2024-01-01", periods=60), "x": np.arange(60) / 8 % 1}, "x", "forecast-series"),
        ({"date": pd.date_range("2024-01-01", periods=60), "co2": np.sin(np.arange(60)), "on": np.arange(60) % 2}, "on",
         "classify-series"),
        ({"remark": ["seen by nobody at all"] * 30, "sequence": [" ACGTTGCAACGT "] * 30, "kind": ["a", "b"] * 15},
         "kind", "classify-dna"),
        ({"bases": ["ACGTT GCAAC GTACG"] * 30, "kind": ["a", "b"] * 15}, "kind", "classify-dna"),
        ({"url": ["https://example.org/r/123"] * 30, "review_text": ["a fine film"] * 30, "s": ["a", "b"] * 15},
         "s", "classify-text"),
    ],
)  # fmt: skip
def test_the_kind_is_told_by_what_the_columns_hold(columns, target, task):
    pd.DataFrame(columns).to_csv("d.csv", index=False)
    assert chosen_task("", DataOptions(data="d.csv", target=target), print)[0] == task


def test_two_columns_of_texts_are_asked_about():
    pd.DataFrame({"headline": ["something went wrong here"] * 9, "story": ["it was a long and quiet day"] * 9,
                  "topic": list("abcabcabc")}).to_csv("d.csv", index=False)  # fmt: skip
    with pytest.raises(UserError, match="'headline', 'story' could each hold what is read: --features"):
        chosen_task("", DataOptions(data="d.csv", target="topic"), print)
    _, chosen = chosen_task("", DataOptions(data="d.csv", target="topic", features="story"), print)
    assert chosen.task_options["features"] == "story"


def test_a_table_without_a_tables_name_is_told_what_it_needs(tmp_path):
    (tmp_path / "train_FD001.txt").write_text("1 1 0.5\n1 2 0.6\n")
    with pytest.raises(UserError, match=r"--target names a column: give it a name that ends in \.csv"):
        chosen_task("", DataOptions(data="train_FD001.txt", target="RUL"), print)


def test_one_training_run_and_several_test_runs_share_no_window():
    """A training file of one run is a series; the runs of the test stay apart all the same."""
    one = noise(1, 120).assign(state=["ab"[i // 7 % 2] for i in range(120)])
    later = noise(4, 10, seed=5).assign(state=["ab"[i % 2] for i in range(40)], run=lambda rows: "t" + rows["run"])
    data = prepared(one, test=later)
    assert len(data.test) == 4 * (10 - 5 + 1)  # of each test run all windows, and none over a border
    with pytest.raises(UserError, match="120 rows of --test are in the other file, too"):
        prepared(one, test=one)


def test_words_for_nothing_are_no_labels():
    frame = noise().assign(state=lambda rows: np.where(rows["run"].str[1:].astype(int) % 2, "a", "b"))
    frame.loc[::10, "state"] = ["NA", "null", "NaN"] * 16
    assert prepared(frame).classes == ("a", "b")


def test_the_number_of_the_row_before_is_read_where_it_is_known_by_then():
    rng = np.random.default_rng(8)
    frame = noise().drop(columns="state")
    frame["level"] = frame.groupby("run")["vib"].cumsum() + 0.01 * rng.normal(size=len(frame))
    data = prepared(frame, "regress-series", target="level", past="true")
    assert data.features == ("level one row before", "vib", "no_level one row before")
    assert "level one row before" not in prepared(frame, "regress-series", target="level").features
    test, fitted = data.test, data.fitted
    read = test[np.arange(len(test))].inputs[:, -1, 0] * fitted["deviation"][0] + fitted["mean"][0]
    rows = test.meta["row"]
    assert read == pytest.approx(frame["level"].to_numpy()[rows - 1], abs=1e-5)  # never that of the row itself
    last = BASELINES.get("last-value").fit(data.train, data.val, data)(test)
    assert last * fitted["scale"] + fitted["offset"] == pytest.approx(frame["level"].to_numpy()[rows - 1], abs=1e-5)
    with pytest.raises(UserError, match="leave past out"):
        prepared(frame.assign(level=frame["run"].str[1:].astype(float)), "regress-series", target="level", past="true")
    frame.to_csv("n.csv", index=False)
    encoded = TASKS.get("regress-series").encode
    options = NumberOptions(target="level", past=True, sequence_length=5)
    new = encoded(Source("path", {"file": Path("n.csv")}), options, data.reading)
    assert np.array_equal(new.split[rows_at(new, rows)].inputs[:, -1], test[np.arange(len(test))].inputs[:, -1])


def rows_at(new, rows):
    """Which of the new windows end at these rows of the file (from 0)."""
    return np.searchsorted(new.columns["row"], rows + 1)

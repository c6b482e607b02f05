"""Data of one's own from Python: DataFrames, predictions in their own units, and what a notebook shows."""

import io

import numpy as np
import pandas as pd
import pytest
from own_files import reviews, sequences
from test_kinds import engines, load_curve, states

import seqbench
from seqbench.errors import UserError

SMALL = {"model": "gru", "budget": "smoke", "hidden": 8, "progress": False}
SERIES = {"target": "OT", "horizon": 6, "sequence_length": 24}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, few_trees):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def rmse(predicted, true):
    return float(np.sqrt(np.mean((np.asarray(predicted) - np.asarray(true)) ** 2)))


def test_a_data_frame_is_data_and_the_result_knows_its_predictions():
    frame = load_curve().set_index("date")
    own = seqbench.run(data=frame, **SERIES, **SMALL)
    assert own.status == "ok" and own.task.name == "forecast-series" and own.task.dataset == "DataFrame"
    assert own.folder.is_dir() and isinstance(own, seqbench.Record)
    table = own.predictions
    ahead = [table[[f"{what}_{step}" for step in range(1, 7)]] for what in ("step", "true")]
    assert rmse(*ahead) == pytest.approx(own.primary.value, rel=1e-5)
    assert 0 < table["true_1"].mean() < 20  # in the units of the frame
    for shown in (repr(own), own._repr_html_()):
        assert "ridge" in shown and "columns read: OT, HUFL, MUFL" in shown and "forecasts are relative" in shown
    again = seqbench.run(data=frame.copy(), options=SERIES, **SMALL)
    assert again.key == own.key  # the same content, the same result


def test_numbers_and_labels_of_every_step_come_in_their_own_words(tmp_path):
    left = seqbench.run(data=engines(), target="RUL", kind="regress", run="unit_number", **SMALL)
    assert rmse(left.predictions["value"], left.predictions["true"]) == pytest.approx(left.primary.value, rel=1e-5)
    (tmp_path / "states.csv").write_text(states())
    tags = seqbench.run(data=tmp_path / "states.csv", target="state", kind="tag", **SMALL)
    table = tags.predictions
    assert set(table["true"]) == {"idle", "busy"} and len(table) == tags.metrics["test"]["n_scored"]
    assert (table["label"] == table["true"]).mean() == pytest.approx(tags.metrics["test"]["accuracy"])


def test_new_rows_are_predicted_from_a_frame_a_file_or_a_folder(tmp_path):
    frame = load_curve()
    own = seqbench.run(data=frame, **SERIES, **SMALL)
    ahead = seqbench.predict(own, frame[-30:])
    assert len(ahead) == 30 - 24 + 1 and str(ahead["date"].iloc[-1]).startswith("2016-08-07")
    frame[-30:].to_csv(tmp_path / "new.csv", index=False)
    same = seqbench.predict(own.folder, tmp_path / "new.csv")
    assert np.allclose(ahead["step_6"], same["step_6"], atol=1e-4)
    with pytest.raises(UserError, match="OT"):
        seqbench.predict(own, frame[["date", "HUFL"]])
    alone = seqbench.api.Results((own,), (own.folder,))
    assert len(seqbench.predict(alone, frame[-30:])) == len(ahead)
    twice = seqbench.api.Results((own, own), (own.folder, own.folder))
    for result, data, words in (
        (twice, frame, "these are 2 runs: give one of them"),
        (own, frame["OT"], "no Series: to_frame"),
        (own, [1, 2], "no list"),
        (5, frame, "5 is no trained model"),
    ):
        with pytest.raises(UserError, match=words):
            seqbench.predict(result, data)


def test_a_grid_on_a_frame_has_one_table_of_predictions():
    results = seqbench.run(data=load_curve(), **SERIES, **{**SMALL, "model": ["gru", "rnn"]}, name="curve")
    table = results.predictions
    assert set(table["model"]) == {"gru", "rnn"} and len(table) == 2 * len(results[0].predictions)
    assert [table.title.split(" · ")[0] for table in seqbench.leaderboard(results).tables] == ["curve"]


def test_a_second_frame_is_the_test_set():
    frame = engines(15)
    test = frame["unit_number"] > 12
    both = {"data": frame[~test], "test": frame[test], "target": "RUL", "kind": "regress"}
    own = seqbench.run(**both, **SMALL)
    split = frame.assign(part=np.where(test, "Test", "train"))
    same = seqbench.run(data=split, split="part", target="RUL", kind="regress", **SMALL)
    counts = [(one.task.n_train, one.task.n_val, one.task.n_test) for one in (own, same)]
    assert counts[0] == counts[1] and own.task.about.groups["test"] == 3
    assert own.primary.value == same.primary.value


def test_periods_are_times_and_columns_may_be_numbers():
    frame = load_curve().set_index("date")
    named = frame.set_axis(range(frame.shape[1]), axis=1)
    target, other = map(list(frame.columns).index, ("OT", "HUFL"))
    more = {"target": target, "features": [other], "horizon": 6, "sequence_length": 24}
    shown = seqbench.show(data=named.set_axis(named.index.to_period("h")), **more)
    assert any(f"columns read: {target}, {other}" in note for note in shown.about["notes"])
    assert shown.about["sizes"] == seqbench.show(data=named, **more).about["sizes"]


def test_predictions_of_texts_and_sequences_can_be_joined_with_the_data(tmp_path):
    frame = pd.read_csv(io.StringIO("text,label\n,pos\n" + reviews().split("\n", 1)[1]))
    own = seqbench.run(data=frame, **SMALL)
    table = own.predictions
    assert list(frame.iloc[table["row"]]["label"]) == list(table["true"]) and table["row"].is_unique
    (tmp_path / "a.fasta").write_text(sequences())
    table = seqbench.run(data=tmp_path / "a.fasta", **SMALL).predictions
    assert list(table["row"] % 2) == list((table["true"] == "tata").astype(int))
    with np.load(own.folder / "predictions.npz") as kept:  # as earlier versions wrote it
        np.savez(tmp_path / "old.npz", **{name: kept[name] for name in kept.files if name != "meta_row"})
    (tmp_path / "old.npz").replace(own.folder / "predictions.npz")
    assert "row" not in own.predictions


def test_show_is_what_data_show_prints():
    shown = seqbench.show(data=load_curve(), **SERIES)
    assert shown.about["kind"] == "forecast" and "seasonal-naive" in repr(shown) and "<table>" in shown._repr_html_()
    assert seqbench.show("toy-wave").about["task"] == "toy-wave"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data": 7}, "--data is the path of a file"),
        ({"data": pd.DataFrame({("a", "b"): [1.0]})}, "several levels of columns"),
        ({"data": pd.DataFrame({"b": [1], "a": [object()]})}, "can't be written as a table: column 'a' "),
        ({"data": pd.DataFrame({"b": 1, "a": [1, "x"]})}, "column 'a' holds int and str: convert it with astype"),
        (
            {"data": pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)})},
            "column 'a' of the DataFrame holds half a",
        ),
        ({"data": load_curve(), "hiden": 8}, "there is no option hiden: did you mean hidden"),
        ({"data": load_curve(), "task": "forecast-series", "lr": 1}, "it is called learning_rate here"),
        ({"data": load_curve(), "name": 5}, "--name 5 is no text"),
        ({"data": load_curve(), "target": "OTT"}, "DataFrame.parquet has no column .OTT.: did you mean"),
        ({"data": load_curve(), "target": "OT", "kind": "guess"}, "kind"),
        ({"data": load_curve(), "target": "OT", "horizn": 3}, "did you mean horizon"),
        ({"data": load_curve(), "task": "dna,weather"}, "leave task out"),
        ({"task": "weather", "name": "x"}, "--name is for a file of your own"),
        ({}, "data of your own"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mistake_is_one_sentence(more, words):
    with pytest.raises(UserError, match=words) as refused:
        seqbench.run(**{**SMALL, **more})
    assert "\n" not in str(refused.value)


def test_without_a_model_it_is_asked_for():
    with pytest.raises(UserError, match="which model"):
        seqbench.run("weather")


def test_a_published_split_of_a_series_comes_out_as_published():
    frame = load_curve()
    words = np.select([frame.index < 500, frame.index < 700], ["train", "val"], "test")
    own = seqbench.run(data=frame.assign(part=words), split="part", **SERIES, **SMALL)
    two = seqbench.run(data=frame[:700], test=frame[700:], options={"val": 200 / 700}, **SERIES, **SMALL)
    assert own.metrics["test"] == two.metrics["test"] and own.task.n_test == two.task.n_test
    assert "the split is that of column 'part'." in own.task.about.notes
    assert "part" not in own.task.about.features
    with pytest.raises(UserError, match="do not follow each other in time"):
        seqbench.run(data=frame.assign(part=words[::-1]), split="part", **SERIES, **SMALL)
    with pytest.raises(UserError, match="must begin after the other ends"):
        seqbench.run(data=frame[200:], test=frame[:200], **SERIES, **SMALL)


def test_a_stored_result_that_was_altered_is_refused():
    words = {"data": load_curve(), **SERIES, **SMALL}
    record = seqbench.run(**words).folder / "record.json"
    record.write_text(record.read_text().replace('"mae": ', '"mae": 9'))
    with pytest.raises(UserError, match="altered"):
        seqbench.run(**words)

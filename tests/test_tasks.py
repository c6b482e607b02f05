"""The same rules once more, checked independently on each built-in task's own data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqbench import Source, Windows
from seqbench.prepare import fit_baselines, prepare
from seqbench.task import TASKS, parse_options

TABLE = Path(__file__).resolve().parents[1] / "tasks" / "data" / "weather.parquet"


@pytest.fixture(scope="module")
def prepared():
    return {name: prepare(name, {}) for name in ("dna", "textgen", "weather")}


# dna ------------------------------------------------------------------------------------------------------------------


def letters(rows):
    return ["".join("ACGT"[base] for base in row) for row in rows]


def test_dna_shares_no_core_with_training_on_any_window():
    """Honesty rule 3 with plain strings, on the full windows of 400 bases."""
    data = prepare("dna", {"sequence_length": 400}).data
    training = letters(data.train.inputs)
    for part in ("val", "test"):
        cores = {text[190:210] for text in letters(data.splits[part].inputs)}
        assert not any(text[at : at + 20] in cores for text in training for at in range(381))


def test_dna_crops_keep_the_site_in_the_middle(prepared):
    short, long = prepared["dna"].data, prepare("dna", {"sequence_length": 400}).data
    assert np.array_equal(short.test.inputs, long.test.inputs[:, 160:240])
    middle = [text[39:41] for text in letters(short.train.inputs)]
    found = {
        label: {pair for pair, target in zip(middle, short.train.targets, strict=True) if target == i}
        for i, label in enumerate(short.classes)
    }
    assert found == {"donor": {"GT"}, "acceptor": {"AG"}, "neither": {"GT", "AG"}}


def test_dna_has_decoys_of_both_kinds_alike_in_every_split(prepared):
    for split in prepared["dna"].data.splits.values():
        shares = np.bincount(split.targets) / len(split)
        assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


# weather --------------------------------------------------------------------------------------------------------------


def weather_with(monkeypatch, change):
    """The weather task's data with ``change`` made to the shipped table."""
    spec = TASKS.get("weather")
    read = pd.read_parquet
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_parquet", lambda path: change(read(path)))
        return spec.load(Source(), parse_options(spec, {}))


@pytest.mark.parametrize("since", ["2013-09-11", "2013-11-06"])
def test_weather_training_knows_nothing_of_what_comes_later(monkeypatch, prepared, since):
    """Scrambling everything after a border changes no array before it: scales and fillings come from the past."""

    def scramble(table):
        later = table["time"] >= pd.Timestamp(since, tz="UTC")
        table.loc[later, ["temp", "dewp", "humid", "pressure", "wind_speed"]] *= 0.5
        return table

    changed = weather_with(monkeypatch, scramble)
    parts = ("train",) if since == "2013-09-11" else ("train", "val")
    for part in parts:
        for field, array in prepared["weather"].data.splits[part].arrays().items():
            assert np.array_equal(array, changed.splits[part].arrays()[field]), (part, field)
    assert not np.array_equal(prepared["weather"].data.test.series, changed.test.series)


def test_weather_inputs_hold_nothing_from_later_hours():
    """Changing one hour's report changes no input row of an earlier hour."""
    moment = pd.Timestamp("2013-03-05 12:00", tz="UTC")

    def change(table):
        at = (table["time"] == moment) & (table["origin"] == "EWR")
        table.loc[at, ["temp", "pressure"]] = np.nan
        return table

    from seqbench.tasks.weather import featurise, read_airport

    table = pd.read_parquet(TABLE)
    before, after = (featurise(read_airport(rows, "EWR"), "EWR") for rows in (table, change(table.copy())))
    index = int((moment - table["time"].min()).total_seconds() // 3600)
    assert np.flatnonzero((before != after).any(axis=1)).min() == index


def test_weather_windows_have_real_targets_and_stay_inside_their_airport(prepared):
    data = prepared["weather"].data
    for split in data.splits.values():
        assert isinstance(split, Windows)
        length = len(split.series) // 3
        last = split.starts + split.lookback + split.horizon - 1
        assert (split.starts // length == last // length).all()
        flags = split.series[:, data.features.index("no_report")]
        at = split.starts[:, None] + split.lookback + np.arange(split.horizon)
        assert len(np.unique(flags[at])) == 1  # every target hour has a report


def test_weather_is_in_celsius(prepared):
    """Persistence one hour ahead errs by what it does in the raw table."""
    scores = fit_baselines(prepared["weather"])["persistence"]["test"]
    table = pd.read_parquet(TABLE)
    late = table[table["time"] >= pd.Timestamp("2013-11-05", tz="UTC")]
    steps = late.sort_values(["origin", "time"]).groupby("origin")["temp"].diff().dropna() / 1.8
    assert scores["rmse_1h"] == pytest.approx(np.sqrt((steps**2).mean()), rel=0.05)


def test_weather_folds_move_back_in_time():
    ends = [prepare("weather", {"fold": fold}).data.test.meta["hour"].size for fold in (0, 1)]
    notes = [prepare("weather", {"fold": fold}).data.notes[0] for fold in (0, 1)]
    assert min(ends) > 3000 and notes[0] != notes[1] and "to 2013-11-04" in notes[1]


# textgen --------------------------------------------------------------------------------------------------------------


def test_textgen_splits_are_contiguous_and_in_order(prepared):
    from seqbench.tasks.textgen import bible_text

    data = prepared["textgen"].data
    text = "".join(data.vocabulary[token] for split in data.splits.values() for token in split.tokens)
    assert text == bible_text()
    assert len(data.train.tokens) == int(0.9 * len(text))


def test_textgen_takes_its_vocabulary_from_training_only(monkeypatch):
    import seqbench.tasks.textgen as module

    text = "abc " * 500
    monkeypatch.setattr(module, "bible_text", lambda: text[:1900] + "z" * 100)
    data = module.load(Source(), module.Options(sequence_length=16))
    assert data.vocabulary == ("�", " ", "a", "b", "c")
    assert (data.test.tokens == 0).all() and "100 test characters" in data.notes[1]

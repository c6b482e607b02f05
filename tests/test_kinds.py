"""A file or a DataFrame of one's own as a task by itself: the kind is told from it, and the first result is right."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from own_files import book, chains_file, reviews, runs, sequences
from test_pairs import tsv

import seqbench
from seqbench.cli import main
from seqbench.config import DataOptions
from seqbench.errors import UserError
from seqbench.files.kinds import chosen_task
from seqbench.jobs.record import RunRecord

SMALL = ("--model", "gru", "--budget", "smoke", "--hidden", "8")


def load_curve(n=900, named="OT"):
    """A daily cycle with noise by the hour, and two loads that lead it."""
    rng, t = np.random.default_rng(1), np.arange(n)
    load = np.sin(2 * np.pi * t / 24) + 0.1 * rng.normal(size=n)
    times = pd.date_range("2016-07-01", periods=n, freq="h")
    return pd.DataFrame({"date": times, "HUFL": np.roll(load, -1), "MUFL": load**2, named: 10 + 5 * load})


def engines(n=12, longest=60):
    """Runs of different lengths to failure, with a column of the cycles that remain."""
    rng, parts = np.random.default_rng(2), []
    for unit in range(1, n + 1):
        length = int(rng.integers(25, longest))
        left = np.arange(length)[::-1]
        wear = 1 - left / longest + 0.02 * rng.normal(size=length)
        sensors = {"s1": wear, "s2": 5 - wear**2, "s3": rng.normal(size=length), "setting": 100.0}
        parts.append(pd.DataFrame({"unit_number": unit, "cycle": np.arange(1, length + 1), **sensors, "RUL": left}))
    return pd.concat(parts, ignore_index=True)


def household(n=900):
    """Date and time of day in two columns, semicolons, and question marks where the meter said nothing."""
    rng, t = np.random.default_rng(3), np.arange(n)
    power = 2 + np.sin(2 * np.pi * t / 24) + 0.1 * rng.normal(size=n)
    times = pd.date_range("2006-12-16 17:00", periods=n, freq="h")
    lines = ["Date;Time;Global_active_power;Voltage"]
    for i, (time, value) in enumerate(zip(times, power, strict=True)):
        cells = ("?", "?") if i % 97 == 50 else (f"{value:.3f}", f"{240 + value:.2f}")
        lines.append(f"{time:%d/%m/%Y};{time:%H:%M:%S};{';'.join(cells)}")
    return "\n".join(lines) + "\n"


def states(n=12, samples=60):
    """Runs in which the state changes midway: a label for every sample."""
    rng, lines = np.random.default_rng(4), ["run,a,b,state"]
    for run in range(n):
        change = int(rng.integers(15, 45))
        for step in range(samples):
            state = int(step >= change)
            lines.append(f"r{run},{state + 0.2 * rng.normal():.3f},{rng.normal():.3f},{('idle', 'busy')[state]}")
    return "\n".join(lines) + "\n"


def rated(n=200):
    """Texts with a mark that one word in them decides, and numbers of many values."""
    rng, lines = np.random.default_rng(6), ["text,stars"]
    for _ in range(n):
        good = int(rng.integers(0, 30))
        words = [*rng.choice(["plot", "film", "scene", "music"], 6), *["great"] * (good // 3)]
        lines.append(f"{' '.join(rng.permutation(words))},{good + rng.normal(0, 0.1):.2f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def own(tmp_path, monkeypatch, few_trees):
    """An empty working folder and cache; ``own(name, content)`` writes a file there and gives its path."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        text = content.to_csv(index=False) if isinstance(content, pd.DataFrame) else content
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


FILES = {  # those of the guide, made small: content, task, and options that fit its size
    "ETTh1.csv": (load_curve(1300), "forecast-series", []),
    "power.csv": (household(), "forecast-series", ["--sequence-length", "24"]),
    "reviews.csv": (reviews().replace("text,label", "review,sentiment"), "classify-text", []),
    "splice.fasta": (sequences(), "classify-dna", []),
    "machine.csv": (runs(), "classify-series", ["--sequence-length", "10"]),
    "turbofan.csv": (engines(), "regress-series", []),
    "states.csv": (states(), "tag-series", []),
    "chains.fasta": (chains_file(), "tag-protein", []),
    "book.txt": (book(), "generate-text", ["--sequence-length", "32", "--option", "val=0.1", "--option", "test=0.1"]),
    "rated.csv": (rated(), "regress-text", []),
    "pairs.tsv": (tsv(), "translate-text", ["--option", "pieces=300"]),
}
GUIDE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8").partition("`--budget smoke` takes seconds")[0]
COMMANDS = {
    next(word for word in words if word in FILES): words
    for words in map(shlex.split, re.findall(r"`python run_bench.py (--data [^`]*)`", GUIDE))
}


@pytest.mark.parametrize("name", FILES)
def test_one_command_of_the_guide_gives_a_first_result_and_says_what_was_read(own, capsys, name):
    content, task, more = FILES[name]
    own(name, content)
    model = COMMANDS[name].index("--model")
    words = [*COMMANDS[name][:model], *more]
    assert main([*words, "--model", COMMANDS[name][model + 1], "--budget", "smoke", "--hidden", "8"]) == 0
    out, err = capsys.readouterr()
    (record,) = seqbench.Store("results/local").records(RunRecord)
    about = record[0].task
    assert (about.name, about.dataset, about.source) == (task, name.partition(".")[0], "path")
    assert f"--kind {about.kind}" in err and f"{about.dataset} ({task})" in out
    assert f"{name}: {name}" not in err and f"{about.dataset} {record[0].model.name}: training for" in err
    for note in about.about.notes:
        assert note.split()[0] in out
    assert record[0].status == "ok" and len(record[0].baselines) >= 2
    assert main(["data", "show", *words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert tuple(shown["notes"]) == about.about.notes and shown["task"] == task
    assert [row["examples"] for row in shown["sizes"]] == [about.n_train, about.n_val, about.n_test]


def test_the_board_calls_data_sets_by_their_names_and_averages_over_none(own, capsys):
    for name, shift in (("north.csv", 0.0), ("south.csv", 1.0)):
        frame = load_curve().assign(OT=lambda rows, shift=shift: rows["OT"] + shift)
        words = ["--target", "OT", "--horizon", "6", "--sequence-length", "24"]
        assert main(["--data", own(name, frame), *words, *SMALL]) == 0
    capsys.readouterr()
    board = seqbench.leaderboard("results/local")
    assert [table.title.split(" · ")[0] for table in board.tables] == ["north", "south"]
    text = board.markdown()
    assert "Overview" not in text and "## north · smoke" in text and "## south · smoke" in text


def test_a_name_is_said_or_that_of_the_file(own, capsys):
    words = ["--target", "OT", "--horizon", "6", "--sequence-length", "24", *SMALL]
    assert main(["--data", own("a.csv", load_curve()), "--name", "Load of the <north>", *words]) == 0
    assert "Load of the <north> (forecast-series)" in capsys.readouterr().out
    text = seqbench.leaderboard("results/local").markdown()
    assert "<north>" not in text
    assert main(["--data", "a.csv", "--name", "another", *words]) == 0
    assert "stored under the name Load of the <north>; --force runs" in capsys.readouterr().err
    ((kept, folder),) = seqbench.Store("results/local").records(RunRecord)
    raw = json.loads(kept.to_json())
    raw["metrics"]["test"]["mae"] *= 0.5
    (folder / "record.json").write_text(json.dumps(raw))
    assert main(["--data", "a.csv", *words]) == 2 and "altered: its mae" in capsys.readouterr().err
    assert main(["--data", "a.csv", "--name", "two\nlines", *words]) == 2
    assert main(["--task", "weather", "--name", "x", *SMALL]) == 2


@pytest.mark.parametrize(
    ("frame", "more", "expected"),
    [
        (load_curve(), {"target": "OT"}, "forecast-series"),
        (load_curve(), {"target": "OT", "kind": "regress", "time": "date"}, "regress-series"),
        (engines(), {"target": "RUL", "kind": "regress"}, "regress-series"),
        (engines(), {"target": "RUL", "kind": "classify"}, "classify-series"),
    ],
)
def test_the_kind_is_proposed_or_said(own, frame, more, expected):
    said = []
    path = own("d.csv", frame)
    task, options = chosen_task("", DataOptions(data=path, **more), said.append)
    assert task == expected and options.kind is None and "--kind" in said[0]
    assert ("numbers_as_classes=true" in options.option) == (more.get("kind") == "classify")


def test_many_numbers_are_no_classes_without_a_word(own):
    path = own("d.csv", engines())
    with pytest.raises(UserError, match=r"different ones: --kind regress .* --kind classify") as refused:
        chosen_task("", DataOptions(data=path, target="RUL"), print)
    for kind in ("regress", "classify"):  # each advice can be taken
        assert f"--kind {kind}" in str(refused.value)
        chosen_task("", DataOptions(data=path, target="RUL", kind=kind), print)


def test_what_can_not_be_told_is_asked_for(own):
    with pytest.raises(UserError, match=r"--target COLUMN; d.csv has: unit_number, cycle"):
        chosen_task("", DataOptions(data=own("d.csv", engines().drop(columns="RUL"))), print)
    with pytest.raises(UserError, match="classify or regress, not forecast"):
        chosen_task("", DataOptions(data=own("s.fasta", sequences()), kind="forecast"), print)
    with pytest.raises(UserError, match="is no table by its name"):
        chosen_task("", DataOptions(data=own("b.txt", book()), kind="regress"), print)
    with pytest.raises(UserError, match="of kind classify, not forecast"):
        chosen_task("sentiment", DataOptions(data="b.txt", kind="forecast"), print)


def expressed(n=200):
    """Sequences whose number is how often they hold a motif."""
    rng, lines = np.random.default_rng(7), []
    for i in range(n):
        count = int(rng.integers(0, 5))
        letters = "".join(rng.choice(list("ACGT"), 60)) + "TATAAA" * count
        lines += [f">s{i} label={count + rng.normal(0, 0.1):.3f}", letters]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("name", "content"), [("rated.csv", rated()), ("expressed.fasta", expressed())])
def test_one_number_for_each_text_or_sequence(own, capsys, name, content):
    """Many numbers are asked about; the advice is taken, and simple rows beat the mean."""
    words = ["--data", own(name, content), *(["--target", "stars"] if name == "rated.csv" else [])]
    assert main([*words, *SMALL]) == 2 and "--kind regress" in capsys.readouterr().err
    assert main([*words, "--kind", "regress", *SMALL]) == 0
    ((record, folder),) = seqbench.Store("results/local").records(RunRecord)
    assert record.baselines["ngram-ridge"] < 0.6 * record.baselines["mean"]
    assert main(["predict", str(folder), name, "--out", "p.csv"]) == 0
    assert len(pd.read_csv("p.csv")["value"]) == 200


def test_a_remark_beside_measurements_is_no_text_to_classify(own):
    frame = engines().assign(
        note="looked at by the night shift", state=lambda rows: np.where(rows["RUL"] < 9, "a", "b")
    )
    task, _ = chosen_task("", DataOptions(data=own("d.csv", frame), target="state"), print)
    assert task == "classify-series"


def test_settings_of_a_run_with_a_second_file_ask_for_it_and_keep_the_name(own, capsys):
    words = ["--data", own("a.csv", reviews()), "--test", own("b.csv", reviews(40)), "--name", "films"]
    assert main([*words, *SMALL]) == 0
    (found,) = seqbench.Store("results/local").records(RunRecord)
    assert found[0].task.test_file and main(["config", str(found[1]), "--out", "own.toml"]) == 0
    assert main(["run", "--config", "own.toml", "--data", "a.csv"]) == 2
    assert "give --test FILE" in capsys.readouterr().err
    assert main(["run", "--config", "own.toml", "--data", "a.csv", "--test", "b.csv"]) == 0
    assert "stored result" in capsys.readouterr().out and 'name = "films"' in Path("own.toml").read_text()

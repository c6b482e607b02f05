"""`--data FILE` and `predict`, from the command line to the record, and what is said of files that can't be used."""

import csv
import dataclasses
import json
import random
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from own_files import OWN, prices, reviews, runs, sequences, series

from seqbench.cli import main
from seqbench.config import parse_options_text
from seqbench.errors import UserError
from seqbench.prepare import cache_root, prepare
from seqbench.task import TASKS
from seqbench.training import DeviceSplit


@pytest.fixture
def own(tmp_path, monkeypatch, few_trees):
    """An empty working folder, a cache of its own, and ``own(task)`` to write a user's file and give its arguments."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(task, content=None, name=None):
        file, usual, options = OWN[task]
        path = tmp_path / (name or file)
        content = usual if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["--data", str(path), *(word for option in options for word in ("--option", option))]

    return write


def told(capsys, *words):
    """Exit code 2 and one sentence, of which the words are returned."""
    code = main([str(word) for word in words])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2, (code, said)
    lines = [line for line in said if line.startswith("seqbench:")]
    assert len(lines) == 1 and said[-1] == lines[0] and "Traceback" not in "".join(said)
    return lines[0]


def records():
    return list((cache_root().parent / "results").rglob("record.json"))


@pytest.mark.parametrize("task", OWN)
def test_each_task_runs_from_a_file_of_the_users_and_predicts_new_rows(own, tmp_path, capsys, task):
    data = own(task)
    assert main(["--task", task, *data, "--model", "gru", "--budget", "smoke", "--hidden", "8"]) == 0
    (path,) = records()
    record = json.loads(path.read_text())
    assert record["status"] == "ok" and record["task"]["source"] == "path"
    assert not any(str(tmp_path) in file.read_text(errors="ignore") for file in path.parent.iterdir())
    assert set(TASKS.get(task).at("path").references) <= set(record["baselines"])
    assert set(record["baselines"]) <= set(TASKS.get(task).at("path").baselines) and len(record["baselines"]) > 1
    out = tmp_path / "out.parquet"
    assert main(["predict", str(path), data[1], "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert f"{table.num_rows:,} predictions" in capsys.readouterr().out and table.num_rows
    for name in table.column_names:
        column = table[name].to_pylist()
        assert all(value is not None and value == value for value in column)
    if TASKS.get(task).kind == "classify":
        shares = np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("p_")])
        assert shares.sum(axis=0) == pytest.approx(1.0, abs=1e-5)


def test_the_record_names_the_hash_of_the_file_wherever_it_lies(own, tmp_path):
    import hashlib

    data = own("sentiment")
    command = ["--task", "sentiment", "--model", "rnn", "--budget", "smoke", "--hidden", "8"]
    assert main([*command, *data]) == 0
    (tmp_path / "deep").mkdir()
    moved = shutil.copy(data[1], tmp_path / "deep" / "renamed.csv")
    assert main([*command, "--data", str(moved)]) == 0
    (path,) = records()  # the same cell: neither the name nor the place is part of it
    digest = hashlib.sha256((tmp_path / "reviews.csv").read_bytes()).hexdigest()
    assert json.loads(path.read_text())["task"]["data_sha256"] == digest


def test_predictions_are_those_of_the_test_split(own, tmp_path):
    """The probabilities that `predict` writes for the texts of the test split are those stored with the record."""
    data = own("sentiment")
    assert main(["--task", "sentiment", *data, "--model", "bilstm", "--budget", "smoke", "--hidden", "8"]) == 0
    (path,) = records()
    with np.load(path.parent / "predictions.npz") as kept:
        stored = kept["prediction"]
    assert main(["predict", str(path.parent), data[1], "--out", "p.csv"]) == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    written = np.array([[float(row["p_neg"]), float(row["p_pos"])] for row in rows])
    found = [np.abs(written - row).max(axis=1).min() for row in stored]
    assert max(found) < 1e-5


def test_forecasts_are_in_the_units_of_the_file_and_reach_beyond_its_end(own, tmp_path):
    data = own("weather")
    assert main(["--task", "weather", *data, "--model", "gru", "--budget", "smoke", "--hidden", "8"]) == 0
    (path,) = records()
    assert main(["predict", str(path), data[1], "--out", "p.csv"]) == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert rows[-1]["time"].startswith("2020-02-07T11") and len(rows) == 900 - 24 + 1
    assert 10 < np.mean([float(row["step_6"]) for row in rows]) < 30


MISTAKES = [
    ("sentiment", reviews(header=("txt", "label")), "no column 'text'"),
    ("sentiment", reviews(header=("text", "stars")), "no column 'label'"),
    ("sentiment", "", "empty"),
    ("sentiment", "text,label\n", "no rows"),
    ("sentiment", reviews().replace("neg", "pos"), "one class only"),
    ("sentiment", reviews() + "a film,odd\n", "class 'odd' is in 1 group"),
    ("sentiment", "text,label\n,pos\nfine,\n", "no row has both"),
    ("sentiment", reviews() + "a,b,c\n", "line 122"),
    ("sentiment", reviews().encode() + b"caf\xe9,pos\n", "line 122"),
    ("sentiment", reviews() + "x" * 1_000_001 + ",pos\n", "line 122"),
    ("dna", sequences() + ">last label=tata\n\n", "line 241"),
    ("dna", sequences() + ">last label=tata\nACGT!\n", "line 242"),
    ("dna", sequences().replace(" label=tata", "").replace(" label=none", ""), "write label=NAME"),
    ("dna", sequences() + f">last label=tata\n{'A' * 1_000_001}\n", "line 241"),
    ("dna", sequences().replace("tata", "none"), "one class only"),
    ("weather", series() + "2019-12-31T00,20,50\n", "line 902"),
    ("weather", series() + "2020-02-07T11,20,50\n", "line 902"),
    ("weather", series() + "2020-02-07T12,warm,50\n", "line 902"),
    ("weather", series().replace("temp", "t"), "'temp'"),
    ("weather", "\n".join(f"{i * i},{i % 7}" for i in range(900)).join(["n,temp\n", "\n"]), "--time COLUMN"),
    ("weather", series(60), "too few"),
    ("weather", "\n".join(f"{i},1.0" for i in range(900)).join(["time,temp\n", "\n"]), "constant"),
    ("stock", prices() + "2014-01-01,1,1,1,1,1\n", "line 502"),
    ("stock", prices() + "2026-01-01,1,1,1,0,1\n", "line 502"),
    ("stock", prices(40), "too few"),
    ("fault", runs() + "r0,ok,1,1\n", "line 722"),
    ("fault", runs(6), "class 'ok' is in 2 runs"),
    ("fault", "run,label\n" + "r1,a\n" * 20, "there is nothing to read"),
    ("weather", series() + "2020-02-07T12,1e300,50\n", "line 902"),
    ("textgen", "abc", "too short"),
    ("textgen", "a" * 5000, "one character over and over"),
    ("textgen", b"abc \xff\xfe" * 900, "line 1"),
]


@pytest.mark.parametrize(
    ("task", "content", "words"), MISTAKES, ids=[f"{m[0]}-{m[2]}-{i}" for i, m in enumerate(MISTAKES)]
)
def test_a_bad_file_is_answered_in_one_sentence_and_leaves_nothing(own, capsys, task, content, words):
    said = told(capsys, "--task", task, "--model", "rnn", "--budget", "smoke", *own(task, content))
    assert words in said
    assert not records() and not list(cache_root().glob("*"))


def test_wrong_commands_about_files(own, tmp_path, capsys):
    data = own("sentiment")
    run = ("--task", "sentiment", "--model", "rnn", "--budget", "smoke")
    assert "absent.csv is not there" in told(capsys, *run, "--data", "absent.csv")
    assert "--data FILE" in told(capsys, *run, "--source", "path")
    assert "give one" in told(capsys, *run, *data, "--source", "hub")
    assert "data fetch sentiment" in told(capsys, *run, "--source", "hub")
    assert "option of task sentiment" in told(capsys, *run, *data, "--option", "labl=stars")
    assert "--target" in told(capsys, "--task", "weather", "--model", "rnn", *own("weather")[:2])
    assert "val" in told(capsys, *run, *data, "--option", "val=0.9")
    assert "give one" in told(capsys, *run, *data, "--option", "group=label", "--option", "time=label")
    assert not records()


def test_a_file_that_changes_while_it_is_read_is_refused(own, tmp_path, capsys, monkeypatch):
    data = own("sentiment")
    spec = TASKS.get("sentiment").at("path")

    def load(source, options):
        found = spec.load(source, options)
        with source.file.open("a") as file:
            file.write("one more,pos\n")
        return found

    task = TASKS.get("sentiment")
    changed = dataclasses.replace(task, variants={**task.variants, "path": {**task.variants["path"], "load": load}})
    monkeypatch.setattr(TASKS, "get", lambda name: changed)
    with pytest.raises(UserError, match="changed while it was read"):
        prepare("sentiment", {}, "path", data=data[1])
    assert not list(cache_root().glob("sentiment-*"))


def mutate(content, rng):
    """A broken copy: bytes lost, doubled, flipped, put in, or lines moved."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, n = rng.randrange(len(data) or 1), rng.choice([1, 1, 2, 17, 300])
        kind = rng.choice(["cut", "lose", "double", "flip", "insert", "move", "word"])
        if kind == "cut":
            del data[at:]
        elif kind == "lose":
            del data[at : at + n]
        elif kind == "double":
            data[at:at] = data[at : at + n]
        elif kind == "flip":
            for i in range(at, min(at + n, len(data))):
                data[i] = rng.randrange(256)
        elif kind == "insert":
            data[at:at] = bytes(rng.choice(b'\x00\xff,;"\n\r\t>=:NaN-e9') for _ in range(n))
        elif kind == "move":
            lines = bytes(data).split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        else:
            data = bytearray(bytes(data).replace(b",", rng.choice([b";", b",,", b"\t", b", "]), rng.randint(1, 9)))
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("task", OWN)
def test_mutated_files_never_give_a_traceback_a_hang_or_half_a_cache(own, tmp_path, task):
    """60 broken copies of each file: each is prepared whole or refused in one sentence."""
    file, content, options = OWN[task]
    rng, refused = random.Random(task), 0
    given = dict(parse_options_text(options))
    for i in range(60):
        path = tmp_path / f"{i}-{file}"
        path.write_bytes(mutate(content.encode(), rng))
        before, since = set(cache_root().glob("*")), time.perf_counter()
        try:
            prepare(task, given, "path", data=path)
        except UserError as error:
            refused += 1
            assert str(error).isprintable() and str(tmp_path) not in str(error), error
            assert set(cache_root().glob("*")) == before
        assert time.perf_counter() - since < 20
    assert refused >= (10 if task == "textgen" else 20)  # a text is hard to break


def test_prepared_data_is_in_memory_once(own):
    """What training reads is the mapped cache itself, not a copy, and windows are not stored."""
    for task in ("weather", "sentiment", "fault"):
        data = own(task)
        options = dict(parse_options_text(OWN[task][2]))
        prepared = prepare(task, options, "path", data=data[1])
        resident = DeviceSplit(prepared.data.train, torch.device("cpu"))
        for name, array in prepared.data.train.arrays().items():
            if name in ("series", "tokens", "targets", "starts"):
                assert resident._arrays[name].data_ptr() == array.ctypes.data, (task, name)
    train = prepare(
        "weather", {"target": "temp", "sequence_length": "24", "horizon": "6"}, "path", data=own("weather")[1]
    )
    assert train.data.train.series.shape == (630, 2)


def trained(own, task="sentiment"):
    data = own(task)
    assert main(["--task", task, *data, "--model", "rnn", "--budget", "smoke", "--hidden", "8"]) == 0
    return records()[0], data[1]


def test_predict_refuses_what_the_model_was_not_trained_to_read(own, tmp_path, capsys):
    record, file = trained(own, "fault")
    (tmp_path / "less.csv").write_text(runs().replace("run,label,a,b", "run,label,a,c"))
    assert "'b'" in told(capsys, "predict", record, "less.csv")
    (tmp_path / "short.csv").write_text("run,a,b\n" + "r1,1,2\n" * 5)
    assert main(["predict", str(record), "short.csv", "--out", "short-out.csv"]) == 0  # a run may be short
    assert len((tmp_path / "short-out.csv").read_text().splitlines()) == 2
    assert "must end in .csv or .parquet" in told(capsys, "predict", record, file, "--out", "p.txt")
    assert "choose another" in told(capsys, "predict", record, file, "--out", file)
    assert "can't be written" in told(capsys, "predict", record, file, "--out", "no/such/p.csv")
    assert not list(tmp_path.glob("*predictions*"))


def test_predict_trusts_nothing(own, tmp_path, capsys):
    record, file = trained(own)
    folder = record.parent
    message = told(capsys, "predict", tmp_path / "nothing", file)
    assert "can't be read: it is not there. Name a run's folder" in message and "Errno" not in message
    weights = (folder / "model.safetensors").read_bytes()
    for bad in (b"", weights[:-100], b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(bad)
        assert "model.safetensors is missing, damaged" in told(capsys, "predict", record, file)
    (folder / "model.safetensors").write_bytes(weights)
    reading = (folder / "model.json").read_text()
    for bad in ("", "[]", "{}", reading.replace('"pos"', '"pos", "third"')):
        (folder / "model.json").write_text(bad)
        assert "model.json has been altered" in told(capsys, "predict", record, file)
    (folder / "model.json").write_text(reading)
    text = record.read_text()
    for change in (
        ('"status": "ok"', '"status": "diverged"'),
        ('"hidden": [\n', '"hidden": [\n9,\n'),
        ('"sentiment"', '"dna"'),
    ):
        assert change[0] in text
        record.write_text(text.replace(*change))
        assert told(capsys, "predict", record, file)
    record.write_text(text)
    assert main(["predict", str(record), file]) == 0 and (tmp_path / "predictions.csv").exists()


def test_runs_that_all_begin_normal_and_groups_with_several_classes_can_be_split(own):
    """As in a plant's log: no run is free of faults, and every user has written praise and blame."""
    rng, lines = np.random.default_rng(0), ["run,time,label,a"]
    for run in range(24):
        states = ["normal"] * 20 + [f"fault{run % 2}"] * 20
        lines += [f"{run},{step},{state},{rng.normal():.3f}" for step, state in enumerate(states)]
    data = prepare("fault", {"sequence_length": 10}, "path", data=own("fault", "\n".join(lines))[1]).data
    assert data.classes == ("fault0", "fault1", "normal") and data.features == ("a",)  # not the time
    assert all(set(np.unique(split.targets)) == {0, 1, 2} for split in data.splits.values())
    rows = [f"{line},{'user' if i == 0 else i // 4}" for i, line in enumerate(reviews().splitlines())]
    data = prepare("sentiment", {"group": "user"}, "path", data=own("sentiment", "\n".join(rows))[1]).data
    groups = [set(split.groups) for split in data.splits.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_prices_as_yahoo_writes_them(own):
    """Capital letters, and an adjusted close beside the raw one: prices are adjusted, as the shipped ones are."""
    plain = prices().splitlines()
    header = "Date,Open,High,Low,Close,Volume,Adj Close"
    halves = [f"{line},{float(line.split(',')[4]) / 2:.6f}" for line in plain[1:]]
    given = {"sequence_length": 20}
    first = prepare("stock", given, "path", data=own("stock")[1]).data
    second = prepare("stock", given, "path", data=own("stock", "\n".join([header, *halves]))[1]).data
    assert second.test.meta["close"] == pytest.approx(first.test.meta["close"] / 2, rel=1e-4)
    assert second.test.series == pytest.approx(first.test.series, abs=1e-3)


def test_a_name_that_predictions_would_take_is_refused(own, tmp_path, capsys):
    content = series().replace("time,", "step_1,")
    data = own("weather", content)
    command = [
        "--task",
        "weather",
        *data,
        "--option",
        "time=step_1",
        "--model",
        "rnn",
        "--budget",
        "smoke",
        "--hidden",
        "8",
    ]
    assert main(command) == 0
    assert "'step_1'" in told(capsys, "predict", records()[0], data[1])


def test_predict_of_a_single_character_is_refused(own, tmp_path, capsys):
    record, _ = trained(own, "textgen")
    (tmp_path / "one.txt").write_text("a")
    assert "longer text" in told(capsys, "predict", record, "one.txt")


def test_the_process_ends_with_its_own_exit_code(own, cli):
    """Threads of a reader that outlived the interpreter aborted one process in three, after the sentence."""
    own("sentiment", reviews(header=("txt", "label")))
    for _ in range(6):
        done = cli("--task", "sentiment", "--model", "rnn", "--data", "reviews.csv", "--budget", "smoke")
        assert done.returncode == 2 and done.stderr.count("\n") == 2, done.stderr

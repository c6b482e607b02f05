"""Records and their store: validation, atomicity, two workers, tampering, versions."""

import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy
import pytest
import torch
from conftest import ROOT

from seqbench.config import RunConfig
from seqbench.disk import temporary_folder
from seqbench.errors import UserError
from seqbench.jobs.record import Record, RunRecord
from seqbench.jobs.store import RECORD, Store

NEW = ("numpy", "scikit_learn", "os", "instruction_set")  # in the environment since version 2
SMALL = {"task": "toy-wave", "model": "rnn", "hidden": (8,), "budget": "smoke"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    from seqbench.experiment import run_cell

    return run_cell(RunConfig(**SMALL), Store(tmp_path_factory.mktemp("records")))


def changed(record, **changes):
    raw = json.loads(record.to_json())
    for path, value in changes.items():
        place = raw
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return json.dumps(raw)


def test_a_record_survives_the_trip_through_json(done):
    assert Record.from_json(done.record.to_json()) == done.record


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 5}, "schema version 5.*update"),
        ({"extra": 1}, "extra"),
        ({"status": "fine"}, "status"),
        ({"key": "0" * 64}, "altered"),
        ({"task__name": "weather"}, "altered"),
        ({"model__name": "lstm"}, "altered"),
        ({"config__seed": 9}, "altered"),
        ({"environment__device": "cuda"}, "altered"),
        ({"task__name": "../up"}, "task.name"),
        ({"skill": "high"}, "skill"),
    ],
)
def test_records_that_are_not_what_they_say_are_refused(done, changes, says):
    with pytest.raises(UserError, match=says):
        Record.from_json(changed(done.record, **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "[" * 100_000, '{"schema_version": 1}'])
def test_what_is_no_record_is_one_sentence(text):
    with pytest.raises(UserError, match="valid"):
        Record.from_json(text)


def test_nan_is_refused_on_reading_and_writing(done):
    text = changed(done.record, skill=0.123456789).replace("0.123456789", "NaN")
    with pytest.raises(UserError, match="skill"):
        Record.from_json(text)
    with pytest.raises(ValueError, match="skill"):
        Record.model_validate({**done.record.model_dump(), "skill": float("nan")})


def test_the_store_finds_what_it_holds(done, tmp_path):
    root = done.folder.parents[3]
    assert [record for record, _ in Store(root).records(RunRecord)] == [done.record]
    assert list(Store(tmp_path).records(RunRecord)) == []


@pytest.mark.parametrize("part", ["task", "model", "budget"])
def test_no_path_leaves_the_root(tmp_path, part):
    names = {"task": "a", "model": "b", "budget": "c", part: "../../up"}
    with pytest.raises(UserError, match="name"):
        Store(tmp_path).folder((names["task"], names["model"]), names["budget"], seed=0, key="0" * 64)


def test_a_torn_record_is_an_error_and_never_skipped(done, tmp_path):
    store = Store(tmp_path)
    cell = store.folder_of(done.job)
    (cell / "run-1").mkdir(parents=True)
    (cell / "run-1" / RECORD).write_text(done.record.to_json()[:500])
    with pytest.raises(UserError, match="not valid JSON"):
        store.find(done.job)


def test_an_abandoned_temporary_folder_is_not_a_run_and_is_swept_up(done, tmp_path):
    store = Store(tmp_path)
    cell = store.folder_of(done.job)
    old = cell / ".tmp-old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    assert store.find(done.job) is None
    with store.writing(cell) as folder:
        store.publish(folder, done.job, done.record)
    assert not old.exists() and [path.name for path in cell.iterdir()] == ["run-1"]


def test_what_killed_runs_have_left_is_swept_by_the_next_and_nothing_else(done, tmp_path):
    """Whichever cell it was of. What lives stays, and so does what another machine, or another container, has made."""
    code = "import os, sys; from pathlib import Path; from seqbench.disk import *; temporary_folder(Path(sys.argv[1]))"
    code += "; replace_file(Path(sys.argv[1]) / 'file', lambda file: os.kill(os.getpid(), 9))"
    store, cell = Store(tmp_path), tmp_path / "task" / "model" / "smoke-seed0-abc"
    measured = tmp_path / "probes" / "memory" / "lstm" / "smoke-seed0-abc"
    for home in (cell, measured):
        home.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", code, str(home)], cwd=ROOT)
        assert len(list(home.iterdir())) == 2
    mine = temporary_folder(cell)
    machine, pid, start, last = mine.name.removeprefix(".tmp-").split("-")
    others = [f"00000000-{pid}-1-{last}", f"{machine}-{pid}-1{start}-{last}x", last]
    for name in others:
        (cell / f".tmp-{name}").mkdir()
    (cell / f".tmp-{machine}-{pid}-1{start}-{last}").mkdir()  # the number is another process's now
    store.sweep()
    assert not measured.exists() and not (tmp_path / "probes").exists()
    assert {path.name for path in cell.iterdir()} == {mine.name, *(f".tmp-{name}" for name in others)}


def test_ten_runs_are_ordered_by_number(done, tmp_path):
    for n in (1, 2, 10, 9):
        (tmp_path / f"run-{n}").mkdir()
    assert [path.name for path in Store.runs(tmp_path)] == ["run-1", "run-2", "run-9", "run-10"]


def _publish_at(root, job, text, moment, queue):
    record, store = Record.from_json(text), Store(root)
    with store.writing(store.folder_of(job)) as folder:
        (folder / "who").write_text(str(os.getpid()))
        time.sleep(max(0.0, moment - time.time()))
        outcome = store.publish(folder, job, record)
    queue.put(str(outcome.folder))


def test_of_many_workers_on_one_cell_exactly_one_leaves_a_record(done, tmp_path):
    context = multiprocessing.get_context("fork")
    queue, moment = context.Queue(), time.time() + 0.5
    args = (tmp_path, done.job, done.record.to_json(), moment, queue)
    workers = [context.Process(target=_publish_at, args=args) for _ in range(6)]
    for worker in workers:
        worker.start()
    places = {queue.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    (place,) = places
    assert sorted(path.name for path in Path(place).parent.iterdir()) == ["run-1"]


def _publish_for_ever(root, job, text):
    record, store = Record.from_json(text), Store(root)
    while True:
        with store.writing(store.folder_of(job)) as folder:
            (folder / "predictions.npz").write_bytes(b"x" * 200_000)
            store.publish(folder, job, record, again=True)


def test_a_kill_at_any_moment_leaves_whole_runs_only(done, tmp_path):
    context = multiprocessing.get_context("fork")
    store, seen = Store(tmp_path), 0
    for i in range(1000):
        worker = context.Process(target=_publish_for_ever, args=(tmp_path, done.job, done.record.to_json()))
        worker.start()
        time.sleep(0.02 + 0.0037 * (i % 25))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(30)
        runs = Store.runs(store.folder_of(done.job))
        assert len(runs) >= seen  # nothing that was there is lost
        seen = len(runs)
        if i >= 25 and seen > 10:
            break
    assert seen > 10
    for run in runs:
        assert store.read(run) == done.record
        assert (run / "predictions.npz").stat().st_size == 200_000


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_records_of_every_schema_version_keep_loading(schema):
    """The files were written once and are never regenerated: a change that breaks one breaks users' results."""
    golden = Path(__file__).parent / "golden" / f"record-v{schema}.json"
    record = Record.from_json(golden.read_text(encoding="utf-8"))
    assert record.schema_version == schema and record.status == "ok" and record.task.name == "weather"
    assert (record.environment.instruction_set is None) == (record.environment.numpy is None) == (schema == 1)
    assert Record.from_json(record.to_json()) == record


def test_a_record_holds_what_its_last_digits_depend_on(done):
    """Versions, system and instruction set; its key is as before."""
    raw, environment = json.loads(done.record.to_json()), done.record.environment
    assert raw["schema_version"] == 4
    assert environment.numpy == numpy.__version__ and environment.scikit_learn == version("scikit-learn")
    assert environment.instruction_set == torch.backends.cpu.get_cpu_capability()
    assert platform.system() in ("Darwin", "Linux") and platform.machine() in environment.os
    old = {name: value for name, value in raw["environment"].items() if name not in NEW}
    assert Record.from_json(json.dumps({**raw, "schema_version": 1, "environment": old})).key == done.record.key

"""Records as trackers have them: what a record says is told, failures too, and names can't leave the folder."""

import json
import shutil

import pytest
from board_records import write
from conftest import ROOT

from seqbench.export.tracked import safe_name, tracked_runs

RECORDS = ROOT / "results" / "board" / "fault" / "gru"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two published runs, of which one is made into one that diverged."""
    folder = tmp_path_factory.mktemp("tracked")
    for path in sorted(RECORDS.glob("*seed[01]*"))[:2]:
        shutil.copytree(path, folder / "fault" / "gru" / path.name)
    file = sorted(folder.rglob("record.json"))[1]
    content = json.loads(file.read_text())
    content |= {"status": "diverged", "reason": "the loss is NaN", "metrics": {}, "primary": None, "skill": None}
    file.write_text(json.dumps(content))
    return folder


def test_what_a_record_says_is_told_and_failures_are_not_left_out(records):
    runs = tracked_runs([records])
    assert sorted(run.ending for run in runs) == ["failed", "finished"]
    good = next(run for run in runs if run.ending == "finished")
    record = json.loads(next(f for f in records.rglob("record.json") if '"ok"' in f.read_text()).read_text())
    assert good.figures["test/macro_f1"] == record["metrics"]["test"]["macro_f1"]
    assert good.figures["skill"] == record["skill"]
    assert {f"baseline/{name}" for name in record["baselines"]} <= set(good.figures)
    assert [point.step for point in good.curve] == sorted(point.step for point in good.curve) and good.curve
    assert good.settings["learning_rate"] == record["config"]["learning_rate"]


def test_times_lie_within_the_run_also_of_one_that_was_resumed(tmp_path):
    for seed, longest in enumerate((20, 900)):  # a record's start is that of the last process: 30 s before its end
        folder = write(tmp_path, "alpha", seed, 0.8)
        points = [{"step": 100 * i, "val_accuracy": 0.8, "seconds": longest * i / 4} for i in range(1, 5)]
        (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    usual, resumed = (run for _, run in sorted((run.settings["seed"], run) for run in tracked_runs([tmp_path])))
    assert usual.ended - usual.started == 30 and usual.curve[-1].time == usual.started + 20
    assert resumed.ended - resumed.started == 900 and resumed.curve[-1].time == resumed.ended == usual.ended
    assert resumed.curve[0].time == resumed.started + 225


def test_names_can_not_leave_the_folder():
    for name in ("../../etc", "a/b", "..", "a\\b", ""):
        safe = safe_name(name)
        assert safe and "/" not in safe and "\\" not in safe and safe not in (".", "..")


def test_tensorboard_reads_what_was_written_and_twice_is_once(here, records, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for said in ("2 runs written", "0 runs written"):
        done = here("export", records, "--to", "tensorboard", "--out", tmp_path / "events")
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    files = sorted((tmp_path / "events").rglob("events.out*"))
    assert len(files) == 2
    good = next(run for run in tracked_runs([records]) if run.ending == "finished")
    read = []
    for file in files:
        accumulator = EventAccumulator(str(file.parent))
        accumulator.Reload()
        read.append(accumulator)
    tags = [set(one.Tags()["scalars"]) for one in read]
    found = next(one for one, names in zip(read, tags, strict=True) if "test/macro_f1" in names)
    assert found.Scalars("test/macro_f1")[0].value == pytest.approx(good.figures["test/macro_f1"], rel=1e-6)
    steps = [event.step for event in found.Scalars("curve/val_macro_f1")]
    assert steps == [point.step for point in good.curve]


def test_a_missing_package_and_a_folder_without_records_are_one_sentence(here, tmp_path, monkeypatch):
    done = here("export", tmp_path, "--to", "tensorboard", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    done = here("export", RECORDS.parent.parent, "--to", "wandb", "--out", tmp_path / "out")
    assert done.returncode == 2 and "pip install 'seqbench[wandb]'" in done.stderr

"""Runs for W&B, read back from its offline files with its own messages."""

import json
import struct

import pytest
from board_records import write

pytest.importorskip("wandb", reason="wandb is not installed")


def lines_of(path):
    """The messages in a file of W&B's: LevelDB's log, after seven letters of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15  # of a block, in which no piece begins that has no room for its head
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or its last piece
            yield Record.FromString(whole)
            whole = b""


def values(items):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def test_every_run_is_whole_and_says_what_its_record_says(here, tmp_path, monkeypatch):
    monkeypatch.setattr("seqbench.export.wandb.AT_ONCE", 4)  # two times
    root = tmp_path / "records"
    for seed in range(5):
        write(root, "alpha", seed, 0.8 + seed / 100)
    write(root, "gamma", 0, None, reason="the training loss is nan")
    done = here("export", root, "--to", "wandb", "--out", "out")
    assert done.returncode == 0 and "6 runs written; 1 did not end well" in done.stdout, done.stderr
    files = sorted((tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 6 and not list((tmp_path / "out").glob(".tmp-*"))
    for file in files:
        lines = list(lines_of(file))
        (run,) = [line.run for line in lines if line.HasField("run")]
        (end,) = [line.exit for line in lines if line.HasField("exit")]
        config, curve, summary = values(run.config.update), [], {}
        for line in lines:
            if line.HasField("history"):
                curve.append((line.history.step.num, values(line.history.item)["curve/val_accuracy"]))
            if line.HasField("summary"):
                summary |= values(line.summary.update)
        good = config["model"] == "alpha"
        assert end.exit_code == int(not good) and run.tags[0] == config["about/status"]
        assert run.run_id == file.stem.removeprefix("run-") and config["learning_rate"] == 0.003
        if good:
            value = 0.8 + config["seed"] / 100
            assert curve == [(100 * i, pytest.approx(value - 0.1 / i + 0.025)) for i in range(1, 5)]
            assert summary["test/accuracy"] == pytest.approx(value) and summary["baseline/tfidf"] == 0.75
        else:
            assert run.notes == "the training loss is nan" and "test/accuracy" not in summary
    again = here("export", root, "--to", "wandb", "--out", "out").stdout
    assert "0 runs written; 6 were there already" in again

"""Records that the board must not believe: altered, moved and damaged ones."""

import json
import shutil

import numpy as np
import pytest
from board_records import grid, signed, write

from seqbench.board import board
from seqbench.errors import UserError
from seqbench.jobs.store import LEFT_OUT, RECORD


def edit(folder, **changes):
    raw = json.loads((folder / RECORD).read_text())
    for path, value in changes.items():
        place = raw
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return raw


@pytest.mark.parametrize(
    ("changes", "resign", "says"),
    [
        ({"task__name": "dna"}, False, "altered"),
        ({"task__name": "dna"}, True, "moved or edited"),
        ({"config__seed": 7}, False, "altered"),
        ({"seed": 7}, False, "moved or edited"),
        ({"schema_version": 2}, False, "schema version 2.*update"),
        ({"primary__value": 0.99}, False, "altered: its primary"),
        ({"primary__reference": "nobody"}, False, "altered: its reference"),
        ({"environment__threads": 4}, False, "altered: its threads"),
        ({"status": "diverged"}, False, "altered: its status"),
        ({"metrics__val": {}}, False, "altered: its validation"),
        ({"baselines": {"majority": 0.5}}, False, "does not fit its record"),
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

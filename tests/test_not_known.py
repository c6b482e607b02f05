"""Scores that can't be told from the test: null in the record, "not known" where they are shown, in no rank or mean."""

import json

import pytest
from board_records import write
from own_files import prices, reviews, series

from seqbench.board import load_results, make_tables, overviews, render, short_board


def flat_prices():
    """The last fifth of the days without a change: persistence makes no error that another could be relative to."""
    header, *rows = prices().splitlines()
    at = len(rows) * 3 // 4
    rest = rows[at].split(",")[1:]
    flat = [",".join([row.split(",")[0], *rest]) for row in rows[at:]]
    return "\n".join([header, *rows[:at], *flat]) + "\n"


def flat_series():
    """A sensor that died before the validation."""
    header, *rows = series().splitlines()
    at = len(rows) * 2 // 3
    dead = [",".join([row.split(",")[0], "7.5", row.split(",")[2]]) for row in rows[at:]]
    return "\n".join([header, *rows[:at], *dead]) + "\n"


def one_class_at_the_end():
    """Texts by day, of which the last days hold one class."""
    header, *rows = reviews().splitlines()
    kept = [*rows[:40], *(row for row in rows[40:] if row.endswith("pos"))]
    return "\n".join([f"{header},day", *(f"{row},2020-01-{1 + i // 5:02d}" for i, row in enumerate(kept))]) + "\n"


CASES = {  # task: file, options, whether there is a score, what is said
    "stock": ("p.csv", flat_prices(), ("sequence_length=20",), False, "relative_rmse can't be told"),
    "weather": (
        "s.csv",
        flat_series(),
        ("target=temp", "sequence_length=24", "horizon=6"),
        True,
        "no skill can be told",
    ),
    "sentiment": ("t.csv", one_class_at_the_end(), ("time=day",), True, "no skill can be told over majority"),
}


@pytest.mark.parametrize("task", CASES)
def test_what_cannot_be_told_is_said_to_be_unknown(here, tmp_path, monkeypatch, task):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    file, content, options, scored, said = CASES[task]
    (tmp_path / file).write_text(content)
    words = ["--task", task, "--model", "rnn", "--budget", "smoke", "--hidden", "4", "--data", file, "--out", "out"]
    done = here(*words, *(word for option in options for word in ("--option", option)), "--plot", "run.png")
    assert done.returncode == 0 and said in done.stdout and "not known" in done.stdout, done.stderr
    (path,) = tmp_path.glob("out/*/*/*/*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok" and record["skill"] is None
    assert (record["primary"]["value"] is not None) == scored and "NaN" not in path.read_text()
    tables = make_tables(load_results(tmp_path / "out"))
    page, data = render(tables), json.loads(render(tables, "json"))
    assert "not known" in page and "nan" not in page.lower().replace("finance", "")
    (row,) = [row for row in data["tables"][0]["rows"] if not row["baseline"]]
    assert row["skill"] is None and (row["rank"] is not None) == scored
    assert short_board(tables) and "Traceback" not in here("leaderboard", "out").stderr


def test_a_task_without_skill_is_in_no_mean(tmp_path):
    for task, reference in (("one", 0.5), ("two", 1.0)):
        for name in ("alpha", "beta"):
            write(tmp_path, name, task__name=task, baselines={"majority": reference})
    (overview,) = overviews(make_tables(load_results(tmp_path)))
    assert all(row.mean_skill is None and row.ranks is None for row in overview.rows)
    assert "skill not known" in overview.rows[0].states

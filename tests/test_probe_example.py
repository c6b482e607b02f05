"""The example of a probe of one's own, as a user runs it."""

import json
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "examples" / "steps_to_solve.py"
WORDS = ("probe", "steps-to-solve", "--plugin", FILE, "--model", "rnn,lstm", "--budget", "smoke", "--device", "cpu")


def test_the_example_is_a_command_with_options_records_table_and_picture(cli, tmp_path):
    first = cli(*WORDS, "--length", "4", "--hidden", "32", "--out", "out")
    assert first.returncode == 0, first.stderr
    assert "steps-to-solve rnn seed 0: ok" in first.stderr and "solved after" in first.stderr
    assert "| rnn     |" in first.stdout and "| lstm    |" in first.stdout and "not solved" not in first.stdout
    assert (tmp_path / "out" / "probes" / "steps-to-solve.png").stat().st_size > 10_000
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("record.json")]
    assert {record["models"][0]["name"] for record in records} == {"rnn", "lstm"}
    for record in records:
        result = record["result"]
        assert 50 <= result["steps"] <= 150 and result["checked_at"][-1] == result["steps"]
        assert record["case"]["options"] == {"length": 4, "hidden": 32, "learning_rate": 0.003, "limit": 150}
    again = cli(*WORDS, "--length", "4", "--hidden", "32", "--out", "out", "--jobs", "2")
    assert again.stdout == first.stdout and "0 to run" in again.stderr


def test_the_options_of_the_example_are_held_to_their_ranges_and_explained(cli):
    refused = cli(*WORDS, "--length", "0")
    assert refused.returncode == 2 and "--length 0 is out of range: take 1 to 10,000." in refused.stderr
    shown = cli("probe", "steps-to-solve", "--plugin", FILE, "--help")
    assert shown.returncode == 0 and "Steps from the symbol to the question." in shown.stdout


def test_the_example_is_short():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 120

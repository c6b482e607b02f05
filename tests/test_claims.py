"""The ledger of claims from a real, small run: complete, traceable, the same again, and honest about what it lacks."""

import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from seqbench.probes.record import ProbeStore

import seqbench
from seqbench.claims.formula import lstm_parameters
from seqbench.claims.ledger import render_json, render_markdown
from seqbench.claims.parallel import recurrence_serial
from seqbench.claims.plan import plan
from seqbench.claims.skills import skill_conditions
from seqbench.probes import Found

CLAIMS = ("claims", "--budget", "smoke", "--board", ROOT / "results" / "board")
WORDS = {"supported", "refuted", "depends", "inconclusive", "incomplete", "not measured"}


def command(*words, cwd):
    done = [sys.executable, str(ROOT / "run_bench.py"), *map(str, words)]
    return subprocess.run(done, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A whole ledger at smoke, measured once."""
    folder = tmp_path_factory.mktemp("claims")
    done = command(*CLAIMS, "--jobs", "1", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_the_first_screen_has_eight_lines_with_figures_and_verdicts(out):
    page = (out / "CLAIMS.md").read_text()
    rows = re.findall(r"^\| ([1-8]) \| (.+) \| (.+) \| \*\*(.+)\*\* \|$", page, flags=re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, 9))
    for _, _, statement, verdict in rows:
        assert re.search(r"[0-9]", statement) or "unknown" in statement, statement
        assert verdict.split()[0] in WORDS and verdict not in ("incomplete", "not measured"), verdict
    assert len(page.split("\n## ")[0].splitlines()) < 45  # the lines, the conditions, the pictures


def test_every_figure_leads_to_its_records(out):
    page = (out / "CLAIMS.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 60 and all((out / link).exists() for link in links)
    claims = json.loads((out / "claims.json").read_text())["claims"]
    for claim in claims:
        assert claim["conditions"], claim["number"]
        for condition in claim["conditions"]:
            known = all((out / record).is_file() for record in condition["records"])
            assert known and (condition["records"] or claim["number"] == 4)
        for aside in (line for block in claim["beside"] for line in block["lines"]):
            assert aside["text"] in page and all((out / record).is_file() for record in aside["records"])


def test_verdicts_in_the_data_follow_from_its_conditions(out):
    for claim in json.loads((out / "claims.json").read_text())["claims"]:
        sides = [condition["inside"] for condition in claim["conditions"]]
        expected = (
            "depends" if True in sides and False in sides
            else "supported" if set(sides) == {True}
            else "refuted" if set(sides) == {False}
            else "inconclusive"
        )  # fmt: skip
        assert claim["verdict"] == expected
        for condition in claim["conditions"]:
            if condition["inside"] is not None and condition["low"] is not None and condition["high"] is not None:
                assert condition["low"] <= condition["value"] <= condition["high"]


def test_one_seed_gives_no_verdict_on_what_seeds_decide(out):
    claims = json.loads((out / "claims.json").read_text())["claims"]
    for number in (1, 2, 5, 8):
        assert {condition["inside"] for condition in claims[number - 1]["conditions"]} == {None}
        assert all("fewer than 5 seeds" in condition["note"] for condition in claims[number - 1]["conditions"])


def test_the_same_command_runs_nothing_and_writes_the_same_page(out):
    before = {name: (out / name).read_bytes() for name in ("CLAIMS.md", "claims.json")}
    for words in (("--jobs", "1"), ("--report",)):
        again = command(*CLAIMS, *words, "--out", "out", cwd=out.parent)
        assert again.returncode == 0 and (words == ("--report",) or "0 to run" in again.stderr)
        assert before == {name: (out / name).read_bytes() for name in before}


def test_what_is_missing_takes_the_verdict_away(out, tmp_path):
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(next((tmp_path / "out" / "probes" / "gradient").glob("rnn/*")))
    done = command(*CLAIMS, "--report", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "out" / "claims.json").read_text())["claims"]
    assert [claim["number"] for claim in claims if claim["verdict"] == "incomplete"] == [5]
    assert "1 case of the gradient probe without a result" in (tmp_path / "out" / "CLAIMS.md").read_text()


def test_without_a_board_the_claim_about_skill_is_incomplete(out):
    before = (out / "CLAIMS.md").read_bytes(), (out / "claims.json").read_bytes()
    (out.parent / "empty").mkdir()
    done = command(*CLAIMS[:-1], "empty", "--report", "--out", "out", cwd=out.parent)
    assert done.returncode == 0, done.stderr
    claim = json.loads((out / "claims.json").read_text())["claims"][6]
    (out / "CLAIMS.md").write_bytes(before[0]), (out / "claims.json").write_bytes(before[1])
    assert claim["verdict"] == "incomplete" and "no records of tasks" in claim["lacks"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--jobs", "0"), "--jobs 0 is out of range"), (("--board", "nowhere"), "no such directory")],
)
def test_options_that_no_ledger_could_use_are_refused(tmp_path, words, sentence):
    done = command("claims", *words, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1


def parallel(out, **fits):
    """The sides of claim 6 where models' serial times are as given: (value, low, high) in seconds, and trusted."""
    (record, folder), *_ = [it for it in ProbeStore(out).records() if it[0].probe.name == "parallel"]
    result = copy.deepcopy(record.result)
    result["fit"] |= {
        model: None if fit is None else {**result["fit"]["lstm"], "s": list(fit[0]), "trusted": fit[1]}
        for model, fit in fits.items()
    }
    claim = recurrence_serial([Found(record.read_case(), result, folder)])
    sides = {c.axes["model"]: c.inside for c in claim.conditions if c.axes["measure"].startswith("serial")}
    return sides, claim.statement


def test_a_serial_time_whose_interval_reaches_zero_tells_nothing(out):
    above, reaches, zero = (5e-6, 4e-6, 6e-6), (5e-6, 0.0, 5e-5), (0.0, 0.0, 0.0)
    sides, said = parallel(out, rnn=(above, True), lstm=(reaches, True), gru=(zero, True), transformer=(zero, True))
    assert "takes 5 µs (4 to 6) in a plain RNN and too little to measure in an LSTM (at most 50 µs), a GRU" in said
    assert sides == {"rnn": True, "lstm": None, "gru": False, "transformer": True}
    sides, said = parallel(
        out, rnn=(above, False), lstm=None, gru=((5e-6, 4e-6, None), True), transformer=(above, True)
    )
    assert sides == {"rnn": None, "lstm": None, "gru": True, "transformer": False}
    assert "can't be told for a plain RNN and an LSTM." in said


def skills(board, task="toy-first", seeds=5):
    """A board on which a GRU and an LSTM were trained."""
    for seed in range(seeds):
        for model in ("gru", "lstm"):
            seqbench.run(task, model, budget="quick", hidden=(8,), seed=seed, out=board)
    return skill_conditions(board, "gru", "lstm", 0.02)


def test_skills_are_compared_only_where_both_models_are_complete(tmp_path):
    (one,) = skills(tmp_path)
    assert one.figure.low < one.figure.value < one.figure.high and len(one.records) == 10
    shutil.rmtree(next((tmp_path / "toy-first" / "gru").glob("quick-seed4-*")))
    (one,) = skill_conditions(tmp_path, "gru", "lstm", 0.02)
    assert one.inside is None and "4/5 (1 missing)" in one.note
    assert skill_conditions(tmp_path, "gru", "rnn", 0.02) == []


def test_one_seed_of_skill_is_no_verdict(tmp_path):
    (one,) = skills(tmp_path, seeds=1)
    assert one.inside is None and "fewer than 5 seeds" in one.note


def test_a_report_of_nothing_is_one_sentence(tmp_path):
    done = command(*CLAIMS, "--report", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2 and "run it without --report" in done.stderr and not (tmp_path / "out").exists()


def test_measuring_that_is_killed_goes_on_and_ends_with_the_same_results(out, tmp_path):
    words = ("probe", "memory", "--model", "rnn,gru,transformer", "--budget", "smoke", "--jobs", "2", "--out", "killed")
    line = [sys.executable, str(ROOT / "run_bench.py"), *words]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, end = ProbeStore(tmp_path / "killed"), time.monotonic() + 120
    while not list(store.records()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = {record.key: record.result for record, _ in ProbeStore(out).records()}
    found = {record.key: record.result for record, _ in store.records()}
    shared = set(found) & set(wanted)  # those of one initialisation, which both commands plan
    assert len(shared) >= 6 and all(found[key] == wanted[key] for key in shared)


def test_the_formula_is_counted_and_not_typed():
    claim = lstm_parameters()
    assert str(claim.verdict) == "depends on biases" and "132,096" in claim.statement and "131,584" in claim.statement


def test_the_page_of_nothing_says_so(tmp_path):
    from seqbench.claims.page import Measured, all_claims

    claims = all_claims(Measured({}), tmp_path)
    page = render_markdown(claims, ["nothing"], tmp_path)
    assert page.count("**not measured**") == 2 * 7 and json.loads(render_json(claims, [], tmp_path))["claims"]


@pytest.mark.parametrize("budget", ["smoke", "quick", "standard"])
def test_a_plan_has_every_case_once_and_names_every_probe(budget):
    cases = plan(budget, "cpu")
    assert len({str(case.to_json()) for case in cases}) == len(cases)
    assert {case.probe for case in cases} == {"memory", "gradient", "cost", "parallel", "context"}

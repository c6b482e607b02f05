"""The ledger of claims from a real, small run: complete, traceable, the same again, and honest about what it lacks."""

import dataclasses
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT

import seqbench
from seqbench.claims import Evidence, all_claims, ledger
from seqbench.claims.cost import lstm_parameters, skill_conditions
from seqbench.claims.parallel import recurrence_serial
from seqbench.claims.reading import fixed_vector
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.probes import Measured, ProbeSpec
from seqbench.probes.shared.measuring import read_result

CLAIMS = ("claims", "--budget", "smoke", "--board", ROOT / "results" / "board")
VERDICT = re.compile(r"(supported|refuted)( but for .+)?|depends on .+|inconclusive|not (tested|measured)")


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


def test_the_first_screen_has_ten_lines_with_figures_and_verdicts(out):
    page = (out / "CLAIMS.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| \*\*(.+?)\*\*(?:; .+)? \|$", page, flags=re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    for _, _, statement, verdict in rows:
        assert re.search(r"[0-9]", statement) or {"unknown", "Not measured."} & {*statement.split(), statement}, (
            statement
        )
        assert VERDICT.fullmatch(verdict), verdict
    assert len(page.split("\n## ")[0].splitlines()) < 45  # the lines, the conditions, the pictures


def test_every_figure_leads_to_its_records(out):
    page = (out / "CLAIMS.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 60 and all((out / link).exists() for link in links)
    claims = json.loads((out / "claims.json").read_text())["claims"]
    for claim in claims:
        assert claim["conditions"] or claim["verdict"] == "not measured", claim["number"]
        for condition in claim["conditions"]:
            known = all((out / record).is_file() for record in condition["records"])
            assert known and (condition["records"] or claim["number"] == 4)
        for aside in (line for block in claim["beside"] for line in block["lines"]):
            assert aside["text"] in page and all((out / record).is_file() for record in aside["records"])


def test_verdicts_in_the_data_follow_from_its_conditions(out):
    for claim in json.loads((out / "claims.json").read_text())["claims"]:
        sides = [condition["inside"] for condition in claim["conditions"] if condition["tested"]]
        most = 3 * sides.count(None) <= len(sides)  # at least two thirds lie on a side
        expected = (
            "not measured" if not claim["conditions"]
            else "not tested" if not sides
            else "depends" if True in sides and False in sides
            else "inconclusive" if not most
            else "supported" if True in sides
            else "refuted"
        )  # fmt: skip
        assert claim["verdict"] == expected
        assert len(claim["but_for"]) == (sides.count(None) if expected in ("supported", "refuted") else 0)
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
    assert "Without a result: 1 measurement of the gradient probe." in (tmp_path / "out" / "CLAIMS.md").read_text()


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


def parallel(out, device="cuda", **fits):
    """The sides of claim 6 where models' serial times are as given: (value, low, high) in seconds, and trusted."""
    record, folder = next(it for it in Store(out).records(ProbeRecord) if it[0].probe.name == "parallel")
    result = read_result(record)
    changed = {
        model: None if fit is None else dataclasses.replace(result.fit["lstm"], s=fit[0], trusted=fit[1])
        for model, fit in fits.items()
    }
    result = dataclasses.replace(result, fit={**result.fit, **changed})
    spec = dataclasses.replace(ProbeSpec.from_json(record.case), device=device)
    claim = recurrence_serial(Evidence([Measured(spec, result, folder)]))
    if device == "cpu":
        assert str(claim.verdict) == "not tested" and all("on a GPU" in c.note for c in claim.conditions)
    sides = {c.axes["model"]: c.inside for c in claim.conditions if c.axes["measure"].startswith("serial")}
    return sides, claim.statement


def test_a_serial_time_whose_interval_reaches_zero_tells_nothing(out):
    above, reaches, zero = (5e-6, 4e-6, 6e-6), (5e-6, 0.0, 5e-5), (0.0, 0.0, 0.0)
    sides, said = parallel(out, rnn=(above, True), lstm=(reaches, True), gru=(zero, True), transformer=(zero, True))
    assert (
        "each time step costs 5 µs (4 to 6) in a plain RNN and too little to measure in an LSTM (at most 50 µs), a GRU"
        in said
    )
    assert sides == {"rnn": True, "lstm": None, "gru": False, "transformer": True}
    sides, said = parallel(
        out, rnn=(above, False), lstm=None, gru=((5e-6, 4e-6, None), True), transformer=(above, True)
    )
    assert sides == {"rnn": None, "lstm": None, "gru": True, "transformer": False}
    assert "can't be told for a plain RNN and an LSTM." in said
    sides, said = parallel(out, "cpu", rnn=(above, True), lstm=(above, True))
    assert {*sides.values()} == {None} and "5 µs (4 to 6) in a plain RNN" in said


def skills(board, task="toy-first", seeds=5):
    """A board on which a GRU and an LSTM were trained."""
    for seed in range(seeds):
        for model in ("gru", "lstm"):
            seqbench.run(task, model, budget="quick", hidden=(8,), seed=seed, out=board)
    return compared(board)


def compared(board, *models):
    return skill_conditions(usual(ledger.read_board(board)), *(models or ("gru", "lstm")))


def usual(tables):
    return [table for table in tables if not table.setting and not table.variant]


def test_skills_are_compared_only_where_both_models_are_complete(tmp_path):
    (one,) = skills(tmp_path)
    assert one.figure.low < one.figure.value < one.figure.high and len(one.records) == 10
    shutil.rmtree(next((tmp_path / "toy-first" / "gru").glob("quick-seed4-*")))
    (one,) = compared(tmp_path)
    assert one.inside is None and "4/5 (1 missing)" in one.note
    assert compared(tmp_path, "gru", "rnn") == []


def test_one_seed_of_skill_is_no_verdict(tmp_path):
    (one,) = skills(tmp_path, seeds=1)
    assert one.inside is None and "fewer than 5 seeds" in one.note


def test_what_a_fixed_vector_loses_is_read_from_runs_with_and_without_attention(tmp_path):
    for seed in range(2):
        for options in ({"attention": "none"}, {}):  # as often as the other: which of both is usual must not matter
            seqbench.run("toy-pairs", "gru", budget="quick", hidden=(16,), seed=seed, out=tmp_path, **options)
    tables = ledger.read_board(tmp_path)
    variants = [table for table in tables if table not in usual(tables)]
    claim = fixed_vector(Evidence(tables=usual(tables), variants=variants))
    (one,) = claim.conditions
    metrics = {}
    for file in tmp_path.rglob("record.json"):
        record = json.loads(file.read_text())
        metrics[record["config"].get("attention", "dot"), record["seed"]] = record["metrics"]["test"]
    shares = {key: test["bleu_long"] / test["bleu"] for key, test in metrics.items()}
    changes = [shares["none", seed] - shares["dot", seed] for seed in range(2)]
    assert len(one.records) == 4 and one.figure.value == pytest.approx(statistics.mean(changes))
    assert one.figure.low < one.figure.value < one.figure.high and "gru" in claim.statement.lower()
    reached = statistics.mean(metrics["none", seed]["bleu"] for seed in range(2))
    assert one.tested == (reached > max(baseline.value for baseline in tables[0].baselines.values()))
    assert {table.setting for table in tables} == {(), ("attention none",)}
    file = next(tmp_path.rglob("record.json"))
    content = json.loads(file.read_text())
    content |= {"status": "diverged", "reason": "the loss is NaN", "metrics": {}, "primary": None, "skill": None}
    file.write_text(json.dumps(content))
    tables = ledger.read_board(tmp_path)
    (one,) = fixed_vector(Evidence(tables=tables)).conditions  # the seed that is lost is not left out silently
    assert one.inside is None and "1/2 (1 diverged)" in one.note


def test_a_report_of_nothing_is_one_sentence(tmp_path):
    done = command(*CLAIMS, "--report", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2 and "leave --report out" in done.stderr and not (tmp_path / "out").exists()


def test_measuring_that_is_killed_goes_on_and_ends_with_the_same_results(out, tmp_path):
    words = ("probe", "memory", "--model", "rnn,gru,transformer", "--budget", "smoke", "--jobs", "2", "--out", "killed")
    line = [sys.executable, str(ROOT / "run_bench.py"), *words]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, end = Store(tmp_path / "killed"), time.monotonic() + 120
    while not list(store.records(ProbeRecord)) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = {record.key: record.result for record, _ in Store(out).records(ProbeRecord)}
    found = {record.key: record.result for record, _ in store.records(ProbeRecord)}
    shared = set(found) & set(wanted)  # those of one initialisation, which both commands plan
    assert len(shared) >= 6 and all(found[key] == wanted[key] for key in shared)


def test_the_formula_is_counted_and_not_typed():
    claim = lstm_parameters(Evidence())
    assert str(claim.verdict) == "depends on biases" and "132,096" in claim.statement and "131,584" in claim.statement


def test_the_page_of_nothing_says_so(tmp_path):
    claims = all_claims(Evidence())
    page = ledger.render_markdown(claims, ["nothing"], tmp_path)
    assert page.count("**not measured**") == 2 * 9 and json.loads(ledger.render_json(claims, [], tmp_path))["claims"]


def test_a_caution_stands_wherever_the_verdict_does(tmp_path):
    claims = [dataclasses.replace(claim, caution="under review: why") for claim in all_claims(Evidence())]
    page = ledger.render_markdown(claims, [], tmp_path)
    assert page.count("**; under review: why") == page.count("**not measured**") + page.count("**depends on biases**")
    data = json.loads(ledger.render_json(claims, [], tmp_path))["claims"]
    assert {claim["caution"] for claim in data} == {"under review: why"}
    assert ledger.claims_chart(claims).panels[0].note == "under review: why"


def test_without_matplotlib_the_ledger_has_no_pictures(out, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    jobs = ledger.plan("smoke", "cpu")
    known = [outcome for job in jobs if (outcome := Store(out).find(job))]
    paths = ledger.write(jobs, known, "smoke", tmp_path, tmp_path)
    assert [path.name for path in paths] == ["CLAIMS.md", "claims.json", "charts.json"]
    assert "![" not in paths[0].read_text()


@pytest.mark.parametrize("budget", ["smoke", "quick", "standard"])
def test_a_plan_has_every_measurement_once_and_names_every_probe(budget):
    jobs = ledger.plan(budget, "cpu")
    assert len({str(job.spec.to_json()) for job in jobs}) == len(jobs)
    assert {job.spec.probe for job in jobs} == {"memory", "gradient", "cost", "parallel", "context"}

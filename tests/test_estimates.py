"""How long runs and claims will take is told from a table, at once, and is about right."""

import json
import re

from conftest import ROOT
from test_models import BUILT_IN

from seqbench.claims.ledger import plan
from seqbench.config import RunConfig
from seqbench.experiment import estimate_seconds, resolve, run_cell
from seqbench.jobs import FINE
from seqbench.jobs.estimates import RATES_FILE, RunRate, case_key, case_seconds, run_rate
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.task import TASKS


def estimate(out, said=None, **cell):
    experiment = resolve(RunConfig(**cell))
    return sum(estimate_seconds([experiment], Store(out), [].append if said is None else said.append).values())


def test_the_table_knows_every_built_in_model_on_every_task_that_can_have_it():
    known = json.loads(RATES_FILE.read_text())["runs"]
    tasks = [path.stem for path in ROOT.glob("tasks/*.py") if path.stem != "__init__"]
    pairs = {f"{task} {model}" for task in tasks for model in BUILT_IN}
    refused = {f"{task} bilstm" for task in tasks if TASKS.get(task).kind in ("generate", "translate")}
    assert set(known) == pairs - refused


def test_the_table_knows_every_measurement_of_the_ledger_at_quick():
    jobs = plan("quick", "cpu")
    assert jobs and all((case_seconds(job.spec) or 0) > 0 for job in jobs)


def test_seconds_of_a_case_are_those_of_a_record_whatever_the_seed():
    records = list(Store(ROOT / "results" / "board").records(ProbeRecord))
    case = records[0][0].case
    assert case_key(case) == case_key({**case, "seed": 99}) != case_key({**case, "budget": "standard"})
    table = json.loads(RATES_FILE.read_text())["cases"]
    fine = [record.case for record, _ in records if record.status in FINE]
    assert {case_key(case, loosely=loosely) for case in fine for loosely in (False, True)} == set(table)


def test_more_work_takes_longer_in_proportion_and_less_work_saves_less():
    rate = RunRate(step=1.0, read=10.0, beside=0.5, flops=100.0)
    assert rate.scaled(100.0) == (1.0, 10.0) and rate.scaled(300.0) == (3.0, 30.0) and rate.scaled(25.0) == (0.5, 5.0)


def test_nothing_is_known_of_other_tasks_and_models():
    assert run_rate("toy-wave", "gru", 64) is None and run_rate("weather", "own", 64) is None


def test_a_record_tells_better_than_the_table(tmp_path):
    """How near the table is to a run is timed in tests/benchmarks/test_estimates.py."""
    cell = {"task": "stock", "model": "lstm", "budget": "smoke", "hidden": (64, 64)}
    expected = estimate(tmp_path, **cell)
    run_cell(RunConfig(**cell), Store(tmp_path))
    assert estimate(tmp_path, **cell) not in (0, expected)


def test_what_the_table_does_not_know_is_timed_and_that_is_said(tmp_path):
    said = []
    assert estimate(tmp_path, said, task="weather", model="gru", budget="full") > 60 and said == []
    assert estimate(tmp_path, said, task="toy-wave", model="gru", budget="smoke", hidden=(8,)) > 0
    assert said == ["timing toy-wave gru, of which no rate is known"]


def test_claims_say_how_long_each_and_all_take(here):
    done = here("claims", "--dry-run")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert sum(re.match(rf"\| +{number} \|", line) is not None for number in range(1, 9) for line in lines) == 8, (
        done.stdout
    )
    assert any("cases, " in line and " to run: about " in line and "with --jobs 2" in line for line in lines)
    rows = json.loads(here("claims", "--dry-run", "--json").stdout)
    assert sum(row["seconds"] for row in rows) > 1000

"""Published records of probes read as the results of their probes, and the commands that made them find them again."""

import dataclasses
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from seqbench.claims.ledger import STARTS
from seqbench.errors import UserError
from seqbench.jobs.job import Outcome
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.probes import PROBES, ProbeSpec, Request
from seqbench.probes.shared.measuring import find_older, job_of, measured, plan_jobs, read_result
from seqbench.report.chart import limits

BOARD = Path(__file__).resolve().parents[1] / "results" / "board" / "probes"
NAMES = sorted(folder.name for folder in BOARD.iterdir())
ALL = "rnn,lstm,gru,transformer"
COMMANDS = {  # what was asked for: models, number of seeds (None: the budget's), options
    "memory": [
        ("rnn,lstm", None, {"problem": "recall,adding", "initialisation": STARTS}),
        ("gru,transformer", None, {"problem": "recall,adding"}),
        (ALL, 6, {"problem": "selective", "regime": "staged", "params": 20_000}),
    ],
    "gradient": [(ALL, None, {})],
    "context": [
        ("lstm", None, {"task": "textgen"}),
        ("lstm", None, {"task": "textgen", "steps": 12_000}),
        ("rnn,gru,transformer", 2, {"task": "textgen"}),
    ],
    "cost": [(ALL, None, {"backend": "kernel"}), (ALL, None, {"backend": "loop"})],
    "parallel": [(ALL, None, {})],
    "copy": [("ntm,lstm", None, {})],
    "tracking": [("rnn,lstm,gru,mingru,lru,transformer", None, {})],
}


@cache
def published(probe):
    """Records with the jobs that they answer."""
    outcomes = []
    for path in sorted((BOARD / probe).rglob("record.json")):
        record = ProbeRecord.from_json(path.read_text(encoding="utf-8"))
        job = dataclasses.replace(job_of(ProbeSpec.from_json(record.case)), key=record.key)  # maybe of older models
        outcomes.append(Outcome(job, record, path.parent, stored=True))
    assert outcomes
    return outcomes


@pytest.mark.parametrize("probe", NAMES)
def test_a_result_reads_as_its_dataclass_and_comes_out_equal(probe):
    for outcome in published(probe):
        record = outcome.record
        if record.result is not None:
            result = read_result(record)
            assert dataclasses.is_dataclass(result) and result.__dataclass_params__.frozen
            again = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
            if record.probe.version == PROBES.get(probe).version:
                assert again == record.result and PROBES.get(probe).headline(result) == record.summary
            else:
                assert_holds(again, record.result)


def assert_holds(known, older):
    """What is ``known`` has all that an ``older`` version wrote, and may have more."""
    if isinstance(older, dict):
        assert {*older} <= {*known}
        for name, value in older.items():
            assert_holds(known[name], value)
    elif isinstance(older, list):
        assert len(older) == len(known)
        for a, b in zip(known, older, strict=True):
            assert_holds(a, b)
    else:
        assert known == older


@pytest.mark.parametrize("probe", NAMES)
def test_a_spec_reads_and_has_the_key_of_its_record(probe):
    for outcome in published(probe):
        assert outcome.job.spec.to_json() == outcome.record.case
        assert outcome.record.content_key() == outcome.record.key
        again = job_of(outcome.job.spec)
        found = Store(BOARD.parent).find(again) or find_older(again, Store(BOARD.parent))
        assert found.folder == outcome.folder and found.job == again


@pytest.mark.parametrize("probe", NAMES)
def test_the_commands_that_made_the_records_find_them_again(probe):
    planned = [
        (Store(BOARD.parent).find(job) or find_older(job, Store(BOARD.parent))).record.key
        for models, seeds, options in COMMANDS[probe]
        for job in plan_jobs(
            probe, Request(seeds=seeds, device="cpu"), PROBES.get(probe).Options(**options), models.split(",")
        )
    ]
    assert len(set(planned)) == len(planned)
    assert set(planned) == {outcome.record.key for outcome in published(probe)}


@pytest.mark.parametrize("probe", NAMES)
def test_the_picture_has_no_empty_panel(probe):
    chart = PROBES.get(probe).chart(measured(published(probe)))
    assert chart.title and chart.panels
    for panel in chart.panels:
        assert panel.title and limits(panel, "x") is not None and limits(panel, "y") is not None, panel.title


def test_a_result_of_another_shape_is_refused():
    record = published("memory")[0].record
    broken = record.model_copy(update={"result": {**record.result, "edge": "far"}})
    with pytest.raises(UserError, match=r"probe memory has no valid result: edge"):
        read_result(broken)


def test_probes_load_without_torch():
    code = "import sys; from seqbench.probes import PROBES; PROBES.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

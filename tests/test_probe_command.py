"""The command `probe`: a user's own layer, what is refused before work, and records that are found again."""

import json

import pytest
import torch
from conftest import ROOT

from seqbench.errors import UserError
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.models.heads import Shape
from seqbench.probes import Request
from seqbench.probes.gradient import GradientOptions
from seqbench.probes.shared.measuring import measure, plan_jobs
from seqbench.probes.shared.nets import build_net, check_fits, training_bytes

OWN, BAD = ROOT / "tests" / "own_layer.py", ROOT / "tests" / "bad_layers.py"
SMOKE = ("--budget", "smoke")


def records(out):
    return [record for record, _ in Store(out).records(ProbeRecord)]


@pytest.mark.parametrize("probe", ["memory", "gradient", "cost", "parallel", "copy", "published", "tracking"])
def test_a_file_of_thirty_lines_gets_every_probe(cli, tmp_path, probe):
    few = ("--experiment", "reber,pixels") if probe == "published" else ()  # others are sequences of 1,000 steps
    done = cli("probe", probe, "--model", "leaky", "--plugin", OWN, *SMOKE, *few, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "leaky" in done.stdout and (tmp_path / "out" / "probes" / f"{probe}.png").stat().st_size > 10_000
    found = records(tmp_path / "out")
    assert found and all(record.status == "ok" and record.models[0].name == "leaky" for record in found)
    assert len(OWN.read_text().splitlines()) <= 36


@pytest.mark.parametrize(
    ("model", "check"),
    [
        ("shortens", "length: 12 steps went in and 11 came out"),
        ("not-a-number", "finite values"),
        ("peeks", "causality"),
        ("peeks-unseen", "causality"),
        ("narrows", "shape"),
        ("breaks", "running: it ends with RuntimeError"),
    ],
)
def test_a_layer_that_breaks_the_contract_is_refused_by_the_name_of_the_check(cli, tmp_path, model, check):
    done = cli("probe", "memory", "--model", model, "--plugin", BAD, *SMOKE, "--out", "out")
    assert done.returncode == 2 and f"check of {check}" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gradient", "--length", "0"), "--length 0 is out of range"),
        (("gradient", "--model", "lstm", "--length", "9000000"), "the largest that fits is"),
        (("memory", "--longest", "0"), "--longest 0 is out of range"),
        (("memory", "--model", "lstm", "--longest", "9000000"), "the largest that fits is"),
        (("memory", "--model", "lstn"), "did you mean lstm"),
        (("memory", "--problem", "recal"), "did you mean recall"),
        (("memry",), "did you mean memory"),
        (("memory", "--jobs", "0"), "--jobs 0 is out of range"),
        (("memory", "--time-limit", "9"), "--jobs 1 starts none: give --jobs 2"),
        (("memory", "--plot", "picture.doc"), "must end in .png, .svg or .html"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_before_work(cli, tmp_path, words, sentence):
    done = cli("probe", *words, "--out", "out")
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_bytes_that_a_step_keeps_grow_as_they_do():
    """The estimate from short lengths against the bytes counted at a long one."""
    shape = Shape(17, 0, (8,))
    for model in ("rnn", "lstm", "transformer"):
        need = training_bytes(lambda model=model: build_net(model, shape, 16), shape, 4, "cpu")
        long = training_bytes(lambda model=model: build_net(model, shape, 16), shape, 8, "cpu")
        assert need(1000) > 6 * need(128) and long(500) == pytest.approx(need(1000), rel=0.1)
    with pytest.raises(UserError, match=r"the largest that fits is [1-9]"):
        check_fits(lambda: build_net("lstm", shape, 16), shape, 64, 1 << 24, "cpu")


def test_a_stored_record_is_found_again_here_and_by_processes(cli, tmp_path):
    words = ("probe", "memory", "--model", "rnn,bilstm", *SMOKE, "--out", "out")
    first = cli(*words, "--jobs", "2")
    assert first.returncode == 0, first.stderr
    assert "bilstm: not_applicable" in first.stdout
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("record.json")}
    again = cli(*words)
    assert "0 to run" in again.stderr and first.stdout == again.stdout
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("record.json")}
    forced = cli(*words, "--force")
    assert forced.returncode == 0 and len(list((tmp_path / "out").rglob("record.json"))) == 2 * len(before)
    for path, content in before.items():  # the same numbers, wherever they were measured
        result = json.loads(path.with_name("record.json").read_text())["result"]
        assert json.loads(content)["result"] == result
        assert json.loads((path.parents[1] / "run-2" / "record.json").read_text())["result"] == result


def a_job():
    return plan_jobs("gradient", Request(budget="smoke", device="cpu"), GradientOptions(), ["rnn"])[0]


def test_a_record_that_was_altered_or_is_from_the_future_is_refused(tmp_path):
    outcome = measure(a_job(), Store(tmp_path))
    assert outcome.record.status == "ok" and outcome.job.key == outcome.record.key
    text = (outcome.folder / "record.json").read_text()
    for old, new, sentence in (
        ('"seed": 0', '"seed": 1', "has been altered"),
        ('"schema_version": 4', '"schema_version": 5', "update it"),
        ('"status": "ok"', '"status": "fine"', "not a valid record"),
    ):
        with pytest.raises(UserError, match=sentence):
            ProbeRecord.from_json(text.replace(old, new))


def test_a_measurement_leaves_the_callers_random_state_alone(tmp_path):
    job = a_job()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    measure(job, Store(tmp_path))
    assert torch.equal(torch.rand(3), wanted)

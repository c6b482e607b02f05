"""What goes wrong with a model becomes its record; what goes wrong with the command or the machine writes nothing."""

import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

import seqbench
from seqbench import registry
from seqbench.config import RunConfig
from seqbench.data import read_predictions
from seqbench.errors import Interrupted, UserError
from seqbench.experiment import run_cell
from seqbench.jobs.job import Listener, status_of
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.models.backbone import build
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS
from seqbench.predictions import _Header


def run(tmp_path, task, model, force=False, listener=None, **config):
    chosen = RunConfig(task=task, model=model, **{"hidden": (16,), "budget": "smoke", **config})
    return run_cell(chosen, Store(tmp_path), force=force, listener=listener)


def test_a_loss_that_is_not_finite_is_a_record_of_its_own(tmp_path):
    outcome = run(tmp_path, "toy-wave", "rnn", learning_rate=1e30, clip=1e30)
    record = outcome.record
    assert record.status == "diverged" and "step" in record.reason
    assert record.primary is None and record.metrics == {} and record.cost is None
    assert Store(tmp_path).read(outcome.folder) == record


class Linear(seqbench.Mixer):
    """A mixer without memory, to be spoilt by the tests below; it offers no step form."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)
        self.gate = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, lengths=None):
        return self.map(x)

    def state_size(self, length):
        return 0


@pytest.fixture
def mixer():
    """``mixer(forward)`` registers a model that computes that, for one test."""
    registered = []

    def register(forward=Linear.forward):
        seqbench.register_model("spoilt")(type("Spoilt", (Linear,), {"forward": forward}))
        registered.append("spoilt")
        return "spoilt"

    yield register
    for name in registered:
        MODELS.remove(name)


def test_a_model_that_crashes_is_a_record_of_its_own_and_is_tried_again(tmp_path, mixer):
    def forward(self, x, lengths=None):
        if self.training:
            raise RuntimeError("no such luck\nand more")
        return self.map(x)

    outcome = run(tmp_path, "toy-wave", mixer(forward))
    assert outcome.record.status == "error" and "RuntimeError: no such luck (" in outcome.record.reason
    assert "Traceback" in (outcome.folder / "traceback.txt").read_text()
    assert run(tmp_path, "toy-wave", "spoilt").folder.name == "run-2"


@pytest.mark.parametrize(("text", "says"), [("\n\n  first\nsecond", "first"), ("", "OSError"), (" \n", "OSError")])
def test_the_reason_is_the_first_line_that_says_something(text, says):
    for cls in (OSError, RuntimeError):
        try:
            raise cls(text)
        except Exception as error:
            _, reason = status_of(error)
        assert reason.startswith(f"{cls.__name__}: {says.replace('OSError', cls.__name__)} (test_failures.py, line ")


def test_weights_that_are_tied_train_go_on_and_are_read_again(tmp_path, short, monkeypatch):
    def begin(self, d_in, d_out, causal):
        Linear.__init__(self, d_in, d_out, causal)
        self.after, self.tied = torch.nn.Linear(d_out, d_out), torch.nn.Linear(d_out, d_out)
        self.tied.weight = self.after.weight
        self.register_buffer("part", self.gate.detach()[:1])

    def forward(self, x, lengths=None):
        return self.tied(self.after(self.map(x)).tanh())

    class Stop(Listener):
        def step(self, step, loss=0.0):
            if step == 13:
                raise KeyboardInterrupt

    body = {"__init__": begin, "forward": forward, "__doc__": "Two layers that share a matrix."}
    seqbench.register_model("tied")(type("Tied", (Linear,), body))
    try:
        whole = run(tmp_path / "whole", "toy-first", "tied", budget="quick")
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", "toy-first", "tied", budget="quick", listener=Stop())
        parts = run(tmp_path / "parts", "toy-first", "tied", budget="quick")
        assert whole.record.status == parts.record.status == "ok", whole.record.reason
        assert parts.record.cost.interrupted
        assert whole.record.metrics == parts.record.metrics
        kept = load_file(parts.folder / "model.safetensors")
        assert torch.equal(kept["layers.0.after.weight"], kept["layers.0.tied.weight"])
        model = build("tied", "classify", Shape(4, 0, (3,), False), (16,))
        _Header.of(parts.folder).load(model)
        assert model.layers[0].tied.weight is model.layers[0].after.weight
        assert torch.equal(model.layers[0].tied.weight, kept["layers.0.tied.weight"])
    finally:
        MODELS.remove("tied")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: you tried")])
def test_memory_that_runs_out_is_a_record_of_its_own(tmp_path, mixer, error):
    def forward(self, x, lengths=None):
        raise error

    record = run(tmp_path, "toy-wave", mixer(forward)).record
    assert record.status == "oom" and record.reason


def test_a_model_too_large_to_build_is_out_of_memory(tmp_path, mixer, monkeypatch):
    def build_nothing(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr("seqbench.experiment.build", build_nothing)
    record = run(tmp_path, "toy-wave", mixer()).record
    assert record.status == "oom" and record.model.params is None


def test_predictions_that_are_not_finite_are_never_scored(tmp_path, mixer):
    def forward(self, x, lengths=None):
        return self.map(x) if self.training else self.map(x) * float("nan")

    assert run(tmp_path, "toy-first", mixer(forward)).record.status == "diverged"


def test_a_model_that_learns_to_look_ahead_is_found_out_after_training(tmp_path, mixer):
    """At initialisation the gate is shut and no derivative betrays it."""

    def forward(self, x, lengths=None):
        return self.map(x) + self.gate * self.map(x.roll(-1, dims=1))

    record = run(tmp_path, "toy-text", mixer(forward)).record
    assert record.status == "not_applicable" and "depends on later steps" in record.reason and not record.metrics


def test_a_model_that_looks_ahead_late_in_the_sequence_is_found_out(tmp_path, mixer):
    def forward(self, x, lengths=None):
        y = self.map(x)
        return torch.cat([y[:, :9], y[:, 9:].flip(1)], dim=1)

    assert run(tmp_path, "toy-text", mixer(forward)).record.status == "not_applicable"


def test_a_model_without_a_step_form_generates_all_the_same(tmp_path, mixer):
    outcome = run(tmp_path, "toy-text", mixer())
    assert outcome.record.status == "ok" and len((outcome.folder / "sample.txt").read_text()) == 300


def test_a_model_that_cannot_be_counted_has_no_flops_and_a_record(tmp_path, mixer):
    def forward(self, x, lengths=None):
        return self.map(x) * max(1.0, x.sum().item() * 0)

    record = run(tmp_path, "toy-wave", mixer(forward)).record
    assert record.status == "ok" and record.cost.flops_per_sample is None


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    class Interrupting(Listener):
        def step(self, step, loss=0.0):
            raise KeyboardInterrupt  # as Ctrl-C would between two lines of the loop

    with pytest.raises(Interrupted, match="interrupted at step 1 of 6"):
        run(tmp_path, "toy-wave", "rnn", listener=Interrupting())
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("task", ["toy-wave", "toy-text"])
def test_a_model_that_crashes_before_training_is_a_record_too(tmp_path, mixer, task):
    def forward(self, x, lengths=None):
        raise ValueError("at once")

    record = run(tmp_path, task, mixer(forward)).record
    assert record.status == "error" and "ValueError: at once" in record.reason


@pytest.mark.parametrize("damage", [b"", b"PK not a zip"])
def test_damaged_predictions_are_one_sentence(tmp_path, damage):
    outcome = run(tmp_path, "toy-wave", "rnn")
    (outcome.folder / "predictions.npz").write_bytes(damage)
    with pytest.raises(UserError, match="run the cell again with --force"):
        read_predictions(outcome.folder)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_torn(tmp_path):
    """A file system of 2 MiB, which the weights of this model do not fit on; skipped where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode
    ):
        pytest.skip("no small file system can be mounted here")
    try:
        words = [
            "--task",
            "weather",
            "--model",
            "lstm",
            "--hidden",
            "512",
            "--budget",
            "smoke",
            "--out",
            str(disk / "out"),
        ]
        done = subprocess.run([sys.executable, str(ROOT / "run_bench.py"), *words], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("seqbench: No space left on device")
        assert "Traceback" not in done.stderr and list(Store(disk / "out").records(RunRecord)) == []
        assert not [path for path in disk.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit(), "SystemExit: SystemExit"),
        (GeneratorExit("gone"), "GeneratorExit: gone"),
        (RuntimeError("half \ud800 of it"), r"RuntimeError: half \ud800 of it"),
    ],
)
@pytest.mark.parametrize("when", ["training", "building"])
def test_whatever_a_model_raises_is_its_record(tmp_path, mixer, monkeypatch, error, says, when):
    def grief(self, *args, **named):
        raise error

    name = mixer(grief if when == "training" else Linear.forward)
    if when == "building":
        monkeypatch.setattr(MODELS.get(name).mixer, "__init__", grief)
    outcome = run(tmp_path, "toy-wave", name)
    assert outcome.record.status == "error" and outcome.record.reason.startswith(f"{says} (")
    assert Store(tmp_path).read(outcome.folder) == outcome.record
    if when == "training":
        assert says.partition(":")[0] in (outcome.folder / "traceback.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("size", ["many", None, 1.5, float("nan"), float("inf"), -1, [4]])
def test_a_state_size_that_is_no_number_is_the_models_failure(tmp_path, mixer, monkeypatch, size):
    name = mixer()
    monkeypatch.setattr(MODELS.get(name).mixer, "state_size", lambda self, length: size)
    record = run(tmp_path, "toy-wave", name).record
    assert record.status == "error" and "must give a whole number of floats" in record.reason
    assert record.model.state_size is None and record.model.params > 0


CRASHES = """
import os
import torch
import seqbench

class Crashing(seqbench.Mixer):
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)
    def forward(self, x, lengths=None):
        if self.training:
            print("about to", type(self).__name__, flush=True)
            self.come_to_grief()
        return self.map(x)
    def state_size(self, length):
        return 0

@seqbench.register_model("aborts")
class Aborts(Crashing):
    def come_to_grief(self):
        os.abort()

@seqbench.register_model("exits")
class Exits(Crashing):
    def come_to_grief(self):
        raise SystemExit(3)
"""


@pytest.fixture
def crashes(tmp_path):
    """A plug-in's file, whose models are taken back afterwards."""
    file = tmp_path / "crashes.py"
    file.write_text(CRASHES)
    yield file
    for name in ("aborts", "exits"):
        MODELS.remove(name)
    registry._loaded.pop(file)


def test_a_model_that_takes_its_process_down_is_a_record_of_a_single_run(here, tmp_path, crashes):
    """From the command line and from Python, and what it has printed is seen; other failures read as before."""
    words = ("--plugin", crashes, "--task", "toy-wave", "--budget", "smoke", "--hidden", 8)
    toys = ("--plugin", ROOT / "tests" / "toys.py")
    done = here(*toys, *words, "--model", "aborts", "--out", "out")
    assert done.returncode == 1 and "its process was ended by SIGABRT" in done.stdout, done.stderr
    assert ": done" in done.stdout and "about to Aborts" in done.stderr
    record = seqbench.run("toy-wave", "exits", budget="smoke", hidden=8, out=tmp_path / "out", progress=False)
    assert record.status == "error" and record.reason.startswith("SystemExit: 3 (crashes.py, line ")
    assert [record.status for record, _ in Store(tmp_path / "out").records(RunRecord)] == ["error", "error"]

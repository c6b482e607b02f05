"""A trained model as an ONNX file: every model at one kind of task at least, held to the model; what is refused."""

import json

import numpy as np
import pytest
import torch
from checkpoint_runs import run
from own_files import reviews
from test_models import BUILT_IN

import seqbench
from seqbench.data import BEGIN, END, read_predictions
from seqbench.errors import UserError
from seqbench.export.onnx import TOLERANCE, RealRows, converted
from seqbench.jobs.store import Store
from seqbench.models.backbone import build
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer, Regularisers
from seqbench.predictions import Trained
from seqbench.prepare import prepare
from seqbench.training import DeviceSplit

onnx, onnxruntime, _ = map(pytest.importorskip, ("onnx", "onnxruntime", "onnxscript"))

SHAPES = {  # of data of each kind; whether lengths differ
    "classify": (Shape(5, 0, (3,)), True),
    "regress": (Shape(0, 2, (1,)), True),
    "tag": (Shape(5, 0, (3,), True), True),
    "forecast": (Shape(0, 2, (4, 2)), False),
    "generate": (Shape(5, 0, (5,), True), False),
    "translate": (Shape(9, 0, (9,), True), True),
}
OF = {  # each model at one kind, and each kind with a model at least; those that take long at kinds that don't
    "bilstm": "tag", "deltanet": "forecast", "gru": "translate", "lru": "regress", "lstm": "generate",
    "mamba2": "classify", "mingru": "generate", "minlstm": "tag", "mlstm": "forecast", "ntm": "classify",
    "peephole-lstm": "regress", "rnn": "forecast", "slstm": "tag", "tcn": "generate", "transformer": "classify",
}  # fmt: skip
LENGTH = 9


def rows_of(model, kind):
    """Random ones, of all lengths where these differ."""
    generator = torch.Generator().manual_seed(3)
    shape, uneven = SHAPES[kind]
    if shape.tokens:
        inputs = torch.randint(4, shape.tokens, (5, LENGTH), generator=generator)
    else:
        inputs = torch.randn(5, LENGTH, shape.features, generator=generator)
    lengths = torch.tensor([LENGTH, 7, 4, 2, 1]) if uneven else None
    written = torch.randint(4, 9, (5, 6), generator=generator) if model.writes else None
    return RealRows(inputs, lengths, written)


def made(name, kind, **more):
    torch.manual_seed(2)
    return build(name, kind, SHAPES[kind][0], (16,), **more).eval()


def session(proto):
    content = proto if isinstance(proto, str) else proto.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_every_kind_has_models():
    assert set(OF) == set(BUILT_IN) and set(OF.values()) == set(SHAPES)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_model_becomes_a_file_that_tells_the_same_at_any_length(name):
    kind = OF[name]
    model = made(name, kind)
    rows = rows_of(model, kind)
    with torch.no_grad():
        proto, form, (worst, share) = converted(model, rows, LENGTH)
        assert form.fits == "any batch, any length" and 0 < worst < 1e-5 and share < TOLERANCE
        # once more without what checks it, on other rows, longer than any that it was made or checked with
        long = rows_of(model, kind).doubled().doubled()
        long = RealRows(*(None if part is None else torch.cat([part, part.flip(0)]) for part in long))
        (got,) = session(proto).run(None, {key: part.numpy() for key, part in long.named().items()})
        want = model.told(*long).numpy()
    real = slice(None)
    if kind == "tag":  # what is told of padding is nothing
        real = (torch.arange(want.shape[1]) < long.lengths[:, None]).numpy()
    assert got.shape == want.shape and np.ptp(got[real]) > 0.01
    assert np.abs((got - want)[real]).max() < 2e-5
    content = proto.SerializeToString()
    assert len(content) < 60_000 + 4.2 * sum(weight.numel() for weight in model.parameters())
    assert b"site-packages" not in content and b".py" not in content  # nothing of where it was made
    named = [[size.dim_param or size.dim_value for size in i.type.tensor_type.shape.dim] for i in proto.graph.input]
    assert named[0][:2] == ["batch", "length"] and all(sizes[0] == "batch" for sizes in named)


@pytest.fixture
def registered():
    """``registered(Mixer subclass)`` under the name `mine`, for one test."""
    yield lambda mixer: seqbench.register_model("mine")(mixer)
    MODELS.remove("mine")


class Halves(Mixer):
    """A layer that no step form has, and that asks how long its input is."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def forward(self, x, lengths=None):
        y = self.map(x)
        if x.shape[1] > 3:
            y = y + y[:, :1]
        return y

    def state_size(self, length):
        return 2 * self.d_out


class Sly(Halves):
    """One that does something else while it is followed."""

    traceable, factor = True, 1.001

    def forward(self, x, lengths=None):
        return self.map(x) * (self.factor if torch.compiler.is_exporting() else 1.0)


class Lost(Sly):
    """One whose file gives what is no number."""

    factor = float("nan")


def test_a_layer_that_fits_one_length_alone_says_so(registered):
    registered(Halves)
    model = made("mine", "classify")
    with torch.no_grad():
        proto, form, _ = converted(model, rows_of(model, "classify"), LENGTH)
    assert (form.name, form.fits) == ("unrolled", f"any batch, length {LENGTH} exactly")
    sizes = proto.graph.input[0].type.tensor_type.shape.dim
    assert (sizes[0].dim_param, sizes[1].dim_value) == ("batch", LENGTH)


def test_a_file_that_differs_is_refused_and_so_is_what_cannot_be_followed(registered):
    registered(Sly)
    model = made("mine", "classify")
    with torch.no_grad(), pytest.raises(UserError, match=r"traced: the file differs from the model by 0\.00"):
        converted(model, rows_of(model, "classify"), LENGTH)
    registered(Lost)
    model = made("mine", "classify")
    with torch.no_grad(), pytest.raises(UserError, match="gives a value that is no number"):
        converted(model, rows_of(model, "classify"), LENGTH)
    # the one that is built in: both directions with zoneout, which in evaluation mixes states
    model = made("bilstm", "classify", regularisers=Regularisers(zoneout=(0.1,)))
    with torch.no_grad(), pytest.raises(UserError, match=r"can't be exported.*fixed"):
        converted(model, rows_of(model, "classify"), LENGTH)


def test_states_that_zoneout_mixes_are_kept():
    model = made("lstm", "classify", regularisers=Regularisers(zoneout=(0.3, 0.1)))
    with torch.no_grad():
        _, form, (worst, _) = converted(model, rows_of(model, "classify"), LENGTH)
    assert form.name == "stepped" and worst < 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``trained(task)`` is the folder of a small run, once for each."""
    runs = {}

    def one(task):
        if task not in runs:
            outcome = run(tmp_path_factory.mktemp("runs"), task=task, model="gru", budget="smoke", hidden=(8,))
            runs[task] = outcome.folder
        return runs[task]

    return one


def test_the_command_writes_a_file_that_gives_the_predictions_of_the_record(here, trained, tmp_path):
    folder = trained("toy-first")
    done = here("export", folder, "--to", "onnx", "--out", "made/gru.onnx")
    assert done.returncode == 0 and "checked on 64 test rows: the greatest difference" in done.stdout, done.stderr
    path = tmp_path / "made" / "gru.onnx"
    assert [file.name for file in path.parent.iterdir()] == ["gru.onnx"]
    test = prepare("toy-first", {}).data.test
    batch = DeviceSplit(test, torch.device("cpu"))[np.arange(len(test))]
    (got,) = session(str(path)).run(None, {"inputs": batch.inputs.numpy(), "lengths": batch.lengths.numpy()})
    kept, _ = read_predictions(folder)
    assert np.abs(got - kept).max() < 1e-5
    model = onnx.load(path)
    said = {one.key: one.value for one in model.metadata_props}
    record = Store.read(folder)
    assert said["record"] == record.key and said["fits"] == "any batch, any length" and "toy-first" in model.doc_string
    assert json.loads(said["reading"])["vocabulary"] == ["<pad>", "a", "b", "c"]
    assert said["output"].startswith("the probability of each class") and "lengths" in said


def test_a_translation_is_written_piece_by_piece_from_the_file_alone(here, trained, tmp_path):
    folder = trained("toy-pairs")
    assert here("export", folder, "--to", "onnx", "--out", "pairs.onnx").returncode == 0
    split = prepare("toy-pairs", {}).data.test
    batch = DeviceSplit(split, torch.device("cpu"))[np.arange(6)]
    with torch.no_grad():
        own = Trained.of(folder).model(split).eval().answer(batch).numpy()
    told, written = session(str(tmp_path / "pairs.onnx")), np.zeros((6, own.shape[1] + 1), dtype=np.int64)
    limits = (1.5 * batch.lengths.numpy()).astype(int) + 10
    for step in range(own.shape[1]):
        feed = {"inputs": batch.inputs.numpy(), "lengths": batch.lengths.numpy(), "written": written}
        scores = told.run(None, feed)[0][:, step]
        scores[:, [0, BEGIN]] = -np.inf
        ended = ((written[:, :step] == END).any(axis=1)) | (step >= limits)
        written[:, step] = np.where(ended, END, scores.argmax(axis=1))
    made_of = np.where(written == END, 0, written)[:, : own.shape[1]]
    assert np.array_equal(made_of, own) and own.max() > 3


def test_what_is_wrong_is_said_before_anything_is_written(here, trained, tmp_path, monkeypatch):
    folder = trained("toy-first")
    (tmp_path / "own.csv").write_text(reviews(), encoding="utf-8")
    words = ("--data", "own.csv", "--model", "gru", "--hidden", "8", "--budget", "smoke", "--out", "own")
    assert here("run", *words).returncode == 0
    (own,) = (tmp_path / "own").rglob("run-1")
    for given, said in (
        ((folder, "--out", "model.bin"), "must end in .onnx"),
        ((folder, folder, "--out", "m.onnx"), "name one run, not 2"),
        ((folder.parent, "--out", "m.onnx"), "Name a run's folder"),
        ((own, "--out", "m.onnx"), "add --data FILE"),
    ):
        done = here("export", *given, "--to", "onnx")
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    done = here("export", own / "record.json", "--to", "onnx", "--out", "own.onnx", "--data", "own.csv", "--json")
    told = json.loads(done.stdout)
    assert 0 < told["worst"] < 1e-5 and told["size"] == (tmp_path / "own.onnx").stat().st_size
    (tmp_path / "other.csv").write_text(reviews(110), encoding="utf-8")
    done = here("export", own, "--to", "onnx", "--out", "m.onnx", "--data", "other.csv")
    assert done.returncode == 2 and "not what this run was scored on" in done.stderr
    first = seqbench.export.onnx._forms
    monkeypatch.setattr("seqbench.export.onnx._forms", lambda *about: [next(first(*about))])
    monkeypatch.setattr("seqbench.export.onnx.TOLERANCE", 0.0)  # no file is as near as that
    done = here("export", folder, "--to", "onnx", "--out", "m.onnx")
    assert done.returncode == 2 and "the file differs from the model by" in done.stderr
    assert not list(tmp_path.glob("m.onnx")) and not list(tmp_path.glob("model.bin"))

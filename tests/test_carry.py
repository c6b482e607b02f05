"""Training that carries the state from window to window: what is read when, what is handed on, and who is refused."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from checkpoint_runs import checkpoint_in, finished, killed, left
from safetensors import safe_open

import seqbench
from seqbench.config import RunConfig
from seqbench.data import InOrder, Stream, TaskData
from seqbench.device import settings
from seqbench.errors import UserError
from seqbench.experiment import resolve, run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import _carries, build, check_carries, shape_of
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Regularisers
from seqbench.predictions import predict_columns
from seqbench.task import TASKS, Budget
from seqbench.training import AdamW, Carried, DeviceSplit, Losses, TrainingStep, evaluate, fit, predict_split

CPU = torch.device("cpu")
CARRY = [name for name in MODELS.names() if MODELS.get(name).mixer.carries]
SYMBOLS = 6


def text(length=500, window=8, stride=3, seed=0):
    return Stream.training(np.random.default_rng(seed).integers(0, SYMBOLS, length), window, stride)


def model_of(name, width=16, backbone="bare", layers=2, **form):
    torch.manual_seed(0)
    shape = Shape(SYMBOLS, 0, (SYMBOLS,), every_step=True)
    return build(name, "generate", shape, (width,) * layers, backbone=backbone, **form).double()


def step_of(model, split, rows, **chosen):
    config = RunConfig(task="toy-text", model="lstm", weight_decay=0.0, clip=1e9, **chosen)
    optimizer = AdamW(model.parameters(), 0.0)
    return TrainingStep(model, DeviceSplit(split, CPU), optimizer, Losses(CPU), config, Carried(model, rows))


# ---- what is read when ---------------------------------------------------------------------------------------------


def batches(split, rows, number, seed=0):
    every = split.passes(rows, np.random.default_rng(seed))
    return [next(every) for _ in range(number)]


def test_each_row_goes_on_where_it_ended_and_a_pass_reads_all_but_the_edges():
    split, rows = text(1003, window=8).in_order(), 5
    assert isinstance(split, InOrder) and len(split) == 125 and split.runs.tolist() == [[0, 1001]]
    first = batches(split, rows, 24)  # a pass may have one step less than 125 / 5
    for before, after in itertools.pairwise(first):
        assert (after == before + 8).all()
    ends = np.array(first)[-1] + 8
    assert (ends[:-1] == first[0][1:]).all() or (ends[:-1] + 8 == first[0][1:]).all()
    many = batches(split, rows, 25 * 60)
    read = np.unique(np.array(many)[:, :, None] + np.arange(8))
    assert np.array_equal(read, np.arange(1001))  # every character is read in some pass
    phases = {int(place) % 8 for batch in many for place in batch}
    assert phases == set(range(8))


def test_the_order_is_that_of_the_seed():
    split = text().in_order()
    same, other = batches(split, 4, 40), batches(split, 4, 40, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(same, batches(split, 4, 40), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(same, other, strict=True))


def test_a_batch_is_what_stands_at_its_places_and_permuted_targets_stay_so():
    split = text()
    for given in (split, split.shuffled(np.random.default_rng(3))):
        batch = given.in_order()[np.array([7, 20])]
        targets = split.tokens if given.permuted is None else given.permuted
        assert np.array_equal(batch.inputs, split.tokens[[[*range(7, 15)], [*range(20, 28)]]])
        assert np.array_equal(batch.targets, targets[[[*range(8, 16)], [*range(21, 29)]]])
        assert batch.places.tolist() == [7, 20]


def test_no_window_reaches_across_a_break_and_none_is_carried_across():
    """A text in two pieces, as a task can say by where its windows begin."""
    tokens = np.arange(200) % SYMBOLS
    starts = np.append(np.arange(0, 92 - 8, 2), np.arange(100, 192, 2))  # what begins at 92 is read by none
    split = Stream(tokens, starts, 8).in_order()
    assert split.runs.tolist() == [[0, 90], [100, 198]]
    for batch in batches(split, 2, 200):
        assert all(0 <= place <= 82 or 100 <= place <= 190 for place in batch)
    model = model_of("gru", layers=1)
    carried = Carried(model, 2)
    carried.leave([torch.ones(2, 16)], torch.tensor([82, 108]))
    first = carried.at(torch.tensor([100, 108]))[0]
    assert (first[0] == 0).all() and (first[1] == 1).all()


def test_a_text_of_one_window_for_each_row_is_refused():
    split = text(100, window=8).in_order()
    with pytest.raises(UserError, match=r"as a batch has rows, 7, and it has 12 windows of 8: take a smaller"):
        next(split.passes(7, np.random.default_rng(0)))
    assert len(next(split.passes(6, np.random.default_rng(0)))) == 6


@pytest.mark.parametrize("length", [10, 11, 64, 65, 137, 999, 5000])
@pytest.mark.parametrize("window", [2, 9, 16])
def test_stretches_score_each_character_once_after_at_least_a_window_of_others(length, window):
    if length <= window:
        return
    usual = Stream.evaluation(np.zeros(length, dtype=np.uint8), window)
    split = usual.in_stretches()
    scored = split[np.arange(len(split))].skip[:, None] <= np.arange(split.window)
    targets = (split.starts[:, None] + np.arange(split.window) + 1)[scored]
    assert sorted(targets) == [*range(1, length)]  # as in windows that overlap by half
    assert np.array_equal(split.collect(scored.astype(float)), usual.truth().targets)
    assert (split.skip[1:] >= window).all() and split.skip[0] == 0 and len(split) <= 32
    assert len(split) == 1 or split.window >= 8 * window


# ---- what is handed on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["torch", "fast"])
@pytest.mark.parametrize("backbone", ["bare", "residual"])
@pytest.mark.parametrize("name", CARRY)
def test_two_windows_carried_are_one_of_twice_the_length(name, backbone, kernel):
    """For every model that carries: those of torch and of C, recurrent, scanned and in chunks of 64 steps."""
    model = model_of(name, backbone=backbone, kernel=kernel).eval()
    inputs = torch.randint(SYMBOLS, (3, 150))
    whole = model(inputs)
    for cut in (75, 1):
        first, state = model.forward_from(inputs[:, :cut], model.initial_state(3))
        rest, _ = model.forward_from(inputs[:, cut:], state)
        assert torch.allclose(torch.cat([first, rest], dim=1), whole, atol=1e-9)


@pytest.mark.parametrize("kernel", ["torch", "fast"])
@pytest.mark.parametrize("name", CARRY)
def test_the_gradient_ends_at_the_border_and_is_right_within_the_window(name, kernel):
    """Of the second window: what autograd finds step by step from a state that is cut off the first."""
    model, split = model_of(name, kernel=kernel), text().in_order()
    places = np.array([3, 40, 250])
    by_hand = copy.deepcopy(model)
    step = step_of(model, split, 3)
    step(places, 0.0)
    step(places + 8, 0.0)
    assert step.carried.ends.tolist() == (places + 16).tolist()
    state = by_hand.initial_state(3)
    for window in (split[places], split[places + 8]):
        state = cut(state)
        inputs, outputs = torch.from_numpy(window.inputs), []
        for t in range(8):
            output, state = by_hand.step(inputs[:, t], state)
            outputs.append(output)
    loss = by_hand.head.loss(torch.stack(outputs, dim=1), window._replace(targets=torch.from_numpy(window.targets)))
    loss.backward()
    pairs = zip(model.named_parameters(), by_hand.parameters(), strict=True)
    for (name, found), truth in pairs:
        if truth.grad is None:  # of a first state that the second window does not begin with
            assert found.grad is None or not found.grad.any(), name
        else:
            assert torch.allclose(found.grad, truth.grad, atol=1e-6 * float(truth.grad.abs().max()) + 1e-12), name


def cut(state):
    if isinstance(state, torch.Tensor):
        return state.detach()
    parts = [cut(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "peephole-lstm"])
def test_what_regularises_is_carried_too(name):
    """Zoneout: units that keep their state keep that of the window before; in evaluation their share of it."""
    share = (0.3,) if name in ("gru", "rnn") else (0.0, 0.3)
    model = model_of(name, layers=1, regularisers=Regularisers(0.2, share))
    layer = model.mixers()[0]
    x, state = torch.randn(40, 2, 16).double(), model.initial_state(40)[0]
    y, after = layer.forward_from(x, state)
    again, _ = layer.forward_from(x, after)
    last = after if isinstance(after, torch.Tensor) else after[0]
    assert torch.equal(last, y[:, -1])
    assert abs((again[:, 0] == last).double().mean() - 0.3) < 4 * (0.21 / 640) ** 0.5
    model.eval()
    whole = layer(torch.cat([x, x], dim=1))
    y, after = layer.forward_from(x, state)
    assert torch.allclose(torch.cat([y, layer.forward_from(x, after)[0]], dim=1), whole, atol=1e-12)


def test_a_dropped_state_is_the_same_within_a_window_and_another_in_the_next():
    """Each unit reads itself alone: one whose state is dropped does not see what was carried to it."""
    model = model_of("rnn", layers=1, regularisers=Regularisers(0.5))
    layer = model.mixers()[0]
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.kernel.weight_hh_l0.copy_(torch.eye(16))
        state = torch.full((30, 16), 0.1, dtype=torch.float64)
        seen = [layer.forward_from(torch.zeros(30, 3, 16).double(), state)[0] != 0 for _ in range(2)]
    assert all(torch.equal(one.all(1), one.any(1)) for one in seen) and not torch.equal(*seen)


def test_validation_is_read_with_the_state_carried_through_the_text():
    """A short text is one stretch: the very losses of one pass over all of it."""
    model = model_of("lstm")
    split = Stream.evaluation(text(120).tokens, 16)
    config = RunConfig(task="toy-text", model="lstm", carry_state=True)
    found = predict_split(model, split, config)
    tokens = torch.from_numpy(split.tokens)[None]
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(model.eval()(tokens[:, :-1])[0], tokens[0, 1:], reduction="none")
    assert found.shape == (1,) and np.allclose(found, float(nats.sum()))
    plain = predict_split(model, split, dataclasses.replace(config, carry_state=False))
    assert plain.shape == found.shape and not np.allclose(plain, found)


# ---- what it is worth ----------------------------------------------------------------------------------------------

LAG, WINDOW = 10, 8


def modes(seed, n):
    """``a`` or ``b`` at every tenth place, mostly the same again, and fillers between: no window of eight sees two."""
    rng = np.random.default_rng(seed)
    tokens = np.full(n, 2)
    changes = rng.random(-(-n // LAG)) < 0.03
    tokens[::LAG] = (np.cumsum(changes) + seed) % 2
    return tokens.astype(np.uint8)


def bits(carry):
    """Bits per character of a small GRU after a few steps on such texts."""
    spec = TASKS.get("toy-text")
    config = RunConfig(task="toy-text", model="gru", learning_rate=0.02, weight_decay=0.0, carry_state=carry)
    data = TaskData(
        Stream.training(modes(1, 12_000), WINDOW, 1),
        *(Stream.evaluation(modes(seed, 6000), WINDOW) for seed in (2, 3)),
        {}, vocabulary=("a", "b", "."),
    )  # fmt: skip
    if carry:
        data = dataclasses.replace(data, train=data.train.in_order())
    with settings(CPU, config):
        model = build("gru", "generate", shape_of("generate", data), (32,))
        fit(model, spec, data, config, Budget(600, 32, 1))
        return evaluate(model, spec, data.test, config)["bits_per_character"]


def least_bits(tokens):
    """What no model can beat that sees a window's characters before each: the entropy of the text given these."""
    rows = np.lib.stride_tricks.sliding_window_view(tokens, WINDOW + 1)
    _, whole = np.unique(rows, axis=0, return_counts=True)
    _, before = np.unique(rows[:, :-1], axis=0, return_counts=True)
    return (np.sum(before * np.log2(before)) - np.sum(whole * np.log2(whole))) / len(rows)


def test_what_depends_on_the_window_before_is_learnt_with_the_state_and_not_without():
    least = least_bits(modes(3, 6000))
    assert 0.25 < least < 0.32
    assert bits(carry=True) < least - 0.08 and bits(carry=False) > least


# ---- runs ----------------------------------------------------------------------------------------------------------

CELL = {"task": "toy-text", "carry_state": True}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("lstm", {"layers": 1, "recurrent_dropout": 0.2, "zoneout": (0.1, 0.2)}),
        ("gru", {"backbone": "residual"}),
        ("mlstm", {"layers": 1, "sequence_length": 6}),
    ],
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, undisturbed, model, more):
    """The states and the places are in the checkpoint."""
    cell = {**CELL, "model": model, **more}
    expected = undisturbed(**cell)
    assert expected["metrics"] != undisturbed(**{**cell, "carry_state": False})["metrics"]
    for check in (10, 30):  # in the first pass, of 25 steps or more, and in the second
        killed(tmp_path, check + 2, **cell)
        with safe_open(checkpoint_in(tmp_path), "pt") as file:
            states = [file.get_tensor(name) for name in file.keys() if name.startswith("carried.")]  # noqa: SIM118
        assert len(states) >= 2 and all(len(state) == 16 for state in states)
    outcome, reported = finished(tmp_path, **cell)
    assert reported[0] == 31 and left(outcome) == expected


def test_the_record_says_so_and_a_stored_model_reads_a_file_as_it_read_the_test(tmp_path):
    file = tmp_path / "text.txt"
    rng = np.random.default_rng(0)
    file.write_text("".join(rng.choice(["abcd ", "bdca ", "ccdb "], 4000)))
    config = RunConfig(data=str(file), task="textgen", model="gru", budget="smoke", hidden=(16,), carry_state=True)
    outcome = run_cell(config, Store(tmp_path / "out"))
    record = outcome.record
    assert record.config["carry_state"] is True and record.config["scored"] == "in order, with the state carried"
    new = tmp_path / "new.txt"
    new.write_text(file.read_text()[-1000:])
    columns = predict_columns(outcome.folder, new)
    test = np.load(outcome.folder / "predictions.npz")
    assert np.allclose(columns["bits"].sum(), test["prediction"].sum() / np.log(2), rtol=1e-5)
    assert columns["characters"].sum() == test["target"].sum() == 999
    again = RunConfig(**{**vars(config), "carry_state": False})
    plain = run_cell(again, Store(tmp_path / "out")).record
    assert plain.key != record.key and not {"carry_state", "scored"} & set(plain.config)
    frame = seqbench.load_results(tmp_path / "out")
    assert frame["conditions"].nunique() == 2  # no table holds both


def test_an_epoch_is_a_pass_over_the_text():
    chosen = {"task": "toy-text", "model": "gru", "epochs": 3, "batch_size": 16}
    carried, plain = (resolve(RunConfig(**chosen, carry_state=carry)) for carry in (True, False))
    length, window = 5000, 12
    assert len(carried.data.train) == (length - 1) // window
    assert carried.budget.steps == -(-3 * ((length - 1) // window) // 16) < plain.budget.steps


def test_what_cannot_carry_a_state_is_refused_before_anything_runs(tmp_path):
    def refused(says, **config):
        with pytest.raises(UserError, match=says):
            resolve(RunConfig(carry_state=True, **{"task": "toy-text", **config}))

    for model in ("transformer", "tcn", "bilstm"):
        refused(f"^--carry-state is not for {model}: leave it out, or take one of .*gru, .*lstm", model=model)
    refused("^--carry-state is for tasks of kind generate, and this one is of kind classify", task="dna", model="gru")
    refused(r"streams as a batch has rows, 300, and it has 416 windows of 12", model="gru", batch_size=300)


def test_a_layer_whose_own_forward_is_newer_than_its_way_to_carry_is_not_trusted_to_carry():
    class Newer(MODELS.get("lstm").mixer):
        def forward(self, x, lengths=None):
            return 2 * super().forward(x, lengths)

    class Whole(Newer):
        def forward_from(self, x, state):
            y, state = super().forward_from(x, state)
            return 2 * y, state

    assert not _carries(Newer) and _carries(Whole) and _carries(MODELS.get("lstm").mixer)
    check_carries("gru", "generate")


def test_a_state_without_a_row_for_each_sequence_is_a_sentence():
    model = model_of("gru", layers=1)
    model.initial_state = lambda rows: [torch.zeros(1, 16)]
    with pytest.raises(TypeError, match="a row for each sequence"):
        Carried(model, 4)

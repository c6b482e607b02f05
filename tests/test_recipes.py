"""Documented recipes, and the options that they need: each does what it says, and without them nothing changes."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from checkpoint_runs import curve_of, finished, killed, left
from conftest import ROOT
from torch import nn

import seqbench
from seqbench.config import ADDED, RunConfig
from seqbench.device import settings
from seqbench.errors import UserError
from seqbench.experiment import Grid, build_model, resolve
from seqbench.jobs.store import Store
from seqbench.models.backbone import build
from seqbench.models.heads import HEADS, Head, Shape
from seqbench.models.mixer import MODELS
from seqbench.prepare import prepare
from seqbench.task import TASKS, Budget, filled, recipes
from seqbench.training import AdamW, fit, learning_rate

WAVE = {"task": "toy-wave", "model": "rnn", "hidden": (8,), "device": "cpu"}
SMALL = ("--recipe", "lstm-stock", "--task", "stock", "--budget", "smoke", "--hidden", "8,8", "--out", "out")


def of_recipe(name, **given):
    return RunConfig(**filled(name, given))


# what is not asked for changes nothing --------------------------------------------------------------------------------

KEYS = {  # as they were before there were recipes
    "424e0a48f243fb7cd4350da4306af454b119817e6192529c99f58186318480a3": {"model": "lstm"},
    "32a500216b0be6585c8ad80a227234b90e47a921aa1e38cbbd7deb8db5fca8e0": {
        "model": "gru", "hidden": (64, 64), "dropout": 0.2, "seed": 3, "backbone": "residual",
        "option": ("recipe=true",),
    },
    "f05beb7f7319e9f4d96e499ba60024991d461243b2011d3653aac7752fbae5bf": {
        "model": "transformer", "budget": "full", "params": 100_000, "option": ("ticker=IBM",),
    },
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_runs_without_the_new_options_keep_their_keys(key):
    planned = resolve(RunConfig(task="stock", device="cpu", **KEYS[key]))
    assert planned.job.key == key
    assert not set(planned.resolved) & (set(ADDED) - {"batch_size", "patience"})
    assert set(planned.prepared.options) == {"sequence_length", "recipe", "ticker"}


def test_each_new_option_is_in_the_key_when_it_is_given():
    given = {
        "embedding": 4, "dense": (4,), "epochs": 3, "batch_size": 7, "patience": 2, "optimizer": "adam",
        "schedule": "plateau", "dropout": 0.5,
    }  # fmt: skip
    keys = [resolve(RunConfig(**WAVE)).job.key]
    keys += [resolve(RunConfig(**WAVE, **{name: value})).job.key for name, value in given.items()]
    keys.append(resolve(RunConfig(**WAVE, schedule="plateau", plateau_patience=2)).job.key)
    assert len(set(keys)) == len(keys)


# options --------------------------------------------------------------------------------------------------------------


def trained(monkeypatch, values, **config):
    """Fit on toy-wave, where reading validation gives ``values`` one after the other; the rates of all steps, too."""
    planned, script, rates = resolve(RunConfig(**{**WAVE, **config})), iter(values), []
    monkeypatch.setattr("seqbench.training.evaluate", lambda *args: {"rmse": next(script)})
    step = AdamW.step
    monkeypatch.setattr(AdamW, "step", lambda self, rate: (rates.append(rate), step(self, rate)))
    with settings(planned.device, planned.config):
        model = build_model(planned)
        done = fit(model, planned.prepared.spec, planned.data, planned.config, planned.budget)
    return done, rates, planned


PLATEAU = {"schedule": "plateau", "learning_rate": 0.1, "warmup": 0.0, "batch_size": 64}


def test_the_plateau_schedule_divides_the_rate_after_idle_epochs_and_counts_anew(monkeypatch):
    values = [9, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7]  # 8 is idle twice, then better; then idle for long
    done, rates, planned = trained(monkeypatch, values, **PLATEAU, plateau_patience=2, epochs=11)
    ends = [int(point["step"]) for point in done.curve]
    assert len(ends) == 11 and ends[-1] == planned.budget.steps == len(rates)
    expected = [0.1] * 4 + [0.01] * 3 + [0.001] * 2 + [0.0001] * 2
    # an epoch's rate is what the epochs before it have asked for
    assert [rates[end - 1] for end in ends] == pytest.approx(expected)
    assert [point["drops"] for point in done.curve] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    starts = [0, *ends]
    for a, b, rate in zip(starts, ends, expected, strict=False):
        assert rates[a:b] == pytest.approx([rate] * (b - a))


def test_without_the_plateau_schedule_idle_epochs_change_no_rate(monkeypatch):
    done, rates, planned = trained(monkeypatch, [9.0] * 6, learning_rate=0.1, epochs=6)
    assert rates == [learning_rate(step, planned.budget.steps, planned.config) for step in range(1, len(rates) + 1)]
    assert "drops" not in done.curve[0]


def test_training_stops_after_patience_epochs_without_a_better_one(monkeypatch):
    done, _, planned = trained(monkeypatch, [5, 4, 4, 6, 3, 3, 3, 3, 2], epochs=9, patience=3)
    assert len(done.curve) == 8 and done.steps == done.curve[-1]["step"] < planned.budget.steps
    done, _, planned = trained(monkeypatch, [5, 4, 4, 6, 3, 3, 3, 3, 2], epochs=9)
    assert len(done.curve) == 9 and done.steps == planned.budget.steps


def test_epochs_are_so_many_steps_and_validation_is_read_after_each():
    planned = resolve(RunConfig(**WAVE, epochs=7, batch_size=50))
    n = len(planned.data.train)
    assert planned.budget == Budget(steps=math.ceil(7 * n / 50), batch_size=50, evaluations=7)
    one = resolve(RunConfig(**WAVE, epochs=3, batch_size=10**6)).budget
    assert one.steps == 3  # a batch is never larger than the data
    short = resolve(RunConfig(**WAVE, epochs=7, batch_size=50, budget="smoke"))
    usual = TASKS.get("toy-wave").budgets["smoke"]
    assert short.budget == usual.in_batches_of(50) and short.budget.steps < usual.steps
    assert short.resolved["cut_short"] == [f"{short.budget.steps} of {planned.budget.steps} steps"]


def test_adam_is_the_update_of_kingma_and_ba_and_has_no_weight_decay_of_its_own():
    assert resolve(RunConfig(**WAVE, optimizer="adam")).config.weight_decay == 0.0
    assert resolve(RunConfig(**WAVE)).config.weight_decay > 0
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, generator=generator).requires_grad_()
    expected, mean, square = weight.detach().double(), 0.0, 0.0
    adam = AdamW([weight], 0.1, decoupled=False)
    for step in range(1, 6):
        weight.grad = torch.randn(5, 3, generator=generator)
        adam.step(0.01)
        gradient = torch.as_tensor(weight.grad, dtype=torch.float64) + 0.1 * expected  # the decay is a part of it
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected = expected - 0.01 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        assert torch.allclose(weight.detach().double(), expected, atol=1e-6)


SHAPES = {
    "classify": Shape(9, 0, (4,)),
    "regress": Shape(0, 3, (1,)),
    "tag": Shape(9, 0, (4,), True),
    "forecast": Shape(0, 3, (2, 2)),
    "generate": Shape(9, 0, (9,), True),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_dense_layers_stand_before_the_output_of_every_kind(kind):
    shape, inputs = SHAPES[kind], SHAPES[kind].example(2, 5)
    plain, deep = (build("gru", kind, shape, (8,), dense=dense) for dense in ((), (6, 5)))
    reads, gives = plain.head.out.in_features, plain.head.out.out_features
    layers = [(a.in_features, a.out_features) if isinstance(a, nn.Linear) else type(a) for a in deep.head.out]
    assert layers == [(reads, 6), nn.ReLU, (6, 5), nn.ReLU, (5, gives)]
    assert deep(inputs).shape == plain(inputs).shape
    deep(inputs).sum().backward()
    assert all(p.grad is not None for p in deep.head.parameters())


def test_a_head_without_an_output_layer_takes_no_dense_ones():
    with pytest.raises(UserError, match="--dense: Head has no output layer"):
        Head(8, SHAPES["classify"]).deepen((4,))


def test_each_layer_has_its_own_dropout():
    torch.manual_seed(0)
    model = build("rnn", "tag", SHAPES["tag"], (64, 64), dropout=(0.0, 0.75)).train()
    x = torch.ones(8, 16, 64)
    first, second = (model._leave(i, x, x, last_only=False) for i in (0, 1))
    assert torch.equal(first, x)
    assert (second == 0).float().mean().item() == pytest.approx(0.75, abs=0.03) and second.max() == pytest.approx(4.0)
    alike = RunConfig(**{**WAVE, "hidden": (8, 8)}, dropout=[0.3, 0.3])
    assert alike == RunConfig(**{**WAVE, "hidden": (8, 8)}, dropout=0.3)  # and so is its key


def test_an_embedding_has_a_width_of_its_own_or_is_none():
    shape = SHAPES["generate"]
    model = build("lstm", "generate", shape, (8, 6), embedding=5)
    assert model.embed.weight.shape == (9, 5) and [layer.d_in for layer in model.layers] == [5, 8]
    plain = build("lstm", "forecast", SHAPES["forecast"], (8,), embedding=0)
    assert [layer.d_in for layer in plain.layers] == [3]
    x = torch.randn(2, 7, 3)
    y, _ = plain.layers[0].kernel(x)
    assert torch.allclose(plain.eval()(x), plain.head(y, None), atol=1e-6)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "bilstm", "transformer"])
@pytest.mark.parametrize("kernel", ["torch", "fast"])
def test_every_model_reads_inputs_of_another_width(name, kernel):
    multiple = MODELS.get(name).mixer.width_multiple
    for shape, embedding in ((SHAPES["classify"], 2 * multiple), (SHAPES["regress"], 0), (SHAPES["regress"], 10)):
        kind = "classify" if shape.tokens else "regress"
        model = build(name, kind, shape, (8 * multiple,), kernel=kernel, embedding=embedding, dense=(4,))
        output = model(shape.example(3, 6))
        assert output.isfinite().all()
        output.sum().backward()


# recipes --------------------------------------------------------------------------------------------------------------


def test_the_stock_recipe_is_what_the_document_says():
    planned = resolve(of_recipe("lstm-stock", task="stock"))
    model, config, budget = build_model(planned), planned.config, planned.budget
    assert isinstance(model.embed, nn.Identity) and model.shape.features == 5
    kernels = [layer.kernel for layer in model.layers]
    assert [(type(k), k.input_size, k.hidden_size) for k in kernels] == [(nn.LSTM, 5, 128), (nn.LSTM, 128, 64)]
    assert model.shares == (0.3, 0.3) and not model.residual and not len(model.norms)
    out = [(a.in_features, a.out_features) if isinstance(a, nn.Linear) else type(a) for a in model.head.out]
    assert out == [(64, 32), nn.ReLU, (32, 1)]
    n = len(planned.data.train)
    assert budget == Budget(steps=math.ceil(100 * n / 32), batch_size=32, evaluations=100, patience=10)
    assert (config.optimizer, config.schedule, config.plateau_patience, config.weight_decay) == (
        "adam",
        "plateau",
        5,
        0.0,
    )
    assert learning_rate(1, budget.steps, config) == learning_rate(n, budget.steps, config) == 1e-3
    assert learning_rate(1, budget.steps, config, drops=1) == pytest.approx(1e-4)
    windows = planned.data.train
    assert windows.lookback == 60 and windows.series.min() == 0.0 and windows.series.max() == pytest.approx(1.0)
    # of the days before the test a fifth validates: each stretch loses a window's length and the day predicted
    days = [len(planned.data.splits[part].series) for part in ("train", "val", "test")]
    assert days[1] / (days[0] + days[1]) == pytest.approx(0.2, abs=0.001)
    assert "recipe_changed" not in planned.resolved and "cut_short" not in planned.resolved


def test_the_text_recipe_is_what_the_document_says():
    planned = resolve(of_recipe("lstm-text", task="toy-text"))  # of any task of its kind
    with torch.device("meta"):
        model = build_model(planned)
    kernels = [layer.kernel for layer in model.layers]
    assert model.embed.weight.shape == (5, 256)
    assert [(k.input_size, k.hidden_size) for k in kernels] == [(256, 1024), (1024, 512)]
    assert (model.head.out.in_features, model.head.out.out_features) == (512, 5)
    short = resolve(of_recipe("lstm-text", task="toy-text", budget="smoke"))
    assert short.config.widths == (128, 64) and short.resolved["cut_short"] == [
        "embedding 32 for 256",
        "hidden 128,64 for 1024,512",
    ]


def test_every_recipe_names_its_source_and_settings_that_there_are():
    known = {item.name for item in dataclasses.fields(RunConfig)}
    assert {"lstm-stock", "lstm-text"} <= set(recipes())
    for name, (recipe, spec) in recipes().items():
        assert "documented recipe" in recipe.source and recipe.about and recipe.departures
        assert {*recipe.settings, *recipe.smoke} <= known and set(recipe.smoke) <= set(recipe.settings)
        assert recipe.settings["model"] in MODELS.names() and spec.kind in HEADS.names()
        assert resolve(RunConfig(**filled(name, {"task": "stock" if spec.name == "stock" else "toy-text"})))


def test_the_list_the_help_and_the_page_name_every_recipe(here):
    listed = json.loads(here("list", "recipes", "--json").stdout)["recipes"]
    assert [row["name"] for row in listed] == sorted(recipes())
    text = (ROOT / "docs" / "recipes.md").read_text() + (ROOT / "seqbench" / "config.py").read_text()
    assert all(text.count(name) >= 2 for name in recipes())


def test_a_small_run_of_the_stock_recipe_says_what_was_changed_and_cut(here, tmp_path):
    done = here(*SMALL, "--dropout", ".1,.2")
    assert done.returncode == 0, done.stderr
    assert "recipe  lstm-stock, but for hidden, dropout" in done.stdout and "CUT SHORT" in done.stdout
    assert "persistence_rmse_dollars" in done.stdout and "cut short by the budget smoke" in done.stderr
    (record,) = tmp_path.glob("out/stock/lstm/*/run-1/record.json")
    config = json.loads(record.read_text())["config"]
    assert config["recipe"] == "lstm-stock" and config["recipe_changed"] == ["hidden", "dropout"]
    assert config["dropout"] == [0.1, 0.2] and config["dense"] == [32] and config["steps"] == 60
    # its settings as a file give the same run, and so does Python
    (tmp_path / "again.toml").write_text(here("config", record).stdout)
    again = here("--config", "again.toml", "--out", "out")
    assert again.returncode == 0 and "stored result" in again.stdout, again.stderr
    same = seqbench.run(
        "stock", recipe="lstm-stock", budget="smoke", hidden=(8, 8), dropout=(0.1, 0.2), out=tmp_path / "out",
        progress=False,
    )  # fmt: skip
    assert same.key == json.loads(record.read_text())["key"] and len(list(record.parents[1].iterdir())) == 1
    # the trained model is built again as it was
    rows = here("predict", record, prices(tmp_path))
    assert rows.returncode == 0, rows.stderr


def prices(folder):
    days = np.arange("2014-01-01", "2014-04-11", dtype="datetime64[D]")
    rows = [f"{day},{10 + i / 9:.2f},{11 + i / 9:.2f},{9 + i / 9:.2f},{10.5 + i / 9:.2f},{1000 + i}" for i, day in
            enumerate(days)]  # fmt: skip
    path = folder / "prices.csv"
    path.write_text("\n".join(["date,open,high,low,close,volume", *rows]) + "\n")
    return path


REFUSED = [
    (("--recipe", "lstm-stock", "--task", "weather"), "was described for task stock and can't be used for weather"),
    (("--recipe", "lstm-text", "--task", "stock"), "was described for task textgen and can't be used for stock"),
    (("--recipe", "lstm-stock", "--task", "stock,weather"), "was described for task stock"),
    (("--recipe", "lstm-stok", "--task", "stock"), "unknown recipe 'lstm-stok': did you mean lstm-stock"),
    (("--task", "stock", "--model", "rnn", "--plateau-patience", "3"), "--plateau-patience is for --schedule plateau"),
    (("--task", "toy-text", "--model", "rnn", "--embedding", "0"), "--embedding 0 is for inputs that are numbers"),
    (("--task", "stock", "--model", "rnn", "--dropout", ".1,.2,.3"), "--dropout gives 3 shares"),
    (("--task", "stock", "--model", "rnn", "--dropout", ".1,1"), "--dropout 1 is out of range"),
    (("--task", "stock", "--model", "rnn", "--dropout", ".1,x"), "is not a number, or several like .3,.2"),
    (("--task", "stock", "--model", "rnn", "--epochs", "0"), "--epochs 0 is out of range"),
    (("--task", "stock", "--model", "rnn", "--option", "scaler=test"), "scaler=test of stock must be train, or all"),
    (("--task", "stock", "--model", "rnn", "--option", "validation=.9"), "validation=0.9 of stock must be"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_makes_no_sense_is_one_sentence_before_anything_runs(here, tmp_path, words, says):
    done = here(*words, "--budget", "smoke", "--out", "out")
    (sentence,) = [line for line in done.stderr.splitlines() if "(once)" not in line]
    assert done.returncode == 2 and says in sentence and not list(tmp_path.rglob("record.json")), done.stderr


def test_a_grid_refuses_a_recipe_before_it_prepares_anything(tmp_path):
    with pytest.raises(UserError, match="described for task stock"):
        Grid(of_recipe("lstm-stock", task="stock"), ["stock", "dna"], ["lstm"], Store(tmp_path), seeds=1, tune=False)


def test_python_knows_a_tasks_switch_of_the_same_name(tmp_path):
    result = seqbench.run("stock", "rnn", recipe=True, hidden=4, budget="smoke", out=tmp_path, progress=False)
    assert result.task.options["recipe"] is True and "recipe" not in result.config
    with pytest.raises(UserError, match="recipe=3 is no name"):
        seqbench.run("stock", "rnn", recipe=3)


# the recipe's own leak ------------------------------------------------------------------------------------------------


def test_the_scaler_of_all_days_leaks_the_limits_of_the_test_and_says_so():
    honest, leaking = (prepare("stock", {"recipe": "true", "scaler": scaler}) for scaler in ("train", "all"))
    assert "scaler" not in honest.options and leaking.options["scaler"] == "all"
    assert honest.data.test.series.max() > 1.0 >= leaking.data.test.series.max()
    assert any(note.startswith("LEAK") for note in leaking.data.notes)
    assert not any(note.startswith("LEAK") for note in honest.data.notes)
    assert honest.data.fitted["drift"] == leaking.data.fitted["drift"]  # a baseline learns nothing of the test


def test_a_run_that_leaks_says_so(here):
    words = ("--task", "stock", "--model", "rnn", "--hidden", "4", "--budget", "smoke", "--option", "recipe=true")
    assert "LEAK" not in here(*words, "--out", "out").stdout
    assert "LEAK: prices and volumes are scaled by all days" in here(
        *words, "--option", "scaler=all", "--out", "out"
    ).stdout.replace("\n", " ")


def test_documented_figures_of_persistence_are_those_of_the_prices_themselves():
    data, spec = prepare("stock", {"recipe": "true"}).data, TASKS.get("stock")
    truth = data.test.truth()
    close, after, unit = truth.meta["close"], truth.meta["next_close"], truth.meta["scale"][0]
    naive = ((close - truth.meta["offset"]) / unit)[:, None, None]
    scores = spec.score(naive, truth)
    change = after - close
    expected = {
        "rmse_dollars": np.sqrt(np.mean(change**2)),
        "mae_dollars": np.abs(change).mean(),
        "r2_dollars": 1 - (change**2).sum() / ((after - after.mean()) ** 2).sum(),
        "rmse_scaled": np.sqrt(np.mean(change**2)) / unit,
        "mae_scaled": np.abs(change).mean() / unit,
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-6) == scores[f"persistence_{name}"]
    assert scores["r2_dollars"] > 0.9  # which is why it says nothing


def test_perplexity_is_two_to_the_power_of_the_bits():
    truth = seqbench.Truth(np.array([10, 20]), np.arange(2))
    scores = TASKS.get("textgen").score(np.array([10.0, 20.0]) * math.log(3), truth)
    assert scores["perplexity"] == pytest.approx(3.0) and scores["bits_per_character"] == pytest.approx(math.log2(3))


def test_a_run_that_was_killed_on_a_plateau_goes_on_as_if_it_had_not_been(tmp_path, undisturbed, short):
    cell = {
        "task": "toy-wave", "model": "lstm", "schedule": "plateau", "plateau_patience": 1, "learning_rate": 0.3,
        "warmup": 0.0, "dropout": (0.1, 0.4), "dense": (4,), "optimizer": "adam",
    }  # fmt: skip
    expected = undisturbed(**cell)
    for at in (21, 47):
        killed(tmp_path, at, **cell)
    outcome, reported = finished(tmp_path, **cell)
    assert left(outcome) == expected and reported[0] > 40
    assert curve_of(outcome)[-1]["drops"] > 1

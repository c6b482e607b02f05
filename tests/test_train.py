"""One cell: determinism, selection, divergence, controls, and what is left untouched."""

import dataclasses
import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from test_models import BUILT_IN

import seqbench
from seqbench.cli.run import metric_interval
from seqbench.config import RunConfig
from seqbench.data import read_predictions
from seqbench.device import settings
from seqbench.experiment import resolve, run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import build, shape_of
from seqbench.models.heads import HEADS, generate, verbatim_share
from seqbench.models.mixer import MODELS
from seqbench.task import TASKS, Budget, parse_options
from seqbench.training import fit, learning_rate, predict_split

TOYS = ["toy-first", "toy-wave", "toy-text"]
QUALITY = ("metrics", "primary", "baselines", "skill")


def run(tmp_path, task, model, force=False, listener=None, **config):
    chosen = RunConfig(task=task, model=model, **{"hidden": (16,), "budget": "smoke", **config})
    return run_cell(chosen, Store(tmp_path), force=force, listener=listener)


def quality(record):
    return {name: getattr(record, name) for name in QUALITY}


@pytest.mark.parametrize("model", BUILT_IN)
@pytest.mark.parametrize("task", TOYS)
def test_every_model_runs_on_every_kind_and_again_with_the_same_numbers(tmp_path, task, model):
    first = run(tmp_path, task, model)
    again = run(tmp_path, task, model, force=True)
    if task == "toy-text" and model == "bilstm":
        assert first.record.status == "not_applicable" and "sees later steps" in first.record.reason
        return
    assert first.record.status == "ok" and not again.stored and again.folder != first.folder
    assert quality(first.record) == quality(again.record)
    weights = [safetensors.torch.load_file(outcome.folder / "model.safetensors") for outcome in (first, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    record = first.record
    assert record.key == record.content_key()
    assert record.cost.flops_per_sample > 0 and record.cost.tokens_per_second > 0 and record.cost.peak_memory_bytes > 0
    assert record.model.params > 0 and record.model.state_size > 0
    assert record.skill == pytest.approx(
        (record.primary.value - record.baselines[TASKS.get(task).reference])
        / (TASKS.get(task).perfect - record.baselines[TASKS.get(task).reference])
    )


def test_seeds_differ_and_the_same_seed_does_not(tmp_path):
    by_seed = [run(tmp_path, "toy-wave", "gru", seed=seed).record.primary.value for seed in (0, 1)]
    assert by_seed[0] != by_seed[1]


def test_the_callers_random_state_threads_and_switches_are_untouched(tmp_path):
    torch.manual_seed(123)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    run(tmp_path, "toy-first", "transformer", threads=2, dropout=0.5, layers=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.get_num_threads() == before[2]


def test_a_stored_result_is_found_and_force_keeps_the_old_one(tmp_path):
    first = run(tmp_path, "toy-wave", "rnn")
    assert run(tmp_path, "toy-wave", "rnn").stored
    forced = run(tmp_path, "toy-wave", "rnn", force=True)
    assert (first.folder / "record.json").is_file() and forced.folder.name == "run-2"
    assert run(tmp_path, "toy-wave", "rnn").folder == forced.folder


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": 1}, {"hidden": (24,)}, {"budget": "quick"}, {"dropout": 0.3}, {"sequence_length": 10}),
        *({"threads": 2}, {"recurrent_dropout": 0.3}, {"zoneout": (0.1,)}, {"max_norm": 2.0}),
    ],
)
def test_whatever_decides_the_result_changes_the_key(change):
    config = RunConfig(task="toy-wave", model="rnn", hidden=(16,), budget="smoke")
    assert resolve(config).job.key != resolve(dataclasses.replace(config, **change)).job.key


def test_writing_the_same_differently_does_not_change_the_key():
    a = RunConfig(task="toy-wave", model="rnn", hidden=(16, 16), sequence_length=10)
    b = RunConfig(task="toy-wave", model="elman", hidden=(16,), layers=2, option=("sequence-length=10",), device="cpu")
    assert resolve(a).job.key == resolve(b).job.key


@pytest.mark.parametrize(("task", "at_least"), [("toy-first", 0.8), ("toy-wave", 0.5), ("toy-text", 0.5)])
def test_a_task_that_can_be_learned_is_learned(tmp_path, task, at_least):
    assert run(tmp_path, task, "gru", budget="quick", hidden=(32,), learning_rate=1e-2).record.skill > at_least


def test_the_control_is_part_of_the_record(tmp_path):
    plain, control = (run(tmp_path, "toy-wave", "rnn", control=control) for control in ("none", "shuffle-labels"))
    assert control.record.config["control"] == "shuffle-labels" and control.record.key != plain.record.key
    assert control.record.primary.value != plain.record.primary.value


def test_the_best_state_is_kept_and_the_curve_written(tmp_path):
    outcome = run(tmp_path, "toy-first", "lstm", budget="quick", learning_rate=3e-2)
    curve = [json.loads(line) for line in (outcome.folder / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [50, 100, 150, 200, 250]
    assert outcome.record.metrics["val"]["accuracy"] == max(point["val_accuracy"] for point in curve)


def test_full_stops_when_nothing_gets_better(tmp_path):
    record = run(tmp_path, "toy-first", "gru", budget="full", learning_rate=1e-2).record
    assert record.status == "ok" and record.cost.steps < 5000


def test_steps_and_whole_windows_generate_the_same_text():
    data = resolve(RunConfig(task="toy-text", model="lstm")).data
    model = build("gru", "generate", shape_of("generate", data), (16,)).eval()
    by_steps = generate(model, data.val.tokens[:12], 40, 12, np.random.default_rng(0))
    type(model).steps, kept = property(lambda self: False), type(model).steps
    try:
        assert np.array_equal(by_steps, generate(model, data.val.tokens[:12], 40, 12, np.random.default_rng(0)))
    finally:
        type(model).steps = kept


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "bilstm", "transformer"])
def test_lower_precision_reaches_the_mixer_and_stays_close(model):
    """Recurrent kernels too: under autocast torch would run them in single precision here and in fp16 on CUDA."""
    torch.manual_seed(0)
    layer, x = MODELS.get(model).mixer(16, 16, True), torch.randn(2, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
        low.float().sum().backward()
    assert low.dtype == torch.bfloat16 or model == "transformer"
    assert torch.allclose(low.float(), layer(x), atol=0.1)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_stored_predictions_give_the_recorded_metric_and_its_interval(tmp_path):
    for task in TOYS:
        outcome = run(tmp_path, task, "gru", budget="quick")
        spec = TASKS.get(task)
        predictions, truth = read_predictions(outcome.folder)
        assert spec.score(predictions, truth)[spec.primary.name] == pytest.approx(outcome.record.primary.value)
        interval = metric_interval(spec, spec.primary.name, predictions, truth)
        assert interval.low <= outcome.record.primary.value <= interval.high
        assert interval.low < interval.high or outcome.record.primary.value == spec.perfect


def test_predictions_come_back_in_the_order_of_the_examples():
    spec = TASKS.get("toy-first")
    data = spec.load("embedded", parse_options(spec, {}))
    model = build("lstm", "classify", shape_of("classify", data), (16,)).eval()
    config = RunConfig(task="toy-first", model="lstm")
    together = predict_split(model, data.test, config)
    batch = data.test[np.arange(len(data.test))]
    for i in (0, 7, 199):
        length = batch.lengths[i]
        alone = model(torch.from_numpy(batch.inputs[[i], :length].astype(np.int64)), None).softmax(dim=1)
        assert np.allclose(together[i], alone.detach().numpy(), atol=1e-6)


def test_text_is_scored_as_a_plain_loop_would(tmp_path):
    """Every character's loss after the context its window gives it, summed by hand."""
    spec = TASKS.get("toy-text")
    data = spec.load("embedded", parse_options(spec, {}))
    model = build("gru", "generate", shape_of("generate", data), (16,)).eval()
    nats, counted, stream = 0.0, 0, data.test
    for start, skip in zip(stream.starts, stream.skip, strict=True):
        tokens = torch.from_numpy(stream.tokens[start : start + stream.window + 1].astype(np.int64))
        logs = model(tokens[None, :-1]).log_softmax(dim=2)[0]
        for t in range(skip, stream.window):
            nats -= logs[t, tokens[t + 1]].item()
            counted += 1
    assert counted == stream.n_scored
    predictions = predict_split(model, stream, RunConfig(task="toy-text", model="gru"))
    assert predictions.sum() == pytest.approx(nats, rel=1e-5)


def test_a_step_of_training_is_the_step_written_out():
    """`fit` against a bare loop with the same batches: the very same weights after 20 steps."""
    spec = TASKS.get("toy-wave")
    config = RunConfig(task="toy-wave", model="lstm", hidden=(16,), learning_rate=2e-3, weight_decay=0.01, dropout=0.0)
    data, budget = resolve(config).data, Budget(20, 16, 1)

    def fresh():
        torch.manual_seed(7)
        return build("lstm", "forecast", shape_of("forecast", data), (16,))

    with settings(torch.device("cpu"), config):
        ours, theirs = fresh(), fresh()
        fit(ours, spec, data, config, budget)
        optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=config.weight_decay, fused=True)
        rng, order = np.random.default_rng([0, 0]), np.empty(0, dtype=int)
        for step in range(1, 21):
            if len(order) < 16:
                order = np.concatenate([order, rng.permutation(len(data.train))])
            batch, order = data.train[order[:16]], order[16:]
            optimizer.param_groups[0]["lr"] = learning_rate(step, 20, config)
            optimizer.zero_grad()
            loss = (theirs(torch.from_numpy(batch.inputs)) - torch.from_numpy(batch.targets)).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_learning_rate_rises_and_falls():
    config = RunConfig(task="t", model="m", learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(1, 101)]
    assert rates[9] == max(rates) == 1.0 and rates[0] == 0.1 and rates[-1] == pytest.approx(0.0, abs=1e-3)
    assert learning_rate(10**6, 10**7, dataclasses.replace(config, budget="full")) == 1.0


def test_text_is_generated_by_steps_and_from_its_seed(tmp_path):
    outcome = run(tmp_path, "toy-text", "lstm")
    assert len((outcome.folder / "sample.txt").read_text()) == 300
    data = resolve(RunConfig(task="toy-text", model="lstm")).data
    model = build("transformer", "generate", shape_of("generate", data), (16,)).eval()
    prompt = data.val.tokens[:5]
    made = [generate(model, prompt, 20, 12, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert verbatim_share("x" * 40, "x" * 40) == 1.0 and verbatim_share("y" * 40, "x" * 40) == 0.0


def test_python_and_the_command_line_write_the_same_record(tmp_path, cli):
    words = ("--task", "weather", "--model", "rnn", "--budget", "smoke", "--hidden", "16", "--out", tmp_path / "out")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    record = seqbench.run("weather", "rnn", budget="smoke", hidden=16, out=tmp_path / "out")
    assert "stored result" in cli(*words).stdout
    assert record == seqbench.run("weather", "rnn", budget="smoke", hidden=(16,), out=tmp_path / "out")
    assert math.isfinite(record.skill)


def test_heads_are_registered_by_kind():
    assert HEADS.names() == ["classify", "forecast", "generate", "regress", "tag", "translate"]

"""A board of 1,000 records: reading them, making its tables with all their intervals, and writing the page.

The records are written once: ten data sets, ten models, ten seeds, with leave-one-out figures of forty groups.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

TASKS, MODELS, SEEDS, GROUPS = 10, 10, 10, 40
RATE = 0.003


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """The folder of the records; the processes that `regress run` forks, one after the other, share it."""
    root = Path("board").resolve() if os.environ.get("SEQBENCH_GATE") else tmp_path_factory.mktemp("board")
    whole = root / "whole"
    if whole.is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)  # what a process left that was ended
    generator = np.random.default_rng(0)
    for task in range(TASKS):
        for model in range(MODELS):
            for seed in range(SEEDS):
                write(root, f"task-{task}", f"model-{model}", seed, 0.6 + 0.02 * model, generator)
    whole.touch()
    return root


def write(root, task, model, seed, mean, generator):
    """One record beside its leave-one-out figures and its learning curve."""
    from seqbench.jobs.record import RunRecord, run_key
    from seqbench.jobs.store import LEFT_OUT, RECORD, Store

    value = float(mean + generator.normal(scale=0.01))
    raw = record_of(task, model, seed, value)
    parts = {
        "task": ("name", "version", "code_sha256", "options", "source", "data_sha256"),
        "model": ("name", "version", "code_sha256"),
    }
    chosen = {part: {name: raw[part][name] for name in names} for part, names in parts.items()}
    raw["key"] = run_key(chosen["task"], chosen["model"], raw["config"], "cpu")
    record = RunRecord.from_json(json.dumps(raw))
    folder = Store(root).folder(record.place, record.budget, record.seed, record.key) / "run-1"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
    centres = np.array([value, *record.baselines.values()])[:, None]
    np.save(folder / LEFT_OUT, centres + generator.normal(scale=0.002, size=(len(centres), GROUPS)))
    points = [{"step": 100 * i, "val_accuracy": value - 0.1 / i} for i in range(1, 5)]
    (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points), encoding="utf-8")


def record_of(task, model, seed, value):
    """A record of the first schema, which every later one reads, as a dict without its key."""
    return {
        "schema_version": 1, "key": "", "status": "ok", "reason": None,
        "task": {
            "name": task, "version": 1, "code_sha256": None, "kind": "classify", "options": {"sequence_length": 12},
            "source": "embedded", "data_sha256": "0" * 64, "n_train": 600, "n_val": 100, "n_test": 200,
            "sequence_length": 12,
        },
        "model": {
            "name": model, "version": 1, "code_sha256": None, "hidden": [128], "layers": 1, "params": 12345,
            "state_size": 128, "causal": True, "backbone": "bare",
        },
        "config": {
            "budget": "quick", "seed": seed, "hidden": [128], "layers": 1, "params": None, "backbone": "bare",
            "dropout": 0.1, "learning_rate": RATE, "weight_decay": 0.01, "precision": "fp32", "threads": 1,
            "control": "none", "steps": 400, "batch_size": 32, "evaluations": 5, "patience": None,
        },
        "seed": seed, "budget": "quick",
        "metrics": {"val": {"accuracy": value, "n_scored": 100.0}, "test": {"accuracy": value, "n_scored": 200.0}},
        "primary": {
            "name": "accuracy", "value": value, "direction": "higher", "unit": "", "reference": "majority",
            "perfect": 1.0,
        },
        "baselines": {"majority": 0.5, "tfidf": 0.75}, "skill": (value - 0.5) / 0.5,
        "cost": {
            "train_seconds": 20.0, "cpu_seconds": 10.0, "steps": 400, "samples_per_second": 640.0,
            "tokens_per_second": 1000.0, "flops_per_sample": 1, "peak_memory_bytes": 2**20 * 300, "data_seconds": 0.1,
            "eval_seconds": 0.1, "interrupted": False,
        },
        "environment": {
            "device": "cpu", "device_name": "one machine", "threads": 1, "python": "3.11.7", "torch": "2.13.0",
            "cuda": None, "seqbench": "0.1.0", "git_commit": None, "git_dirty": None,
        },
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:30+00:00",
    }  # fmt: skip


@pytest.mark.benchmark(group="board")
def test_load(measure, records):
    from seqbench.board import load_results

    assert len(measure(lambda: load_results(records))) == TASKS * MODELS * SEEDS


@pytest.mark.benchmark(group="board")
def test_make_tables(measure, records):
    from seqbench.board import load_results, make_tables

    results = load_results(records)
    assert len(measure(lambda: make_tables(results))) == TASKS


@pytest.mark.benchmark(group="board")
def test_render(measure, records):
    from seqbench.board import load_results, make_tables, render

    tables = make_tables(load_results(records))
    assert "model-9" in measure(lambda: render(tables, base=records))

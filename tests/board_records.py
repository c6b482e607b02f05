"""Records written by hand into a store, for tests of the board, and the board read back."""

import json
import re

import numpy as np

from seqbench.board import load_results, make_tables, render
from seqbench.board.charts import pictures
from seqbench.jobs.record import RunRecord, run_key
from seqbench.jobs.store import LEFT_OUT, RECORD, Store

BASELINES = {"majority": 0.5, "tfidf": 0.75}


def record_of(**given):
    """A valid record as a dict; ``given`` names fields, nested ones with two underscores."""
    raw = {
        "schema_version": 1, "key": "", "status": "ok", "reason": None,
        "task": {
            "name": "toy", "version": 1, "code_sha256": None, "kind": "classify", "options": {"sequence_length": 12},
            "source": "embedded", "data_sha256": "0" * 64, "n_train": 600, "n_val": 100, "n_test": 200,
            "sequence_length": 12,
        },
        "model": {
            "name": "alpha", "version": 1, "code_sha256": None, "hidden": [128], "layers": 1, "params": 12345,
            "state_size": 128, "causal": True, "backbone": "bare",
        },
        "config": {
            "budget": "quick", "seed": 0, "hidden": [128], "layers": 1, "params": None, "backbone": "bare",
            "dropout": 0.1, "learning_rate": 0.003, "weight_decay": 0.01, "precision": "fp32", "threads": 1,
            "control": "none", "steps": 400, "batch_size": 32, "evaluations": 5, "patience": None,
        },
        "seed": 0, "budget": "quick",
        "metrics": {"val": {"accuracy": 0.8, "n_scored": 100.0}, "test": {"accuracy": 0.8, "n_scored": 200.0}},
        "primary": {
            "name": "accuracy", "value": 0.8, "direction": "higher", "unit": "", "reference": "majority",
            "perfect": 1.0,
        },
        "baselines": dict(BASELINES), "skill": 0.6,
        "cost": {
            "train_seconds": 20.0, "cpu_seconds": 10.0, "steps": 400, "samples_per_second": 640.0,
            "tokens_per_second": 1000.0, "flops_per_sample": 1, "peak_memory_bytes": 2**20 * 300, "data_seconds": 0.1,
            "eval_seconds": 0.1, "interrupted": False,
        },
        "environment": {
            "device": "cpu", "device_name": "this machine", "threads": 1, "python": "3.11.7", "torch": "2.13.0",
            "cuda": None, "seqbench": "0.1.0", "git_commit": None, "git_dirty": None,
        },
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:30+00:00",
    }  # fmt: skip
    return changed(raw, given)


def changed(raw, changes):
    """``raw`` with other values; nested names have two underscores."""
    for path, value in changes.items():
        place = raw
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return raw


def signed(raw):
    """The record with the key of its content."""
    task = {name: raw["task"][name] for name in ("name", "version", "code_sha256", "options", "source", "data_sha256")}
    model = {name: raw["model"][name] for name in ("name", "version", "code_sha256")}
    raw["key"] = run_key(task, model, raw["config"], raw["environment"]["device"])
    return raw


def write(
    root,
    model="alpha",
    seed=0,
    value=0.8,
    *,
    val=None,
    rate=0.003,
    left_out=None,
    run=1,
    keep=True,
    curve=True,
    **given,
):
    """Write one record, its leave-one-out figures, and a learning curve of four checks; returns its folder.

    ``value`` None is a run without a result. ``left_out`` (1 + baselines, G) defaults to figures that do not vary.
    """
    raw = record_of(
        **{"model__name": model, "seed": seed, "config__seed": seed, "config__learning_rate": rate, **given}
    )
    if value is None:
        raw |= {"primary": None, "metrics": {}, "skill": None, "cost": None}
        raw |= {name: given.get(name, word) for name, word in (("status", "diverged"), ("reason", "loss is nan"))}
    else:
        raw["primary"]["value"] = value
        name = raw["primary"]["name"]
        raw["metrics"] = {"val": {name: value if val is None else val}, "test": {name: value}}
        perfect = raw["primary"]["perfect"]
        reference = raw["baselines"].get(raw["primary"]["reference"], 0.5)
        span = (1.0 if perfect is None else perfect) - reference
        raw["skill"] = (value - reference) / span if span else None
    record = RunRecord.from_json(json.dumps(signed(raw)))
    cell = Store(root).folder(record.place, record.budget, record.seed, record.key)
    folder = cell / f"run-{run}"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
    if value is not None and keep:
        usual = np.repeat([[value], *([one] for one in record.baselines.values())], 4, axis=1)
        np.save(folder / LEFT_OUT, usual if left_out is None else np.asarray(left_out, dtype=float))
    if value is not None and curve:
        points = [{"step": 100 * i, f"val_{name}": value - 0.1 / i + 0.025} for i in range(1, 5)]
        (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    return folder


def model(root, name, values, **given):
    """A model's records, one a seed; None among the values is a diverged run."""
    return [write(root, name, seed, value, **given) for seed, value in enumerate(values)]


def tables_of(root):
    return make_tables(load_results(root))


def board(roots, *how, **given):
    """The text of the board of all records under ``roots``."""
    return render(tables_of(roots), *how, **given)


def data(*roots, **given):
    return json.loads(board(list(roots), "json", **given))


def picture_files(tables, folder):
    """What `draw_board` returns, without drawing."""
    return {picture.heading: folder / f"{picture.name}.png" for picture in pictures(tables)}


def only_table(root, **given):
    (table,) = data(root, **given)["tables"]
    return table


def rows_of(table):
    return {row["label"]: row for row in table["rows"]}


def markdown_rows(text):
    """Cells of every table line."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


STEADY = (0.0, 0.001, -0.001)  # deviations of three seeds: small beside the differences between models


def grid(root, figures, **given):
    for name, value in figures.items():
        model(root, name, [value + one for one in STEADY], **given)

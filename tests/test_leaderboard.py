"""The board: what is comparable, who is ranked, which differences are real, and that nothing is hidden or made up.

All records are written by hand into a store, with values that the expected figures can be worked out from.
"""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from seqbench import stats
from seqbench.errors import UserError
from seqbench.leaderboard import board, overviews, read_tables
from seqbench.leaderboard.text import decimals, escape, with_reach
from seqbench.record import Record, cell_key
from seqbench.store import LEFT_OUT, RECORD, Store

T1 = 12.7062047362  # the 97.5% quantile of Student's t with one degree of freedom
BASELINES = {"majority": 0.5, "tfidf": 0.75}


def record_of(**given):
    """A valid record as a dict; ``given`` names fields, nested ones with two underscores."""
    raw = {
        "schema_version": 1,
        "key": "",
        "status": "ok",
        "reason": None,
        "task": {
            "name": "toy",
            "version": 1,
            "code_sha256": None,
            "kind": "classify",
            "options": {"sequence_length": 12},
            "source": "embedded",
            "data_sha256": "0" * 64,
            "n_train": 600,
            "n_val": 100,
            "n_test": 200,
            "sequence_length": 12,
        },
        "model": {
            "name": "alpha",
            "version": 1,
            "code_sha256": None,
            "hidden": [128],
            "layers": 1,
            "params": 12345,
            "state_size": 128,
            "causal": True,
            "backbone": "bare",
        },
        "config": {
            "budget": "quick",
            "seed": 0,
            "hidden": [128],
            "layers": 1,
            "params": None,
            "backbone": "bare",
            "dropout": 0.1,
            "learning_rate": 0.003,
            "weight_decay": 0.01,
            "precision": "fp32",
            "threads": 1,
            "control": "none",
            "steps": 400,
            "batch_size": 32,
            "evaluations": 5,
            "patience": None,
        },
        "seed": 0,
        "budget": "quick",
        "metrics": {"val": {"accuracy": 0.8, "n_scored": 100.0}, "test": {"accuracy": 0.8, "n_scored": 200.0}},
        "primary": {
            "name": "accuracy",
            "value": 0.8,
            "direction": "higher",
            "unit": "",
            "reference": "majority",
            "perfect": 1.0,
        },
        "baselines": dict(BASELINES),
        "skill": 0.6,
        "cost": {
            "train_seconds": 20.0,
            "cpu_seconds": 10.0,
            "steps": 400,
            "samples_per_second": 640.0,
            "tokens_per_second": 1000.0,
            "flops_per_sample": 1,
            "peak_memory_bytes": 2**20 * 300,
            "data_seconds": 0.1,
            "eval_seconds": 0.1,
            "interrupted": False,
        },
        "environment": {
            "device": "cpu",
            "device_name": "this machine",
            "threads": 1,
            "python": "3.11.7",
            "torch": "2.13.0",
            "cuda": None,
            "seqbench": "0.1.0",
            "git_commit": None,
            "git_dirty": None,
        },
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:30+00:00",
    }
    for path, value in given.items():
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
    raw["key"] = cell_key(task, model, raw["config"], raw["environment"]["device"])
    return raw


def write(root, model="alpha", seed=0, value=0.8, *, val=None, rate=0.003, left_out=None, run=1, keep=True, **given):
    """Write one record and its leave-one-out figures; returns its folder.

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
        raw["skill"] = (value - 0.5) / 0.5
    record = Record.from_json(json.dumps(signed(raw)))
    cell = Store(root).cell(record.task.name, record.model.name, record.budget, record.seed, record.key)
    folder = cell / f"run-{run}"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
    if value is not None and keep:
        usual = np.repeat([[value], *([one] for one in record.baselines.values())], 4, axis=1)
        np.save(folder / LEFT_OUT, usual if left_out is None else np.asarray(left_out, dtype=float))
    return folder


def model(root, name, values, **given):
    """A model's records, one a seed; None among the values is a diverged run."""
    return [write(root, name, seed, value, **given) for seed, value in enumerate(values)]


def data(*roots, **given):
    return json.loads(board(list(roots), "json", **given))


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


# --- figures by hand -------------------------------------------------------------------------------------------------


def test_a_mean_and_its_interval_by_hand(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    row = rows_of(only_table(tmp_path))["alpha"]
    reach = T1 * math.sqrt(0.005 / 2)  # s^2 = .005, two seeds, test figures that do not vary
    assert row["metric"] == pytest.approx({"value": 0.85, "low": 0.85 - reach, "high": 0.85 + reach})
    assert row["skill"] == pytest.approx({"value": 0.7, "low": 0.7 - 2 * reach, "high": 0.7 + 2 * reach})
    assert f"0.8500 ± {reach:.4f}" in board([tmp_path])


def test_skill_shares_the_test_examples_with_its_reference(tmp_path):
    # without either group the model has .85 and the reference .5 or .6: skill (.35 / .5, .25 / .4) = .7, .625
    write(tmp_path, value=0.85, left_out=[[0.85, 0.85], [0.5, 0.6], [0.75, 0.75]])
    rows = rows_of(only_table(tmp_path))
    reach = T1 * math.sqrt(1 / 2 * 2 * 0.0375**2)
    assert rows["alpha"]["skill"] == pytest.approx({"value": 0.7, "low": 0.7 - reach, "high": 0.7 + reach})
    assert rows["alpha"]["metric"] == pytest.approx({"value": 0.85, "low": 0.85, "high": 0.85})
    assert rows["majority"]["skill"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    reach = T1 * math.sqrt(1 / 2 * 2 * 0.05**2)
    assert rows["majority"]["metric"] == pytest.approx({"value": 0.5, "low": 0.5 - reach, "high": 0.5 + reach})


def test_a_lower_metric_ranks_the_other_way_round(tmp_path):
    lower = {"primary__direction": "lower", "primary__perfect": 0.0, "primary__unit": "C", "primary__name": "rmse"}
    grid(tmp_path, {"alpha": 0.2, "beta": 0.4, "gamma": 0.9}, **lower)
    table = only_table(tmp_path)
    assert [(row["label"], row["rank"]) for row in table["rows"]] == [
        ("alpha", 1),
        ("beta", 2),
        ("majority", None),
        ("tfidf", None),
        ("gamma", 3),
    ]
    assert table["strongest_baseline"] == "majority"
    assert [row["better_than"] for row in table["rows"]] == [
        ["beta", "majority", "gamma"],
        ["majority", "gamma"],
        ["gamma"],
        [],
        [],
    ]
    assert rows_of(table)["alpha"]["skill"]["value"] == pytest.approx(0.6)  # .2 between .5 and 0
    assert "rmse ↓" in board([tmp_path]) and "rmse (C), lower is better" in board([tmp_path])


# --- ranks and differences -------------------------------------------------------------------------------------------


def test_ranks_rank_intervals_and_ties(tmp_path):
    for name, values in {"alpha": (0.90, 0.91), "beta": (0.90, 0.91), "gamma": (0.6, 0.61)}.items():
        model(tmp_path, name, values)
    table = only_table(tmp_path)
    ranks = {name: (row["rank"], row["rank_low"], row["rank_high"]) for name, row in rows_of(table).items()}
    assert ranks["alpha"] == ranks["beta"] == (1, 1, 2) and ranks["gamma"] == (3, 3, 3)
    assert ranks["tfidf"] == (None, None, None)
    assert [row["label"] for row in table["rows"]] == ["alpha", "beta", "tfidf", "gamma", "majority"]
    text = board([tmp_path])
    assert "alpha and beta are better than gamma; no other pair can be told apart." in text
    assert [row[0] for row in markdown_rows(text) if row[1] in ("beta", "gamma")] == ["1 (1 to 2)", "3"]


def test_differences_are_paired_adjusted_and_the_detectable_one_is_of_the_median_pair(tmp_path):
    values = {"alpha": [0.80, 0.90, 0.70], "beta": [0.79, 0.88, 0.695], "gamma": [0.6, 0.95, 0.5]}
    for name, figures in values.items():
        model(tmp_path, name, figures)
    table = only_table(tmp_path)
    found = {(one["first"], one["second"]): one for one in table["differences"]}
    expected = {pair: stats.estimate(np.subtract(values[pair[0]], values[pair[1]]), np.zeros((3, 4))) for pair in found}
    adjusted = stats.holm([one.p_value() for one in expected.values()])
    assert len(found) == 3
    for (pair, one), p in zip(expected.items(), adjusted, strict=True):
        assert found[pair]["difference"] == pytest.approx(one.value)
        assert found[pair]["low"] == pytest.approx(one.interval().low)
        assert found[pair]["p"] == pytest.approx(one.p_value()) and found[pair]["p_adjusted"] == pytest.approx(p)
    middle = sorted(expected.values(), key=lambda one: one.error)[1]
    least = stats.detectable(middle.error, middle.df, 3)
    assert table["smallest_detectable_difference"] == pytest.approx(least)
    assert f"found with 80% power: {least:.4f}" in board([tmp_path])


def test_a_difference_that_only_holds_alone_is_not_called_real(tmp_path):
    model(tmp_path, "alpha", [0.81, 0.82, 0.80, 0.83])
    model(tmp_path, "beta", [0.80, 0.80, 0.79, 0.80])
    model(tmp_path, "gamma", [0.5, 0.9, 0.7, 0.9])
    table = only_table(tmp_path)
    first = table["differences"][0]
    assert first["p"] < 0.05 < first["p_adjusted"] == pytest.approx(3 * first["p"])
    assert first["better"] is None and "Real differences**: none" in board([tmp_path])


def test_a_shared_test_set_pairs_models(tmp_path):
    shared = np.array([0.1, -0.1, 0.05, -0.05])  # moves both models alike, so their difference stays
    for name, values in {"alpha": (0.80, 0.801), "beta": (0.70, 0.701)}.items():
        for seed, value in enumerate(values):
            write(tmp_path, name, seed, value, left_out=[value + shared, [0.5] * 4, [0.75] * 4])
    table = only_table(tmp_path)
    (difference,) = table["differences"]
    assert difference["low"] == pytest.approx(0.1) and difference["better"] == "alpha"
    rows = rows_of(table)
    assert rows["alpha"]["metric"]["low"] < 0.7 and rows["beta"]["metric"]["high"] > 0.8  # intervals overlap


def test_baselines_are_a_family_of_their_own_and_only_the_strongest_is_tested(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.6})
    table = only_table(tmp_path)
    assert table["strongest_baseline"] == "tfidf"
    assert [one["second"] for one in table["differences_from_strongest_baseline"]] == ["tfidf", "tfidf"]
    for one in table["differences_from_strongest_baseline"]:
        assert one["p_adjusted"] >= one["p"]
    rows = rows_of(table)
    assert rows["alpha"]["better_than"] == ["tfidf", "beta"] and rows["tfidf"]["better_than"] == ["beta"]
    assert rows["beta"]["better_than"] == []  # above majority, which is not tested
    assert "strongest baseline**, tfidf: alpha is better; beta is worse." in board([tmp_path])


def test_one_seed_gives_no_p_values_and_says_so(tmp_path):
    vary = np.array([0.01, -0.01, 0.0, 0.0])
    for name, value in {"alpha": 0.9, "beta": 0.8}.items():
        write(tmp_path, name, 0, value, left_out=[value + vary, [0.5] * 4, [0.75] * 4])
    table = only_table(tmp_path)
    assert [one["p"] for one in table["differences"]] == [None]
    assert {row["rank_high"] for row in table["rows"] if not row["baseline"]} == {2}  # nothing is ruled out
    assert all(row["better_than"] == [] for row in table["rows"])
    interval = stats.estimate(np.array([0.9]), (0.9 + vary)[None]).test_interval(4)
    assert rows_of(table)["alpha"]["metric"]["low"] == pytest.approx(interval.low)
    text = board([tmp_path])
    assert "No p-values" in text and "One seed only" in text and "Real differences**: " not in text


def test_records_without_leave_one_out_figures_have_no_interval_and_say_so(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9], keep=False, primary__perfect=None, primary__reference=None)
    row = rows_of(only_table(tmp_path))["alpha"]
    assert row["metric"] == {"value": 0.85, "low": None, "high": None}
    assert row["skill"] == {"value": 0.7, "low": None, "high": None}
    assert "too old" in board([tmp_path])


@pytest.mark.parametrize("huge", [1e160, 1e200])
def test_a_figure_beyond_all_bounds_has_no_interval_and_stops_nothing(tmp_path, huge):
    for task in ("one", "two"):
        model(tmp_path, "alpha", [huge, -huge], task__name=task)
        model(tmp_path, "beta", [0.8, 0.81], task__name=task)
    beta, alpha = (rows_of(data(tmp_path)["tables"][0])[name]["metric"] for name in ("beta", "alpha"))
    assert alpha["low"] is None and beta["low"] < 0.805
    assert data(tmp_path)["overviews"][0]["differences"][0]["p"] is None


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_figure_that_is_undefined_without_some_group_has_no_interval(tmp_path, odd):
    for seed, value in enumerate((0.8, 0.9)):
        write(tmp_path, "alpha", seed, value, left_out=[[odd, 0.8], [0.5, 0.5], [0.75, 0.75]])
        write(tmp_path, "beta", seed, value, left_out=[[0.8, 0.8], [0.5, 0.5], [0.75, 0.75]])
    rows = rows_of(only_table(tmp_path))
    assert rows["alpha"]["metric"]["low"] is rows["alpha"]["skill"]["low"] is None
    assert rows["beta"]["metric"]["low"] is not None


def test_records_of_other_test_groups_have_no_interval(tmp_path):
    for name, groups in {"alpha": 4, "beta": 4, "gamma": 3}.items():
        for seed, value in enumerate((0.8, 0.9)):
            left_out = np.repeat([[value], [0.5], [0.75]], groups - (name == "beta" and seed), axis=1)
            write(tmp_path, name, seed, value, left_out=left_out)
    lows = {name: row["metric"]["low"] for name, row in rows_of(only_table(tmp_path)).items()}
    assert lows["alpha"] is not None and lows["beta"] is lows["gamma"] is None
    assert "too old" in board([tmp_path])


def test_a_reference_that_is_undefined_without_some_group_leaves_skill_without_interval(tmp_path):
    for seed, value in enumerate((0.8, 0.9)):
        write(tmp_path, "alpha", seed, value, left_out=[[0.8, 0.8], [math.inf, 0.5], [0.75, 0.75]])
    row = rows_of(only_table(tmp_path))["alpha"]
    assert row["skill"] == {"value": 0.7, "low": None, "high": None} and row["metric"]["low"] is not None


# --- nothing is hidden, nothing averaged away ------------------------------------------------------------------------


def test_a_failed_seed_is_never_averaged_and_its_model_not_ranked(tmp_path):
    model(tmp_path, "alpha", [0.9, 0.91, None, 0.9])
    model(tmp_path, "beta", [0.8, 0.81, 0.8, 0.8])
    model(tmp_path, "gamma", [0.7, 0.71])
    rows = rows_of(only_table(tmp_path))
    for name in ("alpha", "gamma"):
        assert (rows[name]["metric"], rows[name]["skill"], rows[name]["rank"]) == (None, None, None)
    assert rows["beta"]["rank"] == 1
    text = board([tmp_path])
    states = {row[1]: row[-1] for row in markdown_rows(text) if row[1] in ("alpha", "beta", "gamma")}
    assert states["alpha"].startswith("3/4 (1 diverged):") and states["beta"].startswith("4/4:")
    assert states["gamma"].startswith("2/4 (2 missing):")
    assert re.search(r"Failed: alpha \[seed 2\]\(\S+record.json\) diverged: loss is nan", text)
    seeds = {seed["seed"]: seed["status"] for seed in rows["gamma"]["seeds"]}
    assert seeds == {0: "ok", 1: "ok", 2: "missing", 3: "missing"}


def test_not_applicable_models_are_shown_with_the_reason(tmp_path):
    grid(tmp_path, {"alpha": 0.9})
    model(tmp_path, "beta", [None] * 5, status="not_applicable", reason="it sees the future")
    rows = rows_of(only_table(tmp_path))
    assert rows["beta"]["not_applicable"] == "it sees the future" and rows["beta"]["rank"] is None
    assert rows["alpha"]["rank"] == 1  # the five seeds of beta are not asked of alpha
    text = board([tmp_path])
    assert "Not applicable: beta: it sees the future" in text
    assert [row[-1][:14] for row in markdown_rows(text) if row[1] == "beta"] == ["not applicable"]


def test_a_group_in_which_everything_failed_is_shown(tmp_path):
    model(tmp_path, "alpha", [None, None], status="oom", reason="8 GiB asked for")
    text = board([tmp_path])
    assert "0/2 (2 oom)" in text and "8 GiB asked for" in text and "Metric: none measured" in text
    assert all(row["rank"] is None for row in only_table(tmp_path)["rows"])
    csv.reader(board([tmp_path], "csv"))


# --- learning rates --------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_chosen_on_validation_and_the_test_has_no_say(tmp_path):
    write(tmp_path, rate=0.001, value=0.99, val=0.70, cost__cpu_seconds=5.0)  # the best test
    for seed in range(2):
        write(tmp_path, rate=0.003, seed=seed, value=0.80, val=0.75)
    write(tmp_path, rate=0.01, value=None)
    row = rows_of(only_table(tmp_path))["alpha"]
    assert row["learning_rate"] == 0.003 and row["metric"]["value"] == 0.8
    assert [(one["learning_rate"], one["validation"], one["status"]) for one in row["learning_rates_tried"]] == [
        (0.001, 0.7, "ok"),
        (0.003, 0.75, "ok"),
        (0.01, None, "diverged"),
    ]
    assert row["tuning_seconds"] == 5.0 and not row["tuning_seconds_are_all"]  # the diverged trial left no cost
    text = board([tmp_path], columns="quality")
    assert ["alpha", "0.7000", "**0.7500**", "diverged"] in markdown_rows(text) and "not taken" not in text
    assert "≥ 5.0" in board([tmp_path])
    write(tmp_path, rate=0.001, seed=1, value=0.99)
    assert "1 further run(s), at learning rates that were not taken" in board([tmp_path])


@pytest.mark.parametrize(
    ("direction", "trials", "chosen"),
    [
        ("higher", {0.001: 0.5, 0.003: 0.7, 0.01: 0.6}, 0.003),
        ("lower", {0.001: 0.5, 0.003: 0.7, 0.01: 0.6}, 0.001),
        ("higher", {0.01: 0.7, 0.003: 0.7, 0.001: 0.1}, 0.003),  # a tie goes to the lower
        ("lower", {0.01: 0.7, 0.003: None}, 0.01),  # a failed one loses
        ("higher", {0.01: None, 0.003: None}, 0.003),
    ],
)
def test_the_choice_follows_direction_ties_and_failures(tmp_path, direction, trials, chosen):
    for rate, val in trials.items():
        value = None if val is None else 0.8
        write(tmp_path, rate=rate, value=value, val=val, primary__direction=direction)
    assert rows_of(only_table(tmp_path))["alpha"]["learning_rate"] == chosen


def test_a_rate_without_seed_0_is_not_chosen_over_one_with_it(tmp_path):
    for seed in (1, 2, 3):
        write(tmp_path, rate=0.001, seed=seed, value=0.9)
    write(tmp_path, rate=0.003, seed=0, value=0.7)
    assert rows_of(only_table(tmp_path))["alpha"]["learning_rate"] == 0.003


# --- what is comparable ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task__data_sha256": "1" * 64}, "data 111111111111"),
        ({"task__version": 2}, "task version 2"),
        ({"task__code_sha256": "2" * 64}, "task code 222222222222"),
        ({"task__source": "hub"}, "source hub"),
        ({"task__options": {"sequence_length": 24}}, "option sequence_length 24"),
        ({"config__dropout": 0.5}, "dropout 0.5"),
        ({"config__steps": 800}, "steps 800"),
        ({"config__precision": "bf16"}, "precision bf16"),
        ({"config__threads": 2, "environment__threads": 2}, "threads 2"),
        ({"config__backbone": "residual", "model__backbone": "residual"}, "backbone residual"),
        ({"environment__device": "cuda"}, "device cuda"),
        ({"config__control": "shuffle-labels"}, "CONTROL shuffle-labels"),
        ({"config__hidden": [64]}, "hidden 64"),
        ({"config__hidden": None, "config__params": 100_000}, "equal parameters (100,000)"),
        ({"budget": "standard", "config__budget": "standard"}, "standard"),
    ],
)
def test_only_comparable_cells_share_a_table(tmp_path, changes, said):
    grid(tmp_path, {"alpha": 0.9})
    write(tmp_path, "beta", 0, 0.95, **changes)
    tables = data(tmp_path)["tables"]
    labels = [[row["label"] for row in table["rows"] if not row["baseline"]] for table in tables]
    assert sorted(labels) == [["alpha"], ["beta"]]
    usual, other = sorted(tables, key=lambda table: labels[tables.index(table)])
    assert usual["title"] == "toy · quick · equal width (hidden 128)"
    assert said in other["title"] and other["title"] != usual["title"]


def test_seed_and_learning_rate_do_not_split_a_table(tmp_path):
    write(tmp_path, "alpha", 0, rate=0.001)
    write(tmp_path, "beta", 1, rate=0.01)
    assert len(data(tmp_path)["tables"]) == 1


def test_a_control_is_marked_even_where_it_stands_alone(tmp_path):
    grid(tmp_path, {"alpha": 0.5}, config__control="shuffle-labels")
    text = board([tmp_path])
    assert "· CONTROL shuffle-labels" in text and "- CONTROL shuffle-labels: " in text


def test_tables_come_by_budget_then_track_then_task(tmp_path):
    small = {"budget": "smoke", "config__budget": "smoke"}
    equal = {"config__hidden": None, "config__params": 1000}
    for changes in (
        {"task__name": "b"},
        {"task__name": "a"},
        {"task__name": "a", **equal},
        {"task__name": "z", **small},
    ):
        write(tmp_path, **changes)
    assert [table["title"].rsplit(" (", 1)[0] for table in data(tmp_path)["tables"]] == [
        "z · smoke · equal width",
        "a · quick · equal width",
        "b · quick · equal width",
        "a · quick · equal parameters",
    ]


def test_versions_of_a_model_are_rows_of_their_own(tmp_path):
    grid(tmp_path, {"alpha": 0.9})
    grid(tmp_path, {"alpha": 0.8}, model__version=2)
    grid(tmp_path, {"mine": 0.7}, model__code_sha256="a" * 64)
    grid(tmp_path, {"mine": 0.6}, model__code_sha256="b" * 64)
    grid(tmp_path, {"tfidf": 0.5})
    labels = [row["label"] for row in only_table(tmp_path)["rows"]]
    assert labels == [
        "alpha v1",
        "alpha v2",
        "tfidf",
        "mine v1 code aaaaaaaa",
        "mine v1 code bbbbbbbb",
        "tfidf (model)",
        "majority",
    ]


def test_costs_of_another_device_are_left_out_and_counted(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.81])
    write(tmp_path, "alpha", 2, 0.8, environment__device_name="another", cost__cpu_seconds=1000.0)
    write(tmp_path, "alpha", 0, 0.8, val=0.1, rate=0.001, environment__device_name="another")
    model(tmp_path, "beta", [0.8] * 3, environment__device_name="another")
    model(tmp_path, "gamma", [0.8] * 3)
    table = only_table(tmp_path)
    rows = rows_of(table)
    assert rows["alpha"]["train_seconds"] == 10.0 and rows["beta"]["train_seconds"] is None
    assert rows["alpha"]["tuning_seconds"] == 0 and not rows["alpha"]["tuning_seconds_are_all"]
    assert table["costs"] == {
        "device_name": "this machine",
        "seconds": "cpu",
        "runs_on_other_devices": 4,
        "runs_interrupted": 0,
    }
    text = board([tmp_path])
    assert "4 run(s) on other devices are left out of the costs" in text and "all on this machine" in text


def test_seconds_are_of_the_cpu_only_where_every_run_has_them_and_one_thread(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.81])
    table = only_table(tmp_path)
    assert table["costs"]["seconds"] == "cpu" and rows_of(table)["alpha"]["train_seconds"] == 10.0
    assert rows_of(table)["alpha"]["tokens_per_second"] == 2000.0  # 20,000 tokens in 10 s
    write(tmp_path, "beta", 0, 0.8, cost__cpu_seconds=None)
    table = only_table(tmp_path)
    assert table["costs"]["seconds"] == "wall-clock" and rows_of(table)["alpha"]["train_seconds"] == 20.0
    assert rows_of(table)["alpha"]["tokens_per_second"] == 1000.0 and "wall-clock seconds" in board([tmp_path])


# --- overviews -------------------------------------------------------------------------------------------------------


def test_mean_skill_is_over_models_that_are_complete_in_every_task(tmp_path):
    for task, values in {"one": (0.8, 0.82), "two": (0.9, 0.91)}.items():
        model(tmp_path, "alpha", values, task__name=task)
        model(tmp_path, "gamma", [0.6, 0.601], task__name=task)
    model(tmp_path, "beta", [0.99, 0.99], task__name="one")
    model(tmp_path, "beta", [0.99, None], task__name="two")
    model(tmp_path, "delta", [0.7, 0.7], task__name="two")
    (overview,) = data(tmp_path)["overviews"]
    rows = {row["label"]: row for row in overview["rows"]}
    assert overview["tasks"] == ["one", "two"]
    # skills .62 and .81 with variances 4 * .0002 / 2 and 4 * .00005 / 2; of their mean a quarter of the sum
    parts = 4 * 0.0002 / 2, 4 * 0.00005 / 2
    df = sum(parts) ** 2 / sum(part**2 for part in parts)
    mean = stats.Estimate((0.62 + 0.81) / 2, sum(parts) / 4, 0.0, df).interval()
    assert rows["alpha"]["mean_skill"] == pytest.approx({"value": mean.value, "low": mean.low, "high": mean.high})
    assert (rows["alpha"]["rank"], rows["gamma"]["rank"]) == (1, 2)
    for name in ("beta", "delta"):
        assert rows[name]["mean_skill"] is None and rows[name]["rank"] is None
    assert rows["delta"]["seeds"] == ["not run", "2/2"]
    text = board([tmp_path])
    assert "Not ranked, without a mean: beta: one 0.980 and two 1/2 (1 diverged)." in text
    assert "Not ranked, without a mean: delta: one not run and two 0.400." in text


def test_differences_of_mean_skill_are_of_paired_skills(tmp_path):
    for task in ("one", "two"):
        model(tmp_path, "alpha", [0.8, 0.9], task__name=task)
        model(tmp_path, "beta", [0.7, 0.801], task__name=task)
    (overview,) = data(tmp_path)["overviews"]
    (difference,) = overview["differences"]
    assert difference["difference"] == pytest.approx(0.199)  # seeds differ by .2, models of one seed by .2 and .198
    assert difference["high"] - difference["low"] < 0.02 and difference["better"] == "alpha"


def test_there_is_no_overview_of_one_task_or_of_different_conditions(tmp_path):
    grid(tmp_path, {"alpha": 0.9}, task__name="one")
    assert overviews(read_tables([tmp_path])) == []
    grid(tmp_path, {"alpha": 0.9}, task__name="two", config__precision="bf16")
    assert overviews(read_tables([tmp_path])) == []
    own = {"config__dropout": 0.5, "config__steps": 900, "config__weight_decay": 0.2}  # each task's own defaults
    grid(tmp_path, {"alpha": 0.9}, task__name="three", **own)
    (overview,) = overviews(read_tables([tmp_path]))
    assert [table.group.task.name for table in overview.tables] == ["one", "three"]


# --- records that must not be believed -------------------------------------------------------------------------------


def edit(folder, **changes):
    raw = json.loads((folder / RECORD).read_text())
    for path, value in changes.items():
        place = raw
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return raw


@pytest.mark.parametrize(
    ("changes", "resign", "says"),
    [
        ({"task__name": "dna"}, False, "altered"),
        ({"task__name": "dna"}, True, "moved or edited"),
        ({"config__seed": 7}, False, "altered"),
        ({"seed": 7}, False, "moved or edited"),
        ({"schema_version": 2}, False, "schema version 2.*update"),
        ({"primary__value": 0.99}, False, "altered: its primary"),
        ({"primary__reference": "nobody"}, False, "altered: its reference"),
        ({"environment__threads": 4}, False, "altered: its threads"),
        ({"status": "diverged"}, False, "altered: its status"),
        ({"metrics__val": {}}, False, "altered: its validation"),
        ({"baselines": {"majority": 0.5}}, False, "does not fit its record"),
    ],
)
def test_altered_records_are_refused(tmp_path, changes, resign, says):
    grid(tmp_path, {"alpha": 0.9})
    folder = write(tmp_path, "beta")
    raw = edit(folder, **changes)
    (folder / RECORD).write_text(json.dumps(signed(raw) if resign else raw))
    for fmt in ("markdown", "json", "csv"):
        with pytest.raises(UserError, match=says):
            board([tmp_path], fmt)


def test_another_primary_metric_of_the_same_task_is_refused(tmp_path):
    write(tmp_path)
    folder = write(tmp_path, "beta", 0, 0.9)
    (folder / RECORD).write_text(json.dumps(edit(folder, primary__direction="lower")))
    with pytest.raises(UserError, match="another primary metric"):
        board([tmp_path])


@pytest.mark.parametrize("place", ["toy/beta", "other/alpha", "toy/alpha"])
def test_a_moved_record_is_refused(tmp_path, place):
    folder = write(tmp_path)
    cell = folder.parent
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    name = cell.name if place != "toy/alpha" else cell.name.replace("seed0", "seed1")
    shutil.move(cell, tmp_path / place / name)
    with pytest.raises(UserError, match="moved or edited: it belongs in"):
        board([tmp_path])


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_damaged_record_is_an_error_and_never_skipped(tmp_path, content):
    grid(tmp_path, {"alpha": 0.9})
    folder = write(tmp_path, "beta")
    (folder / RECORD).unlink()
    if content is not None:
        (folder / RECORD).write_text(content)
    with pytest.raises(UserError, match=RECORD):
        board([tmp_path])


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", 100, 140, (b"<f8", b"<f4"), (b"(3, 4)", b"(9**9,"), (b"{", b"(")]
)
def test_damaged_leave_one_out_figures_are_an_error(tmp_path, content):
    file = write(tmp_path) / LEFT_OUT
    whole = file.read_bytes()
    if isinstance(content, tuple):
        content = whole.replace(*content, 1)
    file.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(UserError, match=LEFT_OUT):
        board([tmp_path])


def test_pickled_leave_one_out_figures_are_never_loaded(tmp_path):
    np.save(write(tmp_path) / LEFT_OUT, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=LEFT_OUT):
        board([tmp_path])


def test_nothing_at_all_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no records in .*nothing: run some first"):
        board([tmp_path / "nothing"])


# --- several directories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [0, 1])
def test_of_a_cell_in_two_directories_the_one_that_finished_last_counts(tmp_path, newest):
    for i, value in enumerate((0.6, 0.9)):
        write(tmp_path / str(i), value=value, finished=f"2026-01-0{2 if i == newest else 1}T00:00:00+00:00")
    write(tmp_path / "1", "beta")
    (table,) = data(tmp_path / "0", tmp_path / "1")["tables"]
    rows = rows_of(table)
    assert rows["alpha"]["metric"]["value"] == (0.6, 0.9)[newest] and len(rows["alpha"]["seeds"]) == 1
    assert rows["beta"]["metric"]["value"] == 0.8


def test_of_a_cell_the_newest_run_counts(tmp_path):
    write(tmp_path, value=None, status="timeout", reason="too slow", run=1)
    write(tmp_path, value=0.7, run=2)
    assert rows_of(only_table(tmp_path))["alpha"]["metric"]["value"] == 0.7
    assert "too slow" not in board([tmp_path])


# --- what is written -------------------------------------------------------------------------------------------------


def full_grid(root, **given):
    """Two tasks, two tracks, a trial, a diverged, a missing and a not applicable run."""
    for task in ("one", "two"):
        about = {"task__name": task, **given}
        grid(root, {"alpha": 0.9, "beta": 0.7}, **about)
        write(root, "alpha", 0, 0.95, val=0.1, rate=0.001, **about)
        model(root, "gamma", [0.8, None, 0.8], **about)
        write(root, "delta", 0, 0.8, **about)
        model(root, "omega", [None], **{**about, "status": "not_applicable", "reason": "sees the future"})
        model(root, "oom", [None], **{**about, "status": "oom", "reason": f"{given.get('cost__train_seconds')} GiB"})
    grid(root, {"alpha": 0.8}, task__name="one", config__hidden=None, config__params=1000, **given)
    return root


@pytest.mark.parametrize("fmt", ["markdown", "json", "csv"])
def test_quality_columns_depend_on_neither_machine_nor_moment(tmp_path, fmt):
    full_grid(tmp_path / "a")
    other = {
        "environment__device_name": "faster",
        "environment__python": "3.14.0",
        "environment__torch": "2.99",
        "environment__seqbench": "9.0.0",
        "environment__git_commit": "f" * 40,
        "environment__git_dirty": True,
        "cost__train_seconds": 1.5,
        "cost__cpu_seconds": None,
        "cost__tokens_per_second": 9e9,
        "cost__peak_memory_bytes": 77,
        "cost__interrupted": True,
        "started": "2027-01-01T00:00:00+00:00",
        "finished": "2027-01-01T00:00:10+00:00",
        "run": 3,
    }
    full_grid(tmp_path / "b", **other)
    for name, cut in (("a", tmp_path), ("b", tmp_path / "elsewhere")):
        (tmp_path / f"{name}.txt").write_text(board([tmp_path / name], fmt, "quality", cut))
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    assert board([tmp_path / "a"], fmt) != board([tmp_path / "b"], fmt)
    write(tmp_path / "b", "new", 0, 0.7)
    assert board([tmp_path / "b"], fmt, "quality") != (tmp_path / "a.txt").read_text()


def test_the_order_in_which_directories_are_named_does_not_matter(tmp_path):
    full_grid(tmp_path / "a")
    grid(tmp_path / "b", {"zeta": 0.6}, task__name="one")
    there, back = (board([tmp_path / a, tmp_path / b], columns="quality") for a, b in ("ab", "ba"))
    assert there == back


def test_markdown_tables_are_well_formed_and_links_lead_to_records(tmp_path):
    root = full_grid(tmp_path / "a store (of mine)")
    base = tmp_path / "pages" / "deep"
    base.mkdir(parents=True)
    text = board([root], base=base)
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.startswith("|")]
    assert len(blocks) >= 5
    for block in blocks:
        assert len({len(row) for row in markdown_rows(block)}) == 1
        assert re.fullmatch(r"(\| (:--|--:) )+\|", block.splitlines()[1])
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 20
    found = [(base / unquote(link)).resolve() for link in links]
    assert all(path.is_file() and path.name == RECORD for path in found)
    assert not Path(links[0]).is_absolute()


def test_links_hold_through_symbolic_links(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "deep" / "er" / "store")
    (tmp_path / "short").symlink_to(tmp_path / "deep" / "er", target_is_directory=True)
    (tmp_path / "page").symlink_to(tmp_path / "deep", target_is_directory=True)
    text = board([tmp_path / "short" / "store"], base=tmp_path / "page")
    (link,) = set(re.findall(r"\]\(([^)]*)\)", text))
    assert link.startswith("er/store/toy") and (tmp_path / "page" / link).is_file()


def test_every_record_can_be_reached_by_a_link(tmp_path):
    full_grid(tmp_path)
    text = board([tmp_path], base=tmp_path)
    linked = {(tmp_path / unquote(link)).resolve() for link in re.findall(r"\]\(([^)]*)\)", text)}
    assert linked == set(tmp_path.rglob(RECORD))


def test_what_records_say_cannot_become_markup(tmp_path):
    evil = "a | b\n| <script>alert(1)</script> [x](http://y) `code` **bold** $m$ ~~s~~ # \u202e &amp; " + "z" * 1000
    grid(tmp_path, {"alpha": 0.9}, task__options={"file": "<b>|x_|_y"}, primary__unit="<i>|")
    model(tmp_path, "beta", [None], reason=evil, task__options={"file": "<b>|x_|_y"}, primary__unit="<i>|")
    text = board([tmp_path])
    assert "<script" not in text and "<b>" not in text and "<i>" not in text and "\u202e" not in text
    assert "(http" not in re.sub(r"\\\]\(http", "", text) and "**bold**" not in text and "z" * 301 not in text
    assert len({len(row) for row in markdown_rows(text)}) == 1
    assert "&amp;amp;" in text and r"\|" in text


def test_escaping_leaves_names_readable():
    assert escape("bits_per_character") == "bits_per_character"
    assert escape("_x_ *y*") == r"\_x\_ \*y\*"
    assert escape("a\nb\tc") == "a b c"


def test_json_is_strict_and_holds_what_the_board_rests_on(tmp_path):
    full_grid(tmp_path)

    def refuse(name):
        raise AssertionError(name)

    content = json.loads(board([tmp_path], "json", base=tmp_path), parse_constant=refuse)
    seeds = [seed for table in content["tables"] for row in table["rows"] for seed in row.get("seeds", ())]
    assert {seed["status"] for seed in seeds} == {"ok", "diverged", "missing", "not_applicable", "oom"}
    assert all((tmp_path / seed["record"]).is_file() for seed in seeds if seed["status"] != "missing")
    first = rows_of(content["tables"][0])["alpha"]
    assert [seed["value"] for seed in first["seeds"]] == [0.9, 0.901, 0.899]


def test_csv_has_one_line_a_row_and_no_formulas(tmp_path):
    full_grid(tmp_path, primary__unit="=1+1")
    lines = list(csv.DictReader(io.StringIO(board([tmp_path], "csv"))))
    assert len(lines) == sum(len(table["rows"]) for table in data(tmp_path)["tables"])
    (alpha,) = [line for line in lines if line["label"] == "alpha" and line["track"].startswith("equal par")]
    assert float(alpha["value"]) == 0.8 and alpha["rank"] == "1" and alpha["records"].count(RECORD) == 3
    assert {line["unit"] for line in lines} == {"'=1+1"}
    assert {line["row"] for line in lines} == {"model", "baseline"}
    assert float(min(lines, key=lambda line: float(line["skill"] or 0))["skill"]) <= 0


def test_baselines_that_records_disagree_about_are_named(tmp_path):
    write(tmp_path)
    write(tmp_path, "beta", baselines={"majority": 0.5, "tfidf": 0.76})
    assert "Records disagree about tfidf" in board([tmp_path])


def test_conditions_stand_above_and_versions_only_with_all_columns(tmp_path):
    grid(tmp_path, {"alpha": 0.9}, environment__git_commit="abcdef0123" * 4)
    text, quality = board([tmp_path]), board([tmp_path], columns="quality")
    for words in (
        "toy version 1 (classify)",
        "SHA-256 000000000000",
        "accuracy, higher is better",
        "200 test examples",
    ):
        assert words in text and words in quality
    for words in ("budget quick, 400 steps of 32 sequences", "cpu, fp32, 1 thread(s)", "skill is 0 for majority"):
        assert words in text and words in quality
    for words in ("this machine", "torch 2.13.0", "seqbench 0.1.0 at abcdef012", "train s", "record.json"):
        assert words in text and words not in quality


@pytest.mark.parametrize(
    ("values", "reaches", "places"),
    [
        ((0.84, 0.80, 0.02), (0.01, 0.002), 4),
        ((0.84,), (0.00002,), 5),
        ((3.5, 4.0), (), 3),
        ((12345.0,), (7.0,), 0),
        ((0.0,), (0.0, math.nan), 3),
    ],
)
def test_decimals_suit_values_and_intervals(values, reaches, places):
    assert decimals(values, reaches) == places


@pytest.mark.parametrize(
    ("value", "reach", "places", "shown"),
    [
        (0.8475, 0.0081, 4, "0.8475 ± 0.0081"),
        (-0.0001, math.nan, 3, "0.000"),
        (12345.6, 7.0, 0, "12,346 ± 7"),
        (0.0, 0.0, 3, "0.000"),
        (math.nan, math.nan, 3, "–"),  # noqa: RUF001
    ],
)
def test_figures_as_text(value, reach, places, shown):
    assert with_reach(value, reach, places) == shown


def test_a_board_needs_no_torch():
    code = "import sys, seqbench.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

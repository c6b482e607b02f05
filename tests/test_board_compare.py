"""The board's tables and overviews: who is ranked, which differences are real, and that nothing is hidden or made up.

All records are written by hand into a store, with values that the expected figures can be worked out from.
"""

import csv
import math
import re

import numpy as np
import pytest
from board_records import board, data, grid, markdown_rows, model, only_table, rows_of, tables_of, write

from seqbench import stats
from seqbench.board import overviews, paired_skill, short_board

T1 = 12.7062047362  # the 97.5% quantile of Student's t with one degree of freedom


# --- figures by hand -------------------------------------------------------------------------------------------------


def test_a_mean_and_its_interval_by_hand(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    row = rows_of(only_table(tmp_path))["alpha"]
    reach = T1 * math.sqrt(0.005 / 2)  # s^2 = .005, two seeds, test figures that do not vary
    assert row["metric"] == pytest.approx({"value": 0.85, "low": 0.85 - reach, "high": 1.0})  # a share
    assert row["skill"] == pytest.approx({"value": 0.7, "low": 0.7 - 2 * reach, "high": 0.7 + 2 * reach})
    assert f"0.8500 ({0.85 - reach:.4f} to 1.0000)" in board([tmp_path])
    assert "In brackets stand the ends" in board([tmp_path])


def test_skill_shares_the_test_examples_with_its_reference(tmp_path):
    # without either group the model has .85 and the reference .5 or .6: skill (.35 / .5, .25 / .4) = .7, .625
    write(tmp_path, value=0.85, left_out=[[0.85, 0.85], [0.5, 0.6], [0.75, 0.75]])
    rows = rows_of(only_table(tmp_path))
    reach = T1 * math.sqrt(1 / 2 * 2 * 0.0375**2)
    assert rows["alpha"]["skill"] == pytest.approx({"value": 0.7, "low": 0.7 - reach, "high": 0.7 + reach})
    assert rows["alpha"]["metric"] == pytest.approx({"value": 0.85, "low": 0.85, "high": 0.85})
    assert rows["majority"]["skill"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    reach = T1 * math.sqrt(1 / 2 * 2 * 0.05**2)
    assert rows["majority"]["metric"] == pytest.approx({"value": 0.5, "low": 0.0, "high": 1.0})  # a share


def test_a_lower_metric_ranks_the_other_way_round(tmp_path):
    lower = {"primary__direction": "lower", "primary__perfect": 0.0, "primary__unit": "C", "primary__name": "rmse"}
    grid(tmp_path, {"alpha": 0.2, "beta": 0.4, "gamma": 0.9}, **lower)
    table = only_table(tmp_path)
    assert {row["label"]: (row["rank"], row["better_than"]) for row in table["rows"]} == {
        "alpha": (1, ["beta", "majority", "gamma"]),
        "beta": (2, ["majority", "gamma"]),
        "majority": (None, ["gamma"]),
        "tfidf": (None, []),
        "gamma": (3, []),
    }
    assert list(rows_of(table)) == ["alpha", "beta", "majority", "tfidf", "gamma"]
    assert table["strongest_baseline"] == "majority"
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


def test_a_difference_that_only_holds_alone_is_not_called_significant(tmp_path):
    model(tmp_path, "alpha", [0.81, 0.82, 0.80, 0.83])
    model(tmp_path, "beta", [0.80, 0.80, 0.79, 0.80])
    model(tmp_path, "gamma", [0.5, 0.9, 0.7, 0.9])
    table = only_table(tmp_path)
    first = table["differences"][0]
    assert first["p"] < 0.05 < first["p_adjusted"] == pytest.approx(3 * first["p"])
    assert first["better"] is None and "Significant differences**: none" in board([tmp_path])


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


def test_records_of_one_table_may_know_different_baselines(tmp_path):
    """Baselines are added after runs are made, and some can't be fitted to some data."""
    write(tmp_path, "alpha", 0, 0.9)
    write(tmp_path, "beta", 0, 0.7, baselines={"majority": 0.5, "svm": 0.8, "tfidf": 0.75})
    write(tmp_path, "gamma", 0, 0.6, baselines={"majority": 0.5})
    table = only_table(tmp_path)
    assert [row["label"] for row in table["rows"]] == ["alpha", "svm", "tfidf", "beta", "gamma", "majority"]
    assert table["strongest_baseline"] == "svm" and "svm" in board([tmp_path])


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
    assert "No p-values" in text and "One seed only" in text and "Significant differences**: " not in text


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


@pytest.mark.parametrize(
    ("left_out", "metric_is_known"),
    [
        ([[math.nan, 0.8], [0.5, 0.5], [0.75, 0.75]], False),
        ([[math.inf, 0.8], [0.5, 0.5], [0.75, 0.75]], False),
        ([[0.8, 0.8], [math.inf, 0.5], [0.75, 0.75]], True),  # of the reference
    ],
)
def test_a_figure_that_is_undefined_without_some_group_has_no_interval(tmp_path, left_out, metric_is_known):
    for seed, value in enumerate((0.8, 0.9)):
        write(tmp_path, "alpha", seed, value, left_out=left_out)
        write(tmp_path, "beta", seed, value, left_out=[[0.8, 0.8], *left_out[1:]])
    rows = rows_of(only_table(tmp_path))
    assert rows["alpha"]["skill"]["value"] == 0.7 and rows["alpha"]["skill"]["low"] is None
    assert (rows["alpha"]["metric"]["low"] is not None) == metric_is_known and rows["beta"]["metric"]["low"] is not None


def test_records_of_other_test_groups_have_no_interval(tmp_path):
    for name, groups in {"alpha": 4, "beta": 4, "gamma": 3}.items():
        for seed, value in enumerate((0.8, 0.9)):
            left_out = np.repeat([[value], [0.5], [0.75]], groups - (name == "beta" and seed), axis=1)
            write(tmp_path, name, seed, value, left_out=left_out)
    lows = {name: row["metric"]["low"] for name, row in rows_of(only_table(tmp_path)).items()}
    assert lows["alpha"] is not None and lows["beta"] is lows["gamma"] is None
    assert "too old" in board([tmp_path])


@pytest.mark.parametrize(("groups", "words"), [(1, "too few independent groups to tell one (1)"), (3, "an anecdote")])
def test_a_test_of_few_groups_is_told_from_old_records(tmp_path, groups, words):
    left_out = np.array([[0.8], [0.5], [0.75]])[:, [0] * groups if groups > 1 else []]  # none of a single group
    model(tmp_path, "alpha", [0.8, 0.9], left_out=left_out, task__source="path")
    text = board([tmp_path])
    assert words in text and "too old" not in text


def test_data_sets_of_one_name_are_told_apart_and_one_of_two_names_has_the_newest(tmp_path):
    own = {"task__source": "path", "task__dataset": "frame"}
    write(tmp_path, task__name="one", task__data_sha256="1" * 64, **own)
    write(tmp_path, task__name="two", task__data_sha256="2" * 64, **own)
    write(tmp_path, task__name="two", task__data_sha256="3" * 64, **own)
    write(tmp_path, task__name="two", task__data_sha256="4" * 64, **own | {"task__dataset": "old"})
    later = {"seed": 1, "finished": "2026-02-01T00:00:30+00:00"}
    write(tmp_path, task__name="two", task__data_sha256="4" * 64, **own | {"task__dataset": "new"}, **later)
    end = "quick · equal width (hidden 128)"
    assert [table.title for table in tables_of(tmp_path)] == [
        f"frame (one) · {end}",
        *(f"frame (two) · {end} · data {digit * 12}" for digit in "23"),
        f"new · {end}",
    ]


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


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_where_no_run_was_ok_no_baseline_is_the_strongest_and_no_way_is_better(tmp_path, direction):
    write(tmp_path, "alpha", 0, None)
    (table,) = tables_of(tmp_path)
    (short,) = short_board([table])
    assert table.strongest is None and table.against == []
    assert short.headers[2] == "figure" and [row[1] for row in short.rows] == ["alpha"]
    assert "is better" not in board([tmp_path]).split("## ")[1]
    write(tmp_path, "alpha", 1, 0.6, primary__direction=direction)
    (table,) = tables_of(tmp_path)
    assert table.strongest == ("tfidf" if direction == "higher" else "majority")
    assert short_board([table])[0].headers[2] == f"accuracy {'↑' if direction == 'higher' else '↓'}"


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
    assert overviews(tables_of(tmp_path)) == []
    grid(tmp_path, {"alpha": 0.9}, task__name="two", config__precision="bf16")
    assert overviews(tables_of(tmp_path)) == []
    own = {"config__dropout": 0.5, "config__steps": 900, "config__weight_decay": 0.2}  # each task's own defaults
    grid(tmp_path, {"alpha": 0.9}, task__name="three", **own)
    (overview,) = overviews(tables_of(tmp_path))
    assert [table.conditions.task for table in overview.tables] == ["one", "three"]


# --- two models ------------------------------------------------------------------------------------------------------


def test_skills_of_two_models_are_paired_over_seeds(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    model(tmp_path, "beta", [0.7, 0.801])
    (table,) = tables_of(tmp_path)
    skill = paired_skill(table, "alpha", "beta")
    assert skill.difference.value == pytest.approx(0.199)  # as skill is twice the accuracy - 1
    assert skill.difference.high - skill.difference.low == pytest.approx(2 * T1 * math.sqrt(0.002**2 / 2 / 2))
    assert skill.seeds == (0, 1) and skill.states == "alpha 2/2, beta 2/2" and len(set(skill.folders)) == 4
    assert paired_skill(table, "beta", "alpha").difference.value == pytest.approx(-0.199)


def test_skills_are_not_compared_where_a_model_is_incomplete_absent_or_not_one(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    model(tmp_path, "beta", [0.7, None])
    model(tmp_path, "gamma", [0.7, 0.7])
    model(tmp_path, "gamma", [0.7, 0.7], model__version=2)
    (table,) = tables_of(tmp_path)
    skill = paired_skill(table, "alpha", "beta")
    assert skill.difference is None and skill.states == "alpha 2/2, beta 1/2 (1 diverged)" and len(skill.folders) == 4
    assert paired_skill(table, "alpha", "tfidf") is None  # a baseline
    assert paired_skill(table, "alpha", "gamma") is None  # two versions of it
    assert paired_skill(table, "alpha", "nobody") is None

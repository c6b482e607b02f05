"""Which records stand in which table of the board: the learning rate, what is comparable, and the run that counts."""

import pytest
from board_records import board, data, grid, markdown_rows, model, only_table, rows_of, write

from seqbench.rates import LADDER, RATES, chosen_rate, next_trials

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
    assert "1 further run(s), at learning rates that were not taken, are in no figure here: alpha" in board([tmp_path])


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


@pytest.mark.parametrize(
    ("trials", "direction", "rate"),
    [
        ([(0, 0.001, 0.5), (0, 0.003, 0.7)], "higher", 0.003),
        ([(0, 0.001, 0.5), (0, 0.003, 0.7)], "lower", 0.001),
        ([(0, 0.01, 0.7), (0, 0.003, 0.7)], "higher", 0.003),  # a tie
        ([(0, 0.001, None), (0, 0.003, 0.1), (1, 0.001, 0.9)], "higher", 0.003),  # failed, and another seed
        ([(1, 0.001, 0.9), (0, 0.003, None)], "higher", None),
        ([], "lower", None),
        ([(0, 0.001, 0.6), (0, 0.003, 0.7), (1, 0.001, 0.9), (1, 0.003, 0.8)], "higher", 0.001),  # seeds disagree
        ([(0, 0.001, 0.6), (0, 0.003, 0.7), (1, 0.001, 0.7), (1, 0.003, 0.8)], "higher", 0.003),
        ([(0, 0.001, 0.7), (0, 0.003, 0.6), (1, 0.001, 0.7), (1, 0.003, 0.8)], "higher", 0.001),  # lower is best anyway
        ([(0, 0.001, 0.6), (0, 0.003, 0.7), (1, 0.001, 0.9), (1, 0.003, None)], "higher", 0.003),
    ],
)
def test_the_rate_is_that_of_the_best_validation_at_seed_0(trials, direction, rate):
    assert chosen_rate(trials, direction) == rate


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize("peak", LADDER)
def test_the_search_goes_on_past_an_edge_until_the_best_is_inside(peak, direction):
    sign, at = (1 if direction == "higher" else -1), LADDER.index

    def figure(rate):  # falls off on both sides, faster towards higher rates
        return -sign * (abs(at(rate) - at(peak)) + 0.1 * (rate > peak))

    trials, rounds = [], 0
    while more := next_trials(trials, direction):
        trials += [(seed, rate, figure(rate)) for seed, rate in more]
        rounds += 1
    assert chosen_rate(trials, direction) == peak and rounds <= 5
    tried = sorted(rate for seed, rate, _ in trials if seed == 0)
    first, last = at(tried[0]), at(tried[-1])
    assert tried == list(LADDER[first : last + 1]) and {*RATES} <= {*tried}
    assert (first < at(peak) or not first) and (last > at(peak) or last == len(LADDER) - 1)
    again = sorted(rate for seed, rate, _ in trials if seed == 1)
    assert again == ([] if peak == LADDER[0] else [LADDER[at(peak) - 1], peak])
    assert not [one for one in next_trials(trials[:3], direction, twice=False) if one[0] != 0]


def test_where_every_rate_fails_lower_ones_are_tried_and_then_no_more():
    trials = []
    while more := next_trials(trials, "lower"):
        trials += [(seed, rate, None) for seed, rate in more]
    assert [rate for _, rate, _ in trials] == [*RATES, 3e-4, 1e-4]
    assert chosen_rate(trials, "lower") is None


def test_a_rate_at_an_edge_is_marked(tmp_path):
    for rate, val in ((0.001, 0.7), (0.003, 0.75)):
        write(tmp_path, rate=rate, value=0.8, val=val)
    assert rows_of(only_table(tmp_path))["alpha"]["learning_rate_at_edge"]
    assert ["alpha", "0.7000", "**0.7500** (edge)"] in markdown_rows(board([tmp_path], columns="quality"))
    write(tmp_path, rate=0.01, value=0.8, val=0.74)
    assert not rows_of(only_table(tmp_path))["alpha"]["learning_rate_at_edge"]
    assert "(edge)" not in board([tmp_path])


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
    for name, changes in (("b", {}), ("a", {}), ("a", equal), ("z", small)):
        write(tmp_path, task__name=name, **changes)
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
        "alpha v1", "alpha v2", "tfidf", "mine v1 code aaaaaaaa", "mine v1 code bbbbbbbb", "tfidf (model)", "majority"
    ]  # fmt: skip


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
    basis = {"device_name": "this machine", "seconds": "cpu", "runs_on_other_devices": 4, "runs_interrupted": 0}
    assert table["costs"] == basis
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

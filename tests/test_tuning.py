"""Tuning: what is tried next, that validation alone tells, and that a killed study ends as if it had not been."""

import dataclasses
import json
import math
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

import seqbench
from seqbench.cli import main
from seqbench.cli.tune import study_chart
from seqbench.config import METHODS, RunConfig
from seqbench.errors import UserError
from seqbench.experiment import resolve
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.tuning import (
    SPACE,
    Tuned,
    best_so_far,
    doubling_points,
    grid_points,
    importances,
    kept_studies,
    need_optuna,
)

TOYS = ROOT / "tests" / "toys.py"
WAVE = ("tune", "--plugin", TOYS, "--task", "toy-wave", "--model", "rnn", "--budget", "smoke", "--hidden", "8")


def records(out):
    return [record for record, _ in Store(out / "tuning" / "records").records(RunRecord)]


def told(out, method="tpe"):
    """Of the only study of ``method`` what decides; not what the clock says."""
    (study,) = [study for study in kept_studies(out) if study.method == method]
    rows = [dataclasses.replace(trial, seconds=0.0) for trial in study.trials]
    return rows, dataclasses.replace(study.best, seconds=0.0)


# --- what is tried next ----------------------------------------------------------------------------------------------


def test_a_grid_is_full_within_its_trials_and_has_its_levels_in_the_middle_of_equal_parts():
    points = grid_points(SPACE, 20, seed=0)
    assert len(points) == 16  # two levels of each of the four; three of the first would be 24
    assert {point["learning_rate"] for point in points} == {0.0003162, 0.003162}
    assert {point["hidden"] for point in points} == {64, 256} and {point["batch_size"] for point in points} == {32, 128}
    assert {point["dropout"] for point in points} == {0.275, 0.425}
    assert len({tuple(point.values()) for point in points}) == 16
    again, other = grid_points(SPACE, 20, seed=0), grid_points(SPACE, 20, seed=1)
    assert points == again != other and sorted(map(str, points)) == sorted(map(str, other))
    assert [len(grid_points(SPACE, trials, seed=0)) for trials in (1, 2, 3, 24, 100)] == [1, 2, 3, 24, 81]
    doubled = grid_points((SPACE[1],), 20, seed=0)
    assert sorted(point["hidden"] for point in doubled) == [64, 128, 256, 512]  # there are no more


def test_doubling_doubles_one_thing_while_that_is_better():
    space = (Tuned("rate", 1, 10, "log"), Tuned("width", 64, 512, "doubled"))
    peak = {"rate": 4, "width": 128}

    def figure(point):
        return -sum(abs(point[name] / peak[name] - 1) for name in peak)

    points = doubling_points(space, lambda a, b: a > b)
    tried, point = [], next(points)
    with pytest.raises(StopIteration):
        while True:
            tried.append((point["rate"], point["width"]))
            point = points.send(figure(point))
    # the rate is doubled until 8 is worse, the width until 256 is; a second round has nothing new
    assert tried == [(1, 64), (2, 64), (4, 64), (8, 64), (4, 128), (4, 256), (8, 128)]


def test_doubling_takes_what_failed_or_was_pruned_for_no_better_and_ends_at_the_end_of_a_range():
    space = (Tuned("rate", 1, 3),)
    points = doubling_points(space, lambda a, b: a < b)
    assert [next(points), points.send(0.5), points.send(0.4)] == [{"rate": 1}, {"rate": 2}, {"rate": 3}]
    with pytest.raises(StopIteration):
        points.send(0.3)
    failing = doubling_points(space, lambda a, b: a < b)
    assert [next(failing), failing.send(None)] == [{"rate": 1}, {"rate": 2}]
    with pytest.raises(StopIteration):
        failing.send(None)


def test_an_edge_is_a_tenth_of_a_range_and_of_its_logarithm():
    rate, width, _, dropout = SPACE
    assert [rate.place(value) for value in (1e-4, 1.5e-4, 1.7e-4, 1e-3, 7e-3, 1e-2)] == [
        *["at the lower edge"] * 2, *["inside"] * 2, *["at the upper edge"] * 2,
    ]  # fmt: skip
    assert [width.place(value) for value in (64, 128, 256, 512)] == [
        "at the lower edge", "inside", "inside", "at the upper edge",
    ]  # fmt: skip
    assert [dropout.place(value) for value in (0.22, 0.24, 0.49)] == [
        "at the lower edge",
        "inside",
        "at the upper edge",
    ]


def test_batches_of_another_size_read_as_many_sequences(tmp_path):
    for size, steps in ((None, 6), (16, 6), (32, 3), (8, 12), (4096, 1)):
        experiment = resolve(RunConfig(task="toy-first", model="rnn", budget="smoke", batch_size=size))
        assert experiment.budget.steps == steps == experiment.resolved["steps"]
    plain, same = (
        resolve(RunConfig(task="toy-first", model="rnn", budget="smoke", batch_size=size)) for size in (None, 16)
    )
    assert plain.job.key == same.job.key  # what is already published keeps its key
    result = seqbench.run("toy-first", "rnn", budget="smoke", batch_size=32, hidden=8, out=tmp_path)
    assert result.config["batch_size"] == 32 and result.cost.steps == 3


# --- whole studies ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory, toys):
    """A folder with a study of 10 trials that nothing disturbed, one process at a time."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main([str(word) for word in (*WAVE, "--trials", 10, "--out", out)]) == 0
    return out


def test_a_study_has_its_trials_each_with_a_record_and_says_what_was_best(whole):
    rows, best = told(whole)
    found = {record.key: record for record in records(whole)}
    assert [row.number for row in rows] == list(range(10)) and {row.key for row in rows} == set(found)
    for row in rows:
        config = found[row.key].config
        assert {name: config[name] for name in row.values} == row.values and config["hidden"] == [8]
        assert row.state == {"ok": "complete"}.get(found[row.key].status, found[row.key].status)
    complete = [row for row in rows if row.state == "complete"]
    assert best.figure == min(row.figure for row in complete)
    assert all(row.figure == found[row.key].metrics["val"]["rmse"] for row in complete)


def test_what_is_not_in_the_best_third_before_it_is_pruned_and_has_no_figures(whole):
    rows, _ = told(whole)
    assert all(row.state == "complete" for row in rows[:4])  # nothing comes before the first wave
    pruned = [row for row in rows if row.state == "pruned"]
    assert pruned
    for record in records(whole):
        if record.status == "pruned":
            assert record.metrics == {} and record.primary is None and record.skill is None
            assert "not in the best third" in record.reason and 0 < record.cost.steps < record.config["steps"]
    for start in range(4, 10, 4):
        reached = sorted(row.checks[0] for row in rows[:start])
        bar = reached[math.ceil(len(reached) / 3) - 1]
        for row in rows[start : start + 4]:
            if row.state == "pruned":
                assert len(row.checks) == 1 and row.checks[0] > bar
            else:
                assert row.checks[0] <= bar or len(row.checks) == 1  # a single step, validation read once


def test_a_study_that_is_killed_ends_as_one_that_was_not_whatever_the_number_of_processes(whole, tmp_path, here):
    words = (*WAVE, "--trials", 10, "--jobs", 2, "--out", tmp_path / "out")
    command = [str(word) for word in (sys.executable, ROOT / "run_bench.py", *words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 200
        while len(list((tmp_path / "out").glob("tuning/records/*/*/*/run-*"))) < 6 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)  # in the middle of the second wave
    assert 6 <= len(records(tmp_path / "out")) < 10 and len(kept_studies(tmp_path / "out")[0].trials) < 10
    journal = next((tmp_path / "out").glob("tuning/studies/*/*/*/journal.log"))
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # as a kill in the middle of a line leaves it
    done = here(*words)
    assert done.returncode == 0, done.stderr
    assert told(tmp_path / "out") == told(whole)
    assert len(list((tmp_path / "out").glob("tuning/records/*/*/*/run-*"))) == 10


def test_only_validation_is_read_and_records_are_enough(whole, tmp_path, capsys):
    """The journal is lost, and what the records say of the test is absurd: nothing is trained, all is the same."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "tuning" / "studies")
    (worst, *_) = sorted(told(whole)[0], key=lambda row: -(row.figure or 0))
    for path in out.glob("tuning/records/*/*/*/run-1/record.json"):
        raw = json.loads(path.read_text())
        if raw["status"] == "ok":
            absurd = 0.0 if raw["key"] == worst.key else 1e9
            raw["metrics"]["test"] = {**raw["metrics"]["test"], "rmse": absurd}
            raw["primary"]["value"], raw["skill"] = absurd, 1 - absurd
            path.write_text(json.dumps(raw))
    before = {path: path.read_bytes() for path in out.rglob("run-*/*")}
    assert main([str(word) for word in (*WAVE, "--trials", 10, "--out", out)]) == 0
    assert told(out) == told(whole)
    assert {path: path.read_bytes() for path in out.rglob("run-*/*")} == before
    said = capsys.readouterr()
    assert "000000000" not in said.out + said.err  # nor is a test figure shown


def test_methods_share_their_trials_are_compared_and_drawn(whole, tmp_path, here):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    done = here(*WAVE, "--trials", 9, "--jobs", 2, "--out", out, "--method", "random,grid,doubling", "--plot")
    assert done.returncode == 0, done.stderr
    tpe, random = (told(out, method)[0] for method in ("tpe", "random"))
    assert tpe[:8] == random[:8] and tpe[8] != random[8]  # TPE begins with random trials, the same ones
    assert len(records(out)) < sum(len(study.trials) for study in kept_studies(out))
    assert [len(told(out, "grid")[0]), told(out, "doubling")[0][0].values] == [
        8, {"learning_rate": 1e-4, "batch_size": 32, "dropout": 0.2},
    ]  # fmt: skip
    assert re_all(done.stdout, "tpe", "random", "grid", "doubling", "less random's", "importance", "validation rmse")
    assert "test rmse" not in done.stdout
    assert (out / "tuning" / "toy-wave-rnn-smoke.png").stat().st_size > 5000
    shares = importances(kept_studies(out))
    assert set(shares) == {"learning_rate", "batch_size", "dropout"} and 0 < sum(shares.values()) <= 1 + 1e-9
    chart = study_chart(kept_studies(out))
    assert set(chart.legend()) == set(METHODS)
    for study in kept_studies(out):
        costs, figures = best_so_far(study)
        assert costs == sorted(costs) and figures == sorted(figures, reverse=True) and figures[-1] == study.best.figure


def test_methods_are_compared_over_seeds_with_intervals_and_a_difference_that_is_none_is_said(tmp_path, here, whole):
    """Studies as files, made up: one method better by .1 with every seed, one that is the same on average."""
    usual = json.loads(next(whole.glob("tuning/studies/*/*/*/study.json")).read_text())
    values = {"learning_rate": 0.001, "batch_size": 32, "dropout": 0.3}
    for seed, base in enumerate((0.5, 0.6, 0.7)):
        for method, figure in (("random", base), ("grid", base - 0.1), ("doubling", base + (0.01, -0.02, 0.01)[seed])):
            trials = [
                {**usual["trials"][0], "number": i, "values": {**values, "dropout": 0.2 + 0.1 * i}, "seconds": 2.0,
                 "state": "complete", "figure": figure + 0.2 - 0.1 * i, "checks": [1.0], "reason": None}
                for i in range(3)
            ]  # fmt: skip
            folder = tmp_path / "out" / "tuning" / "studies" / "toy-wave" / "rnn" / f"{method}-{seed}"
            folder.mkdir(parents=True)
            (folder / "study.json").write_text(json.dumps({**usual, "method": method, "seed": seed, "trials": trials}))
    studies = kept_studies(tmp_path / "out")
    lines = {mark.label: mark for mark in study_chart(studies).columns[0][0].marks if mark.label}
    assert list(lines["random"].x) == [2, 4, 6] and lines["random"].y[-1] == pytest.approx(0.6)
    reach = 4.302653 * 0.1 / math.sqrt(3)  # Student's t with two degrees of freedom
    assert lines["random"].low[-1] == pytest.approx(0.6 - reach) and lines["random"].high[-1] == pytest.approx(
        0.6 + reach
    )
    shutil.copytree(whole / "tuning" / "records", tmp_path / "out" / "tuning" / "records")
    done = here(*WAVE, "--trials", 10, "--out", "out")  # whose trials all have records
    assert done.returncode == 0, done.stderr
    row = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.count("|") == 6}
    assert "-0.1000 " in row["grid"] and "no difference" not in row["grid"]
    assert "0.6000 ± 0.2484" in row["random"] and "no difference is shown" in row["doubling"]


def re_all(text, *words):
    return all(word in text for word in words)


def test_run_tuned_takes_the_best_settings_and_says_which(whole, tmp_path, here):
    _, best = told(whole)
    words = ("--plugin", TOYS, "--task", "toy-wave", "--model", "rnn", "--budget", "smoke", "--hidden", 8)
    done = here("run", *words, "--seed", 3, "--tuned", whole, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert f"trial {best.number + 1} of tpe with seed 0 at smoke" in done.stderr
    (record,) = [record for record, _ in Store(tmp_path / "out").records(RunRecord)]
    assert {name: record.config[name] for name in best.values} == best.values and record.seed == 3
    grid = here("run", *words, "--seeds", 2, "--tuned", "--out", whole)  # alone it means the studies below --out
    assert grid.returncode == 0, grid.stderr
    found = [record for record, _ in Store(whole).records(RunRecord)]  # trials are not on the board
    assert {record.seed for record in found} == {0, 1}
    assert all(record.config["learning_rate"] == best.values["learning_rate"] for record in found)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tuned", "--model", "rnn"), "the studies of rnn on toy-wave in"),
        (("--tuned", "--model", "rnn", "--hidden", "16"), "had another hidden: give the same."),
        (("--tuned", "--model", "gru"), "holds no finished trial of gru on toy-wave: run tune with the same task"),
        (
            ("--tuned", "--model", "rnn", "--learning-rate", ".1"),
            "--tuned sets learning rate: leave --learning-rate out",
        ),
        (("--tuned", "--model", "rnn", "--tune-learning-rate"), "leave --tune-learning-rate out"),
        (
            ("--tuned", "--model", "rnn", "--hidden", "8", "--backbone", "residual"),
            "had another backbone: give the same.",
        ),
    ],
)
def test_run_tuned_refuses_what_was_not_tuned(whole, here, words, sentence):
    done = here("run", "--task", "toy-wave", "--budget", "smoke", "--out", whole, *words)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--trials", "0"), "--trials 0 is out of range: take 1 to 10,000"),
        (("--trials", "2.5"), "--trials 2.5: that is not a whole number"),
        (("--method", "bayes"), "unknown method 'bayes'"),
        (("--method", "tpe,"), "unknown method ''"),
        (("--seeds", "0"), "--seeds 0 is out of range"),
        (("--wave", "0"), "--wave 0 is out of range"),
        (("--jobs", "0"), "--jobs 0 is out of range"),
        (("--model", "rrn"), "did you mean rnn"),
        (("--task", "toy-text", "--model", "bilstm"), "bilstm sees what it is to predict on toy-text"),
        (("--hidden", "8", "--learning-rate", ".1", "--dropout", "0", "--batch-size", "16"), "nothing is left to tune"),
        (("--model", "rnn,gru", "--plot", "one.png"), "--plot FILE is one picture"),
        (("--plot", "one.pdf"), "must end in .png, .svg or .html"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(here, tmp_path, words, sentence):
    given = [words[i] for i in range(0, len(words), 2)]
    usual = [(name, value) for name, value in (("--task", "toy-wave"), ("--model", "rnn")) if name not in given]
    done = here("tune", *(word for pair in usual for word in pair), "--budget", "smoke", "--out", "out", *words)
    assert done.returncode == 2 and sentence in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_of_several_pairs_those_that_cannot_be_scored_are_said_and_left_out(here, tmp_path):
    words = ("--task", "toy-text,toy-wave", "--model", "rnn,bilstm", "--method", "tpe,grid", "--dry-run", "--json")
    done = here("tune", *words, "--budget", "smoke", "--hidden", "8", "--out", "out")
    assert "toy-text bilstm is left out: bilstm sees what it is to predict there" in done.stderr
    plan = json.loads(done.stdout)
    assert len(plan["studies"]) == 6 and plan["trials"] == 120 and plan["seconds"] > 0  # the same number for each
    assert not (tmp_path / "out").exists()


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"tune needs Optuna.*pip install 'seqbench\[tune\]'"):
        need_optuna()


def test_importance_is_of_each_setting_alone_on_the_scale_that_it_was_searched_on(whole):
    """Of a figure that only the logarithm of the rate decides, and of one that two settings decide together."""
    study = kept_studies(whole)[0]
    rng = np.random.default_rng(0)

    def told_of(figure):
        trials = []
        for i in range(60):
            rate, dropout = float(10 ** rng.uniform(-4, -2)), float(rng.uniform(0.2, 0.5))
            values = {"learning_rate": rate, "batch_size": 64, "dropout": dropout}
            trials.append(
                dataclasses.replace(study.trials[0], number=i, values=values, key=str(i), figure=figure(rate, dropout))
            )
        return importances([dataclasses.replace(study, trials=tuple(trials))])

    shares = told_of(lambda rate, dropout: math.log10(rate))
    assert shares["learning_rate"] > 0.9 and shares["dropout"] < 0.05
    assert sum(told_of(lambda rate, dropout: (math.log10(rate) + 3) * (dropout - 0.35)).values()) < 0.5

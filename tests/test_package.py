"""The package as it is built and installed, its public names, and which way its imports run."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT

import seqbench

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_all_public_names_exist_and_are_documented():
    for name in seqbench.__all__:
        assert (getattr(seqbench, name).__doc__ or "").strip(), name
    assert set(dir(seqbench)) == set(seqbench.__all__)
    with pytest.raises(AttributeError):
        seqbench.nothing  # noqa: B018


@pytest.mark.parametrize("path", sorted(ROOT.glob("seqbench/**/*.py")), ids=lambda path: path.name)
def test_every_module_exports_what_it_names(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), name


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert versions[0] == VERSION


def imports(path):
    """Names of the modules that a file imports, however deep."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", sorted(ROOT.glob("tasks/*.py")), ids=lambda path: path.name)
def test_tasks_import_public_modules_only_and_never_torch(path):
    allowed = {"baselines", "data", "errors", "files", "metrics", "task"}
    for name in imports(path):
        assert not name.startswith("torch")
        if name.startswith("seqbench"):
            assert name.split(".")[1] in allowed, name


@pytest.mark.parametrize(
    "name",
    [
        "record",
        "store",
        "stats",
        "metrics",
        "task",
        "data",
        "files",
        "listing",
        "result",
        "registry",
        "data_commands",
        "show",
    ],
)
def test_reading_and_listing_need_no_torch(name):
    code = f"import sys, seqbench.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


LAYERS = [  # a module may import from its own row and the rows below
    {"cli", "api"},
    {"cli_probes"},
    {"cli_commands", "cli_data"},
    {"commands", "claims_command", "worker"},
    {"claims", "grid_command", "probe_command"},
    {"probes"},
    {"estimate", "grid_progress"},
    {"grid", "data_commands", "predict"},
    {"leaderboard", "runner"},
    {"executor"},
    {"progress", "plot", "plot_data", "listing", "show"},
    {"result"},
    {"cell"},
    {"failure", "outcome"},
    {"plan"},
    {"train"},
    {"checkpoint"},
    {"device"},
    {"batches", "prepare"},
    {"models", "heads", "optimizer"},
    {"files"},
    {"baselines"},
    {"data", "task"},
    {"registry", "store", "record", "rates", "stats", "metrics"},
    {"grid_options", "kept", "probe_options"},
    {"config", "environment", "errors"},
]


def test_imports_run_one_way():
    level = {name: i for i, row in enumerate(LAYERS) for name in row}
    for path in ROOT.glob("seqbench/**/*.py"):
        source = path.read_text()
        typing_only = re.findall(r"if TYPE_CHECKING:.*?\n(?=\S)", source, flags=re.DOTALL)
        for block in typing_only:
            source = source.replace(block, "")
        name = path.relative_to(ROOT / "seqbench").with_suffix("").parts[0]
        if name == "__init__":
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqbench."):
                other = node.module.split(".")[1]
                assert level[name] <= level[other], f"{path.name} imports {node.module}"


def test_no_engine_module_knows_a_task_or_a_model_by_name():
    names = {"dna", "weather", "textgen", "fault", "sentiment", "stock", "lstm", "bilstm", "gru", "rnn", "transformer"}
    defining = {"recurrent.py", "transformer.py"}
    for path in ROOT.glob("seqbench/**/*.py"):
        if path.name in defining or path.parent.name == "claims":  # which are about models that texts name
            continue
        literals = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not literals & names, path.name


def test_nothing_is_pickled():
    for path in [*ROOT.glob("seqbench/**/*.py"), *ROOT.glob("tasks/*.py")]:
        assert not {"pickle", "joblib", "dill", "shelve"} & set(imports(path)), path
        assert "torch.load(" not in path.read_text() and "torch.save(" not in path.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: in a checkout setuptools leaves a folder that the next wheel would contain, stale or not."""
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for folder in ("seqbench", "tasks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, cwd=out)
    return next(out.glob("*.whl"))


def test_the_wheel_has_one_top_level_package_with_tasks_and_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"seqbench", f"seqbench-{VERSION}.dist-info"}
    for name in ("seqbench/tasks/dna.py", "seqbench/tasks/data/dna.parquet", "seqbench/tasks/data/weather.parquet"):
        assert name in names
    assert not any("test" in name for name in names)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "seqbench").rglob("*.py")}
    assert modules <= set(names), "a package that pyproject.toml does not list"


def test_the_wheel_works_installed_elsewhere(wheel, tmp_path):
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    code = (
        "import seqbench, seqbench.tasks, sys; from seqbench.cli import main;"
        "assert seqbench.__file__.startswith(sys.argv[1]) and seqbench.tasks.__file__.startswith(sys.argv[1]);"
        "sys.exit(main(['--task', 'weather', '--model', 'rnn', '--budget', 'smoke', '--hidden', '8', '--out', 'out']))"
    )
    env = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").glob("weather/rnn/*/run-1/record.json"))

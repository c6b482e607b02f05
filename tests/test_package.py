"""The package as it is built and installed, its public names, and which way its imports run."""

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
from house import imports

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


def test_nothing_is_pickled():
    for path in [*ROOT.glob("seqbench/**/*.py"), *ROOT.glob("tasks/*.py")]:
        assert not {"pickle", "joblib", "dill", "shelve"} & imports(path), path
        assert "torch.load(" not in path.read_text() and "torch.save(" not in path.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: in a checkout setuptools leaves a folder that the next wheel would contain, stale or not."""
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for folder in ("seqbench", "tasks", "tests/benchmarks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    # without a compiler, which the wheel can do without: .ci/wheel builds one with its kernels
    subprocess.run(build, check=True, capture_output=True, cwd=out, env={**os.environ, "CC": "false"})
    return next(out.glob("*.whl"))


def test_the_wheel_has_one_top_level_package_with_tasks_and_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"seqbench", f"seqbench-{VERSION}.dist-info"}
    for name in ("seqbench/tasks/dna.py", "seqbench/tasks/data/dna.parquet", "seqbench/tasks/data/weather.parquet"):
        assert name in names
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "seqbench" / "report" / "page").iterdir()}
    assert len(pages) >= 5 and pages <= set(names)
    benchmarks = {f"seqbench/benchmarks/{path.name}" for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert {name for name in names if "test" in name} == benchmarks
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

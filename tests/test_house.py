"""The rules of the house, as CONTRIBUTING has them: layers, no cycles, no rooms for one, no name twice, no torch."""

import ast
import subprocess
import sys
from collections import defaultdict

import pytest
from conftest import ROOT
from house import arrows, importers, imports, modules, public_names

from seqbench.models.mixer import MODELS

LAYERS = [  # a module may import from its own row and from the rows below
    {"cli", "api", "__main__"},
    {"claims", "board", "probes", "gate", "tuning", "checks", "export"},
    {"experiment", "predictions", "about"},
    {"jobs", "training", "report"},
    {"models", "tasks", "files", "baselines", "prepare"},
    {"task", "data", "readers"},
    {
        "stats",
        "metrics",
        "rates",
        "registry",
        "config",
        "options",
        "device",
        "environment",
        "process",
        "disk",
        "errors",
    },
]
PLUG_INS = (
    "baselines",
    "checks",
    "claims",
    "cli",
    "models",
    "probes",
    "tasks",
)  # packages that are listed to find what they hold
PROTOCOL = {  # names that every module of a kind defines, so that whoever finds the module can call it
    "load", "build", "encode", "score", "Options",  # tasks and files
    "run_spec",  # kinds of jobs
    "group", "main",  # commands and processes
    "Subject",  # checks
}  # fmt: skip


def room(name: str) -> str:
    return name.split(".")[1]


def test_imports_run_down_the_layers():
    level = {name: i for i, row in enumerate(LAYERS) for name in row}
    for name, others in arrows().items():
        for other in others - {"seqbench"}:
            if name != "seqbench":
                assert level[room(name)] <= level[room(other)], f"{name} imports {other}"


def test_the_layers_stand_in_contributing_as_they_are_tested():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for row in LAYERS:
        assert any(all(f"`{name}`" in line for name in row) for line in text.splitlines()), row


def test_jobs_know_no_task_no_model_and_no_probe():
    for name, others in arrows().items():
        if name.startswith("seqbench.jobs"):
            assert {room(other) for other in others - {"seqbench"}} <= {
                "jobs",
                "report",
                "registry",
                "disk",
                "environment",
                "process",
                "errors",
            }, name


def test_there_is_no_cycle_not_even_of_types():
    left = {name: set(others) for name, others in arrows().items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, sorted(left)


def test_no_module_has_a_single_importer_unless_it_is_a_plug_in_or_what_one_command_does_or_users_call():
    for name, users in importers().items():
        parts = name.split(".")
        plug_in = len(parts) > 2 and parts[1] in PLUG_INS and "shared" not in parts
        package = modules()[name].name == "__init__.py"
        plug_in |= name == "seqbench.gate.worker"  # of pytest, which finds it in a folder that it is copied to
        command = all(user.startswith("seqbench.cli.") for user in users)
        offered = users == {"seqbench"}
        assert len(users) > 1 or plug_in or package or command or offered, f"{name} is imported by {users} only"


def test_no_public_name_is_defined_twice():
    homes = defaultdict(set)
    for name, path in modules().items():
        for public in public_names(path) - PROTOCOL:
            homes[public].add(name)
    assert {public: where for public, where in homes.items() if len(where) > 1} == {}


def test_only_the_renderer_imports_matplotlib():
    for name, path in modules().items():
        if name != "seqbench.report.draw":
            assert not any(other.split(".")[0] == "matplotlib" for other in imports(path)), name


@pytest.mark.parametrize("path", sorted(ROOT.glob("tasks/*.py")), ids=lambda path: path.name)
def test_tasks_import_public_modules_only_and_never_torch(path):
    allowed = {"baselines", "data", "disk", "errors", "files", "metrics", "readers", "task"}
    for name in imports(path):
        assert not name.startswith("torch")
        if name.startswith("seqbench"):
            assert name.split(".")[1] in allowed, name


LIGHT = (
    "api", "board", "board.html", "cli.data", "cli.leaderboard", "cli.list", "cli.run", "data", "files", "gate.trend",
    "jobs.pool", "jobs.record", "jobs.store", "metrics", "probes.context", "probes.copy", "probes.cost",
    "probes.gradient", "probes.memory", "probes.parallel", "probes.published", "probes.tracking", "registry",
    "report.chart", "report.draw", "report.html", "report.svg", "report.text", "stats", "task",
)  # fmt: skip
ONE_BY_ONE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"seqbench.{name}")
    heavy = {"torch", "matplotlib"} & set(sys.modules)
    if heavy:
        sys.exit(f"{name} imports {', '.join(heavy)}")
"""


def test_what_reads_lists_and_shows_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", ONE_BY_ONE, *LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_engine_module_knows_a_task_or_a_model_by_name():
    names = {"dna", "weather", "textgen", "fault", "protein", "sentiment", "stock", *MODELS.names()}
    defining = {"recurrent.py", "transformer.py", "scan.py", "matrix.py", "slstm.py", "tcn.py", "ntm.py"}
    for path in ROOT.glob("seqbench/**/*.py"):
        # about models that texts and papers name; of cells
        if path.name in defining or path.parent.name in ("claims", "kernels") or path.name == "published.py":
            continue
        literals = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not literals & names, path.name

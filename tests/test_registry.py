"""Registries and plug-ins: names, clashes, suggestions, and every way a user's file can be wrong."""

import hashlib
import os
import subprocess
import sys

import pytest
from conftest import ROOT

import seqbench.registry as registry_module
from seqbench.errors import UserError
from seqbench.models.mixer import MODELS
from seqbench.registry import Registry, load_plugin, loaded_plugins
from seqbench.task import TASKS

MODEL = """
import torch
import seqbench

@seqbench.register_model("{name}")
class Mean(seqbench.Mixer):
    \"\"\"Running mean of a linear map.\"\"\"
    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal)
        self.map = torch.nn.Linear(d_in, d_out)
    def forward(self, x, lengths=None):
        steps = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return self.map(x).cumsum(dim=1) / steps
    def state_size(self, length):
        return self.d_out + 1
"""


def test_values_are_found_by_name_and_alias():
    registry = Registry("thing")
    assert registry.register("first", aliases=("one",))(1) == 1
    assert registry.get("first") == registry.get("one") == 1
    assert registry.names() == ["first"]


def test_a_taken_name_or_alias_is_refused_and_names_the_holder():
    registry = Registry("thing")
    registry.add("first", 1, aliases=("one",))
    for name in ("first", "one"):
        with pytest.raises(UserError, match="already registered by"):
            registry.add(name, 2)
    assert registry.get("first") == 1


@pytest.mark.parametrize("name", ["", "Up", "a b", "../up", "a/b", "-x", "x" * 65, "ü", "a\n"])
def test_names_that_are_no_paths_are_refused(name):
    with pytest.raises(UserError, match="name"):
        Registry("thing").add(name, 1)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean lstm"):
        MODELS.get("lsmt")
    with pytest.raises(UserError, match=r"unknown task 'zzzz': there are dna, .*weather"):
        TASKS.get("zzzz")


def test_a_users_model_is_registered_with_its_origin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODEL.format(name="running-mean"))
    load_plugin(file)
    load_plugin(file)  # twice on one command line does no harm
    entry = MODELS.entry("running-mean")
    assert entry.origin == "file mine.py" and entry.code == hashlib.sha256(file.read_bytes()).hexdigest()
    assert MODELS.entry("lstm").code is None


def test_a_file_that_was_edited_is_loaded_anew_and_one_that_was_not_is_not(tmp_path):
    file, other = tmp_path / "edited.py", tmp_path / "other.py"
    file.write_text(MODEL.format(name="first-mean"))
    other.write_text(MODEL.format(name="other-mean"))
    load_plugin(file)
    load_plugin(other)
    first, others = MODELS.entry("first-mean"), MODELS.entry("other-mean")
    load_plugin(file)
    assert MODELS.entry("first-mean") is first
    file.write_text(file.read_text().replace("map", "max"))  # as long as it was, within the same second
    load_plugin(file)
    second = MODELS.entry("first-mean")
    assert second.code == hashlib.sha256(file.read_bytes()).hexdigest() != first.code
    assert "max" in second.value.mixer.__init__.__code__.co_names
    file.write_text(MODEL.format(name="second-mean"))
    load_plugin(file)
    assert "first-mean" not in MODELS.names() and MODELS.entry("other-mean") is others
    file.write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_plugin(file)
    assert "second-mean" not in MODELS.names()
    file.write_text(MODEL.format(name="second-mean"))
    load_plugin(file)
    assert "second-mean" in MODELS.names()
    for name in ("second-mean", "other-mean"):
        MODELS.remove(name)


def test_a_session_registers_again_what_it_has_registered_itself():
    registry = Registry("thing")
    registry.add("mine", 1, aliases=("m",), module="__main__")
    registry.add("mine", 2, module="__main__")
    assert registry.get("mine") == 2 and registry.names() == ["mine"]
    with pytest.raises(UserError, match="unknown thing 'm'"):
        registry.get("m")
    registry.add("more", 3, aliases=("m",), module="__main__")
    with pytest.raises(UserError, match=r"'m' .*already registered by __main__"):
        registry.add("mine", 4, aliases=("m",), module="__main__")
    with pytest.raises(UserError, match=r"'mine' .*already registered by __main__"):
        registry.add("mine", 4, module="pytest")
    assert registry.get("mine") == 2
    for name in ("lstm", "gru"):  # one imported already or not
        with pytest.raises(UserError, match="already registered by seqbench"):
            MODELS.discover()
            MODELS.add(name, MODELS.get("rnn"), module="__main__")


CELL = """
SCALE = 1.0
def half(x): return x / 2
class Thing:
    size = 3
    def outer(self): return [self.inner(x) for x in (1, 2)]
    @staticmethod
    def inner(x): return SCALE * half(x)
registry.add("thing", Thing)
unused = 1
"""


@pytest.mark.parametrize(
    ("edit", "differs"),
    [
        ("SCALE = 2.0", True),
        ("def half(x): return x / 3", True),
        ("Thing.size = 4", True),
        ("Thing.outer = lambda self: 7", True),
        ("unused = 2", False),
        ("def half(x):\n    return x / 2", False),
    ],
)
def test_the_code_of_a_cell_is_also_what_it_reads_from_other_cells(edit, differs):
    """As it is when it is used, whichever cell was run last."""
    registry = Registry("thing")
    session = {"__name__": "__main__", "registry": registry}
    exec(CELL, session)
    before = registry.entry("thing").code
    assert before == registry.entry("thing").code
    exec(edit, session)
    assert (registry.entry("thing").code != before) == differs


def test_the_code_of_a_cell_is_the_same_in_every_process():
    code = "import sys; sys.path.insert(0, 'tests'); from test_registry import *\nregistry = Registry('thing')\n"
    code += CELL.replace("(1, 2)", "(1, 2) if self in {'a', 'b', 'c'}") + "print(registry.entry('thing').code)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nowhere_to_be_found", r"fails to import: ModuleNotFoundError.*line 1"),
        ("x = 1\ny = (", r"fails to import: SyntaxError.*line 2"),
        ("raise SystemExit(3)", "fails to import: SystemExit"),
        ("x = 1", "registers nothing"),
        (MODEL.format(name="lstm"), r"model 'lstm' .*already registered by seqbench\.models\.recurrent"),
        (MODEL.format(name="Not A Name"), "must be lower-case"),
        (MODEL.format(name="half-way") + "\n1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_wrong_plugin_is_one_sentence_and_leaves_nothing_behind(tmp_path, text, says):
    file = tmp_path / "wrong.py"
    file.write_text(text)
    before = MODELS.names()
    with pytest.raises(UserError, match=says) as caught:
        load_plugin(file)
    assert "\n" not in str(caught.value) and "--plugin" in str(caught.value)
    assert MODELS.names() == before


def test_a_plugin_that_is_not_there():
    with pytest.raises(UserError, match="no such Python file"):
        load_plugin("nowhere.py")


@pytest.mark.parametrize(("text", "says"), [(MODEL.format(name="installed-mean"), ""), ("1 / 0", "ZeroDivisionError")])
def test_installed_plugins_come_in_by_entry_point(tmp_path, text, says):
    (tmp_path / "their_model.py").write_text(text)
    about = tmp_path / "their_model-2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-model\nVersion: 2.0\n")
    (about / "entry_points.txt").write_text("[seqbench.models]\nmean = their_model\n")
    code = "from seqbench.models.mixer import MODELS; print(MODELS.entry('installed-mean').origin)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    if says:
        assert says in done.stderr and "their-model 2.0" in done.stderr
    else:
        assert done.stdout.strip() == "their-model 2.0", done.stderr


HELPED = "import layers\nfrom package.deep import half\n" + MODEL.format(name="helped-mean")
LAZY = MODEL.format(name="lazy-mean") + "\n\ndef late():\n    from layers import scale\n    return scale\n"
HELPERS = {
    "layers.py": "scale = 1\n",
    "package/__init__.py": "",
    "package/deep.py": "from . import deeper\nhalf = deeper.half\n",
    "package/deeper.py": "half = .5\n",
    "unused.py": "x = 1\n",
}


@pytest.fixture
def helpers(tmp_path):
    """Modules in the folder of a plug-in; what was registered and imported is taken back."""
    for name, text in HELPERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in ("helped-mean", "lazy-mean"):
        if name in MODELS.names():
            MODELS.remove(name)
    for file in ("helped.py", "lazy.py"):
        registry_module._loaded.pop(tmp_path / file, None)
    registry_module._HELPERS.withdraw(["layers", "package", "package.deep", "package.deeper"])


@pytest.mark.parametrize(
    ("file", "text", "edited", "differs"),
    [
        ("helped.py", HELPED, "layers.py", True),
        ("helped.py", HELPED, "package/__init__.py", True),
        ("helped.py", HELPED, "package/deeper.py", True),
        ("helped.py", HELPED, "unused.py", False),
        ("lazy.py", LAZY, "layers.py", True),
        ("lazy.py", LAZY, "package/deep.py", False),
    ],
)
def test_what_a_plugin_imports_from_its_folder_is_part_of_its_code(helpers, file, text, edited, differs):
    (helpers / file).write_text(text)
    name = f"{file.removesuffix('.py')}-mean"
    load_plugin(helpers / file)
    before = MODELS.entry(name).code
    (helpers / edited).write_text(HELPERS[edited].replace("1", "2").replace(".5", ".7") + "#")
    if differs:
        with pytest.raises(UserError, match="has changed since it was loaded"):
            loaded_plugins()
    else:
        assert helpers / file in loaded_plugins()
    load_plugin(helpers / file)
    assert (MODELS.entry(name).code != before) == differs


def module_of(file):
    return next(module for module in sys.modules.values() if getattr(module, "__file__", None) == str(file))


def test_an_edited_helper_is_run_anew_and_each_plugin_has_its_own(helpers):
    """Within the same second and of the same length, which byte code on the disk would not notice."""
    (helpers / "helped.py").write_text(HELPED)
    sys.path.append(str(helpers))
    try:
        load_plugin(helpers / "helped.py")
        module = module_of(helpers / "helped.py")
        assert (module.layers.scale, module.half) == (1, 0.5)
        (helpers / "layers.py").write_text("scale = 3\n")
        (helpers / "package" / "deeper.py").write_text("half = .7\n")
        load_plugin(helpers / "helped.py")
        module = module_of(helpers / "helped.py")
        assert (module.layers.scale, module.half) == (3, 0.7)
    finally:
        sys.path.remove(str(helpers))
    (helpers / "other").mkdir()
    (helpers / "other" / "layers.py").write_text("scale = 5\n")
    (helpers / "other" / "lazy.py").write_text(LAZY.replace("lazy-mean", "helped-mean-2"))
    load_plugin(helpers / "other" / "lazy.py")
    assert module_of(helpers / "other" / "lazy.py").late() == 5 and module.layers.scale == 3
    MODELS.remove("helped-mean-2")


def test_a_folder_beside_a_plugin_is_not_what_is_installed(helpers):
    """``import numpy`` and ``import json`` mean the packages, whatever lies beside the file."""
    for name in ("numpy", "json", "seqbench"):
        (helpers / name).mkdir()
        (helpers / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    (helpers / "lazy.py").write_text("import json, numpy, seqbench\n" + LAZY)
    load_plugin(helpers / "lazy.py")
    assert registry_module._helpers_of(helpers / "lazy.py", LAZY.encode()) == {"layers": helpers / "layers.py"}


@pytest.mark.parametrize(
    "text", ["from layers import Thing, half", "import layers; Thing, half = layers.Thing, layers.half"]
)
def test_the_code_of_a_session_is_also_what_it_imports_from_its_folder(tmp_path, monkeypatch, text):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    codes = []
    for factor in (1, 1, 2):
        (tmp_path / "layers.py").write_text(f"def half(x):\n    return x / {factor}\nclass Thing:\n    size = 3\n")
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("layers", None)
        registry = Registry("thing")
        exec(
            f"{text}\nclass Mine(Thing):\n    def f(self): return half(1)\nregistry.add('thing', Mine)\n",
            {"__name__": "__main__", "registry": registry},
        )
        codes.append(registry.entry("thing").code)
    sys.modules.pop("layers", None)
    assert codes[0] == codes[1] != codes[2]


def test_a_registry_is_whole_for_every_thread():
    code = """
import threading
from seqbench.models.mixer import MODELS
found = []
threads = [threading.Thread(target=lambda: found.append(tuple(MODELS.names()))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8 and len(set(found)) == 1 and "lstm" in found[0], found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr

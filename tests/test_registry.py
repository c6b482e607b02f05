"""Registries and plug-ins: names, clashes, suggestions, and every way a user's file can be wrong."""

import hashlib
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from seqbench.errors import UserError
from seqbench.models.mixer import MODELS
from seqbench.registry import Registry, load_plugin
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

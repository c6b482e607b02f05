"""Registries and plug-ins: names, clashes, suggestions, and every way a user's file can be wrong."""

import hashlib
import os
import subprocess
import sys

import pytest

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

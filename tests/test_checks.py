"""`check FILE.py`: the examples keep every rule, and a copy with one thing broken is told so in the right sentence."""

import json
import re
from itertools import count

import pytest
from conftest import ROOT
from test_models import BUILT_IN

from seqbench import load_plugin
from seqbench.checks import CHECKED, checks_of, findings, running
from seqbench.checks.running import check_file
from seqbench.errors import UserError
from seqbench.models.mixer import MODELS
from seqbench.registry import registered_by

MODEL, TASK, PROBE = (ROOT / "examples" / f"{name}.py" for name in ("running_mean", "digits", "steps_to_solve"))
SHORT = [('"smoke": 150', '"smoke": 30'), ("int = 64", "int = 8"), ("= 32\n", "= 4\n")]  # of the probe
numbers = count()


@pytest.fixture
def checked(tmp_path):
    """``checked(text, kind)``: what the checks find of the only thing that ``text`` registers; no name is left over."""
    loaded = []

    def check(text, only=()):
        number = next(numbers)
        text = re.sub(r'(register_\w+\(\s*)"([\w-]+)"', rf'\1"\2-{number}"', text)  # other tests have the examples, too
        file = tmp_path / f"copy_{number}.py"
        file.write_text(text, encoding="utf-8")
        load_plugin(file)
        loaded.extend(registered_by(file))
        ((registry, name),) = registered_by(file)
        return {finding.check: finding for finding in findings(registry.noun, name, only=only)}

    yield check
    for registry, name in loaded:
        registry.remove(name)


def changed(file, *changes):
    """The text of ``file`` with each ``(old, new)`` of ``changes``; an old line that is not there is a wrong test."""
    text = file.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("kind", CHECKED)
def test_every_check_has_a_name_of_its_own_and_says_what_it_holds(kind):
    checks = checks_of(kind)
    assert len({check.name for check in checks}) == len(checks) >= 8
    assert all(check.holds and not check.holds.endswith(".") for check in checks)


# models ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_model_keeps_the_rules(name):
    assert [found for found in findings("model", name) if found.outcome == "failed"] == []


def test_the_example_of_a_model_keeps_the_rules(checked):
    found = checked(MODEL.read_text())
    skipped = {name for name, finding in found.items() if finding.outcome == "skipped"}
    assert {finding.outcome for finding in found.values()} == {"ok", "skipped"} and skipped == {
        "initialisations",
        "carried state",
    }
    assert "times" in found["time"].found and "to 0.0" in found["learning"].found


PRODUCT = "@ self.map(x)\n"
LINE = "self.map = torch.nn.Linear(d_in, d_out)\n"
DOC = '"""Mean of all steps so far, after a linear map."""\n'
BROKEN_MODELS = {
    "another width": ([(LINE, "self.map = torch.nn.Linear(d_in, 4)\n")], "shape", r"\(1, 1, 4\)|\(3, 7, 8\) is expect"),
    "a list": ([("return past /", "return [past /"), (PRODUCT, "@ self.map(x)]\n")], "shape", "returns a list: return"),
    "not a number": ([(PRODUCT, "@ self.map(x).sqrt()\n")], "shape", r"\d+% of the output is NaN or infinite"),
    "no sum": ([("return self.d_out + 1\n\n    def i", "return self.d_out\n\n    def i")], "state size",
               r"state_size\(1\) says 8, and the state that step\(\) carries then has 9 floats"),
    "half a float": ([("return self.d_out + 1\n\n    def i", "return self.d_out + 0.5\n\n    def i")], "state size",
                     r"state_size\(1\) gives 8.5: return a whole number"),
    "forgets lengths": ([(".tril()", ""), (DOC, DOC + "\n    can_be_causal = False\n")], "padding",
                        r"in evaluation real steps change by up to .* leave out the steps after lengths"),
    "a statistic over the batch": ([(PRODUCT, "@ (self.map(x) - self.map(x).mean(dim=0))\n")], "one by one",
                                   r"rows differ by up to .* depend on no other row \(no statistic"),
    "batch norm": ([(LINE, LINE + "        self.norm = torch.nn.BatchNorm1d(d_out)\n"),
                    (PRODUCT, "@ self.norm(self.map(x).mT).mT\n")], "padding", "in training real steps change by"),
    "looks ahead": ([(".tril()", ".tril(1)")], "causality", "its output at step 0 depends on later steps. To do: look"),
    "looks ahead in training": (
        [(LINE, LINE + "        self.norm = torch.nn.InstanceNorm1d(d_out, track_running_stats=True)\n"),
         (PRODUCT, "@ self.norm(self.map(x).mT).mT\n")], "causality", "in training, of 130 steps, the output up to"),
    "looks across a chunk": (
        [(PRODUCT, "@ (self.map(x) + 0.1 * (x.shape[1] > 64) * self.map(x)[:, 64:65].sum(dim=1, keepdim=True))\n")],
        "causality", "of 130 steps, the output up to step 0 changes by up to"),
    "counts twice": ([("value=1.0", "value=2.0")], "step", "step and forward differ from step 0 on, by up to 0.5"),
    "forgets what it carried": (
        [(DOC, DOC + '\n    carries = True\n\n    def forward_from(self, x, state):\n        return self(x), state\n')],
        "carried state", "read in pieces of 1, 64 and 65 steps, it gives up to 0.[0-9]+ of the output more or less"),
    "carries all": (
        [(DOC, DOC + "\n    carries = True\n\n    def forward_from(self, x, state):\n"
          "        past = x if isinstance(state, torch.Tensor) else torch.cat([state[0], x], 1)\n"
          "        return self(past)[:, -x.shape[1]:], (past,)\n")],
        "carried state", "its state grows with what is read"),
    "carries without a step": (
        [(DOC, DOC + "\n    carries = True\n"), ("def step(", "def no_step(")], "carried state",
        r"offers no step\(\): define it, or forward_from"),
    "a spare parameter": ([(LINE, LINE + "        self.spare = torch.nn.Parameter(torch.zeros(3))\n")], "gradients",
                          "none reaches spare: use it in forward"),
    "detached": ([(PRODUCT, "@ self.map(x).detach()\n")], "gradients", "no gradient passes through it: leave out det"),
    "a root at zero": ([(PRODUCT, "@ (self.map(x) + (0.0 * self.map(x)).abs().sqrt())\n")], "gradients",
                       "that of map.weight.* is NaN or infinite: look for a root"),
    "a clock": ([(PRODUCT, "@ self.map(x) * (1 + __import__('time').perf_counter_ns() % 1000)\n")], "repeatable",
                "two layers with the same seed differ by up to"),
    "draws": ([(PRODUCT, "@ self.map(x) + 1e-9 * torch.randn(1)\n")], "repeatable", "draws random numbers in eval"),
    "remembers": ([("        T = x.shape[1]\n", "        T = x.shape[1]\n        self.n = getattr(self, 'n', 0) + 1\n"),
                   (PRODUCT, "@ self.map(x) * self.n\n")], "repeatable", "keep nothing between calls"),
    "single precision": ([(", dtype=x.dtype", "")], "double", "it ends with RuntimeError: .* line 1"),
    "no initialise": ([(DOC, DOC + '\n    initialisations = ("default", "wide")\n')], "initialisations",
                      r"must define initialise\(name\)"),
    "an idle initialisation": (
        [(DOC, DOC + '\n    initialisations = ("default", "wide")\n\n    def initialise(self, name):\n        pass\n')],
        "initialisations", "'wide'.* leaves every weight as the default has it"),
    "says nothing": ([(PRODUCT, "@ self.map(x) * 1e-6\n")], "learning", "is had without a look at the inputs"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_MODELS)
def test_a_model_that_breaks_a_rule_is_told_which_and_what_to_do(checked, broken):
    changes, check, sentence = BROKEN_MODELS[broken]
    found = checked(changed(MODEL, *changes), only=[check])[check]
    assert found.outcome == "failed", found
    assert re.search(sentence, found.found), found.found


def test_nothing_else_is_checked_of_a_layer_that_does_not_run(checked):
    found = checked(changed(MODEL, (PRODUCT, "@ nothing\n")))
    assert "NameError: name 'nothing' is not defined" in found.pop("shape").found
    assert {(one.outcome, one.found) for one in found.values()} == {("skipped", "the check of shape failed")}


# tasks ----------------------------------------------------------------------------------------------------------------


def test_the_example_of_a_task_keeps_the_rules(checked):
    found = checked(TASK.read_text())
    assert {finding.outcome for finding in found.values()} == {"ok"}, found
    assert found["training only"].found == "training has mean 0 and deviation 1"
    assert re.search(r"accuracy: majority 0\.\d+, .*; skill is told from majority", found["baselines"].found)


READ = "    pixels = images"
LOOK_UP = "    __import__('socket').create_connection(('192.0.2.1', 9))\n"
CONNECT = "    with __import__('socket').socket() as own:\n        own.connect(('192.0.2.1', 9))\n"
BROKEN_TASKS = {
    "a scaler fitted on everything": (
        [("known = pixels[:VAL]", "known = pixels")], "training only",
        "mean 0 and deviation 1 over all splits together and not over training .*: fit the scale on training alone"),
    "a range fitted on everything": (
        [("scaled = ((pixels - mean) / deviation)", "scaled = (pixels + np.linspace(0, 1, 1797)[:, None, None]);"
          " scaled = ((scaled - scaled.min((0, 1))) / np.ptp(scaled, axis=(0, 1)))")], "training only",
        "the range from 0 to 1 over all splits together and not over training"),
    "groups on both sides": ([("np.arange(first, last) //", "np.arange(last - first) //")], "groups",
                             r"27 groups of 27 in val also in train \(0, say\): split between groups"),
    "one group": ([("// NEIGHBOURS", "// 510 * (first > 0) + (first > VAL)")], "groups", "the test is one group"),
    "rows in two splits": ([("rows(0, VAL)", "rows(0, VAL + 50)")], "no overlap",
                           "50 of 270 inputs of val stand in training, too: drop what is double"),
    "not finite": ([("/ deviation)", "/ deviation * np.nan)")], "values", "inputs of train are NaN or infinite: fill"),
    "labels from 1": ([("labels[first:last], np", "labels[first:last] + 1, np")], "values", "number them from 0"),
    "a split without a class": ([("rows(VAL, TEST)", "rows(VAL, VAL + 5)")], "values", "have no example in val: split"),
    "unnamed features": ([("range(8)", "range(7)")], "values", "train has 8 features, and 7 are named"),
    "drawn anew": ([("known = pixels[:VAL]", "known = pixels[: VAL - np.random.randint(1, 99)]")], "same data",
                   "inputs of train differs between two loads: draw from"),
    "another optimum": ([("perfect=1.0", "perfect=0.5")], "score", "accuracy of perfect predictions is 1, and perf"),
    "another metric": ([('return {"accuracy"', 'return {"hits"')], "score", r"score gives \['hits'\], and the metrics"),
    "an order": ([("argmax(axis=1), truth.targets)", "argmax(axis=1)[:99], truth.targets[:99])")], "score",
                 "accuracy depends on the order of the examples"),
    "the network": ([(READ, LOOK_UP + READ)], "loading", "load looks up the host 192.0.2.1: let `fetch` download"),
    "an address": ([(READ, CONNECT + READ)], "loading", r"load connects to \('192.0.2.1', 9\)"),
    "a text": ([("return seqbench.TaskData(", "return str(seqbench.TaskData) or seqbench.TaskData(")], "loading",
               "load returns a str: return a seqbench.TaskData"),
    "half a hash": ([(".hexdigest()", ".hexdigest()[:8]")], "description", "sources gives no SHA-256 of digits"),
    "no licence": ([('licence="CC BY 4.0"', 'licence=""')], "description", "licence is empty: say it in a sentence"),
    "another kind's baseline": ([('"window-logistic"', '"persistence"')], "description", "persistence are not for cl"),
    "a perfect reference": ([("truth.targets)}", "truth.targets) * 0 + 1}")], "baselines", "is perfect already, so no"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_TASKS)
def test_a_task_that_breaks_a_rule_is_told_which_and_what_to_do(checked, broken):
    changes, check, sentence = BROKEN_TASKS[broken]
    found = checked(changed(TASK, *changes), only=[check])[check]
    assert found.outcome == "failed", found
    assert re.search(sentence, found.found), found.found


WAVE = """
import numpy as np
import seqbench
from seqbench.metrics import rmse

SHORT = seqbench.Budget(steps=6, batch_size=16, evaluations=1)
BUDGETS = dict.fromkeys(("smoke", "quick", "standard", "full"), SHORT)

@seqbench.register_task("walk", version=1, kind="forecast", description="a walk", citation="none", licence="MIT",
    split="by time", metrics=(seqbench.Metric("rmse", "lower", "m"),), budgets=BUDGETS, baselines=("persistence",),
    reference="persistence", perfect=0.0, score=lambda predictions, truth: {"rmse": rmse(predictions, truth.targets)})
def load(source, options):
    series = np.random.default_rng(0).normal(size=(400, 1)).cumsum(axis=0).astype(np.float32)

    def windows(first, last):
        starts = np.arange(last - first - 16 - 2 + 1)
        return seqbench.Windows(series[first:last], series[first:last], starts, 16, 2, (first + starts) // 18)

    return seqbench.TaskData(
        windows(0, 252), windows(252, 324), windows(324, 400), {"walk": "0" * 64}, features=("height",))
"""


def test_windows_that_reach_across_a_border_are_found(checked):
    found = checked(WAVE, only=["no overlap", "training only", "score", "groups"])
    assert {found[name].outcome for name in ("no overlap", "score", "groups")} == {"ok"}, found
    assert found["training only"].outcome == "skipped"
    found = checked(WAVE.replace("windows(252, 324)", "windows(234, 324)"))
    assert "3 of 75 stretches of 16 steps of val stand in training, too" in found["no overlap"].found
    assert found["baselines"].outcome == found["training"].outcome == found["cache"].outcome == "ok"


WORDS = (
    WAVE.partition("@seqbench")[0]
    + """
from seqbench.metrics import accuracy

@seqbench.register_task("words", version=1, kind="classify", description="words", citation="none", licence="MIT",
    split="as drawn", metrics=(seqbench.Metric("accuracy", "higher", ""),), budgets=BUDGETS, baselines=("majority",),
    reference="majority", perfect=1.0, score=lambda p, truth: {"accuracy": accuracy(p.argmax(axis=1), truth.targets)})
def load(source, options):
    draw = np.random.default_rng(0)

    def rows(first, most):
        return seqbench.Rows(draw.integers(1, most, (60, 12)), np.arange(60) % 2, first + np.arange(60))

    return seqbench.TaskData(
        rows(0, 16), rows(60, 20), rows(120, 20), {"words": "0" * 64},
        vocabulary=("<pad>", *"abcdefghijklmnopqrs"), classes=("A", "B"))
"""
)


def test_a_vocabulary_that_was_taken_from_everything_is_found(checked):
    only = ["training only", "values"]
    found = checked(WORDS, only=only)
    assert found["values"].outcome == "ok"
    assert found["training only"].found == (
        "4 of 20 tokens of the vocabulary, such as 'p', 'q' and 'r', occur in validation or test and never in training"
        ": take the vocabulary from training, and one token for all unknown ones."
    )
    assert checked(WORDS.replace("rows(0, 16)", "rows(0, 20)"), only=only)["training only"].outcome == "ok"
    few = checked(WORDS.replace("rows(0, 16)", "rows(0, 30)"), only=only)["values"]
    assert few.found == "tokens of train lie from 1 to 29, and the vocabulary has 20: number them from 0."


# probes ---------------------------------------------------------------------------------------------------------------


def test_the_example_of_a_probe_keeps_the_rules(checked):
    found = checked(changed(PROBE, *SHORT))
    assert {finding.outcome for finding in found.values()} == {"ok"}, found


SPEC = '{**asdict(options), "limit": LIMIT[request.budget]'
BROKEN_PROBES = {
    "a tuple": ([(SPEC, SPEC + ', "more": (1, 2)')], "plan", "put in numbers, texts, lists and dicts only"),
    "draws in the plan": ([(SPEC, SPEC + ', "more": __import__("random").random()')], "plan",
                          "planned twice it gives other measurements"),
    "nothing planned": ([("for model in models for", "for model in () for")], "plan", "there is nothing to measure"),
    "breaks": ([("listener.begin", "listener.nothing")], "measure", "error at 1 of 1: AttributeError: .*nothing"),
    "another type": ([("steps: int | None", "steps: dict")], "measure", "has no valid result: steps"),
    "not frozen": ([("@dataclass(frozen=True)\nclass StepsResult", "@dataclass\nclass StepsResult")], "description",
                   "Result is no frozen dataclass"),
    "another seed each time": ([("manual_seed(spec.seed)", "manual_seed(__import__('time').time_ns())"),
                                ("trained.steps if trained.solved else None",
                                 "int(torch.randint(1 << 30, (), generator=data))")],
                               "repeatable", "steps.* of the result differs when it is measured again: draw from"),
    "a table of no model": ([('"model": group[0].spec.models[0]', '"model": "it"')], "table", "the table names no"),
    "no chart": ([("return seqbench.Chart(", "return (")], "chart", "it gives a tuple: return a seqbench.Chart"),
    "two lines": ([('else "not solved"\n\n', 'else "not\\nsolved"\n\n')], "headline", "return a few words"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_PROBES)
def test_a_probe_that_breaks_a_rule_is_told_which_and_what_to_do(checked, broken):
    changes, check, sentence = BROKEN_PROBES[broken]
    found = checked(changed(PROBE, *SHORT, *changes), only=[check])[check]
    assert found.outcome == "failed", found
    assert re.search(sentence, found.found), found.found


# the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    """``mine(text)`` is a file with this text."""

    def write(text):
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        return tmp_path / "mine.py"

    return write


def test_the_command_shows_every_check_and_fails_if_one_does(here, mine):
    good = here("check", MODEL)
    assert good.returncode == 0 and good.stderr == "", good.stderr
    assert "| padding " in good.stdout and "model running-mean: no check failed; 11 ok, 2 skipped." in good.stdout
    bad = here("check", mine(changed(MODEL, ("value=1.0", "value=2.0"))), "--json")
    told = json.loads(bad.stdout)
    assert bad.returncode == 1 and told["failed"] == 1 and told["file"].endswith("mine.py")
    assert [one["check"] for one in told["checks"] if one["outcome"] == "failed"] == ["step"]
    assert {one["kind"] for one in told["checks"]} == {"model"}
    assert "running-mean" not in MODELS.names()  # it was loaded elsewhere


def test_a_layer_that_takes_its_process_down_is_a_failed_check_and_the_next_is_checked(mine):
    class_ = MODEL.read_text().partition("@seqbench")[1:]
    layers = ["import os, time, torch, seqbench"]
    for name, line in (("falls", "os.kill(os.getpid(), 11)"), ("stands", ""), ("hangs", "time.sleep(1000)")):
        text = "".join(class_).replace("running-mean", name)
        layers.append(text.replace("        T = x.shape[1]\n", f"        {line}\n        T = x.shape[1]\n"))
    found = check_file(mine("\n\n".join(layers)), limit=5.0)
    by_name = {name: [one for one in found if one.name == name] for name in ("falls", "stands", "hangs")}
    assert {len(those) for those in by_name.values()} == {len(checks_of("model"))}
    for name, said in (
        ("falls", "its process was ended by SIGSEGV"),
        ("hangs", "it was ended after 5 s: call forward"),
    ):
        assert by_name[name][0].outcome == "failed" and said in by_name[name][0].found
        assert {one.found for one in by_name[name][1:]} == {"the check of shape ended the process"}
    assert {one.outcome for one in by_name["stands"]} == {"ok", "skipped"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import seqbench\nnothing", r"mine.py fails to import: NameError: name 'nothing' is not defined \(line 2\)\."),
        ("x = 1", "mine.py: the file registers nothing"),
        ("import os\nos.kill(os.getpid(), 11)", "mine.py can't be loaded: its process was ended by SIGSEGV"),
        ("import os\nos._exit(0)", "mine.py can't be loaded: its process ended with exit code 0"),
        ("import time\ntime.sleep(1000)", "mine.py can't be loaded: it was ended after 1 s"),
        (
            "import seqbench\n@seqbench.register_baseline('b', kind='classify')\ndef b(*a): pass",
            "registers baseline b, and there are checks for models, tasks and probes only",
        ),
    ],
)
def test_a_file_that_gives_nothing_to_check_is_one_sentence(mine, monkeypatch, text, said):
    if "sleep" in text:
        monkeypatch.setattr(running, "LOADING", 1.0)
    with pytest.raises(UserError, match=said):
        check_file(mine(text), limit=1.0 if "sleep" in text else 60.0)


def test_a_file_that_is_not_there_is_one_sentence(here):
    refused = here("check", "none.py")
    assert refused.returncode == 2 and refused.stderr == "seqbench: none.py: no such Python file.\n"

"""The gate's verdicts: what is real is caught, noise is not, and nothing is left out silently."""

import importlib
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from gate_files import write_process, write_side

from seqbench.errors import UserError
from seqbench.gate.page import Findings, Revision, as_json, as_junit, as_markdown
from seqbench.gate.timings import Timing, Timings, check_devices, read_side
from seqbench.gate.verdict import Accepted, Change, Limits, accept, compare_times, exit_code, not_used, ordered

STEP, OTHER = "test_models.py::test_training_step[lstm-small]", "test_models.py::test_inference_step[gru-real]"
FLAT = [0.0100, 0.0101, 0.0102, 0.0103, 0.0099, 0.0098, 0.0097, 0.01005]


def times(factor=1.0):
    return [second * factor for second in FLAT]


def side(device="this machine", **figures):
    return Timings({name: Timing(name, "training", each) for name, each in figures.items()}, {device})


def both(before, after):
    return compare_times(
        Timings({STEP: Timing(STEP, "training", before)}), Timings({STEP: Timing(STEP, "training", after)})
    )


# --- time and memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "slower"), (0.8, "faster"), (1.0, "same"), (1.05, "same")])
def test_a_benchmark_is_slower_if_the_ranks_and_the_factor_say_so(factor, verdict):
    (change,) = both(times(), times(factor))
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(factor)
    assert change.low <= change.ratio <= change.high
    assert change.bad == (verdict == "slower")


def test_a_clear_difference_below_the_factor_passes_and_a_large_one_that_may_be_noise_too():
    tight = [0.01 + i / 1e5 for i in range(8)]
    (clear,) = both(tight, [second * 1.08 for second in tight])
    assert clear.p < 0.002 and clear.verdict == "same"
    noisy = [0.010, 0.020, 0.011, 0.019, 0.012, 0.018, 0.013, 0.017]
    (noise,) = both(noisy, [0.012, 0.023, 0.012, 0.022, 0.014, 0.02, 0.015, 0.02])
    assert noise.ratio > 1.1 and noise.p > 0.002 and noise.verdict == "open"
    assert "too noisy to exclude a ratio of" in noise.note


def test_one_process_that_was_disturbed_is_no_alarm():
    (change,) = both(times(), [*times()[:-1], 1.0])
    assert change.verdict == "same"


def test_noise_alone_is_silent_and_20_percent_are_caught():
    """A spread of 3% between processes, twice what a quiet machine shows."""
    chance = np.random.default_rng(0)
    noise = lambda factor: list(0.01 * factor * np.exp(chance.normal(0, 0.03, 8)))  # noqa: E731
    alarms = sum(both(noise(1.0), noise(1.0))[0].bad for _ in range(2000))
    caught = sum(both(noise(1.0), noise(1.2))[0].bad for _ in range(500))
    assert alarms == 0
    assert caught >= 495


def test_too_few_processes_are_said_and_do_not_pass():
    changes = both(times()[:6], times()[:6])
    assert [change.verdict for change in changes] == ["not told"]
    assert "at least 7 processes" in changes[0].note
    assert exit_code(changes) == 1


def test_the_limits_can_be_set():
    sides = [Timings({STEP: Timing(STEP, "training", times(factor))}) for factor in (1.0, 1.2)]
    assert compare_times(*sides, Limits(factor=1.5))[0].verdict == "same"
    assert compare_times(*sides, Limits(alpha=1e-5))[0].verdict == "open"


def test_memory_is_judged_beside_the_time():
    before = Timings({STEP: Timing(STEP, "training", times(), [100e6] * 8)})
    after = Timings({STEP: Timing(STEP, "training", times(), [150e6] * 8)})
    time, memory = compare_times(before, after)
    assert (time.verdict, memory.verdict, memory.unit) == ("same", "more memory", "bytes")
    assert memory.bad and exit_code([time, memory]) == 3
    assert compare_times(before, before)[1].verdict == "same"


def test_what_waits_is_told_from_what_computes():
    before = Timings({STEP: Timing(STEP, "training", times(), computed=times())})
    waits = Timings({STEP: Timing(STEP, "training", times(2.0), computed=times())})
    computes = Timings({STEP: Timing(STEP, "training", times(2.0), computed=times(2.0))})
    assert "it waits" in compare_times(before, waits)[0].note
    assert "it waits" not in compare_times(before, computes)[0].note


# --- names -----------------------------------------------------------------------------------------------------------


def test_benchmarks_that_vanished_are_new_or_failed_are_named():
    before, after = side(a=times(), b=times(), c=times()), side(a=times(), d=times())
    changes = {change.name: change for change in compare_times(before, after, failures=({}, {"c": "it broke"}))}
    assert {name: change.verdict for name, change in changes.items()} == {
        "a": "same", "b": "missing", "c": "failed", "d": "new",
    }  # fmt: skip
    assert changes["c"].note == "it broke"
    assert exit_code(list(changes.values())) == 3


def test_what_fails_in_the_base_only_is_new():
    (change,) = compare_times(side(), side(a=times()), failures=({"a": "no such module"}, {}))
    assert compare_times(side(a=times()), side(a=times()), failures=({"a": "now and then"}, {}))[0].verdict == "new"
    assert change.verdict == "new" and "fails in the base: no such module" in change.note


def test_a_renamed_benchmark_is_compared_if_it_says_so_or_has_only_moved():
    old, new = side(**{"test_a.py::test_x": times()}), side(**{"test_b.py::test_x": times(1.3)})
    (moved,) = compare_times(old, new)
    assert (moved.verdict, moved.note) == ("slower", "was test_a.py::test_x")
    other = side(**{"test_a.py::test_y": times()})
    missing, fresh = sorted(compare_times(old, other), key=lambda change: change.verdict)
    assert missing.verdict == "missing" and "perhaps renamed to test_a.py::test_y" in missing.note
    assert fresh.verdict == "new"
    other.samples["test_a.py::test_y"].formerly = "test_a.py::test_x"
    (told,) = compare_times(old, other)
    assert (told.verdict, told.note) == ("same", "was test_a.py::test_x")


def test_a_comparison_of_nothing_is_a_mistake():
    assert exit_code([]) == 2
    assert exit_code(compare_times(side(), side(a=times()))) == 2
    assert comparison(compare_times(side(), side(a=times()))).headline == "Nothing was compared."


def test_what_fails_or_is_skipped_on_both_sides_is_nothing_new():
    reasons = {"a": "skipped: no GPU", "b": "it broke"}
    changes = compare_times(side(c=times()), side(c=times()), failures=(reasons, reasons))
    assert {change.name: change.verdict for change in changes} == {"a": "same", "b": "same", "c": "same"}
    assert exit_code(changes) == 0
    assert "2 without a figure on either side" in comparison(changes).headline
    (gone, broke) = compare_times(side(a=times(), b=times()), side(), failures=({}, reasons))
    assert (gone.verdict, broke.verdict) == ("missing", "failed")


# --- what is wanted --------------------------------------------------------------------------------------------------


def test_a_wanted_change_passes_as_far_as_it_was_announced():
    changes = both(times(), times(1.2))
    wanted = Accepted.parse("test_training_step[lstm up to 1.3: peepholes are new")
    assert wanted == ("test_training_step[lstm", 1.3, "peepholes are new")
    (passed,) = accept(changes, [wanted])
    assert passed.accepted == "peepholes are new" and exit_code([passed]) == 0
    (larger,) = accept(both(times(), times(1.4)), [wanted])
    assert larger.accepted is None and exit_code([larger]) == 3
    (other,) = accept(changes, [Accepted.parse("test_inference*: no")])
    assert other.accepted is None
    assert accept(both(times(), times()), [wanted])[0].accepted is None  # nothing to accept


def test_what_is_accepted_in_part_or_in_vain_is_said():
    changes = both(times(), times(1.4))
    wanted = [Accepted.parse("test_training up to 1.2: why"), Accepted.parse("zzz: why")]
    (larger,) = accept(changes, wanted)
    assert larger.note == "accepted only up to 1.2" and larger.bad
    assert not_used(changes, wanted) == ["'zzz' is accepted, but is the name of nothing here."]


def test_what_is_wanted_up_to_a_size_does_not_cover_a_crash_nor_memory():
    crash = Change("time", "test_x", "g", verdict="failed")
    memory = Change("memory", "test_x", "g", 1, 2, verdict="more memory")
    assert not accept([crash], [Accepted.parse("test_x up to 3: slower")])[0].accepted
    assert accept([crash], [Accepted.parse("test_x: removed")])[0].accepted
    assert not accept([memory], [Accepted.parse("test_x: slower")])[0].accepted
    larger = Change("memory", "test_x", "g", 1, 2, ratio=2.0, verdict="more memory")
    assert accept([larger], [Accepted.parse("memory:test_x up to 2.5: larger")])[0].accepted


@pytest.mark.parametrize("text", ["", "lstm", "lstm up to 1.3", "lstm: ", "lstm up to 1.2.3: why", ": why"])
def test_a_text_that_accepts_nothing_says_how_it_is_written(text):
    with pytest.raises(UserError, match="PATTERN up to X: REASON"):
        Accepted.parse(text)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_process_counts_once_by_its_median(tmp_path):
    write_side(tmp_path, {STEP: [0.01, 0.03], OTHER: [1.0, 2.0]}, memory=2**20, computed=0.5)
    found = read_side(tmp_path)
    assert found.samples[STEP].seconds == [0.01, 0.03]
    assert found.samples[OTHER].memory == [2**20, 2**20] and found.samples[OTHER].computed == [0.5, 0.5]
    assert found.devices == {"this machine"}
    assert read_side(tmp_path / "process-00.json").samples[STEP].seconds == [0.01]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ('{"benchmarks": [', "damaged or cut off"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": NaN}}]}', "holds NaN"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": 1e999}}]}', "can't be used"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": 0}}]}', "greater than 0"),
        ('{"benchmarks": [{"fullname": "a", "stats": {}}]}', "stats.median: Field required"),
        ('{"other": 1}', "no file of pytest-benchmark"),
        ("[]", "no file of pytest-benchmark"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, content, said):
    write_side(tmp_path, {STEP: times()})
    (tmp_path / "process-03.json").write_text(content)
    with pytest.raises(UserError, match=r"process-03\.json") as error:
        read_side(tmp_path)
    assert said in str(error.value)


def test_figures_of_memory_that_are_none_are_left_out(tmp_path):
    write_process(tmp_path, 1, {STEP: 0.01}, memory="much", computed=-1)
    sample = read_side(tmp_path).samples[STEP]
    assert sample.memory == [] and sample.computed == []


def test_sides_of_different_devices_are_refused_unless_wanted():
    sides = [side("one", a=times()), side("two", a=times())]
    with pytest.raises(UserError, match="one; two"):
        check_devices(sides, others=False)
    assert check_devices(sides, others=True) == "one, two"
    assert check_devices([sides[0], sides[0]], others=False) == "one"


# --- the page --------------------------------------------------------------------------------------------------------


def comparison(changes):
    return Findings(Revision("main", "a" * 40), Revision("working tree", "b" * 40, None, True), "a machine", changes)


CHANGES = [
    Change("time", "quiet", "g", 1.0, 1.01, "s", 1.01, 0.99, 1.03, 0.5, "same", (8, 8)),
    Change("time", "quick", "g", 1.0, 0.5, "s", 0.5, 0.4, 0.6, 0.0001, "faster", (8, 8)),
    Change("time", "slow", "g", 0.001, 0.0012, "s", 1.2, 1.1, 1.3, 0.0001, "slower", (8, 8)),
    Change("time", "slowest", "g", 0.001, 0.002, "s", 2.0, 1.9, 2.1, 0.0001, "slower", (8, 8)),
    Change("quality", "weather lstm smoke", "quality", 3.0, 3.3, "rmse C", low=0.1, high=0.5, verdict="worse"),
]


def test_the_worst_stands_first_and_improvements_are_shown():
    page = as_markdown(comparison(CHANGES))
    assert page.startswith("## Regression: 2 slower and 1 worse.\n")
    shown, _, folded = page.partition("<details>")
    places = [shown.index(name) for name in ("slowest", "| slow |", "weather lstm smoke", "quick")]
    assert places == sorted(places)
    assert "| slowest | 1 ms | 2 ms | 2.000 | 1.900 to 2.100 | **slower** |" in page
    assert "| +0.3 | 0.1 to 0.5 | **worse** |" in page
    assert "quiet" not in shown and "| quiet | 1 s | 1.01 s | 1.010 |" in folded
    assert "with uncommitted changes" in page and "p < 0.002" in page


def test_names_of_benchmarks_can_not_become_markup():
    evil = Change("time", "a|b<script>\n# x`", "g", 1.0, 2.0, "s", 2.0, 1.9, 2.1, 0.0, "slower", note="<img>|\x1b[2J")
    page = as_markdown(comparison([evil]))
    assert "<script>" not in page and "<img>" not in page and "\x1b" not in page and "\n# x" not in page
    case = ElementTree.fromstring(as_junit(comparison([evil]))).find(".//testcase")
    assert case.get("name").replace("\n", " ").startswith("a|b<script>")


def test_the_data_say_what_the_page_says():
    data = as_json(comparison(accept(CHANGES, [Accepted.parse("slow up to 1.5: wanted")])))
    json.dumps(data, allow_nan=False)
    assert [row["name"] for row in data["rows"]] == ["slowest", "weather lstm smoke", "slow", "quick", "quiet"]
    assert [row["bad"] for row in data["rows"]] == [True, True, False, False, False]
    assert data["rows"][2]["accepted"] == "wanted" and data["rows"][1]["ratio"] is None
    assert data["headline"] == "Regression: 1 slower and 1 worse." and data["schema_version"] == 1


def test_junit_has_a_case_for_each_figure():
    changes = [
        *CHANGES,
        Change("time", "broken", "g", verdict="failed"),
        Change("time", "few", "g", 1, 1, verdict="not told"),
    ]
    suite = ElementTree.fromstring(as_junit(comparison(changes))).find("testsuite")
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "7", "failures": "3", "errors": "1", "skipped": "1"}
    assert [case.get("name") for case in suite][:3] == ["broken", "slowest", "slow"]
    assert suite.find(".//failure").get("message").startswith("slower, 2.000")


def test_the_order_is_by_verdict_then_size():
    assert [change.name for change in ordered(CHANGES)] == ["slowest", "slow", "weather lstm smoke", "quick", "quiet"]


def test_what_is_published_of_the_gate_is_made_from_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    gate = importlib.import_module("benchmarks.gate")
    published = ROOT / "results" / "board"
    assert (published / "GATE.md").read_text() == "\n".join(gate.report(published / "gate.json"))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_by_its_exit_code(here, tmp_path):
    write_side(tmp_path / "a", {STEP: times(), OTHER: times()})
    write_side(tmp_path / "b", {STEP: times(), OTHER: times(1.3)})
    same = here("regress", "--baseline", "a", "--candidate", "a")
    assert same.returncode == 0 and "Nothing got slower" in same.stdout
    slower = here("regress", "compare", "--baseline", "a", "--candidate", "b")
    assert slower.returncode == 3 and slower.stdout.index("gru-real") < slower.stdout.index("lstm-small")
    data = here("regress", "--baseline", "a", "--candidate", "b", "--json")
    assert data.returncode == 3 and json.loads(data.stdout)["rows"][0]["verdict"] == "slower"
    wanted = here("regress", "--baseline", "a", "--candidate", "b", "--accept", "gru up to 1.5: it is wanted")
    assert wanted.returncode == 0 and "accepted: it is wanted" in wanted.stdout
    xml = here("regress", "--baseline", "a", "--candidate", "b", "--format", "junit")
    assert xml.returncode == 3 and ElementTree.fromstring(xml.stdout).tag == "testsuites"


def test_mistakes_are_one_sentence(here, tmp_path):
    write_side(tmp_path / "a", {STEP: times()})
    write_side(tmp_path / "b", {STEP: times()}, device="another machine")
    write_side(tmp_path / "c", {OTHER: times()})
    (tmp_path / "empty").mkdir()
    write_side(tmp_path / "whole" / "base", {STEP: times()})
    (tmp_path / "whole" / "regress.json").write_text("{}")
    for words, said in [
        (("a", "nowhere"), "nowhere: no such file or directory"),
        (("a", "b"), "different devices"),
        (("empty", "empty"), "empty holds no figures"),
        (("a", "empty"), "empty holds no figures"),
        (("whole", "a"), "holds a whole comparison: name one side of it"),
    ]:
        done = here("regress", "--baseline", words[0], "--candidate", words[1])
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert here("regress", "--baseline", "a", "--candidate", "b", "--other-device").returncode == 0
    gone = here("regress", "--baseline", "a", "--candidate", "c")
    assert gone.returncode == 3 and "**missing**" in gone.stdout

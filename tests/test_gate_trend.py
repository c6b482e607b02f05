"""Levels over many commits, worked out by hand from made-up comparisons."""

import json
import math

import pytest

from seqbench.errors import UserError
from seqbench.gate.trend import TREND_HEADERS, read_trend, trend_charts, trend_rows, trend_section
from seqbench.report.chart import Line, Points, Region, Rule
from seqbench.report.draw import draw

NAME = "test_models.py::test_training_step[lstm-small]"


def commit(letter):
    return letter * 40


def revision(letter, time=None, **others):
    time = time or f"2026-11-{10 + int(letter, 16):02d}T12:00:00+00:00"
    return {"commit": commit(letter), "name": "main", "time": time, "changed": False, **others}


def row(ratio=None, **others):
    """A row of the time kind; its interval is 1% to both sides, or as given."""
    low, high = (None, None) if ratio is None else (ratio / 1.01, ratio * 1.01)
    plain = {"kind": "time", "name": NAME, "group": "training", "before": 1.0, "after": ratio, "unit": "s"}
    rest = {"ratio": ratio, "low": low, "high": high, "p": 0.5, "verdict": "same", "accepted": None, "more": [1]}
    return {**plain, **rest, **others}


@pytest.fixture
def write(tmp_path):
    """Write a comparison of two commits, each in a folder of its own, in the order of the calls."""
    count = 0

    def written(base, head, *rows, device="a machine", **others):
        nonlocal count
        count += 1
        sides = [side if isinstance(side, dict) else revision(side) for side in (base, head)]
        content = {"schema_version": 1, "base": sides[0], "head": sides[1], "device": device, "rows": rows, **others}
        path = tmp_path / f"{count:03d}" / "regress.json"
        path.parent.mkdir()
        path.write_text(json.dumps(content))
        return path

    return written


def levels(tmp_path, name=NAME):
    (history,) = [each for each in read_trend(tmp_path).histories if each.name == name]
    return {level.commit[0]: level for level in history.levels}


def test_levels_are_products_of_ratios_on_whatever_machine(tmp_path, write):
    write("b", "c", row(0.5, before=70.0), device="another machine")
    write("a", "b", row(1.2))
    found = levels(tmp_path)
    assert {letter: level.value for letter, level in found.items()} == pytest.approx({"a": 1, "b": 1.2, "c": 0.6})
    assert [level.source for level in found.values()] == ["start", "side by side", "side by side"]
    assert found["c"].origin == commit("b")
    assert found["c"].ratio == pytest.approx((0.5, 0.5 / 1.01, 0.505))


def test_a_base_that_is_not_in_the_chain_starts_a_new_one_on_another_device(tmp_path, write):
    write("a", "b", row(1.2))
    write("c", "d", row(1.1), device="another machine")
    found = levels(tmp_path)
    assert {letter: level.value for letter, level in found.items()} == pytest.approx(
        {"a": 1, "b": 1.2, "c": 1, "d": 1.1}
    )
    assert found["c"].source == "start"
    (panel,) = trend_charts(read_trend(tmp_path))["training"].panels
    (line,) = [mark for mark in panel.marks if isinstance(mark, Line)]
    assert [(x, y) for x, y in zip(line.x, line.y, strict=True) if not math.isnan(y)] == [
        (0, 1),
        (1, 1.2),
        (2, 1),
        (3, 1.1),
    ]
    assert math.isnan(line.y[2])  # chains are not joined


def test_on_the_same_device_absolute_figures_link_and_are_marked(tmp_path, write):
    write("a", "b", row(1.2, before=10.0, after=12.0))
    write("c", "d", row(0.5, before=9.0, after=4.5))
    found = levels(tmp_path)
    assert found["c"].value == pytest.approx(1.2 * 9 / 12)
    assert found["d"].value == pytest.approx(1.2 * 9 / 12 * 0.5)
    assert (found["c"].source, found["c"].origin) == ("absolute", commit("b"))
    (panel,) = trend_charts(read_trend(tmp_path))["training"].panels
    assert [mark.x for mark in panel.marks if isinstance(mark, Line) and mark.dash == "dashed"] == [[1, 2, 2]]
    assert [mark.x for mark in panel.marks if isinstance(mark, Points) and "absolute" in mark.label] == [[2]]


def test_the_last_of_repeated_comparisons_counts_for_what_it_measured(tmp_path, write):
    write("a", "b", row(1.5), row(2.0, name="other"))
    write("a", "b", row(1.25))
    assert levels(tmp_path)["b"].value == 1.25
    assert levels(tmp_path, "other")["b"].value == 2.0
    assert any("more than once" in note for note in read_trend(tmp_path).notes)


def test_of_two_bases_the_one_in_the_chain_links(tmp_path, write):
    write("a", "b", row(1.5))
    write("b", "d", row(2.0))
    write("c", "d", row(7.0))
    assert levels(tmp_path)["d"].value == 3.0


def test_commits_stand_by_time_and_then_as_they_follow_from_each_other(tmp_path, write):
    same = "2026-11-20T12:00:00+00:00"
    write(revision("3", same), revision("2", same), row(1.0))
    write(revision("1", same), revision("3", same), row(1.0))
    write(revision("f", "2026-11-20T13:30:00+02:00"), revision("1", same), row(1.0))
    write(revision("2", same), {**revision("0"), "time": None}, row(1.0))
    assert [each[0] for each in read_trend(tmp_path).commits] == ["f", "1", "3", "2", "0"]


def test_a_benchmark_that_failed_has_no_level_and_is_named(tmp_path, write):
    write("a", "b", row(None, after=None, verdict="failed"), row(1.0, name="fine"))
    write("b", "c", row(1.0))
    assert list(levels(tmp_path)) == ["b", "c"]
    panels = {panel.title: panel for panel in trend_charts(read_trend(tmp_path))["training"].panels}
    assert panels[NAME].note == "failed at bbbbbbb"


def test_a_new_benchmark_starts_at_its_first_commit(tmp_path, write):
    write("a", "b", row(None, before=None, after=3.0, verdict="new"))
    write("b", "c", row(1.5))
    assert {letter: level.value for letter, level in levels(tmp_path).items()} == {"b": 1.0, "c": 1.5}


def test_steps_are_marked_and_named(tmp_path, write):
    write("a", "b", row(1.2, verdict="slower", accepted="it learns more"))
    write("b", "c", row(1.0))
    write("c", "d", row(0.5, verdict="faster"))
    trend = read_trend(tmp_path)
    assert [level.commit[0] for level in trend.histories[0].steps] == ["b", "d"]
    (panel,) = trend_charts(trend)["training"].panels
    rules = {mark.at: mark.name for mark in panel.marks if isinstance(mark, Rule) and mark.axis == "x"}
    assert rules == {1: "bbbbbbb slower: 1.2 times, accepted", 3: "ddddddd faster: 0.5 times"}
    coloured = {mark.label: mark.x for mark in panel.marks if isinstance(mark, Points) and "step" in mark.label}
    assert coloured == {"step: slower, more memory or worse": [1], "step: faster, less memory or better": [3]}
    (cells,) = trend_rows(trend)
    shown = dict(zip(TREND_HEADERS, cells, strict=True))
    assert shown["steps"] == (
        "bbbbbbb slower: 1.200 times (1.188 to 1.212), accepted: it learns more; "
        "ddddddd faster: 0.500 times (0.495 to 0.505)"
    )
    reach = math.exp(math.sqrt(3) * math.log(1.01))  # of three ratios that are sure to 1% each
    assert shown["last level"] == f"0.600 times ({0.6 / reach:.3f} to {0.6 * reach:.3f}) since aaaaaaa"


def chain(write, ratios, width=1.002, **others):
    for i, ratio in enumerate(ratios):
        write(f"{i:x}", f"{i + 1:x}", row(ratio, low=ratio / width, high=ratio * width, **others))


def test_a_drift_of_steps_too_small_to_be_found_is_told(tmp_path, write):
    chain(write, [1.0, 1.02, 1.02, 1.02, 1.02, 1.02, 1.02, 1.0])
    (drift,) = read_trend(tmp_path).histories[0].drifts
    assert drift.ratio.value == pytest.approx(1.02**6)
    assert (drift.first[0], drift.last[0]) == ("1", "7")
    (panel,) = trend_charts(read_trend(tmp_path))["training"].panels
    assert [(mark.low, mark.high) for mark in panel.marks if isinstance(mark, Region)] == [(1, 7)]
    assert trend_rows(read_trend(tmp_path))[0][-1].startswith("1.126 times (1.1")


def test_the_interval_of_a_drift_adds_variances_and_allows_for_all_pairs(tmp_path, write):
    chain(write, [1.06, 1.06, 1.0], width=1.01)  # 3 pairs with two links or more: a 1 - 0.05 / 3 interval
    (drift,) = read_trend(tmp_path).histories[0].drifts
    one, wide = math.log(1.01) / 1.959964, 2.393980
    assert drift.last[0] == "2"
    assert math.log(drift.ratio.high / drift.ratio.value) == pytest.approx(wide * one * math.sqrt(2), rel=1e-5)
    assert drift.ratio.high * drift.ratio.low == pytest.approx(drift.ratio.value**2)


@pytest.mark.parametrize(
    ("ratios", "width"),
    [
        ([1.04, 1.03, 1.04, 1.0], 1.08),  # 1.11 times, but it may be noise
        ([1.01, 1.01, 1.01, 1.01], 1.001),  # sure, but small
        ([1.12, 1.0, 1 / 1.12], 1.3),
    ],
)
def test_noise_and_little_is_no_drift(tmp_path, write, ratios, width):
    chain(write, ratios, width)
    assert read_trend(tmp_path).histories[0].drifts == []


def test_no_drift_goes_across_a_step_or_a_link_without_an_interval(tmp_path, write):
    chain(write, [1.03, 1.03])
    write("2", "3", row(1.2, verdict="slower"))
    write("3", "4", row(1.03, low=1.02, high=1.04))
    write("4", "5", row(1.2, low=None, high=None))
    assert read_trend(tmp_path).histories[0].drifts == []


def test_the_level_of_quality_is_its_metric(tmp_path, write):
    plain = {"kind": "quality", "name": "learns", "group": "quality", "unit": "accuracy"}
    write("a", "b", row(before=0.8, after=0.7, verdict="worse", **plain))
    write("c", "d", row(before=0.7, after=0.75, **plain), device="another machine")
    assert [level.value for level in levels(tmp_path, "learns").values()] == [0.8, 0.7, 0.7, 0.75]
    (panel,) = trend_charts(read_trend(tmp_path))["quality"].panels
    assert panel.y.label == "accuracy"
    assert trend_rows(read_trend(tmp_path))[0][1:5] == [
        "accuracy", "4", "0.75, first 0.8 (aaaaaaa)", "bbbbbbb worse: 0.8 to 0.7"
    ]  # fmt: skip


def test_what_is_no_pair_of_commits_is_left_out_and_said(tmp_path, write):
    write("a", "b", row(1.0))
    write("b", revision("c", changed=True), row(9.0))
    write("b", {**revision("d"), "commit": None, "time": None}, row(9.0))
    write("b", "b", row(9.0))
    write("f", "b", row(9.0))
    trend = read_trend(tmp_path)
    assert [level.value for level in trend.histories[0].levels] == [1.0, 1.0]
    assert [note.rsplit(": ", 1)[1] for note in trend.notes] == ["2 files.", "1 file.", "1 file."]


def test_without_any_comparison_of_commits_it_says_what_to_do(tmp_path, write):
    with pytest.raises(UserError, match="run `regress run --base REV --head REV` first"):
        read_trend(tmp_path / "missing")
    write("a", revision("b", changed=True), row(1.0))
    with pytest.raises(UserError, match="commit, and run `regress run` again"):
        read_trend(tmp_path)


def edited(change):
    def edit(text):
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return edit


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-20], "is not valid JSON"),
        (lambda text: text.replace('"p": 0.5', '"p": NaN'), "holds NaN"),
        (lambda text: text.replace('"ratio": 1.5', '"ratio": 1e999'), "rows.0.ratio"),
        (lambda text: "[" * 100_000, "is not valid JSON"),
        (lambda text: "[]", "top level"),
        (lambda text: "\udcff", "is not valid JSON"),
        (edited(lambda content: content.update(schema_version=2)), "schema version 2; this seqbench reads up to 1"),
        (edited(lambda content: content.update(schema_version=True)), "schema_version"),
        (edited(lambda content: content.pop("device")), "device: Field required"),
        (edited(lambda content: content["rows"][0].pop("verdict")), "rows.0.verdict: Field required"),
        (edited(lambda content: content["rows"][0].update(verdict="great")), "rows.0.verdict"),
        (edited(lambda content: content["rows"][0].update(ratio="1.5")), "rows.0.ratio"),
        (edited(lambda content: content["rows"][0].update(after=10**400)), "is not a valid comparison"),
        (edited(lambda content: content["head"].update(commit="main")), "head.commit"),
        (edited(lambda content: content["head"].update(time="2026-11-26T19:00:00")), "head.time"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(tmp_path, write, damage, said):
    write("a", "b", row(1.0))
    path = write("b", "c", row(1.5))
    path.write_text(damage(path.read_text()), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        read_trend(tmp_path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_of_a_file_stay_on_one_line_and_move_no_cursor(tmp_path, write):
    evil = "\x1b[2Jname\r\n| x |\u202e"
    write("a", "b", row(1.2, name=evil, group=f"../{evil}/..", unit=evil, verdict="slower", accepted=evil), device=evil)
    quality = {"kind": "quality", "before": 1.0, "after": 0.5}
    write("a", "b", row(name=evil, group="", unit=evil, verdict="worse", accepted=evil, **quality))
    trend = read_trend(tmp_path)
    charts = trend_charts(trend)
    assert sorted(charts) == ["2Jname-x", "benchmarks"]
    texts = [cell for cells in trend_rows(trend) for cell in cells]
    for chart in charts.values():
        texts.append(chart.title)
        for panel in chart.panels:
            texts += [panel.title, panel.note, panel.y.label]
            texts += [mark.name if isinstance(mark, Rule) else mark.label for mark in panel.marks]
    assert all(text.isprintable() for text in texts)


def test_a_large_group_is_split_and_names_stay_apart(tmp_path, write):
    rows = [row(1.0, name=f"test_{i}") for i in range(14)]
    write("a", "b", *rows, row(1.0, name="x", group="training-1"), row(1.0, name="y", group="Training 1"))
    charts = trend_charts(read_trend(tmp_path))
    assert len({name.lower() for name in charts}) == 4
    assert [len(charts[name].panels) for name in ("training-1-again-2", "training-2")] == [7, 7]


def test_charts_can_be_drawn_and_the_table_stands_with_its_notes(tmp_path, write):
    chain(write, [1.03, 1.03, 1.03, 1.03, 1.03])
    write("7", "8", row(1.3, verdict="slower"))
    trend = read_trend(tmp_path)
    for name, chart in trend_charts(trend).items():
        assert draw(chart, tmp_path / f"{name}.png").stat().st_size > 10_000
    section = trend_section(trend)
    assert section.heading == "1 benchmark over 8 commits"
    assert len(section.rows[0]) == len(section.headers)

"""The board's charts: one of each table and overview, what they show and what they say, whatever the records hold.

Records are written by hand, by `board_records`; the charts are read as data, and drawn where a file is asked for.
"""

import json
import math
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
from board_records import board, grid, model, picture_files, tables_of, write

from seqbench.board import overviews
from seqbench.board.charts import _unlike, draw_board, pictures
from seqbench.errors import UserError
from seqbench.report.chart import DARK, GREY, Line, Points, Region, Rule, limits, look_of

LOWER = {"primary__name": "rmse", "primary__direction": "lower", "primary__perfect": 0.0, "primary__unit": "C"}
COST, CURVES, PAIRS, BASELINE = "Metric against cost", "Learning curves", "Pairs", "Against the strongest baseline"
SKILL = "Mean skill"


def chart_of(root, place=0):
    """The chart of one table, or of an overview, which come first."""
    return pictures(tables_of(root))[place].chart


def panel_of(chart, title):
    (panel,) = [panel for panel in chart.panels if panel.title.startswith(title)]
    return panel


def marks(panel, kind, **wanted):
    return [
        one for one in panel.marks if isinstance(one, kind) and all(getattr(one, k) == v for k, v in wanted.items())
    ]


def said(chart):
    """All words of a chart."""
    texts = [chart.title, chart.subtitle, *chart.notes, *chart.legend()]
    for panel in chart.panels:
        texts += [panel.title, panel.note, panel.x.label, panel.y.label, *panel.rows]
        texts += [rule.name for rule in marks(panel, Rule)]
    return "\n".join(texts)


# --- files -----------------------------------------------------------------------------------------------------------


def test_there_is_one_picture_per_table_and_one_per_overview_with_names_that_say_which(tmp_path):
    pytest.importorskip("matplotlib")
    for task in ("one", "two"):
        grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, task__name=task)
    grid(tmp_path, {"alpha": 0.9}, task__name="one", config__hidden=None, config__params=1000)
    grid(tmp_path, {"alpha": 0.9}, task__name="one", config__dropout=0.5, **{"model__name": "alpha"})
    grid(tmp_path, {"alpha": 0.9}, task__name="two", config__control="shuffled-labels")
    tables = tables_of(tmp_path)
    drawn = draw_board(tables, tmp_path / "plots")
    headings = [it.heading for it in overviews(tables)] + [table.title for table in tables]
    assert list(drawn) == headings and drawn == picture_files(tables, tmp_path / "plots")
    assert {path.name for path in drawn.values()} == {path.name for path in (tmp_path / "plots").iterdir()} == {
        "overview-quick-width128.png",
        "one-quick-width128.png",
        "two-quick-width128.png",
        "one-quick-width128-dropout-0-5.png",
        "two-quick-width128-control-shuffled-labels.png",
        "one-quick-params1000.png",
    }  # fmt: skip
    assert {path.read_bytes()[:4] for path in drawn.values()} == {b"\x89PNG"}


def test_names_that_would_be_the_same_file_are_told_apart(tmp_path):
    for option in ("a <b>", "a (b)", "x" * 300, "x" * 301, "../../etc"):
        grid(tmp_path, {"alpha": 0.9}, task__options={"a": option})
    names = [picture.name for picture in pictures(tables_of(tmp_path))]
    assert {"toy-quick-width128-option-a-a-b", "toy-quick-width128-option-a-a-b~2"} < set(names)
    assert len(set(names)) == 5 and all(re.fullmatch(r"[a-z0-9_~-]{1,110}", name) for name in names)
    assert _unlike(["a", "b", "a", "a"]) == ["a", "b", "a~2", "a~3"]


@pytest.mark.parametrize("fmt", ["png", "svg"])
def test_the_same_records_give_the_same_bytes_and_a_users_settings_change_nothing(tmp_path, fmt):
    matplotlib = pytest.importorskip("matplotlib")
    grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8})
    tables = tables_of(tmp_path / "records")
    (first,) = draw_board(tables, tmp_path / "a", fmt).values()
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "lines.linewidth": 9}):
        (second,) = draw_board(tables, tmp_path / "b", fmt).values()
        assert matplotlib.rcParams["font.size"] == 20
    assert first.read_bytes() == second.read_bytes() and first.suffix == f".{fmt}"
    assert b"<dc:date>" not in first.read_bytes()


def test_old_pictures_are_replaced_and_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    pytest.importorskip("matplotlib")
    grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8})
    tables = tables_of(tmp_path / "records")
    (path,) = draw_board(tables, tmp_path / "plots").values()
    whole = path.read_bytes()
    path.write_bytes(b"old")
    draw_board(tables, tmp_path / "plots")
    assert path.read_bytes() == whole and len(list((tmp_path / "plots").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        draw_board(tables, tmp_path / "file")


# --- differences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "given", "difference", "strongest"),
    [({"alpha": 0.9, "beta": 0.8}, {}, 0.1, "tfidf"), ({"alpha": 0.2, "beta": 0.4}, LOWER, 0.2, "majority")],
)
def test_right_means_that_the_first_is_better_whatever_the_direction(tmp_path, figures, given, difference, strongest):
    grid(tmp_path, figures, **given)
    chart = chart_of(tmp_path)
    pairs, baseline = panel_of(chart, PAIRS), panel_of(chart, BASELINE)
    assert list(pairs.rows) == ["alpha - beta"] and list(baseline.rows) == ["alpha", "beta"]
    (mark,) = marks(pairs, Points)
    assert list(mark.x) == pytest.approx([difference]) and list(mark.y) == [0] and mark.along == "x"
    assert mark.low[0] <= mark.x[0] <= mark.high[0]
    assert mark.look == look_of("alpha") and not mark.hollow  # the winner's
    assert "← second is better          first is better →" in pairs.x.label
    assert ("(lower is better: sign turned)" in pairs.x.label) == bool(given)
    assert f"← {strongest} is better          model is better →" in baseline.x.label
    low, high = limits(pairs, "x")
    assert low < 0 < high


def test_what_is_not_significant_is_hollow_and_grey_and_what_loses_to_a_baseline_dark(tmp_path):
    model(tmp_path, "alpha", [0.9, 0.7, 0.8])
    model(tmp_path, "beta", [0.7, 0.9, 0.79])
    grid(tmp_path, {"gamma": 0.6})
    chart = chart_of(tmp_path)
    (undecided,) = marks(panel_of(chart, PAIRS), Points, y=[0])
    assert (undecided.look.colour, undecided.hollow) == (GREY, True)
    assert "alpha - beta" in panel_of(chart, PAIRS).faded
    (missed,) = marks(panel_of(chart, PAIRS), Region)  # the smallest difference that would have been found
    assert missed.low == -missed.high < 0 and f"±{missed.high:.2g}" in said(chart)
    (lost,) = marks(panel_of(chart, BASELINE), Points, y=[2])
    assert (lost.look.colour, lost.hollow) == (DARK, False)


def test_both_panels_of_differences_share_a_scale_unless_that_squashes_one(tmp_path):
    grid(tmp_path / "near", {"alpha": 0.80, "beta": 0.70})
    near = chart_of(tmp_path / "near")
    assert limits(panel_of(near, PAIRS), "x") == pytest.approx(limits(panel_of(near, BASELINE), "x"))
    grid(tmp_path / "far", {"alpha": 0.30, "beta": 0.31})
    assert "(another scale)" in panel_of(chart_of(tmp_path / "far"), BASELINE).title


def test_of_too_many_pairs_those_of_the_best_model_are_shown(tmp_path):
    grid(tmp_path, {f"model-{i:02}-{'x' * 50}": 0.5 + 0.02 * i for i in range(12)})
    (pairs,) = [panel for panel in chart_of(tmp_path).panels if "66 pairs" in panel.title]
    assert len(pairs.rows) == len(marks(pairs, Points)) == 11


# --- costs -----------------------------------------------------------------------------------------------------------


def test_the_strongest_baseline_is_in_sight_and_far_ones_are_named(tmp_path):
    about = {"baselines": {"majority": 0.1, "tfidf": 0.895, "wild": -1e300, "kin": 0.8955}}
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        write(tmp_path, "alpha", seed, 0.91 + shift, keep=False, **about)
        write(tmp_path, "beta", seed, 0.90 + shift, keep=False, **about)
    cost = panel_of(chart_of(tmp_path), COST)
    low, high = limits(cost, "y")
    assert 0.87 < low < 0.89 and 0.92 < high < 0.94
    rules = {rule.name: rule for rule in marks(cost, Rule)}
    assert set(rules) == {"majority 0.1", "tfidf 0.895", "wild -1.000e+300", "kin 0.8955"}
    assert [name for name, rule in rules.items() if rule.strong] == ["kin 0.8955"]


def test_a_strongest_baseline_far_from_the_models_does_not_squash_them(tmp_path):
    grid(tmp_path, {"alpha": 0.3, "beta": 0.31}, baselines={"majority": 0.1, "perfect": 0.99})
    assert limits(panel_of(chart_of(tmp_path), COST), "y")[1] < 0.35


def test_the_front_is_of_the_best_means_for_their_cost(tmp_path):
    costs = {"alpha": (10.0, 0.7), "beta": (20.0, 0.6), "gamma": (30.0, 0.9), "delta": (80.0, 0.8)}
    for name, (seconds, value) in costs.items():
        model(tmp_path, name, [value, value + 0.001], cost__cpu_seconds=seconds)
    cost = panel_of(chart_of(tmp_path), COST)
    (front,) = marks(cost, Line, steps=True)
    assert list(front.x) == [10.0, 30.0, 80.0]
    assert list(front.y) == pytest.approx([0.7005, 0.9005, 0.9005])
    assert cost.x.scale == "log10" and "CPU seconds" in cost.x.label and "logarithmic" in cost.x.label


def test_means_have_intervals_and_single_seeds_are_small(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    cost = panel_of(chart_of(tmp_path), COST)
    (seeds,), (mean,) = marks(cost, Points, small=True), marks(cost, Points, small=False)
    assert list(seeds.x) == [10.0, 10.0] and list(seeds.y) == [0.8, 0.9] and cost.x.scale == "linear"
    assert list(mean.y) == pytest.approx([0.85]) and mean.low[0] < 0.8 < 0.9 < mean.high[0]
    assert seeds.look == mean.look == look_of("alpha") and mean.label == "alpha"


def test_models_that_ran_elsewhere_have_no_cost_and_are_named(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8})
    model(tmp_path, "gamma", [0.7, 0.7, 0.7], environment__device_name="another")
    chart = chart_of(tmp_path)
    assert "gamma ran elsewhere: no cost to compare." in chart.notes
    assert not marks(panel_of(chart, COST), Points, look=look_of("gamma"))


# --- learning curves -------------------------------------------------------------------------------------------------


def test_learning_curves_are_means_with_the_range_of_the_seeds(tmp_path):
    folders = model(tmp_path, "alpha", [0.8, 0.9])
    curves = panel_of(chart_of(tmp_path), CURVES)
    (line,) = curves.marks
    assert list(line.x) == [100, 200, 300, 400]
    assert list(line.y) == pytest.approx([0.775, 0.825, 0.85 - 0.1 / 3 + 0.025, 0.85])
    assert (min(line.low), max(line.high)) == pytest.approx((0.725, 0.9))
    kept = (folders[0] / "curve.jsonl").read_text().splitlines()
    (folders[0] / "curve.jsonl").write_text("\n".join(kept[:2]))
    chart = chart_of(tmp_path)
    assert "bands go on over the others" in said(chart)
    (line,) = panel_of(chart, CURVES).marks
    assert [math.isnan(y) for y in line.y] == [False, False, True, True] and not any(map(math.isnan, line.high))


def test_one_wild_check_does_not_squash_the_curves_and_is_counted(tmp_path):
    folder, *_ = model(tmp_path, "alpha", [0.8, 0.81, 0.82], **LOWER)
    path = folder / "curve.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({"step": 100, "val_rmse": 1e30}), *lines[1:]]))
    curves = panel_of(chart_of(tmp_path), CURVES)
    assert limits(curves, "y")[1] < 1.0 and curves.note == "checks of single runs above this axis: 1"


@pytest.mark.parametrize("content", [None, "{", '{"step": 1}\n', "[]\n", '{"step": null, "val_accuracy": 1}\n'])
def test_a_damaged_curve_of_a_good_run_is_an_error_that_says_what_to_do(tmp_path, content):
    folder = write(tmp_path, curve=False)
    if content is not None:
        (folder / "curve.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"curve\.jsonl is missing or damaged: run the cell again with --force"):
        draw_board(tables_of(tmp_path), tmp_path / "plots")


# --- records of all kinds --------------------------------------------------------------------------------------------


def test_incomplete_models_are_shown_without_a_mean_and_named(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.7})
    model(tmp_path, "gamma", [0.8, None, 0.8])
    model(tmp_path, "omega", [None], status="not_applicable", reason="sees the future")
    chart = chart_of(tmp_path)
    assert "Not ranked, without a mean: gamma 2/3 (1 diverged); omega not applicable." in chart.notes
    assert len(marks(panel_of(chart, CURVES), Line, dash="dotted")) == 2  # gamma's runs one by one
    assert not marks(panel_of(chart, COST), Points, look=look_of("gamma"), small=False)
    assert [label for label in chart.legend() if "Pareto" not in label] == ["alpha", "beta", "gamma, single runs"]


@pytest.mark.parametrize("given", [{}, {"keep": False}, {"baselines": {}, "primary__reference": None}])
def test_one_seed_is_drawn_without_claims(tmp_path, given):
    for name, value in {"alpha": 0.9, "beta": 0.8}.items():
        write(tmp_path, name, 0, value, **given)
    chart = chart_of(tmp_path)
    text = said(chart)
    assert "One seed only" in text and "No p-values, so no difference is shown to be significant." in text
    assert ("Where no interval stands" in text) == bool(given)
    assert len(chart.panels) == (3 if "baselines" in given else 4)


def test_no_panel_is_empty_and_there_is_no_picture_of_nothing(tmp_path):
    none = {"baselines": {}, "primary__reference": None}
    model(tmp_path, "alpha", [0.8, 0.9], task__name="single", **none)
    model(tmp_path, "alpha", [None, None], task__name="failed", **none)
    shown = {picture.heading.split(" ")[0]: picture.chart for picture in pictures(tables_of(tmp_path))}
    assert set(shown) == {"Overview", "single"}
    assert "Nothing to compare: fewer than two complete models." in shown["single"].notes
    assert [panel.title[:8] for panel in shown["single"].panels] == ["Metric a", "Learning"]
    assert "alpha (failed 0/2 (2 diverged))" in said(shown["Overview"])
    page = board([tmp_path], base=tmp_path, plots=picture_files(tables_of(tmp_path), tmp_path))
    assert page.count("![") == 2


@pytest.mark.parametrize("huge", [1e90, 1e120, 1e200, 1e300])
def test_figures_beyond_all_bounds_are_drawn_around(tmp_path, huge):
    pytest.importorskip("matplotlib")
    for task in ("one", "two"):
        model(tmp_path, "alpha", [huge, -huge], task__name=task)
        model(tmp_path, "beta", [0.8, 0.81], task__name=task, cost__cpu_seconds=0.0)
    assert len(draw_board(tables_of(tmp_path), tmp_path / "plots")) == 3


def test_words_of_records_are_shown_as_they_stand_and_shortened(tmp_path):
    pytest.importorskip("matplotlib")
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, primary__unit="$x_1$ \\frac{ \u202e 元 " + "z" * 500)
    draw_board(tables_of(tmp_path), tmp_path / "plots", "svg")
    text = said(chart_of(tmp_path))
    assert "$x_1$" in text and "\u202e" not in text and "z" * 100 not in text


# --- overviews -------------------------------------------------------------------------------------------------------


def test_the_overview_shows_means_of_complete_models_and_the_others_apart(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path, {"alpha": 0.9, "beta": 0.7}, task__name=task)
    grid(tmp_path, {"gamma": 0.8, "delta": -3.0}, task__name="one")
    chart = chart_of(tmp_path)
    skills = panel_of(chart, SKILL)
    assert list(skills.rows) == ["alpha", "beta", "(delta)", "(gamma)"] and list(skills.faded) == list(skills.rows)[2:]
    means = marks(skills, Points, small=False)
    assert [x for mark in means for x in mark.x] == pytest.approx([0.8, 0.4])
    assert [mark.look for mark in means] == [look_of("alpha"), look_of("beta")]
    assert set(chart.legend()) == {"one", "two"}  # single tasks, by marker
    assert len({mark.look.marker for mark in marks(skills, Points, small=True)}) == 2
    text = said(chart)
    assert "Not ranked, without a mean: delta (two not run); gamma (two not run)." in text
    assert "Beyond the axis: delta has -7 on one." in text and limits(skills, "x")[0] > -1
    assert "incomplete, no mean and no rank" in text and "alpha - beta" in text


def test_a_model_looks_the_same_in_every_picture(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, task__name="one")
    grid(tmp_path, {"beta": 0.9}, task__name="two")
    for picture in pictures(tables_of(tmp_path)):
        for label, named in picture.chart.legend().items():
            if label in ("alpha", "beta"):
                assert {mark.look for mark in named} == {look_of(label)}


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_each_picture_under_its_table(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8}, task__name=task)
    files = picture_files(tables_of(tmp_path / "records"), tmp_path / "plots of mine")
    text = board([tmp_path / "records"], base=tmp_path, plots=files)
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert set(parts) == set(files)
    for heading, part in parts.items():
        (link,) = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", part)
        assert tmp_path / unquote(link) == files[heading] and link.startswith("plots%20of%20mine/")
        assert part.rstrip().endswith(f"({link})")
    plain = board([tmp_path / "records"], base=tmp_path)
    assert plain == board([tmp_path / "records"], base=tmp_path, plots={}) and "![" not in plain
    quality = board([tmp_path / "records"], columns="quality", base=tmp_path, plots=files)
    assert quality == board([tmp_path / "records"], columns="quality", base=tmp_path)


@pytest.mark.parametrize("module", ["seqbench.board", "seqbench.board.charts"])
def test_importing_loads_neither_torch_nor_matplotlib(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'matplotlib'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

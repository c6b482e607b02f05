"""The board's figures: a file for each table and overview, what they show and what they say, whatever the records hold.

Records are written by hand, by `board_records`; figures are read back from the SVG's text and from the axes.
"""

import itertools
import json
import math
import re
import subprocess
import sys
from types import SimpleNamespace
from urllib.parse import unquote

import board_records as records
import pytest

pytest.importorskip("matplotlib")

from seqbench.board import board, frame, overviews, panels, plots, read_tables
from seqbench.board import forest as forests
from seqbench.board.plots import draw_board
from seqbench.errors import UserError

LOWER = {"primary__name": "rmse", "primary__direction": "lower", "primary__perfect": 0.0, "primary__unit": "C"}


def write(root, model="alpha", seed=0, value=0.8, *, curve=True, **given):
    """A record with a learning curve of four checks that ends at its figure."""
    folder = records.write(root, model, seed, value, **given)
    if value is not None and curve:
        name = given.get("primary__name", "accuracy")
        points = [{"step": 100 * i, f"val_{name}": value - 0.1 / i + 0.025} for i in range(1, 5)]
        (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    return folder


def model(root, name, values, **given):
    return [write(root, name, seed, value, **given) for seed, value in enumerate(values)]


def grid(root, figures, **given):
    for name, value in figures.items():
        model(root, name, [value + one for one in records.STEADY], **given)


def figure_of(root, place=0):
    """The figure of one table, drawn for once without saving it."""
    tables = read_tables([root])
    return plots._table_figure(tables[place], frame.looks(tables))


def said(figure):
    """All words of a figure."""
    import matplotlib.text

    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def signature(path):
    return path.read_bytes()[:4]


def test_there_is_one_figure_a_table_and_one_an_overview_with_names_that_say_which(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, task__name=task)
    grid(tmp_path, {"alpha": 0.9}, task__name="one", config__hidden=None, config__params=1000)
    grid(tmp_path, {"alpha": 0.9}, task__name="one", config__dropout=0.5, **{"model__name": "alpha"})
    grid(tmp_path, {"alpha": 0.9}, task__name="two", config__control="shuffled-labels")
    tables = read_tables([tmp_path])
    drawn = draw_board(tables, tmp_path / "plots")
    headings = [it.heading for it in overviews(tables)] + [table.title for table in tables]
    assert list(drawn) == headings and len(set(drawn.values())) == len(headings)
    assert {path.name for path in drawn.values()} == {path.name for path in (tmp_path / "plots").iterdir()} == {
        "overview-quick-width128.png",
        "one-quick-width128.png",
        "two-quick-width128.png",
        "one-quick-width128-dropout-0-5.png",
        "two-quick-width128-control-shuffled-labels.png",
        "one-quick-params1000.png",
    }  # fmt: skip
    assert {signature(path) for path in drawn.values()} == {b"\x89PNG"}


def test_names_that_would_be_the_same_file_are_told_apart():
    group = SimpleNamespace(task=SimpleNamespace(name="toy"), budget="quick", config={"hidden": [8]})
    said = ("option a <b>", "option a (b)", "x" * 300, "x" * 301, "../../etc")
    tables = [SimpleNamespace(group=group, setting=(), variant=(variant,)) for variant in said]
    names = plots._names(tables)
    assert names[:2] == ["toy-quick-width8-option-a-b", "toy-quick-width8-option-a-b~2"]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z0-9_~-]{1,110}", name) for name in names)


@pytest.mark.parametrize("fmt", ["png", "svg"])
def test_the_same_records_give_the_same_bytes_and_a_users_settings_change_nothing(tmp_path, fmt):
    import matplotlib

    grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8})
    tables = read_tables([tmp_path / "records"])
    (first,) = draw_board(tables, tmp_path / "a", fmt).values()
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "lines.linewidth": 9}):
        (second,) = draw_board(tables, tmp_path / "b", fmt).values()
        assert matplotlib.rcParams["font.size"] == 20
    assert first.read_bytes() == second.read_bytes() and first.suffix == f".{fmt}"
    assert b"<dc:date>" not in first.read_bytes()


def test_old_figures_are_replaced_and_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8})
    tables = read_tables([tmp_path / "records"])
    (path,) = draw_board(tables, tmp_path / "plots").values()
    whole = path.read_bytes()
    path.write_bytes(b"old")
    draw_board(tables, tmp_path / "plots")
    assert path.read_bytes() == whole and len(list((tmp_path / "plots").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        draw_board(tables, tmp_path / "file")


# --- what a figure shows ---------------------------------------------------------------------------------------------


def test_right_means_that_the_first_is_better_whatever_the_direction(tmp_path):
    for i, (figures, given) in enumerate((({"alpha": 0.9, "beta": 0.8}, {}), ({"alpha": 0.2, "beta": 0.4}, LOWER))):
        root = tmp_path / str(i)
        grid(root, figures, **given)
        figure = figure_of(root)
        pairs, baseline = figure.axes[2:]
        (label,) = [text.get_text() for text in pairs.get_yticklabels()]
        assert label == "alpha - beta"
        (mark,) = [line for line in pairs.lines if line.get_marker() == "o"]
        assert mark.get_xdata()[0] == pytest.approx((0.1, 0.2)[i])
        assert mark.get_color() == mark.get_markerfacecolor() == frame.COLOURS[0]  # the winner's
        assert "← second is better          first is better →" in pairs.get_xlabel()
        assert ("sign turned as lower is better" in pairs.get_xlabel()) == bool(i)
        assert [text.get_text() for text in baseline.get_yticklabels()] == ["alpha", "beta"]
        assert f"← {('tfidf', 'majority')[i]} is better" in baseline.get_xlabel()
        low, high = pairs.get_xlim()
        assert low < 0 < high


def test_what_is_not_shown_to_be_real_is_hollow_and_grey(tmp_path):
    model(tmp_path, "alpha", [0.9, 0.7, 0.8])
    model(tmp_path, "beta", [0.7, 0.9, 0.79])
    pairs = figure_of(tmp_path).axes[2]
    (mark,) = [line for line in pairs.lines if line.get_marker() == "o"]
    assert (mark.get_color(), mark.get_markerfacecolor()) == (frame.GREY, "white")


def test_the_strongest_baseline_is_in_sight_and_far_ones_are_named_at_the_edge(tmp_path):
    about = {"baselines": {"majority": 0.1, "tfidf": 0.895, "wild": -1e300, "kin": 0.8955}}
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        write(tmp_path, "alpha", seed, 0.91 + shift, keep=False, **about)
        write(tmp_path, "beta", seed, 0.90 + shift, keep=False, **about)
    cost = figure_of(tmp_path).axes[0]
    low, high = cost.get_ylim()
    assert low < 0.89 and high > 0.92 and high - low < 0.1
    labels = {text.get_text().split()[-2]: text for text in cost.texts}
    assert labels["majority"].get_text() == "↓ majority 0.1000" and labels["kin"].get_text() == "kin 0.8955"
    assert labels["wild"].get_text() == "↓ wild -1e+300"
    places = sorted(text.get_position()[1] for text in cost.texts)
    assert all(b - a > 0.06 for a, b in itertools.pairwise(places))


def test_a_strongest_baseline_far_from_the_models_does_not_squash_them(tmp_path):
    grid(tmp_path, {"alpha": 0.3, "beta": 0.31}, baselines={"majority": 0.1, "perfect": 0.99})
    cost = figure_of(tmp_path).axes[0]
    assert cost.get_ylim()[1] < 0.35 and "↑ perfect 0.9900" in said(cost)


def test_the_front_is_of_the_best_means_for_their_cost(tmp_path):
    costs = {"alpha": (10.0, 0.7), "beta": (20.0, 0.6), "gamma": (30.0, 0.9), "delta": (80.0, 0.8)}
    for name, (seconds, value) in costs.items():
        model(tmp_path, name, [value, value + 0.001], cost__cpu_seconds=seconds)
    cost = figure_of(tmp_path).axes[0]
    (front,) = [line for line in cost.lines if line.get_drawstyle() == "steps-post"]
    assert list(front.get_xdata()) == [10.0, 30.0, cost.get_xlim()[1]]
    assert list(front.get_ydata()) == pytest.approx([0.7005, 0.9005, 0.9005])
    assert cost.get_xscale() == "log" and "CPU seconds" in cost.get_xlabel() and "logarithmic" in cost.get_xlabel()


def test_means_in_one_place_are_both_seen(tmp_path):
    grid(tmp_path, {"alpha": 0.8, "beta": 0.8001})
    cost = figure_of(tmp_path).axes[0]
    sizes = [line.get_markersize() for line in cost.lines if line.get_marker() in ("o", "s")]
    assert sizes == [7.5, 5.0]


def test_learning_curves_are_means_with_the_range_of_the_seeds(tmp_path):
    folders = model(tmp_path, "alpha", [0.8, 0.9])
    curve = figure_of(tmp_path).axes[1]
    (line,) = curve.lines
    assert list(line.get_xdata()) == [100, 200, 300, 400]
    assert list(line.get_ydata()) == pytest.approx([0.775, 0.825, 0.85 - 0.1 / 3 + 0.025, 0.85])
    (band,) = curve.collections
    extents = band.get_datalim(curve.transData)
    assert (extents.ymin, extents.ymax) == pytest.approx((0.725, 0.9))
    assert "band from least to greatest" in curve.get_title("left")
    kept = (folders[0] / "curve.jsonl").read_text().splitlines()
    (folders[0] / "curve.jsonl").write_text("\n".join(kept[:2]))
    figure = figure_of(tmp_path)
    assert "bands go on over the others" in said(figure)
    (line,) = figure.axes[1].lines
    assert [math.isnan(y) for y in line.get_ydata()] == [False, False, True, True]


def test_one_wild_check_does_not_squash_the_curves_and_is_counted(tmp_path):
    folder, *_ = model(tmp_path, "alpha", [0.8, 0.81, 0.82], **LOWER)
    path = folder / "curve.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({"step": 100, "val_rmse": 1e30}), *lines[1:]]))
    figure = figure_of(tmp_path)
    assert figure.axes[1].get_ylim()[1] < 1.0
    assert "↑ checks of single runs above this axis: 1" in said(figure)


@pytest.mark.parametrize("content", [None, "{", '{"step": 1}\n', "[]\n", '{"step": null, "val_accuracy": 1}\n'])
def test_a_damaged_curve_of_a_good_run_is_an_error_that_says_what_to_do(tmp_path, content):
    folder = write(tmp_path, curve=False)
    if content is not None:
        (folder / "curve.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"curve\.jsonl is missing or damaged: run the cell again with --force"):
        draw_board(read_tables([tmp_path]), tmp_path / "plots")


# --- records of all kinds --------------------------------------------------------------------------------------------


def test_incomplete_models_are_shown_without_a_mean_and_named(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.7})
    model(tmp_path, "gamma", [0.8, None, 0.8])
    model(tmp_path, "omega", [None], status="not_applicable", reason="sees the future")
    figure = figure_of(tmp_path)
    text = said(figure)
    assert "Not ranked, without a mean: gamma 2/3 (1 diverged); omega not applicable." in text
    cost, curve = figure.axes[:2]
    assert sum(line.get_linestyle() == ":" for line in curve.lines) == 2  # gamma's runs one by one
    colour = frame.looks(read_tables([tmp_path]))["gamma"].colour
    assert not [line for line in cost.lines if line.get_color() == colour]
    assert [item.get_text() for item in figure.legends[0].get_texts()][:3] == ["alpha", "beta", "gamma, single runs"]


@pytest.mark.parametrize("given", [{}, {"keep": False}, {"baselines": {}, "primary__reference": None}])
def test_one_seed_is_drawn_without_claims(tmp_path, given):
    for name, value in {"alpha": 0.9, "beta": 0.8}.items():
        write(tmp_path, name, 0, value, **given)
    figure = figure_of(tmp_path)
    text = said(figure)
    assert "One seed only" in text and "No p-values, so no difference is shown to be real." in text
    assert ("Where no interval stands" in text) == (given == {"keep": False})
    assert len(figure.axes) == (3 if "baselines" in given else 4)
    draw_board(read_tables([tmp_path]), tmp_path / "plots")


def test_one_model_no_figure_at_all_and_no_baseline_are_drawn(tmp_path):
    none = {"baselines": {}, "primary__reference": None}
    model(tmp_path, "alpha", [0.8, 0.9], task__name="single", **none)
    model(tmp_path, "alpha", [None, None], task__name="failed", **none)
    text = "\n".join(said(figure_of(tmp_path, i)) for i in range(2))
    for words in ("nothing to compare", "no run has a figure", "no learning curve", "alpha 0/2 (2 diverged)"):
        assert words in text
    assert len(draw_board(read_tables([tmp_path]), tmp_path / "plots")) == 3  # with the overview


@pytest.mark.parametrize("huge", [1e90, 1e120, 1e200, 1e300])
def test_figures_beyond_all_bounds_are_drawn_around(tmp_path, huge):
    for task in ("one", "two"):
        model(tmp_path, "alpha", [huge, -huge], task__name=task)
        model(tmp_path, "beta", [0.8, 0.81], task__name=task, cost__cpu_seconds=0.0)
    assert len(draw_board(read_tables([tmp_path]), tmp_path / "plots")) == 3


def test_models_that_ran_elsewhere_have_no_cost_and_are_named(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8})
    model(tmp_path, "gamma", [0.7, 0.7, 0.7], environment__device_name="another")
    assert "gamma ran elsewhere: no cost to compare." in said(figure_of(tmp_path))


def test_of_too_many_pairs_those_of_the_best_model_are_drawn(tmp_path):
    grid(tmp_path, {f"model-{i:02}-{'x' * 50}": 0.5 + 0.02 * i for i in range(12)})
    (pairs, _) = figure_of(tmp_path).axes[2:]
    assert len(pairs.get_yticklabels()) == 11 and "66 pairs" in pairs.get_title("left")
    draw_board(read_tables([tmp_path]), tmp_path / "plots")  # long names leave room for the axes


def test_words_of_records_are_drawn_as_they_stand(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, primary__unit="$x_1$ \\frac{ \u202e 元 " + "z" * 500)
    draw_board(read_tables([tmp_path]), tmp_path / "plots", "svg")
    assert "(x persistence)" not in said(figure_of(tmp_path)) and "z" * 100 not in said(figure_of(tmp_path))


def test_the_overview_shows_means_of_complete_models_and_the_others_apart(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path, {"alpha": 0.9, "beta": 0.7}, task__name=task)
    grid(tmp_path, {"gamma": 0.8, "delta": -3.0}, task__name="one")
    tables = read_tables([tmp_path])
    (overview,) = overviews(tables)
    figure = plots._overview_figure(overview, frame.looks(tables))
    skills = figure.axes[0]
    assert [text.get_text() for text in skills.get_yticklabels()] == ["alpha", "beta", "(delta)", "(gamma)"]
    assert [line.get_xdata()[0] for line in skills.lines if line.get_marker() in ("o", "s")] == pytest.approx(
        [0.8, 0.4]
    )
    text = said(figure)
    assert "Not ranked, without a mean: delta (two not run); gamma (two not run)." in text
    assert "Beyond the axis: delta has -7 on one." in text and skills.get_xlim()[0] > -1
    assert "incomplete: no mean, no rank" in text and "alpha - beta" in text


def test_a_model_looks_the_same_in_every_figure_and_56_look_different(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, task__name="one")
    grid(tmp_path, {"beta": 0.9}, task__name="two")
    assert list(frame.looks(read_tables([tmp_path]))) == ["alpha", "beta"]
    pairs = {(frame.COLOURS[i % 8], frame.MARKERS[i % 7]) for i in range(56)}
    assert len(pairs) == 56 == len(frame.COLOURS) * len(frame.MARKERS)


def test_labels_are_spread_by_no_more_than_they_need():
    assert panels._spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert panels._spread([0.0, 0.0, 0.05], 0.1) == pytest.approx([0.0, 0.1, 0.2])
    assert panels._spread([0.95, 1.0, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert panels._spread([], 0.1) == []


def test_legends_stay_within_the_figure(tmp_path):
    grid(tmp_path, {f"model-{i}": 0.5 + 0.02 * i for i in range(9)})
    for figure in (figure_of(tmp_path), figure_of(tmp_path)):
        box = figure.legends[0].get_window_extent()
        assert box.x0 > 0 and box.x1 < figure.bbox.width
    assert frame._columns([], 12) == frame._columns([3], 12) == 1
    assert frame._columns([8] * 11, 12) == 9


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_each_figure_under_its_table(tmp_path):
    for task in ("one", "two"):
        grid(tmp_path / "records", {"alpha": 0.9, "beta": 0.8}, task__name=task)
    drawn = draw_board(read_tables([tmp_path / "records"]), tmp_path / "plots of mine")
    text = board([tmp_path / "records"], base=tmp_path, plots=drawn)
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert set(parts) == set(drawn)
    for heading, part in parts.items():
        (link,) = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", part)
        assert (tmp_path / unquote(link)).samefile(drawn[heading]) and link.startswith("plots%20of%20mine/")
        assert part.rstrip().endswith(f"({link})")
    plain = board([tmp_path / "records"], base=tmp_path)
    assert plain == board([tmp_path / "records"], base=tmp_path, plots={}) and "![" not in plain
    quality = board([tmp_path / "records"], columns="quality", base=tmp_path, plots=drawn)
    assert quality == board([tmp_path / "records"], columns="quality", base=tmp_path)


def test_drawing_needs_no_torch_and_importing_no_matplotlib():
    code = "import sys, seqbench.board.plots; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_module_of_the_figures_says_what_it_offers():
    assert all(hasattr(module, name) for module in (forests, frame, panels, plots) for name in module.__all__)

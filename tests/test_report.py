"""What readers see: texts, and charts as the renderer draws them, read as a reader would."""

import colorsys
import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seqbench.errors import UserError
from seqbench.models.mixer import MODELS
from seqbench.report import chart as charts
from seqbench.report import draw as drawing
from seqbench.report.chart import (
    Axis,
    Bars,
    Chart,
    Line,
    Look,
    Matrix,
    Panel,
    Points,
    Region,
    Rule,
    contrast,
    limits,
    look_of,
)
from seqbench.report.draw import draw
from seqbench.report.text import NONE, duration, format_value, interval_text, listed, or_dash, rounded, short
from seqbench.report.ticks import ticks
from seqbench.stats import Interval

INF, NAN = math.inf, math.nan
LSTM, GRU, RNN = look_of("lstm"), look_of("gru"), look_of("rnn")
LONG = "a name so long that no column of any picture could ever hold it, " * 3

COST = Panel(
    "Metric against cost",
    [
        Points([10], [0.8], LSTM, [0.78], [0.82], label="lstm"),
        Points([10.2], [0.801], GRU, [0.79], [0.81], label="gru"),
        Points([100, 30, NAN], [0.9, 1e200, 1], RNN, [0.85, 0, 0], [INF, 1, 1], label="rnn"),
        Points([9, 11, 10], [0.79, 0.81, 0.8], LSTM, small=True, label="single seeds"),
        Line([10, 100, 200], [0.8, 0.9, 0.9], steps=True, label="best mean for the cost", dash="dashdot"),
        Rule(0.75, "ngram 0.75", strong=True, widen="near"),
        Rule(0.751, "bag of words 0.751"),
        Rule(0.1, f"majority {LONG}"),
        Rule(0.05, "guess 0.05"),
    ],
    Axis("CPU seconds (logarithmic)", "log10"),
    Axis(f"test accuracy {LONG}"),
)
CURVES = Panel(
    f"Learning curves {LONG}",
    [
        Line([0, 100, 200, 300], [0.1, 0.5, NAN, 0.9], LSTM, [0.05, 0.4, NAN, 0.8], [0.2, 0.6, NAN, 0.95], "lstm"),
        Line([0, 100, 200], [0.1, 0.3, 0.35], GRU, dash="dotted", label="gru", marked=True),
        Line([0, 300], [0.2, 0.25], RNN, faint=True),
        *(Rule(at, f"a rule at {at}", "x") for at in (100, 110, 120, 1000)),
    ],
    Axis("optimiser step"),
    Axis("validation accuracy"),
    note="checks of single runs below this axis: 3",
)
FOREST = Panel(
    "Pairs of models",
    [
        Region(-0.01, 0.01, label="too small to be found"),
        Rule(0, axis="x", strong=True, widen="always"),
        Points([0.05, -0.03], [0, 1], LSTM, [0.03, -INF], [0.07, 0.0], along="x"),
        Points([0.01], [2], Look(charts.GREY), [NAN], [0.04], along="x", hollow=True),
        Points([0.06], [2.2], GRU, marker="|", along="x"),
    ],
    Axis("difference"),
    rows=["lstm - gru", LONG, "gru - rnn"],
    faded=["gru - rnn"],
)
REGIONS = Panel(
    "Regions",
    [Region(1, 4, rows=(-0.5, 0.5)), Region(8, INF, rows=(0.5, 1.5)), Points([2, 6], [0, 1], GRU, along="x")],
    Axis("steps", "log2"),
    rows=["one", "two"],
)
BARS = Panel(
    "Classes",
    [
        Bars(["no", "yes", LONG], [0.1, 0.2, 0.7], GRU, "train"),
        Bars(["no", "yes", LONG], [0.3, 0.2, 0.5], LSTM, "test"),
    ],
    y=Axis("share"),
)
SPLITS = Panel("Splits", [Bars(["train", "val", "test"], [90000, 5000, 5000])], y=Axis("characters"))
CONFUSION = Panel(
    "Test",
    [
        Matrix(
            [[0.9, 0.1], [0.4, 0.6]], ["no", "yes"], ["no", "yes"], texts=[["9\n90%", "1\n10%"], ["4\n40%", "6\n60%"]]
        )
    ],
    Axis("predicted"),
    Axis("true"),
)
MEANS = Panel(
    "Means",
    [
        Matrix(
            [[(i * j) % 7 - 3.0 for j in range(60)] for i in range(40)],
            [f"class {i}" for i in range(40)],
            [f"feature {i}" for i in range(60)],
            -3,
            3,
            label="deviations",
        )
    ],
)
PANELS = [COST, CURVES, FOREST, REGIONS, BARS, SPLITS, CONFUSION, MEANS]
SAMPLE = Chart(
    f"A title {LONG}",
    [PANELS[:2] + PANELS[4:5], PANELS[2:4] + PANELS[5:]],
    "a subtitle",
    [f"A note {LONG}", "Another."],
)


def svg_texts(chart, folder):
    """Every text of the picture with its size in points, in the order in which they are drawn."""
    root = ElementTree.fromstring(draw(chart, folder / "picture.svg").read_text(encoding="utf-8"))
    found = [element for element in root.iter() if element.tag.endswith("}text")]
    return [
        ("".join(element.itertext()), float(re.search(r"([\d.]+)px", element.get("style", ""))[1])) for element in found
    ]


def words(chart, folder):
    return " ".join(text for text, _ in svg_texts(chart, folder))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title[:20])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_every_kind_of_mark_is_drawn_the_same_bytes_each_time(panel, suffix, tmp_path):
    chart = Chart("one panel", [[panel]])
    first = draw(chart, tmp_path / f"a.{suffix}").read_bytes()
    assert first == draw(chart, tmp_path / f"b.{suffix}").read_bytes()
    without = dataclasses.replace(panel, marks=[])
    assert first != draw(Chart("one panel", [[without]]), tmp_path / f"c.{suffix}").read_bytes()


def test_a_users_settings_change_nothing_and_stay(tmp_path):
    import matplotlib

    plain = draw(SAMPLE, tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "axes.prop_cycle": "cycler('color', 'r')"}):
        assert draw(SAMPLE, tmp_path / "own.png").read_bytes() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_svg_holds_its_texts_as_texts_of_at_least_9_points(tmp_path):
    texts = svg_texts(SAMPLE, tmp_path)
    assert min(size for _, size in texts) >= 9
    shown = " ".join(text for text, _ in texts)
    expected = (
        "A title|a subtitle|A note|Another.|ngram 0.75|optimiser step|too small to be found|90%|class 0|deviations"
    )
    for text in (*expected.split("|"), "checks of single runs below this axis: 3", "CPU seconds"):
        assert text in shown


def test_each_label_is_once_in_the_legend(tmp_path):
    assert list(SAMPLE.legend()) == [
        "lstm", "gru", "rnn", "single seeds", "best mean for the cost", "train", "test", "too small to be found",
    ]  # fmt: skip
    texts = [text for text, _ in svg_texts(SAMPLE, tmp_path)]
    assert all(texts.count(label) == 1 for label in ("lstm", "gru", "rnn", "single seeds"))


THREE = Chart("three", [PANELS[:2], PANELS[2:4], PANELS[4:6]], aligned=True)


@pytest.fixture
def figure_of():
    """``figure_of(chart)``: the figure before it is written."""
    import matplotlib

    with matplotlib.rc_context(drawing.STYLE):
        yield drawing._figure


@pytest.mark.parametrize("chart", [SAMPLE, THREE, *(Chart("one", [[panel]]) for panel in PANELS)])
def test_no_text_overlaps_another_or_leaves_the_picture(chart, figure_of):
    from matplotlib.text import Text

    figure = figure_of(chart)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts]  # of an annotation without its line
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    for (one, box), (other, beside) in combinations(boxes, 2):
        wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert wide <= 1 or high <= 4, f"{one!r} and {other!r} overlap"  # lines' boxes reach beyond their letters


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title[:20])
def test_every_numeric_axis_has_three_labels_or_more(panel, figure_of):
    for axes in figure_of(Chart("one", [[panel]])).axes[:1]:
        for way, labels in (("x", axes.get_xticklabels()), ("y", axes.get_yticklabels())):
            shown = [label.get_text() for label in labels if label.get_text()]
            assert len(shown) >= min(3, len(charts.places(panel, way)) or 3)


NUMBERS = st.floats(-1e99, 1e99) | st.floats(-1e3, 1e3) | st.floats(-1e-270, 1e-270) | st.just(0.0)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1), st.sampled_from(["linear", "log2", "log10"]), st.integers(3, 9))
def test_ticks_tell_apart_whatever_is_shown(values, scale, most):
    axis = Axis(scale=scale)
    span = limits(Panel("", [Points(values, values)], axis, axis), "x")
    assume(span is not None)
    assert span[0] < span[1]
    assert all(span[0] <= value <= span[1] for value in values if charts.drawable(value, scale))
    shown = ticks(axis, *span, most)
    assert len(shown) >= 3 and len({text for _, text in shown}) == len(shown)
    width = span[1] - span[0]
    for value, text in shown:
        assert span[0] - 1e-6 * width <= value <= span[1] + 1e-6 * width
        assert float(text.replace(",", "")) == pytest.approx(value, rel=1e-3, abs=1e-3 * width)
    assert len(shown) <= max(most, 6)


@pytest.mark.parametrize(
    ("axis", "span", "most", "texts"),
    [
        (Axis(), (0, 1), 7, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis(), (0, 120000), 5, ["0", "25,000", "50,000", "75,000", "100,000"]),
        (Axis(), (-1e-9, 3e-9), 6, ["-1e-9", "0", "1e-9", "2e-9", "3e-9"]),
        (Axis(scale="log2"), (8, 64), 7, ["8", "16", "32", "64"]),
        (Axis(scale="log2"), (1, 4096), 5, ["1", "8", "64", "512", "4,096"]),
        (Axis(scale="log2"), (3, 5), 5, ["3.0", "3.5", "4.0", "4.5", "5.0"]),
        (
            Axis(scale="log10"),
            (0.001, 1e5),
            9,
            ["0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000", "100,000"],
        ),
        (Axis(scale="log10"), (0.5, 9), 5, ["0.5", "1", "2", "5"]),
        (Axis(ticks=[(0.5, "half"), (1, "one"), (2, "two")]), (0, 1), 7, ["half", "one"]),
    ],
)
def test_ticks_read_as_people_write_numbers(axis, span, most, texts):
    assert [text for _, text in ticks(axis, *span, most)] == texts


@pytest.mark.parametrize(
    ("marks", "span"),
    [
        ([Points([0], [0.0]), Points([0], [1.0])], (-0.06, 1.06)),
        ([Points([0], [5.0])], (4.75, 5.25)),
        ([Points([0, 0], [0.0, 1.0], low=[-INF, 0.5], high=[1.0, 2.0])], (-0.12, 2.12)),
        ([Points([0, 0, 0], [0.0, 1.0, 1e101])], (-0.06, 1.06)),
        ([Points([0, 0], [0.0, 1.0]), Rule(5)], (-0.06, 1.06)),
        ([Points([0, 0], [0.0, 1.0]), Rule(5, widen="near")], (-0.06, 1.06)),
        ([Points([0, 0], [0.0, 1.0]), Rule(2, widen="near")], (-0.12, 2.12)),
        ([Points([0, 0], [0.0, 1.0]), Rule(5, widen="always")], (-0.3, 5.3)),
        ([Bars(["a", "b"], [1.0, 2.0])], (0, 2.12)),
        ([Points([0], [NAN]), Rule(1)], None),
    ],
)
def test_an_axis_spans_what_its_marks_need(marks, span):
    assert limits(Panel("", marks), "y") == (None if span is None else pytest.approx(span))


def test_rules_beyond_the_axis_are_named_with_an_arrow(tmp_path):
    points = Points([0, 1], [0.0, 1.0])
    rules = [Rule(9, "high"), Rule(-9, "low"), Rule(9, "right", "x"), Rule(-9, "left", "x"), Rule(0.5, "within")]
    shown = [text for text, _ in svg_texts(Chart("", [[Panel("", [points, *rules])]]), tmp_path)]
    assert {"↑ high", "↓ low", "→ right", "← left", "within"} <= set(shown)


def test_points_in_one_place_are_both_seen(figure_of):
    points = [Points([10, 90], [0.8, 0.2], LSTM), Points([10, 50], [0.8001, 0.5], GRU)]
    (axes,) = figure_of(Chart("", [[Panel("", points)]])).axes
    sizes = [(line.get_marker(), line.get_markersize()) for line in axes.lines]
    assert sorted(sizes) == sorted([(LSTM.marker, 6.5), (GRU.marker, 4.5), (GRU.marker, 6.5)])


def test_a_panel_without_figures_is_left_out_and_named(tmp_path):
    empty = Panel("Costs", [Points([NAN], [1.0]), Rule(1, "rule")], note="no run has one")
    shown = words(Chart("two", [[empty, COST]]), tmp_path)
    assert "Not drawn, without figures: Costs (no run has one)." in shown and "rule" not in shown
    assert "Not drawn" in words(Chart("none", [[empty]]), tmp_path)
    assert words(Chart("a title only", []), tmp_path) == "a title only"


@given(colour=st.sampled_from([*charts.COLOURS, charts.GREY, charts.DARK]))
def test_marks_and_texts_stand_out_from_white(colour):
    assert contrast(colour) >= 3


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#ffffff") == 1 and contrast("#000000") == pytest.approx(21)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)
    assert contrast("#ffffff", "#0072b2") == contrast("#0072b2")


def test_no_two_models_that_come_with_seqbench_look_alike():
    names = [entry.name for entry in MODELS.entries() if entry.origin.startswith("seqbench.models.")]
    assert len({look_of(name)[:2] for name in names}) == len(names) >= 14


def test_the_five_usual_models_differ_in_colour_and_in_marker_and_look_as_they_did():
    names = ["rnn", "lstm", "bilstm", "gru", "transformer"]
    looks = [look_of(name) for name in names]
    assert [look.marker for look in looks] == ["s", "v", "D", "X", "o"]
    assert [charts.COLOURS.index(look.colour) for look in looks] == [1, 7, 2, 3, 5]
    hues = sorted(colorsys.rgb_to_hls(*(int(look.colour[at : at + 2], 16) for at in (1, 3, 5)))[0] for look in looks)
    gaps = [after - before for before, after in pairwise([*hues, hues[0] + 1])]
    assert min(gaps) > 0.08  # of the circle of hues: no two blues, no wine beside pink


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.PNG"])
def test_another_kind_of_file_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.png, \.svg or \.pdf"):
        draw(SAMPLE, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cant_be_written_leaves_no_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        draw(SAMPLE, tmp_path / "file" / "picture.png")
    draw(SAMPLE, tmp_path / "picture.png")
    old = (tmp_path / "picture.png").read_bytes()

    def fail(self, file, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(UserError, match=r"can't be written \(No space left on device\)"):
        draw(dataclasses.replace(SAMPLE, title="new"), tmp_path / "picture.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == old


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs matplotlib: pip install 'seqbench\[plot\]'"):
        draw(SAMPLE, tmp_path / "picture.png")


def test_words_of_a_record_are_no_markup(tmp_path):
    texts = [text for text, _ in svg_texts(Chart("a $x^2$ <b> & \\frac", [[COST]]), tmp_path)]
    assert "a $x^2$ <b> & \\frac" in texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rounded(12.34), "12.3"),
        (rounded(131584.4), "131,584"),
        (rounded(0.8475, 4), "0.8475"),
        (rounded(0.5, 4), "0.5"),
        (rounded(0.0000123), "1.23e-05"),
        (rounded(1e15), "1.00e+15"),
        (rounded(-0.0), "0"),
        (rounded(9.999), "10"),
        (rounded(INF), "∞"),
        (rounded(-INF), "-∞"),
        (rounded(NAN), "?"),
        (format_value(NAN), "-"),
        (format_value(123456.7), "123,457"),
        (or_dash(1234.5, ",.0f"), "1,234"),
        (or_dash(None, ","), NONE),
        (interval_text(Interval(12, 8, 16), "steps"), "12 steps (8 to 16)"),
        (interval_text(Interval(12, 8, INF), "steps"), "12 steps (8 and more)"),
        (interval_text(Interval(4, 4, 4), "times"), "4 times"),
        (interval_text(Interval(0.5, NAN, NAN)), "0.5"),
        (interval_text(Interval(320, 320, INF), at_least=True), "at least 320"),
        (interval_text(Interval(320, 300, INF), at_least=True), "at least 320 (300 and more)"),
        (interval_text(Interval(INF, 8, INF), "times"), "more than 8 times"),
        (interval_text(Interval(NAN, NAN, NAN)), "unknown"),
        (duration(40), "40 s"),
        (duration(720), "12 min"),
        (duration(11100), "3 h 05 min"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (short("a\nb"), "a b"),
        (short("x" * 20 + "end", 12), "xxx...xxxend"),
    ],
)
def test_texts_read_as_people_write(text, expected):
    assert text == expected


@given(st.floats(-1e300, 1e300), st.integers(1, 9))
def test_rounding_keeps_so_many_digits_and_no_more_than_it_needs(value, digits):
    text = rounded(value, digits)
    shown = float(text.replace(",", ""))
    assert shown == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits), abs=1e-320)
    assert "e" in text or (text != "-0" and not ("." in text and text.endswith("0")))
    assert float(rounded(shown, digits).replace(",", "")) == shown


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=3), st.booleans())
def test_an_interval_holds_its_value_unless_it_is_exact(figures, at_least):
    low, value, high = sorted(figures)
    text = interval_text(Interval(value, low, high), "steps", 9, at_least=at_least)
    assert text.startswith("at least ") == at_least and f"{rounded(value, 9)} steps" in text
    assert ("(" in text) == (low < high)

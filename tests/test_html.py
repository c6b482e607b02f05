"""Pages for a browser, without one: pictures as SVG, charts as data, the records in a page, the ledger beside it."""

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape

import pytest
from board_records import grid, model, tables_of, write
from conftest import ROOT

from seqbench.board import load_results, make_tables
from seqbench.board.charts import more_of_overview, more_of_table
from seqbench.board.compare import overviews
from seqbench.board.html import board_page
from seqbench.errors import UserError
from seqbench.report.chart import (
    COLOURS,
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
    chart_data,
    chart_of,
    contrast,
    look_of,
)
from seqbench.report.html import FOLDER, fact_sections, inline, page, split_table
from seqbench.report.svg import drawn_chart

BOARD = ROOT / "results" / "board"
INF, NAN = math.inf, math.nan


def page_of(root, **given):
    results = load_results(root)
    return board_page(make_tables(results), results, [root], root, **given)


def content_of(text):
    """The records of a page as its script unpacks them: path to record."""
    packed = json.loads(re.search(r'id="records">(.*?)</script>', text, re.DOTALL)[1])

    def unpacked(value):
        if isinstance(value, dict):
            return unpacked(packed["parts"][value["r"]])
        if isinstance(value, list):
            kind, *parts = value
            inner = list(map(unpacked, parts))
            return inner if kind < 0 else dict(zip(packed["shapes"][kind], inner, strict=True))
        return value

    return {path: unpacked(value) for path, value in packed["records"]}


# --- pictures --------------------------------------------------------------------------------------------------------


def panel_of(*marks, **given):
    return Panel("A panel", marks, given.pop("x", Axis("steps")), given.pop("y", Axis("figure")), **given)


def svg_of(*marks, tokens=None, **given):
    (drawing,) = drawn_chart(Chart("A chart", [[panel_of(*marks, **given)]]), tokens).panels
    return ElementTree.fromstring(drawing.svg)


def found(svg, tag, kind=""):
    return [each for each in svg.iter(tag) if kind in each.get("class", "").split() or not kind]


def titles(svg):
    return [title.text for title in svg.iter("title")]


def test_a_point_says_its_name_its_place_and_its_interval_and_opens_what_the_page_has():
    points = Points(
        [1, 2, 4],
        [0.5, 0.25, 0.75],
        look_of("gru"),
        [0.4, NAN, 0.7],
        [0.6, NAN, INF],
        names=["a", "b", "c"],
        opens=["one\ntwo", "elsewhere", ""],
    )
    svg = svg_of(points, tokens={"one": "7", "two": "9"})
    assert titles(svg)[:2] == ["a: steps: 1, figure: 0.5 (0.4 to 0.6)", "b: steps: 2, figure: 0.25"]
    assert "c: steps: 4, figure: 0.75 (0.7 to ∞)" in titles(svg)
    opening = [point.get("data-open") for point in svg.iter() if point.find("title") is not None]
    assert opening == ["7 9", None, None]
    assert [group.get("data-of") for group in found(svg, "g")] == ["gru"]
    assert len(found(svg, "path", "interval")) == 2


def test_a_line_leaves_gaps_and_its_points_say_what_they_are():
    line = Line([1, 2, 3, 4, 5], [0.1, 0.2, NAN, 0.4, 0.5], low=[0.0] * 5, high=[0.6] * 5, label="a line")
    svg = svg_of(line)
    (path,) = found(svg, "path", "line")
    assert path.get("d").count("M") == 2 and len(found(svg, "path", "band")) == 1
    assert "a line: steps: 4, figure: 0.4 (0 to 0.6)" in titles(svg) and len(found(svg, "circle", "hit")) == 4
    assert not found(svg_of(Line(range(500), range(500))), "circle")  # they would lie on each other


def test_what_lies_beyond_the_axis_is_an_arrow_at_its_edge():
    svg = svg_of(Points([1, 2], [0.5, 9.0], Look(COLOURS[0])), y=Axis(limits=(0.0, 1.0)))
    circle, arrow = (point for point in svg.iter() if "point" in point.get("class", "").split())
    assert circle.tag == "circle" and arrow.tag == "path"


def test_places_with_names_run_from_the_top_and_each_is_named():
    svg = svg_of(Points([1.0, 2.0], [0, 1], along="x"), rows=["first", "second"], faded=["second"])
    rows = {text.text: float(text.get("y")) for text in found(svg, "text", "end")}
    assert rows["first"] < rows["second"] and titles(svg) == ["steps: 1, first", "steps: 2, second"]
    assert [text.text for text in found(svg, "text", "faded")] == ["second"]


def test_bars_cells_rules_and_regions_say_what_they_are():
    bars = svg_of(Bars(["a", "b"], [1.0, 3.0], label="train"), Bars(["a", "b"], [2.0, NAN], label="test"))
    assert titles(bars) == ["train, a: 1", "train, b: 3", "test, a: 2"]
    low, high = sorted(float(bar.get("height")) for bar in found(bars, "rect", "bar"))[::2]
    assert high == pytest.approx(3 * low, rel=0.01)
    cells = svg_of(Matrix([[0.0, 1.0], [0.25, NAN]], ["r", "s"], ["a", "b"], texts=[["0", "1"], ["¼", "–"]]))  # noqa: RUF001
    assert titles(cells) == ["r, a: 0", "r, b: 1", "s, a: ¼", "s, b: –"]  # noqa: RUF001
    shades = [cell.get("fill-opacity") for cell in found(cells, "rect", "cell")]
    assert shades == ["0.00", "1.00", "0.25", "0.00"] and len(found(cells, "rect", "none")) == 1
    rest = svg_of(Region(2, INF, label="there"), Rule(0.5, "half"), Rule(9.0, "far"), Points([1, 3], [0.1, 0.9]))
    assert titles(rest)[:2] == ["there", "half"] and "↑ far" in [text.text for text in found(rest, "text")]


def test_a_panel_without_figures_is_named_in_the_notes():
    drawn = drawn_chart(Chart("A chart", [[panel_of(Line([], [])), panel_of(Line([1, 2], [1, 2]))]], notes=["a note"]))
    assert len(drawn.panels) == 1 and drawn.notes == ["a note", "Not drawn, without figures: A panel."]


def test_texts_are_texts_and_markup_in_them_is_words():
    evil = "<b>&\"'</b>"
    marks = [Points([1], [1], label=evil, names=[evil]), Rule(1.0, evil), Region(0, 1, label=evil)]
    svg = svg_of(*marks, x=Axis(evil), y=Axis(evil), note=evil)
    words = [text.text for text in found(svg, "text")]
    assert words.count(evil) == 3 and not list(svg.iter("b"))
    (chart,) = drawn_chart(Chart(evil, [[panel_of(*marks)]])).keys[:1]
    assert chart.label == evil and "<b>" not in chart.svg


def test_every_published_chart_stays_the_same_as_data():
    charts = json.loads((BOARD / "charts.json").read_text(encoding="utf-8"))
    assert len(charts) >= 6
    for name, data in charts.items():
        assert chart_data(chart_of(data)) == data, name
        assert all(panel.svg for panel in drawn_chart(chart_of(data)).panels)


def test_a_chart_of_every_kind_of_mark_goes_into_data_and_back():
    marks = [
        Points([1.0, INF], [0.5, NAN], look_of("gru"), [0.4, -INF], [0.6, INF], opens=["a", ""], of=["gru", "lstm"]),
        Line([1.0, 2.0], [0.1, 0.2], dash="dotted", faint=True, steps=True),
        Rule(0.5, "half", axis="x", widen="near"),
        Region(-INF, 1.0, rows=(0.0, 1.0)),
        Bars(["nan", "b"], [1.0, NAN]),
        Matrix([[NAN, 1.0]], ["nan"], ["inf", "b"], least=-1.0),
    ]
    panel = Panel("nan", marks, Axis("x", "log10", (0.1, INF)), Axis(ticks=[(1.0, "one")]), note="inf")
    chart = Chart("t", [[panel]], notes=["n"])
    back = chart_of(json.loads(json.dumps(chart_data(chart), allow_nan=False)))
    assert chart_data(back) == chart_data(chart)
    points, *_, region, bars, matrix = back.panels[0].marks
    assert points.look == look_of("gru") and list(points.x) == [1.0, INF] and math.isnan(points.y[1])
    assert region.low == -INF and list(region.rows) == [0.0, 1.0] and math.isnan(bars.heights[1])
    assert [*bars.names, *matrix.columns, *matrix.rows, back.panels[0].title] == ["nan", "b", "inf", "b", "nan", "nan"]


@pytest.mark.parametrize("name", ["style.css", "dark.css"])
def test_colours_can_be_told_from_their_ground(name):
    words = (FOLDER / name).read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", words))
    ground = {
        key: "#" + "".join(c * 2 for c in value[1:]) if len(value) == 4 else value for key, value in colours.items()
    }
    for behind in ("paper", "raised"):
        for text in ("ink", "soft", "accent"):
            assert contrast(ground[text], ground[behind]) >= 4.5, text
        for i in range(len(COLOURS)):
            assert contrast(ground[f"c{i}"], ground[behind]) >= 3, i
    assert contrast(ground["soft"], ground["wash"]) >= 4.5


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("**a** and *b* and `c`", "<strong>a</strong> and <em>b</em> and <code>c</code>"),
        (r"1 \* 2 \| 3 \[x\]", "1 * 2 | 3 [x]"),
        ("a &lt;b&gt; &amp; <c>", "a &lt;b&gt; &amp; &lt;c&gt;"),
        ("[0](here) [1](there)", '<button type="button" class="figure" data-open="5">0</button> 1'),
        ("**one [2](here)**", '<strong>one 2</strong>'),
        ("a_b *", "a_b *"),
    ],
)  # fmt: skip
def test_the_markdown_of_the_other_page_becomes_markup(text, markup):
    assert str(inline(text, {"here": "5"})) == markup


def test_a_table_of_markdown_is_split_at_its_bars():
    table = split_table(["| a | b |", "| :-- | --: |", r"| x \| y | **2** |"])
    assert list(map(str, table.headers)) == ["a", "b"]
    assert [list(map(str, row.cells)) for row in table.rows] == [["x | y", "<strong>2</strong>"]]


def test_facts_are_tables_of_their_own_where_their_parts_are_alike():
    facts = {
        "seed": 1234,
        "metrics": {"val": {"a": 0.5}, "test": {"a": 0.25, "n": 1234}},
        "sizes": [{"x": 1}, {"x": 2}],
        "task": {"name": "toy", "options": {}},
        "none": {},
    }
    sections = {section.heading: (section.headers, section.rows) for section in fact_sections(facts)}
    assert sections == {
        "Metrics": (["", "val", "test"], [["a", "0.5", "0.25"], ["n", "", "1,234"]]),
        "Sizes": (["x"], [["1"], ["2"]]),
        "About": ([], [["seed", "1234"]]),
        "Task": ([], [["name", "toy"], ["options", "none"]]),
    }


# --- the board -------------------------------------------------------------------------------------------------------


def test_the_page_has_every_record_whole(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8})
    write(tmp_path, "gamma", 0, None, reason="</script><script>alert(1)</script>")
    text = page_of(tmp_path)

    def rounded(number):
        return float(f"{float(number):.6g}")  # to more than is shown

    kept = {path: json.loads((tmp_path / path).read_text(), parse_float=rounded) for path in content_of(text)}
    assert content_of(text) == kept and len(kept) == 7
    assert text.count("<script") == 2 and "alert(1)</script>" not in text


def test_its_tables_say_what_the_other_page_says(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8})
    text = page_of(tmp_path)
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))
    assert "alpha is better than beta" in words.replace("  ", " ") and "Against the strongest baseline" in words
    figures = re.findall(r'class="figure" data-open="([\d ]+)">([^<]+)</button>', text)
    assert ("0 1 2", "0.9000 ± 0.0025") in figures


def test_each_model_and_task_has_its_skill_in_the_overview_and_ranks_follow_training(tmp_path):
    for task in ("toy", "joy"):
        grid(tmp_path, {"alpha": 0.9, "beta": 0.8}, task__name=task)
    tables = tables_of(tmp_path)
    (overview,) = overviews(tables)
    (matrix,) = more_of_overview(overview).panels[0].marks
    assert matrix.columns == ["joy", "toy"] and matrix.values[0] == pytest.approx([0.8, 0.8])
    curve = next((tmp_path / "toy" / "beta").rglob("curve.jsonl"))
    lines = [json.loads(line) for line in curve.read_text().splitlines()]
    for path in (tmp_path / "toy" / "beta").rglob("curve.jsonl"):
        early = [replace_value(line, 0.99) if line["step"] == 100 else line for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in early))
    chart = more_of_table(next(table for table in tables_of(tmp_path) if table.name == "toy"))
    alpha, beta = chart.panels[0].marks
    assert list(alpha.x) == [100, 200, 300, 400]
    assert (list(alpha.y), list(beta.y)) == ([1, 0, 0, 0], [0, 1, 1, 1]) and chart.panels[0].rows == ["1", "2"]


def replace_value(line, value):
    return {name: value if name.startswith("val_") else known for name, known in line.items()}


def test_one_model_has_no_rank_to_follow(tmp_path):
    model(tmp_path, "alpha", [0.8, 0.9])
    assert more_of_table(tables_of(tmp_path)[0]) is None


def test_a_record_takes_less_than_a_kilobyte(tmp_path):
    """So that 10,000 take less than ten megabytes."""
    for name in ("alpha", "beta", "gamma"):
        model(tmp_path, name, [0.8 + 0.0137 * (seed % 7) for seed in range(50)])
    empty = len(page("board.html", "t", introduction=[], how_to_read=[], models=[], sections=[], ledger=None))
    assert len(page_of(tmp_path).encode()) - empty < 150 * 1000


def test_nothing_of_it_needs_torch_or_the_network(tmp_path):
    grid(tmp_path, {"alpha": 0.9, "beta": 0.8})
    code = (
        "import sys; from seqbench.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or bool({'torch', 'matplotlib', 'requests'} & set(sys.modules)))"
    )
    words = ["leaderboard", str(tmp_path), "--out", str(tmp_path / "board.html")]
    assert subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path).returncode == 0
    text = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--format", "html", "--columns", "quality"), "leave --columns out"),
        (("--format", "html", "--json"), "contradict each other"),
    ],
)
def test_what_the_page_can_not_be_is_said(here, tmp_path, words, says):
    write(tmp_path / "records")
    done = here("leaderboard", tmp_path / "records", *words)
    assert done.returncode == 2 and says in done.stderr


# --- the ledger beside it --------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    """A folder of records with a ledger of one claim, whose figure rests on one of them, and on a file elsewhere."""
    (tmp_path / "record.json").write_text('{"secret": 1}')
    root = tmp_path / "board"
    grid(root, {"alpha": 0.9})
    record = next(root.rglob("record.json")).relative_to(root).as_posix()
    claims = json.loads((BOARD / "claims.json").read_text(encoding="utf-8"))
    claim = claims["claims"][0] | {"beside": []}
    claim["conditions"] = [claim["conditions"][0] | {"records": [record, "../record.json"], "low": None, "high": None}]
    (root / "claims.json").write_text(json.dumps({"conditions": ["`so` it was"], "claims": [claim]}))
    charts = json.loads((BOARD / "charts.json").read_text(encoding="utf-8"))
    (root / "charts.json").write_text(json.dumps({"claims": charts["claims"]}))
    return root


def test_the_ledger_stands_in_the_page_with_its_pictures(ledger):
    text = page_of(ledger)
    part = text.split('id="ledger"')[-1]
    assert "A plain RNN remembers" in part and "<code>so</code> it was" in part and "Jacobian" not in part
    assert "All claims, figure by figure" in part and re.search(r'data-open="\d+">8 steps</button>', part)
    assert "secret" not in text  # a link that leads elsewhere opens nothing


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("claims.json", "{"),
        ("claims.json", '{"claims": [1], "conditions": []}'),
        ("charts.json", '{"a": {"columns": 3}}'),
    ],
)
def test_a_damaged_ledger_is_said(ledger, name, content):
    (ledger / name).write_text(content)
    with pytest.raises(UserError, match="is damaged: write it again by `claims --report`"):
        page_of(ledger)


# --- other pages -----------------------------------------------------------------------------------------------------


def test_a_run_and_a_data_set_have_a_page_each(here, tmp_path, short):
    done = here(
        "run", "--task", "toy-first", "--model", "rnn", "--budget", "smoke", "--hidden", 4, "--plot", "a/run.html"
    )
    assert done.returncode == 0 and "a/run.html" in done.stdout, done.stderr
    text = (tmp_path / "a" / "run.html").read_text(encoding="utf-8")
    assert "Learning curve" in text and "learning_rate" in text and text.count('<svg class="chart"') == 2
    assert here("data", "show", "toy-first", "--plot", "data.html").returncode == 0
    text = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "<h2>Sizes</h2>" in text and "<h2>Baselines</h2>" in text and '<svg class="chart"' in text


def test_a_look_says_whose_it_is():
    assert look_of("gru").of == "gru" and Look(COLOURS[0]).of == ""
    assert replace(Points([1], [1]), of=["a", "b"]).of == ["a", "b"]

"""The pages for a browser, in one: Chromium opens them as a reader would. Skipped where there is no Chromium."""

import json
import re
import shutil

import pytest
from board_records import grid, write
from conftest import ROOT

from seqbench.board import load_results, make_tables
from seqbench.board.html import board_page
from seqbench.report.chart import Axis, Bars, Chart, Line, Matrix, Panel, Points, Rule, look_of
from seqbench.report.html import chart_page, fact_sections

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")
BOARD = ROOT / "results" / "board"
EVIL = '<script>window.hit=1</script><img src="x" onerror="window.hit=2">'
SIZES = {"narrow": (390, 844), "wide": (1440, 900)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A board of two tasks with names that are markup, a failed run, and part of the published ledger beside it."""
    root = tmp_path_factory.mktemp("pages")
    for task, shift in (("toy", 0.0), ("joy", 0.05)):
        figures = {"alpha": 0.8 + shift, "beta": 0.7 + shift, "gamma": 0.6 + shift}
        named = {"baselines": {"majority": 0.5, EVIL: 0.65}, "environment__device_name": EVIL}
        grid(root, figures, task__name=task, **named)
    write(root, "delta", 0, None, reason=f"the loss is {EVIL}", **named)
    claims, charts = (json.loads((BOARD / name).read_text("utf-8")) for name in ("claims.json", "charts.json"))
    claims["claims"] = claims["claims"][:2]
    (root / "claims.json").write_text(json.dumps(claims), encoding="utf-8")
    (root / "charts.json").write_text(json.dumps({"claims": charts["claims"]}), encoding="utf-8")
    results = load_results(root)
    (root / "board.html").write_text(board_page(make_tables(results), results, [root], root), encoding="utf-8")
    marks = [
        Line([1, 2, 3], [0.1, 0.4, 0.3], look_of("alpha"), [0.0, 0.2, 0.1], [0.2, 0.6, 0.5], label="alpha"),
        Points([2], [0.2], look_of("beta"), label=EVIL),
        Rule(0.3, f"rule {EVIL}"),
    ]
    matrix = Matrix([[0.9, 0.1], [0.3, 0.7]], ["A", "B"], ["A", "B"], texts=[["9", "1"], ["3", "7"]], label="share")
    bars = Bars([EVIL, "b"], [1.0, 2.0], label="bars")
    panels = [Panel("Lines", marks, Axis("steps"), Axis("figure")), Panel("Cells", [matrix]), Panel("Bars", [bars])]
    facts = {"task": {"name": EVIL, "options": {"a": 1.5}}, "status": "ok", "path": "/".join(["folder"] * 40)}
    chart_page(Chart(f"One run {EVIL}", [[panel] for panel in panels]), root / "run.html", fact_sections(facts))
    return root


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def visit(browser, folder):
    """``visit("board.html", "narrow")`` opens a page; afterwards nothing may have gone wrong or left the file."""
    opened, troubles = [], []

    def open_page(name, size="wide", scheme="light"):
        wide, high = SIZES[size]
        context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme, offline=True)
        page = context.new_page()
        address = (folder / name).as_uri()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.split("#")[0] == address or troubles.append(request.url))
        page.goto(address)
        page.add_style_tag(content="main > section { content-visibility: visible !important }")  # not only what is seen
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        assert all(page.evaluate("window.hit === undefined") for page in context.pages)
        context.close()
    assert troubles == []


def column(page, section, place):
    cells = page.locator(f"#{section} .scroll >> nth=0").locator(f"tbody tr:not([hidden]) td:nth-child({place})")
    return cells.all_inner_texts()


SECTION = "toy-quick-width128"


@pytest.mark.parametrize("name", ["board.html", "run.html"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_window(visit, name, size):
    page = visit(name, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    beyond = """() => [...document.querySelectorAll('h1, h2, h3, p, li, figure, .scroll, summary, label, button')]
        .filter(e => !e.parentElement.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.outerHTML)"""
    assert page.evaluate(beyond) == []  # what is wider lies in a box that scrolls


@pytest.mark.parametrize("name", ["board.html", "run.html"])
def test_names_in_records_are_words_and_no_markup(visit, name):
    page = visit(name)
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2
    assert "<script>window.hit" in page.locator("main").inner_text()
    if name == "board.html":  # what its script makes of them, too
        page.locator("#all .figure >> nth=0").click()
        assert "<script>window.hit" in page.locator("dialog").inner_text() and page.locator("img").count() == 0


def test_texts_of_a_picture_stay_within_it(visit):
    page = visit("board.html")
    outside = """() => [...document.querySelectorAll('svg.chart')].flatMap(s => { const b = s.getBoundingClientRect();
        return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();
            return r.width && (r.left < b.left - 6 || r.right > b.right + 6 || r.bottom > b.bottom + 3); })
            .map(t => t.textContent); })"""
    assert page.evaluate(outside) == []


def test_a_click_on_a_head_sorts_by_it_and_another_turns_it_round(visit):
    page = visit("board.html")
    head = page.locator(f"#{SECTION} th", has_text="accuracy").locator("button")
    place = 1 + page.locator(f"#{SECTION} .scroll >> nth=0").locator("th").all_inner_texts().index("accuracy ↑")
    figures = [float(text.split()[0]) for text in column(page, SECTION, place) if text != "–"]  # noqa: RUF001
    assert figures == sorted(figures, reverse=True)
    head.click()
    texts = column(page, SECTION, place)
    assert [float(text.split()[0]) for text in texts[:-1]] == sorted(figures) and texts[-1] == "–"  # noqa: RUF001
    assert page.locator(f"#{SECTION} th[aria-sort=ascending]").inner_text().startswith("accuracy")
    head.click()
    assert column(page, SECTION, place)[0].startswith(f"{max(figures):.2f}"[:4])
    page.locator("#all th", has_text="skill").locator("button").click()
    page.locator("#all th", has_text="skill").locator("button").click()
    skills = page.locator("#all tbody td:nth-child(9)").all_inner_texts()
    known = [float(text) for text in skills if text != "–"]  # noqa: RUF001
    assert len(known) == 18 and known == sorted(known, reverse=True)


def test_the_filter_keeps_the_rows_that_have_all_words(visit):
    page = visit("board.html")
    page.locator("#filter").fill("joy alpha")
    page.locator(f"#{SECTION}").wait_for(state="hidden")
    assert column(page, "joy-quick-width128", 2) == ["alpha"]
    assert set(page.locator("#all tbody td:nth-child(2)").all_inner_texts()) == {"alpha"}
    assert "3 records" in page.locator("#found").inner_text()
    page.locator("#filter").fill("")
    page.locator(f"#{SECTION}").wait_for(state="visible")
    assert len(page.locator("#all tbody tr").all()) == 19


def test_one_model_can_be_brought_out_in_every_picture(visit):
    page = visit("board.html")
    page.locator(f"#{SECTION} .name", has_text="beta").click()
    assert page.locator("#highlight").input_value() == "beta"
    shown = page.evaluate("[...document.querySelectorAll('main svg [data-of]:not(.dim)')].map(e => e.dataset.of)")
    assert shown and all("beta" in of.split("\n") for of in shown)
    assert page.locator("svg .dim").count() > 10
    page.locator("#highlight").select_option("")
    assert page.locator(".dim").count() == 0


def test_a_figure_opens_its_records_and_a_record_is_shown_whole(visit):
    page = visit("board.html")
    figure = page.locator(f"#{SECTION} tbody tr", has_text="alpha").first.locator(".figure").first
    figure.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert "3 records" in dialog.inner_text()
    dialog.locator(".figure", has_text="seed 1").click()
    words = re.sub(r"\s+", " ", dialog.inner_text())
    for part in ("toy · alpha · seed 1", "learning_rate 0.003", "accuracy 0.801", "hidden 128", "device cpu"):
        assert part in words, part
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "figure"  # back where one was


def test_a_point_says_what_it_is_and_opens_its_record(visit):
    page = visit("board.html")
    point = page.locator(
        f"#{SECTION} svg.chart [data-open]", has_text="beta, seed 2"
    ).first.element_handle()  # whose text goes to the tip
    point.dispatch_event("pointerover")  # it lies below others
    assert page.locator("#tip").inner_text() == "beta, seed 2: CPU seconds in training: 10, test accuracy: 0.699"
    point.dispatch_event("click")
    assert "toy · beta · seed 2" in page.locator("dialog").inner_text()


WITH_POINTS = "svg.chart:has(title)"


def aloud(page, key):
    """What a screen reader is told after ``key``, which the tip shows, too."""
    page.keyboard.press(key)
    text = page.locator("#aloud").inner_text()
    assert page.locator("#tip").inner_text() == text.rpartition(" (")[0] and page.locator(".at").count() == 1
    return text


def test_every_point_is_reached_from_the_keyboard_and_a_picture_is_one_stop(visit):
    page = visit("board.html")
    pictures = page.locator(WITH_POINTS).count()
    stops = page.locator("svg.chart[tabindex='0'][role=application][aria-label]").count()
    assert pictures == stops > 5 and page.locator("svg.chart [tabindex]").count() == 0
    walk = """picture => { const told = [...picture.querySelectorAll('title')].map(title => title.textContent);
        return [told, told.map(() => { picture.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));
            return document.getElementById('aloud').textContent; })]; }"""
    for texts, told in (page.locator(WITH_POINTS).nth(place).evaluate(walk) for place in range(pictures)):
        assert told == [f"{text} ({i} of {len(texts)})" for i, text in enumerate(texts, 1)]
    page.locator(WITH_POINTS).first.focus()
    last = aloud(page, "End")
    assert aloud(page, "ArrowRight") == last and aloud(page, "Home") != last  # there it ends
    page.keyboard.press("Tab")
    assert not page.locator("#tip").is_visible() and page.locator(".at").count() == 0
    assert not page.locator(WITH_POINTS).first.evaluate("picture => picture === document.activeElement")


def test_arrows_go_along_a_line_and_from_one_to_the_next(visit):
    page = visit("run.html")
    lines, cells, _ = page.locator(WITH_POINTS).all()
    lines.focus()
    assert [aloud(page, "ArrowRight").split(" (")[0] for _ in range(3)] == [
        "alpha", "alpha: steps: 1, figure: 0.1", "alpha: steps: 2, figure: 0.4"
    ]  # fmt: skip
    assert EVIL in aloud(page, "ArrowDown") and "steps: 2" in aloud(page, "ArrowUp")  # the nearest of the next
    cells.focus()
    moves = ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp")
    told = [aloud(page, move).partition(":")[0] for move in moves]
    assert told == ["A, A", "A, B", "B, B", "B, A", "A, A", "A, A"]


def test_enter_opens_the_record_of_a_point_and_one_comes_back_to_it(visit):
    page = visit("board.html")
    picture = page.locator(f"#{SECTION} {WITH_POINTS}", has_text="beta, seed 2").first
    picture.focus()
    while "beta, seed 2" not in (told := aloud(page, "ArrowRight")):
        pass
    page.keyboard.press("Enter")
    assert "toy · beta · seed 2" in page.locator("dialog").inner_text() and not page.locator("#tip").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('svg.chart')")
    assert aloud(page, "ArrowRight") != told and aloud(page, "ArrowLeft") == told
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_every_point_has_a_text(visit):
    page = visit("board.html")
    bare = "[...document.querySelectorAll('main svg.chart [data-of] .point:not(:has(title))')]"
    arrows = f"{bare}.filter(e => !e.previousElementSibling?.classList.contains('interval')).length"
    assert page.evaluate(arrows) == 0 and page.locator("svg .point title").count() > 100


def test_the_theme_follows_the_system_and_a_button(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    page = visit("board.html", scheme="dark")
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150 < 700 < sum(map(int, re.findall(r"\d+", light)))
    page.reload()
    assert page.evaluate(ground) == light  # it is remembered
    page.emulate_media(media="print")
    page.locator("html").evaluate("e => e.dataset.theme = 'dark'")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["board.html", "run.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, scheme=scheme, size="narrow" if scheme == "dark" else "wide")
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    for opened in (False, True) if name == "board.html" else (False,):
        if opened:
            page.locator("#all .figure >> nth=0").click()
        found = Axe().run(page, context="dialog" if opened else None).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == []


def test_tab_goes_from_top_to_bottom(visit):
    page = visit("board.html")
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("(e => e.id || e.className || e.tagName)(document.activeElement)"))
    assert order[:5] == ["skip", "filter", "highlight", "theme", "SUMMARY"] and set(order[5:8]) == {"A"}
    assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0


def test_it_prints_on_a4(visit):
    page = visit("board.html")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # of paper, without its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert not page.locator("header.top").is_visible()
    paper = page.pdf(prefer_css_page_size=True)
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([\d. ]+)\]", paper)}
    assert {(round(wide), round(high)) for _, _, wide, high in sizes} == {(595, 842)}


def test_the_published_page_opens(browser):
    page = browser.new_page()
    troubles = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto((BOARD / "report.html").as_uri())
    records = page.evaluate("JSON.parse(document.getElementById('records').textContent).records.length")
    claims = json.loads((BOARD / "claims.json").read_text(encoding="utf-8"))["claims"]
    assert records > 280 and page.locator("#ledger details").count() == len(claims)
    page.locator("#ledger details summary").first.click()
    page.locator("#ledger details .figure").first.click()
    assert page.locator("dialog").is_visible() and troubles == []
    page.close()

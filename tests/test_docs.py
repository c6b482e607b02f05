"""README and docs/ are true: their commands parse, links lead somewhere, options are all there, examples work, and what
they quote of the published results is what stands there.
"""

import ast
import contextlib
import io
import re
import shlex

import pytest
from conftest import ROOT

from seqbench.baselines import BASELINES
from seqbench.cli import parse
from seqbench.models.mixer import MODELS
from seqbench.registry import load_plugin
from seqbench.task import TASKS

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
GROUPS = ("run", "tune", "list", "data show", "data prepare", "data fetch", "predict", "check", "leaderboard", "submit",
          "export", "claims", "config", "regress run", "regress compare", "regress trend")  # fmt: skip
PROBES = ("memory", "gradient", "cost", "parallel", "context", "copy", "published", "tracking")
EVERYWHERE = {"--help", "--json", "--version", "--plugin", "--debug"}


def text_of(page):
    return page.read_text(encoding="utf-8")


def commands_of(page):
    """What stands behind ``python run_bench.py``, in code blocks or in texts."""
    return re.findall(r"python run_bench\.py ([^`\n]*)", text_of(page))


COMMANDS = [(page.name, command) for page in PAGES for command in commands_of(page) if command[:1] != "C"]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page} {command[:50]}" for page, command in COMMANDS])
def test_every_command_that_is_shown_parses(page, command, monkeypatch):
    """Plug-ins are left out, but for that of a probe: some a reader is to write first, others are tested elsewhere."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)
    files = [i + 1 for i, word in enumerate(words[:-1]) if word == "--plugin"]
    assert all((ROOT / words[i]).is_file() for i in files if "/" in words[i])
    if words[0] != "probe" or words[1] in PROBES:
        words = [word for i, word in enumerate(words) if not {i, i + 1} & set(files)]
    try:
        assert callable(parse(words, "run_bench.py"))
    except SystemExit as leaving:  # after --help
        assert leaving.code == 0 and "--help" in words


def test_enough_commands_are_shown():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page):
    for target, _, place in re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?\)", text_of(page)):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if place:
            assert place in anchors(file), f"{page.name} links to {target}#{place}"


def anchors(page):
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_docs_is_linked_from_a_page_that_readers_begin_with():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", text_of(README) + text_of(ROOT / "CONTRIBUTING.md")))
    assert linked == {page.name for page in DOCS}


def test_readme_is_short():
    assert len(text_of(README).splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page):
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for line in prose.splitlines():
        assert len(line) <= 160 or line.startswith(("|", "![")), line


def test_readme_has_the_two_commands_of_a_beginner():
    """CI reads the second from README."""
    lines = text_of(README).splitlines()
    assert "pip install -r requirements.txt -e . && python run_bench.py --task dna --model lstm" in lines
    assert [line for line in lines if line.startswith("pip install -r requirements-dev.txt")] == [
        "pip install -r requirements-dev.txt -e . && pytest -n 2"
    ]


def options_of(command):
    """Names of the options that ``--help`` shows, without those that every command has and without negations."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        parse([*command.split(), "--help"], "run_bench.py")
    heads = re.findall(r"^│ (?:\*| )? *((?:[A-Z]+ )?--.*?)(?:  |│|$)", shown.getvalue(), flags=re.MULTILINE)
    named = {option for head in heads if head.startswith("--") for option in re.findall(r"--[a-z][a-z-]*", head)}
    return {option.replace("--no-", "--") for option in named} - EVERYWHERE


def options_in(heading):
    """Names of the options in the tables below a heading of the reference."""
    section = re.search(
        rf"^#+ {heading}\n(.*?)(?=^#|\Z)",
        re.sub(r"^```.*?^```", "", text_of(ROOT / "docs" / "commands.md"), flags=re.DOTALL | re.MULTILINE),
        flags=re.DOTALL | re.MULTILINE,
    )
    cells = re.findall(r"^\| (`--[^|]*) \|", section[1], flags=re.MULTILINE)
    return {option.replace("--no-", "--") for cell in cells for option in re.findall(r"--[a-z][a-z-]*", cell)}


@pytest.mark.parametrize("command", GROUPS)
def test_the_reference_has_all_options_of_a_command_and_no_other(command):
    assert options_in(command) == options_of(command)


@pytest.mark.parametrize("probe", PROBES)
def test_the_reference_has_all_options_of_a_probe_and_no_other(probe):
    assert options_in("Probes") | options_in(f"probe {probe}") == options_of(f"probe {probe}")


def test_readme_quotes_the_board_word_for_word():
    """The rows of the board's first table."""
    page = text_of(ROOT / "results" / "board" / "LEADERBOARD.md").replace("really better", "significantly better")
    first = [line for line in page[page.index("\n## ") :].split("\n\n")[1].splitlines() if line.startswith("|")]
    readme = text_of(README)
    section = readme[readme.index("## The leaderboard") : readme.index("## Ten sentences")]
    assert [line for line in section.splitlines() if line.startswith("|")] == first and len(first) > 5
    assert "](results/board/plots/" in section
    assert "minutes of training; more training may change it" in section  # no order of models without this


def test_readme_quotes_the_verdicts_of_the_ledger():
    ledger = text_of(ROOT / "results" / "board" / "CLAIMS.md")
    claims = re.findall(r"^\| (\d+) \| (.*?) \| .* \| \*\*(.*?)\*\*.* \|$", ledger, flags=re.MULTILINE)
    rows = re.findall(r"^\| (\d+) \| (.*?\.) \| ([^|]*) \|$", text_of(README), flags=re.MULTILINE)
    assert rows == [(number, sentence, verdict) for number, sentence, verdict in claims]
    assert len(rows) == 10


def test_what_was_found_unsound_is_not_said():
    said = " ".join(" ".join(text_of(page) for page in PAGES).split())
    assert "windows' statistics tell" not in said and "really better" not in said


def code_of(page):
    """The first block of Python on a page."""
    return re.search(r"^```python\n(.*?)^```", text_of(ROOT / "docs" / page), flags=re.DOTALL | re.MULTILINE)[1]


EXAMPLES = {"add-a-model.md": "running_mean.py", "add-a-task.md": "digits.py", "add-a-baseline.md": "nearest_mean.py"}


def test_the_examples_of_docs_load_as_plugins(tmp_path):
    registries = {"running-mean": MODELS, "digits": TASKS, "nearest-mean": BASELINES}
    try:
        for page, file in EXAMPLES.items():
            assert f"`{file}`" in text_of(ROOT / "docs" / page)
            (tmp_path / file).write_text(code_of(page), encoding="utf-8")
            load_plugin(tmp_path / file)
        assert all(registry.get(name) for name, registry in registries.items())
    finally:  # other tests count what is registered
        for name, registry in registries.items():
            if name in registry.names():
                registry.remove(name)


@pytest.mark.parametrize("page", ["add-a-model.md", "add-a-task.md"])
def test_the_code_that_a_page_begins_with_is_an_example(page):
    assert code_of(page) == text_of(ROOT / "examples" / EXAMPLES[page])


BLOCK = re.compile(r"^```(python)?\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def test_what_the_page_of_python_shows_works_and_prints_what_it_says(tmp_path, monkeypatch):
    """Figures of runs depend on the machine; those of the published board are the same everywhere."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "board").symlink_to(ROOT / "results" / "board")
    monkeypatch.chdir(tmp_path)
    names, code, printed = {}, "", ""
    for kind, text in BLOCK.findall(text_of(ROOT / "docs" / "python.md")):
        if kind:
            code, out = text, io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, "python.md", "exec"), names)
            printed = out.getvalue()
        elif "seqbench.run(" in code and "except" not in code:
            assert shape_of(printed) == shape_of(text)
        else:
            assert printed == text
    assert len(names["results"]) == 6 and names["df"].shape[0] == 335


def shape_of(text):
    """A text without its figures and the width of its columns."""
    return re.sub(r"[ -]+", " ", re.sub(r"-?\d[\d.]*", "0", text))


def test_the_map_of_the_house_is_complete():
    """Every file and folder that it names is there, and every one that is there is named."""
    named = re.findall(
        r"`((?:seqbench|tasks|tests|results|docs)/[\w./]*|run_bench\.py)`", text_of(ROOT / "docs" / "house.md")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
    inside = (
        path for path in (ROOT / "seqbench").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    )
    assert {path.name for path in inside if path not in {ROOT / name for name in named}} <= {"__init__.py"}


@pytest.mark.parametrize(
    "example", sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("docs/examples/*.py")]), ids=lambda path: path.name
)
def test_files_of_examples_are_shown_and_short(example):
    assert f"examples/{example.name}" in " ".join(text_of(page) for page in DOCS)
    assert len(text_of(example).splitlines()) <= 120 and ast.get_docstring(ast.parse(text_of(example)))


def test_the_workflow_that_is_shown_is_the_example():
    shown = re.search(r"```yaml\n(.*?)```", text_of(ROOT / "docs" / "regress.md"), flags=re.DOTALL)[1]
    assert shown == text_of(ROOT / "docs" / "examples" / "regress.yml")


def test_the_file_of_options_that_is_shown_is_the_example():
    shown = re.search(r"```toml\n(.*?)```", text_of(ROOT / "docs" / "commands.md"), flags=re.DOTALL)[1]
    assert shown == text_of(ROOT / "docs" / "examples" / "run.toml")

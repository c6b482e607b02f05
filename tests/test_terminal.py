"""What is printed in a terminal fits it, in a real pseudo-terminal of 80 columns; and elsewhere it stays plain."""

import contextlib
import io
import re
import sys

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from terminal import in_a_terminal, run_bench
from test_models import BUILT_IN

from seqbench.report import terminal as printing
from seqbench.report.terminal import print_path, print_table, print_text

TOYS = ROOT / "tests" / "toys.py"
SMALL = ("--plugin", TOYS, "--budget", "smoke", "--hidden", "8")
BREAKABLE = re.compile(r"/|^[0-9a-f]{64}$|^python run_bench")  # what may be copied is longer than a line, if need be


def check_fits(shown, columns=80):
    """No line is full to its end with a word that goes on in the next, and nothing is coloured."""
    assert shown.code == 0, shown.text
    written = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.raw.decode()).replace("\r\n", "\n")
    for line in re.split("[\n\r]", written):
        assert cell_len(line.rstrip()) <= columns or BREAKABLE.search(line.strip()), line
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|10[0-7])[0-9;]*m", shown.raw)
    return written


def words_of(text):
    """The words of cells and of prose: what stands in a plain table, too, between its lines."""
    return set(re.sub(r"\|[-:|]+\||\|", " ", text).split())


COMMANDS = [
    ("list",),
    ("data", "show", "weather"),
    ("data", "show", "fault"),
    ("data", "show", "dna"),
    ("claims", "--dry-run", "--budget", "smoke"),
    ("leaderboard", ROOT / "results" / "board"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(map(str, words[:3])))
def test_what_a_command_prints_fits_80_columns_and_no_word_is_broken(cli, tmp_path, words):
    if words[0] == "data":
        cli(*words)  # prepared before, so that no line of progress is on the screen
    shown = run_bench(*words, cwd=tmp_path)
    written = check_fits(shown)
    if words[0] != "leaderboard":  # there a terminal gets another text
        known = words_of(written) | {word.rstrip(":") for word in words_of(written)}  # names of a block have one
        folded = re.compile("[ACGT]{9,}")
        assert {word for word in words_of(cli(*words).stdout) - known if not folded.match(word)} == set()


def test_runs_grids_and_probes_fit_80_columns(tmp_path):
    alone = check_fits(run_bench("--task", "toy-wave", "--model", "gru", *SMALL, "--out", "out", cwd=tmp_path))
    assert "gru (this run)" in alone and "persistence" in alone and "record.json" in alone
    words = ("--task", "toy-wave,toy-first", "--model", "rnn,gru", "--seeds", 2, *SMALL, "--out", "out")
    assert "8 cells, 7 to run" in check_fits(run_bench(*words, "--dry-run", cwd=tmp_path))
    assert "mean over seeds" in check_fits(run_bench(*words, "--jobs", 2, cwd=tmp_path))
    probe = ("probe", "gradient", "--model", "rnn,lstm", "--budget", "smoke", "--out", "out")
    written = check_fits(run_bench(*probe, cwd=tmp_path))
    assert "Lyapunov" in written and "half-life" in written and "| model" not in written


def test_a_pipe_gets_one_row_on_each_line(cli, tmp_path):
    lines = cli("list", "models").stdout.splitlines()
    assert lines[1].startswith("| name") and lines[2].startswith("|--")
    assert [line.split()[1] for line in lines[3:] if line] == BUILT_IN
    done = cli("--task", "toy-wave", "--model", "gru", *SMALL)
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 5 and len({len(row) for row in rows}) == 1  # heading, rule, the run and two baselines


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_no_colour_is_asked_for_and_a_dumb_terminal_gets_text_alone(tmp_path, env):
    shown = run_bench("list", "models", cwd=tmp_path, env=env)
    check_fits(shown)
    assert (b"\x1b" in shown.raw) == ("TERM" not in env)  # bold headings are no colour


def test_a_narrow_terminal_shows_a_wide_table_row_by_row(tmp_path):
    written = check_fits(run_bench("list", "tasks", cwd=tmp_path, columns=40), 40)
    assert "name: dna\n  kind: classify\n" in written


def printed(monkeypatch, width, show):
    """What ``show()`` prints in a terminal of ``width`` columns."""
    stream = io.StringIO()
    monkeypatch.setattr(printing, "in_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    with contextlib.redirect_stdout(stream):
        show()
    return stream.getvalue()


CELL = st.lists(st.text("abcxyz019é_-%.", min_size=1, max_size=12), max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 9), st.integers(1, 5))
def test_any_table_fits_and_keeps_its_words(data, n_columns, n_rows):
    with pytest.MonkeyPatch.context() as monkeypatch:
        cells = CELL.map(" ".join)
        headers, *rows = (data.draw(st.tuples(*[cells] * n_columns)) for _ in range(1 + n_rows))
        shown = printed(monkeypatch, 80, lambda: print_table(headers, rows))
    assert all(cell_len(line.rstrip()) <= 80 for line in shown.splitlines())
    shown_words = [word.rstrip(":") for word in shown.split()] + shown.split()
    for cell in (cell for row in rows for cell in row):
        assert all(word in shown_words for word in cell.split()), cell


def test_a_text_with_tables_is_laid_out_and_its_prose_is_wrapped(monkeypatch):
    text = "A title\n\n| model   | edge |\n|---------|------|\n| a model | 12   |\n\n- " + "some words " * 12
    shown = printed(monkeypatch, 40, lambda: print_text(text)).splitlines()
    assert shown[:3] == ["A title", "", "model    edge"] and "|" not in "".join(shown)
    assert shown[4].split() == ["a", "model", "12"] and shown[4].endswith("12")
    assert shown[6].startswith("- some") and shown[7].startswith("  ") and max(map(len, shown)) <= 40
    broken = "| a | b |\n|---|---|\n| a | b | c |"
    assert printed(monkeypatch, 40, lambda: print_text(broken)).rstrip("\n") == broken


def test_a_path_is_never_broken_and_nothing_steers_the_terminal(monkeypatch):
    path = "/a folder/" + "deep/" * 20 + "record.json"
    assert printed(monkeypatch, 40, lambda: print_path("record  ", path)) == f"record\n{path}\n"
    assert printed(monkeypatch, 40, lambda: print_path("record  ", "a/b")) == "record  a/b\n"
    shown = printed(monkeypatch, 40, lambda: print_table(["a\x1b[31m"], [["red\x1b]0;title\x07\nnext"]]))
    assert "\x1b" not in shown and "\x07" not in shown


def test_help_does_not_import_rich():
    code = (
        "import sys, seqbench.cli.leaderboard, seqbench.cli.list, seqbench.report.terminal, seqbench.jobs.progress\n"
        "sys.exit('rich.live' in sys.modules or 'rich.table' in sys.modules)"
    )
    assert in_a_terminal([sys.executable, "-c", code]).code == 0


def test_a_short_board_is_printed_in_a_terminal_and_the_page_goes_to_a_file(cli, tmp_path):
    board = ROOT / "results" / "board"
    shown = run_bench("leaderboard", board, "--task", "dna,weather", "--model", "gru,rnn,lstm", cwd=tmp_path)
    written = check_fits(shown)
    assert written.startswith("Overview · quick · equal width (hidden 128)")
    table = re.search(r"^dna · quick · equal width.*?\n\n", written, flags=re.DOTALL | re.MULTILINE)[0]
    assert re.search(r"^ *1 +gru +0\.\d+ ± 0\.\d+ +positions, lstm", table, flags=re.MULTILINE)
    assert re.search(r"^ +positions \(baseline\) +0\.92", table, flags=re.MULTILINE)
    assert "bilstm" not in written and "sentiment" not in written
    assert "Of the models only gru, rnn and lstm are shown" in " ".join(written.split())
    command = written.splitlines()[-1].split("run_bench.py ")[1].split()
    assert (
        "**Of the models only gru, rnn and lstm are shown" in cli(*command).stdout or (tmp_path / "board.md").is_file()
    )
    page = (tmp_path / "board.md").read_text()
    assert page.startswith("# Leaderboard") and "bilstm" not in page
    asked = run_bench("leaderboard", board, "--format", "csv", "--budget", "quick", "--task", "dna", cwd=tmp_path)
    assert asked.lines[0].startswith("title,task,")


def test_the_board_is_filtered_in_every_format_and_an_unknown_name_is_answered(cli):
    board = ROOT / "results" / "board"
    page = cli("leaderboard", board, "--task", "dna", "--model", "gru,rnn").stdout
    assert "Of the models only gru and rnn are shown" in page and "transformer" not in page and "weather" not in page
    assert '"models": "gru,rnn"' in cli("leaderboard", board, "--model", "gru,rnn", "--format", "json").stdout
    lines = cli("leaderboard", board, "--model", "gru", "--format", "csv", "--task", "weather").stdout.splitlines()
    assert sum(",model,gru," in line for line in lines) == 1 and not any(",model,lstm," in line for line in lines)
    for words, says in (
        (("--task", "dan"), "unknown task 'dan': did you mean dna"),
        (("--model", "lsmt"), "did you mean lstm"),
        (("--budget", "full"), "unknown budget 'full': there are quick"),
        (("--task", "textgen", "--model", "gru,bilstm,"), "unknown model ''"),
    ):
        done = cli("leaderboard", board, *words)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


PROBES = ("memory", "gradient", "cost", "parallel", "context", "copy", "published", "tracking")
GROUPS = ("data", "data show", "data prepare", "data fetch", "probe", *(f"probe {name}" for name in PROBES))
HELP = ("", "run", "list", "predict", "check", "leaderboard", "claims", "config", *GROUPS)
COMMAND = "Every command"


@pytest.mark.parametrize("command", HELP)
def test_help_fits_80_columns_and_no_word_is_broken(command):
    shown = run_bench(*command.split(), "--help")
    written = check_fits(shown)
    wide = run_bench(*command.split(), "--help", columns=400)
    plain = [set(re.sub("[─│╭╮╰╯]", " ", text).split()) for text in (written, wide.text)]
    assert plain[0] == plain[1]
    if command not in ("", "data", "probe"):  # those of commands show options, in groups
        groups = re.findall(r"╭─ ([A-Z][a-z ]+?) ─", written)
        order = [
            "What",
            "Data",
            "Columns of your own table",
            "Model",
            "Training",
            "This command",
            "Machine",
            "Output",
            COMMAND,
        ]
        assert [group for group in groups if group in order] == sorted(groups, key=order.index), groups
        assert groups[-1] == COMMAND and (command == "config" or command == "predict" or len(groups) > 1)


def test_the_help_of_run_shows_what_is_needed_first():
    lines = run_bench("run", "--help").text.splitlines()
    options = [line for line in lines if re.match(r"│ .. ?--", line)]
    assert "--task NAME" in options[0] and "--model NAME" in options[1]


def test_a_terminal_that_is_too_narrow_still_shows_the_result(tmp_path):
    words = ("--task", "weather", "--model", "gru", "--budget", "smoke", "--hidden", "8")
    shown = run_bench(*words, columns=24, cwd=tmp_path)
    assert shown.code == 0 and "test rmse" in shown.text and "gru (this run)" in shown.text
    assert "Usage" in run_bench("run", "--help", columns=24).text

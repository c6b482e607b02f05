"""The published board is what its records say, and nothing else."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from seqbench.leaderboard import board, read_tables
from seqbench.leaderboard.plots import figure_files
from seqbench.store import Store

BOARD = ROOT / "results" / "board"
PAGE = BOARD / "LEADERBOARD.md"


@pytest.fixture(scope="module")
def plots():
    return figure_files(read_tables([BOARD]), BOARD / "plots")


def test_the_page_is_made_from_the_records(plots):
    assert PAGE.read_text(encoding="utf-8") == board([BOARD], "markdown", "all", BOARD, plots=plots)


def test_every_link_of_the_page_leads_to_what_it_shows(plots):
    targets = set(re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")))
    assert {str(path.relative_to(BOARD)) for path in plots.values()} < targets
    for target in targets:
        assert (BOARD / target).is_file(), target
    assert {folder / "record.json" for record, folder in Store(BOARD).records() if record.status == "ok"} <= {
        BOARD / target for target in targets
    }


def test_readme_quotes_the_page_word_for_word():
    """Rows of the overview, and of a table up to the column of parameters."""
    page = PAGE.read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    excerpt = readme[readme.index("LEADERBOARD.md](") : readme.index("](results/board/plots/")]
    rows = [line for line in excerpt.splitlines() if line.startswith("|")]
    assert len(rows) > 8
    for row in rows:
        assert any(line.startswith(row.rstrip("| ")) for line in page), row


def test_records_are_there_without_weights():
    assert not list(BOARD.rglob("*.safetensors")) and not list(BOARD.rglob("*.npz"))
    assert all(Path(path).stat().st_size < 1_000_000 for path in BOARD.rglob("*"))

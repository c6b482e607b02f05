"""The published board and the published ledger are what their records say, and nothing else."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from seqbench.claims_command import run_claims

from seqbench.board import load_results, make_tables, render
from seqbench.board.charts import picture_files
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store

BOARD = ROOT / "results" / "board"
PAGE = BOARD / "LEADERBOARD.md"
LEDGER = BOARD / "CLAIMS.md"


@pytest.fixture(scope="module")
def tables():
    return make_tables(load_results(BOARD))


@pytest.fixture(scope="module")
def plots(tables):
    return picture_files(tables, BOARD / "plots")


def test_the_page_is_made_from_the_records(tables, plots):
    assert PAGE.read_text(encoding="utf-8") == render(tables, base=BOARD, plots=plots)


def test_the_page_says_that_figures_belong_to_their_budget():
    head, _ = PAGE.read_text(encoding="utf-8").split("\n## ", 1)
    assert (
        "All figures belong to the budget in their heading" in head
        and "the order of the models may change" in " ".join(head.split())
    )


def test_every_link_of_the_page_leads_to_what_it_shows(plots):
    targets = set(re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")))
    assert {str(path.relative_to(BOARD)) for path in plots.values()} < targets
    for target in targets:
        assert (BOARD / target).is_file(), target
    assert {folder / "record.json" for record, folder in Store(BOARD).records(RunRecord) if record.status == "ok"} <= {
        BOARD / target for target in targets
    }


def test_readme_quotes_the_page_word_for_word():
    """Rows of the overview, and of a table up to the column of parameters."""
    page = PAGE.read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    begin = readme.index("LEADERBOARD.md](")
    excerpt = readme[begin : readme.index("](results/board/plots/", begin)]
    rows = [line for line in excerpt.splitlines() if line.startswith("|")]
    assert len(rows) > 8
    for row in rows:
        assert any(line.startswith(row.rstrip("| ")) for line in page), row


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The folder of a ledger that was written anew, from a copy of the records alone."""
    folder = tmp_path_factory.mktemp("published") / "board"
    shutil.copytree(BOARD, folder, ignore=shutil.ignore_patterns("*.png", "CLAIMS.md", "claims.json"))
    assert run_claims("quick", folder, folder, 1, "cpu", report=True) == 0
    return folder


def test_the_ledger_is_made_from_the_records(ledger):
    assert (ledger / "CLAIMS.md").read_text(encoding="utf-8") == LEDGER.read_text(encoding="utf-8")
    for picture in (ledger / "plots").glob("*.png"):
        assert (BOARD / "plots" / picture.name).is_file()


def test_the_ledgers_data_is_made_from_the_records(ledger):
    """To nine digits: on another machine sums may run in another order."""

    def rounded(value):
        return float(f"{value:.9g}") if isinstance(value, float) else value

    made, published = (
        json.loads(path.read_text(encoding="utf-8")) for path in (ledger / "claims.json", BOARD / "claims.json")
    )
    assert list(_leaves(made, rounded)) == list(_leaves(published, rounded))


def test_every_claim_has_a_figure_a_verdict_and_its_records():
    claims = json.loads((BOARD / "claims.json").read_text(encoding="utf-8"))["claims"]
    assert [claim["number"] for claim in claims] == list(range(1, 9))
    for claim in claims:
        assert claim["verdict"] not in ("", "incomplete"), claim["sentence"]
        assert any(condition["value"] is not None for condition in claim["conditions"]), claim["sentence"]
    for target in set(re.findall(r"\]\(([^)#]+)\)", LEDGER.read_text(encoding="utf-8"))):
        assert (BOARD / target).is_file(), target


def test_readme_quotes_the_ledger_word_for_word():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [1-8] \|.*\*\*.*$", readme, flags=re.MULTILINE)
    assert len(rows) == 8 and set(rows) <= set(LEDGER.read_text(encoding="utf-8").splitlines())


def test_records_are_there_without_weights():
    assert not list(BOARD.rglob("*.safetensors")) and not list(BOARD.rglob("*.npz"))
    assert all(Path(path).stat().st_size < 1_000_000 for path in BOARD.rglob("*"))


def _leaves(value, change):
    """What a nested structure holds, in order, with the keys above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner, change)
    elif isinstance(value, list):
        yield len(value)
        for inner in value:
            yield from _leaves(inner, change)
    else:
        yield change(value)

"""The published board and the published ledger are what their records say, and nothing else."""

import json
import re
import shutil
from pathlib import Path

import pytest
from board_records import picture_files
from conftest import ROOT

from seqbench.board import load_results, make_tables, render
from seqbench.board.html import board_page
from seqbench.cli.claims import Claims
from seqbench.jobs.record import RunRecord
from seqbench.jobs.store import Store

BOARD = ROOT / "results" / "board"
PAGE = BOARD / "LEADERBOARD.md"
LEDGER = BOARD / "CLAIMS.md"
REPORT = BOARD / "report.html"


@pytest.fixture(scope="module")
def tables():
    return make_tables(load_results(BOARD))


@pytest.fixture(scope="module")
def plots(tables):
    return picture_files(tables, BOARD / "plots")


def test_the_page_is_made_from_the_records(tables, plots):
    assert PAGE.read_text(encoding="utf-8") == render(tables, base=BOARD, plots=plots)


def test_the_page_for_a_browser_is_made_from_the_records(tables):
    made = board_page(tables, load_results(BOARD), [BOARD], BOARD)
    assert REPORT.read_text(encoding="utf-8") == made and len(made.encode()) < 3_000_000


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


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The folder of a ledger that was written anew, from a copy of the records alone."""
    folder = tmp_path_factory.mktemp("published") / "board"
    shutil.copytree(BOARD, folder, ignore=shutil.ignore_patterns("*.png", "CLAIMS.md", "claims.json", "charts.json"))
    assert Claims(out=folder, board=folder, device="cpu", report=True)() == 0
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


def test_the_ledgers_charts_are_made_from_the_records(ledger):
    """To five digits, for the same reason: more than a picture shows."""

    def rounded(value):
        return float(f"{value:.5g}") if isinstance(value, float) else value

    made, published = (json.loads((folder / "charts.json").read_text(encoding="utf-8")) for folder in (ledger, BOARD))
    assert list(_leaves(made, rounded)) == list(_leaves(published, rounded))


def test_every_claim_has_a_figure_a_verdict_and_its_records():
    claims = json.loads((BOARD / "claims.json").read_text(encoding="utf-8"))["claims"]
    assert [claim["number"] for claim in claims] == list(range(1, 11))
    for claim in (one for one in claims if one["verdict"] != "not measured"):
        assert claim["verdict"] not in ("", "incomplete"), claim["sentence"]
        assert any(condition["value"] is not None for condition in claim["conditions"]), claim["sentence"]
    for target in set(re.findall(r"\]\(([^)#]+)\)", LEDGER.read_text(encoding="utf-8"))):
        assert (BOARD / target).is_file(), target


def test_an_lstms_memory_of_text_is_told_by_nets_that_beat_n_grams_only():
    claims = json.loads((BOARD / "claims.json").read_text(encoding="utf-8"))["claims"]
    claim = next(claim for claim in claims if claim["number"] == 2)
    for condition in claim["conditions"]:
        assert condition["tested"] or "predicts this text no better" in condition["note"]
    assert claim["verdict"] != "refuted" or any(condition["tested"] for condition in claim["conditions"])


def test_records_are_there_without_weights():
    assert not list(BOARD.rglob("*.safetensors")) and not list(BOARD.rglob("*.npz"))
    assert all(Path(path).stat().st_size < 1_000_000 for path in BOARD.rglob("*") if path != REPORT)


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

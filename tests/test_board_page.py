"""What the board writes: Markdown, JSON and CSV that hold together, whatever the records say and wherever they lie."""

import csv
import io
import json
import math
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from board_records import board, data, grid, markdown_rows, model, rows_of, write

from seqbench.jobs.store import RECORD
from seqbench.report.text import NONE, decimals, escape, with_reach


def full_grid(root, **given):
    """Two tasks, two tracks, a trial, a diverged, a missing and a not applicable run."""
    for task in ("one", "two"):
        about = {"task__name": task, **given}
        grid(root, {"alpha": 0.9, "beta": 0.7}, **about)
        write(root, "alpha", 0, 0.95, val=0.1, rate=0.001, **about)
        model(root, "gamma", [0.8, None, 0.8], **about)
        write(root, "delta", 0, 0.8, **about)
        model(root, "omega", [None], **{**about, "status": "not_applicable", "reason": "sees the future"})
        model(root, "oom", [None], **{**about, "status": "oom", "reason": f"{given.get('cost__train_seconds')} GiB"})
    grid(root, {"alpha": 0.8}, task__name="one", config__hidden=None, config__params=1000, **given)
    return root


@pytest.mark.parametrize("fmt", ["markdown", "json", "csv"])
def test_quality_columns_depend_on_neither_machine_nor_moment(tmp_path, fmt):
    full_grid(tmp_path / "a")
    other = {
        "environment__device_name": "faster",
        "environment__python": "3.14.0",
        "environment__torch": "2.99",
        "environment__seqbench": "9.0.0",
        "environment__git_commit": "f" * 40,
        "environment__git_dirty": True,
        "cost__train_seconds": 1.5,
        "cost__cpu_seconds": None,
        "cost__tokens_per_second": 9e9,
        "cost__peak_memory_bytes": 77,
        "cost__interrupted": True,
        "started": "2027-01-01T00:00:00+00:00",
        "finished": "2027-01-01T00:00:10+00:00",
        "run": 3,
    }
    full_grid(tmp_path / "b", **other)
    for name, cut in (("a", tmp_path), ("b", tmp_path / "elsewhere")):
        (tmp_path / f"{name}.txt").write_text(board([tmp_path / name], fmt, "quality", cut))
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    assert board([tmp_path / "a"], fmt) != board([tmp_path / "b"], fmt)
    write(tmp_path / "b", "new", 0, 0.7)
    assert board([tmp_path / "b"], fmt, "quality") != (tmp_path / "a.txt").read_text()


def test_the_order_in_which_directories_are_named_does_not_matter(tmp_path):
    full_grid(tmp_path / "a")
    grid(tmp_path / "b", {"zeta": 0.6}, task__name="one")
    there, back = (board([tmp_path / a, tmp_path / b], columns="quality") for a, b in ("ab", "ba"))
    assert there == back


def test_markdown_tables_are_well_formed_and_links_lead_to_records(tmp_path):
    root = full_grid(tmp_path / "a store (of mine)")
    base = tmp_path / "pages" / "deep"
    base.mkdir(parents=True)
    text = board([root], base=base)
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.startswith("|")]
    assert len(blocks) >= 5
    for block in blocks:
        assert len({len(row) for row in markdown_rows(block)}) == 1
        assert re.fullmatch(r"(\| (:--|--:) )+\|", block.splitlines()[1])
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 20
    found = [(base / unquote(link)).resolve() for link in links]
    assert all(path.is_file() and path.name == RECORD for path in found)
    assert not Path(links[0]).is_absolute()


def test_links_hold_through_symbolic_links(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "deep" / "er" / "store")
    (tmp_path / "short").symlink_to(tmp_path / "deep" / "er", target_is_directory=True)
    (tmp_path / "page").symlink_to(tmp_path / "deep", target_is_directory=True)
    text = board([tmp_path / "short" / "store"], base=tmp_path / "page")
    (link,) = set(re.findall(r"\]\(([^)]*)\)", text))
    assert link.startswith("er/store/toy") and (tmp_path / "page" / link).is_file()


def test_every_record_can_be_reached_by_a_link(tmp_path):
    full_grid(tmp_path)
    text = board([tmp_path], base=tmp_path)
    linked = {(tmp_path / unquote(link)).resolve() for link in re.findall(r"\]\(([^)]*)\)", text)}
    assert linked == set(tmp_path.rglob(RECORD))


def test_what_records_say_cannot_become_markup(tmp_path):
    evil = "a | b\n| <script>alert(1)</script> [x](http://y) `code` **bold** $m$ ~~s~~ # \u202e &amp; " + "z" * 1000
    grid(tmp_path, {"alpha": 0.9}, task__options={"file": "<b>|x_|_y"}, primary__unit="<i>|")
    model(tmp_path, "beta", [None], reason=evil, task__options={"file": "<b>|x_|_y"}, primary__unit="<i>|")
    text = board([tmp_path])
    assert "<script" not in text and "<b>" not in text and "<i>" not in text and "\u202e" not in text
    assert "(http" not in re.sub(r"\\\]\(http", "", text) and "**bold**" not in text and "z" * 301 not in text
    assert len({len(row) for row in markdown_rows(text)}) == 1
    assert "&amp;amp;" in text and r"\|" in text


def test_json_is_strict_and_holds_what_the_board_rests_on(tmp_path):
    full_grid(tmp_path)

    def refuse(name):
        raise AssertionError(name)

    content = json.loads(board([tmp_path], "json", base=tmp_path), parse_constant=refuse)
    seeds = [seed for table in content["tables"] for row in table["rows"] for seed in row.get("seeds", ())]
    assert {seed["status"] for seed in seeds} == {"ok", "diverged", "missing", "not_applicable", "oom"}
    assert all((tmp_path / seed["record"]).is_file() for seed in seeds if seed["status"] != "missing")
    first = rows_of(content["tables"][0])["alpha"]
    assert [seed["value"] for seed in first["seeds"]] == [0.9, 0.901, 0.899]


def test_csv_has_one_line_a_row_and_no_formulas(tmp_path):
    full_grid(tmp_path, primary__unit="=1+1")
    lines = list(csv.DictReader(io.StringIO(board([tmp_path], "csv"))))
    assert len(lines) == sum(len(table["rows"]) for table in data(tmp_path)["tables"])
    (alpha,) = [line for line in lines if line["label"] == "alpha" and line["track"].startswith("equal par")]
    assert float(alpha["value"]) == 0.8 and alpha["rank"] == "1" and alpha["records"].count(RECORD) == 3
    assert {line["unit"] for line in lines} == {"'=1+1"}
    assert {line["row"] for line in lines} == {"model", "baseline"}
    assert float(min(lines, key=lambda line: float(line["skill"] or 0))["skill"]) <= 0


def test_baselines_that_records_disagree_about_are_named(tmp_path):
    write(tmp_path)
    write(tmp_path, "beta", baselines={"majority": 0.5, "tfidf": 0.76})
    assert "Records disagree about tfidf" in board([tmp_path])


def test_conditions_stand_above_and_versions_only_with_all_columns(tmp_path):
    grid(tmp_path, {"alpha": 0.9}, environment__git_commit="abcdef0123" * 4)
    text, quality = board([tmp_path]), board([tmp_path], columns="quality")
    for words in (
        "toy version 1 (classify)", "SHA-256 000000000000", "accuracy, higher is better", "200 test examples",
        "budget quick, 400 steps of 32 sequences", "cpu, fp32, 1 thread(s)", "skill is 0 for majority",
    ):  # fmt: skip
        assert words in text and words in quality
    for words in ("this machine", "torch 2.13.0", "seqbench 0.1.0 at abcdef012", "train s", "record.json"):
        assert words in text and words not in quality


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (escape("bits_per_character"), "bits_per_character"),
        (escape("_x_ *y*"), r"\_x\_ \*y\*"),
        (escape("a\nb\tc"), "a b c"),
        (decimals((0.84, 0.80, 0.02), (0.01, 0.002)), 4),
        (decimals((0.84,), (0.00002,)), 5),
        (decimals((3.5, 4.0), ()), 3),
        (decimals((12345.0,), (7.0,)), 0),
        (decimals((0.0,), (0.0, math.nan)), 3),
        (with_reach(0.8475, 0.0081, 4), "0.8475 ± 0.0081"),
        (with_reach(-0.0001, math.nan, 3), "0.000"),
        (with_reach(12345.6, 7.0, 0), "12,346 ± 7"),
        (with_reach(0.0, 0.0, 3), "0.000"),
        (with_reach(math.nan, math.nan, 3), NONE),
    ],
)
def test_names_stay_readable_and_decimals_suit_values_and_intervals(text, expected):
    assert text == expected

"""Bundles: what is packed is verified by whoever reads it, and a bundle that lies is refused with what differs."""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest

import seqbench
from seqbench.board import bundle
from seqbench.board.bundle import pack, unpacked
from seqbench.cli import main
from seqbench.errors import UserError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one model on data that comes with seqbench."""
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        seqbench.run("stock", "gru", budget="smoke", hidden=(8,), seed=seed, out=out)
    return out


@pytest.fixture
def records(runs, tmp_path):
    """A copy of them that a test may change."""
    return shutil.copytree(runs, tmp_path / "records")


def folders(records):
    return sorted(path.parent for path in records.rglob("record.json"))


def packed(records, tmp_path, name="theirs.zip"):
    pack([records], tmp_path / name)
    return tmp_path / name


def altered(good, out, change):
    """A bundle with other content and the hashes of it, as somebody would make it who wants to be believed."""
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop(bundle.MANIFEST))
    files = change(files) or files
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {bundle.MANIFEST: json.dumps(manifest).encode(), **files}.items():
            archive.writestr(name, data)
    return out


def test_a_bundle_stands_on_a_board_as_rows_of_its_own(runs, records, tmp_path, capsys):
    theirs = packed(records, tmp_path)
    again = packed(runs, tmp_path, "again.zip")
    assert theirs.read_bytes() == again.read_bytes()
    frame = seqbench.load_results([runs, theirs])
    assert len(frame) == 4 and frame.verified.all()
    assert sorted(frame.bundle.notna()) == [False, False, True, True]
    assert main(["leaderboard", str(runs), str(theirs), "--format", "markdown"]) == 0
    page = capsys.readouterr().out
    assert "| gru [theirs] |" in page.replace("\\", "") and "| gru |" in page and "theirs.zip" in page
    assert "their predictions were scored anew here" in page
    assert "gru [theirs]" in str(seqbench.leaderboard(frame))
    assert main(["leaderboard", str(runs), str(theirs), "--out", str(tmp_path / "board.html")]) == 0
    text = (tmp_path / "board.html").read_text()
    assert "theirs.zip: stock/gru/smoke-seed0" in text and "bundles/" not in text


def test_the_command_packs_single_records_too(records, tmp_path, capsys):
    one = folders(records)[0]
    assert main(["submit", str(one / "record.json"), "--out", str(tmp_path / "one.zip")]) == 0
    assert "1 record, verified" in capsys.readouterr().out
    assert len(list(unpacked(tmp_path / "one.zip").rglob("record.json"))) == 1


def test_what_is_in_a_bundle_is_what_verifies_it(records, tmp_path):
    with zipfile.ZipFile(packed(records, tmp_path)) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    assert names == {bundle.MANIFEST, "record.json", "curve.jsonl", "predictions.npz", "leave-one-out.npy"}


def edited(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def rise(record):
    primary = record["primary"]
    primary["value"] = record["metrics"]["test"][primary["name"]] = 0.5
    reference = record["baselines"][primary["reference"]]
    record["skill"] = (0.5 - reference) / (primary["perfect"] - reference)


def test_a_record_that_says_more_than_its_predictions_is_refused_with_the_figure(records, tmp_path):
    good = packed(records, tmp_path)

    def change(files):
        name = min(name for name in files if name.endswith("record.json"))
        record = json.loads(files[name])
        rise(record)
        files[name] = json.dumps(record).encode()

    with pytest.raises(UserError, match=r"lying\.zip is refused: .*its relative_rmse is 0.5, but computed .* 1\."):
        seqbench.load_results(altered(good, tmp_path / "lying.zip", change))
    edited(folders(records)[0] / "record.json", rise)
    with pytest.raises(UserError, match=r"its relative_rmse is 0\.5, but computed"):  # nor is it packed
        pack([records], tmp_path / "new.zip")


def test_a_baseline_that_was_made_worse_is_refused(records, tmp_path):
    def change(files):
        for name in [name for name in files if name.endswith("record.json")]:
            record = json.loads(files[name])
            best = min(set(record["baselines"]) - {record["primary"]["reference"]})
            record["baselines"][best] = 3.0
            files[name] = json.dumps(record).encode()
            files.pop(name.replace("record.json", "leave-one-out.npy"))

    with pytest.raises(UserError, match="is refused"):
        seqbench.load_results(altered(packed(records, tmp_path), tmp_path / "low.zip", change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record["baselines"].pop("ridge"), "in ridge, which is not there"),
        (lambda record: record["baselines"].update(oracle=1.002), "in oracle, which is none of the task's"),
        (lambda record: record["primary"].update(perfect=0.999), "not told by relative_rmse and its skill over"),
        (lambda record: record["primary"].update(direction="higher"), "not told by relative_rmse and its skill over"),
    ],
)
def test_what_skill_is_told_by_can_not_be_chosen(records, tmp_path, change, words):
    """Though nothing in the record contradicts the rest of it."""
    folder = folders(records)[0]

    def consistent(record):
        change(record)
        primary = record["primary"]
        reference = record["baselines"][primary["reference"]]
        record["skill"] = (primary["value"] - reference) / (primary["perfect"] - reference)
        kept = np.load(folder / "leave-one-out.npy")
        rows = 1 + len(record["baselines"])
        np.save(folder / "leave-one-out.npy", np.resize(kept, (rows, kept.shape[1])))

    edited(folder / "record.json", consistent)
    with pytest.raises(UserError, match=words):
        pack([folder], tmp_path / "new.zip")


def test_targets_that_are_not_those_of_the_test_split_are_refused(records, tmp_path):
    """Even where predictions, targets and figures agree with each other."""
    path = folders(records)[0] / "predictions.npz"
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    arrays["target"] = arrays["target"][::-1].copy()
    np.savez(path, **arrays)

    def consistent(record):
        from seqbench.data import read_predictions
        from seqbench.task import TASKS

        figures = TASKS.get("stock").score(*read_predictions(path.parent))
        record["metrics"]["test"].update(figures)
        record["primary"]["value"] = figures["relative_rmse"]
        reference = record["baselines"][record["primary"]["reference"]]
        record["skill"] = (figures["relative_rmse"] - reference) / (record["primary"]["perfect"] - reference)

    edited(path.parent / "record.json", consistent)
    with pytest.raises(UserError, match="its targets are not those of the test split of stock"):
        pack([records], tmp_path / "new.zip")


def test_without_predictions_nothing_is_packed(records, tmp_path):
    (folders(records)[0] / "predictions.npz").unlink()
    with pytest.raises(UserError, match="has no predictions beside it"):
        pack([records], tmp_path / "new.zip")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside/a/b/run-1/record.json", "which no bundle has"),
        ("a/b/c/run-1/../record.json", "which no bundle has"),
        ("a/b/c/run-1/evil.py", "which no bundle has"),
        ("/a/b/c/run-1/record.json", "which no bundle has"),
        ("a/../c/run-1/record.json", "which no bundle has"),
    ],
)
def test_strange_names_are_refused_and_nothing_is_written(records, tmp_path, name, words):
    bad = altered(packed(records, tmp_path), tmp_path / "bad.zip", lambda files: {**files, name: b"x"})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        unpacked(bad)
    assert set(tmp_path.rglob("*")) == before


def test_what_is_no_bundle_is_one_sentence(records, tmp_path, monkeypatch):
    good = packed(records, tmp_path)
    (tmp_path / "text.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    cut = tmp_path / "cut.zip"
    cut.write_bytes(good.read_bytes()[:-500])
    swapped = altered(good, tmp_path / "swapped.zip", lambda files: None)
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(swapped, "w") as other:
        for one in archive.namelist():
            other.writestr(one, archive.read(one) + (b" " if one.endswith("curve.jsonl") else b""))
    for path, words in (
        (tmp_path / "text.zip", "is damaged, or no bundle"),
        (tmp_path / "empty.zip", "has no bundle.json"),
        (cut, "is damaged, or no bundle"),
        (swapped, "is not what its manifest says"),
        (tmp_path / "missing.zip", "can't be read"),
    ):
        with pytest.raises(UserError, match=words):
            seqbench.load_results([path])
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="too much"):
        unpacked(altered(good, tmp_path / "large.zip", lambda files: None))
    with pytest.raises(UserError, match=r"must end in \.zip"):
        pack([records], tmp_path / "bundle.tar")
    with pytest.raises(UserError, match="no records in"):
        pack([tmp_path / "nowhere"], tmp_path / "none.zip")

"""The table beside peers, through its real command: the nets are the same, and the report is made from the JSON."""

import importlib
import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import ROOT

INSTALLED = {"lightning": "lightning", "keras-tensorflow": "tensorflow", "keras-jax": "jax"}


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)


def measured(folder, rows: str, peers: str) -> dict:
    done = command(
        "benchmarks.peers", "--rows", rows, "--peers", peers, "--block", "0.001", "--rounds", "2", "--out", folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "peers-1-thread.json").read_text())["rows"]


def test_seqbench_and_bare_torch_train_the_same_net_and_are_reported(tmp_path):
    row = measured(tmp_path, "tiny bilstm", "seqbench,torch")["tiny bilstm"]
    losses = [row["peers"][peer]["loss"] for peer in ("seqbench", "torch")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for own in row["peers"].values():
        assert own["start_up"] > 0 and own["peak_memory"] > 2**20 and own["steps"] >= 1 and len(own["seconds"]) == 2

    page = (tmp_path / "PEERS.md").read_text()
    assert "| tiny bilstm |" in page
    for name in ("PEERS.md", "peers.png"):
        (tmp_path / name).unlink()
    again = command("benchmarks.peers", "--report", "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "PEERS.md").read_text() == page and (tmp_path / "peers.png").stat().st_size > 1000
    there = command("benchmarks.peers", "--rows", "tiny bilstm", "--peers", "torch", "--out", tmp_path)
    assert there.stdout.strip() == "tiny bilstm: is there"


@pytest.mark.parametrize("peer", INSTALLED)
def test_other_peers_train_the_same_net(tmp_path, peer):
    if importlib.util.find_spec(INSTALLED[peer]) is None:
        pytest.skip(f"{INSTALLED[peer]} is not installed")
    row = measured(tmp_path, "tiny gru", f"seqbench,{peer}")["tiny gru"]
    assert row["peers"][peer]["loss"] == pytest.approx(row["peers"]["seqbench"]["loss"], rel=1e-4)


def test_a_row_whose_first_losses_differ_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    disagreement = importlib.import_module("benchmarks.peers.measure").disagreement

    def said(*losses):
        return disagreement({str(i): {"loss": loss} for i, loss in enumerate(losses)})

    assert not said(1.0, 1.00009) and "differ" in said(1.0, 1.0002) and "differ" in said(1.0, float("nan"))
    assert not disagreement({"a": {"loss": 1.0}, "b": {"failed": "no such module"}})
    assert disagreement({"b": {"failed": "no such module"}}) == "no peer could be started"


def test_limits_are_measured_and_reported(tmp_path):
    done = command("benchmarks.limits", "--rows", "tiny lstm", "--block", "0.01", "--rounds", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "limits.json").read_text())["rows"]["tiny lstm"]
    assert row["rate"] > 0 and list(row["step_products"]) == ["4 x 8 by 8 x 32"]
    assert "| tiny lstm |" in (tmp_path / "LIMITS.md").read_text()

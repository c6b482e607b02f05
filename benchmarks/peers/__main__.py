"""The command: measures the rows that are not there yet, then writes the page and the picture. See ../README.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import ROOT, Failed, measure_row
from benchmarks.peers.report import write_report
from benchmarks.peers.rows import Row, pick
from benchmarks.peers.worker import PEERS
from seqbench.disk import replace_file

DEFAULT = tuple(name for name in PEERS if name != "seqbench-torch")


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rows", default="all", help="rows or groups of rows, with commas (default: all)")
    parser.add_argument("--peers", default=",".join(DEFAULT), help=f"of {', '.join(PEERS)} (default: %(default)s)")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="of each peer (default: 1)")
    parser.add_argument("--block", type=float, default=5.0, help="seconds of a block of steps (default: 5)")
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each peer (default: 9)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "peers", help="folder (default: results/peers)")
    parser.add_argument("--force", action="store_true", help="measure rows anew that are there")
    parser.add_argument("--report", action="store_true", help="only write page and picture from what was measured")
    asked = parser.parse_args()
    asked.peers = asked.peers.split(",")
    if unknown := set(asked.peers) - set(PEERS):
        parser.error(f"--peers {','.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    if asked.block <= 0 or asked.rounds < 1:
        parser.error("--block must be above 0, and --rounds at least 1")
    return asked


def missing(kept: dict[str, Any], row: Row, asked: Sequence[str]) -> list[str]:
    """The peers with which ``row`` is to be measured: none if it was, with all those ``asked`` for.

    Ratios are of blocks that were measured in turns, so one peer more means the whole row anew, with those it had.
    """
    there = kept[row.name]["peers"] if row.name in kept else {}
    if all("failed" not in there.get(peer, {"failed": "never tried"}) for peer in asked):
        return []
    return [peer for peer in PEERS if peer in there or peer in asked]


def say(line: str) -> None:
    """At once, also into a file."""
    print(line, flush=True)


def main() -> None:
    """Measure and report."""
    asked = options()
    path = asked.out / f"peers-{asked.threads}-thread{'s' if asked.threads > 1 else ''}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else {}
    refused = []
    for row in () if asked.report else pick(asked.rows):
        peers = asked.peers if asked.force else missing(kept, row, asked.peers)
        if not peers:
            say(f"{row.name}: is there")
            continue
        say(f"{row.name}, {asked.threads} thread{'s' if asked.threads > 1 else ''}")
        try:
            measured = measure_row(row, peers, asked.threads, asked.block, asked.rounds, say)
        except Failed as error:  # in the middle of it
            measured = {"refused": str(error)}
        if "refused" in measured:
            say(f"  refused: {measured['refused']}")
            refused.append(row.name)
            continue
        kept[row.name] = measured
        write_rows(path, asked.threads, kept)
        write_report(asked.out)
    if asked.report:
        write_report(asked.out)
    if refused:
        raise SystemExit(f"refused: {', '.join(refused)}")


def write_rows(path: Path, threads: int, rows: dict[str, Any]) -> None:
    """Replace the file of so many threads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"threads": threads, "rows": rows}, indent=1, allow_nan=False)
    replace_file(path, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()

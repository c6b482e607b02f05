"""The command: measures the rows that are not there yet, then writes the page and the picture. See ../README.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import ROOT, measure_row
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


def is_there(kept: dict[str, Any], row: Row, peers: Sequence[str]) -> bool:
    """Whether ``row`` was measured with all of ``peers``."""
    return row.name in kept and set(peers) <= set(kept[row.name]["peers"])


def main() -> None:
    """Measure and report."""
    asked = options()
    path = asked.out / f"peers-{asked.threads}-thread{'s' if asked.threads > 1 else ''}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else {}
    refused = []
    for row in () if asked.report else pick(asked.rows):
        if is_there(kept, row, asked.peers) and not asked.force:
            print(f"{row.name}: is there")
            continue
        print(f"{row.name}, {asked.threads} thread(s)", flush=True)
        measured = measure_row(
            row, asked.peers, asked.threads, asked.block, asked.rounds, lambda s: print(s, flush=True)
        )
        if "refused" in measured:
            print(f"  refused: {measured['refused']}")
            refused.append(row.name)
            continue
        kept[row.name] = measured
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"threads": asked.threads, "rows": kept}, indent=1, allow_nan=False)
        replace_file(path, lambda file, text=text: file.write(text.encode()))
        write_report(asked.out)
    if asked.report:
        write_report(asked.out)
    if refused:
        raise SystemExit(f"refused: {', '.join(refused)}")


if __name__ == "__main__":
    main()

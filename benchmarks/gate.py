"""Does the gate itself hold? ``python -m benchmarks.gate`` compares a revision with itself, many times, and with itself
made slower or worse, and counts the alarms.

A comparison is one benchmark, in processes of its own as `regress run` has them. To make a side slower, each training
step waits, once the optimiser is done, for a share of the time since its forward pass began: so it takes that share
longer, whatever it costs on this machine. With ``--busy`` another process computes now and then, for
seconds at a time, as neighbours do. ``--worse`` commits a mistake to a clone and lets `regress run` train its grid.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from seqbench.disk import replace_file
from seqbench.gate.measure import MOST, measure_times
from seqbench.gate.revisions import Installed, Order, install_both, revisions, workroom
from seqbench.gate.verdict import LEAST, Change, Limits
from seqbench.report.text import listed, table

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "board"
NODES = [f"test_{step}_step[{model}-small]" for step in ("training", "inference") for model in
         ("rnn", "lstm", "gru", "bilstm", "transformer")] + ["test_training_step[rnn-real]"]  # fmt: skip
SLOWED = [node for node in NODES if "training" in node]
SLOW = """

def _wait_in_each_step(share):
    import time

    from torch.optim.optimizer import register_optimizer_step_post_hook

    forward, began = SequenceModel.forward, time.perf_counter()

    def watched(self, *given, **named):
        nonlocal began
        began = time.perf_counter()
        return forward(self, *given, **named)

    def wait(*_):
        until = time.perf_counter()
        until += share * (until - began)
        while time.perf_counter() < until:
            pass

    SequenceModel.forward = watched
    register_optimizer_step_post_hook(wait)


_wait_in_each_step({share})
"""


IDENTITY = ("-c", "user.name=gate", "-c", "user.email=gate@localhost", "-c", "commit.gpgsign=false")
MISTAKES = {  # file, what stands there, what stands there by mistake
    "the forget gate of the LSTM is wired to its input gate": (
        "seqbench/models/kernels/cells.h", "c1 = f * c0 + i * u", "c1 = i * c0 + i * u",
    ),
    "dropout is applied twice": (
        "seqbench/models/backbone.py", "self.dropout(y)", "self.dropout(self.dropout(y))",
    ),
}  # fmt: skip


def make_slower(side: Installed, share: float) -> None:
    """Change what is installed on one side."""
    file = side.path[0] / "seqbench" / "models" / "backbone.py"
    file.write_text(file.read_text() + SLOW.replace("{share}", repr(share)))


@contextmanager
def neighbour(*, busy: bool) -> Iterator[None]:
    """Another process that computes now and then."""
    if not busy:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_compute, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _compute() -> None:
    """For 1 to 8 seconds, then a pause of as many."""
    chance = random.Random(0)
    while True:
        until = time.monotonic() + chance.uniform(1, 8)
        while time.monotonic() < until:
            sum(range(100_000))
        time.sleep(chance.uniform(1, 8))


def compare_once(sides: tuple[Installed, Installed], node: str, work: Path) -> dict[str, Any]:
    """One comparison of one benchmark."""
    plan = Order(Path("tests/benchmarks"), only=(node,), limits=Limits())
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started = time.monotonic()
        changes = measure_times(ROOT, sides, plan, Path(folder), lambda line: None)
        seconds = time.monotonic() - started
    timed = next(change for change in changes if change.kind == "time")
    return {
        "node": node,
        "seconds": round(seconds, 2),
        "verdict": timed.verdict,
        "memory": next((change.verdict for change in changes if change.kind == "memory"), None),
        "ratio": timed.ratio,
        "p": timed.p,
        "processes": timed.processes[0],
        "alarm": any(_alarm(change) for change in changes),
    }


def _alarm(change: Change) -> bool:
    """Something that would have stopped a pull request."""
    return change.bad


def run_series(slower: float, times: int, machine: str, *, busy: bool, path: Path) -> None:
    """Compare ``times`` times; a line is written after each, and what is there already is not measured again."""
    name = f"{slower:g}, {machine}"
    known = json.loads(path.read_text()) if path.is_file() else {"series": {}}
    series = known["series"].setdefault(name, {"slower": slower, "machine": machine, "most": 2 * MOST, "runs": []})
    nodes = SLOWED if slower else NODES
    with workroom() as work, neighbour(busy=busy):
        base, head = revisions(ROOT, "HEAD", "HEAD")
        sides = install_both(ROOT, (base, head), Order(Path("tests/benchmarks")), work, print)
        if slower:
            make_slower(sides[1], slower)
        while len(series["runs"]) < times:
            run = compare_once(sides, nodes[len(series["runs"]) % len(nodes)], work)
            series["runs"].append(run)
            known["commit"] = base.commit
            text = json.dumps(known, indent=1) + "\n"
            replace_file(path, lambda file, text=text: file.write(text.encode()))
            print(len(series["runs"]), run, flush=True)


def run_mistakes(path: Path) -> None:
    """Each mistake as a commit of its own in a clone, and what `regress run` says of it."""
    known = json.loads(path.read_text()) if path.is_file() else {"series": {}}
    known["mistakes"] = {}
    for name, (file, right, wrong) in MISTAKES.items():
        with tempfile.TemporaryDirectory() as folder:
            clone, out = Path(folder) / "clone", Path(folder) / "out"
            _git(ROOT, "clone", "-q", str(ROOT), str(clone))
            text = (clone / file).read_text()
            if right not in text:
                raise SystemExit(f"{file} has no {right!r} any more: write down the mistake anew.")
            (clone / file).write_text(text.replace(right, wrong))
            _git(clone, *IDENTITY, "commit", "-qam", name)
            words = ["regress", "run", "--base", "HEAD~1", "--head", "HEAD", "--processes", "0", "--out", str(out)]
            done = subprocess.run([sys.executable, str(ROOT / "run_bench.py"), *words], cwd=clone)
            rows = json.loads((out / "regress.json").read_text())["rows"]
        known["mistakes"][name] = {"exit code": done.returncode, "rows": rows}
        replace_file(path, lambda file, known=known: file.write((json.dumps(known, indent=1) + "\n").encode()))


def _git(repository: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(repository), *words], check=True)


def report(path: Path) -> list[str]:
    """The page."""
    known = json.loads(path.read_text())
    rows = []
    for one in known["series"].values():
        runs = one["runs"]
        alarms = sum(run["alarm"] for run in runs)
        rows.append(
            [
                f"slower by {one['slower']:.0%}" if one["slower"] else "itself",
                one["machine"],
                str(len(runs)),
                str(alarms),
                f"{median(run['ratio'] for run in runs):.3f}",
                f"{min(run['ratio'] for run in runs):.3f} to {max(run['ratio'] for run in runs):.3f}",
                f"{median(run['seconds'] for run in runs):.1f} s",
                str(sum(run["processes"] > 8 for run in runs)),
                str(one["most"]),
            ]
        )
    headers = ["compared with", "the machine", "comparisons", "alarms", "median ratio", "all ratios",
               "median duration", "measured again", "processes on a side"]  # fmt: skip
    return [
        "# The gate, tested",
        "",
        "A revision was compared with itself, and with itself made slower, one benchmark at a time, as `regress run` "
        f"does it: 8 processes on each side, at least {LEAST} of which a rank test needs; an alarm needs p < "
        f"{Limits().alpha:g} and a ratio of at least {Limits().factor:.2f}. Where 8 left it open, or said slower, more "
        "were measured: at most as many as the last column says, which was raised once.",
        "",
        *table(headers, rows, left=headers[:2]),
        "",
        *_mistakes(known),
        f"Made by `python -m benchmarks.gate` on {known['device']} from {listed(_nodes(known))}.",
        "",
    ]


def _mistakes(known: dict[str, Any]) -> list[str]:
    """What the grid of training said of each mistake."""
    rows = [
        [
            name,
            row["name"],
            f"{row['before']:.4g}",
            f"{row['after']:.4g}",
            f"{row['low']:+.3g} to {row['high']:+.3g}",
            row["verdict"],
            str(one["exit code"]),
        ]
        for name, one in known.get("mistakes", {}).items()
        for row in one["rows"]
        if row["kind"] == "quality"
    ]
    headers = ["mistake", "run", "before", "after", "difference, 95%", "verdict", "exit code"]
    if not rows:
        return []
    said = "Mistakes were committed to a clone, and the grid of training (5 seeds at `smoke`) was compared:"
    return [said, "", *table(headers, rows, left=headers[:2]), ""]


def _nodes(known: dict[str, Any]) -> list[str]:
    return sorted({f"`{run['node']}`" for one in known["series"].values() for run in one["runs"]})


def main() -> None:
    """Measure one series, then write the page of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slower", type=float, default=0.0, help="share of a step that the head waits, such as 0.2")
    parser.add_argument("--times", type=int, default=200, help="comparisons")
    parser.add_argument("--busy", action="store_true", help="while another process computes now and then")
    parser.add_argument("--machine", help="what else the machine does, in words")
    parser.add_argument("--worse", action="store_true", help="commit mistakes that cost quality, in place of the times")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of gate.json and GATE.md")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "gate.json"
    if options.worse:
        run_mistakes(path)
    elif not options.report:
        machine = options.machine or ("a process computes now and then" if options.busy else "idle")
        run_series(options.slower, options.times, machine, busy=options.busy, path=path)
    known = json.loads(path.read_text())
    known.setdefault("device", _device())
    replace_file(path, lambda file: file.write((json.dumps(known, indent=1) + "\n").encode()))
    replace_file(options.out / "GATE.md", lambda file: file.write("\n".join(report(path)).encode()))


def _device() -> str:
    import torch

    from seqbench.device import device_name

    return device_name(torch.device("cpu"))


if __name__ == "__main__":
    main()

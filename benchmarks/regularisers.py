"""What recurrent dropout, zoneout and the constraint of norms cost, and whether they help where plain cells overfit.

    python -m benchmarks.regularisers cost [--rounds N]
    python -m benchmarks.regularisers study [--jobs N] [--dry-run]
    python -m benchmarks.regularisers report

`cost` times a training step of one layer (masks, forward, backward, the constraint) with each regulariser beside the
plain one, on this package's kernels, on one thread. They take turns, every second round in the opposite order, and the
median of a regulariser's time over the plain one's in the same round counts.

`study` trains two cells on the two tasks on which they overfit at `quick` (on the board, without these options, the
validation score is best after half or two thirds of the steps and worse at the end), each plain and with each
regulariser at three strengths, with five seeds. Nothing else is to hide what they do, so dropout between layers is off;
the dropout of the board is one more of those compared. The same command goes on where it was. `report` writes
STUDY.md: of each regulariser the strength that is best on validation, in the mean over seeds, stands there with what it
changes on the test.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqbench.board import load_results
from seqbench.board.frame import Result, results_of
from seqbench.cli import main as run_command
from seqbench.device import device_name, settings
from seqbench.disk import replace_file
from seqbench.models.dropout import Chance
from seqbench.models.mixer import MODELS, Regularisers
from seqbench.probes import Request
from seqbench.report.text import format_value, rounded, table, with_interval
from seqbench.stats import Interval, estimate, holm
from seqbench.training import limit_norms

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "regularisers"
CELLS = ("rnn", "lstm", "gru", "bilstm")
SHAPES = ((32, 64), (64, 128), (32, 256))  # batch and width; the second is the board's
LENGTH = 128
ASKED = {
    "plain": Regularisers(),
    "recurrent dropout": Regularisers(recurrent_dropout=0.25),
    "zoneout": Regularisers(zoneout=(0.15,)),
    "both": Regularisers(0.25, (0.15,)),
    "max-norm": Regularisers(max_norm=1.0),
}


# --- what they cost --------------------------------------------------------------------------------------------------


def step(model: str, batch: int, width: int, asked: Regularisers) -> Callable[[], None]:
    """A training step of one layer of ``model``."""
    mixer = MODELS.get(model).mixer(width, width, model != "bilstm")
    mixer.choice = "fast"
    mixer.regularise(asked, Chance())
    x, gradient = torch.randn(batch, LENGTH, width, requires_grad=True), torch.randn(batch, LENGTH, width)
    limited: list[Tensor] = list(mixer.incoming()) if asked.max_norm else []

    def run() -> None:
        mixer.zero_grad()
        x.grad = None
        mixer(x).backward(gradient)
        limit_norms(limited, asked.max_norm or math.inf)

    return run


def ratios(steps: Mapping[str, Callable[[], None]], rounds: int) -> tuple[float, dict[str, float]]:
    """Milliseconds of the plain step, and of each the median over rounds of its time over the plain one's."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):  # the first one warms up
        for name in list(steps)[:: 1 if number % 2 else -1]:
            started = time.thread_time()
            steps[name]()
            times[name].append(time.thread_time() - started)
    plain = times["plain"][1:]
    over = {name: statistics.median(np.divide(spent[1:], plain)) for name, spent in times.items() if name != "plain"}
    return 1e3 * statistics.median(plain), over


def cost(rounds: int) -> str:
    """The table."""
    names = [name for name in ASKED if name != "plain"]
    rows = []
    with settings(torch.device("cpu"), Request()):
        for model in CELLS:
            for batch, width in SHAPES:
                plain, over = ratios({name: step(model, batch, width, one) for name, one in ASKED.items()}, rounds)
                rows.append([model, f"{batch}", f"{width}", rounded(plain), *(f"{over[name]:.2f}" for name in names)])
                print(*rows[-1], flush=True)
    lines = table(["cell", "batch", "width", "plain, ms", *names], rows, ["cell"])
    return "\n".join([f"{device_name(torch.device('cpu'))}, one thread, {LENGTH} steps", "", *lines, ""])


# --- whether they help -----------------------------------------------------------------------------------------------


LEVEL, VERDICTS = 0.05, ("helps", "harms", "can't tell")
TASKS, MODELS_OF_STUDY, SEEDS, BUDGET = ("sentiment", "weather"), ("gru", "lstm"), 5, "quick"
STRENGTHS: dict[str, tuple[dict[str, Any], ...]] = {
    "plain": ({},),
    "recurrent dropout": tuple({"recurrent_dropout": share} for share in (0.1, 0.25, 0.5)),
    "zoneout": tuple({"zoneout": [share]} for share in (0.05, 0.15, 0.3)),
    "max-norm": tuple({"max_norm": norm} for norm in (0.6, 1.0, 2.0)),
    "dropout between layers": tuple({"dropout": share} for share in (0.1, 0.3, 0.5)),
}
VARIED = ("recurrent_dropout", "zoneout", "max_norm", "dropout")


def commands(out: Path, jobs: int) -> Iterable[list[str]]:
    """The runs, as the command line has them."""
    for strengths in STRENGTHS.values():
        for asked in strengths:
            words = ["--task", ",".join(TASKS), "--model", ",".join(MODELS_OF_STUDY), "--budget", BUDGET]
            words += ["--seeds", f"{SEEDS}", "--jobs", f"{jobs}", "--out", f"{out}"]
            for name, value in {"dropout": 0.0, **asked}.items():
                text = ",".join(map(str, value)) if isinstance(value, list) else f"{value}"
                words += [f"--{name.replace('_', '-')}", text]
            yield words


class Arm(NamedTuple):
    """The runs of one cell on one task with one strength of one regulariser, by seed."""

    label: str
    runs: dict[int, Result]

    def validation(self) -> float:
        """Mean over seeds."""
        return statistics.mean(run.validation or math.nan for run in self.runs.values())

    def figures(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Test figures (S,), and those without each group (S, G), in the order of the seeds."""
        runs = [self.runs[seed] for seed in sorted(self.runs)]
        return np.array([run.value for run in runs]), np.array([run.left_out for run in runs])


def arms(results: list[Result], name: str) -> tuple[list[Arm], list[str]]:
    """Of the regulariser ``name`` those that are complete, and in words the strengths that are not."""
    found, lacking = [], []
    for asked in STRENGTHS[name]:
        wanted = {"dropout": 0.0, **asked}
        runs = {
            run.seed: run
            for run in results
            if run.status == "ok" and {key: run.config[key] for key in VARIED if key in run.config} == wanted
        }
        label = ", ".join(format_strength(value) for value in asked.values())
        if len(runs) == SEEDS:
            found.append(Arm(label, runs))
        else:
            lacking.append(f"{name} {label}".strip() + f": {len(runs)} of {SEEDS} seeds")
    return found, lacking


def format_strength(value: Any) -> str:
    """As the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value:g}"


def best(found: list[Arm]) -> Arm:
    """The one with the best mean on validation."""
    sign = 1 if next(iter(found[0].runs.values())).direction == "higher" else -1
    return max(found, key=lambda arm: sign * arm.validation())


def overfitting(arm: Arm) -> str:
    """Where in training validation was best, and what became of it: medians over seeds."""
    shares, losses = [], []
    for run in arm.runs.values():
        points = [json.loads(line) for line in (run.folder / "curve.jsonl").read_text().splitlines()]
        scores = [point[f"val_{run.metric}"] for point in points]
        at = scores.index((max if run.direction == "higher" else min)(scores))
        shares.append(points[at]["step"] / points[-1]["step"])
        losses.append(abs(scores[-1] - scores[at]))
    return f"{100 * statistics.median(shares):.0f}% of the steps, then worse by {rounded(statistics.median(losses))}"


def compared(results: list[Result], task: str, model: str) -> tuple[list[list[str]], list[str]]:
    """Rows of the report: the plain cell, and what each regulariser changes; and what is left out of them."""
    own = [run for run in results if (run.task, run.model) == (task, model)]
    known = {name: arms(own, name) for name in STRENGTHS}
    chosen = {name: best(found) for name, (found, _) in known.items() if found}
    lacking = [f"{task} {model} {words}" for _, few in known.values() for words in few]
    if "plain" not in chosen:
        return [], lacking
    sign = 1 if own[0].direction == "higher" else -1
    values, left_out = chosen["plain"].figures()
    differences = {}
    for name, arm in chosen.items():
        others, others_left_out = arm.figures()
        differences[name] = estimate(others - values, others_left_out - left_out)
    names = [name for name in chosen if name != "plain"]
    adjusted = dict(zip(names, holm([differences[name].p_value() for name in names]), strict=True))
    plain = estimate(values, left_out).interval()
    rows = [[task, model, "plain", "", with_interval(plain, 4), "", "", "", overfitting(chosen["plain"])]]
    for name in names:
        arm, interval = chosen[name], differences[name].interval()
        mean = format_value(float(arm.figures()[0].mean()))
        better, worse, open_ = VERDICTS
        said = open_ if not adjusted[name] < LEVEL else better if sign * interval.value > 0 else worse
        p = format_value(adjusted[name])
        rows.append([task, model, name, arm.label, mean, change(interval), p, said, overfitting(arm)])
    return rows, lacking


def change(interval: Interval) -> str:
    """With its sign and its 95% interval."""
    return f"{interval.value:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def report(out: Path) -> str:
    """The page."""
    results = results_of(load_results(out))
    parts = [compared(results, task, model) for task in TASKS for model in MODELS_OF_STUDY]
    rows, lacking = ([one for part in parts for one in part[i]] for i in (0, 1))
    units = {run.task: f"{run.metric}, {run.direction} is better" for run in results}
    said = Counter(row[-2] for row in rows if row[-2])
    names = ["task", "cell", "regulariser", "strength", "test", "change", "p", "it", "validation was best after"]
    return "\n".join(
        [
            "# Do regularisers of the recurrence help?",
            "",
            "Written by `python -m benchmarks.regularisers report`, whose head says what was done. "
            f"Budget `{BUDGET}`, {SEEDS} seeds, width 128, the tasks' learning rates; of each run the best state on "
            "validation is tested, so that overfitting costs less than the last column says. "
            "Changes are paired by seeds and test groups, with intervals of 95%; p are adjusted among the regularisers "
            f"of one cell on one task (Holm 1979); one below {LEVEL} decides whether it helps or harms.",
            "",
            f"Of {sum(said.values())} comparisons it {', '.join(f'{what} in {said[what]}' for what in VERDICTS)}.",
            "",
            *(f"- {task}: {unit}" for task, unit in sorted(units.items())),
            "",
            *table(names, rows, ["task", "cell", "regulariser", "it", "validation was best after"]),
            "",
            *(f"- left out, without a good run of every seed: {words}" for words in lacking),
            "",
        ]
    )


def main() -> None:
    """Measure, train or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "study", "report"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "study":
        for words in commands(arguments.out, arguments.jobs):
            print("run_bench.py", *words, flush=True)
            if not arguments.dry_run and (code := run_command(words)):
                raise SystemExit(code)
        return
    text = cost(arguments.rounds) if arguments.what == "cost" else report(arguments.out)
    name = {"cost": "COST.md", "report": "STUDY.md"}[arguments.what]
    arguments.out.mkdir(parents=True, exist_ok=True)
    replace_file(arguments.out / name, lambda file: file.write(text.encode()))
    print(text)


if __name__ == "__main__":
    main()

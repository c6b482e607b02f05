"""What a GPU makes of training: `python benchmarks/gpu.py --out FOLDER` on a machine with one; `--quick` looks first.

Parts: `tests` (those marked gpu), `real` (runs through the command, whose records are kept), `speed` (steps per second,
launched kernel by kernel and as a CUDA graph), `same` (what both have learned after 200 steps, and repeats), `jobs`
(several processes on one GPU) and `probe` (`probe parallel` of all models). Each measurement is a line of JSON in
FOLDER/gpu.jsonl as soon as it is made. A part that fails is a line, too, and the next one begins.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
import torch
from tabulate import tabulate

from seqbench.config import RunConfig
from seqbench.data import Rows, Stream, TaskData
from seqbench.device import device_name, peak_memory, reset_peak_memory, settings, synchronize
from seqbench.models.backbone import build, shape_of
from seqbench.training import AdamW, CapturedStep, DeviceSplit, Losses, TrainingStep, capture, training_order

ROOT = Path(__file__).resolve().parents[1]
MODELS = ["rnn", "gru", "lstm", "bilstm", "transformer"]
DEVICE = os.environ.get("SEQBENCH_TRY", "cuda")  # cpu: whether this script itself runs through
WIDTH = 128
LEARNED = 200  # steps of the comparison of what was learned
PROCESSES = [1, 2, 4, 8]
CAPS = {"tests": 150, "same": 60, "speed": 110, "jobs": 50, "real": 120, "probe": 120}  # seconds of a part


Precision = Literal["fp32", "tf32", "bf16"]


class Shape(NamedTuple):
    """A task's kind, its data made up, and its budgets' batch size."""

    kind: str
    batch: int
    data: Callable[[], TaskData]


class Case(NamedTuple):
    """One thing to time."""

    task: str
    model: str
    precision: Precision
    batch: int


def dna() -> TaskData:
    """Windows of 80 bases; the label is whether one base is more frequent than another."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 4, (20_000, 80)).astype(np.uint8)
    targets = ((inputs == 0).sum(1) > (inputs == 1).sum(1)).astype(np.int64)
    split = Rows(inputs, targets, np.arange(len(inputs)))
    return TaskData(split, split, split, {}, vocabulary=tuple("ACGT"), classes=("no", "yes"))


def textgen() -> TaskData:
    """Half a million letters, each of which hangs on the one before."""
    rng = np.random.default_rng(0)
    tokens = (np.cumsum(rng.integers(0, 3, 500_000)) % 64).astype(np.uint8)
    split = Stream.training(tokens, 128, 8)
    return TaskData(split, split, split, {}, vocabulary=tuple(map(chr, range(48, 112))))


SHAPES = {"dna": Shape("classify", 64, dna), "textgen": Shape("generate", 32, textgen)}


class Trial:
    """A fresh model of ``case`` and its steps; everything comes from the seed."""

    def __init__(self, case: Case, data: TaskData, device: torch.device, *, graph: bool) -> None:
        kind = SHAPES[case.task].kind
        config = RunConfig(task=case.task, model=case.model, precision=case.precision, learning_rate=2e-3)
        self.losses, self.lines, self.device = Losses(device), list[str](), device
        self.model = build(case.model, kind, shape_of(kind, data), (WIDTH,), 0.1).to(device)
        optimizer = AdamW(self.model.parameters(), 0.01)
        step = TrainingStep(self.model, DeviceSplit(data.train, device), optimizer, self.losses, config)
        self.order = training_order(data.train, case.batch, np.random.default_rng(0))
        started = time.perf_counter()
        self.step = capture(step, case.batch, self.lines.append) if graph else step
        synchronize(device)
        self.capture_seconds = time.perf_counter() - started

    def steps(self, number: int) -> float:
        """Take ``number`` steps; returns the seconds, with the device idle at both ends."""
        synchronize(self.device)
        started = time.perf_counter()
        for _ in range(number):
            self.step(next(self.order), 1e-3)
        synchronize(self.device)
        return time.perf_counter() - started

    def speed(self, seconds: float) -> float:
        """Steps per second, over about ``seconds``."""
        self.steps(20)
        number = max(10, int(10 * seconds / max(self.steps(10), 1e-6)))
        return number / self.steps(number)


def measured(case: Case, data: TaskData, *, graph: bool, seconds: float) -> dict[str, Any]:
    """The speed of ``case``, as a line."""
    device = torch.device(DEVICE)
    with settings(device, RunConfig(task=case.task, model=case.model, precision=case.precision)):
        reset_peak_memory(device)
        trial = Trial(case, data, device, graph=graph)
        speed = trial.speed(seconds)
        return {
            **case._asdict(),
            "graph": isinstance(trial.step, CapturedStep),
            "asked": graph,
            "steps_per_second": speed,
            "tokens_per_second": speed * case.batch * data.train.sequence_length,
            "capture_seconds": trial.capture_seconds,
            "peak_memory": peak_memory(device),
            "said": trial.lines,
        }


def speed(quick: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Both kinds of steps, for models, precisions and batches."""
    precisions: list[Precision] = ["fp32", "bf16"] if quick else ["fp32", "bf16", "tf32"]
    for precision in precisions:
        for task, shape in SHAPES.items():
            data = shape.data()
            for batch in [shape.batch] if quick else [shape.batch, 16 * shape.batch]:
                for model in MODELS:
                    if (task == "textgen" and model == "bilstm") or left() < 10:
                        continue
                    case = Case(task, model, precision, batch)
                    for graph in (False, True):
                        yield attempt(lambda: measured(case, data, graph=graph, seconds=0.25), case._asdict())  # noqa: B023 - called at once


def learned(case: Case, data: TaskData, *, graph: bool) -> tuple[float, torch.Tensor]:
    """The mean loss of the last 50 of 200 steps, and all weights."""
    device = torch.device(DEVICE)
    with settings(device, RunConfig(task=case.task, model=case.model, precision=case.precision)):
        trial = Trial(case, data, device, graph=graph)
        trial.steps(LEARNED - 50)
        trial.losses.sum.zero_()
        trial.steps(50)
        weights = torch.cat([p.detach().flatten() for p in trial.model.parameters()]).cpu()
        return trial.losses.sum.item() / 50, weights


def same(quick: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """What is learned with and without graphs, and a second time."""
    precisions: list[Precision] = ["fp32"] if quick else ["fp32", "tf32", "bf16"]
    for task, shape in SHAPES.items():
        data = shape.data()
        for precision in precisions:
            for model in MODELS:
                if (task == "textgen" and model == "bilstm") or left() < 10:
                    continue
                case = Case(task, model, precision, shape.batch)
                yield attempt(lambda: compared(case, data), case._asdict())  # noqa: B023 - called at once


def compared(case: Case, data: TaskData) -> dict[str, Any]:
    """Losses and weights of eager steps, a graph's, and a graph's once more."""
    (eager, eager_weights), (graph, weights), (_, again) = (
        learned(case, data, graph=graph) for graph in (False, True, True)
    )
    return {
        **case._asdict(),
        "eager_loss": eager,
        "graph_loss": graph,
        "graph_equals_eager": torch.equal(eager_weights, weights),
        "greatest_difference": (eager_weights - weights).abs().max().item(),
        "repeats": torch.equal(weights, again),
    }


def serve() -> None:
    """A process of `jobs`: for each line on its standard input it trains for some seconds and prints its speed."""
    data, device = dna(), torch.device(DEVICE)
    case = Case("dna", "gru", "fp32", SHAPES["dna"].batch)
    with settings(device, RunConfig(task=case.task, model=case.model)):
        trials = {kind: Trial(case, data, device, graph=kind == "graph") for kind in ("eager", "graph")}
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            kind, seconds = line.split()
            count, started = 0, time.perf_counter()
            while time.perf_counter() - started < float(seconds):
                trials[kind].steps(50)
                count += 50
            print(json.dumps({"speed": count / (time.perf_counter() - started)}), flush=True)


def jobs(quick: bool, left: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """One, two, four and eight processes that train the same cell on one GPU at the same time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, __file__, "--serve"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes: list[Any] = [subprocess.Popen(words, **pipes) for _ in range(PROCESSES[-1])]
    try:
        for process in processes:
            process.stdout.readline()
        if DEVICE == "cuda":
            free, total = torch.cuda.mem_get_info()
            yield {"processes": len(processes), "memory_of_all": total - free}
        for kind in ("eager", "graph"):
            for number in PROCESSES:
                if left() < 10:
                    return
                for process in processes[:number]:
                    process.stdin.write(f"{kind} 2.0\n")
                    process.stdin.flush()
                speeds = [json.loads(process.stdout.readline())["speed"] for process in processes[:number]]
                yield {"kind": kind, "processes": number, "steps_per_second": sum(speeds), "slowest": min(speeds)}
    finally:
        for process in processes:
            process.kill()


def command(words: list[str], seconds: float, log: Path) -> dict[str, Any]:
    """Run ``words`` in the checkout for ``seconds`` at most; all that it prints goes to ``log``."""
    started = time.perf_counter()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(words)}\n")
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = "out of time"
    return {"words": words, "code": code, "seconds": time.perf_counter() - started}


def tests(quick: bool, left: Callable[[], float], log: Path) -> Iterator[dict[str, Any]]:
    """The tests that are marked gpu; in the quick look without those of other precisions."""
    words = ["-m", "pytest", "-m", "gpu", "-n", "6", "--durations=5", "tests/test_gpu.py"]
    yield command(words + (["-k", "not tf32"] if quick else []), min(left() - 5, 60 if quick else 150), log)


def real(quick: bool, left: Callable[[], float], log: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Runs through the command."""
    words = ["run_bench.py", "--device", DEVICE, "--out", str(folder), "--budget", "smoke" if quick else "quick"]
    yield command([*words, "--task", "dna", "--model", "lstm,transformer", "--jobs", "2"], min(left() - 5, 100), log)
    yield command([*words, "--task", "weather", "--model", "gru"], min(left() - 5, 60), log)
    for path in sorted(folder.rglob("record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        yield {
            "record": [record["task"]["name"], record["model"]["name"], record["status"], record["reason"]],
            "cost": record["cost"],
            "environment": record["environment"],
        }


def probe(quick: bool, left: Callable[[], float], log: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """The probe of parallelism, for all models."""
    words = ["run_bench.py", "probe", "parallel", "--model", "all", "--device", DEVICE, "--out", str(folder)]
    yield command([*words, "--budget", "smoke" if quick else "quick"], left() - 5, log)


def attempt(function: Callable[[], dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """What ``function`` gives, or ``about`` and what went wrong."""
    try:
        return function()
    except Exception as error:
        return {**about, "error": f"{type(error).__name__}: {error}"[:500]}


def keep(lines: Iterator[dict[str, Any]], part: str, file: TextIO) -> list[dict[str, Any]]:
    """Write each line as it comes; what ends a part before its time is the last one."""
    kept: list[dict[str, Any]] = []
    while True:
        try:
            line = next(lines, None)
        except Exception as error:
            line = {"error": f"{type(error).__name__}: {error}"[:500]}
        if line is None:
            return kept
        kept.append({"part": part, **line})
        file.write(json.dumps(kept[-1]) + "\n")
        file.flush()
        if "error" in line:
            print(part, line, flush=True)


HEADINGS = ["task", "model", "precision", "batch", "eager", "graph", "ratio", "tokens/s", "capture s", "MiB eager",
            "MiB graph", "said"]  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """Steps per second, eager and as a graph, a row per case."""
    return tabulate(_cells(lines), HEADINGS)


def _cells(lines: list[dict[str, Any]]) -> list[list[Any]]:
    rows: dict[tuple[Any, ...], dict[bool, Any]] = {}
    for line in lines:
        if line["part"] == "speed" and "error" not in line:
            rows.setdefault(tuple(line[name] for name in Case._fields), {})[line["asked"]] = line
    return [
        [*case, *(round(both[graph]["steps_per_second"]) for graph in (False, True)), f"{ratio(both):.1f}",
         f"{both[True]['tokens_per_second']:.3g}", f"{both[True]['capture_seconds']:.2f}",
         f"{both[False]['peak_memory'] / 2**20:.0f}", f"{both[True]['peak_memory'] / 2**20:.0f}",
         " ".join(both[True]["said"])]
        for case, both in rows.items() if len(both) == 2
    ]  # fmt: skip


def ratio(both: dict[bool, Any]) -> float:
    """How much faster the graph is."""
    return float(both[True]["steps_per_second"] / both[False]["steps_per_second"])


def page(folder: Path) -> str:
    """What lies in ``folder`` as markdown: the table, and what several processes on one GPU reach."""
    lines = [json.loads(line) for line in (folder / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("record.json"))]
    where = {(r["environment"]["device_name"], r["environment"]["torch"], r["started"][:10]) for r in records}
    measured = "; ".join(f"{device}, torch {version}, {date}" for device, version, date in sorted(where))
    same = [line for line in lines if line["part"] == "same"]
    equal = sum(line["graph_equals_eager"] for line in same)
    several = [line for line in lines if line["part"] == "jobs" and "kind" in line]
    rows = [[line[name] for name in ("kind", "processes", "steps_per_second", "slowest")] for line in several]
    names = ["steps", "processes", "steps/s of all", "steps/s of the slowest"]
    return "\n\n".join([
        "# Training steps on a GPU",
        f"Written by `benchmarks/gpu.py --report`. {measured}",
        "Steps per second of a whole training step, launched kernel by kernel (eager) and replayed as a CUDA graph; "
        "width 128, one layer, made-up data of the shape of dna (80 bases) and textgen (128 characters).",
        tabulate(_cells(lines), HEADINGS, tablefmt="github"),
        f"After 200 steps the weights of {equal} of {len(same)} cases were equal to the last bit, eager and graph.",
        "Several processes on one GPU, a GRU on dna:",
        tabulate(rows, names, tablefmt="github", floatfmt=",.0f"),
        "The records beside this page are real runs through the command.",
    ]) + "\n"  # fmt: skip


def shown(line: dict[str, Any]) -> str:
    """A line of another part, in short."""
    return " ".join(f"{value:.5g}" if isinstance(value, float) else str(value) for value in line.values())


def main() -> None:
    """Run the parts that are asked for, within the time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of what is measured")
    parser.add_argument("--parts", default="tests,same,speed,jobs,real,probe", help="which, in this order")
    parser.add_argument("--limit", type=float, default=420.0, help="seconds in all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--report", type=Path, help="only write GPU.md in this folder, from what lies there")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.report:
        (options.report / "GPU.md").write_text(page(options.report), encoding="utf-8")
        return
    started = begun = time.perf_counter()
    name, out, quick = "tests", options.out, options.quick
    out.mkdir(parents=True, exist_ok=True)
    log, folder = out / "gpu.log", out / "records"

    def left() -> float:
        now = time.perf_counter()
        return float(min(options.limit - (now - started), CAPS[name] - (now - begun)))

    def late(*_: object) -> None:
        raise TimeoutError("the part took too long")

    signal.signal(signal.SIGALRM, late)
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "tests": lambda: tests(quick, left, log),
        "same": lambda: same(quick, left),
        "speed": lambda: speed(quick, left),
        "jobs": lambda: jobs(quick, left),
        "real": lambda: real(quick, left, log, folder),
        "probe": lambda: probe(quick, left, log, folder),
    }
    print(torch.__version__, torch.version.cuda, device_name(torch.device(DEVICE)), flush=True)
    lines: list[dict[str, Any]] = []
    with (out / "gpu.jsonl").open("a", encoding="utf-8") as file:
        for name in options.parts.split(","):
            begun = time.perf_counter()
            if left() < 20:
                print(f"{name}: no time left", flush=True)
                continue
            signal.alarm(int(left()) + 10)
            lines += keep(parts[name](), name, file)
            signal.alarm(0)
            print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    if folder.is_dir():
        with tarfile.open(out / "records.tar.gz", "w:gz") as packed:
            packed.add(folder, "records", filter=lambda item: None if item.name.endswith(".safetensors") else item)
    print(table(lines))
    for line in lines:
        if line["part"] != "speed":
            print(shown({key: value for key, value in line.items() if key not in ("environment", "cost")})[:300])
    if log.is_file():
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:])


if __name__ == "__main__":
    main()

"""Make the table that `--dry-run` estimates from: ``python docs/examples/make_rates.py [--missing] [RECORDS ...]``.

Every built-in model is trained for some steps on every task, on one core, which takes some minutes. The seconds of the
ledger's measurements are those of the records in the folders given (results/board). Run it on a machine that does
nothing else, and commit seqbench/jobs/rates.json.

With ``--missing`` only models and tasks that the table does not have are measured and added to it, as if by the machine
that made it: their seconds are divided by how many times as long this one takes.
"""

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from seqbench.config import RunConfig
from seqbench.experiment import rate_of, resolve, run_cell
from seqbench.jobs import FINE
from seqbench.jobs.estimates import RATES_FILE, case_key, speed_of_machine
from seqbench.jobs.record import ProbeRecord
from seqbench.jobs.store import Store
from seqbench.models.mixer import MODELS
from seqbench.task import TASKS


def runs(known: Collection[str] = (), slowness: float = 1.0) -> dict[str, dict[str, list[float]]]:
    """By task and model, and batch size: seconds of a step, seconds of reading validation, FLOPs of a batch.

    Those ``known`` are left out, and seconds divided by ``slowness``.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    for task in TASKS.names():
        for model in MODELS.names():
            for budget in ("smoke", "quick") if f"{task} {model}" not in known else ():
                experiment = resolve(RunConfig(task=task, model=model, budget=budget))
                sizes = rates.setdefault(f"{task} {model}", {})
                size = str(experiment.budget.batch_size)
                rate = None if size in sizes else rate_of(experiment)
                if rate is not None:
                    step, read, flops = rate
                    sizes[size] = [float(f"{figure:.3g}") for figure in (step / slowness, read / slowness, flops)]
                    sys.stderr.write(f"{task} {model}, batches of {size}: {sizes[size]}\n")
    return {name: sizes for name, sizes in rates.items() if sizes}


def beside() -> float:
    """Seconds of a cell beside training and evaluation; the smallest of three."""
    seconds = []
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            config = RunConfig(task=TASKS.names()[-1], model=MODELS.names()[0], budget="smoke", seed=seed)
            cost = run_cell(config, Store(Path(folder))).record.cost  # type: ignore[union-attr]
            assert cost is not None
            seconds.append(time.perf_counter() - begun - cost.train_seconds - cost.eval_seconds)
    return round(min(seconds), 3)


def cases(folders: list[str]) -> dict[str, float]:
    """Seconds of each kind of measurement in the records of ``folders``: the median."""
    seconds = defaultdict(list)
    for folder in folders:
        for record, _ in Store(Path(folder)).records(ProbeRecord):
            if record.status in FINE:
                seconds[case_key(record.case)].append(record.seconds)
                seconds[case_key(record.case, loosely=True)].append(record.seconds)
    return {key: round(statistics.median(values), 2) for key, values in sorted(seconds.items())}


def with_missing(table: dict[str, Any]) -> dict[str, Any]:
    """``table`` with the rates that it lacks."""
    pairs = zip(speed_of_machine(), table["machine"], strict=True)
    slowness = statistics.geometric_mean(own / theirs for own, theirs in pairs)
    both = {**table["runs"], **runs(table["runs"], slowness)}
    order = [f"{task} {model}" for task in TASKS.names() for model in MODELS.names()]
    return {**table, "runs": {name: both[name] for name in order if name in both}}


if __name__ == "__main__":
    if sys.argv[1:] == ["--missing"]:
        table = with_missing(json.loads(RATES_FILE.read_text(encoding="utf-8")))
    else:
        table = {
            "machine": speed_of_machine(),
            "beside": beside(),
            "runs": runs(),
            "cases": cases(sys.argv[1:] or ["results/board"]),
        }
    RATES_FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")

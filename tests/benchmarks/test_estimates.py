"""What `--dry-run` says a run takes against what it took: `pytest tests/benchmarks -k estimates -s`.

The ratio of both, in CPU seconds, is printed and kept; between a half and twice is what it should be on an idle
machine. It is read by hand, like that of `test_denormals.py`.
"""

import time

import pytest

START = 2.0  # what an estimate counts for the start of Python, which has happened here


@pytest.mark.benchmark(group="estimates")
@pytest.mark.parametrize("hidden", [(128,), (64, 64)], ids=str)
def test_an_estimate_is_about_what_the_run_takes(benchmark, tmp_path, hidden):
    from seqbench.config import RunConfig
    from seqbench.experiment import estimate_seconds, resolve, run_cell
    from seqbench.jobs.store import Store

    cell = {"task": "stock", "model": "lstm", "budget": "smoke", "hidden": hidden}
    run_cell(RunConfig(**cell, seed=9), Store(tmp_path / "warm"))  # data and baselines are made once
    expected = sum(estimate_seconds([resolve(RunConfig(**cell))], Store(tmp_path / "out")).values()) - START
    begun = time.process_time()
    benchmark.pedantic(run_cell, (RunConfig(**cell), Store(tmp_path / "out")), rounds=1)
    ratio = (time.process_time() - begun) / expected
    benchmark.extra_info["ratio"] = ratio
    print(f"\n{hidden}: {ratio:.2f} of the estimate")

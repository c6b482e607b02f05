"""What a user waits for at the start: the help, and a run of a few steps from the command to its record.

The data of the run is in the cache when it is timed; the first run, which is not timed, has put it there.
"""

import itertools

import pytest

SMALLEST = ("--task", "stock", "--model", "rnn", "--budget", "smoke", "--hidden", "8", "--device", "cpu")


@pytest.mark.benchmark(group="start")
def test_help(measure, seqbench_command):
    measure(lambda: seqbench_command("--help"), seconds=1.0, children=True)


@pytest.mark.benchmark(group="start")
def test_run(measure, seqbench_command, tmp_path):
    numbers = itertools.count()

    def run():
        folder = f"results-{next(numbers)}"  # one that stands would be found, and nothing run
        seqbench_command("run", *SMALLEST, "--out", folder)
        assert list((tmp_path / folder).rglob("record.json"))

    measure(run, children=True)

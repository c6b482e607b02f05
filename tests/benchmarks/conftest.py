"""What the timing suite shares: which models it times, its clocks, and `measure`.

`pytest tests/benchmarks` runs all of it by hand. It is also run from a copy in another folder and against an older
seqbench, so that two revisions are timed by one suite: nothing here imports from the tests outside this folder, and
names of seqbench are imported where they are used, so that one which an older revision lacks fails one benchmark.

Environment variables:
    SEQBENCH_BENCH_PLUGINS: Python files that register models or tasks, with the path separator between them.
    SEQBENCH_BENCH_MODELS: names of the models that are timed, with commas between them; by default all.
    SEQBENCH_GATE: set by `regress run`, which leaves out what is read by hand (denormal numbers, estimates), and where
        it is asked for models also what does not depend on these.
"""

import contextlib
import importlib
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# before torch and BLAS are imported: everything is timed on one core
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ON_DEVICE = ("training", "inference", "harness")  # groups that compute on the GPU where there is one
MOST_ROUNDS = 200
collect_ignore = []
if os.environ.get("SEQBENCH_GATE"):
    collect_ignore += ["test_denormals.py", "test_estimates.py"]
    if os.environ.get("SEQBENCH_BENCH_MODELS"):  # the rest does not depend on these
        collect_ignore += ["test_board.py", "test_data.py", "test_harness.py", "test_start.py"]


class Setup:
    """What `seqbench.device.settings` asks for."""

    seed, threads, precision = 0, 1, "fp32"


# --- which benchmarks there are ---------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Find the tasks of a checkout that is not installed, and load the plug-ins, before anything is collected."""
    if not getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        # pytest-benchmark times nothing where --dist is given or a worker has started it, alone as this process may be
        config.option.dist = "no"
        os.environ.pop("PYTEST_XDIST_WORKER", None)
    import seqbench

    checkout = Path(seqbench.__file__).resolve().parents[1]
    if (checkout / "run_bench.py").is_file() and str(checkout) not in seqbench.__path__:
        seqbench.__path__.append(str(checkout))  # as run_bench.py does
    for file in filter(None, os.environ.get("SEQBENCH_BENCH_PLUGINS", "").split(os.pathsep)):
        seqbench.load_plugin(file)


def pytest_collection_finish():
    """Import what benchmarks will, so that processes which `regress run` forks from this one need not."""
    if not os.environ.get("SEQBENCH_GATE"):
        return
    import torch

    for name in ("board", "device", "experiment", "models.backbone", "training"):
        with contextlib.suppress(ImportError):  # an older revision may not have it
            importlib.import_module(f"seqbench.{name}")
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], fused=True)  # the first one imports a thousand modules
    weight.sum().backward()
    optimizer.step()


def pytest_generate_tests(metafunc):
    """One benchmark for each registered model or task."""
    if "model_name" in metafunc.fixturenames:
        from seqbench.models.mixer import MODELS

        chosen = os.environ.get("SEQBENCH_BENCH_MODELS", "")
        metafunc.parametrize("model_name", MODELS.chosen(chosen or "all"))
    if "task_name" in metafunc.fixturenames:
        from seqbench.task import TASKS

        with_data = [name for name in TASKS.names() if "embedded" in TASKS.get(name).sources]
        metafunc.parametrize("task_name", with_data)


def pytest_collection_modifyitems(items):
    """What computes on a GPU is timed by the GPU's clock."""
    for item in items:
        marker = item.get_closest_marker("benchmark")
        if marker and _device_type(marker.kwargs["group"]) == "cuda":
            item.add_marker(pytest.mark.benchmark(**marker.kwargs, timer=DeviceClock()), append=False)


def pytest_benchmark_update_machine_info(config, machine_info):
    """Figures are compared only between runs on one device; the path tells which seqbench was timed."""
    import torch

    import seqbench
    from seqbench.device import device_name

    machine_info["device_name"] = device_name(torch.device(_device_type(ON_DEVICE[0])))
    machine_info["torch"] = torch.__version__
    machine_info["seqbench_file"] = seqbench.__file__


# --- clocks -----------------------------------------------------------------------------------------------------------


def _device_type(group):
    import torch

    return "cuda" if group in ON_DEVICE and torch.cuda.is_available() else "cpu"


class DeviceClock:
    """Seconds of the GPU's own clock, between events that it has reached when they are read.

    The time between two events is a number of single precision. Each reading is therefore told from the one before and
    added up here: told from the first one, it would be known to some microseconds only after a minute.
    """

    __name__ = "DeviceClock"

    def __init__(self):
        self.seconds, self.last = 0.0, None

    def __call__(self):
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        if self.last is not None:
            self.seconds += self.last.elapsed_time(event) / 1e3
        self.last = event
        return self.seconds


def cpu_seconds():
    """What this process and its children that have ended computed for, so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# --- what a benchmark asks for ----------------------------------------------------------------------------------------


@pytest.fixture
def device(request):
    """The device of this benchmark's group, with one thread, one seed and single precision."""
    import torch

    from seqbench.device import settings

    where = torch.device(_device_type(request.node.get_closest_marker("benchmark").kwargs["group"]))
    with settings(where, Setup()):
        yield where


@pytest.fixture
def measure(benchmark):
    """``measure(function, seconds, setup)`` times calls of ``function`` for about so many ``seconds``.

    The first call is not timed, and shows how much memory is taken; or it is the only one, if it is made ``once``, as
    what takes seconds is. ``setup`` is called before every call. Beside the times, ``extra_info`` holds ``device``,
    ``cpu_seconds`` (the median over the rounds; far below the time where something was waited for) and
    ``peak_memory_bytes``, as `seqbench.device.peak_memory` has it; that is left out where the work is done by
    ``children``.
    """

    def run(function, seconds=0.15, setup=None, *, children=False, once=False):
        import torch

        from seqbench.device import peak_memory, reset_peak_memory

        prepare = setup or (lambda: None)
        device = torch.device(_device_type(benchmark.group))
        reset_peak_memory(device)
        rounds, memory = (1, None) if once else _first_calls(function, prepare, seconds, device)
        used = []

        def begin():
            prepare()
            used.append(-cpu_seconds())

        def end():
            used[-1] += cpu_seconds()

        result = benchmark.pedantic(function, setup=begin, teardown=end, rounds=rounds)
        benchmark.extra_info |= {"device": device.type, "cpu_seconds": statistics.median(used)}
        if not children:
            benchmark.extra_info["peak_memory_bytes"] = peak_memory(device) if memory is None else memory
        return result

    return run


def _first_calls(function, prepare, seconds, device):
    """How many rounds fill ``seconds``, and the peak of the memory in the first call."""
    from seqbench.device import peak_memory, synchronize

    def call():
        prepare()
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        return time.perf_counter() - started

    first = call()
    memory = peak_memory(device)
    # a first call can take much longer than the others; it is repeated where that costs little
    return _rounds(call() if first < 2 * seconds else first, seconds), memory


def _rounds(estimate, seconds):
    """How many rounds of ``estimate`` seconds fill ``seconds``: at least 5 short ones, 2 longer ones, 1 above 1 s."""
    least = 5 if estimate < 0.2 else 2 if estimate < 1 else 1
    return min(MOST_ROUNDS, max(least, round(seconds / max(estimate, 1e-9))))


@pytest.fixture
def seqbench_command(tmp_path):
    """``seqbench_command("run", ...)`` runs the command line of the seqbench that is timed, in an empty folder."""
    import seqbench

    place = Path(seqbench.__file__).resolve().parents[1]
    script = place / "run_bench.py"  # of a checkout, which need not be installed
    command = [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "seqbench"]
    paths = [str(place), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(*words):
        done = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run

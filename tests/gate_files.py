"""Files of pytest-benchmark, written by hand, for tests of the gate."""

import json

MACHINE = "this machine"


def write_process(folder, number, times, *, device=MACHINE, memory=None, computed=None, formerly=None):
    """What one process measured: ``times`` has the median of each benchmark, in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    benchmarks = []
    for name, seconds in times.items():
        extra = {"peak_memory_bytes": memory, "cpu_seconds": computed, "formerly": formerly}
        extra = {key: value for key, value in extra.items() if value is not None}
        stats = {"median": seconds, "min": 0}
        benchmarks.append({"fullname": name, "name": name, "group": "training", "stats": stats, "extra_info": extra})
    raw = {"machine_info": {"device_name": device}, "commit_info": {}, "benchmarks": benchmarks, "version": "5"}
    path = folder / f"process-{number:02d}.json"
    path.write_text(json.dumps(raw))
    return path


def write_side(folder, figures, **about):
    """A side: ``figures`` has the medians of each benchmark, one per process."""
    for number in range(max(map(len, figures.values()))):
        write_process(folder, number, {name: each[number] for name, each in figures.items()}, **about)
    return folder

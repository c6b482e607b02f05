"""Make fault.parquet: 840 simulated runs of the Tennessee Eastman process, normal and with disturbances 1 to 20.

Source: none but the simulator, the package `tep-studio==0.2.0` (the revised C model of Bathelt, Ricker and Jelali under
Ricker's multiloop PI control, mode 1); it needs a C compiler. SOURCES.md has licence, citation and the table of
columns. Run by hand, with that package installed: `python tasks/data/make_fault.py [--out FILE] [--raw FOLDER]`. It
takes 40 minutes on one core; with --raw every finished run is kept in FOLDER and not simulated again.

Columns: run (int16), class (uint8: the disturbance, 0 = normal), onset_step (int16: the first step that the disturbance
can have touched; 160 = none), step (uint8, 0 to 159, three minutes apart), then xmeas_1 to xmeas_41 and xmv_1 to xmv_12
as int16: value = offset + scale * stored, both from the JSON under the schema's key `seqbench_scale`:
{"xmeas_1": {"offset": ..., "scale": ...}, ...}. Sorted by run, then step; run = 40 * class + a number from 0 to 39.

A run: the plant starts in the noise-free equilibrium of the closed loop (reached in 96 hours without noise), runs 2
hours that are thrown away, then 8 hours that are kept. All that so that the readings do not tell the time: from the
simulator's own start the separator's temperature and some valves drift by eight standard deviations over ten hours, in
every run the same way, and as no disturbance is there early and every one is there late, a classifier could read the
label off that drift. The onset is drawn uniformly from hour 1 to hour 4 of what is kept.

Traps: the model's random numbers come from a multiplicative congruential generator with modulus 2^32, computed in
double precision: products beyond 2^53 lose their lowest bits, so that after a few draws every state is a multiple of 8,
and a state that is a multiple of a higher power of two has a short period. So seeds are 8 * odd: a period of 2^27
draws, of which a run uses 7.2 million. Small seeds would give runs that are correlated. XMV is what the controller asks
for, not where a sticking valve is. Analyser readings change every 2 or 5 steps and are a sampling period old.
"""

import argparse
import copy
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from tep_studio import ClosedLoopSimulation, TennesseeEastmanProcess  # type: ignore[import-not-found, unused-ignore]

CLASSES, PER_CLASS, STEPS = 21, 40, 160
CONTROL_STEP, EVERY = 0.0005, 100  # hours; one control step in a hundred is kept
SETTLING, WARM_UP, KEPT = 96.0, 2.0, 8.0  # hours
ONSETS = (2_000, 8_000)  # control steps after the warm-up, both included: hours 1 to 4
SILENT = 0x1F  # the model's flags: its defaults, and the bit that takes the measurement noise away
NAMES = [f"xmeas_{i}" for i in range(1, 42)] + [f"xmv_{i}" for i in range(1, 13)]
KEY, FINENESS = b"seqbench_scale", 8  # a noise's standard deviation is at least so many steps of the stored integer
Values = np.ndarray[Any, np.dtype[np.float64]]  # readings: steps x columns, or runs x steps x columns
Scales = dict[str, dict[str, float]]


def drawn(run: int) -> tuple[int, int]:
    """The seed and the onset (control steps after the warm-up) of a run; made of its number by SHA-256."""
    digest = hashlib.sha256(f"seqbench fault run {run}".encode("ascii")).digest()
    seed = 8 * (int.from_bytes(digest[:8], "big") % 2**28 * 2 + 1)
    low, high = ONSETS
    return seed, low + int.from_bytes(digest[8:16], "big") % (high - low + 1)


class Continued:
    """A settled controller in a new run: it keeps its memory, and its clock goes on where the run's starts at 0."""

    def __init__(self, controller: Any, hours: float) -> None:
        self.inner, self.hours = copy.deepcopy(controller), hours
        self.setpoints = self.inner.setpoints

    def reset(self, measurements: Any, *, time: float = 0.0) -> None:
        """Keep everything: the simulation calls this at its start."""

    def compute_action(self, measurements: Any, *, time: float) -> Any:
        """The settled controller's answer."""
        return self.inner.compute_action(measurements, time=time + self.hours)


@functools.cache
def settled() -> Any:
    """The closed loop after 96 hours without noise, when it has stopped moving."""
    simulation = ClosedLoopSimulation(simulator=TennesseeEastmanProcess(ms_flag=SILENT), horizon=SETTLING)
    simulation.run(record_every=10_000)
    return simulation


def simulate(run: int) -> Values:
    """The 160 x 53 readings of a run. Raises ValueError if the plant trips (no run of the shipped file does)."""
    seed, onset = drawn(run)
    start = settled()
    first = round(WARM_UP / CONTROL_STEP) + onset

    def disturbances(time: float) -> Values:
        active = np.zeros(28)
        if run >= PER_CLASS and round(time / CONTROL_STEP) >= first:
            active[run // PER_CLASS - 1] = 1.0
        return active

    controller = Continued(start.controller, start.sim.time)
    result = ClosedLoopSimulation(controller=controller, horizon=WARM_UP + KEPT).run(
        seed=float(seed), initial_state=start.sim.state, disturbance_schedule=disturbances, record_every=EVERY
    )
    if result.terminated or len(result.results) != STEPS + round(WARM_UP / CONTROL_STEP / EVERY):
        raise ValueError(f"Run {run} ended after {result.final_time:.2f} hours.")
    rows = [np.concatenate([each.measurements, each.implemented_action]) for each in result.results[-STEPS:]]
    return np.array(rows)


def simulate_all(raw: Path | None) -> Values:
    """All runs, in order; what lies in the folder `raw` already is read from there."""
    runs = []
    for run in range(CLASSES * PER_CLASS):
        kept = raw / f"{run:03d}.npz" if raw else None
        if kept and kept.exists():
            with np.load(kept) as archive:
                runs.append(archive["values"])
        else:
            runs.append(simulate(run))
            if kept:
                np.savez(kept.with_name(f"new-{kept.name}"), values=runs[-1])
                kept.with_name(f"new-{kept.name}").replace(kept)  # so that a run cut off leaves no broken file
                print(f"run {run}", flush=True)
    return np.array(runs)


def noise(normal: Values) -> Values:
    """Each column's noise (standard deviation) in normal runs, from the median of its changes; 0 if it never moves."""
    changes = np.abs(np.diff(normal, axis=1)).reshape(-1, normal.shape[2]).T
    moved = [each[each > 0] for each in changes]  # analysers repeat a reading until the next one
    return np.array([np.median(each) * 1.4826 / np.sqrt(2) if each.size else 0.0 for each in moved])


def choose_scales(normal: Values) -> Scales:
    """Scale 1, 2 or 5 times a power of ten, at most an eighth of the noise; offset a multiple of it, in the middle."""
    chosen = {}
    for name, sigma, middle in zip(NAMES, noise(normal).tolist(), np.median(normal, axis=(0, 1)).tolist(), strict=True):
        if sigma == 0:
            chosen[name] = {"offset": middle, "scale": 1.0}
            continue
        power = int(np.floor(np.log10(sigma / FINENESS)))
        digit = max(each for each in (1, 2, 5) if float(f"{each}e{power}") <= sigma / FINENESS)
        scale = float(f"{digit}e{power}")
        chosen[name] = {"offset": float(f"{round(middle / scale) * digit}e{power}"), "scale": scale}
    return chosen


def tabulate(runs: Iterable[int], values: Values, scales: Scales) -> pa.Table:
    """The rows of these runs as stored. Raises ValueError if a value is missing or does not fit into int16."""
    numbers = np.array(list(runs))
    classes = numbers // PER_CLASS
    onsets = np.array([-(-drawn(run)[1] // EVERY) if run >= PER_CLASS else STEPS for run in numbers.tolist()])
    columns: dict[str, pa.Array] = {
        "run": pa.array(numbers.repeat(STEPS), pa.int16()),
        "class": pa.array(classes.repeat(STEPS), pa.uint8()),
        "onset_step": pa.array(onsets.repeat(STEPS), pa.int16()),
        "step": pa.array(np.tile(np.arange(STEPS), len(numbers)), pa.uint8()),
    }
    for name, column in zip(NAMES, values.reshape(-1, len(NAMES)).T, strict=True):
        stored = np.round((column - scales[name]["offset"]) / scales[name]["scale"])
        if not (np.abs(stored) < 2**15).all():  # false for NaN, too
            raise ValueError(f"{name} has a value that int16 with a scale of {scales[name]['scale']} cannot hold.")
        columns[name] = pa.array(stored.astype(np.int16))
    return pa.table(columns).replace_schema_metadata({KEY: json.dumps(scales)})


def report(values: Values, scales: Scales) -> None:
    """Print the noise, scale and range of each column."""
    for i, (name, sigma) in enumerate(zip(NAMES, noise(values[:PER_CLASS]).tolist(), strict=True)):
        low, high, scale = values[..., i].min(), values[..., i].max(), scales[name]["scale"]
        rounding = scale / 12**0.5 / sigma if sigma else 0.0
        print(
            f"{name}: {low:.5g} to {high:.5g}, noise {sigma:.3g}, scale {scale:g}, rounding {rounding:.3f} of the noise"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fault.parquet"))
    parser.add_argument("--raw", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.raw:
        arguments.raw.mkdir(parents=True, exist_ok=True)
    out, everything = arguments.out, simulate_all(arguments.raw)
    fitted = choose_scales(everything[:PER_CLASS])
    report(everything, fitted)
    fault = tabulate(range(len(everything)), everything, fitted)
    # Neighbouring values differ by little: differences take 8% less room than a dictionary.
    packed = dict.fromkeys(fault.schema.names, "DELTA_BINARY_PACKED")
    pq.write_table(fault, out, use_dictionary=False, column_encoding=packed, compression="zstd", compression_level=22)
    print(f"{out.name}: {out.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")

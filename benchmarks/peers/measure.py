"""Measuring one row: each peer in a process of its own, blocks of steps in turns, one process computing at a time."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import problem
from benchmarks.peers.rows import Row
from seqbench.device import device_name
from seqbench.environment import git_state

__all__ = ["ROOT", "Failed", "disagreement", "measure_row", "pin", "where"]

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4  # of the first loss, relative
WARM_UP = 3, 0.2  # steps of the first block, and the share of a block that the second one takes
PACKAGES = ("seqbench", "torch", "lightning", "keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib", "numpy")

Say = Callable[[str], None]


class Failed(Exception):
    """A peer's process ended, or the nets are not the same."""


class Process:
    """One peer at work, or waiting."""

    def __init__(self, peer: str, folder: Path, threads: int) -> None:
        self.peer, self.log = peer, (folder / f"{peer}.log").open("w+")
        command = [sys.executable, "-m", "benchmarks.peers.worker", peer, str(folder), str(time.monotonic())]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=lambda: pin(threads),
        )
        self.peak_memory = 0

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or ["no message"])[-1]
            raise Failed(f"{self.peer} ended with {self.process.returncode}: {last}")
        answer: dict[str, Any] = json.loads(line)
        self.peak_memory = answer["peak_memory"]
        return answer

    def block(self, steps: int) -> float:
        """Seconds of ``steps`` steps."""
        assert self.process.stdin
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.hear()["seconds"])

    def cpu_seconds(self) -> float:
        """What it computed since it was started."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as line:
            fields = line.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            assert pipe
            pipe.close()


def variables(threads: int) -> dict[str, str]:
    """The variables by which libraries are told how many threads they may have, before they are imported."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    more = dict.fromkeys((*names, "TF_NUM_INTEROP_THREADS"), str(threads))
    if threads == 1:
        more["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**os.environ, **more, "TF_CPP_MIN_LOG_LEVEL": "2", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def pin(threads: int) -> None:
    """Keep this process, and all that it starts, to so many cores: the last ones, as the first serve interrupts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def where() -> dict[str, Any]:
    """Machine, versions, commit and day."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit, dirty = git_state()
    machine = {
        "cpu": device_name(torch.device("cpu")),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"machine": machine, "versions": found, "commit": commit, "dirty": dirty, "date": date}


def measure_row(
    row: Row, peers: Sequence[str], threads: int, block: float, rounds: int, say: Say = lambda line: None
) -> dict[str, Any]:
    """All figures of a row, as the JSON file has them; a peer that can't do it has a ``failed`` with the reason."""
    at_work: dict[str, Process] = {}
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problem.write(row, threads, folder)
        try:
            for peer in peers:
                figures[peer] = _start(peer, folder, threads, at_work)
                say(f"  {peer}: {figures[peer].get('failed') or _begun(figures[peer])}")
            refused = disagreement(figures)
            if not refused:
                _alternate(at_work, figures, block, rounds)
        finally:
            for process in at_work.values():
                process.close()
        batch_size = problem.read(folder)[1].batch_size
    about = {"threads": threads, "block": block, "rounds": rounds, "batch_size": batch_size}
    return {**where(), **about, **({"refused": refused} if refused else {}), "peers": figures}


def _start(peer: str, folder: Path, threads: int, at_work: dict[str, Process]) -> dict[str, Any]:
    """Start ``peer`` and hear of its first step."""
    process = Process(peer, folder, threads)
    try:
        first = process.hear()
    except Failed as error:
        process.close()
        return {"failed": str(error)}
    at_work[peer] = process
    return {name: first[name] for name in ("start_up", "loss", "about")}


def _begun(figures: dict[str, Any]) -> str:
    return f"first step after {figures['start_up']:.1f} s, first loss {figures['loss']:.6f} {figures['about']}"


def disagreement(figures: dict[str, dict[str, Any]]) -> str:
    """Why the peers can't be compared; nothing where their first losses agree."""
    losses = {peer: own["loss"] for peer, own in figures.items() if "loss" in own}
    if not losses:
        return "no peer could be started"
    first = next(iter(losses.values()))
    if not all(abs(loss - first) <= TOLERANCE * abs(first) for loss in losses.values()):  # so NaN does not, either
        return "the first losses differ: " + ", ".join(f"{peer} {loss:.7g}" for peer, loss in losses.items())
    return ""


def _alternate(at_work: dict[str, Process], figures: dict[str, dict[str, Any]], block: float, rounds: int) -> None:
    """Find how many steps make a block of each peer, then take blocks in turns, the order turned round each time."""
    steps = {peer: _steps(process, block) for peer, process in at_work.items()}
    order = list(at_work)
    for peer in order:
        figures[peer].update(steps=steps[peer], seconds=[])
    waited, since = dict.fromkeys(order, 0.0), {peer: at_work[peer].cpu_seconds() for peer in order}
    for i in range(rounds):
        for peer in order if i % 2 == 0 else reversed(order):
            before = at_work[peer].cpu_seconds()
            figures[peer]["seconds"].append(at_work[peer].block(steps[peer]))
            waited[peer] -= at_work[peer].cpu_seconds() - before
    total = sum(sum(figures[peer]["seconds"]) for peer in order)
    for peer in order:
        share = (waited[peer] + at_work[peer].cpu_seconds() - since[peer]) / total
        figures[peer].update(peak_memory=at_work[peer].peak_memory, cpu_while_waiting=round(share, 4))


def _steps(process: Process, block: float) -> int:
    """How many steps take ``block`` seconds, found by two blocks that are not counted."""
    first, share = WARM_UP
    seconds = process.block(first) / first
    steps = max(1, round(share * block / seconds))
    return max(1, round(block / (process.block(steps) / steps)))

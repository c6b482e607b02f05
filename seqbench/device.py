"""The machine that a cell runs on: which device, what precision, and torch's global switches set for one run only."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from seqbench.errors import UserError

__all__ = ["device_name", "peak_memory", "reset_peak_memory", "resolve_device", "settings", "synchronize"]

# What `settings` sets is the whole process's, so the runs of several threads take turns. The thread that holds it may
# enter again.
_TURN = threading.RLock()
CUDNN_LONGEST = 65_535  # cuDNN refuses longer recurrent inputs (pytorch#133751)


class Setup(Protocol):
    """What decides how a run uses its device."""

    @property
    def seed(self) -> int:
        """Of torch's generators."""

    @property
    def threads(self) -> int:
        """Of the CPU."""

    @property
    def precision(self) -> str:
        """fp32, tf32 or bf16."""


class Wanted(Protocol):
    """Which device is asked for."""

    @property
    def device(self) -> str:
        """auto, cpu, cuda or mps."""

    @property
    def precision(self) -> str:
        """fp32, tf32 or bf16."""


def resolve_device(config: Wanted) -> torch.device:
    """The device that ``config`` asks for; ``auto`` takes CUDA where there is one, else the CPU.

    Raises:
        UserError: the device is not there, or can't do the precision.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = config.device if config.device != "auto" else ("cuda" if there["cuda"] else "cpu")
    if not there[name]:
        raise UserError(f"--device {name}: this machine (or this build of torch) has none; take --device cpu or auto.")
    if config.precision != "fp32" and name != "cuda":
        raise UserError(f"--precision {config.precision} needs a CUDA device; on {name} take --precision fp32.")
    if config.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise UserError("--precision bf16: this GPU does not support it; take --precision fp32.")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the device calls itself: costs are compared only within one name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({os.cpu_count()} cores)"


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def settings(device: torch.device, config: Setup) -> Iterator[None]:
    """Threads, determinism, TF32 and random state for one run; everything is as before afterwards.

    Everything that draws from torch's global generator inside (initialisation, dropout, a plug-in's own layers) draws
    from the seed of this run, and the caller's random state is untouched. All of that belongs to the process, so
    another thread that wants to run waits here until this one is done: its figures are those of a run alone.
    """
    with _TURN:
        yield from _set(device, config)


def _set(device: torch.device, config: Setup) -> Iterator[None]:
    """`settings` for the thread whose turn it is."""
    # cuBLAS reads this when its handle is made; without it deterministic mode refuses to run
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    deterministic: Any = torch.utils.deterministic  # its switch is a property that types do not show
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        matmul.allow_tf32,
        cudnn.allow_tf32,
        cudnn.benchmark,
        deterministic.fill_uninitialized_memory,
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        try:
            torch.set_num_threads(config.threads)
            if device.type == "cuda":  # a CPU needs no telling, and the call takes over a second the first time
                torch.use_deterministic_algorithms(True)
            # cuDNN takes TF32 unless told otherwise, so fp32 would not mean fp32
            matmul.allow_tf32 = cudnn.allow_tf32 = config.precision == "tf32"
            cudnn.benchmark = False
            deterministic.fill_uninitialized_memory = False  # a help in debugging that costs time in every step
            yield
        finally:
            torch.set_num_threads(before[0])
            if device.type == "cuda":
                torch.use_deterministic_algorithms(before[1])
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before[2:5]
            deterministic.fill_uninitialized_memory = before[5]


def synchronize(device: torch.device) -> None:
    """Wait for the device; a clock is read only after this."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new high-water mark where the system lets one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as marks:
            marks.write("5")


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most that tensors took on the device, elsewhere the most that the whole process took."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024

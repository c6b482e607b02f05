"""The machine that a cell runs on: which device, what precision, and torch's global switches set for one run only."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from seqbench.errors import UserError

__all__ = [
    "denormals_flushed",
    "device_name",
    "flushes_denormals",
    "is_here",
    "peak_memory",
    "reset_peak_memory",
    "resolve_device",
    "resolved_for_others",
    "settings",
    "synchronize",
]

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


_others: str | None = None  # the type of device of the machines that runs are resolved for; None: of this one


def resolve_device(config: Wanted) -> torch.device:
    """The device that ``config`` asks for; ``auto`` takes CUDA where there is one, else the CPU.

    Raises:
        UserError: the device is not there, or can't do the precision.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there |= {} if _others is None else {_others: True}
    name = config.device if config.device != "auto" else ("cuda" if there["cuda"] else "cpu")
    if not there[name]:
        raise UserError(f"--device {name}: this machine (or this build of torch) has none; take --device cpu or auto.")
    if config.precision != "fp32" and name != "cuda":
        raise UserError(f"--precision {config.precision} needs a CUDA device; on {name} take --precision fp32.")
    if config.precision == "bf16" and _others is None and not torch.cuda.is_bf16_supported():
        raise UserError("--precision bf16: this GPU does not support it; take --precision fp32.")
    return torch.device(name)


@contextlib.contextmanager
def resolved_for_others(device: str) -> Iterator[None]:
    """Inside, a device of that type counts as there: what is resolved is for other machines, which have one."""
    global _others
    before, _others = _others, device
    try:
        yield
    finally:
        _others = before


def is_here(device: torch.device) -> bool:
    """Whether this machine has it."""
    return device.type != "cuda" or torch.cuda.is_available()


def device_name(device: torch.device) -> str:
    """What the device calls itself: costs are compared only within one name."""
    if not is_here(device):
        return "a GPU of another machine"
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

    Inside, numbers below the least normal one (1.2e-38 in single precision) count as 0. Gradients that vanish end
    there, and some processors take over a hundred times as long for such numbers: what would be measured is their trap.
    """
    _keep_freed_memory()
    with _TURN:
        yield from _set(device, config)


@functools.cache
def _keep_freed_memory() -> None:
    """Tell glibc to keep what is freed, for the rest of the process; other allocators are left alone.

    By its own rules large tensors go back to the system when they are freed, and every page of the next one is faulted
    in and zeroed again, in every step: up to a quarter of the time of an LSTM layer.
    """
    if platform.system() != "Linux":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for parameter, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**26)):
            libc.mallopt(parameter, value)


def flushes_denormals(threads: int = 1) -> bool:
    """Whether denormal numbers count as 0 in this thread, and in those of torch's pool where ``threads`` work."""
    # written and read as whole numbers: a thread that flushes would make it 0, or take it for 0
    small = torch.full((2**16 * threads if threads > 1 else 1,), 2**20, dtype=torch.int32).view(torch.float32)
    return not (small * 1.0).view(torch.int32).count_nonzero().item()


_flushed: bool | None = None


def denormals_flushed() -> bool | None:
    """Whether denormal numbers count as 0 in the run that is inside `settings`; None where there is none."""
    return _flushed


@contextlib.contextmanager
def _flushing(threads: int) -> Iterator[None]:
    """Denormal numbers count as 0 in every thread that computes; the switch is each thread's own.

    Threads take it over from the one that starts them, so only those of a pool that was there before have to be told.
    """
    global _flushed
    before, outside = flushes_denormals(), _flushed
    torch.set_flush_denormal(True)
    if threads > 1 and not flushes_denormals(threads):
        _in_pool(lambda: torch.set_flush_denormal(True), threads)
    _flushed = flushes_denormals(threads)
    try:
        yield
    finally:
        _flushed = outside
        torch.set_flush_denormal(before)
        if threads > 1:  # those that were started inside have taken it over
            _in_pool(lambda: torch.set_flush_denormal(before), threads)


def _in_pool(function: Callable[[], object], threads: int) -> None:
    """Call ``function`` in each thread of torch's pool, where that is GNU OpenMP's."""
    with contextlib.suppress(OSError, AttributeError):
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: function() and None)
        openmp.GOMP_parallel(body, None, threads, 0)


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
            with _flushing(config.threads):
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
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept is not in use
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

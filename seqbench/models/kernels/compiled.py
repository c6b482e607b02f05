"""The cells in C (`cells.c`), through ctypes: built into wheels, or when a compiler is there at installation."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqbench.models.kernels.sequence import Stretch

__all__ = ["Compiled", "check_symbols", "library"]

# as torch names what the processor can do; an older set runs on a newer one
LIBRARIES = {"AVX512": ("avx512", "avx2", "base"), "AVX2": ("avx2", "base")}
VERSION = 4  # of cells.c, raised with every change there: what was built before is left alone
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
LONG, POINTER = ctypes.c_long, ctypes.c_void_p


@functools.cache
def library() -> tuple[str, ctypes.CDLL] | None:
    """The best of the libraries that are there and that this processor can run, with its instruction set's name."""
    for name in LIBRARIES.get(torch.backends.cpu.get_cpu_capability(), ("base",)):
        for path in sorted(Path(__file__).parent.glob(f"_cells_{name}.*")):
            with contextlib.suppress(OSError, AttributeError):  # of another processor or system
                handle = ctypes.CDLL(str(path))
                if handle.cells_version() == VERSION:
                    _share_threads(handle)
                    return name, handle
    return None


def _share_threads(handle: ctypes.CDLL) -> None:
    """Let the library run in the threads of torch's pool, where that is GNU OpenMP's; else it starts its own."""
    with contextlib.suppress(OSError, AttributeError):
        torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        handle.set_parallel(ctypes.cast(torchs.GOMP_parallel, POINTER))


def check_symbols(symbols: Tensor, table: Tensor) -> None:
    """Raise IndexError unless each of ``symbols`` is a row of ``table``: C would read what lies elsewhere."""
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < len(table):
        raise IndexError(f"symbols must be from 0 to {len(table) - 1}")


class _Call(ctypes.Structure):
    """`Call` of cells.h."""

    _fields_ = (
        *((name, LONG) for name in ("steps", "batch", "width", "order", "first")),
        *((name, POINTER) for name in ("lengths", "gates", "table", "symbols", "packed", "bias", "h0", "c0")),
        *((name, POINTER) for name in ("h", "c", "extra", "dh", "dgates", "d", "dc")),
        *((name, POINTER) for name in ("seen", "spare", "keeps_h", "keeps_c")),
        *((name, ctypes.c_double) for name in ("share_h", "share_c")),
    )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class Compiled:
    """The engine in C. Steps that one call runs are few enough for what they write to stay in the cache."""

    cached_bytes = 2**20

    def __init__(self, instructions: str, handle: ctypes.CDLL) -> None:
        self.name = f"c {instructions}"
        self._handle = handle

    def _function(self, name: str, dtype: torch.dtype) -> Any:
        function = getattr(self._handle, f"{name}_{SUFFIX[dtype]}")
        function.restype = None
        return function

    def multiple(self, dtype: torch.dtype) -> int:
        """A panel of weights."""
        function = getattr(self._handle, f"panel_{SUFFIX[dtype]}")
        function.restype = LONG
        return int(function())

    def pack(self, weights: Tensor) -> Tensor:
        """(N, K) weights, at any strides, for products with (.., K)."""
        packed = torch.empty(weights.shape, dtype=weights.dtype)
        (rows, columns), (out, across) = weights.shape, weights.stride()
        sizes = (LONG(out), LONG(across), LONG(rows), LONG(columns))
        self._function("pack", weights.dtype)(POINTER(weights.data_ptr()), *sizes, POINTER(packed.data_ptr()))
        return packed

    def forward(self, stretch: Stretch) -> None:
        """Fill the states and gates of ``stretch``."""
        self._run(f"run_{stretch.cell}_forward", stretch)

    def backward(self, stretch: Stretch) -> None:
        """Fill the gradients of the gates of ``stretch``, and take the carried ones to its beginning."""
        self._run(f"run_{stretch.cell}_backward", stretch)

    def _run(self, name: str, stretch: Stretch) -> None:
        backwards = stretch.order < 0
        call = _Call(
            steps=len(stretch.h),
            batch=stretch.h.shape[1],
            width=stretch.h.shape[2],
            order=stretch.order,
            first=stretch.first,
            share_h=stretch.share_h,
            share_c=stretch.share_c,
        )
        by_step = ("gates", "symbols", "h", "c", "extra", "dh", "dgates", "keeps_h", "keeps_c")
        for field in by_step:  # the one that is run first
            tensor = getattr(stretch, field)
            setattr(call, field, None if tensor is None else _address(tensor[-1] if backwards else tensor))
        for field in ("lengths", "table", "packed", "bias", "h0", "c0", "d", "dc", "seen", "spare"):
            setattr(call, field, _address(getattr(stretch, field)))
        self._function(name, stretch.h.dtype)(ctypes.byref(call), LONG(torch.get_num_threads()))

    def scatter(self, sums: Tensor, symbols: Tensor, rows: Tensor) -> None:
        """Add each of ``rows`` (n, N) to the row of ``sums`` (symbols, N) that its symbol names."""
        sizes = (LONG(rows.shape[0]), LONG(rows.shape[1]), LONG(rows.stride(0)))
        where = (POINTER(symbols.data_ptr()), POINTER(sums.data_ptr()))
        function = self._function("scatter_rows", rows.dtype)
        function(POINTER(rows.data_ptr()), *sizes, *where, LONG(torch.get_num_threads()))

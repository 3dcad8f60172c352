"""What Numba compiles on first use, and the threads that run it.

Compiled functions are found by address (see `fastconv.kernels.vector_ir.call`), each for one shape, and kept on disk.
"""

# mypy: disable-error-code="attr-defined, call-arg, no-untyped-call"

from __future__ import annotations

import importlib
import os
import threading
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core.ccallback import CFunc

from fastconv.kernels import channels_numba, micro_numba, shifted_numba, strip_numba, tile_numba
from fastconv.kernels.numba_cache import kept

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, and without compiling there is nothing to run; unset it")

SPIN_COUNT = "10000"
"""Turns for which libgomp's threads spin at the end of a parallel region before they sleep. Its default is about a
hundred times more: where two threads get one core (a quota, a busy host) a call of 1.3 ms took 8.0 ms, with
this 1.8 ms (zen5-2, 2026-11)."""


class Shape(NamedTuple):
    """Register blocks for one layer, in elements of ``item`` bytes and vectors of ``vl`` lanes.

    With pixels in the lanes ``mr`` output channels by up to ``nv_max`` vectors. Packed weights come in blocks of
    ``lanes`` output channels, the last one rounded up to ``unit``; 0: they are not packed. ``wide``: there are 32
    registers.
    """

    item: int
    mr: int
    nv_max: int
    vl: int
    lanes: int
    unit: int
    wide: bool

    @property
    def most_pixels(self) -> int:
        """Pixels of a register tile by two vectors of output channels."""
        return 14 if self.wide else 6

    @property
    def most_span(self) -> int:
        """Bytes that the pixels of a tile, channels apart, must spread over.

        All sets of L2, or, for narrow tiles, which read a line every few cycles, of L1.
        """
        return 1 << (16 if self.wide else 11)

    @property
    def most_channel(self) -> int:
        """Bytes that channels may be apart, for their pixels to be read where they lie."""
        return 1 << (31 if self.wide else 12)


@lru_cache(maxsize=256)
def panels(shape: Shape, sizes: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Addresses of the micro-kernels of panels of these numbers of vectors, at this place."""
    table = np.zeros(shape.nv_max + 1, np.int64)
    for (nv,) in sizes:
        table[nv] = panel(shape, nv).address
    return table


@lru_cache(maxsize=256)
def tiles(shape: Shape, sizes: tuple[tuple[int, ...], ...], ocg: int) -> np.ndarray:
    """Addresses of the micro-kernels of tiles of these sizes, two for each: by one and by two vectors of channels.

    Those that ``ocg`` output channels do not need are 0.
    """
    needed = {1} if ocg <= shape.vl else {2} if (ocg - 1) % shape.lanes >= shape.vl else {1, 2}
    return np.array([tile(shape, size, nv).address if nv in needed else 0 for size in sizes for nv in (1, 2)], np.int64)


@cache
def panel(shape: Shape, nv: int) -> Compiled:
    literals = map(types.literal, (shape.item, shape.mr, nv, shape.vl, int(shape.lanes > 0)))
    return compiled(micro_numba.kernel_block, types.void(*[types.int64] * 16, *literals))


@cache
def tile(shape: Shape, size: tuple[int, ...], nv: int) -> Compiled:
    high, wide, col, leave = size
    literals = map(types.literal, (shape.item, high, wide, nv, shape.vl, col, leave))
    return compiled(tile_numba.tile_block, types.void(*[types.int64] * 12, *literals))


@cache
def loops(name: str, item: int) -> Compiled:
    """`run_tasks`, `pack_strip`, `multiply`, `multiply_tiles` or `finish`, compiled for elements of ``item`` bytes.

    Apart, not one in the other: Numba would optimise the inner ones a second time, 0.5 s of 2 s.
    """
    modules = {"pack_strip": strip_numba, "multiply_tiles": channels_numba}
    function = getattr(modules.get(name, shifted_numba), name)
    integers = [types.int64] * (function.__code__.co_argcount - 2)
    signature = types.void(types.CPointer(numba.from_dtype(shifted_numba.JOB)), *integers, types.literal(item))
    return compiled(function, signature, error_model="numpy")


class Compiled(NamedTuple):
    """A function at the address that `vector_ir.call` takes; ``cache_hits`` is 1 where it came from disk."""

    address: int
    cache_hits: int


def compiled(function: Any, signature: Any, **options: Any) -> Compiled:
    """A function for arguments of these types, kept on disk.

    At the address of the function itself: the wrapper named after it, which a CFunc is for, passes every argument a
    second time.
    """
    found = kept(CFunc(function, (signature.args, signature.return_type), {}, options), function)
    found.compile()
    return Compiled(found._library.get_pointer_to_function(found.native_name.removeprefix("cfunc.")), found.cache_hits)


class Pool:
    """Runs jobs on Numba's threads, or on the calling thread where those would end the process.

    The layer 'workqueue' aborts when two Python threads enter it, 'omp' when a forked child does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial_only = False

    def after_fork(self) -> None:
        """In a forked child, which has neither Numba's threads nor the one that may hold the lock."""
        self._lock = threading.Lock()
        self._serial_only = _layer() is not None

    def run(self, workers: int, *arguments: int) -> None:
        """Run a job by so many workers; the arguments are those of `shifted_numba.run_serial`."""
        if workers == 1 or self._serial_only:
            run_serial(*arguments)
        elif _layer() in ("omp", "tbb"):
            _run_parallel(arguments, workers)
        elif self._lock.acquire(blocking=False):
            try:
                _run_parallel(arguments, workers)
            finally:
                self._lock.release()
        else:
            run_serial(*arguments)


def _run_parallel(arguments: tuple[int, ...], workers: int) -> None:
    before = numba.get_num_threads()
    if before == workers:
        run_parallel(*arguments, workers)
        return
    numba.set_num_threads(workers)
    try:
        run_parallel(*arguments, workers)
    finally:
        numba.set_num_threads(before)


def _load_libgomp() -> None:
    """Load Numba's 'omp' layer with a short spin. libgomp reads the variable when it loads, and only then."""
    if os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        return  # the user has decided
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        pass  # this Numba has another layer
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _layer() -> str | None:
    """The threading layer that Numba launched, or ``None``."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


_load_libgomp()
run_serial, run_parallel = kept(shifted_numba.run_serial), kept(shifted_numba.run_parallel)
pool = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)


def max_threads() -> int:
    """Threads that Numba can run."""
    return int(numba.config.NUMBA_NUM_THREADS)

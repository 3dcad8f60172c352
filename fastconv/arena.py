"""Scratch memory that the engine owns: fresh pages cost more than the work done in them.

A call borrows one buffer and gives it back; buffers given back are kept up to a bound.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastconv import tuning

ALIGNMENT = 64


class Arena:
    """Thread-safe store of aligned byte buffers, holding at most ``limit`` bytes between calls."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget everything; also what a forked child does, whose lock may be held for ever."""
        self._lock = threading.Lock()
        self._free: list[np.ndarray] = []

    @property
    def held_bytes(self) -> int:
        """Bytes kept for later calls."""
        with self._lock:
            return sum(buffer.size for buffer in self._free)

    @contextmanager
    def borrow(self, nbytes: int) -> Iterator[np.ndarray]:
        """An uninitialised uint8 array of at least ``nbytes``, aligned to 64 bytes."""
        buffer = self.take(nbytes)
        try:
            yield buffer
        finally:
            self.give(buffer)

    def take(self, nbytes: int) -> np.ndarray:
        """What `borrow` lends, for callers to whom a ``with`` is slow; `give` it back."""
        with self._lock:
            if self._free and nbytes <= self._free[-1].size <= 4 * nbytes + 65536:  # given back last: in the cache
                return self._free.pop()
            fitting = [i for i, b in enumerate(self._free) if nbytes <= b.size <= 4 * nbytes + 65536]
            if fitting:
                return self._free.pop(min(fitting, key=lambda i: self._free[i].size))
        return aligned(nbytes)

    def give(self, buffer: np.ndarray) -> None:
        """Give back what `take` has lent."""
        with self._lock:
            self._free.append(buffer)
            while sum(b.size for b in self._free) > self.limit:
                self._free.pop(0)  # the one that has waited longest


def aligned(nbytes: int) -> np.ndarray:
    """A new uninitialised uint8 array, aligned to 64 bytes."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def new_result(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new uninitialised array for a result; a large one is aligned to 64 bytes, where vectors are stored faster."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < tuning.ALIGNED_BYTES:
        return np.empty(shape, dtype)
    flat: np.ndarray = aligned(nbytes).view(dtype)
    return flat.reshape(shape)


arena = Arena(tuning.ARENA_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=arena.reset)

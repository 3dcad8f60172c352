"""What the machine can do at this moment: its multiply-add peak and the bandwidth of each level of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.caches import caches, size_of
from fastconv.kernels import engine

PROBE_MILLISECONDS = 2.0
"""Length of one probe: long against a thread's wake-up (50 us), short against a round."""

WAKE_MILLISECONDS = 6.0
"""Work on several threads before a probe that counts. After a pause of 8 ms a probe of 2 ms on two threads read 236
GFLOP/s, of 10 ms 485, without the pause 486: the second thread was still on the first's core (AMD EPYC, 2026-11)."""

MEMORY_BYTES = 64 << 20, 512 << 20
"""Least and largest buffer to measure memory with; between them four times the last cache."""

ALIGNMENT = 4096
"""A buffer starts on a page: vectors across two cache lines halve what the first level gives."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of memory: what all threads together can hold there, and the buffer to measure it with."""

    name: str
    capacity: float
    buffer_bytes: int


def levels(caches: dict[str, str], threads: int) -> list[Level]:
    """The levels of a machine, the last being memory; L1 and L2 are each core's own.

    >>> [(level.name, level.buffer_bytes) for level in levels({"L1": "32K", "L2": "1M", "L3": "16M"}, 2)]
    [('L1', 32768), ('L2', 1048576), ('L3', 8388608), ('memory', 67108864)]
    """
    result, largest = [], 0
    for name, text in caches.items():
        size = size_of(text) * (threads if name in ("L1", "L2") else 1)
        result.append(Level(name, size, max(size // 2, threads * 2 * ALIGNMENT)))
        largest = max(largest, size)
    least, most = MEMORY_BYTES
    return [*result, Level("memory", float("inf"), min(max(4 * largest, least), most))]


def level_of(found: list[Level], size: int) -> Level:
    """The smallest level that holds so many bytes."""
    return next(level for level in found if size <= level.capacity)


class Probes:
    """The probes at one number of threads; without the compiled extension all of them give None."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.levels = levels(caches(), threads)
        self._engine = engine()
        size = self.levels[-1].buffer_bytes
        room = np.ones(size + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        self._buffer = room[start : start + size]
        # Reading or copying, whichever is faster at a level: nothing that also computes should be above it.
        self._copies = {level.name: self._compare(level) for level in self.levels} if self._engine else {}

    def _compare(self, level: Level) -> bool:
        rates = [[self._rate(level, copy, PROBE_MILLISECONDS) for copy in (False, True)] for _ in range(5)]
        read, copied = (sorted(column)[2] for column in zip(*rates, strict=True))
        return bool(copied > read)

    def _rate(self, level: Level, copy: bool, milliseconds: float) -> float:
        return float(self._engine.bandwidth(self._buffer[: level.buffer_bytes], self.threads, milliseconds, copy))

    def fma(self, milliseconds: float = PROBE_MILLISECONDS) -> float | None:
        """Float32 multiply-adds in registers, GFLOP/s."""
        if self._engine is None:
            return None
        if self.threads > 1:
            self._engine.fma_peak(self.threads, WAKE_MILLISECONDS)
        return float(self._engine.fma_peak(self.threads, milliseconds))

    def bandwidth(self, level: Level, milliseconds: float = PROBE_MILLISECONDS) -> float | None:
        """GB/s of reading, or of copying where that moves more, in a buffer of half of the level."""
        return self._rate(level, self._copies[level.name], milliseconds) if self._engine else None

    def evict(self) -> None:
        """Put something else into every cache of the cores that compute."""
        self.bandwidth(self.levels[-1], 0.0) if self._engine else self._buffer.fill(0)

    def facts(self) -> dict[str, Any]:
        """The best of several probes, for a report."""
        if self._engine is None:
            return {"fma_gflops": None, "bandwidth": {}}
        width = {
            level.name: {
                "bytes": level.buffer_bytes,
                "gbs": max(self.bandwidth(level, 10.0) or 0.0 for _ in range(5)),
                "by": "copying" if self._copies[level.name] else "reading",
            }
            for level in self.levels
        }
        return {"fma_gflops": max(self.fma(10.0) or 0.0 for _ in range(5)), "bandwidth": width}

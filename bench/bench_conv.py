"""asv benchmarks of convolutions: every layer by every backend on every number of threads.

The parameters do not depend on what is installed or on what a commit knows: ``setup`` skips what cannot run.
"""

from __future__ import annotations

from typing import Any

from bench.layers import BACKENDS, THREADS, needed, rate

CASES = (
    "resnet-64x56-3x3",
    "resnet-256x14-3x3",
    "resnet-64x56-1x1",
    "resnet-stem-7x7s2",
    "resnet-128x56-3x3s2",
    "lecture-3x3",
    "mobilenet-dw-144x56",
    "audio-80s4",
    "photo-15x15",
    "odd-37x45x61",
)
RATED = ("resnet-64x56-3x3", "resnet-256x14-3x3", "lecture-3x3", "mobilenet-dw-144x56", "photo-15x15")
MANY = 100


class _Layers:
    """What the benchmarks of layers share."""

    params: tuple[Any, ...] = (CASES, BACKENDS, THREADS)
    param_names = ("case", "backend", "threads")

    def setup(self, case: str, backend: str, threads: int) -> None:
        needed(case, backend, threads)


class Conv(_Layers):
    """Seconds per call, one call a sample: for layers of 50 microseconds and more."""

    version = "1"

    def time_plan(self, case: str, backend: str, threads: int) -> None:
        needed(case, backend, threads).call()


class Rate(_Layers):
    """GFLOP/s of the direct operation count, median of rounds of many calls."""

    params = (RATED, BACKENDS, THREADS)
    unit = "GFLOP/s"
    version = "1"

    def track_gflops(self, case: str, backend: str, threads: int) -> float:
        return rate(needed(case, backend, threads))


class Peak(_Layers):
    """Percent of the multiply-adds that the machine could do just then; over 100 where an algorithm needs fewer."""

    params = (RATED, BACKENDS, THREADS)
    unit = "percent"
    version = "1"

    def setup(self, case: str, backend: str, threads: int) -> None:
        if needed(case, backend, threads).probe is None:
            raise NotImplementedError("no probe of the peak without the compiled extension")

    def track_percent_of_peak(self, case: str, backend: str, threads: int) -> float:
        return rate(needed(case, backend, threads), of_peak=True)


class Memory(_Layers):
    """Most memory of a process that imports fastconv, plans the layer and runs it."""

    params = (("resnet-64x56-3x3", "lecture-3x3", "photo-15x15"), BACKENDS, THREADS)
    version = "1"

    def peakmem_plan(self, case: str, backend: str, threads: int) -> None:
        needed(case, backend, threads).call()


class TinyCall(_Layers):
    """Seconds of a hundred calls whose sums cost less than the call itself."""

    params = (("tiny-8x16",), BACKENDS, (1,))
    version = "1"

    def time_100_calls(self, case: str, backend: str, threads: int) -> None:
        call = needed(case, backend, threads).call
        for _ in range(MANY):
            call()

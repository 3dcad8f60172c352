"""asv benchmarks over the named cases of `fastconv.bench.cases`.

The parameters are written out here and do not depend on what is installed or on what a commit knows:
``setup`` skips what cannot run. fastconv is imported inside functions, so that old commits still load.
asv calls ``setup`` before every timed call, so plans are kept beside it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from typing import Any

if "ASV_COMMIT" in os.environ:  # Numba does not see a change in another file: a cache for each commit
    os.environ["NUMBA_CACHE_DIR"] = os.path.join(tempfile.gettempdir(), "fastconv-asv", os.environ["ASV_COMMIT"])

BACKENDS = ("im2col", "numba", "cython", "winograd", "fft")
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
THREADS = (1, 2)
GFLOPS_ROUNDS = 5


@cache
def prepared(name: str, backend: str, threads: int) -> tuple[Callable[[], Any], int] | None:
    """A call of the planned case and its operations; None where this commit or machine cannot run it."""
    try:
        import numpy as np

        import fastconv
        from fastconv.bench.cases import arrays, find
        from fastconv.threads import cores

        case = find(name)
        data = arrays(case)
        plan = fastconv.plan(data.w, data.x.shape, data.bias, backend=backend, **case.options)
    except (ImportError, KeyError, ValueError, RuntimeError):  # the last two: fastconv's refusals
        return None
    if threads > cores():
        return None
    out = np.empty(plan.out_shape, plan.spec.acc_dtype)
    call = partial(plan, data.x, out=out, threads=threads)
    call()
    return call, plan.spec.flops


def _needed(name: str, backend: str, threads: int) -> tuple[Callable[[], Any], int]:
    found = prepared(name, backend, threads)
    if found is None:
        raise NotImplementedError(f"{backend} does not run {name} on {threads} threads here")
    return found


class Conv:
    """Seconds per call, one call a sample: for layers of 50 microseconds and more."""

    params = (CASES, BACKENDS, THREADS)
    param_names = ("case", "backend", "threads")
    version = "1"

    def setup(self, case: str, backend: str, threads: int) -> None:
        _needed(case, backend, threads)

    def time_plan(self, case: str, backend: str, threads: int) -> None:
        _needed(case, backend, threads)[0]()


class Rate:
    """GFLOP/s of the direct operation count, median of rounds of many calls."""

    params = (CASES, BACKENDS, THREADS)
    param_names = ("case", "backend", "threads")
    unit = "GFLOP/s"
    version = "1"

    def setup(self, case: str, backend: str, threads: int) -> None:
        _needed(case, backend, threads)

    def track_gflops(self, case: str, backend: str, threads: int) -> float:
        call, flops = _needed(case, backend, threads)
        return flops / _seconds(call) / 1e9


class TinyCall:
    """Microseconds of a call whose sums cost less than the call itself."""

    params = (("tiny-8x16",), BACKENDS, (1,))
    param_names = ("case", "backend", "threads")
    unit = "microseconds"
    version = "1"

    def setup(self, case: str, backend: str, threads: int) -> None:
        _needed(case, backend, threads)

    def track_call(self, case: str, backend: str, threads: int) -> float:
        return _seconds(_needed(case, backend, threads)[0]) * 1e6


def _seconds(call: Callable[[], Any]) -> float:
    from fastconv.bench import timing

    *_, series = timing.rounds({"": timing.calling(call)}, GFLOPS_ROUNDS)
    return series[""].median

"""The layers that asv follows, and how any commit of fastconv plans and times one.

New benchmark files measure old commits, so nothing here asks a commit what it can do: the layers are written out, and
only what has been there since the first commit is used (`parse_layer`, `plan`, the probe of the peak). fastconv and
NumPy are imported inside functions: a file that fails to load would take every benchmark with it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

if "ASV_ENV_DIR" in os.environ:  # Numba does not see a change in another file: a cache for each commit
    os.environ["NUMBA_CACHE_DIR"] = os.path.join(
        os.environ["ASV_ENV_DIR"], "numba", os.environ.get("ASV_COMMIT", "unknown")
    )

LAYERS = {
    "resnet-64x56-3x3": "ic64ih56oc64k3p1",
    "resnet-256x14-3x3": "ic256ih14oc256k3p1",
    "resnet-64x56-1x1": "ic64ih56oc256",
    "resnet-stem-7x7s2": "ic3ih224oc64k7s2p3",
    "resnet-128x56-3x3s2": "ic128ih56oc128k3s2p1",
    "lecture-3x3": "n16ic128ih26oc192k3p1",
    "mobilenet-dw-144x56": "ic144ih56oc144k3p1g144",
    "audio-80s4": "iw16000oc64k80s4",
    "photo-15x15": "ih1080iw1920k15p7",
    "odd-37x45x61": "ic37ih45iw61oc53k3p1",
    "tiny-8x16": "ic8ih16oc8k3p1",
}
"""Names and texts of `fastconv.bench.cases`; a test compares them."""

BACKENDS = ("auto", "im2col", "numba", "cython", "winograd", "fft")
THREADS = (1, 2)

ROUNDS = 9
"""Rounds of a tracked rate, of which the median counts."""

BLOCK_SECONDS = 0.02
"""Calls in one round last at least so long, so that the clock does not matter."""

PROBE_MILLISECONDS = 5.0
"""Length of one probe of the peak: long against a thread's wake-up, short against a round."""


class Planned(NamedTuple):
    """One layer, ready: the call, its operations, and a probe of the machine's peak in GFLOP/s if there is one."""

    call: Callable[[], Any]
    flops: int
    probe: Callable[[], float] | None


@cache  # asv calls setup before every timed call: what takes time is kept between them
def planned(name: str, backend: str, threads: int) -> Planned | None:
    """The layer, called once; None where this commit or machine cannot run it."""
    # im2col has as many threads as its BLAS, which asks for them when NumPy is first imported.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    try:
        import numpy as np

        import fastconv
        from fastconv.spec import parse_layer

        spec = parse_layer(LAYERS[name])
        rng = np.random.default_rng(0)
        x, w = (rng.standard_normal(shape, "float32") for shape in (spec.x_shape, spec.w_shape))
        options: dict[str, Any] = {
            "stride": spec.stride,
            "padding": spec.padding,
            "dilation": spec.dilation,
            "groups": spec.g,
        }
        plan = fastconv.plan(w, x.shape, np.ones(spec.oc, "float32"), backend=backend, **options)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError):  # a commit before it, or a refusal
        return None
    if threads > cores():
        return None
    call = partial(plan, x, out=np.empty(plan.out_shape, "float32"), threads=threads)
    call()
    return Planned(call, spec.flops, _probe(threads))


def needed(name: str, backend: str, threads: int) -> Planned:
    """The layer, ready; asv reads a ``NotImplementedError`` in ``setup`` as: not here."""
    found = planned(name, backend, threads)
    if found is None:
        raise NotImplementedError(f"{backend} does not run {name} on {threads} threads here")
    return found


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate(layer: Planned, of_peak: bool = False) -> float:
    """GFLOP/s of the direct operation count, or the percent of the peak that was probed in the same round."""
    once = _seconds(layer.call, 1)
    calls = max(1, round(BLOCK_SECONDS / once))
    values = []
    for _ in range(ROUNDS):
        # The probe also wakes the threads, so it runs where its result is not asked for.
        peak = layer.probe() if layer.probe else 0.0
        layer.call()
        gflops = layer.flops * calls / _seconds(layer.call, calls) / 1e9
        values.append(100 * gflops / peak if of_peak else gflops)
    return statistics.median(values)


def _seconds(call: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def _probe(threads: int) -> Callable[[], float] | None:
    try:
        from fastconv.kernels._compiled import fma_peak
    except ImportError:
        return None
    return partial(fma_peak, threads, PROBE_MILLISECONDS)

"""asv benchmarks of what a network needs around its convolutions: the way back up, gradients, poolings.

As in `bench_conv`: the parameters are written out, and ``setup`` skips what a commit or a machine cannot run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from bench.layers import THREADS, cores

WHAT = (
    "transposed-64to32-4x4s2-56",  # U-Net and generators: the way back up
    "transposed-256to128-2x2s2-28",
    "grad-input-64to64-3x3-56",
    "grad-weight-64to64-3x3-56",
    "max-3x3s2-64x112",  # ResNet's first pooling
    "max-indices-3x3s2-64x112",
    "avg-3x3s2-192x26",  # the lecture's
    "global-avg-2048x7",  # ResNet's last pooling
    "unfold-3x3-64x56",
)


def _call(what: str, fc: Any, normal: Callable[..., Any]) -> Callable[..., Any]:
    match what:
        case "transposed-64to32-4x4s2-56":
            return partial(fc.plan_transpose(normal(64, 32, 4, 4), (1, 64, 56, 56), None, 2, 1), normal(1, 64, 56, 56))
        case "transposed-256to128-2x2s2-28":
            plan = fc.plan_transpose(normal(256, 128, 2, 2), (1, 256, 28, 28), None, 2)
            return partial(plan, normal(1, 256, 28, 28))
        case "grad-input-64to64-3x3-56":
            image = normal(1, 64, 56, 56)
            return partial(fc.grad.conv2d_input, image.shape, normal(64, 64, 3, 3), image, padding=1)
        case "grad-weight-64to64-3x3-56":
            image = normal(1, 64, 56, 56)
            return partial(fc.grad.conv2d_weight, image, (64, 64, 3, 3), normal(1, 64, 56, 56), padding=1)
        case "max-3x3s2-64x112":
            return partial(fc.max_pool2d, normal(1, 64, 112, 112), 3, 2, 1)
        case "max-indices-3x3s2-64x112":
            return partial(fc.max_pool2d, normal(1, 64, 112, 112), 3, 2, 1, return_indices=True)
        case "avg-3x3s2-192x26":
            return partial(fc.avg_pool2d, normal(16, 192, 26, 26), 3, 2, 1)
        case "global-avg-2048x7":
            return partial(fc.adaptive_avg_pool2d, normal(1, 2048, 7, 7), 1)
        case "unfold-3x3-64x56":
            return partial(fc.unfold, normal(1, 64, 56, 56), 3, 1, 1)
    raise AssertionError(what)


@cache
def prepared(what: str, threads: int) -> Callable[[], Any] | None:
    """The call; None where this commit has no such function or option, or the machine not so many cores."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # before NumPy is first imported
    import numpy as np

    rng = np.random.default_rng(0)
    try:
        import fastconv

        call = partial(_call(what, fastconv, lambda *shape: rng.standard_normal(shape, "float32")), threads=threads)
        call()
    except (ImportError, AttributeError, TypeError):
        return None
    return call if threads <= cores() else None


class Around:
    """Seconds per call."""

    params = (WHAT, THREADS)
    param_names = ("what", "threads")
    version = "1"

    def setup(self, what: str, threads: int) -> None:
        if prepared(what, threads) is None:
            raise NotImplementedError(f"{what} does not run on {threads} threads here")

    def time_call(self, what: str, threads: int) -> None:
        call = prepared(what, threads)
        assert call is not None
        call()

"""asv benchmarks of what a network needs around its convolutions: the way back up, gradients, poolings.

As in `bench_conv`: the parameters are written out, and ``setup`` skips what a commit or a machine cannot run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

NAMES = (
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
THREADS = (1, 2)


@cache
def prepared(name: str, threads: int) -> Callable[[], Any] | None:
    """The call; None where this commit has no such function, or the machine not so many cores."""
    import numpy as np

    import fastconv

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, "float32")

    try:
        from fastconv import grad
        from fastconv.threads import cores

        calls = {
            NAMES[0]: lambda: partial(fastconv.plan_transpose(normal(64, 32, 4, 4), (1, 64, 56, 56), None, 2, 1),
                                      normal(1, 64, 56, 56)),
            NAMES[1]: lambda: partial(fastconv.plan_transpose(normal(256, 128, 2, 2), (1, 256, 28, 28), None, 2),
                                      normal(1, 256, 28, 28)),
            NAMES[2]: lambda: partial(grad.conv2d_input, (1, 64, 56, 56), normal(64, 64, 3, 3), normal(1, 64, 56, 56),
                                      padding=1),
            NAMES[3]: lambda: partial(grad.conv2d_weight, normal(1, 64, 56, 56), (64, 64, 3, 3), normal(1, 64, 56, 56),
                                      padding=1),
            NAMES[4]: lambda: partial(fastconv.max_pool2d, normal(1, 64, 112, 112), 3, 2, 1),
            NAMES[5]: lambda: partial(fastconv.max_pool2d, normal(1, 64, 112, 112), 3, 2, 1, return_indices=True),
            NAMES[6]: lambda: partial(fastconv.avg_pool2d, normal(16, 192, 26, 26), 3, 2, 1),
            NAMES[7]: lambda: partial(fastconv.adaptive_avg_pool2d, normal(1, 2048, 7, 7), 1),
            NAMES[8]: lambda: partial(fastconv.unfold, normal(1, 64, 56, 56), 3, 1, 1),
        }  # fmt: skip
        call = partial(calls[name](), threads=threads)
        call()
    except (ImportError, AttributeError, TypeError):  # a commit before the function or the option
        return None
    return call if threads <= cores() else None


class Around:
    """Seconds per call."""

    params = (NAMES, THREADS)
    param_names = ("what", "threads")
    version = "1"

    def setup(self, what: str, threads: int) -> None:
        if prepared(what, threads) is None:
            raise NotImplementedError(f"{what} does not run on {threads} threads here")

    def time_call(self, what: str, threads: int) -> None:
        call = prepared(what, threads)
        assert call is not None
        call()

"""Windows combined by the compiled kernels, where these are there and fit; else `reduction` does, to the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv import tuning
from fastconv.kernels import engine
from fastconv.pooling.geometry import Windows
from fastconv.threads import threads_of

ONE = np.ones(1, np.int64)
"""Elements of the one window of an axis that is not there."""


def combine(
    source: np.ndarray, windows: Sequence[Windows], out: np.ndarray, divisor: list[np.ndarray] | int | None,
    threads: int | None,
) -> bool:  # fmt: skip
    """Write the means of all windows of ``source`` (n, c, ...) to ``out``; without a ``divisor``, the largest elements.

    Returns whether it did: for floats whose rows have no gaps. Both are such as `fastconv.arrays` lets in.
    """
    if source.dtype.kind != "f" or (source.shape[-1] > 1 and source.strides[-1] != source.itemsize) or engine() is None:
        return False
    missing = 3 - len(windows)
    counts = divisor if isinstance(divisor, list) else [None] * len(windows)
    axes = [(1, 1, 0, 1, 1, 1, ONE)] * missing + [
        (axis.size, axis.out, axis.start, axis.stride, axis.kernel, axis.dilation, count)
        for axis, count in zip(windows, counts, strict=True)
    ]
    whole = (slice(None), slice(None), *[None] * missing)
    number = threads_of(threads)
    if source.nbytes + out.nbytes < tuning.POOL_COMPILED_BYTES:
        number = 1
    given = float(divisor) if isinstance(divisor, int) else 0.0
    engine().pool(divisor is not None, source[whole], out[whole], axes, given, number)
    return True

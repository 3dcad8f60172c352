"""Windows combined by the compiled kernels, where these are there and fit; else `reduction` does, to the same bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.arguments import LAYOUTS
from fastconv.calls import Shape
from fastconv.kernels import engine
from fastconv.pooling.geometry import Windows
from fastconv.shapes import canonical_axes
from fastconv.threads import threads_of

ONE = np.ones(1, np.int64)
"""Elements of the one window of an axis that is not there."""

Divisor = list[np.ndarray] | int


def ready(
    shapes: tuple[Shape, Shape], dtype: np.dtype[Any], layout: str, windows: Sequence[Windows], divisor: Divisor | None,
    threads: int | None,
) -> Any:  # fmt: skip
    """What pools arrays x and out of these shapes: means of all windows, or, without a ``divisor``, largest elements.

    A quick way as in `fastconv.known`; ``run(x, out)`` takes any arrays that `fastconv.arrays` lets in, as (n, c, d,
    h, w), and returns whether it did: where the rows of x have no gaps. None for integers, or without the kernels.
    """
    if dtype.kind != "f" or engine() is None:
        return None
    ndim, number = len(windows), threads_of(threads)
    missing = 3 - ndim
    counts = divisor if isinstance(divisor, list) else [None] * ndim
    axes = [(1, 1, 0, 1, 1, 1, ONE)] * missing + [
        (axis.size, axis.out, axis.start, axis.stride, axis.kernel, axis.dilation, count)
        for axis, count in zip(windows, counts, strict=True)
    ]
    if dtype.itemsize * sum(map(math.prod, shapes)) < tuning.POOL_COMPILED_BYTES:
        number = 1
    given = float(divisor) if isinstance(divisor, int) else 0.0
    last = layout == LAYOUTS[ndim][1]
    order = tuple(canonical_axes(len(shape), ndim, last) for shape in shapes)
    return engine().Pool(divisor is not None, shapes, order, dtype, axes, given, number)


def five(array: np.ndarray) -> np.ndarray:
    """A view of (n, c, ...) as (n, c, d, h, w)."""
    return array[(slice(None), slice(None), *[None] * (5 - array.ndim))]

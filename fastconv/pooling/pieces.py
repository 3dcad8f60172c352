"""How the work of a pooling is cut: into images, channels and rows of windows, shared out over threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastconv import tuning
from fastconv.kernels.sharing import share
from fastconv.threads import threads_of


class Piece(NamedTuple):
    """A part of the result; ``rows`` are windows along the first spatial axis."""

    images: slice
    channels: slice
    rows: slice

    @property
    def planes(self) -> tuple[slice, slice]:
        return self.images, self.channels


def cut(source: np.ndarray, rows: int, whole_planes: bool = False) -> list[Piece]:
    """Pieces of a result with ``rows`` windows along its first axis that read POOL_PIECE_BYTES of ``source``.

    The same for any number of threads, so that no result depends on it. At least one row of one plane each, or one
    plane. Where neighbouring elements are those of the channels, rows are cut before channels.
    """
    n, c, limit = source.shape[0], source.shape[1], tuning.POOL_PIECE_BYTES
    plane = max(math.prod(source.shape[2:]) * source.itemsize, 1)
    images, channels, height = 1, c, rows
    if c * plane <= limit:
        images = limit // max(c * plane, 1)
    elif whole_planes or rows == 1 or abs(source.strides[1]) > min(map(abs, source.strides[2:])):
        channels = max(limit // plane, 1)
        height = rows if whole_planes else min(max(rows * limit // plane, 1), rows)
    else:
        height = max(rows * limit // (c * plane), 1)
    return [
        Piece(slice(i, min(i + images, n)), slice(j, min(j + channels, c)), slice(k, min(k + height, rows)))
        for i in range(0, n, images)
        for j in range(0, c, max(channels, 1))
        for k in range(0, rows, height)
    ]


def run(call: Callable[[Piece], None], pieces: list[Piece], nbytes: int, threads: int | None) -> None:
    """``call`` every piece, on several threads where reading ``nbytes`` is worth it. Inf - Inf is NaN, silently."""
    number = threads_of(threads)
    if nbytes < tuning.POOL_PARALLEL_BYTES:
        number = 1
    with np.errstate(all="ignore"):
        share(call, pieces, min(number, len(pieces)))

"""What the backends on sums of products share: error bound, packed weights, and how many threads are worth it."""

from __future__ import annotations

import math

import numpy as np

from fastconv import tuning
from fastconv.spec import ConvSpec


def sequential_bound(spec: ConvSpec, roundings: int | None = None) -> float:
    """Largest error of a sum of products in any order, as a multiple of ``max|x| * max_oc sum|w|``.

    ``roundings`` is the number of roundings on the longest path of one product to the result (default:
    one for the product and one per addition). Source: Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1.
    """
    if not spec.acc_dtype.startswith("float"):
        return 0.0
    u = float(np.finfo(spec.acc_dtype).eps) / 2
    nu = (spec.terms + 1 if roundings is None else roundings) * u
    return nu / (1 - nu)


def workers(spec: ConvSpec, threads: int) -> int:
    """Threads worth starting for a layer."""
    return threads if spec.flops >= tuning.PARALLEL_FLOPS else 1


def row_blocks(ocg: int, rows: int) -> np.ndarray:
    """Output channels of each register block, (block, row): the last block is full and overlaps the one before it."""
    starts = np.minimum(np.arange(0, ocg, rows), max(ocg - rows, 0))
    return np.asarray(starts[:, None] + np.arange(min(rows, ocg)))


def pack(w: np.ndarray, g: int, rows: int, channels: int) -> np.ndarray:
    """Weights (oc, icg, ...) as [g][channel block][row block][tap][channel][row], flat."""
    ocg, icg = w.shape[0] // g, w.shape[1]
    blocks = w.reshape(g, ocg, icg, math.prod(w.shape[2:]))[:, row_blocks(ocg, rows)]  # (g, block, row, channel, tap)
    ordered = blocks.transpose(0, 1, 4, 3, 2)
    parts = [ordered[:, :, :, c : c + channels].reshape(g, -1) for c in range(0, icg, channels)]
    return np.concatenate(parts, axis=1).ravel() if parts else np.empty(0, w.dtype)

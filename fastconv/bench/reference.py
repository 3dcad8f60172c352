"""The float64 reference: one matrix product per tap, in NumPy, apart from the engine's own geometry.

A single filter on a single channel would be thousands of products with one row; it is one correlation per row of taps.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.spec import ConvSpec, PoolSpec

_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def expected(case: AnyCase, data: Arrays) -> np.ndarray:
    """What a timed case must give, float64, shape ``case.out_shape``; without activation and residual."""
    if isinstance(case, Case):
        return conv(data.x, data.w, data.bias, case.spec)
    return pool(data.x, case.spec, case.op)


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, spec: ConvSpec) -> np.ndarray:
    """The layer in float64, shape ``spec.out_shape``; ``x`` in the layout of the spec."""
    if spec.channels_last:
        x = np.moveaxis(x, -1, 1)
    mode = _MODES[spec.padding_mode]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *spec.padding), mode)  # type: ignore[call-overload]
    if spec.ndim == 2 and spec.ic == spec.oc == max(spec.stride) == max(spec.dilation) == 1:
        out = _filtered(padded, w.astype(np.float64)[0, 0])
    else:
        out = _summed(padded, w.astype(np.float64), spec)
    result = out.reshape(spec.n, spec.oc, *spec.output_size)
    if bias is not None:
        result += bias.astype(np.float64).reshape(-1, *[1] * spec.ndim)
    return np.moveaxis(result, 1, -1) if spec.channels_last else result


def _summed(padded: np.ndarray, w: np.ndarray, spec: ConvSpec) -> np.ndarray:
    icg, pixels = spec.ic // spec.g, math.prod(spec.output_size)
    weights = w.reshape(spec.g, spec.oc // spec.g, icg, *spec.kernel_size)
    out = np.zeros((spec.n, spec.g, spec.oc // spec.g, pixels))
    tap: Any
    for tap in itertools.product(*map(range, spec.kernel_size)):
        window: Any = tuple(
            slice(r * d, r * d + (o - 1) * s + 1, s)
            for r, d, o, s in zip(tap, spec.dilation, spec.output_size, spec.stride, strict=True)
        )
        taken = padded[(slice(None), slice(None), *window)].reshape(spec.n, spec.g, icg, pixels)
        out += weights[(..., *tap)] @ taken
    return out


def _filtered(padded: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Rows lie one behind the other, so a row of taps goes over all of them at once."""
    kh, kw = taps.shape
    n, _, ih, iw = padded.shape
    out = np.zeros((n, 1, ih - kh + 1, iw - kw + 1))
    for image, result in zip(padded[:, 0], out[:, 0], strict=True):
        for r, row in enumerate(taps):
            flat = np.append(image[r : r + len(result)], np.zeros(kw - 1))
            result += np.correlate(flat, row, "valid").reshape(len(result), iw)[:, : iw - kw + 1]
    return out


def pool(x: np.ndarray, spec: PoolSpec, op: str) -> np.ndarray:
    """Maximum or mean of each window in float64; padding never wins, but counts in the mean's divisor."""
    edges = ((0, 0), (0, 0), *spec.pads)
    padded = np.pad(x.astype(np.float64), edges, constant_values=-np.inf if op == "max_pool" else 0.0)
    axes = tuple(range(2, x.ndim))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, spec.extent, axis=axes)
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in spec.stride))]
    windows = windows[(..., *(slice(None, None, d) for d in spec.dilation))]
    last = tuple(range(-len(axes), 0))
    result: np.ndarray = windows.max(axis=last) if op == "max_pool" else windows.mean(axis=last)
    return result


def allowed_error(error_bound: float, x: np.ndarray, w: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """What a plan's ``error_bound`` permits on these arrays, plus the rounding of bias and store."""
    if not x.size or not w.size:
        return 0.0
    largest = float(np.abs(x).max()) * float(np.abs(w.astype(np.float64)).reshape(len(w), -1).sum(axis=1).max())
    return error_bound * largest + float(np.finfo(dtype).eps) * float(np.abs(expected).max())

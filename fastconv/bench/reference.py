"""The float64 reference: one matrix product per tap, in NumPy, apart from the engine's own geometry."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastconv.spec import ConvSpec

_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, spec: ConvSpec) -> np.ndarray:
    """The layer in float64, shape ``spec.out_shape``; ``x`` in the layout of the spec."""
    if spec.channels_last:
        x = np.moveaxis(x, -1, 1)
    mode = _MODES[spec.padding_mode]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *spec.padding), mode)  # type: ignore[call-overload]
    icg, pixels = spec.ic // spec.g, math.prod(spec.output_size)
    weights = w.astype(np.float64).reshape(spec.g, spec.oc // spec.g, icg, *spec.kernel_size)
    out = np.zeros((spec.n, spec.g, spec.oc // spec.g, pixels))
    tap: Any
    for tap in itertools.product(*map(range, spec.kernel_size)):
        window: Any = tuple(
            slice(r * d, r * d + (o - 1) * s + 1, s)
            for r, d, o, s in zip(tap, spec.dilation, spec.output_size, spec.stride, strict=True)
        )
        taken = padded[(slice(None), slice(None), *window)].reshape(spec.n, spec.g, icg, pixels)
        out += weights[(..., *tap)] @ taken
    result = out.reshape(spec.n, spec.oc, *spec.output_size)
    if bias is not None:
        result += bias.astype(np.float64).reshape(-1, *[1] * spec.ndim)
    return np.moveaxis(result, 1, -1) if spec.channels_last else result


def max_pool(x: np.ndarray, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Largest value under each window of the last two axes; the padding never wins."""
    padded = np.pad(x, ((0, 0),) * (x.ndim - 2) + ((padding, padding),) * 2, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(-2, -1))
    result: np.ndarray = windows[..., ::stride, ::stride, :, :].max(axis=(-2, -1))
    return result


def allowed_error(error_bound: float, x: np.ndarray, w: np.ndarray, expected: np.ndarray, dtype: str) -> float:
    """What a plan's ``error_bound`` permits on these arrays, plus the rounding of bias and store."""
    if not x.size or not w.size:
        return 0.0
    largest = float(np.abs(x).max()) * float(np.abs(w.astype(np.float64)).reshape(len(w), -1).sum(axis=1).max())
    return error_bound * largest + float(np.finfo(dtype).eps) * float(np.abs(expected).max())

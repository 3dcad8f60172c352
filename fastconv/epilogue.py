"""``act(sum + bias + residual)`` in NumPy, for the backends that do not fuse it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fastconv import tuning
from fastconv.spec import Epilogue, Problem

_TEMPORARIES = 6  # arrays that the longest formula of `activate` holds at a time


def finish(out: np.ndarray, bias: np.ndarray | None, residual: np.ndarray | None, epilogue: Epilogue) -> None:
    """Apply bias, residual and activation to ``out`` (n, oc, d, h, w) in place."""
    if bias is not None:
        out += bias[:, None, None, None]
    if residual is not None:
        out += residual
    if epilogue.activation is not None:
        for plane in (plane for image in out for channel in image for plane in channel):
            for part in _parts(plane):
                part[...] = activate(part, epilogue)


def workspace_bytes(problem: Problem) -> int:
    """Bytes that `finish` takes for temporaries."""
    return 0 if problem.epilogue.activation is None else _TEMPORARIES * tuning.EPILOGUE_BYTES


def _parts(plane: np.ndarray) -> Iterator[np.ndarray]:
    """Pieces of a plane (h, w) of at most ``EPILOGUE_BYTES``, as float64."""
    elements = tuning.EPILOGUE_BYTES // 8
    cols = min(plane.shape[1], elements)
    rows = max(elements // max(cols, 1), 1)
    for y in range(0, plane.shape[0], rows):
        for x in range(0, plane.shape[1], max(cols, 1)):
            yield plane[y : y + rows, x : x + cols]


def activate(v: np.ndarray, epilogue: Epilogue) -> np.ndarray:
    """The activation of ``v``; NaN stays NaN.

    >>> activate(np.array([-1.0, 8.0]), Epilogue("relu6")).tolist()
    [0.0, 6.0]
    """
    number = v.dtype.type
    result: np.ndarray = v
    match epilogue.activation:
        case "relu":
            result = np.where(v < 0, number(0), v)
        case "relu6":
            result = np.where(v < 0, number(0), np.where(v > 6, number(6), v))
        case "leaky_relu":
            result = np.where(v < 0, v * number(epilogue.parameter), v)
        case "hardswish":
            result = np.where(v <= -3, number(0), v * np.where(v > 3, number(6), v + 3) / 6)
        case "silu":
            with np.errstate(over="ignore"):  # exp(-v) = Inf: the result is 0
                result = v / (1 + np.exp(-v))
        case "gelu":
            result = v * (0.5 * (1 + erf(v * number(math.sqrt(0.5)))))
        case "gelu_tanh":
            inner = number(math.sqrt(2 / math.pi)) * (v + number(0.044715) * v * v * v)
            result = v * (0.5 * (1 + np.tanh(inner)))
    return result


def erf(v: np.ndarray) -> np.ndarray:
    """The error function in ``v``'s own dtype, from SciPy where it is installed."""
    try:
        from scipy import special
    except ImportError:
        values = np.vectorize(math.erf, otypes=[np.float64])(v)
    else:
        values = special.erf(v)
    return np.asarray(values).astype(v.dtype, copy=False)

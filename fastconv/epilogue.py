"""``act(sum + bias + residual)`` in NumPy, for the backends that do not fuse it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastconv.spec import Epilogue


def finish(
    out: np.ndarray, bias: np.ndarray | None, residual: np.ndarray | None, epilogue: Epilogue
) -> None:
    """Apply bias, residual and activation to ``out`` (n, oc, d, h, w) in place."""
    if bias is not None:
        out += bias[:, None, None, None]
    if residual is not None:
        out += residual
    if epilogue.activation is not None:
        for image in out:
            image[...] = activate(image, epilogue)


def activate(v: np.ndarray, epilogue: Epilogue) -> np.ndarray:
    """The activation of ``v``; NaN stays NaN.

    >>> activate(np.array([-1.0, 8.0]), Epilogue("relu6")).tolist()
    [0.0, 6.0]
    """
    one = v.dtype.type(1)
    match epilogue.activation:
        case "relu":
            return np.where(v < 0, 0 * one, v)
        case "relu6":
            return np.where(v < 0, 0 * one, np.where(v > 6, 6 * one, v))
        case "leaky_relu":
            return np.where(v < 0, v * v.dtype.type(epilogue.parameter), v)
        case "hardswish":
            gate = v + 3
            gate = np.where(gate < 0, 0 * one, np.where(gate > 6, 6 * one, gate))
            return np.where(v <= -3, 0 * one, v * gate / 6)
        case "silu":
            with np.errstate(over="ignore"):
                return v / (1 + np.exp(-v))
        case "gelu":
            return v * (0.5 * (1 + erf(v * v.dtype.type(math.sqrt(0.5)))))
        case "gelu_tanh":
            inner = v.dtype.type(math.sqrt(2 / math.pi)) * (v + v.dtype.type(0.044715) * v * v * v)
            return v * (0.5 * (1 + np.tanh(inner)))
        case _:
            return v


def erf(v: np.ndarray) -> np.ndarray:
    """The error function in ``v``'s own dtype, from SciPy where it is installed."""
    if "scipy.special" in sys.modules or find_spec("scipy") is not None:
        from scipy import special

        function: Callable[[np.ndarray], Any] = special.erf
    else:
        function = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(function(v)).astype(v.dtype, copy=False)

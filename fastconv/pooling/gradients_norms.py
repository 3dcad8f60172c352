"""The gradients of the norms of sliding windows to their input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import arrays
from fastconv.calls import Array, Ints, Padding
from fastconv.pooling import geometry, norms, pieces, reduction
from fastconv.pooling.geometry import Windows
from fastconv.spec import PoolSpec


def lp_pool2d_input(
    x: Array, grad_output: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
    ceil_mode: bool = False, *, padding: Padding = 0, dilation: Ints = 1, compat: str = "torch",
    layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.lp_pool2d` to its input; of a window whose powers add up to 0 it is 0.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        The layer's input, float32 or float64.
    grad_output : array
        Gradient to the output, in the output's shape; dtype of ``x``.
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, compat, layout
        As the layer has them.
    threads, out
        As in `fastconv.lp_pool2d`.

    Returns
    -------
    array
        Gradient of the shape of ``x``, kind of ``grad_output``. With ``norm_type`` infinity it goes to the first of the
        largest absolute elements.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> lp_pool2d_input(np.array([[3.0, 0.0], [0.0, -4.0]]), np.array([[10.0]]), 2, 2)
    array([[ 6.,  0.],
           [ 0., -8.]])
    """
    return _lp_pool(2, x, grad_output, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                    threads, out)  # fmt: skip


def lp_pool1d_input(
    x: Array, grad_output: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
    ceil_mode: bool = False, *, padding: Padding = 0, dilation: Ints = 1, compat: str = "torch",
    layout: str = "NCW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.lp_pool1d` to its input (n, c, w), (c, w) or (w,); see `lp_pool2d_input`.

    Examples
    --------
    >>> lp_pool1d_input(np.array([3.0, 4.0]), np.array([5.0]), 2, 2)
    array([3., 4.])
    """
    return _lp_pool(1, x, grad_output, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                    threads, out)  # fmt: skip


def lp_pool3d_input(
    x: Array, grad_output: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
    ceil_mode: bool = False, *, padding: Padding = 0, dilation: Ints = 1, compat: str = "torch",
    layout: str = "NCDHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.lp_pool3d` to its input (n, c, d, h, w) or less; see `lp_pool2d_input`.

    Examples
    --------
    >>> lp_pool3d_input(np.ones((1, 2, 2)), np.ones((1, 1, 1)), 2, (1, 2, 2)).sum().item()
    2.0
    """
    return _lp_pool(3, x, grad_output, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                    threads, out)  # fmt: skip


def _lp_pool(
    ndim: int, x: Array, grad_output: Array, norm_type: float, options: tuple[Any, ...], threads: int | None,
    out: np.ndarray | None,
) -> Array:  # fmt: skip
    array, layout = arrays.take(x, "x"), options[-1]
    spec, p = geometry.read(ndim, array.shape, *options), norms.check_power(norm_type)
    shape = geometry.resized(array.shape, spec.output_size, layout)
    gradient = geometry.check_gradient(grad_output, shape, array.dtype)
    result = geometry.result(array.shape, array.dtype, out, x=array, grad_output=gradient)
    source, given, target = (geometry.planes(a, ndim, layout) for a in (array, gradient, result))
    tracks = geometry.windows(spec)

    def compute(piece: pieces.Piece) -> None:
        seen, part = source[piece.planes], target[piece.planes]
        if p == math.inf:
            reduction.scatter(given[piece.planes], reduction.places(np.abs(seen), tracks), part, add=True)
            np.multiply(part, np.sign(seen), out=part)
            return
        reduction.spread(_shares(seen, given[piece.planes], p, spec, tracks), tracks, part)
        slope = norms.power(seen if spec.compat == "torch" else np.abs(seen), p - 1)
        np.multiply(part, slope if spec.compat == "torch" else slope * np.sign(seen), out=part)

    pieces.run(compute, pieces.cut(source, 1, whole_planes=True), array.nbytes, threads)
    return result if out is not None else arrays.give_back(result, grad_output)


def _shares(
    x: np.ndarray, gradient: np.ndarray, p: float, spec: PoolSpec, tracks: tuple[Windows, ...]
) -> np.ndarray:  # fmt: skip
    """What of its gradient a window gives to ``x ** (p - 1)``: none where its powers add up to 0."""
    rows = slice(0, spec.output_size[0])
    total = norms.sums(x, p, spec, list(tracks), rows)
    shares = np.where(total == 0, 0, gradient * norms.power(total, 1 / p - 1))
    factors = norms.scale(spec, rows, x.dtype)
    return shares if factors is None else shares * factors

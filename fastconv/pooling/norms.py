"""The Lp norm of each window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import arrays
from fastconv.calls import Array, Ints, Padding
from fastconv.pooling import geometry, pieces, reduction
from fastconv.pooling.geometry import Windows
from fastconv.spec import PoolSpec


def lp_pool2d(
    x: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False, *,
    padding: Padding = 0, dilation: Ints = 1, compat: str = "torch", layout: str = "NCHW",
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Lp norm of each window: ``(sum of x ** p) ** (1 / p)``.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32 or float64; otherwise, and the parameters not listed here, as in `max_pool2d`. Powers beyond the
        largest float are Inf, and so is then the norm.
    norm_type : float
        The power p, above 0; infinity is the largest absolute element, in either dialect.
    padding : int, one int or (before, after) pair per axis, 'valid', 'same' or 'same_lower'
        Zeros on both sides.
    compat : {'torch', 'onnx'}
        'torch' raises the elements themselves: with p = 1 it is their sum, with an odd p a window with a negative sum
        is NaN, and with a fraction every negative element makes NaN; a window that hangs over the end (``ceil_mode``)
        is scaled up to a whole one; at most half of a window is padding. 'onnx' raises absolute elements, adds up
        what there is, and takes any padding.

    Returns
    -------
    array
        Rank, kind and dtype of ``x``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> lp_pool2d(np.array([[3.0, 0.0], [0.0, 4.0]]), 2, 2)
    array([[5.]])
    >>> lp_pool2d(np.array([[1.0, -2.0]]), 1, (1, 2)), lp_pool2d(np.array([[1.0, -2.0]]), 1, (1, 2), compat="onnx")
    (array([[-1.]]), array([[3.]]))
    """
    return _lp_pool(2, x, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), threads, out)


def lp_pool1d(
    x: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False, *,
    padding: Padding = 0, dilation: Ints = 1, compat: str = "torch", layout: str = "NCW",
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Lp norm of each window of ``x`` (n, c, w), (c, w) or (w,); see `lp_pool2d`.

    Examples
    --------
    >>> lp_pool1d(np.array([3.0, 4.0, 0.0, 2.0]), 2, 2)
    array([5., 2.])
    """
    return _lp_pool(1, x, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), threads, out)


def lp_pool3d(
    x: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False, *,
    padding: Padding = 0, dilation: Ints = 1, compat: str = "torch", layout: str = "NCDHW",
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Lp norm of each window of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `lp_pool2d`.

    Examples
    --------
    >>> lp_pool3d(np.full((2, 2, 1), 3.0), 2, (2, 2, 1)).item()
    6.0
    """
    return _lp_pool(3, x, norm_type, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), threads, out)


def _lp_pool(
    ndim: int, x: Array, norm_type: float, options: tuple[Any, ...], threads: int | None, out: np.ndarray | None
) -> Array:
    array, layout = arrays.take(x, "x"), options[-1]
    spec, p = geometry.read(ndim, array.shape, *options), check_power(norm_type)
    geometry.check_float(array, "norm")
    result = geometry.result(geometry.resized(array.shape, spec.output_size, layout), array.dtype, out, x=array)
    source, norms = geometry.planes(array, ndim, layout), geometry.planes(result, ndim, layout)
    first, *others = geometry.windows(spec)

    def compute(piece: pieces.Piece) -> None:
        rows, track = first.cut(piece.rows).region()
        seen = source[piece.planes][:, :, rows]
        if p == math.inf:
            reduction.combine(np.maximum, 0, np.abs(seen), [track, *others], norms[piece])
        else:
            norms[piece] = power(sums(seen, p, spec, [track, *others], piece.rows), 1 / p)

    pieces.run(compute, pieces.cut(source, first.out), array.nbytes, threads)
    return result if out is not None else arrays.give_back(result, x)


def check_power(norm_type: Any) -> float:
    """A power above 0, or an error."""
    try:
        p = None if isinstance(norm_type, (str, bytes, bool, np.bool_)) else float(norm_type)
    except (TypeError, ValueError, OverflowError):
        p = None
    if p is None:
        raise TypeError(f"norm_type={norm_type!r} must be a number")
    if not p > 0:
        raise ValueError(f"norm_type={norm_type!r} must be above 0; math.inf is the largest absolute element")
    return p


def sums(x: np.ndarray, p: float, spec: PoolSpec, tracks: list[Windows], rows: slice) -> np.ndarray:
    """The sums of powers, scaled as the dialect says, whose root is the norm."""
    powers = power(np.abs(x) if spec.compat == "onnx" else x, p)
    shape = (*x.shape[:2], *(track.out for track in tracks))
    total = np.empty_like(powers, shape=shape)
    reduction.combine(np.add, 0, powers, tracks, total)
    if (factors := scale(spec, rows, x.dtype)) is not None:
        np.multiply(total, factors, out=total)
    return total


def scale(spec: PoolSpec, rows: slice, dtype: np.dtype[Any]) -> np.ndarray | None:
    """By how much PyTorch multiplies the sum of each window: its size over what of it the padded input has."""
    if spec.compat == "onnx" or not spec.ceil_mode:
        return None
    had = geometry.outer(geometry.counts(spec, True), rows, dtype)
    factors: np.ndarray = math.prod(spec.kernel_size) / had
    return factors


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """``x ** exponent``; on a dense copy, because NumPy's power rounds differently on strided elements."""
    if exponent == 1:
        return x
    result: np.ndarray = x * x if exponent == 2 else x.copy(order="K")
    if exponent == 0.5:
        np.sqrt(result, out=result)
    elif exponent != 2:
        np.power(result, exponent, out=result)
    return result

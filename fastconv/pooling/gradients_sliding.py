"""The gradients of the maxima and means of sliding windows to their input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import arrays
from fastconv.calls import Array, Ints, Padding, Shape
from fastconv.pooling import geometry, pieces, reduction, sliding, unpool
from fastconv.shapes import check_shape


def max_pool2d_input(
    x: Array, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, indices: Array | None = None, compat: str = "torch",
    layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_pool2d` to its input: of each window to the element that it returned.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        The layer's input, float32 or float64.
    grad_output : array
        Gradient to the output, in the output's shape; dtype of ``x``.
    kernel_size, stride, padding, dilation, ceil_mode, compat, layout
        As the layer has them.
    indices : array of int64, optional
        What `fastconv.max_pool2d` returned as indices, row by row; without them the maxima are searched again.
    threads, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    array
        Gradient of the shape of ``x``, kind of ``grad_output``. Where windows share an element their gradients add
        up; of equal elements the one that ``return_indices`` names takes all.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> max_pool2d_input(np.array([[1.0, 4.0, 2.0]]), np.array([[10.0, 1.0]]), (1, 2), stride=1)
    array([[ 0., 11.,  0.]])
    """
    return _max_pool(2, x, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), indices,
                     threads, out)  # fmt: skip


def max_pool1d_input(
    x: Array, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, indices: Array | None = None, compat: str = "torch",
    layout: str = "NCW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_pool1d` to its input (n, c, w), (c, w) or (w,); see `max_pool2d_input`.

    Examples
    --------
    >>> max_pool1d_input(np.array([1.0, 3.0, 2.0, 0.0]), np.array([1.0, 2.0]), 2)
    array([0., 1., 2., 0.])
    """
    return _max_pool(1, x, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), indices,
                     threads, out)  # fmt: skip


def max_pool3d_input(
    x: Array, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, indices: Array | None = None, compat: str = "torch",
    layout: str = "NCDHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_pool3d` to its input (n, c, d, h, w) or less; see `max_pool2d_input`.

    Examples
    --------
    >>> max_pool3d_input(np.arange(4.0).reshape(1, 2, 2), np.ones((1, 1, 1)), (1, 2, 2))
    array([[[0., 0.],
            [0., 1.]]])
    """
    return _max_pool(3, x, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), indices,
                     threads, out)  # fmt: skip


def avg_pool2d_input(
    input_size: Shape, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
    dilation: Ints = 1, compat: str = "torch", layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.avg_pool2d` to its input: each window's, over its divisor, to all its elements.

    Parameters
    ----------
    input_size : tuple of int
        The whole shape of ``x``: (n, c, h, w) in ``layout``, (c, h, w) or (h, w).
    grad_output : array
        Gradient to the output, in the output's shape; float32 or float64.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, compat, layout
        As the layer has them.
    threads, out
        As in `fastconv.avg_pool2d`.

    Returns
    -------
    array
        Gradient of shape ``input_size``, kind and dtype of ``grad_output``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> avg_pool2d_input((2, 3), np.array([[4.0, 8.0]]), 2, stride=1)
    array([[1., 3., 2.],
           [1., 3., 2.]])
    """
    return _avg_pool(2, input_size, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                     count_include_pad, divisor_override, threads, out)  # fmt: skip


def avg_pool1d_input(
    input_size: Shape, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
    dilation: Ints = 1, compat: str = "torch", layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.avg_pool1d` to its input, of shape (n, c, w), (c, w) or (w,); see `avg_pool2d_input`.

    Examples
    --------
    >>> avg_pool1d_input((4,), np.array([2.0, 4.0]), 2)
    array([1., 1., 2., 2.])
    """
    return _avg_pool(1, input_size, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                     count_include_pad, divisor_override, threads, out)  # fmt: skip


def avg_pool3d_input(
    input_size: Shape, grad_output: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
    dilation: Ints = 1, compat: str = "torch", layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.avg_pool3d` to its input, of shape (n, c, d, h, w) or less; see `avg_pool2d_input`.

    Examples
    --------
    >>> avg_pool3d_input((2, 2, 2), np.full((1, 1, 1), 8.0), 2).sum().item()
    8.0
    """
    return _avg_pool(3, input_size, grad_output, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout),
                     count_include_pad, divisor_override, threads, out)  # fmt: skip


def _max_pool(
    ndim: int, x: Array, grad_output: Array, options: tuple[Any, ...], indices: Array | None, threads: int | None,
    out: np.ndarray | None,
) -> Array:  # fmt: skip
    array, layout = arrays.take(x, "x"), options[-1]
    spec = geometry.read(ndim, array.shape, *options)
    shape = geometry.resized(array.shape, spec.output_size, layout)
    gradient = geometry.check_gradient(grad_output, shape, array.dtype)
    where = None if indices is None else unpool.take_indices(indices, shape, "grad_output")
    result = geometry.result(array.shape, array.dtype, out, x=array, grad_output=gradient, indices=where)
    source, given, target = (geometry.planes(a, ndim, layout) for a in (array, gradient, result))
    places = None if where is None else geometry.planes(where, ndim, layout)
    tracks = geometry.windows(spec)

    def compute(piece: pieces.Piece) -> None:
        values = given[piece.planes]
        if places is None:
            found = reduction.places(source[piece.planes], tracks)
        else:
            found = unpool.in_planes(places, piece, target, spec.compat)
        reduction.scatter(values, found, target[piece.planes], add=True)

    taps = 1 if places is not None else math.prod(spec.kernel_size)
    pieces.run(compute, pieces.cut(source, 1, whole_planes=True), array.nbytes * taps, threads)
    return result if out is not None else arrays.give_back(result, grad_output)


def _avg_pool(
    ndim: int, input_size: Shape, grad_output: Array, options: tuple[Any, ...], count_include_pad: bool,
    divisor_override: int | None, threads: int | None, out: np.ndarray | None,
) -> Array:  # fmt: skip
    shape, layout = check_shape(input_size, "input_size"), options[-1]
    spec = geometry.read(ndim, shape, *options)
    numbers = sliding.divisor(spec, count_include_pad, divisor_override)
    gradient = geometry.check_gradient(grad_output, geometry.resized(shape, spec.output_size, layout))
    result = geometry.result(shape, gradient.dtype, out, grad_output=gradient)
    given, target = geometry.planes(gradient, ndim, layout), geometry.planes(result, ndim, layout)
    tracks = geometry.windows(spec)

    def compute(piece: pieces.Piece) -> None:
        shares = given[piece.planes] / sliding.divide_by(numbers, slice(None), gradient.dtype)
        reduction.spread(shares, tracks, target[piece.planes])

    pieces.run(compute, pieces.cut(target, 1, whole_planes=True), result.nbytes, threads)
    return result if out is not None else arrays.give_back(result, grad_output)

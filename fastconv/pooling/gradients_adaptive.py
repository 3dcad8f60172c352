"""The gradients of adaptive poolings and of unpooling to their input."""

from __future__ import annotations

import numpy as np

from fastconv import arrays
from fastconv.calls import Array, Shape
from fastconv.pooling import adaptive, geometry, pieces, reduction, unpool
from fastconv.shapes import check_shape
from fastconv.spec import DIALECTS


def adaptive_avg_pool2d_input(
    input_size: Shape, grad_output: Array, *, layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_avg_pool2d` to its input: each bin's, over its size, to all its elements.

    Parameters
    ----------
    input_size : tuple of int
        The whole shape of ``x``: (n, c, h, w) in ``layout``, (c, h, w) or (h, w).
    grad_output : array
        Gradient to the output, in the output's shape; float32 or float64.
    layout, threads, out
        As in `fastconv.adaptive_avg_pool2d`.

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
    >>> adaptive_avg_pool2d_input((2, 3), np.array([[4.0, 8.0]]))
    array([[1., 3., 2.],
           [1., 3., 2.]])
    """
    return _adaptive_avg(2, input_size, grad_output, layout, threads, out)


def adaptive_avg_pool1d_input(
    input_size: Shape, grad_output: Array, *, layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_avg_pool1d` to its input; see `adaptive_avg_pool2d_input`.

    Examples
    --------
    >>> adaptive_avg_pool1d_input((4,), np.array([2.0, 4.0]))
    array([1., 1., 2., 2.])
    """
    return _adaptive_avg(1, input_size, grad_output, layout, threads, out)


def adaptive_avg_pool3d_input(
    input_size: Shape, grad_output: Array, *, layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_avg_pool3d` to its input; see `adaptive_avg_pool2d_input`.

    Examples
    --------
    >>> adaptive_avg_pool3d_input((2, 2, 2), np.full((1, 1, 1), 8.0)).sum().item()
    8.0
    """
    return _adaptive_avg(3, input_size, grad_output, layout, threads, out)


def adaptive_max_pool2d_input(
    x: Array, grad_output: Array, *, indices: Array | None = None, layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_max_pool2d` to its input: of each bin to the element that it returned.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        The layer's input, float32 or float64.
    grad_output : array
        Gradient to the output, in the output's shape; dtype of ``x``.
    indices : array of int64, optional
        What `fastconv.adaptive_max_pool2d` returned as indices; without them the maxima are searched again.
    layout, threads, out
        As in `fastconv.adaptive_max_pool2d`.

    Returns
    -------
    array
        Gradient of the shape of ``x``, kind of ``grad_output``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> adaptive_max_pool2d_input(np.array([[1.0, 4.0, 2.0]]), np.array([[10.0, 1.0]]))
    array([[ 0., 11.,  0.]])
    """
    return _adaptive_max(2, x, grad_output, indices, layout, threads, out)


def adaptive_max_pool1d_input(
    x: Array, grad_output: Array, *, indices: Array | None = None, layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_max_pool1d` to its input; see `adaptive_max_pool2d_input`.

    Examples
    --------
    >>> adaptive_max_pool1d_input(np.array([1.0, 3.0, 2.0, 0.0]), np.array([1.0, 2.0]))
    array([0., 1., 2., 0.])
    """
    return _adaptive_max(1, x, grad_output, indices, layout, threads, out)


def adaptive_max_pool3d_input(
    x: Array, grad_output: Array, *, indices: Array | None = None, layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.adaptive_max_pool3d` to its input; see `adaptive_max_pool2d_input`.

    Examples
    --------
    >>> adaptive_max_pool3d_input(np.arange(4.0).reshape(1, 2, 2), np.ones((1, 1, 1)))
    array([[[0., 0.],
            [0., 1.]]])
    """
    return _adaptive_max(3, x, grad_output, indices, layout, threads, out)


def max_unpool2d_input(
    grad_output: Array, indices: Array, *, compat: str = "torch", layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_unpool2d` to its input: what the gradient to the output holds at ``indices``.

    Parameters
    ----------
    grad_output : array, (n, c, h, w), (c, h, w) or (h, w)
        Gradient to the output, in the output's shape. With ``compat='onnx'`` and a larger ``output_size`` than the
        default, only its part of the default size.
    indices : array of int64
        As given to the layer, which no two elements sent to the same place; 0 where an index is -1.
    compat, layout, threads, out
        As in `fastconv.max_unpool2d`.

    Returns
    -------
    array
        Gradient of the shape of ``indices``, kind and dtype of ``grad_output``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> max_unpool2d_input(np.arange(6.0).reshape(2, 3), np.array([[4, 3]]))
    array([[4., 3.]])
    """
    return _unpool(2, grad_output, indices, compat, layout, threads, out)


def max_unpool1d_input(
    grad_output: Array, indices: Array, *, compat: str = "torch", layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_unpool1d` to its input; see `max_unpool2d_input`.

    Examples
    --------
    >>> max_unpool1d_input(np.array([1.0, 3.0, 2.0, 0.0]), np.array([1, 2]))
    array([3., 2.])
    """
    return _unpool(1, grad_output, indices, compat, layout, threads, out)


def max_unpool3d_input(
    grad_output: Array, indices: Array, *, compat: str = "torch", layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.max_unpool3d` to its input; see `max_unpool2d_input`.

    Examples
    --------
    >>> max_unpool3d_input(np.arange(8.0).reshape(2, 2, 2), np.array([[[6]]]))
    array([[[6.]]])
    """
    return _unpool(3, grad_output, indices, compat, layout, threads, out)


def _adaptive_avg(
    ndim: int, input_size: Shape, grad_output: Array, layout: str, threads: int | None, out: np.ndarray | None
) -> Array:
    shape = check_shape(input_size, "input_size")
    gradient, bins = _bins(ndim, shape, grad_output, layout)
    result = geometry.result(shape, gradient.dtype, out, grad_output=gradient)
    given, target = geometry.planes(gradient, ndim, layout), geometry.planes(result, ndim, layout)

    def compute(piece: pieces.Piece) -> None:
        adaptive.spread_means(given[piece.planes], bins, target.shape[2:], target[piece.planes])

    pieces.run(compute, pieces.cut(target, 1, whole_planes=True), result.nbytes, threads)
    return result if out is not None else arrays.give_back(result, grad_output)


def _adaptive_max(
    ndim: int, x: Array, grad_output: Array, indices: Array | None, layout: str, threads: int | None,
    out: np.ndarray | None,
) -> Array:  # fmt: skip
    array = arrays.take(x, "x")
    gradient, bins = _bins(ndim, array.shape, grad_output, layout, array.dtype)
    where = None if indices is None else unpool.take_indices(indices, gradient.shape, "grad_output")
    result = geometry.result(array.shape, array.dtype, out, x=array, grad_output=gradient, indices=where)
    source, given, target = (geometry.planes(a, ndim, layout) for a in (array, gradient, result))
    places = None if where is None else geometry.planes(where, ndim, layout)

    def compute(piece: pieces.Piece) -> None:
        if places is None:
            found = adaptive.search(source[piece.planes], bins)[1]
        else:
            found = unpool.in_planes(places, piece, target, "torch")
        reduction.scatter(given[piece.planes], found, target[piece.planes], add=True)

    pieces.run(compute, pieces.cut(source, 1, whole_planes=True), array.nbytes, threads)
    return result if out is not None else arrays.give_back(result, grad_output)


def _bins(
    ndim: int, shape: Shape, grad_output: Array, layout: str, dtype: np.dtype | None = None
) -> tuple[np.ndarray, list[adaptive.Bins]]:
    """The gradient, and the bins that its shape asks for."""
    array = arrays.take(grad_output, "grad_output")
    _, _, size = geometry.split(array.shape, ndim, layout, "grad_output")
    bins = adaptive.all_bins(ndim, shape, size, layout)
    return geometry.check_gradient(grad_output, adaptive.adapted(shape, bins, layout), dtype), bins


def _unpool(
    ndim: int, grad_output: Array, indices: Array, compat: str, layout: str, threads: int | None,
    out: np.ndarray | None,
) -> Array:  # fmt: skip
    gradient, places = arrays.take(grad_output, "grad_output"), arrays.take(indices, "indices")
    _, _, size = geometry.split(places.shape, ndim, layout, "indices")
    geometry.split(gradient.shape, ndim, layout, "grad_output")
    unpool.take_indices(places, geometry.resized(gradient.shape, size, layout), "the layer's input, by grad_output,")
    geometry.check_choice(compat, DIALECTS, "compat")
    result = geometry.result(places.shape, gradient.dtype, out, grad_output=gradient, indices=places)
    source, target = geometry.planes(gradient, ndim, layout), geometry.planes(result, ndim, layout)
    where = geometry.planes(places, ndim, layout)

    def compute(piece: pieces.Piece) -> None:
        at = unpool.in_planes(where, piece, source, compat)
        reduction.gather(source[piece.planes], at, target[piece.planes])

    pieces.run(compute, pieces.cut(source, 1, whole_planes=True), gradient.nbytes, threads)
    return result if out is not None else arrays.give_back(result, grad_output)

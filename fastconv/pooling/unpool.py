"""The way back from maxima to where they were found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import arrays
from fastconv.arguments import LAYOUTS, check_int, check_ints
from fastconv.calls import Array, Ints, Padding, Shape, paddings
from fastconv.pooling import geometry, pieces, reduction
from fastconv.shapes import split_shape
from fastconv.spec import DIALECTS, LARGEST_AXIS


def max_unpool2d(
    x: Array, indices: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    output_size: Ints | None = None, *, compat: str = "torch", layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Put each element of ``x`` where its index says, zero elsewhere: a partial inverse of `max_pool2d`.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        Maxima, or anything of their shape; any dtype that `max_pool2d` takes.
    indices : array of int64, the shape of ``x``
        Places as `max_pool2d` returns them with the same ``compat``, row by row. -1 is no place. Where two elements
        go to the same place, the later one stays.
    kernel_size, stride, padding
        As the pooling has them; they say how large the output is: ``(size - 1) * stride + kernel - padding`` on both
        sides.
    output_size : int, one int per axis or a whole shape, optional
        Size of the output instead; a pooling makes the same size from several.
    compat : {'torch', 'onnx'}
        'torch': indices count within one plane of the output; ``output_size`` differs from the default by less than
        ``stride``. 'onnx': indices count through an output of the default size as (n, c, h, w); a larger
        ``output_size`` adds zeros at the ends.
    layout : {'NCHW', 'NHWC'}
    threads : int, optional
        As in `max_pool2d`.
    out : numpy.ndarray, optional
        Receives the result; overlaps ``x`` and ``indices`` nowhere.

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
    >>> max_unpool2d(np.array([[5.0, 7.0]]), np.array([[4, 3]]), (2, 3))
    array([[0., 0., 0., 7., 5., 0.],
           [0., 0., 0., 0., 0., 0.]])
    """
    return _unpool(2, x, indices, kernel_size, stride, padding, output_size, compat, layout, threads, out)


def max_unpool1d(
    x: Array, indices: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    output_size: Ints | None = None, *, compat: str = "torch", layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Put each element of ``x`` (n, c, w), (c, w) or (w,) where its index says; see `max_unpool2d`.

    Examples
    --------
    >>> max_unpool1d(np.array([3.0, 2.0]), np.array([1, 2]), 2)
    array([0., 3., 2., 0.])
    """
    return _unpool(1, x, indices, kernel_size, stride, padding, output_size, compat, layout, threads, out)


def max_unpool3d(
    x: Array, indices: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    output_size: Ints | None = None, *, compat: str = "torch", layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Put each element of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w) where its index says; see `max_unpool2d`.

    Examples
    --------
    >>> max_unpool3d(np.full((1, 1, 1), 7.0), np.array([[[6]]]), 2)[1]
    array([[0., 0.],
           [7., 0.]])
    """
    return _unpool(3, x, indices, kernel_size, stride, padding, output_size, compat, layout, threads, out)


def _unpool(
    ndim: int, x: Array, indices: Array, kernel_size: Ints, stride: Ints | None, padding: Padding,
    output_size: Any, compat: str, layout: str, threads: int | None, out: np.ndarray | None,
) -> Array:  # fmt: skip
    array = arrays.take(x, "x")
    _, _, size = geometry.split(array.shape, ndim, layout, "x")
    places = take_indices(indices, array.shape, "x")
    geometry.check_choice(compat, DIALECTS, "compat")
    kernel = check_ints(kernel_size, ndim, "kernel_size")
    steps = kernel if stride is None else check_ints(stride, ndim, "stride")
    own = _default_size(size, kernel, steps, padding)
    whole = own if output_size is None else _wanted(output_size, array.shape, own, steps, compat, layout)
    if min(own if compat == "onnx" else whole) < 1:
        raise ValueError(f"padding={padding!r} leaves an output of size {own}; use a smaller padding")
    result = geometry.result(geometry.resized(array.shape, whole, layout), array.dtype, out, x=array, indices=places)
    target = geometry.planes(result, ndim, layout)
    if compat == "onnx" and own != whole:
        result[...] = 0
        corner: Any = (..., *map(slice, own))
        target = target[corner]
    source, where = geometry.planes(array, ndim, layout), geometry.planes(places, ndim, layout)

    def compute(piece: pieces.Piece) -> None:
        at = in_planes(where, piece, target, compat)
        reduction.scatter(source[piece.planes], at, target[piece.planes], add=False)

    pieces.run(compute, pieces.cut(target, size[0], whole_planes=True), result.nbytes, threads)
    return result if out is not None else arrays.give_back(result, x)


def _default_size(size: Shape, kernel: Shape, steps: Shape, padding: Any) -> Shape:
    if isinstance(padding, str):
        raise ValueError(f"padding={padding!r} leaves the size of the output open; pass numbers")
    pads = paddings(padding, size, kernel, steps, ())
    for name, values in (("kernel_size", kernel), ("stride", steps)):
        if min(values) < 1 or max(values) > LARGEST_AXIS:
            raise ValueError(f"{name}={values}: every entry must be at least 1 and at most {LARGEST_AXIS}")
    if min(map(min, pads)) < 0:
        raise ValueError(f"padding={padding!r}: must be at least 0")
    return tuple((n - 1) * s + k - sum(p) for n, s, k, p in zip(size, steps, kernel, pads, strict=True))


def _wanted(value: Any, x_shape: Shape, own: Shape, steps: Shape, compat: str, layout: str) -> Shape:
    """The spatial size that ``output_size`` asks for: an int, one per axis, or the output's whole shape."""
    ndim = len(own)
    size = value
    if isinstance(value, (tuple, list)) and len(value) == len(x_shape) != ndim:
        shape = tuple(check_int(v, "output_size") for v in value)
        size = split_shape(shape, ndim, layout == LAYOUTS[ndim][1])[2]
        if geometry.resized(x_shape, size, layout) != shape:
            raise ValueError(f"output_size={value!r} has another batch or other channels than x of shape {x_shape}")
    wanted = check_ints(size, ndim, "output_size")
    if compat == "onnx" and any(w < o for w, o in zip(wanted, own, strict=True)):
        raise ValueError(f"output_size={value!r} is less than {own}, through which the indices count; use no less")
    if compat == "torch" and any(abs(w - o) >= s or w < 1 for w, o, s in zip(wanted, own, steps, strict=True)):
        raise ValueError(f"output_size={value!r} must differ from {own} by less than stride={steps}, and be at least 1")
    return wanted


def take_indices(indices: Array, shape: Shape, of: str) -> np.ndarray:
    """The indices as an array of int64, of the shape of the elements that they are of."""
    places = arrays.take(indices, "indices")
    if places.dtype != np.int64:
        raise TypeError(f"indices has dtype {places.dtype.name}; convert with indices.astype('int64')")
    if places.shape != shape:
        raise ValueError(f"indices has shape {places.shape} and {of} has {shape}; they must be the same")
    return places


def in_planes(places: np.ndarray, piece: pieces.Piece, target: np.ndarray, compat: str) -> np.ndarray:
    """Places in the planes of ``target``, for a piece, after a check."""
    plane, part = math.prod(target.shape[2:]), places[piece.planes]
    if compat == "onnx":
        part = reduction.to_plane(part, target.shape[:2], piece.planes, plane)
    reduction.check_places(part, plane)
    return part

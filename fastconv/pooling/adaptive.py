"""Poolings that make an output of a given size: each element from its share, or bin, of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv import arrays, known
from fastconv.arguments import check_bool, check_int, check_ints
from fastconv.calls import Array, Shape
from fastconv.pooling import geometry, pieces, sliding
from fastconv.pooling.reduction import along, like, plane_weights

Size = int | Sequence[int | None]
Bins = list[tuple[int, int]]


def adaptive_avg_pool2d(
    x: Array, output_size: Size, *, layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None
) -> Array:
    """Mean of each bin, of which there are as many as asked for.

    Output o of an axis is made from the elements ``floor(o * size / output)`` to ``ceil((o + 1) * size / output) - 1``:
    bins of nearly the same size, which overlap where ``output`` does not divide ``size``.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32 or float64; otherwise, and ``layout``, ``threads`` and ``out``, as in `max_pool2d`.
    output_size : int or one int per axis
        Size of the output, at least 1; None instead of an entry keeps the size of its axis. 1 is global pooling.

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
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(3, 3), 2)
    array([[2., 3.],
           [5., 6.]])
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(3, 3), (None, 1)).ravel()
    array([1., 4., 7.])
    """
    return _adaptive_avg(2, x, output_size, layout, threads, out)


def adaptive_avg_pool1d(
    x: Array, output_size: Size, *, layout: str = "NCW", threads: int | None = None, out: np.ndarray | None = None
) -> Array:
    """Mean of each bin of ``x`` (n, c, w), (c, w) or (w,); see `adaptive_avg_pool2d`.

    Examples
    --------
    >>> adaptive_avg_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2)
    array([2., 1.])
    """
    return _adaptive_avg(1, x, output_size, layout, threads, out)


def adaptive_avg_pool3d(
    x: Array, output_size: Size, *, layout: str = "NCDHW", threads: int | None = None, out: np.ndarray | None = None
) -> Array:
    """Mean of each bin of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `adaptive_avg_pool2d`.

    Examples
    --------
    >>> adaptive_avg_pool3d(np.arange(8.0).reshape(2, 2, 2), 1).item()
    3.5
    """
    return _adaptive_avg(3, x, output_size, layout, threads, out)


def adaptive_max_pool2d(
    x: Array, output_size: Size, return_indices: bool = False, *, layout: str = "NCHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each bin, of which there are as many as asked for; the bins are `adaptive_avg_pool2d`'s.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32, float64 or integers; otherwise, and ``layout``, ``threads`` and ``out``, as in `max_pool2d`.
    output_size : int or one int per axis
        Size of the output, at least 1; None instead of an entry keeps the size of its axis. 1 is global pooling.
    return_indices : bool
        Also return where each maximum was found: flat positions in one plane.

    Returns
    -------
    array, or (array, array of int64)
        Rank, kind and dtype of ``x``. NaN wins, and the index names the last; else the first of equal elements.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> adaptive_max_pool2d(np.arange(9.0).reshape(3, 3), 2)
    array([[4., 5.],
           [7., 8.]])
    """
    return _adaptive_max(2, x, output_size, return_indices, layout, threads, out)


def adaptive_max_pool1d(
    x: Array, output_size: Size, return_indices: bool = False, *, layout: str = "NCW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each bin of ``x`` (n, c, w), (c, w) or (w,); see `adaptive_max_pool2d`.

    Examples
    --------
    >>> adaptive_max_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2, return_indices=True)
    (array([3., 2.]), array([1, 2]))
    """
    return _adaptive_max(1, x, output_size, return_indices, layout, threads, out)


def adaptive_max_pool3d(
    x: Array, output_size: Size, return_indices: bool = False, *, layout: str = "NCDHW", threads: int | None = None,
    out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each bin of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `adaptive_max_pool2d`.

    Examples
    --------
    >>> adaptive_max_pool3d(np.arange(8.0).reshape(2, 2, 2), (1, 1, 2)).ravel()
    array([6., 7.])
    """
    return _adaptive_max(3, x, output_size, return_indices, layout, threads, out)


def _adaptive_avg(
    ndim: int, x: Array, output_size: Size, layout: str, threads: int | None, out: np.ndarray | None
) -> Array:
    key = known.key_of(("adaptive mean", ndim), (output_size, layout), threads, x)
    if (done := known.again(key, out, x)) is not None:
        return done
    array = arrays.take(x, "x")
    geometry.check_float(array, "mean")
    if (even := even_bins(ndim, array.shape, output_size, layout)) is not None:
        return sliding.avg_pool(ndim, x, even, True, None, threads, out, key)
    bins = all_bins(ndim, array.shape, output_size, layout)
    result = geometry.result(adapted(array.shape, bins, layout), array.dtype, out, x=array)
    source, means = geometry.planes(array, ndim, layout), geometry.planes(result, ndim, layout)
    rows, *others = bins

    def compute(piece: pieces.Piece) -> None:
        combine(np.add, source[piece.planes], [rows[piece.rows], *others], means[piece], mean=True)

    pieces.run(compute, pieces.cut(source, len(rows)), array.nbytes, threads)
    return result if out is not None else arrays.give_back(result, x)


def _adaptive_max(
    ndim: int, x: Array, output_size: Size, return_indices: bool, layout: str, threads: int | None,
    out: np.ndarray | None,
) -> Any:  # fmt: skip
    key = known.key_of(("adaptive max", ndim), (output_size, return_indices, layout), threads, x)
    if (done := known.again(key, out, x)) is not None:
        return done
    array = arrays.take(x, "x")
    even = even_bins(ndim, array.shape, output_size, layout)
    if even is not None and not check_bool(return_indices, "return_indices"):
        return sliding.max_pool(ndim, x, even, False, 0, threads, out, key)
    bins = all_bins(ndim, array.shape, output_size, layout)
    shape = adapted(array.shape, bins, layout)
    where = np.empty(shape, np.int64) if check_bool(return_indices, "return_indices") else None
    result = geometry.result(shape, array.dtype, out, x=array)
    source, best = geometry.planes(array, ndim, layout), geometry.planes(result, ndim, layout)
    found = None if where is None else geometry.planes(where, ndim, layout)
    rows, *others = bins

    def compute(piece: pieces.Piece) -> None:
        parts = [rows[piece.rows], *others]
        if found is None:
            combine(np.maximum, source[piece.planes], parts, best[piece])
        else:
            best[piece], found[piece] = search(source[piece.planes], parts)

    pieces.run(compute, pieces.cut(source, len(rows)), array.nbytes, threads)
    maxima = result if out is not None else arrays.give_back(result, x)
    return maxima if where is None else (maxima, arrays.give_back(where, x))


def sizes(ndim: int, x_shape: Shape, output_size: Any, layout: str) -> tuple[Shape, Shape]:
    """The sizes of the spatial axes of ``x`` and of the output."""
    _, _, size = geometry.split(x_shape, ndim, layout, "x")
    if isinstance(output_size, (tuple, list)) and len(output_size) == ndim:
        wanted = [old if new is None else check_int(new, "output_size") for new, old in
                  zip(output_size, size, strict=True)]  # fmt: skip
    else:
        wanted = list(check_ints(output_size, ndim, "output_size"))
    if min(wanted) < 1:
        raise ValueError(f"output_size={output_size!r}: every entry must be at least 1, or None to keep its axis")
    return size, tuple(wanted)


def even_bins(ndim: int, x_shape: Shape, output_size: Any, layout: str) -> tuple[Any, ...] | None:
    """Options of the sliding windows that are the bins, where these are all of one size; else None."""
    size, wanted = sizes(ndim, x_shape, output_size, layout)
    if any(n % m for n, m in zip(size, wanted, strict=True)):
        return None
    kernel = tuple(n // m for n, m in zip(size, wanted, strict=True))
    return kernel, kernel, 0, 1, False, "torch", layout


def all_bins(ndim: int, x_shape: Shape, output_size: Any, layout: str) -> list[Bins]:
    """First element and end of each bin, axis by axis."""
    size, wanted = sizes(ndim, x_shape, output_size, layout)
    return [[(o * n // m, -(-(o + 1) * n // m)) for o in range(m)] for n, m in zip(size, wanted, strict=True)]


def adapted(x_shape: Shape, bins: list[Bins], layout: str) -> Shape:
    """The shape of the output."""
    return geometry.resized(x_shape, tuple(map(len, bins)), layout)


def combine(ufunc: np.ufunc, source: np.ndarray, bins: list[Bins], out: np.ndarray, mean: bool = False) -> None:
    """Write to ``out`` what ``ufunc`` makes of each bin, or the mean: axis by axis, or a whole plane in one go."""
    if source.size and all(len(parts) == 1 for parts in bins) and source[0, 0].flags.c_contiguous:
        flat = source.reshape(*source.shape[:2], -1)
        whole = ufunc.reduce(flat, axis=2)
        out[...] = (whole / flat.shape[2] if mean else whole).reshape(out.shape)
        return
    for axis, parts in enumerate(bins, 2):
        target = out if axis == source.ndim - 1 else like(source, axis, len(parts))
        for o, (first, end) in enumerate(parts):
            part = along(target, axis, slice(o, o + 1))
            ufunc.reduce(along(source, axis, slice(first, end)), axis=axis, keepdims=True, out=part)
            if mean:
                np.divide(part, end - first, out=part)
        source = target


def spread_means(source: np.ndarray, bins: list[Bins], sizes: Sequence[int], out: np.ndarray) -> None:
    """The transpose of the mean: each bin's number over its size, added to all its elements."""
    for axis, parts in reversed(list(enumerate(bins, 2))):
        target = out if axis == 2 else like(source, axis, sizes[axis - 2])
        target[...] = 0
        for o, (first, end) in enumerate(parts):
            part = along(target, axis, slice(first, end))
            np.add(part, along(source, axis, slice(o, o + 1)) / (end - first), out=part)
        source = target


def search(source: np.ndarray, bins: list[Bins]) -> tuple[np.ndarray, np.ndarray]:
    """The largest element of each bin and its place in the plane, the last axis first.

    Within a row the first of equal elements, then the first such row: the first in the plane; of NaN the last.
    """
    weights = plane_weights(source.shape[2:])
    places = np.zeros((1,) * source.ndim, np.int64)
    top, end = bins[0][0][0], bins[0][-1][1]
    source = source[:, :, top:end]
    bins = [[(first - top, last - top) for first, last in bins[0]], *bins[1:]]
    for axis, parts in reversed(list(enumerate(bins, 2))):
        best = like(source, axis, len(parts))
        found = np.empty(best.shape, np.int64)
        for o, (first, last) in enumerate(parts):
            seen = along(source, axis, slice(first, last))
            pick = _largest(seen, axis)
            along(best, axis, slice(o, o + 1))[...] = np.take_along_axis(seen, pick, axis)
            before = along(np.broadcast_to(places, source.shape), axis, slice(first, last))
            here = np.take_along_axis(before, pick, axis) + (pick + first) * weights[axis - 2]
            along(found, axis, slice(o, o + 1))[...] = here
        source, places = best, found
    return source, places + top * weights[0]


def _largest(seen: np.ndarray, axis: int) -> np.ndarray:
    """Along one axis, which it keeps: the first place of the largest element, or the last of NaN."""
    pick: np.ndarray = seen.argmax(axis, keepdims=True)
    nan = seen != seen
    if not nan.any():
        return pick
    last = seen.shape[axis] - 1 - np.flip(nan, axis).argmax(axis, keepdims=True)
    return np.where(nan.any(axis, keepdims=True), last, pick)

"""The largest element and the mean of each window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import arrays, known
from fastconv.arguments import check_bool, check_ints
from fastconv.calls import Array, Ints, Padding
from fastconv.known import Key
from fastconv.pooling import compiled, geometry, pieces, reduction
from fastconv.pooling.compiled import Divisor
from fastconv.spec import PoolSpec


def max_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, compat: str = "torch", storage_order: int = 0,
    layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32, float64 or integers, any strides; CPU tensors come in through DLPack.
    kernel_size, dilation : int or one int per axis
        Size of the window and distance of its elements, at least 1.
    stride : int or one int per axis, optional
        Distance of the windows; default: ``kernel_size``, in either dialect.
    padding : int, one int or (before, after) pair per axis, 'valid', 'same' or 'same_lower'
        Elements on both sides that win over nothing. 'same' makes as many windows as ``ceil(size / stride)``, with the
        odd element at the end, 'same_lower' at the beginning; a name decides the size of the output, ``ceil_mode`` or
        not.
    ceil_mode : bool
        Round the output size up; the last window is then dropped if it starts in the end padding.
    return_indices : bool
        Also return where each maximum was found.
    compat : {'torch', 'onnx'}
        Whose rules hold. 'torch': indices are flat positions in one image plane; each side is padded by at most half
        of a window (with its dilation). 'onnx': indices are flat positions in all of ``x``, counted as (n, c, h, w)
        whatever the layout; any padding. All differences: `fastconv.pooling`.
    storage_order : {0, 1}
        Whether indices count a plane row by row or column by column.
    layout : {'NCHW', 'NHWC'}
    threads : int, optional
        At most so many; default `get_num_threads`. The result is the same to the bit.
    out : numpy.ndarray, optional
        Receives the maxima; overlaps ``x`` nowhere.

    Returns
    -------
    array, or (array, array of int64)
        Rank, kind and dtype of ``x``. NaN wins, and the index names the last; else the first of equal elements. A
        window that holds padding only is minus infinity, or the smallest integer; its index is -1.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> max_pool2d(np.arange(9.0).reshape(3, 3), 2, stride=1)
    array([[4., 5.],
           [7., 8.]])
    """
    return max_pool(2, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), return_indices,
                     storage_order, threads, out)  # fmt: skip


def max_pool1d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, compat: str = "torch", storage_order: int = 0,
    layout: str = "NCW", threads: int | None = None, out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window of ``x`` (n, c, w), (c, w) or (w,); see `max_pool2d`.

    Examples
    --------
    >>> max_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2)
    array([3., 2.])
    """
    return max_pool(1, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), return_indices,
                     storage_order, threads, out)  # fmt: skip


def max_pool3d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, compat: str = "torch", storage_order: int = 0,
    layout: str = "NCDHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `max_pool2d`.

    Examples
    --------
    >>> max_pool3d(np.arange(8.0).reshape(2, 2, 2), 2).item()
    7.0
    """
    return max_pool(3, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), return_indices,
                     storage_order, threads, out)  # fmt: skip


def avg_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Ints = 1,
    compat: str = "torch", layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32 or float64; otherwise, and the parameters not listed here, as in `max_pool2d`.
    padding : int, one int or (before, after) pair per axis, 'valid', 'same' or 'same_lower'
        Zeros on both sides.
    count_include_pad : bool
        Divide by the elements of the window within the padded input, or only by those within ``x``. What hangs over
        the end of the padded input (``ceil_mode``) is never counted. ONNX's own default is False.
    divisor_override : int, optional
        Divide by this number instead.
    compat : {'torch', 'onnx'}
        'onnx' takes any padding, 'torch' at most half of a window.

    Returns
    -------
    array
        Rank, kind and dtype of ``x``. The mean of no element at all is NaN.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> avg_pool2d(np.arange(9.0).reshape(3, 3), 2, stride=1)
    array([[2., 3.],
           [5., 6.]])
    """
    return avg_pool(2, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), count_include_pad,
                     divisor_override, threads, out)  # fmt: skip


def avg_pool1d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Ints = 1,
    compat: str = "torch", layout: str = "NCW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window of ``x`` (n, c, w), (c, w) or (w,); see `avg_pool2d`.

    Examples
    --------
    >>> avg_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2)
    array([2., 1.])
    """
    return avg_pool(1, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), count_include_pad,
                     divisor_override, threads, out)  # fmt: skip


def avg_pool3d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Ints = 1,
    compat: str = "torch", layout: str = "NCDHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `avg_pool2d`.

    Examples
    --------
    >>> avg_pool3d(np.arange(8.0).reshape(2, 2, 2), 2).item()
    3.5
    """
    return avg_pool(3, x, (kernel_size, stride, padding, dilation, ceil_mode, compat, layout), count_include_pad,
                     divisor_override, threads, out)  # fmt: skip


def max_pool(
    ndim: int, x: Array, options: tuple[Any, ...], return_indices: bool, storage_order: int, threads: int | None,
    out: np.ndarray | None, key: Key = None,
) -> Any:  # fmt: skip
    """The one behind the largest element of 1, 2 and 3 axes; ``key`` as below."""
    key = key or known.key_of(("max", ndim), (*options, return_indices, storage_order), threads, x)
    if (done := known.again(key, out, x)) is not None:
        return done
    array, layout = arrays.take(x, "x"), options[-1]
    spec = geometry.read(ndim, array.shape, *options)
    weights = reduction.plane_weights(spec.input_size, geometry.check_order(storage_order))
    first, *others = geometry.windows(spec)
    shape = geometry.resized(array.shape, tuple(axis.out for axis in (first, *others)), layout)
    where = np.empty(shape, np.int64) if check_bool(return_indices, "return_indices") else None
    result = geometry.result(shape, array.dtype, out, x=array)
    source, best = geometry.planes(array, ndim, layout), geometry.planes(result, ndim, layout)
    found = None if where is None else geometry.planes(where, ndim, layout)

    def compute(piece: pieces.Piece) -> None:
        seen, tracks = source[piece.planes], [first.cut(piece.rows), *others]
        if found is None:
            reduction.combine(np.maximum, reduction.lowest(array.dtype), seen, tracks, best[piece])
            return
        reduction.search(seen, tracks, weights, best[piece], found[piece])
        if spec.compat == "onnx":
            reduction.to_whole(found[piece], source.shape[:2], piece.planes, source[0, 0].size)

    taps = 1 if found is None else math.prod(spec.kernel_size)
    quick = None
    if found is None:
        quick = compiled.ready((array.shape, shape), array.dtype, layout, [first, *others], None, threads)
    if quick is None or not quick.run(compiled.five(source), compiled.five(best)):
        pieces.run(compute, pieces.cut(source, first.out), array.nbytes * taps, threads)
    known.keep(key, lambda: quick)
    maxima = result if out is not None else arrays.give_back(result, x)
    return maxima if where is None else (maxima, arrays.give_back(where, x))


def avg_pool(
    ndim: int, x: Array, options: tuple[Any, ...], count_include_pad: bool, divisor_override: int | None,
    threads: int | None, out: np.ndarray | None, key: Key = None,
) -> Array:  # fmt: skip
    """The one behind the mean of 1, 2 and 3 axes; ``key``: by what the call is known, if not by its options."""
    key = key or known.key_of(("mean", ndim), (*options, count_include_pad, divisor_override), threads, x)
    if (done := known.again(key, out, x)) is not None:
        return done
    array, layout = arrays.take(x, "x"), options[-1]
    spec = geometry.read(ndim, array.shape, *options)
    geometry.check_float(array, "mean")
    numbers = divisor(spec, count_include_pad, divisor_override)
    shape = geometry.resized(array.shape, spec.output_size, layout)
    result = geometry.result(shape, array.dtype, out, x=array)
    source, means = geometry.planes(array, ndim, layout), geometry.planes(result, ndim, layout)
    first, *others = geometry.windows(spec)

    def compute(piece: pieces.Piece) -> None:
        part = means[piece]
        reduction.combine(np.add, 0, source[piece.planes], [first.cut(piece.rows), *others], part)
        np.divide(part, divide_by(numbers, piece.rows, array.dtype), out=part)

    quick = compiled.ready((array.shape, shape), array.dtype, layout, [first, *others], numbers, threads)
    if quick is None or not quick.run(compiled.five(source), compiled.five(means)):
        pieces.run(compute, pieces.cut(source, first.out), array.nbytes, threads)
    known.keep(key, lambda: quick)
    return result if out is not None else arrays.give_back(result, x)


def divisor(spec: PoolSpec, count_include_pad: bool, divisor_override: int | None) -> Divisor:
    """What the sums of a mean are divided by: a number, or the numbers of each axis whose products do."""
    include = check_bool(count_include_pad, "count_include_pad")
    if divisor_override is None:
        return geometry.counts(spec, include)
    (number,) = check_ints(divisor_override, 1, "divisor_override")
    if number == 0 or abs(number) >= 2**63:
        raise ValueError(f"divisor_override={number} is 0 or beyond 64 bits; pass None or another number")
    return number


def divide_by(numbers: Divisor, rows: slice, dtype: np.dtype[Any]) -> np.ndarray | int:
    return numbers if isinstance(numbers, int) else geometry.outer(numbers, rows, dtype)

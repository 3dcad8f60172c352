"""Pooling: a running maximum or sum over the taps of a window.

Each tap is one shifted, strided view of the input, taken only where it lies inside; nothing is padded and
``x`` is never copied. PyTorch's rules for padding, ``ceil_mode`` and divisors.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastconv import arrays
from fastconv.arguments import LAYOUTS, check_bool, check_ints, check_layout
from fastconv.spec import AXES, PoolSpec

Ints = int | tuple[int, ...]
Index = tuple[Any, ...]
Array = Any  # a NumPy array, or a CPU tensor that speaks DLPack


def max_pool1d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, layout: str = "NCW", out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window of ``x`` (n, c, w), (c, w) or (w,); see `max_pool2d`.

    Examples
    --------
    >>> max_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2)
    array([3., 2.])
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, out)


def max_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, layout: str = "NCHW", out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32, float64 or integers, any strides; CPU tensors come in through DLPack.
    kernel_size, dilation : int or one int per axis
        Size of the window and distance of its elements, at least 1.
    stride : int or one int per axis, optional
        Distance of the windows; default: ``kernel_size``.
    padding : int or one int per axis
        Elements of minus infinity on both sides, at most half of the window.
    ceil_mode : bool
        Round the output size up; a window that would start in the end padding is dropped.
    return_indices : bool
        Also return where each maximum was found.
    layout : {'NCHW', 'NHWC'}
    out : numpy.ndarray, optional
        Receives the maxima; overlaps ``x`` nowhere.

    Returns
    -------
    array, or (array, array of int64)
        Rank, kind and dtype of ``x``; the indices are flat positions in one image of ``x``, -1 for a window
        that holds padding only. NaN wins.

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
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, out)


def max_pool3d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, *, layout: str = "NCDHW", out: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Largest element of each window of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `max_pool2d`.

    Examples
    --------
    >>> max_pool3d(np.arange(8.0).reshape(2, 2, 2), 2).item()
    7.0
    """
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, out)


def avg_pool1d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, layout: str = "NCW",
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window of ``x`` (n, c, w), (c, w) or (w,); see `avg_pool2d`.

    Examples
    --------
    >>> avg_pool1d(np.array([1.0, 3.0, 2.0, 0.0]), 2)
    array([2., 1.])
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, out)


def avg_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        float32 or float64; otherwise, and the other parameters, as in `max_pool2d`.
    count_include_pad : bool
        Divide by all elements of the window within the padded input, or only by those within ``x``.
    divisor_override : int, optional
        Divide by this number instead.

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
    >>> avg_pool2d(np.arange(9.0).reshape(3, 3), 2, stride=1)
    array([[2., 3.],
           [5., 6.]])
    """
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, out)


def avg_pool3d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, *, layout: str = "NCDHW",
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Mean of each window of ``x`` (n, c, d, h, w), (c, d, h, w) or (d, h, w); see `avg_pool2d`.

    Examples
    --------
    >>> avg_pool3d(np.arange(8.0).reshape(2, 2, 2), 2).item()
    3.5
    """
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, out)


def _max_pool(
    ndim: int, x: Array, kernel_size: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool,
    return_indices: bool, layout: str, out: np.ndarray | None,
) -> Any:  # fmt: skip
    array, spec = _read(ndim, x, kernel_size, stride, padding, dilation, ceil_mode, layout)
    lowest = -np.inf if array.dtype.kind == "f" else np.iinfo(array.dtype).min
    result = _result(array, spec, layout, out)
    source, best = _channels_first(array, ndim, layout), _channels_first(result, ndim, layout)
    best[...] = lowest
    if not return_indices:
        for inside, target in _taps(spec):
            np.maximum(best[target], source[inside], out=best[target])
        return result if out is not None else arrays.give_back(result, x)
    where = np.full(result.shape, -1, np.int64)
    found = _channels_first(where, ndim, layout)
    for inside, target in _taps(spec):
        seen = source[inside]
        better = (seen > best[target]) | (seen != seen) | (found[target] < 0)  # the last NaN wins, as in PyTorch
        np.copyto(best[target], seen, where=better)
        np.copyto(found[target], _positions(inside[1:], spec.input_size), where=better)
    return (result if out is not None else arrays.give_back(result, x)), arrays.give_back(where, x)


def _avg_pool(
    ndim: int, x: Array, kernel_size: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None, layout: str, out: np.ndarray | None,
) -> Array:  # fmt: skip
    array, spec = _read(ndim, x, kernel_size, stride, padding, 1, ceil_mode, layout)
    if array.dtype.kind != "f":
        raise TypeError(f"x has dtype {array.dtype.name}, whose mean is no integer; convert with x.astype('float32')")
    divisor: np.ndarray | int
    if divisor_override is None:
        include = check_bool(count_include_pad, "count_include_pad")
        counts = [_counts(spec, axis, include) for axis in range(ndim)]
        divisor = functools.reduce(np.multiply.outer, counts).astype(array.dtype)
    else:
        (divisor,) = check_ints(divisor_override, 1, "divisor_override")
        if divisor == 0 or abs(divisor) >= 2**63:
            raise ValueError(f"divisor_override={divisor} is 0 or beyond 64 bits; pass None or another number")
    result = _result(array, spec, layout, out)
    source, total = _channels_first(array, ndim, layout), _channels_first(result, ndim, layout)
    total[...] = 0
    with np.errstate(all="ignore"):  # Inf - Inf is NaN here as in PyTorch
        for inside, target in _taps(spec):
            total[target] += source[inside]
        total /= divisor
    return result if out is not None else arrays.give_back(result, x)


def _read(
    ndim: int, x: Array, kernel_size: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool,
    layout: str,
) -> tuple[np.ndarray, PoolSpec]:  # fmt: skip
    array = arrays.take(x, "x")
    check_layout(layout, ndim)
    if array.ndim not in (ndim, ndim + 1, ndim + 2):
        axes = ", ".join(AXES[-ndim:])
        raise ValueError(f"x has shape {array.shape}; expected (n, c, {axes}), (c, {axes}) or ({axes})")
    batch, rest = (array.shape[0], array.shape[1:]) if array.ndim == ndim + 2 else (1, array.shape)
    if array.ndim == ndim:
        c, size = 1, rest
    else:
        c, size = (rest[-1], rest[:-1]) if layout == LAYOUTS[ndim][1] else (rest[0], rest[1:])
    if 0 in size:
        raise ValueError(f"x has shape {array.shape}; every spatial axis needs at least one element")
    kernel = check_ints(kernel_size, ndim, "kernel_size")
    steps = kernel if stride is None else check_ints(stride, ndim, "stride")
    pads, dilations = check_ints(padding, ndim, "padding"), check_ints(dilation, ndim, "dilation")
    return array, PoolSpec(batch, c, size, kernel, steps, pads, dilations, check_bool(ceil_mode, "ceil_mode"))


def _result(x: np.ndarray, spec: PoolSpec, layout: str, out: np.ndarray | None) -> np.ndarray:
    ndim, size = len(spec.input_size), spec.output_size
    if x.ndim == ndim:
        shape = size
    else:
        shape = (*size, spec.c) if layout == LAYOUTS[ndim][1] else (spec.c, *size)
        shape = (spec.n, *shape) if x.ndim == ndim + 2 else shape
    return np.empty(shape, x.dtype) if out is None else arrays.take_out(out, shape, x.dtype.name, {"x": x})


def _channels_first(array: np.ndarray, ndim: int, layout: str) -> np.ndarray:
    """A view whose last ``ndim`` axes are the spatial ones."""
    return np.moveaxis(array, -1, -1 - ndim) if array.ndim > ndim and layout == LAYOUTS[ndim][1] else array


def _taps(spec: PoolSpec) -> Iterator[tuple[Index, Index]]:
    """For each tap: the part of the input that it reads, and the outputs that it reaches."""
    axes = [
        [_inside(k * d - p, s, size, out) for k in range(kernel)]
        for kernel, d, p, s, size, out in zip(
            spec.kernel_size, spec.dilation, spec.padding, spec.stride, spec.input_size, spec.output_size, strict=True
        )
    ]
    for tap in itertools.product(*axes):
        yield (..., *(source for source, _ in tap)), (..., *(target for _, target in tap))


def _positions(inside: Index, size: tuple[int, ...]) -> np.ndarray:
    """Flat positions, in an image of ``size``, of the elements that a tap reads."""
    result = np.zeros((), np.int64)
    for part, length in zip(inside, size, strict=True):
        result = result[..., None] * length + np.arange(part.start, part.stop, part.step)
    return result


def _inside(shift: int, stride: int, size: int, out: int) -> tuple[slice, slice]:
    """Input and output range of a tap along one axis: outputs o with ``0 <= o * stride + shift < size``."""
    first = max(-(shift // stride), 0)
    last = max(min((size - 1 - shift) // stride + 1, out), first)
    start = first * stride + shift
    return slice(start, start + (last - first) * stride, stride), slice(first, last)


def _counts(spec: PoolSpec, axis: int, include_pad: bool) -> np.ndarray:
    """Elements of each window along one axis by which a mean is divided."""
    k, p, size = spec.kernel_size[axis], spec.padding[axis], spec.input_size[axis]
    start = np.arange(spec.output_size[axis]) * spec.stride[axis] - p
    stop = np.minimum(start + k, size + p)
    if not include_pad:
        start, stop = np.maximum(start, 0), np.minimum(stop, size)
    return stop - start

"""Unfold an image into the columns that a convolution multiplies, and add columns up into an image again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import arrays, shapes, tuning
from fastconv.arguments import LAYOUTS, check_ints
from fastconv.calls import Array, Ints, Padding, Shape, paddings
from fastconv.kernels.sharing import share
from fastconv.lowering import gather, lower
from fastconv.phases import fold_back
from fastconv.spec import ConvSpec
from fastconv.threads import threads_of

Planes = tuple[int, slice]  # some channels of one image


def unfold(
    x: Array, kernel_size: Ints, dilation: Ints = 1, padding: Padding = 0, stride: Ints = 1, *,
    padding_mode: str = "zeros", layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Columns of ``x``: for each position of the window, the elements that it shows. Also known as im2col.

    ``w.reshape(oc, -1) @ unfold(x, (kh, kw))`` is the convolution of ``x`` with ``w``, its pixels in one axis.

    Parameters
    ----------
    x : array, (n, c, h, w), (c, h, w) or (h, w)
        Any dtype that `fastconv.conv2d` takes; CPU tensors come in through DLPack.
    kernel_size, dilation, stride : int or one int per axis
    padding, padding_mode
        As in `fastconv.conv2d`.
    layout : {'NCHW', 'NHWC', 'NCW', 'NWC', 'NCDHW', 'NDHWC'}
        Order of the axes of ``x``; it also says how many spatial axes there are.
    threads : int, optional
        Default: `fastconv.get_num_threads`. They share out the planes.
    out : numpy.ndarray, optional
        Receives the result; overlaps ``x`` nowhere.

    Returns
    -------
    array, (n, c * kh * kw, positions), or without ``n``
        dtype and kind of ``x``; rows run over channels, then taps; positions in row-major order.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> unfold(np.arange(9.0).reshape(3, 3), 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    ndim, array = _axes(layout), arrays.take(x, "x")
    spec = _spec(array.shape, ndim, kernel_size, dilation, padding, stride, padding_mode, layout)
    rows, positions = spec.ic * spec.taps, math.prod(spec.output_size)
    shape = (spec.n, rows, positions)[0 if array.ndim == ndim + 2 else 1 :]
    result = (
        np.empty(shape, array.dtype) if out is None else arrays.take_out(out, shape, array.dtype.name, {"x": array})
    )
    if result.size:
        whole = result if result.flags.c_contiguous else np.empty(shape, array.dtype)
        low, source = lower(spec), shapes.canonical(array, spec)
        columns = whole.reshape(spec.n, spec.ic, *(a.taps for a in low.axes), *(a.out for a in low.axes))
        everything = (slice(0, low.d.out), slice(0, low.h.out), slice(0, low.w.out))

        def gather_planes(part: Planes) -> None:
            gather(source[part], low, everything, columns[part])

        _share(gather_planes, spec, result.nbytes, threads)
        if whole is not result:
            result[...] = whole
    return result if out is not None else arrays.give_back(result, x)


def fold(
    x: Array, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Padding = 0, stride: Ints = 1, *,
    padding_mode: str = "zeros", layout: str = "NCHW", threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Add columns up into an image: the gradient of `unfold`, not its inverse. Also known as col2im.

    Elements that several windows show receive the sum of what these windows hold of them; divide by
    ``fold(unfold(ones))`` for their mean.

    Parameters
    ----------
    x : array, (n, c * kh * kw, positions), or without ``n``
        Columns as `unfold` returns them.
    output_size : int or one int per axis
        Spatial size of the image.
    kernel_size, dilation, padding, stride, padding_mode, layout, threads, out
        As in `unfold`; ``layout`` is that of the result.

    Returns
    -------
    array, (n, c, h, w) or (c, h, w)
        dtype and kind of ``x``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.

    Examples
    --------
    >>> fold(np.ones((4, 4)), 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    ndim, array = _axes(layout), arrays.take(x, "x")
    size, kernel = check_ints(output_size, ndim, "output_size"), check_ints(kernel_size, ndim, "kernel_size")
    for name, values in (("output_size", size), ("kernel_size", kernel)):
        if min(values) < 1:
            raise ValueError(f"{name}={values}: every entry must be at least 1")
    taps = math.prod(kernel)
    if array.ndim not in (2, 3):
        raise ValueError(f"x has shape {array.shape}; expected (n, rows, positions) or (rows, positions)")
    if array.shape[-2] % taps:
        raise ValueError(f"x has {array.shape[-2]} rows; with kernel_size={kernel} it must be a multiple of {taps}")
    n, c = array.shape[0] if array.ndim == 3 else 1, array.shape[-2] // taps
    full = (n, *size, c) if layout == LAYOUTS[ndim][1] else (n, c, *size)
    spec = _spec(full, ndim, kernel, dilation, padding, stride, padding_mode, layout)
    positions = math.prod(spec.output_size)
    if array.shape[-1] != positions:
        raise ValueError(f"x has {array.shape[-1]} positions; an image of size {size} has {positions} windows")
    shape = full[3 - array.ndim :]
    result = (
        np.empty(shape, array.dtype) if out is None else arrays.take_out(out, shape, array.dtype.name, {"x": array})
    )
    if result.size:
        low, target = lower(spec), shapes.canonical(result, spec)
        taps_axes, out_axes = [a.taps for a in low.axes], [a.out for a in low.axes]
        before = (0,) * (3 - ndim) + tuple(pair[0] for pair in spec.padding)
        columns = array.reshape(n, c, *taps_axes, *out_axes)

        def add_up(part: Planes) -> None:
            padded = np.zeros((*target[part].shape[:1], *(a.source.size for a in low.axes)), array.dtype)
            for tap in np.ndindex(*taps_axes):
                starts = [axis.tap_position(r) for axis, r in zip(low.axes, tap, strict=True)]
                steps: Any = [
                    slice(start, start + (axis.out - 1) * axis.stride + 1, axis.stride)
                    for axis, start in zip(low.axes, starts, strict=True)
                ]
                padded[:, *steps] += columns[part][:, *tap]
            target[part] = fold_back(padded, low, target.shape[2:], before)

        _share(add_up, spec, array.nbytes, threads)
    return result if out is not None else arrays.give_back(result, x)


def _share(call: Callable[[Planes], None], spec: ConvSpec, nbytes: int, threads: int | None) -> None:
    """``call`` with parts of each image's channels, on several threads where ``nbytes`` of columns are worth it."""
    number = threads_of(threads)
    number = number if nbytes >= tuning.POOL_PARALLEL_BYTES else 1
    step = -(-spec.ic // number)
    parts = [(i, slice(c, c + step)) for i in range(spec.n) for c in range(0, spec.ic, step)]
    with np.errstate(all="ignore"):  # Inf - Inf is NaN
        share(call, parts, number)


def _axes(layout: str) -> int:
    """Spatial axes of a layout."""
    for ndim, names in LAYOUTS.items():
        if layout in names:
            return ndim
    raise ValueError(f"layout={layout!r} is unknown; choose one of {', '.join(sum(LAYOUTS.values(), ()))}")


def _spec(
    shape: Shape, ndim: int, kernel_size: Ints, dilation: Ints, padding: Padding, stride: Ints, padding_mode: str,
    layout: str,
) -> ConvSpec:  # fmt: skip
    """The windows of an image as those of a layer with one output channel."""
    if len(shape) not in (ndim, ndim + 1, ndim + 2):
        raise ValueError(f"x has shape {shape}; layout={layout!r} has {ndim + 2} axes, or fewer without n and c")
    n, c, size = shapes.split_shape(shape, ndim, layout == LAYOUTS[ndim][1])
    kernel, strides = check_ints(kernel_size, ndim, "kernel_size"), check_ints(stride, ndim, "stride")
    dilations = check_ints(dilation, ndim, "dilation")
    pads = paddings(padding, size, kernel, strides, dilations)
    return ConvSpec(n, c, 1, size, kernel, strides, pads, dilations, 1, padding_mode, layout)

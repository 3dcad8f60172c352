"""Transposed convolution: the way back up, from each output pixel of a convolution to the pixels that it saw."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import arrays, calls, shapes
from fastconv.arguments import LAYOUTS
from fastconv.calls import Activation, Array, Ints, Padding
from fastconv.planning import Plan


def conv_transpose2d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, *, layout: str = "NCHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """2-D transposed convolution: each element of ``x`` adds a copy of the kernel, times itself, to the result.

    ``out[n, o, y*sh + r*dh - pt, x*sw + s*dw - pl] += x[n, c, y, x] * w[c, o, r, s]`` over all c, y, x, r, s whose
    target lies inside; then ``act(out + bias + residual)``. It is the gradient of `conv2d` to its input: of the layer
    that takes an image of the result's size to one of the size of ``x``. Often called "deconvolution", which it is not.

    Parameters
    ----------
    x : array, (n, ic, ih, iw), (ic, ih, iw) or (ih, iw)
        float32, float64 or integers, any strides; CPU tensors come in through DLPack.
    w : array, (ic, oc / groups, kh, kw)
        dtypes as in `conv2d`; (kh, kw) where ``x`` is (ih, iw). Input channels come first: the weights of the
        layer whose gradient this is, as they are.
    bias : array, (oc,), optional
        dtype of the result.
    stride, dilation : int or one int per axis
        Distance in the result of neighbours in ``x``, and of neighbours in the kernel.
    padding : int, one int per axis, one (before, after) pair per axis, or str
        Rows taken off the result. 'valid' (none), 'same' (the result is ``stride`` times as large as ``x``; an odd
        row is taken off at the end), 'same_lower' (at the start).
    output_padding : int or one int per axis
        Rows added to the end of the result, fewer than ``stride`` or ``dilation``: a strided layer takes images of
        several sizes to the same size, and this says which one to return to.
    groups, layout, activation, residual, flip_kernel, accuracy, max_workspace, threads, out
        As in `conv2d`; ``residual`` and ``out`` have the result's shape.
    backend : str
        As in `conv2d`. All but 'naive' compute each phase of the stride as a forward layer of its own.

    Returns
    -------
    array, (n, oc, oh, ow) or the rank of ``x``
        ``oh = (ih - 1) * sh - pt - pb + (kh - 1) * dh + 1 + output_padding``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.
    UnsupportedConv, BackendUnavailable
        If the named backend cannot compute this layer, or is not installed.

    References
    ----------
    Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> conv_transpose2d(x, x, backend="im2col")
    array([[ 0.,  0.,  1.],
           [ 0.,  4.,  6.],
           [ 4., 12.,  9.]])
    """
    return _conv_transpose(2, x, w, residual, threads, out, bias, stride, padding, output_padding, groups, dilation,
                           layout, activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def conv_transpose1d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, *, layout: str = "NCW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """1-D transposed convolution of ``x`` (n, ic, iw), (ic, iw) or (iw,) with ``w`` (ic, oc / groups, kw) or (kw,).

    See `conv_transpose2d`.

    Examples
    --------
    >>> conv_transpose1d(np.array([1.0, 2.0]), np.array([1.0, 1.0, 1.0]), stride=2, backend="im2col")
    array([1., 1., 3., 2., 2.])
    """
    return _conv_transpose(1, x, w, residual, threads, out, bias, stride, padding, output_padding, groups, dilation,
                           layout, activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def conv_transpose3d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, *, layout: str = "NCDHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """3-D transposed convolution of ``x`` (n, ic, id, ih, iw) or less with ``w`` (ic, oc / groups, kd, kh, kw).

    See `conv_transpose2d`.

    Examples
    --------
    >>> conv_transpose3d(np.ones((1, 2, 1, 1, 1)), np.ones((2, 3, 2, 2, 2)), stride=2, backend="im2col").shape
    (1, 3, 2, 2, 2)
    """
    return _conv_transpose(3, x, w, residual, threads, out, bias, stride, padding, output_padding, groups, dilation,
                           layout, activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def plan_transpose(
    w: Array, x_shape: tuple[int, ...], bias: Array | None = None, stride: Ints = 1, padding: Padding = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1, *, layout: str | None = None,
    activation: Activation = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, dtype: Any = None,
) -> Plan:  # fmt: skip
    """Decide and prepare a transposed layer once, to run it often: `fastconv.plan` of `conv_transpose2d` and its kin.

    Parameters
    ----------
    w, bias, stride, padding, output_padding, groups, dilation, and the keywords
        As in `conv_transpose2d`; the number of spatial axes is that of ``w``.
    x_shape, dtype
        As in `fastconv.plan`.

    Returns
    -------
    Plan
        ``y = plan(x, out=None, residual=None, threads=None)``.

    Raises
    ------
    ValueError, TypeError, UnsupportedConv, BackendUnavailable
        As `conv_transpose2d`.

    Examples
    --------
    >>> p = plan_transpose(np.ones((8, 4, 2, 2), "float32"), (1, 8, 5, 5), stride=2, backend="im2col")
    >>> p.out_shape, p.for_shape((3, 8, 7, 9)).out_shape
    ((1, 4, 10, 10), (3, 4, 14, 18))
    """
    weights = arrays.take(w, "w")
    ndim = calls.spatial_axes(weights)
    layout = LAYOUTS[ndim][0] if layout is None else layout
    shape, name = shapes.check_shape(x_shape), calls.dtype_name(dtype or weights.dtype)
    call = calls.transposed(ndim, shape, name, weights, bias, stride, padding, output_padding, groups, dilation, layout,
                            activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip
    return call.plan(borrow=False)


def _conv_transpose(
    ndim: int, x: Array, w: Array, residual: Array | None, threads: int | None, out: np.ndarray | None, *options: Any
) -> Array:
    array = arrays.take(x, "x")
    call = calls.transposed(ndim, array.shape, array.dtype.name, arrays.take(w, "w"), *options)
    return call.plan(borrow=True, threads=threads)(x, out, residual, threads)

"""The gradients of a convolution to its input, its weights and its bias."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import arrays, calls, shapes
from fastconv.arguments import LAYOUTS, check_bool, check_layout
from fastconv.calls import Array, Ints, Padding
from fastconv.spec import ACCUMULATOR


def conv2d_input(
    input_size: tuple[int, ...], w: Array, grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCHW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv2d` to its input ``x``.

    Parameters
    ----------
    input_size : tuple of int
        The whole shape of ``x``: (n, ic, ih, iw) in ``layout``, (ic, ih, iw) or (ih, iw).
    w : array, (oc, ic / groups, kh, kw)
        The weights; (kh, kw) where ``x`` is (ih, iw).
    grad_output : array, (n, oc, oh, ow)
        Gradient to the output, in the output's shape; dtype of ``w``.
    stride, padding, dilation, groups, padding_mode, layout, flip_kernel
        As the layer has them. A padding that repeats the image sends its gradient to the pixels that it repeats.
    backend, accuracy, max_workspace, threads, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array
        Gradient of shape ``input_size``, kind of ``grad_output``.

    Raises
    ------
    ValueError, TypeError, UnsupportedConv, BackendUnavailable
        As `fastconv.conv2d`.

    Examples
    --------
    >>> conv2d_input((3, 3), np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((2, 2)), backend="im2col")
    array([[0., 1., 1.],
           [2., 6., 4.],
           [2., 5., 3.]])
    """
    return _conv_input(2, input_size, w, grad_output, threads, out, stride, padding, dilation, groups, padding_mode,
                       layout, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def conv1d_input(
    input_size: tuple[int, ...], w: Array, grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv1d` to its input, of shape (n, ic, iw), (ic, iw) or (iw,); see `conv2d_input`.

    Examples
    --------
    >>> conv1d_input((4,), np.array([1.0, 10.0]), np.array([1.0, 2.0, 3.0]), backend="im2col")
    array([ 1., 12., 23., 30.])
    """
    return _conv_input(1, input_size, w, grad_output, threads, out, stride, padding, dilation, groups, padding_mode,
                       layout, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def conv3d_input(
    input_size: tuple[int, ...], w: Array, grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCDHW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv3d` to its input, of shape (n, ic, id, ih, iw) or less; see `conv2d_input`.

    Examples
    --------
    >>> conv3d_input((3, 3, 3), np.ones((2, 2, 2)), np.ones((2, 2, 2)), backend="im2col").sum().item()
    64.0
    """
    return _conv_input(3, input_size, w, grad_output, threads, out, stride, padding, dilation, groups, padding_mode,
                       layout, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip


def conv2d_weight(
    x: Array, weight_size: tuple[int, ...], grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCHW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv2d` to its weights ``w``, added up over the batch.

    Parameters
    ----------
    x : array, (n, ic, ih, iw), (ic, ih, iw) or (ih, iw)
        The layer's input.
    weight_size : tuple of int
        The whole shape of ``w``: (oc, ic / groups, kh, kw), or (kh, kw) where ``x`` is (ih, iw).
    grad_output : array, (n, oc, oh, ow)
        Gradient to the output, in the output's shape; dtype of ``x``.
    stride, padding, dilation, groups, padding_mode, layout, flip_kernel
        As the layer has them.
    backend : str
        'auto', 'im2col' or 'naive'; the others compute no gradient to the weights yet, and say so.
    accuracy, max_workspace, threads, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array
        Gradient of shape ``weight_size``, kind of ``x``.

    Raises
    ------
    ValueError, TypeError, UnsupportedConv, BackendUnavailable
        As `fastconv.conv2d`.

    Examples
    --------
    >>> conv2d_weight(np.arange(9.0).reshape(3, 3), (2, 2), np.ones((2, 2)), backend="im2col")
    array([[ 8., 12.],
           [20., 24.]])
    """
    return _conv_weight(2, x, weight_size, grad_output, flip_kernel, threads, out, stride, padding, dilation, groups,
                        padding_mode, layout, backend, accuracy, max_workspace)  # fmt: skip


def conv1d_weight(
    x: Array, weight_size: tuple[int, ...], grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv1d` to its weights, of shape (oc, ic / groups, kw) or (kw,); see `conv2d_weight`.

    Examples
    --------
    >>> conv1d_weight(np.array([1.0, 2.0, 3.0, 4.0]), (2,), np.array([1.0, 0.0, 1.0]), backend="im2col")
    array([4., 6.])
    """
    return _conv_weight(1, x, weight_size, grad_output, flip_kernel, threads, out, stride, padding, dilation, groups,
                        padding_mode, layout, backend, accuracy, max_workspace)  # fmt: skip


def conv3d_weight(
    x: Array, weight_size: tuple[int, ...], grad_output: Array, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCDHW",
    flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
    threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Gradient of `fastconv.conv3d` to its weights, of shape (oc, ic / groups, kd, kh, kw); see `conv2d_weight`.

    Examples
    --------
    >>> conv3d_weight(np.ones((3, 3, 3)), (2, 2, 2), np.ones((2, 2, 2)), backend="im2col")[0, 0]
    array([8., 8.])
    """
    return _conv_weight(3, x, weight_size, grad_output, flip_kernel, threads, out, stride, padding, dilation, groups,
                        padding_mode, layout, backend, accuracy, max_workspace)  # fmt: skip


def conv2d_bias(grad_output: Array, *, layout: str = "NCHW") -> Array:
    """Gradient of `fastconv.conv2d` to its bias: the sum of ``grad_output`` over batch and pixels.

    Parameters
    ----------
    grad_output : array, (n, oc, oh, ow), (oc, oh, ow) or (oh, ow)
        Gradient to the output, in ``layout``.
    layout : {'NCHW', 'NHWC'}

    Returns
    -------
    array, (oc,)
        Kind of ``grad_output``; dtypes as in `fastconv.conv2d`. Floats are added up in float64.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.

    Examples
    --------
    >>> conv2d_bias(np.ones((2, 3, 4, 5)))
    array([40., 40., 40.])
    """
    return _conv_bias(2, grad_output, layout)


def conv1d_bias(grad_output: Array, *, layout: str = "NCW") -> Array:
    """Gradient of `fastconv.conv1d` to its bias, from (n, oc, ow) or (oc, ow); see `conv2d_bias`.

    Examples
    --------
    >>> conv1d_bias(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    return _conv_bias(1, grad_output, layout)


def conv3d_bias(grad_output: Array, *, layout: str = "NCDHW") -> Array:
    """Gradient of `fastconv.conv3d` to its bias, from (n, oc, od, oh, ow) or (oc, od, oh, ow); see `conv2d_bias`.

    Examples
    --------
    >>> conv3d_bias(np.ones((2, 1, 2, 2)))
    array([4., 4.])
    """
    return _conv_bias(3, grad_output, layout)


def _conv_input(
    ndim: int, input_size: tuple[int, ...], w: Array, grad_output: Array, threads: int | None,
    out: np.ndarray | None, *options: Any,
) -> Array:  # fmt: skip
    size = shapes.check_shape(input_size, "input_size")
    call = calls.grad_input(ndim, size, arrays.take(w, "w"), arrays.take(grad_output, "grad_output"), *options)
    return call.plan(borrow=True, threads=threads)(grad_output, out, None, threads)


def _conv_weight(
    ndim: int, x: Array, weight_size: tuple[int, ...], grad_output: Array, flip_kernel: bool, threads: int | None,
    out: np.ndarray | None, *options: Any,
) -> Array:  # fmt: skip
    size = shapes.check_shape(weight_size, "weight_size")
    array = arrays.take(x, "x")
    call = calls.grad_weight(ndim, array, size, arrays.take(grad_output, "grad_output"), *options)
    plan = call.plan(borrow=True, threads=threads)
    if not check_bool(flip_kernel, "flip_kernel"):
        return plan(x, out, None, threads)
    result = np.empty(size, call.spec.acc_dtype) if out is None else out
    flipped: Any = (..., *[slice(None, None, -1)] * ndim)
    fits = isinstance(result, np.ndarray) and result.shape == size  # otherwise the plan says what is wrong
    plan(x, result[flipped] if fits else result, None, threads)
    return result if out is not None else arrays.give_back(result, x)


def _conv_bias(ndim: int, grad_output: Array, layout: str) -> Array:
    check_layout(layout, ndim)
    array = arrays.take(grad_output, "grad_output")
    if array.ndim not in (ndim, ndim + 1, ndim + 2):
        raise ValueError(f"grad_output has shape {array.shape}; expected {ndim + 2} axes, or fewer without n and oc")
    plain = array[None] if array.ndim == ndim else array
    last = layout == LAYOUTS[ndim][1] and array.ndim > ndim
    channels = plain.ndim - 1 if last else plain.ndim - 1 - ndim
    result = ACCUMULATOR[arrays.NAMES[array.dtype]]
    if result == "int32" and plain.size // max(plain.shape[channels], 1) * 255 > 2**31 - 1:
        raise ValueError(
            f"grad_output has shape {array.shape}: its 8-bit sums can exceed int32; convert it with astype('int16')"
        )
    wide = np.float64 if array.dtype.kind == "f" else result  # channels last, NumPy adds one by one
    with np.errstate(all="ignore"):
        sums = plain.sum(axis=tuple(axis for axis in range(plain.ndim) if axis != channels), dtype=wide)
        return arrays.give_back(sums.astype(result), grad_output)

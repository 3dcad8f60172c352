"""Convolutions, plans and explanations: each call normalises its arguments (`fastconv.calls`), plans and runs.

"Convolution" is cross-correlation, as in every deep-learning framework; ``flip_kernel=True`` gives the other one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import arrays, calls, known, planning, shapes
from fastconv.calls import Activation, Array, Call, Ints, Padding
from fastconv.planning import Explanation, Plan
from fastconv.spec import ConvSpec, Epilogue
from fastconv.threads import threads_of


def conv2d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, x_zero_point: int = 0, w_zero_point: Any = 0,
    backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None, threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """2-D convolution (cross-correlation) of ``x`` with the filters ``w``.

    ``out[n, o, y, x] = act(sum over c, r, s of x[n, c, y*sh + r*dh - pt, x*sw + s*dw - pl] * w[o, c, r, s]
    + bias[o] + residual[n, o, y, x])``, channels ``c`` running over the group of ``o``.

    Parameters
    ----------
    x : array, (n, ic, ih, iw), (ic, ih, iw) or (ih, iw)
        Any strides. float32, float64 or integers; see Returns. CPU tensors of other libraries come in
        through DLPack without a copy.
    w : array, (oc, ic / groups, kh, kw)
        Same dtype as ``x`` (uint8 and int8 may be mixed); (kh, kw) where ``x`` is (ih, iw). The order
        is the same in every layout.
    bias : array, (oc,), optional
        dtype of the result.
    stride, dilation : int or one int per axis
        In elements of ``x``, at least 1.
    padding : int, one int per axis, one (before, after) pair per axis, or str
        'valid' (none), 'same' (output size ``ceil(input / stride)``, an odd extra at the end), 'same_lower' (at
        the start), 'full' (every overlap).
    groups : int
        Divides ``ic`` and ``oc``; ``groups=ic`` is depthwise.
    padding_mode : {'zeros', 'reflect', 'replicate', 'circular'}
    layout : {'NCHW', 'NHWC'}
        Order of the axes of ``x``, ``residual`` and the result.
    activation : str or (str, float), optional
        'relu', 'relu6', 'silu', 'gelu', 'gelu_tanh', 'hardswish', 'leaky_relu'; ``('leaky_relu', slope)``
        sets the slope (0.01). Integers: 'relu' and 'relu6' only.
    residual : array, optional
        Added before the activation; shape and dtype of the result.
    flip_kernel : bool
        True: convolution in the sense of signal processing.
    x_zero_point : int
        The number that stands for 0 in an int8 or uint8 ``x``: products are of ``x - x_zero_point``, padding is 0.
    w_zero_point : int or array of ints, (oc,)
        The same for ``w``, for all or for each output channel.
    backend : str
        'auto', 'naive', 'im2col', 'numba', 'cython', 'winograd' or 'fft'. A named backend runs or raises.
    accuracy : {'exact', 'high', 'fast'}
        'exact': direct sums only. 'high' and 'fast' allow winograd and fft too, alike for now.
    max_workspace : int, optional
        Bytes of scratch that the call may take.
    threads : int, optional
        Default: `get_num_threads`.
    out : numpy.ndarray, optional
        Receives the result; overlaps no input.

    Returns
    -------
    array
        Rank and kind of ``x``. float32 and float64 stay; 8-bit integers give int32, all others int64
        (uint64 stays); 32- and 64-bit integers wrap as NumPy's do.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names argument, value and remedy.
    UnsupportedConv, BackendUnavailable
        If the named backend cannot compute this layer, or is not installed.

    References
    ----------
    Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(3, 3)
    >>> conv2d(x, np.array([[0.0, 1.0], [2.0, 3.0]]), backend="im2col")
    array([[19., 25.],
           [37., 43.]])
    """
    return _once(2, x, w, bias, out, residual, threads, stride, padding, dilation, groups, padding_mode, layout,
                 activation, flip_kernel, (x_zero_point, w_zero_point), backend, accuracy, max_workspace)  # fmt: skip


def conv1d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, x_zero_point: int = 0, w_zero_point: Any = 0,
    backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None, threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """1-D convolution of ``x`` (n, ic, iw), (ic, iw) or (iw,) with ``w`` (oc, ic / groups, kw) or (kw,).

    Parameters, dtypes, errors and result as in `conv2d`, with one spatial axis and the layouts 'NCW'
    and 'NWC'. ``padding="causal"`` pads ``(kw - 1) * dilation`` zeros in front: no output sees the future.

    Examples
    --------
    >>> conv1d(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0]), padding="causal", backend="im2col")
    array([1., 3., 5.])
    """
    return _once(1, x, w, bias, out, residual, threads, stride, padding, dilation, groups, padding_mode, layout,
                 activation, flip_kernel, (x_zero_point, w_zero_point), backend, accuracy, max_workspace)  # fmt: skip


def conv3d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCDHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, x_zero_point: int = 0, w_zero_point: Any = 0,
    backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None, threads: int | None = None,
    out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """3-D convolution of ``x`` (n, ic, id, ih, iw) or without n, ic, with ``w`` (oc, ic / groups, kd, kh, kw).

    Parameters, dtypes, errors and result as in `conv2d`, with three spatial axes and the layouts
    'NCDHW' and 'NDHWC'.

    Examples
    --------
    >>> conv3d(np.ones((1, 2, 3, 3, 3)), np.ones((1, 2, 3, 3, 3)), backend="im2col").item()
    54.0
    """
    return _once(3, x, w, bias, out, residual, threads, stride, padding, dilation, groups, padding_mode, layout,
                 activation, flip_kernel, (x_zero_point, w_zero_point), backend, accuracy, max_workspace)  # fmt: skip


def plan(
    w: Array, x_shape: tuple[int, ...], bias: Array | None = None, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str | None = None,
    activation: Activation = None, flip_kernel: bool = False, x_zero_point: int = 0, w_zero_point: Any = 0,
    backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None, dtype: Any = None,
) -> Plan:  # fmt: skip
    """Decide and prepare a layer once, to run it often.

    The number of spatial axes is that of ``w`` (oc, ic / groups, k...), or of ``x_shape`` where ``w`` is a
    plain kernel. The weights are copied: later changes to ``w`` do not reach the plan.

    Parameters
    ----------
    w, bias, stride, padding, dilation, groups, and the keywords
        As in `conv2d`.
    x_shape : tuple of int
        Shape of the ``x`` to come, in ``layout``.
    dtype : dtype, optional
        dtype of ``x``, if not that of ``w``.

    Returns
    -------
    Plan
        ``y = plan(x, out=None, residual=None, threads=None)``.

    Raises
    ------
    ValueError, TypeError, UnsupportedConv, BackendUnavailable
        As `conv2d`.

    Examples
    --------
    >>> p = plan(np.ones((4, 1, 3, 3), "float32"), (1, 1, 8, 8), padding="same", backend="im2col")
    >>> p(np.ones((1, 1, 8, 8), "float32"))[0, 0, 0, :2]
    array([4., 6.], dtype=float32)
    """
    weights = arrays.take(w, "w")
    x_shape = shapes.check_shape(x_shape)
    ndim, name = calls.spatial_axes(weights), calls.dtype_name(dtype or weights.dtype)
    call = calls.forward(ndim, x_shape, name, weights, bias, stride, padding, dilation, groups, padding_mode, layout,
                         activation, flip_kernel, (x_zero_point, w_zero_point), backend, accuracy,
                         max_workspace)  # fmt: skip
    return call.plan(borrow=False)


def explain(
    x_or_shape: Array | tuple[int, ...], w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str | None = None,
    activation: Activation = None, flip_kernel: bool = False, x_zero_point: int = 0, w_zero_point: Any = 0,
    backend: str = "auto", accuracy: str = "high", max_workspace: int | None = None,
) -> Explanation:  # fmt: skip
    """Say what would run for a layer, and why each backend is chosen, possible or refused.

    Parameters
    ----------
    x_or_shape : array or tuple of int
        The input: what ``conv2d(x, w)`` would run. Or its shape: what ``plan(w, shape)`` would; the two differ,
        since a plan may spend time on its weights once. With a shape the dtype is that of ``w``.
    w, bias, stride, padding, dilation, groups, and the keywords
        As in `conv2d`.

    Returns
    -------
    Explanation
        Prints as a table; ``.to_dict()`` for programs; ``.chosen`` is the name of the backend, or ``None``.

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; a refusal is an answer here, not an error.

    Examples
    --------
    >>> e = explain((1, 8, 16, 16), np.ones((8, 8, 5, 5), "float32"), backend="im2col")
    >>> e.chosen, [row.because for row in e.rows if row.backend == "winograd"]
    ('im2col', ['needs a kernel of 3x3, 1x3, 3x1, 1x5 or 5x1; got 5x5'])
    """
    weights = arrays.take(w, "w")
    if isinstance(x_or_shape, (tuple, list)):
        shape, dtype = shapes.check_shape(x_or_shape), weights.dtype.name
    else:
        x = arrays.take(x_or_shape, "x_or_shape")
        shape, dtype = x.shape, x.dtype.name
    call = calls.forward(calls.spatial_axes(weights), shape, dtype, weights, bias, stride, padding, dilation, groups,
                         padding_mode, layout, activation, flip_kernel, (x_zero_point, w_zero_point), backend, accuracy,
                         max_workspace)  # fmt: skip
    once = not isinstance(x_or_shape, (tuple, list))
    rows = planning.judge_all(call.request(), call.backend, once)
    return Explanation(call.spec, tuple(rows))


def explain_spec(
    spec: ConvSpec, epilogue: Epilogue | None = None, backend: str = "auto", max_workspace: int | None = None
) -> Explanation:
    """`explain` of a plan for a layer given as a spec, as `parse_layer` returns it."""
    request = planning.Request(spec, epilogue or Epilogue(), max_workspace)
    rows = planning.judge_all(request, calls.check_backend(backend), once=False)
    return Explanation(spec, tuple(rows))


def _once(
    ndim: int, x: Array, w: Array, bias: Array | None, out: np.ndarray | None, residual: Array | None,
    threads: int | None, *options: Any,
) -> Array:  # fmt: skip
    """A single call; one that came before, with other arrays of the same shapes, is checked no more than they need."""
    key = None if residual is not None else known.key_of((ndim, bias is None), options, threads, x, w)
    if (result := known.again(key, out, x, w, bias)) is not None:
        return result
    call = _call(ndim, x, w, bias, *options)
    planned = call.plan(borrow=True, threads=threads)
    result = planned(x, out, residual, threads)
    known.keep(key, lambda: planning.again(planned, call.backend, w, threads_of(threads)))
    return result


def _call(ndim: int, x: Array, w: Array, *options: Any) -> Call:
    array = arrays.take(x, "x")
    return calls.forward(ndim, array.shape, array.dtype.name, arrays.take(w, "w"), *options)

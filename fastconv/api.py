"""The public functions: normalise arguments, build a spec, plan, run.

Each call is the same three steps; `Call` holds the arguments on their way. "Convolution" is
cross-correlation, as in every deep-learning framework; ``flip_kernel=True`` gives the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import arrays, planning, registry
from fastconv.arguments import Pair, check_bool, check_int, check_ints, check_layout, named_padding
from fastconv.planning import Explanation, Plan
from fastconv.spec import ACCUMULATOR, AXES, ConvSpec, Epilogue

Padding = int | str | Sequence[int] | Sequence[Pair]
Activation = str | tuple[str, float] | None
Ints = int | Sequence[int]
Array = Any  # a NumPy array, or a CPU tensor that speaks DLPack

_LEAKY_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one convolution, checked and normalised."""

    spec: ConvSpec
    epilogue: Epilogue
    w: np.ndarray
    bias: np.ndarray | None
    x_shape: tuple[int, ...]
    backend: str
    max_workspace: int | None
    resize: str | None  # the name of a padding that depends on the size of the image

    def request(self, threads: int | None = None) -> planning.Request:
        return planning.Request(
            self.spec, self.epilogue, self.max_workspace, threads, lambda: bool(np.isfinite(self.w).all())
        )

    def plan(self, borrow: bool, threads: int | None = None) -> Plan:
        w = self.w.reshape(self.w.shape[:2] + (1,) * (3 - self.spec.ndim) + self.w.shape[2:])
        bias = self.bias
        if bias is not None and not borrow:
            bias = bias.copy()
            bias.setflags(write=False)
        problem, name, state = planning.choose(self.request(threads), self.backend, (w, bias), borrow)
        borrowed = [("w", w)] + ([("bias", bias)] if bias is not None else []) if borrow else []
        return Plan(problem, name, self.x_shape, state, bias, tuple(borrowed), self.resize)


def conv2d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
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
    call = _call(2, x, w, bias, stride, padding, dilation, groups, padding_mode, layout, activation, flip_kernel,
                 backend, accuracy, max_workspace)  # fmt: skip
    return call.plan(borrow=True, threads=threads)(x, out, residual, threads)


def conv1d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """1-D convolution of ``x`` (n, ic, iw), (ic, iw) or (iw,) with ``w`` (oc, ic / groups, kw) or (kw,).

    Parameters, dtypes, errors and result as in `conv2d`, with one spatial axis and the layouts 'NCW'
    and 'NWC'. ``padding="causal"`` pads ``(kw - 1) * dilation`` zeros in front: no output sees the future.

    Examples
    --------
    >>> conv1d(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0]), padding="causal", backend="im2col")
    array([1., 3., 5.])
    """
    call = _call(1, x, w, bias, stride, padding, dilation, groups, padding_mode, layout, activation, flip_kernel,
                 backend, accuracy, max_workspace)  # fmt: skip
    return call.plan(borrow=True, threads=threads)(x, out, residual, threads)


def conv3d(
    x: Array, w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0, dilation: Ints = 1,
    groups: int = 1, *, padding_mode: str = "zeros", layout: str = "NCDHW", activation: Activation = None,
    residual: Array | None = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, threads: int | None = None, out: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """3-D convolution of ``x`` (n, ic, id, ih, iw) or without n, ic, with ``w`` (oc, ic / groups, kd, kh, kw).

    Parameters, dtypes, errors and result as in `conv2d`, with three spatial axes and the layouts
    'NCDHW' and 'NDHWC'.

    Examples
    --------
    >>> conv3d(np.ones((1, 2, 3, 3, 3)), np.ones((1, 2, 3, 3, 3)), backend="im2col").item()
    54.0
    """
    call = _call(3, x, w, bias, stride, padding, dilation, groups, padding_mode, layout, activation, flip_kernel,
                 backend, accuracy, max_workspace)  # fmt: skip
    return call.plan(borrow=True, threads=threads)(x, out, residual, threads)


def plan(
    w: Array, x_shape: tuple[int, ...], bias: Array | None = None, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str | None = None,
    activation: Activation = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None, dtype: Any = None,
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
    x_shape = planning.check_shape(x_shape)
    ndim, name = _spatial_axes(weights), _dtype_name(dtype or weights.dtype)
    call = _shaped_call(ndim, x_shape, name, weights, bias, stride, padding, dilation, groups, padding_mode, layout,
                        activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip
    return call.plan(borrow=False)


def explain(
    x_or_shape: Array | tuple[int, ...], w: Array, bias: Array | None = None, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, *, padding_mode: str = "zeros", layout: str | None = None,
    activation: Activation = None, flip_kernel: bool = False, backend: str = "auto", accuracy: str = "high",
    max_workspace: int | None = None,
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
    ('im2col', ['needs a 3x3 kernel; got 5x5'])
    """
    weights = arrays.take(w, "w")
    if isinstance(x_or_shape, (tuple, list)):
        shape, dtype = planning.check_shape(x_or_shape), weights.dtype.name
    else:
        x = arrays.take(x_or_shape, "x_or_shape")
        shape, dtype = x.shape, x.dtype.name
    call = _shaped_call(_spatial_axes(weights), shape, dtype, weights, bias, stride, padding, dilation, groups,
                        padding_mode, layout, activation, flip_kernel, backend, accuracy, max_workspace)  # fmt: skip
    once = not isinstance(x_or_shape, (tuple, list))
    rows = planning.judge_all(call.request(), call.backend, once)
    return Explanation(call.spec, tuple(rows))


def explain_spec(
    spec: ConvSpec, epilogue: Epilogue | None = None, backend: str = "auto", max_workspace: int | None = None
) -> Explanation:
    """`explain` of a plan for a layer given as a spec, as `parse_layer` returns it."""
    request = planning.Request(spec, epilogue or Epilogue(), max_workspace)
    rows = planning.judge_all(request, _check_backend(backend), once=False)
    return Explanation(spec, tuple(rows))


def _call(ndim: int, x: Array, w: Array, *options: Any) -> Call:
    array = arrays.take(x, "x")
    return _shaped_call(ndim, array.shape, array.dtype.name, arrays.take(w, "w"), *options)


def _shaped_call(
    ndim: int, x_shape: tuple[int, ...], dtype: str, w: np.ndarray, bias: Array | None, stride: Ints,
    padding: Padding, dilation: Ints, groups: int, padding_mode: str, layout: str | None, activation: Activation,
    flip_kernel: bool, backend: str, accuracy: str, max_workspace: int | None,
) -> Call:  # fmt: skip
    if layout is None:
        layout = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[ndim]
    check_layout(layout, ndim)
    w = _check_ranks(ndim, x_shape, w)
    _check_dtypes(dtype, w.dtype.name)
    n, ic, size = planning.split_shape(x_shape, ndim, layout.endswith("C"))
    kernel, strides, dilations = w.shape[2:], check_ints(stride, ndim, "stride"), check_ints(dilation, ndim, "dilation")
    g = check_int(groups, "groups")
    if g >= 1 and ic != w.shape[1] * g:
        raise ValueError(
            f"x has {ic} channels but w of shape {w.shape} with groups={g} takes {w.shape[1] * g}; "
            f"x of shape {x_shape} is read as {layout}"
        )
    pads = _padding(padding, size, kernel, strides, dilations)
    spec = ConvSpec(n, ic, w.shape[0], size, kernel, strides, pads, dilations, g, padding_mode, layout, dtype,
                    w.dtype.name, accuracy)  # fmt: skip
    epilogue = _epilogue(activation, spec)
    if check_bool(flip_kernel, "flip_kernel"):
        w = w[(slice(None), slice(None)) + (slice(None, None, -1),) * ndim]
    limit = None if max_workspace is None else check_int(max_workspace, "max_workspace")
    if limit is not None and limit < 0:
        raise ValueError(f"max_workspace={limit} must be a number of bytes of at least 0, or None")
    resize = padding if isinstance(padding, str) and padding.startswith("same") else None
    return Call(spec, epilogue, w, _bias(bias, spec), x_shape, _check_backend(backend), limit, resize)


def _spatial_axes(w: np.ndarray) -> int:
    """Spatial axes of a layer: (oc, ic, k...) has two more; of rank 1 or 2 it is a plain kernel.

    Rank 3 with an ``x`` of rank 3 reads as 1-D: a plain 3-D kernel needs its first two axes written out.
    """
    if w.ndim > 5 or w.ndim == 0:
        raise ValueError(f"w has shape {w.shape}; expected (oc, ic / groups, k...) with 1 to 3 spatial axes")
    return w.ndim if w.ndim <= 2 else w.ndim - 2


def _check_ranks(ndim: int, x_shape: tuple[int, ...], w: np.ndarray) -> np.ndarray:
    axes = "i" + ", i".join(AXES[-ndim:])
    kernel = "k" + ", k".join(AXES[-ndim:])
    if len(x_shape) == ndim:
        if w.ndim != ndim:
            raise ValueError(f"w has shape {w.shape}; for a plain x ({axes}) it must be ({kernel}), or pass x[None]")
        return w[None, None]
    if len(x_shape) not in (ndim + 1, ndim + 2):
        raise ValueError(f"x has shape {x_shape}; expected (n, ic, {axes}), (ic, {axes}) or ({axes})")
    if w.ndim != ndim + 2:
        raise ValueError(f"w has shape {w.shape}; expected (oc, ic / groups, {kernel})")
    return w


def _check_dtypes(x: str, w: str) -> None:
    if x != w and {x, w} != {"int8", "uint8"}:
        remedy = f"x.astype({w!r})" if w.startswith("float") else f"w.astype({x!r})"
        raise TypeError(f"x has dtype {x} and w has {w}; convert one of them: {remedy}")


def _dtype_name(dtype: Any) -> str:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={dtype!r} is no dtype; supported: {', '.join(ACCUMULATOR)}") from None
    if not found.isnative:
        raise TypeError(f"dtype={dtype!r} has another byte order; pass {found.name!r}")
    if found.name not in ACCUMULATOR:
        raise TypeError(f"dtype={dtype!r} is computed by no backend; supported: {', '.join(ACCUMULATOR)}")
    return str(found.name)


def _bias(bias: Array | None, spec: ConvSpec) -> np.ndarray | None:
    if bias is None:
        return None
    array = arrays.take(bias, "bias")
    if array.shape != (spec.oc,):
        raise ValueError(f"bias has shape {array.shape}; expected ({spec.oc},), one number per output channel")
    if array.dtype.name != spec.acc_dtype:
        raise TypeError(f"bias has dtype {array.dtype.name}; the result has {spec.acc_dtype}: convert it with astype")
    return array


def _epilogue(activation: Activation, spec: ConvSpec) -> Epilogue:
    name, parameter = activation if isinstance(activation, tuple) and len(activation) == 2 else (activation, None)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"activation={activation!r} must be a name, a (name, parameter) pair or None")
    epilogue = Epilogue(name, 0.0)
    if name == "leaky_relu":
        slope = _LEAKY_SLOPE if parameter is None else parameter
        try:
            number = None if isinstance(slope, (str, bool)) else float(slope)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None:
            raise TypeError(f"activation={activation!r}: the slope must be a number")
        epilogue = Epilogue(name, number)
    elif parameter is not None:
        raise ValueError(f"activation={activation!r}: only 'leaky_relu' takes a parameter")
    if spec.acc_dtype.startswith(("int", "uint")) and name not in (None, "relu", "relu6"):
        raise TypeError(f"activation={name!r} is not defined on {spec.acc_dtype} sums; convert x and w to float32")
    return epilogue


def _check_backend(backend: str) -> str:
    if not isinstance(backend, str):
        raise TypeError(f"backend={backend!r} must be a string")
    return backend if backend == "auto" else registry.find(backend).name


def _padding(
    value: Any, size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Pair, ...]:
    ndim = len(size)
    if isinstance(value, str):
        return tuple(named_padding(value, *axis, ndim) for axis in zip(size, kernel, stride, dilation, strict=True))
    if isinstance(value, (tuple, list)) and any(isinstance(v, (tuple, list)) for v in value):
        if len(value) != ndim or not all(isinstance(v, (tuple, list)) and len(v) == 2 for v in value):
            raise ValueError(f"padding={value!r}: expected {ndim} (before, after) pairs, one per axis")
        return tuple((check_int(a, "padding"), check_int(b, "padding")) for a, b in value)
    return tuple((p, p) for p in check_ints(value, ndim, "padding"))

"""The arguments of a call on their way to a plan: checked once, normalised, made into a spec.

Convolution, transposed convolution and both gradients are one layer with another ``op``; `Call` holds it with
the arrays that stay the same from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import arrays, planning, registry, shapes
from fastconv.arguments import LAYOUTS, Pair, check_bool, check_int, check_ints, check_layout, named_padding
from fastconv.planning import Plan
from fastconv.spec import ACCUMULATOR, AXES, ConvSpec, Epilogue

Padding = int | str | Sequence[int] | Sequence[Pair]
Activation = str | tuple[str, float] | None
Ints = int | Sequence[int]
Array = Any  # a NumPy array, or a CPU tensor that speaks DLPack
Shape = tuple[int, ...]

_LEAKY_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class Call:
    """One layer with its constants: the weights, or for their gradient the gradient to the output."""

    spec: ConvSpec
    epilogue: Epilogue
    w: np.ndarray
    bias: np.ndarray | None
    x_shape: Shape
    backend: str
    max_workspace: int | None
    resize: str | None = None  # the name of a padding that depends on the size of the image
    operand: str = "x"  # what the caller calls the array that is convolved

    def request(self, threads: int | None = None) -> planning.Request:
        return planning.Request(
            self.spec, self.epilogue, self.max_workspace, threads, lambda: arrays.all_finite(self.w)
        )

    def plan(self, borrow: bool, threads: int | None = None) -> Plan:
        of_output = self.spec.op == "grad_weight"
        w = shapes.canonical(self.w, self.spec) if of_output else shapes.canonical_weights(self.w, self.spec.ndim)
        bias = self.bias
        if bias is not None and not borrow:
            bias = bias.copy()
            bias.setflags(write=False)
        problem, name, state = planning.choose(self.request(threads), self.backend, (w, bias), borrow)
        borrowed = [("grad_output" if of_output else "w", w)] + ([("bias", bias)] if bias is not None else [])
        return Plan(problem, name, self.x_shape, state, bias, tuple(borrowed) if borrow else (), self.resize,
                    self.operand)  # fmt: skip


def forward(
    ndim: int, x_shape: Shape, dtype: str, w: np.ndarray, bias: Array | None, stride: Ints, padding: Padding,
    dilation: Ints, groups: int, padding_mode: str, layout: str | None, activation: Activation, flip_kernel: bool,
    zero_points: tuple[Any, Any], backend: str, accuracy: str, max_workspace: int | None,
) -> Call:  # fmt: skip
    """The convolution of an ``x`` of that shape and dtype."""
    w = w.reshape(_with_channels(ndim, x_shape, w.shape))
    _check_dtypes(dtype, w.dtype.name)
    x_zero, w = _zero_points(zero_points, dtype, w)
    spec = _spec("forward", ndim, x_shape, w.shape, (dtype, w.dtype.name), stride, padding, dilation, groups,
                 padding_mode, layout, accuracy, x_zero)  # fmt: skip
    resize = padding if isinstance(padding, str) and padding.startswith("same") else None
    return Call(spec, _epilogue(activation, spec), _flipped(w, flip_kernel, ndim), _bias(bias, spec), x_shape,
                check_backend(backend), _limit(max_workspace), resize)  # fmt: skip


def transposed(
    ndim: int, x_shape: Shape, dtype: str, w: np.ndarray, bias: Array | None, stride: Ints, padding: Padding,
    output_padding: Ints, groups: int, dilation: Ints, layout: str, activation: Activation, flip_kernel: bool,
    backend: str, accuracy: str, max_workspace: int | None,
) -> Call:  # fmt: skip
    """The transposed convolution of an ``x`` of that shape: the gradient to the input of the layer that puts it out."""
    check_layout(layout, ndim)
    w = w.reshape(_with_channels(ndim, x_shape, w.shape, channels="ic, oc / groups"))
    _check_dtypes(dtype, w.dtype.name)
    n, ic, size = shapes.split_shape(x_shape, ndim, layout.endswith("C"))
    strides, dilations = check_ints(stride, ndim, "stride"), check_ints(dilation, ndim, "dilation")
    spare, g = check_ints(output_padding, ndim, "output_padding"), check_int(groups, "groups")
    for axis in range(ndim):
        if min(strides[axis], dilations[axis], g) < 1:
            raise ValueError(f"stride={strides}, dilation={dilations}, groups={g}: each must be at least 1")
        if size[axis] < 1:
            raise ValueError(f"x has shape {x_shape}; every spatial axis needs at least one element")
        if not 0 <= spare[axis] < max(strides[axis], dilations[axis]):
            raise ValueError(
                f"output_padding={spare} must be at least 0 and less than the larger of stride={strides} and "
                f"dilation={dilations}"
            )
    if ic % g:
        raise ValueError(f"groups={g} must divide the {ic} input channels")
    if ic != w.shape[0]:
        raise ValueError(
            f"x has {ic} channels but w of shape {w.shape}, read as (ic, oc / groups, k...), takes {w.shape[0]}; "
            f"x of shape {x_shape} is read as {layout}"
        )
    reach = [(i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(size, strides, w.shape[2:], dilations, strict=True)]
    pads, spare = _transposed_padding(padding, size, reach, strides, spare)
    result = tuple(r - sum(p) + more for r, p, more in zip(reach, pads, spare, strict=True))
    if min(result) < 1:
        raise ValueError(f"padding={padding} leaves an output of size {result}; use a smaller padding")
    spec = ConvSpec(n, w.shape[1] * g, ic, result, w.shape[2:], strides, pads, dilations, g, "zeros", layout,
                    dtype, w.dtype.name, accuracy, "grad_input", spare)  # fmt: skip
    return Call(spec, _epilogue(activation, spec), _flipped(w, flip_kernel, ndim), _bias(bias, spec), x_shape,
                check_backend(backend), _limit(max_workspace))  # fmt: skip


def grad_input(
    ndim: int, input_size: Shape, w: np.ndarray, grad_output: np.ndarray, stride: Ints, padding: Padding,
    dilation: Ints, groups: int, padding_mode: str, layout: str, flip_kernel: bool, backend: str, accuracy: str,
    max_workspace: int | None,
) -> Call:  # fmt: skip
    """The gradient of a convolution to an input of that shape."""
    w, dtype = w.reshape(_with_channels(ndim, input_size, w.shape, "input_size")), grad_output.dtype.name
    _check_dtypes(dtype, w.dtype.name, "grad_output")
    spec = _spec("grad_input", ndim, input_size, w.shape, (dtype, w.dtype.name), stride, padding, dilation, groups,
                 padding_mode, layout, accuracy)  # fmt: skip
    _check_grad_output(grad_output, spec, input_size)
    return Call(spec, Epilogue(), _flipped(w, flip_kernel, ndim), None, grad_output.shape, check_backend(backend),
                _limit(max_workspace), operand="grad_output")  # fmt: skip


def grad_weight(
    ndim: int, x: np.ndarray, weight_size: Shape, grad_output: np.ndarray, stride: Ints, padding: Padding,
    dilation: Ints, groups: int, padding_mode: str, layout: str, backend: str, accuracy: str,
    max_workspace: int | None,
) -> Call:  # fmt: skip
    """The gradient of a convolution to weights of that shape, not flipped."""
    _check_dtypes(x.dtype.name, grad_output.dtype.name, "x", "grad_output")
    shape = _with_channels(ndim, x.shape, weight_size, name="weight_size")
    spec = _spec("grad_weight", ndim, x.shape, shape, (x.dtype.name, grad_output.dtype.name), stride, padding,
                 dilation, groups, padding_mode, layout, accuracy)  # fmt: skip
    _check_grad_output(grad_output, spec, x.shape)
    return Call(spec, Epilogue(), grad_output, None, x.shape, check_backend(backend), _limit(max_workspace))


def _spec(
    op: str, ndim: int, x_shape: Shape, w_shape: Shape, dtypes: tuple[str, str], stride: Ints, padding: Padding,
    dilation: Ints, groups: int, padding_mode: str, layout: str | None, accuracy: str, x_zero_point: int = 0,
) -> ConvSpec:  # fmt: skip
    """The spec of a layer with an input of ``x_shape`` and weights (oc, ic / groups, k...)."""
    layout = LAYOUTS[ndim][0] if layout is None else layout
    check_layout(layout, ndim)
    n, ic, size = shapes.split_shape(x_shape, ndim, layout.endswith("C"))
    kernel, strides, dilations = w_shape[2:], check_ints(stride, ndim, "stride"), check_ints(dilation, ndim, "dilation")
    g = check_int(groups, "groups")
    if g >= 1 and ic != w_shape[1] * g:
        x = "input_size" if op == "grad_input" else "x"
        raise ValueError(
            f"{x} has {ic} channels but w of shape {w_shape} with groups={g} takes {w_shape[1] * g}; "
            f"{x_shape} is read as {layout}"
        )
    pads = paddings(padding, size, kernel, strides, dilations)
    return ConvSpec(n, ic, w_shape[0], size, kernel, strides, pads, dilations, g, padding_mode, layout, dtypes[0],
                    dtypes[1], accuracy, op, (), x_zero_point)  # fmt: skip


def _transposed_padding(
    value: Any, size: Shape, reach: list[int], stride: Shape, spare: Shape
) -> tuple[tuple[Pair, ...], Shape]:
    """Padding and output padding of a transposed layer; 'same' makes the output ``stride`` times the input."""
    if not isinstance(value, str):
        return paddings(value, size, (), (), ()), spare
    if value == "valid":
        return ((0, 0),) * len(size), spare
    if value not in ("same", "same_lower"):
        raise ValueError(f"padding={value!r} is unknown; choose 'valid', 'same', 'same_lower' or numbers")
    totals = [r + more - i * s for r, more, i, s in zip(reach, spare, size, stride, strict=True)]
    halves = [(max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in totals]
    pads = tuple(pair if value == "same" else pair[::-1] for pair in halves)
    return pads, tuple(more + max(-t, 0) for more, t in zip(spare, totals, strict=True))


def _check_grad_output(grad_output: np.ndarray, spec: ConvSpec, x_shape: Shape) -> None:
    missing = len(spec.x_shape) - len(x_shape)
    expected = spec.output_size if missing == 2 else spec.out_shape[missing:]
    if grad_output.shape != expected:
        raise ValueError(
            f"grad_output has shape {grad_output.shape}; a layer with an input of shape {x_shape} and weights of "
            f"shape {spec.w_shape} puts out {expected}"
        )


def _zero_points(values: tuple[Any, Any], dtype: str, w: np.ndarray) -> tuple[int, np.ndarray]:
    """The zero point of ``x``, and the weights less theirs."""
    x_zero, w_zero = check_int(values[0], "x_zero_point"), values[1]
    if type(w_zero) is int:  # the common call, which has none
        if not x_zero and not w_zero:
            return 0, w
        w_zero = np.array(w_zero)
    elif getattr(w_zero, "ndim", 0):
        w_zero = arrays.take(w_zero, "w_zero_point")
    else:
        w_zero = np.array(check_int(w_zero, "w_zero_point"))
    if w_zero.shape not in ((), (1,), (w.shape[0],)):
        raise ValueError(f"w_zero_point has shape {w_zero.shape}; expected one int, or one per output channel")
    for name, kind, zero in (("x", dtype, np.array(x_zero)), ("w", w.dtype.name, w_zero)):
        if kind not in ("int8", "uint8"):
            raise TypeError(f"{name}_zero_point is for int8 and uint8; {name} has dtype {kind}: subtract it beforehand")
        least, most = np.iinfo(kind).min, np.iinfo(kind).max
        if zero.dtype.kind not in "iu" or zero.min(initial=0) < least or zero.max(initial=0) > most:
            raise ValueError(f"{name}_zero_point={zero.tolist()} is no number of {kind}")
    if not w_zero.any():
        return x_zero, w
    return x_zero, w.astype(np.int16) - w_zero.astype(np.int16).reshape(-1, *[1] * (w.ndim - 1))


def _flipped(w: np.ndarray, flip_kernel: Any, ndim: int) -> np.ndarray:
    if check_bool(flip_kernel, "flip_kernel"):
        return w[(slice(None), slice(None)) + (slice(None, None, -1),) * ndim]
    return w


def _limit(max_workspace: Any) -> int | None:
    limit = None if max_workspace is None else check_int(max_workspace, "max_workspace")
    if limit is not None and limit < 0:
        raise ValueError(f"max_workspace={limit} must be a number of bytes of at least 0, or None")
    return limit


def spatial_axes(w: np.ndarray) -> int:
    """Spatial axes of a layer: (oc, ic, k...) has two more; of rank 1 or 2 it is a plain kernel.

    Rank 3 with an ``x`` of rank 3 reads as 1-D: a plain 3-D kernel needs its first two axes written out.
    """
    if w.ndim > 5 or w.ndim == 0:
        raise ValueError(f"w has shape {w.shape}; expected (oc, ic / groups, k...) with 1 to 3 spatial axes")
    return w.ndim if w.ndim <= 2 else w.ndim - 2


def _with_channels(
    ndim: int, x_shape: Shape, w_shape: Shape, x: str = "x", name: str = "w", channels: str = "oc, ic / groups"
) -> Shape:  # fmt: skip
    """The shape of the weights with both channel axes; an ``x`` without them goes with a plain kernel."""
    axes = "i" + ", i".join(AXES[-ndim:])
    kernel = "k" + ", k".join(AXES[-ndim:])
    if len(x_shape) == ndim:
        if len(w_shape) != ndim:
            raise ValueError(
                f"{name} has shape {w_shape}; for a plain {x} ({axes}) it must be ({kernel}), or pass x[None]"
            )
        return (1, 1, *w_shape)
    if len(x_shape) not in (ndim + 1, ndim + 2):
        raise ValueError(f"{x} has shape {x_shape}; expected (n, ic, {axes}), (ic, {axes}) or ({axes})")
    if len(w_shape) != ndim + 2:
        raise ValueError(f"{name} has shape {w_shape}; expected ({channels}, {kernel})")
    return w_shape


def _check_dtypes(x: str, w: str, x_name: str = "x", w_name: str = "w") -> None:
    if x != w and {x, w} != {"int8", "uint8"}:
        remedy = f"{x_name}.astype({w!r})" if w.startswith("float") else f"{w_name}.astype({x!r})"
        raise TypeError(f"{x_name} has dtype {x} and {w_name} has {w}; convert one of them: {remedy}")


def dtype_name(dtype: Any) -> str:
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
    if array.shape != (spec.result_channels,):
        raise ValueError(
            f"bias has shape {array.shape}; expected ({spec.result_channels},), one number per output channel"
        )
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


def check_backend(backend: str) -> str:
    if not isinstance(backend, str):
        raise TypeError(f"backend={backend!r} must be a string")
    return backend if backend == "auto" else registry.find(backend).name


def paddings(
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

"""`fastconv.conv2d`, `max_pool2d` and `avg_pool2d` inside a user's own ``@njit`` functions.

Numba loads this through the entry point ``numba_extensions`` when it compiles its first function; importing fastconv
does not. What is supported and what is not is decided while the user's function is compiled, and said with the
argument's name, its value and a remedy.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import overload
from numpy.lib.stride_tricks import as_strided

from fastconv import tuning
from fastconv.api import conv2d
from fastconv.kernels import inside_numba
from fastconv.pooling import avg_pool2d, max_pool2d

_BLOCK, _BLOCK_POINT = tuning.CHANNEL_BLOCK, tuning.CHANNEL_BLOCK_POINT
_FLOATS = (types.float32, types.float64)


def init() -> None:
    """Called by Numba; the overloads are registered when this module is imported."""


def _pair(value: Any) -> Any:
    """One int for both axes, or one per axis."""


def _pads(value: Any) -> Any:
    """(top, bottom, left, right) from one int, one per axis, or a pair per axis."""


@overload(_pair)
def _overload_pair(value):
    if _is_int(value):
        return lambda value: (value, value)
    return lambda value: (value[0], value[1])


@overload(_pads)
def _overload_pads(value):
    if _is_int(value):
        return lambda value: (value, value, value, value)
    if _is_int(value[0]):
        return lambda value: (value[0], value[0], value[1], value[1])
    return lambda value: (value[0][0], value[0][1], value[1][0], value[1][1])


def _four(array: Any) -> Any:
    """An image, without batch and channels as one with both; of no layout in particular, so one kernel serves all."""


@overload(_four)
def _overload_four(array):
    if array.ndim == 4:
        return lambda array: as_strided(array, array.shape, array.strides)
    return lambda array: as_strided(array, (1, 1, *array.shape), (0, 0, *array.strides))


def _plain(kind: Any) -> Any:
    """The Python value of a default or of a literal argument; else its type."""
    if isinstance(kind, types.Omitted):
        return kind.value
    if isinstance(kind, types.NoneType):
        return None
    return kind.literal_value if isinstance(kind, types.Literal) else kind


def _is_int(kind: Any) -> bool:
    kind = _plain(kind)
    return isinstance(kind, (int, types.Integer)) and not isinstance(kind, (bool, types.Boolean))


def _is_pair(kind: Any, item: Any = _is_int) -> bool:
    parts: Any = kind if isinstance(kind, types.BaseTuple) else ()
    return len(parts) == 2 and item(parts[0]) and item(parts[1])


def _check_ints(function: str, **arguments: Any) -> None:
    for name, kind in arguments.items():
        if not (_is_int(kind) or _is_pair(kind)):
            raise TypingError(f"{function}: {name}={_plain(kind)} must be an int or a tuple of two ints")


def _check_padding(function: str, kind: Any) -> None:
    if not (_is_int(kind) or _is_pair(kind) or _is_pair(kind, _is_pair)):
        raise TypingError(
            f"{function}: padding={_plain(kind)!r} must be an int, a tuple of two ints (rows, columns) or two tuples"
            " ((top, bottom), (left, right)) inside jitted code; work out 'same' and 'valid' beforehand"
        )


def _check_array(function: str, name: str, kind: Any, ndims: tuple[int, ...]) -> None:
    if not isinstance(kind, types.Array) or kind.dtype not in _FLOATS:
        raise TypingError(f"{function}: {name} is {kind}; expected an array of float32 or float64: convert it first")
    if kind.ndim not in ndims:
        axes = " or ".join(map(str, ndims))
        raise TypingError(
            f"{function}: {name} has {kind.ndim} axes; expected {axes} inside jitted code: reshape it first"
        )


def _refuse(function: str, given: dict[str, Any], **admitted: tuple[Any, ...]) -> None:
    """Arguments that jitted code does not take, unless they are what it does anyway."""
    for name, values in admitted.items():
        value = _plain(given[name])
        if not any(value is one or (type(value) is type(one) and value == one) for one in values):
            raise TypingError(
                f"{function}: {name}={value!r} is not supported inside jitted code, only"
                f" {' or '.join(map(repr, values))}: call fastconv.{function} outside, or leave {name} out"
            )


@overload(conv2d, prefer_literal=True)
def _overload_conv2d(
    x, w, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", layout="NCHW", activation=None,
    residual=None, flip_kernel=False, x_zero_point=0, w_zero_point=0, backend="auto", accuracy="high",
    max_workspace=None, threads=None, out=None,
):  # fmt: skip
    given = dict(locals())
    _check_array("conv2d", "x", x, (2, 4))
    _check_array("conv2d", "w", w, (x.ndim,))
    if w.dtype != x.dtype:
        raise TypingError(f"conv2d: w has dtype {w.dtype}, x {x.dtype}; convert one with astype")
    biased = _plain(bias) is not None
    if biased:
        _check_array("conv2d", "bias", bias, (1,))
        if bias.dtype != x.dtype:
            raise TypingError(f"conv2d: bias has dtype {bias.dtype}, x {x.dtype}; convert one with astype")
    _check_ints("conv2d", stride=stride, dilation=dilation)
    _check_padding("conv2d", padding)
    if not _is_int(groups):
        raise TypingError(f"conv2d: groups={_plain(groups)} must be an int")
    _refuse(
        "conv2d", given, padding_mode=("zeros",), layout=("NCHW",), activation=(None,), residual=(None,),
        flip_kernel=(False,), x_zero_point=(0,), w_zero_point=(0,), backend=("auto", "numba"),
        accuracy=("high", "exact"), max_workspace=(None,), threads=(None, 1), out=(None,),
    )  # fmt: skip
    flat = x.ndim == 2

    def impl(
        x, w, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", layout="NCHW",
        activation=None, residual=None, flip_kernel=False, x_zero_point=0, w_zero_point=0, backend="auto",
        accuracy="high", max_workspace=None, threads=None, out=None,
    ):  # fmt: skip
        result = inside_numba.convolve(_four(x), _four(w), _pads(padding), _pair(stride), _pair(dilation), int(groups),
                                       _BLOCK, _BLOCK_POINT)  # fmt: skip
        if biased:
            inside_numba.add_bias(result, bias)
        return result[0, 0] if flat else result

    return impl


@overload(max_pool2d, prefer_literal=True)
def _overload_max_pool2d(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, compat="torch",
    storage_order=0, layout="NCHW", threads=None, out=None,
):  # fmt: skip
    given = dict(locals())
    _check_pool("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    _refuse("max_pool2d", given, return_indices=(False,), compat=("torch",), storage_order=(0,), layout=("NCHW",),
            threads=(None, 1), out=(None,))  # fmt: skip
    flat, whole = x.ndim == 2, _plain(stride) is None

    def impl(
        x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, compat="torch",
        storage_order=0, layout="NCHW", threads=None, out=None,
    ):  # fmt: skip
        kernel = _pair(kernel_size)
        steps = kernel if whole else _pair(stride)
        result = inside_numba.largest(_four(x), kernel, steps, _pads(padding), _pair(dilation), bool(ceil_mode))
        return result[0, 0] if flat else result

    return impl


@overload(avg_pool2d, prefer_literal=True)
def _overload_avg_pool2d(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None, dilation=1,
    compat="torch", layout="NCHW", threads=None, out=None,
):  # fmt: skip
    given = dict(locals())
    _check_pool("avg_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    _refuse("avg_pool2d", given, dilation=(1,), compat=("torch",), layout=("NCHW",), threads=(None, 1), out=(None,))
    flat, whole, divided = x.ndim == 2, _plain(stride) is None, _plain(divisor_override) is not None

    def impl(
        x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
        dilation=1, compat="torch", layout="NCHW", threads=None, out=None,
    ):  # fmt: skip
        kernel = _pair(kernel_size)
        steps = kernel if whole else _pair(stride)
        divisor = divisor_override if divided else 0
        result = inside_numba.mean(
            _four(x), kernel, steps, _pads(padding), bool(ceil_mode), bool(count_include_pad), divisor
        )
        return result[0, 0] if flat else result

    return impl


def _check_pool(
    function: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> None:
    _check_array(function, "x", x, (2, 4))
    _check_ints(function, kernel_size=kernel_size, dilation=dilation)
    if _plain(stride) is not None:
        _check_ints(function, stride=stride)
    _check_padding(function, padding)
    if not isinstance(_plain(ceil_mode), (bool, types.Boolean)):
        raise TypingError(f"{function}: ceil_mode={_plain(ceil_mode)} must be a bool")

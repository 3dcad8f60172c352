"""Which elements each window of a pooling shows, and the arguments of a call on their way to that."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastconv import arrays, shapes, tuning
from fastconv.arguments import LAYOUTS, check_bool, check_int, check_ints, check_layout
from fastconv.calls import Array, Ints, Padding, Shape, paddings
from fastconv.spec import AXES, PoolSpec

NAMES = ("valid", "same", "same_lower")


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows along one axis of ``size`` elements: window o shows ``start + o * stride + k * dilation``."""

    size: int
    out: int
    start: int
    stride: int
    kernel: int
    dilation: int

    def tap(self, k: int) -> tuple[slice, slice]:
        """The elements that tap ``k`` reads inside the axis, and the windows that it reads them for."""
        shift = self.start + k * self.dilation
        first = max(-(shift // self.stride), 0)
        last = max(min((self.size - 1 - shift) // self.stride + 1, self.out), first)
        begin = first * self.stride + shift
        return slice(begin, begin + (last - first) * self.stride, self.stride), slice(first, last)

    def cut(self, part: slice) -> Windows:
        """Only the windows of a slice."""
        return replace(self, out=part.stop - part.start, start=self.start + part.start * self.stride)

    def region(self) -> tuple[slice, Windows]:
        """The part of the axis that the windows show, and the windows on that part."""
        end = self.start + (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        first = min(max(self.start, 0), self.size)
        last = min(max(end, first), self.size)
        return slice(first, last), replace(self, size=last - first, start=self.start - first)

    def count(self, low: int, high: int) -> np.ndarray:
        """How many elements of each window lie from position ``low`` on and before ``high``."""
        starts = self.start + self.stride * np.arange(self.out, dtype=np.int64)
        before_low, before_high = (np.clip(-((starts - p) // self.dilation), 0, self.kernel) for p in (low, high))
        return np.asarray(before_high - before_low)


@functools.lru_cache(maxsize=tuning.KNOWN_CALLS)
def windows(spec: PoolSpec) -> tuple[Windows, ...]:
    """The windows of a layer, axis by axis."""
    return tuple(
        Windows(size, out, -before, stride, kernel, dilation)
        for size, out, (before, _), stride, kernel, dilation in zip(
            spec.input_size, spec.output_size, spec.pads, spec.stride, spec.kernel_size, spec.dilation, strict=True
        )
    )


@functools.lru_cache(maxsize=tuning.KNOWN_CALLS)
def counts(spec: PoolSpec, include_pad: bool) -> list[np.ndarray]:
    """Elements of each window within the padded input, or within the input itself; one read-only array per axis."""
    found = [
        axis.count(-before * include_pad, axis.size + after * include_pad)
        for axis, (before, after) in zip(windows(spec), spec.pads, strict=True)
    ]
    for axis in found:
        axis.flags.writeable = False
    return found


def outer(numbers: list[np.ndarray], part: slice, dtype: np.dtype[Any]) -> np.ndarray:
    """Products of one number per axis, for a slice of the first axis."""
    return functools.reduce(np.multiply.outer, [numbers[0][part], *numbers[1:]]).astype(dtype)


def read(
    ndim: int, x_shape: Shape, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints,
    ceil_mode: bool, compat: str, layout: str,
) -> PoolSpec:  # fmt: skip
    """The layer that the arguments of a call describe, for an ``x`` of that shape."""
    n, c, size = split(x_shape, ndim, layout, "x")
    kernel = check_ints(kernel_size, ndim, "kernel_size")
    steps = kernel if stride is None else check_ints(stride, ndim, "stride")
    dilations, ceil = check_ints(dilation, ndim, "dilation"), check_bool(ceil_mode, "ceil_mode")
    if isinstance(padding, str):
        if padding not in NAMES:
            raise ValueError(f"padding={padding!r} is unknown; choose {', '.join(map(repr, NAMES))} or numbers")
        ceil = False  # a name says how many windows there are
    pads = paddings(padding, size, kernel, steps, dilations)
    return PoolSpec(n, c, size, kernel, steps, pads, dilations, ceil, compat)


def split(shape: Shape, ndim: int, layout: str, name: str) -> tuple[int, int, Shape]:
    """Batch, channels and spatial size of an array in ``layout``, or an error that names it."""
    check_layout(layout, ndim)
    if len(shape) not in (ndim, ndim + 1, ndim + 2):
        axes = ", ".join(AXES[-ndim:])
        raise ValueError(f"{name} has shape {shape}; expected (n, c, {axes}), (c, {axes}) or ({axes})")
    n, c, size = shapes.split_shape(shape, ndim, layout == LAYOUTS[ndim][1])
    if min(size) < 1:
        raise ValueError(f"{name} has shape {shape}; every spatial axis needs at least one element")
    if min(n, c) < 0:
        raise ValueError(f"{name} has shape {shape}; sizes are at least 0")
    return n, c, size


def resized(shape: Shape, size: Shape, layout: str) -> Shape:
    """An array's shape with another spatial size."""
    ndim = len(size)
    if len(shape) > ndim and layout == LAYOUTS[ndim][1]:
        return (*shape[: -1 - ndim], *size, shape[-1])
    return (*shape[:-ndim], *size)


def planes(array: np.ndarray, ndim: int, layout: str) -> np.ndarray:
    """A view of an array as (n, c, ...), its last ``ndim`` axes the spatial ones."""
    if array.ndim > ndim and layout == LAYOUTS[ndim][1]:
        array = np.moveaxis(array, -1, -1 - ndim)
    return array[(None,) * (ndim + 2 - array.ndim) + (...,)]


def result(shape: Shape, dtype: np.dtype[Any], out: np.ndarray | None, **inputs: np.ndarray | None) -> np.ndarray:
    """A new array for the result, or the caller's own after a check."""
    return np.empty(shape, dtype) if out is None else arrays.take_out(out, shape, arrays.NAMES[dtype], inputs)


def check_float(array: np.ndarray, what: str, name: str = "x") -> None:
    """Refuse integers where the result of ``what`` is none."""
    if array.dtype.kind != "f":
        dtype = array.dtype.name
        raise TypeError(f"{name} has dtype {dtype}, whose {what} is no integer; convert with {name}.astype('float32')")


def check_gradient(gradient: Array, shape: Shape, dtype: np.dtype[Any] | None = None) -> np.ndarray:
    """``grad_output`` as an array of the output's shape and of the dtype of ``x``."""
    array = arrays.take(gradient, "grad_output")
    if array.shape != shape:
        raise ValueError(f"grad_output has shape {array.shape}; the layer puts out {shape}")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"grad_output has dtype {array.dtype.name} and x has {dtype.name}; convert one with astype")
    check_float(array, "gradient", "grad_output")
    return array


def check_choice(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    """One of a few values, or an error that names them."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose {' or '.join(map(repr, choices))}")
    return value


def check_order(storage_order: int) -> bool:
    """Whether indices count column by column."""
    return bool(check_choice(check_int(storage_order, "storage_order"), (0, 1), "storage_order"))

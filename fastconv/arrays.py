"""The border: arrays of any kind come in as NumPy views, results leave as the caller's kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastconv.spec import ACCUMULATOR

NAMES = {np.dtype(name): name for name in ACCUMULATOR}
"""Names of the supported dtypes in native byte order: ``dtype.name`` takes microseconds."""

_REFUSED = {
    "float16": "convert with x.astype('float32')",
    "bfloat16": "convert to float32",
    "complex64": "convolve the real and the imaginary part",
    "complex128": "convolve the real and the imaginary part",
    "bool": "convert with x.astype('uint8')",
}
_OVERLAP_EFFORT = 100_000  # steps of the exact overlap search before two arrays count as overlapping


def take(value: Any, name: str) -> np.ndarray:
    """``value`` as a NumPy array of a supported dtype, without a copy.

    Raises
    ------
    TypeError
        If it is no array or CPU tensor, needs a gradient, is masked, or has a dtype that no backend computes.
    """
    if type(value) is np.ndarray and value.dtype in NAMES and value.flags.aligned:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it first: {name}.filled(0)")
    if isinstance(value, np.matrix):
        raise TypeError(f"{name} is a numpy.matrix; convert with numpy.asarray({name})")
    array = value if isinstance(value, np.ndarray) else _from_dlpack(value, name)
    dtype = array.dtype
    if dtype.name not in ACCUMULATOR:
        remedy = _REFUSED.get(dtype.name, f"supported are {', '.join(ACCUMULATOR)}")
        raise TypeError(f"{name} has dtype {dtype.name}, which no backend computes; {remedy}")
    if not dtype.isnative:
        raise TypeError(f"{name} has byte order {dtype.str!r}; convert with {name}.astype({dtype.name!r})")
    if not array.flags.aligned:
        raise TypeError(f"{name} is not aligned to its {dtype.itemsize}-byte elements; copy it: {name}.copy()")
    return np.asarray(array)


def _from_dlpack(value: Any, name: str) -> np.ndarray:
    if not hasattr(value, "__dlpack__"):
        raise TypeError(
            f"{name} is of type {type(value).__name__}; expected a NumPy array or a CPU tensor with __dlpack__"
        )
    if getattr(value, "requires_grad", False):
        raise TypeError(f"{name} requires a gradient, which fastconv would lose; pass {name}.detach()")
    dtype = str(getattr(value, "dtype", "")).rpartition(".")[2]
    if dtype in _REFUSED:
        raise TypeError(f"{name} has dtype {dtype}, which no backend computes; {_REFUSED[dtype]}")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} ({type(value).__name__}) does not come in through DLPack: {error}; pass a dense CPU tensor"
        ) from error


def give_back(result: np.ndarray, like: Any) -> Any:
    """``result`` as the kind of array that the caller's ``like`` is, without a copy."""
    if isinstance(like, np.ndarray):
        return result
    if hasattr(like, "__array_namespace__"):
        return like.__array_namespace__().from_dlpack(result)
    library = sys.modules[type(like).__module__.partition(".")[0]]
    convert = getattr(library, "from_dlpack", None) or getattr(getattr(library, "dlpack", None), "from_dlpack", None)
    if convert is None:
        raise TypeError(f"x is a {type(like).__name__}, whose library has no from_dlpack; pass numpy.from_dlpack(x)")
    return convert(result)


def take_out(value: Any, shape: tuple[int, ...], dtype: str, inputs: dict[str, np.ndarray | None]) -> np.ndarray:
    """Check that the caller's ``out`` can hold the result and overlaps no input."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"out is of type {type(value).__name__}; it must be a NumPy array")
    out = take(value, "out")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; the result has {shape}")
    if NAMES[out.dtype] != dtype:
        raise TypeError(f"out has dtype {out.dtype.name}; the result has {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; pass a writeable array")
    if _overlaps_itself(out):
        raise ValueError(f"out has strides {out.strides}, so that several elements share memory; pass out.copy()")
    for name, array in inputs.items():
        if array is not None and _overlap(out, array):
            raise ValueError(f"out shares memory with {name}; pass an array of its own")
    return out


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_EFFORT)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(a: np.ndarray) -> bool:
    axes = sorted((abs(stride), size) for stride, size in zip(a.strides, a.shape, strict=True) if size > 1)
    span = a.itemsize
    for stride, size in axes if a.size else ():
        if stride < span:
            return True
        span += stride * (size - 1)
    return False


def all_finite(w: np.ndarray) -> bool:
    """Whether all weights are; their sum says so in one pass that makes no array, unless it overflows."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(w.sum()) or np.isfinite(w).all())

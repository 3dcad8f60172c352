"""What one layer sees of its input: along each axis, which input elements an output element takes.

Texts, specs, modules and branches come in; `resolve` says what each one is, `reaches` what it sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fastconv.arguments import check_int
from fastconv.spec import AXES, ConvSpec, PoolSpec, parse_layer

Number = int | Fraction
Size = tuple[int, ...]

_ANY_SIZE = 2**30  # stands for the size of an image that nobody told: larger than every kernel


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A layer that makes an output of a fixed size, each element from its share of the input.

    ``Adaptive(1)`` sees everything: global pooling, or a fully connected layer.
    """

    output_size: int | tuple[int | None, ...]


@dataclass(frozen=True, slots=True, init=False)
class Branches:
    """Paths that start at the same array and meet again, added or concatenated.

    Parameters
    ----------
    *paths
        Each a layer or a sequence of layers as in `fastconv.receptive_field`; ``()`` is the identity.

    Examples
    --------
    >>> from fastconv import receptive_field
    >>> receptive_field([Branches("k3p1", "k5p2", ())])[-1].size
    (5,)
    """

    paths: tuple[Any, ...]

    def __init__(self, *paths: Any) -> None:
        if not paths:
            raise ValueError("Branches() has no path; pass at least one, () for the identity")
        object.__setattr__(self, "paths", paths)


def label(layer: Any) -> str:
    """A layer in one line."""
    match layer:
        case str():
            return "".join(layer.split())
        case Branches():
            paths = (type(p).__name__ if hasattr(p, "receptive") else label(p) for p in layer.paths)
            return f"Branches({' | '.join(paths)})"
        case list() | tuple():
            return " ".join(map(label, layer)) or "identity"
        case ConvSpec():
            return layer.text
        case PoolSpec():
            return f"PoolSpec({times(layer.kernel_size)}, stride {times(layer.stride)})"
    lines = repr(layer).splitlines()
    return lines[0] if len(lines) == 1 else type(layer).__name__


def times(values: Sequence[Any]) -> str:
    """Sizes as text: '3x3'; '-' without axes."""
    return "x".join(map(str, values)) or "-"


def resolve(layer: Any, image: Size | None, ndim: int) -> Any:
    """What a layer is to a receptive field; see the notes of `fastconv.receptive_field`."""
    if isinstance(layer, str):
        return _parse(layer, ndim)
    if isinstance(layer, (list, tuple, Branches, ConvSpec, PoolSpec, Adaptive)):
        return layer
    if not callable(getattr(layer, "receptive", None)):
        raise TypeError(
            f"layers holds {layer!r} of type {type(layer).__name__}; expected texts such as 'k3s2p1', specs, "
            "layers of fastconv.nn, Branches, or sequences of those"
        )
    what = layer.receptive(image)
    return None if what is None else resolve(what, image, ndim)


def axes_of(layer: Any) -> int | None:
    """The number of spatial axes that a layer or the first of several says, if any."""
    if isinstance(layer, str):
        names = set(re.findall("[a-z]+", layer)) - {"n", "ic", "oc", "g", "k", "s", "p", "d"}
        if names & {"id", "kd", "sd", "dd", "pf", "pk"}:
            return 3
        return (2 if names & {"ih", "kh", "sh", "dh", "pt", "pb"} else 1) if names else None
    if isinstance(layer, (list, tuple, Branches)):
        parts = layer.paths if isinstance(layer, Branches) else layer
        return next((n for n in map(axes_of, parts) if n is not None), None)
    if isinstance(layer, PoolSpec):
        return len(layer.kernel_size)
    if isinstance(layer, Adaptive):
        return len(layer.output_size) if isinstance(layer.output_size, tuple) else None
    return getattr(layer, "ndim", None)


def _parse(text: str, ndim: int) -> ConvSpec:
    own = axes_of(text) or ndim
    has_size = any(name in ("id", "ih", "iw") for name in re.findall("[a-z]+", text))
    return parse_layer(text if has_size or not own else f"{text}i{AXES[-own]}{_ANY_SIZE}")


@dataclass(frozen=True, slots=True)
class Reach:
    """One layer along one axis: output o sees inputs within ``first + o * step`` and ``last + o * step``."""

    first: Number
    last: Number
    step: Number
    out: int  # size of the output
    inputs: Callable[[int], Iterable[int]]  # those that output o does see, in the image


def reaches(what: ConvSpec | PoolSpec | Adaptive, image: Size | None, ndim: int) -> tuple[Reach, ...]:
    if isinstance(what, Adaptive):
        if image is None:
            raise ValueError("its windows depend on the size of the image; pass input_size")
        sizes = what.output_size if isinstance(what.output_size, (list, tuple)) else (what.output_size,) * ndim
        _check_axes(len(sizes), ndim)
        return tuple(_bins(n, n if out is None else check_int(out, "output_size"))
                     for n, out in zip(image, sizes, strict=True))  # fmt: skip
    _check_axes(len(what.kernel_size), ndim)
    if isinstance(what, PoolSpec):
        out = (0,) * ndim if image is None else replace(what, input_size=image).output_size
        mode, transposed = "zeros", False
    elif what.op == "grad_weight":
        raise ValueError("the gradient to the weights is no layer; pass the spec of the layer itself")
    else:
        mode, transposed = what.padding_mode, what.op == "grad_input"
        whole = what if image is None else what.with_shape(1, image)
        out = whole.input_size if transposed else whole.output_size
    before = [p if isinstance(p, int) else p[0] for p in what.padding]
    make: Callable[..., Reach] = _scatter if transposed else _window
    axes = zip(what.kernel_size, what.stride, before, what.dilation, image or (0,) * ndim, out, strict=True)
    return tuple(make(*axis, mode) for axis in axes)


def _check_axes(own: int, ndim: int) -> None:
    if own != ndim:
        raise ValueError(f"it has {own} spatial axes; the image and the layers before have {ndim}")


def _window(kernel: int, stride: int, before: int, dilation: int, size: int, out: int, mode: str) -> Reach:
    span = (kernel - 1) * dilation

    def inputs(o: int) -> Iterable[int]:
        first = o * stride - before
        for i in range(first, first + span + 1, dilation):
            if 0 <= i < size:
                yield i
            elif mode == "reflect":
                yield -i if i < 0 else 2 * (size - 1) - i
            elif mode == "replicate":
                yield min(max(i, 0), size - 1)
            elif mode == "circular":
                yield i % size

    return Reach(-before, span - before, stride, out, inputs)


def _scatter(kernel: int, stride: int, before: int, dilation: int, size: int, out: int, mode: str) -> Reach:
    """Transposed: input i is spread over the outputs ``i * stride - before + t * dilation``."""

    def inputs(o: int) -> Iterable[int]:
        ways = (divmod(o + before - t * dilation, stride) for t in range(kernel))
        return [i for i, rest in ways if not rest and 0 <= i < size]

    first = Fraction(before - (kernel - 1) * dilation, stride)
    return Reach(first, Fraction(before, stride), Fraction(1, stride), out, inputs)


def _bins(size: int, out: int) -> Reach:
    if out < 1:
        raise ValueError(f"output_size={out} must be at least 1")
    step = Fraction(size, out)

    def inputs(o: int) -> range:
        return range(o * size // out, -(-(o + 1) * size // out))

    if not size:
        return Reach(0, 0, 0, out, inputs)

    starts, ends = zip(*((inputs(o)[0] - o * step, inputs(o)[-1] - o * step) for o in range(out)), strict=True)
    return Reach(min(starts), max(ends), step, out, inputs)


def plain(value: Number) -> Number:
    return int(value) if value == int(value) else value

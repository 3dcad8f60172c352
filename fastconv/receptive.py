"""Receptive fields: which part of the image an output element of a stack of layers sees.

Every layer is a map per axis: its output ``o`` sees the inputs from ``first + o * step`` to ``last + o * step``.
Fields follow from these three numbers, with integers and fractions only. Where the size of the image is known,
`Field.region` goes back layer by layer over the very elements that each window takes, so that borders, holes of
a dilation and elements that a stride leaves out count as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, overload

from fastconv.arguments import check_int, check_ints
from fastconv.spec import AXES, ConvSpec, PoolSpec, parse_layer

Number = int | Fraction
Size = tuple[int, ...]
Sets = tuple[set[int], ...]  # per axis, the elements that are seen

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
        Each a layer or a sequence of layers as in `receptive_field`; ``()`` is the identity.

    Examples
    --------
    >>> receptive_field([Branches("k3p1", "k5p2", ())])[-1].size
    (5,)
    """

    paths: tuple[Any, ...]

    def __init__(self, *paths: Any) -> None:
        if not paths:
            raise ValueError("Branches() has no path; pass at least one, () for the identity")
        object.__setattr__(self, "paths", paths)


@dataclass(frozen=True, slots=True)
class Field:
    """What one output element sees after a layer, per axis.

    Output element ``o`` sees input elements from ``offset + o * stride`` to ``offset + o * stride + size - 1``.
    Numbers are ints. After a transposed convolution or an adaptive pool whose bins differ they may be
    `fractions.Fraction`: then windows differ from element to element, and these bounds contain them all.

    Attributes
    ----------
    layer : str
        The layer that the field is taken after.
    size, stride, offset : tuple of int or Fraction, one per axis
        ``offset`` is negative where element 0 begins in the padding.
    output_size : tuple of int or None
        Spatial size of the layer's output, where ``input_size`` was given.
    """

    layer: str
    size: tuple[Number, ...]
    stride: tuple[Number, ...]
    offset: tuple[Number, ...]
    output_size: Size | None = None
    _path: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    _input_size: Size | None = field(default=None, repr=False, compare=False)

    def region(self, index: int | Sequence[int], input_size: int | Sequence[int] | None = None) -> tuple[slice, ...]:
        """The part of the image that one output element sees.

        Parameters
        ----------
        index : int or one int per axis
            The output element.
        input_size : int or one int per axis, optional
            Size of the image; default: that of `receptive_field`.

        Returns
        -------
        tuple of slice
            The smallest box that holds all elements with an influence. Without a size the field's own bounds
            from 0 on: the end, and what layers in between cut off, are then not known.

        Raises
        ------
        ValueError, TypeError
            If the index is not one of the output.

        Examples
        --------
        >>> receptive_field(["k3p1", "k3p1"], input_size=8)[-1].region(7)
        (slice(5, 8, None),)
        """
        ndim = len(self.size)
        place = check_ints(index, ndim, "index")
        given = self._input_size if input_size is None else check_ints(input_size, ndim, "input_size")
        if min(place, default=0) < 0:
            raise ValueError(f"index={index!r} is negative; outputs count from 0")
        if given is None:
            starts = [o + i * s for o, i, s in zip(self.offset, place, self.stride, strict=True)]
            ends = [math.floor(a + n) for a, n in zip(starts, self.size, strict=True)]
            firsts = [max(math.ceil(a), 0) for a in starts]
            return tuple(slice(a, max(a, b)) for a, b in zip(firsts, ends, strict=True))
        out = advance(start(given), self._path).image or ()
        if any(i >= n for i, n in zip(place, out, strict=True)):
            raise ValueError(f"index={index!r} is outside the output, whose size is {out}")
        seen = _inputs(self._path, tuple({i} for i in place), given)
        if not all(seen):
            return (slice(0, 0),) * ndim
        return tuple(slice(min(s), max(s) + 1) for s in seen)


@dataclass(frozen=True, slots=True)
class ReceptiveField(Sequence[Field]):
    """The fields after every layer, in order; ``[-1]`` is that of the whole stack. Prints as a table."""

    fields: tuple[Field, ...]

    @overload
    def __getitem__(self, index: int) -> Field: ...
    @overload
    def __getitem__(self, index: slice) -> ReceptiveField: ...
    def __getitem__(self, index: int | slice) -> Field | ReceptiveField:
        return ReceptiveField(self.fields[index]) if isinstance(index, slice) else self.fields[index]

    def __len__(self) -> int:
        return len(self.fields)

    def __str__(self) -> str:
        rows = [("layer", "size", "stride", "offset", "output")]
        for f in self.fields:
            output = "" if f.output_size is None else times(f.output_size)
            rows.append((f.layer, times(f.size), times(f.stride), ", ".join(map(str, f.offset)), output))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join(line.rstrip() for line in lines)


def receptive_field(layers: Any, input_size: int | Sequence[int] | None = None) -> ReceptiveField:
    """Size, stride and offset of what an output element sees, after every layer.

    Parameters
    ----------
    layers : sequence
        Each one a text such as ``"k3s2p1"`` (the alphabet of `fastconv.spec.parse_layer`), a ``ConvSpec`` or
        ``PoolSpec``, a layer of `fastconv.nn`, `Branches`, or a sequence of those. Only kernel, stride, padding
        and dilation of a text or a spec count, not its sizes. A text that names no axis (``k3``, not ``kh3``)
        fits any number of axes.
    input_size : int or one int per axis, optional
        Spatial size of the image. Needed by layers whose windows depend on it: padding 'same' with a stride,
        adaptive pools, fully connected layers.

    Returns
    -------
    ReceptiveField
        One `Field` after every layer; sequences within are laid out flat, `Branches` count as one layer: the
        smallest box that contains the fields of all paths.

    Raises
    ------
    ValueError, TypeError
        If a layer is unknown, does not fit the one before, or needs ``input_size``; if paths of `Branches`
        differ in stride.

    Notes
    -----
    A layer with a method ``receptive(size)`` takes part; ``size`` is the spatial size of its input or None. It
    returns what it is to a receptive field: None (every element sees its own place only), a spec, `Adaptive`,
    `Branches` or a sequence of layers. An attribute ``ndim`` says how many axes it has.

    References
    ----------
    Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019.

    Examples
    --------
    >>> print(receptive_field(["k3p1", "k3p1", "k2s2"], input_size=(28, 28)))
    layer  size  stride  offset  output
    k3p1    3x3     1x1  -1, -1   28x28
    k3p1    5x5     1x1  -2, -2   28x28
    k2s2    6x6     2x2  -2, -2   14x14
    """
    if not isinstance(layers, (list, tuple)):
        layers = (layers,)
    said = len(input_size) if isinstance(input_size, (list, tuple)) else _axes(layers)
    ndim = 1 if said is None else said
    size = None if input_size is None else check_ints(input_size, ndim, "input_size")
    if size is not None and min(size, default=1) < 1:
        raise ValueError(f"input_size={input_size!r}: every axis needs at least one element")
    fields = tuple(_fields(layers, start(size, ndim), [], size))
    if not fields:
        raise ValueError(f"layers={layers!r} holds no layer; pass at least one")
    return ReceptiveField(fields)


@dataclass(frozen=True, slots=True)
class State:
    """The field after some layers, per axis, and the size of their output where it is known."""

    size: tuple[Number, ...]
    stride: tuple[Number, ...]
    offset: tuple[Number, ...]
    image: Size | None


def start(image: Size | None, ndim: int = 0) -> State:
    """Before the first layer each element sees itself."""
    ndim = ndim if image is None else len(image)
    return State((1,) * ndim, (1,) * ndim, (0,) * ndim, image)


def advance(state: State, layer: Any) -> State:
    """The field after one more layer."""
    what = _resolve(layer, state.image, len(state.size))
    if what is None:
        return state
    if isinstance(what, (list, tuple)):
        for part in what:
            state = advance(state, part)
        return state
    if isinstance(what, Branches):
        return join([advance(state, path) for path in what.paths], label(layer))
    try:
        reaches = _reaches(what, state.image, len(state.size))
    except ValueError as error:
        raise ValueError(f"layer {label(layer)}: {error}") from error
    grown = zip(state.size, state.stride, state.offset, reaches, strict=True)
    axes = [(n + s * (r.last - r.first), s * r.step, o + s * r.first) for n, s, o, r in grown]
    size, stride, offset = ([_plain(axis[i]) for axis in axes] for i in range(3))
    image = None if state.image is None else tuple(r.out for r in reaches)
    return State(tuple(size), tuple(stride), tuple(offset), image)


def join(states: Sequence[State], name: str) -> State:
    """The smallest box that contains all fields; they must agree in stride and output size."""
    for what, values in (("strides", [s.stride for s in states]), ("output sizes", [s.image for s in states])):
        if len(set(values)) > 1:
            several = " and ".join(times(v or ()) for v in dict.fromkeys(values))
            raise ValueError(f"the paths of {name} have the {what} {several}; they must agree to be joined")
    axes = range(len(states[0].size))
    offset = [min(s.offset[a] for s in states) for a in axes]
    size = [_plain(max(s.offset[a] + s.size[a] for s in states) - offset[a]) for a in axes]
    return replace(states[0], size=tuple(size), offset=tuple(offset))


def label(layer: Any) -> str:
    """A layer in one line."""
    match layer:
        case str():
            return "".join(layer.split())
        case Branches():
            return f"Branches({' | '.join(map(label, layer.paths))})"
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


def _fields(layer: Any, state: State, path: list[Any], size: Size | None) -> Generator[Field, None, State]:
    what = _resolve(layer, state.image, len(state.size))
    if isinstance(what, (list, tuple)):
        for part in what:
            state = yield from _fields(part, state, path, size)
        return state
    state = advance(state, layer)
    path.append(layer)
    yield Field(label(layer), state.size, state.stride, state.offset, state.image, tuple(path), size)
    return state


def _inputs(layer: Any, seen: Sets, image: Size) -> Sets:
    """The inputs, per axis, that the outputs ``seen`` see through a layer with an input of that size.

    The paths of `Branches` are united axis by axis, which may add elements only where all of one path's
    elements lie in the padding of a layer before.
    """
    what = _resolve(layer, image, len(image))
    if what is None:
        return seen
    if isinstance(what, (list, tuple)):
        states = [start(image)]
        for part in what:
            states.append(advance(states[-1], part))
        for part, state in zip(reversed(what), reversed(states[:-1]), strict=True):
            seen = _inputs(part, seen, state.image or ())
        return seen
    if isinstance(what, Branches):
        ways = [way for way in (_inputs(path, seen, image) for path in what.paths) if all(way)]
        return tuple(set().union(*axis) for axis in zip(*ways, strict=True)) if ways else tuple(set() for _ in seen)
    reaches = _reaches(what, image, len(image))
    return tuple({i for o in outputs for i in r.inputs(o)} for outputs, r in zip(seen, reaches, strict=True))


def _resolve(layer: Any, image: Size | None, ndim: int) -> Any:
    """What a layer is to a receptive field; see the notes of `receptive_field`."""
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
    return None if what is None else _resolve(what, image, ndim)


def _axes(layer: Any) -> int | None:
    """The number of spatial axes that a layer or the first of several says, if any."""
    if isinstance(layer, str):
        names = set(re.findall("[a-z]+", layer)) - {"n", "ic", "oc", "g", "k", "s", "p", "d"}
        if names & {"id", "kd", "sd", "dd", "pf", "pk"}:
            return 3
        return (2 if names & {"ih", "kh", "sh", "dh", "pt", "pb"} else 1) if names else None
    if isinstance(layer, (list, tuple, Branches)):
        parts = layer.paths if isinstance(layer, Branches) else layer
        return next((n for n in map(_axes, parts) if n is not None), None)
    if isinstance(layer, PoolSpec):
        return len(layer.kernel_size)
    if isinstance(layer, Adaptive):
        return len(layer.output_size) if isinstance(layer.output_size, tuple) else None
    return getattr(layer, "ndim", None)


def _parse(text: str, ndim: int) -> ConvSpec:
    own = _axes(text) or ndim
    has_size = any(name in ("id", "ih", "iw") for name in re.findall("[a-z]+", text))
    return parse_layer(text if has_size or not own else f"{text}i{AXES[-own]}{_ANY_SIZE}")


@dataclass(frozen=True, slots=True)
class _Reach:
    """One layer along one axis: output o sees inputs within ``first + o * step`` and ``last + o * step``."""

    first: Number
    last: Number
    step: Number
    out: int  # size of the output
    inputs: Callable[[int], Iterable[int]]  # those that output o does see, in the image


def _reaches(what: ConvSpec | PoolSpec | Adaptive, image: Size | None, ndim: int) -> tuple[_Reach, ...]:
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
        out = (0,) * ndim
        if image is not None:
            out = _transposed_size(what, image) if transposed else what.with_shape(1, image).output_size
    before = [p if isinstance(p, int) else p[0] for p in what.padding]
    make = _scatter if transposed else _window
    axes = zip(what.kernel_size, what.stride, before, what.dilation, image or (0,) * ndim, out, strict=True)
    return tuple(make(*axis, mode) for axis in axes)


def _check_axes(own: int, ndim: int) -> None:
    if own != ndim:
        raise ValueError(f"it has {own} spatial axes; the image and the layers before have {ndim}")


def _transposed_size(spec: ConvSpec, image: Size) -> Size:
    axes = zip(image, spec.stride, spec.extent, spec.padding, spec.spare, strict=True)
    return tuple((n - 1) * s + extent - sum(pair) + spare for n, s, extent, pair, spare in axes)


def _window(kernel: int, stride: int, before: int, dilation: int, size: int, out: int, mode: str) -> _Reach:
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

    return _Reach(-before, span - before, stride, out, inputs)


def _scatter(kernel: int, stride: int, before: int, dilation: int, size: int, out: int, mode: str) -> _Reach:
    """Transposed: input i is spread over the outputs ``i * stride - before + t * dilation``."""

    def inputs(o: int) -> Iterable[int]:
        ways = (divmod(o + before - t * dilation, stride) for t in range(kernel))
        return [i for i, rest in ways if not rest and 0 <= i < size]

    first = Fraction(before - (kernel - 1) * dilation, stride)
    return _Reach(first, Fraction(before, stride), Fraction(1, stride), out, inputs)


def _bins(size: int, out: int) -> _Reach:
    if out < 1:
        raise ValueError(f"output_size={out} must be at least 1")
    step = Fraction(size, out)

    def inputs(o: int) -> range:
        return range(o * size // out, -(-(o + 1) * size // out))

    starts, ends = zip(*((inputs(o)[0] - o * step, inputs(o)[-1] - o * step) for o in range(out)), strict=True)
    return _Reach(min(starts), max(ends), step, out, inputs)


def _plain(value: Number) -> Number:
    return int(value) if value == int(value) else value

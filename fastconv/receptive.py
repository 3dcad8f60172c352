"""Receptive fields: which part of the image an output element of a stack of layers sees.

Every layer is a map per axis: its output ``o`` sees the inputs from ``first + o * step`` to ``last + o * step``.
Fields follow from these three numbers, with integers and fractions only. Where the size of the image is known,
`Field.region` goes back layer by layer over the very elements that each window takes, so that borders, holes of
a dilation and elements that a stride leaves out count as they are.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from fastconv.arguments import check_ints
from fastconv.windows import Branches, Number, Size, axes_of, label, plain, reaches, resolve, times

Sets = tuple[set[int], ...]  # per axis, the elements that are seen


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
    said = len(input_size) if isinstance(input_size, (list, tuple)) else axes_of(layers)
    ndim = 1 if said is None else said
    if not 1 <= ndim <= 3:
        raise ValueError(f"input_size={input_size!r} has {ndim} axes; images have 1, 2 or 3")
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
    what = resolve(layer, state.image, len(state.size))
    if what is None:
        return state
    if isinstance(what, (list, tuple)):
        for part in what:
            state = advance(state, part)
        return state
    if isinstance(what, Branches):
        return join([advance(state, path) for path in what.paths], label(layer))
    try:
        seen = reaches(what, state.image, len(state.size))
    except ValueError as error:
        raise ValueError(f"layer {label(layer)}: {error}") from error
    grown = zip(state.size, state.stride, state.offset, seen, strict=True)
    axes = [(n + s * (r.last - r.first), s * r.step, o + s * r.first) for n, s, o, r in grown]
    size, stride, offset = ([plain(axis[i]) for axis in axes] for i in range(3))
    image = None if state.image is None else tuple(r.out for r in seen)
    return State(tuple(size), tuple(stride), tuple(offset), image)


def join(states: Sequence[State], name: str) -> State:
    """The smallest box that contains all fields; they must agree in stride and output size."""
    for what, values in (("strides", [s.stride for s in states]), ("output sizes", [s.image for s in states])):
        if len(set(values)) > 1:
            several = " and ".join(times(v or ()) for v in dict.fromkeys(values))
            raise ValueError(f"the paths of {name} have the {what} {several}; they must agree to be joined")
    axes = range(len(states[0].size))
    offset = [min(s.offset[a] for s in states) for a in axes]
    size = [plain(max(s.offset[a] + s.size[a] for s in states) - offset[a]) for a in axes]
    return replace(states[0], size=tuple(size), offset=tuple(offset))


def _fields(layer: Any, state: State, path: list[Any], size: Size | None) -> Generator[Field, None, State]:
    what = resolve(layer, state.image, len(state.size))
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
    what = resolve(layer, image, len(image))
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
    axes = zip(seen, reaches(what, image, len(image)), strict=True)
    return tuple({i for o in outputs for i in reach.inputs(o)} for outputs, reach in axes)

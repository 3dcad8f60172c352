"""From a transposed convolution to forward ones: the phases of the gradient to the input, and its padding undone.

A stride s spreads the output's gradient over every s-th position of the input. The positions of one phase see
only every s-th tap, at stride 1: each phase is a forward layer with fewer taps and both channel axes exchanged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fastconv.arguments import Pair
from fastconv.lowering import Lowered
from fastconv.spec import ConvSpec, parse_layer  # noqa: F401 (parse_layer: the doctest)


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of one axis that one phase sees: every ``stride / gcd(stride, dilation)``-th one, last first."""

    first: int
    where: slice
    count: int
    dilation: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a transposed convolution as a stride-1 layer of its own.

    It convolves ``gy[source]`` with ``taps`` of the weights, both channel axes exchanged, into ``gx[target]``; slices
    of the spatial axes (d, h, w).
    """

    spec: ConvSpec
    taps: tuple[Taps, ...]
    source: tuple[slice, ...]
    target: tuple[slice, ...]


@lru_cache(maxsize=256)
def phases(spec: ConvSpec) -> tuple[Phase, ...]:
    """The gradient to the input of ``spec`` as forward layers, one for each phase of the stride that a tap reaches.

    What no tap reaches is 0 and in no phase. With a ``padding_mode`` other than zeros they make the gradient to the
    padded input, which `fold_back` folds.

    >>> layer = parse_layer("ih5 k3 s2 p1")
    >>> [(phase.spec.kernel_size, phase.target[1:]) for phase in phases(layer)][:2]
    [((2, 2), (slice(1, 5, 2), slice(1, 5, 2))), ((2, 1), (slice(1, 5, 2), slice(0, 5, 2)))]
    """
    axes = []
    for axis, (size, pair) in enumerate(zip(spec.input_size, spec.padding, strict=True)):
        whole, before = (size, pair[0]) if spec.padding_mode == "zeros" else (size + sum(pair), 0)
        axes.append(list(_axis_phases(spec, axis, whole, before)))
    lead = (slice(None),) * (3 - spec.ndim)
    result = []
    for parts in itertools.product(*axes):
        taps, pads, sources, targets = zip(*parts, strict=True)
        sizes = tuple(source.stop - source.start for source in sources)
        result.append(Phase(_layer(spec, taps, sizes, pads), taps, (*lead, *sources), (*lead, *targets)))
    return tuple(result)


@lru_cache(maxsize=256)
def kernels(spec: ConvSpec) -> tuple[tuple[tuple[Taps, ...], ConvSpec], ...]:
    """The taps of every phase there can be, whatever the size of the image, each with a layer to prepare them for.

    Layers of one kernel size are one and the same, the largest of `phases`: so is what a backend decides by them.
    """
    every = tuple(itertools.product(*(_axis_taps(spec, axis) for axis in range(spec.ndim))))
    layers = {phase.spec.kernel_size: phase.spec for phase in sorted(phases(spec), key=lambda part: part.spec.flops)}
    result = []
    for taps in every:
        extents = tuple((tap.count - 1) * tap.dilation + 1 for tap in taps)
        layer = _layer(spec, taps, extents, ((0, 0),) * spec.ndim)
        result.append((taps, layers.setdefault(layer.kernel_size, layer)))
    return tuple(result)


@lru_cache(maxsize=256)
def widest(spec: ConvSpec) -> ConvSpec:
    """The layer of the phase with the most taps."""
    return max((layer for _, layer in kernels(spec)), key=lambda layer: layer.taps)


def _layer(
    spec: ConvSpec, taps: tuple[Taps, ...], size: tuple[int, ...], padding: tuple[Pair, ...]
) -> ConvSpec:  # fmt: skip
    return replace(
        spec, op="forward", ic=spec.oc, oc=spec.ic, input_size=size, kernel_size=tuple(tap.count for tap in taps),
        padding=padding, stride=(1,) * spec.ndim, dilation=tuple(tap.dilation for tap in taps), spare=(),
        padding_mode="zeros",
    )  # fmt: skip


def _axis_taps(spec: ConvSpec, axis: int) -> Iterator[Taps]:
    """The taps of each phase of one axis; phases that no tap reaches are left out."""
    kernel, stride, dilation = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis]
    common = math.gcd(stride, dilation)
    step = stride // common
    for first in range(min(step, kernel)):
        count = (kernel - 1 - first) // step + 1
        last = first + (count - 1) * step
        where = slice(last, first - step if first >= step else None, -step)
        yield Taps(first, where, count, dilation // common if count > 1 else 1)


def _axis_phases(spec: ConvSpec, axis: int, size: int, before: int) -> Iterator[tuple[Taps, Pair, slice, slice]]:
    """Taps, padding, source and target of each phase of one axis.

    Position ``i`` of the gradient is padded position ``p = i + before``; tap ``r`` brings it what flowed to output
    ``(p - r * dilation) / stride``, where that is whole.
    """
    stride, dilation, out = spec.stride[axis], spec.dilation[axis], spec.output_size[axis]
    for taps in _axis_taps(spec, axis):
        start = (taps.first * dilation - before) % stride
        length = (size - 1 - start) // stride + 1
        reach = (taps.count - 1) * taps.dilation
        low = (start + before - taps.first * dilation) // stride - reach  # the output that the last tap reads
        high = low + length + reach
        inside = slice(max(low, 0), min(high, out))
        if start < size and inside.start < inside.stop:
            yield taps, (inside.start - low, high - inside.stop), inside, slice(start, size, stride)


def fold_back(padded: np.ndarray, low: Lowered, size: tuple[int, ...], before: tuple[int, ...]) -> np.ndarray:
    """Add the gradient to each padded position to the position that it was copied from; a view of ``padded``.

    ``padded`` has shape (..., d, h, w) and is overwritten.
    """
    for axis, (table, length, first) in enumerate(zip((a.source for a in low.axes), size, before, strict=True)):
        planes = np.moveaxis(padded, axis - 3, 0)
        for position, source in enumerate(table.tolist()):
            if source >= 0 and not first <= position < first + length:
                planes[first + source] += planes[position]
        padded = np.moveaxis(planes[first : first + length], 0, axis - 3)
    return padded


def most_copies(low: Lowered) -> int:
    """Most padded positions that show the same input element."""
    return math.prod(max(int(np.bincount(a.source[a.source >= 0]).max(initial=0)), 1) for a in low.axes)

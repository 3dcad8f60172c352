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
class Phase:
    """One phase of a transposed convolution as a stride-1 layer of its own.

    It convolves ``gy[source]`` with the taps ``w[taps]``, both channel axes exchanged, into ``gx[target]``; slices of
    the spatial axes (d, h, w).
    """

    spec: ConvSpec
    taps: tuple[slice, ...]
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
    for size, pair, kernel, stride, dilation, out in zip(
        spec.input_size, spec.padding, spec.kernel_size, spec.stride, spec.dilation, spec.output_size, strict=True
    ):
        whole = spec.padding_mode == "zeros"
        axes.append(list(_axis_phases(size if whole else size + sum(pair), pair[0] if whole else 0, kernel, stride,
                                      dilation, out)))  # fmt: skip
    lead = (slice(None),) * (3 - spec.ndim)
    result = []
    for parts in itertools.product(*axes):
        kernels, dilations, pads, sizes, taps, sources, targets = zip(*parts, strict=True)
        layer = replace(
            spec, op="forward", ic=spec.oc, oc=spec.ic, input_size=sizes, kernel_size=kernels, padding=pads,
            stride=(1,) * spec.ndim, dilation=dilations, spare=(), padding_mode="zeros",
        )  # fmt: skip
        result.append(Phase(layer, (*lead, *taps), (*lead, *sources), (*lead, *targets)))
    return tuple(result)


def _axis_phases(
    size: int, before: int, kernel: int, stride: int, dilation: int, out: int
) -> Iterator[tuple[int, int, Pair, int, slice, slice, slice]]:
    """Kernel, dilation, padding, input size, taps, source and target of each phase of one axis.

    Position ``i`` of the gradient is padded position ``p = i + before``; tap ``r`` brings it what flowed to output
    ``(p - r * dilation) / stride``, where that is whole. Those taps are every ``stride / gcd``-th one.
    """
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    for first in range(min(step, kernel)):
        start = (first * dilation - before) % stride
        taps = (kernel - 1 - first) // step + 1
        length = (size - 1 - start) // stride + 1
        low = (start + before - first * dilation) // stride - (taps - 1) * spread  # the output that the last tap reads
        high = low + length + (taps - 1) * spread
        inside = slice(max(low, 0), min(high, out))
        if start >= size or inside.start >= inside.stop:
            continue
        pads = (inside.start - low, high - inside.stop)
        last = first + (taps - 1) * step
        reverse = slice(last, first - step if first >= step else None, -step)
        target = slice(start, size, stride)
        yield taps, spread if taps > 1 else 1, pads, inside.stop - inside.start, reverse, inside, target


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

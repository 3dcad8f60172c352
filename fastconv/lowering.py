"""From a layer to the geometry of the shifted product: where each tap finds its pixels.

Pure functions of sizes; nothing here touches an image. Every problem gets three spatial axes
(d, h, w): 1-D and 2-D layers have leading axes of size 1. For one axis with stride s the padded input
splits into the s phases ``padded[a::s]``; output element o reads, for tap r, element ``o + offset[r]``
of phase ``phases[phase[r]]``: a stride-1 problem. Padding is a table from padded to input positions,
so that every padding mode is the same copy.

>>> axis = lower(parse_layer("ih5k3s2p1")).h
>>> axis.phases, axis.tap_phase, axis.tap_offset, axis.source.tolist()
((0, 1), (0, 1, 0), (0, 0, 1), [-1, 0, 1, 2, 3, 4, -1])
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.arguments import Pair
from fastconv.spec import ConvSpec, parse_layer  # noqa: F401 (parse_layer: the doctest)


@dataclass(frozen=True, eq=False)
class Axis:
    """One spatial axis of a lowered layer.

    ``source[i]`` is the input position of padded position ``i``, -1 where the padding is zero.
    ``reach`` is the largest offset: a row of ``out`` results needs ``out + reach`` pixels of a phase.
    """

    out: int
    stride: int
    source: np.ndarray
    phases: tuple[int, ...]
    tap_phase: tuple[int, ...]
    tap_offset: tuple[int, ...]

    @property
    def reach(self) -> int:
        return max(self.tap_offset)

    @property
    def taps(self) -> int:
        return len(self.tap_offset)

    @property
    def extent(self) -> int:
        """Padded positions that one output spans."""
        return self.tap_position(self.taps - 1) + 1

    @property
    def before(self) -> int:
        """Padded position of input 0 where what lies around the input is zeros; else -1."""
        inside = np.flatnonzero(self.source >= 0)
        first = int(inside[0]) if inside.size else 0
        return first if np.array_equal(self.source[inside], inside - first) else -1

    @property
    def inside(self) -> float:
        """Share of the products that are not with a padding of zeros."""
        size, before = int(np.count_nonzero(self.source >= 0)), self.before
        if before < 0 or size == self.source.size:
            return 1.0
        starts = [before - self.tap_position(tap) for tap in range(self.taps)]
        reached = (
            min(-(-(start + size) // self.stride), self.out) - max(-(-start // self.stride), 0) for start in starts
        )
        return sum(max(count, 0) for count in reached) / max(self.taps * self.out, 1)

    def tap_position(self, tap: int) -> int:
        """Padded position that output 0 reads for a tap."""
        return self.stride * self.tap_offset[tap] + self.phases[self.tap_phase[tap]]

    def positions(self, start: int, stop: int) -> np.ndarray:
        """Source of every padded position that outputs start..stop-1 read, shape (taps, stop - start)."""
        taps = [self.tap_position(tap) for tap in range(self.taps)]
        return self.source[np.array(taps)[:, None] + self.stride * np.arange(start, stop)]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A layer as a shifted product, always with the axes (d, h, w).

    ``dense``: no padding, and no stride in (h, w), so that every tap is another start address in ``x`` itself.
    """

    n: int
    g: int
    icg: int
    ocg: int
    d: Axis
    h: Axis
    w: Axis
    dense: bool

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        return self.d, self.h, self.w

    @property
    def taps(self) -> int:
        return math.prod(axis.taps for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Tile:
    """A task: ``rows`` x ``cols`` pixels of the output, ``oc_step`` channels, of so many groups and images."""

    rows: int
    cols: int
    oc_step: int
    groups: int = 1
    images: int = 1


def source_table(size: int, padding: Pair, mode: str, length: int | None = None) -> np.ndarray:
    """Input position of each padded position; -1 is zero. ``length`` extends the table with zeros.

    >>> source_table(4, (2, 1), "reflect").tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    i = np.arange(-padding[0], size + padding[1])
    if mode == "reflect":
        i = np.where(i < 0, -i, np.where(i >= size, 2 * (size - 1) - i, i))
    elif mode == "replicate":
        i = np.clip(i, 0, size - 1)
    elif mode == "circular" and size:
        i = i % size
    else:
        i = np.where((i >= 0) & (i < size), i, -1)
    table = np.full(max(length or 0, i.size), -1, np.int64)
    table[: i.size] = i
    table.setflags(write=False)
    return table


def lower_axis(source: np.ndarray, out: int, kernel: int, stride: int, dilation: int) -> Axis:
    positions = [r * dilation for r in range(kernel)]
    phases = tuple(sorted({p % stride for p in positions}))
    return Axis(
        out,
        stride,
        source,
        phases,
        tuple(phases.index(p % stride) for p in positions),
        tuple(p // stride for p in positions),
    )


@lru_cache(maxsize=256)
def lower(spec: ConvSpec) -> Lowered:
    """The shifted product of a layer."""
    axes = [
        lower_axis(source_table(size, padding, spec.padding_mode), out, kernel, stride, dilation)
        for size, padding, out, kernel, stride, dilation in zip(
            spec.input_size, spec.padding, spec.output_size, spec.kernel_size, spec.stride, spec.dilation, strict=True
        )
    ]
    return _lowered(spec, axes)


@lru_cache(maxsize=256)
def lower_winograd(spec: ConvSpec, tile: tuple[int, ...], phase: tuple[int, ...]) -> Lowered:
    """Tiles of so many outputs along each axis as a layer of that stride: outputs are tiles, taps their elements.

    With a dilation d they are those of one phase: of every d-th output, whose taps are neighbours in every d-th input.
    """
    axes = []
    for axis, (m, first) in enumerate(zip(tile, phase, strict=True)):
        dilation, kernel = spec.dilation[axis], spec.kernel_size[axis]
        tiles = -(-len(range(first, spec.output_size[axis], dilation)) // m)
        count = tiles * m + kernel - 1
        source = source_table(spec.input_size[axis], spec.padding[axis], spec.padding_mode, length=count * dilation)
        axes.append(lower_axis(np.ascontiguousarray(source[first::dilation][:count]), tiles, m + kernel - 1, m, 1))
    return _lowered(spec, axes)


def _lowered(spec: ConvSpec, axes: list[Axis]) -> Lowered:
    single = lower_axis(source_table(1, (0, 0), "zeros"), 1, 1, 1, 1)
    d, h, w = [single] * (3 - len(axes)) + axes
    dense = h.stride == w.stride == 1 and all(_identity(axis.source) for axis in (d, h, w))
    return Lowered(spec.n, spec.g, spec.ic // spec.g, spec.oc // spec.g, d, h, w, dense)


def strip_pixels(low: Lowered, rows: int, cols: int, bands: bool = False) -> int:
    """Pixels of one channel that a block of rows x cols outputs of one d-slice reads, over all phases.

    ``bands``: of the rows, each tap's own where that is less than all with what the taps reach beyond.
    """
    packed = len(low.h.phases) * (rows + low.h.reach)
    packed = min(packed, low.h.taps * rows) if bands else packed
    return low.d.taps * len(low.w.phases) * packed * (cols + low.w.reach)


def choose_tile(
    low: Lowered, pixels: int, threads: int, oc_unit: int, lanes: int = 1, bands: bool = False
) -> Tile:  # fmt: skip
    """Cut the output so that a block's input fits ``pixels`` and all threads are done at about the same time.

    Of some cuts of rows, columns and output channels (these in multiples of ``oc_unit``) the one in which a thread has
    least to do, in multiply-adds: products, with what vectors of ``lanes`` pixels compute in vain, packing and loading
    weights. The order of summation does not depend on the cut.
    """
    height, width, ocg = max(low.h.out, 1), max(low.w.out, 1), max(low.ocg, 1)
    outer, terms = max(low.n * low.g * low.d.out, 1), low.icg * low.taps
    best, least = Tile(1, 1, ocg), math.inf
    for cols in parts(width, threads):
        pitch = (width if low.dense else cols) + low.w.reach
        pack = 0.0 if low.dense else tuning.PACK_ELEMENT * low.w.stride * low.icg * (1 + tuning.PACK_ROW / pitch)
        column = strip_pixels(low, 1, cols) // (1 + low.h.reach)  # one row of every phase
        most = pixels // column - low.h.reach
        most = max(most, pixels * len(low.h.phases) // (column * low.h.taps)) if bands else most
        most = min(most, height)
        fewest = -(-height // max(most, 1))
        downs = range(fewest, fewest + 2 * threads + 2) if most > 0 else ()
        for rows in dict.fromkeys(-(-height // down) for down in downs):
            run = min(rows * -(-cols // lanes), -(-((rows - 1) * pitch + cols) // lanes)) * lanes + rows
            count = outer * -(-height // rows) * -(-width // cols)
            packed = pack * strip_pixels(low, rows, cols, bands)
            share = height * width / (rows * cols * (count // outer))  # of a block, in the mean
            for part in parts(ocg, threads) if count < 4 * threads else [ocg]:
                step = -(-part // oc_unit) * oc_unit
                work = min(step, ocg) * terms * (run + tuning.LOAD_WEIGHT) + packed
                splits = -(-ocg // step)
                mean = work * share * ocg / (splits * min(step, ocg))
                whole = outer * (height // rows) * (width // cols) * max(ocg // step, 1)  # tasks of full size
                time = slowest(threads, whole, work, count * splits, mean)
                if time < least * 0.999:
                    best, least = Tile(rows, cols, step), time
    return best


def slowest(threads: int, whole: int, work: float, count: int, mean: float) -> float:
    """Time of the thread that is done last: ``count`` tasks of ``mean`` work, ``whole`` full ones of ``work``."""
    return max(-(-whole // threads) * work, -(-count // threads) * mean)


def parts(size: int, threads: int) -> list[int]:
    """Sizes of the parts when ``size`` is cut in 1, 2, 3, 4, 6, 8, 12... and in as many as threads, largest first."""
    counts = {c << i for i in range(size.bit_length()) for c in (1, 3)} | {threads, 2 * threads}
    return sorted({-(-size // count) for count in counts}, reverse=True)


def row_chunks(low: Lowered, max_elements: int) -> Iterator[tuple[slice, slice, slice]]:
    """Blocks of the output (d, h, w) whose gathered columns hold at most ``max_elements`` elements.

    One output element is the least: its ``terms`` may be more.
    """
    terms = low.icg * low.taps
    pixels = max(max_elements // max(terms, 1), 1)
    cols = min(low.w.out, pixels)
    rows = min(low.h.out, max(pixels // max(cols, 1), 1))
    for z in range(low.d.out):
        for y in range(0, low.h.out, rows or 1):
            for x in range(0, low.w.out, cols or 1):
                yield (
                    slice(z, z + 1),
                    slice(y, min(y + rows, low.h.out)),
                    slice(x, min(x + cols, low.w.out)),
                )


def gather(
    x: np.ndarray, low: Lowered, block: tuple[slice, slice, slice], out: np.ndarray, zero: int = 0
) -> None:  # fmt: skip
    """Write the pixels that each tap reads for a block of outputs: the columns of im2col. ``zero`` is the padding.

    ``x`` has shape (c, d, h, w); ``out`` (c, kd, kh, kw, D, H, W) for a block of D x H x W outputs. Takes
    at most as much memory again as ``out`` has.
    """
    sizes = [s.stop - s.start for s in block]
    spans = [(size - 1) * axis.stride + axis.extent for axis, size in zip(low.axes, sizes, strict=True)]
    if math.prod(spans) <= math.prod(out.shape[1:]):  # pad once; all taps together are one strided view
        starts = [axis.stride * s.start for axis, s in zip(low.axes, block, strict=True)]
        region = _pad(x, [a.source[i : i + n] for a, i, n in zip(low.axes, starts, spans, strict=True)], zero)
        c, *steps = region.strides
        between = [axis.tap_position(1) - axis.tap_position(0) if axis.taps > 1 else 0 for axis in low.axes]
        strides = [d * s for d, s in zip(between, steps, strict=True)]
        strides += [axis.stride * s for axis, s in zip(low.axes, steps, strict=True)]
        out[...] = np.lib.stride_tricks.as_strided(region, out.shape, (c, *strides), writeable=False)
        return
    tables = [axis.positions(s.start, s.stop) for axis, s in zip(low.axes, block, strict=True)]
    for tap in np.ndindex(*out.shape[1:4]):
        out[(slice(None), *tap)] = _pad(x, [table[r] for table, r in zip(tables, tap, strict=True)], zero)


def padded(x: np.ndarray, low: Lowered) -> np.ndarray:
    """The padded input as a new array; ``x`` has shape (n, c, d, h, w)."""
    return _pad(x, [axis.source for axis in low.axes])


def _pad(x: np.ndarray, tables: list[np.ndarray], zero: int = 0) -> np.ndarray:
    """``x`` at the positions that a table gives for each of its last three axes; -1 is ``zero``."""
    shape = x.shape[:-3] + tuple(map(len, tables))
    result = np.full(shape, zero, x.dtype) if zero else np.zeros(shape, x.dtype)
    inside = [np.flatnonzero(table >= 0) for table in tables]
    if not all(i.size for i in inside):
        return result
    if all(_steady(i) and _steady(t[i]) for i, t in zip(inside, tables, strict=True)):  # slices copy ten times faster
        to: Any = [slice(int(i[0]), int(i[-1]) + 1) for i in inside]
        source: Any = [slice(int(t[i[0]]), int(t[i[-1]]) + 1) for i, t in zip(inside, tables, strict=True)]
    else:
        to, source = np.ix_(*inside), np.ix_(*[table[i] for i, table in zip(inside, tables, strict=True)])
    result[(..., *to)] = x[(..., *source)]
    return result


def _steady(values: np.ndarray) -> bool:
    """Whether each value is one more than the one before it."""
    return bool((np.diff(values) == 1).all())


def _identity(source: np.ndarray) -> bool:
    return bool(np.array_equal(source, np.arange(source.size)))

"""How the fft backend cuts a layer into blocks, and how much of it is done at once. Sizes only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.kernels.fourier import fast_length
from fastconv.lowering import Lowered, lower
from fastconv.spec import ConvSpec, Problem

Sizes = tuple[int, ...]  # one number for each of d, h, w


@dataclass(frozen=True, eq=False)
class Geometry:
    """A lowered layer cut into blocks: ``size`` points transformed, ``valid`` outputs kept, per axis.

    ``real`` is the axis of the real transform, ``others`` those of the complex ones; ``channels`` are the
    input channels of one group times phases.
    """

    low: Lowered
    size: Sizes
    valid: Sizes
    blocks: Sizes
    phases: Sizes
    channels: int
    real: int
    others: Sizes

    @property
    def spectrum(self) -> Sizes:
        """Frequencies per axis."""
        return tuple(s // 2 + 1 if axis == self.real else s for axis, s in enumerate(self.size))


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is done at once: groups, output channels of each, a box of blocks.

    ``kernel_bytes`` for the spectra of kernels that are not prepared; ``kept_bytes`` of scratch; ``passing_bytes``
    that come and go, also to sum ``pixels`` outputs directly.
    """

    groups: int
    rows: int
    box: Sizes
    pixels: int
    kernel_bytes: int
    kept_bytes: int
    passing_bytes: int

    @property
    def nbytes(self) -> int:
        return self.kept_bytes + self.passing_bytes


@lru_cache(maxsize=256)
def geometry_of(spec: ConvSpec) -> Geometry:
    """The size of the blocks follows from the layer, so that prepared spectra serve every image."""
    low = lower(spec)
    phases = tuple(len(axis.phases) for axis in low.axes)
    channels = low.icg * math.prod(phases)
    widths = [axis.reach + 1 for axis in low.axes]
    wide = [axis for axis in range(3) if widths[axis] > 1]
    times = 2 if len(wide) == 3 or channels * low.ocg > tuning.FFT_FEW_PRODUCTS else 4 if low.g == 1 else 3
    size = [1, 1, 1]
    for axis in wide:
        wanted = min(times * widths[axis], tuning.FFT_LARGEST[len(wide)])
        size[axis] = fast_length(max(wanted, 2 * widths[axis], tuning.FFT_SMALLEST[len(wide)]))
    valid = tuple(s - width + 1 for s, width in zip(size, widths, strict=True))
    blocks = tuple(-(-axis.out // v) for axis, v in zip(low.axes, valid, strict=True))
    real = wide[-1] if wide else 2
    return Geometry(low, tuple(size), valid, blocks, phases, channels, real, tuple(wide[:-1]))


@lru_cache(maxsize=256)
def chunk_of(problem: Problem, prepared: bool) -> Chunk:
    """As much as ``max_workspace`` allows, half of it for kernels and 3/8 for blocks; one of each at least."""
    spec, geometry, limit = problem.spec, geometry_of(problem.spec), problem.max_workspace
    item, low = np.dtype(spec.dtype).itemsize, geometry.low
    spectrum, points = math.prod(geometry.spectrum) * 2 * item, math.prod(geometry.size) * item
    kernel = geometry.channels * spectrum

    def kernel_bytes(count: int) -> int:  # three copies of a slice on its way: see _spectra
        return 0 if prepared else (count + 3 * min(count, kernels_at_once(geometry, item))) * kernel

    def block(rows: int) -> tuple[int, int]:  # pixels and the outputs' spectra; the pixels' spectra, later outputs
        return geometry.channels * points + rows * spectrum, max(geometry.channels * spectrum, rows * points)

    groups, rows = low.g, max(low.ocg, 1)
    if limit is None:
        one = sum(block(rows))
        room, kernel_room = (
            max(tuning.FFT_BLOCK_BYTES, one, min(tuning.FFT_BLOCKS * one, tuning.FFT_BLOCKS_BYTES)),
            tuning.FFT_KERNEL_BYTES,
        )
    else:
        room, kernel_room = limit * 3 // 8, limit // 2
    while groups > 1 and (kernel_bytes(groups * rows) > kernel_room or groups * sum(block(rows)) > room):
        groups = -(-groups // 2)
    while rows > 1 and (kernel_bytes(rows) > kernel_room or sum(block(rows)) > room):
        rows = -(-rows // 2)
    left = max(room // (groups * sum(block(rows))), 1)
    box: Sizes = ()
    for blocks in reversed(geometry.blocks):  # whole rows of blocks first: what they share is gathered once
        box = (min(left, max(blocks, 1)), *box)
        left //= box[0]
    kept, passing = (groups * math.prod(box) * part for part in block(rows))
    # One output summed directly: its pixels as they are and in float64, a mask, positions.
    pixel = spec.terms * (item + 8) + 2 * spec.taps + 32 * sum(spec.kernel_size)
    pixels = max(min(tuning.FFT_REPAIR_BYTES, room // 2) // pixel, 1)
    marks = 12 * groups * math.prod(box) * math.prod(geometry.valid)
    passing = max(passing, pixels * pixel + marks)
    return Chunk(groups, rows, box, pixels, kernel_bytes(groups * rows), kept, passing)


def at_once(problem: Problem, chunk: Chunk, threads: int) -> int:
    """Chunks computed at the same time: ``threads`` if there are as many and the memory suffices."""
    boxes = math.prod(-(-b // c) for b, c in zip(geometry_of(problem.spec).blocks, chunk.box, strict=True))
    if problem.spec.n * boxes < threads:
        return 1
    room = problem.max_workspace
    return threads if room is None else max(min(threads, room * 3 // 8 // chunk.nbytes), 1)


def kernels_at_once(geometry: Geometry, item: int) -> int:
    """Kernels transformed at a time."""
    return max(tuning.FFT_SLICE_BYTES // (max(geometry.channels, 1) * math.prod(geometry.spectrum) * 2 * item), 1)

"""How the engines on vectors block output channels, pack weights, and choose what the lanes of a vector are.

Nothing here depends on what is compiled: numbers of lanes and registers are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastconv import tuning
from fastconv.adapters.direct import sequential_bound, typical_error
from fastconv.arena import aligned
from fastconv.caches import l2_bytes
from fastconv.lowering import Lowered, strip_pixels
from fastconv.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Blocks:
    """How output channels are blocked, for one instruction set.

    ``rows`` is a register block of the kernels with pixels in the lanes. Packed weights come in blocks of ``lanes``
    channels; the last one is rounded up to ``unit``, with zeros.
    """

    rows: int
    lanes: int
    unit: int

    def widths(self, ocg: int) -> list[int]:
        """Channels of each block of packed weights."""
        whole, rest = divmod(-(-ocg // self.unit) * self.unit, self.lanes)
        return [self.lanes] * whole + [rest] * (rest > 0)


def channel_block(taps: int) -> int:
    """Channels that are summed from zero before they are added: part of the algorithm, the same everywhere."""
    return tuning.CHANNEL_BLOCK_POINT if taps == 1 else tuning.CHANNEL_BLOCK


def blocked_bound(spec: ConvSpec) -> float:
    """Error bound of sums in these blocks: a product's longest path is its block's terms, then an addition a block."""
    icg, block = spec.ic // spec.g, channel_block(spec.taps)
    return sequential_bound(spec, min(icg, block) * spec.taps + -(-icg // block))


def blocked_typical(spec: ConvSpec) -> float:
    """What normal numbers lose in these blocks."""
    return typical_error(spec, channel_block(spec.taps) * spec.taps)


def row_speeds(spec: ConvSpec, most: int) -> dict[int, float]:
    """Output channels of each register block with pixels in the lanes -> its share of the peak."""
    column = math.prod(spec.kernel_size[:-1]) * min(spec.ic // spec.g, channel_block(spec.taps))
    far = column * np.dtype(spec.dtype).itemsize > tuning.COLUMN_BYTES
    return (tuning.ROWS_POINT if spec.taps == 1 else tuning.ROWS_FAR if far else tuning.ROWS)[most]


def choose_blocks(spec: ConvSpec, vector: int, most: int, borrow: bool) -> Blocks:
    """The register block that wastes least, and blocks of packed weights that both kinds of kernels read.

    ``vector`` lanes; ``most`` pixels of a register tile; ``borrow``: the weights are read as they are. The same for
    every size of the image.
    """
    ocg, speed = max(spec.oc // spec.g, 1), row_speeds(spec, most)
    few = ocg <= min(max(speed), vector)
    fitting = [r for r in speed if few and not borrow or r <= (ocg if borrow else vector)]
    rows = min(fitting, key=lambda r: -(-ocg // r) * r / speed[r])
    unit = -(-ocg // rows) * rows if few else vector
    return Blocks(rows, unit if few else 2 * vector, unit)


def pack(w: np.ndarray, g: int, blocks: Blocks, channels: int) -> np.ndarray:
    """Weights (oc, icg, ...) as [g][oc block][channel block][tap][channel][lane], flat, on a cache line.

    Depends on neither batch nor image: plans for other sizes share it.
    """
    ocg, icg = w.shape[0] // g, w.shape[1]
    split = w.reshape(g, ocg, icg, math.prod(w.shape[2:]))
    widths = blocks.widths(ocg)
    result = aligned(g * sum(widths) * icg * split.shape[3] * w.itemsize).view(w.dtype).reshape(g, -1)
    done = first = 0
    for width in widths:
        block = split[:, first : first + width].transpose(0, 3, 2, 1)  # (g, tap, channel, lane)
        for c in range(0, icg, channels):
            part = block[:, :, c : c + channels]
            size = part.shape[1] * part.shape[2] * width
            to = result[:, done : done + size].reshape(*part.shape[:3], width)
            to[..., : part.shape[3]] = part
            to[..., part.shape[3] :] = 0
            done += size
        first += width
    return result.ravel()


def strip_bytes(share: float = tuning.STRIP_SHARE) -> int:
    """Bytes of the packed input of a task."""
    return min(int(l2_bytes() * share), tuning.MOST_STRIP_BYTES)


def halo(low: Lowered, most: int, tiles: int = 1) -> int:
    """Pixels of one channel that register tiles of ``most`` pixels read, side by side in one row."""
    return strip_pixels(low, 1, min(tiles * most, max(low.w.out, 1)), bands=True)


def held_channels(low: Lowered, most: int, item: int, block: int) -> int:
    """Input channels that a task with channels in the lanes holds at a time: all, where their halo fits a strip."""
    fits = halo(low, most, tuning.TILES_HELD) * low.icg * item <= strip_bytes()
    return low.icg if fits else min(low.icg, block)


def choose_lanes(
    spec: ConvSpec, low: Lowered, blocks: Blocks, vector: int, most: int, item: int, in_place: bool
) -> str:
    """'pixels' or 'channels', whichever the geometry makes cheaper; the same for every batch and number of threads.

    In cycles of one multiply-add each on a whole vector: what the registers compute, edges included, what storing
    results takes, and packing; ``in_place``: the compiled kernels, which read pixels whose channels follow each other
    as they are, and put others side by side. ``most`` pixels of a register tile.
    """
    ocg, rows, cols, terms = max(low.ocg, 1), low.h.out, low.w.out, low.icg * low.taps
    least = halo(low, most) * min(low.icg, channel_block(low.taps))
    if blocks.unit < vector or least * item > strip_bytes():
        return "pixels"
    width = cols + low.w.reach
    runs = min(rows * -(-cols // vector), -(-((rows - 1) * width + cols) // vector))
    products = runs * -(-ocg // blocks.rows) * blocks.rows
    store = tuning.STORE_STRIDED * vector if spec.channels_last else tuning.STORE_VECTOR
    pixels = products * (terms / row_speeds(spec, most)[blocks.rows] + store)
    read = rows * cols * low.h.stride * low.w.stride * in_place
    pack = tuning.PACK_LAST if spec.channels_last else tuning.PACK_PHASES[most] * (low.w.stride > 1)
    pixels += pack * read * low.icg
    turned = tuning.PACK_FEW[most] * read * (low.icg < vector and not spec.channels_last)
    vectors = -(-ocg // vector)
    per_tile = min(most, rows * cols if width == cols and not low.h.reach else cols * (1 + (2 * cols <= most)))
    pairs, single = divmod(vectors, 2)
    speed, alone = (min(1.0, per_tile * wide / tuning.LEAST_SUMS) for wide in (2, 1))
    turning = tuning.STORE_BY_HALVES if in_place else tuning.STORE_TRANSPOSED
    store = tuning.STORE_VECTOR if spec.channels_last else turning[most]
    inside = math.prod(axis.inside for axis in low.axes)
    sums = terms * inside * (2 * pairs / speed + single / alone)
    return "channels" if rows * cols * (sums + vectors * store) + turned < pixels else "pixels"

"""The part of a Numba job for kernels with output channels in the lanes: tables of tiles and of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastconv.adapters.numba_tables import Cut, Ints, Layout, Part, kept, place_taps, strip_taps
from fastconv.adapters.tiling import Reach, Tiling, reached, tile_task
from fastconv.arena import ALIGNMENT
from fastconv.kernels import vector_ir
from fastconv.kernels.channels_numba import TILE_BYTES
from fastconv.kernels.numba_launch import Shape
from fastconv.kernels.tile_numba import LEAVES, PARTS_OF_ROWS, STEP_BYTES
from fastconv.lowering import Axis, strip_pixels


class Source(NamedTuple):
    """Where tiles find their pixels: distances from a channel, a row and a column to the next, and of each tap."""

    in_place: bool
    channel: int
    row: int
    column: int
    taps: np.ndarray
    origin: int


def tiles(cut: Cut, shape: Shape, layout: Layout) -> Part:
    """The tilings of all tasks; those with the same sizes that reach as far out of the image share one."""
    low, place = cut.low, layout.place
    joined = layout.joined and cut.cols == low.w.out and not low.w.reach and not low.h.reach
    joined = joined and (place is None or not low.dense or place[3] == cut.cols)
    depths = [reached(low.d, z, 1, layout.finite) for z in range(low.d.out)]
    heights = [_sized(low.h, y, cut.rows, layout.finite and not joined) for y in range(0, low.h.out, cut.rows)]
    widths = [_sized(low.w, x, cut.cols, layout.finite and not joined) for x in range(0, low.w.out, cut.cols)]
    tilings: list[Tiling] = []
    for depth in dict.fromkeys(depths):
        for rows, height in dict.fromkeys(heights):
            for cols, width in dict.fromkeys(widths):
                size = (1, rows * cols) if joined else (rows, cols)
                reach = (depth, ((0, 1),) * low.h.taps if joined else height,
                         ((0, rows * cols),) * low.w.taps if joined else width)  # fmt: skip
                tilings.append(tile_task(low, *size, reach, shape.most_pixels))
    near = not joined and all(tiling.exact for tiling in tilings) and _near(cut, shape, layout)
    source = _source(cut, shape, place, near or (low.dense and place is not None))
    numbers = _numbers(depths), _numbers(heights), _numbers(widths)
    counts = [len(set(axis)) for axis in numbers]
    kernels, tables, fields = _tables(cut, tilings, source)
    more, addresses = kept(z_kinds=np.array(numbers[0]) * counts[1] * counts[2],
                           row_kinds=np.array(numbers[1]) * counts[2], col_kinds=numbers[2])  # fmt: skip
    sums = cut.rows * cut.cols * shape.lanes
    if cut.held < low.icg:
        sums = cut.rows * cut.cols * -(-cut.oc_step // shape.lanes) * shape.lanes
    elif cut.chans >= low.icg:
        sums = shape.most_pixels * shape.lanes
    lane_count = vector_ir.host_vector_bytes() // shape.item
    sums += lane_count * shape.lanes  # the transposition reads beyond
    fields |= addresses | dict(
        in_place=source.in_place, b_chan=source.channel, b_row=source.row, b_col=source.column, origin=source.origin,
        plane=_plane(cut, shape), pitch=cut.pitch, square=sums * shape.item,
    )  # fmt: skip
    strip = 0 if source.in_place else cut.held * _plane(cut, shape)
    return Part("multiply_tiles", fields, tables + more, kernels, False, strip, sums + lane_count * (lane_count + 1))


def _sized(axis: Axis, start: int, size: int, finite: bool) -> tuple[int, tuple[Reach, ...]]:
    """The size of a block of outputs of an axis, and what the taps reach of it."""
    count = min(size, axis.out - start)
    return count, reached(axis, start, count, finite)


def _numbers(values: Sequence[object]) -> list[int]:
    """The number of each value, in order of appearance."""
    known = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return [known[value] for value in values]


def _plane(cut: Cut, shape: Shape) -> int:
    """Elements of one channel of a strip: an odd number of lines, so that channels do not share cache sets."""
    return (-(-cut.plane * shape.item // ALIGNMENT) | 1) * ALIGNMENT // shape.item


def _near(cut: Cut, shape: Shape, layout: Layout) -> bool:
    """Whether tasks that leave out all padding may read x where it lies.

    What a task spans is hardly more than what a strip would take, and spreads over all sets of a cache, whatever the
    distance between channels; for narrow tiles these share pages.
    """
    low, place = cut.low, layout.place
    if place is None or not layout.finite or low.w.stride > 2 or min(axis.before for axis in low.axes) < 0:
        return False
    channel, row = place[1] * shape.item, place[3] * shape.item
    rows, cols = (cut.rows + low.h.reach) * low.h.stride, (cut.cols + low.w.reach) * low.w.stride
    packed = strip_pixels(low, cut.rows, cut.cols, bands=True) // low.d.taps
    spread = channel <= shape.most_channel and (channel & -channel) <= min(rows * row, shape.most_span)
    return spread and rows * cols <= packed * 3 // 2 + 16


def _source(cut: Cut, shape: Shape, place: Ints | None, in_place: bool) -> Source:
    low = cut.low
    if not in_place or place is None:
        return Source(False, _plane(cut, shape), cut.pitch, 1, strip_taps(low, cut.strip_rows, cut.pitch), 0)
    origin = sum(max(axis.before, 0) * stride for axis, stride in zip(low.axes, place[2:], strict=True))
    return Source(True, place[1], place[3] * low.h.stride, low.w.stride, place_taps(low, place), origin)


def _tables(
    cut: Cut, tilings: list[Tiling], source: Source
) -> tuple[tuple[Ints, ...], tuple[np.ndarray, ...], dict[str, int]]:
    """The micro-kernels (high, wide, column, leave), the tables of tiles and steps, and the field that points there."""
    every = [tile for tiling in tilings for tile in tiling.tiles]
    leaves: dict[Ints, int] = {}
    for tile in every:
        size = (tile.high, tile.wide, source.column)
        leaves[size] = max(leaves.get(size, 0), *(_leave(part) for _, part in tile.steps), 0)
    numbers = {size: number for number, size in enumerate(leaves)}
    each = cut.low.icg if cut.single else 1
    starts: dict[object, int] = {}
    rows: list[Ints] = []
    for steps in dict.fromkeys(tile.steps for tile in every):
        starts[steps] = len(rows)
        for tap, part in steps:
            rows += [(tap * each + c, int(source.taps[tap]) + c * source.channel, part) for c in range(each)]
    step_table = np.array(rows, np.int64).reshape(-1)
    first = step_table.ctypes.data
    tile_table = np.array([
        (t.y, t.x, t.high, t.wide, numbers[t.high, t.wide, source.column], first + STEP_BYTES * starts[t.steps],
         len(t.steps) * each) for t in every
    ], np.int64).reshape(-1)  # fmt: skip
    counts = [len(tiling.tiles) for tiling in tilings]
    begins = tile_table.ctypes.data + TILE_BYTES * np.cumsum([0, *counts[:-1]])
    (table,), fields = kept(tilings=np.stack([begins, counts], 1))
    return tuple((*size, leave) for size, leave in leaves.items()), (step_table, tile_table, table), fields


def _leave(part: int) -> int:
    """What a micro-kernel must be able to leave out for a part: columns, or a row."""
    rows, columns = divmod(part, PARTS_OF_ROWS)
    return max(columns - LEAVES if columns > LEAVES else columns, min(rows, 1))

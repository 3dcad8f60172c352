"""Rows of pixels cut into register tiles with channels in the lanes, and what these leave out of a padding of zeros.

The same cut as in ``kernels/tiles.h``, as tables: a task finds its tiles and their steps in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from fastconv.kernels.tile_numba import ALL_ROWS, LEAVES, LOWER, UPPER, part_of
from fastconv.lowering import Axis, Lowered

Reach = tuple[int, int]
"""Outputs [first, end) of one axis of a task that a tap reaches inside the image."""

Step = tuple[int, int]
"""Number of a tap, and the part of the tile that it is for."""


class Tile(NamedTuple):
    """A register tile: its first pixel, its size, and its steps."""

    y: int
    x: int
    high: int
    wide: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Tiling:
    """The tiles of a task. ``exact``: they multiply no padding, so that ``x`` need not have any."""

    tiles: tuple[Tile, ...]
    exact: bool


def paired(wide: int, most: int) -> bool:
    """Whether there are tiles of two rows of so many pixels."""
    return wide > 1 and 2 * wide <= most


def reached(axis: Axis, start: int, count: int, finite: bool) -> tuple[Reach, ...]:
    """What each tap reaches of ``count`` outputs from ``start`` on; all, unless the weights are ``finite``."""
    result = []
    for tap in range(axis.taps):
        at = axis.tap_position(tap) + start * axis.stride
        first, end = 0, count
        while finite and first < end and axis.source[at + first * axis.stride] < 0:
            first += 1
        while finite and first < end and axis.source[at + (end - 1) * axis.stride] < 0:
            end -= 1
        result.append((first, end))
    return tuple(result)


def tile_task(
    low: Lowered, rows: int, cols: int, reach: tuple[tuple[Reach, ...], ...], most: int
) -> Tiling:  # fmt: skip
    """The tiles of rows x cols outputs, of which the taps of d, h and w reach what ``reach`` says."""
    depth, height, width = reach
    inside = tuple(first < end for first, end in depth)
    ends, exact = _cut_best(cols, width, rows > 1, most)
    known: dict[tuple[tuple[int | None, ...], int], tuple[Step, ...]] = {}
    tiles = []
    for y0 in range(0, rows, 2):
        for x, end in zip([0, *ends], ends, strict=False):
            high = 2 if paired(end - x, most) and y0 + 2 <= rows else 1
            for y in range(y0, min(y0 + 2, rows), high):
                parts = tuple(_rows_left(taps, y, high) for taps in height)
                if (parts, x) not in known:
                    known[parts, x] = tuple(_steps(low, inside, parts, width, x, end - x))
                tiles.append(Tile(y, x, high, end - x, known[parts, x]))
    return Tiling(tuple(tiles), exact)


def _rows_left(reach: Reach, y: int, high: int) -> int | None:
    """The rows of a tile that a tap is for; None: no row."""
    within = [reach[0] <= row < reach[1] for row in range(y, y + high)]
    return ALL_ROWS if all(within) else None if not any(within) else UPPER if within[0] else LOWER


def _columns_left(reach: Reach, x: int, wide: int) -> tuple[int, int, bool]:
    """Columns that a tap leaves out at the left and at the right end of a tile, and whether padding remains.

    All of them at the left where it reaches none.
    """
    first, end = reach
    left, right = max(first - x, 0), max(x + wide - end, 0)
    if first >= end or max(left, right) >= wide:
        return wide, 0, True
    exact = max(left, right) <= LEAVES and not (left and right)
    return (min(left, LEAVES), 0, exact) if left > right else (0, min(right, LEAVES), exact)


def _steps(
    low: Lowered, depth: tuple[bool, ...], height: tuple[int | None, ...], width: tuple[Reach, ...], x: int, wide: int
) -> Iterator[Step]:
    for r, i in product(range(low.d.taps), range(low.h.taps)):
        rows = height[i]
        if not depth[r] or rows is None:
            continue
        for j, reach in enumerate(width):
            left, right, _ = _columns_left(reach, x, wide)
            if left < wide:
                yield (r * low.h.taps + i) * low.w.taps + j, part_of(rows, left, right)


def _cut_best(cols: int, width: tuple[Reach, ...], two_rows: bool, most: int) -> tuple[list[int], bool]:
    """The column behind each tile of a row, and whether no padding is multiplied.

    Evenly into the fewest tiles; or into full ones and a rest; or evenly each part over which the same taps reach.
    Whichever takes least, in half multiply-adds of two vectors: a tile's step takes one beyond its sums, and four at
    least, the latency of a multiply-add.
    """
    edges = sorted({0, cols} | {x for reach in width if reach[0] < reach[1] for x in reach})
    even, apart = _evenly([0, cols], most), _evenly(edges, most)
    full = [*range(most, cols, most), cols]
    best, least, exact = even, None, True
    for ends in (even, full, apart):
        time, clean = 0, True
        for x, end in zip([0, *ends], ends, strict=False):
            pair = two_rows and paired(end - x, most)
            for reach in width:
                left, right, rid = _columns_left(reach, x, end - x)
                columns = end - x - left - right
                clean = clean and rid
                if columns:
                    time += max(2 * columns + (1 if pair else 2), 4 if pair else 8)
        if least is None or time < least:
            best, least, exact = ends, time, clean
    return best, exact


def _evenly(edges: list[int], most: int) -> list[int]:
    """Each part between two edges into the fewest tiles."""
    ends = []
    for start, stop in zip(edges, edges[1:], strict=False):
        count = -(-(stop - start) // most)
        ends += [start + (stop - start) * i // count for i in range(1, count + 1)]
    return ends

"""The loops of the shifted product with output channels in the lanes, compiled by Numba.

Tiles and steps are tables (`fastconv.adapters.numba_channels`); here they are gone through: a block of output channels
at a time, the tiles of one block of input channels after the other, so that a slice of the weights stays in L2 while
all tiles go over it.
"""

# mypy: disable-error-code="attr-defined, call-arg, var-annotated"

from __future__ import annotations

from typing import Any

from numba import carray, njit

from fastconv.kernels.lanes_ir import transpose_lanes
from fastconv.kernels.shifted_numba import merge
from fastconv.kernels.vector_ir import call, lanes_of, load_int, prefetch, zero_of

TILE_BYTES = 56
"""Bytes of an entry in a table of tiles, in int64: first row and column, rows, columns, number of the micro-kernel,
address and number of the steps."""


def multiply_tiles(
    jobs: Any, b: int, sums: int, n: int, g: int, z: int, c: int, held: int,
    row: int, rows: int, col: int, cols: int, oc: int, oc_end: int, item: int,
) -> None:  # fmt: skip
    """All tiles of one task by output channels oc..oc_end, over input channels c to c + held.

    Sums stay at ``sums``: of all output channels of the task where not all input channels are held, of one block where
    these come in several blocks, else of one tile. ``b`` is the first pixel of channel c.
    """
    job, zero = carray(jobs, 1)[0], zero_of(item)
    vl = job.vl
    lanes = 2 * vl
    kind = load_int(job.z_kinds, z) + load_int(job.row_kinds, row // job.rows)
    kind += load_int(job.col_kinds, col // job.cols)
    tiles, count = load_int(job.tilings, 2 * kind), load_int(job.tilings, 2 * kind + 1)
    out = job.out + (n * job.out_n + g * job.ocg * job.out_c + z * job.out_d + row * job.out_h + col * job.out_w) * item
    res = job.res + (n * job.res_n + g * job.ocg * job.res_c + z * job.res_d + row * job.res_h + col * job.res_w) * item
    for o in range(oc, oc_end, lanes):
        nv = 2 if o + vl < job.ocg else 1
        width = nv * vl
        left = min(width, job.ocg - o)
        block = sums + (0 if job.held == job.icg else (o - oc) * rows * cols * item)
        for k in range(c, c + held, job.chans):
            chans = min(job.chans, job.icg - k)
            first, last = k == 0, k + chans == job.icg
            size = job.a_width * chans * width * item
            weights = job.a + ((g * job.oc_all + o) * job.icg + k * width) * job.a_width * item
            kernel_chans = 1 if job.single else chans
            wanted = 0 if last and o + lanes >= job.ocg else size
            touched, at = 0, block
            pixels = b + (k - c) * job.b_chan * item
            for tile in range(tiles, tiles + count * TILE_BYTES, TILE_BYTES):
                y, x, high, wide = load_int(tile, 0), load_int(tile, 1), load_int(tile, 2), load_int(tile, 3)
                kernel = load_int(job.kernels, 2 * load_int(tile, 4) + nv - 1)
                to = out + (o * job.out_c + y * job.out_h + x * job.out_w) * item
                if last and job.out_w == 1:
                    fetch_tile(job, to, left, high, wide)
                ahead = touched < wanted
                pixel, count_steps = pixels + (y * job.b_row + x * job.b_col) * item, load_int(tile, 6)
                call(kernel, (
                    weights, kernel_chans * width, pixel, job.b_row, job.b_chan, load_int(tile, 5), count_steps,
                    kernel_chans, at, 0 if first else 1, weights + size + touched if ahead else weights,
                    64 if ahead else 0,
                ))  # fmt: skip
                touched += count_steps * kernel_chans * 64
                if last:
                    added = res + (o * job.res_c + y * job.res_h + x * job.res_w) * item
                    bias = job.bias + (g * job.ocg + o) * item
                    store_tile(job, to, added, bias, sums + job.square, at, width, left, high, wide, zero)
                if not (first and last):
                    at += high * wide * width * item


@njit(error_model="numpy")
def fetch_tile(job: Any, to: int, channels: int, high: int, wide: int) -> None:
    """Fetch what a tile will be stored to, so that it is there when the sums are."""
    for r in range(high):
        for i in range(channels):
            place = to + (r * job.out_h + i * job.out_c) * job.item
            prefetch(place)
            prefetch(place + (wide - 1) * job.item)


@njit(error_model="numpy")
def store_tile(
    job: Any, to: int, res: int, bias: int, square: int, sums: int, width: int, channels: int, high: int, wide: int,
    zero: Any,
) -> None:  # fmt: skip
    """Finished sums [row][column][lane] to ``out``, a vector of pixels by a vector of channels at a time."""
    item, vl, pixels = job.item, lanes_of(zero), high * wide
    for j in range(0, channels, vl):
        for p in range(0, pixels, vl):
            transpose_lanes(zero, square, sums + (p * width + j) * item, width)
            i, end = p, min(p + vl, pixels)
            while i < end:
                y = 1 if i >= wide else 0
                x = i - y * wide
                size = min(end - i, wide - x)
                target = to + (j * job.out_c + y * job.out_h + x * job.out_w) * item
                added = res + (j * job.res_c + y * job.res_h + x * job.res_w) * item
                source = square + (i - p) * item
                merge(job, target, source, vl, min(vl, channels - j), size, 0, True, bias + j * item, added, zero)
                i += size

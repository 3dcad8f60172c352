"""A block's input as padded planes in scratch, compiled by Numba: strides become phases, padding zeros or copies."""

# mypy: disable-error-code="attr-defined, call-arg, var-annotated"

from __future__ import annotations

from typing import Any

from numba import carray, njit

from fastconv.kernels.lanes_ir import copy_lanes, copy_whole
from fastconv.kernels.vector_ir import lanes_of, load, load_int, prefetch, store, zero_of

AHEAD = 8
"""Channels whose rows are fetched before they are packed: they lie too far apart for the processor to see a pattern."""


def pack_strip(
    jobs: Any, strip: int, n: int, c: int, chans: int, z: int, row: int, rows: int, col: int, item: int
) -> None:
    """Write ``strip[chan][d slice][h phase][w phase][row][pitch]``: the padded pixels that a block of outputs reads.

    ``rows`` and the taps' reach below them are written, whole rows of ``pitch`` pixels.
    """
    job, zero = carray(jobs, 1)[0], zero_of(item)
    for k in range(job.slices):
        y_d = load_int(job.d_source, z * job.d_stride + load_int(job.d_taps, k))
        for ph in range(job.h_phases):
            for i in range(rows + job.strip_rows - job.rows):
                at = (row + i) * job.h_stride + load_int(job.h_phase, ph)
                y_h = load_int(job.h_source, at) if at < job.h_length else -1
                for pw in range(job.w_phases):
                    # Between `low` and `high` the source is one regular run, whatever the padding mode.
                    first = col * job.w_stride + load_int(job.w_phase, pw)
                    low = (job.w_before - first + job.w_stride - 1) // job.w_stride
                    high = (job.w_before + job.w_size - first + job.w_stride - 1) // job.w_stride
                    low = min(max(low, 0), job.pitch)
                    high = max(min(high, job.pitch), low)
                    place = (((k * job.h_phases + ph) * job.w_phases + pw) * job.strip_rows + i) * job.pitch
                    touched = (high - low) * job.w_stride * job.x_w * job.item if pw == 0 else 0
                    for j in range(chans):
                        to = strip + (j * job.plane + place) * job.item
                        source = n * job.x_n + (c + j) * job.x_c + y_d * job.x_d + y_h * job.x_h
                        inside = y_d >= 0 and y_h >= 0
                        source, stop = (job.x + source * job.item, high) if inside else (job.x, -1)
                        if inside and j + AHEAD < chans:
                            ahead = source + (AHEAD * job.x_c + (first + low * job.w_stride - job.w_before)) * job.item
                            for line in range(0, touched, 64):
                                prefetch(ahead + line)
                        pack_row(job, to, source, first, low, stop, zero)


@njit(error_model="numpy")
def pack_row(job: Any, to: int, source: int, first: int, low: int, high: int, zero: Any) -> None:
    """One row of one phase: padded positions ``first + i*w_stride``, of which low <= i < high lie inside of ``x``.

    A negative ``high``: the row itself lies in a padding of zeros.
    """
    step, lanes = job.x_w * job.w_stride, lanes_of(zero)
    origin = source + (first - job.w_before) * job.x_w * job.item
    if step == 1:
        for i in range(0, job.pitch, lanes):
            if i >= low and i + lanes <= high:
                copy_whole(zero, to, origin, 1, i)
            else:
                copy_lanes(zero, to, origin, 1, i, low, high, job.pitch)
    elif step == 2:
        for i in range(0, job.pitch, lanes):
            if i >= low and i + lanes < high:
                copy_whole(zero, to, origin, 2, i)
            else:
                copy_lanes(zero, to, origin, 2, i, low, high, job.pitch)
    else:
        for i in range(job.pitch):
            store(to, i, load(zero, origin, step * i) if low <= i < high else zero)
    if job.w_edges and high >= 0:
        for i in range(low):
            store(to, i, pack_edge(job, source, first + i * job.w_stride, zero))
        for i in range(high, job.pitch):
            store(to, i, pack_edge(job, source, first + i * job.w_stride, zero))


@njit(error_model="numpy")
def pack_edge(job: Any, source: int, at: int, zero: Any) -> Any:
    """A pixel of the padding, through the table; what lies beyond the table is read by no output that is kept."""
    position = load_int(job.w_source, at) if at < job.w_length else -1
    return load(zero, source, position * job.x_w) if position >= 0 else zero

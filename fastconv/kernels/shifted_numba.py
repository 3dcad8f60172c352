"""The loops of the shifted product around the micro-kernel, compiled by Numba.

A job is one record of integers (`JOB`): addresses, strides and counts in elements, so that a call passes one address
and nothing is typed but the element. A task is one block of rows x cols outputs of one (n, g, d slice) for a range of
output channels. Workers draw tasks from one counter: which worker runs a task changes no bit of the result, because
a task writes its own part of ``out`` only, in an order that the layer alone decides.
"""

# mypy: disable-error-code="attr-defined, call-arg, var-annotated"
# Numba passes the typing context of an intrinsic itself, which mypy cannot know.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray, njit, prange

from fastconv.kernels.lanes_ir import merge_lanes
from fastconv.kernels.vector_ir import (
    call,
    lanes_of,
    like,
    load,
    load_int,
    store,
    take_ticket,
    zero_of,
)

CALL = (
    "ticket", "counter", "scratch", "x", "x_n", "x_c", "x_d", "x_h", "x_w", "out", "out_n", "out_c", "out_d", "out_h",
    "out_w", "res", "res_n", "res_c", "res_d", "res_h", "res_w", "bias", "activation", "slope", "direct", "a",
    "kernels", "pack", "multiply", "finish",
)  # fmt: skip
"""Fields of one call: addresses in bytes (0 where there is no bias or residual), strides in elements.

``counter`` is the address of ``ticket``, and of the job; ``kernels[nv]`` that of the micro-kernel of nv vectors;
``pack``, ``multiply`` and ``finish`` those of the compiled functions, 0 where they are not needed; ``direct`` is 1
where a panel is one run of ``out``."""

LAYER = (
    "icg", "ocg", "out_slices", "out_rows", "out_width", "g", "chans", "held", "taps", "single", "item", "mr",
    "nv_max", "vl", "lanes", "oc_all", "a_width", "a_group", "a_oc", "a_chan", "a_taps", "b_chan", "b_taps", "b_row",
    "b_col", "origin", "tasks", "rows", "cols", "row_blocks", "col_blocks", "oc_step", "oc_splits", "by_rows",
    "blockwise", "in_place", "pitch", "slot_bytes", "tile_offset", "plane", "strip_rows", "slices", "d_stride",
    "d_taps", "d_source", "h_stride", "h_phases", "h_phase", "h_source", "h_length", "w_stride", "w_phases", "w_phase",
    "w_source", "w_length", "w_before", "w_size", "w_edges", "square", "tilings", "z_kinds", "row_kinds", "col_kinds",
)  # fmt: skip
"""Fields of the layer and its tiles.

Packed weights come in blocks of ``lanes`` output channels, the last one narrower, ``oc_all`` a group with the zeros at
its end: ``a[group][block][input channels][tap][channel][lane]``, ``a_width`` elements for each output and input
channel. With ``lanes`` 0 they are the caller's: ``a + group*a_group + c*a_chan + o*a_oc``, with taps at ``a_taps``.
``held``: input channels that a task packs at a time; ``chans``: those that are summed from zero. ``single``: the taps
are (tap, channel) pairs, the micro-kernel sees one channel. ``origin``: from the first pixel of the padding to x.

``by_rows``: panels stay inside one row of the output; else they run on over the ``pitch - cols`` pixels between rows.
``blockwise``: a row is written one block of output channels after the other, as its pixels stay in L1.
``plane``: elements of one channel of a strip. ``*_source``: tables of padded positions, -1 is zero. ``w_edges``: that
of w has others in the padding. From ``square`` on: of `fastconv.kernels.channels_numba` alone; ``b_row`` and ``b_col``
are the distances between outputs' pixels there, ``square`` bytes from the sums to what is transposed, ``tilings`` a
table of (tiles, count), indexed by the sum of what ``*_kinds`` say of a task's slice, rows and columns."""

JOB = np.dtype([(name, np.float64 if name == "slope" else np.int64) for name in CALL + LAYER])

COUNTER, SCRATCH, X, OUT, RES, BIAS, WEIGHTS = map(CALL.index, ("counter", "scratch", "x", "out", "res", "bias", "a"))

ACTIVATIONS = (None, "relu", "relu6", "leaky_relu", "hardswish", "silu", "gelu", "gelu_tanh")
"""The numbers by which a job names an activation: positions in this tuple."""


def run_tasks(jobs: Any, worker: int, item: int) -> None:
    """Run tasks of the job at ``jobs`` (pointer to one `JOB`) until none is left; ``item`` is a literal.

    Any number of workers may run at once; ``worker`` numbers them from 0 and picks a part of the scratch.
    Writes that part, ``out`` and the counter. ``out`` overlaps nothing else.
    """
    job = carray(jobs, 1)[0]
    strip = job.scratch + worker * job.slot_bytes
    task = take_ticket(job.counter)
    while task < job.tasks:
        rest, split = divmod(task, job.oc_splits)
        rest, col = divmod(rest, job.col_blocks)
        rest, row = divmod(rest, job.row_blocks)
        rest, z = divmod(rest, job.out_slices)
        n, g = divmod(rest, job.g)
        row, col, oc = row * job.rows, col * job.cols, split * job.oc_step
        rows, cols = min(job.rows, job.out_rows - row), min(job.cols, job.out_width - col)
        oc_end = min(oc + job.oc_step, job.ocg)
        for c in range(0, job.icg, job.held):
            chans = min(job.held, job.icg - c)
            if job.in_place:
                source = n * job.x_n + (g * job.icg + c) * job.x_c + z * job.d_stride * job.x_d - job.origin
                b = job.x + (source + row * job.h_stride * job.x_h + col * job.w_stride) * job.item
            else:
                b = strip
                call(job.pack, (job.counter, strip, n, g * job.icg + c, chans, z, row, rows, col))
            tile = strip + job.tile_offset
            call(job.multiply, (job.counter, b, tile, n, g, z, c, chans, row, rows, col, cols, oc, oc_end))
        task = take_ticket(job.counter)


def multiply(
    jobs: Any, b: int, tile: int, n: int, g: int, z: int, c: int, chans: int,
    row: int, rows: int, col: int, cols: int, oc: int, oc_end: int, item: int,
) -> None:  # fmt: skip
    """All panels of one strip by all blocks of output channels oc..oc_end.

    Panels outside, output channels inside: a panel's pixels stay in L1 while the weights stream by; the first blocks
    fetch those of the next panel. Where those of a whole row stay there, it is the other way round, so that a row of
    ``out`` is written in one go. No block is partial: packed weights end with zeros, of the caller's the last rows are
    taken from ``ocg - mr`` on and only the new ones stored, and so are the last pixels of an ``x`` read in place,
    which nothing may read beyond.
    """
    job, zero = carray(jobs, 1)[0], zero_of(item)
    mr, vl, pitch = job.mr, job.vl, job.pitch
    length = cols if job.by_rows else (rows - 1) * pitch + cols
    row_pitch = length if job.by_rows or rows == 1 else pitch
    vectors = length // vl if job.in_place else (length + vl - 1) // vl
    panels = (vectors + job.nv_max - 1) // job.nv_max
    least = vectors // max(panels, 1)
    wider = vectors - least * panels
    tails = 1 if job.in_place and vectors * vl < length else 0
    kernel_chans = 1 if job.single else chans
    last = c + chans == job.icg
    closing = last and (job.bias or job.res or job.activation)
    by_kernel = last and job.bias and job.activation < 2 and not job.res
    out = job.out + (n * job.out_n + g * job.ocg * job.out_c + z * job.out_d + row * job.out_h + col * job.out_w) * item
    res = job.res + (n * job.res_n + g * job.ocg * job.res_c + z * job.res_d + row * job.res_h + col * job.res_w) * item
    step = mr if job.blockwise else max(oc_end - oc, 1)
    parts = (oc_end - oc + step - 1) // step
    for turn in range(parts * (rows if job.by_rows else 1)):
        run, part = turn // parts, oc + turn % parts * step
        begin = part - part % job.lanes if job.lanes else part  # first channel of its block of packed weights
        new, y, x = 0, run, 0  # first pixel that no panel has computed, and where it lies in the output
        for panel in range(panels + tails):
            nv = 1 if panel == panels else least + 1 if panel < wider else least
            start = length - vl if panel == panels else new
            stop = start + nv * vl
            whole = job.direct and start == new and stop <= length
            kernel = load_int(job.kernels, nv)
            pixels = b + (run * pitch + start) * item
            ahead, lead = nv, begin
            for block in range(part, min(part + step, oc_end), mr):
                first, a_chan, tap = block, job.a_chan, 1
                if job.lanes:
                    if block >= lead + job.lanes:
                        lead += job.lanes
                    a_chan = min(job.lanes, job.oc_all - lead)
                    a = ((g * job.oc_all + lead) * job.icg + c * a_chan) * job.a_width + block - lead
                    tap = kernel_chans * a_chan
                else:
                    first = min(block, job.ocg - mr)
                    a = g * job.a_group + c * a_chan + first * job.a_oc
                rows_new = min(first + mr, job.ocg) - block
                bias = job.bias + (g * job.ocg + block) * item
                into, into_row, add, closed = tile, nv * vl, 0, False
                if whole and rows_new == mr:
                    into = out + (run * job.out_h + start + block * job.out_c) * item
                    into_row, add, closed = job.out_c, c, by_kernel
                call(kernel, (
                    job.taps, kernel_chans, job.a + a * item, job.a_taps, tap, a_chan, job.a_oc,
                    pixels, job.b_taps, job.b_chan, into, into_row, add,
                    bias if closed else 0, job.activation, ahead * vl * item,
                ))  # fmt: skip
                ahead = ahead + 1 if ahead and ahead + 1 < 2 * nv else 0
                origin, origin_row, add, left = tile, nv * vl, c, min(stop, length) - new
                if into != tile:
                    origin, origin_row, add, left = into, into_row, 0, left if closing and not closed else 0
                else:
                    origin += ((block - first) * nv * vl + new - start) * item
                y_at, x_at = y, x
                while left > 0:
                    size = left if into != tile else min(cols - x_at, left)
                    if size > 0:
                        to = out + (y_at * job.out_h + x_at * job.out_w + block * job.out_c) * item
                        added = res + (y_at * job.res_h + x_at * job.res_w + block * job.res_c) * item
                        merge(job, to, origin, origin_row, rows_new, size, add, last, bias, added, zero)
                    on = left if into != tile else row_pitch - x_at
                    origin, left = origin + on * item, left - on
                    y_at, x_at = y_at + 1, 0
            x += stop - new
            while x >= row_pitch:
                y, x = y + 1, x - row_pitch
            new = stop


@njit(error_model="numpy")
def merge(
    job: Any, to: int, tile: int, tile_row: int, rows: int, size: int, add: int, last: bool,
    bias: int, res: int, zero: Any,
) -> None:  # fmt: skip
    """``out[i][j] (+)= tile[i*tile_row + j]`` for ``rows`` output channels and ``size`` pixels of one row.

    The last block of input channels brings bias, residual and activation. ``tile`` may be the place in ``out`` itself.
    """
    item, plain = job.item, job.out_w == 1
    fused = last and job.activation == 1 and not job.res
    floor = zero if fused else like(zero, -np.inf)
    for i in range(rows):
        shift = load(zero, bias, i) if last and job.bias else -zero
        target, origin = to + i * job.out_c * item, tile + i * tile_row * item
        if plain:
            for j in range(0, size, lanes_of(zero)):
                merge_lanes(target + j * item, origin + j * item, size - j, add, shift, floor)
        else:
            for j in range(size):
                value = load(zero, origin, j)
                value = (load(zero, target, j * job.out_w) + value if add else value) + shift
                store(target, j * job.out_w, zero if value < floor else value)
    if last and (job.res or job.activation) and not fused:
        call(job.finish, (job.counter, to, res, rows, size))


def finish(jobs: Any, out: int, res: int, rows: int, size: int, item: int) -> None:
    """``out = act(out + residual)`` for ``rows`` output channels and ``size`` pixels of one row."""
    job, zero = carray(jobs, 1)[0], zero_of(item)
    for i in range(rows):
        target, added = out + i * job.out_c * job.item, res + i * job.res_c * job.item
        for j in range(size):
            value = load(zero, target, j * job.out_w)
            value = value + load(zero, added, j * job.res_w) if job.res else value
            store(target, j * job.out_w, activate(job, value, zero) if job.activation else value)


@njit(error_model="numpy")
def activate(job: Any, v: Any, zero: Any) -> Any:
    """The formulas of `fastconv.epilogue.activate`, in the element type; NaN stays NaN."""
    one, half, kind = like(zero, 1.0), like(zero, 0.5), job.activation
    if kind == 1:
        return zero if v < zero else v
    if kind == 2:
        return zero if v < zero else like(zero, 6.0) if v > like(zero, 6.0) else v
    if kind == 3:
        return v * like(zero, job.slope) if v < zero else v
    if kind == 4:
        gate = v + like(zero, 3.0)
        gate = zero if gate < zero else like(zero, 6.0) if gate > like(zero, 6.0) else gate
        return zero if v <= like(zero, -3.0) else v * gate / like(zero, 6.0)
    if kind == 5:
        return v / (one + math.exp(-v))
    if kind == 6:
        return v * (half * (one + math.erf(v * like(zero, 0.7071067811865476))))
    inner = like(zero, 0.7978845608028654) * (v + like(zero, 0.044715) * v * v * v)
    return v * (half * (one + math.tanh(inner)))


@njit(nogil=True)
def run_serial(function: int, job: int, fields: int, scratch: int, x: int, out: int, res: int) -> None:
    """Run every task of a job on the calling thread; ``function`` is the address of a compiled `run_tasks`.

    The job of ``fields`` integers at ``job`` is for any arrays: it is copied to the start of ``scratch``, with the
    addresses of these.
    """
    place_job(job, fields, scratch, x, out, res)
    call(function, (scratch, 0))


@njit(nogil=True, parallel=True)
def run_parallel(
    function: int, job: int, fields: int, scratch: int, x: int, out: int, res: int, workers: int
) -> None:  # fmt: skip
    """The same by ``workers`` workers on Numba's threads; fewer threads take several workers in turn."""
    place_job(job, fields, scratch, x, out, res)
    for worker in prange(workers):
        call(function, (scratch, np.int64(worker)))


@njit(error_model="numpy")
def place_job(job: int, fields: int, to: int, x: int, out: int, res: int) -> None:
    for i in range(fields):
        store(to, i, load_int(job, i))
    store(to, COUNTER, to)
    store(to, SCRATCH, to + (fields * 8 + 63) // 64 * 64)
    store(to, X, x)
    store(to, OUT, out)
    store(to, RES, res)

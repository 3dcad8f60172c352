"""A layer as a job of the Numba kernels: tasks, strips, tables. Nothing here depends on the arrays of a call.

The two kinds of kernels have parts of their own: pixels in the lanes here, output channels in `numba_channels`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters import numba_channels
from fastconv.adapters.blocks import Blocks, channel_block, choose_lanes, held_channels, strip_bytes
from fastconv.adapters.numba_tables import Cut, Ints, Layout, Part, kept, padded_taps, place_taps, strip_taps
from fastconv.arena import ALIGNMENT
from fastconv.kernels import shifted_numba, vector_ir
from fastconv.kernels.numba_launch import Shape
from fastconv.lowering import Lowered, choose_tile, lower
from fastconv.spec import ConvSpec


@dataclass(frozen=True, eq=False)
class Geometry:
    """The part of a job that does not depend on the arrays of the call: fields of `shifted_numba.JOB`."""

    job: np.ndarray
    part: Part
    tables: tuple[np.ndarray, ...]  # what the addresses in the job point to
    scratch_bytes: int


@lru_cache(maxsize=256)
def geometry(spec: ConvSpec, shape: Shape, workers: int, max_workspace: int | None, layout: Layout) -> Geometry:
    """Tiles, strips and tables of a layer."""
    low = lower(spec)
    chans = max(min(channel_block(low.taps), low.icg), 1)
    kind = lanes(spec, low, shape)
    held = max(held_channels(low, shape.most_pixels, shape.item, chans), 1) if kind == "channels" else chans
    budget = strip_bytes() if max_workspace is None else min(strip_bytes(), max_workspace // workers)
    unit, vector = (shape.lanes, 1) if kind == "channels" else (shape.mr, shape.vl)
    tile = choose_tile(low, max(budget // (held * shape.item), 1), workers, unit, vector)
    cut = Cut(low, min(tile.rows, low.h.out), min(tile.cols, low.w.out), tile.oc_step, chans, held)
    part = (_pixels if kind == "pixels" else numba_channels.tiles)(cut, shape, layout)
    tables, addresses = kept(
        a_taps=_weight_taps(low, layout.weights, cut.single), d_taps=padded_taps(low.d), d_source=low.d.source,
        h_phase=low.h.phases, h_source=low.h.source, w_phase=low.w.phases, w_source=low.w.source,
    )  # fmt: skip
    row_blocks, col_blocks, oc_splits = -(-low.h.out // cut.rows), -(-low.w.out // cut.cols), -(-low.ocg // cut.oc_step)
    tile_offset = _aligned(part.strip * shape.item)
    slot_bytes = _aligned(tile_offset + part.sums * shape.item)
    a_group, a_oc, a_chan = _weight_strides(low, layout.weights)
    fields = dict.fromkeys(shifted_numba.LAYER, 0) | addresses | part.fields | dict(
        icg=low.icg, ocg=low.ocg, out_slices=low.d.out, out_rows=low.h.out, out_width=low.w.out, g=low.g, chans=chans,
        held=held, taps=low.taps * (low.icg if cut.single else 1), single=cut.single, item=shape.item, mr=shape.mr,
        nv_max=shape.nv_max, vl=shape.vl, lanes=shape.lanes,
        oc_all=sum(Blocks(shape.mr, shape.lanes, shape.unit).widths(low.ocg)) if shape.lanes else 0,
        a_width=low.taps, a_group=a_group, a_oc=a_oc, a_chan=a_chan,
        tasks=low.n * low.g * low.d.out * row_blocks * col_blocks * oc_splits, rows=cut.rows, cols=cut.cols,
        row_blocks=row_blocks, col_blocks=col_blocks, oc_step=cut.oc_step, oc_splits=oc_splits, slot_bytes=slot_bytes,
        tile_offset=tile_offset, strip_rows=cut.strip_rows, slices=low.d.taps, d_stride=low.d.stride,
        h_stride=low.h.stride, h_phases=len(low.h.phases), h_length=low.h.source.size, w_stride=low.w.stride,
        w_phases=len(low.w.phases), w_length=low.w.source.size, w_before=spec.padding[-1][0],
        w_size=spec.input_size[-1], w_edges=spec.padding_mode != "zeros",
    )  # fmt: skip
    job = np.zeros(len(shifted_numba.CALL) + len(shifted_numba.LAYER), np.int64)
    job[len(shifted_numba.CALL) :] = [fields[name] for name in shifted_numba.LAYER]
    return Geometry(job, part, (*tables, *part.tables), _aligned(job.nbytes) + slot_bytes * workers)


def lanes(spec: ConvSpec, low: Lowered, shape: Shape) -> str:
    """'pixels' or 'channels'; weights that are not packed are read by the former only."""
    if not shape.lanes:
        return "pixels"
    blocks = Blocks(shape.mr, shape.lanes, shape.unit)
    return choose_lanes(spec, low, blocks, shape.vl, shape.most_pixels, shape.item, in_place=False)


def _pixels(cut: Cut, shape: Shape, layout: Layout) -> Part:
    """Panels of pixels: read in place where each finds its pixels without reading beyond a block of outputs."""
    low, place, vl, rows, cols = cut.low, layout.place if cut.low.dense else None, shape.vl, cut.rows, cut.cols
    ends = {(r, c) for r in (rows, (low.h.out - 1) % rows + 1) for c in (cols, (low.w.out - 1) % cols + 1)}
    pitch, plane = cut.pitch, cut.plane
    plane += ALIGNMENT // shape.item * (plane * shape.item % tuning.PAGE_BYTES == 0)
    by_rows = _row_vectors(rows, cols, vl) <= _flat_vectors(rows, cols, pitch, vl)
    in_place = False
    if place is not None:
        apart = rows > 1 and not cols <= place[3] <= 2 * cols  # rows that overlap, run backwards or lie far away
        rowwise = apart or _row_vectors(rows, cols, vl) <= _flat_vectors(rows, cols, place[3], vl)
        in_place = all((c if rowwise else (r - 1) * place[3] + c) >= vl for r, c in ends)
    if in_place and place is not None:
        by_rows, pitch, b_chan, b_taps, strip = rowwise, place[3], place[1], place_taps(low, place), 0
    else:
        b_chan, b_taps = plane, strip_taps(low, cut.strip_rows, pitch)
        strip = cut.chans * plane + shape.nv_max * vl  # the last panel reads beyond
    channels = b_chan * np.arange(low.icg if cut.single else 1)
    tables, fields = kept(b_taps=b_taps[:, None] + channels)
    row_bytes = low.d.taps * low.h.taps * len(low.w.phases) * cut.chans * pitch * shape.item
    blockwise = by_rows and not in_place and row_bytes <= tuning.PANEL_BYTES
    fields |= dict(by_rows=by_rows, blockwise=blockwise, in_place=in_place, pitch=pitch, plane=plane, b_chan=b_chan)
    lengths = {c if by_rows else (r - 1) * pitch + c for r, c in ends}
    widths = sorted(set().union(*(_widths(length, in_place, shape) for length in lengths)))
    direct = by_rows or rows == 1 or (pitch == cols == low.w.out and layout.joined)
    sums = math.prod((shape.mr, shape.nv_max, vl)) + vector_ir.host_vector_bytes() // shape.item  # merging reads beyond
    return Part("multiply", fields, tables, tuple((nv,) for nv in widths), direct, strip, sums)


def _row_vectors(rows: int, cols: int, vl: int) -> int:
    return rows * -(-cols // vl)


def _flat_vectors(rows: int, cols: int, pitch: int, vl: int) -> int:
    return -(-((rows - 1) * pitch + cols) // vl)


def _widths(length: int, in_place: bool, shape: Shape) -> set[int]:
    """Vectors of the panels into which `shifted_numba.multiply` cuts a run."""
    vectors = length // shape.vl if in_place else -(-length // shape.vl)
    panels = -(-vectors // shape.nv_max)
    even = {vectors // panels, -(-vectors // panels)}
    return even | {1} if in_place and length % shape.vl else even


def _weight_strides(low: Lowered, strides: Ints | None) -> Ints:
    """From a group, an output channel and an input channel to the next; packed rows of weights follow each other."""
    return (0, 1, 0) if strides is None else (low.ocg * strides[0], strides[0], strides[1])


def _weight_taps(low: Lowered, strides: Ints | None, single: bool) -> np.ndarray:
    """The offset of each tap in the caller's weights, or its number in packed ones."""
    if strides is None:
        return np.arange(low.taps * (low.icg if single else 1))
    d, h, w = (np.arange(axis.taps) * s for axis, s in zip(low.axes, strides[2:], strict=True))
    taps: np.ndarray = (d[:, None, None] + h[:, None] + w).reshape(-1, 1)
    return taps + strides[1] * np.arange(low.icg if single else 1)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT

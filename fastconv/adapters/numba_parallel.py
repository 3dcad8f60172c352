"""The shifted product, compiled on the spot by Numba: pixels in the lanes of vectors, weights broadcast.

`fastconv.kernels.shifted_numba` has the loops; here a layer becomes their job. The order of summation depends
on the layer and dtype alone, so that neither threads nor batch nor image size change a bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.adapters.direct import pack, sequential_bound, workers
from fastconv.arena import ALIGNMENT, Arena
from fastconv.kernels import numba_launch, shifted_numba, vector_ir
from fastconv.kernels.numba_launch import Shape
from fastconv.lowering import Axis, Lowered, choose_tile, lower
from fastconv.spec import ConvSpec, Epilogue, Problem

Ints = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class State:
    """Weights as the kernel reads them: packed, or the caller's own with these strides in elements."""

    shape: Shape
    weights: np.ndarray
    strides: Ints | None
    bias: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Geometry:
    """The part of a job that does not depend on the arrays of the call: fields of `shifted_numba.JOB`."""

    job: np.ndarray
    tables: np.ndarray  # what the addresses in the job point to
    widths: tuple[int, ...]  # the numbers of vectors that panels have
    one_row: bool  # a panel lies in one row of the output
    seamless: bool  # panels have no pixels between the rows
    scratch_bytes: int


def algorithm(spec: ConvSpec) -> str:
    return "shifted"


def error_bound(problem: Problem) -> float:
    """The longest path of a product: all terms of its block, then one addition per block."""
    spec, chans = problem.spec, channel_block(problem.spec)
    return sequential_bound(spec, chans * spec.taps + -(-(spec.ic // spec.g) // chans))


def workspace_bytes(problem: Problem, threads: int) -> int:
    """A strip of padded input and one register block for each worker, as if nothing could be read in place."""
    spec = problem.spec
    if not math.prod(spec.out_shape):
        return 0
    shape = block_shape(spec, vector_ir.host_vector_bytes())
    return geometry(spec, shape, _workers(spec, threads), problem.max_workspace, None, None).scratch_bytes


def channel_block(spec: ConvSpec) -> int:
    """Input channels summed in registers before the sum goes to memory: what fixes the order of summation."""
    icg = max(spec.ic // spec.g, 1)
    blocks = -(-icg // (tuning.CHANNEL_BLOCK_POINT if spec.taps == 1 else tuning.NUMBA_CHANNEL_BLOCK))
    return -(-icg // blocks)


def block_shape(spec: ConvSpec, vector_bytes: int) -> Shape:
    """The register block that wastes least on the output channels of one group."""
    item, ocg = np.dtype(spec.acc_dtype).itemsize, max(spec.oc // spec.g, 1)
    many = vector_bytes == 64 or "neon" in vector_ir.host_features()
    fitting = [block for block in tuning.NUMBA_BLOCKS[32 if many else 16] if block[0] <= ocg]
    mr, nv_max, _ = min(fitting, key=lambda block: -(-ocg // block[0]) * block[0] / block[2])
    return Shape(item, mr, nv_max, vector_bytes // item)


def prepare(
    spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool, vector_bytes: int | None = None
) -> State:
    """``vector_bytes`` below the machine's own is for tests."""
    w, bias = constants
    shape = block_shape(spec, vector_bytes or vector_ir.host_vector_bytes())
    bias = None if bias is None else np.ascontiguousarray(bias)
    return (
        State(shape, w, _strides(w), bias)
        if borrow
        else State(shape, pack(w, spec.g, shape.mr, channel_block(spec)), None, bias)
    )


def run(
    state: State, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), spec, shape = operands, problem.spec, state.shape
    x_strides, out_strides = _strides(x), _strides(out)
    res_strides = (0,) * 5 if residual is None else _strides(residual)
    place = x_strides if lower(spec).dense and x_strides[4] == 1 else None
    workers = _workers(spec, threads)
    plan = geometry(spec, shape, workers, problem.max_workspace, place, state.strides)
    joined = all(s[3] == s[4] * spec.output_size[-1] for s in (out_strides, res_strides))
    direct = out_strides[4] == 1 and (plan.one_row or (plan.seamless and joined))
    kernels = numba_launch.kernels(shape, plan.widths)
    tasks, pack, multiply = (
        numba_launch.loops(name, shape.item).address for name in ("run_tasks", "pack_strip", "multiply")
    )
    job = plan.job.copy()
    with scratch.borrow(plan.scratch_bytes) as buffer:
        job[: len(shifted_numba.CALL)] = (
            0, job.ctypes.data, buffer.ctypes.data, x.ctypes.data, *x_strides, out.ctypes.data, *out_strides,
            _address(residual), *res_strides, _address(state.bias), *_activation(problem.epilogue), direct,
            state.weights.ctypes.data, kernels.ctypes.data, pack, multiply,
        )  # fmt: skip
        numba_launch.pool.run(tasks, job.ctypes.data, workers)


@lru_cache(maxsize=256)
def geometry(
    spec: ConvSpec, shape: Shape, workers: int, max_workspace: int | None, place: Ints | None, w_strides: Ints | None
) -> Geometry:
    """Tiles, strips and tables of a layer.

    ``place`` are the strides of an ``x`` that might be read where it is; it is, where every panel then finds
    its pixels without reading beyond a block of outputs.
    """
    low, chans, vl = lower(spec), channel_block(spec), shape.vl
    budget = tuning.NUMBA_STRIP_BYTES
    budget = budget if max_workspace is None else min(budget, max_workspace // workers)
    tile = choose_tile(low, max(budget // (chans * shape.item), 1), workers, shape.mr)
    rows, cols = min(tile.rows, low.h.out), min(tile.cols, low.w.out)
    ends = {(r, c) for r in (rows, (low.h.out - 1) % rows + 1) for c in (cols, (low.w.out - 1) % cols + 1)}
    strip_rows, pitch = rows + low.h.reach, cols + low.w.reach
    plane = len(low.d.tap_offset) * len(low.h.phases) * len(low.w.phases) * strip_rows * pitch
    plane += ALIGNMENT // shape.item * (plane * shape.item % tuning.PAGE_BYTES == 0)
    by_rows = _row_vectors(rows, cols, vl) <= _flat_vectors(rows, cols, pitch, vl)
    in_place = False
    if place is not None:
        apart = rows > 1 and not cols <= place[3] <= 2 * cols  # rows that overlap, run backwards or lie far away
        rowwise = apart or _row_vectors(rows, cols, vl) <= _flat_vectors(rows, cols, place[3], vl)
        in_place = all((c if rowwise else (r - 1) * place[3] + c) >= vl for r, c in ends)
    if in_place and place is not None:
        by_rows, pitch, b_chan, b_taps, strip = rowwise, place[3], place[1], _place_taps(low, place), 0
    else:
        b_chan, b_taps = plane, _strip_taps(low, strip_rows, pitch)
        strip = chans * plane + shape.nv_max * vl  # the last panel reads beyond
    single = low.taps > 1 and low.icg <= tuning.NUMBA_SINGLE_CHANNELS
    channels = np.arange(low.icg if single else 1)
    a_fields, a_taps, a_taps_last = _weight_taps(low, shape.mr, chans, w_strides)
    tables, addresses = _joined(
        a_taps=a_taps[:, None] + a_fields["a_chan"] * channels, a_taps_last=a_taps_last,
        b_taps=b_taps[:, None] + b_chan * channels,
        d_taps=_padded_taps(low.d), d_source=low.d.source, h_phase=low.h.phases, h_source=low.h.source,
        w_phase=low.w.phases, w_source=low.w.source,
    )  # fmt: skip
    row_blocks, col_blocks, oc_splits = -(-low.h.out // rows), -(-low.w.out // cols), -(-low.ocg // tile.oc_step)
    tile_offset = _aligned(strip * shape.item)
    slot_bytes = _aligned(tile_offset + math.prod(shape) + vector_ir.host_vector_bytes())  # merging reads beyond
    fields = a_fields | addresses | dict(
        icg=low.icg, ocg=low.ocg, out_slices=low.d.out, out_rows=low.h.out, out_width=low.w.out, g=low.g, chans=chans,
        taps=low.taps * channels.size, single=single, **shape._asdict(), b_chan=b_chan,
        tasks=low.n * low.g * low.d.out * row_blocks * col_blocks * oc_splits, rows=rows, cols=cols,
        row_blocks=row_blocks, col_blocks=col_blocks, oc_step=tile.oc_step, oc_splits=oc_splits, by_rows=by_rows,
        in_place=in_place, pitch=pitch, slot_bytes=slot_bytes, tile_offset=tile_offset, plane=plane,
        strip_rows=strip_rows, slices=len(low.d.tap_offset), d_stride=low.d.stride, h_stride=low.h.stride,
        h_phases=len(low.h.phases), h_length=low.h.source.size, w_stride=low.w.stride, w_phases=len(low.w.phases),
        w_length=low.w.source.size, w_before=spec.padding[-1][0], w_size=spec.input_size[-1],
        w_edges=spec.padding_mode != "zeros",
    )  # fmt: skip
    job = np.zeros(len(shifted_numba.CALL) + len(shifted_numba.LAYER), np.int64)
    job[len(shifted_numba.CALL) :] = [fields[name] for name in shifted_numba.LAYER]
    lengths = {c if by_rows else (r - 1) * pitch + c for r, c in ends}
    widths = tuple(sorted(set().union(*(_widths(length, in_place, shape) for length in lengths))))
    return Geometry(job, tables, widths, by_rows or rows == 1, pitch == cols == low.w.out, slot_bytes * workers)


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


def _padded_taps(axis: Axis) -> np.ndarray:
    """Padded position of each tap of output 0."""
    return np.array([axis.tap_position(tap) for tap in range(len(axis.tap_offset))])


def _strip_taps(low: Lowered, strip_rows: int, pitch: int) -> np.ndarray:
    """Offset of each tap in a channel of a strip, as `shifted_numba.pack_strip` lays it out."""
    h_phase, h_offset = np.array(low.h.tap_phase), np.array(low.h.tap_offset)
    w_phase, w_offset = np.array(low.w.tap_phase), np.array(low.w.tap_offset)
    image = np.arange(len(low.d.tap_offset))[:, None] * len(low.h.phases) + h_phase
    image = image[:, :, None] * len(low.w.phases) + w_phase
    taps: np.ndarray = (image * strip_rows + h_offset[:, None]) * pitch + w_offset
    return taps.reshape(-1)


def _place_taps(low: Lowered, strides: Ints) -> np.ndarray:
    """Offset of each tap in ``x`` itself."""
    d, h, w = (_padded_taps(axis) * stride for axis, stride in zip(low.axes, strides[2:], strict=True))
    taps: np.ndarray = d[:, None, None] + h[:, None] + w
    return taps.reshape(-1)


def _weight_taps(low: Lowered, mr: int, chans: int, strides: Ints | None) -> tuple[dict[str, int], Any, Any]:
    """Strides of the weights, and the offsets of the taps in a whole and in the last block of input channels."""
    if strides is not None:
        kernel = (len(axis.tap_offset) for axis in low.axes)
        d, h, w = (np.arange(k) * s for k, s in zip(kernel, strides[2:], strict=True))
        taps = (d[:, None, None] + h[:, None] + w).reshape(-1)
        oc, ic = strides[:2]
        return dict(a_group=low.ocg * oc, a_first=ic, a_oc=oc, a_packed=0, a_chan=ic, a_row=oc), taps, taps
    rows = -(-low.ocg // mr) * mr
    fields = dict(
        a_group=rows * low.taps * low.icg, a_first=rows * low.taps, a_oc=0, a_packed=low.taps, a_chan=mr, a_row=1
    )
    taps, last = np.arange(low.taps) * mr, (low.icg - 1) % chans + 1 if low.icg else 1
    return fields, taps * chans, taps * last


def _joined(**parts: Any) -> tuple[np.ndarray, dict[str, int]]:
    """Tables of int64 in one array, and their addresses."""
    arrays = [np.asarray(part, np.int64).reshape(-1) for part in parts.values()]
    tables = np.concatenate(arrays)
    starts = np.cumsum([0] + [8 * a.size for a in arrays[:-1]]) + tables.ctypes.data
    return tables, dict(zip(parts, starts.tolist(), strict=True))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _strides(array: np.ndarray) -> Ints:
    """In elements. An axis of one element may have any stride, and it is never taken."""
    return tuple(stride // array.itemsize for stride in array.strides)


def _address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.ctypes.data


def _activation(epilogue: Epilogue) -> tuple[int, int]:
    """Number of the activation, and the bits of its parameter."""
    return shifted_numba.ACTIVATIONS.index(epilogue.activation), int(np.float64(epilogue.parameter).view(np.int64))


def _workers(spec: ConvSpec, threads: int) -> int:
    return min(workers(spec, threads), numba_launch.max_threads())

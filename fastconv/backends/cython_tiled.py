"""The shifted product in C, compiled once per instruction set and chosen when it loads.

The adapter lowers the layer, cuts it into tasks and packs the weights; `kernels/shifted.h` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.arena import Arena
from fastconv.backends.direct import sequential_bound
from fastconv.kernels import _compiled
from fastconv.lowering import Axis, Lowered, choose_tile, lower
from fastconv.spec import ConvSpec, Epilogue, Problem


@dataclass(frozen=True, slots=True)
class Weights:
    """What `prepare` makes: packed weights, or the caller's own, for one instruction set."""

    isa: str
    w: np.ndarray | None
    packed: np.ndarray | None
    bias: np.ndarray | None


def algorithm(spec: ConvSpec) -> str:
    return "shifted product"


def workspace_bytes(problem: Problem, threads: int) -> int:
    return threads * int(_layer(problem.spec, problem.epilogue, _compiled.isa(), threads).scratch_bytes)


def error_bound(problem: Problem) -> float:
    spec = problem.spec
    icg, block = spec.ic // spec.g, channel_block(spec.taps)
    return sequential_bound(spec, min(icg, block) * spec.taps + -(-icg // block))


def channel_block(taps: int) -> int:
    """Channels that are summed from zero before they are added: part of the algorithm, the same everywhere."""
    return tuning.CHANNEL_BLOCK_POINT if taps == 1 else tuning.CHANNEL_BLOCK


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Weights:
    w, bias = constants
    isa = _compiled.isa()
    bias = None if bias is None else np.ascontiguousarray(bias)
    if borrow and not any(stride % w.itemsize for stride in w.strides):
        return Weights(isa, w, None, bias)
    rows = _compiled.register_rows(isa, max(spec.oc // spec.g, 1))
    return Weights(isa, None, pack(w, spec.g, rows, channel_block(spec.taps)), bias)


def pack(w: np.ndarray, g: int, rows: int, channels: int) -> np.ndarray:
    """Weights (oc, icg, ...) as [g][channel block][row block][tap][channel][row], flat.

    Row blocks are ``rows`` high; the last one ends with the last row and overlaps the one before it.
    """
    oc, icg = w.shape[:2]
    ocg = oc // g
    by_tap = w.reshape(g, ocg, icg, -1)
    starts = np.minimum(np.arange(0, ocg, rows), max(ocg - rows, 0))
    blocks = by_tap[:, starts[:, None] + np.arange(min(rows, ocg))]  # (g, block, row, channel, tap)
    ordered = blocks.transpose(0, 1, 4, 3, 2)
    parts = [ordered[:, :, :, c : c + channels].reshape(g, -1) for c in range(0, icg, channels)]
    return np.concatenate(parts, axis=1).ravel() if parts else np.empty(0, w.dtype)


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,) = operands
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads)
    item = x.itemsize
    in_place = lower(problem.spec).dense and x.strides[4] == item and not any(s % item for s in x.strides)
    with scratch.borrow(threads * layer.scratch_bytes) as buffer:
        layer.run(x, out, residual, state.bias, state.packed, state.w, in_place, threads, buffer)


@lru_cache(maxsize=256)
def _layer(spec: ConvSpec, epilogue: Epilogue, isa: str, threads: int) -> _compiled.Layer:
    """The layer in C: geometry and tasks, no weights."""
    low, item = lower(spec), np.dtype(spec.dtype).itemsize
    channels = channel_block(spec.taps)
    rows = _compiled.register_rows(isa, max(low.ocg, 1))
    pixels = tuning.STRIP_BYTES // (item * min(channels, max(low.icg, 1)))
    tile = choose_tile(low, pixels, threads, rows)
    return _compiled.Layer(
        isa, item, sizes(low), tuple(map(axis_tables, low.axes)), (tile.rows, tile.cols, tile.oc_step), channels, rows,
        epilogue.activation, epilogue.parameter,
    )  # fmt: skip


def sizes(low: Lowered) -> tuple[int, int, int, int]:
    return low.n, low.g, low.icg, low.ocg


def axis_tables(axis: Axis) -> tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """An axis as `_compiled.Layer` takes it."""
    tables = (np.array(t, np.int64) for t in (axis.phases, axis.tap_phase, axis.tap_offset))
    return axis.out, axis.stride, axis.source, *tables

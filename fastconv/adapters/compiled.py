"""What the backends on the compiled kernels share: prepared weights, and a lowered layer handed over to C."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import Blocks
from fastconv.kernels import _compiled
from fastconv.lowering import Axis, Lowered, Tile
from fastconv.spec import Epilogue, Problem


@dataclass(frozen=True, slots=True)
class Weights:
    """What `prepare` makes, for one instruction set: packed weights, the plain ones where the kernel reads them.

    ``finite``: all of them are known to be finite, so that a padding of zeros adds nothing.
    """

    isa: str
    w: np.ndarray | None
    packed: np.ndarray | None
    bias: np.ndarray | None
    finite: bool


def make_layer(
    low: Lowered, dtype: str, epilogue: Epilogue, isa: str, tile: Tile, ic_block: int, held: int, kind: str,
    blocks: Blocks, room: int = 0, winograd: tuple[tuple[int, int, int, np.ndarray, np.ndarray], ...] | None = None,
) -> _compiled.Layer:  # fmt: skip
    """A layer in C: geometry, tasks and blocks; no weights. ``room``: bytes for what a call packs of plain ones."""
    item, pixels = np.dtype(dtype).itemsize, low.d.out * low.h.out * low.w.out
    stream = low.n * low.g * low.ocg * pixels * item >= tuning.STREAM_BYTES
    return _compiled.Layer(
        isa, item, (low.n, low.g, low.icg, low.ocg), tuple(map(_tables, low.axes)),
        astuple(tile), ic_block, held, kind, (blocks.rows, blocks.lanes, blocks.unit), room, stream, low.dense,
        epilogue.activation, epilogue.parameter, winograd,
    )  # fmt: skip


Shapes = tuple[tuple[int, ...], ...]
Axes = tuple[tuple[int, ...], ...]


def bound(
    layer: _compiled.Layer, state: Weights, problem: Problem, shapes: Shapes, axes: Axes, threads: int
) -> _compiled.Bound:  # fmt: skip
    """A layer with its weights, if there are any, for arrays of one shape."""
    dtype = np.dtype(problem.spec.dtype)
    return _compiled.Bound(layer, shapes, axes, state.packed, state.w, state.bias, state.finite, dtype, threads)


def _tables(axis: Axis) -> tuple[int, int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    phases, tap_phase, tap_offset = (np.array(t, np.int64) for t in (axis.phases, axis.tap_phase, axis.tap_offset))
    return axis.out, axis.stride, axis.before, axis.source, phases, tap_phase, tap_offset

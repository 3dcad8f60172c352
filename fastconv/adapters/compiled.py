"""What the backends on the compiled kernels share: packed weights, and a lowered layer handed over to C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastconv.kernels import _compiled
from fastconv.lowering import Axis, Lowered, choose_tile
from fastconv.spec import Epilogue


@dataclass(frozen=True, slots=True)
class Weights:
    """What `prepare` makes, for one instruction set: packed weights, the plain ones where the kernel reads them."""

    isa: str
    w: np.ndarray | None
    packed: np.ndarray | None
    bias: np.ndarray | None


def make_layer(
    low: Lowered, dtype: str, epilogue: Epilogue, isa: str, threads: int, pixels: int, channels: int,
    winograd: tuple[int, int, int, np.ndarray, np.ndarray] | None = None,
) -> _compiled.Layer:  # fmt: skip
    """A layer in C: geometry and tasks of at most ``pixels`` packed pixels a channel; no weights."""
    rows = _compiled.register_rows(isa, max(low.ocg, 1))
    tile = choose_tile(low, pixels, threads, rows)
    return _compiled.Layer(
        isa, np.dtype(dtype).itemsize, (low.n, low.g, low.icg, low.ocg), tuple(map(_tables, low.axes)),
        (tile.rows, tile.cols, tile.oc_step), channels, rows, epilogue.activation, epilogue.parameter, winograd,
    )  # fmt: skip


def _tables(axis: Axis) -> tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    phases, tap_phase, tap_offset = (np.array(t, np.int64) for t in (axis.phases, axis.tap_phase, axis.tap_offset))
    return axis.out, axis.stride, axis.source, phases, tap_phase, tap_offset

"""The shifted product in C, compiled once per instruction set and chosen when it loads.

The adapter packs the weights and hands the lowered layer over; `kernels/shifted.h` does the rest.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters.compiled import Weights, make_layer
from fastconv.adapters.direct import pack, sequential_bound, workers
from fastconv.arena import Arena
from fastconv.kernels import _compiled
from fastconv.lowering import lower
from fastconv.spec import ConvSpec, Epilogue, Problem


def algorithm(spec: ConvSpec) -> str:
    return "shifted product"


def workspace_bytes(problem: Problem, threads: int) -> int:
    threads = workers(problem.spec, threads)
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
    if borrow:
        return Weights(isa, w, None, bias)
    rows = _compiled.register_rows(isa, max(spec.oc // spec.g, 1))
    return Weights(isa, None, pack(w, spec.g, rows, channel_block(spec.taps)), bias)


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), threads = operands, workers(problem.spec, threads)
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads)
    in_place = lower(problem.spec).dense and x.strides[4] == x.itemsize
    with scratch.borrow(threads * layer.scratch_bytes) as buffer:
        layer.run(x, out, residual, state.bias, state.packed, state.w, in_place, threads, buffer)


@lru_cache(maxsize=256)
def _layer(spec: ConvSpec, epilogue: Epilogue, isa: str, threads: int) -> _compiled.Layer:
    low, channels = lower(spec), channel_block(spec.taps)
    item = np.dtype(spec.dtype).itemsize
    pixels = tuning.STRIP_BYTES // (item * min(channels, max(low.icg, 1)))
    return make_layer(low, spec.dtype, epilogue, isa, threads, pixels, channels)

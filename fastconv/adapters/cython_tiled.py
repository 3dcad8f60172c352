"""The shifted product in C, compiled once per instruction set and chosen when it loads.

The adapter packs the weights, chooses what the lanes of a vector are, and hands the lowered layer over;
`kernels/pixels.h` and `kernels/channels.h` do the rest.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters.compiled import Axes, Blocks, Shapes, Weights, bound, make_layer
from fastconv.adapters.direct import sequential_bound, workers
from fastconv.arena import Arena, aligned
from fastconv.arrays import all_finite
from fastconv.caches import l2_bytes
from fastconv.kernels import _compiled
from fastconv.lowering import Lowered, choose_tile, lower, strip_pixels
from fastconv.spec import ConvSpec, Epilogue, Problem


def algorithm(spec: ConvSpec) -> str:
    return "shifted product"


def workspace_bytes(problem: Problem, threads: int) -> int:
    """The larger of what a plan and what a single call takes."""
    threads = workers(problem.spec, threads)
    layers = (_layer(problem.spec, problem.epilogue, _compiled.isa(), threads, borrow) for borrow in (False, True))
    return threads * max(int(layer.scratch_bytes) for layer in layers)


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
        return Weights(isa, w, None, bias, False)
    blocks = _blocks(spec.oc // spec.g, isa, w.itemsize, borrow)
    packed = pack(w, spec.g, blocks, channel_block(spec.taps))
    return Weights(isa, None, packed, bias, all_finite(packed))


def pack(w: np.ndarray, g: int, blocks: Blocks, channels: int) -> np.ndarray:
    """Weights (oc, icg, ...) as [g][oc block][channel block][tap][channel][lane], flat, on a cache line.

    Depends on neither batch nor image: plans for other sizes share it.
    """
    ocg, icg = w.shape[0] // g, w.shape[1]
    split = w.reshape(g, ocg, icg, math.prod(w.shape[2:]))
    widths = blocks.widths(ocg)
    result = aligned(g * sum(widths) * icg * split.shape[3] * w.itemsize).view(w.dtype).reshape(g, -1)
    done = first = 0
    for width in widths:
        block = split[:, first : first + width].transpose(0, 3, 2, 1)  # (g, tap, channel, lane)
        for c in range(0, icg, channels):
            part = block[:, :, c : c + channels]
            size = part.shape[1] * part.shape[2] * width
            to = result[:, done : done + size].reshape(*part.shape[:3], width)
            to[..., : part.shape[3]] = part
            to[..., part.shape[3] :] = 0
            done += size
        first += width
    return result.ravel()


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), threads = operands, workers(problem.spec, threads)
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads, state.packed is None)
    in_place = lower(problem.spec).dense and x.strides[4] == x.itemsize
    layer.run(x, out, residual, state.bias, state.packed, state.w, state.finite, in_place, threads)


def quick(
    state: Weights, problem: Problem, shapes: Shapes, axes: Axes, threads: int
) -> _compiled.Bound:  # fmt: skip
    threads = workers(problem.spec, threads)
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads, False)
    return bound(layer, state, problem, shapes, axes, lower(problem.spec).dense, threads)


@lru_cache(maxsize=256)
def _layer(spec: ConvSpec, epilogue: Epilogue, isa: str, threads: int, borrow: bool) -> _compiled.Layer:
    low, block = lower(spec), channel_block(spec.taps)
    item = np.dtype(spec.dtype).itemsize
    blocks = _blocks(low.ocg, isa, item, borrow)
    kind = _lanes(low, blocks, isa, item, spec.channels_last, borrow, block)
    held = min(low.icg, block)
    pixels = strip_bytes() // (item * max(held, 1))
    if kind == "depthwise":
        tile = choose_tile(low, strip_bytes() // item, threads, low.ocg, _compiled.vector_lanes(isa, item), bands=True)
        tasks = low.n * low.g * low.d.out * -(-low.h.out // tile.rows) * -(-low.w.out // tile.cols)
        groups = min(low.g, max(tasks // (tuning.DEPTHWISE_TASKS * threads), 1))
        tile = replace(tile, groups=groups)
    elif kind == "pixels":
        tile = choose_tile(low, pixels, threads, blocks.rows, _compiled.vector_lanes(isa, item), bands=True)
    else:
        if _halo(low, isa, tuning.TILES_HELD) * low.icg * item <= strip_bytes():
            held, pixels = low.icg, strip_bytes() // (item * max(low.icg, 1))
        tile = choose_tile(low, pixels, threads, blocks.lanes, bands=True)
    return make_layer(low, spec.dtype, epilogue, isa, tile, block, held, kind, blocks, borrow)


def _halo(low: Lowered, isa: str, tiles: int = 1) -> int:
    """Pixels of one channel that register tiles with channels in the lanes read, side by side in one row."""
    return strip_pixels(low, 1, min(tiles * _compiled.tile_pixels(isa), max(low.w.out, 1)), bands=True)


def strip_bytes() -> int:
    """Bytes of the packed input of a task."""
    return min(int(l2_bytes() * tuning.STRIP_SHARE), tuning.MOST_STRIP_BYTES)


def _blocks(ocg: int, isa: str, item: int, borrow: bool) -> Blocks:
    """The register block that wastes least, and blocks of packed weights that both kinds of kernels read."""
    vector, most = _compiled.vector_lanes(isa, item), _compiled.register_rows(isa, tuning.MOST_ROWS)
    ocg = max(ocg, 1)
    few = ocg <= min(most, vector)
    fitting = [r for r in tuning.ROWS if r <= min(most, ocg if borrow else tuning.MOST_ROWS if few else vector)]
    rows = min(fitting, key=lambda r: -(-ocg // r) * r / tuning.ROWS[r])
    unit = -(-ocg // rows) * rows if few else vector
    return Blocks(rows, unit if few else 2 * vector, unit)


def _lanes(low: Lowered, blocks: Blocks, isa: str, item: int, channels_last: bool, borrow: bool, block: int) -> str:
    """'depthwise' for single channels; else 'pixels' or 'channels', whichever the geometry makes cheaper.

    The same for every batch and number of threads.
    In cycles of one multiply-add each on a whole vector: what the registers compute, edges included, and what storing
    the results takes.
    """
    vector, most = _compiled.vector_lanes(isa, item), _compiled.tile_pixels(isa)
    ocg, rows, cols, terms = max(low.ocg, 1), low.h.out, low.w.out, low.icg * low.taps
    least = _halo(low, isa) * min(low.icg, block)
    weights = min(low.icg, block) * low.taps * blocks.lanes
    if low.icg == 1 and ocg <= tuning.DEPTHWISE_OUTPUTS:
        return "depthwise"
    if blocks.unit < vector or least * item > strip_bytes() or borrow * weights * item > strip_bytes():
        return "pixels"
    width = cols if low.dense else cols + low.w.reach
    runs = min(rows * -(-cols // vector), -(-((rows - 1) * width + cols) // vector))
    products = runs * -(-ocg // blocks.rows) * blocks.rows
    speed = tuning.ROWS[blocks.rows] * (tuning.STRIDED_ROWS if borrow else 1)
    pixels = products * (terms / speed + (tuning.STORE_STRIDED * vector if channels_last else tuning.STORE_VECTOR))
    vectors = -(-ocg // vector)
    per_tile = min(most, rows * cols if width == cols and not low.h.reach else cols * (1 + (2 * cols <= most)))
    speed = min(1.0, per_tile * min(vectors, 2) / tuning.LEAST_SUMS)
    store = tuning.STORE_VECTOR if channels_last else tuning.STORE_TRANSPOSED
    repacked = tuning.PACK_WEIGHTS * terms * vector * borrow
    inside = math.prod(axis.inside for axis in low.axes)
    channels = vectors * (rows * cols * (terms * inside / speed + store) + repacked)
    return "channels" if channels < pixels else "pixels"

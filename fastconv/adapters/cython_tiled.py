"""The shifted product in C, compiled once per instruction set and chosen when it loads.

The adapter packs the weights, chooses what the lanes of a vector are, and hands the lowered layer over;
`kernels/pixels.h` and `kernels/channels.h` do the rest.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import (
    Blocks,
    blocked_bound,
    blocked_typical,
    channel_block,
    choose_blocks,
    choose_lanes,
    held_channels,
    pack,
    strip_bytes,
)
from fastconv.adapters.compiled import Axes, Shapes, Weights, bound, make_layer
from fastconv.adapters.direct import workers
from fastconv.arena import Arena
from fastconv.arrays import all_finite
from fastconv.kernels import _compiled
from fastconv.lowering import Lowered, Tile, choose_tile, lower
from fastconv.spec import ConvSpec, Epilogue, Problem


def algorithm(spec: ConvSpec) -> str:
    return "shifted product"


def workspace_bytes(problem: Problem, threads: int) -> int:
    """The larger of what a plan and what a single call takes."""
    threads = workers(problem.spec, threads)
    layers = (_layer(problem.spec, problem.epilogue, _compiled.isa(), threads, borrow) for borrow in (False, True))
    return max(threads * int(layer.scratch_bytes) + int(layer.room) for layer in layers)


def error_bound(problem: Problem) -> float:
    return blocked_bound(problem.spec)


def error_typical(problem: Problem) -> float:
    return blocked_typical(problem.spec)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Weights:
    w, bias = constants
    isa = _compiled.isa()
    bias = None if bias is None else np.ascontiguousarray(bias)
    if borrow:
        return Weights(isa, w, None, bias, False)
    blocks = _blocks(spec, isa)
    packed = pack(w, spec.g, blocks, channel_block(spec.taps))
    return Weights(isa, None, packed, bias, all_finite(packed))


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), threads = operands, workers(problem.spec, threads)
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads, state.packed is None)
    layer.run(x, out, residual, state.bias, state.packed, state.w, state.finite, threads)


def quick(
    state: Weights, problem: Problem, shapes: Shapes, axes: Axes, threads: int
) -> _compiled.Bound:  # fmt: skip
    threads = workers(problem.spec, threads)
    layer = _layer(problem.spec, problem.epilogue, state.isa, threads, state.packed is None)
    return bound(layer, state, problem, shapes, axes, threads)


def again(problem: Problem, shapes: Shapes, axes: Axes, threads: int) -> _compiled.Bound:
    """The same for single calls, each with weights of its own."""
    return quick(Weights(_compiled.isa(), None, None, None, False), problem, shapes, axes, threads)


@lru_cache(maxsize=256)
def _layer(spec: ConvSpec, epilogue: Epilogue, isa: str, threads: int, borrow: bool) -> _compiled.Layer:
    low, block = lower(spec), channel_block(spec.taps)
    item = np.dtype(spec.dtype).itemsize
    blocks = _blocks(spec, isa)
    kind = _lanes(spec, low, blocks, isa, item)
    room, part = _room(low, blocks, item, threads) if borrow and kind != "depthwise" else (0, low.ocg)
    cut = replace(low, ocg=part)
    held = min(low.icg, block)
    pixels = strip_bytes() // (item * max(held, 1))
    if kind == "depthwise":
        tile = _depthwise_tile(spec, low, isa, item, threads)
    elif kind == "pixels":
        tile = choose_tile(cut, pixels, threads, blocks.rows, _compiled.vector_lanes(isa, item), bands=True)
    else:
        held = held_channels(low, _compiled.tile_pixels(isa), item, block)
        for share in (tuning.STRIP_SHARE, tuning.FEW_PIXELS_SHARE):
            tile = choose_tile(cut, strip_bytes(share) // (item * max(held, 1)), threads, blocks.lanes, bands=True)
            if tile.rows * tile.cols >= tuning.FEW_PIXELS:
                break
    return make_layer(low, spec.dtype, epilogue, isa, tile, block, held, kind, blocks, room)


def _depthwise_tile(spec: ConvSpec, low: Lowered, isa: str, item: int, threads: int) -> Tile:
    """Some tasks for each thread: groups, or where these follow each other in memory, first of all rows."""
    images, vector = max(low.n * low.d.out, 1), _compiled.vector_lanes(isa, item)
    tile = choose_tile(low, strip_bytes() // item, threads, max(low.ocg, 1), vector, bands=True)
    if spec.channels_last and low.g > 1 and _windows(low, isa):
        wanted = tuning.DEPTHWISE_LAST_TASKS * threads
        across = max(min(low.g * item // tuning.DEPTHWISE_BYTES, wanted // images), 1)
        groups = -(-low.g // (across * vector)) * vector
        rows = -(-low.h.out * images * -(-low.g // groups) // wanted)
        return replace(tile, rows=min(max(rows, tuning.DEPTHWISE_ROWS), tile.rows), groups=groups)
    wanted = tuning.DEPTHWISE_TASKS * threads
    tasks = images * low.g * -(-low.h.out // tile.rows) * -(-low.w.out // tile.cols)
    groups = max(tasks // wanted, 1)
    return replace(tile, groups=min(low.g, -(-groups // vector) * vector))


def _room(low: Lowered, blocks: Blocks, item: int, threads: int) -> tuple[int, int]:
    """Bytes for the weights that a single call packs at a time, and of how many output channels of a group these are.

    As many as PACK_BYTES hold for each thread, but a block of them at least, or where that is more, a unit (which may
    be more, too: 16 outputs of 4096 channels 3x3 are 2.4 MB).
    """
    channel, most = low.icg * low.taps * item, threads * tuning.PACK_BYTES
    whole, unit = sum(blocks.widths(low.ocg)), blocks.lanes if blocks.lanes * channel <= most else blocks.unit
    most = max(most, unit * channel)
    room = min(low.g * whole * channel, most)
    together = unit * (threads if unit * threads * channel <= most else 1)
    return room, low.ocg if whole * channel <= room else most // (channel * together) * together


def _blocks(spec: ConvSpec, isa: str) -> Blocks:
    lanes = _compiled.vector_lanes(isa, np.dtype(spec.dtype).itemsize)
    return choose_blocks(spec, lanes, _compiled.tile_pixels(isa), borrow=False)


def _windows(low: Lowered, isa: str) -> bool:
    """Whether there is a kernel that reads the windows of one channel where they lie."""
    h, w = low.h, low.w
    square = (h.taps, h.stride, h.extent) == (w.taps, w.stride, w.extent)
    dense = low.d.taps == 1 and h.extent == h.taps and w.before >= 0
    return square and dense and _compiled.has_windows(isa, h.taps, h.stride)


def _lanes(spec: ConvSpec, low: Lowered, blocks: Blocks, isa: str, item: int) -> str:
    """'depthwise' for single channels; else 'pixels' or 'channels', see `choose_lanes`."""
    vector, most = _compiled.vector_lanes(isa, item), _compiled.tile_pixels(isa)
    outputs, pixels = tuning.WINDOW_MOST.get(most, (low.ocg, 0))
    many = low.ocg > outputs and low.h.out * low.w.out >= pixels
    read = not (spec.channels_last or many) and _windows(low, isa)
    if low.icg == 1 and (read or low.ocg <= tuning.DEPTHWISE_OUTPUTS):
        return "depthwise"
    return choose_lanes(spec, low, blocks, vector, most, item, in_place=True)

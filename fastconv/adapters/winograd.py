"""Winograd's F(2,3) and F(4,3) for 3x3 kernels: 16 products for 4 outputs, or 36 for 16, instead of 36 and 144.

Weights are transformed in float64 when they are prepared; the rest is `kernels/winograd.h`. Tiles in which
the transforms meet or make Inf or NaN are summed directly, so the result has direct convolution's
non-finite elements and no others.
"""

from __future__ import annotations

import itertools
import math
from functools import cache, lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import Blocks, pack
from fastconv.adapters.compiled import Axes, Shapes, Weights, bound, make_layer
from fastconv.adapters.direct import sequential_bound, workers
from fastconv.arena import Arena
from fastconv.kernels import _compiled
from fastconv.kernels.winograd_matrices import matrices
from fastconv.lowering import Lowered, Tile, lower_winograd, parts, slowest
from fastconv.spec import ConvSpec, Problem

_TILES = {"F(2,3)": 2, "F(4,3)": 4}


def algorithm(spec: ConvSpec) -> str:
    """The tile with the fewer products, tiles that hang over the edge included, and weights to load."""
    weights = np.dtype(spec.dtype).itemsize * spec.oc * (spec.ic // spec.g) * 36
    load = tuning.WINOGRAD_FAR if weights > tuning.WINOGRAD_NEAR_BYTES else tuning.WINOGRAD_NEAR

    def time(name: str) -> int:
        m = _TILES[name]
        return (math.prod(-(-size // m) for size in spec.output_size) + load) * (m + 2) ** 2

    return min(_TILES, key=time)


def workspace_bytes(problem: Problem, threads: int) -> int:
    threads = workers(problem.spec, threads)
    return threads * int(_layer(problem, _compiled.isa(), threads).scratch_bytes)


def error_bound(problem: Problem) -> float:
    """Roundings on the longest path times the growth that the transforms allow.

    For one axis, output i is ``sum_e A[i,e] (G w)[e] (B^T d)[e]``: with ``|(G w)[e]| <= max|G[e]| sum|w|`` and
    ``|(B^T d)[e]| <= sum|B^T[e]| max|d|`` the sum of magnitudes is at most ``growth``; two axes multiply.
    """
    spec, m = problem.spec, _TILES[problem.algorithm]
    at, g, bt = (np.abs(matrix) for matrix in _floats(m))
    growth = (at @ (g.max(axis=1) * bt.sum(axis=1))).max() ** 2
    icg, block = spec.ic // spec.g, tuning.CHANNEL_BLOCK
    # Four passes of transforms, each with its rounded matrix; weights transformed in float64, which for float64 data
    # is no better than the data.
    roundings = 4 * (m + 3) + (12 if spec.dtype == "float64" else 1) + min(icg, block) + -(-icg // block)
    return float(growth) * sequential_bound(spec, roundings)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Weights:
    """Transformed and packed weights, [g][oc block][element][channel][lane], and the plain ones."""
    w, bias = constants
    isa = _compiled.isa()
    w = w if borrow else w.copy()
    _, g, _ = _floats(_TILES[algorithm(spec)])
    lanes = _compiled.vector_lanes(isa, w.itemsize)
    channels = -(-w.shape[1] // lanes) * lanes  # of whole vectors, the last with zeros
    both = np.kron(g, g).T  # (9, elements): both axes in one matrix product
    transformed = np.zeros((spec.oc, channels, len(g) ** 2), w.dtype)
    with np.errstate(over="ignore"):  # an Inf here makes its tiles non-finite, and those are summed directly
        transformed[:, : w.shape[1]] = (w.reshape(-1, 9).astype(np.float64) @ both).reshape(*w.shape[:2], len(both[0]))
    packed = pack(transformed, spec.g, _blocks(isa, w.itemsize), max(channels, 1))
    bias = None if bias is None else np.ascontiguousarray(bias)
    return Weights(isa, w, packed, bias, True)


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), threads = operands, workers(problem.spec, threads)
    layer = _layer(problem, state.isa, threads)
    layer.run(x, out, residual, state.bias, state.packed, state.w, state.finite, False, threads)


def quick(state: Weights, problem: Problem, shapes: Shapes, axes: Axes, threads: int) -> _compiled.Bound:
    threads = workers(problem.spec, threads)
    return bound(_layer(problem, state.isa, threads), state, problem, shapes, axes, False, threads)


@lru_cache(maxsize=256)
def _layer(problem: Problem, isa: str, threads: int) -> _compiled.Layer:
    spec, m = problem.spec, _TILES[problem.algorithm]
    low, item = lower_winograd(spec, m), np.dtype(spec.dtype).itemsize
    out_h, out_w = spec.output_size
    at, _, bt = (np.ascontiguousarray(matrix, spec.dtype) for matrix in _floats(m))
    blocks = _blocks(isa, item)
    each = item * (m + 2) ** 2 * (low.icg + blocks.lanes)  # bytes of a tile: transformed, and one block's products
    tile = _choose_tile(low, max(tuning.WINOGRAD_BYTES // each, tuning.WINOGRAD_TILES), threads, blocks.lanes)
    return make_layer(low, spec.dtype, problem.epilogue, isa, tile, tuning.CHANNEL_BLOCK, 0, "channels", blocks, False,
                      (m, out_h, out_w, bt, at))  # fmt: skip


def _choose_tile(low: Lowered, most: int, threads: int, unit: int) -> Tile:
    """Tasks of at most ``most`` tiles with which all threads are done at about the same time.

    As `fastconv.lowering.choose_tile`, in multiply-adds for one element of the tiles: products, both transforms, and
    loading weights. The order of summation does not depend on the cut.
    """
    height, width, ocg = max(low.h.out, 1), max(low.w.out, 1), max(low.ocg, 1)
    outer, best, least = max(low.n * low.g, 1), Tile(1, 1, ocg), math.inf
    for cols, rows, part in itertools.product(parts(width, threads), parts(height, threads), parts(ocg, threads)):
        step = -(-part // unit) * unit
        if rows * cols > most:
            continue
        work: float = rows * cols * (low.icg * step + tuning.WINOGRAD_INPUT * low.icg + tuning.WINOGRAD_OUTPUT * step)
        work += tuning.LOAD_WEIGHT * low.icg * step
        whole = outer * (height // rows) * (width // cols) * max(ocg // step, 1)  # tasks of full size
        count = outer * -(-height // rows) * -(-width // cols) * -(-ocg // step)
        mean = work * outer * height * width * ocg / (rows * cols * step * count)
        time = slowest(threads, whole, work, count, mean)
        if time < least * 0.999:
            best, least = Tile(rows, cols, step), time
    return best


def _blocks(isa: str, item: int) -> Blocks:
    vector = _compiled.vector_lanes(isa, item)
    return Blocks(1, 2 * vector, vector)


@cache
def _floats(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G and B^T of F(m, 3) in float64."""
    at, g, bt = (np.array([[float(v) for v in row] for row in matrix]) for matrix in matrices(m))
    return at, g, bt

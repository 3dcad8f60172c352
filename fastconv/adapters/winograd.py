"""Winograd's F(2,3) and F(4,3) for 3x3 kernels: 16 products for 4 outputs, or 36 for 16, instead of 36 and 144.

Weights are transformed in float64 when they are prepared; the rest is `kernels/winograd.h`. Tiles in which
the transforms meet or make Inf or NaN are summed directly, so the result has direct convolution's
non-finite elements and no others.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import Blocks
from fastconv.adapters.compiled import Axes, Shapes, Weights, bound, make_layer
from fastconv.adapters.direct import row_blocks, sequential_bound, workers
from fastconv.arena import Arena
from fastconv.kernels import _compiled
from fastconv.kernels.winograd_matrices import matrices
from fastconv.lowering import choose_tile, lower_winograd
from fastconv.spec import ConvSpec, Problem

_TILES = {"F(2,3)": 2, "F(4,3)": 4}


def algorithm(spec: ConvSpec) -> str:
    """The tile with the fewer products, tiles that hang over the edge and pitch included."""

    def products(name: str) -> int:
        low = lower_winograd(spec, _TILES[name])
        return low.h.out * (low.w.out + low.w.reach) * (_TILES[name] + 2) ** 2

    return min(_TILES, key=products)


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
    """Transformed and packed weights, [g][element][row block][channel][row], and the plain ones."""
    w, bias = constants
    isa = _compiled.isa()
    w = w if borrow else w.copy()
    _, g, _ = _floats(_TILES[algorithm(spec)])
    ocg = spec.oc // spec.g
    blocks = row_blocks(ocg, _compiled.register_rows(isa, max(ocg, 1)))
    both = np.kron(g, g).T  # (9, elements): both axes in one matrix product
    elements = (w.reshape(-1, 9).astype(np.float64) @ both).reshape(spec.g, ocg, w.shape[1], len(g) ** 2)
    with np.errstate(over="ignore"):  # an Inf here makes its tiles non-finite, and those are summed directly
        transformed = elements.astype(w.dtype)
    packed = np.ascontiguousarray(transformed[:, blocks].transpose(0, 4, 1, 3, 2))
    bias = None if bias is None else np.ascontiguousarray(bias)
    return Weights(isa, w, packed.ravel(), bias, True)


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
    transformed = tuning.WINOGRAD_BYTES // (item * max(low.icg, 1) * (m + 2) ** 2)  # tiles whose transform fits
    out_h, out_w = spec.output_size
    at, _, bt = (np.ascontiguousarray(matrix, spec.dtype) for matrix in _floats(m))
    rows = _compiled.register_rows(isa, max(low.ocg, 1))
    tile = choose_tile(low, transformed * m * m, threads, rows, bands=True)
    return make_layer(low, spec.dtype, problem.epilogue, isa, tile, tuning.CHANNEL_BLOCK, 0, "pixels",
                      Blocks(rows, rows, rows), False, (m, out_h, out_w, bt, at))  # fmt: skip


@cache
def _floats(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G and B^T of F(m, 3) in float64."""
    at, g, bt = (np.array([[float(v) for v in row] for row in matrix]) for matrix in matrices(m))
    return at, g, bt

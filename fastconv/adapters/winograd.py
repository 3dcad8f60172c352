"""Winograd's F(m, r) for kernels of 3 or 5 taps along one axis, and of 3 x 3: fewer products than taps.

Of F(4,3), 36 products make 16 outputs of a 3x3 kernel, which are 144 otherwise. Weights are transformed in float64 when
they are prepared; the rest is `kernels/winograd.h`. Tiles in which the transforms meet or make Inf or NaN are summed
directly, so the result has direct convolution's non-finite elements and no others. A dilated layer is computed phase
by phase: every d-th output, from every d-th input.
"""

from __future__ import annotations

import itertools
import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import Blocks, pack
from fastconv.adapters.compiled import Axes, Shapes, Weights, bound, make_layer
from fastconv.adapters.direct import roundoff, sequential_bound, walk, workers
from fastconv.arena import Arena
from fastconv.kernels import _compiled
from fastconv.kernels.winograd_matrices import matrices
from fastconv.lowering import Lowered, Tile, lower_winograd, parts, slowest
from fastconv.spec import ConvSpec, Problem

TILES = {"F(2,3)": (2, 3), "F(4,3)": (4, 3), "F(6,3)": (6, 3), "F(2,5)": (2, 5), "F(4,5)": (4, 5)}
"""Name -> (m, r): m outputs of r taps at a time."""


def algorithm(spec: ConvSpec) -> str:
    """The tile with the fewest products, tiles that hang over the edge included, and weights to load."""
    admitted = [name for name, (_, r) in TILES.items() if r == max(spec.kernel_size)]
    if spec.accuracy != "fast":
        channels = max(spec.ic // spec.g, 1)
        admitted = [name for name in admitted if channels >= tuning.WINOGRAD_HIGH.get(_figure(spec, name), math.inf)]
    weights = np.dtype(spec.dtype).itemsize * spec.oc * (spec.ic // spec.g) * max(elements(spec, n) for n in admitted)
    load = tuning.WINOGRAD_FAR if weights > tuning.WINOGRAD_NEAR_BYTES else tuning.WINOGRAD_NEAR

    def time(name: str) -> int:
        tiles = math.prod(-(-size // m) for size, m in zip(spec.output_size, outputs(spec, name), strict=True))
        return (tiles + load) * elements(spec, name)

    return min(admitted, key=time)


def outputs(spec: ConvSpec, name: str) -> tuple[int, ...]:
    """Outputs of a tile along every axis: 1 where the kernel is 1."""
    return tuple(TILES[name][0] if k > 1 else 1 for k in spec.kernel_size)


def _figure(spec: ConvSpec, name: str) -> tuple[str, int]:
    """By what `tuning` has the figures of a tile: its name, and how many axes it is for."""
    return name, sum(k > 1 for k in spec.kernel_size)


def elements(spec: ConvSpec, name: str) -> int:
    """Inputs of a tile, and products that it takes."""
    return math.prod(m + k - 1 for m, k in zip(outputs(spec, name), spec.kernel_size, strict=True))


def workspace_bytes(problem: Problem, threads: int) -> int:
    threads, isa = workers(problem.spec, threads), _compiled.isa()
    return threads * max(int(_layer(problem, isa, threads, phase).scratch_bytes) for phase in _phases(problem.spec))


def error_bound(problem: Problem) -> float:
    """Roundings on the longest path times the growth that the transforms allow.

    For one axis, output i is ``sum_e A[i,e] (G w)[e] (B^T d)[e]``: with ``|(G w)[e]| <= max|G[e]| sum|w|`` and
    ``|(B^T d)[e]| <= sum|B^T[e]| max|d|`` the sum of magnitudes is at most ``growth``; two axes multiply.
    """
    spec, growth, passes = problem.spec, 1.0, 0
    for m, k in zip(outputs(spec, problem.algorithm), spec.kernel_size, strict=True):
        at, g, bt = (np.abs(matrix) for matrix in _floats(m, k))
        growth *= float((at @ (g.max(axis=1) * bt.sum(axis=1))).max())
        passes += 2 * (m + k) if k > 1 else 0
    icg, block = spec.ic // spec.g, tuning.CHANNEL_BLOCK
    # Two passes of transforms an axis, each with its rounded matrix; weights transformed in float64, which for float64
    # data is no better than the data.
    roundings = passes + (12 if spec.dtype == "float64" else 1) + min(icg, block) + -(-icg // block)
    return growth * sequential_bound(spec, roundings)


def error_typical(problem: Problem) -> float:
    """What normal x and w lose: the transforms' errors of every channel, and those of the sums over channels."""
    spec = problem.spec
    icg, loss = max(spec.ic // spec.g, 1), tuning.LOSS_WINOGRAD[_figure(spec, problem.algorithm)]
    return loss * math.sqrt(1 / icg + walk(icg, tuning.CHANNEL_BLOCK) ** 2) * roundoff(spec.dtype)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Weights:
    """Transformed and packed weights, [g][oc block][element][channel][lane], and the plain ones."""
    w, bias = constants
    isa = _compiled.isa()
    w = w if borrow else w.copy()
    lanes = _compiled.vector_lanes(isa, w.itemsize)
    channels = -(-w.shape[1] // lanes) * lanes  # of whole vectors, the last with zeros
    both = np.ones((1, 1))  # (elements, taps): all axes in one matrix product
    for m, k in zip(outputs(spec, algorithm(spec)), spec.kernel_size, strict=True):
        both = np.kron(both, _floats(m, k)[1])
    transformed = np.zeros((spec.oc, channels, len(both)), w.dtype)
    with np.errstate(over="ignore"):  # an Inf here makes its tiles non-finite, and those are summed directly
        plain = w.reshape(-1, both.shape[1]).astype(np.float64)
        transformed[:, : w.shape[1]] = (plain @ both.T).reshape(*w.shape[:2], len(both))
    packed = pack(transformed, spec.g, _blocks(isa, w.itemsize), max(channels, 1))
    bias = None if bias is None else np.ascontiguousarray(bias)
    return Weights(isa, w, packed, bias, True)


def run(
    state: Weights, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    spec, (x,) = problem.spec, operands
    threads = workers(spec, threads)
    for phase in _phases(spec):
        part: Any = (..., *(slice(first, None, d) for first, d in zip(phase, spec.dilation, strict=True)))
        layer = _layer(problem, state.isa, threads, phase)
        added = None if residual is None else residual[part]
        layer.run(x, out[part], added, state.bias, state.packed, state.w, state.finite, threads)


def quick(state: Weights, problem: Problem, shapes: Shapes, axes: Axes, threads: int) -> _compiled.Bound | bool:
    threads, (first, *others) = workers(problem.spec, threads), _phases(problem.spec)
    if others:
        return False
    return bound(_layer(problem, state.isa, threads, first), state, problem, shapes, axes, threads)


def _phases(spec: ConvSpec) -> list[tuple[int, ...]]:
    """The first output of every phase of the dilation that has any."""
    sizes = zip(spec.dilation, spec.output_size, strict=True)
    return list(itertools.product(*(range(max(min(d, size), 1)) for d, size in sizes)))


@lru_cache(maxsize=256)
def _layer(problem: Problem, isa: str, threads: int, phase: tuple[int, ...]) -> _compiled.Layer:
    spec, item = problem.spec, np.dtype(problem.spec.dtype).itemsize
    tile = outputs(spec, problem.algorithm)
    low, transforms = lower_winograd(spec, tile, phase), []
    for axis, (m, k) in enumerate(zip(tile, spec.kernel_size, strict=True)):
        at, _, bt = (np.ascontiguousarray(matrix, spec.dtype) for matrix in _floats(m, k))
        count = len(range(phase[axis], spec.output_size[axis], spec.dilation[axis]))
        transforms.append((m, m + k - 1, count, bt, at))
    if spec.ndim == 1:
        transforms.insert(0, (1, 1, 1, np.ones((1, 1), spec.dtype), np.ones((1, 1), spec.dtype)))
    blocks = _blocks(isa, item)
    # Bytes of a tile: transformed, and the products of one block of output channels.
    each = item * elements(spec, problem.algorithm) * (low.icg + blocks.lanes)
    task = _choose_tile(low, max(tuning.WINOGRAD_BYTES // each, tuning.WINOGRAD_TILES), threads, blocks.lanes)
    return make_layer(low, spec.dtype, problem.epilogue, isa, task, tuning.CHANNEL_BLOCK, 0, "channels", blocks,
                      winograd=tuple(transforms))  # fmt: skip


def _choose_tile(low: Lowered, most: int, threads: int, unit: int) -> Tile:
    """Tasks of at most ``most`` tiles with which all threads are done at about the same time; small images together.

    As `fastconv.lowering.choose_tile`, in multiply-adds for one element of the tiles: products, both transforms, and
    loading weights. The order of summation does not depend on the cut.
    """
    height, width, ocg = max(low.h.out, 1), max(low.w.out, 1), max(low.ocg, 1)
    count, best, least = max(low.n, 1), Tile(1, 1, ocg), math.inf
    whole_images = [(images, height, width) for images in parts(count, threads) if images > 1]
    cuts = [(1, rows, cols) for cols in parts(width, threads) for rows in parts(height, threads)]
    for (images, rows, cols), part in itertools.product([*cuts, *whole_images], parts(ocg, threads)):
        step, tiles = -(-part // unit) * unit, images * rows * cols
        if tiles > most:
            continue
        work: float = tiles * (low.icg * step + tuning.WINOGRAD_INPUT * low.icg + tuning.WINOGRAD_OUTPUT * step)
        work += tuning.LOAD_WEIGHT * low.icg * step
        full = count // images * low.g * (height // rows) * (width // cols) * max(ocg // step, 1)
        tasks = -(-count // images) * low.g * -(-height // rows) * -(-width // cols) * -(-ocg // step)
        mean = work * count * low.g * height * width * ocg / (tiles * step * tasks)
        time = slowest(threads, full, work, tasks, mean)
        if time < least * 0.999:
            best, least = Tile(rows, cols, step, 1, images), time
    return best


def _blocks(isa: str, item: int) -> Blocks:
    vector = _compiled.vector_lanes(isa, item)
    return Blocks(1, 2 * vector, vector)


@cache
def _floats(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G and B^T of F(m, r) in float64."""
    at, g, bt = (np.array([[float(v) for v in row] for row in matrix]) for matrix in matrices(m, r))
    return at, g, bt

"""The shifted product, compiled on the spot by Numba: pixels in the lanes of vectors, weights broadcast.

`fastconv.kernels.shifted_numba` has the loops; here a layer becomes their job. The order of summation depends
on the layer and dtype alone, so that neither threads nor batch nor image size change a bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.adapters.blocks import Blocks, blocked_bound, blocked_typical, channel_block, choose_blocks, pack
from fastconv.adapters.direct import workers
from fastconv.adapters.numba_geometry import geometry
from fastconv.adapters.numba_tables import Ints, Layout
from fastconv.arena import Arena, arena
from fastconv.arrays import all_finite
from fastconv.kernels import numba_launch, shifted_numba, vector_ir
from fastconv.kernels.numba_launch import Shape
from fastconv.spec import ConvSpec, Epilogue, Problem


@dataclass(frozen=True, eq=False)
class State:
    """Weights as the kernel reads them: packed, or the caller's own with these strides in elements.

    ``finite``: all of them are known to be finite, so that a padding of zeros adds nothing.
    """

    shape: Shape
    weights: np.ndarray
    strides: Ints | None
    bias: np.ndarray | None
    finite: bool


@dataclass(frozen=True, eq=False, slots=True)
class Bound:
    """A job that lacks only the addresses of a call; ``kept`` owns what it points to."""

    tasks: int
    job: int
    fields: int
    scratch_bytes: int
    threads: int
    kept: tuple[Any, ...]

    def run(self, x: int, out: int, residual: int, scratch: Arena) -> None:
        buffer = scratch.take(self.scratch_bytes)
        try:
            start = buffer.__array_interface__["data"][0]
            numba_launch.pool.run(self.threads, self.tasks, self.job, self.fields, start, x, out, residual)
        finally:
            scratch.give(buffer)


@dataclass(frozen=True, eq=False, slots=True)
class Quick:
    """The quick way of a plan: takes contiguous arrays of its shapes; returns whether it did."""

    bound: Bound
    x_shape: Ints
    out_shape: Ints
    dtype: np.dtype

    def __call__(self, x: Any, out: Any) -> bool:
        found = _addresses(out, self.out_shape, [(x, self.x_shape)], self.dtype)
        if found:
            self.bound.run(found[1], found[0], 0, arena)
        return found is not None


@dataclass(frozen=True, eq=False, slots=True)
class Again:
    """The same for single calls, each with weights and bias of its own; ``bias_shape`` None: there is none."""

    bound: Bound
    job: np.ndarray
    x_shape: Ints
    out_shape: Ints
    w_shape: Ints
    bias_shape: Ints | None
    dtype: np.dtype

    def __call__(self, x: Any, out: Any, w: Any, bias: Any) -> bool:
        given = [(x, self.x_shape), (w, self.w_shape)]
        if self.bias_shape is not None:
            given.append((bias, self.bias_shape))
        found = _addresses(out, self.out_shape, given, self.dtype)
        if found:
            target, source, weights, *shift = found
            job, bound = self.job.copy(), self.bound
            job[shifted_numba.WEIGHTS] = weights
            job[shifted_numba.BIAS] = shift[0] if shift else 0
            start = job.__array_interface__["data"][0]
            own = Bound(bound.tasks, start, bound.fields, bound.scratch_bytes, bound.threads, (job,))
            own.run(source, target, 0, arena)
        return found is not None


def _addresses(out: Any, out_shape: Ints, given: list[tuple[Any, Ints]], dtype: np.dtype) -> list[int] | None:
    """Of ``out`` and the arrays given, if all have these shapes, contiguous and aligned, and ``out`` overlaps none."""
    found: list[int] = []
    for array, shape in ((out, out_shape), *given):
        if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
            return None
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned) or (array is out and not flags.writeable):
            return None
        start = array.__array_interface__["data"][0]  # quicker than ctypes.data
        if found and start < found[0] + out.nbytes and found[0] < start + array.nbytes:
            return None
        found.append(start)
    return found


def algorithm(spec: ConvSpec) -> str:
    return "shifted"


def error_bound(problem: Problem) -> float:
    return blocked_bound(problem.spec)


def error_typical(problem: Problem) -> float:
    return blocked_typical(problem.spec)


def workspace_bytes(problem: Problem, threads: int) -> int:
    """The larger of what a plan and what a single call takes, as if nothing could be read in place."""
    spec = problem.spec
    if not math.prod(spec.out_shape):
        return 0
    threads, plain = _workers(spec, threads), (1,) * 5
    return max(
        geometry(spec, block_shape(spec, borrow), threads, problem.max_workspace, layout).scratch_bytes
        for borrow, layout in ((False, Layout()), (True, Layout(weights=plain)))
    )


def block_shape(spec: ConvSpec, borrow: bool, vector_bytes: int | None = None) -> Shape:
    """The register blocks that waste least on the output channels of one group."""
    vector_bytes = vector_bytes or vector_ir.host_vector_bytes()
    item = np.dtype(spec.acc_dtype).itemsize
    wide = vector_bytes == 64 or "neon" in vector_ir.host_features()
    widest, vl = tuning.NUMBA_PANELS[32 if wide else 16], vector_bytes // item
    blocks = choose_blocks(spec, vl, 14 if wide else 6, borrow)
    lanes, unit = (0, 0) if borrow else (blocks.lanes, blocks.unit)
    return Shape(item, blocks.rows, widest[blocks.rows], vl, lanes, unit, wide)


def prepare(
    spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool, vector_bytes: int | None = None
) -> State:
    """``vector_bytes`` below the machine's own is for tests."""
    w, bias = constants
    shape = block_shape(spec, borrow, vector_bytes)
    bias = None if bias is None else np.ascontiguousarray(bias)
    if borrow:
        return State(shape, w, _strides(w), bias, False)
    packed = pack(w, spec.g, Blocks(shape.mr, shape.lanes, shape.unit), channel_block(spec.taps))
    return State(shape, packed, None, bias, all_finite(packed))


def run(
    state: State, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,) = operands
    added = None if residual is None else _strides(residual)
    bound = _bind(state, problem, _strides(x), _strides(out), added, threads)
    bound.run(x.ctypes.data, out.ctypes.data, _address(residual), scratch)


def quick(
    state: State, problem: Problem, shapes: tuple[Ints, Ints], axes: tuple[Ints, Ints], threads: int
) -> Quick:  # fmt: skip
    x, out = (_contiguous(shape, order) for shape, order in zip(shapes, axes, strict=True))
    bound = _bind(state, problem, x, out, None, threads)
    return Quick(bound, shapes[0], shapes[1], np.dtype(problem.spec.dtype))


def again(problem: Problem, shapes: tuple[Ints, ...], axes: tuple[Ints, ...], threads: int) -> Again:
    x, out, w = (_contiguous(shape, order) for shape, order in zip(shapes[:3], axes[:3], strict=True))
    none, bias_shape = np.empty(0, problem.spec.dtype), shapes[3] if len(shapes) > 3 else None
    state = State(block_shape(problem.spec, borrow=True), none, w, None, False)
    bound = _bind(state, problem, x, out, None, threads)
    return Again(bound, bound.kept[0], shapes[0], shapes[1], shapes[2], bias_shape, none.dtype)


def _bind(state: State, problem: Problem, x: Ints, out: Ints, residual: Ints | None, threads: int) -> Bound:
    """A job for arrays of these strides in elements."""
    spec, shape, threads = problem.spec, state.shape, _workers(problem.spec, threads)
    joined = all(s[3] == s[4] * spec.output_size[-1] for s in (out, residual or out))
    layout = Layout(x if x[4] == 1 else None, state.strides, state.finite, joined)
    plan = geometry(spec, shape, threads, problem.max_workspace, layout)
    part = plan.part
    kernels = (numba_launch.panels(shape, part.kernels) if part.loops == "multiply"
               else numba_launch.tiles(shape, part.kernels, spec.oc // spec.g))  # fmt: skip
    needed = {"run_tasks": True, "pack_strip": not part.fields["in_place"], part.loops: True,
              "finish": residual is not None or problem.epilogue.activation not in (None, "relu")}  # fmt: skip
    tasks, *functions = (numba_launch.loops(name, shape.item).address if need else 0 for name, need in needed.items())
    job = plan.job.copy()
    job[: len(shifted_numba.CALL)] = (
        *(0,) * 4, *x, 0, *out, 0, *(residual or (0,) * 5), _address(state.bias), *_activation(problem.epilogue),
        part.direct and out[4] == 1, state.weights.ctypes.data, kernels.ctypes.data, *functions,
    )  # fmt: skip
    return Bound(tasks, job.ctypes.data, job.size, plan.scratch_bytes, threads, (job, state, plan, kernels))


def _strides(array: np.ndarray) -> Ints:
    """In elements. An axis of one element may have any stride, and it is never taken."""
    return tuple(stride // array.itemsize for stride in array.strides)


def _contiguous(shape: Ints, axes: Ints) -> Ints:
    """Strides in elements of the axes (n, c, d, h, w) of a contiguous array, which has them in this order; -1: not."""
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return tuple(steps[axis] if axis >= 0 else 0 for axis in axes)


def _address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.ctypes.data


def _activation(epilogue: Epilogue) -> tuple[int, int]:
    """Number of the activation, and the bits of its parameter."""
    return shifted_numba.ACTIVATIONS.index(epilogue.activation), int(np.float64(epilogue.parameter).view(np.int64))


def _workers(spec: ConvSpec, threads: int) -> int:
    return min(workers(spec, threads), numba_launch.max_threads())

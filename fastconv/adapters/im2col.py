"""Gather the pixels under the kernel into columns, chunk by chunk, and let NumPy's BLAS multiply.

BLAS runs on its own threads, so ``threads`` is not heard; its order of summation is its own, so the
results are not reproducible to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import epilogue, tuning
from fastconv.adapters.direct import sequential_bound, typical_error
from fastconv.arena import Arena
from fastconv.lowering import Lowered, gather, lower, row_chunks
from fastconv.spec import ConvSpec, Problem


def algorithm(spec: ConvSpec) -> str:
    return "columns"


def workspace_bytes(problem: Problem, threads: int) -> int:
    """Columns, products, and pixels on their way, for one chunk; at least those of one output pixel."""
    pixels, per_pixel = _chunk(problem)
    return pixels * per_pixel + _fixed(problem)


def _fixed(problem: Problem) -> int:
    """Bytes that do not depend on the chunk: the epilogue's, or one chunk's share of the gradient to the weights."""
    spec = problem.spec
    if spec.op == "grad_weight":
        return math.prod(spec.w_shape) // spec.g * np.dtype(spec.acc_dtype).itemsize
    return epilogue.workspace_bytes(problem)


def _chunk(problem: Problem) -> tuple[int, int]:
    """Output pixels of one chunk, and the bytes that each takes."""
    spec = problem.spec
    copies = 2 if spec.padding_mode == "zeros" else 3  # the columns, the padded block, and an index's temporary
    per_pixel = (copies * (spec.ic // spec.g) * spec.taps + spec.oc // spec.g) * np.dtype(spec.acc_dtype).itemsize
    budget = tuning.IM2COL_BYTES
    if problem.max_workspace is not None:
        budget = problem.max_workspace - _fixed(problem)
    return min(max(budget // max(per_pixel, 1), 1), math.prod(spec.output_size)), per_pixel


def error_bound(problem: Problem) -> float:
    return sequential_bound(problem.spec)


def error_typical(problem: Problem) -> float:
    return typical_error(problem.spec, tuning.BLAS_BLOCK)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Any:
    w, bias = constants
    if spec.op == "grad_weight":  # the gradient to the output, as it lies
        return (w if borrow else w.copy()), None
    rows = w.reshape(spec.g, spec.oc // spec.g, spec.terms).astype(spec.acc_dtype, copy=not borrow)
    return rows, bias


def run(
    state: Any, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), (constant, bias), low = operands, state, lower(problem.spec)
    compute = _grad_weight if problem.spec.op == "grad_weight" else _forward
    if compute is _grad_weight:
        out[...] = 0
    kernel = tuple(len(axis.tap_offset) for axis in low.axes)
    dtype, terms, zero = out.dtype, low.icg * low.taps, problem.spec.x_zero_point
    most = _chunk(problem)[0]
    nbytes = most * (terms + low.ocg) * dtype.itemsize
    with scratch.borrow(nbytes) as buffer:
        elements = buffer[:nbytes].view(dtype)
        for block in row_chunks(low, most * terms):
            size = tuple(s.stop - s.start for s in block)
            pixels = math.prod(size)
            columns, rows = elements[: terms * pixels], elements[terms * pixels :][: low.ocg * pixels]
            for n in range(low.n):
                for g in range(low.g):
                    gather(x[n, g * low.icg : (g + 1) * low.icg], low, block,
                           columns.reshape(low.icg, *kernel, *size), zero)  # fmt: skip
                    if zero:
                        columns -= dtype.type(zero)
                    compute(constant, low, (n, g, *block), columns.reshape(terms, pixels), rows, out)
    epilogue.finish(out, bias, residual, problem.epilogue)


def _forward(
    rows: np.ndarray, low: Lowered, where: tuple[Any, ...], columns: np.ndarray, products: np.ndarray, out: np.ndarray
) -> None:
    """One chunk of the output: the weights times the columns."""
    n, g, *block = where
    np.matmul(rows[g], columns, out=products.reshape(low.ocg, -1))
    target = out[n, g * low.ocg : (g + 1) * low.ocg, *block]
    target[...] = products.reshape(target.shape)


def _grad_weight(
    gy: np.ndarray, low: Lowered, where: tuple[Any, ...], columns: np.ndarray, pixels: np.ndarray, out: np.ndarray
) -> None:
    """One chunk's share of the gradient to the weights: the output's gradient times the columns."""
    n, g, *block = where
    seen = gy[n, g * low.ocg : (g + 1) * low.ocg, *block]
    pixels.reshape(seen.shape)[...] = seen
    target = out[g * low.ocg : (g + 1) * low.ocg]
    target += (pixels.reshape(low.ocg, -1) @ columns.T).reshape(target.shape)

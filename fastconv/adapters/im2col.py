"""Gather the pixels under the kernel into columns, chunk by chunk, and let NumPy's BLAS multiply.

BLAS runs on its own threads, so ``threads`` is not heard; its order of summation is its own, so the
results are not reproducible to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import epilogue, tuning
from fastconv.adapters.direct import sequential_bound
from fastconv.arena import Arena
from fastconv.lowering import gather, lower, row_chunks
from fastconv.spec import ConvSpec, Problem


def algorithm(spec: ConvSpec) -> str:
    return "columns"


def workspace_bytes(problem: Problem, threads: int) -> int:
    """Columns, products, and pixels on their way, for one chunk; at least those of one output pixel."""
    pixels, per_pixel = _chunk(problem)
    return pixels * per_pixel + epilogue.workspace_bytes(problem)


def _chunk(problem: Problem) -> tuple[int, int]:
    """Output pixels of one chunk, and the bytes that each takes."""
    spec = problem.spec
    copies = 2 if spec.padding_mode == "zeros" else 3  # the columns, the padded block, and an index's temporary
    per_pixel = (copies * spec.terms + spec.oc // spec.g) * np.dtype(spec.acc_dtype).itemsize
    budget = tuning.IM2COL_BYTES
    if problem.max_workspace is not None:
        budget = problem.max_workspace - epilogue.workspace_bytes(problem)
    return min(max(budget // per_pixel, 1), math.prod(spec.output_size)), per_pixel


def error_bound(problem: Problem) -> float:
    return sequential_bound(problem.spec)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Any:
    w, bias = constants
    rows = w.reshape(spec.g, spec.oc // spec.g, spec.terms).astype(spec.acc_dtype, copy=not borrow)
    return rows, bias


def run(
    state: Any, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), (rows, bias), low = operands, state, lower(problem.spec)
    kernel = tuple(len(axis.tap_offset) for axis in low.axes)
    dtype, terms = out.dtype, low.icg * low.taps
    most = _chunk(problem)[0]
    nbytes = most * (terms + low.ocg) * dtype.itemsize
    with scratch.borrow(nbytes) as buffer:
        elements = buffer[:nbytes].view(dtype)
        for block in row_chunks(low, most * terms):
            size = tuple(s.stop - s.start for s in block)
            pixels = math.prod(size)
            columns, products = elements[: terms * pixels], elements[terms * pixels :][: low.ocg * pixels]
            taps = columns.reshape(low.icg, *kernel, *size)
            for n in range(low.n):
                for g in range(low.g):
                    gather(x[n, g * low.icg : (g + 1) * low.icg], low, block, taps)
                    np.matmul(rows[g], columns.reshape(terms, pixels), out=products.reshape(low.ocg, pixels))
                    target = out[n, g * low.ocg : (g + 1) * low.ocg, *block]
                    target[...] = products.reshape(low.ocg, *size)
    epilogue.finish(out, bias, residual, problem.epilogue)

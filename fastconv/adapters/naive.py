"""The textbook's loops: the definition, for reading and for checking. Numba compiles them where it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastconv import epilogue
from fastconv.adapters.direct import sequential_bound
from fastconv.arena import Arena
from fastconv.kernels.naive_loops import naive_any_loops
from fastconv.lowering import lower
from fastconv.spec import ConvSpec, Problem


def algorithm(spec: ConvSpec) -> str:
    return "loops"


def workspace_bytes(problem: Problem, threads: int) -> int:
    return epilogue.workspace_bytes(problem)


def error_bound(problem: Problem) -> float:
    return sequential_bound(problem.spec)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Any:
    w, bias = constants
    return (w if borrow else w.copy()), bias


def run(
    state: Any, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), (w, bias) = operands, state
    low = lower(problem.spec)
    tables = (axis.positions(0, axis.out) for axis in low.axes)
    _loops()(x, w, out, *tables, out.dtype.type(0))
    epilogue.finish(out, bias, residual, problem.epilogue)


@cache
def _loops() -> Callable[..., None]:
    """The loops, compiled where Numba is installed."""
    try:
        import numba
    except ImportError:
        return naive_any_loops
    compiled: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(naive_any_loops)
    return compiled

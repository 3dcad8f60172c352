"""The textbook's loops: the definition, for reading and for checking. Numba compiles them where it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

import numpy as np

from fastconv import epilogue
from fastconv.adapters.direct import sequential_bound, typical_error
from fastconv.arena import Arena
from fastconv.kernels import naive_loops
from fastconv.lowering import lower
from fastconv.phases import most_copies
from fastconv.spec import ConvSpec, Problem


def algorithm(spec: ConvSpec) -> str:
    return "loops"


def workspace_bytes(problem: Problem, threads: int) -> int:
    return epilogue.workspace_bytes(problem)


def error_bound(problem: Problem) -> float:
    """Of sums in order; the gradient to an element that the padding copies adds up that of every copy."""
    spec = problem.spec
    copies = most_copies(lower(spec)) if spec.op == "grad_input" else 1
    return copies * sequential_bound(spec, copies * spec.terms + 1)


def error_typical(problem: Problem) -> float:
    return typical_error(problem.spec, problem.spec.terms)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Any:
    w, bias = constants
    return (w if borrow else w.copy()), bias


def run(
    state: Any, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), (w, bias), spec = operands, state, problem.spec
    tables = (axis.positions(0, axis.out) for axis in lower(spec).axes)
    number = out.dtype.type
    zeros = (number(0), number(spec.x_zero_point)) if spec.op == "forward" else (number(0),)
    _loops(spec.op, x.dtype, w.dtype, out.dtype)(x, w, out, *tables, *zeros)
    epilogue.finish(out, bias, residual, problem.epilogue)


@cache
def _loops(op: str, *dtypes: np.dtype) -> Callable[..., None]:
    """The loops for ``ConvSpec.op``, where Numba is installed compiled for arrays of ``dtypes`` and any strides."""
    every: dict[str, Callable[..., None]] = {
        "forward": naive_loops.naive_any_loops,
        "grad_input": naive_loops.naive_grad_input_loops,
        "grad_weight": naive_loops.naive_grad_weight_loops,
    }
    loops = every[op]
    try:
        import numba
    except ImportError:
        return loops
    from fastconv.kernels.numba_cache import kept

    x, w, out = map(numba.from_dtype, dtypes)
    array, table = partial(numba.types.Array, ndim=5, layout="A"), numba.types.Array(numba.int64, 2, "A", readonly=True)
    zeros = (out, out) if op == "forward" else (out,)
    compiled = kept(numba.njit(nogil=True, error_model="numpy")(loops))
    compiled.compile((array(x, readonly=True), array(w, readonly=True), array(out), table, table, table, *zeros))
    compiled.disable_compile()
    return cast("Callable[..., None]", compiled)

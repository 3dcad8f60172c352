"""A backend for one test: the definition with NumPy slices, in the six functions of the contract."""

import numpy as np

from fastconv.epilogue import finish
from fastconv.lowering import lower, padded

CALLS = []


def algorithm(spec):
    return "toy"


def workspace_bytes(problem, threads):
    return 1000 * threads


def error_bound(problem):
    return 1e-3


def error_typical(problem):
    return 1e-6


def prepare(spec, constants, borrow):
    return constants


def run(state, problem, operands, out, *, residual, threads, scratch):
    CALLS.append(threads)
    (x,), (w, bias), low, spec = operands, state, lower(problem.spec), problem.spec
    big, lead = padded(x, low), (1,) * (3 - spec.ndim)
    stride, dilation = (*lead, *spec.stride), (*lead, *spec.dilation)
    out[...] = 0
    for tap in np.ndindex(*w.shape[2:]):
        steps = zip(tap, dilation, stride, out.shape[2:], strict=True)
        seen = big[:, :, *(slice(r * d, r * d + (o - 1) * s + 1, s) for r, d, s, o in steps)]
        out += np.einsum("oc,ncdhw->nodhw", w[(..., *tap)], seen)
    finish(out, bias, residual, problem.epilogue)
